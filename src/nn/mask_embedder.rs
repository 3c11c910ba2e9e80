//! The mask embedder `encs.encs.0`: where each class is, as a small feature map.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::{Config, layers::Linear, resize_nearest};

/// Each class's plane of the one-hot map, through one Linear that all classes share.
#[derive(Clone, Debug)]
pub(crate) struct MaskEmbedder {
    linear: Form,
    size: usize,
    base: usize,
    exclude_background: bool,
}

#[derive(Clone, Debug)]
enum Form {
    /// As published.
    Full(Linear),
    /// The mean over each cell of the first feature map, and a Linear of low rank beside it.
    Low { down: Linear, up: Linear },
}

impl MaskEmbedder {
    pub fn new(c: &Config, vb: VarBuilder) -> Result<Self> {
        let (mask, base) = (c.mask_size * c.mask_size, c.base_size * c.base_size);
        let linear = match c.mask_rank {
            None => Form::Full(Linear::new(mask, base, vb)?),
            Some(rank) => Form::Low {
                down: Linear::without_bias(mask, rank, vb.pp("down"))?,
                up: Linear::new(rank, base, vb.pp("up"))?,
            },
        };
        Ok(Self { linear, size: c.mask_size, base: c.base_size, exclude_background: c.exclude_background })
    }

    /// `(b, h, w, n) -> (b, k, base base)`
    pub fn forward(&self, onehot: &Tensor) -> Result<Tensor> {
        let planes = resize_nearest(onehot, self.size)?.permute((0, 3, 1, 2))?.flatten_from(2)?;
        let background = usize::from(self.exclude_background);
        let planes = planes.narrow(1, background, planes.dim(1)? - background)?.contiguous()?;
        match &self.linear {
            Form::Full(linear) => linear.forward(&planes),
            Form::Low { down, up } => self.means(&planes)? + up.forward(&down.forward(&planes)?)?,
        }
    }

    /// `(b, k, mask mask) -> (b, k, base base)`: the mean over each cell.
    fn means(&self, planes: &Tensor) -> Result<Tensor> {
        let ((b, k, _), cell) = (planes.dims3()?, self.size / self.base);
        let cells = planes.reshape((b * k * self.base, cell, self.base, cell))?;
        (cells.sum(3)?.sum(1)? / (cell * cell) as f64)?.reshape((b, k, self.base * self.base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use std::collections::HashMap;

    #[test]
    fn a_rank_stands_for_the_area_average_and_a_product() {
        let device = &Device::Cpu;
        let published = Config::published(3, 8, 8, true);
        let full = Config { mask_size: 8, base_size: 4, ..published };
        let random = |shape: (usize, usize)| Tensor::randn(0f32, 0.1, shape, device).unwrap();
        let (down, up, bias) = (random((2, 64)), random((16, 2)), random((1, 16)).squeeze(0).unwrap());
        let average = (0..16 * 64).map(|i| {
            let (cell, pixel) = (i / 64, i % 64);
            if (cell / 4, cell % 4) == (pixel / 16, pixel % 8 / 2) { 0.25f32 } else { 0.0 }
        });
        let average = Tensor::from_iter(average, device).unwrap().reshape((16, 64)).unwrap();
        let weight = (average + up.matmul(&down).unwrap()).unwrap();
        let embedder = |config: &Config, tensors: &[(&str, &Tensor)]| {
            let tensors: HashMap<_, _> =
                tensors.iter().map(|&(name, tensor)| (name.to_owned(), tensor.clone())).collect();
            MaskEmbedder::new(config, VarBuilder::from_tensors(tensors, DType::F32, device)).unwrap()
        };
        let of_rank = Config { mask_rank: Some(2), ..full.clone() };
        let parts = [("down.weight", &down), ("up.weight", &up), ("up.bias", &bias)];
        let embedders =
            [embedder(&full, &[("weight", &weight), ("bias", &bias)]), embedder(&of_rank, &parts)];
        let labels = Tensor::rand(0f32, 1.0, (2, 16, 16, 3), device).unwrap();
        let [full, low] = embedders.map(|e| e.forward(&labels).unwrap());
        assert_eq!(low.dims(), [2, 2, 16]);
        let largest = (full - low).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(largest < 1e-6, "{largest}");
    }
}
