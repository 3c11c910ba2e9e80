//! What a run needs of the part of a model that it trains.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use serde_json::{Map, Value, json};

use super::best::{Figure, Measure};
use super::data::Dataset;
use super::evaluate;
use super::run::{Description, Event};
use super::trainer::{Losses, Recipe, Trainer};
use crate::Result;
use crate::model::{FORMAT, Metadata};

/// What was found on held-out pictures.
pub struct HeldOut {
    /// All of it, for the run's metrics.
    pub line: Map<String, Value>,
    /// What models of the run are compared by; none when nothing is held out.
    pub figure: Option<Figure>,
}

/// The weights and optimisers of one part.
pub trait Trained {
    fn recipe(&self) -> &Recipe;

    /// Steps done.
    fn steps_done(&self) -> usize;

    /// Goes on after `step` steps, once the tensors of [`state`](Self::state) are set.
    fn set_steps_done(&mut self, step: usize);

    /// Makes the run one of `steps` steps in all.
    fn set_steps(&mut self, steps: usize);

    /// Every tensor that the next steps depend on, by name: the run's own, not copies, so that setting their elements sets the
    /// run's.
    fn state(&self) -> BTreeMap<String, Tensor>;

    /// Factor on the learning rates at this step.
    fn rate(&self) -> f64;

    /// One step on the batch that belongs to it.
    fn step(&mut self, data: &Arc<Dataset>) -> Result<Losses>;

    /// Held-out figures on up to `limit` pictures, told to `report` too.
    fn held_out(&self, data: &Dataset, limit: usize, report: &mut dyn FnMut(Event)) -> Result<HeldOut>;

    /// A picture of up to `rows` held-out results.
    fn write_sheet(&self, data: &Dataset, rows: usize, path: &Path) -> Result<()>;

    /// What of the model to begin with is kept as it is.
    fn kept(&self) -> Vec<&Tensor>;

    /// How the model file holds its weights: in f16, unless that would round what is kept.
    fn stored(&self) -> DType {
        match self.kept().iter().all(|tensor| tensor.dtype() == DType::F16) {
            true => DType::F16,
            false => DType::F32,
        }
    }

    /// The model file so far: what it says about itself, and its tensors.
    fn model(
        &self,
        description: &Description,
        data: &Dataset,
    ) -> Result<(Metadata, BTreeMap<String, Tensor>)>;
}

impl Trained for Trainer {
    fn recipe(&self) -> &Recipe {
        self.recipe()
    }

    fn steps_done(&self) -> usize {
        self.steps_done()
    }

    fn set_steps_done(&mut self, step: usize) {
        self.set_steps_done(step);
    }

    fn set_steps(&mut self, steps: usize) {
        self.set_steps(steps);
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        self.state()
    }

    fn rate(&self) -> f64 {
        self.rate()
    }

    fn step(&mut self, data: &Arc<Dataset>) -> Result<Losses> {
        self.step(data)
    }

    fn held_out(&self, data: &Dataset, limit: usize, report: &mut dyn FnMut(Event)) -> Result<HeldOut> {
        let network = self.network()?;
        let own = evaluate::held_out(&network, data, false, limit)?;
        let pairs = evaluate::held_out(&network, data, true, limit)?;
        report(Event::Held { done: self.steps_done(), own, pairs });
        let line = Map::from_iter([
            ("held-out pictures".to_owned(), json!(own)),
            ("held-out pairs".to_owned(), json!(pairs)),
        ]);
        // Pairs say more: in a reconstruction the style shows what is to be drawn.
        let of =
            |measure, found: evaluate::Figures| Figure { measure, value: found.psnr, count: found.pictures };
        let figure = pairs.map(|found| of(Measure::PsnrOfPairs, found));
        Ok(HeldOut { line, figure: figure.or(own.map(|found| of(Measure::PsnrOfPictures, found))) })
    }

    fn write_sheet(&self, data: &Dataset, rows: usize, path: &Path) -> Result<()> {
        evaluate::write_sheet(&self.network()?, data, rows, path)
    }

    fn kept(&self) -> Vec<&Tensor> {
        self.labeler_tensors().collect()
    }

    fn model(
        &self,
        description: &Description,
        data: &Dataset,
    ) -> Result<(Metadata, BTreeMap<String, Tensor>)> {
        let metadata = Metadata {
            format: FORMAT,
            name: description.name.clone(),
            version: description.version.clone(),
            licence: description.licence.clone(),
            authors: description.authors.clone(),
            training_data: description.training_data(self.recipe(), data),
            limits: description.limits.clone(),
            classes: data.classes().to_vec(),
            network: self.model_sizes(),
            bf16_db: None,
        };
        Ok((metadata, self.model()))
    }
}
