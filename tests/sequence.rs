//! One look over the frames of a clip: a moving picture in changing light, whose change must follow the light, and not
//! flicker. Freezing does not win: what it gains in steadiness it loses in truth.

use ca2sis::image::{Channels, LabelMap, Layout, Picture, SampleType, View, ViewMut};
use ca2sis::model::Model;
use ca2sis::nn::Network;
use ca2sis::progress::Progress;
use ca2sis::restyle::{ColorChange, Job, Method, Options, Statistics, restyle, restyle_by};
use ca2sis::style::Style;
use candle_core::Device;

const WIDTH: usize = 384;
const HEIGHT: usize = 288;
const FRAMES: usize = 16;
const RADIUS: usize = 4;
/// Pixels of the picture that the camera moves by in a frame.
const STEP: usize = 4;

struct Clip {
    frames: Vec<Vec<f32>>,
    labels: Vec<LabelMap>,
}

/// A camera that moves over the sample, with grain, in light that comes up and turns warm.
fn clip(classes: &[ca2sis::model::Class]) -> Clip {
    let sample = Picture::read("models/sample/content.png").unwrap().to_rgb_f32();
    let map = LabelMap::read("models/sample/labels.png", classes).unwrap();
    let mut seed = 1u32;
    // A sum of uniform values: grain with a standard deviation of some 2 % of white, as of a small camera indoors.
    let mut grain = || {
        let mut sum = 0.0;
        for _ in 0..4 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            sum += (seed >> 8) as f32 / (1 << 24) as f32 - 0.5;
        }
        sum * 0.035
    };
    let mut clip = Clip { frames: Vec::new(), labels: Vec::new() };
    for t in 0..FRAMES {
        let (left, top) = (40 + t * STEP, 60 + t);
        let light = 0.65 + 0.35 * t as f32 / (FRAMES - 1) as f32;
        let warm = [1.0, 0.97, 0.9 + 0.1 * (1.0 - t as f32 / FRAMES as f32)];
        let (mut pixels, mut indices) = (Vec::new(), Vec::new());
        for y in 0..HEIGHT {
            for x in 0..WIDTH {
                let (sx, sy) = (left + x, top + y);
                let at = (sy * sample.width + sx) * 3;
                pixels.extend((0..3).map(|c| sample.pixels[at + c] * light * warm[c] + grain()));
                indices.push(map.get(sx, sy));
            }
        }
        clip.frames.push(pixels);
        clip.labels.push(LabelMap::new(WIDTH, HEIGHT, indices).unwrap());
    }
    clip
}

fn bytes(pixels: &[f32]) -> Vec<u8> {
    pixels.iter().flat_map(|v| v.to_ne_bytes()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_ne_bytes(b.try_into().unwrap())).collect()
}

fn layout() -> Layout {
    Layout::tight(WIDTH, HEIGHT, Channels::Rgb, SampleType::F32)
}

/// Side of the patches of the scene that are looked at, in pixels: an eye sees them pulse, and the grain within averages out.
const PATCH: usize = 24;

/// Root mean square of the second difference over time of what was done to each patch of the scene that all frames show: a
/// steady drift counts nothing, a flicker of amplitude a counts 4 a.
fn flicker(clip: &Clip, results: &[Vec<f32>]) -> f64 {
    let across = (WIDTH - (FRAMES - 1) * STEP) / PATCH;
    let down = (HEIGHT - (FRAMES - 1)) / PATCH;
    let done = |t: usize, column: usize, row: usize, c: usize| {
        // The scene's point at (x, y) of frame t lies STEP to the right and 1 below in the frame before.
        let (left, top) = ((FRAMES - 1 - t) * STEP + column * PATCH, FRAMES - 1 - t + row * PATCH);
        let at = |i: usize| ((top + i / PATCH) * WIDTH + left + i % PATCH) * 3 + c;
        let sum: f64 = (0..PATCH * PATCH).map(|i| f64::from(results[t][at(i)] - clip.frames[t][at(i)])).sum();
        sum / (PATCH * PATCH) as f64
    };
    let (mut sum, mut count) = (0.0, 0);
    for (row, column, c) in
        (0..down).flat_map(|r| (0..across).flat_map(move |x| (0..3).map(move |c| (r, x, c))))
    {
        for t in 1..FRAMES - 1 {
            let [before, now, after] = [t - 1, t, t + 1].map(|t| done(t, column, row, c));
            sum += (before - 2.0 * now + after).powi(2);
            count += 1;
        }
    }
    (sum / f64::from(count)).sqrt()
}

fn difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f64 {
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    let sum: f64 = pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum();
    (sum / (a.len() * a[0].len()) as f64).sqrt()
}

struct Scene {
    clip: Clip,
    network: Network,
    style: Style,
}

fn scene() -> Scene {
    let model = Model::embedded().unwrap();
    let network = model.network(&Device::Cpu).unwrap();
    let reference = Picture::read("models/sample/reference.png").unwrap();
    let labels = LabelMap::read("models/sample/reference_labels.png", model.classes()).unwrap();
    let style = Style::extract(&network, &reference, &labels, Progress::NONE).unwrap();
    Scene { clip: clip(model.classes()), network, style }
}

impl Scene {
    fn with<T>(&self, t: usize, statistics: bool, work: impl FnOnce(&Job) -> T) -> T {
        let method = match statistics {
            true => Method::Statistics(self.style.statistics()),
            false => Method::Network { network: &self.network, style: &self.style },
        };
        let content = bytes(&self.clip.frames[t]);
        work(&Job::new(View::new(&content, layout()).unwrap(), &self.clip.labels[t], method))
    }

    fn frame(&self, t: usize, statistics: bool) -> Vec<f32> {
        let mut out = vec![0; WIDTH * HEIGHT * 12];
        let mut view = ViewMut::new(&mut out, layout()).unwrap();
        self.with(t, statistics, |job| restyle(job, &mut view, Progress::NONE)).unwrap();
        floats(&out)
    }

    fn by(
        &self,
        t: usize,
        changes: &[(f32, &ColorChange)],
        own: Option<&ColorChange>,
        statistics: bool,
    ) -> Vec<f32> {
        let mut out = vec![0; WIDTH * HEIGHT * 12];
        let mut view = ViewMut::new(&mut out, layout()).unwrap();
        self.with(t, statistics, |job| restyle_by(job, changes, own, &mut view, Progress::NONE)).unwrap();
        floats(&out)
    }
}

#[test]
fn a_smoothed_change_follows_the_light_and_does_not_flicker_and_a_frozen_one_does_not_follow() {
    let scene = scene();
    let changes: Vec<ColorChange> = (0..FRAMES)
        .map(|t| scene.with(t, false, |job| ColorChange::of(job, Progress::NONE)).unwrap())
        .collect();
    let each: Vec<Vec<f32>> = (0..FRAMES).map(|t| scene.frame(t, false)).collect();
    let own = scene.by(5, &[(1.0, &changes[5])], Some(&changes[5]), false);
    assert!(own == each[5], "a frame's own change does exactly what restyling it does");

    let smoothed: Vec<Vec<f32>> = (0..FRAMES)
        .map(|t| {
            let around = t.saturating_sub(RADIUS)..(t + RADIUS + 1).min(FRAMES);
            // The frame's own first, as its vertices are taken.
            let mut parts = vec![((RADIUS + 1) as f32, &changes[t])];
            let others = around.filter(|&k| k != t);
            parts.extend(others.map(|k| ((RADIUS + 1 - k.abs_diff(t)) as f32, &changes[k])));
            scene.by(t, &parts, Some(&changes[t]), false)
        })
        .collect();
    let locked: Vec<Vec<f32>> =
        (0..FRAMES).map(|t| scene.by(t, &[(1.0, &changes[0])], None, false)).collect();
    assert!(locked[0] == each[0], "locked to itself");

    // What the change is in all, for scale.
    let change = difference(&each, &scene.clip.frames);
    let (of_each, of_smoothed, of_locked) =
        (flicker(&scene.clip, &each), flicker(&scene.clip, &smoothed), flicker(&scene.clip, &locked));
    let (error, frozen) = (difference(&smoothed, &each), difference(&locked, &each));
    println!("change {change:.4}");
    println!("each frame: flicker {of_each:.5}");
    println!("smoothed:   flicker {of_smoothed:.5}, off the frames' own {error:.5}");
    println!("locked:     flicker {of_locked:.5}, off the frames' own {frozen:.5}");
    assert!(of_smoothed < 0.6 * of_each, "{of_smoothed} of {of_each}");
    assert!(error < 0.1 * change, "{error} of {change}");
    assert!(frozen > 3.0 * error, "freezing must not look as true as smoothing: {frozen}, {error}");
}

#[test]
fn statistics_are_smoothed_exactly() {
    let scene = scene();
    let [a, b] = [3, 9].map(|t| scene.with(t, true, |job| ColorChange::of(job, Progress::NONE)).unwrap());
    let own = scene.by(3, &[(1.0, &a)], Some(&a), true);
    assert!(own == scene.frame(3, true));
    let other = scene.by(3, &[(1.0, &b)], None, true);
    let mean = scene.by(3, &[(1.0, &a), (3.0, &b)], None, true);
    for (i, mean) in mean.iter().enumerate() {
        let wanted = 0.25 * own[i] + 0.75 * other[i];
        // Rounding; at borders the parts are mixed by the same shares.
        assert!((mean - wanted).abs() < 1e-4, "{mean}, not {wanted}");
    }
}

/// A look that fades in: frames before it, at strength 0, hold back those behind as ones at a strength near 0 do.
#[test]
fn a_frame_at_strength_zero_counts_as_no_change() {
    let scene = scene();
    let at = |t: usize, strength: f32| {
        let options = Options { strength, ..Options::default() };
        scene.with(t, true, |job| ColorChange::of(&Job { options, ..*job }, Progress::NONE)).unwrap()
    };
    let (full, still) = (at(3, 1.0), at(3, 0.0));
    let whole = scene.by(3, &[(1.0, &full)], None, true);
    let half = scene.by(3, &[(2.0, &full), (2.0, &still)], None, true);
    for ((half, whole), content) in half.iter().zip(&whole).zip(&scene.clip.frames[3]) {
        let wanted = 0.5 * (whole + content);
        // As above.
        assert!((half - wanted).abs() < 1e-4, "{half}, not {wanted}");
    }
}

/// A class that one of the frames lacks is restyled as the others say, and the report does not call it left.
#[test]
fn a_class_is_reported_as_left_when_no_frame_knows_it() {
    let scene = scene();
    let with_cap = |t: usize, shown: bool| {
        let cap = 3;
        scene.with(t, true, |job| {
            let indices =
                job.labels.indices().iter().map(|&c| if c == cap && !shown { 2 } else { c }).collect();
            let labels = LabelMap::new(WIDTH, HEIGHT, indices).unwrap();
            let only = [(usize::from(cap), 1.0)];
            ColorChange::of(&Job { labels: &labels, classes: &only, ..*job }, Progress::NONE).unwrap()
        })
    };
    let (seen, lacking) = (with_cap(3, true), with_cap(3, false));
    let report = |changes: &[(f32, &ColorChange)]| {
        let mut out = vec![0; WIDTH * HEIGHT * 12];
        let mut view = ViewMut::new(&mut out, layout()).unwrap();
        scene.with(3, true, |job| restyle_by(job, changes, None, &mut view, Progress::NONE)).unwrap()
    };
    let one = report(&[(1.0, &seen), (1.0, &lacking)]);
    assert_eq!((one.missing, one.unseen), (vec![], vec![]));
}

#[test]
fn a_class_that_a_frame_does_not_show_takes_the_others_mean_and_new_shapes_are_the_frames_own() {
    let scene = scene();
    // A frame whose cup is taken for backdrop, where the change is then not known.
    let hidden: Vec<u8> =
        scene.clip.labels[4].indices().iter().map(|&i| if i == 6 { 0 } else { i }).collect();
    let hidden = LabelMap::new(WIDTH, HEIGHT, hidden).unwrap();
    let without = scene
        .with(4, false, |job| ColorChange::of(&Job { labels: &hidden, ..*job }, Progress::NONE))
        .unwrap();
    let with = scene.with(5, false, |job| ColorChange::of(job, Progress::NONE)).unwrap();
    let mean = scene.by(5, &[(1.0, &with), (1.0, &without)], Some(&with), false);
    let alone = scene.by(5, &[(1.0, &with)], Some(&with), false);
    let cup: Vec<usize> = (0..WIDTH * HEIGHT)
        .filter(|&i| {
            let (x, y) = (i % WIDTH, i / WIDTH);
            // Nearer to its edge it may be mixed with what is around.
            let inside = (4..WIDTH - 4).contains(&x) && (4..HEIGHT - 4).contains(&y);
            inside && (0..9).all(|dy| (0..9).all(|dx| scene.clip.labels[5].get(x + dx - 4, y + dy - 4) == 6))
        })
        .collect();
    assert!(cup.len() > 1000);
    for i in cup {
        for c in 0..3 {
            assert!(
                (mean[i * 3 + c] - alone[i * 3 + c]).abs() < 1e-5,
                "the cup keeps the change of the frame that shows it"
            );
        }
    }

    let shifted = LabelMap::new(
        WIDTH,
        HEIGHT,
        (0..WIDTH * HEIGHT)
            .map(|i| scene.clip.labels[5].get((i % WIDTH + 20).min(WIDTH - 1), i / WIDTH))
            .collect(),
    )
    .unwrap();
    let mut out = vec![0; WIDTH * HEIGHT * 12];
    let job_of = |job: &Job| ColorChange::of(&Job { target_labels: Some(&shifted), ..*job }, Progress::NONE);
    let own = scene.with(5, false, job_of).unwrap();
    let mut run = |own: Option<&ColorChange>, changes: &[(f32, &ColorChange)]| {
        let mut view = ViewMut::new(&mut out, layout()).unwrap();
        scene.with(5, false, |job| {
            restyle_by(
                &Job { target_labels: Some(&shifted), ..*job },
                changes,
                own,
                &mut view,
                Progress::NONE,
            )
        })
    };
    assert!(run(None, &[(1.0, &with)]).unwrap_err().to_string().contains("own change"));
    run(Some(&own), &[(1.0, &own)]).unwrap();
    let mut wanted = vec![0; WIDTH * HEIGHT * 12];
    let mut view = ViewMut::new(&mut wanted, layout()).unwrap();
    scene
        .with(5, false, |job| {
            restyle(&Job { target_labels: Some(&shifted), ..*job }, &mut view, Progress::NONE)
        })
        .unwrap();
    assert!(out == wanted);
}

#[test]
fn what_cannot_be_averaged_is_refused() {
    let scene = scene();
    let change = scene.with(0, true, |job| ColorChange::of(job, Progress::NONE)).unwrap();
    let mut out = vec![0; WIDTH * HEIGHT * 12];
    let mut run = |changes: &[(f32, &ColorChange)]| {
        let mut view = ViewMut::new(&mut out, layout()).unwrap();
        scene.with(0, true, |job| restyle_by(job, changes, None, &mut view, Progress::NONE)).map(|_| ())
    };
    for weights in [vec![], vec![0.0], vec![1.0, -1.0], vec![f32::NAN]] {
        let changes: Vec<(f32, &ColorChange)> = weights.iter().map(|&w| (w, &change)).collect();
        assert!(run(&changes).is_err(), "{weights:?}");
    }
    run(&[(1.0, &change)]).unwrap();
    // A model of eleven classes, and a frame of another size.
    let content = bytes(&scene.clip.frames[0]);
    let content = View::new(&content, layout()).unwrap();
    let eleven = Statistics::extract(content, &scene.clip.labels[0], 11).unwrap();
    let foreign = Job::new(content, &scene.clip.labels[0], Method::Statistics(&eleven));
    let foreign = ColorChange::of(&foreign, Progress::NONE).unwrap();
    let error = run(&[(1.0, &foreign)]).unwrap_err().to_string();
    assert!(error.contains("another model"), "{error}");
    let small = Layout::tight(WIDTH, HEIGHT / 2, Channels::Rgb, SampleType::F32);
    let half = bytes(&scene.clip.frames[0][..WIDTH * HEIGHT / 2 * 3]);
    let indices = scene.clip.labels[0].indices()[..WIDTH * HEIGHT / 2].to_vec();
    let labels = LabelMap::new(WIDTH, HEIGHT / 2, indices).unwrap();
    let statistics = Method::Statistics(scene.style.statistics());
    let own =
        ColorChange::of(&Job::new(View::new(&half, small).unwrap(), &labels, statistics), Progress::NONE);
    let own = own.unwrap();
    let mut other = vec![0; WIDTH * HEIGHT * 12];
    for (own, reason) in [(&own, "of 384 x 144 pixels"), (&foreign, "another model")] {
        let mut view = ViewMut::new(&mut other, layout()).unwrap();
        let given = [(1.0, &change)];
        let done = scene.with(0, true, |job| restyle_by(job, &given, Some(own), &mut view, Progress::NONE));
        let error = done.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    // At strength 0 there is nothing to do, whatever the changes are.
    let still = Options { strength: 0.0, ..Options::default() };
    let mut view = ViewMut::new(&mut out, layout()).unwrap();
    scene
        .with(0, true, |job| {
            restyle_by(&Job { options: still, ..*job }, &[(1.0, &change)], None, &mut view, Progress::NONE)
        })
        .unwrap();
    assert_eq!(out, bytes(&scene.clip.frames[0]));
}
