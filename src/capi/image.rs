//! Views: the caller's pictures, masks and label maps, where they lie.

use std::ffi::c_void;

use super::handle::null;
use crate::image::{self, Channels, LabelMap, RgbImage, SampleType, Transfer, View, ViewMut};
use crate::model::Model;
use crate::{Error, Result};

/// 8-bit samples, 0 to 255. A sample type plus 1 for gray, 2 for gray and alpha, 3 for RGB, 4 for RGB and alpha is a pixel
/// format, as below.
pub const CA2_PIXEL_GRAY_U8: u32 = 0x11;
/// Gray and alpha, 8 bits each.
pub const CA2_PIXEL_GRAY_ALPHA_U8: u32 = 0x12;
/// Red, green, blue, 8 bits each.
pub const CA2_PIXEL_RGB_U8: u32 = 0x13;
/// Red, green, blue, alpha, 8 bits each.
pub const CA2_PIXEL_RGBA_U8: u32 = 0x14;
/// Gray, 16 bits, 0 to 65535, in the machine's byte order as all larger samples.
pub const CA2_PIXEL_GRAY_U16: u32 = 0x21;
/// Gray and alpha, 16 bits each.
pub const CA2_PIXEL_GRAY_ALPHA_U16: u32 = 0x22;
/// Red, green, blue, 16 bits each.
pub const CA2_PIXEL_RGB_U16: u32 = 0x23;
/// Red, green, blue, alpha, 16 bits each.
pub const CA2_PIXEL_RGBA_U16: u32 = 0x24;
/// Gray, IEEE 754 half precision, black at 0.0 and white at 1.0 as for float.
pub const CA2_PIXEL_GRAY_F16: u32 = 0x31;
/// Gray and alpha, half precision.
pub const CA2_PIXEL_GRAY_ALPHA_F16: u32 = 0x32;
/// Red, green, blue, half precision.
pub const CA2_PIXEL_RGB_F16: u32 = 0x33;
/// Red, green, blue, alpha, half precision.
pub const CA2_PIXEL_RGBA_F16: u32 = 0x34;
/// Gray, float, black at 0.0 and white at 1.0; values beyond are kept where nothing is changed.
pub const CA2_PIXEL_GRAY_F32: u32 = 0x41;
/// Gray and alpha, float.
pub const CA2_PIXEL_GRAY_ALPHA_F32: u32 = 0x42;
/// Red, green, blue, float.
pub const CA2_PIXEL_RGB_F32: u32 = 0x43;
/// Red, green, blue, alpha, float.
pub const CA2_PIXEL_RGBA_F32: u32 = 0x44;

/// Display-encoded samples with the transfer function of sRGB (IEC 61966-2-1).
pub const CA2_TRANSFER_SRGB: u32 = 0;
/// Samples proportional to light, with the primaries of sRGB.
pub const CA2_TRANSFER_LINEAR: u32 = 1;

/// Class indices in 8 bits.
pub const CA2_LABEL_U8: u32 = 1;
/// Class indices in 16 bits, in the machine's byte order.
pub const CA2_LABEL_U16: u32 = 2;
/// Class indices in 32 bits, in the machine's byte order.
pub const CA2_LABEL_U32: u32 = 3;
/// Red, green, blue of 8 bits each: painted in the classes' colours. A colour is read as the class with the nearest one, at
/// most 24 off in every channel.
pub const CA2_LABEL_RGB_U8: u32 = 4;

/// A picture or mask of the caller's that is read: `width` x `height` pixels, the top left one at `data`.
///
/// Pixel (x, y) lies at `data` + y * `row_stride` + x * `pixel_stride`, in bytes. Strides may be negative, as for rows stored
/// from the bottom up, where `data` points to the top row, stored last. A stride of 0 means tight: pixels, or rows, follow
/// each other without gaps. Nothing needs to be aligned. Alpha is straight, not premultiplied. A mask is a gray picture: 0
/// keeps the content, white changes it; its transfer is not looked at.
///
/// Sides are at least 1 and together at most 2^30 pixels. This struct never grows.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct ca2_image_view {
    /// The top left pixel.
    pub data: *const c_void,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// CA2_PIXEL_*.
    pub format: u32,
    /// CA2_TRANSFER_*.
    pub transfer: u32,
    /// Bytes from a pixel to the one below it; 0: tight.
    pub row_stride: i64,
    /// Bytes from a pixel to the one on its right; 0: tight.
    pub pixel_stride: i64,
}

/// A picture of the caller's that is written: as ca2_image_view.
///
/// It may be exactly the content (the same `data`, size, format and strides), which is then changed in place; it must not
/// overlap an input in any other way. Pixels must not overlap each other. All bytes from its first to its last pixel must be
/// the call's own until it returns; those between the pixels are not changed. This struct never grows.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct ca2_image_view_mut {
    /// The top left pixel.
    pub data: *mut c_void,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// CA2_PIXEL_*.
    pub format: u32,
    /// CA2_TRANSFER_*.
    pub transfer: u32,
    /// Bytes from a pixel to the one below it; 0: tight.
    pub row_stride: i64,
    /// Bytes from a pixel to the one on its right; 0: tight.
    pub pixel_stride: i64,
}

/// A label map of the caller's: one class for each pixel, laid out as in ca2_image_view. This struct never grows.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct ca2_label_view {
    /// The top left pixel's class.
    pub data: *const c_void,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// CA2_LABEL_*.
    pub format: u32,
    /// Always 0.
    pub reserved: u32,
    /// Bytes from a pixel to the one below it; 0: tight.
    pub row_stride: i64,
    /// Bytes from a pixel to the one on its right; 0: tight.
    pub pixel_stride: i64,
}

/// Where a view's bytes are: `length` bytes from `start`, the first pixel `first` bytes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub start: usize,
    pub length: usize,
    pub first: usize,
    pub row_stride: isize,
    pub pixel_stride: isize,
}

/// Most pixels of a view.
const MAX_PIXELS: u64 = 1 << 30;

impl Layout {
    /// Checks a view's numbers, before its memory is touched.
    fn new(
        name: &str,
        data: *const c_void,
        (width, height): (u32, u32),
        (row_stride, pixel_stride): (i64, i64),
        pixel_bytes: u32,
    ) -> Result<Self> {
        if data.is_null() {
            return Err(null(&format!("{name}: data")));
        }
        if width == 0 || height == 0 {
            return Err(Error::invalid(format!(
                "{name} is {width} x {height} pixels: each side is at least 1"
            )));
        }
        if u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(Error::invalid(format!(
                "{name} is {width} x {height} pixels, more than the {MAX_PIXELS} of a picture"
            )));
        }
        let bytes = i128::from(pixel_bytes);
        let (columns, rows) = (i128::from(width - 1), i128::from(height - 1));
        let pixel = if pixel_stride == 0 { bytes } else { i128::from(pixel_stride) };
        // A tight row is as long as its pixels lie apart.
        let row = if row_stride == 0 { i128::from(width) * pixel.abs() } else { i128::from(row_stride) };
        // Rows of whole pixels beside each other, or columns of them (a transposed picture).
        let apart = |inner: i128, count: i128, outer: i128, times: i128| {
            (count == 0 || inner.abs() >= bytes) && (times == 0 || outer.abs() >= inner.abs() * count + bytes)
        };
        if !apart(pixel, columns, row, rows) && !apart(row, rows, pixel, columns) {
            return Err(Error::invalid(format!(
                "{name}: with row_stride {row_stride} and pixel_stride {pixel_stride}, pixels of {bytes} bytes overlap in \
                 {width} x {height} pixels"
            )));
        }
        let (across, down) = (pixel * columns, row * rows);
        let first = -(across.min(0) + down.min(0));
        let length = across.abs() + down.abs() + bytes;
        let start = data.addr() as i128 - first;
        let fits = start > 0 && length <= isize::MAX as i128 && start + length <= isize::MAX as i128;
        if !fits {
            return Err(Error::invalid(format!(
                "{name}: {width} x {height} pixels with row_stride {row_stride} and pixel_stride {pixel_stride} are {length} \
                 bytes, which cannot be in memory"
            )));
        }
        Ok(Self {
            start: start as usize,
            length: length as usize,
            first: first as usize,
            row_stride: row as isize,
            pixel_stride: pixel as isize,
        })
    }

    /// Where each pixel begins in the bytes, row by row.
    fn pixels(self, width: usize, height: usize) -> impl Iterator<Item = usize> {
        (0..height).flat_map(move |y| {
            let row = self.first as isize + y as isize * self.row_stride;
            (0..width).map(move |x| (row + x as isize * self.pixel_stride) as usize)
        })
    }

    pub fn overlaps(&self, other: &Self) -> bool {
        self.start < other.start + other.length && other.start < self.start + self.length
    }

    /// The bytes.
    ///
    /// # Safety
    /// `data` is the pointer that this was made of, and the view tells the truth.
    unsafe fn bytes<'a>(&self, data: *const c_void) -> &'a [u8] {
        // SAFETY: as the caller says, all bytes from the first to the last pixel are one object's, and of a possible length.
        unsafe { std::slice::from_raw_parts(data.cast::<u8>().sub(self.first), self.length) }
    }
}

fn form(name: &str, format: u32) -> Result<(SampleType, Channels)> {
    Ok(match format {
        CA2_PIXEL_GRAY_U8 => (SampleType::U8, Channels::Gray),
        CA2_PIXEL_GRAY_ALPHA_U8 => (SampleType::U8, Channels::GrayAlpha),
        CA2_PIXEL_RGB_U8 => (SampleType::U8, Channels::Rgb),
        CA2_PIXEL_RGBA_U8 => (SampleType::U8, Channels::Rgba),
        CA2_PIXEL_GRAY_U16 => (SampleType::U16, Channels::Gray),
        CA2_PIXEL_GRAY_ALPHA_U16 => (SampleType::U16, Channels::GrayAlpha),
        CA2_PIXEL_RGB_U16 => (SampleType::U16, Channels::Rgb),
        CA2_PIXEL_RGBA_U16 => (SampleType::U16, Channels::Rgba),
        CA2_PIXEL_GRAY_F16 => (SampleType::F16, Channels::Gray),
        CA2_PIXEL_GRAY_ALPHA_F16 => (SampleType::F16, Channels::GrayAlpha),
        CA2_PIXEL_RGB_F16 => (SampleType::F16, Channels::Rgb),
        CA2_PIXEL_RGBA_F16 => (SampleType::F16, Channels::Rgba),
        CA2_PIXEL_GRAY_F32 => (SampleType::F32, Channels::Gray),
        CA2_PIXEL_GRAY_ALPHA_F32 => (SampleType::F32, Channels::GrayAlpha),
        CA2_PIXEL_RGB_F32 => (SampleType::F32, Channels::Rgb),
        CA2_PIXEL_RGBA_F32 => (SampleType::F32, Channels::Rgba),
        other => {
            return Err(Error::unsupported(format!("{name}: format is {other:#x}, which is no CA2_PIXEL_*")));
        }
    })
}

/// A frozen struct of the caller's, by value.
///
/// # Safety
/// `view` is NULL or a view.
unsafe fn frozen<T: Copy>(view: *const T, name: &str) -> Result<T> {
    if view.is_null() {
        return Err(null(name));
    }
    if !view.addr().is_multiple_of(align_of::<T>()) {
        return Err(Error::invalid(format!("{name} is not aligned: it points to no view")));
    }
    // SAFETY: not NULL, aligned, and valid as the caller says.
    Ok(unsafe { view.read() })
}

/// Where a label map is.
///
/// # Safety
/// `view` is NULL or a view.
pub(super) unsafe fn label_layout(view: *const ca2_label_view, name: &str) -> Result<Layout> {
    // SAFETY: as the caller says.
    let view = unsafe { frozen(view, name)? };
    let bytes = match view.format {
        CA2_LABEL_U8 => 1,
        CA2_LABEL_U16 => 2,
        CA2_LABEL_U32 => 4,
        CA2_LABEL_RGB_U8 => 3,
        other => {
            return Err(Error::unsupported(format!("{name}: format is {other}, which is no CA2_LABEL_*")));
        }
    };
    if view.reserved != 0 {
        return Err(Error::unsupported(format!("{name}: reserved is {}, not 0", view.reserved)));
    }
    Layout::new(name, view.data, (view.width, view.height), (view.row_stride, view.pixel_stride), bytes)
}

/// A label map's width and height.
///
/// # Safety
/// `view` is NULL or a view.
pub(super) unsafe fn label_size(view: *const ca2_label_view, name: &str) -> Result<(usize, usize)> {
    // SAFETY: as the caller says.
    let (_, view) = unsafe { (label_layout(view, name)?, frozen(view, name)?) };
    Ok((view.width as usize, view.height as usize))
}

/// Bytes of a label map's copy: one a pixel, and two more while it is checked.
pub(super) fn label_bytes((width, height): (usize, usize)) -> u64 {
    3 * width as u64 * height as u64
}

/// Reads a label map of a model's classes.
///
/// # Safety
/// `view` is NULL or a view that tells the truth.
pub(super) unsafe fn labels(view: *const ca2_label_view, name: &str, model: &Model) -> Result<LabelMap> {
    // SAFETY: as the caller says.
    let (layout, view) = unsafe { (label_layout(view, name)?, frozen(view, name)?) };
    // SAFETY: as the caller says.
    let memory = unsafe { layout.bytes(view.data) };
    let (width, height) = (view.width as usize, view.height as usize);
    let pixels = layout.pixels(width, height);
    let classes = model.classes();
    let map = match view.format {
        CA2_LABEL_U8 => {
            LabelMap::from_indices(width, height, pixels.map(|at| u32::from(memory[at])), classes)
        }
        CA2_LABEL_U16 => {
            let value = |at: usize| u32::from(u16::from_ne_bytes([memory[at], memory[at + 1]]));
            LabelMap::from_indices(width, height, pixels.map(value), classes)
        }
        CA2_LABEL_U32 => {
            let value = |at: usize| u32::from_ne_bytes(std::array::from_fn(|k| memory[at + k]));
            LabelMap::from_indices(width, height, pixels.map(value), classes)
        }
        _ => {
            let color = |at: usize| std::array::from_fn(|k| memory[at + k]);
            LabelMap::from_colors(width, height, pixels.map(color), classes)
        }
    };
    map.map_err(|e| Error::invalid(format!("{name}: {e}")))
}

/// A picture of the caller's.
pub(super) struct Input {
    view: ca2_image_view,
    bytes: Layout,
    layout: image::Layout,
}

impl Input {
    /// # Safety
    /// `view` is NULL or a view that tells the truth for as long as this lives.
    pub unsafe fn new(view: *const ca2_image_view, name: &str) -> Result<Self> {
        // SAFETY: as the caller says.
        let view = unsafe { frozen(view, name)? };
        let ca2_image_view { data, width, height, format, transfer, row_stride, pixel_stride } = view;
        let (bytes, layout) =
            layout(name, data, (width, height), (format, transfer), (row_stride, pixel_stride))?;
        Ok(Self { view, bytes, layout })
    }

    pub fn bytes(&self) -> Layout {
        self.bytes
    }

    pub fn layout(&self) -> &image::Layout {
        &self.layout
    }

    /// Its pixels.
    pub fn pixels(&self) -> Result<View<'_>> {
        // SAFETY: as the maker of this said.
        View::new(unsafe { self.bytes.bytes(self.view.data) }, self.layout)
    }
}

/// Where a picture's bytes are, and what they hold.
fn layout(
    name: &str,
    data: *const c_void,
    (width, height): (u32, u32),
    (format, transfer): (u32, u32),
    strides: (i64, i64),
) -> Result<(Layout, image::Layout)> {
    let (sample, channels) = form(name, format)?;
    let transfer = match transfer {
        CA2_TRANSFER_SRGB => Transfer::Srgb,
        CA2_TRANSFER_LINEAR => Transfer::Linear,
        other => {
            return Err(Error::unsupported(format!(
                "{name}: transfer is {other}, which is no CA2_TRANSFER_*"
            )));
        }
    };
    let pixel = (sample.size() * channels.count()) as u32;
    let bytes = Layout::new(name, data, (width, height), strides, pixel)?;
    let layout = image::Layout {
        width: width as usize,
        height: height as usize,
        channels,
        sample,
        transfer,
        offset: bytes.first,
        row_stride: bytes.row_stride,
        pixel_stride: bytes.pixel_stride,
    };
    Ok((bytes, layout))
}

/// Where a result goes. Its memory is not touched before it is written.
pub(super) struct Output {
    view: ca2_image_view_mut,
    bytes: Layout,
    layout: image::Layout,
    name: String,
}

impl Output {
    /// # Safety
    /// `view` is NULL or a view that tells the truth for as long as this lives.
    pub unsafe fn new(view: *const ca2_image_view_mut, name: &str) -> Result<Self> {
        // SAFETY: as the caller says.
        let view = unsafe { frozen(view, name)? };
        let ca2_image_view_mut { data, width, height, format, transfer, row_stride, pixel_stride } = view;
        let (bytes, layout) =
            layout(name, data, (width, height), (format, transfer), (row_stride, pixel_stride))?;
        Ok(Self { view, bytes, layout, name: name.to_owned() })
    }

    pub fn bytes(&self) -> Layout {
        self.bytes
    }

    pub fn must_not_overlap(&self, input: Layout, name: &str) -> Result<()> {
        if self.bytes.overlaps(&input) {
            return Err(Error::invalid(format!(
                "{} overlaps {name} in memory, bytes between pixels included: give it memory of its own",
                self.name
            )));
        }
        Ok(())
    }

    /// Whether this is exactly the content, which is then changed in place. Refuses an output of another form than the
    /// content, or that overlaps it in part.
    pub fn is_content(&self, content: &Input) -> Result<bool> {
        let (a, b) = (&self.view, &content.view);
        if (a.width, a.height) != (b.width, b.height) {
            return Err(Error::invalid(format!(
                "{} is {} x {} pixels, but the content is {} x {}: make them the same size",
                self.name, a.width, a.height, b.width, b.height
            )));
        }
        if (a.format, a.transfer) != (b.format, b.transfer) {
            return Err(Error::invalid(format!(
                "{} has format {:#x} and transfer {}, but the content has {:#x} and {}: make them the same",
                self.name, a.format, a.transfer, b.format, b.transfer
            )));
        }
        if self.bytes == content.bytes {
            return Ok(true);
        }
        self.must_not_overlap(content.bytes, "content")?;
        Ok(false)
    }

    /// Refuses rows that lie in each other, as those of a transposed picture do.
    pub fn check_rows(&self) -> Result<()> {
        let image::Layout { width, height, row_stride, pixel_stride, .. } = self.layout;
        let extent = (width - 1) * pixel_stride.unsigned_abs() + self.layout.pixel_size();
        if height == 1 || row_stride.unsigned_abs() >= extent {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "{}: with row_stride {row_stride} and pixel_stride {pixel_stride} its rows lie in each other: an output has them \
             one after another",
            self.name
        )))
    }

    /// Its pixels, to write.
    pub fn pixels(&mut self) -> Result<ViewMut<'_>> {
        let layout = self.layout;
        ViewMut::new(self.memory(), layout)
    }

    fn memory(&mut self) -> &mut [u8] {
        // SAFETY: as the maker of this said; nothing else reads or writes these bytes until the call returns.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.view.data.cast::<u8>().sub(self.bytes.first),
                self.bytes.length,
            )
        }
    }

    /// A picture of this form without gaps, and the bytes it needs.
    pub fn tight(&self) -> (image::Layout, usize) {
        let image::Layout { width, height, channels, sample, transfer, .. } = self.layout;
        let tight = image::Layout { transfer, ..image::Layout::tight(width, height, channels, sample) };
        (tight, width * height * tight.pixel_size())
    }

    /// Copies a picture of this form without gaps.
    pub fn write_tight(&mut self, picture: &[u8]) {
        let size = self.layout.pixel_size();
        let (width, height) = (self.layout.width, self.layout.height);
        let places = self.bytes.pixels(width, height);
        let bytes = self.memory();
        for (pixel, at) in picture.chunks_exact(size).zip(places) {
            bytes[at..at + size].copy_from_slice(pixel);
        }
    }

    /// Refuses an output of another size or with colours.
    pub fn check_gray(&self, width: usize, height: usize) -> Result<()> {
        let image::Layout { width: w, height: h, channels, .. } = self.layout;
        if (w, h) != (width, height) {
            return Err(Error::invalid(format!(
                "{} is {w} x {h} pixels, but the content is {width} x {height}: make them the same size",
                self.name
            )));
        }
        match channels.colors() {
            1 => Ok(()),
            _ => {
                Err(Error::invalid(format!("{} is gray, with or without alpha, not {channels:?}", self.name)))
            }
        }
    }

    /// Writes values that are no light, each by its column and row; alpha becomes opaque. Needs a few rows of memory.
    pub fn write_gray(&mut self, value: impl Fn(usize, usize) -> f32) -> Result<()> {
        let image::Layout { width, height, channels, sample, .. } = self.layout;
        let layout = image::Layout::tight(width, 1, channels, sample);
        let size = layout.pixel_size();
        let mut places = self.bytes.pixels(width, height);
        let mut row = vec![0; width * size];
        for y in 0..height {
            let pixels = (0..width).flat_map(|x| [value(x, y); 3]).collect();
            ViewMut::new(&mut row, layout)?.write_opaque(&RgbImage { width, height: 1, pixels })?;
            let bytes = self.memory();
            for (pixel, at) in row.chunks_exact(size).zip(&mut places) {
                bytes[at..at + size].copy_from_slice(pixel);
            }
        }
        Ok(())
    }

    /// Bytes that [`write_rgb`](Self::write_rgb) and [`write_values`](Self::write_values) take.
    pub fn needed(&self) -> u64 {
        let pixels = (self.layout.width * self.layout.height) as u64;
        pixels * (12 + self.layout.pixel_size() as u64)
    }

    /// Writes a display-encoded picture, resampled to this size; alpha becomes opaque.
    pub fn write_rgb(&mut self, image: RgbImage) -> Result<()> {
        self.write(image, self.layout.transfer)
    }

    /// Writes values that are no light, resampled to this size; alpha becomes opaque.
    pub fn write_values(&mut self, image: RgbImage) -> Result<()> {
        self.write(image, Transfer::Srgb)
    }

    fn write(&mut self, image: RgbImage, transfer: Transfer) -> Result<()> {
        let (tight, length) = self.tight();
        let image = match (image.width, image.height) == (tight.width, tight.height) {
            true => image,
            false => image.resized(tight.width, tight.height),
        };
        let mut picture = vec![0; length];
        let layout = image::Layout { transfer, ..tight };
        ViewMut::new(&mut picture, layout)?.write_opaque(&image)?;
        self.write_tight(&picture);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: (u32, u32), strides: (i64, i64)) -> Result<Layout> {
        // Never read.
        Layout::new("it", std::ptr::without_provenance(1 << 20), size, strides, 3)
    }

    #[test]
    fn bytes_lie_from_the_lowest_pixel_to_the_highest() {
        let at = |row, pixel| {
            let l = layout((4, 2), (row, pixel)).unwrap();
            (l.start - (1 << 20), l.first, l.length)
        };
        assert_eq!(at(0, 0), (0, 0, 24));
        assert_eq!(at(100, 5), (0, 0, 118));
        assert_eq!(at(0, 5), (0, 0, 38), "tight rows of loose pixels");
        let below = |row, pixel, first: usize, length| {
            let l = layout((4, 2), (row, pixel)).unwrap();
            assert_eq!((l.start + l.first, l.first, l.length), (1 << 20, first, length), "{row} {pixel}");
        };
        below(-100, 5, 100, 118);
        below(100, -5, 15, 118);
        below(-100, -5, 115, 118);
        below(3, 6, 0, 24); // transposed
    }

    #[test]
    fn sizes_and_strides_that_cannot_be_are_refused() {
        for size in [(0, 1), (1, 0), (u32::MAX, u32::MAX), (1 << 16, 1 << 15)] {
            assert!(layout(size, (0, 0)).is_err(), "{size:?}");
        }
        for strides in
            [(1, 0), (11, 0), (-11, 0), (0, 2), (0, -1), (i64::MAX, 0), (i64::MIN, 0), (0, i64::MIN), (2, 6)]
        {
            assert!(layout((4, 2), strides).is_err(), "{strides:?}");
        }
        assert!(layout((1, 1), (1, 1)).is_ok(), "one pixel has no neighbour");
        assert!(layout((1 << 15, 1 << 15), (0, 0)).is_ok());
    }

    #[test]
    fn layouts_overlap_by_a_byte() {
        let at = |start: usize| Layout { start, length: 10, first: 0, row_stride: 10, pixel_stride: 1 };
        assert!(at(100).overlaps(&at(109)) && at(109).overlaps(&at(100)));
        assert!(!at(100).overlaps(&at(110)) && !at(110).overlaps(&at(100)));
    }
}
