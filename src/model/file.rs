//! The safetensors file itself: mapped, its header checked, its tensors read one at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Deref;
use std::path::Path;
use std::sync::OnceLock;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, Metadata as Header, TensorInfo};
use sha2::{Digest, Sha256};

use super::{Checked, KEY};
use crate::{Error, Result};

/// Far above any header: 255 classes with a noise mapping come to about 0.3 MB.
const MAX_HEADER: u64 = 4 << 20;

enum Bytes {
    Mapped(Mmap),
    Static(&'static [u8]),
    Owned(Vec<u8>),
}

impl Bytes {
    /// Says that this range is not needed soon, so that it need not stay in this process's memory.
    fn release(&self, range: std::ops::Range<usize>) {
        #[cfg(unix)]
        if let Self::Mapped(map) = self
            && range.len() >= 1 << 20
        {
            // SAFETY: the map is shared and read only: a dropped page is read from the file again when it is next touched.
            // It is a hint; where it fails nothing changes.
            let _ = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len())
            };
        }
        let _ = range;
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Static(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// A safetensors file whose header holds together with its length. Errors are reasons without the file's name.
pub(super) struct Weights {
    bytes: Bytes,
    header: Header,
    /// Where the tensors' bytes begin.
    data: usize,
    hash: OnceLock<String>,
}

impl Weights {
    pub fn open(path: &Path) -> Result<Self> {
        let io = |e| Error::io(path, e);
        // Before opening it: opening a pipe would wait for its writer.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(Error::format(path, "not a regular file"));
        }
        let file = File::open(path).map_err(io)?;
        // SAFETY: the map is read only and lives as long as the slices taken from it. Someone who writes into the
        // file meanwhile could change bytes under us: they are only ever read as numbers, so that wrong weights are
        // the worst of it; the header is parsed once and every offset checked. Cutting the file short would raise
        // SIGBUS, as for any mapped file; `save` replaces files by renaming and never does.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Self::parse(Bytes::Mapped(map)).map_err(|what| Error::format(path, what))
    }

    pub fn from_static(bytes: &'static [u8]) -> Checked<Self> {
        Self::parse(Bytes::Static(bytes))
    }

    pub fn from_vec(bytes: Vec<u8>) -> Checked<Self> {
        Self::parse(Bytes::Owned(bytes))
    }

    fn parse(bytes: Bytes) -> Checked<Self> {
        let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
            return Err(format!("no safetensors file: it is {} bytes long", bytes.len()));
        };
        let length = u64::from_le_bytes(*length);
        if length > rest.len() as u64 {
            return Err(format!(
                "no safetensors file, or cut short: its header would be {length} bytes long, but {} follow",
                rest.len()
            ));
        }
        if length > MAX_HEADER {
            return Err(format!("a header of {length} bytes, more than the {MAX_HEADER} a model can need"));
        }
        let (header, tensors) = rest.split_at(length as usize);
        // The parser checks that the tensors follow each other without gaps, each as long as its shape and type
        // say; not that they lie within the file.
        let header: Header =
            serde_json::from_slice(header).map_err(|e| format!("no safetensors header: {e}"))?;
        if header.data_len() != tensors.len() {
            return Err(format!(
                "damaged or cut short: its header describes {} bytes of tensors, but {} follow",
                header.data_len(),
                tensors.len()
            ));
        }
        let data = 8 + length as usize;
        Ok(Self { bytes, header, data, hash: OnceLock::new() })
    }

    /// The description of the model, as JSON.
    pub fn description(&self) -> Checked<&str> {
        let metadata = self.header.metadata().as_ref();
        metadata.and_then(|m| m.get(KEY)).map(String::as_str).ok_or_else(|| {
            format!("a safetensors file, but no model of ca2sis: its header has no metadata key {KEY:?}")
        })
    }

    /// SHA-256 of the whole file in hexadecimal.
    pub fn hash(&self) -> &str {
        self.hash.get_or_init(|| Sha256::digest(&*self.bytes).iter().map(|b| format!("{b:02x}")).collect())
    }

    /// Checks every tensor's name, shape and type against the names and shapes that the network has.
    pub fn check(&self, manifest: &BTreeMap<String, Vec<usize>>) -> Checked<()> {
        let tensors = self.header.tensors();
        check_shapes(manifest, tensors.iter().map(|(name, info)| (name.as_str(), info.shape.as_slice())))?;
        let mut other: Vec<_> = tensors
            .iter()
            .filter(|(_, info)| !matches!(info.dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32))
            .map(|(name, info)| format!("{name:?} is {}", info.dtype))
            .collect();
        other.sort();
        if other.is_empty() {
            Ok(())
        } else {
            Err(format!("weights are F16, BF16 or F32, but {}", list(&other)))
        }
    }

    pub fn contains(&self, name: &str) -> bool {
        self.header.info(name).is_some()
    }

    /// A tensor's shape and values. A NaN or an infinity is an error: it would spread over the whole picture.
    pub fn read(&self, name: &str) -> Checked<(&[usize], Vec<f32>)> {
        let TensorInfo { dtype, shape, data_offsets: (begin, end) } =
            self.header.info(name).ok_or_else(|| format!("has no tensor {name:?}"))?;
        let bytes = &self.bytes[self.data..][*begin..*end];
        let mut values = vec![0.0; shape.iter().product()];
        match dtype {
            Dtype::F32 => {
                convert(bytes, &mut values, f32::from_le_bytes, |from, to| to.copy_from_slice(from))
            }
            Dtype::F16 => {
                convert(bytes, &mut values, f16::from_le_bytes, |from, to| from.convert_to_f32_slice(to))
            }
            Dtype::BF16 => {
                convert(bytes, &mut values, bf16::from_le_bytes, |from, to| from.convert_to_f32_slice(to))
            }
            other => return Err(format!("tensor {name:?} is {other}: weights are F16, BF16 or F32")),
        }
        // In runs, which the compiler can take several of at a time.
        let finite = |run: &[f32]| run.iter().fold(true, |all, v| all & v.is_finite());
        let sound = match values.len() <= BLOCK {
            true => finite(&values),
            false => values.par_chunks(BLOCK).all(finite),
        };
        if !sound {
            let i = values.iter().position(|v| !v.is_finite()).unwrap_or_default();
            return Err(format!("tensor {name:?} holds {} at element {i}: the file is damaged", values[i]));
        }
        self.bytes.release(self.data + *begin..self.data + *end);
        Ok((shape, values))
    }

    /// Says that no weight is needed soon: reading many leaves pages of the small ones, and of what the system read ahead.
    pub fn release(&self) {
        self.bytes.release(0..self.bytes.len());
    }
}

/// Elements that one task converts.
const BLOCK: usize = 1 << 16;

/// Little-endian elements to f32, by way of a buffer, since a tensor need not be aligned in the file.
fn convert<T: Copy + Default + Send, const SIZE: usize>(
    bytes: &[u8],
    values: &mut [f32],
    element: impl Fn([u8; SIZE]) -> T + Sync,
    widen: impl Fn(&[T], &mut [f32]) + Sync,
) {
    let run = |(values, bytes): (&mut [f32], &[u8])| {
        let mut buffer = [T::default(); 1024];
        for (values, bytes) in values.chunks_mut(buffer.len()).zip(bytes.chunks(buffer.len() * SIZE)) {
            for (b, bytes) in buffer.iter_mut().zip(bytes.as_chunks().0) {
                *b = element(*bytes);
            }
            widen(&buffer[..values.len()], values);
        }
    };
    // A small tensor is not worth waking other threads for.
    if values.len() <= BLOCK {
        run((values, bytes));
    } else {
        values.par_chunks_mut(BLOCK).zip(bytes.par_chunks(BLOCK * SIZE)).for_each(run);
    }
}

/// Compares names and shapes with the manifest; the error names everything that is missing, not known or misshapen.
pub(super) fn check_shapes<'a>(
    manifest: &BTreeMap<String, Vec<usize>>,
    found: impl Iterator<Item = (&'a str, &'a [usize])>,
) -> Checked<()> {
    let found: BTreeMap<_, _> = found.collect();
    let missing: Vec<_> = manifest
        .keys()
        .filter(|name| !found.contains_key(name.as_str()))
        .map(|name| format!("{name:?}"))
        .collect();
    let (mut extra, mut misshapen) = (Vec::new(), Vec::new());
    for (name, shape) in found {
        match manifest.get(name) {
            None => extra.push(format!("{name:?}")),
            Some(right) if right != shape => misshapen.push(format!("{name:?} is {shape:?}, not {right:?}")),
            Some(_) => {}
        }
    }
    let faults: Vec<_> = [("missing", missing), ("not known", extra), ("misshapen", misshapen)]
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(fault, names)| format!("{} {fault}: {}", names.len(), list(names)))
        .collect();
    if faults.is_empty() {
        Ok(())
    } else {
        Err(format!("its tensors are not those of a network of its sizes: {}", faults.join("; ")))
    }
}

/// The first few of many.
fn list(items: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown = items[..items.len().min(SHOWN)].join(", ");
    match items.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
