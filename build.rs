//! Names the shared library, embeds the default model where it is, and compiles the kernels for CUDA.

use std::env::var;
use std::path::Path;
use std::process::Command;

const MODEL: &str = "models/studio.safetensors";
const KERNELS: &str = "src/nn/cuda/kernels.cu";

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

    println!("cargo::rerun-if-changed={KERNELS}");
    println!("cargo::rerun-if-env-changed=NVCC");
    if var("CARGO_FEATURE_CUDA").is_ok() {
        compile_kernels();
    }
}

/// To PTX, which the driver makes code of for the GPU at hand, of compute capability 8.0 or later.
fn compile_kernels() {
    let nvcc = var("NVCC").unwrap_or_else(|_| "nvcc".to_owned());
    let out = var("OUT_DIR").expect("cargo sets it");
    let done =
        Command::new(&nvcc).args(["--ptx", "-arch=compute_80", "--output-directory", &out, KERNELS]).status();
    match done {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{nvcc} ended with {status} on {KERNELS}"),
        Err(e) => panic!("{nvcc} (set NVCC to CUDA's compiler): {e}"),
    }
}
