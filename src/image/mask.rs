//! Masks: how much of each pixel a result may change.

use std::path::Path;

use super::{Picture, Samples, View};
use crate::{Error, Result};

/// Coverage of each pixel in [0, 1]: 0 leaves the content as it is, 1 gives the result alone.
#[derive(Clone, Debug)]
pub struct Mask(Picture);

impl Mask {
    /// A gray picture as a mask: black keeps, white changes.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the picture is not plain gray, or a float sample is outside [0, 1].
    pub fn new(picture: &Picture) -> Result<Self> {
        if picture.channels() != 1 {
            return Err(Error::invalid(format!(
                "a mask is a gray picture without alpha, this one has {} channels: save it as grayscale",
                picture.channels()
            )));
        }
        if let Samples::F32(v) = picture.samples()
            && let Some(wrong) = v.iter().find(|v| !(0.0..=1.0).contains(*v))
        {
            return Err(Error::invalid(format!("a mask's values are 0 to 1, not {wrong}")));
        }
        Ok(Self(picture.clone()))
    }

    /// Reads a gray PNG, JPEG or TIFF file, 8-bit, 16-bit or float. Errors are those of [`Picture::read`] and
    /// [`new`](Self::new).
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::new(&Picture::read(path)?).map_err(|e| Error::format(path, e.to_string()))
    }

    pub fn width(&self) -> usize {
        self.0.width()
    }

    pub fn height(&self) -> usize {
        self.0.height()
    }

    /// Coverage of the pixel in column `x` of row `y`.
    pub fn coverage(&self, x: usize, y: usize) -> f32 {
        self.0.samples().unit(y * self.0.width() + x)
    }

    /// The coverage as gray pixels.
    pub fn view(&self) -> View<'_> {
        self.0.view()
    }
}

impl<'a> From<&'a Mask> for View<'a> {
    fn from(mask: &'a Mask) -> Self {
        mask.view()
    }
}
