//! `ca2sis demo`: the job on pictures that ca2sis brings along.

use std::fs;
use std::path::{Path, PathBuf};

use ca2sis::image::{LabelMap, Picture, RgbImage};
use ca2sis::progress::Progress;
use ca2sis::record::DigitalSource;
use ca2sis::restyle::{Job, Method, restyle_picture};
use ca2sis::style::Style;
use ca2sis::{Error, Result};

use crate::common::{Hashes, Made, ModelArgs, RecordWhere, json, names, note, say, write_result};
use crate::progress::Bar;

/// Restyle a sample picture that ca2sis brings along
///
/// Writes the content, the reference, their label maps, the result, and a sheet with all of them.
#[derive(clap::Args)]
pub struct Args {
    /// Folder to write to; made if need be
    #[arg(long, value_name = "DIR", default_value = "demo")]
    out: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
}

const SAMPLES: [(&str, &[u8]); 4] = [
    ("content.png", include_bytes!("../../../models/sample/content.png")),
    ("labels.png", include_bytes!("../../../models/sample/labels.png")),
    ("reference.png", include_bytes!("../../../models/sample/reference.png")),
    ("reference_labels.png", include_bytes!("../../../models/sample/reference_labels.png")),
];

pub fn run(args: Args) -> Result<bool> {
    let out = &args.out;
    let (model, network) = args.model.open()?;
    // Again into a demo's folder, but over nothing else.
    let is_demo =
        SAMPLES.iter().all(|(name, bytes)| fs::read(out.join(name)).is_ok_and(|there| there == *bytes));
    let written =
        SAMPLES.map(|(name, _)| name).into_iter().chain(["sheet.png", "result.png", "result.png.json"]);
    if let Some(there) = written.map(|name| out.join(name)).find(|path| !is_demo && path.exists()) {
        return Err(Error::invalid(format!(
            "{} is there already: name another folder with --out",
            there.display()
        )));
    }
    fs::create_dir_all(out).map_err(|e| Error::io(out, e))?;
    let [content, labels, reference, reference_labels] = SAMPLES.map(|(name, bytes)| {
        let path = out.join(name);
        fs::write(&path, bytes).map_err(|e| Error::io(&path, e)).map(|()| path)
    });
    let (content, reference) = (Picture::read(content?)?, Picture::read(reference?)?);
    let read_labels = |path: Result<PathBuf>| LabelMap::read(path?, model.classes());
    let (labels, reference_labels) = (read_labels(labels)?, read_labels(reference_labels)?);

    let bar = Bar::new("demo");
    let (first, second) = (|done| bar.at(0.3 * done), |done| bar.at(0.3 + 0.7 * done));
    let style = Style::extract(&network, &reference, &reference_labels, Progress::new(&first))?;
    let job = Job::new(&content, &labels, Method::Network { network: &network, style: &style });
    let (result, report) = restyle_picture(&content, &job, Progress::new(&second))?;
    drop(bar);
    let panels = [
        ("content", content.to_rgb_f32()),
        ("result", result.to_rgb_f32()),
        ("labels", labels.to_picture(model.classes())?.to_rgb_f32()),
        ("reference", reference.to_rgb_f32()),
    ];
    sheet(&panels)?.write(out.join("sheet.png"))?;
    let inputs = [
        ("content", "content.png"),
        ("labels", "labels.png"),
        ("reference", "reference.png"),
        ("reference-labels", "reference_labels.png"),
    ];
    let made = Made {
        command: "restyle",
        source: DigitalSource::CompositeWithTrainedAlgorithmicMedia,
        model: &model,
        device: network.device(),
        precision: network.precision(),
        files: inputs.map(|(option, name)| (option.to_owned(), out.join(name))).into(),
        proposed: Default::default(),
        options: [("strength".to_owned(), vec!["1".to_owned()])].into(),
        rights: Some("CC0: made for ca2sis".into()),
        notes: vec![("missing", names(model.classes(), &report.missing))],
    };
    write_result(result, &out.join("result.png"), RecordWhere::Both, made, &mut Hashes::default())?;
    note(model.classes(), &report.missing, "not in the reference's look, as it lacks them");
    if json() {
        let files = [("before", "content.png"), ("after", "result.png"), ("sheet", "sheet.png")];
        let files = files.map(|(key, name)| (key.to_owned(), shown(&out.join(name)).into()));
        say!("{}", serde_json::Value::Object(files.into_iter().collect()));
        return Ok(true);
    }
    say!("before  {}", shown(&out.join("content.png")));
    say!("after   {}", shown(&out.join("result.png")));
    say!("sheet   {}", shown(&out.join("sheet.png")));
    Ok(true)
}

fn shown(path: &Path) -> String {
    path.canonicalize().unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// Sizes of the sheet, in pixels.
const PANEL: (usize, usize) = (576, 432);
const GAP: usize = 24;
const CAPTION: usize = 40;
/// Side of one dot of a letter.
const DOT: usize = 3;

/// Four pictures, two a row, each with its caption below.
fn sheet(panels: &[(&str, RgbImage); 4]) -> Result<Picture> {
    let (width, height) = (2 * PANEL.0 + 3 * GAP, 2 * (PANEL.1 + CAPTION) + 2 * GAP);
    let mut canvas = RgbImage { width, height, pixels: vec![1.0; width * height * 3] };
    for (i, (caption, picture)) in panels.iter().enumerate() {
        let (x, y) = (GAP + i % 2 * (PANEL.0 + GAP), GAP + i / 2 * (PANEL.1 + CAPTION));
        let panel = picture.resized(PANEL.0, PANEL.1);
        for (row, source) in panel.pixels.chunks_exact(PANEL.0 * 3).enumerate() {
            let at = ((y + row) * width + x) * 3;
            canvas.pixels[at..at + source.len()].copy_from_slice(source);
        }
        write(&mut canvas, caption, x, y + PANEL.1 + 10);
    }
    canvas.to_picture()
}

/// Writes `text` in dark gray, its upper left corner at (x, y).
fn write(canvas: &mut RgbImage, text: &str, x: usize, y: usize) {
    for (i, letter) in text.chars().enumerate() {
        for (row, bits) in glyph(letter).into_iter().enumerate() {
            for column in (0..5).filter(|c| bits >> (4 - c) & 1 == 1) {
                let (left, top) = (x + (i * 6 + column) * DOT, y + row * DOT);
                for dot in top..top + DOT {
                    let at = (dot * canvas.width + left) * 3;
                    canvas.pixels[at..at + DOT * 3].fill(0.2);
                }
            }
        }
    }
}

/// The letters of the captions, five dots wide and seven high; others are blank.
fn glyph(letter: char) -> [u8; 7] {
    match letter {
        'a' => [0, 0, 0b01110, 0b00001, 0b01111, 0b10001, 0b01111],
        'b' => [0b10000, 0b10000, 0b10110, 0b11001, 0b10001, 0b10001, 0b11110],
        'c' => [0, 0, 0b01110, 0b10000, 0b10000, 0b10001, 0b01110],
        'e' => [0, 0, 0b01110, 0b10001, 0b11111, 0b10000, 0b01110],
        'f' => [0b00110, 0b01001, 0b01000, 0b11100, 0b01000, 0b01000, 0b01000],
        'l' => [0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110],
        'n' => [0, 0, 0b10110, 0b11001, 0b10001, 0b10001, 0b10001],
        'o' => [0, 0, 0b01110, 0b10001, 0b10001, 0b10001, 0b01110],
        'r' => [0, 0, 0b10110, 0b11001, 0b10000, 0b10000, 0b10000],
        's' => [0, 0, 0b01110, 0b10000, 0b01110, 0b00001, 0b11110],
        't' => [0b01000, 0b01000, 0b11100, 0b01000, 0b01000, 0b01001, 0b00110],
        'u' => [0, 0, 0b10001, 0b10001, 0b10001, 0b10011, 0b01101],
        _ => [0; 7],
    }
}
