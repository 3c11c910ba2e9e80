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
pub(crate) mod fused;
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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    decoders: Forms<(Level, Arc<Decoder>)>,
    styles: Styles,
    encoder: OnceCell<Arc<Encoder>>,
    fast_labeler: OnceCell<prepared::Labeler>,
    /// Both as other devices run them, by precision.
    tensor_decoders: Forms<Arc<tensors::Decoder>>,
    tensor_encoders: Forms<Arc<tensors::Encoder>>,
}

/// No value behind these locks is ever left half-changed. None is held while weights are read or laid out: that shares work out, and a
/// thread that waits for the others' part may take up another task of its caller's, which then comes to the same lock. Two threads
/// may so make one thing at once; the first stays.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a cell holds, or else what `make` gives, which is made as [`lock`] says.
fn get_or_make<T, E>(
    cell: &OnceCell<T>,
    make: impl FnOnce() -> std::result::Result<T, E>,
) -> std::result::Result<&T, E> {
    match cell.get() {
        Some(there) => Ok(there),
        None => Ok(cell.try_insert(make()?).unwrap_or_else(|(there, _)| there)),
    }
}

/// Weights laid out in several ways, each made when it is first asked for.
struct Forms<T>(Mutex<Vec<T>>);

impl<T: Clone> Forms<T> {
    fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// The one that `is` knows, or else what `make` gives.
    fn get(&self, is: impl Fn(&T) -> bool, make: impl FnOnce() -> crate::Result<T>) -> crate::Result<T> {
        let find = |all: &[T]| all.iter().find(|form| is(form)).cloned();
        if let Some(there) = find(&lock(&self.0)) {
            return Ok(there);
        }
        let made = make()?;
        let mut all = lock(&self.0);
        if let Some(there) = find(&all) {
            return Ok(there);
        }
        all.push(made.clone());
        Ok(made)
    }
}

/// Styles whose prepared generators are kept: a restyle draws in two.
const KEPT_STYLES: usize = 2;

/// The registers that a generator is prepared for, and the bits of the style's codes.
type StyleKey = (Level, Vec<u32>);

/// The generators prepared for the last styles; the last one used comes last.
struct Styles(Mutex<Vec<(StyleKey, Prepared)>>);

impl Styles {
    fn new() -> Self {
        Self(Mutex::new(Vec::with_capacity(KEPT_STYLES)))
    }

    /// For a style `(n, s)`, whose shape has been checked, as two shapes may have the same values.
    fn get(
        &self,
        level: Level,
        style: &Tensor,
        make: impl FnOnce() -> crate::Result<Prepared>,
    ) -> crate::Result<Prepared> {
        let codes: Vec<f32> = style.flatten_all()?.to_vec1()?;
        let key = (level, codes.into_iter().map(f32::to_bits).collect());
        let take = |all: &mut Vec<(_, _)>| all.iter().position(|(k, _)| *k == key).map(|i| all.remove(i));
        let mut all = lock(&self.0);
        if let Some(found) = take(&mut all) {
            let prepared = found.1.clone();
            all.push(found);
            return Ok(prepared);
        }
        // Room beforehand, so that of one caller's styles there are never more than so many.
        if all.len() >= KEPT_STYLES {
            all.remove(0);
        }
        drop(all);
        let prepared = make()?;
        let mut all = lock(&self.0);
        // Another thread's of the same style, or of others meanwhile.
        take(&mut all);
        if all.len() >= KEPT_STYLES {
            all.remove(0);
        }
        all.push((key, prepared.clone()));
        Ok(prepared)
    }
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
        get_or_make(&self.part, || match &self.source {
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
        lock(&self.part).clone()
    }

    /// Its tensors are the caller's as well, whoever lets them go meanwhile.
    fn get(&self, make: impl FnOnce(VarBuilder) -> Result<T>) -> Result<T> {
        match (self.held(), &self.source) {
            (Some(part), _) => Ok(part),
            (None, Some(source)) => {
                let made = make(source.clone())?;
                Ok(lock(&self.part).get_or_insert(made).clone())
            }
            (None, None) => candle_core::bail!("a part of the network without weights or a source of them"),
        }
    }

    fn let_go(&self) {
        if self.source.is_some() {
            *lock(&self.part) = None;
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
            decoders: Forms::new(),
            styles: Styles::new(),
            encoder: OnceCell::new(),
            fast_labeler: OnceCell::new(),
            tensor_decoders: Forms::new(),
            tensor_encoders: Forms::new(),
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
    /// Several threads that use a network for the first time at once would each do so, and all but one in vain.
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
        get_or_make(&self.0.encoder, || {
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
        let make = || {
            let decoder = Decoder::new(level, &self.0.config, &self.generator()?)?;
            self.0.generator.let_go();
            Ok((level, Arc::new(decoder)))
        };
        Ok(self.0.decoders.get(|(l, _)| *l == level, make)?.1)
    }

    fn tensor_decoder(&self) -> crate::Result<Arc<tensors::Decoder>> {
        let precision = self.1.precision;
        let make = || Ok(Arc::new(tensors::Decoder::new(precision, &self.0.config, &self.generator()?)?));
        self.0.tensor_decoders.get(|decoder| decoder.precision() == precision, make)
    }

    fn tensor_encoder(&self) -> crate::Result<Arc<tensors::Encoder>> {
        let precision = self.1.precision;
        let make = || Ok(Arc::new(tensors::Encoder::new(precision, &self.0.config, &self.style_encoder()?)?));
        self.0.tensor_encoders.get(|encoder| encoder.precision() == precision, make)
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
    /// network's in f32. On the CPU the network keeps what it prepared for the last two styles, which another picture in one of them
    /// takes up, with the same bits: 0.1 MB each with the model inside ca2sis, up to 25 MB with networks of the published size.
    /// On a GPU, who decodes twice with one style keeps the prepared generator.
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
            let prepared = self.prepare_kept(&style.get(i)?)?;
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

    /// As [`prepare`](Self::prepare), or what that gave for the same style before.
    fn prepare_kept(&self, style: &Tensor) -> crate::Result<Prepared> {
        // A GPU's codes would have to come back from it to be compared.
        if !self.can_prepare(style) {
            return self.prepare(style);
        }
        self.check_style(style)?;
        let level = self.level();
        self.0.styles.get(level, style, || self.prepare_at(style, level))
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
                let form = get_or_make(&self.0.fast_labeler, form)?;
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::golden::Formula;
    use super::*;

    fn network() -> Network {
        let stage = |channels_in, channels_out, up, self_attention| Stage {
            channels_in,
            channels_out,
            up,
            heads: 2,
            head_width: 4,
            ff_factor: 2,
            self_attention,
        };
        let config = Config {
            resolution: 16,
            norm_groups: 2,
            style_base: 2,
            style_downs: 2,
            style_scales: 2,
            mask_size: 8,
            base_size: 8,
            mapping: None,
            stages: vec![stage(8, 8, false, true), stage(8, 4, true, false)],
            ..Config::published(3, 8, 4, false)
        };
        Network::new(&config, Formula { seed: 3 }.var_builder(&Device::Cpu)).unwrap()
    }

    /// Codes of all classes, `(1, n, s)`.
    fn style(network: &Network, salt: usize) -> Tensor {
        let (n, s) = (network.config().classes, network.config().style_width());
        let value = |i: usize| ((i * 7919 + salt * 104_729) % 2003) as f32 / 1001.0 - 1.0;
        Tensor::from_vec((0..n * s).map(value).collect(), (1, n, s), &Device::Cpu).unwrap()
    }

    fn mask_code(network: &Network) -> Tensor {
        let side = network.config().resolution;
        let labels: Vec<u32> = (0..side * side).map(|i| (i / side / 6 + i % side / 9) as u32 % 3).collect();
        let labels = Tensor::from_vec(labels, (1, side, side), &Device::Cpu).unwrap();
        network.encode_mask(&candle_nn::encoding::one_hot(labels, 3, 1f32, 0f32).unwrap()).unwrap()
    }

    fn bits(picture: &Tensor) -> Vec<u32> {
        let values: Vec<f32> = picture.flatten_all().unwrap().to_vec1().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    }

    fn drawn(network: &Network, style: &Tensor) -> Vec<u32> {
        bits(&network.generate(&mask_code(network), style, Progress::NONE).unwrap())
    }

    /// The same style but for the last bit of one value.
    fn one_bit_off(style: &Tensor) -> Tensor {
        let mut values: Vec<f32> = style.flatten_all().unwrap().to_vec1().unwrap();
        let last = values.len() - 1;
        values[last] = f32::from_bits(values[last].to_bits() ^ 1);
        Tensor::from_vec(values, style.shape(), &Device::Cpu).unwrap()
    }

    #[test]
    fn a_second_picture_in_a_style_has_the_bits_of_a_fresh_networks() {
        let kept = network();
        let styles = [1, 2, 3].map(|salt| style(&kept, salt));
        let fresh = styles.each_ref().map(|style| drawn(&network(), style));
        assert!(fresh[0] != fresh[1] && fresh[1] != fresh[2]);
        // Again and again, in turn, and one that pushes another out.
        for i in [0, 0, 1, 0, 1, 2, 0, 2, 1] {
            assert_eq!(drawn(&kept, &styles[i]), fresh[i], "style {i}");
        }
        assert_eq!(lock(&kept.0.styles.0).len(), KEPT_STYLES);
        // Several at once, and other handles on the same network.
        let all = Tensor::cat(&styles, 0).unwrap();
        let codes = mask_code(&kept).repeat((3, 1, 1)).unwrap();
        let pictures =
            kept.clone().with_memory_limit(Some(1)).generate(&codes, &all, Progress::NONE).unwrap();
        assert_eq!(bits(&pictures), fresh.concat());
    }

    #[test]
    fn what_is_kept_is_taken_for_the_same_bits_alone() {
        let network = network();
        let (one, other) = (style(&network, 1), style(&network, 2));
        let off = one_bit_off(&one);
        let expected = drawn(&self::network(), &off);
        let of_other = drawn(&network, &other);
        // The other's generator under the name of the first: whoever takes it up shows.
        *lock(&network.0.styles.0) = Vec::new();
        let prepared = network.prepare(&other.get(0).unwrap()).unwrap();
        let level = network.level();
        network.0.styles.get(level, &one.get(0).unwrap(), || Ok(prepared)).unwrap();
        assert_eq!(drawn(&network, &one), of_other);
        assert_eq!(drawn(&network, &off), expected, "a style of one bit's difference");
        // Another shape with the same values is no style.
        let turned = one.reshape((1, one.dim(2).unwrap(), one.dim(1).unwrap())).unwrap();
        assert!(network.generate(&mask_code(&network), &turned, Progress::NONE).is_err());
        // Nor do zeros of either sign pass for each other.
        let (zeros, made) = (one.zeros_like().unwrap(), Cell::new(0));
        for style in [zeros.neg().unwrap(), zeros] {
            let style = style.get(0).unwrap();
            let make = || {
                made.set(made.get() + 1);
                network.prepare(&style)
            };
            network.0.styles.get(level, &style, make).unwrap();
        }
        assert_eq!(made.get(), 2);
    }

    #[test]
    fn the_last_two_styles_are_kept_each_at_its_level() {
        let network = network();
        let (level, made) = (Level::best(), Cell::new(0));
        let get = |level: Level, salt: usize| {
            let style = style(&network, salt).get(0).unwrap();
            let make = || {
                made.set(made.get() + 1);
                network.prepare_at(&style, level)
            };
            network.0.styles.get(level, &style, make).unwrap();
            made.get()
        };
        assert_eq!([get(level, 1), get(level, 2), get(level, 1), get(level, 2)], [1, 2, 2, 2]);
        // The one that was used longest ago makes room.
        assert_eq!([get(level, 1), get(level, 3), get(level, 1), get(level, 2)], [2, 3, 3, 4]);
        if level != Level::Portable {
            assert_eq!([get(Level::Portable, 2), get(level, 2), get(Level::Portable, 2)], [5, 5, 5]);
        }
        // One that fails is not kept, and is tried again.
        let style = style(&network, 9).get(0).unwrap();
        let failed = network.0.styles.get(level, &style, || Err(crate::Error::Cancelled));
        assert!(failed.is_err());
        let before = made.get();
        assert_eq!(get(level, 9), before + 1);
    }

    /// As when a thread that lays weights out takes up another picture in between: the second finds no lock held, and the first stays.
    #[test]
    fn a_form_may_be_asked_for_again_while_it_is_made() {
        let forms = Forms::new();
        let first = |form: &(u32, &str)| form.0 == 1;
        let outer = forms.get(first, || {
            assert_eq!(forms.get(first, || Ok((1, "inner")))?, (1, "inner"));
            Ok((1, "outer"))
        });
        assert_eq!(outer.unwrap(), (1, "inner"));
        assert_eq!(forms.get(|form| form.0 == 2, || Ok((2, "another"))).unwrap(), (2, "another"));

        let cell = OnceCell::new();
        let made = get_or_make(&cell, || get_or_make(&cell, || Ok::<_, ()>(1)).map(|there| there + 1));
        assert_eq!(made, Ok(&1));

        let network = network();
        let decoder = network.decoder(Level::best()).unwrap();
        assert!(Arc::ptr_eq(&decoder, &network.decoder(Level::best()).unwrap()));
    }
}
