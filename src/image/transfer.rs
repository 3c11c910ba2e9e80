//! The sRGB curve (IEC 61966-2-1), continued beyond [0, 1]: above 1 by its own formula, below 0 by symmetry.

/// Light to display values, in place.
pub(crate) fn encode(values: &mut [f32]) {
    for v in values {
        let a = v.abs();
        let curve = if a <= 0.003_130_8 { a * 12.92 } else { 1.055 * a.powf(1.0 / 2.4) - 0.055 };
        *v = curve.copysign(*v);
    }
}

/// Display values to light, in place.
pub(crate) fn decode(values: &mut [f32]) {
    for v in values {
        let a = v.abs();
        let curve = if a <= 0.040_45 { a / 12.92 } else { ((a + 0.055) / 1.055).powf(2.4) };
        *v = curve.copysign(*v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_is_the_same_at_every_height() {
        for i in -4000..4000 {
            let value = i as f32 / 100.0;
            let mut there = [value];
            encode(&mut there);
            decode(&mut there);
            // A few roundings of 24 bits, more steeply at the top.
            assert!(
                (there[0] - value).abs() <= 2e-6 * value.abs().max(0.1),
                "{value} came back as {}",
                there[0]
            );
        }
    }

    #[test]
    fn known_values_of_the_curve() {
        for (light, display) in [(0.0, 0.0), (0.214_041_14, 0.5), (1.0, 1.0), (-0.214_041_14, -0.5)] {
            let mut v = [light];
            encode(&mut v);
            assert!((v[0] - display).abs() < 1e-6, "{light}: {}", v[0]);
        }
        let mut v = [f32::NAN, f32::INFINITY];
        encode(&mut v);
        assert!(v[0].is_nan() && v[1] == f32::INFINITY);
    }
}
