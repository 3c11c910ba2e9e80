//! What several commands share.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ca2sis::device::{self, Choice};
use ca2sis::image::{LabelMap, Picture, Transfer};
use ca2sis::label::{self, Labeling};
use ca2sis::model::{Class, Model};
use ca2sis::nn::{Network, Precision};
use ca2sis::progress::Progress;
use ca2sis::record::{self, DigitalSource, Input, ModelId, Output, Record};
use ca2sis::restyle::Statistics;
use ca2sis::style::Style;
use ca2sis::{Error, Result};
use candle_core::Device;

use crate::progress::Bar;

/// Prints a line on stdout. After a reader that has had enough (`head`) the work goes on, without a word.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::common::say_line(&format!($($text)*))
    };
}
pub(crate) use say;

pub fn say_line(line: &str) {
    use std::io::Write as _;
    if let Err(e) = writeln!(std::io::stdout(), "{line}")
        && e.kind() != std::io::ErrorKind::BrokenPipe
    {
        eprintln!("ca2sis: stdout: {e}");
        std::process::exit(3);
    }
}

static JSON: AtomicBool = AtomicBool::new(false);

pub fn set_json(on: bool) {
    JSON.store(on, Ordering::Relaxed);
}

/// Whether `--json` was given.
pub fn json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Says an error on stderr, with the job that it ended where there are several.
pub fn say_error(error: &Error, job: Option<&Path>) {
    if json() {
        let kind = match error {
            Error::InvalidArgument(_) => "invalid argument",
            Error::Io { .. } => "io",
            Error::Format { .. } => "format",
            Error::Model(_) => "model",
            Error::Style(_) => "style",
            Error::Unsupported(_) => "unsupported",
            Error::MemoryLimit { .. } => "memory limit",
            Error::Device(_) => "device",
            Error::Cancelled => "cancelled",
            _ => "failed",
        };
        let mut line =
            serde_json::json!({ "error": error.to_string(), "kind": kind, "code": crate::code(error) });
        if let Some(job) = job {
            line["job"] = job.display().to_string().into();
        }
        eprintln!("{line}");
    } else if let Error::Cancelled = error {
        eprintln!("ca2sis: stopped");
    } else {
        let text = error.to_string();
        match job.map(|j| j.display().to_string()) {
            Some(job) if !text.starts_with(&job) => eprintln!("ca2sis: {job}: {text}"),
            _ => eprintln!("ca2sis: {text}"),
        }
    }
}

/// Which model runs, and where.
#[derive(clap::Args, Clone)]
pub struct ModelArgs {
    /// Model file [default: the one inside ca2sis]
    #[arg(long, value_name = "FILE", env = "CA2SIS_MODEL", hide_env_values = true)]
    pub model: Option<PathBuf>,
    /// auto, cpu, cuda, cuda:N, metal or metal:N
    #[arg(long, value_name = "DEVICE", default_value_t, env = "CA2SIS_DEVICE", hide_env_values = true)]
    pub device: Choice,
    /// What the network may round factors to when it generates pictures, for speed: f32, bf16 (with AVX-512 BF16, or a GPU), f16
    /// (a GPU) or tf32 (CUDA). Codes of styles, label maps and attention maps are taken in f32 [default: bf16 where the model
    /// says that its pictures hold in it and the device gains by it, else f32]
    #[arg(long, value_name = "P", env = "CA2SIS_PRECISION", hide_env_values = true)]
    pub precision: Option<Precision>,
}

impl ModelArgs {
    pub fn open_model(&self) -> Result<Model> {
        match &self.model {
            Some(path) => Model::open(path),
            None => Model::embedded(),
        }
    }

    pub fn open(&self) -> Result<(Model, Network)> {
        let model = self.open_model()?;
        let network = self.network(&model, &open_device(self.device)?)?;
        Ok((model, network))
    }

    /// The network of `model` on `device`, in the precision that is asked for.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the device does not have it.
    pub fn network(&self, model: &Model, device: &Device) -> Result<Network> {
        let precision = self.precision.unwrap_or_else(|| model.precision(device));
        precision.check(device)?;
        Ok(model.network(device)?.with_precision(precision))
    }
}

/// Opens a device, and says on stderr where it is the CPU although there is a GPU.
pub fn open_device(choice: Choice) -> Result<Device> {
    let selected = device::select(choice)?;
    if !json() {
        for passed in selected.passed_over.iter().filter(|passed| passed.unexpected) {
            eprintln!("ca2sis: {}; it goes on with {}", passed.why, selected.info.choice);
        }
    }
    Ok(selected.device)
}

/// How much a command may allocate.
#[derive(clap::Args, Clone, Copy)]
pub struct LimitArgs {
    /// Most memory to allocate beside the pictures and the model, in bytes or with K, M or G (of 1024): 500M. What needs more is
    /// refused before it begins
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory_limit: Option<u64>,
}

impl LimitArgs {
    /// # Errors
    /// [`Error::MemoryLimit`].
    pub fn check(self, needed: u64) -> Result<()> {
        match self.memory_limit {
            Some(limit) if needed > limit => Err(Error::MemoryLimit { needed, limit }),
            _ => Ok(()),
        }
    }
}

fn size(text: &str) -> std::result::Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let power = match &*text[digits.len()..].to_ascii_uppercase() {
        "" | "B" => 0,
        "K" | "KIB" => 1,
        "M" | "MIB" => 2,
        "G" | "GIB" => 3,
        _ => return Err("write bytes, or a number with K, M or G".into()),
    };
    let number: f64 = digits.parse().map_err(|_| "write bytes, or a number with K, M or G".to_owned())?;
    let bytes = number * 1024f64.powi(power);
    if bytes >= 1.0 && bytes < 2f64.powi(63) { Ok(bytes as u64) } else { Err("no size of memory".into()) }
}

/// The look that is wanted: of pictures, or of some that were kept.
#[derive(clap::Args, Clone)]
pub struct ReferenceArgs {
    /// Picture that shows the wanted look; given several times, their looks are mixed
    #[arg(long, value_name = "PICTURE")]
    pub reference: Vec<PathBuf>,
    /// Label map of the reference, one for each in their order [default: what the model's labeler proposes, if it has one]
    #[arg(long, value_name = "LABELS", requires = "reference")]
    pub reference_labels: Vec<PathBuf>,
    /// Style file instead of a reference, several for a mix: see `ca2sis style extract`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["reference", "reference_labels"])]
    pub style: Vec<PathBuf>,
    /// Weights of several references or style files in their order, from 0 up; shares class by class among those that have the
    /// class [default: all alike]
    #[arg(long, value_delimiter = ',', value_name = "WEIGHT")]
    pub weights: Vec<f32>,
}

impl ReferenceArgs {
    pub fn is_empty(&self) -> bool {
        self.reference.is_empty() && self.style.is_empty()
    }

    /// # Errors
    /// [`Error::InvalidArgument`] when no look is given, or numbers do not fit.
    pub fn check(&self) -> Result<()> {
        let looks = self.reference.len() + self.style.len();
        if looks == 0 {
            return Err(Error::invalid(
                "no look is given: name a picture and its label map (--reference PICTURE --reference-labels LABELS), or a \
                 style file (--style FILE)",
            ));
        }
        let maps = self.reference_labels.len();
        if maps != 0 && maps != self.reference.len() {
            return Err(Error::invalid(format!(
                "{maps} --reference-labels for {} --reference: give one for each, in their order",
                self.reference.len()
            )));
        }
        if !self.weights.is_empty() && self.weights.len() != looks {
            return Err(Error::invalid(format!(
                "--weights gives {} weights for {looks} looks",
                self.weights.len()
            )));
        }
        Ok(())
    }

    pub fn paths(&self) -> Vec<Option<&Path>> {
        let all = self.reference.iter().chain(&self.reference_labels).chain(&self.style);
        all.map(|path| Some(path.as_path())).collect()
    }

    /// Whether label maps of references are to be proposed.
    pub fn needs_labeler(&self) -> bool {
        !self.reference.is_empty() && self.reference_labels.is_empty()
    }

    /// A weight a class for each look.
    fn rows(&self, classes: usize) -> Vec<Vec<f32>> {
        let looks = self.reference.len() + self.style.len();
        let weights = if self.weights.is_empty() { vec![1.0; looks] } else { self.weights.clone() };
        weights.into_iter().map(|weight| vec![weight; classes]).collect()
    }

    /// The pictures as the network sees their colours, each with its label map. Those that are proposed are noted in `proposed`.
    fn pictures<'a>(
        &'a self,
        model: &'a Model,
        network: Option<&'a Network>,
        proposed: &'a mut Proposed,
    ) -> impl Iterator<Item = Result<(&'a Path, Picture, LabelMap)>> + 'a {
        self.reference.iter().enumerate().map(move |(i, path)| {
            let picture = Picture::read(path)?;
            let named = ("--reference-labels", self.reference_labels.get(i));
            let (labels, confidence) = labels_of(path, named, &picture, Transfer::Srgb, model, network)?;
            let input = if i == 0 { "reference".to_owned() } else { format!("reference {}", i + 1) };
            proposed.extend(confidence.map(|confidence| (input, confidence)));
            Ok((path.as_path(), picture.to_srgb()?.unwrap_or(picture), labels))
        })
    }

    pub fn style(&self, model: &Model, network: &Network, limit: LimitArgs) -> Result<(Style, Proposed)> {
        self.check()?;
        let mut proposed = Proposed::new();
        let kept = self.style.iter().map(|path| Style::open(model, path)?.to_device(network.device()));
        let mut looks = kept.collect::<Result<Vec<_>>>()?;
        for entry in self.pictures(model, Some(network), &mut proposed) {
            let (path, picture, labels) = entry?;
            limit.check(extract_plan(network, &picture))?;
            let bar = Bar::new(format!("reading {}", path.display()));
            looks.push(Style::extract(network, &picture, &labels, Progress::new(&|done| bar.at(done)))?);
        }
        let rows = self.rows(model.classes().len());
        let style = match looks.len() {
            1 if self.weights.is_empty() => looks.remove(0),
            _ => Style::mix(&looks.iter().zip(&rows).map(|(l, r)| (l, &r[..])).collect::<Vec<_>>())?,
        };
        Ok((style, proposed))
    }

    /// The colours of the looks' classes. A network is needed where a label map is to be proposed.
    pub fn statistics(&self, model: &Model, network: Option<&Network>) -> Result<(Statistics, Proposed)> {
        self.check()?;
        let mut proposed = Proposed::new();
        let kept = self.style.iter().map(|path| Ok(Style::open(model, path)?.statistics().clone()));
        let mut looks = kept.collect::<Result<Vec<_>>>()?;
        for entry in self.pictures(model, network, &mut proposed) {
            let (_, picture, labels) = entry?;
            looks.push(Statistics::extract(&picture, &labels, model.classes().len())?);
        }
        let rows = self.rows(model.classes().len());
        let statistics = match looks.len() {
            1 if self.weights.is_empty() => looks.remove(0),
            _ => Statistics::mix(&looks.iter().zip(&rows).map(|(l, r)| (l, &r[..])).collect::<Vec<_>>())?,
        };
        Ok((statistics, proposed))
    }
}

/// What taking the style of a picture allocates.
pub fn extract_plan(network: &Network, picture: &Picture) -> u64 {
    Style::plan(network.config(), picture.width(), picture.height(), rayon::current_num_threads())
}

/// The confidence of each label map that the model proposed, by the input that it is of: "content", "reference", "reference 2".
pub type Proposed = BTreeMap<String, f32>;

/// The label map of the picture that was read from `path`: the one that is `named` by an option, or what the model proposes, with
/// its confidence. A proposal is said.
pub fn labels_of(
    path: &Path,
    named: (&str, Option<&PathBuf>),
    picture: &Picture,
    transfer: Transfer,
    model: &Model,
    network: Option<&Network>,
) -> Result<(LabelMap, Option<f32>)> {
    let (option, labels) = named;
    if let Some(labels) = labels {
        return Ok((LabelMap::read(labels, model.classes())?.upright_with(picture), None));
    }
    let Some(network) = network.filter(|network| network.config().labeler.is_some()) else {
        return Err(Error::invalid(format!(
            "the label map of {} is missing: name it with --labels or --reference-labels; this model has no labeler to \
             propose one",
            path.display()
        )));
    };
    let bar = Bar::new(format!("labelling {}", path.display()));
    let srgb = picture.to_srgb()?;
    let seen = srgb.as_ref().unwrap_or(picture);
    let Labeling { labels, confidence } =
        label::label(network, &seen.view().with_transfer(transfer), Progress::new(&|done| bar.at(done)))?;
    drop(bar);
    if !json() {
        let path = path.display();
        // What is no number is not fair.
        let fair = confidence >= label::FAIR;
        if fair {
            eprintln!("ca2sis: {path}: no {option}: label map proposed (confidence {confidence:.2})");
        } else {
            eprintln!(
                "ca2sis: {path}: no {option}: the label map that the model proposes may be wrong (confidence \
                 {confidence:.2}): see it with `ca2sis label`"
            );
        }
    }
    Ok((labels, Some(confidence)))
}

/// Looks that several jobs share, each taken once, and once said where its label map is proposed.
pub struct Looks<T>(HashMap<Vec<String>, (T, Proposed)>);

impl<T> Default for Looks<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Clone> Looks<T> {
    /// What `take` gives of the reference.
    pub fn get(
        &mut self,
        reference: &ReferenceArgs,
        take: impl FnOnce() -> Result<(T, Proposed)>,
    ) -> Result<(T, Proposed)> {
        let files = [&reference.reference, &reference.reference_labels, &reference.style];
        let key = files.iter().map(|paths| format!("{paths:?}")).chain([format!("{:?}", reference.weights)]);
        let key = key.collect();
        if let Some(look) = self.0.get(&key) {
            return Ok(look.clone());
        }
        let look = take()?;
        self.0.insert(key, look.clone());
        Ok(look)
    }
}

/// Refuses an output that is one of the inputs.
pub fn check_output(output: &Path, inputs: &[Option<&Path>]) -> Result<()> {
    // An output that is not there yet cannot be an input.
    let Ok(output_file) = output.canonicalize() else { return Ok(()) };
    for input in inputs.iter().flatten() {
        if input.canonicalize().is_ok_and(|input| input == output_file) {
            return Err(Error::invalid(format!("{} is an input: write to another file", output.display())));
        }
    }
    Ok(())
}

/// Makes the folder that `output` is to lie in.
pub fn make_folder_of(output: &Path) -> Result<()> {
    match output.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e)),
        None => Ok(()),
    }
}

/// A share as a number; whether it is one from 0 to 1 the work says.
pub fn share(text: &str) -> std::result::Result<f32, String> {
    text.parse().map_err(|_| "write a number from 0 to 1, such as 0.5".to_owned())
}

/// Says on stderr what a person should know of a result, with its content where there are several.
pub fn advise(advice: &[String], content: Option<&Path>) {
    let of = content.map_or(String::new(), |path| format!("{}: ", path.display()));
    if !json() {
        advice.iter().for_each(|sentence| eprintln!("ca2sis: {of}{sentence}"));
    }
}

/// Says on stderr which classes something holds for.
pub fn note(classes: &[Class], indices: &[usize], what: &str) {
    if !indices.is_empty() && !json() {
        eprintln!("ca2sis: {what}: {}", names(classes, indices).join(", "));
    }
}

pub fn names(classes: &[Class], indices: &[usize]) -> Vec<String> {
    indices.iter().filter_map(|&i| classes.get(i)).map(|c| c.name.clone()).collect()
}

/// Where records go.
#[derive(clap::Args, Clone)]
pub struct RecordArgs {
    /// Where the record of how the result was made goes: a file beside it (OUTPUT.json), into its metadata, both or neither
    #[arg(long, value_name = "WHERE", default_value = "both")]
    pub record: RecordWhere,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum RecordWhere {
    Both,
    Sidecar,
    Picture,
    None,
}

/// What a record needs to know of a job.
pub struct Made<'a> {
    pub command: &'a str,
    pub source: DigitalSource,
    pub model: &'a Model,
    pub device: &'a Device,
    pub precision: Precision,
    /// By the option that named them.
    pub files: Vec<(String, PathBuf)>,
    pub options: BTreeMap<String, Vec<String>>,
    pub proposed: Proposed,
    pub rights: Option<String>,
    pub notes: Vec<(&'static str, Vec<String>)>,
}

/// The file beside `output` that holds its record.
pub fn sidecar(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".json");
    name.into()
}

/// Writes a result with its record, as wished, and gives the record, its files named as the user named them.
pub fn write_result(
    mut result: Picture,
    output: &Path,
    place: RecordWhere,
    made: Made,
    hashes: &mut Hashes,
) -> Result<Record> {
    let mut inputs = BTreeMap::new();
    for (name, file) in made.files {
        let sha256 = hashes.of(&file)?;
        inputs.insert(name, Input { file, sha256 });
    }
    let ending = output.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    let device = device::Info::of(made.device);
    let record = Record {
        format: record::FORMAT,
        ca2sis: env!("CARGO_PKG_VERSION").into(),
        command: made.command.into(),
        digital_source_type: made.source,
        model: ModelId::of(made.model),
        device: device.choice.to_string(),
        device_name: device.name,
        precision: made.precision.to_string(),
        inputs,
        options: made.options,
        proposed_labels: (made.proposed.into_iter())
            .map(|(input, confidence)| (input, Some(confidence).filter(|c| c.is_finite())))
            .collect(),
        rights: made.rights,
        notes: made.notes.into_iter().filter(|n| !n.1.is_empty()).map(|(k, v)| (k.to_owned(), v)).collect(),
        output: Output {
            file: output.to_owned(),
            pixels: record::pixel_hash(&result),
            lossless: !matches!(ending.as_str(), "jpg" | "jpeg"),
        },
    };
    if matches!(place, RecordWhere::Both | RecordWhere::Picture) {
        record.put_into(&mut result);
    }
    // Whoever pressed Ctrl-C wants no more files.
    crate::progress::check_interrupt()?;
    result.write(output)?;
    if matches!(place, RecordWhere::Both | RecordWhere::Sidecar) {
        let path = sidecar(output);
        write_text(&path, &record.beside(&path).to_json())?;
    }
    if !record.output.lossless && !json() {
        eprintln!(
            "ca2sis: {}: JPEG keeps no pixel exactly, those outside the mask neither",
            output.display()
        );
    }
    Ok(record)
}

/// Writes a text file whole or not at all.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    let io = |e| Error::io(path, e);
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut options = tempfile::Builder::new();
    // A temporary file is its owner's alone unless told otherwise; a record is like any other file (less the umask).
    #[cfg(unix)]
    options.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = options.tempfile_in(folder).map_err(io)?;
    file.write_all(text.as_bytes()).map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|e| io(e.error))?;
    Ok(())
}

/// Hashes of files, each taken once.
#[derive(Default)]
pub struct Hashes(HashMap<PathBuf, String>);

impl Hashes {
    pub fn of(&mut self, file: &Path) -> Result<String> {
        if let Some(hash) = self.0.get(file) {
            return Ok(hash.clone());
        }
        let hash = record::file_hash(file)?;
        self.0.insert(file.to_owned(), hash.clone());
        Ok(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_memory_are_bytes_or_have_a_unit() {
        for (text, bytes) in
            [("1000", 1000), ("2K", 2048), ("1.5M", 3 << 19), ("2g", 2 << 30), ("1GiB", 1 << 30)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "-1", "0", "1T", "nan", "inf", "1e300", "5 M"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
