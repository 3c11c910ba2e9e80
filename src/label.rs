//! The label map that a model's labeler proposes for a photograph, at full resolution.
//!
//! The labeler scores a small picture, and the pixels of one colour hear each other ([`field`]); the label map is carried up by
//! doubling. At each size the pixels near an edge of the map are given to the class of those neighbours that they look like, a vote
//! weighted as in the joint bilateral upsampling of Kopf et al. (2007).

mod field;

use candle_core::{D, Tensor};
use rayon::prelude::*;

use crate::image::resample::{Axis, Resampled};
use crate::image::{LabelMap, RgbImage, View};
use crate::nn::Network;
use crate::progress::Progress;
use crate::{Error, Result};

/// The longer side of what the labeler sees is at most this many times the resolution that the shorter one would have.
const LONGEST: f64 = 4.0;

/// The sizes at which the labeler sees a picture, in the network's resolution, and whether it sees the mirror image there, whose
/// classes are the same; what it says of each counts alike. Both ways at both sizes say no more (models/studio.md).
const LOOKS: [(f64, bool); 2] = [(1.0, false), (1.25, true)];

/// Pixels of one colour hear each other on a picture as large as a square of this side.
const FIELD: usize = 48;

/// How far a pixel looks for neighbours to vote, in pixels of its size.
const RADIUS: usize = 3;

/// How often edges are decided anew at each size.
pub(crate) const ROUNDS: usize = 2;

/// Colour differences that count as alike: standard deviation over RGB in [0, 1].
const ALIKE: f32 = 0.06;

/// Standard deviation of the vote's weight over distance, in pixels.
const NEAR: f32 = 2.0;

/// [`Labeling::confidence`] below which a map is worth a look.
pub const FAIR: f32 = 0.9;

/// A proposed label map.
#[derive(Clone, Debug)]
pub struct Labeling {
    /// Of the picture's size.
    pub labels: LabelMap,
    /// The labeler's mean probability of the classes it chose, 0 to 1: below [`FAIR`] the map is worth a look.
    pub confidence: f32,
}

/// Proposes a label map for a picture of any size and aspect.
///
/// The shorter side is brought to the network's resolution, and of the mirror image to a quarter above; a picture longer than four times
/// its other side is made smaller still. Alpha is not looked at.
///
/// # Errors
/// [`Error::Model`] when the model has no labeler; [`Error::Cancelled`]; [`Error::Tensor`] when the device fails.
pub fn label(network: &Network, picture: &View, progress: Progress) -> Result<Labeling> {
    propose(network, picture, ROUNDS, progress)
}

/// As [`label`], deciding edges `rounds` times at each size.
pub(crate) fn propose(
    network: &Network,
    picture: &View,
    rounds: usize,
    progress: Progress,
) -> Result<Labeling> {
    let config = network.config();
    let Some(sizes) = &config.labeler else {
        return Err(Error::Model(
            "this model has no labeler: give a label map, or train one (ca2sis train --part labeler)".into(),
        ));
    };
    progress.at(0.0)?;
    let mut maps = Vec::new();
    let frames = frames(picture.width(), picture.height(), config.resolution, sizes.step());
    for (i, (frame, mirrored)) in frames.enumerate() {
        progress.at(0.35 * i as f32 / LOOKS.len() as f32)?;
        maps.push(Map::new(network, picture, frame, mirrored)?);
    }
    let mut chances = Chances { classes: config.classes, maps, field: None };
    if rounds > 0 {
        progress.at(0.35)?;
        chances.settle();
    }
    progress.at(0.4)?;

    // Pictures of half, a quarter ... of the size, down to the last one that is not smaller than what was seen.
    let mut halves: Vec<Bytes> = Vec::new();
    loop {
        let (width, height) =
            halves.last().map_or((picture.width(), picture.height()), |h| (h.width, h.height));
        let seen = chances.maps[0].frame.scale * picture.width() as f64;
        if (width as f64) < 2.0 * seen || width.min(height) < 2 {
            break;
        }
        let half = match halves.last() {
            Some(last) => Bytes::half(width, height, &|y, row| last.rgb_row(y, row)),
            None => Bytes::half(width, height, &|y, row| picture.rgb_row(y, row)),
        };
        halves.push(half);
        progress.at(0.5)?;
    }

    let coarsest = halves.last().map_or((picture.width(), picture.height()), |h| (h.width, h.height));
    let (mut labels, confidence) = chances.labels(coarsest);
    if rounds == 0 {
        labels = chances.labels((picture.width(), picture.height())).0;
        halves.clear();
    }
    let levels = halves.len() + 1;
    for (i, half) in halves.iter().rev().map(Some).chain([None]).enumerate() {
        progress.at(0.5 + 0.5 * i as f32 / levels as f32)?;
        let size = half.map_or((picture.width(), picture.height()), |h| (h.width, h.height));
        if i > 0 {
            labels = doubled(&labels, size.0, size.1);
        }
        for _ in 0..rounds {
            labels = match half {
                Some(half) => vote(&labels, config.classes, &|y, row| half.rgb_row(y, row)),
                None => vote(&labels, config.classes, &|y, row| picture.rgb_row(y, row)),
            };
        }
    }
    progress.at(1.0)?;
    Ok(Labeling { labels, confidence })
}

/// The labeler's picture at each of [`LOOKS`], and whether it is mirrored there.
fn frames(
    width: usize,
    height: usize,
    resolution: usize,
    step: usize,
) -> impl Iterator<Item = (Frame, bool)> {
    LOOKS.into_iter().map(move |(size, mirrored)| {
        let resolution = (size * resolution as f64 + 0.5) as usize;
        (Frame::new(width, height, resolution, step), mirrored)
    })
}

/// Width and height of the largest picture that the labeler sees of one of this size, in a network of this resolution and step.
pub(crate) fn largest_seen(width: usize, height: usize, resolution: usize, step: usize) -> (usize, usize) {
    let sizes = frames(width, height, resolution, step).map(|(frame, _)| (frame.width, frame.height));
    sizes.max_by_key(|(width, height)| width * height).expect("it looks at least once")
}

/// Width and height of the picture on which pixels of one colour hear each other, for one of this size.
pub(crate) fn field_size(width: usize, height: usize) -> (usize, usize) {
    let scale = FIELD as f64 / ((width * height) as f64).sqrt();
    let small = |side: usize| ((side as f64 * scale + 0.5) as usize).clamp(1, FIELD * FIELD);
    (small(width), small(height))
}

/// Where the labeler's picture lies: the whole picture, and as much of its reflection as fills up whole steps.
struct Frame {
    /// Size of the labeler's picture.
    width: usize,
    height: usize,
    /// Its first column and row, in the picture's pixels, 0 or less.
    left: f64,
    top: f64,
    /// Its pixels a pixel of the picture.
    scale: f64,
    /// Size of the picture.
    of: (usize, usize),
}

impl Frame {
    fn new(width: usize, height: usize, resolution: usize, step: usize) -> Self {
        let (short, long) = (width.min(height) as f64, width.max(height) as f64);
        let scale = (resolution as f64 / short).min(LONGEST * resolution as f64 / long);
        let whole =
            |side: usize| ((side as f64 * scale / step as f64 - 1e-9).ceil().max(1.0) as usize) * step;
        let (w, h) = (whole(width), whole(height));
        let start = |side: usize, seen: usize| (side as f64 - seen as f64 / scale) / 2.0;
        Self { width: w, height: h, left: start(width, w), top: start(height, h), scale, of: (width, height) }
    }

    fn rgb(&self, picture: &View) -> RgbImage {
        let columns = Axis::new(picture.width(), self.left, self.width as f64 / self.scale, self.width);
        let rows = Axis::new(picture.height(), self.top, self.height as f64 / self.scale, self.height);
        Resampled::new(picture.width(), |y, row| picture.rgb_row(y, row), &columns, rows).into_image()
    }
}

/// The classes' probabilities at each pixel of a picture that the labeler saw.
struct Map {
    frame: Frame,
    rgb: RgbImage,
    values: Vec<f32>,
}

impl Map {
    /// `mirrored`: the labeler sees the mirror image, of which this is the mirror image again.
    fn new(network: &Network, picture: &View, frame: Frame, mirrored: bool) -> Result<Self> {
        let device = network.device();
        let mirror = Tensor::from_iter((0..frame.width as u32).rev(), device)?;
        let turned = |x: Tensor| if mirrored { x.index_select(&mirror, 2) } else { Ok(x) };
        let rgb = frame.rgb(picture);
        let scores = network.label(&turned(rgb.to_tensor(device)?)?)?;
        let chances = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
        let chances = turned(chances.broadcast_div(&chances.sum_keepdim(D::Minus1)?)?)?;
        Ok(Self { frame, rgb, values: chances.flatten_all()?.to_vec1()? })
    }

    /// From the centres of `size` pixels along an axis of the whole picture to its own pixels.
    fn places(&self, size: usize, horizontal: bool) -> Vec<Place> {
        let f = &self.frame;
        let (start, of, seen) =
            if horizontal { (f.left, f.of.0, f.width) } else { (f.top, f.of.1, f.height) };
        (0..size)
            .map(|i| place(((i as f64 + 0.5) * of as f64 / size as f64 - start) * f.scale - 0.5, seen))
            .collect()
    }

    /// The whole picture without what fills it up, at another size.
    fn whole(&self, width: usize, height: usize) -> RgbImage {
        let (f, rgb) = (&self.frame, &self.rgb);
        let axis =
            |seen, start: f64, of: usize, out| Axis::new(seen, -start * f.scale, of as f64 * f.scale, out);
        let row = |y: usize, out: &mut [f32]| {
            out.copy_from_slice(&rgb.pixels[y * rgb.width * 3..][..rgb.width * 3])
        };
        let rows = axis(f.height, f.top, f.of.1, height);
        Resampled::new(f.width, row, &axis(f.width, f.left, f.of.0, width), rows).into_image()
    }
}

/// The two of a row of samples around a place, and how far on to the second it is.
type Place = (usize, usize, f32);

/// `at` in samples, of which there are `size`.
fn place(at: f64, size: usize) -> Place {
    let at = at.clamp(0.0, (size - 1) as f64);
    let first = (at as usize).min(size.saturating_sub(2));
    (first, (first + 1).min(size - 1), (at - first as f64) as f32)
}

/// Adds to `sum` the values that lie around a place of a map of `width`, `n` of them a pixel.
fn add(values: &[f32], width: usize, (x, y): (Place, Place), sum: &mut [f32]) {
    let ((left, right, across), (top, bottom, down)) = (x, y);
    for (y, wy) in [(top, 1.0 - down), (bottom, down)] {
        for (x, wx) in [(left, 1.0 - across), (right, across)] {
            let at = &values[(y * width + x) * sum.len()..][..sum.len()];
            sum.iter_mut().zip(at).for_each(|(sum, v)| *sum += wy * wx * v);
        }
    }
}

/// What the labeler says of a picture at each of [`LOOKS`].
struct Chances {
    classes: usize,
    maps: Vec<Map>,
    field: Option<Field>,
}

/// What pixels of one colour say of each other, over the whole picture: what to add to the logarithms of the probabilities.
struct Field {
    width: usize,
    height: usize,
    values: Vec<f32>,
}

impl Chances {
    /// The mean probabilities at each pixel of the whole picture at another size, row by row: `visit(row, chances)`.
    fn rows<T: Send>(
        &self,
        (width, height): (usize, usize),
        visit: impl Fn(usize, &[f32]) -> T + Sync,
    ) -> Vec<T> {
        let n = self.classes;
        let places = |horizontal: bool, size: usize| -> Vec<Vec<Place>> {
            self.maps.iter().map(|map| map.places(size, horizontal)).collect()
        };
        let (columns, rows) = (places(true, width), places(false, height));
        let of_row = |chances: &mut Vec<f32>, y: usize| {
            chances.clear();
            chances.resize(width * n, 0.0);
            for (x, chances) in chances.chunks_exact_mut(n).enumerate() {
                for ((map, rows), columns) in self.maps.iter().zip(&rows).zip(&columns) {
                    add(&map.values, map.frame.width, (columns[x], rows[y]), chances);
                }
                chances.iter_mut().for_each(|v| *v /= self.maps.len() as f32);
            }
            visit(y, chances)
        };
        (0..height).into_par_iter().map_init(Vec::new, of_row).collect()
    }

    /// Lets pixels of one colour hear each other, on a small picture.
    fn settle(&mut self) {
        let of = self.maps[0].frame.of;
        let (width, height) = field_size(of.0, of.1);
        let chances = self.rows((width, height), |_, row| row.to_vec()).concat();
        let values = field::settle(&chances, self.classes, &self.maps[0].whole(width, height));
        self.field = Some(Field { width, height, values });
    }

    /// The likeliest class at each pixel of the whole picture at another size, and its mean probability.
    fn labels(&self, size: (usize, usize)) -> (LabelMap, f32) {
        let n = self.classes;
        let places = |of: usize, size: usize| -> Vec<Place> {
            (0..size).map(|i| place((i as f64 + 0.5) * of as f64 / size as f64 - 0.5, of)).collect()
        };
        let field = self.field.as_ref().map(|f| (f, places(f.width, size.0), places(f.height, size.1)));
        let rows = self.rows(size, |y, chances| {
            let (mut sum, mut scores) = (0.0, vec![0.0; n]);
            let label = |(x, chances): (usize, &[f32])| {
                match &field {
                    Some((field, columns, rows)) => {
                        scores.iter_mut().zip(chances).for_each(|(s, v)| *s = (v + field::LEAST).ln());
                        add(&field.values, field.width, (columns[x], rows[y]), &mut scores);
                    }
                    None => scores.copy_from_slice(chances),
                }
                let best = (1..n).fold(0, |best, c| if scores[c] > scores[best] { c } else { best });
                sum += f64::from(chances[best]);
                best as u8
            };
            let labels: Vec<u8> = chances.chunks_exact(n).enumerate().map(label).collect();
            (labels, sum)
        });
        let sum: f64 = rows.iter().map(|(_, sum)| sum).sum();
        let labels = rows.into_iter().flat_map(|(labels, _)| labels).collect();
        let labels = LabelMap::new(size.0, size.1, labels).expect("a label a pixel");
        (labels, (sum / (size.0 * size.1) as f64) as f32)
    }
}

/// An RGB picture of 8 bits.
struct Bytes {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Bytes {
    /// Half of a picture of `width` x `height` whose rows `row` gives: means of two by two pixels, an odd last one left out.
    fn half(width: usize, height: usize, row: &(dyn Fn(usize, &mut [f32]) + Sync)) -> Self {
        let (w, h) = (width / 2, height / 2);
        let mut rgb = vec![0; w * h * 3];
        rgb.par_chunks_exact_mut(w * 3).enumerate().for_each_init(
            || (vec![0.0; width * 3], vec![0.0; width * 3]),
            |(upper, lower), (y, out)| {
                row(2 * y, upper);
                row(2 * y + 1, lower);
                for (x, pixel) in out.chunks_exact_mut(3).enumerate() {
                    for (c, value) in pixel.iter_mut().enumerate() {
                        let (a, b) = (x * 6 + c, x * 6 + 3 + c);
                        *value = ((upper[a] + upper[b] + lower[a] + lower[b]) * (255.0 / 4.0) + 0.5) as u8;
                    }
                }
            },
        );
        Self { width: w, height: h, rgb }
    }

    fn rgb_row(&self, y: usize, out: &mut [f32]) {
        let row = &self.rgb[y * self.width * 3..][..self.width * 3];
        out.iter_mut().zip(row).for_each(|(out, &v)| *out = f32::from(v) / 255.0);
    }
}

/// The map of a half as [`Bytes::half`] makes it, on the pixels that it was made of. An odd last one goes with the one before.
fn doubled(half: &LabelMap, width: usize, height: usize) -> LabelMap {
    let columns: Vec<usize> = (0..width).map(|x| (x / 2).min(half.width() - 1)).collect();
    let row = |y: usize| {
        let row = half.row((y / 2).min(half.height() - 1));
        columns.iter().map(|&x| row[x])
    };
    LabelMap::new(width, height, (0..height).flat_map(row).collect()).expect("a label a pixel")
}

/// Gives each pixel that has another class within reach to the class whose pixels around it are nearest to it in colour and
/// place. `row` gives the picture's rows.
fn vote(labels: &LabelMap, classes: usize, row: &(dyn Fn(usize, &mut [f32]) + Sync)) -> LabelMap {
    const STRIP: usize = 32;
    let (width, height) = (labels.width(), labels.height());
    let near: Vec<f32> =
        (0..=2 * RADIUS * RADIUS).map(|squared| (-(squared as f32) / (2.0 * NEAR * NEAR)).exp()).collect();
    let mut decided = labels.indices().to_vec();
    decided.par_chunks_mut(STRIP * width).enumerate().for_each(|(strip, out)| {
        let rows = strip * STRIP..strip * STRIP + out.len() / width;
        let first = rows.start.saturating_sub(RADIUS);
        let last = (rows.end + RADIUS).min(height);
        // Rows of the picture, read when an edge is first met near them.
        let mut picture: Vec<Option<Vec<f32>>> = vec![None; last - first];
        for (y, out) in rows.zip(out.chunks_exact_mut(width)) {
            let ys = y.saturating_sub(RADIUS)..(y + RADIUS + 1).min(height);
            if ys.clone().all(|y| uniform(labels.row(y), labels.get(0, ys.start))) {
                continue;
            }
            for y in ys.clone() {
                picture[y - first].get_or_insert_with(|| {
                    let mut pixels = vec![0.0; width * 3];
                    row(y, &mut pixels);
                    pixels
                });
            }
            let pixels = |y: usize| picture[y - first].as_deref().expect("read above");
            let mut votes = vec![0.0; classes];
            for (x, label) in out.iter_mut().enumerate() {
                let xs = x.saturating_sub(RADIUS)..(x + RADIUS + 1).min(width);
                if ys.clone().all(|y| uniform(&labels.row(y)[xs.clone()], *label)) {
                    continue;
                }
                let here = &pixels(y)[x * 3..x * 3 + 3];
                votes.fill(0.0);
                for v in ys.clone() {
                    let (line, given) = (pixels(v), labels.row(v));
                    for u in xs.clone() {
                        let there = &line[u * 3..u * 3 + 3];
                        let unlike: f32 = here.iter().zip(there).map(|(a, b)| (a - b) * (a - b)).sum();
                        let squared = u.abs_diff(x).pow(2) + v.abs_diff(y).pow(2);
                        votes[usize::from(given[u])] +=
                            near[squared] * (-unlike / (2.0 * ALIKE * ALIKE)).exp();
                    }
                }
                let mut best = *label;
                for (class, &weight) in votes.iter().enumerate() {
                    if weight > votes[usize::from(best)] {
                        best = class as u8;
                    }
                }
                *label = best;
            }
        }
    });
    LabelMap::new(width, height, decided).expect("a label a pixel")
}

fn uniform(labels: &[u8], label: u8) -> bool {
    labels.iter().all(|&other| other == label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Picture, Samples};

    #[test]
    fn the_labelers_picture_covers_the_whole_one_at_every_aspect() {
        for (width, height) in [(1, 1), (1, 900), (64, 64), (128, 128), (1536, 1152), (4000, 37), (129, 127)]
        {
            let frame = Frame::new(width, height, 128, 32);
            let context = format!("{width}x{height}: {}x{}", frame.width, frame.height);
            assert!(frame.width.is_multiple_of(32) && frame.height.is_multiple_of(32), "{context}");
            assert!(frame.width.max(frame.height) <= 512, "{context}");
            assert!(frame.left <= 1e-9 && frame.top <= 1e-9, "{context}");
            let right = frame.left + frame.width as f64 / frame.scale;
            assert!(right >= width as f64 - 1e-9, "{context}: to {right}");
        }
        let kept = Frame::new(1536, 1152, 128, 32);
        assert_eq!((kept.width, kept.height), (192, 128));
    }

    #[test]
    fn the_largest_picture_seen_is_that_of_the_largest_look() {
        // 128 a quarter up, and 1.25 * 128 / 1152 of 1536, in whole steps.
        assert_eq!(largest_seen(1536, 1152, 128, 32), (224, 160));
        assert_eq!(largest_seen(1152, 1536, 128, 32), (160, 224));
        for (width, height) in [(1, 1), (64, 64), (4000, 37), (129, 127)] {
            let (w, h) = largest_seen(width, height, 128, 32);
            assert!(frames(width, height, 128, 32).all(|(frame, _)| frame.width * frame.height <= w * h));
        }
    }

    /// Halved over and over, down to a few pixels, and back: an edge stays where it is, also where sizes are odd.
    #[test]
    fn an_edge_is_carried_up_to_the_pixels_that_its_half_was_made_of() {
        for (width, height) in [(2001, 9), (9, 2001), (1023, 5), (2000, 8), (7, 7)] {
            let edge = |size: usize| size * 9 / 10;
            let half = |of: usize, at: usize| usize::from(at >= edge(of / 2));
            let indices = (0..height / 2)
                .flat_map(|y| (0..width / 2).map(move |x| (half(width, x) + 2 * half(height, y)) as u8));
            let small = LabelMap::new(width / 2, height / 2, indices.collect()).unwrap();
            let large = doubled(&small, width, height);
            for y in 0..height {
                for x in 0..width {
                    let class =
                        usize::from(x >= 2 * edge(width / 2)) + 2 * usize::from(y >= 2 * edge(height / 2));
                    assert_eq!(usize::from(large.get(x, y)), class, "{x}, {y} of {width} x {height}");
                }
            }
        }
    }

    /// A disc of one colour on another, and a map of it whose edge is `off` pixels too far out.
    fn disc(side: usize, radius: f64, off: f64) -> (Picture, LabelMap, LabelMap) {
        let inside = |i: usize, radius: f64| {
            let (x, y) = ((i % side) as f64 - side as f64 / 2.0, (i / side) as f64 - side as f64 / 2.0);
            x.hypot(y) < radius
        };
        let rgb = (0..side * side).flat_map(|i| if inside(i, radius) { [200, 40, 40] } else { [60, 70, 90] });
        let map = |radius: f64| {
            let labels = (0..side * side).map(|i| u8::from(inside(i, radius)));
            LabelMap::new(side, side, labels.collect()).unwrap()
        };
        (Picture::new(side, side, 3, Samples::U8(rgb.collect())).unwrap(), map(radius), map(radius + off))
    }

    #[test]
    fn a_vote_moves_an_edge_to_where_the_colours_change() {
        let (picture, truth, near) = disc(80, 25.0, 1.5);
        let view = picture.view();
        let wrong = |map: &LabelMap| {
            truth.indices().iter().zip(map.indices()).filter(|(truth, given)| truth != given).count()
        };
        let voted = vote(&near, 2, &|y, row| view.rgb_row(y, row));
        let again = vote(&voted, 2, &|y, row| view.rgb_row(y, row));
        assert!(wrong(&near) > 200, "{}", wrong(&near));
        // Of 240 pixels: the few left have more pixels of the wrong class near them than of the right one.
        assert!(wrong(&again) * 10 < wrong(&near), "{}, then {}", wrong(&voted), wrong(&again));
    }

    #[test]
    fn a_vote_leaves_a_right_map_and_plain_areas_alone() {
        let (picture, truth, _) = disc(80, 25.0, 0.0);
        let view = picture.view();
        assert_eq!(vote(&truth, 2, &|y, row| view.rgb_row(y, row)), truth);
        let flat = LabelMap::new(80, 80, vec![3; 6400]).unwrap();
        assert_eq!(vote(&flat, 4, &|_, _| panic!("a plain map needs no pixels")), flat);
    }
}
