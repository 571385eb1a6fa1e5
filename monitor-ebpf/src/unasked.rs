//! Datagrams that arrive before this host has sent any to their sender: who began is known when the socket answers.
//!
//! Called from the packet hook for UDP datagrams that belong to no flow, and where a flow is opened. What arrives unasked
//! opens no flow, or strangers could fill the tables; it is noted in a table that holds so many senders and lets go of
//! those that were silent longest. What is let go is answered as if nobody had asked.

use monitor_common::record::{FlowKey, FlowState};

use crate::{maps::UNASKED, packet::add};

/// How long a datagram counts as what is answered: for so long a network keeps the way back open (RFC 4787, section 4.3).
const REMEMBERED_NS: u64 = 300_000_000_000;

/// What one sender sent to one socket.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Unasked {
    first_boot_ns: u64,
    last_boot_ns: u64,
    payload_bytes: u64,
    wire_bytes: u64,
    packets: u64,
}

/// A datagram arrived that belongs to no flow. `key` is the flow's that an answer would open.
#[inline(always)]
pub(crate) fn arrived(key: &FlowKey, payload_bytes: u32, wire_bytes: u64, now_ns: u64) {
    let first = Unasked {
        first_boot_ns: now_ns,
        last_boot_ns: now_ns,
        payload_bytes: u64::from(payload_bytes),
        wire_bytes,
        packets: 1,
    };
    if let Some(known) = UNASKED.get_ptr_mut(key) {
        // SAFETY: a map element, whose memory stays valid while the program runs.
        let known = unsafe { &mut *known };
        if now_ns.saturating_sub(known.last_boot_ns) <= REMEMBERED_NS {
            known.last_boot_ns = now_ns;
            add(&mut known.payload_bytes, u64::from(payload_bytes));
            add(&mut known.wire_bytes, wire_bytes);
            add(&mut known.packets, 1);
            return;
        }
    }
    // Nothing is lost but who began, if even the table that gives up its oldest has no room.
    let _ = UNASKED.insert(key, &first, 0);
}

/// A flow is opened to somebody who may have sent first: then it is the other side's, with what it sent.
#[inline(always)]
pub(crate) fn answered(key: &FlowKey, flow: &mut FlowState, now_ns: u64) {
    // SAFETY: copied at once; an element that is reused meanwhile counts a datagram for another sender.
    let Some(unasked) = (unsafe { UNASKED.get(key) }).copied() else { return };
    let _ = UNASKED.remove(key);
    if now_ns.saturating_sub(unasked.last_boot_ns) > REMEMBERED_NS {
        return;
    }
    flow.flags.inbound = 1;
    flow.flags.attempted = 0;
    flow.flags.received = 1;
    flow.first_boot_ns = unasked.first_boot_ns;
    add(&mut flow.payload_in_bytes, unasked.payload_bytes);
    add(&mut flow.wire_in_bytes, unasked.wire_bytes);
    add(&mut flow.packets_in, unasked.packets);
}
