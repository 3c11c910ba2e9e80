//! How far a result can be trusted: whether the network attends to the right classes, and whether it knows the content.

use candle_core::{DType, Tensor};

use crate::Result;
use crate::image::{LabelMap, Picture, RgbImage, Samples};

/// Error of the generator's own picture of the content at which trust is halved: root mean square of a class, 0 to 1. A
/// difference that is plain to see, and about what the generator leaves in a print that it cannot draw.
const HALF: f32 = 0.15;

/// How far to trust a result, from 0 to 1, by pixel, by class and overall.
///
/// A pixel's figure is the share of the network's attention that goes to the pixel's own class, times how well the
/// generator redraws the class as the content shows it: `1 / (1 + (error / 0.15)^2)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Confidence {
    /// [`DOUBTFUL`](Self::DOUBTFUL) and above is fair. Mean over the pixels of the classes that were asked for.
    pub overall: f32,
    /// Class index and its mean, of the classes that the network saw.
    pub classes: Vec<(usize, f32)>,
    /// Figures of the window's pixels, row by row, `side` a row.
    pub map: Vec<f32>,
    pub side: usize,
    window: (i64, i64, usize),
}

impl Confidence {
    /// Below this a result is worth a warning: the network attends to its classes by less than about a half.
    pub const DOUBTFUL: f32 = 0.4;

    /// Whether the picture as a whole is one that the network does not know well.
    pub fn is_doubtful(&self) -> bool {
        self.overall < Self::DOUBTFUL
    }

    /// The classes whose figures are worth a warning.
    pub fn doubtful_classes(&self) -> Vec<usize> {
        self.classes.iter().filter(|(_, figure)| *figure < Self::DOUBTFUL).map(|&(class, _)| class).collect()
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

    pub(super) fn new(
        attention: &[Tensor],
        content: &RgbImage,
        before: &RgbImage,
        labels: &LabelMap,
        strengths: &[f32],
        window: (i64, i64, usize),
    ) -> Result<Self> {
        let (side, classes) = (labels.width(), strengths.len());
        let mut squares = vec![(0.0f32, 0usize); classes];
        for (i, &class) in labels.indices().iter().enumerate() {
            let of = |image: &RgbImage, c: usize| image.pixels[i * 3 + c];
            let error: f32 = (0..3).map(|c| (of(content, c) - of(before, c)).powi(2)).sum::<f32>() / 3.0;
            let place = &mut squares[usize::from(class)];
            *place = (place.0 + error, place.1 + 1);
        }
        let known = |class: usize| {
            let (sum, count) = squares[class];
            1.0 / (1.0 + sum / count.max(1) as f32 / (HALF * HALF))
        };

        let mut map = vec![0.0f32; side * side];
        for logits in attention {
            let shares = candle_nn::ops::softmax_last_dim(&logits.squeeze(0)?.to_dtype(DType::F32)?)?;
            let shares = shares.to_vec2::<f32>()?;
            let stage = shares.len().isqrt();
            for (i, value) in map.iter_mut().enumerate() {
                let (x, y) = (i % side * stage / side, i / side * stage / side);
                *value += shares[y * stage + x][usize::from(labels.indices()[i])] / attention.len() as f32;
            }
        }
        let mut sums = vec![(0.0f32, 0usize); classes];
        for (value, &class) in map.iter_mut().zip(labels.indices()) {
            let class = usize::from(class);
            *value *= known(class);
            sums[class] = (sums[class].0 + *value, sums[class].1 + 1);
        }
        let asked = || sums.iter().zip(strengths).filter(|(_, s)| **s > 0.0).map(|(sum, _)| sum);
        let count: usize = asked().map(|(_, n)| n).sum();
        let overall = asked().map(|(v, _)| v).sum::<f32>() / count.max(1) as f32;
        let seen = sums.iter().enumerate().filter(|(_, (_, n))| *n > 0);
        let classes = seen.map(|(class, (sum, n))| (class, sum / *n as f32)).collect();
        Ok(Self { overall, classes, map, side, window })
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
