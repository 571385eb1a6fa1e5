//! What is wrong with a configuration file, as a person or a machine wants to be told.

use std::{fmt, ops::Range};

use serde::Serialize;

use super::reference::{self, Section};

/// A file with at least one problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Invalid {
    /// Path of the file.
    pub file: String,
    /// What is wrong, in the order of the lines.
    pub problems: Vec<Problem>,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Path of the key, such as `kernel.report_interval`; `None` where the text is no TOML.
    pub key: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
    /// The line itself.
    #[serde(skip)]
    source_line: String,
    /// Characters to underline.
    #[serde(skip)]
    width: usize,
}

impl Invalid {
    pub(super) fn new(file: &str, problems: Vec<Problem>) -> Self {
        Self { file: file.to_owned(), problems }
    }
}

impl std::error::Error for Invalid {}

impl fmt::Display for Invalid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n\n")?;
            }
            let Problem { line, column, message, source_line, width, .. } = problem;
            let gutter = " ".repeat(line.to_string().len());
            writeln!(formatter, "{}:{line}:{column}: {message}", self.file)?;
            writeln!(formatter, "{gutter} |")?;
            writeln!(formatter, "{line} | {source_line}")?;
            write!(formatter, "{gutter} | {}{}", " ".repeat(column - 1), "^".repeat(*width))?;
            if let Some(help) = &problem.help {
                write!(formatter, "\n{gutter} = help: {help}")?;
            }
        }
        Ok(())
    }
}

impl Problem {
    /// The text is no TOML.
    pub(super) fn syntax(text: &str, span: Option<Range<usize>>, message: &str) -> Self {
        let (message, help) = split_expectation(message);
        Self::at(text, span, None, message, help)
    }

    /// TOML, but no setting: `message` is serde's, `path` the entry it is about.
    pub(super) fn value(text: &str, path: Option<&[String]>, span: Option<Range<usize>>, message: &str) -> Self {
        let key = path.map(|path| path.join("."));
        let Some(path) = path else {
            let (message, help) = split_expectation(message);
            return Self::at(text, span, key, message, help);
        };
        let dotted = path.join(".");
        let (message, help) = if message.starts_with("unknown field ") {
            (format!("unknown key `{dotted}`"), Some(help_for_unknown_key(path, message)))
        } else {
            let (what, expectation) = split_expectation(message);
            let default = reference::default_of(path).map(|value| format!("the default is {value}"));
            let help = match suggestion(message) {
                Some(name) => format!("did you mean {name:?}?"),
                None => [expectation, default].into_iter().flatten().collect::<Vec<_>>().join("; "),
            };
            (format!("`{dotted}`: {what}"), (!help.is_empty()).then_some(help))
        };
        Self::at(text, span, key, message, help)
    }

    fn at(text: &str, span: Option<Range<usize>>, key: Option<String>, message: String, help: Option<String>) -> Self {
        let span = span.unwrap_or(0..0);
        let before = text.get(..span.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let source_line = text.get(line_start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        // Tabs would put the underline elsewhere than the reader sees it.
        let source_line = source_line.replace('\t', " ");
        let column = before.get(line_start..).map_or(0, |part| part.chars().count()) + 1;
        let spanned = text.get(span).and_then(|part| part.lines().next()).map_or(0, |part| part.chars().count());
        Self { line: before.matches('\n').count() + 1, column, key, message, help, width: spanned.max(1), source_line }
    }
}

/// Splits "…, expected …" (serde) or "…: write …" (the stages) into what is wrong and what to write, in words for people who do not write Rust.
fn split_expectation(message: &str) -> (String, Option<String>) {
    let message = message.replacen("unknown variant", "unknown choice", 1);
    if let Some((what, instead)) = message.rsplit_once(": write ") {
        return (what.to_owned(), Some(format!("write {instead}")));
    }
    match message.rsplit_once(", expected ") {
        Some((what, expected)) => {
            let expected = match expected {
                "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number",
                "a boolean" => "true or false",
                "path string" => "a path in quotes",
                other => other,
            };
            (what.to_owned(), Some(format!("expected {expected}")))
        }
        None => (message, None),
    }
}

/// The name among those serde would have taken that is closest to what was written.
fn suggestion(message: &str) -> Option<String> {
    let (written, expected) = message.split_once("expected ")?;
    if !written.starts_with("unknown ") {
        return None;
    }
    let written = quoted(written).next()?;
    nearest(written, quoted(expected)).map(str::to_owned)
}

/// Says where an unknown key belongs, or what else the table takes.
fn help_for_unknown_key(path: &[String], message: &str) -> String {
    if let Some(name) = suggestion(message) {
        return format!("did you mean `{name}`?");
    }
    let written = path.last().map(String::as_str).unwrap_or_default();
    let sections = reference::sections();
    if let Some(section) = sections.iter().find(|section| section.entries.iter().any(|entry| entry.key == written)) {
        return format!("`{written}` belongs to [{}]", section.name);
    }
    let names: Vec<_> = match message.split_once("expected ") {
        Some((_, expected)) => quoted(expected).collect(),
        None => sections.iter().map(|section: &Section| section.name.as_str()).collect(),
    };
    format!("known here: {}; `egresswatch config` prints them all", names.join(", "))
}

/// The candidate most like `written`, if any is alike.
fn nearest<'a>(written: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::jaro_winkler(written, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}
