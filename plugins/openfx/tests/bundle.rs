//! The bundle as it is installed: what it is made of, what it shows a host, and that it comes and goes without a trace.
#![cfg(target_os = "linux")]

mod host;

use std::path::{Path, PathBuf};
use std::process::Command;

use ca2sis_openfx_bindings::*;
use host::{Form, GENERAL, Host, Picture};
use libloading::{Library, Symbol};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The plug-in of this build: cargo leaves it beside the test programs' folder or in it.
fn library() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let deps = program.parent().unwrap();
    let candidates = [deps.join("libca2sis_openfx.so"), deps.parent().unwrap().join("libca2sis_openfx.so")];
    candidates.into_iter().find(|path| path.exists()).expect("cargo builds the plug-in with its tests")
}

fn install(folder: &Path, more: &[&str]) -> (bool, String) {
    let output = Command::new(root().join("install"))
        .args(["--to".as_ref(), folder.as_os_str()])
        .args(["--library".as_ref(), library().as_os_str()])
        .args(more)
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn binary(folder: &Path) -> PathBuf {
    folder
        .join("ca2sis.ofx.bundle/Contents")
        .join(format!("Linux-{}", std::env::consts::ARCH.replace('_', "-")))
        .join("ca2sis.ofx")
}

#[test]
fn it_is_installed_over_an_older_one_and_taken_away_again_and_nothing_else_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let others = folder.path().join("other.ofx.bundle");
    std::fs::create_dir(&others).unwrap();
    for _ in 0..2 {
        let (ok, said) = install(folder.path(), &[]);
        assert!(ok, "{said}");
        assert!(binary(folder.path()).is_file(), "{said}");
    }
    let contents = folder.path().join("ca2sis.ofx.bundle/Contents");
    let about = std::fs::read_to_string(contents.join("Info.plist")).unwrap();
    assert!(about.contains(env!("CARGO_PKG_VERSION")) && about.contains("ca2sis.ofx"), "{about}");
    assert!(contents.join("Resources/org.ca2sis.Restyle.png").is_file());
    let names = |folder: &Path| {
        let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(folder.path()), ["ca2sis.ofx.bundle", "other.ofx.bundle"]);
    let (ok, said) = install(folder.path(), &["--uninstall"]);
    assert!(ok && names(folder.path()) == ["other.ofx.bundle"], "{said}");
    let (ok, said) = install(folder.path(), &["--nonsense"]);
    assert!(!ok && said.contains("--system"), "{said}");
}

/// To cargo, a relative CARGO_TARGET_DIR is one of the folder that it runs in: the repository, wherever the script is called.
#[test]
fn a_build_in_a_target_folder_named_from_the_repository_is_found_from_anywhere() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().canonicalize().unwrap();
    let to = folder.join("plugins");
    let depth = root().join("../..").canonicalize().unwrap().components().count() - 1;
    let target =
        format!("{}{}", "../".repeat(depth), folder.join("built").strip_prefix("/").unwrap().display());
    // So deep that the same name is another folder from there.
    let from = folder.join("down/".repeat(depth + 1));
    std::fs::create_dir_all(&from).unwrap();
    // In cargo's place: what it builds is there already.
    let cargo = r#"() { mkdir -p "$CARGO_TARGET_DIR/release"; cp "$BUILT" "$CARGO_TARGET_DIR/release/libca2sis_openfx.so"; }"#;
    let output = Command::new(root().join("install"))
        .args(["--to".as_ref(), to.as_os_str()])
        .current_dir(from)
        .env("BASH_FUNC_cargo%%", cargo)
        .env("BUILT", library())
        .env("CARGO_TARGET_DIR", target)
        .env_remove("CARGO_FLAGS")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && binary(&to).is_file(), "{said}");
}

#[test]
fn it_shows_the_entry_points_of_openfx_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (ok, said) = install(folder.path(), &[]);
    assert!(ok, "{said}");
    let nm = Command::new("nm").args(["-D", "--defined-only"]).arg(binary(folder.path())).output().unwrap();
    let text = String::from_utf8(nm.stdout).unwrap();
    let mut names: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().last()).collect();
    names.sort_unstable();
    assert_eq!(names, ["OfxGetNumberOfPlugins", "OfxGetPlugin", "OfxSetHost"]);
}

/// Resident memory in KiB, without what the allocator keeps of memory that was let go: one of its arenas may hold a tensor of
/// 14 MB back, or give it back, by where in it small things lie (33 to 60 MB by turns over 2000 times).
fn resident() -> usize {
    // SAFETY: it touches free memory alone.
    unsafe { libc::malloc_trim(0) };
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// A host's whole life with the plug-in, 200 times: opened, loaded, described, rendered, unloaded, closed.
#[test]
fn it_is_loaded_and_unloaded_200_times_without_growth() {
    let folder = tempfile::tempdir().unwrap();
    let (ok, said) = install(folder.path(), &[]);
    assert!(ok, "{said}");
    let path = binary(folder.path());
    let mut source = Picture::new(24, 16, c"OfxBitDepthByte", c"OfxImageComponentRGBA");
    source.fill(&(0..24 * 16 * 4).map(|i| (i * 7 % 251) as u8).collect::<Vec<u8>>());
    // The backdrop's colour in the model inside, left, and the table's, right.
    let mut labels = Picture::new(24, 16, c"OfxBitDepthByte", c"OfxImageComponentRGB");
    let classes = ca2sis::model::Model::embedded().unwrap().classes().to_vec();
    labels.fill(&(0..24 * 16).flat_map(|i| classes[i % 24 / 12].color).collect::<Vec<u8>>());
    let once = |render: bool| {
        // SAFETY: the bundle's own constructors do nothing; its functions are of the types that the standard says.
        let library = unsafe { Library::new(&path) }.unwrap();
        let (number, get): (Symbol<extern "C" fn() -> i32>, Symbol<extern "C" fn(i32) -> *const OfxPlugin>) =
            unsafe { (library.get(b"OfxGetNumberOfPlugins").unwrap(), library.get(b"OfxGetPlugin").unwrap()) };
        assert_eq!(number(), 1);
        assert!(get(1).is_null() && get(-1).is_null());
        // SAFETY: it stays as long as the library is loaded, which is for good.
        let plugin = unsafe { get(0).as_ref() }.unwrap();
        let mut host = Host::with(plugin, &Form::default());
        host.begin(GENERAL);
        if render {
            host.set_value("device", 1);
            host.set_value("method", 1);
            host.still("Source", &source);
            host.still("Labels", &labels);
            let mut output = source.clone();
            output.allocate();
            assert_eq!(host.render(0.0, output).0, kOfxStatOK);
        }
        host.end();
        library.close().unwrap();
    };
    let mut sizes = Vec::new();
    for i in 0..200 {
        once(i % 4 == 0);
        if i % 10 == 9 {
            // Threads that were let go end a little later.
            std::thread::sleep(std::time::Duration::from_millis(200));
            sizes.push((resident(), threads()));
        }
    }
    println!("resident KiB and threads after every ten times: {sizes:?}");
    // The least of several: what the allocator holds back comes and goes, what is lost stays.
    let least = |part: &[(usize, usize)]| (part.iter().map(|s| s.0).min(), part.iter().map(|s| s.1).min());
    let ((first, few), (last, many)) = (least(&sizes[5..10]), least(&sizes[15..]));
    // A leak of one model, or of the stack of one thread each time, would be tens of MiB.
    assert!(last < first.map(|kib| kib + 4096), "{sizes:?}");
    assert!(many <= few, "{sizes:?}");
}
