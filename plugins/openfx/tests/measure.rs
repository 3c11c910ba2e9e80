//! What the plug-in costs beside the library alone. Run by hand: `cargo test --release -p ca2sis-openfx --test measure -- --ignored
//! --nocapture --test-threads=1`.
#![cfg(target_os = "linux")]

mod host;

use std::time::Instant;

use ca2sis::context::{Context, Options};
use ca2sis::device::Choice;
use ca2sis::image::{Channels, LabelMap, Layout, Picture as File, SampleType, View, ViewMut};
use ca2sis::model::Model;
use ca2sis::restyle::{Job, Method, restyle};
use ca2sis_openfx_bindings::*;
use host::{Form, GENERAL, Host, Picture};

const SIZE: (usize, usize) = (1920, 1080);

/// The sample at a size, and its labels, as class indices and as a picture.
fn scene(depth: &'static std::ffi::CStr, size: (usize, usize)) -> (Picture, LabelMap, Picture) {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/sample");
    let content = File::read(format!("{root}/content.png")).unwrap().to_rgb_f32().resized(size.0, size.1);
    let classes = Model::embedded().unwrap().classes().to_vec();
    let map = LabelMap::read(format!("{root}/labels.png"), &classes).unwrap().resize_nearest(size.0, size.1);
    let mut source = Picture::new(size.0, size.1, depth, c"OfxImageComponentRGBA");
    let rgba = content.pixels.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 1.0]);
    let bytes: Vec<u8> = match source.sample() {
        1 => rgba.map(|v| (v * 255.0 + 0.5) as u8).collect(),
        _ => rgba.flat_map(|v| v.to_ne_bytes()).collect(),
    };
    source.fill(&bytes);
    let mut labels = Picture::new(size.0, size.1, c"OfxBitDepthByte", c"OfxImageComponentRGB");
    labels.fill(&map.indices().iter().flat_map(|&i| classes[usize::from(i)].color).collect::<Vec<u8>>());
    (source, map, labels)
}

fn processor_seconds() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the place for the answer, which is plain numbers.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let of = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 * 1e-6;
    of(usage.ru_utime) + of(usage.ru_stime)
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

#[test]
#[ignore = "a measurement"]
fn time_of_a_1080p_frame_beside_the_library_alone() {
    for (depth, sample) in [(c"OfxBitDepthByte", SampleType::U8), (c"OfxBitDepthFloat", SampleType::F32)] {
        let (source, map, labels) = scene(depth, SIZE);
        let mut host = Host::new(&Form::default());
        host.begin(GENERAL);
        host.set_value("device", 1);
        host.still("Source", &source);
        host.still("Labels", &labels);
        let options = Options { device: Choice::Cpu, ..Options::default() };
        let loaded = Context::new(options).unwrap().load(&Model::embedded().unwrap()).unwrap();
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/sample");
        let reference = File::read(format!("{root}/reference.png")).unwrap();
        let reference_labels =
            LabelMap::read(format!("{root}/reference_labels.png"), loaded.model().classes()).unwrap();
        let style = loaded.extract(reference.view(), &reference_labels, None).unwrap();
        let tight = source.tight();
        let layout = Layout::tight(SIZE.0, SIZE.1, Channels::Rgba, sample);
        let mut result = vec![0; tight.len()];
        let mut library = || {
            loaded
                .run("direct", None, |network, progress| {
                    let method = Method::Network { network, style: &style };
                    let job = Job::new(View::new(&tight, layout)?, &map, method);
                    restyle(&job, &mut ViewMut::new(&mut result, layout)?, progress)
                })
                .unwrap()
        };
        // Pictures are made and freed by the host, beyond what is measured.
        let mut blank = source.clone();
        blank.allocate();
        let frame = || assert_eq!(host.render(0.0, blank.clone()).0, kOfxStatOK);
        let time = |work: &mut dyn FnMut()| {
            let (start, before) = (Instant::now(), processor_seconds());
            work();
            (start.elapsed().as_secs_f64(), processor_seconds() - before)
        };
        // What the host itself takes to hand over pictures and to look after them, and a copy from one to the other.
        let copied = || {
            host.set_value("strength", 0.0);
            frame();
            host.set_value("strength", 1.0);
        };
        library();
        frame();
        // In turn, since other work on the machine comes and goes.
        let (mut alone, mut hosted, mut copies) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..12 {
            alone.push(time(&mut || {
                library();
            }));
            hosted.push(time(&mut || frame()));
            copies.push(time(&mut || copied()));
        }
        let median = |times: &[(f64, f64)], pick: fn(&(f64, f64)) -> f64| {
            let mut picked: Vec<f64> = times.iter().map(pick).collect();
            picked.sort_by(f64::total_cmp);
            picked[picked.len() / 2] * 1000.0
        };
        println!(
            "{depth:?}: library alone {:.0} ms ({:.0} of processors), in the host {:.0} ms ({:.0}), of which a \
             copy takes {:.0} ms ({:.0})",
            median(&alone, |t| t.0),
            median(&alone, |t| t.1),
            median(&hosted, |t| t.0),
            median(&hosted, |t| t.1),
            median(&copies, |t| t.0),
            median(&copies, |t| t.1)
        );
        host.end();
    }
}

#[test]
#[ignore = "a measurement"]
fn memory_over_500_frames() {
    let (source, _, labels) = scene(c"OfxBitDepthByte", (960, 540));
    for over_time in [0, 2] {
        let mut host = Host::new(&Form::default());
        host.begin(GENERAL);
        host.set_value("device", 1);
        host.set_value("overTime", over_time);
        // A light that comes up, so that no frame is like another.
        let frames = source.clone();
        host.connect("Source", move |time| {
            let mut frame = frames.clone();
            frame.row_mut(0)[0] = time as u8;
            frame.row_mut(1)[0] = (time / 256.0) as u8;
            Some(frame)
        });
        host.still("Labels", &labels);
        let mut sizes = Vec::new();
        for time in 0..500 {
            assert_eq!(host.render(f64::from(time), source.clone()).0, kOfxStatOK);
            if [9, 99, 199, 299, 399, 499].contains(&time) {
                sizes.push((time + 1, resident()));
            }
        }
        println!("over time {over_time}: resident MiB after frames: {sizes:?}");
        assert!(sizes[5].1 < sizes[1].1 + 32, "{sizes:?}");
        host.end();
    }
}
