//! Names the shared library, and embeds the default model where it is.

use std::env::var;
use std::path::Path;

const MODEL: &str = "models/studio.safetensors";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={MODEL}");

    // A shared library's own name carries the major version, so that programs linked to one major find that one.
    let major = var("CARGO_PKG_VERSION_MAJOR").expect("cargo sets it");
    match var("CARGO_CFG_TARGET_OS").expect("cargo sets it").as_str() {
        "linux" => {
            println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libca2sis.so.{major}");
            // Worker threads and thread-local destructors outlive a dlclose: the code under them must stay.
            println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
        }
        "macos" => println!("cargo::rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libca2sis.{major}.dylib"),
        _ => {}
    }

    println!("cargo::rustc-check-cfg=cfg(has_embedded_model)");
    if var("CARGO_FEATURE_EMBED_MODEL").is_ok() && Path::new(MODEL).exists() {
        println!("cargo::rustc-cfg=has_embedded_model");
    }
}
