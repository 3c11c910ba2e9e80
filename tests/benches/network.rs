//! Criterion benchmarks: `cargo bench`. A network of the shipped model's sizes, and the product under all of it.

use std::collections::BTreeSet;

use ca2sis::kernels::simd::Level;
use ca2sis::kernels::{bench, linear, norm};
use ca2sis::nn::Network;
use ca2sis::nn::golden::Formula;
use ca2sis::nn::ops::Activation;
use ca2sis::progress::Progress;
use ca2sis::train::preset::preset;
use candle_core::{Device, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn network(c: &mut Criterion) {
    let config = preset("studio-128", 10).unwrap();
    let network = Network::new(&config, Formula { seed: 1 }.var_builder(&Device::Cpu)).unwrap();
    let side = config.resolution;
    let labels: Vec<u32> = (0..side * side).map(|i| ((i / side / 16 + i % side / 16) % 10) as u32).collect();
    let labels = Tensor::from_vec(labels, (1, side, side), &Device::Cpu).unwrap();
    let onehot = candle_nn::encoding::one_hot(labels, 10, 1f32, 0f32).unwrap();
    let rgb = Tensor::zeros((1, side, side, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
    let style = network.encode_style(&rgb, &onehot, Progress::NONE).unwrap();
    let code = network.encode_mask(&onehot).unwrap();
    let row = style.get(0).unwrap();
    let prepared = network.prepare(&row).unwrap();

    let mut group = c.benchmark_group("studio-128");
    group.sample_size(10);
    group.bench_function("encode_style", |b| {
        b.iter(|| network.encode_style(&rgb, &onehot, Progress::NONE).unwrap())
    });
    group.bench_function("encode_mask", |b| b.iter(|| network.encode_mask(&onehot).unwrap()));
    group.bench_function("prepare", |b| b.iter(|| network.prepare(&row).unwrap()));
    group.bench_function("decode", |b| b.iter(|| prepared.generate(&code, Progress::NONE).unwrap()));
    group.bench_function("decode, plain", |b| {
        b.iter(|| network.generate_plain(&code, &style, Progress::NONE).unwrap())
    });
    group.finish();
}

fn products(c: &mut Criterion) {
    let mut group = c.benchmark_group("linear");
    for (rows, inputs, outputs) in [(4096, 96, 128), (1024, 512, 512), (18, 16_384, 256)] {
        let (x, weight) = (vec![0.5; rows * inputs], vec![0.25; outputs * inputs]);
        group.throughput(Throughput::Elements((2 * rows * inputs * outputs) as u64)); // floating-point operations
        group.bench_function(format!("{rows}x{inputs}x{outputs}"), |b| {
            b.iter(|| linear::forward(&x, &weight, None, inputs, outputs))
        });
    }
    group.finish();
}

/// As the network in training takes them.
fn norms(c: &mut Criterion) {
    let mut group = c.benchmark_group("norm");
    for (side, channels, groups) in [(256, 32, 32), (64, 128, 32)] {
        let x: Vec<f32> =
            (0..side * side * channels).map(|i| (i * 7919 % 2003) as f32 / 1001.0 - 1.0).collect();
        let shape = norm::Shape { rows: 1, batch: 1, pixels: side * side, channels, groups };
        let (weight, bias) = (vec![0.75; channels], vec![0.25; channels]);
        group.throughput(Throughput::Elements(x.len() as u64));
        group.bench_function(format!("GroupNorm and SiLU of {side}x{side}x{channels}"), |b| {
            b.iter(|| norm::forward(&shape, &x, Some((&weight[..], &bias[..])), 1e-5, Activation::Silu))
        });
    }
    group.finish();
}

/// The parts of a decode and of a style at the published sizes; throughputs are multiply-adds times two as the part is defined,
/// whatever its form saves of them.
fn kernels(c: &mut Criterion) {
    let level = Level::best();
    // Those that pictures are made at: of f32, whole and fastest, and of bfloat16.
    let levels: BTreeSet<_> =
        [level, Level::fastest()].into_iter().chain(Level::rounding().iter().copied()).collect();
    let mut group = c.benchmark_group("kernels");
    group.sample_size(20);
    let mut run = |name: &str, operations: usize, mut f: Box<dyn FnMut()>| {
        group.throughput(Throughput::Elements(operations as u64));
        group.bench_function(name, |b| b.iter(&mut f));
    };
    for (rows, k, n) in [(112, 512, 4096), (112, 176, 4096), (112, 104, 1024)] {
        let (operations, sizes) = (2 * rows * k * n, format!("{rows}x{k}x{n}"));
        for &level in &levels {
            let product = Box::new(bench::product(level, rows, k, n));
            run(&format!("product {sizes}, {level:?}"), operations, product);
        }
        run(&format!("product by halves {sizes}"), operations, Box::new(bench::halved(level, rows, k, n)));
    }
    for doubled in [false, true] {
        let (name, pixels) = if doubled { ("doubled conv", 16 * 512) } else { ("conv", 8 * 256) };
        let operations = 2 * 9 * 32 * 32 * pixels;
        // At Bf16 they are of whole f32.
        for &level in levels.iter().filter(|level| **level != Level::Bf16) {
            let convolution = Box::new(bench::convolution(level, (8, 256), 32, 32, doubled));
            run(&format!("{name} 32 to 32, {level:?}"), operations, convolution);
        }
    }
    for (rows, width, inputs, outputs) in
        [(16, 64, 32, 8), (16, 32, 64, 16), (16, 16, 128, 32), (4, 4, 256, 128)]
    {
        let operations = 2 * 9 * inputs * outputs * 4 * rows * width;
        let f = bench::convolution_bilinear(level, (rows, width), inputs, outputs);
        run(&format!("bilinear conv {inputs} to {outputs}"), operations, Box::new(f));
    }
    let operations = 4 * 1024 * 1024 * 512;
    for &level in &levels {
        let attention = Box::new(bench::attention(level, 1024, 8, 64));
        run(&format!("self-attention of 32x32, {level:?}"), operations, attention);
    }
    run("GEGLU of 112 rows", 112 * level.lanes(), Box::new(bench::geglu(level, 112)));
    group.finish();
}

criterion_group!(benches, network, products, norms, kernels);
criterion_main!(benches);
