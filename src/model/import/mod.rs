//! Checkpoints as PyTorch writes them (`torch.save`), and the published network's among them.
//!
//! Both forms are read: the zip archive (PyTorch 1.6 and later) and the older row of pickles. A pickle is a program; here
//! it is read by a machine that only knows data and runs nothing, and that refuses by name whatever else a file wants. See
//! `torch/serialization.py` and `torch/_utils.py` for what the forms hold.

mod pickle;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use candle_core::{Device, Tensor};
use half::{bf16, f16};
use zip::ZipArchive;

use self::pickle::{Heap, TensorRef, Value, load};
use super::file::check_shapes;
use super::{Checked, Class, FORMAT, Metadata, TrainingData};
use crate::nn::{self, Config, Mapping};
use crate::progress::Progress;
use crate::{Error, Result};
pub use pickle::Element;

/// Far above any state dict's pickle: the published one has 90 kB.
const MAX_PICKLE: u64 = 64 << 20;

/// What a checkpoint says of one of its tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    pub name: String,
    pub shape: Vec<usize>,
    pub element: Element,
}

/// An open checkpoint: its description is read, its tensors are not yet.
pub struct Checkpoint {
    path: PathBuf,
    source: RefCell<Source>,
    /// Every dictionary with tensors in it, by the keys that lead to it joined with dots; the outermost is "".
    dicts: BTreeMap<String, Vec<(String, Rc<TensorRef>)>>,
}

enum Source {
    Zip {
        archive: ZipArchive<BufReader<File>>,
        root: String,
    },
    /// Where each storage's bytes begin, by key.
    Legacy {
        file: BufReader<File>,
        storages: BTreeMap<String, (u64, u64)>,
    },
}

impl Checkpoint {
    /// Opens a `.pth`, `.pt` or `.bin` file.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read; [`Error::Format`] when it is damaged, no checkpoint, or needs anything but
    /// tensors in dictionaries: the message names it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let io = |e| Error::io(path, e);
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(Error::format(path, "not a regular file"));
        }
        let mut file = BufReader::new(File::open(path).map_err(io)?);
        let mut start = [0; 4];
        let zip = match file.read_exact(&mut start) {
            Ok(()) => &start == b"PK\x03\x04",
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(Error::format(path, "no checkpoint of PyTorch: it is shorter than 4 bytes"));
            }
            Err(e) => return Err(io(e)),
        };
        file.rewind().map_err(io)?;
        let (heap, source) =
            if zip { open_zip(file) } else { open_legacy(file) }.map_err(|what| Error::format(path, what))?;
        let dicts = state_dicts(&heap);
        if dicts.is_empty() {
            return Err(Error::format(path, "a pickle without any dictionary of tensors: no state dict"));
        }
        Ok(Self { path: path.to_owned(), source: RefCell::new(source), dicts })
    }

    /// The keys of the state dicts in it: "" for one that is the whole file, "ema" or "model.generator" for nested ones.
    pub fn state_dicts(&self) -> impl Iterator<Item = &str> {
        self.dicts.keys().map(String::as_str)
    }

    /// The tensors of a state dict; none when there is no such dict.
    pub fn tensors(&self, dict: &str) -> Vec<TensorInfo> {
        let info = |(name, tensor): &(String, Rc<TensorRef>)| TensorInfo {
            name: name.clone(),
            shape: tensor.shape.clone(),
            element: tensor.storage.element,
        };
        self.dicts.get(dict).map_or(vec![], |tensors| tensors.iter().map(info).collect())
    }

    /// Reads a tensor as f32, whatever its strides.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there is none of that name; [`Error::Format`] when it reaches beyond its storage,
    /// the storage is missing or cut short, or its elements are no floating-point numbers.
    pub fn read(&self, dict: &str, name: &str) -> Result<Tensor> {
        let tensor = self
            .dicts
            .get(dict)
            .and_then(|tensors| tensors.iter().find(|(n, _)| n == name))
            .map(|(_, tensor)| tensor)
            .ok_or_else(|| {
                Error::invalid(format!("{}: no tensor {name:?} in {dict:?}", self.path.display()))
            })?;
        let values = self
            .source
            .borrow_mut()
            .values(tensor)
            .map_err(|what| Error::format(&self.path, format!("tensor {name:?}: {what}")))?;
        Ok(Tensor::from_vec(values, tensor.shape.as_slice(), &Device::Cpu)?)
    }
}

fn open_zip(file: BufReader<File>) -> Checked<(Heap, Source)> {
    let damaged = |e: &dyn std::fmt::Display| format!("no checkpoint of PyTorch, or cut short: {e}");
    let mut archive = ZipArchive::new(file).map_err(|e| damaged(&e))?;
    let names = archive.file_names().filter_map(|n| n.ok().map(|n| n.into_owned())).collect::<Vec<_>>();
    let root = match names.iter().filter_map(|n| n.strip_suffix("data.pkl")).collect::<Vec<_>>()[..] {
        [root] => root.to_owned(),
        [] => return Err("a zip archive, but no checkpoint of PyTorch: it has no data.pkl".into()),
        _ => return Err("a zip archive with several data.pkl: no checkpoint of PyTorch".into()),
    };
    if names.iter().any(|n| n.strip_prefix(&root) == Some("constants.pkl")) {
        return Err("a TorchScript archive, which holds code: save the state dict alone".into());
    }
    let order = format!("{root}byteorder");
    if names.contains(&order) && entry(&mut archive, &order, 16)? != b"little" {
        return Err("written on a big-endian machine, which is not supported".into());
    }
    let bytes = entry(&mut archive, &format!("{root}data.pkl"), MAX_PICKLE)?;
    let (heap, _) = load(&bytes)?;
    Ok((heap, Source::Zip { archive, root }))
}

/// A whole entry of at most `limit` bytes. It takes memory as its bytes arrive, not as its header says.
fn entry(archive: &mut ZipArchive<BufReader<File>>, name: &str, limit: u64) -> Checked<Vec<u8>> {
    let file = archive.by_name(name).map_err(|e| format!("{name}: {e}"))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| format!("{name}: damaged or cut short: {e}"))?;
    if bytes.len() as u64 > limit {
        return Err(format!("{name}: more than the {limit} bytes it can need"));
    }
    Ok(bytes)
}

/// The form before zip archives: a magic number, the protocol, the machine, the object and the storages' keys, each a
/// pickle; then each storage, its number of elements before its bytes.
fn open_legacy(mut file: BufReader<File>) -> Checked<(Heap, Source)> {
    // The first pickle's one value, 0x1950a86a20f9469cfc6c, with the opcodes that lead up to it.
    const MAGIC: [u8; 15] =
        [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];
    let failed = |e: std::io::Error| format!("cannot be read: {e}");
    let length = file.get_ref().metadata().map_err(failed)?.len();
    let mut bytes = Vec::new();
    file.by_ref().take(MAX_PICKLE).read_to_end(&mut bytes).map_err(failed)?;
    if !bytes.starts_with(&MAGIC) {
        let tar = bytes.get(257..262) == Some(b"ustar");
        return Err(if tar {
            "a tar archive, the form before PyTorch 0.1.10: load it with PyTorch and save it again".into()
        } else {
            "no checkpoint of PyTorch: neither a zip archive nor a row of pickles".into()
        });
    }
    let mut at = MAGIC.len();
    let mut next = |what: &str| -> Checked<Heap> {
        let (heap, length) = load(&bytes[at..]).map_err(|e| format!("{what}: {e}"))?;
        at += length;
        Ok(heap)
    };
    match next("the protocol's number")?.root {
        Value::Int(1001) => {}
        _ => return Err("a checkpoint of an unknown protocol, not 1001".into()),
    }
    let machine = next("the machine's description")?;
    let little = machine.dict(&machine.root).is_some_and(|items| {
        items.iter().any(
            |(key, value)| matches!((key, value), (Value::Text(k), Value::Bool(true)) if &**k == "little_endian"),
        )
    });
    if !little {
        return Err("written on a big-endian machine, which is not supported".into());
    }
    let heap = next("the object")?;
    let keys = next("the storages' keys")?;
    let keys = keys.list(&keys.root).ok_or("the storages' keys are no list")?;

    let mut storages = BTreeMap::new();
    let sizes: BTreeMap<_, _> = heap.storages.iter().map(|s| (s.key.clone(), s.element.size())).collect();
    let mut place = at as u64;
    for key in keys {
        let Value::Text(key) = key else { return Err("a storage's key that is no text".into()) };
        let size = *sizes.get(&**key).ok_or_else(|| format!("storage {key:?}, which no tensor uses"))?;
        file.seek(SeekFrom::Start(place)).map_err(failed)?;
        let mut count = [0; 8];
        file.read_exact(&mut count).map_err(|_| format!("cut short before storage {key:?}"))?;
        let begin = place + 8;
        let end = u64::from_le_bytes(count).checked_mul(size as u64).and_then(|n| n.checked_add(begin));
        place = match end {
            Some(end) if end <= length => end,
            _ => return Err(format!("cut short within storage {key:?}")),
        };
        storages.insert(key.to_string(), (begin, place));
    }
    Ok((heap, Source::Legacy { file, storages }))
}

/// Every dictionary with tensors by name, found from the outermost inwards.
fn state_dicts(heap: &Heap) -> BTreeMap<String, Vec<(String, Rc<TensorRef>)>> {
    let mut found = BTreeMap::new();
    let mut seen: HashSet<usize> = Heap::id(&heap.root).into_iter().collect();
    let mut queue = VecDeque::from([(String::new(), &heap.root)]);
    while let Some((key, value)) = queue.pop_front() {
        let Some(items) = heap.dict(value) else { continue };
        // The last of several items of one name counts, as in Python.
        let mut tensors = BTreeMap::new();
        for (name, value) in items {
            let name = match name {
                Value::Text(name) => name.to_string(),
                // An optimiser's numbers, say.
                Value::Int(name) => name.to_string(),
                _ => continue,
            };
            match value {
                Value::Tensor(tensor) => {
                    tensors.insert(name, tensor.clone());
                }
                Value::Node(id) if key.len() < 200 && seen.insert(*id) => {
                    let inner = if key.is_empty() { name } else { format!("{key}.{name}") };
                    queue.push_back((inner, value));
                }
                _ => {}
            }
        }
        if !tensors.is_empty() {
            found.insert(key, tensors.into_iter().collect());
        }
    }
    found
}

impl Source {
    fn values(&mut self, tensor: &TensorRef) -> Checked<Vec<f32>> {
        let storage = &tensor.storage;
        let size = storage.element.size();
        if let Element::Other(_) = storage.element {
            return Err("its elements are no floating-point numbers".into());
        }
        let overflow = || format!("a tensor of size {:?}", tensor.shape);
        let count = tensor.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(overflow)?;
        if count == 0 {
            return Ok(vec![]);
        }
        // One past the last element that the tensor sees.
        let reach = tensor
            .shape
            .iter()
            .zip(&tensor.strides)
            .try_fold(1usize, |end, (&d, &stride)| end.checked_add((d - 1).checked_mul(stride)?));
        let end = reach.and_then(|n| n.checked_add(tensor.offset)).ok_or_else(overflow)?;
        // A tensor that shows elements more than once (stride 0) could claim any size.
        if end > storage.elements || count > storage.elements {
            return Err(format!(
                "size {:?}, stride {:?} and offset {} do not fit its storage of {} elements",
                tensor.shape, tensor.strides, tensor.offset, storage.elements
            ));
        }
        // What the pickle says of a storage is no more to be trusted than what it says of tensors.
        let there = self.length(&storage.key)?;
        let claimed = storage.start.checked_add(storage.elements).and_then(|n| n.checked_mul(size));
        if claimed.is_none_or(|claimed| claimed as u64 > there) {
            return Err(format!(
                "storage {:?} is cut short: {there} bytes are there for {} elements",
                storage.key, storage.elements
            ));
        }
        let span = (end - tensor.offset) as u64 * size as u64;
        let start =
            storage.start.checked_add(tensor.offset).and_then(|n| n.checked_mul(size)).ok_or_else(overflow)?
                as u64;
        let bytes = self.bytes(&storage.key, start, span)?;
        if bytes.len() as u64 != span {
            return Err(format!(
                "storage {:?} is cut short: {} of {span} bytes are there",
                storage.key,
                bytes.len()
            ));
        }
        let element = |i: usize| -> f32 {
            let b = &bytes[i * size..][..size];
            match storage.element {
                Element::F16 => f16::from_le_bytes([b[0], b[1]]).to_f32(),
                Element::Bf16 => bf16::from_le_bytes([b[0], b[1]]).to_f32(),
                Element::F32 => f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
                _ => f64::from_le_bytes(b.try_into().expect("8 bytes")) as f32,
            }
        };
        let mut values = Vec::with_capacity(count);
        let mut index = vec![0; tensor.shape.len()];
        let mut at = 0;
        for _ in 0..count {
            values.push(element(at));
            // The next index, the last dimension fastest.
            for k in (0..index.len()).rev() {
                index[k] += 1;
                at += tensor.strides[k];
                if index[k] < tensor.shape[k] {
                    break;
                }
                at -= tensor.strides[k] * index[k];
                index[k] = 0;
            }
        }
        Ok(values)
    }

    /// How many bytes of a storage the file has.
    fn length(&mut self, key: &str) -> Checked<u64> {
        match self {
            Self::Zip { archive, root } => {
                let name = format!("{root}data/{key}");
                archive.by_name(&name).map(|file| file.size()).map_err(|e| format!("{name}: {e}"))
            }
            Self::Legacy { storages, .. } => {
                let &(begin, end) =
                    storages.get(key).ok_or_else(|| format!("storage {key:?} is not in the file"))?;
                Ok(end - begin)
            }
        }
    }

    /// At most `span` bytes of a storage from byte `start`.
    fn bytes(&mut self, key: &str, start: u64, span: u64) -> Checked<Vec<u8>> {
        let mut bytes = Vec::new();
        match self {
            Self::Zip { archive, root } => {
                let name = format!("{root}data/{key}");
                let damaged = |e: std::io::Error| format!("{name}: damaged or cut short: {e}");
                let mut file = archive.by_name(&name).map_err(|e| format!("{name}: {e}"))?;
                std::io::copy(&mut file.by_ref().take(start), &mut std::io::sink()).map_err(damaged)?;
                file.by_ref().take(span).read_to_end(&mut bytes).map_err(damaged)?;
                // To its end, where the checksum is compared.
                std::io::copy(&mut file, &mut std::io::sink()).map_err(damaged)?;
            }
            Self::Legacy { file, storages } => {
                let &(begin, end) =
                    storages.get(key).ok_or_else(|| format!("storage {key:?} is not in the file"))?;
                let damaged = |e: std::io::Error| format!("storage {key:?}: {e}");
                file.seek(SeekFrom::Start(begin + start)).map_err(damaged)?;
                file.take(span.min((end - begin).saturating_sub(start)))
                    .read_to_end(&mut bytes)
                    .map_err(damaged)?;
            }
        }
        Ok(bytes)
    }
}

/// The published network, out of a checkpoint.
#[derive(Debug)]
pub struct Imported {
    /// Widths as the tensors' shapes say, the rest as published.
    pub network: Config,
    /// By the names of [`nn`].
    pub tensors: BTreeMap<String, Tensor>,
    /// The state dict that they came from, and what stood before each name: "module.", say.
    pub dict: String,
    pub prefix: String,
    /// Other tensors of that state dict.
    pub ignored: Vec<String>,
}

/// Reads the published network from a checkpoint: widths are taken from the tensors' shapes, heads, doublings and the rest
/// of [`Config::published`] are not written in a checkpoint and taken as published.
///
/// The state dict may be the whole file or lie under keys ("ema", "model.generator"), and its names may have a prefix
/// ("module."). Where several would do, `key` chooses: a state dict's key, or the prefix of the names without its dot.
///
/// # Errors
/// Those of [`Checkpoint::open`] and [`Checkpoint::read`]; [`Error::Format`] also when no state dict is the network's, when
/// several are and `key` does not say which, and when tensors are missing, not known or misshapen: the message names them; [`Error::Cancelled`].
pub fn published(path: impl AsRef<Path>, key: Option<&str>, progress: Progress) -> Result<Imported> {
    let path = path.as_ref();
    let checkpoint = Checkpoint::open(path)?;
    let wrong = |what: String| Error::format(path, what);
    let (dict, prefix) = choose(&checkpoint, key).map_err(wrong)?;
    let mut shapes = BTreeMap::new();
    let mut ignored = Vec::new();
    for TensorInfo { name, shape, .. } in checkpoint.tensors(&dict) {
        match name.strip_prefix(&prefix) {
            Some(inner) => {
                shapes.insert(inner.to_owned(), shape);
            }
            None => ignored.push(name),
        }
    }
    let network = sizes(&shapes).map_err(wrong)?;
    let fits = || -> Checked<()> {
        network.validate().map_err(super::metadata::reason)?;
        let manifest = nn::manifest(&network).map_err(super::metadata::reason)?;
        check_shapes(&manifest, shapes.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())))
    };
    fits().map_err(wrong)?;
    let mut tensors = BTreeMap::new();
    for (i, name) in shapes.keys().enumerate() {
        progress.at(i as f32 / shapes.len() as f32)?;
        tensors.insert(name.clone(), checkpoint.read(&dict, &format!("{prefix}{name}"))?);
    }
    Ok(Imported { network, tensors, dict, prefix, ignored })
}

/// A tensor that every such network has, by which its state dict and prefix are known.
const LANDMARK: &str = "reshape_conv.weight";

fn choose(checkpoint: &Checkpoint, key: Option<&str>) -> Checked<(String, String)> {
    let mut found = Vec::new();
    for dict in checkpoint.state_dicts() {
        for tensor in checkpoint.tensors(dict) {
            if let Some(prefix) = tensor.name.strip_suffix(LANDMARK)
                && (prefix.is_empty() || prefix.ends_with('.'))
            {
                found.push((dict.to_owned(), prefix.to_owned()));
            }
        }
    }
    // "ema" names a dict of that key as well as names that begin with "ema.".
    let label = |(dict, prefix): &(String, String)| {
        let prefix = prefix.trim_end_matches('.');
        let joined = [dict.as_str(), prefix].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>();
        joined.join(".")
    };
    let all: Vec<String> = found.iter().map(label).collect();
    if let Some(key) = key {
        let index = all.iter().position(|l| l == key).or_else(|| {
            let mut under = (0..all.len()).filter(|&i| found[i].0 == key);
            under.next().filter(|_| under.next().is_none())
        });
        let known = || all.iter().map(|l| format!("{l:?}")).collect::<Vec<_>>().join(", ");
        return match index {
            Some(index) => Ok(found.swap_remove(index)),
            None if all.is_empty() => Err(none(checkpoint)),
            None => Err(format!("has no network under {key:?}; it has {}", known())),
        };
    }
    match found.len() {
        0 => Err(none(checkpoint)),
        1 => Ok(found.remove(0)),
        _ => Err(format!(
            "holds several networks: choose one with --key: {}",
            all.iter().map(|l| if l.is_empty() { "\"\"" } else { l.as_str() }).collect::<Vec<_>>().join(", ")
        )),
    }
}

fn none(checkpoint: &Checkpoint) -> String {
    let first: Vec<String> = checkpoint
        .state_dicts()
        .flat_map(|dict| checkpoint.tensors(dict))
        .take(3)
        .map(|t| format!("{:?}", t.name))
        .collect();
    format!("a checkpoint of another network: it has no {LANDMARK:?}, but {}, ...", first.join(", "))
}

/// A network's sizes from its tensors' shapes.
fn sizes(shapes: &BTreeMap<String, Vec<usize>>) -> Checked<Config> {
    let shape = |name: &str, rank: usize| match shapes.get(name) {
        Some(shape) if shape.len() == rank => Ok(shape.as_slice()),
        Some(shape) => {
            Err(format!("its sizes cannot be told: {name:?} is {shape:?}, not of {rank} dimensions"))
        }
        None => Err(format!("its sizes cannot be told: it has no {name:?}")),
    };
    let divided = |name: &str, value: usize, by: usize| {
        if by > 0 && value > 0 && value.is_multiple_of(by) {
            Ok(value / by)
        } else {
            Err(format!("its sizes cannot be told: {name:?} has {value} channels, no multiple of {by}"))
        }
    };
    let base = Config::published(2, 32, 1, true);
    let first = "style_encoder.Encoder.first_layer.0.weight";
    let classes = divided(first, shape(first, 4)?[0], base.style_base)?;
    let reshape = shape(LANDMARK, 4)?;
    let ngf = divided(LANDMARK, reshape[0], 16)?;
    let exclude_background = match classes.checked_sub(reshape[1]) {
        Some(0) => false,
        Some(1) => true,
        _ => {
            return Err(format!(
                "its sizes contradict each other: a style encoder of {classes} classes, a mask embedding of {}",
                reshape[1]
            ));
        }
    };
    let out = "style_encoder.out.out_0.0.weight";
    let style_dim = divided(out, shape(out, 3)?[0], classes)?;
    let mask = shape("encs.encs.0.weight", 2)?;
    let mapping = match shapes.get("noise_encoder.shared.0.weight").map(Vec::as_slice) {
        Some(&[width, latent]) => Some(Mapping { latent, width }),
        _ => None,
    };
    // Bounds first: the formulas multiply these.
    if classes > 255 || ngf > 256 || style_dim > 4096 {
        return Err(format!(
            "its sizes are beyond any network's: {classes} classes, ngf {ngf}, style {style_dim}"
        ));
    }
    Ok(Config {
        mask_size: mask[1].isqrt(),
        base_size: mask[0].isqrt(),
        mapping,
        ..Config::published(classes, ngf, style_dim, exclude_background)
    })
}

/// The 19 classes of CelebAMask-HQ, with the colours of its palette.
pub fn celebamask_hq() -> Vec<Class> {
    const CLASSES: [(&str, u32, &str); 19] = [
        ("background", 0x000000, ""),
        ("skin", 0xcc0000, "face"),
        ("nose", 0x4c9900, "face"),
        ("eye_g", 0xcccc00, "accessories"),
        ("l_eye", 0x3333ff, "eyes"),
        ("r_eye", 0xcc00cc, "eyes"),
        ("l_brow", 0x00ffff, "brows"),
        ("r_brow", 0xffcccc, "brows"),
        ("l_ear", 0x663300, "ears"),
        ("r_ear", 0xff0000, "ears"),
        ("mouth", 0x66cc00, "lips"),
        ("u_lip", 0xffff00, "lips"),
        ("l_lip", 0x000099, "lips"),
        ("hair", 0x0000cc, ""),
        ("hat", 0xff3399, "clothes"),
        ("ear_r", 0x00cccc, "accessories"),
        ("neck_l", 0x003300, "accessories"),
        ("neck", 0xff9933, ""),
        ("cloth", 0x00cc00, "clothes"),
    ];
    let class = |(index, (name, color, group)): (usize, (&str, u32, &str))| Class {
        index: index as u32,
        name: name.into(),
        color: [(color >> 16) as u8, (color >> 8) as u8, color as u8],
        groups: if group.is_empty() { vec![] } else { vec![group.into()] },
    };
    CLASSES.into_iter().enumerate().map(class).collect()
}

/// What is known of the published CelebAMask-HQ model, for the description of an imported file.
pub fn celebamask_hq_metadata(network: Config) -> Metadata {
    Metadata {
        format: FORMAT,
        name: "CA2-SIS CelebAMask-HQ".into(),
        version: "published".into(),
        licence: "not stated with the weights; the published code is CC BY-NC-SA".into(),
        authors: [
            "Tomaso Fontanini",
            "Claudio Ferrari",
            "Giuseppe Lisanti",
            "Massimo Bertozzi",
            "Andrea Prati",
        ]
        .map(String::from)
        .into(),
        training_data: vec![TrainingData {
            name: "CelebAMask-HQ".into(),
            licence: "non-commercial research and education only".into(),
            note: "Photographs of faces of public figures, aligned; their consent is not stated.".into(),
        }],
        limits: vec![
            "Faces that are cropped and aligned as in CelebA-HQ; nothing else was trained.".into(),
            "Not for commercial use, and not for pictures of people without their consent.".into(),
        ],
        classes: celebamask_hq(),
        network,
        bf16_db: None,
    }
}
