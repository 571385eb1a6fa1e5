//! A socket's first and last moment: `cgroup/sock_create` and `cgroup/sock_release`.
//!
//! Kernel functions: `inet_create`/`inet6_create` and `inet_release`; since 4.10 and 5.9. Creation, because raw and ping
//! sockets have no connect or send hook. Release runs in the process that closes the last descriptor; a TCP connection
//! may go on flushing after it, so its end is reported by the socket-operations program instead. Missed: packet sockets.

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_boot_ns},
    programs::SockContext,
};
use monitor_common::{
    offsets::UNKNOWN,
    packet::PROTOCOL_TCP,
    record::{FlowKey, reason},
};

use crate::{emit, flow, identity::read_current, maps::SOCKETS, offset, setting, storage::own_state};

pub(crate) const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const IPPROTO_TCP: u32 = 6;
const IPPROTO_UDP: u32 = 17;

/// Whether `listen` can tell the process, its namespace included, so that a TCP socket costs nothing until it connects or
/// listens. Linux gives each network namespace its cookie from the start since 5.12, as it lets typed programs have
/// socket storage.
#[inline(always)]
pub(crate) fn listen_tells() -> bool {
    setting!(typed_programs_have_sockets) != 0 && offset!(task_tgid) != UNKNOWN && offset!(namespace_cookie) != UNKNOWN
}

/// A process made a socket.
#[inline(always)]
pub(crate) fn created(ctx: &SockContext) {
    // SAFETY: the context of a socket hook; the verifier checks each field's access.
    let (kind, protocol) = unsafe { ((*ctx.sock).type_, (*ctx.sock).protocol) };
    if kind == SOCK_STREAM && protocol == IPPROTO_TCP && listen_tells() {
        return;
    }
    // SAFETY: the context of a socket hook.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    // Made now, while one process alone has the socket: two that first send at once would each make it anew.
    let Some(state) = own_state(ctx.sock, cookie) else { return };
    // UDP gets its identity at each connect or addressed send.
    if kind == SOCK_DGRAM && protocol == IPPROTO_UDP {
        return;
    }
    // SAFETY: the context of a socket hook.
    let namespace = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    read_current(&mut state.identity, namespace);
    state.created_only = 1;
}

/// The last descriptor of a socket was closed.
#[inline(always)]
pub(crate) fn released(ctx: &SockContext) {
    // SAFETY: the context of a socket hook; the verifier checks each field's access.
    let (kind, protocol) = unsafe { ((*ctx.sock).type_, (*ctx.sock).protocol) };
    // IPPROTO_MPTCP is 262 and carries TCP: its low byte is TCP's number.
    if kind == SOCK_STREAM && protocol as u8 == PROTOCOL_TCP {
        return stream_released(ctx);
    }
    let Some(state) = SOCKETS.get(ctx.sock) else { return };
    state.is_released = 1;
    if state.flow.socket_cookie == 0 || state.open_flows == 0 {
        return;
    }
    // SAFETY: takes no arguments.
    let now_ns = unsafe { bpf_ktime_get_boot_ns() };
    if state.open_flows > 1 {
        emit::socket_released(state.cookie, state.has_flagged != 0, now_ns);
        return;
    }
    let key = state.flow;
    let Some(flow) = flow::find(&key) else { return };
    flow.flags.released = 1;
    state.open_flows = 0;
    flow::close(&key, flow, now_ns);
}

/// The last descriptor of a TCP socket was closed.
#[inline(always)]
fn stream_released(ctx: &SockContext) {
    // SAFETY: the context of a socket hook.
    let entry = FlowKey::of_stream(unsafe { bpf_get_socket_cookie(ctx.as_ptr()) });
    let Some(flow) = flow::find(&entry) else { return };
    flow.flags.released = 1;
    if flow.flags.end_by_state != 0 {
        return;
    }
    // SAFETY: takes no arguments.
    let now_ns = unsafe { bpf_ktime_get_boot_ns() };
    if flow.flags.midstream != 0 {
        // The connection is older than the programs: nothing will report its end, so the daemon watches it fall quiet.
        emit::flow(flow, reason::PROGRESS, now_ns);
        return;
    }
    flow::close(&entry, flow, now_ns);
}
