//! What is wrong with rule files.

use std::{fmt, ops::Range};

use serde::Serialize;

use crate::mistakes::line_and_column;

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
    /// It is about a rule that is not there, unless it is in a file that cannot be read.
    #[serde(skip)]
    pub(crate) is_about_unknown_rule: bool,
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
        let Self { file, line, column, message, help, .. } = self;
        if *line == 0 {
            write!(formatter, "{file}: {message}")?;
        } else {
            write!(formatter, "{file}:{line}:{column}: {message}")?;
        }
        help.as_ref().map_or(Ok(()), |help| write!(formatter, "\n  help: {help}"))
    }
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
        let (line, column) = line_and_column(self.text, offset);
        RuleProblem {
            file: self.file.to_owned(),
            line,
            column,
            message: message.into(),
            help: help.into(),
            is_about_unknown_rule: false,
        }
    }

    /// The line of a byte, from 1.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        line_and_column(self.text, offset).0
    }

    /// Where a byte of a literal's value stands, with the value's beginning.
    pub(super) fn within(&self, begin: usize, value: &str, offset: usize) -> usize {
        let lines = value.get(..offset).unwrap_or_default().matches('\n').count();
        let first = value.lines().next().unwrap_or_default().len();
        let is_crlf = self.text.get(begin + first..).is_some_and(|rest| rest.starts_with("\r\n"));
        begin + offset + if is_crlf { lines } else { 0 }
    }

    /// Where the content of a string literal begins, if it stands there letter by letter, without escapes.
    pub(super) fn literal_start(&self, span: &Range<usize>, value: &str) -> Option<usize> {
        let literal = self.text.get(span.clone())?;
        // Three quotes and the end of a line, which TOML reads as one byte where it is two in the file.
        let first = value.lines().next().unwrap_or_default();
        let at = literal.find(first)?;
        (at <= 5).then_some(span.start + at)
    }
}
