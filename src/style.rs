//! Styles: how each class of a reference picture looks, as the network codes it.

mod file;

use std::sync::Arc;

use candle_core::{Device, Tensor};
use sha2::{Digest, Sha256};

use crate::image::{LabelMap, RgbImage, View};
use crate::kernels::simd::Level;
use crate::nn::{Config, Network, Precision};
use crate::progress::Progress;
use crate::restyle::{Statistics, Window, network_bytes, sampling_bytes, statistics_bytes};
use crate::{Error, Result};

pub use file::STYLE_FORMAT;

/// The style codes of every class of one picture, or of a mix of several, and its colours for the statistics method. Cheap to
/// clone; belongs to the model that it was made with.
#[derive(Clone, Debug)]
pub struct Style {
    codes: Tensor,
    present: Vec<bool>,
    /// See [`Style::residual`].
    residuals: Vec<[f32; 3]>,
    /// See [`Style::error`].
    errors: Vec<f32>,
    /// Of no class in the styles that [`of_content`](Self::of_content) and [`from_noise`](Self::from_noise) make.
    statistics: Statistics,
    /// Of the styles of contents alone.
    drawn: Option<Arc<Drawn>>,
}

/// What a job needs of its content beside the codes: see [`Style::of_content`].
#[derive(Debug)]
struct Drawn {
    /// SHA-256 of what the style was taken from, and of what computed it.
    of: String,
    /// The generator's picture of the labels in the style.
    picture: RgbImage,
}

/// What the network saw when it took a style, and what it makes of it.
pub(crate) struct Seen {
    pub rgb: RgbImage,
    pub labels: LabelMap,
    pub mask_code: Tensor,
    /// The generator's picture of the labels in the style.
    pub reconstruction: RgbImage,
}

impl Style {
    /// The style of a picture of any size, whole, under its label map; of a picture with a colour profile, hand over its
    /// [`to_srgb`](crate::image::Picture::to_srgb).
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the labels have another size than the picture, or a class that the network
    /// does not have; [`Error::Tensor`] when the device fails; [`Error::Cancelled`].
    pub fn extract<'a>(
        network: &Network,
        picture: impl Into<View<'a>>,
        labels: &LabelMap,
        progress: Progress,
    ) -> Result<Self> {
        let picture = picture.into();
        check_labels("the reference's labels", labels, "the reference", &picture, network.config().classes)?;
        let window = Window::whole(picture.width(), picture.height());
        let (style, _) = Self::of_content(network, &picture, labels, &window, None, progress)?;
        let statistics = Statistics::extract(picture, labels, network.config().classes)?;
        Ok(Self { statistics, drawn: None, ..style })
    }

    /// A look without a reference: the noise mapping's, from normal values drawn with `seed`. It has every class, for the network
    /// alone: there are no statistics. The same seed gives the same look.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the model has no noise mapping; [`Error::Tensor`] when the device fails.
    pub fn from_noise(network: &Network, seed: u64) -> Result<Self> {
        let codes = crate::synthesis::noise_codes(network, seed)?.squeeze(0)?;
        let classes = network.config().classes;
        let statistics = Statistics::of_moments(vec![None; classes]);
        let (present, residuals) = (vec![true; classes], vec![[0.0; 3]; classes]);
        Ok(Self { codes, present, residuals, errors: vec![0.0; classes], statistics, drawn: None })
    }

    /// Bytes that [`extract`](Self::extract) allocates at most for a picture of this size on so many threads, beside it, its labels
    /// and the model: an estimate from above.
    pub fn plan(config: &Config, width: usize, height: usize, threads: usize) -> u64 {
        network_bytes(config)
            + sampling_bytes(width, height, config.resolution, threads)
            + statistics_bytes(width, height, threads)
    }

    /// Whether both are styles of contents, and of the same pixels and labels, computed alike.
    pub(crate) fn is_of_same_content(&self, other: &Self) -> bool {
        self.drawn.as_ref().zip(other.drawn.as_ref()).is_some_and(|(a, b)| a.of == b.of)
    }

    /// The style of a part of a picture, without statistics; sizes and classes have been checked.
    ///
    /// `kept` is what came out for a content before: where this is the same one, it comes out again, the same bits, and nothing
    /// is encoded or drawn.
    pub(crate) fn of_content(
        network: &Network,
        picture: &View,
        labels: &LabelMap,
        window: &Window,
        kept: Option<&Self>,
        progress: Progress,
    ) -> Result<(Self, Seen)> {
        let (config, device) = (network.config(), network.device());
        let small = window.labels(labels, config.resolution);
        let rgb = window.rgb(picture, config.resolution);
        let onehot = small.to_tensor(config.classes, device)?;
        let mask_code = network.encode_mask(&onehot)?;
        let of = fingerprint(&rgb, &small, device, network.precision());
        if let Some((kept, drawn)) = kept.and_then(|kept| Some((kept, kept.drawn.as_ref()?)))
            && drawn.of == of
        {
            let reconstruction = drawn.picture.clone();
            return Ok((kept.to_device(device)?, Seen { rgb, labels: small, mask_code, reconstruction }));
        }
        let codes = network.encode_style(&rgb.to_tensor(device)?, &onehot, progress.part(0.0, 0.3))?;
        let made = network.generate(&mask_code, &codes, progress.part(0.3, 1.0))?;
        let reconstruction = RgbImage::from_tensor(&made)?;

        let counts = small.counts();
        let mut residuals = vec![[0.0f64; 3]; config.classes];
        let mut squares = vec![0.0f64; config.classes];
        let pixels = rgb.pixels.chunks_exact(3).zip(reconstruction.pixels.chunks_exact(3));
        for (&class, (picture, made)) in small.indices().iter().zip(pixels) {
            let residual = &mut residuals[usize::from(class)];
            for c in 0..3 {
                let off = f64::from(picture[c] - made[c]);
                residual[c] += off;
                squares[usize::from(class)] += off * off / 3.0;
            }
        }
        let mean = |(sum, &count): (&[f64; 3], &usize)| sum.map(|s| (s / count.max(1) as f64) as f32);
        let style = Self {
            codes: codes.squeeze(0)?,
            present: (0..config.classes).map(|i| counts[i] > 0).collect(),
            residuals: residuals.iter().zip(&counts).map(mean).collect(),
            errors: squares.iter().zip(&counts).map(|(s, &n)| (s / n.max(1) as f64).sqrt() as f32).collect(),
            statistics: Statistics::of_moments(vec![None; config.classes]),
            drawn: Some(Arc::new(Drawn { of, picture: reconstruction.clone() })),
        };
        Ok((style, Seen { rgb, labels: small, mask_code, reconstruction }))
    }

    /// The mean colour of class `index` in the picture, less its mean in the generator's picture of the same labels in this
    /// style; sRGB values in [-1, 1]. That is the network's error about this style's class. Taking it out leaves of a
    /// generated picture what the network knows well: how a class differs between two layouts or two lights.
    pub(crate) fn residual(&self, index: usize) -> [f32; 3] {
        self.residuals[index]
    }

    /// How far off the generator's picture of class `index` is where the style was taken: root mean square over its pixels, sRGB
    /// values in [0, 1]; 0 where the style comes from no picture.
    pub(crate) fn error(&self, index: usize) -> f32 {
        self.errors[index]
    }

    /// Takes the network's known errors out of its picture of `labels` in this style, or the `share` of each that is to be: with all
    /// of them, each class gets the mean colour back that it had where the style was taken.
    pub(crate) fn correct(
        &self,
        generated: &mut RgbImage,
        labels: &LabelMap,
        share: impl Fn([f32; 3]) -> f32,
    ) {
        let taken = |class| {
            let residual = self.residual(class);
            residual.map(|r| r * share(residual))
        };
        let taken: Vec<[f32; 3]> = (0..self.residuals.len()).map(taken).collect();
        for (pixel, &class) in generated.pixels.chunks_exact_mut(3).zip(labels.indices()) {
            let taken = taken[usize::from(class)];
            pixel.iter_mut().zip(taken).for_each(|(v, r)| *v = (*v + r).clamp(0.0, 1.0));
        }
    }

    /// The mix of several styles: `(style, weights)`, a weight for each class, from 0 up. The weights of a class are taken
    /// as shares among the styles that have the class; a class that none has, or with weights all 0, stays absent. Their
    /// statistics are mixed as [`Statistics::mix`] says.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there is no style, styles are of different models, the weights do not number the
    /// classes, or one is negative or not finite.
    pub fn mix(parts: &[(&Style, &[f32])]) -> Result<Self> {
        let Some((first, _)) = parts.first() else {
            return Err(Error::invalid("a mix needs at least one style"));
        };
        let classes = first.present.len();
        for (style, weights) in parts {
            if style.codes.dims() != first.codes.dims() {
                return Err(Error::invalid("styles of different models cannot be mixed"));
            }
            check_weights(weights, classes)?;
        }
        let weight = |(style, weights): &(&Style, &[f32]), class: usize| {
            if style.has(class) { f64::from(weights[class]) } else { 0.0 }
        };
        // In f64 the sum of what f32 holds is finite.
        let totals: Vec<f64> = (0..classes).map(|c| parts.iter().map(|p| weight(p, c)).sum()).collect();
        let mut codes = None;
        let mut residuals = vec![[0.0; 3]; classes];
        let mut errors = vec![0.0; classes];
        for (i, part) in parts.iter().enumerate() {
            let share = |class: usize| match totals[class] {
                total if total > 0.0 => (weight(part, class) / total) as f32,
                // Of no use but to keep the codes finite.
                _ => f32::from(u8::from(i == 0)),
            };
            let shares: Vec<f32> = (0..classes).map(share).collect();
            for (class, share) in shares.iter().enumerate() {
                (0..3).for_each(|c| residuals[class][c] += part.0.residuals[class][c] * share);
                errors[class] += part.0.errors[class] * share;
            }
            let shares = Tensor::new(shares, part.0.codes.device())?.unsqueeze(1)?;
            let term = part.0.codes.broadcast_mul(&shares)?;
            codes = Some(match codes {
                Some(sum) => (sum + term)?,
                None => term,
            });
        }
        let codes = codes.expect("at least one part");
        let parts: Vec<_> = parts.iter().map(|(style, weights)| (&style.statistics, *weights)).collect();
        let statistics = Statistics::mix(&parts)?;
        let present = totals.iter().map(|&t| t > 0.0).collect();
        Ok(Self { codes, present, residuals, errors, statistics, drawn: None })
    }

    /// The codes, `(classes, style width)`.
    pub fn codes(&self) -> &Tensor {
        &self.codes
    }

    /// The colours of the picture's classes, for [`Method::Statistics`](crate::restyle::Method).
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Whether the picture showed class `index`, at the size at which the network saw it.
    pub fn has(&self, index: usize) -> bool {
        self.present.get(index).copied().unwrap_or(false)
    }

    /// This style with each class moved towards `other`'s by its weight: 0 leaves it, 1 replaces it.
    pub(crate) fn toward(&self, other: &Self, weights: &[f32]) -> Result<Self> {
        let weight = Tensor::new(weights, self.codes.device())?.unsqueeze(1)?;
        let keep = weight.affine(-1.0, 1.0)?;
        let codes = (self.codes.broadcast_mul(&keep)? + other.codes.broadcast_mul(&weight)?)?;
        let present = (0..weights.len()).map(|i| self.has(i) || (weights[i] > 0.0 && other.has(i))).collect();
        let residuals = (0..weights.len()).map(|i| {
            let (own, other, weight) = (self.residuals[i], other.residuals[i], weights[i]);
            [0, 1, 2].map(|c| own[c] * (1.0 - weight) + other[c] * weight)
        });
        let errors =
            (0..weights.len()).map(|i| self.errors[i] + (other.errors[i] - self.errors[i]) * weights[i]);
        let (residuals, errors, statistics) =
            (residuals.collect(), errors.collect(), self.statistics.clone());
        Ok(Self { codes, present, residuals, errors, statistics, drawn: None })
    }

    /// Refuses a style of a model with other sizes.
    pub(crate) fn check(&self, network: &Network) -> Result<()> {
        let config = network.config();
        let wanted = [config.classes, config.style_width()];
        if self.codes.dims() == wanted {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "the style is of another model: its codes are {:?}, this model's {wanted:?}",
            self.codes.dims()
        )))
    }
}

/// Of all that the style of a content, and the picture in it, come from but for the model, to the bit: the network's pixels and
/// labels, and which code works on which device, as another one rounds otherwise.
fn fingerprint(rgb: &RgbImage, labels: &LabelMap, device: &Device, precision: Precision) -> String {
    let mut hash = Sha256::new();
    hash.update(concat!(env!("CARGO_PKG_VERSION"), "\0"));
    let level = device.is_cpu().then(Level::fastest);
    let location = device.location();
    hash.update(format!("{location:?} {level:?} {precision} {} {}\0", rgb.width, rgb.height));
    hash.update(labels.indices());
    hash.update(rgb.pixels.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// A mix's weights: one a class, each from 0 up.
pub(crate) fn check_weights(weights: &[f32], classes: usize) -> Result<()> {
    if weights.len() != classes {
        return Err(Error::invalid(format!(
            "{} weights for a style of {classes} classes: give one for each class",
            weights.len()
        )));
    }
    match weights.iter().find(|w| !(w.is_finite() && **w >= 0.0)) {
        Some(wrong) => Err(Error::invalid(format!("a style's weight is {wrong}; it is a number from 0 up"))),
        None => Ok(()),
    }
}

/// Labels must lie on their picture and have none but `classes` classes.
pub(crate) fn check_labels(
    what: &str,
    labels: &LabelMap,
    of: &str,
    picture: &View,
    classes: usize,
) -> Result<()> {
    if (labels.width(), labels.height()) != (picture.width(), picture.height()) {
        return Err(Error::invalid(format!(
            "{what} are {} x {} pixels, but {of} is {} x {}: make them the same size",
            labels.width(),
            labels.height(),
            picture.width(),
            picture.height()
        )));
    }
    check_classes(what, labels, classes)
}

/// Refuses labels of classes beyond `classes`.
pub(crate) fn check_classes(what: &str, labels: &LabelMap, classes: usize) -> Result<()> {
    match labels.classes_present().last() {
        Some(&index) if usize::from(index) >= classes => Err(Error::invalid(format!(
            "{what} have class {index}, but the model has classes 0 to {}",
            classes - 1
        ))),
        _ => Ok(()),
    }
}
