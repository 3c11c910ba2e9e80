//! `ca2sis import`: the published checkpoint as a model file.

use std::path::{Path, PathBuf};

use ca2sis::model::{self, Class, FORMAT, Metadata, classes_from_json, import};
use ca2sis::progress::Progress;
use ca2sis::{Error, Result};
use candle_core::DType;

use crate::common::{check_output, json, say};
use crate::progress::{Bar, check_interrupt};

/// Make a model file of a PyTorch checkpoint of the published network
///
/// Reads what torch.save writes, the zip archive and the older form. No code in it is ever run: what is not tensors in
/// dictionaries is refused by name. Widths are taken from the tensors' shapes; names may have a prefix (module.), and the
/// state dict may lie under a key.
#[derive(clap::Args)]
pub struct Args {
    /// Checkpoint (.pth)
    checkpoint: PathBuf,
    /// celebamask-hq, or a JSON file: {"classes": [{"index": 0, "name": "sky", "color": [0, 0, 255]}, ...]}
    #[arg(long, value_name = "CLASSES")]
    classes: String,
    /// Which network, where a checkpoint holds several: the key of its state dict, or the prefix of its names
    #[arg(long)]
    key: Option<String>,
    /// Type of the weights in the file: f32 keeps them exactly; f16 and bf16 take half the space
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = dtype)]
    dtype: DType,
    /// Name of the model [default: the checkpoint's]
    #[arg(long)]
    name: Option<String>,
    /// Licence of the weights
    #[arg(long)]
    licence: Option<String>,
    /// Model file to write
    #[arg(short, long)]
    output: PathBuf,
}

fn dtype(name: &str) -> std::result::Result<DType, String> {
    match name {
        "f32" => Ok(DType::F32),
        "f16" => Ok(DType::F16),
        "bf16" => Ok(DType::BF16),
        _ => Err("choose f32, f16 or bf16".into()),
    }
}

pub fn run(args: Args) -> Result<bool> {
    let Args { checkpoint, output, .. } = &args;
    check_output(output, &[Some(checkpoint)])?;
    let published = args.classes == "celebamask-hq";
    let classes = if published { import::celebamask_hq() } else { classes_of(&args.classes)? };
    let bar = Bar::new(format!("reading {}", checkpoint.display()));
    let imported = import::published(checkpoint, args.key.as_deref(), Progress::new(&|done| bar.at(done)))?;
    drop(bar);
    check_interrupt()?;
    if classes.len() != imported.network.classes {
        return Err(Error::invalid(format!(
            "{}: the checkpoint has {} classes, but --classes {} names {}",
            checkpoint.display(),
            imported.network.classes,
            args.classes,
            classes.len()
        )));
    }
    let mut metadata = if published {
        import::celebamask_hq_metadata(imported.network.clone())
    } else {
        described(checkpoint, classes, &imported)
    };
    metadata.name = args.name.clone().unwrap_or(metadata.name);
    metadata.licence = args.licence.clone().unwrap_or(metadata.licence);
    model::save(output, &metadata, &imported.tensors, args.dtype)?;
    let parameters: usize = imported.tensors.values().map(|t| t.elem_count()).sum();
    if json() {
        let line = serde_json::json!({
            "output": output.display().to_string(), "name": metadata.name, "classes": metadata.classes.len(),
            "tensors": imported.tensors.len(), "parameters": parameters, "key": imported.dict,
            "prefix": imported.prefix, "ignored": imported.ignored,
        });
        say!("{line}");
    } else if !imported.ignored.is_empty() {
        let first = imported.ignored.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
        eprintln!("ca2sis: left out {} tensors beside the network: {first}, ...", imported.ignored.len());
    }
    Ok(true)
}

fn classes_of(name: &str) -> Result<Vec<Class>> {
    let path = Path::new(name);
    if !path.exists() && path.extension().is_none() {
        return Err(Error::invalid(format!(
            "--classes {name}: neither a known list (celebamask-hq) nor a JSON file"
        )));
    }
    classes_from_json(path)
}

fn described(checkpoint: &Path, classes: Vec<Class>, imported: &import::Imported) -> Metadata {
    Metadata {
        format: FORMAT,
        name: checkpoint.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        version: "imported".into(),
        licence: "not stated".into(),
        authors: vec![],
        training_data: vec![],
        limits: vec!["not stated: ask who trained it".into()],
        classes,
        network: imported.network.clone(),
        bf16_db: None,
    }
}
