//! Outputs with a durable spool: `[outputs.NAME]` in the configuration file.
//!
//! A new transport is one line in `output_kinds!` and one arm in [`OutputKind::open`].

use std::{borrow::Cow, collections::BTreeMap, fmt, str::FromStr};

use jiff::tz::TimeZone;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{
    Encoding,
    delivery::AnyDelivery,
    elasticsearch::{self, ElasticsearchConfig},
    file::{FileConfig, FileDelivery},
    filter::Filter,
    journald::{Journald, JournaldConfig},
    kafka::{Kafka, KafkaConfig},
    loki::{self, LokiConfig},
    otlp::{self, OtlpConfig},
    splunk::{self, SplunkConfig},
    spool::OwnBounds,
    stdout::{Stdout, StdoutConfig},
    syslog::{Syslog, SyslogConfig},
    webhook::{self, WebhookConfig},
};
use crate::alert::{human::HumanFormat, input::Host};

/// Longest name of an output.
const NAME_MAX_BYTES: usize = 64;

/// Every output with a spool, by name.
pub type OutputsConfig = BTreeMap<OutputName, OutputConfig>;

/// Name of an output: what it is called in messages, loss records and metrics, and what its spool is kept under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct OutputName(String);

/// A text that cannot be the name of an output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot name an output: write 1 to {NAME_MAX_BYTES} lower-case letters, digits, `-` and `_`, such as \
     [outputs.siem]"
)]
pub struct OutputNameError(String);

/// One output with a spool.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct OutputConfig {
    /// Form of its records: "ecs" for JSON with the field names of the Elastic Common Schema, "ocsf" for JSON of the Open
    /// Cybersecurity Schema Framework, "cef" for lines of the Common Event Format, or "human" for lines for people, with date,
    /// time and offset from UTC. What waits when it is changed keeps the form that it has.
    #[serde(default)]
    pub format: RecordFormat,
    /// Which records it gets: `records` names kinds, `min_severity` the least severity of alerts, and `lists`, unless it
    /// is empty, the lists of which one must have matched.
    #[serde(default)]
    pub filter: Filter,
    /// Bounds of its own, over those of `[spool]`: `max_bytes`, and `when_full` ("`drop_oldest`" or "`drop_newest`").
    #[serde(default, skip_serializing_if = "OwnBounds::is_unset")]
    pub spool: OwnBounds,
    /// Where its records go.
    #[serde(flatten)]
    pub kind: OutputKind,
}

/// Form of an output's records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RecordFormat {
    /// JSON with the field names of the Elastic Common Schema.
    #[default]
    Ecs,
    /// JSON of the Open Cybersecurity Schema Framework.
    Ocsf,
    /// Lines of the Common Event Format.
    Cef,
    /// Lines for people.
    Human,
}

impl RecordFormat {
    /// How records are written in this form. What is kept may be read on another day, so times for people have their date.
    #[must_use]
    pub fn encoding(self) -> Encoding {
        match self {
            Self::Ecs => Encoding::JsonLines,
            Self::Ocsf => Encoding::Ocsf,
            Self::Cef => Encoding::Cef,
            Self::Human => Encoding::Human(HumanFormat::kept(TimeZone::system())),
        }
    }
}

/// Why an output cannot begin.
#[derive(Debug, thiserror::Error)]
#[error("outputs.{output}: {source}")]
pub struct OpenError {
    /// The output.
    pub output: OutputName,
    /// Why; it says what to do next.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Declares [`OutputKind`]: the word of `type`, the variant, its settings.
macro_rules! output_kinds {
    ($($(#[doc = $doc:literal])+ $token:literal => $variant:ident($config:ty),)+) => {
        /// Where an output's records go, with the settings of that transport.
        #[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
        #[serde(tag = "type")]
        pub enum OutputKind {
            $($(#[doc = $doc])+ #[serde(rename = $token)] $variant($config),)+
        }

        impl OutputKind {
            /// Every word that `type` takes.
            pub const TYPES: &[&str] = &[$($token),+];

            /// The word of `type`.
            #[must_use]
            pub const fn as_token(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $token,)+
                }
            }

            /// Reads the settings of the transport `token`; `None` if there is no such transport.
            fn read(token: &str, table: toml::Table) -> Option<Result<Self, toml::de::Error>> {
                match token {
                    $($token => Some(toml::Value::Table(table).try_into::<$config>().map(Self::$variant)),)+
                    _ => None,
                }
            }
        }
    };
}

output_kinds! {
    /// A file, with rotation.
    "file" => File(FileConfig),
    /// Standard output, in place of `[output]`. A record counts once whoever reads has been handed it, and in a file once it is
    /// on the disk; a reader that has gone costs nothing, and the next one gets what waits.
    "stdout" => Stdout(StdoutConfig),
    /// The journal of systemd, with fields of its own.
    "journald" => Journald(JournaldConfig),
    /// Syslog (RFC 5424) over a Unix socket, UDP, TCP or TLS.
    "syslog" => Syslog(SyslogConfig),
    /// Any receiver over HTTP.
    "webhook" => Webhook(WebhookConfig),
    /// Splunk's HTTP event collector.
    "splunk_hec" => SplunkHec(SplunkConfig),
    /// Elasticsearch and its kin, by `_bulk`.
    "elasticsearch" => Elasticsearch(ElasticsearchConfig),
    /// Grafana Loki.
    "loki" => Loki(LokiConfig),
    /// An OpenTelemetry collector, as logs over OTLP.
    "otlp" => Otlp(OtlpConfig),
    /// Kafka and what speaks its protocol.
    "kafka" => Kafka(KafkaConfig),
}

impl OutputKind {
    /// Makes the transport. It connects by itself later; what can be checked now is.
    pub fn open(&self, output: &OutputName, host: &Host) -> Result<Box<dyn AnyDelivery>, OpenError> {
        fn boxed<E: std::error::Error + Send + Sync + 'static>(
            output: &OutputName,
        ) -> impl FnOnce(E) -> OpenError + use<'_, E> {
            |error| OpenError { output: output.clone(), source: Box::new(error) }
        }
        Ok(match self {
            Self::File(config) => Box::new(FileDelivery::open(config).map_err(boxed(output))?),
            Self::Stdout(config) => Box::new(Stdout::open(config).map_err(boxed(output))?),
            Self::Journald(config) => Box::new(Journald::open(config)),
            Self::Syslog(config) => Box::new(Syslog::open(config).map_err(boxed(output))?),
            Self::Webhook(config) => Box::new(webhook::open(config).map_err(boxed(output))?),
            Self::SplunkHec(config) => Box::new(splunk::open(config, host).map_err(boxed(output))?),
            Self::Elasticsearch(config) => Box::new(elasticsearch::open(config).map_err(boxed(output))?),
            Self::Loki(config) => Box::new(loki::open(config, host).map_err(boxed(output))?),
            Self::Otlp(config) => Box::new(otlp::open(config, host).map_err(boxed(output))?),
            Self::Kafka(config) => Box::new(Kafka::open(config).map_err(boxed(output))?),
        })
    }
}

impl OutputName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OutputName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for OutputName {
    type Err = OutputNameError;

    fn from_str(text: &str) -> Result<Self, OutputNameError> {
        let is_fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        if text.is_empty() || text.len() > NAME_MAX_BYTES || !text.bytes().all(is_fit) {
            return Err(OutputNameError(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for OutputName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for OutputName {
    fn schema_name() -> Cow<'static, str> {
        "OutputName".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[a-z0-9_-]{1,64}$" })
    }
}

// By hand, because serde's own way to read a table with a tag loses which key a mistake is in. A message about a key
// begins with "in `key`: ", which the configuration's reader turns into its line.
impl<'de> Deserialize<'de> for OutputConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = toml::Table::deserialize(deserializer)?;
        let types = || OutputKind::TYPES.iter().map(|token| format!("`{token}`")).collect::<Vec<_>>().join(", ");
        let token = match table.remove("type") {
            Some(toml::Value::String(token)) => token,
            Some(_) => return Err(D::Error::custom(format!("in `type`: not a text, expected one of {}", types()))),
            None => {
                return Err(D::Error::custom(format!("the output has no type: write `type` as one of {}", types())));
            }
        };
        let format = take(&mut table, "format").map_err(D::Error::custom)?;
        let filter = take(&mut table, "filter").map_err(D::Error::custom)?;
        let spool = take(&mut table, "spool").map_err(D::Error::custom)?;
        match OutputKind::read(&token, table) {
            Some(Ok(OutputKind::Elasticsearch(_))) if matches!(format, RecordFormat::Cef | RecordFormat::Human) => {
                Err(D::Error::custom("in `format`: Elasticsearch takes nothing but JSON: write \"ecs\" or \"ocsf\""))
            }
            Some(Ok(kind)) => Ok(Self { format, filter, spool, kind }),
            Some(Err(error)) => Err(D::Error::custom(in_key(None, &error))),
            None => Err(D::Error::custom(format!("in `type`: unknown variant `{token}`, expected one of {}", types()))),
        }
    }
}

/// Takes the value of `key` out of `table`; its default if it is not there.
fn take<T: Default + serde::de::DeserializeOwned>(table: &mut toml::Table, key: &str) -> Result<T, String> {
    table
        .remove(key)
        .map_or_else(|| Ok(T::default()), |value| value.try_into().map_err(|error| in_key(Some(key), &error)))
}

/// The message of `error` behind the key that it is about.
fn in_key(key: Option<&str>, error: &toml::de::Error) -> String {
    let message = error.message();
    let text = error.to_string();
    let inner = text.lines().find_map(|line| line.strip_prefix("in `")?.strip_suffix('`'));
    let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    let path: Vec<&str> = [key, inner, unknown].into_iter().flatten().collect();
    if path.is_empty() { message.to_owned() } else { format!("in `{}`: {message}", path.join(".")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<OutputsConfig, toml::de::Error> {
        #[derive(Deserialize)]
        struct Document {
            outputs: OutputsConfig,
        }
        toml::from_str::<Document>(text).map(|document| document.outputs)
    }

    #[test]
    fn an_output_is_read_with_its_defaults() {
        let outputs = read("[outputs.disk]\ntype = \"file\"\npath = \"/var/log/x.jsonl\"\n").expect("good settings");
        let (name, output) = outputs.first_key_value().expect("one output");
        assert_eq!(name.as_str(), "disk");
        assert_eq!((output.format, &output.filter), (RecordFormat::Ecs, &Filter::default()));
        assert_eq!(output.kind.as_token(), "file");
        assert!(output.spool.is_unset());
        let written = toml::to_string(&BTreeMap::from([("outputs", &outputs)])).expect("it can be written");
        assert_eq!(read(&written).expect("what is written can be read"), outputs);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_key() {
        for (body, complaint) in [
            ("path = \"/x\"", "the output has no type: write `type` as one of `file`, `stdout`"),
            ("type = \"fiel\"", "in `type`: unknown variant `fiel`, expected one of `file`, `stdout`"),
            ("type = 3", "in `type`: not a text"),
            ("type = \"file\"", "missing field `path`"),
            ("type = \"file\"\npath = \"x\"", "in `path`: `x` is relative: write an absolute path"),
            ("type = \"file\"\npath = \"/x\"\ncolour = 1", "in `colour`: unknown field `colour`"),
            ("type = \"file\"\npath = \"/x\"\nformat = \"xml\"", "in `format`: unknown variant `xml`"),
            (
                "type = \"file\"\npath = \"/x\"\nfilter = { records = [\"alarm\"] }",
                "in `filter.records`: unknown variant",
            ),
            (
                "type = \"file\"\npath = \"/x\"\nspool = { max_bytes = \"9KiB\" }",
                "in `spool.max_bytes`: 9KiB is too small for a spool: write 1MiB or more",
            ),
            (
                "type = \"file\"\npath = \"/x\"\nspool = { when_full = \"block\" }",
                "in `spool.when_full`: unknown variant",
            ),
            ("type = \"file\"\npath = \"/x\"\nfilter = { record = [] }", "in `filter.record`: unknown field `record`"),
            (
                "type = \"elasticsearch\"\nurl = \"http://127.0.0.1:9200\"\nindex = \"x\"\nformat = \"cef\"",
                "in `format`: Elasticsearch takes nothing but JSON",
            ),
        ] {
            let error = read(&format!("[outputs.disk]\n{body}\n")).expect_err(body).to_string();
            assert!(error.contains(complaint), "{body}: {error}");
        }
        let error = read("[outputs.\"a b\"]\ntype = \"file\"\npath = \"/x\"\n").expect_err("a bad name").to_string();
        assert!(error.contains("\"a b\" cannot name an output: write 1 to 64"), "{error}");
    }
}
