//! One look over the frames of a clip. Each frame's change, found by itself, differs a little from the next one's, and flickers.
//! So the changes are kept apart from the frames: a frame takes that of another one, or the mean of those around it.
//!
//! A change goes with the objects: where one of them has moved in between, its transforms are read where it was. Means are
//! taken of the transforms, vertex by vertex, which is the mean of what they do to a colour, exactly.

use super::composite::Change;
use super::grid::Grid;
use super::regions::Regions;
use super::window::Window;
use super::{Job, Method, Report, check, check_forms, coverage, join, prepare};
use crate::image::{LabelMap, RgbImage, ViewMut};
use crate::progress::Progress;
use crate::{Error, Result};

/// How the colours of one frame change. It can be applied to that frame, and to others of the same clip.
#[derive(Clone, Debug)]
pub struct ColorChange {
    /// Of the content.
    size: (usize, usize),
    window: Window,
    resolution: usize,
    regions: Regions,
    /// The middle of each region's bounds, in the network's pixels; none for one that the network does not see.
    middles: Vec<Option<[f64; 2]>>,
    /// At strength 0, which classes the frame shows: they change by nothing, which is not the same as saying nothing of them.
    still: Option<Vec<bool>>,
    grids: Vec<Option<Grid>>,
    /// What the generator drew, where the target labels ask for new shapes.
    drawn: Option<RgbImage>,
    missing: Vec<usize>,
    unseen: Vec<usize>,
}

impl ColorChange {
    /// The change that [`restyle`](super::restyle) would make. Its options are those of the job; applying it knows no others.
    ///
    /// # Errors
    /// As [`restyle`](super::restyle).
    pub fn of(job: &Job, progress: Progress) -> Result<Self> {
        let strengths = check(job)?;
        let (change, bounds, report) = prepare(job, &strengths, progress)?;
        let Change { window, resolution, regions, grids, drawn, .. } = change;
        let middles = match bounds {
            Some(_) => middles(&window.labels(job.labels, resolution), &regions),
            None => vec![None; grids.len()],
        };
        let size = (job.content.width(), job.content.height());
        let counts = job.labels.counts();
        let still = strengths.iter().all(|&s| s == 0.0);
        let still = still.then(|| counts[..strengths.len()].iter().map(|&n| n > 0).collect());
        let Report { missing, unseen, .. } = report;
        Ok(Self { size, window, resolution, regions, middles, still, grids, drawn, missing, unseen })
    }

    /// Bytes that it holds, about.
    pub fn bytes(&self) -> usize {
        let grids: usize = self.grids.iter().flatten().map(Grid::bytes).sum();
        grids + self.regions.bytes() + self.drawn.as_ref().map_or(0, |d| d.pixels.len() * 4)
    }

    /// The change of `class` where a region of it lies on this frame's picture, if the network saw the class here: how that
    /// region's picture lies on this one's, as [`Grid::mean`] takes it, and the transforms, none for no change.
    fn of_region(
        &self,
        class: usize,
        place: [f64; 4],
        middle: Option<[f64; 2]>,
    ) -> Option<([f64; 4], Option<&Grid>)> {
        if let Some(shown) = &self.still {
            return shown[class].then_some((place, None));
        }
        let [ax, bx, ay, by] = place;
        let there = middle.map(|[x, y]| [ax + bx * x, ay + by * y]);
        let region = there.map_or(class, |[x, y]| self.regions.near(class, x as f32, y as f32));
        let seen = self.middles[region]?;
        let [dx, dy] = there.map_or([0.0; 2], |there| [seen[0] - there[0], seen[1] - there[1]]);
        Some(([ax + dx, bx, ay + dy, by], self.grids[region].as_ref()))
    }

    /// Where the pixels of a frame's network picture lie on this one's, as [ax, bx, ay, by]: column x at `ax + bx x`.
    fn place(&self, size: (usize, usize), window: &Window, resolution: usize) -> [f64; 4] {
        let (from, to) = (window.to_network(resolution), self.window.to_network(self.resolution));
        let axis = |k: usize, ratio: f64| {
            // Content pixel c of the frame lies at ratio (c + 0.5) - 0.5 of this content.
            let (a, b, c, d) = (from[k], from[k + 1], to[k], to[k + 1]);
            let step = d * ratio / b;
            (c + d * (0.5 * ratio - 0.5) - step * a, step)
        };
        let (ax, bx) = axis(0, self.size.0 as f64 / size.0 as f64);
        let (ay, by) = axis(2, self.size.1 as f64 / size.1 as f64);
        [ax, bx, ay, by]
    }
}

fn middles(labels: &LabelMap, regions: &Regions) -> Vec<Option<[f64; 2]>> {
    let mut bounds: Vec<Option<[usize; 4]>> = vec![None; regions.classes().len()];
    let width = labels.width();
    for (i, &class) in labels.indices().iter().enumerate() {
        let (x, y) = (i % width, i / width);
        let b = bounds[regions.near(usize::from(class), x as f32, y as f32)].get_or_insert([x, y, x, y]);
        *b = [b[0].min(x), b[1].min(y), b[2].max(x), b[3].max(y)];
    }
    let middle = |b: [usize; 4]| [(b[0] + b[2]) as f64 / 2.0, (b[1] + b[3]) as f64 / 2.0];
    bounds.into_iter().map(|b| b.map(middle)).collect()
}

/// As [`restyle`](super::restyle), with the mean of `changes`, each by its weight, in place of the frame's own. The job's options and
/// style are not looked at again, but for where the result may differ from the content.
///
/// A class that some of the frames do not show takes the mean of the others. `own` is the frame's own change, where it is known:
/// it is needed for target labels, whose new shapes are the frame's alone, and need not be among `changes`.
///
/// # Errors
/// As [`restyle`](super::restyle); [`Error::InvalidArgument`] when there are no changes, a weight is negative or not finite, all are 0, a
/// change is of another model, `own` of another size, or missing though the target labels differ from the labels.
pub fn restyle_by(
    job: &Job,
    changes: &[(f32, &ColorChange)],
    own: Option<&ColorChange>,
    out: &mut ViewMut,
    progress: Progress,
) -> Result<Report> {
    check_forms(&job.content, out)?;
    let strengths = check(job)?;
    let size = (job.content.width(), job.content.height());
    if !(changes.iter().all(|(w, _)| w.is_finite() && *w >= 0.0) && changes.iter().any(|(w, _)| *w > 0.0)) {
        let weights: Vec<f32> = changes.iter().map(|(w, _)| *w).collect();
        return Err(Error::invalid(format!(
            "the weights of the changes are {weights:?}: give at least one above 0"
        )));
    }
    let mut all = changes.iter().map(|&(_, change)| change).chain(own);
    if all.any(|change| change.regions.class_count() != strengths.len()) {
        return Err(Error::invalid("a change of another model's classes"));
    }
    if let Some(own) = own.filter(|own| own.size != size) {
        return Err(Error::invalid(format!(
            "the frame's own change is of {} x {} pixels, but the frame is {} x {}",
            own.size.0, own.size.1, size.0, size.1
        )));
    }
    let (coverage, bounds) = coverage(job, &strengths);
    let mut report = Report::default();
    let whole = Window::whole(size.0, size.1);
    let mut change = Change {
        window: whole,
        resolution: 1,
        regions: Regions::whole(strengths.len()),
        grids: vec![None; strengths.len()],
        shape: None,
        drawn: None,
        coverage,
    };
    if let Some(bounds) = bounds {
        match (own, job.method) {
            (Some(own), _) => {
                (change.window, change.resolution, change.regions) =
                    (own.window, own.resolution, own.regions.clone());
            }
            (None, Method::Statistics(_)) => change.resolution = super::statistics::SIDE,
            (None, Method::Network { network, .. }) => {
                change.resolution = network.config().resolution;
                change.window = Window::around(bounds, size.0, size.1, change.resolution);
                let small = change.window.labels(job.labels, change.resolution);
                change.regions = Regions::of(&small, &change.window, strengths.len());
            }
        }
        let middles = middles(&change.window.labels(job.labels, change.resolution), &change.regions);
        let grid = |(&class, middle): (&usize, &Option<[f64; 2]>)| {
            let parts = changes.iter().filter_map(|(weight, other)| {
                let place = other.place(size, &change.window, change.resolution);
                let (place, grid) = other.of_region(class, place, *middle)?;
                Some((f64::from(*weight), grid, place))
            });
            Grid::mean(&parts.collect::<Vec<_>>())
        };
        change.grids = change.regions.classes().iter().zip(&middles).map(grid).collect();
        if !std::ptr::eq(change.coverage.labels, change.coverage.target) {
            let Some(drawn) = own.and_then(|own| own.drawn.as_ref()) else {
                return Err(Error::invalid("target labels need the frame's own change, for its new shapes"));
            };
            change.shape = Some(join(job, &change, drawn, job.options.morph));
        }
        report.window = Some(change.window.place());
    }
    // A class that any frame's change knows takes that.
    let counts = job.labels.counts();
    let used: Vec<&ColorChange> =
        changes.iter().filter(|(weight, _)| *weight > 0.0).map(|&(_, c)| c).collect();
    for class in (0..strengths.len()).filter(|&class| counts[class] > 0) {
        let missing = used.iter().filter(|change| change.missing.contains(&class)).count();
        let unseen = used.iter().filter(|change| change.unseen.contains(&class)).count();
        if missing + unseen == used.len() {
            if missing > 0 { &mut report.missing } else { &mut report.unseen }.push(class);
        }
    }
    progress.at(0.2)?;
    change.write(&job.content, bounds, out, job.options.stop_while_writing, progress.part(0.2, 1.0))?;
    report.untouched = change.coverage.check(&job.content, &out.as_view());
    Ok(report)
}
