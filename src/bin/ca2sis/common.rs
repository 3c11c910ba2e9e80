//! What several commands share.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ca2sis::device::{self, Choice};
use ca2sis::image::{LabelMap, Picture};
use ca2sis::model::{Class, Model};
use ca2sis::nn::Network;
use ca2sis::progress::Progress;
use ca2sis::record::{self, DigitalSource, Input, ModelId, Output, Record};
use ca2sis::restyle::Statistics;
use ca2sis::style::Style;
use ca2sis::{Error, Result};
use candle_core::Device;

use crate::progress::Bar;

/// Prints a line on stdout. A reader that has had enough (`head`) ends the command quietly.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::common::say_line(&format!($($text)*))
    };
}
pub(crate) use say;

pub fn say_line(line: &str) {
    use std::io::Write as _;
    if let Err(e) = writeln!(std::io::stdout(), "{line}") {
        if e.kind() != std::io::ErrorKind::BrokenPipe {
            eprintln!("ca2sis: stdout: {e}");
            std::process::exit(3);
        }
        std::process::exit(0);
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
    #[arg(long, value_name = "DEVICE", default_value_t)]
    pub device: Choice,
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
        let network = model.network(&device::open(self.device)?)?;
        Ok((model, network))
    }
}

/// The look that is wanted: a picture's, or one that was kept.
#[derive(clap::Args, Clone)]
pub struct ReferenceArgs {
    /// Picture that shows the wanted look
    #[arg(long, value_name = "PICTURE", requires = "reference_labels")]
    pub reference: Option<PathBuf>,
    /// Label map of the reference
    #[arg(long, value_name = "LABELS", requires = "reference")]
    pub reference_labels: Option<PathBuf>,
    /// Style file instead of a reference: see `ca2sis style extract`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["reference", "reference_labels"])]
    pub style: Option<PathBuf>,
}

impl ReferenceArgs {
    /// # Errors
    /// [`Error::InvalidArgument`] when no look is given.
    pub fn check(&self) -> Result<()> {
        match self {
            Self { style: Some(_), .. } | Self { reference: Some(_), reference_labels: Some(_), .. } => {
                Ok(())
            }
            _ => Err(Error::invalid(
                "no look is given: name a picture and its label map (--reference PICTURE --reference-labels LABELS), or a \
                 style file (--style FILE)",
            )),
        }
    }

    pub fn paths(&self) -> [Option<&Path>; 3] {
        [self.reference.as_deref(), self.reference_labels.as_deref(), self.style.as_deref()]
    }

    pub fn style(&self, model: &Model, network: &Network) -> Result<Style> {
        self.check()?;
        if let Some(style) = &self.style {
            return Style::open(model, style)?.to_device(network.device());
        }
        let (Some(reference), Some(labels)) = (&self.reference, &self.reference_labels) else {
            unreachable!("checked");
        };
        let picture = Picture::read(reference)?;
        let labels = LabelMap::read(labels, model.classes())?.upright_with(&picture);
        let bar = Bar::new(format!("reading {}", reference.display()));
        let picture = picture.to_srgb()?.unwrap_or(picture);
        Style::extract(network, &picture, &labels, Progress::new(&|done| bar.at(done)))
    }
}

impl ReferenceArgs {
    /// The colours of the reference's classes.
    pub fn statistics(&self, model: &Model) -> Result<Statistics> {
        self.check()?;
        if let Some(style) = &self.style {
            return Ok(Style::open(model, style)?.statistics().clone());
        }
        let (Some(reference), Some(labels)) = (&self.reference, &self.reference_labels) else {
            unreachable!("checked");
        };
        let picture = Picture::read(reference)?;
        let labels = LabelMap::read(labels, model.classes())?.upright_with(&picture);
        let picture = picture.to_srgb()?.unwrap_or(picture);
        Statistics::extract(&picture, &labels, model.classes().len())
    }
}

/// Styles that several jobs share, each extracted once.
#[derive(Default)]
pub struct Styles(HashMap<[Option<PathBuf>; 3], Style>);

impl Styles {
    pub fn get(&mut self, reference: &ReferenceArgs, model: &Model, network: &Network) -> Result<Style> {
        let key = reference.paths().map(|p| p.map(Path::to_owned));
        if let Some(style) = self.0.get(&key) {
            return Ok(style.clone());
        }
        let style = reference.style(model, network)?;
        self.0.insert(key, style.clone());
        Ok(style)
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

/// Says on stderr which classes the reference lacks, or which are nowhere to be restyled.
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
    /// By the option that named them.
    pub files: Vec<(String, PathBuf)>,
    pub options: std::collections::BTreeMap<String, Vec<String>>,
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
    let mut inputs = std::collections::BTreeMap::new();
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
        inputs,
        options: made.options,
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
