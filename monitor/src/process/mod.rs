//! Who sent it: pid and start time to executable, arguments, lineage, user, unit and container.
//!
//! [`Table`] is seeded from `/proc`, follows exec, fork and exit, and turns the identity that the kernel attached to a
//! flow into a [`Process`]. What the kernel said is believed first; `/proc` answers for what was missed, and only as
//! long as the process that it shows is provably the same one. What nobody can tell stays `None`.

mod accounts;
mod cgroup;
mod container;
mod host;
mod image;
mod lineage;
mod proc;
mod table;
mod unit;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::{FileId, ProcessKey};

pub use host::{HostFacts, Roots, SetupError};
pub use table::{Table, TableCounters};

/// How much the process table keeps. Each number is a ceiling; what is beyond it is counted, see [`TableCounters`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Running processes kept. One more is read from `/proc` each time it is asked for.
    pub running_processes: usize,
    /// Ended processes kept for reports that arrive after the end; the one that ended first goes first.
    pub ended_processes: usize,
    /// Executed files remembered by device and inode, to name the executable of a process whose exec was missed.
    pub executed_files: usize,
    /// Cgroups kept, removed ones included.
    pub cgroups: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { running_processes: 65_536, ended_processes: 16_384, executed_files: 16_384, cgroups: 16_384 }
    }
}

/// Start of the process that has `pid` now, in clock ticks since boot, by the `/proc` at `proc`; `None` if there is none.
#[must_use]
pub fn start_ticks(proc: &Path, pid: u32) -> Option<u64> {
    Some(proc::ProcFs::new(proc.to_owned()).stat(pid)?.start_ticks)
}

/// The container that a path in the unified hierarchy names.
pub(crate) fn container_of(cgroup: &str) -> Option<Container> {
    container::container(cgroup)
}

/// How a process was told from others that had its pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Matching {
    /// By pid and start time: no other process has both.
    Start,
    /// By pid alone, because the kernel's layout is not known: the last process seen with it.
    PidOnly,
    /// Not at all: the process is not known beyond what the kernel said of it.
    Unknown,
}

/// How the executable's path became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathQuality {
    /// The kernel walked it at exec.
    Exec,
    /// Read from `/proc/<pid>/exe` while the process lived.
    Proc,
    /// Taken from the process that forked this one.
    Inherited,
    /// Another process was seen to run the same file (device and inode).
    SameFile,
}

/// An executable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Executable {
    /// Path in the mount namespace of its process, as far as it is visible there.
    pub path: PathBuf,
    /// How the path became known.
    pub quality: PathQuality,
    /// The file was deleted, or never had a name (memfd).
    pub unlinked: bool,
    /// The upper components of the path are missing.
    pub truncated: bool,
    /// Device and inode, where known.
    pub file: Option<FileId>,
}

/// One ancestor of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ancestor {
    /// The process.
    pub key: ProcessKey,
    /// Its stable id.
    pub entity_id: String,
    /// Task name or executable's file name.
    pub name: String,
    /// Its executable, where known.
    pub executable: Option<PathBuf>,
}

/// A user or group, by number and by name where the host knows one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Account {
    /// Numeric id in the initial user namespace.
    pub id: u32,
    /// Name in the host's user database.
    pub name: Option<String>,
}

/// A container, as its cgroup's path tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Container {
    /// Full id.
    pub id: String,
    /// What made it: `docker`, `containerd`, `cri-o`, `podman`, … `None` where the path does not tell.
    pub runtime: Option<String>,
    /// Kubernetes pod uid, where the path carries one.
    pub pod_uid: Option<String>,
}

/// A process, as far as it is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// Pid and start.
    pub key: ProcessKey,
    /// Stable id over host, boot, pid and start: ECS `process.entity_id`.
    pub entity_id: String,
    /// How surely this is the process that acted.
    pub matching: Matching,
    /// Thread that acted.
    pub thread_id: u32,
    /// File name of the executable, or the task name where the executable is not known.
    pub name: String,
    /// Task name at the time, which a program may choose itself.
    pub comm: String,
    /// Executable; `None` where nothing could tell.
    pub executable: Option<Executable>,
    /// Arguments; empty where not known.
    pub arguments: Vec<String>,
    /// More arguments than were kept.
    pub arguments_truncated: bool,
    /// Parent first, then its parent and so on, each as it was when it forked; at most 16.
    pub ancestors: Vec<Ancestor>,
    /// Real user.
    pub user: Account,
    /// Effective user: another one than the real user in a setuid program. `None` where not known.
    pub effective_user: Option<Account>,
    /// Real group.
    pub group: Account,
    /// Path in the unified hierarchy, where known.
    pub cgroup: Option<String>,
    /// systemd unit, where the cgroup's path names one.
    pub unit: Option<String>,
    /// Container, where the cgroup's path names one.
    pub container: Option<Container>,
    /// Wall-clock start, ns since the Unix epoch; `None` where the start is not known.
    pub start_wall_ns: Option<i128>,
    /// This is the monitor itself.
    pub is_own: bool,
}
