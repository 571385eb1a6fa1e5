//! Facts about the host that do not change while the monitor runs, and where they are read.

use std::{
    fmt::Write,
    fs,
    hash::Hasher,
    io,
    path::{Path, PathBuf},
};

use nix::time::{ClockId, clock_gettime};
use siphasher::sip128::{Hasher128, SipHasher24};
use thiserror::Error;

use super::proc::ProcFs;
use crate::event::ProcessKey;

/// Where the host's files are; in a container they may be mounted elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// Mount point of a `/proc` of the initial pid namespace.
    pub proc: PathBuf,
    /// Mount point of the unified cgroup hierarchy, of its root; `None` where there is none.
    pub cgroup: Option<PathBuf>,
    /// The host's `passwd(5)`.
    pub passwd: PathBuf,
    /// The host's `group(5)`.
    pub group: PathBuf,
    /// The host's `machine-id(5)`.
    pub machine_id: PathBuf,
}

impl Default for Roots {
    /// The places on a host itself, without a cgroup hierarchy.
    fn default() -> Self {
        Self {
            proc: "/proc".into(),
            cgroup: None,
            passwd: "/etc/passwd".into(),
            group: "/etc/group".into(),
            machine_id: "/etc/machine-id".into(),
        }
    }
}

/// Why the process table cannot be set up.
#[derive(Debug, Error)]
pub enum SetupError {
    /// `/proc` cannot be listed.
    #[error("cannot list the processes in {path}: {source}; mount a proc file system there")]
    List {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `/proc` does not show the monitor.
    #[error(
        "{path} does not show this process; it must be a proc file system of the host's pid namespace (in a container: \
         run it with the host's pid namespace)"
    )]
    OwnProcess {
        /// The directory.
        path: PathBuf,
    },
    /// A clock cannot be read.
    #[error("cannot read the system's clocks: {0}")]
    Clock(nix::Error),
}

/// What makes a process of this host different from one of another host or of another boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// `machine-id(5)`; `None` where the host has none.
    pub machine_id: Option<String>,
    /// `/proc/sys/kernel/random/boot_id`; `None` where it cannot be read.
    pub boot_id: Option<String>,
    /// The monitor's own process.
    pub own: ProcessKey,
    /// Wall-clock time of the boot, in ns since the Unix epoch: what to add to a boot time.
    pub boot_wall_ns: i128,
}

impl HostFacts {
    /// Reads the facts.
    pub fn read(roots: &Roots) -> Result<Self, SetupError> {
        let proc = ProcFs::new(roots.proc.clone());
        let own = proc.own_pid().and_then(|pid| Some(ProcessKey { pid, start_ticks: proc.stat(pid)?.start_ticks }));
        Ok(Self {
            machine_id: read_word(&roots.machine_id),
            boot_id: read_word(&roots.proc.join("sys/kernel/random/boot_id")),
            own: own.ok_or_else(|| SetupError::OwnProcess { path: roots.proc.clone() })?,
            boot_wall_ns: clock_ns(ClockId::CLOCK_REALTIME)? - clock_ns(ClockId::CLOCK_BOOTTIME)?,
        })
    }

    /// The stable id of a process: SipHash-2-4 with 128 bits of output and a key of zeros, over the bytes of
    /// `machine_id`, a zero byte, the bytes of `boot_id`, a zero byte (an unknown one is empty), the pid as four and
    /// the start in ticks as eight little-endian bytes; written as the two output words `h1` and `h2` in 32 lower-case
    /// hex digits. Hashing also keeps the machine id out of the records, as `machine-id(5)` asks.
    #[must_use]
    pub fn entity_id(&self, key: ProcessKey) -> String {
        let mut hasher = SipHasher24::new();
        for part in [&self.machine_id, &self.boot_id] {
            hasher.write(part.as_deref().unwrap_or_default().as_bytes());
            hasher.write(&[0]);
        }
        hasher.write(&key.pid.to_le_bytes());
        hasher.write(&key.start_ticks.to_le_bytes());
        let hash = hasher.finish128();
        let mut text = String::with_capacity(32);
        // Writing to a string cannot fail.
        let _ = write!(text, "{:016x}{:016x}", hash.h1, hash.h2);
        text
    }

    /// Wall-clock time of a process's start, in ns since the Unix epoch; `None` where the start is not known.
    #[must_use]
    pub fn start_wall_ns(&self, key: ProcessKey) -> Option<i128> {
        let since_boot_ns = i128::from(key.start_ticks) * i128::from(ProcessKey::TICK_NS);
        (key.start_ticks != 0).then(|| self.boot_wall_ns + since_boot_ns)
    }
}

fn read_word(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let word = text.trim();
    (!word.is_empty()).then(|| word.to_owned())
}

fn clock_ns(clock: ClockId) -> Result<i128, SetupError> {
    let time = clock_gettime(clock).map_err(SetupError::Clock)?;
    Ok(i128::from(time.tv_sec()) * 1_000_000_000 + i128::from(time.tv_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> HostFacts {
        HostFacts {
            machine_id: Some("7f3c9b1e5a684d1f9e0b2c4d6f8a1b3c".into()),
            boot_id: Some("5f0e4d1c-9a7b-4c3d-8e2f-1a0b9c8d7e6f".into()),
            own: ProcessKey { pid: 1, start_ticks: 1 },
            boot_wall_ns: 1_700_000_000_000_000_000,
        }
    }

    #[test]
    fn the_entity_id_is_part_of_the_interface() {
        // Changing this literal breaks joins over stored alerts: it is a decision, not a fix.
        let id = facts().entity_id(ProcessKey { pid: 4242, start_ticks: 181_298 });
        assert_eq!(id, "794fa39dfbd2a3c79fc253273b73990f");
    }

    #[test]
    fn each_part_changes_the_entity_id() {
        let key = ProcessKey { pid: 4242, start_ticks: 181_298 };
        let other = |change: fn(&mut HostFacts)| {
            let mut facts = facts();
            change(&mut facts);
            facts.entity_id(key)
        };
        let mut ids = vec![
            facts().entity_id(key),
            facts().entity_id(ProcessKey { pid: 4243, ..key }),
            facts().entity_id(ProcessKey { start_ticks: 181_299, ..key }),
            other(|facts| facts.machine_id = None),
            other(|facts| facts.boot_id = None),
            other(|facts| std::mem::swap(&mut facts.boot_id, &mut facts.machine_id)),
        ];
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 6);
    }

    #[test]
    fn a_start_becomes_wall_clock_time_if_it_is_known() {
        let key = ProcessKey { pid: 1, start_ticks: 250 };
        assert_eq!(facts().start_wall_ns(key), Some(1_700_000_002_500_000_000));
        assert_eq!(facts().start_wall_ns(ProcessKey { start_ticks: 0, ..key }), None);
    }

    #[test]
    fn this_host_is_read() {
        let facts = HostFacts::read(&Roots::default()).expect("facts");
        assert_eq!(facts.own.pid, std::process::id());
        assert!(facts.own.start_ticks > 0);
        let start = facts.start_wall_ns(facts.own).expect("start");
        let now = clock_ns(ClockId::CLOCK_REALTIME).expect("clock");
        assert!(start <= now && now - start < 3_600_000_000_000, "{start} {now}");
    }

    #[test]
    fn a_directory_that_is_no_proc_is_refused() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let roots = Roots { proc: directory.path().to_owned(), ..Roots::default() };
        assert!(matches!(HostFacts::read(&roots), Err(SetupError::OwnProcess { path }) if path == directory.path()));
    }
}
