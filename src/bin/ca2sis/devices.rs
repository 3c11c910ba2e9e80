//! `ca2sis devices`: where the network can run.

use ca2sis::Result;
use ca2sis::device::{self, Choice};

use crate::common::{json, say};

/// List the devices that the network can run on, and why others cannot be used
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_: Args) -> Result<bool> {
    let automatic = device::Info::of(&device::open(Choice::Auto)?).choice;
    for info in device::list() {
        let (choice, auto) = (info.choice.to_string(), info.choice == automatic);
        match &info.unavailable {
            None if json() => {
                let line = serde_json::json!({
                    "device": choice, "usable": true, "name": info.name, "memory": info.memory, "auto": auto,
                });
                say!("{line}");
            }
            Some(reason) if json() => {
                say!("{}", serde_json::json!({ "device": choice, "usable": false, "reason": reason }));
            }
            None => {
                let memory = match info.memory {
                    0 => String::new(),
                    bytes => format!(", {:.1} GiB", bytes as f64 / (1u64 << 30) as f64),
                };
                say!("{choice:8}  {}{memory}{}", info.name, if auto { "  (auto)" } else { "" });
            }
            Some(reason) => say!("{choice:8}  no: {reason}"),
        }
    }
    Ok(true)
}
