//! What several commands share.

use std::path::{Path, PathBuf};

use ca2sis::device::{self, Choice};
use ca2sis::image::{LabelMap, Picture};
use ca2sis::model::{Class, Model};
use ca2sis::nn::Network;
use ca2sis::progress::Progress;
use ca2sis::style::Style;
use ca2sis::{Error, Result};

/// Which model runs, and where.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// Model file [default: the one inside ca2sis]
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// auto, cpu, cuda, cuda:N, metal or metal:N
    #[arg(long, value_name = "DEVICE", default_value_t)]
    pub device: Choice,
}

impl ModelArgs {
    pub fn open(&self) -> Result<(Model, Network)> {
        let model = match &self.model {
            Some(path) => Model::open(path)?,
            None => Model::embedded()?,
        };
        let network = model.network(&device::open(self.device)?)?;
        Ok((model, network))
    }
}

/// The picture whose look is wanted.
#[derive(clap::Args)]
pub struct ReferenceArgs {
    /// Picture that shows the wanted look
    #[arg(long, value_name = "PICTURE")]
    pub reference: PathBuf,
    /// Label map of the reference
    #[arg(long, value_name = "LABELS")]
    pub reference_labels: PathBuf,
}

impl ReferenceArgs {
    pub fn style(&self, model: &Model, network: &Network) -> Result<Style> {
        let picture = Picture::read(&self.reference)?;
        let labels = LabelMap::read(&self.reference_labels, model.classes())?;
        Style::extract(network, &picture, &labels, Progress::NONE)
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
    if !indices.is_empty() {
        let names: Vec<_> = indices.iter().map(|&i| classes[i].name.as_str()).collect();
        eprintln!("ca2sis: {what}: {}", names.join(", "));
    }
}
