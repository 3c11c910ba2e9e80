//! Picture files: the format is told by their content when read, by their name when written.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read, Seek, Write};
use std::path::Path;

use image::codecs::jpeg::{JpegEncoder, PixelDensity, PixelDensityUnit};
use image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageError, ImageFormat, ImageReader,
};

use super::metadata::{Metadata, jfif_resolution};
use super::{Picture, Resolution, Samples, jpeg, tiff};
use crate::{Error, Result};

/// More pixels than this are refused, so that a few bytes of a hostile file do not ask for all memory.
const MAX_PIXELS: u64 = 1 << 28;
/// What decoding one file may allocate, in bytes.
pub(super) const MAX_BYTES: u64 = 5 << 30;

/// JPEG quality that shows no artefacts at a glance; who wants the pixels themselves takes another format.
const JPEG_QUALITY: u8 = 95;

pub(super) fn check_size(width: u32, height: u32) -> std::result::Result<(), String> {
    if width == 0 || height == 0 || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(format!("{width} x {height} pixels; a picture has 1 to {MAX_PIXELS}"));
    }
    Ok(())
}

/// Opens a picture file and tells its format by its first bytes.
pub(super) fn open(path: &Path) -> Result<(BufReader<File>, ImageFormat)> {
    let io = |e| Error::io(path, e);
    let reader =
        ImageReader::new(BufReader::new(File::open(path).map_err(io)?)).with_guessed_format().map_err(io)?;
    let format = reader.format();
    let mut file = reader.into_inner();
    file.rewind().map_err(io)?;
    match format {
        Some(f @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::Tiff | ImageFormat::WebP)) => {
            Ok((file, f))
        }
        _ => Err(Error::format(path, "not a PNG, JPEG, TIFF or WebP file: save it as one of these")),
    }
}

impl Picture {
    /// Reads a PNG, JPEG, TIFF or WebP file, told by its content, in its own sample type and channels.
    ///
    /// A palette is expanded and gray of less than 8 bits widened. Of a TIFF file with several pictures, the first
    /// is read; half-float samples become float. An EXIF orientation is applied: the picture is upright. What else the file
    /// says beside its pixels is kept ([`Picture::metadata`]).
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read; [`Error::Format`] when it is of another format, damaged, cut
    /// short, larger than 2^28 pixels, or of a colour type that would have to be converted (CMYK, premultiplied alpha).
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (file, format) = open(path)?;
        Self::read_from(file, format, path)
    }

    pub(super) fn read_from(file: BufReader<File>, format: ImageFormat, path: &Path) -> Result<Self> {
        if format == ImageFormat::Tiff {
            return tiff::read(file).map_err(|what| Error::format(path, what));
        }
        let failed = |e| read_error(path, e);
        let (mut file, resolution) = file_resolution(file, format, path)?;
        if format == ImageFormat::Jpeg {
            let io = |e| Error::io(path, e);
            if let Some(what) = jpeg::fault(&mut file).map_err(io)? {
                return Err(Error::format(path, what));
            }
            file.rewind().map_err(io)?;
        }
        let mut reader = ImageReader::with_format(file, format);
        let mut limits = image::Limits::no_limits();
        limits.max_alloc = Some(MAX_BYTES);
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(failed)?;
        let (width, height) = decoder.dimensions();
        check_size(width, height).map_err(|what| Error::format(path, what))?;
        let icc_profile = decoder.icc_profile().map_err(failed)?;
        let mut metadata =
            Metadata { icc_profile: icc_profile.map(Into::into), resolution, ..Metadata::default() };
        metadata.take_exif(decoder.exif_metadata().map_err(failed)?);
        let (channels, samples) = match DynamicImage::from_decoder(decoder).map_err(failed)? {
            DynamicImage::ImageLuma8(p) => (1, Samples::U8(p.into_raw())),
            DynamicImage::ImageLumaA8(p) => (2, Samples::U8(p.into_raw())),
            DynamicImage::ImageRgb8(p) => (3, Samples::U8(p.into_raw())),
            DynamicImage::ImageRgba8(p) => (4, Samples::U8(p.into_raw())),
            DynamicImage::ImageLuma16(p) => (1, Samples::U16(p.into_raw())),
            DynamicImage::ImageLumaA16(p) => (2, Samples::U16(p.into_raw())),
            DynamicImage::ImageRgb16(p) => (3, Samples::U16(p.into_raw())),
            DynamicImage::ImageRgba16(p) => (4, Samples::U16(p.into_raw())),
            other => {
                return Err(Error::format(
                    path,
                    format!("pictures of type {:?} are not read", other.color()),
                ));
            }
        };
        let picture = Self::new(width as usize, height as usize, channels, samples)?;
        Ok(picture.with_metadata(metadata).upright())
    }

    /// Writes a PNG, JPEG, TIFF or WebP file, chosen by the name's ending (png, jpg, jpeg, tif, tiff, webp).
    ///
    /// PNG, TIFF and WebP hold the samples exactly (WebP stores gray as RGB), JPEG does not. The file is written
    /// beside `path` and renamed, so that `path` holds either what it held or the whole new picture.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be written; [`Error::InvalidArgument`] when the ending is another, or when
    /// the format cannot hold the picture: float samples need TIFF, 16-bit ones PNG or TIFF; JPEG has no alpha and WebP no
    /// gray colour profile; a side is at most 65535 pixels long in JPEG, 16384 in WebP.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let format = self.output_format(path)?;
        replace(path, |out| self.encode(format, out, path))
    }

    /// Whether [`write`](Self::write) could write a picture of this kind to `path`, as far as its name tells; for a
    /// check before hours of work.
    pub fn check_writable(&self, path: impl AsRef<Path>) -> Result<()> {
        self.output_format(path.as_ref()).map(|_| ())
    }

    fn output_format(&self, path: &Path) -> Result<ImageFormat> {
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        let format = match ending.as_str() {
            "png" => ImageFormat::Png,
            "jpg" | "jpeg" => ImageFormat::Jpeg,
            "tif" | "tiff" => ImageFormat::Tiff,
            "webp" => ImageFormat::WebP,
            _ => {
                let what = "the name of a picture to write ends in .png, .jpg, .jpeg, .tif, .tiff or .webp";
                return Err(Error::invalid(format!("{}: {what}", path.display())));
            }
        };
        if self.fits(format) {
            return Ok(format);
        }
        let mut picture = format!("{} picture", self.samples().kind());
        if self.channels().is_multiple_of(2) {
            picture += " with alpha";
        }
        if self.is_too_long(format) {
            picture += &format!(" of {} x {} pixels", self.width(), self.height());
        }
        if format == ImageFormat::WebP && self.has_gray_profile() {
            picture += " with a gray colour profile";
        }
        let instead = match (self.fits(ImageFormat::Png), self.fits(ImageFormat::WebP)) {
            (false, _) => ".tiff",
            (true, false) => ".png or .tiff",
            (true, true) => ".png, .tiff or .webp",
        };
        Err(Error::invalid(format!(
            "{}: .{ending} cannot hold this {picture}: write {instead}",
            path.display()
        )))
    }

    /// Whether a file of this format can hold the picture's kind of samples, its alpha, its size and its colour profile.
    fn fits(&self, format: ImageFormat) -> bool {
        let kind = match (format, self.samples()) {
            (ImageFormat::Tiff, _) | (ImageFormat::Png, Samples::U8(_) | Samples::U16(_)) => true,
            (ImageFormat::Jpeg, Samples::U8(_)) => !self.channels().is_multiple_of(2),
            // It stores gray as RGB, of which a gray profile says nothing.
            (ImageFormat::WebP, Samples::U8(_)) => !self.has_gray_profile(),
            _ => false,
        };
        kind && !self.is_too_long(format)
    }

    fn is_too_long(&self, format: ImageFormat) -> bool {
        let longest = match format {
            ImageFormat::Jpeg => 65_535,
            ImageFormat::WebP => 16_384,
            _ => return false,
        };
        self.width().max(self.height()) > longest
    }

    fn has_gray_profile(&self) -> bool {
        let space = self.icc_profile().and_then(|profile| profile.get(16..20));
        self.color_channels() == 1 && space == Some(b"GRAY")
    }

    fn encode(&self, format: ImageFormat, mut out: impl Write + Seek, path: &Path) -> Result<()> {
        match format {
            ImageFormat::Png => self.encode_png(out, path),
            ImageFormat::Jpeg => self.encode_jpeg(out, path),
            ImageFormat::WebP => self.encode_webp(out, path),
            _ => tiff::write(self, &mut out).map_err(|e| match e {
                ::tiff::TiffError::IoError(e) => Error::io(path, e),
                e => Error::format(path, e.to_string()),
            }),
        }
    }

    fn size(&self) -> Result<(u32, u32)> {
        let size = |v: usize| u32::try_from(v).ok();
        size(self.width()).zip(size(self.height())).ok_or_else(|| {
            Error::invalid(format!("{} x {} pixels are too many to write", self.width(), self.height()))
        })
    }

    fn encode_png(&self, out: impl Write, path: &Path) -> Result<()> {
        use png::{BitDepth, ColorType};
        let (width, height) = self.size()?;
        let metadata = self.metadata();
        let mut info = png::Info::with_size(width, height);
        info.icc_profile = metadata.icc_profile.as_deref().map(Cow::Borrowed);
        info.exif_metadata = metadata.exif.as_deref().map(Cow::Borrowed);
        info.pixel_dims = metadata.resolution.map(|r| png::PixelDimensions {
            xppu: per_metre(r.x),
            yppu: per_metre(r.y),
            unit: png::Unit::Meter,
        });
        let wrong = |e: png::EncodingError| match e {
            png::EncodingError::IoError(e) => Error::io(path, e),
            e => Error::format(path, format!("cannot be written: {e}")),
        };
        let mut encoder = png::Encoder::with_info(out, info).map_err(wrong)?;
        encoder.set_color(
            [ColorType::Grayscale, ColorType::GrayscaleAlpha, ColorType::Rgb, ColorType::Rgba]
                [self.channels() - 1],
        );
        // As the image crate does: a tenth of the time of the best, a tenth larger.
        encoder.set_compression(png::Compression::Fast);
        encoder.set_filter(png::Filter::Adaptive);
        for (keyword, text) in [(XMP_KEYWORD, &metadata.xmp), (RECORD_KEYWORD, &metadata.record)] {
            if let Some(text) = text {
                encoder.add_itxt_chunk(keyword.into(), text.to_string()).map_err(wrong)?;
            }
        }
        let big_endian: Vec<u8>;
        let bytes = match self.samples() {
            Samples::U8(v) => v.as_slice(),
            Samples::U16(v) => {
                encoder.set_depth(BitDepth::Sixteen);
                big_endian = v.iter().flat_map(|s| s.to_be_bytes()).collect();
                &big_endian
            }
            Samples::F32(_) => return Err(Error::invalid("float samples are written as TIFF")),
        };
        let mut writer = encoder.write_header().map_err(wrong)?;
        writer.write_image_data(bytes).map_err(wrong)?;
        writer.finish().map_err(wrong)
    }

    fn encode_jpeg(&self, mut out: impl Write, path: &Path) -> Result<()> {
        let (width, height) = self.size()?;
        let metadata = self.metadata();
        let wrong = |e: ImageError| match e {
            ImageError::IoError(e) => Error::io(path, e),
            e => Error::format(path, format!("cannot be written: {e}")),
        };
        let Samples::U8(samples) = self.samples() else {
            return Err(Error::invalid("JPEG holds 8-bit samples"));
        };
        let mut file = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut file, JPEG_QUALITY);
        if let Some(r) = metadata.resolution {
            let density = |v: f64| v.round().clamp(1.0, 65535.0) as u16;
            encoder.set_pixel_density(PixelDensity {
                density: (density(r.x), density(r.y)),
                unit: PixelDensityUnit::Inches,
            });
        }
        let unsupported = |e: image::error::UnsupportedError| Error::format(path, e.to_string());
        if let Some(icc_profile) = self.icc_profile() {
            encoder.set_icc_profile(icc_profile.to_vec()).map_err(unsupported)?;
        }
        // A segment holds so much and no more.
        if let Some(exif) = metadata.exif.as_deref().filter(|e| e.len() < 65_500) {
            encoder.set_exif_metadata(exif.to_vec()).map_err(unsupported)?;
        }
        let color = [ExtendedColorType::L8, ExtendedColorType::Rgb8][self.channels() / 2];
        encoder.write_image(samples, width, height, color).map_err(wrong)?;
        let io = |e| Error::io(path, e);
        // After the JFIF segment, which must be first.
        let (head, tail) = file.split_at(2 + 2 + jpeg_segment(&file, 2).unwrap_or(0));
        out.write_all(head).map_err(io)?;
        if let Some(xmp) = metadata.xmp.as_deref().filter(|x| x.len() < 65_500) {
            let length = (2 + JPEG_XMP.len() + xmp.len()) as u16;
            out.write_all(&[&[0xff, 0xe1], &length.to_be_bytes()[..], JPEG_XMP, xmp.as_bytes()].concat())
                .map_err(io)?;
        }
        out.write_all(tail).map_err(io)
    }

    fn encode_webp(&self, out: impl Write, path: &Path) -> Result<()> {
        use image_webp::ColorType::{L8, La8, Rgb8, Rgba8};
        let (width, height) = self.size()?;
        let metadata = self.metadata();
        let Samples::U8(samples) = self.samples() else {
            return Err(Error::invalid("WebP holds 8-bit samples"));
        };
        let mut encoder = image_webp::WebPEncoder::new(out);
        if let Some(icc_profile) = &metadata.icc_profile {
            encoder.set_icc_profile(icc_profile.to_vec());
        }
        if let Some(exif) = &metadata.exif {
            encoder.set_exif_metadata(exif.to_vec());
        }
        if let Some(xmp) = &metadata.xmp {
            encoder.set_xmp_metadata(xmp.as_bytes().to_vec());
        }
        encoder.encode(samples, width, height, [L8, La8, Rgb8, Rgba8][self.channels() - 1]).map_err(|e| {
            match e {
                image_webp::EncodingError::IoError(e) => Error::io(path, e),
                e => Error::format(path, format!("cannot be written: {e}")),
            }
        })
    }
}

/// Keywords of the PNG text chunks that hold the XMP packet and the record.
const XMP_KEYWORD: &str = "XML:com.adobe.xmp";
pub(crate) const RECORD_KEYWORD: &str = "ca2sis";
/// What a JPEG segment with an XMP packet begins with.
const JPEG_XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

/// Dots per inch as PNG's whole dots per metre.
fn per_metre(inch: f64) -> u32 {
    (inch / 0.0254).round().clamp(1.0, 2e9) as u32
}

/// Length of the APP0 segment at `at`, if there is one.
fn jpeg_segment(file: &[u8], at: usize) -> Option<usize> {
    match file.get(at..at + 4)? {
        &[0xff, 0xe0, high, low] => Some(usize::from(u16::from_be_bytes([high, low]))),
        _ => None,
    }
}

/// The resolution where the image crate does not tell it: PNG's pHYs, JPEG's JFIF segment.
fn file_resolution(
    mut file: BufReader<File>,
    format: ImageFormat,
    path: &Path,
) -> Result<(BufReader<File>, Option<Resolution>)> {
    let io = |e| Error::io(path, e);
    let resolution = match format {
        ImageFormat::Png => {
            let limits = png::Limits { bytes: 64 << 20 };
            // What is wrong with the file is said when it is decoded.
            let reader = png::Decoder::new_with_limits(&mut file, limits).read_info();
            reader.ok().and_then(|r| r.info().pixel_dims).and_then(|d| {
                let inch = |v: u32| f64::from(v) * 0.0254;
                (d.unit == png::Unit::Meter && d.xppu > 0 && d.yppu > 0)
                    .then(|| Resolution { x: inch(d.xppu), y: inch(d.yppu) })
            })
        }
        ImageFormat::Jpeg => {
            let mut start = Vec::new();
            file.by_ref().take(32).read_to_end(&mut start).map_err(io)?;
            jfif_resolution(&start)
        }
        _ => None,
    };
    file.rewind().map_err(io)?;
    Ok((file, resolution))
}

/// Writes a file beside `path` and renames it to `path` once it is whole.
pub(super) fn replace(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut File>) -> Result<()>,
) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut options = tempfile::Builder::new();
    // A temporary file is its owner's alone unless told otherwise; a picture is like any other file (less the umask).
    #[cfg(unix)]
    options.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let io = |e| Error::io(path, e);
    // The error of a file in a folder that is not there would name the temporary one.
    std::fs::metadata(folder).map_err(|e| Error::io(folder, e))?;
    let mut file = options.tempfile_in(folder).map_err(io)?;
    let mut out = BufWriter::new(file.as_file_mut());
    write(&mut out)?;
    out.flush().map_err(io)?;
    drop(out);
    // On the disk before it takes the place of what was there, so that a power cut leaves one of the two.
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|e| io(e.error))?;
    Ok(())
}

/// A file that ends early is damaged, not unreadable.
fn read_error(path: &Path, e: ImageError) -> Error {
    match e {
        ImageError::IoError(e) if e.kind() != ErrorKind::UnexpectedEof && e.raw_os_error().is_some() => {
            Error::io(path, e)
        }
        e => Error::format(path, format!("damaged or not supported: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moxcms::ColorProfile;

    fn gray(width: usize, height: usize) -> Picture {
        Picture::new(width, height, 1, Samples::U8(vec![7; width * height])).unwrap()
    }

    /// Why `picture` is not to be written to a file of this name, or nothing.
    fn refused(picture: &Picture, name: &str) -> String {
        picture.check_writable(name).map_or_else(|e| e.to_string(), |()| String::new())
    }

    #[test]
    fn a_jpeg_is_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("photo.jpg");
        let pixels = (0..64 * 48 * 3u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        Picture::new(64, 48, 3, Samples::U8(pixels)).unwrap().write(&path).unwrap();
        let (file, picture) = (std::fs::read(&path).unwrap(), Picture::read(&path).unwrap());
        let failed = |file: &[u8]| {
            std::fs::write(&path, file).unwrap();
            match Picture::read(&path) {
                Err(Error::Format { what, .. }) => what,
                other => panic!("{other:?}"),
            }
        };
        assert!(failed(&file[..file.len() / 2]).starts_with("cut short"));
        assert!(failed(&file[..file.len() - 1]).starts_with("cut short"));
        let mut cmyk = file.clone();
        let frame = file.windows(2).position(|pair| pair == b"\xff\xc0").unwrap();
        cmyk[frame + 9] = 4;
        assert!(failed(&cmyk).contains("convert it to RGB"));
        std::fs::write(&path, [&file[..], b"a film"].concat()).unwrap();
        assert_eq!(Picture::read(&path).unwrap(), picture);
    }

    #[test]
    fn a_picture_too_long_for_its_format_is_refused_before_the_work() {
        let long = gray(16_385, 1);
        assert!(refused(&long, "x.webp").ends_with("8-bit picture of 16385 x 1 pixels: write .png or .tiff"));
        assert_eq!(refused(&long, "x.jpg"), "");
        assert_eq!(refused(&gray(1, 16_384), "x.webp"), "");
        let high = gray(1, 65_536);
        assert!(refused(&high, "x.jpg").ends_with("8-bit picture of 1 x 65536 pixels: write .png or .tiff"));
        assert_eq!((refused(&high, "x.png"), refused(&high, "x.tiff")), Default::default());
        assert_eq!(refused(&gray(65_535, 1), "x.jpeg"), "");
    }

    #[test]
    fn what_to_write_instead_can_hold_the_picture() {
        let with_alpha = |width| Picture::new(width, 1, 2, Samples::U8(vec![7; 2 * width])).unwrap();
        assert!(refused(&with_alpha(9), "x.jpg").ends_with("with alpha: write .png, .tiff or .webp"));
        assert!(refused(&with_alpha(20_000), "x.jpg").ends_with("with alpha: write .png or .tiff"));
        let float = Picture::new(1, 1, 1, Samples::F32(vec![0.5])).unwrap();
        assert!(refused(&float, "x.png").ends_with("float picture: write .tiff"));
        let deep = Picture::new(1, 1, 1, Samples::U16(vec![5])).unwrap();
        assert!(refused(&deep, "x.webp").ends_with("16-bit picture: write .png or .tiff"));
    }

    #[test]
    fn a_gray_profile_is_not_put_on_the_rgb_of_a_webp() {
        let mut picture = gray(4, 4);
        picture.metadata_mut().icc_profile =
            Some(ColorProfile::new_gray_with_gamma(2.2).encode().unwrap().into());
        let why = refused(&picture, "x.webp");
        assert!(why.ends_with("8-bit picture with a gray colour profile: write .png or .tiff"), "{why}");
        for name in ["x.png", "x.tiff", "x.jpg"] {
            assert_eq!(refused(&picture, name), "");
        }
        picture.metadata_mut().icc_profile = Some(ColorProfile::new_srgb().encode().unwrap().into());
        assert_eq!(refused(&picture, "x.webp"), "");
    }
}
