//! What all instances share, as long as the process lives: devices, models, looks of references, files.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use ca2sis::context::{Context, LoadedModel, Options};
use ca2sis::image::{Channels, LabelMap, Layout, Mask, Picture, SampleType, Transfer, View};
use ca2sis::label::label;
use ca2sis::model::Model;
use ca2sis::nn::Network;
use ca2sis::progress::Progress;
use ca2sis::restyle::Statistics;
use ca2sis::style::Style;
use ca2sis::{Error, Result as Made};
use candle_core::Device;
use xxhash_rust::xxh3::Xxh3;

use crate::describe::{REFERENCE, REFERENCE_LABELS};
use crate::fault::{Fault, Result};
use crate::frame::Frame;
use crate::host::Clip;
use crate::inputs::{self, Inputs};
use crate::lock;
use crate::render::Watch;
use crate::settings::Settings;

/// A few of the last things that were made.
struct Recent<K, V>(VecDeque<(K, V)>);

impl<K: PartialEq, V: Clone> Recent<K, V> {
    const KEPT: usize = 16;

    fn get(&mut self, key: &K) -> Option<V> {
        let at = self.0.iter().position(|(k, _)| k == key)?;
        let found = self.0.remove(at)?;
        self.0.push_front(found);
        self.0.front().map(|(_, v)| v.clone())
    }

    fn put(&mut self, key: K, value: V) {
        self.0.truncate(Self::KEPT - 1);
        self.0.push_front((key, value));
    }
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

#[derive(Default)]
struct Shared {
    contexts: HashMap<String, Context>,
    models: Recent<(Option<Stamp>, String), LoadedModel>,
    wanted: Recent<u128, Wanted>,
    maps: Recent<(Stamp, u128), Arc<LabelMap>>,
    masks: Recent<Stamp, Arc<Mask>>,
}

static SHARED: Mutex<Option<Shared>> = Mutex::new(None);

fn shared<T>(work: impl FnOnce(&mut Shared) -> T) -> T {
    work(lock(&SHARED).get_or_insert_default())
}

/// How often a look was taken from a reference: for tests.
#[doc(hidden)]
pub static LOOKS_TAKEN: AtomicUsize = AtomicUsize::new(0);

/// Lets go of everything; what is in use stays until its use ends.
pub fn purge() {
    let all = lock(&SHARED).take();
    drop(all);
}

/// A file as it is now: changed files are others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    pub path: PathBuf,
    length: u64,
    changed: Option<SystemTime>,
}

impl Stamp {
    pub fn of(path: &Path) -> Result<Self> {
        let about = std::fs::metadata(path).map_err(|e| {
            let what = format!("{}: {e}", path.display());
            if e.kind() == ErrorKind::NotFound { Fault::Missing(what) } else { Fault::Failed(what) }
        })?;
        Ok(Self { path: path.to_owned(), length: about.len(), changed: about.modified().ok() })
    }

    pub fn hash_into(&self, hasher: &mut Xxh3) {
        hasher.update(format!("{self:?}").as_bytes());
    }
}

/// The model that is chosen, on the device that is chosen.
pub fn model(settings: &Settings) -> Result<LoadedModel> {
    let device = settings.device.to_string();
    let stamp = settings.model.as_deref().map(Stamp::of).transpose()?;
    let key = (stamp, device.clone());
    if let Some(loaded) = shared(|s| s.models.get(&key)) {
        return Ok(loaded);
    }
    let context = shared(|s| s.contexts.get(&device).cloned());
    let context = match context {
        Some(context) => context,
        None => {
            let context = Context::new(Options { device: settings.device, ..Options::default() })?;
            // Two threads may come here at once: the first one's stays.
            shared(|s| s.contexts.entry(device).or_insert(context).clone())
        }
    };
    let model = match &key.0 {
        Some(stamp) => Model::open(&stamp.path)?,
        None => Model::embedded()?,
    };
    let loaded = context.load(&model)?;
    shared(|s| match s.models.get(&key) {
        Some(first) => Ok(first),
        None => {
            s.models.put(key, loaded.clone());
            Ok(loaded)
        }
    })
}

/// What tells a model's label maps and looks from another's.
pub fn model_key(loaded: &LoadedModel) -> u128 {
    let mut hasher = Xxh3::new();
    match loaded.model().path() {
        Some(path) => Stamp::of(path).map_or((), |s| s.hash_into(&mut hasher)),
        None => hasher.update(b"inside"),
    }
    hasher.digest128()
}

/// A label map of a file, read once.
pub fn label_file(path: &Path, loaded: &LoadedModel) -> Result<Arc<LabelMap>> {
    let key = (Stamp::of(path)?, model_key(loaded));
    if let Some(map) = shared(|s| s.maps.get(&key)) {
        return Ok(map);
    }
    let map = Arc::new(LabelMap::read(path, loaded.model().classes())?);
    shared(|s| s.maps.put(key, map.clone()));
    Ok(map)
}

/// A mask of a file, read once.
pub fn mask_file(path: &Path) -> Result<Arc<Mask>> {
    let key = Stamp::of(path)?;
    if let Some(mask) = shared(|s| s.masks.get(&key)) {
        return Ok(mask);
    }
    let mask = Arc::new(Mask::read(path)?);
    shared(|s| s.masks.put(key, mask.clone()));
    Ok(mask)
}

/// The look that is wanted, and what tells it from others.
#[derive(Clone)]
pub struct Wanted {
    pub key: u128,
    pub look: Look,
}

#[derive(Clone)]
pub enum Look {
    Style(Arc<Style>),
    Statistics(Arc<Statistics>),
}

/// The look that is wanted: taken once, and shared by all frames and instances.
pub fn wanted(
    inputs: &Inputs,
    settings: &Settings,
    loaded: &LoadedModel,
    watch: &mut Watch,
) -> Result<Wanted> {
    let mut hasher = Xxh3::new();
    hasher.update(&model_key(loaded).to_ne_bytes());
    let Settings { statistics, automatic, linear, reloads, .. } = settings;
    hasher.update(format!("{statistics} {automatic} {linear} {reloads}").as_bytes());
    let embedded = settings.model.is_none();
    let source = Source::find(inputs, settings)?;
    source.hash(&mut hasher, settings)?;
    let key = hasher.digest128();
    if let Some(known) = shared(|s| s.wanted.get(&key)) {
        return Ok(known);
    }
    let look = match source {
        Source::Clip(clip) => {
            let (frame, labels) = *clip;
            let transfer = if settings.linear { Transfer::Linear } else { Transfer::Srgb };
            let content = frame.content(transfer)?;
            let map = match labels {
                Some(labels) => Some(inputs::reference_labels(&labels, &frame, loaded)?),
                None => match labels_file(settings) {
                    Some(path) => Some(over(&*label_file(path, loaded)?, frame.width(), frame.height())),
                    None => None,
                },
            };
            take(content.view(&frame)?, map, settings, loaded, watch)?
        }
        Source::File(path) => {
            let picture = Picture::read(&path)?;
            let picture = picture.to_srgb()?.unwrap_or(picture);
            let map = match labels_file(settings) {
                Some(file) => Some(over(&*label_file(file, loaded)?, picture.width(), picture.height())),
                None => None,
            };
            take(picture.view(), map, settings, loaded, watch)?
        }
        Source::Style(path) => {
            let style = Style::open(loaded.model(), &path)?;
            match settings.statistics {
                true => Look::Statistics(Arc::new(style.statistics().clone())),
                false => Look::Style(Arc::new(style)),
            }
        }
        Source::None if !settings.statistics && loaded.model().metadata().network.mapping.is_some() => {
            let seed = settings.seed;
            Look::Style(Arc::new(loaded.run(
                "look",
                Some(&mut |share| watch.tell(share)),
                |network, _| Style::from_noise(network, seed)?.to_device(&Device::Cpu),
            )?))
        }
        Source::None if embedded => sample_look(settings, loaded, watch)?,
        Source::None => {
            return Err(Fault::failed(
                "no look is given: connect a Reference, or name a reference file or a style file",
            ));
        }
    };
    let wanted = Wanted { key, look };
    shared(|s| s.wanted.put(key, wanted.clone()));
    Ok(wanted)
}

/// Where the look comes from.
enum Source<'h> {
    /// A picture, and its labels where they are given.
    Clip(Box<(Frame<'h>, Option<Frame<'h>>)>),
    File(PathBuf),
    Style(PathBuf),
    None,
}

impl<'h> Source<'h> {
    fn find(inputs: &Inputs<'h>, settings: &Settings) -> Result<Self> {
        let time = |clip: &Clip| inputs.reference_time(clip, settings);
        if let Some(frame) = inputs.optional(REFERENCE, "Reference", time)? {
            let labels = match settings.automatic {
                true => None,
                false => inputs.optional(REFERENCE_LABELS, "Reference Labels", time)?,
            };
            return Ok(Self::Clip(Box::new((frame, labels))));
        }
        Ok(match (&settings.reference_file, &settings.style_file) {
            (Some(path), _) => Self::File(path.clone()),
            (None, Some(path)) => Self::Style(path.clone()),
            _ => Self::None,
        })
    }

    fn hash(&self, hasher: &mut Xxh3, settings: &Settings) -> Result<()> {
        match self {
            Self::File(path) | Self::Style(path) => Stamp::of(path)?.hash_into(hasher),
            Self::Clip(clip) => {
                let (frame, labels) = &**clip;
                frame.hash(hasher);
                labels.iter().for_each(|labels| labels.hash(hasher));
            }
            Self::None => hasher.update(&settings.seed.to_ne_bytes()),
        }
        if let (Some(path), true) = (labels_file(settings), !matches!(self, Self::Style(_) | Self::None)) {
            Stamp::of(path)?.hash_into(hasher);
        }
        Ok(())
    }
}

/// The file of the reference's labels, unless the labeler is to make them.
fn labels_file(settings: &Settings) -> Option<&PathBuf> {
    settings.reference_labels_file.as_ref().filter(|_| !settings.automatic)
}

/// A label map laid over a picture of another size.
fn over(map: &LabelMap, width: usize, height: usize) -> LabelMap {
    if (map.width(), map.height()) == (width, height) {
        map.clone()
    } else {
        map.resize_nearest(width, height)
    }
}

/// Takes the look of a picture under its labels, or under those that the labeler gives it.
fn take(
    picture: View,
    map: Option<LabelMap>,
    settings: &Settings,
    loaded: &LoadedModel,
    watch: &mut Watch,
) -> Result<Look> {
    LOOKS_TAKEN.fetch_add(1, Ordering::Relaxed);
    let (statistics, classes) = (settings.statistics, loaded.model().classes().len());
    Ok(loaded.run("look", Some(&mut |share| watch.tell(share)), |network, progress| {
        let map = match map {
            Some(map) => map,
            None => proposed(network, &picture, "the reference", progress.part(0.0, 0.4))?,
        };
        if statistics {
            return Ok(Look::Statistics(Arc::new(Statistics::extract(picture, &map, classes)?)));
        }
        let style = Style::extract(network, picture, &map, progress.part(0.4, 1.0))?;
        Ok(Look::Style(Arc::new(style.to_device(&Device::Cpu)?)))
    })?)
}

/// The labeler's map, or an error that says what a user of this plug-in can do.
pub fn proposed(network: &Network, picture: &View, what: &str, progress: Progress) -> Made<LabelMap> {
    if network.config().labeler.is_none() {
        return Err(Error::unsupported(format!(
            "{what} has no labels, and this model has no labeler to propose them: connect a label map, or name its file"
        )));
    }
    Ok(label(network, picture, progress)?.labels)
}

/// The look of the sample that the model inside comes with.
fn sample_look(settings: &Settings, loaded: &LoadedModel, watch: &mut Watch) -> Result<Look> {
    let decode = |bytes: &[u8]| {
        let picture =
            image::load_from_memory(bytes).map_err(|e| Fault::failed(format!("the sample: {e}")))?;
        Ok::<_, Fault>(picture.to_rgb8())
    };
    let reference = decode(include_bytes!("../../../models/sample/reference.png"))?;
    let labels = decode(include_bytes!("../../../models/sample/reference_labels.png"))?;
    let layout = |p: &image::RgbImage| {
        Layout::tight(p.width() as usize, p.height() as usize, Channels::Rgb, SampleType::U8)
    };
    let map = LabelMap::from_nearest_colors(&View::new(&labels, layout(&labels))?, loaded.model().classes())?;
    let map = over(&map, reference.width() as usize, reference.height() as usize);
    take(View::new(&reference, layout(&reference))?, Some(map), settings, loaded, watch)
}
