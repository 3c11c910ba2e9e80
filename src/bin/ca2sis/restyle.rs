//! `ca2sis restyle`: the job.

use std::path::{Path, PathBuf};

use ca2sis::image::{LabelMap, Mask, Picture, View};
use ca2sis::model::Class;
use ca2sis::progress::Progress;
use ca2sis::restyle::{Confidence, Job, Method, Options, Statistics, restyle_to_picture};
use ca2sis::{Error, Result};

use crate::common::{ModelArgs, ReferenceArgs, check_output, note};

/// Restyle classes of a picture after a reference
///
/// Pictures are PNG, JPEG, TIFF or WebP; the result keeps the content's size, sample type and alpha. Label maps are
/// indexed or gray PNG (values are class indices) or painted in the model's colours.
#[derive(clap::Args)]
pub struct Args {
    /// Picture to restyle
    content: PathBuf,
    /// Label map of the content
    #[arg(long)]
    labels: PathBuf,
    #[command(flatten)]
    reference: ReferenceArgs,
    /// Classes or groups to restyle, each with an optional strength from 0 to 1: body,cap=0.5 [default: all]
    #[arg(long, value_delimiter = ',', value_name = "CLASS[=STRENGTH]")]
    classes: Vec<String>,
    /// Gray picture: where the result may differ from the content [default: where the classes are]
    #[arg(long)]
    mask: Option<PathBuf>,
    /// Label map of the layout that the result is to have
    #[arg(long, value_name = "LABELS")]
    target_labels: Option<PathBuf>,
    /// Strength of the whole change, from 0 to 1
    #[arg(long, default_value_t = 1.0)]
    strength: f32,
    /// How far other classes follow what the change does to light and cast colours, from 0 to 1. Above 0 and without a mask,
    /// the whole picture may change
    #[arg(long, default_value_t = 0.0)]
    coupling: f32,
    /// How far the layout goes to the target labels, from 0 to 1
    #[arg(long, default_value_t = 1.0, requires = "target_labels")]
    morph: f32,
    /// Where the look comes from: the network, or the colours of each class of the reference alone
    #[arg(long, value_enum, default_value_t = How::Network)]
    method: How,
    /// Write a heat map of how far the result can be trusted, green is far, and say it in a sentence
    #[arg(long, value_name = "PICTURE")]
    confidence: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Picture to write; its ending says the format. JPEG cannot keep the pixels outside the mask exactly
    #[arg(short, long)]
    output: PathBuf,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum How {
    Network,
    Statistics,
}

/// Below this a result is worth a warning: the network attends to its classes by less than about a half.
const DOUBTFUL: f32 = 0.4;

pub fn run(args: Args) -> Result<bool> {
    let Args { content, labels, reference, mask, target_labels, confidence, output, .. } = &args;
    let optional = [mask.as_deref(), target_labels.as_deref()];
    let required = [content, labels, &reference.reference, &reference.reference_labels];
    let inputs: Vec<Option<&Path>> =
        required.map(|p| Some(p.as_path())).into_iter().chain(optional).collect();
    check_output(output, &inputs)?;
    if let Some(path) = confidence {
        check_output(path, &inputs)?;
        if args.method == How::Statistics {
            return Err(Error::invalid("--confidence is of the network's work: statistics have none"));
        }
    }

    let (model, network) = args.model.open()?;
    let classes = asked(&args.classes, model.classes())?;
    let content = Picture::read(content)?;
    content.check_writable(output)?;
    let labels = LabelMap::read(labels, model.classes())?;
    let target_labels = target_labels.as_ref().map(|p| LabelMap::read(p, model.classes())).transpose()?;
    let mask = mask.as_ref().map(Mask::read).transpose()?;
    let (style, statistics);
    let method = match args.method {
        How::Network => {
            style = reference.style(&model, &network)?;
            Method::Network { network: &network, style: &style }
        }
        How::Statistics => {
            let picture = Picture::read(&reference.reference)?;
            let labels = LabelMap::read(&reference.reference_labels, model.classes())?;
            statistics = Statistics::extract(&picture, &labels, model.classes().len())?;
            Method::Statistics(&statistics)
        }
    };
    let job = Job {
        target_labels: target_labels.as_ref(),
        mask: mask.as_ref().map(View::from),
        classes: &classes,
        options: Options {
            strength: args.strength,
            coupling: args.coupling,
            morph: args.morph,
            confidence: confidence.is_some(),
            ..Options::default()
        },
        ..Job::new(&content, &labels, method)
    };
    let (result, report) = restyle_to_picture(&job, Progress::NONE)?;
    if report.untouched.differing > 0 {
        return Err(Error::invalid(format!(
            "{} pixels outside the mask came out changed, so nothing was written: this is a defect of ca2sis",
            report.untouched.differing
        )));
    }
    result.with_icc_profile(content.icc_profile().map(<[u8]>::to_vec)).write(output)?;
    if let (Some(path), Some(figures)) = (confidence, &report.confidence) {
        figures.heat_map(content.width(), content.height())?.write(path)?;
        say_confidence(figures, model.classes());
    }
    note(model.classes(), &report.missing, "kept in their own style, as the reference lacks them");
    note(model.classes(), &report.absent, "not restyled, as no label map has them");
    note(model.classes(), &report.unseen, "not restyled, as they are too small for the network to see");
    Ok(true)
}

/// Says how far to trust the result, and which classes not.
fn say_confidence(figures: &Confidence, classes: &[Class]) {
    println!("confidence {:.2} of 1", figures.overall);
    let doubtful: Vec<usize> =
        figures.classes.iter().filter(|(_, figure)| *figure < DOUBTFUL).map(|&(class, _)| class).collect();
    if figures.overall < DOUBTFUL {
        eprintln!(
            "ca2sis: the network does not know pictures like this one well: look at the result closely, or use --method statistics"
        );
    } else {
        note(classes, &doubtful, "less sure than the rest, look at these classes closely");
    }
}

/// Reads `--classes`: names of classes or of groups, each with a strength where one is given.
fn asked(items: &[String], classes: &[Class]) -> Result<Vec<(usize, f32)>> {
    let mut asked: Vec<(usize, f32)> = Vec::new();
    for item in items {
        let (name, strength) = match item.split_once('=') {
            None => (item.trim(), 1.0),
            Some((name, strength)) => match strength.trim().parse::<f32>() {
                Ok(value) if (0.0..=1.0).contains(&value) => (name.trim(), value),
                _ => {
                    return Err(Error::invalid(format!(
                        "--classes {item}: the strength is not a number from 0 to 1"
                    )));
                }
            },
        };
        let mut indices: Vec<usize> = (0..classes.len()).filter(|&i| classes[i].name == name).collect();
        if indices.is_empty() {
            indices = (0..classes.len()).filter(|&i| classes[i].groups.iter().any(|g| g == name)).collect();
        }
        if indices.is_empty() {
            return Err(Error::invalid(unknown(name, classes)));
        }
        for index in indices {
            // A later item overrides: "upper body=0.5,jacket".
            asked.retain(|&(i, _)| i != index);
            asked.push((index, strength));
        }
    }
    Ok(asked)
}

fn unknown(name: &str, classes: &[Class]) -> String {
    let mut names: Vec<&str> = classes.iter().map(|c| c.name.as_str()).collect();
    for group in classes.iter().flat_map(|c| &c.groups) {
        if !names.contains(&group.as_str()) {
            names.push(group);
        }
    }
    let near =
        names.iter().map(|n| (edits(name, n), n)).min().filter(|&(edits, n)| edits * 2 <= n.chars().count());
    let hint = near.map_or(String::new(), |(_, n)| format!(" (did you mean {n}?)"));
    format!("--classes: the model has no class {name:?}{hint}; it has {}", names.join(", "))
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes() -> Vec<Class> {
        let class = |index, name: &str, group: &str| Class {
            index,
            name: name.into(),
            color: [index as u8; 3],
            groups: vec![group.into()],
        };
        vec![class(0, "backdrop", "scene"), class(1, "body", "product"), class(2, "cap", "product")]
    }

    fn read(list: &str) -> Result<Vec<(usize, f32)>> {
        asked(&list.split(',').map(String::from).collect::<Vec<_>>(), &classes())
    }

    #[test]
    fn names_strengths_and_groups() {
        assert_eq!(read("body,cap=0.5").unwrap(), [(1, 1.0), (2, 0.5)]);
        assert_eq!(read("product=0.25").unwrap(), [(1, 0.25), (2, 0.25)]);
        assert_eq!(read("product=0.25, body").unwrap(), [(2, 0.25), (1, 1.0)]);
    }

    #[test]
    fn unknown_names_are_answered_with_the_nearest_and_all() {
        let error = read("boddy").unwrap_err().to_string();
        assert!(
            error.contains("did you mean body?") && error.contains("backdrop, body, cap, scene"),
            "{error}"
        );
        let error = read("zebra").unwrap_err().to_string();
        assert!(!error.contains("did you mean"), "{error}");
    }

    #[test]
    fn strengths_outside_0_to_1_are_refused() {
        for list in ["body=", "body=2", "body=-0.1", "body=nan", "body=x", "body=0.5=1"] {
            assert!(read(list).is_err(), "{list}");
        }
    }

    #[test]
    fn edits_count_insertions_deletions_and_changes() {
        assert_eq!((edits("", "cap"), edits("cap", "cap"), edits("kitten", "sitting")), (3, 0, 3));
    }
}
