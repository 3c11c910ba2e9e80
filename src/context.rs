//! A device with its worker, memory limit and log, and models loaded onto it: for programs whose calls come from any
//! thread, with progress told on the thread that called. The C API is made of this.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use candle_core::Device;
use once_cell::sync::OnceCell;

use crate::attention::{self, AttentionMaps, attention};
use crate::device::{self, Choice};
use crate::image::{LabelMap, RgbImage, View};
use crate::label::{Labeling, field_size, label, largest_seen};
use crate::model::Model;
use crate::nn::{Config, Network, Precision};
use crate::progress::Progress;
use crate::restyle::{Job, plan_on};
use crate::style::Style;
use crate::synthesis::Synthesis;
use crate::worker::Worker;
use crate::{Error, Result};

pub use crate::worker::Observer;

/// How much a message of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A call failed; its error says the same.
    Error,
    /// It works, but perhaps not as was meant.
    Warning,
    /// What is there once: the device, a model.
    Info,
    /// Each call, with its time.
    Debug,
}

/// Receives the messages of a context, always on a thread that is in a call of it, and so perhaps on several at once.
pub type Log = Box<dyn Fn(Level, &str) + Send + Sync>;

/// How a context is to be; the default is a device chosen by itself, all the machine's threads, no memory limit, no log.
#[derive(Default)]
pub struct Options {
    pub device: Choice,
    /// Threads that share the work on the CPU, 0 for as many as the environment variable `CA2SIS_THREADS` says, else as the machine runs
    /// at once.
    pub threads: usize,
    /// Bytes that one call may need beyond its arguments and the loaded models; none for no limit. Planned, not measured. On a
    /// GPU, of the machine's memory and of the device's each.
    pub memory_limit: Option<u64>,
    /// What the factors of large products are rounded to when pictures are generated; see [`Precision`] for the devices that do
    /// so. Codes of styles, label maps and attention maps are in f32 always. None for what each model asks for:
    /// [`Model::precision`].
    pub precision: Option<Precision>,
    pub log: Option<Log>,
}

/// An open device with a worker that owns it. Cheap to clone; work asked of one context runs in order, whoever asks.
///
/// Where the device was chosen by itself and is a GPU that fails in a call, that call returns [`Error::Device`] and those after
/// it run on the CPU, in f32 if that does not have the precision.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    device: OnWorker<Device>,
    worker: Arc<Worker>,
    info: device::Info,
    /// Whether the device was chosen by itself, so that the CPU may stand in for it.
    chosen: bool,
    /// The CPU, once it stands in.
    stand_in: OnceCell<device::Info>,
    memory_limit: Option<u64>,
    precision: Option<Precision>,
    log: Option<Log>,
}

/// Something that may hold a device's memory, and is therefore dropped on the worker.
struct OnWorker<T: Send + 'static> {
    object: Option<T>,
    worker: Arc<Worker>,
}

impl<T: Send> Deref for OnWorker<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.object.as_ref().expect("there until it is dropped")
    }
}

impl<T: Send + 'static> Drop for OnWorker<T> {
    fn drop(&mut self) {
        self.worker.drop_later(self.object.take());
    }
}

impl Context {
    /// Opens a device and starts its worker.
    ///
    /// # Errors
    /// [`Error::Device`] when a device asked for by name is not there or this build cannot use it;
    /// [`Error::InvalidArgument`] for more than 1024 threads; [`Error::Unsupported`] for a precision that the device, also one
    /// chosen by itself, does not have.
    pub fn new(options: Options) -> Result<Self> {
        Self::with(options, device::select)
    }

    /// With the device that `select` opens, on the worker.
    pub(crate) fn with(
        options: Options,
        select: impl FnOnce(Choice) -> Result<device::Selected> + Send,
    ) -> Result<Self> {
        let worker = Arc::new(Worker::new(options.threads)?);
        let device::Selected { device, info, passed_over } = worker.run(None, |_| select(options.device))?;
        let device = OnWorker { object: Some(device), worker: worker.clone() };
        let Options { memory_limit, precision, log, .. } = options;
        precision.map_or(Ok(()), |precision| precision.check(&device))?;
        let chosen = options.device == Choice::Auto;
        let stand_in = OnceCell::new();
        let context =
            Self(Arc::new(Inner { device, worker, info, chosen, stand_in, memory_limit, precision, log }));
        let info = context.device_info();
        let threads = context.threads();
        context.log(Level::Info, || {
            let precision =
                precision.map_or("the model's precision".into(), |precision| precision.to_string());
            format!("device {}: {}, {threads} threads, {precision}", info.choice, info.name)
        });
        for passed in passed_over {
            let level = if passed.unexpected { Level::Warning } else { Level::Debug };
            context.log(level, || format!("device {} instead: {}", info.choice, passed.why));
        }
        Ok(context)
    }

    /// The device that calls run on: the one that was opened, or the CPU since that failed.
    pub fn device_info(&self) -> &device::Info {
        self.stand_in_info().unwrap_or(&self.0.info)
    }

    /// The CPU, where that stands in for a GPU that failed.
    pub(crate) fn stand_in_info(&self) -> Option<&device::Info> {
        self.0.stand_in.get()
    }

    pub fn threads(&self) -> usize {
        self.0.worker.threads()
    }

    pub fn memory_limit(&self) -> Option<u64> {
        self.0.memory_limit
    }

    /// Runs `work` on the worker's thread once all that was asked before is done, and waits for it. `what` names it in the
    /// log.
    ///
    /// The observer is called on the calling thread: with 0 before the work begins, then at least every 50 ms, and with 1
    /// when it has ended well. When it answers false the work stops at its next step and the observer is not called again.
    ///
    /// # Errors
    /// Those of `work`; [`Error::Cancelled`]; [`Error::Busy`] from inside this context's own observer or log. A panic of
    /// `work` comes out here.
    pub fn run<T: Send>(
        &self,
        what: &str,
        observer: Option<Observer>,
        work: impl FnOnce(&Device, Progress) -> Result<T> + Send,
    ) -> Result<T> {
        let start = Instant::now();
        static CPU: Device = Device::Cpu;
        let result = self.0.worker.run(observer, |progress| {
            // Looked at in this call's turn: the one before may have found the device to fail.
            let device: &Device = if self.0.stand_in.get().is_some() { &CPU } else { &self.0.device };
            work(device, progress)
        });
        match &result {
            Ok(_) => self.log(Level::Debug, || format!("{what}: {:.3} s", start.elapsed().as_secs_f64())),
            // From inside a callback, where the log is a callback itself.
            Err(Error::Busy) => {}
            Err(Error::Cancelled) => self.log(Level::Debug, || format!("{what}: cancelled")),
            Err(e) => {
                self.log(Level::Error, || format!("{what}: {e}"));
                self.stand_in_after(e);
            }
        }
        result
    }

    /// Leaves a GPU that was chosen by itself and failed.
    fn stand_in_after(&self, error: &Error) {
        let Inner { info, chosen, stand_in, precision, .. } = &*self.0;
        if *chosen && info.choice != Choice::Cpu && matches!(error, Error::Device(_)) {
            let cpu = device::Info::of(&Device::Cpu);
            if stand_in.set(cpu).is_ok() {
                self.log(Level::Warning, || {
                    let precision = match precision {
                        Some(p) if p.check(&Device::Cpu).is_ok() => p.to_string(),
                        Some(_) => Precision::F32.to_string(),
                        None => "the model's precision".into(),
                    };
                    format!("device {} failed: calls run on the CPU from now on, in {precision}", info.choice)
                });
            }
        }
    }

    /// Refuses, as [`run`](Self::run) does, to go on inside this context's own observer or log: for callers that have work of
    /// their own to do first.
    ///
    /// # Errors
    /// [`Error::Busy`].
    pub fn check_not_in_callback(&self) -> Result<()> {
        self.0.worker.check_not_in_callback()
    }

    /// Builds a model's network on this context's device.
    ///
    /// # Errors
    /// Those of [`Model::network`] and [`run`](Self::run).
    pub fn load(&self, model: &Model) -> Result<LoadedModel> {
        let network = self.run("load", None, |device, _| self.network(model, device))?;
        let loaded = LoadedModel(Arc::new(Loaded {
            model: model.clone(),
            network: OnWorker { object: Some(network), worker: self.0.worker.clone() },
            stand_in: OnceCell::new(),
            context: self.clone(),
        }));
        let about = model.metadata();
        let (classes, side) = (about.classes.len(), about.network.resolution);
        self.log(Level::Info, || {
            format!("model {} {}: {classes} classes, {side} x {side} pixels", about.name, about.version)
        });
        Ok(loaded)
    }

    /// With this context's precision and memory limit.
    fn network(&self, model: &Model, device: &Device) -> Result<Network> {
        let Inner { precision, memory_limit, .. } = &*self.0;
        let precision = precision.unwrap_or_else(|| model.precision(device));
        Ok(model.network(device)?.with_precision(precision).with_memory_limit(*memory_limit))
    }

    /// Tells the log, if there is one.
    pub(crate) fn log(&self, level: Level, message: impl FnOnce() -> String) {
        if let Some(log) = &self.0.log {
            let message = message();
            self.0.worker.callback(|| log(level, &message));
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("device", &self.0.info.choice)
            .field("threads", &self.threads())
            .finish_non_exhaustive()
    }
}

/// A model with its network on a context's device. Cheap to clone; keeps the context.
#[derive(Clone)]
pub struct LoadedModel(Arc<Loaded>);

struct Loaded {
    model: Model,
    network: OnWorker<Network>,
    /// The network on the CPU, where that stands in for the context's device.
    stand_in: OnceCell<Network>,
    context: Context,
}

impl LoadedModel {
    pub fn context(&self) -> &Context {
        &self.0.context
    }

    pub fn model(&self) -> &Model {
        &self.0.model
    }

    /// Whether styles of one are styles of the other: they are one file, or equal ones. Reads both when they are not the
    /// same opened file.
    pub fn shares_styles_with(&self, other: &Self) -> bool {
        let (a, b) = (self.model(), other.model());
        a.is_same(b) || (a.metadata().network == b.metadata().network && a.hash() == b.hash())
    }

    /// The style of a picture of any size, as [`Style::extract`]; kept in the machine's own memory, for any context.
    pub fn extract(&self, picture: View, labels: &LabelMap, observer: Option<Observer>) -> Result<Style> {
        self.check_memory(self.extract_plan(picture.width(), picture.height()))?;
        self.run("style extract", observer, |network, progress| {
            Style::extract(network, picture, labels, progress)?.to_device(&Device::Cpu)
        })
    }

    /// As [`Style::plan`], on this context's threads.
    pub fn extract_plan(&self, width: usize, height: usize) -> u64 {
        Style::plan(self.config(), width, height, self.context().threads())
    }

    /// As [`restyle::plan`](crate::restyle::plan), on this context's threads.
    pub fn restyle_plan(&self, job: &Job) -> u64 {
        plan_on(job, self.context().threads())
    }

    /// The sizes of its network.
    pub fn config(&self) -> &Config {
        &self.model().metadata().network
    }

    /// Refuses work that needs more memory than the context allows.
    ///
    /// # Errors
    /// [`Error::MemoryLimit`].
    pub fn check_memory(&self, needed: u64) -> Result<()> {
        match self.context().memory_limit() {
            Some(limit) if needed > limit => Err(Error::MemoryLimit { needed, limit }),
            _ => Ok(()),
        }
    }

    /// The network, for its sizes; its tensors are the device's, so work with them through [`run`](Self::run).
    pub(crate) fn network(&self) -> &Network {
        &self.0.network
    }

    /// The picture of a label map, as [`Synthesis::run`].
    pub fn synthesize(&self, job: &Synthesis, observer: Option<Observer>) -> Result<RgbImage> {
        let size = job.finish.then(|| (job.labels.width(), job.labels.height()));
        self.check_memory(Synthesis::plan(self.config(), size))?;
        self.run("synthesize", observer, |network, progress| job.run(network, progress))
    }

    /// Where the network looks for each class, as [`attention`].
    pub fn attention(
        &self,
        labels: &LabelMap,
        style: &Style,
        stage: Option<usize>,
        observer: Option<Observer>,
    ) -> Result<AttentionMaps> {
        self.check_memory(attention::plan(self.config(), labels.width(), labels.height()))?;
        self.run("attention", observer, |network, progress| {
            attention(network, labels, &style.to_device(network.device())?, stage, progress)
        })
    }

    /// A label map for a picture, as [`label`](crate::label::label).
    ///
    /// # Errors
    /// As it, but [`Error::Unsupported`] when the model has no labeler; [`Error::MemoryLimit`].
    pub fn label(&self, picture: View, observer: Option<Observer>) -> Result<Labeling> {
        self.check_labeler()?;
        self.check_memory(self.label_plan(picture.width(), picture.height()))?;
        self.run("label", observer, |network, progress| label(network, &picture, progress))
    }

    /// Refuses a model that cannot propose label maps.
    ///
    /// # Errors
    /// [`Error::Unsupported`].
    pub fn check_labeler(&self) -> Result<()> {
        match self.config().labeler {
            Some(_) => Ok(()),
            None => Err(Error::unsupported(format!(
                "the model {:?} has no labeler: give a label map, or use a model that has one",
                self.model().metadata().name
            ))),
        }
    }

    /// Bytes that [`label`](Self::label) allocates at most for a picture of this size, beside it and the model: an estimate from
    /// above, 0 for a model without a labeler.
    pub fn label_plan(&self, width: usize, height: usize) -> u64 {
        let Config { resolution, classes, labeler, .. } = self.config();
        let Some(labeler) = labeler else { return 0 };
        let (across, down) = largest_seen(width, height, *resolution, labeler.step());
        let seen = (across * down) as u64;
        // At the finest level its inputs, unfolded for a convolution, and outputs; every level's outputs, kept for the way up.
        let finest = labeler.widths.iter().take(2).sum::<usize>() * 12;
        let kept = labeler.widths.iter().sum::<usize>() * 2;
        let tensors = seen * 4 * (finest + kept + 8 * classes + 24) as u64;
        // Smaller pictures, two maps.
        let pixels = 4 * (width * height) as u64;
        // For each thread colours, and the classes' probabilities in a row of the picture or of the field.
        let threads = self.context().threads();
        let (field_across, field_down) = field_size(width, height);
        let pixels_heard = field_across * field_down;
        let rows = (threads * (width * 40 * 3 + width.max(field_across) * classes) * 4) as u64;
        // Where each column and row lies in two maps and the field.
        let places = ((width + height + field_across + field_down) * 3 * 24) as u64;
        // The field: by class its probabilities, their logarithms and what comes of them; queries, keys, values and what is heard.
        let features = (*classes).max(6);
        let field = (pixels_heard * (4 * classes + 4 * features + 6) * 4) as u64;
        // For each thread the scores of 64 pixels, and what a product lays out of keys or values.
        let scores = (threads * pixels_heard * (64 + 2 * features) * 4) as u64;
        // Its picture: the rows that it is made of, and their weights.
        let small = ((down * field_across * 3 + (across + down + field_across + field_down) * 30) * 4) as u64;
        tensors + pixels + rows + places + field + scores + small + (height * across * 12) as u64
    }

    /// As [`Context::run`], with the network.
    pub fn run<T: Send>(
        &self,
        what: &str,
        observer: Option<Observer>,
        work: impl FnOnce(&Network, Progress) -> Result<T> + Send,
    ) -> Result<T> {
        let Loaded { model, network, stand_in, context } = &*self.0;
        context.run(what, observer, |device, progress| {
            let network = match context.0.stand_in.get() {
                Some(_) => stand_in.get_or_try_init(|| context.network(model, device))?,
                None => network,
            };
            work(network, progress)
        })
    }
}

impl fmt::Debug for LoadedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedModel").field("model", &self.0.model).field("context", &self.0.context).finish()
    }
}

#[cfg(all(test, feature = "embed-model"))]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::device::{Info, Selected};
    use crate::nn;

    type Lines = Arc<Mutex<Vec<(Level, String)>>>;

    /// A context whose GPU is played by the CPU.
    fn with_gpu(wish: Choice) -> (Context, Lines) {
        let lines = Lines::default();
        let heard = lines.clone();
        let log: Log = Box::new(move |level, line| heard.lock().unwrap().push((level, line.to_owned())));
        let select = |_| {
            let info = Info { choice: Choice::Cuda(0), name: "a GPU".into(), memory: 1, unavailable: None };
            Ok(Selected { device: Device::Cpu, info, passed_over: Vec::new() })
        };
        let options = Options { device: wish, log: Some(log), ..Options::default() };
        (Context::with(options, select).unwrap(), lines)
    }

    fn no_memory<T>() -> Result<T> {
        let text = "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")";
        Err(candle_core::Error::Cuda(text.into()).into())
    }

    #[test]
    fn a_gpu_chosen_by_itself_that_fails_is_an_error_once_and_then_the_cpu_stands_in() {
        let (context, lines) = with_gpu(Choice::Auto);
        let loaded = context.load(&Model::embedded().unwrap()).unwrap();
        let before = loaded.run("which", None, |n, _| Ok(std::ptr::from_ref(n) as usize)).unwrap();
        assert_eq!(context.device_info().choice, Choice::Cuda(0));

        let error = loaded.run("restyle", None, |_, _| no_memory::<()>()).unwrap_err();
        assert!(matches!(&error, Error::Device(why) if why.contains("no memory left")), "{error}");
        assert_eq!(context.device_info().choice, Choice::Cpu);
        let warned =
            |(level, line): &&(Level, String)| *level == Level::Warning && line.contains("on the CPU");
        assert_eq!(lines.lock().unwrap().iter().filter(warned).count(), 1);

        // Another network, made on the CPU, and the same one for every call after.
        let after = || loaded.run("which", None, |n, _| Ok(std::ptr::from_ref(n) as usize)).unwrap();
        assert_ne!(after(), before);
        assert_eq!(after(), after());
        let code = loaded.run("style", None, |n, _| {
            Ok(n.map_noise(&candle_core::Tensor::zeros(
                (1, n.config().mapping.map_or(1, |m| m.latent)),
                candle_core::DType::F32,
                &Device::Cpu,
            )?)
            .is_ok())
        });
        assert_eq!(code.unwrap(), loaded.config().mapping.is_some());
    }

    #[test]
    fn memory_that_runs_out_in_the_form_for_gpus_is_such_a_failure_and_the_next_call_makes_the_picture() {
        let (context, lines) = with_gpu(Choice::Auto);
        let loaded = context.load(&Model::embedded().unwrap()).unwrap();
        let draw = |fault: Option<&'static str>| {
            loaded.run("synthesize", None, |network, progress| {
                let config = network.config();
                let zeros = |shape: &[usize]| {
                    candle_core::Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu)
                };
                let prepared = network.prepare_tensors(&zeros(&[config.classes, config.style_width()])?)?;
                nn::FAULT.set(fault);
                let code = zeros(&[1, config.mask_classes(), config.base_size * config.base_size])?;
                let drawn = prepared.generate(&code, progress);
                assert!(nn::FAULT.take().is_none(), "no product was made");
                Ok(drawn?.dims().to_vec())
            })
        };
        let whole = draw(None).unwrap();
        let error = draw(Some("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")")).unwrap_err();
        assert!(matches!(&error, Error::Device(why) if why.contains("no memory left")), "{error}");
        assert_eq!(context.device_info().choice, Choice::Cpu);
        let told = lines.lock().unwrap().iter().filter(|(level, _)| *level == Level::Warning).count();
        assert_eq!(told, 1);
        assert_eq!(draw(None).unwrap(), whole);
    }

    #[test]
    fn a_gpu_that_was_named_is_kept_and_the_next_call_tries_it_again() {
        let (context, lines) = with_gpu(Choice::Cuda(0));
        let loaded = context.load(&Model::embedded().unwrap()).unwrap();
        let which = || loaded.run("which", None, |n, _| Ok(std::ptr::from_ref(n) as usize)).unwrap();
        let before = which();
        assert!(loaded.run("restyle", None, |_, _| no_memory::<()>()).is_err());
        assert_eq!((which(), context.device_info().choice), (before, Choice::Cuda(0)));
        assert!(!lines.lock().unwrap().iter().any(|(level, _)| *level == Level::Warning));
    }

    #[test]
    fn other_errors_and_cancelling_leave_the_gpu_in_use() {
        let (context, _) = with_gpu(Choice::Auto);
        for error in [Error::Cancelled, Error::invalid("x"), candle_core::Error::Msg("shapes".into()).into()]
        {
            assert!(context.run("x", None, |_, _| Err::<(), _>(error)).is_err());
            assert_eq!(context.device_info().choice, Choice::Cuda(0));
        }
    }

    #[test]
    fn what_auto_passed_over_is_in_the_log() {
        let lines = Lines::default();
        let heard = lines.clone();
        let log: Log = Box::new(move |level, line| heard.lock().unwrap().push((level, line.to_owned())));
        let passed = |why: &str, unexpected| crate::device::PassedOver { why: why.into(), unexpected };
        let select = |_| {
            let passed_over = vec![passed("the driver is broken", true), passed("no Metal", false)];
            Ok(Selected { device: Device::Cpu, info: Info::of(&Device::Cpu), passed_over })
        };
        Context::with(Options { log: Some(log), ..Options::default() }, select).unwrap();
        let lines = lines.lock().unwrap();
        assert!(
            lines.contains(&(Level::Warning, "device cpu instead: the driver is broken".into())),
            "{lines:?}"
        );
        assert!(lines.contains(&(Level::Debug, "device cpu instead: no Metal".into())), "{lines:?}");
    }
}
