//! Training pictures: read once, kept in memory, varied at each step.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use candle_core::{DType, Device, Tensor};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::{Class, classes_from_json};
use crate::{Error, Result};

/// Pictures for training are kept this much larger than the network's, so that cutting out a window does not blur.
const MARGIN: f64 = 1.25;

/// A square picture with its label map: `rgb` is `side * side * 3`, `labels` `side * side`.
#[derive(Clone)]
pub(crate) struct Example {
    pub side: usize,
    pub rgb: Vec<u8>,
    pub labels: Vec<u8>,
}

/// What the network is to do: give the shape of `target` in the style of `style`. Indices into the examples; equal ones
/// make a reconstruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Task {
    pub style: usize,
    pub target: usize,
}

/// How samples are drawn and varied.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Variation {
    /// Share of samples that are pairs, where there are any; 0 to 1.
    pub pair_share: f64,
    /// Share of samples whose red, green and blue trade places, the same way in style and target; 0 to 1. It teaches that a
    /// class's colour is the style's to say, at the price of knowing that leaves tend to be green.
    #[serde(default)]
    pub channel_shuffle: f64,
    /// Share of samples whose channels are each bent by a power, the same way in style and target: looks that nobody has drawn;
    /// 0 to 1.
    #[serde(default)]
    pub tone_curves: f64,
}

/// One training batch. Pictures are `(b, side, side, 3)` in [-1, 1], labels one-hot `(b, side, side, n)`.
pub struct Batch {
    pub style_rgb: Tensor,
    pub style_labels: Tensor,
    pub target_rgb: Tensor,
    pub target_labels: Tensor,
}

/// One training batch of a labeler: pictures and labels as in [`Batch`].
pub struct LabelerBatch {
    pub rgb: Tensor,
    pub onehot: Tensor,
}

/// As drawn, on the CPU: labels are still indices `(b, side, side, 1)`, a fortieth of what goes to the device.
pub struct Drawn<B> {
    batch: B,
    classes: usize,
}

impl Drawn<Batch> {
    pub fn to_device(&self, device: &Device) -> Result<Batch> {
        let Batch { style_rgb, style_labels, target_rgb, target_labels } = &self.batch;
        Ok(Batch {
            style_rgb: style_rgb.to_device(device)?,
            style_labels: one_hot(style_labels, self.classes, device)?,
            target_rgb: target_rgb.to_device(device)?,
            target_labels: one_hot(target_labels, self.classes, device)?,
        })
    }
}

impl Drawn<LabelerBatch> {
    pub fn to_device(&self, device: &Device) -> Result<LabelerBatch> {
        let LabelerBatch { rgb, onehot } = &self.batch;
        Ok(LabelerBatch { rgb: rgb.to_device(device)?, onehot: one_hot(onehot, self.classes, device)? })
    }
}

fn one_hot(labels: &Tensor, classes: usize, device: &Device) -> Result<Tensor> {
    let each = Tensor::from_iter(0..classes as u8, device)?;
    Ok(labels.to_device(device)?.broadcast_eq(&each)?.to_dtype(DType::F32)?)
}

/// Batches one step ahead: the next is drawn while the device works on this one. On the CPU they are drawn when they are wanted,
/// as all threads are at work already.
pub(super) struct Ahead<B> {
    next: Option<(usize, JoinHandle<Result<Drawn<B>>>)>,
    draws: bool,
}

impl<B: Send + 'static> Ahead<B> {
    pub fn new(device: &Device) -> Self {
        Self { next: None, draws: !device.is_cpu() }
    }

    /// The batch that `make` gives for `step`.
    pub fn take(
        &mut self,
        step: usize,
        make: impl Fn(usize) -> Result<Drawn<B>> + Clone + Send + 'static,
    ) -> Result<Drawn<B>> {
        let batch = match self.next.take() {
            Some((of, drawn)) if of == step => {
                drawn.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
            _ => make(step),
        }?;
        if self.draws {
            let make = make.clone();
            self.next = Some((step + 1, std::thread::spawn(move || make(step + 1))));
        }
        Ok(batch)
    }
}

/// All training data, and the pictures held out from it.
pub struct Dataset {
    classes: Vec<Class>,
    side: usize,
    examples: Vec<Example>,
    own: Vec<Task>,
    pairs: Vec<Task>,
    held_examples: Vec<Example>,
    held_own: Vec<Task>,
    held_pairs: Vec<Task>,
    hash: String,
}

impl Dataset {
    /// Reads `data/images/*.{jpg,png}` with `data/labels/*.png` of the same name, and `classes.json` in `data` or its
    /// parent. Pictures that are not square are cut to their middle square. `side` is the network's resolution.
    ///
    /// `pairs` has the same form; its files are called `LAYOUT_LOOK`, and show the layout of `data`'s `LAYOUT_LAYOUT` in
    /// the look of `data`'s `LOOK_LOOK`.
    ///
    /// The last `hold_out` pictures of `data` by name are kept from training, and so is every pair with one of them on
    /// either side.
    ///
    /// # Errors
    /// A file that cannot be read or is damaged, a picture without labels, labels of another size or with a class
    /// that `classes.json` lacks, a pair without its style picture, or nothing left to train on: each names the file.
    pub fn read(data: &Path, pairs: Option<&Path>, hold_out: usize, side: usize) -> Result<Self> {
        let beside = data.join("classes.json");
        let above = data.parent().map(|parent| parent.join("classes.json"));
        let classes = classes_from_json(above.as_deref().filter(|_| !beside.exists()).unwrap_or(&beside))?;

        let own_files = picture_files(data)?;
        if own_files.len() <= hold_out {
            return Err(Error::invalid(format!(
                "{}: {} pictures in images/, of which {hold_out} are to be held out: none is left to train on",
                data.display(),
                own_files.len()
            )));
        }
        let held: BTreeSet<&str> = own_files.keys().rev().take(hold_out).map(String::as_str).collect();
        let canvas = (side as f64 * MARGIN).round() as usize;

        // The files of both sides, in the order of the examples, and the tasks on them.
        let (mut files, mut held_files) = (Vec::new(), Vec::new());
        let (mut own, mut held_own) = (Vec::new(), Vec::new());
        let mut index = BTreeMap::new();
        for (name, path) in &own_files {
            let (files, tasks) = if held.contains(name.as_str()) {
                (&mut held_files, &mut held_own)
            } else {
                (&mut files, &mut own)
            };
            tasks.push(Task { style: files.len(), target: files.len() });
            index.insert(name.as_str(), files.len());
            files.push((data, name.clone(), path.clone()));
        }
        let (mut pair_tasks, mut held_pairs) = (Vec::new(), Vec::new());
        if let Some(dir) = pairs {
            for (name, path) in picture_files(dir)? {
                let (layout, look) = name.split_once('_').ok_or_else(|| {
                    Error::format(&path, "the name of a pair is LAYOUT_LOOK, and this one has no underscore")
                })?;
                let (layout, look) = (format!("{layout}_{layout}"), format!("{look}_{look}"));
                let style = *index.get(look.as_str()).ok_or_else(|| {
                    Error::format(
                        &path,
                        format!("{} has no picture {look} to take the style from", data.display()),
                    )
                })?;
                let (layout_held, look_held) = (held.contains(layout.as_str()), held.contains(look.as_str()));
                let (files, tasks) = if layout_held || look_held {
                    (&mut held_files, &mut held_pairs)
                } else {
                    (&mut files, &mut pair_tasks)
                };
                let mut style = style;
                if layout_held && !look_held {
                    // `style` counts among the training pictures: the held-out ones need a copy.
                    style = files.len();
                    files.push((data, look.clone(), own_files[&look].clone()));
                }
                tasks.push(Task { style, target: files.len() });
                files.push((dir, name, path));
            }
        }
        let load = |files: &[(&Path, String, PathBuf)], canvas: usize| -> Result<Vec<Example>> {
            files
                .par_iter()
                .map(|(dir, name, path)| {
                    Example::read(
                        path,
                        &dir.join("labels").join(format!("{name}.png")),
                        classes.len(),
                        canvas,
                    )
                })
                .collect()
        };
        let examples = load(&files, canvas)?;
        let held_examples = load(&held_files, side)?;
        let mut hash = Sha256::new();
        for (example, (_, name, _)) in examples.iter().zip(&files) {
            hash.update(name.as_bytes());
            hash.update(&example.rgb);
            hash.update(&example.labels);
        }
        let hash = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self {
            classes,
            side,
            examples,
            own,
            pairs: pair_tasks,
            held_examples,
            held_own,
            held_pairs,
            hash,
        })
    }

    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// How many pictures and how many pairs are trained on.
    pub fn len(&self) -> (usize, usize) {
        (self.own.len(), self.pairs.len())
    }

    /// SHA-256 of everything trained on, in hexadecimal.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// How many pictures and how many pairs are held out.
    pub fn held_len(&self) -> (usize, usize) {
        (self.held_own.len(), self.held_pairs.len())
    }

    /// The batch of one step: a function of `seed` and `step` alone. How samples are drawn
    /// and varied is `variation`'s to say.
    pub fn batch(&self, seed: u64, step: usize, size: usize, variation: &Variation) -> Result<Drawn<Batch>> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(step as u64 + 1);
        let plans: Vec<Plan> = (0..size).map(|_| self.plan(&mut rng, variation)).collect();
        let cut: Vec<_> = plans
            .par_iter()
            .map(|plan| {
                let cut = |example: usize, window: &Window| {
                    let (mut rgb, labels) = self.examples[example].cut(window, self.side);
                    plan.colour.apply(&mut rgb);
                    (rgb, labels)
                };
                (cut(plan.task.style, &plan.style), cut(plan.task.target, &plan.target))
            })
            .collect();
        let (style, target): (Vec<_>, Vec<_>) = cut.into_iter().unzip();
        self.drawn(style, target)
    }

    fn drawn(&self, style: Vec<Planes>, target: Vec<Planes>) -> Result<Drawn<Batch>> {
        let (style_rgb, style_labels) = tensors_of(style, self.side)?;
        let (target_rgb, target_labels) = tensors_of(target, self.side)?;
        let batch = Batch { style_rgb, style_labels, target_rgb, target_labels };
        Ok(Drawn { batch, classes: self.classes.len() })
    }

    /// The labeler's batch of one step: pictures `(b, side, side, 3)` in [-1, 1] and labels one-hot, drawn from pictures and
    /// pairs alike and varied more than the generator's: a labeler is to know a thing in any light.
    pub fn labeler_batch(
        &self,
        seed: u64,
        step: usize,
        size: usize,
        side: usize,
        variation: &Variation,
    ) -> Result<Drawn<LabelerBatch>> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(step as u64 + 1);
        let plans: Vec<_> = (0..size)
            .map(|_| {
                let paired = !self.pairs.is_empty() && rng.random_bool(variation.pair_share);
                let tasks = if paired { &self.pairs } else { &self.own };
                let task = tasks[rng.random_range(0..tasks.len())];
                (task.target, Window::wide(&mut rng), Light::random(&mut rng, variation.channel_shuffle))
            })
            .collect();
        let cut = plans
            .par_iter()
            .map(|(example, window, light)| {
                let (mut rgb, labels) = self.examples[*example].cut(window, side);
                light.apply(&mut rgb);
                (rgb, labels)
            })
            .collect();
        let (rgb, onehot) = tensors_of(cut, side)?;
        Ok(Drawn { batch: LabelerBatch { rgb, onehot }, classes: self.classes.len() })
    }

    fn plan(&self, rng: &mut ChaCha8Rng, variation: &Variation) -> Plan {
        let paired = !self.pairs.is_empty() && rng.random_bool(variation.pair_share);
        let tasks = if paired { &self.pairs } else { &self.own };
        let task = tasks[rng.random_range(0..tasks.len())];
        let target = Window::random(rng);
        // Mirrored as the target is: from which side the light comes is part of a look.
        let style = Window { flip: target.flip, ..Window::random(rng) };
        // A style must not say where things are: it is often taken from elsewhere than the target.
        let apart = rng.random_bool(0.5);
        Plan {
            task,
            style: if paired || apart { style } else { target },
            target,
            colour: Colour::random(rng, variation),
        }
    }

    /// Held-out reconstructions (`pairs` false) or pairs, `range` of them, unvaried.
    pub fn held(&self, pairs: bool, range: std::ops::Range<usize>, device: &Device) -> Result<Batch> {
        let tasks = if pairs { &self.held_pairs } else { &self.held_own };
        let whole = |example: usize| {
            let example = &self.held_examples[example];
            (example.rgb.iter().map(|&v| f32::from(v) / 127.5 - 1.0).collect(), example.labels.clone())
        };
        let (style, target) = tasks[range]
            .iter()
            .map(|task| (whole(task.style), whole(task.target)))
            .unzip::<_, _, Vec<_>, Vec<_>>();
        self.drawn(style, target)?.to_device(device)
    }

    /// The label map of a held-out task's target, `side * side`.
    pub(crate) fn held_labels(&self, pairs: bool, i: usize) -> &[u8] {
        let task = if pairs { self.held_pairs[i] } else { self.held_own[i] };
        &self.held_examples[task.target].labels
    }
}

/// A picture's samples and its labels.
type Planes = (Vec<f32>, Vec<u8>);

/// Pictures `(b, side, side, 3)` and their labels `(b, side, side, 1)`.
fn tensors_of(planes: Vec<Planes>, side: usize) -> Result<(Tensor, Tensor)> {
    let size = planes.len();
    let (rgb, labels): (Vec<_>, Vec<_>) = planes.into_iter().unzip();
    Ok((
        Tensor::from_vec(rgb.concat(), (size, side, side, 3), &Device::Cpu)?,
        Tensor::from_vec(labels.concat(), (size, side, side, 1), &Device::Cpu)?,
    ))
}

/// The pictures in `dir/images`, by name without extension.
fn picture_files(dir: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let images = dir.join("images");
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(&images).map_err(|e| Error::io(&images, e))? {
        let path = entry.map_err(|e| Error::io(&images, e))?.path();
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        if !matches!(extension.as_str(), "jpg" | "jpeg" | "png") {
            continue;
        }
        let name = path
            .file_stem()
            .and_then(|s| s.to_str())
            .ok_or_else(|| Error::format(&path, "the name is not Unicode; rename the file"))?;
        if let Some(other) = files.insert(name.to_owned(), path.clone()) {
            return Err(Error::format(
                &path,
                format!("{} has the same name; keep one of them", other.display()),
            ));
        }
    }
    if files.is_empty() {
        return Err(Error::format(&images, "no .jpg or .png files in this folder"));
    }
    Ok(files)
}

impl Example {
    fn read(picture: &Path, labels: &Path, classes: usize, side: usize) -> Result<Self> {
        let rgb = image::open(picture).map_err(|e| Error::format(picture, e.to_string()))?.to_rgb8();
        let map = match image::open(labels).map_err(|e| Error::format(labels, e.to_string()))? {
            image::DynamicImage::ImageLuma8(map) => map,
            _ => return Err(Error::format(labels, "not an 8-bit gray PNG, whose values are class indices")),
        };
        if let Some(label) = map.iter().find(|&&label| usize::from(label) >= classes) {
            return Err(Error::format(
                labels,
                format!("class {label}, but classes.json has {classes} classes"),
            ));
        }
        let (width, height) = (rgb.width() as usize, rgb.height() as usize);
        if map.dimensions() != rgb.dimensions() {
            return Err(Error::format(
                labels,
                format!(
                    "{}x{} labels for a picture of {width}x{height}: make them the same size",
                    map.width(),
                    map.height()
                ),
            ));
        }
        let square = width.min(height);
        let (left, top) = ((width - square) / 2, (height - square) / 2);
        let mut pixels = Vec::with_capacity(square * square * 3);
        let mut indices = Vec::with_capacity(square * square);
        for y in top..top + square {
            let start = y * width + left;
            pixels.extend(rgb.as_raw()[start * 3..(start + square) * 3].iter().map(|&v| f32::from(v)));
            indices.extend_from_slice(&map.as_raw()[start..start + square]);
        }
        let whole = Window::WHOLE;
        let pixels = resample(&pixels, square, &whole, side);
        Ok(Self {
            side,
            rgb: pixels.iter().map(|v| v.round().clamp(0.0, 255.0) as u8).collect(),
            labels: nearest(&indices, square, &whole, side),
        })
    }

    /// The window as the network takes it: RGB in [0, 1], and labels.
    fn cut(&self, window: &Window, side: usize) -> (Vec<f32>, Vec<u8>) {
        let source: Vec<f32> = self.rgb.iter().map(|&v| f32::from(v) / 255.0).collect();
        (resample(&source, self.side, window, side), nearest(&self.labels, self.side, window, side))
    }
}

struct Plan {
    task: Task,
    style: Window,
    target: Window,
    colour: Colour,
}

/// A square window of a picture, in fractions of its side; `left + size` and `top + size` are at most 1.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Window {
    left: f64,
    top: f64,
    size: f64,
    flip: bool,
}

impl Window {
    const WHOLE: Self = Self { left: 0.0, top: 0.0, size: 1.0, flip: false };

    /// Mirrored half of the time; a third of the time the whole picture, else 78 to 100 % of its side anywhere in it.
    fn random(rng: &mut ChaCha8Rng) -> Self {
        let flip = rng.random_bool(0.5);
        let whole = rng.random_bool(1.0 / 3.0);
        let size = rng.random_range(0.78..1.0);
        let (left, top) = (rng.random_range(0.0..1.0 - size), rng.random_range(0.0..1.0 - size));
        if whole { Self { flip, ..Self::WHOLE } } else { Self { left, top, size, flip } }
    }

    /// As [`random`](Self::random), down to three fifths of the side.
    fn wide(rng: &mut ChaCha8Rng) -> Self {
        let flip = rng.random_bool(0.5);
        let whole = rng.random_bool(0.4);
        let size = rng.random_range(0.6..1.0);
        let (left, top) = (rng.random_range(0.0..1.0 - size), rng.random_range(0.0..1.0 - size));
        if whole { Self { flip, ..Self::WHOLE } } else { Self { left, top, size, flip } }
    }

    /// Where along one axis of a picture with `source` pixels the centre of pixel `i` of `side` lies, in source pixels.
    fn centre(start: f64, size: f64, i: usize, source: usize, side: usize) -> f64 {
        (start + size * (i as f64 + 0.5) / side as f64) * source as f64
    }
}

/// A window of an RGB picture at `side`, antialiased: a triangle filter as wide as an output pixel on either side, edges clamped.
fn resample(rgb: &[f32], source: usize, window: &Window, side: usize) -> Vec<f32> {
    let radius = (window.size * source as f64 / side as f64).max(1.0);
    let taps = |start: f64| -> Vec<(usize, Vec<f32>)> {
        (0..side)
            .map(|i| {
                let centre = Window::centre(start, window.size, i, source, side);
                let first = (centre - radius - 0.5).ceil().max(0.0) as usize;
                let last = ((centre + radius - 0.5).floor() as usize).min(source - 1);
                let weights: Vec<f64> = (first..=last)
                    .map(|j| (1.0 - (j as f64 + 0.5 - centre).abs() / radius).max(0.0))
                    .collect();
                let sum: f64 = weights.iter().sum();
                (first, weights.iter().map(|w| (w / sum) as f32).collect())
            })
            .collect()
    };
    let (mut columns, rows) = (taps(window.left), taps(window.top));
    if window.flip {
        columns.reverse();
    }
    let mut out = vec![0.0; side * side * 3];
    let mut line = vec![0.0; source * 3];
    for (out, (first, weights)) in out.chunks_exact_mut(side * 3).zip(&rows) {
        line.fill(0.0);
        for (j, w) in weights.iter().enumerate() {
            let row = &rgb[(first + j) * source * 3..][..source * 3];
            line.iter_mut().zip(row).for_each(|(sum, v)| *sum += w * v);
        }
        for (pixel, (first, weights)) in out.chunks_exact_mut(3).zip(&columns) {
            for (j, w) in weights.iter().enumerate() {
                for c in 0..3 {
                    pixel[c] += w * line[(first + j) * 3 + c];
                }
            }
        }
    }
    out
}

/// A window of a label map at `side`: the label at each output pixel's centre.
fn nearest(labels: &[u8], source: usize, window: &Window, side: usize) -> Vec<u8> {
    let at =
        |start: f64, i: usize| (Window::centre(start, window.size, i, source, side) as usize).min(source - 1);
    let columns: Vec<usize> =
        (0..side).map(|x| at(window.left, if window.flip { side - 1 - x } else { x })).collect();
    (0..side)
        .flat_map(|y| {
            let row = at(window.top, y) * source;
            columns.iter().map(move |x| labels[row + x])
        })
        .collect()
}

/// A gentle change of contrast, brightness and white balance, perhaps after the channels have traded places or been bent; the
/// same on style and target.
#[derive(Clone, Copy, Debug)]
struct Colour {
    /// Which channel each is taken from.
    order: [usize; 3],
    /// The power of each.
    gamma: [f32; 3],
    gain: [f32; 3],
    offset: f32,
}

impl Colour {
    fn random(rng: &mut ChaCha8Rng, variation: &Variation) -> Self {
        let mut order = [0, 1, 2];
        if rng.random_bool(variation.channel_shuffle) {
            order.shuffle(rng);
        }
        let mut gamma = [1.0; 3];
        if rng.random_bool(variation.tone_curves) {
            let exposure = rng.random_range(-0.7..0.7);
            gamma = gamma.map(|_| f32::exp2(exposure + rng.random_range(-0.4..0.4)));
        }
        let contrast = rng.random_range(0.9..1.1);
        let gain = [0; 3].map(|_| contrast * rng.random_range(0.94..1.06));
        Self { order, gamma, gain, offset: rng.random_range(-0.05..0.05) }
    }

    /// From [0, 1] to the network's [-1, 1].
    fn apply(&self, rgb: &mut [f32]) {
        for pixel in rgb.chunks_exact_mut(3) {
            let from = self.order.map(|channel| pixel[channel]);
            for (((v, mut from), gamma), gain) in pixel.iter_mut().zip(from).zip(self.gamma).zip(self.gain) {
                if gamma != 1.0 {
                    from = from.max(0.0).powf(gamma);
                }
                *v = ((from - 0.5) * gain + 0.5 + self.offset).clamp(0.0, 1.0) * 2.0 - 1.0;
            }
        }
    }
}

/// Another exposure: a gain and a gamma a channel, less colour or more, perhaps after the channels have traded places.
#[derive(Clone, Copy, Debug)]
struct Light {
    order: [usize; 3],
    gain: [f32; 3],
    gamma: f32,
    saturation: f32,
    offset: f32,
}

impl Light {
    fn random(rng: &mut ChaCha8Rng, shuffle: f64) -> Self {
        let mut order = [0, 1, 2];
        if rng.random_bool(shuffle) {
            order.shuffle(rng);
        }
        let exposure = rng.random_range(0.6..1.35);
        Self {
            order,
            gain: [0; 3].map(|_| exposure * rng.random_range(0.85..1.15)),
            gamma: rng.random_range(0.7..1.4),
            saturation: if rng.random_bool(0.1) { 0.0 } else { rng.random_range(0.6..1.4) },
            offset: rng.random_range(-0.08..0.08),
        }
    }

    /// From [0, 1] to the network's [-1, 1].
    fn apply(&self, rgb: &mut [f32]) {
        for pixel in rgb.chunks_exact_mut(3) {
            let from = self.order.map(|channel| pixel[channel].max(0.0).powf(self.gamma));
            let gray = (from[0] + from[1] + from[2]) / 3.0;
            for ((v, from), gain) in pixel.iter_mut().zip(from).zip(self.gain) {
                let from = gray + (from - gray) * self.saturation;
                *v = (from * gain + self.offset).clamp(0.0, 1.0) * 2.0 - 1.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quarters of different classes, each in its own colour; both are functions of the place alone.
    fn quarters(side: usize) -> Example {
        let class = |x: usize, y: usize| (usize::from(2 * x >= side) + 2 * usize::from(3 * y >= side)) as u8;
        let places = || (0..side * side).map(|i| (i % side, i / side));
        Example {
            side,
            rgb: places().flat_map(|(x, y)| [class(x, y) * 80, 255 - class(x, y) * 60, 7]).collect(),
            labels: places().map(|(x, y)| class(x, y)).collect(),
        }
    }

    #[test]
    fn labels_follow_the_picture_through_every_window() {
        let (example, side) = (quarters(40), 32);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..50 {
            let window = Window::random(&mut rng);
            assert!(window.left >= 0.0 && window.left + window.size <= 1.0 + 1e-12, "{window:?}");
            assert!(window.top >= 0.0 && window.top + window.size <= 1.0 + 1e-12, "{window:?}");
            let (rgb, labels) = example.cut(&window, side);
            let mut inner = 0;
            for y in 1..side - 1 {
                for x in 1..side - 1 {
                    let label = labels[y * side + x];
                    // Where the label changes, the picture is blended.
                    let flat =
                        (y - 1..=y + 1).all(|y| (x - 1..=x + 1).all(|x| labels[y * side + x] == label));
                    if flat {
                        inner += 1;
                        let red = rgb[(y * side + x) * 3] * 255.0;
                        assert!((red - f32::from(label) * 80.0).abs() < 0.01, "{window:?} at {x}, {y}");
                    }
                }
            }
            assert!(inner > side * side / 2, "{window:?}");
        }
    }

    #[test]
    fn a_flipped_window_is_the_mirror_image() {
        let example = quarters(40);
        let window = Window { left: 0.1, top: 0.05, size: 0.8, flip: false };
        let (rgb, labels) = example.cut(&window, 32);
        let (flipped, flipped_labels) = example.cut(&Window { flip: true, ..window }, 32);
        for y in 0..32 {
            for x in 0..32 {
                let (a, b) = (y * 32 + x, y * 32 + 31 - x);
                assert_eq!(labels[a], flipped_labels[b]);
                assert_eq!(rgb[a * 3..a * 3 + 3], flipped[b * 3..b * 3 + 3]);
            }
        }
        assert_ne!(labels, flipped_labels);
    }

    #[test]
    fn resampling_keeps_a_gradient_and_a_mean() {
        let ramp: Vec<f32> = (0..64 * 64 * 3).map(|i| (i / 3 % 64) as f32).collect();
        let half = resample(&ramp, 64, &Window::WHOLE, 32);
        for x in 2..30 {
            assert!((half[x * 3] - (2 * x) as f32 - 0.5).abs() < 1e-3, "{x}: {}", half[x * 3]);
        }
        let same = resample(&ramp, 64, &Window::WHOLE, 64);
        assert!(same.iter().zip(&ramp).all(|(a, b)| (a - b).abs() < 1e-4));
    }

    const VARIATION: Variation = Variation { pair_share: 0.5, channel_shuffle: 0.5, tone_curves: 0.5 };

    const PLAIN: Variation = Variation { pair_share: 0.0, channel_shuffle: 0.0, tone_curves: 0.0 };

    #[test]
    fn shuffled_channels_are_the_same_channels() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut orders = BTreeSet::new();
        for _ in 0..100 {
            let shuffled = Variation { channel_shuffle: 1.0, ..PLAIN };
            let colour = Colour { gain: [1.0; 3], offset: 0.0, ..Colour::random(&mut rng, &shuffled) };
            let mut rgb = [0.0, 0.25, 1.0];
            colour.apply(&mut rgb);
            orders.insert(rgb.map(|v| (v * 4.0) as i32));
        }
        assert_eq!(orders.len(), 6, "{orders:?}");
        assert!(orders.iter().all(|order| BTreeSet::from(*order) == BTreeSet::from([-4, -2, 4])));
        assert_eq!(Colour::random(&mut rng, &PLAIN).order, [0, 1, 2]);
    }

    #[test]
    fn bent_channels_keep_black_white_and_the_order_of_grays() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(Colour::random(&mut rng, &PLAIN).gamma, [1.0; 3]);
        let (mut darkest, mut lightest) = (1.0f32, -1.0f32);
        for _ in 0..100 {
            let bent = Variation { tone_curves: 1.0, ..PLAIN };
            let colour = Colour { gain: [1.0; 3], offset: 0.0, ..Colour::random(&mut rng, &bent) };
            let mut rgb: Vec<f32> = (0..5).flat_map(|i| [i as f32 / 4.0; 3]).collect();
            colour.apply(&mut rgb);
            for channel in 0..3 {
                let grays: Vec<f32> = rgb.iter().skip(channel).step_by(3).copied().collect();
                assert_eq!((grays[0], grays[4]), (-1.0, 1.0));
                assert!(grays.is_sorted(), "{grays:?}");
                (darkest, lightest) = (darkest.min(grays[2]), lightest.max(grays[2]));
            }
        }
        assert!(darkest < -0.5 && lightest > 0.4, "middle gray from {darkest} to {lightest}");
    }

    fn dataset() -> Dataset {
        let own = vec![Task { style: 0, target: 0 }, Task { style: 1, target: 1 }];
        let class = |index| Class { index, name: format!("{index}"), color: [0; 3], groups: vec![] };
        let mut dark = quarters(20);
        dark.rgb.iter_mut().for_each(|v| *v /= 2);
        Dataset {
            classes: (0..4).map(class).collect(),
            side: 16,
            examples: vec![quarters(20), dark, quarters(20)],
            own,
            pairs: vec![Task { style: 1, target: 2 }],
            held_examples: vec![],
            held_own: vec![],
            held_pairs: vec![],
            hash: String::new(),
        }
    }

    #[test]
    fn a_batch_is_a_function_of_seed_and_step() {
        let data = dataset();
        let batch = |seed, step| {
            let batch = data.batch(seed, step, 4, &VARIATION).unwrap().to_device(&Device::Cpu).unwrap();
            [batch.style_rgb, batch.style_labels, batch.target_rgb, batch.target_labels]
                .map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap())
        };
        assert_eq!(batch(3, 7), batch(3, 7));
        assert_ne!(batch(3, 7), batch(3, 8));
        assert_ne!(batch(3, 7), batch(4, 7));
    }

    #[test]
    fn a_pairs_style_has_a_window_of_its_own_and_the_targets_colours_and_hand() {
        let data = dataset();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let plans: Vec<_> = (0..200).map(|_| data.plan(&mut rng, &VARIATION)).collect();
        let paired: Vec<_> = plans.iter().filter(|plan| plan.task == data.pairs[0]).collect();
        assert!((60..140).contains(&paired.len()), "{}", paired.len());
        assert!(plans.iter().all(|plan| plan.style.flip == plan.target.flip));
        // Both may be the whole picture.
        let shared = paired.iter().filter(|plan| plan.style == plan.target).count();
        assert!(shared < paired.len() / 5, "{shared}");
        let own: Vec<_> = plans.iter().filter(|plan| plan.task != data.pairs[0]).collect();
        let shared = own.iter().filter(|plan| plan.style == plan.target).count();
        assert!((own.len() / 4..own.len() * 3 / 4).contains(&shared), "{shared}");
    }
}
