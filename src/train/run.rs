//! A whole run: steps, figures, sheets, saves.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use candle_core::Device;
use serde_json::{Map, Value, json};

use super::best::Best;
use super::data::Dataset;
use super::evaluate::{self, Figures};
use super::labeler::{LabelFigures, LabelerTrainer};
use super::part::Trained;
use super::state::{RunDir, write_atomic};
use super::trainer::{Losses, Part, Recipe, Trainer};
use crate::model::{Metadata, Model, TrainingData};
use crate::{Error, Result, model, record};

/// What a run does besides training: none of it changes the weights.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The run's folder.
    pub out: PathBuf,
    /// Steps between lines in metrics.jsonl, held-out figures, sheets and saves.
    pub log_every: usize,
    pub eval_every: usize,
    pub sheet_every: usize,
    pub save_every: usize,
    /// Held-out pictures and pairs that the figures are taken on.
    pub eval_limit: usize,
    /// Rows of either kind on a sheet.
    pub sheet_rows: usize,
    /// Of this call, or with `fit_time` of the run.
    pub time_limit: Option<Duration>,
    /// Make as many steps as fit into the time limit, rather than the recipe's: their number, and with it when the learning rates
    /// fall, follows the speed so far.
    pub fit_time: bool,
    /// At the end, find out how near held-out pictures in bf16 come to those in f32, and say so in the model, which is run in bf16
    /// from then on where that holds.
    pub bf16: bool,
    pub description: Description,
}

/// What the model file says about itself.
#[derive(Clone, Debug)]
pub struct Description {
    pub name: String,
    pub version: String,
    pub licence: String,
    pub authors: Vec<String>,
    /// Licence of the data, and where they come from; how much of which folder was used the run adds itself.
    pub data_licence: String,
    pub data_note: String,
    pub limits: Vec<String>,
}

impl Description {
    /// The folders that a run reads, with how much of them it trains on.
    pub(super) fn training_data(&self, recipe: &Recipe, data: &Dataset) -> Vec<TrainingData> {
        let ((pictures, pairs), (held, held_pairs)) = (data.len(), data.held_len());
        let pairs = if recipe.variation.pair_share > 0.0 { pairs } else { 0 };
        let entry = |folder: &Path, what: &str, count: usize, held: usize| {
            let name = folder.file_name().map_or(what.into(), |name| name.to_string_lossy());
            let mut note = format!("{count} {what}");
            if held > 0 {
                note += &format!(", {held} more held out");
            }
            if !self.data_note.is_empty() {
                note = format!("{}; {note}", self.data_note);
            }
            TrainingData { name: name.into_owned(), licence: self.data_licence.clone(), note }
        };
        let mut entries = vec![entry(&recipe.data, "pictures", pictures, held)];
        entries.extend(recipe.pairs.as_deref().map(|folder| entry(folder, "pairs", pairs, held_pairs)));
        entries
    }
}

/// What a run tells as it goes.
pub enum Event<'a> {
    /// The data are read: pictures and pairs to train on, and held out; steps done before.
    Ready {
        pictures: (usize, usize),
        held: (usize, usize),
        steps_done: usize,
    },
    Step {
        done: usize,
        steps: usize,
        losses: &'a Losses,
    },
    Held {
        done: usize,
        own: Option<Figures>,
        pairs: Option<Figures>,
    },
    HeldLabels {
        done: usize,
        figures: Option<LabelFigures>,
    },
    /// The model after `done` steps has the best held-out figure so far, and is kept as such.
    Best {
        done: usize,
    },
    Saved {
        done: usize,
    },
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All steps are done.
    Finished,
    /// `stop` was set.
    Stopped,
    TimeLimit,
}

/// Trains, from the state in the run's folder if there is one, and saves at intervals and at the end.
///
/// The model file is of the last step, from which the run goes on. Where pictures are held out, the model of the best held-out
/// figure is kept beside it ([`RunDir::best`]): the last is not always the best.
///
/// # Errors
/// Data or files that cannot be read or written; a recipe out of range or other than the run's (but for `steps`);
/// [`Error::Diverged`]: the state of the last good step is saved first.
pub fn run(
    recipe: Recipe,
    options: &RunOptions,
    device: &Device,
    stop: &AtomicBool,
    report: &mut dyn FnMut(Event),
) -> Result<Ending> {
    recipe.validate()?;
    for (name, every) in [
        ("log", options.log_every),
        ("eval", options.eval_every),
        ("sheet", options.sheet_every),
        ("save", options.save_every),
    ] {
        if every == 0 {
            return Err(Error::invalid(format!("{name} interval is 0 steps; it must be 1 or more")));
        }
    }
    let start = Instant::now();
    // A step takes what the one before it took.
    crate::device::keep_memory(device, u64::MAX);
    let dir = RunDir::new(&options.out);
    match dir.recipe()? {
        Some(begun) => same_recipe(&begun, &recipe, &dir)?,
        None => {
            if let Some(file) = [dir.model(), dir.best()].iter().find(|file| file.exists()) {
                return Err(Error::invalid(format!(
                    "{} is there, but no run that it is of: train into another folder, or take it away first",
                    file.display()
                )));
            }
        }
    }
    let data = Arc::new(Dataset::read(
        &recipe.data,
        recipe.pairs.as_deref(),
        recipe.hold_out,
        recipe.network.resolution,
    )?);
    if data.classes().len() != recipe.network.classes {
        return Err(Error::invalid(format!(
            "{}: classes.json has {} classes, the network {}",
            recipe.data.display(),
            data.classes().len(),
            recipe.network.classes
        )));
    }
    let mut trainer: Box<dyn Trained> = match recipe.part {
        Part::Generator => Box::new(Trainer::new(recipe, device)?),
        Part::Labeler => Box::new(LabelerTrainer::new(recipe, device)?),
    };
    dir.create()?;
    let origin = origin(data.hash(), trainer.recipe())?;
    let spent = dir.load(&mut *trainer, &origin)?;
    dir.write_recipe(trainer.recipe())?;
    let mut metrics = MetricsFile::open(&dir.metrics(), trainer.steps_done())?;
    let mut best = if trainer.steps_done() > 0 { dir.read_best()? } else { Best::default() };
    report(Event::Ready { pictures: data.len(), held: data.held_len(), steps_done: trainer.steps_done() });

    let save_model = |trainer: &dyn Trained, path: &Path| -> Result<()> {
        let (metadata, tensors) = trainer.model(&options.description, &data)?;
        model::save(path, &metadata, &tensors, trainer.stored())
    };
    let save = |trainer: &dyn Trained| -> Result<()> {
        dir.write_recipe(trainer.recipe())?;
        dir.save(trainer, &origin, spent + start.elapsed())?;
        save_model(trainer, &dir.model())
    };
    let (mut logged_at, mut logged) = (Instant::now(), trainer.steps_done());
    // A run that is to fit its time has it once, however often it is stopped and gone on with.
    let time_limit =
        options.time_limit.map(|limit| if options.fit_time { limit.saturating_sub(spent) } else { limit });
    let mut fit = time_limit.filter(|_| options.fit_time).map(|limit| Fit::new(start + limit));
    let ending = loop {
        let done = trainer.steps_done();
        let steps = trainer.recipe().steps;
        if done >= steps {
            break Ending::Finished;
        }
        if stop.load(Ordering::Relaxed) {
            break Ending::Stopped;
        }
        if time_limit.is_some_and(|limit| start.elapsed() >= limit) {
            break Ending::TimeLimit;
        }
        let rate = trainer.rate();
        let losses = match trainer.step(&data) {
            Ok(losses) => losses,
            Err(e) => {
                if matches!(e, Error::Diverged { .. }) {
                    save(&*trainer)?;
                }
                return Err(e);
            }
        };
        let done = trainer.steps_done();
        if let Some(steps) = fit.as_mut().and_then(|fit| fit.steps(done)) {
            trainer.set_steps(steps);
        }
        let steps = trainer.recipe().steps;
        report(Event::Step { done, steps, losses: &losses });
        let due = |every: usize| done.is_multiple_of(every) || done == steps;
        if due(options.log_every) {
            let speed = (done - logged) as f64 / logged_at.elapsed().as_secs_f64();
            (logged_at, logged) = (Instant::now(), done);
            let mut line = Map::new();
            line.insert("step".into(), json!(done));
            line.extend(losses.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
            line.insert("generator rate".into(), json!(rate * trainer.recipe().generator_rate));
            line.insert("steps per second".into(), json!(speed));
            line.insert("seconds".into(), json!(start.elapsed().as_secs_f64()));
            metrics.write(line)?;
        }
        let pause = Instant::now();
        if due(options.eval_every) {
            let mut line = Map::from_iter([("step".to_owned(), json!(done))]);
            let held = trainer.held_out(&data, options.eval_limit, report)?;
            line.extend(held.line);
            metrics.write(line)?;
            if let Some(figure) = held.figure {
                // The model first: after a crash in between, this step is done again and finds itself better once more.
                if best.take(done, figure) {
                    save_model(&*trainer, &dir.best())?;
                    report(Event::Best { done });
                }
                dir.write_best(&best)?;
            }
        }
        if due(options.sheet_every) {
            trainer.write_sheet(&data, options.sheet_rows, &dir.sheet(done))?;
        }
        if due(options.save_every) {
            save(&*trainer)?;
            report(Event::Saved { done });
        }
        logged_at += pause.elapsed();
        if let Some(fit) = &mut fit {
            fit.pause(pause.elapsed());
        }
    };
    save(&*trainer)?;
    if options.bf16 {
        for path in [dir.model(), dir.best()].iter().filter(|path| path.exists()) {
            let metadata = {
                let model = Model::open(path)?;
                let bf16_db = evaluate::bf16_db(&model.network(device)?, &data, options.eval_limit)?;
                Metadata { bf16_db, ..model.metadata().clone() }
            };
            let tensors = candle_core::safetensors::load(path, &Device::Cpu)?.into_iter().collect();
            model::save(path, &metadata, &tensors, trainer.stored())?;
        }
    }
    report(Event::Saved { done: trainer.steps_done() });
    Ok(ending)
}

/// Hash of all that a run reads: the data, by their own, and the files that the recipe names.
fn origin(data: &str, recipe: &Recipe) -> Result<String> {
    let files = [&recipe.init, &recipe.perceptual].into_iter().flatten();
    let hashes = files.map(|file| record::file_hash(file)).collect::<Result<Vec<_>>>()?;
    Ok([&[data.to_owned()], hashes.as_slice()].concat().join(" "))
}

/// How many steps fit into the time there is.
struct Fit {
    end: Instant,
    /// When the first steps, which are slower, were done, and how many.
    since: Option<(Instant, usize)>,
    first: Option<usize>,
}

impl Fit {
    const SLOW: usize = 5;

    fn new(end: Instant) -> Self {
        Self { end, since: None, first: None }
    }

    /// Steps in all, by the speed so far; none while that is not known.
    fn steps(&mut self, done: usize) -> Option<usize> {
        let now = Instant::now();
        let first = *self.first.get_or_insert(done);
        if done < first + Self::SLOW {
            return None;
        }
        let &mut (since, from) = self.since.get_or_insert((now, done));
        let each = (done > from).then(|| (now - since).as_secs_f64() / (done - from) as f64)?;
        let left = self.end.saturating_duration_since(now).as_secs_f64();
        Some(done + (left / each) as usize)
    }

    /// Leaves time that was not spent on steps out of the speed.
    fn pause(&mut self, time: Duration) {
        if let Some((since, _)) = &mut self.since {
            *since += time;
        }
    }
}

/// A run goes on with its own recipe alone; only the number of steps may change.
fn same_recipe(begun: &Recipe, recipe: &Recipe, dir: &RunDir) -> Result<()> {
    let fields = |recipe: &Recipe| -> Map<String, Value> {
        match serde_json::to_value(recipe) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        }
    };
    let (begun, recipe) = (fields(begun), fields(recipe));
    for (name, value) in &begun {
        let asked = recipe.get(name).unwrap_or(&Value::Null);
        if name != "steps" && asked != value {
            return Err(Error::invalid(format!(
                "the run in {} was begun with {name} {value}, not {asked}: go on with that, or begin another run in another folder",
                dir.options().parent().unwrap_or(Path::new(".")).display()
            )));
        }
    }
    Ok(())
}

struct MetricsFile {
    path: PathBuf,
    file: std::fs::File,
}

impl MetricsFile {
    /// Opens for appending, without the lines of steps after `done`: they will be done again.
    fn open(path: &Path, done: usize) -> Result<Self> {
        let io = |e| Error::io(path, e);
        if let Ok(text) = std::fs::read_to_string(path) {
            let kept = |line: &&str| {
                let line: Option<Value> = serde_json::from_str(line).ok();
                line.and_then(|line| line.get("step")?.as_u64()).is_some_and(|step| step <= done as u64)
            };
            let text: String = text.lines().filter(kept).flat_map(|line| [line, "\n"]).collect();
            write_atomic(path, text.as_bytes())?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(io)?;
        Ok(Self { path: path.to_owned(), file })
    }

    fn write(&mut self, line: Map<String, Value>) -> Result<()> {
        writeln!(self.file, "{}", Value::Object(line)).map_err(|e| Error::io(&self.path, e))
    }
}
