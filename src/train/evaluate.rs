//! Held-out figures and sheets.

use std::path::Path;

use candle_core::{DType, Tensor};
use serde::Serialize;

use super::data::{Batch, Dataset};
use crate::nn::{Network, Precision};
use crate::progress::Progress;
use crate::{Error, Result};

/// Means over held-out pictures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    pub pictures: usize,
    /// Peak signal-to-noise ratio in dB, mean over pictures.
    pub psnr: f64,
    /// Mean absolute difference of values in [0, 1].
    pub l1: f64,
}

/// Pictures decoded at once.
const CHUNK: usize = 8;

/// How well `network` gives the first `limit` held-out pictures (`pairs` false: reconstructions) or pairs. None when there
/// are none.
pub fn held_out(network: &Network, data: &Dataset, pairs: bool, limit: usize) -> Result<Option<Figures>> {
    let (own, paired) = data.held_len();
    let count = if pairs { paired } else { own }.min(limit);
    let (mut psnr, mut l1) = (0.0, 0.0);
    for first in (0..count).step_by(CHUNK) {
        let batch = data.held(pairs, first..(first + CHUNK).min(count), network.device())?;
        let difference = ((render(network, &batch)? - &batch.target_rgb)? * 0.5)?.flatten_from(1)?;
        let to_vec = |t: Tensor| t.to_dtype(DType::F64)?.to_vec1::<f64>();
        let squares = to_vec(difference.sqr()?.mean(1)?)?;
        psnr += squares.iter().map(|&s| -10.0 * at_least(s, 1e-10).log10()).sum::<f64>();
        l1 += to_vec(difference.abs()?.mean(1)?)?.iter().sum::<f64>();
    }
    let n = count as f64;
    Ok((count > 0).then(|| Figures { pictures: count, psnr: psnr / n, l1: l1 / n }))
}

/// The larger; what is no number stays so.
fn at_least(value: f64, least: f64) -> f64 {
    if value < least { least } else { value }
}

fn render(network: &Network, batch: &Batch) -> Result<Tensor> {
    let style = network.encode_style(&batch.style_rgb, &batch.style_labels, Progress::NONE)?;
    network.generate(&network.encode_mask(&batch.target_labels)?, &style, Progress::NONE)
}

/// How near the first `limit` held-out pictures in bf16 come to those in f32, as [`Metadata::bf16_db`](crate::model::Metadata)
/// has it. None when there are none.
pub fn bf16_db(network: &Network, data: &Dataset, limit: usize) -> Result<Option<u32>> {
    let rounded = network.clone().with_precision(Precision::Bf16);
    let mut worst: Option<f64> = None;
    for i in 0..data.held_len().0.min(limit) {
        let batch = data.held(false, i..i + 1, network.device())?;
        let style = network.encode_style(&batch.style_rgb, &batch.style_labels, Progress::NONE)?;
        let code = network.encode_mask(&batch.target_labels)?;
        let exact = network.generate(&code, &style, Progress::NONE)?;
        // In the form for GPUs, which rounds so on every device.
        let rounded = rounded.prepare_tensors(&style.squeeze(0)?)?.generate_batch(&code, Progress::NONE)?;
        let square = f64::from((exact - rounded)?.sqr()?.mean_all()?.to_scalar::<f32>()?);
        let db = 10.0 * (4.0 / at_least(square, 1e-20)).log10();
        let db = if db.is_nan() { 0.0 } else { db };
        worst = Some(worst.map_or(db, |worst| worst.min(db)));
    }
    Ok(worst.map(|db| db.max(0.0) as u32))
}

/// Writes a PNG with a row for each of the first `rows` held-out reconstructions, then pairs: label map in palette colours,
/// style picture, output, target. Writes nothing when nothing is held out.
pub fn write_sheet(network: &Network, data: &Dataset, rows: usize, path: &Path) -> Result<()> {
    let side = network.config().resolution;
    let (own, paired) = data.held_len();
    let (own, paired) = (own.min(rows), paired.min(rows));
    let mut panels = Vec::new();
    for (pairs, count) in [(false, own), (true, paired)] {
        for i in 0..count {
            let batch = data.held(pairs, i..i + 1, network.device())?;
            let colours = |&label: &u8| data.classes()[usize::from(label)].color;
            panels.push(vec![
                data.held_labels(pairs, i).iter().flat_map(colours).collect(),
                bytes(&batch.style_rgb)?,
                bytes(&render(network, &batch)?)?,
                bytes(&batch.target_rgb)?,
            ]);
        }
    }
    write_panels(&panels, side, path)
}

/// Writes rows of square RGB panels as a PNG; nothing when there are none.
pub(super) fn write_panels(rows: &[Vec<Vec<u8>>], side: usize, path: &Path) -> Result<()> {
    let Some(columns) = rows.first().map(Vec::len) else { return Ok(()) };
    let step = side + 2;
    let mut sheet = image::RgbImage::from_pixel((columns * step) as u32, (rows.len() * step) as u32, WHITE);
    for (y, row) in rows.iter().enumerate() {
        for (x, panel) in row.iter().enumerate() {
            let panel = image::RgbImage::from_raw(side as u32, side as u32, panel.clone())
                .expect("a panel has three bytes a pixel");
            image::imageops::replace(&mut sheet, &panel, (x * step) as i64, (y * step) as i64);
        }
    }
    sheet.save(path).map_err(|e| match e {
        image::ImageError::IoError(e) => Error::io(path, e),
        e => Error::format(path, e.to_string()),
    })
}

const WHITE: image::Rgb<u8> = image::Rgb([255; 3]);

pub(super) fn bytes(rgb: &Tensor) -> Result<Vec<u8>> {
    let values = rgb.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.iter().map(|v| (v * 127.5 + 127.5).round().clamp(0.0, 255.0) as u8).collect())
}
