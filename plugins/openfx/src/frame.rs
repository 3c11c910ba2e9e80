//! Pictures in a host's memory: where their pixels lie, on each other and in their bytes, and how alpha is in their colours.

use std::slice;

use ca2sis::image::{Channels, Layout, SampleType, Transfer, View};
use half::f16;

use crate::fault::{Fault, Result, filled};
use crate::host::Image;
use crate::ofx::*;

/// A picture that a host handed over, until this is dropped.
pub struct Frame<'h> {
    _image: Image<'h>,
    /// The pixels, where they had to be copied.
    own: Option<Vec<u8>>,
    /// Lowest byte of all pixels, and how many bytes there are from it to the end of the last.
    start: *mut u8,
    length: usize,
    layout: Layout,
    /// Columns and rows of the pixels that are there: x1, y1, x2, y2, rows counted upwards.
    pub bounds: [i64; 4],
    /// Columns and rows that the clip has in all.
    pub region: [i64; 4],
    /// Pixels a canonical unit, across and upwards.
    density: [f64; 2],
    premultiplied: bool,
}

impl<'h> Frame<'h> {
    /// `what` names the clip in messages.
    pub fn new(image: Image<'h>, what: &str) -> Result<Self> {
        let props = image.props;
        let missing =
            |name: &'static str| move |_| Fault::failed(format!("{what}: the host's picture has no {name}"));
        // A picture without pixels is none.
        let data = props.pointer(kOfxImagePropData, 0).ok().filter(|data| !data.is_null());
        let data = data.ok_or_else(|| Fault::Missing(format!("{what}: the host's picture has no pixels")))?;
        let bounds = props.ints::<4>(kOfxImagePropBounds).map_err(missing("bounds"))?.map(i64::from);
        let row_bytes = props.int(kOfxImagePropRowBytes, 0).map_err(missing("row bytes"))? as isize;
        let depth = props.string(kOfxImageEffectPropPixelDepth, 0).map_err(missing("pixel depth"))?;
        let components = props.string(kOfxImageEffectPropComponents, 0).map_err(missing("components"))?;
        let odd = |form: &str| Fault::Format(format!("{what}: pixels of form {form} cannot be read"));
        let named = |name: &str, wanted: &std::ffi::CStr| wanted.to_bytes() == name.as_bytes();
        let sample = match depth.as_str() {
            d if named(d, kOfxBitDepthByte) => SampleType::U8,
            d if named(d, kOfxBitDepthShort) => SampleType::U16,
            d if named(d, kOfxBitDepthHalf) => SampleType::F16,
            d if named(d, kOfxBitDepthFloat) => SampleType::F32,
            d => return Err(odd(d)),
        };
        let channels = match components.as_str() {
            c if named(c, kOfxImageComponentRGBA) => Channels::Rgba,
            c if named(c, kOfxImageComponentRGB) => Channels::Rgb,
            c if named(c, kOfxImageComponentAlpha) => Channels::Gray,
            c => return Err(odd(c)),
        };
        let [x1, y1, x2, y2] = bounds;
        let (Ok(width), Ok(height)) = (usize::try_from(x2 - x1), usize::try_from(y2 - y1)) else {
            return Err(Fault::failed(format!("{what}: the host's picture has bounds {bounds:?}")));
        };
        if width == 0 || height == 0 {
            return Err(Fault::Missing(format!("{what}: the host's picture is empty")));
        }
        let tight = Layout::tight(width, height, channels, sample);
        let row = width * tight.pixel_size();
        if row_bytes.unsigned_abs() < row && height > 1 {
            return Err(Fault::failed(format!(
                "{what}: the host's picture has {row_bytes} bytes a row, but {width} pixels have {row}"
            )));
        }
        // The first row in memory is the lowest of the picture, or the uppermost where rows go backwards.
        let below = row_bytes.unsigned_abs() * (height - 1);
        let (start, offset) = if row_bytes < 0 {
            (data.cast::<u8>().wrapping_sub(below), 0)
        } else {
            (data.cast::<u8>(), below)
        };
        let layout = Layout { offset, row_stride: -row_bytes, ..tight };
        let region = match props.ints::<4>(kOfxImagePropRegionOfDefinition) {
            Ok(r) if r[0] < r[2] && r[1] < r[3] => r.map(i64::from),
            _ => bounds,
        };
        let positive =
            |v: crate::host::Result<f64>| v.ok().filter(|v| v.is_finite() && *v > 0.0).unwrap_or(1.0);
        let scale = |i| positive(props.double(kOfxImageEffectPropRenderScale, i));
        let aspect = positive(props.double(kOfxImagePropPixelAspectRatio, 0));
        let alpha = props.string(kOfxImageEffectPropPreMultiplication, 0);
        let premultiplied =
            channels == Channels::Rgba && alpha.is_ok_and(|a| named(&a, kOfxImagePreMultiplied));
        Ok(Self {
            _image: image,
            own: None,
            start,
            length: below + row,
            layout,
            bounds,
            region,
            density: [scale(0) / aspect, scale(1)],
            premultiplied,
        })
    }

    pub fn width(&self) -> usize {
        self.layout.width
    }

    pub fn height(&self) -> usize {
        self.layout.height
    }

    pub fn channels(&self) -> Channels {
        self.layout.channels
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the host's promise about a picture: all pixels of its bounds are there, at the row bytes that it says, and
        // stay until it is handed back, which this value's drop does; or `own`'s. Nobody writes them meanwhile: only an output's are
        // written, through a unique borrow of it, and `keep_apart` sees that no other picture has them.
        unsafe { slice::from_raw_parts(self.start, self.length) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and an output's pixels are the plug-in's to write until it is handed back.
        unsafe { slice::from_raw_parts_mut(self.start, self.length) }
    }

    /// Copies the pixels if they have bytes in common with those of `other`, for hosts that render in place.
    pub fn keep_apart(&mut self, other: &Frame) -> Result<()> {
        let (a, b) = (self.start as usize, other.start as usize);
        if a < b + other.length && b < a + self.length {
            let mut own = filled(self.length, 0u8)?;
            own.copy_from_slice(self.bytes());
            self.start = own.as_mut_ptr();
            self.own = Some(own);
        }
        Ok(())
    }

    /// The pixels as they are, the uppermost row first.
    pub fn view(&self, transfer: Transfer) -> Result<View<'_>> {
        Ok(View::new(self.bytes(), Layout { transfer, ..self.layout })?)
    }

    /// The pixels of row `y` from above.
    fn row(&self, y: usize) -> &[u8] {
        let at = (self.layout.offset as isize + y as isize * self.layout.row_stride) as usize;
        &self.bytes()[at..][..self.layout.width * self.layout.pixel_size()]
    }

    /// Tells pixels and their form apart from others: for what is kept of them.
    pub fn hash(&self, hasher: &mut xxhash_rust::xxh3::Xxh3) {
        hasher.update(format!("{:?} {:?} {:?}", self.bounds, self.region, self.density).as_bytes());
        let Layout { channels, sample, .. } = self.layout;
        hasher.update(format!("{channels:?} {sample:?} {}", self.premultiplied).as_bytes());
        (0..self.height()).for_each(|y| hasher.update(self.row(y)));
    }

    /// For each column of `of`, and each row from above, the column and row of this picture that lie there.
    pub fn places(&self, of: &Frame) -> (Vec<Option<usize>>, Vec<Option<usize>>) {
        let at = |axis: usize, i: i64| {
            let canonical = (i as f64 + 0.5) / of.density[axis];
            let here = (canonical * self.density[axis]).floor() as i64;
            (self.bounds[axis]..self.bounds[axis + 2]).contains(&here).then_some(here)
        };
        let columns = (of.bounds[0]..of.bounds[2]).map(|x| at(0, x).map(|x| (x - self.bounds[0]) as usize));
        let rows = (of.bounds[1]..of.bounds[3]).rev();
        let rows = rows.map(|y| at(1, y).map(|y| (self.bounds[3] - 1 - y) as usize));
        (columns.collect(), rows.collect())
    }

    /// For each column, and each row from above, those of a file of `width` x `height` that is laid over all that the clip has.
    pub fn places_in_file(&self, width: usize, height: usize) -> (Vec<usize>, Vec<usize>) {
        let at = |i: i64, length: i64, size: usize| {
            let part = (i as f64 + 0.5) * size as f64 / length as f64;
            (part.floor().max(0.0) as usize).min(size - 1)
        };
        let [left, bottom, right, top] = self.region;
        let columns = (self.bounds[0]..self.bounds[2]).map(|x| at(x - left, right - left, width));
        // Counted from above, as the file's are.
        let rows = (self.bounds[1]..self.bounds[3]).rev().map(|y| at(top - 1 - y, top - bottom, height));
        (columns.collect(), rows.collect())
    }

    /// The content that this picture is, its alpha taken out of its colours.
    pub fn content(&self, transfer: Transfer) -> Result<Content> {
        if !self.premultiplied || self.opaque() {
            return Ok(Content { straight: None, layout: Layout { transfer, ..self.layout } });
        }
        let Layout { width, height, sample, .. } = self.layout;
        let mut straight = filled(width * height * 4, 0.0f32)?;
        for (y, row) in straight.chunks_exact_mut(width * 4).enumerate() {
            for (straight, stored) in row.chunks_exact_mut(4).zip(self.row(y).chunks_exact(4 * sample.size()))
            {
                let pixel = read(sample, stored);
                // Where nothing covers, colour is light alone: it stays.
                let alpha = if pixel[3] > 0.0 { pixel[3] } else { 1.0 };
                straight.copy_from_slice(&[pixel[0] / alpha, pixel[1] / alpha, pixel[2] / alpha, pixel[3]]);
            }
        }
        let layout = Layout { transfer, ..Layout::tight(width, height, Channels::Rgba, SampleType::F32) };
        Ok(Content { straight: Some(straight), layout })
    }

    /// The mask that this picture is for `of`, row by row from above: its alpha, or its first channel where it has none. Nothing
    /// is covered where it has no pixels.
    pub fn coverage(&self, of: &Frame) -> Result<Vec<f32>> {
        let c = if self.channels() == Channels::Rgba { 3 } else { 0 };
        let (sample, size) = (self.layout.sample, self.layout.pixel_size());
        let (columns, rows) = self.places(of);
        let mut coverage = filled(columns.len() * rows.len(), 0.0f32)?;
        for (out, y) in coverage.chunks_exact_mut(columns.len()).zip(rows) {
            let Some(y) = y else { continue };
            let row = self.row(y);
            for (out, x) in out.iter_mut().zip(&columns) {
                let value = x.map_or(0.0, |x| channel(sample, &row[x * size..], c));
                *out = if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) };
            }
        }
        Ok(coverage)
    }

    /// Whether alpha is 1 everywhere: then colours are the same with and without it.
    fn opaque(&self) -> bool {
        let sample = self.layout.sample;
        (0..self.height())
            .all(|y| self.row(y).chunks_exact(4 * sample.size()).all(|p| read(sample, p)[3] == 1.0))
    }

    /// Writes the pixels of `window` (x1, y1, x2, y2, rows counted upwards): those of `source` as `restyled`, its content and
    /// what was made of that; and nothing where the source has none. Pixels that were not changed are the source's own bytes.
    pub fn write(
        &mut self,
        window: [i64; 4],
        source: &Frame,
        restyled: Option<(&Content, &[u8])>,
    ) -> Result<()> {
        let form = |f: &Frame| (f.layout.channels, f.layout.sample);
        if form(self) != form(source) {
            return Err(Fault::Format(format!(
                "the host's output is {:?}, but the source {:?}: they are to be of one form",
                form(self),
                form(source)
            )));
        }
        let (bounds, from, layout) = (self.bounds, source.bounds, self.layout);
        let size = layout.pixel_size();
        let (left, right) = (window[0].max(bounds[0]), window[2].min(bounds[2]));
        for y in window[1].max(bounds[1])..window[3].min(bounds[3]) {
            if left >= right {
                break;
            }
            let at = (layout.offset as isize + (bounds[3] - 1 - y) as isize * layout.row_stride) as usize;
            let row = at + (left - bounds[0]) as usize * size..at + (right - bounds[0]) as usize * size;
            let out = &mut self.bytes_mut()[row];
            out.fill(0);
            let (low, high) = (left.max(from[0]), right.min(from[2]));
            if low >= high || !(from[1]..from[3]).contains(&y) {
                continue;
            }
            let (x, y) = ((low - from[0]) as usize, (from[3] - 1 - y) as usize);
            let out = &mut out[(low - left) as usize * size..(high - left) as usize * size];
            match restyled {
                Some((content, result)) => content.put(out, source, result, x, y),
                None => out.copy_from_slice(&source.row(y)[x * size..][..out.len()]),
            }
        }
        Ok(())
    }
}

/// A picture as the library takes it: its alpha beside its colours, not in them.
pub struct Content {
    /// Colours without alpha, where they had to be made; else the picture is as its host has it.
    straight: Option<Vec<f32>>,
    layout: Layout,
}

impl Content {
    /// `frame` is what the content was made of.
    pub fn view<'a>(&'a self, frame: &'a Frame) -> Result<View<'a>> {
        match &self.straight {
            Some(samples) => Ok(View::new(bytes_of(samples), self.layout)?),
            None => frame.view(self.layout.transfer),
        }
    }

    /// Where the result's pixels go: row by row from above, without gaps.
    pub fn result_layout(&self) -> Layout {
        let Layout { width, height, channels, sample, transfer, .. } = self.layout;
        Layout { transfer, ..Layout::tight(width, height, channels, sample) }
    }

    /// Puts the result's pixels of row `y` from column `x` on, both from the upper left, into `out`.
    fn put(&self, out: &mut [u8], source: &Frame, result: &[u8], x: usize, y: usize) {
        let (width, size) = (self.layout.width, source.layout.pixel_size());
        let Some(straight) = &self.straight else {
            out.copy_from_slice(&result[(y * width + x) * size..][..out.len()]);
            return;
        };
        let sample = source.layout.sample;
        let stored = &source.row(y)[x * size..];
        for (i, (out, stored)) in out.chunks_exact_mut(size).zip(stored.chunks_exact(size)).enumerate() {
            let at = (y * width + x + i) * 4;
            let old = &straight[at..at + 4];
            let new = &result[at * 4..at * 4 + 16];
            if new == bytes_of(old) {
                out.copy_from_slice(stored);
            } else {
                let new = read(SampleType::F32, new);
                let alpha = if new[3] > 0.0 { new[3] } else { 1.0 };
                write(sample, [new[0] * alpha, new[1] * alpha, new[2] * alpha], out);
                // Alpha is never changed.
                out[3 * sample.size()..].copy_from_slice(&stored[3 * sample.size()..]);
            }
        }
    }
}

/// Floats as the bytes that they are.
pub fn bytes_of(samples: &[f32]) -> &[u8] {
    // SAFETY: any float is four bytes, bytes need no alignment, and the length is that of the same memory.
    unsafe { slice::from_raw_parts(samples.as_ptr().cast(), size_of_val(samples)) }
}

/// The four channels of a stored pixel; white is 1.
fn read(sample: SampleType, stored: &[u8]) -> [f32; 4] {
    std::array::from_fn(|c| channel(sample, stored, c))
}

/// Channel `c` of a stored pixel.
fn channel(sample: SampleType, stored: &[u8], c: usize) -> f32 {
    let bytes = &stored[c * sample.size()..];
    match sample {
        SampleType::U8 => f32::from(bytes[0]) / 255.0,
        SampleType::U16 => f32::from(u16::from_ne_bytes([bytes[0], bytes[1]])) / 65535.0,
        SampleType::F16 => f16::from_ne_bytes([bytes[0], bytes[1]]).to_f32(),
        SampleType::F32 => f32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
    }
}

/// Stores three channels.
fn write(sample: SampleType, colors: [f32; 3], out: &mut [u8]) {
    for (out, v) in out.chunks_exact_mut(sample.size()).zip(colors) {
        match sample {
            SampleType::U8 => out[0] = (v.clamp(0.0, 1.0) * 255.0 + 0.5) as u8,
            SampleType::U16 => {
                out.copy_from_slice(&((v.clamp(0.0, 1.0) * 65535.0 + 0.5) as u16).to_ne_bytes());
            }
            SampleType::F16 => out.copy_from_slice(&f16::from_f32(v).to_ne_bytes()),
            SampleType::F32 => out.copy_from_slice(&v.to_ne_bytes()),
        }
    }
}
