//! The operations on CUDA in f32, with kernels of their own: forward, and the gradients of what is tracked.
//!
//! Candle's own operations give the same numbers, in some twenty passes over memory where these take one or two; a training
//! step is bound by that. Matrix products are candle's, that is cuBLAS's. The kernels are `kernels.cu`; the tests run their text on
//! the CPU against [`super::ops::plain`].

#[cfg(test)]
mod emulation;
mod launch;

use std::sync::Mutex;

use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Storage, Tensor,
    bail,
};

use super::ops::Activation;
use launch::{Numbers, THREADS, launch};

/// Whether the kernels can take this tensor: f32 on CUDA.
#[cfg(feature = "cuda")]
pub(super) fn applies(x: &Tensor) -> bool {
    x.device().is_cuda() && x.dtype() == DType::F32
}

/// A result that is already there, and how its gradient goes on to what it was made of.
struct Node<G> {
    name: &'static str,
    result: Mutex<Option<(Storage, Shape)>>,
    gradients: G,
}

impl<G> Node<G> {
    fn new(name: &'static str, storage: Storage, shape: impl Into<Shape>, gradients: G) -> Self {
        Self { name, result: Mutex::new(Some((storage, shape.into()))), gradients }
    }

    fn take(&self) -> Result<(Storage, Shape)> {
        match self.result.lock().ok().and_then(|mut result| result.take()) {
            Some(result) => Ok(result),
            None => bail!("{}: its result has been taken", self.name),
        }
    }

    fn take_cpu(&self) -> Result<(CpuStorage, Shape)> {
        match self.take()? {
            (Storage::Cpu(storage), shape) => Ok((storage, shape)),
            _ => bail!("{}: inputs on the CPU, result elsewhere", self.name),
        }
    }

    fn take_cuda(&self) -> Result<(CudaStorage, Shape)> {
        match self.take()? {
            (Storage::Cuda(storage), shape) => Ok((storage, shape)),
            _ => bail!("{}: inputs on CUDA, result elsewhere", self.name),
        }
    }
}

type Gradient = Option<Tensor>;

/// From argument, result and the result's gradient.
impl<G: Fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>> CustomOp1 for Node<G> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.take_cpu()
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.take_cuda()
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, g: &Tensor) -> Result<Gradient> {
        (self.gradients)(x, y, &g.contiguous()?).map(Some)
    }
}

/// From both arguments and the result's gradient.
impl<G: Fn(&Tensor, &Tensor, &Tensor) -> Result<(Gradient, Gradient)>> CustomOp2 for Node<G> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.take_cpu()
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.take_cuda()
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, _: &Tensor, g: &Tensor) -> Result<(Gradient, Gradient)> {
        (self.gradients)(a, b, &g.contiguous()?)
    }
}

/// From all three arguments and the result's gradient.
impl<G: Fn(&Tensor, &Tensor, &Tensor, &Tensor) -> Result<(Gradient, Gradient, Gradient)>> CustomOp3
    for Node<G>
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.take_cpu()
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.take_cuda()
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Gradient, Gradient, Gradient)> {
        (self.gradients)(a, b, c, &g.contiguous()?)
    }
}

/// Numbers for a kernel whose threads have a work item each, and its blocks.
fn each(items: usize, i: &[usize]) -> Result<(Numbers, usize)> {
    Ok((Numbers::new(items, i)?, items.div_ceil(THREADS)))
}

/// As [`each`], for kernels that give [`LANES`] threads to each row.
fn rows(items: usize, i: &[usize]) -> Result<(Numbers, usize)> {
    Ok((Numbers::new(items, i)?, items.div_ceil(THREADS / LANES)))
}

/// As in `kernels.cu`.
const LANES: usize = 32;

/// Runs a kernel on contiguous tensors; what it gives is followed by no gradient.
fn run(
    kernel: &'static str,
    (numbers, blocks): (Numbers, usize),
    inputs: &[&Tensor],
    shape: impl Into<Shape>,
) -> Result<Tensor> {
    let shape = shape.into();
    let storage = launch(kernel, &numbers, blocks, inputs, shape.elem_count())?;
    Ok(Tensor::from_storage(storage, shape, BackpropOp::none(), false))
}

fn activation_numbers(activation: Activation) -> (usize, f32) {
    match activation {
        Activation::None => (0, 0.0),
        Activation::Relu => (1, 0.0),
        Activation::Silu => (2, 0.0),
        Activation::LeakyRelu(slope) => (3, slope),
    }
}

/// How rows are summed: in chunks, each a block's, then the chunks.
#[derive(Clone, Copy)]
struct Chunks {
    segments: usize,
    rows: usize,
    columns: usize,
    per_chunk: usize,
    chunks: usize,
}

impl Chunks {
    /// Of `(segments, rows, columns)`.
    fn new(segments: usize, rows: usize, columns: usize) -> Self {
        // Enough blocks for every GPU, and no fewer rows to each than are worth one.
        let wanted = (2048 / (segments * columns.div_ceil(THREADS)).max(1)).clamp(1, 256);
        let per_chunk = rows.div_ceil(wanted).max(64);
        Self { segments, rows, columns, per_chunk, chunks: rows.div_ceil(per_chunk) }
    }

    fn numbers(&self, more: &[usize]) -> Result<(Numbers, usize)> {
        let column_blocks = self.columns.div_ceil(THREADS);
        let mut i = vec![self.rows, self.columns, self.per_chunk, self.chunks, column_blocks];
        i.extend(more);
        let blocks = self.segments * self.chunks * column_blocks;
        Ok((Numbers::new(blocks, &i)?, blocks))
    }
}

/// `(segments, chunks, columns) -> (segments, columns)`
fn total(x: &Tensor, segments: usize, chunks: usize, columns: usize) -> Result<Tensor> {
    match chunks {
        1 => x.reshape((segments, columns)),
        _ => run("total", each(segments * columns, &[chunks, columns])?, &[x], (segments, columns)),
    }
}

/// `(segments, rows, columns) -> (segments, columns)`
fn column_sums(x: &Tensor, segments: usize, rows: usize, columns: usize) -> Result<Tensor> {
    let c = Chunks::new(segments, rows, columns);
    let parts = run("column_sums", c.numbers(&[])?, &[x], (segments, c.chunks, columns))?;
    total(&parts, segments, c.chunks, columns)
}

/// The windows of a convolution over `pictures` of `height * width * inputs`.
#[derive(Clone, Copy)]
struct Windows {
    pictures: usize,
    height: usize,
    width: usize,
    inputs: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
}

impl Windows {
    fn out(&self) -> (usize, usize) {
        let side = |side: usize| (side + 2 * self.padding - self.kernel) / self.stride + 1;
        (side(self.height), side(self.width))
    }

    fn rows(&self) -> usize {
        let (h, w) = self.out();
        self.pictures * h * w
    }

    /// Elements of a window.
    fn taps(&self) -> usize {
        self.kernel * self.kernel * self.inputs
    }

    /// Whether a window is a pixel.
    fn is_pixel(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.padding == 0
    }

    fn numbers(&self, elements: usize) -> Result<(Numbers, usize)> {
        let (h, w) = self.out();
        let i = [self.height, self.width, self.inputs, self.kernel, self.stride, self.padding, h, w];
        each(if self.inputs.is_multiple_of(4) { elements / 4 } else { elements }, &i)
    }

    /// Pictures to `(rows, taps)`.
    fn unfold(&self, x: &Tensor) -> Result<Tensor> {
        let shape = (self.rows(), self.taps());
        if self.is_pixel() {
            return x.reshape(shape);
        }
        let kernel = if self.inputs.is_multiple_of(4) { "unfold4" } else { "unfold1" };
        run(kernel, self.numbers(shape.0 * shape.1)?, &[x], shape)
    }

    /// The gradient of windows to that of the pictures, `like` them in shape.
    fn fold(&self, g: &Tensor, like: &Tensor) -> Result<Tensor> {
        if self.is_pixel() {
            return g.reshape(like.shape());
        }
        let kernel = if self.inputs.is_multiple_of(4) { "fold4" } else { "fold1" };
        run(kernel, self.numbers(like.elem_count())?, &[g], like.shape())
    }
}

/// Windows of `x` times `weight (n, taps, outputs)` plus `bias (n, outputs)`: `(n rows / n, outputs)` in `shape`.
fn product(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    windows: Windows,
    shape: impl Into<Shape>,
) -> Result<Tensor> {
    let (x, weight, bias) = (x.contiguous()?, weight.contiguous()?, bias.contiguous()?);
    let (n, taps, outputs) = weight.dims3()?;
    let rows = windows.rows() / n;
    let y = windows.unfold(&x.detach())?.reshape((n, rows, taps))?.matmul(&weight.detach())?;
    let numbers = each(n * rows * outputs, &[rows, outputs])?;
    let y = launch("add_bias", &numbers.0, numbers.1, &[&y, &bias], n * rows * outputs)?;
    let gradients = move |x: &Tensor, weight: &Tensor, bias: &Tensor, g: &Tensor| {
        let g = g.reshape((n, rows, outputs))?;
        let gx = match x.track_op() {
            true => {
                let windows_gradient = g.matmul(&weight.detach().transpose(1, 2)?)?;
                Some(windows.fold(&windows_gradient, x)?)
            }
            false => None,
        };
        let gw = match weight.track_op() {
            true => {
                // Of several groups in parts: cuBLAS gives each product of a batch few blocks, however many rows it sums over.
                let parts = if n > 1 && rows.is_multiple_of(64) { (rows / 2048).clamp(1, 64) } else { 1 };
                let parts = if rows.is_multiple_of(parts) { parts } else { 1 };
                let unfolded = windows.unfold(&x.detach())?.reshape((n * parts, rows / parts, taps))?;
                let products =
                    unfolded.transpose(1, 2)?.matmul(&g.reshape((n * parts, rows / parts, outputs))?)?;
                Some(total(&products, n, parts, taps * outputs)?.reshape((n, taps, outputs))?)
            }
            false => None,
        };
        let gb = match bias.track_op() {
            true => Some(column_sums(&g, n, rows, outputs)?.reshape(bias.shape())?),
            false => None,
        };
        Ok((gx, gw, gb))
    };
    x.apply_op3(&weight, &bias, Node::new("windows times weight", y, shape, gradients))
}

pub(super) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let Some(bias) = bias else { return super::ops::plain::linear(x, weight, None) };
    let (outputs, inputs) = weight.dims2()?;
    let rows = x.elem_count() / inputs;
    let windows = Windows { pictures: rows, height: 1, width: 1, inputs, kernel: 1, stride: 1, padding: 0 };
    let mut dims = x.dims().to_vec();
    *dims.last_mut().expect("x has a last dimension") = outputs;
    product(x, &weight.t()?.unsqueeze(0)?, bias, windows, dims)
}

/// `x (n, m, h, w, i)`, or of one group `(m, h, w, i)`.
pub(super) fn grouped_conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    let (n, m, height, width, inputs) = groups_of(x)?;
    let (no, _, kernel, _) = weight.dims4()?;
    let o = no / n;
    let windows = Windows { pictures: n * m, height, width, inputs, kernel, stride, padding };
    let (ho, wo) = windows.out();
    let weight = weight.reshape((n, o, inputs, kernel, kernel))?.permute((0, 3, 4, 2, 1))?.reshape((
        n,
        windows.taps(),
        o,
    ))?;
    let bias = match bias {
        Some(bias) => bias.clone(),
        None => Tensor::zeros(no, DType::F32, x.device())?,
    };
    let shape = [n, m, ho, wo, o];
    product(x, &weight, &bias, windows, &shape[5 - x.rank()..])
}

/// The dimensions of `(n, m, h, w, c)`, `n` being 1 where it is left out.
fn groups_of(x: &Tensor) -> Result<(usize, usize, usize, usize, usize)> {
    match x.dims() {
        &[m, h, w, c] => Ok((1, m, h, w, c)),
        _ => x.dims5(),
    }
}

/// Rows that share a statistic, and classes that share weight and bias: how the norms' kernels find theirs.
#[derive(Clone, Copy)]
struct Norm {
    columns: usize,
    area: usize,
    groups: usize,
    /// Of each class.
    pictures: usize,
    activation: Activation,
}

impl Norm {
    fn list(&self) -> [usize; 5] {
        let (kind, _) = activation_numbers(self.activation);
        [self.columns, self.area, self.groups, self.pictures, kind]
    }

    fn numbers(&self, items: usize) -> Result<(Numbers, usize)> {
        let (numbers, blocks) = each(items, &self.list())?;
        Ok((numbers.with(activation_numbers(self.activation).1), blocks))
    }

    fn apply(&self, x: &Tensor, statistics: &Tensor, affine: Option<&Tensor>) -> Result<Storage> {
        let inputs: Vec<_> = [x, statistics].into_iter().chain(affine).collect();
        let (numbers, blocks) = self.numbers(x.elem_count())?;
        launch("normalise", &numbers, blocks, &inputs, x.elem_count())
    }

    /// Sums over each segment's rows of the gradient before the activation, and of that times the normalised value:
    /// `(segments, 2, columns)`.
    fn sums(
        &self,
        x: &Tensor,
        g: &Tensor,
        statistics: &Tensor,
        affine: Option<&Tensor>,
        c: Chunks,
    ) -> Result<Tensor> {
        let inputs: Vec<_> = [x, g, statistics].into_iter().chain(affine).collect();
        let (numbers, blocks) = c.numbers(&self.list())?;
        let numbers = numbers.with(activation_numbers(self.activation).1);
        let parts = run("norm_sums", (numbers, blocks), &inputs, (c.segments, c.chunks, 2 * c.columns))?;
        total(&parts, c.segments, c.chunks, 2 * c.columns)
    }

    fn gradient(&self, x: &Tensor, g: &Tensor, common: &Tensor, affine: Option<&Tensor>) -> Result<Tensor> {
        let inputs: Vec<_> = [x, g, common].into_iter().chain(affine).collect();
        run("norm_gradient", self.numbers(x.elem_count())?, &inputs, x.shape())
    }
}

/// Bias and weight `(n c)` as `(n, 2, c)`.
fn affine_of(weight: &Tensor, bias: &Tensor, n: usize) -> Result<Tensor> {
    Tensor::cat(&[bias.reshape((n, 1, ()))?, weight.reshape((n, 1, ()))?], 1)?.contiguous()
}

/// `x (n, m, h, w, c)`, or of one class `(m, h, w, c)`.
pub(super) fn group_norm(
    x: &Tensor,
    groups: usize,
    affine: Option<(&Tensor, &Tensor)>,
    eps: f64,
    activation: Activation,
) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (n, m, h, w, c) = groups_of(&x)?;
    let (pictures, area) = (n * m, h * w);
    let norm = Norm { columns: c, area, groups, pictures: m, activation };
    let chunks = Chunks::new(pictures, area, c);
    let moments =
        run("column_moments", chunks.numbers(&[])?, &[&x.detach()], (pictures, chunks.chunks, 2 * c))?;
    let (numbers, blocks) = each(pictures * groups, &[area, c, chunks.per_chunk, chunks.chunks, groups])?;
    let statistics =
        run("group_statistics", (numbers.with(eps as f32), blocks), &[&moments], (pictures, groups, 2))?;
    let backward = move |x: &Tensor, statistics: &Tensor, affine: Option<&Tensor>, g: &Tensor| -> Result<_> {
        let sums = norm.sums(x, g, statistics, affine, chunks)?;
        let inputs: Vec<_> = [&sums, statistics].into_iter().chain(affine).collect();
        let common = each(pictures * groups, &norm.list())?;
        let common = run("group_gradients", common, &inputs, (pictures, groups, 4))?;
        Ok((norm.gradient(x, g, &common, affine)?, total(&sums, n, m, 2 * c)?))
    };
    let shape = x.shape().clone();
    match affine {
        Some((weight, bias)) => {
            let affine = affine_of(weight, bias, n)?;
            let y = norm.apply(&x, &statistics, Some(&affine))?;
            let gradients = move |x: &Tensor, affine: &Tensor, g: &Tensor| {
                let (gx, ga) = backward(&x.detach(), &statistics, Some(&affine.detach()), g)?;
                Ok((Some(gx), Some(ga.reshape((n, 2, c))?)))
            };
            x.apply_op2(&affine, Node::new("group norm", y, shape, gradients))
        }
        None => {
            let y = norm.apply(&x, &statistics, None)?;
            let gradients =
                move |x: &Tensor, _: &Tensor, g: &Tensor| Ok(backward(&x.detach(), &statistics, None, g)?.0);
            x.apply_op1(Node::new("instance norm", y, shape, gradients))
        }
    }
}

pub(super) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let x = x.contiguous()?;
    let c = weight.elem_count();
    let count = x.elem_count() / c;
    let norm = Norm { columns: c, area: 1, groups: 1, pictures: count, activation: Activation::None };
    let (numbers, blocks) = rows(count, &[c])?;
    let statistics = run("row_statistics", (numbers.with(eps as f32), blocks), &[&x.detach()], (count, 2))?;
    let affine = affine_of(weight, bias, 1)?;
    let y = norm.apply(&x, &statistics, Some(&affine))?;
    let shape = x.shape().clone();
    let gradients = move |x: &Tensor, affine: &Tensor, g: &Tensor| {
        let (x, affine) = (x.detach(), affine.detach());
        let sums = norm.sums(&x, g, &statistics, Some(&affine), Chunks::new(1, count, c))?;
        let common = run("row_gradients", rows(count, &[c])?, &[&x, g, &statistics, &affine], (count, 4))?;
        Ok((Some(norm.gradient(&x, g, &common, Some(&affine))?), Some(sums.reshape((1, 2, c))?)))
    };
    x.apply_op2(&affine, Node::new("layer norm", y, shape, gradients))
}

/// Every row less its mean, over its deviation; no gradient follows it.
pub(in crate::nn) fn normalize(x: &Tensor, eps: f64) -> Result<Tensor> {
    let x = x.detach().contiguous()?;
    let c = x.dim(candle_core::D::Minus1)?;
    let count = x.elem_count() / c;
    let norm = Norm { columns: c, area: 1, groups: 1, pictures: count, activation: Activation::None };
    let (numbers, blocks) = rows(count, &[c])?;
    let statistics = run("row_statistics", (numbers.with(eps as f32), blocks), &[&x], (count, 2))?;
    let y = norm.apply(&x, &statistics, None)?;
    Ok(Tensor::from_storage(y, x.shape(), BackpropOp::none(), false))
}

/// Rows are short up to this length: a thread goes through one by itself.
const SHORT: usize = 48;

/// Softmax over the last dimension of `x` times `factor`, which is positive.
fn softmax(x: &Tensor, factor: f64) -> Result<Tensor> {
    let x = x.contiguous()?;
    let s = x.dim(candle_core::D::Minus1)?;
    let numbers = move |count: usize| -> Result<_> {
        let (numbers, blocks) = if s <= SHORT { each(count / s, &[s])? } else { rows(count / s, &[s])? };
        Ok((numbers.with(factor as f32), blocks))
    };
    let (n, blocks) = numbers(x.elem_count())?;
    let kernel = if s <= SHORT { "softmax_short" } else { "softmax_long" };
    let y = launch(kernel, &n, blocks, &[&x], x.elem_count())?;
    let gradients = move |x: &Tensor, y: &Tensor, g: &Tensor| {
        let kernel = if s <= SHORT { "softmax_gradient_short" } else { "softmax_gradient_long" };
        run(kernel, numbers(x.elem_count())?, &[y, g], x.shape())
    };
    let shape = x.shape().clone();
    x.apply_op1(Node::new("softmax", y, shape, gradients))
}

/// `(b, p, q d)` to `(b, q, p, d)`, with the two middle dimensions in each other's place. `shape` is what the result is called.
fn swap_middle(
    x: &Tensor,
    (b, p, q, d): (usize, usize, usize, usize),
    shape: impl Into<Shape>,
) -> Result<Tensor> {
    let x = x.contiguous()?;
    let count = b * p * q * d;
    let (n, blocks) = each(count, &[p, q, d])?;
    let y = launch("swap_middle", &n, blocks, &[&x], count)?;
    let gradients = move |x: &Tensor, _: &Tensor, g: &Tensor| {
        run("swap_middle", each(count, &[q, p, d])?, &[g], x.shape())
    };
    x.apply_op1(Node::new("swap", y, shape, gradients))
}

pub(super) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
    let (b, l, inner) = q.dims3()?;
    let (s, d) = (k.dim(1)?, inner / heads);
    let split = |t: &Tensor, l: usize| swap_middle(t, (b, l, heads, d), (b, heads, l, d));
    let (q, k, v) = (split(q, l)?, split(k, s)?, split(v, s)?);
    let probabilities = softmax(&q.matmul(&k.t()?)?, (d as f64).powf(-0.5))?;
    swap_middle(&probabilities.matmul(&v)?, (b, heads, l, d), (b, l, inner))
}

pub(super) fn max_pool(x: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (m, h, w, c) = x.dims4()?;
    let (ho, wo) = ((h - 3).div_ceil(2) + 1, (w - 3).div_ceil(2) + 1);
    let numbers = move |count: usize| each(count, &[h, w, c, ho, wo]);
    let (n, blocks) = numbers(m * ho * wo * c)?;
    let y = launch("max_pool", &n, blocks, &[&x], m * ho * wo * c)?;
    let gradients = move |x: &Tensor, _: &Tensor, g: &Tensor| {
        run("max_pool_gradient", numbers(x.elem_count())?, &[x, g], x.shape())
    };
    x.apply_op1(Node::new("max pool", y, (m, ho, wo, c), gradients))
}

pub(super) fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    if activation == Activation::None {
        return Ok(x.clone());
    }
    let x = x.contiguous()?;
    let (kind, slope) = activation_numbers(activation);
    let numbers = move |count: usize| -> Result<_> {
        let (numbers, blocks) = each(count, &[kind])?;
        Ok((numbers.with(slope), blocks))
    };
    let (n, blocks) = numbers(x.elem_count())?;
    let y = launch("activate", &n, blocks, &[&x], x.elem_count())?;
    let gradients = move |x: &Tensor, _: &Tensor, g: &Tensor| {
        run("activate_gradient", numbers(x.elem_count())?, &[x, g], x.shape())
    };
    let shape = x.shape().clone();
    x.apply_op1(Node::new("activation", y, shape, gradients))
}

pub(super) fn geglu(x: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?;
    let mut dims = x.dims().to_vec();
    let last = dims.last_mut().expect("x has a last dimension");
    *last /= 2;
    let h = *last;
    let count = x.elem_count() / 2;
    let (n, blocks) = each(count, &[h])?;
    let y = launch("geglu", &n, blocks, &[&x], count)?;
    let gradients = move |x: &Tensor, _: &Tensor, g: &Tensor| {
        run("geglu_gradient", each(count, &[h])?, &[x, g], x.shape())
    };
    x.apply_op1(Node::new("geglu", y, dims, gradients))
}

fn doubled(x: &Tensor, kernel: &'static str, gradient: &'static str) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (m, h, w, c) = x.dims4()?;
    let count = 4 * x.elem_count();
    let (n, blocks) = each(count, &[h, w, c])?;
    let y = launch(kernel, &n, blocks, &[&x], count)?;
    let gradients = move |x: &Tensor, _: &Tensor, g: &Tensor| {
        run(gradient, each(x.elem_count(), &[h, w, c])?, &[g], x.shape())
    };
    x.apply_op1(Node::new(kernel, y, (m, 2 * h, 2 * w, c), gradients))
}

pub(super) fn upsample_nearest2(x: &Tensor) -> Result<Tensor> {
    doubled(x, "nearest2", "nearest2_gradient")
}

pub(super) fn upsample_bilinear2(x: &Tensor) -> Result<Tensor> {
    doubled(x, "bilinear2", "bilinear2_gradient")
}

pub(super) fn join_doubled(x: &Tensor, skip: &Tensor) -> Result<Tensor> {
    Tensor::cat(&[&upsample_bilinear2(x)?, skip], 3)
}
