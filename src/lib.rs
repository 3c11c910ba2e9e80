//! Restyle photographs class by class with CA2-SIS: semantic image synthesis by class-adaptive
//! cross-attention (Fontanini et al., arXiv 2308.16071).
//!
//! - [`nn`]: the network, pure tensors.
//! - [`model`]: the model file and its description.
//! - [`image`]: pixels, label maps, resampling, files.
//! - [`style`]: how each class of a reference looks.
//! - [`restyle`]: the job: content, labels and styles in, the restyled picture out.
//! - [`device`]: where the network runs.
//! - [`progress`]: how far a long call is, and how to stop it.
//! - [`train`]: the trainer that makes model files.
//! - [`eval`]: how good results are, and beside what.

pub mod device;
pub mod error;
pub mod eval;
pub mod image;
pub mod kernels;
pub mod model;
pub mod nn;
pub mod progress;
pub mod restyle;
pub mod style;
pub mod train;

mod capi;

pub use error::{Error, Result};
