//! Where the network looks for each class: its cross-attention, as pictures.

use crate::image::{LabelMap, RgbImage};
use crate::nn::{Config, Network};
use crate::progress::Progress;
use crate::restyle::{Bounds, Window, attention_bytes, network_bytes};
use crate::style::{Style, check_classes};
use crate::{Error, Result};

/// The attention maps of every class at the size of a label map's picture: white where pixels attend to the class.
#[derive(Clone, Debug)]
pub struct AttentionMaps {
    /// Gray pictures by class index.
    pub classes: Vec<RgbImage>,
}

/// Bytes that [`attention`] allocates at most for a label map of this size, its maps included, beside the labels and the
/// model: an estimate from above.
pub fn plan(config: &Config, width: usize, height: usize) -> u64 {
    let maps = (width * height * 12) as u64 * config.classes as u64;
    let sums = (config.resolution * config.resolution * (4 * config.classes + 24)) as u64;
    let enlarged = (config.resolution * width.max(height) * 12) as u64;
    network_bytes(config) + attention_bytes(config) + maps + sums + enlarged
}

/// The attention of each pixel to each class while the network makes the picture of `labels` in `style`: the sigmoid of the
/// head-averaged logits, which training holds against the class's own mask. Of stage `stage` (from 0), or the mean of all.
///
/// # Errors
/// [`Error::InvalidArgument`] when the labels have a class that the network does not have, the style is of another model, or
/// there is no such stage; [`Error::Tensor`] when the device fails; [`Error::Cancelled`].
pub fn attention(
    network: &Network,
    labels: &LabelMap,
    style: &Style,
    stage: Option<usize>,
    progress: Progress,
) -> Result<AttentionMaps> {
    check_classes("the labels", labels, network.config().classes)?;
    style.check(network)?;
    let (config, device) = (network.config(), network.device());
    let stages = config.stages.len();
    if let Some(stage) = stage
        && stage >= stages
    {
        return Err(Error::invalid(format!("stage {stage}, but the model has stages 0 to {}", stages - 1)));
    }
    let (width, height) = (labels.width(), labels.height());
    let window = Window::whole(width, height);
    let shape = window.labels(labels, config.resolution).to_tensor(config.classes, device)?;
    let decoded = network.decode(
        &network.encode_mask(&shape)?,
        &style.codes().unsqueeze(0)?,
        progress.part(0.0, 0.9),
    )?;
    let chosen = match stage {
        Some(stage) => &decoded.attention[stage..=stage],
        None => &decoded.attention[..],
    };
    let side = config.resolution;
    let mut sums = vec![vec![0.0; side * side]; config.classes];
    for logits in chosen {
        let n = config.classes;
        let logits = logits.squeeze(0)?.to_vec2::<f32>()?; // (side side, n)
        let small = logits.len().isqrt();
        for (class, sum) in sums.iter_mut().enumerate().take(n) {
            let value = |v: &Vec<f32>| 1.0 / (1.0 + (-v[class]).exp());
            let pixels = logits.iter().flat_map(|v| [value(v); 3]).collect();
            let map = RgbImage { width: small, height: small, pixels }.resized(side, side);
            for (sum, rgb) in sum.iter_mut().zip(map.pixels.chunks_exact(3)) {
                *sum += rgb[0] / chosen.len() as f32;
            }
        }
    }
    let bounds = Bounds { left: 0, top: 0, right: width, bottom: height };
    let back = |sum: Vec<f32>| {
        let pixels = sum.iter().flat_map(|&v| [v; 3]).collect();
        window.back(&RgbImage { width: side, height: side, pixels }, bounds, (width, height)).into_image()
    };
    progress.at(1.0)?;
    Ok(AttentionMaps { classes: sums.into_iter().map(back).collect() })
}
