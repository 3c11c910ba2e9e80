//! The forms made for GPUs, on the CPU through candle's own operations: what the plain network gives, in every precision, cut up
//! as small as memory asks, with nothing fetched from the device in between.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use ca2sis::Error;
use ca2sis::nn::golden::{self, Formula};
use ca2sis::nn::{Config, Network, Precision, Stage};
use ca2sis::progress::Progress;
use candle_core::{DType, Device, Tensor};
use candle_nn::{VarBuilder, VarMap};

fn stage(channels: [usize; 2], up: bool, heads: [usize; 2], ff_factor: usize, self_attention: bool) -> Stage {
    let ([channels_in, channels_out], [heads, head_width]) = (channels, heads);
    Stage { channels_in, channels_out, up, heads, head_width, ff_factor, self_attention }
}

/// With self-attention, of low rank, and whichever form is least work in the last stage.
fn stages() -> Vec<Stage> {
    vec![
        stage([24, 16], false, [4, 16], 2, true),
        stage([16, 8], true, [4, 12], 2, false),
        stage([8, 8], true, [2, 16], 2, false),
    ]
}

fn config(classes: usize, stages: Vec<Stage>) -> Config {
    let ups = stages.iter().filter(|s| s.up).count() as u32;
    Config {
        resolution: 12 << ups,
        norm_groups: 4,
        style_dim: 10,
        style_base: 3,
        style_downs: 2,
        style_scales: 2,
        mask_size: 24,
        mask_rank: None,
        base_size: 12,
        mapping: None,
        labeler: None,
        stages,
        ..Config::published(classes, 8, 10, false)
    }
}

fn network_of(config: &Config, dtype: DType) -> Network {
    let source = Formula { seed: 11 };
    Network::new(config, VarBuilder::from_backend(Box::new(source), dtype, Device::Cpu)).unwrap()
}

fn network(classes: usize, dtype: DType) -> Network {
    network_of(&config(classes, stages()), dtype)
}

/// Pictures of noise, and labels in blocks, in which the last class is absent if there are several.
fn inputs(network: &Network, batch: usize, dtype: DType) -> (Tensor, Tensor) {
    let (side, n) = (network.config().resolution, network.config().classes);
    let rgb: Vec<f32> =
        (0..batch * side * side * 3).map(|i| (i * 7919 % 2003) as f32 / 1001.0 - 1.0).collect();
    let used = (n - 1).max(1);
    let labels: Vec<u32> =
        (0..batch * side * side).map(|i| ((i / side / 7 * 5 + i % side / 5) % used) as u32).collect();
    let labels = Tensor::from_vec(labels, (batch, side, side), &Device::Cpu).unwrap();
    let onehot = candle_nn::encoding::one_hot(labels, n, 1f32, 0f32).unwrap();
    let rgb = Tensor::from_vec(rgb, (batch, side, side, 3), &Device::Cpu).unwrap();
    (rgb.to_dtype(dtype).unwrap(), onehot.to_dtype(dtype).unwrap())
}

fn flat(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let differences = flat(a).into_iter().zip(flat(b)).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |m, d| if d.is_nan() { d } else { m.max(d) })
}

fn golden_cases() -> [PathBuf; 2] {
    ["celeba19.safetensors", "five_with_background.safetensors"]
        .map(|name| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name))
}

/// Style codes and pictures of two label maps in the first one's style: the plain network's and those of the form for GPUs.
fn both(network: &Network, dtype: DType) -> [(Tensor, Tensor); 2] {
    let (rgb, onehot) = inputs(network, 2, dtype);
    let plain = network.encode_style_plain(&rgb, &onehot, Progress::NONE).unwrap();
    let style = network.encode_style_tensors(&rgb, &onehot, Progress::NONE).unwrap();
    let code = network.encode_mask(&onehot).unwrap();
    let one = plain.narrow(0, 0, 1).unwrap();
    let twice = Tensor::cat(&[&one, &one], 0).unwrap();
    let want = network.generate_plain(&code, &twice, Progress::NONE).unwrap();
    let prepared = network.prepare_tensors(&plain.get(0).unwrap()).unwrap();
    let image = prepared.generate_batch(&code, Progress::NONE).unwrap();
    [(style, plain), (image, want)]
}

/// In f64 rounding vanishes, and what is left would be a wrong rearrangement. Also every kernel of ours for the CPU fails on it.
#[test]
fn the_rearrangement_is_exact_for_any_number_of_classes() {
    for classes in [1, 2, 19, 34, 150, 255] {
        let [style, image] = both(&network(classes, DType::F64), DType::F64);
        // Both are in [-1, 1]; f64 has 16 digits, and the depth of the network costs some.
        assert!(largest_difference(&style.0, &style.1) < 1e-12, "style of {classes} classes");
        let error = largest_difference(&image.0, &image.1);
        assert!(error < 1e-11, "picture of {classes} classes: {error}");
    }
}

#[test]
fn odd_widths_and_unusual_stages_are_exact_too() {
    let cases = [
        (3, vec![stage([4, 36], true, [1, 5], 1, true), stage([36, 20], false, [3, 7], 2, false)]),
        (5, vec![stage([4, 40], false, [5, 3], 3, true), stage([40, 40], true, [2, 6], 1, true)]),
        (2, vec![stage([28, 12], true, [2, 17], 5, false)]),
        (200, vec![stage([12, 8], false, [2, 20], 4, true), stage([8, 4], true, [2, 32], 3, false)]),
    ];
    for (classes, stages) in cases {
        let config = Config { base_size: 7, resolution: 28, ..config(classes, stages) };
        let ups = config.stages.iter().filter(|s| s.up).count();
        let config = Config { base_size: 28 >> ups, ..config };
        let [style, image] = both(&network_of(&config, DType::F64), DType::F64);
        assert!(largest_difference(&style.0, &style.1) < 1e-12, "{config:?}");
        let error = largest_difference(&image.0, &image.1);
        assert!(error < 1e-11, "{config:?}: {error}");
    }
}

#[test]
fn in_f32_only_rounding_is_between_it_and_the_plain_network() {
    for classes in [1, 2, 19, 34, 150, 255] {
        let [style, image] = both(&network(classes, DType::F32), DType::F32);
        // Codes are in [-1, 1]; sums of a few hundred terms in another order.
        let error = largest_difference(&style.0, &style.1);
        assert!(error <= 1e-5, "style of {classes} classes: {error}");
        let error = largest_difference(&image.0, &image.1);
        assert!(error <= 1e-4, "picture of {classes} classes: {error}");
    }
}

#[test]
fn golden_pictures_come_out_within_a_thousandth_in_f32() {
    for case in golden_cases() {
        let comparisons = golden::verify_tensors(&case, &Device::Cpu, Precision::F32).unwrap();
        assert!(comparisons.len() >= 5);
        for c in comparisons {
            assert!(c.holds(), "{}: {} errs by {}, at most {}", case.display(), c.name, c.error, c.tolerance);
        }
    }
}

/// F16 is candle's own product, bf16 what a GPU's product does. Tf32 is CUDA's alone: nothing of it can be tested here.
#[test]
fn half_types_keep_40_db_on_the_golden_pictures() {
    for precision in [Precision::Bf16, Precision::F16] {
        for case in golden_cases() {
            let comparisons = golden::verify_tensors(&case, &Device::Cpu, precision).unwrap();
            let pictures: Vec<_> = comparisons.iter().filter_map(|c| c.psnr).collect();
            println!("{}: {precision} {pictures:?}", case.display());
            assert_eq!(pictures.len(), 2);
            assert!(pictures.iter().all(|&db| db >= golden::LEAST_PSNR), "{precision}: {pictures:?}");
            // That something was rounded at all, and less of it in the type with more digits.
            let most = if precision == Precision::Bf16 { 80.0 } else { 100.0 };
            assert!(pictures.iter().all(|&db| db < most), "{precision}: {pictures:?}");
        }
    }
}

#[test]
fn little_memory_cuts_the_work_up_and_changes_nothing_but_rounding_and_less_is_refused() {
    let network = network(19, DType::F32);
    let (rgb, onehot) = inputs(&network, 3, DType::F32);
    let style = network.encode_style_tensors(&rgb, &onehot, Progress::NONE).unwrap();
    let codes = network.encode_mask(&onehot).unwrap();
    let decode = |network: Network| {
        network.prepare_tensors(&style.get(0).unwrap())?.generate_batch(&codes, Progress::NONE)
    };
    let encode = |network: Network| network.encode_style_tensors(&rgb, &onehot, Progress::NONE);
    let want = decode(network.clone()).unwrap();

    let refused = |result: ca2sis::Result<Tensor>| match result {
        Err(Error::MemoryLimit { needed, limit: 1 }) => needed,
        other => panic!("{other:?}"),
    };
    let least = refused(decode(network.clone().with_memory_limit(Some(1))));
    let error = largest_difference(&decode(network.clone().with_memory_limit(Some(least))).unwrap(), &want);
    assert!(error <= 1e-5, "{error}");
    let short = decode(network.clone().with_memory_limit(Some(least - 1))).unwrap_err();
    assert!(matches!(short, Error::MemoryLimit { needed, .. } if needed == least), "{short}");
    assert!(short.to_string().contains("limit"), "{short}");

    let least = refused(encode(network.clone().with_memory_limit(Some(1))));
    let error = largest_difference(&encode(network.clone().with_memory_limit(Some(least))).unwrap(), &style);
    assert!(error <= 1e-6, "{error}");
    // The next call works.
    assert_eq!(flat(&decode(network).unwrap()), flat(&want));
}

#[test]
fn a_batch_is_its_pictures() {
    let network = network(5, DType::F32);
    let (rgb, onehot) = inputs(&network, 3, DType::F32);
    let style = network.encode_style_tensors(&rgb, &onehot, Progress::NONE).unwrap();
    let codes = network.encode_mask(&onehot).unwrap();
    let prepared = network.prepare_tensors(&style.get(1).unwrap()).unwrap();
    let all = prepared.generate_batch(&codes, Progress::NONE).unwrap();
    for i in 0..3 {
        let one = prepared.generate(&codes.narrow(0, i, 1).unwrap(), Progress::NONE).unwrap();
        let error = largest_difference(&one, &all.narrow(0, i, 1).unwrap());
        assert!(error <= 1e-5, "picture {i}: {error}");
        let one = network
            .encode_style_tensors(
                &rgb.narrow(0, i, 1).unwrap(),
                &onehot.narrow(0, i, 1).unwrap(),
                Progress::NONE,
            )
            .unwrap();
        assert!(largest_difference(&one, &style.narrow(0, i, 1).unwrap()) <= 1e-6, "style {i}");
    }
    // And the form for the CPU gives batches too.
    let cpu =
        network.prepare(&style.get(1).unwrap()).unwrap().generate_batch(&codes, Progress::NONE).unwrap();
    assert!(largest_difference(&cpu, &all) <= 1e-3);
}

#[test]
fn huge_and_tiny_values_go_the_way_of_the_plain_network() {
    let network = network(3, DType::F32);
    let (rgb, onehot) = inputs(&network, 1, DType::F32);
    let style = network.encode_style_tensors(&rgb, &onehot, Progress::NONE).unwrap();
    let code = network.encode_mask(&onehot).unwrap();
    // Norms take the size out of the features; a style's own scale only sharpens the attention.
    for (scale, style_scale) in [(1e6, 1.0), (1e-30, 1.0), (0.0, 0.0), (1.0, 30.0), (1.0, 1e-30)] {
        let (code, style) = ((&code * scale).unwrap(), (&style * style_scale).unwrap());
        let plain = network.generate_plain(&code, &style, Progress::NONE).unwrap();
        let prepared = network.prepare_tensors(&style.get(0).unwrap()).unwrap();
        let error = largest_difference(&prepared.generate(&code, Progress::NONE).unwrap(), &plain);
        assert!(error <= 1e-3, "code times {scale}, style times {style_scale}: {error}");
    }
}

#[test]
fn it_is_stopped_when_asked_and_tells_how_far_it_is_without_running_back() {
    let network = network(4, DType::F32);
    let (rgb, onehot) = inputs(&network, 1, DType::F32);
    let style = network.encode_style_tensors(&rgb, &onehot, Progress::NONE).unwrap();
    let code = network.encode_mask(&onehot).unwrap();
    let prepared = network.prepare_tensors(&style.get(0).unwrap()).unwrap();
    let want = flat(&prepared.generate(&code, Progress::NONE).unwrap());
    let told = std::sync::Mutex::new(vec![0.0f32]);
    let observer = |done| {
        let mut told = told.lock().unwrap();
        assert!(done >= told[told.len() - 1] - 1e-6 && done <= 1.0 + 1e-6, "{done} after {told:?}");
        told.push(done);
        true
    };
    network.encode_style_tensors(&rgb, &onehot, Progress::new(&observer).part(0.0, 0.5)).unwrap();
    prepared.generate(&code, Progress::new(&observer).part(0.5, 1.0)).unwrap();
    let told = told.into_inner().unwrap();
    assert!(told.len() > 10 && told[told.len() - 1] > 0.999, "{told:?}");
    for limit in [1, 2, 5, 9] {
        let asked = AtomicUsize::new(0);
        let observer = |_| asked.fetch_add(1, Ordering::Relaxed) + 1 < limit;
        let stopped = prepared.generate(&code, Progress::new(&observer));
        assert!(matches!(stopped, Err(Error::Cancelled)), "after {limit}");
        assert_eq!(asked.into_inner(), limit, "asked again after the stop");
        assert_eq!(flat(&prepared.generate(&code, Progress::NONE).unwrap()), want);
    }
}

#[test]
fn what_it_cannot_take_is_refused_with_its_shape() {
    let network = network(3, DType::F32);
    let width = network.config().style_width();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let error = network.prepare_tensors(&zeros(&[2, width])).map(drop).unwrap_err().to_string();
    assert!(error.contains(&format!("[3, {width}]")), "{error}");
    let prepared = network.prepare_tensors(&zeros(&[3, width])).unwrap();
    for shape in [&[1, 3, 143][..], &[2, 3, 144], &[3, 144]] {
        let error = prepared.generate(&zeros(shape), Progress::NONE).unwrap_err().to_string();
        assert!(error.contains("[1, 3, 144]"), "{error}");
    }
    let error = prepared.generate_batch(&zeros(&[0, 3, 144]), Progress::NONE).unwrap_err().to_string();
    assert!(error.contains("[b, 3, 144]"), "{error}");
    let picture = |side: usize, c: usize| zeros(&[1, side, side, c]);
    for (rgb, labels) in [(picture(16, 3), picture(16, 3)), (picture(48, 3), picture(48, 2))] {
        let error = network.encode_style_tensors(&rgb, &labels, Progress::NONE).unwrap_err().to_string();
        assert!(error.contains("[1, 48, 48, 3]"), "{error}");
    }
    let variables = VarMap::new();
    let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
    let trained = Network::new(&config(3, stages()), vb).unwrap();
    let error = trained.prepare_tensors(&zeros(&[3, width])).map(drop).unwrap_err().to_string();
    assert!(error.contains("training"), "{error}");
}

#[test]
fn precisions_read_as_they_are_written() {
    for precision in [Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F16] {
        assert_eq!(precision.to_string().parse::<Precision>().unwrap(), precision);
    }
    let error = "fp16".parse::<Precision>().unwrap_err().to_string();
    assert!(error.contains("choose f32, tf32, bf16 or f16"), "{error}");
}
