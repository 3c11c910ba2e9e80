//! `ca2sis label`: a label map for a photograph.

use std::path::PathBuf;

use ca2sis::image::{LabelMap, Picture};
use ca2sis::progress::Progress;
use ca2sis::{Error, Result, label};

use crate::batch;
use crate::common::{ModelArgs, check_output, json, make_folder_of, say};
use crate::progress::{Bar, check_interrupt};
use crate::settings::Settings;

/// Propose label maps for photographs
///
/// The map is an indexed PNG of the photograph's size: its values are the model's classes, its palette their colours. Correct it
/// in any editor that keeps the palette's colours. `restyle` does the same by itself where no label map is given.
#[derive(clap::Args)]
pub struct Args {
    /// Photographs
    #[arg(required = true)]
    contents: Vec<PathBuf>,
    /// Label map to write (PNG), a folder (DIR/), or a pattern such as 'maps/{name}.png'
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace label maps that are there already. Without, they are kept: somebody may have corrected them
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    model: ModelArgs,
}

pub fn run(args: Args) -> Result<bool> {
    let mut tasks = batch::of_contents::<Args>(&args.contents, &args.output, &Settings::default())?;
    let in_folder = batch::is_folder(&args.output);
    for task in &mut tasks {
        let png = task.output.with_extension("png");
        if in_folder {
            // A map has its photograph's name, which may end otherwise.
            task.output = png;
        } else if !task.output.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png")) {
            let (output, png) = (task.output.display(), png.display());
            return Err(Error::invalid(format!("{output}: a label map is a PNG: name it {png}")));
        }
    }
    batch::check::<Args>(&tasks)?;
    if let Some(task) = tasks.iter().find(|task| !args.overwrite && task.output.exists()) {
        return Err(Error::invalid(format!(
            "{} is there already: name another file, or give --overwrite",
            task.output.display()
        )));
    }
    let (model, network) = args.model.open()?;
    batch::each(&tasks, |_, task| {
        if task.output.exists() && LabelMap::read(&task.output, model.classes()).is_err() {
            let output = task.output.display();
            return Err(Error::invalid(format!("{output} is no label map and is kept: name another file")));
        }
        check_output(&task.output, &[Some(&task.content), args.model.model.as_deref()])?;
        let content = Picture::read(&task.content)?;
        let bar = Bar::new(format!("labelling {}", task.content.display()));
        let srgb = content.to_srgb()?;
        let picture = srgb.as_ref().unwrap_or(&content);
        let proposed = label::label(&network, &picture.view(), Progress::new(&|done| bar.at(done)))?;
        drop(bar);
        check_interrupt()?;
        make_folder_of(&task.output)?;
        proposed.labels.write_png(&task.output, model.classes())?;
        let counts = proposed.labels.counts();
        let all = proposed.labels.indices().len() as f64;
        let shares: Vec<(&str, f64)> = model
            .classes()
            .iter()
            .map(|class| (class.name.as_str(), counts[class.index as usize] as f64 / all))
            .filter(|(_, share)| *share > 0.0)
            .collect();
        if json() {
            let shares: serde_json::Map<_, _> =
                shares.iter().map(|(name, share)| ((*name).to_owned(), (*share).into())).collect();
            say!(
                "{}",
                serde_json::json!({
                    "content": task.content.display().to_string(),
                    "output": task.output.display().to_string(),
                    "confidence": proposed.confidence,
                    "classes": shares,
                })
            );
        } else {
            let list: Vec<_> =
                shares.iter().map(|(name, share)| format!("{name} {:.1} %", share * 100.0)).collect();
            say!("{}: {} (confidence {:.2})", task.output.display(), list.join(", "), proposed.confidence);
        }
        Ok(())
    })
}
