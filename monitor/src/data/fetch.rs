//! Downloads over HTTP, for `egresswatch data update` alone, from addresses that the configuration names.
//!
//! What was downloaded is kept beside the table with what the server said of it, and the next time the server is asked
//! whether it has another (RFC 9110, 13). Redirects are followed where they do not leave TLS: publishers put their files
//! on content networks.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{civil::Date, fmt::rfc2822::DateTimeParser};
use reqwest::{
    Client, Proxy, StatusCode,
    header::{ETAG, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED},
    redirect::{Attempt, Policy},
};
use serde::{Deserialize, Serialize};

use super::{Config, settings::Place};
use crate::{
    ownership,
    sink::{
        http::HttpUrl,
        tls::{TlsConfig, TlsError},
    },
};

/// Most time until a connection stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Most redirects in a row.
const REDIRECTS_MAX: usize = 5;
/// How a request names its sender.
const USER_AGENT: &str = concat!("egresswatch/", env!("CARGO_PKG_VERSION"));

/// What an address gave.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    pub(super) bytes: Vec<u8>,
    /// Of which day the server says it is.
    pub(super) date: Option<Date>,
}

/// Why a download failed. Nothing was replaced.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The authorities.
    #[error("{}", .0.to_string().replace("tls.ca", "data.ca"))]
    Tls(#[from] TlsError),
    /// The client cannot be made.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(String),
    /// No answer, or not all of it.
    #[error("cannot fetch {address}: {problem}")]
    Connection {
        /// Without its query.
        address: String,
        /// What went wrong.
        problem: String,
    },
    /// Another answer than the file.
    #[error(
        "cannot fetch {address}: the server answered {status}; see whether the address is right and needs no account"
    )]
    Status {
        /// Without its query.
        address: String,
        /// The status.
        status: StatusCode,
    },
    /// More than is taken.
    #[error("{address} has more than {limit} bytes: check the address, or raise data.max_download")]
    TooLarge {
        /// Without its query.
        address: String,
        /// How many are taken.
        limit: u64,
    },
    /// The directory of downloads.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What the server said of a file that is kept.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Validators {
    sha256: String,
    etag: Option<String>,
    last_modified: Option<String>,
}

/// Fetches, with limits in time and size.
#[derive(Debug)]
pub(super) struct Fetcher {
    client: Client,
    downloads: PathBuf,
    limit: u64,
}

impl Fetcher {
    /// `downloads` is where files are kept.
    pub(super) fn new(config: &Config, downloads: PathBuf) -> Result<Self, FetchError> {
        let tls = TlsConfig { ca: config.ca.clone(), ..TlsConfig::default() };
        let client = Client::builder()
            .user_agent(USER_AGENT)
            .redirect(Policy::custom(follow))
            .timeout(config.timeout.get())
            .connect_timeout(config.timeout.get().min(CONNECT_TIMEOUT))
            .tls_backend_preconfigured(tls.client()?);
        let wrong = |error: reqwest::Error| FetchError::Client(error.without_url().to_string());
        let client = match &config.proxy {
            Some(proxy) => client.proxy(Proxy::all(proxy.as_str()).map_err(wrong)?),
            None => client.no_proxy(),
        };
        Ok(Self { client: client.build().map_err(wrong)?, downloads, limit: config.max_download.bytes() })
    }

    /// What is at an address now, from the disk where the server says that it is the same.
    pub(super) async fn fetch(&self, url: &HttpUrl) -> Result<Fetched, FetchError> {
        let address = Place::Url(url.clone()).to_string();
        let body = self.downloads.join(ownership::sha256(url.as_str().as_bytes()).get(..16).unwrap_or_default());
        let notes = body.with_extension("json");
        let kept = kept(&body, &notes);
        let mut request = self.client.get(url.as_str());
        if let Some((_, validators)) = &kept {
            let conditions = [(IF_NONE_MATCH, &validators.etag), (IF_MODIFIED_SINCE, &validators.last_modified)];
            for (name, value) in conditions {
                if let Some(value) = value {
                    request = request.header(name, value);
                }
            }
        }
        let broken =
            |error: reqwest::Error| FetchError::Connection { address: address.clone(), problem: explain(error) };
        let mut response = request.send().await.map_err(broken)?;
        if response.status() == StatusCode::NOT_MODIFIED
            && let Some((bytes, validators)) = kept
        {
            return Ok(Fetched { bytes, date: date(validators.last_modified.as_deref()) });
        }
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status { address, status: response.status() });
        }
        let too_large = || FetchError::TooLarge { address: address.clone(), limit: self.limit };
        if response.content_length().is_some_and(|length| length > self.limit) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > self.limit {
                return Err(too_large());
            }
        }
        let validators = Validators {
            sha256: ownership::sha256(&bytes),
            etag: text(response.headers(), &ETAG),
            last_modified: text(response.headers(), &LAST_MODIFIED),
        };
        self.keep(&body, &notes, &bytes, &validators)?;
        Ok(Fetched { date: date(validators.last_modified.as_deref()), bytes })
    }

    /// The notes come after the body and hold its checksum: a body that is not theirs is not used.
    fn keep(&self, body: &Path, notes: &Path, bytes: &[u8], validators: &Validators) -> Result<(), FetchError> {
        let write = |path: &Path, bytes: &[u8]| {
            fs::write(path, bytes).map_err(|source| FetchError::Write { path: path.to_owned(), source })
        };
        fs::create_dir_all(&self.downloads)
            .map_err(|source| FetchError::Write { path: self.downloads.clone(), source })?;
        write(body, bytes)?;
        let text = serde_json::to_vec(validators).map_err(|error| FetchError::Client(error.to_string()))?;
        write(notes, &text)
    }
}

/// What is kept of an address, if it is whole.
fn kept(body: &Path, notes: &Path) -> Option<(Vec<u8>, Validators)> {
    let validators: Validators = serde_json::from_slice(&fs::read(notes).ok()?).ok()?;
    let bytes = fs::read(body).ok()?;
    (ownership::sha256(&bytes) == validators.sha256).then_some((bytes, validators))
}

/// Follows a redirect unless it leaves TLS or there are too many.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let leaves_tls =
        attempt.previous().last().is_some_and(|last| last.scheme() == "https") && attempt.url().scheme() != "https";
    if leaves_tls {
        return attempt.error("a redirect leaves TLS");
    }
    if attempt.previous().len() > REDIRECTS_MAX { attempt.error("too many redirects") } else { attempt.follow() }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn date(last_modified: Option<&str>) -> Option<Date> {
    Some(DateTimeParser::new().parse_zoned_datetime(last_modified?).ok()?.date())
}

/// The innermost reason, without the address, which may hold a key.
fn explain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut deepest: &dyn std::error::Error = &error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let what = if error.is_timeout() { "no answer in time (data.timeout)".to_owned() } else { deepest.to_string() };
    if error.is_connect() { format!("cannot connect: {what}") } else { what }
}
