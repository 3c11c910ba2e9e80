//! The statistics method: each class's mean and covariance of colour moved to the reference's. It needs no model.
//!
//! The linear map is Monge-Kantorovich's, the least change that takes one normal distribution to another (Pitié,
//! Kokaram, "The linear Monge-Kantorovitch linear colour mapping for example-based colour transfer", 2007).

use super::grid::{Affine, gain};
use super::matrix::{self, IDENTITY, Matrix, Vector};
use super::window::Window;
use crate::image::{LabelMap, RgbImage, View};
use crate::style::check_weights;
use crate::{Error, Result};

/// Side at which a reference's colours are gathered, in pixels.
pub(super) const SIDE: usize = 256;
/// Added to variances: what sensor noise and 8 bits give anyway.
const FLOOR: f64 = 1e-4;
/// Pixels of a class at which its covariance counts half.
const TRUST: f64 = 64.0;

/// Mean and covariance of one class's colours, display-encoded, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Moments {
    /// How many pixels they are of, those on borders counted in part.
    pub weight: f64,
    pub mean: Vector,
    pub covariance: Matrix,
}

/// The colours of each class of a reference, or of a mix of several: what the statistics method goes by. Every
/// [`Style`](crate::style::Style) that was extracted has them too.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    classes: Vec<Option<Moments>>,
}

impl Statistics {
    /// The statistics of a picture under its label map, for a model or a list of `classes` classes.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the labels have another size than the picture or a class beyond `classes`.
    pub fn extract<'a>(picture: impl Into<View<'a>>, labels: &LabelMap, classes: usize) -> Result<Self> {
        let picture = picture.into();
        crate::style::check_labels("the reference's labels", labels, "the reference", &picture, classes)?;
        let window = Window::whole(picture.width(), picture.height());
        Ok(Self { classes: moments(&window.rgb(&picture, SIDE), &window.labels(labels, SIDE), classes) })
    }

    pub(crate) fn of_moments(classes: Vec<Option<Moments>>) -> Self {
        Self { classes }
    }

    pub(crate) fn moments(&self) -> &[Option<Moments>] {
        &self.classes
    }

    /// The mix of several: `(statistics, weights)`, a weight for each class, from 0 up. The weights of a class are taken as
    /// shares among those that have the class; a class that none has, or with weights all 0, stays absent.
    ///
    /// A class's colours are then the Wasserstein barycentre of the normal distributions that its parts describe, which lies
    /// between them as one look lies between two (the spread is a mean of their spreads; pooled pixels of red and of blue would
    /// be spread from red to blue). Its mean is the mean of their means, its covariance the fixed point of Álvarez-Esteban, del
    /// Barrio, Cuesta-Albertos, Matrán, "A fixed-point approach to barycenters in Wasserstein space", 2016.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there is none, they are of different numbers of classes, the weights do not number the
    /// classes, or one is negative or not finite.
    pub fn mix(parts: &[(&Self, &[f32])]) -> Result<Self> {
        let Some((first, _)) = parts.first() else {
            return Err(Error::invalid("a mix needs at least one reference"));
        };
        for (statistics, weights) in parts {
            if statistics.classes() != first.classes() {
                return Err(Error::invalid(format!(
                    "statistics of {} and of {} classes cannot be mixed",
                    first.classes(),
                    statistics.classes()
                )));
            }
            check_weights(weights, first.classes())?;
        }
        let mixed = |class: usize| {
            let parts = parts.iter().filter_map(|(s, weights)| Some((s.classes[class]?, weights[class])));
            barycentre(&parts.filter(|(_, weight)| *weight > 0.0).collect::<Vec<_>>())
        };
        Ok(Self { classes: (0..first.classes()).map(mixed).collect() })
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes.len()
    }

    /// Whether the picture showed class `index`.
    pub fn has(&self, index: usize) -> bool {
        self.classes.get(index).is_some_and(Option::is_some)
    }

    /// The change from a class's own colours to these; none for a class that the reference lacks.
    pub(super) fn change(&self, class: usize, own: &Moments) -> Option<Affine> {
        let wanted = self.classes[class].as_ref()?;
        let offset: Vector = std::array::from_fn(|c| wanted.mean[c] - own.mean[c]);
        let (a, b) = (
            matrix::add_scaled(&own.covariance, FLOOR, &IDENTITY),
            matrix::add_scaled(&wanted.covariance, FLOOR, &IDENTITY),
        );
        let (root, inverse) = (matrix::function(&a, f64::sqrt), matrix::function(&a, |v| v.sqrt().recip()));
        let middle =
            matrix::function(&matrix::product(&root, &matrix::product(&b, &root)), |v| v.max(0.0).sqrt());
        let map = matrix::product(&inverse, &matrix::product(&middle, &inverse));
        // A few pixels say little of how colours vary: scale all alike, as brighter light would.
        let count = own.weight.min(wanted.weight);
        let trust = 0.5 * count / (count + TRUST);
        let alike = gain(&own.mean, &offset);
        let linear = matrix::build(|i, j| trust * map[i][j] + ((1.0 - trust) * alike - 1.0) * IDENTITY[i][j]);
        Some(Affine::limited(own.mean, linear, offset))
    }
}

/// The Wasserstein barycentre of normal distributions with weights above 0; see [`Statistics::mix`].
fn barycentre(parts: &[(Moments, f32)]) -> Option<Moments> {
    /// It converges in a handful; none when all covariances commute.
    const STEPS: usize = 64;
    match parts {
        [] => return None,
        [(one, _)] => return Some(*one),
        _ => {}
    }
    let total: f64 = parts.iter().map(|(_, weight)| f64::from(*weight)).sum();
    let parts: Vec<(Moments, f64)> =
        parts.iter().map(|&(m, weight)| (m, f64::from(weight) / total)).collect();
    let zero = [[0.0; 3]; 3];
    // Invertible, which a flat colour's covariance is not.
    let raised = |m: &Moments| matrix::add_scaled(&m.covariance, FLOOR, &IDENTITY);
    let mut covariance =
        parts.iter().fold(zero, |sum, (m, share)| matrix::add_scaled(&sum, *share, &raised(m)));
    for _ in 0..STEPS {
        let root = matrix::function(&covariance, f64::sqrt);
        let inverse = matrix::function(&covariance, |v| v.sqrt().recip());
        let middle = parts.iter().fold(zero, |sum, (m, share)| {
            let inner = matrix::product(&root, &matrix::product(&raised(m), &root));
            matrix::add_scaled(&sum, *share, &matrix::function(&inner, |v| v.max(0.0).sqrt()))
        });
        let next = matrix::product(&inverse, &matrix::product(&matrix::product(&middle, &middle), &inverse));
        // Products of symmetric matrices are symmetric only up to rounding.
        let next = matrix::build(|i, j| (next[i][j] + next[j][i]) / 2.0);
        let moved = matrix::add_scaled(&next, -1.0, &covariance);
        covariance = next;
        if moved.iter().flatten().all(|v| v.abs() < 1e-12) {
            break;
        }
    }
    let lowered = matrix::add_scaled(&covariance, -FLOOR, &IDENTITY);
    let mean = |of: &dyn Fn(&Moments) -> f64| parts.iter().map(|(m, share)| share * of(m)).sum();
    Some(Moments {
        weight: mean(&|m| m.weight),
        mean: std::array::from_fn(|c| mean(&|m| m.mean[c])),
        covariance: matrix::function(&lowered, |v| v.max(0.0)),
    })
}

/// Moments of each class that `labels` shows, the pixels on borders counted for little: they are mixtures.
pub(super) fn moments(rgb: &RgbImage, labels: &LabelMap, classes: usize) -> Vec<Option<Moments>> {
    let mut sums = vec![(0.0f64, [0.0f64; 3], [[0.0f64; 3]; 3]); classes];
    let weights = super::interior(labels);
    for ((pixel, &class), &weight) in rgb.pixels.chunks_exact(3).zip(labels.indices()).zip(&weights) {
        let Some((total, first, second)) = sums.get_mut(usize::from(class)) else { continue };
        let (w, v): (f64, Vector) = (f64::from(weight), std::array::from_fn(|c| f64::from(pixel[c])));
        *total += w;
        for i in 0..3 {
            first[i] += w * v[i];
            for j in 0..3 {
                second[i][j] += w * v[i] * v[j];
            }
        }
    }
    let finish = |(weight, first, second): (f64, Vector, Matrix)| {
        (weight > 0.0).then(|| {
            let mean = first.map(|v| v / weight);
            let covariance = matrix::build(|i, j| second[i][j] / weight - mean[i] * mean[j]);
            Moments { weight, mean, covariance }
        })
    };
    sums.into_iter().map(finish).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(mean: Vector, covariance: Matrix) -> Statistics {
        Statistics::of_moments(vec![Some(Moments { weight: 100.0, mean, covariance }), None])
    }

    fn diagonal(v: Vector) -> Matrix {
        matrix::build(|i, j| v[i] * IDENTITY[i][j])
    }

    fn mixed(parts: &[(&Statistics, &[f32])]) -> Moments {
        Statistics::mix(parts).unwrap().classes[0].unwrap()
    }

    #[test]
    fn a_mix_lies_between_its_parts_and_is_as_spread_as_they_are() {
        // Red and blue, each narrow: the mix is purple and narrow, not spread from red to blue.
        let (red, blue) =
            (of([0.8, 0.1, 0.1], diagonal([0.01; 3])), of([0.1, 0.1, 0.8], diagonal([0.01; 3])));
        let half = mixed(&[(&red, &[1.0, 1.0]), (&blue, &[1.0, 1.0])]);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(
            close(half.mean[0], 0.45) && close(half.mean[1], 0.1) && close(half.mean[2], 0.45),
            "{half:?}"
        );
        assert!((0..3).all(|c| close(half.covariance[c][c], 0.01)), "{half:?}");
        // Covariances that commute: the standard deviations are averaged, the noise floor included.
        let (a, b) = (of([0.5; 3], diagonal([0.04, 0.01, 0.0])), of([0.5; 3], diagonal([0.0; 3])));
        let m = mixed(&[(&a, &[3.0, 1.0]), (&b, &[1.0, 1.0])]);
        for (c, v) in [0.04f64, 0.01, 0.0].into_iter().enumerate() {
            let deviation = 0.75 * (v + FLOOR).sqrt() + 0.25 * FLOOR.sqrt();
            assert!(close(m.covariance[c][c], deviation * deviation - FLOOR), "{c}: {m:?}");
        }
    }

    #[test]
    fn a_mix_of_covariances_that_do_not_commute_is_the_fixed_point() {
        let (a, b) = (
            [[0.02, 0.012, 0.0], [0.012, 0.01, 0.0], [0.0, 0.0, 0.001]],
            [[0.01, -0.004, 0.002], [-0.004, 0.02, 0.0], [0.002, 0.0, 0.005]],
        );
        let m = mixed(&[(&of([0.5; 3], a), &[1.0, 1.0]), (&of([0.5; 3], b), &[2.0, 1.0])]);
        // The optimal maps from the barycentre to its parts average to the identity: that is what it is.
        let from = matrix::add_scaled(&m.covariance, FLOOR, &IDENTITY);
        let (root, inverse) =
            (matrix::function(&from, f64::sqrt), matrix::function(&from, |v| v.sqrt().recip()));
        let map = |to: &Matrix| {
            let to = matrix::add_scaled(to, FLOOR, &IDENTITY);
            let inner = matrix::function(&matrix::product(&root, &matrix::product(&to, &root)), f64::sqrt);
            matrix::product(&inverse, &matrix::product(&inner, &inverse))
        };
        let (to_a, to_b) = (map(&a), map(&b));
        let mean = matrix::build(|i, j| to_a[i][j] / 3.0 + to_b[i][j] * 2.0 / 3.0);
        for (i, row) in mean.iter().enumerate() {
            for (j, v) in row.iter().enumerate() {
                assert!((v - IDENTITY[i][j]).abs() < 1e-6, "{mean:?}");
            }
        }
    }

    #[test]
    fn a_part_alone_in_a_class_comes_out_bit_for_bit() {
        let (a, b) = (of([0.3; 3], diagonal([0.02; 3])), of([0.9; 3], diagonal([0.001; 3])));
        assert_eq!(Statistics::mix(&[(&a, &[0.5, 1.0]), (&b, &[0.0, 1.0])]).unwrap(), a);
        let lacking = Statistics::of_moments(vec![None, b.classes[0]]);
        let both = Statistics::mix(&[(&a, &[1.0, 1.0]), (&lacking, &[7.0, 1.0])]).unwrap();
        assert_eq!(both.classes, [a.classes[0], b.classes[0]]);
        assert!(!Statistics::mix(&[(&a, &[0.0, 1.0]), (&b, &[0.0, 1.0])]).unwrap().has(0));
        for wrong in [&[1.0][..], &[1.0, -1.0], &[f32::NAN, 1.0]] {
            assert!(matches!(Statistics::mix(&[(&a, wrong)]), Err(Error::InvalidArgument(_))), "{wrong:?}");
        }
        assert!(Statistics::mix(&[]).is_err());
        assert!(Statistics::mix(&[(&a, &[1.0; 2]), (&Statistics::of_moments(vec![None]), &[1.0])]).is_err());
    }
}
