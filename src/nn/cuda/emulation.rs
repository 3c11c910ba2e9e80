//! The kernels of `kernels.cu` on the CPU, compiled as C++, and what they are tested for there: the values and gradients of the
//! plain operations.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use candle_core::{CpuStorage, Device, Result, Storage, Tensor, Var, bail};
use once_cell::sync::Lazy;
use rand::{RngExt, SeedableRng};

use super::launch::Numbers;
use crate::nn::ops::{Activation, plain};

type Emulate = unsafe extern "C" fn(
    *const c_char,
    u32,
    *const Numbers,
    *const f32,
    *const f32,
    *const f32,
    *const f32,
    *mut f32,
) -> c_int;

/// `emulate` of `emulation.cpp`. One at a time: it has its threads' barrier in one place.
static EMULATE: Lazy<Mutex<Emulate>> = Lazy::new(|| {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/nn/cuda/emulation.cpp");
    let folder = tempfile::tempdir().expect("a folder");
    let library = folder.path().join("kernels.so");
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let done = Command::new(&compiler)
        .args(["-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread", "-o"])
        .arg(&library)
        .arg(&source)
        .status()
        .unwrap_or_else(|e| panic!("{compiler}: {e}"));
    assert!(done.success(), "{compiler} ended with {done}");
    let path = CString::new(library.to_str().expect("a path in Unicode")).expect("no zero");
    // SAFETY: a library made just now, with the function of that type; it is never unloaded.
    unsafe {
        let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        assert!(!handle.is_null(), "{:?}", CStr::from_ptr(libc::dlerror()));
        let function = libc::dlsym(handle, c"emulate".as_ptr());
        assert!(!function.is_null());
        Mutex::new(std::mem::transmute::<*mut c_void, Emulate>(function))
    }
});

/// Memory that ends where no more may be touched, so that a kernel that goes past it is caught in the act.
struct Guarded {
    start: *mut c_void,
    bytes: usize,
    first: *mut f32,
}

impl Guarded {
    fn new(values: &[f32]) -> Self {
        // SAFETY: pages of our own, the last of which is closed; the values fit in front of it.
        unsafe {
            let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
            let used = size_of_val(values).next_multiple_of(page);
            let (protection, flags) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            let start = libc::mmap(std::ptr::null_mut(), used + page, protection, flags, -1, 0);
            assert_ne!(start, libc::MAP_FAILED);
            assert_eq!(libc::mprotect(start.byte_add(used), page, libc::PROT_NONE), 0);
            let first = start.byte_add(used).cast::<f32>().sub(values.len());
            first.copy_from_nonoverlapping(values.as_ptr(), values.len());
            Self { start, bytes: used + page, first }
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`.
        unsafe { libc::munmap(self.start, self.bytes) };
    }
}

pub(super) fn run(
    kernel: &str,
    numbers: &Numbers,
    blocks: usize,
    inputs: &[&[f32]],
    len: usize,
) -> Result<Storage> {
    // What is not written shows.
    let out = Guarded::new(&vec![f32::NAN; len]);
    let inputs: Vec<Guarded> = inputs.iter().map(|values| Guarded::new(values)).collect();
    let input = |i: usize| inputs.get(i).map_or(std::ptr::null(), |input| input.first.cast_const());
    let name = CString::new(kernel).expect("no zero in a name");
    let emulate = EMULATE.lock().unwrap_or_else(|e| e.into_inner());
    // SAFETY: the arguments are those of every kernel; that it keeps to its inputs and output is what is tested.
    let missing = unsafe {
        emulate(
            name.as_ptr(),
            u32::try_from(blocks)?,
            numbers,
            input(0),
            input(1),
            input(2),
            input(3),
            out.first,
        )
    };
    if missing != 0 {
        bail!("{kernel}: not in kernels.cu")
    }
    // SAFETY: written above.
    let out = unsafe { std::slice::from_raw_parts(out.first, len) }.to_vec();
    Ok(Storage::Cpu(CpuStorage::F32(out)))
}

/// A variable of values between -2 and 2.
fn random(dims: &[usize], seed: u64) -> Var {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..dims.iter().product()).map(|_| rng.random_range(-2.0..2.0)).collect();
    Var::from_tensor(&Tensor::from_vec(values, dims, &Device::Cpu).unwrap()).unwrap()
}

/// The values of `ours` and its gradients to each variable are those of `theirs`, to 2e-5 of the largest: sums of up to thousands
/// of terms in another order.
fn same(
    what: &str,
    variables: &[Var],
    ours: impl Fn(&[Tensor]) -> Result<Tensor>,
    theirs: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let tensors: Vec<Tensor> = variables.iter().map(|v| v.as_tensor().clone()).collect();
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let near = |part: &str, a: &Tensor, b: &Tensor| {
        assert_eq!(a.dims(), b.dims(), "{what}, {part}");
        let (a, b) = (values(a), values(b));
        let scale = b.iter().fold(1e-3_f32, |m, v| m.max(v.abs()));
        for (i, (a, b)) in a.iter().zip(&b).enumerate() {
            assert!((a - b).abs() <= 2e-5 * scale, "{what}, {part}, element {i}: {a}, not {b}");
        }
    };
    let (y, wanted) = (ours(&tensors).unwrap(), theirs(&tensors).unwrap());
    near("result", &y, &wanted);
    // A loss whose gradient differs from element to element.
    let weights = random(y.dims(), 99).as_detached_tensor();
    let gradients = |y: &Tensor| (y * &weights).unwrap().sum_all().unwrap().backward().unwrap();
    let (ours, theirs) = (gradients(&y), gradients(&wanted));
    for (i, variable) in variables.iter().enumerate() {
        let of =
            |store: &candle_core::backprop::GradStore| store.get(variable).unwrap().contiguous().unwrap();
        near(&format!("gradient of argument {i}"), &of(&ours), &of(&theirs));
    }
}

#[test]
fn linear_layers_have_the_plain_values_and_gradients() {
    for (rows, inputs, outputs) in [(1, 1, 1), (7, 5, 3), (300, 24, 17), (130, 4, 515)] {
        let v = [random(&[1, rows, inputs], 1), random(&[outputs, inputs], 2), random(&[outputs], 3)];
        same(
            &format!("linear {rows} {inputs} {outputs}"),
            &v,
            |t| super::linear(&t[0], &t[1], Some(&t[2])),
            |t| plain::linear(&t[0], &t[1], Some(&t[2])),
        );
    }
}

#[test]
fn convolutions_have_the_plain_values_and_gradients() {
    let cases = [
        // groups, pictures, height, width, inputs, outputs, kernel, stride, padding
        (1, 2, 5, 7, 3, 4, 3, 1, 1),
        (1, 1, 9, 9, 3, 5, 7, 2, 0),
        (3, 2, 8, 6, 4, 2, 3, 2, 1),
        (2, 1, 4, 4, 8, 3, 1, 1, 0),
        (1, 2, 6, 6, 2, 3, 4, 2, 1),
        (1, 1, 33, 40, 4, 8, 3, 1, 1),
        (2, 1, 64, 128, 2, 3, 3, 1, 1),
    ];
    for case @ (n, m, h, w, i, o, k, stride, padding) in cases {
        let v = [random(&[n, m, h, w, i], 1), random(&[n * o, i, k, k], 2), random(&[n * o], 3)];
        same(
            &format!("convolution {case:?}"),
            &v,
            |t| super::grouped_conv2d(&t[0], &t[1], Some(&t[2]), stride, padding),
            |t| plain::grouped_conv2d(&t[0], &t[1], Some(&t[2]), stride, padding),
        );
        same(
            &format!("convolution {case:?} without bias"),
            &v[..2],
            |t| super::grouped_conv2d(&t[0], &t[1], None, stride, padding),
            |t| plain::grouped_conv2d(&t[0], &t[1], None, stride, padding),
        );
    }
}

#[test]
fn a_single_groups_dimension_may_be_left_out() {
    let v = [random(&[2, 6, 5, 4], 1), random(&[8, 4, 3, 3], 2), random(&[8], 3), random(&[8], 4)];
    same(
        "convolution and norm",
        &v,
        |t| {
            let y = super::grouped_conv2d(&t[0], &t[1], Some(&t[2]), 1, 1)?;
            super::group_norm(&y, 2, Some((&t[2], &t[3])), 1e-5, Activation::Silu)
        },
        |t| {
            let y = plain::grouped_conv2d(&t[0].unsqueeze(0)?, &t[1], Some(&t[2]), 1, 1)?;
            plain::group_norm(&y, 2, Some((&t[2], &t[3])), 1e-5, Activation::Silu)?.squeeze(0)
        },
    );
}

#[test]
fn norms_have_the_plain_values_and_gradients() {
    let activations = [Activation::None, Activation::Relu, Activation::Silu, Activation::LeakyRelu(0.2)];
    let shapes = [([1, 2, 5, 4, 6], 3), ([3, 2, 8, 8, 4], 1), ([1, 1, 3, 3, 8], 8), ([2, 1, 20, 20, 300], 2)];
    for (dims, groups) in shapes {
        for activation in activations {
            let channels = dims[0] * dims[4];
            let v = [random(&dims, 1), random(&[channels], 2), random(&[channels], 3)];
            same(
                &format!("group norm {dims:?}, {groups} groups, {activation:?}"),
                &v,
                |t| super::group_norm(&t[0], groups, Some((&t[1], &t[2])), 1e-5, activation),
                |t| plain::group_norm(&t[0], groups, Some((&t[1], &t[2])), 1e-5, activation),
            );
            same(
                &format!("norm {dims:?}, {groups} groups, {activation:?}"),
                &v[..1],
                |t| super::group_norm(&t[0], groups, None, 1e-5, activation),
                |t| plain::group_norm(&t[0], groups, None, 1e-5, activation),
            );
        }
    }
    for (rows, width) in [(1, 8), (9, 32), (700, 24), (5, 129)] {
        let v = [random(&[rows, width], 1), random(&[width], 2), random(&[width], 3)];
        same(
            &format!("layer norm of {rows} rows of {width}"),
            &v,
            |t| super::layer_norm(&t[0], &t[1], &t[2], 1e-5),
            |t| plain::layer_norm(&t[0], &t[1], &t[2], 1e-5),
        );
    }
}

#[test]
fn rows_are_normalized_without_weight_and_bias() {
    let x = random(&[7, 40], 1).as_detached_tensor();
    let (one, zero) =
        (Tensor::ones(40, x.dtype(), x.device()).unwrap(), x.get(0).unwrap().zeros_like().unwrap());
    let apart = super::normalize(&x, 1e-5).unwrap() - plain::layer_norm(&x, &one, &zero, 1e-5).unwrap();
    assert!(apart.unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() < 1e-5);
}

#[test]
fn a_large_mean_costs_a_norm_no_digits() {
    let x = (random(&[1, 1, 16, 16, 4], 1).as_detached_tensor() + 4000.0).unwrap();
    let y = super::group_norm(&x, 2, None, 1e-5, Activation::None).unwrap();
    let x = x.to_dtype(candle_core::DType::F64).unwrap();
    let wanted = plain::group_norm(&x, 2, None, 1e-5, Activation::None).unwrap();
    let apart = (y.to_dtype(candle_core::DType::F64).unwrap() - wanted).unwrap().abs().unwrap();
    // An f32 near 4000 is known to 2.4e-4, a mean of hundreds of them too; deviations are 1.15.
    assert!(apart.max_all().unwrap().to_scalar::<f64>().unwrap() < 5e-4);
}

#[test]
fn attention_has_the_plain_values_and_gradients() {
    for (b, l, s, heads, width) in [(2, 5, 3, 2, 4), (1, 40, 40, 4, 8), (1, 3, 100, 1, 16)] {
        let inner = heads * width;
        let v = [random(&[b, l, inner], 1), random(&[b, s, inner], 2), random(&[b, s, inner], 3)];
        same(
            &format!("attention of {l} to {s}"),
            &v,
            |t| super::attention(&t[0], &t[1], &t[2], heads),
            |t| plain::attention(&t[0], &t[1], &t[2], heads),
        );
    }
}

#[test]
fn pointwise_operations_and_doubling_have_the_plain_values_and_gradients() {
    for activation in [Activation::Relu, Activation::Silu, Activation::LeakyRelu(0.2)] {
        let v = [random(&[3, 200], 1)];
        same(
            &format!("{activation:?}"),
            &v,
            |t| super::activate(&t[0], activation),
            |t| plain::activate(&t[0], activation),
        );
    }
    for dims in [[1, 3, 3, 1], [2, 8, 5, 3], [1, 13, 12, 4]] {
        let v = [random(&dims, 1)];
        // Features that are nowhere negative, as behind a ReLU; two are never equal.
        let squares = |t: &[Tensor]| t[0].sqr();
        same(
            &format!("maximum of {dims:?}"),
            &v,
            |t| super::max_pool(&squares(t)?),
            |t| plain::max_pool(&squares(t)?),
        );
    }
    same("geglu", &[random(&[2, 9, 14], 1)], |t| super::geglu(&t[0]), |t| plain::geglu(&t[0]));
    for dims in [[1, 1, 1, 1], [2, 1, 5, 3], [1, 6, 4, 8]] {
        let v = [random(&dims, 1)];
        same(
            &format!("nearest doubling of {dims:?}"),
            &v,
            |t| super::upsample_nearest2(&t[0]),
            |t| plain::upsample_nearest2(&t[0]),
        );
        same(
            &format!("bilinear doubling of {dims:?}"),
            &v,
            |t| super::upsample_bilinear2(&t[0]),
            |t| plain::upsample_bilinear2(&t[0]),
        );
        let [m, h, w, _] = dims;
        same(
            &format!("bilinear doubling of {dims:?}, joined"),
            &[random(&dims, 1), random(&[m, 2 * h, 2 * w, 5], 2)],
            |t| super::join_doubled(&t[0], &t[1]),
            |t| plain::join_doubled(&t[0], &t[1]),
        );
    }
}
