//! The style encoder as the CPU runs it: level by level, a class and a strip of rows to a task. A level leaves its
//! convolutions' results as they are; who reads them applies norm and ReLU and joins on the way. The first level, the largest
//! map of all, never exists: its norm is known beforehand ([`Moments`]) and folded into its convolution, which is taken a few
//! rows at a time where the next one reads them. Classes that the labels lack get the code of an empty region, and what only
//! they would have needed is left out: the others' codes are the same bits.

use candle_core::Tensor;

use super::fold::values;
use super::residual::{Norm, Sums, pad};
use crate::kernels::matrix::Start;
use crate::kernels::moments::Moments;
use crate::kernels::rows::{self, After};
use crate::kernels::simd::Level;
use crate::kernels::window::{BilinearConv3, Conv3, Spread, Strip};
use crate::kernels::{Lines, Shared, share_map};
use crate::nn::Config;
use crate::nn::style_encoder::{self, StyleEncoder};
use crate::progress::Progress;
use crate::{Error, Result};

/// One class's convolution and norm.
struct Layer<C> {
    conv: C,
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
    /// Of all classes at once, `(n c, 3, 3, 3)`.
    first: Vec<f32>,
    first_bias: Vec<f32>,
    first_norms: Vec<Norm>,
    /// By level, then class.
    downs: Vec<Vec<Layer<Conv3>>>,
    ups: Vec<(Vec<Layer<BilinearConv3>>, Vec<Head>)>,
}

/// What of the encoder some labels need.
struct Needs {
    /// By scale, then class: the pixels that the labels have it at, at that size, and its shares of them.
    places: Vec<Vec<Vec<(u32, f32)>>>,
    /// By level, then class: whether anything that is present is computed from it.
    downs: Vec<Vec<bool>>,
    ups: Vec<Vec<bool>>,
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    padded: Lines,
    spread: Spread,
}

/// The first convolution with the norm behind it, of the classes that are needed.
struct Entry {
    classes: Vec<usize>,
    conv: Conv3,
    bias: Vec<f32>,
}

/// Convolution results of every class, `(n, side, side, c)`, and scale and shift of the norm behind them; nothing for a
/// class that is not needed.
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
        /// One layer a class; `conv` makes one of weight, inputs and outputs.
        fn layers<C: Send>(
            n: usize,
            l: &style_encoder::Level,
            conv: impl Fn(&[f32], usize, usize) -> C + Sync,
        ) -> Result<Vec<Layer<C>>> {
            let (outputs, inputs, _, _) = l.conv.weight.dims4()?;
            let (weight, bias) = (values(&l.conv.weight)?, values(&l.conv.bias)?);
            let norm = Norm::new(&l.norm)?;
            let outputs = outputs / n;
            let size = outputs * inputs * 9;
            let layer = |(), g: usize| Layer {
                conv: conv(&weight[g * size..][..size], inputs, outputs),
                bias: bias[g * outputs..][..outputs].to_vec(),
                norm: norm.group(g),
            };
            share_map(n, Progress::NONE, || (), |_, g| layer((), g))
        }
        let down = |l: &style_encoder::Level| {
            let stride = l.conv.stride;
            layers(n, l, |weight, inputs, outputs| Conv3::new(level, weight, inputs, outputs, stride, false))
        };
        let up = |l: &style_encoder::Level| {
            layers(n, l, |weight, inputs, outputs| BilinearConv3::new(level, weight, inputs, outputs))
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
        let norm = Norm::new(&first.norm)?;
        Ok(Self {
            level,
            classes: n,
            style_dim: config.style_dim,
            first: values(&first.conv.weight)?,
            first_bias: values(&first.conv.bias)?,
            first_norms: (0..n).map(|g| norm.group(g)).collect(),
            downs: encoder.downs.iter().map(down).collect::<Result<_>>()?,
            ups: encoder.ups.iter().map(|(l, h)| Ok((up(l)?, heads(h)?))).collect::<Result<_>>()?,
        })
    }

    /// Multiply-adds times two of one picture of `side` pixels with all classes.
    pub fn flops(&self, side: usize) -> f64 {
        let mut total = (2 * self.first.len() * side * side) as f64;
        let mut side = side;
        for level in &self.downs {
            total += level.iter().map(|l| l.conv.flops() * side * side).sum::<usize>() as f64;
            side /= 2;
        }
        for (level, _) in &self.ups {
            total += level.iter().map(|l| l.conv.flops(side)).sum::<usize>() as f64;
            side *= 2;
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
        let needs = self.needs(masks, side);
        let row = self.ups.len() * s;
        let mut codes = vec![0.0; n * row];
        let entry = self.entry(rgb, side, &needs.downs[0], part(0))?;
        let mut maps = vec![self.enter(&entry, rgb, side, part(1))?];
        for (i, level) in self.downs.iter().enumerate().skip(1) {
            let next = self.down(level, &needs.downs[i], &maps[i - 1], part(i + 1))?;
            if i == 1 && self.ups.len() < self.downs.len() {
                maps[0].data = Vec::new(); // no skip
            }
            maps.push(next);
        }
        let mut below: Option<Maps> = None;
        for (j, (level, heads)) in self.ups.iter().enumerate() {
            let skip = maps.pop().expect("a level for every scale, the picture's own left over");
            let sources: Vec<&Maps> = below.iter().chain([&skip]).collect();
            let next = self.up(level, &needs.ups[j], &sources, part(self.downs.len() + 1 + j))?;
            let scale = share_map(
                n,
                Progress::NONE,
                || (),
                |(), g| {
                    let mean = match &needs.places[j][g][..] {
                        [] => vec![0.0; next.channels],
                        places => pool(&next, g, places),
                    };
                    let mut code = heads[g].weight.apply(&mean);
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

    /// What labels `(full, full, n)` need, from the last scale back to the picture.
    fn needs(&self, labels: &[f32], full: usize) -> Needs {
        let (n, scales) = (self.classes, self.ups.len());
        let places = |j: usize| {
            let side = (full >> self.downs.len()) << (j + 1);
            let mut places = vec![Vec::new(); n];
            for y in 0..side {
                let row = &labels[y * full / side * full * n..][..full * n];
                for x in 0..side {
                    for (places, share) in places.iter_mut().zip(&row[x * full / side * n..][..n]) {
                        if *share != 0.0 {
                            places.push(((y * side + x) as u32, *share));
                        }
                    }
                }
            }
            places
        };
        let places: Vec<_> = (0..scales).map(places).collect();
        let here = |places: &Vec<Vec<_>>| places.iter().map(|p| !p.is_empty()).collect();
        let mut ups: Vec<Vec<bool>> = places.iter().map(here).collect();
        let mut downs = vec![vec![false; n]; self.downs.len()];
        for j in (0..scales).rev() {
            for g in (0..n).filter(|g| ups[j][*g]).collect::<Vec<_>>() {
                if j == 0 {
                    downs[self.downs.len() - 1][g] = true;
                    continue;
                }
                for block in [2 * g, 2 * g + 1] {
                    match block.checked_sub(n) {
                        None => ups[j - 1][block] = true,
                        Some(block) => downs[self.downs.len() - 1 - j][block] = true,
                    }
                }
            }
        }
        for i in (1..downs.len()).rev() {
            let (before, behind) = downs.split_at_mut(i);
            for (b, needed) in before[i - 1].iter_mut().zip(&behind[0]) {
                *b |= needed;
            }
        }
        Needs { places, downs, ups }
    }

    /// Rows of a strip of `c` channels a pixel: about 300 KB, and the fewer the fewer classes there are to share out.
    fn strip(&self, side: usize, c: usize) -> usize {
        let most = side.div_ceil(32usize.div_ceil(self.classes)).max(2);
        (75_000 / (side * c)).clamp(1, most)
    }

    /// The first convolution with its norm, which depends on the picture.
    fn entry(&self, rgb: &[f32], side: usize, needed: &[bool], progress: Progress) -> Result<Entry> {
        let strip = (75_000 / (3 * side)).clamp(1, 8);
        let parts = share_map(side.div_ceil(strip), progress, Lines::new, |padded, task| {
            let (first, rows) = (task * strip, strip.min(side - task * strip));
            // Behind the strip's rows two more.
            let padded = bordered(self.level, rgb, side, first + 1..first + rows + 1, padded);
            Moments::of(padded, side, first == 0, first + rows == side)
        })?;
        let moments = Moments::total(parts);
        let c = self.first_bias.len() / self.classes;
        let classes: Vec<usize> = (0..self.classes).filter(|g| needed[*g]).collect();
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for &g in &classes {
            let (w, b) = (&self.first[g * c * 27..][..c * 27], &self.first_bias[g * c..][..c]);
            let sums = Sums::new(moments.convolved(w, b, side * side));
            let (scale, shift) = self.first_norms[g].affine(&sums, side * side);
            for (o, w) in w.chunks_exact(27).enumerate() {
                weight.extend(w.iter().map(|w| w * scale[o]));
                bias.push(b[o] * scale[o] + shift[o]);
            }
        }
        let conv = Conv3::new(self.level, &weight, 3, bias.len(), 1, false);
        Ok(Entry { classes, conv, bias })
    }

    /// The first two convolutions, a strip of rows of all classes to a task.
    fn enter(&self, entry: &Entry, rgb: &[f32], full: usize, progress: Progress) -> Result<Maps> {
        let level = &self.downs[0];
        let (side, o) = (full / 2, level[0].conv.outputs());
        let mut data = vec![0.0; self.classes * side * side * o];
        let mut affine = vec![Default::default(); self.classes];
        if entry.classes.is_empty() {
            return Ok(Maps { side, channels: o, data, affine });
        }
        let (outputs, classes) = (entry.bias.len(), entry.classes.len());
        let c = outputs / classes;
        let pitch = (full + 2) * c;
        let out = Shared::new(&mut data);
        let strip = (75_000 / (full * outputs)).clamp(2, 8);
        let scratch = || (Lines::new(), Lines::new(), Lines::new());
        let parts = share_map(side.div_ceil(strip), progress, scratch, |(padded, row, dealt), task| {
            let (first, rows) = (task * strip, strip.min(side - task * strip));
            // Of the picture's rows, from the one above the first window's middle on.
            let (above, high) = (usize::from(first == 0), 2 * rows + 1);
            let (from, count) = (2 * first + above - 1, high - above);
            let padded = bordered(self.level, rgb, full, from..from + count, padded);
            let row = row.room(full * outputs);
            let part = high * pitch;
            let dealt = dealt.room(classes * part);
            for dealt in dealt.chunks_exact_mut(part) {
                dealt[..above * pitch].fill(0.0);
                for row in dealt[above * pitch..].chunks_exact_mut(pitch) {
                    row[..c].fill(0.0);
                    row[pitch - c..].fill(0.0);
                }
            }
            for i in 0..count {
                let padded = &padded[i * 3 * (full + 2)..][..3 * 3 * (full + 2)];
                let shared = Shared::new(&mut *row);
                // SAFETY: the buffer is this task's own.
                unsafe { entry.conv.strip(padded, 1, full, Start::Bias(&entry.bias), &shared, 0) };
                let to = &mut dealt[(above + i) * pitch + c..];
                rows::deal(self.level, row, classes, c, After::Relu, to, part);
            }
            let finish = |(dealt, g): (&[f32], &usize)| {
                let Layer { conv, bias, .. } = &level[*g];
                let pixel = (g * side + first) * side;
                // SAFETY: each task has rows of its own in every class's map.
                unsafe {
                    conv.strip(dealt, rows, side, Start::Bias(bias), &out, pixel);
                    Sums::of(out.from(pixel * o).slice(0, rows * side * o), o)
                }
            };
            dealt.chunks_exact(part).zip(&entry.classes).map(finish).collect::<Vec<_>>()
        })?;
        let mut parts: Vec<_> = parts.into_iter().map(Vec::into_iter).collect();
        for &g in &entry.classes {
            let sums = parts.iter_mut().map(|p| p.next().expect("one of every class")).collect();
            affine[g] = level[g].norm.affine(&Sums::total(sums), side * side);
        }
        Ok(Maps { side, channels: o, data, affine })
    }

    fn down(&self, level: &[Layer<Conv3>], needed: &[bool], x: &Maps, progress: Progress) -> Result<Maps> {
        let (side, c) = (x.side / 2, level[0].conv.outputs());
        let strip = self.strip(side, 2 * x.channels);
        self.level(level, needed, (side, side, c), strip, progress, |scratch, g, rows, out| {
            let (picture, affine) = x.class(g);
            let Layer { conv, bias, .. } = &level[g];
            let from = 2 * rows.start..2 * rows.end;
            let padded = &mut scratch.padded;
            let padded =
                pad(self.level, picture, (x.side, x.side), x.channels, from, affine, After::Relu, padded);
            let out = Shared::new(out);
            // SAFETY: the strip is this task's own.
            unsafe { conv.strip(padded, rows.len(), side, Start::Bias(bias), &out, 0) };
        })
    }

    /// Joins, doubles and convolves. Of the class blocks of all sources, one source after the other, class g reads as many
    /// as there are sources, from that times g on.
    fn up(
        &self,
        level: &[Layer<BilinearConv3>],
        needed: &[bool],
        sources: &[&Maps],
        progress: Progress,
    ) -> Result<Maps> {
        let (low, c) = (sources[0].side, sources[0].channels);
        let (side, joined, o) = (2 * low, c * sources.len(), level[0].conv.outputs());
        let strip = self.strip(low + 2, joined + 4 * o).min(low);
        self.level(level, needed, (low, side, o), strip, progress, |scratch, g, rows, out| {
            let (pitch, row) = ((low + 2) * joined, low * c);
            let padded = scratch.padded.room((rows.len() + 2) * pitch);
            for (i, to) in padded.chunks_exact_mut(pitch).enumerate() {
                let y = (rows.start + i).saturating_sub(1).min(low - 1);
                for (k, source) in (0..sources.len()).map(|k| (k, g * sources.len() + k)) {
                    let (picture, (scale, shift)) =
                        sources[source / self.classes].class(source % self.classes);
                    let (from, to) = (&picture[y * row..][..row], &mut to[joined + k * c..]);
                    rows::affine_into(self.level, from, scale, shift, After::Relu, to, joined);
                }
                // The border continues the picture.
                to.copy_within(joined..2 * joined, 0);
                to.copy_within(low * joined..(low + 1) * joined, (low + 1) * joined);
            }
            let Layer { conv, bias, .. } = &level[g];
            let bias = bias.repeat(side);
            let strip = Strip { rows: rows.len(), width: low, top: rows.start == 0, bottom: rows.end == low };
            conv.strip(self.level, padded, strip, &bias, &mut scratch.spread, &mut out.into());
        })
    }

    /// A level's convolution of the needed classes, `work` doing a strip: some of `high` rows, each of which gives as many rows of
    /// `side` pixels, `c` channels wide, as there are to one.
    fn level<C: Sync>(
        &self,
        level: &[Layer<C>],
        needed: &[bool],
        (high, side, c): (usize, usize, usize),
        strip: usize,
        progress: Progress,
        work: impl Fn(&mut Scratch, usize, std::ops::Range<usize>, &mut [f32]) + Sync,
    ) -> Result<Maps> {
        let strips = high.div_ceil(strip);
        let row = side / high * side * c;
        let classes: Vec<usize> = (0..self.classes).filter(|g| needed[*g]).collect();
        let mut data = vec![0.0; self.classes * side * side * c];
        let shared = Shared::new(&mut data);
        let parts = share_map(classes.len() * strips, progress, Scratch::default, |scratch, task| {
            let (g, first) = (classes[task / strips], task % strips * strip);
            let rows = first..high.min(first + strip);
            // SAFETY: each task has rows of its own in one class's map.
            let mut out = unsafe { shared.from((g * high + first) * row) };
            let out = out.slice(0, rows.len() * row);
            work(scratch, g, rows, out);
            Sums::of(out, c)
        })?;
        let mut affine = vec![Default::default(); self.classes];
        for (g, parts) in classes.into_iter().zip(parts.chunks(strips)) {
            affine[g] = level[g].norm.affine(&Sums::total(parts.to_vec()), side * side);
        }
        Ok(Maps { side, channels: c, data, affine })
    }
}

/// `rows` of a picture of three channels and one on either side, with a border of zeros.
fn bordered<'a>(
    level: Level,
    rgb: &[f32],
    side: usize,
    rows: std::ops::Range<usize>,
    padded: &'a mut Lines,
) -> &'a [f32] {
    pad(level, rgb, (side, side), 3, rows, (&[1.0; 3], &[0.0; 3]), After::Nothing, padded)
}

/// Mean of one class's features, normed, at its places.
fn pool(maps: &Maps, g: usize, places: &[(u32, f32)]) -> Vec<f32> {
    let c = maps.channels;
    let (picture, (scale, shift)) = maps.class(g);
    let (mut sums, mut area) = (vec![0.0f64; c], 0.0f64);
    for (place, share) in places {
        area += f64::from(*share);
        let pixel = &picture[*place as usize * c..][..c];
        for (i, sum) in sums.iter_mut().enumerate() {
            let v = pixel[i] * scale[i] + shift[i];
            *sum += f64::from(share * if v < 0.0 { 0.0 } else { v });
        }
    }
    sums.into_iter().map(|s| (s / (area + 1e-5)) as f32).collect()
}
