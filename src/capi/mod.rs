//! The C API: the only `extern "C"` of the crate. Its header is `include/ca2sis.h`, which `tests/capi_header.rs`
//! compares with this folder. It does nothing of its own: views and handles in, calls of the public Rust API, statuses out.

mod attention;
mod callback;
mod context;
mod device;
mod guard;
mod handle;
mod image;
mod model;
mod restyle;
mod status;
mod style;
mod synthesize;
mod version;
