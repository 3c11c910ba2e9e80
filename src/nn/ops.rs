//! The operations the network and the discriminator are composed of, channels last, all with gradients.
//!
//! On the CPU in f32 each goes to a fused kernel of [`crate::kernels`], on CUDA in f32 to one of `cuda`; anywhere else, and in f64
//! where the gradients are checked, to the plain form in [`plain`], made of candle's own operations. All take the
//! checkpoint's weight layouts.

use candle_core::{Result, Tensor};

#[cfg(feature = "cuda")]
use super::cuda;
use super::fused;

/// A call of the form for where `x` is.
macro_rules! at {
    ($x:expr, $operation:ident($($argument:expr),*)) => {{
        #[cfg(feature = "cuda")]
        if cuda::applies($x) {
            return cuda::$operation($($argument),*);
        }
        if fused::applies($x) { fused::$operation($($argument),*) } else { plain::$operation($($argument),*) }
    }};
}

/// Whether operations take a single group's tensors as they are: each view in between costs a gradient four passes over memory.
fn takes_one_group(x: &Tensor) -> bool {
    on_cuda(x) || fused::applies(x)
}

/// What follows a convolution's norm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    None,
    Relu,
    Silu,
    /// max(x, slope x)
    LeakyRelu(f32),
}

/// `x (.., i) -> (.., o)` with `weight (o, i)` and `bias (o)`.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    at!(x, linear(x, weight, bias))
}

/// `x (m, h, w, i) -> (m, h', w', o)` with `weight (o, i, k, k)` and `bias (o)`, zero padding on all sides.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    if takes_one_group(x) {
        return grouped_conv2d(x, weight, bias, stride, padding);
    }
    // The grouped form with a leading dimension of one.
    grouped_conv2d(&x.unsqueeze(0)?, weight, bias, stride, padding)?.squeeze(0)
}

/// Convolution in groups that lie in front of the batch: `x (n, m, h, w, i) -> (n, m, h', w', o)` with
/// `weight (n o, i, k, k)` and `bias (n o)`. Group `g` of the input gives group `g` of the output.
pub fn grouped_conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    at!(x, grouped_conv2d(x, weight, bias, stride, padding))
}

/// Group norm over `x (n, m, h, w, c)`: every (n, m) picture has `groups` groups of channels, normalised to mean 0
/// and variance 1 over the group's channels and all pixels; then `weight (n c)`, `bias (n c)`, and `activation`.
/// `n` is the style encoder's classes, or 1, and then may be left out. Without weight and bias: instance norm when `groups` is `c`.
pub fn group_norm(
    x: &Tensor,
    groups: usize,
    affine: Option<(&Tensor, &Tensor)>,
    eps: f64,
    activation: Activation,
) -> Result<Tensor> {
    if x.rank() == 4 && !takes_one_group(x) {
        return group_norm(&x.unsqueeze(0)?, groups, affine, eps, activation)?.squeeze(0);
    }
    at!(x, group_norm(x, groups, affine, eps, activation))
}

/// Whether the kernels for CUDA take this tensor.
pub(crate) fn on_cuda(_x: &Tensor) -> bool {
    #[cfg(feature = "cuda")]
    return cuda::applies(_x);
    #[cfg(not(feature = "cuda"))]
    false
}

/// 3x3 maximum at stride 2 of features that are nowhere negative, no padding, sides rounded up: `(m, h, w, c)`, sides at least 3.
pub fn max_pool(x: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if cuda::applies(x) {
        return cuda::max_pool(x);
    }
    plain::max_pool(x)
}

/// Layer norm over the last dimension.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    at!(x, layer_norm(x, weight, bias, eps))
}

pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    at!(x, activate(x, activation))
}

/// `(.., 2 h) -> (.., h)`: the first half times the exact (erf) GELU of the second.
pub fn geglu(x: &Tensor) -> Result<Tensor> {
    at!(x, geglu(x))
}

/// Scaled dot-product attention: `q (b, l, heads d)`, `k, v (b, s, heads d) -> (b, l, heads d)`, scale `d^-1/2`.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
    at!(q, attention(q, k, v, heads))
}

/// Each pixel doubled: `(m, h, w, c) -> (m, 2 h, 2 w, c)`.
pub fn upsample_nearest2(x: &Tensor) -> Result<Tensor> {
    at!(x, upsample_nearest2(x))
}

/// Bilinear doubling with half-pixel centres, edges clamped: `(m, h, w, c) -> (m, 2 h, 2 w, c)`.
pub fn upsample_bilinear2(x: &Tensor) -> Result<Tensor> {
    at!(x, upsample_bilinear2(x))
}

/// [`upsample_bilinear2`], and `skip` of that size behind its channels: `(m, h, w, c)`, `(m, 2 h, 2 w, s) -> (m, 2 h, 2 w, c + s)`.
pub fn join_doubled(x: &Tensor, skip: &Tensor) -> Result<Tensor> {
    at!(x, join_doubled(x, skip))
}

/// The operations out of candle's own, for every device and type.
pub mod plain {
    use super::Activation;
    use candle_core::{D, Result, Tensor};

    pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let (o, i) = weight.dims2()?;
        let mut dims = x.dims().to_vec();
        let y = x.reshape(((), i))?.matmul(&weight.t()?)?;
        let y = match bias {
            Some(b) => y.broadcast_add(b)?,
            None => y,
        };
        *dims.last_mut().expect("x has a last dimension") = o;
        y.reshape(dims)
    }

    /// Every k x k window as one row: `(m, h, w, c) -> (m, h', w', k k c)`.
    fn unfold(x: &Tensor, k: usize, stride: usize, padding: usize) -> Result<Tensor> {
        let (m, h, w, c) = x.dims4()?;
        if k == 1 && stride == 1 && padding == 0 {
            return Ok(x.clone());
        }
        let (ho, wo) = ((h + 2 * padding - k) / stride + 1, (w + 2 * padding - k) / stride + 1);
        // Padded at the far side until every tap's strided rows are a reshape and a narrow.
        let whole =
            |side: usize, out: usize| (side + padding).div_ceil(stride).max(out + (k - 1) / stride) * stride;
        let (ph, pw) = (whole(h, ho), whole(w, wo));
        let x =
            x.pad_with_zeros(1, padding, ph - padding - h)?.pad_with_zeros(2, padding, pw - padding - w)?;
        let x = x.reshape((m, ph / stride, stride, pw / stride, stride * c))?;
        let mut taps = Vec::with_capacity(k * k);
        for dy in 0..k {
            let row = x.narrow(1, dy / stride, ho)?.narrow(2, dy % stride, 1)?.squeeze(2)?;
            for dx in 0..k {
                taps.push(row.narrow(2, dx / stride, wo)?.narrow(3, dx % stride * c, c)?);
            }
        }
        Tensor::cat(&taps, 3)
    }

    pub fn grouped_conv2d(
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        stride: usize,
        padding: usize,
    ) -> Result<Tensor> {
        let (n, m, h, w, i) = x.dims5()?;
        let (no, _, k, _) = weight.dims4()?;
        let o = no / n;
        let rows = unfold(&x.reshape((n * m, h, w, i))?, k, stride, padding)?;
        let (_, ho, wo, kki) = rows.dims4()?;
        let weight = weight.reshape((n, o, i, k, k))?.permute((0, 3, 4, 2, 1))?.reshape((n, kki, o))?;
        let y = rows.reshape((n, m * ho * wo, kki))?.matmul(&weight)?;
        let y = match bias {
            Some(b) => y.broadcast_add(&b.reshape((n, 1, o))?)?,
            None => y,
        };
        y.reshape((n, m, ho, wo, o))
    }

    pub fn group_norm(
        x: &Tensor,
        groups: usize,
        affine: Option<(&Tensor, &Tensor)>,
        eps: f64,
        activation: Activation,
    ) -> Result<Tensor> {
        let (n, m, h, w, c) = x.dims5()?;
        let x = x.reshape((n * m, h * w, groups, c / groups))?;
        let x = x.broadcast_sub(&x.mean_keepdim((1, 3))?)?;
        let variance = x.sqr()?.mean_keepdim((1, 3))?;
        let x = x.broadcast_div(&(variance + eps)?.sqrt()?)?.reshape((n, m, h, w, c))?;
        let x = match affine {
            Some((weight, bias)) => x
                .broadcast_mul(&weight.reshape((n, 1, 1, 1, c))?)?
                .broadcast_add(&bias.reshape((n, 1, 1, 1, c))?)?,
            None => x,
        };
        activate(&x, activation)
    }

    pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
        let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = x.sqr()?.mean_keepdim(D::Minus1)?;
        x.broadcast_div(&(variance + eps)?.sqrt()?)?.broadcast_mul(weight)?.broadcast_add(bias)
    }

    pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
        match activation {
            Activation::None => Ok(x.clone()),
            Activation::Relu => x.relu(),
            Activation::Silu => x.silu(),
            Activation::LeakyRelu(slope) => {
                let slope = f64::from(slope);
                (x.relu()? * (1.0 - slope))? + (x * slope)?
            }
        }
    }

    pub fn geglu(x: &Tensor) -> Result<Tensor> {
        let halves = x.chunk(2, D::Minus1)?;
        &halves[0] * halves[1].gelu_erf()?
    }

    fn softmax(x: &Tensor) -> Result<Tensor> {
        let e = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
        e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
    }

    pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
        let (b, l, inner) = q.dims3()?;
        let d = inner / heads;
        let split = |t: &Tensor| t.reshape((b, (), heads, d))?.transpose(1, 2)?.contiguous();
        let (q, k, v) = (split(q)?, split(k)?, split(v)?);
        let logits = (q.matmul(&k.t()?)? * (d as f64).powf(-0.5))?;
        softmax(&logits)?.matmul(&v)?.transpose(1, 2)?.reshape((b, l, inner))
    }

    pub fn max_pool(x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for dim in [1, 2] {
            let side = x.dim(dim)?;
            let out = (side - 3).div_ceil(2) + 1;
            // A zero outside changes no maximum. Padded until pairs of pixels are a reshape: out is at least (side - 3) / 2 + 1.
            let padded = x.pad_with_zeros(dim, 0, 2 * out + 2 - side)?;
            let mut shape = padded.dims().to_vec();
            shape[dim] = out + 1;
            shape.insert(dim + 1, 2);
            let pairs = padded.reshape(shape)?;
            let tap = |first: usize, phase: usize| {
                pairs.narrow(dim, first, out)?.narrow(dim + 1, phase, 1)?.squeeze(dim + 1)
            };
            x = tap(0, 0)?.maximum(&tap(0, 1)?)?.maximum(&tap(1, 0)?)?;
        }
        Ok(x)
    }

    pub fn upsample_nearest2(x: &Tensor) -> Result<Tensor> {
        let (m, h, w, c) = x.dims4()?;
        x.reshape((m, h, 1, w, 1, c))?.broadcast_as((m, h, 2, w, 2, c))?.reshape((m, 2 * h, 2 * w, c))
    }

    pub fn upsample_bilinear2(x: &Tensor) -> Result<Tensor> {
        // Along one dimension: even outputs are a quarter of the pixel before and three of this one, odd ones a
        // quarter of the pixel behind.
        let double = |x: &Tensor, dim: usize| -> Result<Tensor> {
            let side = x.dim(dim)?;
            let (first, last) = (x.narrow(dim, 0, 1)?, x.narrow(dim, side - 1, 1)?);
            let (before, behind) = match side {
                1 => (x.clone(), x.clone()),
                _ => (
                    Tensor::cat(&[&first, &x.narrow(dim, 0, side - 1)?], dim)?,
                    Tensor::cat(&[&x.narrow(dim, 1, side - 1)?, &last], dim)?,
                ),
            };
            let here = (x * 0.75)?;
            Tensor::stack(&[(&here + (before * 0.25)?)?, (&here + (behind * 0.25)?)?], dim + 1)
        };
        let (m, h, w, c) = x.dims4()?;
        let x = double(x, 1)?.reshape((m, 2 * h, w, c))?;
        double(&x, 2)?.reshape((m, 2 * h, 2 * w, c))
    }

    pub fn join_doubled(x: &Tensor, skip: &Tensor) -> Result<Tensor> {
        Tensor::cat(&[&upsample_bilinear2(x)?, skip], 3)
    }
}
