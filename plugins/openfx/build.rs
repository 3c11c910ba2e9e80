//! Links the plug-in so that it shows a host the entry points of OpenFX and nothing else, and stays when it is closed.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        // The library linked in has a C API of its own, which is none of the host's business.
        println!("cargo::rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
        // Worker threads and thread-local destructors outlive a dlclose: the code under them must stay.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
