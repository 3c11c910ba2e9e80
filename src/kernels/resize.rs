//! Doubling of feature maps `(pictures, h, w, c)`, with gradients.

use rayon::prelude::*;

use super::Shared;
use super::linear::add;

/// Every pixel four times.
pub fn nearest2(x: &[f32], w: usize, c: usize) -> Vec<f32> {
    let mut y = vec![0.0; 4 * x.len()];
    y.par_chunks_mut(4 * w * c).zip(x.par_chunks(w * c)).for_each(|(y, x)| {
        let (top, bottom) = y.split_at_mut(2 * w * c);
        for (pair, pixel) in top.chunks_exact_mut(2 * c).zip(x.chunks_exact(c)) {
            pair[..c].copy_from_slice(pixel);
            pair[c..].copy_from_slice(pixel);
        }
        bottom.copy_from_slice(top);
    });
    y
}

/// The sum over each pixel's four.
pub fn nearest2_gradient(g: &[f32], w: usize, c: usize) -> Vec<f32> {
    let mut gx = vec![0.0; g.len() / 4];
    gx.par_chunks_mut(w * c).zip(g.par_chunks(4 * w * c)).for_each(|(gx, g)| {
        for row in g.chunks_exact(2 * w * c) {
            for (pixel, pair) in gx.chunks_exact_mut(c).zip(row.chunks_exact(2 * c)) {
                add(pixel, &pair[..c]);
                add(pixel, &pair[c..]);
            }
        }
    });
    gx
}

/// Along one dimension of `side` pixels, output 2i is 3/4 of pixel i and 1/4 of the one before, output 2i + 1 of the one
/// behind; at the edges of the pixel itself.
pub(crate) fn neighbour(o: usize, side: usize) -> usize {
    let i = o / 2;
    if o.is_multiple_of(2) { i.saturating_sub(1) } else { (i + 1).min(side - 1) }
}

/// Bilinear, half-pixel centres, edges clamped.
pub fn bilinear2(x: &[f32], h: usize, w: usize, c: usize) -> Vec<f32> {
    join_doubled(x, &[], [h, w, c, 0])
}

/// [`bilinear2`] of `x (pictures, h, w, c)`, and `skip (pictures, 2 h, 2 w, s)` behind its channels; sizes as `[h, w, c, s]`.
pub fn join_doubled(x: &[f32], skip: &[f32], [h, w, c, s]: [usize; 4]) -> Vec<f32> {
    let mut y = vec![0.0; 4 * x.len() + skip.len()];
    let pictures = y.par_chunks_mut(4 * h * w * (c + s)).zip(x.par_chunks(h * w * c)).enumerate();
    pictures.for_each_init(Vec::new, |mixed, (picture, (y, x))| {
        mixed.resize(w * c, 0.0);
        for (o, row) in y.chunks_exact_mut(2 * w * (c + s)).enumerate() {
            let (near, far) = (&x[o / 2 * w * c..][..w * c], &x[neighbour(o, h) * w * c..][..w * c]);
            for ((m, n), f) in mixed.iter_mut().zip(near).zip(far) {
                *m = 0.75 * n + 0.25 * f;
            }
            let skip = &skip[(picture * 2 * h + o) * 2 * w * s..][..2 * w * s];
            for (p, pixel) in row.chunks_exact_mut(c + s).enumerate() {
                let (near, far) = (&mixed[p / 2 * c..][..c], &mixed[neighbour(p, w) * c..][..c]);
                let (doubled, beside) = pixel.split_at_mut(c);
                for i in 0..c {
                    doubled[i] = 0.75 * near[i] + 0.25 * far[i];
                }
                beside.copy_from_slice(&skip[p * s..][..s]);
            }
        }
    });
    y
}

/// The transpose of [`bilinear2`].
pub fn bilinear2_gradient(g: &[f32], h: usize, w: usize, c: usize) -> Vec<f32> {
    join_doubled_gradients(g, [h, w, c, 0]).0
}

/// The gradients of what [`join_doubled`] was given.
pub fn join_doubled_gradients(g: &[f32], [h, w, c, s]: [usize; 4]) -> (Vec<f32>, Vec<f32>) {
    let pictures = g.len() / (4 * h * w * (c + s));
    let (mut gx, mut gskip) = (vec![0.0; pictures * h * w * c], vec![0.0; pictures * 4 * h * w * s]);
    let skips = Shared::new(&mut gskip);
    let pictures = gx.par_chunks_mut(h * w * c).zip(g.par_chunks(4 * h * w * (c + s))).enumerate();
    pictures.for_each_init(Vec::new, |mixed, (picture, (gx, g))| {
        // SAFETY: each picture's are its own.
        let mut gskip = unsafe { skips.from(picture * 4 * h * w * s) };
        for (o, row) in g.chunks_exact(2 * w * (c + s)).enumerate() {
            mixed.clear();
            mixed.resize(w * c, 0.0f32);
            let gskip = gskip.slice(o * 2 * w * s, 2 * w * s);
            for (p, pixel) in row.chunks_exact(c + s).enumerate() {
                let (doubled, beside) = pixel.split_at(c);
                for (share, to) in [(0.75, p / 2), (0.25, neighbour(p, w))] {
                    for (m, v) in mixed[to * c..][..c].iter_mut().zip(doubled) {
                        *m += share * v;
                    }
                }
                gskip[p * s..][..s].copy_from_slice(beside);
            }
            for (share, to) in [(0.75, o / 2), (0.25, neighbour(o, h))] {
                for (t, m) in gx[to * w * c..][..w * c].iter_mut().zip(&*mixed) {
                    *t += share * m;
                }
            }
        }
    });
    (gx, gskip)
}
