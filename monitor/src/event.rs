//! The vocabulary of every stage after `decode`: what the kernel told, in domain types.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;

/// One thing the kernel side told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A report on a flow.
    Flow(Box<Flow>),
    /// There is news of an ordinary flow in the flow table.
    FlowHint {
        /// Which flow.
        key: FlowKey,
        /// What is new.
        reason: ReportReason,
        /// When it was.
        at: BootTime,
    },
    /// A socket that had several flows was released: their totals are in the flow table.
    SocketReleased {
        /// The socket.
        socket_cookie: u64,
        /// When.
        at: BootTime,
    },
    /// A process replaced its program.
    Exec(Box<Exec>),
    /// A process made another one.
    Fork(Fork),
    /// A process ended.
    Exit {
        /// The process.
        process: ProcessKey,
        /// When.
        at: BootTime,
    },
    /// A cgroup was made.
    CgroupCreated(CgroupCreated),
    /// The first bytes of a payload that may hold a name.
    Capture(Box<Capture>),
}

/// A time on the kernel's `CLOCK_BOOTTIME`, in nanoseconds since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime(pub u64);

impl BootTime {
    /// Nanoseconds from `earlier` to this time; 0 if `earlier` is later.
    #[must_use]
    pub const fn since_ns(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A process: its id alone can be reused, its id and start time cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessKey {
    /// Thread group id in the initial pid namespace.
    pub pid: u32,
    /// Start of the process in clock ticks (1/100 s) since boot, the unit of `/proc/<pid>/stat`, so that what the
    /// kernel side and `/proc` say compare equal. 0 where the kernel's layout is not known.
    pub start_ticks: u64,
}

impl ProcessKey {
    /// Nanoseconds in a clock tick of `/proc`, whose `USER_HZ` is 100 on every architecture that we build for.
    pub const TICK_NS: u64 = 10_000_000;

    /// From a start time in nanoseconds since boot.
    #[must_use]
    pub const fn from_start_ns(pid: u32, start_boot_ns: u64) -> Self {
        Self { pid, start_ticks: start_boot_ns / Self::TICK_NS }
    }
}

/// Who acted, as the kernel saw it in the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The process.
    pub process: ProcessKey,
    /// Its thread that acted.
    pub thread_id: u32,
    /// Real user id in the initial user namespace.
    pub user_id: u32,
    /// Real group id in the initial user namespace.
    pub group_id: u32,
    /// Effective user id in the initial user namespace, where the kernel's layout is known.
    pub effective_user_id: Option<u32>,
    /// Id of its cgroup in the unified hierarchy.
    pub cgroup_id: u64,
    /// Cookie of the network namespace, where the hook could tell.
    pub network_namespace_cookie: Option<u64>,
    /// The executable's file, where the kernel's layout is known.
    pub executable: Option<FileId>,
    /// Task name, lossily decoded.
    pub comm: String,
}

/// A file by device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Device as the kernel's internal `dev_t`: major << 20 | minor.
    pub device: u32,
    /// Inode number.
    pub inode: u64,
}

/// Transport protocol of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP for IPv4.
    Icmp,
    /// ICMP for IPv6.
    IcmpV6,
    /// SCTP.
    Sctp,
    /// Any other IP protocol, by its number.
    Other(u8),
    /// None: frames that a process wrote to a packet socket, around the IP stack.
    Packet,
}

impl Protocol {
    /// From an IP protocol number.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Icmp,
            6 => Self::Tcp,
            17 => Self::Udp,
            58 => Self::IcmpV6,
            132 => Self::Sctp,
            other => Self::Other(other),
        }
    }

    /// The IP protocol number; `None` for a packet socket.
    #[must_use]
    pub const fn number(self) -> Option<u8> {
        Some(match self {
            Self::Icmp => 1,
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::IcmpV6 => 58,
            Self::Sctp => 132,
            Self::Other(other) => other,
            Self::Packet => return None,
        })
    }
}

impl fmt::Display for Protocol {
    /// Lower-case keyword, as ECS `network.transport` wants it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Icmp => formatter.write_str("icmp"),
            Self::Tcp => formatter.write_str("tcp"),
            Self::Udp => formatter.write_str("udp"),
            Self::IcmpV6 => formatter.write_str("ipv6-icmp"),
            Self::Sctp => formatter.write_str("sctp"),
            Self::Other(number) => write!(formatter, "ip-{number}"),
            Self::Packet => formatter.write_str("packet"),
        }
    }
}

/// One socket's traffic to one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    /// The kernel's socket cookie.
    pub socket_cookie: u64,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Remote address as the application asked for it, never IPv4-mapped; port 0 for protocols without ports. The
    /// unspecified address for a packet socket: see [`Self::destination`].
    pub remote: SocketAddr,
}

impl FlowKey {
    /// The remote address; `None` for a packet socket, whose frames' destinations are not seen.
    #[must_use]
    pub const fn destination(&self) -> Option<SocketAddr> {
        match self.protocol {
            Protocol::Packet => None,
            _ => Some(self.remote),
        }
    }
}

/// Where a packet socket writes its frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Index of the network interface, in the socket's network namespace.
    pub interface_index: Option<u32>,
    /// Name of the interface that the socket is bound to.
    pub interface_name: Option<String>,
    /// Ethernet protocol of the frames.
    pub ether_type: Option<u16>,
}

/// Why the kernel reported a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReportReason {
    /// A process asked for the flow; nothing left the host yet.
    Attempt,
    /// The TCP handshake completed.
    Established,
    /// The first payload moved.
    FirstPayload,
    /// The schedule was due.
    Progress,
    /// The flow ended; the totals are final and the kernel has forgotten it.
    Closed,
    /// The sending process changed or became known.
    Sender,
    /// Read from the flow table, not reported.
    Read,
}

/// What is true of a flow: attempted, established and sent are different facts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state machine")]
pub struct FlowFacts {
    /// A process asked for it with `connect` or an addressed send.
    pub attempted: bool,
    /// The TCP handshake completed.
    pub established: bool,
    /// The TCP attempt ended without a handshake.
    pub failed: bool,
    /// Payload left the host.
    pub sent: bool,
    /// Payload arrived.
    pub received: bool,
    /// The socket reached its end.
    pub closed: bool,
    /// The process released the socket; the transport may still be flushing.
    pub released: bool,
    /// The kernel's tries of flagged prefixes matched the remote address.
    pub flagged: bool,
    /// The remote side opened the connection.
    pub inbound: bool,
    /// First seen in the middle: earlier bytes are not counted.
    pub midstream: bool,
    /// The socket is older than the monitor: it was found at its start.
    pub snapshot: bool,
    /// The kernel's flow table was full: no counters for this flow.
    pub untracked: bool,
    /// The identity is that of the socket's creator.
    pub identity_from_creation: bool,
    /// The identity is that of the listening socket.
    pub identity_from_listener: bool,
}

/// Bytes and packets of a flow so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCounters {
    /// Transport payload bytes out, retransmissions not counted. Of a packet socket, bytes of frames.
    pub payload_out_bytes: u64,
    /// Transport payload bytes in, retransmissions not counted.
    pub payload_in_bytes: u64,
    /// Bytes of IP packets out.
    pub wire_out_bytes: u64,
    /// Bytes of IP packets in.
    pub wire_in_bytes: u64,
    /// Packets out.
    pub packets_out: u64,
    /// Packets in.
    pub packets_in: u64,
    /// Bytes that processes handed to the socket; `None` on the base rung.
    pub queued_out_bytes: Option<u64>,
    /// Bytes that processes took from the socket; `None` on the base rung, and where several peers send to one socket.
    pub queued_in_bytes: Option<u64>,
    /// Payload that TCP had sent before the monitor started; `None` for flows that began later, and where it is not known.
    pub before_out_bytes: Option<u64>,
    /// Payload that TCP had received before the monitor started.
    pub before_in_bytes: Option<u64>,
}

/// A flow as the kernel last told it. Reports are snapshots: a later one replaces an earlier one.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    /// Which flow.
    pub key: FlowKey,
    /// Why it was reported.
    pub reason: ReportReason,
    /// When it was reported.
    pub at: BootTime,
    /// The process that asked for it; `None` if the flow is older than the probes.
    pub connector: Option<Arc<Identity>>,
    /// The process that last sent on it, where that is another one.
    pub sender: Option<Arc<Identity>>,
    /// Local address, once known.
    pub local: Option<SocketAddr>,
    /// Where packets really go, if the network translates the address asked for.
    pub translated: Option<SocketAddr>,
    /// Where its frames go, if it is a packet socket's.
    pub link: Option<Link>,
    /// What is true of it.
    pub facts: FlowFacts,
    /// How much moved.
    pub counters: FlowCounters,
    /// First sight.
    pub first_at: BootTime,
    /// End of the TCP handshake.
    pub established_at: Option<BootTime>,
    /// First payload out.
    pub first_sent_at: Option<BootTime>,
    /// Last packet.
    pub last_at: BootTime,
}

impl Flow {
    /// The process whose doing this is: the sender where it is known to differ, else the connector.
    #[must_use]
    pub fn actor(&self) -> Option<&Identity> {
        self.sender.as_deref().or(self.connector.as_deref())
    }

    /// The remote address; the unspecified one for a packet socket.
    #[must_use]
    pub const fn remote_address(&self) -> IpAddr {
        self.key.remote.ip()
    }
}

/// A process replaced its program.
#[derive(Clone, Debug, PartialEq)]
pub struct Exec {
    /// The process, after the exec.
    pub identity: Identity,
    /// Its parent's pid, where known.
    pub parent_pid: Option<u32>,
    /// The executable, as the kernel walked it; `None` where the kernel's layout is not known.
    pub path: Option<PathBuf>,
    /// The uppermost components of `path` are missing.
    pub path_truncated: bool,
    /// The file had no link left (deleted, or a memfd).
    pub unlinked: bool,
    /// Arguments, lossily decoded; the first is the name the program was called by.
    pub arguments: Vec<String>,
    /// More arguments than were kept.
    pub arguments_truncated: bool,
    /// When.
    pub at: BootTime,
}

/// A process made another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The parent.
    pub parent: ProcessKey,
    /// The child.
    pub child: ProcessKey,
    /// When.
    pub at: BootTime,
}

/// Which way a packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// It left the host, or went to another socket of it.
    Out,
    /// It arrived.
    In,
}

/// The first bytes of a packet's payload, for the names in it. They go no further than the names stage.
#[derive(Clone, PartialEq, Eq)]
pub struct Capture {
    /// The flow that the packet belongs to.
    pub key: FlowKey,
    /// Which way it went.
    pub direction: Direction,
    /// The process that acts on the flow, where the kernel side knows it.
    pub process: Option<ProcessKey>,
    /// Cookie of its network namespace, where known.
    pub network_namespace_cookie: Option<u64>,
    /// TCP sequence number of the first byte; 0 for other protocols.
    pub tcp_sequence: u32,
    /// Bytes of the whole payload: more than `data` holds if the packet was large.
    pub payload_bytes: u32,
    /// Its first bytes.
    pub data: Bytes,
    /// When.
    pub at: BootTime,
}

impl fmt::Debug for Capture {
    /// Without the payload, which is nobody's business.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Capture")
            .field("key", &self.key)
            .field("direction", &self.direction)
            .field("captured_bytes", &self.data.len())
            .finish_non_exhaustive()
    }
}

/// A cgroup was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupCreated {
    /// Its id in its hierarchy.
    pub cgroup_id: u64,
    /// Id of the hierarchy; 0 is the unified one (`/proc/self/cgroup` numbers it so as well).
    pub hierarchy_id: u32,
    /// Path from the hierarchy's root.
    pub path: PathBuf,
    /// When.
    pub at: BootTime,
}
