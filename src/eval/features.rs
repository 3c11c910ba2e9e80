//! Distances on the features of SqueezeNet v1.0. The Fréchet distance is not the Inception FID, and its figures cannot be
//! compared with published ones.

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::Result;
use crate::image::RgbImage;
use crate::train::losses::{Perceptual, SqueezeNet};

/// Smaller pictures are enlarged to this: the network pools them four times.
const SMALLEST: usize = 64;

pub struct Features(Perceptual);

impl Features {
    /// Reads SqueezeNet's weights, as [`SqueezeNet::open`].
    pub fn open(path: &Path, device: &Device) -> Result<Self> {
        Ok(Self(Perceptual::SqueezeNet(Box::new(SqueezeNet::open(path, DType::F32, device)?))))
    }

    fn network(&self) -> &SqueezeNet {
        match &self.0 {
            Perceptual::SqueezeNet(network) => network,
            Perceptual::Pyramid => unreachable!("made with a network"),
        }
    }

    /// The trainer's perceptual loss: mean absolute difference of features over the truth's mean, at five depths.
    pub fn distance(&self, picture: &RgbImage, truth: &RgbImage) -> Result<f64> {
        let loss = self.0.loss(&self.tensor(picture)?, &self.tensor(truth)?)?;
        Ok(f64::from(loss.to_dtype(DType::F32)?.to_scalar::<f32>()?))
    }

    /// The deepest features, mean over the picture: 512 values.
    pub fn embed(&self, picture: &RgbImage) -> Result<Vec<f64>> {
        let features = self.network().features(&self.tensor(picture)?)?;
        let deepest = features.last().expect("features at five depths");
        Ok(deepest.mean((1, 2))?.squeeze(0)?.to_dtype(DType::F64)?.to_vec1()?)
    }

    fn tensor(&self, picture: &RgbImage) -> Result<Tensor> {
        let shortest = picture.width.min(picture.height);
        let device = self.network().device();
        if shortest >= SMALLEST {
            return Ok(picture.to_tensor(device)?);
        }
        let grown = |side: usize| side * SMALLEST / shortest;
        Ok(picture.resized(grown(picture.width), grown(picture.height)).to_tensor(device)?)
    }
}

/// Fréchet distance of two sets of vectors, each taken as a normal distribution: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2)
/// (Dowson and Landau, 1982), over the mean squared length of the second set's vectors, so that it has no unit. None when a
/// set has fewer than two vectors.
pub fn frechet(one: &[Vec<f64>], two: &[Vec<f64>]) -> Option<f64> {
    if one.len() < 2 || two.len() < 2 {
        return None;
    }
    let squares = |x: &[Vec<f64>]| x.iter().flatten().map(|v| v * v).sum::<f64>();
    let unit = squares(two) / two.len() as f64;
    let (mean_one, one) = centred(one);
    let (mean_two, two) = centred(two);
    let apart: f64 = mean_one.iter().zip(&mean_two).map(|(a, b)| (a - b).powi(2)).sum();
    // With C = X'X, the eigenvalues of C1 C2 are the squared singular values of X1 X2': a matrix of the sets' sizes, not
    // of the vectors' width.
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let product = one.iter().map(|a| two.iter().map(|b| dot(a, b)).collect()).collect();
    let distance = apart + squares(&one) + squares(&two) - 2.0 * singular_values(product).iter().sum::<f64>();
    (unit > 0.0).then(|| distance.max(0.0) / unit)
}

/// The mean, and what differs from it over the square root of n - 1.
fn centred(vectors: &[Vec<f64>]) -> (Vec<f64>, Vec<Vec<f64>>) {
    let n = vectors.len() as f64;
    let mean: Vec<f64> =
        (0..vectors[0].len()).map(|i| vectors.iter().map(|v| v[i]).sum::<f64>() / n).collect();
    let scale = (n - 1.0).sqrt().recip();
    let rest = vectors.iter().map(|v| v.iter().zip(&mean).map(|(v, m)| (v - m) * scale).collect()).collect();
    (mean, rest)
}

/// Singular values, by one-sided Jacobi rotations of the rows (Hestenes, 1958).
fn singular_values(mut rows: Vec<Vec<f64>>) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    // Each sweep squares what is left; far more than ever needed.
    for _ in 0..60 {
        let mut turned = false;
        for i in 0..rows.len() {
            for j in i + 1..rows.len() {
                let (head, tail) = rows.split_at_mut(j);
                let (a, b) = (&mut head[i], &mut tail[0]);
                let (aa, bb, ab) = (dot(a, a), dot(b, b), dot(a, b));
                if ab.abs() <= 1e-12 * (aa * bb).sqrt() || ab == 0.0 {
                    continue;
                }
                turned = true;
                let zeta = (bb - aa) / (2.0 * ab);
                let t = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
                let c = (1.0 + t * t).sqrt().recip();
                for (a, b) in a.iter_mut().zip(b.iter_mut()) {
                    (*a, *b) = (c * (*a - t * *b), c * (t * *a + *b));
                }
            }
        }
        if !turned {
            break;
        }
    }
    rows.iter().map(|row| dot(row, row).sqrt()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn singular_values_of_known_matrices() {
        let mut values = singular_values(vec![vec![3.0, 0.0], vec![4.0, 5.0]]);
        values.sort_by(f64::total_cmp);
        assert!(
            (values[0] - 5f64.sqrt()).abs() < 1e-12 && (values[1] - 45f64.sqrt()).abs() < 1e-12,
            "{values:?}"
        );
        // Rank 1: all of it in one value.
        let rank_one = singular_values(vec![vec![1.0, 2.0, 2.0], vec![2.0, 4.0, 4.0], vec![0.0; 3]]);
        assert!((rank_one.iter().sum::<f64>() - 45f64.sqrt()).abs() < 1e-12, "{rank_one:?}");
    }

    #[test]
    fn frechet_of_known_sets() {
        // Two points a set: means 1 and 4, variances 2 and 8, on one axis: 9 + (sqrt 2 - sqrt 8)^2 = 11; squared lengths
        // 29 and 61.
        let one = [vec![0.0, 5.0], vec![2.0, 5.0]];
        let two = [vec![2.0, 5.0], vec![6.0, 5.0]];
        assert!((frechet(&one, &two).unwrap() - 11.0 / 45.0).abs() < 1e-12);
        assert!(frechet(&one, &one).unwrap() < 1e-12);
        // On different axes nothing is shared: the variances add up. Squared lengths 17 and 37.
        let across = [vec![1.0, 4.0], vec![1.0, 6.0]];
        assert!((frechet(&one, &across).unwrap() - 4.0 / 27.0).abs() < 1e-12);
        assert_eq!(frechet(&one[..1], &two), None);
    }
}
