//! The model file: one safetensors file with the tensors of [`nn`](crate::nn) and a description of the model.
//!
//! Tensors have the names of the published checkpoint. The header's metadata key `ca2sis` holds [`Metadata`] as
//! JSON. Files are mapped, not read: opening one costs its header alone, whatever its size.

mod file;
pub mod import;
mod metadata;
mod save;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::{Init, VarBuilder, var_builder::SimpleBackend};

use crate::kernels;
use crate::kernels::simd::Level;
use crate::nn::{self, Network, Precision};
use crate::{Error, Result};
use file::Weights;
pub use metadata::{BF16_DB, Class, FORMAT, Metadata, TrainingData, classes_from_json};
pub use save::save;

/// Where the description stands in the header's metadata.
const KEY: &str = "ca2sis";

/// What is wrong with a file, without its name: the name is added once, at the top.
type Checked<T> = std::result::Result<T, String>;

/// A model file, open and checked. Cloning it is cheap; it never changes.
#[derive(Clone)]
pub struct Model(Arc<Inner>);

struct Inner {
    /// The file, for messages; none for a model in memory.
    path: Option<PathBuf>,
    weights: Weights,
    metadata: Metadata,
}

impl Model {
    /// Opens a model file. No tensor is read, but names, shapes and types of all are checked.
    ///
    /// The file must not be changed in place while the model is in use; replacing it (as [`save`] does) is fine.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read. [`Error::Format`] when it is damaged, no safetensors file, or no model;
    /// when its sizes are outside [`nn::Config::validate`]'s bounds; or when tensors are missing, not known,
    /// misshapen or neither f16, bf16 nor f32: the message names them.
    pub fn open(path: &Path) -> Result<Self> {
        Self::new(Weights::open(path)?, Some(path))
    }

    /// A model file in memory. Errors are those of [`Model::open`], as [`Error::Model`].
    pub fn from_bytes(bytes: &'static [u8]) -> Result<Self> {
        Self::new(Weights::from_static(bytes).map_err(Error::Model)?, None)
    }

    /// A model file in memory, kept as long as the model. Errors are those of [`Model::open`], as [`Error::Model`].
    pub fn from_vec(bytes: Vec<u8>) -> Result<Self> {
        Self::new(Weights::from_vec(bytes).map_err(Error::Model)?, None)
    }

    /// The model inside the library: `models/studio.safetensors`.
    ///
    /// # Errors
    /// [`Error::Model`] in a library built without it.
    pub fn embedded() -> Result<Self> {
        #[cfg(has_embedded_model)]
        {
            use once_cell::sync::OnceCell;
            static MODEL: OnceCell<Model> = OnceCell::new();
            static BYTES: &[u8] = include_bytes!("../../models/studio.safetensors");
            MODEL.get_or_try_init(|| Self::from_bytes(BYTES)).cloned()
        }
        #[cfg(not(has_embedded_model))]
        Err(Error::Model(
            "this build of ca2sis has no model inside (feature embed-model): name a model file (--model FILE)".into(),
        ))
    }

    fn new(weights: Weights, path: Option<&Path>) -> Result<Self> {
        let checked = || -> Checked<Metadata> {
            let metadata = Metadata::parse(weights.description()?)?;
            weights.check(&nn::manifest(&metadata.network).map_err(metadata::reason)?)?;
            Ok(metadata)
        };
        let metadata = checked().map_err(|what| fault(path, what))?;
        Ok(Self(Arc::new(Inner { path: path.map(Path::to_owned), weights, metadata })))
    }

    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    /// The classes, by index.
    pub fn classes(&self) -> &[Class] {
        &self.0.metadata.classes
    }

    /// The file, where the model was not in memory.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// Whether both are one open file; two openings of equal files are not, but have the same [`hash`](Self::hash).
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// SHA-256 of the file in hexadecimal: 64 digits. Computed at the first call, which reads the whole file.
    pub fn hash(&self) -> &str {
        self.0.weights.hash()
    }

    /// The precision for `device` where none is asked for: bf16 if this model says that its pictures hold in it
    /// ([`Metadata::bf16_db`]) and the device has it, else f32. On Intel's CPUs without AMX, where bf16 is slower, it is for who asks.
    pub fn precision(&self, device: &Device) -> Precision {
        let holds = self.metadata().bf16_db.is_some_and(|db| db >= BF16_DB);
        let pays = Precision::Bf16.check(device).is_ok() && (!device.is_cpu() || Level::bf16_pays());
        if holds && pays { Precision::Bf16 } else { Precision::F32 }
    }

    /// Reads every weight, and finds those that are no finite numbers.
    ///
    /// # Errors
    /// [`Error::Format`] or [`Error::Model`] naming the tensor.
    pub fn check(&self) -> Result<()> {
        let Inner { metadata, weights, path, .. } = &*self.0;
        for name in nn::manifest(&metadata.network)?.keys() {
            weights.read(name).map_err(|what| fault(path.as_deref(), what))?;
        }
        weights.release();
        Ok(())
    }

    /// Builds the network on `device` with the weights as f32; those of the noise mapping are read when it is first used. It is in
    /// f32: [`precision`](Self::precision) says whether the model asks for less.
    ///
    /// # Errors
    /// [`Error::Format`] or [`Error::Model`] naming the tensor when a weight is NaN or infinite; [`Error::Tensor`]
    /// when the device fails.
    pub fn network(&self, device: &Device) -> Result<Network> {
        // Starts as many as the environment says, before reading the weights starts rayon's own number.
        kernels::threads();
        let damage = Arc::new(OnceLock::new());
        let reader = Reader { model: self.0.clone(), damage: damage.clone() };
        let vb = VarBuilder::from_backend(Box::new(reader), DType::F32, device.clone());
        let network = Network::lazy(&self.0.metadata.network, vb);
        // What is read later comes from the file again.
        self.0.weights.release();
        match damage.get() {
            Some(what) => Err(fault(self.0.path.as_deref(), String::clone(what))),
            None => network,
        }
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("path", &self.0.path)
            .field("name", &self.0.metadata.name)
            .finish_non_exhaustive()
    }
}

fn fault(path: Option<&Path>, what: String) -> Error {
    match path {
        Some(path) => Error::format(path, what),
        None => Error::Model(what),
    }
}

/// Hands tensors to the network as it asks for them, so that no second copy of all weights exists.
struct Reader {
    model: Arc<Inner>,
    /// The file's fault, if there is one: candle's error type would make a failed operation of it.
    damage: Arc<OnceLock<String>>,
}

impl SimpleBackend for Reader {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let tensor = self.get_unchecked(name, dtype, device)?;
        if tensor.shape() != &shape {
            candle_core::bail!("{name:?} is {:?}, not {:?}", tensor.dims(), shape.dims());
        }
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        let (shape, values) = self.model.weights.read(name).map_err(|what| {
            let what = self.damage.get_or_init(|| what);
            candle_core::Error::Msg(what.clone())
        })?;
        Tensor::from_vec(values, shape, device)?.to_dtype(dtype)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.model.weights.contains(name)
    }
}
