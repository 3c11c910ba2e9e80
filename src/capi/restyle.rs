//! The job.

use std::ffi::{c_char, c_void};

use super::callback::{ca2_progress_fn, observed};
use super::guard::guard;
use super::handle::{Handle, Sized1, array, check_sized, out_value, read_options, write_sized};
use super::image::{
    Input, Output, ca2_image_view, ca2_image_view_mut, ca2_label_view, encoded_gray, label_layout, labels,
};
use super::model::ca2_model;
use super::status::ca2_status;
use super::style::ca2_style;
use crate::image::{LabelMap, View, ViewMut};
use crate::model::Class;
use crate::nn::Network;
use crate::restyle::{Confidence, Job, Method, Options, Report, restyle};
use crate::style::Style;
use crate::{Error, Result};
use candle_core::Device;

/// `strength` counts.
pub const CA2_RESTYLE_STRENGTH: u64 = 1;
/// `morph` counts.
pub const CA2_RESTYLE_MORPH: u64 = 2;

/// `method`: the network, in the looks of the style's codes.
pub const CA2_METHOD_NETWORK: u32 = 0;
/// `method`: without the network, each class's mean and covariance of colour moved to the reference's, which every style
/// carries. Quick, and true to colour where the network does not know the picture; it moves no light and draws no shapes, so
/// `target_labels` and a `confidence_map` are CA2_INVALID_ARGUMENT, and a confidence that is asked for comes out as -1, unknown.
pub const CA2_METHOD_STATISTICS: u32 = 1;

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
    /// How far a change of the classes that were not asked for comes through, 0 to 1: the network moves them too, by light and
    /// cast colours. Above 0, a job without a mask may change the whole picture.
    pub coupling: f32,
    /// With `target_labels`, how far the layout goes from `labels` to them, 0 to 1. Counts with CA2_RESTYLE_MORPH, else 1.
    pub morph: f32,
    /// CA2_METHOD_*: where the change comes from.
    pub method: u32,
    /// 1 to find out how far the result can be trusted, for the report, in next to no time; 0 not to. The output is the same either
    /// way.
    pub confidence: u32,
    /// Always 0.
    pub reserved: u32,
    /// A gray picture of the content's size for the confidence of each pixel, 0 black to 1 white, not a light value whatever its
    /// transfer; 0 outside of the report's window, where the network saw nothing. It must not overlap anything else. NULL for
    /// none; any asks for `confidence` too.
    pub confidence_map: *const ca2_image_view_mut,
    /// Told how far it is; may be NULL. So that the output stays untouched however late it stops the work, the result is then
    /// made beside it, at the cost of as many bytes as its pixels.
    pub progress: ca2_progress_fn,
    /// Handed to `progress`.
    pub progress_data: *mut c_void,
    /// In and out: where the caller keeps the content's own style from one call to the next; NULL to keep none. `*content_style`
    /// is NULL at first, or the caller's reference to what an earlier call put there, or to one that was saved and opened again.
    /// Where it is of just the pixels and labels that the network sees of the content now, and of the same model, version and
    /// kind of device, the content is neither encoded nor drawn again, which is about half of the work; the output has the same
    /// bits either way. Where it is not, whatever style it is, a call that returns CA2_OK releases it and puts a reference to
    /// the new one there. Mask, classes, coupling and shapes count only as far as they move the report's window. Other calls, and
    /// those by CA2_METHOD_STATISTICS or with nothing to do, leave it as it is. No two calls at once may have one place. As a
    /// reference it has no colours for CA2_METHOD_STATISTICS; saved it takes 12 bytes for each of the model's pixels besides.
    pub content_style: *mut *mut ca2_style,
}

// SAFETY: repr(C), begins with struct_size, and is numbers and pointers.
unsafe impl Sized1 for ca2_restyle_options {
    const NAME: &'static str = "ca2_restyle_options";
    const FIRST: usize = 96;
}

/// In `notes`: to be restyled, but the style lacks the class: it kept its own look, or was drawn without one where the target labels
/// alone show it.
pub const CA2_NOTE_MISSING: u8 = 1;
/// In `notes`: asked for in `classes`, but no label map has it.
pub const CA2_NOTE_ABSENT: u8 = 2;
/// In `notes`: to be restyled, but with too few pixels for the network to see any: it was left as it is.
pub const CA2_NOTE_UNSEEN: u8 = 4;

/// In `notes`: restyled, with a confidence below 0.22 and 1 % of the window or more, in a result that is not `doubtful` as a whole.
pub const CA2_NOTE_DOUBTFUL: u8 = 8;

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
    /// How many classes have CA2_NOTE_UNSEEN.
    pub unseen_count: u32,
    /// How many classes have CA2_NOTE_DOUBTFUL.
    pub doubtful_count: u32,
    /// 1 when the confidence of the whole is below 0.42: the network does not know pictures like this one, or like the reference,
    /// well. Else 0.
    pub doubtful: u32,
    /// Side in pixels of the square of the content that the network saw; 0 when there was nothing to do.
    pub window_side: u32,
    /// Column of that square's upper left pixel; it may reach beyond the content.
    pub window_x: i64,
    /// Row of that square's upper left pixel.
    pub window_y: i64,
    /// The output's pixels outside the mask, or outside the classes to restyle, compared with the content's byte by byte.
    pub untouched_pixels: u64,
    /// How many of them differ: 0, unless memory was written to from elsewhere meanwhile.
    pub untouched_differing: u64,
    /// How far the result can be trusted, 0 to 1, the mean over the pixels that are restyled; -1 when it was not asked for or there
    /// is nothing to go by. A pixel's figure is 1 / (1 + (error / 0.15)^2), of the greater of two errors that the network is known
    /// to make: redrawing the content in the pixel's class around it, and redrawing this class of the reference (root mean
    /// squares, 0 to 1). 0 where the style lacks a class that is to be restyled.
    pub confidence: f32,
    /// Always 0.
    pub reserved: u32,
    /// The confidence of each class by its index; -1 for one that the network did not see.
    pub class_confidence: [f32; 256],
    /// CA2_NOTE_* of each class by its index, or'ed together; 0 when there is nothing to say.
    pub notes: [u8; 256],
    /// What a person should know before using the result, in English: one sentence a line, UTF-8, ends in a NUL, "..." where it
    /// is cut. Empty when there is nothing to say. It says what the numbers above say, with the names of the classes.
    pub advice: [c_char; 1024],
    /// 1 when the style in the options' `content_style` was used: nothing of the content was encoded. Else 0.
    pub content_style_used: u32,
    /// Always 0.
    pub reserved_too: u32,
}

// SAFETY: repr(C), begins with struct_size, and is numbers.
unsafe impl Sized1 for ca2_restyle_report {
    const NAME: &'static str = "ca2_restyle_report";
    const FIRST: usize = 2376;
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

/// What a call of [`ca2_restyle`] is about, read and checked.
struct Read {
    content: Input,
    map: LabelMap,
    target: Option<LabelMap>,
    mask: Option<Input>,
    confidence_map: Option<Output>,
    classes: Vec<(usize, f32)>,
    options: ca2_restyle_options,
    settings: Options,
}

/// # Safety
/// Pointers are NULL or what their types say; views tell the truth about their memory for as long as the result lives.
unsafe fn read(
    model: &ca2_model,
    content: *const ca2_image_view,
    labels: *const ca2_label_view,
    options: *const ca2_restyle_options,
    output: Option<&Output>,
) -> Result<Read> {
    // SAFETY: as the caller says, in this whole body.
    unsafe {
        let content = Input::new(content, "content")?;
        let options = read_options(options, "options")?;
        let known = CA2_RESTYLE_STRENGTH | CA2_RESTYLE_MORPH;
        if options.fields & !known != 0 {
            return Err(Error::unsupported(format!(
                "options: fields is {:#x}, but this version knows {known:#x}",
                options.fields
            )));
        }
        if !matches!(options.method, CA2_METHOD_NETWORK | CA2_METHOD_STATISTICS) {
            return Err(Error::unsupported(format!(
                "options: method is {}, which is no CA2_METHOD_*",
                options.method
            )));
        }
        if options.reserved != 0 {
            return Err(Error::unsupported(format!("options: reserved is {}, not 0", options.reserved)));
        }
        if options.confidence > 1 {
            return Err(Error::unsupported(format!(
                "options: confidence is {}, not 0 or 1",
                options.confidence
            )));
        }
        let settings = Options {
            strength: counted(options.fields, CA2_RESTYLE_STRENGTH, options.strength, "strength", 1.0)?,
            morph: counted(options.fields, CA2_RESTYLE_MORPH, options.morph, "morph", 1.0)?,
            coupling: options.coupling,
            confidence: options.confidence == 1 || !options.confidence_map.is_null(),
            ..Options::default()
        };
        let labels_of = |view: *const ca2_label_view, name: &str| -> Result<LabelMap> {
            if let Some(output) = output {
                output.must_not_overlap(label_layout(view, name)?, name)?;
            }
            self::labels(view, name, model.loaded.model())
        };
        let map = labels_of(labels, "labels")?;
        let target = match options.target_labels.is_null() {
            true => None,
            false => Some(labels_of(options.target_labels, "options: target_labels")?),
        };
        let mask = match options.mask.is_null() {
            true => None,
            false => {
                let mask = Input::new(options.mask, "options: mask")?;
                if let Some(output) = output {
                    output.must_not_overlap(mask.bytes(), "options: mask")?;
                }
                Some(mask)
            }
        };
        let confidence_map = match options.confidence_map.is_null() {
            true => None,
            false if options.method == CA2_METHOD_STATISTICS => {
                return Err(Error::invalid(
                    "options: confidence_map is of the network's work, and CA2_METHOD_STATISTICS does without the network",
                ));
            }
            false => {
                let name = "options: confidence_map";
                let map = Output::new(options.confidence_map, name)?;
                map.check_gray(content.layout().width, content.layout().height)?;
                map.must_not_overlap(content.bytes(), "content")?;
                map.must_not_overlap(label_layout(labels, "labels")?, "labels")?;
                if !options.target_labels.is_null() {
                    let name = "options: target_labels";
                    map.must_not_overlap(label_layout(options.target_labels, name)?, name)?;
                }
                if let Some(mask) = &mask {
                    map.must_not_overlap(mask.bytes(), "options: mask")?;
                }
                if let Some(output) = output {
                    map.must_not_overlap(output.bytes(), "output")?;
                }
                Some(map)
            }
        };
        let classes = array(options.classes, options.class_count, "options: classes")?;
        let classes = classes.iter().map(|c| (c.index as usize, c.strength)).collect();
        Ok(Read { content, map, target, mask, confidence_map, classes, options, settings })
    }
}

/// `content_style` of options.
///
/// # Safety
/// `place` is NULL, or the caller's to read and write, and what it holds is NULL or a style that the caller holds a reference to.
unsafe fn place<'a>(place: *mut *mut ca2_style) -> Result<Option<&'a mut *mut ca2_style>> {
    if !place.is_aligned() {
        return Err(Error::invalid("options: content_style is not aligned: it points to no ca2_style *"));
    }
    // SAFETY: as the caller says.
    Ok(unsafe { place.as_mut() })
}

/// `method` of checked options.
fn method<'a>(code: u32, network: &'a Network, style: &'a Style) -> Method<'a> {
    match code {
        CA2_METHOD_STATISTICS => Method::Statistics(style.statistics()),
        _ => Method::Network { network, style },
    }
}

impl Read {
    fn mask(&self) -> Result<Option<View<'_>>> {
        self.mask.as_ref().map(Input::pixels).transpose()
    }

    /// The style in `content_style`, if there is one of `model`.
    ///
    /// # Safety
    /// The options are as ca2_restyle() asks.
    unsafe fn content_style(&self, model: &ca2_model) -> Result<Option<&Style>> {
        // SAFETY: as the caller says.
        unsafe {
            let Some(place) = place(self.options.content_style)? else { return Ok(None) };
            Ok(place.as_ref().and_then(|style| style.of(model, "options: content_style").ok()))
        }
    }

    fn job<'a>(&'a self, content: View<'a>, mask: Option<View<'a>>, method: Method<'a>) -> Job<'a> {
        Job {
            target_labels: self.target.as_ref(),
            mask,
            classes: &self.classes,
            options: self.settings,
            ..Job::new(content, &self.map, method)
        }
    }

    /// Bytes beyond the arguments and the model: the job's, the copies of label maps, and the result where it is made beside
    /// the output.
    fn needed(&self, model: &ca2_model, style: &Style, beside: bool) -> Result<u64> {
        let method = method(self.options.method, model.loaded.network(), style);
        let job = model.loaded.restyle_plan(&self.job(self.content.pixels()?, self.mask()?, method));
        let layout = self.content.layout();
        let pixels = (layout.width * layout.height) as u64;
        // A class of a byte, and two more while it is checked.
        let maps = pixels * (3 + u64::from(self.target.is_some()));
        let confidence =
            self.confidence_map.as_ref().map_or(0, |map| pixels * (map.tight().pixel_size() as u64));
        Ok(job + maps + confidence + if beside { pixels * layout.pixel_size() as u64 } else { 0 })
    }
}

/// Restyles a picture: `content`, under its label map `labels`, in the looks of `style`, written to `output`. `method` in the
/// options says how: by the network, or by the style's colour statistics alone.
///
/// `output` has the content's size, format and transfer. Where nothing is to change, and in alpha, its samples are the
/// content's bit for bit; infinite and undefined samples stay too. It may be the content itself, exactly (changed in place, at
/// the cost of as many bytes as its pixels), and must not overlap any input otherwise; its rows must not lie in each other.
/// `options` may be NULL; `report` may be NULL. All memory is borrowed for the call; `output`, `report` and a confidence_map are
/// untouched unless it returns CA2_OK, as is `*content_style`. Any thread; blocks until the context's earlier work and this are done.
/// Errors: CA2_INVALID_ARGUMENT, also when sizes differ, a label or class is beyond the model's, a strength or mask value is
/// not 0 to 1, or the style is of another model; CA2_UNSUPPORTED; CA2_MEMORY_LIMIT; CA2_DEVICE; CA2_CANCELLED; CA2_BUSY.
/// Since 0.1.
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
            let model = &*ca2_model::hold(model, "model")?;
            let loaded = &model.loaded;
            loaded.context().check_not_in_callback()?;
            let in_content = Input::new(content, "content")?;
            let style = &*ca2_style::hold(style, "style")?;
            let style = style.of(model, "style")?;
            if !report.is_null() {
                check_sized(report, "report")?;
            }
            let mut output = Output::new(output, "output")?;
            let in_place = output.is_content(&in_content)?;
            output.check_rows()?;
            let mut read = read(model, content, labels, options, Some(&output))?;
            let progress = read.options.progress;
            let beside = in_place || progress.is_some();
            read.settings.stop_while_writing = beside;
            let needed = read.needed(model, style, beside)?;
            loaded.check_memory(needed)?;
            let code = read.options.method;
            let kept = read.content_style(model)?;
            let job = read.job(read.content.pixels()?, read.mask()?, method(code, loaded.network(), style));
            let map_form = read.confidence_map.as_ref().map(Output::tight);
            let run = |out: &mut ViewMut| {
                observed(progress, read.options.progress_data, |observer| {
                    loaded.run("restyle", observer, |network, progress| {
                        let style = style.to_device(network.device())?;
                        let method = method(code, network, &style);
                        let kept = kept.map(|kept| kept.to_device(network.device())).transpose()?;
                        let content_style = kept.as_ref();
                        let mut told = restyle(&Job { method, content_style, ..job }, out, progress)?;
                        if let Some(own) = &mut told.content_style {
                            own.style = own.style.to_device(&Device::Cpu)?;
                        }
                        let figures = told.confidence.as_ref();
                        let figure = |x, y| figures.and_then(|c| c.at(x, y)).unwrap_or(0.0);
                        let map = map_form.map(|form| encoded_gray(form, figure)).transpose()?;
                        Ok((told, map))
                    })
                })
            };
            let (told, map) = if beside {
                let form = output.tight();
                let mut result = vec![0; form.width * form.height * form.pixel_size()];
                let told = run(&mut ViewMut::new(&mut result, form)?)?;
                output.write_tight(&result);
                told
            } else {
                run(&mut output.pixels()?)?
            };
            if let (Some(output), Some(map)) = (&mut read.confidence_map, map) {
                output.write_tight(&map);
            }
            if !report.is_null() {
                write_sized(report, &to_c(&told, loaded.model().classes()));
            }
            let own = told.content_style.filter(|own| !own.kept);
            if let (Some(place), Some(own)) = (place(read.options.content_style)?, own) {
                let old = *place;
                ca2_style::new(model, own.style).give(place);
                ca2_style::release(old);
            }
            Ok(())
        }
    })
}

/// How many bytes ca2_restyle() with the same arguments would need at most beyond them and the model, in `*needed`: an
/// estimate from above. It returns CA2_MEMORY_LIMIT when that is more than the context's memory_limit.
///
/// `in_place` is 1 if the output is to be the content, else 0. The context's limit does not matter here, and nothing is
/// computed. Any thread, any time; never blocks. Errors: CA2_INVALID_ARGUMENT, CA2_UNSUPPORTED; `*needed` is untouched then.
/// Since 0.1.
///
/// # Safety
/// Pointers are NULL or what their types say; views tell the truth about their memory.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn ca2_restyle_plan(
    model: *const ca2_model,
    content: *const ca2_image_view,
    labels: *const ca2_label_view,
    style: *const ca2_style,
    options: *const ca2_restyle_options,
    in_place: u32,
    needed: *mut u64,
) -> ca2_status {
    guard(|| {
        // SAFETY: as this function's documentation asks, in this whole body.
        unsafe {
            let model = &*ca2_model::hold(model, "model")?;
            let needed = out_value(needed, "needed")?;
            if in_place > 1 {
                return Err(Error::unsupported(format!("in_place is {in_place}, not 0 or 1")));
            }
            let style = &*ca2_style::hold(style, "style")?;
            let style = style.of(model, "style")?;
            let read = read(model, content, labels, options, None)?;
            *needed = read.needed(model, style, in_place == 1 || read.options.progress.is_some())?;
            Ok(())
        }
    })
}

fn to_c(report: &Report, classes: &[Class]) -> ca2_restyle_report {
    let confidence = report.confidence.as_ref();
    // Where all is doubtful, no class is more so than the rest.
    let doubtful = confidence.is_some_and(Confidence::is_doubtful);
    let classes_in_doubt =
        confidence.filter(|_| !doubtful).map(Confidence::doubtful_classes).unwrap_or_default();
    let mut notes = [0; 256];
    let lists = [
        (&report.missing, CA2_NOTE_MISSING),
        (&report.absent, CA2_NOTE_ABSENT),
        (&report.unseen, CA2_NOTE_UNSEEN),
        (&classes_in_doubt, CA2_NOTE_DOUBTFUL),
    ];
    for (classes, note) in lists {
        classes.iter().for_each(|&class| notes[class] |= note);
    }
    let mut class_confidence = [-1.0; 256];
    for &(class, figure) in confidence.iter().flat_map(|c| &c.classes) {
        class_confidence[class] = figure;
    }
    let (window_x, window_y, side) = report.window.unwrap_or_default();
    ca2_restyle_report {
        struct_size: size_of::<ca2_restyle_report>(),
        missing_count: report.missing.len() as u32,
        absent_count: report.absent.len() as u32,
        unseen_count: report.unseen.len() as u32,
        doubtful_count: classes_in_doubt.len() as u32,
        doubtful: u32::from(doubtful),
        window_side: side as u32,
        window_x,
        window_y,
        untouched_pixels: report.untouched.pixels as u64,
        untouched_differing: report.untouched.differing as u64,
        confidence: confidence.map_or(-1.0, |c| c.overall),
        reserved: 0,
        class_confidence,
        notes,
        advice: fitted(&report.advice(classes).join("\n")),
        content_style_used: u32::from(report.content_style.as_ref().is_some_and(|own| own.kept)),
        reserved_too: 0,
    }
}

/// Text in a field of `N` bytes, cut between characters where it is too long.
fn fitted<const N: usize>(text: &str) -> [c_char; N] {
    const CUT: &str = "...";
    let mut kept = text.to_owned();
    if text.len() >= N {
        let end = (0..=N - 1 - CUT.len()).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        kept = format!("{}{CUT}", &text[..end]);
    }
    let mut field = [0; N];
    // A NUL within would end it too early.
    for (place, byte) in field.iter_mut().zip(kept.bytes().map(|b| if b == 0 { b' ' } else { b })) {
        *place = byte as c_char;
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_does_not_fit_is_cut_between_characters() {
        let read = |field: &[c_char]| {
            let bytes: Vec<u8> = field.iter().take_while(|&&c| c != 0).map(|&c| c as u8).collect();
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(read(&fitted::<8>("1234567")), "1234567");
        assert_eq!(read(&fitted::<8>("12345678")), "1234...");
        assert_eq!(read(&fitted::<8>("123\u{fc}5678")), "123...", "half a character is none");
        assert_eq!(read(&fitted::<8>("a\0b")), "a b");
        assert_eq!(read(&fitted::<8>("")), "");
    }
}
