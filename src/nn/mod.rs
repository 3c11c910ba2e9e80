//! The network of CA2-SIS, one file a part.
//!
//! "Semantic Image Synthesis via Class-Adaptive Cross-Attention", Fontanini, Ferrari, Lisanti, Bertozzi, Prati,
//! arXiv 2308.16071. Tensor names are those of the published checkpoint.
//!
//! Pictures and feature maps are channels-last, `(batch, height, width, channels)`: a pixel is then a token as it
//! stands, so that 1x1 convolutions and attention need no transposition.

mod attention;
pub mod config;
#[cfg(any(feature = "cuda", test))]
mod cuda;
mod fused;
mod generator;
pub mod golden;
pub(crate) mod labeler;
mod layers;
mod mask_embedder;
mod noise_mapping;
pub mod ops;
mod prepared;
mod style_encoder;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::{Init, VarBuilder, var_builder::SimpleBackend};

pub use config::{Config, LabelerSizes, Mapping, Stage};
pub use generator::Decoded;
#[cfg(all(test, feature = "embed-model"))]
pub(crate) use prepared::tensors::FAULT;
pub use prepared::tensors::Precision;
pub(crate) use prepared::tensors::Tf32;
pub use prepared::{Prepared, Timing};

use generator::Generator;
use labeler::Labeler;
use layers::PointConv;
use mask_embedder::MaskEmbedder;
use noise_mapping::NoiseMapping;
use once_cell::sync::OnceCell;
use prepared::{Decoder, Encoder, tensors};
use style_encoder::StyleEncoder;

use crate::kernels::simd::Level;
use crate::progress::Progress;

/// All parts of one model with their weights. Cheap to clone.
#[derive(Clone)]
pub struct Network(Arc<Parts>, Options);

/// How the forms that pictures go through are to run; each handle's own.
#[derive(Clone, Copy, Debug, Default)]
struct Options {
    precision: Precision,
    memory_limit: Option<u64>,
}

struct Parts {
    config: Config,
    device: Device,
    mask_embedder: MaskEmbedder,
    style_encoder: Kept<StyleEncoder>,
    /// None where the network has none.
    noise_mapping: Option<Later<NoiseMapping>>,
    /// None where the network has none.
    labeler: Option<Kept<Labeler>>,
    generator: Kept<Generator>,
    /// The generator's last layer, which says of which type and where it is, and whether it is trained.
    out_conv: PointConv,
    /// The generator as the CPU runs it, made at the first use of each level.
    decoders: Mutex<Vec<(Level, Arc<Decoder>)>>,
    encoder: OnceCell<Arc<Encoder>>,
    fast_labeler: OnceCell<prepared::Labeler>,
    /// Both as other devices run them, by precision.
    tensor_decoders: Mutex<Vec<Arc<tensors::Decoder>>>,
    tensor_encoders: Mutex<Vec<Arc<tensors::Encoder>>>,
}

/// A part that many uses do not need: its weights are read when it is first used. The noise mapping alone is more than
/// a third of a published model.
struct Later<T> {
    part: OnceCell<T>,
    source: Option<VarBuilder<'static>>,
}

impl<T> Later<T> {
    fn new(part: T) -> Self {
        Self { part: OnceCell::with_value(part), source: None }
    }

    fn from(source: VarBuilder<'static>) -> Self {
        Self { part: OnceCell::new(), source: Some(source) }
    }

    fn get(&self, make: impl FnOnce(VarBuilder) -> Result<T>) -> Result<&T> {
        self.part.get_or_try_init(|| match &self.source {
            Some(source) => make(source.clone()),
            None => candle_core::bail!("a part of the network without weights or a source of them"),
        })
    }
}

/// A part whose weights are let go once they are laid out in another form, where they can be read again if they are wanted after all.
struct Kept<T> {
    part: Mutex<Option<T>>,
    source: Option<VarBuilder<'static>>,
}

impl<T: Clone> Kept<T> {
    fn new(part: T) -> Self {
        Self { part: Mutex::new(Some(part)), source: None }
    }

    fn from(source: VarBuilder<'static>) -> Self {
        Self { part: Mutex::new(None), source: Some(source) }
    }

    fn held(&self) -> Option<T> {
        self.part.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn get(&self, make: impl FnOnce(VarBuilder) -> Result<T>) -> Result<T> {
        let mut part = self.part.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*part, &self.source) {
            (Some(part), _) => Ok(part.clone()),
            (None, Some(source)) => Ok(part.insert(make(source.clone())?).clone()),
            (None, None) => candle_core::bail!("a part of the network without weights or a source of them"),
        }
    }

    fn let_go(&self) {
        if self.source.is_some() {
            *self.part.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

impl Network {
    /// Takes every weight by its checkpoint name from `vb`: a model file's, or a trainer's variables.
    pub fn new(config: &Config, vb: VarBuilder) -> crate::Result<Self> {
        config.validate()?;
        let mapping = |sizes| NoiseMapping::new(config, sizes, vb.pp("noise_encoder")).map(Later::new);
        let labeler = |sizes| Labeler::new(config, sizes, vb.pp("labeler")).map(Kept::new);
        let mapping = config.mapping.map(mapping).transpose()?;
        let labeler = config.labeler.as_ref().map(labeler).transpose()?;
        Self::with_parts(config, vb, None, mapping, labeler)
    }

    /// As [`new`](Self::new), but the weights of the noise mapping and of the labeler are taken when they are first used.
    pub(crate) fn lazy(config: &Config, vb: VarBuilder<'static>) -> crate::Result<Self> {
        config.validate()?;
        let mapping = config.mapping.map(|_| Later::from(vb.pp("noise_encoder")));
        let labeler = config.labeler.as_ref().map(|_| Kept::from(vb.pp("labeler")));
        Self::with_parts(config, vb.clone(), Some(vb), mapping, labeler)
    }

    fn with_parts(
        config: &Config,
        vb: VarBuilder,
        source: Option<VarBuilder<'static>>,
        noise_mapping: Option<Later<NoiseMapping>>,
        labeler: Option<Kept<Labeler>>,
    ) -> crate::Result<Self> {
        let generator = Generator::new(config, vb.clone())?;
        let parts = Parts {
            config: config.clone(),
            device: vb.device().clone(),
            mask_embedder: MaskEmbedder::new(config, vb.pp("encs").pp("encs").pp(0))?,
            style_encoder: Kept {
                part: Mutex::new(Some(StyleEncoder::new(config, vb.pp("style_encoder"))?)),
                source: source.as_ref().map(|vb| vb.pp("style_encoder")),
            },
            noise_mapping,
            labeler,
            out_conv: generator.out_conv.clone(),
            generator: Kept { part: Mutex::new(Some(generator)), source },
            decoders: Mutex::default(),
            encoder: OnceCell::new(),
            fast_labeler: OnceCell::new(),
            tensor_decoders: Mutex::default(),
            tensor_encoders: Mutex::default(),
        };
        Ok(Self(Arc::new(parts), Options::default()))
    }

    /// The same network, whose large products may be rounded to `precision` from now on: those of decodes, and those of style
    /// codes in [`encode_style_tensors`](Self::encode_style_tensors) alone, as styles are kept and compared. [`Precision`] says
    /// which devices do so; the others keep f32, so [check](Precision::check) first where that is to be told.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self(self.0, Options { precision, ..self.1 })
    }

    pub fn precision(&self) -> Precision {
        self.1.precision
    }

    /// The same network, which on a GPU takes no more than `limit` bytes of its memory for one call from now on, beside weights,
    /// inputs and results: it works in smaller parts, or refuses.
    pub fn with_memory_limit(self, limit: Option<u64>) -> Self {
        Self(self.0, Options { memory_limit: limit, ..self.1 })
    }

    pub fn config(&self) -> &Config {
        &self.0.config
    }

    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// The style of every class: picture `(b, h, w, 3)` in [-1, 1] and its one-hot labels `(b, h, w, n)` to `(b, n, s)`. A
    /// class that the labels lack gets the code of an empty region.
    pub fn encode_style(&self, rgb: &Tensor, onehot: &Tensor, progress: Progress) -> crate::Result<Tensor> {
        // Weights that were let go have been laid out before.
        let weight = self.0.style_encoder.held().map(|encoder| encoder.first.conv.weight);
        let fits = rgb.rank() == 4 && onehot.rank() == 4 && rgb.dims()[..3] == onehot.dims()[..3];
        let applies = |t: &Tensor| fused::applies(t) && !t.track_op();
        let plain = applies(rgb) && applies(onehot) && weight.as_ref().is_none_or(applies);
        if fits && plain {
            return self.encoder()?.forward(rgb, onehot, progress);
        }
        if weight.is_some_and(|weight| self.is_off_cpu(rgb, &weight) && self.is_off_cpu(onehot, &weight)) {
            let exact = self.clone().with_precision(Precision::F32);
            return exact.encode_style_tensors(rgb, onehot, progress);
        }
        self.encode_style_plain(rgb, onehot, progress)
    }

    /// As [`encode_style`](Self::encode_style), in the form made for GPUs, on every device, with this network's precision.
    ///
    /// # Errors
    /// Also [`Error::InvalidArgument`](crate::Error::InvalidArgument) for pictures of another size than the network's,
    /// [`Error::MemoryLimit`](crate::Error::MemoryLimit).
    pub fn encode_style_tensors(
        &self,
        rgb: &Tensor,
        onehot: &Tensor,
        progress: Progress,
    ) -> crate::Result<Tensor> {
        let encoder = self.tensor_encoder()?;
        encoder.forward(rgb, onehot, self.1.memory_limit, progress)
    }

    /// As [`encode_style`](Self::encode_style), by the network as it stands: on every device, with gradients.
    pub fn encode_style_plain(
        &self,
        rgb: &Tensor,
        onehot: &Tensor,
        progress: Progress,
    ) -> crate::Result<Tensor> {
        self.style_encoder()?.forward(rgb, onehot, progress)
    }

    /// The mask embedding of one-hot labels: `(b, h, w, n) -> (b, k, base base)`. Linear in the labels, so that a mean of
    /// two codes is a morph between their shapes.
    pub fn encode_mask(&self, onehot: &Tensor) -> Result<Tensor> {
        self.0.mask_embedder.forward(onehot)
    }

    /// Lays the weights of the fast forms, the generator's for `level`, out now rather than at their first use; without effect where they do not apply.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor) when a weight cannot be read.
    pub fn warm_up(&self, level: Level) -> crate::Result<()> {
        if self.can_prepare(&self.0.out_conv.bias) {
            // The encoder first: making it lets memory go.
            self.encoder()?;
            self.decoder(level)?;
        } else if self.is_off_cpu(&self.0.out_conv.bias, &self.0.out_conv.weight) {
            self.tensor_decoder()?;
            self.clone().with_precision(Precision::F32).tensor_encoder()?;
        }
        Ok(())
    }

    /// The multiply-adds, times two, of encoding one picture's style.
    pub fn encode_flops(&self) -> crate::Result<f64> {
        Ok(self.encoder()?.flops(self.0.config.resolution))
    }

    fn encoder(&self) -> crate::Result<&Arc<Encoder>> {
        self.0.encoder.get_or_try_init(|| {
            let encoder = Encoder::new(Level::best(), &self.0.config, &self.style_encoder()?)?;
            // The forms made for GPUs read them still.
            if self.0.device.is_cpu() {
                self.0.style_encoder.let_go();
            }
            Ok(Arc::new(encoder))
        })
    }

    fn style_encoder(&self) -> Result<StyleEncoder> {
        self.0.style_encoder.get(|vb| StyleEncoder::new(&self.0.config, vb))
    }

    fn generator(&self) -> Result<Generator> {
        self.0.generator.get(|vb| Generator::new(&self.0.config, vb))
    }

    fn decoder(&self, level: Level) -> crate::Result<Arc<Decoder>> {
        let mut decoders = self.0.decoders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, decoder)) = decoders.iter().find(|(l, _)| *l == level) {
            return Ok(decoder.clone());
        }
        let decoder = Arc::new(Decoder::new(level, &self.0.config, &self.generator()?)?);
        self.0.generator.let_go();
        decoders.push((level, decoder.clone()));
        Ok(decoder)
    }

    fn tensor_decoder(&self) -> crate::Result<Arc<tensors::Decoder>> {
        let mut decoders = self.0.tensor_decoders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(decoder) = decoders.iter().find(|d| d.precision() == self.1.precision) {
            return Ok(decoder.clone());
        }
        let decoder = tensors::Decoder::new(self.1.precision, &self.0.config, &self.generator()?)?;
        decoders.push(Arc::new(decoder));
        Ok(decoders[decoders.len() - 1].clone())
    }

    fn tensor_encoder(&self) -> crate::Result<Arc<tensors::Encoder>> {
        let mut encoders = self.0.tensor_encoders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(encoder) = encoders.iter().find(|e| e.precision() == self.1.precision) {
            return Ok(encoder.clone());
        }
        let encoder = tensors::Encoder::new(self.1.precision, &self.0.config, &self.style_encoder()?)?;
        encoders.push(Arc::new(encoder));
        Ok(encoders[encoders.len() - 1].clone())
    }

    /// Whether the form for GPUs applies by itself: f32 on one, with neither weights nor `input` trained.
    fn is_off_cpu(&self, input: &Tensor, weight: &Tensor) -> bool {
        let gpu = |t: &Tensor| !t.device().is_cpu() && t.dtype() == DType::F32 && !t.track_op();
        gpu(input) && gpu(weight)
    }

    /// The registers and precision of the CPU's form.
    fn level(&self) -> Level {
        match self.1.precision {
            Precision::Bf16 => Level::bf16().unwrap_or_else(Level::best),
            _ => Level::fastest(),
        }
    }

    /// The picture of a mask code and a style: `(b, h, w, 3)` in [-1, 1].
    ///
    /// Where no gradient is wanted, each style is [prepared](Self::prepare) and the picture is within 1e-3 of the plain
    /// network's in f32; who decodes twice with one style keeps the prepared generator.
    pub fn generate(&self, mask_code: &Tensor, style: &Tensor, progress: Progress) -> crate::Result<Tensor> {
        let (b, _, _) = mask_code.dims3()?;
        let fast = self.can_prepare(style) || self.is_off_cpu(style, &self.0.out_conv.weight);
        if style.dim(0)? != b || !fast || mask_code.track_op() {
            return self.generate_plain(mask_code, style, progress);
        }
        let mut images = Vec::with_capacity(b);
        for i in 0..b {
            let progress = progress.part(i as f32 / b as f32, (i + 1) as f32 / b as f32);
            progress.at(0.0)?;
            let prepared = self.prepare(&style.get(i)?)?;
            images.push(prepared.generate(&mask_code.narrow(0, i, 1)?, progress)?);
        }
        Ok(Tensor::cat(&images, 0)?)
    }

    /// As [`generate`](Self::generate), by the network as it stands: on every device, with gradients.
    pub fn generate_plain(
        &self,
        mask_code: &Tensor,
        style: &Tensor,
        progress: Progress,
    ) -> crate::Result<Tensor> {
        Ok(self.generator()?.forward(mask_code, style, false, progress)?.image)
    }

    /// Whether the fast form applies: f32 on the CPU, with neither weights nor `input` trained.
    fn can_prepare(&self, input: &Tensor) -> bool {
        let weight = &self.0.out_conv.weight;
        fused::applies(input) && fused::applies(weight) && !input.track_op() && !weight.track_op()
    }

    /// The generator for one style `(n, s)`, with all that the style fixes computed: what depends on the weights alone at
    /// the first call, which then must not change any more. On the CPU in the form made for it, elsewhere as
    /// [`prepare_tensors`](Self::prepare_tensors) does, in this network's precision.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) when the network or the style is not f32 or is being trained,
    /// or the style has another shape.
    pub fn prepare(&self, style: &Tensor) -> crate::Result<Prepared> {
        match self.is_off_cpu(style, &self.0.out_conv.weight) {
            true => self.prepare_tensors(style),
            false => self.prepare_at(style, self.level()),
        }
    }

    /// As [`prepare`](Self::prepare), in the form made for GPUs, on every device.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) when the network or the style is being trained, or the style
    /// has another shape.
    pub fn prepare_tensors(&self, style: &Tensor) -> crate::Result<Prepared> {
        self.check_style(style)?;
        if style.track_op() || self.0.out_conv.weight.track_op() {
            return Err(crate::Error::invalid("only a network that is not in training is prepared"));
        }
        let form = tensors::Prepared::new(self.tensor_decoder()?, style, self.1.memory_limit)?;
        Ok(Prepared::of_tensors(form))
    }

    fn check_style(&self, style: &Tensor) -> crate::Result<()> {
        let wanted = [self.0.config.classes, self.0.config.style_width()];
        if style.dims() == wanted {
            return Ok(());
        }
        let what = format!("a style of {:?} to prepare: this model's are {wanted:?}", style.dims());
        Err(crate::Error::invalid(what))
    }

    /// As [`prepare`](Self::prepare), with the registers and the precision of `level`: [`Level::best`] for products of whole f32 on any CPU; at
    /// [`Level::Bf16`] and [`Level::Amx`] a picture is about as near to the plain network's as bfloat16 is elsewhere (40 dB and more).
    ///
    /// # Errors
    /// Also when this CPU does not have `level`.
    pub fn prepare_at(&self, style: &Tensor, level: Level) -> crate::Result<Prepared> {
        if !level.is_available() {
            return Err(crate::Error::invalid(format!("this processor has no {level:?}")));
        }
        self.check_style(style)?;
        if !self.can_prepare(style) {
            return Err(crate::Error::invalid(
                "only a network on the CPU, in f32 and not in training, is prepared",
            ));
        }
        Prepared::new(self.decoder(level)?, style)
    }

    /// As [`generate`](Self::generate), with attention and feature maps, by the network as it stands.
    ///
    /// # Errors
    /// [`Error::MemoryLimit`](crate::Error::MemoryLimit) on a GPU that is to take less than [`plain_bytes`](Self::plain_bytes).
    pub fn decode(&self, mask_code: &Tensor, style: &Tensor, progress: Progress) -> crate::Result<Decoded> {
        let needed = self.plain_bytes() * mask_code.dim(0)? as u64;
        match self.1.memory_limit {
            Some(limit) if limit < needed && !self.0.device.is_cpu() => {
                Err(crate::Error::MemoryLimit { needed, limit })
            }
            _ => self.generator()?.forward(mask_code, style, true, progress),
        }
    }

    /// Bytes that the network as it stands takes at most on a GPU to decode one picture, beside weights: an estimate from above.
    pub fn plain_bytes(&self) -> u64 {
        let config = &self.0.config;
        let (mut side, mut most, mut kept) = (config.base_size as u64, 0, 0);
        for s in &config.stages {
            side *= if s.up { 2 } else { 1 };
            let (pixels, inner, classes) =
                (side * side, (s.heads * s.head_width) as u64, config.classes as u64);
            let keys = if s.self_attention { pixels.max(classes) } else { classes };
            // Windows and what they are made of, inner channels, logits with their exponents; a tile of the hidden layer.
            let widest = s.channels_in.max(s.channels_out) as u64;
            let maps = 30 * widest + 10 * inner + 4 * s.heads as u64 * keys;
            most = most.max(pixels * maps + 8 * pixels.min(2048) * inner * s.ff_factor as u64);
            kept += pixels * (2 * s.channels_out as u64 + classes);
        }
        4 * (most + kept)
    }

    /// Styles from normal vectors: `(b, latent) -> (b, n, s)`. Fails when the model has no noise mapping.
    pub fn map_noise(&self, z: &Tensor) -> Result<Tensor> {
        match (&self.0.noise_mapping, self.0.config.mapping) {
            (Some(mapping), Some(sizes)) => {
                mapping.get(|vb| NoiseMapping::new(&self.0.config, sizes, vb))?.forward(z)
            }
            _ => candle_core::bail!("this model has no noise mapping (noise_encoder)"),
        }
    }

    /// Scores of every class at every pixel: pictures `(b, h, w, 3)` in [-1, 1], height and width multiples of
    /// [`LabelerSizes::step`], to `(b, h, w, n)`, logarithms of probabilities up to a constant a pixel. Fails when the
    /// model has no labeler.
    pub fn label(&self, rgb: &Tensor) -> crate::Result<Tensor> {
        let (Some(labeler), Some(sizes)) = (&self.0.labeler, &self.0.config.labeler) else {
            return Err(crate::Error::Model("this model has no labeler".into()));
        };
        let fits = |t: &Tensor| fused::applies(t) && !t.track_op();
        let form = match self.0.fast_labeler.get() {
            Some(form) if fits(rgb) => form,
            _ => {
                let plain = labeler.get(|vb| Labeler::new(&self.0.config, sizes, vb))?;
                if !fits(rgb) || !fits(&plain.head.weight) {
                    return Ok(plain.forward(rgb)?);
                }
                let form = || prepared::Labeler::new(Level::best(), &plain);
                let form = self.0.fast_labeler.get_or_try_init(form)?;
                labeler.let_go();
                form
            }
        };
        form.forward(rgb)
    }

    /// How far each class's attention is from its own pixels: binary cross entropy of the head-averaged logits against
    /// the one-hot labels, mean over pixels and classes, then over stages.
    pub fn attention_loss(&self, attention: &[Tensor], onehot: &Tensor) -> Result<Tensor> {
        let mut total = None;
        for logits in attention {
            let (b, l, n) = logits.dims3()?;
            let target = resize_nearest(onehot, l.isqrt())?.reshape((b, l, n))?;
            // max(x, 0) - x t + ln(1 + exp(-|x|)), which never overflows.
            let soft = ((logits.abs()?.neg()?.exp()? + 1.0)?).log()?;
            let term = ((logits.relu()? - logits.mul(&target)?)? + soft)?.mean_all()?;
            total = Some(match total {
                Some(sum) => (sum + term)?,
                None => term,
            });
        }
        match total {
            Some(sum) => sum / attention.len() as f64,
            None => candle_core::bail!("attention_loss needs the attention of at least one stage"),
        }
    }
}

/// Nearest resizing of `(b, h, w, c)` to a square: target pixel i takes source pixel floor(i in / out).
fn resize_nearest(x: &Tensor, side: usize) -> Result<Tensor> {
    let mut x = x.clone();
    for dim in [1, 2] {
        let source = x.dim(dim)?;
        if source != side {
            let index: Vec<u32> = (0..side).map(|i| (i * source / side) as u32).collect();
            x = x.index_select(&Tensor::new(index, x.device())?, dim)?;
        }
    }
    x.contiguous()
}

/// Name and shape of every tensor that a network of these sizes has. Allocates none of them: the network is built on
/// views of a single zero.
pub fn manifest(config: &Config) -> crate::Result<BTreeMap<String, Vec<usize>>> {
    #[derive(Clone, Default)]
    struct Recorder(Arc<Mutex<BTreeMap<String, Vec<usize>>>>);

    impl SimpleBackend for Recorder {
        fn get(&self, s: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> Result<Tensor> {
            self.0.lock().expect("no panic while recording").insert(name.to_owned(), s.dims().to_vec());
            Tensor::zeros((), dtype, device)?.broadcast_as(s)
        }

        fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
            candle_core::bail!("{name} was asked for without a shape")
        }

        fn contains_tensor(&self, _: &str) -> bool {
            true
        }
    }

    let recorder = Recorder::default();
    let vb = VarBuilder::from_backend(Box::new(recorder.clone()), DType::F32, Device::Cpu);
    Network::new(config, vb)?;
    let names = recorder.0.lock().expect("no panic while recording").clone();
    Ok(names)
}
