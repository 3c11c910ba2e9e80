//! The job.

use std::ffi::c_void;

use super::callback::{ca2_progress_fn, observed};
use super::guard::guard;
use super::handle::{Handle, Sized1, array, check_sized, read_options, write_sized};
use super::image::{Input, Output, ca2_image_view, ca2_image_view_mut, ca2_label_view, label_layout, labels};
use super::model::ca2_model;
use super::status::ca2_status;
use super::style::ca2_style;
use crate::image::Mask;
use crate::restyle::{Job, Report};
use crate::{Error, Result};

/// `strength` counts.
pub const CA2_RESTYLE_STRENGTH: u64 = 1;

/// A class to restyle.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct ca2_class_strength {
    /// The class's index.
    pub index: u32,
    /// 0 keeps its own style, 1 gives it the reference's, between in proportion.
    pub strength: f32,
}

/// What to restyle, and how. All zero is the default: all classes, whole, without a mask.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct ca2_restyle_options {
    /// Size of this struct, as CA2_RESTYLE_OPTIONS_INIT sets it.
    pub struct_size: usize,
    /// Which of the numbers below count whose default is not zero: CA2_RESTYLE_* or'ed together.
    pub fields: u64,
    /// How the result is to be laid out instead, of the content's size; NULL for as it is.
    pub target_labels: *const ca2_label_view,
    /// A gray view of the content's size, 0 to 1: where the result may differ from the content. NULL: the pixels of the
    /// classes to restyle.
    pub mask: *const ca2_image_view,
    /// Classes to restyle, each at most once, `class_count` of them; NULL for all, each at 1.
    pub classes: *const ca2_class_strength,
    /// How many; 0 for all.
    pub class_count: usize,
    /// Multiplies every class's strength, 0 to 1; at 0 the result is the content. Counts with CA2_RESTYLE_STRENGTH, else 1.
    pub strength: f32,
    /// Always 0.
    pub reserved: u32,
    /// Told how far it is; may be NULL.
    pub progress: ca2_progress_fn,
    /// Handed to `progress`.
    pub progress_data: *mut c_void,
}

// SAFETY: repr(C), begins with struct_size, and is numbers and pointers.
unsafe impl Sized1 for ca2_restyle_options {
    const NAME: &'static str = "ca2_restyle_options";
    const FIRST: usize = 72;
}

/// In `notes`: to be restyled, but the style lacks the class: it kept its own look.
pub const CA2_NOTE_MISSING: u8 = 1;
/// In `notes`: asked for in `classes`, but no label map has it.
pub const CA2_NOTE_ABSENT: u8 = 2;

/// What a result does not show by itself.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct ca2_restyle_report {
    /// Size of this struct, as CA2_RESTYLE_REPORT_INIT sets it.
    pub struct_size: usize,
    /// How many classes have CA2_NOTE_MISSING.
    pub missing_count: u32,
    /// How many classes have CA2_NOTE_ABSENT.
    pub absent_count: u32,
    /// CA2_NOTE_* of each class by its index, or'ed together; 0 when there is nothing to say.
    pub notes: [u8; 256],
}

// SAFETY: repr(C), begins with struct_size, and is numbers.
unsafe impl Sized1 for ca2_restyle_report {
    const NAME: &'static str = "ca2_restyle_report";
    const FIRST: usize = 272;
}

/// A number that counts if its bit is set; one that is set without its bit would go unheeded, and is refused.
fn counted(fields: u64, bit: u64, value: f32, name: &str, default: f32) -> Result<f32> {
    match fields & bit != 0 {
        true => Ok(value),
        false if value == 0.0 => Ok(default),
        false => Err(Error::invalid(format!(
            "options: {name} is {value}, but its bit ({bit:#x}) is not set in fields: set it, or leave {name} 0"
        ))),
    }
}

/// Restyles a picture: `content`, under its label map `labels`, in the looks of `style`, written to `output`.
///
/// `output` has the content's size, format and transfer. Where nothing is to change, and in alpha, its samples are the
/// content's bit for bit. It may be the content itself, exactly (changed in place, at the cost of a copy of it meanwhile),
/// and must not overlap any input otherwise. `options` may be NULL; `report` may be NULL. All memory is borrowed for the call;
/// `output` and `report` are untouched unless it returns CA2_OK. Any thread; blocks until the context's earlier work and this
/// are done. Errors: CA2_INVALID_ARGUMENT, also when sizes differ, a label or class is beyond the model's, a strength or mask
/// value is not 0 to 1, or the style is of another model; CA2_UNSUPPORTED; CA2_MEMORY_LIMIT; CA2_DEVICE; CA2_CANCELLED;
/// CA2_BUSY. Since 0.1.
///
/// # Safety
/// Pointers are NULL or what their types say; views tell the truth about their memory.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_restyle(
    model: *const ca2_model,
    content: *const ca2_image_view,
    labels: *const ca2_label_view,
    style: *const ca2_style,
    options: *const ca2_restyle_options,
    output: *const ca2_image_view_mut,
    report: *mut ca2_restyle_report,
) -> ca2_status {
    guard(|| {
        // SAFETY: as this function's documentation asks, in this whole body.
        unsafe {
            let model = ca2_model::borrow(model, "model")?;
            let loaded = &model.loaded;
            loaded.context().check_not_in_callback()?;
            let content = Input::new(content, "content")?;
            let style = ca2_style::borrow(style, "style")?.of(model, "style")?;
            let options = read_options(options, "options")?;
            if !report.is_null() {
                check_sized(report, "report")?;
            }
            let known = CA2_RESTYLE_STRENGTH;
            if options.fields & !known != 0 {
                return Err(Error::unsupported(format!(
                    "options: fields is {:#x}, but this version knows {known:#x}",
                    options.fields
                )));
            }
            if options.reserved != 0 {
                return Err(Error::unsupported(format!("options: reserved is {}, not 0", options.reserved)));
            }
            let mut output = Output::new(output, "output")?;
            output.must_fit(&content, "content")?;
            output.must_not_overlap(label_layout(labels, "labels")?, "labels")?;
            let map = self::labels(labels, "labels", loaded.model())?;
            let target = match options.target_labels.is_null() {
                true => None,
                false => {
                    let name = "options: target_labels";
                    output.must_not_overlap(label_layout(options.target_labels, name)?, name)?;
                    Some(self::labels(options.target_labels, name, loaded.model())?)
                }
            };
            let mask = match options.mask.is_null() {
                true => None,
                false => {
                    let name = "options: mask";
                    let mask = Input::new(options.mask, name)?;
                    output.must_not_overlap(mask.layout(), name)?;
                    Some(Mask::new(&mask.values()?).map_err(|e| Error::invalid(format!("{name}: {e}")))?)
                }
            };
            let classes = array(options.classes, options.class_count, "options: classes")?;
            let classes: Vec<_> = classes.iter().map(|c| (c.index as usize, c.strength)).collect();
            let picture = content.picture()?;
            let job = Job {
                content: &picture,
                labels: &map,
                target_labels: target.as_ref(),
                mask: mask.as_ref(),
                style,
                classes: &classes,
                strength: counted(options.fields, CA2_RESTYLE_STRENGTH, options.strength, "strength", 1.0)?,
            };
            let (result, told) =
                observed(options.progress, options.progress_data, |observer| loaded.restyle(&job, observer))?;
            output.write_changed(&picture, &result, &content);
            if !report.is_null() {
                write_sized(report, &to_c(&told));
            }
            Ok(())
        }
    })
}

fn to_c(report: &Report) -> ca2_restyle_report {
    let mut notes = [0; 256];
    for (classes, note) in [(&report.missing, CA2_NOTE_MISSING), (&report.absent, CA2_NOTE_ABSENT)] {
        classes.iter().for_each(|&class| notes[class] |= note);
    }
    ca2_restyle_report {
        struct_size: size_of::<ca2_restyle_report>(),
        missing_count: report.missing.len() as u32,
        absent_count: report.absent.len() as u32,
        notes,
    }
}
