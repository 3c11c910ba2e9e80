//! What pixels of one colour say of each other, however far apart: the mean field of a fully connected conditional random field
//! (Krähenbühl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", 2011). A labeler takes one
//! corner of a cloth for cloth and another for the table that it lies on; their colour is one.
//!
//! A pixel hears the mean of all, by weights that fall with distance and with difference of colour as a Gaussian does. As
//! `-|a - b|²/2` is `a·b - |b|²/2` and what is a's alone, these are the weights of an attention, by whose kernel it is done.

use crate::image::RgbImage;
use crate::kernels::attention::{self, Shape};

/// Standard deviation of the weights over distance, in sides of a square of the picture's area.
const NEAR: f32 = 0.3;

/// Standard deviation of the weights over RGB in [0, 1].
const ALIKE: f32 = 0.05;

/// What the mean counts: the most that it adds to the logarithm of a probability.
const TRUST: f32 = 2.5;

/// How often the pixels hear each other.
const ROUNDS: usize = 2;

/// Probabilities are told apart down to this.
pub(super) const LEAST: f32 = 1e-4;

/// Channels of a pixel's place and colour, and one for what the kernel's softmax takes off.
const FEATURES: usize = 6;

/// `chances`, the probabilities of `classes` classes at each pixel of `picture`, to what is to be added to their logarithms.
pub(super) fn settle(chances: &[f32], classes: usize, picture: &RgbImage) -> Vec<f32> {
    let (width, pixels) = (picture.width, picture.width * picture.height);
    let shape = Shape { batch: 1, queries: pixels, keys: pixels, heads: 1, width: classes.max(FEATURES) };
    let d = shape.width;
    let (mut q, mut k, mut v) = (vec![0.0; pixels * d], vec![0.0; pixels * d], vec![0.0; pixels * d]);
    let reach = NEAR * (pixels as f32).sqrt();
    // The kernel divides by it.
    let root = (d as f32).sqrt();
    let colours = picture.pixels.chunks_exact(3);
    for (i, ((q, k), rgb)) in q.chunks_exact_mut(d).zip(k.chunks_exact_mut(d)).zip(colours).enumerate() {
        let place = [i % width, i / width].map(|at| at as f32 / reach);
        let colour = [rgb[0], rgb[1], rgb[2]].map(|v| (v - 0.5) / ALIKE);
        for (c, feature) in place.into_iter().chain(colour).enumerate() {
            (q[c], k[c]) = (feature * root, feature);
        }
        let length: f32 = k[..FEATURES - 1].iter().map(|x| x * x).sum();
        (q[FEATURES - 1], k[FEATURES - 1]) = (root, length / -2.0);
    }
    let logs: Vec<f32> = chances.iter().map(|chance| (chance + LEAST).ln()).collect();
    let mut settled = chances.to_vec();
    for _ in 0..ROUNDS {
        for (v, settled) in v.chunks_exact_mut(d).zip(settled.chunks_exact(classes)) {
            v[..classes].copy_from_slice(settled);
        }
        let heard = attention::forward(&shape, &q, &k, &v);
        let each = settled.chunks_exact_mut(classes).zip(logs.chunks_exact(classes));
        for ((settled, logs), heard) in each.zip(heard.chunks_exact(d)) {
            for ((settled, log), heard) in settled.iter_mut().zip(logs).zip(heard) {
                *settled = log + TRUST * heard;
            }
            let most = settled.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            settled.iter_mut().for_each(|v| *v = (*v - most).exp());
            let sum: f32 = settled.iter().sum();
            settled.iter_mut().for_each(|v| *v /= sum);
        }
    }
    settled.iter().zip(&logs).map(|(settled, log)| (settled + LEAST).ln() - log).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 32;

    /// The left half red, the right half blue, and 0.9 for the class of each half but where `doubted` says: 0.4 there.
    fn halves(doubted: impl Fn(usize, usize) -> bool) -> (RgbImage, Vec<f32>) {
        let at = (0..SIDE * SIDE).map(|i| (i % SIDE, i / SIDE));
        let colour = |(x, _)| if x < SIDE / 2 { [0.8, 0.2, 0.2] } else { [0.2, 0.2, 0.8] };
        let pixels = at.clone().flat_map(colour).collect();
        let chances = at.flat_map(|(x, y)| {
            let right = if doubted(x, y) { 0.4 } else { 0.9 };
            if x < SIDE / 2 { [right, 1.0 - right] } else { [1.0 - right, right] }
        });
        (RgbImage { width: SIDE, height: SIDE, pixels }, chances.collect())
    }

    /// The likelier class of each pixel, settled.
    fn classes(chances: &[f32], picture: &RgbImage) -> Vec<usize> {
        let more = settle(chances, 2, picture);
        let scores: Vec<f32> = chances.iter().zip(&more).map(|(c, more)| (c + LEAST).ln() + more).collect();
        scores.chunks_exact(2).map(|s| usize::from(s[1] > s[0])).collect()
    }

    #[test]
    fn a_doubted_corner_of_a_surface_follows_the_rest_of_its_colour() {
        let (picture, chances) = halves(|x, y| x < 10 && y < 10);
        assert!(chances[0] < chances[1]);
        let right: Vec<usize> = (0..SIDE * SIDE).map(|i| usize::from(i % SIDE >= SIDE / 2)).collect();
        assert_eq!(classes(&chances, &picture), right);
    }

    #[test]
    fn colours_do_not_hear_each_other() {
        // All red is doubted: nobody of its colour knows better, and blue, that does, is not asked.
        let (picture, chances) = halves(|x, _| x < SIDE / 2);
        assert_eq!(classes(&chances, &picture), vec![1; SIDE * SIDE]);
    }

    #[test]
    fn weights_are_those_of_gaussians() {
        // By the definition, one round by hand where two pixels are all there is.
        let (a, b) = ([0.5, 0.5, 0.5], [0.52, 0.5, 0.47]);
        let picture = RgbImage { width: 2, height: 1, pixels: [a, b].concat() };
        let chances = [0.7, 0.3, 0.2, 0.8];
        let reach = NEAR * 2.0f32.sqrt();
        let apart = (1.0 / reach).powi(2) + (0.02f32.powi(2) + 0.03f32.powi(2)) / (ALIKE * ALIKE);
        let other = (-apart / 2.0).exp();
        let mut settled = chances;
        for _ in 0..ROUNDS {
            let heard = |own: usize, c: usize| {
                (settled[own * 2 + c] + other * settled[(1 - own) * 2 + c]) / (1.0 + other)
            };
            let raw: Vec<f32> =
                (0..4).map(|i| (chances[i] + LEAST) * (TRUST * heard(i / 2, i % 2)).exp()).collect();
            settled = std::array::from_fn(|i| raw[i] / (raw[i / 2 * 2] + raw[i / 2 * 2 + 1]));
        }
        for (i, more) in settle(&chances, 2, &picture).into_iter().enumerate() {
            let wanted = ((settled[i] + LEAST) / (chances[i] + LEAST)).ln();
            assert!((more - wanted).abs() < 1e-4, "{i}: {more}, {wanted}");
        }
    }
}
