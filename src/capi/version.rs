//! Which library was loaded.

use std::ffi::{CStr, c_char};

/// Number of the binary interface this header describes, the major version and the number in the library's SONAME:
/// within one, functions and codes are only ever added.
pub const CA2_ABI_VERSION: u32 = 0;

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!("the version holds a NUL"),
};

/// Version of the library that was loaded, such as "0.1.0".
///
/// Static text, never NULL, not to be freed. Any thread, any time; cannot fail. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ca2_version() -> *const c_char {
    VERSION.as_ptr()
}

/// CA2_ABI_VERSION of the library that was loaded.
///
/// A program that loads the library by itself (dlopen) compares it with the header's CA2_ABI_VERSION before it calls
/// anything else. Any thread, any time; cannot fail. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ca2_abi_version() -> u32 {
    CA2_ABI_VERSION
}
