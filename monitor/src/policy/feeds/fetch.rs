//! Lists that are fetched: what was fetched lies in the state directory, so that a restart needs no network.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ListConfig, Source, manifest};
use crate::{
    download::{self, Download, Fetched, Validators},
    sink::http::{HttpUrl, Settings},
};

/// The first pause after a fetch that failed; it doubles with each further one, up to the interval.
const RETRY_FIRST: Duration = Duration::from_mins(1);

/// How the fetching of a list goes, on the disk beside what was fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Where it was fetched from.
    url: String,
    /// What the server calls the state that is there; `None` if nothing is.
    content: Option<Validators>,
    /// When the server last gave or confirmed it.
    pub(super) confirmed_at: Option<Timestamp>,
    /// When it was last asked.
    pub(super) attempted_at: Option<Timestamp>,
    /// Fetches that failed since the last good one.
    pub(super) failures: u32,
    /// Why the last one failed.
    pub(super) error: Option<String>,
}

/// What a fetch changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// There is something else to read or to tell.
    pub has_changed: bool,
    /// When the server gave or confirmed what is there, if it did.
    pub confirmed_at: Option<Timestamp>,
}

impl Progress {
    /// Of the list of this name, if it was fetched from this address.
    pub(super) fn read(directory: &Path, name: &str, url: &str) -> Self {
        let kept = fs::read(progress_path(directory, name)).ok();
        let kept: Option<Self> = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        kept.filter(|kept| kept.url == url).unwrap_or_else(|| Self { url: url.to_owned(), ..Self::default() })
    }

    /// The file that holds what was fetched, or the directory where it is a feed of several files.
    pub(super) fn content(&self, directory: &Path, name: &str) -> Option<PathBuf> {
        self.content.as_ref()?;
        if manifest::is_manifest(&self.url) {
            return Some(manifest::directory_of(directory, name)).filter(|path| path.is_dir());
        }
        Some(content_path(directory, name)).filter(|path| path.is_file())
    }

    fn write(&self, directory: &Path, name: &str) -> io::Result<()> {
        let path = progress_path(directory, name);
        let beside = path.with_extension("json.new");
        fs::write(&beside, serde_json::to_vec(self)?)?;
        fs::rename(beside, path)
    }

    /// When the next fetch is due.
    fn due(&self, refresh: Duration) -> Option<Timestamp> {
        let pause = match self.failures {
            0 => refresh,
            failures => RETRY_FIRST.saturating_mul(1 << (failures - 1).min(16)).min(refresh),
        };
        self.attempted_at?.checked_add(pause).ok()
    }
}

fn content_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.fetched"))
}

fn progress_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.fetched.json"))
}

/// When a list is to be fetched next: `None` for one that is not fetched or is switched off, and the beginning of time for
/// one that never was.
#[must_use]
pub fn due(name: &str, config: &ListConfig, directory: &Path) -> Option<Timestamp> {
    let Source::Url(url) = &config.source else { return None };
    if !config.enabled {
        return None;
    }
    let progress = Progress::read(directory, name, url.as_str());
    Some(progress.due(config.refresh.get()).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// How a list is fetched.
pub(super) fn settings(config: &ListConfig, url: &HttpUrl) -> Settings {
    Settings { url: url.clone(), tls: config.tls.clone(), timeout: download::TIMEOUT, proxy: config.proxy.clone() }
}

/// Puts what was fetched into its place: the file `beside`, or the events that it names. Whether that is all.
async fn put(
    name: &str,
    config: &ListConfig,
    settings: &Settings,
    directory: &Path,
    beside: &Path,
) -> Result<bool, String> {
    if manifest::is_manifest(settings.url.as_str()) {
        return manifest::fetch_events(name, config, settings, directory, beside).await;
    }
    let path = content_path(directory, name);
    fs::rename(beside, &path).map_err(|error| format!("{} cannot be replaced: {error}", path.display()))?;
    Ok(true)
}

/// Fetches a list, if it is one that is fetched, and writes how it went. Never fails: what went wrong is told by the list's
/// state from then on.
pub async fn fetch(name: &str, config: &ListConfig, directory: &Path, now: Timestamp) -> Outcome {
    let Source::Url(url) = &config.source else { return Outcome { has_changed: false, confirmed_at: None } };
    let mut progress = Progress::read(directory, name, url.as_str());
    let before = progress.clone();
    let settings = settings(config, url);
    let known = progress.content(directory, name).and(progress.content.clone());
    let download =
        Download { settings: &settings, headers: &config.headers, max_bytes: config.max_bytes, known: known.as_ref() };
    let beside = directory.join(format!("{name}.fetched.new"));
    let outcome = match fs::create_dir_all(directory) {
        Ok(()) => download::get(download, &beside).await.map_err(|error| error.to_string()),
        Err(error) => Err(format!("{} cannot be made: {error}", directory.display())),
    };
    let outcome = match outcome {
        Ok(Fetched::New(validators)) => {
            let put = put(name, config, &settings, directory, &beside).await;
            // What is not whole is asked for again, whether the server changed it or not.
            put.map(|is_all| Some(if is_all { validators } else { Validators::default() }))
        }
        Ok(Fetched::Unchanged) => Ok(None),
        Err(error) => Err(error),
    };
    progress.attempted_at = Some(now);
    let is_new = match outcome {
        Ok(new) => {
            (progress.confirmed_at, progress.failures, progress.error) = (Some(now), 0, None);
            let is_new = new.is_some();
            progress.content = new.or(progress.content);
            is_new
        }
        Err(error) => {
            // What came of it is in the way of the next one only.
            let _ = fs::remove_file(&beside);
            tracing::warn!(list = name, error, "the list was not fetched: what is there stays");
            (progress.failures, progress.error) = (progress.failures.saturating_add(1), Some(error));
            false
        }
    };
    if let Err(error) = progress.write(directory, name) {
        tracing::warn!(list = name, %error, directory = %directory.display(), "how fetching a list went cannot be kept");
    }
    Outcome {
        has_changed: is_new || progress.error != before.error,
        confirmed_at: progress.error.is_none().then_some(now),
    }
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
