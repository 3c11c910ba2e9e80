//! A host in a few hundred lines, which follows the standard to the letter and notes every breach of it: properties of the
//! wrong type, unknown, or out of place; calls in actions that do not allow them, from other threads, with dead handles;
//! pictures not handed back; memory written beyond what may be written. It can fail any of its calls on purpose.
//!
//! Handles are numbers, never looked behind. Tests that use it run one after another: take [`Host::new`] first.

// Each test program uses a part of it; the types of what is transmuted stand beside it.
#![allow(dead_code, clippy::missing_transmute_annotations)]

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::transmute;
use std::ptr::null;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread::ThreadId;
use std::time::Instant;

use ca2sis_openfx_bindings::*;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Host,
    Descriptor,
    Instance,
    ClipDescriptor,
    Clip,
    ParameterDescriptor,
    Parameter,
    Image,
    In,
    Out,
}
use Kind::*;

#[derive(Clone, Debug)]
pub enum Value {
    Int(c_int),
    Double(f64),
    Text(CString),
    Pointer(usize),
}

impl Value {
    fn letter(&self) -> char {
        match self {
            Self::Int(_) => 'i',
            Self::Double(_) => 'd',
            Self::Text(_) => 's',
            Self::Pointer(_) => 'p',
        }
    }
}

/// Type, dimension (0: any), and on what the plug-in may set it, of every property that the standard knows and this plug-in has to
/// do with. `n` stands for the type of a parameter's values.
fn rule(name: &str) -> Option<(char, usize, &'static [Kind])> {
    const D: &[Kind] = &[Descriptor];
    const C: &[Kind] = &[ClipDescriptor];
    const P: &[Kind] = &[ParameterDescriptor];
    const BOTH: &[Kind] = &[ParameterDescriptor, Parameter];
    Some(match name {
        "OfxPropName" => ('s', 1, &[Out]),
        "OfxPropLabel" => ('s', 1, &[Descriptor, ClipDescriptor, ParameterDescriptor, Parameter]),
        "OfxPropShortLabel" | "OfxPropLongLabel" => {
            ('s', 1, &[Descriptor, ClipDescriptor, ParameterDescriptor])
        }
        "OfxPropPluginDescription"
        | "OfxImageEffectPluginPropGrouping"
        | "OfxImageEffectPluginRenderThreadSafety" => ('s', 1, D),
        "OfxImageEffectPropSupportedContexts" | "OfxImageEffectPropSupportedPixelDepths" => ('s', 0, D),
        "OfxImageEffectPluginPropFieldRenderTwiceAlways"
        | "OfxImageEffectPluginPropHostFrameThreading"
        | "OfxImageEffectPluginPropSingleInstance"
        | "OfxImageEffectPropSupportsMultiResolution"
        | "OfxImageEffectPropMultipleClipDepths"
        | "OfxImageEffectPropSupportsMultipleClipPARs" => ('i', 1, D),
        "OfxImageEffectPropTemporalClipAccess" | "OfxImageEffectPropSupportsTiles" => {
            ('i', 1, &[Descriptor, ClipDescriptor])
        }
        "OfxImageEffectPropSupportedComponents" => ('s', 0, C),
        "OfxImageClipPropOptional" | "OfxImageClipPropIsMask" => ('i', 1, C),
        "OfxImageClipPropConnected" => ('i', 1, &[]),
        "OfxImageEffectPropContext" | "OfxPropType" | "OfxPropChangeReason" => ('s', 1, &[]),
        "OfxImageEffectFrameVarying" => ('i', 1, &[Out]),
        "OfxImageEffectPropFrameRange" => ('d', 2, &[]),
        "OfxPropTime" => ('d', 1, &[Out]),
        "OfxImageEffectPropRenderScale" => ('d', 2, &[]),
        "OfxImageEffectPropRenderWindow" => ('i', 4, &[]),
        "OfxImageEffectPropRegionOfDefinition" => ('d', 4, &[Out]),
        "OfxImageEffectPropPixelDepth"
        | "OfxImageEffectPropComponents"
        | "OfxImageEffectPropPreMultiplication" => ('s', 1, &[]),
        "OfxImagePropData" => ('p', 1, &[]),
        "OfxImagePropBounds" | "OfxImagePropRegionOfDefinition" => ('i', 4, &[]),
        "OfxImagePropRowBytes" => ('i', 1, &[]),
        "OfxImagePropPixelAspectRatio" => ('d', 1, &[]),
        "OfxParamPropHint" | "OfxParamPropParent" | "OfxParamPropStringMode" => ('s', 1, P),
        "OfxParamPropPageChild" | "OfxParamPropChoiceOption" => ('s', 0, P),
        "OfxParamPropSecret" => ('i', 1, BOTH),
        "OfxParamPropAnimates" | "OfxParamPropStringFilePathExists" | "OfxParamPropDigits" => ('i', 1, P),
        "OfxParamPropDefault" | "OfxParamPropMin" | "OfxParamPropMax" => ('n', 1, P),
        "OfxParamPropDisplayMin" | "OfxParamPropDisplayMax" => ('n', 1, P),
        "OfxParamPropIncrement" => ('d', 1, P),
        name if name.starts_with(ROI_OF) => ('d', 4, &[Out]),
        name if name.starts_with(FRAMES_OF) => ('d', 0, &[Out]),
        _ => return None,
    })
}

/// Properties with a fixed set of values.
fn allowed(name: &str) -> Option<&'static [&'static str]> {
    Some(match name {
        "OfxImageEffectPropSupportedContexts" => {
            &["OfxImageEffectContextFilter", "OfxImageEffectContextGeneral"]
        }
        "OfxImageEffectPropSupportedPixelDepths" => {
            &["OfxBitDepthByte", "OfxBitDepthShort", "OfxBitDepthHalf", "OfxBitDepthFloat"]
        }
        "OfxImageEffectPropSupportedComponents" => {
            &["OfxImageComponentRGBA", "OfxImageComponentRGB", "OfxImageComponentAlpha"]
        }
        "OfxImageEffectPluginRenderThreadSafety" => &[
            "OfxImageEffectRenderUnsafe",
            "OfxImageEffectRenderInstanceSafe",
            "OfxImageEffectRenderFullySafe",
        ],
        "OfxParamPropStringMode" => &["OfxParamStringIsSingleLine", "OfxParamStringIsFilePath"],
        _ => return None,
    })
}

struct PropSet {
    kind: Kind,
    values: HashMap<String, Vec<Value>>,
    /// Of a parameter: the letter of its values.
    number: char,
}

struct Parameter_ {
    name: CString,
    kind: String,
    props: usize,
}

struct Effect_ {
    props: usize,
    set: usize,
    parameters: Vec<Parameter_>,
    clips: Vec<(String, usize)>,
}

/// Pixels that a host has, with room around them that nobody may write to.
#[derive(Clone)]
pub struct Picture {
    pub memory: Vec<u8>,
    pub width: usize,
    pub height: usize,
    /// Lower left corner.
    pub at: (i32, i32),
    pub depth: &'static CStr,
    pub components: &'static CStr,
    pub premultiplied: bool,
    /// Rows from the top in memory, told by negative row bytes.
    pub downward: bool,
    /// Bytes between rows beyond their pixels.
    pub gap: usize,
    pub scale: f64,
    pub aspect: f64,
    /// All that the clip has, where that is more than is handed over.
    pub region: Option<[i32; 4]>,
}

pub const EDGE: usize = 64;
pub const CANARY: u8 = 0xC5;

impl Picture {
    pub fn new(width: usize, height: usize, depth: &'static CStr, components: &'static CStr) -> Self {
        let mut picture = Self {
            memory: Vec::new(),
            width,
            height,
            at: (0, 0),
            depth,
            components,
            premultiplied: false,
            downward: false,
            gap: 0,
            scale: 1.0,
            aspect: 1.0,
            region: None,
        };
        picture.allocate();
        picture
    }

    /// As [`new`](Self::new) after its fields have been changed.
    pub fn allocate(&mut self) {
        self.memory = vec![CANARY; 2 * EDGE + self.stride() * self.height];
    }

    pub fn channels(&self) -> usize {
        match self.components.to_str().unwrap() {
            "OfxImageComponentRGBA" => 4,
            "OfxImageComponentRGB" => 3,
            _ => 1,
        }
    }

    pub fn sample(&self) -> usize {
        match self.depth.to_str().unwrap() {
            "OfxBitDepthByte" => 1,
            "OfxBitDepthFloat" => 4,
            _ => 2,
        }
    }

    pub fn stride(&self) -> usize {
        self.width * self.channels() * self.sample() + self.gap
    }

    /// Where row `y` from the top begins in memory.
    pub fn row_at(&self, y: usize) -> usize {
        EDGE + self.stride() * if self.downward { y } else { self.height - 1 - y }
    }

    /// The bytes of row `y` from the top.
    pub fn row(&self, y: usize) -> &[u8] {
        &self.memory[self.row_at(y)..][..self.width * self.channels() * self.sample()]
    }

    pub fn row_mut(&mut self, y: usize) -> &mut [u8] {
        let (at, length) = (self.row_at(y), self.width * self.channels() * self.sample());
        &mut self.memory[at..at + length]
    }

    /// All pixels from the top, without gaps.
    pub fn tight(&self) -> Vec<u8> {
        (0..self.height).flat_map(|y| self.row(y).to_vec()).collect()
    }

    pub fn fill(&mut self, tight: &[u8]) {
        let length = self.width * self.channels() * self.sample();
        assert_eq!(tight.len(), length * self.height);
        for y in 0..self.height {
            self.row_mut(y).copy_from_slice(&tight[y * length..][..length]);
        }
    }

    /// Whether everything beside the pixels is as it was.
    pub fn is_intact(&self) -> bool {
        let mut memory = self.memory.clone();
        for y in 0..self.height {
            let (at, length) = (self.row_at(y), self.width * self.channels() * self.sample());
            memory[at..at + length].fill(CANARY);
        }
        memory.iter().all(|&b| b == CANARY)
    }

    pub fn bounds(&self) -> [i32; 4] {
        [self.at.0, self.at.1, self.at.0 + self.width as i32, self.at.1 + self.height as i32]
    }

    /// In canonical coordinates.
    fn canonical(&self) -> [f64; 4] {
        let [x1, y1, x2, y2] = self.region.unwrap_or(self.bounds()).map(f64::from);
        let (x, y) = (self.aspect / self.scale, 1.0 / self.scale);
        [x1 * x, y1 * y, x2 * x, y2 * y]
    }
}

type Frames = Arc<dyn Fn(f64) -> Option<Picture> + Send + Sync>;
type Fails = Box<dyn Fn(&str, &str) -> bool + Send>;

struct Clip_ {
    props: usize,
    name: String,
    frames: Option<Frames>,
}

/// A picture that is out.
struct Out_ {
    picture: Box<Picture>,
    clip: String,
}

#[derive(Default)]
struct State {
    next: usize,
    sets: HashMap<usize, PropSet>,
    effects: HashMap<usize, Effect_>,
    clips: HashMap<usize, Clip_>,
    images: HashMap<usize, Out_>,
    values: HashMap<usize, Value>,
    action: String,
    thread: Option<ThreadId>,
    breaches: Vec<String>,
    log: Vec<String>,
    calls: usize,
    fails: Option<Fails>,
    output: Option<Picture>,
    /// The output is given in the source's own memory.
    in_place: bool,
    abort_at: Option<Instant>,
    abort_calls: usize,
    messages: Vec<String>,
    persistent: Option<String>,
    progress: Vec<f64>,
    bars: (usize, usize),
    without: HashSet<String>,
    /// As [`Form::says_connected`].
    says_connected: bool,
}

impl State {
    fn breach(&mut self, what: String) -> OfxStatus {
        let what = format!("{}: {what}", self.action);
        self.breaches.push(what);
        kOfxStatErrUnsupported
    }

    fn add(&mut self, kind: Kind, values: &[(&str, Vec<Value>)]) -> usize {
        self.next += 1;
        let handle = 0x1000 + self.next * 16;
        let values = values.iter().map(|(name, v)| ((*name).to_owned(), v.clone())).collect();
        self.sets.insert(handle, PropSet { kind, values, number: 'd' });
        handle
    }
}

fn state() -> MutexGuard<'static, State> {
    static STATE: OnceLock<Mutex<State>> = OnceLock::new();
    STATE.get_or_init(Mutex::default).lock().unwrap_or_else(|e| e.into_inner())
}

/// What every call begins with: is it in order, and is it to fail?
fn enter(function: &str, about: &str) -> Result<MutexGuard<'static, State>, OfxStatus> {
    let mut s = state();
    if s.action.is_empty() {
        return Err(s.breach(format!("{function}({about}) outside of all actions")));
    }
    if s.thread != Some(std::thread::current().id()) {
        return Err(s.breach(format!("{function}({about}) on a thread that is not the host's")));
    }
    s.calls += 1;
    if s.fails.as_ref().is_some_and(|fails| fails(function, about)) {
        return Err(kOfxStatFailed);
    }
    Ok(s)
}

fn text(p: *const c_char) -> String {
    assert!(!p.is_null(), "a null string");
    // SAFETY: the plug-in hands over strings that end with a zero.
    unsafe { CStr::from_ptr(p) }.to_str().expect("ASCII").to_owned()
}

fn status(result: Result<(), OfxStatus>) -> OfxStatus {
    result.err().unwrap_or(kOfxStatOK)
}

fn set(handle: *mut c_void, name: *const c_char, index: c_int, value: Value) -> OfxStatus {
    let name = text(name);
    let go = || {
        let mut s = enter("propSet", &name)?;
        let Some(of) = s.sets.get(&(handle as usize)) else {
            return Err(s.breach(format!("{name} set on a dead property set")));
        };
        let (kind, number) = (of.kind, of.number);
        let Some((letter, dimension, places)) = rule(&name) else {
            return Err(s.breach(format!("{name} is no property that this plug-in has to do with")));
        };
        let letter = if letter == 'n' { number } else { letter };
        if value.letter() != letter {
            return Err(s.breach(format!("{name} set to {value:?}, but it is of type {letter}")));
        }
        if !places.contains(&kind) {
            return Err(s.breach(format!("{name} cannot be set on {kind:?}")));
        }
        if kind == Descriptor && s.action != "OfxActionDescribe" {
            return Err(s.breach(format!("{name} set on a descriptor")));
        }
        if let (Value::Text(v), Some(allowed)) = (&value, allowed(&name))
            && !allowed.contains(&v.to_str().unwrap())
        {
            return Err(s.breach(format!("{name} set to {v:?}, not one of {allowed:?}")));
        }
        let values = s.sets.get_mut(&(handle as usize)).unwrap().values.entry(name.clone()).or_default();
        let (index, count) = (index as usize, values.len());
        if index > count || (dimension > 0 && index >= dimension) {
            return Err(s.breach(format!("{name} set at {index} of {count}")));
        }
        if index == count {
            values.push(value)
        } else {
            values[index] = value
        }
        Ok(())
    };
    status(go())
}

fn get(handle: *mut c_void, name: *const c_char, index: c_int, letter: char) -> Result<Value, OfxStatus> {
    let name = text(name);
    let mut s = enter("propGet", &name)?;
    let Some(set) = s.sets.get(&(handle as usize)) else {
        return Err(s.breach(format!("{name} asked of a dead property set")));
    };
    let found = set.values.get(&name).and_then(|v| v.get(index as usize)).cloned();
    if rule(&name).is_none() {
        return Err(s.breach(format!("{name} asked for, which is no known property")));
    }
    match found {
        None => Err(kOfxStatErrUnsupported),
        Some(value) if value.letter() != letter => {
            Err(s.breach(format!("{name} is {value:?}, asked for as type {letter}")))
        }
        Some(value) => Ok(value),
    }
}

unsafe extern "C" fn set_pointer(_: *mut c_void, name: *const c_char, _: c_int, _: *mut c_void) -> OfxStatus {
    state().breach(format!("{} set as a pointer", text(name)))
}
unsafe extern "C" fn set_string(h: *mut c_void, n: *const c_char, i: c_int, v: *const c_char) -> OfxStatus {
    set(h, n, i, Value::Text(CString::new(text(v)).unwrap()))
}
unsafe extern "C" fn set_double(h: *mut c_void, n: *const c_char, i: c_int, v: f64) -> OfxStatus {
    set(h, n, i, Value::Double(v))
}
unsafe extern "C" fn set_int(h: *mut c_void, n: *const c_char, i: c_int, v: c_int) -> OfxStatus {
    set(h, n, i, Value::Int(v))
}

/// Answers a question about a property.
macro_rules! getter {
    ($name:ident, $letter:literal, $type:ty, $variant:ident, $value:ident => $convert:expr) => {
        unsafe extern "C" fn $name(h: *mut c_void, n: *const c_char, i: c_int, out: *mut $type) -> OfxStatus {
            match get(h, n, i, $letter) {
                Ok(Value::$variant($value)) => {
                    // SAFETY: the plug-in's place for the answer.
                    unsafe { *out = $convert };
                    kOfxStatOK
                }
                Ok(_) => unreachable!(),
                Err(status) => status,
            }
        }
    };
}
getter!(get_pointer, 'p', *mut c_void, Pointer, v => v as *mut c_void);
getter!(get_double, 'd', f64, Double, v => v);
getter!(get_int, 'i', c_int, Int, v => v);
// A string stays as long as the process: the simplest way to keep a promise.
getter!(get_string, 's', *mut c_char, Text, v => forever(v));

fn forever(text: CString) -> *mut c_char {
    static KNOWN: Mutex<Option<HashMap<CString, usize>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap();
    *known.get_or_insert_default().entry(text.clone()).or_insert_with(|| text.into_raw() as usize)
        as *mut c_char
}

unsafe extern "C" fn dimension(h: *mut c_void, n: *const c_char, out: *mut c_int) -> OfxStatus {
    let name = text(n);
    status(enter("propGetDimension", &name).map(|s| {
        let count = s.sets.get(&(h as usize)).and_then(|set| set.values.get(&name)).map_or(0, Vec::len);
        // SAFETY: the plug-in's place for the answer.
        unsafe { *out = count as c_int };
    }))
}

unsafe extern "C" fn get_property_set(effect: *mut c_void, out: *mut *mut c_void) -> OfxStatus {
    let go = || {
        let mut s = enter("getPropertySet", "")?;
        let Some(effect) = s.effects.get(&(effect as usize)) else {
            return Err(s.breach("properties of a dead effect".into()));
        };
        // SAFETY: the plug-in's place for the answer, as in every function below.
        unsafe { *out = effect.props as *mut c_void };
        Ok(())
    };
    status(go())
}

unsafe extern "C" fn get_param_set(effect: *mut c_void, out: *mut *mut c_void) -> OfxStatus {
    let go = || {
        let mut s = enter("getParamSet", "")?;
        let Some(effect) = s.effects.get(&(effect as usize)) else {
            return Err(s.breach("parameters of a dead effect".into()));
        };
        unsafe { *out = effect.set as *mut c_void };
        Ok(())
    };
    status(go())
}

unsafe extern "C" fn clip_define(
    effect: *mut c_void,
    name: *const c_char,
    out: *mut *mut c_void,
) -> OfxStatus {
    let name = text(name);
    let go = || {
        let mut s = enter("clipDefine", &name)?;
        if s.action != "OfxImageEffectActionDescribeInContext" {
            return Err(s.breach(format!("clip {name} defined")));
        }
        let props = s.add(ClipDescriptor, &[]);
        let effect = s.effects.get_mut(&(effect as usize)).expect("the descriptor");
        if effect.clips.iter().any(|(n, _)| *n == name) {
            return Err(s.breach(format!("clip {name} defined twice")));
        }
        effect.clips.push((name.clone(), props));
        unsafe { *out = props as *mut c_void };
        Ok(())
    };
    status(go())
}

unsafe extern "C" fn param_define(
    set: *mut c_void,
    kind: *const c_char,
    name: *const c_char,
    out: *mut *mut c_void,
) -> OfxStatus {
    let (kind, name) = (text(kind), text(name));
    let go = || {
        let mut s = enter("paramDefine", &name)?;
        if !s.action.starts_with("OfxActionDescribe") && !s.action.ends_with("DescribeInContext") {
            return Err(s.breach(format!("parameter {name} defined")));
        }
        let number = match kind.as_str() {
            "OfxParamTypeDouble" => 'd',
            "OfxParamTypeInteger" | "OfxParamTypeChoice" => 'i',
            "OfxParamTypeString" => 's',
            "OfxParamTypeGroup" | "OfxParamTypePage" | "OfxParamTypePushButton" => '-',
            _ => return Err(s.breach(format!("parameter {name} of type {kind}"))),
        };
        let props = s.add(ParameterDescriptor, &[]);
        s.sets.get_mut(&props).unwrap().number = number;
        let effect = s.effects.values_mut().find(|e| e.set == set as usize).expect("the descriptor");
        if effect.parameters.iter().any(|p| p.name.to_str() == Ok(&name)) {
            return Err(s.breach(format!("parameter {name} defined twice")));
        }
        effect.parameters.push(Parameter_ { name: CString::new(name.clone()).unwrap(), kind, props });
        unsafe { *out = props as *mut c_void };
        Ok(())
    };
    status(go())
}

unsafe extern "C" fn param_get_handle(
    set: *mut c_void,
    name: *const c_char,
    out: *mut *mut c_void,
    props: *mut *mut c_void,
) -> OfxStatus {
    let name = text(name);
    let go = || {
        let mut s = enter("paramGetHandle", &name)?;
        let Some(effect) = s.effects.values().find(|e| e.set == set as usize) else {
            return Err(s.breach(format!("parameter {name} of a dead instance")));
        };
        let Some(found) = effect.parameters.iter().find(|p| p.name.to_str() == Ok(&name)) else {
            return Err(s.breach(format!("parameter {name}, which was not defined")));
        };
        let found = found.props;
        if s.sets[&found].kind != Parameter {
            return Err(s.breach(format!("a handle of {name} while describing")));
        }
        unsafe {
            *out = found as *mut c_void;
            if !props.is_null() {
                *props = found as *mut c_void;
            }
        }
        Ok(())
    };
    status(go())
}

/// The standard's functions for values take any number of arguments; with one, they are passed like this on the machines that
/// these tests run on.
unsafe extern "C" fn param_value_at(param: *mut c_void, time: f64, place: *mut c_void) -> OfxStatus {
    let go = || {
        let mut s = enter("paramGetValueAtTime", "")?;
        if !time.is_finite() {
            return Err(s.breach(format!("a value at time {time}")));
        }
        let Some(value) = s.values.get(&(param as usize)).cloned() else {
            return Err(s.breach("the value of something without one".into()));
        };
        unsafe {
            match value {
                Value::Int(v) => *place.cast::<c_int>() = v,
                Value::Double(v) => *place.cast::<f64>() = v,
                Value::Text(v) => *place.cast::<*mut c_char>() = forever(v),
                Value::Pointer(_) => unreachable!(),
            }
        }
        Ok(())
    };
    status(go())
}

unsafe extern "C" fn param_value(param: *mut c_void, _: *mut c_void) -> OfxStatus {
    state().breach(format!("paramGetValue of {param:?}: the value of which time?"))
}

unsafe extern "C" fn param_set_value(param: *mut c_void, value: c_int) -> OfxStatus {
    let go = || {
        let mut s = enter("paramSetValue", "")?;
        if s.action != "OfxActionInstanceChanged" {
            return Err(s.breach("a value set".into()));
        }
        match s.values.get_mut(&(param as usize)) {
            Some(Value::Int(old)) => *old = value,
            _ => return Err(s.breach("an integer set where there is none".into())),
        }
        Ok(())
    };
    status(go())
}

unsafe extern "C" fn clip_get_handle(
    effect: *mut c_void,
    name: *const c_char,
    out: *mut *mut c_void,
    props: *mut *mut c_void,
) -> OfxStatus {
    let name = text(name);
    let go = || {
        let mut s = enter("clipGetHandle", &name)?;
        if s.action.contains("Describe") {
            return Err(s.breach(format!("clip {name} asked for")));
        }
        let Some(effect) = s.effects.get(&(effect as usize)) else {
            return Err(s.breach(format!("clip {name} of a dead instance")));
        };
        let Some((_, clip)) = effect.clips.iter().find(|(n, _)| *n == name) else {
            return Err(s.breach(format!("clip {name}, which was not defined in this context")));
        };
        let clip = *clip;
        let of = s.clips[&clip].props;
        unsafe {
            *out = clip as *mut c_void;
            if !props.is_null() {
                *props = of as *mut c_void;
            }
        }
        Ok(())
    };
    status(go())
}

unsafe extern "C" fn clip_get_property_set(_: *mut c_void, _: *mut *mut c_void) -> OfxStatus {
    kOfxStatErrUnsupported
}

unsafe extern "C" fn clip_get_image(
    clip: *mut c_void,
    time: f64,
    region: *const OfxRectD,
    out: *mut *mut c_void,
) -> OfxStatus {
    let go = || {
        let name = state().clips.get(&(clip as usize)).map_or_else(String::new, |c| c.name.clone());
        let mut s = enter("clipGetImage", &name)?;
        if s.action != "OfxImageEffectActionRender" {
            return Err(s.breach(format!("a picture of {name}")));
        }
        assert!(region.is_null());
        let Some(clip) = s.clips.get(&(clip as usize)) else {
            return Err(s.breach("a picture of a dead clip".into()));
        };
        let output = name == "Output";
        let picture = match (output, &clip.frames) {
            (true, _) => s.output.clone(),
            (false, Some(frames)) => frames(time),
            (false, None) => None,
        };
        let Some(picture) = picture else {
            if s.says_connected {
                return Err(kOfxStatFailed);
            }
            let image = s.add(Image, &[]);
            let picture = Picture::new(0, 0, c"OfxBitDepthByte", c"OfxImageComponentRGBA");
            s.images.insert(image, Out_ { picture: Box::new(picture), clip: name });
            unsafe { *out = image as *mut c_void };
            return Ok(());
        };
        let mut picture = Box::new(picture);
        let source =
            s.images.values().find(|i| i.clip == "Source").map(|i| i.picture.memory.as_ptr() as usize);
        let memory = match source {
            Some(source) if output && s.in_place => source,
            _ => picture.memory.as_mut_ptr() as usize,
        };
        let row = if picture.downward { -(picture.stride() as i64) } else { picture.stride() as i64 };
        let int = |v: i32| Value::Int(v);
        let name_ = |v: &CStr| Value::Text(v.to_owned());
        let alpha = match (picture.channels(), picture.premultiplied) {
            (4, true) => c"OfxImageAlphaPremultiplied",
            (4, false) => c"OfxImageAlphaUnPremultiplied",
            _ => c"OfxImageOpaque",
        };
        // The lower left pixel.
        let data = memory + picture.row_at(picture.height - 1);
        let values = [
            ("OfxImagePropData", vec![Value::Pointer(data)]),
            ("OfxImagePropBounds", picture.bounds().map(int).to_vec()),
            ("OfxImagePropRegionOfDefinition", picture.region.unwrap_or(picture.bounds()).map(int).to_vec()),
            ("OfxImagePropRowBytes", vec![Value::Int(row as c_int)]),
            ("OfxImageEffectPropPixelDepth", vec![name_(picture.depth)]),
            ("OfxImageEffectPropComponents", vec![name_(picture.components)]),
            ("OfxImageEffectPropPreMultiplication", vec![name_(alpha)]),
            ("OfxImageEffectPropRenderScale", vec![Value::Double(picture.scale); 2]),
            ("OfxImagePropPixelAspectRatio", vec![Value::Double(picture.aspect)]),
        ];
        let image = s.add(Image, &values);
        s.images.insert(image, Out_ { picture, clip: name });
        unsafe { *out = image as *mut c_void };
        Ok(())
    };
    status(go())
}

unsafe extern "C" fn clip_release_image(image: *mut c_void) -> OfxStatus {
    let go = || {
        // A failing release would leave nothing to be done: it is not counted as one.
        let mut s = state();
        let Some(out) = s.images.remove(&(image as usize)) else {
            return Err(s.breach("a picture handed back that is not out".into()));
        };
        s.sets.remove(&(image as usize));
        if out.clip == if s.in_place { "Source" } else { "Output" } {
            s.output = Some(*out.picture);
        } else if !out.picture.is_intact() {
            return Err(s.breach(format!("memory beside the pixels of {} was written to", out.clip)));
        }
        Ok(())
    };
    status(go())
}

unsafe extern "C" fn clip_region(clip: *mut c_void, time: f64, out: *mut OfxRectD) -> OfxStatus {
    let go = || {
        let mut s = enter("clipGetRegionOfDefinition", "")?;
        let Some(clip) = s.clips.get(&(clip as usize)) else {
            return Err(s.breach("the region of a dead clip".into()));
        };
        let Some(picture) = clip.frames.as_ref().and_then(|frames| frames(time)) else {
            return Err(kOfxStatFailed);
        };
        let [x1, y1, x2, y2] = picture.canonical();
        unsafe { *out = OfxRectD { x1, y1, x2, y2 } };
        Ok(())
    };
    status(go())
}

unsafe extern "C" fn abort(_: *mut c_void) -> c_int {
    let mut s = state();
    s.abort_calls += 1;
    c_int::from(s.abort_at.is_some_and(|at| Instant::now() >= at))
}

unsafe extern "C" fn message(
    _: *mut c_void,
    kind: *const c_char,
    _: *const c_char,
    form: *const c_char,
    what: *const c_char,
) -> OfxStatus {
    let what = format!("{}: {}", text(kind), text(what));
    assert_eq!(text(form), "%s", "a message's own percent signs must do no harm");
    status(enter("message", "").map(|mut s| s.messages.push(what)))
}

unsafe extern "C" fn set_persistent(
    _: *mut c_void,
    kind: *const c_char,
    _: *const c_char,
    form: *const c_char,
    what: *const c_char,
) -> OfxStatus {
    let what = format!("{}: {}", text(kind), text(what));
    assert_eq!(text(form), "%s");
    status(enter("setPersistentMessage", "").map(|mut s| s.persistent = Some(what)))
}

unsafe extern "C" fn clear_persistent(_: *mut c_void) -> OfxStatus {
    status(enter("clearPersistentMessage", "").map(|mut s| s.persistent = None))
}

unsafe extern "C" fn progress_start_2(_: *mut c_void, _: *const c_char, _: *const c_char) -> OfxStatus {
    status(enter("progressStart", "").map(|mut s| s.bars.0 += 1))
}
unsafe extern "C" fn progress_start_1(h: *mut c_void, label: *const c_char) -> OfxStatus {
    unsafe { progress_start_2(h, label, null()) }
}
unsafe extern "C" fn progress_update(_: *mut c_void, share: f64) -> OfxStatus {
    let go = || {
        let mut s = enter("progressUpdate", "")?;
        if s.bars.0 != s.bars.1 + 1 || !(0.0..=1.0).contains(&share) {
            return Err(s.breach(format!("progress of {share} with no bar")));
        }
        s.progress.push(share);
        Ok(())
    };
    status(go())
}
unsafe extern "C" fn progress_end(_: *mut c_void) -> OfxStatus {
    // A bar ends even where the call fails.
    state().bars.1 += 1;
    kOfxStatOK
}

fn suites() -> &'static (
    OfxPropertySuiteV1,
    OfxImageEffectSuiteV1,
    OfxParameterSuiteV1,
    OfxMessageSuiteV2,
    OfxProgressSuiteV1,
    OfxProgressSuiteV2,
) {
    static SUITES: OnceLock<(
        OfxPropertySuiteV1,
        OfxImageEffectSuiteV1,
        OfxParameterSuiteV1,
        OfxMessageSuiteV2,
        OfxProgressSuiteV1,
        OfxProgressSuiteV2,
    )> = OnceLock::new();
    // SAFETY, of the transmutes: see `param_value_at`; functions that take a fixed number of arguments in place of any number.
    SUITES.get_or_init(|| unsafe {
        (
            OfxPropertySuiteV1 {
                propSetPointer: Some(set_pointer),
                propSetString: Some(set_string),
                propSetDouble: Some(set_double),
                propSetInt: Some(set_int),
                propSetPointerN: None,
                propSetStringN: None,
                propSetDoubleN: None,
                propSetIntN: None,
                propGetPointer: Some(get_pointer),
                propGetString: Some(get_string),
                propGetDouble: Some(get_double),
                propGetInt: Some(get_int),
                propGetPointerN: None,
                propGetStringN: None,
                propGetDoubleN: None,
                propGetIntN: None,
                propReset: None,
                propGetDimension: Some(dimension),
            },
            OfxImageEffectSuiteV1 {
                getPropertySet: Some(get_property_set),
                getParamSet: Some(get_param_set),
                clipDefine: Some(clip_define),
                clipGetHandle: Some(clip_get_handle),
                clipGetPropertySet: Some(clip_get_property_set),
                clipGetImage: Some(clip_get_image),
                clipReleaseImage: Some(clip_release_image),
                clipGetRegionOfDefinition: Some(clip_region),
                abort: Some(abort),
                imageMemoryAlloc: None,
                imageMemoryFree: None,
                imageMemoryLock: None,
                imageMemoryUnlock: None,
            },
            OfxParameterSuiteV1 {
                paramDefine: Some(param_define),
                paramGetHandle: Some(param_get_handle),
                paramSetGetPropertySet: None,
                paramGetPropertySet: None,
                paramGetValue: Some(transmute(param_value as *const ())),
                paramGetValueAtTime: Some(transmute(param_value_at as *const ())),
                paramGetDerivative: None,
                paramGetIntegral: None,
                paramSetValue: Some(transmute(param_set_value as *const ())),
                paramSetValueAtTime: None,
                paramGetNumKeys: None,
                paramGetKeyTime: None,
                paramGetKeyIndex: None,
                paramDeleteKey: None,
                paramDeleteAllKeys: None,
                paramCopy: None,
                paramEditBegin: None,
                paramEditEnd: None,
            },
            OfxMessageSuiteV2 {
                message: Some(transmute(message as *const ())),
                setPersistentMessage: Some(transmute(set_persistent as *const ())),
                clearPersistentMessage: Some(clear_persistent),
            },
            OfxProgressSuiteV1 {
                progressStart: Some(progress_start_1),
                progressUpdate: Some(progress_update),
                progressEnd: Some(progress_end),
            },
            OfxProgressSuiteV2 {
                progressStart: Some(progress_start_2),
                progressUpdate: Some(progress_update),
                progressEnd: Some(progress_end),
            },
        )
    })
}

unsafe extern "C" fn fetch_suite(_: *mut c_void, name: *const c_char, version: c_int) -> *const c_void {
    let key = format!("{} {version}", text(name));
    if state().without.contains(&key) {
        return null();
    }
    let suites = suites();
    match key.as_str() {
        "OfxPropertySuite 1" => (&raw const suites.0).cast(),
        "OfxImageEffectSuite 1" => (&raw const suites.1).cast(),
        "OfxParameterSuite 1" => (&raw const suites.2).cast(),
        // The first version is the beginning of the second.
        "OfxMessageSuite 1" | "OfxMessageSuite 2" => (&raw const suites.3).cast(),
        "OfxProgressSuite 1" => (&raw const suites.4).cast(),
        "OfxProgressSuite 2" => (&raw const suites.5).cast(),
        _ => null(),
    }
}

/// How a host is to be.
#[derive(Clone)]
pub struct Form {
    pub name: &'static CStr,
    pub half: bool,
    pub other_times: bool,
    /// Tables that it lacks, as "OfxMessageSuite 2".
    pub without: Vec<&'static str>,
    /// Whether it says of a clip that nothing is connected. Where not, it hands out pictures without pixels for nothing, as MLT.
    pub says_connected: bool,
}

impl Default for Form {
    fn default() -> Self {
        Self {
            name: c"org.ca2sis.ScriptedHost",
            half: true,
            other_times: true,
            without: Vec::new(),
            says_connected: true,
        }
    }
}

pub struct Host {
    plugin: &'static OfxPlugin,
    descriptor: usize,
    instance: usize,
    _alone: MutexGuard<'static, ()>,
}

pub const GENERAL: &CStr = c"OfxImageEffectContextGeneral";
pub const FILTER: &CStr = c"OfxImageEffectContextFilter";

impl Host {
    /// Makes a host and loads the plug-in into it; other hosts wait until this one is dropped.
    pub fn new(form: &Form) -> Self {
        // SAFETY: what the function returns stays.
        let plugin = unsafe { ca2sis_openfx::OfxGetPlugin(0).as_ref() }.expect("a plug-in");
        Self::with(plugin, form)
    }

    pub fn with(plugin: &'static OfxPlugin, form: &Form) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
        let mut s = state();
        *s = State { next: s.next, ..State::default() };
        s.without = form.without.iter().map(|s| (*s).to_owned()).collect();
        s.says_connected = form.says_connected;
        let named = |v: &CStr| Value::Text(v.to_owned());
        let mut depths =
            vec![named(c"OfxBitDepthByte"), named(c"OfxBitDepthShort"), named(c"OfxBitDepthFloat")];
        if form.half {
            depths.push(named(c"OfxBitDepthHalf"));
        }
        let about = s.add(
            Kind::Host,
            &[
                ("OfxPropName", vec![named(form.name)]),
                ("OfxImageEffectPropSupportedPixelDepths", depths),
                ("OfxImageEffectPropTemporalClipAccess", vec![Value::Int(c_int::from(form.other_times))]),
            ],
        );
        drop(s);
        let given =
            Box::leak(Box::new(OfxHost { host: about as *mut c_void, fetchSuite: Some(fetch_suite) }));
        // SAFETY: the struct stays for good.
        unsafe { plugin.setHost.expect("setHost")(given) };
        Self { plugin, descriptor: 0, instance: 0, _alone: alone }
    }

    /// One action, after which everything must be handed back.
    pub fn act(&self, action: &CStr, handle: usize, inward: usize, outward: usize) -> OfxStatus {
        {
            let mut s = state();
            s.action = action.to_str().unwrap().to_owned();
            s.thread = Some(std::thread::current().id());
        }
        let entry = self.plugin.mainEntry.expect("mainEntry");
        let handle = handle as *const c_void;
        // SAFETY: handles are of this host.
        let status = unsafe { entry(action.as_ptr(), handle, inward as *mut c_void, outward as *mut c_void) };
        let mut s = state();
        if !s.images.is_empty() {
            let out: Vec<String> = s.images.drain().map(|(_, i)| i.clip).collect();
            s.breach(format!("pictures of {out:?} were not handed back"));
        }
        if s.bars.0 != s.bars.1 {
            let bars = s.bars;
            s.breach(format!("{} progress bars began, {} ended", bars.0, bars.1));
            s.bars = (0, 0);
        }
        s.action.clear();
        s.log.push(format!("{:?} -> {status}", action));
        status
    }

    pub fn load(&self) -> OfxStatus {
        self.act(kOfxActionLoad, 0, 0, 0)
    }

    /// Describes the plug-in, and describes it in a context; the first status that is not well.
    pub fn describe(&mut self, context: &CStr) -> OfxStatus {
        let mut s = state();
        let (props, set) = (s.add(Descriptor, &[]), s.add(Descriptor, &[]));
        self.descriptor = props;
        let effect = Effect_ { props, set, parameters: Vec::new(), clips: Vec::new() };
        s.effects.insert(props, effect);
        let args = s.add(In, &[("OfxImageEffectPropContext", vec![Value::Text(context.to_owned())])]);
        drop(s);
        match self.act(kOfxActionDescribe, self.descriptor, 0, 0) {
            0 => self.act(kOfxImageEffectActionDescribeInContext, self.descriptor, args, 0),
            status => status,
        }
    }

    /// An instance of what was described.
    pub fn create(&mut self, context: &CStr) -> OfxStatus {
        let mut s = state();
        let props = s.add(Instance, &[("OfxImageEffectPropContext", vec![Value::Text(context.to_owned())])]);
        let set = s.add(Instance, &[]);
        let described = &s.effects[&self.descriptor];
        let clips: Vec<String> = described.clips.iter().map(|(name, _)| name.clone()).collect();
        let parameters: Vec<_> =
            described.parameters.iter().map(|p| (p.name.clone(), p.kind.clone(), p.props)).collect();
        let clips = clips.into_iter().map(|name| {
            let said = [("OfxImageClipPropConnected", vec![Value::Int(0)])];
            let said = if s.says_connected { &said[..] } else { &[] };
            let props = s.add(Kind::Clip, said);
            let handle = s.add(Kind::Clip, &[]);
            s.clips.insert(handle, Clip_ { props, name: name.clone(), frames: None });
            (name, handle)
        });
        let clips = clips.collect();
        let parameters = parameters.into_iter().map(|(name, kind, from)| {
            let props = s.add(Parameter, &[]);
            let (values, number) = (s.sets[&from].values.clone(), s.sets[&from].number);
            let default = values.get("OfxParamPropDefault").map(|v| v[0].clone());
            let default = default.or(match number {
                'd' => Some(Value::Double(0.0)),
                'i' => Some(Value::Int(0)),
                's' => Some(Value::Text(CString::default())),
                _ => None,
            });
            let set = s.sets.get_mut(&props).unwrap();
            (set.values, set.number) = (values, number);
            default.map(|default| s.values.insert(props, default));
            Parameter_ { name, kind, props }
        });
        let parameters = parameters.collect();
        s.effects.insert(props, Effect_ { props, set, parameters, clips });
        drop(s);
        self.instance = props;
        self.act(kOfxActionCreateInstance, props, 0, 0)
    }

    /// Loads, describes and makes an instance.
    pub fn begin(&mut self, context: &CStr) {
        assert_eq!(self.load(), kOfxStatOK);
        assert_eq!(self.describe(context), kOfxStatOK);
        assert_eq!(self.create(context), kOfxStatOK);
    }

    /// Ends the instance and the plug-in, and sees that all was in order.
    pub fn end(self) {
        assert_eq!(self.act(kOfxActionDestroyInstance, self.instance, 0, 0), kOfxStatOK);
        assert_eq!(self.act(kOfxActionUnload, 0, 0, 0), kOfxStatOK);
        assert_eq!(breaches(), Vec::<String>::new());
    }

    pub fn instance(&self) -> usize {
        self.instance
    }

    pub fn set_value(&self, name: &str, value: impl Into<Value>) {
        let mut s = state();
        let parameter = s.effects[&self.instance].parameters.iter().find(|p| p.name.to_str() == Ok(name));
        let props = parameter.unwrap_or_else(|| panic!("no parameter {name}")).props;
        let value = value.into();
        assert_eq!(s.values[&props].letter(), value.letter(), "{name}");
        s.values.insert(props, value);
    }

    pub fn value(&self, name: &str) -> Value {
        let s = state();
        let parameter = s.effects[&self.instance].parameters.iter().find(|p| p.name.to_str() == Ok(name));
        s.values[&parameter.unwrap().props].clone()
    }

    /// A property of an instance's parameter.
    pub fn of_parameter(&self, name: &str, property: &str) -> Option<Value> {
        let s = state();
        let parameter = s.effects[&self.instance].parameters.iter().find(|p| p.name.to_str() == Ok(name));
        s.sets[&parameter?.props].values.get(property).and_then(|v| v.first()).cloned()
    }

    /// Names, types and properties of the parameters as described.
    #[allow(clippy::type_complexity)]
    pub fn described(&self) -> Vec<(String, String, HashMap<String, Vec<Value>>)> {
        let s = state();
        let of = |p: &Parameter_| {
            (p.name.to_str().unwrap().to_owned(), p.kind.clone(), s.sets[&p.props].values.clone())
        };
        s.effects[&self.descriptor].parameters.iter().map(of).collect()
    }

    /// Properties of what was described, and the names of its clips.
    pub fn descriptor(&self) -> (HashMap<String, Vec<Value>>, Vec<String>) {
        let s = state();
        let clips = s.effects[&self.descriptor].clips.iter().map(|(name, _)| name.clone()).collect();
        (s.sets[&self.descriptor].values.clone(), clips)
    }

    pub fn connect(&self, clip: &str, frames: impl Fn(f64) -> Option<Picture> + Send + Sync + 'static) {
        let mut s = state();
        let handle = s.effects[&self.instance].clips.iter().find(|(name, _)| name == clip).expect("a clip").1;
        let clip = s.clips.get_mut(&handle).unwrap();
        clip.frames = Some(Arc::new(frames));
        let props = clip.props;
        let set = s.sets.get_mut(&props).unwrap();
        set.values.insert("OfxImageClipPropConnected".into(), vec![Value::Int(1)]);
        set.values
            .insert("OfxImageEffectPropFrameRange".into(), vec![Value::Double(0.0), Value::Double(1000.0)]);
    }

    pub fn disconnect(&self, clip: &str) {
        let mut s = state();
        let handle = s.effects[&self.instance].clips.iter().find(|(name, _)| name == clip).expect("a clip").1;
        let clip = s.clips.get_mut(&handle).unwrap();
        clip.frames = None;
        let props = clip.props;
        s.sets
            .get_mut(&props)
            .unwrap()
            .values
            .insert("OfxImageClipPropConnected".into(), vec![Value::Int(0)]);
    }

    pub fn still(&self, clip: &str, picture: &Picture) {
        let picture = picture.clone();
        self.connect(clip, move |_| Some(picture.clone()));
    }

    /// Renders a window of a frame into `output`, which is handed back written or not.
    pub fn render_window(&self, time: f64, window: [i32; 4], output: Picture) -> (OfxStatus, Picture) {
        let args = {
            let mut s = state();
            let scale = vec![Value::Double(output.scale); 2];
            s.output = Some(output);
            s.add(
                In,
                &[
                    ("OfxPropTime", vec![Value::Double(time)]),
                    ("OfxImageEffectPropRenderWindow", window.map(Value::Int).to_vec()),
                    ("OfxImageEffectPropRenderScale", scale),
                ],
            )
        };
        let status = self.act(kOfxImageEffectActionRender, self.instance, args, 0);
        let output = state().output.take().expect("the output is handed back");
        assert!(output.is_intact(), "memory beside the output's pixels was written to");
        (status, output)
    }

    pub fn render(&self, time: f64, output: Picture) -> (OfxStatus, Picture) {
        let window = output.bounds();
        self.render_window(time, window, output)
    }

    /// Asks something about a time; the status and the answer.
    pub fn ask(&self, action: &CStr, time: f64) -> (OfxStatus, HashMap<String, Vec<Value>>) {
        let (inward, outward) = {
            let mut s = state();
            (s.add(In, &[("OfxPropTime", vec![Value::Double(time)])]), s.add(Out, &[]))
        };
        let status = self.act(action, self.instance, inward, outward);
        (status, state().sets[&outward].values.clone())
    }

    pub fn changed(&self, kind: &CStr, name: &str) -> OfxStatus {
        let args = state().add(
            In,
            &[
                ("OfxPropType", vec![Value::Text(kind.to_owned())]),
                ("OfxPropName", vec![Value::from(name)]),
                ("OfxPropChangeReason", vec![Value::Text(kOfxChangeUserEdited.to_owned())]),
                ("OfxPropTime", vec![Value::Double(0.0)]),
            ],
        );
        self.act(kOfxActionInstanceChanged, self.instance, args, 0)
    }
}

impl From<f64> for Value {
    fn from(v: f64) -> Self {
        Self::Double(v)
    }
}
impl From<i32> for Value {
    fn from(v: i32) -> Self {
        Self::Int(v)
    }
}
impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Self::Text(CString::new(v).unwrap())
    }
}
impl From<&std::path::Path> for Value {
    fn from(v: &std::path::Path) -> Self {
        v.to_str().unwrap().into()
    }
}

pub fn breaches() -> Vec<String> {
    state().breaches.clone()
}

pub fn log() -> Vec<String> {
    state().log.clone()
}

/// Makes calls fail of which `fails` says so, by function and what it is about.
pub fn fail(fails: impl Fn(&str, &str) -> bool + Send + 'static) {
    state().fails = Some(Box::new(fails));
}

pub fn calls() -> usize {
    state().calls
}

pub fn abort_at(at: Option<Instant>) {
    state().abort_at = at;
}

pub fn render_in_place(yes: bool) {
    state().in_place = yes;
}

pub fn persistent() -> Option<String> {
    state().persistent.clone()
}

pub fn messages() -> Vec<String> {
    state().messages.clone()
}

pub fn progress() -> (Vec<f64>, usize) {
    let s = state();
    (s.progress.clone(), s.abort_calls)
}
