//! What this host does not give, as data: said at start, in `doctor`, in metrics and in the output.

use std::fmt;

use super::probes::Rung;
use crate::coverage;

/// One thing that EgressWatch cannot do on this host, and what would mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Degradation {
    /// The kernel publishes no usable type information.
    NoBtf {
        /// What went wrong with reading it.
        cause: String,
    },
    /// The kernel is too old for the sender rung, or refused it.
    NoSenderRung {
        /// Why.
        cause: String,
    },
    /// Nothing sees what packet sockets write.
    PacketSocketsUnseen {
        /// Why.
        cause: String,
    },
    /// Sockets that are older than the monitor are not found at its start.
    NoInventory {
        /// Why.
        cause: String,
    },
    /// Some of the sockets that are older than the monitor are not found at its start.
    InventoryInPart {
        /// Which, and why.
        gaps: String,
    },
    /// A field offset is missing from the kernel's type information.
    FieldUnknown {
        /// The fields.
        fields: String,
    },
    /// A program that is not vital could not be attached.
    ProbeMissing {
        /// The probe.
        probe: &'static str,
        /// Why.
        cause: String,
    },
    /// The cgroup hooks are not at the root of the hierarchy.
    CgroupSubtree {
        /// Where they are.
        path: String,
    },
    /// The kernel's tries have no room for every prefix that the policy flags.
    PrefixesLeftOut {
        /// How many found none.
        count: usize,
    },
}

impl Degradation {
    /// Stable name, apart from prose.
    #[must_use]
    pub const fn as_token(&self) -> &'static str {
        match self {
            Self::NoBtf { .. } => "no_btf",
            Self::NoSenderRung { .. } => "no_sender_rung",
            Self::PacketSocketsUnseen { .. } => "packet_sockets_unseen",
            Self::NoInventory { .. } => "no_inventory",
            Self::InventoryInPart { .. } => "inventory_in_part",
            Self::FieldUnknown { .. } => "field_unknown",
            Self::ProbeMissing { .. } => "probe_missing",
            Self::CgroupSubtree { .. } => "cgroup_subtree",
            Self::PrefixesLeftOut { .. } => "prefixes_left_out",
        }
    }

    /// Tokens of the rows of the coverage table that this host sees less of.
    #[must_use]
    pub fn rows(&self) -> Vec<&'static str> {
        match self {
            Self::NoSenderRung { .. } => coverage::lost_on(Rung::Base).map(|row| row.token).collect(),
            _ => Vec::new(),
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::NoBtf { .. } => "use a kernel built with CONFIG_DEBUG_INFO_BTF=y",
            Self::NoSenderRung { .. } => "use Linux 6.3 or later with BTF to see who sends on inherited sockets",
            Self::PacketSocketsUnseen { .. } => "use Linux 6.3 or later with BTF to see who writes frames",
            Self::NoInventory { .. } => {
                "allow pidfd_getfd (deploy/systemd/older-kernels.conf is the drop-in for the unit) and CAP_SYS_PTRACE, use \
                 Linux 5.12 or later with BTF, or start the monitor before the services that it is to watch"
            }
            Self::InventoryInPart { .. } => {
                "use Linux 5.12 or later with BTF, or start the monitor before the services that it is to watch"
            }
            Self::FieldUnknown { .. } => "report the kernel version: its layout is new to EgressWatch",
            Self::ProbeMissing { .. } => "see the cause; processes are read from /proc instead",
            Self::CgroupSubtree { .. } => "run in the host's cgroup namespace, or mount the host's cgroup v2 root",
            Self::PrefixesLeftOut { .. } => "restart the monitor, which makes room for what the policy flags then",
        }
    }
}

impl fmt::Display for Degradation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBtf { cause } => write!(
                formatter,
                "no kernel type information: processes are identified from /proc, and one that is gone within \
                 milliseconds by its task name only ({cause})"
            ),
            Self::NoSenderRung { cause } => write!(
                formatter,
                "the sending process is known by connect and addressed sends only: bytes sent on an inherited socket \
                 count for the process that connected it, and `egresswatch coverage` says less of {} ({cause})",
                self.rows().join(", ")
            ),
            Self::PacketSocketsUnseen { cause } => {
                write!(formatter, "frames that processes write to packet sockets are not seen ({cause})")
            }
            Self::NoInventory { cause } => write!(
                formatter,
                "connections that are older than the monitor are seen from their next packet on, and their process from \
                 its next send where the rung tells senders ({cause})"
            ),
            Self::InventoryInPart { gaps } => write!(
                formatter,
                "some sockets that are older than the monitor are seen from their next packet on, and their process from \
                 its next send where the rung tells senders: {gaps}"
            ),
            Self::FieldUnknown { fields } => write!(formatter, "kernel fields not found: {fields}"),
            Self::ProbeMissing { probe, cause } => write!(formatter, "probe {probe} is not attached ({cause})"),
            Self::CgroupSubtree { path } => {
                write!(formatter, "only processes below the cgroup {path} are seen, not the whole host")
            }
            Self::PrefixesLeftOut { count } => write!(
                formatter,
                "{count} flagged prefixes found no room in the kernel: alerts on them come by the ring of ordinary \
                 flows, up to half a second later"
            ),
        }
    }
}
