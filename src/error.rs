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
    /// The bytes of a style are damaged, of another format version or of another model.
    #[error("style: {0}")]
    Style(String),
    /// The device is not there, or failed.
    #[error("device: {0}")]
    Device(String),
    /// A value, a form or a combination that this version, this build or this model does not offer.
    #[error("{0}")]
    Unsupported(String),
    /// The work does not fit in the memory that it was allowed.
    #[error(
        "this needs {needed} bytes of memory, but the limit is {limit}: raise the limit, or use a smaller picture"
    )]
    MemoryLimit { needed: u64, limit: u64 },
    /// A call from inside a callback of the same context, which would wait for itself.
    #[error("a callback of this context is running on this thread: call again after it has returned")]
    Busy,
    /// Training came to a value that is no finite number.
    #[error("step {step}: {what} is {value}; lower the learning rates, or leave out the loss named")]
    Diverged { step: usize, what: String, value: f64 },
    /// The work was stopped on request.
    #[error("cancelled")]
    Cancelled,
    /// A tensor operation failed: a defect of this library.
    #[error(transparent)]
    Tensor(candle_core::Error),
}

impl From<candle_core::Error> for Error {
    /// A GPU's own failure, such as memory that ran out, becomes [`Device`](Self::Device).
    fn from(error: candle_core::Error) -> Self {
        match crate::device::failure(&error) {
            Some(what) => Self::Device(what),
            None => Self::Tensor(error),
        }
    }
}

impl Error {
    pub fn invalid(what: impl Into<String>) -> Self {
        Self::InvalidArgument(what.into())
    }

    pub fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported(what.into())
    }

    pub fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub fn format(path: &Path, what: impl Into<String>) -> Self {
        Self::Format { path: path.to_owned(), what: what.into() }
    }
}
