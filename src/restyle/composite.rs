//! The change laid over the content, row by row: nothing of the picture's size is held but the content and the output.
//!
//! Each output row depends on the inputs alone, so that the result is the same bits however the rows are shared out.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::edges::Edges;
use super::grain::Grain;
use super::grid::Grid;
use super::regions::Regions;
use super::shape::Shape;
use super::window::{Bounds, Window};
use crate::image::{LabelMap, RgbImage, View, ViewMut};
use crate::progress::Progress;
use crate::{Error, Result};

/// Pixels between two reports of progress: some 10 ms of work.
const BLOCK: usize = 1 << 18;

/// Where a result may differ from the content.
pub(super) struct Coverage<'a> {
    pub mask: Option<View<'a>>,
    /// Without a mask: the classes whose pixels, in either map, may differ.
    pub asked: Vec<bool>,
    pub labels: &'a LabelMap,
    pub target: &'a LabelMap,
}

impl Coverage<'_> {
    /// Coverage of the pixels of row `y` from column `x` on, 0 to 1.
    pub fn row(&self, y: usize, x: usize, out: &mut [f32]) {
        match &self.mask {
            Some(mask) => mask.row(y).read_gray(x, out),
            None => {
                let of = |map: &LabelMap, i: usize| self.asked[usize::from(map.row(y)[x + i])];
                for (i, out) in out.iter_mut().enumerate() {
                    *out = f32::from(u8::from(of(self.labels, i) || of(self.target, i)));
                }
            }
        }
    }

    pub fn bounds(&self) -> Option<Bounds> {
        let (width, height) = (self.labels.width(), self.labels.height());
        (0..height)
            .into_par_iter()
            .map_init(
                || vec![0.0; width],
                |row, y| {
                    self.row(y, 0, row);
                    let first = row.iter().position(|&v| v > 0.0)?;
                    let last = row.iter().rposition(|&v| v > 0.0)?;
                    Some(Bounds { left: first, top: y, right: last + 1, bottom: y + 1 })
                },
            )
            .reduce(|| None, Bounds::union)
    }

    /// Compares the bytes of every pixel outside the mask.
    pub fn check(&self, content: &View, out: &View) -> Untouched {
        let (pixels, differing) = (AtomicUsize::new(0), AtomicUsize::new(0));
        (0..content.height()).into_par_iter().for_each_init(
            || vec![0.0; content.width()],
            |coverage, y| {
                self.row(y, 0, coverage);
                let (a, b) = (content.row(y), out.row(y));
                let outside = coverage.iter().enumerate().filter(|(_, c)| **c <= 0.0);
                let (mut count, mut wrong) = (0, 0);
                for (x, _) in outside {
                    count += 1;
                    wrong += usize::from(a.pixel(x) != b.pixel(x));
                }
                pixels.fetch_add(count, Ordering::Relaxed);
                differing.fetch_add(wrong, Ordering::Relaxed);
            },
        );
        Untouched { pixels: pixels.into_inner(), differing: differing.into_inner() }
    }
}

/// The whole change of a picture.
pub(super) struct Change<'a> {
    pub window: Window,
    /// Side of the picture that the grids were fitted on.
    pub resolution: usize,
    pub regions: Regions,
    /// The grid of each region; none for one that stays as it is.
    pub grids: Vec<Option<Grid>>,
    pub shape: Option<Shape>,
    /// What the new shapes are made of: for other frames' sake.
    pub drawn: Option<RgbImage>,
    pub coverage: Coverage<'a>,
}

/// What checking a result against its content gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Untouched {
    /// Pixels outside the mask.
    pub pixels: usize,
    /// Those of them that differ from the content's in any byte: none, unless memory was written to from elsewhere.
    pub differing: usize,
}

impl Change<'_> {
    /// Writes `content` with the change to `out`, which is of the same form, where `bounds` holds all coverage.
    ///
    /// Unless it may stop, it goes on to the end once it has begun: a half-written output would be of no use to its owner.
    pub fn write(
        &self,
        content: &View,
        bounds: Option<Bounds>,
        out: &mut ViewMut,
        may_stop: bool,
        progress: Progress,
    ) -> Result<()> {
        let (width, height) = (content.width(), content.height());
        let rows = (BLOCK / width).max(1);
        let grain = Grain::of(content, self.coverage.labels, self.coverage.asked.len());
        let edges = bounds.and_then(|bounds| self.edges(content, bounds, &grain));
        let mut go_on = true;
        for from in (0..height).step_by(rows) {
            go_on = go_on && progress.at(from as f32 / height as f32).is_ok();
            if may_stop && !go_on {
                return Err(Error::Cancelled);
            }
            let to = (from + rows).min(height);
            out.rows_mut(from, to).for_each_init(
                || RowWork::new(self, edges.as_ref(), &grain),
                |work, (y, mut row)| {
                    row.copy(&content.row(y));
                    if let Some(b) = bounds.filter(|b| (b.top..b.bottom).contains(&y)) {
                        work.row(self, content, b, y);
                        row.blend(b.left, &mut work.rgb, &work.coverage);
                    }
                },
            );
        }
        Ok(())
    }

    /// The edges between classes within `bounds`; none where nothing changes, or nothing meets.
    fn edges(&self, content: &View, bounds: Bounds, grain: &Grain) -> Option<Edges> {
        let labels = self.coverage.labels;
        let several = labels.counts().iter().filter(|&&count| count > 0).count() > 1;
        let changes = self.grids.iter().any(Option::is_some);
        let place = (&self.window, &self.regions, bounds);
        (several && changes).then(|| Edges::of(content, labels, place, grain.square()))
    }

    /// The class that a new shape has where `class` was, within `reach` of (x, y); none where `class` stays.
    fn came_instead(&self, class: usize, x: usize, y: usize, reach: f32) -> Option<usize> {
        self.shape.as_ref()?;
        let Coverage { labels, target, .. } = &self.coverage;
        let mut far = 1;
        while far as f32 <= reach + 2.0 {
            for (dx, dy) in [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)] {
                let (x, y) = (x as i64 + dx * far, y as i64 + dy * far);
                if (0..labels.width() as i64).contains(&x) && (0..labels.height() as i64).contains(&y) {
                    let (x, y) = (x as usize, y as usize);
                    if usize::from(labels.get(x, y)) == class {
                        let now = usize::from(target.get(x, y));
                        return (now != class).then_some(now);
                    }
                }
            }
            far += 1 + far / 3;
        }
        None
    }

    /// The result's colours on the window's picture at `side` squared, for the join of new shapes: `rgb` is the content's
    /// there, and is changed.
    pub fn preview(&self, rgb: &mut [f32], labels: &LabelMap, coverage: impl Fn(usize, usize) -> f32) {
        let side = labels.width();
        let scale = self.resolution as f64 / side as f64;
        let mut slab = Vec::new();
        for y in 0..side {
            let place = |k: usize| (k as f64 + 0.5) * scale - 0.5;
            let regions: Vec<usize> = (labels.row(y).iter().enumerate())
                .map(|(x, &class)| self.regions.near(usize::from(class), place(x) as f32, place(y) as f32))
                .collect();
            for (region, grid) in self.grids.iter().enumerate() {
                let Some(grid) = grid else { continue };
                if !regions.contains(&region) {
                    continue;
                }
                grid.slab(place(y), &mut slab);
                let (start, step) = grid.along();
                for x in (0..side).filter(|&x| regions[x] == region) {
                    let pixel = &mut rgb[(y * side + x) * 3..][..3];
                    let mut delta = [0.0; 3];
                    let at = (start + step * place(x)) as f32;
                    grid.add_delta(&slab, at, &[pixel[0], pixel[1], pixel[2]], coverage(x, y), &mut delta);
                    for (v, d) in pixel.iter_mut().zip(delta) {
                        *v += d;
                    }
                }
            }
        }
    }
}

/// Buffers of one row.
struct RowWork<'a> {
    edges: Option<&'a Edges>,
    grain: &'a Grain,
    rgb: Vec<f32>,
    coverage: Vec<f32>,
    /// Whether a pixel's neighbours are all of its own class and unchanged.
    inner: Vec<bool>,
    slabs: Vec<Slab>,
}

/// One region's transforms along a row.
#[derive(Default)]
struct Slab {
    row: Option<usize>,
    values: Vec<f32>,
    start: f32,
    step: f32,
}

/// Weights of a pixel and its neighbours in one direction: how far a border between classes, which is drawn along
/// pixels, may be from where it is.
const SOFT: [f32; 3] = [0.25, 0.5, 0.25];

impl<'a> RowWork<'a> {
    fn new(change: &Change, edges: Option<&'a Edges>, grain: &'a Grain) -> Self {
        let slabs = (0..change.grids.len()).map(|_| Slab::default()).collect();
        Self { edges, grain, rgb: Vec::new(), coverage: Vec::new(), inner: Vec::new(), slabs }
    }

    /// The colours of row `y` within `bounds`, and its coverage: 0 where nothing changes.
    fn row(&mut self, change: &Change, content: &View, bounds: Bounds, y: usize) {
        let (left, width) = (bounds.left, bounds.right - bounds.left);
        self.rgb.resize(width * 3, 0.0);
        self.coverage.resize(width, 0.0);
        content.row(y).read(left, &mut self.rgb);
        change.coverage.row(y, left, &mut self.coverage);
        let (labels, target) = (change.coverage.labels, change.coverage.target);
        self.find_inner(labels, target, left, y);
        let row = labels.row(y);
        let near = self.edges.map(|edges| edges.row(y));
        let mut rgb = std::mem::take(&mut self.rgb);
        for (i, pixel) in rgb.chunks_exact_mut(3).enumerate() {
            let x = left + i;
            if self.coverage[i] <= 0.0 {
                continue;
            }
            let old = [pixel[0], pixel[1], pixel[2]];
            let class = usize::from(row[x]);
            let new = if !self.inner[i] {
                self.border(change, x, y, &old)
            } else if near.is_some_and(|near| near.has(x)) {
                self.mixture(change, x, y, &old, &[(class, 1.0)], None)
            } else {
                self.inside(change, class, x, y, &old)
            };
            match new {
                // An infinite or undefined sample has no colour to change, and none is made.
                Some(new) if old.iter().all(|v| v.is_finite()) && !new.iter().any(|v| v.is_nan()) => {
                    pixel.copy_from_slice(&new);
                }
                _ => self.coverage[i] = 0.0,
            }
        }
        self.rgb = rgb;
    }

    fn find_inner(&mut self, labels: &LabelMap, target: &LabelMap, left: usize, y: usize) {
        let (width, height) = (labels.width(), labels.height());
        let rows = [y.saturating_sub(1), y, (y + 1).min(height - 1)];
        let shape_edit = !std::ptr::eq(labels, target);
        self.inner.clear();
        let own = labels.row(y);
        let [up, middle, down] = rows.map(|y| labels.row(y));
        let [up_t, middle_t, down_t] = rows.map(|y| target.row(y));
        let right = left + self.coverage.len();
        self.inner.extend((left..right).map(|x| {
            let (l, r) = (x.saturating_sub(1), (x + 1).min(width - 1));
            let c = own[x];
            let same = |up: &[u8], middle: &[u8], down: &[u8]| {
                (up[l] == c)
                    & (up[x] == c)
                    & (up[r] == c)
                    & (middle[l] == c)
                    & (middle[x] == c)
                    & (middle[r] == c)
                    & (down[l] == c)
                    & (down[x] == c)
                    & (down[r] == c)
            };
            same(up, middle, down) && (!shape_edit || same(up_t, middle_t, down_t))
        }));
    }

    /// A pixel well within its class.
    fn inside(
        &mut self,
        change: &Change,
        class: usize,
        x: usize,
        y: usize,
        old: &[f32; 3],
    ) -> Option<[f32; 3]> {
        let region = change.regions.at(class, x, y);
        let grid = change.grids[region].as_ref()?;
        let mut new = *old;
        self.add(change, grid, region, x, y, old, 1.0, &mut new);
        Some(new)
    }

    #[allow(clippy::too_many_arguments)]
    #[inline]
    fn add(
        &mut self,
        change: &Change,
        grid: &Grid,
        region: usize,
        x: usize,
        y: usize,
        old: &[f32; 3],
        weight: f32,
        new: &mut [f32; 3],
    ) {
        let slab = &mut self.slabs[region];
        if slab.row != Some(y) {
            let [sx, dx, sy, dy] = change.window.to_network(change.resolution);
            grid.slab(sy + dy * y as f64, &mut slab.values);
            let (start, step) = grid.along();
            slab.start = (start + step * sx) as f32;
            slab.step = (step * dx) as f32;
            slab.row = Some(y);
        }
        grid.add_delta(&slab.values, slab.start + slab.step * x as f32, old, weight, new);
    }

    /// A pixel at a border between classes.
    fn border(&mut self, change: &Change, x: usize, y: usize, old: &[f32; 3]) -> Option<[f32; 3]> {
        let (labels, target) = (change.coverage.labels, change.coverage.target);
        let (width, height) = (labels.width(), labels.height());
        let near = |v: usize, step: usize, size: usize| (v + step).saturating_sub(1).min(size - 1);
        // Few classes meet at a pixel: (class, its weight in the content, its weight in the new layout).
        let mut met = [(0usize, 0.0f32, 0.0f32); 18];
        let (mut count, mut changed) = (0, false);
        for (j, wy) in SOFT.iter().enumerate() {
            for (i, wx) in SOFT.iter().enumerate() {
                let (nx, ny) = (near(x, i, width), near(y, j, height));
                let (class, shape) = (labels.get(nx, ny), target.get(nx, ny));
                changed |= class != shape;
                let mut add = |class: u8, old: f32, new: f32| {
                    let class = usize::from(class);
                    let at = met[..count].iter().position(|m| m.0 == class).unwrap_or(count);
                    if at == count {
                        met[at] = (class, 0.0, 0.0);
                        count += 1;
                    }
                    met[at] = (class, met[at].1 + old, met[at].2 + new);
                };
                add(class, wx * wy, 0.0);
                add(shape, 0.0, wx * wy);
            }
        }
        let met = &met[..count];
        let (shares, count) = shares_of(met);
        // Pixels that touch a new shape too: the content there is mixed with what was before.
        if let (true, Some(shape)) = (changed, &change.shape) {
            let (mut sum, mut total) = ([0.0f32; 3], 0.0f32);
            for &(class, _, weight) in met.iter().filter(|m| m.2 > 0.0) {
                if let Some(rgb) = shape.color(&change.window, class, x, y) {
                    for (sum, v) in sum.iter_mut().zip(rgb) {
                        *sum += weight * v;
                    }
                    total += weight;
                }
            }
            let class = usize::from(target.get(x, y));
            let grain = self.grain.at(class, x, y);
            let drawn = (total > 0.0).then(|| std::array::from_fn(|c| sum[c] / total + grain[c]));
            return match drawn {
                // What was mixed into a pixel that keeps its class has gone.
                Some(drawn) if labels.get(x, y) == target.get(x, y) => {
                    self.mixture(change, x, y, old, &shares[..count], Some(drawn))
                }
                drawn => drawn,
            };
        }
        self.mixture(change, x, y, old, &shares[..count], None)
    }

    /// A pixel that a lens or antialiasing may have mixed of several classes. How much of it belongs to each is told by its
    /// colour between theirs nearby; then each part changes as its class does. Were the mixed colour itself changed, a fringe
    /// of the old colours would stay along every edge. `shares` are the labels' of the pixel and its neighbours; where its colour
    /// says nothing, they count, or the pixel is as `drawn`.
    fn mixture(
        &mut self,
        change: &Change,
        x: usize,
        y: usize,
        old: &[f32; 3],
        shares: &[(usize, f32)],
        drawn: Option<[f32; 3]>,
    ) -> Option<[f32; 3]> {
        let own = usize::from(change.coverage.labels.get(x, y));
        let mixture = self.edges.and_then(|edges| edges.mixture(x, y, old, own, shares));
        let certain = mixture.as_ref().map_or(0.0, |mixture| mixture.certain);
        let (mut new, mut changes) = (*old, drawn.is_some());
        let known_grain = self.grain;
        let mut add = |new: &mut [f32; 3], class: usize, rgb: &[f32; 3], weight: f32| {
            let region = change.regions.at(class, x, y);
            if let (Some(grid), true) = (&change.grids[region], weight > 0.0) {
                self.add(change, grid, region, x, y, rgb, weight, new);
                changes = true;
            }
        };
        if let Some(mixture) = mixture {
            // What the colours do not explain is in every part.
            let rest = mixture.rest(old);
            let with_rest = |rgb: &[f32; 3]| std::array::from_fn(|c| rgb[c] + rest[c]);
            let grain = known_grain.at(own, x, y);
            let own_rgb = mixture.parts().iter().find(|part| part.class == own).map(|part| part.rgb);
            for part in mixture.parts().iter().filter(|part| part.share > 0.0) {
                let weight = certain * part.share;
                match (change.came_instead(part.class, x, y, mixture.reach), own_rgb) {
                    (Some(class), Some(rgb)) if class == own => {
                        new = std::array::from_fn(|c| new[c] + weight * (rgb[c] - part.rgb[c] + grain[c]));
                        add(&mut new, own, &with_rest(&rgb), weight);
                    }
                    (Some(class), _) => {
                        let there = change.shape.as_ref().and_then(|s| s.color(&change.window, class, x, y));
                        if let Some(rgb) = there {
                            new =
                                std::array::from_fn(|c| new[c] + weight * (rgb[c] - part.rgb[c] + grain[c]));
                        }
                    }
                    (None, _) => add(&mut new, part.class, &with_rest(&part.rgb), weight),
                }
            }
        }
        if certain < 1.0 {
            match drawn {
                Some(rgb) => new = std::array::from_fn(|c| new[c] + (1.0 - certain) * (rgb[c] - old[c])),
                None => shares
                    .iter()
                    .for_each(|&(class, share)| add(&mut new, class, old, (1.0 - certain) * share)),
            }
        }
        changes.then_some(new)
    }
}

/// What the labels say of the classes of a pixel and its neighbours, without the new layout.
fn shares_of(met: &[(usize, f32, f32)]) -> ([(usize, f32); 18], usize) {
    let (mut shares, mut count) = ([(0, 0.0); 18], 0);
    for &(class, share, _) in met.iter().filter(|m| m.1 > 0.0) {
        shares[count] = (class, share);
        count += 1;
    }
    (shares, count)
}

/// Memory that [`Change::write`] takes, in bytes.
pub(super) fn bytes(width: usize, height: usize, threads: usize) -> u64 {
    // Colours, coverage and flags of a row for each thread; the check has a row of coverage.
    (threads * width * (12 + 4 + 1 + 4)) as u64 + Edges::bytes(width, height, threads)
}

/// So that a caller's own mistake is found before the work.
pub(super) fn check_forms(content: &View, out: &ViewMut) -> Result<()> {
    if content.layout().same_form(out.layout()) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the output is {}, but the content is {}: make them alike (only strides may differ)",
        form(out.layout()),
        form(content.layout())
    )))
}

fn form(l: &crate::image::Layout) -> String {
    format!("{} x {} {:?} {:?} {:?}", l.width, l.height, l.channels, l.sample, l.transfer)
}
