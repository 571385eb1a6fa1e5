//! Which ways to send exist on a host.

use std::{fs, path::Path};

use super::Needs;

/// Ways to send that not every kernel has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Multipath TCP is built in and switched on.
    pub mptcp: bool,
    /// SCTP is built in, or its module is loaded.
    pub sctp: bool,
    /// `io_uring` is not forbidden to everyone.
    pub io_uring: bool,
}

impl Features {
    /// Reads the host; `proc` is where procfs is mounted.
    #[must_use]
    pub fn read(proc: &Path) -> Self {
        let number = |path: &str| fs::read_to_string(proc.join(path)).ok().and_then(|text| text.trim().parse().ok());
        let protocols = fs::read_to_string(proc.join("net/protocols")).unwrap_or_default();
        Self {
            mptcp: number("sys/net/mptcp/enabled") == Some(1_u32),
            sctp: protocols.lines().any(|line| line.split_whitespace().next() == Some("SCTP")),
            // 1 leaves it to privileged users. Kernels before 6.6 have no such switch.
            io_uring: number("sys/kernel/io_uring_disabled").is_none_or(|switch: u32| switch < 2),
        }
    }

    /// Why nothing can be sent this way here; `None` if it can.
    #[must_use]
    pub const fn absent(&self, needs: Needs) -> Option<&'static str> {
        match needs {
            Needs::Mptcp if !self.mptcp => Some("MPTCP is switched off or not in this kernel"),
            Needs::Sctp if !self.sctp => Some("SCTP is not loaded"),
            Needs::IoUring if !self.io_uring => Some("io_uring is forbidden by kernel.io_uring_disabled"),
            _ => None,
        }
    }
}
