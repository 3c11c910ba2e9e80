//! The tasks: each makes its cases, runs the methods, and gives its tables.

use rand::RngExt;

use super::data::{Labelled, spread};
use super::metrics::{
    border_gradient, consistency, differences, lab_pixels, mean, mse, percentile, psnr, ssim,
};
use super::perturb::{Drawn, Shift, Taken};
use super::table::{Better, Column, Row, Table};
use super::{Case, Edit, Evaluation, Features, Method, Sheet, Truth, frechet, mask};
use crate::image::{Picture, RgbImage, Samples};
use crate::progress::Progress;
use crate::{Error, Result};

use Better::{Higher, Lower, Unranked};

/// Cases of the noise task without a limit: it runs every method once for each of many conditions.
const NOISE_CASES: usize = 24;

/// Classes smaller than this are not asked for.
pub(super) const SMALLEST_SHARE: f64 = 0.02;

const PSNR: Column = Column::new("psnr", "PSNR dB", Higher, 2);
const SSIM: Column = Column::new("ssim", "SSIM", Higher, 4);
const DIFFERENCE: Column = Column::new("ciede2000", "CIEDE2000", Lower, 2);
const DIFFERENCE_95: Column = Column::new("ciede2000_p95", "p95", Lower, 2);

type Figures = Vec<Option<f64>>;

/// PSNR, SSIM, CIEDE2000 mean and 95th percentile over the whole picture, and the difference of each pixel.
fn against(rgb: &RgbImage, lab: &[[f64; 3]], truth: &Truth) -> (Figures, Vec<f64>) {
    let apart = differences(lab, &truth.lab);
    let figures = vec![
        mse(rgb, &truth.rgb, |_| true).map(psnr),
        ssim(rgb, &truth.rgb),
        mean(apart.iter().copied()),
        percentile(apart.clone(), 0.95),
    ];
    (figures, apart)
}

/// The mean of the values that are wanted.
fn mean_where(values: &[f64], wanted: impl Fn(usize) -> bool) -> Option<f64> {
    mean(values.iter().enumerate().filter(|&(i, _)| wanted(i)).map(|(_, &v)| v))
}

fn truth(case: &Case) -> &Truth {
    case.truth.as_ref().expect("a task with a truth")
}

fn picture(image: &RgbImage) -> Result<Picture> {
    image.to_picture()
}

impl Evaluation<'_> {
    /// Layouts in another layout's look, against the truth.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the set has no `LAYOUT_LOOK` files; those of reading and of the device.
    pub fn paired(&self, sheet: Option<&mut Sheet>, progress: Progress) -> Result<Table> {
        let pairs = self.some_pairs(self.limit)?;
        let names: Vec<String> = pairs.iter().map(|pair| pair.truth.clone()).collect();
        let make = |i: usize| self.paired_case(&pairs[i]);
        let measure = |case: &Case, results: &[Picture]| {
            let (rgb, truth) = (results[0].to_rgb_f32(), truth(case));
            let lab = lab_pixels(&rgb);
            let (mut figures, apart) = against(&rgb, &lab, truth);
            let known = case.reference.labels.counts();
            let shared = |i: usize| known[usize::from(case.content.labels.indices()[i])] > 0;
            figures.extend([
                consistency(&lab, &truth.lab, &case.content.labels),
                mse(&rgb, &truth.rgb, shared).map(psnr),
                mean_where(&apart, shared),
                mean_where(&apart, |i| !shared(i)),
            ]);
            Ok(figures)
        };
        let found = self.each(&names, &self.methods, make, measure, sheet, progress)?;
        let lacking = found.first().map_or(0, |cases| cases.iter().filter(|c| c[7].is_some()).count());
        Ok(Table {
            task: "paired",
            title: format!("paired: {} layouts in another's look, against the truth", names.len()),
            cases: names,
            columns: vec![
                PSNR,
                SSIM,
                DIFFERENCE,
                DIFFERENCE_95,
                Column::new("consistency", "consistency", Lower, 2),
                Column::new("shared_psnr", "shared PSNR", Higher, 2),
                Column::new("shared_ciede2000", "shared CIEDE", Lower, 2),
                Column::new("lacking_ciede2000", "lacking CIEDE", Lower, 2),
            ],
            rows: self.rows(found),
            notes: vec![
                "consistency: how far the differences between classes' mean Lab are from the truth's, area-weighted"
                    .into(),
                format!(
                    "shared: pixels of classes that the reference has; lacking: of those it lacks, in {lacking} cases"
                ),
                "best in: cases in which the method has the best figure of the first column".into(),
            ],
        })
    }

    /// One class of a photograph shifted in tone and colour; the untouched photograph is reference and truth.
    ///
    /// # Errors
    /// Those of reading and of the device; [`Error::InvalidArgument`] when no picture has a class large enough.
    pub fn restore(&self, sheet: Option<&mut Sheet>, progress: Progress) -> Result<Table> {
        let names = spread(&self.set.photos(), self.limit);
        let make = |i: usize| self.restore_case(&names[i]);
        let measure = |case: &Case, results: &[Picture]| {
            let (rgb, truth) = (results[0].to_rgb_f32(), truth(case));
            let (mut figures, _) = against(&rgb, &lab_pixels(&rgb), truth);
            figures.push(inside_error(case, &rgb));
            Ok(figures)
        };
        let found = self.each(&names, &self.methods, make, measure, sheet, progress)?;
        Ok(Table {
            task: "restore",
            title: format!("restore: one class of {} photographs shifted, the untouched one as reference", names.len()),
            cases: names,
            columns: vec![PSNR, SSIM, DIFFERENCE, DIFFERENCE_95, FMSE],
            rows: self.rows(found),
            notes: vec![
                "fMSE: mean squared error inside the class, of values from 0 to 255".into(),
                "the untouched photograph has the class's very distribution: methods that match moments profit from it"
                    .into(),
            ],
        })
    }

    /// What changes outside the mask, and outside the asked class, at coupling 0 and 1. Rows: the forms of the job.
    ///
    /// # Errors
    /// Those of reading and of the device.
    pub fn locality(&self, progress: Progress) -> Result<Table> {
        let methods: Vec<Method> = self.methods.iter().copied().filter(|m| m.is_job()).collect();
        let swaps = self.swaps(self.limit);
        let names: Vec<String> = swaps.iter().map(|(name, ..)| name.clone()).collect();
        let make = |i: usize| {
            let (name, content, reference) = &swaps[i];
            let (content, reference) = (self.set.read(content)?, self.references.read(reference)?);
            let class = self.asked(name, &content, Some(&reference))?;
            let (w, h) = (content.picture.width(), content.picture.height());
            // An ellipse with a soft rim: full inside, nothing beyond 80 % of the way to the sides.
            let ellipse = mask(w, h, |x, y| {
                let across = |v: usize, size: usize| (2 * v + 1) as f32 / size as f32 - 1.0;
                (4.0 - 5.0 * across(x, w).hypot(across(y, h))).clamp(0.0, 1.0)
            })?;
            let whole = mask(w, h, |_, _| 1.0)?;
            let edits = [0.0, 1.0].into_iter().flat_map(|coupling| {
                [
                    Edit { classes: vec![], mask: Some(ellipse.clone()), coupling },
                    Edit { classes: vec![class], mask: Some(whole.clone()), coupling },
                ]
            });
            let edits = edits.collect();
            Ok(Case { name: name.clone(), content, reference, truth: None, edits })
        };
        let measure = |case: &Case, results: &[Picture]| {
            let mask = case.edits[0].mask.as_ref().expect("the ellipse");
            let width = case.content.picture.width();
            let outside = |result: &Picture| {
                greatest_difference(&case.content.picture, result, |i| {
                    mask.coverage(i % width, i / width) == 0.0
                })
            };
            let class = case.edits[1].classes[0];
            let before = lab_pixels(&case.content.picture.to_rgb_f32());
            let changes = |result: &Picture| {
                let apart = differences(&lab_pixels(&result.to_rgb_f32()), &before);
                let asked = |i: usize| usize::from(case.content.labels.indices()[i]) == class;
                let (inside, others) = (mean_where(&apart, asked), mean_where(&apart, |i| !asked(i)));
                (inside, inside.zip(others).filter(|&(inside, _)| inside > 0.0).map(|(i, o)| o / i))
            };
            let ((change, leak_0), (_, leak_1)) = (changes(&results[1]), changes(&results[3]));
            Ok(vec![Some(outside(&results[0])), Some(outside(&results[2])), leak_0, leak_1, change])
        };
        let found = self.each(&names, &methods, make, measure, None, progress)?;
        // The greatest of all, not the mean: one changed pixel in one picture is one too many.
        let mut rows: Vec<Row> = methods.iter().zip(found).map(|(&m, cases)| Row::of(m, cases)).collect();
        for row in &mut rows {
            for c in 0..2 {
                row.figures[c] = row.cases.iter().filter_map(|case| case[c]).reduce(f64::max);
            }
        }
        Ok(Table {
            task: "locality",
            title: format!("locality: {} edits of one class, and through a mask", names.len()),
            cases: names,
            columns: vec![
                Column::new("outside_max_coupling_0", "outside max, c=0", Unranked, 0),
                Column::new("outside_max_coupling_1", "c=1", Unranked, 0),
                Column::new("others_coupling_0", "others/asked, c=0", Unranked, 4),
                Column::new("others_coupling_1", "c=1", Unranked, 4),
                Column::new("asked_change", "change CIEDE", Unranked, 2),
            ],
            rows,
            notes: vec![
                "outside max: greatest difference where the mask is 0, in 8-bit steps, of all pictures; must be 0".into(),
                "others/asked: mean CIEDE2000 change in the other classes over that in the asked one; c: coupling"
                    .into(),
            ],
        })
    }

    /// The mean gradient across the border of an edited class, over the content's at the same pixels; beside it the
    /// truth's, laid into the class in the same way.
    ///
    /// # Errors
    /// Those of reading and of the device.
    pub fn seam(&self, progress: Progress) -> Result<Table> {
        let pairs = self.some_pairs(self.limit)?;
        let names: Vec<String> = pairs.iter().map(|pair| pair.truth.clone()).collect();
        let make = |i: usize| {
            let case = self.paired_case(&pairs[i])?;
            let class = self.asked(&case.name, &case.content, Some(&case.reference))?;
            Ok(Case { edits: vec![Edit { classes: vec![class], ..Edit::default() }], ..case })
        };
        let ratio = |case: &Case, rgb: &RgbImage| {
            let class = case.edits[0].classes[0];
            let inside = |i: usize| usize::from(case.content.labels.indices()[i]) == class;
            let before = border_gradient(&case.content.picture.to_rgb_f32(), inside)?;
            border_gradient(rgb, inside).filter(|_| before > 0.0).map(|after| after / before)
        };
        let measure = |case: &Case, results: &[Picture]| {
            let mut laid = case.content.picture.to_rgb_f32();
            for (i, out) in laid.pixels.chunks_exact_mut(3).enumerate() {
                if usize::from(case.content.labels.indices()[i]) == case.edits[0].classes[0] {
                    out.copy_from_slice(&truth(case).rgb.pixels[i * 3..i * 3 + 3]);
                }
            }
            let wanted = ratio(case, &laid);
            let got = ratio(case, &results[0].to_rgb_f32());
            let off = got.zip(wanted).map(|(got, wanted)| (got / wanted).ln().abs());
            Ok((vec![got, off], vec![wanted, None]))
        };
        let found = self.each(&names, &self.methods, make, measure, None, progress)?;
        let mut rows = Vec::new();
        for (n, (&method, cases)) in self.methods.iter().zip(found).enumerate() {
            let (got, wanted): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
            if n == 0 {
                rows.push(Row::mean("truth", "truth in the class", wanted));
            }
            rows.push(Row::of(method, got));
        }
        Ok(Table {
            task: "seam",
            title: format!("seam: gradient across the border of an edited class, in {} cases", names.len()),
            cases: names,
            columns: vec![
                Column::new("seam", "result/content", Unranked, 3),
                Column::new("seam_off", "|ln(result/truth)|", Lower, 3),
            ],
            rows,
            notes: vec![
                "1 is the content's own edge. Where the class really changes colour the edge changes too: the truth's row \
                 says by how much."
                    .into(),
            ],
        })
    }

    /// The paired and the restore task with label maps drawn carelessly and references taken badly; figures are mean
    /// CIEDE2000, over the whole picture and inside the class.
    ///
    /// # Errors
    /// Those of reading and of the device.
    pub fn noise(&self, progress: Progress) -> Result<Vec<Table>> {
        let methods: Vec<Method> = self.methods.iter().copied().filter(|&m| m != Method::Identity).collect();
        let limit = Some(self.limit.unwrap_or(NOISE_CASES));
        let pairs = spread(&self.set.pairs(self.references), limit);
        let photos = spread(&self.set.photos(), limit);
        let mut tables = Vec::new();
        let tasks = [("paired", pairs.len()), ("restore", photos.len())];
        for (n, (task, cases)) in tasks.into_iter().enumerate().filter(|&(_, (_, cases))| cases > 0) {
            let progress = progress.part(n as f32 / 2.0, (n + 1) as f32 / 2.0);
            let names: Vec<String> = match task {
                "paired" => pairs.iter().map(|pair| pair.truth.clone()).collect(),
                _ => photos.clone(),
            };
            let mut figures: Vec<Vec<Figures>> = methods.iter().map(|_| vec![vec![]; cases]).collect();
            for (c, (_, condition)) in CONDITIONS.iter().enumerate() {
                let make = |i: usize| {
                    let mut case = match task {
                        "paired" => self.paired_case(&pairs[i])?,
                        _ => self.restore_case(&names[i])?,
                    };
                    self.disturb(&mut case, *condition)?;
                    Ok(case)
                };
                let measure = |case: &Case, results: &[Picture]| {
                    let apart = differences(&lab_pixels(&results[0].to_rgb_f32()), &truth(case).lab);
                    Ok(mean(apart))
                };
                let part = |i: usize| i as f32 / CONDITIONS.len() as f32;
                let found =
                    self.each(&names, &methods, make, measure, None, progress.part(part(c), part(c + 1)))?;
                for (method, cases) in figures.iter_mut().zip(found) {
                    method.iter_mut().zip(cases).for_each(|(case, figure)| case.push(figure));
                }
            }
            let rows = methods.iter().zip(figures).map(|(&method, cases)| Row::of(method, cases)).collect();
            tables.push(Table {
                task: if task == "paired" { "noise-paired" } else { "noise-restore" },
                title: format!("noise: mean CIEDE2000 of the {task} task, {cases} cases"),
                cases: names,
                columns: CONDITIONS.iter().map(|(column, _)| *column).collect(),
                rows,
                notes: vec![
                    "er, di, ji: both label maps eroded, dilated, jittered by so many pixels; then the reference noisy \
                     (sd 0.08), two stops dark, under a coloured light, lit from one side"
                        .into(),
                ],
            });
        }
        if tables.is_empty() {
            return Err(Error::invalid("the data have no pictures for the noise task"));
        }
        Ok(tables)
    }

    /// Distances on SqueezeNet features, of swapped styles and of reconstructions.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] without [`features`](Self::features); those of reading and of the device.
    pub fn perceptual(&self, progress: Progress) -> Result<Vec<Table>> {
        let Some(features) = self.features else {
            return Err(Error::invalid("the perceptual task needs SqueezeNet's weights: --perceptual FILE"));
        };
        let swaps = self.swaps(self.limit);
        let names: Vec<String> = swaps.iter().map(|(name, ..)| name.clone()).collect();
        let make = |i: usize| {
            let (name, content, reference) = &swaps[i];
            let truth =
                if self.set.has(name) { Some(Truth::new(&self.set.read(name)?.picture)) } else { None };
            Ok(Case {
                name: name.clone(),
                content: self.set.read(content)?,
                reference: self.references.read(reference)?,
                truth,
                edits: vec![Edit::default()],
            })
        };
        let swapped = self.feature_table(
            features,
            "perceptual-swapped",
            format!("perceptual: {} styles swapped", names.len()),
            (names, &make),
            progress.part(0.0, 0.7),
        )?;

        let names = spread(&self.set.photos(), self.limit);
        let make = |i: usize| {
            let photo = self.set.read(&names[i])?;
            Ok(Case {
                name: names[i].clone(),
                truth: Some(Truth::new(&photo.picture)),
                content: photo.clone(),
                reference: photo,
                edits: vec![Edit::default()],
            })
        };
        let reconstruction = self.feature_table(
            features,
            "perceptual-reconstruction",
            format!("perceptual: {} pictures in their own style", names.len()),
            (names.clone(), &make),
            progress.part(0.7, 1.0),
        )?;
        Ok(vec![swapped, reconstruction])
    }

    fn feature_table(
        &self,
        features: &Features,
        task: &'static str,
        title: String,
        (names, make): (Vec<String>, &(dyn Fn(usize) -> Result<Case> + Sync)),
        progress: Progress,
    ) -> Result<Table> {
        let measure = |case: &Case, results: &[Picture]| {
            let rgb = results[0].to_rgb_f32();
            let distance =
                case.truth.as_ref().map(|truth| features.distance(&rgb, &truth.rgb)).transpose()?;
            let figures = case.truth.as_ref().map(|truth| against(&rgb, &lab_pixels(&rgb), truth).0);
            let [psnr, ssim, difference, _] = figures.map_or([None; 4], |f| [f[0], f[1], f[2], f[3]]);
            // The real pictures: truths, or where there are none the contents.
            let real = match &case.truth {
                Some(truth) => features.embed(&truth.rgb)?,
                None => features.embed(&case.content.picture.to_rgb_f32())?,
            };
            Ok((vec![distance, psnr, ssim, difference], features.embed(&rgb)?, real))
        };
        let found = self.each(&names, &self.methods, make, measure, None, progress)?;
        let mut rows = Vec::new();
        for (&method, cases) in self.methods.iter().zip(found) {
            let (mut figures, mut results, mut reals) = (Vec::new(), Vec::new(), Vec::new());
            for (mut case, result, real) in cases {
                case.insert(1, None);
                figures.push(case);
                results.push(result);
                reals.push(real);
            }
            let mut row = Row::of(method, figures);
            row.figures[1] = frechet(&results, &reals);
            rows.push(row);
        }
        Ok(Table {
            task,
            title,
            columns: vec![
                Column::new("perceptual", "perceptual", Lower, 4),
                Column::new("frechet", "Frechet", Lower, 4),
                PSNR,
                SSIM,
                DIFFERENCE,
            ],
            rows,
            notes: vec![
                "perceptual: relative difference of SqueezeNet features at five depths, as in training"
                    .into(),
                format!(
                    "Frechet: on SqueezeNet's fire9 means, 512 wide, of {} pictures; not the Inception FID, and comparable \
                     only between rows of as many pictures",
                    names.len()
                ),
            ],
            cases: names,
        })
    }

    /// Content and reference of every restyling, by name: the pairs, or each photograph in the next one's style.
    pub(super) fn swaps(&self, limit: Option<usize>) -> Vec<(String, String, String)> {
        let pairs = self.set.pairs(self.references);
        if !pairs.is_empty() {
            return spread(&pairs, limit).into_iter().map(|p| (p.truth, p.content, p.reference)).collect();
        }
        let (contents, looks) = (self.set.photos(), self.references.photos());
        let swap = |i: usize| {
            let (content, reference) = (&contents[i], &looks[(i + 1) % looks.len()]);
            (format!("{content} in {reference}"), content.clone(), reference.clone())
        };
        spread(&(0..contents.len()).collect::<Vec<_>>(), limit).into_iter().map(swap).collect()
    }

    fn some_pairs(&self, limit: Option<usize>) -> Result<Vec<super::Pair>> {
        let pairs = spread(&self.set.pairs(self.references), limit);
        if pairs.is_empty() {
            return Err(Error::invalid(
                "the data have no pairs: files LAYOUT_LOOK, with LAYOUT_LAYOUT as content and LOOK_LOOK as reference",
            ));
        }
        Ok(pairs)
    }

    fn paired_case(&self, pair: &super::Pair) -> Result<Case> {
        let truth = self.set.read(&pair.truth)?;
        Ok(Case {
            name: pair.truth.clone(),
            content: self.set.read(&pair.content)?,
            reference: self.references.read(&pair.reference)?,
            truth: Some(Truth::new(&truth.picture)),
            edits: vec![Edit::default()],
        })
    }

    fn restore_case(&self, name: &str) -> Result<Case> {
        let photo = self.set.read(name)?;
        let class = self.asked(name, &photo, None)?;
        let shift = Shift::random(&mut self.rng("shift", name));
        let mut shifted = photo.picture.to_rgb_f32();
        for (rgb, &label) in shifted.pixels.chunks_exact_mut(3).zip(photo.labels.indices()) {
            if usize::from(label) == class {
                rgb.copy_from_slice(&shift.apply([rgb[0], rgb[1], rgb[2]]));
            }
        }
        Ok(Case {
            name: name.to_owned(),
            truth: Some(Truth::new(&photo.picture)),
            content: Labelled { picture: picture(&shifted)?, labels: photo.labels.clone() },
            reference: photo,
            edits: vec![Edit { classes: vec![class], ..Edit::default() }],
        })
    }

    /// A class to edit, at random among those large enough, and that the reference has too. Class 0, the background, only
    /// where there is no other.
    pub(super) fn asked(
        &self,
        name: &str,
        content: &Labelled,
        reference: Option<&Labelled>,
    ) -> Result<usize> {
        let known = reference.map(Labelled::shares);
        let fits = |class: usize, share: f64| {
            share >= SMALLEST_SHARE && known.as_ref().is_none_or(|known| known.contains_key(&class))
        };
        let mut classes: Vec<usize> = content
            .shares()
            .into_iter()
            .filter(|&(class, share)| fits(class, share))
            .map(|(class, _)| class)
            .collect();
        if classes.len() > 1 {
            classes.retain(|&class| class != 0);
        }
        if classes.is_empty() {
            return Err(Error::invalid(format!(
                "{name}: no class is large enough to edit and in the reference too"
            )));
        }
        Ok(classes[self.rng("class", name).random_range(0..classes.len())])
    }

    fn disturb(&self, case: &mut Case, condition: Condition) -> Result<()> {
        let mut rng = self.rng("noise", &case.name);
        match condition {
            Condition::Clean => {}
            Condition::Labels(drawn) => {
                case.content.labels = drawn.apply(&case.content.labels, &mut rng);
                case.reference.labels = drawn.apply(&case.reference.labels, &mut rng);
            }
            Condition::Reference(taken) => {
                case.reference.picture =
                    picture(&taken.apply(&case.reference.picture.to_rgb_f32(), &mut rng))?;
            }
        }
        Ok(())
    }

    fn rows(&self, found: Vec<Vec<Figures>>) -> Vec<Row> {
        self.methods.iter().zip(found).map(|(&method, cases)| Row::of(method, cases)).collect()
    }
}

const FMSE: Column = Column::new("fmse", "fMSE", Lower, 1);

/// fMSE: mean squared error inside the edited class, of values from 0 to 255.
fn inside_error(case: &Case, rgb: &RgbImage) -> Option<f64> {
    let class = case.edits[0].classes[0];
    let inside = |i: usize| usize::from(case.content.labels.indices()[i]) == class;
    Some(mse(rgb, &truth(case).rgb, inside)? * 255.0 * 255.0)
}

/// The greatest difference of two pictures of one form in the pixels wanted, in 8-bit steps, all channels.
fn greatest_difference(one: &Picture, two: &Picture, wanted: impl Fn(usize) -> bool) -> f64 {
    let channels = one.channels();
    let greatest = |differ: &dyn Fn(usize) -> f64| {
        // What is no number differs from every number.
        let worse = |most: f64, d: f64| if d.is_nan() { f64::INFINITY } else { most.max(d) };
        (0..one.samples().len()).filter(|i| wanted(i / channels)).map(differ).fold(0.0, worse)
    };
    match (one.samples(), two.samples()) {
        (Samples::U8(a), Samples::U8(b)) => greatest(&|i| f64::from(a[i].abs_diff(b[i]))),
        (Samples::U16(a), Samples::U16(b)) => greatest(&|i| f64::from(a[i].abs_diff(b[i])) / 257.0),
        (Samples::F32(a), Samples::F32(b)) => greatest(&|i| {
            if a[i].to_bits() == b[i].to_bits() { 0.0 } else { (f64::from(a[i] - b[i]) * 255.0).abs() }
        }),
        // A result in another form than its content is wrong altogether.
        _ => f64::INFINITY,
    }
}

#[derive(Clone, Copy)]
enum Condition {
    Clean,
    Labels(Drawn),
    Reference(Taken),
}

const CONDITIONS: [(Column, Condition); 14] = {
    use Condition::{Clean, Labels, Reference};
    use Drawn::{Dilated, Eroded, Jittered};
    const fn at(key: &'static str, heading: &'static str) -> Column {
        Column::new(key, heading, Lower, 2)
    }
    [
        (at("clean", "clean"), Clean),
        (at("eroded_2", "er 2"), Labels(Eroded(2))),
        (at("eroded_4", "er 4"), Labels(Eroded(4))),
        (at("eroded_8", "er 8"), Labels(Eroded(8))),
        (at("dilated_2", "di 2"), Labels(Dilated(2))),
        (at("dilated_4", "di 4"), Labels(Dilated(4))),
        (at("dilated_8", "di 8"), Labels(Dilated(8))),
        (at("jittered_2", "ji 2"), Labels(Jittered(2))),
        (at("jittered_4", "ji 4"), Labels(Jittered(4))),
        (at("jittered_8", "ji 8"), Labels(Jittered(8))),
        (at("reference_noisy", "noisy"), Reference(Taken::Noisy)),
        (at("reference_dark", "dark"), Reference(Taken::Dark)),
        (at("reference_cast", "cast"), Reference(Taken::Cast)),
        (at("reference_lit", "lit"), Reference(Taken::Lit)),
    ]
};
