//! What people do with the product, one after the other on the same layouts: drawn anew, in another's look, one class
//! restyled, one class made larger. Made for the sheet; the figures say what a picture does not show.

use super::data::{Labelled, spread};
use super::metrics::{differences, lab_pixels, mean, mse, psnr};
use super::table::{Better, Column, Row, Table};
use super::tasks::SMALLEST_SHARE;
use super::{Evaluation, SHEET_ROWS, Sheet};
use crate::image::{LabelMap, Picture};
use crate::nn::Network;
use crate::progress::Progress;
use crate::restyle::{Job, Method, restyle_to_picture};
use crate::style::Style;
use crate::synthesis::{Look, Synthesis};
use crate::{Error, Result};

/// How much wider and higher the class of the shape edit becomes: more where less does not show.
const LARGER: [f64; 3] = [1.3, 1.6, 2.0];

/// Share of the pixels that a shape edit is to give another class, so that it shows.
const SHOWS: f64 = 0.02;

/// What has this share of the picture or more is no thing to be made larger.
const LARGE: f64 = 0.25;

/// Its rows, as (key, title).
const KINDS: [(&str, &str); 4] = [
    ("reconstruction", "drawn from its own style"),
    ("swap", "in the next one's look"),
    ("local", "one class in the next one's look"),
    ("shape", "one class made larger"),
];

impl Evaluation<'_> {
    /// Reconstruction, swapped style, local edit and shape edit of single pictures, each a row of the sheet.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] without a network, or when a picture has no class large enough; those of reading and of the
    /// device.
    pub fn edits(&self, mut sheet: Option<&mut Sheet>, progress: Progress) -> Result<Table> {
        let network =
            self.network.ok_or_else(|| Error::invalid("edits need a model of the data's classes"))?;
        let (names, looks) = (spread(&self.set.photos(), self.limit), self.references.photos());
        let mut cases: [Vec<Vec<Option<f64>>>; KINDS.len()] = Default::default();
        let shown = spread(&names, Some(SHEET_ROWS));
        for (i, name) in names.iter().enumerate() {
            progress.at(i as f32 / names.len() as f32)?;
            let next = looks.iter().position(|look| look == name).map_or(i, |at| at + 1) % looks.len();
            let (content, reference) = (self.set.read(name)?, self.references.read(&looks[next])?);
            let class = self.asked(name, &content, Some(&reference))?;
            let (grown, target) = grown(&content.labels).unwrap_or_else(|| {
                let grown = smallest(&content).unwrap_or(class);
                (grown, larger(&content.labels, grown, LARGER[0]))
            });
            let edit = Edited::new(network, &content, &reference, [class, grown], target)?;
            for (cases, figures) in cases.iter_mut().zip(edit.figures(&content, &reference, [class, grown])) {
                cases.push(figures);
            }
            if let Some(sheet) = &mut sheet
                && shown.contains(name)
            {
                let [class, grown] = [class, grown].map(|i| &self.set.classes()[i].name);
                let labels = |labels: &LabelMap| labels.to_picture(self.set.classes());
                let [drawn, swapped, local, shaped] = edit.results;
                sheet.row(
                    [
                        (name.clone(), content.picture),
                        ("labels".into(), labels(&content.labels)?),
                        ("drawn from its own style".into(), drawn),
                        ("reference".into(), reference.picture),
                        ("in its look".into(), swapped),
                        (format!("{class} in its look"), local),
                        (format!("{grown} larger: labels"), labels(&edit.target)?),
                        ("with these labels".into(), shaped),
                    ]
                    .map(|(caption, picture)| (caption, picture.to_rgb_f32()))
                    .into(),
                );
            }
        }
        let rows =
            KINDS.iter().zip(cases).map(|(&(key, title), cases)| Row::mean(key, title, cases)).collect();
        Ok(Table {
            task: "edits",
            title: format!("edits: {} layouts, four things done to each", names.len()),
            cases: names,
            columns: vec![
                Column::new("psnr", "PSNR dB", Better::Unranked, 2),
                Column::new("look_ciede2000", "off the look", Better::Unranked, 2),
                Column::new("outside", "changed outside", Better::Unranked, 0),
            ],
            rows,
            notes: vec![
                "PSNR: of the drawing alone, against the content".into(),
                "off the look: CIEDE2000 between a class's mean colour and that in the picture whose look it is to have, mean over the pixels of the \
                 classes that both have and that were asked for"
                    .into(),
                "made larger: the class by which most changes, of those with less than a quarter of the picture and not from edge to edge"
                    .into(),
                "changed outside: pixels outside the edited class, old and new, that differ from the content's".into(),
            ],
        })
    }
}

/// One layout with all that was done to it.
struct Edited {
    /// In the order of [`KINDS`].
    results: [Picture; KINDS.len()],
    target: LabelMap,
}

impl Edited {
    fn new(
        network: &Network,
        content: &Labelled,
        reference: &Labelled,
        [class, grown]: [usize; 2],
        target: LabelMap,
    ) -> Result<Self> {
        let style = |of: &Labelled| Style::extract(network, &of.picture, &of.labels, Progress::NONE);
        let (own, wanted) = (style(content)?, style(reference)?);
        let drawn = Synthesis { labels: &content.labels, morph: None, look: Look::Style(&own), finish: true };
        let whole = Job::new(&content.picture, &content.labels, Method::Network { network, style: &wanted });
        let restyled = |job: Job| Ok::<_, Error>(restyle_to_picture(&job, Progress::NONE)?.0);
        let results = [
            drawn.run(network, Progress::NONE)?.to_picture()?,
            restyled(whole)?,
            restyled(Job { classes: &[(class, 1.0)], ..whole })?,
            restyled(Job {
                classes: &[(grown, 1.0)],
                target_labels: Some(&target),
                method: Method::Network { network, style: &own },
                ..whole
            })?,
        ];
        Ok(Self { results, target })
    }

    /// As many as there are columns, for each kind.
    fn figures(
        &self,
        content: &Labelled,
        reference: &Labelled,
        [class, grown]: [usize; 2],
    ) -> [Vec<Option<f64>>; KINDS.len()] {
        let [drawn, swapped, local, shaped] = &self.results;
        let against = |a: &Picture, b: &Picture| mse(&a.to_rgb_f32(), &b.to_rgb_f32(), |_| true).map(psnr);
        let is = |labels: &LabelMap, i: usize, class: usize| usize::from(labels.indices()[i]) == class;
        let outside = |result: &Picture, edited: &dyn Fn(usize) -> bool| {
            let (one, two) = (result.to_rgb_f32().pixels, content.picture.to_rgb_f32().pixels);
            let differ = |i: &usize| !edited(*i) && one[i * 3..][..3] != two[i * 3..][..3];
            Some((0..one.len() / 3).filter(differ).count() as f64)
        };
        let all = |_: usize| true;
        let labels = &content.labels;
        [
            vec![against(drawn, &content.picture), off(drawn, labels, content, all), None],
            vec![None, off(swapped, labels, reference, all), None],
            vec![
                None,
                off(local, labels, reference, |c| c == class),
                outside(local, &|i| is(labels, i, class)),
            ],
            vec![
                None,
                off(shaped, &self.target, content, |c| c == grown),
                outside(shaped, &|i| is(labels, i, grown) || is(&self.target, i, grown)),
            ],
        ]
    }
}

/// The thing that shows most when it is made larger, and the map with it so: by the least of [`LARGER`] that gives as many pixels
/// as [`SHOWS`] another class, else by the one that changes most; none where nothing changes.
///
/// A thing is a class, not the background, that is large enough to edit, has less than [`LARGE`] of the picture, and whose largest
/// part does not reach from the left edge to the right one, as a table does. Of equal ones it is the first class.
fn grown(labels: &LabelMap) -> Option<(usize, LabelMap)> {
    let (counts, all) = (labels.counts(), labels.indices().len() as f64);
    let is_thing = |&class: &usize| {
        let part = largest_part(labels, class);
        let mut rows = part.chunks_exact(labels.width());
        !(rows.clone().any(|row| row[0]) && rows.any(|row| row[row.len() - 1]))
    };
    let of_size = |&class: &usize| (SMALLEST_SHARE..LARGE).contains(&(counts[class] as f64 / all));
    let things: Vec<usize> = (1..256).filter(of_size).filter(is_thing).collect();
    let mut most: Option<(usize, usize, LabelMap)> = None;
    for by in LARGER {
        for &class in &things {
            let target = larger(labels, class, by);
            let changed = labels.indices().iter().zip(target.indices()).filter(|(a, b)| a != b).count();
            if changed > most.as_ref().map_or(0, |most| most.0) {
                most = Some((changed, class, target));
            }
        }
        if most.as_ref().is_some_and(|most| most.0 as f64 >= SHOWS * all) {
            break;
        }
    }
    most.map(|(_, class, target)| (class, target))
}

/// The class with the smallest share that is large enough to edit, the background not counting: where there is no thing.
fn smallest(content: &Labelled) -> Option<usize> {
    let shares = content.shares().into_iter().filter(|&(class, share)| class != 0 && share >= SMALLEST_SHARE);
    shares.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(class, _)| class)
}

/// How far the mean colours of `picture`'s classes are from those of `look`, by pixels, over the classes wanted.
fn off(picture: &Picture, labels: &LabelMap, look: &Labelled, wanted: impl Fn(usize) -> bool) -> Option<f64> {
    let means = |picture: &Picture, labels: &LabelMap| {
        let mut sums = [[0.0; 3]; 256];
        for (lab, &class) in lab_pixels(&picture.to_rgb_f32()).iter().zip(labels.indices()) {
            (0..3).for_each(|c| sums[usize::from(class)][c] += lab[c]);
        }
        let counts = labels.counts();
        (0..256).map(|i| (counts[i], sums[i].map(|s| s / counts[i].max(1) as f64))).collect::<Vec<_>>()
    };
    let (own, there) = (means(picture, labels), means(&look.picture, &look.labels));
    let shared = (0..256).filter(|&i| wanted(i) && own[i].0 > 0 && there[i].0 > 0);
    mean(shared.flat_map(|i| {
        let apart = differences(&[own[i].1], &[there[i].1])[0];
        std::iter::repeat_n(apart, own[i].0)
    }))
}

/// The map with the largest part of `class` enlarged `by` about its foot, over classes that have more of the picture: what stands
/// in front of it stays.
fn larger(labels: &LabelMap, class: usize, by: f64) -> LabelMap {
    let (width, height, counts) = (labels.width(), labels.height(), labels.counts());
    let part = largest_part(labels, class);
    let places = || (0..width * height).filter(|&i| part[i]).map(|i| (i % width, i / width));
    let (left, right) = (places().map(|p| p.0).min(), places().map(|p| p.0).max());
    let (Some(left), Some(right), Some(foot)) = (left, right, places().map(|p| p.1).max()) else {
        return labels.clone();
    };
    let (middle, foot) = ((left + right) as f64 / 2.0, foot as f64);
    let from = |at: usize, centre: f64| (centre + (at as f64 - centre) / by).round();
    let indices = labels.indices().iter().enumerate().map(|(i, &old)| {
        let (x, y) = (from(i % width, middle), from(i / width, foot));
        let inside = x >= 0.0 && y >= 0.0 && (x as usize) < width && (y as usize) < height;
        let grown = inside && y <= foot && part[y as usize * width + x as usize];
        if grown && counts[usize::from(old)] > counts[class] { class as u8 } else { old }
    });
    LabelMap::new(width, height, indices.collect()).expect("of the size of the map it was made from")
}

/// Which pixels belong to the largest connected part of `class`, corners not counting.
fn largest_part(labels: &LabelMap, class: usize) -> Vec<bool> {
    let (width, indices) = (labels.width(), labels.indices());
    let mut seen: Vec<bool> = indices.iter().map(|&i| usize::from(i) != class).collect();
    let mut largest = Vec::new();
    for start in 0..indices.len() {
        if std::mem::replace(&mut seen[start], true) {
            continue;
        }
        let (mut part, mut next) = (vec![start], 0);
        while let Some(&at) = part.get(next) {
            next += 1;
            let beside = [
                (at % width > 0).then(|| at - 1),
                (at % width + 1 < width).then(|| at + 1),
                at.checked_sub(width),
                Some(at + width).filter(|&below| below < indices.len()),
            ];
            for near in beside.into_iter().flatten() {
                if !std::mem::replace(&mut seen[near], true) {
                    part.push(near);
                }
            }
        }
        if part.len() > largest.len() {
            largest = part;
        }
    }
    let mut mask = vec![false; indices.len()];
    largest.into_iter().for_each(|i| mask[i] = true);
    mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::color::ciede2000;
    use crate::image::Samples;

    #[test]
    fn off_the_look_is_the_difference_of_means_by_pixels_of_shared_classes() {
        let grays = |values: [u8; 4]| {
            Picture::new(4, 1, 3, Samples::U8(values.iter().flat_map(|&v| [v; 3]).collect())).unwrap()
        };
        let map = |indices: [u8; 4]| LabelMap::new(4, 1, indices.to_vec()).unwrap();
        let picture = grays([100, 100, 100, 50]);
        let look = Labelled { picture: grays([120, 50, 50, 9]), labels: map([0, 1, 1, 2]) };
        let labels = map([0, 0, 0, 1]);
        let [from, to] = [100, 120].map(|v| lab_pixels(&grays([v; 4]).to_rgb_f32())[0]);
        let all = off(&picture, &labels, &look, |_| true).unwrap();
        assert!((all - 0.75 * ciede2000(from, to)).abs() < 1e-9, "{all}");
        assert_eq!(off(&picture, &labels, &look, |c| c == 1), Some(0.0));
        assert_eq!(off(&picture, &labels, &look, |c| c == 2), None, "only one of them has it");
    }

    #[test]
    fn a_class_grows_about_the_foot_of_its_largest_part_and_what_is_in_front_stays() {
        let mut indices = vec![0; 20 * 20];
        for y in 8..18 {
            indices[y * 20 + 5..y * 20 + 15].fill(3);
        }
        indices[6 * 20 + 8..6 * 20 + 12].fill(1); // a cap, and a part apart
        indices[20] = 3;
        let before = LabelMap::new(20, 20, indices).unwrap();
        let after = larger(&before, 3, 1.3);
        assert!((0..400).all(|i| before.indices()[i] == 0 || after.indices()[i] == before.indices()[i]));
        let rows: Vec<usize> = (2..20).filter(|&y| after.row(y).contains(&3)).collect();
        assert_eq!((rows[0], rows[rows.len() - 1]), (5, 17), "13 rows for 10, the last one in its place");
        assert_eq!(after.row(17)[3..16], [3; 13], "13 columns for 10 about the middle");
        assert_eq!(after.row(1), before.row(1), "the part apart");
        assert_eq!(larger(&before, 7, 1.3), before, "a class that is not there");
        assert_eq!(larger(&before, 0, 1.3), before, "nothing is larger");
    }

    /// A backdrop 0 over a table 2 with what `things` say on it: class, then columns and rows from and to.
    fn scene(things: &[(u8, [usize; 4])]) -> LabelMap {
        let mut indices: Vec<u8> = (0..40 * 40).map(|i| if i / 40 >= 32 { 2 } else { 0 }).collect();
        for &(class, [left, right, top, bottom]) in things {
            for y in top..bottom {
                indices[y * 40 + left..y * 40 + right].fill(class);
            }
        }
        LabelMap::new(40, 40, indices).unwrap()
    }

    fn changed(before: &LabelMap, after: &LabelMap) -> f64 {
        let all = before.indices().iter().zip(after.indices());
        all.filter(|(a, b)| a != b).count() as f64 / before.indices().len() as f64
    }

    #[test]
    fn the_thing_that_shows_most_is_made_larger_and_not_the_table() {
        // A body, and a label on it that is smaller: enlarged, it changes less.
        let labels = scene(&[(1, [10, 22, 16, 34]), (3, [13, 19, 22, 28])]);
        let (class, target) = grown(&labels).unwrap();
        assert_eq!(class, 1);
        assert!(changed(&labels, &target) >= SHOWS, "{}", changed(&labels, &target));
        assert_eq!(target, larger(&labels, 1, LARGER[0]));
        assert_eq!(grown(&labels), Some((class, target)), "the same again");
        // Larger than a quarter it is left alone, and the label is all there is.
        let labels = scene(&[(1, [2, 30, 4, 34]), (3, [13, 19, 22, 29])]);
        assert_eq!(grown(&labels).unwrap().0, 3);
    }

    #[test]
    fn what_does_not_show_is_made_larger_still() {
        let labels = scene(&[(3, [18, 24, 26, 32])]);
        let (class, target) = grown(&labels).unwrap();
        assert_eq!(class, 3);
        assert!(changed(&labels, &larger(&labels, 3, LARGER[0])) < SHOWS);
        assert!(changed(&labels, &target) >= SHOWS, "{}", changed(&labels, &target));
        assert_eq!(target, larger(&labels, 3, LARGER[1]), "and no larger than that");
    }

    #[test]
    fn where_there_is_no_thing_none_is_made_larger() {
        assert_eq!(grown(&scene(&[])), None, "a table, from edge to edge");
        assert_eq!(grown(&scene(&[(1, [10, 14, 10, 14])])), None, "a hundredth of the picture");
    }
}
