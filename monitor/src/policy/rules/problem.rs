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
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        self.problems.push(RuleProblem {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).map_or(0, |part| part.chars().count()) + 1,
            message: message.into(),
            help: help.into(),
        });
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
