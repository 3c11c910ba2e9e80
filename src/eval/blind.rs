//! Sheets for a blind comparison of two methods.

use std::path::Path;

use rand::RngExt;
use serde_json::json;

use super::{Case, Edit, Evaluation, Method, Sheet};
use crate::image::Picture;
use crate::progress::Progress;
use crate::{Error, Result};

/// How a shop makes its own trial, in Markdown.
pub const GUIDE: &str = include_str!("guide.md");

/// Longest side of a panel, in pixels.
const PANEL: usize = 512;

/// What a blind comparison consists of.
pub struct Blind<'a> {
    /// The two methods.
    pub between: [Method; 2],
    /// Folder for the sheets `001.png` and so on, `answers.csv` to be filled in, and `GUIDE.md`. Made if need be.
    pub folder: &'a Path,
    /// File for the key: which side is which. Not for those who judge.
    pub key: &'a Path,
}

impl Evaluation<'_> {
    /// Writes sheets of content, reference and two results, the sides dealt by the seed. Gives their number.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there are answers or a key already; [`Error::Io`] when a file cannot be written; those of
    /// reading and of the device.
    pub fn blind(&self, blind: &Blind, progress: Progress) -> Result<usize> {
        for file in [&blind.folder.join("answers.csv"), blind.key] {
            if file.exists() {
                return Err(Error::invalid(format!(
                    "{} is of an earlier comparison, and may have answers: name another folder, or take it away first",
                    file.display()
                )));
            }
        }
        let swaps = self.swaps(self.limit);
        let names: Vec<String> = swaps.iter().map(|(name, ..)| name.clone()).collect();
        std::fs::create_dir_all(blind.folder).map_err(|e| Error::io(blind.folder, e))?;
        let make = |i: usize| {
            let (name, content, reference) = &swaps[i];
            Ok(Case {
                name: name.clone(),
                content: self.set.read(content)?,
                reference: self.references.read(reference)?,
                truth: None,
                edits: vec![Edit::default()],
            })
        };
        let panels = |case: &Case, results: &[Picture]| {
            Ok([&case.content.picture, &case.reference.picture, &results[0]].map(Picture::to_rgb_f32))
        };
        let [one, two] = blind.between;
        let found = self.each(&names, &[one, two], make, panels, None, progress)?;
        let [first, second]: [Vec<_>; 2] = found.try_into().expect("two methods, two lists");

        let mut key = serde_json::Map::new();
        let mut answers = String::from("sheet,better,keep,why\n");
        for (n, ([content, reference, one_made], [.., two_made])) in first.into_iter().zip(second).enumerate()
        {
            let number = format!("{:03}", n + 1);
            let turned = self.rng("blind", &names[n]).random_bool(0.5);
            let (a, b) = if turned { (two_made, one_made) } else { (one_made, two_made) };
            let mut sheet = Sheet::of_panels(PANEL);
            sheet.row(vec![(format!("{number} content"), content), ("reference".into(), reference)]);
            sheet.row(vec![("A".into(), a), ("B".into(), b)]);
            sheet.to_picture()?.write(blind.folder.join(format!("{number}.png")))?;
            let (a, b) = if turned { (two, one) } else { (one, two) };
            key.insert(number.clone(), json!({ "A": a.key(), "B": b.key(), "case": names[n] }));
            answers += &format!("{number},,,\n");
        }
        let write = |path: &Path, text: &str| std::fs::write(path, text).map_err(|e| Error::io(path, e));
        write(&blind.folder.join("answers.csv"), &answers)?;
        write(&blind.folder.join("GUIDE.md"), GUIDE)?;
        let key = json!({ "seed": self.seed, "sheets": key });
        write(blind.key, &format!("{key:#}\n"))?;
        Ok(names.len())
    }
}
