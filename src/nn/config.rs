//! The sizes of a network, as a model file states them.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// One residual block `res{i}` and the transformer `cross{i}` behind it; `i` counts from 2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Channels into the residual block.
    pub channels_in: usize,
    /// Channels out of the residual block, and through the transformer.
    pub channels_out: usize,
    /// Whether the residual block doubles height and width first.
    pub up: bool,
    pub heads: usize,
    /// Channels of one attention head; the transformer's inner width is `heads * head_width`.
    pub head_width: usize,
    /// Hidden width of the feed-forward over the inner width (4 in the published network).
    pub ff_factor: usize,
    /// Whether pixels attend to pixels before they attend to styles.
    pub self_attention: bool,
}

/// The noise mapping: styles for every class from one normal vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// Width of the normal vector (16 as published).
    pub latent: usize,
    /// Width of the hidden layers (512 as published).
    pub width: usize,
}

/// The labeler, which proposes a picture's label map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelerSizes {
    /// Channels at the picture's own size, at half of it, at a quarter, and so on.
    pub widths: Vec<usize>,
}

impl LabelerSizes {
    /// Height and width of the pictures it reads are multiples of this.
    pub fn step(&self) -> usize {
        1 << (self.widths.len() - 1)
    }
}

/// Everything that fixes the shape of every tensor of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Number of classes, 1 to 255; at least 2 when the background is excluded.
    pub classes: usize,
    /// Side of the pictures the network reads and writes, in pixels.
    pub resolution: usize,
    /// Groups of the generator's group norms (32 as published).
    pub norm_groups: usize,
    /// Width of one class's style code at one scale (256 as published).
    pub style_dim: usize,
    /// Channels per class at the style encoder's full resolution (4 as published).
    pub style_base: usize,
    /// How often the style encoder halves the picture (6 as published).
    pub style_downs: usize,
    /// How many scales the style code has: steps back up (5 as published).
    pub style_scales: usize,
    /// Side of the label planes that the mask embedder reads (128 as published).
    pub mask_size: usize,
    /// The rank of what the mask embedder adds to the area average of the labels in each cell of the first feature map. None for a
    /// weight of every element, as published, which is more than half of a small network's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_rank: Option<usize>,
    /// Side of the generator's first feature map (16 as published).
    pub base_size: usize,
    /// Whether class 0 is left out of the mask embedding.
    pub exclude_background: bool,
    /// The noise mapping, where the network has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<Mapping>,
    /// The labeler, where the network has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labeler: Option<LabelerSizes>,
    pub stages: Vec<Stage>,
}

impl Config {
    /// The published network: 256x256, `ngf` 32 in the paper's CelebAMask-HQ model, style width `style_dim` (256).
    pub fn published(classes: usize, ngf: usize, style_dim: usize, exclude_background: bool) -> Self {
        let stage = |a, b, up, heads, head_width, self_attention| Stage {
            channels_in: ngf * a,
            channels_out: ngf * b,
            up,
            heads,
            head_width,
            ff_factor: 4,
            self_attention,
        };
        Self {
            classes,
            resolution: 256,
            norm_groups: 32,
            style_dim,
            style_base: 4,
            style_downs: 6,
            style_scales: 5,
            mask_size: 128,
            mask_rank: None,
            base_size: 16,
            exclude_background,
            mapping: Some(Mapping { latent: 16, width: 512 }),
            labeler: None,
            stages: vec![
                stage(16, 8, false, 8, 64, true),
                stage(8, 4, true, 8, 64, true),
                stage(4, 2, true, 8, 64, true),
                stage(2, 1, true, 8, 64, false),
                stage(1, 1, true, 4, 32, false),
            ],
        }
    }

    /// The same network for pictures of `side` pixels: only what counts pixels changes, so that all weights but the mask
    /// embedder's keep their shapes.
    ///
    /// # Errors
    /// A side at which the mask embedder's or the first feature map's would be no whole number, or that cannot be halved often
    /// enough for the style encoder or the labeler.
    pub fn at_side(&self, side: usize) -> Result<Self> {
        let scaled = |size: usize| {
            (size * side).is_multiple_of(self.resolution).then(|| size * side / self.resolution)
        };
        let (Some(mask_size), Some(base_size)) = (scaled(self.mask_size), scaled(self.base_size)) else {
            return Err(Error::Model(format!(
                "network sizes: side {side} is no multiple of what {} pixels have in one cell",
                self.resolution
            )));
        };
        let config = Self { resolution: side, mask_size, base_size, ..self.clone() };
        config.validate()?;
        Ok(config)
    }

    /// Width of a whole style code: one row of a style.
    pub fn style_width(&self) -> usize {
        self.style_dim * self.style_scales
    }

    /// Classes that the mask embedder sees.
    pub fn mask_classes(&self) -> usize {
        self.classes - usize::from(self.exclude_background)
    }

    /// Channels per class at level `i` of the style encoder.
    pub fn style_level(&self, i: usize) -> usize {
        self.style_base << i
    }

    /// Refuses sizes that contradict each other or that no sane model has, so that nothing later overflows,
    /// divides by zero, or allocates what a hostile header asks for.
    pub fn validate(&self) -> Result<()> {
        let bad = |what: String| Err(Error::Model(format!("network sizes: {what}")));
        let range = |name: &str, value: usize, low: usize, high: usize| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                bad(format!("{name} is {value}, not {low} to {high}"))
            }
        };
        range("classes", self.classes, 1 + usize::from(self.exclude_background), 255)?;
        range("resolution", self.resolution, 8, 2048)?;
        range("norm_groups", self.norm_groups, 1, 256)?;
        range("style_dim", self.style_dim, 1, 4096)?;
        range("style_base", self.style_base, 1, 64)?;
        range("style_downs", self.style_downs, 1, 8)?;
        range("style_scales", self.style_scales, 1, self.style_downs)?;
        range("mask_size", self.mask_size, 1, 512)?;
        range("base_size", self.base_size, 1, 256)?;
        if let Some(rank) = self.mask_rank {
            range("mask_rank", rank, 1, 4096)?;
            if !self.mask_size.is_multiple_of(self.base_size) {
                return bad(format!(
                    "mask_size {} is no multiple of base_size {}, as mask_rank asks",
                    self.mask_size, self.base_size
                ));
            }
        }
        range("number of stages", self.stages.len(), 1, 12)?;
        if !self.resolution.is_multiple_of(1 << self.style_downs) {
            return bad(format!(
                "resolution {} cannot be halved {} times (style_downs)",
                self.resolution, self.style_downs
            ));
        }
        if let Some(m) = self.mapping {
            range("mapping.latent", m.latent, 1, 4096)?;
            range("mapping.width", m.width, 1, 4096)?;
        }
        if let Some(labeler) = &self.labeler {
            range("number of labeler.widths", labeler.widths.len(), 2, 8)?;
            for &width in &labeler.widths {
                range("labeler.widths", width, 1, 4096)?;
                if width % self.norm_groups != 0 {
                    return bad(format!(
                        "labeler.widths: {width} is no multiple of norm_groups {}",
                        self.norm_groups
                    ));
                }
            }
            if !self.resolution.is_multiple_of(labeler.step()) {
                return bad(format!(
                    "resolution {} cannot be halved {} times (labeler.widths)",
                    self.resolution,
                    labeler.widths.len() - 1
                ));
            }
        }
        let mut side = self.base_size;
        for (k, s) in self.stages.iter().enumerate() {
            let i = k + 2;
            range(&format!("stage {i}: channels_in"), s.channels_in, 1, 4096)?;
            range(&format!("stage {i}: channels_out"), s.channels_out, 1, 4096)?;
            range(&format!("stage {i}: heads"), s.heads, 1, 64)?;
            range(&format!("stage {i}: head_width"), s.head_width, 1, 512)?;
            range(&format!("stage {i}: ff_factor"), s.ff_factor, 1, 16)?;
            for (name, c) in [("channels_in", s.channels_in), ("channels_out", s.channels_out)] {
                if c % self.norm_groups != 0 {
                    return bad(format!(
                        "stage {i}: {name} {c} is no multiple of norm_groups {}",
                        self.norm_groups
                    ));
                }
            }
            if k > 0 && s.channels_in != self.stages[k - 1].channels_out {
                return bad(format!(
                    "stage {i} takes {} channels, but stage {} gives {}",
                    s.channels_in,
                    i - 1,
                    self.stages[k - 1].channels_out
                ));
            }
            side <<= usize::from(s.up);
        }
        if side != self.resolution {
            return bad(format!(
                "base_size {} and the stages' doublings give {side}, not resolution {}",
                self.base_size, self.resolution
            ));
        }
        Ok(())
    }
}
