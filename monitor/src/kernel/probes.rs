//! The table of probes: what is loaded, where it hooks, which rung needs it.

use std::fmt;

/// How much the kernel side can see. Each rung includes the base; the sender rung sees what the fexit rung sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// Cgroup hooks and packet accounting: Linux 5.10 and later.
    Base,
    /// Exits of the kernel's send and receive functions: Linux 5.10 and later, with BTF, where the platform lets programs
    /// be attached to functions.
    Fexit,
    /// Typed tracepoints on each send and receive: Linux 6.3 and later, with BTF.
    Sender,
}

impl Rung {
    /// Every rung, the lowest first.
    pub const ALL: [Self; 3] = [Self::Base, Self::Fexit, Self::Sender];

    /// Which kernels have it, and what it hooks.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Base => "Linux 5.10 and later; cgroup hooks and packet accounting",
            Self::Fexit => {
                "Linux 5.10 and later, with BTF, where programs may be attached to functions; also the exits of the \
                 send and receive functions"
            }
            Self::Sender => "Linux 6.3 and later, with BTF; also typed tracepoints on each send and receive",
        }
    }

    /// Stable name.
    #[must_use]
    pub const fn as_token(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Fexit => "fexit",
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
    /// On the exit of a kernel function.
    FunctionExit,
    /// Run once over what there is, by an iterator of the kernel.
    Iterator,
}

/// What it means for a probe not to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The rung cannot run without it.
    Vital,
    /// The monitor runs degraded without it.
    Wanted,
    /// Nothing, if the kernel does not have what it hooks: another probe sees the same there.
    IfThere,
}

/// One program of the kernel object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Name of the program in the object, and of its hook in documents.
    pub name: &'static str,
    /// How it is attached.
    pub attachment: Attachment,
    /// Tracepoint, function or iterator it goes to, for those.
    pub target: &'static str,
    /// The rung that it belongs to; those of the base belong to every rung.
    pub rung: Rung,
    /// What it means for it not to be there.
    pub need: Need,
    /// What it is there for.
    pub purpose: &'static str,
}

const fn base(name: &'static str, attachment: Attachment, purpose: &'static str) -> Probe {
    Probe { name, attachment, target: "", rung: Rung::Base, need: Need::Vital, purpose }
}

const fn process(name: &'static str, target: &'static str, purpose: &'static str) -> Probe {
    Probe { name, attachment: Attachment::RawTracepoint, target, rung: Rung::Base, need: Need::Wanted, purpose }
}

const fn sender(name: &'static str, purpose: &'static str) -> Probe {
    let attachment = Attachment::TypedTracepoint;
    Probe { name, attachment, target: name, rung: Rung::Sender, need: Need::Vital, purpose }
}

const fn exit(name: &'static str, need: Need, purpose: &'static str) -> Probe {
    Probe { name, attachment: Attachment::FunctionExit, target: name, rung: Rung::Fexit, need, purpose }
}

/// The probe that finds what packet sockets write.
pub(super) const PACKET_SEND: &str = "packet_sendmsg";
/// The probe that finds the sockets that are older than the programs.
pub(super) const INVENTORY: &str = "held_sockets";

impl Probe {
    /// Whether it is attached on `rung`.
    #[must_use]
    pub fn is_part_of(&self, rung: Rung) -> bool {
        self.rung == Rung::Base || self.rung == rung
    }
}

/// Every probe, in the order of attachment: what explains comes before what it explains, packets come after it, and what
/// was there before comes last.
pub const PROBES: [Probe; 22] = [
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
    exit("inet_sendmsg", Need::Vital, "the process that sends, and exact bytes of each send, IPv4"),
    exit("inet6_sendmsg", Need::Vital, "the process that sends, and exact bytes of each send, IPv6"),
    exit("inet_sendpage", Need::IfThere, "the same for sendfile and splice before Linux 6.5"),
    exit(PACKET_SEND, Need::Wanted, "who writes frames to packet sockets"),
    exit("inet_recvmsg", Need::Vital, "exact bytes of each receive, IPv4"),
    exit("inet6_recvmsg", Need::Vital, "exact bytes of each receive, IPv6"),
    Probe {
        name: INVENTORY,
        attachment: Attachment::Iterator,
        target: "task_file",
        rung: Rung::Base,
        need: Need::Wanted,
        purpose: "sockets that are older than the monitor; runs once",
    },
];
