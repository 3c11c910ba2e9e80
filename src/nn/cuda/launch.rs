//! Starting a kernel of `kernels.cu`.

#[cfg(feature = "cuda")]
use candle_core::backend::BackendStorage;
use candle_core::{Layout, Result, Storage, Tensor, bail};

/// Threads of a block, as in `kernels.cu`.
pub(super) const THREADS: usize = 256;

/// What a kernel is told besides its tensors.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    n: u32,
    i: [i32; 11],
    f: [f32; 4],
}

impl Numbers {
    /// # Errors
    /// Numbers that do not fit: a tensor that is too large for 32 bits.
    pub fn new(items: usize, i: &[usize]) -> Result<Self> {
        let mut numbers = Self { n: u32::try_from(items)?, ..Self::default() };
        for (to, &from) in numbers.i.iter_mut().zip(i) {
            *to = i32::try_from(from)?;
        }
        Ok(numbers)
    }

    pub fn with(self, f: f32) -> Self {
        Self { f: [f, 0.0, 0.0, 0.0], ..self }
    }
}

/// The first element and the end of a contiguous tensor in its storage.
fn range(layout: &Layout) -> Result<(usize, usize)> {
    match layout.contiguous_offsets() {
        Some(range) => Ok(range),
        None => bail!("a kernel was given a tensor that is not contiguous"),
    }
}

/// Runs `kernel` on up to four contiguous f32 tensors of one device: `len` elements, of which it writes every one.
pub(super) fn launch(
    kernel: &'static str,
    numbers: &Numbers,
    blocks: usize,
    inputs: &[&Tensor],
    len: usize,
) -> Result<Storage> {
    let guards: Vec<_> = inputs.iter().map(|t| t.storage_and_layout()).collect();
    match guards.first().map(|(storage, _)| &**storage) {
        #[cfg(feature = "cuda")]
        Some(Storage::Cuda(first)) => {
            let device = first.device().clone();
            let inputs = guards.iter().map(|(storage, layout)| match &**storage {
                Storage::Cuda(storage) => {
                    let (start, end) = range(layout)?;
                    Ok(storage.as_cuda_slice::<f32>()?.slice(start..end))
                }
                _ => bail!("{kernel}: inputs of several devices"),
            });
            let inputs = inputs.collect::<Result<Vec<_>>>()?;
            on_cuda(kernel, numbers, blocks, &inputs, len, &device)
        }
        #[cfg(test)]
        Some(Storage::Cpu(_)) => {
            let inputs = guards.iter().map(|(storage, layout)| match &**storage {
                Storage::Cpu(storage) => {
                    let (start, end) = range(layout)?;
                    Ok(&storage.as_slice::<f32>()?[start..end])
                }
                _ => bail!("{kernel}: inputs of several devices"),
            });
            super::emulation::run(kernel, numbers, blocks, &inputs.collect::<Result<Vec<_>>>()?, len)
        }
        _ => bail!("{kernel}: no input on a device that has it"),
    }
}

#[cfg(feature = "cuda")]
fn on_cuda(
    kernel: &'static str,
    numbers: &Numbers,
    blocks: usize,
    inputs: &[candle_core::cuda_backend::cudarc::driver::CudaView<f32>],
    len: usize,
    device: &candle_core::CudaDevice,
) -> Result<Storage> {
    use candle_core::cuda_backend::cudarc::driver::{LaunchConfig, PushKernelArg};
    use candle_core::cuda_backend::{CudaStorage, WrapErr};

    const CODE: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));
    let function = device.get_or_load_custom_func(kernel, "ca2sis", CODE)?;
    // SAFETY: the kernel writes every element before it is read.
    let mut out = unsafe { device.alloc::<f32>(len)? };
    let mut arguments = function.builder();
    arguments.arg(numbers);
    for input in inputs {
        arguments.arg(input);
    }
    for _ in inputs.len()..4 {
        arguments.arg(&0u64);
    }
    arguments.arg(&mut out);
    let config = LaunchConfig {
        grid_dim: (u32::try_from(blocks)?, 1, 1),
        block_dim: (THREADS as u32, 1, 1),
        shared_mem_bytes: 0,
    };
    // SAFETY: the arguments are those of every kernel in kernels.cu, which keep to the sizes that `numbers` tells; the wrappers
    // in this module take them from the tensors' shapes.
    unsafe { arguments.launch(config) }.w()?;
    Ok(Storage::Cuda(CudaStorage::wrap_cuda_slice(out, device.clone())))
}

// SAFETY: plain numbers, laid out as the struct of the same name in kernels.cu.
#[cfg(feature = "cuda")]
unsafe impl candle_core::cuda_backend::cudarc::driver::DeviceRepr for Numbers {}
