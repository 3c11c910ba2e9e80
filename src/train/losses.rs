//! What the trainer minimises.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Result, Tensor};

use super::discriminator::{Features, average_pool};
use crate::Error;
use crate::nn::ops::{Activation, activate, conv2d, max_pool};

/// The generator's side of the hinge loss: minus the mean verdict on its pictures, mean over discriminators.
pub fn hinge_generator(fake: &[Features]) -> Result<Tensor> {
    mean(fake.iter().map(|features| verdict(features).mean_all()?.neg()))
}

/// The discriminators' side: mean(max(0, 1 - real)) + mean(max(0, 1 + fake)), mean over discriminators.
pub fn hinge_discriminator(real: &[Features], fake: &[Features]) -> Result<Tensor> {
    mean(real.iter().zip(fake).map(|(real, fake)| {
        let real = (1.0 - verdict(real))?.relu()?.mean_all()?;
        let fake = (verdict(fake) + 1.0)?.relu()?.mean_all()?;
        real + fake
    }))
}

/// Mean absolute difference of features, summed over all layers but the last, mean over discriminators. `real` counts as
/// constant.
pub fn feature_matching(real: &[Features], fake: &[Features]) -> Result<Tensor> {
    mean(real.iter().zip(fake).map(|(real, fake)| {
        let layers = real.len() - 1;
        sum(real[..layers].iter().zip(fake).map(|(real, fake)| l1(fake, &real.detach())))
    }))
}

/// Mean absolute difference of pictures or features `(b, h, w, c)`.
pub fn l1(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    mean_of((a - b)?.abs()?)
}

/// The mean of `(b, h, w, c)`: of each row's first, as a GPU would sum all of it with the one block that one sum has.
fn mean_of(x: Tensor) -> Result<Tensor> {
    x.flatten_from(2)?.flatten_to(1)?.mean(1)?.mean_all()
}

fn verdict(features: &Features) -> &Tensor {
    features.last().expect("a discriminator has layers")
}

fn sum(terms: impl Iterator<Item = Result<Tensor>>) -> Result<Tensor> {
    let terms = terms.collect::<Result<Vec<_>>>()?;
    Tensor::stack(&terms, 0)?.sum_all()
}

fn mean(terms: impl Iterator<Item = Result<Tensor>>) -> Result<Tensor> {
    let terms = terms.collect::<Result<Vec<_>>>()?;
    Tensor::stack(&terms, 0)?.mean_all()
}

/// The difference of two pictures beyond their pixels.
pub enum Perceptual {
    /// Mean absolute difference of SqueezeNet features.
    SqueezeNet(Box<SqueezeNet>),
    /// Without a feature network: mean absolute difference at full, half, quarter and eighth size, mean over the four.
    Pyramid,
}

impl Perceptual {
    /// `picture` and `target`: `(b, h, w, 3)` in [-1, 1]. `target` counts as constant.
    pub fn loss(&self, picture: &Tensor, target: &Tensor) -> Result<Tensor> {
        let target = target.detach();
        match self {
            Self::SqueezeNet(network) => network.loss(picture, &target),
            Self::Pyramid => {
                let (mut x, mut y) = (picture.clone(), target);
                let mut terms = vec![l1(&x, &y)];
                for _ in 0..3 {
                    (x, y) = (average_pool(&x)?, average_pool(&y)?);
                    terms.push(l1(&x, &y));
                }
                mean(terms.into_iter())
            }
        }
    }
}

/// SqueezeNet v1.0 (Iandola et al., arXiv 1602.07360) in Caffe's layout, as far as fire9, with constant weights.
pub struct SqueezeNet {
    layers: HashMap<String, (Tensor, Tensor)>,
}

/// Where pictures are compared, and with what weight: the published weights of the five VGG layers, at five depths of
/// SqueezeNet.
const DEPTHS: [(&str, f64); 5] = [
    ("conv1", 1.0 / 32.0),
    ("fire3", 1.0 / 16.0),
    ("fire5", 1.0 / 8.0),
    ("fire7", 1.0 / 4.0),
    ("fire9", 1.0),
];

impl SqueezeNet {
    /// Reads the weights: safetensors, OIHW, `conv1.weight`, `fire2/squeeze1x1.weight` and so on; the network takes BGR from 0 to
    /// 255 less (104, 117, 123).
    pub fn open(path: &Path, dtype: DType, device: &Device) -> crate::Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let mut tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
            .map_err(|e| Error::format(path, format!("no safetensors file: {e}")))?;
        let mut layers = HashMap::new();
        let mut take = |name: &str, shape: [usize; 4]| -> crate::Result<()> {
            let mut part = |kind: &str, shape: &[usize]| {
                let name = format!("{name}.{kind}");
                let tensor = tensors.remove(&name).ok_or_else(|| {
                    Error::format(path, format!("no tensor {name}: not SqueezeNet v1.0 in Caffe's layout"))
                })?;
                if tensor.dims() != shape {
                    let what = format!("{name} is {:?}, and {shape:?} in SqueezeNet v1.0", tensor.dims());
                    return Err(Error::format(path, what));
                }
                Ok(tensor.to_dtype(DType::F64)?)
            };
            let (mut weight, mut bias) = (part("weight", &shape)?, part("bias", &shape[..1])?);
            if name == "conv1" {
                // Takes RGB in [-1, 1] instead; exact, as this convolution has no padding.
                let shift = Tensor::new(&[127.5 - 104.0, 127.5 - 117.0, 127.5 - 123.0], &Device::Cpu)?;
                bias = (bias + weight.broadcast_mul(&shift.reshape((1, 3, 1, 1))?)?.sum((1, 2, 3))?)?;
                weight = (weight.index_select(&Tensor::new(&[2u32, 1, 0], &Device::Cpu)?, 1)? * 127.5)?;
            }
            let place = |t: Tensor| t.to_dtype(dtype)?.to_device(device);
            layers.insert(name.to_owned(), (place(weight)?, place(bias)?));
            Ok(())
        };
        take("conv1", [96, 3, 7, 7])?;
        let mut channels = 96;
        for (i, squeezed, expanded) in Self::FIRES {
            take(&format!("fire{i}/squeeze1x1"), [squeezed, channels, 1, 1])?;
            take(&format!("fire{i}/expand1x1"), [expanded, squeezed, 1, 1])?;
            take(&format!("fire{i}/expand3x3"), [expanded, squeezed, 3, 3])?;
            channels = 2 * expanded;
        }
        Ok(Self { layers })
    }

    /// Each fire module's number, squeezed width, and half its output width.
    const FIRES: [(usize, usize, usize); 8] = [
        (2, 16, 64),
        (3, 16, 64),
        (4, 32, 128),
        (5, 32, 128),
        (6, 48, 192),
        (7, 48, 192),
        (8, 64, 256),
        (9, 64, 256),
    ];

    pub(crate) fn device(&self) -> &Device {
        self.layers["conv1"].0.device()
    }

    fn conv(&self, name: &str, x: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
        let (weight, bias) = &self.layers[name];
        activate(&conv2d(x, weight, Some(bias), stride, padding)?, Activation::Relu)
    }

    /// The features at [`DEPTHS`] of pictures `(b, h, w, 3)` in [-1, 1], at least 32 pixels a side.
    pub(crate) fn features(&self, rgb: &Tensor) -> Result<Vec<Tensor>> {
        let mut x = self.conv("conv1", rgb, 2, 0)?;
        let mut features = vec![x.clone()];
        for (i, _, _) in Self::FIRES {
            // Pools follow conv1, fire4 and fire8.
            if matches!(i, 2 | 5 | 9) {
                x = max_pool(&x)?;
            }
            let squeezed = self.conv(&format!("fire{i}/squeeze1x1"), &x, 1, 0)?;
            let one = self.conv(&format!("fire{i}/expand1x1"), &squeezed, 1, 0)?;
            let three = self.conv(&format!("fire{i}/expand3x3"), &squeezed, 1, 1)?;
            x = Tensor::cat(&[one, three], 3)?;
            if i % 2 == 1 {
                features.push(x.clone());
            }
        }
        Ok(features)
    }

    /// At each depth the mean absolute difference over the target's mean, so that no depth's scale outweighs the others:
    /// Caffe's features run to hundreds.
    fn loss(&self, picture: &Tensor, target: &Tensor) -> Result<Tensor> {
        let (picture, target) = (self.features(picture)?, self.features(target)?);
        sum(DEPTHS
            .iter()
            .zip(picture.iter().zip(&target))
            .map(|((_, weight), (x, y))| l1(x, y)?.div(&(mean_of(y.clone())? + 1e-6)?)? * *weight))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_pool_rounds_its_sides_up() {
        for side in [3, 4, 5, 6, 7, 12, 13, 61] {
            let value = |y: usize, x: usize| ((y * 31 + x * 17) % 23) as f64;
            let values: Vec<f64> = (0..side * side).map(|i| value(i / side, i % side)).collect();
            let x = Tensor::from_vec(values, (1, side, side, 1), &Device::Cpu).unwrap();
            let y = max_pool(&x).unwrap();
            // Caffe's rule: ceil((side - 3) / 2) + 1 windows, the last one perhaps cut off.
            let out = (side as f64 - 3.0).div_euclid(2.0) as usize + 1 + (side - 3) % 2;
            assert_eq!(y.dims(), [1, out, out, 1], "side {side}");
            let y = y.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            for (i, &y) in y.iter().enumerate() {
                let range = |k: usize| 2 * k..(2 * k + 3).min(side);
                let wanted =
                    range(i / out).flat_map(|y| range(i % out).map(move |x| value(y, x))).fold(0.0, f64::max);
                assert_eq!(y, wanted, "side {side}, element {i}");
            }
        }
    }

    #[test]
    fn hinge_losses_of_known_verdicts() {
        let features = |values: [f64; 2]| vec![vec![Tensor::new(&values, &Device::Cpu).unwrap()]];
        let value = |t: Result<Tensor>| t.unwrap().to_scalar::<f64>().unwrap();
        let (real, fake) = (features([3.0, 0.5]), features([-2.0, 0.5]));
        assert_eq!(value(hinge_generator(&fake)), 0.75);
        // Real: (0 + 0.5) / 2; fake: (0 + 1.5) / 2.
        assert_eq!(value(hinge_discriminator(&real, &fake)), 1.0);
    }
}
