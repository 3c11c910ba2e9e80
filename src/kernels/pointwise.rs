//! Activations and GEGLU, with gradients, on functions that the compiler vectorises.

use rayon::prelude::*;

use crate::nn::ops::Activation;

/// e^x to 2 units in the last place: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2], its coefficients the Taylor series'
/// own (the eighth term is below 1e-8 there).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    // Adding and taking away 1.5 * 2^23 rounds to a whole number.
    let n = (x * std::f32::consts::LOG2_E + 12_582_912.0) - 12_582_912.0;
    // ln 2 in two parts, the first exact in few bits.
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    p * f32::from_bits(((n as i32 + 127) << 23) as u32)
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The normal distribution's cumulative function, through erf by Abramowitz and Stegun, Handbook of Mathematical
/// Functions, 7.1.26: at most 1.5e-7 off. Also e^(-x^2/2).
#[inline(always)]
fn normal(x: f32) -> (f32, f32) {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let p = 1.061_405_4;
    let p = p * t - 1.453_152_1;
    let p = p * t + 1.421_413_8;
    let p = p * t - 0.284_496_72;
    let p = p * t + 0.254_829_6;
    let bell = exp(-z * z);
    let tail = 0.5 * p * t * bell;
    (if x < 0.0 { tail } else { 1.0 - tail }, bell)
}

super::vectorised! {
    fn silu(x: &mut [f32]) {
        for v in x {
            *v *= sigmoid(*v);
        }
    }
}

super::vectorised! {
    /// Replaces x by g times SiLU's slope at x.
    fn silu_gradient(x: &mut [f32], g: &[f32]) {
        for (v, g) in x.iter_mut().zip(g) {
            let s = sigmoid(*v);
            *v = g * s * (1.0 + *v * (1.0 - s));
        }
    }
}

super::vectorised! {
    fn leaky(x: &mut [f32], slope: f32) {
        for v in x {
            *v = if *v > 0.0 { *v } else { slope * *v };
        }
    }
}

super::vectorised! {
    fn leaky_gradient(x: &mut [f32], g: &[f32], slope: f32) {
        for (v, g) in x.iter_mut().zip(g) {
            *v = if *v > 0.0 { *g } else { slope * g };
        }
    }
}

/// In place, on this thread.
pub(super) fn activate(x: &mut [f32], activation: Activation) {
    match activation {
        Activation::None => {}
        Activation::Relu => leaky(x, 0.0),
        Activation::Silu => silu(x),
        Activation::LeakyRelu(slope) => leaky(x, slope),
    }
}

/// Replaces x by g times the activation's slope at x.
pub(super) fn activate_gradient(x: &mut [f32], g: &[f32], activation: Activation) {
    match activation {
        Activation::None => x.copy_from_slice(g),
        Activation::Relu => leaky_gradient(x, g, 0.0),
        Activation::Silu => silu_gradient(x, g),
        Activation::LeakyRelu(slope) => leaky_gradient(x, g, slope),
    }
}

/// Elements of one task.
const BLOCK: usize = 65_536;

pub fn activation(x: &[f32], activation: Activation) -> Vec<f32> {
    let mut y = x.to_vec();
    y.par_chunks_mut(BLOCK).for_each(|y| activate(y, activation));
    y
}

pub fn activation_gradient(x: &[f32], g: &[f32], activation: Activation) -> Vec<f32> {
    let mut gx = x.to_vec();
    gx.par_chunks_mut(BLOCK).zip(g.par_chunks(BLOCK)).for_each(|(x, g)| activate_gradient(x, g, activation));
    gx
}

super::vectorised! {
    fn geglu_row(a: &[f32], b: &[f32], y: &mut [f32]) {
        for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
            *y = a * (b * normal(*b).0);
        }
    }
}

super::vectorised! {
    fn geglu_row_gradient(a: &[f32], b: &[f32], g: &[f32], ga: &mut [f32], gb: &mut [f32]) {
        for i in 0..g.len() {
            let (cumulative, bell) = normal(b[i]);
            let density = bell * 0.398_942_3; // 1 / sqrt(2 pi)
            ga[i] = g[i] * b[i] * cumulative;
            gb[i] = g[i] * a[i] * (cumulative + b[i] * density);
        }
    }
}

/// `x (rows, 2 hidden) -> (rows, hidden)`
pub fn geglu(x: &[f32], hidden: usize) -> Vec<f32> {
    let mut y = vec![0.0; x.len() / 2];
    y.par_chunks_mut(hidden).zip(x.par_chunks(2 * hidden)).with_min_len(64).for_each(|(y, x)| {
        let (a, b) = x.split_at(hidden);
        geglu_row(a, b, y);
    });
    y
}

pub fn geglu_gradient(x: &[f32], g: &[f32], hidden: usize) -> Vec<f32> {
    let mut gx = vec![0.0; x.len()];
    let rows = gx.par_chunks_mut(2 * hidden).zip(x.par_chunks(2 * hidden)).zip(g.par_chunks(hidden));
    rows.with_min_len(64).for_each(|((gx, x), g)| {
        let ((a, b), (ga, gb)) = (x.split_at(hidden), gx.split_at_mut(hidden));
        geglu_row_gradient(a, b, g, ga, gb);
    });
    gx
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_right_to_two_units_in_the_last_place() {
        for i in -870_000..880_000 {
            let x = i as f32 * 1e-4;
            let (got, want) = (f64::from(exp(x)), f64::from(x).exp());
            assert!(((got - want) / want).abs() < 2.4e-7, "exp({x}) is {got}, not {want}");
        }
        assert_eq!(exp(f32::NEG_INFINITY), exp(-87.0));
    }

    #[test]
    fn the_normal_cumulative_function_is_right_to_2e_7() {
        for (x, want) in
            [(0.0, 0.5), (1.0, 0.841_344_746), (-2.0, 0.022_750_132), (3.5, 0.999_767_371), (-40.0, 0.0)]
        {
            let got = normal(x).0;
            assert!((f64::from(got) - want).abs() < 2e-7, "at {x}: {got}, not {want}");
        }
    }
}
