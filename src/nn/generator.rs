//! The generator: from the mask embedding up to the picture, each stage looking at the styles.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::attention::SpatialTransformer;
use super::layers::{Conv3x3, GroupNorm, PointConv};
use super::ops::{self, Activation};
use super::{Config, Stage};
use crate::progress::Progress;

/// `res{i}`: norm, SiLU and convolution twice beside a skip connection; doubled in size first where the stage says so.
#[derive(Clone, Debug)]
pub(super) struct ResBlock {
    pub(super) norm_in: GroupNorm,
    pub(super) conv_in: Conv3x3,
    pub(super) norm_out: GroupNorm,
    pub(super) conv_out: Conv3x3,
    pub(super) skip: Option<PointConv>,
    pub(super) up: bool,
}

impl ResBlock {
    fn new(c: &Config, s: &Stage, vb: VarBuilder) -> Result<Self> {
        let norm = |channels, vb: VarBuilder| {
            GroupNorm::new(c.norm_groups, channels, 1e-5, Activation::Silu, vb.pp(0))
        };
        let (inner, outer) = (vb.pp("in_layers"), vb.pp("out_layers"));
        Ok(Self {
            norm_in: norm(s.channels_in, inner.clone())?,
            conv_in: Conv3x3::new(s.channels_in, s.channels_out, 1, inner.pp(2))?,
            norm_out: norm(s.channels_out, outer.clone())?,
            conv_out: Conv3x3::new(s.channels_out, s.channels_out, 1, outer.pp(3))?,
            skip: if s.channels_in == s.channels_out {
                None
            } else {
                Some(PointConv::new(s.channels_in, s.channels_out, vb.pp("skip_connection"))?)
            },
            up: s.up,
        })
    }

    /// `(b, h, w, in) -> (b, h', w', out)`
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let resize = |t: Tensor| if self.up { ops::upsample_nearest2(&t) } else { Ok(t) };
        let h = self.conv_in.forward(&resize(self.norm_in.forward(x)?)?)?;
        let h = self.conv_out.forward(&self.norm_out.forward(&h)?)?;
        // The 1x1 convolution commutes with doubling, and has a quarter of the pixels before it.
        let skip = match &self.skip {
            Some(conv) => conv.forward(x)?,
            None => x.clone(),
        };
        resize(skip)? + h
    }
}

/// What a decode gives beside the picture.
pub struct Decoded {
    /// `(b, h, w, 3)`, RGB in [-1, 1].
    pub image: Tensor,
    /// Each stage's cross-attention logits before the softmax, averaged over heads: `(b, side side, n)`.
    pub attention: Vec<Tensor>,
    /// Each stage's feature maps by name, `res{i}` and `cross{i}`: `(b, side, side, c)`.
    pub stages: Vec<(String, Tensor)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Generator {
    pub(super) reshape_conv: PointConv,
    pub(super) stages: Vec<(ResBlock, SpatialTransformer)>,
    pub(super) out_conv: PointConv,
    pub(super) base_size: usize,
}

impl Generator {
    pub fn new(c: &Config, vb: VarBuilder) -> Result<Self> {
        let stage = |(k, s): (usize, &Stage)| {
            let i = k + 2;
            let res = ResBlock::new(c, s, vb.pp(format!("res{i}")))?;
            Ok((res, SpatialTransformer::new(c, s, vb.pp(format!("cross{i}")))?))
        };
        let (first, last) = (&c.stages[0], &c.stages[c.stages.len() - 1]);
        Ok(Self {
            reshape_conv: PointConv::new(c.mask_classes(), first.channels_in, vb.pp("reshape_conv"))?,
            stages: c.stages.iter().enumerate().map(stage).collect::<Result<_>>()?,
            out_conv: PointConv::new(last.channels_out, 3, vb.pp("out_conv"))?,
            base_size: c.base_size,
        })
    }

    /// Mask code `(b, k, base base)` and style `(b, n, s)` to the picture alone, or with what `keep` asks for.
    pub fn forward(
        &self,
        mask_code: &Tensor,
        style: &Tensor,
        keep: bool,
        progress: Progress,
    ) -> crate::Result<Decoded> {
        let (b, k, _) = mask_code.dims3()?;
        let x = mask_code.transpose(1, 2)?.reshape((b, self.base_size, self.base_size, k))?;
        let mut x = self.reshape_conv.forward(&x)?;
        let (mut attention, mut stages) = (Vec::new(), Vec::new());
        for (k, (res, cross)) in self.stages.iter().enumerate() {
            let i = k + 2;
            progress.at(k as f32 / self.stages.len() as f32)?;
            x = res.forward(&x)?;
            if keep {
                stages.push((format!("res{i}"), x.clone()));
            }
            progress.at((k as f32 + 0.3) / self.stages.len() as f32)?;
            let (y, logits) = cross.forward(&x, style, keep)?;
            x = y;
            if keep {
                stages.push((format!("cross{i}"), x.clone()));
                attention.extend(logits);
            }
        }
        Ok(Decoded { image: self.out_conv.forward(&x)?.tanh()?, attention, stages })
    }
}
