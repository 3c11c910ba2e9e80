//! The path that a GPU takes, as far as a machine without one can test it.

mod skip;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use ca2sis::nn::golden::Formula;
use ca2sis::nn::{Config, LabelerSizes, Mapping, Network, Stage};
use ca2sis::progress::Progress;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Code without comments and without what follows the first tests.
fn code(path: impl AsRef<Path>) -> String {
    let text = read(path);
    let lines = text.lines().take_while(|l| !l.starts_with("#[cfg(test)]"));
    lines.map(|l| l.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Identifiers that follow `before` and are called.
fn called<'a>(code: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    code.split(before).skip(1).filter_map(|after| {
        let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
        let (name, rest) = after.split_at(end);
        (!name.is_empty() && (rest.starts_with('(') || rest.starts_with("::<"))).then_some(name)
    })
}

/// What hands tensors to the device: the network but its forms for the CPU, and the network's callers.
const SOURCES: [&str; 18] = [
    "src/nn/mod.rs",
    "src/nn/prepared/arrange.rs",
    "src/nn/prepared/tensors/mod.rs",
    "src/nn/prepared/tensors/conv.rs",
    "src/nn/prepared/tensors/encoder.rs",
    "src/nn/prepared/tensors/transformer.rs",
    "src/nn/ops.rs",
    "src/nn/layers.rs",
    "src/nn/attention.rs",
    "src/nn/generator.rs",
    "src/nn/mask_embedder.rs",
    "src/nn/style_encoder.rs",
    "src/nn/noise_mapping.rs",
    "src/nn/labeler.rs",
    "src/style.rs",
    "src/synthesis.rs",
    "src/attention.rs",
    "src/label.rs",
];

/// Folder of a dependency's source, by cargo; none with a note where cargo cannot tell.
fn source_of(name: &str) -> Option<PathBuf> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    // With all features, as candle's kernels for GPUs are of those; without, where they cannot be fetched.
    let tell = |features: &[&str]| -> Option<serde_json::Value> {
        let mut command = Command::new(&cargo);
        command.args(["metadata", "--format-version=1", "--locked"]).args(features).current_dir(root());
        serde_json::from_slice(&command.output().ok()?.stdout).ok()
    };
    let told = tell(&["--all-features"]).or_else(|| tell(&[]));
    let found = told.as_ref().and_then(|told| {
        let package = told["packages"].as_array()?.iter().find(|p| p["name"] == name)?;
        Some(Path::new(package["manifest_path"].as_str()?).parent()?.to_owned())
    });
    if found.is_none() {
        skip::skipped(format!("cargo metadata does not find the source of {name}"));
    }
    found
}

/// The rows of tests/gpu/metal.md: method, and what the Metal backend has for it.
fn table() -> BTreeMap<String, Vec<String>> {
    let text = read("tests/gpu/metal.md");
    let ticked = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        (ticked(cells[0]).remove(0), ticked(cells[2]))
    })
    .collect()
}

/// The names of `Tensor`'s methods: those written out, and those that its macros make.
fn tensor_methods(candle: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in ["src/tensor.rs", "src/tensor_cat.rs"] {
        let text = read(candle.join(file));
        names.extend(called(&text, "    pub fn ").map(str::to_owned));
        // Generic ones, `name<...>(`.
        let generic =
            text.split("    pub fn ").skip(1).filter_map(|t| Some(t.split_once(['<', '('])?.0.to_owned()));
        names.extend(generic);
        for line in text.lines().filter_map(|l| l.strip_prefix("    ")) {
            let made = line.split_once("_op!(").or_else(|| line.split_once("_op_scalar!("));
            let made = made.filter(|(makes, _)| ["unary", "binary", "broadcast_binary"].contains(makes));
            names.extend(made.and_then(|(_, rest)| Some(rest.split_once(',')?.0.to_owned())));
        }
    }
    names
}

#[test]
fn every_tensor_operation_of_the_network_is_in_the_table_of_metals() {
    let Some(candle) = source_of("candle-core") else { return };
    let methods = tensor_methods(&candle);
    // That the names were found at all.
    for known in ["matmul", "cat", "gelu_erf", "broadcast_div", "to_vec1", "argmax", "upsample_bilinear2d"] {
        assert!(methods.contains(known), "{known} is not among the methods found");
    }
    let table = table();
    let mut used = BTreeSet::new();
    for file in SOURCES {
        let code = code(file);
        for name in called(&code, ".").chain(called(&code, "Tensor::")).filter(|name| methods.contains(*name))
        {
            assert!(
                table.contains_key(name),
                "{file} uses `{name}`, which tests/gpu/metal.md does not list: see that candle's Metal backend has it in \
                 f32, f16 and bf16, and add its row"
            );
            used.insert(name.to_owned());
        }
        // Candle's layers have kernels of their own, some for the CPU and CUDA alone: but what the table lists.
        let softmax = "candle_nn::ops::softmax_last_dim";
        let code = match code.contains(softmax) && table.contains_key("softmax_last_dim") {
            true => {
                used.insert("softmax_last_dim".to_owned());
                code.replace(softmax, "")
            }
            false => code.clone(),
        };
        let layers = [
            "candle_nn::ops",
            "candle_nn::rotary_emb",
            "candle_nn::conv",
            "candle_nn::linear",
            "candle_nn::layer_norm",
        ];
        assert!(layers.iter().all(|name| !code.contains(name)), "{file} uses a layer of candle-nn");
    }
    for known in ["matmul", "gelu_erf", "index_select", "mean_keepdim", "softmax_last_dim", "to_dtype"] {
        assert!(used.contains(known), "{known} was not seen to be used");
    }
}

#[test]
fn candles_metal_backend_has_what_the_table_says_in_three_precisions() {
    let (Some(candle), Some(kernels)) = (source_of("candle-core"), source_of("candle-metal-kernels")) else {
        return;
    };
    let mut text = read(candle.join("src/metal_backend/mod.rs"));
    for file in ["unary.metal", "binary.metal", "reduce.metal", "indexing.metal"] {
        text += &read(kernels.join("src/metal_src").join(file));
    }
    let precisions = [("f32", "F32", "FLOAT"), ("f16", "F16", "HALF"), ("bf16", "BF16", "BFLOAT")];
    let table = table();
    assert!(table.len() > 40, "the table has {} rows", table.len());
    for (method, evidence) in &table {
        for wanted in evidence {
            for (small, large, word) in precisions {
                let wanted = wanted.replace("{t}", small).replace("{T}", large).replace("{W}", word);
                assert!(text.contains(&wanted), "`{method}`: candle's Metal backend has no {wanted}");
            }
        }
    }
    assert!(!text.contains("fast_sum_f64"), "the check finds what is not there");
}

/// The border of a convolution is gathered by the largest index, for which every backend gives zero.
#[test]
fn the_largest_index_gathers_zeros_on_the_cpu_and_in_cudas_kernels() {
    let x = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
    let index = Tensor::new(&[1, u32::MAX, 0], &Device::Cpu).unwrap();
    let gathered = x.index_select(&index, 0).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(gathered, [[3.0, 4.0], [0.0, 0.0], [1.0, 2.0]]);
    let Some(kernels) = source_of("candle-kernels") else { return };
    let text = read(kernels.join("src/indexing.cu"));
    let select = text.split("void index_select(").nth(1).and_then(|t| t.split("#define").next()).unwrap();
    assert!(select.contains("ids[id_i] == max_value<I>()"), "{select}");
}

/// What a GPU computes is fetched when the picture is done, and what it needs is handed to it beforehand.
#[test]
fn a_decode_on_a_gpu_neither_waits_nor_fetches() {
    let arrange = code("src/nn/prepared/arrange.rs");
    let arrange = arrange.split("impl Algebra for Tensor").nth(1).unwrap().to_owned();
    let folder = "src/nn/prepared/tensors";
    let files: Vec<_> = ["mod.rs", "conv.rs", "encoder.rs", "transformer.rs"]
        .iter()
        .map(|name| (*name, code(format!("{folder}/{name}"))))
        .chain([("arrange.rs", arrange)])
        .collect();
    assert_eq!(
        std::fs::read_dir(root().join(folder)).unwrap().count() + 1,
        files.len(),
        "a file is not looked at"
    );
    for (name, code) in &files {
        for fetched in [".to_vec", ".to_scalar", "values(", "Tensor::new("] {
            assert!(!code.contains(fetched), "{name} has {fetched}");
        }
        // By what makes a decoder or an encoder alone.
        for function in code.split("fn ").filter(|f| f.contains("from_vec(")) {
            let makers = ["constant(", "get(", "new(precision"];
            assert!(makers.iter().any(|maker| function.starts_with(maker)), "{name} hands over: {function}");
        }
        // For who asks how long each part took.
        let waits = code.matches("synchronize").count();
        assert_eq!(waits, usize::from(*name == "mod.rs"), "{name} waits");
    }
}

#[test]
fn kernels_for_the_cpu_are_called_only_where_they_apply() {
    let mut files = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() { folders.push(entry) } else { files.push(entry) }
        }
    }
    let sources = files.iter().filter(|f| f.extension().is_some_and(|e| e == "rs"));
    for file in sources {
        let name = file.strip_prefix(root()).unwrap().display().to_string();
        let code = code(file);
        let custom = ["apply_op1", "apply_op2", "apply_op3", "inplace_op"].iter().any(|op| code.contains(op));
        // The optimiser asks once, when it lays out what it keeps.
        let functions = code.split("    pub fn ");
        let mut in_place = functions.filter(|f| f.contains("inplace_op"));
        let asked = name == "src/train/optim.rs"
            && in_place.all(|f| f.contains("Gradients::Each(each) => {") || f.contains("flat.is_some() {"));
        assert!(
            !custom || asked || name == "src/nn/fused.rs" || name == "src/nn/cuda/mod.rs",
            "{name} applies a custom operation: src/nn/fused.rs and src/nn/cuda are their places"
        );
    }
    // Each operation asks before it goes to its kernel.
    let ops = code("src/nn/ops.rs");
    let (asks, bodies) = ops.split_once("\npub fn ").unwrap();
    assert!(asks.contains("if cuda::applies($x) {\n            return cuda::$operation("), "{asks}");
    assert!(asks.contains("if fused::applies($x) { fused::$operation("), "{asks}");
    assert_eq!(called(bodies, "fused::").count(), 0, "past what asks");
    let operations = bodies.matches("    at!(").count();
    assert!(operations >= 9, "{operations} operations were found");
}

/// A small network with every part, in f64 or f32.
fn network(dtype: DType) -> Network {
    let stage = |channels_in, channels_out, up, self_attention| Stage {
        channels_in,
        channels_out,
        up,
        heads: 2,
        head_width: 16,
        ff_factor: 4,
        self_attention,
    };
    let config = Config {
        resolution: 32,
        norm_groups: 4,
        style_scales: 2,
        style_downs: 2,
        mask_size: 8,
        mask_rank: None,
        base_size: 8,
        mapping: Some(Mapping { latent: 4, width: 12 }),
        labeler: Some(LabelerSizes { widths: vec![8, 8, 16] }),
        stages: vec![stage(16, 8, false, true), stage(8, 8, true, false), stage(8, 4, true, false)],
        ..Config::published(5, 8, 6, true)
    };
    let vb = VarBuilder::from_backend(Box::new(Formula { seed: 2 }), dtype, Device::Cpu);
    Network::new(&config, vb).unwrap()
}

/// f64 takes the branch that a GPU takes, and every kernel for the CPU fails on it, so that reaching one would be seen.
#[test]
fn the_whole_network_runs_without_kernels_for_the_cpu_and_gives_what_they_give() {
    let give = |dtype: DType| -> ca2sis::Result<Vec<(&'static str, Vec<f32>)>> {
        let network = network(dtype);
        let config = network.config().clone();
        let (side, classes) = (config.resolution, config.classes);
        let labels: Vec<u32> =
            (0..side * side).map(|i| ((i / side / 8 + i % side / 8) % (classes - 1)) as u32).collect();
        let labels = Tensor::from_vec(labels, (1, side, side), &Device::Cpu)?;
        let onehot = candle_nn::encoding::one_hot(labels, classes, 1f32, 0f32)?.to_dtype(dtype)?;
        let rgb: Vec<f32> = (0..side * side * 3).map(|i| (i * 7919 % 2003) as f32 / 1001.0 - 1.0).collect();
        let rgb = Tensor::from_vec(rgb, (1, side, side, 3), &Device::Cpu)?.to_dtype(dtype)?;
        let z = Tensor::new(&[[0.3f32, -1.2, 0.8, 0.1]], &Device::Cpu)?.to_dtype(dtype)?;

        let style = network.encode_style(&rgb, &onehot, Progress::NONE)?;
        let code = network.encode_mask(&onehot)?;
        let image = network.generate(&code, &style, Progress::NONE)?;
        let decoded = network.decode(&code, &style, Progress::NONE)?;
        let loss = network.attention_loss(&decoded.attention, &onehot)?;
        let all = [
            ("style", style),
            ("mask code", code),
            ("image", image),
            ("attention loss", loss),
            ("noise style", network.map_noise(&z)?),
            ("labels", network.label(&rgb)?),
        ];
        all.into_iter()
            .map(|(name, t)| Ok((name, t.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)))
            .collect()
    };
    let (plain, fused) = (give(DType::F64).unwrap(), give(DType::F32).unwrap());
    for ((name, plain), (_, fused)) in plain.iter().zip(&fused) {
        let scale = plain.iter().fold(1f32, |m, v| m.max(v.abs()));
        let worst = plain.iter().zip(fused).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        // What the forms made for the CPU are allowed on images (src/nn/golden.rs).
        assert!(worst <= 1e-3 * scale, "{name}: {worst} apart, of {scale}");
    }
}
