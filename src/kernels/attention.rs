//! Multi-head attention on `(batch, length, heads width)` as it lies, a tile of queries at a time: the whole score matrix
//! never exists.

use rayon::prelude::*;

use super::pointwise::exp;
use super::{Shared, View, multiply};

/// `q (batch, queries, heads width)`, `k, v (batch, keys, heads width)`.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub batch: usize,
    pub queries: usize,
    pub keys: usize,
    pub heads: usize,
    pub width: usize,
}

impl Shape {
    fn inner(&self) -> usize {
        self.heads * self.width
    }

    fn scale(&self) -> f32 {
        (self.width as f32).powf(-0.5)
    }

    /// Queries whose scores are held at once: about half a megabyte of them.
    fn tile(&self) -> usize {
        (131_072 / self.keys).clamp(64, 4096)
    }

    /// Where head `h` of query `l` and of key 0 of picture `b` begin.
    fn query(&self, b: usize, h: usize, l: usize) -> usize {
        (b * self.queries + l) * self.inner() + h * self.width
    }

    fn key(&self, b: usize, h: usize) -> usize {
        b * self.keys * self.inner() + h * self.width
    }

    /// Softmax of the scores of `count` queries from `l` on.
    fn probabilities(
        &self,
        q: &[f32],
        k: &[f32],
        (b, h, l): (usize, usize, usize),
        p: &mut Vec<f32>,
    ) -> usize {
        let (inner, count) = (self.inner(), self.tile().min(self.queries - l));
        p.resize(count * self.keys, 0.0);
        let q = View::rows(&q[self.query(b, h, l)..], inner);
        let k = View::rows(&k[self.key(b, h)..], inner).transposed();
        multiply(
            (count, self.keys, self.width),
            &mut p.as_mut_slice().into(),
            self.keys,
            false,
            self.scale(),
            q,
            k,
        );
        softmax(p, self.keys);
        count
    }
}

super::vectorised! {
    fn softmax(x: &mut [f32], keys: usize) {
        for row in x.chunks_exact_mut(keys) {
            let mut largest = [f32::NEG_INFINITY; 8];
            for eight in row.chunks(8) {
                for (l, v) in largest.iter_mut().zip(eight) {
                    *l = if *v > *l { *v } else { *l };
                }
            }
            let largest = largest.into_iter().fold(f32::NEG_INFINITY, f32::max);
            let mut sums = [0.0f32; 8];
            for eight in row.chunks_mut(8) {
                for (s, v) in sums.iter_mut().zip(eight) {
                    *v = exp(*v - largest);
                    *s += *v;
                }
            }
            let inverse = 1.0 / sums.iter().sum::<f32>();
            for v in row {
                *v *= inverse;
            }
        }
    }
}

pub fn forward(s: &Shape, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
    let (inner, tiles) = (s.inner(), s.queries.div_ceil(s.tile()));
    let mut y = vec![0.0; q.len()];
    let out = Shared::new(&mut y);
    (0..s.batch * s.heads * tiles).into_par_iter().for_each_init(Vec::new, |p, task| {
        let (b, h, l) = (task / tiles / s.heads, task / tiles % s.heads, task % tiles * s.tile());
        let count = s.probabilities(q, k, (b, h, l), p);
        // SAFETY: each task has the channels of one head at its own queries.
        let mut out = unsafe { out.from(s.query(b, h, l)) };
        let v = View::rows(&v[s.key(b, h)..], inner);
        multiply((count, s.width, s.keys), &mut out, inner, false, 1.0, View::rows(p, s.keys), v);
    });
    y
}

super::vectorised! {
    /// From probabilities and the gradient of them to the gradient of the scores, in place of the latter.
    fn softmax_gradient(p: &[f32], g: &mut [f32], keys: usize) {
        for (p, g) in p.chunks_exact(keys).zip(g.chunks_exact_mut(keys)) {
            let dot: f32 = p.iter().zip(&*g).map(|(p, g)| p * g).sum();
            for (p, g) in p.iter().zip(g) {
                *g = p * (*g - dot);
            }
        }
    }
}

/// The gradients of q, k and v.
pub fn backward(s: &Shape, q: &[f32], k: &[f32], v: &[f32], g: &[f32]) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let (inner, keys, width) = (s.inner(), s.keys, s.width);
    let (mut gq, mut gk, mut gv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
    let (out_q, out_k, out_v) = (Shared::new(&mut gq), Shared::new(&mut gk), Shared::new(&mut gv));
    (0..s.batch * s.heads).into_par_iter().for_each_init(
        || (Vec::new(), Vec::new()),
        |(p, gp), task| {
            let (b, h) = (task / s.heads, task % s.heads);
            let at = s.key(b, h);
            // SAFETY: each task has the channels of one head of one picture.
            let (mut gk, mut gv) = unsafe { (out_k.from(at), out_v.from(at)) };
            for l in (0..s.queries).step_by(s.tile()) {
                let count = s.probabilities(q, k, (b, h, l), p);
                let g = View::rows(&g[s.query(b, h, l)..], inner);
                let p_view = View::rows(p, keys);
                multiply((keys, width, count), &mut gv, inner, true, 1.0, p_view.transposed(), g);
                gp.resize(count * keys, 0.0);
                let v = View::rows(&v[at..], inner).transposed();
                multiply((count, keys, width), &mut gp.as_mut_slice().into(), keys, false, 1.0, g, v);
                softmax_gradient(p, gp, keys);
                // SAFETY: as above.
                let mut gq = unsafe { out_q.from(s.query(b, h, l)) };
                let gp = View::rows(gp, keys);
                let k = View::rows(&k[at..], inner);
                multiply((count, width, keys), &mut gq, inner, false, s.scale(), gp, k);
                let q = View::rows(&q[s.query(b, h, l)..], inner);
                multiply((keys, width, count), &mut gk, inner, true, s.scale(), gp.transposed(), q);
            }
        },
    );
    (gq, gk, gv)
}
