//! `ca2sis restyle`: the job.

use std::path::{Path, PathBuf};

use ca2sis::device;
use ca2sis::image::{LabelMap, Mask, Picture, Transfer, View};
use ca2sis::model::{Class, Model};
use ca2sis::nn::{Network, Precision};
use ca2sis::progress::Progress;
use ca2sis::record::{DigitalSource, Record};
use ca2sis::restyle::{Confidence, Job, Method, Options, Statistics, restyle_picture};
use ca2sis::style::Style;
use ca2sis::{Error, Result};
use candle_core::Device;
use clap::ArgMatches;

use crate::batch::{self, Task};
use crate::common::{
    Hashes, LimitArgs, Looks, Made, ModelArgs, RecordArgs, RecordWhere, ReferenceArgs, advise, json,
    labels_of, make_folder_of, names, open_device, say, share, write_result,
};
use crate::progress::{Bar, catch_interrupts, check_interrupt};
use crate::repeat::Repeat;
use crate::settings::Settings;

/// Restyle classes of a picture after a reference
///
/// Pictures are PNG, JPEG, TIFF or WebP; the result keeps the content's size, sample type and alpha, its colour profile, EXIF
/// and resolution. Label maps are indexed or gray PNG (values are class indices) or painted in the model's colours.
///
/// Several contents go through at once: with -o DIR/ results keep their names; in -o and in the options that name files,
/// {name} stands for each content's name without its ending and {dir} for its folder:
///
///   ca2sis restyle shots/*.tif --labels 'maps/{name}.png' --reference look.jpg --reference-labels look.png -o out/
///
/// Each result has a record of how it was made, in its metadata and beside it (OUTPUT.json), from which --from-record makes
/// it again.
#[derive(clap::Args)]
pub struct Args {
    /// Pictures to restyle
    #[arg(required_unless_present_any = ["jobs", "from_record"])]
    contents: Vec<PathBuf>,
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    model: ModelArgs,
    /// Picture to write, its ending says the format; a folder (DIR/), or a pattern with {name} and {dir}. JPEG cannot keep
    /// the pixels outside the mask exactly
    #[arg(short, long, required_unless_present = "jobs")]
    output: Option<PathBuf>,
    /// CSV file with one job a row; its first row names the columns: content, output, and options without their dashes, from
    /// labels to rights. Empty cells take the command line's. Files in it are relative to its folder
    #[arg(long, value_name = "CSV", conflicts_with = "contents")]
    jobs: Option<PathBuf>,
    /// Make the result of a record again, bit for bit on the same device: an OUTPUT.json, or a PNG with one inside
    #[arg(long, value_name = "FILE", conflicts_with_all = ["contents", "jobs", "labels", "reference", "reference_labels", "style", "weights", "mask", "target_labels", "classes", "strength", "coupling", "morph", "method", "confidence", "rights"])]
    from_record: Option<PathBuf>,
    #[command(flatten)]
    limit: LimitArgs,
    #[command(flatten)]
    record: RecordArgs,
}

/// What one job is made of: options that a row of a CSV file can give, and that a record keeps.
#[derive(clap::Args)]
pub struct JobArgs {
    /// Label map of the content [default: what the model's labeler proposes, if it has one]
    #[arg(long)]
    labels: Option<PathBuf>,
    #[command(flatten)]
    reference: ReferenceArgs,
    /// Classes or groups to restyle, each with an optional strength from 0 to 1: body,cap=0.5 [default: all]
    #[arg(long, value_delimiter = ',', value_name = "CLASS[=STRENGTH]")]
    classes: Vec<String>,
    /// Gray picture: where the result may differ from the content [default: where the classes are]
    #[arg(long)]
    mask: Option<PathBuf>,
    /// Label map of the layout that the result is to have
    #[arg(long, value_name = "LABELS")]
    target_labels: Option<PathBuf>,
    /// The content's values are proportional to light, in the primaries of sRGB, as compositing programs write them [default:
    /// encoded as its colour profile says, or by the sRGB curve]
    #[arg(long)]
    linear: bool,
    /// Strength of the whole change, from 0 to 1
    #[arg(long, default_value_t = 1.0, value_parser = share)]
    strength: f32,
    /// How much of what the new look does to classes that were not asked for comes through, from 0 to 1: light and cast
    /// colours. Above 0 and without a mask, the whole picture may change
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    coupling: f32,
    /// How far the layout goes to the target labels, from 0 to 1
    #[arg(long, default_value_t = 1.0, value_parser = share)]
    morph: f32,
    /// Where the look comes from: the network, or the colours of each class of the reference alone. For these the model is asked
    /// for its list of classes, which gives label maps and names their meaning; its network is not built
    #[arg(long, value_enum, default_value_t = How::Network)]
    method: How,
    /// Say how far the result can be trusted, and write a heat map of it beside the result (OUTPUT.confidence.png; green is
    /// far)
    #[arg(long)]
    confidence: bool,
    /// Who holds the rights to the reference, and under what terms it is used; kept in the record
    #[arg(long, value_name = "TEXT")]
    rights: Option<String>,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum How {
    Network,
    Statistics,
}

pub fn run(args: Args, matches: &ArgMatches) -> Result<bool> {
    if let Some(path) = &args.from_record {
        return again(path, &args);
    }
    let settings = Settings::of::<JobArgs>(matches);
    let tasks = match (&args.jobs, &args.output) {
        (Some(csv), output) => batch::of_csv::<JobArgs>(csv, output.as_deref(), &settings)?,
        (None, Some(output)) => batch::of_contents::<JobArgs>(&args.contents, output, &settings)?,
        (None, None) => unreachable!("clap asks for an output"),
    };
    batch::check::<JobArgs>(&tasks)?;
    let read = |task: &Task| {
        let job = task.settings.parse::<JobArgs>();
        job.and_then(|job| job.check().map(|()| job)).map_err(|e| task.mistake(e))
    };
    let jobs = tasks.iter().map(read).collect::<Result<Vec<_>>>()?;
    let doubted = tasks.iter().zip(&jobs).filter(|(_, job)| job.confidence);
    batch::check_beside(&tasks, doubted.map(|(task, _)| heat_map_of(&task.output)))?;
    catch_interrupts();
    let model = args.model.open_model()?;
    for (task, job) in tasks.iter().zip(&jobs) {
        asked(&job.classes, model.classes()).map_err(|e| task.mistake(e))?;
    }
    let mut shared = Shared::new(model, &args.model, &jobs.iter().collect::<Vec<_>>(), args.limit)?;
    let several = tasks.len() > 1;
    batch::each(&tasks, |i, task| {
        let count = several.then_some((i + 1, tasks.len()));
        shared.make(task, &jobs[i], args.record.record, count).map(|_| ())
    })
}

impl JobArgs {
    fn check(&self) -> Result<()> {
        if self.method == How::Statistics && self.confidence {
            return Err(Error::invalid("--confidence is of the network's work: statistics have none"));
        }
        if self.morph != 1.0 && self.target_labels.is_none() {
            return Err(Error::invalid(
                "--morph is how far the layout goes to --target-labels: name that label map too",
            ));
        }
        self.reference.check()
    }
}

/// What all jobs of a call have in common.
struct Shared {
    model: Model,
    device: Device,
    /// None where all jobs do without: they ask the model for its list of classes alone, and none of its weights are read.
    network: Option<Network>,
    limit: LimitArgs,
    styles: Looks<Style>,
    statistics: Looks<Statistics>,
    hashes: Hashes,
}

impl Shared {
    fn new(model: Model, args: &ModelArgs, jobs: &[&JobArgs], limit: LimitArgs) -> Result<Self> {
        let needs_network = |job: &&JobArgs| {
            job.method == How::Network || job.labels.is_none() || job.reference.needs_labeler()
        };
        let device = match jobs.iter().any(needs_network) {
            true => Some(open_device(args.device)?),
            false => None,
        };
        let network = device.as_ref().map(|device| args.network(&model, device)).transpose()?;
        let device = device.unwrap_or(Device::Cpu);
        let (styles, statistics) = (Looks::default(), Looks::default());
        Ok(Self { model, device, network, limit, styles, statistics, hashes: Hashes::default() })
    }

    /// Does one job and says its record where `--json` asks for it.
    fn make(
        &mut self,
        task: &Task,
        job: &JobArgs,
        place: RecordWhere,
        count: Option<(usize, usize)>,
    ) -> Result<Record> {
        check_interrupt()?;
        let Self { model, device, network, limit, styles, statistics: colours, hashes } = self;
        let network = network.as_ref();
        let Task { content: content_path, output, settings, row: _ } = task;
        let classes = asked(&job.classes, model.classes())?;
        let content = Picture::read(content_path)?;
        content.check_writable(output)?;
        let read_labels = |p: &PathBuf| -> Result<LabelMap> {
            Ok(LabelMap::read(p, model.classes())?.upright_with(&content))
        };
        let transfer = if job.linear { Transfer::Linear } else { Transfer::Srgb };
        let named = ("--labels", job.labels.as_ref());
        let (labels, confidence) = labels_of(content_path, named, &content, transfer, model, network)?;
        let target_labels = job.target_labels.as_ref().map(read_labels).transpose()?;
        let mask = job.mask.as_ref().map(Mask::read).transpose()?.map(|m| m.upright_with(&content));
        let (style, statistics, mut proposed);
        let (method, source, precision) = match job.method {
            How::Network => {
                let network = network.expect("built for such a job");
                let take = || job.reference.style(model, network, *limit);
                (style, proposed) = styles.get(&job.reference, take)?;
                let method = Method::Network { network, style: &style };
                (method, DigitalSource::CompositeWithTrainedAlgorithmicMedia, network.precision())
            }
            How::Statistics => {
                let take = || job.reference.statistics(model, network);
                (statistics, proposed) = colours.get(&job.reference, take)?;
                (Method::Statistics(&statistics), DigitalSource::AlgorithmicallyEnhanced, Precision::F32)
            }
        };
        proposed.extend(confidence.map(|confidence| ("content".to_owned(), confidence)));
        let work = Job {
            content: content.view().with_transfer(transfer),
            target_labels: target_labels.as_ref(),
            mask: mask.as_ref().map(View::from),
            classes: &classes,
            options: Options {
                strength: job.strength,
                coupling: job.coupling,
                morph: job.morph,
                confidence: job.confidence,
                memory_limit: limit.memory_limit,
                ..Options::default()
            },
            ..Job::new(&content, &labels, method)
        };
        let name = content_path.file_name().unwrap_or_default().to_string_lossy();
        let bar = Bar::new(count.map_or(name.to_string(), |(i, n)| format!("{i}/{n} {name}")));
        let (result, report) = restyle_picture(&content, &work, Progress::new(&|done| bar.at(done)))?;
        drop(bar);
        if report.untouched.differing > 0 {
            return Err(Error::invalid(format!(
                "{} pixels outside the mask came out changed, so nothing was written: this is a defect of ca2sis",
                report.untouched.differing
            )));
        }

        let mut files = settings.files::<JobArgs>();
        files.push(("content".into(), content_path.clone()));
        let mut options = settings.options::<JobArgs>();
        options.remove("rights");
        let made = Made {
            command: "restyle",
            source,
            model,
            device,
            precision,
            files,
            options,
            proposed,
            rights: job.rights.clone(),
            notes: vec![
                ("missing", names(model.classes(), &report.missing)),
                ("absent", names(model.classes(), &report.absent)),
                ("unseen", names(model.classes(), &report.unseen)),
            ],
        };
        make_folder_of(output)?;
        let heat_map = match &report.confidence {
            Some(figures) => Some((figures, figures.heat_map(content.width(), content.height())?)),
            None => None,
        };
        let record = write_result(result, output, place, made, hashes)?;
        if let Some((figures, heat_map)) = heat_map {
            heat_map.write(heat_map_of(output))?;
            if !json() {
                let of = count.map_or(String::new(), |_| format!("{}: ", content_path.display()));
                let (figure, doubtful) = (figures.overall, Confidence::DOUBTFUL);
                say!("{of}confidence {figure:.2} of 1 (below {doubtful} a result is doubtful)");
            }
        }
        let mut advice = report.advice(model.classes());
        if let (Some(path), Some(true)) = (&job.mask, mask.as_ref().map(Mask::is_black)) {
            advice.push(format!("{} is black all over, so that nothing is changed", path.display()));
        }
        advise(&advice, count.map(|_| content_path.as_path()));
        if json() {
            say!("{}", serde_json::to_string(&record).expect("a record has only texts as keys"));
        }
        Ok(record)
    }
}

/// Where `--confidence` writes its picture.
fn heat_map_of(output: &Path) -> PathBuf {
    output.with_extension("confidence.png")
}

/// `--from-record`.
fn again(path: &Path, args: &Args) -> Result<bool> {
    let mut repeat = Repeat::read(path, "restyle")?;
    let output = args.output.clone().expect("clap asks for an output");
    let Some(content) = repeat.content.take() else {
        return Err(Error::format(path, "a record without a content"));
    };
    let settings = repeat.settings.clone();
    let job: JobArgs = settings.parse()?;
    job.check()?;
    let task = Task { content, output, settings, row: None };
    batch::check::<JobArgs>(std::slice::from_ref(&task))?;
    repeat.check_output(&task.output)?;
    let (model, model_args) = repeat.open_model(&args.model)?;
    catch_interrupts();
    let mut shared = Shared::new(model, &model_args, &[&job], args.limit)?;
    shared.hashes = std::mem::take(&mut repeat.hashes);
    let made = shared.make(&task, &job, args.record.record, None)?;
    Ok(repeat.compare(&made, &device::Info::of(&shared.device), &task.output))
}

/// Reads `--classes`: names of classes or of groups, each with a strength where one is given.
fn asked(items: &[String], classes: &[Class]) -> Result<Vec<(usize, f32)>> {
    let mut asked: Vec<(usize, f32)> = Vec::new();
    for item in items {
        let (name, strength) = match item.split_once('=') {
            None => (item.trim(), 1.0),
            Some((name, strength)) => match strength.trim().parse::<f32>() {
                Ok(value) if (0.0..=1.0).contains(&value) => (name.trim(), value),
                _ => {
                    return Err(Error::invalid(format!(
                        "--classes {item}: the strength is not a number from 0 to 1"
                    )));
                }
            },
        };
        let indices = named("--classes", name, classes)?;
        for index in indices {
            // A later item overrides: "upper body=0.5,jacket".
            asked.retain(|&(i, _)| i != index);
            asked.push((index, strength));
        }
    }
    Ok(asked)
}

/// The class of this name, or all of this group.
pub fn named(option: &str, name: &str, classes: &[Class]) -> Result<Vec<usize>> {
    let mut indices: Vec<usize> = (0..classes.len()).filter(|&i| classes[i].name == name).collect();
    if indices.is_empty() {
        indices = (0..classes.len()).filter(|&i| classes[i].groups.iter().any(|g| g == name)).collect();
    }
    if indices.is_empty() {
        return Err(Error::invalid(format!("{option}: {}", unknown(name, classes))));
    }
    Ok(indices)
}

fn unknown(name: &str, classes: &[Class]) -> String {
    let mut names: Vec<&str> = classes.iter().map(|c| c.name.as_str()).collect();
    for group in classes.iter().flat_map(|c| &c.groups) {
        if !names.contains(&group.as_str()) {
            names.push(group);
        }
    }
    let near =
        names.iter().map(|n| (edits(name, n), n)).min().filter(|&(edits, n)| edits * 2 <= n.chars().count());
    let hint = near.map_or(String::new(), |(_, n)| format!(" (did you mean {n}?)"));
    format!("the model has no class {name:?}{hint}; it has {}", names.join(", "))
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes() -> Vec<Class> {
        let class = |index, name: &str, group: &str| Class {
            index,
            name: name.into(),
            color: [index as u8; 3],
            groups: vec![group.into()],
        };
        vec![class(0, "backdrop", "scene"), class(1, "body", "product"), class(2, "cap", "product")]
    }

    fn read(list: &str) -> Result<Vec<(usize, f32)>> {
        asked(&list.split(',').map(String::from).collect::<Vec<_>>(), &classes())
    }

    #[test]
    fn names_strengths_and_groups() {
        assert_eq!(read("body,cap=0.5").unwrap(), [(1, 1.0), (2, 0.5)]);
        assert_eq!(read("product=0.25").unwrap(), [(1, 0.25), (2, 0.25)]);
        assert_eq!(read("product=0.25, body").unwrap(), [(2, 0.25), (1, 1.0)]);
    }

    #[test]
    fn unknown_names_are_answered_with_the_nearest_and_all() {
        let error = read("boddy").unwrap_err().to_string();
        assert!(
            error.contains("did you mean body?") && error.contains("backdrop, body, cap, scene"),
            "{error}"
        );
        let error = read("zebra").unwrap_err().to_string();
        assert!(!error.contains("did you mean"), "{error}");
    }

    #[test]
    fn strengths_outside_0_to_1_are_refused() {
        for list in ["body=", "body=2", "body=-0.1", "body=nan", "body=x", "body=0.5=1"] {
            assert!(read(list).is_err(), "{list}");
        }
    }

    #[test]
    fn edits_count_insertions_deletions_and_changes() {
        assert_eq!((edits("", "cap"), edits("cap", "cap"), edits("kitten", "sitting")), (3, 0, 3));
    }
}
