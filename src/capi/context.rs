//! `ca2_context`.

use std::ffi::c_void;

use once_cell::sync::OnceCell;

use super::callback::{CA2_LOG_DEBUG, CA2_LOG_INFO, Data, ca2_log_fn, logger};
use super::device::{Device, ca2_device_info, choice};
use super::guard::guard;
use super::handle::{Handle, Sized1, check_sized, out_handle, read_options, write_sized};
use super::status::ca2_status;
use crate::context::{Context, Options};
use crate::nn::Precision;
use crate::{Error, Result};

/// A device with the thread that owns it, a memory limit and a log.
///
/// Immutable and atomically counted; used from any thread. All work on one context runs on its own threads, one call after
/// another in the order in which they came, so the caller's threads keep their CUDA context, their floating-point state and
/// their priorities. Models and styles keep their context alive, so it may be released before them.
#[allow(non_camel_case_types)]
pub struct ca2_context {
    pub(super) context: Context,
    device: Device,
    /// The CPU, once that stands in for a GPU that failed.
    stand_in: OnceCell<Device>,
}

impl ca2_context {
    fn new(context: Context) -> Self {
        let device = Device::new(context.device_info());
        Self { context, device, stand_in: OnceCell::new() }
    }

    /// The device that calls run on now.
    fn device(&self) -> &Device {
        match self.context.stand_in_info() {
            Some(info) => self.stand_in.get_or_init(|| Device::new(info)),
            None => &self.device,
        }
    }
}

impl Handle for ca2_context {}

/// Every device: 24 bits of mantissa, none are lost. CPUs with AMX take 16 of them when they generate pictures, as the sum of two bfloat16:
/// within 1e-3 of [-1, 1] from the network either way.
pub const CA2_PRECISION_F32: u32 = 0;
/// 11 bits, f32's range: CUDA devices, in their tensor cores.
pub const CA2_PRECISION_TF32: u32 = 1;
/// 8 bits, f32's range: CPUs with AVX-512 BF16, CUDA and Metal devices.
pub const CA2_PRECISION_BF16: u32 = 2;
/// 11 bits, to 65504: CUDA and Metal devices.
pub const CA2_PRECISION_F16: u32 = 3;
/// What each model asks for: bf16 where it says that its pictures hold in it and the device has it, but for Intel CPUs without AMX,
/// else f32.
pub const CA2_PRECISION_AUTO: u32 = 4;

/// None for what the model asks for.
fn precision(code: u32) -> Result<Option<Precision>> {
    match code {
        CA2_PRECISION_F32 => Ok(Some(Precision::F32)),
        CA2_PRECISION_TF32 => Ok(Some(Precision::Tf32)),
        CA2_PRECISION_BF16 => Ok(Some(Precision::Bf16)),
        CA2_PRECISION_F16 => Ok(Some(Precision::F16)),
        CA2_PRECISION_AUTO => Ok(None),
        other => Err(Error::unsupported(format!(
            "options: precision is {other}: this version knows CA2_PRECISION_* 0 to 4"
        ))),
    }
}

/// How a context is to be. All zero is the default: a device chosen by itself, all the machine's threads, no memory limit,
/// no log, f32.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct ca2_context_options {
    /// Size of this struct, as CA2_CONTEXT_OPTIONS_INIT sets it.
    pub struct_size: usize,
    /// CA2_DEVICE_*.
    pub device: u32,
    /// Which of its kind, from 0; only with CA2_DEVICE_CUDA and CA2_DEVICE_METAL.
    pub device_number: u32,
    /// Threads that share the work on the CPU, at most 1024; 0 for as many as the environment variable CA2SIS_THREADS says, a
    /// number from 1 to 1024 (any other value is overlooked), else for as many as the machine runs at once.
    pub threads: u32,
    /// The most detailed CA2_LOG_* that `log` is told; 0 for CA2_LOG_INFO.
    pub log_level: u32,
    /// Bytes that one call may need beyond its arguments and the loaded models, 0 for no limit. Planned before a call
    /// begins: it then fits, by working in smaller parts, or returns CA2_MEMORY_LIMIT. Part of a loaded model is what it keeps on
    /// the CPU of the last two styles that it drew in: 0.1 MB each with the model inside, up to 25 MB with networks of the
    /// published size.
    pub memory_limit: u64,
    /// Told what happens; may be NULL.
    pub log: ca2_log_fn,
    /// Handed to `log`.
    pub log_data: *mut c_void,
    /// CA2_PRECISION_*: what the factors of the network's large products are rounded to when it generates pictures. Less than f32
    /// is faster where the network is large, but for bf16 on Intel CPUs that have AVX-512 BF16 without AMX: there it is slower.
    /// Pictures are then like f32's to 40 dB (PSNR) and better with the models that were tested. Sums, codes of styles, label maps
    /// and attention maps are in f32 always. One that the device does not have is refused; where the CPU stands in for a GPU that
    /// failed and does not have it, it is f32. The environment has no say in it.
    pub precision: u32,
    /// Must be 0.
    pub reserved: u32,
}

// SAFETY: repr(C), begins with struct_size, and is numbers and pointers.
unsafe impl Sized1 for ca2_context_options {
    const NAME: &'static str = "ca2_context_options";
    const FIRST: usize = 48;
}

/// Opens a device and starts its worker; gives one reference in `*out`, to be released with ca2_context_release().
///
/// `options` may be NULL for the default. Any thread; takes up to a second with a GPU. `log` may be called until the context
/// is gone, that is, until it and all models and styles made with it are released. `*out` is NULL on failure.
/// Errors: CA2_DEVICE when the device is not there or this build cannot use it (CA2_DEVICE_AUTO never fails so),
/// CA2_INVALID_ARGUMENT, CA2_UNSUPPORTED for an unknown device, log level or precision, and for a precision that the device does
/// not have, also one chosen by itself. Since 0.1.
///
/// # Safety
/// Pointers are NULL or what their types say; `log` and `log_data` may be used from several threads at once.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_context_create(
    options: *const ca2_context_options,
    out: *mut *mut ca2_context,
) -> ca2_status {
    guard(|| {
        // SAFETY: as this function's documentation asks.
        let (out, options) = unsafe { (out_handle(out, "out")?, read_options(options, "options")?) };
        if options.reserved != 0 {
            return Err(Error::unsupported(format!("options: reserved is {}, not 0", options.reserved)));
        }
        let context = Context::new(Options {
            device: choice(options.device, options.device_number)?,
            threads: options.threads as usize,
            memory_limit: (options.memory_limit != 0).then_some(options.memory_limit),
            precision: precision(options.precision)?,
            // SAFETY: as this function's documentation asks.
            log: unsafe { log(&options)? },
        })?;
        ca2_context::new(context).give(out);
        Ok(())
    })
}

/// # Safety
/// `log` and `log_data` may be used from several threads at once.
unsafe fn log(options: &ca2_context_options) -> Result<Option<crate::context::Log>> {
    let level = match options.log_level {
        0 => CA2_LOG_INFO,
        level if level <= CA2_LOG_DEBUG => level,
        other => {
            return Err(Error::unsupported(format!(
                "options: log_level is {other}: this version knows CA2_LOG_* 1 to 4"
            )));
        }
    };
    // SAFETY: as the caller says.
    Ok(options.log.map(|log| unsafe { logger(log, Data(options.log_data), level) }))
}

/// What is known of the device that the context's calls run on: the one that was opened, or the CPU since a GPU chosen by
/// CA2_DEVICE_AUTO has failed in a call. Its texts live as long as the context.
///
/// Any thread, any time; never blocks. Errors: CA2_INVALID_ARGUMENT; `info` is untouched then. Since 0.1.
///
/// # Safety
/// Pointers are NULL or what their types say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_context_device(
    context: *const ca2_context,
    info: *mut ca2_device_info,
) -> ca2_status {
    guard(|| {
        // SAFETY: as this function's documentation asks.
        let context: &ca2_context = &*unsafe { Handle::hold(context, "context")? };
        // SAFETY: as this function's documentation asks; checked before it is written.
        unsafe {
            check_sized(info, "info")?;
            write_sized(info, &context.device().to_c());
        }
        Ok(())
    })
}

/// Adds a reference and gives `context` back, NULL for NULL. Any thread, any time, also in callbacks; never blocks. Since 0.1.
///
/// # Safety
/// `context` is NULL or a context that the caller holds a reference to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ca2_context_retain(context: *mut ca2_context) -> *mut ca2_context {
    // SAFETY: as this function's documentation asks.
    unsafe { Handle::retain(context) }
}

/// Gives a reference back; with the last one the context goes, once its models and styles are gone too. NULL: does nothing.
/// Any thread, any time, also in callbacks; never blocks. Since 0.1.
///
/// # Safety
/// `context` is NULL or a context that the caller holds a reference to, which is the caller's no longer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ca2_context_release(context: *mut ca2_context) {
    // SAFETY: as this function's documentation asks.
    unsafe { Handle::release(context) }
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;
    use std::sync::Arc;

    use super::*;
    use crate::capi::device::{CA2_DEVICE_CPU, CA2_DEVICE_CUDA};
    use crate::device::{Choice, Info, Selected};

    #[test]
    fn the_device_of_a_context_is_the_cpu_once_its_gpu_has_failed_and_texts_stay() {
        let select = |_| {
            let info = Info { choice: Choice::Cuda(2), name: "a GPU".into(), memory: 7, unavailable: None };
            Ok(Selected { device: candle_core::Device::Cpu, info, passed_over: Vec::new() })
        };
        // As C has it: calls hold a reference of their own meanwhile.
        let context = Arc::new(ca2_context::new(Context::with(Options::default(), select).unwrap()));
        let look = || {
            let empty = || ca2_device_info {
                struct_size: size_of::<ca2_device_info>(),
                device: 0,
                number: 0,
                memory: 0,
                name: std::ptr::null(),
                unavailable: std::ptr::null(),
            };
            let mut info = empty();
            // SAFETY: both are what their types say.
            assert_eq!(
                unsafe { ca2_context_device(Arc::as_ptr(&context), &mut info) },
                super::super::status::CA2_OK
            );
            info
        };
        let before = look();
        assert_eq!((before.device, before.number, before.memory), (CA2_DEVICE_CUDA, 2, 7));
        let failed = context.context.run("x", None, |_, _| Err::<(), _>(Error::Device("lost".into())));
        assert!(failed.is_err());
        let after = look();
        assert_eq!((after.device, after.number), (CA2_DEVICE_CPU, 0));
        // SAFETY: texts live as long as the context, the first one's too.
        let text = |info: &ca2_device_info| unsafe { CStr::from_ptr(info.name) }.to_str().unwrap();
        assert_eq!(text(&before), "a GPU");
        assert_eq!(text(&after), Info::of(&candle_core::Device::Cpu).name);
        assert_eq!(after.name, look().name);
    }
}
