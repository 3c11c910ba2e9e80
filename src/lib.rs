//! Restyle photographs class by class with CA2-SIS: semantic image synthesis by class-adaptive
//! cross-attention (Fontanini et al., arXiv 2308.16071).
//!
//! - [`nn`]: the network, pure tensors.
//! - [`model`]: the model file and its description.
//! - [`image`]: pixels, label maps, resampling, files.
//! - [`style`]: how each class of a reference looks.
//! - [`restyle`]: the job: content, labels and styles in, the restyled picture out.
//! - [`synthesis`]: a picture from a label map alone.
//! - [`record`]: how a result was made.
//! - [`attention`]: where the network looks for each class.
//! - [`device`]: where the network runs.
//! - [`context`]: a device with its worker, memory limit and log, for callers from any thread.
//! - [`progress`]: how far a long call is, and how to stop it.
//! - [`train`]: the trainer that makes model files.
//! - [`eval`]: how good results are, and beside what.
//!
#![doc = include_str!("README.md")]

pub mod attention;
pub mod context;
pub mod device;
pub mod error;
pub mod eval;
pub mod image;
pub mod kernels;
pub mod label;
pub mod model;
pub mod nn;
pub mod progress;
pub mod record;
pub mod restyle;
pub mod style;
pub mod synthesis;
pub mod train;

mod capi;
mod worker;

pub use error::{Error, Result};
