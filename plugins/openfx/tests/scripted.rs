//! The plug-in in a host that follows the standard to the letter, and in hosts that do not.

mod host;

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ca2sis::context::{Context, LoadedModel, Options as ContextOptions};
use ca2sis::device::Choice;
use ca2sis::image::{
    Channels, LabelMap, Layout, Picture as File, SampleType, Samples, Transfer, View, ViewMut,
};
use ca2sis::label::label;
use ca2sis::model::{self, Class, FORMAT, Metadata, Model};
use ca2sis::nn::{self, Config, LabelerSizes, Mapping, Stage};
use ca2sis::progress::Progress;
use ca2sis::restyle::{ColorChange, Job, Method, Options, restyle, restyle_by};
use ca2sis::style::Style;
use ca2sis_openfx::LOOKS_TAKEN;
use ca2sis_openfx_bindings::*;
use candle_core::{DType, Device, Tensor};
use half::f16;
use host::*;

const RGBA: &CStr = c"OfxImageComponentRGBA";
const RGB: &CStr = c"OfxImageComponentRGB";
const ALPHA: &CStr = c"OfxImageComponentAlpha";
const BYTE: &CStr = c"OfxBitDepthByte";
const FLOAT: &CStr = c"OfxBitDepthFloat";
const DEPTHS: [(&CStr, SampleType); 4] = [
    (BYTE, SampleType::U8),
    (c"OfxBitDepthShort", SampleType::U16),
    (c"OfxBitDepthHalf", SampleType::F16),
    (FLOAT, SampleType::F32),
];

const CLASSES: [(&str, [u8; 3], &str); 3] =
    [("sky", [120, 180, 255], "air"), ("land", [80, 120, 40], "ground"), ("sea", [10, 60, 200], "ground")];

fn folder() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().unwrap()).path()
}

/// A model of a few kilobytes; its weights are noise.
fn tiny(name: &str, mapping: bool) -> PathBuf {
    tiny_with(name, mapping, None)
}

fn tiny_with(name: &str, mapping: bool, labeler: Option<LabelerSizes>) -> PathBuf {
    let path = folder().join(name);
    if path.exists() {
        return path;
    }
    let stage = |up, self_attention| Stage {
        channels_in: 8,
        channels_out: 8,
        up,
        heads: 2,
        head_width: 4,
        ff_factor: 2,
        self_attention,
    };
    let network = Config {
        classes: 3,
        resolution: 16,
        norm_groups: 4,
        style_dim: 2,
        style_base: 1,
        style_downs: 2,
        style_scales: 2,
        mask_size: 8,
        mask_rank: None,
        base_size: 8,
        exclude_background: false,
        mapping: mapping.then_some(Mapping { latent: 4, width: 8 }),
        labeler,
        stages: vec![stage(false, true), stage(true, false)],
    };
    let mut seed = 1u32;
    let mut noise = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let tensors: BTreeMap<String, Tensor> = nn::manifest(&network)
        .unwrap()
        .into_iter()
        .map(|(name, shape)| {
            let fan_in = shape.iter().skip(1).product::<usize>() as f32;
            let mut value = |_| match shape.len() {
                1 if name.ends_with("weight") => 1.0 + 0.2 * noise(),
                1 => 0.1 * noise(),
                // Twice as strong as usual, so that looks make a difference that 8 bits show.
                _ => 2.0 * noise() * (3.0 / fan_in).sqrt(),
            };
            let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(&mut value).collect();
            let tensor = Tensor::from_vec(values, shape.clone(), &Device::Cpu).unwrap();
            (name, tensor)
        })
        .collect();
    let class = |(i, (name, color, group)): (usize, &(&str, [u8; 3], &str))| Class {
        index: i as u32,
        name: (*name).into(),
        color: *color,
        groups: vec![(*group).into()],
    };
    let metadata = Metadata {
        format: FORMAT,
        name: "tiny".into(),
        version: "1".into(),
        licence: "CC0-1.0".into(),
        authors: vec![],
        training_data: vec![],
        limits: vec![],
        classes: CLASSES.iter().enumerate().map(class).collect(),
        network,
        bf16_db: None,
    };
    model::save(&path, &metadata, &tensors, DType::F32).unwrap();
    path
}

fn model_file() -> PathBuf {
    tiny("tiny.safetensors", false)
}

/// The library, called directly.
fn loaded() -> &'static LoadedModel {
    static LOADED: OnceLock<LoadedModel> = OnceLock::new();
    LOADED.get_or_init(|| {
        let options = ContextOptions { device: Choice::Cpu, ..ContextOptions::default() };
        Context::new(options).unwrap().load(&Model::open(&model_file()).unwrap()).unwrap()
    })
}

fn sample_of(depth: &CStr) -> SampleType {
    DEPTHS.iter().find(|(d, _)| *d == depth).unwrap().1
}

fn store(sample: SampleType, values: &[f32]) -> Vec<u8> {
    let bytes = |&v: &f32| match sample {
        SampleType::U8 => vec![(v.clamp(0.0, 1.0) * 255.0 + 0.5) as u8],
        SampleType::U16 => ((v.clamp(0.0, 1.0) * 65535.0 + 0.5) as u16).to_ne_bytes().to_vec(),
        SampleType::F16 => f16::from_f32(v).to_ne_bytes().to_vec(),
        SampleType::F32 => v.to_ne_bytes().to_vec(),
    };
    values.iter().flat_map(bytes).collect()
}

fn fetch(sample: SampleType, bytes: &[u8]) -> Vec<f32> {
    let value = |b: &[u8]| match sample {
        SampleType::U8 => f32::from(b[0]) / 255.0,
        SampleType::U16 => f32::from(u16::from_ne_bytes([b[0], b[1]])) / 65535.0,
        SampleType::F16 => f16::from_ne_bytes([b[0], b[1]]).to_f32(),
        SampleType::F32 => f32::from_ne_bytes(b.try_into().unwrap()),
    };
    bytes.chunks_exact(sample.size()).map(value).collect()
}

/// Three upright bands of classes, wavy, so that no row or column is like another.
fn map(width: usize, height: usize) -> LabelMap {
    let class = |i: usize| ((i % width * 3 + (i / width) % 5) / width).min(2) as u8;
    LabelMap::new(width, height, (0..width * height).map(class).collect()).unwrap()
}

/// A photograph of sorts of a map, RGB; `look` changes its colours, `grain` its noise.
fn colors(map: &LabelMap, look: f32, grain: u32) -> Vec<f32> {
    let mut seed = grain;
    let mut noise = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as f32 / (1 << 24) as f32
    };
    let pixel = |&class: &u8| {
        let (c, shade) = (f32::from(class), 0.1 * noise());
        [
            0.2 + 0.25 * c * look + shade,
            0.55 - 0.15 * c + 0.2 * look + shade,
            0.1 + 0.3 * (1.0 - look) + shade,
        ]
    };
    map.indices().iter().flat_map(pixel).collect()
}

/// Fills a picture with colours, and an alpha of all kinds where it has alpha and `alpha` says so.
fn paint(picture: &mut Picture, rgb: &[f32], alpha: bool) {
    let (channels, sample) = (picture.channels(), sample_of(picture.depth));
    let mut values = Vec::new();
    for (i, rgb) in rgb.chunks_exact(3).enumerate() {
        let a = if alpha { [1.0, 0.5, 0.0, 0.8][i % 4] } else { 1.0 };
        let colour = |v: f32| if picture.premultiplied { v * a } else { v };
        values.extend(rgb.iter().map(|&v| colour(v)));
        if channels == 4 {
            values.push(a);
        }
    }
    picture.fill(&store(sample, &values));
}

fn labels_picture(map: &LabelMap, depth: &'static CStr, value: impl Fn(u8) -> f32) -> Picture {
    let mut picture = Picture::new(map.width(), map.height(), depth, RGB);
    let rgb: Vec<f32> = map.indices().iter().flat_map(|&i| CLASSES[usize::from(i)].1.map(&value)).collect();
    paint(&mut picture, &rgb, false);
    picture
}

fn plain(map: &LabelMap) -> Picture {
    labels_picture(map, FLOAT, |v| f32::from(v) / 255.0)
}

const REFERENCE: (usize, usize) = (37, 21);

fn reference() -> Picture {
    let mut picture = Picture::new(REFERENCE.0, REFERENCE.1, FLOAT, RGB);
    paint(&mut picture, &colors(&map(REFERENCE.0, REFERENCE.1), 1.0, 5), false);
    picture
}

fn style(transfer: Transfer) -> Style {
    let (map, tight) = (map(REFERENCE.0, REFERENCE.1), reference().tight());
    let layout =
        Layout { transfer, ..Layout::tight(REFERENCE.0, REFERENCE.1, Channels::Rgb, SampleType::F32) };
    loaded().extract(View::new(&tight, layout).unwrap(), &map, None).unwrap()
}

fn direct(content: &[u8], layout: Layout) -> Vec<u8> {
    let style = style(layout.transfer);
    let labels = map(layout.width, layout.height);
    loaded()
        .run("direct", None, |network, progress| {
            let mut result = vec![0; content.len()];
            let method = Method::Network { network, style: &style };
            let job = Job::new(View::new(content, layout)?, &labels, method);
            restyle(&job, &mut ViewMut::new(&mut result, layout)?, progress)?;
            Ok(result)
        })
        .unwrap()
}

/// A host with the tiny model, a reference and its labels, and labels.
fn ready(context: &CStr) -> Host {
    ready_as(context, &Form::default())
}

fn ready_as(context: &CStr, form: &Form) -> Host {
    let mut host = Host::new(form);
    host.begin(context);
    host.set_value("model", &*model_file());
    host.set_value("device", 1);
    if context == GENERAL {
        host.still("Reference", &reference());
        host.still("ReferenceLabels", &plain(&map(REFERENCE.0, REFERENCE.1)));
    }
    host
}

fn blank(like: &Picture) -> Picture {
    let mut picture = like.clone();
    picture.allocate();
    picture
}

#[test]
fn it_describes_itself_in_both_contexts_to_the_letter() {
    for (context, clips) in [
        (GENERAL, &["Source", "Labels", "Reference", "ReferenceLabels", "Mask", "Output"][..]),
        (FILTER, &["Source", "Output"]),
    ] {
        let mut host = Host::new(&Form::default());
        host.begin(context);
        let (about, named) = host.descriptor();
        assert_eq!(named, clips);
        let texts = |name: &str| -> Vec<String> {
            about[name]
                .iter()
                .map(|v| match v {
                    Value::Text(t) => t.to_str().unwrap().to_owned(),
                    v => panic!("{v:?}"),
                })
                .collect()
        };
        assert_eq!(
            texts("OfxImageEffectPropSupportedPixelDepths"),
            ["OfxBitDepthFloat", "OfxBitDepthHalf", "OfxBitDepthShort", "OfxBitDepthByte"]
        );
        let parameters = host.described();
        let names: Vec<&str> = parameters.iter().map(|(name, ..)| name.as_str()).collect();
        for wanted in [
            "model",
            "strength",
            "coupling",
            "morph",
            "styleFile",
            "method",
            "seed",
            "device",
            "reload",
            "labelsFile",
            "referenceFile",
            "referenceLabelsFile",
            "maskFile",
            "targetLabelsFile",
            "encoding",
            "overTime",
            "class0",
        ] {
            assert!(names.contains(&wanted), "{wanted}");
        }
        for (name, kind, props) in &parameters {
            assert!(props.contains_key("OfxPropLabel"), "{name}");
            if kind != "OfxParamTypePage" {
                assert!(props.contains_key("OfxParamPropHint"), "{name} has no hint");
            }
            // Parents and children are there.
            for of in ["OfxParamPropParent", "OfxParamPropPageChild"] {
                for value in props.get(of).into_iter().flatten() {
                    let Value::Text(value) = value else { panic!() };
                    assert!(names.contains(&value.to_str().unwrap()), "{name}: {value:?}");
                }
            }
        }
        host.end();
    }
}

#[test]
fn half_floats_are_offered_where_the_host_has_them_and_light_is_meant_where_it_works_in_light() {
    let form = Form { half: false, name: c"fr.inria.Natron", ..Form::default() };
    let mut host = Host::new(&form);
    host.begin(GENERAL);
    assert_eq!(host.descriptor().0["OfxImageEffectPropSupportedPixelDepths"].len(), 3);
    assert!(matches!(host.value("encoding"), Value::Int(1)));
    host.end();
    let host = ready(GENERAL);
    assert!(matches!(host.value("encoding"), Value::Int(0)));
    host.end();
}

/// The result as the standard wants it: alpha in the colours where it was, and the source's own bytes where nothing changed.
fn expected(source: &Picture, transfer: Transfer) -> Vec<u8> {
    let sample = sample_of(source.depth);
    let channels = if source.channels() == 4 { Channels::Rgba } else { Channels::Rgb };
    let (tight, (width, height)) = (source.tight(), (source.width, source.height));
    if !source.premultiplied {
        let layout = Layout { transfer, ..Layout::tight(width, height, channels, sample) };
        return direct(&tight, layout);
    }
    let stored = fetch(sample, &tight);
    let straight = |p: &[f32]| match p[3] {
        0.0 => p.to_vec(),
        a => vec![p[0] / a, p[1] / a, p[2] / a, a],
    };
    let straight: Vec<f32> = stored.chunks_exact(4).flat_map(straight).collect();
    let layout = Layout { transfer, ..Layout::tight(width, height, channels, SampleType::F32) };
    let result = fetch(SampleType::F32, &direct(&store(SampleType::F32, &straight), layout));
    let mut out = Vec::new();
    for (i, new) in result.chunks_exact(4).enumerate() {
        let (old, size) = (&straight[i * 4..i * 4 + 4], sample.size());
        let bytes = &tight[i * 4 * size..][..4 * size];
        if new == old {
            out.extend(bytes);
        } else {
            let a = if new[3] == 0.0 { 1.0 } else { new[3] };
            out.extend(store(sample, &[new[0] * a, new[1] * a, new[2] * a]));
            out.extend(&bytes[3 * size..]);
        }
    }
    out
}

#[test]
fn pixels_of_every_form_come_out_as_the_library_makes_them() {
    let host = ready(GENERAL);
    let (width, height) = (50, 31);
    host.still("Labels", &plain(&map(width, height)));
    let mut cases = 0;
    for (depth, _) in DEPTHS {
        for (components, premultiplied) in [(RGBA, false), (RGBA, true), (RGB, false)] {
            for (downward, gap, transfer, alpha) in [
                (false, 0, Transfer::Srgb, true),
                (true, 24, Transfer::Srgb, true),
                (false, 8, Transfer::Linear, false),
            ] {
                let mut source = Picture::new(width, height, depth, components);
                (source.premultiplied, source.downward, source.gap) = (premultiplied, downward, gap);
                source.allocate();
                paint(&mut source, &colors(&map(width, height), 0.0, 3), alpha);
                host.still("Source", &source);
                host.set_value("encoding", i32::from(transfer == Transfer::Linear));
                let mut output = Picture { downward: !downward, gap: 40 - gap, ..source.clone() };
                output.allocate();
                let (status, output) = host.render(1.0, output);
                assert_eq!(status, kOfxStatOK, "{:?}", persistent());
                let wanted = expected(&source, transfer);
                assert!(
                    output.tight() == wanted,
                    "{depth:?} {components:?} {premultiplied} {downward} {transfer:?}"
                );
                let changed = source.tight().iter().zip(&wanted).filter(|(a, b)| a != b).count();
                assert!(changed > wanted.len() / 4, "{changed} of {} bytes changed", wanted.len());
                cases += 1;
            }
        }
    }
    assert_eq!(cases, 36);
    host.end();
}

#[test]
fn regions_need_not_begin_at_0_and_windows_may_be_parts() {
    let host = ready(GENERAL);
    let mut source = Picture::new(40, 30, FLOAT, RGBA);
    source.at = (-13, 7);
    paint(&mut source, &colors(&map(40, 30), 0.0, 3), false);
    host.still("Source", &source);
    let mut labels = plain(&map(40, 30));
    labels.at = (-13, 7);
    host.still("Labels", &labels);
    let whole = expected(&source, Transfer::Srgb);
    let (status, output) = host.render(0.0, blank(&source));
    assert_eq!(status, kOfxStatOK);
    assert!(output.tight() == whole);

    // A part of an output that is larger than the source: that part alone is written, and is nothing where there is no source.
    let mut large = Picture { at: (-20, 0), width: 60, height: 50, ..source.clone() };
    large.allocate();
    let window = [-18, 2, 5, 20];
    let (status, output) = host.render_window(0.0, window, large);
    assert_eq!(status, kOfxStatOK);
    for y in 0..50 {
        for x in 0..60 {
            let (px, py) = (x as i32 - 20, 49 - y as i32);
            let pixel = &output.row(y)[x * 16..x * 16 + 16];
            let (sx, sy) = (px + 13, py - 7);
            let inside = (window[0]..window[2]).contains(&px) && (window[1]..window[3]).contains(&py);
            if !inside {
                assert_eq!(pixel, [CANARY; 16], "{px} {py}");
            } else if (0..40).contains(&sx) && (0..30).contains(&sy) {
                let at = ((29 - sy) * 40 + sx) as usize * 16;
                assert_eq!(pixel, &whole[at..at + 16], "{px} {py}");
            } else {
                assert_eq!(pixel, [0; 16], "{px} {py}");
            }
        }
    }
    host.end();
}

#[test]
fn labels_and_masks_lie_where_the_scales_and_pixel_aspects_say() {
    let host = ready(GENERAL);
    // The source at half scale with pixels twice as wide: 20 x 30 of them are 80 x 60 canonical.
    let (width, height) = (20, 30);
    let mut source = Picture::new(width, height, FLOAT, RGBA);
    (source.scale, source.aspect) = (0.5, 2.0);
    paint(&mut source, &colors(&map(width, height), 0.0, 3), false);
    host.still("Source", &source);
    // Labels with square pixels at full scale, each source pixel 4 x 2 of them.
    let small = map(width, height);
    let large =
        LabelMap::new(80, 60, (0..80 * 60).map(|i| small.get(i % 80 / 4, i / 80 / 2)).collect()).unwrap();
    host.still("Labels", &plain(&large));
    // A mask that covers the left half of the canonical picture but for its uppermost row, and no more.
    let mut mask = Picture::new(40, 58, FLOAT, ALPHA);
    mask.fill(&store(SampleType::F32, &vec![1.0; 40 * 58]));
    host.still("Mask", &mask);
    let covered: Vec<f32> =
        (0..width * height).map(|i| f32::from(u8::from(i % width < 10 && i / width > 0))).collect();
    let bytes = store(SampleType::F32, &covered);
    let gray = Layout::tight(width, height, Channels::Gray, SampleType::F32);
    let wanted = {
        let mask = View::new(&bytes, gray).unwrap();
        // A mask lives as long as the call alone.
        let (labels, style) = (map(width, height), style(Transfer::Srgb));
        let layout = Layout::tight(width, height, Channels::Rgba, SampleType::F32);
        let tight = source.tight();
        loaded()
            .run("direct", None, |network, progress| {
                let mut result = vec![0; tight.len()];
                let method = Method::Network { network, style: &style };
                let job = Job { mask: Some(mask), ..Job::new(View::new(&tight, layout)?, &labels, method) };
                restyle(&job, &mut ViewMut::new(&mut result, layout)?, progress)?;
                Ok(result)
            })
            .unwrap()
    };
    let (status, output) = host.render(0.0, blank(&source));
    assert_eq!(status, kOfxStatOK, "{:?}", persistent());
    assert!(output.tight() == wanted);
    let (tight, same) = (source.tight(), output.tight());
    for i in 0..width * height {
        let equal = tight[i * 16..i * 16 + 16] == same[i * 16..i * 16 + 16];
        assert!(equal || covered[i] > 0.0, "pixel {i} changed outside the mask");
    }
    host.end();
}

#[test]
fn label_pictures_are_read_as_painted_as_light_and_with_filtered_edges() {
    let host = ready(GENERAL);
    let (width, height) = (48, 32);
    let mut source = Picture::new(width, height, FLOAT, RGBA);
    paint(&mut source, &colors(&map(width, height), 0.0, 3), false);
    host.still("Source", &source);
    let wanted = expected(&source, Transfer::Srgb);
    let light = |v: u8| {
        let v = f32::from(v) / 255.0;
        if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
    };
    for labels in [
        labels_picture(&map(width, height), FLOAT, light),
        labels_picture(&map(width, height), BYTE, |v| f32::from(v) / 255.0),
        labels_picture(&map(width, height), c"OfxBitDepthHalf", |v| f32::from(v) / 255.0 + 0.02),
    ] {
        host.still("Labels", &labels);
        let (status, output) = host.render(0.0, blank(&source));
        assert_eq!(status, kOfxStatOK, "{:?}", persistent());
        assert!(output.tight() == wanted, "{:?}", labels.depth);
    }
    // A photograph is no label map.
    host.still("Labels", &source);
    let (status, output) = host.render(0.0, blank(&source));
    assert_eq!(status, kOfxStatFailed);
    assert!(persistent().unwrap().contains("no label map in the model's colours"), "{:?}", persistent());
    assert!(output.tight().iter().all(|&b| b == CANARY), "a failed render writes nothing");
    host.still("Labels", &plain(&map(width, height)));
    assert_eq!(host.render(0.0, blank(&source)).0, kOfxStatOK);
    assert_eq!(persistent(), None, "what was said is taken back");
    host.end();
}

/// Files for a filter, whose host feeds one clip alone.
struct Files {
    labels: PathBuf,
    reference: PathBuf,
    reference_labels: PathBuf,
    mask: PathBuf,
}

fn files(width: usize, height: usize) -> Files {
    let at = |name: &str| folder().join(name);
    let classes = loaded().model().classes();
    let files = Files {
        labels: at("labels.png"),
        reference: at("reference.tif"),
        reference_labels: at("reference_labels.png"),
        mask: at("mask.0003.png"),
    };
    map(width, height).write_png(&files.labels, classes).unwrap();
    map(REFERENCE.0, REFERENCE.1).write_png(&files.reference_labels, classes).unwrap();
    let samples = Samples::F32(fetch(SampleType::F32, &reference().tight()));
    File::new(REFERENCE.0, REFERENCE.1, 3, samples).unwrap().write(&files.reference).unwrap();
    let mask = (0..width * height).map(|i| if i / width < height / 2 { 255 } else { 0 }).collect();
    File::new(width, height, 1, Samples::U8(mask)).unwrap().write(&files.mask).unwrap();
    files
}

#[test]
fn a_filter_takes_files_which_lie_over_the_whole_clip() {
    let (width, height) = (48, 32);
    // Files are written when no other host reads them.
    let host = ready(FILTER);
    let files = files(width, height);
    host.set_value("labelsFile", &*files.labels);
    host.set_value("referenceFile", &*files.reference);
    host.set_value("referenceLabelsFile", &*files.reference_labels);
    for depth in [BYTE, FLOAT] {
        let mut source = Picture::new(width, height, depth, RGBA);
        paint(&mut source, &colors(&map(width, height), 0.0, 3), false);
        host.still("Source", &source);
        let (status, output) = host.render(0.0, blank(&source));
        assert_eq!(status, kOfxStatOK, "{:?}", persistent());
        assert!(output.tight() == expected(&source, Transfer::Srgb), "{depth:?}");
    }

    // A mask whose name has the frame in it: its upper half changes.
    host.set_value("maskFile", &*folder().join("mask.####.png"));
    let mut source = Picture::new(width, height, BYTE, RGBA);
    paint(&mut source, &colors(&map(width, height), 0.0, 3), false);
    host.still("Source", &source);
    let (status, output) = host.render(3.0, blank(&source));
    assert_eq!(status, kOfxStatOK, "{:?}", persistent());
    let (before, after) = (source.tight(), output.tight());
    let half = before.len() / 2;
    assert!(before[half..] == after[half..] && before[..half] != after[..half]);
    assert_eq!(host.render(4.0, blank(&source)).0, kOfxStatFailed);
    assert!(persistent().unwrap().contains("mask.0004.png"), "{:?}", persistent());
    host.set_value("maskFile", "");
    // A file that has such a name itself is that file.
    let odd = folder().join("labels.##.png");
    std::fs::copy(&files.labels, &odd).unwrap();
    host.set_value("labelsFile", &*odd);
    assert_eq!(host.render(3.0, blank(&source)).0, kOfxStatOK, "{:?}", persistent());
    host.set_value("labelsFile", &*files.labels);

    // A host that hands over a part of a picture at half scale: the files lie over all of it.
    let mut part = Picture::new(12, 16, BYTE, RGBA);
    (part.at, part.scale, part.region) = ((12, 0), 0.5, Some([0, 0, 24, 16]));
    part.allocate();
    paint(&mut part, &colors(&map(12, 16), 0.0, 3), false);
    host.still("Source", &part);
    let (status, output) = host.render(0.0, blank(&part));
    assert_eq!(status, kOfxStatOK, "{:?}", persistent());
    let large = map(width, height);
    let labels = LabelMap::new(
        12,
        16,
        (0..12 * 16).map(|i| large.get((i % 12 + 12) * 2 + 1, i / 12 * 2 + 1)).collect(),
    );
    let (labels, style, tight) = (labels.unwrap(), style(Transfer::Srgb), part.tight());
    let layout = Layout::tight(12, 16, Channels::Rgba, SampleType::U8);
    let mut wanted = vec![0; tight.len()];
    loaded()
        .run("direct", None, |network, progress| {
            let method = Method::Network { network, style: &style };
            let job = Job::new(View::new(&tight, layout)?, &labels, method);
            restyle(&job, &mut ViewMut::new(&mut wanted, layout)?, progress)
        })
        .unwrap();
    assert!(output.tight() == wanted);
    host.end();
}

#[test]
fn strengths_coupling_method_and_target_labels_are_the_librarys() {
    let (width, height) = (48, 32);
    let host = ready(GENERAL);
    let mut source = Picture::new(width, height, FLOAT, RGBA);
    paint(&mut source, &colors(&map(width, height), 0.0, 3), false);
    host.still("Source", &source);
    host.still("Labels", &plain(&map(width, height)));
    host.set_value("strength", 0.75);
    host.set_value("class1", 0.5);
    host.set_value("class2", 0.0);
    host.set_value("coupling", 0.25);
    let (status, output) = host.render(0.0, blank(&source));
    assert_eq!(status, kOfxStatOK, "{:?}", persistent());
    let options = Options { strength: 0.75, coupling: 0.25, ..Options::default() };
    let classes = [(0, 1.0), (1, 0.5), (2, 0.0)];
    let style = style(Transfer::Srgb);
    let (tight, layout) = (source.tight(), Layout::tight(width, height, Channels::Rgba, SampleType::F32));
    let labels = map(width, height);
    let target =
        LabelMap::new(width, height, labels.indices().iter().map(|&i| (i + 1) % 3).collect()).unwrap();
    let library =
        |statistics: bool, target: Option<&LabelMap>, options: Options, classes: &[(usize, f32)]| {
            loaded()
                .run("direct", None, |network, progress| {
                    let method = match statistics {
                        true => Method::Statistics(style.statistics()),
                        false => Method::Network { network, style: &style },
                    };
                    let mut result = vec![0; tight.len()];
                    let job = Job::new(View::new(&tight, layout)?, &labels, method);
                    let job = Job { options, classes, target_labels: target, ..job };
                    restyle(&job, &mut ViewMut::new(&mut result, layout)?, progress)?;
                    Ok(result)
                })
                .unwrap()
        };
    assert!(output.tight() == library(false, None, options, &classes));

    host.set_value("method", 1);
    host.set_value("coupling", 0.0);
    let (status, output) = host.render(0.0, blank(&source));
    assert_eq!(status, kOfxStatOK, "{:?}", persistent());
    assert!(output.tight() == library(true, None, Options { coupling: 0.0, ..options }, &classes));

    // A style file serves both methods; target labels come from a file.
    for (method, file) in [(1, "style"), (0, "style")] {
        let path = folder().join(file);
        style.save(loaded().model(), &path).unwrap();
        host.disconnect("Reference");
        host.set_value("styleFile", &*path);
        host.set_value("method", method);
        let (status, output) = host.render(0.0, blank(&source));
        assert_eq!(status, kOfxStatOK, "{:?}", persistent());
        assert!(output.tight() == library(method == 1, None, Options { coupling: 0.0, ..options }, &classes));
    }
    let path = folder().join("target.png");
    target.write_png(&path, loaded().model().classes()).unwrap();
    host.set_value("targetLabelsFile", &*path);
    host.set_value("morph", 0.5);
    let (status, output) = host.render(0.0, blank(&source));
    assert_eq!(status, kOfxStatOK, "{:?}", persistent());
    let options = Options { coupling: 0.0, morph: 0.5, ..options };
    assert!(output.tight() == library(false, Some(&target), options, &classes));
    host.end();
}

#[test]
fn at_strength_0_the_host_hears_that_there_is_nothing_to_do_and_a_render_copies() {
    for context in [GENERAL, FILTER] {
        let host = ready(context);
        let mut source = Picture::new(30, 20, BYTE, RGBA);
        source.premultiplied = true;
        paint(&mut source, &colors(&map(30, 20), 0.0, 3), true);
        host.still("Source", &source);
        assert_eq!(host.ask(kOfxImageEffectActionIsIdentity, 2.0).0, kOfxStatReplyDefault);
        host.set_value("strength", 0.0);
        let (status, answer) = host.ask(kOfxImageEffectActionIsIdentity, 2.0);
        assert_eq!(status, kOfxStatOK);
        assert!(matches!(&answer["OfxPropName"][0], Value::Text(t) if t.to_str() == Ok("Source")));
        assert!(matches!(answer["OfxPropTime"][0], Value::Double(2.0)));
        let (status, output) = host.render(0.0, blank(&source));
        assert_eq!((status, output.tight() == source.tight()), (kOfxStatOK, true));
        host.end();
    }
}

/// Of every frame, and each call of a host may cross a process.
#[test]
fn what_hosts_ask_before_each_frame_reads_no_more_parameters_than_it_needs() {
    let host = ready(GENERAL);
    host.still("Source", &Picture::new(30, 20, BYTE, RGBA));
    let cost = |action| {
        let before = calls();
        host.ask(action, 2.0);
        calls() - before
    };
    let identity = cost(kOfxImageEffectActionIsIdentity);
    assert!(identity < 10, "{identity} calls");
    for action in [kOfxImageEffectActionGetRegionsOfInterest, kOfxImageEffectActionGetFramesNeeded] {
        let calls = cost(action);
        assert!(calls < 100, "{action:?}: {calls} calls");
    }
    host.end();
}

#[test]
fn the_result_is_where_the_source_is_and_needs_all_of_every_clip() {
    let host = ready(GENERAL);
    let mut source = Picture::new(30, 20, BYTE, RGBA);
    (source.at, source.aspect) = ((4, -6), 2.0);
    host.still("Source", &source);
    let numbers = |v: &[Value]| -> Vec<f64> {
        v.iter().map(|v| if let Value::Double(d) = v { *d } else { panic!("{v:?}") }).collect()
    };
    let (status, answer) = host.ask(kOfxImageEffectActionGetRegionOfDefinition, 0.0);
    assert_eq!(status, kOfxStatOK);
    let region = [8.0, -6.0, 68.0, 14.0];
    assert_eq!(numbers(&answer["OfxImageEffectPropRegionOfDefinition"]), region);
    let (status, answer) = host.ask(kOfxImageEffectActionGetRegionsOfInterest, 0.0);
    assert_eq!(status, kOfxStatOK);
    assert_eq!(numbers(&answer["OfxImageClipPropRoI_Source"]), region);
    assert_eq!(numbers(&answer["OfxImageClipPropRoI_Reference"]), [0.0, 0.0, 37.0, 21.0]);
    assert!(!answer.contains_key("OfxImageClipPropRoI_Mask"), "it is not connected");

    let (_, answer) = host.ask(kOfxImageEffectActionGetFramesNeeded, 9.0);
    assert_eq!(numbers(&answer["OfxImageClipPropFrameRange_Source"]), [9.0, 9.0]);
    assert_eq!(numbers(&answer["OfxImageClipPropFrameRange_Reference"]), [1.0, 1.0]);
    host.set_value("overTime", 2);
    host.set_value("radius", 3);
    let (_, answer) = host.ask(kOfxImageEffectActionGetFramesNeeded, 9.0);
    assert_eq!(numbers(&answer["OfxImageClipPropFrameRange_Source"]), [6.0, 12.0]);
    host.set_value("overTime", 1);
    host.set_value("lockFrame", 2);
    host.set_value("referenceTime", 1);
    let (_, answer) = host.ask(kOfxImageEffectActionGetFramesNeeded, 9.0);
    assert_eq!(numbers(&answer["OfxImageClipPropFrameRange_Source"]), [9.0, 9.0, 2.0, 2.0]);
    assert_eq!(numbers(&answer["OfxImageClipPropFrameRange_Reference"]), [9.0, 9.0]);
    let (status, answer) = host.ask(kOfxImageEffectActionGetClipPreferences, 0.0);
    assert!(status == kOfxStatOK && matches!(answer["OfxImageEffectFrameVarying"][0], Value::Int(0)));
    host.end();
}

#[test]
fn a_references_look_is_taken_once_for_all_frames_and_instances_and_anew_when_it_changes() {
    let host = ready(GENERAL);
    let mut source = Picture::new(30, 20, FLOAT, RGBA);
    paint(&mut source, &colors(&map(30, 20), 0.0, 3), false);
    let prepare = |host: &Host| {
        host.set_value("model", &*model_file());
        host.set_value("device", 1);
        host.still("Source", &source);
        host.still("Labels", &plain(&map(30, 20)));
        host.still("ReferenceLabels", &plain(&map(REFERENCE.0, REFERENCE.1)));
        // The clip moves; its look is that of one frame.
        host.connect("Reference", |time| {
            let mut frame = reference();
            paint(&mut frame, &colors(&map(REFERENCE.0, REFERENCE.1), 1.0, 100 + time as u32), false);
            Some(frame)
        });
    };
    prepare(&host);
    let taken = || LOOKS_TAKEN.load(Ordering::Relaxed);
    let first = taken();
    let mut frames = Vec::new();
    for time in 0..5 {
        let (status, output) = host.render(f64::from(time), blank(&source));
        assert_eq!(status, kOfxStatOK, "{:?}", persistent());
        frames.push(output.tight());
    }
    assert!(frames.iter().all(|f| f == &frames[0]));
    let mut host = host;
    let other = host.instance();
    assert_eq!(host.create(GENERAL), kOfxStatOK);
    prepare(&host);
    assert_eq!(host.render(7.0, blank(&source)).0, kOfxStatOK);
    assert_eq!(taken(), first + 1, "one look for six frames of two instances");

    host.set_value("referenceTime", 1);
    assert_eq!(host.render(8.0, blank(&source)).0, kOfxStatOK);
    assert_eq!(host.render(9.0, blank(&source)).0, kOfxStatOK);
    assert_eq!(taken(), first + 3, "each frame's own");
    host.set_value("referenceTime", 0);
    host.set_value("referenceFrame", 3);
    assert_eq!(host.render(9.0, blank(&source)).0, kOfxStatOK);
    assert_eq!(taken(), first + 4);

    assert_eq!(host.act(kOfxActionPurgeCaches, host.instance(), 0, 0), kOfxStatOK);
    assert_eq!(host.render(9.0, blank(&source)).0, kOfxStatOK);
    assert_eq!(taken(), first + 5, "nothing is left after a purge");
    assert_eq!(host.changed(kOfxTypeParameter, "reload"), kOfxStatOK);
    assert!(matches!(host.value("reloads"), Value::Int(1)));
    assert_eq!(host.render(9.0, blank(&source)).0, kOfxStatOK);
    assert_eq!(taken(), first + 6, "nor after a reload");
    assert_eq!(host.act(kOfxActionDestroyInstance, other, 0, 0), kOfxStatOK);
    host.end();
}

#[test]
fn without_a_reference_the_look_is_the_seeds_where_the_model_draws_looks() {
    let host = ready(GENERAL);
    let mut source = Picture::new(30, 20, FLOAT, RGBA);
    paint(&mut source, &colors(&map(30, 20), 0.0, 3), false);
    host.still("Source", &source);
    host.still("Labels", &plain(&map(30, 20)));
    host.disconnect("Reference");
    assert_eq!(host.render(0.0, blank(&source)).0, kOfxStatFailed);
    assert!(persistent().unwrap().contains("no look is given"), "{:?}", persistent());
    host.set_value("model", &*tiny("drawing.safetensors", true));
    let mut looks = Vec::new();
    for seed in [0, 1, 0] {
        host.set_value("seed", seed);
        let (status, output) = host.render(0.0, blank(&source));
        assert_eq!(status, kOfxStatOK, "{:?}", persistent());
        looks.push(output.tight());
    }
    assert!(looks[0] == looks[2] && looks[0] != looks[1] && looks[0] != source.tight());
    host.end();
}

#[test]
fn a_labeler_labels_what_has_no_labels_and_all_where_that_is_asked_for() {
    let path = tiny_with("labeling.safetensors", false, Some(LabelerSizes { widths: vec![8, 8, 8] }));
    let options = ContextOptions { device: Choice::Cpu, ..ContextOptions::default() };
    let loaded = Context::new(options).unwrap().load(&Model::open(&path).unwrap()).unwrap();
    let (width, height) = (40, 30);
    let mut source = Picture::new(width, height, FLOAT, RGBA);
    paint(&mut source, &colors(&map(width, height), 0.0, 3), false);
    let tight = source.tight();
    let layout = Layout::tight(width, height, Channels::Rgba, SampleType::F32);
    let reference_tight = reference().tight();
    let of_reference = Layout::tight(REFERENCE.0, REFERENCE.1, Channels::Rgb, SampleType::F32);
    let (wanted, proposed) = loaded
        .run("direct", None, |network, progress| {
            let content = View::new(&tight, layout)?;
            let reference = View::new(&reference_tight, of_reference)?;
            let labels = label(network, &content, progress)?.labels;
            let reference_labels = label(network, &reference, progress)?.labels;
            let style = Style::extract(network, reference, &reference_labels, progress)?;
            let mut result = vec![0; tight.len()];
            let job = Job::new(content, &labels, Method::Network { network, style: &style });
            restyle(&job, &mut ViewMut::new(&mut result, layout)?, progress)?;
            Ok((result, labels))
        })
        .unwrap();
    assert!(proposed != map(width, height));
    let host = ready(GENERAL);
    host.set_value("model", &*path);
    host.still("Source", &source);
    host.disconnect("ReferenceLabels");
    // Neither has labels; then both have, but are not to be looked at.
    for automatic in [0, 1] {
        host.set_value("labels", automatic);
        let (status, output) = host.render(0.0, blank(&source));
        assert_eq!(status, kOfxStatOK, "{:?}", persistent());
        assert!(output.tight() == wanted, "{automatic}");
        host.still("Labels", &plain(&map(width, height)));
        host.still("ReferenceLabels", &plain(&map(REFERENCE.0, REFERENCE.1)));
    }
    host.set_value("labels", 0);
    let (status, output) = host.render(0.0, blank(&source));
    assert!(status == kOfxStatOK && output.tight() != wanted);
    host.end();
}

#[test]
fn just_applied_it_takes_the_look_of_its_sample_and_says_what_it_lacks() {
    let mut host = Host::new(&Form::default());
    host.begin(GENERAL);
    let classes = Model::embedded().unwrap().classes().to_vec();
    let (width, height) = (64, 48);
    let mut source = Picture::new(width, height, BYTE, RGBA);
    paint(&mut source, &colors(&map(width, height), 0.3, 3), false);
    host.still("Source", &source);
    let labels: Vec<f32> = map(width, height)
        .indices()
        .iter()
        .flat_map(|&i| classes[usize::from(i)].color.map(|v| f32::from(v) / 255.0))
        .collect();
    let mut picture = Picture::new(width, height, BYTE, RGBA);
    paint(&mut picture, &labels, false);
    host.still("Labels", &picture);
    let (status, output) = host.render(0.0, blank(&source));
    assert_eq!(status, kOfxStatOK, "{:?}", persistent());
    assert!(output.tight() != source.tight());

    // Without labels: the labeler's, where the model has one.
    host.disconnect("Labels");
    let (status, _) = host.render(0.0, blank(&source));
    if Model::embedded().unwrap().metadata().network.labeler.is_some() {
        assert_eq!(status, kOfxStatOK, "{:?}", persistent());
    } else {
        assert_eq!(status, kOfxStatFailed);
        assert!(persistent().unwrap().contains("no labeler"), "{:?}", persistent());
    }
    host.end();
}

#[test]
fn strengths_have_the_names_of_the_models_classes() {
    let mut host = Host::new(&Form::default());
    host.begin(GENERAL);
    let label = |host: &Host, i: usize| match host.of_parameter(&format!("class{i}"), "OfxPropLabel") {
        Some(Value::Text(t)) => t.to_str().unwrap().to_owned(),
        v => panic!("{v:?}"),
    };
    let hidden = |host: &Host, i: usize| {
        matches!(host.of_parameter(&format!("class{i}"), "OfxParamPropSecret"), Some(Value::Int(1)))
    };
    let inside = Model::embedded().unwrap();
    for (i, class) in inside.classes().iter().enumerate() {
        assert_eq!(label(&host, i), class.name);
        assert!(!hidden(&host, i));
    }
    assert!(hidden(&host, inside.classes().len()));
    host.set_value("model", &*model_file());
    assert_eq!(host.changed(kOfxTypeParameter, "model"), kOfxStatOK);
    let shown: Vec<String> = (0..64).filter(|&i| !hidden(&host, i)).map(|i| label(&host, i)).collect();
    assert_eq!(shown, ["sky", "land", "sea"]);
    host.end();
}

#[test]
fn memory_that_is_not_allowed_is_a_memory_error() {
    let host = ready(GENERAL);
    let mut source = Picture::new(30, 20, FLOAT, RGBA);
    paint(&mut source, &colors(&map(30, 20), 0.0, 3), false);
    host.still("Source", &source);
    host.still("Labels", &plain(&map(30, 20)));
    host.set_value("memoryLimit", 1);
    let (status, output) = host.render(0.0, blank(&source));
    assert_eq!(status, kOfxStatErrMemory);
    assert!(persistent().unwrap().contains("bytes of memory"), "{:?}", persistent());
    assert!(output.tight().iter().all(|&b| b == CANARY));
    host.set_value("memoryLimit", 4096);
    assert_eq!(host.render(0.0, blank(&source)).0, kOfxStatOK);
    host.end();
}

#[test]
fn hosts_that_render_in_place_get_the_same_pixels() {
    let host = ready(GENERAL);
    for premultiplied in [false, true] {
        let mut source = Picture::new(30, 20, FLOAT, RGBA);
        source.premultiplied = premultiplied;
        paint(&mut source, &colors(&map(30, 20), 0.0, 3), true);
        host.still("Source", &source);
        host.still("Labels", &plain(&map(30, 20)));
        let (status, apart) = host.render(0.0, blank(&source));
        assert_eq!(status, kOfxStatOK, "{:?}", persistent());
        render_in_place(true);
        let (status, together) = host.render(0.0, blank(&source));
        render_in_place(false);
        assert_eq!(status, kOfxStatOK);
        assert!(apart.tight() == together.tight());
    }
    host.end();
}

/// Whichever call of the host fails, the plug-in answers, hands everything back, and never writes half a picture.
#[test]
fn any_call_of_a_hostile_host_may_fail() {
    let run = |host: &mut Host, source: &Picture| -> Option<(OfxStatus, Vec<u8>)> {
        if host.load() != kOfxStatOK || host.describe(GENERAL) != kOfxStatOK {
            return None;
        }
        if host.create(GENERAL) != kOfxStatOK {
            return None;
        }
        host.set_value("model", &*model_file());
        host.set_value("device", 1);
        host.still("Reference", &reference());
        host.still("ReferenceLabels", &plain(&map(REFERENCE.0, REFERENCE.1)));
        host.still("Source", source);
        host.still("Labels", &plain(&map(30, 20)));
        host.ask(kOfxImageEffectActionIsIdentity, 0.0);
        host.ask(kOfxImageEffectActionGetRegionOfDefinition, 0.0);
        host.ask(kOfxImageEffectActionGetRegionsOfInterest, 0.0);
        host.ask(kOfxImageEffectActionGetFramesNeeded, 0.0);
        let (status, output) = host.render(0.0, blank(source));
        host.act(kOfxActionDestroyInstance, host.instance(), 0, 0);
        Some((status, output.tight()))
    };
    let mut source = Picture::new(30, 20, FLOAT, RGBA);
    paint(&mut source, &colors(&map(30, 20), 0.0, 3), false);
    let mut host = Host::new(&Form::default());
    let (status, whole) = run(&mut host, &source).unwrap();
    assert_eq!(status, kOfxStatOK);
    let all = calls();
    drop(host);
    let (mut well, mut failed, mut not_described) = (0, 0, 0);
    // Every call of the actions about frames, and every seventh of the many that describe.
    let mut n = 0;
    while n < all {
        let mut host = Host::new(&Form::default());
        fail(move |_, _| false);
        let at = n;
        let counter = std::sync::atomic::AtomicUsize::new(0);
        fail(move |_, _| counter.fetch_add(1, Ordering::Relaxed) == at);
        match run(&mut host, &source) {
            None => not_described += 1,
            Some((status, output)) => {
                let untouched = output.iter().all(|&b| b == CANARY);
                if status == kOfxStatOK {
                    assert!(!untouched, "call {n}: a finished render that wrote nothing");
                    well += 1;
                } else {
                    assert!(untouched, "call {n}: a failed render that wrote");
                    failed += 1;
                }
            }
        }
        assert_eq!(breaches(), Vec::<String>::new(), "call {n}");
        n += if n + 400 < all { 7 } else { 1 };
    }
    println!(
        "{all} calls: {well} failures done without, {failed} failed renders, {not_described} failed descriptions"
    );
    assert!(well > 50 && failed > 10 && not_described > 10);
    // All calls of a kind failing at once.
    for what in [
        "propSet",
        "propGet",
        "propGetDimension",
        "paramGetHandle",
        "paramGetValueAtTime",
        "clipGetHandle",
        "clipGetImage",
        "getPropertySet",
        "getParamSet",
        "clipDefine",
        "paramDefine",
        "clipGetRegionOfDefinition",
        "setPersistentMessage",
    ] {
        let mut host = Host::new(&Form::default());
        fail(move |function, _| function == what);
        if let Some((status, output)) = run(&mut host, &source) {
            assert!(
                status != kOfxStatOK || output == whole || !output.iter().all(|&b| b == CANARY),
                "{what}"
            );
        }
        assert_eq!(breaches(), Vec::<String>::new(), "{what}");
    }
    // And a host that has come to itself is served as before.
    let mut host = Host::new(&Form::default());
    assert_eq!(run(&mut host, &source).unwrap(), (kOfxStatOK, whole));
}

#[test]
fn hosts_without_what_is_optional_are_served_and_those_without_what_is_needed_are_told() {
    let mut source = Picture::new(30, 20, FLOAT, RGBA);
    paint(&mut source, &colors(&map(30, 20), 0.0, 3), false);
    for without in [
        vec!["OfxMessageSuite 2"],
        vec!["OfxMessageSuite 2", "OfxMessageSuite 1", "OfxProgressSuite 2"],
        vec!["OfxProgressSuite 2", "OfxProgressSuite 1"],
    ] {
        let host = ready_as(GENERAL, &Form { without: without.clone(), ..Form::default() });
        host.still("Source", &source);
        assert_eq!(host.render(0.0, blank(&source)).0, kOfxStatFailed, "there are no labels");
        assert_eq!(messages().len(), usize::from(without == ["OfxMessageSuite 2"]));
        host.still("Labels", &plain(&map(30, 20)));
        assert_eq!(host.render(0.0, blank(&source)).0, kOfxStatOK);
        host.end();
    }
    for without in ["OfxPropertySuite 1", "OfxImageEffectSuite 1", "OfxParameterSuite 1"] {
        let host = Host::new(&Form { without: vec![without], ..Form::default() });
        assert_eq!(host.load(), kOfxStatErrMissingHostFeature, "{without}");
    }
    // Actions that it does not know are the host's to do.
    let host = ready(GENERAL);
    assert_eq!(host.act(c"OfxActionBeginInstanceEdit", host.instance(), 0, 0), kOfxStatReplyDefault);
    assert_eq!(host.changed(kOfxTypeParameter, "strength"), kOfxStatReplyDefault);
    host.end();
}

/// With the model inside, which takes its time.
#[test]
fn a_host_that_aborts_waits_less_than_a_tenth_of_a_second_and_sees_progress_until_then() {
    let mut host = Host::new(&Form::default());
    host.begin(GENERAL);
    let classes = Model::embedded().unwrap().classes().to_vec();
    let (width, height) = (1920, 1080);
    let mut source = Picture::new(width, height, BYTE, RGBA);
    let bands = map(width, height);
    paint(&mut source, &colors(&bands, 0.3, 3), false);
    host.still("Source", &source);
    let labels: Vec<f32> = bands
        .indices()
        .iter()
        .flat_map(|&i| classes[usize::from(i)].color.map(|v| f32::from(v) / 255.0))
        .collect();
    let mut picture = Picture::new(width, height, BYTE, RGB);
    paint(&mut picture, &labels, false);
    host.still("Labels", &picture);
    let start = Instant::now();
    assert_eq!(host.render(0.0, blank(&source)).0, kOfxStatOK);
    let whole = start.elapsed();
    let mut late = Vec::new();
    for part in [0.2, 0.5, 0.8] {
        let at = Instant::now() + whole.mul_f64(part);
        abort_at(Some(at));
        // A new look each time, so that all of the work is there to be aborted.
        host.set_value("strength", 1.0 - part / 10.0);
        let (status, output) = host.render(0.0, blank(&source));
        if Instant::now() > at && status != kOfxStatOK {
            late.push(at.elapsed());
            assert_eq!(status, kOfxStatFailed);
            assert!(output.tight().iter().all(|&b| b == CANARY));
            assert_eq!(persistent(), None, "an abort is no error to tell of");
        }
    }
    abort_at(None);
    let (shares, asked) = progress();
    println!(
        "a render of {whole:?}; aborts came back after {late:?}; {asked} times asked, {} reports",
        shares.len()
    );
    assert!(!late.is_empty());
    // Of several, since this machine may be busy with others' work: a wait of its own would be late each time.
    assert!(*late.iter().min().unwrap() < Duration::from_millis(100), "{late:?}");
    assert!(shares.is_sorted() || shares.len() < 2 || late.len() > 1);
    assert_eq!(host.render(0.0, blank(&source)).0, kOfxStatOK, "it goes on after an abort");
    host.end();
}

#[test]
fn changes_over_time_are_each_frames_locked_or_smoothed() {
    let (width, height) = (48, 32);
    let frame = move |time: f64| {
        let mut picture = Picture::new(width, height, FLOAT, RGBA);
        let mut rgb = colors(&map(width, height), 0.0, 10 + time as u32);
        rgb.iter_mut().for_each(|v| *v *= 1.0 - 0.04 * time as f32);
        paint(&mut picture, &rgb, false);
        picture
    };
    let (labels, style) = (map(width, height), style(Transfer::Srgb));
    let layout = Layout::tight(width, height, Channels::Rgba, SampleType::F32);
    // The library's answer: the mean of these frames' changes.
    let library = |time: f64, weights: &[(f32, f64)]| {
        loaded()
            .run("direct", None, |network, _| {
                let method = Method::Network { network, style: &style };
                let of = |time: f64| frame(time).tight();
                let change = |&(weight, time): &(f32, f64)| {
                    let tight = of(time);
                    let job = Job::new(View::new(&tight, layout)?, &labels, method);
                    Ok((weight, ColorChange::of(&job, Progress::NONE)?))
                };
                let changes = weights.iter().map(change).collect::<ca2sis::Result<Vec<_>>>()?;
                let changes: Vec<(f32, &ColorChange)> = changes.iter().map(|(w, c)| (*w, c)).collect();
                let own = changes.iter().zip(weights).find(|(_, w)| w.1 == time).map(|((_, c), _)| *c);
                let tight = of(time);
                let job = Job::new(View::new(&tight, layout)?, &labels, method);
                let mut result = vec![0; tight.len()];
                restyle_by(&job, &changes, own, &mut ViewMut::new(&mut result, layout)?, Progress::NONE)?;
                Ok(result)
            })
            .unwrap()
    };
    let start = |form: &Form| {
        let host = ready_as(GENERAL, form);
        host.connect("Source", move |time| (0.0..=6.0).contains(&time).then(|| frame(time)));
        host.still("Labels", &plain(&map(width, height)));
        host
    };
    let host = start(&Form::default());
    let render = |host: &Host, time: f64| {
        let (status, output) = host.render(time, blank(&frame(time)));
        assert_eq!(status, kOfxStatOK, "{:?}", persistent());
        output.tight()
    };
    assert!(render(&host, 3.0) == library(3.0, &[(1.0, 3.0)]), "one alone is the frame's own");
    host.set_value("overTime", 1);
    host.set_value("lockFrame", 0);
    assert!(render(&host, 3.0) == library(3.0, &[(1.0, 0.0)]));
    host.set_value("overTime", 2);
    host.set_value("radius", 2);
    let around = [(3.0, 3.0), (1.0, 1.0), (2.0, 2.0), (2.0, 4.0), (1.0, 5.0)];
    assert!(render(&host, 3.0) == library(3.0, &around));
    // At the ends of the clip there are fewer; and the order of rendering makes no difference.
    assert!(render(&host, 0.0) == library(0.0, &[(3.0, 0.0), (2.0, 1.0), (1.0, 2.0)]));
    for time in [6.0, 5.0, 4.0, 3.0] {
        let out = render(&host, time);
        assert!(time != 3.0 || out == library(3.0, &around));
    }
    host.end();

    // A host that has no other frames: those that were rendered before.
    let host = start(&Form { other_times: false, ..Form::default() });
    host.set_value("overTime", 2);
    host.set_value("radius", 2);
    for time in [0.0, 1.0, 2.0] {
        render(&host, time);
    }
    assert!(render(&host, 3.0) == library(3.0, &[(3.0, 3.0), (1.0, 1.0), (2.0, 2.0)]));
    host.set_value("overTime", 1);
    host.set_value("lockFrame", 2);
    assert!(render(&host, 3.0) == library(3.0, &[(1.0, 2.0)]));
    // With a mask, what was made without one is not taken on: it is as in a host that never rendered without.
    let files = files(width, height);
    host.set_value("maskFile", &*files.mask);
    let masked = render(&host, 3.0);
    host.end();
    let host = start(&Form { other_times: false, ..Form::default() });
    host.set_value("overTime", 1);
    host.set_value("lockFrame", 2);
    host.set_value("maskFile", &*files.mask);
    assert!(masked == render(&host, 3.0));
    host.end();
}

/// What would be taken in its place is another picture: the render is to fail, but for a mask, which covers nothing then.
#[test]
fn an_input_without_a_picture_at_a_frame_is_not_taken_for_one_that_is_not_connected() {
    let (width, height) = (48, 32);
    let host = ready(GENERAL);
    let files = files(width, height);
    let mut source = Picture::new(width, height, BYTE, RGBA);
    paint(&mut source, &colors(&map(width, height), 0.0, 3), false);
    host.still("Source", &source);
    host.still("Labels", &plain(&map(width, height)));
    host.set_value("labelsFile", &*files.labels);
    host.set_value("referenceFile", &*files.reference);
    host.set_value("referenceLabelsFile", &*files.reference_labels);
    host.set_value("referenceFrame", 4);
    for (clip, frame) in [("Labels", 5), ("ReferenceLabels", 4), ("Reference", 4)] {
        host.connect(clip, |_| None);
        let (status, output) = host.render(5.0, blank(&source));
        assert_eq!(status, kOfxStatFailed, "{clip}");
        let said = persistent().unwrap().replace(' ', "");
        assert!(said.contains(&format!("nopictureofthe{clip}atframe{frame}:")), "{said}");
        assert!(output.tight().iter().all(|&b| b == CANARY), "{clip}");
        host.disconnect(clip);
        let (status, output) = host.render(5.0, blank(&source));
        assert_eq!(status, kOfxStatOK, "{clip}: {:?}", persistent());
        assert!(output.tight() == expected(&source, Transfer::Srgb), "{clip}: the file's");
    }

    host.set_value("maskFile", &*files.mask);
    host.connect("Mask", |_| None);
    let (status, output) = host.render(5.0, blank(&source));
    assert_eq!(status, kOfxStatOK, "{:?}", persistent());
    assert!(output.tight() == source.tight(), "nothing is covered");
    // Labels of what is not covered are not asked for, nor those of what does not change.
    host.connect("Labels", |_| None);
    assert_eq!(host.render(5.0, blank(&source)).0, kOfxStatOK, "{:?}", persistent());
    host.disconnect("Mask");
    assert_eq!(host.render(5.0, blank(&source)).0, kOfxStatFailed);
    host.set_value("strength", 0.0);
    assert_eq!(host.render(5.0, blank(&source)).0, kOfxStatOK, "{:?}", persistent());
    host.end();

    // Where the host does not say what is connected, a picture that is not there is nothing that is connected.
    let host = ready_as(GENERAL, &Form { says_connected: false, ..Form::default() });
    host.still("Source", &source);
    host.set_value("labelsFile", &*files.labels);
    let (status, output) = host.render(5.0, blank(&source));
    assert_eq!(status, kOfxStatOK, "{:?}", persistent());
    assert!(output.tight() == expected(&source, Transfer::Srgb));
    host.end();
}

#[test]
fn frames_around_that_lack_something_do_not_count_and_a_locked_one_that_does_is_told_of() {
    let (width, height) = (48, 32);
    let frame = move |time: f64| {
        let mut picture = Picture::new(width, height, FLOAT, RGBA);
        paint(&mut picture, &colors(&map(width, height), 0.0, 10 + time as u32), false);
        picture
    };
    let mut mask = Picture::new(width, height, FLOAT, ALPHA);
    mask.fill(&store(SampleType::F32, &vec![1.0; width * height]));
    let host = ready(GENERAL);
    for time in [3, 4] {
        let path = folder().join(format!("around.{time:04}.png"));
        map(width, height).write_png(path, loaded().model().classes()).unwrap();
        let path = folder().join(format!("covered.{time:04}.png"));
        File::new(width, height, 1, Samples::U8(vec![255; width * height])).unwrap().write(path).unwrap();
    }
    let source = |first: f64, last: f64| {
        host.connect("Source", move |time| (first..=last).contains(&time).then(|| frame(time)));
    };
    let render = || {
        let (status, output) = host.render(3.0, blank(&frame(3.0)));
        assert_eq!(status, kOfxStatOK, "{:?}", persistent());
        output.tight()
    };
    host.still("Labels", &plain(&map(width, height)));
    source(3.0, 4.0);
    let alone = render();
    host.set_value("overTime", 2);
    host.set_value("radius", 2);
    let both = render();
    assert!(both != alone);

    // There are more frames, but only two of them have labels, or a mask.
    source(0.0, 6.0);
    assert!(render() != both);
    let locked_to_0 = |lacks: &str| {
        host.set_value("overTime", 1);
        host.set_value("lockFrame", 0);
        let (status, output) = host.render(3.0, blank(&frame(3.0)));
        assert_eq!(status, kOfxStatFailed, "{lacks}");
        let said = persistent().unwrap();
        assert!(said.contains("locked to frame 0") && said.contains(lacks), "{said}");
        assert!(output.tight().iter().all(|&b| b == CANARY), "{lacks}");
        host.set_value("lockFrame", 4);
        assert!(render() != both);
        host.set_value("overTime", 2);
    };
    host.disconnect("Labels");
    host.set_value("labelsFile", &*folder().join("around.####.png"));
    assert!(render() == both, "files of labels");
    locked_to_0("around.0000.png");
    host.set_value("labelsFile", "");
    let labels = plain(&map(width, height));
    host.connect("Labels", move |time| (3.0..=4.0).contains(&time).then(|| labels.clone()));
    assert!(render() == both, "a clip of labels");
    locked_to_0("the Labels at frame 0");
    host.still("Labels", &plain(&map(width, height)));

    source(3.0, 4.0);
    host.set_value("maskFile", &*folder().join("covered.####.png"));
    let both = render();
    locked_to_0("the Source at frame 0");
    source(0.0, 6.0);
    assert!(render() == both, "files of masks");
    locked_to_0("covered.0000.png");
    host.set_value("maskFile", "");
    host.connect("Mask", move |time| (3.0..=4.0).contains(&time).then(|| mask.clone()));
    assert!(render() == both, "a clip of masks");
    locked_to_0("the Mask at frame 0");
    host.end();
}

#[test]
fn the_log_of_a_short_life() {
    let host = ready(GENERAL);
    let mut source = Picture::new(30, 20, FLOAT, RGBA);
    paint(&mut source, &colors(&map(30, 20), 0.0, 3), false);
    host.still("Source", &source);
    host.still("Labels", &plain(&map(30, 20)));
    host.ask(kOfxImageEffectActionGetClipPreferences, 0.0);
    host.ask(kOfxImageEffectActionGetRegionOfDefinition, 0.0);
    host.ask(kOfxImageEffectActionIsIdentity, 0.0);
    host.render(0.0, blank(&source));
    host.end();
    let log = log();
    log.iter().for_each(|line| println!("{line}"));
    assert!(log.iter().all(|line| line.ends_with("-> 0") || line.ends_with("-> 14")), "{log:?}");
}
