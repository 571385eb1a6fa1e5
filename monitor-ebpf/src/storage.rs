//! What is known of a socket: the value of the socket storage, and nothing of it leaves the kernel as it is.

use monitor_common::record::{FlowKey, Identity};

use crate::{emit, maps::SOCKETS};
use monitor_common::loss::LossReason;

/// A socket's state.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct SocketState {
    /// The process that created it, or that last connected or addressed a datagram with it. `tgid` 0: not known.
    pub(crate) identity: Identity,
    /// The flow that it last opened; cookie 0: none yet.
    pub(crate) flow: FlowKey,
    /// The socket's own cookie. Another one than the socket's says that this is a copy of its listener's state.
    pub(crate) cookie: u64,
    /// Flows it opened that were not closed by the kernel side.
    pub(crate) open_flows: u32,
    /// Bits of [`socket_flag`].
    pub(crate) flags: u32,
}

/// Bits of [`SocketState::flags`].
pub(crate) mod socket_flag {
    /// The identity is that of the creator: no connect or send hook has run.
    pub(crate) const CREATED_ONLY: u32 = 1 << 0;
    /// The socket-operations program reports the end.
    pub(crate) const END_BY_STATE: u32 = 1 << 1;
    /// The last descriptor was closed: what the kernel still sends on it says goodbye.
    pub(crate) const RELEASED: u32 = 1 << 2;
}

/// The state of `sk`, made if there is none. A copy of the listener's is turned into the socket's own first.
#[inline(always)]
pub(crate) fn own_state<'a, S>(sk: *mut S, cookie: u64) -> Option<&'a mut SocketState> {
    let Some(state) = SOCKETS.get_or_create(sk) else {
        emit::count_loss(LossReason::SocketStorageFull);
        return None;
    };
    if state.cookie != cookie {
        state.flow = FlowKey {
            socket_cookie: 0,
            remote_address: [0; 16],
            remote_port_be: 0,
            protocol: 0,
            family: 0,
            padding: 0,
        };
        state.open_flows = 0;
        state.flags = 0;
        state.cookie = cookie;
    }
    Some(state)
}
