//! `ca2sis verify`: the network against a golden case.

use std::path::PathBuf;

use ca2sis::device::Choice;

use crate::common::{json, open_device, say};

/// Recompute a golden case and print each tensor's maximum absolute error
#[derive(clap::Args)]
pub struct Args {
    /// Golden case (.safetensors): inputs, sizes, and the tensors a right network gives
    case: PathBuf,
    /// Check the forms that pictures go through on this device, rather than the plain network
    #[arg(long)]
    fast: bool,
    /// auto, cpu, cuda, cuda:N, metal or metal:N
    #[arg(long, value_name = "DEVICE", default_value_t = Choice::Cpu)]
    device: Choice,
}

/// Whether every tensor is within its tolerance.
pub fn run(args: Args) -> ca2sis::Result<bool> {
    use ca2sis::nn::golden;
    let verify = if args.fast { golden::verify_fast } else { golden::verify };
    let comparisons = verify(&args.case, &open_device(args.device)?)?;
    for c in &comparisons {
        if json() {
            say!(
                "{}",
                serde_json::json!({ "tensor": c.name, "error": c.error, "tolerance": c.tolerance, "holds": c.holds() })
            );
            continue;
        }
        let verdict = if c.holds() { "" } else { "  TOO LARGE" };
        say!("{:18} {:.2e} (at most {:.0e}){verdict}", c.name, c.error, c.tolerance);
    }
    Ok(comparisons.iter().all(|c| c.holds()))
}
