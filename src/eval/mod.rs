//! How good restyled pictures are, beside what any editor could have: figures, tables, sheets, and a blind trial.
//!
//! Everything runs offline on a [`Set`] of pictures with label maps. Results are compared at 8 bits, in sRGB.

pub mod baselines;
mod blind;
pub mod color;
mod confidence;
mod data;
mod edits;
mod features;
mod labels;
mod methods;
pub mod metrics;
mod perturb;
mod sheet;
mod table;
mod tasks;

pub use blind::{Blind, GUIDE};
pub use data::{Labelled, Pair, Set};
pub use features::{Features, frechet};
pub use methods::{Edit, Method};
pub use perturb::{Drawn, Shift, Taken};
pub use sheet::Sheet;
pub use table::{Better, Column, Row, Table};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::Result;
use crate::image::{Mask, Picture, RgbImage, Samples};
use crate::nn::Network;
use crate::progress::Progress;

/// What is evaluated, on what.
pub struct Evaluation<'a> {
    /// Contents and truths.
    pub set: &'a Set,
    /// Where references are looked up; often the same.
    pub references: &'a Set,
    /// Of the set's classes. Without one, methods of the model must not be among `methods`.
    pub network: Option<&'a Network>,
    /// For perceptual and Fréchet distances.
    pub features: Option<&'a Features>,
    /// The rows.
    pub methods: Vec<Method>,
    /// Most cases of a task, evenly spread over all there are.
    pub limit: Option<usize>,
    /// Of everything random.
    pub seed: u64,
}

/// One content with what is asked for, and what should come out where that is known.
struct Case {
    name: String,
    content: Labelled,
    reference: Labelled,
    truth: Option<Truth>,
    /// Each method is run once for each.
    edits: Vec<Edit>,
}

/// A truth as the metrics want it.
struct Truth {
    rgb: RgbImage,
    lab: Vec<[f64; 3]>,
}

impl Truth {
    fn new(picture: &Picture) -> Self {
        let rgb = picture.to_rgb_f32();
        Self { lab: metrics::lab_pixels(&rgb), rgb }
    }
}

/// Rows of a sheet.
const SHEET_ROWS: usize = 6;

impl Evaluation<'_> {
    /// A generator of its own for each purpose and case, so that a limit changes no case.
    fn rng(&self, purpose: &str, case: &str) -> ChaCha8Rng {
        // FNV-1a: the same on every machine and in every version.
        let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = purpose.bytes().chain([0]).chain(case.bytes()).fold(0xcbf2_9ce4_8422_2325, fnv);
        ChaCha8Rng::seed_from_u64(self.seed ^ hash)
    }

    /// Makes every case, runs `methods` on it and measures the results (one for each edit): for each method what
    /// `measure` found, case by case. A few of the cases become rows of the sheet.
    ///
    /// As many cases are held at a time as there are threads. The network runs on one case after another, as it uses all
    /// threads itself; the rest is spread over them.
    fn each<T: Send>(
        &self,
        names: &[String],
        methods: &[Method],
        make: impl Fn(usize) -> Result<Case> + Sync,
        measure: impl Fn(&Case, &[Picture]) -> Result<T> + Sync,
        mut sheet: Option<&mut Sheet>,
        progress: Progress,
    ) -> Result<Vec<Vec<T>>> {
        let mut found: Vec<Vec<T>> = methods.iter().map(|_| Vec::with_capacity(names.len())).collect();
        let shown: Vec<usize> = data::spread(&(0..names.len()).collect::<Vec<_>>(), Some(SHEET_ROWS));
        let indices: Vec<usize> = (0..names.len()).collect();
        for chunk in indices.chunks(rayon::current_num_threads().max(1)) {
            let done = |n: usize| progress.at(n as f32 / names.len() as f32);
            done(chunk[0])?;
            let cases = chunk.par_iter().map(|&i| make(i)).collect::<Result<Vec<_>>>()?;
            let run = |method: Method, case: &Case| -> Result<Vec<Picture>> {
                let one = |edit| methods::run(method, self.network, &case.content, &case.reference, edit);
                case.edits.iter().map(one).collect()
            };
            let mut results: Vec<Vec<Option<Vec<Picture>>>> = Vec::with_capacity(cases.len());
            for (n, case) in cases.iter().enumerate() {
                let of_network =
                    |&method: &Method| method.needs_network().then(|| run(method, case)).transpose();
                results.push(methods.iter().map(of_network).collect::<Result<_>>()?);
                done(chunk[0] + n)?;
            }
            let measured = cases.par_iter().zip(results).map(|(case, results)| {
                let all = methods.iter().zip(results).map(|(&method, result)| match result {
                    Some(pictures) => Ok(pictures),
                    None => run(method, case),
                });
                let all = all.collect::<Result<Vec<_>>>()?;
                let figures =
                    all.iter().map(|pictures| measure(case, pictures)).collect::<Result<Vec<_>>>()?;
                Ok((figures, all))
            });
            let measured: Vec<_> = measured.collect::<Result<_>>()?;
            for ((&i, case), (figures, pictures)) in chunk.iter().zip(&cases).zip(measured) {
                found.iter_mut().zip(figures).for_each(|(found, figure)| found.push(figure));
                if let Some(sheet) = &mut sheet
                    && shown.contains(&i)
                {
                    sheet.row(panels(case, methods, &pictures));
                }
            }
        }
        progress.at(1.0)?;
        Ok(found)
    }
}

fn panels(case: &Case, methods: &[Method], pictures: &[Vec<Picture>]) -> Vec<(String, RgbImage)> {
    let mut panels = vec![
        (format!("{} content", case.name), case.content.picture.to_rgb_f32()),
        ("reference".to_owned(), case.reference.picture.to_rgb_f32()),
    ];
    panels.extend(case.truth.as_ref().map(|truth| ("truth".to_owned(), truth.rgb.clone())));
    for (method, pictures) in methods.iter().zip(pictures).filter(|(method, _)| **method != Method::Identity)
    {
        panels.extend(pictures.first().map(|p| (method.title().to_owned(), p.to_rgb_f32())));
    }
    panels
}

/// A mask from coverages in [0, 1].
fn mask(width: usize, height: usize, coverage: impl Fn(usize, usize) -> f32) -> Result<Mask> {
    let samples = (0..width * height).map(|i| coverage(i % width, i / width)).collect();
    Mask::new(&Picture::new(width, height, 1, Samples::F32(samples))?)
}
