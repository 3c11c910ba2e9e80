//! The command as its users meet it: the built binary, on small pictures and a network of a few kilobytes.

mod skip;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ca2sis::image::{LabelMap, Mask, Orientation, Picture, Resolution, Samples};
use ca2sis::model::{self, Class, FORMAT, Metadata, TrainingData};
use ca2sis::nn::{self, Config, LabelerSizes, Mapping, Precision, Stage, golden::Formula};
use ca2sis::record::{Record, pixel_hash};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use tempfile::TempDir;

fn config() -> Config {
    let stage = |channels_in, channels_out, up, self_attention| Stage {
        channels_in,
        channels_out,
        up,
        heads: 2,
        head_width: 4,
        ff_factor: 2,
        self_attention,
    };
    Config {
        classes: 3,
        resolution: 16,
        norm_groups: 2,
        style_dim: 4,
        style_base: 2,
        style_downs: 2,
        style_scales: 2,
        mask_size: 8,
        mask_rank: None,
        base_size: 8,
        exclude_background: false,
        mapping: None,
        labeler: None,
        stages: vec![stage(8, 8, false, true), stage(8, 4, true, false)],
    }
}

fn classes() -> Vec<Class> {
    [("backdrop", [10, 20, 30]), ("body", [200, 40, 40]), ("cap", [40, 40, 200])]
        .into_iter()
        .enumerate()
        .map(|(i, (name, color))| Class { index: i as u32, name: name.into(), color, groups: vec![] })
        .collect()
}

/// A model whose weights are a formula of `seed`.
fn write_model(path: &Path, seed: u64) {
    write_model_of(config(), path, seed);
}

/// One with every part, also those that can be left out.
fn write_whole_model(path: &Path, seed: u64) {
    let mapping = Some(Mapping { latent: 4, width: 8 });
    let labeler = Some(LabelerSizes { widths: vec![4, 8] });
    write_model_of(Config { mapping, labeler, ..config() }, path, seed);
}

/// One whose labeler gives each class `weight` times the same score, and besides one of its own.
fn write_labeler_model(path: &Path, weight: f32, own: [f32; 3]) {
    let labeler = Some(LabelerSizes { widths: vec![4, 8] });
    write_model_of(Config { labeler, ..config() }, path, 3);
    let metadata = model::Model::open(path).unwrap().metadata().clone();
    let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let mut tensors: BTreeMap<_, _> = tensors.into_iter().collect();
    let weights = tensors["labeler.head.weight"].zeros_like().unwrap();
    tensors.insert("labeler.head.weight".into(), (weights + f64::from(weight)).unwrap());
    let own = Tensor::new(&own, &Device::Cpu).unwrap();
    assert!(tensors.insert("labeler.head.bias".into(), own).is_some());
    model::save(path, &metadata, &tensors, DType::F32).unwrap();
}

fn write_model_of(network: Config, path: &Path, seed: u64) {
    let manifest = nn::manifest(&network).unwrap();
    let metadata = Metadata {
        format: FORMAT,
        name: "tiny".into(),
        version: "1".into(),
        licence: "CC0-1.0".into(),
        authors: vec!["A. Author".into()],
        training_data: vec![TrainingData {
            name: "none".into(),
            licence: "CC0-1.0".into(),
            note: String::new(),
        }],
        limits: vec!["makes no picture".into()],
        classes: classes(),
        network,
        bf16_db: None,
    };
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let values = Formula { seed }.values(&name, &shape);
        (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
    };
    let tensors: BTreeMap<_, _> = manifest.into_iter().map(tensor).collect();
    model::save(path, &metadata, &tensors, DType::F32).unwrap();
}

const WIDTH: usize = 40;
const HEIGHT: usize = 28;

/// An upright bar of class 1 and a box of class 2.
fn label(x: usize, y: usize) -> u8 {
    match (x, y) {
        (8..18, _) => 1,
        (24.., 10..) => 2,
        _ => 0,
    }
}

fn labels() -> LabelMap {
    LabelMap::new(WIDTH, HEIGHT, (0..WIDTH * HEIGHT).map(|i| label(i % WIDTH, i / WIDTH)).collect()).unwrap()
}

/// A picture with a colour a class and some texture.
fn picture(look: usize) -> Picture {
    let sample = |i: usize| {
        let (pixel, channel) = (i / 3, i % 3);
        let (x, y) = (pixel % WIDTH, pixel / WIDTH);
        (usize::from(label(x, y)) * 83 + look * 47 + channel * 61 + (x * 7 + y * 3) % 11) as u8
    };
    Picture::new(WIDTH, HEIGHT, 3, Samples::U8((0..WIDTH * HEIGHT * 3).map(sample).collect())).unwrap()
}

/// A folder with the files that the manual page's commands name.
struct Desk(TempDir);

struct Done {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Done {
    #[track_caller]
    fn quietly(self) {
        assert_eq!((self.code, self.stdout.as_str(), self.stderr.as_str()), (Some(0), "", ""));
    }

    #[track_caller]
    fn fails(self, code: i32, reasons: &[&str]) {
        let Self { code: found, stderr, .. } = self;
        assert_eq!(found, Some(code), "{stderr}");
        for reason in reasons {
            assert!(stderr.contains(reason), "{reason:?} is not in {stderr:?}");
        }
        assert!(!stderr.contains("panicked"), "{stderr}");
    }

    /// The objects on stdout, one a line.
    #[track_caller]
    fn json(&self) -> Vec<Value> {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout.lines().map(|l| serde_json::from_str(l).expect(l)).collect()
    }
}

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        for folder in ["shots", "maps"] {
            fs::create_dir(desk.at(folder)).unwrap();
        }
        write_model(&desk.at("tiny.safetensors"), 3);
        picture(0).write(desk.at("photo.png")).unwrap();
        picture(4).write(desk.at("look.png")).unwrap();
        for name in ["photo_labels.png", "look_labels.png", "maps/a.png", "maps/b.png"] {
            labels().write_png(desk.at(name), &classes()).unwrap();
        }
        picture(1).write(desk.at("shots/a.png")).unwrap();
        picture(2).write(desk.at("shots/b.png")).unwrap();
        let mask = (0..WIDTH * HEIGHT).map(|i| if i % WIDTH < WIDTH / 2 { 255 } else { 0 }).collect();
        Picture::new(WIDTH, HEIGHT, 1, Samples::U8(mask)).unwrap().write(desk.at("mask.png")).unwrap();
        let page = fs::read_to_string(page()).unwrap();
        let csv = page.split("```csv\n").nth(1).unwrap().split("```").next().unwrap();
        fs::write(desk.at("jobs.csv"), csv).unwrap();
        desk
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ca2sis"));
        command.args(args).current_dir(self.0.path()).env("CA2SIS_MODEL", self.at("tiny.safetensors"));
        command
    }

    fn run(&self, args: &[&str]) -> Done {
        let output = self.command(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Done { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// `ca2sis restyle` of the photograph with more arguments.
    fn restyle(&self, more: &[&str]) -> Done {
        let first = ["restyle", "photo.png", "--labels", "photo_labels.png"];
        self.run(&[&first, &LOOK, more].concat())
    }

    fn read(&self, name: &str) -> Picture {
        Picture::read(self.at(name)).unwrap()
    }

    /// Names in a folder, sorted.
    fn list(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at(folder)).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

const LOOK: [&str; 4] = ["--reference", "look.png", "--reference-labels", "look_labels.png"];

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/ca2sis/README.md")
}

fn bytes(picture: &Picture) -> Vec<u8> {
    match picture.samples() {
        Samples::U8(v) => v.clone(),
        other => panic!("{} samples", other.len()),
    }
}

#[test]
fn every_command_of_the_manual_page_works() {
    let page = fs::read_to_string(page()).unwrap();
    let desk = Desk::new();
    let folder = Path::new(env!("CARGO_BIN_EXE_ca2sis")).parent().unwrap();
    let path = std::env::join_paths(
        [folder.to_owned()].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let blocks = page.split("```sh\n").skip(1).map(|b| b.split("```").next().unwrap());
    let mut count = 0;
    for line in blocks.flat_map(str::lines) {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).current_dir(desk.0.path()).env("PATH", path.as_ref().unwrap());
        shell.env("CA2SIS_MODEL", desk.at("tiny.safetensors"));
        if line.starts_with("ca2sis demo") {
            // Its pictures are of the shipped model's classes.
            if ca2sis::model::Model::embedded().is_err() {
                eprintln!("not run, as this build has no model inside: {line}");
                continue;
            }
            shell.env_remove("CA2SIS_MODEL");
        }
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
        count += 1;
    }
    assert!(count >= 17, "{count} commands");
    assert_eq!(
        desk.list("results"),
        [
            "a.png",
            "a.png.json",
            "a_warm.tiff",
            "a_warm.tiff.json",
            "b.png",
            "b.png.json",
            "b_warm.tiff",
            "b_warm.tiff.json"
        ]
    );
    assert_eq!(desk.list("listed"), ["a.png", "a.png.json"]);
    assert!(desk.at("b_at_three_quarters.png").exists());
    assert_eq!(bytes(&desk.read("licensed.png")), bytes(&desk.read("again.png")));
    assert_eq!(bytes(&desk.read("licensed.png")), bytes(&desk.read("again.webp")));
    assert_eq!(desk.list("attention"), ["000 backdrop.png", "001 body.png", "002 cap.png"]);
    let table: Vec<&str> = page.lines().filter_map(|l| l.strip_prefix("| ")?.split(" |").next()).collect();
    let help = desk.run(&["--help"]).stdout;
    for code in ["0", "1", "2", "3", "4", "130"] {
        assert!(table.contains(&code) && help.contains(&format!("\n  {code:3}  ")), "exit code {code}");
    }
}

#[test]
fn a_result_changes_what_was_asked_and_nothing_else_and_says_nothing() {
    let desk = Desk::new();
    desk.restyle(&["--classes", "body", "-o", "out.png"]).quietly();
    let (before, after) = (bytes(&picture(0)), bytes(&desk.read("out.png")));
    let changed = |i: usize| before[3 * i..3 * i + 3] != after[3 * i..3 * i + 3];
    let of = |class: u8| (0..WIDTH * HEIGHT).filter(move |i| label(i % WIDTH, i / WIDTH) == class);
    assert!(of(1).filter(|&i| changed(i)).count() > 100, "the class that was asked for");
    assert!(!of(0).any(changed) && !of(2).any(changed), "the others");
    assert_eq!(desk.restyle(&["--strength", "0", "-o", "same.png"]).code, Some(0));
    assert_eq!(bytes(&desk.read("same.png")), before);
}

#[test]
fn a_record_says_how_a_result_was_made_beside_it_and_inside_it() {
    let desk = Desk::new();
    fs::create_dir(desk.at("deep")).unwrap();
    desk.restyle(&[
        "--classes=body=0.5,cap",
        "--mask=mask.png",
        "--rights",
        "me & <you>",
        "-o",
        "deep/out.png",
    ])
    .quietly();
    let sidecar = Record::read(desk.at("deep/out.png.json")).unwrap();
    let inside = Record::read(desk.at("deep/out.png")).unwrap();
    assert_eq!(inside, sidecar.without_folders());
    assert_eq!(sidecar.inputs["labels"].file, Path::new("../photo_labels.png"));
    assert_eq!(inside.inputs["labels"].file, Path::new("photo_labels.png"));
    let hash = |name: &str| ca2sis::record::file_hash(&desk.at(name)).unwrap();
    for (option, file) in [
        ("content", "photo.png"),
        ("labels", "photo_labels.png"),
        ("mask", "mask.png"),
        ("reference", "look.png"),
        ("reference-labels", "look_labels.png"),
    ] {
        assert_eq!(sidecar.inputs[option].sha256, hash(file), "{option}");
    }
    assert_eq!(sidecar.options["classes"], ["body=0.5", "cap"]);
    assert_eq!(sidecar.options["strength"], ["1"], "options that were not given, too");
    assert_eq!(sidecar.rights.as_deref(), Some("me & <you>"));
    assert_eq!((sidecar.model.sha256, sidecar.model.name.as_str()), (hash("tiny.safetensors"), "tiny"));
    assert_eq!((sidecar.ca2sis.as_str(), sidecar.device.as_str()), (env!("CARGO_PKG_VERSION"), "cpu"));
    assert_eq!(sidecar.output.pixels, pixel_hash(&desk.read("deep/out.png")));

    // The packet in every format, word for word the same but for the output's name.
    for (name, term) in [("deep/out.png", true), ("x.jpg", true), ("x.tiff", true), ("x.webp", true)] {
        if name.starts_with('x') {
            assert_eq!(desk.restyle(&["-o", name]).code, Some(0));
        }
        let file = fs::read(desk.at(name)).unwrap();
        let text = String::from_utf8_lossy(&file);
        let uri = "digitalsourcetype/compositeWithTrainedAlgorithmicMedia";
        assert_eq!(text.contains("W5M0MpCehiHzreSzNTczkc9d") && text.contains(uri), term, "{name}");
    }
    assert_eq!(
        desk.run(&[&["synthesize", "--labels", "photo_labels.png", "-o", "made.png"][..], &LOOK].concat())
            .code,
        Some(0)
    );
    let made = fs::read(desk.at("made.png")).unwrap();
    assert!(String::from_utf8_lossy(&made).contains("digitalsourcetype/trainedAlgorithmicMedia"));

    for (place, beside, within) in
        [("none", false, false), ("sidecar", true, false), ("picture", false, true)]
    {
        let name = format!("{place}.png");
        desk.restyle(&["--record", place, "-o", &name]).quietly();
        assert_eq!(desk.at(&format!("{name}.json")).exists(), beside, "{place}");
        assert_eq!(Record::read(desk.at(&name)).is_ok(), within, "{place}");
    }
}

#[test]
fn the_same_job_writes_the_same_files() {
    let desk = Desk::new();
    let mut files = Vec::new();
    for _ in 0..2 {
        desk.restyle(&["-o", "out.png"]).quietly();
        files.push(["out.png", "out.png.json"].map(|name| fs::read(desk.at(name)).unwrap()));
    }
    assert!(files[0] == files[1]);
}

#[test]
fn a_record_is_made_again_bit_for_bit_or_refused() {
    let desk = Desk::new();
    desk.restyle(&["--classes", "cap,body=0.3", "--strength", "0.9", "-o", "out.png"]).quietly();
    for (from, to) in [("out.png.json", "1.png"), ("out.png", "2.png")] {
        desk.run(&["restyle", "--from-record", from, "-o", to]).quietly();
        assert_eq!(bytes(&desk.read(to)), bytes(&desk.read("out.png")), "{from}");
    }
    // Not over what it is compared with.
    let before = fs::read(desk.at("out.png")).unwrap();
    for from in ["out.png.json", "out.png"] {
        desk.run(&["restyle", "--from-record", from, "-o", "out.png"]).fails(2, &["is an input"]);
    }
    assert_eq!(fs::read(desk.at("out.png")).unwrap(), before);
    // From another folder.
    fs::create_dir(desk.at("elsewhere")).unwrap();
    let mut command = desk.command(&["restyle", "--from-record", "../out.png.json", "-o", "3.png"]);
    assert!(command.current_dir(desk.at("elsewhere")).status().unwrap().success());
    assert_eq!(bytes(&desk.read("elsewhere/3.png")), bytes(&desk.read("out.png")));

    let again = |more: &[&str]| {
        desk.run(&[&["restyle", "--from-record", "out.png.json", "-o", "4.png"], more].concat())
    };
    write_model(&desk.at("other.safetensors"), 4);
    again(&["--model", "other.safetensors"]).fails(3, &["name the right one with --model"]);
    again(&["--classes", "cap"]).fails(2, &["--classes"]);

    let text = fs::read_to_string(desk.at("out.png.json")).unwrap();
    let record: Record = serde_json::from_str(&text).unwrap();
    let forged = text.replace(&record.output.pixels, &"0".repeat(64));
    fs::write(desk.at("forged.json"), forged).unwrap();
    let done = desk.run(&["restyle", "--from-record", "forged.json", "-o", "5.png"]);
    done.fails(1, &["5.png: the pixels are not those of the record"]);

    picture(5).write(desk.at("look.png")).unwrap();
    again(&[]).fails(3, &["look.png is not the reference that it was made from", "SHA-256"]);
    assert!(!desk.at("4.png").exists());
    fs::remove_file(desk.at("look.png")).unwrap();
    again(&[]).fails(3, &["look.png", "No such file"]);

    for (name, content, reason) in [
        ("photo.png", None, "without a record"),
        ("a.json", Some("{}"), "no record of ca2sis"),
        ("b.json", Some("{\"format\": 2}"), "format 2"),
        ("c.json", Some("\u{0}"), "no record of ca2sis"),
    ] {
        if let Some(content) = content {
            fs::write(desk.at(name), content).unwrap();
        }
        desk.run(&["restyle", "--from-record", name, "-o", "6.png"]).fails(3, &[name, reason]);
    }
    // What the record says cannot be said otherwise.
    for option in
        [["--strength", "0.5"], ["--coupling", "1"], ["--method", "statistics"], ["--rights", "mine"]]
    {
        let again = ["restyle", "--from-record", "c.json", "-o", "7.png"];
        desk.run(&[&again[..], &option].concat()).fails(2, &[option[0], "--from-record"]);
    }
}

#[test]
fn a_job_that_fails_does_not_stop_the_others() {
    let desk = Desk::new();
    fs::write(desk.at("shots/aa.png"), "no picture").unwrap();
    let contents =
        ["restyle", "shots/a.png", "shots/aa.png", "shots/b.png", "--labels", "maps/a.png", "-o", "out/"];
    desk.run(&[&contents[..], &LOOK].concat()).fails(1, &["shots/aa.png: not a PNG", "1 of 3 jobs failed"]);
    assert_eq!(desk.list("out"), ["a.png", "a.png.json", "b.png", "b.png.json"]);
}

/// `head` ends when it has its line; the work that it was told of does not.
#[test]
fn results_are_made_though_nobody_reads_what_is_said_of_them() {
    let desk = Desk::new();
    let args = ["--json", "restyle", "shots/a.png", "shots/b.png", "--labels", "maps/a.png", "-o", "out/"];
    let mut child = desk
        .command(&[&args[..], &LOOK].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let done = child.wait_with_output().unwrap();
    assert_eq!((done.status.code(), String::from_utf8_lossy(&done.stderr).as_ref()), (Some(0), ""));
    assert_eq!(desk.list("out"), ["a.png", "a.png.json", "b.png", "b.png.json"]);
}

/// `a.png` and `a.jpg` have one name for their maps of confidence.
#[test]
fn two_jobs_with_one_heat_map_are_refused() {
    let desk = Desk::new();
    fs::copy(desk.at("shots/a.png"), desk.at("shots/a.jpg")).unwrap();
    let args =
        ["restyle", "shots/a.png", "shots/a.jpg", "--labels", "maps/a.png", "-o", "out/", "--confidence"];
    desk.run(&[&args[..], &LOOK].concat()).fails(2, &["two jobs would write out/a.confidence.png"]);
    assert!(!desk.at("out").exists());
}

#[test]
fn a_mistake_in_a_row_is_said_with_the_row_before_anything_is_computed() {
    let desk = Desk::new();
    let rows = [
        ("classes,bdy", "no class \"bdy\""),
        ("strength,50%", "'50%' for '--strength"),
        ("morph,0.5", "--target-labels"),
    ];
    for (cell, reason) in rows {
        let (column, value) = cell.split_once(',').unwrap();
        let text = format!("content;{column}\nshots/a.png;\nshots/b.png;{value}\n");
        fs::write(desk.at("wrong.csv"), text).unwrap();
        desk.run(
            &[&["restyle", "--jobs", "wrong.csv", "--labels", "maps/a.png", "-o", "out/"], &LOOK[..]]
                .concat(),
        )
        .fails(2, &["wrong.csv, line 3: ", reason]);
    }
    assert!(!desk.at("out").exists());
}

/// A mask may come out of an editor that saves everything in RGB.
#[test]
fn a_gray_mask_in_rgb_is_a_mask_and_a_black_one_is_told() {
    let desk = Desk::new();
    let gray = desk.read("mask.png");
    let values = bytes(&gray);
    let rgb = |change: &dyn Fn(u8) -> [u8; 3]| {
        let samples = Samples::U8(values.iter().flat_map(|&v| change(v)).collect());
        Picture::new(gray.width(), gray.height(), 3, samples).unwrap()
    };
    rgb(&|v| [v; 3]).write(desk.at("rgb.png")).unwrap();
    rgb(&|v| [v, v, v / 2]).write(desk.at("yellow.png")).unwrap();
    rgb(&|_| [0; 3]).write(desk.at("black.png")).unwrap();
    desk.restyle(&["--mask", "mask.png", "-o", "gray_out.png"]).quietly();
    desk.restyle(&["--mask", "rgb.png", "-o", "rgb_out.png"]).quietly();
    assert_eq!(bytes(&desk.read("gray_out.png")), bytes(&desk.read("rgb_out.png")));
    desk.restyle(&["--mask", "yellow.png", "-o", "x.png"]).fails(3, &["yellow.png", "save it as grayscale"]);
    let black = desk.restyle(&["--mask", "black.png", "-o", "same.png"]);
    assert_eq!(
        (black.code, black.stderr.contains("black.png is black all over")),
        (Some(0), true),
        "{}",
        black.stderr
    );
    assert_eq!(bytes(&desk.read("same.png")), bytes(&desk.read("photo.png")));
}

#[test]
fn mistakes_are_said_before_anything_is_computed() {
    let desk = Desk::new();
    let run = |args: &[&str]| desk.run(&[args, &LOOK].concat());
    let labels = ["--labels", "photo_labels.png"];
    let restyle = |args: &[&str]| run(&[&["restyle"], args, &labels].concat());
    restyle(&["photo.png", "-o", "photo.png"]).fails(2, &["photo.png is an input"]);
    restyle(&["photo.png", "-o", "./look.png"]).fails(2, &["look.png is an input"]);
    restyle(&["shots/a.png", "shots/b.png", "-o", "one.png"]).fails(2, &["2 contents, but one output"]);
    restyle(&["shots/a.png", "shots/b.png", "-o", "{dir}.png"]).fails(2, &["two jobs would write shots.png"]);
    restyle(&["photo.png", "-o", "out.gif"]).fails(2, &["out.gif", ".png, .jpg"]);
    restyle(&["photo.png", "-o", "o.png", "--classes", "bdy"]).fails(2, &["did you mean body?"]);
    restyle(&["photo.png", "-o", "o.png", "--strength", "2"]).fails(2, &["the strength is 2, not 0 to 1"]);
    restyle(&["photo.png", "-o", "o.png", "--strength", "0,5"]).fails(2, &["'0,5'", "a number from 0 to 1"]);
    restyle(&["photo.png", "-o", "o.png", "--morph", "0.5"]).fails(2, &["--target-labels"]);
    restyle(&["-o", "o.png"]).fails(2, &["CONTENTS"]);
    restyle(&["photo.png"]).fails(2, &["--output"]);
    run(&["restyle", "photo.png", "-o", "o.png"]).fails(2, &["--labels"]);
    desk.run(&["restyle", "photo.png", "--labels", "photo_labels.png", "-o", "o.png"])
        .fails(2, &["no look is given", "--reference"]);
    desk.run(&["restile"]).fails(2, &["restyle"]);
    assert_eq!(
        desk.list("."),
        [
            "jobs.csv",
            "look.png",
            "look_labels.png",
            "maps",
            "mask.png",
            "photo.png",
            "photo_labels.png",
            "shots",
            "tiny.safetensors"
        ]
    );
}

#[test]
fn exit_codes_tell_mistakes_files_and_devices_apart() {
    let desk = Desk::new();
    desk.restyle(&["--mask", "gone.png", "-o", "o.png"]).fails(3, &["ca2sis: gone.png: No such file"]);
    desk.restyle(&["--model", "photo.png", "-o", "o.png"]).fails(3, &["photo.png: no safetensors file"]);
    desk.restyle(&["-o", "gone/deep/../../photo_labels.png/o.png"]).fails(3, &["photo_labels.png"]);
    #[cfg(not(feature = "metal"))]
    desk.restyle(&["--device", "metal", "-o", "o.png"]).fails(4, &["--features metal"]);
    desk.restyle(&["--device", "gpu", "-o", "o.png"]).fails(2, &["cuda:N"]);
}

#[test]
fn json_is_one_object_a_line() {
    let desk = Desk::new();
    let records = desk.restyle(&["--json", "-o", "out.png"]).json();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["output"]["file"], "out.png");
    assert_eq!(records[0]["output"]["pixels"], pixel_hash(&desk.read("out.png")).as_str());
    let done = desk.run(&[
        "--json",
        "restyle",
        "gone.png",
        "--labels=maps/a.png",
        "-o",
        "x.png",
        LOOK[0],
        LOOK[1],
        LOOK[2],
        LOOK[3],
    ]);
    let error: Value = serde_json::from_str(&done.stderr).unwrap();
    assert_eq!((done.code, &error["kind"], &error["code"]), (Some(3), &"io".into(), &3.into()));
    assert!(error["error"].as_str().unwrap().contains("gone.png"));
    let model = &desk.run(&["models", "list", "--json"]).json()[0];
    assert_eq!(
        (&model["name"], &model["classes"], &model["resolution"]),
        (&"tiny".into(), &3.into(), &16.into())
    );
}

#[test]
fn models_are_listed_shown_and_checked() {
    let desk = Desk::new();
    let card = desk.run(&["models", "show"]).stdout;
    for text in ["tiny 1", "CC0-1.0", "A. Author", "makes no picture", "body", "#c82828"] {
        assert!(card.contains(text), "{text} is not in {card}");
    }
    fs::create_dir(desk.at("models")).unwrap();
    write_model(&desk.at("models/one.safetensors"), 1);
    let mut broken = fs::read(desk.at("models/one.safetensors")).unwrap();
    let end = broken.len();
    broken[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(desk.at("models/two.safetensors"), broken).unwrap();
    let list = desk.run(&["models", "list", "models"]);
    assert_eq!((list.code, list.stdout.lines().count()), (Some(0), 2), "a header is sound");
    let check = desk.run(&["models", "check", "models"]);
    let hash = ca2sis::record::file_hash(&desk.at("models/one.safetensors")).unwrap();
    assert_eq!(check.stdout, format!("{hash}  models/one.safetensors\n"));
    check.fails(1, &["two.safetensors", "NaN"]);
    desk.run(&["models", "check", "maps"]).fails(3, &["maps", "no .safetensors files in this folder"]);
    // The labeler's weights are read when it is first used: a check reads them too.
    let whole = desk.at("models/two.safetensors");
    write_whole_model(&whole, 1);
    let mut bytes = fs::read(&whole).unwrap();
    let length = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..length]).unwrap();
    let labeler = header.as_object().unwrap().iter().find(|(name, _)| name.starts_with("labeler.")).unwrap();
    let begin = length + labeler.1["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[begin..begin + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&whole, bytes).unwrap();
    desk.run(&["models", "check", "models/two.safetensors"]).fails(1, &["two.safetensors", labeler.0, "NaN"]);
}

/// The demo's files have names that a user's may have.
#[test]
fn the_demo_replaces_nothing_but_a_demo() {
    let desk = Desk::new();
    fs::create_dir(desk.at("own")).unwrap();
    fs::copy(desk.at("maps/a.png"), desk.at("own/labels.png")).unwrap();
    let before = fs::read(desk.at("own/labels.png")).unwrap();
    desk.run(&["demo", "--out", "own"]).fails(2, &["own/labels.png is there already", "--out"]);
    assert_eq!(
        (desk.list("own"), fs::read(desk.at("own/labels.png")).unwrap()),
        (vec!["labels.png".into()], before)
    );
}

#[test]
fn devices_name_the_cpu_and_why_others_cannot_be_used() {
    let desk = Desk::new();
    let devices = desk.run(&["devices", "--json"]).json();
    assert_eq!((&devices[0]["device"], &devices[0]["usable"]), (&"cpu".into(), &true.into()));
    for device in devices.iter().filter(|d| d["usable"] == false) {
        assert!(device["reason"].as_str().unwrap().len() > 10, "{device}");
    }
    assert_eq!(devices.iter().filter(|d| d["auto"] == true).count(), 1);
}

#[test]
fn styles_are_kept_mixed_and_used_like_their_pictures() {
    let desk = Desk::new();
    let extract = |picture: &str, out: &str| {
        let args =
            ["style", "extract", "--reference", picture, "--reference-labels", "look_labels.png", "-o", out];
        desk.run(&args).quietly();
    };
    extract("look.png", "look.style");
    extract("shots/a.png", "a.style");
    let with = |style: &str, out: &str| {
        let args = ["restyle", "photo.png", "--labels=photo_labels.png", "--style", style, "-o", out];
        desk.run(&args).quietly();
        bytes(&desk.read(out))
    };
    desk.restyle(&["-o", "by_picture.png"]).quietly();
    let (look, a) = (with("look.style", "look_out.png"), with("a.style", "a_out.png"));
    assert_eq!(look, bytes(&desk.read("by_picture.png")));
    assert_ne!(look, a);
    // For the statistics method too.
    desk.restyle(&["--method", "statistics", "-o", "by_colours.png"]).quietly();
    let args = ["restyle", "photo.png", "--labels=photo_labels.png", "--style", "look.style", "-o", "s.png"];
    desk.run(&[&args[..], &["--method", "statistics"]].concat()).quietly();
    assert_eq!(bytes(&desk.read("s.png")), bytes(&desk.read("by_colours.png")));
    assert_ne!(bytes(&desk.read("s.png")), look);
    // All weight on one is that one.
    desk.run(&["style", "mix", "look.style", "a.style", "--weights", "0,2", "-o", "m.style"]).quietly();
    assert_eq!(with("m.style", "m.png"), a);
    let each = ["--class=backdrop=1,0", "--class=body=1,0", "--class=cap=1,0"];
    desk.run(&[&["style", "mix", "look.style", "a.style", "-o", "n.style"], &each[..]].concat()).quietly();
    assert_eq!(with("n.style", "n.png"), look);
    assert_eq!(desk.run(&["style", "show", "n.style", "--json"]).json()[0]["classes"][2], "cap");
    assert!(desk.run(&["style", "show", "n.style"]).stdout.contains("body: yes"));

    // A style is an input of a record like any other.
    desk.run(&["restyle", "--from-record", "n.png.json", "-o", "again.png"]).quietly();
    fs::copy(desk.at("a.style"), desk.at("n.style")).unwrap();
    desk.run(&["restyle", "--from-record", "n.png.json", "-o", "again.png"])
        .fails(3, &["n.style is not the style"]);

    // Nothing but a style is replaced.
    let extract = |out: &str| desk.run(&[&["style", "extract", "-o", out], &LOOK[..]].concat());
    extract("tiny.safetensors").fails(2, &["tiny.safetensors is an input"]);
    extract("photo.png").fails(2, &["photo.png is the name of a picture", "look.style"]);
    desk.run(&["style", "mix", "look.style", "a.style", "-o", "tiny.safetensors"]).fails(2, &["is an input"]);
    assert_eq!(desk.run(&["models", "check", "tiny.safetensors"]).code, Some(0));

    let mix = |more: &[&str]| {
        desk.run(&[&["style", "mix", "look.style", "a.style", "-o", "x.style"], more].concat())
    };
    mix(&["--weights", "1"]).fails(2, &["--weights gives 1 weights for 2 styles"]);
    mix(&["--class", "body"]).fails(2, &["--class body", "CLASS=WEIGHT"]);
    mix(&["--class", "bodi=1,0"]).fails(2, &["--class: ", "did you mean body?"]);
    mix(&["--weights=-1,1"]).fails(2, &["-1"]);
    write_model(&desk.at("other.safetensors"), 4);
    desk.run(&["style", "show", "a.style", "--model", "other.safetensors"])
        .fails(3, &["a.style", "another model"]);
    desk.restyle(&["--style", "a.style", "-o", "x.png"]).fails(2, &["--style", "cannot be used with"]);
}

#[test]
fn several_references_are_mixed_as_their_styles_are() {
    let desk = Desk::new();
    for (picture, style) in [("look.png", "look.style"), ("shots/a.png", "a.style")] {
        let args = ["style", "extract", "--reference", picture, "--reference-labels", "look_labels.png"];
        desk.run(&[&args[..], &["-o", style]].concat()).quietly();
    }
    desk.run(&["style", "mix", "look.style", "a.style", "--weights", "3,1", "-o", "mixed.style"]).quietly();
    let base = ["restyle", "photo.png", "--labels=photo_labels.png"];
    let second = ["--reference", "shots/a.png", "--reference-labels", "maps/a.png"];
    for method in ["network", "statistics"] {
        let run = |more: &[&str], out: &str| {
            desk.run(&[&base[..], more, &["--method", method, "-o", out]].concat()).quietly();
            bytes(&desk.read(out))
        };
        let by_file = run(&["--style", "mixed.style"], "by_file.png");
        let by_pictures = run(&[&LOOK[..], &second, &["--weights", "3,1"]].concat(), "by_pictures.png");
        assert_eq!(by_file, by_pictures, "{method}");
        let by_files =
            run(&["--style", "look.style", "--style", "a.style", "--weights", "3,1"], "by_files.png");
        assert_eq!(by_file, by_files, "{method}");
        assert_ne!(by_file, run(&[&LOOK[..], &second].concat(), "alike.png"), "{method}: the weights count");
    }

    // A record names every one of them, and knows when one has changed.
    desk.restyle(&[&second[..], &["--weights", "3,1", "-o", "out.png"]].concat()).quietly();
    let record = Record::read(desk.at("out.png.json")).unwrap();
    let names: Vec<&String> = record.inputs.keys().collect();
    let expected =
        ["content", "labels", "reference", "reference 2", "reference-labels", "reference-labels 2"];
    assert_eq!(names, expected);
    desk.run(&["restyle", "--from-record", "out.png.json", "-o", "again.png"]).quietly();
    assert_eq!(bytes(&desk.read("again.png")), bytes(&desk.read("out.png")));
    picture(7).write(desk.at("shots/a.png")).unwrap();
    desk.run(&["restyle", "--from-record", "out.png.json", "-o", "again.png"])
        .fails(3, &["a.png is not the reference 2"]);

    desk.restyle(&["--reference", "shots/b.png", "-o", "x.png"])
        .fails(2, &["1 --reference-labels for 2 --reference"]);
    desk.restyle(&["--weights", "1,2", "-o", "x.png"]).fails(2, &["--weights gives 2 weights for 1 looks"]);
    desk.restyle(&["--weights=-1", "-o", "x.png"]).fails(2, &["-1"]);
}

#[test]
fn memory_is_limited_before_the_work_begins() {
    let desk = Desk::new();
    desk.restyle(&["--memory-limit", "1G", "-o", "out.png"]).quietly();
    desk.restyle(&["--memory-limit", "1K", "-o", "x.png"]).fails(4, &["but the limit is 1024"]);
    desk.restyle(&["--memory-limit", "1K", "--method", "statistics", "-o", "x.png"]).fails(4, &["1024"]);
    desk.restyle(&["--memory-limit", "much", "-o", "x.png"]).fails(2, &["--memory-limit", "K, M or G"]);
    for (command, out) in
        [(&["synthesize", "--labels", "photo_labels.png"][..], "x.png"), (&["style", "extract"], "x.style")]
    {
        desk.run(&[command, &LOOK, &["--memory-limit", "1K", "-o", out]].concat()).fails(4, &["1024"]);
        assert!(!desk.at(out).exists());
    }
    let attention = ["attention", "photo.png", "--labels", "photo_labels.png", "-o", "maps.out"];
    desk.run(&[&attention[..], &["--memory-limit", "1K"]].concat()).fails(4, &["1024"]);
    assert!(!desk.at("maps.out").exists());
}

/// Less than f32 is for the generator's pictures alone, is kept in the record, and is repeated from it.
#[test]
fn pictures_are_made_in_the_precision_that_is_asked_for_and_their_record_says_so() {
    let desk = Desk::new();
    let base = ["synthesize", "--device=cpu", "--labels=photo_labels.png", "--plain"];
    let refused = |precision: &str, reasons: &[&str]| {
        let more = ["--precision", precision, "-o", "x.png"];
        desk.run(&[&base[..], &LOOK, &more].concat()).fails(2, reasons);
        desk.restyle(&[&["--device=cpu"][..], &more].concat()).fails(2, reasons);
        assert!(!desk.at("x.png").exists());
    };
    refused("half", &["precision \"half\": choose f32, tf32, bf16 or f16"]);
    refused("f16", &["precision f16: ", "computes in f32"]);
    refused("tf32", &["precision tf32: ", "computes in f32"]);
    desk.restyle(&["--device=cpu", "-o", "exact.png"]).quietly();
    assert_eq!(Record::read(desk.at("exact.png")).unwrap().precision, "f32");
    // A record of before there was a choice is of f32.
    let text = fs::read_to_string(desk.at("exact.png.json")).unwrap();
    let older = text.replace("  \"precision\": \"f32\",\n", "");
    assert_ne!(older, text);
    fs::write(desk.at("older.json"), older).unwrap();
    desk.run(&["restyle", "--from-record", "older.json", "-o", "again.png"]).quietly();
    if Precision::Bf16.check(&Device::Cpu).is_err() {
        refused("bf16", &["precision bf16: this CPU, without AVX-512 BF16, computes in f32 alone"]);
        return skip::skipped("this CPU has no AVX-512 BF16");
    }

    let make = |more: &[&str], out: &str| {
        desk.run(&[&base[..], more, &["-o", out]].concat()).quietly();
        bytes(&desk.read(out))
    };
    let bf16 = ["--precision", "bf16"];
    let exact = make(&LOOK, "a.png");
    let rounded = make(&[&LOOK[..], &bf16].concat(), "b.png");
    assert_ne!(rounded, exact);
    let squares = exact.iter().zip(&rounded).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    let psnr = -10.0 * (squares.sum::<f64>() / exact.len() as f64 / 255f64.powi(2)).log10();
    assert!(psnr >= 40.0, "{psnr} dB, which is what bf16 is held to everywhere");
    assert_eq!(Record::read(desk.at("b.png")).unwrap().precision, "bf16");

    // The environment's word, and the option's over it.
    let by_environment = |more: &[&str], out: &str| {
        let args = [&base[..], &LOOK, more, &["-o", out]].concat();
        assert!(desk.command(&args).env("CA2SIS_PRECISION", "bf16").status().unwrap().success());
        bytes(&desk.read(out))
    };
    assert_eq!(by_environment(&[], "c.png"), rounded);
    assert_eq!(by_environment(&["--precision", "f32"], "d.png"), exact);

    // In the record's precision, unless another is named, which is then the reason.
    desk.run(&["synthesize", "--from-record", "b.png", "-o", "e.png"]).quietly();
    assert_eq!(bytes(&desk.read("e.png")), rounded);
    desk.run(&["synthesize", "--from-record", "b.png", "--precision", "f32", "-o", "f.png"])
        .fails(1, &["f.png: the pixels are not those of the record: it was made in bf16, this is in f32"]);
    desk.restyle(&["--precision", "bf16", "-o", "g.png"]).quietly();
    desk.run(&["restyle", "--from-record", "g.png", "-o", "h.png"]).quietly();
    assert_eq!(Record::read(desk.at("h.png")).unwrap().precision, "bf16");
    desk.restyle(&["--precision", "bf16", "--method", "statistics", "-o", "s.png"]).quietly();
    assert_eq!(Record::read(desk.at("s.png")).unwrap().precision, "f32", "statistics do without the network");

    // Codes of styles are f32's.
    let extract = ["style", "extract", "--reference", "look.png", "--reference-labels", "look_labels.png"];
    desk.run(&[&extract[..], &bf16, &["-o", "rounded.style"]].concat()).quietly();
    assert_eq!(make(&["--style", "rounded.style"], "i.png"), exact);
}

/// Of the model the statistics method asks only for its classes: no device is opened for a network.
#[test]
fn statistics_do_without_the_network() {
    let desk = Desk::new();
    let device = ["--device", "metal", "-o", "out.png"];
    desk.restyle(&device).fails(4, &["metal"]);
    desk.restyle(&[&device[..], &["--method", "statistics"]].concat()).quietly();
    assert_eq!(Record::read(desk.at("out.png.json")).unwrap().device, "cpu");
}

#[test]
fn pictures_out_of_noise_and_between_layouts_are_made_again_bit_for_bit() {
    let desk = Desk::new();
    write_whole_model(&desk.at("tiny.safetensors"), 3);
    let turned = labels().indices().iter().rev().copied().collect();
    LabelMap::new(WIDTH, HEIGHT, turned).unwrap().write_png(desk.at("target.png"), &classes()).unwrap();
    let base = ["synthesize", "--labels", "photo_labels.png", "-o"];
    let make = |out: &str, more: &[&str]| {
        desk.run(&[&base[..], &[out], more].concat()).quietly();
        let record = format!("{out}.json");
        let again = format!("again_{out}");
        desk.run(&["synthesize", "--from-record", &record, "-o", &again]).quietly();
        let pixels = bytes(&desk.read(out));
        assert_eq!(bytes(&desk.read(&again)), pixels, "{out}");
        pixels
    };
    let first = make("one.png", &["--seed", "1"]);
    assert_ne!(first, make("two.png", &["--seed", "2"]));
    let plain = make("plain.png", &[&LOOK[..], &["--plain"]].concat());
    let morphed = ["--plain", "--target-labels", "target.png", "--morph", "0.5"];
    assert_ne!(plain, make("half.png", &[&LOOK[..], &morphed].concat()));

    let fails = |more: &[&str], reason: &str| {
        desk.run(&[&base[..], &["x.png"], more].concat()).fails(2, &[reason]);
    };
    fails(&[], "no look is given");
    fails(&[&LOOK[..], &["--seed", "1"]].concat(), "cannot be used with");
    fails(&[&LOOK[..], &["--target-labels", "target.png", "--morph", "2"]].concat(), "the morph is 2");
    desk.run(&["synthesize", "--seed", "1", "-o", "x.png"]).fails(2, &["--labels"]);
    desk.run(&["synthesize", "--from-record", "one.png.json", "--seed", "3", "-o", "x.png"])
        .fails(2, &["cannot be used with"]);
    desk.run(&["restyle", "--from-record", "one.png.json", "-o", "x.png"])
        .fails(3, &["a record of `synthesize`, not of `restyle`"]);
    write_model(&desk.at("other.safetensors"), 3);
    fails(&["--seed", "1", "--model", "other.safetensors"], "no noise mapping");
    assert!(!desk.at("x.png").exists());
}

/// Where no label map is named the model proposes one, if it can: the same one that `ca2sis label` writes.
#[test]
fn label_maps_that_are_not_named_are_proposed() {
    let desk = Desk::new();
    let bare = ["restyle", "photo.png", "--reference", "look.png", "-o", "by_itself.png"];
    desk.run(&bare).fails(2, &["photo.png is missing", "no labeler"]);
    write_whole_model(&desk.at("tiny.safetensors"), 3);
    let done = desk.run(&bare);
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), ""), "{}", done.stderr);
    for start in ["photo.png: no --labels", "look.png: no --reference-labels"] {
        let line =
            format!("ca2sis: {start}: the label map that the model proposes may be wrong (confidence 0.");
        assert!(done.stderr.contains(&line), "its weights are noise: {}", done.stderr);
    }
    for name in ["photo", "look"] {
        let map = format!("{name}_proposed.png");
        assert_eq!(desk.run(&["label", &format!("{name}.png"), "-o", &map]).code, Some(0));
    }
    let args = ["restyle", "photo.png", "--labels", "photo_proposed.png", "--reference", "look.png"];
    let by_hand =
        desk.run(&[&args[..], &["--reference-labels", "look_proposed.png", "-o", "by_hand.png"]].concat());
    assert_eq!((by_hand.code, by_hand.stdout.as_str()), (Some(0), ""), "{}", by_hand.stderr);
    // Besides that they are proposed, the same was said of them before.
    assert!(done.stderr.contains(&by_hand.stderr), "{}, then {}", done.stderr, by_hand.stderr);
    assert_eq!(bytes(&desk.read("by_itself.png")), bytes(&desk.read("by_hand.png")));
    // The record says so too, beside the picture and in it, and says nothing where they are named.
    let record = Record::read(desk.at("by_itself.png.json")).unwrap();
    let confidence = |photo: &str| {
        let line = desk.run(&["--json", "label", photo, "-o", "x.png", "--overwrite"]).json().remove(0);
        line["confidence"].as_f64().map(|c| c as f32)
    };
    let proposed = [("content", confidence("photo.png")), ("reference", confidence("look.png"))];
    let proposed = BTreeMap::from(proposed.map(|(input, confidence)| (input.to_owned(), confidence)));
    assert_eq!(record.proposed_labels, proposed);
    assert_eq!(Record::read(desk.at("by_itself.png")).unwrap().proposed_labels, record.proposed_labels);
    assert!(!fs::read_to_string(desk.at("by_hand.png.json")).unwrap().contains("proposed_labels"));
    let again = desk.run(&["restyle", "--from-record", "by_itself.png.json", "-o", "again.png"]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
}

/// A proposal that is sure is said too, once a picture, however many are restyled after one reference.
#[test]
fn every_proposed_label_map_is_said_once() {
    let desk = Desk::new();
    write_labeler_model(&desk.at("tiny.safetensors"), 0.0, [0.0, 100.0, 0.0]);
    let said = |photo: &str, option: &str| {
        format!("ca2sis: {photo}: no {option}: label map proposed (confidence 1.00)\n")
    };
    let look = said("look.png", "--reference-labels");
    for (method, out) in [("network", "network/"), ("statistics", "statistics/")] {
        let shots = [
            "restyle",
            "shots/a.png",
            "shots/b.png",
            "--reference",
            "look.png",
            "-o",
            out,
            "--method",
            method,
        ];
        let done = desk.run(&shots);
        assert_eq!((done.code, done.stdout.as_str()), (Some(0), ""), "{}", done.stderr);
        let shots = ["shots/a.png", "shots/b.png"].map(|shot| said(shot, "--labels"));
        for line in shots.iter().chain([&look]) {
            assert_eq!(done.stderr.matches(line.as_str()).count(), 1, "{method}: {line}: {}", done.stderr);
        }
        for name in ["a", "b"] {
            let record = Record::read(desk.at(&format!("{out}{name}.png.json"))).unwrap();
            let inputs: Vec<_> = record.proposed_labels.keys().map(String::as_str).collect();
            assert_eq!(inputs, ["content", "reference"], "{method}: {name}");
        }
    }
    // Named ones are not proposals, and several references are told apart.
    let several = ["--reference", "look.png", "--reference", "shots/a.png", "-o", "mixed.png"];
    let named = ["--json", "restyle", "photo.png", "--labels", "photo_labels.png"];
    let done = desk.run(&[&named[..], &several].concat());
    assert_eq!(done.stderr, "", "with --json the record says it");
    let told = |line: &Value| -> Vec<String> {
        let proposed = line["proposed_labels"].as_object().unwrap();
        assert!(proposed.values().all(|sure| (sure.as_f64().unwrap() - 1.0).abs() < 1e-4), "{line}");
        proposed.keys().cloned().collect()
    };
    assert_eq!(told(&done.json()[0]), ["reference", "reference 2"]);
    let extract = ["style", "extract", "--reference", "look.png", "-o", "look.style"];
    assert_eq!(desk.run(&extract).stderr, look);
    assert_eq!(told(&desk.run(&[&["--json"], &extract[..]].concat()).json()[0]), ["reference"]);
}

/// Weights so large that scores leave the range of numbers.
#[test]
fn a_proposal_of_a_confidence_that_is_no_number_is_warned_of() {
    let desk = Desk::new();
    write_labeler_model(&desk.at("tiny.safetensors"), 3e38, [3e38; 3]);
    let args = ["restyle", "photo.png", "--reference", "look.png", "--reference-labels", "look_labels.png"];
    let done = desk.run(&[&args[..], &["-o", "out.png"]].concat());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("photo.png: no --labels: the label map"), "{}", done.stderr);
    assert!(done.stderr.contains("may be wrong (confidence NaN)"), "{}", done.stderr);
    let record = Record::read(desk.at("out.png.json")).unwrap();
    assert_eq!(record.proposed_labels, BTreeMap::from([("content".to_owned(), None)]));
}

/// They may have been corrected by hand, and a photograph may have the name that its map would get.
#[test]
fn a_file_that_is_there_is_not_replaced_by_a_label_map() {
    let desk = Desk::new();
    write_whole_model(&desk.at("tiny.safetensors"), 3);
    let (photo, corrected) =
        (fs::read(desk.at("shots/a.png")).unwrap(), fs::read(desk.at("maps/a.png")).unwrap());
    desk.read("photo.png").write(desk.at("shots/a.tif")).unwrap();
    desk.run(&["label", "shots/a.tif", "-o", "maps/"])
        .fails(2, &["maps/a.png is there already", "--overwrite"]);
    desk.run(&["label", "shots/a.tif", "-o", "shots/"]).fails(2, &["shots/a.png is there already"]);
    desk.run(&["label", "shots/a.tif", "-o", "shots/", "--overwrite"])
        .fails(2, &["shots/a.png is no label map"]);
    desk.run(&["label", "shots/a.tif", "-o", "map.jpg"])
        .fails(2, &["map.jpg: a label map is a PNG: name it map.png"]);
    assert_eq!(fs::read(desk.at("shots/a.png")).unwrap(), photo);
    assert_eq!(fs::read(desk.at("maps/a.png")).unwrap(), corrected);
    assert_eq!(desk.run(&["label", "shots/a.tif", "-o", "maps/", "--overwrite"]).code, Some(0));
    assert_ne!(fs::read(desk.at("maps/a.png")).unwrap(), corrected);
    // One that fails does not stop the others, and folders are made.
    fs::write(desk.at("shots/aa.png"), "no picture").unwrap();
    let several = ["label", "shots/aa.png", "shots/b.png", "-o", "new/folder/"];
    let done = desk.run(&several);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(
        done.stderr.contains("shots/aa.png: not a PNG") && done.stderr.contains("1 of 2 jobs failed"),
        "{}",
        done.stderr
    );
    assert_eq!(desk.list("new/folder"), ["b.png"]);
}

#[test]
fn attention_is_written_a_class_at_the_contents_size() {
    let desk = Desk::new();
    let base = ["attention", "photo.png", "--labels", "photo_labels.png"];
    assert_eq!(desk.run(&[&base[..], &["-o", "mean"]].concat()).code, Some(0));
    assert_eq!(desk.run(&[&base[..], &["--stage", "1", "-o", "last"], &LOOK].concat()).code, Some(0));
    for folder in ["mean", "last"] {
        let map = desk.read(&format!("{folder}/001 body.png"));
        assert_eq!((map.width(), map.height(), map.channels()), (WIDTH, HEIGHT, 1));
        let values = bytes(&map);
        assert!(values.iter().max() > values.iter().min(), "{folder}: one gray all over");
    }
    desk.run(&[&base[..], &["--stage", "2", "-o", "x"]].concat()).fails(2, &["stages 0 to 1"]);
}

#[test]
fn a_foreign_checkpoint_is_refused() {
    let desk = Desk::new();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import/zip.pth");
    let sample = sample.to_str().unwrap();
    let import =
        |file: &str, classes: &str| desk.run(&["import", file, "--classes", classes, "-o", "m.safetensors"]);
    import(sample, "celebamask-hq").fails(3, &["zip.pth", "a checkpoint of another network"]);
    import(sample, "celeba").fails(2, &["--classes celeba"]);
    import(sample, "gone.json").fails(3, &["gone.json"]);
    import("photo.png", "celebamask-hq").fails(3, &["photo.png: no checkpoint of PyTorch"]);
    assert!(!desk.at("m.safetensors").exists());
}

/// EXIF of orientation 6 (turn a quarter clockwise), an artist, and a second directory for a thumbnail.
fn exif() -> Vec<u8> {
    let mut exif = b"II*\0\x08\0\0\0\x02\0".to_vec();
    exif.extend(b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0");
    exif.extend(b"\x3b\x01\x02\0\x08\0\0\0\x26\0\0\0");
    exif.extend(b"\x30\0\0\0");
    exif.resize(0x26, 0);
    exif.extend(b"Painter\0");
    exif
}

#[test]
fn what_a_file_says_beside_its_pixels_is_carried_through() {
    let desk = Desk::new();
    let mut content = picture(0);
    // Written turned: read, it is upright, HEIGHT wide and WIDTH high.
    content.metadata_mut().exif = Some(exif().into());
    content.metadata_mut().resolution = Some(Resolution { x: 300.0, y: 150.0 });
    for format in ["png", "tiff", "webp", "jpg"] {
        let name = format!("turned.{format}");
        content.write(desk.at(&name)).unwrap();
        let turned = desk.read(&name);
        let (upright, swapped) = match format {
            // Orientation goes into TIFF as its own tag, which nothing here wrote.
            "tiff" => ((WIDTH, HEIGHT), false),
            _ => ((HEIGHT, WIDTH), true),
        };
        assert_eq!((turned.width(), turned.height()), upright, "{format}");
        assert_eq!(turned.metadata().is_transposed(), swapped, "{format}");
        assert_eq!(turned.metadata().orientation, swapped.then_some(Orientation::Rotate90), "{format}");
        // WebP has no resolution but EXIF's, which has none here.
        if format != "webp" {
            let r = turned.metadata().resolution.unwrap();
            let (x, y) = if swapped { (r.y, r.x) } else { (r.x, r.y) };
            assert!((x - 300.0).abs() < 0.02 && (y - 150.0).abs() < 0.02, "{format}: {r:?}");
        }
    }
    // The label map as drawn on the stored pixels is turned along; so is the mask, which decides alone where there is one.
    let base = ["restyle", "turned.png", "--labels=photo_labels.png", "--classes=body"];
    let before = bytes(&desk.read("turned.png"));
    for (output, mask) in [("1.png", false), ("2.tiff", false), ("3.webp", true)] {
        let more: &[&str] = if mask { &["--mask=mask.png", "-o", output] } else { &["-o", output] };
        desk.run(&[&base[..], &LOOK, more].concat()).quietly();
        let result = desk.read(output);
        assert_eq!((result.width(), result.height()), (HEIGHT, WIDTH), "{output}");
        let orientation = result.metadata().orientation.unwrap_or(Orientation::NoTransforms);
        assert_eq!(orientation, Orientation::NoTransforms, "{output}: not turned twice");
        let exif = result.metadata().exif.clone().unwrap();
        assert!(String::from_utf8_lossy(&exif).contains("Painter"), "{output}");
        let after = bytes(&result);
        let mut changed = 0;
        for i in 0..WIDTH * HEIGHT {
            // Turned clockwise: column x of row y was column y of row HEIGHT - 1 - x.
            let (x, y) = (i % HEIGHT, i / HEIGHT);
            let asked = if mask { y < WIDTH / 2 } else { label(y, HEIGHT - 1 - x) == 1 };
            let differs = before[3 * i..3 * i + 3] != after[3 * i..3 * i + 3];
            assert!(asked || !differs, "{output}: pixel {x}, {y} was not asked for");
            changed += usize::from(differs);
        }
        assert!(changed > 100, "{output}: {changed} pixels");
    }
    let result = desk.read("1.png");
    let exif = result.metadata().exif.clone().unwrap();
    assert_eq!(exif[0x22..0x26], [0; 4], "the thumbnail's directory is cut off");
    let r = result.metadata().resolution.unwrap();
    assert!(
        (r.x - 150.0).abs() < 0.02 && (r.y - 300.0).abs() < 0.02,
        "resolution turns with the pixels: {r:?}"
    );
    // A map of the upright picture is taken as it is.
    let upright = LabelMap::read(desk.at("photo_labels.png"), &classes())
        .unwrap()
        .upright_with(&desk.read("turned.png"));
    upright.write_png(desk.at("upright.png"), &classes()).unwrap();
    let mask = Mask::read(desk.at("mask.png")).unwrap().upright_with(&desk.read("turned.png"));
    assert_eq!((mask.width(), mask.height()), (HEIGHT, WIDTH));
    let args = ["restyle", "turned.png", "--labels=upright.png", "--classes=body", "-o", "4.png"];
    desk.run(&[&args[..], &LOOK].concat()).quietly();
    assert!(bytes(&desk.read("4.png")) == bytes(&desk.read("1.png")), "turned by us or by its owner");
}

#[test]
fn a_profile_is_followed_and_kept() {
    let desk = Desk::new();
    let profile = moxcms::ColorProfile::new_display_p3().encode().unwrap();
    let mut content = picture(0);
    content.metadata_mut().icc_profile = Some(profile.clone().into());
    content.write(desk.at("p3.png")).unwrap();
    let args = ["restyle", "p3.png", "--labels=photo_labels.png", "--classes=body"];
    for output in ["p3_result.png", "p3_result.tiff", "p3_result.webp"] {
        desk.run(&[&args[..], &["-o", output], &LOOK].concat()).quietly();
        let result = desk.read(output);
        assert_eq!(result.icc_profile(), Some(&profile[..]), "{output}");
        let (before, after) = (bytes(&content), bytes(&result));
        for i in (0..WIDTH * HEIGHT).filter(|i| label(i % WIDTH, i / WIDTH) != 1) {
            assert_eq!(before[3 * i..3 * i + 3], after[3 * i..3 * i + 3], "{output}: pixel {i}");
        }
    }
    // The same colours written in sRGB give the same result, within the rounding of 8 bits on both ways.
    let srgb = content.to_srgb().unwrap().unwrap();
    let Samples::F32(v) = srgb.samples() else { panic!() };
    let rounded = v.iter().map(|v| (v * 255.0).round() as u8).collect();
    Picture::new(WIDTH, HEIGHT, 3, Samples::U8(rounded)).unwrap().write(desk.at("srgb.png")).unwrap();
    let args =
        ["restyle", "srgb.png", "--labels=photo_labels.png", "--classes=body", "-o", "srgb_result.png"];
    desk.run(&[&args[..], &LOOK].concat()).quietly();
    let followed = desk.read("p3_result.png").to_srgb().unwrap().unwrap().to_rgb_f32();
    let plain = desk.read("srgb_result.png").to_rgb_f32();
    let off = followed.pixels.iter().zip(&plain.pixels).map(|(a, b)| (a - b).abs());
    let off: Vec<f32> = off.collect();
    let mean = off.iter().sum::<f32>() / off.len() as f32;
    assert!(mean < 1.0 / 255.0, "mean difference {mean}");
}

/// As compositing programs write it: floats in proportion to light, some of them above white.
#[test]
fn a_linear_picture_comes_out_as_its_encoded_form_does() {
    let desk = Desk::new();
    let encoded: Vec<f32> = picture(0).to_rgb_f32().pixels;
    let linear = |v: f32| if v <= 0.040_45 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) };
    let write = |values: Vec<f32>, name: &str| {
        Picture::new(WIDTH, HEIGHT, 3, Samples::F32(values)).unwrap().write(desk.at(name)).unwrap();
    };
    write(encoded.iter().map(|&v| linear(v)).collect(), "linear.tiff");
    write(encoded, "encoded.tiff");
    let made = |name: &str, more: &[&str]| -> Vec<f32> {
        let args = ["restyle", name, "--labels=photo_labels.png", "-o", "made.tiff"];
        desk.run(&[&args[..], &LOOK, more].concat()).quietly();
        let Samples::F32(values) = desk.read("made.tiff").samples().clone() else { panic!() };
        values
    };
    let (of_encoded, of_linear) = (made("encoded.tiff", &[]), made("linear.tiff", &["--linear"]));
    let off = of_encoded.iter().zip(&of_linear).map(|(a, b)| (linear(*a) - b).abs()).fold(0.0, f32::max);
    assert!(off < 1e-3, "{off}");
    // Taken as encoded it is another picture.
    let wrong = made("linear.tiff", &[]);
    assert!(wrong.iter().zip(&of_linear).any(|(a, b)| (a - b).abs() > 0.01));
    // It is an option of the record.
    desk.run(
        &[&["restyle", "linear.tiff", "--labels=photo_labels.png", "--linear", "-o", "l.tiff"], &LOOK[..]]
            .concat(),
    )
    .quietly();
    desk.run(&["restyle", "--from-record", "l.tiff.json", "-o", "again.tiff"]).quietly();
    assert_eq!(desk.read("again.tiff").samples(), desk.read("l.tiff").samples());
    let mut profiled = picture(0);
    profiled.metadata_mut().icc_profile =
        Some(moxcms::ColorProfile::new_display_p3().encode().unwrap().into());
    profiled.write(desk.at("p3.png")).unwrap();
    desk.run(
        &[&["restyle", "p3.png", "--labels=photo_labels.png", "--linear", "-o", "x.png"], &LOOK[..]].concat(),
    )
    .fails(2, &["linear", "colour profile"]);
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_with_130_and_whole_files() {
    let desk = Desk::new();
    fs::create_dir(desk.at("out")).unwrap();
    let rows: String = (0..5000).map(|i| format!("shots/a.png,maps/a.png,out/{i}.png\n")).collect();
    fs::write(desk.at("many.csv"), format!("content,labels,output\n{rows}")).unwrap();
    let mut child = desk
        .command(&[&["restyle", "--jobs", "many.csv"], &LOOK[..]].concat())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Once it is at work.
    while desk.list("out").is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
    }
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(130));
    assert_eq!(String::from_utf8_lossy(&done.stderr), "ca2sis: stopped\n");
    let files = desk.list("out");
    assert!(files.len() < 10_000, "all {} files", files.len());
    for name in files {
        let path = desk.at("out").join(&name);
        if name.ends_with(".json") {
            Record::read(path).unwrap();
        } else {
            assert!(name.ends_with(".png"), "{name} is left over");
            Picture::read(path).unwrap();
        }
    }
}

#[test]
fn shells_and_man_know_every_command() {
    let desk = Desk::new();
    let names = [
        "demo",
        "restyle",
        "synthesize",
        "attention",
        "style",
        "models",
        "devices",
        "import",
        "train",
        "verify",
    ];
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = desk.run(&["completions", shell]).stdout;
        for name in names.iter().chain(&["--from-record", "--rights"]) {
            let name = if shell == "fish" { name.trim_start_matches('-') } else { name };
            assert!(script.contains(name), "{shell} does not know {name}");
        }
    }
    assert!(desk.run(&["man"]).stdout.contains(".TH ca2sis"));
    desk.run(&["man", "--out", "man"]).quietly();
    let pages = desk.list("man");
    for name in names {
        assert!(pages.contains(&format!("ca2sis-{name}.1")), "{pages:?}");
        assert_eq!(desk.run(&[name, "--help"]).code, Some(0));
    }
}
