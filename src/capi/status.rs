//! Status codes.

use std::ffi::{CStr, c_char};

/// What became of a call: one of the codes below. Codes are only ever added, so treat an unknown one as a failure.
#[allow(non_camel_case_types)]
pub type ca2_status = i32;

/// It is done.
pub const CA2_OK: ca2_status = 0;
/// An argument is NULL, out of range, or does not fit the others; ca2_last_error() names it.
pub const CA2_INVALID_ARGUMENT: ca2_status = 1;
/// A code or flag that this version does not know, or something that this model or build cannot do.
pub const CA2_UNSUPPORTED: ca2_status = 2;
/// A file cannot be read or written.
pub const CA2_IO: ca2_status = 3;
/// A model or style is damaged, foreign, of another format version or of another model.
pub const CA2_BAD_DATA: ca2_status = 4;
/// The device is not there, or failed, or its memory ran out.
pub const CA2_DEVICE: ca2_status = 5;
/// It does not fit in the context's memory_limit; ca2_last_error() and the call's ..._plan() function say what it needs.
pub const CA2_MEMORY_LIMIT: ca2_status = 6;
/// A progress callback answered CA2_CANCEL.
pub const CA2_CANCELLED: ca2_status = 7;
/// Called from inside a callback of the same context, which would wait for itself.
pub const CA2_BUSY: ca2_status = 8;
/// A defect of this library; the call did nothing.
pub const CA2_INTERNAL: ca2_status = 9;

/// The name of a status code, such as "CA2_CANCELLED"; "unknown status" for any other number.
///
/// Static text, never NULL, not to be freed. Any thread, any time; cannot fail. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ca2_status_name(status: ca2_status) -> *const c_char {
    let name: &CStr = match status {
        CA2_OK => c"CA2_OK",
        CA2_INVALID_ARGUMENT => c"CA2_INVALID_ARGUMENT",
        CA2_UNSUPPORTED => c"CA2_UNSUPPORTED",
        CA2_IO => c"CA2_IO",
        CA2_BAD_DATA => c"CA2_BAD_DATA",
        CA2_DEVICE => c"CA2_DEVICE",
        CA2_MEMORY_LIMIT => c"CA2_MEMORY_LIMIT",
        CA2_CANCELLED => c"CA2_CANCELLED",
        CA2_BUSY => c"CA2_BUSY",
        CA2_INTERNAL => c"CA2_INTERNAL",
        _ => c"unknown status",
    };
    name.as_ptr()
}
