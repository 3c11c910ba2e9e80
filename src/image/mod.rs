//! Pixels, label maps, masks: in memory, from and to files, and from one size to another.

mod color;
mod file;
mod jpeg;
mod labels;
mod mask;
mod metadata;
mod picture;
pub(crate) mod resample;
mod tiff;
mod transfer;
pub mod view;

pub use color::InSrgb;
pub(crate) use file::RECORD_KEYWORD;
pub use labels::{COLOR_LIMIT, LabelMap};
pub use mask::Mask;
pub use metadata::{Metadata, Orientation, Resolution};
pub use picture::{Picture, RgbImage, Samples};
pub use view::{Channels, Layout, SampleType, Transfer, View, ViewMut};
