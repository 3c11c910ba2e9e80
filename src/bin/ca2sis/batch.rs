//! Many jobs at once: several contents on the command line, or a CSV file with one job a row.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ca2sis::{Error, Result};

use crate::common::{json, say_error};
use crate::settings::{Settings, command_of, path_options};

/// One job, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    pub content: PathBuf,
    pub output: PathBuf,
    pub settings: Settings,
    /// Where a CSV file has it, such as "jobs.csv, line 2".
    pub row: Option<String>,
}

impl Task {
    /// The error of a mistake in this job, said with the row that it is in.
    pub fn mistake(&self, e: Error) -> Error {
        match (&self.row, e) {
            (Some(row), Error::InvalidArgument(what)) => Error::invalid(format!("{row}: {what}")),
            (_, e) => e,
        }
    }
}

/// Does one task after the other. Where there are several, one that fails is said and does not stop the others; whether none
/// did.
///
/// # Errors
/// That of a single task; [`Error::Cancelled`].
pub fn each(tasks: &[Task], mut work: impl FnMut(usize, &Task) -> Result<()>) -> Result<bool> {
    if let [task] = tasks {
        return work(0, task).map(|()| true);
    }
    let mut failed = 0;
    for (i, task) in tasks.iter().enumerate() {
        match work(i, task) {
            Ok(()) => {}
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(e) => {
                say_error(&e, Some(&task.content));
                failed += 1;
            }
        }
    }
    if failed > 0 && !json() {
        eprintln!("ca2sis: {failed} of {} jobs failed", tasks.len());
    }
    Ok(failed == 0)
}

/// One job for each content. In `output` and in the options that name files, `{name}` stands for the content's name without
/// its ending, and `{dir}` for its folder. An output that is a folder gets files of the contents' own names.
pub fn of_contents<T: clap::Args>(
    contents: &[PathBuf],
    output: &Path,
    settings: &Settings,
) -> Result<Vec<Task>> {
    let several = contents.len() > 1;
    let folder = is_folder(output);
    if several && !folder && !has_pattern(output) {
        return Err(Error::invalid(format!(
            "{} contents, but one output {}: name a folder (DIR/) or a pattern ('out/{{name}}.png')",
            contents.len(),
            output.display()
        )));
    }
    let files = path_options::<T>();
    let mut tasks = Vec::new();
    for content in contents {
        let mut settings = settings.clone();
        for (_, values) in settings.0.iter_mut().filter(|(long, _)| files.contains(long)) {
            for value in values {
                *value = filled(value, content)?;
            }
        }
        let output = match content.file_name() {
            Some(name) if folder => output.join(name),
            _ => filled(output.as_os_str(), content)?.into(),
        };
        tasks.push(Task { content: content.clone(), output, settings, row: None });
    }
    Ok(tasks)
}

/// One job for each row of a CSV file. Its first row names the columns: `content`, `output`, and any option of `T` without
/// its dashes, in capitals or not. A cell that is not empty stands for the option on the command line. Files in it are relative to
/// its folder. Cells are parted by commas, or by the semicolons or tabs that the first row has instead.
pub fn of_csv<T: clap::Args>(path: &Path, output: Option<&Path>, settings: &Settings) -> Result<Vec<Task>> {
    let wrong = |what: String| Error::format(path, what);
    let text = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let first = text.split(|&b| b == b'\n').next().unwrap_or_default();
    let between = [b',', b';', b'\t'].into_iter().find(|mark| first.contains(mark)).unwrap_or(b',');
    let mut reader =
        csv::ReaderBuilder::new().delimiter(between).trim(csv::Trim::All).from_reader(text.as_slice());
    let read_error = |e: csv::Error| wrong(format!("no CSV: {e}"));
    let columns: Vec<String> = reader.headers().map_err(read_error)?.iter().map(str::to_lowercase).collect();
    let command = command_of::<T>();
    let known: Vec<&str> = command.get_arguments().filter_map(|a| a.get_long()).collect();
    for (i, column) in columns.iter().enumerate() {
        if column != "content" && column != "output" && !known.contains(&column.as_str()) {
            let all = ["content", "output"].iter().chain(&known).copied().collect::<Vec<_>>().join(", ");
            return Err(wrong(format!("column {column:?} is not known; columns are {all}")));
        }
        if columns[..i].contains(column) {
            return Err(wrong(format!("two columns are named {column:?}")));
        }
    }
    if !columns.iter().any(|c| c == "content") {
        return Err(wrong("no column \"content\": its first row names the columns".into()));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let files = path_options::<T>();
    let mut tasks = Vec::new();
    for row in reader.records() {
        let row = row.map_err(read_error)?;
        let line = row.position().map_or(0, |p| p.line());
        let mut settings = settings.clone();
        let (mut content, mut own_output) = (None, None);
        for (column, cell) in columns.iter().zip(&row).filter(|(_, cell)| !cell.is_empty()) {
            match column.as_str() {
                "content" => content = Some(folder.join(cell)),
                "output" => own_output = Some(folder.join(cell)),
                _ if files.contains(column) => {
                    settings.0.insert(column.clone(), vec![folder.join(cell).into()]);
                }
                _ => {
                    settings.0.insert(column.clone(), vec![cell.into()]);
                }
            }
        }
        let content = content.ok_or_else(|| wrong(format!("line {line}: no content")))?;
        let Some(output) = own_output.as_deref().or(output) else {
            return Err(wrong(format!("line {line}: no output; name one there, or a folder with -o DIR/")));
        };
        let row = format!("{}, line {line}", path.display());
        let made = of_contents::<T>(&[content], output, &settings)?;
        tasks.extend(made.into_iter().map(|task| Task { row: Some(row.clone()), ..task }));
    }
    if tasks.is_empty() {
        return Err(wrong("no jobs: nothing follows its first row".into()));
    }
    Ok(tasks)
}

/// Refuses two jobs with one output, and an output that is another job's input, before anything is computed.
pub fn check<T: clap::Args>(tasks: &[Task]) -> Result<()> {
    let mut outputs = HashSet::new();
    for task in tasks {
        if !outputs.insert(&task.output) {
            return Err(Error::invalid(format!(
                "two jobs would write {}: give them different names ('{{name}}')",
                task.output.display()
            )));
        }
    }
    for task in tasks {
        let files = task.settings.files::<T>();
        let inputs: Vec<&Path> =
            files.iter().map(|(_, p)| p.as_path()).chain([task.content.as_path()]).collect();
        if let Some(output) = tasks.iter().map(|t| &t.output).find(|o| inputs.contains(&o.as_path())) {
            return Err(Error::invalid(format!("{} is an input: write to another file", output.display())));
        }
        crate::common::check_output(&task.output, &inputs.into_iter().map(Some).collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Refuses a file beside the outputs that two jobs would write, or that is itself an output or a content.
pub fn check_beside(tasks: &[Task], beside: impl Iterator<Item = PathBuf>) -> Result<()> {
    let mut files = HashSet::new();
    for file in beside {
        if tasks.iter().any(|t| t.output == file || t.content == file) {
            return Err(Error::invalid(format!(
                "{} would be written over: give other names",
                file.display()
            )));
        }
        if let Some(file) = files.replace(file) {
            return Err(Error::invalid(format!(
                "two jobs would write {}: give their outputs different names",
                file.display()
            )));
        }
    }
    Ok(())
}

/// Whether an output names a folder: one that is there, or DIR/.
pub fn is_folder(output: &Path) -> bool {
    output.as_os_str().to_string_lossy().ends_with(std::path::is_separator) || output.is_dir()
}

fn has_pattern(path: &Path) -> bool {
    let text = path.to_string_lossy();
    text.contains("{name}") || text.contains("{dir}")
}

fn filled(pattern: &std::ffi::OsStr, content: &Path) -> Result<OsString> {
    // A name that is no UTF-8 has no braces that could be told from its other bytes.
    let Some(text) = pattern.to_str().filter(|t| t.contains('{')) else { return Ok(pattern.to_owned()) };
    let mut filled = OsString::new();
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        filled.push(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("{name}") {
            filled.push(content.file_stem().unwrap_or_default());
            rest = after;
        } else if let Some(after) = rest.strip_prefix("{dir}") {
            let folder = content.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            filled.push(folder);
            rest = after;
        } else {
            return Err(Error::invalid(format!(
                "{text}: in a pattern, {{name}} is the content's name without ending and {{dir}} its folder; there is no other"
            )));
        }
    }
    filled.push(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Args)]
    struct Job {
        #[arg(long)]
        labels: Option<PathBuf>,
        #[arg(long, default_value_t = 1.0)]
        strength: f32,
    }

    fn settings(labels: &str) -> Settings {
        Settings([("labels".to_owned(), vec![labels.into()])].into())
    }

    #[test]
    fn patterns_are_filled_from_each_content() {
        let contents = ["in/a.png".into(), "in/b.c.tif".into(), "d.jpg".into()];
        let tasks =
            of_contents::<Job>(&contents, Path::new("out/{name}.png"), &settings("{dir}/maps/{name}.png"))
                .unwrap();
        let outputs: Vec<_> = tasks.iter().map(|t| t.output.to_str().unwrap()).collect();
        assert_eq!(outputs, ["out/a.png", "out/b.c.png", "out/d.png"]);
        let labels: Vec<_> =
            tasks.iter().map(|t| t.settings.parse::<Job>().unwrap().labels.unwrap()).collect();
        assert_eq!(labels, ["in/maps/a.png", "in/maps/b.c.png", "./maps/d.png"].map(PathBuf::from));
        assert_eq!(
            of_contents::<Job>(&contents, Path::new("new/"), &settings("l.png")).unwrap()[1].output,
            Path::new("new/b.c.tif")
        );
        let one =
            of_contents::<Job>(&contents, Path::new("o.png"), &settings("l.png")).unwrap_err().to_string();
        assert!(one.contains("3 contents"), "{one}");
        let unknown = of_contents::<Job>(&contents, Path::new("{nam}.png"), &settings("l.png"));
        assert!(unknown.is_err());
    }

    #[test]
    fn rows_stand_for_the_command_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jobs.csv");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            of_csv::<Job>(&path, Some(Path::new("out/")), &settings("all.png"))
        };
        let tasks =
            read("content,labels,strength,output\na.png,a_l.png,0.5,\n\"b, c.png\",,,x.png\n").unwrap();
        let job = |i: usize| tasks[i].settings.parse::<Job>().unwrap();
        assert_eq!(tasks[0].content, folder.path().join("a.png"));
        assert_eq!((tasks[0].output.as_path(), job(0).strength), (Path::new("out/a.png"), 0.5));
        assert_eq!(job(0).labels.unwrap(), folder.path().join("a_l.png"));
        assert_eq!((tasks[1].output.clone(), job(1).strength), (folder.path().join("x.png"), 1.0));
        assert_eq!(job(1).labels.unwrap(), Path::new("all.png"));
        for text in ["Content;Strength\na.png;0.5\n", "content\tSTRENGTH\na.png\t0.5\n"] {
            let tasks = read(text).unwrap();
            assert_eq!(tasks[0].settings.parse::<Job>().unwrap().strength, 0.5, "{text:?}");
            let row = tasks[0].row.as_deref().unwrap();
            assert!(row.ends_with("jobs.csv, line 2"), "{row}");
        }
        for (text, reason) in [
            ("", "no column \"content\""),
            ("content\n", "no jobs"),
            (
                "content,colour\na.png,red\n",
                "column \"colour\" is not known; columns are content, output, labels, strength",
            ),
            ("content,content\na,b\n", "two columns"),
            ("content,strength\n,1\n", "line 2: no content"),
            ("content,strength\na.png\n", "no CSV"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("jobs.csv"), "{text:?}: {error}");
        }
    }

    #[test]
    fn outputs_do_not_meet() {
        let task = |content: &str, output: &str| Task {
            content: content.into(),
            output: output.into(),
            settings: settings("l.png"),
            row: None,
        };
        let refused = |tasks: &[Task]| check::<Job>(tasks).unwrap_err().to_string();
        assert!(
            refused(&[task("a.png", "x.png"), task("b.png", "x.png")]).contains("two jobs would write x.png")
        );
        assert!(refused(&[task("a.png", "b.png"), task("b.png", "c.png")]).contains("b.png is an input"));
        assert!(refused(&[task("a.png", "l.png")]).contains("l.png is an input"));
    }
}
