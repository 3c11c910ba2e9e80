//! Pictures as their files hold them, and as the network sees them.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::metadata::{Metadata, Orientation, turn};
use super::resample::{Axis, Resampled};
use super::view::{Channels, Layout, SampleType, View, ViewMut};
use crate::{Error, Result};

/// The samples of a picture, row by row from the top, channels interleaved.
#[derive(Clone, Debug, PartialEq)]
pub enum Samples {
    /// 0 to 255.
    U8(Vec<u8>),
    /// 0 to 65535.
    U16(Vec<u16>),
    /// 0.0 to 1.0 is black to white; values beyond are kept where nothing is changed.
    F32(Vec<f32>),
}

impl Samples {
    pub fn len(&self) -> usize {
        match self {
            Self::U8(v) => v.len(),
            Self::U16(v) => v.len(),
            Self::F32(v) => v.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sample type in words, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::U8(_) => "8-bit",
            Self::U16(_) => "16-bit",
            Self::F32(_) => "float",
        }
    }

    /// Sample `i` with black at 0 and white at 1.
    pub(super) fn unit(&self, i: usize) -> f32 {
        match self {
            Self::U8(v) => f32::from(v[i]) / 255.0,
            Self::U16(v) => f32::from(v[i]) / 65535.0,
            Self::F32(v) => v[i],
        }
    }
}

/// A picture in the sample type and with the channels of its file.
///
/// Samples are taken as display-encoded in every type, float included: as the ICC profile says, or sRGB where there is none.
/// Alpha is straight, not premultiplied.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    width: usize,
    height: usize,
    channels: usize,
    samples: Samples,
    metadata: Metadata,
}

impl Picture {
    /// A picture of `channels` 1 (gray), 2 (gray and alpha), 3 (RGB) or 4 (RGB and alpha).
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when a side is 0, `channels` is another number, or `samples` do not number
    /// `width * height * channels`.
    pub fn new(width: usize, height: usize, channels: usize, samples: Samples) -> Result<Self> {
        if !(1..=4).contains(&channels) {
            return Err(Error::invalid(format!("a picture has 1 to 4 channels, not {channels}")));
        }
        let wanted = width.checked_mul(height).and_then(|n| n.checked_mul(channels));
        if wanted.is_none_or(|n| n == 0 || n != samples.len()) {
            return Err(Error::invalid(format!(
                "{} samples cannot be a picture of {width} x {height} pixels with {channels} channels",
                samples.len()
            )));
        }
        Ok(Self { width, height, channels, samples, metadata: Metadata::default() })
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn height(&self) -> usize {
        self.height
    }

    /// 1 (gray), 2 (gray and alpha), 3 (RGB) or 4 (RGB and alpha).
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Channels that hold colour, not alpha: 1 or 3.
    pub fn color_channels(&self) -> usize {
        if self.channels < 3 { 1 } else { 3 }
    }

    pub fn samples(&self) -> &Samples {
        &self.samples
    }

    /// The picture's pixels, to read.
    pub fn view(&self) -> View<'_> {
        let bytes: &[u8] = match &self.samples {
            Samples::U8(v) => v,
            Samples::U16(v) => bytemuck::cast_slice(v),
            Samples::F32(v) => bytemuck::cast_slice(v),
        };
        View::new(bytes, self.layout()).expect("a picture's samples are all there")
    }

    /// The picture's pixels, to write.
    pub fn view_mut(&mut self) -> ViewMut<'_> {
        let layout = self.layout();
        let bytes: &mut [u8] = match &mut self.samples {
            Samples::U8(v) => v,
            Samples::U16(v) => bytemuck::cast_slice_mut(v),
            Samples::F32(v) => bytemuck::cast_slice_mut(v),
        };
        ViewMut::new(bytes, layout).expect("a picture's samples are all there")
    }

    fn layout(&self) -> Layout {
        let sample = match self.samples {
            Samples::U8(_) => SampleType::U8,
            Samples::U16(_) => SampleType::U16,
            Samples::F32(_) => SampleType::F32,
        };
        let channels =
            [Channels::Gray, Channels::GrayAlpha, Channels::Rgb, Channels::Rgba][self.channels - 1];
        Layout::tight(self.width, self.height, channels, sample)
    }

    /// The ICC profile of the file this picture came from.
    pub fn icc_profile(&self) -> Option<&[u8]> {
        self.metadata.icc_profile.as_deref()
    }

    /// What its file said beside the pixels, and what a file that it is written to will say.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    pub fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    /// How a map of this size, drawn on the stored pixels of this picture, has to be turned; none when it need not be or
    /// when that cannot be told.
    pub(super) fn turn_of_map(&self, width: usize, height: usize) -> Option<Orientation> {
        let stored = (width, height) == (self.height, self.width) && width != height;
        self.metadata.orientation.filter(|_| stored && self.metadata.is_transposed())
    }

    pub(super) fn with_metadata(self, metadata: Metadata) -> Self {
        Self { metadata, ..self }
    }

    /// Turns the pixels as the metadata's orientation says.
    pub(super) fn upright(mut self) -> Self {
        let Some(orientation) = self.metadata.orientation.filter(|&o| o != Orientation::NoTransforms) else {
            return self;
        };
        let form = (self.width, self.height, self.channels);
        (self.samples, self.width, self.height) = match &self.samples {
            Samples::U8(v) => {
                let (v, w, h) = turn(v, form, orientation);
                (Samples::U8(v), w, h)
            }
            Samples::U16(v) => {
                let (v, w, h) = turn(v, form, orientation);
                (Samples::U16(v), w, h)
            }
            Samples::F32(v) => {
                let (v, w, h) = turn(v, form, orientation);
                (Samples::F32(v), w, h)
            }
        };
        if self.metadata.is_transposed()
            && let Some(r) = &mut self.metadata.resolution
        {
            std::mem::swap(&mut r.x, &mut r.y);
        }
        self
    }

    /// The picture as the network sees it: RGB from 0 to 1, alpha left out. Gray is repeated; values outside [0, 1]
    /// are clamped, and NaN becomes 0.
    pub fn to_rgb_f32(&self) -> RgbImage {
        let view = self.view();
        let mut pixels = vec![0.0; self.width * self.height * 3];
        pixels.par_chunks_exact_mut(self.width * 3).enumerate().for_each(|(y, row)| view.rgb_row(y, row));
        RgbImage { width: self.width, height: self.height, pixels }
    }
}

impl<'a> From<&'a Picture> for View<'a> {
    fn from(picture: &'a Picture) -> Self {
        picture.view()
    }
}

/// An RGB picture of floats, display-encoded (sRGB), 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct RgbImage {
    pub width: usize,
    pub height: usize,
    /// Row by row from the top, three floats a pixel.
    pub pixels: Vec<f32>,
}

impl RgbImage {
    /// The picture at another size (neither side 0), by an antialiased bicubic filter. Values stay within [0, 1].
    pub fn resized(&self, width: usize, height: usize) -> Self {
        let row = |y: usize, out: &mut [f32]| {
            out.copy_from_slice(&self.pixels[y * self.width * 3..][..self.width * 3])
        };
        let columns = Axis::new(self.width, 0.0, self.width as f64, width);
        let rows = Axis::new(self.height, 0.0, self.height as f64, height);
        Resampled::new(self.width, row, &columns, rows).into_image()
    }

    /// The network's input, `(1, height, width, 3)` from -1 to 1.
    pub fn to_tensor(&self, device: &Device) -> candle_core::Result<Tensor> {
        let pixels: Vec<f32> = self.pixels.iter().map(|v| v * 2.0 - 1.0).collect();
        Tensor::from_vec(pixels, (1, self.height, self.width, 3), device)
    }

    /// The network's output, `(1, height, width, 3)` from -1 to 1; values beyond are clamped.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when a value is undefined or infinite, as it is where a product is too large for the precision;
    /// [`Error::Tensor`] when the device fails.
    pub fn from_tensor(image: &Tensor) -> Result<Self> {
        let (_, height, width, _) = image.dims4()?;
        let mut pixels = image.flatten_all()?.to_vec1::<f32>()?;
        pixels.truncate(height * width * 3);
        // Clamped, it would go on as a colour or as no change at all.
        if let Some(wrong) = pixels.iter().find(|v| !v.is_finite()) {
            return Err(Error::unsupported(format!(
                "the network drew a picture with the value {wrong}: try --precision f32 (CA2_PRECISION_F32), or another model"
            )));
        }
        for v in &mut pixels {
            *v = ((*v + 1.0) / 2.0).clamp(0.0, 1.0);
        }
        Ok(Self { width, height, pixels })
    }

    /// An 8-bit RGB picture.
    pub fn to_picture(&self) -> Result<Picture> {
        let samples = self.pixels.iter().map(|v| (v * 255.0).round() as u8).collect();
        Picture::new(self.width, self.height, 3, Samples::U8(samples))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        for (w, h, c, n) in
            [(0, 4, 3, 0), (4, 0, 1, 0), (2, 2, 0, 0), (2, 2, 5, 20), (2, 2, 3, 11), (usize::MAX, 2, 1, 1)]
        {
            assert!(Picture::new(w, h, c, Samples::U8(vec![0; n])).is_err(), "{w} x {h} x {c}, {n} samples");
        }
    }

    #[test]
    fn every_form_gives_the_same_rgb() {
        let forms = [
            (1, Samples::U8(vec![51])),
            (2, Samples::U8(vec![51, 9])),
            (3, Samples::U16(vec![13107; 3])),
            (4, Samples::F32(vec![0.2, 0.2, 0.2, 7.0])),
        ];
        for (channels, samples) in forms {
            let rgb = Picture::new(1, 1, channels, samples).unwrap().to_rgb_f32();
            assert_eq!(rgb.pixels, [0.2; 3], "{channels} channels");
        }
    }

    #[test]
    fn wild_floats_become_tame() {
        let samples = Samples::F32(vec![f32::NAN, f32::INFINITY, -3.0]);
        assert_eq!(Picture::new(1, 1, 3, samples).unwrap().to_rgb_f32().pixels, [0.0, 1.0, 0.0]);
    }

    #[test]
    fn tensor_and_back() {
        let image = RgbImage { width: 2, height: 1, pixels: vec![0.0, 0.25, 0.5, 0.75, 1.0, 0.125] };
        let tensor = image.to_tensor(&Device::Cpu).unwrap();
        assert_eq!(tensor.dims(), [1, 1, 2, 3]);
        assert_eq!(tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()[..3], [-1.0, -0.5, 0.0]);
        assert_eq!(RgbImage::from_tensor(&tensor).unwrap(), image);
    }

    #[test]
    fn what_a_network_draws_is_a_picture_or_an_error_that_says_what_to_try() {
        let drawn = |last: f32| {
            let values = vec![0.5, -0.5, 3.0, -7.0, 0.0, last];
            RgbImage::from_tensor(&Tensor::from_vec(values, (1, 1, 2, 3), &Device::Cpu).unwrap())
        };
        assert_eq!(drawn(1.0).unwrap().pixels, [0.75, 0.25, 1.0, 0.0, 0.5, 1.0]);
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = drawn(wrong).unwrap_err().to_string();
            assert!(error.contains(&format!("the value {wrong}: try --precision f32")), "{error}");
        }
    }
}
