//! The trainer: pictures and label maps in, a model file out.
//!
//! The losses and the schedule are the published ones (see [`losses`] and [`Recipe`]), with VGG19 replaced by
//! SqueezeNet. A run is a folder; [`run()`] goes on where it stopped. Every batch is a function of seed and step alone
//! and every tensor is saved in full, so on the CPU a run that was interrupted gives the same weights, bit for bit, as
//! one that was not.

mod best;
pub mod data;
pub mod discriminator;
pub mod evaluate;
pub mod init;
pub mod labeler;
pub mod losses;
pub mod optim;
mod part;
pub mod preset;
mod run;
mod state;
mod trainer;

pub use best::{Best, Figure, Mark, Measure};
pub use data::{Dataset, Variation};
pub use init::MaskInit;
pub use labeler::{Confusion, LabelFigures, LabelerTrainer};
pub use part::{HeldOut, Trained};
pub use run::{Description, Ending, Event, RunOptions, run};
pub use state::RunDir;
pub use trainer::{LossWeights, Losses, Part, Recipe, Trainer};
