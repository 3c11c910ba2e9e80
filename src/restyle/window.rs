//! The part of a picture that the network sees.

use super::composite::Coverage;
use crate::image::resample::{Axis, Resampled, reflect};
use crate::image::{LabelMap, RgbImage, View};

/// Pixels that a mask or a class covers: columns and rows from `left`, `top` up to but not including `right`, `bottom`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub left: usize,
    pub top: usize,
    pub right: usize,
    pub bottom: usize,
}

impl Bounds {
    /// The smallest bounds around both.
    pub fn union(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        let (Some(a), Some(b)) = (a, b) else { return a.or(b) };
        Some(Self {
            left: a.left.min(b.left),
            top: a.top.min(b.top),
            right: a.right.max(b.right),
            bottom: a.bottom.max(b.bottom),
        })
    }
}

/// A square of a picture's pixels. It may reach beyond the picture, which is reflected there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    x: i64,
    y: i64,
    side: usize,
}

impl Window {
    /// The smallest square around a whole picture.
    pub fn whole(width: usize, height: usize) -> Self {
        let side = width.max(height);
        let centred = |size: usize| -((side - size) as i64 / 2);
        Self { x: centred(width), y: centred(height), side }
    }

    /// A square around `bounds` with context: half as long again as they are, no smaller than `resolution` (which would
    /// only be enlarged for the network), and within the picture as far as there is enough of it.
    pub fn around(bounds: Bounds, width: usize, height: usize, resolution: usize) -> Self {
        let extent = (bounds.right - bounds.left).max(bounds.bottom - bounds.top);
        let side = (extent + extent.div_ceil(2)).max(resolution).min(width.max(height));
        let place = |low: usize, high: usize, size: usize| {
            if side >= size {
                -((side - size) as i64 / 2)
            } else {
                let centred = (low + high) as i64 / 2 - side as i64 / 2;
                centred.clamp(0, (size - side) as i64)
            }
        };
        Self { x: place(bounds.left, bounds.right, width), y: place(bounds.top, bounds.bottom, height), side }
    }

    /// The window's picture at `resolution` squared.
    pub fn rgb(&self, picture: &View, resolution: usize) -> RgbImage {
        let axis = |start, size| Axis::new(size, start as f64, self.side as f64, resolution);
        let (columns, rows) = (axis(self.x, picture.width()), axis(self.y, picture.height()));
        Resampled::new(picture.width(), |y, row| picture.rgb_row(y, row), &columns, rows).into_image()
    }

    /// The window's labels at `resolution` squared: the class at each pixel's centre, where the picture is sampled too.
    pub fn labels(&self, labels: &LabelMap, resolution: usize) -> LabelMap {
        let columns = self.places(self.x, labels.width(), resolution);
        let rows = self.places(self.y, labels.height(), resolution);
        let indices = rows.iter().flat_map(|&y| columns.iter().map(move |&x| labels.get(x, y))).collect();
        LabelMap::new(resolution, resolution, indices).expect("resolution squared labels")
    }

    /// Where the picture's pixels lie on the window's picture at `resolution` squared: column x at `a + b x`, row y at
    /// `c + d y`, as [a, b, c, d], pixel k's centre at k.
    pub fn to_network(self, resolution: usize) -> [f64; 4] {
        let scale = resolution as f64 / self.side as f64;
        let first = |start: i64| (0.5 - start as f64) * scale - 0.5;
        [first(self.x), scale, first(self.y), scale]
    }

    /// Column and row of its upper left pixel, and its side; it may reach beyond the picture.
    pub fn place(&self) -> (i64, i64, usize) {
        (self.x, self.y, self.side)
    }

    /// The coverage at `side` squared, sampled where labels are.
    pub(super) fn coverage(&self, coverage: &Coverage, side: usize) -> Vec<f32> {
        let (columns, rows) = (
            self.places(self.x, coverage.labels.width(), side),
            self.places(self.y, coverage.labels.height(), side),
        );
        let mut row = vec![0.0; coverage.labels.width()];
        let mut covered = Vec::with_capacity(side * side);
        for y in rows {
            coverage.row(y, 0, &mut row);
            covered.extend(columns.iter().map(|&x| row[x]));
        }
        covered
    }

    /// Where an axis is read: the samples at the centres of `resolution` equal parts of the window.
    fn places(&self, start: i64, size: usize, resolution: usize) -> Vec<usize> {
        let centre = |i: usize| ((2 * i + 1) * self.side / (2 * resolution)) as i64;
        (0..resolution).map(|i| reflect(start + centre(i), size)).collect()
    }

    /// The part of a network's picture of the window that shows `bounds`, at another size (columns, rows).
    pub fn back(&self, generated: &RgbImage, bounds: Bounds, size: (usize, usize)) -> Resampled {
        let axis = |low: usize, high: usize, start: i64, n: usize, out: usize| {
            let scale = n as f64 / self.side as f64;
            Axis::new(n, (low as i64 - start) as f64 * scale, (high - low) as f64 * scale, out)
        };
        let columns = axis(bounds.left, bounds.right, self.x, generated.width, size.0);
        let rows = axis(bounds.top, bounds.bottom, self.y, generated.height, size.1);
        let row = |y: usize, out: &mut [f32]| {
            out.copy_from_slice(&generated.pixels[y * generated.width * 3..][..generated.width * 3]);
        };
        Resampled::new(generated.width, row, &columns, rows)
    }

    /// How many of the network's pixels show `length` of the picture's, at least 1.
    pub fn shown(&self, length: usize, resolution: usize) -> usize {
        ((length * resolution) as f64 / self.side as f64).round().max(1.0) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Picture, Samples};

    fn bounds(left: usize, top: usize, right: usize, bottom: usize) -> Bounds {
        Bounds { left, top, right, bottom }
    }

    #[test]
    fn windows_hold_their_bounds_and_stay_inside_where_they_can() {
        for (w, h) in [(1, 1), (1, 50), (640, 480), (99, 1000), (300, 300)] {
            for b in [
                bounds(0, 0, 1, 1),
                bounds(w - 1, h - 1, w, h),
                bounds(w / 2, h / 3, w, h),
                bounds(0, 0, w, h),
            ] {
                let window = Window::around(b, w, h, 64);
                let side = window.side as i64;
                assert!(
                    window.x <= b.left as i64 && window.x + side >= b.right as i64,
                    "{window:?} {b:?} {w} x {h}"
                );
                assert!(
                    window.y <= b.top as i64 && window.y + side >= b.bottom as i64,
                    "{window:?} {b:?} {w} x {h}"
                );
                assert!(
                    window.side <= w.max(h) && window.side >= 64.min(w.max(h)),
                    "{window:?} {b:?} {w} x {h}"
                );
                for (start, size) in [(window.x, w), (window.y, h)] {
                    assert!(
                        window.side > size || (start >= 0 && start + side <= size as i64),
                        "{window:?} {w} x {h}"
                    );
                }
            }
        }
    }

    #[test]
    fn picture_and_labels_of_a_window_lie_on_each_other() {
        // Labels 0 and 1 painted as black and white: shrunk alike, every pixel off the edge must agree.
        let (w, h) = (90, 120);
        let label = |i: usize| u8::from((i % w) / 30 == 1 || (i / w) / 40 == 2);
        let labels = LabelMap::new(w, h, (0..w * h).map(label).collect()).unwrap();
        let samples = (0..w * h).map(|i| label(i) * 255).collect();
        let picture = Picture::new(w, h, 1, Samples::U8(samples)).unwrap();
        let window = Window::whole(w, h);
        let (rgb, small) = (window.rgb(&picture.view(), 32), window.labels(&labels, 32));
        let off: Vec<f32> = small
            .indices()
            .iter()
            .zip(rgb.pixels.chunks(3))
            .map(|(&l, p)| (p[0] - f32::from(l)).abs())
            .collect();
        assert!(off.iter().all(|&d| d <= 0.55), "{:?}", off.iter().cloned().fold(0.0, f32::max));
        assert!(off.iter().filter(|&&d| d > 0.1).count() < 32 * 6);
    }

    #[test]
    fn there_and_back_at_the_networks_size_changes_nothing() {
        let picture = Picture::new(16, 16, 3, Samples::U8((0..=255).cycle().take(768).collect())).unwrap();
        let window = Window::whole(16, 16);
        let rgb = window.rgb(&picture.view(), 16);
        let back = window.back(&rgb, bounds(0, 0, 16, 16), (16, 16)).into_image();
        assert_eq!(back, picture.to_rgb_f32());
    }
}
