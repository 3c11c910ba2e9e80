//! Gradients of everything that the trainer differentiates, against finite differences in f64.

use ca2sis::nn::ops::{self, Activation};
use ca2sis::train::discriminator::Discriminator;
use ca2sis::train::init::Random;
use ca2sis::train::losses::{self, Perceptual, SqueezeNet};
use candle_core::{DType, Device, Result, Tensor, Var};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn random(shape: &[usize], seed: u64) -> Var {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
}

fn one_hot(shape: [usize; 4], seed: u64) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let [b, h, w, n] = shape;
    let mut values = vec![0.0; b * h * w * n];
    values.chunks_exact_mut(n).for_each(|row| row[rng.random_range(0..n)] = 1.0);
    Tensor::from_vec(values, &shape[..], &Device::Cpu).unwrap()
}

/// Compares the gradient of sum(weights * f(inputs)), with random weights, to central differences at up to 24 elements of
/// each input.
fn check(name: &str, inputs: &[Var], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let step = 1e-6;
    let tensors = || inputs.iter().map(|v| v.as_tensor().clone()).collect::<Vec<_>>();
    let detached = || inputs.iter().map(Var::as_detached_tensor).collect::<Vec<_>>();
    let y = f(&tensors()).unwrap();
    let weights =
        if y.rank() == 0 { y.ones_like().unwrap() } else { random(y.dims(), 99).as_detached_tensor() };
    let value = |inputs: &[Tensor]| (f(inputs)? * &weights)?.sum_all();
    let gradients = value(&tensors()).unwrap().backward().unwrap();
    for (k, input) in inputs.iter().enumerate() {
        let gradient = gradients.get(input).unwrap_or_else(|| panic!("{name}: no gradient for input {k}"));
        assert_eq!(gradient.dims(), input.dims(), "{name}: input {k}");
        let gradient = gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let values = input.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let scale = gradient.iter().fold(1e-3, |m: f64, g| m.max(g.abs()));
        for i in (0..values.len()).step_by((values.len() / 24).max(1)) {
            let at = |v: f64| {
                let mut values = values.clone();
                values[i] = v;
                let mut moved = detached();
                moved[k] = Tensor::from_vec(values, input.shape(), &Device::Cpu).unwrap();
                value(&moved).unwrap().to_scalar::<f64>().unwrap()
            };
            let difference = (at(values[i] + step) - at(values[i] - step)) / (2.0 * step);
            assert!(
                (gradient[i] - difference).abs() < 2e-5 * scale,
                "{name}: input {k}, element {i}: gradient {}, difference {difference}",
                gradient[i]
            );
        }
    }
}

#[test]
fn convolutions_and_linear_layers() {
    check("linear", &[random(&[2, 3, 4], 1), random(&[5, 4], 2), random(&[5], 3)], |t| {
        ops::linear(&t[0], &t[1], Some(&t[2]))
    });
    check("linear without bias", &[random(&[3, 4], 1), random(&[5, 4], 2)], |t| {
        ops::linear(&t[0], &t[1], None)
    });
    for (k, stride, padding) in [(1, 1, 0), (3, 1, 1), (3, 2, 1), (4, 2, 2), (4, 1, 2), (7, 2, 0)] {
        let name = format!("conv2d {k}x{k}, stride {stride}, padding {padding}");
        let inputs = [random(&[2, 9, 8, 3], 1), random(&[4, 3, k, k], 2), random(&[4], 3)];
        check(&name, &inputs, |t| ops::conv2d(&t[0], &t[1], Some(&t[2]), stride, padding));
    }
    let inputs = [random(&[3, 2, 6, 6, 2], 1), random(&[12, 2, 3, 3], 2), random(&[12], 3)];
    check("grouped conv2d", &inputs, |t| ops::grouped_conv2d(&t[0], &t[1], Some(&t[2]), 2, 1));
}

#[test]
fn norms_and_activations() {
    for activation in [Activation::None, Activation::Relu, Activation::Silu, Activation::LeakyRelu(0.2)] {
        let inputs = [random(&[2, 2, 3, 4, 6], 1), random(&[12], 2), random(&[12], 3)];
        check(&format!("group norm, {activation:?}"), &inputs, |t| {
            ops::group_norm(&t[0], 3, Some((&t[1], &t[2])), 1e-5, activation)
        });
        check(&format!("{activation:?}"), &[random(&[40], 4)], |t| ops::activate(&t[0], activation));
    }
    check("instance norm", &[random(&[1, 2, 3, 4, 5], 1)], |t| {
        ops::group_norm(&t[0], 5, None, 1e-5, Activation::LeakyRelu(0.2))
    });
    let inputs = [random(&[2, 3, 6], 1), random(&[6], 2), random(&[6], 3)];
    check("layer norm", &inputs, |t| ops::layer_norm(&t[0], &t[1], &t[2], 1e-5));
    check("geglu", &[random(&[3, 8], 1)], |t| ops::geglu(&t[0]));
}

#[test]
fn attention_and_resizing() {
    let inputs = [random(&[2, 5, 6], 1), random(&[2, 4, 6], 2), random(&[2, 4, 6], 3)];
    check("attention", &inputs, |t| ops::attention(&t[0], &t[1], &t[2], 2));
    check("nearest doubling", &[random(&[2, 3, 4, 2], 1)], |t| ops::upsample_nearest2(&t[0]));
    for side in [1, 2, 5] {
        let name = format!("bilinear doubling of {side}");
        check(&name, &[random(&[2, side, side, 2], 1)], |t| ops::upsample_bilinear2(&t[0]));
    }
}

#[test]
fn discriminators_by_picture_and_by_weight() {
    let discriminator = Discriminator::new(3, 4, &Random::new(5), DType::F64, &Device::Cpu).unwrap();
    // First weights are a fiftieth of what they come to be: differences would drown in the eps of the instance norm.
    for variable in discriminator.variables().values() {
        variable.set(&random(variable.dims(), 6).as_detached_tensor()).unwrap();
    }
    for _ in 0..50 {
        discriminator.power_iteration().unwrap();
    }
    let labels = one_hot([2, 16, 16, 3], 1);
    let (real, picture) = (random(&[2, 16, 16, 3], 2).as_detached_tensor(), random(&[2, 16, 16, 3], 3));

    let frozen = discriminator.weights().unwrap().frozen();
    let real_features = frozen.forward(&labels, &real).unwrap();
    let inputs = [picture.clone()];
    check("hinge, generator", &inputs, |t| losses::hinge_generator(&frozen.forward(&labels, &t[0])?));
    check("feature matching", &inputs, |t| {
        losses::feature_matching(&real_features, &frozen.forward(&labels, &t[0])?)
    });
    let of_frozen =
        losses::hinge_generator(&frozen.forward(&labels, &picture).unwrap()).unwrap().backward().unwrap();
    for (name, variable) in discriminator.variables() {
        assert!(of_frozen.get(variable).is_none(), "{name} is frozen, but has a gradient");
    }

    let loss = || {
        let weights = discriminator.weights()?;
        let real = weights.forward(&labels, &real)?;
        losses::hinge_discriminator(&real, &weights.forward(&labels, &picture.as_detached_tensor())?)
    };
    let gradients = loss().unwrap().backward().unwrap();
    for (name, variable) in discriminator.variables() {
        let gradient = gradients.get(variable).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let start = variable.as_detached_tensor().copy().unwrap();
        let values = start.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let scale = gradient.iter().fold(1e-3, |m: f64, g| m.max(g.abs()));
        for i in (0..values.len()).step_by((values.len() / 5).max(1)) {
            let at = |v: f64| {
                let mut values = values.clone();
                values[i] = v;
                variable.set(&Tensor::from_vec(values, start.shape(), &Device::Cpu).unwrap()).unwrap();
                loss().unwrap().to_scalar::<f64>().unwrap()
            };
            let difference = (at(values[i] + 1e-6) - at(values[i] - 1e-6)) / 2e-6;
            variable.set(&start).unwrap();
            assert!(
                (gradient[i] - difference).abs() < 2e-5 * scale,
                "{name}, element {i}: gradient {}, difference {difference}",
                gradient[i]
            );
        }
    }
}

#[test]
fn picture_losses() {
    let (picture, target) = (random(&[2, 16, 16, 3], 1), random(&[2, 16, 16, 3], 2).as_detached_tensor());
    check("l1", std::slice::from_ref(&picture), |t| losses::l1(&t[0], &target));
    check("pyramid", &[picture], |t| Perceptual::Pyramid.loss(&t[0], &target));
}

#[test]
fn squeezenet_loss() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut tensors = std::collections::HashMap::new();
    let mut layer = |name: String, shape: [usize; 4]| {
        let fan_in = (shape[1] * shape[2] * shape[3]) as f64;
        let seed = 10 + tensors.len() as u64;
        let weight = (random(&shape, seed).as_detached_tensor() * (6.0 / fan_in).sqrt()).unwrap();
        tensors.insert(format!("{name}.weight"), weight.to_dtype(DType::F32).unwrap());
        let bias = random(&shape[..1], seed + 1).as_detached_tensor();
        tensors.insert(format!("{name}.bias"), bias.to_dtype(DType::F32).unwrap());
    };
    layer("conv1".into(), [96, 3, 7, 7]);
    let mut channels = 96;
    for (i, squeezed, expanded) in [
        (2, 16, 64),
        (3, 16, 64),
        (4, 32, 128),
        (5, 32, 128),
        (6, 48, 192),
        (7, 48, 192),
        (8, 64, 256),
        (9, 64, 256),
    ] {
        layer(format!("fire{i}/squeeze1x1"), [squeezed, channels, 1, 1]);
        layer(format!("fire{i}/expand1x1"), [expanded, squeezed, 1, 1]);
        layer(format!("fire{i}/expand3x3"), [expanded, squeezed, 3, 3]);
        channels = 2 * expanded;
    }
    candle_core::safetensors::save(&tensors, file.path()).unwrap();
    let network = SqueezeNet::open(file.path(), DType::F64, &Device::Cpu).unwrap();
    let perceptual = Perceptual::SqueezeNet(Box::new(network));
    let (picture, target) = (random(&[1, 37, 37, 3], 1), random(&[1, 37, 37, 3], 2).as_detached_tensor());
    let same = perceptual.loss(&target, &target).unwrap().to_scalar::<f64>().unwrap();
    assert_eq!(same, 0.0);
    check("squeezenet", &[picture], |t| perceptual.loss(&t[0], &target));

    tensors.remove("fire5/expand3x3.bias");
    candle_core::safetensors::save(&tensors, file.path()).unwrap();
    let error = SqueezeNet::open(file.path(), DType::F64, &Device::Cpu).err().unwrap().to_string();
    assert!(error.contains("fire5/expand3x3.bias"), "{error}");
}
