//! The command line.
use clap::Parser as _;
mod train;
mod verify;
#[derive(clap::Parser)]
enum Command {
    Train(Box<train::Args>),
    Verify(verify::Args),
}
fn main() {
    let ok = match Command::parse() {
        Command::Train(a) => train::run(*a),
        Command::Verify(a) => verify::run(a),
    };
    match ok {
        Ok(true) => {}
        Ok(false) => std::process::exit(1),
        Err(e) => {
            eprintln!("ca2sis: {e}");
            std::process::exit(2)
        }
    }
}
