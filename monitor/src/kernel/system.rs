//! What the host is: kernel release, cgroup v2 mount, capabilities, lockdown. Read once at start and by `doctor`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::{
    sys::{
        statfs::{CGROUP2_SUPER_MAGIC, statfs},
        utsname::uname,
    },
    unistd::Uid,
};

/// Capabilities that matter here, by their bit numbers (`include/uapi/linux/capability.h`).
const CAPABILITIES: [(u32, &str); 5] =
    [(39, "CAP_BPF"), (38, "CAP_PERFMON"), (12, "CAP_NET_ADMIN"), (19, "CAP_SYS_PTRACE"), (2, "CAP_DAC_READ_SEARCH")];
/// Bit number of `CAP_SYS_ADMIN`, which includes the first two.
const SYS_ADMIN: u32 = 21;

/// Facts about the host that decide what can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// Kernel release, as `uname -r` gives it.
    pub kernel_release: String,
    /// Machine, as `uname -m` gives it.
    pub machine: String,
    /// Effective user is root.
    pub is_root: bool,
    /// Capabilities that are missing from the effective set. The first three are needed to run, the others to see
    /// other users' processes.
    pub missing_capabilities: Vec<&'static str>,
    /// Where cgroup v2 is mounted.
    pub cgroup_root: Option<PathBuf>,
    /// Lockdown mode, where the kernel tells.
    pub lockdown: Option<String>,
}

impl System {
    /// Reads the facts of the running host. What cannot be read is `None` or counted as missing.
    #[must_use]
    pub fn read() -> Self {
        let (kernel_release, machine) = uname().map_or_else(
            |_| (String::from("unknown"), String::from("unknown")),
            |name| (name.release().to_string_lossy().into_owned(), name.machine().to_string_lossy().into_owned()),
        );
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            kernel_release,
            machine,
            is_root: Uid::effective().is_root(),
            missing_capabilities: missing_capabilities(&status),
            cgroup_root: cgroup_root(&mountinfo),
            lockdown: fs::read_to_string("/sys/kernel/security/lockdown").ok().and_then(|text| lockdown(&text)),
        }
    }

    /// Capabilities without which no program can be loaded and attached.
    #[must_use]
    pub fn missing_vital_capabilities(&self) -> Vec<&'static str> {
        let vital = ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"];
        self.missing_capabilities.iter().copied().filter(|name| vital.contains(name)).collect()
    }
}

/// Whether `path` is the root of the unified hierarchy: the root's inode is 1 in every kernel with cgroup v2.
#[must_use]
pub fn is_cgroup_root(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).is_ok_and(|metadata| metadata.ino() == 1)
}

/// Why no program can be attached to a cgroup.
#[derive(Debug, thiserror::Error)]
pub enum CgroupMistake {
    /// There is none, or it cannot be opened.
    #[error("cannot open the cgroup {}: {error}; write the mount point of cgroup v2, such as /sys/fs/cgroup, or leave it out", path.display())]
    Unreadable {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// It is something else.
    #[error(
        "{} is no directory of cgroup v2: write its mount point, such as /sys/fs/cgroup, or leave it out to have it found",
        path.display()
    )]
    Other {
        /// Where.
        path: PathBuf,
    },
}

/// Why no program can be attached to `path`, if that is so.
#[must_use]
pub fn cgroup_mistake(path: &Path) -> Option<CgroupMistake> {
    match statfs(path) {
        Ok(facts) if facts.filesystem_type() == CGROUP2_SUPER_MAGIC && path.is_dir() => None,
        Ok(_) => Some(CgroupMistake::Other { path: path.to_owned() }),
        Err(error) => Some(CgroupMistake::Unreadable { path: path.to_owned(), error: error.into() }),
    }
}

/// The first cgroup v2 mount of `/proc/self/mountinfo` (`Documentation/filesystems/proc.rst`, section 3.5) that shows
/// the root of the hierarchy, else the first one.
fn cgroup_root(mountinfo: &str) -> Option<PathBuf> {
    let mut first = None;
    for line in mountinfo.lines() {
        let (mount, filesystem) = line.split_once(" - ")?;
        if filesystem.split(' ').next() != Some("cgroup2") {
            continue;
        }
        let mut fields = mount.split(' ').skip(3);
        let (Some(root), Some(point)) = (fields.next(), fields.next()) else { continue };
        let point = PathBuf::from(unescape(point));
        if root == "/" {
            return Some(point);
        }
        first.get_or_insert(point);
    }
    first
}

/// Undoes the octal escapes of `/proc/self/mountinfo`.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

fn missing_capabilities(status: &str) -> Vec<&'static str> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
        .unwrap_or(0);
    let has = |bit: u32| effective >> bit & 1 == 1;
    CAPABILITIES
        .into_iter()
        .filter(|(bit, _)| !(has(*bit) || (*bit >= 38 && has(SYS_ADMIN))))
        .map(|(_, name)| name)
        .collect()
}

fn lockdown(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_the_hierarchy_is_preferred_wherever_it_is_mounted() {
        let hybrid = "25 30 0:22 / /sys rw - sysfs sysfs rw\n\
                      34 32 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup_root(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        let container = "1 2 0:3 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n\
                         4 2 0:3 / /host/sys/fs/with\\040space rw - cgroup2 cgroup rw\n";
        assert_eq!(cgroup_root(container), Some(PathBuf::from("/host/sys/fs/with space")));
        assert_eq!(cgroup_root("1 2 0:3 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"), None);
    }

    #[test]
    fn system_administrators_have_the_younger_capabilities() {
        assert_eq!(missing_capabilities("CapEff:\t000001ffffffffff\n"), Vec::<&str>::new());
        let old = format!("CapEff:\t{:016x}\n", 1u64 << SYS_ADMIN | 1 << 12);
        assert_eq!(missing_capabilities(&old), ["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]);
        assert_eq!(missing_capabilities("").len(), CAPABILITIES.len());
    }

    #[test]
    fn lockdown_is_the_word_in_brackets() {
        assert_eq!(lockdown("none [integrity] confidentiality\n").as_deref(), Some("integrity"));
        assert_eq!(lockdown("?"), None);
    }
}
