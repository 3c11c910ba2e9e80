//! `ca2sis label`: a label map for a photograph.

use std::path::PathBuf;

use ca2sis::image::Picture;
use ca2sis::progress::Progress;
use ca2sis::{Result, label};

use crate::batch;
use crate::common::{ModelArgs, check_output, json, say};
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
    #[command(flatten)]
    model: ModelArgs,
}

pub fn run(args: Args) -> Result<bool> {
    let mut tasks = batch::of_contents::<Args>(&args.contents, &args.output, &Settings::default())?;
    for task in &mut tasks {
        // In a folder a map has its photograph's name, which may end otherwise.
        task.output.set_extension("png");
    }
    batch::check::<Args>(&tasks)?;
    let (model, network) = args.model.open()?;
    for task in &tasks {
        check_output(&task.output, &[Some(&task.content), args.model.model.as_deref()])?;
        let content = Picture::read(&task.content)?;
        let bar = Bar::new(format!("labelling {}", task.content.display()));
        let srgb = content.to_srgb()?;
        let picture = srgb.as_ref().unwrap_or(&content);
        let proposed = label::label(&network, &picture.view(), Progress::new(&|done| bar.at(done)))?;
        drop(bar);
        check_interrupt()?;
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
                    "content": task.content,
                    "output": task.output,
                    "confidence": proposed.confidence,
                    "classes": shares,
                })
            );
        } else {
            let list: Vec<_> =
                shares.iter().map(|(name, share)| format!("{name} {:.1} %", share * 100.0)).collect();
            say!("{}: {} (confidence {:.2})", task.output.display(), list.join(", "), proposed.confidence);
        }
    }
    Ok(true)
}
