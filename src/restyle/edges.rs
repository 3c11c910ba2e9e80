//! What lies at the edges between classes: how wide each edge is in the photograph, and the colours of the classes on its sides.
//!
//! A label map's edges are one pixel wide. A photograph's are as wide as its lens made them, and lie a pixel or two beside the
//! labels' at times. What is between the two sides is a mixture, and has to change as one: were a mixed pixel changed as one of
//! its class, a line of the old colours would stay along every edge, lighter or darker than either side.

use rayon::prelude::*;

use super::regions::Regions;
use super::sampling_bytes;
use super::window::{Bounds, Window};
use crate::image::{LabelMap, RgbImage, View};

/// Side at which the window's edges are looked at; a smaller window, pixel by pixel.
const SIDE: usize = 768;

/// Half the width of the widest edges that are looked for, as a share of the window's side: less than a pixel of the network's.
const WIDEST: f32 = 1.0 / 128.0;

/// Squared distance of colours at which a pixel's own colour counts as much as the labels in saying of which classes it is, beside
/// twice the picture's grain.
const NOISE: f32 = 0.03 * 0.03;

/// Classes that are told apart at one place.
const MOST: usize = 4;

/// Where hardly a pixel around is certain to be of a class, its colour is its region's mean one: that counts as much as a pixel
/// that is so much of it.
const MEAN: f32 = 0.1;

/// The edges of a window of a picture.
pub(super) struct Edges {
    side: usize,
    /// Where the content's pixels lie on the picture at `side` squared, as [`Window::to_network`] has it.
    place: [f32; 4],
    /// The content's pixels from one of that picture's to the next.
    scale: f32,
    /// The place in `nodes` of each pixel near an edge; [`NONE`] elsewhere.
    index: Vec<u32>,
    /// [`NOISE`] with the grain.
    noise: f32,
    /// The column in `index` that is nearest to each of the content's.
    columns: Vec<u32>,
    nodes: Vec<Node>,
}

const NONE: u32 = u32::MAX;

/// What is known at a pixel near an edge.
#[derive(Clone, Copy, Default)]
struct Node {
    /// From the edge of the labels, in pixels of the content.
    distance: f32,
    edge: Edge,
    sides: Sides,
}

/// An edge where it is.
#[derive(Clone, Copy, Default)]
struct Edge {
    /// How far on either side of it the mixture goes.
    reach: f32,
    /// How far colours can tell the sides apart, 0 to 1.
    trust: f32,
}

/// Classes near a pixel with their colours off the edge.
#[derive(Clone, Copy, Default)]
struct Sides {
    count: usize,
    of: [SideOf; MOST],
}

#[derive(Clone, Copy, Default)]
struct SideOf {
    class: u8,
    /// Whether the class is but a line here, whose own colour does not show.
    line: bool,
    rgb: [f32; 3],
}

/// What a pixel near an edge is made of.
#[derive(Default)]
pub(super) struct Mixture {
    /// How sure that is, 0 to 1; else it is of the classes that the labels say.
    pub certain: f32,
    /// How far the edge's mixture goes, in pixels of the content.
    pub reach: f32,
    count: usize,
    parts: [Part; 3],
}

/// One class's part in a pixel.
#[derive(Clone, Copy, Default)]
pub(super) struct Part {
    pub class: usize,
    pub rgb: [f32; 3],
    /// The shares of a mixture's parts add up to 1.
    pub share: f32,
    line: bool,
}

impl Mixture {
    pub fn parts(&self) -> &[Part] {
        &self.parts[..self.count]
    }

    /// What the parts' colours leave unexplained: grain and texture.
    pub fn rest(&self, rgb: &[f32; 3]) -> [f32; 3] {
        std::array::from_fn(|c| {
            rgb[c] - self.parts().iter().map(|part| part.share * part.rgb[c]).sum::<f32>()
        })
    }
}

impl Edges {
    /// Looks at the content within `bounds`, which `window` holds; `grain` is the mean square by which it moves a colour.
    pub fn of(
        content: &View,
        labels: &LabelMap,
        (window, regions, bounds): (&Window, &Regions, Bounds),
        grain: f32,
    ) -> Self {
        let side = window.place().2.min(SIDE);
        let (rgb, small) = (window.rgb(content, side), window.labels(labels, side));
        let place = window.to_network(side);
        let scale = (1.0 / place[1]) as f32;
        let widest = (side as f32 * WIDEST).max(3.0);
        let (distance, nearest) = distances(&small, 2.0 * widest + 2.0);
        let (width, height) = (content.width(), content.height());
        let middle = |v: usize, k: usize, size: usize| {
            let at = (v as f64 - place[2 * k]) / place[2 * k + 1];
            (at.round().max(0.0) as usize).min(size - 1)
        };
        let region =
            |class: usize, x: usize, y: usize| regions.at(class, middle(x, 0, width), middle(y, 1, height));
        let means = means(&rgb, &small, &distance, regions.classes().len(), &region);
        let look =
            Look { rgb: &rgb, labels: &small, distance: &distance, grain, region: &region, means: &means };

        let mut edge = vec![Edge::default(); side * side];
        edge.par_chunks_exact_mut(side).enumerate().for_each(|(y, out)| {
            for (x, out) in out.iter_mut().enumerate() {
                if distance[y * side + x] <= 0.5 {
                    *out = look.edge(x, y, widest);
                }
            }
        });
        let edge = smoothed(&edge, &distance, side);
        // Of other pixels, the edge next to them.
        let edge_at = |i: usize| edge[nearest[i] as usize];

        let near = |v: usize, low: usize, high: usize, k: usize| {
            // The content's pixel under the middle of this one.
            let at = ((v as f64 - place[2 * k]) / place[2 * k + 1]) as f32;
            at >= low as f32 - 2.0 * scale && at <= high as f32 + 2.0 * scale
        };
        let rows: Vec<Vec<(u32, Node)>> = (0..side)
            .into_par_iter()
            .map(|y| {
                if !near(y, bounds.top, bounds.bottom, 1) {
                    return Vec::new();
                }
                let node = |x: usize| {
                    let i = y * side + x;
                    let found =
                        distance[i] <= widest + 1.0 && distance[i] <= edge_at(i).reach + 1.5 / scale + 1.0;
                    (found && near(x, bounds.left, bounds.right, 0)).then(|| {
                        let sides = look.sides(x, y, edge_at(i).reach, &edge_at);
                        let edge = Edge { reach: scale * edge_at(i).reach, ..edge_at(i) };
                        (i as u32, Node { distance: scale * distance[i], edge, sides })
                    })
                };
                (0..side).filter_map(node).collect()
            })
            .collect();
        let mut index = vec![NONE; side * side];
        let mut nodes = Vec::with_capacity(rows.iter().map(Vec::len).sum());
        for (i, node) in rows.into_iter().flatten() {
            index[i as usize] = nodes.len() as u32;
            nodes.push(node);
        }
        let place = place.map(|v| v as f32);
        let columns = (0..width).map(|x| nearest_to(place[0] + place[1] * x as f32, side) as u32).collect();
        Self { side, place, scale, index, noise: NOISE + 2.0 * grain, columns, nodes }
    }

    /// The pixels near edges in row `y` of the content.
    pub fn row(&self, y: usize) -> NearEdges<'_> {
        let row = nearest_to(self.place[2] + self.place[3] * y as f32, self.side);
        NearEdges { index: &self.index[row * self.side..][..self.side], columns: &self.columns }
    }

    /// Bytes that looking at a picture takes at most.
    pub fn bytes(width: usize, height: usize, threads: usize) -> u64 {
        let side = width.max(height).min(SIDE);
        sampling_bytes(width, height, side, threads) + (side * side * (2 * size_of::<Node>() + 32)) as u64
    }

    fn node(&self, x: usize, y: usize) -> Option<&Node> {
        self.nodes.get(self.index[y * self.side + x] as usize)
    }

    /// Of what the content's pixel (x, y) is made, if it is near an edge. Its own class is `own`; the labels of it and its
    /// neighbours, weighted, say `shares` of classes, which add up to 1.
    pub fn mixture(
        &self,
        x: usize,
        y: usize,
        rgb: &[f32; 3],
        own: usize,
        shares: &[(usize, f32)],
    ) -> Option<Mixture> {
        let [sx, dx, sy, dy] = self.place;
        let last = (self.side - 1) as f32;
        let (at_x, at_y) = (sx + dx * x as f32, sy + dy * y as f32);
        let nearest = self.node(nearest_to(at_x, self.side), nearest_to(at_y, self.side))?;
        let at_border = shares.len() > 1;
        if !at_border && nearest.distance > nearest.edge.reach + self.scale {
            return None;
        }
        // Colours, distance and reach between the four pixels around.
        let (at_x, at_y) = (at_x.clamp(0.0, last), at_y.clamp(0.0, last));
        let (x0, y0) = (at_x as usize, at_y as usize);
        let (fx, fy) = (at_x - x0 as f32, at_y - y0 as f32);
        let mut sum = Sums::default();
        for (y, wy) in [(y0, 1.0 - fy), (y0 + 1, fy)] {
            for (x, wx) in [(x0, 1.0 - fx), (x0 + 1, fx)] {
                let weight = wx * wy;
                if weight > 0.0
                    && let Some(node) = self.node(x, y)
                {
                    sum.add(node, weight);
                }
            }
        }
        let [distance, reach, trust] = [sum.distance, sum.edge.reach, sum.edge.trust].map(|v| v / sum.weight);
        let distance = if at_border { 0.5 } else { distance.max(1.5) };
        // Up to half the reach the colour decides; from there on ever more the labels.
        let open = ((reach - distance) / (0.5 * reach) + 0.5 / reach).clamp(0.0, 1.0);
        if trust <= 0.0 || (open <= 0.0 && !at_border) {
            return None;
        }
        let mut found = sum.mixture(own, shares)?;
        let explained = found.unmix(rgb, shares, self.noise);
        found.reach = reach;
        found.certain = explained * if at_border { trust } else { trust * open };
        Some(found)
    }
}

/// Which pixels of a row are near edges.
#[derive(Clone, Copy)]
pub(super) struct NearEdges<'a> {
    index: &'a [u32],
    columns: &'a [u32],
}

impl NearEdges<'_> {
    #[inline]
    pub fn has(&self, x: usize) -> bool {
        self.index[self.columns[x] as usize] != NONE
    }
}

fn nearest_to(at: f32, side: usize) -> usize {
    (at.round().max(0.0) as usize).min(side - 1)
}

/// Weighted sums of nodes.
#[derive(Default)]
struct Sums {
    weight: f32,
    distance: f32,
    edge: Edge,
    count: usize,
    /// Their shares are their weights.
    of: [Part; 2 * MOST],
}

impl Sums {
    fn add(&mut self, node: &Node, weight: f32) {
        self.weight += weight;
        self.distance += weight * node.distance;
        self.edge.reach += weight * node.edge.reach;
        self.edge.trust += weight * node.edge.trust;
        for side in &node.sides.of[..node.sides.count] {
            let class = usize::from(side.class);
            let known = &self.of[..self.count];
            let at = known.iter().position(|part| part.class == class).unwrap_or(self.count);
            if at == self.of.len() {
                continue;
            }
            if at == self.count {
                self.of[at] = Part { class, line: true, ..Part::default() };
                self.count += 1;
            }
            let part = &mut self.of[at];
            part.rgb.iter_mut().zip(side.rgb).for_each(|(sum, v)| *sum += weight * v);
            part.share += weight;
            part.line &= side.line;
        }
    }

    /// The class of the pixel and at most two others, those that the labels name first. None when its own is not known here, or
    /// no other is.
    fn mixture(&mut self, own: usize, shares: &[(usize, f32)]) -> Option<Mixture> {
        let share = |class: usize| shares.iter().find(|s| s.0 == class).map_or(0.0, |s| s.1);
        let known = &mut self.of[..self.count];
        for part in known.iter_mut() {
            part.rgb = part.rgb.map(|v| v / part.share);
            part.share = share(part.class);
        }
        // Of those that the labels do not name, the nearer first: so the nodes list them.
        let rank = |part: &Part| if part.class == own { 2.0 } else { part.share };
        known.sort_by(|a, b| rank(b).total_cmp(&rank(a)));
        if known.len() < 2 || known[0].class != own {
            return None;
        }
        let mut found = Mixture { count: known.len().min(3), ..Mixture::default() };
        found.parts.iter_mut().zip(known).for_each(|(part, known)| *part = *known);
        Some(found)
    }
}

impl Mixture {
    /// Finds the shares with which the parts' colours make up `rgb`, and says how well they do, 0 to 1: least squares, where the
    /// labels' shares count as much as colours that differ by `noise`, squared.
    fn unmix(&mut self, rgb: &[f32; 3], shares: &[(usize, f32)], noise: f32) -> f32 {
        /// Squared distance of colours that counts as explained.
        const LINE: f32 = 0.08 * 0.08;
        let w: [f32; 3] = std::array::from_fn(|k| self.parts[k].share);
        let total: f32 = w[..self.count].iter().sum();
        // What the labels give to classes that are not among the parts goes to the pixel's own.
        let lost = (shares.iter().map(|s| s.1).sum::<f32>() - total).max(0.0);
        let w = [w[0] + lost, w[1], w[2]];
        let from = |k: usize, to: usize| -> [f32; 3] {
            std::array::from_fn(|c| self.parts[k].rgb[c] - self.parts[to].rgb[c])
        };
        let dot = |a: &[f32; 3], b: &[f32; 3]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
        let cost = |p: &[f32; 3]| {
            let rest: [f32; 3] = std::array::from_fn(|c| {
                rgb[c] - (0..self.count).map(|k| p[k] * self.parts[k].rgb[c]).sum::<f32>()
            });
            dot(&rest, &rest) + noise * (0..self.count).map(|k| (p[k] - w[k]).powi(2)).sum::<f32>()
        };
        // Of two parts alone, the third's share being 0.
        let pair = |a: usize, b: usize| {
            let d = from(b, a);
            let e: [f32; 3] = std::array::from_fn(|c| rgb[c] - self.parts[a].rgb[c]);
            let share = (dot(&e, &d) + noise * (1.0 + w[b] - w[a])) / (dot(&d, &d) + 2.0 * noise);
            let mut p = [0.0; 3];
            p[b] = share.clamp(0.0, 1.0);
            p[a] = 1.0 - p[b];
            p
        };
        let apart = |a: usize, b: usize| dot(&from(a, b), &from(a, b));
        let contrast =
            if self.count == 3 { apart(1, 0).max(apart(2, 0)).max(apart(2, 1)) } else { apart(1, 0) };
        let mut best = pair(0, 1);
        if self.count == 3 {
            let (d1, d2) = (from(1, 0), from(2, 0));
            let e: [f32; 3] = std::array::from_fn(|c| rgb[c] - self.parts[0].rgb[c]);
            let (a, b, c) = (dot(&d1, &d1) + 2.0 * noise, dot(&d1, &d2) + noise, dot(&d2, &d2) + 2.0 * noise);
            let (r1, r2) =
                (dot(&e, &d1) + noise * (1.0 + w[1] - w[0]), dot(&e, &d2) + noise * (1.0 + w[2] - w[0]));
            let det = a * c - b * b;
            let (p1, p2) = ((c * r1 - b * r2) / det, (a * r2 - b * r1) / det);
            if p1 >= 0.0 && p2 >= 0.0 && p1 + p2 <= 1.0 {
                best = [1.0 - p1 - p2, p1, p2];
            } else {
                for p in [pair(0, 2), pair(1, 2)] {
                    if cost(&p) < cost(&best) {
                        best = p;
                    }
                }
            }
            // A line whose own colour does not show has no part in what its sides explain.
            let without = pair(1, 2);
            if self.parts[0].line && cost(&without) < cost(&best) + LINE {
                best = without;
            }
        }
        // A mixture is between its parts: a colour far off the line through them, as a highlight's at a thing's rim, is the thing's
        // own. Further along the line it is that part's.
        let k = if best[2] > best[1] { 2 } else { 1 };
        let (d, e) = (from(k, 0), std::array::from_fn(|c| rgb[c] - self.parts[0].rgb[c]));
        let off = dot(&e, &e) - dot(&e, &d).powi(2) / dot(&d, &d).max(noise);
        self.parts.iter_mut().zip(best).for_each(|(part, share)| part.share = share);
        let rest = self.rest(rgb);
        (1.5 - 6.0 * off.min(dot(&rest, &rest)) / (contrast + 10.0 * noise)).clamp(0.0, 1.0)
    }
}

/// The picture in which edges are looked for.
struct Look<'a> {
    rgb: &'a RgbImage,
    labels: &'a LabelMap,
    /// From the edge of the labels.
    distance: &'a [f32],
    /// The mean square by which grain moves a colour.
    grain: f32,
    /// The region of each class at a pixel, and the mean colours of the regions.
    region: &'a (dyn Fn(usize, usize, usize) -> usize + Sync),
    means: &'a [Option<[f32; 3]>],
}

/// Colours of the classes around a pixel.
#[derive(Default)]
struct Around {
    count: usize,
    of: [Found; 2 * MOST],
}

#[derive(Clone, Copy, Default)]
struct Found {
    class: u8,
    /// Squared distance of its nearest pixel.
    near: f32,
    sum: [f32; 3],
    total: f32,
}

impl Look<'_> {
    fn color(&self, i: usize) -> [f32; 3] {
        std::array::from_fn(|c| self.rgb.pixels[3 * i + c])
    }

    /// Mean colours of the classes around a pixel, of every `step`-th pixel up to four steps away; `certain` says how much a
    /// pixel counts as one of its class.
    fn around(&self, x: usize, y: usize, step: usize, certain: impl Fn(usize) -> f32) -> Around {
        let side = self.rgb.width;
        let mut around = Around::default();
        let steps = -4i64..=4;
        for dy in steps.clone() {
            let ny = y as i64 + dy * step as i64;
            if !(0..side as i64).contains(&ny) {
                continue;
            }
            for dx in steps.clone() {
                let nx = x as i64 + dx * step as i64;
                if !(0..side as i64).contains(&nx) {
                    continue;
                }
                let i = ny as usize * side + nx as usize;
                let square = (dx * dx + dy * dy) as f32;
                let weight = certain(i) / (1.0 + 0.25 * square);
                let near = square * (step * step) as f32;
                around.add(self.labels.indices()[i], near, weight, self.color(i));
            }
        }
        for found in &mut around.of[..around.count] {
            if let Some(mean) = self.means[(self.region)(usize::from(found.class), x, y)] {
                found.total += MEAN;
                found.sum.iter_mut().zip(mean).for_each(|(sum, v)| *sum += MEAN * v);
            }
        }
        around
    }

    /// The edge at (x, y), which is next to another class.
    fn edge(&self, x: usize, y: usize, widest: f32) -> Edge {
        /// Contrast of its sides below which an edge cannot be seen.
        const CONTRAST: f32 = 0.06;
        /// One as sharp as pixels are, with labels a pixel beside it.
        const SHARP: Edge = Edge { reach: 2.0, trust: 0.0 };
        let side = self.rgb.width;
        let certain = |i: usize| (self.distance[i] / widest).min(1.0).powi(2) + 1e-3;
        let around = self.around(x, y, (widest / 2.0).round() as usize, certain);
        let own = self.labels.indices()[y * side + x];
        let beside = [(x.wrapping_sub(1), y), (x + 1, y), (x, y.wrapping_sub(1)), (x, y + 1)];
        let inside = |&(x, y): &(usize, usize)| x < side && y < side;
        let others = beside.into_iter().filter(inside).map(|(x, y)| self.labels.get(x, y));
        let Some(other) = others.filter(|&class| class != own).max() else { return SHARP };
        // A line that every step passes over still has its region's colour.
        let color = |class: u8| around.color(class).or(self.means[(self.region)(usize::from(class), x, y)]);
        let (Some(a), Some(b)) = (color(own), color(other)) else { return SHARP };
        let across: [f32; 3] = std::array::from_fn(|c| b[c] - a[c]);
        let contrast = across.iter().map(|v| v * v).sum::<f32>().sqrt();
        if contrast < CONTRAST {
            return SHARP;
        }
        // Its width is the contrast over the steepest slope, which in a soft edge is about twice the mean one.
        let square = |p: [f32; 3], q: [f32; 3]| (0..3).map(|c| (q[c] - p[c]).powi(2)).sum::<f32>();
        let mut steepest = 0.0f32;
        for y in y.saturating_sub(2)..(y + 3).min(side - 1) {
            for x in x.saturating_sub(2)..(x + 3).min(side - 1) {
                let i = y * side + x;
                let here = self.color(i);
                steepest = steepest.max(square(here, self.color(i + 1)) + square(here, self.color(i + side)));
            }
        }
        let reach = (0.75 * contrast / steepest.sqrt().max(1e-3) + 1.0).clamp(SHARP.reach, widest);

        // On its own side a class has more of its own colour than beyond; where it has not, as where a shadow at a bright
        // thing's foot meets its dark rim, colours would put the sides the wrong way round.
        let far = (1.5 * reach).max(4.0) as usize;
        let along = |rgb: [f32; 3]| (0..3).map(|c| (rgb[c] - a[c]) * across[c]).sum::<f32>() / contrast;
        let (mut sums, mut counts, mut widths) = ([0.0f32; 2], [0.0f32; 2], [0.0f32; 2]);
        for y in y.saturating_sub(far)..(y + far + 1).min(side) {
            for i in y * side + x.saturating_sub(far)..y * side + (x + far + 1).min(side) {
                let class = self.labels.indices()[i];
                if class != own && class != other {
                    continue;
                }
                let k = usize::from(class == other);
                sums[k] += (along(self.color(i)) / contrast).clamp(0.0, 1.0);
                counts[k] += 1.0;
                widths[k] = widths[k].max(self.distance[i]);
            }
        }
        let apart = sums[1] / counts[1].max(1.0) - sums[0] / counts[0].max(1.0);
        // A class that is but a line there, a pixel or two wide, has no colour of its own to be seen.
        let line = widths.iter().any(|&width| width < 2.0);
        // Labels a pixel or two beside a thin thing do so too: the more the colours differ, the less is asked of them.
        let asked = 0.35 - 0.25 * ((contrast - 0.2) / 0.25).clamp(0.0, 1.0);
        let trust = if line { 1.0 } else { ((apart - asked) / 0.15).clamp(0.0, 1.0) };
        // Grain of a third of the contrast hides where the edge is, of a sixth no more.
        let seen = ((contrast * contrast / self.grain.max(1e-9) - 9.0) / 27.0).clamp(0.0, 1.0);
        Edge { reach, trust: seen * trust }
    }

    /// The classes near (x, y), nearest first, with their colours beyond the edge's reach.
    fn sides(&self, x: usize, y: usize, reach: f32, edge_at: &(dyn Fn(usize) -> Edge + Sync)) -> Sides {
        let step = ((reach + 2.0) / 4.0).round().max(1.0) as usize;
        let certain = |i: usize| {
            let within = self.distance[i] / edge_at(i).reach.max(1.5);
            within.min(1.0).powi(4)
        };
        let mut around = self.around(x, y, step, certain);
        let far = (reach + 2.0).powi(2);
        let found = &mut around.of[..around.count];
        found.sort_by(|a, b| a.near.total_cmp(&b.near));
        let mut sides = Sides::default();
        for found in found.iter().filter(|f| f.near <= far && f.total > 0.0).take(MOST) {
            let line = found.total < 2.0 * MEAN;
            sides.of[sides.count] =
                SideOf { class: found.class, line, rgb: found.sum.map(|v| v / found.total) };
            sides.count += 1;
        }
        sides
    }
}

impl Around {
    fn add(&mut self, class: u8, near: f32, weight: f32, rgb: [f32; 3]) {
        let at = self.of[..self.count].iter().position(|f| f.class == class).unwrap_or(self.count);
        if at == self.of.len() {
            return;
        }
        if at == self.count {
            self.of[at] = Found { class, near, ..Found::default() };
            self.count += 1;
        }
        let found = &mut self.of[at];
        found.near = found.near.min(near);
        found.total += weight;
        found.sum.iter_mut().zip(rgb).for_each(|(sum, v)| *sum += weight * v);
    }

    fn color(&self, class: u8) -> Option<[f32; 3]> {
        let found = self.of[..self.count].iter().find(|f| f.class == class && f.total > 0.0)?;
        Some(found.sum.map(|v| v / found.total))
    }
}

/// Of each pixel: how far the next edge of the labels is, and the pixel at it. An edge lies half a pixel from the pixels on its
/// sides. Infinite where there is none within `limit`.
fn distances(labels: &LabelMap, limit: f32) -> (Vec<f32>, Vec<u32>) {
    let side = labels.width();
    let of = labels.indices();
    let mut distance = vec![f32::INFINITY; side * side];
    let mut nearest: Vec<u32> = (0..(side * side) as u32).collect();
    for i in 0..side * side {
        let (x, y) = (i % side, i / side);
        let differs = (x > 0 && of[i - 1] != of[i])
            || (x + 1 < side && of[i + 1] != of[i])
            || (y > 0 && of[i - side] != of[i])
            || (y + 1 < side && of[i + side] != of[i]);
        if differs {
            distance[i] = 0.5;
        }
    }
    // From above and the left, then from below and the right: a chamfer distance, within 8 % of the true one.
    let mut from = |i: usize, j: usize, step: f32| {
        let through = distance[j] + step;
        if through < distance[i] && through <= limit {
            (distance[i], nearest[i]) = (through, nearest[j]);
        }
    };
    const DIAGONAL: f32 = std::f32::consts::SQRT_2;
    let pixels = |i: usize| (i % side, i / side);
    for i in 0..side * side {
        let (x, y) = pixels(i);
        for (there, back, step) in [
            (x > 0, 1, 1.0),
            (y > 0, side, 1.0),
            (x > 0 && y > 0, side + 1, DIAGONAL),
            (x + 1 < side && y > 0, side - 1, DIAGONAL),
        ] {
            if there {
                from(i, i - back, step);
            }
        }
    }
    for i in (0..side * side).rev() {
        let (x, y) = pixels(i);
        for (there, on, step) in [
            (x + 1 < side, 1, 1.0),
            (y + 1 < side, side, 1.0),
            (x + 1 < side && y + 1 < side, side + 1, DIAGONAL),
            (x > 0 && y + 1 < side, side - 1, DIAGONAL),
        ] {
            if there {
                from(i, i + on, step);
            }
        }
    }
    (distance, nearest)
}

/// The mean over the edge's pixels around each.
fn smoothed(edge: &[Edge], distance: &[f32], side: usize) -> Vec<Edge> {
    let mut out = vec![Edge::default(); side * side];
    out.par_chunks_exact_mut(side).enumerate().for_each(|(y, out)| {
        for (x, out) in out.iter_mut().enumerate() {
            if distance[y * side + x] > 0.5 {
                continue;
            }
            let (mut sum, mut count) = (Edge::default(), 0.0);
            for ny in y.saturating_sub(3)..(y + 4).min(side) {
                for i in ny * side + x.saturating_sub(3)..ny * side + (x + 4).min(side) {
                    if distance[i] <= 0.5 {
                        sum = Edge { reach: sum.reach + edge[i].reach, trust: sum.trust + edge[i].trust };
                        count += 1.0;
                    }
                }
            }
            *out = Edge { reach: sum.reach / count, trust: sum.trust / count };
        }
    });
    out
}

/// The mean colour of each region's pixels, those off the edges first.
fn means(
    rgb: &RgbImage,
    labels: &LabelMap,
    distance: &[f32],
    regions: usize,
    region: &dyn Fn(usize, usize, usize) -> usize,
) -> Vec<Option<[f32; 3]>> {
    let mut sums = vec![([0.0f64; 3], 0.0f64); regions];
    for (i, (&class, rgb)) in labels.indices().iter().zip(rgb.pixels.chunks_exact(3)).enumerate() {
        let weight = if distance[i] > 1.5 { 1.0 } else { 1e-3 };
        let (sum, total) = &mut sums[region(usize::from(class), i % labels.width(), i / labels.width())];
        sum.iter_mut().zip(rgb).for_each(|(sum, &v)| *sum += weight * f64::from(v));
        *total += weight;
    }
    sums.into_iter().map(|(sum, total)| (total > 0.0).then(|| sum.map(|v| (v / total) as f32))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Picture, Samples};

    const SIZE: usize = 96;

    /// A picture and labels of columns alone.
    fn edges(color: impl Fn(usize) -> [f32; 3], class: impl Fn(usize) -> u8) -> (Picture, LabelMap, Edges) {
        let samples = (0..SIZE * SIZE).flat_map(|i| color(i % SIZE)).collect();
        let picture = Picture::new(SIZE, SIZE, 3, Samples::F32(samples)).unwrap();
        let labels = LabelMap::new(SIZE, SIZE, (0..SIZE * SIZE).map(|i| class(i % SIZE)).collect()).unwrap();
        let all = Bounds { left: 0, top: 0, right: SIZE, bottom: SIZE };
        let window = Window::whole(SIZE, SIZE);
        let edges = Edges::of(&picture.view(), &labels, (&window, &Regions::whole(3), all), 0.0);
        (picture, labels, edges)
    }

    /// How much of each column, in the middle row, is of class 1.
    fn shares(color: impl Fn(usize) -> [f32; 3] + Copy, class: impl Fn(usize) -> u8) -> Vec<f32> {
        let (_, labels, edges) = edges(color, class);
        let y = SIZE / 2;
        let of = |x: usize, class: usize| {
            let share = |x: usize| f32::from(u8::from(usize::from(labels.get(x, y)) == class));
            0.25 * share(x.saturating_sub(1)) + 0.5 * share(x) + 0.25 * share((x + 1).min(SIZE - 1))
        };
        (0..SIZE)
            .map(|x| {
                let said: Vec<_> =
                    (0..3).map(|class| (class, of(x, class))).filter(|(_, share)| *share > 0.0).collect();
                let own = usize::from(labels.get(x, y));
                let Some(found) = edges.mixture(x, y, &color(x), own, &said) else { return of(x, 1) };
                let by_color: f32 = found.parts().iter().filter(|p| p.class == 1).map(|p| p.share).sum();
                found.certain * by_color + (1.0 - found.certain) * of(x, 1)
            })
            .collect()
    }

    const DARK: [f32; 3] = [0.2, 0.25, 0.3];
    const LIGHT: [f32; 3] = [0.8, 0.6, 0.3];

    fn between(t: f32) -> [f32; 3] {
        std::array::from_fn(|c| DARK[c] + t * (LIGHT[c] - DARK[c]))
    }

    #[test]
    fn the_pixels_of_a_soft_edge_are_as_much_of_each_side_as_the_lens_made_them() {
        for width in [1.0f32, 2.0, 4.0] {
            for beside in [-1i32, 0, 1] {
                let truth = |x: usize| ((x as f32 - 48.0) / width + 0.5).clamp(0.0, 1.0);
                let found = shares(|x| between(truth(x)), |x| u8::from(x as i32 >= 48 + beside));
                for (x, &share) in found.iter().enumerate() {
                    // The colours of the sides are means that take a little of the edge in.
                    let off = (share - truth(x)).abs();
                    assert!(
                        off < 0.15,
                        "width {width}, labels {beside} beside: column {x} is {share}, not {}",
                        truth(x)
                    );
                }
            }
        }
    }

    #[test]
    fn far_from_edges_pixels_are_their_classes_own() {
        let grain = |x: usize| {
            between(if x < 48 { 0.0 } else { 1.0 }).map(|v| v + 0.2 * f32::from(x.is_multiple_of(3)))
        };
        let found = shares(grain, |x| u8::from(x >= 48));
        assert!(found[..40].iter().all(|&share| share == 0.0), "{found:?}");
        assert!(found[56..].iter().all(|&share| share == 1.0), "{found:?}");
    }

    #[test]
    fn a_line_of_labels_has_no_part_in_what_its_sides_explain() {
        // Class 2 is black and wide elsewhere; between classes 0 and 1 the labels have a line of it that the picture has not.
        let color = |x: usize| match x {
            0..20 => [0.02; 3],
            20..60 => DARK,
            60 => between(0.5),
            _ => LIGHT,
        };
        let (_, _, edges) = edges(color, |x| match x {
            0..20 | 60 => 2,
            20..60 => 0,
            _ => 1,
        });
        let found = edges.mixture(60, 48, &between(0.5), 2, &[(2, 0.5), (0, 0.25), (1, 0.25)]).unwrap();
        let share =
            |class: usize| found.parts().iter().filter(|p| p.class == class).map(|p| p.share).sum::<f32>();
        assert_eq!((found.certain, share(2)), (1.0, 0.0));
        assert!((share(1) - 0.5).abs() < 0.1, "{}", share(1));
    }

    #[test]
    fn where_a_shadow_meets_a_rim_the_labels_decide() {
        // A dark thing with a lighter rim on a floor with a dark shadow at its foot: by colour the sides are the wrong way round.
        let color = |x: usize| match x {
            45..48 => [0.3, 0.28, 0.26],
            48..51 => [0.1; 3],
            0..48 => [0.12; 3],
            _ => [0.32, 0.3, 0.28],
        };
        let found = shares(color, |x| u8::from(x < 48));
        let said: Vec<f32> = (0..SIZE)
            .map(|x| match x {
                0..47 => 1.0,
                47 => 0.75,
                48 => 0.25,
                _ => 0.0,
            })
            .collect();
        assert_eq!(found, said);
    }

    #[test]
    fn distances_are_from_the_labels_edges_with_the_pixel_at_the_edge() {
        let labels = LabelMap::new(8, 8, (0..64).map(|i| u8::from(i % 8 >= 4)).collect()).unwrap();
        let (distance, nearest) = distances(&labels, 3.0);
        assert_eq!(distance[..8], [f32::INFINITY, 2.5, 1.5, 0.5, 0.5, 1.5, 2.5, f32::INFINITY]);
        assert_eq!(nearest[1..7], [3, 3, 3, 4, 4, 4]);
    }
}
