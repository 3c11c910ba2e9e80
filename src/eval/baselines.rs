//! What a restyling has to beat: methods that any editor could have. Each gives a whole picture; where a class is wanted
//! alone, the caller lays it over the content there.

use rayon::prelude::*;

use super::color::{from_lab, from_lalphabeta, lalphabeta};
use super::metrics::lab_pixels;
use crate::image::{LabelMap, RgbImage};

/// Mean and standard deviation of each of three channels.
#[derive(Clone, Copy)]
struct Moments {
    mean: [f64; 3],
    deviation: [f64; 3],
}

impl Moments {
    /// None of no colours.
    fn of(colors: impl Iterator<Item = [f64; 3]> + Clone) -> Option<Self> {
        let n = colors.clone().count();
        let average = |f: &dyn Fn([f64; 3], usize) -> f64| {
            let mut sums = [0.0; 3];
            for color in colors.clone() {
                (0..3).for_each(|c| sums[c] += f(color, c));
            }
            sums.map(|sum| sum / n as f64)
        };
        if n == 0 {
            return None;
        }
        let mean = average(&|color, c| color[c]);
        let deviation = average(&|color, c| (color[c] - mean[c]).powi(2)).map(f64::sqrt);
        Some(Self { mean, deviation })
    }

    /// A colour of these moments as one of `to`'s. What is flat here has no spread to scale.
    fn transfer(&self, color: [f64; 3], to: &Self) -> [f64; 3] {
        [0, 1, 2].map(|c| {
            let scale = if self.deviation[c] > 1e-6 { to.deviation[c] / self.deviation[c] } else { 0.0 };
            (color[c] - self.mean[c]) * scale + to.mean[c]
        })
    }
}

fn perceived(image: &RgbImage) -> Vec<[f64; 3]> {
    image.pixels.par_chunks_exact(3).map(|p| lalphabeta([p[0], p[1], p[2]])).collect()
}

/// The colours that lie in one class.
fn of_class<'a>(
    colors: &'a [[f64; 3]],
    labels: &'a LabelMap,
    class: u8,
) -> impl Iterator<Item = [f64; 3]> + Clone + 'a {
    colors.iter().zip(labels.indices()).filter(move |&(_, &label)| label == class).map(|(&color, _)| color)
}

/// Mean and standard deviation in l-alpha-beta become the reference's, over the whole picture: Reinhard, Ashikhmin, Gooch,
/// Shirley, "Color Transfer between Images", 2001.
pub fn reinhard(content: &RgbImage, reference: &RgbImage) -> RgbImage {
    moved(content, &global(&perceived(content), &perceived(reference)))
}

fn global(content: &[[f64; 3]], reference: &[[f64; 3]]) -> Vec<[f64; 3]> {
    match (Moments::of(content.iter().copied()), Moments::of(reference.iter().copied())) {
        (Some(from), Some(to)) => content.par_iter().map(|&color| from.transfer(color, &to)).collect(),
        _ => content.to_vec(),
    }
}

/// [`reinhard`] class by class; a class that the reference lacks is transferred as part of the whole.
pub fn reinhard_per_class(
    content: &RgbImage,
    labels: &LabelMap,
    reference: &RgbImage,
    reference_labels: &LabelMap,
) -> RgbImage {
    let (from, to) = (perceived(content), perceived(reference));
    let mut result = global(&from, &to);
    for class in labels.classes_present() {
        let moments = (
            Moments::of(of_class(&from, labels, class)),
            Moments::of(of_class(&to, reference_labels, class)),
        );
        if let (Some(own), Some(wanted)) = moments {
            for (i, _) in labels.indices().iter().enumerate().filter(|&(_, &label)| label == class) {
                result[i] = own.transfer(from[i], &wanted);
            }
        }
    }
    moved(content, &result)
}

fn moved(content: &RgbImage, colors: &[[f64; 3]]) -> RgbImage {
    let pixels = colors.par_iter().flat_map_iter(|&color| from_lalphabeta(color)).collect();
    RgbImage { pixels, ..*content }
}

/// Each class painted flat in the reference's mean, of CIE L*a*b*; a class that the reference lacks, in the mean of the
/// whole.
pub fn class_mean(labels: &LabelMap, reference: &RgbImage, reference_labels: &LabelMap) -> RgbImage {
    let colors = lab_pixels(reference);
    let whole = Moments::of(colors.iter().copied());
    let mut table = [[0.0; 3]; 256];
    for class in labels.classes_present() {
        if let Some(moments) = Moments::of(of_class(&colors, reference_labels, class)).or(whole) {
            table[usize::from(class)] = from_lab(moments.mean);
        }
    }
    let pixels = labels.indices().iter().flat_map(|&label| table[usize::from(label)]).collect();
    RgbImage { width: labels.width(), height: labels.height(), pixels }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(pixels: &[[f32; 3]]) -> RgbImage {
        RgbImage { width: pixels.len(), height: 1, pixels: pixels.concat() }
    }

    fn labels(indices: &[u8]) -> LabelMap {
        LabelMap::new(indices.len(), 1, indices.to_vec()).unwrap()
    }

    fn close(a: &RgbImage, b: &RgbImage) {
        for (a, b) in a.pixels.iter().zip(&b.pixels) {
            assert!((a - b).abs() < 1e-5, "{a}, not {b}");
        }
    }

    const CONTENT: [[f32; 3]; 4] = [[0.2, 0.3, 0.4], [0.3, 0.4, 0.3], [0.8, 0.7, 0.6], [0.6, 0.8, 0.7]];
    const REFERENCE: [[f32; 3]; 4] = [[0.5, 0.45, 0.4], [0.6, 0.5, 0.45], [0.35, 0.4, 0.5], [0.3, 0.4, 0.45]];

    #[test]
    fn a_picture_in_its_own_look_stays() {
        let (a, l) = (image(&CONTENT), labels(&[0, 0, 1, 1]));
        close(&reinhard(&a, &a), &a);
        close(&reinhard_per_class(&a, &l, &a, &l), &a);
    }

    #[test]
    fn moments_become_the_references() {
        let (a, b) = (image(&CONTENT), image(&REFERENCE));
        let result = Moments::of(perceived(&reinhard(&a, &b)).into_iter()).unwrap();
        let wanted = Moments::of(perceived(&b).into_iter()).unwrap();
        for c in 0..3 {
            assert!((result.mean[c] - wanted.mean[c]).abs() < 1e-3, "mean {c}");
            assert!((result.deviation[c] - wanted.deviation[c]).abs() < 1e-3, "deviation {c}");
        }
    }

    #[test]
    fn two_colours_a_class_become_the_references_two() {
        // Two points on a line in each channel are carried onto any two others of the same order exactly.
        let a = image(&[[0.2, 0.2, 0.2], [0.4, 0.4, 0.4], [0.5, 0.5, 0.5], [0.9, 0.9, 0.9]]);
        let b = image(&[[0.3, 0.3, 0.3], [0.8, 0.8, 0.8], [0.1 + 0.1, 0.2, 0.2], [0.3, 0.3, 0.3]]);
        let l = labels(&[0, 0, 1, 1]);
        close(&reinhard_per_class(&a, &l, &b, &l), &b);
    }

    #[test]
    fn class_means_are_flat_and_absent_classes_take_the_whole() {
        // Grays of L 20 and 40 average to one of L 30, and with one of L 90 to one of 50.
        let gray = |l: f64| from_lab([l, 0.0, 0.0]);
        let reference = image(&[gray(20.0), gray(40.0), gray(90.0)]);
        let result = class_mean(&labels(&[1, 0, 0, 7]), &reference, &labels(&[0, 0, 1]));
        close(&result, &image(&[gray(90.0), gray(30.0), gray(30.0), gray(50.0)]));
    }
}
