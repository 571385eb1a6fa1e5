//! Sockets that are older than the programs: the iterator `task_file`, run once when everything else is attached.
//!
//! Kernel function: `task_file_seq_show`, for each descriptor of each process in the daemon's pid namespace, whatever its
//! network namespace; since 5.9, with sockets from 5.12. Here, because one pass tells who holds which socket and leaves
//! the identity where the other hooks look for it: a connection becomes a flow, a listening socket lends its process to
//! what it accepts, a datagram or raw socket has one before it sends again. Missed: sockets that no process holds any
//! more, and the subflows of MPTCP sockets.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::file,
    helpers::generated::{bpf_get_socket_cookie, bpf_ktime_get_boot_ns, bpf_sock_from_file},
};
use monitor_common::{
    offsets::UNKNOWN,
    packet::{PROTOCOL_TCP, PROTOCOL_UDP},
    record::{FAMILY_IPV4, FAMILY_IPV6, FlowFlags, FlowKey, FlowState},
    socket::SocketState,
};

use crate::{
    flow::{self, Connector},
    identity::read_task,
    offset,
    read::field,
    sock,
    storage::{Following as _, own_state},
};

/// Fields of the iterator's context, `struct bpf_iter__task_file` (`kernel/bpf/task_iter.c`): a stable interface, each
/// field in eight bytes.
mod context {
    pub(super) const TASK: usize = 1;
    pub(super) const FILE: usize = 3;
}

/// States of a TCP connection (`include/net/tcp_states.h`).
mod tcp_state {
    pub(super) const ESTABLISHED: u8 = 1;
    pub(super) const SYN_SENT: u8 = 2;
    pub(super) const FIN_WAIT1: u8 = 4;
    pub(super) const FIN_WAIT2: u8 = 5;
    pub(super) const CLOSE_WAIT: u8 = 8;
}

/// What is true of every flow that is found.
const FOUND: FlowFlags = FlowFlags { midstream: 1, snapshot: 1, ..flow::NO_FLAGS };

/// A process holds a file, which may be a socket.
#[inline(always)]
pub(crate) fn held(ctx: *mut c_void) {
    let fields = ctx.cast::<*mut u8>();
    // SAFETY: a field of the context.
    let task = unsafe { *fields.add(context::TASK) };
    // SAFETY: as above.
    let file = unsafe { *fields.add(context::FILE) };
    // The last call has neither.
    if task.is_null() || file.is_null() || offset!(socket_sk) == UNKNOWN {
        return;
    }
    // SAFETY: a typed `struct file *`.
    let socket = unsafe { bpf_sock_from_file(file.cast::<file>()) };
    if socket.is_null() {
        return;
    }
    let distance = offset!(socket_sk) as usize;
    // SAFETY: a typed `struct socket *`; the verifier checks the load at the given offset.
    let sk = unsafe { *socket.cast::<u8>().add(distance).cast::<*mut u8>() };
    if sk.is_null() {
        return;
    }
    let family = field::<u16>(sk as u64, offset!(sock_family)).unwrap_or(0) as u8;
    if family != FAMILY_IPV4 && family != FAMILY_IPV6 {
        return;
    }
    // SAFETY: a typed `struct sock *`.
    let cookie = unsafe { bpf_get_socket_cookie(sk.cast()) };
    let Some(state) = own_state(sk, cookie) else { return };
    // Whoever acted since the other hooks are there is known better, and of several holders the first is told.
    if state.identity.tgid == 0 {
        read_task(&mut state.identity, task as u64, sock::namespace_cookie(sk as u64));
        let is_datagram = field(sk as u64, offset!(sock_protocol)) == Some(u16::from(PROTOCOL_UDP));
        state.created_only = u8::from(!is_datagram);
    }
    if let Some(key) = sock::peer(sk as u64) {
        connected(sk as u64, key, family, state);
    }
}

/// The socket is connected: its flow is opened, unless a packet was faster.
#[inline(always)]
fn connected(sk: u64, key: FlowKey, family: u8, state: &mut SocketState) {
    let tcp_state = if key.protocol == PROTOCOL_TCP { field::<u8>(sk, offset!(sock_state)).unwrap_or(0) } else { 0 };
    let established = match tcp_state {
        tcp_state::ESTABLISHED | tcp_state::FIN_WAIT1 | tcp_state::FIN_WAIT2 | tcp_state::CLOSE_WAIT => true,
        tcp_state::SYN_SENT => false,
        _ if key.protocol == PROTOCOL_TCP => return,
        _ => false,
    };
    // A socket that never listened has no room for waiting connections; one that was accepted has its listener's.
    let backlog: u32 = field(sk, offset!(sock_backlog_max)).unwrap_or(0);
    let inbound = key.protocol == PROTOCOL_TCP && backlog != 0;
    let entry = if key.protocol == PROTOCOL_TCP { FlowKey::of_stream(key.socket_cookie) } else { key };
    let flow = if let Some(flow) = flow::find(&entry) {
        if flow.connector.tgid == 0 {
            flow.connector = state.identity;
        }
        flow
    } else {
        // SAFETY: takes no arguments.
        let now_ns = unsafe { bpf_ktime_get_boot_ns() };
        let Some(flow) = flow::open(&entry, &key, Connector::Known(&state.identity), FOUND, now_ns, 0) else {
            return;
        };
        (flow.local_address, flow.local_port_be) = sock::local(sk, family);
        if key.protocol != PROTOCOL_TCP {
            state.flow_opened(flow);
            state.follow(&key);
        }
        flow
    };
    flow.flags.snapshot = 1;
    if inbound {
        flow.flags.inbound = 1;
    } else {
        flow.flags.attempted = 1;
    }
    if established {
        flow.flags.established = 1;
    }
    if established && flow.flags.before_known == 0 {
        read_before(sk, flow);
    }
}

/// What TCP has moved already, less what the packet hooks have counted of it.
#[inline(always)]
fn read_before(sk: u64, flow: &mut FlowState) {
    let (Some(sent), Some(again), Some(received), Some(sent_next), Some(received_next)) = (
        field::<u64>(sk, offset!(tcp_sent_bytes)),
        field::<u64>(sk, offset!(tcp_retransmitted_bytes)),
        field::<u64>(sk, offset!(tcp_received_bytes)),
        field::<u32>(sk, offset!(tcp_sent_next)),
        field::<u32>(sk, offset!(tcp_received_next)),
    ) else {
        return;
    };
    flow.before_out_bytes = sent.saturating_sub(again).saturating_sub(flow.payload_out_bytes);
    flow.before_in_bytes = received.saturating_sub(flow.payload_in_bytes);
    flow.flags.before_known = 1;
    // From here on the packet hooks go on, so that a retransmission of earlier bytes is not counted.
    if flow.flags.sent_high_known == 0 {
        flow.tcp_sent_high = sent_next;
        flow.flags.sent_high_known = 1;
    }
    if flow.flags.received_high_known == 0 {
        flow.tcp_received_high = received_next;
        flow.flags.received_high_known = 1;
    }
}
