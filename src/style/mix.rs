//! Mixing styles, class by class.

use candle_core::Tensor;

use super::Style;
use crate::{Error, Result};

impl Style {
    /// The mean of several styles of one model, each class weighted by itself: `weights` has one row of weights, one for
    /// each class, for each style; none weighs all alike. A style that lacks a class does not count for it, whatever its
    /// weight; a class that all lack, or that has no weight at all, is absent from the mix.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there is no style, sizes differ, or a weight is negative or not finite.
    pub fn mix(styles: &[&Self], weights: Option<&[f32]>) -> Result<Self> {
        let Some(first) = styles.first() else {
            return Err(Error::invalid("no styles: a mix needs at least one"));
        };
        let (classes, width) = first.codes.dims2()?;
        if let Some(other) = styles.iter().find(|s| s.codes.dims() != first.codes.dims()) {
            return Err(Error::invalid(format!(
                "the styles are of different models: codes of {:?} and of {:?}",
                first.codes.dims(),
                other.codes.dims()
            )));
        }
        if let Some(weights) = weights {
            if weights.len() != styles.len() * classes {
                return Err(Error::invalid(format!(
                    "{} weights for {} styles of {classes} classes: give one for each class of each style",
                    weights.len(),
                    styles.len()
                )));
            }
            if let Some(i) = weights.iter().position(|w| !(w.is_finite() && *w >= 0.0)) {
                return Err(Error::invalid(format!(
                    "the weight of class {} in style {} is {}, not 0 or above",
                    i % classes,
                    i / classes,
                    weights[i]
                )));
            }
        }
        let weight = |style: usize, class: usize| match (styles[style].has(class), weights) {
            (false, _) => 0.0,
            (true, None) => 1.0,
            (true, Some(weights)) => weights[style * classes + class],
        };
        let mut codes = vec![0.0; classes * width];
        let mut present = vec![false; classes];
        let all = styles.iter().map(|s| s.codes.flatten_all()?.to_vec1::<f32>());
        let all = all.collect::<candle_core::Result<Vec<_>>>()?;
        for (class, mixed) in codes.chunks_exact_mut(width).enumerate() {
            // In f64, and each as its share, so that huge weights cannot overflow and one style alone stays itself.
            let sum: f64 = (0..styles.len()).map(|s| f64::from(weight(s, class))).sum();
            present[class] = sum > 0.0;
            for (s, from) in all.iter().enumerate() {
                let from = &from[class * width..][..width];
                let share = match present[class] {
                    true => f64::from(weight(s, class)) / sum,
                    // The code of an empty region, which all styles of a model have alike for classes they lack.
                    false => 1.0 / styles.len() as f64,
                };
                if share > 0.0 {
                    mixed.iter_mut().zip(from).for_each(|(m, &v)| *m += (f64::from(v) * share) as f32);
                }
            }
        }
        Ok(Self { codes: Tensor::from_vec(codes, (classes, width), first.codes.device())?, present })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn style(codes: &[f32], present: &[bool]) -> Style {
        let shape = (present.len(), codes.len() / present.len());
        Style {
            codes: Tensor::from_vec(codes.to_vec(), shape, &Device::Cpu).unwrap(),
            present: present.to_vec(),
        }
    }

    fn codes(style: &Style) -> Vec<f32> {
        style.codes.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn each_class_is_mixed_by_its_own_weights() {
        let (a, b) = (style(&[1.0, 2.0, 3.0, 4.0], &[true; 2]), style(&[5.0, 6.0, 7.0, 8.0], &[true; 2]));
        let mixed = Style::mix(&[&a, &b], Some(&[3.0, 0.0, 1.0, 2.0])).unwrap();
        assert_eq!(codes(&mixed), [2.0, 3.0, 7.0, 8.0]);
        assert_eq!(codes(&Style::mix(&[&a, &b], None).unwrap()), [3.0, 4.0, 5.0, 6.0]);
        assert_eq!(codes(&Style::mix(&[&a], None).unwrap()), codes(&a));
    }

    #[test]
    fn a_style_does_not_count_for_a_class_that_it_lacks() {
        let (a, b) = (style(&[1.0, 2.0], &[true, false]), style(&[5.0, 6.0], &[true, true]));
        let mixed = Style::mix(&[&a, &b], None).unwrap();
        assert_eq!((codes(&mixed), mixed.has(1)), (vec![3.0, 6.0], true));
        let none = Style::mix(&[&a], None).unwrap();
        assert!(none.has(0) && !none.has(1));
    }

    #[test]
    fn huge_weights_do_not_overflow() {
        let (a, b) = (style(&[1.0], &[true]), style(&[3.0], &[true]));
        assert_eq!(codes(&Style::mix(&[&a, &b], Some(&[f32::MAX, f32::MAX])).unwrap()), [2.0]);
    }

    #[test]
    fn strange_mixes_are_refused() {
        let (a, b) = (style(&[1.0, 2.0], &[true; 2]), style(&[1.0, 2.0, 3.0], &[true; 3]));
        let refused = |styles: &[&Style], weights: Option<&[f32]>| {
            assert!(matches!(Style::mix(styles, weights), Err(Error::InvalidArgument(_))), "{weights:?}");
        };
        refused(&[], None);
        refused(&[&a, &b], None);
        refused(&[&a], Some(&[1.0]));
        for bad in [-1.0, f32::NAN, f32::INFINITY] {
            refused(&[&a], Some(&[1.0, bad]));
        }
    }
}
