//! `ca2sis train`: a model file from pictures and label maps.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ca2sis::device::Choice;
use ca2sis::model::{Model, classes_from_json};
use ca2sis::nn::{Config, Precision};
use ca2sis::train::{self, Description, Ending, Event, MaskInit, Part, Recipe, RunDir, RunOptions, preset};
use ca2sis::{Error, Result};
use indicatif::{ProgressBar, ProgressStyle};

use crate::common::{json, open_device, say};

/// Train a model, or go on with a run.
///
/// The run's folder holds its options, its state, metrics.jsonl, sheets of held-out pictures, and model.safetensors, the model of
/// the last save, which is usable at any time. With --hold-out there is best.safetensors too, the model of the best figure on
/// held-out pairs (without --pairs, and for a labeler, pictures), which is not always the last one's: at the end both are said.
/// best.json has that figure.
///
/// To go on with a run, name its folder; options are those it began with. Only --steps may be changed, and what does not touch the
/// weights: intervals, time limit, device, threads, the model's description.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the run.
    #[arg(long)]
    out: PathBuf,
    /// What to train: the generator (with style encoder and mask embedder), or the labeler of the model --init [default: generator].
    #[arg(long, value_parser = part)]
    part: Option<Part>,
    /// Folder with images/ (JPEG or PNG) and labels/ (gray PNG of class indices); classes.json in it or its parent.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Folder of the same form whose files LAYOUT_LOOK show the layout of one picture in the look of another.
    #[arg(long)]
    pairs: Option<PathBuf>,
    /// Keep the last N pictures by name, and their pairs, from training.
    #[arg(long, value_name = "N")]
    hold_out: Option<usize>,
    /// Network sizes by name: studio-128 or published.
    #[arg(long, conflicts_with = "config")]
    preset: Option<String>,
    /// Network sizes from a JSON file.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Steps in all; the learning rates are constant for half of them, then fall to zero.
    #[arg(long)]
    steps: Option<usize>,
    /// Samples a step [default: 2].
    #[arg(long)]
    batch: Option<usize>,
    /// Side of the pictures to train on [default: the network's resolution]. A generator trained so is one for pictures of that
    /// side, and --init takes it for another side.
    #[arg(long, value_name = "PIXELS")]
    side: Option<usize>,
    /// Share of samples that are pairs [default: 0.5].
    #[arg(long)]
    pair_share: Option<f64>,
    /// Share of samples whose red, green and blue trade places, in style and target alike [default: 0].
    #[arg(long)]
    channel_shuffle: Option<f64>,
    /// Share of samples whose red, green and blue are each bent by a power of their own, from 0.47 to 2.1, in style and target
    /// alike [default: 0].
    #[arg(long)]
    tone_curves: Option<f64>,
    #[arg(long)]
    seed: Option<u64>,
    /// Precision of products: f32, on CUDA tf32, on CPUs with AMX bf16 for convolutions; both are
    /// faster there [default: f32].
    #[arg(long)]
    precision: Option<Precision>,
    /// SqueezeNet weights for the perceptual loss; without, it compares pixels at four sizes.
    #[arg(long, value_name = "FILE")]
    perceptual: Option<PathBuf>,
    /// Weight of the hinge loss [default: 1].
    #[arg(long, value_name = "W")]
    gan: Option<f64>,
    /// Weight of feature matching [default: 10].
    #[arg(long, value_name = "W")]
    features: Option<f64>,
    /// Weight of the perceptual loss [default: 10].
    #[arg(long, value_name = "W")]
    perceptual_weight: Option<f64>,
    /// Weight of the attention loss [default: 1].
    #[arg(long, value_name = "W")]
    attention: Option<f64>,
    /// Weight of the mean absolute difference of pixels [default: 0].
    #[arg(long, value_name = "W")]
    l1: Option<f64>,
    /// The first step with discriminators [default: 0].
    #[arg(long, value_name = "STEP")]
    gan_start: Option<usize>,
    /// Channels in the discriminators' first layer [default: 64].
    #[arg(long, value_name = "N")]
    discriminator_width: Option<usize>,
    /// Learning rate of the generator [default: 1e-4].
    #[arg(long, value_name = "RATE")]
    lr: Option<f64>,
    /// Learning rate of the discriminators [default: 4e-4].
    #[arg(long, value_name = "RATE")]
    discriminator_lr: Option<f64>,
    /// Factor on the learning rate of the mask embedder [default: 1].
    #[arg(long, value_name = "FACTOR")]
    mask_lr: Option<f64>,
    /// Adam's decay of the first moment [default: 0].
    #[arg(long)]
    beta1: Option<f64>,
    /// Adam's decay of the second moment [default: 0.9].
    #[arg(long)]
    beta2: Option<f64>,
    /// Decay of the running mean of the weights [default: 0.9999].
    #[arg(long)]
    ema: Option<f64>,
    /// How the mask embedder begins: area or random [default: area].
    #[arg(long, value_parser = mask_init)]
    mask_init: Option<MaskInit>,
    /// A model file to begin with.
    #[arg(long, value_name = "MODEL")]
    init: Option<PathBuf>,

    /// Steps between lines in metrics.jsonl.
    #[arg(long, default_value_t = 20)]
    log_every: usize,
    /// Steps between held-out figures.
    #[arg(long, default_value_t = 1000)]
    eval_every: usize,
    /// Steps between sheets.
    #[arg(long, default_value_t = 1000)]
    sheet_every: usize,
    /// Steps between saves.
    #[arg(long, default_value_t = 1000)]
    save_every: usize,
    /// Held-out pictures, and pairs, that the figures are taken on, the first by name; fewer than --hold-out keeps are quicker.
    #[arg(long, default_value_t = 32)]
    eval_limit: usize,
    /// Rows of held-out pictures, and of pairs, on a sheet.
    #[arg(long, default_value_t = 6)]
    sheet_rows: usize,
    /// Save and stop after this many minutes.
    #[arg(long, value_name = "MINUTES")]
    time_limit: Option<f64>,
    /// Make as many steps as fit into --time-limit: their number, and when the learning rates fall, follow the speed.
    #[arg(long, requires = "time_limit", conflicts_with = "steps")]
    fit_time: bool,
    /// At the end, compare held-out pictures made in bf16 with those in f32, and say in the model how near they are: from 45 dB on
    /// it is run in bf16 where nothing else is asked for and the device gains by it. For large networks, which are faster then.
    #[arg(long)]
    bf16: bool,
    /// auto, cpu, cuda, cuda:N, metal or metal:N.
    #[arg(long, value_name = "DEVICE", default_value_t = Choice::Cpu)]
    device: Choice,
    /// Threads on the CPU; all by default. Where other programs work too, set CANDLE_NUM_THREADS=1 besides: candle's elementwise
    /// operations have threads of their own that wait busily, a third of the processor's time as measured on a busy machine.
    #[arg(long)]
    threads: Option<usize>,

    /// The model's name [default: the data folder's].
    #[arg(long)]
    name: Option<String>,
    /// The model's version [default: 1.0.0, or with a labeler that of its model].
    #[arg(long)]
    model_version: Option<String>,
    #[arg(long, default_value = "MIT OR Apache-2.0")]
    licence: String,
    /// Who made the model; may be given more than once. A labeler's are added to its model's.
    #[arg(long = "author", value_name = "NAME")]
    authors: Vec<String>,
    #[arg(long, default_value = "not stated")]
    data_licence: String,
    /// Where the data come from. The folders' names and how many pictures were used are written besides.
    #[arg(long, default_value = "")]
    data_note: String,
    /// What the model must not be expected to do; may be given more than once.
    #[arg(long = "limit")]
    limits: Vec<String>,
}

fn mask_init(text: &str) -> std::result::Result<MaskInit, String> {
    match text {
        "area" => Ok(MaskInit::Area),
        "random" => Ok(MaskInit::Random),
        _ => Err("it is area or random".into()),
    }
}

fn part(text: &str) -> std::result::Result<Part, String> {
    match text {
        "generator" => Ok(Part::Generator),
        "labeler" => Ok(Part::Labeler),
        _ => Err("it is generator or labeler".into()),
    }
}

pub fn run(args: Args) -> Result<bool> {
    if let Some(threads) = args.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        pool.map_err(|e| Error::invalid(format!("--threads {threads}: {e}")))?;
    }
    let device = open_device(args.device)?;
    let recipe = recipe(&args)?;
    let options = options(&args, &recipe)?;

    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("\nstopping after this step; once more to stop without saving");
    })
    .map_err(|e| Error::invalid(format!("Ctrl-C cannot be caught: {e}")))?;

    let bar = ProgressBar::new(recipe.steps as u64);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} steps, {eta} left; {msg}");
    bar.set_style(style.map_err(|e| Error::invalid(e.to_string()))?);
    // The bar is not shown where stderr is no terminal; what it would let through is said all the same.
    let told = bar.clone();
    let tell = |line: String| if told.is_hidden() { eprintln!("{line}") } else { told.println(line) };
    let mut steps = recipe.steps;
    let mut done_steps = 0;
    let mut held_out = (0, 0);
    let some_of = |n: usize, all: usize| if n < all { format!("{n} of {all}") } else { n.to_string() };
    let ending = train::run(recipe, &options, &device, &stop, &mut |event| match event {
        Event::Ready { pictures: (own, pairs), held: (held, held_pairs), steps_done } => {
            tell(format!(
                "{own} pictures and {pairs} pairs; {held} pictures and {held_pairs} pairs held out; {steps_done} steps done"
            ));
            bar.set_position(steps_done as u64);
            bar.reset_eta();
            done_steps = steps_done;
            held_out = (held, held_pairs);
        }
        Event::Step { done, steps: of, losses } => {
            steps = of;
            bar.set_length(of as u64);
            let losses: Vec<_> = losses.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
            bar.set_message(losses.join(", "));
            bar.set_position(done as u64);
            done_steps = done;
        }
        Event::Held { done, own, pairs } => {
            for (what, figures, all) in [("pictures", own, held_out.0), ("pairs", pairs, held_out.1)] {
                if let Some(f) = figures {
                    let (n, psnr, l1) = (some_of(f.pictures, all), f.psnr, f.l1);
                    tell(format!("step {done}: {n} held-out {what}: PSNR {psnr:.2} dB, L1 {l1:.4}"));
                }
            }
        }
        Event::HeldLabels { done, figures } => {
            if let Some(f) = figures {
                let (n, iou, right) = (some_of(f.pictures, held_out.0), f.mean_iou, f.accuracy * 100.0);
                tell(format!(
                    "step {done}: {n} held-out pictures: mean IoU {iou:.4}, {right:.2} % of pixels right"
                ));
            }
        }
        Event::Best { done } => tell(format!("step {done}: the best so far, kept as best.safetensors")),
        Event::Saved { done } => tell(format!("step {done}: saved")),
    });
    bar.finish_and_clear();
    let dir = RunDir::new(&options.out);
    let (ending, model, best) = (ending?, dir.model(), dir.read_best()?);
    let (key, how) = match ending {
        Ending::Finished => ("finished", format!("{steps} steps done; the model is")),
        Ending::Stopped => (
            "stopped",
            format!(
                "stopped and saved after step {done_steps} of {steps}; the same command goes on. The model so far is"
            ),
        ),
        Ending::TimeLimit => (
            "time limit",
            format!(
                "time limit: saved after step {done_steps} of {steps}; the same command goes on. The model so far is"
            ),
        ),
    };
    if json() {
        let mut line =
            serde_json::json!({ "ending": key, "done": done_steps, "steps": steps, "model": model });
        if let Some(mark) = best.best {
            line["best"] = serde_json::json!({
                "model": dir.best(), "step": mark.step, "measure": mark.figure.measure, "value": mark.figure.value,
                "count": mark.figure.count,
            });
            line["last"] =
                best.last.filter(|last| last.step == done_steps).map(|last| last.figure.value).into();
        }
        say!("{line}");
    } else {
        say!("{how} {}", model.display());
        if let Some(sentence) = best.sentence(done_steps) {
            say!("{sentence}");
        }
    }
    // Whatever is to follow a finished run must not follow this one.
    if ending == Ending::Stopped { Err(Error::Cancelled) } else { Ok(true) }
}

/// The run's recipe where there is a run, else the published one, with what the command line says put in.
fn recipe(args: &Args) -> Result<Recipe> {
    let begun = RunDir::new(&args.out).recipe()?;
    let network = network(args, begun.as_ref().map(|recipe| recipe.network.classes))?;
    let mut recipe = match begun {
        Some(recipe) => recipe,
        None => {
            let data = args.data.clone().ok_or_else(|| {
                Error::invalid(format!("{} holds no run to go on with: give --data DIR", args.out.display()))
            })?;
            let network = network.clone().ok_or_else(|| {
                Error::invalid(
                    "a new run needs its network: --preset studio-128, --preset published or --config FILE",
                )
            })?;
            Recipe::published(data, network)
        }
    };
    fn put<T: Clone>(to: &mut T, from: &Option<T>) {
        if let Some(value) = from {
            *to = value.clone();
        }
    }
    let optional = |to: &mut Option<PathBuf>, from: &Option<PathBuf>| {
        if from.is_some() {
            to.clone_from(from);
        }
    };
    put(&mut recipe.part, &args.part);
    put(&mut recipe.network, &network);
    put(&mut recipe.data, &args.data);
    optional(&mut recipe.pairs, &args.pairs);
    put(&mut recipe.hold_out, &args.hold_out);
    put(&mut recipe.steps, &args.steps);
    put(&mut recipe.batch, &args.batch);
    match (args.side, recipe.part) {
        (Some(side), Part::Generator) => recipe.network = recipe.network.at_side(side)?,
        (Some(_), Part::Labeler) => recipe.side = args.side,
        (None, _) => (),
    }
    put(&mut recipe.variation.pair_share, &args.pair_share);
    put(&mut recipe.variation.channel_shuffle, &args.channel_shuffle);
    put(&mut recipe.variation.tone_curves, &args.tone_curves);
    put(&mut recipe.seed, &args.seed);
    put(&mut recipe.precision, &args.precision);
    optional(&mut recipe.perceptual, &args.perceptual);
    put(&mut recipe.weights.gan, &args.gan);
    put(&mut recipe.weights.features, &args.features);
    put(&mut recipe.weights.perceptual, &args.perceptual_weight);
    put(&mut recipe.weights.attention, &args.attention);
    put(&mut recipe.weights.l1, &args.l1);
    put(&mut recipe.gan_start, &args.gan_start);
    put(&mut recipe.discriminator_width, &args.discriminator_width);
    put(&mut recipe.generator_rate, &args.lr);
    put(&mut recipe.discriminator_rate, &args.discriminator_lr);
    put(&mut recipe.mask_rate, &args.mask_lr);
    put(&mut recipe.beta1, &args.beta1);
    put(&mut recipe.beta2, &args.beta2);
    put(&mut recipe.ema, &args.ema);
    put(&mut recipe.mask_init, &args.mask_init);
    optional(&mut recipe.init, &args.init);
    Ok(recipe)
}

fn network(args: &Args, classes: Option<usize>) -> Result<Option<Config>> {
    if let Some(path) = &args.config {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        let config =
            serde_json::from_str(&text).map_err(|e| Error::format(path, format!("no network sizes: {e}")))?;
        return Ok(Some(config));
    }
    if args.part == Some(Part::Labeler)
        && let Some(init) = &args.init
    {
        let mut network = Model::open(init)?.metadata().network.clone();
        network.labeler.get_or_insert_with(preset::labeler);
        return Ok(Some(network));
    }
    let Some(name) = &args.preset else { return Ok(None) };
    let classes = match (classes, &args.data) {
        (Some(classes), _) => classes,
        (None, Some(data)) => {
            let (beside, above) = (data.join("classes.json"), data.join("../classes.json"));
            classes_from_json(if beside.exists() { &beside } else { &above })?.len()
        }
        (None, None) => return Err(Error::invalid("--preset needs --data DIR, whose classes it takes")),
    };
    Ok(Some(preset::preset(name, classes)?))
}

fn version(args: &Args, recipe: &Recipe) -> Result<String> {
    match (&args.model_version, recipe.part, &recipe.init) {
        (Some(version), ..) => Ok(version.clone()),
        (None, Part::Labeler, Some(init)) => Ok(Model::open(init)?.metadata().version.clone()),
        _ => Ok("1.0.0".into()),
    }
}

fn options(args: &Args, recipe: &Recipe) -> Result<RunOptions> {
    let folder =
        |path: &Path| path.file_name().map_or("data".into(), |name| name.to_string_lossy().into_owned());
    let time_limit = match args.time_limit {
        Some(minutes) => Some(Duration::try_from_secs_f64(minutes * 60.0).map_err(|_| {
            Error::invalid(format!("--time-limit {minutes}: it is a number of minutes from 0 up"))
        })?),
        None => None,
    };
    Ok(RunOptions {
        out: args.out.clone(),
        log_every: args.log_every,
        eval_every: args.eval_every,
        sheet_every: args.sheet_every,
        save_every: args.save_every,
        eval_limit: args.eval_limit,
        sheet_rows: args.sheet_rows,
        time_limit,
        fit_time: args.fit_time,
        bf16: args.bf16,
        description: Description {
            name: args.name.clone().unwrap_or_else(|| folder(&recipe.data)),
            version: version(args, recipe)?,
            licence: args.licence.clone(),
            authors: args.authors.clone(),
            data_licence: args.data_licence.clone(),
            data_note: args.data_note.clone(),
            limits: args.limits.clone(),
        },
    })
}
