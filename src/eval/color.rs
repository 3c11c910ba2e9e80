//! Colour spaces and colour difference, in double precision.

use std::sync::LazyLock;

/// Linear light to XYZ (D65, Y of white 1), IEC 61966-2-1.
const RGB_TO_XYZ: [[f64; 3]; 3] =
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]];

/// Linear light to LMS, and LMS's logarithms to l-alpha-beta: Reinhard et al., "Color Transfer between Images", 2001.
const RGB_TO_LMS: [[f64; 3]; 3] =
    [[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]];

/// Added to LMS under the logarithm, which near black would make the noise of 8-bit steps into most of the variance.
const LMS_TOE: f64 = 0.03;

/// Where CIE L*a*b*'s cube root gives way to a line.
const DELTA: f64 = 6.0 / 29.0;

fn times(m: &[[f64; 3]; 3], v: [f64; 3]) -> [f64; 3] {
    m.map(|row| row[0] * v[0] + row[1] * v[1] + row[2] * v[2])
}

/// Cramer's rule.
fn inverse(m: &[[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let minor = |i: usize, j: usize| {
        let (a, b, c, d) = ((i + 1) % 3, (i + 2) % 3, (j + 1) % 3, (j + 2) % 3);
        m[a][c] * m[b][d] - m[a][d] * m[b][c]
    };
    let determinant: f64 = (0..3).map(|j| m[0][j] * minor(0, j)).sum();
    [0, 1, 2].map(|i| [0, 1, 2].map(|j| minor(j, i) / determinant))
}

/// sRGB's transfer function: a display value in [0, 1] to linear light.
pub fn linear(v: f64) -> f64 {
    if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
}

/// Linear light to a display value in [0, 1]; light beyond is clamped.
pub fn display(v: f64) -> f64 {
    match v.clamp(0.0, 1.0) {
        v if v <= 0.0031308 => 12.92 * v,
        v => 1.055 * v.powf(1.0 / 2.4) - 0.055,
    }
}

/// CIE L*a*b* of an sRGB colour in [0, 1]; the white is sRGB's own, so that grays have a and b of 0.
pub fn lab(rgb: [f32; 3]) -> [f64; 3] {
    let xyz = times(&RGB_TO_XYZ, rgb.map(|v| linear(f64::from(v))));
    let [x, y, z] = [0, 1, 2].map(|i| {
        let t = xyz[i] / RGB_TO_XYZ[i].iter().sum::<f64>();
        if t > DELTA * DELTA * DELTA { t.cbrt() } else { t / (3.0 * DELTA * DELTA) + 4.0 / 29.0 }
    });
    [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
}

/// The inverse of [`lab`]; colours outside sRGB are clamped.
pub fn from_lab([l, a, b]: [f64; 3]) -> [f32; 3] {
    static XYZ_TO_RGB: LazyLock<[[f64; 3]; 3]> = LazyLock::new(|| inverse(&RGB_TO_XYZ));
    let y = (l + 16.0) / 116.0;
    let roots = [y + a / 500.0, y, y - b / 200.0];
    let xyz = [0, 1, 2].map(|i| {
        let t = roots[i];
        let light = if t > DELTA { t * t * t } else { (t - 4.0 / 29.0) * 3.0 * DELTA * DELTA };
        light * RGB_TO_XYZ[i].iter().sum::<f64>()
    });
    times(&XYZ_TO_RGB, xyz).map(|v| display(v) as f32)
}

/// Reinhard's l-alpha-beta of an sRGB colour in [0, 1].
pub fn lalphabeta(rgb: [f32; 3]) -> [f64; 3] {
    let lms = times(&RGB_TO_LMS, rgb.map(|v| linear(f64::from(v))));
    let [l, m, s] = lms.map(|v| (v + LMS_TOE).log10());
    [(l + m + s) / 3f64.sqrt(), (l + m - 2.0 * s) / 6f64.sqrt(), (l - m) / 2f64.sqrt()]
}

/// The inverse of [`lalphabeta`]; colours outside sRGB are clamped.
pub fn from_lalphabeta(lab: [f64; 3]) -> [f32; 3] {
    let [l, a, b] = [lab[0] / 3f64.sqrt(), lab[1] / 6f64.sqrt(), lab[2] / 2f64.sqrt()];
    let lms = [l + a + b, l + a - b, l - 2.0 * a].map(|v| 10f64.powf(v) - LMS_TOE);
    static LMS_TO_RGB: LazyLock<[[f64; 3]; 3]> = LazyLock::new(|| inverse(&RGB_TO_LMS));
    times(&LMS_TO_RGB, lms).map(|v| display(v) as f32)
}

/// CIEDE2000 colour difference of two L*a*b* colours: Sharma, Wu, Dalal, "The CIEDE2000 Color-Difference Formula", 2005,
/// its equations 2 to 22, with all parametric factors 1.
pub fn ciede2000(one: [f64; 3], two: [f64; 3]) -> f64 {
    let chroma7 = |c: f64| (c.powi(7) / (c.powi(7) + 25f64.powi(7))).sqrt();
    let mean_c = (one[1].hypot(one[2]) + two[1].hypot(two[2])) / 2.0;
    let g = 0.5 * (1.0 - chroma7(mean_c));
    let polar = |[_, a, b]: [f64; 3]| {
        let a = a * (1.0 + g);
        let hue = if a == 0.0 && b == 0.0 { 0.0 } else { b.atan2(a).to_degrees().rem_euclid(360.0) };
        (a.hypot(b), hue)
    };
    let ((c1, h1), (c2, h2)) = (polar(one), polar(two));
    let gray = c1 * c2 == 0.0;

    let dl = two[0] - one[0];
    let dc = c2 - c1;
    let dh = match h2 - h1 {
        _ if gray => 0.0,
        d if d > 180.0 => d - 360.0,
        d if d < -180.0 => d + 360.0,
        d => d,
    };
    let dh = 2.0 * (c1 * c2).sqrt() * (dh / 2.0).to_radians().sin();

    let l = (one[0] + two[0]) / 2.0;
    let c = (c1 + c2) / 2.0;
    let h = match h1 + h2 {
        sum if gray => sum,
        sum if (h1 - h2).abs() <= 180.0 => sum / 2.0,
        sum if sum < 360.0 => (sum + 360.0) / 2.0,
        sum => (sum - 360.0) / 2.0,
    };
    let cos = |degrees: f64| degrees.to_radians().cos();
    let t = 1.0 - 0.17 * cos(h - 30.0) + 0.24 * cos(2.0 * h) + 0.32 * cos(3.0 * h + 6.0)
        - 0.2 * cos(4.0 * h - 63.0);
    let sl = 1.0 + 0.015 * (l - 50.0).powi(2) / (20.0 + (l - 50.0).powi(2)).sqrt();
    let sc = 1.0 + 0.045 * c;
    let sh = 1.0 + 0.015 * c * t;
    let turn = 30.0 * (-((h - 275.0) / 25.0).powi(2)).exp();
    let rt = -(2.0 * turn).to_radians().sin() * 2.0 * chroma7(c);
    let (l, c, h) = (dl / sl, dc / sc, dh / sh);
    (l * l + c * c + h * h + rt * c * h).max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Table 1 of Sharma, Wu, Dalal 2005: L, a, b of both colours, and their difference.
    #[rustfmt::skip]
    const SHARMA: [[f64; 7]; 34] = [
        [50.0000, 2.6772, -79.7751, 50.0000, 0.0000, -82.7485, 2.0425],
        [50.0000, 3.1571, -77.2803, 50.0000, 0.0000, -82.7485, 2.8615],
        [50.0000, 2.8361, -74.0200, 50.0000, 0.0000, -82.7485, 3.4412],
        [50.0000, -1.3802, -84.2814, 50.0000, 0.0000, -82.7485, 1.0000],
        [50.0000, -1.1848, -84.8006, 50.0000, 0.0000, -82.7485, 1.0000],
        [50.0000, -0.9009, -85.5211, 50.0000, 0.0000, -82.7485, 1.0000],
        [50.0000, 0.0000, 0.0000, 50.0000, -1.0000, 2.0000, 2.3669],
        [50.0000, -1.0000, 2.0000, 50.0000, 0.0000, 0.0000, 2.3669],
        [50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0009, 7.1792],
        [50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0010, 7.1792],
        [50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0011, 7.2195],
        [50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0012, 7.2195],
        [50.0000, -0.0010, 2.4900, 50.0000, 0.0009, -2.4900, 4.8045],
        [50.0000, -0.0010, 2.4900, 50.0000, 0.0010, -2.4900, 4.8045],
        [50.0000, -0.0010, 2.4900, 50.0000, 0.0011, -2.4900, 4.7461],
        [50.0000, 2.5000, 0.0000, 50.0000, 0.0000, -2.5000, 4.3065],
        [50.0000, 2.5000, 0.0000, 73.0000, 25.0000, -18.0000, 27.1492],
        [50.0000, 2.5000, 0.0000, 61.0000, -5.0000, 29.0000, 22.8977],
        [50.0000, 2.5000, 0.0000, 56.0000, -27.0000, -3.0000, 31.9030],
        [50.0000, 2.5000, 0.0000, 58.0000, 24.0000, 15.0000, 19.4535],
        [50.0000, 2.5000, 0.0000, 50.0000, 3.1736, 0.5854, 1.0000],
        [50.0000, 2.5000, 0.0000, 50.0000, 3.2972, 0.0000, 1.0000],
        [50.0000, 2.5000, 0.0000, 50.0000, 1.8634, 0.5757, 1.0000],
        [50.0000, 2.5000, 0.0000, 50.0000, 3.2592, 0.3350, 1.0000],
        [60.2574, -34.0099, 36.2677, 60.4626, -34.1751, 39.4387, 1.2644],
        [63.0109, -31.0961, -5.8663, 62.8187, -29.7946, -4.0864, 1.2630],
        [61.2901, 3.7196, -5.3901, 61.4292, 2.2480, -4.9620, 1.8731],
        [35.0831, -44.1164, 3.7933, 35.0232, -40.0716, 1.5901, 1.8645],
        [22.7233, 20.0904, -46.6940, 23.0331, 14.9730, -42.5619, 2.0373],
        [36.4612, 47.8580, 18.3852, 36.2715, 50.5065, 21.2231, 1.4146],
        [90.8027, -2.0831, 1.4410, 91.1528, -1.6435, 0.0447, 1.4441],
        [90.9257, -0.5406, -0.9208, 88.6381, -0.8985, -0.7239, 1.5381],
        [6.7747, -0.2908, -2.4247, 5.8714, -0.0985, -2.2286, 0.6377],
        [2.0776, 0.0795, -1.1350, 0.9033, -0.0636, -0.5514, 0.9082],
    ];

    #[test]
    fn ciede2000_gives_the_published_table_both_ways() {
        for [l1, a1, b1, l2, a2, b2, wanted] in SHARMA {
            let (one, two) = ([l1, a1, b1], [l2, a2, b2]);
            for difference in [ciede2000(one, two), ciede2000(two, one)] {
                // The table has four decimals.
                assert!(
                    (difference - wanted).abs() < 0.5001e-4,
                    "{one:?} {two:?}: {difference}, not {wanted}"
                );
            }
        }
    }

    #[test]
    fn lab_of_grays_is_neutral_and_of_a_blue_as_scikit_image_has_it() {
        for v in [0.0, 0.1, 0.5, 1.0] {
            let [l, a, b] = lab([v; 3]);
            assert!(
                a.abs() < 1e-10 && b.abs() < 1e-10 && (0.0..=100.0 + 1e-10).contains(&l),
                "{v}: {l} {a} {b}"
            );
        }
        // skimage.color.rgb2lab 0.26 of (0.2, 0.5, 0.9); its matrix has more digits, its white is rounded.
        let wanted = [53.70090718, 12.15926861, -58.34866545];
        for (got, wanted) in lab([0.2, 0.5, 0.9]).into_iter().zip(wanted) {
            assert!((got - wanted).abs() < 0.02, "{got}, not {wanted}");
        }
    }

    #[test]
    fn there_and_back() {
        for rgb in [[0.5f32, 0.5, 0.5], [0.9, 0.3, 0.2], [0.2, 0.7, 0.95], [0.01, 0.0, 0.02], [1.0; 3]] {
            for back in [from_lalphabeta(lalphabeta(rgb)), from_lab(lab(rgb))] {
                for (got, wanted) in back.into_iter().zip(rgb) {
                    assert!((got - wanted).abs() < 1e-6, "{rgb:?}");
                }
            }
        }
    }
}
