//! The CPU kernels as candle operations: forward, and the gradients of what is tracked.

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Storage, Tensor, bail,
};

use super::ops::Activation;
use crate::kernels::{attention, conv, linear, norm, pointwise, resize, segmentation};

/// Whether the kernels can take this tensor: f32 on the CPU.
pub(crate) fn applies(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// The elements of a contiguous f32 tensor on the CPU.
fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("a kernel was given a tensor that is not contiguous"),
    }
}

/// Runs `f` on the elements of tensors, made contiguous first.
fn on_slices<const N: usize, R>(tensors: [&Tensor; N], f: impl FnOnce([&[f32]; N]) -> R) -> Result<R> {
    let tensors: Vec<Tensor> = tensors.iter().map(|t| t.contiguous()).collect::<Result<_>>()?;
    let guards: Vec<_> = tensors.iter().map(|t| t.storage_and_layout()).collect();
    let mut slices: [&[f32]; N] = [&[]; N];
    for (s, (storage, layout)) in slices.iter_mut().zip(&guards) {
        let Storage::Cpu(storage) = &**storage else { bail!("a kernel was given a tensor off the CPU") };
        *s = slice(storage, layout)?;
    }
    Ok(f(slices))
}

fn like(values: Vec<f32>, t: &Tensor) -> Result<Option<Tensor>> {
    Tensor::from_vec(values, t.shape(), t.device()).map(Some)
}

fn give(values: Vec<f32>, shape: impl Into<Shape>) -> Result<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(values), shape.into()))
}

/// The dimensions of `(n, m, h, w, c)`, `n` being 1 where it is left out.
fn grouped(x: &[usize]) -> Result<[usize; 5]> {
    match *x {
        [m, h, w, c] => Ok([1, m, h, w, c]),
        [n, m, h, w, c] => Ok([n, m, h, w, c]),
        _ => bail!("{x:?} where (n, m, h, w, c) or (m, h, w, c) is wanted"),
    }
}

/// With two or three arguments, an absent bias being none at all.
fn apply_with_bias<O>(op: O, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor>
where
    O: CustomOp2 + CustomOp3 + Send + Sync + 'static,
{
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, op),
        None => x.apply_op2(&weight, op),
    }
}

struct Linear;

impl Linear {
    fn forward(
        &self,
        x: (&CpuStorage, &Layout),
        w: (&CpuStorage, &Layout),
        b: Option<&[f32]>,
    ) -> Result<(CpuStorage, Shape)> {
        let (outputs, inputs) = w.1.shape().dims2()?;
        let mut dims = x.1.dims().to_vec();
        match dims.last_mut() {
            Some(last) if *last == inputs => *last = outputs,
            _ => bail!("linear of {inputs} inputs on {:?}", x.1.dims()),
        }
        give(linear::forward(slice(x.0, x.1)?, slice(w.0, w.1)?, b, inputs, outputs), dims)
    }

    fn gradients(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: Option<&Tensor>,
        g: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let (outputs, inputs) = w.dims2()?;
        let gx = match x.track_op() {
            true => like(on_slices([g, w], |[g, w]| linear::input_gradient(g, w, inputs, outputs))?, x)?,
            false => None,
        };
        if !w.track_op() && !b.is_some_and(Tensor::track_op) {
            return Ok([gx, None, None]);
        }
        let (gw, gb) = on_slices([x, g], |[x, g]| linear::weight_gradient(x, g, inputs, outputs))?;
        Ok([gx, like(gw, w)?, b.map_or(Ok(None), |b| like(gb, b))?])
    }
}

struct Conv {
    stride: usize,
    padding: usize,
}

impl Conv {
    fn shape(&self, x: &[usize], w: &[usize]) -> Result<conv::Shape> {
        let (Ok([groups, batch, height, width, inputs]), &[outputs, i, kernel, k]) = (grouped(x), w) else {
            bail!("convolution of {x:?} with {w:?}")
        };
        if i != inputs
            || k != kernel
            || outputs % groups != 0
            || height.min(width) + 2 * self.padding < kernel
        {
            bail!("convolution of {x:?} with {w:?}")
        }
        let (stride, padding, outputs) = (self.stride, self.padding, outputs / groups);
        Ok(conv::Shape { groups, batch, height, width, inputs, outputs, kernel, stride, padding })
    }

    fn forward(
        &self,
        x: (&CpuStorage, &Layout),
        w: (&CpuStorage, &Layout),
        b: Option<&[f32]>,
    ) -> Result<(CpuStorage, Shape)> {
        let s = self.shape(x.1.dims(), w.1.dims())?;
        let y = conv::forward(&s, slice(x.0, x.1)?, slice(w.0, w.1)?, b);
        let all = [s.groups, s.batch, s.out_height(), s.out_width(), s.outputs];
        give(y, &all[5 - x.1.dims().len()..])
    }

    fn gradients(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: Option<&Tensor>,
        g: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let s = self.shape(x.dims(), w.dims())?;
        let gx = match x.track_op() {
            true => like(on_slices([g, w], |[g, w]| conv::input_gradient(&s, g, w))?, x)?,
            false => None,
        };
        if !w.track_op() && !b.is_some_and(Tensor::track_op) {
            return Ok([gx, None, None]);
        }
        let (gw, gb) = on_slices([x, g], |[x, g]| conv::weight_gradient(&s, x, g))?;
        Ok([gx, like(gw, w)?, b.map_or(Ok(None), |b| like(gb, b))?])
    }
}

/// An operation of x, weight and an optional bias as both a [`CustomOp2`] and a [`CustomOp3`].
macro_rules! with_and_without_bias {
    ($op:ty, $name:literal) => {
        impl CustomOp2 for $op {
            fn name(&self) -> &'static str {
                $name
            }

            fn cpu_fwd(
                &self,
                x: &CpuStorage,
                lx: &Layout,
                w: &CpuStorage,
                lw: &Layout,
            ) -> Result<(CpuStorage, Shape)> {
                self.forward((x, lx), (w, lw), None)
            }

            fn bwd(
                &self,
                x: &Tensor,
                w: &Tensor,
                _: &Tensor,
                g: &Tensor,
            ) -> Result<(Option<Tensor>, Option<Tensor>)> {
                let [gx, gw, _] = self.gradients(x, w, None, g)?;
                Ok((gx, gw))
            }
        }

        impl CustomOp3 for $op {
            fn name(&self) -> &'static str {
                $name
            }

            fn cpu_fwd(
                &self,
                x: &CpuStorage,
                lx: &Layout,
                w: &CpuStorage,
                lw: &Layout,
                b: &CpuStorage,
                lb: &Layout,
            ) -> Result<(CpuStorage, Shape)> {
                self.forward((x, lx), (w, lw), Some(slice(b, lb)?))
            }

            fn bwd(
                &self,
                x: &Tensor,
                w: &Tensor,
                b: &Tensor,
                _: &Tensor,
                g: &Tensor,
            ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
                let [gx, gw, gb] = self.gradients(x, w, Some(b), g)?;
                Ok((gx, gw, gb))
            }
        }
    };
}

with_and_without_bias!(Linear, "linear");
with_and_without_bias!(Conv, "conv2d");

pub(super) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    apply_with_bias(Linear, x, weight, bias)
}

pub(super) fn grouped_conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    apply_with_bias(Conv { stride, padding }, x, weight, bias)
}

struct GroupNorm {
    groups: usize,
    eps: f64,
    activation: Activation,
}

impl GroupNorm {
    fn shape(&self, x: &[usize]) -> Result<norm::Shape> {
        let [rows, batch, height, width, channels] = grouped(x)?;
        if channels % self.groups != 0 {
            bail!("group norm of {channels} channels in {} groups", self.groups)
        }
        Ok(norm::Shape { rows, batch, pixels: height * width, channels, groups: self.groups })
    }
}

impl CustomOp1 for GroupNorm {
    fn name(&self) -> &'static str {
        "group_norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = norm::forward(&self.shape(lx.dims())?, slice(x, lx)?, None, self.eps, self.activation);
        give(y, lx.shape())
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let s = self.shape(x.dims())?;
        like(on_slices([x, g], |[x, g]| norm::backward(&s, x, None, g, self.eps, self.activation).0)?, x)
    }
}

impl CustomOp3 for GroupNorm {
    fn name(&self) -> &'static str {
        "group_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let affine = Some((slice(w, lw)?, slice(b, lb)?));
        give(
            norm::forward(&self.shape(lx.dims())?, slice(x, lx)?, affine, self.eps, self.activation),
            lx.shape(),
        )
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let s = self.shape(x.dims())?;
        let (gx, gw, gb) = on_slices([x, w, b, g], |[x, w, b, g]| {
            norm::backward(&s, x, Some((w, b)), g, self.eps, self.activation)
        })?;
        Ok((like(gx, x)?, like(gw, w)?, like(gb, b)?))
    }
}

pub(super) fn group_norm(
    x: &Tensor,
    groups: usize,
    affine: Option<(&Tensor, &Tensor)>,
    eps: f64,
    activation: Activation,
) -> Result<Tensor> {
    let op = GroupNorm { groups, eps, activation };
    match affine {
        Some((weight, bias)) => x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op),
        None => x.contiguous()?.apply_op1(op),
    }
}

struct LayerNorm {
    eps: f64,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        give(norm::layer_forward(slice(x, lx)?, slice(w, lw)?, slice(b, lb)?, self.eps), lx.shape())
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (gx, gw, gb) = on_slices([x, w, g], |[x, w, g]| norm::layer_backward(x, w, g, self.eps))?;
        Ok((like(gx, x)?, like(gw, w)?, like(gb, b)?))
    }
}

pub(super) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, LayerNorm { eps })
}

struct Attention {
    heads: usize,
}

impl Attention {
    fn shape(&self, q: &[usize], k: &[usize]) -> Result<attention::Shape> {
        match (q, k) {
            (&[batch, queries, inner], &[b, keys, i])
                if b == batch && i == inner && inner % self.heads == 0 =>
            {
                Ok(attention::Shape { batch, queries, keys, heads: self.heads, width: inner / self.heads })
            }
            _ => bail!("attention of {q:?} to {k:?} with {} heads", self.heads),
        }
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        lq: &Layout,
        k: &CpuStorage,
        lk: &Layout,
        v: &CpuStorage,
        lv: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let s = self.shape(lq.dims(), lk.dims())?;
        give(attention::forward(&s, slice(q, lq)?, slice(k, lk)?, slice(v, lv)?), lq.shape())
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let s = self.shape(q.dims(), k.dims())?;
        let (gq, gk, gv) = on_slices([q, k, v, g], |[q, k, v, g]| attention::backward(&s, q, k, v, g))?;
        Ok((like(gq, q)?, like(gk, k)?, like(gv, v)?))
    }
}

pub(super) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
    q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, Attention { heads })
}

/// The operations of one tensor.
enum Pointwise {
    Activation(Activation),
    Geglu,
    Nearest2,
    Bilinear2,
}

impl CustomOp1 for Pointwise {
    fn name(&self) -> &'static str {
        match self {
            Self::Activation(_) => "activation",
            Self::Geglu => "geglu",
            Self::Nearest2 => "upsample_nearest2",
            Self::Bilinear2 => "upsample_bilinear2",
        }
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(x, lx)?;
        match self {
            Self::Activation(a) => give(pointwise::activation(x, *a), lx.shape()),
            Self::Geglu => {
                let mut dims = lx.dims().to_vec();
                match dims.last_mut() {
                    Some(last) if *last % 2 == 0 => *last /= 2,
                    _ => bail!("geglu of {:?}", lx.dims()),
                }
                give(pointwise::geglu(x, dims[dims.len() - 1]), dims)
            }
            Self::Nearest2 | Self::Bilinear2 => {
                let (m, h, w, c) = lx.shape().dims4()?;
                let y = match self {
                    Self::Nearest2 => resize::nearest2(x, w, c),
                    _ => resize::bilinear2(x, h, w, c),
                };
                give(y, (m, 2 * h, 2 * w, c))
            }
        }
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let gx = match self {
            Self::Activation(a) => on_slices([x, g], |[x, g]| pointwise::activation_gradient(x, g, *a))?,
            Self::Geglu => {
                let hidden = g.dim(candle_core::D::Minus1)?;
                on_slices([x, g], |[x, g]| pointwise::geglu_gradient(x, g, hidden))?
            }
            Self::Nearest2 => {
                let (_, _, w, c) = x.dims4()?;
                on_slices([g], |[g]| resize::nearest2_gradient(g, w, c))?
            }
            Self::Bilinear2 => {
                let (_, h, w, c) = x.dims4()?;
                on_slices([g], |[g]| resize::bilinear2_gradient(g, h, w, c))?
            }
        };
        like(gx, x)
    }
}

pub(super) fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Pointwise::Activation(activation))
}

pub(super) fn geglu(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Pointwise::Geglu)
}

pub(super) fn upsample_nearest2(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Pointwise::Nearest2)
}

pub(super) fn upsample_bilinear2(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Pointwise::Bilinear2)
}

/// Bilinear doubling of the first, and the second behind its channels.
struct JoinDoubled;

impl CustomOp2 for JoinDoubled {
    fn name(&self) -> &'static str {
        "join_doubled"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        skip: &CpuStorage,
        lskip: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((m, h, w, c), (n, height, width, s)) = (lx.shape().dims4()?, lskip.shape().dims4()?);
        if (n, height, width) != (m, 2 * h, 2 * w) {
            bail!("{:?} doubled beside {:?}", lx.dims(), lskip.dims())
        }
        give(
            resize::join_doubled(slice(x, lx)?, slice(skip, lskip)?, [h, w, c, s]),
            (m, height, width, c + s),
        )
    }

    fn bwd(
        &self,
        x: &Tensor,
        skip: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ((_, h, w, c), s) = (x.dims4()?, skip.dim(3)?);
        let (gx, gskip) = on_slices([g], |[g]| resize::join_doubled_gradients(g, [h, w, c, s]))?;
        Ok((like(gx, x)?, like(gskip, skip)?))
    }
}

pub(super) fn join_doubled(x: &Tensor, skip: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2(&skip.contiguous()?, JoinDoubled)
}

/// Of scores and one-hot labels.
struct LabelLosses;

impl CustomOp2 for LabelLosses {
    fn name(&self) -> &'static str {
        "label_losses"
    }

    fn cpu_fwd(
        &self,
        scores: &CpuStorage,
        lscores: &Layout,
        onehot: &CpuStorage,
        lonehot: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        match lscores.dims() {
            [.., n] if lscores.dims() == lonehot.dims() => {
                let losses = segmentation::losses(slice(scores, lscores)?, slice(onehot, lonehot)?, *n);
                give(losses.to_vec(), 2)
            }
            dims => bail!("losses of scores {dims:?} with labels {:?}", lonehot.dims()),
        }
    }

    fn bwd(
        &self,
        scores: &Tensor,
        onehot: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (n, g) = (scores.dim(candle_core::D::Minus1)?, g.to_vec1::<f32>()?);
        let gradient = on_slices([scores, onehot], |[scores, onehot]| {
            segmentation::gradient(scores, onehot, n, [g[0], g[1]])
        })?;
        Ok((like(gradient, scores)?, None))
    }
}

/// Mean cross entropy and soft Jaccard distance of `scores (.., n)` with one-hot labels of that shape: `(2)`. Labels get no gradient.
pub(crate) fn label_losses(scores: &Tensor, onehot: &Tensor) -> Result<Tensor> {
    scores.contiguous()?.apply_op2(&onehot.contiguous()?, LabelLosses)
}
