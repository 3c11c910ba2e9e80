//! `ca2sis synthesize`: the generator's picture of a label map, as it stands.

use std::path::PathBuf;

use ca2sis::Result;
use ca2sis::image::LabelMap;
use ca2sis::progress::Progress;
use ca2sis::restyle::synthesize;

use crate::common::{ModelArgs, ReferenceArgs, check_output, note};

/// Make a picture of a label map in a reference's style
///
/// The picture's longer side is the model's resolution.
#[derive(clap::Args)]
pub struct Args {
    /// Label map to make a picture of
    #[arg(long)]
    labels: PathBuf,
    #[command(flatten)]
    reference: ReferenceArgs,
    #[command(flatten)]
    model: ModelArgs,
    /// Picture to write; its ending says the format
    #[arg(short, long)]
    output: PathBuf,
}

pub fn run(args: Args) -> Result<bool> {
    let Args { labels, reference, model, output } = &args;
    let inputs = [labels, &reference.reference, &reference.reference_labels];
    check_output(output, &inputs.map(|p| Some(p.as_path())))?;
    let (model, network) = model.open()?;
    let labels = LabelMap::read(labels, model.classes())?;
    let style = reference.style(&model, &network)?;
    synthesize(&network, &labels, &style, Progress::NONE)?.to_picture()?.write(output)?;
    let present = labels.classes_present().into_iter().map(usize::from);
    let missing: Vec<usize> = present.filter(|&class| !style.has(class)).collect();
    note(model.classes(), &missing, "in no style of the reference's, as it lacks them");
    Ok(true)
}
