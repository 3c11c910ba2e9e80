//! Whole runs of the trainer at a tiny size: they learn, go on bit for bit, and refuse what they must.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use ca2sis::image::{LabelMap, Picture, Samples};
use ca2sis::kernels::simd::Level;
use ca2sis::label::label;
use ca2sis::model::{Model, TrainingData};
use ca2sis::nn::{Config, LabelerSizes, Precision, Stage};
use ca2sis::progress::Progress;
use ca2sis::train::{
    Best, Dataset, Description, Ending, Event, LossWeights, Mark, Measure, Part, Recipe, RunDir, RunOptions,
    run,
};
use ca2sis::{Error, Result};
use candle_core::Device;

fn tiny() -> Config {
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

/// A picture of `side` with an upright bar of class 1 and a box of class 2, in the colours of look `look`.
fn write_picture(dir: &Path, layout: u32, look: u32, side: u32) {
    for folder in ["images", "labels"] {
        fs::create_dir_all(dir.join(folder)).unwrap();
    }
    let name = format!("{layout:02}_{look:02}.png");
    let label = |x: u32, y: u32| {
        let (x, y) = (x * 16 / side, y * 16 / side);
        let bar = 2 + layout % 4;
        if (bar..bar + 4).contains(&x) {
            1
        } else if x > 10 && y > 8 {
            2
        } else {
            0
        }
    };
    let colour = |class: u8| {
        let v = |k: u32| (u32::from(class) * 83 + look * 47 + k * 61) as u8;
        image::Rgb([v(0), v(1), v(2)])
    };
    image::RgbImage::from_fn(side, side, |x, y| colour(label(x, y)))
        .save(dir.join("images").join(&name))
        .unwrap();
    image::GrayImage::from_fn(side, side, |x, y| image::Luma([label(x, y)]))
        .save(dir.join("labels").join(&name))
        .unwrap();
}

/// Six pictures with looks of their own in `own`, and each layout in the next one's look in `pairs`.
fn write_data(root: &Path) {
    let class = |i: u32| format!(r#"{{"index": {i}, "name": "class {i}", "color": [{}, 0, 0]}}"#, i * 100);
    let classes = [class(0), class(1), class(2)].join(",");
    fs::write(root.join("classes.json"), format!(r#"{{"classes": [{classes}]}}"#)).unwrap();
    for i in 0..6 {
        write_picture(&root.join("own"), i, i, 24);
        if i < 5 {
            write_picture(&root.join("pairs"), i, i + 1, 24);
        }
    }
}

fn recipe(root: &Path) -> Recipe {
    Recipe {
        pairs: Some(root.join("pairs")),
        hold_out: 1,
        steps: 6,
        discriminator_width: 4,
        ema: 0.9,
        ..Recipe::published(root.join("own"), tiny())
    }
}

fn options(out: &Path) -> RunOptions {
    RunOptions {
        out: out.to_owned(),
        log_every: 1,
        eval_every: 3,
        sheet_every: 6,
        save_every: 100,
        eval_limit: 4,
        sheet_rows: 2,
        time_limit: None,
        fit_time: false,
        bf16: false,
        description: Description {
            name: "tiny".into(),
            version: "0.0.1".into(),
            licence: "CC0-1.0".into(),
            authors: vec![],
            data_licence: "CC0-1.0".into(),
            data_note: "drawn here".into(),
            limits: vec![],
        },
    }
}

fn train(recipe: &Recipe, out: &Path) -> Result<Ending> {
    run(recipe.clone(), &options(out), &Device::Cpu, &AtomicBool::new(false), &mut |_| {})
}

/// As Ctrl-C does after `step` steps.
fn train_until(recipe: &Recipe, out: &Path, step: usize) -> Result<Ending> {
    let stop = AtomicBool::new(false);
    run(recipe.clone(), &options(out), &Device::Cpu, &stop, &mut |event| {
        if matches!(event, Event::Step { done, .. } if done == step) {
            stop.store(true, Ordering::Relaxed);
        }
    })
}

#[test]
fn a_run_that_was_stopped_goes_on_bit_for_bit() {
    let root = tempfile::tempdir().unwrap();
    write_data(root.path());
    let recipe = recipe(root.path());
    let (whole, parts) = (root.path().join("whole"), root.path().join("parts"));
    assert_eq!(train(&recipe, &whole).unwrap(), Ending::Finished);
    assert_eq!(train_until(&recipe, &parts, 3).unwrap(), Ending::Stopped);
    assert_eq!(train(&recipe, &parts).unwrap(), Ending::Finished);
    for file in ["state.safetensors", "model.safetensors", "best.safetensors"] {
        assert!(fs::read(whole.join(file)).unwrap() == fs::read(parts.join(file)).unwrap(), "{file} differs");
    }
    let steps = |dir: &Path| -> Vec<u64> {
        let text = fs::read_to_string(RunDir::new(dir).metrics()).unwrap();
        text.lines()
            .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["step"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(steps(&whole), steps(&parts));
    assert!(RunDir::new(&parts).sheet(6).exists());
}

#[test]
fn a_run_writes_a_model_file_of_its_network() {
    let root = tempfile::tempdir().unwrap();
    write_data(root.path());
    let out = root.path().join("run");
    train(&Recipe { steps: 1, ..recipe(root.path()) }, &out).unwrap();
    let model = Model::open(&out.join("model.safetensors")).unwrap();
    assert_eq!(model.metadata().network, tiny());
    assert_eq!(model.classes()[2].name, "class 2");
    model.network(&Device::Cpu).unwrap();

    let warm = Recipe { init: Some(out.join("model.safetensors")), ..recipe(root.path()) };
    train(&warm, &root.path().join("warm")).unwrap();
}

/// What the run in `out` says of its best model, and of the last one.
fn marks(out: &Path) -> (Mark, Mark) {
    let best = RunDir::new(out).read_best().unwrap();
    (best.best.unwrap(), best.last.unwrap())
}

/// As though the best figure so far, which stands in the run's folder, had been `value`.
fn pretend_best(out: &Path, value: f64) {
    let path = out.join("best.json");
    let mut text: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    text["best"]["value"] = value.into();
    fs::write(&path, text.to_string()).unwrap();
}

#[test]
fn the_best_model_by_held_out_pairs_is_kept_though_later_ones_are_worse() {
    let root = tempfile::tempdir().unwrap();
    write_data(root.path());
    let recipe = recipe(root.path());
    let out = root.path().join("run");
    train_until(&recipe, &out, 3).unwrap();
    let dir = RunDir::new(&out);
    let third = fs::read(dir.best()).unwrap();
    assert!(third == fs::read(dir.model()).unwrap(), "the only one is the best and the last");
    let (best, last) = marks(&out);
    assert_eq!((best, best.step, best.figure.measure), (last, 3, Measure::PsnrOfPairs));
    assert_eq!(best.figure.count, 1);

    // A figure that step 6 does not come near: the run that goes on remembers it.
    pretend_best(&out, 99.0);
    let mut told = 0;
    run(recipe.clone(), &options(&out), &Device::Cpu, &AtomicBool::new(false), &mut |event| {
        told += usize::from(matches!(event, Event::Best { .. }));
    })
    .unwrap();
    let (best, last) = marks(&out);
    assert_eq!((best.step, best.figure.value, last.step, told), (3, 99.0, 6, 0));
    assert!(fs::read(dir.best()).unwrap() == third, "the model of step 3");
    let sixth = fs::read(dir.model()).unwrap();
    assert!(sixth != third, "the model file is the last one's");
    let sentence = dir.read_best().unwrap().sentence(6).unwrap();
    assert!(
        sentence.contains("99.000 dB of 1 pairs at step 3, best.safetensors; the last has "),
        "{sentence}"
    );

    // And one that any model is better than.
    pretend_best(&out, -99.0);
    let on = Recipe { steps: 9, ..recipe };
    train(&on, &out).unwrap();
    assert_eq!(marks(&out).0.step, 9);
    assert!(fs::read(dir.best()).unwrap() == fs::read(dir.model()).unwrap());
    Model::open(&dir.best()).unwrap().network(&Device::Cpu).unwrap();

    fs::write(out.join("best.json"), "{").unwrap();
    let error = train(&on, &out).unwrap_err().to_string();
    assert!(error.contains("best.json: no held-out figures"), "{error}");
}

#[test]
fn without_pictures_held_out_no_best_is_kept() {
    let root = tempfile::tempdir().unwrap();
    write_data(root.path());
    let out = root.path().join("run");
    train(&Recipe { hold_out: 0, steps: 3, ..recipe(root.path()) }, &out).unwrap();
    let dir = RunDir::new(&out);
    assert!(dir.model().exists() && !dir.best().exists());
    assert_eq!(dir.read_best().unwrap(), Best::default());
    // Without pairs it is the pictures that count.
    let alone = root.path().join("alone");
    train(&Recipe { pairs: None, steps: 3, ..recipe(root.path()) }, &alone).unwrap();
    assert_eq!(marks(&alone).0.figure.measure, Measure::PsnrOfPictures);
}

#[test]
fn a_model_says_what_it_was_trained_on_and_by_whom() {
    let root = tempfile::tempdir().unwrap();
    write_data(root.path());
    let made = |recipe: Recipe, name: &str, author: &str| {
        let mut options = options(&root.path().join(name));
        options.description.authors = vec![author.into()];
        run(recipe, &options, &Device::Cpu, &AtomicBool::new(false), &mut |_| {}).unwrap();
        let path = RunDir::new(&options.out).model();
        (Model::open(&path).unwrap().metadata().clone(), path)
    };
    let generator = Recipe { steps: 1, ..recipe(root.path()) };
    let (metadata, init) = made(generator, "generator", "A. Painter");
    let data = |name: &str, note: &str| TrainingData {
        name: name.into(),
        licence: "CC0-1.0".into(),
        note: note.into(),
    };
    let own = data("own", "drawn here; 5 pictures, 1 more held out");
    let pairs = data("pairs", "drawn here; 4 pairs, 1 more held out");
    assert_eq!(metadata.training_data, [own.clone(), pairs.clone()]);
    assert_eq!(metadata.authors, ["A. Painter"]);

    // A labeler adds to what its model says, and what stands there is not said twice.
    let labeler = Recipe { steps: 1, ..labeler_recipe(root.path(), &init) };
    let (metadata, init) = made(Recipe { pairs: None, hold_out: 0, ..labeler }, "labeler", "B. Labeler");
    let seen = data("own", "labeler: drawn here; 6 pictures");
    assert_eq!(metadata.training_data, [own, pairs, seen]);
    assert_eq!(metadata.authors, ["A. Painter", "B. Labeler"]);
    let again = Recipe { steps: 1, pairs: None, hold_out: 0, ..labeler_recipe(root.path(), &init) };
    assert_eq!(made(again, "again", "B. Labeler").0, metadata);
}

#[test]
fn what_was_learned_on_small_pictures_is_a_start_for_larger_ones() {
    let root = tempfile::tempdir().unwrap();
    write_data(root.path());
    let (small, large) = (root.path().join("small"), root.path().join("large"));
    let half = Recipe { network: tiny().at_side(8).unwrap(), ..recipe(root.path()) };
    train(&half, &small).unwrap();
    let init = small.join("model.safetensors");
    assert_eq!(Model::open(&init).unwrap().metadata().network.resolution, 8);

    // Rates of zero: what the large one gives is what it began with.
    let still = Recipe {
        init: Some(init.clone()),
        steps: 1,
        generator_rate: 0.0,
        discriminator_rate: 0.0,
        ..recipe(root.path())
    };
    train(&still, &large).unwrap();
    let [before, after] = [&init, &large.join("model.safetensors")]
        .map(|p| candle_core::safetensors::load(p, &Device::Cpu).unwrap());
    let of = |tensor: &candle_core::Tensor| {
        let values = tensor.flatten_all().unwrap().to_dtype(candle_core::DType::F32).unwrap();
        values.to_vec1::<f32>().unwrap()
    };
    for (name, tensor) in &after {
        if name.starts_with("encs.") {
            assert_ne!(tensor.dims(), before[name].dims(), "{name}");
        } else {
            assert_eq!(of(tensor), of(&before[name]), "{name}");
        }
    }

    let wider = Config { style_dim: 8, ..tiny() };
    let error = train(&Recipe { network: wider, ..still }, &root.path().join("other")).unwrap_err();
    assert!(error.to_string().contains("other sizes"), "{error}");
    for side in [0, 3, 9, 4096] {
        assert!(tiny().at_side(side).is_err(), "{side}");
    }
}

#[test]
fn lines_of_steps_that_are_done_again_are_dropped() {
    let root = tempfile::tempdir().unwrap();
    write_data(root.path());
    let recipe = recipe(root.path());
    let out = root.path().join("run");
    train_until(&recipe, &out, 3).unwrap();
    let metrics = RunDir::new(&out).metrics();
    let text = fs::read_to_string(&metrics).unwrap();
    // As after a crash in step 5: metrics ahead of the state, the last line cut.
    fs::write(&metrics, format!("{text}{{\"step\":4}}\n{{\"st")).unwrap();
    train_until(&recipe, &out, 4).unwrap();
    let text = fs::read_to_string(&metrics).unwrap();
    let fourth: Vec<_> = text.lines().filter(|line| line.contains("\"step\":4")).collect();
    assert_eq!(fourth.len(), 1);
    assert!(fourth[0].contains("perceptual"), "{}", fourth[0]);
}

#[test]
fn a_run_is_not_gone_on_with_by_another_recipe_or_on_other_data() {
    let root = tempfile::tempdir().unwrap();
    write_data(root.path());
    let recipe = recipe(root.path());
    let out = root.path().join("run");
    train_until(&recipe, &out, 2).unwrap();

    let error = train(&Recipe { batch: 3, ..recipe.clone() }, &out).unwrap_err().to_string();
    assert!(error.contains("batch 2, not 3"), "{error}");
    // More steps are no other recipe.
    train_until(&Recipe { steps: 8, ..recipe.clone() }, &out, 3).unwrap();

    write_picture(&root.path().join("own"), 0, 0, 32);
    let error = train(&Recipe { steps: 8, ..recipe }, &out).unwrap_err().to_string();
    assert!(error.contains("training data"), "{error}");
}

#[test]
fn a_run_is_not_gone_on_with_when_the_model_that_it_began_with_is_another() {
    let root = tempfile::tempdir().unwrap();
    write_data(root.path());
    let (first, out) = (root.path().join("first"), root.path().join("run"));
    train_until(&recipe(root.path()), &first, 2).unwrap();
    let recipe = Recipe { init: Some(RunDir::new(&first).model()), ..recipe(root.path()) };
    train_until(&recipe, &out, 2).unwrap();
    train_until(&recipe, &out, 3).unwrap();
    // In the same place, after a third step.
    train_until(&Recipe { init: None, ..recipe.clone() }, &first, 3).unwrap();
    let error = train(&recipe, &out).unwrap_err().to_string();
    assert!(error.contains("--init"), "{error}");
}

/// `--out` may be mistaken for the folder of a model that is in use.
#[test]
fn a_model_of_no_run_is_not_trained_over() {
    let root = tempfile::tempdir().unwrap();
    write_data(root.path());
    let out = root.path().join("models");
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("model.safetensors"), "somebody's").unwrap();
    let error = train(&recipe(root.path()), &out).unwrap_err().to_string();
    assert!(error.contains("model.safetensors is there, but no run that it is of"), "{error}");
    assert_eq!(std::fs::read(out.join("model.safetensors")).unwrap(), b"somebody's");
    std::fs::rename(out.join("model.safetensors"), out.join("best.safetensors")).unwrap();
    let error = train(&recipe(root.path()), &out).unwrap_err().to_string();
    assert!(error.contains("best.safetensors is there, but no run that it is of"), "{error}");
}

#[test]
fn a_damaged_state_is_refused() {
    let root = tempfile::tempdir().unwrap();
    write_data(root.path());
    let recipe = recipe(root.path());
    let out = root.path().join("run");
    train_until(&recipe, &out, 1).unwrap();
    let state = out.join("state.safetensors");
    let bytes = fs::read(&state).unwrap();
    for cut in [0, 4, 100, bytes.len() - 1] {
        fs::write(&state, &bytes[..cut]).unwrap();
        let error = train(&recipe, &out).unwrap_err();
        assert!(matches!(&error, Error::Format { .. }), "{cut}: {error}");
    }
}

#[test]
fn a_nan_stops_the_run_naming_step_and_loss_and_keeps_the_last_good_step() {
    let root = tempfile::tempdir().unwrap();
    write_data(root.path());
    let recipe = recipe(root.path());
    let out = root.path().join("run");
    train_until(&recipe, &out, 2).unwrap();

    // One weight of the discriminator becomes NaN on disk.
    let state = out.join("state.safetensors");
    let mut bytes = fs::read(&state).unwrap();
    let offset = {
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let weight = file.tensor("discriminator/0.0.bias").unwrap().data().as_ptr();
        weight as usize - bytes.as_ptr() as usize
    };
    bytes[offset..offset + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&state, &bytes).unwrap();
    match train(&recipe, &out) {
        Err(Error::Diverged { step: 2, what, value }) => {
            assert_eq!(what, "gan");
            assert!(value.is_nan());
        }
        other => panic!("{other:?}"),
    }
    // Nothing of the third step came into the generator.
    let after = fs::read(&state).unwrap();
    let (before, after) = (
        safetensors::SafeTensors::deserialize(&bytes).unwrap(),
        safetensors::SafeTensors::deserialize(&after).unwrap(),
    );
    for name in before.names() {
        if name.starts_with("generator") || name.starts_with("mean") {
            assert!(
                before.tensor(name).unwrap().data() == after.tensor(name).unwrap().data(),
                "{name} moved"
            );
        }
    }
}

#[test]
fn a_tiny_network_learns_two_pictures() {
    let root = tempfile::tempdir().unwrap();
    write_data(root.path());
    let data = root.path().join("own");
    for i in 2..6 {
        for folder in ["images", "labels"] {
            fs::remove_file(data.join(folder).join(format!("{i:02}_{i:02}.png"))).unwrap();
        }
    }
    let recipe = Recipe {
        steps: 60,
        generator_rate: 3e-3,
        beta2: 0.99,
        weights: LossWeights { gan: 0.0, features: 0.0, perceptual: 10.0, attention: 1.0, l1: 0.0 },
        ..Recipe::published(data, tiny())
    };
    let mut course = Vec::new();
    let options = RunOptions { eval_every: 1000, sheet_every: 1000, ..options(&root.path().join("run")) };
    run(recipe, &options, &Device::Cpu, &AtomicBool::new(false), &mut |event| {
        if let Event::Step { losses, .. } = event {
            course.push([losses[0].1, losses[1].1]);
        }
    })
    .unwrap();
    let mean = |part: &[[f64; 2]], k: usize| part.iter().map(|l| l[k]).sum::<f64>() / part.len() as f64;
    for (k, name) in [(0, "perceptual"), (1, "attention")] {
        let (first, last) = (mean(&course[..5], k), mean(&course[55..], k));
        assert!(last < 0.6 * first, "{name}: {first} at first, {last} at last");
    }
}

#[test]
fn the_last_pictures_by_name_and_every_pair_that_touches_them_are_held_out() {
    let root = tempfile::tempdir().unwrap();
    write_data(root.path());
    let read =
        |hold_out| Dataset::read(&root.path().join("own"), Some(&root.path().join("pairs")), hold_out, 16);
    // Pairs are 0 in 1, 1 in 2, ... 4 in 5.
    for (hold_out, trained, held) in [(0, (6, 5), (0, 0)), (1, (5, 4), (1, 1)), (2, (4, 3), (2, 2))] {
        let data = read(hold_out).unwrap();
        assert_eq!((data.len(), data.held_len()), (trained, held), "{hold_out} held out");
    }
    let error = read(6).err().unwrap().to_string();
    assert!(error.contains("none is left"), "{error}");

    // What is held out has no part in what is trained on.
    let hash = read(2).unwrap().hash().to_owned();
    write_picture(&root.path().join("own"), 5, 5, 32);
    write_picture(&root.path().join("pairs"), 3, 4, 32);
    assert_eq!(read(2).unwrap().hash(), hash);
    write_picture(&root.path().join("pairs"), 2, 3, 32);
    assert_ne!(read(2).unwrap().hash(), hash);
}

#[test]
fn faults_in_the_data_are_named() {
    let fault = |harm: &dyn Fn(&Path)| {
        let root = tempfile::tempdir().unwrap();
        write_data(root.path());
        harm(root.path());
        let data = Dataset::read(&root.path().join("own"), Some(&root.path().join("pairs")), 1, 16);
        data.err().expect("harmed data are refused").to_string()
    };
    let labels = "own/labels/02_02.png";
    let error = fault(&|root| fs::remove_file(root.join(labels)).unwrap());
    assert!(error.contains("02_02.png"), "{error}");
    let error = fault(&|root| {
        image::GrayImage::from_pixel(24, 24, image::Luma([3])).save(root.join(labels)).unwrap()
    });
    assert!(error.contains("02_02.png") && error.contains('3'), "{error}");
    let error = fault(&|root| image::GrayImage::new(24, 23).save(root.join(labels)).unwrap());
    assert!(error.contains("24x23"), "{error}");
    let error = fault(&|root| fs::write(root.join("own/images/02_02.png"), b"no picture").unwrap());
    assert!(error.contains("02_02.png"), "{error}");
    let error = fault(&|root| fs::remove_file(root.join("own/images/03_03.png")).unwrap());
    assert!(error.contains("02_03.png") && error.contains("03_03"), "{error}");
    let error = fault(&|root| {
        fs::rename(root.join("pairs/images/02_03.png"), root.join("pairs/images/a.png")).unwrap()
    });
    assert!(error.contains("LAYOUT_LOOK"), "{error}");
    let error = fault(&|root| fs::remove_file(root.join("classes.json")).unwrap());
    assert!(error.contains("classes.json"), "{error}");
}

/// A model of one step, to train a labeler for.
fn model_without_labeler(root: &Path) -> std::path::PathBuf {
    let out = root.join("generator");
    train(&Recipe { steps: 1, ..recipe(root) }, &out).unwrap();
    out.join("model.safetensors")
}

fn labeler_recipe(root: &Path, init: &Path) -> Recipe {
    let labeler = Some(LabelerSizes { widths: vec![8, 16, 16] });
    Recipe {
        part: Part::Labeler,
        network: Config { labeler, ..tiny() },
        init: Some(init.to_owned()),
        generator_rate: 1e-2,
        beta1: 0.9,
        beta2: 0.99,
        ema: 0.9,
        steps: 150,
        batch: 4,
        ..recipe(root)
    }
}

#[test]
fn a_labeler_learns_and_leaves_the_rest_of_its_model_as_it_was() {
    let root = tempfile::tempdir().unwrap();
    write_data(root.path());
    let init = model_without_labeler(root.path());
    let out = root.path().join("labeler");
    let mut figures = None;
    let recipe = labeler_recipe(root.path(), &init);
    run(recipe, &options(&out), &Device::Cpu, &AtomicBool::new(false), &mut |event| {
        if let Event::HeldLabels { figures: found, .. } = event {
            figures = found;
        }
    })
    .unwrap();
    // The picture held out has colours never seen: it is counted, not expected to be right.
    let figures = figures.unwrap();
    assert_eq!(figures.pictures, 1);
    let last = marks(&out).1;
    assert_eq!((last.step, last.figure.measure), (150, Measure::MeanIou));
    assert!((last.figure.value - figures.mean_iou).abs() < 1e-9);

    let path = RunDir::new(&out).model();
    let model = Model::open(&path).unwrap();
    assert_eq!(model.metadata().name, Model::open(&init).unwrap().metadata().name);
    let [before, after] = [&init, &path].map(|p| candle_core::safetensors::load(p, &Device::Cpu).unwrap());
    for (name, tensor) in &before {
        let values = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<half::f16>().unwrap();
        assert_eq!(values(tensor), values(&after[name]), "{name}");
    }
    assert!(after.keys().filter(|name| !before.contains_key(*name)).all(|name| name.starts_with("labeler.")));

    // At full resolution, of any size.
    let network = model.network(&Device::Cpu).unwrap();
    write_picture(&root.path().join("large"), 1, 1, 96);
    let picture = Picture::read(root.path().join("large/images/01_01.png")).unwrap();
    let truth = LabelMap::read(root.path().join("large/labels/01_01.png"), model.classes()).unwrap();
    let found = label(&network, &picture.view(), Progress::NONE).unwrap();
    let right = truth.indices().iter().zip(found.labels.indices()).filter(|(a, b)| a == b).count();
    assert!(right * 10 > truth.indices().len() * 9, "{right} of {}", truth.indices().len());
    assert!((0.5..=1.0).contains(&found.confidence), "{}", found.confidence);
}

/// An imported model has its weights in f32, and this third is no half.
#[test]
fn a_labelers_run_rounds_nothing_of_a_model_in_f32() {
    let root = tempfile::tempdir().unwrap();
    write_data(root.path());
    let path = model_without_labeler(root.path());
    let half = Model::open(&path).unwrap();
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    for tensor in tensors.values_mut() {
        *tensor = (tensor.to_dtype(candle_core::DType::F32).unwrap() / 3.0).unwrap();
    }
    let init = root.path().join("whole.safetensors");
    let tensors = tensors.into_iter().collect();
    ca2sis::model::save(&init, half.metadata(), &tensors, candle_core::DType::F32).unwrap();
    let out = root.path().join("labeler");
    train(&Recipe { steps: 1, ..labeler_recipe(root.path(), &init) }, &out).unwrap();
    let after = candle_core::safetensors::load(RunDir::new(&out).model(), &Device::Cpu).unwrap();
    for (name, tensor) in &tensors {
        let values = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(tensor), values(&after[name]), "{name}");
    }
}

#[test]
fn a_labelers_run_that_was_stopped_goes_on_bit_for_bit() {
    let root = tempfile::tempdir().unwrap();
    write_data(root.path());
    let init = model_without_labeler(root.path());
    let recipe = Recipe { steps: 6, ..labeler_recipe(root.path(), &init) };
    let (whole, parts) = (root.path().join("whole"), root.path().join("parts"));
    assert_eq!(train(&recipe, &whole).unwrap(), Ending::Finished);
    assert_eq!(train_until(&recipe, &parts, 2).unwrap(), Ending::Stopped);
    assert_eq!(train(&recipe, &parts).unwrap(), Ending::Finished);
    for file in ["state.safetensors", "model.safetensors"] {
        assert!(fs::read(whole.join(file)).unwrap() == fs::read(parts.join(file)).unwrap(), "{file} differs");
    }
}

#[test]
fn a_run_rounds_to_bfloat16_where_the_cpu_has_tiles_for_it_and_is_refused_elsewhere() {
    let root = tempfile::tempdir().unwrap();
    write_data(root.path());
    let init = model_without_labeler(root.path());
    let recipe = labeler_recipe(root.path(), &init);
    // Wide enough that its convolutions are worth tiles.
    let labeler = Some(LabelerSizes { widths: vec![32, 32, 32] });
    let recipe = Recipe { steps: 2, network: Config { labeler, ..recipe.network.clone() }, ..recipe };
    let ran = |precision, out: &str| {
        let (recipe, mut losses) = (Recipe { precision, ..recipe.clone() }, Vec::new());
        let out = options(&root.path().join(out));
        run(recipe, &out, &Device::Cpu, &AtomicBool::new(false), &mut |event| {
            if let Event::Step { losses: found, .. } = event {
                losses.push(found.iter().find(|(name, _)| *name == "gradient").unwrap().1);
            }
        })?;
        Ok((losses, fs::read(RunDir::new(&out.out).model()).unwrap()))
    };
    let refused = |precision, word: &str| {
        let error: Error = ran(precision, "refused").unwrap_err();
        assert!(matches!(&error, Error::Unsupported(why) if why.contains(word)), "{error}");
    };
    refused(Precision::F16, "f32, tf32 and bf16");
    refused(Precision::Tf32, "leave the precision out");
    if !Level::Amx.is_available() {
        return refused(Precision::Bf16, "AMX");
    }
    let (exact, whole) = ran(Precision::F32, "f32").unwrap();
    let (rounded, first) = ran(Precision::Bf16, "bf16").unwrap();
    for (rounded, exact) in rounded.iter().zip(&exact) {
        assert!((rounded - exact).abs() < 0.02 * exact, "a gradient of {rounded}, not {exact}");
    }
    assert_ne!(rounded, exact, "nothing was rounded");
    assert_ne!(first, whole);
    assert!(first == ran(Precision::Bf16, "again").unwrap().1, "two runs differ");
    assert_eq!(ran(Precision::F32, "behind").unwrap().0, exact, "rounding went on behind its run");
}

#[test]
fn training_the_generator_on_keeps_the_models_labeler() {
    let root = tempfile::tempdir().unwrap();
    write_data(root.path());
    let init = model_without_labeler(root.path());
    let with = root.path().join("labeler");
    train(&Recipe { steps: 1, ..labeler_recipe(root.path(), &init) }, &with).unwrap();
    let with = RunDir::new(&with).model();
    let out = root.path().join("on");
    train(&Recipe { steps: 1, init: Some(with.clone()), ..recipe(root.path()) }, &out).unwrap();
    let [before, after] = [with, RunDir::new(&out).model()].map(|path| {
        let model = Model::open(&path).unwrap();
        assert!(model.metadata().network.labeler.is_some(), "{}", path.display());
        candle_core::safetensors::load(&path, &Device::Cpu).unwrap()
    });
    for (name, tensor) in before.iter().filter(|(name, _)| name.starts_with("labeler.")) {
        let values = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<half::f16>().unwrap();
        assert_eq!(values(tensor), values(&after[name]), "{name}");
    }
}

#[test]
fn a_model_without_a_labeler_says_so() {
    let root = tempfile::tempdir().unwrap();
    write_data(root.path());
    let network = Model::open(&model_without_labeler(root.path())).unwrap().network(&Device::Cpu).unwrap();
    let picture = Picture::new(4, 4, 3, Samples::U8(vec![0; 48])).unwrap();
    let error = label(&network, &picture.view(), Progress::NONE).unwrap_err();
    assert!(matches!(&error, Error::Model(what) if what.contains("no labeler")), "{error}");
    let recipe = labeler_recipe(root.path(), Path::new("nowhere"));
    let error = train(&Recipe { init: None, ..recipe }, &root.path().join("none")).unwrap_err();
    assert!(error.to_string().contains("--init MODEL"), "{error}");
}

#[test]
fn a_run_says_how_near_bf16_comes_when_asked() {
    let root = tempfile::tempdir().unwrap();
    write_data(root.path());
    let out = root.path().join("run");
    let said = |bf16: bool| {
        let options = RunOptions { bf16, ..options(&out) };
        run(recipe(root.path()), &options, &Device::Cpu, &AtomicBool::new(false), &mut |_| {}).unwrap();
        let dir = RunDir::new(&out);
        let [last, best] = [dir.model(), dir.best()].map(|p| Model::open(&p).unwrap().metadata().bf16_db);
        assert_eq!(last.is_some(), best.is_some(), "of both models or of neither");
        last
    };
    assert_eq!(said(false), None);
    // The run is finished, and is asked again. Pictures that are the same bit for bit would be said to be 206 dB apart.
    let db = said(true).expect("pictures are held out");
    assert!((20..200).contains(&db), "{db} dB");
}

#[test]
fn a_run_that_is_to_fit_its_time_makes_the_steps_that_do_and_ends_with_the_rates_at_nought() {
    let root = tempfile::tempdir().unwrap();
    write_data(root.path());
    let recipe = Recipe { steps: 1_000_000, ..recipe(root.path()) };
    let limit = Some(std::time::Duration::from_secs(4));
    let options = RunOptions {
        time_limit: limit,
        fit_time: true,
        eval_every: 1_000_000,
        sheet_every: 1_000_000,
        ..options(&root.path().join("run"))
    };
    let ending = run(recipe, &options, &Device::Cpu, &AtomicBool::new(false), &mut |_| {}).unwrap();
    assert_eq!(ending, Ending::Finished);
    let text = std::fs::read_to_string(root.path().join("run/metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let steps: Vec<_> = lines.filter(|line| line.get("steps per second").is_some()).collect();
    let rates: Vec<f64> = steps.iter().map(|line| line["generator rate"].as_f64().unwrap()).collect();
    assert!(rates.len() > 10, "{} steps", rates.len());
    assert!(rates[rates.len() - 1] < 0.2 * rates[0], "{rates:?}");
    // Constant for half of the time.
    assert!(rates[rates.len() / 3] > 0.9 * rates[0], "{rates:?}");
}

#[test]
fn a_run_that_is_to_fit_its_time_has_it_once_though_it_is_stopped_and_gone_on_with() {
    let root = tempfile::tempdir().unwrap();
    write_data(root.path());
    let recipe = Recipe { steps: 1_000_000, ..recipe(root.path()) };
    let options = RunOptions {
        time_limit: Some(std::time::Duration::from_secs(8)),
        fit_time: true,
        eval_every: 1_000_000,
        sheet_every: 1_000_000,
        ..options(&root.path().join("run"))
    };
    let (begun, stop) = (std::time::Instant::now(), AtomicBool::new(false));
    let ending = run(recipe.clone(), &options, &Device::Cpu, &stop, &mut |_| {
        stop.store(begun.elapsed().as_secs() >= 6, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(ending.unwrap(), Ending::Stopped);
    let begun = std::time::Instant::now();
    let ending = run(recipe, &options, &Device::Cpu, &AtomicBool::new(false), &mut |_| {}).unwrap();
    assert!(matches!(ending, Ending::Finished | Ending::TimeLimit), "{ending:?}");
    assert!(begun.elapsed().as_secs() < 6, "{:?} of the two seconds that were left", begun.elapsed());
}
