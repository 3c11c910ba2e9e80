//! `ca2_model`.

use std::ffi::{CString, c_char, c_void};
use std::ptr;

use super::context::ca2_context;
use super::guard::{guard, text};
use super::handle::{self, Handle, Sized1, array, check_sized, out_handle, out_value, write_sized};
use super::status::ca2_status;
use crate::context::LoadedModel;
use crate::model::Model;
use crate::{Error, Result};

/// A model file with its network on a context's device.
///
/// Immutable and atomically counted; used from any thread. It keeps its context alive, and styles keep it.
#[allow(non_camel_case_types)]
pub struct ca2_model {
    pub(super) loaded: LoadedModel,
    name: CString,
    version: CString,
    licence: CString,
    fingerprint: once_cell::sync::OnceCell<CString>,
    classes: Vec<Class>,
}

struct Class {
    name: CString,
    color: [u8; 3],
    /// Pointers into `_texts`, whose buffers do not move.
    groups: Vec<*const c_char>,
    _texts: Vec<CString>,
}

// SAFETY: the pointers are to texts of the same object, which nothing changes.
unsafe impl Send for Class {}
// SAFETY: as above.
unsafe impl Sync for Class {}

impl Handle for ca2_model {}

impl ca2_model {
    fn new(loaded: LoadedModel) -> Self {
        let about = loaded.model().metadata();
        let classes = about.classes.iter().map(|class| {
            let texts: Vec<CString> = class.groups.iter().map(|group| text(group)).collect();
            let groups = texts.iter().map(|t| t.as_ptr()).collect();
            Class { name: text(&class.name), color: class.color, groups, _texts: texts }
        });
        Self {
            name: text(&about.name),
            version: text(&about.version),
            licence: text(&about.licence),
            fingerprint: once_cell::sync::OnceCell::new(),
            classes: classes.collect(),
            loaded,
        }
    }
}

/// What a model is.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct ca2_model_info {
    /// Size of this struct, as CA2_MODEL_INFO_INIT sets it.
    pub struct_size: usize,
    /// Its name, UTF-8, as all texts here; they live as long as the model.
    pub name: *const c_char,
    /// Its version.
    pub version: *const c_char,
    /// The licence of its weights.
    pub licence: *const c_char,
    /// How many classes it knows, 1 to 255.
    pub class_count: u32,
    /// Side of the pictures that its network sees and makes, in pixels.
    pub resolution: u32,
    /// Floats of one class's style code.
    pub style_width: u32,
    /// How many stages ca2_attention() can look at.
    pub stage_count: u32,
    /// Width of its noise mapping's input; 0 when it has none and cannot synthesise without a style.
    pub noise_width: u32,
    /// 1 when it can propose label maps for pictures (ca2_label()), else 0.
    pub has_labeler: u32,
}

// SAFETY: repr(C), begins with struct_size, and is numbers and pointers.
unsafe impl Sized1 for ca2_model_info {
    const NAME: &'static str = "ca2_model_info";
    const FIRST: usize = 56;
}

/// A class of a model: one meaning, such as "jacket".
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct ca2_class_info {
    /// Size of this struct, as CA2_CLASS_INFO_INIT sets it.
    pub struct_size: usize,
    /// Its name, UTF-8, unique in its model; lives as long as the model, as the groups do.
    pub name: *const c_char,
    /// Broader meanings it belongs to, such as "upper body": `group_count` texts.
    pub groups: *const *const c_char,
    /// How many groups.
    pub group_count: u32,
    /// Its colour in label maps of CA2_LABEL_RGB_U8: red, green, blue (sRGB), and 255.
    pub color: [u8; 4],
}

// SAFETY: repr(C), begins with struct_size, and is numbers and pointers.
unsafe impl Sized1 for ca2_class_info {
    const NAME: &'static str = "ca2_class_info";
    const FIRST: usize = 32;
}

/// # Safety
/// Pointers are NULL or what their types say.
unsafe fn open(
    context: *const ca2_context,
    out: *mut *mut ca2_model,
    model: impl FnOnce() -> Result<Model>,
) -> ca2_status {
    guard(|| {
        // SAFETY: as the caller says.
        let out = unsafe { out_handle(out, "out")? };
        // SAFETY: as the caller says.
        let context: &ca2_context = &*unsafe { Handle::hold(context, "context")? };
        context.context.check_not_in_callback()?;
        ca2_model::new(context.context.load(&model()?)?).give(out);
        Ok(())
    })
}

/// Opens a model file (.safetensors) and puts its network onto the context's device; gives one reference in `*out`, to be
/// released with ca2_model_release().
///
/// `path` is UTF-8, on Unix any bytes. The file is mapped: it must not be changed in place while the model is in use;
/// replacing it is fine. Any thread; blocks until the context's earlier work is done. `*out` is NULL on failure.
/// Errors: CA2_IO; CA2_BAD_DATA when it is damaged or no model; CA2_DEVICE; CA2_INVALID_ARGUMENT; CA2_BUSY. Since 0.1.
///
/// # Safety
/// Pointers are NULL or what their types say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_model_open(
    context: *const ca2_context,
    path: *const c_char,
    out: *mut *mut ca2_model,
) -> ca2_status {
    // SAFETY: as this function's documentation asks.
    unsafe { open(context, out, || Model::open(&handle::path(path, "path")?)) }
}

/// Opens a model file that is in memory, `size` bytes at `data`, which are copied. All else as ca2_model_open(). Since 0.1.
///
/// # Safety
/// Pointers are NULL or what their types say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_model_open_memory(
    context: *const ca2_context,
    data: *const c_void,
    size: usize,
    out: *mut *mut ca2_model,
) -> ca2_status {
    // SAFETY: as this function's documentation asks.
    unsafe {
        open(context, out, || {
            if data.is_null() {
                return Err(handle::null("data"));
            }
            Model::from_vec(array(data.cast::<u8>(), size, "data")?.to_vec())
        })
    }
}

/// Opens the model inside the library. All else as ca2_model_open(); CA2_BAD_DATA in a library built without one. Since 0.1.
///
/// # Safety
/// Pointers are NULL or what their types say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_model_open_default(
    context: *const ca2_context,
    out: *mut *mut ca2_model,
) -> ca2_status {
    // SAFETY: as this function's documentation asks.
    unsafe { open(context, out, Model::embedded) }
}

/// What a model is.
///
/// Any thread, any time; never blocks. Errors: CA2_INVALID_ARGUMENT; `info` is untouched then. Since 0.1.
///
/// # Safety
/// Pointers are NULL or what their types say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_model_get_info(
    model: *const ca2_model,
    info: *mut ca2_model_info,
) -> ca2_status {
    guard(|| {
        // SAFETY: as this function's documentation asks.
        let model = unsafe { ca2_model::hold(model, "model")? };
        // SAFETY: as this function's documentation asks.
        unsafe { check_sized(info, "info")? };
        let network = &model.loaded.model().metadata().network;
        let value = ca2_model_info {
            struct_size: size_of::<ca2_model_info>(),
            name: model.name.as_ptr(),
            version: model.version.as_ptr(),
            licence: model.licence.as_ptr(),
            class_count: network.classes as u32,
            resolution: network.resolution as u32,
            style_width: network.style_width() as u32,
            stage_count: network.stages.len() as u32,
            noise_width: network.mapping.map_or(0, |m| m.latent as u32),
            has_labeler: u32::from(network.labeler.is_some()),
        };
        // SAFETY: checked above.
        unsafe { write_sized(info, &value) };
        Ok(())
    })
}

/// What class `index` is, from 0 to below class_count.
///
/// Any thread, any time; never blocks. Errors: CA2_INVALID_ARGUMENT; `info` is untouched then. Since 0.1.
///
/// # Safety
/// Pointers are NULL or what their types say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_model_get_class(
    model: *const ca2_model,
    index: u32,
    info: *mut ca2_class_info,
) -> ca2_status {
    guard(|| {
        // SAFETY: as this function's documentation asks.
        let model = unsafe { ca2_model::hold(model, "model")? };
        // SAFETY: as this function's documentation asks.
        unsafe { check_sized(info, "info")? };
        let class =
            model.classes.get(index as usize).ok_or_else(|| beyond("index", index, model.classes.len()))?;
        let [r, g, b] = class.color;
        let value = ca2_class_info {
            struct_size: size_of::<ca2_class_info>(),
            name: class.name.as_ptr(),
            groups: if class.groups.is_empty() { ptr::null() } else { class.groups.as_ptr() },
            group_count: class.groups.len() as u32,
            color: [r, g, b, 255],
        };
        // SAFETY: checked above.
        unsafe { write_sized(info, &value) };
        Ok(())
    })
}

pub(super) fn beyond(name: &str, index: u32, classes: usize) -> Error {
    Error::invalid(format!("{name} is {index}, but the model has classes 0 to {}", classes - 1))
}

/// The index of the class of that name, exactly as written, in `*index`.
///
/// Any thread, any time; never blocks. Errors: CA2_INVALID_ARGUMENT, also when the model has no such class; `*index` is
/// untouched then. Since 0.1.
///
/// # Safety
/// Pointers are NULL or what their types say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_model_find_class(
    model: *const ca2_model,
    name: *const c_char,
    index: *mut u32,
) -> ca2_status {
    guard(|| {
        // SAFETY: as this function's documentation asks.
        let (model, name) = unsafe { (ca2_model::hold(model, "model")?, handle::text(name, "name")?) };
        // SAFETY: as this function's documentation asks.
        let index = unsafe { out_value(index, "index")? };
        let classes = model.loaded.model().classes();
        let found = classes.iter().find(|class| class.name == name).ok_or_else(|| {
            let names: Vec<_> = classes.iter().map(|class| class.name.as_str()).collect();
            Error::invalid(format!("name is {name:?}, but the model's classes are {}", names.join(", ")))
        })?;
        *index = found.index;
        Ok(())
    })
}

/// SHA-256 of the model file in hexadecimal, 64 digits, in `*fingerprint`; it lives as long as the model. Styles carry it.
///
/// Any thread; the first call reads the whole file, but does not wait for the context. Errors: CA2_INVALID_ARGUMENT.
/// Since 0.1.
///
/// # Safety
/// Pointers are NULL or what their types say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_model_fingerprint(
    model: *const ca2_model,
    fingerprint: *mut *const c_char,
) -> ca2_status {
    guard(|| {
        // SAFETY: as this function's documentation asks.
        let out = unsafe { out_value(fingerprint, "fingerprint")? };
        *out = ptr::null();
        // SAFETY: as this function's documentation asks.
        let model = unsafe { ca2_model::hold(model, "model")? };
        *out = model.fingerprint.get_or_init(|| text(model.loaded.model().hash())).as_ptr();
        Ok(())
    })
}

/// Adds a reference and gives `model` back, NULL for NULL. Any thread, any time, also in callbacks; never blocks. Since 0.1.
///
/// # Safety
/// `model` is NULL or a model that the caller holds a reference to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ca2_model_retain(model: *mut ca2_model) -> *mut ca2_model {
    // SAFETY: as this function's documentation asks.
    unsafe { Handle::retain(model) }
}

/// Gives a reference back; with the last one the model goes, once its styles are gone too. NULL: does nothing.
/// Any thread, any time, also in callbacks; never blocks. Since 0.1.
///
/// # Safety
/// `model` is NULL or a model that the caller holds a reference to, which is the caller's no longer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ca2_model_release(model: *mut ca2_model) {
    // SAFETY: as this function's documentation asks.
    unsafe { Handle::release(model) }
}
