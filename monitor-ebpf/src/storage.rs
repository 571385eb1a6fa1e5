//! What is known of a socket: the value of the socket storage.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use monitor_common::{
    address::Address,
    loss::LossReason,
    record::{FlowKey, FlowState},
    socket::SocketState,
};

use crate::{emit, maps::SOCKETS};

/// Which flow a socket is about, and the count of those that are open.
pub(crate) trait Following {
    /// Makes `key`, which somebody asked for, the flow that the socket is about. What its entry counted so far is counted
    /// on at the socket.
    fn follow(&mut self, key: &FlowKey, flow: Option<&FlowState>);

    /// Gives the entry of its flow the packets that are counted at the socket. Two CPUs that do it at once may leave it a
    /// packet behind until the next time.
    fn publish(&mut self, flow: &mut FlowState);

    /// Counts a flow that was opened. Packets of one datagram socket leave on several CPUs at once.
    fn flow_opened(&mut self, flow: &FlowState);

    /// Counts a flow that was closed.
    fn flow_closed(&mut self);
}

impl Following for SocketState {
    #[inline(always)]
    fn follow(&mut self, key: &FlowKey, flow: Option<&FlowState>) {
        let (packets_out, packets_in, wire_out_bytes, wire_in_bytes) = match flow {
            Some(flow) => (flow.packets_out, flow.packets_in, flow.wire_out_bytes, flow.wire_in_bytes),
            None => (0, 0, 0, 0),
        };
        self.packets_out = packets_out;
        self.packets_in = packets_in;
        self.wire_out_bytes = wire_out_bytes;
        self.wire_in_bytes = wire_in_bytes;
        self.received_high = 0;
        self.is_ahead = 0;
        self.is_asked = 1;
        self.flow = *key;
    }

    #[inline(always)]
    fn publish(&mut self, flow: &mut FlowState) {
        self.is_ahead = 0;
        flow.packets_out = self.packets_out;
        flow.packets_in = self.packets_in;
        flow.wire_out_bytes = self.wire_out_bytes;
        flow.wire_in_bytes = self.wire_in_bytes;
    }

    #[inline(always)]
    fn flow_opened(&mut self, flow: &FlowState) {
        if flow.flags.flagged != 0 {
            self.has_flagged = 1;
        }
        // SAFETY: an aligned u32 in socket storage, only changed by atomic additions once the socket sends.
        unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(&raw mut self.open_flows, 1) };
    }

    #[inline(always)]
    fn flow_closed(&mut self) {
        if self.open_flows == 0 {
            return;
        }
        // SAFETY: as above.
        unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(&raw mut self.open_flows, u32::MAX) };
    }
}

const NO_FLOW: FlowKey =
    FlowKey { socket_cookie: 0, remote_address: Address::NONE, remote_port_be: 0, protocol: 0, family: 0, padding: 0 };

/// The state of `sk`, made if there is none. A copy of the listener's is turned into the socket's own first.
#[inline(always)]
pub(crate) fn own_state<'a, S>(sk: *mut S, cookie: u64) -> Option<&'a mut SocketState> {
    let Some(state) = SOCKETS.get_or_create(sk) else {
        emit::count_loss(LossReason::SocketStorageFull);
        return None;
    };
    if state.cookie != cookie {
        state.follow(&NO_FLOW, None);
        state.open_flows = 0;
        state.created_only = 0;
        state.end_by_state = 0;
        state.is_shared = 0;
        state.is_released = 0;
        state.has_flagged = 0;
        state.is_snapshot = 0;
        state.cookie = cookie;
    }
    Some(state)
}
