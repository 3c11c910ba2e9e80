//! The rows of the tables. All that evaluation asks of the restyling job is here.

use super::baselines;
use super::data::Labelled;
use crate::Result;
use crate::image::{Mask, Picture, RgbImage, View};
use crate::nn::Network;
use crate::progress::Progress;
use crate::restyle::{self, Job, Options, Report, Statistics, restyle_to_picture};
use crate::style::Style;
use crate::synthesis::{Look, Synthesis};

/// A way to bring a content into a reference's look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// The content as it is.
    Identity,
    /// Reinhard et al. 2001 over the whole picture.
    Reinhard,
    /// The same class by class.
    ReinhardPerClass,
    /// Each class flat in the reference's mean.
    ClassMean,
    /// The restyling job by the reference's colour statistics, without a model.
    Statistics,
    /// The restyling job.
    Restyle,
    /// A finished picture of the content's labels in the reference's style.
    Synthesize,
}

impl Method {
    pub const ALL: [Self; 7] = [
        Self::Identity,
        Self::Reinhard,
        Self::ReinhardPerClass,
        Self::ClassMean,
        Self::Statistics,
        Self::Restyle,
        Self::Synthesize,
    ];

    /// Its name for scripts.
    pub fn key(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Reinhard => "reinhard",
            Self::ReinhardPerClass => "reinhard-per-class",
            Self::ClassMean => "class-mean",
            Self::Statistics => "statistics",
            Self::Restyle => "restyle",
            Self::Synthesize => "synthesize",
        }
    }

    /// Its name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Reinhard => "Reinhard global",
            Self::ReinhardPerClass => "Reinhard per class",
            Self::ClassMean => "class mean colour",
            Self::Statistics => "statistics",
            Self::Restyle => "ours (restyle)",
            Self::Synthesize => "ours (synthesize)",
        }
    }

    /// Whether it runs the model.
    pub fn needs_network(self) -> bool {
        matches!(self, Self::Restyle | Self::Synthesize)
    }

    /// Whether it is a form of the restyling job, with its mask, classes and coupling.
    pub fn is_job(self) -> bool {
        matches!(self, Self::Statistics | Self::Restyle)
    }
}

/// What is asked of a method.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    /// Classes to restyle; none: all.
    pub classes: Vec<usize>,
    /// Where the result may differ; without one, the asked classes' pixels.
    pub mask: Option<Mask>,
    /// 0 to 1: how much of what the generator moved outside the asked classes comes through.
    pub coupling: f32,
}

impl Edit {
    fn coverage(&self, content: &Labelled, i: usize) -> f32 {
        let (width, class) = (content.labels.width(), usize::from(content.labels.indices()[i]));
        match &self.mask {
            Some(mask) => mask.coverage(i % width, i / width),
            None => f32::from(u8::from(self.classes.is_empty() || self.classes.contains(&class))),
        }
    }
}

/// Runs `method`; `network` is there for those that need it. The result has the content's size.
pub fn run(
    method: Method,
    network: Option<&Network>,
    content: &Labelled,
    reference: &Labelled,
    edit: &Edit,
) -> Result<Picture> {
    let (labels, reference_labels) = (&content.labels, &reference.labels);
    let rgb = || content.picture.to_rgb_f32();
    let look = || reference.picture.to_rgb_f32();
    let model = || network.expect("methods of the model are asked for only where there is one");
    let style = || Style::extract(model(), &reference.picture, reference_labels, Progress::NONE);
    let whole = match method {
        Method::Identity => return Ok(content.picture.clone()),
        Method::Reinhard => baselines::reinhard(&rgb(), &look()),
        Method::ReinhardPerClass => baselines::reinhard_per_class(&rgb(), labels, &look(), reference_labels),
        Method::ClassMean => baselines::class_mean(labels, &look(), reference_labels),
        Method::Synthesize => {
            let picture = Synthesis { labels, morph: None, look: Look::Style(&style()?), finish: true };
            picture.run(model(), Progress::NONE)?
        }
        Method::Statistics => {
            let present =
                [labels, reference_labels].map(|l| l.classes_present().last().copied().unwrap_or(0));
            let classes = usize::from(present[0].max(present[1])) + 1;
            let look = Statistics::extract(&reference.picture, reference_labels, classes)?;
            return job(restyle::Method::Statistics(&look), content, edit);
        }
        Method::Restyle => {
            let (network, style) = (model(), &style()?);
            return job(restyle::Method::Network { network, style }, content, edit);
        }
    };
    lay(&whole, content, edit).to_picture()
}

/// The restyling job.
fn job(method: restyle::Method, content: &Labelled, edit: &Edit) -> Result<Picture> {
    let classes: Vec<(usize, f32)> = edit.classes.iter().map(|&class| (class, 1.0)).collect();
    let job = Job {
        mask: edit.mask.as_ref().map(View::from),
        classes: &classes,
        options: Options { coupling: edit.coupling, ..Options::default() },
        ..Job::new(&content.picture, &content.labels, method)
    };
    Ok(restyle_to_picture(&job, Progress::NONE)?.0)
}

/// The restyling job by the network over the whole content, with what is known of how far to trust it.
pub fn trusted(network: &Network, content: &Labelled, reference: &Labelled) -> Result<(Picture, Report)> {
    let style = Style::extract(network, &reference.picture, &reference.labels, Progress::NONE)?;
    let method = restyle::Method::Network { network, style: &style };
    let options = Options { confidence: true, ..Options::default() };
    let job = Job { options, ..Job::new(&content.picture, &content.labels, method) };
    restyle_to_picture(&job, Progress::NONE)
}

/// `whole` where the edit reaches, the content elsewhere.
fn lay(whole: &RgbImage, content: &Labelled, edit: &Edit) -> RgbImage {
    let mut result = content.picture.to_rgb_f32();
    for (i, (out, new)) in result.pixels.chunks_exact_mut(3).zip(whole.pixels.chunks_exact(3)).enumerate() {
        let coverage = edit.coverage(content, i);
        for (out, &new) in out.iter_mut().zip(new) {
            *out += (new - *out) * coverage;
        }
    }
    result
}
