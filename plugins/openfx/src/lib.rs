//! ca2sis as an OpenFX plug-in: the entry points that a host calls.
//!
//! The plug-in reads and writes a host's pixels and parameters; what happens in between is the library's.

mod describe;
mod fault;
mod frame;
mod host;
mod inputs;
mod render;
mod settings;
mod shared;
mod time;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null;
use std::sync::{Mutex, MutexGuard};

use ca2sis_openfx_bindings as ofx;
use ofx::*;

#[doc(hidden)]
pub use shared::LOOKS_TAKEN;

/// Identifies the plug-in to hosts, which keep it in their documents: it never changes.
pub const IDENTIFIER: &CStr = c"org.ca2sis.Restyle";

/// The plug-in as hosts see it.
struct Plugin(OfxPlugin);

// SAFETY: it holds pointers to constants and functions, and is never written to.
unsafe impl Sync for Plugin {}

static PLUGIN: Plugin = Plugin(OfxPlugin {
    pluginApi: kOfxImageEffectPluginApi.as_ptr(),
    apiVersion: 1,
    pluginIdentifier: IDENTIFIER.as_ptr(),
    pluginVersionMajor: 0,
    pluginVersionMinor: 1,
    setHost: Some(set_host),
    mainEntry: Some(main_entry),
});

/// How many plug-ins this library has.
#[unsafe(no_mangle)]
pub extern "C" fn OfxGetNumberOfPlugins() -> c_int {
    1
}

/// The plug-in of a number from 0.
#[unsafe(no_mangle)]
pub extern "C" fn OfxGetPlugin(nth: c_int) -> *const OfxPlugin {
    if nth == 0 { &PLUGIN.0 } else { null() }
}

/// Newer hosts hand themselves over here, before anything else.
///
/// # Safety
/// `host` is null or stays valid as long as the plug-in is loaded.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn OfxSetHost(host: *const OfxHost) -> OfxStatus {
    host::set(host.cast_mut());
    if host.is_null() { kOfxStatFailed } else { kOfxStatOK }
}

unsafe extern "C" fn set_host(host: *mut OfxHost) {
    host::set(host);
}

/// All actions of a host come in here. No panic goes out.
unsafe extern "C" fn main_entry(
    action: *const c_char,
    handle: *const c_void,
    in_args: OfxPropertySetHandle,
    out_args: OfxPropertySetHandle,
) -> OfxStatus {
    if action.is_null() {
        return kOfxStatErrValue;
    }
    // SAFETY: not null, and a host's string ends with a zero.
    let action = unsafe { CStr::from_ptr(action) };
    let handle = handle.cast_mut();
    catch_unwind(AssertUnwindSafe(|| act(action, handle, in_args, out_args))).unwrap_or(kOfxStatErrFatal)
}

fn act(
    action: &CStr,
    handle: OfxImageEffectHandle,
    in_args: OfxPropertySetHandle,
    out_args: OfxPropertySetHandle,
) -> OfxStatus {
    let done = |result: host::Result<()>| result.err().unwrap_or(kOfxStatOK);
    if action == kOfxActionLoad {
        return done(host::load());
    }
    if action == kOfxActionUnload {
        // Some hosts unload more often than they load, and go on: what they need again is then made again.
        shared::purge();
        return kOfxStatOK;
    }
    let host = match host::loaded() {
        Ok(host) => host,
        Err(status) => return status,
    };
    let effect = host.effect(handle);
    let (inward, outward) = (host.props(in_args), host.props(out_args));
    if action == kOfxActionDescribe {
        done(describe::describe(&effect))
    } else if action == kOfxImageEffectActionDescribeInContext {
        done(describe::describe_in_context(&effect, &inward))
    } else if action == kOfxActionCreateInstance {
        time::begin(handle);
        settings::show_classes(&effect);
        kOfxStatOK
    } else if action == kOfxActionDestroyInstance {
        time::end(handle);
        kOfxStatOK
    } else if action == kOfxActionInstanceChanged {
        settings::changed(&effect, &inward)
    } else if action == kOfxActionPurgeCaches {
        shared::purge();
        time::purge();
        kOfxStatOK
    } else if action == kOfxImageEffectActionRender {
        render::render(&effect, &inward)
    } else if action == kOfxImageEffectActionIsIdentity {
        render::is_identity(&effect, &inward, &outward)
    } else if action == kOfxImageEffectActionGetRegionOfDefinition {
        render::region_of_definition(&effect, &inward, &outward)
    } else if action == kOfxImageEffectActionGetRegionsOfInterest {
        render::regions_of_interest(&effect, &inward, &outward)
    } else if action == kOfxImageEffectActionGetFramesNeeded {
        render::frames_needed(&effect, &inward, &outward)
    } else if action == kOfxImageEffectActionGetClipPreferences {
        // What a frame looks like depends on its inputs alone.
        let _ = outward.set_int(kOfxImageEffectFrameVarying, 0, 0);
        kOfxStatOK
    } else {
        kOfxStatReplyDefault
    }
}

/// No value behind these locks is ever left half-changed, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
