//! The sender rung: `tp_btf/sock_send_length` and `sock_recv_length`.
//!
//! Kernel functions: `sock_sendmsg_nosec` and `sock_recvmsg_nosec` after each call, `sendfile` and io_uring included;
//! since 6.3. Here, because the hook runs in the process that really sends, with the exact count, whoever connected the
//! socket and whenever. Missed: kernel sockets that bypass both functions.

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_get_socket_cookie, bpf_ktime_get_boot_ns},
    programs::BtfTracePointContext,
};
use monitor_common::{
    offsets::UNKNOWN,
    record::{FAMILY_IPV4, FAMILY_IPV6, flow_flag, reason},
};

use crate::{
    emit, flow,
    identity::{current_tgid, read_current},
    offset,
    packet::add,
    storage::own_state,
};

/// A receive with this flag leaves the bytes in the socket (`include/linux/socket.h`).
const MSG_PEEK: i32 = 2;

/// A process handed bytes to a socket.
#[inline(always)]
pub(crate) fn sent(ctx: &BtfTracePointContext) {
    let Some((sk, length_bytes)) = internet_socket(ctx) else { return };
    // SAFETY: a typed socket pointer from the tracepoint.
    let cookie = unsafe { bpf_get_socket_cookie(sk.cast()) };
    let Some(state) = own_state(sk, cookie) else { return };
    let tgid = current_tgid();
    let Some(flow) = flow::find(&state.flow) else {
        if state.identity.tgid == 0 {
            read_current(&mut state.identity, 0);
        }
        return;
    };
    flow.flags |= flow_flag::QUEUED_KNOWN;
    add(&mut flow.queued_out_bytes, length_bytes);
    let sender = if flow.sender.tgid == 0 { flow.connector.tgid } else { flow.sender.tgid };
    if sender == tgid {
        return;
    }
    read_current(&mut flow.sender, flow.connector.network_namespace_cookie);
    if state.identity.tgid == 0 {
        state.identity = flow.sender;
    }
    // SAFETY: takes no arguments.
    let now_ns = unsafe { bpf_ktime_get_boot_ns() };
    emit::flow(&state.flow, flow, reason::SENDER, now_ns);
}

/// A process took bytes from a socket.
#[inline(always)]
pub(crate) fn received(ctx: &BtfTracePointContext) {
    if ctx.arg::<i32>(2) & MSG_PEEK != 0 {
        return;
    }
    let Some((sk, length_bytes)) = internet_socket(ctx) else { return };
    let Some(state) = crate::maps::SOCKETS.get(sk) else { return };
    let Some(flow) = flow::find(&state.flow) else { return };
    flow.flags |= flow_flag::QUEUED_KNOWN;
    add(&mut flow.queued_in_bytes, length_bytes);
}

/// The tracepoint's socket and byte count, if it is an Internet socket and the call moved bytes.
#[inline(always)]
fn internet_socket(ctx: &BtfTracePointContext) -> Option<(*mut u8, u64)> {
    let length = ctx.arg::<i32>(1);
    let offset = offset!(sock_family);
    if length <= 0 || offset == UNKNOWN {
        return None;
    }
    // SAFETY: the first argument is a typed `struct sock *`; the verifier checks the load at the given offset.
    let sk = unsafe { *ctx.as_ptr().cast::<*mut u8>() };
    // SAFETY: as above.
    let family = unsafe { *sk.add(offset as usize).cast::<u16>() };
    if family == u16::from(FAMILY_IPV4) || family == u16::from(FAMILY_IPV6) { Some((sk, length as u64)) } else { None }
}
