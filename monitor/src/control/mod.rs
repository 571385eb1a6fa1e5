//! The Unix socket through which other processes of this host ask a running daemon.
//!
//! The protocol is one line each way round: a client writes the name of a [`Request`] and a newline; the daemon
//! answers with JSON Lines and closes. The socket's mode is the access control: it belongs to root and nobody else.

mod client;
mod reload;
mod server;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

pub use client::{ClientError, ask};
pub use reload::{ReloadAnswer, ReloadRequest, Trigger};
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
    /// Take configuration, lists and data in anew; the answer is one [`ReloadAnswer`].
    Reload,
}

impl Request {
    /// Every request.
    pub const ALL: [Self; 2] = [Self::Flows, Self::Reload];

    /// The word that asks for it.
    #[must_use]
    pub const fn as_token(self) -> &'static str {
        match self {
            Self::Flows => "flows",
            Self::Reload => "reload",
        }
    }

    /// How long the answer may take: lists of millions of entries are not read in a moment.
    const fn patience(self) -> Duration {
        match self {
            Self::Flows => Duration::from_secs(10),
            Self::Reload => Duration::from_mins(2),
        }
    }

    /// From the word that asks for it.
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|request| request.as_token() == token)
    }
}
