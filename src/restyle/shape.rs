//! Pixels whose class changes: the generator's own, sampled within their class and joined to what lies around them.
//!
//! The join is a membrane: the difference at the border is continued inwards as smoothly as can be (Laplace's equation), as
//! in "Poisson Image Editing", Pérez, Gangnet, Blake, 2003. Only pixels of one class pull on each other: where classes meet there
//! is an edge, and no seam to hide.

use rayon::prelude::*;

use super::window::Window;
use crate::image::{LabelMap, RgbImage};

/// Side of the picture that the join is computed on.
pub(super) const SIDE: usize = 384;
/// Steps of successive over-relaxation; the factor is the best for holes about a third of [`SIDE`] wide.
const STEPS: usize = 300;
const RELAX: f32 = 1.95;
/// Pulls a shape that touches nothing of its class to no correction.
const HOLD: f32 = 1e-4;

/// The colours of new shapes.
pub(super) struct Shape {
    rgb: RgbImage,
    /// The class of each of these pixels; none where the layout is between two maps.
    classes: Option<LabelMap>,
}

/// A generated picture at the size of `target`, each pixel from those of its own class nearby, by their `weights`; a class
/// that the small map has lost takes what is there. `place` says where pixels of `target` lie on the small picture, as
/// [`Window::to_network`](super::Window::to_network) does.
pub(crate) fn enlarge(
    small: &RgbImage,
    labels: &LabelMap,
    weights: &[f32],
    target: &LabelMap,
    [left, across, top, down]: [f64; 4],
) -> RgbImage {
    let (width, height) = (target.width(), target.height());
    let at = |start: f64, step: f64, i: usize| (start + step * i as f64).max(0.0) as f32;
    let range = |v: f32, from: usize| {
        let middle = (v.round() as usize).min(from - 1);
        middle.saturating_sub(2)..(middle + 3).min(from)
    };
    let mut pixels = vec![0.0; width * height * 3];
    pixels.par_chunks_exact_mut(width * 3).enumerate().for_each(|(row, out)| {
        let y = at(top, down, row);
        for ((column, pixel), &class) in out.chunks_exact_mut(3).enumerate().zip(target.row(row)) {
            let x = at(left, across, column);
            let (mut sums, mut totals) = ([[0.0f32; 3]; 2], [0.0f32; 2]);
            for ny in range(y, small.height) {
                for nx in range(x, small.width) {
                    let at = ny * small.width + nx;
                    let (dx, dy) = (nx as f32 - x, ny as f32 - y);
                    let hat = (-1.4 * (dx * dx + dy * dy)).exp();
                    // The sums of the class, and of all.
                    let of_class = if labels.indices()[at] == class { hat * weights[at] } else { 0.0 };
                    for (k, w) in [of_class, hat].into_iter().enumerate() {
                        totals[k] += w;
                        for (sum, v) in sums[k].iter_mut().zip(&small.pixels[at * 3..]) {
                            *sum += w * v;
                        }
                    }
                }
            }
            let k = usize::from(totals[0] < 1e-6);
            pixel.copy_from_slice(&sums[k].map(|v| v / totals[k]));
        }
    });
    RgbImage { width, height, pixels }
}

impl Shape {
    /// `generated` is the window's picture and `classes` its target labels, both [`SIDE`] squared; `shown` is what the
    /// result shows outside the new shapes, and `new` where they are.
    pub fn join(generated: RgbImage, classes: LabelMap, between: bool, shown: &[f32], new: &[bool]) -> Self {
        let side = classes.width();
        let mut rgb = generated;
        let mut correction: Vec<f32> = shown
            .iter()
            .zip(&rgb.pixels)
            .enumerate()
            .map(|(i, (s, g))| if new[i / 3] { 0.0 } else { s - g })
            .collect();
        let same = |a: usize, b: usize| between || classes.indices()[a] == classes.indices()[b];
        // The links of each new pixel, found once.
        let links: Vec<(usize, [Option<usize>; 4])> = (0..side * side)
            .filter(|&i| new[i])
            .map(|i| {
                let (x, y) = (i % side, i / side);
                let near = [
                    (x > 0).then(|| i - 1),
                    (x + 1 < side).then_some(i + 1),
                    (y > 0).then(|| i - side),
                    (y + 1 < side).then_some(i + side),
                ];
                (i, near.map(|n| n.filter(|&n| same(i, n))))
            })
            .collect();
        for _ in 0..STEPS {
            for (i, near) in &links {
                for c in 0..3 {
                    let (mut sum, mut count) = (0.0, HOLD);
                    for n in near.iter().flatten() {
                        sum += correction[n * 3 + c];
                        count += 1.0;
                    }
                    let value = &mut correction[i * 3 + c];
                    *value += RELAX * (sum / count - *value);
                }
            }
        }
        for (v, c) in rgb.pixels.iter_mut().zip(&correction) {
            *v += c;
        }
        Self { rgb, classes: (!between).then_some(classes) }
    }

    /// The colour of class `class` at the picture's pixel (x, y); none where the class is not near.
    pub fn color(&self, window: &Window, class: usize, x: usize, y: usize) -> Option<[f32; 3]> {
        let side = self.rgb.width;
        let [sx, dx, sy, dy] = window.to_network(side);
        let place = |v: f64| {
            let v = v.clamp(0.0, (side - 1) as f64);
            let low = (v as usize).min(side.saturating_sub(2));
            (low, (v - low as f64) as f32)
        };
        let ((x0, fx), (y0, fy)) = (place(sx + dx * x as f64), place(sy + dy * y as f64));
        // A little more than nothing for each, so that a class's pixel counts when it lies just beyond the hat.
        let near = (0..4).map(|k| {
            let (i, j) = (k % 2, k / 2);
            (x0 + i, y0 + j, [1.0 - fx, fx][i] * [1.0 - fy, fy][j] + 1e-4)
        });
        let around = (0..16).map(|k| ((x0 + k % 4).saturating_sub(1), (y0 + k / 4).saturating_sub(1), 1.0));
        self.mean(class, near).or_else(|| self.mean(class, around))
    }

    /// The weighted mean of those pixels that are of class `class`.
    fn mean(&self, class: usize, taps: impl Iterator<Item = (usize, usize, f32)>) -> Option<[f32; 3]> {
        let side = self.rgb.width;
        let (mut sum, mut total) = ([0.0f32; 3], 0.0f32);
        for (x, y, weight) in taps {
            let (x, y) = (x.min(side - 1), y.min(side - 1));
            if self.classes.as_ref().is_some_and(|classes| usize::from(classes.get(x, y)) != class) {
                continue;
            }
            total += weight;
            for (sum, v) in sum.iter_mut().zip(&self.rgb.pixels[(y * side + x) * 3..]) {
                *sum += weight * v;
            }
        }
        (total > 0.0).then(|| sum.map(|v| v / total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hole in a flat picture, filled by a generator that is off by a constant: the join leaves nothing to see.
    #[test]
    fn a_constant_error_of_the_generator_is_taken_out() {
        let side = 64;
        let generated = RgbImage { width: side, height: side, pixels: vec![0.3; side * side * 3] };
        let classes = LabelMap::new(side, side, vec![0; side * side]).unwrap();
        let new: Vec<bool> = (0..side * side)
            .map(|i| (20..44).contains(&(i % side)) && (24..40).contains(&(i / side)))
            .collect();
        let shape = Shape::join(generated, classes, false, &vec![0.7; side * side * 3], &new);
        for v in &shape.rgb.pixels {
            assert!((v - 0.7).abs() < 0.005, "{v}");
        }
    }

    /// A new object on a backdrop takes nothing from the backdrop's correction.
    #[test]
    fn another_class_does_not_pull() {
        let side = 64;
        let inside = |i: usize| (20..44).contains(&(i % side)) && (24..40).contains(&(i / side));
        let generated = RgbImage { width: side, height: side, pixels: vec![0.3; side * side * 3] };
        let classes =
            LabelMap::new(side, side, (0..side * side).map(|i| u8::from(inside(i))).collect()).unwrap();
        let new: Vec<bool> = (0..side * side).map(inside).collect();
        let shape = Shape::join(generated, classes, false, &vec![0.7; side * side * 3], &new);
        for (i, v) in shape.rgb.pixels.chunks_exact(3).enumerate() {
            let want = if inside(i) { 0.3 } else { 0.7 };
            assert!((v[0] - want).abs() < 1e-5, "{}", v[0]);
        }
    }
}
