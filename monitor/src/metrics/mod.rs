//! The monitor's own state, for Prometheus and for `egresswatch status`.
//!
//! The loop answers a question for a [`Snapshot`]; all else happens in the task that asks. Nothing is counted twice for the
//! sake of metrics: the figures are those that the stages keep anyway.

mod render;
mod server;
mod snapshot;

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use prometheus_client::metrics::histogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use render::{reference_markdown, text};
pub use server::{Server, ServerError};
pub use snapshot::{
    AlertCount, DegradationState, FlowFigures, ListState, LossFigure, OutputState, ProcessFigures, ReloadState,
    RingState, RuleAlertCount, RuleState, Snapshot, TableState, UntoldCount,
};

/// Settings of the metrics endpoint: `[metrics]` in the configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where `/metrics`, `/live` and `/ready` are served over HTTP: "unix:" and the absolute path of a socket, an address of
    /// this host with a port, such as "127.0.0.1:9477", which Prometheus needs, or "off". If not given, at the socket
    /// metrics.sock beside the control socket: /run/egresswatch/metrics.sock. Sockets are for root and root's group. What is
    /// served needs no password and names no process and no address.
    #[schemars(with = "Option<String>", example = "127.0.0.1:9477")]
    pub listen: Option<Listen>,
    /// Allow an address in `listen` that other hosts can reach.
    pub allow_remote: bool,
}

impl Config {
    /// What is wrong with `listen`, and what to write instead.
    #[must_use]
    pub fn mistake(&self) -> Option<String> {
        match &self.listen {
            Some(listen @ Listen::Tcp(address)) if !address.ip().to_canonical().is_loopback() && !self.allow_remote => {
                Some(format!(
                    "{listen} can be reached from other hosts: write an address of this host, or set metrics.allow_remote = \
                     true"
                ))
            }
            _ => None,
        }
    }
}

/// Name of the socket where nothing is configured, beside the control socket.
const DEFAULT_SOCKET_NAME: &str = "metrics.sock";

/// Where the endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Listen {
    /// Nowhere.
    Off,
    /// At an address and port.
    Tcp(SocketAddr),
    /// At a Unix socket.
    Unix(PathBuf),
}

/// Text that names no place to listen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no place to listen: write \"127.0.0.1:9477\", \"unix:\" and an absolute path, or \"off\"")]
pub struct ListenError(String);

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        let wrong = || ListenError(text.to_owned());
        match text.strip_prefix("unix:") {
            None if text == "off" => Ok(Self::Off),
            Some(path) => Some(PathBuf::from(path)).filter(|path| path.is_absolute()).map(Self::Unix).ok_or_else(wrong),
            None => text.parse().map(Self::Tcp).map_err(|_| wrong()),
        }
    }
}

impl TryFrom<String> for Listen {
    type Error = ListenError;

    fn try_from(text: String) -> Result<Self, ListenError> {
        text.parse()
    }
}

impl From<Listen> for String {
    fn from(listen: Listen) -> Self {
        listen.to_string()
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => formatter.write_str("off"),
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// What alerts' delays are counted in: from 1 ms, which a quiet host takes, to a minute.
#[must_use]
pub fn latency_histogram() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0])
}

#[cfg(test)]
mod tests;
