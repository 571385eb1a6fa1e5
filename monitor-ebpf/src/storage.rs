//! What is known of a socket: the value of the socket storage, and nothing of it leaves the kernel as it is.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use monitor_common::{
    loss::LossReason,
    record::{FlowKey, FlowState, Identity},
};

use crate::{emit, maps::SOCKETS};

/// A socket's state. Its facts are bytes and not bits, as in [`monitor_common::record::FlowFlags`].
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
    /// The identity is that of the creator: no connect or send hook has run.
    pub(crate) created_only: u8,
    /// The socket-operations program reports the end.
    pub(crate) end_by_state: u8,
    /// Several threads address datagrams with it: `flow` need not be the one that the current thread sends on.
    pub(crate) is_shared: u8,
    /// The last descriptor was closed: what the kernel still sends on it says goodbye.
    pub(crate) is_released: u8,
    /// One of its flows is flagged.
    pub(crate) has_flagged: u8,
}

impl SocketState {
    /// Counts a flow that was opened. Packets of one datagram socket leave on several CPUs at once.
    #[inline(always)]
    pub(crate) fn flow_opened(&mut self, flow: &FlowState) {
        if flow.flags.flagged != 0 {
            self.has_flagged = 1;
        }
        // SAFETY: an aligned u32 in socket storage, only changed by atomic additions once the socket sends.
        unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(&raw mut self.open_flows, 1) };
    }

    /// Counts a flow that was closed.
    #[inline(always)]
    pub(crate) fn flow_closed(&mut self) {
        if self.open_flows == 0 {
            return;
        }
        // SAFETY: as above.
        unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(&raw mut self.open_flows, u32::MAX) };
    }
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
        state.created_only = 0;
        state.end_by_state = 0;
        state.is_shared = 0;
        state.is_released = 0;
        state.has_flagged = 0;
        state.cookie = cookie;
    }
    Some(state)
}
