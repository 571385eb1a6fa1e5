//! The flow table's side of the kernel: find, open, close.

use aya_ebpf::{bindings::BPF_NOEXIST, btf_maps::lpm_trie::Key, helpers::generated::bpf_ktime_get_boot_ns};
use monitor_common::{
    accounting::sender_report_is_due,
    address::Address,
    loss::LossReason,
    packet::PROTOCOL_UDP,
    record::{FAMILY_IPV4, FAMILY_PACKET, FlowFlags, FlowKey, FlowState, Identity, reason},
};

use crate::{
    emit,
    identity::{Actor, read_current},
    maps::{FLAGGED_FLOWS, FLAGGED_IPV4, FLAGGED_IPV6, FLOWS},
    setting, unasked,
};

/// Who opens a flow.
#[derive(Clone, Copy)]
pub(crate) enum Connector<'a> {
    /// Nothing tells.
    Unknown,
    /// What is known of the socket tells. Only where nobody writes it meanwhile.
    Known(&'a Identity),
    /// The current process, in the network namespace with this cookie. It is read into the flow itself: what is known of
    /// the socket may be another process's already, if two send on it at once.
    Current(u64),
}

impl<'a> Connector<'a> {
    /// The process that is known of the socket, if any is.
    #[inline(always)]
    pub(crate) fn of_socket(identity: &'a Identity) -> Self {
        if identity.tgid == 0 { Self::Unknown } else { Self::Known(identity) }
    }

    #[inline(always)]
    pub(crate) fn write(self, into: &mut Identity) {
        match self {
            Self::Unknown => {}
            Self::Known(identity) => *into = *identity,
            Self::Current(namespace) => read_current(into, namespace),
        }
    }
}

/// The entry that has this key, in whichever table holds it.
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

/// The connection of the TCP socket with this cookie.
#[inline(always)]
pub(crate) fn stream<'a>(cookie: u64) -> Option<&'a mut FlowState> {
    find(&FlowKey::of_stream(cookie))
}

/// Opens a flow: decides whether it is flagged, and puts it into the table as `entry`, with what `flags` says of it. When
/// the table is full the flow is reported once, without counters, and `None` is returned.
///
/// The entry is put in empty and filled in place. It cannot be built in memory of the CPU's own first: a process that
/// connects is interrupted by packets, which open flows too, and on some kernels by another process that connects.
#[inline(always)]
pub(crate) fn open<'a>(
    entry: &FlowKey,
    key: &FlowKey,
    connector: Connector<'_>,
    flags: FlowFlags,
    now_ns: u64,
    report: u16,
) -> Option<&'a mut FlowState> {
    let flagged = is_flagged(key);
    let inserted = if flagged {
        FLAGGED_FLOWS.insert(entry, &EMPTY, u64::from(BPF_NOEXIST))
    } else {
        FLOWS.insert(entry, &EMPTY, u64::from(BPF_NOEXIST))
    };
    let state = find(entry);
    if inserted.is_err() {
        if state.is_none() {
            emit::count_loss(if flagged { LossReason::FlaggedTableFull } else { LossReason::FlowTableFull });
            let flags = FlowFlags { filled: 1, untracked: 1, flagged: u8::from(flagged), ..flags };
            emit::untracked(key, connector, flags, now_ns);
        }
        // Or another CPU opened it in between.
        return state;
    }
    let state = state?;
    state.key = *key;
    connector.write(&mut state.connector);
    state.first_boot_ns = now_ns;
    state.last_boot_ns = now_ns;
    state.reported_boot_ns = now_ns;
    raise(&mut state.flags, &flags);
    if flagged {
        state.flags.flagged = 1;
    }
    if key.protocol == PROTOCOL_UDP {
        unasked::answered(key, state, now_ns);
    }
    // SAFETY: a field of the entry; volatile, so that it is written after the others.
    unsafe { (&raw mut state.flags.filled).write_volatile(1) };
    if report != 0 {
        emit::flow(state, report, now_ns);
    }
    Some(state)
}

/// Sets one of a flow's facts. A write that changes nothing would still take the cache line from the CPU that looks the
/// entry up.
#[inline(always)]
pub(crate) fn learn(fact: &mut u8) {
    if *fact == 0 {
        *fact = 1;
    }
}

/// Notes that the current process sends on a flow. Another one than the last is reported, at once until many have
/// changed places, so that processes which take turns on one socket do not make a report of each send.
#[inline(always)]
pub(crate) fn note_sender(state: &mut FlowState, actor: Actor) {
    let last = if state.sender.tgid == 0 { &mut state.connector } else { &mut state.sender };
    if actor.is(last) {
        return;
    }
    // Who was found with the socket is known but for this.
    if last.tgid == actor.tgid && last.exec_id == 0 {
        last.exec_id = actor.exec_id;
        return;
    }
    read_current(&mut state.sender, state.connector.network_namespace_cookie);
    state.sender_changes += 1;
    // SAFETY: takes no arguments.
    let now_ns = unsafe { bpf_ktime_get_boot_ns() };
    if sender_report_is_due(state.sender_changes, now_ns, state.reported_boot_ns, setting!(report_interval_ns)) {
        state.reported_boot_ns = now_ns;
        emit::flow(state, reason::SENDER, now_ns);
    }
}

/// Reports the end of a flow that is kept as `entry`, and forgets it. If the report finds no room the entry stays, marked
/// as closed, and the daemon collects it.
#[inline(always)]
pub(crate) fn close(entry: &FlowKey, state: &mut FlowState, now_ns: u64) {
    state.flags.closed = 1;
    let flagged = state.flags.flagged != 0;
    if emit::flow(state, reason::CLOSED, now_ns) {
        forget(entry, flagged);
    }
}

/// Takes a flow's entry out of its table, if it is there.
#[inline(always)]
pub(crate) fn forget(entry: &FlowKey, flagged: bool) {
    let _ = if flagged { FLAGGED_FLOWS.remove(entry) } else { FLOWS.remove(entry) };
}

/// Sets what `from` says in `into`, byte by byte: another CPU may have found the entry and learnt something else already.
#[inline(always)]
fn raise(into: &mut FlowFlags, from: &FlowFlags) {
    macro_rules! raise {
        ($($flag:ident),*) => { $(if from.$flag != 0 { into.$flag = 1; })* };
    }
    raise!(attempted, established, inbound, midstream, snapshot, identity_from_creation, identity_from_listener);
}

#[inline(always)]
fn is_flagged(key: &FlowKey) -> bool {
    if key.family == FAMILY_PACKET {
        return false;
    }
    if key.family == FAMILY_IPV4 && key.remote_address.is_mapped() {
        return FLAGGED_IPV4.get(&Key::new(32, key.remote_address.ipv4_octets())).is_some();
    }
    FLAGGED_IPV6.get(&Key::new(128, key.remote_address.octets())).is_some()
}

/// No flow's key.
pub(crate) const NO_FLOW: FlowKey =
    FlowKey { socket_cookie: 0, remote_address: Address::NONE, remote_port_be: 0, protocol: 0, family: 0, padding: 0 };

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
    exec_id: 0,
    padding: 0,
    comm: [0; 16],
};

/// Nothing known yet.
pub(crate) const NO_FLAGS: FlowFlags = FlowFlags {
    filled: 0,
    attempted: 0,
    established: 0,
    failed: 0,
    sent: 0,
    received: 0,
    closed: 0,
    released: 0,
    flagged: 0,
    inbound: 0,
    midstream: 0,
    snapshot: 0,
    untracked: 0,
    identity_from_creation: 0,
    identity_from_listener: 0,
    end_by_state: 0,
    translated: 0,
    sent_high_known: 0,
    received_high_known: 0,
    queued_out_known: 0,
    queued_in_known: 0,
    before_known: 0,
    padding: [0; 2],
};

/// A process asked for it.
pub(crate) const ATTEMPTED: FlowFlags = FlowFlags { attempted: 1, ..NO_FLAGS };

/// What every entry starts as.
pub(crate) static EMPTY: FlowState = FlowState {
    key: NO_FLOW,
    flags: NO_FLAGS,
    local_port_be: 0,
    translated_port_be: 0,
    ether_type_be: 0,
    padding: 0,
    first_boot_ns: 0,
    established_boot_ns: 0,
    first_sent_boot_ns: 0,
    sender_changes: 0,
    interface: 0,
    local_address: Address::NONE,
    wire_in_bytes: 0,
    packets_in: 0,
    queued_in_bytes: 0,
    before_out_bytes: 0,
    before_in_bytes: 0,
    translated_address: Address::NONE,
    last_packets_in: 0,
    payload_out_bytes: 0,
    payload_in_bytes: 0,
    wire_out_bytes: 0,
    packets_out: 0,
    queued_out_bytes: 0,
    tcp_sent_high: 0,
    tcp_received_high: 0,
    last_boot_ns: 0,
    reported_boot_ns: 0,
    reported_bytes: 0,
    last_packets_out: 0,
    connector: NOBODY,
    sender: NOBODY,
    end_padding: [0; 2],
};
