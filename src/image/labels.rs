//! Label maps: one class for each pixel.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use image::ImageFormat;
use rayon::prelude::*;

use super::file::{self, MAX_BYTES, check_size};
use super::metadata::{Metadata, turn};
use super::{Picture, Samples, Transfer, View};
use crate::model::Class;
use crate::{Error, Result};

/// How far a colour of a painted label map may be from a class's colour, in each channel (of 255).
pub const COLOR_LIMIT: u8 = 24;

/// Most entries of a list in an error message.
const LISTED: usize = 5;

/// The class index of each pixel, row by row from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelMap {
    width: usize,
    height: usize,
    indices: Vec<u8>,
}

impl LabelMap {
    /// # Errors
    /// [`Error::InvalidArgument`] when a side is 0 or `indices` do not number `width * height`.
    pub fn new(width: usize, height: usize, indices: Vec<u8>) -> Result<Self> {
        if width.checked_mul(height).is_none_or(|n| n == 0 || n != indices.len()) {
            return Err(Error::invalid(format!(
                "{} labels cannot be a map of {width} x {height} pixels",
                indices.len()
            )));
        }
        Ok(Self { width, height, indices })
    }

    /// A label map from class indices of any width, row by row from the top.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] as [`new`](Self::new), and for indices beyond the classes, with the number of their pixels.
    pub fn from_indices(
        width: usize,
        height: usize,
        indices: impl Iterator<Item = u32>,
        classes: &[Class],
    ) -> Result<Self> {
        // What does not fit is no class either way, and the message shows the values up to here.
        let indices = indices.map(|i| u16::try_from(i).unwrap_or(u16::MAX)).collect();
        Self::new(width, height, check_indices(indices, classes).map_err(Error::invalid)?)
    }

    /// A label map painted in the classes' colours, as [`read`](Self::read) takes them, row by row from the top.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] as [`new`](Self::new), and for colours of no class, with the number of their pixels.
    pub fn from_colors(
        width: usize,
        height: usize,
        colors: impl Iterator<Item = [u8; 3]>,
        classes: &[Class],
    ) -> Result<Self> {
        let indices = color_indices(colors, classes).map_err(Error::invalid)?;
        Self::new(width, height, check_indices(indices, classes).map_err(Error::invalid)?)
    }

    /// A label map as a compositor hands it over: a picture in the classes' colours, each pixel of the class with the nearest
    /// one, so that filtered edges do no harm. Its values may be the colours as painted, or as light, where a program has
    /// taken them for a picture's: it is read in the way that is nearer to the classes' colours on the whole. Its transfer
    /// means nothing.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when most of its pixels are more than [`COLOR_LIMIT`] off in both ways.
    pub fn from_nearest_colors(picture: &View, classes: &[Class]) -> Result<Self> {
        let (width, height) = (picture.width(), picture.height());
        let read = |transfer: Transfer| {
            let rows = (0..height).into_par_iter().map_init(
                || vec![0.0; width * 3],
                |row, y| {
                    picture.with_transfer(transfer).rgb_row(y, row);
                    let (mut indices, mut strange) = (Vec::with_capacity(width), 0);
                    // Neighbours are mostly alike.
                    let mut last: Option<([u8; 3], u8, bool)> = None;
                    for pixel in row.chunks_exact(3) {
                        let color = [0, 1, 2].map(|c| (pixel[c] * 255.0).round() as u8);
                        let (_, class, far) =
                            last.filter(|(known, ..)| *known == color).unwrap_or_else(|| {
                                let (class, distance) = nearest(color, classes)
                                    .map_or((0, 255), |(class, d)| (class.index as u8, d));
                                (color, class, distance > COLOR_LIMIT)
                            });
                        last = Some((color, class, far));
                        indices.push(class);
                        strange += usize::from(far);
                    }
                    (indices, strange)
                },
            );
            let rows: Vec<(Vec<u8>, usize)> = rows.collect();
            let strange: usize = rows.iter().map(|(_, strange)| strange).sum();
            (rows, strange)
        };
        let (mut rows, mut strange) = read(Transfer::Srgb);
        if strange > 0 {
            let (as_light, more) = read(Transfer::Linear);
            if more < strange {
                (rows, strange) = (as_light, more);
            }
        }
        if 2 * strange > width * height {
            return Err(Error::invalid(format!(
                "{strange} of {} pixels are within {COLOR_LIMIT} of no class's colour, neither as painted nor as light: this is \
                 no label map in the model's colours, which are {}",
                width * height,
                classes.iter().map(|c| format!("{} {}", hex(c.color), c.name)).collect::<Vec<_>>().join(", ")
            )));
        }
        Self::new(width, height, rows.into_iter().flat_map(|(row, _)| row).collect())
    }

    /// Reads a label map of a model's classes.
    ///
    /// - Indexed PNG: the stored indices are the classes; its palette is for the eye.
    /// - Gray PNG or TIFF: the stored values are the classes. (WebP stores gray as RGB.)
    /// - RGB, of any format: painted in the classes' colours. Each colour is read as the class with the nearest one, at
    ///   most [`COLOR_LIMIT`] off in every channel.
    ///
    /// An EXIF orientation in the file is applied.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Format`] as [`Picture::read`]; [`Error::Format`] also for indices beyond the
    /// classes and for colours of no class, with the number of their pixels; for transparent pixels; and for an
    /// indexed PNG whose palette is the classes' colours in another order, which its indices contradict.
    pub fn read(path: impl AsRef<Path>, classes: &[Class]) -> Result<Self> {
        let path = path.as_ref();
        let (file, format) = file::open(path)?;
        let wrong = |what| Error::format(path, what);
        let (width, height, indices) = if format == ImageFormat::Png
            && let Some(stored) = png_indices(file, classes).map_err(wrong)?
        {
            stored
        } else {
            let (file, _) = file::open(path)?;
            let picture = Picture::read_from(file, format, path)?;
            check_opaque(&picture).map_err(wrong)?;
            let indices = match picture.color_channels() {
                1 if format == ImageFormat::Jpeg => {
                    return Err(wrong("JPEG does not keep class indices: save the label map as PNG".into()));
                }
                1 => gray_indices(&picture),
                _ => color_indices(colors(&picture), classes),
            };
            (picture.width(), picture.height(), indices.map_err(wrong)?)
        };
        let indices = check_indices(indices, classes).map_err(wrong)?;
        Self::new(width, height, indices)
    }

    /// Turns a map that was drawn on the content's stored pixels the way the content has been turned: one whose width is
    /// the content's height and the reverse, where the content's EXIF orientation swapped them. Any other is left as it is.
    pub fn upright_with(self, content: &Picture) -> Self {
        let Some(orientation) = content.turn_of_map(self.width, self.height) else { return self };
        let (indices, width, height) = turn(&self.indices, (self.width, self.height, 1), orientation);
        Self { width, height, indices }
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn height(&self) -> usize {
        self.height
    }

    pub fn indices(&self) -> &[u8] {
        &self.indices
    }

    /// The class of the pixel in column `x` of row `y`.
    pub fn get(&self, x: usize, y: usize) -> u8 {
        self.indices[y * self.width + x]
    }

    /// The classes of row `y`.
    pub fn row(&self, y: usize) -> &[u8] {
        &self.indices[y * self.width..][..self.width]
    }

    /// Pixels of each class index.
    pub fn counts(&self) -> [usize; 256] {
        let mut counts = [0; 256];
        for &i in &self.indices {
            counts[usize::from(i)] += 1;
        }
        counts
    }

    /// The class indices that occur, in ascending order.
    pub fn classes_present(&self) -> Vec<u8> {
        let counts = self.counts();
        (0..=255).filter(|&i| counts[usize::from(i)] > 0).collect()
    }

    /// The map at another size (neither side 0): pixel i takes source pixel floor(i in / out).
    pub fn resize_nearest(&self, width: usize, height: usize) -> Self {
        let columns: Vec<usize> = (0..width).map(|x| x * self.width / width).collect();
        let row = |y: usize| {
            let source = &self.indices[y * self.height / height * self.width..][..self.width];
            columns.iter().map(|&x| source[x])
        };
        Self { width, height, indices: (0..height).flat_map(row).collect() }
    }

    /// One plane a class, channels last: `height * width * classes` values of 0 or 1. A pixel of a class beyond
    /// `classes` is 0 in all.
    pub fn one_hot(&self, classes: usize) -> Vec<f32> {
        let mut planes = vec![0.0; self.indices.len() * classes];
        for (pixel, &i) in planes.chunks_exact_mut(classes).zip(&self.indices) {
            if let Some(plane) = pixel.get_mut(usize::from(i)) {
                *plane = 1.0;
            }
        }
        planes
    }

    /// The network's input, `(1, height, width, classes)`.
    pub fn to_tensor(&self, classes: usize, device: &Device) -> candle_core::Result<Tensor> {
        Tensor::from_vec(self.one_hot(classes), (1, self.height, self.width, classes), device)
    }

    /// The map in the classes' colours; black where `classes` has none.
    pub fn to_picture(&self, classes: &[Class]) -> Result<Picture> {
        let color = |&i: &u8| classes.get(usize::from(i)).map_or([0; 3], |c| c.color);
        Picture::new(self.width, self.height, 3, Samples::U8(self.indices.iter().flat_map(color).collect()))
    }

    /// Writes an indexed PNG with the classes' colours as its palette.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be written, [`Error::InvalidArgument`] when an index has no class.
    pub fn write_png(&self, path: impl AsRef<Path>, classes: &[Class]) -> Result<()> {
        let path = path.as_ref();
        check_indices(self.indices.iter().map(|&i| u16::from(i)).collect(), classes)
            .map_err(Error::invalid)?;
        file::replace(path, |out| {
            let mut encoder = png::Encoder::new(out, self.width as u32, self.height as u32);
            encoder.set_color(png::ColorType::Indexed);
            encoder.set_depth(png::BitDepth::Eight);
            encoder.set_palette(classes.iter().flat_map(|c| c.color).collect::<Vec<u8>>());
            let written =
                encoder.write_header().and_then(|mut writer| writer.write_image_data(&self.indices));
            written.map_err(|e| Error::io(path, e.into()))
        })
    }
}

/// The stored values of an indexed or gray PNG; none for RGB, which is read as a picture.
#[allow(clippy::type_complexity)]
fn png_indices(
    file: impl std::io::BufRead + std::io::Seek,
    classes: &[Class],
) -> std::result::Result<Option<(usize, usize, Vec<u16>)>, String> {
    let reason = |e: png::DecodingError| format!("damaged PNG: {e}");
    let mut decoder = png::Decoder::new_with_limits(file, png::Limits { bytes: MAX_BYTES as usize });
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(reason)?;
    let (width, height) = (reader.info().width, reader.info().height);
    check_size(width, height)?;
    let (color, depth) = (reader.info().color_type, reader.info().bit_depth);
    if !matches!(color, png::ColorType::Indexed | png::ColorType::Grayscale) {
        return Ok(None);
    }
    let mut data = vec![0; reader.output_buffer_size().ok_or("too large")?];
    reader.next_frame(&mut data).map_err(reason)?;
    let (width, height) = (width as usize, height as usize);
    let row_bytes = reader.output_line_size(width as u32).ok_or("too large")?;
    let indices: Vec<u16> =
        data.chunks_exact(row_bytes).flat_map(|row| unpack(row, width, depth as usize)).collect();
    if color == png::ColorType::Indexed
        && let Some(palette) = &reader.info().palette
    {
        check_palette(palette, &indices, classes)?;
    }
    let mut metadata = Metadata::default();
    metadata.take_exif(reader.info().exif_metadata.as_ref().map(|e| e.to_vec()));
    Ok(Some(match metadata.orientation {
        Some(orientation) => {
            let (indices, width, height) = turn(&indices, (width, height, 1), orientation);
            (width, height, indices)
        }
        None => (width, height, indices),
    }))
}

/// The first `width` values of `depth` bits (1, 2, 4, 8 or 16) of a PNG row.
fn unpack(row: &[u8], width: usize, depth: usize) -> impl Iterator<Item = u16> {
    (0..width).map(move |x| match depth {
        16 => u16::from_be_bytes([row[2 * x], row[2 * x + 1]]),
        _ => {
            let bit = x * depth;
            let shifted = row[bit / 8] >> (8 - depth - bit % 8);
            u16::from(shifted) & ((1 << depth) - 1)
        }
    })
}

/// An editor that turns a painted map into an indexed one orders its palette as it likes. When every colour in use
/// is exactly a class's and some stand at another index, the indices cannot be what the painter meant.
fn check_palette(palette: &[u8], indices: &[u16], classes: &[Class]) -> std::result::Result<(), String> {
    let mut used = vec![false; 256];
    for &i in indices {
        used[usize::from(i)] = true;
    }
    let mut contradiction = None;
    for (i, color) in palette.chunks_exact(3).enumerate().filter(|&(i, _)| used[i]) {
        match classes.iter().position(|c| c.color == *color) {
            None => return Ok(()),
            Some(class) if class != i => contradiction = contradiction.or(Some((i, class))),
            Some(_) => {}
        }
    }
    match contradiction {
        None => Ok(()),
        Some((i, class)) => Err(format!(
            "indexed PNG whose palette has the classes' colours in another order (index {i} has the colour of class \
             {class}, {}): save it as RGB, to be read by colour, or with the indices {}",
            classes[class].name,
            list_classes(classes)
        )),
    }
}

fn check_opaque(picture: &Picture) -> std::result::Result<(), String> {
    let (channels, colors) = (picture.channels(), picture.color_channels());
    if channels == colors {
        return Ok(());
    }
    let pixels = picture.width() * picture.height();
    let clear = (0..pixels).filter(|i| picture.samples().unit(i * channels + colors) < 1.0).count();
    if clear == 0 {
        Ok(())
    } else {
        Err(format!("{clear} of {pixels} pixels are transparent: give each one class"))
    }
}

fn gray_indices(picture: &Picture) -> std::result::Result<Vec<u16>, String> {
    let values = (0..picture.width() * picture.height()).map(|i| i * picture.channels());
    match picture.samples() {
        Samples::U8(v) => Ok(values.map(|i| u16::from(v[i])).collect()),
        Samples::U16(v) => Ok(values.map(|i| v[i]).collect()),
        Samples::F32(_) => Err("float samples are no class indices: save it with 8 bits".into()),
    }
}

/// An RGB picture's colours with 8 bits.
fn colors(picture: &Picture) -> impl Iterator<Item = [u8; 3]> {
    let byte = |i: usize| (picture.samples().unit(i) * 255.0).round() as u8;
    let pixels = (0..picture.width() * picture.height()).map(|i| i * picture.channels());
    pixels.map(move |i| [byte(i), byte(i + 1), byte(i + 2)])
}

fn color_indices(
    colors: impl Iterator<Item = [u8; 3]>,
    classes: &[Class],
) -> std::result::Result<Vec<u16>, String> {
    // For each colour the class, or none, and its pixels.
    let mut known: HashMap<[u8; 3], (Option<u16>, usize)> = HashMap::new();
    let indices = colors.map(|color| {
        let (class, count) = known.entry(color).or_insert_with(|| {
            let near = nearest(color, classes).filter(|&(_, distance)| distance <= COLOR_LIMIT);
            (near.map(|(class, _)| class.index as u16), 0)
        });
        *count += 1;
        class.unwrap_or_default()
    });
    let indices = indices.collect();

    let mut strange: Vec<_> = known.iter().filter(|(_, (class, _))| class.is_none()).collect();
    if strange.is_empty() {
        return Ok(indices);
    }
    strange.sort_by_key(|(color, (_, count))| (std::cmp::Reverse(*count), **color));
    let total: usize = strange.iter().map(|(_, (_, count))| count).sum();
    let mut what = format!(
        "{total} pixels in {} colours are within {COLOR_LIMIT} of no class's colour: paint without soft edges, \
         in the model's colours. The most frequent:",
        strange.len()
    );
    for (color, (_, count)) in strange.iter().take(LISTED) {
        what += &format!("\n  {} {count} pixels", hex(**color));
        if let Some((class, distance)) = nearest(**color, classes) {
            what += &format!(", {distance} from {} {}", class.name, hex(class.color));
        }
    }
    Err(what)
}

/// The class whose colour is nearest by its largest difference in a channel, and that difference.
fn nearest(color: [u8; 3], classes: &[Class]) -> Option<(&Class, u8)> {
    let distance = |c: &Class| (0..3).map(|k| c.color[k].abs_diff(color[k])).max().unwrap_or(0);
    classes.iter().map(|c| (c, distance(c))).min_by_key(|&(_, distance)| distance)
}

fn hex([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

fn check_indices(indices: Vec<u16>, classes: &[Class]) -> std::result::Result<Vec<u8>, String> {
    let mut beyond: HashMap<u16, usize> = HashMap::new();
    for &i in indices.iter().filter(|&&i| usize::from(i) >= classes.len()) {
        *beyond.entry(i).or_default() += 1;
    }
    if beyond.is_empty() {
        // At most 255 classes, so every index fits.
        return Ok(indices.into_iter().map(|i| i as u8).collect());
    }
    let mut beyond: Vec<_> = beyond.into_iter().collect();
    beyond.sort_by_key(|&(i, count)| (std::cmp::Reverse(count), i));
    let mut listed: Vec<String> =
        beyond.iter().take(LISTED).map(|(i, count)| format!("{i} ({count} pixels)")).collect();
    if beyond.len() > LISTED {
        listed.push(format!("{} more", beyond.len() - LISTED));
    }
    Err(format!(
        "class indices that the model does not have: {}; it has {}",
        listed.join(", "),
        list_classes(classes)
    ))
}

fn list_classes(classes: &[Class]) -> String {
    classes.iter().map(|c| format!("{} {}", c.index, c.name)).collect::<Vec<_>>().join(", ")
}
