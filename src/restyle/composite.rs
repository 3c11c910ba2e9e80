//! A generated picture laid over the content.

use rayon::prelude::*;

use super::window::Bounds;
use crate::image::resample::Resampled;
use crate::image::{Picture, Samples};

/// Rec. 709's luma, for gray contents.
const LUMA: [f32; 3] = [0.2126, 0.7152, 0.0722];

/// One sample of the content, mixed with a generated value.
trait Blend: Copy + Send + Sync {
    /// `generated` is 0 to 1 and `coverage` above 0, at most 1.
    fn blend(self, generated: f32, coverage: f32) -> Self;
}

impl Blend for u8 {
    fn blend(self, generated: f32, coverage: f32) -> Self {
        let old = f32::from(self);
        (old + (generated * 255.0 - old) * coverage).round() as Self
    }
}

impl Blend for u16 {
    fn blend(self, generated: f32, coverage: f32) -> Self {
        let old = f32::from(self);
        (old + (generated * 65535.0 - old) * coverage).round() as Self
    }
}

impl Blend for f32 {
    fn blend(self, generated: f32, coverage: f32) -> Self {
        // The content may be infinite or NaN, which a product with 0 would let through.
        if coverage >= 1.0 { generated } else { self + (generated - self) * coverage }
    }
}

/// Lays `generated`, which spans `bounds` of `content`, over it wherever `coverage(x, y)` is above 0. All other samples,
/// and alpha, are not touched.
pub(super) fn composite(
    content: &mut Picture,
    generated: &Resampled,
    bounds: Bounds,
    coverage: impl Fn(usize, usize) -> f32 + Sync,
) {
    let (row, channels, colors) =
        (content.width() * content.channels(), content.channels(), content.color_channels());
    let lay = Lay { generated, bounds, coverage, row, channels, colors };
    match content.samples_mut() {
        Samples::U8(v) => lay.over(v),
        Samples::U16(v) => lay.over(v),
        Samples::F32(v) => lay.over(v),
    }
}

struct Lay<'a, F> {
    generated: &'a Resampled,
    bounds: Bounds,
    coverage: F,
    /// Samples of a row of the content, channels of a pixel, and channels without alpha.
    row: usize,
    channels: usize,
    colors: usize,
}

impl<F: Fn(usize, usize) -> f32 + Sync> Lay<'_, F> {
    fn over<T: Blend>(&self, samples: &mut [T]) {
        let Bounds { left, top, bottom, .. } = self.bounds;
        let rows = samples[top * self.row..bottom * self.row].par_chunks_exact_mut(self.row).enumerate();
        let buffer = || vec![0.0; self.generated.width() * 3];
        rows.for_each_init(buffer, |generated, (y, content)| {
            self.generated.row(y, generated);
            let pixels = content[left * self.channels..].chunks_exact_mut(self.channels);
            for (x, (pixel, rgb)) in pixels.zip(generated.chunks_exact(3)).enumerate() {
                let coverage = (self.coverage)(left + x, top + y);
                if coverage > 0.0 {
                    self.pixel(&mut pixel[..self.colors], rgb, coverage);
                }
            }
        });
    }

    fn pixel<T: Blend>(&self, pixel: &mut [T], rgb: &[f32], coverage: f32) {
        match pixel {
            [gray] => *gray = gray.blend(rgb.iter().zip(LUMA).map(|(v, w)| v * w).sum(), coverage),
            _ => {
                for (sample, &v) in pixel.iter_mut().zip(rgb) {
                    *sample = sample.blend(v, coverage);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_coverage_is_the_generated_value_whatever_lay_there() {
        for old in [0u8, 1, 128, 255] {
            assert_eq!(old.blend(0.5, 1.0), 128);
        }
        for old in [0u16, 40000, 65535] {
            assert_eq!(old.blend(1.0, 1.0), 65535);
        }
        for old in [f32::NAN, f32::INFINITY, -2.0, 0.0] {
            assert_eq!(old.blend(0.25, 1.0), 0.25);
        }
    }

    #[test]
    fn half_coverage_is_halfway() {
        assert_eq!(100u8.blend(200.0 / 255.0, 0.5), 150);
        assert_eq!(1000u16.blend(2000.0 / 65535.0, 0.5), 1500);
        assert_eq!(3.0f32.blend(1.0, 0.5), 2.0);
    }
}
