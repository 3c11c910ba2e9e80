//! Callbacks of the host.

use std::ffi::{c_char, c_void};

use super::guard::{outside, text};
use crate::context::{Level, Observer};
use crate::{Error, Result};

/// Told how much of a call is done, `done` from 0 to 1, never falling. Answers CA2_CONTINUE or CA2_CANCEL.
///
/// Called on the thread that made the call: with 0 before any work, at least every 50 ms meanwhile, also while the call
/// waits for its turn, and with 1 when all is computed but no output is written yet. After CA2_CANCEL the call stops at its
/// next block of work, does not call this again, leaves its outputs untouched and returns CA2_CANCELLED. Any other answer
/// cancels too, and the call returns CA2_UNSUPPORTED.
///
/// Inside it, blocking calls on the same context return CA2_BUSY; retaining, releasing and everything that says "never
/// blocks" is allowed. It must return: no longjmp, no exception out of it. NULL: not told.
#[allow(non_camel_case_types)]
pub type ca2_progress_fn = Option<unsafe extern "C" fn(data: *mut c_void, done: f32) -> i32>;

/// Go on.
pub const CA2_CONTINUE: i32 = 0;
/// Stop; the call returns CA2_CANCELLED.
pub const CA2_CANCEL: i32 = 1;

/// Receives a message of a context: `level` is one of CA2_LOG_*, `message` is UTF-8 in English and good until it returns.
///
/// Called on a thread that is inside a call of that context, so perhaps on several at once. The rules of ca2_progress_fn
/// hold inside it. NULL: no log.
#[allow(non_camel_case_types)]
pub type ca2_log_fn = Option<unsafe extern "C" fn(data: *mut c_void, level: u32, message: *const c_char)>;

/// A call failed; its status and message say the same.
pub const CA2_LOG_ERROR: u32 = 1;
/// It works, but perhaps not as was meant.
pub const CA2_LOG_WARNING: u32 = 2;
/// What is there once: the device, a model.
pub const CA2_LOG_INFO: u32 = 3;
/// Each call with its time, and why a GPU was not chosen.
pub const CA2_LOG_DEBUG: u32 = 4;

pub(super) fn level_code(level: Level) -> u32 {
    match level {
        Level::Error => CA2_LOG_ERROR,
        Level::Warning => CA2_LOG_WARNING,
        Level::Info => CA2_LOG_INFO,
        Level::Debug => CA2_LOG_DEBUG,
    }
}

/// A pointer of the host's that travels with its callback.
#[derive(Clone, Copy)]
pub(super) struct Data(pub *mut c_void);
// SAFETY: this library never looks behind it, only hands it back; ca2_log_fn's documentation says from which threads.
unsafe impl Send for Data {}
// SAFETY: as above.
unsafe impl Sync for Data {}

impl Data {
    /// By value, so that a closure that uses it captures this, not the pointer within.
    pub fn get(self) -> *mut c_void {
        self.0
    }
}

/// Runs `call` with the host's progress callback as its observer.
///
/// # Safety
/// `progress` is a function of its type, which `data` is meant for.
pub(super) unsafe fn observed<T>(
    progress: ca2_progress_fn,
    data: *mut c_void,
    call: impl FnOnce(Option<Observer>) -> Result<T>,
) -> Result<T> {
    let Some(progress) = progress else { return call(None) };
    let mut strange = None;
    // SAFETY: as the caller says.
    let mut observer = |done| match outside(|| unsafe { progress(data, done) }) {
        CA2_CONTINUE => true,
        CA2_CANCEL => false,
        other => {
            strange = Some(other);
            false
        }
    };
    let result = call(Some(&mut observer));
    match (result, strange) {
        (Err(Error::Cancelled), Some(answer)) => Err(Error::unsupported(format!(
            "progress answered {answer}, not CA2_CONTINUE ({CA2_CONTINUE}) or CA2_CANCEL ({CA2_CANCEL})"
        ))),
        (result, _) => result,
    }
}

/// The host's log, for messages up to `level`.
///
/// # Safety
/// `log` is a function of its type, which `data` is meant for, from any thread.
pub(super) unsafe fn logger(
    log: unsafe extern "C" fn(*mut c_void, u32, *const c_char),
    data: Data,
    level: u32,
) -> crate::context::Log {
    Box::new(move |of, message| {
        let of = level_code(of);
        if of <= level {
            let message = text(message);
            // SAFETY: as the caller says; the text lives until it returns.
            outside(|| unsafe { log(data.get(), of, message.as_ptr()) });
        }
    })
}
