//! Which model of a run is the best by its held-out figures.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What models of a run are compared by; more is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Measure {
    /// Mean peak signal-to-noise ratio in dB.
    #[serde(rename = "PSNR of pairs")]
    PsnrOfPairs,
    #[serde(rename = "PSNR of pictures")]
    PsnrOfPictures,
    /// Mean intersection over union of the classes, 0 to 1.
    #[serde(rename = "mean IoU of pictures")]
    MeanIou,
}

/// A held-out figure of one model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    pub measure: Measure,
    pub value: f64,
    /// The held-out pictures or pairs that it is of.
    pub count: usize,
}

impl Figure {
    /// The value with its unit.
    fn number(&self) -> String {
        match self.measure {
            Measure::PsnrOfPairs | Measure::PsnrOfPictures => format!("{:.3} dB", self.value),
            Measure::MeanIou => format!("{:.4}", self.value),
        }
    }

    fn is_above(&self, other: &Self) -> bool {
        let alike = (self.measure, self.count) == (other.measure, other.count);
        !alike || self.value > other.value
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, of) = match self.measure {
            Measure::PsnrOfPairs => ("PSNR", "pairs"),
            Measure::PsnrOfPictures => ("PSNR", "pictures"),
            Measure::MeanIou => ("mean IoU", "pictures"),
        };
        write!(f, "{name} {} of {} {of}", self.number(), self.count)
    }
}

/// The figure of the model after a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    pub step: usize,
    #[serde(flatten)]
    pub figure: Figure,
}

/// The best held-out figure of a run so far, and the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Best {
    pub best: Option<Mark>,
    /// None where it was no finite number.
    pub last: Option<Mark>,
}

impl Best {
    /// Takes note of the figure of the model after `step` steps; whether it is the best so far, so that the model is to be kept.
    ///
    /// Of equal ones the earlier stays, and what is no finite number is never the best. Figures of another number of pictures
    /// cannot be compared: with the first of them the best begins anew.
    pub fn take(&mut self, step: usize, figure: Figure) -> bool {
        self.last = figure.value.is_finite().then_some(Mark { step, figure });
        let better =
            self.last.is_some_and(|last| self.best.is_none_or(|best| last.figure.is_above(&best.figure)));
        if better {
            self.best = self.last;
        }
        better
    }

    /// How the best compares with the model after `done` steps, in a sentence; none where there is no best.
    pub fn sentence(&self, done: usize) -> Option<String> {
        let Mark { step, figure } = self.best?;
        let best = format!("best held out: {figure} at step {step}");
        let last = self.last.filter(|last| last.step == done);
        Some(match last {
            _ if step == done => format!("{best}, the last"),
            Some(last) => format!("{best}, best.safetensors; the last has {}", last.figure.number()),
            None => format!("{best}, best.safetensors; the last, of step {done}, has no figure"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iou(value: f64) -> Figure {
        Figure { measure: Measure::MeanIou, value, count: 32 }
    }

    #[test]
    fn of_figures_that_rise_and_fall_the_highest_stays_the_best() {
        let mut best = Best::default();
        let kept = [(1, 0.5), (2, 0.7), (3, 0.6), (4, 0.7)].map(|(step, value)| best.take(step, iou(value)));
        assert_eq!(kept, [true, true, false, false], "of equal ones the earlier");
        assert_eq!(best.best, Some(Mark { step: 2, figure: iou(0.7) }));
        assert_eq!(best.last, Some(Mark { step: 4, figure: iou(0.7) }));
    }

    #[test]
    fn what_is_no_number_is_never_the_best() {
        let mut best = Best::default();
        for (step, value) in [(1, f64::NAN), (2, f64::INFINITY), (3, f64::NEG_INFINITY)] {
            assert!(!best.take(step, iou(value)), "{value}");
            assert_eq!(best, Best::default(), "{value}");
        }
        assert!(best.take(4, iou(0.1)));
        assert!(!best.take(5, iou(f64::NAN)));
        assert_eq!((best.best.unwrap().step, best.last), (4, None));
    }

    #[test]
    fn the_best_is_remembered_in_json() {
        let mut best = Best::default();
        best.take(1, iou(0.75));
        best.take(2, iou(f64::NAN));
        let text = serde_json::to_string(&best).unwrap();
        let mut again: Best = serde_json::from_str(&text).unwrap();
        assert_eq!(again, best, "{text}");
        assert!(!again.take(3, iou(0.7)) && again.take(4, iou(0.8)));
    }

    #[test]
    fn figures_of_other_pictures_begin_anew() {
        let mut best = Best::default();
        best.take(1, iou(0.7));
        assert!(best.take(2, Figure { count: 64, ..iou(0.6) }));
        assert!(best.take(3, Figure { measure: Measure::PsnrOfPairs, ..iou(0.5) }));
        assert_eq!(best.best.unwrap().step, 3);
    }

    #[test]
    fn a_sentence_says_which_model_is_better() {
        let mut best = Best::default();
        assert_eq!(best.sentence(0), None);
        best.take(1000, iou(0.79361));
        let words = "best held out: mean IoU 0.7936 of 32 pictures at step 1000";
        assert_eq!(best.sentence(1000).unwrap(), format!("{words}, the last"));
        best.take(2000, iou(0.7934));
        assert_eq!(best.sentence(2000).unwrap(), format!("{words}, best.safetensors; the last has 0.7934"));
        assert_eq!(
            best.sentence(2500).unwrap(),
            format!("{words}, best.safetensors; the last, of step 2500, has no figure")
        );
        let db = Figure { measure: Measure::PsnrOfPairs, value: 21.5, count: 7 };
        assert_eq!(db.to_string(), "PSNR 21.500 dB of 7 pairs");
    }
}
