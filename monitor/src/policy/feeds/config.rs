//! What can be configured of a list of the user's.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::{super::value, Format};
use crate::{
    policy::{Action, Severity},
    sink::{
        http::{Headers, HttpUrl},
        tls::TlsConfig,
    },
    units::{ByteSize, Duration},
};

/// Fetching more often than this is refused: nobody who publishes a list bears it.
const REFRESH_MIN: std::time::Duration = std::time::Duration::from_mins(1);

/// The tables `[lists.NAME]`, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Config(pub BTreeMap<String, ListConfig>);

impl Config {
    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Config {
    /// The files and directories that are read.
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.0.values().filter(|list| list.enabled).filter_map(|list| match &list.source {
            Source::Path(path) => Some(path),
            Source::Url(_) => None,
        })
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let lists = BTreeMap::<String, ListConfig>::deserialize(deserializer)?;
        lists.keys().try_for_each(|name| value::list_id(name).map(drop)).map_err(de::Error::custom)?;
        Ok(Self(lists))
    }
}

/// A list of your own: where it is, and what its matches mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListConfig {
    /// A file, a directory whose files are read together, or an address with https:// or http:// from which the list is
    /// fetched. Nothing is fetched for a list that is switched off. Over http:// whoever is on the way can change a list.
    #[schemars(example = "https://lists.example.org/own.txt")]
    pub source: Source,
    /// Form of the source: "lines" (addresses, prefixes, ranges, AS numbers, domains, hosts files, `AdBlock` rules), "csv" (as
    /// of abuse.ch), "json" (Spamhaus DROP, STIX 2.1, MISP), or "auto", which tells by the
    /// content. Lines of bare AS numbers, country codes or names of
    /// organisations need "asns", "countries" or "organisations".
    #[serde(default)]
    pub format: Format,
    /// Title for people; the list's name if left out.
    pub title: Option<String>,
    /// Legal act behind the list; left out for a topical one.
    pub legal_basis: Option<String>,
    /// What a match means and what it does not mean.
    pub about: Option<String>,
    /// Date up to which the list was read; what the source says of itself if left out, else unknown.
    #[schemars(with = "Option<String>")]
    pub as_of: Option<Day>,
    /// Severity of its matches.
    #[serde(default = "medium")]
    #[schemars(with = "String")]
    pub severity: Severity,
    /// Whether its matches count.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// "alert", or "ignore" to spare matches of other lists: by address what it holds by address, by name what it holds
    /// by name.
    #[serde(default)]
    pub action: Action,
    /// With "ignore": ids of the lists whose matches are spared; none means all of your own, and never an embedded one.
    #[serde(default)]
    pub applies_to: Vec<String>,
    /// How often a list with an address is fetched, "1m" or more. After a failure it is tried again from one minute on,
    /// with pauses that double up to this. Lists in files are read anew when they change.
    #[serde(default = "refresh", deserialize_with = "refresh_interval")]
    #[schemars(with = "String")]
    pub refresh: Duration,
    /// The list stops to count when it has not been good for so long: an address did not give or confirm it, a file was not
    /// changed. It is told when that happens. Unset: it counts whatever its age is.
    #[schemars(with = "Option<String>", example = "30d")]
    pub expires: Option<Duration>,
    /// Last day on which the list counts, such as "2026-12-31".
    #[schemars(with = "Option<String>")]
    pub valid_until: Option<Day>,
    /// Further headers for an address, such as a key: a text, or { file = "/path" }, { env = "NAME" } or
    /// { credential = "name" } for a secret.
    #[serde(default, skip_serializing_if = "Headers::is_empty")]
    pub headers: Headers,
    /// How to trust the server of an address.
    #[serde(default)]
    pub tls: TlsConfig,
    /// The only proxy that is used for an address; none if unset.
    pub proxy: Option<HttpUrl>,
    /// A source that is larger is not read; one that is packed with gzip counts as it is unpacked.
    #[serde(default = "max_bytes")]
    #[schemars(with = "String")]
    pub max_bytes: ByteSize,
    /// Take the list even if it holds half as much as the last good one or less.
    #[serde(default)]
    pub accept_shrunk: bool,
}

/// Where a list is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Source {
    /// A file, or a directory.
    Path(PathBuf),
    /// It is fetched.
    Url(HttpUrl),
}

impl TryFrom<String> for Source {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.contains("://") {
            return text.parse().map(Self::Url);
        }
        let path = PathBuf::from(&text);
        if path.is_absolute() {
            Ok(Self::Path(path))
        } else {
            Err(format!("{text:?} is relative: write a path from /"))
        }
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        match source {
            Source::Path(path) => path.display().to_string(),
            Source::Url(url) => url.as_str().to_owned(),
        }
    }
}

/// For people: an address without its query, which may be a key.
impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(formatter),
            Self::Url(url) => formatter.write_str(url.as_str().split('?').next().unwrap_or_default()),
        }
    }
}

fn refresh_interval<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let interval = Duration::deserialize(deserializer)?;
    if interval.get() < REFRESH_MIN {
        return Err(de::Error::custom(format!("{interval} is too often: write \"1m\" or more")));
    }
    Ok(interval)
}

const fn refresh() -> Duration {
    Duration::from_secs(86_400)
}

/// A calendar day in quotes or as a TOML date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Day(pub Date);

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = toml::Value::deserialize(deserializer)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let wrong = |_| de::Error::custom(format!("{text:?} is no date: write one such as \"2026-12-31\""));
        text.parse().map(Self).map_err(wrong)
    }
}

const fn medium() -> Severity {
    Severity::Medium
}

const fn yes() -> bool {
    true
}

const fn max_bytes() -> ByteSize {
    ByteSize::from_bytes(64 << 20)
}
