//! The records that cross from the kernel to the daemon, and the flow table's key and value.

use crate::{address::Address, packet::PROTOCOL_TCP};

/// Socket family of an IPv4 flow, as in the kernel's `AF_INET`.
pub const FAMILY_IPV4: u8 = 2;
/// Socket family of an IPv6 flow, as in the kernel's `AF_INET6`.
pub const FAMILY_IPV6: u8 = 10;
/// Family of the frames that a packet socket wrote, as in the kernel's `AF_PACKET`.
pub const FAMILY_PACKET: u8 = 17;

/// Bytes of a task's name (`TASK_COMM_LEN` in the kernel).
pub const COMM_BYTES: usize = 16;
/// Bytes kept of an executable's path, as components from the leaf up, each ended by NUL.
pub const PATH_BYTES: usize = 512;
/// Bytes kept of a process's arguments, each ended by NUL.
pub const ARGUMENT_BYTES: usize = 256;
/// Bytes kept of a cgroup's path.
pub const CGROUP_PATH_BYTES: usize = 512;

/// Bytes of payload that the sizes of a [`CaptureRecord`] hold: a command, a usual first message, a full segment, a large
/// first message. Powers of two: a burst of short flows costs the ring little more than it sent.
pub const CAPTURE_SIZES: [usize; 4] = [128, 1_024, 2_048, 8_192];

/// Values of [`Header::kind`].
pub mod kind {
    /// [`super::FlowRecord`].
    pub const FLOW: u16 = 1;
    /// [`super::SocketReleasedRecord`].
    pub const SOCKET_RELEASED: u16 = 2;
    /// [`super::ExecRecord`].
    pub const EXEC: u16 = 3;
    /// [`super::ForkRecord`].
    pub const FORK: u16 = 4;
    /// [`super::ExitRecord`].
    pub const EXIT: u16 = 5;
    /// [`super::CgroupRecord`].
    pub const CGROUP: u16 = 6;
    /// [`super::CaptureRecord`], of one of its sizes.
    pub const CAPTURE: u16 = 7;
    /// [`super::FlowHintRecord`].
    pub const FLOW_HINT: u16 = 8;
}

/// Values of [`Header::reason`] in a [`FlowRecord`] or a [`FlowHintRecord`]: why the kernel reported now.
pub mod reason {
    /// The process asked for the flow (`connect`, or the first unconnected send); nothing left the host yet.
    pub const ATTEMPT: u16 = 1;
    /// The TCP handshake completed.
    pub const ESTABLISHED: u16 = 2;
    /// The first payload byte left the host or arrived.
    pub const FIRST_PAYLOAD: u16 = 3;
    /// The flow moved bytes and its schedule (time or bytes since the last report) was due.
    pub const PROGRESS: u16 = 4;
    /// The flow ended; the totals are final and the kernel has forgotten it.
    pub const CLOSED: u16 = 5;
    /// The process that sends changed or became known.
    pub const SENDER: u16 = 6;
}

/// What is true of a flow: each fact a byte of its own, 0 or 1. CPUs that learn different facts of one flow at the same
/// time write different bytes, so that none is lost; bits of one word would need an atomic OR, which kernels before 5.12
/// do not have.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowFlags {
    /// The entry is complete. Written after everything else when a flow is opened.
    pub filled: u8,
    /// A process asked for the flow with `connect` or an addressed send.
    pub attempted: u8,
    /// The TCP handshake completed.
    pub established: u8,
    /// The TCP connection attempt ended without a handshake.
    pub failed: u8,
    /// At least one packet with payload left the host.
    pub sent: u8,
    /// At least one packet with payload arrived.
    pub received: u8,
    /// The socket reached its end.
    pub closed: u8,
    /// The process released the socket; the transport may still be flushing.
    pub released: u8,
    /// The remote address matched a flagged prefix when the flow was first seen.
    pub flagged: u8,
    /// The remote side opened the connection.
    pub inbound: u8,
    /// The flow was first seen in the middle: its earlier bytes are not counted.
    pub midstream: u8,
    /// The socket is older than the programs: it was found when they started.
    pub snapshot: u8,
    /// The flow table was full: the record is a report without counters.
    pub untracked: u8,
    /// The identity was taken when the socket was created, because its kind has no connect or send hook.
    pub identity_from_creation: u8,
    /// The connector did not make the flow itself; its identity came with the listening socket.
    pub identity_from_listener: u8,
    /// Closing is reported by the socket-operations program; release alone does not end the flow.
    pub end_by_state: u8,
    /// `translated_address` and `translated_port_be` are set: packets go to another address than the one asked for.
    pub translated: u8,
    /// `tcp_sent_high` is set.
    pub sent_high_known: u8,
    /// `tcp_received_high` is set.
    pub received_high_known: u8,
    /// `queued_out_bytes` is counted (rungs above the base).
    pub queued_out_known: u8,
    /// `queued_in_bytes` is counted (rungs above the base).
    pub queued_in_known: u8,
    /// `before_out_bytes` and `before_in_bytes` are set.
    pub before_known: u8,
    /// Named padding.
    pub padding: [u8; 2],
}

/// First bytes of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// One of [`kind`].
    pub kind: u16,
    /// One of [`reason`] for a flow and a hint at one, 0 otherwise.
    pub reason: u16,
    /// Size of the whole record in bytes.
    pub size_bytes: u32,
    /// When the record was made, in ns since boot (`CLOCK_BOOTTIME`).
    pub boot_ns: u64,
}

/// What no user has (`INVALID_UID` in `include/linux/uidgid.h`).
pub const UNKNOWN_USER: u32 = u32::MAX;

/// Who: a process as it was when it acted. `tgid` 0 means unknown.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Start of the process (its main thread) in ns since boot; 0 where the kernel's layout is not known.
    pub start_boot_ns: u64,
    /// Inode of the executable; 0 unknown.
    pub executable_inode: u64,
    /// Id of the task's cgroup in the unified hierarchy.
    pub cgroup_id: u64,
    /// Cookie of the socket's network namespace; 0 unknown.
    pub network_namespace_cookie: u64,
    /// Device of the executable's file system as the kernel's `dev_t` (major << 20 | minor); 0 unknown.
    pub executable_device: u32,
    /// Thread group id: what user space calls the pid, in the initial pid namespace.
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
    /// Real user id in the initial user namespace.
    pub uid: u32,
    /// Real group id in the initial user namespace.
    pub gid: u32,
    /// Effective user id in the initial user namespace; [`UNKNOWN_USER`] where the kernel's layout is not known.
    pub effective_uid: u32,
    /// How many programs the process has executed (the low half of `task_struct.self_exec_id`), counted on from its
    /// parent's: tells one program from the next in the same process. 0 unknown.
    pub exec_id: u32,
    /// Named padding.
    pub padding: u32,
    /// Task name.
    pub comm: [u8; COMM_BYTES],
}

/// Which flow: one socket's traffic to one destination.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowKey {
    /// The kernel's socket cookie: unique over the life of the system.
    pub socket_cookie: u64,
    /// Remote address. Zeros for a packet socket.
    pub remote_address: Address,
    /// Remote port in network byte order; 0 for protocols without ports.
    pub remote_port_be: u16,
    /// IP protocol number; 0 for a packet socket.
    pub protocol: u8,
    /// [`FAMILY_IPV4`] or [`FAMILY_IPV6`], after IPv4-mapped addresses were turned into IPv4; [`FAMILY_PACKET`].
    pub family: u8,
    /// Named padding.
    pub padding: u32,
}

impl FlowKey {
    /// Where the flow table keeps what a TCP socket's connection moves: a socket has one connection at a time, so that its
    /// cookie alone finds the entry, whatever address its packets carry. Which flow it is, the entry says.
    #[inline(always)]
    #[must_use]
    pub const fn of_stream(socket_cookie: u64) -> Self {
        Self {
            socket_cookie,
            remote_address: Address::NONE,
            remote_port_be: 0,
            protocol: PROTOCOL_TCP,
            family: 0,
            padding: 0,
        }
    }
}

/// What is known of a flow: the value of the kernel's flow table, and the body of each report.
///
/// An entry of the table takes whole cache lines, of which the table's own part takes the first 80 bytes. What is written
/// with each packet that leaves, and with each that arrives, is in lines of its own: the two are mostly on different CPUs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowState {
    /// Which flow. An entry of the table is found by it, or by [`FlowKey::of_stream`].
    pub key: FlowKey,
    /// What is true of it.
    pub flags: FlowFlags,
    /// Local port in network byte order.
    pub local_port_be: u16,
    /// Port that goes with `translated_address`, in network byte order.
    pub translated_port_be: u16,
    /// Ethernet protocol of a packet socket's frames, in network byte order; 0 unknown.
    pub ether_type_be: u16,
    /// Named padding.
    pub padding: u16,
    /// First sight, ns since boot.
    pub first_boot_ns: u64,
    /// End of the TCP handshake, ns since boot; 0 if none.
    pub established_boot_ns: u64,
    /// First payload byte out, ns since boot; 0 if none.
    pub first_sent_boot_ns: u64,
    /// How often another process than the last one was seen to send.
    pub sender_changes: u32,
    /// Index of the interface that a packet socket writes to; 0 unknown.
    pub interface: u32,
    /// Local address; valid when `local_port_be` or the address is not 0.
    /// Of a packet socket, the name of the interface that it is bound to (`IFNAMSIZ` is 16 as well).
    pub local_address: Address,
    /// Bytes of IP packets that arrived.
    pub wire_in_bytes: u64,
    /// Packets that arrived.
    pub packets_in: u64,
    /// Bytes that processes took from the socket (rungs above the base).
    pub queued_in_bytes: u64,
    /// Payload that TCP had sent when a connection older than the programs was found.
    pub before_out_bytes: u64,
    /// Payload that TCP had received by then.
    pub before_in_bytes: u64,
    /// Where packets really go if the network translates the address asked for.
    pub translated_address: Address,
    /// Packets that had arrived with the last of them that carried payload.
    pub last_packets_in: u64,
    /// Transport payload bytes that left the host, retransmissions not counted. Of a packet socket, bytes of frames.
    pub payload_out_bytes: u64,
    /// Transport payload bytes that arrived, retransmissions not counted.
    pub payload_in_bytes: u64,
    /// Bytes of IP packets that left, headers and retransmissions included.
    pub wire_out_bytes: u64,
    /// Packets that left, each segment of an offloaded packet counted.
    pub packets_out: u64,
    /// Bytes that processes handed to the socket (rungs above the base).
    pub queued_out_bytes: u64,
    /// Highest TCP sequence number sent plus one.
    pub tcp_sent_high: u32,
    /// Highest TCP sequence number received plus one.
    pub tcp_received_high: u32,
    /// Last packet with payload, or last milestone, ns since boot.
    pub last_boot_ns: u64,
    /// Last report to the daemon, ns since boot.
    pub reported_boot_ns: u64,
    /// Payload bytes moved, both ways, at the last report.
    pub reported_bytes: u64,
    /// Packets that had left with the last of them that carried payload.
    pub last_packets_out: u64,
    /// The process that asked for the flow.
    pub connector: Identity,
    /// The process that last sent on it, where it is another one; `tgid` 0 otherwise.
    pub sender: Identity,
    /// Named padding, to the end of a cache line.
    pub end_padding: [u64; 2],
}

/// A report on a flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowRecord {
    /// Kind, reason, size, time.
    pub header: Header,
    /// The flow's state at `header.boot_ns`.
    pub state: FlowState,
}

/// An ordinary flow has news: its entry in the flow table tells them. Most flows end before the daemon looks, and their
/// last report says it all, so that the news of a flow that goes on need no more than its key.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowHintRecord {
    /// Kind, reason, size, time.
    pub header: Header,
    /// Which flow.
    pub key: FlowKey,
}

/// A socket with several flows (an unconnected UDP socket, say) was released: the daemon collects their totals.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketReleasedRecord {
    /// Kind, size, time.
    pub header: Header,
    /// The socket.
    pub socket_cookie: u64,
}

/// A process replaced its program (`execve`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecRecord {
    /// Kind, size, time.
    pub header: Header,
    /// The process, after the exec.
    pub identity: Identity,
    /// Thread group id of the parent; 0 unknown.
    pub parent_tgid: u32,
    /// Bytes used of `path`.
    pub path_bytes: u16,
    /// Bytes used of `arguments`.
    pub argument_bytes: u16,
    /// Bits of [`exec_flag`].
    pub flags: u32,
    /// Named padding.
    pub padding: u32,
    /// Components of the executable's path from the leaf up to the root, each ended by NUL.
    pub path: [u8; PATH_BYTES],
    /// Arguments as the program got them, each ended by NUL.
    pub arguments: [u8; ARGUMENT_BYTES],
}

/// Bits of [`ExecRecord::flags`].
pub mod exec_flag {
    /// The path did not fit: its first (uppermost) components are missing.
    pub const PATH_TRUNCATED: u32 = 1 << 0;
    /// The arguments did not fit.
    pub const ARGUMENTS_TRUNCATED: u32 = 1 << 1;
    /// The file had no link left when it was executed (deleted, or a memfd).
    pub const UNLINKED: u32 = 1 << 2;
}

/// A process made another one. Threads are not reported.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForkRecord {
    /// Kind, size, time.
    pub header: Header,
    /// Start of the parent, ns since boot.
    pub parent_start_boot_ns: u64,
    /// Start of the child, ns since boot.
    pub child_start_boot_ns: u64,
    /// The parent.
    pub parent_tgid: u32,
    /// The child.
    pub child_tgid: u32,
}

/// A process ended: its last thread is gone.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExitRecord {
    /// Kind, size, time.
    pub header: Header,
    /// Start of the process, ns since boot.
    pub start_boot_ns: u64,
    /// The process.
    pub tgid: u32,
    /// Named padding.
    pub padding: u32,
}

/// A cgroup was made.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CgroupRecord {
    /// Kind, size, time.
    pub header: Header,
    /// The cgroup's id in its hierarchy.
    pub cgroup_id: u64,
    /// Bytes used of `path`.
    pub path_bytes: u32,
    /// Id of the hierarchy; the unified one is the daemon's concern.
    pub hierarchy_id: u32,
    /// Path from the root of the hierarchy.
    pub path: [u8; CGROUP_PATH_BYTES],
}

/// The first bytes of a packet's payload, for the names in it. `N` is one of [`CAPTURE_SIZES`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureRecord<const N: usize> {
    /// Kind, size, time.
    pub header: Header,
    /// The flow that the packet belongs to.
    pub key: FlowKey,
    /// Start of the process that acts on the flow, ns since boot; 0 unknown.
    pub start_boot_ns: u64,
    /// Cookie of its network namespace; 0 unknown.
    pub network_namespace_cookie: u64,
    /// Thread group id of the process; 0 unknown.
    pub tgid: u32,
    /// TCP sequence number of the first byte of `data`; 0 for other protocols.
    pub tcp_sequence: u32,
    /// Bytes of the packet's whole payload.
    pub payload_bytes: u32,
    /// Bytes used of `data`.
    pub captured_bytes: u16,
    /// 1 if the packet left the host, 0 if it arrived.
    pub outgoing: u8,
    /// Named padding.
    pub padding: u8,
    /// The payload's first bytes.
    pub data: [u8; N],
}

// The layout is an interface between two separately compiled programs: literal numbers, so that a change is a decision.
const _: () = {
    assert!(size_of::<Header>() == 16);
    assert!(size_of::<Identity>() == 80);
    assert!(size_of::<FlowKey>() == 32);
    assert!(size_of::<FlowFlags>() == 24);
    assert!(size_of::<FlowState>() == 432);
    assert!(core::mem::offset_of!(FlowState, flags) == 32);
    assert!(core::mem::offset_of!(FlowState, wire_in_bytes) == 112);
    assert!(core::mem::offset_of!(FlowState, payload_out_bytes) == 176);
    assert!(size_of::<FlowRecord>() == 448);
    assert!(size_of::<FlowHintRecord>() == 48);
    assert!(size_of::<SocketReleasedRecord>() == 24);
    assert!(size_of::<ExecRecord>() == 880);
    assert!(size_of::<ForkRecord>() == 40);
    assert!(size_of::<ExitRecord>() == 32);
    assert!(size_of::<CgroupRecord>() == 544);
    assert!(size_of::<CaptureRecord<128>>() == 80 + 128);
    assert!(size_of::<CaptureRecord<1_024>>() == 80 + 1_024);
    assert!(size_of::<CaptureRecord<2_048>>() == 80 + 2_048);
    assert!(size_of::<CaptureRecord<8_192>>() == 80 + 8_192);
};

#[cfg(feature = "user")]
mod pod {
    use super::{FlowKey, FlowState};

    // SAFETY: `repr(C)`, only integers and byte arrays, padding is named, any bit pattern is valid.
    unsafe impl aya::Pod for FlowKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for FlowState {}
}
