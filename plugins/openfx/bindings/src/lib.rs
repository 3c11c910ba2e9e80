//! The part of the OpenFX standard that this plug-in uses: names, structs and function tables as its headers define them,
//! under the headers' own names.
#![allow(non_upper_case_globals, non_snake_case)]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

pub type OfxStatus = c_int;
pub type OfxTime = f64;

/// Handles are the host's; only their addresses mean something here.
pub type OfxPropertySetHandle = *mut c_void;
pub type OfxImageEffectHandle = *mut c_void;
pub type OfxImageClipHandle = *mut c_void;
pub type OfxParamSetHandle = *mut c_void;
pub type OfxParamHandle = *mut c_void;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OfxRectD {
    pub x1: f64,
    pub y1: f64,
    pub x2: f64,
    pub y2: f64,
}

#[repr(C)]
pub struct OfxHost {
    pub host: OfxPropertySetHandle,
    pub fetchSuite: Option<unsafe extern "C" fn(OfxPropertySetHandle, *const c_char, c_int) -> *const c_void>,
}

pub type OfxPluginEntryPoint = unsafe extern "C" fn(
    *const c_char,
    *const c_void,
    OfxPropertySetHandle,
    OfxPropertySetHandle,
) -> OfxStatus;

#[repr(C)]
pub struct OfxPlugin {
    pub pluginApi: *const c_char,
    pub apiVersion: c_int,
    pub pluginIdentifier: *const c_char,
    pub pluginVersionMajor: c_uint,
    pub pluginVersionMinor: c_uint,
    pub setHost: Option<unsafe extern "C" fn(*mut OfxHost)>,
    pub mainEntry: Option<OfxPluginEntryPoint>,
}

/// A function that is not called, in its place in the table.
pub type Unused = Option<unsafe extern "C" fn()>;

type Get<T> = Option<unsafe extern "C" fn(OfxPropertySetHandle, *const c_char, c_int, *mut T) -> OfxStatus>;
type Set<T> = Option<unsafe extern "C" fn(OfxPropertySetHandle, *const c_char, c_int, T) -> OfxStatus>;

#[repr(C)]
pub struct OfxPropertySuiteV1 {
    pub propSetPointer: Set<*mut c_void>,
    pub propSetString: Set<*const c_char>,
    pub propSetDouble: Set<f64>,
    pub propSetInt: Set<c_int>,
    pub propSetPointerN: Unused,
    pub propSetStringN: Unused,
    pub propSetDoubleN: Unused,
    pub propSetIntN: Unused,
    pub propGetPointer: Get<*mut c_void>,
    pub propGetString: Get<*mut c_char>,
    pub propGetDouble: Get<f64>,
    pub propGetInt: Get<c_int>,
    pub propGetPointerN: Unused,
    pub propGetStringN: Unused,
    pub propGetDoubleN: Unused,
    pub propGetIntN: Unused,
    pub propReset: Unused,
    pub propGetDimension:
        Option<unsafe extern "C" fn(OfxPropertySetHandle, *const c_char, *mut c_int) -> OfxStatus>,
}

#[repr(C)]
pub struct OfxImageEffectSuiteV1 {
    pub getPropertySet:
        Option<unsafe extern "C" fn(OfxImageEffectHandle, *mut OfxPropertySetHandle) -> OfxStatus>,
    pub getParamSet: Option<unsafe extern "C" fn(OfxImageEffectHandle, *mut OfxParamSetHandle) -> OfxStatus>,
    pub clipDefine: Option<
        unsafe extern "C" fn(OfxImageEffectHandle, *const c_char, *mut OfxPropertySetHandle) -> OfxStatus,
    >,
    pub clipGetHandle: Option<
        unsafe extern "C" fn(
            OfxImageEffectHandle,
            *const c_char,
            *mut OfxImageClipHandle,
            *mut OfxPropertySetHandle,
        ) -> OfxStatus,
    >,
    pub clipGetPropertySet:
        Option<unsafe extern "C" fn(OfxImageClipHandle, *mut OfxPropertySetHandle) -> OfxStatus>,
    pub clipGetImage: Option<
        unsafe extern "C" fn(
            OfxImageClipHandle,
            OfxTime,
            *const OfxRectD,
            *mut OfxPropertySetHandle,
        ) -> OfxStatus,
    >,
    pub clipReleaseImage: Option<unsafe extern "C" fn(OfxPropertySetHandle) -> OfxStatus>,
    pub clipGetRegionOfDefinition:
        Option<unsafe extern "C" fn(OfxImageClipHandle, OfxTime, *mut OfxRectD) -> OfxStatus>,
    pub abort: Option<unsafe extern "C" fn(OfxImageEffectHandle) -> c_int>,
    pub imageMemoryAlloc: Unused,
    pub imageMemoryFree: Unused,
    pub imageMemoryLock: Unused,
    pub imageMemoryUnlock: Unused,
}

#[repr(C)]
pub struct OfxParameterSuiteV1 {
    pub paramDefine: Option<
        unsafe extern "C" fn(
            OfxParamSetHandle,
            *const c_char,
            *const c_char,
            *mut OfxPropertySetHandle,
        ) -> OfxStatus,
    >,
    pub paramGetHandle: Option<
        unsafe extern "C" fn(
            OfxParamSetHandle,
            *const c_char,
            *mut OfxParamHandle,
            *mut OfxPropertySetHandle,
        ) -> OfxStatus,
    >,
    pub paramSetGetPropertySet: Unused,
    pub paramGetPropertySet: Unused,
    pub paramGetValue: Option<unsafe extern "C" fn(OfxParamHandle, ...) -> OfxStatus>,
    pub paramGetValueAtTime: Option<unsafe extern "C" fn(OfxParamHandle, OfxTime, ...) -> OfxStatus>,
    pub paramGetDerivative: Unused,
    pub paramGetIntegral: Unused,
    pub paramSetValue: Option<unsafe extern "C" fn(OfxParamHandle, ...) -> OfxStatus>,
    pub paramSetValueAtTime: Unused,
    pub paramGetNumKeys: Unused,
    pub paramGetKeyTime: Unused,
    pub paramGetKeyIndex: Unused,
    pub paramDeleteKey: Unused,
    pub paramDeleteAllKeys: Unused,
    pub paramCopy: Unused,
    pub paramEditBegin: Unused,
    pub paramEditEnd: Unused,
}

/// `message(handle, type, id, format, ...)`.
pub type Message =
    Option<unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char, *const c_char, ...) -> OfxStatus>;

#[repr(C)]
pub struct OfxMessageSuiteV1 {
    pub message: Message,
}

#[repr(C)]
pub struct OfxMessageSuiteV2 {
    pub message: Message,
    pub setPersistentMessage: Message,
    pub clearPersistentMessage: Option<unsafe extern "C" fn(*mut c_void) -> OfxStatus>,
}

#[repr(C)]
pub struct OfxProgressSuiteV1 {
    pub progressStart: Option<unsafe extern "C" fn(*mut c_void, *const c_char) -> OfxStatus>,
    pub progressUpdate: Option<unsafe extern "C" fn(*mut c_void, f64) -> OfxStatus>,
    pub progressEnd: Option<unsafe extern "C" fn(*mut c_void) -> OfxStatus>,
}

#[repr(C)]
pub struct OfxProgressSuiteV2 {
    pub progressStart: Option<unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char) -> OfxStatus>,
    pub progressUpdate: Option<unsafe extern "C" fn(*mut c_void, f64) -> OfxStatus>,
    pub progressEnd: Option<unsafe extern "C" fn(*mut c_void) -> OfxStatus>,
}

/// Hands the list of all names, or all statuses, to another macro, so that a test can go through them too.
macro_rules! names {
    ($do:ident) => {
        $do! {
            kOfxImageEffectPluginApi = c"OfxImageEffectPluginAPI";
            kOfxPropertySuite = c"OfxPropertySuite";
            kOfxImageEffectSuite = c"OfxImageEffectSuite";
            kOfxParameterSuite = c"OfxParameterSuite";
            kOfxMessageSuite = c"OfxMessageSuite";
            kOfxProgressSuite = c"OfxProgressSuite";

            kOfxActionLoad = c"OfxActionLoad";
            kOfxActionUnload = c"OfxActionUnload";
            kOfxActionDescribe = c"OfxActionDescribe";
            kOfxActionCreateInstance = c"OfxActionCreateInstance";
            kOfxActionDestroyInstance = c"OfxActionDestroyInstance";
            kOfxActionInstanceChanged = c"OfxActionInstanceChanged";
            kOfxActionPurgeCaches = c"OfxActionPurgeCaches";
            kOfxImageEffectActionDescribeInContext = c"OfxImageEffectActionDescribeInContext";
            kOfxImageEffectActionGetRegionOfDefinition = c"OfxImageEffectActionGetRegionOfDefinition";
            kOfxImageEffectActionGetRegionsOfInterest = c"OfxImageEffectActionGetRegionsOfInterest";
            kOfxImageEffectActionGetFramesNeeded = c"OfxImageEffectActionGetFramesNeeded";
            kOfxImageEffectActionGetClipPreferences = c"OfxImageEffectActionGetClipPreferences";
            kOfxImageEffectActionIsIdentity = c"OfxImageEffectActionIsIdentity";
            kOfxImageEffectActionRender = c"OfxImageEffectActionRender";

            kOfxImageEffectContextFilter = c"OfxImageEffectContextFilter";
            kOfxImageEffectContextGeneral = c"OfxImageEffectContextGeneral";
            kOfxImageEffectOutputClipName = c"Output";
            kOfxImageEffectSimpleSourceClipName = c"Source";

            kOfxPropName = c"OfxPropName";
            kOfxPropLabel = c"OfxPropLabel";
            kOfxPropShortLabel = c"OfxPropShortLabel";
            kOfxPropLongLabel = c"OfxPropLongLabel";
            kOfxPropPluginDescription = c"OfxPropPluginDescription";
            kOfxPropTime = c"OfxPropTime";
            kOfxPropType = c"OfxPropType";
            kOfxPropChangeReason = c"OfxPropChangeReason";
            kOfxChangeUserEdited = c"OfxChangeUserEdited";
            kOfxTypeClip = c"OfxTypeClip";
            kOfxTypeParameter = c"OfxTypeParameter";

            kOfxImageEffectPluginPropGrouping = c"OfxImageEffectPluginPropGrouping";
            kOfxImageEffectPluginPropFieldRenderTwiceAlways = c"OfxImageEffectPluginPropFieldRenderTwiceAlways";
            kOfxImageEffectPluginPropHostFrameThreading = c"OfxImageEffectPluginPropHostFrameThreading";
            kOfxImageEffectPluginPropSingleInstance = c"OfxImageEffectPluginPropSingleInstance";
            kOfxImageEffectPluginRenderThreadSafety = c"OfxImageEffectPluginRenderThreadSafety";
            kOfxImageEffectRenderUnsafe = c"OfxImageEffectRenderUnsafe";
            kOfxImageEffectPropContext = c"OfxImageEffectPropContext";
            kOfxImageEffectPropSupportedContexts = c"OfxImageEffectPropSupportedContexts";
            kOfxImageEffectPropSupportedPixelDepths = c"OfxImageEffectPropSupportedPixelDepths";
            kOfxImageEffectPropSupportedComponents = c"OfxImageEffectPropSupportedComponents";
            kOfxImageEffectPropSupportsMultiResolution = c"OfxImageEffectPropSupportsMultiResolution";
            kOfxImageEffectPropSupportsTiles = c"OfxImageEffectPropSupportsTiles";
            kOfxImageEffectPropTemporalClipAccess = c"OfxImageEffectPropTemporalClipAccess";
            kOfxImageEffectPropSupportsMultipleClipDepths = c"OfxImageEffectPropMultipleClipDepths";
            kOfxImageEffectPropSupportsMultipleClipPARs = c"OfxImageEffectPropSupportsMultipleClipPARs";
            kOfxImageEffectFrameVarying = c"OfxImageEffectFrameVarying";
            kOfxImageEffectPropFrameRange = c"OfxImageEffectPropFrameRange";
            kOfxImageEffectPropRenderWindow = c"OfxImageEffectPropRenderWindow";
            kOfxImageEffectPropRegionOfDefinition = c"OfxImageEffectPropRegionOfDefinition";
            kOfxImageEffectPropRenderScale = c"OfxImageEffectPropRenderScale";
            kOfxImageEffectPropPixelDepth = c"OfxImageEffectPropPixelDepth";
            kOfxImageEffectPropComponents = c"OfxImageEffectPropComponents";
            kOfxImageEffectPropPreMultiplication = c"OfxImageEffectPropPreMultiplication";
            kOfxImagePreMultiplied = c"OfxImageAlphaPremultiplied";
            kOfxImageClipPropConnected = c"OfxImageClipPropConnected";
            kOfxImageClipPropOptional = c"OfxImageClipPropOptional";
            kOfxImageClipPropIsMask = c"OfxImageClipPropIsMask";
            kOfxImagePropData = c"OfxImagePropData";
            kOfxImagePropBounds = c"OfxImagePropBounds";
            kOfxImagePropRowBytes = c"OfxImagePropRowBytes";
            kOfxImagePropRegionOfDefinition = c"OfxImagePropRegionOfDefinition";
            kOfxImagePropPixelAspectRatio = c"OfxImagePropPixelAspectRatio";

            kOfxImageComponentRGBA = c"OfxImageComponentRGBA";
            kOfxImageComponentRGB = c"OfxImageComponentRGB";
            kOfxImageComponentAlpha = c"OfxImageComponentAlpha";
            kOfxBitDepthByte = c"OfxBitDepthByte";
            kOfxBitDepthShort = c"OfxBitDepthShort";
            kOfxBitDepthHalf = c"OfxBitDepthHalf";
            kOfxBitDepthFloat = c"OfxBitDepthFloat";

            kOfxParamTypeInteger = c"OfxParamTypeInteger";
            kOfxParamTypeDouble = c"OfxParamTypeDouble";
            kOfxParamTypeChoice = c"OfxParamTypeChoice";
            kOfxParamTypeString = c"OfxParamTypeString";
            kOfxParamTypeGroup = c"OfxParamTypeGroup";
            kOfxParamTypePage = c"OfxParamTypePage";
            kOfxParamTypePushButton = c"OfxParamTypePushButton";
            kOfxParamPropHint = c"OfxParamPropHint";
            kOfxParamPropParent = c"OfxParamPropParent";
            kOfxParamPropPageChild = c"OfxParamPropPageChild";
            kOfxParamPropSecret = c"OfxParamPropSecret";
            kOfxParamPropAnimates = c"OfxParamPropAnimates";
            kOfxParamPropDefault = c"OfxParamPropDefault";
            kOfxParamPropMin = c"OfxParamPropMin";
            kOfxParamPropMax = c"OfxParamPropMax";
            kOfxParamPropDisplayMin = c"OfxParamPropDisplayMin";
            kOfxParamPropDisplayMax = c"OfxParamPropDisplayMax";
            kOfxParamPropIncrement = c"OfxParamPropIncrement";
            kOfxParamPropDigits = c"OfxParamPropDigits";
            kOfxParamPropChoiceOption = c"OfxParamPropChoiceOption";
            kOfxParamPropStringMode = c"OfxParamPropStringMode";
            kOfxParamStringIsFilePath = c"OfxParamStringIsFilePath";
            kOfxParamPropStringFilePathExists = c"OfxParamPropStringFilePathExists";

            kOfxMessageError = c"OfxMessageError";
        }
    };
}

macro_rules! statuses {
    ($do:ident) => {
        $do! {
            kOfxStatOK = 0;
            kOfxStatFailed = 1;
            kOfxStatErrFatal = 2;
            kOfxStatErrMissingHostFeature = 4;
            kOfxStatErrUnsupported = 5;
            kOfxStatErrMemory = 8;
            kOfxStatErrBadHandle = 9;
            kOfxStatErrValue = 11;
            kOfxStatReplyNo = 13;
            kOfxStatReplyDefault = 14;
            kOfxStatErrImageFormat = 1000;
        }
    };
}

macro_rules! define_names {
    ($($name:ident = $value:literal;)*) => { $(pub const $name: &CStr = $value;)* };
}
macro_rules! define_statuses {
    ($($name:ident = $value:literal;)*) => { $(pub const $name: OfxStatus = $value;)* };
}
names!(define_names);
statuses!(define_statuses);

/// Before the name of a clip: the region of it that is needed, in a reply.
pub const ROI_OF: &str = "OfxImageClipPropRoI_";
/// Before the name of a clip: the frames of it that are needed, in a reply.
pub const FRAMES_OF: &str = "OfxImageClipPropFrameRange_";

#[cfg(test)]
mod tests {
    //! Against bindings that were made from the standard's own headers.
    use std::mem::{align_of, offset_of, size_of};

    use openfx::sys::generic::core as c;
    use openfx::sys::generic::core::*;
    use openfx::sys::generic::property::*;
    use openfx::sys::image_effect_v1::{image_effect::*, message::*, param::*, progress::*};

    #[test]
    fn names_and_statuses_are_the_headers() {
        macro_rules! check {
            ($($name:ident = $value:literal;)*) => { $(assert_eq!(super::$name, $name, stringify!($name));)* };
        }
        names!(check);
        statuses!(check);
        assert_eq!(kOfxImageEffectPluginApiVersion, 1);
    }

    #[test]
    fn structs_lie_in_memory_as_the_headers_say() {
        macro_rules! check {
            ($($name:ident { $($field:ident)* })*) => { $(
                assert_eq!(size_of::<super::$name>(), size_of::<$name>(), stringify!($name));
                assert_eq!(align_of::<super::$name>(), align_of::<$name>(), stringify!($name));
                $(assert_eq!(
                    offset_of!(super::$name, $field),
                    offset_of!($name, $field),
                    concat!(stringify!($name), ".", stringify!($field))
                );)*
            )* };
        }
        check! {
            OfxRectD { x1 y1 x2 y2 }
            OfxHost { host fetchSuite }
            OfxPlugin { pluginApi apiVersion pluginIdentifier pluginVersionMajor pluginVersionMinor setHost mainEntry }
            OfxPropertySuiteV1 {
                propSetPointer propSetString propSetDouble propSetInt propSetPointerN propSetStringN propSetDoubleN
                propSetIntN propGetPointer propGetString propGetDouble propGetInt propGetPointerN propGetStringN
                propGetDoubleN propGetIntN propReset propGetDimension
            }
            OfxImageEffectSuiteV1 {
                getPropertySet getParamSet clipDefine clipGetHandle clipGetPropertySet clipGetImage clipReleaseImage
                clipGetRegionOfDefinition abort imageMemoryAlloc imageMemoryFree imageMemoryLock imageMemoryUnlock
            }
            OfxParameterSuiteV1 {
                paramDefine paramGetHandle paramSetGetPropertySet paramGetPropertySet paramGetValue
                paramGetValueAtTime paramGetDerivative paramGetIntegral paramSetValue paramSetValueAtTime
                paramGetNumKeys paramGetKeyTime paramGetKeyIndex paramDeleteKey paramDeleteAllKeys paramCopy
                paramEditBegin paramEditEnd
            }
            OfxMessageSuiteV1 { message }
            OfxMessageSuiteV2 { message setPersistentMessage clearPersistentMessage }
            OfxProgressSuiteV1 { progressStart progressUpdate progressEnd }
            OfxProgressSuiteV2 { progressStart progressUpdate progressEnd }
        }
        let _: c::OfxStatus = 0 as super::OfxStatus;
        let _: c::OfxTime = 0.0 as super::OfxTime;
    }
}
