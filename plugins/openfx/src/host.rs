//! The host: its function tables, and what is asked of them. All `unsafe` of talking to a host is here and in `lib.rs`.
//!
//! Every call is sound under one condition, which the standard puts on hosts: function tables stay valid as long as the plug-in
//! is loaded, handles are the host's own, and pointers handed over are not kept. What hosts do beyond the standard is met here:
//! a table may lack any function, and any call may fail.

use std::collections::HashSet;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex};

use crate::lock;
use crate::ofx::*;

/// A call of the host that failed, or was not there.
pub type Result<T> = std::result::Result<T, OfxStatus>;

fn check(status: OfxStatus) -> Result<()> {
    if status == kOfxStatOK { Ok(()) } else { Err(status) }
}

/// Function tables of the host, and what it says of itself.
pub struct Host {
    property: &'static OfxPropertySuiteV1,
    effect: &'static OfxImageEffectSuiteV1,
    parameter: &'static OfxParameterSuiteV1,
    messages: Messages,
    progress: ProgressSuite,
    /// As the host is named: `fr.inria.Natron`.
    pub name: String,
    /// Whether it offers half-float pixels.
    pub half: bool,
    /// Whether an effect gets frames of other times than the one that it renders.
    pub other_times: bool,
}

#[derive(Clone, Copy)]
enum Messages {
    V2(&'static OfxMessageSuiteV2),
    V1(&'static OfxMessageSuiteV1),
    None,
}

#[derive(Clone, Copy)]
enum ProgressSuite {
    V2(&'static OfxProgressSuiteV2),
    V1(&'static OfxProgressSuiteV1),
    None,
}

/// What the host handed over before the first action.
static GIVEN: AtomicPtr<OfxHost> = AtomicPtr::new(null_mut());
static LOADED: Mutex<Option<Arc<Host>>> = Mutex::new(None);

pub fn set(host: *mut OfxHost) {
    GIVEN.store(host, Ordering::Release);
}

/// The host that was there when the plug-in was loaded.
pub fn loaded() -> Result<Arc<Host>> {
    lock(&LOADED).clone().ok_or(kOfxStatErrMissingHostFeature)
}

/// Fetches the host's tables anew: a host may load a plug-in more than once.
pub fn load() -> Result<()> {
    *lock(&LOADED) = Some(Arc::new(Host::fetch()?));
    Ok(())
}

impl Host {
    fn fetch() -> Result<Self> {
        let given = GIVEN.load(Ordering::Acquire);
        // SAFETY: null, or the struct that the host handed to setHost, which stays valid while the plug-in is loaded.
        let Some(given) = (unsafe { given.as_ref() }) else { return Err(kOfxStatErrMissingHostFeature) };
        let Some(fetch) = given.fetchSuite else { return Err(kOfxStatErrMissingHostFeature) };
        let suite = |name: &CStr, version| {
            // SAFETY: as the standard says of fetchSuite; the name ends with a zero.
            unsafe { fetch(given.host, name.as_ptr(), version) }
        };
        // SAFETY, of the five below: a table that the host returns is of the type that its name and version stand for, or null.
        let property = unsafe { suite(kOfxPropertySuite, 1).cast::<OfxPropertySuiteV1>().as_ref() };
        let effect = unsafe { suite(kOfxImageEffectSuite, 1).cast::<OfxImageEffectSuiteV1>().as_ref() };
        let parameter = unsafe { suite(kOfxParameterSuite, 1).cast::<OfxParameterSuiteV1>().as_ref() };
        let (Some(property), Some(effect), Some(parameter)) = (property, effect, parameter) else {
            return Err(kOfxStatErrMissingHostFeature);
        };
        let v2 = unsafe { suite(kOfxMessageSuite, 2).cast::<OfxMessageSuiteV2>().as_ref() };
        let v1 = || unsafe { suite(kOfxMessageSuite, 1).cast::<OfxMessageSuiteV1>().as_ref() };
        let messages = match v2 {
            Some(suite) => Messages::V2(suite),
            None => v1().map_or(Messages::None, Messages::V1),
        };
        // SAFETY: as above.
        let v2 = unsafe { suite(kOfxProgressSuite, 2).cast::<OfxProgressSuiteV2>().as_ref() };
        let v1 = || unsafe { suite(kOfxProgressSuite, 1).cast::<OfxProgressSuiteV1>().as_ref() };
        let progress = match v2 {
            Some(suite) => ProgressSuite::V2(suite),
            None => v1().map_or(ProgressSuite::None, ProgressSuite::V1),
        };
        let about = Props { suite: property, handle: given.host };
        let count = about.dimension(kOfxImageEffectPropSupportedPixelDepths).unwrap_or(0);
        let half = (0..count).any(|i| {
            about.string(kOfxImageEffectPropSupportedPixelDepths, i).is_ok_and(|d| d == "OfxBitDepthHalf")
        });
        let other_times = about.int(kOfxImageEffectPropTemporalClipAccess, 0).is_ok_and(|v| v != 0);
        let name = about.string(kOfxPropName, 0).unwrap_or_default();
        Ok(Self { property, effect, parameter, messages, progress, name, half, other_times })
    }

    /// A property set of an action's arguments.
    pub fn props(&self, handle: OfxPropertySetHandle) -> Props<'_> {
        Props { suite: self.property, handle }
    }

    /// The effect, or description of one, behind an action's handle.
    pub fn effect(&self, handle: OfxImageEffectHandle) -> Effect<'_> {
        Effect { host: self, handle }
    }
}

/// A property set.
#[derive(Clone, Copy)]
pub struct Props<'h> {
    suite: &'h OfxPropertySuiteV1,
    handle: OfxPropertySetHandle,
}

/// The call of one function of a table, whose arguments are as the standard says.
macro_rules! call {
    ($function:expr, $($argument:expr),*) => {
        match $function {
            // SAFETY: the function is the host's own for this purpose; its arguments are handles of the host, names that end
            // with a zero, values, and pointers to places of this frame that it is to fill.
            Some(function) => check(unsafe { function($($argument),*) }),
            None => Err(kOfxStatErrUnsupported),
        }
    };
}

impl Props<'_> {
    fn there(&self) -> Result<OfxPropertySetHandle> {
        if self.handle.is_null() { Err(kOfxStatErrBadHandle) } else { Ok(self.handle) }
    }

    pub fn int(&self, name: &CStr, index: usize) -> Result<c_int> {
        let mut value = 0;
        call!(self.suite.propGetInt, self.there()?, name.as_ptr(), index as c_int, &mut value)?;
        Ok(value)
    }

    pub fn double(&self, name: &CStr, index: usize) -> Result<f64> {
        let mut value = 0.0;
        call!(self.suite.propGetDouble, self.there()?, name.as_ptr(), index as c_int, &mut value)?;
        Ok(value)
    }

    pub fn pointer(&self, name: &CStr, index: usize) -> Result<*mut c_void> {
        let mut value = null_mut();
        call!(self.suite.propGetPointer, self.there()?, name.as_ptr(), index as c_int, &mut value)?;
        Ok(value)
    }

    pub fn string(&self, name: &CStr, index: usize) -> Result<String> {
        let mut value: *mut c_char = null_mut();
        call!(self.suite.propGetString, self.there()?, name.as_ptr(), index as c_int, &mut value)?;
        text(value).ok_or(kOfxStatErrValue)
    }

    pub fn dimension(&self, name: &CStr) -> Result<usize> {
        let mut value = 0;
        call!(self.suite.propGetDimension, self.there()?, name.as_ptr(), &mut value)?;
        usize::try_from(value).map_err(|_| kOfxStatErrValue)
    }

    pub fn set_int(&self, name: &CStr, index: usize, value: c_int) -> Result<()> {
        call!(self.suite.propSetInt, self.there()?, name.as_ptr(), index as c_int, value)
    }

    pub fn set_double(&self, name: &CStr, index: usize, value: f64) -> Result<()> {
        call!(self.suite.propSetDouble, self.there()?, name.as_ptr(), index as c_int, value)
    }

    /// Some hosts keep the pointer instead of a copy: hence a string that stays.
    pub fn set_string(&self, name: &CStr, index: usize, value: &'static CStr) -> Result<()> {
        call!(self.suite.propSetString, self.there()?, name.as_ptr(), index as c_int, value.as_ptr())
    }

    /// As many integers as `N` of one property.
    pub fn ints<const N: usize>(&self, name: &CStr) -> Result<[c_int; N]> {
        let mut values = [0; N];
        for (i, value) in values.iter_mut().enumerate() {
            *value = self.int(name, i)?;
        }
        Ok(values)
    }
}

/// A host's string, copied; none for a null pointer.
fn text(pointer: *const c_char) -> Option<String> {
    // SAFETY: strings of a host end with a zero and stay valid until the next call about the same property set.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
}

/// A string that stays as long as the process does. Equal strings are kept once, so that describing anew costs nothing.
pub fn forever(text: &str) -> &'static CStr {
    static KNOWN: Mutex<Option<HashSet<&'static CStr>>> = Mutex::new(None);
    let text = CString::new(text.replace('\0', " ")).expect("no zero is left in it");
    let mut known = lock(&KNOWN);
    let known = known.get_or_insert_default();
    if let Some(kept) = known.get(text.as_c_str()) {
        return kept;
    }
    let kept: &'static CStr = Box::leak(text.into_boxed_c_str());
    known.insert(kept);
    kept
}

/// An effect: the description of one, or an instance.
#[derive(Clone, Copy)]
pub struct Effect<'h> {
    pub host: &'h Host,
    pub handle: OfxImageEffectHandle,
}

impl<'h> Effect<'h> {
    pub fn props(&self) -> Result<Props<'h>> {
        let mut props = null_mut();
        call!(self.host.effect.getPropertySet, self.handle, &mut props)?;
        Ok(self.host.props(props))
    }

    fn parameters(&self) -> Result<OfxParamSetHandle> {
        let mut set = null_mut();
        call!(self.host.effect.getParamSet, self.handle, &mut set)?;
        if set.is_null() { Err(kOfxStatErrBadHandle) } else { Ok(set) }
    }

    pub fn define_clip(&self, name: &CStr) -> Result<Props<'h>> {
        let mut props = null_mut();
        call!(self.host.effect.clipDefine, self.handle, name.as_ptr(), &mut props)?;
        Ok(self.host.props(props))
    }

    pub fn define_parameter(&self, kind: &CStr, name: &'static CStr) -> Result<Props<'h>> {
        let mut props = null_mut();
        let set = self.parameters()?;
        call!(self.host.parameter.paramDefine, set, kind.as_ptr(), name.as_ptr(), &mut props)?;
        Ok(self.host.props(props))
    }

    fn parameter(&self, name: &CStr) -> Result<(OfxParamHandle, Props<'h>)> {
        let (mut parameter, mut props) = (null_mut(), null_mut());
        let set = self.parameters()?;
        call!(self.host.parameter.paramGetHandle, set, name.as_ptr(), &mut parameter, &mut props)?;
        if parameter.is_null() { Err(kOfxStatErrBadHandle) } else { Ok((parameter, self.host.props(props))) }
    }

    /// The properties of an instance's parameter.
    pub fn parameter_props(&self, name: &CStr) -> Result<Props<'h>> {
        self.parameter(name).map(|(_, props)| props)
    }

    /// The value of a number, of type double.
    pub fn double_at(&self, name: &CStr, time: f64) -> Result<f64> {
        let mut value = 0.0f64;
        self.value_at(name, time, &raw mut value as *mut c_void).map(|()| value)
    }

    /// The value of a parameter of type integer or choice.
    pub fn int_at(&self, name: &CStr, time: f64) -> Result<c_int> {
        let mut value: c_int = 0;
        self.value_at(name, time, &raw mut value as *mut c_void).map(|()| value)
    }

    pub fn string_at(&self, name: &CStr, time: f64) -> Result<String> {
        let mut value: *mut c_char = null_mut();
        self.value_at(name, time, &raw mut value as *mut c_void)?;
        text(value).ok_or(kOfxStatErrValue)
    }

    /// `place` is of the type that the parameter called `name` was defined with.
    fn value_at(&self, name: &CStr, time: f64, place: *mut c_void) -> Result<()> {
        let (parameter, _) = self.parameter(name)?;
        call!(self.host.parameter.paramGetValueAtTime, parameter, time, place)
    }

    pub fn set_int(&self, name: &CStr, value: c_int) -> Result<()> {
        let (parameter, _) = self.parameter(name)?;
        call!(self.host.parameter.paramSetValue, parameter, value)
    }

    pub fn clip(&self, name: &CStr) -> Result<Clip<'h>> {
        let (mut clip, mut props) = (null_mut(), null_mut());
        call!(self.host.effect.clipGetHandle, self.handle, name.as_ptr(), &mut clip, &mut props)?;
        if clip.is_null() {
            return Err(kOfxStatErrBadHandle);
        }
        Ok(Clip { host: self.host, handle: clip, props: self.host.props(props) })
    }

    /// Whether the host wants the work of this instance to end.
    pub fn aborted(&self) -> bool {
        // SAFETY: as for every call of the host's tables.
        self.host.effect.abort.is_some_and(|abort| unsafe { abort(self.handle) } != 0)
    }

    /// Says why a render failed, until a render succeeds where the host can.
    pub fn tell_error(&self, message: &str) {
        let message = CString::new(message.replace('\0', " ")).expect("no zero is left in it");
        let (kind, id, form) = (kOfxMessageError.as_ptr(), c"ca2sis".as_ptr(), c"%s".as_ptr());
        let _ = match self.host.messages {
            Messages::V2(suite) if suite.setPersistentMessage.is_some() => {
                call!(suite.setPersistentMessage, self.handle, kind, id, form, message.as_ptr())
            }
            Messages::V2(suite) => call!(suite.message, self.handle, kind, id, form, message.as_ptr()),
            Messages::V1(suite) => call!(suite.message, self.handle, kind, id, form, message.as_ptr()),
            Messages::None => Ok(()),
        };
    }

    /// Takes back what was said.
    pub fn clear_error(&self) {
        if let Messages::V2(suite) = self.host.messages {
            let _ = call!(suite.clearPersistentMessage, self.handle);
        }
    }

    /// Begins to show progress, which ends with what is returned.
    pub fn progress(&self, label: &'static CStr) -> ProgressBar<'h> {
        let shown = match self.host.progress {
            ProgressSuite::V2(suite) => {
                call!(suite.progressStart, self.handle, label.as_ptr(), c"ca2sis".as_ptr()).is_ok()
            }
            ProgressSuite::V1(suite) => call!(suite.progressStart, self.handle, label.as_ptr()).is_ok(),
            ProgressSuite::None => false,
        };
        ProgressBar { effect: *self, shown }
    }
}

/// Progress that the host shows.
pub struct ProgressBar<'h> {
    effect: Effect<'h>,
    shown: bool,
}

impl ProgressBar<'_> {
    /// `share` of the work is done; answers whether to go on.
    pub fn at(&self, share: f64) -> bool {
        let update = match (self.shown, self.effect.host.progress) {
            (true, ProgressSuite::V2(suite)) => suite.progressUpdate,
            (true, ProgressSuite::V1(suite)) => suite.progressUpdate,
            _ => None,
        };
        // A call that fails otherwise is no wish to stop.
        update.is_none() || call!(update, self.effect.handle, share) != Err(kOfxStatReplyNo)
    }
}

impl Drop for ProgressBar<'_> {
    fn drop(&mut self) {
        let end = match (self.shown, self.effect.host.progress) {
            (true, ProgressSuite::V2(suite)) => suite.progressEnd,
            (true, ProgressSuite::V1(suite)) => suite.progressEnd,
            _ => None,
        };
        let _ = call!(end, self.effect.handle);
    }
}

/// A clip of an instance.
#[derive(Clone, Copy)]
pub struct Clip<'h> {
    host: &'h Host,
    handle: OfxImageClipHandle,
    pub props: Props<'h>,
}

impl<'h> Clip<'h> {
    /// Whether something is connected, where the host says so. MLT says it of Source, which is, and of Mask, which is not.
    pub fn connected(&self) -> Option<bool> {
        match self.props.int(kOfxImageClipPropConnected, 0) {
            Ok(0) => Some(false),
            Ok(1) => Some(true),
            _ => None,
        }
    }

    /// First and last frame, where the host knows.
    pub fn frames(&self) -> Option<(f64, f64)> {
        let at = |i| self.props.double(kOfxImageEffectPropFrameRange, i).ok().filter(|v| v.is_finite());
        at(0).zip(at(1)).filter(|(first, last)| first <= last)
    }

    /// The frame that there is for one that is asked for.
    pub fn nearest_frame(&self, frame: f64) -> f64 {
        self.frames().map_or(frame, |(first, last)| frame.clamp(first, last))
    }

    /// Where the clip has pixels, in canonical coordinates.
    pub fn region(&self, time: f64) -> Result<OfxRectD> {
        let mut region = OfxRectD::default();
        call!(self.host.effect.clipGetRegionOfDefinition, self.handle, time, &mut region)?;
        let sides = [region.x1, region.y1, region.x2, region.y2];
        let whole = sides.iter().all(|v| v.is_finite()) && region.x1 < region.x2 && region.y1 < region.y2;
        if whole { Ok(region) } else { Err(kOfxStatErrValue) }
    }

    /// The clip's picture at a time, all of it.
    pub fn image(&self, time: f64) -> Result<Image<'h>> {
        let mut image = null_mut();
        call!(self.host.effect.clipGetImage, self.handle, time, std::ptr::null(), &mut image)?;
        if image.is_null() {
            return Err(kOfxStatErrBadHandle);
        }
        Ok(Image { host: self.host, handle: image, props: self.host.props(image) })
    }
}

/// A picture of a clip, handed back when it is dropped.
pub struct Image<'h> {
    host: &'h Host,
    handle: OfxPropertySetHandle,
    pub props: Props<'h>,
}

impl Drop for Image<'_> {
    fn drop(&mut self) {
        let _ = call!(self.host.effect.clipReleaseImage, self.handle);
    }
}
