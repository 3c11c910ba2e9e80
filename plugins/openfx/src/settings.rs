//! The parameters: what there are, what they say of themselves, and their values at a time.

use std::ffi::CStr;
use std::path::{Path, PathBuf};

use ca2sis::device::Choice;
use ca2sis::model::{Class, Model};
use xxhash_rust::xxh3::Xxh3;

use crate::host::{Effect, Props, forever};
use crate::ofx::*;
use crate::{shared, time};

/// Classes that have a strength of their own among the parameters: all of most models. Those beyond have the overall one.
pub const SLOTS: usize = 64;

/// What kind of value a parameter has, with its default.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Default, lowest, highest.
    Number(f64, f64, f64),
    Whole(i32, i32, i32),
    /// Options, and the number of the default.
    Choice(&'static [&'static CStr], usize),
    /// A path, none as the default.
    File,
    Button,
    /// An integer that is not shown.
    Hidden,
}

/// A parameter.
pub struct Spec {
    pub name: &'static CStr,
    pub label: &'static CStr,
    pub hint: &'static CStr,
    pub page: usize,
    pub kind: Kind,
}

pub const PAGES: [(&CStr, &CStr); 4] = [
    (c"pageLook", c"Look"),
    (c"pageClasses", c"Classes"),
    (c"pageTime", c"Over time"),
    (c"pageSystem", c"Model"),
];
/// The page of the classes' strengths.
pub const CLASSES: usize = 1;

const METHODS: [&CStr; 2] = [c"Network", c"Statistics"];
const LABELS: [&CStr; 2] = [c"Given", c"Automatic"];
const ENCODINGS: [&CStr; 2] = [c"Display", c"Linear"];
const DEVICES: [&CStr; 4] = [c"Automatic", c"CPU", c"CUDA", c"Metal"];
const REFERENCES: [&CStr; 2] = [c"One frame", c"Each frame"];
const OVER_TIME: [&CStr; 3] = [c"Each frame", c"Locked", c"Smoothed"];

const fn spec(
    name: &'static CStr,
    label: &'static CStr,
    page: usize,
    kind: Kind,
    hint: &'static CStr,
) -> Spec {
    Spec { name, label, hint, page, kind }
}

pub const PARAMETERS: [Spec; 23] = [
    spec(c"strength", c"Strength", 0, Kind::Number(1.0, 0.0, 1.0),
        c"How far everything goes to the reference's look: 0 leaves the picture as it is, 1 is all the way. Multiplies the classes' own strengths."),
    spec(c"coupling", c"Coupling", 0, Kind::Number(0.0, 0.0, 1.0),
        c"How far light and cast colours of the new look come through in classes that are not restyled. Above 0, without a mask, the whole picture may change."),
    spec(c"method", c"Method", 0, Kind::Choice(&METHODS, 0),
        c"Network: the model draws the look. Statistics: each class takes the mean and spread of its colours from the reference, without the network."),
    spec(c"labels", c"Labels from", 0, Kind::Choice(&LABELS, 0),
        c"Given: the Labels input, or the label file; where there is neither, the model's labeler. Automatic: always the model's labeler. It needs a model that has one."),
    spec(c"labelsFile", c"Label file", 0, Kind::File,
        c"Label map of the source, used when no Labels input is connected: class indices (indexed or gray PNG) or the classes' colours. It is laid over the whole source. #### or %04d stands for the frame."),
    spec(c"referenceFile", c"Reference file", 0, Kind::File,
        c"Picture whose look is wanted, used when no Reference input is connected. With no reference and no style file, the look is random by the seed if the model can draw one; the built-in model takes the look of its own sample: a studio shot."),
    spec(c"referenceLabelsFile", c"Reference label file", 0, Kind::File,
        c"Label map of the reference, used when no Reference Labels input is connected. Without one the model's labeler labels the reference."),
    spec(c"styleFile", c"Style file", 0, Kind::File,
        c"A style saved by ca2sis for this model, used when no reference is given."),
    spec(c"maskFile", c"Mask file", 0, Kind::File,
        c"Gray picture: white may change, black may not. Used when no Mask input is connected. #### or %04d stands for the frame."),
    spec(c"targetLabelsFile", c"Target label file", 0, Kind::File,
        c"Label map of a new layout: where it gives a pixel another class, the network's own drawing shows. #### or %04d stands for the frame."),
    spec(c"morph", c"Morph", 0, Kind::Number(1.0, 0.0, 1.0),
        c"How far the layout goes from the labels to the target labels."),
    spec(c"encoding", c"Input encoding", 0, Kind::Choice(&ENCODINGS, 0),
        c"What the pixel values of source and reference mean. Display: as for a screen (sRGB), as in video editors. Linear: proportional to light, as in compositors. Labels and masks are not touched by it."),
    spec(c"overTime", c"Colour change", 2, Kind::Choice(&OVER_TIME, 0),
        c"Each frame: every frame's change is found by itself, which may flicker. Locked: the change of one frame is used for all. Smoothed: the mean of the frames around, which follows slow changes without flicker."),
    spec(c"lockFrame", c"Locked to frame", 2, Kind::Whole(1, -1_000_000, 1_000_000),
        c"The frame whose colour change all frames get when it is locked. Where a host gives no other frames, the first one rendered from there on."),
    spec(c"radius", c"Smoothing radius", 2, Kind::Whole(4, 1, 24),
        c"Frames before and after that count when the change is smoothed, those nearby more. Where a host gives no other frames, those that were rendered before."),
    spec(c"referenceTime", c"Reference", 2, Kind::Choice(&REFERENCES, 0),
        c"One frame: the Reference input's look at one frame, taken once for all frames. Each frame: its look at the frame that is rendered."),
    spec(c"referenceFrame", c"Reference frame", 2, Kind::Whole(1, -1_000_000, 1_000_000),
        c"The frame of the Reference input whose look is taken; the nearest that the clip has."),
    spec(c"model", c"Model file", 3, Kind::File,
        c"A ca2sis model (.safetensors). None: the one inside the plug-in, for product photographs in a studio."),
    spec(c"device", c"Device", 3, Kind::Choice(&DEVICES, 0),
        c"Where the network runs. Automatic: a GPU that this build can use, else the CPU."),
    spec(c"seed", c"Seed", 3, Kind::Whole(0, 0, i32::MAX),
        c"Chooses the random look of a model that draws looks without a reference. No other model uses it."),
    spec(c"memoryLimit", c"Memory limit (MiB)", 3, Kind::Whole(0, 0, i32::MAX),
        c"Most memory that one frame may need beside the pictures and the model; 0 for no limit. What needs more is refused."),
    spec(c"reload", c"Reload files", 3, Kind::Button,
        c"Reads the model, the pictures and the label maps again, and renders anew."),
    spec(c"reloads", c"Reloads", 3, Kind::Hidden, c"How often the files were reloaded."),
];

/// The name of the strength of class `index`.
pub fn class_name(index: usize) -> &'static CStr {
    forever(&format!("class{index}"))
}

/// Labels of the strengths by the classes of a model.
pub fn class_label(class: Option<&Class>, index: usize) -> &'static CStr {
    class.map_or_else(|| forever(&format!("Class {index}")), |class| forever(&class.name))
}

/// Gives the strengths the names of the chosen model's classes, and shows as many.
pub fn show_classes(effect: &Effect) {
    let Ok(path) = effect.string_at(c"model", 0.0) else { return };
    let model = match path.trim() {
        "" => Model::embedded(),
        path => Model::open(path.as_ref()),
    };
    // A model that cannot be opened is told of when it is to render.
    let Ok(model) = model else { return };
    for i in 0..SLOTS {
        let Ok(props) = effect.parameter_props(class_name(i)) else { return };
        let class = model.classes().get(i);
        let _ = props.set_string(kOfxPropLabel, 0, class_label(class, i));
        let _ = props.set_int(kOfxParamPropSecret, 0, i32::from(class.is_none()));
    }
}

/// The user, or the host, has changed something.
pub fn changed(effect: &Effect, args: &Props) -> OfxStatus {
    let kind = args.string(kOfxPropType, 0).unwrap_or_default();
    let name = args.string(kOfxPropName, 0).unwrap_or_default();
    if kind.as_bytes() == kOfxTypeClip.to_bytes() {
        time::forget(effect.handle);
        return kOfxStatOK;
    }
    match name.as_str() {
        "reload" => {
            shared::purge();
            time::forget(effect.handle);
            // Hosts keep what they rendered by the values of parameters.
            let count = effect.int_at(c"reloads", 0.0).unwrap_or(0);
            let _ = effect.set_int(c"reloads", count.wrapping_add(1));
            kOfxStatOK
        }
        "model" => {
            show_classes(effect);
            kOfxStatOK
        }
        _ => kOfxStatReplyDefault,
    }
}

/// How the colour change goes over time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OverTime {
    EachFrame,
    Locked(f64),
    /// Frames before and after.
    Smoothed(u32),
}

impl OverTime {
    pub fn at(effect: &Effect, time: f64) -> Self {
        match whole(effect, c"overTime", time, 0) {
            1 => Self::Locked(f64::from(whole(effect, c"lockFrame", time, 1))),
            2 => Self::Smoothed(whole(effect, c"radius", time, 4).clamp(1, 24) as u32),
            _ => Self::EachFrame,
        }
    }
}

/// The frame of the reference; none for each frame's own.
pub fn reference_frame(effect: &Effect, time: f64) -> Option<f64> {
    let one = whole(effect, c"referenceTime", time, 0) != 1;
    one.then(|| f64::from(whole(effect, c"referenceFrame", time, 1)))
}

/// As [`Settings::is_nothing`], from the one value that it takes: hosts ask this of every frame.
pub fn is_nothing(effect: &Effect, time: f64) -> bool {
    number(effect, c"strength", time, 1.0) == 0.0
}

/// The value of a number. A host that cannot tell a value gets its default.
fn number(effect: &Effect, name: &CStr, time: f64, default: f64) -> f32 {
    effect.double_at(name, time).unwrap_or(default) as f32
}

/// The same of an integer or a choice.
fn whole(effect: &Effect, name: &CStr, time: f64, default: i32) -> i32 {
    effect.int_at(name, time).unwrap_or(default)
}

/// The values of all parameters at a time.
#[derive(Clone, Debug)]
pub struct Settings {
    pub strength: f32,
    pub coupling: f32,
    pub morph: f32,
    pub statistics: bool,
    pub automatic: bool,
    pub labels_file: Option<PathBuf>,
    pub target_file: Option<PathBuf>,
    pub reference_file: Option<PathBuf>,
    pub reference_labels_file: Option<PathBuf>,
    pub style_file: Option<PathBuf>,
    pub mask_file: Option<PathBuf>,
    /// The files of labels, target labels and mask as the parameters have them, for all frames.
    pub patterns: [String; 3],
    pub linear: bool,
    pub over_time: OverTime,
    /// The frame of the reference; none for each frame's own.
    pub reference_frame: Option<f64>,
    pub model: Option<PathBuf>,
    pub device: Choice,
    pub seed: u64,
    pub memory_limit: Option<u64>,
    pub reloads: i32,
    /// The strength of each class that has one.
    pub classes: Vec<f32>,
}

impl Settings {
    pub fn at(effect: &Effect, time: f64) -> Self {
        let number = |name: &CStr, default: f64| number(effect, name, time, default);
        let whole = |name: &CStr, default: i32| whole(effect, name, time, default);
        let choice = |name: &CStr| whole(name, 0);
        let pattern = |name: &CStr| effect.string_at(name, time).unwrap_or_default().trim().to_owned();
        let file = |name: &CStr| {
            let path = pattern(name);
            let of_frame = numbered(&path, time);
            // A file may have such a name itself.
            let plain = of_frame == path || Path::new(&path).exists();
            (!path.is_empty()).then(|| PathBuf::from(if plain { path } else { of_frame }))
        };
        Self {
            strength: number(c"strength", 1.0),
            coupling: number(c"coupling", 0.0),
            morph: number(c"morph", 1.0),
            statistics: choice(c"method") == 1,
            automatic: choice(c"labels") == 1,
            labels_file: file(c"labelsFile"),
            target_file: file(c"targetLabelsFile"),
            reference_file: file(c"referenceFile"),
            reference_labels_file: file(c"referenceLabelsFile"),
            style_file: file(c"styleFile"),
            mask_file: file(c"maskFile"),
            patterns: [c"labelsFile", c"targetLabelsFile", c"maskFile"].map(pattern),
            linear: choice(c"encoding") == 1,
            over_time: OverTime::at(effect, time),
            reference_frame: reference_frame(effect, time),
            model: file(c"model"),
            device: match choice(c"device") {
                1 => Choice::Cpu,
                2 => Choice::Cuda(0),
                3 => Choice::Metal(0),
                _ => Choice::Auto,
            },
            seed: whole(c"seed", 0).max(0) as u64,
            memory_limit: u64::try_from(whole(c"memoryLimit", 0)).ok().filter(|&v| v > 0).map(|v| v << 20),
            reloads: whole(c"reloads", 0),
            classes: (0..SLOTS).map(|i| number(class_name(i), 1.0)).collect(),
        }
    }

    /// What a frame's colour change depends on, but for its pictures and the look.
    pub fn hash_change(&self, hasher: &mut Xxh3) {
        let Self { strength, coupling, morph, automatic, linear, reloads, classes, patterns, .. } = self;
        let values =
            format!("{strength} {coupling} {morph} {automatic} {linear} {reloads} {classes:?} {patterns:?}");
        hasher.update(values.as_bytes());
    }

    /// With another time's strengths.
    pub fn with_strengths_of(self, other: &Self) -> Self {
        let Self { strength, coupling, morph, ref classes, .. } = *other;
        Self { strength, coupling, morph, classes: classes.clone(), ..self }
    }

    /// Whether the result is the source whatever else is set.
    pub fn is_nothing(&self) -> bool {
        self.strength == 0.0
    }

    /// The strengths that differ from what the library takes anyway: none when all classes are wanted whole.
    pub fn class_strengths(&self, classes: usize) -> Vec<(usize, f32)> {
        let strength = |i: usize| self.classes.get(i).copied().unwrap_or(1.0);
        if (0..classes).all(|i| strength(i) == 1.0) {
            return Vec::new();
        }
        (0..classes).map(|i| (i, strength(i))).collect()
    }
}

/// A path with the frame in place of `####` or `%04d`.
fn numbered(path: &str, time: f64) -> String {
    let frame = time.round() as i64;
    let (folder, name) = path
        .rsplit_once(['/', '\\'])
        .map_or(("", path), |(f, _)| (&path[..f.len() + 1], &path[f.len() + 1..]));
    if let Some(start) = name.find('#') {
        let width = name[start..].bytes().take_while(|&b| b == b'#').count();
        return format!("{folder}{}{frame:0width$}{}", &name[..start], &name[start + width..]);
    }
    if let Some(start) = name.find('%') {
        let digits = name[start + 1..].bytes().take_while(u8::is_ascii_digit).count();
        let end = start + 1 + digits;
        if name[end..].starts_with('d') {
            let width = name[start + 1..end].parse().unwrap_or(0).min(20);
            return format!("{folder}{}{frame:0width$}{}", &name[..start], &name[end + 1..]);
        }
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_stands_in_a_paths_name_where_it_is_asked_for() {
        for (path, wanted) in [
            ("labels.png", "labels.png"),
            ("/shots/l.####.png", "/shots/l.0007.png"),
            ("/a%b/l_%04d.png", "/a%b/l_0007.png"),
            ("l%d.png", "l7.png"),
            ("100%.png", "100%.png"),
            ("/a#b/plain.png", "/a#b/plain.png"),
        ] {
            assert_eq!(numbered(path, 7.2), wanted);
        }
    }

    #[test]
    fn names_are_unique_and_hints_say_something() {
        let mut names: Vec<_> = PARAMETERS.iter().map(|p| p.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), PARAMETERS.len());
        assert!(PARAMETERS.iter().all(|p| p.hint.to_bytes().len() > 20 && p.hint.to_bytes().ends_with(b".")));
    }
}
