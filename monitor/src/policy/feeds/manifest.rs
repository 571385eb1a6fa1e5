//! A feed of MISP by the address of its manifest: the events that it names lie under the same address. What is unchanged
//! since the last time is not fetched again.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use serde_json::Value;

use super::ListConfig;
use crate::{
    download::{self, Download},
    sink::http::{HttpUrl, Settings},
    units::ByteSize,
};

/// Name of the manifest, in a feed's address and in its directory.
const MANIFEST: &str = "manifest.json";
/// Most events of a feed.
const EVENTS_MAX: usize = 10_000;
/// Longest time for all events. What was fetched by then is fetched again.
const TIME_MAX: Duration = Duration::from_mins(10);

/// What a manifest says of an event, as far as it matters here.
#[derive(Deserialize)]
struct Entry {
    /// When it was last changed.
    #[serde(default)]
    timestamp: Value,
    /// Its title, which every event has.
    #[serde(rename = "info")]
    _info: Value,
}

type Manifest = BTreeMap<String, Entry>;

/// Whether a list's address is that of a feed's manifest.
pub(super) fn is_manifest(url: &str) -> bool {
    split(url).is_some_and(|(_, name, _)| name == MANIFEST)
}

/// The directory in which a feed's manifest and events are kept.
pub(super) fn directory_of(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.fetched.d"))
}

/// Fetches the events of the manifest that is in the file `manifest`, and puts all of them into the place of the feed
/// before, or leaves that as it was.
pub(super) async fn fetch_events(
    name: &str,
    config: &ListConfig,
    settings: &Settings,
    directory: &Path,
    manifest: &Path,
) -> Result<(), String> {
    let fetching = tokio::time::timeout(TIME_MAX, fetch(name, config, settings, directory, manifest));
    fetching
        .await
        .unwrap_or_else(|_| Err(format!("its events were not fetched within {} minutes", TIME_MAX.as_secs() / 60)))
}

async fn fetch(
    name: &str,
    config: &ListConfig,
    settings: &Settings,
    directory: &Path,
    manifest: &Path,
) -> Result<(), String> {
    let unwritable = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| format!("{path} cannot be written: {error}")
    };
    let events = read(manifest)?;
    let (before, beside) = (directory_of(directory, name), directory_of(directory, &format!("{name}.new")));
    let known = read(&before.join(MANIFEST)).unwrap_or_default();
    remove(&beside).map_err(unwritable(&beside))?;
    fs::create_dir_all(&beside).map_err(unwritable(&beside))?;
    let mut room = config.max_bytes.bytes();
    for (uuid, entry) in &events {
        let file = format!("{uuid}.json");
        let (old, new) = (before.join(&file), beside.join(&file));
        let is_unchanged = known.get(uuid).is_some_and(|known| known.timestamp == entry.timestamp);
        if !is_unchanged || fs::hard_link(&old, &new).is_err() {
            let settings = Settings { url: event_url(settings.url.as_str(), &file)?, ..settings.clone() };
            let max_bytes = ByteSize::from_bytes(room);
            let download = Download { settings: &settings, headers: &config.headers, max_bytes, known: None };
            download::get(download, &new).await.map_err(|error| format!("event {uuid}: {error}"))?;
        }
        let size = fs::metadata(&new).map_err(unwritable(&new))?.len();
        room = room
            .checked_sub(size)
            .ok_or_else(|| format!("its events hold more than {}: raise max_bytes if they should", config.max_bytes))?;
    }
    let place = beside.join(MANIFEST);
    fs::rename(manifest, &place).map_err(unwritable(&place))?;
    // A crash in between costs a fetch.
    remove(&before).map_err(unwritable(&before))?;
    fs::rename(&beside, &before).map_err(unwritable(&before))
}

/// Reads a manifest. Its names become names of files, so nothing but UUIDs is taken.
fn read(path: &Path) -> Result<Manifest, String> {
    let bytes = fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let events: Manifest =
        serde_json::from_slice(&bytes).map_err(|error| format!("this is no manifest of a MISP feed: {error}"))?;
    let is_uuid = |text: &str| text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if let Some(other) = events.keys().find(|uuid| !is_uuid(uuid)) {
        return Err(format!("this is no manifest of a MISP feed: {other:.60?} is no UUID"));
    }
    if events.len() > EVENTS_MAX {
        return Err(format!("the manifest names {} events, and at most {EVENTS_MAX} are read", events.len()));
    }
    Ok(events)
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The address of an event: that of the manifest with another last part.
fn event_url(manifest: &str, file: &str) -> Result<HttpUrl, String> {
    let (folder, _, query) = split(manifest).ok_or("the address has no path")?;
    format!("{folder}/{file}{query}").parse()
}

/// An address up to its last part, that part, and the query.
fn split(url: &str) -> Option<(&str, &str, &str)> {
    let end = url.find('?').unwrap_or(url.len());
    let (path, query) = url.split_at(end);
    let (folder, name) = path.rsplit_once('/')?;
    Some((folder, name, query))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_lie_beside_the_manifest() {
        for (url, event) in [
            ("https://misp.example/feed/manifest.json", "https://misp.example/feed/x.json"),
            ("http://misp.example:8080/manifest.json?key=1", "http://misp.example:8080/x.json?key=1"),
        ] {
            assert!(is_manifest(url));
            assert_eq!(event_url(url, "x.json").unwrap().as_str(), event);
        }
        assert!(!is_manifest("https://misp.example/manifest.json/list.txt"));
        assert!(!is_manifest("https://misp.example/x?manifest.json"));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, complaint) in [
            ("{\"../../etc/passwd\": {\"info\": \"x\"}}", "is no UUID"),
            ("{\"00000000-0000-0000-0000-000000000000\": {}}", "missing field `info`"),
            ("[]", "no manifest"),
        ] {
            fs::write(file.path(), text).unwrap();
            let error = read(file.path()).err().expect(text);
            assert!(error.contains(complaint), "{error}");
        }
    }
}
