//! The actions about frames: rendering one, and what a host asks before it does.

use std::time::{Duration, Instant};

use ca2sis::image::ViewMut;

use crate::describe::{LABELS, MASK, REFERENCE, REFERENCE_LABELS};
use crate::fault::{Fault, Result, filled};
use crate::frame::Frame;
use crate::host::{Effect, ProgressBar, Props, forever};
use crate::inputs::Inputs;
use crate::ofx::*;
use crate::settings::{self, OverTime, Settings};
use crate::shared;
use crate::time::{self, Work};

/// Work that is not done by then gets a progress bar.
const PATIENCE: Duration = Duration::from_millis(700);

/// Tells the host how far a frame is, and hears whether to go on.
pub struct Watch<'h> {
    effect: Effect<'h>,
    bar: Option<ProgressBar<'h>>,
    began: Instant,
    /// The part of the whole that the work at hand is.
    part: (f32, f32),
}

impl<'h> Watch<'h> {
    fn new(effect: &Effect<'h>) -> Self {
        Self { effect: *effect, bar: None, began: Instant::now(), part: (0.0, 1.0) }
    }

    /// What comes next is the part of the whole from `from` to `to`.
    pub fn next(&mut self, from: f32, to: f32) {
        self.part = (from, to);
    }

    pub fn tell(&mut self, share: f32) -> bool {
        if self.effect.aborted() {
            return false;
        }
        if self.bar.is_none() && self.began.elapsed() > PATIENCE {
            self.bar = Some(self.effect.progress(c"Restyling"));
        }
        let (from, to) = self.part;
        self.bar.as_ref().is_none_or(|bar| bar.at(f64::from(from + (to - from) * share)))
    }
}

pub fn render(effect: &Effect, args: &Props) -> OfxStatus {
    match frame(effect, args) {
        Ok(()) => {
            if time::take_told(effect.handle) {
                effect.clear_error();
            }
            kOfxStatOK
        }
        Err(fault) => {
            if let Some(message) = fault.message() {
                time::set_told(effect.handle);
                effect.tell_error(&message);
            }
            fault.status()
        }
    }
}

fn frame(effect: &Effect, args: &Props) -> Result<()> {
    let time = args.double(kOfxPropTime, 0).map_err(Fault::Host)?;
    let window = args.ints::<4>(kOfxImageEffectPropRenderWindow).map_err(Fault::Host)?.map(i64::from);
    let settings = Settings::at(effect, time);
    let mut watch = Watch::new(effect);
    let mut inputs = Inputs::of_source(effect, time)?;
    if !settings.is_nothing() {
        inputs = inputs.and_clips(&settings)?;
    }
    let output =
        effect.clip(kOfxImageEffectOutputClipName).and_then(|clip| clip.image(time)).map_err(Fault::Host)?;
    let mut output = Frame::new(output, "Output")?;
    inputs.source.keep_apart(&output)?;

    if settings.is_nothing() || inputs.uncovered.is_some() {
        // A host need not ask whether there is anything to do.
        return output.write(window, &inputs.source, None);
    }
    let loaded = shared::model(&settings)?;
    watch.next(0.0, 0.3);
    let wanted = shared::wanted(&inputs, &settings, &loaded, &mut watch)?;
    watch.next(0.3, 1.0);
    let material = inputs.material(&settings, &loaded)?;
    let layout = material.content.result_layout();
    let mut result = filled(layout.height * layout.row_stride.unsigned_abs(), 0u8)?;
    let work = Work { inputs: &inputs, settings: &settings, loaded: &loaded, wanted: &wanted };
    time::restyle(effect, &work, &material, &mut ViewMut::new(&mut result, layout)?, &mut watch)?;
    output.write(window, &inputs.source, Some((&material.content, &result)))
}

/// At strength 0 the result is the source.
pub fn is_identity(effect: &Effect, args: &Props, reply: &Props) -> OfxStatus {
    let Ok(time) = args.double(kOfxPropTime, 0) else { return kOfxStatReplyDefault };
    if !settings::is_nothing(effect, time) {
        return kOfxStatReplyDefault;
    }
    let said = reply
        .set_string(kOfxPropName, 0, kOfxImageEffectSimpleSourceClipName)
        .and_then(|()| reply.set_double(kOfxPropTime, 0, time));
    // A host that does not take the answer renders, which copies.
    if said.is_ok() { kOfxStatOK } else { kOfxStatReplyDefault }
}

/// The result is where the source is; the other clips add nothing.
pub fn region_of_definition(effect: &Effect, args: &Props, reply: &Props) -> OfxStatus {
    let region = || {
        let time = args.double(kOfxPropTime, 0)?;
        let region = effect.clip(kOfxImageEffectSimpleSourceClipName)?.region(time)?;
        doubles(reply, kOfxImageEffectPropRegionOfDefinition, [region.x1, region.y1, region.x2, region.y2])
    };
    let replied: crate::host::Result<()> = region();
    if replied.is_ok() { kOfxStatOK } else { kOfxStatReplyDefault }
}

/// Sets a property of several numbers, up to the first that is refused.
fn doubles(
    reply: &Props,
    name: &std::ffi::CStr,
    values: impl IntoIterator<Item = f64>,
) -> crate::host::Result<()> {
    values.into_iter().enumerate().try_for_each(|(i, value)| reply.set_double(name, i, value))
}

/// Every clip of the instance's context, with the time at which it is read.
fn clips(effect: &Effect, time: f64) -> Vec<(&'static std::ffi::CStr, f64)> {
    let mut clips = vec![(kOfxImageEffectSimpleSourceClipName, time)];
    let context = effect.props().and_then(|p| p.string(kOfxImageEffectPropContext, 0)).unwrap_or_default();
    if context.as_bytes() != kOfxImageEffectContextFilter.to_bytes() {
        let frame = settings::reference_frame(effect, time);
        let reference = |name| match (frame, effect.clip(name)) {
            (Some(frame), Ok(clip)) => (name, clip.nearest_frame(frame)),
            _ => (name, time),
        };
        clips.extend([(LABELS, time), (MASK, time), reference(REFERENCE), reference(REFERENCE_LABELS)]);
    }
    clips.retain(|(name, _)| effect.clip(name).is_ok_and(|clip| clip.connected() != Some(false)));
    clips
}

/// The network looks at whole pictures, whatever part of the result is wanted.
pub fn regions_of_interest(effect: &Effect, args: &Props, reply: &Props) -> OfxStatus {
    let Ok(time) = args.double(kOfxPropTime, 0) else { return kOfxStatReplyDefault };
    for (name, time) in clips(effect, time) {
        let Ok(region) = effect.clip(name).and_then(|clip| clip.region(time)) else { continue };
        let property = forever(&format!("{ROI_OF}{}", name.to_string_lossy()));
        // A host that does not ask gives the whole clip as it is.
        let _ = doubles(reply, property, [region.x1, region.y1, region.x2, region.y2]);
    }
    kOfxStatOK
}

/// The frames of each clip that a frame is made of.
pub fn frames_needed(effect: &Effect, args: &Props, reply: &Props) -> OfxStatus {
    let Ok(time) = args.double(kOfxPropTime, 0) else { return kOfxStatReplyDefault };
    let over_time = OverTime::at(effect, time);
    let source = effect.clip(kOfxImageEffectSimpleSourceClipName);
    let nearest = |frame| source.as_ref().map_or(frame, |clip| clip.nearest_frame(frame));
    for (name, at) in clips(effect, time) {
        let mut ranges = vec![(at, at)];
        // What lies on the source is read where the source is.
        if at == time && name != REFERENCE && name != REFERENCE_LABELS {
            match over_time {
                OverTime::EachFrame => {}
                OverTime::Locked(frame) => ranges.push((nearest(frame), nearest(frame))),
                OverTime::Smoothed(radius) => {
                    ranges = vec![(nearest(time - f64::from(radius)), nearest(time + f64::from(radius)))]
                }
            }
        }
        let property = forever(&format!("{FRAMES_OF}{}", name.to_string_lossy()));
        let _ = doubles(reply, property, ranges.into_iter().flat_map(|(first, last)| [first, last]));
    }
    kOfxStatOK
}
