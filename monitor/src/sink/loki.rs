//! Grafana Loki: the push API with JSON. Labels are few and have few values; the id is structured metadata.

use std::collections::BTreeMap;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Value, json};

use super::{
    delivery::{Delivered, Delivery, Failure, Item},
    http::{
        Answer, Client, Headers, HttpUrl, OpenError, Problem, Requests, Settings, Window, authorization, basic,
        dataset, deliver_in_parts, severity,
    },
    secret::Secret,
    tls::TlsConfig,
    webhook::default_timeout,
};
use crate::{alert::input::Host, units::Duration};

/// An output of `type = "loki"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LokiConfig {
    /// Address of Loki, without `/loki/api/v1/push`.
    pub url: HttpUrl,
    /// Tenant (`X-Scope-OrgID`), where Loki has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Further labels, the same for every record. `job`, `host`, `dataset` and `severity` are always there.
    #[serde(default, deserialize_with = "labels")]
    pub labels: BTreeMap<String, String>,
    /// User, where a proxy before Loki asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Token, sent as `Authorization: Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// Further headers; values may be secrets.
    #[serde(default)]
    pub headers: Headers,
    /// Trust in the receiver, and this host's certificate.
    #[serde(default)]
    pub tls: TlsConfig,
    /// Most time that a request may take.
    #[serde(default = "default_timeout")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// Address of the proxy, if there is one. `HTTPS_PROXY` and its like are not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<HttpUrl>,
}

/// Labels that every record has.
const OWN_LABELS: [&str; 4] = ["job", "host", "dataset", "severity"];

fn labels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let labels = BTreeMap::<String, String>::deserialize(deserializer)?;
    for name in labels.keys() {
        let is_name = name.starts_with(|character: char| character.is_ascii_alphabetic() || character == '_')
            && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_');
        if !is_name {
            return Err(de::Error::custom(format!("`{name}` is no label: write letters, digits and `_`")));
        }
        if OWN_LABELS.contains(&name.as_str()) && name != "job" {
            return Err(de::Error::custom(format!("the label `{name}` comes from the record: leave it out")));
        }
    }
    Ok(labels)
}

/// Opens an output of type `loki`: checks everything that can be checked without sending.
pub fn open(config: &LokiConfig, host: &Host) -> Result<Loki, OpenError> {
    basic(config.username.as_ref(), config.password.as_ref())?;
    if config.token.is_some() && config.username.is_some() {
        return Err(OpenError::Settings("token and username are both set: set one of them".to_owned()));
    }
    let client = Client::open(Settings {
        url: config.url.clone(),
        tls: config.tls.clone(),
        timeout: config.timeout.get(),
        proxy: config.proxy.clone(),
    })?;
    Ok(Loki {
        describe: format!("loki {}", config.url.origin()),
        window: Window::default(),
        sender: Sender { client, config: config.clone(), host: host.hostname.clone() },
    })
}

/// Sends records to Loki.
#[derive(Debug)]
pub struct Loki {
    describe: String,
    window: Window,
    sender: Sender,
}

#[derive(Debug)]
struct Sender {
    client: Client,
    config: LokiConfig,
    host: String,
}

impl Delivery for Loki {
    fn describe(&self) -> &str {
        &self.describe
    }

    async fn deliver(&mut self, batch: &[Item]) -> Result<Delivered, Failure> {
        deliver_in_parts(&mut self.sender, &mut self.window, batch).await
    }

    fn reopen(&mut self) {
        self.sender.client.reopen();
    }

    fn patience(&self) -> std::time::Duration {
        self.sender.config.timeout.get()
    }

    /// A push without streams, which shows the right to write: Loki takes it or misses a stream in it, by its version.
    async fn probe(&mut self) -> Result<Option<String>, Failure> {
        let answer = self.sender.push(json!({ "streams": [] }).to_string()).await?;
        if matches!(answer.status.as_u16(), 400 | 422) && answer.said().contains("stream") {
            return Ok(Some("Loki answered, and lets these credentials write".to_owned()));
        }
        answer.check().map_err(Failure::from)?;
        Ok(Some("Loki answered, and lets these credentials write".to_owned()))
    }
}

impl Requests for Sender {
    async fn request(&mut self, items: &[Item]) -> Result<Delivered, Problem> {
        let body = self.body(items).to_string();
        self.push(body).await?.check()?;
        Ok(Delivered::default())
    }
}

impl Sender {
    async fn push(&mut self, body: String) -> Result<Answer, Failure> {
        let mut headers = self.config.headers.read()?;
        if let Some(token) = &self.config.token {
            headers.insert(AUTHORIZATION, authorization("Bearer", token)?);
        }
        let password = self.config.password.as_ref().map(Secret::read).transpose();
        let password = password.map_err(|error| super::http::slow(error.to_string()))?;
        let url = self.client.address("/loki/api/v1/push");
        let config = &self.config;
        let answer = self.client.send(|client| {
            let mut request = client.post(url).header(CONTENT_TYPE, "application/json").headers(headers).body(body);
            if let Some(tenant) = &config.tenant {
                request = request.header("x-scope-orgid", tenant);
            }
            if let (Some(user), Some(password)) = (&config.username, &password) {
                request = request.basic_auth(user, Some(password.as_str()));
            }
            request
        });
        answer.await
    }

    /// One stream for each dataset and severity, with its entries in order.
    fn body(&self, items: &[Item]) -> Value {
        let mut streams: Vec<((&str, &str), Vec<Value>)> = Vec::new();
        for item in items {
            let stream = (dataset(item.dataset), item.severity.map_or("none", severity));
            let entry = json!([
                item.time.unix_ns().to_string(),
                String::from_utf8_lossy(&item.bytes),
                { "event_id": item.id }
            ]);
            match streams.iter_mut().find(|(known, _)| *known == stream) {
                Some((_, entries)) => entries.push(entry),
                None => streams.push((stream, vec![entry])),
            }
        }
        let streams: Vec<_> = streams
            .into_iter()
            .map(|((dataset, severity), entries)| {
                let mut labels = self.config.labels.clone();
                labels.entry("job".to_owned()).or_insert_with(|| "egresswatch".to_owned());
                labels.insert("host".to_owned(), self.host.clone());
                labels.insert("dataset".to_owned(), dataset.to_owned());
                labels.insert("severity".to_owned(), severity.to_owned());
                json!({ "stream": labels, "values": entries })
            })
            .collect();
        json!({ "streams": streams })
    }
}
