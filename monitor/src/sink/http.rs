//! What every transport over HTTP shares: the client, its limits in time and size, and what an answer means.
//!
//! Records follow no redirects, and no proxy is used but the configured one: records go where the configuration says and
//! nowhere else.

mod answer;
mod parts;
mod settings;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use reqwest::{
    Proxy, RequestBuilder,
    dns::{Addrs, Name, Resolve, Resolving},
    header::HeaderValue,
    redirect::Policy,
};
use zeroize::Zeroizing;

pub use self::settings::{HeaderSetting, Headers, HttpUrl};
pub(crate) use self::{
    answer::{Answer, Problem, slow},
    parts::{Requests, Window, deliver_in_parts},
    settings::{basic, sensitive},
};
use super::{
    delivery::Failure,
    secret::{Secret, SecretError},
    tls::{self, TlsConfig, TlsError},
};
use crate::alert::record::Dataset;

/// Most that is read of an answer. A `_bulk` answer about 1,000 refused records stays below it.
const ANSWER_MAX_BYTES: usize = 8 << 20;

/// Most time for a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How a request names its sender.
pub(crate) const USER_AGENT: &str = concat!("egresswatch/", env!("CARGO_PKG_VERSION"));

/// Why a transport over HTTP cannot be set up. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The `tls` table is wrong.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Settings that do not go together.
    #[error("{0}")]
    Settings(String),
    /// A template cannot be read.
    #[error("cannot read the template {path}: {source}")]
    UnreadableTemplate {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A template is wrong.
    #[error("{origin}:{line}: {problem}")]
    Template {
        /// The file, or `template.inline`.
        origin: String,
        /// Line in the template.
        line: usize,
        /// What is wrong and what to write.
        problem: String,
    },
    /// The client cannot be made.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(String),
}

/// Where requests go and how.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The address that gives scheme, host and port.
    pub(crate) url: HttpUrl,
    /// Trust and client certificate.
    pub(crate) tls: TlsConfig,
    /// Most time from a request's start to its answer's end.
    pub(crate) timeout: Duration,
    /// The only proxy that is used.
    pub(crate) proxy: Option<HttpUrl>,
}

/// A client for one receiver.
#[derive(Debug)]
pub(crate) struct Client {
    settings: Settings,
    /// Dropped after each failed exchange, so that files that were mended are read again.
    client: Option<reqwest::Client>,
}

impl Client {
    /// Checks the settings by making the client once.
    pub(crate) fn open(settings: Settings) -> Result<Self, OpenError> {
        let client = build(&settings, Policy::none())?;
        Ok(Self { settings, client: Some(client) })
    }

    /// Reads files again and connects anew at the next request.
    pub(crate) fn reopen(&mut self) {
        self.client = None;
    }

    /// Sends what `make` makes and reads the answer, whatever its status is.
    pub(crate) async fn send(
        &mut self,
        make: impl FnOnce(&reqwest::Client) -> RequestBuilder + Send,
    ) -> Result<Answer, Failure> {
        let client = match self.client.take() {
            Some(client) => client,
            None => build(&self.settings, Policy::none()).map_err(|error| slow(error.to_string()))?,
        };
        let request = make(&client)
            .build()
            .map_err(|error| Failure::new(format!("the request cannot be made: {}", error.without_url())))?;
        let secrets = secrets_of(&request);
        let answer = match client.execute(request).await {
            Ok(response) => read(response).await,
            Err(error) => Err(error),
        };
        let mut answer = answer.map_err(|error| Failure::new(explain(error, self.settings.timeout)))?;
        answer.secrets = secrets;
        self.client = Some(client);
        Ok(answer)
    }

    /// `path` at the receiver, as it must stand in a request: under `tls.server_name`, if that is set.
    pub(crate) fn address(&self, path: &str) -> String {
        address(&self.settings, path)
    }
}

/// `path` at the receiver, as it must stand in a request: under `tls.server_name`, if that is set.
pub(crate) fn address(settings: &Settings, path: &str) -> String {
    let mut url = settings.url.under(path);
    if let Some(name) = server_name(settings) {
        // A name that is no host is told when the client is made.
        let _ = url.set_host(Some(name));
    }
    url.into()
}

/// What went wrong and what to do, without the address.
pub(crate) fn explain(error: reqwest::Error, timeout: Duration) -> String {
    let (is_timeout, is_redirect) = (error.is_timeout(), error.is_redirect());
    let error = error.without_url();
    if is_timeout {
        return format!("no answer within {timeout:?}: see whether the receiver is up, or set a longer timeout");
    }
    let advice = tls::advice_on_cause(&error);
    let mut deepest: &dyn std::error::Error = &error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    if is_redirect {
        return deepest.to_string();
    }
    let doing = if error.is_connect() { "cannot connect" } else { "the connection broke before the answer was read" };
    match advice {
        Some(advice) => format!("{doing}: {deepest}; {advice}"),
        None => format!("{doing}: {deepest}"),
    }
}

/// A client for one receiver, with files and secrets as they are now.
pub(crate) fn build(settings: &Settings, redirects: Policy) -> Result<reqwest::Client, OpenError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(redirects)
        .timeout(settings.timeout)
        .connect_timeout(settings.timeout.min(CONNECT_TIMEOUT))
        .tls_backend_preconfigured(settings.tls.client()?);
    builder = match &settings.proxy {
        Some(proxy) => builder
            .proxy(Proxy::all(proxy.as_str()).map_err(|error| OpenError::Client(error.without_url().to_string()))?),
        None => builder.no_proxy(),
    };
    if let Some(name) = server_name(settings) {
        settings.tls.server_name(name)?;
        builder =
            builder.dns_resolver(Arc::new(Renamed { name: name.to_owned(), host: settings.url.host().to_owned() }));
    }
    builder.build().map_err(|error| OpenError::Client(error.to_string()))
}

fn server_name(settings: &Settings) -> Option<&str> {
    settings.tls.server_name.as_deref().filter(|_| settings.url.is_tls())
}

/// Connects to `host` where `name` is asked for, because the client takes the certificate's name from the address.
#[derive(Debug)]
struct Renamed {
    name: String,
    host: String,
}

impl Resolve for Renamed {
    fn resolve(&self, name: Name) -> Resolving {
        let host = if name.as_str() == self.name { self.host.clone() } else { name.as_str().to_owned() };
        let host = host.trim_matches(['[', ']']).to_owned();
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Reads an answer up to [`ANSWER_MAX_BYTES`].
async fn read(mut response: reqwest::Response) -> Result<Answer, reqwest::Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        let room = ANSWER_MAX_BYTES.saturating_sub(body.len());
        body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        if chunk.len() >= room {
            break;
        }
    }
    Ok(Answer::new(response.status(), response.headers(), body.freeze()))
}

/// What an answer must not repeat in a message.
fn secrets_of(request: &reqwest::Request) -> Vec<Zeroizing<String>> {
    let mut secrets: Vec<_> = request
        .headers()
        .values()
        .filter(|value| value.is_sensitive())
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| [value, value.rsplit(' ').next().unwrap_or(value)])
        .map(|value| Zeroizing::new(value.to_owned()))
        .collect();
    if let Some(query) = request.url().query() {
        secrets.push(Zeroizing::new(query.to_owned()));
    }
    if request.url().path().len() > 1 {
        secrets.push(Zeroizing::new(request.url().path().to_owned()));
    }
    secrets
}

/// A secret as the value of a header: `scheme` and a space before it, where there is one.
pub(crate) fn authorization(scheme: &str, secret: &Secret) -> Result<HeaderValue, Failure> {
    let secret = secret.read().map_err(|error| slow(error.to_string()))?;
    sensitive(&Zeroizing::new(format!("{scheme} {}", secret.as_str()))).map_err(slow)
}

/// The body of a request, from its parts.
pub(crate) fn joined<'a>(parts: impl IntoIterator<Item = &'a [u8]>, separator: u8) -> Bytes {
    let mut body = BytesMut::new();
    for part in parts {
        body.extend_from_slice(part);
        body.extend_from_slice(&[separator]);
    }
    body.freeze()
}

/// `event.dataset` of a record.
pub(crate) const fn dataset(dataset: Dataset) -> &'static str {
    match dataset {
        Dataset::Alert => "egresswatch.alert",
        Dataset::Flow => "egresswatch.flow",
        Dataset::Executable => "egresswatch.executable",
        Dataset::Loss => "egresswatch.loss",
        Dataset::Degradation => "egresswatch.degradation",
        Dataset::Status => "egresswatch.status",
    }
}

/// An alert's severity in words, by Elastic's numbers.
pub(crate) const fn severity(number: u8) -> &'static str {
    match number {
        ..=21 => "low",
        22..=47 => "medium",
        48..=73 => "high",
        _ => "critical",
    }
}

#[cfg(test)]
mod tests;
