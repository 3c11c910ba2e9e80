//! What of a transformer is known before any pixel is: its weights, rearranged by matrix algebra alone.
//!
//! Written once, for matrices on the CPU, which the CPU's form lays out in panels, and for tensors on any device, which
//! [`super::tensors`] multiplies as they are.

use candle_core::{Result, Tensor};

use super::fold::{Matrix, by_head, values};
use crate::nn::attention::{Attention, SpatialTransformer};
use crate::nn::layers::{LayerNorm, Linear, PointConv};

/// The CPU takes softmaxes to base 2.
const LOG2_E: f32 = std::f32::consts::LOG2_E;

/// Which of the equal forms of a stage is the least work, for its sizes and number of classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Without self-attention, everything before the feed-forward is linear in u = (normed channels, attention
    /// probabilities, 1): its product with that matrix, and the variances from its length, skip the inner width.
    LowRank,
    /// W_q folded into the keys, W_o into the values.
    Folded,
    /// Queries and outputs of their own, where there are many classes.
    Unfolded,
}

/// Matrices and vectors, as far as weights need them. A Linear's weight is `(outputs, inputs)`.
pub(super) trait Algebra: Clone + Sized {
    type Vector: Clone;

    /// The first dimension by all others.
    fn of(t: &Tensor) -> Result<Self>;
    fn vector_of(t: &Tensor) -> Result<Self::Vector>;
    fn rows(&self) -> usize;
    fn columns(&self) -> usize;
    /// `self other`
    fn times(&self, other: &Self) -> Result<Self>;
    /// `self other'`
    fn times_transposed(&self, other: &Self) -> Result<Self>;
    fn transposed(&self) -> Result<Self>;
    /// `self v`
    fn apply(&self, v: &Self::Vector) -> Result<Self::Vector>;
    /// Every column times its factor.
    fn scale_columns(self, factors: &Self::Vector) -> Result<Self>;
    /// Times the scale of logits, for heads of `width` channels, in the base in which the softmax behind is taken.
    fn scale_logits(self, width: usize) -> Result<Self>;
    /// Every column less its mean: what is left of it behind a layer norm's subtraction.
    fn centred(self) -> Result<Self>;
    /// Matrices side by side.
    fn beside(parts: &[&Self]) -> Result<Self>;
    /// Matrices below each other.
    fn below(parts: &[&Self]) -> Result<Self>;
    /// A matrix of one column.
    fn column(v: &Self::Vector) -> Result<Self>;
    /// The first columns, and the last alone.
    fn split_last(&self) -> Result<(Self, Self::Vector)>;
    /// `out[h n, ..] = a_h b_h` for every head: `a (n, heads width)`, `b (heads width, columns)`; of `b` or its transpose.
    fn by_head(a: &Self, b: &Self, transposed: bool, heads: usize) -> Result<Self>;
    /// `v` added to the first `count` rows.
    fn add_to_rows(self, count: usize, v: &Self::Vector) -> Result<Self>;
    fn added(a: &Self::Vector, b: &Self::Vector) -> Result<Self::Vector>;
    /// Zeros, as many as `like` has.
    fn zeros(like: &Self::Vector) -> Result<Self::Vector>;
}

/// `cross{i}` but for the style.
pub(super) struct Arranged<A: Algebra> {
    pub form: Form,
    pub channels: usize,
    pub inner: usize,
    pub hidden: usize,
    pub heads: usize,
    pub proj_in: A,
    pub proj_in_bias: A::Vector,
    pub attn1: Option<SelfAttention<A>>,
    /// Queries and output of the cross-attention when unfolded; the bias of the first holds the norm's.
    pub to_q: Option<(A, A::Vector)>,
    pub to_out: Option<(A, A::Vector)>,
    /// The GEGLU's Linear behind a norm without affine part, when not of low rank, and its bias in every form.
    pub ff1: Option<A>,
    pub ff1_bias: A::Vector,
    /// proj_out times the second Linear, `(channels, hidden)`.
    pub ff2: A,
    pub proj_out: A,
    pub out_bias: A::Vector,
}

pub(super) struct SelfAttention<A: Algebra> {
    /// From normed channels, to be multiplied by 1 / deviation, or from the normed inner width, whichever is narrower;
    /// the constant is to be added before that product, the bias behind it.
    pub qkv: A,
    pub from_channels: bool,
    pub constant: A::Vector,
    pub bias: A::Vector,
    pub to_out: A,
    pub out_bias: A::Vector,
}

/// The weights that styles meet: all that is read of a transformer once it is arranged.
#[derive(Clone, Debug)]
pub(super) struct Source {
    attention: Attention,
    norm: LayerNorm,
    /// When of low rank: what lies around the attention.
    around: Option<Around>,
}

#[derive(Clone, Debug)]
struct Around {
    proj_in: PointConv,
    norm: LayerNorm,
    ff1: Linear,
    proj_out: PointConv,
}

impl Source {
    pub fn new(t: &SpatialTransformer, form: Form) -> Self {
        let block = &t.block;
        let around = || Around {
            proj_in: t.proj_in.clone(),
            norm: block.norm3.clone(),
            ff1: block.ff.proj.clone(),
            proj_out: t.proj_out.clone(),
        };
        Self {
            attention: block.attn2.clone(),
            norm: block.norm2.clone(),
            around: (form == Form::LowRank).then(around),
        }
    }
}

/// What a style makes of a transformer.
pub(super) enum ArrangedLook<A: Algebra> {
    LowRank(LowRank<A>),
    Folded {
        /// `(heads n, inner)`
        keys: A,
        bias: A::Vector,
        /// `(heads n, inner)`
        values: A,
    },
    /// `(n, inner)` each.
    Unfolded {
        keys: A,
        values: A,
    },
}

pub(super) struct LowRank<A: Algebra> {
    pub keys: A,
    pub keys_constant: A::Vector,
    pub keys_bias: A::Vector,
    /// The centred inner channels are this times (normed channels, 1), before the attention.
    pub before: A,
    /// As `before`, of (normed channels, probabilities, 1), behind it.
    pub behind: A,
    pub ff1: A,
    pub ff1_constant: A::Vector,
    pub residual: A,
    /// Of the residual; the arranged bias of the output comes to it.
    pub residual_constant: A::Vector,
}

/// A Linear's bias, none being zeros.
fn bias<A: Algebra>(l: &Linear) -> Result<A::Vector> {
    match &l.bias {
        Some(bias) => A::vector_of(bias),
        None => A::vector_of(&l.weight.narrow(1, 0, 1)?.zeros_like()?),
    }
}

impl<A: Algebra> Arranged<A> {
    pub fn new(t: &SpatialTransformer, classes: usize) -> Result<Self> {
        let block = &t.block;
        let proj_in = A::of(&t.proj_in.weight)?;
        let proj_in_bias = A::vector_of(&t.proj_in.bias)?;
        let (inner, channels) = (proj_in.rows(), proj_in.columns());
        let ff1 = A::of(&block.ff.proj.weight)?;
        let (hidden, heads) = (ff1.rows() / 2, block.attn2.heads);

        // Multiply-adds of a pixel in each form, as far as they differ.
        let (keys, rank) = (heads * classes, channels + heads * classes);
        let behind = |width: usize| width * (2 * hidden + channels);
        let folded = inner * channels + 2 * inner * keys + behind(inner);
        let unfolded = inner * channels + 2 * inner * (inner + classes) + behind(inner);
        let low = channels * (channels + keys) + rank * rank / 2 + behind(rank);
        let form = match block.attn1 {
            None if low <= folded.min(unfolded) => Form::LowRank,
            _ if folded <= unfolded => Form::Folded,
            _ => Form::Unfolded,
        };

        let attn1 = match &block.attn1 {
            None => None,
            Some((norm, attention)) => {
                let qkv = A::below(&[
                    &A::of(&attention.to_q.weight)?.scale_logits(inner / attention.heads)?,
                    &A::of(&attention.to_k.weight)?,
                    &A::of(&attention.to_v.weight)?,
                ])?;
                let bias_in = qkv.apply(&A::vector_of(&norm.bias)?)?;
                let qkv = qkv.scale_columns(&A::vector_of(&norm.weight)?)?;
                let from_channels = channels < inner;
                let (qkv, constant) = match from_channels {
                    true => {
                        let bias = A::column(&proj_in_bias)?;
                        qkv.times(&A::beside(&[&proj_in, &bias])?.centred()?)?.split_last()?
                    }
                    false => (qkv, A::zeros(&bias_in)?),
                };
                Some(SelfAttention {
                    qkv,
                    from_channels,
                    constant,
                    bias: bias_in,
                    to_out: A::of(&attention.to_out.weight)?,
                    out_bias: bias::<A>(&attention.to_out)?,
                })
            }
        };

        let (mut to_q, mut to_out) = (None, None);
        if form == Form::Unfolded {
            let weight = A::of(&block.attn2.to_q.weight)?.scale_logits(inner / heads)?;
            let bias_q = weight.apply(&A::vector_of(&block.norm2.bias)?)?;
            to_q = Some((weight.scale_columns(&A::vector_of(&block.norm2.weight)?)?, bias_q));
            to_out = Some((A::of(&block.attn2.to_out.weight)?, bias::<A>(&block.attn2.to_out)?));
        }

        let ff1_bias = A::added(&bias::<A>(&block.ff.proj)?, &ff1.apply(&A::vector_of(&block.norm3.bias)?)?)?;
        let ff1 = match form {
            Form::LowRank => None,
            _ => Some(ff1.scale_columns(&A::vector_of(&block.norm3.weight)?)?),
        };
        let proj_out = A::of(&t.proj_out.weight)?;
        let out_bias =
            A::added(&A::vector_of(&t.proj_out.bias)?, &proj_out.apply(&bias::<A>(&block.ff.out)?)?)?;
        let ff2 = proj_out.times(&A::of(&block.ff.out.weight)?)?;
        Ok(Self {
            form,
            channels,
            inner,
            hidden,
            heads,
            proj_in,
            proj_in_bias,
            attn1,
            to_q,
            to_out,
            ff1,
            ff1_bias,
            ff2,
            proj_out,
            out_bias,
        })
    }
}

impl<A: Algebra> ArrangedLook<A> {
    /// What `style (n, s)` makes of a transformer that runs in `form`.
    pub fn new(source: &Source, form: Form, style: &A) -> Result<Self> {
        let Source { attention, norm, around } = source;
        let (heads, classes) = (attention.heads, style.rows());
        let k = style.times_transposed(&A::of(&attention.to_k.weight)?)?; // (n, inner)
        let v = style.times_transposed(&A::of(&attention.to_v.weight)?)?;
        if form == Form::Unfolded {
            return Ok(Self::Unfolded { keys: k, values: v });
        }
        let width = k.columns() / heads;
        let w_q = A::of(&attention.to_q.weight)?;
        let keys = A::by_head(&k, &w_q, false, heads)?.scale_logits(width)?;
        let keys_bias = keys.apply(&A::vector_of(&norm.bias)?)?;
        let keys = keys.scale_columns(&A::vector_of(&norm.weight)?)?; // (heads n, inner)
        let w_o = A::of(&attention.to_out.weight)?;
        let folded = A::by_head(&v, &w_o, true, heads)?; // (heads n, inner)
        let out_bias = bias::<A>(&attention.to_out)?;
        let Some(around) = around else {
            // A head's probabilities sum to one, so that the first head's values can carry the bias.
            let values = folded.add_to_rows(classes, &out_bias)?;
            return Ok(Self::Folded { keys, bias: keys_bias, values });
        };

        let (proj_in, proj_in_bias) = (A::of(&around.proj_in.weight)?, A::vector_of(&around.proj_in.bias)?);
        let before = A::beside(&[&proj_in, &A::column(&proj_in_bias)?])?.centred()?;
        let (keys, keys_constant) = keys.times(&before)?.split_last()?;
        let all = A::column(&A::added(&proj_in_bias, &out_bias)?)?;
        let all = A::beside(&[&proj_in, &folded.transposed()?, &all])?; // (inner, rank + 1)
        let behind = all.clone().centred()?;
        let ff1 = A::of(&around.ff1.weight)?.scale_columns(&A::vector_of(&around.norm.weight)?)?;
        let (ff1, ff1_constant) = ff1.times(&behind)?.split_last()?;
        let (residual, residual_constant) = A::of(&around.proj_out.weight)?.times(&all)?.split_last()?;
        Ok(Self::LowRank(LowRank {
            keys,
            keys_constant,
            keys_bias,
            before,
            behind,
            ff1,
            ff1_constant,
            residual,
            residual_constant,
        }))
    }
}

/// On the CPU, in the order of sums that the CPU's pictures are made with.
impl Algebra for Matrix {
    type Vector = Vec<f32>;

    fn of(t: &Tensor) -> Result<Self> {
        Matrix::of(t)
    }

    fn vector_of(t: &Tensor) -> Result<Vec<f32>> {
        values(t)
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn columns(&self) -> usize {
        self.columns
    }

    fn times(&self, other: &Self) -> Result<Self> {
        Ok(Matrix::times(self, other))
    }

    fn times_transposed(&self, other: &Self) -> Result<Self> {
        Ok(Matrix::times_transposed(self, other))
    }

    fn transposed(&self) -> Result<Self> {
        Ok(Matrix::transposed(self))
    }

    fn apply(&self, v: &Vec<f32>) -> Result<Vec<f32>> {
        Ok(Matrix::apply(self, v))
    }

    fn scale_columns(self, factors: &Vec<f32>) -> Result<Self> {
        Ok(Matrix::scale_columns(self, factors))
    }

    fn scale_logits(self, width: usize) -> Result<Self> {
        Ok(self.scale(LOG2_E * (width as f32).powf(-0.5)))
    }

    fn centred(self) -> Result<Self> {
        Ok(Matrix::centred(self))
    }

    fn beside(parts: &[&Self]) -> Result<Self> {
        Ok(Matrix::beside(parts))
    }

    fn below(parts: &[&Self]) -> Result<Self> {
        Ok(Matrix::below(parts))
    }

    fn column(v: &Vec<f32>) -> Result<Self> {
        Ok(Matrix::new(v.len(), 1, v.clone()))
    }

    fn split_last(&self) -> Result<(Self, Vec<f32>)> {
        Ok(Matrix::split_last(self))
    }

    fn by_head(a: &Self, b: &Self, transposed: bool, heads: usize) -> Result<Self> {
        Ok(match transposed {
            true => by_head(a, b.view().transposed(), b.rows, heads),
            false => by_head(a, b.view(), b.columns, heads),
        })
    }

    fn add_to_rows(mut self, count: usize, v: &Vec<f32>) -> Result<Self> {
        for row in self.data.chunks_exact_mut(self.columns).take(count) {
            for (to, v) in row.iter_mut().zip(v) {
                *to += v;
            }
        }
        Ok(self)
    }

    fn added(a: &Vec<f32>, b: &Vec<f32>) -> Result<Vec<f32>> {
        Ok(super::added(a, b))
    }

    fn zeros(like: &Vec<f32>) -> Result<Vec<f32>> {
        Ok(vec![0.0; like.len()])
    }
}

/// On any device: nothing comes back from it.
impl Algebra for Tensor {
    type Vector = Tensor;

    fn of(t: &Tensor) -> Result<Self> {
        t.detach().reshape((t.dim(0)?, ()))
    }

    fn vector_of(t: &Tensor) -> Result<Tensor> {
        t.detach().flatten_all()
    }

    fn rows(&self) -> usize {
        self.dims()[0]
    }

    fn columns(&self) -> usize {
        self.dims()[1]
    }

    fn times(&self, other: &Self) -> Result<Self> {
        self.matmul(other)
    }

    fn times_transposed(&self, other: &Self) -> Result<Self> {
        self.matmul(&other.t()?)
    }

    fn transposed(&self) -> Result<Self> {
        self.t()?.contiguous()
    }

    fn apply(&self, v: &Tensor) -> Result<Tensor> {
        self.matmul(&v.unsqueeze(1)?)?.squeeze(1)
    }

    fn scale_columns(self, factors: &Tensor) -> Result<Self> {
        self.broadcast_mul(factors)
    }

    fn scale_logits(self, width: usize) -> Result<Self> {
        self * (width as f64).powf(-0.5)
    }

    fn centred(self) -> Result<Self> {
        self.broadcast_sub(&self.mean_keepdim(0)?)
    }

    fn beside(parts: &[&Self]) -> Result<Self> {
        Tensor::cat(parts, 1)
    }

    fn below(parts: &[&Self]) -> Result<Self> {
        Tensor::cat(parts, 0)
    }

    fn column(v: &Tensor) -> Result<Self> {
        v.unsqueeze(1)
    }

    fn split_last(&self) -> Result<(Self, Tensor)> {
        let n = self.dim(1)? - 1;
        Ok((self.narrow(1, 0, n)?.contiguous()?, self.narrow(1, n, 1)?.squeeze(1)?.contiguous()?))
    }

    fn by_head(a: &Self, b: &Self, transposed: bool, heads: usize) -> Result<Self> {
        let b = if transposed { b.t()?.contiguous()? } else { b.clone() };
        let (n, columns) = (a.dim(0)?, b.dim(1)?);
        let a = a.reshape((n, heads, ()))?.transpose(0, 1)?.contiguous()?;
        a.matmul(&b.reshape((heads, (), columns))?)?.reshape((heads * n, columns))
    }

    fn add_to_rows(self, count: usize, v: &Tensor) -> Result<Self> {
        let rest = self.dim(0)? - count;
        let first = self.narrow(0, 0, count)?.broadcast_add(v)?;
        if rest == 0 {
            return Ok(first);
        }
        Tensor::cat(&[first, self.narrow(0, count, rest)?], 0)
    }

    fn added(a: &Tensor, b: &Tensor) -> Result<Tensor> {
        a + b
    }

    fn zeros(like: &Tensor) -> Result<Tensor> {
        like.zeros_like()
    }
}
