//! Tables of figures, for people and for scripts.

use std::fmt;

use serde_json::{Map, Value, json};

use super::methods::Method;
use super::metrics::mean;

/// Which way a figure improves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
    /// Neither: the figure is to be near a value that the heading or a note names.
    Unranked,
}

/// A figure's place in a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name for scripts.
    pub key: &'static str,
    pub heading: &'static str,
    pub better: Better,
    pub decimals: usize,
}

impl Column {
    pub const fn new(key: &'static str, heading: &'static str, better: Better, decimals: usize) -> Self {
        Self { key, heading, better, decimals }
    }
}

/// One method's figures.
#[derive(Clone, Debug)]
pub struct Row {
    pub key: &'static str,
    pub title: &'static str,
    /// One for each column, mean over cases; none where no case has one.
    pub figures: Vec<Option<f64>>,
    /// The figures of each case; empty where a figure belongs to the whole set.
    pub cases: Vec<Vec<Option<f64>>>,
}

impl Row {
    /// A row of means over cases.
    pub fn mean(key: &'static str, title: &'static str, cases: Vec<Vec<Option<f64>>>) -> Self {
        let width = cases.first().map_or(0, Vec::len);
        let figures = (0..width).map(|c| mean(cases.iter().filter_map(|case| case[c]))).collect();
        Self { key, title, figures, cases }
    }

    pub fn of(method: Method, cases: Vec<Vec<Option<f64>>>) -> Self {
        Self::mean(method.key(), method.title(), cases)
    }
}

/// A task's outcome.
#[derive(Clone, Debug)]
pub struct Table {
    pub task: &'static str,
    pub title: String,
    /// Names of the cases.
    pub cases: Vec<String>,
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
    /// What a reader has to know to read the figures right.
    pub notes: Vec<String>,
}

impl Table {
    /// The row of best figure in a column. None without figures, and of equal ones the first.
    fn best(&self, column: usize, figure: impl Fn(&Row) -> Option<f64>) -> Option<usize> {
        let sign = match self.columns[column].better {
            Better::Higher => -1.0,
            Better::Lower => 1.0,
            Better::Unranked => return None,
        };
        let figures = self.rows.iter().enumerate().filter_map(|(i, row)| Some((i, figure(row)? * sign)));
        figures.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i)
    }

    /// In how many cases each row has the best figure of a column.
    pub fn wins(&self, column: usize) -> Vec<usize> {
        let mut wins = vec![0; self.rows.len()];
        for case in 0..self.cases.len() {
            let figure = |row: &Row| row.cases.get(case).and_then(|figures| figures[column]);
            if let Some(row) = self.best(column, figure) {
                wins[row] += 1;
            }
        }
        wins
    }

    /// For scripts: figures are numbers in full precision, or null.
    pub fn to_json(&self) -> Value {
        let object = |figures: &[Option<f64>]| -> Value {
            let pairs = self.columns.iter().zip(figures).map(|(c, v)| (c.key.to_owned(), json!(v)));
            Value::Object(pairs.collect::<Map<_, _>>())
        };
        let rows = self.rows.iter().map(|row| {
            let cases = self.cases.iter().zip(&row.cases).map(|(name, case)| (name.clone(), object(case)));
            json!({
                "method": row.key,
                "figures": object(&row.figures),
                "cases": Value::Object(cases.collect::<Map<_, _>>()),
            })
        });
        json!({
            "task": self.task,
            "title": self.title,
            "cases": self.cases.len(),
            "rows": rows.collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

impl fmt::Display for Table {
    /// Aligned columns, the best of each marked with a star.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let best: Vec<_> =
            (0..self.columns.len()).map(|c| self.best(c, |row| row.figures.get(c).copied()?)).collect();
        let ranked = self.columns.first().is_some_and(|c| c.better != Better::Unranked)
            && self.rows.iter().any(|row| !row.cases.is_empty());
        let wins = if ranked { self.wins(0) } else { Vec::new() };
        let cell = |row: usize, column: usize| match self.rows[row].figures.get(column).copied().flatten() {
            Some(v) => {
                let star = if self.rows.len() > 1 && best[column] == Some(row) { '*' } else { ' ' };
                format!("{v:.*}{star}", self.columns[column].decimals)
            }
            None => "- ".to_owned(),
        };
        let mut columns: Vec<Vec<String>> = Vec::new();
        columns.push(self.rows.iter().map(|row| row.title.to_owned()).collect());
        columns.extend((0..self.columns.len()).map(|c| (0..self.rows.len()).map(|r| cell(r, c)).collect()));
        let mut headings = vec![""];
        headings.extend(self.columns.iter().map(|c| c.heading));
        if ranked {
            columns.push(wins.iter().map(|n| format!("{n} ")).collect());
            headings.push("best in");
        }
        let width = |c: usize| {
            let cells = columns[c].iter().map(|s| s.chars().count());
            cells.max().unwrap_or(0).max(headings[c].chars().count() + usize::from(c > 0))
        };
        let widths: Vec<usize> = (0..columns.len()).map(width).collect();

        writeln!(f, "{}", self.title)?;
        let line = |first: &str, cells: &dyn Fn(usize) -> String| {
            let mut line = format!("  {first:<0$}", widths[0]);
            for (c, width) in widths.iter().enumerate().skip(1) {
                line += &format!("  {:>width$}", cells(c));
            }
            line
        };
        writeln!(f, "{}", line("", &|c| format!("{} ", headings[c])).trim_end())?;
        for (r, row) in self.rows.iter().enumerate() {
            writeln!(f, "{}", line(row.title, &|c| columns[c][r].clone()).trim_end())?;
        }
        for note in &self.notes {
            writeln!(f, "  {note}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let row = |method, cases: [[Option<f64>; 2]; 2]| Row::of(method, cases.map(|c| c.to_vec()).to_vec());
        Table {
            task: "paired",
            title: "Two cases".into(),
            cases: vec!["a".into(), "b".into()],
            columns: vec![
                Column::new("psnr", "PSNR", Better::Higher, 1),
                Column::new("lacking", "lacking", Better::Lower, 2),
            ],
            rows: vec![
                row(Method::Identity, [[Some(10.0), Some(3.0)], [Some(20.0), None]]),
                row(Method::ClassMean, [[Some(12.0), Some(4.0)], [Some(19.0), None]]),
            ],
            notes: vec!["A note.".into()],
        }
    }

    #[test]
    fn figures_are_means_over_the_cases_that_have_them() {
        let table = table();
        assert_eq!(table.rows[0].figures, [Some(15.0), Some(3.0)]);
        assert_eq!(table.wins(0), [1, 1]);
        assert_eq!(table.wins(1), [1, 0]);
    }

    #[test]
    fn text_is_aligned_and_marks_the_best() {
        let text = table().to_string();
        let lines = [
            "Two cases",
            "                     PSNR   lacking   best in",
            "  identity           15.0      3.00*        1",
            "  class mean colour  15.5*     4.00         1",
            "  A note.",
            "",
        ];
        assert_eq!(text, lines.join("\n"), "{text}");
    }

    #[test]
    fn json_keeps_every_case() {
        let json = table().to_json();
        assert_eq!(json["rows"][1]["figures"]["psnr"], 15.5);
        assert_eq!(json["rows"][0]["cases"]["b"]["psnr"], 20.0);
        assert!(json["rows"][0]["cases"]["b"]["lacking"].is_null());
    }
}
