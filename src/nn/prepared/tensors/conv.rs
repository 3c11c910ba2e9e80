//! Group norms and 3x3 convolutions of feature maps `(b, h, w, c)`, and the residual blocks made of them.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};

use super::{Kind, joined, parts, product};
use crate::nn::generator::ResBlock;
use crate::nn::layers::{Conv3x3, GroupNorm};
#[cfg(feature = "cuda")]
use crate::nn::ops;
use crate::nn::ops::Activation;

/// Where the windows of 3x3 convolutions with padding 1 lie: for each pixel of the result, nine of the input's.
#[derive(Default)]
pub(super) struct Indices(BTreeMap<(usize, usize), Tensor>);

/// Gathers zeros.
const BORDER: u32 = u32::MAX;

impl Indices {
    /// Of a picture `side` pixels square, by `stride`.
    pub fn get(&mut self, kind: &Kind, side: usize, stride: usize) -> Result<Tensor> {
        if let Some(index) = self.0.get(&(side, stride)) {
            return Ok(index.clone());
        }
        let out = (side - 1) / stride + 1;
        let mut index = Vec::with_capacity(out * out * 9);
        for (y, x) in (0..out).flat_map(|y| (0..out).map(move |x| (y, x))) {
            for (dy, dx) in (0..3).flat_map(|dy| (0..3).map(move |dx| (dy, dx))) {
                // One more than the place: zero and beyond `side` are the border.
                let (y, x) = (y * stride + dy, x * stride + dx);
                let inside = (1..=side).contains(&y) && (1..=side).contains(&x);
                index.push(if inside { ((y - 1) * side + x - 1) as u32 } else { BORDER });
            }
        }
        let index = Tensor::from_vec(index, out * out * 9, &kind.device)?;
        self.0.insert((side, stride), index.clone());
        Ok(index)
    }
}

/// A group norm with its SiLU, if it has one, for maps of one size.
#[derive(Debug)]
pub(super) struct Norm {
    /// `(w c, groups)`: times a row of pixels, the row's means by group.
    means: Tensor,
    /// `(1, 1, groups, c / groups)`
    weight: Tensor,
    bias: Tensor,
    eps: f64,
    silu: bool,
}

impl Norm {
    pub fn new(kind: &Kind, norm: &GroupNorm, side: usize) -> Result<Self> {
        let (channels, groups) = (norm.weight.dim(0)?, norm.groups);
        let width = channels / groups;
        let share = 1.0 / (side * width) as f64;
        let mean = |i: usize| if i / groups % channels / width == i % groups { share } else { 0.0 };
        let means = (0..side * channels * groups).map(mean).collect();
        let by_group = |t: &Tensor| t.detach().reshape((1, 1, groups, width));
        Ok(Self {
            means: kind.constant(means, &[side * channels, groups])?,
            weight: by_group(&norm.weight)?,
            bias: by_group(&norm.bias)?,
            eps: norm.eps,
            silu: norm.activation == Activation::Silu,
        })
    }

    /// Means by picture and group `(b, 1, groups, 1)` of `(b, h w, groups, c / groups)`.
    fn mean(&self, x: &Tensor, rows: usize) -> Result<Tensor> {
        let (b, groups) = (x.dim(0)?, x.dim(2)?);
        let rows = x.reshape((b * rows, ()))?.matmul(&self.means)?;
        rows.reshape((b, (), groups))?.mean_keepdim(1)?.unsqueeze(3)
    }

    /// `(b, h, w, c)`; holds two more of its size at once.
    pub fn run(&self, x: &Tensor) -> Result<Tensor> {
        let (b, h, w, c) = x.dims4()?;
        let groups = self.weight.dim(2)?;
        #[cfg(feature = "cuda")]
        if ops::on_cuda(x) {
            let activation = if self.silu { Activation::Silu } else { Activation::None };
            let affine = (self.weight.flatten_all()?, self.bias.flatten_all()?);
            return ops::group_norm(x, groups, Some((&affine.0, &affine.1)), self.eps, activation);
        }
        let x = x.reshape((b, h * w, groups, c / groups))?;
        let mut y = x.broadcast_sub(&self.mean(&x, h)?)?;
        let variance = self.mean(&y.sqr()?, h)?;
        let scale = self.weight.broadcast_mul(&(variance + self.eps)?.sqrt()?.recip()?)?;
        y = y.broadcast_mul(&scale)?;
        y = y.broadcast_add(&self.bias)?;
        if self.silu {
            y = y.silu()?;
        }
        y.reshape((b, h, w, c))
    }
}

/// A convolution of maps of one size, with doubling before it or without; its bias is the user's.
#[derive(Debug)]
pub(super) struct Conv {
    index: Tensor,
    /// `(9 c, o)`, or `(9 c, 4 o)` with doubling.
    weight: Tensor,
    outputs: usize,
    doubled: bool,
}

/// Which taps of a 3x3 window on a doubled picture fall on which pixel of the picture itself, along one side: by place of the
/// pixel among the two that it becomes, then tap on the picture.
const TAPS: [[&[usize]; 3]; 2] = [[&[0], &[1, 2], &[]], [&[], &[0, 1], &[2]]];

impl Conv {
    pub fn new(
        kind: &Kind,
        indices: &mut Indices,
        conv: &Conv3x3,
        side: usize,
        doubled: bool,
    ) -> Result<Self> {
        let (outputs, inputs, _, _) = conv.weight.dims4()?;
        let taps = conv.weight.detach().permute((2, 3, 1, 0))?.reshape((9, inputs * outputs))?;
        let weight = match doubled {
            false => taps.reshape((9 * inputs, outputs))?,
            true => {
                // Which taps add up: by place among four, tap on the picture itself, tap of the convolution.
                let mut sums = vec![0.0; 4 * 9 * 9];
                for place in 0..4 {
                    for tap in 0..9 {
                        for &dy in TAPS[place / 2][tap / 3] {
                            for &dx in TAPS[place % 2][tap % 3] {
                                sums[(place * 9 + tap) * 9 + 3 * dy + dx] = 1.0;
                            }
                        }
                    }
                }
                let summed = kind.constant(sums, &[36, 9])?.matmul(&taps)?;
                let summed = summed.reshape((4, 9, inputs, outputs))?.permute((1, 2, 0, 3))?;
                summed.reshape((9 * inputs, 4 * outputs))?
            }
        };
        let weight = weight.to_dtype(kind.factors)?.contiguous()?;
        Ok(Self { index: indices.get(kind, side, conv.stride)?, weight, outputs, doubled })
    }

    /// `(b, h, w, c)` to `(b, h', w', o)`.
    pub fn run(&self, kind: &Kind, x: Tensor, tile: usize) -> Result<Tensor> {
        let (b, h, w, c) = x.dims4()?;
        let x = x.reshape((b, h * w, c))?.to_dtype(kind.factors)?;
        let columns = self.weight.dim(1)?;
        let mut rows = Vec::new();
        for (first, count) in parts(self.index.dim(0)? / 9, b * 9 * c * kind.factor_bytes(), tile) {
            let windows = x.index_select(&self.index.narrow(0, first * 9, count * 9)?, 1)?;
            let y = product(&windows.reshape((b * count, 9 * c))?, &self.weight)?;
            rows.push(y.reshape((b, count, columns))?);
        }
        let y = joined(rows, 1)?.to_dtype(kind.exact)?;
        if !self.doubled {
            return y.reshape((b, h, w, self.outputs));
        }
        let y = y.reshape(vec![b, h, w, 2, 2, self.outputs])?.permute(vec![0, 1, 3, 2, 4, 5])?;
        y.reshape((b, 2 * h, 2 * w, self.outputs))
    }

    /// Of one picture.
    fn flops(&self) -> f64 {
        2.0 * (self.index.elem_count() / 9 * self.weight.elem_count()) as f64
    }
}

/// `res{i}`
#[derive(Debug)]
pub(super) struct Residual {
    norm_in: Norm,
    conv_in: Conv,
    conv_in_bias: Tensor,
    norm_out: Norm,
    conv_out: Conv,
    /// `(c, o)`
    skip: Option<Tensor>,
    /// Of the last convolution and of the skip connection.
    out_bias: Tensor,
    inputs: usize,
}

impl Residual {
    /// For maps `side` pixels square.
    pub fn new(kind: &Kind, indices: &mut Indices, block: &ResBlock, side: usize) -> Result<Self> {
        let behind = if block.up { 2 * side } else { side };
        let mut out_bias = block.conv_out.bias.detach();
        let skip = match &block.skip {
            None => None,
            Some(skip) => {
                out_bias = (out_bias + skip.bias.detach())?;
                Some(skip.weight.detach().flatten_from(1)?.t()?.contiguous()?)
            }
        };
        Ok(Self {
            norm_in: Norm::new(kind, &block.norm_in, side)?,
            conv_in: Conv::new(kind, indices, &block.conv_in, side, block.up)?,
            conv_in_bias: block.conv_in.bias.detach(),
            norm_out: Norm::new(kind, &block.norm_out, behind)?,
            conv_out: Conv::new(kind, indices, &block.conv_out, behind, false)?,
            skip,
            out_bias,
            inputs: block.conv_in.weight.dim(1)?,
        })
    }

    /// Of the result for a map of `side` pixels square.
    pub fn side(&self, side: usize) -> usize {
        if self.conv_in.doubled { 2 * side } else { side }
    }

    pub fn run(&self, kind: &Kind, x: Tensor, tile: usize) -> Result<Tensor> {
        let mut y = self.conv_in.run(kind, self.norm_in.run(&x)?, tile)?;
        y = y.broadcast_add(&self.conv_in_bias)?;
        y = self.conv_out.run(kind, self.norm_out.run(&y)?, tile)?;
        let (b, h, w, c) = x.dims4()?;
        let skip = match &self.skip {
            // Small beside the convolutions, and what carries the picture: exact.
            Some(weight) => x.reshape((b * h * w, c))?.matmul(weight)?,
            None => x.reshape((b * h * w, c))?,
        };
        let skip = skip.broadcast_add(&self.out_bias)?;
        let o = self.conv_out.outputs;
        if !self.conv_in.doubled {
            return skip.reshape((b, h, w, o))? + y;
        }
        // Each of its pixels beside the four that it becomes.
        let y = y.reshape(vec![b, h, 2, w, 2, o])?;
        y.broadcast_add(&skip.reshape(vec![b, h, 1, w, 1, o])?)?.reshape((b, 2 * h, 2 * w, o))
    }

    /// Bytes beside weights, for maps of `side` pixels square: the block's input, its norm's results, a gathered tile and a
    /// few maps of the result.
    pub fn bytes(&self, kind: &Kind, pictures: usize, side: usize, tile: usize) -> usize {
        let behind = self.side(side);
        let inputs = pictures * side * side * self.inputs;
        let outputs = pictures * behind * behind * self.conv_out.outputs;
        let windows = inputs.max(outputs) * 9 * kind.factor_bytes();
        (4 * inputs + 5 * outputs) * kind.exact_bytes() + windows.min(tile + windows / (behind * behind) * 2)
    }

    /// Of one picture `side` pixels square.
    pub fn flops(&self, side: usize) -> f64 {
        let skip = self.skip.as_ref().map_or(0, |s| 2 * side * side * s.elem_count());
        self.conv_in.flops() + self.conv_out.flops() + skip as f64
    }
}
