//! The labeler as the CPU runs it, for pictures of any size that it takes.
//!
//! Norm and SiLU are applied as the convolution behind them reads its strip of rows. Where the network doubles one map and lays another
//! beside it, the two are convolved apart, the first as [`BilinearConv3`] does, and added.

use candle_core::Tensor;

use super::fold::{Matrix, values};
use super::residual::{Norm, Sums, pad};
use crate::Result;
use crate::kernels::matrix::{Panels, Rows, Start, product};
use crate::kernels::rows::{self, After};
use crate::kernels::simd::Level;
use crate::kernels::window::{BilinearConv3, Conv3, Spread, Strip};
use crate::kernels::{Lines, Shared, share, share_map};
use crate::nn::labeler;
use crate::nn::layers::Conv3x3;
use crate::progress::Progress;

pub(in crate::nn) struct Labeler {
    level: Level,
    enter: Block,
    downs: Vec<[Block; 2]>,
    ups: Vec<Up>,
    head: Panels,
    head_bias: Vec<f32>,
}

struct Block {
    conv: Conv3,
    stride: usize,
    bias: Vec<f32>,
    norm: Norm,
}

/// Of two maps, the one of the level below and the one on the way down.
struct Up {
    below: BilinearConv3,
    beside: Conv3,
    bias: Vec<f32>,
    norm: Norm,
}

/// A map of features as a convolution left it, with the scale and shift of the norm behind that.
struct Features {
    height: usize,
    width: usize,
    data: Vec<f32>,
    affine: (Vec<f32>, Vec<f32>),
    after: After,
}

impl Features {
    fn channels(&self) -> usize {
        self.affine.0.len()
    }
}

/// Rows of a strip of `c` channels a pixel: about 300 KB, and enough strips to share out.
fn strip(height: usize, width: usize, c: usize) -> usize {
    (75_000 / (width * c)).clamp(1, height.div_ceil(8))
}

impl Block {
    fn new(level: Level, block: &labeler::Block) -> Result<Self> {
        let Conv3x3 { weight, bias, stride } = &block.conv;
        let (outputs, inputs, _, _) = weight.dims4()?;
        let conv = Conv3::new(level, &values(weight)?, inputs, outputs, *stride, false);
        Ok(Self { conv, stride: *stride, bias: values(bias)?, norm: Norm::new(&block.norm)? })
    }

    fn run(&self, level: Level, x: &Features) -> Result<Features> {
        let (height, width, o) = (x.height / self.stride, x.width / self.stride, self.conv.outputs());
        let mut data = vec![0.0; height * width * o];
        let out = Shared::new(&mut data);
        let strip = strip(height, self.stride * x.width, x.channels());
        let sums = share_map(height.div_ceil(strip), Progress::NONE, Lines::new, |padded, task| {
            let (first, rows) = (task * strip, strip.min(height - task * strip));
            let from = self.stride * first..self.stride * (first + rows);
            let (scale, shift) = &x.affine;
            let size = (x.height, x.width);
            let padded = pad(level, &x.data, size, x.channels(), from, (scale, shift), x.after, padded);
            // SAFETY: each task has rows of its own.
            unsafe {
                self.conv.strip(padded, rows, width, Start::Bias(&self.bias), &out, first * width);
                Sums::of(out.from(first * width * o).slice(0, rows * width * o), o)
            }
        })?;
        let affine = self.norm.affine(&Sums::total(sums), height * width);
        Ok(Features { height, width, data, affine, after: After::Silu })
    }
}

impl Up {
    /// Of a convolution whose first `below` inputs are the doubled map's.
    fn new(level: Level, block: &labeler::Block, below: usize) -> Result<Self> {
        let weight = &block.conv.weight;
        let (outputs, inputs, _, _) = weight.dims4()?;
        let part = |first, count| values(&weight.narrow(1, first, count)?.contiguous()?);
        Ok(Self {
            below: BilinearConv3::new(level, &part(0, below)?, below, outputs),
            beside: Conv3::new(level, &part(below, inputs - below)?, inputs - below, outputs, 1, false),
            bias: values(&block.conv.bias)?,
            norm: Norm::new(&block.norm)?,
        })
    }

    fn run(&self, level: Level, x: &Features, skip: &Features) -> Result<Features> {
        let (height, width, o) = (2 * x.height, 2 * x.width, self.below.outputs());
        let c = x.channels();
        let mut data = vec![0.0; height * width * o];
        let shared = Shared::new(&mut data);
        let strip = strip(x.height, width, skip.channels().max(o) * 2);
        let bias = self.bias.repeat(width);
        let scratch = || (Lines::new(), Spread::default());
        let sums = share_map(x.height.div_ceil(strip), Progress::NONE, scratch, |(padded, spread), task| {
            let (first, rows) = (task * strip, strip.min(x.height - task * strip));
            let (pitch, row) = ((x.width + 2) * c, x.width * c);
            let small = padded.room((rows + 2) * pitch);
            for (i, to) in small.chunks_exact_mut(pitch).enumerate() {
                let y = (first + i).saturating_sub(1).min(x.height - 1);
                let (scale, shift) = &x.affine;
                rows::affine(level, &x.data[y * row..][..row], scale, shift, x.after, &mut to[c..pitch - c]);
                // The border continues the picture.
                to.copy_within(c..2 * c, 0);
                to.copy_within(row..row + c, row + c);
            }
            let (pixel, count) = (2 * first * width, 2 * rows * width);
            // SAFETY: each task has rows of its own.
            let mut out = unsafe { shared.from(pixel * o) };
            let place = Strip { rows, width: x.width, top: first == 0, bottom: first + rows == x.height };
            self.below.strip(level, small, place, &bias, spread, &mut out);
            let (scale, shift) = &skip.affine;
            let (from, size) = (2 * first..2 * (first + rows), (height, width));
            let padded =
                pad(level, &skip.data, size, skip.channels(), from, (scale, shift), skip.after, padded);
            // SAFETY: as above; what `out` had written is done.
            unsafe { self.beside.strip(padded, 2 * rows, width, Start::Keep, &shared, pixel) };
            Sums::of(out.slice(0, count * o), o)
        })?;
        let affine = self.norm.affine(&Sums::total(sums), height * width);
        Ok(Features { height, width, data, affine, after: After::Silu })
    }
}

impl Labeler {
    pub fn new(level: Level, labeler: &labeler::Labeler) -> Result<Self> {
        let mut below = labeler.downs.last().map_or(&labeler.enter, |[_, look]| look).conv.weight.dim(0)?;
        let mut up = |block: &labeler::Block| {
            let up = Up::new(level, block, below)?;
            below = up.below.outputs();
            Ok(up)
        };
        let head = Matrix::of(&labeler.head.weight)?;
        Ok(Self {
            level,
            enter: Block::new(level, &labeler.enter)?,
            downs: labeler
                .downs
                .iter()
                .map(|[halve, look]| Ok([Block::new(level, halve)?, Block::new(level, look)?]))
                .collect::<Result<_>>()?,
            ups: labeler.ups.iter().map(&mut up).collect::<Result<_>>()?,
            head: Panels::pack(level, head.columns, head.rows, head.view().transposed()),
            head_bias: values(&labeler.head.bias)?,
        })
    }

    /// As [`labeler::Labeler::forward`].
    pub fn forward(&self, rgb: &Tensor) -> Result<Tensor> {
        let (b, height, width, channels) = rgb.dims4()?;
        let step = 1 << self.downs.len();
        if channels != 3 || !height.is_multiple_of(step) || !width.is_multiple_of(step) {
            let dims = rgb.dims();
            return Err(crate::Error::invalid(format!(
                "labeler: a picture {dims:?}: it takes three channels, and sides that divide by {step}"
            )));
        }
        let (pixels, n) = (values(rgb)?, self.head.columns());
        let mut scores = Vec::with_capacity(b * height * width * n);
        for picture in pixels.chunks_exact(height * width * 3) {
            scores.extend(self.picture(picture, height, width)?);
        }
        Ok(Tensor::from_vec(scores, (b, height, width, n), rgb.device())?)
    }

    fn picture(&self, rgb: &[f32], height: usize, width: usize) -> Result<Vec<f32>> {
        let level = self.level;
        let affine = (vec![1.0; 3], vec![0.0; 3]);
        let seen = Features { height, width, data: rgb.to_vec(), affine, after: After::Nothing };
        let mut maps = vec![self.enter.run(level, &seen)?];
        for [halve, look] in &self.downs {
            let half = halve.run(level, &maps[maps.len() - 1])?;
            maps.push(look.run(level, &half)?);
        }
        let mut x = maps.pop().expect("a map was entered");
        for up in &self.ups {
            x = up.run(level, &x, &maps.pop().expect("a map for every level"))?;
        }
        let (c, n) = (x.channels(), self.head.columns());
        let mut scores = vec![0.0; height * width * n];
        let out = Shared::new(&mut scores);
        share(height, Progress::NONE, Lines::new, |row, y| {
            let row = row.room(width * c);
            let (scale, shift) = &x.affine;
            rows::affine(level, &x.data[y * width * c..][..width * c], scale, shift, x.after, row);
            // SAFETY: each task has a row of its own.
            let mut out = unsafe { out.from(y * width * n) };
            let start = Start::Bias(&self.head_bias);
            product(width, Rows::new(row, c), self.head.as_ref(), start, &mut out, n);
        })?;
        Ok(scores)
    }
}
