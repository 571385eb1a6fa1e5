//! What is wrong with rule files.

use std::{fmt, ops::Range};

use serde::Serialize;

/// One mistake in a rule file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleProblem {
    /// The file.
    pub file: String,
    /// Line, from 1; 0 where the file could not be read.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// Everything that is wrong with the rule files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct RuleErrors {
    /// In the order of files and lines.
    pub problems: Vec<RuleProblem>,
}

impl fmt::Display for RuleErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            fmt::Display::fmt(problem, formatter)?;
        }
        Ok(())
    }
}

impl fmt::Display for RuleProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, message, help } = self;
        if *line == 0 {
            write!(formatter, "{file}: {message}")?;
        } else {
            write!(formatter, "{file}:{line}:{column}: {message}")?;
        }
        help.as_ref().map_or(Ok(()), |help| write!(formatter, "\n  help: {help}"))
    }
}

/// What is most like what was written, if anything is.
pub(super) fn nearest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    // Letters that changed places make short words quite unlike by the one measure, and long ones by the other.
    let is_slip = |known: &str| written.len() > 2 && strsim::osa_distance(written, known) == 1;
    let likeness = |known: &str| strsim::jaro_winkler(written, known).max(if is_slip(known) { 0.9 } else { 0.0 });
    let near = known.iter().map(|known| (likeness(known), *known));
    near.filter(|near| near.0 > 0.8).max_by(|left, right| left.0.total_cmp(&right.0)).map(|(_, known)| known)
}

/// A file's text, which turns byte offsets into places and collects what is wrong.
pub(super) struct Place<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
    pub(super) problems: Vec<RuleProblem>,
}

impl<'a> Place<'a> {
    pub(super) const fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, problems: Vec::new() }
    }

    pub(super) fn add(&mut self, offset: usize, message: impl Into<String>, help: impl Into<Option<String>>) {
        let problem = self.problem(offset, message, help);
        self.problems.push(problem);
    }

    /// A mistake at a byte.
    pub(super) fn problem(
        &self,
        offset: usize,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) -> RuleProblem {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        RuleProblem {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).map_or(0, |part| part.chars().count()) + 1,
            message: message.into(),
            help: help.into(),
        }
    }

    /// The line of a byte, from 1.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.text.get(..offset).unwrap_or(self.text).matches('\n').count() + 1
    }

    /// Where the content of a string literal begins, if it stands there letter by letter, without escapes.
    pub(super) fn literal_start(&self, span: &Range<usize>, value: &str) -> Option<usize> {
        let literal = self.text.get(span.clone())?;
        let at = literal.find(value)?;
        (at <= 4).then_some(span.start + at)
    }
}
