//! A socket's first and last moment: `cgroup/sock_create` and `cgroup/sock_release`.
//!
//! Kernel functions: `inet_create`/`inet6_create` and `inet_release`; since 4.10 and 5.9. Creation, because raw and ping
//! sockets have no connect or send hook and because accepted connections inherit the listener's state. Release runs in
//! the process that closes the last descriptor; a TCP connection may go on flushing after it, so its end is reported by
//! the socket-operations program instead. Missed: packet sockets.

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_boot_ns},
    programs::SockContext,
};
use monitor_common::record::{flow_flag, reason};

use crate::{
    emit, flow,
    identity::read_current,
    maps::SOCKETS,
    storage::{own_state, socket_flag},
};

const SOCK_DGRAM: u32 = 2;
const IPPROTO_UDP: u32 = 17;

/// A process made a socket.
#[inline(always)]
pub(crate) fn created(ctx: &SockContext) {
    // SAFETY: the context of a socket hook; the verifier checks each field's access.
    let (kind, protocol) = unsafe { ((*ctx.sock).type_, (*ctx.sock).protocol) };
    // UDP gets its identity at each connect or addressed send.
    if kind == SOCK_DGRAM && protocol == IPPROTO_UDP {
        return;
    }
    // SAFETY: the context of a socket hook.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    let Some(state) = own_state(ctx.sock, cookie) else { return };
    // SAFETY: the context of a socket hook.
    let namespace = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    read_current(&mut state.identity, namespace);
    state.flags |= socket_flag::CREATED_ONLY;
}

/// The last descriptor of a socket was closed.
#[inline(always)]
pub(crate) fn released(ctx: &SockContext) {
    let Some(state) = SOCKETS.get(ctx.sock) else { return };
    state.flags |= socket_flag::RELEASED;
    if state.flow.socket_cookie == 0 || state.open_flows == 0 {
        return;
    }
    // SAFETY: takes no arguments.
    let now_ns = unsafe { bpf_ktime_get_boot_ns() };
    let key = state.flow;
    let flow = flow::find(&key);
    if state.open_flows > 1 {
        let flagged = flow.is_some_and(|flow| flow.flags & flow_flag::FLAGGED != 0);
        emit::socket_released(state.cookie, flagged, now_ns);
        return;
    }
    let Some(flow) = flow else { return };
    flow.flags |= flow_flag::RELEASED;
    if state.flags & socket_flag::END_BY_STATE != 0 {
        return;
    }
    if key.protocol == monitor_common::packet::PROTOCOL_TCP && flow.flags & flow_flag::MIDSTREAM != 0 {
        // The connection is older than the programs: nothing will report its end, so the daemon watches it fall quiet.
        emit::flow(&key, flow, reason::PROGRESS, now_ns);
        return;
    }
    state.open_flows = 0;
    flow::close(&key, flow, now_ns);
}
