//! A feed of MISP by the address of its manifest: the events that it names lie under the same address. What is unchanged
//! since the last time is not fetched again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ListConfig;
use crate::{
    download::{self, Download, DownloadError},
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
#[derive(Deserialize, Serialize)]
struct Entry {
    /// When it was last changed.
    #[serde(default)]
    timestamp: Value,
    /// Its title, which every event has.
    info: Value,
    /// What is there is an older state, because the server did not have this one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_stale: bool,
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

/// What a directory's manifest names and that is not there, in words; nothing where there is no manifest.
pub(super) fn gaps(directory: &Path) -> Vec<String> {
    let place = directory.join(MANIFEST);
    let events = if place.is_file() { read(&place).unwrap_or_default() } else { Manifest::new() };
    let gap = |(uuid, event): (&String, &Entry)| {
        if !directory.join(file_of(uuid)).is_file() {
            return Some(format!("event {uuid} of the feed is not there"));
        }
        event.is_stale.then(|| format!("event {uuid} of the feed is not there, what came of it before stays"))
    };
    events.iter().filter_map(gap).collect()
}

fn file_of(uuid: &str) -> String {
    format!("{uuid}.json")
}

/// Fetches the events of the manifest that is in the file `manifest`, and puts all of them into the place of the feed
/// before, or leaves that as it was. Of an event that the server does not have, what came before stays. Whether all came.
pub(super) async fn fetch_events(
    name: &str,
    config: &ListConfig,
    settings: &Settings,
    directory: &Path,
    manifest: &Path,
) -> Result<bool, String> {
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
) -> Result<bool, String> {
    let unwritable = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| format!("{path} cannot be written: {error}")
    };
    let mut events = read(manifest)?;
    let (before, beside) = (directory_of(directory, name), directory_of(directory, &format!("{name}.new")));
    let known = read(&before.join(MANIFEST)).unwrap_or_default();
    let place = beside.join(MANIFEST);
    begin(&beside, &events).map_err(unwritable(&beside))?;
    let part = beside.join("part");
    let mut room = config.max_bytes.bytes();
    let mut gone = BTreeSet::new();
    for (uuid, entry) in &events {
        let file = file_of(uuid);
        let (old, new) = (before.join(&file), beside.join(&file));
        let is_unchanged = known.get(uuid).is_some_and(|known| !known.is_stale && known.timestamp == entry.timestamp);
        let is_there = new.is_file() || (is_unchanged && fs::hard_link(&old, &new).is_ok());
        if !is_there {
            let settings = Settings { url: event_url(settings.url.as_str(), &file)?, ..settings.clone() };
            let max_bytes = ByteSize::from_bytes(room);
            let download = Download { settings: &settings, headers: &config.headers, max_bytes, known: None };
            match download::get(download, &part).await {
                Ok(_) => fs::rename(&part, &new).map_err(unwritable(&new))?,
                Err(DownloadError::Status(status)) if matches!(status.as_u16(), 403 | 404 | 410) => {
                    gone.insert(uuid.clone());
                    // Where there was none before, none is there now: who reads the feed tells.
                    if fs::hard_link(&old, &new).is_err() {
                        continue;
                    }
                }
                Err(error) => return Err(format!("event {uuid}: {error}")),
            }
        }
        let size = fs::metadata(&new).map_err(unwritable(&new))?.len();
        room = room
            .checked_sub(size)
            .ok_or_else(|| format!("its events hold more than {}: raise max_bytes if they should", config.max_bytes))?;
    }
    // What stays of an older state is asked for again.
    for (uuid, event) in &mut events {
        event.is_stale = gone.contains(uuid);
    }
    write(&place, &events).map_err(unwritable(&place))?;
    // What came in place of these says all that it said. If it stays, the next fetch writes over it.
    let _ = fs::remove_file(manifest);
    // A crash in between costs a fetch.
    remove(&before).map_err(unwritable(&before))?;
    fs::rename(&beside, &before).map_err(unwritable(&before))?;
    Ok(gone.is_empty())
}

/// Makes the directory in which events are gathered. Those that an earlier try fetched stay, unless they changed since.
fn begin(beside: &Path, events: &Manifest) -> io::Result<()> {
    let place = beside.join(MANIFEST);
    let tried = read(&place).unwrap_or_default();
    for entry in fs::read_dir(beside).into_iter().flatten() {
        let file = entry?;
        let name = file.file_name();
        let uuid = name.to_str().and_then(|name| name.strip_suffix(".json"));
        let states = uuid.and_then(|uuid| Some((tried.get(uuid)?, events.get(uuid)?)));
        if !states.is_some_and(|(tried, wanted)| tried.timestamp == wanted.timestamp) {
            fs::remove_file(file.path())?;
        }
    }
    fs::create_dir_all(beside)?;
    write(&place, events)
}

fn write(place: &Path, events: &Manifest) -> io::Result<()> {
    fs::write(place, serde_json::to_vec(events)?)
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
