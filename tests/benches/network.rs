//! Criterion benchmarks: `cargo bench`. A network of the shipped model's sizes, and the product under all of it.

use std::collections::BTreeSet;

use ca2sis::kernels::simd::Level;
use ca2sis::kernels::{bench, linear};
use ca2sis::nn::Network;
use ca2sis::nn::golden::Formula;
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

/// The parts of a decode and of a style at the published sizes; throughputs are multiply-adds times two as the part is defined,
/// whatever its form saves of them.
fn kernels(c: &mut Criterion) {
    let level = Level::best();
    let mut group = c.benchmark_group("kernels");
    group.sample_size(20);
    let mut run = |name: &str, operations: usize, mut f: Box<dyn FnMut()>| {
        group.throughput(Throughput::Elements(operations as u64));
        group.bench_function(name, |b| b.iter(&mut f));
    };
    for (rows, k, n) in [(112, 512, 4096), (112, 176, 4096), (112, 104, 1024)] {
        let (operations, sizes) = (2 * rows * k * n, format!("{rows}x{k}x{n}"));
        let levels: BTreeSet<_> =
            [level, Level::fastest()].into_iter().chain(Level::rounding().iter().copied()).collect();
        for level in levels {
            let product = Box::new(bench::product(level, rows, k, n));
            run(&format!("product {sizes}, {level:?}"), operations, product);
        }
        run(&format!("product by halves {sizes}"), operations, Box::new(bench::halved(level, rows, k, n)));
    }
    for doubled in [false, true] {
        let (name, pixels) = if doubled { ("doubled conv", 16 * 512) } else { ("conv", 8 * 256) };
        let operations = 2 * 9 * 32 * 32 * pixels;
        run(
            &format!("{name} 32 to 32"),
            operations,
            Box::new(bench::convolution(level, (8, 256), 32, 32, doubled)),
        );
    }
    for (rows, width, inputs, outputs) in
        [(16, 64, 32, 8), (16, 32, 64, 16), (16, 16, 128, 32), (4, 4, 256, 128)]
    {
        let operations = 2 * 9 * inputs * outputs * 4 * rows * width;
        let f = bench::convolution_bilinear(level, (rows, width), inputs, outputs);
        run(&format!("bilinear conv {inputs} to {outputs}"), operations, Box::new(f));
    }
    let operations = 4 * 1024 * 1024 * 512;
    run("self-attention of 32x32", operations, Box::new(bench::attention(level, 1024, 8, 64)));
    run("GEGLU of 112 rows", 112 * level.lanes(), Box::new(bench::geglu(level, 112)));
    group.finish();
}

criterion_group!(benches, network, products, kernels);
criterion_main!(benches);
