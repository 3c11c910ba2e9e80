//! Group norm with its activation, and layer norm, with gradients. Sums run in f64: a picture has many pixels.

use rayon::prelude::*;

use super::linear::add;
use super::pointwise::{activate, activate_gradient};
use crate::nn::ops::Activation;

/// `x (rows, batch, pixels, channels)`: each of the `rows` has its own weight and bias; statistics are of one picture
/// and one of `groups` groups of channels.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub rows: usize,
    pub batch: usize,
    pub pixels: usize,
    pub channels: usize,
    pub groups: usize,
}

impl Shape {
    fn picture(&self) -> usize {
        self.pixels * self.channels
    }

    /// Weight and bias of the row that `picture` belongs to.
    fn affine<'a>(
        &self,
        affine: Option<(&'a [f32], &'a [f32])>,
        picture: usize,
    ) -> Option<(&'a [f32], &'a [f32])> {
        let row = picture / self.batch * self.channels;
        affine.map(|(w, b)| (&w[row..row + self.channels], &b[row..row + self.channels]))
    }
}

/// Pixels whose sums one task takes.
const BLOCK: usize = 2048;

super::vectorised! {
    /// Per channel, adds the values and their squares.
    pub(crate) fn channel_sums(x: &[f32], sums: &mut [f64], squares: &mut [f64]) {
        // Sums that stay in registers: of so many channels at a time, or of several pixels' few channels side by side.
        const LANES: usize = 16;
        let c = sums.len();
        let beside = c < LANES && LANES.is_multiple_of(c) && x.len().is_multiple_of(LANES);
        let pixel = if beside { LANES } else { c };
        let whole = pixel / LANES * LANES;
        for first in (0..whole).step_by(LANES) {
            let (mut s, mut q) = ([0.0f64; LANES], [0.0f64; LANES]);
            for pixel in x.chunks_exact(pixel) {
                let pixel = &pixel[first..first + LANES];
                for i in 0..LANES {
                    let v = f64::from(pixel[i]);
                    s[i] += v;
                    q[i] += v * v;
                }
            }
            for i in 0..LANES {
                sums[(first + i) % c] += s[i];
                squares[(first + i) % c] += q[i];
            }
        }
        if whole < pixel {
            for pixel in x.chunks_exact(c) {
                for i in whole..c {
                    let v = f64::from(pixel[i]);
                    sums[i] += v;
                    squares[i] += v * v;
                }
            }
        }
    }
}

/// Mean and 1 / standard deviation of each group of one picture, spread to its channels.
fn statistics(s: &Shape, x: &[f32], eps: f64) -> (Vec<f32>, Vec<f32>) {
    let c = s.channels;
    let parts: Vec<_> = x
        .par_chunks(BLOCK * c)
        .map(|x| {
            let (mut sums, mut squares) = (vec![0.0; c], vec![0.0; c]);
            channel_sums(x, &mut sums, &mut squares);
            (sums, squares)
        })
        .collect();
    let width = c / s.groups;
    let count = (width * s.pixels) as f64;
    let (mut means, mut inverses) = (Vec::with_capacity(c), Vec::with_capacity(c));
    for group in 0..s.groups {
        let channels = group * width..(group + 1) * width;
        let (mut sum, mut square) = (0.0, 0.0);
        for (sums, squares) in &parts {
            sum += sums[channels.clone()].iter().sum::<f64>();
            square += squares[channels.clone()].iter().sum::<f64>();
        }
        let mean = sum / count;
        let inverse = 1.0 / ((square / count - mean * mean).max(0.0) + eps).sqrt();
        means.extend(std::iter::repeat_n(mean as f32, width));
        inverses.extend(std::iter::repeat_n(inverse as f32, width));
    }
    (means, inverses)
}

super::vectorised! {
    /// `y = x scale + shift`, a channel at a time.
    fn scale_shift(x: &[f32], scale: &[f32], shift: &[f32], y: &mut [f32]) {
        let c = scale.len();
        for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            for i in 0..c {
                y[i] = x[i] * scale[i] + shift[i];
            }
        }
    }
}

pub fn forward(
    s: &Shape,
    x: &[f32],
    affine: Option<(&[f32], &[f32])>,
    eps: f64,
    activation: Activation,
) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    let pictures = y.par_chunks_mut(s.picture()).zip(x.par_chunks(s.picture())).enumerate();
    pictures.for_each(|(picture, (y, x))| {
        let (means, mut scale) = statistics(s, x, eps);
        let mut shift: Vec<f32> = means.iter().zip(&scale).map(|(m, k)| -m * k).collect();
        if let Some((weight, bias)) = s.affine(affine, picture) {
            for i in 0..s.channels {
                scale[i] *= weight[i];
                shift[i] = shift[i] * weight[i] + bias[i];
            }
        }
        let block = BLOCK * s.channels;
        y.par_chunks_mut(block).zip(x.par_chunks(block)).for_each(|(y, x)| {
            scale_shift(x, &scale, &shift, y);
            activate(y, activation);
        });
    });
    y
}

/// What [`backward`] gives: the gradients of x, weight and bias.
pub type Gradients = (Vec<f32>, Vec<f32>, Vec<f32>);

pub fn backward(
    s: &Shape,
    x: &[f32],
    affine: Option<(&[f32], &[f32])>,
    g: &[f32],
    eps: f64,
    activation: Activation,
) -> Gradients {
    let (c, width) = (s.channels, s.channels / s.groups);
    let count = (width * s.pixels) as f64;
    let mut gx = vec![0.0; x.len()];
    let parts: Vec<(Vec<f32>, Vec<f32>)> = gx
        .par_chunks_mut(s.picture())
        .zip(x.par_chunks(s.picture()))
        .zip(g.par_chunks(s.picture()))
        .enumerate()
        .map(|(picture, ((gx, x), g))| {
            let (means, inverses) = statistics(s, x, eps);
            let shift: Vec<f32> = means.iter().zip(&inverses).map(|(m, k)| -m * k).collect();
            let mut normed = vec![0.0; x.len()];
            scale_shift(x, &inverses, &shift, &mut normed);
            // gx holds the gradient behind the affine map until the sums are known.
            let affine = s.affine(affine, picture);
            match (activation, affine) {
                (Activation::None, _) => gx.copy_from_slice(g),
                (_, Some((weight, bias))) => {
                    scale_shift(&normed, weight, bias, gx);
                    activate_gradient(gx, g, activation);
                }
                (_, None) => {
                    gx.copy_from_slice(&normed);
                    activate_gradient(gx, g, activation);
                }
            }
            let (mut sums, mut products) = (vec![0.0; c], vec![0.0; c]);
            gradient_sums(gx, &normed, &mut sums, &mut products);
            let weight = |i: usize| affine.map_or(1.0, |(w, _)| f64::from(w[i]));
            // gx = inverse (w g - mean(w g) - normed mean(w g normed)), means over the group.
            let (mut on_g, mut on_normed, mut constant) = (vec![0.0; c], vec![0.0; c], vec![0.0; c]);
            for group in 0..s.groups {
                let channels = group * width..(group + 1) * width;
                let mean = channels.clone().map(|i| weight(i) * sums[i]).sum::<f64>() / count;
                let slope = channels.clone().map(|i| weight(i) * products[i]).sum::<f64>() / count;
                for i in channels {
                    let inverse = f64::from(inverses[i]);
                    on_g[i] = (inverse * weight(i)) as f32;
                    on_normed[i] = (-inverse * slope) as f32;
                    constant[i] = (-inverse * mean) as f32;
                }
            }
            combine(gx, &normed, &on_g, &on_normed, &constant);
            let narrow = |v: Vec<f64>| v.into_iter().map(|v| v as f32).collect::<Vec<_>>();
            (narrow(products), narrow(sums))
        })
        .collect();
    let (mut weight, mut bias) = (vec![0.0; s.rows * c], vec![0.0; s.rows * c]);
    for (picture, (w, b)) in parts.iter().enumerate() {
        let row = picture / s.batch * c;
        add(&mut weight[row..row + c], w);
        add(&mut bias[row..row + c], b);
    }
    (gx, weight, bias)
}

super::vectorised! {
    /// Per channel, adds g and g times normed.
    fn gradient_sums(g: &[f32], normed: &[f32], sums: &mut [f64], products: &mut [f64]) {
        let c = sums.len();
        for (g, n) in g.chunks_exact(c).zip(normed.chunks_exact(c)) {
            for i in 0..c {
                sums[i] += f64::from(g[i]);
                products[i] += f64::from(g[i]) * f64::from(n[i]);
            }
        }
    }
}

super::vectorised! {
    fn combine(g: &mut [f32], normed: &[f32], on_g: &[f32], on_normed: &[f32], constant: &[f32]) {
        let c = on_g.len();
        for (g, n) in g.chunks_exact_mut(c).zip(normed.chunks_exact(c)) {
            for i in 0..c {
                g[i] = g[i] * on_g[i] + n[i] * on_normed[i] + constant[i];
            }
        }
    }
}

/// Rows that one task of a layer norm takes.
const ROWS: usize = 512;

/// Sum of `f(i)` over `0..n` in eight strands, which the compiler can keep in one register.
#[inline(always)]
fn strands(n: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut sums = [0.0f32; 8];
    for i in 0..n / 8 {
        for (j, s) in sums.iter_mut().enumerate() {
            *s += f(8 * i + j);
        }
    }
    let rest: f32 = (n / 8 * 8..n).map(&f).sum();
    sums.iter().sum::<f32>() + rest
}

super::vectorised! {
    fn layer_rows(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, y: &mut [f32]) {
        let c = weight.len();
        for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            let mean = strands(c, |i| x[i]) / c as f32;
            let variance = strands(c, |i| (x[i] - mean) * (x[i] - mean)) / c as f32;
            let inverse = 1.0 / (variance + eps).sqrt();
            for i in 0..c {
                y[i] = (x[i] - mean) * inverse * weight[i] + bias[i];
            }
        }
    }
}

pub fn layer_forward(x: &[f32], weight: &[f32], bias: &[f32], eps: f64) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    let block = ROWS * weight.len();
    y.par_chunks_mut(block).zip(x.par_chunks(block)).for_each(|(y, x)| {
        layer_rows(x, weight, bias, eps as f32, y);
    });
    y
}

super::vectorised! {
    fn layer_rows_gradient(
        x: &[f32],
        weight: &[f32],
        g: &[f32],
        eps: f32,
        gx: &mut [f32],
        gw: &mut [f32],
        gb: &mut [f32],
    ) {
        let c = weight.len();
        let n = c as f32;
        for ((gx, x), g) in gx.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(g.chunks_exact(c)) {
            let mean = strands(c, |i| x[i]) / n;
            let variance = strands(c, |i| (x[i] - mean) * (x[i] - mean)) / n;
            let inverse = 1.0 / (variance + eps).sqrt();
            let flat = strands(c, |i| weight[i] * g[i]) / n;
            let slope = strands(c, |i| weight[i] * g[i] * (x[i] - mean)) * inverse / n;
            for i in 0..c {
                let normed = (x[i] - mean) * inverse;
                gx[i] = inverse * (weight[i] * g[i] - flat - normed * slope);
                gw[i] += g[i] * normed;
                gb[i] += g[i];
            }
        }
    }
}

pub fn layer_backward(x: &[f32], weight: &[f32], g: &[f32], eps: f64) -> Gradients {
    let c = weight.len();
    let mut gx = vec![0.0; x.len()];
    let block = ROWS * c;
    let parts: Vec<_> = gx
        .par_chunks_mut(block)
        .zip(x.par_chunks(block))
        .zip(g.par_chunks(block))
        .map(|((gx, x), g)| {
            let (mut gw, mut gb) = (vec![0.0; c], vec![0.0; c]);
            layer_rows_gradient(x, weight, g, eps as f32, gx, &mut gw, &mut gb);
            (gw, gb)
        })
        .collect();
    let (mut gw, mut gb) = (vec![0.0; c], vec![0.0; c]);
    for (w, b) in &parts {
        add(&mut gw, w);
        add(&mut gb, b);
    }
    (gx, gw, gb)
}
