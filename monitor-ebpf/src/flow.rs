//! The flow table's side of the kernel: find, open, close.

use aya_ebpf::{bindings::BPF_NOEXIST, btf_maps::lpm_trie::Key};
use monitor_common::{
    loss::LossReason,
    packet::is_mapped,
    record::{FAMILY_IPV4, FlowKey, FlowState, Identity, flow_flag, reason},
};

use crate::{
    emit,
    maps::{FLAGGED_FLOWS, FLAGGED_IPV4, FLAGGED_IPV6, FLOWS},
};

/// The flow's entry, in whichever table holds it.
#[inline(always)]
pub(crate) fn find<'a>(key: &FlowKey) -> Option<&'a mut FlowState> {
    let entry = match FLOWS.get_ptr_mut(key) {
        Some(entry) => entry,
        None => FLAGGED_FLOWS.get_ptr_mut(key)?,
    };
    // SAFETY: a map element; the kernel keeps its memory valid while the program runs, and its counters are only
    // changed by atomic additions.
    unsafe { entry.as_mut() }
}

/// Opens a flow: decides whether it is flagged, and puts it into the table. When the table is full the flow is
/// reported once, without counters, and `None` is returned.
///
/// The entry is put in empty and filled in place. It cannot be built in memory of the CPU's own first: a process that
/// connects is interrupted by packets, which open flows too, and on some kernels by another process that connects. An
/// entry without flags is one that is not filled yet.
#[inline(always)]
pub(crate) fn open<'a>(
    key: &FlowKey,
    connector: Option<&Identity>,
    flags: u32,
    now_ns: u64,
    report: u16,
) -> Option<&'a mut FlowState> {
    let flagged = is_flagged(key);
    let flags = if flagged { flags | flow_flag::FLAGGED } else { flags };
    let inserted = if flagged {
        FLAGGED_FLOWS.insert(key, &EMPTY, u64::from(BPF_NOEXIST))
    } else {
        FLOWS.insert(key, &EMPTY, u64::from(BPF_NOEXIST))
    };
    let state = find(key);
    if inserted.is_err() {
        if state.is_none() {
            emit::count_loss(if flagged { LossReason::FlaggedTableFull } else { LossReason::FlowTableFull });
            emit::untracked(key, connector, flags | flow_flag::UNTRACKED, now_ns);
        }
        // Or another CPU opened it in between.
        return state;
    }
    let state = state?;
    if let Some(connector) = connector {
        state.connector = *connector;
    }
    state.first_boot_ns = now_ns;
    state.last_boot_ns = now_ns;
    state.reported_boot_ns = now_ns;
    // SAFETY: a field of the entry; volatile, so that it is written after the others.
    unsafe { (&raw mut state.flags).write_volatile(flags) };
    if report != 0 {
        emit::flow(key, state, report, now_ns);
    }
    Some(state)
}

/// Reports a flow's end and forgets it. If the report finds no room the entry stays, marked as closed, and the daemon
/// collects it.
#[inline(always)]
pub(crate) fn close(key: &FlowKey, state: &mut FlowState, now_ns: u64) {
    state.flags |= flow_flag::CLOSED;
    let flagged = state.flags & flow_flag::FLAGGED != 0;
    if emit::flow(key, state, reason::CLOSED, now_ns) {
        let _ = if flagged { FLAGGED_FLOWS.remove(key) } else { FLOWS.remove(key) };
    }
}

#[inline(always)]
fn is_flagged(key: &FlowKey) -> bool {
    if key.family == FAMILY_IPV4 && is_mapped(&key.remote_address) {
        let [.., a, b, c, d] = key.remote_address;
        return FLAGGED_IPV4.get(&Key::new(32, [a, b, c, d])).is_some();
    }
    FLAGGED_IPV6.get(&Key::new(128, key.remote_address)).is_some()
}

const NOBODY: Identity = Identity {
    start_boot_ns: 0,
    executable_inode: 0,
    cgroup_id: 0,
    network_namespace_cookie: 0,
    executable_device: 0,
    tgid: 0,
    tid: 0,
    uid: 0,
    gid: 0,
    effective_uid: 0,
    comm: [0; 16],
};

/// What every entry starts as.
pub(crate) static EMPTY: FlowState = FlowState {
    connector: NOBODY,
    sender: NOBODY,
    local_address: [0; 16],
    translated_address: [0; 16],
    local_port_be: 0,
    translated_port_be: 0,
    flags: 0,
    first_boot_ns: 0,
    established_boot_ns: 0,
    first_sent_boot_ns: 0,
    last_boot_ns: 0,
    reported_boot_ns: 0,
    reported_bytes: 0,
    payload_out_bytes: 0,
    payload_in_bytes: 0,
    wire_out_bytes: 0,
    wire_in_bytes: 0,
    packets_out: 0,
    packets_in: 0,
    queued_out_bytes: 0,
    queued_in_bytes: 0,
    tcp_sent_high: 0,
    tcp_received_high: 0,
};
