//! Whether a result's confidence says where it is wrong, and where a reference does not fit.

use super::data::{Labelled, Set, spread};
use super::metrics::{differences, lab_pixels, mean, pixels};
use super::table::{Better, Column, Row, Table};
use super::{Evaluation, methods};
use crate::image::{LabelMap, RgbImage};
use crate::progress::Progress;
use crate::restyle::Confidence;
use crate::{Error, Result};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Warned {
    /// Named.
    Class,
    /// In a result that is doubtful as a whole.
    Whole,
    Not,
}

/// One class of one result that the reference has.
struct Judged {
    figure: f64,
    warned: Warned,
    /// Mean CIEDE2000 of its pixels to the truth's, and that of the mean colours.
    error: f64,
    color_error: f64,
}

/// What is told of one result.
struct Told {
    overall: f64,
    doubtful: bool,
    classes: bool,
    missing: bool,
}

impl Evaluation<'_> {
    /// The classes that are warned of against the others, by their true error; and how often results are warned of at all: of the
    /// pairs, and where a picture of `strangers`, another kind of pictures, is the reference or the content. Label maps of theirs
    /// count by their indices, those beyond the model's from 0 again.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] without a network or pairs; those of reading and of the device.
    pub fn confidence(&self, strangers: Option<&Set>, progress: Progress) -> Result<Vec<Table>> {
        let Some(network) = self.network else {
            return Err(Error::invalid("confidence needs a model of the data's classes"));
        };
        let pairs = spread(&self.set.pairs(self.references), self.limit);
        if pairs.is_empty() {
            return Err(Error::invalid("the data have no pairs: files LAYOUT_LOOK"));
        }
        let share = if strangers.is_some() { 0.6 } else { 1.0 };
        let (mut judged, mut ordinary) = (Vec::new(), Vec::new());
        for (i, pair) in pairs.iter().enumerate() {
            progress.part(0.0, share).at(i as f32 / pairs.len() as f32)?;
            let (content, reference) =
                (self.set.read(&pair.content)?, self.references.read(&pair.reference)?);
            let truth = self.set.read(&pair.truth)?.picture.to_rgb_f32();
            let (result, figures, told) = self.told(network, &content, &reference)?;
            ordinary.push(told);
            judged.push(judge(&figures, &result, &truth, &content.labels, &reference.labels));
        }
        let names = pairs.iter().map(|pair| pair.truth.clone()).collect();
        let mut tables = vec![by_class(names, judged)];

        let mut rows = vec![warnings("pairs", "pairs", &ordinary)];
        if let Some(strangers) = strangers {
            let names = spread(&strangers.photos(), self.limit);
            let usual = self.references.photos();
            let (mut references, mut contents) = (Vec::new(), Vec::new());
            for (i, name) in names.iter().enumerate() {
                progress.part(share, 1.0).at(i as f32 / names.len() as f32)?;
                let strange = folded(strangers.read(name)?, network.config().classes)?;
                let usual = self.references.read(&usual[i * usual.len() / names.len()])?;
                references.push(self.told(network, &usual, &strange)?.2);
                contents.push(self.told(network, &strange, &usual)?.2);
            }
            rows.push(warnings("strange_references", "strange references", &references));
            rows.push(warnings("strange_contents", "strange contents", &contents));
        }
        tables.push(Table {
            task: "confidence-pictures",
            title: "confidence: how often results are warned of, in %".into(),
            cases: Vec::new(),
            columns: vec![
                Column::new("pictures", "pictures", Better::Unranked, 0),
                Column::new("confidence", "confidence", Better::Unranked, 3),
                Column::new("doubtful", "as a whole", Better::Unranked, 1),
                Column::new("doubtful_classes", "for some classes", Better::Unranked, 1),
                Column::new("missing", "classes missing", Better::Unranked, 1),
                Column::new("warned", "at all", Better::Unranked, 1),
            ],
            rows,
            notes: vec![format!(
                "as a whole: below {:.2}; classes: below {:.2}, where the whole is not",
                Confidence::DOUBTFUL,
                Confidence::DOUBTFUL_CLASS
            )],
        });
        progress.at(1.0)?;
        Ok(tables)
    }

    fn told(
        &self,
        network: &crate::nn::Network,
        content: &Labelled,
        reference: &Labelled,
    ) -> Result<(RgbImage, Confidence, Told)> {
        let (picture, report) = methods::trusted(network, content, reference)?;
        let figures = report.confidence.ok_or_else(|| Error::invalid("a picture of no pixels"))?;
        let told = Told {
            overall: f64::from(figures.overall),
            doubtful: figures.is_doubtful(),
            classes: !figures.is_doubtful() && !figures.doubtful_classes().is_empty(),
            missing: !report.missing.is_empty(),
        };
        Ok((picture.to_rgb_f32(), figures, told))
    }
}

fn folded(picture: Labelled, classes: usize) -> Result<Labelled> {
    let (width, height) = (picture.labels.width(), picture.labels.height());
    let indices = picture.labels.indices().iter().map(|&i| (usize::from(i) % classes) as u8).collect();
    Ok(Labelled { labels: LabelMap::new(width, height, indices)?, ..picture })
}

/// The classes of one result that its reference has, by the truth.
fn judge(
    figures: &Confidence,
    result: &RgbImage,
    truth: &RgbImage,
    labels: &LabelMap,
    reference: &LabelMap,
) -> Vec<Judged> {
    let apart = differences(&lab_pixels(result), &lab_pixels(truth));
    let known = reference.counts();
    let warned = figures.doubtful_classes();
    let of = |(class, figure): (usize, f32)| {
        let inside = || {
            labels
                .indices()
                .iter()
                .enumerate()
                .filter(move |(_, l)| usize::from(**l) == class)
                .map(|(i, _)| i)
        };
        let color = |image: &RgbImage| -> Option<Vec<[f64; 3]>> {
            let all: Vec<[f32; 3]> = pixels(image).collect();
            let channel = |c: usize| mean(inside().map(|i| f64::from(all[i][c])));
            let pixels = vec![channel(0)? as f32, channel(1)? as f32, channel(2)? as f32];
            Some(lab_pixels(&RgbImage { width: 1, height: 1, pixels }))
        };
        Some(Judged {
            figure: f64::from(figure),
            warned: match (figures.is_doubtful(), warned.contains(&class)) {
                (true, _) => Warned::Whole,
                (_, true) => Warned::Class,
                _ => Warned::Not,
            },
            error: mean(inside().map(|i| apart[i]))?,
            color_error: differences(&color(result)?, &color(truth)?)[0],
        })
    };
    figures.classes.iter().filter(|&&(class, _)| known[class] > 0).filter_map(|&each| of(each)).collect()
}

fn by_class(names: Vec<String>, judged: Vec<Vec<Judged>>) -> Table {
    let all = || judged.iter().flatten();
    let mut errors: Vec<f64> = all().map(|j| j.error).collect();
    errors.sort_by(f64::total_cmp);
    let worst = errors.get(errors.len() * 2 / 3).copied().unwrap_or_default();
    let figures = |group: &[&Judged], of: usize| {
        let mean = |value: &dyn Fn(&Judged) -> f64| mean(group.iter().map(|j| value(j)));
        vec![
            Some(100.0 * group.len() as f64 / of.max(1) as f64),
            mean(&|j| j.error),
            mean(&|j| j.color_error),
            mean(&|j| 100.0 * f64::from(u8::from(j.error >= worst))),
        ]
    };
    let row = |key, title, wanted: Warned| {
        let one = |classes: &Vec<Judged>| {
            figures(&classes.iter().filter(|j| j.warned == wanted).collect::<Vec<_>>(), classes.len())
        };
        let mut row = Row::mean(key, title, judged.iter().map(one).collect());
        row.figures = figures(&all().filter(|j| j.warned == wanted).collect::<Vec<_>>(), errors.len());
        row
    };
    let rank = |value: &dyn Fn(&Judged) -> f64| {
        let values: Vec<f64> = all().map(value).collect();
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
        let mut ranks = vec![0.0; values.len()];
        let mut first = 0;
        // Equal values share the mean of their ranks.
        for equal in order.chunk_by(|&a, &b| values[a] == values[b]) {
            let rank = first as f64 + (equal.len() - 1) as f64 / 2.0;
            equal.iter().for_each(|&i| ranks[i] = rank);
            first += equal.len();
        }
        ranks
    };
    let figure = rank(&|j| j.figure);
    let with = |other: &dyn Fn(&Judged) -> f64| correlation(&figure, &rank(other)).unwrap_or(f64::NAN);
    let notes = vec![
        format!(
            "rank correlation of a class's figure with its error {:.2}, with the error of its mean colour {:.2}",
            with(&|j| j.error),
            with(&|j| j.color_error)
        ),
        format!("worst third: of the classes whose CIEDE2000 to the truth is {worst:.1} and more"),
    ];
    Table {
        task: "confidence-classes",
        title: format!(
            "confidence: {} classes of {} pairs that the reference has, against the truth",
            errors.len(),
            names.len()
        ),
        cases: names,
        columns: vec![
            Column::new("share", "% of them", Better::Unranked, 1),
            Column::new("ciede2000", "CIEDE2000", Better::Unranked, 2),
            Column::new("color_ciede2000", "of mean colours", Better::Unranked, 2),
            Column::new("worst_third", "% in worst third", Better::Unranked, 1),
        ],
        rows: vec![
            row("classes", "named", Warned::Class),
            row("whole", "in doubtful results", Warned::Whole),
            row("others", "the others", Warned::Not),
        ],
        notes,
    }
}

fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let (ma, mb) = (mean(a.iter().copied())?, mean(b.iter().copied())?);
    let product = |x: &[f64], mx: f64, y: &[f64], my: f64| -> f64 {
        x.iter().zip(y).map(|(x, y)| (x - mx) * (y - my)).sum()
    };
    Some(product(a, ma, b, mb) / (product(a, ma, a, ma) * product(b, mb, b, mb)).sqrt())
}

fn warnings(key: &'static str, title: &'static str, told: &[Told]) -> Row {
    let share = |is: &dyn Fn(&Told) -> bool| mean(told.iter().map(|t| 100.0 * f64::from(u8::from(is(t)))));
    let figures = vec![
        Some(told.len() as f64),
        mean(told.iter().map(|t| t.overall)),
        share(&|t| t.doubtful),
        share(&|t| t.classes),
        share(&|t| t.missing),
        share(&|t| t.doubtful || t.classes || t.missing),
    ];
    Row { key, title, figures, cases: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_that_are_warned_of_are_set_against_the_others() {
        let judged = |figure, warned, error| Judged { figure, warned, error, color_error: error / 2.0 };
        let table = by_class(
            vec!["a".into(), "b".into()],
            vec![
                vec![judged(0.1, Warned::Class, 30.0), judged(0.5, Warned::Not, 12.0)],
                vec![judged(0.9, Warned::Not, 6.0)],
            ],
        );
        let [warned, whole, others] = &table.rows[..] else { panic!("three rows") };
        assert_eq!(warned.figures[1..], [Some(30.0), Some(15.0), Some(100.0)]);
        assert_eq!(whole.figures, [Some(0.0), None, None, None]);
        assert_eq!(others.figures[1..], [Some(9.0), Some(4.5), Some(0.0)]);
        assert!((warned.figures[0].unwrap() + others.figures[0].unwrap() - 100.0).abs() < 1e-9);
        assert_eq!(warned.cases[1], [Some(0.0), None, None, None]);
        assert!(table.notes[0].contains("with its error -1.00"), "{:?}", table.notes);
    }
}
