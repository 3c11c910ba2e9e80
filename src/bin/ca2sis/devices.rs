//! `ca2sis devices`: where the network can run.

use ca2sis::Result;
use ca2sis::device::{self, Choice};

use crate::common::{device_choice, device_name, json};

/// List the devices that the network can run on, and why others cannot be used
#[derive(clap::Args)]
pub struct Args {}

/// No machine has more GPUs of a kind; the search ends at the first that is not there.
const MOST: usize = 64;

pub fn run(_: Args) -> Result<bool> {
    let automatic = device_choice(&device::open(Choice::Auto)?);
    let mut choices = vec![Choice::Cpu];
    for kind in [Choice::Cuda as fn(usize) -> Choice, Choice::Metal] {
        let there = (0..MOST).take_while(|&n| n == 0 || device::open(kind(n)).is_ok());
        choices.extend(there.map(kind));
    }
    for choice in choices {
        let opened = device::open(choice);
        let chosen = choice == automatic;
        if json() {
            let line = match &opened {
                Ok(d) => serde_json::json!({
                    "device": choice.to_string(), "usable": true, "name": device_name(d), "auto": chosen,
                }),
                Err(e) => serde_json::json!({
                    "device": choice.to_string(), "usable": false, "reason": e.to_string(),
                }),
            };
            println!("{line}");
            continue;
        }
        match opened {
            Ok(d) if choice == Choice::Cpu => {
                let threads = std::thread::available_parallelism().map_or(1, usize::from);
                let auto = if chosen { "  (auto)" } else { "" };
                println!("{:8}  {}, {threads} threads{auto}", choice.to_string(), device_name(&d));
            }
            Ok(d) => {
                println!(
                    "{:8}  {}{}",
                    choice.to_string(),
                    device_name(&d),
                    if chosen { "  (auto)" } else { "" }
                );
            }
            Err(e) => {
                let reason = e.to_string();
                println!(
                    "{:8}  no: {}",
                    choice.to_string(),
                    reason.strip_prefix("device: ").unwrap_or(&reason)
                );
            }
        }
    }
    Ok(true)
}
