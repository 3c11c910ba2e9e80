//! The command line.
//!
//! Exit codes: 0 done, 1 the command's own no, 2 a mistake in the call or in a file, said on stderr.

mod bench;
mod common;
mod demo;
mod restyle;
mod synthesize;
mod train;
mod verify;

use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Restyle photographs class by class
#[derive(clap::Parser)]
#[command(name = "ca2sis", version)]
enum Command {
    Bench(bench::Args),
    Demo(demo::Args),
    Restyle(restyle::Args),
    Synthesize(synthesize::Args),
    Train(Box<train::Args>),
    Verify(verify::Args),
}

fn main() {
    let done = match Command::parse() {
        Command::Bench(args) => bench::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Restyle(args) => restyle::run(args),
        Command::Synthesize(args) => synthesize::run(args),
        Command::Train(args) => train::run(*args),
        Command::Verify(args) => verify::run(args),
    };
    match done {
        Ok(true) => {}
        Ok(false) => std::process::exit(1),
        Err(e) => {
            eprintln!("ca2sis: {e}");
            std::process::exit(2)
        }
    }
}
