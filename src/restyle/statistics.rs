//! The statistics method: each class's mean and covariance of colour moved to the reference's. It needs no model.
//!
//! The linear map is Monge-Kantorovich's, the least change that takes one normal distribution to another (Pitié,
//! Kokaram, "The linear Monge-Kantorovitch linear colour mapping for example-based colour transfer", 2007).

use super::grid::{Affine, gain};
use super::matrix::{self, IDENTITY, Matrix, Vector};
use super::window::Window;
use crate::Result;
use crate::image::{LabelMap, RgbImage, View};

/// Side at which a reference's colours are gathered, in pixels.
pub(super) const SIDE: usize = 256;
/// Added to variances: what sensor noise and 8 bits give anyway.
const FLOOR: f64 = 1e-4;
/// Pixels of a class at which its covariance counts half.
const TRUST: f64 = 64.0;

/// Mean and covariance of one class's colours, display-encoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moments {
    pub weight: f64,
    pub mean: Vector,
    pub covariance: Matrix,
}

/// The colours of each class of a reference.
#[derive(Clone, Debug)]
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
