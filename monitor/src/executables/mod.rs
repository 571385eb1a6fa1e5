//! What a process ran: the SHA-256 of its executable, and the package that the file came with.
//!
//! [`Executables`] finds a process's file at the moment of its first flagged flow, while the process still lives if it
//! can, and hands it to a [`Reader`], which does the slow part in a thread of its own. What is told of a file is told
//! of that file or not at all: a path alone proves nothing, because files are replaced while they run and the same path
//! leads elsewhere in another mount namespace. See `find.rs` for what counts as proof.

mod find;
mod package;
mod reader;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, OnceLock, mpsc},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{package::Package, reader::Reader};

use crate::{
    bounded::BoundedMap,
    event::{FileId, ProcessKey},
    process::Process,
    units::{ByteSize, Duration},
};
use find::{Found, Stamp};

/// Files that wait to be read. Each holds two descriptors.
const QUEUE: usize = 64;
/// Files whose facts are remembered, each about 300 bytes with its place in the map.
const REMEMBERED_FILES: usize = 4_096;
/// Processes whose file is remembered, so that a process with many flows is looked at once.
const REMEMBERED_PROCESSES: usize = 4_096;

/// Settings of what is read of executables: `[executables]` in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Read the executables of processes that reach listed owners: their SHA-256 and their package.
    pub enabled: bool,
    /// An alert waits at most this long for them, and not at all if one before it waited in vain for the same executable
    /// (unless suppressions or maintenance windows are configured, which may ask for them). An alert that could not wait
    /// says that they are pending, and a record of its own tells them later.
    #[schemars(with = "String")]
    pub wait: Duration,
    /// Larger files are not hashed.
    #[schemars(with = "String")]
    pub max_size: ByteSize,
    /// How much is read in a second, on average.
    #[schemars(with = "String")]
    pub read_rate: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            wait: Duration::from_millis(20),
            max_size: ByteSize::from_bytes(512 << 20),
            read_rate: ByteSize::from_bytes(128 << 20),
        }
    }
}

/// Why a fact about a file is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// The file was still being read; a later record tells.
    Pending,
    /// The configuration says not to read executables.
    Disabled,
    /// Which file the process ran is not known.
    FileUnknown,
    /// The process had ended, and no file is provably the one that it ran.
    ProcessGone,
    /// The file was changed or replaced since, so that what it was cannot be told.
    FileChanged,
    /// The file is larger than the configuration permits to read.
    TooLarge,
    /// Too many files were waiting to be read.
    Busy,
    /// The file could not be read.
    Unreadable,
    /// Package: no package lists this path.
    NotPackaged,
    /// Package: where the process ran there is no package database of a kind that is read (dpkg, apk, pacman).
    NoDatabase,
}

/// A SHA-256 digest. It is shown in lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha256(pub [u8; 32]);

impl fmt::Display for Sha256 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// What is known of a file, as far as it has been read. Everybody who asked for the same file holds the same facts.
#[derive(Clone, Debug, Default)]
pub struct FileFacts {
    hash: OnceLock<Result<Sha256, Gap>>,
    package: OnceLock<Result<Package, Gap>>,
}

impl FileFacts {
    /// Facts of which all are known, or known to be unknown.
    #[must_use]
    pub fn new(hash: Result<Sha256, Gap>, package: Result<Package, Gap>) -> Self {
        Self { hash: hash.into(), package: package.into() }
    }

    /// The digest of the file's content.
    pub fn hash(&self) -> Result<Sha256, Gap> {
        self.hash.get().copied().unwrap_or(Err(Gap::Pending))
    }

    /// The package that lists the file's path.
    pub fn package(&self) -> Result<&Package, Gap> {
        match self.package.get() {
            Some(Ok(package)) => Ok(package),
            Some(Err(gap)) => Err(*gap),
            None => Err(Gap::Pending),
        }
    }

    /// Whether there is nothing more to wait for.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.hash.get().is_some() && self.package.get().is_some()
    }

    fn missing(gap: Gap) -> Arc<Self> {
        Arc::new(Self::new(Err(gap), Err(gap)))
    }
}

/// A file to be read, and where what is found goes.
#[derive(Debug)]
struct Job {
    found: Found,
    facts: Arc<FileFacts>,
}

/// Finds the files of processes, and remembers what was read of them.
#[derive(Debug)]
pub struct Executables {
    proc: PathBuf,
    by_process: BoundedMap<(ProcessKey, Option<FileId>), Arc<FileFacts>>,
    by_file: BoundedMap<Stamp, Arc<FileFacts>>,
    jobs: Option<mpsc::SyncSender<Job>>,
}

impl Executables {
    /// Finds files below `proc`, a `/proc` of the initial pid namespace. The reader ends when this is dropped.
    #[must_use]
    pub fn new(config: &Config, proc: PathBuf) -> (Self, Reader) {
        let (sender, receiver) = mpsc::sync_channel(QUEUE);
        let executables = Self { jobs: config.enabled.then_some(sender), ..Self::disabled(proc) };
        (executables, Reader::new(config, receiver))
    }

    /// Finds nothing.
    #[must_use]
    pub fn disabled(proc: PathBuf) -> Self {
        Self {
            proc,
            by_process: BoundedMap::new(REMEMBERED_PROCESSES),
            by_file: BoundedMap::new(REMEMBERED_FILES),
            jobs: None,
        }
    }

    /// The facts about the file that `process` ran at `seen_wall_ns` (ns since the Unix epoch). They may still be
    /// pending.
    pub fn identify(&mut self, process: &Process, seen_wall_ns: i128) -> Arc<FileFacts> {
        let Some(jobs) = &self.jobs else { return FileFacts::missing(Gap::Disabled) };
        let key = (process.key, process.executable.as_ref().and_then(|executable| executable.file));
        if let Some(facts) = self.by_process.get(&key) {
            return Arc::clone(facts);
        }
        let facts = match find::find(&self.proc, process, seen_wall_ns) {
            Err(gap) => FileFacts::missing(gap),
            Ok(found) => {
                let stamp = found.stamp;
                if let Some(facts) = self.by_file.get(&stamp) {
                    Arc::clone(facts)
                } else {
                    let facts = Arc::<FileFacts>::default();
                    if jobs.try_send(Job { found, facts: Arc::clone(&facts) }).is_err() {
                        // Neither remembered by file nor by process: the next flow tries again.
                        return FileFacts::missing(Gap::Busy);
                    }
                    self.by_file.insert(stamp, Arc::clone(&facts));
                    facts
                }
            }
        };
        self.by_process.insert(key, Arc::clone(&facts));
        facts
    }
}
