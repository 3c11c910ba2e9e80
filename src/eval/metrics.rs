//! How far one picture is from another. All pictures are display-encoded (sRGB) in [0, 1].

use rayon::prelude::*;

use super::color::{ciede2000, lab};
use crate::image::{LabelMap, RgbImage};

/// The pixels of a picture.
pub fn pixels(image: &RgbImage) -> impl ExactSizeIterator<Item = [f32; 3]> {
    image.pixels.chunks_exact(3).map(|p| [p[0], p[1], p[2]])
}

/// Mean squared error over the samples of the pixels that `counts(i)` holds for; none where there are none.
pub fn mse(one: &RgbImage, two: &RgbImage, counts: impl Fn(usize) -> bool) -> Option<f64> {
    let (mut sum, mut n) = (0.0, 0usize);
    for (i, (a, b)) in pixels(one).zip(pixels(two)).enumerate() {
        if counts(i) {
            sum += (0..3).map(|c| (f64::from(a[c]) - f64::from(b[c])).powi(2)).sum::<f64>();
            n += 3;
        }
    }
    (n > 0).then(|| sum / n as f64)
}

/// Equal pictures have this PSNR, so that a mean over pictures stays finite: half of an 8-bit step everywhere is 54 dB.
pub const PSNR_LIMIT: f64 = 100.0;

/// Peak signal-to-noise ratio in dB of a mean squared error, at most [`PSNR_LIMIT`].
pub fn psnr(mse: f64) -> f64 {
    (-10.0 * mse.log10()).min(PSNR_LIMIT)
}

/// Side and standard deviation of SSIM's Gaussian window, in pixels.
const SSIM_WINDOW: usize = 11;
const SSIM_SIGMA: f64 = 1.5;

/// Structural similarity, mean over channels and over all whole windows: Wang et al., "Image Quality Assessment", 2004,
/// with its constants. None for pictures smaller than a window.
pub fn ssim(one: &RgbImage, two: &RgbImage) -> Option<f64> {
    let (w, h) = (one.width, one.height);
    if w < SSIM_WINDOW || h < SSIM_WINDOW {
        return None;
    }
    let kernel: Vec<f64> = {
        let at = |i: usize| (i as f64 - (SSIM_WINDOW / 2) as f64).powi(2) / (-2.0 * SSIM_SIGMA.powi(2));
        let raw: Vec<f64> = (0..SSIM_WINDOW).map(|i| at(i).exp()).collect();
        let sum: f64 = raw.iter().sum();
        raw.iter().map(|v| v / sum).collect()
    };
    let (out_w, out_h) = (w - SSIM_WINDOW + 1, h - SSIM_WINDOW + 1);
    // The local means of a plane, for whole windows.
    let blur = |plane: &dyn Fn(usize) -> f64| {
        let mut rows = vec![0.0; out_w * h];
        for y in 0..h {
            let row: Vec<f64> = (0..w).map(|x| plane(y * w + x)).collect();
            for x in 0..out_w {
                rows[y * out_w + x] = row[x..].iter().zip(&kernel).map(|(v, k)| v * k).sum();
            }
        }
        let mut out = vec![0.0; out_w * out_h];
        for (y, out) in out.chunks_exact_mut(out_w).enumerate() {
            for (row, k) in rows[y * out_w..].chunks_exact(out_w).zip(&kernel) {
                for (o, v) in out.iter_mut().zip(row) {
                    *o += v * k;
                }
            }
        }
        out
    };
    let (c1, c2) = (0.01f64.powi(2), 0.03f64.powi(2));
    let channel = |c: usize| {
        let a = |i: usize| f64::from(one.pixels[i * 3 + c]);
        let b = |i: usize| f64::from(two.pixels[i * 3 + c]);
        let (ma, mb) = (blur(&a), blur(&b));
        let (aa, bb, ab) = (blur(&|i| a(i) * a(i)), blur(&|i| b(i) * b(i)), blur(&|i| a(i) * b(i)));
        let total: f64 = (0..out_w * out_h)
            .map(|i| {
                let (ma, mb) = (ma[i], mb[i]);
                let (va, vb, cov) = (aa[i] - ma * ma, bb[i] - mb * mb, ab[i] - ma * mb);
                (2.0 * ma * mb + c1) * (2.0 * cov + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2))
            })
            .sum();
        total / (out_w * out_h) as f64
    };
    Some((0..3).into_par_iter().map(channel).collect::<Vec<_>>().iter().sum::<f64>() / 3.0)
}

/// CIE L*a*b* of every pixel.
pub fn lab_pixels(image: &RgbImage) -> Vec<[f64; 3]> {
    image.pixels.par_chunks_exact(3).map(|p| lab([p[0], p[1], p[2]])).collect()
}

/// CIEDE2000 of every pixel.
pub fn differences(one: &[[f64; 3]], two: &[[f64; 3]]) -> Vec<f64> {
    one.par_iter().zip(two).map(|(&a, &b)| ciede2000(a, b)).collect()
}

/// Mean; none of none.
pub fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.into_iter().fold((0.0, 0usize), |(sum, n), v| (sum + v, n + 1));
    (n > 0).then(|| sum / n as f64)
}

/// The value that `share` of all values are below, interpolated between neighbours; none of none.
pub fn percentile(mut values: Vec<f64>, share: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let place = last as f64 * share;
    let low = place.floor() as usize;
    let (_, &mut a, above) = values.select_nth_unstable_by(low, f64::total_cmp);
    let b = above.iter().copied().min_by(f64::total_cmp).unwrap_or(a);
    Some(a + (b - a) * (place - low as f64))
}

/// Mean gradient magnitude across the border of a mask: over all pairs of neighbours of which one is `inside`, the
/// Euclidean distance of their RGB values. None for a mask without a border.
pub fn border_gradient(image: &RgbImage, inside: impl Fn(usize) -> bool) -> Option<f64> {
    let (w, h) = (image.width, image.height);
    let step = |i: usize, j: usize| {
        let (a, b) = (&image.pixels[i * 3..i * 3 + 3], &image.pixels[j * 3..j * 3 + 3]);
        a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
    };
    let right = (0..w * h).filter(|i| i % w + 1 < w).map(|i| (i, i + 1));
    let down = (0..w * (h - 1)).map(|i| (i, i + w));
    mean(right.chain(down).filter(|&(i, j)| inside(i) != inside(j)).map(|(i, j)| step(i, j)))
}

/// How far the relations between classes are from the truth's: for each two classes present, the distance of their
/// differences of mean L*a*b* in result and truth, weighted by the product of their areas. None for a single class.
pub fn consistency(result: &[[f64; 3]], truth: &[[f64; 3]], labels: &LabelMap) -> Option<f64> {
    let means = |pixels: &[[f64; 3]]| {
        let mut sums = vec![[0.0; 3]; 256];
        for (p, &label) in pixels.iter().zip(labels.indices()) {
            (0..3).for_each(|c| sums[usize::from(label)][c] += p[c]);
        }
        sums
    };
    let counts = labels.counts();
    let (result, truth) = (means(result), means(truth));
    // How far each class's own mean is off; a pair's difference is off by the difference of the two.
    let off = |class: usize, c: usize| (result[class][c] - truth[class][c]) / counts[class] as f64;
    let present: Vec<usize> = (0..256).filter(|&i| counts[i] > 0).collect();
    let (mut sum, mut weights) = (0.0, 0.0);
    for (i, &a) in present.iter().enumerate() {
        for &b in &present[i + 1..] {
            let weight = counts[a] as f64 * counts[b] as f64;
            sum += weight * (0..3).map(|c| (off(a, c) - off(b, c)).powi(2)).sum::<f64>().sqrt();
            weights += weight;
        }
    }
    (weights > 0.0).then(|| sum / weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pictures of integer arithmetic, which tests/golden/eval.py makes alike.
    fn golden(seed: i64) -> Vec<u8> {
        let (w, h) = (37i64, 29i64);
        let value = |i: i64| {
            let (x, y, c) = (i / 3 % w, i / 3 / w, i % 3);
            let noise = (x * 73 + y * 179 + c * 283 + seed * 97 + (x * y) % 31 * 11) % 256;
            let checks = if (x / 5 + y / 7 + seed) % 2 == 1 { 60 } else { -60 };
            ((3 * (128 + checks + x * 2 - y + c * 20) + noise) / 4).clamp(0, 255) as u8
        };
        (0..w * h * 3).map(value).collect()
    }

    fn noisy(samples: &[u8]) -> Vec<u8> {
        let noise = |i: usize| (i * 7919 % 41) as i64 - 20;
        samples.iter().enumerate().map(|(i, &v)| (i64::from(v) + noise(i)).clamp(0, 255) as u8).collect()
    }

    fn image(samples: &[u8]) -> RgbImage {
        RgbImage { width: 37, height: 29, pixels: samples.iter().map(|&v| f32::from(v) / 255.0).collect() }
    }

    fn flat(width: usize, height: usize, f: impl Fn(usize, usize) -> f32) -> RgbImage {
        RgbImage {
            width,
            height,
            pixels: (0..width * height).flat_map(|i| [f(i % width, i / width); 3]).collect(),
        }
    }

    #[test]
    fn psnr_ssim_and_ciede2000_are_those_of_scikit_image() {
        // PSNR, SSIM, CIEDE2000 mean and 95th percentile of scikit-image 0.26; tests/golden/eval.py.
        let one = golden(1);
        let cases = [
            (golden(2), [8.447261963614228, -0.8420952662097386, 33.622189030611715, 47.83875946420478]),
            (noisy(&one), [26.76514432962394, 0.9667924678013587, 6.881288353847675, 17.798064291784087]),
        ];
        for (two, wanted) in cases {
            let (a, b) = (image(&one), image(&two));
            let apart = differences(&lab_pixels(&a), &lab_pixels(&b));
            let got = [
                psnr(mse(&a, &b, |_| true).unwrap()),
                ssim(&a, &b).unwrap(),
                mean(apart.iter().copied()).unwrap(),
                percentile(apart, 0.95).unwrap(),
            ];
            // Ours hold pixels as f32; scikit-image's Lab has a rounded white.
            for ((got, wanted), tolerance) in got.into_iter().zip(wanted).zip([1e-5, 1e-6, 0.01, 0.02]) {
                assert!((got - wanted).abs() < tolerance, "{got}, not {wanted}");
            }
        }
    }

    #[test]
    fn a_picture_equals_itself() {
        let a = image(&golden(1));
        let lab = lab_pixels(&a);
        assert_eq!(psnr(mse(&a, &a, |_| true).unwrap()), PSNR_LIMIT);
        assert!((ssim(&a, &a).unwrap() - 1.0).abs() < 1e-12);
        assert!(differences(&lab, &lab).iter().all(|&d| d == 0.0));
        let labels = LabelMap::new(37, 29, (0..37 * 29).map(|i| (i % 3) as u8).collect()).unwrap();
        assert_eq!(consistency(&lab, &lab, &labels), Some(0.0));
    }

    #[test]
    fn errors_count_only_where_asked() {
        let (black, half) = (flat(4, 2, |_, _| 0.0), flat(4, 2, |x, _| if x < 2 { 0.5 } else { 0.0 }));
        assert_eq!(mse(&black, &half, |_| true), Some(0.125));
        assert_eq!(mse(&black, &half, |i| i % 4 < 2), Some(0.25));
        assert_eq!(mse(&black, &half, |i| i % 4 >= 2), Some(0.0));
        assert_eq!(mse(&black, &half, |_| false), None);
    }

    #[test]
    fn percentiles_interpolate() {
        assert_eq!(percentile(vec![3.0, 1.0, 2.0], 0.5), Some(2.0));
        assert_eq!(percentile(vec![4.0, 1.0, 2.0, 3.0], 0.5), Some(2.5));
        assert_eq!(percentile(vec![5.0], 0.95), Some(5.0));
        assert_eq!(percentile(vec![], 0.95), None);
    }

    #[test]
    fn a_border_has_the_step_across_it_and_nothing_else() {
        // A step of 0.5 in all channels at column 3, and one of 1 elsewhere that no border crosses.
        let image = flat(8, 4, |x, _| {
            if x < 3 {
                0.5
            } else if x < 6 {
                0.0
            } else {
                1.0
            }
        });
        let gradient = border_gradient(&image, |i| i % 8 < 3).unwrap();
        assert!((gradient - 0.75f64.sqrt()).abs() < 1e-12, "{gradient}");
        assert_eq!(border_gradient(&image, |_| true), None);
    }

    #[test]
    fn consistency_forgives_what_moves_all_classes_alike() {
        let labels = LabelMap::new(4, 1, vec![0, 0, 0, 1]).unwrap();
        let truth = [[20.0, 0.0, 0.0], [20.0, 0.0, 0.0], [20.0, 0.0, 0.0], [60.0, 5.0, 0.0]];
        let lighter = truth.map(|[l, a, b]| [l + 10.0, a, b]);
        assert_eq!(consistency(&lighter, &truth, &labels), Some(0.0));
        let mut one_off = truth;
        one_off[3] = [60.0, 5.0, 7.0];
        assert_eq!(consistency(&one_off, &truth, &labels), Some(7.0));
        let single = LabelMap::new(4, 1, vec![2; 4]).unwrap();
        assert_eq!(consistency(&one_off, &truth, &single), None);
    }

    #[test]
    fn too_small_for_a_window_has_no_ssim() {
        let small = flat(10, 30, |_, _| 0.5);
        assert_eq!(ssim(&small, &small), None);
    }
}
