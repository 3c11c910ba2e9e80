//! Checkpoints of PyTorch: both forms are read, whatever tensors look like; nothing in them runs; no damage goes unnoticed.
//!
//! Files are written here, byte for byte as torch.save writes them; those in tests/import were written by PyTorch itself
//! (tests/import/README.md), as a check on the writer.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use ca2sis::model::import::{self, Checkpoint, Element};
use ca2sis::model::{self, Model};
use ca2sis::nn::{self, Config, golden::Formula};
use ca2sis::progress::Progress;
use candle_core::{DType, Device};
use half::{bf16, f16};

/// A tensor as a state dict has it: a view of a storage.
struct View {
    name: String,
    storage: &'static str,
    offset: u32,
    shape: Vec<u32>,
    strides: Vec<u32>,
}

struct Storage {
    class: &'static str,
    elements: u32,
    bytes: Vec<u8>,
}

fn view(name: &str, storage: &'static str, offset: u32, shape: &[u32], strides: &[u32]) -> View {
    View { name: name.into(), storage, offset, shape: shape.into(), strides: strides.into() }
}

fn floats(values: &[f32]) -> Storage {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Storage { class: "FloatStorage", elements: values.len() as u32, bytes }
}

/// Writes pickles, opcode by opcode.
#[derive(Default)]
struct Pickle(Vec<u8>);

impl Pickle {
    fn new() -> Self {
        Self(vec![0x80, 2])
    }

    fn op(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn text(self, text: &str) -> Self {
        self.op(b"X").op(&(text.len() as u32).to_le_bytes()).op(text.as_bytes())
    }

    fn int(self, value: u32) -> Self {
        self.op(b"J").op(&value.to_le_bytes())
    }

    fn global(self, module: &str, name: &str) -> Self {
        self.op(format!("c{module}\n{name}\n").as_bytes())
    }

    fn ordered_dict(self) -> Self {
        self.global("collections", "OrderedDict").op(b")R")
    }

    fn tuple(self, values: &[u32]) -> Self {
        values.iter().fold(self.op(b"("), |p, &v| p.int(v)).op(b"t")
    }

    fn storage(self, key: &str, storage: &Storage, legacy: bool) -> Self {
        let p = self.op(b"(").text("storage").global("torch", storage.class).text(key).text("cpu");
        let p = p.int(storage.elements);
        if legacy { p.op(b"NtQ") } else { p.op(b"tQ") }
    }

    fn tensor(self, view: &View, storages: &BTreeMap<&str, Storage>, legacy: bool) -> Self {
        self.global("torch._utils", "_rebuild_tensor_v2")
            .op(b"(")
            .storage(view.storage, &storages[view.storage], legacy)
            .int(view.offset)
            .tuple(&view.shape)
            .tuple(&view.strides)
            .op(&[0x89])
            .ordered_dict()
            .op(b"tR")
    }

    fn state_dict(self, views: &[View], storages: &BTreeMap<&str, Storage>, legacy: bool) -> Self {
        let p = self.ordered_dict().op(b"(");
        let p = views.iter().fold(p, |p, v| p.text(&v.name).tensor(v, storages, legacy));
        // The versions of its modules, as an attribute.
        p.op(b"u").op(b"}").text("_metadata").ordered_dict().op(b"sb")
    }

    fn stop(self) -> Vec<u8> {
        self.op(b".").0
    }
}

/// The zip form: the pickle and each storage, not compressed.
fn zip(pickle: &[u8], storages: &BTreeMap<&str, Storage>) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut entry = |name: String, bytes: &[u8]| {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    };
    entry("archive/data.pkl".into(), pickle);
    entry("archive/byteorder".into(), b"little");
    for (key, storage) in storages {
        entry(format!("archive/data/{key}"), &storage.bytes);
    }
    entry("archive/version".into(), b"3\n");
    zip.finish().unwrap().into_inner()
}

/// The older form: a row of pickles, then the storages.
fn legacy(pickle: &[u8], storages: &BTreeMap<&str, Storage>) -> Vec<u8> {
    let magic = [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];
    let protocol = Pickle::new().int(1001).stop();
    let machine = Pickle::new().op(b"}(").text("protocol_version").int(1001);
    let machine = machine.text("little_endian").op(&[0x88]).op(b"u").stop();
    let keys = storages.keys().fold(Pickle::new().op(b"]("), |p, key| p.text(key)).op(b"e").stop();
    let mut file = [&magic[..], &protocol, &machine, pickle, &keys].concat();
    for storage in storages.values() {
        file.extend(u64::from(storage.elements).to_le_bytes());
        file.extend(&storage.bytes);
    }
    file
}

/// A few tensors of every kind, in both forms.
fn sample() -> [Vec<u8>; 2] {
    let values: Vec<f32> = (0..12).map(|v| v as f32 - 3.5).collect();
    let half = |v: &f32| f16::from_f32(*v).to_le_bytes();
    let brain = |v: &f32| bf16::from_f32(*v).to_le_bytes();
    let double = |v: &f32| f64::from(*v).to_le_bytes();
    let storages = BTreeMap::from([
        ("0", floats(&values)),
        ("1", Storage { class: "HalfStorage", elements: 12, bytes: values.iter().flat_map(half).collect() }),
        (
            "2",
            Storage {
                class: "BFloat16Storage",
                elements: 12,
                bytes: values.iter().flat_map(brain).collect(),
            },
        ),
        (
            "3",
            Storage { class: "DoubleStorage", elements: 12, bytes: values.iter().flat_map(double).collect() },
        ),
        ("4", Storage { class: "LongStorage", elements: 1, bytes: vec![7; 8] }),
    ]);
    let views = [
        view("plain", "0", 0, &[3, 4], &[4, 1]),
        view("transposed", "0", 0, &[4, 3], &[1, 4]),
        view("part", "0", 5, &[2, 2], &[4, 1]),
        view("scalar", "0", 11, &[], &[]),
        view("empty", "0", 0, &[0, 4], &[4, 1]),
        view("half", "1", 0, &[12], &[1]),
        view("brain", "2", 3, &[3], &[3]),
        view("double", "3", 0, &[2, 6], &[6, 1]),
        view("counter", "4", 0, &[1], &[1]),
    ];
    let pickle = |legacy| Pickle::new().state_dict(&views, &storages, legacy).stop();
    [zip(&pickle(false), &storages), legacy(&pickle(true), &storages)]
}

fn open(bytes: &[u8]) -> ca2sis::Result<Checkpoint> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net_G.pth");
    std::fs::write(&path, bytes).unwrap();
    Checkpoint::open(path)
}

fn read(checkpoint: &Checkpoint, name: &str) -> ca2sis::Result<(Vec<usize>, Vec<f32>)> {
    let tensor = checkpoint.read("", name)?;
    Ok((tensor.dims().to_vec(), tensor.flatten_all()?.to_vec1()?))
}

#[track_caller]
fn check_sample(checkpoint: &Checkpoint) {
    let values: Vec<f32> = (0..12).map(|v| v as f32 - 3.5).collect();
    let read = |name| read(checkpoint, name).unwrap();
    assert_eq!(read("plain"), (vec![3, 4], values.clone()));
    let transposed = (0..12).map(|i| values[i % 3 * 4 + i / 3]).collect();
    assert_eq!(read("transposed"), (vec![4, 3], transposed));
    assert_eq!(read("part"), (vec![2, 2], vec![1.5, 2.5, 5.5, 6.5]));
    assert_eq!(read("scalar"), (vec![], vec![7.5]));
    assert_eq!(read("empty"), (vec![0, 4], vec![]));
    // Halves of small integers are exact in every type.
    assert_eq!(read("half"), (vec![12], values.clone()));
    assert_eq!(read("brain"), (vec![3], vec![-0.5, 2.5, 5.5]));
    assert_eq!(read("double"), (vec![2, 6], values));
    let error = checkpoint.read("", "counter").unwrap_err().to_string();
    assert!(error.contains("counter") && error.contains("floating-point"), "{error}");
}

#[test]
fn every_type_stride_and_offset_in_both_forms() {
    for bytes in sample() {
        let checkpoint = open(&bytes).unwrap();
        assert_eq!(checkpoint.state_dicts().collect::<Vec<_>>(), [""]);
        check_sample(&checkpoint);
        let half = checkpoint.tensors("").into_iter().find(|t| t.name == "half").unwrap();
        assert_eq!((half.shape, half.element), (vec![12], Element::F16));
    }
}

#[test]
fn files_that_pytorch_wrote() {
    for name in ["zip.pth", "legacy.pth"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(name);
        let checkpoint = Checkpoint::open(path).unwrap();
        assert_eq!(checkpoint.state_dicts().collect::<Vec<_>>(), ["", "ema"], "{name}");
        check_sample(&checkpoint);
        let parameter = checkpoint.read("ema", "module.weight").unwrap();
        assert_eq!(parameter.to_vec2::<f32>().unwrap(), [[0.5, -1.0], [2.0, 4.0]], "{name}");
    }
}

#[test]
fn nothing_in_a_checkpoint_is_run() {
    let folder = tempfile::tempdir().unwrap();
    let witness = folder.path().join("witness");
    let command = format!("touch {}", witness.display());
    let none = BTreeMap::new();
    for (module, name) in [("os", "system"), ("posix", "system"), ("builtins", "eval"), ("torch.hub", "load")]
    {
        let pickle = Pickle::new().global(module, name).text(&command).op(&[0x85]).op(b"R").stop();
        // Again by name on the stack, as later protocols do.
        let later =
            Pickle::new().text(module).text(name).op(&[0x93]).text(&command).op(&[0x85]).op(b"R").stop();
        for pickle in [pickle, later] {
            for bytes in [zip(&pickle, &none), legacy(&pickle, &none)] {
                let error = open(&bytes).err().unwrap().to_string();
                let reasons =
                    [&format!("{module}.{name}"), "not carried out", "net.state_dict()", "net_G.pth"];
                assert!(reasons.iter().all(|r| error.contains(*r)), "{error}");
            }
        }
    }
    // Opcodes that instantiate or import by other ways.
    for opcode in [b"i__main__\nx\n".as_slice(), b"o", &[0x92], &[0x82, 1], b"P0\n"] {
        let error = open(&zip(&Pickle::new().op(b"(").op(opcode).stop(), &none)).err().unwrap().to_string();
        assert!(error.contains("opcode") && error.contains("not carried out"), "{error}");
    }
    assert!(!witness.exists());
}

/// A pickle of one tensor "w" whose description is `edit`ed.
fn one(edit: impl FnOnce(&mut View, &mut Storage)) -> [Vec<u8>; 2] {
    let mut w = view("w", "0", 0, &[2, 2], &[2, 1]);
    let mut storage = floats(&[1.0, 2.0, 3.0, 4.0]);
    edit(&mut w, &mut storage);
    let storages = BTreeMap::from([("0", storage)]);
    let views = [w];
    let pickle = |legacy| Pickle::new().state_dict(&views, &storages, legacy).stop();
    [zip(&pickle(false), &storages), legacy(&pickle(true), &storages)]
}

#[test]
fn sizes_are_not_believed() {
    #[track_caller]
    fn refused(files: [Vec<u8>; 2], reason: &str) {
        for bytes in files {
            let error = match open(&bytes) {
                Ok(checkpoint) => read(&checkpoint, "w").unwrap_err().to_string(),
                Err(e) => e.to_string(),
            };
            assert!(error.contains(reason), "{error}");
        }
    }
    refused(one(|w, _| w.shape = vec![3, 2]), "do not fit its storage of 4 elements");
    refused(one(|w, _| w.offset = 1), "do not fit");
    refused(one(|w, _| w.offset = u32::MAX), "a tensor's offset is -1");
    refused(one(|w, _| w.strides = vec![i32::MAX as u32; 2]), "do not fit");
    // Elements seen again and again, 2^62 of them.
    refused(one(|w, _| (w.shape, w.strides) = (vec![i32::MAX as u32; 2], vec![0, 0])), "do not fit");
    refused(one(|w, _| (w.shape, w.strides) = (vec![i32::MAX as u32; 8], vec![1; 8])), "a tensor of size");
    refused(one(|w, _| w.strides = vec![1]), "2 dimensions with 1 strides");
    refused(one(|w, _| (w.shape, w.strides) = (vec![1; 9], vec![1; 9])), "9 dimensions");
    refused(one(|_, s| s.bytes.truncate(12)), "cut short");
    // A storage that says it is larger than the file.
    refused(one(|w, s| (s.elements, w.shape, w.strides) = (1 << 30, vec![1 << 30], vec![1])), "cut short");
    // One element, shown a thousand million times.
    refused(one(|w, s| (s.elements, w.shape, w.strides) = (1 << 30, vec![1 << 30], vec![0])), "cut short");
    let text = Pickle::new().op(b"X").op(&u32::MAX.to_le_bytes()).stop();
    let long = Pickle::new().op(&[0x8d]).op(&u64::MAX.to_le_bytes()).stop();
    for pickle in [text, long] {
        let error = open(&zip(&pickle, &BTreeMap::new())).err().unwrap().to_string();
        assert!(error.contains("cut short"), "{error}");
    }
}

#[test]
fn a_pickle_can_neither_nest_nor_copy_without_end() {
    // A million tuples in each other, and a list whose items are taken a thousand times over.
    let nested = Pickle::new().op(b")").op(&[0x85; 1_000_000]).stop();
    let error = open(&zip(&nested, &BTreeMap::new())).err().unwrap().to_string();
    assert!(error.contains("no state dict"), "{error}");
    let pair = Pickle::default().int(1).int(2).op(&[0x86]).0;
    let mut copies = Pickle::new().op(b"](").op(&pair.repeat(1000)).op(b"eq\0");
    for _ in 0..1000 {
        copies = copies.global("collections", "OrderedDict").op(b"h\0").op(&[0x85]).op(b"R0");
    }
    let error = open(&zip(&copies.stop(), &BTreeMap::new())).err().unwrap().to_string();
    assert!(error.contains("more items than its bytes"), "{error}");
    // A dictionary that holds itself.
    let own = Pickle::new().op(b"}q\0").text("self").op(b"h\0s").stop();
    assert!(open(&zip(&own, &BTreeMap::new())).is_err());
}

#[test]
fn damage_gives_an_error_or_tensors_but_no_panic() {
    for bytes in sample() {
        let touch = |bytes: &[u8]| {
            if let Ok(checkpoint) = open(bytes) {
                for tensor in checkpoint.tensors("") {
                    let _ = checkpoint.read("", &tensor.name);
                }
            }
        };
        for length in (0..bytes.len()).step_by(3) {
            touch(&bytes[..length]);
        }
        for i in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[i] ^= if i % 2 == 0 { 0x01 } else { 0xff };
            touch(&damaged);
        }
    }
}

#[test]
fn a_weight_that_was_changed_in_a_zip_archive_is_noticed() {
    let [bytes, _] = sample();
    let at = bytes.windows(4).position(|w| w == 7.5f32.to_le_bytes()).unwrap();
    let mut damaged = bytes.clone();
    damaged[at] ^= 1;
    let error = read(&open(&damaged).unwrap(), "plain").unwrap_err().to_string();
    assert!(error.contains("archive/data/0: damaged"), "{error}");
}

#[test]
fn foreign_files_are_refused_with_the_reason() {
    let none = BTreeMap::new();
    let mut other = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    other
        .start_file(
            "word/document.xml",
            zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored),
        )
        .unwrap();
    let other = other.finish().unwrap().into_inner();
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    for (bytes, reason) in [
        (vec![], "shorter than 4 bytes"),
        (b"\x89PNG\r\n\x1a\n".to_vec(), "neither a zip archive nor a row of pickles"),
        (other, "no data.pkl"),
        (tar, "tar archive"),
        (zip(&Pickle::new().op(b"}").stop(), &none), "no state dict"),
        (zip(&Pickle::new().int(1).stop(), &none), "no state dict"),
        (zip(b"\x80\x06.", &none), "pickle protocol 6"),
        (zip(b"", &none), "cut short"),
        (zip(b".", &none), "takes a value where there is none"),
    ] {
        let error = open(&bytes).err().unwrap().to_string();
        assert!(error.contains("net_G.pth") && error.contains(reason), "{error}");
    }
    let error = Checkpoint::open("gone.pth").err().unwrap();
    assert!(matches!(error, ca2sis::Error::Io { .. }));
}

/// The published network's tensors of the sizes of the golden case with five classes: names as published behind `prefix`.
fn published(config: &Config, prefix: &str) -> (Vec<View>, BTreeMap<&'static str, Storage>) {
    let mut views = Vec::new();
    let mut all = Vec::new();
    for (name, shape) in nn::manifest(config).unwrap() {
        let strides = (0..shape.len()).map(|i| shape[i + 1..].iter().product::<usize>() as u32).collect();
        views.push(View {
            name: format!("{prefix}{name}"),
            storage: "0",
            offset: all.len() as u32,
            shape: shape.iter().map(|&d| d as u32).collect(),
            strides,
        });
        all.extend(Formula { seed: 7 }.values(&name, &shape));
    }
    (views, BTreeMap::from([("0", floats(&all))]))
}

/// The picture of a golden case by the weights of an imported model file.
#[track_caller]
fn check_golden(model: &Path, case: &str) {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case);
    let golden = candle_core::safetensors::load(case, &Device::Cpu).unwrap();
    let model = Model::open(model).unwrap();
    let network = model.network(&Device::Cpu).unwrap();
    let onehot = |name: &str| {
        let labels = golden[name].to_dtype(DType::U32).unwrap();
        let classes = model.classes().len();
        candle_nn::encoding::one_hot(labels, classes, 1f32, 0f32).unwrap().unsqueeze(0).unwrap()
    };
    let rgb = golden["reference_rgb"].permute((1, 2, 0)).unwrap().unsqueeze(0).unwrap().contiguous().unwrap();
    let style = network.encode_style(&rgb, &onehot("reference_labels"), Progress::NONE).unwrap();
    let code = network.encode_mask(&onehot("shape_labels")).unwrap();
    let image = network.generate(&code, &style, Progress::NONE).unwrap();
    let image = image.squeeze(0).unwrap().permute((2, 0, 1)).unwrap();
    let off = (image - &golden["image"]).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
    let off = off.to_scalar::<f32>().unwrap();
    // What folded or reordered paths may err by on a picture; a wrong weight shows far above.
    assert!(off <= 1e-3, "{off}");
    eprintln!("largest difference from the golden picture: {off:.2e}");
}

#[test]
fn an_imported_checkpoint_gives_the_golden_picture() {
    let config = Config::published(5, 32, 64, false);
    let (views, storages) = published(&config, "module.");
    let pickle =
        Pickle::new().op(b"}(").text("iteration").int(3).text("ema").state_dict(&views, &storages, false);
    let folder = tempfile::tempdir().unwrap();
    let [pth, out] = ["latest_net_EMA.pth", "out.safetensors"].map(|name| folder.path().join(name));
    std::fs::write(&pth, zip(&pickle.op(b"u").stop(), &storages)).unwrap();

    let imported = import::published(&pth, None, Progress::NONE).unwrap();
    assert_eq!(imported.network, config);
    assert_eq!((imported.dict.as_str(), imported.prefix.as_str()), ("ema", "module."));
    let stop = |done| done < 0.5;
    assert!(matches!(
        import::published(&pth, Some("ema"), Progress::new(&stop)),
        Err(ca2sis::Error::Cancelled)
    ));
    let error = import::published(&pth, Some("netG"), Progress::NONE).unwrap_err().to_string();
    assert!(error.contains("no network under \"netG\"; it has \"ema.module\""), "{error}");

    let mut metadata = import::celebamask_hq_metadata(imported.network.clone());
    metadata.classes.truncate(5);
    model::save(&out, &metadata, &imported.tensors, DType::F32).unwrap();
    check_golden(&out, "five_with_background.safetensors");
}

#[test]
#[ignore = "needs PyTorch: oracle.py --export net_G.pth, and its path in CA2SIS_ORACLE_PTH"]
fn the_oracles_export_gives_the_golden_picture() {
    let pth = std::env::var_os("CA2SIS_ORACLE_PTH").expect("the path of a file by oracle.py --export");
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.safetensors");
    let imported = import::published(&pth, None, Progress::NONE).unwrap();
    for (name, tensor) in &imported.tensors {
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values, Formula { seed: 0 }.values(name, tensor.dims()), "{name}");
    }
    let metadata = import::celebamask_hq_metadata(imported.network.clone());
    model::save(&out, &metadata, &imported.tensors, DType::F32).unwrap();
    check_golden(&out, "celeba19.safetensors");
}

#[test]
fn networks_that_do_not_fit_are_refused_by_name() {
    let refused = |names: &[(&str, &[u32])], reasons: &[&str]| {
        let storages = BTreeMap::from([("0", floats(&[0.0; 1]))]);
        // Shapes alone are looked at before a weight is read.
        let views: Vec<View> = names.iter().map(|(n, s)| view(n, "0", 0, s, &vec![0; s.len()])).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net_G.pth");
        std::fs::write(&path, zip(&Pickle::new().state_dict(&views, &storages, false).stop(), &storages))
            .unwrap();
        let error = import::published(&path, None, Progress::NONE).unwrap_err().to_string();
        assert!(reasons.iter().all(|r| error.contains(r)), "{error}");
    };
    refused(&[("conv1.weight", &[64, 3, 7, 7])], &["of another network", "\"conv1.weight\""]);
    let landmark: (&str, &[u32]) = ("reshape_conv.weight", &[512, 18, 1, 1]);
    refused(&[landmark], &["style_encoder.Encoder.first_layer.0.weight"]);
    let first: (&str, &[u32]) = ("style_encoder.Encoder.first_layer.0.weight", &[76, 3, 3, 3]);
    let out: (&str, &[u32]) = ("style_encoder.out.out_0.0.weight", &[4864, 128, 1]);
    let mask: (&str, &[u32]) = ("encs.encs.0.weight", &[256, 16384]);
    refused(&[landmark, first, out, mask], &["missing:", "cross2."]);
    refused(
        &[landmark, ("style_encoder.Encoder.first_layer.0.weight", &[40, 3, 3, 3])],
        &["10 classes", "18"],
    );
    refused(&[landmark, first, out, mask, ("netD.0.weight", &[1])], &["1 not known: \"netD.0.weight\""]);
    refused(
        &[landmark, ("ema.reshape_conv.weight", &[512, 18, 1, 1])],
        &["several networks", "--key", "ema, \"\""],
    );
}

#[test]
fn the_classes_of_celebamask_hq() {
    let classes = import::celebamask_hq();
    assert_eq!(classes.len(), 19);
    assert_eq!((classes[13].name.as_str(), classes[13].color), ("hair", [0, 0, 0xcc]));
    assert_eq!((classes[18].name.as_str(), classes[18].color), ("cloth", [0, 0xcc, 0]));
    let metadata = import::celebamask_hq_metadata(Config::published(19, 32, 256, true));
    metadata.validate().unwrap();
}
