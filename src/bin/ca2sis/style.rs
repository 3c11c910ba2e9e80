//! `ca2sis style`: looks as files, to be kept, mixed and used without their pictures.

use std::path::{Path, PathBuf};

use ca2sis::model::{Class, Model};
use ca2sis::style::Style;
use ca2sis::{Error, Result};

use crate::common::{LimitArgs, ModelArgs, Proposed, ReferenceArgs, check_output, json, make_folder_of, say};

/// Keep looks as files, mix them, show what is in them
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Write the look of a picture as a style file, for --style
    Extract {
        #[command(flatten)]
        reference: ReferenceArgs,
        #[command(flatten)]
        model: ModelArgs,
        #[command(flatten)]
        limit: LimitArgs,
        /// Style file to write
        #[arg(short, long)]
        output: PathBuf,
    },
    /// Write the weighted mean of styles, class by class
    ///
    /// A style that lacks a class does not count for it.
    Mix {
        /// Style files of one model
        #[arg(required = true)]
        styles: Vec<PathBuf>,
        /// Weights of the styles, in their order [default: all alike]
        #[arg(long, value_delimiter = ',', value_name = "WEIGHT")]
        weights: Vec<f32>,
        /// Weights for one class instead: body=1,0 takes the body from the first of two styles; can be given again
        #[arg(long, value_name = "CLASS=WEIGHT,...")]
        class: Vec<String>,
        #[command(flatten)]
        model: ModelArgs,
        /// Style file to write
        #[arg(short, long)]
        output: PathBuf,
    },
    /// Say which classes a style has
    Show {
        /// Style file
        style: PathBuf,
        #[command(flatten)]
        model: ModelArgs,
    },
}

pub fn run(args: Args) -> Result<bool> {
    match args.command {
        Command::Extract { reference, model, limit, output } => {
            check_style_output(&output, &model, reference.paths())?;
            let (model, network) = model.open()?;
            let (style, proposed) = reference.style(&model, &network, limit)?;
            make_folder_of(&output)?;
            style.save(&model, &output)?;
            say(&model, &style, &output, &proposed)
        }
        Command::Mix { styles, weights, class, model, output } => {
            check_style_output(&output, &model, styles.iter().map(|p| Some(p.as_path())).collect())?;
            let model = model.open_model()?;
            let read = styles.iter().map(|path| Style::open(&model, path)).collect::<Result<Vec<_>>>()?;
            let weights = table(styles.len(), &weights, &class, model.classes())?;
            let rows = weights.chunks_exact(model.classes().len());
            let mixed = Style::mix(&read.iter().zip(rows).collect::<Vec<_>>())?;
            make_folder_of(&output)?;
            mixed.save(&model, &output)?;
            say(&model, &mixed, &output, &Proposed::new())
        }
        Command::Show { style: path, model } => {
            let model = model.open_model()?;
            let style = Style::open(&model, &path)?;
            if json() {
                return say(&model, &style, &path, &Proposed::new());
            }
            say!("model  {} {}", model.metadata().name, model.metadata().version);
            for class in model.classes() {
                let there = if style.has(class.index as usize) { "yes" } else { "no, restyling leaves it" };
                say!("  {:3}  {}: {there}", class.index, class.name);
            }
            Ok(true)
        }
    }
}

/// Refuses a style in the place of an input, of the model or of a picture.
fn check_style_output<'a>(
    output: &Path,
    model: &'a ModelArgs,
    mut inputs: Vec<Option<&'a Path>>,
) -> Result<()> {
    inputs.push(model.model.as_deref());
    check_output(output, &inputs)?;
    let ending = output.extension().unwrap_or_default();
    if ["png", "jpg", "jpeg", "tif", "tiff", "webp"].iter().any(|e| ending.eq_ignore_ascii_case(e)) {
        let what = "is the name of a picture: name the style look.style, say";
        return Err(Error::invalid(format!("{} {what}", output.display())));
    }
    Ok(())
}

/// What `--json` asks for.
fn say(model: &Model, style: &Style, path: &Path, proposed: &Proposed) -> Result<bool> {
    if json() {
        let has = |there: bool| -> Vec<&str> {
            let classes = model.classes().iter().filter(|c| style.has(c.index as usize) == there);
            classes.map(|c| c.name.as_str()).collect()
        };
        let mut line = serde_json::json!({
            "style": path.display().to_string(), "model": model.metadata().name, "model_sha256": model.hash(),
            "classes": has(true), "missing": has(false),
        });
        if !proposed.is_empty() {
            line["proposed_labels"] = serde_json::json!(proposed);
        }
        say!("{line}");
    }
    Ok(true)
}

/// A row of weights, one a class, for each style.
fn table(styles: usize, weights: &[f32], by_class: &[String], classes: &[Class]) -> Result<Vec<f32>> {
    let count = |what: &str, given: usize| {
        if given == styles {
            Ok(())
        } else {
            Err(Error::invalid(format!("{what} gives {given} weights for {styles} styles")))
        }
    };
    let overall = if weights.is_empty() { vec![1.0; styles] } else { weights.to_vec() };
    count("--weights", overall.len())?;
    let mut table: Vec<f32> = overall.iter().flat_map(|&w| vec![w; classes.len()]).collect();
    for item in by_class {
        let wrong =
            || Error::invalid(format!("--class {item}: write CLASS=WEIGHT,WEIGHT,... with a weight a style"));
        let (name, list) = item.split_once('=').ok_or_else(wrong)?;
        let list = list.split(',').map(|w| w.trim().parse::<f32>().map_err(|_| wrong()));
        let list = list.collect::<Result<Vec<_>>>()?;
        count(&format!("--class {item}"), list.len())?;
        for class in crate::restyle::named("--class", name.trim(), classes)? {
            for (style, &weight) in list.iter().enumerate() {
                table[style * classes.len() + class] = weight;
            }
        }
    }
    Ok(table)
}
