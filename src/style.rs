//! Styles: how each class of a reference picture looks, as the network codes it.

mod file;
mod mix;

use candle_core::Tensor;

use crate::image::{LabelMap, Picture};
use crate::nn::Network;
use crate::progress::Progress;
use crate::restyle::Window;
use crate::{Error, Result};

pub use file::STYLE_FORMAT;

/// The style codes of every class of one picture. Cheap to clone; belongs to the model that it was made with.
#[derive(Clone, Debug)]
pub struct Style {
    codes: Tensor,
    present: Vec<bool>,
}

impl Style {
    /// The style of a picture of any size, whole, under its label map.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the labels have another size than the picture, or a class that the network
    /// does not have; [`Error::Tensor`] when the device fails; [`Error::Cancelled`].
    pub fn extract(
        network: &Network,
        picture: &Picture,
        labels: &LabelMap,
        progress: Progress,
    ) -> Result<Self> {
        check_labels("the reference's labels", labels, "the reference", picture, network)?;
        Self::of_window(network, picture, labels, &Window::whole(picture.width(), picture.height()), progress)
    }

    /// The style of a part of a picture; sizes and classes have been checked.
    pub(crate) fn of_window(
        network: &Network,
        picture: &Picture,
        labels: &LabelMap,
        window: &Window,
        progress: Progress,
    ) -> Result<Self> {
        let (config, device) = (network.config(), network.device());
        let small = window.labels(labels, config.resolution);
        let rgb = window.rgb(picture, config.resolution).to_tensor(device)?;
        let onehot = small.to_tensor(config.classes, device)?;
        let codes = network.encode_style(&rgb, &onehot, progress)?.squeeze(0)?;
        let counts = small.counts();
        Ok(Self { codes, present: (0..config.classes).map(|i| counts[i] > 0).collect() })
    }

    /// The codes, `(classes, style width)`.
    pub fn codes(&self) -> &Tensor {
        &self.codes
    }

    /// Whether the picture showed class `index`, at the size at which the network saw it.
    pub fn has(&self, index: usize) -> bool {
        self.present.get(index).copied().unwrap_or(false)
    }

    /// This style with each class moved towards `other`'s by its weight: 0 leaves it, 1 replaces it.
    pub(crate) fn toward(&self, other: &Self, weights: &[f32]) -> Result<Self> {
        let weight = Tensor::new(weights, self.codes.device())?.unsqueeze(1)?;
        let keep = weight.affine(-1.0, 1.0)?;
        let codes = (self.codes.broadcast_mul(&keep)? + other.codes.broadcast_mul(&weight)?)?;
        let present = (0..weights.len()).map(|i| self.has(i) || (weights[i] > 0.0 && other.has(i))).collect();
        Ok(Self { codes, present })
    }

    /// Refuses a style of a model with other sizes.
    pub(crate) fn check(&self, network: &Network) -> Result<()> {
        let config = network.config();
        let wanted = [config.classes, config.style_width()];
        if self.codes.dims() == wanted {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "the style is of another model: its codes are {:?}, this model's {wanted:?}",
            self.codes.dims()
        )))
    }
}

/// Labels must lie on their picture and know no more classes than the network.
pub(crate) fn check_labels(
    what: &str,
    labels: &LabelMap,
    of: &str,
    picture: &Picture,
    network: &Network,
) -> Result<()> {
    if (labels.width(), labels.height()) != (picture.width(), picture.height()) {
        return Err(Error::invalid(format!(
            "{what} are {} x {} pixels, but {of} is {} x {}: make them the same size",
            labels.width(),
            labels.height(),
            picture.width(),
            picture.height()
        )));
    }
    check_classes(what, labels, network)
}

/// Refuses labels of classes that the network does not have.
pub(crate) fn check_classes(what: &str, labels: &LabelMap, network: &Network) -> Result<()> {
    let classes = network.config().classes;
    match labels.classes_present().last() {
        Some(&index) if usize::from(index) >= classes => Err(Error::invalid(format!(
            "{what} have class {index}, but the model has classes 0 to {}",
            classes - 1
        ))),
        _ => Ok(()),
    }
}
