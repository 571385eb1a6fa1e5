//! Settings of the spool.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::backoff::Backoff;
use crate::units::ByteSize;

/// Least size of an output's queue: some hundred records.
const MAX_BYTES_MIN: ByteSize = ByteSize::from_bytes(1 << 20);

/// Settings of the spool: `[spool]` in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Directory of the spool, in which outputs named in `[outputs]` keep what their receivers have not confirmed. It is
    /// made where it is missing, and nothing is written to it while no such output exists.
    #[serde(deserialize_with = "absolute_path")]
    pub directory: PathBuf,
    /// Most bytes of records that one output keeps. The disk space can be twice that.
    #[serde(deserialize_with = "max_bytes")]
    #[schemars(with = "String")]
    pub max_bytes: ByteSize,
    /// What an output drops when it keeps that much: "`drop_oldest`" or "`drop_newest`". It is always counted and told in a
    /// loss record.
    pub when_full: WhenFull,
    /// Pauses between the tries of an output whose receiver takes nothing: a random time up to `first`, then up to twice
    /// that, and so on up to `longest`, for as long as it takes.
    #[serde(deserialize_with = "backoff")]
    pub retry: Backoff,
}

/// What one output keeps, over `[spool]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OwnBounds {
    /// `max_bytes` of this output.
    #[serde(deserialize_with = "own_max_bytes", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub max_bytes: Option<ByteSize>,
    /// `when_full` of this output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when_full: Option<WhenFull>,
}

impl OwnBounds {
    /// Whether `[spool]` holds.
    #[must_use]
    pub fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

/// How much one output keeps, and what it drops then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Most bytes.
    pub max_bytes: u64,
    /// What is dropped.
    pub when_full: WhenFull,
}

impl Config {
    /// The bounds of an output that has `own` ones.
    #[must_use]
    pub fn bounds(&self, own: OwnBounds) -> Bounds {
        Bounds {
            max_bytes: own.max_bytes.unwrap_or(self.max_bytes).bytes(),
            when_full: own.when_full.unwrap_or(self.when_full),
        }
    }
}

/// What an output drops when its queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// The record that waits longest.
    #[default]
    DropOldest,
    /// The record that comes.
    DropNewest,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("/var/lib/egresswatch/spool"),
            max_bytes: ByteSize::from_bytes(256 << 20),
            when_full: WhenFull::DropOldest,
            retry: Backoff::default(),
        }
    }
}

fn absolute_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    if path.is_absolute() {
        return Ok(path);
    }
    Err(D::Error::custom(format!("`{}` is relative: write an absolute path", path.display())))
}

fn max_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    let size = ByteSize::deserialize(deserializer)?;
    if size < MAX_BYTES_MIN {
        return Err(D::Error::custom(format!("{size} is too small for a spool: write {MAX_BYTES_MIN} or more")));
    }
    Ok(size)
}

fn own_max_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ByteSize>, D::Error> {
    max_bytes(deserializer).map(Some)
}

fn backoff<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Backoff, D::Error> {
    let Backoff { first, longest } = Backoff::deserialize(deserializer)?;
    Backoff::new(first, longest).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn settings_are_read_and_what_is_wrong_is_said() {
        assert_eq!(toml::from_str::<Config>("").expect("defaults"), Config::default());
        for (text, complaint) in [
            ("directory = \"spool\"", "`spool` is relative: write an absolute path"),
            ("max_bytes = \"4KiB\"", "4KiB is too small for a spool: write 1MiB or more"),
            ("when_full = \"block\"", "unknown variant `block`"),
            ("retry = { first = \"0s\" }", "a first pause of 0s"),
            ("retry = { first = \"5s\", longest = \"1s\" }", "shorter than the first"),
        ] {
            let error = toml::from_str::<Config>(text).expect_err(text).to_string();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }
}
