//! OpenTelemetry logs over OTLP, by gRPC or by HTTP with protobuf.

mod convert;
mod grpc;

use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use prost::Message as _;
use reqwest::header::CONTENT_TYPE;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::{convert::Converter, grpc::Grpc};
use super::{
    delivery::{BatchLimits, Delivered, Delivery, Failure, Item, Refused},
    http::{Client, Headers, HttpUrl, OpenError, Problem, Requests, Settings, Window, deliver_in_parts},
    tls::TlsConfig,
    webhook::default_timeout,
};
use crate::{alert::input::Host, units::Duration};

/// Receivers refuse gRPC messages beyond 4 MiB unless told otherwise; a record as attributes is larger than as JSON.
const LIMITS: BatchLimits = BatchLimits { items: 500, bytes: 512 << 10 };

/// An output of `type = "otlp"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OtlpConfig {
    /// Address of the collector, such as `http://127.0.0.1:4317` for gRPC, or `https://collector.example.com:4318` for HTTP,
    /// without `/v1/logs`.
    pub url: HttpUrl,
    /// Protocol: "grpc" or "http".
    #[serde(default)]
    pub protocol: Protocol,
    /// Body of a log record: "structured" (the record's JSON as a map, as the data model advises for events with structure) or
    /// "text" (the record as one string).
    #[serde(default)]
    pub body: Body,
    /// Further headers, or metadata for gRPC; values may be secrets.
    #[serde(default)]
    pub headers: Headers,
    /// Trust in the receiver, and this host's certificate.
    #[serde(default)]
    pub tls: TlsConfig,
    /// Most time that a request may take.
    #[serde(default = "default_timeout")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// Address of the proxy, if there is one, for the protocol "http" only. `HTTPS_PROXY` and its like are not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<HttpUrl>,
}

/// How OTLP travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// gRPC, usually port 4317.
    #[default]
    Grpc,
    /// HTTP with protobuf, usually port 4318.
    Http,
}

/// What the body of a log record is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Body {
    /// A map.
    #[default]
    Structured,
    /// A string.
    Text,
}

/// Opens an output of type `otlp`: checks everything that can be checked without sending.
pub fn open(config: &OtlpConfig, host: &Host) -> Result<Otlp, OpenError> {
    let (way, name) = match config.protocol {
        Protocol::Grpc if config.proxy.is_some() => {
            return Err(OpenError::Settings("proxy is not supported for gRPC: set protocol = \"http\"".to_owned()));
        }
        Protocol::Grpc => (Way::Grpc(Grpc::open(config)?), "gRPC"),
        Protocol::Http => {
            let client = Client::open(Settings {
                url: config.url.clone(),
                tls: config.tls.clone(),
                timeout: config.timeout.get(),
                proxy: config.proxy.clone(),
            })?;
            (Way::Http(client, config.headers.clone()), "HTTP")
        }
    };
    Ok(Otlp {
        describe: format!("otlp {} over {name}", config.url.origin()),
        timeout: config.timeout.get(),
        window: Window::default(),
        sender: Sender { way, converter: Converter::new(host, config.body) },
    })
}

/// Sends records to an OpenTelemetry collector.
#[derive(Debug)]
pub struct Otlp {
    describe: String,
    timeout: std::time::Duration,
    window: Window,
    sender: Sender,
}

#[derive(Debug)]
struct Sender {
    way: Way,
    converter: Converter,
}

#[derive(Debug)]
enum Way {
    Grpc(Grpc),
    Http(Client, Headers),
}

impl Delivery for Otlp {
    fn describe(&self) -> &str {
        &self.describe
    }

    fn patience(&self) -> std::time::Duration {
        self.timeout
    }

    fn limits(&self) -> BatchLimits {
        LIMITS
    }

    async fn deliver(&mut self, batch: &[Item]) -> Result<Delivered, Failure> {
        deliver_in_parts(&mut self.sender, &mut self.window, batch).await
    }

    fn reopen(&mut self) {
        match &mut self.sender.way {
            Way::Grpc(grpc) => grpc.reopen(),
            Way::Http(client, _) => client.reopen(),
        }
    }

    /// An export without records, which collectors must take.
    async fn probe(&mut self) -> Result<Option<String>, Failure> {
        self.sender.export(ExportLogsServiceRequest::default()).await?;
        Ok(Some("the collector takes logs".to_owned()))
    }
}

impl Requests for Sender {
    async fn request(&mut self, items: &[Item]) -> Result<Delivered, Problem> {
        let request = self.converter.request(items);
        Ok(partial_success(self.export(request).await?, items.len()))
    }
}

impl Sender {
    async fn export(&mut self, request: ExportLogsServiceRequest) -> Result<ExportLogsServiceResponse, Problem> {
        match &mut self.way {
            Way::Grpc(grpc) => grpc.export(request).await,
            Way::Http(client, headers) => export(client, headers, &request).await,
        }
    }
}

async fn export(
    client: &mut Client,
    headers: &Headers,
    request: &ExportLogsServiceRequest,
) -> Result<ExportLogsServiceResponse, Problem> {
    let headers = headers.read()?;
    let body = request.encode_to_vec();
    let url = client.address("/v1/logs");
    let answer = client
        .send(|client| client.post(url).headers(headers).header(CONTENT_TYPE, "application/x-protobuf").body(body))
        .await?
        .check()?;
    let decoded = ExportLogsServiceResponse::decode(answer.body.clone());
    decoded.map_err(|error| {
        answer
            .pause(format!("the answer is none of OTLP ({error}); see whether the address is that of a collector"))
            .into()
    })
}

/// The collector took the batch, but for some records that it does not name. OTLP forbids to send them again, so every record
/// of the batch goes to the dead letters: better one kept twice than one lost.
fn partial_success(answer: ExportLogsServiceResponse, length: usize) -> Delivered {
    let Some(partial) = answer.partial_success else { return Delivered::default() };
    if partial.rejected_log_records <= 0 {
        if !partial.error_message.is_empty() {
            tracing::warn!(message = partial.error_message, "the collector took all records with a warning");
        }
        return Delivered::default();
    }
    let reason = format!(
        "the collector rejected {} of {length} records of a batch without saying which: {}",
        partial.rejected_log_records, partial.error_message
    );
    Delivered::but((0..length).map(|index| Refused { index, reason: reason.clone() }).collect())
}
