//! The Unix socket through which other processes of this host ask a running daemon.
//!
//! The protocol is one line each way round: a client writes the name of a [`Request`] and a newline; the daemon
//! answers with JSON Lines and closes. The socket's mode is the access control: it belongs to root and nobody else.

mod alerts;
mod client;
mod reload;
mod server;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

pub use alerts::AlertLog;
pub use client::{ClientError, ask};
pub use reload::{ReloadAnswer, ReloadRequest, Trigger};
pub(crate) use server::listen;
pub use server::{Desk, Question, Server, ServerError};

/// Where the socket is unless the configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/egresswatch/control.sock";

/// Settings of the control socket: `[control]` in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether to answer at all.
    pub enabled: bool,
    /// Path of the socket. Only root can use it: what this host talks to is nobody else's business.
    #[serde(deserialize_with = "absolute_path")]
    pub socket: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self { enabled: true, socket: PathBuf::from(DEFAULT_SOCKET) }
    }
}

fn absolute_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    if Path::is_absolute(&path) {
        return Ok(path);
    }
    Err(D::Error::custom(format!("`{}` is relative: write an absolute path", path.display())))
}

/// What a client can ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The live flows, one record a line.
    Flows,
    /// The monitor's own state, one object: [`crate::metrics::Snapshot`].
    Status,
    /// The last alerts, one record a line, oldest first.
    Alerts,
    /// The same, and then each alert when it is told, until the client goes.
    FollowAlerts,
    /// Take configuration, lists and data in anew; the answer is one [`ReloadAnswer`].
    Reload,
}

impl Request {
    /// Every request.
    pub const ALL: [Self; 5] = [Self::Flows, Self::Status, Self::Alerts, Self::FollowAlerts, Self::Reload];

    /// The word that asks for it.
    #[must_use]
    pub const fn as_token(self) -> &'static str {
        match self {
            Self::Flows => "flows",
            Self::Status => "status",
            Self::Alerts => "alerts",
            Self::FollowAlerts => "follow-alerts",
            Self::Reload => "reload",
        }
    }

    /// How long the answer may take, or the next line of it: lists of millions of entries are not read in a moment, and
    /// the next alert may never come.
    const fn patience(self) -> Option<Duration> {
        match self {
            Self::Flows | Self::Status | Self::Alerts => Some(Duration::from_secs(10)),
            Self::Reload => Some(Duration::from_mins(2)),
            Self::FollowAlerts => None,
        }
    }

    /// From the word that asks for it.
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|request| request.as_token() == token)
    }
}
