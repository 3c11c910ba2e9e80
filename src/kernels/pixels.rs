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
