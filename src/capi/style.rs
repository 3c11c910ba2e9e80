//! `ca2_style`.

use std::ffi::{c_char, c_void};
use std::ptr;

use super::callback::{ca2_progress_fn, observed};
use super::guard::guard;
use super::handle::{self, Handle, Sized1, array, out_handle, out_value, read_options};
use super::image::{Input, ca2_image_view, ca2_label_view, label_bytes, label_size, labels};
use super::model::{beyond, ca2_model};
use super::status::ca2_status;
use crate::context::LoadedModel;
use crate::style::Style;
use crate::{Error, Result};

/// How each class of a reference picture looks: as a model codes it, one row of floats a class, and the mean and covariance of
/// its colours, for CA2_METHOD_STATISTICS.
///
/// Immutable and atomically counted; used from any thread, with any model of the same fingerprint. It keeps the model that
/// it was made with alive.
#[allow(non_camel_case_types)]
pub struct ca2_style {
    model: LoadedModel,
    style: Style,
}

impl Handle for ca2_style {}

impl ca2_style {
    pub fn new(model: &ca2_model, style: Style) -> Self {
        Self { model: model.loaded.clone(), style }
    }

    /// The style, for work with `model`.
    pub fn of(&self, model: &ca2_model, name: &str) -> Result<&Style> {
        if model.loaded.shares_styles_with(&self.model) {
            return Ok(&self.style);
        }
        Err(Error::invalid(format!(
            "{name} is of another model ({:?}): extract it again with the model in use ({:?})",
            self.model.model().metadata().name,
            model.loaded.model().metadata().name
        )))
    }
}

/// How to extract a style. All zero is the default.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct ca2_extract_options {
    /// Size of this struct, as CA2_EXTRACT_OPTIONS_INIT sets it.
    pub struct_size: usize,
    /// Told how far it is; may be NULL.
    pub progress: ca2_progress_fn,
    /// Handed to `progress`.
    pub progress_data: *mut c_void,
}

// SAFETY: repr(C), begins with struct_size, and is numbers and pointers.
unsafe impl Sized1 for ca2_extract_options {
    const NAME: &'static str = "ca2_extract_options";
    const FIRST: usize = 24;
}

/// The style of a reference picture under its label map; gives one reference in `*out`, to be released with
/// ca2_style_release().
///
/// `reference` is any picture of 1 x 1 pixel and up; `labels` gives each of its pixels a class. Both are borrowed for the
/// call. `options` may be NULL. Any thread; blocks until the context's earlier work and this are done. `*out` is NULL on
/// failure. Errors: CA2_INVALID_ARGUMENT, also when the sizes differ or a label is no class of the model; CA2_UNSUPPORTED;
/// CA2_MEMORY_LIMIT; CA2_DEVICE; CA2_CANCELLED; CA2_BUSY. Since 0.1.
///
/// # Safety
/// Pointers are NULL or what their types say; views tell the truth about their memory.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_style_extract(
    model: *const ca2_model,
    reference: *const ca2_image_view,
    labels: *const ca2_label_view,
    options: *const ca2_extract_options,
    out: *mut *mut ca2_style,
) -> ca2_status {
    guard(|| {
        // SAFETY: as this function's documentation asks, in this whole body.
        unsafe {
            let out = out_handle(out, "out")?;
            let model = &*ca2_model::hold(model, "model")?;
            let options = read_options(options, "options")?;
            let loaded = &model.loaded;
            loaded.context().check_not_in_callback()?;
            let reference = Input::new(reference, "reference")?;
            loaded.check_memory(extract_needed(model, &reference, labels)?)?;
            let labels = self::labels(labels, "labels", loaded.model())?;
            let pixels = reference.pixels()?;
            let style = observed(options.progress, options.progress_data, |observer| {
                loaded.extract(pixels, &labels, observer)
            })?;
            ca2_style { model: loaded.clone(), style }.give(out);
            Ok(())
        }
    })
}

/// Bytes beyond the arguments and the model: the work's, and the copy of the label map.
///
/// # Safety
/// `labels` is NULL or a view.
unsafe fn extract_needed(model: &ca2_model, reference: &Input, labels: *const ca2_label_view) -> Result<u64> {
    let layout = reference.layout();
    // SAFETY: as the caller says.
    let labels = unsafe { label_size(labels, "labels")? };
    Ok(model.loaded.extract_plan(layout.width, layout.height) + label_bytes(labels))
}

/// How many bytes ca2_style_extract() with the same arguments would need at most beyond them and the model, in `*needed`: an
/// estimate from above. It returns CA2_MEMORY_LIMIT when that is more than the context's memory_limit.
///
/// Pixels are not looked at. Any thread, any time; never blocks. Errors: CA2_INVALID_ARGUMENT, CA2_UNSUPPORTED; `*needed` is
/// untouched then. Since 0.1.
///
/// # Safety
/// Pointers are NULL or what their types say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_style_extract_plan(
    model: *const ca2_model,
    reference: *const ca2_image_view,
    labels: *const ca2_label_view,
    options: *const ca2_extract_options,
    needed: *mut u64,
) -> ca2_status {
    guard(|| {
        // SAFETY: as this function's documentation asks, in this whole body.
        unsafe {
            let model = &*ca2_model::hold(model, "model")?;
            let needed = out_value(needed, "needed")?;
            read_options(options, "options")?;
            *needed = extract_needed(model, &Input::new(reference, "reference")?, labels)?;
            Ok(())
        }
    })
}

/// The mean of several styles of models of one fingerprint, each class weighted by itself; gives one reference in `*out`.
///
/// `styles` points to `style_count` styles, at least 1. `weights` is NULL to weigh all alike, else `style_count` rows of
/// class_count floats, 0 and above: row s, column c is the weight of class c in style s. A style that lacks a class does not
/// count for it; a class that all lack or that has no weight is absent from the mix. Codes are averaged; the colours, for
/// CA2_METHOD_STATISTICS, become the Wasserstein barycentre of the styles' normal distributions, which lies between them and is
/// no more spread than they are. The mix keeps the first style's model.
/// Any thread, any time; never blocks. `*out` is NULL on failure. Errors: CA2_INVALID_ARGUMENT. Since 0.1.
///
/// # Safety
/// Pointers are NULL or what their types say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_style_mix(
    styles: *const *const ca2_style,
    style_count: usize,
    weights: *const f32,
    out: *mut *mut ca2_style,
) -> ca2_status {
    guard(|| {
        // SAFETY: as this function's documentation asks, in this whole body.
        unsafe {
            let out = out_handle(out, "out")?;
            let pointers = array(styles, style_count, "styles")?;
            let mut parts = Vec::with_capacity(pointers.len());
            for (i, &pointer) in pointers.iter().enumerate() {
                parts.push(ca2_style::hold(pointer, &format!("styles[{i}]"))?);
            }
            let Some(first) = parts.first() else {
                return Err(Error::invalid("style_count is 0: a mix needs at least one style"));
            };
            if let Some(i) = parts.iter().position(|s| !s.model.shares_styles_with(&first.model)) {
                return Err(Error::invalid(format!("styles[{i}] is of another model than styles[0]")));
            }
            let classes = first.model.model().classes().len();
            let alike = vec![1.0; classes];
            let rows: Vec<&[f32]> = match weights.is_null() {
                true => vec![&alike; parts.len()],
                false => {
                    let all = array(weights, parts.len().saturating_mul(classes), "weights")?;
                    all.chunks_exact(classes).collect()
                }
            };
            let parts: Vec<(&Style, &[f32])> = parts.iter().map(|s| &s.style).zip(rows).collect();
            let style = Style::mix(&parts)?;
            ca2_style { model: first.model.clone(), style }.give(out);
            Ok(())
        }
    })
}

/// Whether the style has a class: `*present` is 1 if its reference showed class `index`, else 0.
///
/// Any thread, any time; never blocks. Errors: CA2_INVALID_ARGUMENT, also when there is no such class; `*present` is
/// untouched then. Since 0.1.
///
/// # Safety
/// Pointers are NULL or what their types say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_style_has_class(
    style: *const ca2_style,
    index: u32,
    present: *mut u32,
) -> ca2_status {
    guard(|| {
        // SAFETY: as this function's documentation asks.
        let (style, present) = unsafe { (ca2_style::hold(style, "style")?, out_value(present, "present")?) };
        let classes = style.model.model().classes().len();
        if index as usize >= classes {
            return Err(beyond("index", index, classes));
        }
        *present = u32::from(style.style.has(index as usize));
        Ok(())
    })
}

/// Writes the style as bytes: what ca2_style_save() writes to a file. The same style gives the same bytes.
///
/// With `buffer` NULL only `*size` is set, to the bytes needed. Else `*size` says how many bytes `buffer` has, and is set to
/// how many were written. Any thread; the first save of a model's styles reads the model file for its fingerprint, but does
/// not wait for the context. Errors: CA2_INVALID_ARGUMENT, also when the buffer is too small: `buffer` is untouched then and
/// `*size` is the bytes needed. Since 0.1.
///
/// # Safety
/// Pointers are NULL or what their types say; `buffer` is NULL or has `*size` bytes.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_style_save_memory(
    style: *const ca2_style,
    buffer: *mut c_void,
    size: *mut usize,
) -> ca2_status {
    guard(|| {
        // SAFETY: as this function's documentation asks.
        let (style, size) = unsafe { (ca2_style::hold(style, "style")?, out_value(size, "size")?) };
        let bytes = style.style.to_bytes(style.model.model())?;
        let room = std::mem::replace(size, bytes.len());
        if buffer.is_null() {
            return Ok(());
        }
        if room < bytes.len() {
            return Err(Error::invalid(format!("*size is {room}, but the style has {} bytes", bytes.len())));
        }
        // SAFETY: there is room, as the caller says, and the bytes are this function's own.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.cast::<u8>(), bytes.len()) };
        Ok(())
    })
}

/// Writes the style to a file, whole or not at all.
///
/// `path` is UTF-8, on Unix any bytes. Any thread; does not wait for the context. Errors: CA2_IO, CA2_INVALID_ARGUMENT.
/// Since 0.1.
///
/// # Safety
/// Pointers are NULL or what their types say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_style_save(style: *const ca2_style, path: *const c_char) -> ca2_status {
    guard(|| {
        // SAFETY: as this function's documentation asks.
        let (style, path) = unsafe { (ca2_style::hold(style, "style")?, handle::path(path, "path")?) };
        style.style.save(style.model.model(), &path)
    })
}

/// Reads a style of `model` from `size` bytes at `data`, which ca2_style_save_memory() wrote or a style file holds; gives one
/// reference in `*out`.
///
/// Size, format version, class count, shape, the model's fingerprint and the values are checked. Any thread; the first time
/// the model file is read for its fingerprint; does not wait for the context. `*out` is NULL on failure.
/// Errors: CA2_BAD_DATA when the bytes are damaged, no style, of another format version or of another model;
/// CA2_INVALID_ARGUMENT. Since 0.1.
///
/// # Safety
/// Pointers are NULL or what their types say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_style_open_memory(
    model: *const ca2_model,
    data: *const c_void,
    size: usize,
    out: *mut *mut ca2_style,
) -> ca2_status {
    guard(|| {
        // SAFETY: as this function's documentation asks, in this whole body.
        unsafe {
            let out = out_handle(out, "out")?;
            let model = &*ca2_model::hold(model, "model")?;
            if data.is_null() {
                return Err(handle::null("data"));
            }
            let style = Style::from_bytes(model.loaded.model(), array(data.cast::<u8>(), size, "data")?)?;
            ca2_style { model: model.loaded.clone(), style }.give(out);
            Ok(())
        }
    })
}

/// Reads a style of `model` from a file. `path` is UTF-8, on Unix any bytes. All else as ca2_style_open_memory(); CA2_IO when
/// the file cannot be read. Since 0.1.
///
/// # Safety
/// Pointers are NULL or what their types say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_style_open(
    model: *const ca2_model,
    path: *const c_char,
    out: *mut *mut ca2_style,
) -> ca2_status {
    guard(|| {
        // SAFETY: as this function's documentation asks, in this whole body.
        unsafe {
            let out = out_handle(out, "out")?;
            let model = &*ca2_model::hold(model, "model")?;
            let style = Style::open(model.loaded.model(), &handle::path(path, "path")?)?;
            ca2_style { model: model.loaded.clone(), style }.give(out);
            Ok(())
        }
    })
}

/// Adds a reference and gives `style` back, NULL for NULL. Any thread, any time, also in callbacks; never blocks. Since 0.1.
///
/// # Safety
/// `style` is NULL or a style that the caller holds a reference to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ca2_style_retain(style: *mut ca2_style) -> *mut ca2_style {
    // SAFETY: as this function's documentation asks.
    unsafe { Handle::retain(style) }
}

/// Gives a reference back; with the last one the style goes. NULL: does nothing. Any thread, any time, also in callbacks;
/// never blocks. Since 0.1.
///
/// # Safety
/// `style` is NULL or a style that the caller holds a reference to, which is the caller's no longer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ca2_style_release(style: *mut ca2_style) {
    // SAFETY: as this function's documentation asks.
    unsafe { Handle::release(style) }
}
