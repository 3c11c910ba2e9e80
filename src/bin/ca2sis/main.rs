//! The command line.

mod attention;
mod batch;
mod bench;
mod common;
mod demo;
mod devices;
mod eval;
mod import;
mod label;
mod models;
mod progress;
mod repeat;
mod restyle;
mod settings;
mod shell;
mod style;
mod synthesize;
mod train;
mod verify;

use std::process::exit;

use ca2sis::kernels;
use ca2sis::{Error, Result};
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    the answer is no: a check failed, a repetition differs, or some of several jobs failed
  2    a mistake in the call
  3    a file that cannot be read or written, or is not what it should be
  4    the device is not there or failed, or memory ran out
  130  stopped by Ctrl-C; no file is left half-written";

/// Restyle photographs class by class
///
/// A photograph, its label map and a reference picture go in; the photograph comes back in the reference's look, class by
/// class, at full resolution, and unchanged where it was not asked for. `ca2sis demo` shows it on pictures that come along.
#[derive(clap::Parser)]
#[command(name = "ca2sis", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// Say results and errors as JSON, one object a line: results on stdout, errors on stderr
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Bench(bench::Args),
    Demo(demo::Args),
    Restyle(Box<restyle::Args>),
    Eval(eval::Args),
    Synthesize(synthesize::Args),
    Label(label::Args),
    Attention(attention::Args),
    Style(style::Args),
    Models(models::Args),
    Devices(devices::Args),
    Import(import::Args),
    Train(Box<train::Args>),
    Verify(verify::Args),
    Completions(shell::CompletionsArgs),
    Man(shell::ManArgs),
}

fn main() {
    // A driver's panic while a GPU is opened becomes an error, which is all that need be said of it.
    let said = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !ca2sis::device::is_opening() {
            said(panic);
        }
    }));
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    common::set_json(cli.json);
    let matches = matches.subcommand().map(|(_, m)| m).expect("clap asks for a command");
    let done = set_threads(matches).and_then(|()| match cli.command {
        Command::Bench(args) => bench::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Restyle(args) => restyle::run(*args, matches),
        Command::Synthesize(args) => synthesize::run(args, matches),
        Command::Label(args) => label::run(args),
        Command::Attention(args) => attention::run(args),
        Command::Style(args) => style::run(args),
        Command::Models(args) => models::run(args),
        Command::Devices(args) => devices::run(args),
        Command::Import(args) => import::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Train(args) => train::run(*args),
        Command::Verify(args) => verify::run(args),
        Command::Completions(args) => shell::completions(args),
        Command::Man(args) => shell::man(args),
    });
    match done {
        Ok(true) => {}
        Ok(false) => exit(1),
        Err(e) => {
            common::say_error(&e, None);
            exit(code(&e))
        }
    }
}

/// As many threads as the environment asks for, where the call does not. Before all else: the first thing that is shared out starts as
/// many as rayon chooses, and their number is fixed then.
fn set_threads(matches: &ArgMatches) -> Result<()> {
    // Commands with --threads start them themselves.
    if matches.try_contains_id("threads").unwrap_or(false) {
        return Ok(());
    }
    let Some(asked) = std::env::var_os("CA2SIS_THREADS") else { return Ok(()) };
    match asked.to_str().and_then(|asked| asked.parse().ok()) {
        Some(threads @ 1..=1024) => kernels::set_threads(threads),
        _ => Err(Error::invalid(format!(
            "CA2SIS_THREADS is {asked:?}: set it to a number of threads from 1 to 1024, or unset it"
        ))),
    }
}

/// What `EXIT_CODES` says.
pub fn code(error: &Error) -> i32 {
    match error {
        Error::InvalidArgument(_) | Error::Unsupported(_) => 2,
        Error::Io { .. } | Error::Format { .. } | Error::Model(_) | Error::Style(_) => 3,
        Error::Cancelled => 130,
        _ => 4,
    }
}
