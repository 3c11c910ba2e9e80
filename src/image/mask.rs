//! Masks: how much of each pixel a result may change.

use std::path::Path;

use super::{Picture, Samples, View};
use crate::{Error, Result};

/// Coverage of each pixel in [0, 1]: 0 leaves the content as it is, 1 gives the result alone.
#[derive(Clone, Debug)]
pub struct Mask(Picture);

impl Mask {
    /// A gray picture as a mask: black keeps, white changes. One in RGB is gray where all of its pixels are.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the picture is not plain gray, or a float sample is outside [0, 1].
    pub fn new(picture: &Picture) -> Result<Self> {
        let gray = match picture.samples() {
            _ if picture.channels() != 3 => None,
            Samples::U8(rgb) => gray_of(rgb).map(Samples::U8),
            Samples::U16(rgb) => gray_of(rgb).map(Samples::U16),
            Samples::F32(rgb) => gray_of(rgb).map(Samples::F32),
        };
        if let Some(samples) = gray {
            let mut one = Picture::new(picture.width(), picture.height(), 1, samples)?;
            *one.metadata_mut() = picture.metadata().clone();
            return Self::new(&one);
        }
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

    /// Reads a gray PNG, JPEG, TIFF or WebP file, 8-bit, 16-bit or float. Errors are those of [`Picture::read`] and
    /// [`new`](Self::new).
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::new(&Picture::read(path)?).map_err(|e| Error::format(path, e.to_string()))
    }

    /// As [`LabelMap::upright_with`](super::LabelMap::upright_with).
    pub fn upright_with(self, content: &Picture) -> Self {
        let Some(orientation) = content.turn_of_map(self.width(), self.height()) else { return self };
        let mut turned = self.0;
        turned.metadata_mut().orientation = Some(orientation);
        Self(turned.upright())
    }

    /// Whether nothing may change anywhere.
    pub fn is_black(&self) -> bool {
        (0..self.width() * self.height()).all(|i| self.0.samples().unit(i) == 0.0)
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

/// The values of pixels whose red, green and blue are alike everywhere.
fn gray_of<T: Copy + PartialEq>(rgb: &[T]) -> Option<Vec<T>> {
    rgb.chunks_exact(3).map(|p| (p[0] == p[1] && p[1] == p[2]).then_some(p[0])).collect()
}

impl<'a> From<&'a Mask> for View<'a> {
    fn from(mask: &'a Mask) -> Self {
        mask.view()
    }
}
