//! Settings of the outputs.

use std::{num::NonZeroU32, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

/// Most records that a queue may hold: at some 4 kB each, 4 GB.
const QUEUE_MAX_RECORDS: u32 = 1 << 20;

/// Settings of the outputs: `[output]` in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Form of standard output: "human" lines, "json" lines, or "auto": human on a terminal and JSON elsewhere.
    pub format: Format,
    /// Alerts, losses and notices that wait for an output that cannot take them now. They are never dropped: a full
    /// queue holds up the pipeline, whose own losses the kernel side counts. A record takes about 4 kB.
    #[serde(deserialize_with = "queue_records")]
    pub alert_queue_records: NonZeroU32,
    /// Flow records that wait for an output. What finds the queue full is dropped, counted, and reported as a loss.
    #[serde(deserialize_with = "queue_records")]
    pub flow_queue_records: NonZeroU32,
    /// File to append records to as JSON Lines, besides standard output. Its directory must exist. SIGHUP reopens it.
    #[serde(deserialize_with = "absolute_path")]
    #[schemars(example = "/var/log/egresswatch/events.jsonl")]
    pub file: Option<PathBuf>,
}

/// Form of standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Human on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// Lines for people.
    Human,
    /// JSON Lines.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            format: Format::Auto,
            alert_queue_records: NonZeroU32::MIN.saturating_add(1_023),
            flow_queue_records: NonZeroU32::MIN.saturating_add(4_095),
            file: None,
        }
    }
}

fn queue_records<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NonZeroU32, D::Error> {
    let records = u32::deserialize(deserializer)?;
    NonZeroU32::new(records)
        .filter(|records| records.get() <= QUEUE_MAX_RECORDS)
        .ok_or_else(|| D::Error::custom(format!("a queue holds 1 to {QUEUE_MAX_RECORDS} records, not {records}")))
}

fn absolute_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    match Option::<PathBuf>::deserialize(deserializer)? {
        Some(path) if !path.is_absolute() => {
            Err(D::Error::custom(format!("`{}` is relative: write an absolute path", path.display())))
        }
        path => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, Format};

    #[test]
    fn settings_are_read_and_what_is_wrong_is_said() {
        let config: Config = toml::from_str("format = \"json\"\nflow_queue_records = 1").expect("good settings");
        assert_eq!((config.format, config.flow_queue_records.get()), (Format::Json, 1));
        assert_eq!(config.alert_queue_records.get(), 1_024);
        for (text, complaint) in [
            ("flow_queue_records = 0", "a queue holds 1 to 1048576 records, not 0"),
            ("alert_queue_records = 2000000", "a queue holds 1 to 1048576 records, not 2000000"),
            ("file = \"events.jsonl\"", "`events.jsonl` is relative: write an absolute path"),
            ("format = \"xml\"", "unknown variant `xml`"),
            ("fiel = \"/x\"", "unknown field `fiel`"),
        ] {
            let error = toml::from_str::<Config>(text).expect_err(text).to_string();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }
}
