//! From a configured list to its entries and its state.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use flate2::read::MultiGzDecoder;
use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{
    super::{Action, Entity, List, ListHeader, Relation},
    BadLine, Config, Day, Format, ListConfig, Source,
    collect::Collected,
    fetch::Progress,
    json, manifest, text,
};
use crate::ownership::CountryCode;

/// Files of a directory that are read.
const FILES_MAX: usize = 10_000;
/// Lists below this size may shrink as they like, but for the last entry: half of three is noise.
const SHRINK_FROM: usize = 10;

/// A list with its state.
#[derive(Debug)]
pub struct Feed {
    /// The list; empty where nothing could be read of it. Switched off when it has expired.
    pub list: List,
    /// How it is.
    pub state: State,
}

/// How a list is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct State {
    /// Its name.
    pub name: String,
    /// Where it comes from.
    pub source: String,
    /// The configuration has it switched on.
    pub enabled: bool,
    /// Keys in force; what one prefix says is one key.
    pub keys: usize,
    /// Entries that its source holds, before what belongs together is joined.
    pub entries: usize,
    /// Lines that are no entries.
    pub bad_lines: u64,
    /// The first of them.
    pub problems: Vec<BadLine>,
    /// When what is in force was last good: given or confirmed by its address, or changed in its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub good_at: Option<Timestamp>,
    /// When it stops to count unless it is good again before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// It has not been fetched yet, nor has that failed.
    pub is_awaited: bool,
    /// Why the last fetch failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetch_error: Option<String>,
    /// Since when it does not count any more, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expired: Option<String>,
    /// Why the last good one is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    /// Why nothing is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl State {
    /// What somebody should know, in sentences; nothing of a list that is switched off.
    pub fn notices(&self) -> impl Iterator<Item = String> {
        let awaited = self.is_awaited.then(|| format!("list {} waits for its first fetch", self.name));
        let bad = (self.bad_lines > 0).then(|| {
            let first = self.problems.first().map(ToString::to_string);
            let count =
                if self.bad_lines == 1 { "1 line is".to_owned() } else { format!("{} lines are", self.bad_lines) };
            format!("list {}: {count} left out, the first: {}", self.name, first.unwrap_or_default())
        });
        let is_empty = self.entries == 0 && !self.is_awaited && self.kept.is_none() && self.failed.is_none();
        let empty = is_empty.then(|| format!("list {}: {} holds no entry", self.name, self.source));
        self.troubles().chain([awaited, empty, bad].into_iter().flatten().filter(|_| self.enabled))
    }

    /// What is wrong with the list as a whole, in sentences.
    pub fn troubles(&self) -> impl Iterator<Item = String> {
        let expired = self.expired.as_ref().map(|why| format!("list {} does not count: {why}", self.name));
        let kept = self.kept.as_ref().map(|why| format!("list {}: the last good one is in force: {why}", self.name));
        let failed = self.failed.as_ref().map(|why| format!("list {} is empty: {why}", self.name));
        let old = self.fetch_error.as_ref().filter(|_| self.failed.is_none());
        let old = old.map(|why| format!("list {}: what was fetched before is in force: {why}", self.name));
        [failed, kept, expired, old].into_iter().flatten().filter(|_| self.enabled)
    }
}

/// Reads every configured list. `directory` holds the last good ones; nothing is written. At most `bad_lines` of the bad
/// lines of each list are kept.
#[must_use]
pub fn load(config: &Config, directory: &Path, now: Timestamp, bad_lines: usize) -> Vec<Feed> {
    config.0.iter().map(|(name, list)| one(name, list, directory, now, bad_lines)).collect()
}

fn one(name: &str, config: &ListConfig, directory: &Path, now: Timestamp, bad_lines: usize) -> Feed {
    let source = config.source.to_string();
    let mut state = State { name: name.to_owned(), enabled: config.enabled, source, ..State::default() };
    let last_good = Kept::read(&kept_path(directory, name), &state.source);
    let (mut list, good_at) = match read(name, config, directory, now, bad_lines, &mut state) {
        Ok((list, good_at)) => {
            let (found, before) = (state.entries, last_good.as_ref().map_or(0, |kept| kept.entries));
            let has_shrunk = before >= SHRINK_FROM && found * 2 <= before;
            let is_gone = before > 0 && found == 0;
            match last_good.filter(|_| (has_shrunk || is_gone) && !config.accept_shrunk) {
                Some(kept) => {
                    let found = match found {
                        0 => "no entry".to_owned(),
                        1 => "1 entry".to_owned(),
                        found => format!("{found} entries"),
                    };
                    state.kept = Some(format!(
                        "{} holds {found} where it held {before}: see whether it is whole, and set \
                         accept_shrunk = true if it is",
                        state.source
                    ));
                    (kept.list(name, config), kept.good_at)
                }
                None => (list, good_at),
            }
        }
        Err(problem) => {
            if let Some(kept) = last_good {
                state.kept = Some(problem);
                (kept.list(name, config), kept.good_at)
            } else {
                state.failed = Some(problem).filter(|_| !state.is_awaited);
                (self::list(name, config, Collected::default()), None)
            }
        }
    };
    state.keys = keys(&list);
    state.good_at = good_at;
    state.expires_at = expires_at(config, good_at);
    state.expired = expired(config, good_at, now);
    list.header.enabled &= state.expired.is_none();
    Feed { list, state }
}

/// The first moment at which the list does not count.
fn expires_at(config: &ListConfig, good_at: Option<Timestamp>) -> Option<Timestamp> {
    let by_age = good_at.zip(config.expires).and_then(|(at, limit)| at.checked_add(limit.get()).ok());
    let by_day = config.valid_until.and_then(|day| {
        let next = day.0.tomorrow().ok()?;
        Some(next.to_zoned_datetime(TimeZone::UTC).ok()?.timestamp())
    });
    by_age.into_iter().chain(by_day).min()
}

fn expired(config: &ListConfig, good_at: Option<Timestamp>, now: Timestamp) -> Option<String> {
    if expires_at(config, good_at)? > now {
        return None;
    }
    if let Some(day) = config.valid_until.filter(|day| day.0 < now.to_zoned_datetime(TimeZone::UTC).date()) {
        return Some(format!("it was valid until {}", day.0));
    }
    Some(format!("it was last good at {}, more than {} ago", good_at?.strftime("%Y-%m-%dT%H:%M:%SZ"), config.expires?))
}

/// How many keys a list holds.
fn keys(list: &List) -> usize {
    let count = |entity: &Entity| {
        let numbers = entity.asns.len() + entity.cidrs.len() + entity.countries.len();
        numbers + entity.domains.len() + entity.organisations.len()
    };
    list.entities.iter().map(count).sum()
}

/// The source as it is now, and when it was last good.
fn read(
    name: &str,
    config: &ListConfig,
    directory: &Path,
    now: Timestamp,
    bad_lines: usize,
    state: &mut State,
) -> Result<(List, Option<Timestamp>), String> {
    let (path, confirmed_at) = match &config.source {
        Source::Path(path) => (path.clone(), None),
        Source::Url(url) => {
            let progress = Progress::read(directory, name, url.as_str());
            state.fetch_error = progress.error.as_ref().map(|why| match progress.failures {
                0 | 1 => format!("{} was not fetched: {why}", state.source),
                failures => format!("{} was not fetched, {failures} times in a row: {why}", state.source),
            });
            let Some(path) = progress.content(directory, name) else {
                state.is_awaited = state.fetch_error.is_none();
                return Err(state
                    .fetch_error
                    .clone()
                    .unwrap_or_else(|| format!("{} was not fetched yet", state.source)));
            };
            (path, progress.confirmed_at)
        }
    };
    let unreadable = |path: &Path, error: &io::Error| format!("{} cannot be read: {error}", path.display());
    let mut changed_at = None;
    let mut collected = Collected { now, bad_kept: bad_lines, ..Collected::default() };
    let mut room = config.max_bytes.bytes();
    for file in files(&path).map_err(|error| unreadable(&path, &error))? {
        let content = File::open(&file).map_err(|error| unreadable(&file, &error))?;
        let facts = content.metadata().map_err(|error| unreadable(&file, &error))?;
        let too_large = || {
            format!(
                "{} holds more than {}: raise lists.{name}.max_bytes if it should",
                path.display(),
                config.max_bytes
            )
        };
        if facts.len() > room {
            return Err(too_large());
        }
        changed_at = changed_at.max(facts.modified().ok().and_then(|at| Timestamp::try_from(at).ok()));
        let shown = if confirmed_at.is_some() { state.source.clone() } else { file.display().to_string() };
        let content = unpacked(content.take(facts.len()), &mut room).map_err(|error| unreadable(&file, &error))?;
        let mut content = BufReader::new(content);
        let beginning = beginning(&mut content).map_err(|error| unreadable(&file, &error))?;
        if config.format == Format::Auto && beginning == Beginning::Page {
            return Err(format!("{shown} is a page or XML and no list"));
        }
        if has_extension(&file, "toml") {
            return Err(format!("{shown} is a list in the format of the embedded ones: name it in policy.files"));
        }
        if config.format == Format::Json || (config.format == Format::Auto && beginning == Beginning::Json) {
            let mut text = String::new();
            content.read_to_string(&mut text).map_err(|error| unreadable(&file, &error))?;
            json::read(&shown, &text, &mut collected);
        } else {
            text::read(&shown, content, config.format, &mut collected).map_err(|error| unreadable(&file, &error))?;
        }
    }
    collected.refuse_everything(&state.source);
    for gap in manifest::gaps(&path) {
        collected.refuse(&state.source, 0, &gap);
    }
    (state.bad_lines, state.problems) = (collected.bad_count, std::mem::take(&mut collected.bad));
    state.entries = collected.len();
    if state.entries == 0 && state.bad_lines > 0 {
        let first = state.problems.first().map(|bad| format!(", the first: {}", bad.problem)).unwrap_or_default();
        return Err(format!("none of the {} lines of {} is an entry{first}", state.bad_lines, state.source));
    }
    Ok((list(name, config, collected), confirmed_at.or(changed_at)))
}

/// What is in a file, unpacked where it is packed with gzip (RFC 1952). It may not be larger than `room`, from which it is
/// taken.
fn unpacked<'a>(content: impl io::Read + 'a, room: &'a mut u64) -> io::Result<impl io::Read + 'a> {
    let mut content = BufReader::new(content);
    let is_packed = content.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    let content: Box<dyn io::Read + 'a> =
        if is_packed { Box::new(MultiGzDecoder::new(content)) } else { Box::new(content) };
    Ok(Bounded { content, room })
}

struct Bounded<'a> {
    content: Box<dyn io::Read + 'a>,
    room: &'a mut u64,
}

impl io::Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        let Some(left) = self.room.checked_sub(count as u64) else {
            return Err(io::Error::other(
                "unpacked it is larger than the list's max_bytes: raise that if it should be",
            ));
        };
        *self.room = left;
        Ok(count)
    }
}

/// What a source begins as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginning {
    Json,
    /// HTML or XML.
    Page,
    Other,
}

/// Looks at the first bytes, behind a byte order mark.
fn beginning(content: &mut impl io::BufRead) -> io::Result<Beginning> {
    let is_blank = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, 0xef | 0xbb | 0xbf);
    let mut bytes = content.fill_buf()?.iter().copied().filter(|byte| !is_blank(byte));
    Ok(match (bytes.next(), bytes.next()) {
        (Some(b'<'), _) => Beginning::Page,
        // Rules of AdBlock begin with their name in brackets.
        (Some(b'{'), _) | (Some(b'['), None | Some(b'{' | b'[' | b'"' | b']')) => Beginning::Json,
        _ => Beginning::Other,
    })
}

fn has_extension(file: &Path, wanted: &str) -> bool {
    file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(wanted))
}

/// Whether a file is there for the one who edits another one, or updates it: hidden files, and what editors and package
/// managers leave.
fn is_beside(name: &[u8]) -> bool {
    const ENDS: [&[u8]; 11] = [
        b"~",
        b"#",
        b".bak",
        b".orig",
        b".swp",
        b".tmp",
        b".dpkg-old",
        b".dpkg-dist",
        b".dpkg-new",
        b".rpmsave",
        b".rpmnew",
    ];
    name.starts_with(b".") || ENDS.iter().any(|end| name.ends_with(end))
}

/// The file itself, or the files of the directory by name, without those that lie beside.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if !is_beside(entry.file_name().as_encoded_bytes())
            && fs::metadata(entry.path()).is_ok_and(|facts| facts.is_file())
        {
            files.push(entry.path());
        }
        if files.len() > FILES_MAX {
            return Err(io::Error::other(format!("it holds more than {FILES_MAX} files")));
        }
    }
    files.sort();
    // A feed of MISP: the manifest names its events, and beside them lie hashes.
    if files.iter().any(|file| file.ends_with("manifest.json")) {
        files.retain(|file| has_extension(file, "json") && !file.ends_with("manifest.json"));
    }
    Ok(files)
}

/// The list of what was collected, under the title page that the configuration and the source give.
fn list(name: &str, config: &ListConfig, mut collected: Collected) -> List {
    let shared = |text: &Option<String>| text.as_deref().map(Arc::<str>::from);
    let file = config.source.to_string();
    let title = shared(&config.title).or(shared(&collected.title.take())).unwrap_or_else(|| name.into());
    let about = shared(&config.about).or(shared(&collected.about.take()));
    let relation = if config.legal_basis.is_some() { Relation::Named } else { Relation::Topical };
    let header = ListHeader {
        id: name.into(),
        title: Arc::clone(&title),
        legal_basis: shared(&config.legal_basis),
        about: about
            .unwrap_or_else(|| "A list of this host's configuration, which does not say what a match means.".into()),
        source: file.as_str().into(),
        as_of: config.as_of.map(|day| day.0).or(collected.as_of),
        severity: config.severity,
        enabled: config.enabled,
        action: config.action,
    };
    let entities = collected.into_entities(&title, relation, config.severity);
    let applies_to = match config.action {
        Action::Ignore => config.applies_to.iter().map(|id| id.as_str().into()).collect(),
        Action::Alert => Vec::new(),
    };
    List { header, file, entities, applies_to, is_embedded: false }
}

/// The last good state of a list on disk.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Another source has another list.
    source: String,
    /// Entries of the source, as [`State::entries`].
    entries: usize,
    good_at: Option<Timestamp>,
    as_of: Option<Day>,
    entities: Vec<KeptEntity>,
}

#[derive(Serialize, Deserialize)]
struct KeptEntity {
    name: String,
    asns: Vec<u32>,
    domains: Vec<String>,
    countries: Vec<String>,
    cidrs: Vec<String>,
    organisations: Vec<String>,
}

fn kept_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.json"))
}

impl Kept {
    fn read(path: &Path, source: &str) -> Option<Self> {
        let kept: Self = serde_json::from_reader(BufReader::new(File::open(path).ok()?)).ok()?;
        Some(kept).filter(|kept| kept.source == source)
    }

    fn list(&self, name: &str, config: &ListConfig) -> List {
        let collected = Collected { as_of: self.as_of.map(|day| day.0), ..Collected::default() };
        let mut list = self::list(name, config, collected);
        let relation = if config.legal_basis.is_some() { Relation::Named } else { Relation::Topical };
        let entity = |kept: &KeptEntity| Entity {
            name: kept.name.as_str().into(),
            relation,
            authority: None,
            severity: config.severity,
            verified: true,
            note: None,
            asns: kept.asns.clone(),
            domains: kept.domains.iter().map(|name| name.as_str().into()).collect(),
            countries: kept.countries.iter().filter_map(|code| CountryCode::new(code)).collect(),
            cidrs: kept.cidrs.iter().filter_map(|net| net.parse().ok()).collect(),
            organisations: kept.organisations.iter().map(|name| name.as_str().into()).collect(),
        };
        list.entities = self.entities.iter().map(entity).collect();
        list
    }
}

/// Keeps each good list as the last good one: written beside, flushed, renamed.
pub fn keep(feeds: &[Feed], directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let is_good = |state: &State| state.kept.is_none() && state.failed.is_none() && !state.is_awaited;
    for Feed { list, state } in feeds.iter().filter(|feed| is_good(&feed.state)) {
        let entity = |entity: &Entity| KeptEntity {
            name: entity.name.to_string(),
            asns: entity.asns.clone(),
            domains: entity.domains.iter().map(ToString::to_string).collect(),
            countries: entity.countries.iter().map(ToString::to_string).collect(),
            cidrs: entity.cidrs.iter().map(ToString::to_string).collect(),
            organisations: entity.organisations.iter().map(ToString::to_string).collect(),
        };
        let entities = list.entities.iter().map(entity).collect();
        let kept = Kept {
            source: state.source.clone(),
            entries: state.entries,
            good_at: state.good_at,
            as_of: list.header.as_of.map(Day),
            entities,
        };
        let path = kept_path(directory, &state.name);
        let beside = path.with_extension("json.new");
        let mut file = io::BufWriter::new(File::create(&beside)?);
        serde_json::to_writer(&mut file, &kept)?;
        file.flush()?;
        file.get_ref().sync_all()?;
        fs::rename(&beside, &path)?;
    }
    Ok(())
}
