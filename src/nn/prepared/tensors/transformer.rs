//! The transformers, in the form that is least work for the number of classes, a tile of pixels at a time.

use candle_core::{D, Result, Tensor};

use super::conv::Norm;
use super::{Factor, Kind, joined, parts, product};
use crate::nn::attention::SpatialTransformer;
use crate::nn::prepared::arrange::{Algebra as _, Arranged, ArrangedLook, Form, Source};
use crate::progress::Progress;

const EPS: f64 = 1e-5;

/// `cross{i}` but for the style.
#[derive(Debug)]
pub(super) struct Transformer {
    form: Form,
    /// What looks are made of.
    source: Source,
    channels: usize,
    inner: usize,
    hidden: usize,
    heads: usize,
    classes: usize,
    norm: Norm,
    proj_in: Factor,
    attn1: Option<SelfAttention>,
    /// When unfolded.
    to_q: Option<Factor>,
    to_out: Option<Factor>,
    /// The GEGLU's two halves, when not of low rank.
    ff1: Option<Geglu>,
    ff1_bias: Tensor,
    /// `(hidden, channels)`
    ff2: Tensor,
    /// When not of low rank.
    proj_out: Option<Factor>,
    out_bias: Tensor,
}

#[derive(Debug)]
struct SelfAttention {
    qkv: Factor,
    /// Where it reads the normed channels: what the deviation of the inner ones is the length of.
    length: Option<Length>,
    to_out: Factor,
}

/// What gives the inner channels' deviation from what they are linear in.
#[derive(Debug)]
struct Length {
    /// `(width + 1, inner)`, over the root of the inner width. Exact: variances are small differences.
    weight: Tensor,
}

impl Length {
    /// `centred (inner, width + 1)`
    fn new(centred: &Tensor) -> Result<Self> {
        let inner = centred.dim(0)? as f64;
        Ok(Self { weight: (centred.t()?.contiguous()? * inner.powf(-0.5))? })
    }

    /// `1 / sqrt(variance + eps)`, `(rows, 1)`, of rows that end in a one.
    fn inverse_deviation(&self, rows: &Tensor) -> Result<Tensor> {
        let square = rows.matmul(&self.weight)?.sqr()?.sum_keepdim(1)?;
        (square + EPS)?.sqrt()?.recip()
    }
}

/// Two factors with the same rows: the first half times the exact GELU of the second.
#[derive(Debug)]
struct Geglu {
    factor: Factor,
    values: Tensor,
    gates: Tensor,
}

impl Geglu {
    fn new(factor: Factor) -> Result<Self> {
        let (values, gates) = factor.halves()?;
        // Its whole weight is not kept.
        let factor = Factor { weight: values.clone(), ..factor };
        Ok(Self { factor, values, gates })
    }

    fn run(&self, rows: &Tensor) -> Result<Tensor> {
        let gates = product(rows, &self.gates)?.gelu_erf()?;
        product(rows, &self.values)? * gates
    }
}

/// What a style makes of a transformer.
#[derive(Debug)]
pub(super) enum Look {
    LowRank(Box<LowRank>),
    Folded {
        keys: Factor,
        /// `(heads n, inner)`
        values: Tensor,
    },
    Unfolded {
        /// `(heads, width, n)`
        keys: Tensor,
        /// `(heads, n, width)`
        values: Tensor,
    },
}

#[derive(Debug)]
pub(super) struct LowRank {
    keys: Factor,
    before: Length,
    behind: Length,
    ff1: Geglu,
    residual: Factor,
}

/// Rows and a column of ones.
fn with_one(parts: &[&Tensor]) -> Result<Tensor> {
    let rows = parts[0];
    let one = Tensor::ones((rows.dim(0)?, 1), rows.dtype(), rows.device())?;
    Tensor::cat(&[parts, &[&one]].concat(), 1)
}

/// Every row less its mean, over its deviation.
fn normalize(x: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if crate::nn::ops::on_cuda(x) {
        return crate::nn::cuda::normalize(x, EPS);
    }
    let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_mul(&(variance + EPS)?.sqrt()?.recip()?)
}

impl Transformer {
    /// For maps `side` pixels square.
    pub fn new(kind: &Kind, t: &SpatialTransformer, side: usize, classes: usize) -> Result<Self> {
        let a = Arranged::<Tensor>::new(t, classes)?;
        let attn1 = match &a.attn1 {
            None => None,
            Some(s) => {
                // In front of the deviation's product, where there is one, and behind it.
                let (weights, length) = match s.from_channels {
                    true => {
                        let bias = Tensor::column(&a.proj_in_bias)?;
                        let centred = Tensor::beside(&[&a.proj_in, &bias])?.centred()?;
                        (vec![s.qkv.clone(), s.constant.unsqueeze(1)?], Some(Length::new(&centred)?))
                    }
                    false => (vec![s.qkv.clone()], None),
                };
                let qkv = Factor::new(kind, &weights.iter().collect::<Vec<_>>(), &s.bias)?;
                let to_out = Factor::new(kind, &[&s.to_out], &s.out_bias)?;
                Some(SelfAttention { qkv, length, to_out })
            }
        };
        let factor = |f: &Option<(Tensor, Tensor)>| {
            f.as_ref().map(|(weight, bias)| Factor::new(kind, &[weight], bias)).transpose()
        };
        let full_rank = a.form != Form::LowRank;
        let proj_out = || Factor::new(kind, &[&a.proj_out], &a.out_bias);
        Ok(Self {
            form: a.form,
            source: Source::new(t, a.form),
            channels: a.channels,
            inner: a.inner,
            hidden: a.hidden,
            heads: a.heads,
            classes,
            norm: Norm::new(kind, &t.norm, side)?,
            proj_in: Factor::new(kind, &[&a.proj_in], &a.proj_in_bias)?,
            attn1,
            to_q: factor(&a.to_q)?,
            to_out: factor(&a.to_out)?,
            ff1: match &a.ff1 {
                Some(ff1) => Some(Geglu::new(Factor::new(kind, &[ff1], &a.ff1_bias)?)?),
                None => None,
            },
            ff1_bias: a.ff1_bias,
            ff2: a.ff2.t()?.contiguous()?.to_dtype(kind.factors)?,
            proj_out: full_rank.then(proj_out).transpose()?,
            out_bias: a.out_bias,
        })
    }

    /// What `style (n, s)` makes of it.
    pub fn look(&self, kind: &Kind, style: &Tensor) -> Result<Look> {
        Ok(match ArrangedLook::new(&self.source, self.form, style)? {
            ArrangedLook::LowRank(a) => Look::LowRank(Box::new(LowRank {
                // Constants met by the deviation, and by a one.
                keys: Factor::new(kind, &[&a.keys, &a.keys_constant.unsqueeze(1)?], &a.keys_bias)?,
                before: Length::new(&a.before)?,
                behind: Length::new(&a.behind)?,
                ff1: Geglu::new(Factor::new(
                    kind,
                    &[&a.ff1, &a.ff1_constant.unsqueeze(1)?],
                    &self.ff1_bias,
                )?)?,
                residual: Factor::new(kind, &[&a.residual], &(&self.out_bias + a.residual_constant)?)?,
            })),
            ArrangedLook::Folded { keys, bias, values } => Look::Folded {
                keys: Factor::new(kind, &[&keys], &bias)?,
                values: values.to_dtype(kind.factors)?,
            },
            ArrangedLook::Unfolded { keys, values } => {
                let by_head = |t: Tensor| t.reshape((self.classes, self.heads, ()));
                let keys = by_head(keys)?.permute((1, 2, 0))?.contiguous()?;
                let values = by_head(values)?.transpose(0, 1)?.contiguous()?;
                Look::Unfolded { keys: keys.to_dtype(kind.factors)?, values: values.to_dtype(kind.factors)? }
            }
        })
    }

    /// `(b, side, side, channels)`
    pub fn run(
        &self,
        kind: &Kind,
        look: &Look,
        x: Tensor,
        tile: usize,
        progress: Progress,
    ) -> crate::Result<Tensor> {
        let dims = x.shape().clone();
        let (b, h, w, c) = x.dims4()?;
        let normed = self.norm.run(&x)?.reshape((b * h * w, c))?;
        let x = x.reshape((b * h * w, c))?;
        let (attended, progress) = match &self.attn1 {
            Some(attention) => {
                let done = self.attend(kind, attention, &normed, b, tile, progress.part(0.0, 0.6))?;
                (Some(done), progress.part(0.6, 1.0))
            }
            None => (None, progress),
        };
        let rows = b * h * w;
        let mut out = Vec::new();
        for (first, count) in parts(rows, self.row_bytes(kind), tile) {
            progress.at(first as f32 / rows as f32)?;
            let input = x.narrow(0, first, count)?;
            out.push(match look {
                Look::LowRank(look) => self.low_rank(kind, look, &input, &normed.narrow(0, first, count)?)?,
                look => {
                    let inner = match &attended {
                        Some(x) => x.narrow(0, first, count)?,
                        None => self.enter(kind, &normed.narrow(0, first, count)?)?,
                    };
                    self.full_rank(kind, look, &input, inner)?
                }
            });
        }
        Ok(joined(out, 0)?.reshape(dims)?)
    }

    /// Normed channels to the inner width.
    fn enter(&self, kind: &Kind, normed: &Tensor) -> Result<Tensor> {
        self.proj_in.times(&self.proj_in.rows(&[normed])?)?.to_dtype(kind.exact)
    }

    /// The inner channels with the self-attention's output added: of `b` pictures' normed channels `(b pixels, c)`.
    fn attend(
        &self,
        kind: &Kind,
        attention: &SelfAttention,
        normed: &Tensor,
        b: usize,
        tile: usize,
        progress: Progress,
    ) -> crate::Result<Tensor> {
        let (rows, heads, inner) = (normed.dim(0)?, self.heads, self.inner);
        let pixels = rows / b;
        let x = self.enter(kind, normed)?;
        let left = match &attention.length {
            Some(length) => {
                let v = with_one(&[normed])?;
                let v = v.broadcast_mul(&length.inverse_deviation(&v)?)?;
                attention.qkv.rows(&[&v])?
            }
            None => attention.qkv.rows(&[&normalize(&x)?])?,
        };
        let qkv = attention.qkv.times(&left)?.reshape((b, pixels, 3, heads, inner / heads))?;
        let mut attended = Vec::with_capacity(b);
        for picture in 0..b {
            // `(heads, pixels, width)`
            let part =
                |i: usize| qkv.get(picture)?.narrow(1, i, 1)?.squeeze(1)?.transpose(0, 1)?.contiguous();
            let (q, k, v) = (part(0)?, part(1)?.t()?, part(2)?);
            let each = heads * pixels * (2 * kind.factor_bytes() + 2 * kind.exact_bytes());
            let mut outputs = Vec::new();
            for (first, count) in parts(pixels, each, tile) {
                progress.at((picture * pixels + first) as f32 / rows as f32)?;
                let logits = product(&q.narrow(1, first, count)?.contiguous()?, &k)?;
                let p = softmax(&logits.to_dtype(kind.exact)?)?.to_dtype(kind.factors)?;
                outputs.push(product(&p, &v)?);
            }
            attended.push(joined(outputs, 1)?.transpose(0, 1)?.reshape((pixels, inner))?);
        }
        let o = joined(attended, 0)?.to_dtype(kind.exact)?;
        let o = attention.to_out.times(&attention.to_out.rows(&[&o])?)?.to_dtype(kind.exact)?;
        Ok((x + o)?)
    }

    /// Softmaxes over the classes, head by head: `(rows, heads n)`.
    fn attention(&self, kind: &Kind, logits: &Tensor) -> Result<Tensor> {
        let rows = logits.dim(0)?;
        let logits = logits.to_dtype(kind.exact)?.reshape((rows * self.heads, self.classes))?;
        softmax(&logits)?.reshape((rows, self.heads * self.classes))
    }

    /// Cross-attention and feed-forward on the inner channels `x`.
    fn full_rank(&self, kind: &Kind, look: &Look, input: &Tensor, x: Tensor) -> Result<Tensor> {
        let normed = normalize(&x)?;
        let attended = match look {
            Look::Folded { keys, values } => {
                let p = self.attention(kind, &keys.times(&keys.rows(&[&normed])?)?)?;
                product(&p.to_dtype(kind.factors)?, values)?.to_dtype(kind.exact)?
            }
            Look::Unfolded { keys, values } => {
                let (Some(to_q), Some(to_out)) = (&self.to_q, &self.to_out) else {
                    candle_core::bail!("a transformer without its queries")
                };
                let rows = x.dim(0)?;
                let q = to_q.times(&to_q.rows(&[&normed])?)?.reshape((rows, self.heads, ()))?;
                let logits = product(&q.transpose(0, 1)?.contiguous()?, keys)?;
                let p = softmax(&logits.to_dtype(kind.exact)?)?.to_dtype(kind.factors)?;
                let o = product(&p, values)?.transpose(0, 1)?.reshape((rows, self.inner))?;
                let o = o.to_dtype(kind.exact)?;
                to_out.times(&to_out.rows(&[&o])?)?.to_dtype(kind.exact)?
            }
            Look::LowRank(_) => candle_core::bail!("a style of low rank in a transformer of full rank"),
        };
        let (Some(ff1), Some(proj_out)) = (&self.ff1, &self.proj_out) else {
            candle_core::bail!("a transformer without its feed-forward")
        };
        let x = (x + attended)?;
        let h = ff1.run(&ff1.factor.rows(&[&normalize(&x)?])?)?;
        self.leave(kind, input, proj_out.times(&proj_out.rows(&[&x])?)?, &h)
    }

    fn low_rank(&self, kind: &Kind, look: &LowRank, input: &Tensor, normed: &Tensor) -> Result<Tensor> {
        let v = with_one(&[normed])?;
        let v = v.broadcast_mul(&look.before.inverse_deviation(&v)?)?;
        let p = self.attention(kind, &look.keys.times(&look.keys.rows(&[&v])?)?)?;
        let u = with_one(&[normed, &p])?;
        let scaled = u.broadcast_mul(&look.behind.inverse_deviation(&u)?)?;
        let h = look.ff1.run(&look.ff1.factor.rows(&[&scaled])?)?;
        let residual = look.residual.times(&look.residual.rows(&[normed, &p])?)?;
        self.leave(kind, input, residual, &h)
    }

    /// The sum of the input, what goes past the feed-forward, and what the hidden layer gives.
    fn leave(&self, kind: &Kind, input: &Tensor, past: Tensor, h: &Tensor) -> Result<Tensor> {
        let h = product(h, &self.ff2)?.to_dtype(kind.exact)?;
        (input + past.to_dtype(kind.exact)?)? + h
    }

    /// Bytes that a pixel needs in a tile.
    fn row_bytes(&self, kind: &Kind) -> usize {
        let keys = self.heads * self.classes;
        let (exact, factors) = match self.form {
            Form::LowRank => (
                6 * self.channels + 6 * keys + 2 * self.inner,
                3 * (self.channels + keys + 8) + 3 * self.hidden,
            ),
            Form::Folded => (5 * self.inner + 3 * keys, 3 * self.inner + 2 * keys + 3 * self.hidden),
            Form::Unfolded => (5 * self.inner + 2 * keys, 5 * self.inner + 2 * keys + 3 * self.hidden),
        };
        exact * kind.exact_bytes() + factors * kind.factor_bytes()
    }

    /// Bytes beside weights for maps of `pixels` pixels.
    pub fn bytes(&self, kind: &Kind, pictures: usize, pixels: usize, tile: usize) -> usize {
        let (exact, factors) = (kind.exact_bytes(), kind.factor_bytes());
        let rows = pictures * pixels;
        let maps = rows * self.channels * 4 * exact;
        let row = self.row_bytes(kind);
        let tiles = (rows * row).min(tile.max(row));
        let attention = match &self.attn1 {
            None => return maps + tiles,
            // Queries, keys and values, of all pictures, and apart by head of one; the sum and the output.
            Some(_) => rows * self.inner * (3 * exact + 5 * factors) + pixels * self.inner * 4 * factors,
        };
        let each = self.heads * pixels * (2 * factors + 2 * exact);
        maps + attention + tiles.max((pixels * each).min(tile.max(each)))
    }

    /// Multiply-adds times two that are done for a map of `pixels`.
    pub fn flops(&self, pixels: usize) -> f64 {
        let (c, i, keys) = (self.channels, self.inner, self.heads * self.classes);
        let behind = |width: usize| width * (2 * self.hidden + c) + self.hidden * c;
        let cross = match self.form {
            Form::LowRank => c * (i + keys) + (c + keys) * i + behind(c + keys),
            Form::Folded => i * c + 2 * i * keys + behind(i),
            Form::Unfolded => i * c + 2 * i * (i + self.classes) + behind(i),
        };
        let own = match &self.attn1 {
            Some(a) if a.length.is_some() => 4 * c * i + 2 * pixels * i + i * i,
            Some(_) => 3 * i * i + 2 * pixels * i + i * i,
            None => 0,
        };
        2.0 * pixels as f64 * (cross + own) as f64
    }
}

/// Over the last dimension: one kernel of candle's on every device, which sums in f32 or better.
fn softmax(x: &Tensor) -> Result<Tensor> {
    candle_nn::ops::softmax_last_dim(&x.contiguous()?)
}
