//! How far a result can be trusted: whether the network can redraw what it is given, the content and the reference.
//!
//! The generator's own picture of a class, in the class's own style and labels, differs from the class as it is the more, the less
//! the network knows such things. That error is at hand for the content (the "before" of every job) and for the reference (every
//! style carries it), and the worse of the two says more of the result's true error than anything else that is at hand: the
//! rank correlations that `ca2sis eval confidence` gives are in the model's card. (The attention that goes to the own class, which
//! was part of the figure once, says less, and lowered it.)

use crate::Result;
use crate::image::{LabelMap, Picture, Samples};
use crate::style::{Seen, Style};

/// Error of the generator's picture at which trust is halved: root mean square, 0 to 1. A difference that is plain to see.
const HALF: f32 = 0.15;

/// Pixels on each side whose errors count for one pixel, as a share of the picture's side.
const NEAR: f32 = 1.0 / 32.0;

/// How far to trust a result, from 0 to 1, by pixel, by class and overall.
///
/// A pixel's figure is `1 / (1 + (error / 0.15)^2)`, where `error` is the greater of two: of the generator's picture of the
/// content in the pixel's class around it, and of its picture of the reference in this class, both root mean squares of sRGB
/// values from 0 to 1. It is 0 where the reference lacks a class that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Confidence {
    /// [`DOUBTFUL`](Self::DOUBTFUL) and above is fair. Mean over the pixels of the classes that are restyled.
    pub overall: f32,
    /// Class index and its mean, of the classes that the network saw.
    pub classes: Vec<(usize, f32)>,
    /// Figures of the window's pixels, row by row, `side` a row.
    pub map: Vec<f32>,
    pub side: usize,
    /// Of the window's pixels, the share that each class covers, for [`doubtful_classes`](Self::doubtful_classes).
    shares: Vec<f32>,
    window: (i64, i64, usize),
}

impl Confidence {
    /// An overall figure below this is worth a warning. Chosen on training pairs: with another kind of pictures as reference all but
    /// a few results are below it, of ordinary ones one in thirteen.
    pub const DOUBTFUL: f32 = 0.42;

    /// A class's figure below this is worth a warning, where the whole is not below its own. Chosen on training pairs: two in three
    /// of the classes named are among the third with the greatest errors, and one ordinary result in nine names any.
    pub const DOUBTFUL_CLASS: f32 = 0.22;

    /// Classes that cover less of the window than this are not worth one.
    const SMALLEST: f32 = 0.01;

    /// Whether the picture as a whole, or the reference, is one that the network does not know well.
    pub fn is_doubtful(&self) -> bool {
        self.overall.is_nan() || self.overall < Self::DOUBTFUL
    }

    /// The classes whose figures are worth a warning: restyled, not tiny, and below [`DOUBTFUL_CLASS`](Self::DOUBTFUL_CLASS).
    pub fn doubtful_classes(&self) -> Vec<usize> {
        let doubtful = |&&(class, figure): &&(usize, f32)| {
            figure > 0.0 && figure < Self::DOUBTFUL_CLASS && self.shares[class] >= Self::SMALLEST
        };
        self.classes.iter().filter(doubtful).map(|&(class, _)| class).collect()
    }

    /// The figure of the content's pixel in column `x` of row `y`, between those of the network's pixels around it; none
    /// outside the window.
    pub fn at(&self, x: usize, y: usize) -> Option<f32> {
        let (left, top, length) = self.window;
        // The two pixels around, and how far it is to the second.
        let place = |i: usize, start: i64| {
            let at = i as i64 - start;
            (0..length as i64).contains(&at).then(|| {
                let at = (at as f32 + 0.5) * self.side as f32 / length as f32 - 0.5;
                let first = at.max(0.0) as usize;
                (first, (first + 1).min(self.side - 1), (at - first as f32).clamp(0.0, 1.0))
            })
        };
        let ((x0, x1, u), (y0, y1, v)) = (place(x, left)?, place(y, top)?);
        let along = |y: usize| {
            let row = &self.map[y * self.side..][..self.side];
            row[x0] + (row[x1] - row[x0]) * u
        };
        let (upper, lower) = (along(y0), along(y1));
        Some((upper + (lower - upper) * v).clamp(0.0, 1.0))
    }

    /// `target` is how the result is laid out, of the network's size as all that was `seen`; `style` the reference's. None where
    /// nothing in it is restyled.
    pub(super) fn new(
        seen: &Seen,
        style: &Style,
        target: &LabelMap,
        strengths: &[f32],
        window: (i64, i64, usize),
    ) -> Option<Self> {
        let (side, classes) = (target.width(), strengths.len());
        let errors = errors(seen);
        let mut content = vec![(0.0f32, 0usize); classes];
        for (&class, &error) in seen.labels.indices().iter().zip(&errors) {
            let place = &mut content[usize::from(class)];
            *place = (place.0 + error, place.1 + 1);
        }
        let nearby = near(&errors, &seen.labels);
        let figure = |(i, &class): (usize, &u8)| {
            let index = usize::from(class);
            let own = match seen.labels.indices()[i] == class {
                true => nearby[i],
                // Drawn anew: as well as the content's own, if it has any.
                false => content[index].0 / content[index].1.max(1) as f32,
            };
            let worse = match (strengths[index] > 0.0, style.has(index)) {
                (true, false) => return 0.0,
                (true, true) => own.max(style.error(index).powi(2)),
                (false, _) => own,
            };
            1.0 / (1.0 + worse / (HALF * HALF))
        };
        let map: Vec<f32> = target.indices().iter().enumerate().map(figure).collect();
        let mut sums = vec![(0.0f32, 0usize); classes];
        for (value, &class) in map.iter().zip(target.indices()) {
            let place = &mut sums[usize::from(class)];
            *place = (place.0 + *value, place.1 + 1);
        }
        let restyled = || {
            let indices = (0..classes).filter(|&i| strengths[i] > 0.0 && style.has(i));
            indices.map(|i| sums[i])
        };
        let count: usize = restyled().map(|(_, n)| n).sum();
        if count == 0 {
            return None;
        }
        let overall = restyled().map(|(v, _)| v).sum::<f32>() / count as f32;
        let shares = sums.iter().map(|(_, n)| *n as f32 / map.len() as f32).collect();
        let found = sums.iter().enumerate().filter(|(_, (_, n))| *n > 0);
        let classes = found.map(|(class, (sum, n))| (class, sum / *n as f32)).collect();
        Some(Self { overall, classes, map, side, shares, window })
    }

    /// The figures as an RGB picture for a content of `width` x `height`: red is 0, yellow a half, green 1; gray is outside
    /// the window.
    ///
    /// # Errors
    /// [`crate::Error::InvalidArgument`] when a side is 0.
    pub fn heat_map(&self, width: usize, height: usize) -> Result<Picture> {
        let color = |i: usize| match self.at(i % width.max(1), i / width.max(1)) {
            Some(v) => {
                let byte = |v: f32| (v.clamp(0.0, 1.0) * 220.0).round() as u8;
                [byte(2.0 - 2.0 * v), byte(2.0 * v), 40]
            }
            None => [128; 3],
        };
        Picture::new(width, height, 3, Samples::U8((0..width * height).flat_map(color).collect()))
    }
}

/// Squared error of the generator's picture of the content, pixel by pixel.
fn errors(seen: &Seen) -> Vec<f32> {
    let pixels = seen.rgb.pixels.chunks_exact(3).zip(seen.reconstruction.pixels.chunks_exact(3));
    pixels.map(|(a, b)| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>() / 3.0).collect()
}

/// The mean of `values` over the pixels of the same class around each one.
fn near(values: &[f32], labels: &LabelMap) -> Vec<f32> {
    let side = labels.width();
    let reach = (side as f32 * NEAR).round() as usize;
    let around = |v: usize| v.saturating_sub(reach)..(v + reach + 1).min(side);
    let mean = |i: usize| {
        let (x, y) = (i % side, i / side);
        let (mut sum, mut count) = (0.0, 0.0f32);
        for row in around(y) {
            let (errors, classes) = (&values[row * side..][around(x)], &labels.row(row)[around(x)]);
            for (error, _) in errors.iter().zip(classes).filter(|(_, class)| **class == labels.indices()[i]) {
                sum += error;
                count += 1.0;
            }
        }
        sum / count
    };
    (0..values.len()).map(mean).collect()
}
