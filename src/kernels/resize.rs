//! Doubling of feature maps `(pictures, h, w, c)`, with gradients.

use rayon::prelude::*;

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
    let mut y = vec![0.0; 4 * x.len()];
    y.par_chunks_mut(4 * h * w * c).zip(x.par_chunks(h * w * c)).for_each_init(Vec::new, |mixed, (y, x)| {
        mixed.resize(w * c, 0.0);
        for (o, row) in y.chunks_exact_mut(2 * w * c).enumerate() {
            let (near, far) = (&x[o / 2 * w * c..][..w * c], &x[neighbour(o, h) * w * c..][..w * c]);
            for ((m, n), f) in mixed.iter_mut().zip(near).zip(far) {
                *m = 0.75 * n + 0.25 * f;
            }
            for (p, pixel) in row.chunks_exact_mut(c).enumerate() {
                let (near, far) = (&mixed[p / 2 * c..][..c], &mixed[neighbour(p, w) * c..][..c]);
                for i in 0..c {
                    pixel[i] = 0.75 * near[i] + 0.25 * far[i];
                }
            }
        }
    });
    y
}

/// The transpose of [`bilinear2`].
pub fn bilinear2_gradient(g: &[f32], h: usize, w: usize, c: usize) -> Vec<f32> {
    let mut gx = vec![0.0; g.len() / 4];
    gx.par_chunks_mut(h * w * c).zip(g.par_chunks(4 * h * w * c)).for_each_init(
        Vec::new,
        |mixed, (gx, g)| {
            for (o, row) in g.chunks_exact(2 * w * c).enumerate() {
                mixed.clear();
                mixed.resize(w * c, 0.0f32);
                for (p, pixel) in row.chunks_exact(c).enumerate() {
                    for (share, to) in [(0.75, p / 2), (0.25, neighbour(p, w))] {
                        for (m, v) in mixed[to * c..][..c].iter_mut().zip(pixel) {
                            *m += share * v;
                        }
                    }
                }
                for (share, to) in [(0.75, o / 2), (0.25, neighbour(o, h))] {
                    for (t, m) in gx[to * w * c..][..w * c].iter_mut().zip(&*mixed) {
                        *t += share * m;
                    }
                }
            }
        },
    );
    gx
}
