//! `ca2sis completions` and `ca2sis man`: for the shell and for `man`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use ca2sis::{Error, Result};
use clap::CommandFactory as _;

/// Print the completion script of a shell
///
/// bash: ca2sis completions bash > ~/.local/share/bash-completion/completions/ca2sis
#[derive(clap::Args)]
pub struct CompletionsArgs {
    shell: clap_complete::Shell,
}

/// Print the manual page, or write one a command
#[derive(clap::Args)]
pub struct ManArgs {
    /// Folder for ca2sis.1 and a page a command [default: ca2sis.1 alone, to stdout]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn completions(args: CompletionsArgs) -> Result<bool> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::Cli::command(), "ca2sis", &mut script);
    print(&script)
}

pub fn man(args: ManArgs) -> Result<bool> {
    let command = crate::Cli::command().disable_help_subcommand(true);
    match args.out {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command)
                .render(&mut page)
                .map_err(|e| Error::io(Path::new("manual page"), e))?;
            print(&page)
        }
        Some(out) => {
            let io = |e| Error::io(&out, e);
            std::fs::create_dir_all(&out).map_err(io)?;
            clap_mangen::generate_to(command, &out).map_err(io)?;
            Ok(true)
        }
    }
}

/// A reader that has had enough (`head`) is no fault.
fn print(bytes: &[u8]) -> Result<bool> {
    match std::io::stdout().write_all(bytes) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::io(Path::new("stdout"), e)),
        _ => Ok(true),
    }
}
