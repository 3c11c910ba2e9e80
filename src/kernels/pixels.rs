//! Self-attention, pixels to pixels: a tile of queries against a block of keys at a time, with the softmax brought along
//! (Milakov and Gimelshein, Online normalizer calculation for softmax, 2018; tiled as in Dao et al., FlashAttention, 2022). No
//! score exists for longer than its block.

use super::matrix::{Panels, Rows, Start, product};
use super::share::share;
use super::simd::Level;
use super::{Lines, Shared, View, rows};
use crate::Result;
use crate::progress::Progress;

/// Keys of one block: their scores with a tile of queries stay in L2.
const KEYS: usize = 256;

/// `qkv (pixels, 3 heads width)`, each pixel's query, key and value: the result takes the queries' place. The queries are
/// scaled by `log2(e) / sqrt(width)` already.
pub(crate) fn attention(
    level: Level,
    qkv: &mut [f32],
    heads: usize,
    width: usize,
    progress: Progress,
) -> Result<()> {
    let inner = heads * width;
    let row = 3 * inner;
    let pixels = qkv.len() / row;
    let blocks = pixels.div_ceil(KEYS);
    let packed: Vec<(Panels, Panels)> = super::share::share_map(
        heads * blocks,
        progress.part(0.0, 0.05),
        || (),
        |(), task| {
            let (head, first) = (task / blocks, task % blocks * KEYS);
            let count = KEYS.min(pixels - first);
            let at = |part: usize| &qkv[first * row + part * inner + head * width..];
            let keys = View { data: at(1), row: 1, column: row };
            (
                Panels::pack(level, width, count, keys),
                Panels::pack(level, count, width, View::rows(at(2), row)),
            )
        },
    )?;
    // Queries of one tile: whole blocks of the registers, or whole tiles.
    let tiles = pixels.div_ceil(if level.tiles() { 128 } else { 112 });
    // As many queries in every tile, but for the last.
    let tile = pixels.div_ceil(tiles);
    let out = Shared::new(qkv);
    let scratch = || {
        (
            Lines::zeros(tile * KEYS.min(pixels)),
            Lines::zeros(tile * width),
            Lines::zeros(tile),
            Lines::zeros(tile),
            Lines::zeros(tile * width),
            Lines::new(),
        )
    };
    share(
        heads * tiles,
        progress.part(0.05, 1.0),
        scratch,
        |(scores, sum, largest, totals, queries, lowered), task| {
            let (head, first) = (task / tiles, task % tiles * tile);
            let Some(count) = pixels.checked_sub(first).map(|left| left.min(tile)).filter(|n| *n > 0) else {
                return;
            };
            let (largest, totals) = (&mut largest[..count], &mut totals[..count]);
            largest.fill(f32::MIN);
            totals.fill(0.0);
            sum.fill(0.0);
            // SAFETY: each task has the queries of one head and of pixels of its own; keys and values were copied.
            let query = |r: usize| unsafe { out.from((first + r) * row + head * width) };
            for (r, to) in queries.chunks_exact_mut(width).take(count).enumerate() {
                to.copy_from_slice(query(r).slice(0, width));
            }
            let queries = Rows::new(queries, width).lowered(level, count, width, lowered);
            for (keys, values) in &packed[head * blocks..][..blocks] {
                let n = keys.columns();
                product(count, queries, keys.as_ref(), Start::Zero, &mut (&mut **scores).into(), n);
                rows::online_softmax(level, scores, n, largest, totals, sum, width);
                let p = Rows::new(scores, n);
                product(count, p, values.as_ref(), Start::Keep, &mut (&mut **sum).into(), width);
            }
            for (r, total) in totals.iter().enumerate() {
                let mut out = query(r);
                let inverse = 1.0 / total;
                for (y, s) in out.slice(0, width).iter_mut().zip(&sum[r * width..][..width]) {
                    *y = s * inverse;
                }
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::values;

    /// Up to three blocks of keys, the last of them short, and tiles of queries that are no whole blocks; the largest scores come late.
    #[test]
    fn attention_is_the_softmax_of_all_scores_however_they_are_cut_into_blocks() {
        for (pixels, heads, width) in
            [(1, 1, 1), (5, 2, 3), (47, 3, 16), (130, 2, 20), (256, 1, 4), (300, 1, 32), (520, 1, 8)]
        {
            let (inner, row) = (heads * width, 3 * heads * width);
            let mut qkv = values(pixels * row, pixels);
            let scale = std::f32::consts::LOG2_E / (width as f32).sqrt();
            for (pixel, values) in qkv.chunks_exact_mut(row).enumerate() {
                values[..inner].iter_mut().for_each(|q| *q *= scale);
                values[inner..2 * inner].iter_mut().for_each(|k| *k *= 1.0 + pixel as f32 / 128.0);
            }
            let results: Vec<(Level, Vec<f32>)> = Level::all()
                .into_iter()
                .map(|level| {
                    let mut qkv = qkv.clone();
                    attention(level, &mut qkv, heads, width, Progress::NONE).unwrap();
                    (level, qkv)
                })
                .collect();
            for (pixel, head) in (0..pixels).flat_map(|p| (0..heads).map(move |h| (p, h))) {
                let at =
                    |pixel: usize, part: usize| &qkv[pixel * row + part * inner + head * width..][..width];
                let score = |key: usize| {
                    let terms =
                        at(pixel, 0).iter().zip(at(key, 1)).map(|(q, k)| f64::from(*q) * f64::from(*k));
                    terms.fold((0.0f64, 1.0f64), |(sum, size), t| (sum + t, size + t.abs()))
                };
                let scores: Vec<_> = (0..pixels).map(score).collect();
                let largest = scores.iter().fold(f64::MIN, |m, s| m.max(s.0));
                let size_of_scores = scores.iter().fold(0.0f64, |m, s| m.max(s.1));
                let shares: Vec<f64> = scores.iter().map(|s| (s.0 - largest).exp2()).collect();
                let total: f64 = shares.iter().sum();
                for c in 0..width {
                    let terms = (0..pixels).map(|key| shares[key] / total * f64::from(at(key, 2)[c]));
                    let (want, size) = terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()));
                    for (level, got) in &results {
                        let got = f64::from(got[pixel * row + head * width + c]);
                        // What the product of queries and keys may err by is a factor of every share and of their total; 2^x and the
                        // total's roundings; the product with the values, of sums of 1 and more that are then divided by the total.
                        let tolerance = level.tolerance();
                        let factor = 2.0 * std::f64::consts::LN_2 * tolerance * size_of_scores;
                        let far = (factor.exp_m1() + 2e-6) * size + tolerance * (1.0 + size);
                        assert!(
                            (got - want).abs() <= far,
                            "{level:?}, {pixels} pixels, head {head} of {heads}, at {pixel}, {c}: {got}, not {want}"
                        );
                    }
                }
            }
            for (level, got) in &results {
                for (got, before) in got.chunks_exact(row).zip(qkv.chunks_exact(row)) {
                    assert_eq!(got[inner..], before[inner..], "{level:?}: keys and values stay as they are");
                }
            }
        }
    }
}
