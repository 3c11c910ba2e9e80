//! Pictures to evaluate on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::image::{LabelMap, Picture};
use crate::model::{Class, classes_from_json};
use crate::{Error, Result};

/// A folder of pictures with label maps: `images/*.{png,jpg,jpeg,tif,tiff,webp}`, `labels/*.png` of the same names, and
/// `classes.json` in the folder or the one above.
///
/// Files called `LAYOUT_LOOK` show the layout LAYOUT in the look LOOK; `L_L` is a layout in its own look. A folder of other
/// names is of single photographs.
pub struct Set {
    folder: PathBuf,
    classes: Vec<Class>,
    files: BTreeMap<String, PathBuf>,
}

/// A picture with its label map.
#[derive(Clone)]
pub struct Labelled {
    pub picture: Picture,
    pub labels: LabelMap,
}

impl Labelled {
    /// How large a share of the pixels each class has, for those present.
    pub fn shares(&self) -> BTreeMap<usize, f64> {
        let (counts, all) = (self.labels.counts(), self.labels.indices().len() as f64);
        (0..256).filter(|&i| counts[i] > 0).map(|i| (i, counts[i] as f64 / all)).collect()
    }
}

/// One restyling with a known truth: layout L in its own look is to be given look K; the truth is `L_K`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub content: String,
    pub reference: String,
    pub truth: String,
}

impl Set {
    /// Lists the folder; pictures are read when asked for.
    ///
    /// # Errors
    /// [`Error::Io`] when it or its class list cannot be read; [`Error::Format`] when it has no pictures, or two of one
    /// name.
    pub fn open(folder: &Path) -> Result<Self> {
        let beside = folder.join("classes.json");
        let above = folder.parent().map(|parent| parent.join("classes.json"));
        let classes = classes_from_json(above.as_deref().filter(|_| !beside.exists()).unwrap_or(&beside))?;
        let images = folder.join("images");
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(&images).map_err(|e| Error::io(&images, e))? {
            let path = entry.map_err(|e| Error::io(&images, e))?.path();
            let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
            if !["png", "jpg", "jpeg", "tif", "tiff", "webp"].contains(&ending.as_str()) {
                continue;
            }
            let stem = path.file_stem().and_then(|s| s.to_str());
            let name =
                stem.ok_or_else(|| Error::format(&path, "the name is not Unicode; rename the file"))?;
            if let Some(other) = files.insert(name.to_owned(), path.clone()) {
                let what = format!("{} has the same name; keep one of them", other.display());
                return Err(Error::format(&path, what));
            }
        }
        if files.is_empty() {
            return Err(Error::format(&images, "no pictures in this folder"));
        }
        Ok(Self { folder: folder.to_owned(), classes, files })
    }

    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    pub fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// Reads a picture and its labels.
    ///
    /// # Errors
    /// Those of [`Picture::read`] and [`LabelMap::read`]; [`Error::Format`] when their sizes differ.
    pub fn read(&self, name: &str) -> Result<Labelled> {
        let Some(path) = self.files.get(name) else {
            return Err(Error::invalid(format!("{} has no picture {name}", self.folder.display())));
        };
        let picture = Picture::read(path)?;
        let path = self.folder.join("labels").join(format!("{name}.png"));
        let labels = LabelMap::read(&path, &self.classes)?.upright_with(&picture);
        if (labels.width(), labels.height()) != (picture.width(), picture.height()) {
            let what = format!(
                "{} x {} labels for a picture of {} x {}: make them the same size",
                labels.width(),
                labels.height(),
                picture.width(),
                picture.height()
            );
            return Err(Error::format(&path, what));
        }
        let picture = picture.to_srgb()?.unwrap_or(picture);
        Ok(Labelled { picture, labels })
    }

    /// Every restyling whose content and truth are here and whose reference is in `references`, by name of the truth.
    pub fn pairs(&self, references: &Self) -> Vec<Pair> {
        let pair = |truth: &String| {
            let (layout, look) = truth.split_once('_')?;
            let (content, reference) = (format!("{layout}_{layout}"), format!("{look}_{look}"));
            let known = layout != look && self.has(&content) && references.has(&reference);
            known.then(|| Pair { content, reference, truth: truth.clone() })
        };
        self.files.keys().filter_map(pair).collect()
    }

    /// Names of single photographs: layouts in their own look where there are such, else all pictures.
    pub fn photos(&self) -> Vec<String> {
        let own = |name: &&String| name.split_once('_').is_some_and(|(layout, look)| layout == look);
        let names: Vec<String> = self.files.keys().filter(own).cloned().collect();
        if names.is_empty() { self.files.keys().cloned().collect() } else { names }
    }
}

/// `limit` of `items`, evenly spread; all without a limit.
pub fn spread<T: Clone>(items: &[T], limit: Option<usize>) -> Vec<T> {
    let n = limit.unwrap_or(items.len()).min(items.len());
    (0..n).map(|i| items[i * items.len() / n].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_spread_over_all() {
        let all: Vec<usize> = (0..10).collect();
        assert_eq!(spread(&all, Some(3)), [0, 3, 6]);
        assert_eq!(spread(&all, Some(20)), all);
        assert_eq!(spread(&all, None), all);
        assert!(spread(&all, Some(0)).is_empty());
    }
}
