//! What a model file says about itself, and the checks on it.

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Checked;
use crate::{Error, Result, nn};

/// The form of model files that this library writes and reads.
pub const FORMAT: u32 = 1;

/// One meaning that a model knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// Value of this class in label maps, and its row in a style; classes are listed in this order from 0.
    pub index: u32,
    /// Unique in its model; no comma, no equals sign, no control character, no space at either end.
    pub name: String,
    /// Colour in palette label maps, sRGB.
    pub color: [u8; 3],
    /// Broader meanings it belongs to, such as "upper body".
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

/// A set of pictures that a model was trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainingData {
    pub name: String,
    pub licence: String,
    /// Where it comes from, how much of it was used, what is known of consent.
    #[serde(default)]
    pub note: String,
}

/// The JSON under the key `ca2sis` of a model file's header.
///
/// Keys that this version does not know are ignored here, but not in `network`: a size that went unheeded would
/// make another network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Form of the file: [`FORMAT`].
    pub format: u32,
    pub name: String,
    pub version: String,
    pub licence: String,
    pub authors: Vec<String>,
    pub training_data: Vec<TrainingData>,
    /// What the model must not be expected to do.
    pub limits: Vec<String>,
    pub classes: Vec<Class>,
    pub network: nn::Config,
    /// How near pictures made in bf16 come to those in f32, on pictures that were held out: the lowest PSNR, in whole dB of the
    /// peak 2. None where nobody measured it. From [`BF16_DB`] on, bf16 is what the network takes by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bf16_db: Option<u32>,
}

/// From how many dB on a model is run in bf16 where nothing else is asked for and the device gains by it.
pub const BF16_DB: u32 = 45;

impl Metadata {
    /// Reads the JSON and checks it; the error is the reason alone, without the file's name.
    pub(super) fn parse(json: &str) -> Checked<Self> {
        #[derive(Deserialize)]
        struct Form {
            format: u32,
        }
        // First of all: another format may differ in everything else.
        let Form { format } = serde_json::from_str(json).map_err(|e| format!("its description: {e}"))?;
        check_format(format)?;
        let metadata: Self = serde_json::from_str(json).map_err(|e| format!("its description: {e}"))?;
        metadata.check()?;
        Ok(metadata)
    }

    /// Refuses what [`Model::open`](super::Model::open) would refuse: another format, classes out of order or of
    /// another number than the network's, sizes outside [`nn::Config::validate`]'s bounds.
    pub fn validate(&self) -> Result<()> {
        self.check().map_err(Error::Model)
    }

    fn check(&self) -> Checked<()> {
        check_format(self.format)?;
        self.network.validate().map_err(reason)?;
        check_classes(&self.classes)?;
        if self.classes.len() != self.network.classes {
            return Err(format!(
                "lists {} classes, but its network has {}",
                self.classes.len(),
                self.network.classes
            ));
        }
        Ok(())
    }
}

/// An error's text without the "model:" in front: the file's name stands there instead.
pub(super) fn reason(e: Error) -> String {
    match e {
        Error::Model(what) => what,
        e => e.to_string(),
    }
}

fn check_format(format: u32) -> Checked<()> {
    match format {
        FORMAT => Ok(()),
        0 => Err("format version 0 does not exist: write the file again with `ca2sis train`".into()),
        newer => Err(format!(
            "format version {newer}, but this version of ca2sis reads format {FORMAT}: use a newer ca2sis"
        )),
    }
}

/// 1 to 255 classes, indices from 0 in order, unique names that a command line can list.
fn check_classes(classes: &[Class]) -> Checked<()> {
    if !(1..=255).contains(&classes.len()) {
        return Err(format!("lists {} classes, not 1 to 255", classes.len()));
    }
    let mut names = HashSet::new();
    for (i, class) in classes.iter().enumerate() {
        let name = &class.name;
        if class.index as usize != i {
            return Err(format!(
                "class {name:?} has index {} at place {i}: number the classes from 0 in order",
                class.index
            ));
        }
        let bad = |c: char| c == ',' || c == '=' || c.is_control();
        if name.is_empty() || name.trim() != name || name.contains(bad) {
            return Err(format!(
                "class {i} is named {name:?}: a name is not empty and has no comma, equals sign or control \
                 character, and no space at either end"
            ));
        }
        if !names.insert(name) {
            return Err(format!("two classes are named {name:?}: give each its own name"));
        }
    }
    Ok(())
}

/// Reads the class list of a data set: `{"classes": [{"index": 0, "name": "backdrop", "color": [60, 60, 68]}, ...]}`.
pub fn classes_from_json(path: &Path) -> Result<Vec<Class>> {
    #[derive(Deserialize)]
    struct List {
        classes: Vec<Class>,
    }
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    let List { classes } =
        serde_json::from_str(&text).map_err(|e| Error::format(path, format!("no class list: {e}")))?;
    check_classes(&classes).map_err(|what| Error::format(path, what))?;
    Ok(classes)
}
