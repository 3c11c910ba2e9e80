//! `--from-record`: the same inputs by their hashes, the same model, the same options; whether the same pixels came out.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ca2sis::device::{self, Choice};
use ca2sis::model::Model;
use ca2sis::record::{ModelId, Record};
use ca2sis::{Error, Result};

use crate::common::{Hashes, ModelArgs, check_output, sidecar};
use crate::settings::Settings;

/// What a record says of its job, its inputs found and unchanged.
pub struct Repeat {
    path: PathBuf,
    record: Record,
    pub content: Option<PathBuf>,
    pub settings: Settings,
    pub hashes: Hashes,
}

impl Repeat {
    /// Reads the record of a job of `command`.
    pub fn read(path: &Path, command: &str) -> Result<Self> {
        let record = Record::read(path)?;
        let refuse = |what: String| Err(Error::format(path, what));
        if record.command != command {
            return refuse(format!("a record of `{}`, not of `{command}`", record.command));
        }
        let mut hashes = Hashes::default();
        let mut content = None;
        // The first is "reference", further ones "reference 2" and on.
        let mut files: BTreeMap<&str, BTreeMap<usize, OsString>> = BTreeMap::new();
        for (name, input) in &record.inputs {
            let file = Record::resolve(path, &input.file);
            let hash = hashes
                .of(&file)
                .map_err(|e| Error::format(path, format!("the {name} that it was made from: {e}")))?;
            if hash != input.sha256 {
                return refuse(format!(
                    "{} is not the {name} that it was made from: its SHA-256 is {hash}, the record's {}",
                    file.display(),
                    input.sha256
                ));
            }
            if name == "content" {
                content = Some(file);
                continue;
            }
            let (option, number) = match name.split_once(' ') {
                None => (name.as_str(), 1),
                Some((option, number)) => match number.parse() {
                    Ok(number) => (option, number),
                    Err(_) => return refuse(format!("an input is named {name:?}, which is no option's")),
                },
            };
            files.entry(option).or_default().insert(number, file.into());
        }
        let files =
            files.into_iter().map(|(option, files)| (option.to_owned(), files.into_values().collect()));
        let mut settings = Settings(files.collect());
        for (name, values) in &record.options {
            settings.0.insert(name.clone(), values.iter().map(OsString::from).collect());
        }
        if let Some(rights) = &record.rights {
            settings.0.insert("rights".into(), vec![rights.into()]);
        }
        Ok(Self { path: path.to_owned(), record, content, settings, hashes })
    }

    /// Opens the record's model, on the record's device and in its precision where `args` name none; gives the arguments that
    /// do so.
    pub fn open_model(&self, args: &ModelArgs) -> Result<(Model, ModelArgs)> {
        let mut args = args.clone();
        if args.device == Choice::Auto {
            args.device = self.record.device.parse()?;
        }
        if args.precision.is_none() {
            args.precision = Some(self.record.precision.parse()?);
        }
        let model = args.open_model()?;
        let (id, wanted) = (ModelId::of(&model), &self.record.model);
        if id.sha256 == wanted.sha256 {
            return Ok((model, args));
        }
        Err(Error::format(
            &self.path,
            format!(
                "made by model {} {} with SHA-256 {}, but this is {} {} with {}: name the right one with --model",
                wanted.name, wanted.version, wanted.sha256, id.name, id.version, id.sha256
            ),
        ))
    }

    /// Refuses to write over the record itself, or beside a picture that has it.
    pub fn check_output(&self, output: &Path) -> Result<()> {
        let record = [Some(self.path.as_path())];
        check_output(output, &record)?;
        check_output(&sidecar(output), &record)
    }

    /// Whether the same pixels came out; says so and why where they did not.
    pub fn compare(&self, made: &Record, here: &device::Info, output: &Path) -> bool {
        let record = &self.record;
        if made.output.pixels == record.output.pixels {
            return true;
        }
        let mut reasons = Vec::new();
        let (device, name) = (here.choice.to_string(), &here.name);
        if (&device, name) != (&record.device, &record.device_name) {
            reasons.push(format!(
                "it was made on {} ({}), this is {device} ({name})",
                record.device, record.device_name
            ));
        }
        if record.precision != made.precision {
            reasons.push(format!("it was made in {}, this is in {}", record.precision, made.precision));
        }
        if record.ca2sis != made.ca2sis {
            reasons.push(format!("it was made by ca2sis {}, this is {}", record.ca2sis, made.ca2sis));
        }
        let reason = if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join("; ")) };
        eprintln!("ca2sis: {}: the pixels are not those of the record{reason}", output.display());
        false
    }
}
