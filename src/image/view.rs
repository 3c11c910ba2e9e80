//! Views: pixels in somebody else's memory, in any of the forms in which hosts hold them.
//!
//! A view reads and writes display-encoded (sRGB) values, whatever the memory holds: linear samples are encoded on
//! reading and decoded on writing, both extended to every value, so that highlights above 1 and negative values survive.

use half::f16;
use rayon::prelude::*;

use super::RgbImage;
use super::transfer::{decode, encode};
use crate::{Error, Result};

/// The channels of a pixel, alpha last and straight, not premultiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    Gray,
    GrayAlpha,
    Rgb,
    Rgba,
}

impl Channels {
    /// 1 to 4.
    pub fn count(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::GrayAlpha => 2,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }

    /// Channels that hold colour, not alpha: 1 or 3.
    pub fn colors(self) -> usize {
        match self {
            Self::Gray | Self::GrayAlpha => 1,
            Self::Rgb | Self::Rgba => 3,
        }
    }
}

/// How a sample is stored, in the machine's byte order, at any alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleType {
    /// 0 to 255.
    U8,
    /// 0 to 65535.
    U16,
    /// Half precision; 0.0 to 1.0 is black to white, values beyond are kept.
    F16,
    /// Single precision, as `F16`.
    F32,
}

impl SampleType {
    /// Bytes of a sample.
    pub fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// Whether samples are floats, which may be any value.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::F32)
    }
}

/// What a sample's value means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transfer {
    /// Display-encoded by the sRGB curve (IEC 61966-2-1).
    #[default]
    Srgb,
    /// Proportional to light.
    Linear,
}

/// Where the pixels of a picture lie in a slice of bytes, and what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub width: usize,
    pub height: usize,
    pub channels: Channels,
    pub sample: SampleType,
    pub transfer: Transfer,
    /// Byte at which the pixel in column 0 of row 0 begins.
    pub offset: usize,
    /// Bytes from a row to the next below it; negative when rows are stored bottom-up.
    pub row_stride: isize,
    /// Bytes from a pixel to the next on its right, from one channel's to the next pixel's same channel.
    pub pixel_stride: isize,
}

impl Layout {
    /// A picture stored from its first byte, row by row, without gaps.
    pub fn tight(width: usize, height: usize, channels: Channels, sample: SampleType) -> Self {
        let pixel = channels.count() * sample.size();
        let row_stride = (width as isize).wrapping_mul(pixel as isize);
        let (transfer, pixel_stride) = (Transfer::Srgb, pixel as isize);
        Self { width, height, channels, sample, transfer, offset: 0, row_stride, pixel_stride }
    }

    /// Bytes of one pixel.
    pub fn pixel_size(&self) -> usize {
        self.channels.count() * self.sample.size()
    }

    /// Bytes from the first of a row to the last, both included.
    fn row_extent(&self) -> usize {
        (self.width - 1) * self.pixel_stride.unsigned_abs() + self.pixel_size()
    }

    /// Distance of a row's lowest byte before its column 0.
    fn back_in_row(&self) -> usize {
        if self.pixel_stride < 0 { (self.width - 1) * self.pixel_stride.unsigned_abs() } else { 0 }
    }

    /// The first byte of row `y`, wherever its column 0 is.
    fn row_start(&self, y: usize) -> usize {
        let down = (self.offset as isize + y as isize * self.row_stride) as usize;
        down - self.back_in_row()
    }

    /// Every pixel must lie inside `bytes` bytes.
    fn check(&self, bytes: usize) -> Result<()> {
        let Self { width, height, offset, row_stride, pixel_stride, .. } = *self;
        if width == 0 || height == 0 {
            return Err(Error::invalid(format!("a picture of {width} x {height} pixels has none")));
        }
        let outside = || {
            Error::invalid(format!(
                "{width} x {height} pixels from byte {offset} at strides of {row_stride} bytes a row and \
                 {pixel_stride} a pixel do not lie inside {bytes} bytes"
            ))
        };
        if width > 1 && pixel_stride.unsigned_abs() < self.pixel_size() {
            return Err(Error::invalid(format!(
                "a pixel stride of {pixel_stride} bytes, but a pixel has {}",
                self.pixel_size()
            )));
        }
        let reach = |count: usize, stride: isize| (count as i128 - 1) * stride as i128;
        let corners = [(1, 1), (width, 1), (1, height), (width, height)]
            .map(|(w, h)| offset as i128 + reach(w, pixel_stride) + reach(h, row_stride));
        let inside = |start: &i128| *start >= 0 && *start + self.pixel_size() as i128 <= bytes as i128;
        if corners.iter().all(inside) { Ok(()) } else { Err(outside()) }
    }

    /// What must be equal for the bytes of a pixel to mean the same.
    pub(crate) fn same_form(&self, other: &Self) -> bool {
        (self.width, self.height, self.channels, self.sample, self.transfer)
            == (other.width, other.height, other.channels, other.sample, other.transfer)
    }
}

/// Pixels to read.
#[derive(Clone, Copy)]
pub struct View<'a> {
    bytes: &'a [u8],
    layout: Layout,
}

impl<'a> View<'a> {
    /// # Errors
    /// [`Error::InvalidArgument`] when a side is 0, a pixel is not inside `bytes`, or pixels of a row overlap.
    pub fn new(bytes: &'a [u8], layout: Layout) -> Result<Self> {
        layout.check(bytes.len())?;
        Ok(Self { bytes, layout })
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The same pixels, their values meant otherwise.
    pub fn with_transfer(mut self, transfer: Transfer) -> Self {
        self.layout.transfer = transfer;
        self
    }

    pub fn width(&self) -> usize {
        self.layout.width
    }

    pub fn height(&self) -> usize {
        self.layout.height
    }

    /// Row `y`, to read its pixels.
    pub(crate) fn row(&self, y: usize) -> Row<'a> {
        let start = self.layout.row_start(y);
        Row { bytes: &self.bytes[start..start + self.layout.row_extent()], layout: self.layout }
    }

    /// Row `y` as the network sees it: RGB from 0 to 1, alpha left out. Gray is repeated; values outside [0, 1] are
    /// clamped, and NaN becomes 0.
    pub(crate) fn rgb_row(&self, y: usize, out: &mut [f32]) {
        self.row(y).read(0, out);
        for value in out {
            *value = if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) };
        }
    }
}

impl std::fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("layout", &self.layout).finish_non_exhaustive()
    }
}

/// Pixels to write.
pub struct ViewMut<'a> {
    bytes: &'a mut [u8],
    layout: Layout,
}

impl<'a> ViewMut<'a> {
    /// # Errors
    /// [`Error::InvalidArgument`] as [`View::new`], and when rows lie in each other.
    pub fn new(bytes: &'a mut [u8], layout: Layout) -> Result<Self> {
        layout.check(bytes.len())?;
        if layout.height > 1 && layout.row_stride.unsigned_abs() < layout.row_extent() {
            return Err(Error::invalid(format!(
                "rows of {} bytes at a stride of {}: the rows of an output cannot overlap",
                layout.row_extent(),
                layout.row_stride
            )));
        }
        Ok(Self { bytes, layout })
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The same pixels, their values meant otherwise.
    pub fn with_transfer(mut self, transfer: Transfer) -> Self {
        self.layout.transfer = transfer;
        self
    }

    /// The same pixels, to read.
    pub fn as_view(&self) -> View<'_> {
        View { bytes: self.bytes, layout: self.layout }
    }

    /// Writes a picture of this size; alpha becomes opaque.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the sizes differ.
    pub fn write_opaque(&mut self, image: &RgbImage) -> Result<()> {
        let Layout { width, height, channels, .. } = self.layout;
        if (image.width, image.height) != (width, height) {
            return Err(Error::invalid(format!(
                "a picture of {} x {} pixels for {width} x {height}",
                image.width, image.height
            )));
        }
        let covered = vec![1.0; width];
        self.rows_mut(0, height).for_each(|(y, mut row)| {
            let mut rgb = image.pixels[y * width * 3..][..width * 3].to_vec();
            row.blend(0, &mut rgb, &covered);
            if channels.count() > channels.colors() {
                row.make_opaque();
            }
        });
        Ok(())
    }

    /// Rows `from` up to but not including `to`, each with its number, to be written in any order and from any thread.
    pub(crate) fn rows_mut(
        &mut self,
        from: usize,
        to: usize,
    ) -> impl IndexedParallelIterator<Item = (usize, RowMut<'_>)> {
        let layout = self.layout;
        let upward = layout.row_stride < 0;
        // The rows as they lie in memory, each at the start of a piece as long as the stride.
        let (low, high) = if upward { (to - 1, from) } else { (from, to - 1) };
        let (start, end) = (layout.row_start(low), layout.row_start(high) + layout.row_extent());
        let piece = if layout.height > 1 { layout.row_stride.unsigned_abs() } else { end - start };
        self.bytes[start..end].par_chunks_mut(piece).enumerate().map(move |(i, bytes)| {
            let y = if upward { to - 1 - i } else { from + i };
            (y, RowMut { bytes: &mut bytes[..layout.row_extent()], layout })
        })
    }
}

impl std::fmt::Debug for ViewMut<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ViewMut").field("layout", &self.layout).finish_non_exhaustive()
    }
}

/// The bytes of one row, from its lowest.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    bytes: &'a [u8],
    layout: Layout,
}

impl Layout {
    /// Where column `x` begins in its row's bytes.
    fn column(&self, x: usize) -> usize {
        let step = self.pixel_stride.unsigned_abs();
        if self.pixel_stride < 0 { (self.width - 1 - x) * step } else { x * step }
    }
}

impl Row<'_> {
    /// The bytes of the pixel in column `x`.
    pub fn pixel(&self, x: usize) -> &[u8] {
        &self.bytes[self.layout.column(x)..][..self.layout.pixel_size()]
    }

    /// Display-encoded RGB of the pixels from column `x` on, as many as `out` holds. Nothing is clamped.
    pub fn read(&self, x: usize, out: &mut [f32]) {
        match self.layout.sample {
            SampleType::U8 => self.read_as::<u8>(x, out),
            SampleType::U16 => self.read_as::<u16>(x, out),
            SampleType::F16 => self.read_as::<f16>(x, out),
            SampleType::F32 => self.read_as::<f32>(x, out),
        }
        if self.layout.transfer == Transfer::Linear {
            encode(out);
        }
    }

    fn read_as<T: Sample>(&self, x: usize, out: &mut [f32]) {
        let second = if self.layout.channels.colors() == 3 { T::SIZE } else { 0 };
        for (i, rgb) in out.chunks_exact_mut(3).enumerate() {
            let pixel = self.pixel(x + i);
            for (c, value) in rgb.iter_mut().enumerate() {
                *value = T::read(&pixel[c * second..]);
            }
        }
    }

    /// The first channel of the pixels from column `x` on as it is stored, 0 to 1 for integers.
    pub fn read_gray(&self, x: usize, out: &mut [f32]) {
        match self.layout.sample {
            SampleType::U8 => self.read_gray_as::<u8>(x, out),
            SampleType::U16 => self.read_gray_as::<u16>(x, out),
            SampleType::F16 => self.read_gray_as::<f16>(x, out),
            SampleType::F32 => self.read_gray_as::<f32>(x, out),
        }
    }

    fn read_gray_as<T: Sample>(&self, x: usize, out: &mut [f32]) {
        for (i, value) in out.iter_mut().enumerate() {
            *value = T::read(self.pixel(x + i));
        }
    }
}

/// The bytes of one row of an output.
pub(crate) struct RowMut<'a> {
    bytes: &'a mut [u8],
    layout: Layout,
}

/// Rec. 709's luma, for gray pictures.
const LUMA: [f32; 3] = [0.2126, 0.7152, 0.0722];

impl RowMut<'_> {
    pub fn pixel_mut(&mut self, x: usize) -> &mut [u8] {
        let (at, size) = (self.layout.column(x), self.layout.pixel_size());
        &mut self.bytes[at..at + size]
    }

    /// Takes over every pixel of `row`, which is of the same form, byte for byte.
    pub fn copy(&mut self, row: &Row) {
        let size = self.layout.pixel_size();
        let tight = size as isize;
        if self.layout.pixel_stride == tight && row.layout.pixel_stride == tight {
            self.bytes.copy_from_slice(row.bytes);
            return;
        }
        for x in 0..self.layout.width {
            self.pixel_mut(x).copy_from_slice(row.pixel(x));
        }
    }

    /// Moves the colour of the pixels from column `x` on to display-encoded `rgb`, as far as `coverage` says: 1 is all
    /// the way. Pixels of coverage 0 keep their bytes, and every pixel its alpha. `rgb` is overwritten.
    ///
    /// The way between is taken in the picture's own values, as compositors do.
    pub fn blend(&mut self, x: usize, rgb: &mut [f32], coverage: &[f32]) {
        if self.layout.channels.colors() == 1 {
            for rgb in rgb.chunks_exact_mut(3) {
                rgb[0] = rgb.iter().zip(LUMA).map(|(v, w)| v * w).sum();
            }
        }
        if self.layout.transfer == Transfer::Linear {
            decode(rgb);
        }
        match self.layout.sample {
            SampleType::U8 => self.blend_as::<u8>(x, rgb, coverage),
            SampleType::U16 => self.blend_as::<u16>(x, rgb, coverage),
            SampleType::F16 => self.blend_as::<f16>(x, rgb, coverage),
            SampleType::F32 => self.blend_as::<f32>(x, rgb, coverage),
        }
    }

    /// Sets the last channel of every pixel to 1.
    fn make_opaque(&mut self) {
        let sample = self.layout.sample;
        for x in 0..self.layout.width {
            let pixel = self.pixel_mut(x);
            let alpha = pixel.len() - sample.size();
            match sample {
                SampleType::U8 => u8::write(1.0, &mut pixel[alpha..]),
                SampleType::U16 => u16::write(1.0, &mut pixel[alpha..]),
                SampleType::F16 => f16::write(1.0, &mut pixel[alpha..]),
                SampleType::F32 => f32::write(1.0, &mut pixel[alpha..]),
            }
        }
    }

    fn blend_as<T: Sample>(&mut self, x: usize, rgb: &[f32], coverage: &[f32]) {
        let colors = self.layout.channels.colors();
        for (i, (rgb, &coverage)) in rgb.chunks_exact(3).zip(coverage).enumerate() {
            if coverage <= 0.0 {
                continue;
            }
            let pixel = self.pixel_mut(x + i);
            for (bytes, &new) in pixel.chunks_exact_mut(T::SIZE).zip(&rgb[..colors]) {
                // The old value may be infinite or NaN, which a product with 0 would let through.
                let value = if coverage >= 1.0 {
                    new
                } else {
                    let old = T::read(bytes);
                    old + (new - old) * coverage
                };
                T::write(value, bytes);
            }
        }
    }
}

/// A stored sample; black is 0 and white is 1.
trait Sample {
    const SIZE: usize;
    fn read(bytes: &[u8]) -> f32;
    fn write(value: f32, bytes: &mut [u8]);
}

impl Sample for u8 {
    const SIZE: usize = 1;
    fn read(bytes: &[u8]) -> f32 {
        f32::from(bytes[0]) / 255.0
    }
    fn write(value: f32, bytes: &mut [u8]) {
        bytes[0] = (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
    }
}

impl Sample for u16 {
    const SIZE: usize = 2;
    fn read(bytes: &[u8]) -> f32 {
        f32::from(u16::from_ne_bytes([bytes[0], bytes[1]])) / 65535.0
    }
    fn write(value: f32, bytes: &mut [u8]) {
        bytes[..2].copy_from_slice(&((value.clamp(0.0, 1.0) * 65535.0 + 0.5) as u16).to_ne_bytes());
    }
}

impl Sample for f16 {
    const SIZE: usize = 2;
    fn read(bytes: &[u8]) -> f32 {
        f16::from_ne_bytes([bytes[0], bytes[1]]).to_f32()
    }
    fn write(value: f32, bytes: &mut [u8]) {
        let value = value.clamp(f16::MIN.to_f32(), f16::MAX.to_f32());
        bytes[..2].copy_from_slice(&f16::from_f32(value).to_ne_bytes());
    }
}

impl Sample for f32 {
    const SIZE: usize = 4;
    fn read(bytes: &[u8]) -> f32 {
        f32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
    fn write(value: f32, bytes: &mut [u8]) {
        bytes[..4].copy_from_slice(&value.clamp(f32::MIN, f32::MAX).to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLES: [SampleType; 4] = [SampleType::U8, SampleType::U16, SampleType::F16, SampleType::F32];
    const CHANNELS: [Channels; 4] = [Channels::Gray, Channels::GrayAlpha, Channels::Rgb, Channels::Rgba];

    #[test]
    fn pixels_outside_the_bytes_are_refused() {
        let layout = Layout::tight(4, 3, Channels::Rgb, SampleType::U16);
        assert!(View::new(&[0; 72], layout).is_ok());
        assert!(View::new(&[0; 71], layout).is_err());
        let upward = Layout { row_stride: -24, ..layout };
        assert!(View::new(&[0; 72], upward).is_err(), "row 1 lies before the bytes");
        assert!(View::new(&[0; 72], Layout { offset: 48, ..upward }).is_ok());
        assert!(View::new(&[0; 72], Layout { pixel_stride: 5, ..layout }).is_err(), "pixels overlap");
        assert!(View::new(&[0; 72], Layout { row_stride: isize::MAX, ..layout }).is_err());
        assert!(View::new(&[0; 72], Layout { width: 0, ..layout }).is_err());
        assert!(View::new(&[0; 72], Layout { row_stride: 0, ..layout }).is_ok(), "one row, repeated");
        assert!(ViewMut::new(&mut [0; 72], Layout { row_stride: 0, ..layout }).is_err());
        assert!(ViewMut::new(&mut [0; 72], layout).is_ok());
    }

    /// The same picture in every form and at every kind of stride reads the same.
    #[test]
    fn strides_of_either_sign_reach_the_same_pixels() {
        for sample in SAMPLES {
            for channels in CHANNELS {
                let size = channels.count() * sample.size();
                let (w, h) = (3usize, 2usize);
                let value = |x: usize, y: usize, c: usize| ((x * 2 + y * 7 + c) * 51 % 256) as f32 / 255.0;
                for (pixel_stride, row_stride) in [
                    (size as isize, (size * w) as isize),
                    (-(size as isize) - 1, 80),
                    (size as isize + 3, -80),
                    (-(size as isize), -80),
                ] {
                    let mut bytes = vec![0xAA; 400];
                    let tight = Layout::tight(w, h, channels, sample);
                    let layout = Layout { offset: 200, row_stride, pixel_stride, ..tight };
                    {
                        let mut out = ViewMut::new(&mut bytes, layout).unwrap();
                        out.rows_mut(0, h).for_each(|(y, mut row)| {
                            let mut rgb: Vec<f32> = (0..w * 3).map(|i| value(i / 3, y, i % 3)).collect();
                            row.blend(0, &mut rgb, &[1.0; 3]);
                        });
                    }
                    let view = View::new(&bytes, layout).unwrap();
                    for y in 0..h {
                        let mut rgb = vec![0.0; w * 3];
                        view.row(y).read(0, &mut rgb);
                        for (i, got) in rgb.iter().enumerate() {
                            let want = match channels.colors() {
                                3 => value(i / 3, y, i % 3),
                                _ => (0..3).map(|c| value(i / 3, y, c) * LUMA[c]).sum(),
                            };
                            // Half a step of 8 bits, the coarsest form.
                            assert!(
                                (got - want).abs() <= 0.5 / 255.0 + 1e-6,
                                "{layout:?} row {y} sample {i}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for sample in SAMPLES {
            for transfer in [Transfer::Srgb, Transfer::Linear] {
                let mut bytes = [0u8; 12];
                let layout = Layout { transfer, ..Layout::tight(1, 1, Channels::Rgb, sample) };
                let values = if sample.is_float() { [-0.25, 0.5, 4.0] } else { [0.0, 0.5, 1.0] };
                ViewMut::new(&mut bytes, layout)
                    .unwrap()
                    .rows_mut(0, 1)
                    .for_each(|(_, mut row)| row.blend(0, &mut values.clone(), &[1.0]));
                let mut got = [0.0; 3];
                View::new(&bytes, layout).unwrap().row(0).read(0, &mut got);
                for (got, want) in got.iter().zip(values) {
                    // Linear 8 bits are 1/255 apart, where the curve is at most 1.2 steep at 0.5.
                    assert!((got - want).abs() < 3e-3, "{sample:?} {transfer:?}: {got} for {want}");
                }
            }
        }
    }
}
