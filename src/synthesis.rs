//! Pictures of label maps alone: the plain output of the generator, in a style or out of noise, also between two layouts.

use candle_core::{Device, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::image::{LabelMap, RgbImage};
use crate::nn::{Config, Network};
use crate::progress::Progress;
use crate::restyle::{Bounds, Window, interior, network_bytes, shape};
use crate::style::{Style, check_classes};
use crate::{Error, Result};

/// Where the look comes from.
#[derive(Clone, Copy, Debug)]
pub enum Look<'a> {
    /// A reference's.
    Style(&'a Style),
    /// The noise mapping's, from normal values drawn with this seed: the same seed gives the same look.
    Noise(u64),
}

/// What to make a picture of.
#[derive(Clone, Copy, Debug)]
pub struct Synthesis<'a> {
    pub labels: &'a LabelMap,
    /// Another layout of the same size, and how far the shapes have moved to it, 0 to 1.
    pub morph: Option<(&'a LabelMap, f32)>,
    pub look: Look<'a>,
    /// Whether the picture is finished: of the labels' size, its edges where theirs are, and each class nearer to the mean colour
    /// that the style's picture showed, which a small network misses, by half of what it misses there or more. Otherwise it is
    /// the network's as it stands.
    pub finish: bool,
}

/// How much of the network's error about a class of the style's picture (the mean colour missed, values in [0, 1]) is taken out of
/// another picture. All of it is right for that picture itself. Elsewhere the light falls otherwise, and on pairs of layout and look
/// half of it is nearest to the truth, where the error is as small as a trained network's; of a large one nearly all is.
fn share_of_error(error: [f32; 3]) -> f32 {
    /// An error of this size, squared, is taken out to three quarters.
    const LARGE: f32 = 0.2;
    let size: f32 = error.iter().map(|e| e * e).sum();
    0.5 + 0.5 * size / (size + LARGE)
}

impl Synthesis<'_> {
    /// Bytes that [`run`](Self::run) allocates at most, beside the label maps and the model, for a finished picture of `size` or for
    /// the network's as it stands: an estimate from above.
    pub fn plan(config: &Config, size: Option<(usize, usize)>) -> u64 {
        network_bytes(config) + size.map_or(0, |(width, height)| width as u64 * height as u64 * 12)
    }

    /// Makes the picture: of the labels' size when it is finished, else at the model's scale, the longer side of the map being
    /// as long as the model's resolution. Between two layouts there are no edges to follow, and it is only resampled.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when a map has a class that the network does not have, the second has another size, the
    /// morph is not 0 to 1, or the style is of another model; [`Error::Unsupported`] for noise where the model has no
    /// mapping, and when the network draws values that are no numbers; [`Error::Tensor`] when the device fails; [`Error::Cancelled`].
    pub fn run(&self, network: &Network, progress: Progress) -> Result<RgbImage> {
        let (config, device) = (network.config(), network.device());
        let labels = self.labels;
        check_classes("the labels", labels, network.config().classes)?;
        let (width, height) = (labels.width(), labels.height());
        let window = Window::whole(width, height);
        let seen = window.labels(labels, config.resolution);
        let mut shown = seen.counts();
        let code = |map: &LabelMap| -> Result<Tensor> {
            Ok(network.encode_mask(&map.to_tensor(config.classes, device)?)?)
        };
        let mut shape = code(&seen)?;
        if let Some((target, share)) = self.morph {
            check_classes("the target labels", target, network.config().classes)?;
            if (target.width(), target.height()) != (width, height) {
                return Err(Error::invalid(format!(
                    "the target labels are {} x {} pixels, but the labels are {width} x {height}: make them the same size",
                    target.width(),
                    target.height()
                )));
            }
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::invalid(format!("the morph is {share}, not 0 to 1")));
            }
            let target = window.labels(target, config.resolution);
            // The embedding is linear, so that the mean of two codes is a shape between.
            let share = f64::from(share);
            shape = ((shape * (1.0 - share))? + (code(&target)? * share)?)?;
            let both = shown.iter_mut().zip(target.counts());
            both.for_each(|(n, more)| *n += if share > 0.0 { more } else { 0 });
        }
        progress.at(0.05)?;
        let codes = match self.look {
            Look::Style(style) => {
                style.check(network)?;
                style.to_device(device)?.codes().unsqueeze(0)?
            }
            Look::Noise(seed) => {
                let codes = noise_codes(network, seed)?;
                // As published: on this path alone, classes that are not shown have no code.
                let keep = shown[..config.classes].iter().map(|&n| if n > 0 { 1.0 } else { 0.0 });
                let keep = Tensor::from_vec(keep.collect::<Vec<f32>>(), (1, config.classes, 1), device)?;
                codes.broadcast_mul(&keep)?
            }
        };
        let mut image =
            RgbImage::from_tensor(&network.generate(&shape, &codes, progress.part(0.1, 0.95))?)?;
        let bounds = Bounds { left: 0, top: 0, right: width, bottom: height };
        if self.finish {
            let layout = match self.morph {
                None => Some(labels),
                Some((_, 0.0)) => Some(labels),
                Some((target, 1.0)) => Some(target),
                Some(_) => None,
            };
            let Some(layout) = layout else {
                return Ok(window.back(&image, bounds, (width, height)).into_image());
            };
            let small = window.labels(layout, config.resolution);
            if let Look::Style(style) = self.look {
                style.correct(&mut image, &small, share_of_error);
            }
            let place = window.to_network(config.resolution);
            return Ok(shape::enlarge(&image, &small, &interior(&small), layout, place));
        }
        let size = (window.shown(width, config.resolution), window.shown(height, config.resolution));
        Ok(window.back(&image, bounds, size).into_image())
    }
}

/// Styles of every class from a seed, `(1, classes, style width)`.
pub(crate) fn noise_codes(network: &Network, seed: u64) -> Result<Tensor> {
    let Some(mapping) = network.config().mapping else {
        return Err(Error::unsupported("this model has no noise mapping: give a style"));
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Box-Muller; 1 - u is never 0.
    let mut normal = || {
        let (u, v): (f64, f64) = (rng.random(), rng.random());
        ((-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
    };
    let z: Vec<f32> = (0..mapping.latent).map(|_| normal()).collect();
    let z = Tensor::from_vec(z, (1, mapping.latent), &Device::Cpu)?.to_device(network.device())?;
    Ok(network.map_noise(&z)?)
}
