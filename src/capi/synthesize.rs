//! Pictures of label maps alone.

use std::ffi::c_void;

use super::callback::{ca2_progress_fn, observed};
use super::guard::guard;
use super::handle::{Handle, Sized1, out_value, read_options};
use super::image::{
    Output, ca2_image_view_mut, ca2_label_view, encoded, encoding_bytes, label_bytes, label_layout,
    label_size, labels,
};
use super::model::ca2_model;
use super::status::ca2_status;
use super::style::ca2_style;
use crate::synthesis::{Look, Synthesis};
use crate::{Error, Result};

/// How to synthesise. All zero is the default.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct ca2_synthesize_options {
    /// Size of this struct, as CA2_SYNTHESIZE_OPTIONS_INIT sets it.
    pub struct_size: usize,
    /// Seed of the noise, when there is no style: the same seed gives the same look on the same device.
    pub seed: u64,
    /// Another layout of the same size, towards which `morph` moves the shapes; may be NULL.
    pub target_labels: *const ca2_label_view,
    /// How far the shapes have moved to `target_labels`: 0 not at all, 1 whole.
    pub morph: f32,
    /// 0: the picture is finished, which makes it of the labels' size before it is resampled, its edges where theirs are, and each class
    /// nearer to the mean colour that the style's picture showed, by half or more of what the network misses there. 1: the
    /// network's picture as it stands.
    pub plain: u32,
    /// Told how far it is; may be NULL.
    pub progress: ca2_progress_fn,
    /// Handed to `progress`.
    pub progress_data: *mut c_void,
}

// SAFETY: repr(C), begins with struct_size, and is numbers and pointers.
unsafe impl Sized1 for ca2_synthesize_options {
    const NAME: &'static str = "ca2_synthesize_options";
    const FIRST: usize = 48;
}

/// Bytes beyond the arguments and the model: the work's, the copies of label maps, and the picture before it is written.
///
/// # Safety
/// Pointers are NULL or what their types say.
unsafe fn needed(
    model: &ca2_model,
    labels: *const ca2_label_view,
    options: &ca2_synthesize_options,
    output: &Output,
) -> Result<u64> {
    // SAFETY: as the caller says, in this whole body.
    unsafe {
        let size = label_size(labels, "labels")?;
        let mut maps = label_bytes(size);
        if !options.target_labels.is_null() {
            maps += label_bytes(label_size(options.target_labels, "options: target_labels")?);
        }
        Ok(Synthesis::plan(model.loaded.config(), (options.plain == 0).then_some(size))
            + maps
            + encoding_bytes(output.tight()))
    }
}

/// The picture that the network makes of a label map in a style, or out of noise when `style` is NULL, written to `output`.
///
/// The picture has the map's size when it is finished, else the model's resolution on the map's longer side; it is resampled to
/// `output`'s size, which should have the map's aspect. Alpha of `output` is set to opaque. `style` NULL needs a model with a noise mapping
/// (noise_width above 0), else CA2_UNSUPPORTED. All memory is borrowed for the call; `output` is untouched unless it returns
/// CA2_OK, and must not overlap a label map. `options` may be NULL. Any thread; blocks until the context's earlier work and
/// this are done. Errors: CA2_INVALID_ARGUMENT, also for labels beyond the model's classes and for a style of another model;
/// CA2_UNSUPPORTED; CA2_MEMORY_LIMIT; CA2_DEVICE; CA2_CANCELLED; CA2_BUSY. Since 0.1.
///
/// # Safety
/// Pointers are NULL or what their types say; views tell the truth about their memory.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_synthesize(
    model: *const ca2_model,
    labels: *const ca2_label_view,
    style: *const ca2_style,
    options: *const ca2_synthesize_options,
    output: *const ca2_image_view_mut,
) -> ca2_status {
    guard(|| {
        // SAFETY: as this function's documentation asks, in this whole body.
        unsafe {
            let model = &*ca2_model::hold(model, "model")?;
            let options = read_options(options, "options")?;
            let loaded = &model.loaded;
            loaded.context().check_not_in_callback()?;
            if options.plain > 1 {
                return Err(Error::unsupported(format!("options: plain is {}, not 0 or 1", options.plain)));
            }
            let mut output = Output::new(output, "output")?;
            output.must_not_overlap(label_layout(labels, "labels")?, "labels")?;
            loaded.check_memory(needed(model, labels, &options, &output)?)?;
            let map = self::labels(labels, "labels", loaded.model())?;
            let target = match options.target_labels.is_null() {
                true if options.morph != 0.0 => {
                    return Err(Error::invalid(format!(
                        "options: morph is {}, but there are no target_labels to move to",
                        options.morph
                    )));
                }
                true => None,
                false => {
                    let name = "options: target_labels";
                    output.must_not_overlap(label_layout(options.target_labels, name)?, name)?;
                    Some((self::labels(options.target_labels, name, loaded.model())?, options.morph))
                }
            };
            let held;
            let look = match style.is_null() {
                true => Look::Noise(options.seed),
                false => {
                    held = ca2_style::hold(style, "style")?;
                    Look::Style(held.of(model, "style")?)
                }
            };
            let morph = target.as_ref().map(|(map, share)| (map, *share));
            let job = Synthesis { labels: &map, morph, look, finish: options.plain == 0 };
            let form = output.tight();
            let picture = observed(options.progress, options.progress_data, |observer| {
                loaded.run("synthesize", observer, |network, progress| {
                    encoded(form, job.run(network, progress)?)
                })
            })?;
            output.write_tight(&picture);
            Ok(())
        }
    })
}

/// How many bytes ca2_synthesize() with the same arguments would need at most beyond them and the model, in `*needed`: an
/// estimate from above. It returns CA2_MEMORY_LIMIT when that is more than the context's memory_limit.
///
/// A style makes no difference, so none is asked for; labels and pixels are not looked at. Any thread, any time; never blocks.
/// Errors: CA2_INVALID_ARGUMENT, CA2_UNSUPPORTED; `*needed` is untouched then. Since 0.1.
///
/// # Safety
/// Pointers are NULL or what their types say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_synthesize_plan(
    model: *const ca2_model,
    labels: *const ca2_label_view,
    options: *const ca2_synthesize_options,
    output: *const ca2_image_view_mut,
    needed: *mut u64,
) -> ca2_status {
    guard(|| {
        // SAFETY: as this function's documentation asks, in this whole body.
        unsafe {
            let model = &*ca2_model::hold(model, "model")?;
            let out = out_value(needed, "needed")?;
            let options = read_options(options, "options")?;
            *out = self::needed(model, labels, &options, &Output::new(output, "output")?)?;
            Ok(())
        }
    })
}
