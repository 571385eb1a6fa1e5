//! What of this part can be configured, and how sources are written.

use std::{collections::BTreeSet, fmt, path::PathBuf, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::DEFAULT_TABLE;
use crate::{
    ownership::import::Fact,
    sink::http::HttpUrl,
    units::{ByteSize, Duration},
};

/// Where ownership data are and come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The file that `egresswatch data import` and `update` write. While it exists it is in force instead of the embedded
    /// table; a change of it is taken in at once.
    #[serde(deserialize_with = "absolute")]
    pub table: PathBuf,
    /// Where `egresswatch data update` takes data from: absolute paths and addresses with https://, in the order in which
    /// they count. docs/ownership-data.md describes what can be read. Only that command fetches them, never the monitor.
    #[schemars(with = "Vec<String>")]
    pub sources: Vec<Source>,
    /// Most bytes of one download.
    #[schemars(with = "String")]
    pub max_download: ByteSize,
    /// Most time for one download.
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// File with the certificates (PEM) of the authorities that the servers' certificates must come from. The system's
    /// authorities if unset.
    #[serde(deserialize_with = "absolute_option", skip_serializing_if = "Option::is_none")]
    #[schemars(example = "/etc/egresswatch/tls/ca.pem")]
    pub ca: Option<PathBuf>,
    /// The proxy to fetch through. None is used if it is not set here, whatever the environment says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = "http://proxy.example.com:3128")]
    pub proxy: Option<HttpUrl>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            table: DEFAULT_TABLE.into(),
            sources: Vec::new(),
            max_download: ByteSize::from_bytes(256 << 20),
            timeout: Duration::from_secs(600),
            ca: None,
            proxy: None,
        }
    }
}

fn absolute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    if path.is_absolute() {
        return Ok(path);
    }
    Err(D::Error::custom(format!("`{}` is relative: write an absolute path", path.display())))
}

fn absolute_option<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    absolute(deserializer).map(Some)
}

/// A file or an address, and what to take from it: `ip2asn.tsv.gz`, or `asn,organisation=GeoLite2-ASN.mmdb`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What to take; everything that the file says if empty.
    pub facts: BTreeSet<Fact>,
    /// Where it is.
    pub place: Place,
}

/// Where data are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file.
    File(PathBuf),
    /// An address.
    Url(HttpUrl),
}

impl fmt::Display for Place {
    /// Without the query of an address, which may hold a key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(formatter, "{}", path.display()),
            Self::Url(url) => formatter.write_str(url.as_str().split('?').next().unwrap_or_default()),
        }
    }
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (facts, place) = match text.split_once('=') {
            Some((facts, place)) => match facts.split(',').map(str::parse).collect::<Result<BTreeSet<Fact>, ()>>() {
                Ok(facts) => (facts, place),
                // An equals sign of a path or an address.
                Err(()) => (BTreeSet::new(), text),
            },
            None => (BTreeSet::new(), text),
        };
        if place.is_empty() {
            return Err("a source is a file or an address, after `asn=` and the like or alone".to_owned());
        }
        let is_url = place.starts_with("http://") || place.starts_with("https://");
        let place = if is_url { Place::Url(place.parse()?) } else { Place::File(place.into()) };
        Ok(Self { facts, place })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, fact) in self.facts.iter().enumerate() {
            write!(formatter, "{}{fact}", if position == 0 { "" } else { "," })?;
        }
        if !self.facts.is_empty() {
            formatter.write_str("=")?;
        }
        match &self.place {
            Place::File(path) => write!(formatter, "{}", path.display()),
            Place::Url(url) => formatter.write_str(url.as_str()),
        }
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source: Self = String::deserialize(deserializer)?.parse().map_err(D::Error::custom)?;
        match &source.place {
            Place::File(path) if !path.is_absolute() => Err(D::Error::custom(format!(
                "`{}` is relative: write an absolute path, or an address with https://",
                path.display()
            ))),
            _ => Ok(source),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
