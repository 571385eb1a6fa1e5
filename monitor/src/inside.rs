//! Opening files below a root that is somebody else's: no symbolic link leads out of it, nothing but regular files is
//! opened for reading (a pipe or a device could wait, or act), and every read has a ceiling.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

/// The file at `path` below `root`, not open for reading.
pub(crate) fn open_path(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(root, path, flags, Mode::empty(), resolve)?)
}

/// Opens a regular file, of which only the place is held, for reading.
pub(crate) fn open(file: BorrowedFd<'_>) -> Option<File> {
    let mode = fstat(file).ok()?.st_mode;
    (FileType::from_raw_mode(mode) == FileType::RegularFile).then_some(())?;
    File::open(own_link(file)).ok()
}

/// The first `limit_bytes` of the regular file at `path` below `root`.
pub(crate) fn read(root: BorrowedFd<'_>, path: &Path, limit_bytes: u64) -> Option<Vec<u8>> {
    let place = open_path(root, path).ok()?;
    let mut bytes = Vec::new();
    open(place.as_fd())?.take(limit_bytes).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// A directory below a root, and the names in it.
pub(crate) struct Directory {
    place: OwnedFd,
    pub(crate) names: Vec<OsString>,
}

impl Directory {
    /// At most `limit` names, in the order of the file system.
    pub(crate) fn open(root: BorrowedFd<'_>, path: &Path, limit: usize) -> Option<Self> {
        let place = open_path(root, path).ok()?;
        let entries = fs::read_dir(own_link(place.as_fd())).ok()?;
        let names = entries.take(limit).flatten().map(|entry| entry.file_name()).collect();
        Some(Self { place, names })
    }

    /// The first `limit_bytes` of a file in it.
    pub(crate) fn read(&self, path: &Path, limit_bytes: u64) -> Option<Vec<u8>> {
        read(self.place.as_fd(), path, limit_bytes)
    }
}

/// The lines of a file, without their ends.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n')
}

/// `path` without its first slash, as bytes.
pub(crate) fn relative(path: &Path) -> &[u8] {
    let bytes = path.as_os_str().as_bytes();
    bytes.strip_prefix(b"/").unwrap_or(bytes)
}

/// This process's own link to an open file. The monitor's own `/proc` is always mounted at `/proc`.
fn own_link(file: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
