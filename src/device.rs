//! Where the network runs.
//!
//! A library built with `cuda` needs no CUDA library to load: they are looked for when a CUDA device is asked for, first
//! where the system keeps its libraries, then in the folders of the environment variable `CA2SIS_CUDA_PATH` (several
//! are separated as in `PATH`), then in `/usr/local/cuda/lib64`.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;

use candle_core::Device;
use once_cell::sync::OnceCell;

use crate::kernels::simd::Level;
use crate::{Error, Result};

/// A wish for a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The device that the environment variable `CA2SIS_DEVICE` names where it is set, else the first GPU that this build
    /// can use and that works; the CPU where that cannot be opened.
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

/// Names the device that [`Choice::Auto`] is to be.
const ENVIRONMENT: &str = "CA2SIS_DEVICE";

/// Opens a device.
///
/// # Errors
/// [`Error::Device`] when a device asked for by name is not there or this build cannot use it. `Auto` does not fail.
pub fn open(choice: Choice) -> Result<Device> {
    Ok(select(choice)?.device)
}

/// An open device, and what was tried before it.
pub struct Selected {
    pub device: Device,
    pub info: Info,
    /// In the order in which they were tried.
    pub passed_over: Vec<PassedOver>,
}

/// A device that [`Choice::Auto`] did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// What did not open, and why, as a sentence.
    pub why: String,
    /// Whether a person should hear of it: the device was named, or it is there and yet does not work.
    pub unexpected: bool,
}

/// As [`open`], with what the device is, and what `Auto` passed over for it.
///
/// # Errors
/// Those of [`open`].
pub fn select(choice: Choice) -> Result<Selected> {
    select_by(choice, std::env::var(ENVIRONMENT).ok().as_deref(), &gpu::open)
}

/// Why a GPU did not open.
#[derive(Debug)]
enum Refusal {
    /// This build or this machine has none.
    Absent(String),
    /// It or its driver is there, and does not work.
    #[cfg_attr(not(any(feature = "cuda", feature = "metal")), allow(dead_code))]
    Failed(String),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let (Refusal::Absent(why) | Refusal::Failed(why)) = refusal;
        Self::Device(why)
    }
}

/// `named`: the device that the environment names. `open` opens GPUs.
fn select_by(
    choice: Choice,
    named: Option<&str>,
    open: &dyn Fn(Choice) -> std::result::Result<Device, Refusal>,
) -> Result<Selected> {
    let opened = |choice, device, passed_over| {
        let info = Info { choice, ..Info::of(&device) };
        Selected { device, info, passed_over }
    };
    let mut passed_over = Vec::new();
    let named = match named.filter(|name| !name.is_empty()).map(str::parse).transpose() {
        Ok(named) => named.filter(|&named| named != Choice::Auto),
        Err(e) => {
            passed_over.push(PassedOver { why: format!("{ENVIRONMENT}: {e}"), unexpected: true });
            None
        }
    };
    let wishes = match (choice, named) {
        (Choice::Auto, Some(named)) => vec![named],
        (Choice::Auto, None) => vec![Choice::Cuda(0), Choice::Metal(0)],
        (Choice::Cpu, _) => vec![],
        (gpu, _) => return Ok(opened(gpu, open(gpu)?, Vec::new())),
    };
    for wish in wishes {
        if wish == Choice::Cpu {
            break;
        }
        match open(wish) {
            Ok(device) => return Ok(opened(wish, device, passed_over)),
            Err(refusal) => {
                let unexpected = named.is_some() || matches!(refusal, Refusal::Failed(_));
                let (Refusal::Absent(why) | Refusal::Failed(why)) = refusal;
                passed_over.push(PassedOver { why, unexpected });
            }
        }
    }
    Ok(opened(Choice::Cpu, Device::Cpu, passed_over))
}

/// The error itself, out of what candle wraps it in: a backtrace, for one, where `RUST_BACKTRACE` asks for it.
fn bare(error: &candle_core::Error) -> &candle_core::Error {
    use candle_core::Error as E;
    match error {
        E::WithBacktrace { inner, .. } | E::Context { inner, .. } | E::WithPath { inner, .. } => bare(inner),
        error => error,
    }
}

/// The sentence for a tensor operation's error that is a GPU's own failure; none for one that is not.
pub(crate) fn failure(error: &candle_core::Error) -> Option<String> {
    match bare(error) {
        candle_core::Error::Cuda(e) => cuda_failure(&e.to_string()),
        candle_core::Error::Metal(e) => Some(metal_failure(&e.to_string())),
        _ => None,
    }
}

/// By the codes that CUDA's errors name: candle hides their types, and those without one of its codes are its own.
fn cuda_failure(text: &str) -> Option<String> {
    const MEMORY: [&str; 3] =
        ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED", "CURAND_STATUS_ALLOCATION_FAILED"];
    // A wrong argument is a defect of the caller, that is, of this library.
    const DEFECTS: [&str; 3] = ["_INVALID_VALUE", "_NOT_SUPPORTED", "CURAND_STATUS_OUT_OF_RANGE"];
    if MEMORY.iter().any(|code| text.contains(code)) {
        return Some(out_of_memory("CUDA", text));
    }
    let named = ["CUDA_ERROR_", "CUBLAS_STATUS_", "CURAND_STATUS_"].iter().any(|code| text.contains(code));
    (named && !DEFECTS.iter().any(|code| text.contains(code))).then(|| broken("CUDA", text))
}

fn metal_failure(text: &str) -> String {
    // What candle says when a buffer cannot be made, and what Metal says of a command that found no memory.
    match ["Failed to create metal resource", "Insufficient Memory"].iter().any(|s| text.contains(s)) {
        true => out_of_memory("Metal", text),
        false => broken("Metal", text),
    }
}

fn out_of_memory(kind: &str, text: &str) -> String {
    format!(
        "the {kind} device has no memory left for this: close other programs that use it, or choose the device cpu ({text})"
    )
}

fn broken(kind: &str, text: &str) -> String {
    format!("the {kind} device failed: start the program again, or choose the device cpu ({text})")
}

/// Bytes of a GPU's memory that are taken, by whichever program; none where that is not known.
///
/// # Errors
/// [`Error::Device`] when it does not answer.
pub fn memory_in_use(device: &Device) -> Result<Option<u64>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => {
            let (free, total) = cuda
                .cuda_stream()
                .context()
                .mem_get_info()
                .map_err(|e| Error::Device(broken("CUDA", &e.to_string())))?;
            Ok(Some(total.saturating_sub(free) as u64))
        }
        #[cfg(feature = "metal")]
        Device::Metal(metal) => Ok(Some(metal.metal_device().current_allocated_size() as u64)),
        _ => Ok(None),
    }
}

/// Bytes of a GPU's memory that nobody has taken; none where that is not known. Memory that candle keeps for its next tensors
/// may count as taken.
///
/// # Errors
/// [`Error::Device`] when it does not answer.
pub fn memory_free(device: &Device) -> Result<Option<u64>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => {
            let info = cuda.cuda_stream().context().mem_get_info();
            let (free, _) = info.map_err(|e| Error::Device(broken("CUDA", &e.to_string())))?;
            Ok(Some(free as u64))
        }
        #[cfg(feature = "metal")]
        Device::Metal(metal) => {
            let metal = metal.metal_device();
            let most = metal.recommended_max_working_set_size() as u64;
            Ok(Some(most.saturating_sub(metal.current_allocated_size() as u64)))
        }
        _ => Ok(None),
    }
}

/// What a GPU may keep of the memory that it no longer uses. CUDA gives all of it back at each pause unless told otherwise, and asking
/// for it anew takes longer than a decode.
#[cfg(feature = "cuda")]
const KEPT_BYTES: u64 = 256 << 20;

/// Lets a GPU keep up to `bytes` of the memory that this process no longer uses, rather than give it back at each pause. Without
/// effect on devices that have no say in it.
pub(crate) fn keep_memory(device: &Device, bytes: u64) {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => {
            use candle_core::cuda_backend::cudarc::driver::{result, sys};
            let ordinal = cuda.cuda_stream().context().ordinal();
            let mut bytes = bytes;
            // SAFETY: the device is open, so its pool is there; the attribute is a 64-bit number. Where a driver refuses, memory is
            // given back as before.
            unsafe {
                let pool =
                    result::device::get(ordinal as i32).and_then(|d| result::device::get_default_mem_pool(d));
                let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
                let value = std::ptr::from_mut(&mut bytes).cast();
                let _ = pool.and_then(|pool| result::mem_pool::set_attribute(pool, attribute, value));
            }
        }
        _ => {
            let _ = bytes;
        }
    }
}

thread_local! {
    static OPENING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is opening a GPU, where a panic is a driver's fault that becomes an error: for panic hooks.
pub fn is_opening() -> bool {
    OPENING.try_with(Cell::get).unwrap_or(false)
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
    // One model may have more or less of them, as its system lets it: pictures are alike to the bit where they are.
    let name = format!("{name}, {}", Level::fastest().name());
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

    type Opened = std::result::Result<Device, Refusal>;

    pub fn open(choice: Choice) -> Opened {
        match choice {
            Choice::Cuda(n) => cuda(n),
            Choice::Metal(n) => metal(n),
            Choice::Auto | Choice::Cpu => Ok(Device::Cpu),
        }
    }

    /// A kind that cannot be used.
    fn unavailable(choice: Choice, why: Refusal) -> Vec<Info> {
        let (Refusal::Absent(why) | Refusal::Failed(why)) = why;
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
    fn cuda(number: usize) -> Opened {
        // Without these candle does not fail but panics. Elsewhere that panic alone tells.
        #[cfg(unix)]
        libraries::load_all(&libraries::folders(), &libraries::load)?;
        let device = guarded("CUDA", number, || Device::new_cuda(number))?;
        super::keep_memory(&device, super::KEPT_BYTES);
        Ok(device)
    }

    #[cfg(not(feature = "cuda"))]
    fn cuda(_: usize) -> Opened {
        Err(Refusal::Absent(
            "this build of ca2sis has no CUDA: build it with --features cuda, or choose cpu".into(),
        ))
    }

    #[cfg(feature = "metal")]
    fn metal(number: usize) -> Opened {
        guarded("Metal", number, || Device::new_metal(number))
    }

    #[cfg(not(feature = "metal"))]
    fn metal(_: usize) -> Opened {
        Err(Refusal::Absent(
            "this build of ca2sis has no Metal: build it with --features metal, or choose cpu".into(),
        ))
    }

    /// Opens a device; candle panics on some faults of a driver, and on a number beyond the last device.
    #[cfg(any(feature = "cuda", feature = "metal", test))]
    pub fn guarded(kind: &str, number: usize, open: impl FnOnce() -> candle_core::Result<Device>) -> Opened {
        let before = OPENING.replace(true);
        let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(open));
        OPENING.set(before);
        let reason = match opened {
            Ok(Ok(device)) => return Ok(device),
            Ok(Err(e)) => bare(&e).to_string(),
            Err(panic) => {
                let said = panic.downcast_ref::<String>().map(String::as_str);
                let said =
                    said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it does not say why");
                // The first sentence says it; the next ones are for programmers.
                format!("its driver failed: {}", said.split(['\n', ';']).next().unwrap_or(said))
            }
        };
        Err(Refusal::Failed(format!("{kind} device {number} cannot be used: {reason}")))
    }

    /// CUDA's libraries, which candle opens at run time.
    #[cfg(all(unix, any(feature = "cuda", test)))]
    pub mod libraries {
        use std::ffi::{CStr, CString};
        use std::os::unix::ffi::OsStrExt as _;
        use std::path::{Path, PathBuf};

        use super::Refusal;

        /// Names of what candle needs, the newest first, in the order in which they need each other, and whose they are.
        pub const NEEDED: [(&[&str], &str); 4] = [
            (&["libcuda.so.1"], DRIVER),
            (&["libcublasLt.so.13", "libcublasLt.so.12"], TOOLKIT),
            (&["libcublas.so.13", "libcublas.so.12"], TOOLKIT),
            (&["libcurand.so.10"], TOOLKIT),
        ];
        const DRIVER: &str = "it comes with NVIDIA's driver";
        const TOOLKIT: &str =
            "install the run-time libraries of CUDA 13, or name their folder in CA2SIS_CUDA_PATH";

        /// Where to look after the system's own places.
        #[cfg(feature = "cuda")]
        pub fn folders() -> Vec<PathBuf> {
            let named = std::env::var_os("CA2SIS_CUDA_PATH").unwrap_or_default();
            let mut folders: Vec<_> =
                std::env::split_paths(&named).filter(|p| !p.as_os_str().is_empty()).collect();
            folders.push("/usr/local/cuda/lib64".into());
            folders
        }

        /// Loads every library, so that candle's own search by name finds it loaded. `load` opens one, or says why not.
        pub fn load_all(
            folders: &[PathBuf],
            load: &dyn Fn(&Path) -> std::result::Result<(), String>,
        ) -> std::result::Result<(), Refusal> {
            let mut driver = false;
            for (names, advice) in NEEDED {
                let here = names.iter().map(PathBuf::from);
                let there = folders.iter().flat_map(|folder| names.iter().map(move |name| folder.join(name)));
                // What the system says of its first name, unless a file that is there says something better.
                let mut reason = None;
                let found = here.chain(there.filter(|path| path.exists())).any(|path| match load(&path) {
                    Ok(()) => true,
                    Err(why) => {
                        if reason.is_none() || path.is_absolute() {
                            reason = Some(why);
                        }
                        false
                    }
                });
                if !found {
                    let reason = reason.unwrap_or_default();
                    let what =
                        format!("CUDA cannot be used: {} does not load ({reason}): {advice}", names[0]);
                    // With a driver there is a GPU to be had.
                    return Err(if driver { Refusal::Failed(what) } else { Refusal::Absent(what) });
                }
                driver = true;
            }
            Ok(())
        }

        pub fn load(library: &Path) -> std::result::Result<(), String> {
            let Ok(name) = CString::new(library.as_os_str().as_bytes()) else {
                return Err("its path holds a NUL".into());
            };
            // Sound: dlopen takes a valid C string, and loading these libraries runs only their own initialisers. The handle
            // is kept open, as the library stays in use.
            let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
            if !handle.is_null() {
                return Ok(());
            }
            // Sound: after a failure dlerror gives this thread's C string, good until its next call of these functions.
            let said = unsafe {
                let said = libc::dlerror();
                (!said.is_null()).then(|| CStr::from_ptr(said).to_string_lossy().into_owned())
            };
            Err(said.unwrap_or_else(|| "no reason given".into()))
        }
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

    /// GPUs that open, played by the CPU.
    fn machine(
        works: &'static [Choice],
        broken: &'static [Choice],
    ) -> impl Fn(Choice) -> std::result::Result<Device, Refusal> {
        move |choice| match choice {
            c if works.contains(&c) => Ok(Device::Cpu),
            c if broken.contains(&c) => Err(Refusal::Failed(format!("{c} is broken"))),
            c => Err(Refusal::Absent(format!("no {c}"))),
        }
    }

    #[test]
    fn auto_takes_the_first_gpu_that_opens_and_tells_what_it_passed_over() {
        let none = select_by(Choice::Auto, None, &machine(&[], &[])).unwrap();
        assert!(none.device.is_cpu());
        assert_eq!(none.info.choice, Choice::Cpu);
        let told =
            |s: &Selected| s.passed_over.iter().map(|p| (p.why.clone(), p.unexpected)).collect::<Vec<_>>();
        // A machine without a GPU is nothing to be told of.
        assert_eq!(told(&none), [("no cuda:0".into(), false), ("no metal:0".into(), false)]);

        let metal = select_by(Choice::Auto, None, &machine(&[Choice::Metal(0)], &[Choice::Cuda(0)])).unwrap();
        assert_eq!(metal.info.choice, Choice::Metal(0));
        assert_eq!(told(&metal), [("cuda:0 is broken".into(), true)]);

        let cuda =
            select_by(Choice::Auto, None, &machine(&[Choice::Cuda(0), Choice::Metal(0)], &[])).unwrap();
        assert_eq!((cuda.info.choice, cuda.passed_over.len()), (Choice::Cuda(0), 0));
    }

    #[test]
    fn the_environment_says_what_auto_is_and_a_bad_name_there_is_told_not_obeyed() {
        let two = machine(&[Choice::Cuda(0), Choice::Cuda(1)], &[]);
        let by = |name| select_by(Choice::Auto, Some(name), &two).unwrap();
        assert_eq!(by("cuda:1").info.choice, Choice::Cuda(1));
        assert_eq!((by("cpu").info.choice, by("cpu").passed_over.len()), (Choice::Cpu, 0));
        assert_eq!(by("").info.choice, Choice::Cuda(0));
        assert_eq!(by("auto").info.choice, Choice::Cuda(0));
        let missing = by("cuda:7");
        assert_eq!(missing.info.choice, Choice::Cpu);
        assert!(missing.passed_over[0].unexpected, "{:?}", missing.passed_over);
        let bad = by("gpu");
        assert_eq!(bad.info.choice, Choice::Cuda(0));
        assert!(bad.passed_over[0].why.contains("CA2SIS_DEVICE") && bad.passed_over[0].unexpected);
        // What a call names counts more.
        assert_eq!(select_by(Choice::Cpu, Some("cuda:1"), &two).unwrap().info.choice, Choice::Cpu);
        assert_eq!(select_by(Choice::Cuda(0), Some("cuda:1"), &two).unwrap().info.choice, Choice::Cuda(0));
    }

    #[test]
    fn a_gpu_that_is_named_and_does_not_open_is_an_error_with_its_reason() {
        let open = machine(&[], &[Choice::Cuda(0)]);
        let error = select_by(Choice::Cuda(0), None, &open).map(|_| ()).unwrap_err();
        assert!(matches!(&error, Error::Device(why) if why == "cuda:0 is broken"), "{error}");
    }

    #[test]
    fn a_panic_of_a_driver_is_an_error_and_hooks_can_tell() {
        static SEEN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
        struct Tell;
        impl Drop for Tell {
            fn drop(&mut self) {
                SEEN.store(is_opening(), std::sync::atomic::Ordering::Relaxed);
            }
        }
        let refusal = gpu::guarded("CUDA", 3, || {
            let _tell = Tell;
            panic!("no symbol {}; call the programmer", "cuInit")
        });
        let Err(Refusal::Failed(why)) = refusal else { panic!("{refusal:?}") };
        assert_eq!(why, "CUDA device 3 cannot be used: its driver failed: no symbol cuInit");
        assert!(SEEN.load(std::sync::atomic::Ordering::Relaxed) && !is_opening());
    }

    #[cfg(unix)]
    #[test]
    fn cudas_libraries_are_looked_for_by_name_then_in_folders_and_the_missing_one_is_named() {
        use gpu::libraries::{NEEDED, load, load_all};
        use std::path::{Path, PathBuf};
        let first = |path: &Path| match path.is_absolute() {
            true => Err("a folder was tried first".into()),
            false => Ok(()),
        };
        load_all(&[], &first).unwrap();

        // Nothing on the machine: the driver is missing, and nobody need be told.
        let nothing = |path: &Path| Err(format!("{}: not found", path.display()));
        let Err(Refusal::Absent(why)) = load_all(&[], &nothing) else { panic!("it loaded") };
        assert!(why.contains("libcuda.so.1: not found") && why.contains("driver"), "{why}");

        // The driver alone: what else is needed, and where it is looked for.
        let driver = |path: &Path| match path == Path::new("libcuda.so.1") {
            true => Ok(()),
            false => nothing(path),
        };
        let Err(Refusal::Failed(why)) = load_all(&[], &driver) else { panic!("it loaded") };
        assert!(why.contains("libcublasLt.so.13: not found") && why.contains("CA2SIS_CUDA_PATH"), "{why}");

        // The rest in a folder.
        let folder = tempfile::tempdir().unwrap();
        for (names, _) in &NEEDED[1..] {
            std::fs::write(folder.path().join(names[0]), "no library").unwrap();
        }
        let folders = [PathBuf::from("/nonexistent"), folder.path().to_owned()];
        let in_folder = |path: &Path| if path.starts_with(folder.path()) { Ok(()) } else { driver(path) };
        load_all(&folders, &in_folder).unwrap();

        // A file that is no library: its own fault is told, not that the system has none.
        let real = |path: &Path| if path == Path::new("libcuda.so.1") { Ok(()) } else { load(path) };
        let absent = |path: &Path| if path.is_absolute() { real(path) } else { driver(path) };
        let Err(Refusal::Failed(why)) = load_all(&folders, &absent) else { panic!("it loaded") };
        assert!(why.contains(&folder.path().display().to_string()), "{why}");
    }

    /// As candle hands CUDA's errors on; their texts are those of cudarc.
    fn cuda(text: &'static str) -> candle_core::Error {
        candle_core::Error::Cuda(text.into())
    }

    #[test]
    fn a_gpus_failure_in_mid_run_is_a_device_error_that_says_what_to_do() {
        let memory = Error::from(cuda(r#"DriverError(CUDA_ERROR_OUT_OF_MEMORY, "out of memory")"#));
        assert!(matches!(&memory, Error::Device(why) if why.contains("no memory left")), "{memory}");
        for text in
            ["CublasError(CUBLAS_STATUS_ALLOC_FAILED)", "CurandError(CURAND_STATUS_ALLOCATION_FAILED)"]
        {
            assert!(Error::from(cuda(text)).to_string().contains("no memory left"), "{text}");
        }
        for text in [
            r#"DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered")"#,
            r#"DriverError(CUDA_ERROR_DEVICE_UNAVAILABLE, "<Failure when calling cuGetErrorString()>")"#,
            "CublasError(CUBLAS_STATUS_EXECUTION_FAILED)",
        ] {
            let error = Error::from(cuda(text));
            assert!(
                matches!(&error, Error::Device(why) if why.contains("failed") && why.contains(text)),
                "{error}"
            );
        }
        let metal = candle_core::Error::Metal(
            "Command buffer had following error: Insufficient Memory".to_owned().into(),
        );
        assert!(Error::from(metal).to_string().contains("Metal device has no memory left"));
    }

    #[test]
    fn the_failure_is_told_without_what_candle_wraps_it_in() {
        let backtrace = || Box::new(std::backtrace::Backtrace::force_capture());
        let traced =
            |text| candle_core::Error::WithBacktrace { inner: Box::new(cuda(text)), backtrace: backtrace() };
        let wrapped = traced(r#"DriverError(CUDA_ERROR_OUT_OF_MEMORY, "out of memory")"#)
            .context("while loading")
            .with_path("x");
        let error = Error::from(wrapped);
        assert!(matches!(&error, Error::Device(why) if !why.contains('\n')), "{error}");
        let Err(Refusal::Failed(why)) = gpu::guarded("CUDA", 0, || Err(traced("CUDA_ERROR_NO_DEVICE")))
        else {
            panic!("it opened")
        };
        assert_eq!(why, "CUDA device 0 cannot be used: CUDA_ERROR_NO_DEVICE");
    }

    #[test]
    fn a_defect_stays_a_tensor_error() {
        for text in [
            "unsupported dtype F64 for matmul",
            "missing kernel 'reduce'",
            r#"DriverError(CUDA_ERROR_INVALID_VALUE, "invalid argument")"#,
        ] {
            assert!(matches!(Error::from(cuda(text)), Error::Tensor(_)), "{text}");
        }
        assert!(matches!(Error::from(candle_core::Error::Msg("shapes".into())), Error::Tensor(_)));
    }
}
