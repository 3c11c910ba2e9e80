//! The committed header says what the library exports.

use std::path::Path;

#[test]
fn header_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("include/cbindgen.toml")).unwrap();
    // In the order in which a reader of the header wants them.
    let order = [
        "version",
        "status",
        "guard",
        "callback",
        "device",
        "context",
        "model",
        "image",
        "label",
        "style",
        "restyle",
        "synthesize",
        "attention",
    ];
    let sources = order.map(|name| root.join(format!("src/capi/{name}.rs")));
    for file in std::fs::read_dir(root.join("src/capi")).unwrap() {
        let path = file.unwrap().path();
        let exports = std::fs::read_to_string(&path).unwrap().contains("#[unsafe(no_mangle)]");
        assert!(
            !exports || sources.contains(&path),
            "{path:?} exports functions but is not in the header's list"
        );
    }
    let mut made = Vec::new();
    let builder = sources.iter().fold(cbindgen::Builder::new(), |builder, path| builder.with_src(path));
    builder.with_config(config).generate().unwrap().write(&mut made);
    let made = String::from_utf8(made).unwrap();

    let path = root.join("include/ca2sis.h");
    if std::env::var_os("UPDATE_HEADER").is_some() {
        std::fs::write(&path, made).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == made,
        "include/ca2sis.h is stale: UPDATE_HEADER=1 cargo test --test capi_header, then commit it. It should be:\n{made}"
    );
}
