//! The job: content, labels and a reference's style in, the restyled picture out, at the content's size and in its form.
//!
//! A square window of the content goes through the network at the model's resolution; what comes back is resampled
//! to the content's size and laid over it through the mask. What the network does not resolve is lost inside the
//! mask: texture there is as fine as the model's resolution. Outside the mask nothing is computed: those samples are
//! the content's own.

mod composite;
mod window;

use crate::image::{LabelMap, Mask, Picture, RgbImage};
use crate::nn::Network;
use crate::progress::Progress;
use crate::style::{Style, check_classes, check_labels};
use crate::{Error, Result};
use composite::composite;
pub(crate) use window::Bounds;
pub(crate) use window::Window;

/// What to restyle, and how.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    pub content: &'a Picture,
    /// The content's classes, of its size.
    pub labels: &'a LabelMap,
    /// How the result is to be laid out instead, of the content's size.
    pub target_labels: Option<&'a LabelMap>,
    /// Where the result may differ from the content, of its size. Without one: the pixels of the asked classes.
    pub mask: Option<&'a Mask>,
    pub style: &'a Style,
    /// Classes to restyle, each with its strength in [0, 1]: 0 is its own style, 1 the reference's. None: all, at 1.
    pub classes: &'a [(usize, f32)],
    /// Multiplies every class's strength; 0 to 1. At 0 the result is the content.
    pub strength: f32,
}

/// What a result does not show by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Classes to restyle that the reference lacks: they kept their own style.
    pub missing: Vec<usize>,
    /// Classes asked for by name that neither label map has.
    pub absent: Vec<usize>,
}

/// Restyles a picture.
///
/// Samples where the mask is 0, and alpha, are the content's bit for bit. Where the mask is 1 they are the generator's,
/// between in proportion. A class that only `target_labels` has takes the reference's style whole.
///
/// # Errors
/// [`Error::InvalidArgument`] when sizes differ, a class or strength is out of range, or the style is of another model;
/// [`Error::Tensor`] when the device fails; [`Error::Cancelled`].
pub fn restyle(network: &Network, job: &Job, progress: Progress) -> Result<(Picture, Report)> {
    let Job { content, labels, target_labels, mask, style, .. } = *job;
    check_labels("the labels", labels, "the content", content, network)?;
    if let Some(target) = target_labels {
        check_labels("the target labels", target, "the content", content, network)?;
    }
    if let Some(mask) = mask
        && (mask.width(), mask.height()) != (content.width(), content.height())
    {
        return Err(Error::invalid(format!(
            "the mask is {} x {} pixels, but the content is {} x {}: make them the same size",
            mask.width(),
            mask.height(),
            content.width(),
            content.height()
        )));
    }
    style.check(network)?;
    let strengths = strengths(job, network.config().classes)?;

    let shape = target_labels.unwrap_or(labels);
    let (in_labels, in_shape) = (labels.counts(), shape.counts());
    let mut report = Report::default();
    report.absent.extend(job.classes.iter().map(|&(c, _)| c).filter(|&c| in_labels[c] + in_shape[c] == 0));
    let mut result = content.clone();
    if job.strength == 0.0 {
        return Ok((result, report));
    }

    let asked = |class: u8| strengths[usize::from(class)] > 0.0;
    let coverage = |x: usize, y: usize| match mask {
        Some(mask) => mask.coverage(x, y),
        None => f32::from(u8::from(asked(labels.get(x, y)) || asked(shape.get(x, y)))),
    };
    let Some(bounds) = Bounds::of(content.width(), content.height(), |x, y| coverage(x, y) > 0.0) else {
        return Ok((result, report));
    };

    let (config, device) = (network.config(), network.device());
    let window = Window::around(bounds, content.width(), content.height(), config.resolution);
    let own = Style::of_window(network, content, labels, &window, progress.part(0.0, 0.2))?;
    let shape = window.labels(shape, config.resolution);
    let shown = shape.counts();
    let mut weights = vec![0.0; config.classes];
    for (class, weight) in weights.iter_mut().enumerate().filter(|&(class, _)| shown[class] > 0) {
        if style.has(class) {
            *weight = if own.has(class) { strengths[class] } else { 1.0 };
        } else if strengths[class] > 0.0 {
            report.missing.push(class);
        }
    }
    let wanted = own.toward(style, &weights)?;
    let mask_code = network.encode_mask(&shape.to_tensor(config.classes, device)?)?;
    let codes = wanted.codes().unsqueeze(0)?;
    let after = RgbImage::from_tensor(&network.generate(&mask_code, &codes, progress.part(0.2, 0.9))?)?;
    progress.at(0.9)?;

    let size = (bounds.right - bounds.left, bounds.bottom - bounds.top);
    composite(&mut result, &window.back(&after, bounds, size), bounds, coverage);
    Ok((result, report))
}

/// The strength of every class, the overall strength included.
fn strengths(job: &Job, classes: usize) -> Result<Vec<f32>> {
    let check = |what: &str, value: f32| {
        if (0.0..=1.0).contains(&value) {
            Ok(value)
        } else {
            Err(Error::invalid(format!("{what} is {value}, not 0 to 1")))
        }
    };
    let overall = check("the strength", job.strength)?;
    if job.classes.is_empty() {
        return Ok(vec![overall; classes]);
    }
    let mut strengths = vec![0.0; classes];
    for &(class, strength) in job.classes {
        let Some(place) = strengths.get_mut(class) else {
            return Err(Error::invalid(format!(
                "class {class}, but the model has classes 0 to {}",
                classes - 1
            )));
        };
        *place = overall * check(&format!("the strength of class {class}"), strength)?;
    }
    Ok(strengths)
}

/// The generator's picture of a label map in a style, at the model's scale: the longer side of the map is as long as
/// the model's resolution.
///
/// # Errors
/// [`Error::InvalidArgument`] when the map has a class that the network does not have, or the style is of another model;
/// [`Error::Tensor`] when the device fails; [`Error::Cancelled`].
pub fn synthesize(
    network: &Network,
    labels: &LabelMap,
    style: &Style,
    progress: Progress,
) -> Result<RgbImage> {
    check_classes("the labels", labels, network)?;
    style.check(network)?;
    let (config, device) = (network.config(), network.device());
    let (width, height) = (labels.width(), labels.height());
    let window = Window::whole(width, height);
    let shape = window.labels(labels, config.resolution).to_tensor(config.classes, device)?;
    let image = network.generate(&network.encode_mask(&shape)?, &style.codes().unsqueeze(0)?, progress)?;
    let bounds = Bounds { left: 0, top: 0, right: width, bottom: height };
    let size = (window.shown(width, config.resolution), window.shown(height, config.resolution));
    Ok(window.back(&RgbImage::from_tensor(&image)?, bounds, size).into_image())
}
