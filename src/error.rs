//! The one error type of the crate.

use std::path::{Path, PathBuf};

pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, with what value, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller passed a value outside its documented range.
    #[error("{0}")]
    InvalidArgument(String),
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// A file is not what its place asks for: damaged, foreign, or of a form that is not supported.
    #[error("{path}: {what}", path = path.display())]
    Format { path: PathBuf, what: String },
    /// A model's description or tensors do not fit together.
    #[error("model: {0}")]
    Model(String),
    /// The device is not there, or failed.
    #[error("device: {0}")]
    Device(String),
    /// Training came to a value that is no finite number.
    #[error("step {step}: {what} is {value}; lower the learning rates, or leave out the loss named")]
    Diverged { step: usize, what: String, value: f64 },
    /// The work does not fit into the memory it was given.
    #[error("{needed} bytes of memory are needed, the limit is {limit}")]
    MemoryLimit { needed: u64, limit: u64 },
    /// The work was stopped on request.
    #[error("cancelled")]
    Cancelled,
    /// A tensor operation failed: a defect of this library unless memory ran out.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    pub fn invalid(what: impl Into<String>) -> Self {
        Self::InvalidArgument(what.into())
    }

    pub fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub fn format(path: &Path, what: impl Into<String>) -> Self {
        Self::Format { path: path.to_owned(), what: what.into() }
    }
}
