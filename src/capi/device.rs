//! Devices: which there are, and why others cannot be used.

use std::ffi::{CString, c_char};
use std::ptr;

use once_cell::sync::OnceCell;

use super::guard::{guard, text};
use super::handle::{Sized1, check_sized, out_value, write_sized};
use super::status::ca2_status;
use crate::device::{self, Choice, Info};
use crate::{Error, Result};

/// What the environment variable CA2SIS_DEVICE names ("cpu", "cuda:1"), if it is set and opens; else the first GPU that this
/// build can use and that works; else the CPU.
pub const CA2_DEVICE_AUTO: u32 = 0;
/// The CPU.
pub const CA2_DEVICE_CPU: u32 = 1;
/// An NVIDIA GPU.
pub const CA2_DEVICE_CUDA: u32 = 2;
/// An Apple GPU.
pub const CA2_DEVICE_METAL: u32 = 3;

/// What is known of a device.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct ca2_device_info {
    /// Size of this struct, as CA2_DEVICE_INFO_INIT sets it.
    pub struct_size: usize,
    /// CA2_DEVICE_CPU, CA2_DEVICE_CUDA or CA2_DEVICE_METAL.
    pub device: u32,
    /// Its number among those of its kind, from 0.
    pub number: u32,
    /// Its memory in bytes; 0 where that is not known.
    pub memory: u64,
    /// What its maker calls it, UTF-8; empty where it cannot be used.
    pub name: *const c_char,
    /// NULL for a device that can be used; else why it, or its whole kind, cannot.
    pub unavailable: *const c_char,
}

// SAFETY: repr(C), begins with struct_size, and is numbers and pointers.
unsafe impl Sized1 for ca2_device_info {
    const NAME: &'static str = "ca2_device_info";
    const FIRST: usize = 40;
}

pub(super) fn choice(device: u32, number: u32) -> Result<Choice> {
    match device {
        CA2_DEVICE_AUTO | CA2_DEVICE_CPU if number != 0 => Err(Error::invalid(format!(
            "device_number is {number}: only CUDA and Metal devices have numbers"
        ))),
        CA2_DEVICE_AUTO => Ok(Choice::Auto),
        CA2_DEVICE_CPU => Ok(Choice::Cpu),
        CA2_DEVICE_CUDA => Ok(Choice::Cuda(number as usize)),
        CA2_DEVICE_METAL => Ok(Choice::Metal(number as usize)),
        other => {
            Err(Error::unsupported(format!("device is {other}: this version knows CA2_DEVICE_* 0 to 3")))
        }
    }
}

fn code(choice: Choice) -> (u32, u32) {
    match choice {
        Choice::Auto => (CA2_DEVICE_AUTO, 0),
        Choice::Cpu => (CA2_DEVICE_CPU, 0),
        Choice::Cuda(n) => (CA2_DEVICE_CUDA, n as u32),
        Choice::Metal(n) => (CA2_DEVICE_METAL, n as u32),
    }
}

/// A device with its texts as C has them.
pub(super) struct Device {
    info: Info,
    name: CString,
    unavailable: Option<CString>,
}

impl Device {
    pub fn new(info: &Info) -> Self {
        Self {
            name: text(&info.name),
            unavailable: info.unavailable.as_deref().map(text),
            info: info.clone(),
        }
    }

    pub fn to_c(&self) -> ca2_device_info {
        let (device, number) = code(self.info.choice);
        ca2_device_info {
            struct_size: size_of::<ca2_device_info>(),
            device,
            number,
            memory: self.info.memory,
            name: self.name.as_ptr(),
            unavailable: self.unavailable.as_ref().map_or(ptr::null(), |why| why.as_ptr()),
        }
    }
}

fn devices() -> &'static [Device] {
    static DEVICES: OnceCell<Vec<Device>> = OnceCell::new();
    DEVICES.get_or_init(|| device::list().iter().map(Device::new).collect())
}

/// How many entries ca2_device_get() has: the CPU first, then every GPU, and one entry with the reason for each kind of GPU
/// that cannot be used.
///
/// Looked up at the first call, which may take a second with a GPU, on a thread of its own; the caller's current CUDA
/// context stays as it is. Any thread, any time. Errors: CA2_INVALID_ARGUMENT if `count` is NULL. Since 0.1.
///
/// # Safety
/// `count` is NULL or writable.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_device_count(count: *mut usize) -> ca2_status {
    guard(|| {
        // SAFETY: as this function's documentation asks.
        *unsafe { out_value(count, "count") }? = devices().len();
        Ok(())
    })
}

/// What is known of entry `index`, from 0 to below the number that ca2_device_count() gives.
///
/// Its texts live as long as the library. Any thread, any time. Errors: CA2_INVALID_ARGUMENT if `info` is NULL or not
/// initialised, or `index` is too large; `info` is untouched then. Since 0.1.
///
/// # Safety
/// `info` is NULL or an initialised ca2_device_info.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_device_get(index: usize, info: *mut ca2_device_info) -> ca2_status {
    guard(|| {
        // SAFETY: as this function's documentation asks.
        unsafe { check_sized(info, "info") }?;
        let devices = devices();
        let device = devices.get(index).ok_or_else(|| {
            Error::invalid(format!("index is {index}, but there are {} entries", devices.len()))
        })?;
        // SAFETY: checked above.
        unsafe { write_sized(info, &device.to_c()) };
        Ok(())
    })
}
