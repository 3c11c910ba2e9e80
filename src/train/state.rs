//! A run's folder: what it keeps, and how it goes on.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use super::best::Best;
use super::part::Trained;
use super::trainer::Recipe;
use crate::{Error, Result};

/// Key of the state's [`Place`] in its header.
const PLACE: &str = "place";

/// Where in a run a state belongs.
#[derive(Serialize, Deserialize)]
struct Place {
    /// Steps done.
    step: usize,
    /// Hash of what the run reads: its data and the files that its recipe names.
    data: String,
}

/// The files of a run.
pub struct RunDir(PathBuf);

impl RunDir {
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Everything that the next step depends on.
    pub fn state(&self) -> PathBuf {
        self.0.join("state.safetensors")
    }

    /// The recipe.
    pub fn options(&self) -> PathBuf {
        self.0.join("options.json")
    }

    /// The running mean of the weights as a model file.
    pub fn model(&self) -> PathBuf {
        self.0.join("model.safetensors")
    }

    /// The model of the best held-out figure so far, as a model file; none where nothing is held out.
    pub fn best(&self) -> PathBuf {
        self.0.join("best.safetensors")
    }

    /// Which that is.
    fn best_figure(&self) -> PathBuf {
        self.0.join("best.json")
    }

    /// What was spent on it so far, for a run that is to fit its time.
    fn seconds(&self) -> PathBuf {
        self.0.join("seconds.txt")
    }

    /// One JSON object a line.
    pub fn metrics(&self) -> PathBuf {
        self.0.join("metrics.jsonl")
    }

    pub fn sheet(&self, step: usize) -> PathBuf {
        self.0.join("sheets").join(format!("{step:07}.png"))
    }

    /// Makes the folders.
    pub fn create(&self) -> Result<()> {
        let sheets = self.0.join("sheets");
        std::fs::create_dir_all(&sheets).map_err(|e| Error::io(&sheets, e))
    }

    /// The recipe of the run that is here, if there is one.
    pub fn recipe(&self) -> Result<Option<Recipe>> {
        let path = self.options();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(&path, e)),
        };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|e| Error::format(&path, format!("no training recipe: {e}")))
    }

    pub fn write_recipe(&self, recipe: &Recipe) -> Result<()> {
        let text =
            serde_json::to_string_pretty(recipe).map_err(|e| Error::invalid(format!("options: {e}")))?;
        write_atomic(&self.options(), text.as_bytes())
    }

    /// The held-out figures that the run remembers: none where it keeps no best model.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] when they are damaged.
    pub fn read_best(&self) -> Result<Best> {
        let path = self.best_figure();
        if !self.best().exists() {
            return Ok(Best::default());
        }
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map_err(|e| {
                let what = format!("no held-out figures: {e}; take it away, and the best begins anew");
                Error::format(&path, what)
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Best::default()),
            Err(e) => Err(Error::io(&path, e)),
        }
    }

    pub(super) fn write_best(&self, best: &Best) -> Result<()> {
        let path = self.best_figure();
        let text = serde_json::to_string(best).map_err(|e| Error::format(&path, e.to_string()))?;
        write_atomic(&path, (text + "\n").as_bytes())
    }

    /// Saves the state; a crash in between leaves the one before.
    pub fn save(&self, trainer: &dyn Trained, data_hash: &str, spent: Duration) -> Result<()> {
        let path = self.state();
        let tensors = trainer
            .state()
            .into_iter()
            .map(|(name, tensor)| Ok((name, tensor.to_device(&Device::Cpu)?)))
            .collect::<Result<Vec<(String, Tensor)>>>()?;
        // One key: several would be written in an order that changes from run to run.
        let place = Place { step: trainer.steps_done(), data: data_hash.to_owned() };
        let place =
            serde_json::to_string(&place).map_err(|e| Error::format(&path, format!("its header: {e}")))?;
        let metadata = HashMap::from([(PLACE.to_owned(), place)]);
        let bytes = safetensors::serialize(tensors.iter().map(|(name, t)| (name, t)), Some(metadata))
            .map_err(|e| Error::format(&path, e.to_string()))?;
        write_atomic(&path, &bytes)?;
        // In a file of its own: the others depend on the steps alone, to the bit.
        write_atomic(&self.seconds(), format!("{:.1}\n", spent.as_secs_f64()).as_bytes())
    }

    /// Puts the saved state, if there is one, into `trainer`, which is fresh and of the same recipe; what was spent on it.
    ///
    /// # Errors
    /// A damaged file, tensors of other sizes, or data other than the run began with.
    pub fn load(&self, trainer: &mut dyn Trained, data_hash: &str) -> Result<Duration> {
        let path = self.state();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Duration::ZERO),
            Err(e) => return Err(Error::io(&path, e)),
        };
        let damaged =
            |e: safetensors::SafeTensorError| Error::format(&path, format!("no training state: {e}"));
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
        let place = header.metadata().as_ref().and_then(|m| m.get(PLACE));
        let place: Option<Place> = place.and_then(|json| serde_json::from_str(json).ok());
        let Place { step, data } =
            place.ok_or_else(|| Error::format(&path, "no training state: it does not say its step"))?;
        if data != data_hash {
            return Err(Error::format(
                &path,
                "the training data, or the files of --init or --perceptual, are not what this run began with; restore them, or \
                 begin a new run in another folder",
            ));
        }
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
        let wanted = trainer.state();
        for (name, place) in &wanted {
            let tensor =
                tensors.get(name).ok_or_else(|| Error::format(&path, format!("no tensor {name}")))?;
            if tensor.dims() != place.dims() || tensor.dtype() != place.dtype() {
                return Err(Error::format(
                    &path,
                    format!("tensor {name} is {:?}, not {:?}", tensor.dims(), place.dims()),
                ));
            }
            place.flatten_all()?.slice_set(&tensor.to_device(place.device())?.flatten_all()?, 0, 0)?;
        }
        trainer.set_steps_done(step);
        let seconds = std::fs::read_to_string(self.seconds()).ok().and_then(|text| text.trim().parse().ok());
        Ok(seconds.and_then(|s| Duration::try_from_secs_f64(s).ok()).unwrap_or_default())
    }
}

/// Writes a file so that `path` holds either what it held or all of `bytes`.
pub(super) fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let io = |e| Error::io(path, e);
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut options = tempfile::Builder::new();
    // A temporary file is its owner's alone unless told otherwise.
    #[cfg(unix)]
    options.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = options.tempfile_in(folder).map_err(io)?;
    file.write_all(bytes).map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|e| io(e.error))?;
    Ok(())
}
