//! `ca2sis eval`: how good results are, beside what any editor could have.

use std::path::PathBuf;

use ca2sis::eval::{Blind, Evaluation, Features, Method, Set, Sheet, Table};
use ca2sis::nn::Network;
use ca2sis::progress::Progress;
use ca2sis::{Error, Result};

use crate::common::{ModelArgs, check_output, json, open_device, say};
use crate::progress::Bar;

/// Measure results on pictures with label maps, beside simple methods
///
/// Without a task all are done that the data allow. Tables go to stdout, all else to stderr; with --json one object a line
/// and task, with the figures of every case. Methods: identity, reinhard
/// (global colour transfer), reinhard-per-class, class-mean (each class painted flat), statistics, and of the model restyle and synthesize.
#[derive(clap::Args)]
pub struct Args {
    /// What to measure [default: all]
    #[arg(value_enum, value_name = "TASK")]
    tasks: Vec<Task>,
    /// Folder with images/, labels/ (PNG) and classes.json in it or the one above; files LAYOUT_LOOK make pairs
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Folder of the same form to look references up in [default: the data]
    #[arg(long, value_name = "DIR")]
    references: Option<PathBuf>,
    /// Methods to compare [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = method)]
    methods: Vec<Method>,
    #[command(flatten)]
    model: ModelArgs,
    /// Folder of the same form of another kind of pictures, which the confidence task must warn of; label maps by index
    #[arg(long, value_name = "DIR")]
    strangers: Option<PathBuf>,
    /// SqueezeNet v1.0 weights (safetensors, Caffe's layout) for the perceptual task
    #[arg(long, value_name = "FILE")]
    perceptual: Option<PathBuf>,
    /// Most cases of a task, spread over all [default: all; 24 for noise]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Of everything random: edited classes, shifts, noise, sides of blind sheets
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Picture to write: results of the paired, the restore and the edits task side by side
    #[arg(long, value_name = "FILE")]
    sheet: Option<PathBuf>,
    /// Write sheets for a blind comparison, an answer form and a guide into this folder; no tables unless tasks are named
    #[arg(long, value_name = "DIR")]
    blind: Option<PathBuf>,
    /// The two methods of the blind comparison
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = method, default_value = "restyle,reinhard-per-class")]
    between: Vec<Method>,
    /// File for the key of the blind comparison [default: the folder's name with .key.json]
    #[arg(long, value_name = "FILE", requires = "blind")]
    key: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Task {
    /// Layouts in another layout's look, against the truth (needs pairs)
    Paired,
    /// One class of a photograph shifted in tone and colour, to be brought back
    Restore,
    /// What changes outside the mask and outside the asked class
    Locality,
    /// Gradients across the border of an edited class (needs pairs)
    Seam,
    /// Paired and restore with careless labels and bad references
    Noise,
    /// Distances on SqueezeNet features, swapped styles and reconstructions (needs --perceptual)
    Perceptual,
    /// The labeler's maps against the true ones (needs a model with a labeler)
    Labels,
    /// Reconstruction, another's look, a local edit and a shape edit of each picture (needs a model)
    Edits,
    /// Whether the confidence of results says where they are wrong (needs pairs)
    Confidence,
    /// All that the data allow
    All,
}

impl Task {
    const EACH: [Self; 9] = [
        Self::Paired,
        Self::Restore,
        Self::Locality,
        Self::Seam,
        Self::Noise,
        Self::Perceptual,
        Self::Labels,
        Self::Edits,
        Self::Confidence,
    ];
}

fn method(name: &str) -> std::result::Result<Method, String> {
    let all = Method::ALL.map(Method::key);
    let found = Method::ALL.into_iter().find(|m| m.key() == name.trim());
    found.ok_or_else(|| format!("choose from {}", all.join(", ")))
}

pub fn run(args: Args) -> Result<bool> {
    if let Some(sheet) = &args.sheet {
        check_output(sheet, &[args.model.model.as_deref(), args.perceptual.as_deref()])?;
        Sheet::default().to_picture()?.check_writable(sheet)?;
    }
    let between: [Method; 2] = args
        .between
        .clone()
        .try_into()
        .map_err(|_| Error::invalid("--between names two methods, such as restyle,class-mean"))?;
    let set = Set::open(&args.data)?;
    let references = args.references.as_deref().map(Set::open).transpose()?;
    let references = references.as_ref().unwrap_or(&set);
    let strangers = args.strangers.as_deref().map(Set::open).transpose()?;
    if references.classes() != set.classes() {
        return Err(Error::invalid("the references have other classes than the data"));
    }

    let mut methods = if args.methods.is_empty() { Method::ALL.to_vec() } else { args.methods.clone() };
    methods.sort();
    methods.dedup();
    let blind = args.blind.as_deref();
    let needed = methods.iter().chain(between.iter().filter(|_| blind.is_some())).any(|m| m.needs_network())
        || [Task::Labels, Task::Edits, Task::Confidence].iter().any(|task| args.tasks.contains(task));
    let mut model = "none".to_owned();
    let network = if needed { open(&args, &set, &mut model)? } else { None };
    if network.is_none() {
        if blind.is_some() && between.iter().any(|m| m.needs_network()) {
            return Err(Error::invalid("the blind comparison needs a model of the data's classes"));
        }
        methods.retain(|m| !m.needs_network());
    }
    let weights = args.perceptual.as_deref();
    let features = weights.map(|path| Features::open(path, &open_device(args.model.device)?)).transpose()?;
    let evaluation = Evaluation {
        set: &set,
        references,
        network: network.as_ref(),
        features: features.as_ref(),
        methods,
        limit: args.limit.map(|n| n as usize),
        seed: args.seed,
    };

    if let Some(folder) = blind {
        let mut beside = folder.components().as_path().as_os_str().to_owned();
        beside.push(".key.json");
        let beside = PathBuf::from(beside);
        let key = args.key.as_deref().unwrap_or(&beside);
        let bar = Bar::new("blind sheets");
        let n = evaluation.blind(&Blind { between, folder, key }, Progress::new(&|done| bar.at(done)))?;
        drop(bar);
        eprintln!(
            "ca2sis: {n} sheets, answers.csv and GUIDE.md in {}; the key is {}",
            folder.display(),
            key.display()
        );
    }
    let named = !args.tasks.is_empty() && !args.tasks.contains(&Task::All);
    let tasks = match (named, blind) {
        (true, _) => Task::EACH.into_iter().filter(|task| args.tasks.contains(task)).collect(),
        (false, Some(_)) if args.tasks.is_empty() => vec![],
        (false, _) => possible(&evaluation),
    };
    if tasks.is_empty() {
        return Ok(true);
    }

    if !json() {
        say!("model {model}, data {}, seed {}", args.data.display(), args.seed);
    }
    let mut sheet = Sheet::default();
    for task in tasks {
        for table in tables(&evaluation, task, strangers.as_ref(), &mut sheet)? {
            if json() {
                let mut line = table.to_json();
                line["model"] = model.clone().into();
                line["seed"] = args.seed.into();
                say!("{line}");
            } else {
                say!("\n{}", table.to_string().trim_end_matches('\n'));
            }
        }
    }
    if let Some(path) = &args.sheet {
        if sheet.is_empty() {
            eprintln!("ca2sis: no sheet: only the tasks paired, restore and edits make one");
        } else {
            sheet.to_picture()?.write(path)?;
        }
    }
    Ok(true)
}

/// The model's network, if the model is of the data's classes. Says which model it is in `name`.
fn open(args: &Args, set: &Set, name: &mut String) -> Result<Option<Network>> {
    let (model, network) = args.model.open()?;
    let names = |classes: &[ca2sis::model::Class]| classes.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    if names(model.classes()) != names(set.classes()) {
        eprintln!(
            "ca2sis: the model {} has other classes than the data: rows of the model are left out",
            model.metadata().name
        );
        return Ok(None);
    }
    *name = format!("{} {} ({})", model.metadata().name, model.metadata().version, &model.hash()[..12]);
    Ok(Some(network))
}

/// All tasks that can be done, saying of the others why not.
fn possible(evaluation: &Evaluation) -> Vec<Task> {
    let pairs = !evaluation.set.pairs(evaluation.references).is_empty();
    let jobs = evaluation.methods.iter().any(|m| m.is_job());
    let labels = evaluation.network.is_some_and(|network| network.config().labeler.is_some());
    let can = |task: &Task| {
        let lacking = match task {
            Task::Paired | Task::Seam | Task::Confidence if !pairs => "the data have no pairs",
            Task::Locality if !jobs => "no method has a coupling",
            Task::Perceptual if evaluation.features.is_none() => "it needs --perceptual FILE",
            Task::Edits | Task::Confidence if evaluation.network.is_none() => {
                "there is no model of the data's classes"
            }
            Task::Labels if !labels => "there is no model with a labeler",
            _ => return true,
        };
        eprintln!("ca2sis: {}: left out, as {lacking}", format!("{task:?}").to_lowercase());
        false
    };
    Task::EACH.into_iter().filter(can).collect()
}

fn tables(
    evaluation: &Evaluation,
    task: Task,
    strangers: Option<&Set>,
    sheet: &mut Sheet,
) -> Result<Vec<Table>> {
    let bar = Bar::new(format!("{task:?}").to_lowercase());
    let observer = |done| bar.at(done);
    let progress = Progress::new(&observer);
    match task {
        Task::Paired => Ok(vec![evaluation.paired(Some(sheet), progress)?]),
        Task::Restore => Ok(vec![evaluation.restore(Some(sheet), progress)?]),
        Task::Locality => Ok(vec![evaluation.locality(progress)?]),
        Task::Seam => Ok(vec![evaluation.seam(progress)?]),
        Task::Noise => evaluation.noise(progress),
        Task::Perceptual => evaluation.perceptual(progress),
        Task::Labels => Ok(vec![evaluation.labels(progress)?]),
        Task::Edits => Ok(vec![evaluation.edits(Some(sheet), progress)?]),
        Task::Confidence => evaluation.confidence(strangers, progress),
        Task::All => Ok(vec![]),
    }
}
