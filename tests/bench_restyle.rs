//! The full-resolution path's time and memory, by statistics and with the network of the model inside: `cargo test --release --test bench_restyle --
//! --ignored --nocapture`.

use std::time::Instant;

use ca2sis::image::{Channels, LabelMap, Layout, SampleType, Transfer, View, ViewMut};
use ca2sis::model::Model;
use ca2sis::nn::Network;
use ca2sis::progress::Progress;
use ca2sis::restyle::{Job, Method, Statistics, restyle};
use ca2sis::style::Style;
use candle_core::Device;

/// Memory of this process now and at its peak, in MB; Linux only.
fn memory() -> Option<(u64, u64)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find(|l| l.starts_with(name))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
    };
    Some((field("VmRSS:")?, field("VmHWM:")?))
}

/// Seconds of processor time of this process, of all threads; Linux only. On a busy machine it says more than the clock.
fn processor_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // User and system time, in the hundredths of a second that Linux reports to programs.
    Some((fields[11].parse::<f64>().ok()? + fields[12].parse::<f64>().ok()?) / 100.0)
}

/// A table, a backdrop and a hundred discs of further classes, with grain.
fn labels(width: usize, height: usize) -> LabelMap {
    let cell = (width / 12).max(1);
    let class = |i: usize| {
        let (x, y) = (i % width, i / width);
        let (cx, cy) = (x % cell, y % cell);
        let (dx, dy) = (cx.abs_diff(cell / 2), cy.abs_diff(cell / 2));
        let disc = dx * dx + dy * dy < cell * cell / 9;
        if disc { 2 + ((x / cell + y / cell) % 6) as u8 } else { u8::from(y > height / 2) }
    };
    LabelMap::new(width, height, (0..width * height).map(class).collect()).unwrap()
}

fn measure(network: Option<&Network>, width: usize, height: usize, sample: SampleType, transfer: Transfer) {
    let labels = labels(width, height);
    let layout = Layout { transfer, ..Layout::tight(width, height, Channels::Rgba, sample) };
    let size = layout.pixel_size();
    let mut content = vec![0u8; width * height * size];
    for (i, pixel) in content.chunks_exact_mut(size).enumerate() {
        let base = 0.1 + 0.1 * f32::from(labels.indices()[i]) + 0.05 * ((i * 7919 % 1009) as f32 / 1009.0);
        for (c, bytes) in pixel.chunks_exact_mut(sample.size()).enumerate() {
            let value = base * [1.0, 0.8, 0.6, 1.0][c];
            match sample {
                SampleType::F32 => bytes.copy_from_slice(&value.to_ne_bytes()),
                _ => bytes[0] = (value * 255.0) as u8,
            }
        }
    }
    let content = View::new(&content, layout).unwrap();
    // A stripe of each class, shaded.
    let reference: Vec<u8> =
        (0..64 * 64 * 3).map(|i| (i / 1536 * 25 + i % 3 * 20 + i / 3 % 64) as u8).collect();
    let reference_labels = LabelMap::new(64, 64, (0..64 * 64).map(|i| (i / 512) as u8).collect()).unwrap();
    let reference = View::new(&reference, Layout::tight(64, 64, Channels::Rgb, SampleType::U8)).unwrap();
    let statistics = Statistics::extract(reference, &reference_labels, 8).unwrap();
    let style = network.map(|n| Style::extract(n, reference, &reference_labels, Progress::NONE).unwrap());
    let method = match (network, &style) {
        (Some(network), Some(style)) => Method::Network { network, style },
        _ => Method::Statistics(&statistics),
    };
    // Touched, so that its pages are not counted as the call's.
    let mut out = vec![1u8; width * height * size];
    let (before, processor) = (memory(), processor_seconds());
    let start = Instant::now();
    let job = Job::new(content, &labels, method);
    restyle(&job, &mut ViewMut::new(&mut out, layout).unwrap(), Progress::NONE).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let megapixels = (width * height) as f64 / 1e6;
    let threads = rayon::current_num_threads();
    print!(
        "{method:?}, {megapixels:.1} MP RGBA {sample:?} {transfer:?}: {seconds:.2} s on {threads} threads"
    );
    if let (Some(start), Some(end)) = (processor, processor_seconds()) {
        print!(" ({:.2} s of processor time)", end - start);
    }
    if let (Some((now, _)), Some((_, peak))) = (before, memory()) {
        print!(", {} MB beyond the caller's", peak.saturating_sub(now));
    }
    println!();
}

#[test]
#[ignore = "a benchmark of a minute and 2 GB"]
fn bench() {
    let network = Model::embedded().unwrap().network(&Device::Cpu).unwrap();
    for network in [None, Some(&network)] {
        measure(network, 6000, 4000, SampleType::F32, Transfer::Srgb);
        measure(network, 6000, 4000, SampleType::F32, Transfer::Linear);
        measure(network, 11600, 8700, SampleType::U8, Transfer::Srgb);
    }
}
