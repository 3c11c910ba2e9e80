//! The labeler `labeler`: class scores for every pixel of a picture.
//!
//! Not part of the paper, which takes label maps as given. A U-Net (Ronneberger, Fischer, Brox, arXiv 1505.04597) with
//! one convolution a step where the original has two, strided ones for its pooling, and group norm.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::Config;
use super::config::LabelerSizes;
use super::layers::{Conv3x3, GroupNorm, PointConv};
use super::ops::{self, Activation};

/// Convolution, group norm, SiLU.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) conv: Conv3x3,
    pub(super) norm: GroupNorm,
}

impl Block {
    fn new(c: &Config, inputs: usize, outputs: usize, stride: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            conv: Conv3x3::new(inputs, outputs, stride, vb.pp("conv"))?,
            norm: GroupNorm::new(c.norm_groups, outputs, 1e-5, Activation::Silu, vb.pp("norm"))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.norm.forward(&self.conv.forward(x)?)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Labeler {
    pub(super) enter: Block,
    /// Each halves the picture, then looks again.
    pub(super) downs: Vec<[Block; 2]>,
    /// From the deepest level up.
    pub(super) ups: Vec<Block>,
    pub(super) head: PointConv,
}

impl Labeler {
    pub fn new(c: &Config, sizes: &LabelerSizes, vb: VarBuilder) -> Result<Self> {
        let widths = &sizes.widths;
        let down = |(i, pair): (usize, &[usize])| {
            let vb = vb.pp("downs").pp(i);
            Ok([Block::new(c, pair[0], pair[1], 2, vb.pp(0))?, Block::new(c, pair[1], pair[1], 1, vb.pp(1))?])
        };
        let up =
            |(i, pair): (usize, &[usize])| Block::new(c, pair[0] + pair[1], pair[0], 1, vb.pp("ups").pp(i));
        Ok(Self {
            enter: Block::new(c, 3, widths[0], 1, vb.pp("enter"))?,
            downs: widths.windows(2).enumerate().map(down).collect::<Result<_>>()?,
            ups: widths.windows(2).enumerate().rev().map(up).collect::<Result<_>>()?,
            head: PointConv::new(widths[0], c.classes, vb.pp("head"))?,
        })
    }

    /// Picture `(b, h, w, 3)` in [-1, 1], height and width multiples of [`LabelerSizes::step`], to scores
    /// `(b, h, w, n)`: the logarithms of the classes' probabilities, up to a constant a pixel.
    pub fn forward(&self, rgb: &Tensor) -> Result<Tensor> {
        let mut x = self.enter.forward(rgb)?;
        let mut skips = Vec::with_capacity(self.downs.len());
        for [halve, look] in &self.downs {
            skips.push(x.clone());
            x = look.forward(&halve.forward(&x)?)?;
        }
        for (up, skip) in self.ups.iter().zip(skips.iter().rev()) {
            x = up.forward(&ops::join_doubled(&x, skip)?)?;
        }
        self.head.forward(&x)
    }
}
