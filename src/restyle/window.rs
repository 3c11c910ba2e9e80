//! The part of a picture that the network sees.

use crate::image::resample::{Axis, Resampled, reflect};
use crate::image::{LabelMap, Picture, RgbImage};

/// Pixels that a mask or a class covers: columns and rows from `left`, `top` up to but not including `right`, `bottom`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub left: usize,
    pub top: usize,
    pub right: usize,
    pub bottom: usize,
}

impl Bounds {
    /// Bounds of the pixels for which `covered(x, y)` holds; none when there are none.
    pub fn of(width: usize, height: usize, covered: impl Fn(usize, usize) -> bool) -> Option<Self> {
        let mut bounds: Option<Self> = None;
        for y in 0..height {
            let Some(first) = (0..width).find(|&x| covered(x, y)) else { continue };
            let last = (first..width).rev().find(|&x| covered(x, y)).unwrap_or(first);
            let b = bounds.get_or_insert(Self { left: first, top: y, right: last + 1, bottom: y + 1 });
            *b = Self { left: b.left.min(first), right: b.right.max(last + 1), bottom: y + 1, ..*b };
        }
        bounds
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
    pub fn rgb(&self, picture: &Picture, resolution: usize) -> RgbImage {
        let axis = |start, size| Axis::new(size, start as f64, self.side as f64, resolution);
        let (columns, rows) = (axis(self.x, picture.width()), axis(self.y, picture.height()));
        Resampled::new(picture.width(), |y, row| picture.rgb_row(y, row), &columns, rows).into_image()
    }

    /// The window's labels at `resolution` squared: the class at each pixel's centre, where the picture is sampled too.
    pub fn labels(&self, labels: &LabelMap, resolution: usize) -> LabelMap {
        let places = |start: i64, size| {
            let centre = |i: usize| ((2 * i + 1) * self.side / (2 * resolution)) as i64;
            (0..resolution).map(|i| reflect(start + centre(i), size)).collect::<Vec<_>>()
        };
        let (columns, rows) = (places(self.x, labels.width()), places(self.y, labels.height()));
        let indices = rows.iter().flat_map(|&y| columns.iter().map(move |&x| labels.get(x, y))).collect();
        LabelMap::new(resolution, resolution, indices).expect("resolution squared labels")
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
    use crate::image::Samples;

    fn bounds(left: usize, top: usize, right: usize, bottom: usize) -> Bounds {
        Bounds { left, top, right, bottom }
    }

    #[test]
    fn bounds_hold_every_covered_pixel_and_no_more() {
        let covered = [(3, 2), (5, 4), (1, 3)];
        assert_eq!(Bounds::of(8, 6, |x, y| covered.contains(&(x, y))), Some(bounds(1, 2, 6, 5)));
        assert_eq!(Bounds::of(8, 6, |_, _| false), None);
        assert_eq!(Bounds::of(1, 1, |_, _| true), Some(bounds(0, 0, 1, 1)));
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
        let (rgb, small) = (window.rgb(&picture, 32), window.labels(&labels, 32));
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
        let rgb = window.rgb(&picture, 16);
        let back = window.back(&rgb, bounds(0, 0, 16, 16), (16, 16)).into_image();
        assert_eq!(back, picture.to_rgb_f32());
    }
}
