//! What goes wrong with inputs in practice, made at random but repeatable.

use rand::{Rng, RngExt};

use super::color::{display, linear};
use crate::image::{LabelMap, RgbImage};

/// A label map drawn carelessly. Sizes are in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawn {
    /// Every class but class 0 loses this much at its border with class 0.
    Eroded(usize),
    /// Every class but class 0 grows this far into class 0.
    Dilated(usize),
    /// All borders wander, by at most this much in each direction, smoothly.
    Jittered(usize),
}

impl Drawn {
    pub fn apply(self, labels: &LabelMap, rng: &mut impl Rng) -> LabelMap {
        match self {
            Self::Eroded(radius) => {
                let near = |x, y| nearest(labels, x, y, radius, |class| class == 0).is_some();
                map(labels, |x, y, class| if class != 0 && near(x, y) { 0 } else { class })
            }
            Self::Dilated(radius) => {
                let near = |x, y| nearest(labels, x, y, radius, |class| class != 0);
                map(labels, |x, y, class| if class == 0 { near(x, y).unwrap_or(0) } else { class })
            }
            Self::Jittered(reach) => {
                let (w, h) = (labels.width(), labels.height());
                let (dx, dy) = (Waves::new(rng, w, h), Waves::new(rng, w, h));
                let moved = |at: usize, wave: f64, size: usize| {
                    (at as f64 + wave * reach as f64).round().clamp(0.0, (size - 1) as f64) as usize
                };
                map(labels, |x, y, _| labels.get(moved(x, dx.at(x, y), w), moved(y, dy.at(x, y), h)))
            }
        }
    }
}

fn map(labels: &LabelMap, f: impl Fn(usize, usize, u8) -> u8) -> LabelMap {
    let w = labels.width();
    let indices = labels.indices().iter().enumerate().map(|(i, &class)| f(i % w, i / w, class)).collect();
    LabelMap::new(w, labels.height(), indices).expect("as many labels as before")
}

/// The class nearest to a pixel, at most `radius` away, among those wanted.
fn nearest(labels: &LabelMap, x: usize, y: usize, radius: usize, wanted: impl Fn(u8) -> bool) -> Option<u8> {
    let mut best: Option<(usize, u8)> = None;
    for v in y.saturating_sub(radius)..=(y + radius).min(labels.height() - 1) {
        for u in x.saturating_sub(radius)..=(x + radius).min(labels.width() - 1) {
            let distance = u.abs_diff(x).pow(2) + v.abs_diff(y).pow(2);
            let class = labels.get(u, v);
            if distance <= radius * radius && best.is_none_or(|(d, _)| distance < d) && wanted(class) {
                best = Some((distance, class));
            }
        }
    }
    best.map(|(_, class)| class)
}

/// A smooth random function of the pixel, from -1 to 1: four plane waves of 2 to 6 periods a picture.
struct Waves([[f64; 3]; 4]);

impl Waves {
    fn new(rng: &mut impl Rng, width: usize, height: usize) -> Self {
        Self([(); 4].map(|()| {
            let (turn, phase) =
                (rng.random_range(0.0..std::f64::consts::TAU), rng.random_range(0.0..std::f64::consts::TAU));
            let pace = rng.random_range(2.0..6.0) * std::f64::consts::TAU / width.max(height) as f64;
            [pace * turn.cos(), pace * turn.sin(), phase]
        }))
    }

    fn at(&self, x: usize, y: usize) -> f64 {
        self.0.iter().map(|[u, v, phase]| (u * x as f64 + v * y as f64 + phase).sin()).sum::<f64>() / 4.0
    }
}

/// A reference taken badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Gaussian noise of standard deviation 0.08 in display values.
    Noisy,
    /// Two stops too dark.
    Dark,
    /// Under a light of a random colour: channels 0.5 to 1 times as bright, one of them unchanged.
    Cast,
    /// Under a light from one side: 0.4 times at one edge to 1.6 times at the opposite one.
    Lit,
}

impl Taken {
    pub fn apply(self, image: &RgbImage, rng: &mut impl Rng) -> RgbImage {
        let (w, h) = (image.width as f64, image.height as f64);
        let mut result = image.clone();
        let light = |image: &mut RgbImage, gain: &dyn Fn(f64, f64, usize) -> f64| {
            for (i, v) in image.pixels.iter_mut().enumerate() {
                let (x, y) = ((i / 3 % image.width) as f64, (i / 3 / image.width) as f64);
                *v = display(linear(f64::from(*v)) * gain(x, y, i % 3)) as f32;
            }
        };
        match self {
            Self::Noisy => {
                for v in &mut result.pixels {
                    *v = (*v + 0.08 * normal(rng) as f32).clamp(0.0, 1.0);
                }
            }
            Self::Dark => light(&mut result, &|_, _, _| 0.25),
            Self::Cast => {
                let mut gains = [(); 3].map(|()| rng.random_range(0.5..1.0));
                gains[rng.random_range(0..3)] = 1.0;
                light(&mut result, &|_, _, c| gains[c]);
            }
            Self::Lit => {
                let turn = rng.random_range(0.0..std::f64::consts::TAU);
                let (u, v) = (turn.cos(), turn.sin());
                let reach = u.abs() + v.abs();
                light(&mut result, &|x, y, _| {
                    let across = ((x / w - 0.5) * u + (y / h - 0.5) * v) * 2.0 / reach;
                    1.0 + 0.6 * across
                });
            }
        }
        result
    }
}

/// Box and Muller's transform.
fn normal(rng: &mut impl Rng) -> f64 {
    let (u, turn) = (1.0 - rng.random_range(0.0..1.0f64), rng.random_range(0.0..std::f64::consts::TAU));
    (-2.0 * u.ln()).sqrt() * turn.cos()
}

/// A change of tone and colour that a retoucher would have to undo: in light, a gain of 0.3 to 1 stops up or down and gains
/// within a quarter stop for each channel; then, on display values, a power and a change of saturation.
#[derive(Clone, Copy, Debug)]
pub struct Shift {
    gains: [f64; 3],
    power: f64,
    saturation: f64,
}

impl Shift {
    pub fn random(rng: &mut impl Rng) -> Self {
        let stops = rng.random_range(0.3..1.0) * if rng.random_bool(0.5) { 1.0 } else { -1.0 };
        Self {
            gains: [(); 3].map(|()| f64::exp2(stops + rng.random_range(-0.25..0.25))),
            power: f64::exp2(rng.random_range(-0.35..0.35)),
            saturation: rng.random_range(0.5..1.3),
        }
    }

    pub fn apply(&self, rgb: [f32; 3]) -> [f32; 3] {
        let toned: [f64; 3] =
            [0, 1, 2].map(|c| display(linear(f64::from(rgb[c])) * self.gains[c]).powf(self.power));
        let gray = 0.2126 * toned[0] + 0.7152 * toned[1] + 0.0722 * toned[2];
        toned.map(|v| (gray + (v - gray) * self.saturation).clamp(0.0, 1.0) as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn rng() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(5)
    }

    /// A square of class 2, 10 pixels a side, in the middle of 30 x 30.
    fn square() -> LabelMap {
        let inside = |v: usize| (10..20).contains(&v);
        LabelMap::new(30, 30, (0..900).map(|i| 2 * u8::from(inside(i % 30) && inside(i / 30))).collect())
            .unwrap()
    }

    #[test]
    fn erosion_and_dilation_move_the_border_by_their_radius() {
        let row = |labels: &LabelMap| (0..30).filter(|&x| labels.get(x, 15) == 2).collect::<Vec<_>>();
        let (less, more) =
            (Drawn::Eroded(3).apply(&square(), &mut rng()), Drawn::Dilated(4).apply(&square(), &mut rng()));
        assert_eq!(row(&less), (13..17).collect::<Vec<_>>());
        assert_eq!(row(&more), (6..24).collect::<Vec<_>>());
    }

    #[test]
    fn jitter_moves_borders_at_most_its_reach() {
        let before = square();
        let after = Drawn::Jittered(3).apply(&before, &mut rng());
        assert_ne!(before, after);
        for (i, (&a, &b)) in before.indices().iter().zip(after.indices()).enumerate() {
            if a != b {
                let (x, y) = (i % 30, i / 30);
                // Both directions may add up: at most 3 in each.
                let near = (0..900).any(|j| {
                    before.indices()[j] == b && (j % 30).abs_diff(x) <= 3 && (j / 30).abs_diff(y) <= 3
                });
                assert!(near, "({x}, {y}) became {b}");
            }
        }
    }

    #[test]
    fn references_change_as_they_say() {
        let gray = RgbImage { width: 40, height: 40, pixels: vec![0.5; 4800] };
        let light = |image: &RgbImage| image.pixels.iter().map(|&v| linear(f64::from(v))).collect::<Vec<_>>();
        let before = linear(0.5);
        for v in light(&Taken::Dark.apply(&gray, &mut rng())) {
            assert!((v / before - 0.25).abs() < 1e-4, "{v}");
        }
        for v in light(&Taken::Lit.apply(&gray, &mut rng())) {
            assert!((0.4 - 1e-3..1.6 + 1e-3).contains(&(v / before)), "{v}");
        }
        let noisy = Taken::Noisy.apply(&gray, &mut rng());
        let variance = noisy.pixels.iter().map(|v| f64::from(v - 0.5).powi(2)).sum::<f64>() / 4800.0;
        // Of 4800 samples: a deviation has a standard error of 1 %.
        assert!((variance.sqrt() - 0.08).abs() < 0.004, "{variance}");
        let cast = Taken::Cast.apply(&gray, &mut rng());
        assert!(cast.pixels.chunks(3).all(|p| p == &cast.pixels[..3]) && cast.pixels.contains(&0.5));
    }
}
