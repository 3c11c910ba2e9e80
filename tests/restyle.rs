//! The full-resolution path: what must not change does not, whatever the form of the pixels; what changes does so
//! smoothly, and the same on any machine.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use ca2sis::Error;
use ca2sis::image::{
    Channels, LabelMap, Layout, Picture, RgbImage, SampleType, Samples, Transfer, View, ViewMut,
};
use ca2sis::model::Class;
use ca2sis::nn::{self, Config, Network, Stage};
use ca2sis::progress::Progress;
use ca2sis::restyle::{
    Job, Method, Options, Report, Statistics, plan, restyle, restyle_picture, restyle_to_picture,
};
use ca2sis::style::Style;
use ca2sis::synthesis::{Look, Synthesis};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use half::f16;

const CLASSES: usize = 3;

/// A network of a few kilobytes whose weights are noise: it makes no picture, but every path runs.
fn network() -> Network {
    network_with(|_, value| value)
}

/// As [`network`], each value of the weights changed by its tensor's name.
fn network_with(change: impl Fn(&str, f32) -> f32) -> Network {
    let stage = |up| Stage {
        channels_in: 4,
        channels_out: 4,
        up,
        heads: 2,
        head_width: 4,
        ff_factor: 1,
        self_attention: !up,
    };
    let config = Config {
        classes: CLASSES,
        resolution: 32,
        norm_groups: 2,
        style_dim: 4,
        style_base: 2,
        style_downs: 2,
        style_scales: 1,
        mask_size: 8,
        mask_rank: None,
        base_size: 8,
        exclude_background: false,
        mapping: None,
        labeler: None,
        stages: vec![stage(false), stage(true), stage(true)],
    };
    let mut seed = 0u32;
    let mut tensors = HashMap::new();
    for (name, shape) in nn::manifest(&config).unwrap() {
        let value = |_| change(&name, noise(&mut seed) * 2.0 - 1.0);
        let values = (0..shape.iter().product()).map(value).collect::<Vec<f32>>();
        tensors.insert(name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap());
    }
    Network::new(&config, VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)).unwrap()
}

/// 0 to 1, the same on every run.
fn noise(seed: &mut u32) -> f32 {
    *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    (*seed >> 8) as f32 / (1 << 24) as f32
}

/// Three upright bands of classes, each with a base colour and grain.
fn labels(width: usize, height: usize) -> LabelMap {
    LabelMap::new(width, height, (0..width * height).map(|i| (i % width * CLASSES / width) as u8).collect())
        .unwrap()
}

fn picture(width: usize, height: usize, shift: f32) -> Picture {
    let labels = labels(width, height);
    let mut seed = 7;
    let color = |&class: &u8| {
        let grain = 0.05 * noise(&mut seed);
        [0.2 + 0.2 * f32::from(class) + grain, 0.5 - shift + grain, 0.1 + shift * f32::from(class) + grain]
    };
    let samples = labels.indices().iter().flat_map(color).collect();
    Picture::new(width, height, 3, Samples::F32(samples)).unwrap()
}

fn statistics() -> Statistics {
    Statistics::extract(&picture(64, 48, 0.3), &labels(64, 48), CLASSES).unwrap()
}

const SAMPLES: [SampleType; 4] = [SampleType::U8, SampleType::U16, SampleType::F16, SampleType::F32];
const CHANNELS: [Channels; 4] = [Channels::Gray, Channels::GrayAlpha, Channels::Rgb, Channels::Rgba];

/// Any bytes that are samples; floats from -1 to 3, some infinite or undefined.
fn bytes(layout: &Layout, len: usize, seed: &mut u32) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|_| (noise(seed) * 256.0) as u8).collect();
    if layout.sample.is_float() {
        let size = layout.sample.size();
        for sample in bytes.chunks_exact_mut(size) {
            let value = match noise(seed) {
                v if v < 0.02 => f32::NAN,
                v if v < 0.04 => f32::INFINITY,
                v => v * 4.0 - 1.0,
            };
            match layout.sample {
                SampleType::F16 => sample.copy_from_slice(&f16::from_f32(value).to_ne_bytes()),
                _ => sample.copy_from_slice(&value.to_ne_bytes()),
            }
        }
    }
    bytes
}

#[test]
fn outside_the_mask_every_byte_is_the_contents_in_every_form() {
    let statistics = statistics();
    let mut seed = 1;
    let mut changed = 0;
    for (width, height) in [(1, 1), (1, 9), (13, 1), (31, 17)] {
        let labels = labels(width, height);
        let mask: Vec<u8> = (0..width * height).map(|i| [0, 255, 0, 100][(i / 2) % 4]).collect();
        let mask_view =
            View::new(&mask, Layout::tight(width, height, Channels::Gray, SampleType::U8)).unwrap();
        for (sample, channels) in SAMPLES.into_iter().flat_map(|s| CHANNELS.map(|c| (s, c))) {
            for transfer in [Transfer::Srgb, Transfer::Linear] {
                let size = channels.count() * sample.size();
                let tight = Layout { transfer, ..Layout::tight(width, height, channels, sample) };
                // Bottom-up rows with gaps, and pixels with gaps from right to left, in whole samples.
                let step = size as isize + sample.size() as isize;
                let row = step * width as isize + 8;
                let odd = Layout {
                    offset: (row * height as isize) as usize - 8 - size,
                    row_stride: -row,
                    pixel_stride: -step,
                    ..tight
                };
                let content = bytes(&tight, size * width * height, &mut seed);
                let job = Job {
                    mask: Some(mask_view),
                    ..Job::new(View::new(&content, tight).unwrap(), &labels, Method::Statistics(&statistics))
                };
                let mut out = vec![0xAB; row as usize * height];
                let report =
                    restyle(&job, &mut ViewMut::new(&mut out, odd).unwrap(), Progress::NONE).unwrap();
                let outside = mask.iter().filter(|&&m| m == 0).count();
                assert_eq!((report.untouched.pixels, report.untouched.differing), (outside, 0));
                let colors = channels.colors() * sample.size();
                for i in 0..width * height {
                    let at = odd.offset as isize
                        + (i / width) as isize * odd.row_stride
                        + (i % width) as isize * odd.pixel_stride;
                    let (new, old) = (&out[at as usize..][..size], &content[i * size..][..size]);
                    assert_eq!(new[colors..], old[colors..], "alpha of pixel {i}, {tight:?}");
                    if mask[i] == 0 {
                        assert_eq!(new, old, "pixel {i}, {tight:?}");
                    }
                    changed += usize::from(new != old);
                }
            }
        }
    }
    assert!(changed > 1000, "the job changes something: {changed} pixels");
}

#[test]
fn strength_zero_is_the_content_in_the_network_too() {
    let network = network();
    let (content, labels) = (picture(45, 30, 0.1), labels(45, 30));
    let style =
        Style::extract(&network, &picture(40, 40, 0.3), &self::labels(40, 40), Progress::NONE).unwrap();
    let method = Method::Network { network: &network, style: &style };
    let options = Options { strength: 0.0, coupling: 1.0, ..Options::default() };
    let job = Job { options, ..Job::new(&content, &labels, method) };
    let (result, report) = restyle_to_picture(&job, Progress::NONE).unwrap();
    assert_eq!(result, content);
    assert_eq!(report.untouched.pixels, 45 * 30);
    let job = Job { options: Options::default(), ..job };
    assert_ne!(restyle_to_picture(&job, Progress::NONE).unwrap().0, content);
}

/// A picture in its own style: before and after are the same, so nothing may change, not even by rounding.
#[test]
fn a_picture_in_its_own_style_is_itself() {
    let network = network();
    let (content, labels) = (picture(50, 34, 0.1), labels(50, 34));
    let style = Style::extract(&network, &content, &labels, Progress::NONE).unwrap();
    let method = Method::Network { network: &network, style: &style };
    for transfer in [Transfer::Srgb, Transfer::Linear] {
        let mut out = content.clone();
        let options = Options { coupling: 1.0, ..Options::default() };
        let job = Job { options, ..Job::new(content.view().with_transfer(transfer), &labels, method) };
        let style = Style::extract(&network, job.content, &labels, Progress::NONE).unwrap();
        let job = Job { method: Method::Network { network: &network, style: &style }, ..job };
        restyle(&job, &mut out.view_mut().with_transfer(transfer), Progress::NONE).unwrap();
        assert!(out == content, "{transfer:?}");
    }
}

#[test]
fn at_coupling_zero_only_the_asked_classes_change() {
    let network = network();
    let (content, labels) = (picture(60, 40, 0.1), labels(60, 40));
    let style =
        Style::extract(&network, &picture(40, 40, 0.3), &self::labels(40, 40), Progress::NONE).unwrap();
    let method = Method::Network { network: &network, style: &style };
    let moved = |coupling: f32| {
        let options = Options { coupling, ..Options::default() };
        let job = Job { classes: &[(1, 1.0)], options, ..Job::new(&content, &labels, method) };
        let (result, _) = restyle_to_picture(&job, Progress::NONE).unwrap();
        let (Samples::F32(a), Samples::F32(b)) = (result.samples(), content.samples()) else { panic!() };
        let mut change = [0.0f32; CLASSES];
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            change[usize::from(labels.indices()[i / 3])] += (a - b).abs();
        }
        change
    };
    let (apart, coupled) = (moved(0.0), moved(1.0));
    assert_eq!((apart[0], apart[2]), (0.0, 0.0));
    assert!(apart[1] > 0.0);
    assert!(coupled[0] > 0.0 && coupled[2] > 0.0, "{coupled:?}");
}

/// A 16-bit ramp under a change of colour: no step between neighbours may be much more than the ramp's own.
#[test]
fn smooth_gradients_stay_smooth() {
    let (width, height) = (4096, 8);
    let value = |i: usize| 8000 + (i / 3 % width) as u16 * 12;
    let content =
        Picture::new(width, height, 3, Samples::U16((0..width * height * 3).map(value).collect())).unwrap();
    let labels = LabelMap::new(width, height, vec![0; width * height]).unwrap();
    let network = network();
    let style =
        Style::extract(&network, &picture(40, 40, 0.3), &self::labels(40, 40), Progress::NONE).unwrap();
    let job = Job::new(&content, &labels, Method::Network { network: &network, style: &style });
    let (result, _) = restyle_to_picture(&job, Progress::NONE).unwrap();
    assert_ne!(result, content);
    let Samples::U16(samples) = result.samples() else { panic!("16 bits stay") };
    for (a, b) in samples[..width * 3 - 3].iter().zip(&samples[3..width * 3]) {
        // 12 is the ramp's step and 3 the most that contrast may grow; the grid's own slope adds as much again.
        assert!(a.abs_diff(*b) <= 72, "a step from {a} to {b}");
    }
}

/// A soft edge, its labels up to a pixel beside it, between a dark thing that becomes light and a light one that becomes dark: no
/// pixel of it may be lighter or darker than both sides.
#[test]
fn edges_where_dark_becomes_light_have_no_line() {
    let (width, height) = (96, 96);
    let map = |edge: usize| (0..width * height).map(|i| u8::from(i % width >= edge)).collect();
    let painted = |sides: [[f32; 3]; 2], share: &dyn Fn(usize) -> f32| {
        let mut seed = 5;
        let color = |i: usize| {
            let (t, grain) = (share(i % width), 0.02 * noise(&mut seed));
            [0, 1, 2].map(|c| sides[0][c] + t * (sides[1][c] - sides[0][c]) + grain)
        };
        Picture::new(width, height, 3, Samples::F32((0..width * height).flat_map(color).collect())).unwrap()
    };
    let (dark, light) = ([0.1, 0.12, 0.14], [0.6, 0.55, 0.5]);
    let (became_light, became_dark) = ([0.9, 0.88, 0.86], [0.45, 0.3, 0.2]);
    let hard = |x: usize| f32::from(u8::from(x >= 48));
    let reference = painted([became_light, became_dark], &hard);
    let reference_labels = LabelMap::new(width, height, map(48)).unwrap();
    let statistics = Statistics::extract(&reference, &reference_labels, 2).unwrap();
    for soft in [1.0, 4.0] {
        let content = painted([dark, light], &|x| ((x as f32 - 48.0) / soft + 0.5).clamp(0.0, 1.0));
        for edge in [47, 48, 49] {
            let labels = LabelMap::new(width, height, map(edge)).unwrap();
            let job = Job::new(&content, &labels, Method::Statistics(&statistics));
            let (result, _) = restyle_to_picture(&job, Progress::NONE).unwrap();
            let Samples::F32(samples) = result.samples() else { panic!("floats stay") };
            for (i, rgb) in samples.chunks_exact(3).enumerate() {
                for c in 0..3 {
                    // Grain, and a sixth of the change for what the colours of the sides are not known better. A pixel changed as
                    // one of the wrong side would be off by a half of it and more.
                    let beyond = (became_dark[c] - rgb[c]).max(rgb[c] - became_light[c]);
                    assert!(beyond < 0.12, "soft {soft}, labels at {edge}: column {} is {rgb:?}", i % width);
                }
            }
        }
    }
}

#[test]
fn highlights_and_negative_values_survive_in_float() {
    let (width, height) = (24, 24);
    let mut content = picture(width, height, 0.1);
    let mut values = match content.samples() {
        Samples::F32(v) => v.clone(),
        _ => unreachable!(),
    };
    (values[30], values[31], values[32]) = (12.0, 9.0, 6.0);
    (values[90], values[91], values[92]) = (-0.2, 0.1, -0.1);
    content = Picture::new(width, height, 3, Samples::F32(values)).unwrap();
    let (labels, statistics) = (labels(width, height), statistics());
    let job = Job::new(&content, &labels, Method::Statistics(&statistics));
    let (result, _) = restyle_to_picture(&job, Progress::NONE).unwrap();
    let Samples::F32(v) = result.samples() else { panic!("floats stay") };
    assert!(v[30..33].iter().all(|v| *v > 1.5), "{:?}", &v[30..33]);
    assert!(v.iter().all(|v| v.is_finite()));
}

/// The brightest that a form of sample holds may come out brighter still, but not infinite.
#[test]
fn no_sample_becomes_infinite() {
    let (width, height) = (24, 24);
    let (labels, statistics) = (labels(width, height), statistics());
    for (sample, highest) in [(SampleType::F16, f16::MAX.to_f32()), (SampleType::F32, 3e38)] {
        for linear in [false, true] {
            let mut layout = Layout::tight(width, height, Channels::Rgb, sample);
            layout.transfer = if linear { Transfer::Linear } else { Transfer::Srgb };
            let put = |v: f32| match sample {
                SampleType::F16 => f16::from_f32(v).to_ne_bytes().to_vec(),
                _ => v.to_ne_bytes().to_vec(),
            };
            let of = |i: usize| if i.is_multiple_of(5) { highest } else { (i % 7) as f32 / 7.0 };
            let content: Vec<u8> = (0..width * height * 3).flat_map(|i| put(of(i))).collect();
            let view = View::new(&content, layout).unwrap();
            let mut out = vec![0; content.len()];
            let job = Job::new(view, &labels, Method::Statistics(&statistics));
            restyle(&job, &mut ViewMut::new(&mut out, layout).unwrap(), Progress::NONE).unwrap();
            assert_ne!(out, content);
            let values: Vec<f32> = match sample {
                SampleType::F16 => {
                    out.chunks_exact(2).map(|b| f16::from_ne_bytes([b[0], b[1]]).to_f32()).collect()
                }
                _ => out.chunks_exact(4).map(|b| f32::from_ne_bytes(b.try_into().unwrap())).collect(),
            };
            assert!(values.iter().all(|v| v.is_finite()), "{sample:?}, linear: {linear}");
        }
    }
}

#[test]
fn the_bits_do_not_depend_on_the_threads() {
    let network = network();
    let (content, labels) = (picture(301, 97, 0.1), labels(301, 97));
    let style =
        Style::extract(&network, &picture(40, 40, 0.3), &self::labels(40, 40), Progress::NONE).unwrap();
    let job = Job::new(&content, &labels, Method::Network { network: &network, style: &style });
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| restyle_to_picture(&job, Progress::NONE).unwrap().0)
    };
    let one = on(1);
    for threads in [2, 3, 7] {
        assert_eq!(on(threads), one, "{threads} threads");
    }
}

#[test]
fn a_new_shape_takes_the_place_of_the_old_and_the_rest_stays() {
    let network = network();
    let (width, height) = (64, 48);
    let (content, labels) = (picture(width, height, 0.1), labels(width, height));
    let edited = |i: usize| (8..16).contains(&(i % width)) && (10..30).contains(&(i / width));
    let indices = labels.indices().iter().enumerate().map(|(i, &c)| if edited(i) { 2 } else { c }).collect();
    let target = LabelMap::new(width, height, indices).unwrap();
    let style = Style::extract(&network, &content, &labels, Progress::NONE).unwrap();
    let method = Method::Network { network: &network, style: &style };
    let run = |target: Option<&LabelMap>, morph: f32| {
        let options = Options { morph, ..Options::default() };
        let mask: Vec<u8> = (0..width * height).map(|i| u8::from(edited(i)) * 255).collect();
        let mask = View::new(&mask, Layout::tight(width, height, Channels::Gray, SampleType::U8)).unwrap();
        let job =
            Job { target_labels: target, mask: Some(mask), options, ..Job::new(&content, &labels, method) };
        let (result, report) = restyle_to_picture(&job, Progress::NONE).unwrap();
        assert_eq!(report.untouched.differing, 0);
        result
    };
    let (none, half, whole) = (run(Some(&target), 0.0), run(Some(&target), 0.5), run(Some(&target), 1.0));
    assert!(none == run(None, 1.0), "morph 0 is the content's own layout");
    assert!(half != none && half != whole);
}

/// Where a thing grows, its old edge is within it: what the lens mixed into that has gone with what was beside.
#[test]
fn the_old_edge_of_a_thing_that_grows_leaves_no_line() {
    let (width, height) = (128, 96);
    let map = |edge: usize| {
        let of = |i: usize| u8::from(i % width >= edge);
        LabelMap::new(width, height, (0..width * height).map(of).collect()).unwrap()
    };
    let color = |i: usize| {
        let t = ((i % width) as f32 - 64.0) / 4.0 + 0.5;
        [0, 1, 2].map(|c| [0.15, 0.2, 0.25][c] + t.clamp(0.0, 1.0) * [0.6, 0.4, 0.2][c])
    };
    let content =
        Picture::new(width, height, 3, Samples::F32((0..width * height).flat_map(color).collect())).unwrap();
    let network = network();
    let style =
        Style::extract(&network, &picture(40, 40, 0.3), &self::labels(40, 40), Progress::NONE).unwrap();
    let (labels, target) = (map(64), map(40));
    let method = Method::Network { network: &network, style: &style };
    let job = Job { target_labels: Some(&target), ..Job::new(&content, &labels, method) };
    let (result, _) = restyle_to_picture(&job, Progress::NONE).unwrap();
    let Samples::F32(samples) = result.samples() else { panic!("floats stay") };
    let mean = |x: usize, c: usize| (40..56).map(|y| samples[(y * width + x) * 3 + c]).sum::<f32>() / 16.0;
    for c in 0..3 {
        // The mixture reached two pixels in; there a third of the other side's colour was left.
        for x in 64..68 {
            let off = mean(x, c) - mean(74, c);
            assert!(off.abs() < 0.06, "column {x} is {off} off what lies further in");
        }
    }
}

#[test]
fn mistakes_are_said_and_leave_the_output_alone() {
    let (content, labels, statistics) = (picture(12, 8, 0.1), labels(12, 8), statistics());
    let job = Job::new(&content, &labels, Method::Statistics(&statistics));
    let old = picture(12, 8, 0.25);
    let fails = |job: &Job, reason: &str| {
        let mut out = old.clone();
        let error = restyle(job, &mut out.view_mut(), Progress::NONE).unwrap_err().to_string();
        assert!(error.contains(reason), "{error:?} does not say {reason:?}");
        assert_eq!(out, old, "{reason}");
    };
    for strength in [-0.1, 1.5, f32::NAN] {
        fails(&Job { options: Options { strength, ..job.options }, ..job }, "the strength is");
    }
    fails(&Job { options: Options { coupling: 2.0, ..job.options }, ..job }, "the coupling is 2");
    fails(&Job { classes: &[(9, 1.0)], ..job }, "class 9");
    fails(&Job { target_labels: Some(&labels), ..job }, "target labels need the network");
    let small = self::labels(5, 5);
    fails(&Job { labels: &small, ..job }, "5 x 5");
    let needed = plan(&job);
    fails(
        &Job { options: Options { memory_limit: Some(needed - 1), ..job.options }, ..job },
        "bytes of memory",
    );
    let mut out = old.clone();
    let enough = Options { memory_limit: Some(needed), ..job.options };
    restyle(&Job { options: enough, ..job }, &mut out.view_mut(), Progress::NONE).unwrap();
    let wrong = vec![2.0f32; 12 * 8];
    let wrong = Picture::new(12, 8, 1, Samples::F32(wrong)).unwrap();
    fails(&Job { mask: Some(wrong.view()), ..job }, "a mask's values are 0 to 1, not 2");
    let mut other = vec![0u8; 12 * 8 * 3];
    let mut other = ViewMut::new(&mut other, Layout::tight(12, 8, Channels::Rgb, SampleType::U8)).unwrap();
    assert!(restyle(&job, &mut other, Progress::NONE).unwrap_err().to_string().contains("make them alike"));
}

#[test]
fn a_stop_before_the_writing_leaves_the_output_alone_and_is_never_asked_again() {
    let network = network();
    let (content, labels) = (picture(40, 30, 0.1), labels(40, 30));
    let style =
        Style::extract(&network, &picture(40, 40, 0.3), &self::labels(40, 40), Progress::NONE).unwrap();
    let job = Job::new(&content, &labels, Method::Network { network: &network, style: &style });
    for stop in [0.0, 0.1, 0.5, 0.89] {
        let (old, after) = (picture(40, 30, 0.4), AtomicUsize::new(0));
        let mut out = old.clone();
        let observer = |done| {
            if done >= stop {
                after.fetch_add(1, Ordering::Relaxed);
            }
            done < stop
        };
        let result = restyle(&job, &mut out.view_mut(), Progress::new(&observer));
        assert!(matches!(result, Err(Error::Cancelled)), "at {stop}");
        assert_eq!(out, old);
        assert_eq!(after.into_inner(), 1);
    }
}

#[test]
fn a_stop_during_the_writing_is_heeded_where_the_output_is_thrown_away_then() {
    let (content, labels, statistics) = (picture(1200, 600, 0.1), labels(1200, 600), statistics());
    let job = Job::new(&content, &labels, Method::Statistics(&statistics));
    let until = |stop: f32| move |done| done < stop;
    assert!(matches!(restyle_to_picture(&job, Progress::new(&until(0.93))), Err(Error::Cancelled)));
    let mut out = picture(1200, 600, 0.4);
    let stop = until(0.93);
    restyle(&job, &mut out.view_mut(), Progress::new(&stop)).unwrap();
    assert_eq!(out, restyle_to_picture(&job, Progress::NONE).unwrap().0, "a view is written to the end");
    let options = Options { stop_while_writing: true, ..job.options };
    let result = restyle(&Job { options, ..job }, &mut out.view_mut(), Progress::new(&stop));
    assert!(matches!(result, Err(Error::Cancelled)));
}

#[test]
fn half_floats_give_the_picture_that_their_floats_give() {
    let statistics = statistics();
    let (floats, labels) = (picture(20, 14, 0.1), labels(20, 14));
    let Samples::F32(samples) = floats.samples() else { panic!("floats") };
    let halves: Vec<f16> = samples.iter().map(|&v| f16::from_f32(v)).collect();
    let exact = Samples::F32(halves.iter().map(|v| v.to_f32()).collect());
    let exact = Picture::new(20, 14, 3, exact).unwrap();
    let bytes: Vec<u8> = halves.iter().flat_map(|v| v.to_ne_bytes()).collect();
    for transfer in [Transfer::Srgb, Transfer::Linear] {
        let layout = Layout { transfer, ..Layout::tight(20, 14, Channels::Rgb, SampleType::F16) };
        let view = View::new(&bytes, layout).unwrap();
        let run = |view| {
            let job = Job::new(view, &labels, Method::Statistics(&statistics));
            restyle_to_picture(&job, Progress::NONE).unwrap().0
        };
        let result = run(view);
        assert_eq!(result, run(exact.view().with_transfer(transfer)));
        assert_ne!(result, exact);
    }
}

#[test]
fn a_report_says_in_sentences_what_to_know() {
    let network = network();
    let class = |(index, name): (usize, &str)| Class {
        index: index as u32,
        name: name.into(),
        color: [index as u8; 3],
        groups: vec![],
    };
    let classes: Vec<Class> = ["wall", "coat", "cap"].into_iter().enumerate().map(class).collect();
    let (content, labels) = (picture(60, 40, 0.1), labels(60, 40));
    let only_first = LabelMap::new(40, 40, vec![0; 1600]).unwrap();
    let style = Style::extract(&network, &picture(40, 40, 0.3), &only_first, Progress::NONE).unwrap();
    let options = Options { confidence: true, ..Options::default() };
    let both = [Method::Network { network: &network, style: &style }, Method::Statistics(style.statistics())];
    for (method, by_network) in both.into_iter().zip([true, false]) {
        let job = Job { options, ..Job::new(&content, &labels, method) };
        let advice = restyle_to_picture(&job, Progress::NONE).unwrap().1.advice(&classes);
        assert!(advice[0].ends_with("as it lacks them: coat, cap"), "{advice:?}");
        // The weights are noise.
        assert_eq!(
            advice.iter().any(|s| s.starts_with("the network does not know")),
            by_network,
            "{advice:?}"
        );
    }
    assert!(Report::default().advice(&classes).is_empty());
}

/// What a new layout moves was seen; what it adds without anybody knowing a look of it is said; where nothing is restyled
/// there is nothing to be sure of.
#[test]
fn a_report_is_true_of_new_layouts_and_of_nothing_to_do() {
    let network = network();
    let (width, height) = (60, 40);
    let square = |class: u8, left: usize| {
        let of = |i: usize| (left..left + 20).contains(&(i % width)) && (10..30).contains(&(i / width));
        LabelMap::new(width, height, (0..width * height).map(|i| u8::from(of(i)) * class).collect()).unwrap()
    };
    let (content, labels) = (picture(width, height, 0.1), square(1, 5));
    let style = Style::extract(&network, &picture(width, height, 0.3), &labels, Progress::NONE).unwrap();
    let method = Method::Network { network: &network, style: &style };
    let options = Options { confidence: true, ..Options::default() };
    let run = |target: &LabelMap, classes: &[(usize, f32)]| {
        let target_labels = Some(target);
        let job = Job { target_labels, classes, options, ..Job::new(&content, &labels, method) };
        restyle_to_picture(&job, Progress::NONE).unwrap().1
    };
    let nothing = LabelMap::new(width, height, vec![0; width * height]).unwrap();
    for target in [&square(1, 35), &nothing] {
        let report = run(target, &[]);
        assert_eq!((report.missing, report.unseen), (vec![], vec![]));
    }
    assert_eq!(run(&square(2, 35), &[]).missing, [2]);
    assert!(run(&square(2, 35), &[(0, 1.0)]).missing.is_empty(), "not asked for");
    let report = run(&square(2, 5), &[(2, 1.0)]);
    assert!(report.confidence.is_none() && report.missing == [2], "{report:?}");
}

#[test]
fn mixing_styles_goes_class_by_class() {
    let network = network();
    let a = Style::extract(&network, &picture(40, 40, 0.1), &labels(40, 40), Progress::NONE).unwrap();
    let only_first = LabelMap::new(40, 40, vec![0; 1600]).unwrap();
    let b = Style::extract(&network, &picture(40, 40, 0.4), &only_first, Progress::NONE).unwrap();
    let rows = |style: &Style| style.codes().to_vec2::<f32>().unwrap();
    let mix = Style::mix(&[(&a, &[1.0, 1.0, 0.0]), (&b, &[3.0, 5.0, 0.0])]).unwrap();
    assert!(mix.has(0) && mix.has(1) && !mix.has(2));
    let (ra, rb, rm) = (rows(&a), rows(&b), rows(&mix));
    for i in 0..rm[0].len() {
        assert!((rm[0][i] - (0.25 * ra[0][i] + 0.75 * rb[0][i])).abs() < 1e-6);
    }
    assert_eq!(rm[1], ra[1], "b lacks class 1, whatever its weight");
    let [even, huge] = [1.0, f32::MAX].map(|w| Style::mix(&[(&a, &[w; 3]), (&b, &[w; 3])]).unwrap());
    assert_eq!(rows(&huge), rows(&even));
    assert!(Style::mix(&[]).is_err());
    assert!(Style::mix(&[(&a, &[1.0, 1.0])]).is_err());
    assert!(Style::mix(&[(&a, &[1.0, -1.0, 1.0])]).is_err());
}

#[test]
fn confidence_is_within_its_range_and_covers_the_classes() {
    let network = network();
    let (content, labels) = (picture(60, 40, 0.1), labels(60, 40));
    let style =
        Style::extract(&network, &picture(40, 40, 0.3), &self::labels(40, 40), Progress::NONE).unwrap();
    let options = Options { confidence: true, ..Options::default() };
    let method = Method::Network { network: &network, style: &style };
    let job = Job { options, ..Job::new(&content, &labels, method) };
    let (_, report) = restyle_to_picture(&job, Progress::NONE).unwrap();
    let figures = report.confidence.unwrap();
    assert_eq!(figures.classes.iter().map(|c| c.0).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(figures.map.iter().all(|v| (0.0..=1.0).contains(v)) && (0.0..=1.0).contains(&figures.overall));
    assert_eq!(figures.heat_map(60, 40).unwrap().width(), 60);
    // By pixel: between the figures around it, and the mean over all is the overall figure but for what lies between.
    let at: Vec<f32> = (0..60 * 40).map(|i| figures.at(i % 60, i / 60).unwrap()).collect();
    let (low, high) = figures.map.iter().fold((1.0f32, 0.0f32), |(l, h), &v| (l.min(v), h.max(v)));
    assert!(at.iter().all(|v| (low..=high).contains(v)));
    let mean = at.iter().sum::<f32>() / at.len() as f32;
    assert!((mean - figures.overall).abs() < 0.05 * figures.overall, "{mean} {}", figures.overall);
    assert!(figures.at(60, 0).is_none() && figures.at(0, 60).is_none(), "outside the window");
}

#[test]
fn a_finished_picture_has_the_labels_size_and_the_styles_mean_colours() {
    let network = network();
    let (look, map) = (picture(96, 64, 0.3), labels(96, 64));
    let style = Style::extract(&network, &look, &map, Progress::NONE).unwrap();
    let made = |finish| {
        let job = Synthesis { labels: &map, morph: None, look: Look::Style(&style), finish };
        job.run(&network, Progress::NONE).unwrap()
    };
    let (plain, finished) = (made(false), made(true));
    assert_eq!((plain.width, plain.height), (32, 21));
    assert_eq!((finished.width, finished.height), (96, 64));
    let mean = |image: &RgbImage, map: &LabelMap, class: u8| -> [f32; 3] {
        let (mut sum, mut count) = ([0.0; 3], 0.0);
        for (pixel, _) in image.pixels.chunks(3).zip(map.indices()).filter(|(_, c)| **c == class) {
            (0..3).for_each(|c| sum[c] += pixel[c]);
            count += 1.0;
        }
        sum.map(|s| s / count)
    };
    let far = |a: [f32; 3], b: [f32; 3]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let (look, small) = (look.to_rgb_f32(), map.resize_nearest(32, 21));
    for class in 0..CLASSES as u8 {
        let wanted = mean(&look, &map, class);
        let (before, after) = (mean(&plain, &small, class), mean(&finished, &map, class));
        // Noise draws up to white and black, where a shift of the colour is cut off.
        assert!(
            far(after, wanted) < 0.5 * far(before, wanted),
            "{class}: {before:?}, then {after:?}, for {wanted:?}"
        );
    }
}

#[test]
fn a_content_seen_before_is_not_encoded_again_and_gives_the_same_bits() {
    let network = network();
    let (content, labels) = (picture(60, 40, 0.1), labels(60, 40));
    let style =
        Style::extract(&network, &picture(40, 40, 0.3), &self::labels(40, 40), Progress::NONE).unwrap();
    let options = Options { confidence: true, coupling: 0.5, ..Options::default() };
    let method = Method::Network { network: &network, style: &style };
    let job = Job { options, ..Job::new(&content, &labels, method) };
    let run = |job: &Job| restyle_to_picture(job, Progress::NONE).unwrap();
    let (first, told) = run(&job);
    let own = told.content_style.unwrap();
    assert!(!own.kept);
    let again = Job { content_style: Some(&own.style), ..job };
    let (second, told_again) = run(&again);
    assert!(told_again.content_style.unwrap().kept);
    assert_eq!((first.samples(), told.confidence), (second.samples(), told_again.confidence));

    // A network that cannot encode: the same result, so that it does not.
    let blind = network_with(|name, v| if name.starts_with("style_encoder") { 0.0 } else { v });
    let (from_blind, told_by_blind) =
        run(&Job { method: Method::Network { network: &blind, style: &style }, ..again });
    assert!(told_by_blind.content_style.unwrap().kept);
    assert_eq!(from_blind.samples(), first.samples());
    let encoded_blindly = run(&Job { method: Method::Network { network: &blind, style: &style }, ..job }).0;
    assert_ne!(encoded_blindly.samples(), first.samples(), "the encoder matters where it is used");

    // Whatever else is asked of the same content.
    let target = LabelMap::new(60, 40, labels.indices().iter().rev().copied().collect()).unwrap();
    let halved = Options { strength: 0.5, morph: 0.5, ..options };
    for other in [
        Job { options: halved, ..again },
        Job { target_labels: Some(&target), ..again },
        Job { target_labels: Some(&target), options: halved, ..again },
    ] {
        let (with, told) = run(&other);
        assert!(told.content_style.unwrap().kept);
        assert_eq!(with.samples(), run(&Job { content_style: None, ..other }).0.samples());
    }
}

#[test]
fn the_style_of_another_content_is_not_used() {
    let network = network();
    let (content, labels) = (picture(200, 120, 0.1), labels(200, 120));
    let style =
        Style::extract(&network, &picture(40, 40, 0.3), &self::labels(40, 40), Progress::NONE).unwrap();
    let method = Method::Network { network: &network, style: &style };
    let job = Job::new(&content, &labels, method);
    let run = |job: &Job| restyle_to_picture(job, Progress::NONE).unwrap();
    let own = run(&job).1.content_style.unwrap().style;
    let job = Job { content_style: Some(&own), ..job };

    let darker = picture(200, 120, 0.11);
    let mut moved = labels.indices().to_vec();
    moved.rotate_left(10);
    let moved = LabelMap::new(200, 120, moved).unwrap();
    let corner = (0..200 * 120).map(|i| u8::from(i % 200 < 40 && i / 200 < 40) * 255).collect();
    let corner = Picture::new(200, 120, 1, Samples::U8(corner)).unwrap();
    let mixed = Style::mix(&[(&own, &[1.0; CLASSES])]).unwrap();
    for (what, other) in [
        ("other pixels", Job { content: darker.view(), ..job }),
        ("other labels", Job { labels: &moved, ..job }),
        ("another window", Job { mask: Some(corner.view()), ..job }),
        ("the style of a reference", Job { content_style: Some(&style), ..job }),
        ("a mix", Job { content_style: Some(&mixed), ..job }),
    ] {
        let (with, told) = run(&other);
        assert!(!told.content_style.unwrap().kept, "{what}");
        assert!(with.samples() == run(&Job { content_style: None, ..other }).0.samples(), "{what}");
    }
    let nothing = Options { strength: 0.0, ..job.options };
    assert!(run(&Job { options: nothing, ..job }).1.content_style.is_none());
    let statistics = statistics();
    let by_statistics = Job { method: Method::Statistics(&statistics), ..job };
    assert!(run(&by_statistics).1.content_style.is_none());
}

#[test]
fn a_network_that_draws_no_numbers_is_an_error_that_says_what_to_try() {
    let (content, labels) = (picture(60, 40, 0.1), labels(60, 40));
    let style =
        Style::extract(&network(), &picture(40, 40, 0.3), &self::labels(40, 40), Progress::NONE).unwrap();
    let broken = network_with(|name, v| if name.contains("out_conv") { f32::NAN } else { v });
    let job = Job::new(&content, &labels, Method::Network { network: &broken, style: &style });
    let error = restyle_to_picture(&job, Progress::NONE).unwrap_err().to_string();
    assert!(error.contains("--precision f32"), "{error}");
}

#[test]
fn a_picture_with_a_profile_is_looked_at_as_it_comes_out_and_its_copies_count() {
    let (width, height) = (40, 30);
    let (labels, statistics) = (labels(width, height), statistics());
    let Samples::F32(floats) = picture(width, height, 0.1).samples().clone() else { panic!("floats") };
    let bytes = floats.iter().map(|v| (v * 255.0) as u8).collect();
    let mut content = Picture::new(width, height, 3, Samples::U8(bytes)).unwrap();
    let profile = moxcms::ColorProfile::new_display_p3().encode().unwrap();
    content.metadata_mut().icc_profile = Some(profile.into());
    let mask = (0..width * height).map(|i| u8::from(i % width < 25) * 255).collect();
    let mask = Picture::new(width, height, 1, Samples::U8(mask)).unwrap();
    let job = Job { mask: Some(mask.view()), ..Job::new(&content, &labels, Method::Statistics(&statistics)) };
    let (result, report) = restyle_picture(&content, &job, Progress::NONE).unwrap();
    assert_eq!((report.untouched.pixels, report.untouched.differing), (15 * height, 0));
    let (Samples::U8(before), Samples::U8(after)) = (content.samples(), result.samples()) else { panic!() };
    let moved = |i: usize| before[3 * i..][..3] != after[3 * i..][..3];
    assert!((0..width * height).any(moved));
    assert!(!(0..width * height).any(|i| i % width >= 25 && moved(i)));
    assert_eq!(result.metadata(), content.metadata());

    // What is enough without the copies is not with them.
    let with = |limit| {
        let options = Options { memory_limit: Some(limit), ..job.options };
        restyle_picture(&content, &Job { options, ..job }, Progress::NONE)
    };
    let Err(Error::MemoryLimit { needed, .. }) = with(plan(&job)) else {
        panic!("the copies were not counted")
    };
    assert!(needed >= plan(&job) + 2 * 4 * 3 * (width * height) as u64);
    assert!(with(needed - 1).is_err());
    assert_eq!(with(needed).unwrap().0, result);
    let mut plain = content.clone();
    plain.metadata_mut().icc_profile = None;
    let options = Options { memory_limit: Some(plan(&job)), ..job.options };
    assert!(restyle_picture(&plain, &Job { options, ..job }, Progress::NONE).is_ok());
}
