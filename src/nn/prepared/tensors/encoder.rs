//! The style encoder: classes in front, `(n b, h w, c)`, so that a grouped convolution is one batched product over gathered
//! windows, some classes at a time where all do not fit.

use candle_core::{Result as Made, Tensor};

use super::conv::Indices;
use super::{Cut, Kind, Precision, Tf32, cut, joined, parts, product};
use crate::nn::layers::{Conv3x3, GroupNorm};
use crate::nn::ops::plain;
use crate::nn::style_encoder::{self, StyleEncoder};
use crate::nn::{Config, style_encoder::join};
use crate::progress::Progress;
use crate::{Error, Result};

/// A level's convolution, its norm by class and ReLU.
struct Level {
    /// `(9 c, n o)` where all classes read one picture, else `(n, 9 c, o)`.
    weight: Tensor,
    index: Tensor,
    /// `(n, 1, o)`
    bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    eps: f64,
    /// Side, and channels of a class, of the result.
    side: usize,
    outputs: usize,
}

impl Level {
    fn new(
        kind: &Kind,
        indices: &mut Indices,
        conv: &Conv3x3,
        norm: &GroupNorm,
        classes: usize,
        side: usize,
    ) -> Made<Self> {
        let (all, inputs, _, _) = conv.weight.dims4()?;
        let outputs = all / classes;
        let weight = conv.weight.detach().reshape(vec![classes, outputs, inputs, 3, 3])?;
        let weight = weight.permute(vec![0, 3, 4, 2, 1])?.reshape((classes, 9 * inputs, outputs))?;
        let by_class = |t: &Tensor| t.detach().reshape((classes, 1, outputs));
        Ok(Self {
            weight: weight.contiguous()?.to_dtype(kind.factors)?,
            index: indices.get(kind, side, conv.stride)?,
            bias: by_class(&conv.bias)?,
            norm_weight: by_class(&norm.weight)?,
            norm_bias: by_class(&norm.bias)?,
            eps: norm.eps,
            side: (side - 1) / conv.stride + 1,
            outputs,
        })
    }

    /// As it is where all classes read one picture.
    fn shared(mut self) -> Made<Self> {
        let (n, rows, outputs) = self.weight.dims3()?;
        self.weight = self.weight.transpose(0, 1)?.reshape((rows, n * outputs))?;
        Ok(self)
    }

    /// Norm and ReLU of `(n, b pixels, o)`; holds two more of its size.
    fn norm(&self, x: Tensor, b: usize) -> Made<Tensor> {
        let (n, rows, o) = x.dims3()?;
        let ones = Tensor::ones((self.side * o, 1), x.dtype(), x.device())?;
        // By picture and class; row by row of pixels first, so that few terms add up at once.
        let mean = |x: &Tensor| -> Made<Tensor> {
            let sums = x.reshape((n * rows / self.side, self.side * o))?.matmul(&ones)?;
            (sums.reshape((n * b, self.side))?.mean_keepdim(1)? / (self.side * o) as f64)?.reshape((n, b, 1))
        };
        let by_picture = |x: &Tensor| x.reshape((n * b, rows / b * o));
        let means = mean(&x)?.reshape((n * b, 1))?;
        let mut y = by_picture(&x)?.broadcast_sub(&means)?;
        drop(x);
        let inverse = (mean(&y.sqr()?)? + self.eps)?.sqrt()?.recip()?;
        let scale = inverse.broadcast_mul(&self.norm_weight)?.reshape((n * b, 1, o))?;
        y = y.reshape((n * b, rows / b, o))?.broadcast_mul(&scale)?;
        y = y.reshape((n, rows, o))?.broadcast_add(&self.norm_bias)?;
        y.relu()
    }

    /// `(n, b pixels, c)` to `(n, b pixels', o)`.
    fn run(&self, kind: &Kind, x: Tensor, b: usize, tile: usize) -> Made<Tensor> {
        let (n, rows, c) = x.dims3()?;
        let x = x.to_dtype(kind.factors)?;
        let pixels = self.side * self.side;
        let mut classes = Vec::new();
        for (first, count) in parts(n, b * pixels * 9 * c * kind.factor_bytes(), tile) {
            let x = x.narrow(0, first, count)?.reshape((count * b, rows / b, c))?;
            let windows = x.index_select(&self.index, 1)?.reshape((count, b * pixels, 9 * c))?;
            classes.push(product(&windows, &self.weight.narrow(0, first, count)?)?);
        }
        drop(x);
        let y = joined(classes, 0)?.to_dtype(kind.exact)?.broadcast_add(&self.bias)?;
        self.norm(y, b)
    }
}

/// The head of one scale.
struct Head {
    /// `(n, c, s)`
    weight: Tensor,
    bias: Tensor,
    /// Where the scale's pixels lie in the labels.
    index: Tensor,
}

/// The style encoder's weights, of the chosen type.
pub(in crate::nn) struct Encoder {
    kind: Kind,
    precision: Precision,
    classes: usize,
    resolution: usize,
    first: Level,
    downs: Vec<Level>,
    ups: Vec<(Level, Head)>,
}

impl Encoder {
    pub fn new(precision: Precision, config: &Config, encoder: &StyleEncoder) -> Made<Self> {
        let kind = Kind::new(&encoder.first.conv.bias, precision);
        let (n, resolution) = (config.classes, config.resolution);
        let mut indices = Indices::default();
        let mut level = |l: &style_encoder::Level, side: usize| {
            Level::new(&kind, &mut indices, &l.conv, &l.norm, n, side)
        };
        let first = level(&encoder.first, resolution)?.shared()?;
        let mut side = resolution;
        let mut downs = Vec::with_capacity(encoder.downs.len());
        for l in &encoder.downs {
            downs.push(level(l, side)?);
            side /= 2;
        }
        let mut ups = Vec::with_capacity(encoder.ups.len());
        for (l, head) in &encoder.ups {
            side *= 2;
            let index = (0..side * side)
                .map(|i| (i / side * resolution / side * resolution + i % side * resolution / side) as u32);
            let c = head.weight.dim(1)?;
            let head = Head {
                weight: head.weight.detach().reshape((n, (), c))?.transpose(1, 2)?.contiguous()?,
                bias: head.bias.detach().reshape((n, 1, ()))?,
                index: Tensor::from_vec(index.collect(), side * side, &kind.device)?,
            };
            ups.push((level(l, side)?, head));
        }
        Ok(Self { kind, precision, classes: n, resolution, first, downs, ups })
    }

    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// As [`StyleEncoder::forward`], as many pictures at once as fit.
    pub fn forward(
        &self,
        rgb: &Tensor,
        onehot: &Tensor,
        memory_limit: Option<u64>,
        progress: Progress,
    ) -> Result<Tensor> {
        let (b, side) = (rgb.dim(0)?, self.resolution);
        let (wanted, labels) = ([b, side, side, 3], [b, side, side, self.classes]);
        if rgb.dims() != wanted || onehot.dims() != labels {
            let what = format!(
                "style encoder: a picture {:?} with labels {:?}: this model's are {wanted:?} and {labels:?}",
                rgb.dims(),
                onehot.dims()
            );
            return Err(Error::invalid(what));
        }
        let free = crate::device::memory_free(&self.kind.device)?;
        let cut = cut(b, memory_limit, free, |cut| self.bytes(cut))?;
        let exact = |t: &Tensor| t.detach().to_dtype(self.kind.exact);
        let (rgb, onehot) = (exact(rgb)?, exact(onehot)?);
        let mut codes = Vec::new();
        for first in (0..b).step_by(cut.pictures) {
            let count = cut.pictures.min(b - first);
            let progress = progress.part(first as f32 / b as f32, (first + count) as f32 / b as f32);
            let part = |t: &Tensor| t.narrow(0, first, count);
            codes.push(self.pictures(&part(&rgb)?, &part(&onehot)?, cut.tile, progress)?);
        }
        Ok(joined(codes, 0)?)
    }

    fn pictures(&self, rgb: &Tensor, onehot: &Tensor, tile: usize, progress: Progress) -> Result<Tensor> {
        let _tf32 = Tf32::when(self.precision);
        let (b, n, side) = (rgb.dim(0)?, self.classes, self.resolution);
        let steps = (self.downs.len() + self.ups.len() + 1) as f32;
        progress.at(0.0)?;
        let onehot = onehot.reshape((b, side * side, n))?;
        let mut x = self.enter(rgb)?;
        let mut skips = Vec::with_capacity(self.downs.len());
        for (i, level) in self.downs.iter().enumerate() {
            progress.at((i + 1) as f32 / steps)?;
            x = level.run(&self.kind, x, b, tile)?;
            skips.push(x.clone());
        }
        skips.pop(); // the deepest is the decoder's own input
        let mut codes = Vec::with_capacity(self.ups.len());
        for (j, (level, head)) in self.ups.iter().enumerate() {
            progress.at((self.downs.len() + j + 1) as f32 / steps)?;
            x = level.run(&self.kind, self.double(x, b, level.side)?, b, tile)?;
            codes.push(self.code(head, &x, &onehot, level.side)?);
            if j + 1 < self.ups.len() {
                let maps = |t: &Tensor| t.reshape((n, b, level.side, level.side, ()));
                let skip = skips.pop().expect("a skip for every scale but the last");
                x = join(&maps(&x)?, &maps(&skip)?)?.reshape((n, b * level.side * level.side, ()))?;
            }
        }
        progress.at(1.0)?;
        Ok(Tensor::cat(&codes, 2)?.transpose(0, 1)?.contiguous()?)
    }

    /// The first convolution, of all classes at once: `(b, h, w, 3)` to `(n, b pixels, c)`.
    fn enter(&self, rgb: &Tensor) -> Made<Tensor> {
        let (b, pixels, n) = (rgb.dim(0)?, self.resolution * self.resolution, self.classes);
        let rgb = rgb.reshape((b, pixels, 3))?.to_dtype(self.kind.factors)?;
        let windows = rgb.index_select(&self.first.index, 1)?.reshape((b * pixels, 27))?;
        let x = product(&windows, &self.first.weight)?.reshape((b * pixels, n, ()))?;
        let x = x.transpose(0, 1)?.contiguous()?.to_dtype(self.kind.exact)?;
        self.first.norm(x.broadcast_add(&self.first.bias)?, b)
    }

    /// `(n, b pixels, c)` bilinearly to `side`.
    fn double(&self, x: Tensor, b: usize, side: usize) -> Made<Tensor> {
        let n = self.classes;
        let x = x.reshape((n * b, side / 2, side / 2, ()))?;
        plain::upsample_bilinear2(&x)?.reshape((n, b * side * side, ()))
    }

    /// Mean of each class's channels under its own labels, through the scale's head: `(n, b, s)`.
    fn code(&self, head: &Head, x: &Tensor, onehot: &Tensor, side: usize) -> Made<Tensor> {
        let (b, n, pixels) = (onehot.dim(0)?, self.classes, side * side);
        let masks = onehot.index_select(&head.index, 1)?.permute((2, 0, 1))?.contiguous()?;
        let sums = masks.reshape((n * b, 1, pixels))?.matmul(&x.reshape((n * b, pixels, ()))?)?;
        let area = (masks.sum_keepdim(2)? + 1e-5)?;
        let pooled = sums.reshape((n, b, ()))?.broadcast_div(&area)?;
        pooled.matmul(&head.weight)?.broadcast_add(&head.bias)?.tanh()
    }

    /// Bytes of the device that it takes at most beside weights and inputs: an estimate from above.
    fn bytes(&self, Cut { pictures, tile }: Cut) -> u64 {
        let (n, exact) = (self.classes, self.kind.exact_bytes());
        let windows = |level: &Level, c: usize| {
            let each = pictures * level.side * level.side * 9 * c * self.kind.factor_bytes();
            (n * each).min(tile.max(each))
        };
        let map = |level: &Level| n * pictures * level.side * level.side * level.outputs * exact;
        // Inputs again, in this type; the labels of a scale.
        let inputs = pictures * self.resolution * self.resolution * (2 * n + 27 + 6) * exact;
        let mut most = 5 * map(&self.first);
        let (mut kept, mut before) = (0, &self.first);
        for level in &self.downs {
            most = most.max(kept + 3 * map(before) + 4 * map(level) + windows(level, before.outputs));
            kept += map(level);
            before = level;
        }
        for (j, (level, _)) in self.ups.iter().enumerate() {
            let c = before.outputs * if j == 0 { 1 } else { 2 };
            // Doubled, with the halves and quarters that it is the sum of.
            let doubled = n * pictures * level.side * level.side * c * exact;
            most = most.max(kept + 5 * doubled / 2 + 4 * map(level) + windows(level, c));
            before = level;
        }
        (inputs + most) as u64
    }
}
