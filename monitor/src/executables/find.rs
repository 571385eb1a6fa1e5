//! From a process to the file that it ran, with proof.
//!
//! While the process lives, `/proc/<pid>/exe` is the file, whatever became of its name and in whichever mount namespace
//! it is. Once the process has ended, a file is taken for the one that it ran only if it has the device and inode that
//! the kernel saw, is found under the path that the kernel walked below the root of a living ancestor, and has not
//! changed since the kernel saw the process run it: a change of content, and a reuse of the inode, both set the change
//! time, which nobody can set back.

use std::{
    fs,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use nix::sys::statfs::{BTRFS_SUPER_MAGIC, FsType, OVERLAYFS_SUPER_MAGIC, fstatfs};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, openat, statx};

use super::Gap;
use crate::{
    event::FileId,
    inside,
    process::{self, Executable, Process},
};

/// File systems stamp changes with a clock that moves once per tick, 10 ms at the slowest: a change this much before a
/// moment may have happened after it.
const CLOCK_STEP_NS: i128 = 10_000_000;

/// What tells a content from another one: as long as none of it changes, the content does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stamp {
    device: (u32, u32),
    inode: u64,
    pub(super) size_bytes: u64,
    changed_ns: i128,
}

/// A file that is provably the one that a process ran.
#[derive(Debug)]
pub(super) struct Found {
    /// The file; not open for reading.
    pub(super) file: OwnedFd,
    pub(super) stamp: Stamp,
    /// The root directory below which `path` leads to it, for package databases.
    pub(super) root: Option<OwnedFd>,
    /// `None` for a file without a name.
    pub(super) path: Option<PathBuf>,
}

/// Finds the file that `process` ran at `seen_wall_ns`. Opens nothing that could wait for a network file system.
pub(super) fn find(proc: &Path, process: &Process, seen_wall_ns: i128) -> Result<Found, Gap> {
    let executable = process.executable.as_ref().ok_or(Gap::FileUnknown)?;
    let file = executable.file.ok_or(Gap::FileUnknown)?;
    let named = (!executable.unlinked && !executable.truncated).then(|| executable.path.clone());
    if let Some((descriptor, stamp)) = of_living(proc, process, executable, file) {
        let root = root_of(proc, process.key.pid);
        return Ok(Found { file: descriptor, stamp, root, path: named });
    }
    let path = named.ok_or(Gap::ProcessGone)?;
    let mut gap = Gap::ProcessGone;
    let ancestors = process.ancestors.iter().map(|ancestor| ancestor.key.pid);
    for pid in ancestors.chain([1]) {
        let Some(root) = root_of(proc, pid) else { continue };
        let Ok(descriptor) = inside::open_path(root.as_fd(), &path) else { continue };
        let Some(stamp) = stamp(descriptor.as_fd()) else { continue };
        if !is_same(file, &stamp, descriptor.as_fd()) {
            continue;
        }
        if stamp.changed_ns + CLOCK_STEP_NS > seen_wall_ns {
            gap = Gap::FileChanged;
            continue;
        }
        return Ok(Found { file: descriptor, stamp, root: Some(root), path: Some(path) });
    }
    Err(gap)
}

/// What the file is now; `None` for what is no regular file.
pub(super) fn stamp(file: BorrowedFd<'_>) -> Option<Stamp> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let status = statx(file, c"", flags, StatxFlags::BASIC_STATS).ok()?;
    let is_regular = FileType::from_raw_mode(u32::from(status.stx_mode)) == FileType::RegularFile;
    is_regular.then(|| Stamp {
        device: (status.stx_dev_major, status.stx_dev_minor),
        inode: status.stx_ino,
        size_bytes: status.stx_size,
        changed_ns: i128::from(status.stx_ctime.tv_sec) * 1_000_000_000 + i128::from(status.stx_ctime.tv_nsec),
    })
}

/// The file that a living process runs, if it still runs the same one.
fn of_living(proc: &Path, process: &Process, executable: &Executable, file: FileId) -> Option<(OwnedFd, Stamp)> {
    let link = proc.join(process.key.pid.to_string()).join("exe");
    let descriptor = openat(CWD, &link, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let target = fs::read_link(&link).ok()?;
    // Looked at last: a process that is still the same one now was so above.
    if process.key.start_ticks == 0 || process::start_ticks(proc, process.key.pid)? != process.key.start_ticks {
        return None;
    }
    let stamp = stamp(descriptor.as_fd())?;
    // The process is the right one, and what has to be told apart is its programs before and after an exec. Where an
    // overlay gives another inode than the kernel has, the path has to do that.
    let is_same_path = || {
        let target = target.as_os_str().as_bytes();
        file_system(descriptor.as_fd()) == Some(OVERLAYFS_SUPER_MAGIC)
            && target.strip_suffix(b" (deleted)").unwrap_or(target) == executable.path.as_os_str().as_bytes()
    };
    (is_same(file, &stamp, descriptor.as_fd()) || is_same_path()).then_some((descriptor, stamp))
}

/// Whether a file is the one that the kernel numbers `file`. `stat(2)` gives another device on btrfs, whose subvolumes
/// have one each that the super block has not, and on some overlays, where it is a layer's.
fn is_same(file: FileId, stamp: &Stamp, descriptor: BorrowedFd<'_>) -> bool {
    let (major, minor) = stamp.device;
    let is_same_device = file.device == (major << 20) | (minor & 0xf_ffff);
    let renumbers = || [BTRFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC].map(Some).contains(&file_system(descriptor));
    file.inode == stamp.inode && (is_same_device || renumbers())
}

fn file_system(file: BorrowedFd<'_>) -> Option<FsType> {
    Some(fstatfs(file).ok()?.filesystem_type())
}

fn root_of(proc: &Path, pid: u32) -> Option<OwnedFd> {
    let root = proc.join(pid.to_string()).join("root");
    openat(CWD, &root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()
}
