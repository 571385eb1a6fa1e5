//! What this kernel and machine give the tests.

use std::{fmt, fs, path::Path, time::Duration};

/// How much the kernel side can see: the tests' own view of it, so that a wrong choice of the monitor shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rung {
    /// Cgroup hooks: every kernel from 5.10 on.
    Base,
    /// Send and receive tracepoints too: from 6.3 on, with BTF.
    Sender,
}

impl Rung {
    /// Every rung, the lowest first.
    pub(crate) const ALL: [Self; 2] = [Self::Base, Self::Sender];

    /// Name on the command line and in records.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Sender => "sender",
        }
    }

    /// Whether this kernel has it.
    pub(crate) fn is_available(self) -> bool {
        match self {
            Self::Base => true,
            Self::Sender => kernel_version() >= (6, 3) && Path::new("/sys/kernel/btf/vmlinux").exists(),
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Major and minor version of the running kernel; 0.0 if it tells none.
fn kernel_version() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(|digits| digits.parse().ok());
    (numbers.next().flatten().unwrap_or(0), numbers.next().flatten().unwrap_or(0))
}

/// Whether the tests run as root, without which no program can be loaded and no namespace made.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether the processor is emulated (QEMU's TCG): tests do less there and wait longer.
pub(crate) fn is_emulated() -> bool {
    match std::env::var("EGRESSWATCH_TEST_SCALE") {
        Ok(scale) => scale == "small",
        Err(_) => fs::read_to_string("/proc/cpuinfo").is_ok_and(|processors| processors.contains("QEMU TCG")),
    }
}

/// How long a fact may take before a test gives it up.
pub(crate) fn patience() -> Duration {
    if is_emulated() { Duration::from_mins(1) } else { Duration::from_secs(20) }
}
