//! The memory that the forms made for GPUs plan, against what they take: measured on the CPU, where each of candle's operations
//! allocates what it does on a GPU, but for what a product packs: nearly nothing in f32, a factor of f16 whole as f32, so that f16
//! is looked at with small factors alone. One test alone, as the allocator counts for the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ca2sis::Error;
use ca2sis::nn::golden::Formula;
use ca2sis::nn::{Config, Network, Precision, Stage};
use ca2sis::progress::Progress;
use candle_core::{DType, Device, Tensor};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on as it is; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that `work` had more than before at once.
fn taken<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = work();
    (PEAK.load(Relaxed).saturating_sub(before), result)
}

fn network(classes: usize) -> Network {
    let stage = |channels_in, channels_out, up, heads, head_width, self_attention| Stage {
        channels_in,
        channels_out,
        up,
        heads,
        head_width,
        ff_factor: 4,
        self_attention,
    };
    let config = Config {
        resolution: 128,
        mask_size: 64,
        mask_rank: None,
        style_downs: 4,
        style_scales: 3,
        mapping: None,
        stages: vec![
            stage(64, 64, false, 4, 32, true),
            stage(64, 32, true, 4, 32, true),
            stage(32, 32, true, 4, 32, false),
            stage(32, 32, true, 2, 32, false),
        ],
        ..Config::published(classes, 32, 32, true)
    };
    Network::new(&config, Formula { seed: 1 }.var_builder(&Device::Cpu)).unwrap()
}

fn refused(result: ca2sis::Result<Tensor>) -> u64 {
    match result {
        Err(Error::MemoryLimit { needed, limit: 1 }) => needed,
        other => panic!("{other:?}"),
    }
}

/// The plain network in f64, as in f32 it has kernels of its own on the CPU: twice the bytes.
fn plain() {
    struct Double(Formula);
    impl candle_nn::var_builder::SimpleBackend for Double {
        fn get(
            &self,
            shape: candle_core::Shape,
            name: &str,
            _: candle_nn::Init,
            _: DType,
            device: &Device,
        ) -> candle_core::Result<Tensor> {
            Tensor::from_vec(self.0.values(name, shape.dims()), shape, device)?.to_dtype(DType::F64)
        }
        fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
            candle_core::bail!("{name} was asked for without a shape")
        }
        fn contains_tensor(&self, _: &str) -> bool {
            true
        }
    }
    let vb = Box::new(Double(Formula { seed: 1 }));
    let vb = candle_nn::VarBuilder::from_backend(vb, DType::F64, Device::Cpu);
    let network = Network::new(network(19).config(), vb).unwrap();
    let config = network.config();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F64, &Device::Cpu).unwrap();
    let code = zeros(&[1, config.mask_classes(), config.base_size * config.base_size]);
    let style = zeros(&[1, 19, config.style_width()]);
    let decode = || network.decode(&code, &style, Progress::NONE).map(drop);
    decode().unwrap();
    let (bytes, result) = taken(decode);
    result.unwrap();
    let planned = 2 * network.plain_bytes();
    println!("the plain network: {bytes} bytes of {planned}");
    assert!(bytes as u64 <= planned + (1 << 20) && 4 * bytes as u64 >= planned, "{bytes} of {planned}");
}

#[test]
fn what_is_planned_is_enough_and_not_many_times_too_much() {
    plain();
    for (classes, precision) in [(19, Precision::F32), (60, Precision::F32), (19, Precision::F16)] {
        let network = network(classes).with_precision(precision);
        let side = network.config().resolution;
        let batch = 3;
        let labels: Vec<u32> = (0..batch * side * side).map(|i| (i / 37 % classes) as u32).collect();
        let labels = Tensor::from_vec(labels, (batch, side, side), &Device::Cpu).unwrap();
        let onehot = candle_nn::encoding::one_hot(labels, classes, 1f32, 0f32).unwrap();
        let rgb = Tensor::zeros((batch, side, side, 3), DType::F32, &Device::Cpu).unwrap();
        let code = network.encode_mask(&onehot).unwrap();
        let encode = |limit| {
            let network = network.clone().with_memory_limit(limit);
            network.encode_style_tensors(&rgb, &onehot, Progress::NONE)
        };
        let style = encode(None).unwrap();
        let decode = |limit| {
            let network = network.clone().with_memory_limit(limit);
            let prepared = network.prepare_tensors(&style.get(0)?)?;
            PEAK.store(NOW.load(Relaxed), Relaxed); // folding the style is not a decode
            prepared.generate_batch(&code, Progress::NONE)
        };
        decode(None).unwrap(); // threads and the products' own scratch are there after a first run
        let least = [refused(decode(Some(1))), refused(encode(Some(1)))];
        for (what, least) in ["decode", "encode"].into_iter().zip(least) {
            let shares = if precision == Precision::F32 { &[1, 2, 8][..] } else { &[1] };
            for limit in shares.iter().map(|n| n * least) {
                let (bytes, result) = match what {
                    "decode" => taken(|| decode(Some(limit))),
                    _ => taken(|| encode(Some(limit))),
                };
                result.unwrap();
                println!("{what}, {classes} classes, {precision}: {bytes} bytes of {limit}");
                // The products of the CPU pack their factors, up to a few hundred KB a thread.
                assert!(bytes as u64 <= limit + (1 << 20), "{what} of {classes} classes: {bytes} of {limit}");
                if limit == least {
                    assert!(4 * bytes as u64 >= limit, "{what} of {classes} classes: {bytes} of {limit}");
                }
            }
        }
    }
}
