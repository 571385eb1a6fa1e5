//! Settings that transports over HTTP share.

use std::{borrow::Cow, collections::BTreeMap, fmt, str::FromStr};

use reqwest::{
    Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};
use zeroize::Zeroizing;

use super::OpenError;
use crate::sink::{delivery::Failure, secret::Secret};

/// An address with `http` or `https`, without credentials in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl(Url);

impl HttpUrl {
    /// The whole address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it is `https`.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Scheme, host and port: what is safe to print.
    #[must_use]
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// `path` below this address; the address itself where `path` is empty.
    pub(super) fn under(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        if !path.is_empty() {
            let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
            url.set_path(&format!("{}{path}", self.0.path().trim_end_matches('/')));
            url.set_query(query);
        }
        url
    }
}

impl FromStr for HttpUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The text itself is not repeated: it may hold a secret.
        let url = Url::parse(text).map_err(|error| {
            format!("this is no address ({error}): write one such as \"https://siem.example.com:8088\"")
        })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("this begins with neither https nor http: write an address with https:// or http://".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("an address holds no user and password: write them as settings of their own".to_owned());
        }
        if url.fragment().is_some() {
            return Err("an address ends before `#`".to_owned());
        }
        Ok(Self(url))
    }
}

impl<'de> Deserialize<'de> for HttpUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for HttpUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl JsonSchema for HttpUrl {
    fn schema_name() -> Cow<'static, str> {
        "HttpUrl".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "uri" })
    }
}

/// A value that may be a secret: a text, or a secret's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum HeaderSetting {
    /// Written in the configuration.
    Text(String),
    /// Read at each request.
    Secret(Secret),
}

impl HeaderSetting {
    /// The value, read now.
    pub(crate) fn read(&self) -> Result<Zeroizing<String>, Failure> {
        match self {
            Self::Text(text) => Ok(Zeroizing::new(text.clone())),
            Self::Secret(secret) => secret.read().map_err(|error| super::slow(error.to_string())),
        }
    }
}

impl<'de> Deserialize<'de> for HeaderSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = HeaderSetting;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text, { file = \"/path\" }, { env = \"NAME\" } or { credential = \"name\" }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HeaderSetting, E> {
                Ok(HeaderSetting::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HeaderSetting, A::Error> {
                Secret::deserialize(MapAccessDeserializer::new(map)).map(HeaderSetting::Secret)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for HeaderSetting {
    fn schema_name() -> Cow<'static, str> {
        "TextOrSecret".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let secret = generator.subschema_for::<Secret>();
        json_schema!({ "description": "A text, or a secret's place.", "anyOf": [{ "type": "string" }, secret] })
    }
}

/// Further headers of each request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Headers(BTreeMap<String, HeaderSetting>);

/// Headers that are credentials whatever is in them.
const SECRET_HEADERS: [&str; 6] =
    ["authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "dd-api-key"];

/// Headers that the client makes.
const OWN_HEADERS: [&str; 4] = ["host", "content-length", "transfer-encoding", "connection"];

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let headers = BTreeMap::<String, HeaderSetting>::deserialize(deserializer)?;
        for (name, value) in &headers {
            let known = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| de::Error::custom(format!("`{name}` is no name of a header")))?;
            if OWN_HEADERS.contains(&known.as_str()) {
                return Err(de::Error::custom(format!("the header `{name}` is set by the client: leave it out")));
            }
            if let HeaderSetting::Text(text) = value {
                if SECRET_HEADERS.contains(&known.as_str()) {
                    return Err(de::Error::custom(format!(
                        "the header `{name}` is a secret: write {{ file = \"/path\" }}, {{ env = \"NAME\" }} or \
                         {{ credential = \"name\" }}"
                    )));
                }
                if HeaderValue::from_str(text).is_err() {
                    return Err(de::Error::custom(format!("the value of the header `{name}` is no header value")));
                }
            }
        }
        Ok(Self(headers))
    }
}

impl Headers {
    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that are secrets, by name.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.0.iter().filter_map(|(name, setting)| match setting {
            HeaderSetting::Secret(secret) => Some((name.as_str(), secret)),
            HeaderSetting::Text(_) => None,
        })
    }

    /// The headers with their secrets, read now.
    pub(crate) fn read(&self) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        for (name, setting) in &self.0 {
            let value = setting.read()?;
            let mut value = sensitive(&value).map_err(|error| super::slow(format!("header {name}: {error}")))?;
            value.set_sensitive(matches!(setting, HeaderSetting::Secret(_)));
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| super::slow(error.to_string()))?;
            headers.insert(name, value);
        }
        Ok(headers)
    }
}

/// A header's value that no message shows.
pub(crate) fn sensitive(text: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| "a secret for a header has control characters in it: write it in one line".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// User and password go together.
pub(crate) fn basic(
    username: Option<&String>,
    password: Option<&Secret>,
) -> Result<Option<(String, Secret)>, OpenError> {
    match (username, password) {
        (None, None) => Ok(None),
        (Some(username), Some(password)) => Ok(Some((username.clone(), password.clone()))),
        (Some(_), None) => Err(OpenError::Settings("username is set and password is not: set both".to_owned())),
        (None, Some(_)) => Err(OpenError::Settings("password is set and username is not: set both".to_owned())),
    }
}
