//! `ca2sis verify`: the network against a golden case.

use std::path::PathBuf;

use ca2sis::device::Choice;
use ca2sis::nn::Precision;

use crate::common::{json, open_device, say};

/// Recompute a golden case and print each tensor's maximum absolute error
#[derive(clap::Args)]
pub struct Args {
    /// Golden case (.safetensors): inputs, sizes, and the tensors a right network gives
    case: PathBuf,
    /// Check the forms that pictures go through on this device, rather than the plain network
    #[arg(long)]
    fast: bool,
    /// Check the forms made for GPUs, also on the CPU
    #[arg(long)]
    gpu_form: bool,
    /// Of the forms made for GPUs: f32, tf32, bf16 or f16; pictures of less than f32 are held to 40 dB
    #[arg(long, value_name = "P", default_value_t = Precision::F32)]
    precision: Precision,
    /// auto, cpu, cuda, cuda:N, metal or metal:N
    #[arg(long, value_name = "DEVICE", default_value_t = Choice::Cpu)]
    device: Choice,
}

/// Whether every tensor is within its tolerance.
pub fn run(args: Args) -> ca2sis::Result<bool> {
    use ca2sis::{Error, nn::golden};
    let device = open_device(args.device)?;
    let comparisons = match (args.fast, args.gpu_form || !device.is_cpu()) {
        (_, false) if args.precision != Precision::F32 => {
            return Err(Error::unsupported(
                "--precision is for the forms made for GPUs: add --gpu-form to check them on the CPU",
            ));
        }
        (false, _) if args.gpu_form || args.precision != Precision::F32 => {
            return Err(Error::invalid("--gpu-form and --precision are of the fast forms: add --fast"));
        }
        (true, true) => golden::verify_tensors(&args.case, &device, args.precision)?,
        (true, false) => golden::verify_fast(&args.case, &device)?,
        (false, _) => golden::verify(&args.case, &device)?,
    };
    for c in &comparisons {
        if json() {
            say!(
                "{}",
                serde_json::json!({
                    "tensor": c.name, "error": c.error, "tolerance": c.tolerance, "psnr_db": c.psnr, "holds": c.holds()
                })
            );
            continue;
        }
        let verdict = if c.holds() { "" } else { "  TOO LARGE" };
        match c.psnr {
            Some(db) => say!("{:18} {db:.1} dB (at least {}){verdict}", c.name, golden::LEAST_PSNR),
            None => say!("{:18} {:.2e} (at most {:.0e}){verdict}", c.name, c.error, c.tolerance),
        }
    }
    Ok(comparisons.iter().all(|c| c.holds()))
}
