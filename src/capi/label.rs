//! Label maps that a model proposes for pictures.

use std::ffi::c_void;

use super::callback::{ca2_progress_fn, observed};
use super::guard::guard;
use super::handle::{Handle, Sized1, check_sized, out_value, read_options, write_sized};
use super::image::{Input, LabelOutput, ca2_image_view, ca2_label_view_mut};
use super::model::ca2_model;
use super::status::ca2_status;
use crate::Result;

/// How to label. All zero is the default.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct ca2_label_options {
    /// Size of this struct, as CA2_LABEL_OPTIONS_INIT sets it.
    pub struct_size: usize,
    /// Told how far it is; may be NULL.
    pub progress: ca2_progress_fn,
    /// Handed to `progress`.
    pub progress_data: *mut c_void,
}

// SAFETY: repr(C), begins with struct_size, and is numbers and pointers.
unsafe impl Sized1 for ca2_label_options {
    const NAME: &'static str = "ca2_label_options";
    const FIRST: usize = 24;
}

/// What a proposed label map does not show by itself.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct ca2_label_report {
    /// Size of this struct, as CA2_LABEL_REPORT_INIT sets it.
    pub struct_size: usize,
    /// Mean probability of the classes that were chosen, 0 to 1: below about 0.9 the map is worth a look.
    pub confidence: f32,
    /// Always 0.
    pub reserved: u32,
}

// SAFETY: repr(C), begins with struct_size, and is numbers.
unsafe impl Sized1 for ca2_label_report {
    const NAME: &'static str = "ca2_label_report";
    const FIRST: usize = 16;
}

/// Where the label map of a picture goes.
///
/// # Safety
/// `labels` is NULL or a view that tells the truth for as long as the result lives.
unsafe fn output(picture: &Input, labels: *const ca2_label_view_mut) -> Result<LabelOutput> {
    // SAFETY: as the caller says.
    let output = unsafe { LabelOutput::new(labels, "labels")? };
    let layout = picture.layout();
    output.check_size("the picture", (layout.width, layout.height))?;
    Ok(output)
}

fn needed(model: &ca2_model, picture: &Input) -> u64 {
    let layout = picture.layout();
    model.loaded.label_plan(layout.width, layout.height)
}

/// Proposes a label map for a picture: the class of each pixel, written to `labels`, which has the picture's size and any of the
/// label formats.
///
/// `picture` is any of 1 x 1 pixel and up; its alpha is not looked at. The labeler sees it small, and its map is carried to full
/// size along the picture's edges; it is a proposal, to be looked at and corrected. The model needs a labeler (has_labeler in
/// ca2_model_info), else CA2_UNSUPPORTED. `options` and `report` may be NULL. All memory is borrowed for the call; `labels` and
/// `report` are untouched unless it returns CA2_OK, and `labels` must not overlap the picture. Any thread; blocks until the
/// context's earlier work and this are done. Errors: CA2_INVALID_ARGUMENT, also when the sizes differ; CA2_UNSUPPORTED;
/// CA2_MEMORY_LIMIT; CA2_DEVICE; CA2_CANCELLED; CA2_BUSY. Since 0.1.
///
/// # Safety
/// Pointers are NULL or what their types say; views tell the truth about their memory.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_label(
    model: *const ca2_model,
    picture: *const ca2_image_view,
    options: *const ca2_label_options,
    labels: *const ca2_label_view_mut,
    report: *mut ca2_label_report,
) -> ca2_status {
    guard(|| {
        // SAFETY: as this function's documentation asks, in this whole body.
        unsafe {
            let model = &*ca2_model::hold(model, "model")?;
            let options = read_options(options, "options")?;
            let loaded = &model.loaded;
            loaded.context().check_not_in_callback()?;
            let picture = Input::new(picture, "picture")?;
            if !report.is_null() {
                check_sized(report, "report")?;
            }
            let mut output = output(&picture, labels)?;
            output.must_not_overlap(picture.bytes(), "picture")?;
            loaded.check_memory(needed(model, &picture))?;
            let pixels = picture.pixels()?;
            let proposed =
                observed(options.progress, options.progress_data, |observer| loaded.label(pixels, observer))?;
            output.write(&proposed.labels, loaded.model().classes());
            if !report.is_null() {
                let value = ca2_label_report {
                    struct_size: size_of::<ca2_label_report>(),
                    confidence: proposed.confidence,
                    reserved: 0,
                };
                write_sized(report, &value);
            }
            Ok(())
        }
    })
}

/// How many bytes ca2_label() with the same arguments would need at most beyond them and the model, in `*needed`: an estimate from
/// above. It returns CA2_MEMORY_LIMIT when that is more than the context's memory_limit.
///
/// Pixels are not looked at. Any thread, any time; never blocks. Errors: CA2_INVALID_ARGUMENT, CA2_UNSUPPORTED, also for a model
/// without a labeler; `*needed` is untouched then. Since 0.1.
///
/// # Safety
/// Pointers are NULL or what their types say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_label_plan(
    model: *const ca2_model,
    picture: *const ca2_image_view,
    options: *const ca2_label_options,
    labels: *const ca2_label_view_mut,
    needed: *mut u64,
) -> ca2_status {
    guard(|| {
        // SAFETY: as this function's documentation asks, in this whole body.
        unsafe {
            let model = &*ca2_model::hold(model, "model")?;
            let out = out_value(needed, "needed")?;
            read_options(options, "options")?;
            let picture = Input::new(picture, "picture")?;
            output(&picture, labels)?;
            model.loaded.check_labeler()?;
            *out = self::needed(model, &picture);
            Ok(())
        }
    })
}
