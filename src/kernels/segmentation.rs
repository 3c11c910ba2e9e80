//! The losses of a labeler, with their gradient: cross entropy and soft Jaccard distance of class scores, in two passes over them
//! where candle's own operations take some thirty.

use rayon::prelude::*;

use super::pointwise::exp;

/// Pixels of one task.
const BLOCK: usize = 4096;

super::vectorised! {
    /// Probabilities `(pixels, n)` of `scores`, and of each pixel the logarithm of the sum of the scores' exponentials.
    fn softmax(scores: &[f32], n: usize, chances: &mut [f32], logs: &mut [f32]) {
        for ((c, s), log) in chances.chunks_exact_mut(n).zip(scores.chunks_exact(n)).zip(&mut *logs) {
            *log = s.iter().fold(f32::NEG_INFINITY, |m, &v| m.max(v));
            for (c, s) in c.iter_mut().zip(s) {
                *c = s - *log;
            }
        }
        for c in &mut *chances {
            *c = exp(*c);
        }
        for (c, log) in chances.chunks_exact_mut(n).zip(logs) {
            let sum: f32 = c.iter().sum();
            for c in c {
                *c /= sum;
            }
            *log += sum.ln();
        }
    }
}

/// Sums over pixels that both losses are made of.
#[derive(Clone)]
struct Sums {
    entropy: f64,
    /// By class: how much of it there is, how much is proposed, and how much of both.
    there: Vec<f64>,
    proposed: Vec<f64>,
    both: Vec<f64>,
}

impl Sums {
    fn new(n: usize) -> Self {
        Self { entropy: 0.0, there: vec![0.0; n], proposed: vec![0.0; n], both: vec![0.0; n] }
    }

    fn of(scores: &[f32], onehot: &[f32], n: usize) -> Self {
        let part = |(scores, onehot): (&[f32], &[f32])| {
            let (mut chances, mut logs) = (vec![0.0; scores.len()], vec![0.0; scores.len() / n]);
            softmax(scores, n, &mut chances, &mut logs);
            let mut sums = Self::new(n);
            let pixels = scores.chunks_exact(n).zip(onehot.chunks_exact(n)).zip(chances.chunks_exact(n));
            for (((s, y), p), log) in pixels.zip(logs) {
                let mut entropy = 0.0;
                for c in 0..n {
                    entropy += y[c] * (log - s[c]);
                    sums.there[c] += f64::from(y[c]);
                    sums.proposed[c] += f64::from(p[c]);
                    sums.both[c] += f64::from(y[c] * p[c]);
                }
                sums.entropy += f64::from(entropy);
            }
            sums
        };
        let parts: Vec<Self> =
            scores.par_chunks(BLOCK * n).zip(onehot.par_chunks(BLOCK * n)).map(part).collect();
        let mut all = Self::new(n);
        for part in parts {
            all.entropy += part.entropy;
            for (all, part) in
                [(&mut all.there, part.there), (&mut all.proposed, part.proposed), (&mut all.both, part.both)]
            {
                all.iter_mut().zip(part).for_each(|(all, part)| *all += part);
            }
        }
        all
    }

    /// What each class weighs in the distance; together one.
    fn weights(&self) -> Vec<f64> {
        let weights: Vec<f64> = self.there.iter().map(|there| there / (there + 1.0)).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|w| w / sum).collect()
    }

    fn either(&self, class: usize) -> f64 {
        self.there[class] + self.proposed[class] - self.both[class] + 1e-6
    }
}

/// Mean cross entropy of `scores (pixels, n)` with `onehot`, and the soft Jaccard distance over all pixels together, as
/// `cross_entropy` and `jaccard` in `train/labeler.rs` define them.
pub fn losses(scores: &[f32], onehot: &[f32], n: usize) -> [f32; 2] {
    let sums = Sums::of(scores, onehot, n);
    let weights = sums.weights();
    let iou: f64 = (0..n).map(|c| weights[c] * sums.both[c] / sums.either(c)).sum();
    [(sums.entropy / (scores.len() / n) as f64) as f32, (1.0 - iou) as f32]
}

/// The gradient of `scores`, where that of the two [`losses`] is `g`.
pub fn gradient(scores: &[f32], onehot: &[f32], n: usize, g: [f32; 2]) -> Vec<f32> {
    let sums = Sums::of(scores, onehot, n);
    let weights = sums.weights();
    // Of a probability p with the truth y: both changes by y, either by 1 - y.
    let slope = |c: usize| -f64::from(g[1]) * weights[c] / sums.either(c);
    let on_truth: Vec<f32> =
        (0..n).map(|c| (slope(c) * (1.0 + sums.both[c] / sums.either(c))) as f32).collect();
    let constant: Vec<f32> = (0..n).map(|c| (-slope(c) * sums.both[c] / sums.either(c)) as f32).collect();
    let entropy = g[0] / (scores.len() / n) as f32;
    let mut gradient = vec![0.0; scores.len()];
    let blocks = gradient.par_chunks_mut(BLOCK * n).zip(scores.par_chunks(BLOCK * n));
    blocks.zip(onehot.par_chunks(BLOCK * n)).for_each_init(Vec::new, |logs, ((gradient, scores), onehot)| {
        logs.resize(scores.len() / n, 0.0);
        softmax(scores, n, gradient, logs);
        through(gradient, onehot, &on_truth, &constant, entropy);
    });
    gradient
}

super::vectorised! {
    /// Replaces probabilities by the gradient of their scores.
    fn through(chances: &mut [f32], onehot: &[f32], on_truth: &[f32], constant: &[f32], entropy: f32) {
        let n = on_truth.len();
        for (p, y) in chances.chunks_exact_mut(n).zip(onehot.chunks_exact(n)) {
            let (mut mean, mut all) = (0.0, 0.0);
            for c in 0..n {
                mean += p[c] * (y[c] * on_truth[c] + constant[c]);
                all += y[c];
            }
            for c in 0..n {
                p[c] = p[c] * (y[c] * on_truth[c] + constant[c] - mean) + entropy * (p[c] * all - y[c]);
            }
        }
    }
}
