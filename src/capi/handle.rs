//! What C holds of this library: counted objects, sized structs, plain pointers. Every one is read here, once.

use std::ffi::{CStr, c_char};
use std::mem::{align_of, size_of};
use std::path::PathBuf;
use std::ptr;
use std::sync::Arc;

use super::guard::quietly;
use crate::{Error, Result};

/// An object that C holds by pointer: atomically counted, immutable, used from any thread.
pub(super) trait Handle: Sized + Send + Sync + 'static {
    /// Gives C one reference, in `out`.
    fn give(self, out: &mut *mut Self) {
        *out = Arc::into_raw(Arc::new(self)).cast_mut();
    }

    /// A reference of this call's own: C may release the last of its during the call, in a callback or on another thread.
    ///
    /// # Safety
    /// `handle` is NULL, or C holds a reference to it.
    unsafe fn hold(handle: *const Self, name: &str) -> Result<Arc<Self>> {
        if handle.is_null() {
            return Err(null(name));
        }
        // SAFETY: `give` made it from an Arc, and at least one count of it is C's; the one that is added is the new Arc's.
        unsafe {
            Arc::increment_strong_count(handle);
            Ok(Arc::from_raw(handle))
        }
    }

    /// # Safety
    /// `handle` is NULL, or C holds a reference to it.
    unsafe fn retain(handle: *mut Self) -> *mut Self {
        if !handle.is_null() {
            // SAFETY: `give` made it from an Arc, and at least one count of it is C's.
            unsafe { Arc::increment_strong_count(handle) };
        }
        handle
    }

    /// # Safety
    /// `handle` is NULL, or C holds a reference to it, which is its no longer.
    unsafe fn release(handle: *mut Self) {
        if !handle.is_null() {
            // SAFETY: `give` made it from an Arc, and this count is C's.
            quietly(|| unsafe { Arc::decrement_strong_count(handle) });
        }
    }
}

/// A struct that begins with `struct_size` and grows at its end.
///
/// # Safety
/// `#[repr(C)]`, its first field is `struct_size: usize`, and any bytes are a valid value of it.
pub(super) unsafe trait Sized1: Copy {
    /// Its name in C.
    const NAME: &'static str;
    /// Its size in version 1.
    const FIRST: usize;
}

/// Reads a sized struct; NULL reads as all zero, if that is allowed.
///
/// # Safety
/// `from` is NULL or points to a `struct_size` and as many bytes as that says.
pub(super) unsafe fn read_sized<T: Sized1>(from: *const T, name: &str) -> Result<T> {
    let given = unsafe { check_sized(from, name)? };
    // SAFETY: all zero is a valid value, as of any bytes.
    let mut value: T = unsafe { std::mem::zeroed() };
    let known = given.min(size_of::<T>());
    // SAFETY: both are at least `known` bytes long; `value` is a local of its own.
    unsafe { ptr::copy_nonoverlapping(from.cast::<u8>(), (&raw mut value).cast::<u8>(), known) };
    Ok(value)
}

/// As [`read_sized`]; NULL reads as all zero.
///
/// # Safety
/// As [`read_sized`].
pub(super) unsafe fn read_options<T: Sized1>(from: *const T, name: &str) -> Result<T> {
    if from.is_null() {
        // SAFETY: all zero is a valid value, as of any bytes.
        return Ok(unsafe { std::mem::zeroed() });
    }
    // SAFETY: as the caller says.
    unsafe { read_sized(from, name) }
}

/// Writes what a sized struct of the caller's has room for, `struct_size` aside.
///
/// # Safety
/// `to` has passed [`check_sized`] in this call, and is the caller's to write.
pub(super) unsafe fn write_sized<T: Sized1>(to: *mut T, value: &T) {
    let skip = size_of::<usize>();
    // SAFETY: `struct_size` is there and aligned, as was checked.
    let known = unsafe { to.cast::<usize>().read() }.min(size_of::<T>());
    // SAFETY: both are at least `known` bytes long, and `value` is not C's.
    unsafe {
        ptr::copy_nonoverlapping(
            ptr::from_ref(value).cast::<u8>().add(skip),
            to.cast::<u8>().add(skip),
            known.saturating_sub(skip),
        );
    }
}

/// Checks a sized struct's pointer, size and surplus; gives its size.
///
/// # Safety
/// As [`read_sized`].
pub(super) unsafe fn check_sized<T: Sized1>(from: *const T, name: &str) -> Result<usize> {
    /// No version of a struct comes near; a larger size is a struct that was not initialised.
    const ABSURD: usize = 1 << 16;
    if from.is_null() {
        return Err(null(name));
    }
    if !from.addr().is_multiple_of(align_of::<T>()) {
        return Err(Error::invalid(format!("{name} is not aligned: it points to no {}", T::NAME)));
    }
    // SAFETY: the first field is there, as the caller says.
    let given = unsafe { from.cast::<usize>().read() };
    if !(T::FIRST..=ABSURD).contains(&given) {
        return Err(Error::invalid(format!(
            "{name}: struct_size is {given}, but a {} has at least {} bytes: initialise it with its INIT macro",
            T::NAME,
            T::FIRST
        )));
    }
    // SAFETY: `given` bytes are there, as the caller says.
    let surplus = |i: usize| unsafe { from.cast::<u8>().add(i).read() };
    if let Some(i) = (size_of::<T>()..given).find(|&i| surplus(i) != 0) {
        return Err(Error::unsupported(format!(
            "{name}: byte {i} of the {} is set, which this version of the library does not know (it knows {} bytes)",
            T::NAME,
            size_of::<T>()
        )));
    }
    Ok(given)
}

/// Where a result goes; set to NULL first.
///
/// # Safety
/// `out` is NULL or the caller's to write.
pub(super) unsafe fn out_handle<'a, T>(out: *mut *mut T, name: &str) -> Result<&'a mut *mut T> {
    // SAFETY: as the caller says.
    let out = unsafe { out.as_mut() }.ok_or_else(|| null(name))?;
    *out = ptr::null_mut();
    Ok(out)
}

/// Where a number goes.
///
/// # Safety
/// `out` is NULL or the caller's to write.
pub(super) unsafe fn out_value<'a, T>(out: *mut T, name: &str) -> Result<&'a mut T> {
    // SAFETY: as the caller says.
    unsafe { out.as_mut() }.ok_or_else(|| null(name))
}

/// An array of the caller's.
///
/// # Safety
/// `from` is NULL or points to `count` valid values for as long as `'a`.
pub(super) unsafe fn array<'a, T>(from: *const T, count: usize, name: &str) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    if from.is_null() {
        return Err(null(name));
    }
    if count.checked_mul(size_of::<T>()).is_none_or(|n| n > isize::MAX as usize) {
        return Err(Error::invalid(format!("{name}: {count} elements cannot be in memory")));
    }
    if !from.addr().is_multiple_of(align_of::<T>()) {
        return Err(Error::invalid(format!("{name} is not aligned for its type")));
    }
    // SAFETY: not NULL, aligned, of a possible size, and valid as the caller says.
    Ok(unsafe { std::slice::from_raw_parts(from, count) })
}

/// Text of the caller's.
///
/// # Safety
/// `from` is NULL or text that ends in a NUL, unchanged for as long as `'a`.
pub(super) unsafe fn text<'a>(from: *const c_char, name: &str) -> Result<&'a str> {
    if from.is_null() {
        return Err(null(name));
    }
    // SAFETY: as the caller says.
    let text = unsafe { CStr::from_ptr(from) };
    text.to_str().map_err(|e| Error::invalid(format!("{name} is not UTF-8: {e}")))
}

/// A path of the caller's: bytes as they are on Unix, UTF-8 elsewhere.
///
/// # Safety
/// As [`text`].
pub(super) unsafe fn path(from: *const c_char, name: &str) -> Result<PathBuf> {
    if from.is_null() {
        return Err(null(name));
    }
    #[cfg(unix)]
    let path = {
        use std::os::unix::ffi::OsStrExt;
        // SAFETY: as the caller says.
        PathBuf::from(std::ffi::OsStr::from_bytes(unsafe { CStr::from_ptr(from) }.to_bytes()))
    };
    #[cfg(not(unix))]
    // SAFETY: as the caller says.
    let path = PathBuf::from(unsafe { text(from, name)? });
    if path.as_os_str().is_empty() {
        return Err(Error::invalid(format!("{name} is empty")));
    }
    Ok(path)
}

pub(super) fn null(name: &str) -> Error {
    Error::invalid(format!("{name} is NULL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A struct that has grown since version 1.
    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Grown {
        struct_size: usize,
        old: u64,
        new: u64,
    }

    // SAFETY: repr(C), begins with struct_size, and is numbers.
    unsafe impl Sized1 for Grown {
        const NAME: &'static str = "grown";
        const FIRST: usize = 16;
    }

    fn read(bytes: &[u64]) -> Result<Grown> {
        // SAFETY: the tests give as many bytes as they say.
        unsafe { read_sized(bytes.as_ptr().cast::<Grown>(), "it") }
    }

    #[test]
    fn callers_of_every_version_are_understood() {
        assert_eq!(read(&[16, 7]).unwrap(), Grown { struct_size: 16, old: 7, new: 0 }, "an old one");
        assert_eq!(read(&[24, 7, 8]).unwrap(), Grown { struct_size: 24, old: 7, new: 8 });
        assert_eq!(read(&[40, 7, 8, 0, 0]).unwrap().new, 8, "a newer one that does not use what is new");
        assert!(matches!(read(&[40, 7, 8, 0, 1]), Err(Error::Unsupported(_))));
        assert!(matches!(read(&[8]), Err(Error::InvalidArgument(_))));
        assert!(matches!(read(&[u64::MAX, 7]), Err(Error::InvalidArgument(_))), "not initialised");
    }

    #[test]
    fn nothing_is_written_past_an_older_callers_struct() {
        let mut bytes = [16u64, 1, 2, 3];
        let value = Grown { struct_size: 0, old: 7, new: 8 };
        // SAFETY: the array is as long as its first number says.
        unsafe { write_sized(bytes.as_mut_ptr().cast::<Grown>(), &value) };
        assert_eq!(bytes, [16, 7, 2, 3]);
        bytes[0] = 24;
        // SAFETY: as above.
        unsafe { write_sized(bytes.as_mut_ptr().cast::<Grown>(), &value) };
        assert_eq!(bytes, [24, 7, 8, 3]);
    }
}
