//! Any HTTP receiver: records as a JSON array, as lines, one by one, or in the form that a template gives them.

mod template;

use std::{fs, path::PathBuf};

use reqwest::header::CONTENT_TYPE;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use self::template::Template;
use super::{
    delivery::{BatchLimits, Delivered, Delivery, Failure, Item, Refused},
    http::{
        Client, HeaderSetting, Headers, HttpUrl, OpenError, Problem, Requests, Settings, Window, deliver_in_parts,
        joined,
    },
    tls::TlsConfig,
};
use crate::units::Duration;

/// Header with the record's `event.id` where a request holds one record: the same at each try.
const EVENT_ID: &str = "x-egresswatch-event-id";

/// Most records that wait for one after the other in one call.
const SINGLE_ITEMS: usize = 100;

/// An output of `type = "webhook"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Address that records are sent to; a secret's place (`{ file = "/path" }`) where the address itself is one.
    #[serde(deserialize_with = "address")]
    pub url: HeaderSetting,
    /// Method of the requests: "POST", "PUT" or "PATCH".
    #[serde(default)]
    pub method: Method,
    /// Further headers; values may be secrets.
    #[serde(default)]
    pub headers: Headers,
    /// What a request holds: "array" (a JSON array of records), "ndjson" (one record, one line) or "record" (one record, one
    /// request).
    #[serde(default)]
    pub body: Body,
    /// Template of the body, one record, one request: `{ file = "/path" }` or `{ inline = "…" }`, in the language of Jinja. The
    /// record's fields are its variables, and `record` is the record as a whole; `{{ message | tojson }}` writes a JSON string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateSource>,
    /// `Content-Type`, if the one that goes with the body is not wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
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

/// Methods that hand something over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the methods of RFC 9110 and RFC 5789")]
pub enum Method {
    #[default]
    Post,
    Put,
    Patch,
}

/// What a request holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Body {
    /// A JSON array of records.
    #[default]
    Array,
    /// Records as lines.
    Ndjson,
    /// One record.
    Record,
}

/// Where a template is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TemplateSource {
    /// In a file.
    File(PathBuf),
    /// In the configuration.
    Inline(String),
}

/// How long a request may take unless the configuration says otherwise.
pub(super) fn default_timeout() -> Duration {
    Duration::from_millis(30_000)
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HeaderSetting, D::Error> {
    let setting = HeaderSetting::deserialize(deserializer)?;
    if let HeaderSetting::Text(text) = &setting {
        text.parse::<HttpUrl>().map_err(de::Error::custom)?;
    }
    Ok(setting)
}

/// Opens an output of type `webhook`: checks everything that can be checked without sending.
pub fn open(config: &WebhookConfig) -> Result<Webhook, OpenError> {
    let template = config.template.as_ref().map(read_template).transpose()?;
    let content_type = config.content_type.clone().unwrap_or_else(|| match config.body {
        Body::Ndjson if template.is_none() => "application/x-ndjson".to_owned(),
        _ => "application/json".to_owned(),
    });
    if let Some(template) = &template {
        template.check(content_type.contains("json"))?;
    }
    let url = current_url(&config.url).map_err(|failure| OpenError::Settings(failure.reason))?;
    let is_single = template.is_some() || config.body == Body::Record;
    Ok(Webhook {
        describe: format!("webhook {}", url.origin()),
        window: if is_single { Window::SINGLE } else { Window::default() },
        sender: Sender {
            client: client(config, url.clone())?,
            url,
            config: config.clone(),
            template,
            content_type,
            is_single,
        },
    })
}

fn read_template(source: &TemplateSource) -> Result<Template, OpenError> {
    match source {
        TemplateSource::Inline(text) => Template::compile("template.inline", text.clone()),
        TemplateSource::File(path) => {
            let origin = path.display().to_string();
            let text = fs::read_to_string(path)
                .map_err(|source| OpenError::UnreadableTemplate { path: origin.clone(), source })?;
            Template::compile(&origin, text)
        }
    }
}

fn client(config: &WebhookConfig, url: HttpUrl) -> Result<Client, OpenError> {
    Client::open(Settings { url, tls: config.tls.clone(), timeout: config.timeout.get(), proxy: config.proxy.clone() })
}

fn current_url(setting: &HeaderSetting) -> Result<HttpUrl, Failure> {
    setting.read()?.parse().map_err(super::http::slow)
}

/// Sends records to any HTTP receiver.
#[derive(Debug)]
pub struct Webhook {
    describe: String,
    window: Window,
    sender: Sender,
}

#[derive(Debug)]
struct Sender {
    client: Client,
    url: HttpUrl,
    config: WebhookConfig,
    template: Option<Template>,
    content_type: String,
    is_single: bool,
}

impl Delivery for Webhook {
    fn describe(&self) -> &str {
        &self.describe
    }

    fn limits(&self) -> BatchLimits {
        let limits = BatchLimits::default();
        if self.sender.is_single { BatchLimits { items: SINGLE_ITEMS, ..limits } } else { limits }
    }

    async fn deliver(&mut self, batch: &[Item]) -> Result<Delivered, Failure> {
        self.follow_url()?;
        deliver_in_parts(&mut self.sender, &mut self.window, batch).await
    }

    fn reopen(&mut self) {
        self.sender.client.reopen();
    }

    fn patience(&self) -> std::time::Duration {
        self.sender.config.timeout.get()
    }

    /// `HEAD`, which changes nothing at any server. What it says of the address is no word about records: many take only
    /// what they are for.
    async fn probe(&mut self) -> Result<Option<String>, Failure> {
        self.follow_url()?;
        let headers = self.sender.config.headers.read()?;
        let url = self.sender.client.address("");
        let answer = self.sender.client.send(|client| client.head(url).headers(headers)).await?;
        match answer.status.as_u16() {
            // Not implemented is an answer to this method.
            401 | 407 | 500 | 502.. => Err(answer.problem().into()),
            _ => Ok(Some(format!("{} to HEAD; whether it takes records shows only with one", answer.said()))),
        }
    }
}

impl Webhook {
    fn follow_url(&mut self) -> Result<(), Failure> {
        // An address that is a secret is rotated like one.
        let url = current_url(&self.sender.config.url)?;
        if url != self.sender.url {
            self.sender.client =
                client(&self.sender.config, url.clone()).map_err(|error| super::http::slow(error.to_string()))?;
            self.sender.url = url;
        }
        Ok(())
    }
}

impl Requests for Sender {
    async fn request(&mut self, items: &[Item]) -> Result<Delivered, Problem> {
        let body = match self.body(items) {
            Ok(body) => body,
            Err(reason) => return Ok(Delivered::but(vec![Refused { index: 0, reason }])),
        };
        let headers = self.config.headers.read()?;
        let method = match self.config.method {
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Patch => reqwest::Method::PATCH,
        };
        let url = self.client.address("");
        let id = items.first().filter(|_| self.is_single).map(|item| item.id.clone());
        let content_type = &self.content_type;
        let answer = self.client.send(|client| {
            let mut request =
                client.request(method, url).header(CONTENT_TYPE, content_type).headers(headers).body(body);
            if let Some(id) = id {
                request = request.header(EVENT_ID, &id).header("idempotency-key", &id);
            }
            request
        });
        answer.await?.check()?;
        Ok(Delivered::default())
    }
}

impl Sender {
    /// The body, or why the only item has none.
    fn body(&self, items: &[Item]) -> Result<bytes::Bytes, String> {
        if self.is_single {
            let Some(item) = items.first() else { return Ok(bytes::Bytes::new()) };
            return match &self.template {
                Some(template) => template.render(&item.bytes).map(Into::into),
                None => Ok(item.bytes.clone()),
            };
        }
        if self.config.body == Body::Ndjson {
            return Ok(joined(items.iter().map(|item| item.bytes.as_ref()), b'\n'));
        }
        let mut body = vec![b'['];
        for item in items {
            if body.len() > 1 {
                body.push(b',');
            }
            if is_json(item) {
                body.extend_from_slice(&item.bytes);
            } else {
                let text = String::from_utf8_lossy(&item.bytes);
                body.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
            }
        }
        body.push(b']');
        Ok(body.into())
    }
}

/// Whether the output's format is a JSON one: records in the others begin with a word.
pub(super) fn is_json(item: &Item) -> bool {
    item.bytes.first() == Some(&b'{')
}
