//! Downloads over HTTP, for `egresswatch data update` alone, from addresses that the configuration names.
//!
//! What was downloaded is kept beside the table with what the server said of it, and the next time the server is asked
//! whether it has another.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::{Config, settings::Place};
use crate::{
    download::{self, Download, DownloadError, Validators},
    ownership,
    sink::{
        http::{Headers, HttpUrl, OpenError, Settings},
        tls::TlsConfig,
    },
};

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
    /// The authorities, or the client.
    #[error("{0}")]
    Client(String),
    /// No answer, another one than the file, or more than is taken.
    #[error("cannot fetch {address}: {problem}")]
    Download {
        /// Without its query.
        address: String,
        /// What went wrong.
        problem: String,
    },
    /// The directory of downloads.
    #[error("cannot keep {}: {source}", path.display())]
    Keep {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What is known of a file that is kept. It comes after the file and holds its checksum: a file that is not its is not used.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Notes {
    sha256: String,
    #[serde(flatten)]
    validators: Validators,
}

/// Fetches, with limits in time and size.
#[derive(Debug)]
pub(super) struct Fetcher<'a> {
    config: &'a Config,
    downloads: PathBuf,
}

impl<'a> Fetcher<'a> {
    /// `downloads` is where files are kept.
    pub(super) const fn new(config: &'a Config, downloads: PathBuf) -> Self {
        Self { config, downloads }
    }

    /// What is at an address now, from the disk where the server says that it is the same.
    pub(super) async fn fetch(&self, url: &HttpUrl) -> Result<Fetched, FetchError> {
        let body = self.downloads.join(ownership::sha256(url.as_str().as_bytes()).get(..16).unwrap_or_default());
        let (notes, beside) = (body.with_extension("json"), body.with_extension("new"));
        fs::create_dir_all(&self.downloads).map_err(keep(&self.downloads))?;
        let kept = kept(&body, &notes);
        let settings = Settings {
            url: url.clone(),
            tls: TlsConfig { ca: self.config.ca.clone(), ..TlsConfig::default() },
            timeout: self.config.timeout.get(),
            proxy: self.config.proxy.clone(),
        };
        let download = Download {
            settings: &settings,
            headers: &Headers::default(),
            max_bytes: self.config.max_download,
            known: kept.as_ref().map(|(_, notes)| &notes.validators),
        };
        let new = match download::get(download, &beside).await {
            Ok(download::Fetched::Unchanged) => None,
            Ok(download::Fetched::New(validators)) => Some(validators),
            Err(error) => {
                // What came of it is in the way of the next one only.
                let _ = fs::remove_file(&beside);
                return Err(explain(url, error));
            }
        };
        if let Some(validators) = new {
            let bytes = fs::read(&beside).map_err(keep(&beside))?;
            fs::rename(&beside, &body).map_err(keep(&body))?;
            let fetched = Fetched { date: validators.date(), bytes };
            let text = serde_json::to_vec(&Notes { sha256: ownership::sha256(&fetched.bytes), validators })
                .map_err(|error| keep(&notes)(error.into()))?;
            fs::write(&notes, &text).map_err(keep(&notes))?;
            return Ok(fetched);
        }
        match kept {
            Some((bytes, notes)) => Ok(Fetched { bytes, date: notes.validators.date() }),
            // Nobody asked whether anything changed.
            None => Err(FetchError::Client(format!("{} says that nothing changed", Place::Url(url.clone())))),
        }
    }
}

/// The reason in terms of the settings that a download has here.
fn explain(url: &HttpUrl, error: DownloadError) -> FetchError {
    let problem = match error {
        DownloadError::Open(OpenError::Tls(error)) => {
            return FetchError::Client(error.to_string().replace("tls.ca", "data.ca"));
        }
        DownloadError::TooLarge(limit) => {
            format!("it has more than {limit}: check the address, or raise data.max_download")
        }
        error => error.to_string(),
    };
    FetchError::Download { address: Place::Url(url.clone()).to_string(), problem }
}

fn keep(path: &Path) -> impl FnOnce(io::Error) -> FetchError + use<> {
    let path = path.to_owned();
    |source| FetchError::Keep { path, source }
}

/// What is kept of an address, if it is whole.
fn kept(body: &Path, notes: &Path) -> Option<(Vec<u8>, Notes)> {
    let notes: Notes = serde_json::from_slice(&fs::read(notes).ok()?).ok()?;
    let bytes = fs::read(body).ok()?;
    (ownership::sha256(&bytes) == notes.sha256).then_some((bytes, notes))
}
