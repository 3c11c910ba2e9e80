//! The parts of the prepared forms as benchmarks run them: each with made-up values, ready to be run over and over on one thread
//! (attention on all).

use super::matrix::{Panels, Rows, Start, product as multiply};
use super::simd::Level;
use super::strassen::Halved;
use super::window::{BilinearConv3, Conv3, Spread, Strip};
use super::{Lines, Shared, View, pixels, rows};
use crate::progress::Progress;

fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 7919 % 2003) as f32 / 1001.0 - 1.0).collect()
}

/// `(rows, k)` times `(k, n)`, panel by panel as the feed-forward does it.
pub fn product(level: Level, rows: usize, k: usize, n: usize) -> impl FnMut() {
    let (a, b) = (values(rows * k), values(k * n));
    let panels = Panels::pack(level, k, n, View::rows(&b, n));
    let width = panels.width();
    let (mut out, mut buffer) = (Lines::zeros(rows * width), Lines::new());
    move || {
        let a = Rows::new(&a, k).lowered(level, rows, k, &mut buffer);
        for p in 0..panels.len() {
            let mut out = (&mut *out).into();
            multiply(rows, a, panels.panel(p), Start::Zero, &mut out, width);
        }
    }
}

/// As [`product`], by halves; `n` is a multiple of four registers' width.
pub fn halved(level: Level, rows: usize, k: usize, n: usize) -> impl FnMut() {
    let level = level.exact();
    let (a, b) = (values(rows * k), values(k * n));
    let right = Halved::pack_columns(level, k, n, View::rows(&b, n), Some);
    let (mut out, mut buffer) = (Lines::zeros(right.room(rows)), Lines::new());
    move || {
        let left = right.left(&a, k, rows, &mut buffer);
        for pair in 0..n / (4 * level.lanes()) {
            right.product(&left, pair, &[], &mut out);
        }
    }
}

/// A 3x3 convolution of `rows` rows of `width` pixels; `doubled`: behind nearest doubling.
pub fn convolution(
    level: Level,
    (rows, width): (usize, usize),
    inputs: usize,
    outputs: usize,
    doubled: bool,
) -> impl FnMut() {
    let conv = Conv3::new(level, &values(outputs * inputs * 9), inputs, outputs, 1, doubled);
    let padded = values((rows + 2) * (width + 2) * inputs);
    let mut out = vec![0.0; rows * width * outputs * if doubled { 4 } else { 1 }];
    move || {
        let out = Shared::new(&mut out);
        // SAFETY: the buffer is this call's own.
        unsafe { conv.strip(&padded, rows, width, Start::Zero, &out, 0) };
    }
}

/// A 3x3 convolution behind bilinear doubling, of a strip inside a picture.
pub fn convolution_bilinear(
    level: Level,
    (rows, width): (usize, usize),
    inputs: usize,
    outputs: usize,
) -> impl FnMut() {
    let conv = BilinearConv3::new(level, &values(outputs * inputs * 9), inputs, outputs);
    let small = values((rows + 2) * (width + 2) * inputs);
    let bias = values(2 * width * outputs);
    let strip = Strip { rows, width, top: false, bottom: false };
    let (mut out, mut buffers) = (vec![0.0; 4 * rows * width * outputs], Spread::default());
    move || conv.strip(level, &small, strip, &bias, &mut buffers, &mut out.as_mut_slice().into())
}

/// Self-attention of `pixels`.
pub fn attention(level: Level, pixels: usize, heads: usize, width: usize) -> impl FnMut() {
    let input = values(pixels * 3 * heads * width);
    let mut qkv = input.clone();
    move || {
        qkv.copy_from_slice(&input);
        pixels::attention(level, &mut qkv, heads, width, Progress::NONE).expect("nobody stops it");
    }
}

/// GEGLU of a panel behind its product.
pub fn geglu(level: Level, rows: usize) -> impl FnMut() {
    let lanes = level.lanes();
    let (g, scale, bias) = (values(rows * 2 * lanes), values(rows), values(2 * lanes));
    let mut h = vec![0.0; rows * lanes];
    move || rows::geglu(level, &g, &scale, &bias, &mut h, lanes, lanes)
}
