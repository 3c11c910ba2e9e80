//! TIFF files: 8-bit, 16-bit and float samples, gray or RGB, with or without alpha.

use std::borrow::Cow;
use std::io::{BufRead, Seek, Write};

use tiff::decoder::ifd::Value;
use tiff::decoder::{BufferLayoutPreference, Decoder, DecodingResult, Limits};
use tiff::encoder::colortype::{self, ColorType as Form};
use tiff::encoder::{Rational, TiffEncoder, TiffKind, TiffValue};
use tiff::tags::{ByteOrder, ExtraSamples, ResolutionUnit, Tag, Type, ValueBuffer};
use tiff::{ColorType, Directory, TiffError, TiffResult};

use super::file::{MAX_BYTES, check_size};
use super::metadata::{
    Entry, Metadata, Orientation, Resolution, SUB_DIRECTORIES, TEXT_TAGS, exif_block, exif_entries,
    exif_texts, text_of,
};
use super::{Picture, Samples};

/// Adobe's tag for an XMP packet.
const XMP: Tag = Tag::Unknown(700);

/// Adobe's tag that makes a TIFF file a digital negative.
const DNG_VERSION: Tag = Tag::Unknown(0xc612);

/// Most bytes of what is kept of EXIF's values: far above what cameras write.
const MAX_EXIF: u64 = 1 << 19;

/// Reads the first picture of a TIFF file; an error is the reason in words.
pub(super) fn read(file: impl BufRead + Seek) -> Result<Picture, String> {
    let mut limits = Limits::default();
    limits.decoding_buffer_size = MAX_BYTES as usize;
    limits.intermediate_buffer_size = MAX_BYTES as usize;
    let mut decoder = Decoder::new(file).map_err(reason)?.with_limits(limits);
    let (width, height) = decoder.dimensions().map_err(reason)?;
    check_size(width, height)?;
    // The first picture of a camera's file is a preview, or what its sensor saw.
    let kind = decoder.find_tag_unsigned::<u32>(Tag::NewSubfileType).ok().flatten();
    if kind.is_some_and(|kind| kind & 1 == 1) || decoder.image_ifd().find_entry(DNG_VERSION).is_some() {
        return Err("camera raw or a preview: develop it to a 16-bit TIFF".into());
    }
    let color = decoder.colortype().map_err(reason)?;
    let samples_per_pixel: u16 =
        decoder.find_tag_unsigned(Tag::SamplesPerPixel).map_err(reason)?.unwrap_or(1);
    let extra: Vec<u16> =
        decoder.find_tag_unsigned_vec(Tag::ExtraSamples).map_err(reason)?.unwrap_or_default();
    let alpha = extra.first().and_then(|&kind| ExtraSamples::from_u16(kind));
    let alpha = alpha.filter(|&kind| kind != ExtraSamples::Unspecified);
    let channels = match color {
        // The decoder knows gray with another channel as two bands, alpha or not.
        ColorType::GrayA(_) | ColorType::Multiband { num_samples: 2, .. } if alpha.is_some() => 2,
        ColorType::Gray(_) | ColorType::GrayA(_) | ColorType::Multiband { num_samples: 2, .. } => 1,
        ColorType::RGB(_) => 3,
        ColorType::RGBA(_) => 4,
        other => {
            return Err(format!(
                "TIFF of colour type {other:?}: save it as gray or RGB, with or without alpha"
            ));
        }
    };
    if samples_per_pixel != channels {
        return Err(format!(
            "TIFF with {samples_per_pixel} channels, {channels} of them known: remove the others"
        ));
    }
    if alpha == Some(ExtraSamples::AssociatedAlpha) {
        return Err("TIFF with premultiplied alpha: save it with straight alpha".into());
    }

    let depth = color.bit_depth();
    if depth < 16 && depth != 8 {
        return Err(format!("TIFF of {depth} bits a sample: convert it to 8 or 16 bits"));
    }

    let mut decoded = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut decoded).map_err(reason)?;
    let samples = match decoded {
        DecodingResult::U8(v) => Samples::U8(interleave(v, &layout)?),
        DecodingResult::U16(v) => Samples::U16(interleave(v, &layout)?),
        // f32 holds every f16 value.
        DecodingResult::F16(v) => Samples::F32(interleave(v, &layout)?.into_iter().map(f32::from).collect()),
        DecodingResult::F32(v) => Samples::F32(interleave(v, &layout)?),
        _ => return Err("TIFF of an unusual sample type: save it with 8, 16 or 32-bit float".into()),
    };
    let metadata = read_metadata(&mut decoder);
    let picture = Picture::new(width as usize, height as usize, usize::from(channels), samples);
    Ok(picture.map_err(|e| e.to_string())?.with_metadata(metadata).upright())
}

/// Tags that are damaged are left out.
fn read_metadata(decoder: &mut Decoder<impl BufRead + Seek>) -> Metadata {
    let mut metadata = Metadata::default();
    let texts: Vec<_> = TEXT_TAGS.into_iter().filter_map(|tag| Some((tag, text(decoder, tag)?))).collect();
    let directories = SUB_DIRECTORIES.map(|pointer| entries(decoder, pointer).unwrap_or_default());
    metadata.take_exif(exif_block(&texts, directories));
    let mut tag = |tag| decoder.find_tag(tag).ok().flatten();
    metadata.icc_profile = tag(Tag::IccProfile).and_then(|v| v.into_u8_vec().ok()).map(Into::into);
    let orientation = tag(Tag::Orientation).and_then(|v| v.into_u16().ok());
    metadata.orientation = orientation.and_then(|v| Orientation::from_exif(v.try_into().ok()?));
    let mut rational = |name| match tag(name) {
        Some(Value::Rational(n, d)) if n > 0 && d > 0 => Some(f64::from(n) / f64::from(d)),
        _ => None,
    };
    let (x, y) = (rational(Tag::XResolution), rational(Tag::YResolution));
    let inches = match tag(Tag::ResolutionUnit).and_then(|v| v.into_u16().ok()) {
        None | Some(2) => 1.0,
        Some(3) => 2.54,
        _ => 0.0,
    };
    if let (Some(x), Some(y)) = (x, y)
        && inches > 0.0
    {
        metadata.resolution = Some(Resolution { x: x * inches, y: y * inches });
    }
    metadata
}

/// A text as its bytes: the decoder's own way drops one that is not UTF-8, and what follows on a zero.
fn text(decoder: &mut Decoder<impl BufRead + Seek>, tag: u16) -> Option<Vec<u8>> {
    let tag = Tag::from_u16_exhaustive(tag);
    let mut directory = decoder.image_ifd();
    let entry = directory.find_entry(tag)?;
    if entry.field_type() != Type::ASCII || entry.count() > MAX_EXIF {
        return None;
    }
    let mut value = ValueBuffer::empty(Type::ASCII);
    directory.find_tag_buf(tag, &mut value).ok()??;
    text_of(value.as_bytes())
}

/// The entries of one of EXIF's directories.
fn entries(decoder: &mut Decoder<impl BufRead + Seek>, pointer: u16) -> TiffResult<Vec<Entry>> {
    let Some(place) = decoder.find_tag(Tag::from_u16_exhaustive(pointer))? else { return Ok(vec![]) };
    let directory = decoder.read_directory(place.into_ifd_pointer()?)?;
    let mut left = MAX_EXIF;
    let mut entries = Vec::new();
    for (tag, entry) in directory.iter() {
        // No type's value is longer than 8 bytes.
        let Some(rest) = left.checked_sub(entry.count().saturating_mul(8)) else { continue };
        left = rest;
        let mut value = ValueBuffer::empty(entry.field_type());
        // One that is damaged is left out.
        if let Ok(Some(_)) = decoder.read_directory_tags(&directory).find_tag_buf(tag, &mut value) {
            value.set_byte_order(ByteOrder::LittleEndian);
            let bytes = value.as_bytes().to_vec();
            entries.extend(Entry::new(tag.to_u16(), value.data_type().to_u16(), bytes));
        }
    }
    Ok(entries)
}

/// Writes one of EXIF's directories and says where it is.
fn write_entries<W: Write + Seek, K: TiffKind>(
    entries: &[Entry],
    to: &mut TiffEncoder<W, K>,
) -> TiffResult<u32> {
    let mut directory = to.extra_directory()?;
    let mut made = Directory::empty();
    for entry in entries {
        let kind = Type::from_u16(entry.kind).expect("an entry's type is known");
        let value = directory.write_entry_bytes(kind, &entry.native())?;
        made.extend([(Tag::from_u16_exhaustive(entry.tag), value)]);
    }
    directory.extend_from(&made);
    // They come first in the file.
    Ok(u32::try_from(directory.finish_with_offsets()?.pointer.0)?)
}

/// Brings planes stored one after another together, pixel by pixel.
fn interleave<T: Copy>(samples: Vec<T>, layout: &BufferLayoutPreference) -> Result<Vec<T>, String> {
    if samples.len() * size_of::<T>() < layout.complete_len {
        return Err("TIFF whose channels lie apart and that is too large for it".into());
    }
    if layout.planes < 2 {
        return Ok(samples);
    }
    let plane = samples.len() / layout.planes;
    Ok((0..plane).flat_map(|i| (0..layout.planes).map(move |p| p * plane + i)).map(|i| samples[i]).collect())
}

fn reason(e: TiffError) -> String {
    format!("not a TIFF file that can be read: {e}")
}

/// Writes `picture` as uncompressed TIFF; as BigTIFF where the plain form's 4 GiB could be too few.
pub(super) fn write(picture: &Picture, file: impl Write + Seek) -> TiffResult<()> {
    let bytes = match picture.samples() {
        Samples::U8(v) => v.len(),
        Samples::U16(v) => v.len() * 2,
        Samples::F32(v) => v.len() * 4,
    };
    if bytes < 3 << 30 {
        write_samples(picture, TiffEncoder::new(file)?)
    } else {
        write_samples(picture, TiffEncoder::new_big(file)?)
    }
}

fn write_samples<W: Write + Seek, K: TiffKind>(picture: &Picture, to: TiffEncoder<W, K>) -> TiffResult<()> {
    use colortype::{Gray8, Gray16, Gray32Float, RGB8, RGB16, RGB32Float};
    let gray = picture.color_channels() == 1;
    match picture.samples() {
        Samples::U8(v) if gray => write_form::<Gray8, _, _>(picture, v, to),
        Samples::U8(v) => write_form::<RGB8, _, _>(picture, v, to),
        Samples::U16(v) if gray => write_form::<Gray16, _, _>(picture, v, to),
        Samples::U16(v) => write_form::<RGB16, _, _>(picture, v, to),
        Samples::F32(v) if gray => write_form::<Gray32Float, _, _>(picture, v, to),
        Samples::F32(v) => write_form::<RGB32Float, _, _>(picture, v, to),
    }
}

/// A text of any letters, as TIFF's ASCII: what others write there too. A zero may part it, as it does photographer and editor.
struct Text<'a>(&'a [u8]);

impl TiffValue for Text<'_> {
    const BYTE_LEN: u8 = 1;
    const FIELD_TYPE: Type = Type::ASCII;

    fn count(&self) -> usize {
        self.0.len() + 1
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned([self.0, &[0]].concat())
    }
}

fn write_form<C: Form, W: Write + Seek, K: TiffKind>(
    picture: &Picture,
    samples: &[C::Inner],
    mut to: TiffEncoder<W, K>,
) -> TiffResult<()>
where
    [C::Inner]: TiffValue,
{
    let metadata = picture.metadata();
    let mut directories = Vec::new();
    for pointer in SUB_DIRECTORIES {
        let entries = metadata.exif.as_deref().map_or(vec![], |exif| exif_entries(exif, pointer));
        if !entries.is_empty() {
            directories.push((pointer, write_entries(&entries, &mut to)?));
        }
    }
    let mut image = to.new_image::<C>(picture.width() as u32, picture.height() as u32)?;
    if picture.channels() > picture.color_channels() {
        image.extra_samples(&[ExtraSamples::UnassociatedAlpha])?;
    }
    if let Some(icc_profile) = picture.icc_profile() {
        image.encoder().write_tag(Tag::IccProfile, icc_profile)?;
    }
    if let Some(Resolution { x, y }) = metadata.resolution {
        let rational = |v: f64| Rational { n: (v * 1000.0).round().clamp(1.0, 4e9) as u32, d: 1000 };
        image.resolution_unit(ResolutionUnit::Inch);
        image.x_resolution(rational(x));
        image.y_resolution(rational(y));
    }
    for (tag, text) in metadata.exif.as_deref().map_or(vec![], exif_texts) {
        image.encoder().write_tag(Tag::from_u16_exhaustive(tag), Text(&text))?;
    }
    for (pointer, place) in directories {
        image.encoder().write_tag(Tag::from_u16_exhaustive(pointer), place)?;
    }
    if let Some(xmp) = &metadata.xmp {
        image.encoder().write_tag(XMP, xmp.as_bytes())?;
    }
    image.write_data(samples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn how_and_where_a_picture_was_taken_goes_through_a_file_of_either_form() {
        let entry = |tag, kind, bytes: &[u8]| Entry::new(tag, kind, bytes.to_vec()).unwrap();
        let taken = vec![
            entry(0x829a, 5, &[1, 0, 0, 0, 250, 0, 0, 0]),
            entry(0x8827, 3, &[0x90, 0x01]),
            entry(0x9003, 2, b"2026:11:25 12:00:00\0"),
        ];
        let place = vec![entry(1, 2, b"N\0"), entry(2, 5, &[7; 24])];
        // UTF-8, two names, and Latin-1.
        let texts =
            [(0x10f, "© Zoë, 写真".into()), (0x13b, b"Ann\0Bob".to_vec()), (0x8298, b"\xa9 Zo\xeb".to_vec())];
        let exif = exif_block(&texts, [taken.clone(), place.clone()]).unwrap();
        let mut picture = Picture::new(2, 1, 3, Samples::U16(vec![1, 2, 3, 4, 5, 6])).unwrap();
        picture.metadata_mut().exif = Some(exif.into());
        for big in [false, true] {
            let mut file = Cursor::new(Vec::new());
            match big {
                false => write_samples(&picture, TiffEncoder::new(&mut file).unwrap()).unwrap(),
                true => write_samples(&picture, TiffEncoder::new_big(&mut file).unwrap()).unwrap(),
            }
            assert!(file.get_ref().windows(8).any(|bytes| bytes == b"Ann\0Bob\0"));
            file.set_position(0);
            let back = read(file).unwrap();
            assert_eq!(back.samples(), picture.samples());
            let exif = back.metadata().exif.as_deref().unwrap();
            assert_eq!(exif_texts(exif), texts, "big: {big}");
            assert_eq!(exif_entries(exif, 0x8769), taken, "big: {big}");
            assert_eq!(exif_entries(exif, 0x8825), place, "big: {big}");
        }
    }

    /// A file of 4 x 1 pixels with these entries, each a tag, its type, its count and its value, beside those that it must have.
    fn file(bits: u32, samples: u32, more: &[(u16, u16, u32, u32)]) -> Cursor<Vec<u8>> {
        let number = |tag, value| (tag, 4, 1, value);
        let mut entries =
            vec![number(256, 4), number(257, 1), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, 1)];
        entries.extend([number(273, 8), (277, 3, 1, samples), number(279, (4 * samples * bits).div_ceil(8))]);
        entries.extend(more);
        entries.sort_unstable();
        let mut file = b"II*\0\x48\0\0\0".to_vec();
        file.resize(0x48, 0);
        file.extend((entries.len() as u16).to_le_bytes());
        for (tag, kind, count, value) in entries {
            file.extend([tag, kind].map(u16::to_le_bytes).concat());
            file.extend([count, value].map(u32::to_le_bytes).concat());
        }
        file.extend([0; 4]);
        Cursor::new(file)
    }

    #[test]
    fn what_a_camera_keeps_for_itself_is_no_picture() {
        assert_eq!(read(file(8, 1, &[])).unwrap().samples(), &Samples::U8(vec![0; 4]));
        assert!(read(file(8, 1, &[(254, 4, 1, 2)])).is_ok(), "a page of several");
        for raw in [(254, 4, 1, 1), (254, 4, 1, 3), (0xc612, 1, 4, 0x0401)] {
            let error = read(file(8, 1, &[raw])).unwrap_err();
            assert!(error.contains("develop it to a 16-bit TIFF"), "{error}");
        }
    }

    #[test]
    fn a_second_channel_is_alpha_only_where_the_file_says_so() {
        assert_eq!(read(file(8, 2, &[(338, 3, 1, 2)])).unwrap().channels(), 2);
        for other in [&[(338, 3, 1, 0)][..], &[]] {
            let error = read(file(8, 2, other)).unwrap_err();
            assert!(error.contains("2 channels, 1 of them known: remove the others"), "{error}");
        }
        assert!(read(file(8, 2, &[(338, 3, 1, 1)])).unwrap_err().contains("premultiplied"));
    }

    #[test]
    fn depths_between_bytes_are_refused_by_name() {
        for depth in [1, 4, 10, 12, 14] {
            let error = read(file(depth, 1, &[])).unwrap_err();
            assert!(error.contains(&format!("{depth} bits a sample: convert it to 8 or 16 bits")), "{error}");
        }
        assert!(read(file(16, 1, &[])).is_ok());
    }
}
