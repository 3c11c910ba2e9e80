//! The generator and the style encoder as a GPU runs them: the exact savings of [`super::arrange`], made of candle's own
//! operations, on any device.
//!
//! What the CPU's form does row by row inside kernels is done here by whole products, as few and as large as memory allows:
//! - a Linear's bias, and the constants that folding leaves, are one more row of its weight, met by a one in the input;
//! - a 3x3 convolution gathers its windows by an index that holds the border as well, all taps in one product; doubling
//!   is folded into its weight, which then gives four pixels for each;
//! - everything between two convolutions is done in tiles of pixels, self-attention in tiles of queries;
//! - feature maps, norms' statistics and softmaxes are f32; a half type is that of large products' factors, whose sums are
//!   f32 inside the product.
//!
//! Weights are converted once. A decode asks nothing back before the picture is done.

mod conv;
mod encoder;
mod transformer;

pub(in crate::nn) use encoder::Encoder;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use candle_core::{DType, Device, Result as Made, Tensor};
use serde::{Deserialize, Serialize};

use self::conv::{Indices, Residual};
use self::transformer::{Look, Transformer};
use super::Timing;
use super::arrange::Algebra as _;
use crate::kernels::simd::Level;
use crate::nn::Config;
use crate::nn::generator::Generator;
use crate::progress::Progress;
use crate::{Error, Result};

/// What the factors of the network's large products are rounded to. A device that [cannot do so](Self::check) keeps f32, which is
/// always at least as precise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 24 bits of mantissa: none are lost. On CPUs with AMX 16, as the sum of two bfloat16: [`Level::Bf16x3`].
    #[default]
    F32,
    /// 11 bits, f32's range; in the tensor cores of NVIDIA GPUs alone. Switched on for the whole process while the device is
    /// handed such work.
    Tf32,
    /// 8 bits, f32's range: on GPUs, and on CPUs with AVX-512 BF16.
    Bf16,
    /// 11 bits, to 65504: on GPUs.
    F16,
}

impl Precision {
    /// Whether `device` rounds so, rather than keep f32.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where it does not, with what it has instead.
    pub fn check(self, device: &Device) -> Result<()> {
        let (name, has): (_, &[Self]) = match device {
            Device::Cpu if Level::bf16().is_some() => ("the CPU", &[Self::F32, Self::Bf16]),
            Device::Cpu => ("this CPU, without AVX-512 BF16,", &[Self::F32]),
            Device::Cuda(_) => ("a CUDA device", &[Self::F32, Self::Tf32, Self::Bf16, Self::F16]),
            Device::Metal(_) => ("a Metal device", &[Self::F32, Self::Bf16, Self::F16]),
        };
        if has.contains(&self) {
            return Ok(());
        }
        let has: Vec<_> = has.iter().map(Self::to_string).collect();
        let has = has.join(" and ");
        Err(Error::unsupported(format!(
            "precision {self}: {name} computes in {has} alone; leave the precision out, or choose a device that has {self}"
        )))
    }
}

impl FromStr for Precision {
    type Err = Error;

    /// `f32`, `tf32`, `bf16` or `f16`.
    fn from_str(s: &str) -> Result<Self> {
        match s {
            "f32" => Ok(Self::F32),
            "tf32" => Ok(Self::Tf32),
            "bf16" => Ok(Self::Bf16),
            "f16" => Ok(Self::F16),
            _ => Err(Error::invalid(format!("precision {s:?}: choose f32, tf32, bf16 or f16"))),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        })
    }
}

/// While one is alive, candle's products of f32 on CUDA may round their factors to tf32. The switch is the process's.
pub(crate) struct Tf32;

static TF32_USERS: AtomicUsize = AtomicUsize::new(0);

impl Tf32 {
    pub fn when(precision: Precision) -> Option<Self> {
        (precision == Precision::Tf32).then(|| {
            TF32_USERS.fetch_add(1, Ordering::SeqCst);
            candle_core::cuda::set_gemm_reduced_precision_f32(true);
            Self
        })
    }
}

impl Drop for Tf32 {
    fn drop(&mut self) {
        if TF32_USERS.fetch_sub(1, Ordering::SeqCst) == 1 {
            candle_core::cuda::set_gemm_reduced_precision_f32(false);
        }
    }
}

/// Where tensors are, and of which types.
#[derive(Clone, Debug)]
struct Kind {
    device: Device,
    /// Of feature maps, statistics and small products.
    exact: DType,
    /// Of large products' factors.
    factors: DType,
}

impl Kind {
    /// For weights of `exact`'s type and device.
    fn new(exact: &Tensor, precision: Precision) -> Self {
        let factors = match precision {
            Precision::F32 | Precision::Tf32 => exact.dtype(),
            Precision::Bf16 => DType::BF16,
            Precision::F16 => DType::F16,
        };
        Self { device: exact.device().clone(), exact: exact.dtype(), factors }
    }

    /// Handed to the device: for what is made once.
    fn constant(&self, values: Vec<f64>, shape: &[usize]) -> Made<Tensor> {
        // Converted on the CPU, as Metal has no f64.
        Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(self.exact)?.to_device(&self.device)
    }

    fn exact_bytes(&self) -> usize {
        self.exact.size_in_bytes()
    }

    fn factor_bytes(&self) -> usize {
        self.factors.size_in_bytes()
    }
}

/// Factors of a product have a multiple of this many rows, where tensor cores take them.
const ROWS: usize = 8;

/// The right factor of a product whose left one ends in a one, and in zeros up to a multiple of [`ROWS`] columns.
#[derive(Debug)]
struct Factor {
    /// `(inputs + 1 + zeros, outputs)`
    weight: Tensor,
    /// `(1, 1 + zeros)`: what rows of the left factor end in.
    end: Tensor,
}

impl Factor {
    /// Weights `(outputs, inputs)` side by side, and what is added to every row, `(outputs)`.
    fn new(kind: &Kind, weights: &[&Tensor], added: &Tensor) -> Made<Self> {
        let weight = Tensor::cat(&weights.iter().map(|w| w.t()).collect::<Made<Vec<_>>>()?, 0)?;
        let (inputs, outputs) = weight.dims2()?;
        let zeros = (inputs + 1).next_multiple_of(ROWS) - inputs - 1;
        let mut rows = vec![weight, added.unsqueeze(0)?];
        let mut end = vec![Tensor::ones((1, 1), kind.exact, &kind.device)?];
        if zeros > 0 {
            rows.push(Tensor::zeros((zeros, outputs), kind.exact, &kind.device)?);
            end.push(Tensor::zeros((1, zeros), kind.exact, &kind.device)?);
        }
        let weight = Tensor::cat(&rows, 0)?.to_dtype(kind.factors)?;
        Ok(Self { weight, end: Tensor::cat(&end, 1)? })
    }

    /// The left factor that it is made for: columns side by side `(rows, inputs)`, the one and the zeros.
    fn rows(&self, parts: &[&Tensor]) -> Made<Tensor> {
        let end = self.end.broadcast_as((parts[0].dim(0)?, self.end.dim(1)?))?.contiguous()?;
        Tensor::cat(&[parts, &[&end]].concat(), 1)?.to_dtype(self.weight.dtype())
    }

    /// Of such rows.
    fn times(&self, rows: &Tensor) -> Made<Tensor> {
        product(rows, &self.weight)
    }

    /// The outputs in two halves, each a factor with the same rows.
    fn halves(&self) -> Made<(Tensor, Tensor)> {
        let half = self.weight.dim(1)? / 2;
        let part = |first| self.weight.narrow(1, first, half)?.contiguous();
        Ok((part(0)?, part(half)?))
    }
}

/// `a b`, batched alike, in their type.
fn product(a: &Tensor, b: &Tensor) -> Made<Tensor> {
    #[cfg(test)]
    if let Some(text) = FAULT.take() {
        return Err(candle_core::Error::Cuda(text.into()));
    }
    // Candle's CPU backend has no product of bf16. What a GPU does: exact products, sums in f32, rounded once.
    if a.dtype() == DType::BF16 && a.device().is_cpu() {
        return a.to_dtype(DType::F32)?.matmul(&b.to_dtype(DType::F32)?)?.to_dtype(DType::BF16);
    }
    a.matmul(b)
}

/// Parts of `count` things that are done at a time, `each` bytes for one of them, as many as `bytes` hold: first and number.
fn parts(count: usize, each: usize, bytes: usize) -> impl Iterator<Item = (usize, usize)> {
    let most = (bytes / each.max(1)).clamp(1, count.max(1));
    // Even ones.
    let step = count.div_ceil(count.div_ceil(most).max(1)).max(1);
    (0..count).step_by(step).map(move |first| (first, step.min(count - first)))
}

/// One tensor of parts along `dim`.
fn joined(mut parts: Vec<Tensor>, dim: usize) -> Made<Tensor> {
    match parts.len() {
        1 => Ok(parts.remove(0)),
        _ => Tensor::cat(&parts, dim),
    }
}

/// Bytes of what a tile needs beside the maps: enough to fill a large GPU, and seldom handed out.
const TILE: usize = 128 << 20;
/// The least: the device is then busy with being handed work.
const SMALLEST_TILE: usize = 1 << 20;
/// Pictures decoded at once where nobody says how much memory there is.
const PICTURES: usize = 8;

/// How work is cut up to fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    pictures: usize,
    tile: usize,
}

/// The largest cut of `pictures` pictures for which `bytes` gives no more than there is: memory that the caller allows, or else what
/// the device has free, as far as that is known.
///
/// # Errors
/// [`Error::MemoryLimit`] where the caller allows less than the least.
fn cut(pictures: usize, limit: Option<u64>, free: Option<u64>, bytes: impl Fn(Cut) -> u64) -> Result<Cut> {
    let most = match (limit, free) {
        (Some(limit), Some(free)) => limit.min(free),
        (Some(most), None) | (None, Some(most)) => most,
        (None, None) => return Ok(Cut { pictures: pictures.min(PICTURES), tile: TILE }),
    };
    let mut cut = Cut { pictures: pictures.max(1), tile: TILE };
    while bytes(cut) > most {
        if cut.pictures > 1 {
            cut.pictures = cut.pictures.div_ceil(2);
        } else if cut.tile > SMALLEST_TILE {
            cut.tile /= 2;
        } else {
            break;
        }
    }
    match limit {
        Some(limit) if bytes(cut) > limit => Err(Error::MemoryLimit { needed: bytes(cut), limit }),
        // What is free may be more than the device says, as candle's own reserve counts as taken: tried all the same.
        _ => Ok(cut),
    }
}

/// The generator's weights, arranged and of the chosen type; of any style.
pub(in crate::nn) struct Decoder {
    kind: Kind,
    precision: Precision,
    base: usize,
    reshape: Tensor,
    reshape_bias: Tensor,
    stages: Vec<(Residual, Transformer)>,
    out: Tensor,
    out_bias: Tensor,
}

impl Decoder {
    pub fn new(precision: Precision, config: &Config, generator: &Generator) -> Made<Self> {
        let kind = Kind::new(&generator.out_conv.bias, precision);
        let mut indices = Indices::default();
        let mut side = config.base_size;
        let mut stages = Vec::with_capacity(generator.stages.len());
        for (res, cross) in &generator.stages {
            let residual = Residual::new(&kind, &mut indices, res, side)?;
            side = residual.side(side);
            stages.push((residual, Transformer::new(&kind, cross, side, config.classes)?));
        }
        let transposed = |weight: &Tensor| Tensor::of(weight)?.t()?.contiguous();
        Ok(Self {
            kind,
            precision,
            base: config.base_size,
            reshape: transposed(&generator.reshape_conv.weight)?,
            reshape_bias: generator.reshape_conv.bias.detach(),
            stages,
            out: transposed(&generator.out_conv.weight)?,
            out_bias: generator.out_conv.bias.detach(),
        })
    }

    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Bytes of the device that a decode takes at most beside weights, codes and pictures: an estimate from above.
    fn bytes(&self, Cut { pictures, tile }: Cut) -> u64 {
        let mut side = self.base;
        let mut most = 0;
        for (res, cross) in &self.stages {
            most = most.max(res.bytes(&self.kind, pictures, side, tile));
            side = res.side(side);
            most = most.max(cross.bytes(&self.kind, pictures, side * side, tile));
        }
        most as u64
    }

    fn flops(&self) -> f64 {
        let mut side = self.base;
        let mut total = self.enter_flops();
        for (res, cross) in &self.stages {
            total += res.flops(side);
            side = res.side(side);
            total += cross.flops(side * side);
        }
        total + self.leave_flops(side)
    }

    fn enter_flops(&self) -> f64 {
        2.0 * (self.base * self.base * self.reshape.elem_count()) as f64
    }

    fn leave_flops(&self, side: usize) -> f64 {
        2.0 * (side * side * self.out.elem_count()) as f64
    }
}

/// A decoder with one style.
pub(in crate::nn) struct Prepared {
    decoder: Arc<Decoder>,
    looks: Vec<Look>,
    memory_limit: Option<u64>,
}

impl Prepared {
    /// `style (n, s)`
    pub fn new(decoder: Arc<Decoder>, style: &Tensor, memory_limit: Option<u64>) -> Made<Self> {
        let _tf32 = Tf32::when(decoder.precision);
        let style = style.detach().to_device(&decoder.kind.device)?.to_dtype(decoder.kind.exact)?;
        let look = |(_, cross): &(_, Transformer)| cross.look(&decoder.kind, &style);
        let looks = decoder.stages.iter().map(look).collect::<Made<_>>()?;
        Ok(Self { decoder, looks, memory_limit })
    }

    /// Shape of one mask code.
    pub fn code_dims(&self) -> [usize; 2] {
        [self.decoder.reshape.dims()[0], self.decoder.base * self.decoder.base]
    }

    /// Mask codes `(b, k, base base)`, checked, to pictures `(b, h, w, 3)`; as many at once as fit.
    pub fn generate(
        &self,
        codes: &Tensor,
        progress: Progress,
        mut timings: Option<&mut Vec<Timing>>,
    ) -> Result<Tensor> {
        let decoder = &self.decoder;
        let pictures = codes.dim(0)?;
        let free = crate::device::memory_free(&decoder.kind.device)?;
        let cut = cut(pictures, self.memory_limit, free, |cut| decoder.bytes(cut))?;
        let codes = codes.detach().to_device(&decoder.kind.device)?.to_dtype(decoder.kind.exact)?;
        let mut images = Vec::new();
        for first in (0..pictures).step_by(cut.pictures) {
            let count = cut.pictures.min(pictures - first);
            let share = |n: usize| n as f32 / pictures as f32;
            let progress = progress.part(share(first), share(first + count));
            let codes = codes.narrow(0, first, count)?;
            images.push(self.decode(&codes, cut.tile, progress, timings.as_deref_mut())?);
        }
        Ok(joined(images, 0)?)
    }

    fn decode(
        &self,
        codes: &Tensor,
        tile: usize,
        progress: Progress,
        mut timings: Option<&mut Vec<Timing>>,
    ) -> Result<Tensor> {
        let _tf32 = Tf32::when(self.decoder.precision);
        let decoder = &self.decoder;
        let (b, k, _) = codes.dims3()?;
        let total = decoder.flops();
        let (mut done, mut begun) = (0.0, Instant::now());
        // Who wants to know how long a part took waits for it.
        let mut record = |part: String, flops: f64| -> Result<f32> {
            if let Some(timings) = &mut timings {
                decoder.kind.device.synchronize()?;
                timings.push(Timing { part, time: begun.elapsed(), flops: flops * b as f64 });
                begun = Instant::now();
            }
            done += flops;
            let share = (done / total).min(1.0) as f32;
            progress.at(share)?;
            Ok(share)
        };
        progress.at(0.0)?;
        let pixels = codes.transpose(1, 2)?.reshape((b * decoder.base * decoder.base, k))?;
        let x = pixels.matmul(&decoder.reshape)?.broadcast_add(&decoder.reshape_bias)?;
        let mut side = decoder.base;
        let mut x = x.reshape((b, side, side, ()))?;
        let mut at = record("reshape_conv".into(), decoder.enter_flops())?;
        for (k, ((res, cross), look)) in decoder.stages.iter().zip(&self.looks).enumerate() {
            x = res.run(&decoder.kind, x, tile)?;
            let flops = res.flops(side);
            side = res.side(side);
            at = record(format!("res{}", k + 2), flops)?.max(at);
            let flops = cross.flops(side * side);
            let next = at.max((at + (flops / total) as f32).min(1.0));
            x = cross.run(&decoder.kind, look, x, tile, progress.part(at, next))?;
            at = record(format!("cross{}", k + 2), flops)?.max(at);
        }
        let x = x.reshape((b * side * side, ()))?;
        let x = x.matmul(&decoder.out)?.broadcast_add(&decoder.out_bias)?;
        let image = x.tanh()?.reshape((b, side, side, 3))?;
        record("out_conv".into(), decoder.leave_flops(side))?;
        Ok(image)
    }
}

#[cfg(test)]
thread_local! {
    /// Plays a GPU's failure: what the next product of this thread says.
    pub(crate) static FAULT: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
}
