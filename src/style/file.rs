//! Styles as bytes and files: one safetensors file with the codes and which model they are of.
//!
//! Tensors: `codes`, F32 `(classes, style width)`; `residuals`, F32 `(classes, 3)`; `errors`, F32 `(classes)`; `present`, U8 `(classes)`, 1 where the
//! reference showed the class; `statistics`, F64 `(classes, 10)`, of each class's display-encoded colours, 0 to 1: number of
//! pixels (0 for a class not shown, its row all 0), mean R, G, B, covariance RR, RG, RB, GG, GB, BB. A content's own style has
//! no statistics, but `drawn`, F32 `(resolution, resolution, 3)`: the generator's picture of the content's labels in it.
//! The header's metadata key `ca2sis_style` holds the format version, the model's fingerprint and name, and both sizes as
//! JSON, and for a content's own style the SHA-256 of what it was taken from. The same style gives the same bytes.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::{Drawn, Style};
use crate::image::RgbImage;
use crate::model::Model;
use crate::restyle::{Moments, Statistics};
use crate::{Error, Result};

/// The form of style files that this library writes and reads.
pub const STYLE_FORMAT: u32 = 3;

const KEY: &str = "ca2sis_style";

/// No style is longer: 255 classes of the widest code that a model can have and the largest picture, less the header.
const MAX_BYTES: u64 = 255 * 8 * 4096 * 4 + 2048 * 2048 * 12 + (1 << 20);

/// Numbers of one class's statistics.
const MOMENTS: usize = 10;

/// What is wrong with a style's bytes, without the file's name.
type Checked<T> = std::result::Result<T, String>;

#[derive(Serialize, Deserialize)]
struct Description {
    format: u32,
    /// SHA-256 of the model file.
    model: String,
    /// For messages.
    model_name: String,
    classes: usize,
    width: usize,
    /// Of a content's own style: what it was taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

impl Style {
    /// This style with its codes on `device`.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        Ok(Self { codes: self.codes.to_device(device)?, ..self.clone() })
    }

    /// The style as the bytes of a style file of `model`, the one that it was made with.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the style's sizes are not the model's.
    pub fn to_bytes(&self, model: &Model) -> Result<Vec<u8>> {
        let network = &model.metadata().network;
        let (classes, width) = self.codes.dims2()?;
        if (classes, width) != (network.classes, network.style_width()) {
            return Err(Error::invalid(format!(
                "the style is of another model: its codes are {classes} x {width}, this model's {} x {}",
                network.classes,
                network.style_width()
            )));
        }
        let description = Description {
            format: STYLE_FORMAT,
            model: model.hash().to_owned(),
            model_name: model.metadata().name.clone(),
            classes,
            width,
            content: self.drawn.as_ref().map(|d| d.of.clone()),
        };
        let codes = self.codes.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
        let codes: Vec<u8> = codes.iter().flat_map(|v| v.to_le_bytes()).collect();
        let residuals: Vec<u8> = self.residuals.as_flattened().iter().flat_map(|v| v.to_le_bytes()).collect();
        let errors: Vec<u8> = self.errors.iter().flat_map(|v| v.to_le_bytes()).collect();
        let present: Vec<u8> = self.present.iter().map(|&p| u8::from(p)).collect();
        let statistics: Vec<u8> = (self.statistics.moments().iter())
            .flat_map(|m| m.as_ref().map_or([0.0; MOMENTS], numbers))
            .flat_map(f64::to_le_bytes)
            .collect();
        let text = |e: &dyn std::fmt::Display| Error::Style(format!("cannot be written: {e}"));
        let json = serde_json::to_string(&description).map_err(|e| text(&e))?;
        let drawn: Option<(Vec<usize>, Vec<u8>)> = self.drawn.as_ref().map(|drawn| {
            let picture = &drawn.picture;
            let bytes = picture.pixels.iter().flat_map(|v| v.to_le_bytes()).collect();
            (vec![picture.height, picture.width, 3], bytes)
        });
        let mut tensors = vec![
            ("codes", TensorView::new(Dtype::F32, vec![classes, width], &codes).map_err(|e| text(&e))?),
            ("residuals", TensorView::new(Dtype::F32, vec![classes, 3], &residuals).map_err(|e| text(&e))?),
            ("errors", TensorView::new(Dtype::F32, vec![classes], &errors).map_err(|e| text(&e))?),
            ("present", TensorView::new(Dtype::U8, vec![classes], &present).map_err(|e| text(&e))?),
            (
                "statistics",
                TensorView::new(Dtype::F64, vec![classes, MOMENTS], &statistics).map_err(|e| text(&e))?,
            ),
        ];
        if let Some((shape, bytes)) = &drawn {
            let picture = TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(|e| text(&e))?;
            tensors.push(("drawn", picture));
        }
        safetensors::serialize(tensors, Some(HashMap::from([(KEY.to_owned(), json)]))).map_err(|e| text(&e))
    }

    /// Reads a style of `model` from the bytes of a style file.
    ///
    /// # Errors
    /// [`Error::Style`] when they are damaged, no style, of another format version, or of another model.
    pub fn from_bytes(model: &Model, bytes: &[u8]) -> Result<Self> {
        parse(model, bytes).map_err(Error::Style)
    }

    /// Writes a style file, whole or not at all: it is written beside `path` and renamed.
    ///
    /// # Errors
    /// Those of [`to_bytes`](Self::to_bytes); [`Error::Io`].
    pub fn save(&self, model: &Model, path: &Path) -> Result<()> {
        let bytes = self.to_bytes(model)?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut options = tempfile::Builder::new();
        // A temporary file is its owner's alone unless told otherwise; a style file is like any other (less the umask).
        #[cfg(unix)]
        options.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let io = |e| Error::io(path, e);
        let mut file = options.tempfile_in(folder).map_err(io)?;
        file.write_all(&bytes).map_err(io)?;
        file.as_file().sync_all().map_err(io)?;
        file.persist(path).map_err(|e| io(e.error))?;
        Ok(())
    }

    /// Reads a style file of `model`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] as [`from_bytes`](Self::from_bytes).
    pub fn open(model: &Model, path: &Path) -> Result<Self> {
        let io = |e| Error::io(path, e);
        // Before opening it: opening a pipe would wait for its writer.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(Error::format(path, "not a regular file"));
        }
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(io)?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
        parse(model, &bytes).map_err(|what| Error::format(path, what))
    }
}

/// Sizes first, so that nothing is allocated that a hostile file asks for; then whose it is, then the values.
fn parse(model: &Model, bytes: &[u8]) -> Checked<Style> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("longer than the {MAX_BYTES} bytes that a style can have"));
    }
    let damaged = |e: &dyn std::fmt::Display| format!("no style, or damaged: {e}");
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(&e))?;
    let json = header.metadata().as_ref().and_then(|m| m.get(KEY)).ok_or_else(|| {
        format!("a safetensors file, but no style of ca2sis: its header has no metadata key {KEY:?}")
    })?;
    #[derive(Deserialize)]
    struct Form {
        format: u32,
    }
    // First of all: another format may differ in everything else.
    let Form { format } = serde_json::from_str(json).map_err(|e| format!("its description: {e}"))?;
    if format != STYLE_FORMAT {
        return Err(format!(
            "style format {format}, but this version of ca2sis reads format {STYLE_FORMAT}: extract it again from its picture"
        ));
    }
    let description: Description = serde_json::from_str(json).map_err(|e| format!("its description: {e}"))?;
    let network = &model.metadata().network;
    let (classes, width) = (network.classes, network.style_width());
    let whose = |what: String| {
        format!(
            "a style of another model ({:?}), {what}: extract it again with the model in use ({:?})",
            description.model_name,
            model.metadata().name
        )
    };
    if (description.classes, description.width) != (classes, width) {
        return Err(whose(format!(
            "of {} classes and width {} instead of {classes} and {width}",
            description.classes, description.width
        )));
    }
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| damaged(&e))?;
    let (wanted, and) = match description.content {
        Some(_) => (6, " and \"drawn\""),
        None => (5, ""),
    };
    if tensors.len() != wanted {
        return Err(format!(
            "holds {} tensors, not \"codes\", \"residuals\", \"errors\", \"present\", \"statistics\"{and} alone",
            tensors.len()
        ));
    }
    let tensor = |name: &str, dtype, shape: &[usize]| -> Checked<TensorView> {
        let tensor = tensors.tensor(name).map_err(|e| damaged(&e))?;
        if tensor.dtype() == dtype && tensor.shape() == shape {
            return Ok(tensor);
        }
        Err(format!("its {name:?} is {} {:?}, not {dtype} {shape:?}", tensor.dtype(), tensor.shape()))
    };
    let codes = tensor("codes", Dtype::F32, &[classes, width])?;
    let residuals = tensor("residuals", Dtype::F32, &[classes, 3])?;
    let errors = tensor("errors", Dtype::F32, &[classes])?;
    let present = tensor("present", Dtype::U8, &[classes])?;
    let statistics = tensor("statistics", Dtype::F64, &[classes, MOMENTS])?;
    let side = network.resolution;
    let picture = description.content.as_ref().map(|_| tensor("drawn", Dtype::F32, &[side, side, 3]));
    let picture = picture.transpose()?;
    if description.model != model.hash() {
        return Err(whose("with other weights".into()));
    }
    let codes: Vec<f32> = codes.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    if let Some(i) = codes.iter().position(|v| !v.is_finite()) {
        return Err(format!("damaged: the code of class {} holds {}", i / width, codes[i]));
    }
    let residuals: Vec<[f32; 3]> = residuals
        .data()
        .as_chunks::<12>()
        .0
        .iter()
        .map(|b| [0, 4, 8].map(|k| f32::from_le_bytes([b[k], b[k + 1], b[k + 2], b[k + 3]])))
        .collect();
    if let Some(i) = residuals.as_flattened().iter().position(|v| !(-1.0..=1.0).contains(v)) {
        return Err(format!("damaged: the residual of class {} is outside [-1, 1]", i / 3));
    }
    let errors: Vec<f32> = errors.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    if let Some(i) = errors.iter().position(|v| !(0.0..=1.0).contains(v)) {
        return Err(format!("damaged: the error of class {i} is {}, not 0 to 1", errors[i]));
    }
    if let Some(strange) = present.data().iter().find(|&&p| p > 1) {
        return Err(format!("damaged: \"present\" holds {strange}, not 0 or 1"));
    }
    let statistics: Vec<f64> =
        statistics.data().as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
    let moments = statistics.as_chunks::<MOMENTS>().0.iter().enumerate().map(|(class, numbers)| {
        moments(numbers).ok_or_else(|| format!("damaged: the statistics of class {class} are of no colours"))
    });
    let drawn = description.content.zip(picture).map(|(of, picture)| {
        let pixels: Vec<f32> = picture.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        match pixels.iter().find(|v| !(0.0..=1.0).contains(*v)) {
            Some(strange) => Err(format!("damaged: \"drawn\" holds {strange}, not 0 to 1")),
            None => Ok(Arc::new(Drawn { of, picture: RgbImage { width: side, height: side, pixels } })),
        }
    });
    Ok(Style {
        drawn: drawn.transpose()?,
        statistics: Statistics::of_moments(moments.collect::<Checked<_>>()?),
        codes: Tensor::from_vec(codes, (classes, width), &Device::Cpu).map_err(|e| damaged(&e))?,
        present: present.data().iter().map(|&p| p == 1).collect(),
        residuals,
        errors,
    })
}

fn numbers(m: &Moments) -> [f64; MOMENTS] {
    let ([r, g, b], c) = (m.mean, m.covariance);
    [m.weight, r, g, b, c[0][0], c[0][1], c[0][2], c[1][1], c[1][2], c[2][2]]
}

/// None when the numbers are of no colours from 0 to 1.
fn moments(numbers: &[f64; MOMENTS]) -> Option<Option<Moments>> {
    let [weight, r, g, b, rr, rg, rb, gg, gb, bb] = *numbers;
    if *numbers == [0.0; MOMENTS] {
        return Some(None);
    }
    let mean = [r, g, b];
    let covariance = [[rr, rg, rb], [rg, gg, gb], [rb, gb, bb]];
    let variances = [rr, gg, bb];
    // Rounding: of float samples in the mean, of a difference of double sums in a flat colour's variance.
    let (low, most) = (-1e-9, 0.25 + 1e-5);
    let sound = weight > 0.0
        && weight.is_finite()
        && mean.iter().all(|v| (-1e-5..=1.0 + 1e-5).contains(v))
        && variances.iter().all(|v| (low..=most).contains(v))
        && (0..3)
            .all(|i| (0..3).all(|j| covariance[i][j].powi(2) <= (variances[i] - low) * (variances[j] - low)));
    sound.then_some(Some(Moments { weight, mean, covariance }))
}
