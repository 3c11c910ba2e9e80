//! A C and a C++ program build with all warnings against the header, link the shared library and run.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The shared library of this build: cargo leaves it beside the test programs' folder or in it.
fn library() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let deps = program.parent().unwrap();
    let candidates = [deps.join("libca2sis.so"), deps.parent().unwrap().join("libca2sis.so")];
    candidates.into_iter().find(|path| path.exists()).expect("cargo builds libca2sis.so with the tests")
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn compiled_and_run(compiler: &str, standard: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let major = env!("CARGO_PKG_VERSION_MAJOR");
    // As an installation has it: the linker follows libca2sis.so, the program asks for the SONAME.
    std::os::unix::fs::symlink(library(), folder.path().join(format!("libca2sis.so.{major}"))).unwrap();
    std::os::unix::fs::symlink(library(), folder.path().join("libca2sis.so")).unwrap();
    let program = folder.path().join("version");
    run(Command::new(compiler)
        .args([standard, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"])
        .arg(root.join("include"))
        .arg(root.join("tests/capi_version.c"))
        .arg("-L")
        .arg(folder.path())
        .args(["-lca2sis", "-o"])
        .arg(&program));
    let dynamic = run(Command::new("readelf").arg("-d").arg(&program));
    assert!(
        dynamic.contains(&format!("[libca2sis.so.{major}]")),
        "the program asks for the SONAME: {dynamic}"
    );
    let said = run(Command::new(&program).env("LD_LIBRARY_PATH", folder.path()));
    assert_eq!(said, format!("{} {major}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn c_program_runs() {
    compiled_and_run("gcc", "-std=c99");
}

#[test]
fn cpp_program_runs() {
    compiled_and_run("g++", "-xc++");
}
