//! Records from a spool into a file: flushed to the disk before they are confirmed, rotated by size and by age.

use std::{
    fs,
    io::{self, Write as _},
    num::NonZeroU32,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Instant, SystemTime},
};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{FileError, hint, rotation};
use crate::{
    sink::delivery::{Delivered, Delivery, Failure, Item},
    units::{ByteSize, Duration},
};

/// A rotation that failed is tried again after this time.
const ROTATION_RETRY: std::time::Duration = std::time::Duration::from_mins(1);

/// Settings of an output of type `file`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// The file, or a link to it. Its directory must exist. SIGHUP opens it anew, and so does a file that was moved away.
    #[serde(deserialize_with = "absolute_path")]
    #[schemars(example = "/var/log/egresswatch/alerts.jsonl")]
    pub path: PathBuf,
    /// Size from which on the file is moved to `path.1` and a new one begun; unset leaves that to logrotate and its kin. A file
    /// that cannot be moved is written on, which `egresswatch status` tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = "64MiB")]
    pub rotate_size: Option<ByteSize>,
    /// Age from which on the file is moved to `path.1` and a new one begun, at the first record after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = "1d")]
    pub rotate_every: Option<Duration>,
    /// How many files are kept beside the one that is written.
    #[serde(default = "default_keep")]
    pub keep: NonZeroU32,
    /// Whether files that are kept are compressed with gzip.
    #[serde(default = "default_compress")]
    pub compress: bool,
}

const fn default_keep() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(6)
}

const fn default_compress() -> bool {
    true
}

fn absolute_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    if path.is_absolute() {
        return Ok(path);
    }
    Err(D::Error::custom(format!("`{}` is relative: write an absolute path", path.display())))
}

/// Appends batches to a file and confirms them once they are on the disk.
#[derive(Debug)]
pub struct FileDelivery {
    name: String,
    /// Shared with the thread that writes, which goes on when a delivery is given up.
    writer: Arc<Mutex<Writer>>,
    reopen: Arc<AtomicBool>,
    /// Why the file cannot be rotated, if it cannot.
    trouble: Option<String>,
}

impl FileDelivery {
    /// Opens or creates the file, so that what is wrong with it is told at once.
    pub fn open(config: &FileConfig) -> Result<Self, FileError> {
        let mut writer = Writer { config: config.clone(), open: None, unrotated: None };
        writer.file().map_err(|source| FileError { path: config.path.clone(), source })?;
        Ok(Self {
            name: format!("file {}", config.path.display()),
            writer: Arc::new(Mutex::new(writer)),
            reopen: Arc::default(),
            trouble: None,
        })
    }
}

impl Delivery for FileDelivery {
    fn describe(&self) -> &str {
        &self.name
    }

    async fn deliver(&mut self, batch: &[Item]) -> Result<Delivered, Failure> {
        let mut bytes = Vec::with_capacity(batch.iter().map(|item| item.bytes.len() + 1).sum());
        for item in batch {
            bytes.extend_from_slice(&item.bytes);
            bytes.push(b'\n');
        }
        let (writer, reopen) = (Arc::clone(&self.writer), Arc::clone(&self.reopen));
        let written = tokio::task::spawn_blocking(move || {
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            if reopen.swap(false, Ordering::AcqRel) {
                writer.open = None;
            }
            let appended = writer.append(&bytes).map_err(|error| {
                let path = &writer.config.path;
                format!("cannot write {}: {error}{}", path.display(), hint(path, &error))
            });
            (appended, writer.trouble())
        });
        match written.await {
            Ok((appended, trouble)) => {
                self.trouble = trouble;
                appended.map(|()| Delivered::default()).map_err(Failure::new)
            }
            Err(error) => Err(Failure::new(format!("the thread that writes was stopped: {error}"))),
        }
    }

    fn reopen(&mut self) {
        self.reopen.store(true, Ordering::Release);
    }

    fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }
}

/// The file that is written, and where it goes when it is full or old.
#[derive(Debug)]
struct Writer {
    config: FileConfig,
    open: Option<Open>,
    /// A rotation that failed.
    unrotated: Option<Unrotated>,
}

#[derive(Debug)]
struct Unrotated {
    reason: String,
    /// When it is tried again.
    retry_at: Instant,
}

#[derive(Debug)]
struct Open {
    file: fs::File,
    /// Where the file is: what the path of the settings leads to, if that is a link.
    place: PathBuf,
    length: u64,
    since: SystemTime,
}

impl Writer {
    /// Appends `bytes`, which end with a newline, and waits until they are on the disk. After an error nothing of them is
    /// in the file, or its last line is ended when it is opened next.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_moved() {
            self.open = None;
        }
        self.rotate_if_due();
        let open = self.file()?;
        let outcome = open.file.write_all(bytes).and_then(|()| open.file.sync_data());
        if outcome.is_ok() {
            open.length += bytes.len() as u64;
        } else {
            // Without this a batch that is tried again would stand there twice, the first time cut off. Where it is
            // not possible (an append-only file) opening the file anew ends the line.
            if open.file.metadata().is_ok_and(|metadata| metadata.len() <= open.length + bytes.len() as u64) {
                let _ = open.file.set_len(open.length);
            }
            self.open = None;
        }
        outcome
    }

    /// Moves the file aside if it is large or old enough. One that cannot be moved is written on: that costs space, and to
    /// wait would cost the records.
    fn rotate_if_due(&mut self) {
        let Some(place) = self.due() else { return };
        if self.unrotated.as_ref().is_some_and(|failed| Instant::now() < failed.retry_at) {
            return;
        }
        self.open = None;
        self.unrotated = match rotation::rotate(&place, self.config.keep.get(), self.config.compress) {
            Ok(()) => None,
            Err(error) => Some(Unrotated {
                reason: format!("{} cannot be rotated and grows: {error}", place.display()),
                retry_at: Instant::now() + ROTATION_RETRY,
            }),
        };
    }

    /// Why the file is not rotated, if that was tried.
    fn trouble(&self) -> Option<String> {
        self.unrotated.as_ref().map(|failed| failed.reason.clone())
    }

    /// The open file; it is opened where it is not.
    fn file(&mut self) -> io::Result<&mut Open> {
        let open = if let Some(open) = self.open.take() {
            open
        } else {
            let file = super::open_regular(&self.config.path)?;
            let place = fs::canonicalize(&self.config.path)?;
            let metadata = file.metadata()?;
            let length = metadata.len();
            // Its creation, where the file system tells.
            let since = if length == 0 { SystemTime::now() } else { metadata.created().or(metadata.modified())? };
            Open { file, place, length, since }
        };
        Ok(self.open.insert(open))
    }

    /// Whether the path leads to another file than the open one: it was moved or deleted and nobody told.
    fn is_moved(&self) -> bool {
        let Some(open) = &self.open else { return false };
        match (fs::metadata(&self.config.path), open.file.metadata()) {
            (Ok(named), Ok(open)) => (named.dev(), named.ino()) != (open.dev(), open.ino()),
            (Err(error), _) => error.kind() == io::ErrorKind::NotFound,
            (_, Err(_)) => true,
        }
    }

    /// Where the file is, if it is large or old enough to be moved aside.
    fn due(&mut self) -> Option<PathBuf> {
        let (size, age) = (self.config.rotate_size, self.config.rotate_every);
        let open = self.file().ok()?;
        let is_due = open.length > 0
            && (size.is_some_and(|size| open.length >= size.bytes())
                || age.is_some_and(|age| open.since.elapsed().is_ok_and(|elapsed| elapsed >= age.get())));
        is_due.then(|| open.place.clone())
    }
}

/// Syncs the directory of `path`, so that a rename in it survives a loss of power.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(directory)?.sync_all()
}
