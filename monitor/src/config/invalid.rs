//! What is wrong with a configuration file, as a person or a machine wants to be told.

use std::{fmt, ops::Range};

use serde::Serialize;

use toml::de::DeTable;

use super::{
    hidden,
    reference::{self, Section},
};
use crate::mistakes::{line_and_prefix, nearest};

/// Problems that [`Invalid::brief`] tells.
const BRIEF_MAX: usize = 5;
/// Keys of every output, beside those of its type.
const OUTPUT_KEYS: [&str; 4] = ["type", "format", "filter", "spool"];

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
    /// What of the line can be shown. Nothing that could be a secret is kept here.
    #[serde(skip)]
    snippet: Option<Snippet>,
}

/// A line up to the end of what is wrong in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Snippet {
    text: String,
    /// Characters to underline.
    width: usize,
}

/// How much of the line a message may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// The key with its value, which is of a known setting that is no secret.
    Value,
    /// The key alone.
    Key,
    /// The line if it is the header of a table.
    Header,
    Nothing,
}

impl Invalid {
    pub(super) fn new(file: &str, problems: Vec<Problem>) -> Self {
        Self { file: file.to_owned(), problems }
    }

    /// What is wrong and where, in one line: for records, which are no place for lines of the file.
    #[must_use]
    pub fn brief(&self) -> String {
        let place =
            |problem: &Problem| format!("{}:{}:{}: {}", self.file, problem.line, problem.column, problem.message);
        let mut told: Vec<_> = self.problems.iter().take(BRIEF_MAX).map(place).collect();
        match self.problems.len().saturating_sub(BRIEF_MAX) {
            0 => {}
            1 => told.push("and one more mistake".to_owned()),
            more => told.push(format!("and {more} more mistakes")),
        }
        told.join("; ")
    }
}

impl std::error::Error for Invalid {}

impl fmt::Display for Invalid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n\n")?;
            }
            let Problem { line, column, message, snippet, .. } = problem;
            let gutter = " ".repeat(line.to_string().len());
            write!(formatter, "{}:{line}:{column}: {message}", self.file)?;
            if let Some(Snippet { text, width }) = snippet {
                write!(formatter, "\n{gutter} |\n{line} | {text}\n")?;
                write!(formatter, "{gutter} | {}{}", " ".repeat(column - 1), "^".repeat(*width))?;
            }
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
        let shown = if message.starts_with("duplicate key") { Shown::Key } else { Shown::Header };
        let (message, help) = split_expectation(message);
        Self::at(text, span, None, message, help, shown)
    }

    /// TOML, but no setting: `message` is serde's, `path` the entry of `document` that it is about.
    pub(super) fn value(
        text: &str,
        document: &DeTable<'_>,
        path: Option<&[String]>,
        span: Option<Range<usize>>,
        message: &str,
    ) -> Self {
        let key = path.map(|path| path.join("."));
        let is_hidden = hidden::may_be_secret(path);
        let redacted = if is_hidden { hidden::without_values(message, document, path) } else { message.to_owned() };
        let shown = match () {
            () if is_hidden => Shown::Nothing,
            () if message.starts_with("unknown field ") => Shown::Key,
            () => Shown::Value,
        };
        let (Some(path), Some(dotted)) = (path, &key) else {
            let (message, help) = split_expectation(&redacted);
            return Self::at(text, span, key, message, help, shown);
        };
        let (message, help) = if message.starts_with("unknown field ") {
            (format!("unknown key `{dotted}`"), Some(help_for_unknown_key(path, message)))
        } else {
            let (what, expectation) = split_expectation(&redacted);
            let default = reference::default_of(path).map(|value| format!("the default is {value}"));
            let help = match suggestion(message) {
                Some(name) => format!("did you mean {name:?}?"),
                None => [expectation, default].into_iter().flatten().collect::<Vec<_>>().join("; "),
            };
            (format!("`{dotted}`: {what}"), (!help.is_empty()).then_some(help))
        };
        Self::at(text, span, key, message, help, shown)
    }

    fn at(
        text: &str,
        span: Option<Range<usize>>,
        key: Option<String>,
        message: String,
        help: Option<String>,
        shown: Shown,
    ) -> Self {
        let span = span.unwrap_or(0..0);
        let (line, prefix) = line_and_prefix(text, span.start);
        let spanned = text.get(span).and_then(|part| part.lines().next()).unwrap_or_default();
        Self {
            line,
            column: prefix.chars().count() + 1,
            key,
            message,
            help,
            snippet: Snippet::new(prefix, spanned, shown),
        }
    }
}

impl Snippet {
    /// The line from its beginning to the end of what is wrong. What comes after it is nobody's business, nor are other
    /// values before it.
    fn new(prefix: &str, spanned: &str, shown: Shown) -> Option<Self> {
        let is_plain = |text: &str| {
            text.chars().all(|letter| {
                letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.' | '[' | ']' | ' ' | '\t')
            })
        };
        let is_shown = match shown {
            Shown::Value => prefix.matches('=').count() <= 1 && !spanned.contains('{'),
            Shown::Key => is_plain(prefix) && is_plain(spanned),
            Shown::Header => prefix.trim_start().starts_with('[') && is_plain(prefix) && is_plain(spanned),
            Shown::Nothing => false,
        };
        // Tabs would put the underline elsewhere than the reader sees it.
        is_shown.then(|| Self {
            text: format!("{prefix}{spanned}").replace('\t', " "),
            width: spanned.chars().count().max(1),
        })
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
    let written = path.last().map(String::as_str).unwrap_or_default();
    let known = message.split_once("expected ").map(|(_, expected)| expected).unwrap_or_default();
    if let Some(name) = nearest(written, quoted(known).chain(keys_of_every(path).iter().copied())) {
        return format!("did you mean `{name}`?");
    }
    let sections = reference::sections();
    if let Some(section) = sections.iter().find(|section| section.entries.iter().any(|entry| entry.key == written)) {
        return format!("`{written}` belongs to [{}]", section.name);
    }
    let mut names: Vec<_> = match message.split_once("expected ") {
        Some((_, expected)) => quoted(expected).collect(),
        None => sections.iter().map(|section: &Section| section.name.as_str()).collect(),
    };
    names.extend(keys_of_every(path));
    // The default file shows no more than one example of a named table.
    let page = if hidden::may_be_secret(Some(path)) && path.len() > 2 {
        "docs/config.md describes them all"
    } else {
        "`egresswatch config` prints them all"
    };
    format!("known here: {}; {page}", names.join(", "))
}

/// Keys that go with those that serde knows at `path`: an output's, whatever its type is.
fn keys_of_every(path: &[String]) -> &'static [&'static str] {
    match path {
        [table, _, _] if table == "outputs" => &OUTPUT_KEYS,
        _ => &[],
    }
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}
