//! Training the labeler of a model.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor, Var};
use serde::Serialize;
use serde_json::{Map, json};

use super::best::{Figure, Measure};
use super::data::{Ahead, Dataset, LabelerBatch};
use super::init::Random;
use super::optim::{self, Adam, Mean};
use super::part::{HeldOut, Trained};
use super::run::{Description, Event};
use super::trainer::{
    LABELER, Losses, Recipe, builder, check, check_precision, detached, fetch, named, rounded, tracked,
};
use crate::model::{Metadata, Model, TrainingData};
use crate::nn::fused;
use crate::nn::labeler::Labeler;
use crate::{Error, Result};

/// How well label maps agree with the true ones, over all held-out pixels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LabelFigures {
    pub pictures: usize,
    /// Intersection over union of each class by index; none where neither side has it.
    pub iou: Vec<Option<f64>>,
    /// Mean over the classes that have one.
    pub mean_iou: f64,
    /// Share of pixels with the right class.
    pub accuracy: f64,
}

/// Pairs of classes, counted: the true one and the proposed one.
#[derive(Clone)]
pub struct Confusion {
    classes: usize,
    counts: Vec<u64>,
}

impl Confusion {
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * classes] }
    }

    /// Counts one picture's pixels.
    pub fn add(&mut self, truth: &[u8], proposed: &[u8]) {
        for (&truth, &proposed) in truth.iter().zip(proposed) {
            self.counts[usize::from(truth) * self.classes + usize::from(proposed)] += 1;
        }
    }

    pub fn figures(&self, pictures: usize) -> LabelFigures {
        let n = self.classes;
        let at = |truth: usize, proposed: usize| self.counts[truth * n + proposed];
        let iou: Vec<_> = (0..n)
            .map(|class| {
                let union =
                    (0..n).map(|other| at(class, other) + at(other, class)).sum::<u64>() - at(class, class);
                (union > 0).then(|| at(class, class) as f64 / union as f64)
            })
            .collect();
        let present: Vec<f64> = iou.iter().flatten().copied().collect();
        let right: u64 = (0..n).map(|class| at(class, class)).sum();
        LabelFigures {
            pictures,
            mean_iou: present.iter().sum::<f64>() / present.len().max(1) as f64,
            accuracy: right as f64 / self.counts.iter().sum::<u64>().max(1) as f64,
            iou,
        }
    }
}

/// The labeler's weights in a run. The loss is the cross entropy and the [soft Jaccard](jaccard) distance.
pub struct LabelerTrainer {
    recipe: Recipe,
    device: Device,
    /// The model that it is for, its tensors without a labeler's.
    metadata: Metadata,
    rest: BTreeMap<String, Tensor>,
    variables: BTreeMap<String, Var>,
    mean: Mean,
    labeler: Labeler,
    adam: Adam,
    batches: Ahead<LabelerBatch>,
    step: usize,
}

impl LabelerTrainer {
    /// A run at its first step: from the model's own labeler where it has one of the same sizes.
    ///
    /// # Errors
    /// A recipe out of range; a model that cannot be read or whose network, the labeler apart, has other sizes.
    pub fn new(recipe: Recipe, device: &Device) -> Result<Self> {
        recipe.validate()?;
        check_precision(recipe.precision, device)?;
        let path = recipe.init.as_deref().expect("checked with the recipe");
        let mut metadata = Model::open(path)?.metadata().clone();
        let known = metadata.network.labeler == recipe.network.labeler;
        metadata.network.labeler.clone_from(&recipe.network.labeler);
        if metadata.network != recipe.network {
            return Err(Error::format(path, "its network has other sizes than the recipe's"));
        }
        let mut rest: BTreeMap<_, _> =
            candle_core::safetensors::load(path, &Device::Cpu)?.into_iter().collect();
        let own: BTreeMap<_, _> = rest.extract_if(.., |name, _| name.starts_with(LABELER)).collect();

        let mut variables = super::init::labeler(&recipe.network, &Random::new(recipe.seed), device)?;
        if known {
            for (name, variable) in &mut variables {
                variable.set(&own[name].to_dtype(DType::F32)?.to_device(device)?)?;
            }
        }
        let mean = Mean::of(&variables)?;
        let sizes = recipe.network.labeler.as_ref().expect("checked with the recipe");
        let vb = builder(tracked(&variables), device);
        let labeler = Labeler::new(&recipe.network, sizes, vb.pp("labeler"))?;
        let adam = Adam::new(&variables, recipe.beta1, recipe.beta2, |_| 1.0)?;
        Ok(Self {
            recipe,
            device: device.clone(),
            metadata,
            rest,
            variables,
            mean,
            labeler,
            adam,
            batches: Ahead::new(device),
            step: 0,
        })
    }

    /// The labeler with the running mean of the weights as it is now.
    fn mean_labeler(&self) -> Result<Labeler> {
        let sizes = self.recipe.network.labeler.as_ref().expect("checked with the recipe");
        let vb = builder(self.mean.tensors().clone(), &self.device);
        Ok(Labeler::new(&self.recipe.network, sizes, vb.pp("labeler"))?)
    }

    /// The proposed labels of held-out pictures or pairs, and the true ones.
    fn propose(
        &self,
        labeler: &Labeler,
        data: &Dataset,
        pairs: bool,
        i: usize,
    ) -> Result<(Vec<u8>, Vec<u8>)> {
        let batch = data.held(pairs, i..i + 1, &self.device)?;
        let proposed = labeler.forward(&batch.target_rgb)?.argmax(D::Minus1)?;
        let proposed = proposed.flatten_all()?.to_vec1::<u32>()?.into_iter().map(|label| label as u8);
        Ok((data.held_labels(pairs, i).to_vec(), proposed.collect()))
    }
}

/// Adds what is not there yet: a labeler is often trained in several runs on the same data.
fn add<T: PartialEq>(to: &mut Vec<T>, more: impl IntoIterator<Item = T>) {
    for item in more {
        if !to.contains(&item) {
            to.push(item);
        }
    }
}

/// Logarithms of the probabilities that scores `(.., n)` stand for.
fn log_softmax(scores: &Tensor) -> candle_core::Result<Tensor> {
    let scores = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?;
    scores.broadcast_sub(&scores.exp()?.sum_keepdim(D::Minus1)?.log()?)
}

/// Mean cross entropy and soft [Jaccard](jaccard) distance of `scores (.., n)` with one-hot labels.
fn losses(scores: &Tensor, onehot: &Tensor) -> candle_core::Result<[Tensor; 2]> {
    if fused::applies(scores) {
        let both = fused::label_losses(scores, onehot)?;
        return Ok([both.get(0)?, both.get(1)?]);
    }
    let logs = log_softmax(scores)?;
    Ok([cross_entropy(&logs, onehot)?, jaccard(&logs.exp()?, onehot)?])
}

/// Mean cross entropy of `logs (.., n)`, logarithms of probabilities, against one-hot labels.
pub fn cross_entropy(logs: &Tensor, onehot: &Tensor) -> candle_core::Result<Tensor> {
    (logs * onehot)?.sum(D::Minus1)?.mean_all()?.neg()
}

/// One less the mean intersection over union of probabilities with one-hot labels, both `(.., n)`, over all pixels together and
/// the classes that are there: the figure that a labeler is judged by, made smooth (Rahman and Wang, "Optimizing Intersection-
/// Over-Union in Deep Neural Networks for Image Segmentation", 2016).
pub fn jaccard(chances: &Tensor, onehot: &Tensor) -> candle_core::Result<Tensor> {
    let n = onehot.dim(D::Minus1)?;
    let sum = |x: &Tensor| x.reshape(((), n))?.sum(0);
    let (there, both) = (sum(onehot)?, sum(&(chances * onehot)?)?);
    let either = ((sum(chances)? + &there)? - &both)?;
    // A class counts as far as it is there: one of a pixel in the batch as much as none.
    let weight = (&there / (&there + 1.0)?)?;
    let iou = ((both / (either + 1e-6)?)? * &weight)?.sum_all()?;
    1.0 - (iou / weight.sum_all()?)?
}

impl Trained for LabelerTrainer {
    fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    fn steps_done(&self) -> usize {
        self.step
    }

    fn set_steps_done(&mut self, step: usize) {
        self.step = step;
    }

    fn set_steps(&mut self, steps: usize) {
        self.recipe.steps = steps;
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        named([
            ("labeler", detached(&self.variables)),
            ("mean", self.mean.tensors().clone()),
            ("labeler-adam", self.adam.state()),
        ])
    }

    fn rate(&self) -> f64 {
        optim::schedule(self.step, self.recipe.steps)
    }

    fn step(&mut self, data: &Arc<Dataset>) -> Result<Losses> {
        let recipe = &self.recipe;
        let side = recipe.side.unwrap_or(recipe.network.resolution);
        let (seed, size, variation) = (recipe.seed, recipe.batch, recipe.variation);
        let source = Arc::clone(data);
        let make = move |step| source.labeler_batch(seed, step, size, side, &variation);
        let LabelerBatch { rgb, onehot } = self.batches.take(self.step, make)?.to_device(&self.device)?;
        let _rounded = rounded(recipe.precision);
        let [entropy, distance] = losses(&self.labeler.forward(&rgb)?, &onehot)?;
        let loss = (&entropy + &distance)?;
        let gradients = self.adam.gradients(&loss.backward()?)?;
        let report =
            fetch(&[("cross entropy", entropy), ("jaccard", distance), ("gradient", gradients.norm()?)])?;
        check(self.step, &report)?;
        self.adam.step(&gradients, self.rate() * recipe.generator_rate, self.step + 1)?;
        self.mean.follow(&self.variables, optim::warm_decay(recipe.ema, self.step))?;
        self.step += 1;
        Ok(report)
    }

    fn held_out(&self, data: &Dataset, limit: usize, report: &mut dyn FnMut(Event)) -> Result<HeldOut> {
        let labeler = self.mean_labeler()?;
        let count = data.held_len().0.min(limit);
        let mut confusion = Confusion::new(data.classes().len());
        for i in 0..count {
            let (truth, proposed) = self.propose(&labeler, data, false, i)?;
            confusion.add(&truth, &proposed);
        }
        let figures = (count > 0).then(|| confusion.figures(count));
        let line = Map::from_iter([("held-out labels".to_owned(), json!(figures))]);
        let figure = figures.as_ref().map(|figures| Figure {
            measure: Measure::MeanIou,
            value: figures.mean_iou,
            count: figures.pictures,
        });
        report(Event::HeldLabels { done: self.step, figures });
        Ok(HeldOut { line, figure })
    }

    /// A row a picture: the picture, its true labels, the proposed ones.
    fn write_sheet(&self, data: &Dataset, rows: usize, path: &Path) -> Result<()> {
        let labeler = self.mean_labeler()?;
        let side = self.recipe.network.resolution;
        let mut panels = Vec::new();
        for i in 0..data.held_len().0.min(rows) {
            let (truth, proposed) = self.propose(&labeler, data, false, i)?;
            let colours = |labels: Vec<u8>| -> Vec<u8> {
                labels.iter().flat_map(|&label| data.classes()[usize::from(label)].color).collect()
            };
            let picture = super::evaluate::bytes(&data.held(false, i..i + 1, &self.device)?.target_rgb)?;
            panels.push(vec![picture, colours(truth), colours(proposed)]);
        }
        super::evaluate::write_panels(&panels, side, path)
    }

    fn kept(&self) -> Vec<&Tensor> {
        self.rest.values().collect()
    }

    /// What the model says about itself stays, but for its version; authors, training data and limits are added to.
    fn model(
        &self,
        description: &Description,
        data: &Dataset,
    ) -> Result<(Metadata, BTreeMap<String, Tensor>)> {
        let mean = self.mean.tensors().clone();
        let mut metadata = Metadata { version: description.version.clone(), ..self.metadata.clone() };
        let read = description.training_data(&self.recipe, data).into_iter();
        add(
            &mut metadata.training_data,
            read.map(|d| TrainingData { note: format!("labeler: {}", d.note), ..d }),
        );
        add(&mut metadata.authors, description.authors.iter().cloned());
        add(&mut metadata.limits, description.limits.iter().cloned());
        Ok((metadata, self.rest.clone().into_iter().chain(mean).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jaccard_distance_is_one_less_the_mean_intersection_over_union_of_the_classes_that_are_there() {
        let tensor = |rows: [[f32; 3]; 4]| Tensor::new(&rows, &Device::Cpu).unwrap();
        let (a, b) = ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]);
        let truth = tensor([a, a, a, b]);
        let distance = |chances: &Tensor| jaccard(chances, &truth).unwrap().to_scalar::<f32>().unwrap();
        assert!(distance(&truth).abs() < 1e-5);
        // Of the first class two of three pixels, of the second one of two; a class counts as n / (n + 1) of its pixels.
        let (first, second) = (2.0 / 3.0, 0.5);
        let wanted = 1.0 - (first * 0.75 + second * 0.5) / 1.25;
        assert!((distance(&tensor([a, a, b, b])) - wanted).abs() < 1e-5);
        let unsure = tensor([[0.5, 0.5, 0.0]; 4]);
        assert!(distance(&unsure) > distance(&tensor([a, a, b, b])));
    }

    #[test]
    fn the_kernels_losses_and_their_gradient_are_the_plain_ones() {
        // More pixels than one task has, and a class that is nowhere.
        let (pixels, n) = (5000, 4);
        let values = |salt: usize| (0..pixels * n).map(move |i| (i * 7919 + salt) % 2003).collect::<Vec<_>>();
        let scores: Vec<f64> = values(1).into_iter().map(|v| v as f64 / 200.0 - 5.0).collect();
        let mut onehot = vec![0.0; pixels * n];
        for (row, v) in onehot.chunks_exact_mut(n).zip(values(2)) {
            row[v % 3] = 1.0;
        }
        let tensor = |v: Vec<f64>| Tensor::from_vec(v, (pixels, n), &Device::Cpu).unwrap();
        let (scores, onehot) = (tensor(scores), tensor(onehot));
        let both = |dtype| {
            let scores = Var::from_tensor(&scores.to_dtype(dtype).unwrap()).unwrap();
            let [entropy, distance] = losses(&scores, &onehot.to_dtype(dtype).unwrap()).unwrap();
            let loss = ((&entropy * 0.5).unwrap() + (&distance * 2.0).unwrap()).unwrap();
            let gradient = loss.backward().unwrap().remove(&scores).unwrap();
            let double =
                |x: &Tensor| x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let all: [Vec<f64>; 3] = [double(&entropy), double(&distance), double(&gradient)];
            all
        };
        // In f64 they are candle's operations.
        let (kernels, plain) = (both(DType::F32), both(DType::F64));
        for (name, (a, b)) in ["entropy", "distance", "gradient"].iter().zip(kernels.iter().zip(&plain)) {
            let scale = b.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
            let off = a.iter().zip(b).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
            assert!(scale > 1e-5 && off < 2e-6 * scale, "{name}: {off} of {scale} off");
        }
    }
}
