//! The table of probes: what is loaded, where it hooks, which rung needs it.

use std::fmt;

/// How much the kernel side can see. Each rung includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// Cgroup hooks and packet accounting: Linux 5.10 and later.
    Base,
    /// Typed tracepoints on each send and receive: Linux 6.3 and later, with BTF.
    Sender,
}

impl Rung {
    /// Every rung, the lowest first.
    pub const ALL: [Self; 2] = [Self::Base, Self::Sender];

    /// Which kernels have it, and what it hooks.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Base => "Linux 5.10 and later; cgroup hooks and packet accounting",
            Self::Sender => "Linux 6.3 and later, with BTF; also typed tracepoints on each send and receive",
        }
    }

    /// Stable name.
    #[must_use]
    pub const fn as_token(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Sender => "sender",
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_token())
    }
}

/// What kind of program a probe is, which decides how it is loaded and attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// On a socket address at the cgroup's root.
    SocketAddress,
    /// On a socket at the cgroup's root.
    Socket,
    /// On outgoing packets at the cgroup's root.
    PacketOut,
    /// On incoming packets at the cgroup's root.
    PacketIn,
    /// On TCP's milestones at the cgroup's root.
    SocketOperations,
    /// On a raw tracepoint.
    RawTracepoint,
    /// On a typed tracepoint.
    TypedTracepoint,
}

/// One program of the kernel object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Name of the program in the object, and of its hook in documents.
    pub name: &'static str,
    /// How it is attached.
    pub attachment: Attachment,
    /// Tracepoint it goes to, for tracepoints.
    pub tracepoint: &'static str,
    /// The lowest rung that needs it.
    pub rung: Rung,
    /// Whether the monitor can run without it (degraded).
    pub is_vital: bool,
    /// What it is there for.
    pub purpose: &'static str,
}

const fn base(name: &'static str, attachment: Attachment, purpose: &'static str) -> Probe {
    Probe { name, attachment, tracepoint: "", rung: Rung::Base, is_vital: true, purpose }
}

const fn process(name: &'static str, tracepoint: &'static str, purpose: &'static str) -> Probe {
    Probe { name, attachment: Attachment::RawTracepoint, tracepoint, rung: Rung::Base, is_vital: false, purpose }
}

const fn sender(name: &'static str, purpose: &'static str) -> Probe {
    let attachment = Attachment::TypedTracepoint;
    Probe { name, attachment, tracepoint: name, rung: Rung::Sender, is_vital: true, purpose }
}

/// Every probe, in the order of attachment: what explains comes before what it explains, packets come last.
pub const PROBES: [Probe; 15] = [
    process("cgroup_mkdir", "cgroup_mkdir", "paths of cgroups: units, containers, pods"),
    process("process_fork", "sched_process_fork", "lineage of processes"),
    process("process_exec", "sched_process_exec", "executables and arguments"),
    process("process_exit", "sched_process_exit", "ends of processes"),
    base("sock_create", Attachment::Socket, "who makes raw, ping and listening sockets"),
    base("sock_release", Attachment::Socket, "ends of datagram sockets"),
    base("tcp_milestone", Attachment::SocketOperations, "handshakes and ends of TCP connections"),
    base("packet_in", Attachment::PacketIn, "bytes and packets in"),
    base("packet_out", Attachment::PacketOut, "bytes and packets out"),
    base("sendmsg4", Attachment::SocketAddress, "addressed datagrams, IPv4"),
    base("sendmsg6", Attachment::SocketAddress, "addressed datagrams, IPv6"),
    base("connect4", Attachment::SocketAddress, "who connects, IPv4"),
    base("connect6", Attachment::SocketAddress, "who connects, IPv6"),
    sender("sock_send_length", "the process that sends, and exact bytes of each send"),
    sender("sock_recv_length", "exact bytes of each receive"),
];
