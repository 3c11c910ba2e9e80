//! Where the network runs.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;
use once_cell::sync::OnceCell;

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

/// A device that there is, or a kind of device that cannot be used here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its kind and number.
    pub choice: Choice,
    /// What its maker calls it; empty where it cannot be used.
    pub name: String,
    /// Its memory in bytes; 0 where that is not known.
    pub memory: u64,
    /// Why it cannot be used; none where it can.
    pub unavailable: Option<String>,
}

impl Info {
    /// The device behind an open [`Device`].
    pub fn of(device: &Device) -> Self {
        match device {
            Device::Cpu => cpu(),
            gpu => gpu::info(gpu),
        }
    }
}

/// Every device, the CPU first; a kind that cannot be used is listed once, with the reason. Looked up at the first call,
/// on a thread of its own, so that the caller's thread keeps whatever device it has current.
pub fn list() -> &'static [Info] {
    static LIST: OnceCell<Vec<Info>> = OnceCell::new();
    LIST.get_or_init(|| {
        let look = || [vec![cpu()], gpu::cuda_devices(), gpu::metal_devices()].concat();
        std::thread::spawn(look).join().unwrap_or_else(|_| vec![cpu()])
    })
}

fn cpu() -> Info {
    let named = || {
        let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let name = named().filter(|name| !name.is_empty()).unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    Info { choice: Choice::Cpu, name, memory: physical_memory(), unavailable: None }
}

/// The machine's memory in bytes, 0 where that is not known.
fn physical_memory() -> u64 {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        // Sound: sysconf only reads its argument, and answers -1 to a name that it does not know.
        let (pages, size) =
            unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
        u64::try_from(pages).unwrap_or(0).saturating_mul(u64::try_from(size).unwrap_or(0))
    }
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    0
}

mod gpu {
    use super::*;

    /// A kind that cannot be used.
    fn unavailable(choice: Choice, why: Error) -> Vec<Info> {
        let why = match why {
            Error::Device(what) => what,
            other => other.to_string(),
        };
        vec![Info { choice, name: String::new(), memory: 0, unavailable: Some(why) }]
    }

    #[cfg(feature = "cuda")]
    pub fn cuda_devices() -> Vec<Info> {
        use candle_core::cuda_backend::cudarc::driver::CudaContext;
        // The first tells whether the libraries and the driver are there.
        if let Err(why) = cuda(0) {
            return unavailable(Choice::Cuda(0), why);
        }
        let count = CudaContext::device_count().map_or(0, |n| usize::try_from(n).unwrap_or(0));
        (0..count)
            .map(|n| {
                let choice = Choice::Cuda(n);
                match CudaContext::new(n) {
                    Ok(device) => Info {
                        choice,
                        name: device.name().unwrap_or_default(),
                        memory: device.total_mem().unwrap_or(0) as u64,
                        unavailable: None,
                    },
                    Err(e) => Info {
                        choice,
                        name: String::new(),
                        memory: 0,
                        unavailable: Some(format!("CUDA device {n} cannot be used: {e}")),
                    },
                }
            })
            .collect()
    }

    #[cfg(not(feature = "cuda"))]
    pub fn cuda_devices() -> Vec<Info> {
        cuda(0).map_or_else(|why| unavailable(Choice::Cuda(0), why), |_| Vec::new())
    }

    pub fn metal_devices() -> Vec<Info> {
        let found = (0..)
            .map_while(|n| metal(n).ok().map(|device| Info { choice: Choice::Metal(n), ..info(&device) }))
            .take(64)
            .collect::<Vec<_>>();
        match (found.is_empty(), metal(0)) {
            (true, Err(why)) => unavailable(Choice::Metal(0), why),
            _ => found,
        }
    }

    /// An open GPU.
    pub fn info(device: &Device) -> Info {
        match device {
            #[cfg(feature = "cuda")]
            Device::Cuda(cuda) => {
                let stream = cuda.cuda_stream();
                let context = stream.context();
                Info {
                    choice: Choice::Cuda(context.ordinal()),
                    name: context.name().unwrap_or_default(),
                    memory: context.total_mem().unwrap_or(0) as u64,
                    unavailable: None,
                }
            }
            #[cfg(feature = "metal")]
            Device::Metal(metal) => Info {
                choice: Choice::Metal(0),
                name: metal.metal_device().architecture_name(),
                memory: metal.metal_device().recommended_max_working_set_size() as u64,
                unavailable: None,
            },
            other => Info {
                choice: Choice::Auto,
                name: format!("{:?}", other.location()),
                memory: 0,
                unavailable: None,
            },
        }
    }

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

    #[test]
    fn the_list_begins_with_the_cpu_and_has_a_line_for_every_kind() {
        let list = list();
        assert_eq!(list[0].choice, Choice::Cpu);
        assert!(!list[0].name.is_empty() && list[0].unavailable.is_none(), "{:?}", list[0]);
        assert!(list.iter().any(|d| matches!(d.choice, Choice::Cuda(_))), "{list:?}");
        assert!(list.iter().any(|d| matches!(d.choice, Choice::Metal(_))), "{list:?}");
        for device in list {
            assert_eq!(open(device.choice).is_ok(), device.unavailable.is_none(), "{device:?}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_device_that_is_not_built_in_is_an_error_that_says_so() {
        assert!(open(Choice::Cuda(0)).unwrap_err().to_string().contains("--features cuda"));
    }
}
