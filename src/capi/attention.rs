//! Where the network looks for each class.

use std::ffi::c_void;

use super::callback::{ca2_progress_fn, observed};
use super::guard::guard;
use super::handle::{Handle, Sized1, array, out_value, read_options};
use super::image::{
    Output, ca2_image_view_mut, ca2_label_view, encoded_values, encoding_bytes, label_bytes, label_layout,
    label_size, labels,
};
use super::model::ca2_model;
use super::status::ca2_status;
use super::style::ca2_style;
use crate::attention;
use crate::image::RgbImage;
use crate::{Error, Result};

/// Which attention to show. All zero is the default: the mean of all stages.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct ca2_attention_options {
    /// Size of this struct, as CA2_ATTENTION_OPTIONS_INIT sets it.
    pub struct_size: usize,
    /// 0 for the mean of all stages; s for stage s alone, 1 the coarsest, up to the model's stage_count.
    pub stage: u32,
    /// Always 0.
    pub reserved: u32,
    /// Told how far it is; may be NULL.
    pub progress: ca2_progress_fn,
    /// Handed to `progress`.
    pub progress_data: *mut c_void,
}

// SAFETY: repr(C), begins with struct_size, and is numbers and pointers.
unsafe impl Sized1 for ca2_attention_options {
    const NAME: &'static str = "ca2_attention_options";
    const FIRST: usize = 32;
}

/// The maps that are asked for, by class.
///
/// # Safety
/// `maps` is NULL or points to `map_count` views that tell the truth for as long as the result lives.
unsafe fn outputs(
    model: &ca2_model,
    maps: *const ca2_image_view_mut,
    map_count: usize,
) -> Result<Vec<(usize, Output)>> {
    let classes = model.loaded.model().classes().len();
    if map_count != classes {
        return Err(Error::invalid(format!("map_count is {map_count}, but the model has {classes} classes")));
    }
    // SAFETY: as the caller says.
    let views = unsafe { array(maps, map_count, "maps")? };
    let asked = views.iter().enumerate().filter(|(_, view)| !view.data.is_null());
    // SAFETY: as the caller says.
    asked.map(|(class, view)| Ok((class, unsafe { Output::new(view, &format!("maps[{class}]"))? }))).collect()
}

/// Bytes beyond the arguments and the model: the work's, the copy of the label map, and the maps before they are written.
///
/// # Safety
/// `labels` is NULL or a view.
unsafe fn needed<'a>(
    model: &ca2_model,
    labels: *const ca2_label_view,
    outputs: impl Iterator<Item = &'a Output>,
) -> Result<u64> {
    // SAFETY: as the caller says.
    let size = unsafe { label_size(labels, "labels")? };
    let work = attention::plan(model.loaded.config(), size.0, size.1);
    Ok(work + label_bytes(size) + outputs.map(|output| encoding_bytes(output.tight())).sum::<u64>())
}

/// How much each pixel attends to each class while the network makes the picture of `labels` in `style`: the sigmoid of the
/// cross-attention logits averaged over heads, 0 black to 1 white, not a light value whatever the view's transfer.
///
/// `maps` points to `map_count` views, as many as the model has classes; the map of class i is resampled to the size of
/// maps[i], which should have the label map's aspect. A view whose data is NULL is passed over. Alpha is set to opaque. All
/// memory is borrowed for the call; outputs are untouched unless it returns CA2_OK, and must not overlap each other or the
/// labels. `options` may be NULL. Any thread; blocks until the context's earlier work and this are done.
/// Errors: CA2_INVALID_ARGUMENT, CA2_UNSUPPORTED, CA2_MEMORY_LIMIT, CA2_DEVICE, CA2_CANCELLED, CA2_BUSY. Since 0.1.
///
/// # Safety
/// Pointers are NULL or what their types say; views tell the truth about their memory.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_attention(
    model: *const ca2_model,
    labels: *const ca2_label_view,
    style: *const ca2_style,
    options: *const ca2_attention_options,
    maps: *const ca2_image_view_mut,
    map_count: usize,
) -> ca2_status {
    guard(|| {
        // SAFETY: as this function's documentation asks, in this whole body.
        unsafe {
            let model = &*ca2_model::hold(model, "model")?;
            let style = &*ca2_style::hold(style, "style")?;
            let style = style.of(model, "style")?;
            let options = read_options(options, "options")?;
            let loaded = &model.loaded;
            loaded.context().check_not_in_callback()?;
            if options.reserved != 0 {
                return Err(Error::unsupported(format!("options: reserved is {}, not 0", options.reserved)));
            }
            let mut outputs = outputs(model, maps, map_count)?;
            let label_bytes = label_layout(labels, "labels")?;
            for (i, (_, output)) in outputs.iter().enumerate() {
                output.must_not_overlap(label_bytes, "labels")?;
                for (other, earlier) in &outputs[..i] {
                    output.must_not_overlap(earlier.bytes(), &format!("maps[{other}]"))?;
                }
            }
            loaded.check_memory(needed(model, labels, outputs.iter().map(|(_, output)| output))?)?;
            let map = self::labels(labels, "labels", loaded.model())?;
            let stage = options.stage.checked_sub(1).map(|stage| stage as usize);
            let stages = loaded.model().metadata().network.stages.len();
            if stage.is_some_and(|stage| stage >= stages) {
                return Err(Error::invalid(format!(
                    "options: stage is {}, but the model has stages 1 to {stages}",
                    options.stage
                )));
            }
            let forms: Vec<_> = outputs.iter().map(|(class, output)| (*class, output.tight())).collect();
            let maps = observed(options.progress, options.progress_data, |observer| {
                loaded.run("attention", observer, |network, progress| {
                    let style = style.to_device(network.device())?;
                    let mut maps = attention::attention(network, &map, &style, stage, progress)?;
                    let none = || RgbImage { width: 0, height: 0, pixels: Vec::new() };
                    let mut take = |class: usize| std::mem::replace(&mut maps.classes[class], none());
                    let encode = |&(class, form): &(usize, _)| encoded_values(form, take(class));
                    forms.iter().map(encode).collect::<Result<Vec<_>>>()
                })
            })?;
            for ((_, output), map) in outputs.iter_mut().zip(&maps) {
                output.write_tight(map);
            }
            Ok(())
        }
    })
}

/// How many bytes ca2_attention() with the same arguments would need at most beyond them and the model, in `*needed`: an
/// estimate from above. It returns CA2_MEMORY_LIMIT when that is more than the context's memory_limit.
///
/// A style and the stages make no difference, so neither is asked for; labels and pixels are not looked at. Any thread, any time;
/// never blocks. Errors: CA2_INVALID_ARGUMENT, CA2_UNSUPPORTED; `*needed` is untouched then. Since 0.1.
///
/// # Safety
/// Pointers are NULL or what their types say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_attention_plan(
    model: *const ca2_model,
    labels: *const ca2_label_view,
    maps: *const ca2_image_view_mut,
    map_count: usize,
    needed: *mut u64,
) -> ca2_status {
    guard(|| {
        // SAFETY: as this function's documentation asks, in this whole body.
        unsafe {
            let model = &*ca2_model::hold(model, "model")?;
            let out = out_value(needed, "needed")?;
            let outputs = outputs(model, maps, map_count)?;
            *out = self::needed(model, labels, outputs.iter().map(|(_, output)| output))?;
            Ok(())
        }
    })
}
