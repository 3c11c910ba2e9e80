//! The mask embedder `encs.encs.0`: where each class is, as a small feature map.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::{Config, layers::Linear, resize_nearest};

/// Each class's plane of the one-hot map, through one Linear that all classes share.
#[derive(Clone, Debug)]
pub(crate) struct MaskEmbedder {
    linear: Linear,
    size: usize,
    exclude_background: bool,
}

impl MaskEmbedder {
    pub fn new(c: &Config, vb: VarBuilder) -> Result<Self> {
        let linear = Linear::new(c.mask_size * c.mask_size, c.base_size * c.base_size, vb)?;
        Ok(Self { linear, size: c.mask_size, exclude_background: c.exclude_background })
    }

    /// `(b, h, w, n) -> (b, k, base base)`
    pub fn forward(&self, onehot: &Tensor) -> Result<Tensor> {
        let planes = resize_nearest(onehot, self.size)?.permute((0, 3, 1, 2))?.flatten_from(2)?;
        let background = usize::from(self.exclude_background);
        let planes = planes.narrow(1, background, planes.dim(1)? - background)?;
        self.linear.forward(&planes.contiguous()?)
    }
}
