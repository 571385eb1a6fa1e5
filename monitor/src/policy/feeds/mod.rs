//! Lists of the user's in the forms in which others publish them. This part of the policy reads files and fetches; the
//! rest does no I/O.
//!
//! A bad line does not sink a list: it is counted, and the first ones are told with their place. A source that cannot be
//! read, or that holds less than half of what it did, leaves the last good one in force, which [`keep`] has put into the
//! state directory. What [`fetch`] fetches lies there too and is read as a file is, so that a restart needs no network.

mod check;
mod collect;
mod config;
mod fetch;
mod json;
mod load;
mod manifest;
mod text;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use check::{connect, findings};
pub use collect::{BAD_LINES_TOLD, BadLine};
pub use config::{Config, Day, ListConfig, Source};
pub use fetch::{Outcome, due, fetch};
pub use load::{Feed, State, keep, load};

/// Form of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// By the content.
    #[default]
    Auto,
    /// Lines of addresses, prefixes, ranges, `AS` numbers, domains, hosts entries or `AdBlock` rules.
    Lines,
    /// Lines of AS numbers, with or without `AS`.
    Asns,
    /// Lines of country codes.
    Countries,
    /// Lines of names, or parts of names, of organisations.
    Organisations,
    /// A table with a header, as abuse.ch publishes them.
    Csv,
    /// Spamhaus DROP, STIX 2.1, MISP.
    Json,
}

#[cfg(test)]
mod tests;
