//! The file of an imported table, replaced as a whole or not at all, and the one before it.
//!
//! At every moment the file is either the old or the new table: the new one is written beside it, flushed to the disk and
//! renamed. The old one is kept by a second name, which it gets before. What a killed import leaves behind is a file with
//! another name, which the next import removes.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{LoadError, load_file};

/// End of the name of the table before.
const PREVIOUS: &str = ".previous";
/// End of the names of what is being written.
const UNFINISHED: &str = ".unfinished";

/// The files of one table.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
}

/// What became of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// It is in force, the one before it is kept.
    Done,
    /// It is what was there already.
    Unchanged,
}

/// Why the file was not replaced. It is what it was.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or the directory.
    #[error("cannot write {}: {source}; the table there was stays", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another import runs.
    #[error("another `egresswatch data` command is writing in {}: try again when it is done", directory.display())]
    Busy {
        /// The directory.
        directory: PathBuf,
    },
    /// There is no table before.
    #[error("there is no {}: without {} the embedded data are in force", previous.display(), table.display())]
    NoPrevious {
        /// Where it would be.
        previous: PathBuf,
        /// The table in force.
        table: PathBuf,
    },
    /// The table before cannot be used.
    #[error("not rolled back: {0}")]
    PreviousUnusable(#[source] LoadError),
}

impl StoreError {
    /// Whether a privilege is missing.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Write { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

impl Store {
    /// The files of the table in `path`.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Where the table before is.
    #[must_use]
    pub fn previous(&self) -> PathBuf {
        self.beside(PREVIOUS)
    }

    /// The directory of the files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        }
    }

    /// Puts a table in the place of the one there is, and keeps that.
    pub fn replace(&self, bytes: &[u8]) -> Result<Replaced, StoreError> {
        let lock = self.lock()?;
        if fs::read(&self.path).is_ok_and(|present| present == bytes) {
            return Ok(Replaced::Unchanged);
        }
        let new = self.beside(".new.unfinished");
        self.write(&new, bytes)?;
        self.keep_present()?;
        rename(&new, &self.path)?;
        flush(&lock, self.directory())?;
        Ok(Replaced::Done)
    }

    /// Brings the table before back, and keeps the one there is in its place: rolled back twice, all is as it was.
    pub fn roll_back(&self) -> Result<(), StoreError> {
        let lock = self.lock()?;
        let previous = self.previous();
        if !previous.exists() {
            return Err(StoreError::NoPrevious { previous, table: self.path.clone() });
        }
        load_file(&previous).map_err(StoreError::PreviousUnusable)?;
        let present = self.second_name()?;
        rename(&previous, &self.path)?;
        if let Some(present) = present {
            rename(&present, &previous)?;
        }
        flush(&lock, self.directory())
    }

    /// Holds others off, and removes what a killed import left.
    fn lock(&self) -> Result<File, StoreError> {
        let directory = self.directory();
        fs::create_dir_all(directory).map_err(at(directory))?;
        let lock = File::open(directory).map_err(at(directory))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Busy { directory: directory.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(at(directory)(error)),
        }
        for left in [".new", ".present"].map(|part| self.beside(&format!("{part}{UNFINISHED}"))) {
            match fs::remove_file(&left) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&left)(error)),
                _ => {}
            }
        }
        Ok(lock)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|error| {
            // A full disk should not stay full for it.
            let _ = fs::remove_file(path);
            at(&self.path)(error)
        })
    }

    /// Gives the table there is the name of the one before.
    fn keep_present(&self) -> Result<(), StoreError> {
        match self.second_name()? {
            Some(present) => rename(&present, &self.previous()),
            None => Ok(()),
        }
    }

    /// Another name for the table there is.
    fn second_name(&self) -> Result<Option<PathBuf>, StoreError> {
        let present = self.beside(".present.unfinished");
        match fs::hard_link(&self.path, &present) {
            Ok(()) => Ok(Some(present)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at(&present)(error)),
        }
    }

    fn beside(&self, end: &str) -> PathBuf {
        let mut name: OsString = self.path.file_name().unwrap_or_default().to_owned();
        name.push(end);
        self.path.with_file_name(name)
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Write { path: path.clone(), source }
}

fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(at(to))
}

/// A renamed file is where it should be after a power failure only once its directory is on the disk.
fn flush(lock: &File, directory: &Path) -> Result<(), StoreError> {
    lock.sync_all().map_err(at(directory))
}
