//! A look over a JPEG file before it is decoded: the decoder fills up one that is cut short with gray, and takes CMYK for RGB.

use std::io::{BufRead, ErrorKind, Read, Result, Seek};

/// What is wrong with a JPEG file, in words, as far as the decoder does not say it.
///
/// Goes from marker to marker up to the end of the first picture; what phones and cameras put behind that does not matter.
pub(super) fn fault(file: &mut (impl BufRead + Seek)) -> Result<Option<&'static str>> {
    match walk(file) {
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => {
            Ok(Some("cut short: the end of the picture is missing: copy the file again from where it came"))
        }
        other => other,
    }
}

fn walk(file: &mut (impl BufRead + Seek)) -> Result<Option<&'static str>> {
    loop {
        // Between segments lie coded pixels: there a 0 follows on 0xff, or the number of a restart.
        file.skip_until(0xff)?;
        let mut marker = 0xff;
        // Any number of 0xff may stand before a marker.
        while marker == 0xff {
            [marker] = bytes(file)?;
        }
        match marker {
            0xd9 => return Ok(None),
            0..=0xbf | 0xd0..=0xd8 => continue,
            _ => {}
        }
        let mut left = i64::from(u16::from_be_bytes(bytes(file)?)) - 2;
        // A frame's header; the three others are tables and an extension.
        if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
            let [_bits, _, _, _, _, components] = bytes(file)?;
            if components == 4 {
                return Ok(Some("CMYK picture: convert it to RGB first"));
            }
            left -= 6;
        }
        // A length that cannot be is left to the decoder, which says more.
        file.seek_relative(left.max(0))?;
    }
}

fn bytes<const N: usize>(file: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn said(file: &[u8]) -> Option<&'static str> {
        fault(&mut Cursor::new(file)).unwrap()
    }

    fn is_cut_short(file: &[u8]) -> bool {
        said(file).is_some_and(|what| what.starts_with("cut short"))
    }

    /// A picture as the image crate writes it, so busy that its pixels take most of the file.
    fn jpeg() -> Vec<u8> {
        let pixels: Vec<u8> =
            (0..40 * 30 * 3u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut file = Vec::new();
        let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, 95);
        image::ImageEncoder::write_image(encoder, &pixels, 40, 30, image::ExtendedColorType::Rgb8).unwrap();
        file
    }

    #[test]
    fn a_whole_file_is_in_order_and_one_cut_anywhere_is_not() {
        let file = jpeg();
        assert_eq!(said(&file), None);
        for length in 2..file.len() {
            assert!(is_cut_short(&file[..length]), "{length} of {} bytes", file.len());
        }
    }

    #[test]
    fn what_a_phone_puts_behind_the_picture_does_not_matter() {
        let file = jpeg();
        for behind in [&b"a film\xff\xda"[..], b"\xff", b"\0\0", &file, &file[..100]] {
            assert_eq!(said(&[&file, behind].concat()), None);
        }
    }

    #[test]
    fn an_end_within_a_thumbnail_is_not_the_pictures() {
        let file = jpeg();
        let thumbnail = [&b"\xff\xe1\x00\x08"[..], b"\xff\xd8\xff\xff\xff\xd9"].concat();
        let with = [&file[..2], &thumbnail, &file[2..]].concat();
        assert_eq!(said(&with), None);
        assert!(is_cut_short(&with[..with.len() / 2]));
    }

    /// Two scans with stuffed bytes, restarts and bytes that fill up, and a table between them.
    #[test]
    fn scans_go_on_to_the_next_marker() {
        let scan = b"\xff\xda\x00\x03\xd9pixels\xff\x00\xff\xd0more\xff\xd7\xff\x00\xd9";
        let table = b"\xff\xff\xff\xc4\x00\x05\xff\xd9\xff";
        let file = [&b"\xff\xd8"[..], scan, table, scan, b"\xff\xff\xd9"].concat();
        assert_eq!(said(&file), None);
        for length in 2..file.len() {
            assert!(is_cut_short(&file[..length]), "{length} of {} bytes", file.len());
        }
    }

    #[test]
    fn four_components_are_cmyk_whatever_the_kind_of_frame() {
        let file = jpeg();
        let frame = file.windows(2).position(|pair| pair == b"\xff\xc0").unwrap();
        for kind in [0xc0, 0xc1, 0xc2] {
            let mut cmyk = file.clone();
            (cmyk[frame + 1], cmyk[frame + 9]) = (kind, 4);
            assert_eq!(said(&cmyk), Some("CMYK picture: convert it to RGB first"));
        }
    }
}
