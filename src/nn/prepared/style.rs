//! The style encoder as the CPU runs it: level by level, a class and a strip of rows to a task. A level leaves its
//! convolutions' results as they are; who reads them applies norm and ReLU, joins and doubles on the way.

use candle_core::Tensor;

use super::fold::values;
use super::residual::{Norm, Sums, pad};
use super::room;
use crate::kernels::matrix::Start;
use crate::kernels::resize::neighbour;
use crate::kernels::rows::{self, After};
use crate::kernels::simd::Level;
use crate::kernels::window::Conv3;
use crate::kernels::{Shared, share_map};
use crate::nn::Config;
use crate::nn::style_encoder::{self, StyleEncoder};
use crate::progress::Progress;
use crate::{Error, Result};

/// One class's convolution and norm.
struct Layer {
    conv: Conv3,
    bias: Vec<f32>,
    norm: Norm,
}

/// One class's head of a scale: weight `(s, c)`, bias `(s)`.
struct Head {
    weight: super::Matrix,
    bias: Vec<f32>,
}

pub(in crate::nn) struct Encoder {
    level: Level,
    classes: usize,
    style_dim: usize,
    /// Of all classes at once.
    first: Conv3,
    first_bias: Vec<f32>,
    first_norms: Vec<Norm>,
    /// By level, then class.
    downs: Vec<Vec<Layer>>,
    ups: Vec<(Vec<Layer>, Vec<Head>)>,
}

/// Convolution results of every class, `(n, side, side, c)`, and scale and shift of the norm behind them.
struct Maps {
    side: usize,
    channels: usize,
    data: Vec<f32>,
    affine: Vec<(Vec<f32>, Vec<f32>)>,
}

impl Maps {
    fn class(&self, g: usize) -> (&[f32], (&[f32], &[f32])) {
        let size = self.side * self.side * self.channels;
        let (scale, shift) = &self.affine[g];
        (&self.data[g * size..][..size], (scale, shift))
    }
}

impl Encoder {
    pub fn new(level: Level, config: &Config, encoder: &StyleEncoder) -> Result<Self> {
        let n = config.classes;
        let layers = |l: &style_encoder::Level| -> Result<Vec<Layer>> {
            let (outputs, inputs, _, _) = l.conv.weight.dims4()?;
            let (weight, bias) = (values(&l.conv.weight)?, values(&l.conv.bias)?);
            let norm = Norm::new(&l.norm)?;
            let outputs = outputs / n;
            let size = outputs * inputs * 9;
            share_map(
                n,
                Progress::NONE,
                || (),
                |(), g| Layer {
                    conv: Conv3::new(
                        level,
                        &weight[g * size..][..size],
                        inputs,
                        outputs,
                        l.conv.stride,
                        false,
                    ),
                    bias: bias[g * outputs..][..outputs].to_vec(),
                    norm: norm.group(g),
                },
            )
        };
        let heads = |head: &style_encoder::Head| -> Result<Vec<Head>> {
            let (weight, bias, s) = (values(&head.weight)?, values(&head.bias)?, config.style_dim);
            let c = head.weight.dim(1)?;
            let head = |g: usize| Head {
                weight: super::Matrix::new(s, c, weight[g * s * c..][..s * c].to_vec()),
                bias: bias[g * s..][..s].to_vec(),
            };
            Ok((0..n).map(head).collect())
        };
        let first = &encoder.first;
        let (outputs, inputs, _, _) = first.conv.weight.dims4()?;
        let norm = Norm::new(&first.norm)?;
        Ok(Self {
            level,
            classes: n,
            style_dim: config.style_dim,
            first: Conv3::new(level, &values(&first.conv.weight)?, inputs, outputs, 1, false),
            first_bias: values(&first.conv.bias)?,
            first_norms: (0..n).map(|g| norm.group(g)).collect(),
            downs: encoder.downs.iter().map(&layers).collect::<Result<_>>()?,
            ups: encoder.ups.iter().map(|(l, h)| Ok((layers(l)?, heads(h)?))).collect::<Result<_>>()?,
        })
    }

    /// Multiply-adds times two of one picture of `side` pixels.
    pub fn flops(&self, side: usize) -> f64 {
        let mut total = (self.first.flops() * side * side) as f64;
        let mut side = side;
        for level in &self.downs {
            total += level.iter().map(|l| l.conv.flops() * side * side).sum::<usize>() as f64;
            side /= 2;
        }
        for (level, _) in &self.ups {
            side *= 2;
            total += level.iter().map(|l| l.conv.flops() * side * side).sum::<usize>() as f64;
        }
        total
    }

    /// As [`StyleEncoder::forward`]; rgb `(b, h, w, 3)`, labels `(b, h, w, n)`.
    pub fn forward(&self, rgb: &Tensor, onehot: &Tensor, progress: Progress) -> Result<Tensor> {
        let (b, side, width, channels) = rgb.dims4()?;
        let n = self.classes;
        if side != width
            || channels != 3
            || onehot.dim(3)? != n
            || !side.is_multiple_of(1 << self.downs.len())
        {
            return Err(Error::invalid(format!(
                "style encoder: a picture {:?} with labels {:?}: it takes square ones whose side divides by {}, with {n} classes",
                rgb.dims(),
                onehot.dims(),
                1 << self.downs.len()
            )));
        }
        let (rgb_values, masks) = (values(rgb)?, values(onehot)?);
        let mut codes = Vec::with_capacity(b * n * self.ups.len() * self.style_dim);
        for i in 0..b {
            let rgb = &rgb_values[i * side * side * 3..][..side * side * 3];
            let masks = &masks[i * side * side * n..][..side * side * n];
            let progress = progress.part(i as f32 / b as f32, (i + 1) as f32 / b as f32);
            codes.extend(self.picture(rgb, masks, side, progress)?);
        }
        Ok(Tensor::from_vec(codes, (b, n, self.ups.len() * self.style_dim), rgb.device())?)
    }

    fn picture(&self, rgb: &[f32], masks: &[f32], side: usize, progress: Progress) -> Result<Vec<f32>> {
        let (n, s) = (self.classes, self.style_dim);
        let steps = (self.downs.len() + self.ups.len() + 1) as f32;
        let part = |i: usize| progress.part(i as f32 / steps, (i + 1) as f32 / steps);
        let mut maps = vec![self.enter(rgb, side, part(0))?];
        for (i, level) in self.downs.iter().enumerate() {
            let next = self.down(level, &maps[i], part(i + 1))?;
            if i == 0 {
                maps[0].data = Vec::new(); // the picture's own level is no skip
            }
            maps.push(next);
        }
        let row = self.ups.len() * s;
        let mut codes = vec![0.0; n * row];
        let mut below: Option<Maps> = None;
        for (j, (level, heads)) in self.ups.iter().enumerate() {
            let skip = maps.pop().expect("a level for every scale, the picture's own left over");
            let sources: Vec<&Maps> = below.iter().chain([&skip]).collect();
            let next = self.up(level, &sources, part(self.downs.len() + 1 + j))?;
            let scale = share_map(
                n,
                Progress::NONE,
                || (),
                |(), g| {
                    let mut code = heads[g].weight.apply(&pool(&next, g, masks, side, n));
                    for (c, b) in code.iter_mut().zip(&heads[g].bias) {
                        *c = (*c + b).tanh();
                    }
                    code
                },
            )?;
            for (g, code) in scale.iter().enumerate() {
                codes[g * row + j * s..][..s].copy_from_slice(code);
            }
            below = Some(next);
        }
        Ok(codes)
    }

    /// Rows of a strip of `c` channels a pixel: about 300 KB, and the fewer the fewer classes there are to share out.
    fn strip(&self, side: usize, c: usize) -> usize {
        let most = side.div_ceil(32usize.div_ceil(self.classes)).max(2);
        (75_000 / (side * c)).clamp(1, most)
    }

    /// The first convolution, of all classes at once.
    fn enter(&self, rgb: &[f32], side: usize, progress: Progress) -> Result<Maps> {
        let (n, outputs) = (self.classes, self.first.outputs());
        let c = outputs / n;
        let mut data = vec![0.0; side * side * outputs];
        let out = Shared::new(&mut data);
        let strip = (75_000 / (side * outputs)).clamp(1, 8);
        let (ones, zeros) = (vec![1.0; 3], vec![0.0; 3]);
        let scratch = || (Vec::new(), Vec::new());
        let parts = share_map(side.div_ceil(strip), progress, scratch, |(padded, all), task| {
            let (first, rows) = (task * strip, strip.min(side - task * strip));
            let range = first..first + rows;
            let padded = pad(self.level, rgb, side, 3, range, (&ones, &zeros), After::Nothing, padded);
            let all = room(all, rows * side * outputs);
            let shared = Shared::new(&mut *all);
            // SAFETY: the buffer is this task's own.
            unsafe { self.first.strip(padded, rows, side, Start::Bias(&self.first_bias), &shared, 0) };
            for g in 0..n {
                // SAFETY: each task has rows of its own in every class's map.
                let mut out = unsafe { out.from((g * side + first) * side * c) };
                let out = out.slice(0, rows * side * c);
                for (to, from) in out.chunks_exact_mut(c).zip(all.chunks_exact(outputs)) {
                    to.copy_from_slice(&from[g * c..][..c]);
                }
            }
            Sums::of(all, outputs)
        })?;
        let sums = Sums::total(parts);
        let affine = |(g, norm): (usize, &Norm)| norm.affine(&sums.part(g * c, c), side * side);
        let affine = self.first_norms.iter().enumerate().map(affine).collect();
        Ok(Maps { side, channels: c, data, affine })
    }

    fn down(&self, level: &[Layer], x: &Maps, progress: Progress) -> Result<Maps> {
        let side = x.side / 2;
        let strip = self.strip(side, 2 * x.channels);
        self.level(level, side, strip, progress, |padded, g, rows| {
            let (picture, affine) = x.class(g);
            pad(
                self.level,
                picture,
                x.side,
                x.channels,
                2 * rows.start..2 * rows.end,
                affine,
                After::Relu,
                padded,
            );
        })
    }

    /// Joins, doubles and convolves. Of the class blocks of all sources, one source after the other, class g reads as many
    /// as there are sources, from that times g on.
    fn up(&self, level: &[Layer], sources: &[&Maps], progress: Progress) -> Result<Maps> {
        let (low, c) = (sources[0].side, sources[0].channels);
        let side = 2 * low;
        let joined = c * sources.len();
        let strip = self.strip(side, joined);
        self.level(level, side, strip, progress, |padded, g, rows| {
            let pitch = (side + 2) * joined;
            // The strip's own rows and one on either side, as far as the picture has them.
            let (top, bottom) = (rows.start.saturating_sub(1), (rows.end + 1).min(side));
            // Rows of the small picture that these are made of.
            let first = (top / 2).min(neighbour(top, low));
            let last = ((bottom - 1) / 2).max(neighbour(bottom - 1, low));
            let (count, row) = (last - first + 1, low * joined);
            let all = room(padded, (rows.len() + 2) * pitch + (count + 1) * row + low * c);
            let (padded, rest) = all.split_at_mut((rows.len() + 2) * pitch);
            let (small, rest) = rest.split_at_mut(count * row);
            let (mixed, normed) = rest.split_at_mut(row);
            for (k, source) in (0..sources.len()).map(|k| (k, g * sources.len() + k)) {
                let (picture, (scale, shift)) = sources[source / self.classes].class(source % self.classes);
                for (y, to) in small.chunks_exact_mut(row).enumerate() {
                    let from = &picture[(first + y) * low * c..][..low * c];
                    rows::affine(self.level, from, scale, shift, After::Relu, normed);
                    for (to, from) in to.chunks_exact_mut(joined).zip(normed.chunks_exact(c)) {
                        to[k * c..][..c].copy_from_slice(from);
                    }
                }
            }
            for (i, to) in padded.chunks_exact_mut(pitch).enumerate() {
                let y = (rows.start + i).wrapping_sub(1);
                if y >= side {
                    to.fill(0.0);
                    continue;
                }
                let at = |y: usize| &small[(y - first) * row..][..row];
                rows::quarter(self.level, at(y / 2), at(neighbour(y, low)), mixed);
                to[..joined].fill(0.0);
                to[pitch - joined..].fill(0.0);
                for (p, pixel) in to[joined..pitch - joined].chunks_exact_mut(joined).enumerate() {
                    let at = |p: usize| &mixed[p * joined..][..joined];
                    rows::quarter(self.level, at(p / 2), at(neighbour(p, low)), pixel);
                }
            }
        })
    }

    /// A level's convolution, `fill` giving each strip's input with its border.
    fn level(
        &self,
        level: &[Layer],
        side: usize,
        strip: usize,
        progress: Progress,
        fill: impl Fn(&mut Vec<f32>, usize, std::ops::Range<usize>) + Sync,
    ) -> Result<Maps> {
        let c = level[0].conv.outputs();
        let strips = side.div_ceil(strip);
        let mut data = vec![0.0; self.classes * side * side * c];
        let out = Shared::new(&mut data);
        let parts = share_map(self.classes * strips, progress, Vec::new, |padded, task| {
            let (g, first) = (task / strips, task % strips * strip);
            let rows = strip.min(side - first);
            fill(padded, g, first..first + rows);
            let pixel = (g * side + first) * side;
            // SAFETY: each task has rows of its own in one class's map.
            unsafe {
                level[g].conv.strip(padded, rows, side, Start::Bias(&level[g].bias), &out, pixel);
                Sums::of(out.from(pixel * c).slice(0, rows * side * c), c)
            }
        })?;
        let affine =
            |(g, parts): (usize, &[Sums])| level[g].norm.affine(&Sums::total(parts.to_vec()), side * side);
        let affine = parts.chunks(strips).enumerate().map(affine).collect();
        Ok(Maps { side, channels: c, data, affine })
    }
}

/// Mean of one class's features, normed, under its own labels `(full, full, n)`; zero where it has none.
fn pool(maps: &Maps, g: usize, labels: &[f32], full: usize, n: usize) -> Vec<f32> {
    let (side, c) = (maps.side, maps.channels);
    let (picture, (scale, shift)) = maps.class(g);
    let (mut sums, mut area) = (vec![0.0f64; c], 0.0f64);
    for y in 0..side {
        let labels = &labels[y * full / side * full * n..];
        for x in 0..side {
            let share = labels[x * full / side * n + g];
            if share == 0.0 {
                continue;
            }
            area += f64::from(share);
            let pixel = &picture[(y * side + x) * c..][..c];
            for (i, sum) in sums.iter_mut().enumerate() {
                let v = pixel[i] * scale[i] + shift[i];
                *sum += f64::from(share * if v < 0.0 { 0.0 } else { v });
            }
        }
    }
    sums.into_iter().map(|s| (s / (area + 1e-5)) as f32).collect()
}
