//! The content's grain, for pixels that the generator draws: without it a new shape lies smooth in a grainy photograph.

use crate::image::{LabelMap, View};

/// Places at which grain is looked at, about.
const PLACES: usize = 1 << 16;

/// Places of a class from which its grain is known.
const ENOUGH: usize = 64;

/// Grain of each class, and how it is drawn.
pub(super) struct Grain {
    of: Vec<Amount>,
    whole: Amount,
    seed: u64,
}

/// Standard deviations: of what red, green and blue have in common, and of what each has for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Amount {
    common: f32,
    each: f32,
}

impl Grain {
    /// Looks at the classes of `labels`; one that it hardly shows has what the picture has as a whole.
    ///
    /// Grain is what differs between a pixel and the mean of its neighbours in the row. Edges and texture differ there too, so only
    /// the smaller half of the differences counts, as that of a normal distribution.
    pub fn of(content: &View, labels: &LabelMap, classes: usize) -> Self {
        let (width, height) = (content.width(), content.height());
        let step = ((width * height / PLACES) as f64).sqrt().ceil().max(1.0) as usize;
        let mut found = vec![Differences::default(); classes];
        let mut seed = 0xcbf2_9ce4_8422_2325u64;
        for y in (step / 2..height).step_by(step) {
            let (row, pixels) = (labels.row(y), content.row(y));
            for x in (step / 2 + 1..width.saturating_sub(1)).step_by(step) {
                if row[x - 1] != row[x] || row[x + 1] != row[x] {
                    continue;
                }
                let mut rgb = [0.0f32; 9];
                pixels.read(x - 1, &mut rgb);
                let d: [f32; 3] = std::array::from_fn(|c| rgb[c] - 2.0 * rgb[3 + c] + rgb[6 + c]);
                if d.iter().all(|d| d.is_finite()) {
                    found[usize::from(row[x])].add(d);
                    // Another picture, another grain: the next frame's must not stand still.
                    seed = (seed ^ u64::from(rgb[3].to_bits())).wrapping_mul(0x0000_0100_0000_01b3);
                }
            }
        }
        let mut all = Differences::default();
        found.iter().for_each(|of| all.extend(of));
        let whole = all.amount();
        let of = |mut of: Differences| if of.mean.len() < ENOUGH { whole } else { of.amount() };
        Self { of: found.into_iter().map(of).collect(), whole, seed }
    }

    /// The mean square by which grain moves a colour, over the whole picture.
    pub fn square(&self) -> f32 {
        3.0 * (self.whole.common.powi(2) + self.whole.each.powi(2))
    }

    /// The grain of a pixel of `class`.
    pub fn at(&self, class: usize, x: usize, y: usize) -> [f32; 3] {
        let Amount { common, each } = self.of[class];
        if common == 0.0 && each == 0.0 {
            return [0.0; 3];
        }
        let draw = |k: u64| {
            let place = ((y as u64) << 32 | x as u64).wrapping_mul(4).wrapping_add(k);
            normal(mixed(self.seed ^ place))
        };
        let shared = common * draw(0);
        std::array::from_fn(|c| shared + each * draw(1 + c as u64))
    }
}

/// Differences between pixels and their neighbours: of the mean of red, green and blue, and of each.
#[derive(Clone, Default)]
struct Differences {
    mean: Vec<f32>,
    each: Vec<f32>,
}

impl Differences {
    fn add(&mut self, d: [f32; 3]) {
        self.mean.push(((d[0] + d[1] + d[2]) / 3.0).abs());
        self.each.extend(d.map(f32::abs));
    }

    fn extend(&mut self, other: &Self) {
        self.mean.extend(&other.mean);
        self.each.extend(&other.each);
    }

    fn amount(&mut self) -> Amount {
        let (mean, each) = (variance(&mut self.mean), variance(&mut self.each));
        // The mean of three has what they have in common whole, and a third of the variance of what each has for itself.
        let common = (0.5 * (3.0 * mean - each)).clamp(0.0, each);
        Amount { common: common.sqrt(), each: (each - common).sqrt() }
    }
}

/// The variance of pixels whose second differences have these sizes.
fn variance(sizes: &mut [f32]) -> f32 {
    /// The mean of the smaller half of |x|, x of the standard normal distribution: 4 (phi(0) - phi(0.6745)).
    const HALF: f32 = 0.324_66;
    let half = sizes.len() / 2;
    if half == 0 {
        return 0.0;
    }
    sizes.select_nth_unstable_by(half, f32::total_cmp);
    let mean = sizes[..half].iter().sum::<f32>() / half as f32;
    // A second difference has six times a pixel's variance.
    (mean / HALF).powi(2) / 6.0
}

/// Well mixed bits (the finaliser of SplitMix64, Steele, Lea and Flood, 2014).
fn mixed(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// About normal, of variance 1: the sum of four even ones.
fn normal(bits: u64) -> f32 {
    let sum: u32 = (0..4).map(|k| (bits >> (16 * k)) as u32 & 0xffff).sum();
    // Each has a variance of 1 / 12.
    (sum as f32 / 65536.0 - 2.0) * 3.0f32.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Picture, Samples};

    /// Two classes: left with grain that is gray, right with grain in each colour; over slopes and a stripe.
    fn grainy(sigma: f32) -> (Picture, LabelMap) {
        let (width, height) = (400, 300);
        let samples = (0..width * height).flat_map(|i| {
            let (x, y) = (i % width, i / width);
            let gray = normal(mixed(i as u64));
            [0, 1, 2].map(|c| {
                let grain = if x < 200 { gray } else { normal(mixed((i * 3 + c) as u64 + (1 << 40))) };
                0.2 + 0.001 * y as f32 + 0.3 * f32::from(u8::from(x % 50 < 4)) + sigma * grain
            })
        });
        let picture = Picture::new(width, height, 3, Samples::F32(samples.collect())).unwrap();
        let labels = (0..width * height).map(|i| u8::from(i % width >= 200)).collect();
        (picture, LabelMap::new(width, height, labels).unwrap())
    }

    #[test]
    fn grain_is_measured_past_slopes_and_edges() {
        let (picture, labels) = grainy(0.02);
        let grain = Grain::of(&picture.view(), &labels, 3);
        let near = |a: f32, b: f32| (a - b).abs() < 0.004;
        assert!(near(grain.of[0].common, 0.02) && near(grain.of[0].each, 0.0), "{:?}", grain.of);
        assert!(near(grain.of[1].common, 0.0) && near(grain.of[1].each, 0.02), "{:?}", grain.of);
        // A class that the picture does not show has the whole picture's.
        assert!(grain.of[2].common > 0.005 && grain.of[2].each > 0.005, "{:?}", grain.of);
    }

    #[test]
    fn drawn_grain_has_the_measured_amount_and_differs_from_picture_to_picture() {
        let [a, b] = [0.02, 0.03].map(|sigma| {
            let (picture, labels) = grainy(sigma);
            Grain::of(&picture.view(), &labels, 2)
        });
        let (mut sum, mut square, mut gray) = (0.0f64, 0.0f64, 0.0f64);
        for i in 0..10_000 {
            let rgb = a.at(0, i % 100, i / 100).map(f64::from);
            sum += rgb[0];
            square += rgb[0] * rgb[0];
            gray += (rgb[0] - rgb[1]).powi(2);
        }
        let deviation = (square / 1e4).sqrt();
        assert!((sum / 1e4).abs() < 1e-3 && (deviation - 0.02).abs() < 0.004, "{sum} {deviation}");
        assert!((gray / 1e4).sqrt() < 0.25 * deviation, "it is gray");
        assert_ne!(a.seed, b.seed);
    }

    #[test]
    fn a_picture_without_grain_gets_none() {
        let (picture, labels) = grainy(0.0);
        let grain = Grain::of(&picture.view(), &labels, 2);
        let most = grain.of.iter().map(|of| of.common.max(of.each)).fold(0.0, f32::max);
        assert!(most < 1e-6, "{most}");
    }
}
