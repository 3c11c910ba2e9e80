//! One instance over time: the colour changes of its frames, kept so that a frame can take over another's, or the mean of those
//! around it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use ca2sis::context::LoadedModel;
use ca2sis::image::{Channels, Layout, SampleType, View, ViewMut};
use ca2sis::progress::Progress;
use ca2sis::restyle::{self, ColorChange, Job, Method, Options};
use xxhash_rust::xxh3::Xxh3;

use crate::fault::{Fault, Result};
use crate::frame::bytes_of;
use crate::host::Effect;
use crate::inputs::{Inputs, Material};
use crate::lock;
use crate::ofx::{OfxImageEffectHandle, kOfxImageEffectSimpleSourceClipName};
use crate::render::Watch;
use crate::settings::{OverTime, Settings};
use crate::shared::{Look, Wanted, proposed};

/// What is kept of an instance between its frames.
#[derive(Default)]
struct Instance {
    /// Whether the user was told of an error that may be over.
    told: bool,
    changes: Vec<Kept>,
}

/// The change of one frame.
#[derive(Clone)]
struct Kept {
    time: f64,
    /// Of the settings and the look, and of the pixels too.
    settings: u128,
    all: u128,
    change: Arc<ColorChange>,
}

/// By the address of the instance's handle.
static INSTANCES: Mutex<Option<HashMap<usize, Instance>>> = Mutex::new(None);

fn instances<T>(work: impl FnOnce(&mut HashMap<usize, Instance>) -> T) -> T {
    work(lock(&INSTANCES).get_or_insert_default())
}

pub fn begin(handle: OfxImageEffectHandle) {
    instances(|all| all.insert(handle as usize, Instance::default()));
}

pub fn end(handle: OfxImageEffectHandle) {
    instances(|all| all.remove(&(handle as usize)));
}

/// Lets go of the changes of an instance.
pub fn forget(handle: OfxImageEffectHandle) {
    instances(|all| all.get_mut(&(handle as usize)).map(|i| i.changes.clear()));
}

/// Lets go of the changes of all instances.
pub fn purge() {
    instances(|all| all.values_mut().for_each(|i| i.changes.clear()));
}

pub fn set_told(handle: OfxImageEffectHandle) {
    instances(|all| all.get_mut(&(handle as usize)).map(|i| i.told = true));
}

/// Whether there is something to take back.
pub fn take_told(handle: OfxImageEffectHandle) -> bool {
    instances(|all| all.get_mut(&(handle as usize)).is_some_and(|i| std::mem::take(&mut i.told)))
}

/// What a frame is made with.
pub struct Work<'a, 'h> {
    pub inputs: &'a Inputs<'h>,
    pub settings: &'a Settings,
    pub loaded: &'a LoadedModel,
    pub wanted: &'a Wanted,
}

impl Work<'_, '_> {
    /// Runs `job` on the worker, with the labels proposed where none are given.
    fn run<T: Send>(
        &self,
        inputs: &Inputs,
        material: &Material,
        watch: &mut Watch,
        settings: &Settings,
        job: impl FnOnce(&Job, Progress) -> ca2sis::Result<T> + Send,
    ) -> Result<T> {
        let (loaded, wanted) = (self.loaded, self.wanted);
        let content = material.content.view(&inputs.source)?;
        let Layout { width, height, .. } = *content.layout();
        let gray = Layout::tight(width, height, Channels::Gray, SampleType::F32);
        let mask = material.mask.as_ref().map(|mask| View::new(bytes_of(mask), gray)).transpose()?;
        let classes = settings.class_strengths(loaded.model().classes().len());
        let options = Options {
            strength: settings.strength,
            coupling: settings.coupling,
            morph: settings.morph,
            memory_limit: settings.memory_limit,
            // It goes to a buffer of ours.
            stop_while_writing: true,
            ..Options::default()
        };
        Ok(loaded.run("restyle", Some(&mut |share| watch.tell(share)), |network, progress| {
            let (made, progress) = match &material.labels {
                Some(_) => (None, progress),
                None => {
                    let labels = proposed(network, &content, "the source", progress.part(0.0, 0.3))?;
                    (Some(labels), progress.part(0.3, 1.0))
                }
            };
            let labels = made.as_ref().or(material.labels.as_ref()).expect("given or made");
            let on_device;
            let method = match &wanted.look {
                Look::Statistics(statistics) => Method::Statistics(statistics),
                Look::Style(style) => {
                    on_device = style.to_device(network.device())?;
                    Method::Network { network, style: &on_device }
                }
            };
            let target_labels = material.target.as_ref();
            let job_of =
                Job { target_labels, mask, classes: &classes, options, ..Job::new(content, labels, method) };
            job(&job_of, progress)
        })?)
    }
}

impl Work<'_, '_> {
    /// What tells changes from others but for their pixels.
    fn settings_key(&self, settings: &Settings) -> u128 {
        let mut hasher = Xxh3::new();
        hasher.update(&self.wanted.key.to_ne_bytes());
        settings.hash_change(&mut hasher);
        hasher.digest128()
    }

    /// The change of the frame at hand.
    fn own(&self, effect: &Effect, material: &Material, watch: &mut Watch) -> Result<Arc<ColorChange>> {
        self.kept_or(effect, self.inputs, self.settings, watch, |_| Ok(None), Some(material))
    }

    /// The change of the frame at another time; `Missing` when the host has no such frame, or not all that belongs to it.
    fn other(
        &self,
        effect: &Effect,
        settings: &Settings,
        time: f64,
        watch: &mut Watch,
    ) -> Result<Arc<ColorChange>> {
        let inputs = Inputs::of_source(effect, time)?.and_clips(settings)?;
        if let Some(why) = &inputs.uncovered {
            return Err(Fault::Missing(why.clone()));
        }
        let make = |inputs: &Inputs| inputs.material(settings, self.loaded).map(Some);
        self.kept_or(effect, &inputs, settings, watch, make, None)
    }

    fn kept_or(
        &self,
        effect: &Effect,
        inputs: &Inputs,
        settings: &Settings,
        watch: &mut Watch,
        make: impl FnOnce(&Inputs) -> Result<Option<Material>>,
        made: Option<&Material>,
    ) -> Result<Arc<ColorChange>> {
        let handle = effect.handle as usize;
        let mut hasher = Xxh3::new();
        let key = self.settings_key(settings);
        hasher.update(&key.to_ne_bytes());
        // By the pixels, not by the time alone: hosts tell of what is connected, not of what changes upstream of it.
        inputs.hash(&mut hasher, settings)?;
        let all = hasher.digest128();
        let find =
            |instance: &Instance| instance.changes.iter().find(|k| k.all == all).map(|k| k.change.clone());
        if let Some(change) = instances(|i| i.get(&handle).and_then(find)) {
            return Ok(change);
        }
        let fresh = make(inputs)?;
        let material = made.or(fresh.as_ref()).expect("given or made");
        let change = Arc::new(self.run(inputs, material, watch, settings, ColorChange::of)?);
        let kept = Kept { time: inputs.time, settings: key, all, change: change.clone() };
        instances(|i| {
            if let Some(instance) = i.get_mut(&handle) {
                instance.changes.retain(|k| k.time != kept.time);
                instance.changes.push(kept);
            }
        });
        Ok(change)
    }
}

/// Restyles a frame as the settings say that it goes over time.
pub fn restyle(
    effect: &Effect,
    work: &Work,
    material: &Material,
    out: &mut ViewMut,
    watch: &mut Watch,
) -> Result<()> {
    let (inputs, settings, time) = (work.inputs, work.settings, work.inputs.time);
    let (changes, own) = match settings.over_time {
        OverTime::EachFrame => {
            work.run(inputs, material, watch, settings, |job, progress| {
                restyle::restyle(job, out, progress)
            })?;
            return Ok(());
        }
        OverTime::Smoothed(radius) => {
            let own = work.own(effect, material, watch)?;
            (smoothed(effect, work, radius, &own, watch)?, Some(own))
        }
        OverTime::Locked(frame) => {
            let change = locked(effect, work, frame, material, watch)?;
            let own = match material.target {
                Some(_) => Some(work.own(effect, material, watch)?),
                None => None,
            };
            (vec![(1.0, change)], own)
        }
    };
    let near = match settings.over_time {
        OverTime::Smoothed(radius) => f64::from(2 * radius + 1),
        _ => 0.0,
    };
    // What no frame nearby will ask for again.
    let used = |kept: &Kept| changes.iter().any(|(_, c)| Arc::ptr_eq(c, &kept.change));
    instances(|all| {
        if let Some(instance) = all.get_mut(&(effect.handle as usize)) {
            instance.changes.retain(|kept| (kept.time - time).abs() <= near || used(kept));
        }
    });
    let changes: Vec<(f32, &ColorChange)> = changes.iter().map(|(weight, c)| (*weight, &**c)).collect();
    work.run(inputs, material, watch, settings, |job, progress| {
        restyle::restyle_by(job, &changes, own.as_deref(), out, progress)
    })?;
    Ok(())
}

/// The changes around a frame, which count less the farther they are.
fn smoothed(
    effect: &Effect,
    work: &Work,
    radius: u32,
    own: &Arc<ColorChange>,
    watch: &mut Watch,
) -> Result<Vec<(f32, Arc<ColorChange>)>> {
    let (time, radius) = (work.inputs.time, f64::from(radius));
    let weight = |distance: f64| (radius + 1.0 - distance.abs()).max(0.0) as f32;
    let mut changes = vec![(weight(0.0), own.clone())];
    if !effect.host.other_times {
        let key = work.settings_key(work.settings);
        let before = instances(|all| all.get(&(effect.handle as usize)).map(|i| i.changes.clone()));
        let before = before.into_iter().flatten().filter(|k| k.settings == key && k.time < time);
        changes.extend(before.map(|k| (weight(k.time - time), k.change)).filter(|(w, _)| *w > 0.0));
        return Ok(changes);
    }
    let frames = effect.clip(kOfxImageEffectSimpleSourceClipName).ok().and_then(|clip| clip.frames());
    let steps = radius as i32;
    for (i, step) in (-steps..=steps).filter(|&step| step != 0).enumerate() {
        let at = time + f64::from(step);
        if frames.is_some_and(|(first, last)| at < first || at > last) {
            continue;
        }
        let share = 0.3 + 0.6 * (i as f32 / (2 * steps) as f32);
        watch.next(share, share + 0.3 / steps as f32);
        match work.other(effect, &Settings::at(effect, at), at, watch) {
            Ok(change) => changes.push((weight(f64::from(step)), change)),
            // At the ends of a clip, or of its numbered files, there is none.
            Err(Fault::Missing(_)) => {}
            Err(fault) => return Err(fault),
        }
    }
    watch.next(0.9, 1.0);
    Ok(changes)
}

/// The change of the frame that all frames are locked to; where the host gives no other frames, of the one that comes nearest.
fn locked(
    effect: &Effect,
    work: &Work,
    frame: f64,
    material: &Material,
    watch: &mut Watch,
) -> Result<Arc<ColorChange>> {
    let source = effect.clip(kOfxImageEffectSimpleSourceClipName);
    let frame = source.map_or(frame, |clip| clip.nearest_frame(frame));
    if frame == work.inputs.time {
        return work.own(effect, material, watch);
    }
    if effect.host.other_times {
        // The files are the locked frame's, the strengths those of the time at hand.
        let there = Settings::at(effect, frame).with_strengths_of(work.settings);
        return work.other(effect, &there, frame, watch).map_err(|fault| match fault {
            Fault::Missing(what) => Fault::failed(format!(
                "the colour change is locked to frame {frame}: {what}. Choose another frame to lock to"
            )),
            fault => fault,
        });
    }
    let key = work.settings_key(work.settings);
    let kept = instances(|all| all.get(&(effect.handle as usize)).map(|i| i.changes.clone()));
    // Frames from the locked one on come before those ahead of it.
    let order = |k: &Kept| if k.time >= frame { k.time - frame } else { 1e9 + frame - k.time };
    let kept = kept.into_iter().flatten().filter(|k| k.settings == key);
    if let Some(kept) = kept.min_by(|a, b| order(a).total_cmp(&order(b))) {
        return Ok(kept.change);
    }
    work.own(effect, material, watch)
}
