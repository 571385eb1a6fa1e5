//! Why there is no configuration.

use std::{fmt, path::PathBuf};

use super::Invalid;
use crate::{
    data,
    policy::{ListError, rules::RuleErrors},
    sink::check::Finding,
};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file says something that is no configuration.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A list file cannot be read.
    #[error("cannot read the list file {} of policy.files: {source}", path.display())]
    UnreadableList {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A list is wrong, or policy.enable and policy.disable name none.
    #[error(transparent)]
    List(#[from] ListError),
    /// Rule files cannot be read.
    #[error("cannot read {} of policy.rules: {source}", path.display())]
    UnreadableRules {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Rules are wrong, or `policy.enable_rules` and `policy.disable_rules` name none.
    #[error(transparent)]
    Rules(#[from] RuleErrors),
    /// The imported ownership data cannot be used.
    #[error(transparent)]
    Data(#[from] data::LoadError),
    /// A list of `[lists]` gives nothing.
    #[error("{0}")]
    EmptyList(String),
    /// What the settings name is not there, or outputs will fail.
    #[error("{}", lines(.0))]
    Outputs(Vec<Placed>),
    /// Several of these.
    #[error("{}", lines(.0))]
    Several(Vec<Error>),
}

/// A finding with its place in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Placed {
    /// The file; `None` where the setting is a default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line, from 1; 0 where the setting is a default.
    pub line: usize,
    /// Column in characters, from 1; 0 where the setting is a default.
    pub column: usize,
    /// What is wrong.
    #[serde(flatten)]
    pub finding: Finding,
}

impl fmt::Display for Placed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self { file: Some(file), line, column, .. } = self {
            write!(formatter, "{file}:{line}:{column}: ")?;
        }
        self.finding.fmt(formatter)
    }
}

fn lines<T: ToString>(parts: &[T]) -> String {
    parts.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl Error {
    /// Itself, or what it consists of.
    #[must_use]
    pub fn parts(&self) -> Vec<&Self> {
        match self {
            Self::Several(parts) => parts.iter().collect(),
            one => vec![one],
        }
    }

    /// What is wrong and where, in one line, without lines of files and without advice: for records and figures.
    #[must_use]
    pub fn brief(&self) -> String {
        match self {
            Self::Invalid(invalid) => invalid.brief(),
            Self::Several(parts) => parts.iter().map(Self::brief).collect::<Vec<_>>().join("; "),
            other => {
                let text = other.to_string();
                let said = text.lines().map(str::trim).filter(|line| !line.starts_with("help: "));
                said.collect::<Vec<_>>().join("; ")
            }
        }
    }

    /// One of them, or all of them as one; `None` if there are none.
    pub(super) fn all(mut errors: Vec<Self>) -> Option<Self> {
        match errors.len() {
            0 => None,
            1 => errors.pop(),
            _ => Some(Self::Several(errors)),
        }
    }
}
