//! The C API from outside: programs in C and C++, built with all warnings, against the shared library of this build.
//!
//! `include/install` puts the library into a folder as a user would have it, and every program is built against that.
#![cfg(target_os = "linux")]

mod skip;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use ca2sis::image::{LabelMap, Picture, Samples};
use ca2sis::label::label;
use ca2sis::model::{self, Class, FORMAT, Metadata, Model};
use ca2sis::nn::{self, Config, LabelerSizes, Mapping, Stage};
use ca2sis::progress::Progress;
use ca2sis::restyle::{Job, Method, Statistics, restyle_to_picture};
use ca2sis::style::Style;
use candle_core::{DType, Device, Tensor};
use tempfile::TempDir;

const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The shared library of this build: cargo leaves it beside the test programs' folder or in it.
fn library() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let deps = program.parent().unwrap();
    let candidates = [deps.join("libca2sis.so"), deps.parent().unwrap().join("libca2sis.so")];
    candidates.into_iter().find(|path| path.exists()).expect("cargo builds libca2sis.so with the tests")
}

/// An installation of the library, one for all tests.
fn installed() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        run(Command::new(root().join("include/install"))
            .arg("--prefix")
            .arg(folder.path())
            .arg("--library")
            .arg(library()));
        folder
    });
    folder.path()
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success())
}

/// Compilers of C, each with its kind for C++; clang where it is installed.
fn compilers() -> Vec<[&'static str; 2]> {
    let all = [["gcc", "g++"], ["clang", "clang++"]];
    let there: Vec<_> = all.into_iter().filter(|[c, _]| *c == "gcc" || is_there(c)).collect();
    if there.len() == 1 {
        skip::skipped("clang is not installed");
    }
    there
}

/// Builds one source file of tests/ against the installation.
fn built(folder: &Path, compiler: &str, source: &Path, options: &[&str]) -> PathBuf {
    let program = folder.join(format!("{}-{compiler}", source.file_name().unwrap().to_str().unwrap()));
    run(Command::new(compiler)
        .args(WARNINGS)
        .args(options)
        .arg("-I")
        .arg(installed().join("include"))
        .arg("-I")
        .arg(root().join("tests/c"))
        .arg(source)
        .arg("-L")
        .arg(installed().join("lib"))
        .args(["-lca2sis", "-lpthread", "-lm", "-o"])
        .arg(&program));
    program
}

fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", installed().join("lib"));
    command
}

/// The smallest network with every part, or without those that can be left out: 16 x 16 pixels, two stages.
fn tiny(classes: usize, mapping: bool) -> Config {
    let stage = |up, self_attention| Stage {
        channels_in: 8,
        channels_out: 8,
        up,
        heads: 2,
        head_width: 4,
        ff_factor: 2,
        self_attention,
    };
    Config {
        classes,
        resolution: 16,
        norm_groups: 4,
        style_dim: 2,
        style_base: 1,
        style_downs: 2,
        style_scales: 2,
        mask_size: 8,
        mask_rank: None,
        base_size: 8,
        exclude_background: false,
        labeler: mapping.then(|| LabelerSizes { widths: vec![4, 8] }),
        mapping: mapping.then_some(Mapping { latent: 4, width: 8 }),
        stages: vec![stage(false, true), stage(true, false)],
    }
}

/// A model file of such a network with weights out of a seed.
fn tiny_model(path: &Path, names: &[(&str, [u8; 3], &str)], mapping: bool, seed: u32) {
    let network = tiny(names.len(), mapping);
    let mut state = seed;
    let mut uniform = || {
        // Numerical Recipes' generator; any will do.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 * 2.0 - 1.0
    };
    let tensors: BTreeMap<String, Tensor> = nn::manifest(&network)
        .unwrap()
        .into_iter()
        .map(|(name, shape)| {
            let fan_in = shape.iter().skip(1).product::<usize>() as f32;
            let values: Vec<f32> = (0..shape.iter().product::<usize>())
                .map(|_| match shape.len() {
                    1 if name.ends_with("weight") => 1.0 + 0.2 * uniform(),
                    1 => 0.1 * uniform(),
                    // Twice as strong as usual, so that styles make a difference that 8 bits show.
                    _ => 2.0 * uniform() * (3.0 / fan_in).sqrt(),
                })
                .collect();
            (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
        })
        .collect();
    let class = |(i, (name, color, group)): (usize, &(&str, [u8; 3], &str))| Class {
        index: i as u32,
        name: (*name).into(),
        color: *color,
        groups: vec![(*group).into()],
    };
    let metadata = Metadata {
        format: FORMAT,
        name: "tiny".into(),
        version: seed.to_string(),
        licence: "CC0-1.0".into(),
        authors: vec![],
        training_data: vec![],
        limits: vec!["knows nothing".into()],
        classes: names.iter().enumerate().map(class).collect(),
        network,
        bf16_db: None,
    };
    model::save(path, &metadata, &tensors, DType::F32).unwrap();
}

const COAST: [(&str, [u8; 3], &str); 3] =
    [("sky", [120, 180, 255], "air"), ("land", [80, 120, 40], "ground"), ("sea", [10, 60, 200], "water")];

/// MODEL, OTHER_MODEL and FOLDER of tests/c/misuse.c.
fn misuse_arguments(folder: &Path) -> [PathBuf; 3] {
    let [model, other] = ["model.safetensors", "other.safetensors"].map(|name| folder.join(name));
    tiny_model(&model, &COAST, true, 1);
    tiny_model(&other, &COAST, false, 2);
    [model, other, folder.to_owned()]
}

fn pam(path: &Path, width: usize, height: usize, depth: usize, samples: &[u8]) {
    let header = format!(
        "P7\nWIDTH {width}\nHEIGHT {height}\nDEPTH {depth}\nMAXVAL 255\nTUPLTYPE {}\nENDHDR\n",
        ["", "GRAYSCALE", "", "RGB"][depth]
    );
    std::fs::write(path, [header.as_bytes(), samples].concat()).unwrap();
}

/// The sample pictures as PAM files, in the order in which the programs take them, small enough for a test.
struct Sample {
    content: Picture,
    labels: LabelMap,
    reference: Picture,
    reference_labels: LabelMap,
    files: Vec<PathBuf>,
}

fn sample(folder: &Path, classes: &[Class]) -> Sample {
    let from = root().join("models/sample");
    let picture = |name: &str| {
        Picture::read(from.join(name)).unwrap().to_rgb_f32().resized(160, 120).to_picture().unwrap()
    };
    let map = |name: &str| LabelMap::read(from.join(name), classes).unwrap().resize_nearest(160, 120);
    let (content, reference) = (picture("content.png"), picture("reference.png"));
    let (labels, reference_labels) = (map("labels.png"), map("reference_labels.png"));
    let mut files = Vec::new();
    for (name, picture, labels) in
        [("content", &content, &labels), ("reference", &reference, &reference_labels)]
    {
        let Samples::U8(samples) = picture.samples() else { panic!("8 bits") };
        files.push(folder.join(format!("{name}.pam")));
        pam(files.last().unwrap(), 160, 120, 3, samples);
        files.push(folder.join(format!("{name}_labels.pam")));
        pam(files.last().unwrap(), 160, 120, 1, labels.indices());
    }
    Sample { content, labels, reference, reference_labels, files }
}

/// The samples of a PAM file of 8 bits.
fn pam_samples(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    let end = bytes.windows(7).position(|w| w == b"ENDHDR\n").expect("a PAM header") + 7;
    bytes[end..].to_vec()
}

#[test]
fn programs_find_the_library_by_its_soname_and_its_version() {
    let major = env!("CARGO_PKG_VERSION_MAJOR");
    let folder = tempfile::tempdir().unwrap();
    let source = root().join("tests/c/version.c");
    for [c, cpp] in compilers() {
        for (compiler, options) in [(c, vec!["-std=c99"]), (cpp, vec!["-std=c++17", "-xc++"])] {
            let program = built(folder.path(), compiler, &source, &options);
            let dynamic = run(Command::new("readelf").arg("-d").arg(&program));
            assert!(
                dynamic.contains(&format!("[libca2sis.so.{major}]")),
                "the program asks for the SONAME: {dynamic}"
            );
            assert_eq!(run(&mut command(&program)), format!("{} {major}\n", env!("CARGO_PKG_VERSION")));
        }
    }
}

#[test]
fn the_library_exports_its_api_and_nothing_else() {
    let symbols = run(Command::new("nm").args(["-D", "--defined-only"]).arg(library()));
    let names: Vec<&str> = symbols.lines().filter_map(|line| line.split_whitespace().last()).collect();
    let strange: Vec<_> = names.iter().filter(|name| !name.starts_with("ca2_")).collect();
    assert!(strange.is_empty(), "exported too: {strange:?}");
    let header = std::fs::read_to_string(root().join("include/ca2sis.h")).unwrap();
    for name in &names {
        assert!(header.contains(&format!("{name}(")), "{name} is exported, but not in the header");
    }
    assert!(names.len() >= 30, "{names:?}");
    let dynamic = run(Command::new("readelf").arg("-d").arg(library()));
    assert!(dynamic.contains("NODELETE"), "threads outlive a dlclose: {dynamic}");
}

#[test]
fn structs_are_laid_out_as_c_and_cpp_have_them() {
    let folder = tempfile::tempdir().unwrap();
    for [c, cpp] in compilers() {
        built(folder.path(), c, &root().join("tests/c/layout.c"), &["-std=c99"]);
        built(folder.path(), cpp, &root().join("tests/c/layout.c"), &["-std=c++17", "-xc++"]);
    }
}

/// The example programs do the job on the sample pictures, and give what the Rust API gives, bit for bit.
#[test]
fn c_and_cpp_programs_restyle_the_sample_as_rust_does() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let names: Vec<String> = (0..32).map(|i| format!("class {i}")).collect();
    let classes: Vec<_> =
        names.iter().enumerate().map(|(i, n)| (n.as_str(), [i as u8 * 8, 0, 0], "all")).collect();
    let path = folder.join("model.safetensors");
    tiny_model(&path, &classes, false, 3);
    let model = Model::open(&path).unwrap();
    let network = model.network(&Device::Cpu).unwrap();
    let sample = sample(folder, model.classes());
    let style =
        Style::extract(&network, &sample.reference, &sample.reference_labels, Progress::NONE).unwrap();
    let job = Job::new(&sample.content, &sample.labels, Method::Network { network: &network, style: &style });
    let (expected, _) = restyle_to_picture(&job, Progress::NONE).unwrap();
    let Samples::U8(expected) = expected.samples() else { panic!("8 bits") };
    let Samples::U8(before) = sample.content.samples() else { panic!("8 bits") };
    assert_ne!(expected, before, "something is to be done");
    let job = Job { method: Method::Statistics(style.statistics()), ..job };
    let (by_statistics, _) = restyle_to_picture(&job, Progress::NONE).unwrap();
    let Samples::U8(by_statistics) = by_statistics.samples() else { panic!("8 bits") };
    assert_ne!(by_statistics, expected);
    let statistics =
        Statistics::extract(&sample.reference, &sample.reference_labels, model.classes().len()).unwrap();
    assert_eq!(style.statistics(), &statistics, "a style has what the picture alone would give");

    for [c, cpp] in compilers() {
        for (compiler, source, options) in
            [(c, "restyle.c", vec!["-std=c99"]), (cpp, "restyle.cpp", vec!["-std=c++17"])]
        {
            let program = built(folder, compiler, &root().join("tests/c").join(source), &options);
            let out = folder.join(format!("{source}-{compiler}.pam"));
            run(command(&program).args(&sample.files).arg(&out).arg(&path));
            assert!(pam_samples(&out) == *expected, "{source} by {compiler} gives other pixels than Rust");
        }
        let out = folder.join("statistics.pam");
        let program = folder.join(format!("restyle.c-{c}"));
        run(command(&program).arg("--statistics").args(&sample.files).arg(&out).arg(&path));
        assert!(pam_samples(&out) == *by_statistics, "the statistics method gives other pixels than in Rust");
        // Errors are told, and nothing is written.
        let program = folder.join(format!("restyle.c-{c}"));
        let out = folder.join("none.pam");
        let failed =
            command(&program).args(&sample.files).arg(&out).arg(&path).arg("no such class").output().unwrap();
        assert!(!failed.status.success() && !out.exists());
        let said = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert!(said.contains("CA2_INVALID_ARGUMENT") && said.contains("no such class"), "{said}");
    }
}

#[test]
fn nothing_breaks_by_misuse() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = misuse_arguments(folder.path());
    for [c, _] in compilers() {
        let program = built(
            folder.path(),
            c,
            &root().join("tests/c/misuse.c"),
            &["-std=c99", "-D_POSIX_C_SOURCE=200809L"],
        );
        let said = run(command(&program).args(&arguments));
        assert!(said.ends_with(" 0 failed\n"), "{said}");
    }
    // The label map that it left there is what Rust proposes for its picture.
    let pixels = (0..24 * 17).flat_map(|i| [0, 40, 80].map(|c| (i * 7 + c) as u8)).collect();
    let picture = Picture::new(24, 17, 3, Samples::U8(pixels)).unwrap();
    let network = Model::open(&arguments[0]).unwrap().network(&Device::Cpu).unwrap();
    let proposed = label(&network, &picture.view(), Progress::NONE).unwrap();
    assert_eq!(std::fs::read(folder.path().join("proposed.bin")).unwrap(), proposed.labels.indices());
    assert!(proposed.labels.classes_present().len() > 1, "a map of one class would prove little");
}

/// The same with the C side's reads, writes and arithmetic checked; leaks of the whole program too.
#[test]
fn misuse_is_clean_under_the_sanitizers() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = misuse_arguments(folder.path());
    let options = [
        "-std=c99",
        "-D_POSIX_C_SOURCE=200809L",
        "-g",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        "-fno-omit-frame-pointer",
    ];
    let program = built(folder.path(), "gcc", &root().join("tests/c/misuse.c"), &options);
    let said = run(command(&program).args(&arguments));
    assert!(said.ends_with(" 0 failed\n"), "{said}");
}

#[test]
fn misuse_is_clean_under_valgrind() {
    if !is_there("valgrind") {
        skip::skipped("valgrind is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let arguments = misuse_arguments(folder.path());
    let options = ["-std=c99", "-D_POSIX_C_SOURCE=200809L", "-g", "-O1"];
    let program = built(folder.path(), "gcc", &root().join("tests/c/misuse.c"), &options);
    // The process-wide list of threads and devices is still reachable at the end, by design.
    let mut valgrind = command(Path::new("valgrind"));
    valgrind.args([
        "--quiet",
        "--error-exitcode=9",
        "--leak-check=full",
        "--errors-for-leak-kinds=definite",
        "--show-leak-kinds=definite",
    ]);
    let said = run(valgrind.arg(&program).args(&arguments));
    assert!(said.ends_with(" 0 failed\n"), "{said}");
}

/// A program of an earlier version, built against the header of then, runs on the library of today.
#[test]
fn clients_of_every_frozen_header_run() {
    let mut clients = 0;
    for version in std::fs::read_dir(root().join("tests/abi")).unwrap() {
        let version = version.unwrap().path();
        let folder = tempfile::tempdir().unwrap();
        let [model, _, _] = misuse_arguments(folder.path());
        // Its own header, not the installed one.
        let program = built(folder.path(), "gcc", &version.join("client.c"), &["-std=c99"]);
        assert_eq!(run(command(&program).arg(&model).arg(folder.path())), "well\n", "{version:?}");
        clients += 1;
    }
    assert!(clients >= 1);
}

/// Within a version a header only grows: every line of code of the frozen one is in the one of today, in order.
#[test]
fn the_header_keeps_all_that_was_frozen() {
    let code = |path: PathBuf| -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().map(|l| l.trim().to_owned());
        lines.filter(|l| !l.is_empty() && !l.starts_with("/*") && !l.starts_with('*')).collect()
    };
    let now = code(root().join("include/ca2sis.h"));
    let mut rest = now.iter();
    let frozen = root().join(format!("tests/abi/v{}/ca2sis.h", env!("CARGO_PKG_VERSION_MAJOR")));
    for line in code(frozen) {
        // Initialisers grow with their structs.
        let kept = line.contains("_INIT {") || rest.any(|l| *l == line);
        assert!(kept, "the header of today lacks, or has before what it had behind: {line}");
    }
}

#[test]
fn an_installed_tree_serves_pkg_config() {
    if !is_there("pkg-config") {
        return skip::skipped("pkg-config is not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    let flags = run(Command::new("pkg-config")
        .env("PKG_CONFIG_PATH", installed().join("lib/pkgconfig"))
        .args(["--cflags", "--libs", "ca2sis >= 0.1"]));
    let program = folder.path().join("restyle");
    run(Command::new("gcc")
        .args(WARNINGS)
        .arg(root().join("tests/c/restyle.c"))
        .args(flags.split_whitespace())
        .arg("-o")
        .arg(&program));
    let usage = command(&program).output().unwrap();
    assert_eq!(usage.status.code(), Some(2), "it loads, and says how it is used");
}

#[test]
fn an_installed_tree_serves_cmake() {
    if !is_there("cmake") {
        return skip::skipped("cmake is not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    let build = folder.path().join("build");
    run(Command::new("cmake")
        .arg("-S")
        .arg(root().join("tests/c"))
        .arg("-B")
        .arg(&build)
        .arg(format!("-DCMAKE_PREFIX_PATH={}", installed().display())));
    run(Command::new("cmake").arg("--build").arg(&build));
    for name in ["restyle_c", "restyle_cpp"] {
        // By the path that CMake built in, without LD_LIBRARY_PATH.
        let usage = Command::new(build.join(name)).output().unwrap();
        assert_eq!(usage.status.code(), Some(2), "{name} loads, and says how it is used");
    }
}

/// The programs in include/README.md compile without a warning.
#[test]
fn documented_programs_compile() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(root().join("include/README.md")).unwrap();
    let mut count = 0;
    for (i, block) in text.split("\n```").enumerate().filter(|(i, _)| i % 2 == 1) {
        let (language, code) = block.split_once('\n').unwrap();
        let (compiler, standard) = match language {
            "c" => ("gcc", "-std=c99"),
            "cpp" => ("g++", "-std=c++17"),
            _ => continue,
        };
        let source = folder.path().join(format!("block{i}.{language}"));
        std::fs::write(&source, code).unwrap();
        built(folder.path(), compiler, &source, &[standard]);
        count += 1;
    }
    assert!(count >= 2, "{count} programs");
}
