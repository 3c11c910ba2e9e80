//! Golden cases: a network whose weights are a formula of their names, its inputs, and every tensor it must give.
//!
//! A case is a safetensors file; its metadata key `config` holds the sizes as JSON. The expected values were computed in
//! float64 by an independent PyTorch reading of the network.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::{Init, VarBuilder, var_builder::SimpleBackend};
use serde::Deserialize;

use super::{Config, Mapping, Network, Precision};
use crate::Error;
use crate::progress::Progress;

/// Weights by formula: element `i` of the tensor called `name` depends on name, seed and `i` alone.
///
/// With h = FNV-1a 64 of the name and x = splitmix64(h + seed + i), u is the top 24 bits of x over 2^24. Tensors of rank
/// 2 and more get (2u - 1) sqrt(3 / fan_in), fan_in being elements / dim 0; norms' weights 0.75 + 0.5 u; biases
/// 0.2 u - 0.1.
pub struct Formula {
    pub seed: u64,
}

impl Formula {
    /// The values of the tensor `name` of `shape`.
    pub fn values(&self, name: &str, shape: &[usize]) -> Vec<f32> {
        let start = fnv1a(name).wrapping_add(self.seed);
        let count: usize = shape.iter().product();
        let (scale, offset) = match shape.len() {
            2.. => {
                let bound = (3.0 / (count / shape[0].max(1)) as f64).sqrt();
                (2.0 * bound, -bound)
            }
            _ if name.ends_with("weight") => (0.5, 0.75),
            _ => (0.2, -0.1),
        };
        let value = |i: u64| {
            let u = (splitmix64(start.wrapping_add(i)) >> 40) as f64 / (1u64 << 24) as f64;
            (scale * u + offset) as f32
        };
        (0..count as u64).map(value).collect()
    }

    /// A source of weights for [`Network::new`].
    pub fn var_builder(self, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self), DType::F32, device.clone())
    }
}

impl SimpleBackend for Formula {
    fn get(&self, s: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        Tensor::from_vec(self.values(name, s.dims()), s, device)?.to_dtype(dtype)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("{name}: the formula needs a shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3))
}

fn splitmix64(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// The sizes in a case's metadata.
#[derive(Deserialize)]
struct CaseConfig {
    classes: usize,
    ngf: usize,
    style_dim: usize,
    exclude_background: bool,
    mapping_dim: usize,
    mask_size: usize,
    resolution: usize,
    seed: u64,
}

impl CaseConfig {
    fn network(&self) -> Config {
        Config {
            resolution: self.resolution,
            mask_size: self.mask_size,
            mapping: Some(Mapping { latent: self.mapping_dim, width: 512 }),
            labeler: None,
            ..Config::published(self.classes, self.ngf, self.style_dim, self.exclude_background)
        }
    }
}

/// One tensor of a case against the network's own.
#[derive(Clone, Debug)]
pub struct Comparison {
    pub name: String,
    /// Largest absolute difference; infinite when a value is not a number.
    pub error: f32,
    pub tolerance: f32,
    /// Peak signal-to-noise ratio in dB, the peak being 2, where that is what is held: to [`LEAST_PSNR`].
    pub psnr: Option<f64>,
}

impl Comparison {
    pub fn holds(&self) -> bool {
        self.psnr.map_or(self.error <= self.tolerance, |db| db >= LEAST_PSNR)
    }
}

/// What products of less than f32 keep of a picture: as much as PyTorch's own bf16 autocast does, in dB.
pub const LEAST_PSNR: f64 = 40.0;

/// A plain float32 path errs 1.5e-5 at most, after tanh and 60 layers somewhat more on the pictures.
const TOLERANCE: f32 = 2e-5;
const IMAGE_TOLERANCE: f32 = 2e-4;

/// What rearranged products may err on a picture.
const FAST_TOLERANCE: f32 = 1e-3;

/// The sizes of the network of the case in `path`, and the seed of its weights.
pub fn sizes(path: &Path) -> crate::Result<(Config, u64)> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let config = case_config(path, &bytes)?;
    Ok((config.network(), config.seed))
}

fn case_config(path: &Path, bytes: &[u8]) -> crate::Result<CaseConfig> {
    let broken = |e: &dyn std::fmt::Display| Error::format(path, format!("not a golden case: {e}"));
    let (_, header) = safetensors::SafeTensors::read_metadata(bytes).map_err(|e| broken(&e))?;
    let config = header
        .metadata()
        .as_ref()
        .and_then(|m| m.get("config"))
        .ok_or_else(|| broken(&"its metadata has no key `config`"))?;
    serde_json::from_str(config).map_err(|e| broken(&format!("config: {e}")))
}

/// Recomputes the case in `path` on `device` and compares every tensor in it, in the file's order of names.
pub fn verify(path: &Path, device: &Device) -> crate::Result<Vec<Comparison>> {
    let give = |network: Network, case: &_| recompute(&network, case, path);
    compare(path, device, give, TOLERANCE, IMAGE_TOLERANCE, Precision::F32)
}

/// As [`verify`], but with the forms that a user's pictures go through on this device, which rearrange the network's
/// products: style, pictures and mask code, all that those give.
pub fn verify_fast(path: &Path, device: &Device) -> crate::Result<Vec<Comparison>> {
    let give = |network: Network, case: &_| recompute_fast(&network, case, path, false);
    compare(path, device, give, TOLERANCE, FAST_TOLERANCE, Precision::F32)
}

/// As [`verify_fast`], with the forms made for GPUs, on every device, with style codes and pictures in `precision`. In less than
/// f32 style codes are left out and pictures are held to [`LEAST_PSNR`].
pub fn verify_tensors(path: &Path, device: &Device, precision: Precision) -> crate::Result<Vec<Comparison>> {
    let give = |network: Network, case: &_| {
        let mut got = recompute_fast(&network.with_precision(precision), case, path, true)?;
        if precision != Precision::F32 {
            got.insert("style".into(), None);
        }
        Ok(got)
    };
    compare(path, device, give, TOLERANCE, FAST_TOLERANCE, precision)
}

/// Compares the case in `path` with what `give` makes of it; a tensor that it does not give is left out unless it is no
/// tensor of any case.
fn compare(
    path: &Path,
    device: &Device,
    give: impl Fn(Network, &HashMap<String, Tensor>) -> crate::Result<HashMap<String, Option<Tensor>>>,
    tolerance: f32,
    image_tolerance: f32,
    precision: Precision,
) -> crate::Result<Vec<Comparison>> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let config = case_config(path, &bytes)?;
    let case = candle_core::safetensors::load_buffer(&bytes, device)?;
    let network = Network::new(&config.network(), Formula { seed: config.seed }.var_builder(device))?;
    let got = give(network, &case)?;

    let inputs = ["reference_rgb", "reference_labels", "shape_labels", "noise_z"];
    let mut names: Vec<&String> = case.keys().filter(|n| !inputs.contains(&n.as_str())).collect();
    names.sort();
    let mut comparisons = Vec::with_capacity(names.len());
    for name in names {
        let want = &case[name];
        let Some(got) = got.get(name.as_str()) else {
            return Err(Error::format(path, format!("holds `{name}`, which is no tensor of a golden case")));
        };
        let Some(got) = got else { continue };
        if got.dims() != want.dims() {
            let what =
                format!("`{name}` is {:?}, but a network of its config gives {:?}", want.dims(), got.dims());
            return Err(Error::format(path, what));
        }
        let (got, want) = (flat(got)?, flat(want)?);
        let error = got.iter().zip(&want).map(|(g, w)| (g - w).abs()).fold(0.0, worse);
        let image = name.ends_with("image");
        let psnr = (image && precision != Precision::F32).then(|| psnr(&got, &want));
        let tolerance = if image { image_tolerance } else { tolerance };
        comparisons.push(Comparison { name: name.clone(), error, tolerance, psnr });
    }
    Ok(comparisons)
}

/// In dB, of values in [-1, 1].
fn psnr(got: &[f32], want: &[f32]) -> f64 {
    let square: f64 = got.iter().zip(want).map(|(g, w)| f64::from(g - w).powi(2)).sum();
    10.0 * (4.0 * got.len() as f64 / square).log10()
}

fn flat(t: &Tensor) -> Result<Vec<f32>> {
    t.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

/// The larger of two errors, a NaN being the largest of all.
fn worse(a: f32, b: f32) -> f32 {
    if b.is_nan() { f32::INFINITY } else { a.max(b) }
}

/// A case's inputs as the network takes them.
struct Inputs {
    rgb: Tensor,
    reference: Tensor,
    shape: Tensor,
    z: Tensor,
}

impl Inputs {
    fn of(network: &Network, case: &HashMap<String, Tensor>, path: &Path) -> crate::Result<Self> {
        let input = |name: &str| {
            case.get(name)
                .ok_or_else(|| Error::format(path, format!("not a golden case: `{name}` is missing")))
        };
        let config = network.config();
        let side = config.resolution;
        let labels = |name: &str| -> crate::Result<Tensor> {
            let t = input(name)?;
            let indices = t.to_dtype(DType::U32)?.flatten_all()?.to_vec1::<u32>()?;
            if t.dims() != [side, side] || indices.iter().any(|&i| i as usize >= config.classes) {
                let what = format!("`{name}` is no {side}x{side} label map of {} classes", config.classes);
                return Err(Error::format(path, what));
            }
            Ok(candle_nn::encoding::one_hot(t.to_dtype(DType::U32)?, config.classes, 1f32, 0f32)?
                .unsqueeze(0)?)
        };
        let rgb = input("reference_rgb")?;
        if rgb.dims() != [3, side, side] {
            let what = format!("`reference_rgb` is {:?}, not [3, {side}, {side}]", rgb.dims());
            return Err(Error::format(path, what));
        }
        let rgb = rgb.to_dtype(DType::F32)?.permute((1, 2, 0))?.unsqueeze(0)?.contiguous()?;
        let (reference, shape) = (labels("reference_labels")?, labels("shape_labels")?);
        let z = input("noise_z")?.to_dtype(DType::F32)?.flatten_all()?.unsqueeze(0)?;
        Ok(Self { rgb, reference, shape, z })
    }

    /// Without a reference a class that the labels lack has no style: its code is zero.
    fn noise_style(&self, style: &Tensor) -> Result<Tensor> {
        let present = self.shape.sum((1, 2))?.gt(0f32)?.to_dtype(DType::F32)?.unsqueeze(2)?; // (1, n, 1)
        style.broadcast_mul(&present)
    }
}

/// In the case's own layout (channels first).
fn planar(image: &Tensor) -> Result<Tensor> {
    image.squeeze(0)?.permute((2, 0, 1))
}

/// Every tensor that a case may hold, in the case's own layout (channels first).
fn recompute(
    network: &Network,
    case: &HashMap<String, Tensor>,
    path: &Path,
) -> crate::Result<HashMap<String, Option<Tensor>>> {
    let inputs = Inputs::of(network, case, path)?;
    let Inputs { rgb, reference, shape, z } = &inputs;
    let style = network.encode_style_plain(rgb, reference, Progress::NONE)?;
    let mask_code = network.encode_mask(shape)?;
    let decoded = network.decode(&mask_code, &style, Progress::NONE)?;
    let noise_style = network.map_noise(z)?;
    let noise_image =
        network.generate_plain(&mask_code, &inputs.noise_style(&noise_style)?, Progress::NONE)?;

    let mut got = HashMap::from([
        ("style".into(), style.squeeze(0)?),
        ("mask_code".into(), mask_code.squeeze(0)?),
        ("image".into(), planar(&decoded.image)?),
        ("attention_loss".into(), network.attention_loss(&decoded.attention, shape)?.reshape(1)?),
        ("noise_style".into(), noise_style.squeeze(0)?),
        ("noise_image".into(), planar(&noise_image)?),
    ]);
    for (name, map) in decoded.stages {
        // On the CPU, as Metal has no f64.
        let pixels = map.flatten_to(2)?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?; // (side side, c)
        let mean = pixels.mean_keepdim(0)?;
        let deviation = pixels.broadcast_sub(&mean)?.sqr()?.mean_keepdim(0)?.sqrt()?;
        got.insert(format!("stage.{name}"), Tensor::cat(&[mean, deviation], 0)?.to_dtype(DType::F32)?);
    }
    for (k, logits) in decoded.attention.iter().enumerate() {
        let side = logits.dim(1)?.isqrt();
        let middle = logits.reshape((side, side, ()))?.get(side / 2)?;
        got.insert(format!("attention.cross{}", k + 2), middle);
    }
    Ok(got.into_iter().map(|(name, t)| (name, Some(t))).collect())
}

/// The tensors of a case that the fast forms give; none for the others. `tensors`: in the forms made for GPUs, wherever.
fn recompute_fast(
    network: &Network,
    case: &HashMap<String, Tensor>,
    path: &Path,
    tensors: bool,
) -> crate::Result<HashMap<String, Option<Tensor>>> {
    let inputs = Inputs::of(network, case, path)?;
    let style = match tensors {
        true => network.encode_style_tensors(&inputs.rgb, &inputs.reference, Progress::NONE)?,
        false => network.encode_style(&inputs.rgb, &inputs.reference, Progress::NONE)?,
    };
    let mask_code = network.encode_mask(&inputs.shape)?;
    let noise_style = network.map_noise(&inputs.z)?;
    let generate = |style: &Tensor| match tensors {
        true => network.prepare_tensors(&style.squeeze(0)?)?.generate(&mask_code, Progress::NONE),
        false => network.generate(&mask_code, style, Progress::NONE),
    };
    let (image, noise_image) = (generate(&style)?, generate(&inputs.noise_style(&noise_style)?)?);
    let mut got: HashMap<String, Option<Tensor>> = HashMap::from([
        ("style".into(), Some(style.squeeze(0)?)),
        ("mask_code".into(), Some(mask_code.squeeze(0)?)),
        ("image".into(), Some(planar(&image)?)),
        ("noise_style".into(), Some(noise_style.squeeze(0)?)),
        ("noise_image".into(), Some(planar(&noise_image)?)),
        ("attention_loss".into(), None),
    ]);
    for i in 2..network.config().stages.len() + 2 {
        for name in [format!("stage.res{i}"), format!("stage.cross{i}"), format!("attention.cross{i}")] {
            got.insert(name, None);
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check values of the design: the first elements of two tensors of seed 0.
    #[test]
    fn the_formula_gives_the_published_check_values() {
        let f = Formula { seed: 0 };
        let near = |got: &[f32], want: &[f32]| got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-7);
        let weight = f.values("out_conv.weight", &[3, 32, 1, 1]);
        assert!(near(&weight, &[-0.27016085, -0.17594603, 0.19441752, 0.16210797]), "{:?}", &weight[..4]);
        let bias = f.values("out_conv.bias", &[3]);
        assert!(near(&bias, &[0.01372408, 0.07994135, 0.06067765]), "{bias:?}");
    }

    #[test]
    fn a_nan_is_an_infinite_error() {
        assert_eq!([1.0, f32::NAN, 2.0].into_iter().fold(0.0, worse), f32::INFINITY);
    }
}
