//! Why an action failed, in the host's terms.

use ca2sis::Error;

use crate::ofx::*;

/// A failed render.
#[derive(Debug)]
pub enum Fault {
    /// With a sentence for the user.
    Failed(String),
    /// A picture or a file that a frame is made of is not there: with a sentence for the user.
    Missing(String),
    /// Pixels of a form that was not offered.
    Format(String),
    /// Not enough memory, or not enough allowed.
    Memory(String),
    /// The host wanted it to end.
    Aborted,
    /// A call of the host failed.
    Host(OfxStatus),
}

pub type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    pub fn failed(what: impl Into<String>) -> Self {
        Self::Failed(what.into())
    }

    pub fn message(&self) -> Option<String> {
        match self {
            Self::Failed(what) | Self::Missing(what) | Self::Format(what) | Self::Memory(what) => {
                Some(what.clone())
            }
            Self::Host(status) => {
                Some(format!("the host could not hand over what a render needs (status {status})"))
            }
            Self::Aborted => None,
        }
    }

    pub fn status(&self) -> OfxStatus {
        match self {
            Self::Memory(_) => kOfxStatErrMemory,
            Self::Host(status) if *status == kOfxStatErrMemory => kOfxStatErrMemory,
            Self::Format(_) => kOfxStatErrImageFormat,
            // An unfinished picture must not pass as a finished one.
            Self::Failed(_) | Self::Missing(_) | Self::Host(_) | Self::Aborted => kOfxStatFailed,
        }
    }
}

impl From<Error> for Fault {
    fn from(e: Error) -> Self {
        match e {
            Error::Cancelled => Self::Aborted,
            Error::MemoryLimit { .. } => Self::Memory(e.to_string()),
            e => Self::Failed(e.to_string()),
        }
    }
}

/// `n` copies of `value`, or an error when there is not enough memory.
pub fn filled<T: Clone>(n: usize, value: T) -> Result<Vec<T>> {
    let mut samples = Vec::new();
    let needed = n.saturating_mul(size_of::<T>());
    samples
        .try_reserve_exact(n)
        .map_err(|_| Fault::Memory(format!("{needed} bytes of memory are not to be had")))?;
    samples.resize(n, value);
    Ok(samples)
}
