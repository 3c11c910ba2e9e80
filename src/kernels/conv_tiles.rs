//! Convolutions and their gradients with factors rounded to bfloat16, through tiles: what training takes for `--precision bf16`.
//!
//! A picture is rounded once, and windows are copied out of that, half as many bytes as in f32 and with nothing left to do for the
//! tiles. Sums are of f32.

use rayon::prelude::*;

use super::conv::{Shape, transpose};
use super::matrix::{Panels, Rows, Start, product};
use super::simd::Level;
use super::{Lines, Shared, Target, View, tiles};

const LEVEL: Level = Level::Amx;

/// Whether a convolution is large enough for what laying it out costs.
pub(super) fn pays(s: &Shape) -> bool {
    let work = s.batch * s.out_pixels() * s.outputs * s.window();
    LEVEL.is_available() && s.outputs >= 16 && s.window() >= 96 && work >= 1 << 20
}

/// `x` rounded, as it lies; `buffer` is this thread's.
fn rounded<'a>(x: &[f32], buffer: &'a mut Lines) -> &'a [u16] {
    let out = buffer.room(tiles::depth(x.len()));
    tiles::lower(1, 1, x.len(), x, x.len(), out, 0);
    &bytemuck::cast_slice(out)[..x.len()]
}

/// This thread's buffers.
#[derive(Default)]
pub(super) struct Scratch {
    picture: Lines,
    windows: Lines,
    transposed: Vec<f32>,
    rows: Lines,
    panels: Lines,
}

/// The windows of `count` output pixels from `start` on as rows for tiles, and elements from one row to the next.
fn rows<'a>(s: &Shape, picture: &[u16], (start, count): (usize, usize), windows: &'a mut Lines) -> Rows<'a> {
    // Whole tiles are read. Rows an odd number of lines apart do not push each other out of L1.
    let row = ((tiles::depth(s.window()) / tiles::SIDE) | 1) * tiles::SIDE;
    let all = windows.room(count.next_multiple_of(tiles::SIDE) * row);
    s.gather(picture, start, 2 * row, bytemuck::cast_slice_mut(&mut all[..count * row]));
    Rows { data: all, row, segments: 1, step: 0, lowered: Some(LEVEL) }
}

/// [`conv::forward`](super::conv::forward) with packed weights.
pub(super) fn convolve(s: &Shape, x: &[f32], packed: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let (window, pixels, outputs) = (s.window(), s.out_pixels(), s.outputs);
    let block = s.block();
    let blocks = pixels.div_ceil(block);
    let weights: Vec<_> = packed
        .chunks_exact(window * outputs)
        .map(|group| Panels::pack(LEVEL, window, outputs, View::rows(group, outputs)))
        .collect();
    let mut y = vec![0.0; s.groups * s.batch * pixels * outputs];
    let out = Shared::new(&mut y);
    (0..s.groups * s.batch).into_par_iter().for_each_init(Scratch::default, |scratch, picture| {
        let group = picture / s.batch;
        let start = bias.map_or(Start::Zero, |bias| Start::Bias(&bias[group * outputs..][..outputs]));
        let rounded = rounded(&x[picture * s.in_size()..][..s.in_size()], &mut scratch.picture);
        for first in (0..blocks).map(|i| i * block) {
            let count = block.min(pixels - first);
            let rows = rows(s, rounded, (first, count), &mut scratch.windows);
            // SAFETY: each picture has results of its own.
            let mut out = unsafe { out.from((picture * pixels + first) * outputs) };
            product(count, rows, weights[group].as_ref(), start, &mut out, outputs);
        }
    });
    y
}

/// The gradient of `x` where strides leave gaps between windows.
pub(super) fn input_gradient(s: &Shape, g: &[f32], packed: &[f32]) -> Vec<f32> {
    let (window, pixels, block, outputs) = (s.window(), s.out_pixels(), s.block(), s.outputs);
    let weights: Vec<_> = packed
        .chunks_exact(window * outputs)
        .map(|group| Panels::pack(LEVEL, outputs, window, View::rows(group, outputs).transposed()))
        .collect();
    let mut gx = vec![0.0; s.groups * s.batch * s.in_size()];
    let pictures = gx.par_chunks_mut(s.in_size()).enumerate();
    pictures.for_each_init(Vec::new, |windows, (picture, gx)| {
        for start in (0..pixels).step_by(block) {
            let count = block.min(pixels - start);
            windows.resize(count * window, 0.0);
            let g = Rows::new(&g[(picture * pixels + start) * outputs..], outputs);
            let mut out = Target::from(windows.as_mut_slice());
            product(count, g, weights[picture / s.batch].as_ref(), Start::Zero, &mut out, window);
            s.scatter(windows, start, gx);
        }
    });
    gx
}

/// Sums over the output pixels of `s` of each of the pixel's `others` (`s.outputs` of them) times each element of the window in
/// `picture`: `(outputs, window)`.
pub(super) fn products(s: &Shape, picture: &[f32], others: &[f32], scratch: &mut Scratch) -> Vec<f32> {
    let (window, pixels, block, outputs) = (s.window(), s.out_pixels(), s.block(), s.outputs);
    let mut sums = vec![0.0; outputs * window];
    let picture = rounded(picture, &mut scratch.picture);
    for start in (0..pixels).step_by(block) {
        let count = block.min(pixels - start);
        let row = window.next_multiple_of(2);
        let windows: &mut [u16] = bytemuck::cast_slice_mut(scratch.windows.room(count * row / 2));
        let windows = &mut windows[..count * row];
        s.gather(picture, start, row, windows);
        let panels = tiles::panels_of_rows(count, window, windows, row, &mut scratch.panels);
        scratch.transposed.resize(count * outputs, 0.0);
        transpose(&others[start * outputs..][..count * outputs], outputs, &mut scratch.transposed);
        let a = Rows::new(&scratch.transposed, count).lowered(LEVEL, outputs, count, &mut scratch.rows);
        product(outputs, a, panels, Start::Keep, &mut sums.as_mut_slice().into(), window);
    }
    sums
}
