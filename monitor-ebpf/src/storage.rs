//! What is known of a socket: the value of the socket storage.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use monitor_common::{
    loss::LossReason,
    record::{FlowKey, FlowState},
    socket::SocketState,
};

use crate::{emit, flow::NO_FLOW, maps::SOCKETS};

/// Which flow a socket is about, and the count of those that are open. A TCP socket's one connection needs neither.
pub(crate) trait Following {
    /// Makes `key`, which somebody asked for, the flow that the socket is about.
    fn follow(&mut self, key: &FlowKey);

    /// Counts a flow that was opened. Packets of one datagram socket leave on several CPUs at once.
    fn flow_opened(&mut self, flow: &FlowState);
}

impl Following for SocketState {
    #[inline(always)]
    fn follow(&mut self, key: &FlowKey) {
        self.is_asked = 1;
        self.flow = *key;
    }

    #[inline(always)]
    fn flow_opened(&mut self, flow: &FlowState) {
        if flow.flags.flagged != 0 {
            self.has_flagged = 1;
        }
        // SAFETY: an aligned u32 in socket storage, only changed by atomic additions once the socket sends.
        unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(&raw mut self.open_flows, 1) };
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
        state.flow = NO_FLOW;
        state.open_flows = 0;
        state.created_only = 0;
        state.is_shared = 0;
        state.is_released = 0;
        state.has_flagged = 0;
        state.is_snapshot = 0;
        state.cookie = cookie;
    }
    Some(state)
}
