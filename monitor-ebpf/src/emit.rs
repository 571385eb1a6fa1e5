//! The only user of the rings and of the loss counters.

use core::ptr;

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::generated::{bpf_ringbuf_output, bpf_ringbuf_query},
};
use monitor_common::{
    loss::LossReason,
    record::{FlowFlags, FlowHintRecord, FlowKey, FlowRecord, FlowState, Header, SocketReleasedRecord, kind, reason},
};

use crate::{
    flow::{Connector, EMPTY},
    maps::{FLAGGED_EVENTS, FLOW_EVENTS, LOSSES, PROCESS_EVENTS},
    packet::add,
    setting,
};

/// Counts one loss. The counter is this CPU's own, but a packet may interrupt a process that counts.
#[inline(always)]
pub(crate) fn count_loss(reason: LossReason) {
    if let Some(counter) = LOSSES.get_ptr_mut(reason as u32) {
        // SAFETY: a valid element of a per-CPU array.
        add(unsafe { &mut *counter }, 1);
    }
}

/// Reports `state` of its flow. `false` if the ring was full: the flow table still holds the truth. Of an ordinary flow
/// only the end is told as it is, because its entry goes; before that the daemon learns that there is something to read.
#[inline(always)]
pub(crate) fn flow(state: &FlowState, why: u16, now_ns: u64) -> bool {
    if state.flags.flagged == 0 && why != reason::CLOSED {
        return hint(&state.key, why, now_ns);
    }
    let size_bytes = size_of::<FlowRecord>() as u32;
    let header = Header { kind: kind::FLOW, reason: why, size_bytes, boot_ns: now_ns };
    if state.flags.flagged != 0 {
        let Some(mut entry) = FLAGGED_EVENTS.reserve_untyped::<FlowRecord>(0) else {
            count_loss(LossReason::FlaggedRingFull);
            return false;
        };
        write_flow(entry.as_mut_ptr(), header, state);
        entry.submit(0);
        return true;
    }
    let Some(mut entry) = FLOW_EVENTS.reserve_untyped::<FlowRecord>(0) else {
        count_loss(LossReason::FlowRingFull);
        return false;
    };
    write_flow(entry.as_mut_ptr(), header, state);
    entry.submit(flow_wake_flags());
    true
}

#[inline(always)]
fn hint(key: &FlowKey, why: u16, now_ns: u64) -> bool {
    let wake = flow_wake_flags();
    let Some(mut entry) = FLOW_EVENTS.reserve_untyped::<FlowHintRecord>(0) else {
        count_loss(LossReason::FlowRingFull);
        return false;
    };
    let size_bytes = size_of::<FlowHintRecord>() as u32;
    let record = entry.as_mut_ptr();
    // SAFETY: `record` points to a reserved ring entry of this size and alignment.
    unsafe {
        (&raw mut (*record).header).write(Header { kind: kind::FLOW_HINT, reason: why, size_bytes, boot_ns: now_ns });
        (&raw mut (*record).key).write(*key);
    }
    entry.submit(wake);
    true
}

/// Reports a flow that found no room in its table.
#[inline(always)]
pub(crate) fn untracked(key: &FlowKey, connector: Connector<'_>, flags: FlowFlags, now_ns: u64) {
    if flags.flagged != 0 {
        let Some(mut entry) = FLAGGED_EVENTS.reserve_untyped::<FlowRecord>(0) else {
            count_loss(LossReason::FlaggedRingFull);
            return;
        };
        write_untracked(entry.as_mut_ptr(), key, connector, flags, now_ns);
        entry.submit(0);
        return;
    }
    let Some(mut entry) = FLOW_EVENTS.reserve_untyped::<FlowRecord>(0) else {
        count_loss(LossReason::FlowRingFull);
        return;
    };
    write_untracked(entry.as_mut_ptr(), key, connector, flags, now_ns);
    entry.submit(flow_wake_flags());
}

/// Reports that a socket with several flows was released: behind the reports of its ordinary flows and, if one of them is
/// `flagged`, behind those of its flagged flows too, because the rings are read each at its own pace.
#[inline(always)]
pub(crate) fn socket_released(cookie: u64, flagged: bool, now_ns: u64) {
    let record = SocketReleasedRecord {
        header: Header {
            kind: kind::SOCKET_RELEASED,
            reason: 0,
            size_bytes: size_of::<SocketReleasedRecord>() as u32,
            boot_ns: now_ns,
        },
        socket_cookie: cookie,
    };
    if flagged && FLAGGED_EVENTS.output_untyped::<SocketReleasedRecord>(&record, 0).is_err() {
        count_loss(LossReason::FlaggedRingFull);
    }
    if FLOW_EVENTS.output_untyped::<SocketReleasedRecord>(&record, flow_wake_flags()).is_err() {
        count_loss(LossReason::FlowRingFull);
    }
}

/// Reports a process or cgroup event.
#[inline(always)]
pub(crate) fn process<T>(record: &T) {
    let map = ptr::from_ref(&PROCESS_EVENTS).cast_mut().cast();
    let data = ptr::from_ref(record).cast_mut().cast();
    // SAFETY: the map is a ring and `record` is initialised memory of the size given.
    let waiting_bytes = unsafe { bpf_ringbuf_query(map, u64::from(BPF_RB_AVAIL_DATA)) };
    let flags = wake_flags(waiting_bytes, setting!(wake_bytes));
    // SAFETY: as above.
    if unsafe { bpf_ringbuf_output(map, data, size_of::<T>() as u64, flags) } != 0 {
        count_loss(LossReason::ProcessRingFull);
    }
}

#[inline(always)]
fn write_flow(record: *mut FlowRecord, header: Header, state: &FlowState) {
    // SAFETY: `record` points to a reserved ring entry of this size and alignment.
    unsafe {
        (&raw mut (*record).header).write(header);
        (&raw mut (*record).state).write(*state);
    }
}

#[inline(always)]
fn write_untracked(record: *mut FlowRecord, key: &FlowKey, connector: Connector<'_>, flags: FlowFlags, now_ns: u64) {
    let header = Header {
        kind: kind::FLOW,
        reason: reason::ATTEMPT,
        size_bytes: size_of::<FlowRecord>() as u32,
        boot_ns: now_ns,
    };
    write_flow(record, header, &EMPTY);
    // SAFETY: `record` points to a reserved ring entry of this size and alignment, written above.
    let state = unsafe { &mut (*record).state };
    state.key = *key;
    connector.write(&mut state.connector);
    state.flags = flags;
    state.first_boot_ns = now_ns;
    state.last_boot_ns = now_ns;
    state.reported_boot_ns = now_ns;
}

/// Ordinary reports wait for the daemon's timer unless much waits already: a wake-up costs more than the report.
#[inline(always)]
fn flow_wake_flags() -> u64 {
    let map = ptr::from_ref(&FLOW_EVENTS).cast_mut().cast();
    // SAFETY: the map is a ring.
    wake_flags(unsafe { bpf_ringbuf_query(map, u64::from(BPF_RB_AVAIL_DATA)) }, setting!(wake_bytes))
}

/// A reader is woken once `limit_bytes` wait.
#[inline(always)]
pub(crate) fn wake_flags(waiting_bytes: u64, limit_bytes: u64) -> u64 {
    if waiting_bytes >= limit_bytes { u64::from(BPF_RB_FORCE_WAKEUP) } else { u64::from(BPF_RB_NO_WAKEUP) }
}
