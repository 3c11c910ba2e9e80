//! Writing a model file.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufWriter, Write};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata as Header, TensorInfo};

use super::file::check_shapes;
use super::{KEY, Metadata};
use crate::{Error, Result, nn};

/// Writes a model file: `tensors` by name, rounded to `dtype` (f16, bf16 or f32), and `metadata`.
///
/// The same input gives the same bytes. The file is written beside `path` and renamed, so that `path` holds either
/// what it held or the whole new model. What [`Model::open`](super::Model::open) or
/// [`Model::network`](super::Model::network) would refuse is refused here: metadata that is not valid, tensors that
/// are not exactly those of `metadata.network`, values that are not finite once rounded.
pub fn save(
    path: &Path,
    metadata: &Metadata,
    tensors: &BTreeMap<String, Tensor>,
    dtype: DType,
) -> Result<()> {
    let stored = match dtype {
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::F32 => Dtype::F32,
        other => {
            return Err(Error::invalid(format!(
                "a model file holds f16, bf16 or f32, not {}",
                other.as_str()
            )));
        }
    };
    metadata.validate()?;
    let manifest = nn::manifest(&metadata.network)?;
    check_shapes(&manifest, tensors.iter().map(|(name, t)| (name.as_str(), t.dims())))
        .map_err(Error::Model)?;

    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut options = tempfile::Builder::new();
    // A temporary file is its owner's alone unless told otherwise; a model file is like any other (less the umask).
    #[cfg(unix)]
    options.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let io = |e| Error::io(path, e);
    let mut file = options.tempfile_in(folder).map_err(io)?;

    let mut out = BufWriter::new(file.as_file_mut());
    out.write_all(&header(metadata, tensors, stored)?).map_err(io)?;
    for (name, tensor) in tensors {
        let values = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        out.write_all(&encode(name, &values, stored)?).map_err(io)?;
    }
    out.flush().map_err(io)?;
    drop(out);
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|e| io(e.error))?;
    Ok(())
}

/// The header's length and the header, padded so that the tensors begin at a multiple of 8 bytes.
fn header(metadata: &Metadata, tensors: &BTreeMap<String, Tensor>, dtype: Dtype) -> Result<Vec<u8>> {
    let json = |e: serde_json::Error| Error::Model(format!("its description as JSON: {e}"));
    let description = serde_json::to_string(metadata).map_err(json)?;
    let mut end = 0;
    let infos = tensors.iter().map(|(name, tensor)| {
        let begin = end;
        end += tensor.elem_count() * dtype.bitsize() / 8;
        (name.clone(), TensorInfo { dtype, shape: tensor.dims().to_vec(), data_offsets: (begin, end) })
    });
    let header = Header::new(Some(HashMap::from([(KEY.to_string(), description)])), infos.collect())
        .map_err(|e| Error::Model(format!("its header: {e}")))?;
    let mut text = serde_json::to_vec(&header).map_err(json)?;
    text.resize(text.len().next_multiple_of(8), b' ');
    Ok([&(text.len() as u64).to_le_bytes()[..], &text].concat())
}

fn encode(name: &str, values: &[f32], dtype: Dtype) -> Result<Vec<u8>> {
    let finite = |stored: f32, i: usize| {
        if stored.is_finite() {
            return Ok(());
        }
        Err(Error::Model(format!(
            "tensor {name:?} holds {} at element {i}, which {dtype} cannot store",
            values[i]
        )))
    };
    let mut bytes = Vec::with_capacity(values.len() * dtype.bitsize() / 8);
    for (i, &v) in values.iter().enumerate() {
        match dtype {
            Dtype::F16 => {
                let v = f16::from_f32(v);
                finite(v.to_f32(), i)?;
                bytes.extend(v.to_le_bytes());
            }
            Dtype::BF16 => {
                let v = bf16::from_f32(v);
                finite(v.to_f32(), i)?;
                bytes.extend(v.to_le_bytes());
            }
            _ => {
                finite(v, i)?;
                bytes.extend(v.to_le_bytes());
            }
        }
    }
    Ok(bytes)
}
