//! The discriminators: two patch classifiers on (labels, picture), the second at half the size.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, Var};

use super::init::{Random, normal};
use crate::nn::ops::{Activation, activate, conv2d, group_norm};

/// How many discriminators there are.
const SCALES: usize = 2;
/// Each one's convolutions, 4x4 with padding 2.
const LAYERS: usize = 4;

/// Weights, and for each spectrally normalised one its leading left singular vector so far.
pub struct Discriminator {
    variables: BTreeMap<String, Var>,
    singular: BTreeMap<String, Var>,
}

/// Weights ready for use in one step: the inner ones divided by their spectral norm.
pub struct Weights(Vec<Vec<(Tensor, Option<Tensor>)>>);

/// What one discriminator gives: every layer's output, the last being the verdict on each patch.
pub type Features = Vec<Tensor>;

impl Discriminator {
    /// For one-hot labels of `classes` planes; `width` (64 as published) channels in the first layer. Weights are Xavier
    /// normal with gain 0.02, biases zero, as published.
    pub fn new(classes: usize, width: usize, random: &Random, dtype: DType, device: &Device) -> Result<Self> {
        let (mut variables, mut singular) = (BTreeMap::new(), BTreeMap::new());
        for d in 0..SCALES {
            let channels = [classes + 3, width, 2 * width, 4 * width, 1];
            for l in 0..LAYERS {
                let name = format!("{d}.{l}");
                let (i, o) = (channels[l], channels[l + 1]);
                let std = 0.02 * (2.0 / ((i + o) * 16) as f64).sqrt();
                let tensor = |name: &str, shape: &[usize], std: f64| -> Result<Var> {
                    let values = normal(&mut random.stream(name), shape.iter().product(), std);
                    Var::from_tensor(
                        &Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?,
                    )
                };
                variables
                    .insert(format!("{name}.weight"), tensor(&format!("{name}.weight"), &[o, i, 4, 4], std)?);
                if normed(l) {
                    // No bias: instance norm would take it out again.
                    singular.insert(name.clone(), tensor(&format!("{name}.u"), &[o, 1], 1.0)?);
                } else {
                    variables.insert(format!("{name}.bias"), Var::zeros(o, dtype, device)?);
                }
            }
        }
        let discriminator = Self { variables, singular };
        // A random vector says nothing yet about the largest singular value.
        for _ in 0..10 {
            discriminator.power_iteration()?;
        }
        Ok(discriminator)
    }

    /// The trained weights.
    pub fn variables(&self) -> &BTreeMap<String, Var> {
        &self.variables
    }

    /// The singular vectors, which are state but not trained.
    pub fn singular_vectors(&self) -> &BTreeMap<String, Var> {
        &self.singular
    }

    /// Moves each singular vector one step of the power iteration towards its weight's.
    pub fn power_iteration(&self) -> Result<()> {
        for (name, u) in &self.singular {
            let weight = self.variables[&format!("{name}.weight")].as_detached_tensor().flatten_from(1)?;
            let v = unit(&weight.t()?.matmul(&u.as_detached_tensor())?)?;
            u.set(&unit(&weight.matmul(&v)?)?)?;
        }
        Ok(())
    }

    /// The weights to use, with gradients to the variables (the singular vectors count as constants).
    pub fn weights(&self) -> Result<Weights> {
        let layer = |d: usize, l: usize| -> Result<(Tensor, Option<Tensor>)> {
            let name = format!("{d}.{l}");
            let weight = self.variables[&format!("{name}.weight")].as_tensor();
            match self.singular.get(&name) {
                Some(u) => {
                    let u = u.as_detached_tensor();
                    let matrix = weight.flatten_from(1)?;
                    let v = unit(&matrix.detach().t()?.matmul(&u)?)?;
                    let norm = (matrix.matmul(&v)? * u)?.sum_all()?;
                    Ok((weight.broadcast_div(&norm)?, None))
                }
                None => {
                    Ok((weight.clone(), Some(self.variables[&format!("{name}.bias")].as_tensor().clone())))
                }
            }
        };
        let scale = |d| (0..LAYERS).map(|l| layer(d, l)).collect::<Result<_>>();
        Ok(Weights((0..SCALES).map(scale).collect::<Result<_>>()?))
    }
}

fn normed(layer: usize) -> bool {
    layer == 1 || layer == 2
}

fn unit(x: &Tensor) -> Result<Tensor> {
    x.broadcast_div(&(x.sqr()?.sum_all()?.sqrt()? + 1e-12)?)
}

impl Weights {
    /// The same as constants, for the generator's step.
    pub fn frozen(&self) -> Self {
        let freeze = |(w, b): &(Tensor, Option<Tensor>)| (w.detach(), b.as_ref().map(Tensor::detach));
        Self(self.0.iter().map(|layers| layers.iter().map(freeze).collect()).collect())
    }

    /// Judges pictures `(b, h, w, 3)` under one-hot labels `(b, h, w, n)`: one list of features a discriminator.
    pub fn forward(&self, labels: &Tensor, rgb: &Tensor) -> Result<Vec<Features>> {
        let mut x = Tensor::cat(&[labels, rgb], 3)?;
        let mut all = Vec::with_capacity(self.0.len());
        for (d, layers) in self.0.iter().enumerate() {
            if d > 0 {
                x = average_pool(&x)?;
            }
            let mut features: Features = Vec::with_capacity(layers.len());
            for (l, (weight, bias)) in layers.iter().enumerate() {
                let last = l + 1 == layers.len();
                let y = conv2d(
                    features.last().unwrap_or(&x),
                    weight,
                    bias.as_ref(),
                    if last { 1 } else { 2 },
                    2,
                )?;
                let slope = Activation::LeakyRelu(0.2);
                features.push(if last {
                    y
                } else if normed(l) {
                    let channels = y.dim(3)?;
                    group_norm(&y.unsqueeze(0)?, channels, None, 1e-5, slope)?.squeeze(0)?
                } else {
                    activate(&y, slope)?
                });
            }
            all.push(features);
        }
        Ok(all)
    }
}

/// 3x3 average at stride 2, `(b, h, w, c) -> (b, ceil(h/2), ceil(w/2), c)`; pixels outside are not counted.
pub(super) fn average_pool(x: &Tensor) -> Result<Tensor> {
    let mut x = x.clone();
    for dim in [1, 2] {
        let side = x.dim(dim)?;
        let out = side.div_ceil(2);
        let mut counts = vec![3.0; out];
        counts[0] -= 1.0;
        if side % 2 == 1 {
            counts[out - 1] -= 1.0;
        }
        let mut shape = [1; 4];
        shape[dim] = out;
        let counts = Tensor::new(counts, x.device())?.to_dtype(x.dtype())?.reshape(&shape)?;
        let [before, here, behind] = neighbours(&x, dim)?;
        x = ((before + here)? + behind)?.broadcast_div(&counts)?;
    }
    Ok(x)
}

/// Pixels 2i - 1, 2i and 2i + 1 along `dim` for i in 0..ceil(side / 2), zero outside.
fn neighbours(x: &Tensor, dim: usize) -> Result<[Tensor; 3]> {
    let side = x.dim(dim)?;
    let out = side.div_ceil(2);
    // Pixel 2i - 1 and pixel 2i side by side.
    let x = x.pad_with_zeros(dim, 1, 2 * out + 1 - side)?;
    let mut shape = x.dims().to_vec();
    shape[dim] = out + 1;
    shape.insert(dim + 1, 2);
    let x = x.reshape(shape)?;
    let tap =
        |first: usize, phase: usize| x.narrow(dim, first, out)?.narrow(dim + 1, phase, 1)?.squeeze(dim + 1);
    Ok([tap(0, 0)?, tap(0, 1)?, tap(1, 0)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_pool_does_not_count_what_is_outside() {
        for side in [1, 2, 5, 8] {
            let value = |y: usize, x: usize| (y * 7 + x * 3 % 5) as f64;
            let values: Vec<f64> = (0..side * side).map(|i| value(i / side, i % side)).collect();
            let x = Tensor::from_vec(values, (1, side, side, 1), &Device::Cpu).unwrap();
            let y = average_pool(&x).unwrap();
            let out = side.div_ceil(2);
            assert_eq!(y.dims(), [1, out, out, 1]);
            for (i, y) in y.flatten_all().unwrap().to_vec1::<f64>().unwrap().into_iter().enumerate() {
                let range = |k: usize| (2 * k).saturating_sub(1)..(2 * k + 2).min(side);
                let window: Vec<f64> =
                    range(i / out).flat_map(|y| range(i % out).map(move |x| value(y, x))).collect();
                let wanted = window.iter().sum::<f64>() / window.len() as f64;
                assert!((y - wanted).abs() < 1e-12, "side {side}, element {i}: {y}, not {wanted}");
            }
        }
    }

    #[test]
    fn normalised_weights_have_spectral_norm_one() {
        let discriminator = Discriminator::new(3, 8, &Random::new(1), DType::F64, &Device::Cpu).unwrap();
        for _ in 0..200 {
            discriminator.power_iteration().unwrap();
        }
        for layers in discriminator.weights().unwrap().0 {
            for (l, (weight, bias)) in layers.iter().enumerate() {
                assert_eq!(bias.is_none(), normed(l));
                if !normed(l) {
                    continue;
                }
                // The largest singular value from scratch: power iteration on W W'.
                let weight = weight.flatten_from(1).unwrap();
                let square = weight.matmul(&weight.t().unwrap()).unwrap();
                let mut u = Tensor::ones((square.dim(0).unwrap(), 1), DType::F64, &Device::Cpu).unwrap();
                for _ in 0..500 {
                    u = unit(&square.matmul(&u).unwrap()).unwrap();
                }
                let norm =
                    (square.matmul(&u).unwrap() * &u).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
                assert!((norm.sqrt() - 1.0).abs() < 1e-3, "layer {l}: {}", norm.sqrt());
            }
        }
    }
}
