//! The generator for one style, as the CPU runs it: the exact savings. [`tensors`] is for all other devices.
//!
//! The plain network of [`super::generator`] and [`super::attention`] says what is computed and holds the only weights;
//! here its products are rearranged, which changes results by rounding alone (the tests hold pictures within 1e-3):
//! - keys and values of the cross-attention carry W_q and W_o, so that no pixel is multiplied with them;
//! - a norm's affine part and the subtraction of its mean are folded into the matrix behind it, 1 / deviation stays;
//! - proj_out is folded into the feed-forward's second Linear;
//! - a stage without self-attention is of low rank up to its feed-forward (see `Form`), whichever form is less work;
//! - everything between two convolutions is done in tiles of pixels, so that hidden layers and score matrices
//!   never exist whole; self-attention's softmax is taken online;
//! - group norm and SiLU are applied as a convolution reads its strip of rows, doubling is part of the convolution.

mod arrange;
mod fold;
mod labeler;
mod residual;
mod style;
pub(super) mod tensors;
mod transformer;

pub(super) use labeler::Labeler;
pub(super) use style::Encoder;

use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};

use self::fold::{Matrix, values};
use self::residual::{Map, Residual, Sums};
use self::transformer::{Look, Transformer};
use super::Config;
use super::generator::Generator;
use crate::kernels::matrix::{Panels, Rows, Start, product};
use crate::kernels::simd::Level;
use crate::kernels::{Shared, rows, share};
use crate::progress::Progress;
use crate::{Error, Result};

fn added(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// The generator's weights, folded and laid out for the registers; of any style.
pub(super) struct Decoder {
    level: Level,
    base: usize,
    reshape: Panels,
    reshape_bias: Vec<f32>,
    stages: Vec<(Residual, Transformer)>,
    out: Panels,
    out_bias: Vec<f32>,
}

impl Decoder {
    pub fn new(level: Level, config: &Config, generator: &Generator) -> Result<Self> {
        let (reshape, out) =
            (Matrix::of(&generator.reshape_conv.weight)?, Matrix::of(&generator.out_conv.weight)?);
        let pack = |w: &Matrix| Panels::pack(level.exact(), w.columns, w.rows, w.view().transposed());
        let mut side = config.base_size;
        let stage = |(res, cross): &(_, _)| {
            let res = Residual::new(level, res)?;
            side = res.side(side);
            Ok((res, Transformer::new(level, cross, config.classes, side * side)?))
        };
        Ok(Self {
            level,
            base: config.base_size,
            reshape: pack(&reshape),
            reshape_bias: values(&generator.reshape_conv.bias)?,
            stages: generator.stages.iter().map(stage).collect::<Result<_>>()?,
            out: pack(&out),
            out_bias: values(&generator.out_conv.bias)?,
        })
    }
}

/// A generator with everything that its style fixes computed beforehand: for one style and any number of label maps.
/// Cheap to clone.
#[derive(Clone)]
pub struct Prepared(Arc<Form>);

enum Form {
    Cpu(Inner),
    Tensors(tensors::Prepared),
}

struct Inner {
    decoder: Arc<Decoder>,
    /// One for each stage.
    looks: Vec<Look>,
    device: Device,
}

/// How long a part of a decode took, and what it computed.
#[derive(Clone, Debug)]
pub struct Timing {
    /// `res{i}`, `cross{i}`, or what comes before and after them.
    pub part: String,
    pub time: Duration,
    /// Multiply-adds times two.
    pub flops: f64,
}

/// Refuses mask codes that are not `(b, k, pixels)`, and any number of them but `count`, where that is said.
fn check_code(code: &Tensor, count: Option<usize>, [k, pixels]: [usize; 2]) -> Result<()> {
    let fits = |b: usize| if let Some(count) = count { b == count } else { b > 0 };
    match code.dims() {
        &[b, c, p] if fits(b) && (c, p) == (k, pixels) => Ok(()),
        other => {
            let b = count.map_or("b".into(), |b| b.to_string());
            Err(Error::invalid(format!("a mask code of {other:?}: this model's are [{b}, {k}, {pixels}]")))
        }
    }
}

impl Prepared {
    /// `style (n, s)`
    pub(super) fn new(decoder: Arc<Decoder>, style: &Tensor) -> Result<Self> {
        let style_matrix = Matrix::of(style)?;
        let look = |(_, cross): &(_, Transformer)| Ok(cross.look(decoder.level, &style_matrix)?);
        let looks = decoder.stages.iter().map(look).collect::<Result<_>>()?;
        Ok(Self(Arc::new(Form::Cpu(Inner { decoder, looks, device: style.device().clone() }))))
    }

    pub(super) fn of_tensors(form: tensors::Prepared) -> Self {
        Self(Arc::new(Form::Tensors(form)))
    }

    /// Pictures of several mask codes `(b, k, base base)`: `(b, h, w, 3)`. On a GPU together, as many as memory allows; on the CPU
    /// one after another.
    ///
    /// # Errors
    /// Those of [`generate`](Self::generate).
    pub fn generate_batch(&self, mask_codes: &Tensor, progress: Progress) -> Result<Tensor> {
        if let Form::Tensors(form) = &*self.0 {
            check_code(mask_codes, None, form.code_dims())?;
            return form.generate(mask_codes, progress, None);
        }
        let b = mask_codes.dim(0)?;
        let mut images = Vec::with_capacity(b);
        for i in 0..b {
            let progress = progress.part(i as f32 / b as f32, (i + 1) as f32 / b as f32);
            images.push(self.generate(&mask_codes.narrow(0, i, 1)?, progress)?);
        }
        Ok(Tensor::cat(&images, 0)?)
    }

    /// The picture of a mask code `(1, k, base base)`: `(1, h, w, 3)` in [-1, 1]. The same bits whatever the number of
    /// threads.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a mask code of another shape; [`Error::Cancelled`].
    pub fn generate(&self, mask_code: &Tensor, progress: Progress) -> Result<Tensor> {
        if let Form::Tensors(form) = &*self.0 {
            check_code(mask_code, Some(1), form.code_dims())?;
            return form.generate(mask_code, progress, None);
        }
        self.generate_timed(mask_code, progress, &mut Vec::new())
    }

    /// As [`generate`](Self::generate), adding how long each part took to `timings`, for which a GPU is waited for after each.
    pub fn generate_timed(
        &self,
        mask_code: &Tensor,
        progress: Progress,
        timings: &mut Vec<Timing>,
    ) -> Result<Tensor> {
        let inner = match &*self.0 {
            Form::Cpu(inner) => inner,
            Form::Tensors(form) => {
                check_code(mask_code, Some(1), form.code_dims())?;
                return form.generate(mask_code, progress, Some(timings));
            }
        };
        let decoder = &inner.decoder;
        let (level, base) = (decoder.level, decoder.base);
        check_code(mask_code, Some(1), [decoder.reshape.depth(), base * base])?;
        let code = Matrix::new(decoder.reshape.depth(), base * base, values(mask_code)?).transposed();
        let total: f64 = decoder.flops();
        let mut done = 0.0;
        let mut begun = Instant::now();
        let mut record = |part: String, flops: f64| {
            timings.push(Timing { part, time: begun.elapsed(), flops });
            begun = Instant::now();
            done += flops;
            done / total
        };

        let c = decoder.reshape.columns();
        let mut data = vec![0.0; base * base * c];
        let start = Start::Bias(&decoder.reshape_bias);
        product(
            code.rows,
            Rows::new(&code.data, code.columns),
            decoder.reshape.as_ref(),
            start,
            &mut data.as_mut_slice().into(),
            c,
        );
        let sums = Sums::of(&data, c);
        let mut x = Map { side: base, data, sums };
        let mut at = record("reshape_conv".into(), 2.0 * (base * base * code.columns * c) as f64) as f32;
        for (k, ((res, cross), look)) in decoder.stages.iter().zip(&inner.looks).enumerate() {
            let flops = res.flops(x.side);
            let next = at + (flops / total) as f32;
            x = res.run(level, &x, progress.part(at, next))?;
            at = record(format!("res{}", k + 2), flops) as f32;
            let flops = cross.flops(x.side * x.side);
            let next = at + (flops / total) as f32;
            x = cross.run(level, look, &x, progress.part(at, next))?;
            at = record(format!("cross{}", k + 2), flops) as f32;
        }
        let (side, c) = (x.side, decoder.out.depth());
        let mut rgb = vec![0.0; side * side * 3];
        let out = Shared::new(&mut rgb);
        share(
            side,
            progress.part(at.min(1.0), 1.0),
            || (),
            |(), row| {
                // SAFETY: each task has a row of its own.
                let mut out = unsafe { out.from(row * side * 3) };
                let pixels = Rows::new(&x.data[row * side * c..], c);
                product(side, pixels, decoder.out.as_ref(), Start::Bias(&decoder.out_bias), &mut out, 3);
                rows::tanh(level, out.slice(0, side * 3));
            },
        )?;
        record("out_conv".into(), 2.0 * (side * side * c * 3) as f64);
        Ok(Tensor::from_vec(rgb, (1, side, side, 3), &inner.device)?)
    }
}

impl Decoder {
    /// Of one decode.
    fn flops(&self) -> f64 {
        let mut side = self.base;
        let mut total = 2.0 * (side * side * self.reshape.depth() * self.reshape.columns()) as f64;
        for (res, cross) in &self.stages {
            total += res.flops(side);
            side = res.side(side);
            total += cross.flops(side * side);
        }
        total + 2.0 * (side * side * self.out.depth() * 3) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Stage;
    use crate::nn::golden::Formula;

    fn config(classes: usize, stages: Vec<Stage>) -> Config {
        Config {
            resolution: 64,
            norm_groups: 4,
            style_dim: 6,
            style_scales: 2,
            style_downs: 2,
            mask_size: 8,
            mask_rank: None,
            base_size: 7,
            exclude_background: false,
            mapping: None,
            labeler: None,
            stages,
            ..Config::published(classes, 8, 6, false)
        }
    }

    fn stage(
        channels: [usize; 2],
        up: bool,
        heads: [usize; 2],
        ff_factor: usize,
        self_attention: bool,
    ) -> Stage {
        let ([channels_in, channels_out], [heads, head_width]) = (channels, heads);
        Stage { channels_in, channels_out, up, heads, head_width, ff_factor, self_attention }
    }

    fn noise(shape: &[usize], salt: usize) -> Tensor {
        let count = shape.iter().product();
        let value = |i: usize| ((i * 7919 + salt * 104_729) % 2003) as f32 / 1001.0 - 1.0;
        Tensor::from_vec((0..count).map(value).collect::<Vec<_>>(), shape, &Device::Cpu).unwrap()
    }

    fn map(x: &Tensor) -> Map {
        let (_, side, _, c) = x.dims4().unwrap();
        let data = values(x).unwrap();
        Map { side, sums: Sums::of(&data, c), data }
    }

    fn assert_near(what: &str, got: &[f32], want: &[f32], tolerance: f32) {
        assert_eq!(got.len(), want.len(), "{what}");
        let scale = want.iter().fold(1.0f32, |m, v| m.max(v.abs()));
        for (i, (g, w)) in got.iter().zip(want).enumerate() {
            assert!(
                (g - w).abs() <= tolerance * scale,
                "{what}: element {i} is {g}, not {w} (scale {scale})"
            );
        }
    }

    /// Each block of each stage on its own, so that a fault shows where it is.
    fn check(classes: usize, stages: &[Stage]) {
        let config = config(classes, stages.to_vec());
        let generator = Generator::new(&config, Formula { seed: 3 }.var_builder(&Device::Cpu)).unwrap();
        let style = noise(&[1, classes, config.style_width()], 5);
        let style_matrix = Matrix::of(&style.get(0).unwrap()).unwrap();
        for level in Level::of_f32() {
            // Rounding of sums of a few thousand terms; of factors to 16 bits.
            let (of_block, of_transformer) = if level.lowers() { (5e-5, 2e-4) } else { (5e-6, 2e-5) };
            let decoder = Decoder::new(level, &config, &generator).unwrap();
            let mut side = config.base_size;
            for (i, (res, cross)) in generator.stages.iter().enumerate() {
                let what =
                    |part| format!("{part} of stage {i}, {classes} classes, {level:?}: {:?}", stages[i]);
                let x = noise(&[1, side, side, stages[i].channels_in], 1 + i);
                let want = res.forward(&x).unwrap();
                let got = decoder.stages[i].0.run(level, &map(&x), Progress::NONE).unwrap();
                assert_near(&what("residual block"), &got.data, &values(&want).unwrap(), of_block);
                let (want, _) = cross.forward(&want, &style, false).unwrap();
                let transformer = &decoder.stages[i].1;
                let look = transformer.look(level, &style_matrix).unwrap();
                let got = transformer.run(level, &look, &got, Progress::NONE).unwrap();
                side = got.side;
                assert_near(&what("transformer"), &got.data, &values(&want).unwrap(), of_transformer);
            }
        }
    }

    /// Tiles of AMX take a pixel's channels by 32.
    #[test]
    fn blocks_of_whole_tiles_are_the_plain_networks() {
        check(5, &[stage([64, 32], false, [2, 32], 4, true), stage([32, 32], true, [2, 32], 4, false)]);
    }

    #[test]
    fn every_block_is_the_plain_networks_for_any_number_of_classes() {
        for classes in [1, 2, 19, 34, 150, 255] {
            check(
                classes,
                &[
                    stage([12, 8], false, [2, 20], 4, true),
                    stage([8, 8], true, [4, 16], 4, false),
                    stage([8, 4], true, [2, 32], 3, false),
                ],
            );
        }
    }

    #[test]
    fn odd_widths_and_unusual_stages() {
        check(3, &[stage([4, 36], true, [1, 5], 1, true), stage([36, 20], false, [3, 7], 2, false)]);
        check(5, &[stage([4, 40], false, [5, 3], 3, true), stage([40, 40], true, [2, 6], 1, true)]);
        check(2, &[stage([28, 12], true, [2, 17], 5, false)]);
    }
}
