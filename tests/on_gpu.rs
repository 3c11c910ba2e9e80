//! The command that measures everything on a GPU, rehearsed with the CPU in its place and a program that stands for PyTorch.

mod skip;

use std::path::Path;
use std::process::Command;

/// Prints what the PyTorch program prints, in its form, with figures made up; knows no other device than the one it is to have.
const ORACLE: &str = r#"
import sys
assert sys.argv[1:] == ["--bench", "--device", "cpu"], sys.argv
print("torch f32   encode    100.0 ms median      90.0 min     120.0 max")
print("torch f32   decode  99999.0 ms median     390.0 min     520.0 max")
print("torch bf16  encode     80.0 ms median      70.0 min     100.0 max")
print("torch bf16  decode    200.0 ms median     190.0 min     300.0 max")
print("torch compiled bf16 decode   120.0 ms median     110.0 min     130.0 max")
"#;

#[test]
fn the_command_for_a_gpu_is_rehearsed_and_its_table_has_every_row() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if Command::new("python3").arg("--version").output().is_err() {
        return skip::skipped("no python3");
    }
    let folder = tempfile::tempdir().unwrap();
    let (oracle, out) = (folder.path().join("oracle.py"), folder.path().join("gpu.json"));
    std::fs::write(&oracle, ORACLE).unwrap();
    let done = Command::new(root.join("tests/gpu/on-gpu"))
        .args(["--dry-run", "--binary", env!("CARGO_BIN_EXE_ca2sis"), "--oracle"])
        .args([&oracle, Path::new("--out"), &out])
        .output()
        .unwrap();
    let (table, told) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{table}\n{told}");
    assert_eq!(table, std::fs::read_to_string(out.with_extension("md")).unwrap());
    assert!(table.contains("No figure here is of a GPU"), "{table}");

    // Each row has its figures: ours, and PyTorch's beside them.
    let row = |start: &str| {
        let line = table.lines().find(|l| l.starts_with(start)).unwrap_or_else(|| panic!("{start}: {table}"));
        line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    };
    let near = |a: f64, b: f64| (a - b).abs() <= 0.011 * (1.0 + b.abs());
    for (what, torch) in [
        ("| encode, f32 | ", 100.0),
        ("| decode, f32 | ", 99999.0),
        ("| decode with a new style, f32 | ", 99999.0),
        ("| encode, bf16 | ", 80.0),
        ("| decode, bf16 | ", 200.0),
    ] {
        let cells = row(what);
        let [ours, theirs, ratio] = [2, 4, 5].map(|i| cells[i].parse::<f64>().unwrap());
        assert!(ours > 0.0 && near(theirs, torch) && near(ratio, torch / ours), "{cells:?}");
    }
    assert!(table.contains("| compiled bf16 | 120.00 |"), "{table}");
    for start in ["| studio, plain | 1 |", "| studio, f32 | 2 |", "| studio, bf16 | 2 |"] {
        assert!(row(start)[3].parse::<f64>().unwrap() > 0.0, "{start}");
    }
    let golden = "| five_with_background, ";
    assert!(row(&format!("{golden}f32"))[2].parse::<f64>().unwrap() <= 1e-3);
    assert!(row(&format!("{golden}bf16"))[3].parse::<f64>().unwrap() >= 40.0);
    assert!(table.contains("steps a second") && table.contains("The demo: "), "{table}");

    let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&out).unwrap()).unwrap();
    let checks = report["checks"].as_object().unwrap();
    assert!(checks.len() >= 5 && checks.values().all(|c| c == true), "{checks:?}");
    for part in ["devices", "verify", "bench", "oracle", "train", "restyle", "memory"] {
        assert!(report[part].get("error").is_none() && !report[part].is_null(), "{part}: {}", report[part]);
    }
    // A stage's share is told, for who wants to know where the time goes.
    assert!(report["bench"]["studio, f32"]["stages"].as_array().unwrap().len() > 5);
}

#[test]
fn a_precision_that_a_form_does_not_have_is_refused_with_what_to_say_instead() {
    let case = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/celeba19.safetensors");
    for (arguments, advice) in [
        (&["bench", "--precision", "f16"][..], "--gpu-form"),
        (&["bench", "--plain", "--precision", "bf16"], "leave --precision out"),
        (&["bench", "--precision", "half"], "tf32"),
        (&["verify", case, "--precision", "bf16"], "--gpu-form"),
        (&["verify", case, "--gpu-form"], "--fast"),
    ] {
        let done = Command::new(env!("CARGO_BIN_EXE_ca2sis")).args(arguments).output().unwrap();
        let told = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && told.contains(advice), "{arguments:?}: {told}");
    }
}
