//! Views: the caller's pictures, masks and label maps, where they lie.

use std::ffi::c_void;

use half::f16;

use super::handle::null;
use crate::image::{LabelMap, Picture, RgbImage, Samples};
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

// Frozen layouts; the C test asserts the same.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(
    size_of::<ca2_image_view>() == 40
        && size_of::<ca2_image_view_mut>() == 40
        && size_of::<ca2_label_view>() == 40
);

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

fn pixel_bytes(name: &str, format: u32) -> Result<u32> {
    match format {
        CA2_PIXEL_GRAY_U8 => Ok(1),
        CA2_PIXEL_GRAY_ALPHA_U8 | CA2_PIXEL_GRAY_U16 | CA2_PIXEL_GRAY_F16 => Ok(2),
        CA2_PIXEL_RGB_U8 => Ok(3),
        CA2_PIXEL_RGBA_U8 | CA2_PIXEL_GRAY_ALPHA_U16 | CA2_PIXEL_GRAY_ALPHA_F16 | CA2_PIXEL_GRAY_F32 => Ok(4),
        CA2_PIXEL_RGB_U16 | CA2_PIXEL_RGB_F16 => Ok(6),
        CA2_PIXEL_RGBA_U16 | CA2_PIXEL_RGBA_F16 | CA2_PIXEL_GRAY_ALPHA_F32 => Ok(8),
        CA2_PIXEL_RGB_F32 => Ok(12),
        CA2_PIXEL_RGBA_F32 => Ok(16),
        other => Err(Error::unsupported(format!("{name}: format is {other:#x}, which is no CA2_PIXEL_*"))),
    }
}

/// A frozen struct of the caller's, by value.
///
/// # Safety
/// `view` is NULL or a view.
pub(super) unsafe fn frozen<T: Copy>(view: *const T, name: &str) -> Result<T> {
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

fn is_linear(name: &str, transfer: u32) -> Result<bool> {
    match transfer {
        CA2_TRANSFER_SRGB => Ok(false),
        CA2_TRANSFER_LINEAR => Ok(true),
        other => Err(Error::unsupported(format!("{name}: transfer is {other}, which is no CA2_TRANSFER_*"))),
    }
}

/// A picture of the caller's.
pub(super) struct Input {
    view: ca2_image_view,
    layout: Layout,
}

impl Input {
    /// # Safety
    /// `view` is NULL or a view that tells the truth for as long as this lives.
    pub unsafe fn new(view: *const ca2_image_view, name: &str) -> Result<Self> {
        // SAFETY: as the caller says.
        let view = unsafe { frozen(view, name)? };
        let bytes = pixel_bytes(name, view.format)?;
        is_linear(name, view.transfer)?;
        let strides = (view.row_stride, view.pixel_stride);
        let layout = Layout::new(name, view.data, (view.width, view.height), strides, bytes)?;
        Ok(Self { view, layout })
    }

    pub fn layout(&self) -> Layout {
        self.layout
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: as the maker of this said.
        unsafe { self.layout.bytes(self.view.data) }
    }

    /// The picture; a linear one display-encoded, as floats.
    pub fn picture(&self) -> Result<Picture> {
        self.read(self.view.transfer == CA2_TRANSFER_LINEAR)
    }

    /// The samples as they are.
    pub fn values(&self) -> Result<Picture> {
        self.read(false)
    }

    fn read(&self, linear: bool) -> Result<Picture> {
        let Form { kind, channels, colors } = Form::of(self.view.format);
        let memory = self.bytes();
        let two = |at: usize| [memory[at], memory[at + 1]];
        let float = |at: usize| match kind {
            Kind::U8 => f32::from(memory[at]) / 255.0,
            Kind::U16 => f32::from(u16::from_ne_bytes(two(at))) / 65535.0,
            Kind::F16 => f16::from_ne_bytes(two(at)).to_f32(),
            Kind::F32 => f32::from_ne_bytes(std::array::from_fn(|k| memory[at + k])),
        };
        let (width, height) = (self.view.width as usize, self.view.height as usize);
        let places = self.layout.pixels(width, height).flat_map(|at| (0..channels).map(move |c| (at, c)));
        let places = places.map(|(at, c)| (at + c * kind.bytes(), c < colors));
        let samples = match kind {
            Kind::U8 if !linear => Samples::U8(places.map(|(at, _)| memory[at]).collect()),
            Kind::U16 if !linear => Samples::U16(places.map(|(at, _)| u16::from_ne_bytes(two(at))).collect()),
            _ => {
                let encoded = |(at, color)| if color && linear { encode(float(at)) } else { float(at) };
                Samples::F32(places.map(encoded).collect())
            }
        };
        Picture::new(width, height, channels, samples)
    }
}

/// A pixel format.
struct Form {
    kind: Kind,
    channels: usize,
    /// Channels without alpha.
    colors: usize,
}

#[derive(Clone, Copy)]
enum Kind {
    U8,
    U16,
    F16,
    F32,
}

impl Kind {
    fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

impl Form {
    /// Of a code that [`pixel_bytes`] knows.
    fn of(format: u32) -> Self {
        let kind = [Kind::U8, Kind::U16, Kind::F16, Kind::F32][(format as usize >> 4) - 1];
        let channels = (format & 15) as usize;
        Self { kind, channels, colors: if channels < 3 { 1 } else { 3 } }
    }
}

/// The transfer function of sRGB, mirrored below 0.
fn encode(v: f32) -> f32 {
    let u = v.abs();
    let e = if u <= 0.003_130_8 { u * 12.92 } else { 1.055 * u.powf(1.0 / 2.4) - 0.055 };
    e.copysign(v)
}

/// The inverse of [`encode`].
fn decode(v: f32) -> f32 {
    let u = v.abs();
    let e = if u <= 0.040_45 { u / 12.92 } else { ((u + 0.055) / 1.055).powf(2.4) };
    e.copysign(v)
}

/// Where a result goes. Its memory is not touched before it is written.
pub(super) struct Output {
    view: ca2_image_view_mut,
    layout: Layout,
    name: String,
}

impl Output {
    /// # Safety
    /// `view` is NULL or a view that tells the truth for as long as this lives.
    pub unsafe fn new(view: *const ca2_image_view_mut, name: &str) -> Result<Self> {
        // SAFETY: as the caller says.
        let view = unsafe { frozen(view, name)? };
        let bytes = pixel_bytes(name, view.format)?;
        is_linear(name, view.transfer)?;
        let strides = (view.row_stride, view.pixel_stride);
        let layout = Layout::new(name, view.data, (view.width, view.height), strides, bytes)?;
        Ok(Self { view, layout, name: name.to_owned() })
    }

    pub fn layout(&self) -> Layout {
        self.layout
    }

    pub fn must_not_overlap(&self, input: Layout, name: &str) -> Result<()> {
        if self.layout.overlaps(&input) {
            return Err(Error::invalid(format!(
                "{} overlaps {name} in memory, bytes between pixels included: give it memory of its own",
                self.name
            )));
        }
        Ok(())
    }

    /// Writes a display-encoded picture, resampled to this size.
    pub fn write_rgb(&mut self, image: RgbImage) {
        self.write(image, self.view.transfer == CA2_TRANSFER_LINEAR);
    }

    /// Writes values that are no light, resampled to this size.
    pub fn write_values(&mut self, image: RgbImage) {
        self.write(image, false);
    }

    fn write(&mut self, image: RgbImage, linear: bool) {
        let (width, height) = (self.view.width as usize, self.view.height as usize);
        let image = match (image.width, image.height) == (width, height) {
            true => image,
            false => image.resized(width, height),
        };
        let Form { kind, channels, .. } = Form::of(self.view.format);
        let value = |v: f32| if linear { decode(v) } else { v };
        let pixels = self.layout.pixels(width, height);
        let memory = self.bytes();
        for (at, rgb) in pixels.zip(image.pixels.chunks_exact(3)) {
            for c in 0..channels {
                let v = match (channels, c) {
                    (2, 1) | (4, 3) => 1.0,
                    // Rec. 709's luma.
                    (1 | 2, _) => value(rgb[0] * 0.2126 + rgb[1] * 0.7152 + rgb[2] * 0.0722),
                    _ => value(rgb[c]),
                };
                put(kind, memory, at + c * kind.bytes(), v);
            }
        }
    }

    /// Writes `result`, in the form that [`Input::picture`] gave `before`: samples that did not change are the content's own.
    pub fn write_changed(&mut self, before: &Picture, result: &Picture, content: &Input) {
        let Form { kind, channels, colors } = Form::of(self.view.format);
        let linear = self.view.transfer == CA2_TRANSFER_LINEAR;
        let (width, height, size) = (self.view.width as usize, self.view.height as usize, kind.bytes());
        let in_place = self.layout == content.layout;
        let sources = content.layout.pixels(width, height);
        let places = self.layout.pixels(width, height).zip(sources).enumerate();
        // Never both at once where they are the same memory.
        let source: &[u8] = if in_place { &[] } else { content.bytes() };
        let memory = self.bytes();
        for (pixel, (to, from)) in places {
            for c in 0..channels {
                let (i, to, from) = (pixel * channels + c, to + c * size, from + c * size);
                let value = match (before.samples(), result.samples()) {
                    (Samples::U8(a), Samples::U8(b)) if a[i] != b[i] => f32::from(b[i]) / 255.0,
                    (Samples::U16(a), Samples::U16(b)) if a[i] != b[i] => f32::from(b[i]) / 65535.0,
                    (Samples::F32(a), Samples::F32(b)) if a[i].to_bits() != b[i].to_bits() => b[i],
                    _ => {
                        if !in_place {
                            memory[to..to + size].copy_from_slice(&source[from..from + size]);
                        }
                        continue;
                    }
                };
                put(kind, memory, to, if linear && c < colors { decode(value) } else { value });
            }
        }
    }

    /// Refuses an output of another form than the content, or that overlaps it in part.
    pub fn must_fit(&self, content: &Input, name: &str) -> Result<()> {
        let (a, b) = (&self.view, &content.view);
        if (a.width, a.height) != (b.width, b.height) {
            return Err(Error::invalid(format!(
                "{} is {} x {} pixels, but {name} is {} x {}: make them the same size",
                self.name, a.width, a.height, b.width, b.height
            )));
        }
        if (a.format, a.transfer) != (b.format, b.transfer) {
            return Err(Error::invalid(format!(
                "{} has format {:#x} and transfer {}, but {name} has {:#x} and {}: make them the same",
                self.name, a.format, a.transfer, b.format, b.transfer
            )));
        }
        if self.layout == content.layout {
            return Ok(());
        }
        self.must_not_overlap(content.layout, name)
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: as the maker of this said; nothing else reads or writes these bytes until the call returns.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.view.data.cast::<u8>().sub(self.layout.first),
                self.layout.length,
            )
        }
    }
}

/// Writes a sample, black at 0 and white at 1.
fn put(kind: Kind, memory: &mut [u8], at: usize, v: f32) {
    match kind {
        Kind::U8 => memory[at] = (v * 255.0).round() as u8,
        Kind::U16 => memory[at..at + 2].copy_from_slice(&((v * 65535.0).round() as u16).to_ne_bytes()),
        Kind::F16 => memory[at..at + 2].copy_from_slice(&f16::from_f32(v).to_ne_bytes()),
        Kind::F32 => memory[at..at + 4].copy_from_slice(&v.to_ne_bytes()),
    }
}
