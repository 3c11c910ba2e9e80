//! Antialiased resampling, row by row, so that a large picture is never held as floats.

use rayon::prelude::*;

use super::RgbImage;

/// Where position `i` outside an axis of `size` samples is read: mirrored at the ends, the end samples not repeated.
pub(crate) fn reflect(i: i64, size: usize) -> usize {
    let last = size as i64 - 1;
    if last == 0 {
        return 0;
    }
    let i = i.rem_euclid(2 * last);
    i.min(2 * last - i) as usize
}

/// Which samples of an axis each resampled position reads, and with what weight: Catmull-Rom's cubic, widened when
/// the picture shrinks. A size kept is a copy.
pub(crate) struct Axis {
    taps: usize,
    source: Vec<u32>,
    weight: Vec<f32>,
}

impl Axis {
    /// `out` positions spread evenly over `start..start + length` of an axis of `size` samples, sample k being
    /// k..k + 1. What lies outside the axis is reflected.
    pub fn new(size: usize, start: f64, length: f64, out: usize) -> Self {
        let scale = length / out as f64;
        let stretch = scale.max(1.0);
        let taps = (4.0 * stretch).ceil() as usize + 1;
        let (mut source, mut weight) = (Vec::with_capacity(out * taps), Vec::with_capacity(out * taps));
        for o in 0..out {
            let centre = start + (o as f64 + 0.5) * scale - 0.5;
            let first = (centre - 2.0 * stretch).ceil() as i64;
            let at = (0..taps as i64).map(|t| first + t);
            let raw: Vec<f64> = at.clone().map(|i| catmull_rom((i as f64 - centre) / stretch)).collect();
            let sum: f64 = raw.iter().sum();
            source.extend(at.map(|i| reflect(i, size) as u32));
            weight.extend(raw.iter().map(|w| (w / sum) as f32));
        }
        Self { taps, source, weight }
    }

    fn len(&self) -> usize {
        self.source.len() / self.taps
    }

    /// The weights of each position thrice, once a channel, where that pays: filters of many taps.
    fn weights_of_rgb(&self) -> Option<Vec<f32>> {
        (3 * self.taps >= LANES).then(|| self.weight.iter().flat_map(|&w| [w; 3]).collect())
    }

    /// The samples that position `o` reads, each with its weight.
    fn reads(&self, o: usize) -> impl Iterator<Item = (usize, f32)> {
        let range = o * self.taps..(o + 1) * self.taps;
        let pairs = self.source[range.clone()].iter().zip(&self.weight[range]);
        pairs.map(|(&i, &w)| (i as usize, w)).filter(|&(_, w)| w != 0.0)
    }
}

fn catmull_rom(t: f64) -> f64 {
    match t.abs() {
        t if t < 1.0 => (1.5 * t - 2.5) * t * t + 1.0,
        t if t < 2.0 => ((-0.5 * t + 2.5) * t - 4.0) * t + 2.0,
        _ => 0.0,
    }
}

/// Products that are added up side by side: as many pixels of three as fill registers of eight.
const LANES: usize = 24;

crate::kernels::vectorised! {
    /// The sum over `pixels`, RGB, each channel by its weight in `weights`.
    fn weighted_sum(pixels: &[f32], weights: &[f32], sum: &mut [f32; 3]) {
        let mut sums = [0.0f32; LANES];
        let (whole, rest) = pixels.as_chunks::<LANES>();
        let (weights, weights_of_rest) = weights.as_chunks::<LANES>();
        for (pixels, weights) in whole.iter().zip(weights) {
            for k in 0..LANES {
                sums[k] += pixels[k] * weights[k];
            }
        }
        for (k, (v, w)) in rest.iter().zip(weights_of_rest).enumerate() {
            sums[k] += v * w;
        }
        for (c, out) in sum.iter_mut().enumerate() {
            *out = (c..LANES).step_by(3).map(|k| sums[k]).sum();
        }
    }
}

/// A resampled RGB picture, its rows computed when asked for.
pub(crate) struct Resampled {
    width: usize,
    rows: Axis,
    /// Place in `across` of each source row that is read at all.
    slot: Vec<u32>,
    /// The source rows, resampled to `width`.
    across: Vec<f32>,
}

impl Resampled {
    /// Resamples the picture whose row `y`, `width` RGB pixels, `row(y, _)` gives.
    pub fn new(width: usize, row: impl Fn(usize, &mut [f32]) + Sync, columns: &Axis, rows: Axis) -> Self {
        let mut read: Vec<u32> = rows.source.clone();
        read.sort_unstable();
        read.dedup();
        let mut slot = vec![0; read.last().map_or(0, |&y| y as usize + 1)];
        for (place, &y) in read.iter().enumerate() {
            slot[y as usize] = place as u32;
        }
        let weights = columns.weights_of_rgb();
        // Where no read is reflected, the first of the samples, which lie side by side.
        let first: Vec<Option<usize>> = (columns.source.chunks_exact(columns.taps))
            .map(|at| at.windows(2).all(|pair| pair[1] == pair[0] + 1).then_some(at[0] as usize))
            .collect();
        let mut across = vec![0.0; read.len() * columns.len() * 3];
        across.par_chunks_exact_mut(columns.len() * 3).zip(&read).for_each_init(
            || vec![0.0; width * 3],
            |source, (out, &y)| {
                row(y as usize, source);
                for (o, rgb) in out.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                    if let (Some(weights), Some(x)) = (&weights, first[o]) {
                        let taps = 3 * columns.taps;
                        weighted_sum(&source[3 * x..][..taps], &weights[o * taps..][..taps], rgb);
                    } else {
                        for (x, w) in columns.reads(o) {
                            add_scaled(rgb, w, &source[x * 3..x * 3 + 3]);
                        }
                    }
                }
            },
        );
        Self { width: columns.len(), rows, slot, across }
    }

    /// Row `y`, clamped to [0, 1]: the filter overshoots at edges.
    pub fn row(&self, y: usize, out: &mut [f32]) {
        out.fill(0.0);
        for (source, w) in self.rows.reads(y) {
            let at = self.slot[source] as usize * self.width * 3;
            add_scaled(out, w, &self.across[at..at + self.width * 3]);
        }
        for v in out {
            *v = v.clamp(0.0, 1.0);
        }
    }

    pub fn into_image(self) -> RgbImage {
        let (width, height) = (self.width, self.rows.len());
        let mut pixels = vec![0.0; width * height * 3];
        pixels.par_chunks_exact_mut(width * 3).enumerate().for_each(|(y, out)| self.row(y, out));
        RgbImage { width, height, pixels }
    }
}

fn add_scaled(out: &mut [f32], weight: f32, source: &[f32]) {
    for (o, s) in out.iter_mut().zip(source) {
        *o += weight * s;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize, f: impl Fn(usize, usize) -> f32) -> RgbImage {
        let pixels = (0..width * height).flat_map(|i| [f(i % width, i / width); 3]).collect();
        RgbImage { width, height, pixels }
    }

    #[test]
    fn reflection_turns_at_the_end_samples() {
        let read: Vec<usize> = (-4..8).map(|i| reflect(i, 4)).collect();
        assert_eq!(read, [2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]);
        assert_eq!((-3..4).map(|i| reflect(i, 1)).max(), Some(0));
    }

    #[test]
    fn the_same_size_is_a_copy() {
        let image = picture(7, 5, |x, y| ((x * 31 + y * 17) % 11) as f32 / 10.0);
        assert_eq!(image.resized(7, 5), image);
    }

    #[test]
    fn a_flat_picture_stays_flat() {
        for (w, h) in [(1, 1), (3, 200), (64, 2), (16, 16)] {
            for v in picture(16, 16, |_, _| 0.3).resized(w, h).pixels {
                assert!((v - 0.3).abs() < 1e-6, "{w} x {h}: {v}");
            }
        }
    }

    #[test]
    fn a_ramp_stays_a_ramp_inside() {
        let ramp = |n: usize| move |x: usize, _| (x as f32 + 0.5) / n as f32;
        for out in [16, 23, 128, 200] {
            let (got, want) = (picture(64, 1, ramp(64)).resized(out, 1), picture(out, 1, ramp(out)));
            for x in out / 8..out - out / 8 {
                // A widened cubic, sampled, is a little off the straight line.
                assert!((got.pixels[x * 3] - want.pixels[x * 3]).abs() < 2e-3, "64 to {out}, column {x}");
            }
        }
    }

    #[test]
    fn shrinking_does_not_alias() {
        // The finest stripes there are: their mean is all that a quarter of the pixels can show.
        for v in picture(64, 64, |x, _| (x % 2) as f32).resized(16, 16).pixels {
            assert!((v - 0.5).abs() < 0.05, "{v}");
        }
    }

    #[test]
    fn rows_are_the_weighted_sums_of_what_they_read() {
        for (from, to) in [(40, 11), (70, 9), (300, 7), (9, 30)] {
            let row: Vec<f32> = (0..3 * from).map(|i| ((i * i * 31) % 97) as f32 / 96.0).collect();
            let image = RgbImage { width: from, height: 1, pixels: row.clone() };
            let got = image.resized(to, 1);
            let axis = Axis::new(from, 0.0, from as f64, to);
            for (i, v) in got.pixels.iter().enumerate() {
                let sum: f64 =
                    axis.reads(i / 3).map(|(x, w)| f64::from(w) * f64::from(row[3 * x + i % 3])).sum();
                assert!(
                    (f64::from(*v) - sum.clamp(0.0, 1.0)).abs() < 1e-6,
                    "{from} to {to}: {i} is {v}, not {sum}"
                );
            }
        }
    }

    #[test]
    fn channels_do_not_mix() {
        let mut image = picture(8, 8, |_, _| 0.0);
        image.pixels.iter_mut().skip(1).step_by(3).for_each(|g| *g = 1.0);
        for rgb in image.resized(5, 11).pixels.chunks_exact(3) {
            assert!(rgb[0] == 0.0 && (rgb[1] - 1.0).abs() < 1e-6 && rgb[2] == 0.0, "{rgb:?}");
        }
    }
}
