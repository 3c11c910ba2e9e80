//! How well a labeler's maps agree with true ones.

use super::Evaluation;
use super::data::spread;
use super::metrics::mean;
use super::table::{Better, Column, Row, Table};
use crate::image::LabelMap;
use crate::label;
use crate::progress::Progress;
use crate::train::Confusion;
use crate::{Error, Result};

/// Pixels that count as near an edge have another class within this many pixels, as a share of the shorter side.
const EDGE: f64 = 1.0 / 64.0;

impl Evaluation<'_> {
    /// The labeler's maps of single pictures against the true ones: as its scores alone give them, and as [`label::label`] does,
    /// where pixels of one colour hear each other and the picture decides the edges.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] without a network; those of [`label::label`] and of reading.
    pub fn labels(&self, progress: Progress) -> Result<Table> {
        let network =
            self.network.ok_or_else(|| Error::invalid("label maps need a model of the data's classes"))?;
        let names = spread(&self.set.photos(), self.limit);
        let classes = self.set.classes();
        let mut rows = Vec::new();
        let mut notes = Vec::new();
        let kinds = [("scores", "scores alone", 0), ("labeler", "labeler", label::ROUNDS)];
        for (k, (key, title, rounds)) in kinds.into_iter().enumerate() {
            let mut confusion = Confusion::new(classes.len());
            let mut cases = Vec::new();
            for (i, name) in names.iter().enumerate() {
                progress.at((k * names.len() + i) as f32 / (kinds.len() * names.len()) as f32)?;
                let case = self.set.read(name)?;
                let found = label::propose(network, &case.picture.view(), rounds, Progress::NONE)?;
                let (truth, given) = (case.labels.indices(), found.labels.indices());
                confusion.add(truth, given);
                let right = |wanted: &dyn Fn(usize) -> bool| {
                    mean(
                        (0..truth.len())
                            .filter(|&i| wanted(i))
                            .map(|i| f64::from(u8::from(truth[i] == given[i]))),
                    )
                };
                let edges = edges(&case.labels);
                let mut own = Confusion::new(classes.len());
                own.add(truth, given);
                cases.push(vec![Some(own.figures(1).mean_iou), right(&|_| true), right(&|i| edges[i])]);
            }
            let figures = confusion.figures(names.len());
            let mut row = Row::mean(key, title, cases);
            row.figures = vec![
                Some(figures.mean_iou),
                Some(figures.accuracy),
                mean(row.cases.iter().filter_map(|case| case[2])),
            ];
            rows.push(row);
            let each: Vec<_> = classes
                .iter()
                .zip(&figures.iou)
                .filter_map(|(class, iou)| Some(format!("{} {:.3}", class.name, (*iou)?)))
                .collect();
            notes.push(format!("IoU of {title}: {}", each.join(", ")));
        }
        notes.push("mean IoU is over the pixels of all pictures together, but for \"best in\"".into());
        notes.push("edges: pixels with another class within 1/64 of the shorter side".into());
        Ok(Table {
            task: "labels",
            title: format!("labels: {} pictures, the labeler's maps against the true ones", names.len()),
            cases: names,
            columns: vec![
                Column::new("mean_iou", "mean IoU", Better::Higher, 4),
                Column::new("accuracy", "accuracy", Better::Higher, 4),
                Column::new("edge_accuracy", "at edges", Better::Higher, 4),
            ],
            rows,
            notes,
        })
    }
}

/// Which pixels have another class within [`EDGE`] in their row or column.
fn edges(labels: &LabelMap) -> Vec<bool> {
    let (width, height) = (labels.width(), labels.height());
    let reach = ((width.min(height) as f64 * EDGE) as usize).max(1);
    let mut near = vec![false; width * height];
    let mut mark = |x: usize, y: usize, along_x: bool| {
        let size = if along_x { width } else { height };
        let at = if along_x { x } else { y };
        for i in (at + 1).saturating_sub(reach)..(at + 1 + reach).min(size) {
            let (x, y) = if along_x { (i, y) } else { (x, i) };
            near[y * width + x] = true;
        }
    };
    for y in 0..height {
        for x in 0..width {
            if x + 1 < width && labels.get(x, y) != labels.get(x + 1, y) {
                mark(x, y, true);
            }
            if y + 1 < height && labels.get(x, y) != labels.get(x, y + 1) {
                mark(x, y, false);
            }
        }
    }
    near
}
