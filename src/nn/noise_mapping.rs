//! The noise mapping `noise_encoder`: a style for every class from one normal vector, for synthesis without a
//! reference.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::{Config, Mapping, layers::Linear};

#[derive(Clone, Debug)]
pub(crate) struct NoiseMapping {
    shared: Vec<Linear>,
    unshared: Vec<Vec<Linear>>,
}

impl NoiseMapping {
    pub fn new(c: &Config, mapping: Mapping, vb: VarBuilder) -> Result<Self> {
        // Linears stand at the even places of the checkpoint's Sequentials, ReLUs between them.
        let chain = |widths: [usize; 5], vb: VarBuilder| -> Result<Vec<Linear>> {
            (0..4).map(|i| Linear::new(widths[i], widths[i + 1], vb.pp(2 * i))).collect()
        };
        let w = mapping.width;
        Ok(Self {
            shared: chain([mapping.latent, w, w, w, w], vb.pp("shared"))?,
            unshared: (0..c.classes)
                .map(|class| chain([w, w, w, w, c.style_width()], vb.pp("unshared").pp(class)))
                .collect::<Result<_>>()?,
        })
    }

    /// `(b, latent) -> (b, n, s)`
    pub fn forward(&self, z: &Tensor) -> Result<Tensor> {
        let mut h = z.clone();
        for layer in &self.shared {
            h = layer.forward(&h)?.relu()?;
        }
        let head = |layers: &Vec<Linear>| -> Result<Tensor> {
            let mut x = layers[0].forward(&h)?;
            for layer in &layers[1..] {
                x = layer.forward(&x.relu()?)?;
            }
            Ok(x)
        };
        Tensor::stack(&self.unshared.iter().map(head).collect::<Result<Vec<_>>>()?, 1)
    }
}
