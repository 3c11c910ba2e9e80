//! `ca2sis models`: which models there are, what they say of themselves, whether they are sound.

use std::path::{Path, PathBuf};

use ca2sis::model::{Metadata, Model};
use ca2sis::{Error, Result};

use crate::common::{json, say, say_error};
use crate::progress::{catch_interrupts, check_interrupt};

/// List models, show what one is, or check that it is sound
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// One line a model: name, version, classes, resolution, parameters, file
    List {
        /// Model files, and folders with some [default: the one that other commands use]
        #[arg(env = "CA2SIS_MODEL", hide_env_values = true)]
        paths: Vec<PathBuf>,
    },
    /// The card of a model: licence, authors, training data, limits of use, classes
    #[command(visible_alias = "card")]
    Show {
        /// Model file [default: the one inside ca2sis]
        #[arg(env = "CA2SIS_MODEL", hide_env_values = true)]
        path: Option<PathBuf>,
    },
    /// Read every weight of a model and print its SHA-256
    #[command(visible_alias = "verify")]
    Check {
        /// Model files, and folders with some [default: the one inside ca2sis]
        #[arg(env = "CA2SIS_MODEL", hide_env_values = true)]
        paths: Vec<PathBuf>,
    },
}

/// What the listings call the model inside the command.
const INSIDE: &str = "(inside ca2sis)";

pub fn run(args: Args) -> Result<bool> {
    let env = || std::env::var_os("CA2SIS_MODEL").map(PathBuf::from);
    match args.command.unwrap_or_else(|| Command::List { paths: env().into_iter().collect() }) {
        Command::List { paths } => list(&paths),
        Command::Show { path } => show(path.as_deref()),
        Command::Check { paths } => check(&paths),
    }
}

fn open(path: Option<&Path>) -> Result<Model> {
    path.map_or_else(Model::embedded, Model::open)
}

fn parameters(metadata: &Metadata) -> Result<usize> {
    let manifest = ca2sis::nn::manifest(&metadata.network)?;
    Ok(manifest.values().map(|shape| shape.iter().product::<usize>()).sum())
}

/// Model files among `paths`, folders replaced by the `.safetensors` files in them.
fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let io = |e| Error::io(path, e);
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(path).map_err(io)? {
            let file = entry.map_err(io)?.path();
            if file.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors")) {
                inside.push(file);
            }
        }
        if inside.is_empty() {
            return Err(Error::format(
                path,
                "no .safetensors files in this folder: name one that has models",
            ));
        }
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}

fn list(paths: &[PathBuf]) -> Result<bool> {
    let mut models = Vec::new();
    if paths.is_empty() {
        models.push((INSIDE.to_owned(), Model::embedded()));
    }
    models.extend(expand(paths)?.into_iter().map(|p| (p.display().to_string(), Model::open(&p))));
    let mut sound = true;
    for (file, model) in models {
        match model {
            Ok(model) => {
                let m = model.metadata();
                let parameters = parameters(m)?;
                if json() {
                    let line = serde_json::json!({
                        "file": file, "name": m.name, "version": m.version, "licence": m.licence,
                        "classes": m.classes.len(), "resolution": m.network.resolution, "parameters": parameters,
                    });
                    say!("{line}");
                } else {
                    say!(
                        "{} {}  {} classes  {} px  {:.1} M parameters  {file}",
                        m.name,
                        m.version,
                        m.classes.len(),
                        m.network.resolution,
                        parameters as f64 / 1e6
                    );
                }
            }
            Err(e) => {
                sound = false;
                say_error(&e, None);
            }
        }
    }
    Ok(sound)
}

fn show(path: Option<&Path>) -> Result<bool> {
    let model = open(path)?;
    let m = model.metadata();
    if json() {
        let mut card = serde_json::to_value(m).map_err(|e| Error::Model(e.to_string()))?;
        card["sha256"] = model.hash().into();
        say!("{card}");
        return Ok(true);
    }
    say!("{} {}", m.name, m.version);
    say!("licence      {}", m.licence);
    say!("authors      {}", m.authors.join(", "));
    for data in &m.training_data {
        say!("trained on   {} ({})", data.name, data.licence);
        if !data.note.is_empty() {
            say!("             {}", data.note);
        }
    }
    for limit in &m.limits {
        say!("not for      {limit}");
    }
    say!("resolution   {} x {}", m.network.resolution, m.network.resolution);
    say!("parameters   {:.1} M", parameters(m)? as f64 / 1e6);
    say!("SHA-256      {}", model.hash());
    say!("classes");
    let width = m.classes.iter().map(|c| c.name.chars().count()).max().unwrap_or(0);
    for class in &m.classes {
        let [r, g, b] = class.color;
        let groups =
            if class.groups.is_empty() { String::new() } else { format!("  in {}", class.groups.join(", ")) };
        say!("  {:3}  {:width$}  #{r:02x}{g:02x}{b:02x}{groups}", class.index, class.name);
    }
    Ok(true)
}

fn check(paths: &[PathBuf]) -> Result<bool> {
    catch_interrupts();
    let files: Vec<Option<PathBuf>> =
        if paths.is_empty() { vec![None] } else { expand(paths)?.into_iter().map(Some).collect() };
    let mut sound = true;
    for file in files {
        check_interrupt()?;
        let name = file.as_ref().map_or(INSIDE.to_owned(), |f| f.display().to_string());
        match open(file.as_deref()).and_then(|m| m.check().map(|()| m)) {
            Ok(model) if json() => {
                say!("{}", serde_json::json!({ "file": name, "sound": true, "sha256": model.hash() }))
            }
            Ok(model) => say!("{}  {name}", model.hash()),
            Err(e) => {
                sound = false;
                say_error(&e, None);
            }
        }
    }
    Ok(sound)
}
