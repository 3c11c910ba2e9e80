//! Network sizes with a name.

use crate::nn::{Config, LabelerSizes, Stage};
use crate::{Error, Result};

/// The names that [`preset`] knows.
pub const PRESETS: [&str; 2] = ["studio-128", "published"];

/// The sizes called `name`, for `classes` classes: `published` (256x256, the paper's widths) or `studio-128` (128x128, small enough
/// to train on a processor and to run in a fraction of a second).
pub fn preset(name: &str, classes: usize) -> Result<Config> {
    match name {
        "published" => Ok(Config::published(classes, 32, 256, true)),
        "studio-128" => Ok(studio_128(classes)),
        _ => {
            Err(Error::invalid(format!("no preset is called {name:?}; there are {}", PRESETS.join(" and "))))
        }
    }
}

/// The sizes of a labeler where none are given: 4.1 million weights at ten classes, 1.7 GFLOP for 128x128 pixels.
pub fn labeler() -> LabelerSizes {
    LabelerSizes { widths: vec![16, 32, 64, 160, 240, 240] }
}

fn studio_128(classes: usize) -> Config {
    let stage = |channels_in, channels_out, up, heads, head_width, self_attention| Stage {
        channels_in,
        channels_out,
        up,
        heads,
        head_width,
        ff_factor: 2,
        self_attention,
    };
    Config {
        classes,
        resolution: 128,
        norm_groups: 8,
        style_dim: 64,
        style_base: 4,
        style_downs: 5,
        style_scales: 4,
        mask_size: 64,
        mask_rank: Some(16),
        base_size: 32,
        exclude_background: false,
        mapping: None,
        labeler: None,
        stages: vec![
            stage(96, 96, false, 4, 32, true),
            stage(96, 48, true, 4, 16, false),
            stage(48, 24, true, 2, 16, false),
        ],
    }
}
