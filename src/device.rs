//! Where the network runs.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;

use crate::{Error, Result};

/// A wish for a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first GPU that this build can use and that works, else the CPU.
    #[default]
    Auto,
    Cpu,
    /// A CUDA device by its number, from 0.
    Cuda(usize),
    /// A Metal device by its number, from 0.
    Metal(usize),
}

impl FromStr for Choice {
    type Err = Error;

    /// `auto`, `cpu`, `cuda`, `metal`, the latter two with a number where wanted: `cuda:1`.
    fn from_str(s: &str) -> Result<Self> {
        let unknown =
            || Error::invalid(format!("device {s:?}: choose auto, cpu, cuda, cuda:N, metal or metal:N"));
        let (kind, number) = match s.split_once(':') {
            Some((kind, number)) => (kind, Some(number.parse::<usize>().map_err(|_| unknown())?)),
            None => (s, None),
        };
        match (kind, number) {
            ("auto", None) => Ok(Self::Auto),
            ("cpu", None) => Ok(Self::Cpu),
            ("cuda", n) => Ok(Self::Cuda(n.unwrap_or(0))),
            ("metal", n) => Ok(Self::Metal(n.unwrap_or(0))),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
            Self::Metal(n) => write!(f, "metal:{n}"),
        }
    }
}

/// Opens a device.
///
/// # Errors
/// [`Error::Device`] when a device asked for by name is not there or this build cannot use it. `Auto` does not fail.
pub fn open(choice: Choice) -> Result<Device> {
    match choice {
        Choice::Cpu => Ok(Device::Cpu),
        Choice::Cuda(n) => gpu::cuda(n),
        Choice::Metal(n) => gpu::metal(n),
        Choice::Auto => Ok(gpu::cuda(0).or_else(|_| gpu::metal(0)).unwrap_or(Device::Cpu)),
    }
}

mod gpu {
    use super::*;

    #[cfg(feature = "cuda")]
    pub fn cuda(number: usize) -> Result<Device> {
        // Without these candle does not fail but panics.
        for library in [c"libcuda.so.1", c"libcublasLt.so", c"libcublas.so", c"libcurand.so"] {
            loads(library)?;
        }
        guarded("CUDA", number, || Device::new_cuda(number))
    }

    #[cfg(not(feature = "cuda"))]
    pub fn cuda(_: usize) -> Result<Device> {
        Err(Error::Device(
            "this build of ca2sis has no CUDA: build it with --features cuda, or choose cpu".into(),
        ))
    }

    #[cfg(feature = "metal")]
    pub fn metal(number: usize) -> Result<Device> {
        guarded("Metal", number, || Device::new_metal(number))
    }

    #[cfg(not(feature = "metal"))]
    pub fn metal(_: usize) -> Result<Device> {
        Err(Error::Device(
            "this build of ca2sis has no Metal: build it with --features metal, or choose cpu".into(),
        ))
    }

    /// Opens a device; candle panics on some faults of a driver.
    #[cfg(any(feature = "cuda", feature = "metal"))]
    fn guarded(
        kind: &str,
        number: usize,
        open: impl FnOnce() -> candle_core::Result<Device>,
    ) -> Result<Device> {
        let reason = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(open)) {
            Ok(Ok(device)) => return Ok(device),
            Ok(Err(e)) => e.to_string(),
            Err(_) => "its driver failed".into(),
        };
        Err(Error::Device(format!("{kind} device {number} cannot be used: {reason}")))
    }

    #[cfg(feature = "cuda")]
    fn loads(library: &std::ffi::CStr) -> Result<()> {
        // Sound: dlopen takes a valid C string, and loading these libraries runs only their own initialisers. The handle
        // is kept open, as the library stays in use.
        let handle = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            return Err(Error::Device(format!(
                "CUDA cannot be used: {} is not installed",
                library.to_string_lossy()
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_read_as_they_are_written() {
        for choice in [Choice::Auto, Choice::Cpu, Choice::Cuda(0), Choice::Cuda(3), Choice::Metal(1)] {
            assert_eq!(choice.to_string().parse::<Choice>().unwrap(), choice);
        }
        assert_eq!("cuda".parse::<Choice>().unwrap(), Choice::Cuda(0));
    }

    #[test]
    fn strange_choices_are_refused_with_the_known_ones() {
        for s in ["", "gpu", "cpu:1", "auto:0", "cuda:", "cuda:x", "cuda:-1", "CUDA"] {
            let error = s.parse::<Choice>().unwrap_err().to_string();
            assert!(error.contains("cuda:N"), "{s:?}: {error}");
        }
    }

    #[test]
    fn there_is_always_a_device() {
        assert!(open(Choice::Auto).is_ok());
        assert!(open(Choice::Cpu).unwrap().is_cpu());
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_device_that_is_not_built_in_is_an_error_that_says_so() {
        assert!(open(Choice::Cuda(0)).unwrap_err().to_string().contains("--features cuda"));
    }
}
