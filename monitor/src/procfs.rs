//! What `/proc` and the cgroup hierarchy say, for more than one stage: small readers, total on arbitrary bytes, below any
//! root.

use std::{
    ffi::OsString,
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::{ffi::OsStringExt as _, fs::MetadataExt as _},
    path::{Component, Path, PathBuf},
};

use nix::sys::stat::{major, minor};

use crate::event::FileId;

/// Most bytes read of a small file: the kernel writes at most a page for a process in no odd place.
const FILE_BYTES: u64 = 64 << 10;

/// A small file.
pub(crate) fn read(path: &Path) -> Option<Vec<u8>> {
    read_bounded(path, FILE_BYTES)
}

/// The first `limit_bytes` of a file.
pub(crate) fn read_bounded(path: &Path, limit_bytes: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(limit_bytes).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The pids that there are, in order.
pub(crate) fn pids(proc: &Path) -> io::Result<Vec<u32>> {
    let entries = fs::read_dir(proc)?;
    let mut pids: Vec<u32> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    Ok(pids)
}

/// The fields of `/proc/<pid>/stat` that are used, see `proc_pid_stat(5)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat<'a> {
    /// Task name of the main thread.
    pub(crate) comm: &'a [u8],
    /// The process has ended and waits for its parent.
    pub(crate) is_zombie: bool,
    pub(crate) parent_pid: u32,
    pub(crate) start_ticks: u64,
}

impl<'a> Stat<'a> {
    /// The task's name stands in parentheses and may itself hold parentheses, blanks and line ends: the last closing one
    /// ends it.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let open = bytes.iter().position(|byte| *byte == b'(')?;
        let close = bytes.iter().rposition(|byte| *byte == b')')?;
        let comm = bytes.get(open + 1..close)?;
        let mut fields = std::str::from_utf8(bytes.get(close + 1..)?).ok()?.split_ascii_whitespace();
        // Fields 3 (state), 4 (parent) and 22 (start), numbered from 1 as in the manual page.
        let is_zombie = matches!(fields.next()?, "Z" | "X" | "x");
        let parent_pid = fields.next()?.parse().ok()?;
        let start_ticks = fields.nth(17)?.parse().ok()?;
        Some(Self { comm, is_zombie, parent_pid, start_ticks })
    }
}

/// Path of a process's cgroup in the unified hierarchy, as the reader's cgroup namespace shows it. `folder` is the
/// process's folder in `/proc`.
pub(crate) fn unified_cgroup(folder: &Path) -> Option<PathBuf> {
    let bytes = read(&folder.join("cgroup"))?;
    let path = bytes.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    Some(PathBuf::from(OsString::from_vec(path.to_vec())))
}

/// The id of the cgroup at `path` in the hierarchy at `root`: its folder's inode (kernfs, on 64-bit hosts). The path came
/// from a file and may lead out of the mount: a process outside of the reader's cgroup namespace has `..` in it.
pub(crate) fn cgroup_id(root: &Path, path: &Path) -> Option<u64> {
    Some(fs::metadata(is_inside(path).then(|| below(root, path))?).ok()?.ino())
}

/// Whether a path does not lead out of where it starts.
pub(crate) fn is_inside(path: &Path) -> bool {
    path.components().all(|component| matches!(component, Component::RootDir | Component::Normal(_)))
}

/// `path`, which starts with a slash, below `root`.
pub(crate) fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// A file's device and inode as `stat(2)` gives them, in the kernel's internal form of a device number.
pub(crate) fn file_id(metadata: &Metadata) -> FileId {
    let device = metadata.dev();
    FileId { device: ((major(device) as u32) << 20) | (minor(device) as u32 & 0xf_ffff), inode: metadata.ino() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_parentheses() {
        let line = b"42 (a) (b)) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1 1";
        let stat = Stat { comm: b"a) (b)", is_zombie: false, parent_pid: 1, start_ticks: 777 };
        assert_eq!(Stat::parse(line), Some(stat));
        assert_eq!(Stat::parse(b"42 (broken"), None);
    }

    #[test]
    fn a_cgroup_that_leads_out_of_the_mount_has_no_id() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (root, process) = (directory.path().join("cgroup"), directory.path().join("7"));
        fs::create_dir_all(root.join("a/b")).expect("directory");
        fs::create_dir(&process).expect("directory");
        let inode = |path: &Path| fs::metadata(path).expect("metadata").ino();
        for (line, folder) in [("0::/", Some("")), ("0::/a/b", Some("a/b")), ("0::/a/../..", None), ("0::/gone", None)]
        {
            fs::write(process.join("cgroup"), format!("3:memory:/a\n{line}\n")).expect("write");
            let path = unified_cgroup(&process).expect("a path");
            assert_eq!(cgroup_id(&root, &path), folder.map(|folder| inode(&root.join(folder))), "{line}");
        }
        fs::write(process.join("cgroup"), "3:memory:/a\n").expect("write");
        assert_eq!(unified_cgroup(&process), None);
    }
}
