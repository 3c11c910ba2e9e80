//! `ca2sis attention`: where the network looks for each class.

use std::path::PathBuf;

use ca2sis::attention::{self, attention};
use ca2sis::image::{LabelMap, Picture, Samples};
use ca2sis::progress::Progress;
use ca2sis::style::Style;
use ca2sis::{Error, Result};

use crate::common::{LimitArgs, ModelArgs, ReferenceArgs, check_output, extract_plan, json, say};
use crate::progress::{Bar, check_interrupt};

/// Write the attention of each class as gray pictures
///
/// White is where pixels attend to the class's style: the sigmoid of the cross-attention's logits, mean over heads and stages,
/// at the content's size. One PNG a class, named after it; classes that neither label map nor reference have are left out.
#[derive(clap::Args)]
pub struct Args {
    /// Picture to look at
    content: PathBuf,
    /// Label map of the content
    #[arg(long)]
    labels: PathBuf,
    /// The style to attend to [default: the content's own]
    #[command(flatten)]
    reference: ReferenceArgs,
    /// One stage alone, from 0; later ones are finer [default: the mean of all]
    #[arg(long, value_name = "N")]
    stage: Option<usize>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    limit: LimitArgs,
    /// Folder to write to; made if need be
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

pub fn run(args: Args) -> Result<bool> {
    let (model, network) = args.model.open()?;
    let classes = model.classes();
    let content = Picture::read(&args.content)?;
    let labels = LabelMap::read(&args.labels, classes)?.upright_with(&content);
    let srgb = content.to_srgb()?;
    let bar = Bar::new("attention");
    let (first, second) = (|done| bar.at(0.3 * done), |done| bar.at(0.3 + 0.7 * done));
    args.limit.check(attention::plan(network.config(), labels.width(), labels.height()))?;
    let style = match args.reference.is_empty() {
        true => {
            args.limit.check(extract_plan(&network, &content))?;
            Style::extract(&network, srgb.as_ref().unwrap_or(&content), &labels, Progress::new(&first))?
        }
        false => args.reference.style(&model, &network, args.limit)?.0,
    };
    let maps = attention(&network, &labels, &style, args.stage, Progress::new(&second))?;
    drop(bar);
    let out = &args.output;
    std::fs::create_dir_all(out).map_err(|e| Error::io(out, e))?;
    let present = labels.counts();
    let mut written = Vec::new();
    for (class, map) in classes.iter().zip(&maps.classes) {
        let index = class.index as usize;
        if present[index] == 0 && !style.has(index) {
            continue;
        }
        check_interrupt()?;
        // A class's name may hold what a file's cannot.
        let name: String = class
            .name
            .chars()
            .map(|c| if c.is_alphanumeric() || "-_ ".contains(c) { c } else { '_' })
            .collect();
        let path = out.join(format!("{index:03} {name}.png"));
        let [content, labels] = [&args.content, &args.labels].map(|p| Some(p.as_path()));
        check_output(&path, &[content, labels])?;
        let gray = map.pixels.chunks_exact(3).map(|p| (p[0] * 255.0).round() as u8).collect();
        Picture::new(map.width, map.height, 1, Samples::U8(gray))?.write(&path)?;
        written.push((class.name.clone(), path));
    }
    for (class, path) in written {
        if json() {
            say!("{}", serde_json::json!({ "class": class, "output": path.display().to_string() }));
        } else {
            say!("{}", path.display());
        }
    }
    Ok(true)
}
