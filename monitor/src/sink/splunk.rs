//! Splunk's HTTP event collector (HEC), with the indexers' acknowledgement or without.

use std::{fs, time};

use reqwest::header::{AUTHORIZATION, HeaderMap};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    delivery::{Delivered, Delivery, Failure, Item},
    http::{
        Answer, Client, Headers, HttpUrl, OpenError, Problem, Requests, Settings, Window, authorization,
        deliver_in_parts,
    },
    secret::Secret,
    tls::TlsConfig,
    webhook::{default_timeout, is_json},
};
use crate::{alert::input::Host, units::Duration};

/// First pause before the question whether events are indexed; it doubles up to [`POLL_MAX`].
const POLL_MIN: time::Duration = time::Duration::from_millis(100);

/// Splunk advises to ask every 10 seconds; alerts are few, and the next ones wait.
const POLL_MAX: time::Duration = time::Duration::from_secs(5);

/// The collector's code for a request without events from a token that it takes.
const NO_DATA: u32 = 5;

/// An output of `type = "splunk_hec"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplunkConfig {
    /// Address of the collector, such as `https://splunk.example.com:8088`, without `/services/collector`.
    pub url: HttpUrl,
    /// The collector's token.
    pub token: Secret,
    /// Whether a batch counts as delivered only when the indexers have acknowledged it. The token must have it enabled.
    #[serde(default = "yes")]
    pub acknowledge: bool,
    /// How long the indexers may take. Afterwards the batch is sent again.
    #[serde(default = "acknowledge_within")]
    #[schemars(with = "String")]
    pub acknowledge_within: Duration,
    /// Index; the token's default if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    /// `source` of the events.
    #[serde(default = "egresswatch")]
    pub source: String,
    /// `sourcetype` of the events.
    #[serde(default = "egresswatch")]
    pub sourcetype: String,
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

const fn yes() -> bool {
    true
}

fn acknowledge_within() -> Duration {
    Duration::from_millis(120_000)
}

fn egresswatch() -> String {
    "egresswatch".to_owned()
}

/// Opens an output of type `splunk_hec`: checks everything that can be checked without sending.
pub fn open(config: &SplunkConfig, host: &Host) -> Result<Splunk, OpenError> {
    let client = Client::open(Settings {
        url: config.url.clone(),
        tls: config.tls.clone(),
        timeout: config.timeout.get(),
        proxy: config.proxy.clone(),
    })?;
    Ok(Splunk {
        describe: format!("splunk_hec {}", config.url.origin()),
        window: Window::default(),
        sender: Sender { client, config: config.clone(), host: host.hostname.clone(), channel: None },
    })
}

/// Sends records to Splunk.
#[derive(Debug)]
pub struct Splunk {
    describe: String,
    window: Window,
    sender: Sender,
}

#[derive(Debug)]
struct Sender {
    client: Client,
    config: SplunkConfig,
    host: String,
    /// The channel that acknowledgements belong to, once the collector took it.
    channel: Option<String>,
}

/// The collector's answer.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct HecAnswer {
    code: Option<u32>,
    ack_id: Option<u64>,
}

impl Delivery for Splunk {
    fn describe(&self) -> &str {
        &self.describe
    }

    async fn deliver(&mut self, batch: &[Item]) -> Result<Delivered, Failure> {
        deliver_in_parts(&mut self.sender, &mut self.window, batch).await
    }

    fn reopen(&mut self) {
        self.sender.client.reopen();
        self.sender.channel = None;
    }

    /// The event, and after it the last question whether it is indexed.
    fn patience(&self) -> std::time::Duration {
        let config = &self.sender.config;
        config.timeout.get().saturating_mul(2).saturating_add(config.acknowledge_within.get())
    }

    async fn probe(&mut self) -> Result<Option<String>, Failure> {
        Ok(Some(self.sender.probe().await?))
    }
}

impl Requests for Sender {
    async fn request(&mut self, items: &[Item]) -> Result<Delivered, Problem> {
        let channel = if self.config.acknowledge { Some(self.channel().await?) } else { None };
        let body = self.body(items);
        let (answer, hec) = self.post("/services/collector/event", channel.as_deref(), body).await?;
        if !answer.status.is_success() {
            return Err(problem(&answer, &hec));
        }
        if hec.code.is_none_or(|code| code != 0) {
            return Err(answer
                .pause(format!("{}, which is no answer of a HEC; see whether the address is right", answer.said()))
                .into());
        }
        let Some(channel) = channel else { return Ok(Delivered::default()) };
        let Some(id) = hec.ack_id else { return Err(no_acknowledgement(&answer).into()) };
        if let Err(failure) = self.acknowledged(&channel, id).await {
            // What the old channel's ids mean is lost where the collector was restarted.
            self.channel = None;
            return Err(failure.into());
        }
        Ok(Delivered::default())
    }
}

impl Sender {
    /// Shows the token without an event: asks about acknowledgements, or sends nothing, which the collector says is no data.
    async fn probe(&mut self) -> Result<String, Failure> {
        if self.config.acknowledge {
            self.channel().await?;
            return Ok("the collector takes the token and acknowledges".to_owned());
        }
        let (answer, hec) = self.post("/services/collector/event", None, "").await?;
        match hec.code {
            Some(NO_DATA) => Ok("the collector takes the token".to_owned()),
            None if !matches!(answer.status.as_u16(), 401 | 403 | 407 | 429 | 500..) => Err(answer
                .pause(format!("{}, which is no answer of a HEC; see whether the address is right", answer.said()))),
            _ => Err(problem(&answer, &hec).into()),
        }
    }

    /// The channel; a new one only after the collector has said that the token acknowledges, so that nothing is sent that
    /// never will be confirmed.
    async fn channel(&mut self) -> Result<String, Problem> {
        if let Some(channel) = &self.channel {
            return Ok(channel.clone());
        }
        let channel = fs::read_to_string("/proc/sys/kernel/random/uuid")
            .map_err(|error| Failure::new(format!("cannot make a channel id: {error}")))?;
        let channel = channel.trim().to_ascii_uppercase();
        let body = json!({ "acks": [0] }).to_string();
        let (answer, hec) = self.post("/services/collector/ack", Some(&channel), body).await?;
        if !answer.status.is_success() {
            return Err(Failure::from(problem(&answer, &hec)).into());
        }
        self.channel = Some(channel.clone());
        Ok(channel)
    }

    /// Asks until the indexers have the events.
    async fn acknowledged(&mut self, channel: &str, id: u64) -> Result<(), Failure> {
        let deadline = Instant::now() + self.config.acknowledge_within.get();
        let mut pause = POLL_MIN;
        let key = id.to_string();
        loop {
            let body = json!({ "acks": [id] }).to_string();
            let (answer, _) = self.post("/services/collector/ack", Some(channel), body).await?;
            if answer.status.is_success() {
                let acks: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                if acks.get("acks").and_then(|acks| acks.get(&key)).and_then(Value::as_bool) == Some(true) {
                    return Ok(());
                }
            } else if !matches!(answer.status.as_u16(), 429 | 503) {
                return Err(Failure { retry_after: answer.retry_after, ..Failure::new(answer.said()) });
            }
            let pause_now = answer.retry_after.unwrap_or(pause);
            if Instant::now() + pause_now >= deadline {
                return Err(Failure::new(format!(
                    "the indexers did not acknowledge within {}; the records are sent again",
                    self.config.acknowledge_within
                )));
            }
            sleep(pause_now).await;
            pause = (pause * 2).min(POLL_MAX);
        }
    }

    async fn post(
        &mut self,
        path: &str,
        channel: Option<&str>,
        body: impl Into<reqwest::Body> + Send,
    ) -> Result<(Answer, HecAnswer), Failure> {
        let mut headers: HeaderMap = self.config.headers.read()?;
        headers.insert(AUTHORIZATION, authorization("Splunk", &self.config.token)?);
        let url = self.client.address(path);
        let body = body.into();
        let answer = self.client.send(|client| {
            let request = client.post(url).headers(headers).body(body);
            match channel {
                Some(channel) => request.header("x-splunk-request-channel", channel),
                None => request,
            }
        });
        let answer = answer.await?;
        let hec = serde_json::from_slice(&answer.body).unwrap_or_default();
        Ok((answer, hec))
    }

    fn body(&self, items: &[Item]) -> Vec<u8> {
        let mut body = Vec::with_capacity(items.iter().map(|item| item.bytes.len() + 256).sum());
        for item in items {
            let time = item.time.unix_ns().max(0) / 1_000_000;
            let mut event = json!({
                "time": format!("{}.{:03}", time / 1_000, time % 1_000),
                "host": self.host,
                "source": self.config.source,
                "sourcetype": self.config.sourcetype,
                "fields": { "event_id": item.id },
            });
            if let (Some(index), Some(event)) = (&self.config.index, event.as_object_mut()) {
                event.insert("index".to_owned(), Value::from(index.as_str()));
            }
            let head = event.to_string();
            body.extend_from_slice(head.strip_suffix('}').unwrap_or(&head).as_bytes());
            body.extend_from_slice(b",\"event\":");
            if is_json(item) {
                body.extend_from_slice(&item.bytes);
            } else {
                let text = Value::from(String::from_utf8_lossy(&item.bytes));
                body.extend_from_slice(text.to_string().as_bytes());
            }
            body.extend_from_slice(b"}\n");
        }
        body
    }
}

/// What the collector's code says more exactly than the status.
fn problem(answer: &Answer, hec: &HecAnswer) -> Problem {
    let advice = match hec.code {
        Some(7) => "set index to one that the token may write to",
        Some(10 | 11) => "set acknowledge = true, because the token has acknowledgement enabled",
        Some(14) => return no_acknowledgement(answer).into(),
        _ => return answer.problem(),
    };
    answer.pause(format!("{}; {advice}", answer.said())).into()
}

fn no_acknowledgement(answer: &Answer) -> Failure {
    answer.pause(format!(
        "{}; enable indexer acknowledgement for the token, or set acknowledge = false and do without proof",
        answer.said()
    ))
}
