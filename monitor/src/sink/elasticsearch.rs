//! Elasticsearch and `OpenSearch`: `_bulk` with `create`, the record's id as the document's, so that a repeat is a conflict.

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    delivery::{Delivered, Delivery, Failure, Item, Refused},
    http::{
        Answer, Client, Headers, HttpUrl, OpenError, Problem, Requests, Settings, Window, authorization, basic,
        deliver_in_parts,
    },
    secret::Secret,
    tls::TlsConfig,
    webhook::{default_timeout, is_json},
};
use crate::units::Duration;

/// Only what is read of the answer.
const PATH: &str = "/_bulk?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason";

/// An output of `type = "elasticsearch"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ElasticsearchConfig {
    /// Address of Elasticsearch or `OpenSearch`, without `_bulk`.
    pub url: HttpUrl,
    /// Data stream or index. `{dataset}` stands for the record's `event.dataset`, such as `egresswatch.alert`.
    #[serde(default = "default_index")]
    pub index: String,
    /// API key in the form that Elasticsearch calls `encoded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<Secret>,
    /// User, if there is no API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
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

fn default_index() -> String {
    "logs-{dataset}-default".to_owned()
}

/// Opens an output of type `elasticsearch`: checks everything that can be checked without sending.
pub fn open(config: &ElasticsearchConfig) -> Result<Elasticsearch, OpenError> {
    if config.api_key.is_some() && config.username.is_some() {
        return Err(OpenError::Settings("api_key and username are both set: set one of them".to_owned()));
    }
    basic(config.username.as_ref(), config.password.as_ref())?;
    let plain = config.index.replace("{dataset}", "egresswatch.alert");
    let is_bad = |character: char| character.is_ascii_uppercase() || " \"*,/<>?\\|{}#:".contains(character);
    if plain.is_empty() || plain.contains(is_bad) || plain.starts_with(['-', '_', '+', '.']) {
        return Err(OpenError::Settings(format!(
            "index `{}` is no name of an index or data stream: write one such as \"logs-{{dataset}}-default\"",
            config.index
        )));
    }
    let client = Client::open(Settings {
        url: config.url.clone(),
        tls: config.tls.clone(),
        timeout: config.timeout.get(),
        proxy: config.proxy.clone(),
    })?;
    Ok(Elasticsearch {
        describe: format!("elasticsearch {}", config.url.origin()),
        window: Window::default(),
        sender: Sender { client, config: config.clone() },
    })
}

/// Sends records to Elasticsearch or `OpenSearch`.
#[derive(Debug)]
pub struct Elasticsearch {
    describe: String,
    window: Window,
    sender: Sender,
}

#[derive(Debug)]
struct Sender {
    client: Client,
    config: ElasticsearchConfig,
}

/// The part of a `_bulk` answer that is read.
#[derive(Debug, Deserialize)]
struct BulkAnswer {
    items: Vec<BulkItem>,
}

#[derive(Debug, Deserialize)]
struct BulkItem {
    create: BulkResult,
}

#[derive(Debug, Deserialize)]
struct BulkResult {
    status: u16,
    #[serde(default)]
    error: Value,
}

impl Delivery for Elasticsearch {
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

    async fn probe(&mut self) -> Result<Option<String>, Failure> {
        Ok(Some(self.sender.probe().await?))
    }
}

impl Requests for Sender {
    async fn request(&mut self, items: &[Item]) -> Result<Delivered, Problem> {
        if let [item] = items
            && !is_json(item)
        {
            return Err(Problem::Refused("only JSON can be indexed: set format to \"ecs\" or \"ocsf\"".to_owned()));
        }
        let (headers, password) = self.credentials()?;
        let body = self.body(items);
        let url = self.client.address(PATH);
        let username = self.config.username.as_deref();
        let answer = self.client.send(|client| {
            let request = client.post(url).header(CONTENT_TYPE, "application/x-ndjson").headers(headers).body(body);
            match (username, &password) {
                (Some(user), Some(password)) => request.basic_auth(user, Some(password.as_str())),
                _ => request,
            }
        });
        results(&answer.await?.check()?, items.len())
    }
}

impl Sender {
    /// Headers and password as they are now.
    fn credentials(&self) -> Result<(HeaderMap, Option<Zeroizing<String>>), Failure> {
        let mut headers = self.config.headers.read()?;
        if let Some(key) = &self.config.api_key {
            headers.insert(AUTHORIZATION, authorization("ApiKey", key)?);
        }
        let password = self.config.password.as_ref().map(Secret::read).transpose();
        Ok((headers, password.map_err(|error| super::http::slow(error.to_string()))?))
    }

    /// Asks for the version.
    async fn probe(&mut self) -> Result<String, Failure> {
        let (headers, password) = self.credentials()?;
        let url = self.client.address("/");
        let username = self.config.username.as_deref();
        let answer = self.client.send(|client| {
            let request = client.get(url).headers(headers);
            match (username, &password) {
                (Some(user), Some(password)) => request.basic_auth(user, Some(password.as_str())),
                _ => request,
            }
        });
        let answer = answer.await?;
        if answer.status.as_u16() == 403 {
            // Enough for documents, and all that such credentials should have.
            return Ok("the credentials are known, and may not ask for the version".to_owned());
        }
        let answer = answer.check().map_err(Failure::from)?;
        let facts: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        match facts.pointer("/version/number").and_then(Value::as_str) {
            Some(version) => Ok(answer.printable(&format!("version {version} answered"))),
            None => Err(answer.pause(format!(
                "{}, which is no answer of Elasticsearch or OpenSearch; see whether the address is right",
                answer.said()
            ))),
        }
    }

    fn body(&self, items: &[Item]) -> Vec<u8> {
        let mut body = Vec::with_capacity(items.iter().map(|item| item.bytes.len() + 128).sum());
        for item in items {
            let index = self.config.index.replace("{dataset}", super::http::dataset(item.dataset));
            body.extend_from_slice(json!({ "create": { "_index": index, "_id": item.id } }).to_string().as_bytes());
            body.push(b'\n');
            // A line that is no JSON would spoil its neighbours; it is refused alone, once the request is halved.
            body.extend_from_slice(&item.bytes);
            body.push(b'\n');
        }
        body
    }
}

/// Whether what is told as a bad document is a state of the cluster that an administrator mends: a closed index, or as many
/// shards as may be.
fn is_mendable(error: &Value) -> bool {
    let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
    match text("type") {
        "index_closed_exception" | "cluster_block_exception" => true,
        "validation_exception" => text("reason").contains("shards"),
        _ => false,
    }
}

/// What the answer says of each item. From the first that has to be sent again on everything is, so that order stays.
fn results(answer: &Answer, expected: usize) -> Result<Delivered, Problem> {
    let bulk: BulkAnswer = serde_json::from_slice(&answer.body).map_err(|error| {
        answer.pause(format!("the answer is none of _bulk ({error}); see whether the address is that of Elasticsearch"))
    })?;
    if bulk.items.len() != expected {
        let reason = format!("the answer tells of {} of {expected} records", bulk.items.len());
        return Err(Failure::new(reason).into());
    }
    let mut refused = Vec::new();
    for (index, BulkItem { create: result }) in bulk.items.into_iter().enumerate() {
        let said = || {
            let text =
                |key: &str| result.error.get(key).and_then(Value::as_str).unwrap_or("no reason given").to_owned();
            answer.printable(&format!("{} {}: {}", result.status, text("type"), text("reason")))
        };
        let failure = match result.status {
            // 409: a document with this id is there already, from an earlier try.
            200..=299 | 409 => continue,
            408 | 429 | 500.. => Failure { retry_after: answer.retry_after, ..Failure::new(said()) },
            401 | 403 => answer
                .pause(format!("{}; give these credentials the right to create documents there, or make room", said())),
            400 if is_mendable(&result.error) => {
                answer.pause(format!("{}; open the index, or let the cluster have more shards", said()))
            }
            404 => answer.pause(format!("{}; create the index or data stream, or allow it to be created", said())),
            _ => {
                refused.push(Refused { index, reason: said() });
                continue;
            }
        };
        return Err(Failure { confirmed: index, refused, ..failure }.into());
    }
    Ok(Delivered::but(refused))
}
