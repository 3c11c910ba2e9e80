//! Every operation of the network: the CPU kernel (f32) against the plain form (f64), and the plain form's gradients
//! against finite differences.

use ca2sis::nn::ops::{self, Activation};
use candle_core::{DType, Device, Result, Tensor, Var};

type Op<'a> = dyn Fn(&[Tensor]) -> Result<Tensor> + 'a;

/// Reproducible values in [-1, 1] without a random number generator's state.
fn values(count: usize, salt: usize) -> Vec<f64> {
    (0..count).map(|i| ((i * 7919 + salt * 104_729) % 2003) as f64 / 1001.0 - 1.0).collect()
}

fn inputs(shapes: &[&[usize]], dtype: DType) -> Vec<Var> {
    let input = |(salt, shape): (usize, &&[usize])| {
        let t = Tensor::from_vec(values(shape.iter().product(), salt + 1), *shape, &Device::Cpu).unwrap();
        Var::from_tensor(&t.to_dtype(dtype).unwrap()).unwrap()
    };
    shapes.iter().enumerate().map(input).collect()
}

/// The output, and the gradients of its product with fixed values.
fn run(op: &Op, vars: &[Var]) -> Result<(Tensor, Vec<Tensor>)> {
    let args: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = op(&args)?;
    let grads = objective(&y)?.backward()?;
    let zeros = |v: &Var| v.zeros_like();
    let grads =
        vars.iter().map(|v| grads.get(v).cloned().map_or_else(|| zeros(v), Ok)).collect::<Result<_>>()?;
    Ok((y, grads))
}

fn objective(y: &Tensor) -> Result<Tensor> {
    let weights =
        Tensor::from_vec(values(y.elem_count(), 77), y.shape(), &Device::Cpu)?.to_dtype(y.dtype())?;
    (y * weights)?.sum_all()
}

fn flat(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_near(what: &str, got: &Tensor, want: &Tensor, relative: f64) {
    assert_eq!(got.dims(), want.dims(), "{what}: shape");
    let (got, want) = (flat(got), flat(want));
    let scale = want.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
        assert!((g - w).abs() <= relative * scale, "{what}: element {i} is {g}, not {w} (scale {scale})");
    }
}

fn check(name: &str, shapes: &[&[usize]], op: &Op) {
    let exact = inputs(shapes, DType::F64);
    let (want, want_grads) = run(op, &exact).unwrap();
    // f32 carries 24 bits; sums of a few hundred terms lose some of them.
    let (got, got_grads) = run(op, &inputs(shapes, DType::F32)).unwrap();
    assert_near(&format!("{name}, kernel"), &got, &want, 3e-6);
    for (i, (got, want)) in got_grads.iter().zip(&want_grads).enumerate() {
        assert_near(&format!("{name}, kernel's gradient {i}"), got, want, 1e-5);
    }
    // Central differences at a spread of elements: error h^2 times the third derivative.
    let h = 1e-5;
    for (i, (var, grad)) in exact.iter().zip(&want_grads).enumerate() {
        let (start, grad) = (flat(var), flat(grad));
        for e in (0..start.len()).step_by(start.len().div_ceil(9)) {
            let at = |delta: f64| {
                let mut moved = start.clone();
                moved[e] += delta;
                let mut args: Vec<Tensor> = exact.iter().map(|v| v.as_detached_tensor()).collect();
                args[i] = Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap();
                flat(&objective(&op(&args).unwrap()).unwrap())[0]
            };
            let slope = (at(h) - at(-h)) / (2.0 * h);
            let near = (slope - grad[e]).abs() <= 1e-5 * (1.0 + slope.abs());
            assert!(near, "{name}: gradient {i}, element {e} is {}, differences give {slope}", grad[e]);
        }
    }
}

#[test]
fn linear_with_and_without_bias() {
    check("linear", &[&[2, 13, 24], &[40, 24], &[40]], &|t| ops::linear(&t[0], &t[1], Some(&t[2])));
    check("linear without bias", &[&[3, 5], &[7, 5]], &|t| ops::linear(&t[0], &t[1], None));
}

#[test]
fn convolution_of_every_stride_and_kernel_in_use() {
    for (kernel, stride, padding) in [(3, 1, 1), (3, 2, 1), (4, 2, 2), (4, 1, 2), (1, 1, 0), (7, 2, 0)] {
        for (h, w) in [(9, 7), (8, 10)] {
            let name = format!("conv {kernel}x{kernel} stride {stride} padding {padding} on {h}x{w}");
            // Gradients of fewer outputs than inputs take another way.
            for outputs in [6, 2] {
                let shapes: [&[usize]; 3] = [&[2, h, w, 3], &[outputs, 3, kernel, kernel], &[outputs]];
                check(&name, &shapes, &|t| ops::conv2d(&t[0], &t[1], Some(&t[2]), stride, padding));
            }
        }
    }
    check("conv without bias", &[&[1, 5, 5, 2], &[4, 2, 3, 3]], &|t| ops::conv2d(&t[0], &t[1], None, 1, 1));
}

#[test]
fn grouped_convolution() {
    for (stride, outputs) in [(1, 5), (1, 2), (2, 5), (2, 2)] {
        let shapes: [&[usize]; 3] = [&[3, 2, 6, 5, 4], &[3 * outputs, 4, 3, 3], &[3 * outputs]];
        let op = move |t: &[Tensor]| ops::grouped_conv2d(&t[0], &t[1], Some(&t[2]), stride, 1);
        check(&format!("grouped conv stride {stride}"), &shapes, &op);
    }
}

#[test]
fn group_norm_with_every_activation() {
    let activations = [Activation::None, Activation::Relu, Activation::Silu, Activation::LeakyRelu(0.2)];
    for activation in activations {
        let name = format!("group norm {activation:?}");
        let shapes: [&[usize]; 3] = [&[2, 3, 4, 5, 6], &[12], &[12]];
        check(&name, &shapes, &|t| ops::group_norm(&t[0], 3, Some((&t[1], &t[2])), 1e-5, activation));
        let shapes: [&[usize]; 3] = [&[3, 4, 5, 6], &[6], &[6]];
        let one = |t: &[Tensor]| ops::group_norm(&t[0], 3, Some((&t[1], &t[2])), 1e-5, activation);
        check(&format!("{name} of one group of pictures"), &shapes, &one);
        let plain = |t: &[Tensor]| ops::group_norm(&t[0], 6, None, 1e-5, activation);
        check(&format!("instance norm {activation:?}"), &[&[1, 2, 5, 4, 6]], &plain);
    }
}

#[test]
fn layer_norm() {
    let shapes: [&[usize]; 3] = [&[2, 6, 21], &[21], &[21]];
    check("layer norm", &shapes, &|t| ops::layer_norm(&t[0], &t[1], &t[2], 1e-5));
}

#[test]
fn activations() {
    for activation in [Activation::Relu, Activation::Silu, Activation::LeakyRelu(0.2)] {
        check(&format!("{activation:?}"), &[&[3, 50]], &|t| ops::activate(&t[0], activation));
    }
}

#[test]
fn geglu() {
    check("geglu", &[&[2, 9, 34]], &|t| ops::geglu(&(&t[0] * 3.0)?));
}

#[test]
fn attention_to_pixels_and_to_classes() {
    check("attention", &[&[2, 70, 12], &[2, 9, 12], &[2, 9, 12]], &|t| {
        ops::attention(&(&t[0] * 2.0)?, &(&t[1] * 2.0)?, &t[2], 3)
    });
    // One tensor in three places: the gradients add up.
    check("self-attention", &[&[1, 130, 8]], &|t| ops::attention(&t[0], &t[0], &t[0], 2));
    check("one class", &[&[1, 5, 4], &[1, 1, 4], &[1, 1, 4]], &|t| ops::attention(&t[0], &t[1], &t[2], 1));
}

#[test]
fn upsampling() {
    for (h, w) in [(1, 1), (3, 2), (4, 5)] {
        check(&format!("nearest {h}x{w}"), &[&[2, h, w, 3]], &|t| ops::upsample_nearest2(&t[0]));
        check(&format!("bilinear {h}x{w}"), &[&[2, h, w, 3]], &|t| ops::upsample_bilinear2(&t[0]));
        let shapes: [&[usize]; 2] = [&[2, h, w, 3], &[2, 2 * h, 2 * w, 5]];
        check(&format!("bilinear {h}x{w}, joined"), &shapes, &|t| ops::join_doubled(&t[0], &t[1]));
    }
}

#[test]
fn a_result_does_not_depend_on_the_run() {
    let shapes: [&[usize]; 3] = [&[1, 33, 31, 16], &[24, 16, 3, 3], &[24]];
    let once =
        || run(&|t| ops::conv2d(&t[0], &t[1], Some(&t[2]), 1, 1), &inputs(&shapes, DType::F32)).unwrap();
    let (first, first_grads) = once();
    let (second, second_grads) = once();
    assert_eq!(flat(&first), flat(&second));
    for (a, b) in first_grads.iter().zip(&second_grads) {
        assert_eq!(flat(a), flat(b));
    }
}
