//! The forms that a user's pictures go through on the CPU: near the plain network, the same bits on any number of threads,
//! stopped when asked.

mod skip;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use ca2sis::Error;
use ca2sis::kernels::simd::Level;
use ca2sis::nn::golden::{self, Formula};
use ca2sis::nn::{Config, LabelerSizes, Network, Stage};
use ca2sis::progress::Progress;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};

fn stage(channels: [usize; 2], up: bool, heads: usize, head_width: usize, self_attention: bool) -> Stage {
    let [channels_in, channels_out] = channels;
    Stage { channels_in, channels_out, up, heads, head_width, ff_factor: 2, self_attention }
}

fn config(classes: usize) -> Config {
    Config {
        resolution: 48,
        norm_groups: 4,
        style_dim: 10,
        style_base: 3,
        style_downs: 3,
        style_scales: 3,
        mask_size: 24,
        mask_rank: None,
        base_size: 12,
        mapping: None,
        labeler: None,
        stages: vec![
            stage([24, 16], false, 4, 16, true),
            stage([16, 8], true, 4, 12, false),
            stage([8, 8], true, 2, 16, false),
        ],
        ..Config::published(classes, 8, 10, false)
    }
}

/// Channels by 32, as convolutions by the tiles of AMX take them, and pixels enough for the second stage's feed-forward, 56 deep, to
/// go by halves at levels of whole f32.
fn wide() -> Config {
    Config {
        resolution: 32,
        mask_size: 32,
        base_size: 16,
        stages: vec![stage([64, 32], false, 2, 32, true), stage([32, 32], true, 4, 16, false)],
        ..config(7)
    }
}

fn network_of(config: &Config) -> Network {
    Network::new(config, Formula { seed: 11 }.var_builder(&Device::Cpu)).unwrap()
}

fn network(classes: usize) -> Network {
    network_of(&config(classes))
}

/// Pictures of noise, and labels in blocks, in which the last class is absent if there are several.
fn inputs(network: &Network, batch: usize) -> (Tensor, Tensor) {
    let (side, n) = (network.config().resolution, network.config().classes);
    let rgb: Vec<f32> =
        (0..batch * side * side * 3).map(|i| (i * 7919 % 2003) as f32 / 1001.0 - 1.0).collect();
    let used = (n - 1).max(1);
    let labels: Vec<u32> =
        (0..batch * side * side).map(|i| ((i / side / 7 * 5 + i % side / 5) % used) as u32).collect();
    let labels = Tensor::from_vec(labels, (batch, side, side), &Device::Cpu).unwrap();
    let onehot = candle_nn::encoding::one_hot(labels, n, 1f32, 0f32).unwrap();
    (Tensor::from_vec(rgb, (batch, side, side, 3), &Device::Cpu).unwrap(), onehot)
}

fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    flat(a)
        .iter()
        .zip(flat(b))
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |m, d| if d.is_nan() { d } else { m.max(d) })
}

/// Peak signal-to-noise ratio in dB of pictures in [-1, 1].
fn psnr(a: &Tensor, b: &Tensor) -> f64 {
    let square: f64 = flat(a).iter().zip(flat(b)).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    10.0 * (4.0 * a.elem_count() as f64 / square).log10()
}

fn golden_case(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

#[test]
fn golden_pictures_come_out_within_a_thousandth() {
    for name in ["celeba19.safetensors", "five_with_background.safetensors"] {
        let comparisons = golden::verify_fast(&golden_case(name), &Device::Cpu).unwrap();
        assert!(comparisons.len() >= 5);
        for c in comparisons {
            assert!(c.holds(), "{name}: {} errs by {}, at most {}", c.name, c.error, c.tolerance);
        }
    }
}

/// The golden picture and what `level` makes of its style and mask code.
fn golden_picture(level: Level) -> (Tensor, Tensor) {
    let path = golden_case("celeba19.safetensors");
    let case = candle_core::safetensors::load_buffer(&std::fs::read(&path).unwrap(), &Device::Cpu).unwrap();
    let (config, seed) = golden::sizes(&path).unwrap();
    let config = Config { mapping: None, ..config };
    let network = Network::new(&config, Formula { seed }.var_builder(&Device::Cpu)).unwrap();
    let float = |name: &str| case[name].to_dtype(DType::F32).unwrap();
    let prepared = network.prepare_at(&float("style"), level).unwrap();
    let image = prepared.generate(&float("mask_code").unsqueeze(0).unwrap(), Progress::NONE).unwrap();
    (float("image"), image.squeeze(0).unwrap().permute((2, 0, 1)).unwrap())
}

/// The registers that this processor would not choose, too.
#[test]
fn a_golden_picture_comes_out_within_a_thousandth_at_every_level_of_f32() {
    for level in Level::of_f32() {
        let (want, got) = golden_picture(level);
        let error = largest_difference(&got, &want);
        assert!(error <= 1e-3, "{level:?}: {error}");
        eprintln!("{level:?}: {error:.1e}");
    }
}

#[test]
fn bfloat16_keeps_40_db_on_a_golden_picture() {
    if Level::rounding().is_empty() {
        return skip::skipped("this CPU has no AVX-512 BF16");
    }
    for &level in Level::rounding() {
        let (want, got) = golden_picture(level);
        let db = psnr(&got, &want);
        assert!(db >= golden::LEAST_PSNR, "{level:?}: {db} dB");
        eprintln!("{level:?}: {db:.1} dB");
    }
}

/// A product of rounded factors errs by about 2^-9 of its size. Some twenty follow each other, and their errors add up as squares do:
/// 2^-6.8 of pictures of about 1, beside a peak of 2, is 47 dB. Softmaxes and differences between classes make more of some; what is
/// left is what bfloat16 is held to everywhere.
#[test]
fn bfloat16_keeps_40_db_for_any_number_of_classes_and_at_odd_sizes() {
    if Level::rounding().is_empty() {
        return skip::skipped("this CPU has no AVX-512 BF16");
    }
    // Maps of 7 pixels square and their doubles; the second network's convolutions go by tiles where there are any.
    let smaller = |config: Config, downs, up: usize| Config {
        resolution: 7 * up,
        mask_size: 14,
        base_size: 7,
        style_downs: downs,
        style_scales: downs,
        ..config
    };
    let odd = [smaller(config(5), 2, 4), smaller(wide(), 1, 2)];
    for config in [1, 2, 34, 255].map(config).into_iter().chain(odd) {
        let network = network_of(&config);
        let (n, width) = (config.classes, config.style_width());
        let style: Vec<f32> = (0..n * width).map(|i| (i * 4099 % 2003) as f32 / 1001.0 - 1.0).collect();
        let style = Tensor::from_vec(style, (n, width), &Device::Cpu).unwrap();
        let code = network.encode_mask(&inputs(&network, 1).1).unwrap();
        let plain = network.generate_plain(&code, &style.unsqueeze(0).unwrap(), Progress::NONE).unwrap();
        for &level in Level::rounding() {
            let image = network.prepare_at(&style, level).unwrap().generate(&code, Progress::NONE).unwrap();
            let (db, base) = (psnr(&image, &plain), config.base_size);
            assert!(db >= golden::LEAST_PSNR, "{level:?}: {db} dB, {n} classes from {base} pixels on");
            eprintln!("{level:?}, {n} classes from {base} pixels on: {db:.1} dB");
        }
    }
}

/// What retouchers get: label maps of regions as pictures have them, and a style of the model's own encoder. Two bfloat16 for a factor
/// are what f32 is by itself where there is AMX, one is what may be asked for.
#[test]
fn bfloat16_keeps_45_db_on_the_shipped_model_and_two_of_them_100() {
    let mut levels: Vec<_> = Level::rounding().iter().map(|level| (*level, 45.0)).collect();
    levels.extend(Some((Level::Bf16x3, 100.0)).filter(|(level, _)| level.is_available()));
    if levels.is_empty() {
        return skip::skipped("this CPU has no AVX-512 BF16");
    }
    let network = ca2sis::model::Model::embedded().unwrap().network(&Device::Cpu).unwrap();
    let (side, n) = (network.config().resolution, network.config().classes);
    for block in [side / 2, side / 5, side / 16] {
        let labels: Vec<u32> =
            (0..side * side).map(|i| ((i / side / block * 5 + i % side / block * 3) % n) as u32).collect();
        let labels = Tensor::from_vec(labels, (1, side, side), &Device::Cpu).unwrap();
        let onehot = candle_nn::encoding::one_hot(labels.clone(), n, 1f32, 0f32).unwrap();
        // A colour for each class, with a ramp across the picture.
        let labels = flat(&labels.to_dtype(DType::F32).unwrap());
        let colour = |i: usize| {
            let ramp = (i / 3 % side + i / 3 / side) as f32 / side as f32 - 1.0;
            ((labels[i / 3] * 2.4 + (i % 3) as f32 * 1.3).sin() * 0.6 + 0.3 * ramp).clamp(-1.0, 1.0)
        };
        let rgb: Vec<f32> = (0..3 * side * side).map(colour).collect();
        let rgb = Tensor::from_vec(rgb, (1, side, side, 3), &Device::Cpu).unwrap();
        let style = network.encode_style(&rgb, &onehot, Progress::NONE).unwrap().squeeze(0).unwrap();
        let code = network.encode_mask(&onehot).unwrap();
        let picture =
            |level| network.prepare_at(&style, level).unwrap().generate(&code, Progress::NONE).unwrap();
        let whole = picture(Level::best());
        for &(level, least) in &levels {
            let db = psnr(&picture(level), &whole);
            assert!(db >= least, "{level:?}: {db} dB with blocks of {block}");
            eprintln!("{level:?} with blocks of {block}: {db:.1} dB");
        }
    }
}

/// The style encoder's own weights are let go once they are laid out, and read again where the plain form is asked for.
#[test]
fn the_plain_encoder_of_a_model_file_works_behind_the_fast_one() {
    let network = ca2sis::model::Model::embedded().unwrap().network(&Device::Cpu).unwrap();
    let (rgb, onehot) = inputs(&network, 1);
    let first = network.encode_style_plain(&rgb, &onehot, Progress::NONE).unwrap();
    let fast = network.encode_style(&rgb, &onehot, Progress::NONE).unwrap();
    let again = network.encode_style_plain(&rgb, &onehot, Progress::NONE).unwrap();
    assert_eq!(flat(&first), flat(&again));
    assert!(largest_difference(&fast, &first) <= 1e-5);
    assert_eq!(flat(&network.encode_style(&rgb, &onehot, Progress::NONE).unwrap()), flat(&fast));
}

#[test]
fn styles_and_pictures_are_the_plain_networks_for_any_number_of_classes() {
    for classes in [1, 2, 19, 34, 150, 255] {
        let network = network(classes);
        let (rgb, onehot) = inputs(&network, 2);
        let style = network.encode_style(&rgb, &onehot, Progress::NONE).unwrap();
        let plain = network.encode_style_plain(&rgb, &onehot, Progress::NONE).unwrap();
        // Codes are in [-1, 1]; sums of a few hundred terms in another order.
        let error = largest_difference(&style, &plain);
        assert!(error <= 1e-5, "style of {classes} classes: {error}");

        let code = network.encode_mask(&onehot).unwrap();
        let plain = network.generate_plain(&code, &style, Progress::NONE).unwrap();
        let error = largest_difference(&network.generate(&code, &style, Progress::NONE).unwrap(), &plain);
        assert!(error <= 1e-3, "picture of {classes} classes: {error}");
        for level in Level::of_f32() {
            let prepared = network.prepare_at(&style.get(1).unwrap(), level).unwrap();
            let image = prepared.generate(&code.narrow(0, 1, 1).unwrap(), Progress::NONE).unwrap();
            let error = largest_difference(&image, &plain.narrow(0, 1, 1).unwrap());
            assert!(error <= 1e-3, "picture of {classes} classes, {level:?}: {error}");
        }
    }
}

/// What absent classes would have taken is left out; every code must still be what the whole encoder gives, those of absent
/// classes too, whose features reach the present ones across the joined levels.
#[test]
fn styles_of_few_classes_are_those_of_the_whole_encoder() {
    for classes in [2, 5, 19] {
        let network = network(classes);
        let (rgb, _) = inputs(&network, 1);
        let side = network.config().resolution;
        for present in [vec![0], vec![classes - 1], vec![0, classes - 1], vec![classes / 2, 1]] {
            // One pixel of the last: at most sizes it is not seen.
            let label = |i: usize| if i == side + 1 { present[present.len() - 1] } else { present[0] } as u32;
            let labels: Vec<u32> = (0..side * side).map(label).collect();
            let labels = Tensor::from_vec(labels, (1, side, side), &Device::Cpu).unwrap();
            let onehot = candle_nn::encoding::one_hot(labels, classes, 1f32, 0f32).unwrap();
            let style = network.encode_style(&rgb, &onehot, Progress::NONE).unwrap();
            let plain = network.encode_style_plain(&rgb, &onehot, Progress::NONE).unwrap();
            let error = largest_difference(&style, &plain);
            assert!(error <= 1e-5, "classes {present:?} of {classes}: {error}");
        }
    }
    let network = network(3);
    let (rgb, onehot) = inputs(&network, 1);
    let none = onehot.zeros_like().unwrap();
    let style = network.encode_style(&rgb, &none, Progress::NONE).unwrap();
    let plain = network.encode_style_plain(&rgb, &none, Progress::NONE).unwrap();
    assert!(largest_difference(&style, &plain) <= 1e-5, "no class at all");
}

#[test]
fn the_bits_do_not_depend_on_the_number_of_threads() {
    let network = network(5);
    let (rgb, onehot) = inputs(&network, 1);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let style = network.encode_style(&rgb, &onehot, Progress::NONE).unwrap();
            let code = network.encode_mask(&onehot).unwrap();
            let image = network.generate(&code, &style, Progress::NONE).unwrap();
            (flat(&style), flat(&code), flat(&image))
        })
    };
    let one = run(1);
    for threads in [2, 3, 8] {
        assert_eq!(run(threads), one, "{threads} threads");
    }
}

/// Convolutions by tiles and products by halves with them.
#[test]
fn the_bits_of_no_level_depend_on_the_number_of_threads() {
    let network = network_of(&wide());
    let (rgb, onehot) = inputs(&network, 1);
    let style = network.encode_style(&rgb, &onehot, Progress::NONE).unwrap().squeeze(0).unwrap();
    let code = network.encode_mask(&onehot).unwrap();
    for level in [&Level::of_f32(), Level::rounding()].concat() {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let prepared = network.prepare_at(&style, level).unwrap();
                flat(&prepared.generate(&code, Progress::NONE).unwrap())
            })
        };
        let one = run(1);
        for threads in [2, 3, 8] {
            assert_eq!(run(threads), one, "{level:?}, {threads} threads");
        }
    }
}

#[test]
fn a_prepared_style_serves_many_label_maps() {
    let network = network(4);
    let (rgb, onehot) = inputs(&network, 2);
    let style = network.encode_style(&rgb, &onehot, Progress::NONE).unwrap();
    let codes = network.encode_mask(&onehot).unwrap();
    let prepared = network.prepare(&style.get(0).unwrap()).unwrap();
    for i in 0..2 {
        let code = codes.narrow(0, i, 1).unwrap();
        let want = network.generate(&code, &style.narrow(0, 0, 1).unwrap(), Progress::NONE).unwrap();
        assert_eq!(flat(&prepared.generate(&code, Progress::NONE).unwrap()), flat(&want));
    }
}

#[test]
fn a_call_that_is_stopped_says_so_and_the_next_one_works() {
    let network = network(4);
    let (rgb, onehot) = inputs(&network, 1);
    let style = network.encode_style(&rgb, &onehot, Progress::NONE).unwrap();
    let code = network.encode_mask(&onehot).unwrap();
    let want = network.generate(&code, &style, Progress::NONE).unwrap();
    for limit in [1, 2, 5, 9] {
        let asked = AtomicUsize::new(0);
        let observer = |_| asked.fetch_add(1, Ordering::Relaxed) + 1 < limit;
        let stopped = network.generate(&code, &style, Progress::new(&observer));
        assert!(matches!(stopped, Err(Error::Cancelled)), "after {limit}");
        assert_eq!(asked.into_inner(), limit, "asked again after the stop");
        let observer = |_| false;
        let stopped = network.encode_style(&rgb, &onehot, Progress::new(&observer));
        assert!(matches!(stopped, Err(Error::Cancelled)));
        assert_eq!(flat(&network.generate(&code, &style, Progress::NONE).unwrap()), flat(&want));
    }
}

#[test]
fn progress_never_runs_back() {
    let network = network(4);
    let (rgb, onehot) = inputs(&network, 1);
    let told = std::sync::Mutex::new(vec![0.0f32]);
    let observer = |done| {
        let mut told = told.lock().unwrap();
        assert!(done >= told[told.len() - 1] - 1e-6 && done <= 1.0 + 1e-6, "{done} after {told:?}");
        told.push(done);
        true
    };
    let style = network.encode_style(&rgb, &onehot, Progress::new(&observer).part(0.0, 0.5)).unwrap();
    let code = network.encode_mask(&onehot).unwrap();
    network.generate(&code, &style, Progress::new(&observer).part(0.5, 1.0)).unwrap();
    assert!(told.lock().unwrap().len() > 10);
}

#[test]
fn a_network_in_training_stays_plain_and_keeps_its_gradients() {
    let variables = VarMap::new();
    let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
    let network = Network::new(&config(3), vb).unwrap();
    let (rgb, onehot) = inputs(&network, 1);
    let style = network.encode_style(&rgb, &onehot, Progress::NONE).unwrap();
    let code = network.encode_mask(&onehot).unwrap();
    let image = network.generate(&code, &style, Progress::NONE).unwrap();
    let gradients = image.sum_all().unwrap().backward().unwrap();
    let data = variables.data().lock().unwrap();
    for name in ["out_conv.weight", "style_encoder.Encoder.first_layer.0.weight", "encs.encs.0.weight"] {
        assert!(gradients.get(&data[name]).is_some(), "{name} has no gradient");
    }
    assert!(network.prepare(&style.get(0).unwrap()).is_err());
}

/// A labeler being trained goes through the plain network; the same weights at rest through the form made for the CPU.
#[test]
fn labels_are_the_plain_networks_for_pictures_of_any_size_and_aspect() {
    for widths in [vec![8, 12], vec![16, 8, 40, 24]] {
        let step = 1 << (widths.len() - 1);
        let config = Config { labeler: Some(LabelerSizes { widths }), ..config(5) };
        let variables = VarMap::new();
        let trained =
            Network::new(&config, VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu)).unwrap();
        let values = variables.data().lock().unwrap().iter().map(|(k, v)| (k.clone(), v.detach())).collect();
        let network =
            Network::new(&config, VarBuilder::from_tensors(values, DType::F32, &Device::Cpu)).unwrap();
        for (batch, height, width) in [(1, 1, 1), (2, 2, 3), (1, 7, 1), (1, 9, 16), (1, 32, 5)] {
            let (height, width) = (height * step, width * step);
            let rgb: Vec<f32> =
                (0..batch * height * width * 3).map(|i| (i * 7919 % 2003) as f32 / 1001.0 - 1.0).collect();
            let rgb = Tensor::from_vec(rgb, (batch, height, width, 3), &Device::Cpu).unwrap();
            let (plain, fast) = (trained.label(&rgb).unwrap(), network.label(&rgb).unwrap());
            assert!(plain.track_op() && !fast.track_op());
            let followed = network.label(Var::from_tensor(&rgb).unwrap().as_tensor()).unwrap();
            assert!(followed.track_op(), "a picture's gradient is lost");
            // Scores are sums of a few dozen values of about 1, which norms have kept so.
            let error = largest_difference(&fast, &plain);
            assert!(error <= 1e-4, "{height} by {width}, {step}: {error}");
        }
        let odd = Tensor::zeros((1, step, step, 4), DType::F32, &Device::Cpu).unwrap();
        assert!(network.label(&odd).unwrap_err().to_string().contains("three channels"));
    }
}

#[test]
fn styles_and_codes_of_another_shape_are_refused() {
    let network = network(3);
    let style = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let width = network.config().style_width();
    for shape in [&[3, width + 1][..], &[2, width], &[1, 3, width]] {
        let error = network.prepare(&style(shape)).map(drop).unwrap_err().to_string();
        assert!(error.contains(&format!("[3, {width}]")), "{error}");
    }
    let prepared = network.prepare(&style(&[3, width])).unwrap();
    for shape in [&[1, 3, 143][..], &[2, 3, 144], &[1, 4, 144], &[3, 144]] {
        let error = prepared.generate(&style(shape), Progress::NONE).unwrap_err().to_string();
        assert!(error.contains("[1, 3, 144]"), "{error}");
    }
}

/// Down to denormal numbers, which products of bfloat16 take for zeros: beside biases they are as good as that.
#[test]
fn huge_and_tiny_values_go_the_way_of_the_plain_network() {
    let network = network(3);
    let (rgb, onehot) = inputs(&network, 1);
    let style = network.encode_style(&rgb, &onehot, Progress::NONE).unwrap();
    let code = network.encode_mask(&onehot).unwrap();
    // Norms take the size out of the features; a style's own scale only sharpens the attention.
    for (scale, style_scale) in
        [(1e6, 1.0), (1e-30, 1.0), (1e-40, 1.0), (0.0, 0.0), (1.0, 30.0), (1.0, 1e-30), (1.0, 1e-40)]
    {
        let (code, style) = ((&code * scale).unwrap(), (&style * style_scale).unwrap());
        let denormal = |t: &Tensor| flat(t).iter().any(|v| v.is_subnormal());
        assert_eq!((denormal(&code), denormal(&style)), (scale == 1e-40, style_scale == 1e-40));
        let plain = network.generate_plain(&code, &style, Progress::NONE).unwrap();
        for level in Level::of_f32() {
            let prepared = network.prepare_at(&style.get(0).unwrap(), level).unwrap();
            let error = largest_difference(&prepared.generate(&code, Progress::NONE).unwrap(), &plain);
            assert!(error <= 1e-3, "{level:?}, code times {scale}, style times {style_scale}: {error}");
        }
    }
}

/// The first norm takes a picture's size out of the features; of a tiny one biases alone are left.
#[test]
fn styles_of_huge_and_tiny_pictures_are_the_plain_encoders() {
    let network = network(3);
    let (rgb, onehot) = inputs(&network, 1);
    for scale in [1e6, 1e-40, 0.0] {
        let rgb = (&rgb * scale).unwrap();
        assert_eq!(flat(&rgb).iter().any(|v| v.is_subnormal()), scale == 1e-40);
        let style = network.encode_style(&rgb, &onehot, Progress::NONE).unwrap();
        let plain = network.encode_style_plain(&rgb, &onehot, Progress::NONE).unwrap();
        // As for pictures of ordinary size.
        let error = largest_difference(&style, &plain);
        assert!(error <= 1e-5, "a picture times {scale}: {error}");
    }
}
