//! The transformer `cross{i}` behind each residual block: pixels attend to each other where the stage says so, then to
//! the classes' styles.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::layers::{GroupNorm, LayerNorm, Linear, PointConv};
use super::ops::{self, Activation};
use super::{Config, Stage};

/// Multi-head attention; queries from `x`, keys and values from `context`.
#[derive(Clone, Debug)]
pub(super) struct Attention {
    pub(super) to_q: Linear,
    pub(super) to_k: Linear,
    pub(super) to_v: Linear,
    pub(super) to_out: Linear,
    pub(super) heads: usize,
}

impl Attention {
    fn new(inner: usize, context: usize, heads: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            to_q: Linear::without_bias(inner, inner, vb.pp("to_q"))?,
            to_k: Linear::without_bias(context, inner, vb.pp("to_k"))?,
            to_v: Linear::without_bias(context, inner, vb.pp("to_v"))?,
            to_out: Linear::new(inner, inner, vb.pp("to_out").pp(0))?,
            heads,
        })
    }

    /// `x (b, l, inner)`, `context (b, m, width) -> (b, l, inner)`, and queries and keys for [`mean_logits`].
    fn forward(&self, x: &Tensor, context: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
        let (q, k, v) = (self.to_q.forward(x)?, self.to_k.forward(context)?, self.to_v.forward(context)?);
        let y = self.to_out.forward(&ops::attention(&q, &k, &v, self.heads)?)?;
        Ok((y, q, k))
    }

    /// The logits before the softmax, averaged over heads: `(b, l, m)`. The mean of the heads' products is one product
    /// over all heads' channels at once.
    fn mean_logits(&self, q: &Tensor, k: &Tensor) -> Result<Tensor> {
        let head_width = q.dim(2)? / self.heads;
        q.matmul(&k.t()?)? * ((head_width as f64).powf(-0.5) / self.heads as f64)
    }
}

/// GEGLU feed-forward.
#[derive(Clone, Debug)]
pub(super) struct FeedForward {
    pub(super) proj: Linear,
    pub(super) out: Linear,
}

/// Pixels that go through a feed-forward at once when nothing is trained: the hidden layer is many times as wide as the
/// rest, and need never exist as a whole.
const FEED_FORWARD_TILE: usize = 2048;

impl FeedForward {
    fn new(inner: usize, factor: usize, vb: VarBuilder) -> Result<Self> {
        let hidden = inner * factor;
        Ok(Self {
            proj: Linear::new(inner, 2 * hidden, vb.pp("net").pp(0).pp("proj"))?,
            out: Linear::new(hidden, inner, vb.pp("net").pp(2))?,
        })
    }

    /// `(b, l, inner) -> (b, l, inner)`
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let whole = |x: &Tensor| self.out.forward(&ops::geglu(&self.proj.forward(x)?)?);
        if self.proj.is_trained() {
            return whole(x);
        }
        let tokens = x.flatten_to(1)?;
        let count = tokens.dim(0)?;
        let tiles = (0..count)
            .step_by(FEED_FORWARD_TILE)
            .map(|start| whole(&tokens.narrow(0, start, FEED_FORWARD_TILE.min(count - start))?))
            .collect::<Result<Vec<_>>>()?;
        Tensor::cat(&tiles, 0)?.reshape(x.dims())
    }
}

/// `transformer_blocks.0`
#[derive(Clone, Debug)]
pub(super) struct TransformerBlock {
    pub(super) attn1: Option<(LayerNorm, Attention)>,
    pub(super) norm2: LayerNorm,
    pub(super) attn2: Attention,
    pub(super) norm3: LayerNorm,
    pub(super) ff: FeedForward,
}

#[derive(Clone, Debug)]
pub(crate) struct SpatialTransformer {
    pub(super) norm: GroupNorm,
    pub(super) proj_in: PointConv,
    pub(super) block: TransformerBlock,
    pub(super) proj_out: PointConv,
}

impl SpatialTransformer {
    pub fn new(c: &Config, stage: &Stage, vb: VarBuilder) -> Result<Self> {
        let (channels, heads) = (stage.channels_out, stage.heads);
        let inner = heads * stage.head_width;
        let b = vb.pp("transformer_blocks").pp(0);
        let attn1 = match stage.self_attention {
            true => Some((
                LayerNorm::new(inner, b.pp("norm1"))?,
                Attention::new(inner, inner, heads, b.pp("attn1"))?,
            )),
            false => None,
        };
        Ok(Self {
            norm: GroupNorm::new(c.norm_groups, channels, 1e-6, Activation::None, vb.pp("norm"))?,
            proj_in: PointConv::new(channels, inner, vb.pp("proj_in"))?,
            block: TransformerBlock {
                attn1,
                norm2: LayerNorm::new(inner, b.pp("norm2"))?,
                attn2: Attention::new(inner, c.style_width(), heads, b.pp("attn2"))?,
                norm3: LayerNorm::new(inner, b.pp("norm3"))?,
                ff: FeedForward::new(inner, stage.ff_factor, b.pp("ff"))?,
            },
            proj_out: PointConv::new(inner, channels, vb.pp("proj_out"))?,
        })
    }

    /// Pixels `(b, h, w, c)` and styles `(b, n, s)` to pixels of the same shape; with `logits`, also the cross-attention's
    /// head-averaged logits `(b, h w, n)`.
    pub fn forward(&self, x: &Tensor, style: &Tensor, logits: bool) -> Result<(Tensor, Option<Tensor>)> {
        let (b, h, w, _) = x.dims4()?;
        let block = &self.block;
        let mut y = self.proj_in.forward(&self.norm.forward(x)?)?.reshape((b, h * w, ()))?;
        if let Some((norm, attention)) = &block.attn1 {
            let normed = norm.forward(&y)?;
            y = (y + attention.forward(&normed, &normed)?.0)?;
        }
        let (attended, q, k) = block.attn2.forward(&block.norm2.forward(&y)?, style)?;
        let logits = if logits { Some(block.attn2.mean_logits(&q, &k)?) } else { None };
        y = (y + attended)?;
        y = (&y + block.ff.forward(&block.norm3.forward(&y)?)?)?;
        Ok(((x + self.proj_out.forward(&y)?.reshape(x.dims())?)?, logits))
    }
}
