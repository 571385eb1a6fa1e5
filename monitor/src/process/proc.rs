//! What `/proc` says of a process: small readers, total on arbitrary bytes, below any root.

use std::{
    ffi::OsString,
    fs::{self, Metadata},
    io,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};

use super::{Executable, PathQuality};
use crate::{event::FileId, procfs};

/// Most bytes kept of a command line.
const ARGUMENT_BYTES: usize = 4 << 10;

/// What the kernel appends to the path of a file without a name.
const DELETED: &[u8] = b" (deleted)";

/// A `/proc`.
#[derive(Clone, Debug)]
pub(super) struct ProcFs {
    root: PathBuf,
}

/// What [`procfs::Stat`] says, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) comm: String,
    pub(super) is_zombie: bool,
    pub(super) parent_pid: u32,
    pub(super) start_ticks: u64,
}

/// A process as `/proc` showed it, all of it from the same process and the same program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) stat: Stat,
    /// Its file is given as `stat(2)` numbers it, see [`Snapshot::runs`].
    pub(super) executable: Option<Executable>,
    pub(super) on_overlay: bool,
    pub(super) arguments: Vec<String>,
    pub(super) arguments_truncated: bool,
}

impl Snapshot {
    /// Whether this process runs `file`, as the kernel numbers it. The kernel side reads `s_dev` and `i_ino`; `stat(2)`
    /// says another device on btrfs and on some overlays, and another inode on overlays whose layers are on several
    /// file systems. The process is the same one, so what has to be told apart is only its programs before and after
    /// an exec, for which the inode alone does, and on an overlay the file is believed to be the one it runs now.
    pub(super) fn runs(&self, file: Option<FileId>) -> bool {
        let own = self.executable.as_ref().and_then(|executable| executable.file);
        match (own, file) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(file)) => own.inode == file.inode || self.on_overlay,
        }
    }
}

/// Why there is no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// No such process, or it has ended, or its files cannot be read.
    Gone,
    /// The pid belongs to another process now.
    Reused,
}

impl ProcFs {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The pids that there are.
    pub(super) fn pids(&self) -> io::Result<Vec<u32>> {
        procfs::pids(&self.root)
    }

    pub(super) fn stat(&self, pid: u32) -> Option<Stat> {
        parse_stat(&procfs::read(&self.directory(pid).join("stat"))?)
    }

    /// Reads a process. With `start_ticks`, only the process that started then. Start time and executable are looked
    /// at again after the rest was read, so that what is returned belongs together.
    ///
    /// A process whose main thread has ended while others run shows no executable and counts as gone.
    pub(super) fn read(&self, pid: u32, start_ticks: Option<u64>) -> Result<Snapshot, Miss> {
        let stat = self.stat(pid).filter(|stat| !stat.is_zombie).ok_or(Miss::Gone)?;
        if start_ticks.is_some_and(|expected| expected != stat.start_ticks) {
            return Err(Miss::Reused);
        }
        let mut before = self.executable(pid);
        // Two tries: a process that replaces its program more often than that is read as it was at the last one,
        // without the arguments that may be another program's.
        for _ in 0..2 {
            let (arguments, arguments_truncated) = self.arguments(pid);
            let after = self.executable(pid);
            let unchanged = before == after;
            before = after;
            if unchanged {
                return self.checked(pid, stat, before, arguments, arguments_truncated);
            }
        }
        self.checked(pid, stat, before, Vec::new(), false)
    }

    /// Path of the process's cgroup in the unified hierarchy, as the reader's cgroup namespace shows it.
    pub(super) fn unified_cgroup(&self, pid: u32) -> Option<PathBuf> {
        procfs::unified_cgroup(&self.directory(pid))
    }

    /// The reader itself: `/proc/self` names it in the pid namespace of this `/proc`, which `getpid` may not.
    pub(super) fn own_pid(&self) -> Option<u32> {
        fs::read_link(self.root.join("self")).ok()?.to_str()?.parse().ok()
    }

    fn checked(
        &self,
        pid: u32,
        stat: Stat,
        executable: Option<(Executable, bool)>,
        arguments: Vec<String>,
        arguments_truncated: bool,
    ) -> Result<Snapshot, Miss> {
        match self.stat(pid) {
            Some(now) if now.start_ticks != stat.start_ticks => return Err(Miss::Reused),
            Some(now) if !now.is_zombie => {}
            _ => return Err(Miss::Gone),
        }
        let (executable, on_overlay) =
            executable.map_or((None, false), |(executable, overlay)| (Some(executable), overlay));
        Ok(Snapshot { stat, executable, on_overlay, arguments, arguments_truncated })
    }

    /// The executable, and whether it is on an overlay. Kernel threads have none, and without privileges those of
    /// other users cannot be read.
    fn executable(&self, pid: u32) -> Option<(Executable, bool)> {
        let directory = self.directory(pid);
        let link = directory.join("exe");
        let target = fs::read_link(&link).ok()?;
        // The link leads to the file itself, in whichever mount namespace it is.
        let metadata = fs::metadata(&link).ok();
        let (path, unlinked) = strip_deleted(target, metadata.as_ref(), &directory.join("root"));
        let on_overlay = statfs(&link).is_ok_and(|stat| stat.filesystem_type() == OVERLAYFS_SUPER_MAGIC);
        let file = metadata.as_ref().map(procfs::file_id);
        Some((Executable { path, quality: PathQuality::Proc, unlinked, truncated: false, file }, on_overlay))
    }

    fn arguments(&self, pid: u32) -> (Vec<String>, bool) {
        let bytes = procfs::read_bounded(&self.directory(pid).join("cmdline"), ARGUMENT_BYTES as u64 + 1);
        parse_arguments(&bytes.unwrap_or_default())
    }

    fn directory(&self, pid: u32) -> PathBuf {
        self.root.join(pid.to_string())
    }
}

/// Tells the kernel's mark of a nameless file from a name that ends so.
fn strip_deleted(target: PathBuf, metadata: Option<&Metadata>, process_root: &Path) -> (PathBuf, bool) {
    let Some(stripped) = target.as_os_str().as_bytes().strip_suffix(DELETED) else { return (target, false) };
    let has_links = metadata.is_some_and(|metadata| metadata.nlink() > 0);
    let visible = process_root.join(target.strip_prefix("/").unwrap_or(&target));
    if has_links && fs::symlink_metadata(visible).is_ok() {
        return (target, false);
    }
    (PathBuf::from(OsString::from_vec(stripped.to_vec())), true)
}

fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let procfs::Stat { comm, is_zombie, parent_pid, start_ticks } = procfs::Stat::parse(bytes)?;
    Some(Stat { comm: String::from_utf8_lossy(comm).into_owned(), is_zombie, parent_pid, start_ticks })
}

/// Arguments, and whether there were more than are kept. Empty ones at the end are dropped, because programs that
/// write a title over their arguments leave the rest of the room as zeros.
fn parse_arguments(bytes: &[u8]) -> (Vec<String>, bool) {
    let kept = bytes.get(..ARGUMENT_BYTES).unwrap_or(bytes);
    let end = kept.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let kept = kept.get(..end).unwrap_or_default();
    let arguments = if kept.is_empty() {
        Vec::new()
    } else {
        kept.split(|byte| *byte == 0).map(|argument| String::from_utf8_lossy(argument).into_owned()).collect()
    };
    (arguments, bytes.len() > ARGUMENT_BYTES)
}

#[cfg(test)]
mod tests;
