//! Options as text by name: how a command line, a row of a CSV file and a record say the same thing.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use ca2sis::{Error, Result};
use clap::{ArgMatches, Command};

/// The values of each option, by its long name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(pub BTreeMap<String, Vec<OsString>>);

/// The options of `T`, and of nothing else.
pub fn command_of<T: clap::Args>() -> Command {
    T::augment_args(Command::new("job").no_binary_name(true).disable_help_flag(true))
}

impl Settings {
    /// The options of `T` in `matches`, those not given with their defaults.
    pub fn of<T: clap::Args>(matches: &ArgMatches) -> Self {
        let command = command_of::<T>();
        let mut settings = Self::default();
        for arg in command.get_arguments() {
            if let (Some(long), Ok(Some(values))) =
                (arg.get_long(), matches.try_get_raw(arg.get_id().as_str()))
            {
                settings.0.insert(long.to_owned(), values.map(OsString::from).collect());
            }
        }
        settings
    }

    /// Reads the options as a command line would.
    ///
    /// # Errors
    /// What clap says of an unknown option or a wrong value.
    pub fn parse<T: clap::Args>(&self) -> Result<T> {
        let command = command_of::<T>();
        let mut line = Vec::new();
        for (long, values) in &self.0 {
            let flag =
                command.get_arguments().any(|a| a.get_long() == Some(long) && !a.get_action().takes_values());
            for value in values {
                if !flag {
                    let mut word = OsString::from(format!("--{long}="));
                    word.push(value);
                    line.push(word);
                } else if value == "true" {
                    line.push(format!("--{long}").into());
                }
            }
        }
        let read = command.try_get_matches_from(line).and_then(|m| T::from_arg_matches(&m));
        read.map_err(|e| {
            let text = e.to_string();
            let first = text.lines().next().unwrap_or_default();
            Error::invalid(first.strip_prefix("error: ").unwrap_or(first))
        })
    }

    /// The options that name files, each with its file; further files of one option are "reference 2" and on.
    pub fn files<T: clap::Args>(&self) -> Vec<(String, PathBuf)> {
        let files = path_options::<T>();
        let named = self.0.iter().filter(|(long, _)| files.contains(long));
        let of = |(long, values): (&String, &Vec<OsString>)| {
            let name = |i: usize| if i == 0 { long.clone() } else { format!("{long} {}", i + 1) };
            values.iter().enumerate().map(|(i, v)| (name(i), PathBuf::from(v))).collect::<Vec<_>>()
        };
        named.flat_map(of).collect()
    }

    /// The options that do not, as a record holds them.
    pub fn options<T: clap::Args>(&self) -> BTreeMap<String, Vec<String>> {
        let files = path_options::<T>();
        let text = |v: &OsString| v.to_string_lossy().into_owned();
        let others = self.0.iter().filter(|(long, _)| !files.contains(long));
        others.map(|(long, values)| (long.clone(), values.iter().map(text).collect())).collect()
    }
}

/// The long names of the options whose value is a path.
pub fn path_options<T: clap::Args>() -> Vec<String> {
    command_of::<T>()
        .get_arguments()
        .filter(|a| a.get_value_parser().type_id() == TypeId::of::<PathBuf>())
        .filter_map(|a| a.get_long().map(String::from))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Args, Debug, PartialEq)]
    struct Job {
        #[arg(long)]
        mask: Option<PathBuf>,
        #[arg(long, value_delimiter = ',')]
        classes: Vec<String>,
        #[arg(long, default_value_t = 1.0)]
        strength: f32,
        #[arg(long)]
        fast: bool,
    }

    fn read(line: &[&str]) -> Settings {
        Settings::of::<Job>(&command_of::<Job>().try_get_matches_from(line).unwrap())
    }

    #[test]
    fn options_survive_as_text() {
        let settings = read(&["--classes=a,b=0.5", "--mask", "m n.png", "--fast"]);
        let job: Job = settings.parse().unwrap();
        assert_eq!(
            job,
            Job {
                mask: Some("m n.png".into()),
                classes: vec!["a".into(), "b=0.5".into()],
                strength: 1.0,
                fast: true
            }
        );
        assert_eq!(settings.files::<Job>(), [("mask".to_owned(), PathBuf::from("m n.png"))]);
        assert_eq!(settings.options::<Job>()["strength"], ["1"]);
        assert_eq!(settings.options::<Job>()["classes"], ["a", "b=0.5"]);
        assert!(!read(&[]).parse::<Job>().unwrap().fast);
    }

    #[test]
    fn a_wrong_value_is_said_as_the_command_line_says_it() {
        let settings = Settings([("strength".to_owned(), vec!["much".into()])].into());
        let error = settings.parse::<Job>().unwrap_err().to_string();
        assert!(
            error.contains("much") && error.contains("--strength") && !error.starts_with("error"),
            "{error}"
        );
        let settings = Settings([("colour".to_owned(), vec!["red".into()])].into());
        assert!(settings.parse::<Job>().unwrap_err().to_string().contains("--colour"));
    }
}
