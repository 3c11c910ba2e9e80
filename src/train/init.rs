//! How weights begin.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::nn::{Config, manifest};

/// How the mask embedder's weight begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaskInit {
    /// As the area average of the labels in each cell: the layout is there from the first step. Learning it from random
    /// weights takes most of a short run.
    Area,
    /// At random, as published.
    Random,
}

/// Random numbers for each tensor by its name, so that one tensor's do not depend on another's size.
pub struct Random {
    seed: u64,
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    pub(super) fn stream(&self, name: &str) -> ChaCha8Rng {
        // FNV-1a, 64 bits.
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |h: u64, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        ChaCha8Rng::seed_from_u64(self.seed ^ hash)
    }
}

/// Normal values of mean 0.
pub(super) fn normal(rng: &mut impl Rng, count: usize, std: f64) -> Vec<f32> {
    // Box-Muller; 1 - u is never 0.
    let mut draw = || {
        let (u, v): (f64, f64) = (rng.random(), rng.random());
        std * (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    };
    (0..count).map(|_| draw() as f32).collect()
}

/// The generator's variables at their first values: the last convolution of each residual block and each `proj_out` zero,
/// norms one and zero, all else uniform within fan_in^-1/2.
pub(super) fn generator(
    config: &Config,
    mask: MaskInit,
    random: &Random,
    device: &Device,
) -> Result<BTreeMap<String, Var>> {
    let manifest = manifest(config)?;
    let mut variables = BTreeMap::new();
    for (name, shape) in &manifest {
        let count = shape.iter().product();
        let (layer, kind) = name.rsplit_once('.').unwrap_or(("", name));
        // A bias goes by its weight's fan-in.
        let weight = manifest.get(&format!("{layer}.weight")).unwrap_or(shape);
        let values = if layer.ends_with("out_layers.3") || layer.ends_with("proj_out") {
            vec![0.0; count]
        } else if weight.len() == 1 {
            vec![if kind == "weight" { 1.0 } else { 0.0 }; count]
        } else if layer == "encs.encs.0" && mask == MaskInit::Area {
            if kind == "weight" { area_average(config) } else { vec![0.0; count] }
        } else if layer == "encs.encs.0.up" && mask == MaskInit::Area {
            vec![0.0; count]
        } else {
            let fan_in: usize = weight[1..].iter().product();
            let bound = (fan_in as f32).powf(-0.5);
            let mut rng = random.stream(name);
            (0..count).map(|_| rng.random_range(-bound..bound)).collect()
        };
        let tensor = Tensor::from_vec(values, shape.as_slice(), device)?;
        variables.insert(name.clone(), Var::from_tensor(&tensor)?);
    }
    Ok(variables)
}

/// The labeler's variables at their first values: convolutions normal with variance 2 / fan_in (He et al., arXiv
/// 1502.01852), norms one, biases and the head zero.
pub(super) fn labeler(config: &Config, random: &Random, device: &Device) -> Result<BTreeMap<String, Var>> {
    let mut variables = BTreeMap::new();
    for (name, shape) in
        manifest(config)?.iter().filter(|(name, _)| name.starts_with(super::trainer::LABELER))
    {
        let count = shape.iter().product();
        let values = if name.ends_with("bias") || name.contains(".head.") {
            vec![0.0; count]
        } else if shape.len() == 1 {
            vec![1.0; count]
        } else {
            let fan_in: usize = shape[1..].iter().product();
            normal(&mut random.stream(name), count, (2.0 / fan_in as f64).sqrt())
        };
        let tensor = Tensor::from_vec(values, shape.as_slice(), device)?;
        variables.insert(name.clone(), Var::from_tensor(&tensor)?);
    }
    Ok(variables)
}

/// The mask embedder's weight `(base base, mask mask)` that averages the label plane over each cell of the first feature map.
fn area_average(config: &Config) -> Vec<f32> {
    let (base, side) = (config.base_size, config.mask_size);
    let mut weight = vec![0.0; base * base * side * side];
    for (cell, row) in weight.chunks_exact_mut(side * side).enumerate() {
        let range = |i: usize| {
            let first = i * side / base;
            first..((i + 1) * side / base).max(first + 1)
        };
        let (ys, xs) = (range(cell / base), range(cell % base));
        let share = 1.0 / (ys.len() * xs.len()) as f32;
        for y in ys {
            row[y * side..][xs.clone()].fill(share);
        }
    }
    weight
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::preset::preset;
    use candle_core::D;

    #[test]
    fn weights_begin_as_published() {
        let config = Config { mask_rank: None, ..preset("studio-128", 3).unwrap() };
        let variables = generator(&config, MaskInit::Random, &Random::new(1), &Device::Cpu).unwrap();
        let largest = |name: &str| {
            let values = variables[name].flatten_all().unwrap().abs().unwrap().max(D::Minus1).unwrap();
            f64::from(values.to_scalar::<f32>().unwrap())
        };
        for name in
            ["res2.out_layers.3.weight", "cross4.proj_out.weight", "cross4.proj_out.bias", "cross2.norm.bias"]
        {
            assert_eq!(largest(name), 0.0, "{name}");
        }
        assert_eq!(largest("cross2.norm.weight"), 1.0);
        // Uniform within fan_in^-1/2, of which the largest of many comes close to the bound.
        for (name, fan_in) in [("res3.in_layers.2.weight", 96 * 9), ("encs.encs.0.weight", 64 * 64)] {
            let bound = (fan_in as f64).powf(-0.5);
            assert!((0.99 * bound..=bound).contains(&largest(name)), "{name}: {}", largest(name));
        }
    }

    #[test]
    fn the_area_average_of_a_plane_is_the_share_of_each_cell() {
        let config = Config { mask_rank: None, ..preset("studio-128", 3).unwrap() };
        let (base, side) = (config.base_size, config.mask_size);
        let weight = area_average(&config);
        // The left half of the plane, and one pixel of cell (0, base - 1).
        let plane: Vec<f32> =
            (0..side * side).map(|i| if i % side < side / 2 || i == side - 1 { 1.0 } else { 0.0 }).collect();
        let cells: Vec<f32> = weight
            .chunks_exact(side * side)
            .map(|row| row.iter().zip(&plane).map(|(w, p)| w * p).sum())
            .collect();
        for (i, &cell) in cells.iter().enumerate() {
            let wanted = if i % base < base / 2 {
                1.0
            } else if i == base - 1 {
                0.25
            } else {
                0.0
            };
            assert!((cell - wanted).abs() < 1e-6, "cell {i}: {cell}");
        }
    }
}
