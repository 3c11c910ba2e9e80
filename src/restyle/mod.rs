//! The job: content, labels and a reference's look in, the restyled picture out, at the content's size and in its form.
//!
//! A square window of the content goes through the network at the model's resolution twice: in its own style, and in the
//! wanted one. The generator's pixels are not pasted. The difference between the two is fitted by smooth colour
//! transforms, which change the content's own pixels at full resolution ([`grid`]): texture, 16 bits and highlights
//! survive. Only where a shape edit gives a pixel another class do the generator's pixels show ([`shape`]).
//!
//! A call holds nothing of the picture's size: a picture of any size fits beside its input and output. Only one with a colour
//! profile to follow is copied ([`restyle_picture`]).

mod composite;
mod confidence;
mod edges;
mod grain;
mod grid;
mod matrix;
mod regions;
mod sequence;
pub(crate) mod shape;
mod statistics;
mod window;

use crate::image::{LabelMap, Picture, RgbImage, SampleType, Samples, Transfer, View, ViewMut};
use crate::model::Class;
use crate::nn::{Config, Network};
use crate::progress::Progress;
use crate::style::{Seen, Style, check_labels};
use crate::{Error, Result};
pub use composite::Untouched;
use composite::{Change, Coverage, check_forms};
pub use confidence::Confidence;
use grid::{Grid, Sample};
use regions::Regions;
pub use sequence::{ColorChange, restyle_by};
use shape::Shape;
pub(crate) use statistics::Moments;
pub use statistics::Statistics;
pub(crate) use window::{Bounds, Window};

/// Where the wanted look comes from.
#[derive(Clone, Copy)]
pub enum Method<'a> {
    /// The network, and the style of a reference, or of a mix of several.
    Network { network: &'a Network, style: &'a Style },
    /// The colours of a reference's classes alone, without the network: every [`Style`] has them too
    /// ([`Style::statistics`]), so that a style is all that either method needs.
    Statistics(&'a Statistics),
}

impl Method<'_> {
    /// Number of classes.
    pub fn classes(&self) -> usize {
        match self {
            Self::Network { network, .. } => network.config().classes,
            Self::Statistics(statistics) => statistics.classes(),
        }
    }

    /// Whether the reference shows class `index`.
    pub fn has(&self, index: usize) -> bool {
        match self {
            Self::Network { style, .. } => style.has(index),
            Self::Statistics(statistics) => statistics.has(index),
        }
    }
}

impl std::fmt::Debug for Method<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Network { .. } => "Network",
            Self::Statistics(_) => "Statistics",
        })
    }
}

/// How to restyle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Multiplies every class's strength; 0 to 1. At 0 the result is the content.
    pub strength: f32,
    /// How far a change of the classes that were not asked for comes through; 0 to 1. The generator moves them too: light
    /// and cast colours. Above 0, a job without a mask may change the whole picture.
    pub coupling: f32,
    /// With target labels, how far the layout goes from the labels' to the target's; 0 to 1.
    pub morph: f32,
    /// Most bytes that the call may allocate, beside the caller's buffers and the model. Needs more: refused before it begins.
    pub memory_limit: Option<u64>,
    /// Whether to find out how far the result can be trusted. It changes nothing in the result, and takes next to no time. The
    /// statistics method has no such figures.
    pub confidence: bool,
    /// Whether a stop is heeded while the output is being written too, which leaves it half-written: for one that is thrown
    /// away then.
    pub stop_while_writing: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            strength: 1.0,
            coupling: 0.0,
            morph: 1.0,
            memory_limit: None,
            confidence: false,
            stop_while_writing: false,
        }
    }
}

/// What to restyle, and how.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    pub content: View<'a>,
    /// The content's classes, of its size.
    pub labels: &'a LabelMap,
    /// How the result is to be laid out instead, of the content's size; for the network method alone.
    pub target_labels: Option<&'a LabelMap>,
    /// Where the result may differ from the content, of its size: gray, 0 keeps and 1 changes. Its transfer means nothing.
    /// Without one: the pixels of the asked classes.
    pub mask: Option<View<'a>>,
    pub method: Method<'a>,
    /// Classes to restyle, each with its strength in [0, 1]: 0 is its own style, 1 the reference's. None: all, at 1.
    pub classes: &'a [(usize, f32)],
    /// The content's own style, from the report of an earlier job with the same model: where the network sees the very same
    /// pixels and labels now, it does not encode and draw them again, and the result has the same bits. Where it does not, this
    /// style is not looked at.
    pub content_style: Option<&'a Style>,
    pub options: Options,
}

impl<'a> Job<'a> {
    /// The whole content in the reference's look.
    pub fn new(content: impl Into<View<'a>>, labels: &'a LabelMap, method: Method<'a>) -> Self {
        Self {
            content: content.into(),
            labels,
            target_labels: None,
            mask: None,
            method,
            classes: &[],
            content_style: None,
            options: Options::default(),
        }
    }
}

/// What a result does not show by itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Classes to restyle that the reference lacks: they kept their own style. Those that target labels alone show were drawn
    /// without one.
    pub missing: Vec<usize>,
    /// Classes asked for by name that neither label map has.
    pub absent: Vec<usize>,
    /// Classes to restyle with too few pixels for the network to see any: they were left as they are.
    pub unseen: Vec<usize>,
    /// The square of the content that was worked on: column and row of its upper left pixel, and its side. It may reach
    /// beyond the content. None when there was nothing to do.
    pub window: Option<(i64, i64, usize)>,
    /// The result's pixels outside the mask, compared with the content's.
    pub untouched: Untouched,
    /// How far the result can be trusted, when it was asked for and the network had something to restyle.
    pub confidence: Option<Confidence>,
    /// The content's own style, when the network had something to do.
    pub content_style: Option<ContentStyle>,
}

/// The style of what a job saw of its content, for [`Job::content_style`] of the next one.
#[derive(Clone, Debug)]
pub struct ContentStyle {
    /// It has no statistics.
    pub style: Style,
    /// Whether it is the job's own, kept from before, so that nothing of the content was encoded.
    pub kept: bool,
}

impl PartialEq for ContentStyle {
    fn eq(&self, other: &Self) -> bool {
        self.kept == other.kept && self.style.is_of_same_content(&other.style)
    }
}

impl Report {
    /// What a person should know before using the result, in sentences: what was left as it is and why, and where the
    /// network is unsure. `classes` are the model's.
    pub fn advice(&self, classes: &[Class]) -> Vec<String> {
        let mut advice = Vec::new();
        let mut say = |what: &str, indices: &[usize]| {
            let name = |&i: &usize| classes.get(i).map_or_else(|| i.to_string(), |c| c.name.clone());
            if !indices.is_empty() {
                advice.push(format!("{what}: {}", indices.iter().map(name).collect::<Vec<_>>().join(", ")));
            }
        };
        say("not in the reference's look, as it lacks them", &self.missing);
        say("not restyled, as no label map has them", &self.absent);
        say("left as they are, as too few of their pixels are seen", &self.unseen);
        match &self.confidence {
            Some(c) if c.is_doubtful() => advice.push(
                "the network does not know pictures like this one, or like the reference, well: look at the result closely, or \
                 use the statistics method"
                    .into(),
            ),
            Some(c) => say("less sure than the rest, look at these classes closely", &c.doubtful_classes()),
            None => {}
        }
        if self.untouched.differing > 0 {
            advice.push(format!(
                "{} pixels outside the mask came out changed: this is a defect of ca2sis, or another program wrote to the \
                 pictures meanwhile",
                self.untouched.differing
            ));
        }
        advice
    }
}

/// Bytes that [`restyle`] allocates at most for `job`, beside the caller's buffers and the model: an estimate from above.
pub fn plan(job: &Job) -> u64 {
    plan_on(job, rayon::current_num_threads())
}

/// As [`plan`], for work on so many threads. To ask rayon for their number would start its own on a thread that has none.
pub(crate) fn plan_on(job: &Job, threads: usize) -> u64 {
    let (width, height) = (job.content.width().max(job.labels.width()), job.content.height());
    let mut needed = composite::bytes(width, height, threads);
    match job.method {
        Method::Network { network, .. } => {
            let config = network.config();
            needed += network_bytes(config) + sampling_bytes(width, height, config.resolution, threads);
        }
        Method::Statistics(_) => {
            needed += (4 << 20) + sampling_bytes(width, height, statistics::SIDE, threads)
        }
    }
    if job.target_labels.is_some() {
        needed +=
            (shape::SIDE * shape::SIDE * 160) as u64 + sampling_bytes(width, height, shape::SIDE, threads);
    }
    needed
}

/// What reading a picture at `side` squared takes: its rows resampled, and one whole row for each thread.
pub(crate) fn sampling_bytes(width: usize, height: usize, side: usize, threads: usize) -> u64 {
    ((height * side + threads * width + side * side) * 12) as u64
}

/// What the statistics of a reference take.
pub(crate) fn statistics_bytes(width: usize, height: usize, threads: usize) -> u64 {
    sampling_bytes(width, height, statistics::SIDE, threads) + (4 << 20)
}

/// The attention of every stage, as it comes and as shares.
pub(crate) fn attention_bytes(c: &Config) -> u64 {
    let mut side = c.base_size;
    let stages = c.stages.iter().map(|s| {
        side *= if s.up { 2 } else { 1 };
        (side * side * c.classes * 12) as u64
    });
    stages.sum()
}

/// The tensors of a forward pass that live at one time, and the small pictures around it.
pub(crate) fn network_bytes(c: &Config) -> u64 {
    let pixels = |side: usize| (side * side) as u64;
    let encoder = pixels(c.resolution) * (4 * c.style_base * c.classes) as u64;
    let (mut side, mut generator) = (c.base_size, 0);
    for s in &c.stages {
        side *= if s.up { 2 } else { 1 };
        let inner = (s.heads * s.head_width) as u64;
        let channels = (s.channels_in + 4 * s.channels_out) as u64;
        // Queries, keys, values, their sum and the norm's; the feed-forward's hidden layer is tiled.
        let stage = pixels(side) * (channels + 6 * inner) + 4096 * 2 * inner * s.ff_factor as u64;
        generator = generator.max(stage);
    }
    (encoder.max(generator) + pixels(c.resolution) * (2 * c.classes as u64 + 64)) * 4 + (16 << 20)
}

/// Restyles a picture into `out`, which is of the content's size, channels, sample type and transfer.
///
/// Pixels where the mask is 0, and alpha, are the content's byte for byte; so is everything at strength 0. Where the mask
/// is 1 they are the result's, between in proportion. A class that only the target labels have takes the reference's
/// style whole. Infinite and undefined samples stay as they are.
///
/// `out` is written when all else is done. An error leaves it as it was; so does a stop, unless it comes during the
/// writing, which then ends as usual: see [`Options::stop_while_writing`].
///
/// # Errors
/// [`Error::InvalidArgument`] when sizes or forms differ, a class, a strength or an option is out of range, a mask is not
/// gray or not within 0 to 1, or the style is of another model; [`Error::MemoryLimit`]; [`Error::Unsupported`] when the network
/// draws values that are no numbers; [`Error::Tensor`] when the device fails; [`Error::Cancelled`].
pub fn restyle(job: &Job, out: &mut ViewMut, progress: Progress) -> Result<Report> {
    check_forms(&job.content, out)?;
    let strengths = check(job)?;
    let (change, bounds, mut report) = prepare(job, &strengths, progress.part(0.0, 0.9))?;
    progress.at(0.9)?;
    change.write(&job.content, bounds, out, job.options.stop_while_writing, progress.part(0.9, 1.0))?;
    report.untouched = change.coverage.check(&job.content, &out.as_view());
    Ok(report)
}

/// As [`restyle`], to a picture of its own, and a stop is heeded to the last. A half-float content, a copy of it as floats
/// rather, gives a picture of floats, which hold every half's value.
///
/// # Errors
/// As [`restyle`].
pub fn restyle_to_picture(job: &Job, progress: Progress) -> Result<(Picture, Report)> {
    let layout = job.content.layout();
    let n = layout.width * layout.height * layout.channels.count();
    let samples = match layout.sample {
        SampleType::U8 => Samples::U8(vec![0; n]),
        SampleType::U16 => Samples::U16(vec![0; n]),
        SampleType::F32 => Samples::F32(vec![0.0; n]),
        SampleType::F16 => {
            let floats = widened(&job.content)?;
            return restyle_to_picture(
                &Job { content: floats.view().with_transfer(layout.transfer), ..*job },
                progress,
            );
        }
    };
    let mut picture = Picture::new(layout.width, layout.height, layout.channels.count(), samples)?;
    let mut out = picture.view_mut().with_transfer(layout.transfer);
    let options = Options { stop_while_writing: true, ..job.options };
    let report = restyle(&Job { options, ..*job }, &mut out, progress)?;
    Ok((picture, report))
}

/// A half-float view's samples as floats.
fn widened(view: &View) -> Result<Picture> {
    let layout = view.layout();
    let (width, height, channels) = (layout.width, layout.height, layout.channels.count());
    let mut samples = Vec::with_capacity(width * height * channels);
    for y in 0..height {
        let row = view.row(y);
        for x in 0..width {
            let halves = row.pixel(x).as_chunks().0.iter();
            samples.extend(halves.map(|&bytes| half::f16::from_ne_bytes(bytes).to_f32()));
        }
    }
    Picture::new(width, height, channels, Samples::F32(samples))
}

/// As [`restyle_to_picture`], of a content with whatever its file said beside the pixels, in place of the job's own view, of which
/// the transfer alone counts: one with another colour profile than sRGB meets the network in sRGB, and only pixels that change go through its profile,
/// there and back. The result has the content's metadata. The memory limit counts the copies that a profile asks for too, which
/// [`plan`] does not.
///
/// # Errors
/// As [`restyle`], and [`Error::InvalidArgument`] when the colour profile cannot be followed, or is there and the transfer is
/// linear.
pub fn restyle_picture(content: &Picture, job: &Job, progress: Progress) -> Result<(Picture, Report)> {
    let transfer = job.content.layout().transfer;
    if transfer == Transfer::Linear && content.icc_profile().is_some() {
        return Err(Error::invalid(
            "a content that is to be taken as linear has a colour profile, which says what its values mean: leave one of them out",
        ));
    }
    let job = Job { content: content.view().with_transfer(transfer), ..*job };
    let strengths = check(&job)?;
    check_memory(&job, content.conversion_bytes()?)?;
    match content.in_srgb()? {
        None => {
            let (mut result, report) = restyle_to_picture(&job, progress)?;
            *result.metadata_mut() = content.metadata().clone();
            Ok((result, report))
        }
        Some(srgb) => {
            let job = Job { content: srgb.picture().view(), ..job };
            let (result, mut report) = restyle_to_picture(&job, progress)?;
            let result = srgb.back(content, &result)?;
            // Of the picture that is handed over, not of the copy.
            report.untouched = coverage(&job, &strengths).0.check(&content.view(), &result.view());
            Ok((result, report))
        }
    }
}

/// Everything that can be known to be wrong before the work; the strength of every class.
fn check(job: &Job) -> Result<Vec<f32>> {
    let Job { content, labels, target_labels, mask, method, content_style, options, .. } = job;
    let classes = method.classes();
    check_labels("the labels", labels, "the content", content, classes)?;
    if let Some(target) = target_labels {
        check_labels("the target labels", target, "the content", content, classes)?;
        if let Method::Statistics(_) = method {
            return Err(Error::invalid("statistics cannot draw new shapes: target labels need the network"));
        }
    }
    if let Some(mask) = mask {
        check_mask(mask, content)?;
    }
    if let Method::Network { network, style } = method {
        style.check(network)?;
        content_style.map_or(Ok(()), |own| own.check(network))?;
    }
    within("the coupling", options.coupling)?;
    within("the morph", options.morph)?;
    let strengths = strengths(job, classes)?;
    check_memory(job, 0)?;
    Ok(strengths)
}

/// Refuses a job that needs more memory than it may, `more` bytes beside its plan included.
fn check_memory(job: &Job, more: u64) -> Result<()> {
    let needed = plan(job) + more;
    match job.options.memory_limit {
        Some(limit) if needed > limit => Err(Error::MemoryLimit { needed, limit }),
        _ => Ok(()),
    }
}

fn check_mask(mask: &View, content: &View) -> Result<()> {
    if (mask.width(), mask.height()) != (content.width(), content.height()) {
        return Err(Error::invalid(format!(
            "the mask is {} x {} pixels, but the content is {} x {}: make them the same size",
            mask.width(),
            mask.height(),
            content.width(),
            content.height()
        )));
    }
    let layout = mask.layout();
    if layout.channels.count() != 1 {
        return Err(Error::invalid(format!(
            "a mask is gray without alpha, this one is {:?}",
            layout.channels
        )));
    }
    if layout.sample.is_float() {
        let mut row = vec![0.0; mask.width()];
        for y in 0..mask.height() {
            mask.row(y).read_gray(0, &mut row);
            if let Some(wrong) = row.iter().find(|v| !(0.0..=1.0).contains(*v)) {
                return Err(Error::invalid(format!("a mask's values are 0 to 1, not {wrong}")));
            }
        }
    }
    Ok(())
}

fn within(what: &str, value: f32) -> Result<f32> {
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err(Error::invalid(format!("{what} is {value}, not 0 to 1")))
    }
}

/// The strength of every class, the overall strength included.
fn strengths(job: &Job, classes: usize) -> Result<Vec<f32>> {
    let overall = within("the strength", job.options.strength)?;
    if job.classes.is_empty() {
        return Ok(vec![overall; classes]);
    }
    let (mut strengths, mut given) = (vec![0.0; classes], vec![false; classes]);
    for &(class, strength) in job.classes {
        let Some(place) = strengths.get_mut(class) else {
            return Err(Error::invalid(format!(
                "class {class}, but the model has classes 0 to {}",
                classes - 1
            )));
        };
        if std::mem::replace(&mut given[class], true) {
            return Err(Error::invalid(format!("class {class} is asked for twice: name each class once")));
        }
        *place = overall * within(&format!("the strength of class {class}"), strength)?;
    }
    Ok(strengths)
}

/// Where the result may differ from the content, and what holds all of that; nothing at strength 0.
fn coverage<'a>(job: &Job<'a>, strengths: &[f32]) -> (Coverage<'a>, Option<Bounds>) {
    let Job { labels, mask, options, .. } = *job;
    // At morph 0 the layout is the content's.
    let target = job.target_labels.filter(|t| options.morph > 0.0 && *t != labels).unwrap_or(labels);
    if options.strength == 0.0 {
        return (Coverage { mask: None, asked: vec![false; strengths.len()], labels, target }, None);
    }
    let everywhere = options.coupling > 0.0 && strengths.iter().any(|&s| s > 0.0);
    let asked = strengths.iter().map(|&s| s > 0.0 || everywhere).collect();
    let coverage = Coverage { mask, asked, labels, target };
    let bounds = coverage.bounds();
    (coverage, bounds)
}

/// All that is to be changed, and where.
fn prepare<'a>(
    job: &Job<'a>,
    strengths: &[f32],
    progress: Progress,
) -> Result<(Change<'a>, Option<Bounds>, Report)> {
    let Job { content, labels, .. } = *job;
    let (width, height) = (content.width(), content.height());
    let (coverage, bounds) = coverage(job, strengths);
    let (in_labels, in_target) = (labels.counts(), coverage.target.counts());
    let mut report = Report::default();
    report.absent.extend(job.classes.iter().map(|&(c, _)| c).filter(|&c| in_labels[c] + in_target[c] == 0));
    let whole = Window::whole(width, height);
    let mut change = Change {
        window: whole,
        resolution: 1,
        regions: Regions::whole(strengths.len()),
        grids: vec![None; strengths.len()],
        shape: None,
        drawn: None,
        coverage,
    };
    let Some(bounds) = bounds else { return Ok((change, None, report)) };
    match job.method {
        Method::Statistics(statistics) => {
            let side = statistics::SIDE;
            let own =
                statistics::moments(&whole.rgb(&content, side), &whole.labels(labels, side), strengths.len());
            change.resolution = side;
            for (class, own) in own.iter().enumerate() {
                match own.as_ref().map(|own| statistics.change(class, own)) {
                    _ if in_labels[class] == 0 || strengths[class] == 0.0 => {}
                    None => report.unseen.push(class),
                    Some(None) => report.missing.push(class),
                    Some(Some(affine)) => {
                        let grid = Grid::uniform(&affine.scaled(f64::from(strengths[class])));
                        change.grids[class] = Some(grid).filter(|g| !g.is_zero());
                    }
                }
            }
        }
        Method::Network { network, style } => {
            change.window = Window::around(bounds, width, height, network.config().resolution);
            change.resolution = network.config().resolution;
            through_network(job, network, style, strengths, &mut change, &mut report, progress)?;
        }
    }
    report.window = Some(change.window.place());
    Ok((change, Some(bounds), report))
}

/// Encodes, generates before and after, and fits the change between them.
fn through_network(
    job: &Job,
    network: &Network,
    style: &Style,
    strengths: &[f32],
    change: &mut Change,
    report: &mut Report,
    progress: Progress,
) -> Result<()> {
    let (config, device) = (network.config(), network.device());
    let Options { coupling, morph, confidence, .. } = job.options;
    let (labels, target) = (change.coverage.labels, change.coverage.target);
    let (window, resolution) = (change.window, config.resolution);
    let kept = job.content_style;
    let encoding = progress.part(0.0, 0.5);
    let (own, seen) = Style::of_content(network, &job.content, labels, &window, kept, encoding)?;
    let kept = kept.is_some_and(|kept| kept.is_of_same_content(&own));
    report.content_style = Some(ContentStyle { style: own.clone(), kept });
    let small_target = window.labels(target, resolution);
    let (in_labels, in_target) = (labels.counts(), target.counts());
    let mut weights = vec![0.0; config.classes];
    let mut replaced = vec![false; config.classes];
    for (class, &strength) in strengths.iter().enumerate() {
        if in_labels[class] + in_target[class] == 0 {
            continue;
        }
        if style.has(class) {
            weights[class] = if own.has(class) { strength } else { 1.0 };
            replaced[class] = strength > 0.0;
        } else if in_target[class] > 0 && strength > 0.0 {
            report.missing.push(class);
        }
    }
    let wanted = own.toward(style, &weights)?;

    let after_code = if std::ptr::eq(labels, target) {
        seen.mask_code.clone()
    } else {
        let code = network.encode_mask(&small_target.to_tensor(config.classes, device)?)?;
        let morph = f64::from(morph);
        ((&seen.mask_code * (1.0 - morph))? + (code * morph)?)?
    };
    let codes = wanted.codes().unsqueeze(0)?;
    let after = RgbImage::from_tensor(&network.generate(&after_code, &codes, progress.part(0.5, 0.95))?)?;
    progress.at(0.95)?;

    if confidence {
        report.confidence = Confidence::new(&seen, style, &small_target, strengths, window.place());
    }
    change.regions = Regions::of(&seen.labels, &window, config.classes);
    let parts = parts(&seen, &after, &small_target, &change.regions);
    change.grids = vec![None; parts.len()];
    let corrections: Vec<Correction> = (0..config.classes)
        .map(|class| {
            let parts = parts.iter().zip(change.regions.classes()).filter(|&(_, &c)| c == class);
            Correction::of(style.residual(class), own.residual(class), parts.map(|(part, _)| part))
        })
        .collect();
    for (region, (Part { mut samples, residual }, &class)) in
        parts.into_iter().zip(change.regions.classes()).enumerate()
    {
        if in_labels[class] == 0 || (!replaced[class] && coupling == 0.0) {
            continue;
        }
        if samples.is_empty() {
            // What the new layout moves or takes away is seen, and drawn.
            if replaced[class] && region == class && !own.has(class) {
                report.unseen.push(class);
            }
            continue;
        }
        progress.at(0.95 + 0.04 * region as f32 / change.regions.classes().len() as f32)?;
        if replaced[class] {
            let correction = &corrections[class];
            let moved = correction.of_region(residual).map(|v| v * weights[class]);
            for sample in &mut samples {
                let light = correction.of_light(sample.light, residual);
                sample.light = light.map(|v| v * weights[class]);
                sample.delta.iter_mut().zip(moved).for_each(|(d, m)| *d += m);
            }
        } else {
            for sample in &mut samples {
                sample.delta = sample.delta.map(|d| d * coupling);
                sample.light = [0.0; 3];
            }
        }
        change.grids[region] = Some(Grid::fit(&samples)).filter(|g| !g.is_zero());
    }
    if !std::ptr::eq(labels, target) {
        let mut after = after;
        if morph == 1.0 {
            wanted.correct(&mut after, &small_target, |_| 1.0);
        }
        change.shape = Some(join(job, change, &after, morph));
        change.drawn = Some(after);
    }
    Ok(())
}

/// The new shapes, joined to what the change makes of their surroundings.
fn join(job: &Job, change: &Change, after: &RgbImage, morph: f32) -> Shape {
    let side = shape::SIDE;
    let window = &change.window;
    let (labels, target) =
        (window.labels(change.coverage.labels, side), window.labels(change.coverage.target, side));
    let mut shown = window.rgb(&job.content, side).pixels;
    let covered = window.coverage(&change.coverage, side);
    change.preview(&mut shown, &labels, |x, y| covered[y * side + x]);
    let changed = |i: usize| labels.indices()[i] != target.indices()[i];
    // With what touches a new shape: the content there is mixed with what was before.
    let near = |i: usize| {
        let around = |v: usize| v.saturating_sub(1)..(v + 2).min(side);
        around(i / side).any(|y| around(i % side).any(|x| changed(y * side + x)))
    };
    let new: Vec<bool> = (0..side * side).map(|i| covered[i] > 0.0 && near(i)).collect();
    let between = morph < 1.0;
    let generated = if between {
        after.resized(side, side)
    } else {
        let small = window.labels(change.coverage.target, after.width);
        let scale = after.width as f64 / side as f64;
        let first = 0.5 * scale - 0.5;
        shape::enlarge(after, &small, &interior(&small), &target, [first, scale, first, scale])
    };
    Shape::join(generated, target, between, &shown, &new)
}

/// What the generator's known errors add to the change of a class.
///
/// It draws the content's class with one mean error and the reference's with another; both are known from its pictures of
/// either. Their difference is added to what it says of the change. Without this a class's colour was only as right as a
/// small network can draw it: a green tube to become red turned gray.
struct Correction {
    /// Of the class as a whole. Nothing, exactly, when the reference is the content.
    class: [f32; 3],
    own: [f32; 3],
    /// How far each region is to come to the reference's colour by itself, rather than move with its class: not at all when
    /// the class hardly changes.
    apart: f32,
}

impl Correction {
    fn of<'a>(reference: [f32; 3], own: [f32; 3], parts: impl Iterator<Item = &'a Part>) -> Self {
        /// A change of this size, squared, takes regions halfway.
        const MIDDLE: f32 = 0.1 * 0.1;
        let class: [f32; 3] = std::array::from_fn(|c| reference[c] - own[c]);
        let (mut change, mut count) = ([0.0f32; 3], 0.0f32);
        for sample in parts.flat_map(|part| &part.samples) {
            change = std::array::from_fn(|c| change[c] + sample.delta[c]);
            count += 1.0;
        }
        let size = (0..3).map(|c| (change[c] / count.max(1.0) + class[c]).powi(2)).sum::<f32>();
        Self { class, own, apart: size / (size + MIDDLE) }
    }

    /// For a region that the generator draws with the error `residual`.
    fn of_region(&self, residual: [f32; 3]) -> [f32; 3] {
        std::array::from_fn(|c| self.class[c] + self.apart * (self.own[c] - residual[c]))
    }

    /// For the light on a pixel that the generator draws with the error `error`, in a region that it draws with `residual` on the
    /// whole. Light and shade that it does not know of in the content belong half to the look that goes, half to the thing
    /// itself: on 120 pairs the result was nearer to the truth without them, but a clip whose camera moves is steadier with
    /// half of them.
    fn of_light(&self, error: [f32; 3], residual: [f32; 3]) -> [f32; 3] {
        std::array::from_fn(|c| 0.5 * self.apart * (residual[c] - error[c]))
    }
}

/// What a region's transforms are fitted to.
#[derive(Clone, Default)]
struct Part {
    /// Its pixels whose class stays.
    samples: Vec<Sample>,
    /// The mean of what the generator leaves to the content there, as [`Style::residual`] is that of a class.
    residual: [f32; 3],
}

fn parts(seen: &Seen, after: &RgbImage, target: &LabelMap, regions: &Regions) -> Vec<Part> {
    let labels = &seen.labels;
    let mut parts = vec![Part::default(); regions.classes().len()];
    let weights = interior(labels);
    for (i, (&class, &shape)) in labels.indices().iter().zip(target.indices()).enumerate() {
        if class != shape {
            continue;
        }
        let of = |image: &RgbImage| -> [f32; 3] { std::array::from_fn(|c| image.pixels[i * 3 + c]) };
        let (rgb, before, after) = (of(&seen.rgb), of(&seen.reconstruction), of(after));
        let at = [(i % labels.width()) as f32, (i / labels.width()) as f32];
        let part = &mut parts[regions.near(usize::from(class), at[0], at[1])];
        let light = std::array::from_fn(|c| rgb[c] - before[c]);
        part.residual = std::array::from_fn(|c| part.residual[c] + light[c]);
        let delta = std::array::from_fn(|c| after[c] - before[c]);
        part.samples.push(Sample { at, rgb, delta, light, weight: weights[i] });
    }
    for part in &mut parts {
        part.residual = part.residual.map(|sum| sum / part.samples.len().max(1) as f32);
    }
    parts
}

/// How far each pixel counts as one of its class: less on the class's border, where it is a mixture.
pub(crate) fn interior(labels: &LabelMap) -> Vec<f32> {
    let (width, height) = (labels.width(), labels.height());
    let at = |i: usize| {
        let (x, y, class) = (i % width, i / width, labels.indices()[i]);
        let near = |v: usize, size: usize| v.saturating_sub(1)..(v + 2).min(size);
        near(y, height).all(|y| labels.row(y)[near(x, width)].iter().all(|&c| c == class))
    };
    (0..width * height).map(|i| if at(i) { 1.0 } else { 0.05 }).collect()
}
