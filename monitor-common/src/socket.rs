//! What is known of a socket: the value of the kernel's socket storage. The hooks write it; the daemon does so once, for
//! sockets that are older than the hooks.

use crate::record::{FlowKey, Identity};

/// A socket's state. Its facts are bytes and not bits, as in [`crate::record::FlowFlags`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketState {
    /// The process that created it, or that last connected or addressed a datagram with it. `tgid` 0: not known.
    pub identity: Identity,
    /// The flow that it last opened, which of a TCP socket is found without this; cookie 0: none yet.
    pub flow: FlowKey,
    /// The socket's own cookie. Another one than the socket's says that this is a copy of its listener's state.
    pub cookie: u64,
    /// Flows it opened that were not closed by the kernel side.
    pub open_flows: u32,
    /// The identity is that of the creator: no connect or send hook has run.
    pub created_only: u8,
    /// Several threads address datagrams with it: `flow` need not be the one that the current thread sends on.
    pub is_shared: u8,
    /// The last descriptor was closed: what the kernel still sends on it says goodbye.
    pub is_released: u8,
    /// One of its flows is flagged.
    pub has_flagged: u8,
    /// The socket is older than the hooks, and the daemon found the process that holds it.
    pub is_snapshot: u8,
    /// A process asked for `flow`, or it was found with the socket: its address is not the one of a packet, which the
    /// network may have translated.
    pub is_asked: u8,
    /// Named padding.
    pub padding: [u8; 6],
}

// An interface between two separately compiled programs.
const _: () = assert!(size_of::<SocketState>() == 136);

// SAFETY: `repr(C)`, only integers and byte arrays, padding is named, any bit pattern is valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for SocketState {}
