//! How many threads compute: what `CA2SIS_THREADS` says to the command and to contexts, and pictures drawn side by side on rayon's
//! threads. The variable is set for processes of their own alone.

use std::process::{Command, Output};
use std::sync::mpsc::channel;
use std::time::Duration;

use ca2sis::context::{Context, Options};
use ca2sis::device::Choice;
use ca2sis::image::{Picture, Samples};
use ca2sis::label::label;
use ca2sis::model::Model;
use ca2sis::nn::Network;
use ca2sis::progress::Progress;
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use serde_json::Value;

const VARIABLE: &str = "CA2SIS_THREADS";
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/studio.safetensors");

fn command(threads: Option<&str>, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ca2sis"));
    command.env_remove(VARIABLE).envs(threads.map(|threads| (VARIABLE, threads))).args(args);
    command.output().unwrap()
}

fn bench(threads: Option<&str>, more: &[&str]) -> Value {
    let first = ["bench", "--model", MODEL, "--runs", "1", "--json"];
    let done = command(threads, &[&first[..], more].concat());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

#[test]
fn a_benchmark_runs_on_as_many_threads_as_the_environment_says_and_reports_its_times() {
    let report = bench(Some("1"), &[]);
    assert_eq!(report["threads"], 1);
    let positive = |field: &str| {
        let value = report[field].as_f64().unwrap_or_else(|| panic!("{field} is {}", report[field]));
        assert!(value > 0.0, "{field} is {value}");
        value
    };
    let [_, fold, _, mask, decode] =
        ["load_ms", "fold_ms", "encode_ms", "mask_ms", "decode_ms"].map(positive);
    assert!(report.as_object().unwrap().contains_key("peak_rss_mb"));
    // Null where the system does not tell.
    if !report["peak_rss_mb"].is_null() || cfg!(target_os = "linux") {
        positive("peak_rss_mb");
    }
    assert!((positive("image_ms") - (mask + decode)).abs() < 1e-6);
    assert!((positive("first_image_ms") - (mask + fold + decode)).abs() < 1e-6);
    assert_eq!(report["precision"], "f32");
}

/// The environment is not looked at then.
#[test]
fn what_a_call_says_itself_of_threads_comes_first() {
    for value in ["1", "many"] {
        assert_eq!(bench(Some(value), &["--threads", "3"])["threads"], 3);
        // It has its threads, and gets as far as the folder that is not there.
        let done = command(Some(value), &["train", "--out", "nowhere", "--threads", "3"]);
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && said.contains("nowhere holds no run"), "{said}");
    }
}

#[test]
fn the_command_refuses_a_number_of_threads_that_is_none() {
    for value in ["0", "1025", "-1", "many", "2.5", ""] {
        let done = command(Some(value), &["devices"]);
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{value:?}: {said}");
        assert!(said.contains(VARIABLE) && said.contains(&format!("{value:?}")), "{value:?}: {said}");
        assert!(done.stdout.is_empty());
    }
    assert_eq!(command(Some("2"), &["devices"]).status.code(), Some(0));
    let done = command(Some("none"), &["devices", "--json"]);
    let error: Value = serde_json::from_slice(&done.stderr).unwrap();
    assert_eq!((&error["kind"], &error["code"]), (&"invalid argument".into(), &2.into()), "{error}");
}

fn context(threads: usize) -> Context {
    Context::new(Options { device: Choice::Cpu, threads, ..Options::default() }).unwrap()
}

/// Threads of this process, where the system tells.
fn running() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/task").ok()?.count())
}

/// Runs in a process of its own, for the test below: says how many threads contexts have. One that draws starts none beside its own,
/// whatever the variable says.
#[test]
fn threads_of_contexts() {
    if std::env::var_os("CA2SIS_TEST_OF_THREADS").is_none() {
        return;
    }
    let before = running();
    let two = context(2);
    let loaded = two.load(&Model::open(MODEL.as_ref()).unwrap()).unwrap();
    loaded.run("draw", None, |network, _| draw(network, 0).map(drop)).unwrap();
    if let Some((before, now)) = before.zip(running()) {
        assert_eq!(now, before + 2, "threads of this process");
    }
    assert_eq!(two.threads(), 2);
    println!("chosen: {}.", context(0).threads());
}

#[test]
fn a_context_that_chooses_its_threads_has_as_many_as_the_environment_says() {
    let chosen = |threads: Option<&str>| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "threads_of_contexts", "--nocapture", "--test-threads=1"]);
        // Candle's own threads are not what is counted.
        command.env("CA2SIS_TEST_OF_THREADS", "1").env("CANDLE_NUM_THREADS", "1");
        command.env_remove(VARIABLE).env_remove("RAYON_NUM_THREADS");
        let done = command.envs(threads.map(|threads| (VARIABLE, threads))).output().unwrap();
        let said = String::from_utf8(done.stdout).unwrap();
        assert!(done.status.success(), "{threads:?}: {said}{}", String::from_utf8_lossy(&done.stderr));
        let number = said.split("chosen: ").nth(1).and_then(|rest| rest.split('.').next());
        number.unwrap_or_else(|| panic!("{said}")).parse::<usize>().unwrap()
    };
    for threads in [1, 3, 5] {
        assert_eq!(chosen(Some(&threads.to_string())), threads);
    }
    let machine = std::thread::available_parallelism().unwrap().get();
    for value in [None, Some("0"), Some("1025"), Some("many"), Some("")] {
        assert_eq!(chosen(value), machine, "{value:?}");
    }
}

/// A picture of blocks in a style taken from noise.
fn draw(network: &Network, salt: usize) -> ca2sis::Result<Vec<f32>> {
    let (side, n) = (network.config().resolution, network.config().classes);
    let labels: Vec<u32> =
        (0..side * side).map(|i| ((i / side / 40 + i % side / 30 + salt) % n) as u32).collect();
    let labels = Tensor::from_vec(labels, (1, side, side), &Device::Cpu)?;
    let onehot = candle_nn::encoding::one_hot(labels, n, 1f32, 0f32)?;
    let value = |i: usize| ((i + salt) * 7919 % 2003) as f32 / 1001.0 - 1.0;
    let rgb = Tensor::from_vec(
        (0..side * side * 3).map(value).collect::<Vec<_>>(),
        (1, side, side, 3),
        &Device::Cpu,
    )?;
    let style = network.encode_style(&rgb, &onehot, Progress::NONE)?;
    let picture = network.generate(&network.encode_mask(&onehot)?, &style, Progress::NONE)?;
    Ok(picture.flatten_all()?.to_vec1()?)
}

/// The first ones lay the weights out, and a thread that waits for others in that may take up the next picture meanwhile: no lock may be
/// held then.
#[test]
fn pictures_drawn_side_by_side_on_rayons_threads_do_not_wait_for_themselves() {
    let (send, done) = channel();
    std::thread::spawn(move || {
        let model = Model::open(MODEL.as_ref()).unwrap();
        let photo = Picture::new(96, 64, 3, Samples::U8((0..96 * 64 * 3).map(|i| (i % 251) as u8).collect()));
        let photo = photo.unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        let network = || model.network(&Device::Cpu).unwrap();
        let alone: Vec<_> = {
            let network = network();
            (0..3).map(|salt| draw(&network, salt).unwrap()).collect()
        };
        for _ in 0..4 {
            let network = network();
            let one = |i: usize| {
                label(&network, &photo.view(), Progress::NONE).unwrap();
                assert!(draw(&network, i % 3).unwrap() == alone[i % 3], "picture {i}");
            };
            pool.install(|| (0..12).into_par_iter().for_each(one));
        }
        send.send(()).unwrap();
    });
    // A panic ends the sender, a thread that waits for itself does not.
    done.recv_timeout(Duration::from_secs(300)).expect("all pictures drawn, as they are alone");
}
