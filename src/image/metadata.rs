//! What a picture file says beside its pixels: colour profile, EXIF, resolution, orientation, XMP.

use std::ops::Range;
use std::sync::Arc;

pub use image::metadata::Orientation;

/// Dots per inch across and down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resolution {
    pub x: f64,
    pub y: f64,
}

/// Kept with the pixels, and written with them as far as the format can:
///
/// | | PNG | JPEG | TIFF | WebP |
/// |---|---|---|---|---|
/// | ICC profile | read, written | read, written | read, written | read, written, but for a gray one |
/// | EXIF | read, written | read, written up to 65 kB | texts (artist, copyright, date ...), how and where it was taken | read, written |
/// | resolution | pHYs; read from EXIF where there is none | JFIF; read from EXIF where there is none | tags | read from EXIF |
/// | orientation | read from EXIF | read from EXIF | read from its tag | read from EXIF |
/// | XMP | written | written up to 65 kB | written | written |
///
/// EXIF is written as it was read, with a resolution that it has. No orientation is written: the pixels have been turned. XMP
/// of a file that is read is not kept: what it says of edits and origin would be wrong of a restyled picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// The ICC profile as its bytes; none means sRGB.
    pub icc_profile: Option<Arc<[u8]>>,
    /// The EXIF block from its TIFF header on. Its orientation is normal, as the pixels have been turned, and it refers to no
    /// thumbnail, which would show another picture once this one is changed.
    pub exif: Option<Arc<[u8]>>,
    pub resolution: Option<Resolution>,
    /// How the file's pixels were turned to make these; the file's width and height are swapped where it says so.
    pub orientation: Option<Orientation>,
    /// The XMP packet to write.
    pub xmp: Option<Arc<str>>,
    /// The record to write into PNG files, as JSON, under the keyword `ca2sis`.
    pub record: Option<Arc<str>>,
}

impl Metadata {
    /// Takes the orientation out of `exif`, which is then as if the picture had been stored upright.
    pub(super) fn take_exif(&mut self, exif: Option<Vec<u8>>) {
        let Some(mut exif) = exif else { return };
        if let Some(orientation) = Orientation::remove_from_exif_chunk(&mut exif) {
            self.orientation = Some(orientation);
        }
        if self.resolution.is_none() {
            self.resolution = exif_resolution(&exif);
        }
        drop_thumbnail(&mut exif);
        self.exif = Some(exif.into());
    }

    /// Whether width and height are another way round in the file.
    pub fn is_transposed(&self) -> bool {
        use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
        matches!(self.orientation, Some(Rotate90 | Rotate90FlipH | Rotate270 | Rotate270FlipH))
    }
}

/// Turns rows of `channels` samples a pixel as `orientation` says; gives the new width and height too.
pub(super) fn turn<T: Copy>(
    samples: &[T],
    (width, height, channels): (usize, usize, usize),
    orientation: Orientation,
) -> (Vec<T>, usize, usize) {
    use Orientation::*;
    let transposed = matches!(orientation, Rotate90 | Rotate90FlipH | Rotate270 | Rotate270FlipH);
    let (w, h) = if transposed { (height, width) } else { (width, height) };
    let source = |x: usize, y: usize| match orientation {
        NoTransforms => (x, y),
        FlipHorizontal => (width - 1 - x, y),
        Rotate180 => (width - 1 - x, height - 1 - y),
        FlipVertical => (x, height - 1 - y),
        // Mirrored along the falling diagonal.
        Rotate90FlipH => (y, x),
        Rotate90 => (y, height - 1 - x),
        // Mirrored along the rising diagonal.
        Rotate270FlipH => (width - 1 - y, height - 1 - x),
        Rotate270 => (width - 1 - y, x),
    };
    let mut turned = Vec::with_capacity(samples.len());
    for y in 0..h {
        for x in 0..w {
            let (sx, sy) = source(x, y);
            turned.extend_from_slice(&samples[(sy * width + sx) * channels..][..channels]);
        }
    }
    (turned, w, h)
}

/// The first directory of an EXIF block.
struct Directory<'a> {
    exif: &'a [u8],
    little: bool,
    /// Where its number of entries stands.
    at: usize,
}

impl<'a> Directory<'a> {
    fn of(exif: &'a [u8]) -> Option<Self> {
        let little = match exif.get(..4)? {
            [b'I', b'I', 42, 0] => true,
            [b'M', b'M', 0, 42] => false,
            _ => return None,
        };
        let header = Self { exif, little, at: 0 };
        Some(Self { at: header.u32(4)?, ..header })
    }

    fn u16(&self, at: usize) -> Option<usize> {
        let b = self.exif.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(usize::from(if self.little { u16::from_le_bytes(b) } else { u16::from_be_bytes(b) }))
    }

    fn u32(&self, at: usize) -> Option<usize> {
        let b = self.exif.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.little { u32::from_le_bytes(b) } else { u32::from_be_bytes(b) } as usize)
    }

    /// Tag and place of each entry.
    fn entries(&self) -> impl Iterator<Item = (usize, usize)> {
        let places = (0..self.u16(self.at).unwrap_or(0)).map_while(|i| self.at.checked_add(2 + 12 * i));
        places.map_while(|at| Some((self.u16(at)?, at)))
    }
}

/// X and Y resolution of an EXIF block's first directory.
fn exif_resolution(exif: &[u8]) -> Option<Resolution> {
    let directory = Directory::of(exif)?;
    let rational = |entry: usize| -> Option<f64> {
        let at = directory.u32(entry + 8)?;
        let (n, d) = (directory.u32(at)?, directory.u32(at.checked_add(4)?)?);
        (n > 0 && d > 0).then(|| n as f64 / d as f64)
    };
    let (mut x, mut y, mut unit) = (None, None, 2);
    for (tag, at) in directory.entries() {
        match tag {
            0x11a => x = rational(at),
            0x11b => y = rational(at),
            0x128 => unit = directory.u16(at + 8)?,
            _ => {}
        }
    }
    let inches = match unit {
        2 => 1.0,
        3 => 2.54,
        _ => return None,
    };
    Some(Resolution { x: x? * inches, y: y? * inches })
}

/// Cuts the chain of directories after the first: the second is the thumbnail's. Its picture is overwritten, as it may show what
/// the content is about to lose.
fn drop_thumbnail(exif: &mut [u8]) {
    let next = Directory::of(exif).and_then(|d| d.at.checked_add(2 + 12 * d.u16(d.at)?));
    if let Some(range) = next.and_then(|next| thumbnail(exif, next)) {
        exif[range].fill(0);
    }
    if let Some(next) = next
        && let Some(bytes) = next.checked_add(4).and_then(|end| exif.get_mut(next..end))
    {
        bytes.fill(0);
    }
}

/// Where the JPEG file is that the directory shows whose place stands at `next`.
fn thumbnail(exif: &[u8], next: usize) -> Option<Range<usize>> {
    let first = Directory::of(exif)?;
    let directory = Directory { at: first.u32(next).filter(|&at| at > 0)?, ..first };
    let (mut begin, mut length) = (None, None);
    for (tag, at) in directory.entries() {
        match tag {
            0x201 => begin = directory.u32(at + 8),
            0x202 => length = directory.u32(at + 8),
            _ => {}
        }
    }
    let range = begin?..begin?.checked_add(length?)?;
    // A damaged place may be that of something else.
    exif.get(range.clone())?.starts_with(&[0xff, 0xd8]).then_some(range)
}

/// The texts that TIFF and EXIF share: description, maker, model, software, date, artist, copyright.
pub(super) const TEXT_TAGS: [u16; 7] = [0x10e, 0x10f, 0x110, 0x131, 0x132, 0x13b, 0x8298];

/// A text as a directory holds it, without the zeros at its end; none when nothing is left. Its letters may be those of any
/// encoding: none is told.
pub(super) fn text_of(bytes: &[u8]) -> Option<Vec<u8>> {
    let last = bytes.iter().rposition(|&byte| byte != 0)?;
    Some(bytes[..=last].to_vec())
}

/// Texts by their tags.
type Texts = Vec<(u16, Vec<u8>)>;

/// Those texts of an EXIF block's first directory.
pub(super) fn exif_texts(exif: &[u8]) -> Texts {
    let Some(directory) = Directory::of(exif) else { return vec![] };
    let text = |(tag, at): (usize, usize)| {
        let tag = u16::try_from(tag).ok().filter(|tag| TEXT_TAGS.contains(tag))?;
        let (kind, length) = (directory.u16(at + 2)?, directory.u32(at + 4)?);
        let begin = if length > 4 { directory.u32(at + 8)? } else { at + 8 };
        let bytes = exif.get(begin..begin.checked_add(length)?)?;
        text_of(bytes).filter(|_| kind == 2).map(|text| (tag, text))
    };
    directory.entries().filter_map(text).collect()
}

/// The directories that the first one points to: how the picture was taken, and where.
pub(super) const SUB_DIRECTORIES: [u16; 2] = [0x8769, 0x8825];

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub tag: u16,
    /// Its TIFF type.
    pub kind: u16,
    /// Its values, little endian.
    pub bytes: Vec<u8>,
}

impl Entry {
    /// None for what cannot be moved to another file: types that are not known or are places in the file, the pointer to the
    /// interoperability directory, and the maker's notes, which hold places unsaid.
    pub fn new(tag: u16, kind: u16, bytes: Vec<u8>) -> Option<Self> {
        let movable = !matches!(tag, 0x927c | 0xa005) && value_sizes(kind).is_some();
        movable.then_some(Self { tag, kind, bytes })
    }

    /// Its values in the machine's byte order.
    pub fn native(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        if cfg!(target_endian = "big") {
            reverse_numbers(self.kind, &mut bytes);
        }
        bytes
    }
}

/// Bytes of a TIFF type's value, and of the numbers that it is made of.
fn value_sizes(kind: u16) -> Option<(usize, usize)> {
    Some(match kind {
        1 | 2 | 6 | 7 => (1, 1),
        3 | 8 => (2, 2),
        4 | 9 | 11 => (4, 4),
        5 | 10 => (8, 4),
        12 => (8, 8),
        _ => return None,
    })
}

/// From big endian to little, or back.
pub(super) fn reverse_numbers(kind: u16, bytes: &mut [u8]) {
    let number = value_sizes(kind).map_or(1, |(_, number)| number);
    bytes.chunks_exact_mut(number).for_each(<[u8]>::reverse);
}

/// The entries of one of an EXIF block's [`SUB_DIRECTORIES`].
pub(super) fn exif_entries(exif: &[u8], pointer: u16) -> Vec<Entry> {
    let read = || -> Option<Vec<Entry>> {
        let first = Directory::of(exif)?;
        let (_, at) = first.entries().find(|(tag, _)| *tag == usize::from(pointer))?;
        let directory = Directory { at: first.u32(at + 8)?, ..first };
        // Entries may claim the same bytes over and over.
        let mut left = exif.len();
        let entry = |(tag, at): (usize, usize)| {
            let (kind, count) = (u16::try_from(directory.u16(at + 2)?).ok()?, directory.u32(at + 4)?);
            let length = value_sizes(kind)?.0.checked_mul(count)?;
            let begin = if length > 4 { directory.u32(at + 8)? } else { at + 8 };
            let mut bytes = exif.get(begin..begin.checked_add(length)?)?.to_vec();
            left = left.checked_sub(length)?;
            if !directory.little {
                reverse_numbers(kind, &mut bytes);
            }
            Entry::new(u16::try_from(tag).ok()?, kind, bytes)
        };
        Some(directory.entries().filter_map(entry).collect())
    };
    read().unwrap_or_default()
}

/// An EXIF block of what a TIFF file holds: texts, their tags ascending, and [`SUB_DIRECTORIES`], in their order.
pub(super) fn exif_block(texts: &[(u16, Vec<u8>)], directories: [Vec<Entry>; 2]) -> Option<Vec<u8>> {
    let text = |(tag, text): &(u16, Vec<u8>)| Entry { tag: *tag, kind: 2, bytes: [text, &[0][..]].concat() };
    let mut first: Vec<Entry> = texts.iter().map(text).collect();
    let mut block = b"II*\0\0\0\0\0".to_vec();
    for (pointer, entries) in SUB_DIRECTORIES.into_iter().zip(directories) {
        if !entries.is_empty() {
            let at = put_directory(&mut block, entries);
            first.push(Entry { tag: pointer, kind: 4, bytes: at.to_le_bytes().to_vec() });
        }
    }
    if first.is_empty() {
        return None;
    }
    let at = put_directory(&mut block, first);
    block[4..8].copy_from_slice(&at.to_le_bytes());
    Some(block)
}

/// Appends a directory; says where it is.
fn put_directory(block: &mut Vec<u8>, mut entries: Vec<Entry>) -> u32 {
    entries.sort_by_key(|entry| entry.tag);
    let at = block.len();
    block.extend((entries.len() as u16).to_le_bytes());
    let mut tail = Vec::new();
    let tail_at = block.len() + 12 * entries.len() + 4;
    for Entry { tag, kind, bytes } in entries {
        let count = bytes.len() / value_sizes(kind).map_or(1, |(size, _)| size);
        block.extend(tag.to_le_bytes());
        block.extend(kind.to_le_bytes());
        block.extend((count as u32).to_le_bytes());
        if bytes.len() > 4 {
            block.extend(((tail_at + tail.len()) as u32).to_le_bytes());
            tail.extend(bytes);
            // Offsets are even.
            tail.resize(tail.len().next_multiple_of(2), 0);
        } else {
            let mut inline = [0; 4];
            inline[..bytes.len()].copy_from_slice(&bytes);
            block.extend(inline);
        }
    }
    block.extend([0; 4]);
    block.extend(tail);
    at as u32
}

/// The density in a JPEG file's JFIF segment.
pub(super) fn jfif_resolution(start: &[u8]) -> Option<Resolution> {
    // SOI, then APP0: length, "JFIF", version, unit, x, y.
    let segment = start.strip_prefix(&[0xff, 0xd8, 0xff, 0xe0])?;
    let &[_, _, b'J', b'F', b'I', b'F', 0, _, _, unit, x1, x0, y1, y0] = segment.first_chunk::<14>()? else {
        return None;
    };
    let (x, y) = (f64::from(u16::from_be_bytes([x1, x0])), f64::from(u16::from_be_bytes([y1, y0])));
    let inches = match unit {
        1 => 1.0,
        2 => 2.54,
        _ => return None,
    };
    (x > 0.0 && y > 0.0).then_some(Resolution { x: x * inches, y: y * inches })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block as a camera writes it: a text, how the picture was taken, where, and what cannot be moved.
    fn taken() -> (Texts, [Vec<Entry>; 2]) {
        let texts = vec![(0x10f, b"Maker".to_vec()), (0x8298, b"me".to_vec())];
        let entry = |tag, kind, bytes: &[u8]| Entry::new(tag, kind, bytes.to_vec()).unwrap();
        let exposure = entry(0x829a, 5, &[1, 0, 0, 0, 250, 0, 0, 0]);
        let speed = entry(0x8827, 3, &[0x90, 0x01]);
        let date = entry(0x9003, 2, b"2026:11:25 12:00:00\0");
        let north = entry(1, 2, b"N\0");
        (texts, [vec![exposure, speed, date], vec![north]])
    }

    #[test]
    fn directories_of_a_block_come_out_as_they_went_in_whatever_its_byte_order() {
        let (texts, [taken, place]) = taken();
        let block = exif_block(&texts, [taken.clone(), place.clone()]).unwrap();
        assert_eq!(exif_texts(&block), texts);
        assert_eq!(exif_entries(&block, 0x8769), taken);
        assert_eq!(exif_entries(&block, 0x8825), place);
        // The same in the other byte order, written by hand: one directory with one number.
        let big = b"MM\0*\0\0\0\x08\0\x01\x87\x69\0\x04\0\0\0\x01\0\0\0\x1a\0\0\0\0\0\x01\x88\x27\0\x03\0\0\0\x01\x01\x90\0\0\0\0\0\0";
        assert_eq!(exif_entries(big, 0x8769), [Entry { tag: 0x8827, kind: 3, bytes: vec![0x90, 0x01] }]);
        assert!(exif_block(&[], [vec![], vec![]]).is_none());
    }

    #[test]
    fn what_cannot_be_moved_is_left_out_and_damage_harms_nothing() {
        assert!(Entry::new(0x927c, 7, vec![1, 2]).is_none(), "maker's notes");
        assert!(Entry::new(0xa005, 4, vec![0; 4]).is_none(), "a place in the file");
        assert!(Entry::new(1, 13, vec![0; 4]).is_none(), "a place in the file");
        let (texts, directories) = taken();
        let block = exif_block(&texts, directories).unwrap();
        for cut in 0..block.len() {
            exif_entries(&block[..cut], 0x8769);
        }
        for i in 0..block.len() {
            for value in [0, 0x7f, 0xff] {
                let mut damaged = block.clone();
                damaged[i] = value;
                let bytes: usize = exif_entries(&damaged, 0x8769).iter().map(|e| e.bytes.len()).sum();
                assert!(bytes <= block.len());
            }
        }
    }

    #[test]
    fn every_orientation_turns_as_the_image_crate_does() {
        let (w, h) = (3, 2);
        let pixels: Vec<u8> = (0..w * h * 2).collect();
        for exif in 1..=8 {
            let orientation = Orientation::from_exif(exif).unwrap();
            let mut expected = image::DynamicImage::ImageLumaA8(
                image::ImageBuffer::from_raw(w.into(), h.into(), pixels.clone()).unwrap(),
            );
            expected.apply_orientation(orientation);
            let (turned, width, height) = turn(&pixels, (w.into(), h.into(), 2), orientation);
            assert_eq!((width as u32, height as u32), (expected.width(), expected.height()), "{exif}");
            assert_eq!(turned, expected.into_bytes(), "{exif}");
        }
    }

    #[test]
    fn damaged_exif_says_nothing_and_does_no_harm() {
        let mut exif = b"II*\0\x08\0\0\0\x02\0".to_vec();
        exif.extend(b"\x1a\x01\x05\0\x01\0\0\0\x26\0\0\0\x1b\x01\x05\0\x01\0\0\0\x26\0\0\0\0\0\0\0");
        exif.extend(b"\x2c\x01\0\0\x01\0\0\0");
        assert_eq!(exif_resolution(&exif), Some(Resolution { x: 300.0, y: 300.0 }));
        let texts =
            exif_block(&[(0x10f, b"Maker & Co".into()), (0x8298, b"me".into())], [vec![], vec![]]).unwrap();
        for exif in [exif, texts, with_thumbnail(THUMBNAIL.len())] {
            let read = |exif: &[u8]| {
                let mut metadata = Metadata::default();
                metadata.take_exif(Some(exif.to_vec()));
                exif_texts(exif);
            };
            for length in 0..exif.len() {
                read(&exif[..length]);
            }
            for i in 0..exif.len() {
                for bit in [1, 0x80, 0xff] {
                    let mut damaged = exif.clone();
                    damaged[i] ^= bit;
                    read(&damaged);
                }
            }
        }
    }

    #[test]
    fn texts_survive_an_exif_block_whatever_their_letters() {
        let latin_1 = b"\xa9 Zo\xeb".to_vec();
        let texts = [(0x10e, b"A long description".to_vec()), (0x13b, b"me".into()), (0x8298, latin_1)];
        assert_eq!(exif_texts(&exif_block(&texts, [vec![], vec![]]).unwrap()), texts);
        assert_eq!(exif_block(&[], [vec![], vec![]]), None);
        assert_eq!(text_of(b"Ann\0Bob\0\0"), Some(b"Ann\0Bob".to_vec()));
        assert_eq!(text_of(b"\0\0"), None);
    }

    const THUMBNAIL: &[u8] = b"\xff\xd8the face as it was\xff\xd9";

    /// A block with an artist and a thumbnail, which is said to be so long.
    fn with_thumbnail(length: usize) -> Vec<u8> {
        let number = |tag, value: usize| Entry { tag, kind: 4, bytes: (value as u32).to_le_bytes().to_vec() };
        let mut block = b"II*\0\0\0\0\0".to_vec();
        let picture = block.len();
        block.extend(THUMBNAIL);
        let first =
            put_directory(&mut block, vec![Entry { tag: 0x13b, kind: 2, bytes: b"Painter\0".to_vec() }]);
        let second = put_directory(&mut block, vec![number(0x201, picture), number(0x202, length)]);
        block[4..8].copy_from_slice(&first.to_le_bytes());
        block[first as usize + 2 + 12..][..4].copy_from_slice(&second.to_le_bytes());
        block
    }

    #[test]
    fn nothing_of_the_thumbnail_is_left_in_the_block() {
        let shown = |exif: &[u8]| exif.windows(THUMBNAIL.len()).any(|bytes| bytes == THUMBNAIL);
        let taken = |exif: Vec<u8>| {
            let mut metadata = Metadata::default();
            metadata.take_exif(Some(exif));
            metadata.exif.unwrap()
        };
        let block = with_thumbnail(THUMBNAIL.len());
        assert!(shown(&block));
        let exif = taken(block);
        assert!(!shown(&exif));
        assert_eq!(exif_texts(&exif), [(0x13b, b"Painter".to_vec())]);
        // One that would end behind the block is not looked for; what else there is stays.
        for length in [1 << 10, u32::MAX as usize] {
            assert_eq!(exif_texts(&taken(with_thumbnail(length))), [(0x13b, b"Painter".to_vec())]);
        }
    }
}
