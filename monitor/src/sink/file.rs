//! A file that records are appended to: at once ([`File`]), or from a spool and with rotation ([`FileDelivery`]).

mod delivery;
mod rotation;
#[cfg(test)]
mod tests;

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, FileTypeExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

pub use self::delivery::{FileConfig, FileDelivery};
use super::Transport;

/// Permissions of a new file: what this host talks to is for root and the group that reads logs.
const MODE: u32 = 0o640;

/// Appends to a file (`O_APPEND`), and opens it anew after a rotation.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    name: String,
    handle: fs::File,
}

/// The file cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the output file {}: {source}{}", path.display(), hint(path, source))]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl File {
    /// Opens or creates `path`, whose directory must exist. A last line that a crash left unfinished is ended, so that
    /// the next record is a line of its own.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let handle = open(path).map_err(|source| FileError { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), name: format!("file {}", path.display()), handle })
    }
}

impl Transport for File {
    fn name(&self) -> &str {
        &self.name
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.handle.write(bytes)
    }

    fn reopen(&mut self) -> io::Result<bool> {
        self.handle = open(&self.path)?;
        Ok(true)
    }
}

/// Where `path` leads, as far as that can be told: the same for every path of one file.
pub(super) fn place(path: &Path) -> PathBuf {
    let beside = || Some(fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?));
    fs::canonicalize(path).ok().or_else(beside).unwrap_or_else(|| path.to_owned())
}

/// Opens a file that is written to the disk and rotated, which a pipe or a device cannot be.
fn open_regular(path: &Path) -> io::Result<fs::File> {
    // Before it is opened, because to open a device can do something; and after that, because it may be another one.
    if let Ok(metadata) = fs::metadata(path) {
        check_regular(&metadata)?;
    }
    let file = open(path)?;
    check_regular(&file.metadata()?)?;
    Ok(file)
}

fn check_regular(metadata: &fs::Metadata) -> io::Result<()> {
    if metadata.is_file() { Ok(()) } else { Err(io::Error::other(not_regular(metadata.file_type()))) }
}

/// What a file that is none is, and what to write instead.
pub(super) fn not_regular(kind: fs::FileType) -> &'static str {
    if kind.is_dir() {
        "it is a directory: name a file in it"
    } else if kind.is_fifo() {
        "it is a pipe, which keeps nothing: write type = \"stdout\" and start the monitor with its standard output there, or \
         name it in output.file"
    } else if kind.is_socket() {
        "it is a socket: write type = \"syslog\" or \"journald\""
    } else {
        "it is a device, which keeps nothing: name a file on a disk, or write type = \"stdout\" for standard output"
    }
}

fn open(path: &Path) -> io::Result<fs::File> {
    let mut file = fs::OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.len() > 0 {
        let mut last = [0];
        file.read_exact_at(&mut last, metadata.len() - 1)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

/// What to do next.
fn hint(path: &Path, error: &io::Error) -> String {
    let directory = path.parent().unwrap_or(path).display();
    match error.kind() {
        io::ErrorKind::NotFound => format!("; create its directory first: install -d -m 0750 {directory}"),
        io::ErrorKind::NotADirectory => format!("; {directory} is not a directory: name another file"),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; name a file that the daemon may write (under systemd, ReadWritePaths= or LogsDirectory= says where)"
                .to_owned()
        }
        io::ErrorKind::IsADirectory => "; name a file in it".to_owned(),
        _ => String::new(),
    }
}
