//! The plug-in in a real host: MLT's `melt`, on stills and a clip, beside the library called directly.
//!
//! `tests/hosts/hosts install` puts the host there (as root, on Debian); where it is not, these tests say so and are skipped.
#![cfg(target_os = "linux")]

#[path = "../../../tests/skip/mod.rs"]
mod skip;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use ca2sis::context::{Context, LoadedModel, Options};
use ca2sis::device::Choice;
use ca2sis::image::{Channels, LabelMap, Layout, Picture, SampleType, Samples, View, ViewMut};
use ca2sis::model::Model;
use ca2sis::progress::Progress;
use ca2sis::restyle::{ColorChange, Job, Method, restyle, restyle_by};
use ca2sis::style::Style;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The host, with the bundle installed where it sees it.
struct Melt {
    script: PathBuf,
    folder: PathBuf,
}

fn find() -> Result<Melt, String> {
    let script = root().join("tests/hosts/hosts");
    // SAFETY: it only answers.
    if unsafe { libc::geteuid() } != 0 {
        return Err("the host is in a chroot, which only root may enter".into());
    }
    let asked = Command::new(&script).arg("root").output().map_err(|e| e.to_string())?;
    let chroot = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
    if !(chroot.join(".ready").exists() && chroot.join("usr/bin/melt").exists()) {
        return Err("no MLT there: tests/hosts/hosts install".into());
    }
    let folder = chroot.parent().unwrap().join("openfx-tests");
    std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    let program = std::env::current_exe().unwrap();
    let deps = program.parent().unwrap();
    let library = [deps.join("libca2sis_openfx.so"), deps.parent().unwrap().join("libca2sis_openfx.so")];
    let library =
        library.into_iter().find(|path| path.exists()).expect("cargo builds the plug-in with its tests");
    let installed = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("install"))
        .arg("--to")
        .arg(folder.join("plugins"))
        .arg("--library")
        .arg(library)
        .output()
        .map_err(|e| e.to_string())?;
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    Ok(Melt { script, folder })
}

/// The host, or a word about why the test is skipped.
fn melt() -> Option<&'static Melt> {
    static MELT: OnceLock<Result<Melt, String>> = OnceLock::new();
    match MELT.get_or_init(find) {
        Ok(melt) => Some(melt),
        Err(why) => {
            skip::skipped(why);
            None
        }
    }
}

impl Melt {
    fn run(&self, width: usize, height: usize, arguments: &[String]) {
        let profile = self.folder.join(format!("profile-{width}x{height}"));
        let text = format!(
            "description=test\nframe_rate_num=25\nframe_rate_den=1\nwidth={width}\nheight={height}\nprogressive=1\n\
             sample_aspect_num=1\nsample_aspect_den=1\ndisplay_aspect_num={width}\ndisplay_aspect_den={height}\ncolorspace=601\n"
        );
        std::fs::write(&profile, text).unwrap();
        let output = Command::new(&self.script)
            .args(["run", "timeout", "300", "melt", "-profile"])
            .arg(&profile)
            .args(arguments)
            .env("OFX_PLUGIN_PATH", self.folder.join("plugins"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{said}");
    }

    /// Restyles `input` into `output`, or its frames, with properties of the filter.
    fn restyle(
        &self,
        size: (usize, usize),
        input: &str,
        length: usize,
        properties: &[String],
        output: &Path,
    ) {
        let mut arguments: Vec<String> =
            vec![input.into(), "ttl=1".into(), "out=".to_owned() + &(length - 1).to_string()];
        arguments.push(format!("length={length}"));
        arguments.extend([
            "-attach-clip".to_owned(),
            "openfx.org.ca2sis.Restyle".to_owned(),
            "device=CPU".to_owned(),
        ]);
        arguments.extend(properties.iter().cloned());
        arguments.extend(["-consumer".to_owned(), format!("avformat:{}", output.display())]);
        for property in [
            "vcodec=png",
            "pix_fmt=rgba",
            "f=image2",
            "mlt_image_format=rgba",
            "an=1",
            "real_time=-1",
            "terminate_on_pause=1",
        ] {
            arguments.push(property.into());
        }
        let last = match length {
            1 => output.to_owned(),
            _ => output.with_file_name(format!("{length:04}.png")),
        };
        if length == 1 {
            arguments.push("update=1".into());
        }
        // An earlier result is not to be taken for this one. And of a hundred runs of a frame that takes no time at all the host
        // ends one or two before it has written anything, with or without a thread of its own for it.
        let _ = std::fs::remove_file(&last);
        for _ in 0..5 {
            self.run(size.0, size.1, &arguments);
            if last.exists() {
                return;
            }
        }
        panic!("{} was not written in five runs", last.display());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn sample(name: &str) -> PathBuf {
    root().join("models/sample").join(name)
}

/// The library, called directly.
struct Library {
    loaded: LoadedModel,
    style: Style,
}

impl Library {
    fn new() -> Self {
        let options = Options { device: Choice::Cpu, ..Options::default() };
        let loaded = Context::new(options).unwrap().load(&Model::embedded().unwrap()).unwrap();
        let reference = Picture::read(sample("reference.png")).unwrap();
        let labels = LabelMap::read(sample("reference_labels.png"), loaded.model().classes()).unwrap();
        let style = loaded.extract(reference.view(), &labels, None).unwrap();
        Self { loaded, style }
    }

    /// What `work` makes of an RGBA picture of 8 bits.
    fn with<T: Send>(
        &self,
        content: &[u8],
        labels: &LabelMap,
        work: impl FnOnce(&Job) -> ca2sis::Result<T> + Send,
    ) -> T {
        let layout = Layout::tight(labels.width(), labels.height(), Channels::Rgba, SampleType::U8);
        let run = self.loaded.run("direct", None, |network, _| {
            let method = Method::Network { network, style: &self.style };
            work(&Job::new(View::new(content, layout)?, labels, method))
        });
        run.unwrap()
    }

    fn restyle(&self, content: &[u8], labels: &LabelMap) -> Vec<u8> {
        let layout = Layout::tight(labels.width(), labels.height(), Channels::Rgba, SampleType::U8);
        let mut result = vec![0; content.len()];
        self.with(content, labels, |job| {
            restyle(job, &mut ViewMut::new(&mut result, layout)?, Progress::NONE).map(|_| ())
        });
        result
    }
}

/// Equal, but for what the C library of the host's system makes of powers and exponentials: their last place is another than
/// here, which turns the rounding to 8 bits of a few samples in a million.
fn assert_equal(result: &[u8], wanted: &[u8], what: &str) {
    assert_eq!(result.len(), wanted.len(), "{what}");
    let off = result.iter().zip(wanted).filter(|(a, b)| a != b).count();
    let most = result.iter().zip(wanted).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0);
    println!("{what}: {off} of {} samples are off, by {most} at most", result.len());
    assert!(
        most <= 1 && off * 10_000 <= result.len(),
        "{what}: {off} of {} are off, by up to {most}",
        result.len()
    );
}

fn rgba(picture: &Picture) -> Vec<u8> {
    let Samples::U8(samples) = picture.samples() else { panic!("8 bits") };
    match picture.channels() {
        4 => samples.clone(),
        3 => samples.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect(),
        n => panic!("{n} channels"),
    }
}

/// The sample's reference, copied to where the host sees it under names that begin with `prefix`: tests run side by side.
fn reference_properties(melt: &Melt, prefix: &str) -> Vec<String> {
    let copy = |name: &str| {
        let to = melt.path(&format!("{prefix}-{name}"));
        std::fs::copy(sample(name), &to).unwrap();
        to.display().to_string()
    };
    vec![
        format!("referenceFile={}", copy("reference.png")),
        format!("referenceLabelsFile={}", copy("reference_labels.png")),
    ]
}

#[test]
fn a_still_comes_out_of_melt_as_of_the_library() {
    let Some(melt) = melt() else { return };
    let (content, labels, out) = (melt.path("content.png"), melt.path("labels.png"), melt.path("still.png"));
    std::fs::copy(sample("content.png"), &content).unwrap();
    std::fs::copy(sample("labels.png"), &labels).unwrap();
    let library = Library::new();
    let map = LabelMap::read(&labels, library.loaded.model().classes()).unwrap();
    let picture = Picture::read(&content).unwrap();
    let size = (picture.width(), picture.height());
    let input = format!("abnormal:pixbuf:{}", content.display());
    let mut properties = reference_properties(melt, "still");
    properties.push(format!("labelsFile={}", labels.display()));
    melt.restyle(size, &input, 1, &properties, &out);
    let result = rgba(&Picture::read(&out).unwrap());
    assert_equal(&result, &library.restyle(&rgba(&picture), &map), "the still");
    assert!(result != rgba(&picture));

    // With no reference named, the look of the same sample, which the plug-in has inside; choices go by name.
    melt.restyle(size, &input, 1, &[format!("labelsFile={}", labels.display())], &out);
    assert!(rgba(&Picture::read(&out).unwrap()) == result);
    properties.push("method=Statistics".into());
    melt.restyle(size, &input, 1, &properties, &out);
    let other = rgba(&Picture::read(&out).unwrap());
    assert!(other != result && other != rgba(&picture));

    // Where it cannot be done the host keeps its picture.
    melt.restyle(size, &input, 1, &["labelsFile=/nowhere.png".into()], &out);
    assert!(rgba(&Picture::read(&out).unwrap()) == rgba(&picture));
    melt.restyle(size, &input, 1, &[format!("labelsFile={}", labels.display()), "strength=0".into()], &out);
    assert!(rgba(&Picture::read(&out).unwrap()) == rgba(&picture));
}

/// Two seconds of a camera that moves over the sample.
#[test]
fn a_clip_with_label_maps_of_each_frame_comes_out_of_melt_as_of_the_library() {
    let Some(melt) = melt() else { return };
    let (frames, size) = (50usize, (320usize, 240usize));
    let folder = melt.path("clip");
    let _ = std::fs::remove_dir_all(&folder);
    for name in ["in", "out", "smooth"] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
    }
    let library = Library::new();
    let classes = library.loaded.model().classes();
    let all = Picture::read(sample("content.png")).unwrap();
    let map = LabelMap::read(sample("labels.png"), classes).unwrap();
    let (pixels, width) = (rgba(&all), all.width());
    let mut clip = Vec::new();
    for t in 0..frames {
        let (left, top) = (20 + t * 6, 100 + t * 2);
        let at = |i: usize| (top + i / size.0) * width + left + i % size.0;
        let content: Vec<u8> =
            (0..size.0 * size.1).flat_map(|i| pixels[at(i) * 4..at(i) * 4 + 4].to_vec()).collect();
        let indices = (0..size.0 * size.1).map(|i| map.indices()[at(i)]).collect();
        let labels = LabelMap::new(size.0, size.1, indices).unwrap();
        labels.write_png(folder.join(format!("labels.{t:04}.png")), classes).unwrap();
        let picture = Picture::new(size.0, size.1, 4, Samples::U8(content.clone())).unwrap();
        picture.write(folder.join(format!("in/{t:04}.png"))).unwrap();
        clip.push((content, labels));
    }
    let input = format!("abnormal:pixbuf:{}", folder.join("in/.all.png").display());
    let mut properties = reference_properties(melt, "clip");
    properties.push(format!("labelsFile={}", folder.join("labels.####.png").display()));
    melt.restyle(size, &input, frames, &properties, &folder.join("out/%04d.png"));
    let read =
        |kind: &str, t: usize| rgba(&Picture::read(folder.join(format!("{kind}/{:04}.png", t + 1))).unwrap());
    for t in [0, 1, 24, 49] {
        let (content, labels) = &clip[t];
        assert_equal(&read("out", t), &library.restyle(content, labels), &format!("frame {t}"));
    }

    // Smoothed: this host has no other frames, so those before count.
    properties.extend(["overTime=Smoothed".to_owned(), "radius=2".to_owned()]);
    melt.restyle(size, &input, frames, &properties, &folder.join("smooth/%04d.png"));
    let t = 24;
    let changes: Vec<ColorChange> = [t, t - 2, t - 1]
        .iter()
        .map(|&k| library.with(&clip[k].0, &clip[k].1, |job| ColorChange::of(job, Progress::NONE)))
        .collect();
    let weighted: Vec<(f32, &ColorChange)> = [3.0, 1.0, 2.0].into_iter().zip(&changes).collect();
    let (content, labels) = &clip[t];
    let layout = Layout::tight(size.0, size.1, Channels::Rgba, SampleType::U8);
    let mut wanted = vec![0; content.len()];
    library.with(content, labels, |job| {
        let mut out = ViewMut::new(&mut wanted, layout)?;
        restyle_by(job, &weighted, Some(&changes[0]), &mut out, Progress::NONE).map(|_| ())
    });
    assert_equal(&read("smooth", t), &wanted, "a smoothed frame");
    assert!(read("smooth", t) != read("out", t));
}
