//! The boundary of every fallible function: errors become status codes with a message for the thread, and no panic leaves.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use once_cell::sync::OnceCell;

use super::status::*;
use crate::worker::is_worker_thread;
use crate::{Error, Result};

thread_local! {
    /// Whether this thread is inside a function of this library.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static MESSAGE: RefCell<CString> = RefCell::default();
}

/// Where the last panic of our threads was.
static PANIC_PLACE: Mutex<Option<String>> = Mutex::new(None);

/// Runs the body of a function. The message of the thread is what went wrong, empty when nothing did.
pub(super) fn guard(body: impl FnOnce() -> Result<()>) -> ca2_status {
    let (status, message) = match caught(body) {
        Ok(Ok(())) => (CA2_OK, String::new()),
        Ok(Err(e)) => (status_of(&e), e.to_string()),
        Err(panic) => (CA2_INTERNAL, defect(&*panic)),
    };
    // A thread that is ending has no message any more.
    let _ = MESSAGE.try_with(|m| *m.borrow_mut() = text(&message));
    status
}

/// Runs what cannot fail and gives nothing back, such as a release.
pub(super) fn quietly(body: impl FnOnce()) {
    let _ = caught(body);
}

fn caught<T>(body: impl FnOnce() -> T) -> std::thread::Result<T> {
    silence_our_panics();
    let before = INSIDE.try_with(|inside| inside.replace(true));
    // Sound to go on after a panic: objects are immutable, and what is shared behind locks is never left half-changed.
    let result = catch_unwind(AssertUnwindSafe(body));
    if let Ok(before) = before {
        let _ = INSIDE.try_with(|inside| inside.set(before));
    }
    result
}

/// Runs a callback of the host: a panic in the host's own code is not ours to silence.
pub(super) fn outside<T>(call: impl FnOnce() -> T) -> T {
    INSIDE.set(false);
    let result = call();
    INSIDE.set(true);
    result
}

/// The panic hook prints to the host's stderr before a panic can be caught. Ours says nothing for threads that are
/// inside this library; all others have the hook that was there.
fn silence_our_panics() {
    static HOOK: OnceCell<()> = OnceCell::new();
    HOOK.get_or_init(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let ours = is_worker_thread() || crate::device::is_opening();
            if !ours && !INSIDE.try_with(Cell::get).unwrap_or(false) {
                return before(info);
            }
            if let Ok(mut place) = PANIC_PLACE.lock() {
                *place = info.location().map(ToString::to_string);
            }
        }));
    });
}

fn defect(panic: &(dyn Any + Send)) -> String {
    let what = panic.downcast_ref::<&str>().copied();
    let what = what.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic");
    let place = PANIC_PLACE.lock().ok().and_then(|mut place| place.take());
    let place = place.map_or_else(String::new, |place| format!(" at {place}"));
    format!("a defect of ca2sis: {what}{place}; the call did nothing, please report it")
}

/// C text of any text.
pub(super) fn text(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).expect("its NULs were replaced")
}

fn status_of(error: &Error) -> ca2_status {
    match error {
        Error::InvalidArgument(_) => CA2_INVALID_ARGUMENT,
        Error::Unsupported(_) => CA2_UNSUPPORTED,
        Error::Io { .. } => CA2_IO,
        Error::Format { .. } | Error::Model(_) | Error::Style(_) => CA2_BAD_DATA,
        Error::Device(_) | Error::Tensor(_) => CA2_DEVICE,
        Error::MemoryLimit { .. } => CA2_MEMORY_LIMIT,
        Error::Cancelled => CA2_CANCELLED,
        Error::Busy => CA2_BUSY,
        // Of the trainer, which C does not reach.
        Error::Diverged { .. } => CA2_INTERNAL,
    }
}

/// Says what was wrong with the last call on this thread that returned a ca2_status: which argument, its value, and what to
/// do; empty text if that call returned CA2_OK.
///
/// UTF-8 in English, never NULL, not to be freed; good until the next call of this library on the same thread. Any thread,
/// any time; cannot fail. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ca2_last_error() -> *const c_char {
    const NONE: &CStr = c"";
    MESSAGE.try_with(|m| m.borrow().as_ptr()).unwrap_or(NONE.as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> String {
        // Sound: the pointer is never NULL, and no call is made on this thread before the copy.
        unsafe { CStr::from_ptr(ca2_last_error()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_becomes_a_status_with_its_words_and_place() {
        assert_eq!(guard(|| panic!("on purpose, {}", 7)), CA2_INTERNAL);
        assert!(message().contains("on purpose, 7") && message().contains("guard.rs"), "{}", message());
        assert_eq!(guard(|| Ok(())), CA2_OK);
        assert_eq!(message(), "");
    }

    #[test]
    fn every_thread_has_its_own_message() {
        assert_eq!(guard(|| Err(Error::invalid("mine"))), CA2_INVALID_ARGUMENT);
        std::thread::spawn(|| {
            assert_eq!(message(), "");
            assert_eq!(guard(|| Err(Error::unsupported("theirs"))), CA2_UNSUPPORTED);
        })
        .join()
        .unwrap();
        assert_eq!(message(), "mine");
    }

    #[test]
    fn a_nul_in_a_message_does_not_cut_it() {
        guard(|| Err(Error::invalid("a\0b")));
        assert_eq!(message(), "a\u{fffd}b");
    }
}
