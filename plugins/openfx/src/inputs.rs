//! The pictures that a frame is made of: from clips where they are connected, else from files.

use ca2sis::context::LoadedModel;
use ca2sis::image::{LabelMap, Transfer};
use xxhash_rust::xxh3::Xxh3;

use crate::describe::{LABELS, MASK};
use crate::fault::{Fault, Result};
use crate::frame::{Content, Frame};
use crate::host::{Clip, Effect};
use crate::ofx::*;
use crate::settings::Settings;
use crate::shared::{Stamp, label_file, mask_file};

/// The source at one time, with what lies on it.
pub struct Inputs<'h> {
    effect: Effect<'h>,
    /// Whether the context has clips beside the source.
    general: bool,
    pub time: f64,
    pub source: Frame<'h>,
    labels: Option<Frame<'h>>,
    mask: Option<Frame<'h>>,
    /// Why nothing is covered: a Mask is connected that has no picture here.
    pub uncovered: Option<String>,
}

/// The same as the library takes them.
pub struct Material {
    pub content: Content,
    /// None: the labeler is to make them.
    pub labels: Option<LabelMap>,
    pub target: Option<LabelMap>,
    pub mask: Option<Vec<f32>>,
}

impl<'h> Inputs<'h> {
    /// The source alone.
    pub fn of_source(effect: &Effect<'h>, time: f64) -> Result<Self> {
        let clip = effect.clip(kOfxImageEffectSimpleSourceClipName).map_err(Fault::Host)?;
        let source = picture(&clip, "Source", time)?;
        let context =
            effect.props().and_then(|p| p.string(kOfxImageEffectPropContext, 0)).unwrap_or_default();
        let general = context.as_bytes() != kOfxImageEffectContextFilter.to_bytes();
        Ok(Self { effect: *effect, general, time, source, labels: None, mask: None, uncovered: None })
    }

    /// With what lies on the source.
    pub fn and_clips(mut self, settings: &Settings) -> Result<Self> {
        let time = self.time;
        match self.optional(MASK, "Mask", |_| time) {
            // To the standard it is black and transparent there.
            Err(Fault::Missing(why)) => self.uncovered = Some(why),
            mask => self.mask = mask?,
        }
        if !settings.automatic && self.uncovered.is_none() {
            self.labels = self.optional(LABELS, "Labels", |_| time)?;
        }
        Ok(self)
    }

    /// The picture of a clip that need not be there; none where nothing is connected. Where the host says that something is, it
    /// is `Missing` if it cannot be had: what is taken in place of nothing would be another picture, and none would know. Hosts
    /// that do not say may hand out pictures without pixels, or fail, for nothing.
    pub fn optional(
        &self,
        name: &std::ffi::CStr,
        what: &str,
        time: impl Fn(&Clip) -> f64,
    ) -> Result<Option<Frame<'h>>> {
        if !self.general {
            return Ok(None);
        }
        let Ok(clip) = self.effect.clip(name) else { return Ok(None) };
        let connected = clip.connected();
        if connected == Some(false) {
            return Ok(None);
        }
        match picture(&clip, what, time(&clip)) {
            Err(Fault::Missing(why)) if connected == Some(true) => {
                Err(Fault::Missing(format!("{why}: connect a clip that has it, or disconnect the input")))
            }
            Err(Fault::Missing(_)) => Ok(None),
            frame => frame.map(Some),
        }
    }

    /// The frame of the reference: the one that is set, as near as its clip comes to it.
    pub fn reference_time(&self, clip: &Clip, settings: &Settings) -> f64 {
        settings.reference_frame.map_or(self.time, |frame| clip.nearest_frame(frame))
    }

    /// Tells these pictures from others.
    pub fn hash(&self, hasher: &mut Xxh3, settings: &Settings) -> Result<()> {
        self.source.hash(hasher);
        for frame in [&self.labels, &self.mask] {
            hasher.update(&[u8::from(frame.is_some())]);
            frame.iter().for_each(|frame| frame.hash(hasher));
        }
        for file in [&settings.labels_file, &settings.target_file, &settings.mask_file] {
            hasher.update(&[u8::from(file.is_some())]);
            if let Some(file) = file {
                Stamp::of(file)?.hash_into(hasher);
            }
        }
        Ok(())
    }

    pub fn material(&self, settings: &Settings, loaded: &LoadedModel) -> Result<Material> {
        let source = &self.source;
        let transfer = if settings.linear { Transfer::Linear } else { Transfer::Srgb };
        let from_file = |path: &std::path::Path| -> Result<LabelMap> {
            let map = label_file(path, loaded)?;
            let (columns, rows) = source.places_in_file(map.width(), map.height());
            let indices = rows.iter().flat_map(|&y| columns.iter().map(move |&x| (x, y)));
            Ok(LabelMap::new(columns.len(), rows.len(), indices.map(|(x, y)| map.get(x, y)).collect())?)
        };
        let labels = match (&self.labels, &settings.labels_file) {
            _ if settings.automatic => None,
            (Some(labels), _) => Some(laid_over(labels, source, loaded)?),
            (None, Some(path)) => Some(from_file(path)?),
            (None, None) => None,
        };
        let mask = match (&self.mask, &settings.mask_file) {
            (Some(mask), _) => Some(mask.coverage(source)?),
            (None, Some(path)) => {
                let mask = mask_file(path)?;
                let (columns, rows) = source.places_in_file(mask.width(), mask.height());
                let places = rows.iter().flat_map(|&y| columns.iter().map(move |&x| (x, y)));
                Some(places.map(|(x, y)| mask.coverage(x, y)).collect())
            }
            (None, None) => None,
        };
        let target = settings.target_file.as_deref().map(from_file).transpose()?;
        Ok(Material { content: source.content(transfer)?, labels, target, mask })
    }
}

/// The picture of a clip at a time.
fn picture<'h>(clip: &Clip<'h>, what: &str, time: f64) -> Result<Frame<'h>> {
    let missing = || Fault::Missing(format!("the host has no picture of the {what} at frame {time}"));
    let image = clip.image(time).map_err(|status| match status {
        status if status == kOfxStatErrMemory => Fault::Host(status),
        _ => missing(),
    })?;
    Frame::new(image, what).map_err(|fault| match fault {
        Fault::Missing(_) => missing(),
        fault => fault,
    })
}

/// The label map of a clip at the pixels of another; the first class where it has none.
fn laid_over(labels: &Frame, of: &Frame, loaded: &LoadedModel) -> Result<LabelMap> {
    let map = LabelMap::from_nearest_colors(&labels.view(Transfer::Srgb)?, loaded.model().classes())?;
    if labels.bounds == of.bounds && (map.width(), map.height()) == (of.width(), of.height()) {
        let (columns, rows) = labels.places(of);
        let same = |v: &[Option<usize>]| v.iter().enumerate().all(|(i, p)| *p == Some(i));
        if same(&columns) && same(&rows) {
            return Ok(map);
        }
    }
    let (columns, rows) = labels.places(of);
    let at = |x: &Option<usize>, y: Option<usize>| x.zip(y).map_or(0, |(x, y)| map.get(x, y));
    let indices = rows.iter().flat_map(|&y| columns.iter().map(move |x| at(x, y))).collect();
    Ok(LabelMap::new(columns.len(), rows.len(), indices)?)
}

/// The label map of a reference: where it is of another size, it is laid over the whole of the reference.
pub fn reference_labels(labels: &Frame, reference: &Frame, loaded: &LoadedModel) -> Result<LabelMap> {
    if (labels.width(), labels.height()) == (reference.width(), reference.height()) {
        return laid_over(labels, reference, loaded);
    }
    let map = LabelMap::from_nearest_colors(&labels.view(Transfer::Srgb)?, loaded.model().classes())?;
    Ok(map.resize_nearest(reference.width(), reference.height()))
}
