//! `ca2sis synthesize`: a picture of a label map.

use std::path::{Path, PathBuf};

use ca2sis::image::LabelMap;
use ca2sis::progress::Progress;
use ca2sis::record::{DigitalSource, Record};
use ca2sis::synthesis::{Look, Synthesis};
use ca2sis::{Error, Result, device};
use clap::ArgMatches;

use crate::common::{
    Hashes, LimitArgs, Made, ModelArgs, RecordArgs, ReferenceArgs, check_output, json, make_folder_of, names,
    note, say, share, write_result,
};
use crate::progress::Bar;
use crate::repeat::Repeat;
use crate::settings::Settings;

/// Make a picture of a label map in a reference's style, or out of noise
///
/// The picture has the label map's size, its edges where the map's are, and each class comes nearer to the mean colour that it
/// has in the reference. With --plain it is the network's as it stands, its longer side the model's resolution.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    limit: LimitArgs,
    /// Picture to write; its ending says the format
    #[arg(short, long)]
    output: PathBuf,
    /// Make the picture of a record again, bit for bit on the same device: an OUTPUT.json, or a PNG with one inside
    #[arg(long, value_name = "FILE", conflicts_with_all = ["labels", "target_labels", "reference", "reference_labels", "style", "weights", "seed", "morph", "plain", "rights"])]
    from_record: Option<PathBuf>,
    #[command(flatten)]
    record: RecordArgs,
}

/// What a record keeps.
#[derive(clap::Args)]
struct JobArgs {
    /// Label map to make a picture of
    #[arg(long)]
    labels: Option<PathBuf>,
    #[command(flatten)]
    reference: ReferenceArgs,
    /// Instead of a reference, for a model with a noise mapping: any number, each of which is another look
    #[arg(long, value_name = "N", conflicts_with_all = ["reference", "style"])]
    seed: Option<u64>,
    /// Label map of another layout of the same size, to move the shapes to
    #[arg(long, value_name = "LABELS")]
    target_labels: Option<PathBuf>,
    /// How far the shapes have moved to the target labels, from 0 to 1
    #[arg(long, default_value_t = 1.0, value_parser = share)]
    morph: f32,
    /// The network's picture as it stands
    #[arg(long)]
    plain: bool,
    /// Who holds the rights to the reference, and under what terms it is used; kept in the record
    #[arg(long, value_name = "TEXT")]
    rights: Option<String>,
}

pub fn run(args: Args, matches: &ArgMatches) -> Result<bool> {
    let Some(path) = &args.from_record else {
        make(&args, &args.model, &args.job, Settings::of::<JobArgs>(matches), Hashes::default())?;
        return Ok(true);
    };
    let mut repeat = Repeat::read(path, "synthesize")?;
    repeat.check_output(&args.output)?;
    let job: JobArgs = repeat.settings.parse()?;
    let (_, model) = repeat.open_model(&args.model)?;
    let (settings, hashes) = (repeat.settings.clone(), std::mem::take(&mut repeat.hashes));
    let (record, device) = make(&args, &model, &job, settings, hashes)?;
    Ok(repeat.compare(&record, &device, &args.output))
}

fn make(
    args: &Args,
    model: &ModelArgs,
    job: &JobArgs,
    settings: Settings,
    mut hashes: Hashes,
) -> Result<(Record, device::Info)> {
    let JobArgs { labels, reference, seed, target_labels, morph, plain, rights } = job;
    let Some(labels) = labels else {
        return Err(Error::invalid("the label map is missing: name it with --labels"));
    };
    if *morph != 1.0 && target_labels.is_none() {
        return Err(Error::invalid(
            "--morph is how far the shapes have moved to --target-labels: name that label map too",
        ));
    }
    if seed.is_none() {
        reference.check()?;
    }
    let maps = [Some(labels.as_path()), target_labels.as_deref()];
    check_output(&args.output, &maps.into_iter().chain(reference.paths()).collect::<Vec<Option<&Path>>>())?;
    let (model, network) = model.open()?;
    let labels = LabelMap::read(labels, model.classes())?;
    let target = target_labels.as_ref().map(|path| LabelMap::read(path, model.classes())).transpose()?;
    let (style, proposed) = match seed {
        Some(_) => Default::default(),
        None => {
            let (style, proposed) = reference.style(&model, &network, args.limit)?;
            (Some(style), proposed)
        }
    };
    let look = match (&style, seed) {
        (Some(style), _) => Look::Style(style),
        (None, seed) => Look::Noise(seed.unwrap_or_default()),
    };
    let work = Synthesis {
        labels: &labels,
        morph: target.as_ref().map(|target| (target, *morph)),
        look,
        finish: !plain,
    };
    let size = (!plain).then(|| (labels.width(), labels.height()));
    args.limit.check(Synthesis::plan(network.config(), size))?;
    let bar = Bar::new("synthesize");
    let picture = work.run(&network, Progress::new(&|done| bar.at(done)))?.to_picture()?;
    drop(bar);
    let mut present = labels.classes_present();
    present.extend(target.iter().flat_map(LabelMap::classes_present));
    present.sort_unstable();
    present.dedup();
    let lacks = |class: &usize| style.as_ref().is_some_and(|style| !style.has(*class));
    let missing: Vec<usize> = present.into_iter().map(usize::from).filter(lacks).collect();
    let mut options = settings.options::<JobArgs>();
    options.remove("rights");
    let made = Made {
        command: "synthesize",
        source: DigitalSource::TrainedAlgorithmicMedia,
        model: &model,
        device: network.device(),
        precision: network.precision(),
        files: settings.files::<JobArgs>(),
        options,
        proposed,
        rights: rights.clone(),
        notes: vec![("missing", names(model.classes(), &missing))],
    };
    make_folder_of(&args.output)?;
    let record = write_result(picture, &args.output, args.record.record, made, &mut hashes)?;
    note(model.classes(), &missing, "in no style of the reference's, as it lacks them");
    if json() {
        say!("{}", serde_json::to_string(&record).expect("a record has only texts as keys"));
    }
    Ok((record, device::Info::of(network.device())))
}
