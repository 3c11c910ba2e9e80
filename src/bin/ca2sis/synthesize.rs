//! `ca2sis synthesize`: a picture of a label map.

use std::path::{Path, PathBuf};

use ca2sis::Result;
use ca2sis::image::LabelMap;
use ca2sis::progress::Progress;
use ca2sis::record::DigitalSource;
use ca2sis::synthesis::{Look, Synthesis};
use clap::ArgMatches;

use crate::common::{
    Hashes, Made, ModelArgs, RecordArgs, ReferenceArgs, check_output, json, names, note, say, write_result,
};
use crate::progress::Bar;
use crate::settings::Settings;

/// Make a picture of a label map in a reference's style
///
/// The picture has the label map's size, its edges where the map's are, and each class has the mean colour that it has in the
/// reference. With --plain it is the network's as it stands, its longer side the model's resolution.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    model: ModelArgs,
    /// Picture to write; its ending says the format
    #[arg(short, long)]
    output: PathBuf,
    #[command(flatten)]
    record: RecordArgs,
}

/// What a record keeps.
#[derive(clap::Args)]
struct JobArgs {
    /// Label map to make a picture of
    #[arg(long)]
    labels: PathBuf,
    #[command(flatten)]
    reference: ReferenceArgs,
    /// The network's picture as it stands
    #[arg(long)]
    plain: bool,
    /// Who holds the rights to the reference, and under what terms it is used; kept in the record
    #[arg(long, value_name = "TEXT")]
    rights: Option<String>,
}

pub fn run(args: Args, matches: &ArgMatches) -> Result<bool> {
    let Args { job: JobArgs { labels, reference, plain, rights }, model, output, record } = &args;
    reference.check()?;
    let inputs: Vec<Option<&Path>> = [Some(labels.as_path())].into_iter().chain(reference.paths()).collect();
    check_output(output, &inputs)?;
    let (model, network) = model.open()?;
    let labels = LabelMap::read(labels, model.classes())?;
    let style = reference.style(&model, &network)?;
    let bar = Bar::new("synthesize");
    let picture = Synthesis { labels: &labels, morph: None, look: Look::Style(&style), finish: !plain }
        .run(&network, Progress::new(&|done| bar.at(done)))?
        .to_picture()?;
    drop(bar);
    let present = labels.classes_present().into_iter().map(usize::from);
    let missing: Vec<usize> = present.filter(|&class| !style.has(class)).collect();
    let settings = Settings::of::<JobArgs>(matches);
    let mut options = settings.options::<JobArgs>();
    options.remove("rights");
    let made = Made {
        command: "synthesize",
        source: DigitalSource::TrainedAlgorithmicMedia,
        model: &model,
        device: network.device(),
        files: settings.files::<JobArgs>(),
        options,
        rights: rights.clone(),
        notes: vec![("missing", names(model.classes(), &missing))],
    };
    let record = write_result(picture, output, record.record, made, &mut Hashes::default())?;
    note(model.classes(), &missing, "in no style of the reference's, as it lacks them");
    if json() {
        say!("{}", serde_json::to_string(&record).expect("a record has only texts as keys"));
    }
    Ok(true)
}
