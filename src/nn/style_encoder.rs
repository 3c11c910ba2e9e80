//! The multi-resolution grouped style encoder `style_encoder`: one style code a class from a picture and its labels.
//!
//! From the second convolution on every class has channels of its own. They lie in front here, `(n, b, h, w, c)`,
//! so that a grouped convolution is one batched matrix product.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::layers::{Conv3x3, GroupNorm};
use super::ops::{self, Activation};
use super::{Config, resize_nearest};
use crate::progress::Progress;

/// Convolution, norm by class, ReLU.
#[derive(Clone, Debug)]
pub(super) struct Level {
    pub(super) conv: Conv3x3,
    pub(super) norm: GroupNorm,
}

impl Level {
    fn new(
        c: &Config,
        inputs: usize,
        outputs: usize,
        stride: usize,
        first: usize,
        vb: VarBuilder,
    ) -> Result<Self> {
        let channels = c.classes * outputs;
        Ok(Self {
            conv: Conv3x3::new(inputs, channels, stride, vb.pp(first))?,
            norm: GroupNorm::new(c.classes, channels, 1e-5, Activation::Relu, vb.pp(first + 1))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.norm.forward_grouped(&self.conv.forward_grouped(x)?)
    }
}

/// The head of one scale: a class's pooled features to its code.
#[derive(Clone, Debug)]
pub(super) struct Head {
    /// `(n s, c, 1)`, as a grouped Conv1d stores it.
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
}

impl Head {
    /// `(n, b, c) -> (n, b, s)`
    fn forward(&self, pooled: &Tensor) -> Result<Tensor> {
        let (n, _, c) = pooled.dims3()?;
        let weight = self.weight.reshape((n, (), c))?.transpose(1, 2)?;
        pooled.matmul(&weight)?.broadcast_add(&self.bias.reshape((n, 1, ()))?)?.tanh()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct StyleEncoder {
    classes: usize,
    pub(super) first: Level,
    pub(super) downs: Vec<Level>,
    pub(super) ups: Vec<(Level, Head)>,
}

impl StyleEncoder {
    pub fn new(c: &Config, vb: VarBuilder) -> Result<Self> {
        let (encoder, decoder, out) = (vb.pp("Encoder"), vb.pp("Decoder"), vb.pp("out"));
        let width = |level| c.style_level(level);
        let first = Level::new(c, 3, width(0), 1, 0, encoder.pp("first_layer"))?;
        let downs = (0..c.style_downs)
            .map(|i| Level::new(c, width(i), width(i + 1), 2, 0, encoder.pp(format!("enc_layer_{i}"))))
            .collect::<Result<_>>()?;
        let ups = (0..c.style_scales)
            .map(|j| {
                let i = c.style_downs - 1 - j;
                let inputs = width(i + 1) * if j == 0 { 1 } else { 2 };
                let level = Level::new(c, inputs, width(i), 1, 1, decoder.pp(format!("dec_layer_{j}")))?;
                let (vb, codes) = (out.pp(format!("out_{j}")).pp(0), c.classes * c.style_dim);
                let weight = vb.get((codes, width(i), 1), "weight")?;
                Ok((level, Head { weight, bias: vb.get(codes, "bias")? }))
            })
            .collect::<Result<_>>()?;
        Ok(Self { classes: c.classes, first, downs, ups })
    }

    /// Picture `(b, h, w, 3)` and one-hot labels `(b, h, w, n)` to codes `(b, n, s scales)`.
    pub fn forward(&self, rgb: &Tensor, onehot: &Tensor, progress: Progress) -> crate::Result<Tensor> {
        let n = self.classes;
        let steps = (self.downs.len() + self.ups.len() + 1) as f32;
        // The first convolution sees the whole picture; only then do the classes part.
        let x = self.first.conv.forward(rgb)?;
        let (b, h, w, _) = x.dims4()?;
        let x = x.reshape((b, h, w, n, ()))?.permute((3, 0, 1, 2, 4))?.contiguous()?;
        let mut x = self.first.norm.forward_grouped(&x)?;
        let mut skips = Vec::with_capacity(self.downs.len());
        for (i, level) in self.downs.iter().enumerate() {
            progress.at((i + 1) as f32 / steps)?;
            x = level.forward(&x)?;
            skips.push(x.clone());
        }
        skips.pop(); // the deepest is the decoder's own input
        let mut codes = Vec::with_capacity(self.ups.len());
        for (j, (level, head)) in self.ups.iter().enumerate() {
            progress.at((self.downs.len() + j + 1) as f32 / steps)?;
            x = level.forward(&upsample(&x)?)?;
            codes.push(head.forward(&pool(&x, onehot)?)?);
            if j + 1 < self.ups.len() {
                // `skips` holds one entry fewer than there are levels; the last scale needs none.
                x = join(&x, &skips.pop().expect("a skip for every scale but the last"))?;
            }
        }
        Ok(Tensor::cat(&codes, 2)?.transpose(0, 1)?.contiguous()?)
    }
}

/// `(n, b, h, w, c) -> (n, b, 2 h, 2 w, c)`
fn upsample(x: &Tensor) -> Result<Tensor> {
    let (n, b, h, w, c) = x.dims5()?;
    ops::upsample_bilinear2(&x.reshape((n * b, h, w, c))?)?.reshape((n, b, 2 * h, 2 * w, c))
}

/// Mean of each class's channels under its own labels: `(n, b, h, w, c)` and `(b, H, W, n)` to `(n, b, c)`. An absent
/// class's mean is 0.
fn pool(x: &Tensor, onehot: &Tensor) -> Result<Tensor> {
    let (n, b, h, w, c) = x.dims5()?;
    let masks = resize_nearest(onehot, h)?.permute((3, 0, 1, 2))?.reshape((n, b, 1, h * w))?;
    let sums = masks.matmul(&x.reshape((n, b, h * w, c))?)?.squeeze(2)?;
    sums.broadcast_div(&(masks.sum(3)? + 1e-5)?)
}

/// Decoder and encoder features side by side as two whole blocks of channels, which the next convolution's groups
/// then cut anew: of the 2n class blocks, group g reads the 2g-th and the one behind it.
pub(super) fn join(decoder: &Tensor, encoder: &Tensor) -> Result<Tensor> {
    let (n, b, h, w, c) = decoder.dims5()?;
    Tensor::cat(&[decoder, encoder], 0)?
        .reshape(&[n, 2, b, h, w, c])?
        .permute(vec![0, 2, 3, 4, 1, 5])?
        .reshape((n, b, h, w, 2 * c))
}
