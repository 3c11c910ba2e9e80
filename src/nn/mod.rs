//! The network of CA2-SIS, one file a part.
//!
//! "Semantic Image Synthesis via Class-Adaptive Cross-Attention", Fontanini, Ferrari, Lisanti, Bertozzi, Prati,
//! arXiv 2308.16071. Tensor names are those of the published checkpoint.
//!
//! Pictures and feature maps are channels-last, `(batch, height, width, channels)`: a pixel is then a token as it
//! stands, so that 1x1 convolutions and attention need no transposition.

pub mod config;
pub mod ops;

pub use config::{Config, Mapping, Stage};
