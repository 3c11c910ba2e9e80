//! The layers with weights, named and shaped as the checkpoint has them.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::ops::{self, Activation};

/// `y = x W' + b`, weight `(out, in)`.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
}

impl Linear {
    pub fn new(inputs: usize, outputs: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self { weight: vb.get((outputs, inputs), "weight")?, bias: Some(vb.get(outputs, "bias")?) })
    }

    pub fn without_bias(inputs: usize, outputs: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self { weight: vb.get((outputs, inputs), "weight")?, bias: None })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::linear(x, &self.weight, self.bias.as_ref())
    }

    /// Whether gradients are to flow back to the weights.
    pub fn is_trained(&self) -> bool {
        self.weight.track_op()
    }
}

/// A 1x1 convolution: a [`Linear`] over channels whose weight is stored `(out, in, 1, 1)`.
#[derive(Clone, Debug)]
pub(crate) struct PointConv {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
}

impl PointConv {
    pub fn new(inputs: usize, outputs: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self { weight: vb.get((outputs, inputs, 1, 1), "weight")?, bias: vb.get(outputs, "bias")? })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::linear(x, &self.weight.flatten_from(1)?, Some(&self.bias))
    }
}

/// A 3x3 convolution with padding 1.
#[derive(Clone, Debug)]
pub(crate) struct Conv3x3 {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
    pub(super) stride: usize,
}

impl Conv3x3 {
    /// `inputs` are those of one group; `outputs` those of all groups.
    pub fn new(inputs: usize, outputs: usize, stride: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            weight: vb.get((outputs, inputs, 3, 3), "weight")?,
            bias: vb.get(outputs, "bias")?,
            stride,
        })
    }

    /// `(b, h, w, in) -> (b, h / stride, w / stride, out)`
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::conv2d(x, &self.weight, Some(&self.bias), self.stride, 1)
    }

    /// `(groups, b, h, w, in) -> (groups, b, h / stride, w / stride, out / groups)`
    pub fn forward_grouped(&self, x: &Tensor) -> Result<Tensor> {
        ops::grouped_conv2d(x, &self.weight, Some(&self.bias), self.stride, 1)
    }
}

/// Group norm and the activation behind it.
#[derive(Clone, Debug)]
pub(crate) struct GroupNorm {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
    pub(super) groups: usize,
    pub(super) eps: f64,
    pub(super) activation: Activation,
}

impl GroupNorm {
    pub fn new(
        groups: usize,
        channels: usize,
        eps: f64,
        activation: Activation,
        vb: VarBuilder,
    ) -> Result<Self> {
        let (weight, bias) = (vb.get(channels, "weight")?, vb.get(channels, "bias")?);
        Ok(Self { weight, bias, groups, eps, activation })
    }

    /// `(b, h, w, channels)`
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.norm(x, self.groups)
    }

    /// `(groups, b, h, w, channels / groups)`: the groups already lie in front.
    pub fn forward_grouped(&self, x: &Tensor) -> Result<Tensor> {
        self.norm(x, 1)
    }

    fn norm(&self, x: &Tensor, groups: usize) -> Result<Tensor> {
        ops::group_norm(x, groups, Some((&self.weight, &self.bias)), self.eps, self.activation)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct LayerNorm {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
}

impl LayerNorm {
    pub fn new(width: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self { weight: vb.get(width, "weight")?, bias: vb.get(width, "bias")? })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, &self.weight, &self.bias, 1e-5)
    }
}
