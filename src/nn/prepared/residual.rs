//! The residual blocks, from the sums that the step before has taken to the sums that the next one needs.

use candle_core::Result;

use super::fold::{Matrix, values};
use crate::kernels::matrix::{Panels, Rows, Start, product};
use crate::kernels::rows::{self, After};
use crate::kernels::simd::Level;
use crate::kernels::window::Conv3;
use crate::kernels::{Lines, Shared, norm, share_map};
use crate::nn::generator::ResBlock;
use crate::nn::layers::GroupNorm;
use crate::progress::Progress;

/// Sum and sum of squares of every channel.
#[derive(Clone, Debug)]
pub(in crate::nn) struct Sums {
    sums: Vec<f64>,
    squares: Vec<f64>,
}

impl Sums {
    /// Of whole pixels.
    pub fn of(x: &[f32], channels: usize) -> Self {
        let (mut sums, mut squares) = (vec![0.0; channels], vec![0.0; channels]);
        norm::channel_sums(x, &mut sums, &mut squares);
        Self { sums, squares }
    }

    pub fn new((sums, squares): (Vec<f64>, Vec<f64>)) -> Self {
        Self { sums, squares }
    }

    pub fn total(parts: Vec<Self>) -> Self {
        let mut parts = parts.into_iter();
        let mut total = parts.next().expect("a picture has pixels");
        for part in parts {
            for (t, p) in total.sums.iter_mut().zip(part.sums) {
                *t += p;
            }
            for (t, p) in total.squares.iter_mut().zip(part.squares) {
                *t += p;
            }
        }
        total
    }
}

/// A group norm; the activation behind it is the user's.
#[derive(Clone, Debug)]
pub(in crate::nn) struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    groups: usize,
    eps: f64,
}

impl Norm {
    pub fn new(norm: &GroupNorm) -> Result<Self> {
        let (weight, bias) = (values(&norm.weight)?, values(&norm.bias)?);
        Ok(Self { weight, bias, groups: norm.groups, eps: norm.eps })
    }

    /// `channels` of a norm whose groups lie one after the other, one group of them.
    pub fn group(&self, g: usize) -> Self {
        let width = self.weight.len() / self.groups;
        let part = |v: &[f32]| v[g * width..(g + 1) * width].to_vec();
        Self { weight: part(&self.weight), bias: part(&self.bias), groups: 1, eps: self.eps }
    }

    /// Scale and shift of every channel, from sums over `pixels` pixels.
    pub fn affine(&self, sums: &Sums, pixels: usize) -> (Vec<f32>, Vec<f32>) {
        let c = self.weight.len();
        let width = c / self.groups;
        let count = (width * pixels) as f64;
        let (mut scale, mut shift) = (Vec::with_capacity(c), Vec::with_capacity(c));
        for first in (0..c).step_by(width) {
            let group = first..first + width;
            let mean = sums.sums[group.clone()].iter().sum::<f64>() / count;
            let square = sums.squares[group.clone()].iter().sum::<f64>() / count;
            let inverse = 1.0 / ((square - mean * mean).max(0.0) + self.eps).sqrt();
            for i in group {
                let s = inverse * f64::from(self.weight[i]);
                scale.push(s as f32);
                shift.push((f64::from(self.bias[i]) - mean * s) as f32);
            }
        }
        (scale, shift)
    }
}

/// A feature map with its sums, `side` pixels square.
pub(in crate::nn) struct Map {
    pub side: usize,
    pub data: Vec<f32>,
    pub sums: Sums,
}

/// `res{i}`
#[derive(Debug)]
pub(super) struct Residual {
    norm_in: Norm,
    conv_in: Conv3,
    conv_in_bias: Vec<f32>,
    norm_out: Norm,
    conv_out: Conv3,
    skip: Option<Panels>,
    /// Of the last convolution and of the skip connection.
    out_bias: Vec<f32>,
    up: bool,
}

impl Residual {
    pub fn new(level: Level, block: &ResBlock) -> Result<Self> {
        let conv = |conv: &crate::nn::layers::Conv3x3, doubled| {
            let (outputs, inputs, _, _) = conv.weight.dims4()?;
            Ok::<_, candle_core::Error>(Conv3::new(
                level,
                &values(&conv.weight)?,
                inputs,
                outputs,
                1,
                doubled,
            ))
        };
        let mut out_bias = values(&block.conv_out.bias)?;
        let skip = match &block.skip {
            Some(skip) => {
                for (b, s) in out_bias.iter_mut().zip(values(&skip.bias)?) {
                    *b += s;
                }
                let weight = Matrix::of(&skip.weight)?;
                Some(Panels::pack(level.exact(), weight.columns, weight.rows, weight.view().transposed()))
            }
            None => None,
        };
        Ok(Self {
            norm_in: Norm::new(&block.norm_in)?,
            conv_in: conv(&block.conv_in, block.up)?,
            conv_in_bias: values(&block.conv_in.bias)?,
            norm_out: Norm::new(&block.norm_out)?,
            conv_out: conv(&block.conv_out, false)?,
            skip,
            out_bias,
            up: block.up,
        })
    }

    /// Of the result for a map of `side` pixels square.
    pub fn side(&self, side: usize) -> usize {
        if self.up { 2 * side } else { side }
    }

    /// Of a map of `side` pixels square.
    pub fn flops(&self, side: usize) -> f64 {
        let ratio = if self.up { 4 } else { 1 };
        let skip = self.skip.as_ref().map_or(0, |s| 2 * s.columns() * self.conv_in.inputs() * ratio);
        ((self.conv_in.flops() + ratio * self.conv_out.flops() + skip) * side * side) as f64
    }

    pub fn run(&self, level: Level, x: &Map, progress: Progress) -> crate::Result<Map> {
        let up = if self.up { 2 } else { 1 };
        let (side, c, o) = (x.side, self.conv_in.inputs(), self.conv_in.outputs());
        let (scale, shift) = self.norm_in.affine(&x.sums, side * side);
        let mut h = vec![0.0; up * up * side * side * o];
        let out = Shared::new(&mut h);
        let strip = strip(side, c);
        let half = progress.part(0.0, 0.4);
        let sums = share_map(side.div_ceil(strip), half, Lines::new, |padded, task| {
            let (first, rows) = (task * strip, strip.min(side - task * strip));
            let padded = pad(
                level,
                &x.data,
                (side, side),
                c,
                first..first + rows,
                (&scale, &shift),
                After::Silu,
                padded,
            );
            let pixel = first * up * side * up;
            // SAFETY: each task has rows of its own.
            unsafe {
                self.conv_in.strip(padded, rows, side, Start::Bias(&self.conv_in_bias), &out, pixel);
                Sums::of(out.from(pixel * o).slice(0, rows * up * up * side * o), o)
            }
        })?;
        let norm_out = self.norm_out.affine(&Sums::total(sums), up * up * side * side);
        self.out(level, x, &h, norm_out, progress.part(0.4, 1.0))
    }

    /// The second half: `h` through norm and convolution, plus the skip connection.
    fn out(
        &self,
        level: Level,
        x: &Map,
        h: &[f32],
        (scale, shift): (Vec<f32>, Vec<f32>),
        progress: Progress,
    ) -> crate::Result<Map> {
        let up = if self.up { 2 } else { 1 };
        let (c, o) = (self.conv_in.inputs(), self.conv_in.outputs());
        let side = up * x.side;
        let mut y = vec![0.0; side * side * o];
        let shared = Shared::new(&mut y);
        let strip = strip(side, o);
        let sums = share_map(side.div_ceil(strip), progress, Lines::new, |padded, task| {
            let (first, rows) = (task * strip, strip.min(side - task * strip));
            let padded =
                pad(level, h, (side, side), o, first..first + rows, (&scale, &shift), After::Silu, padded);
            // SAFETY: each task has rows of its own.
            unsafe {
                for row in first..first + rows {
                    let from = &x.data[row / up * x.side * c..][..x.side * c];
                    for place in 0..up {
                        let mut out = shared.from((row * side + place) * o);
                        match &self.skip {
                            Some(skip) => {
                                let start = Start::Bias(&self.out_bias);
                                product(x.side, Rows::new(from, c), skip.as_ref(), start, &mut out, up * o);
                            }
                            None => {
                                for (p, pixel) in from.chunks_exact(c).enumerate() {
                                    let to = out.slice(p * up * o, o);
                                    for ((t, v), b) in to.iter_mut().zip(pixel).zip(&self.out_bias) {
                                        *t = v + b;
                                    }
                                }
                            }
                        }
                    }
                }
                self.conv_out.strip(padded, rows, side, Start::Keep, &shared, first * side);
                Sums::of(shared.from(first * side * o).slice(0, rows * side * o), o)
            }
        })?;
        Ok(Map { side, data: y, sums: Sums::total(sums) })
    }
}

/// Rows of a strip: about 300 KB of it, and enough strips to share out.
fn strip(side: usize, channels: usize) -> usize {
    (75_000 / (side * channels)).clamp(1, side.div_ceil(16).max(4))
}

/// `rows` of a picture and one on either side, normed and activated, with a border of zeros.
#[allow(clippy::too_many_arguments)]
pub(in crate::nn) fn pad<'a>(
    level: Level,
    x: &[f32],
    (height, width): (usize, usize),
    c: usize,
    rows: std::ops::Range<usize>,
    (scale, shift): (&[f32], &[f32]),
    after: After,
    padded: &'a mut Lines,
) -> &'a [f32] {
    let pitch = (width + 2) * c;
    let padded = padded.room((rows.len() + 2) * pitch);
    for (i, to) in padded.chunks_exact_mut(pitch).enumerate() {
        match (rows.start + i).checked_sub(1).filter(|row| *row < height) {
            Some(row) => {
                to[..c].fill(0.0);
                to[pitch - c..].fill(0.0);
                rows::affine(
                    level,
                    &x[row * width * c..][..width * c],
                    scale,
                    shift,
                    after,
                    &mut to[c..pitch - c],
                );
            }
            None => to.fill(0.0),
        }
    }
    padded
}
