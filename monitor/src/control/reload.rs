//! Asking a running daemon to take its files in anew.

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// Why a reload happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// SIGHUP.
    Signal,
    /// A file is not what it was.
    FileChanged,
    /// `egresswatch reload`.
    Command,
    /// A list was fetched, or does not count any more.
    ListRefreshed,
}

impl Trigger {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Signal, Self::FileChanged, Self::Command, Self::ListRefreshed];

    /// Stable name.
    #[must_use]
    pub const fn as_token(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::FileChanged => "file_changed",
            Self::Command => "command",
            Self::ListRefreshed => "list_refreshed",
        }
    }
}

/// Asks for a reload.
#[derive(Debug)]
pub struct ReloadRequest {
    /// Why.
    pub trigger: Trigger,
    /// Who wants to know how it went.
    pub answer: Option<oneshot::Sender<ReloadAnswer>>,
}

/// How a reload went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum ReloadAnswer {
    /// The new policy is in force.
    Done {
        /// Its number: 1 is that of the start.
        generation: u64,
        /// Lists whose matches alert.
        enabled_lists: u64,
        /// Flagged prefixes that found no room in the kernel.
        left_out: usize,
        /// Settings that differ and wait for a restart.
        needs_restart: Vec<String>,
        /// What is wrong with lists of `[lists]`, in sentences. The rest of them is in force.
        #[serde(default)]
        list_troubles: Vec<String>,
    },
    /// The old policy stays in force.
    Refused {
        /// Everything that is wrong.
        error: String,
        /// It is a file that is wrong, and not the monitor.
        is_configuration: bool,
    },
}
