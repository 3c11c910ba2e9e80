//! What the plug-in says of itself: contexts, clips, parameters.

use ca2sis::model::Model;

use crate::host::{Effect, Props, Result, forever};
use crate::ofx::*;
use crate::settings::{CLASSES, Kind, PAGES, PARAMETERS, SLOTS, Spec, class_label, class_name};

/// Clips of the context General beside Source, with what they are to hold.
pub const LABELS: &std::ffi::CStr = c"Labels";
pub const REFERENCE: &std::ffi::CStr = c"Reference";
pub const REFERENCE_LABELS: &std::ffi::CStr = c"ReferenceLabels";
pub const MASK: &std::ffi::CStr = c"Mask";

/// Hosts differ in the properties that they know: one that is refused is done without.
fn maybe(_: Result<()>) {}

pub fn describe(effect: &Effect) -> Result<()> {
    let props = effect.props()?;
    maybe(props.set_string(kOfxPropLabel, 0, c"Restyle"));
    maybe(props.set_string(kOfxPropShortLabel, 0, c"Restyle"));
    maybe(props.set_string(kOfxPropLongLabel, 0, c"ca2sis Restyle"));
    maybe(props.set_string(kOfxImageEffectPluginPropGrouping, 0, c"ca2sis"));
    let about = c"Gives a picture the look of a reference, class by class: its bottle the look of the reference's bottle, its table that of \
the reference's table. It needs a label map of the source that says what is where.";
    maybe(props.set_string(kOfxPropPluginDescription, 0, about));
    props.set_string(kOfxImageEffectPropSupportedContexts, 0, kOfxImageEffectContextGeneral)?;
    props.set_string(kOfxImageEffectPropSupportedContexts, 1, kOfxImageEffectContextFilter)?;
    // The best first: some hosts take the first that they know.
    let depths = [
        Some(kOfxBitDepthFloat),
        effect.host.half.then_some(kOfxBitDepthHalf),
        Some(kOfxBitDepthShort),
        Some(kOfxBitDepthByte),
    ];
    for (i, depth) in depths.into_iter().flatten().enumerate() {
        props.set_string(kOfxImageEffectPropSupportedPixelDepths, i, depth)?;
    }
    // Frames are worked on one after another anyway, and some hosts would make an instance for every frame.
    maybe(props.set_string(kOfxImageEffectPluginRenderThreadSafety, 0, kOfxImageEffectRenderUnsafe));
    maybe(props.set_int(kOfxImageEffectPluginPropHostFrameThreading, 0, 0));
    maybe(props.set_int(kOfxImageEffectPluginPropSingleInstance, 0, 0));
    maybe(props.set_int(kOfxImageEffectPluginPropFieldRenderTwiceAlways, 0, 0));
    // The network looks at whole pictures.
    maybe(props.set_int(kOfxImageEffectPropSupportsTiles, 0, 0));
    maybe(props.set_int(kOfxImageEffectPropSupportsMultiResolution, 0, 1));
    maybe(props.set_int(kOfxImageEffectPropTemporalClipAccess, 0, 1));
    maybe(props.set_int(kOfxImageEffectPropSupportsMultipleClipDepths, 0, 0));
    maybe(props.set_int(kOfxImageEffectPropSupportsMultipleClipPARs, 0, 1));
    Ok(())
}

pub fn describe_in_context(effect: &Effect, args: &Props) -> Result<()> {
    // Some hosts do not say the context, and mean General.
    let context = args.string(kOfxImageEffectPropContext, 0).unwrap_or_default();
    let filter = context.as_bytes() == kOfxImageEffectContextFilter.to_bytes();
    let pictures = [kOfxImageComponentRGBA, kOfxImageComponentRGB];
    let clip = |name, components: &[&'static std::ffi::CStr], optional: bool| -> Result<Props> {
        let props = effect.define_clip(name)?;
        for (i, component) in components.iter().enumerate() {
            props.set_string(kOfxImageEffectPropSupportedComponents, i, component)?;
        }
        maybe(props.set_int(kOfxImageClipPropOptional, 0, i32::from(optional)));
        maybe(props.set_int(kOfxImageEffectPropSupportsTiles, 0, 0));
        maybe(props.set_int(
            kOfxImageEffectPropTemporalClipAccess,
            0,
            i32::from(name != kOfxImageEffectOutputClipName),
        ));
        Ok(props)
    };
    clip(kOfxImageEffectSimpleSourceClipName, &pictures, false)?;
    if !filter {
        clip(LABELS, &pictures, true)?;
        clip(REFERENCE, &pictures, true)?;
        let props = clip(REFERENCE_LABELS, &pictures, true)?;
        maybe(props.set_string(kOfxPropLabel, 0, c"Reference Labels"));
        let props = clip(MASK, &[kOfxImageComponentAlpha, kOfxImageComponentRGBA], true)?;
        maybe(props.set_int(kOfxImageClipPropIsMask, 0, 1));
    }
    clip(kOfxImageEffectOutputClipName, &pictures, false)?;
    parameters(effect)
}

fn parameters(effect: &Effect) -> Result<()> {
    let linear = works_in_light(&effect.host.name);
    let mut children: [Vec<&std::ffi::CStr>; PAGES.len()] = Default::default();
    for spec in &PARAMETERS {
        let default = match spec.name {
            name if name == c"encoding" => Some(i32::from(linear)),
            _ => None,
        };
        define(effect, spec, default)?;
        if !matches!(spec.kind, Kind::Hidden) {
            children[spec.page].push(spec.name);
        }
    }

    // The classes of the model inside, under their groups; an instance with another model names them anew.
    let model = Model::embedded().ok();
    let classes = model.as_ref().map_or(&[][..], |m| m.classes());
    let group_of = |i: usize| {
        let group = classes.get(i).and_then(|c| c.groups.first());
        group.map_or(c"Class strengths", |name| forever(name))
    };
    let group_name = |label: &std::ffi::CStr| {
        let word: String = label.to_string_lossy().chars().filter(char::is_ascii_alphanumeric).collect();
        forever(&format!("group{word}"))
    };
    let mut groups: Vec<&'static std::ffi::CStr> = Vec::new();
    for i in 0..SLOTS {
        let group = group_of(i);
        if !groups.contains(&group) {
            groups.push(group);
            let props = effect.define_parameter(kOfxParamTypeGroup, group_name(group))?;
            maybe(props.set_string(kOfxPropLabel, 0, group));
            maybe(props.set_string(
                kOfxParamPropHint,
                0,
                c"How far each class goes to the reference's look.",
            ));
            children[CLASSES].push(group_name(group));
        }
        let (name, class) = (class_name(i), classes.get(i));
        let props = effect.define_parameter(kOfxParamTypeDouble, name)?;
        maybe(props.set_string(kOfxPropLabel, 0, class_label(class, i)));
        let hint = c"How far this class goes to the reference's look: 0 leaves it as it is, 1 is all the way. Without a mask, a class at 0 does not change at all.";
        maybe(props.set_string(kOfxParamPropHint, 0, hint));
        number(&props, 1.0, 0.0, 1.0);
        maybe(props.set_string(kOfxParamPropParent, 0, group_name(group)));
        maybe(props.set_int(kOfxParamPropSecret, 0, i32::from(class.is_none())));
        children[CLASSES].push(name);
    }

    for ((name, label), children) in PAGES.into_iter().zip(children) {
        let props = effect.define_parameter(kOfxParamTypePage, name)?;
        maybe(props.set_string(kOfxPropLabel, 0, label));
        let mut placed = 0;
        for child in children {
            let child = forever(&child.to_string_lossy());
            placed += usize::from(props.set_string(kOfxParamPropPageChild, placed, child).is_ok());
        }
    }
    Ok(())
}

/// Hosts whose pixels are proportional to light, unless told otherwise.
fn works_in_light(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    ["natron", "nuke", "thefoundry"].iter().any(|name| host.contains(name))
}

fn define(effect: &Effect, spec: &Spec, default: Option<i32>) -> Result<()> {
    let kind = match spec.kind {
        Kind::Number(..) => kOfxParamTypeDouble,
        Kind::Whole(..) | Kind::Hidden => kOfxParamTypeInteger,
        Kind::Choice(..) => kOfxParamTypeChoice,
        Kind::File => kOfxParamTypeString,
        Kind::Button => kOfxParamTypePushButton,
    };
    let props = effect.define_parameter(kind, spec.name)?;
    maybe(props.set_string(kOfxPropLabel, 0, spec.label));
    maybe(props.set_string(kOfxParamPropHint, 0, spec.hint));
    match spec.kind {
        Kind::Number(default, low, high) => number(&props, default, low, high),
        Kind::Whole(default, low, high) => {
            maybe(props.set_int(kOfxParamPropDefault, 0, default));
            maybe(props.set_int(kOfxParamPropMin, 0, low));
            maybe(props.set_int(kOfxParamPropMax, 0, high));
            maybe(props.set_int(kOfxParamPropDisplayMin, 0, low.max(0)));
            maybe(props.set_int(kOfxParamPropDisplayMax, 0, high.min(1000)));
        }
        Kind::Choice(options, first) => {
            for (i, option) in options.iter().enumerate() {
                props.set_string(kOfxParamPropChoiceOption, i, option)?;
            }
            maybe(props.set_int(kOfxParamPropDefault, 0, default.unwrap_or(first as i32)));
        }
        Kind::File => {
            maybe(props.set_string(kOfxParamPropStringMode, 0, kOfxParamStringIsFilePath));
            // A path may stand for many files.
            maybe(props.set_int(kOfxParamPropStringFilePathExists, 0, 0));
            maybe(props.set_string(kOfxParamPropDefault, 0, c""));
            maybe(props.set_int(kOfxParamPropAnimates, 0, 0));
        }
        Kind::Button => {}
        Kind::Hidden => {
            maybe(props.set_int(kOfxParamPropDefault, 0, 0));
            maybe(props.set_int(kOfxParamPropSecret, 0, 1));
            maybe(props.set_int(kOfxParamPropAnimates, 0, 0));
        }
    }
    Ok(())
}

fn number(props: &Props, default: f64, low: f64, high: f64) {
    maybe(props.set_double(kOfxParamPropDefault, 0, default));
    maybe(props.set_double(kOfxParamPropMin, 0, low));
    maybe(props.set_double(kOfxParamPropMax, 0, high));
    maybe(props.set_double(kOfxParamPropDisplayMin, 0, low));
    maybe(props.set_double(kOfxParamPropDisplayMax, 0, high));
    maybe(props.set_double(kOfxParamPropIncrement, 0, 0.01));
    maybe(props.set_int(kOfxParamPropDigits, 0, 2));
}
