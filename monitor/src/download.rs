//! Fetches what the configuration says to fetch, into a file: within a size and a time, and only if it is newer than what
//! is there.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{civil::Date, fmt::rfc2822::DateTimeParser};
use reqwest::{
    StatusCode,
    header::{ETAG, HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED},
    redirect::{Attempt, Policy},
};
use serde::{Deserialize, Serialize};

use crate::{
    sink::http::{self, Headers, OpenError, Settings},
    units::ByteSize,
};

/// Redirects that are followed one after the other.
const REDIRECTS_MAX: usize = 5;

/// What to fetch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Download<'a> {
    /// Where, with which trust, in which time.
    pub(crate) settings: &'a Settings,
    /// Further headers, such as a key. Redirects to another server are not followed where there are any.
    pub(crate) headers: &'a Headers,
    /// A larger answer is refused.
    pub(crate) max_bytes: ByteSize,
    /// What the server called the state that is there.
    pub(crate) known: Option<&'a Validators>,
}

/// What a server calls a state of a document (RFC 9110, section 8.8).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Validators {
    etag: Option<String>,
    last_modified: Option<String>,
}

impl Validators {
    /// The day on which the server's document changed last.
    pub(crate) fn date(&self) -> Option<Date> {
        let text = self.last_modified.as_deref()?;
        Some(DateTimeParser::new().parse_zoned_datetime(text).ok()?.date())
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// What is there is what the server has.
    Unchanged,
    /// The file holds something new, and is on the disk.
    New(Validators),
}

/// Why nothing was fetched. What is in the file then is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DownloadError {
    /// The client or its secrets.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The server cannot be reached, or the connection broke.
    #[error("{0}")]
    Connection(String),
    /// The server says no.
    #[error("the server answered {0}{advice}", advice = advice(*.0))]
    Status(StatusCode),
    /// It is too large.
    #[error("it is larger than {0}: raise max_bytes if it should be")]
    TooLarge(ByteSize),
    /// The file cannot be written.
    #[error("{} cannot be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Asks the server, and writes what it answers into the file, which is made or emptied.
pub(crate) async fn get(download: Download<'_>, file: &Path) -> Result<Fetched, DownloadError> {
    let Download { settings, max_bytes, .. } = download;
    let broken = |error| DownloadError::Connection(http::explain(error, settings.timeout));
    let mut headers = download.headers.read().map_err(|failure| DownloadError::Connection(failure.reason))?;
    let has_headers = !headers.is_empty();
    if let Some(known) = download.known {
        add_conditions(known, &mut headers);
    }
    let client = http::build(settings, Policy::custom(move |attempt| redirect(attempt, has_headers)))?;
    let mut answer = client.get(http::address(settings, "")).headers(headers).send().await.map_err(broken)?;
    match answer.status() {
        StatusCode::NOT_MODIFIED if download.known.is_some() => return Ok(Fetched::Unchanged),
        // Others that mean success come with a part, or with nothing.
        StatusCode::OK => {}
        status => return Err(DownloadError::Status(status)),
    }
    if answer.content_length().is_some_and(|length| length > max_bytes.bytes()) {
        return Err(DownloadError::TooLarge(max_bytes));
    }
    let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let validators = Validators { etag: text(ETAG), last_modified: text(LAST_MODIFIED) };
    let unwritable = |source| DownloadError::Write { path: file.to_owned(), source };
    let mut target = File::create(file).map_err(unwritable)?;
    let mut room = max_bytes.bytes();
    while let Some(chunk) = answer.chunk().await.map_err(broken)? {
        room = room.checked_sub(chunk.len() as u64).ok_or(DownloadError::TooLarge(max_bytes))?;
        target.write_all(&chunk).map_err(unwritable)?;
    }
    // A disk takes its time.
    let synced = tokio::task::spawn_blocking(move || target.sync_all())
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)));
    synced.map_err(unwritable)?;
    Ok(Fetched::New(validators))
}

/// Asks for no more than whether it is there: by `HEAD`, and where a server does not know that, by a `GET` whose body is
/// not read.
pub(crate) async fn probe(settings: &Settings, headers: &Headers) -> Result<StatusCode, DownloadError> {
    let broken = |error| DownloadError::Connection(http::explain(error, settings.timeout));
    let headers = headers.read().map_err(|failure| DownloadError::Connection(failure.reason))?;
    let has_headers = !headers.is_empty();
    let client = http::build(settings, Policy::custom(move |attempt| redirect(attempt, has_headers)))?;
    let address = http::address(settings, "");
    let mut answer = client.head(&address).headers(headers.clone()).send().await.map_err(broken)?;
    if matches!(answer.status(), StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED) {
        answer = client.get(&address).headers(headers).send().await.map_err(broken)?;
    }
    match answer.status() {
        StatusCode::OK => Ok(StatusCode::OK),
        status => Err(DownloadError::Status(status)),
    }
}

fn add_conditions(known: &Validators, headers: &mut HeaderMap) {
    let conditions = [(IF_NONE_MATCH, &known.etag), (IF_MODIFIED_SINCE, &known.last_modified)];
    for (name, value) in conditions {
        if let Some(value) = value.as_deref().and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    }
}

fn redirect(attempt: Attempt<'_>, has_headers: bool) -> reqwest::redirect::Action {
    let Some(first) = attempt.previous().first() else { return attempt.stop() };
    let to = attempt.url();
    let refused = if to.scheme() != first.scheme() {
        Some(format!("the server sends on to {}: write the final address", to.origin().ascii_serialization()))
    } else if has_headers && to.origin() != first.origin() {
        Some(format!(
            "the server sends on to {}, which is not given the configured headers: write the final address",
            to.origin().ascii_serialization()
        ))
    } else if attempt.previous().len() > REDIRECTS_MAX {
        Some(format!("the server sends on more than {REDIRECTS_MAX} times"))
    } else {
        None
    };
    match refused {
        Some(refused) => attempt.error(refused),
        None => attempt.follow(),
    }
}

fn advice(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => ": see whether it wants a key, and whether the key is right",
        404 | 410 => ": see whether the address is right",
        429 => ": it wants to be asked less often",
        _ => "",
    }
}

/// How long a fetch may take that nothing else is said about.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(1);

#[cfg(test)]
pub(crate) mod server;
