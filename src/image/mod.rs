//! Pixels, label maps, masks: in memory, from and to files, and from one size to another.

mod file;
mod labels;
mod mask;
mod picture;
pub(crate) mod resample;
mod tiff;
mod transfer;
pub mod view;

pub use labels::{COLOR_LIMIT, LabelMap};
pub use mask::Mask;
pub use picture::{Picture, RgbImage, Samples};
pub use view::{Channels, Layout, SampleType, Transfer, View, ViewMut};
