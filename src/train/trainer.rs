//! One training run's weights and optimisers, and the step that moves them.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use super::data::{Ahead, Batch, Dataset, Variation};
use super::discriminator::Discriminator;
use super::init::{MaskInit, Random};
use super::losses::{self, Perceptual, SqueezeNet};
use super::optim::{self, Adam, Mean};
use crate::kernels::Rounding;
use crate::kernels::simd::Level;
use crate::model::Model;
use crate::nn::{Config, LabelerSizes, Network, Precision, Tf32};
use crate::progress::Progress;
use crate::{Error, Result};

/// What the names of the mask embedder's tensors begin with.
const MASK_EMBEDDER: &str = "encs.";

/// What the names of the labeler's tensors begin with.
pub(super) const LABELER: &str = "labeler.";

/// The factor of each of the generator's losses. A loss of factor zero is not computed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossWeights {
    /// Hinge loss on the discriminators' verdicts.
    pub gan: f64,
    /// Feature matching.
    pub features: f64,
    /// SqueezeNet features, or the pyramid without.
    pub perceptual: f64,
    /// Attention against the label map.
    pub attention: f64,
    /// Mean absolute difference of pixels; not part of the published loss.
    pub l1: f64,
}

/// Which part of a model a run trains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Style encoder, mask embedder and generator.
    #[default]
    Generator,
    /// The labeler, all else staying as it is in the model to begin with.
    Labeler,
}

/// Everything that the trained weights depend on. Kept with a run, which goes on only with the same one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    #[serde(default)]
    pub part: Part,
    pub data: PathBuf,
    #[serde(default)]
    pub pairs: Option<PathBuf>,
    pub hold_out: usize,
    pub network: Config,
    /// Steps in all: the learning rates are constant for the first half, then fall linearly to zero.
    pub steps: usize,
    pub batch: usize,
    /// Side of the pictures that a labeler is trained on where it is not the network's resolution. Half of it for the first
    /// part of a run teaches what things look like at a quarter of the cost.
    #[serde(default)]
    pub side: Option<usize>,
    #[serde(flatten)]
    pub variation: Variation,
    pub seed: u64,
    /// Of products' factors: f32; on CUDA tf32, many times faster there; on CPUs with AMX bf16, of convolutions alone.
    #[serde(default)]
    pub precision: Precision,
    pub weights: LossWeights,
    /// SqueezeNet's weights.
    #[serde(default)]
    pub perceptual: Option<PathBuf>,
    /// The first step with discriminators.
    pub gan_start: usize,
    /// Channels in the discriminators' first layer.
    pub discriminator_width: usize,
    pub generator_rate: f64,
    pub discriminator_rate: f64,
    /// Factor on the learning rate of the mask embedder.
    pub mask_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    /// Decay of the running mean of the generator's weights, which is what a model file gets.
    pub ema: f64,
    pub mask_init: MaskInit,
    /// A model file whose weights the generator begins with. It may be of another side ([`Config::at_side`]): what was learned
    /// on small pictures, many times faster, is a start for larger ones. Then the mask embedder begins as `mask_init` says.
    #[serde(default)]
    pub init: Option<PathBuf>,
}

impl Recipe {
    /// The published losses and rates, for one hundred thousand steps.
    pub fn published(data: PathBuf, network: Config) -> Self {
        Self {
            part: Part::Generator,
            data,
            pairs: None,
            hold_out: 0,
            network,
            steps: 100_000,
            batch: 2,
            side: None,
            variation: Variation { pair_share: 0.5, channel_shuffle: 0.0, tone_curves: 0.0 },
            seed: 0,
            precision: Precision::F32,
            weights: LossWeights { gan: 1.0, features: 10.0, perceptual: 10.0, attention: 1.0, l1: 0.0 },
            perceptual: None,
            gan_start: 0,
            discriminator_width: 64,
            generator_rate: 1e-4,
            discriminator_rate: 4e-4,
            mask_rate: 1.0,
            beta1: 0.0,
            beta2: 0.9,
            ema: 0.9999,
            mask_init: MaskInit::Area,
            init: None,
        }
    }

    /// Refuses values outside their range.
    pub fn validate(&self) -> Result<()> {
        self.network.validate()?;
        match (self.part, &self.network.labeler, &self.init) {
            (Part::Generator, Some(_), _) => {
                return Err(Error::invalid(
                    "a generator is trained with the labeler left out of its sizes; that of the model to begin with is kept",
                ));
            }
            (Part::Labeler, None, _) => {
                return Err(Error::invalid(
                    "to train a labeler its widths must be among the network's sizes",
                ));
            }
            (Part::Labeler, _, None) => {
                return Err(Error::invalid("a labeler is trained for a model: name its file (--init MODEL)"));
            }
            _ => (),
        }
        match (self.side, &self.network.labeler) {
            (Some(side), Some(labeler)) if side == 0 || !side.is_multiple_of(labeler.step()) => {
                let step = labeler.step();
                return Err(Error::invalid(format!(
                    "pictures of side {side} for a labeler: it takes multiples of {step}"
                )));
            }
            (Some(_), None) => return Err(Error::invalid("a side of its own is for training a labeler")),
            _ => (),
        }
        if self.precision == Precision::F16 {
            return Err(Error::unsupported("precision f16: training has f32, tf32 and bf16"));
        }
        let range = |name: &str, value: f64, low: f64, high: f64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Error::invalid(format!("{name} is {value}, not {low} to {high}")))
        };
        range("steps", self.steps as f64, 1.0, 1e9)?;
        range("batch", self.batch as f64, 1.0, 4096.0)?;
        range("pair share", self.variation.pair_share, 0.0, 1.0)?;
        range("channel shuffle", self.variation.channel_shuffle, 0.0, 1.0)?;
        range("tone curves", self.variation.tone_curves, 0.0, 1.0)?;
        range("discriminator width", self.discriminator_width as f64, 1.0, 1024.0)?;
        let weights = &self.weights;
        for (name, value) in [
            ("weight of the gan loss", weights.gan),
            ("weight of feature matching", weights.features),
            ("weight of the perceptual loss", weights.perceptual),
            ("weight of the attention loss", weights.attention),
            ("weight of the l1 loss", weights.l1),
        ] {
            range(name, value, 0.0, 1e6)?;
        }
        range("generator rate", self.generator_rate, 0.0, 1.0)?;
        range("discriminator rate", self.discriminator_rate, 0.0, 1.0)?;
        range("mask rate", self.mask_rate, 0.0, 1e6)?;
        range("beta1", self.beta1, 0.0, 0.9999)?;
        range("beta2", self.beta2, 0.0, 0.999_999)?;
        range("ema", self.ema, 0.0, 0.999_999)?;
        if self.perceptual.is_some() && self.network.resolution < 32 {
            let what = format!("SqueezeNet needs pictures of 32 pixels, not {}", self.network.resolution);
            return Err(Error::invalid(what));
        }
        Ok(())
    }

    fn adversarial(&self, step: usize) -> bool {
        step >= self.gan_start && (self.weights.gan > 0.0 || self.weights.features > 0.0)
    }

    /// Adversarial steps before `step`.
    fn adversarial_steps(&self, step: usize) -> usize {
        step.saturating_sub(self.gan_start)
    }
}

/// Losses of one step by name, unweighted, and the lengths of the gradients.
pub type Losses = Vec<(&'static str, f64)>;

/// The weights of a run in progress.
pub struct Trainer {
    recipe: Recipe,
    device: Device,
    generator: BTreeMap<String, Var>,
    mean: Mean,
    network: Network,
    discriminator: Discriminator,
    generator_adam: Adam,
    discriminator_adam: Adam,
    perceptual: Perceptual,
    batches: Ahead<Batch>,
    /// The labeler of the model to begin with.
    labeler: Option<(LabelerSizes, BTreeMap<String, Tensor>)>,
    step: usize,
}

/// Whether training on `device` can round so.
pub(super) fn check_precision(precision: Precision, device: &Device) -> Result<()> {
    if precision == Precision::Bf16 && !(device.is_cpu() && Level::Amx.is_available()) {
        return Err(Error::unsupported(
            "precision bf16: training rounds so on CPUs with AMX alone; leave the precision out, or choose tf32 on CUDA",
        ));
    }
    precision.check(device)
}

/// While it lives, products of this thread's steps may round their factors so.
pub(super) fn rounded(precision: Precision) -> (Option<Tf32>, Option<Rounding>) {
    (Tf32::when(precision), (precision == Precision::Bf16).then(Rounding::new))
}

impl Trainer {
    /// A run at its first step.
    ///
    /// # Errors
    /// A recipe out of range; a model file to begin with that cannot be read or has other sizes; SqueezeNet weights that
    /// cannot be read.
    pub fn new(recipe: Recipe, device: &Device) -> Result<Self> {
        recipe.validate()?;
        check_precision(recipe.precision, device)?;
        let random = Random::new(recipe.seed);
        let generator = super::init::generator(&recipe.network, recipe.mask_init, &random, device)?;
        let mut labeler = None;
        if let Some(path) = &recipe.init {
            let model = Model::open(path)?;
            let mut sizes = model.metadata().network.clone();
            let kept = sizes.labeler.take();
            // Where pictures of another side are trained on, the mask embedder alone does not fit, and begins anew.
            let same_side = sizes == recipe.network;
            if !same_side && sizes.at_side(recipe.network.resolution).ok().as_ref() != Some(&recipe.network) {
                return Err(Error::format(
                    path,
                    "its network has other sizes than the one to train, and not those of pixels alone",
                ));
            }
            let mut tensors = candle_core::safetensors::load(path, &Device::Cpu)?;
            labeler = kept.map(|sizes| {
                let is_its = |name: &String, _: &mut Tensor| name.starts_with(LABELER);
                (sizes, tensors.extract_if(is_its).collect())
            });
            for (name, variable) in &generator {
                if !same_side && name.starts_with(MASK_EMBEDDER) {
                    continue;
                }
                variable.set(&tensors[name].to_dtype(DType::F32)?.to_device(device)?)?;
            }
        }
        let mean = Mean::of(&generator)?;
        let network = Network::new(&recipe.network, builder(tracked(&generator), device))?;
        let classes = recipe.network.classes;
        let discriminator =
            Discriminator::new(classes, recipe.discriminator_width, &random, DType::F32, device)?;
        let mask_rate = |name: &str| if name.starts_with(MASK_EMBEDDER) { recipe.mask_rate } else { 1.0 };
        let generator_adam = Adam::new(&generator, recipe.beta1, recipe.beta2, mask_rate)?;
        let discriminator_adam = Adam::new(discriminator.variables(), recipe.beta1, recipe.beta2, |_| 1.0)?;
        let perceptual = match &recipe.perceptual {
            Some(path) => Perceptual::SqueezeNet(Box::new(SqueezeNet::open(path, DType::F32, device)?)),
            None => Perceptual::Pyramid,
        };
        Ok(Self {
            recipe,
            device: device.clone(),
            generator,
            mean,
            network,
            discriminator,
            generator_adam,
            discriminator_adam,
            perceptual,
            batches: Ahead::new(device),
            labeler,
            step: 0,
        })
    }

    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Steps done.
    pub fn steps_done(&self) -> usize {
        self.step
    }

    /// Factor on the learning rates at this step.
    pub fn rate(&self) -> f64 {
        optim::schedule(self.step, self.recipe.steps)
    }

    /// The network with the running mean of the weights as it is now.
    pub fn network(&self) -> Result<Network> {
        Network::new(&self.recipe.network, builder(self.mean.tensors().clone(), &self.device))
    }

    /// One step on the batch that belongs to it.
    ///
    /// # Errors
    /// [`Error::Diverged`] when a loss or a gradient is no finite number. The weights are then those before the step.
    pub fn step(&mut self, data: &Arc<Dataset>) -> Result<Losses> {
        let (seed, size, variation) = (self.recipe.seed, self.recipe.batch, self.recipe.variation);
        let source = Arc::clone(data);
        let make = move |step| source.batch(seed, step, size, &variation);
        let batch = self.batches.take(self.step, make)?.to_device(&self.device)?;
        let losses = self.train_on(&batch)?;
        self.step += 1;
        Ok(losses)
    }

    fn train_on(&self, batch: &Batch) -> Result<Losses> {
        let recipe = &self.recipe;
        let weights = &recipe.weights;
        let Batch { style_rgb, style_labels, target_rgb, target_labels } = batch;
        let _rounded = rounded(recipe.precision);
        let style = self.network.encode_style(style_rgb, style_labels, Progress::NONE)?;
        let mask_code = self.network.encode_mask(target_labels)?;
        let decoded = self.network.decode(&mask_code, &style, Progress::NONE)?;
        let picture = &decoded.image;

        let mut terms: Vec<(&'static str, f64, Tensor)> = Vec::new();
        if weights.l1 > 0.0 {
            terms.push(("l1", weights.l1, losses::l1(picture, target_rgb)?));
        }
        if weights.perceptual > 0.0 {
            terms.push(("perceptual", weights.perceptual, self.perceptual.loss(picture, target_rgb)?));
        }
        if weights.attention > 0.0 {
            let loss = self.network.attention_loss(&decoded.attention, target_labels)?;
            terms.push(("attention", weights.attention, loss));
        }
        let mut discriminator_loss = None;
        if recipe.adversarial(self.step) {
            self.discriminator.power_iteration()?;
            let judge = self.discriminator.weights()?;
            let real = judge.forward(target_labels, target_rgb)?;
            let fake = judge.frozen().forward(target_labels, picture)?;
            if weights.gan > 0.0 {
                terms.push(("gan", weights.gan, losses::hinge_generator(&fake)?));
            }
            if weights.features > 0.0 {
                terms.push(("features", weights.features, losses::feature_matching(&real, &fake)?));
            }
            drop(fake);
            let fake = judge.forward(target_labels, &picture.detach())?;
            discriminator_loss = Some(losses::hinge_discriminator(&real, &fake)?);
        }
        let mut total = Tensor::zeros((), DType::F32, &self.device)?;
        for (_, weight, loss) in &terms {
            total = (total + (loss * *weight)?)?;
        }

        let gradients = self.generator_adam.gradients(&total.backward()?)?;
        let mut values: Vec<_> = terms.into_iter().map(|(name, _, loss)| (name, loss)).collect();
        values.push(("generator gradient", gradients.norm()?));
        let mut discriminator_gradients = None;
        if let Some(loss) = discriminator_loss {
            let gradients = self.discriminator_adam.gradients(&loss.backward()?)?;
            values.push(("discriminator", loss));
            values.push(("discriminator gradient", gradients.norm()?));
            discriminator_gradients = Some(gradients);
        }
        let report = fetch(&values)?;
        check(self.step, &report)?;

        let rate = self.rate();
        self.generator_adam.step(&gradients, rate * recipe.generator_rate, self.step + 1)?;
        if let Some(gradients) = &discriminator_gradients {
            let t = recipe.adversarial_steps(self.step) + 1;
            self.discriminator_adam.step(gradients, rate * recipe.discriminator_rate, t)?;
        }
        self.mean.follow(&self.generator, optim::warm_decay(recipe.ema, self.step))?;
        Ok(report)
    }

    /// The tensors of a model file: the running mean of the generator's weights, and the labeler of the model to begin with.
    pub fn model(&self) -> BTreeMap<String, Tensor> {
        let labeler = self.labeler.iter().flat_map(|(_, tensors)| tensors.clone());
        self.mean.tensors().clone().into_iter().chain(labeler).collect()
    }

    /// Those of the labeler of the model to begin with, as its file has them.
    pub(super) fn labeler_tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.labeler.iter().flat_map(|(_, tensors)| tensors.values())
    }

    /// The sizes of [`model`](Self::model).
    pub fn model_sizes(&self) -> Config {
        let labeler = self.labeler.as_ref().map(|(sizes, _)| sizes.clone());
        Config { labeler, ..self.recipe.network.clone() }
    }

    /// Every tensor that the next steps depend on, by name.
    pub(super) fn state(&self) -> BTreeMap<String, Tensor> {
        let discriminator = &self.discriminator;
        named([
            ("generator", detached(&self.generator)),
            ("mean", self.mean.tensors().clone()),
            ("generator-adam", self.generator_adam.state()),
            ("discriminator", detached(discriminator.variables())),
            ("singular", detached(discriminator.singular_vectors())),
            ("discriminator-adam", self.discriminator_adam.state()),
        ])
    }

    /// Goes on after `step` steps, once the tensors of [`state`](Self::state) are set.
    pub(super) fn set_steps_done(&mut self, step: usize) {
        self.step = step;
    }

    /// Makes the run one of `steps` steps in all.
    pub(super) fn set_steps(&mut self, steps: usize) {
        self.recipe.steps = steps;
    }
}

/// Refuses losses and gradients that are not finite.
pub(super) fn check(step: usize, values: &[(&'static str, f64)]) -> Result<()> {
    match values.iter().find(|(_, value)| !value.is_finite()) {
        Some((name, value)) => Err(Error::Diverged { step, what: (*name).to_owned(), value: *value }),
        None => Ok(()),
    }
}

/// Scalars from the device, all at once: each transfer would wait for the device anew.
pub(super) fn fetch(values: &[(&'static str, Tensor)]) -> Result<Losses> {
    let all: Vec<Tensor> = values.iter().map(|(_, value)| value.detach()).collect();
    let all = Tensor::stack(&all, 0)?.to_vec1::<f32>()?;
    Ok(values.iter().zip(all).map(|((name, _), value)| (*name, f64::from(value))).collect())
}

pub(super) fn detached(variables: &BTreeMap<String, Var>) -> BTreeMap<String, Tensor> {
    variables.iter().map(|(name, variable)| (name.clone(), variable.as_detached_tensor())).collect()
}

/// The tensors of all parts, as `PART/NAME`.
pub(super) fn named<const N: usize>(
    parts: [(&'static str, BTreeMap<String, Tensor>); N],
) -> BTreeMap<String, Tensor> {
    let of = |(part, tensors): (&'static str, BTreeMap<String, Tensor>)| {
        tensors.into_iter().map(move |(name, tensor)| (format!("{part}/{name}"), tensor))
    };
    parts.into_iter().flat_map(of).collect()
}

/// As [`detached`], with gradients.
pub(super) fn tracked(variables: &BTreeMap<String, Var>) -> BTreeMap<String, Tensor> {
    variables.iter().map(|(name, variable)| (name.clone(), variable.as_tensor().clone())).collect()
}

pub(super) fn builder(tensors: BTreeMap<String, Tensor>, device: &Device) -> VarBuilder<'static> {
    let tensors: HashMap<String, Tensor> = tensors.into_iter().collect();
    VarBuilder::from_tensors(tensors, DType::F32, device)
}
