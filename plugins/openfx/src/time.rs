//! One instance over time.

use std::collections::HashMap;
use std::sync::Mutex;

use ca2sis::context::LoadedModel;
use ca2sis::image::{Channels, Layout, SampleType, View, ViewMut};
use ca2sis::restyle::{self, Job, Method, Options};

use crate::fault::Result;
use crate::frame::bytes_of;
use crate::host::Effect;
use crate::inputs::{Inputs, Material};
use crate::lock;
use crate::ofx::OfxImageEffectHandle;
use crate::render::Watch;
use crate::settings::Settings;
use crate::shared::{Look, Wanted, proposed};

/// What is kept of an instance between its frames.
#[derive(Default)]
struct Instance {
    /// Whether the user was told of an error that may be over.
    told: bool,
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
        job: impl FnOnce(&Job, ca2sis::progress::Progress) -> ca2sis::Result<T> + Send,
    ) -> Result<T> {
        let (settings, loaded, wanted) = (self.settings, self.loaded, self.wanted);
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
            let job_of = Job { content, labels, target_labels, mask, method, classes: &classes, options };
            job(&job_of, progress)
        })?)
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
    work.run(work.inputs, material, watch, |job, progress| restyle::restyle(job, out, progress))?;
    Ok(())
}
