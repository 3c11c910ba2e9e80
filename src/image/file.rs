//! Picture files: the format is told by their content when read, by their name when written.

use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Seek, Write};
use std::path::Path;

use image::codecs::{jpeg::JpegEncoder, png::PngEncoder, webp::WebPEncoder};
use image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageError, ImageFormat, ImageReader,
};

use super::{Picture, Samples, tiff};
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
        _ => Err(Error::format(path, "not a PNG, JPEG, TIFF or WebP file")),
    }
}

impl Picture {
    /// Reads a PNG, JPEG, TIFF or WebP file, told by its content, in its own sample type and channels.
    ///
    /// A palette is expanded and gray of less than 8 bits widened. Of a TIFF file with several pictures, the first
    /// is read; half-float samples become float. EXIF orientation is not applied.
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
        let mut reader = ImageReader::with_format(file, format);
        let mut limits = image::Limits::no_limits();
        limits.max_alloc = Some(MAX_BYTES);
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(failed)?;
        let (width, height) = decoder.dimensions();
        check_size(width, height).map_err(|what| Error::format(path, what))?;
        if matches!(decoder.original_color_type(), ExtendedColorType::Cmyk8 | ExtendedColorType::Cmyk16) {
            return Err(Error::format(path, "CMYK picture: save it as RGB"));
        }
        let icc_profile = decoder.icc_profile().map_err(failed)?;
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
        Ok(Self::new(width as usize, height as usize, channels, samples)?.with_icc_profile(icc_profile))
    }

    /// Writes a PNG, JPEG, TIFF or WebP file, chosen by the name's ending (png, jpg, jpeg, tif, tiff, webp).
    ///
    /// PNG, TIFF and WebP hold the samples exactly (WebP stores gray as RGB), JPEG does not. The file is written
    /// beside `path` and renamed, so that `path` holds either what it held or the whole new picture.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be written; [`Error::InvalidArgument`] when the ending is another, or when
    /// the format cannot hold the picture: float samples need TIFF, 16-bit ones PNG or TIFF, and JPEG has no alpha.
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
        let instead = match (self.samples(), format) {
            (Samples::F32(_), ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP) => {
                Some("write .tiff")
            }
            (Samples::U16(_), ImageFormat::Jpeg | ImageFormat::WebP) => Some("write .png or .tiff"),
            (_, ImageFormat::Jpeg) if self.channels().is_multiple_of(2) => Some("write .png, .tiff or .webp"),
            _ => None,
        };
        match instead {
            None => Ok(format),
            Some(instead) => {
                let alpha = if self.channels().is_multiple_of(2) { " with alpha" } else { "" };
                let kind = self.samples().kind();
                Err(Error::invalid(format!(
                    "{}: .{ending} cannot hold this {kind} picture{alpha}: {instead}",
                    path.display()
                )))
            }
        }
    }

    fn encode(&self, format: ImageFormat, mut out: impl Write + Seek, path: &Path) -> Result<()> {
        match format {
            ImageFormat::Png => self.encode_with(PngEncoder::new(out), path),
            ImageFormat::Jpeg => self.encode_with(JpegEncoder::new_with_quality(out, JPEG_QUALITY), path),
            ImageFormat::WebP => self.encode_with(WebPEncoder::new_lossless(out), path),
            _ => tiff::write(self, &mut out).map_err(|e| match e {
                ::tiff::TiffError::IoError(e) => Error::io(path, e),
                e => Error::format(path, e.to_string()),
            }),
        }
    }

    fn encode_with(&self, mut encoder: impl ImageEncoder, path: &Path) -> Result<()> {
        let too_large =
            |_| Error::invalid(format!("{} x {} pixels are too many to write", self.width(), self.height()));
        let (width, height) = (
            u32::try_from(self.width()).map_err(too_large)?,
            u32::try_from(self.height()).map_err(too_large)?,
        );
        if let Some(icc_profile) = self.icc_profile() {
            encoder.set_icc_profile(icc_profile.to_vec()).map_err(|e| Error::format(path, e.to_string()))?;
        }
        use ExtendedColorType::{L8, L16, La8, La16, Rgb8, Rgb16, Rgba8, Rgba16};
        let written = match self.samples() {
            Samples::U8(v) => {
                encoder.write_image(v, width, height, [L8, La8, Rgb8, Rgba8][self.channels() - 1])
            }
            Samples::U16(v) => {
                let bytes: Vec<u8> = v.iter().flat_map(|s| s.to_ne_bytes()).collect();
                encoder.write_image(&bytes, width, height, [L16, La16, Rgb16, Rgba16][self.channels() - 1])
            }
            Samples::F32(_) => return Err(Error::invalid("float samples are written as TIFF")),
        };
        written.map_err(|e| match e {
            ImageError::IoError(e) => Error::io(path, e),
            e => Error::format(path, format!("cannot be written: {e}")),
        })
    }
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
    let mut file = options.tempfile_in(folder).map_err(io)?;
    let mut out = BufWriter::new(file.as_file_mut());
    write(&mut out)?;
    out.flush().map_err(io)?;
    drop(out);
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
