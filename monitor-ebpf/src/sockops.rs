//! TCP's own milestones: the socket-operations program.
//!
//! Kernel functions: `tcp_connect`, `tcp_finish_connect`, `tcp_rcv_state_process` and `tcp_set_state`; the state callback
//! since 4.16. Here, because it is the one place that tells the end of a handshake and the true end of a connection
//! without a typed program. It runs in packet context: identities come from socket storage. Missed: connections older
//! than the programs, whose callbacks nobody asked for.

use aya_ebpf::{
    EbpfContext,
    bindings::{
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB,
        BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_SOCK_OPS_TCP_LISTEN_CB, BPF_TCP_CLOSE,
        BPF_TCP_SYN_SENT, bpf_sock,
    },
    helpers::{
        bpf_probe_read_kernel,
        generated::{bpf_get_current_task, bpf_get_socket_cookie, bpf_ktime_get_boot_ns, bpf_sock_ops_cb_flags_set},
    },
    programs::SockOpsContext,
};
use monitor_common::{
    address::Address,
    packet::PROTOCOL_TCP,
    record::{FAMILY_IPV4, FAMILY_IPV6, FlowFlags, FlowKey, FlowState, reason},
};

use crate::{
    emit,
    flow::{self, Connector},
    identity::read_task,
    maps::SOCKETS,
    read,
    sock::namespace_cookie,
    socket::listen_tells,
    storage::own_state,
};

const AF_INET: u32 = 2;

/// TCP reached a milestone.
#[inline(always)]
pub(crate) fn changed(ctx: &SockOpsContext) {
    match ctx.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => watch_end(ctx),
        BPF_SOCK_OPS_TCP_LISTEN_CB => listening(ctx),
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => established(ctx),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => accepted(ctx),
        BPF_SOCK_OPS_STATE_CB => ended(ctx),
        _ => {}
    }
}

/// A process listens: what it accepts starts with a copy of what is known here. The one callback in process context that
/// needs the process, which on older kernels these programs can only ask for as a task.
#[inline(always)]
fn listening(ctx: &SockOpsContext) {
    if !listen_tells() {
        return;
    }
    let Some(sk) = socket(ctx) else { return };
    let Some(state) = own_state(sk, cookie(ctx)) else { return };
    // The hook's own socket is one that the verifier lets nobody calculate with: read back, its address is a number.
    // SAFETY: the program's own stack.
    let Ok(address) = (unsafe { bpf_probe_read_kernel((&raw const sk).cast::<u64>()) }) else { return };
    // SAFETY: takes no arguments and has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    read_task(&mut state.identity, task, namespace_cookie(address));
    state.created_only = 1;
}

/// A connection attempt starts: ask to be told of its end.
#[inline(always)]
fn watch_end(ctx: &SockOpsContext) {
    let told = end_is_told(ctx);
    if let Some(flow) = flow::stream(cookie(ctx)) {
        flow.flags.end_by_state = told;
        note_local(ctx, flow);
    }
}

/// Asks to be told of the connection's end; 1 if it will be.
#[inline(always)]
fn end_is_told(ctx: &SockOpsContext) -> u8 {
    // SAFETY: the context of a socket-operations hook.
    let failed = unsafe { bpf_sock_ops_cb_flags_set(ctx.ops, BPF_SOCK_OPS_STATE_CB_FLAG as i32) };
    u8::from(failed == 0)
}

#[inline(always)]
fn cookie(ctx: &SockOpsContext) -> u64 {
    // SAFETY: the context of a socket-operations hook.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}

/// Notes the socket's own end, which it has by now. The packets do not tell it if none carries payload.
#[inline(always)]
fn note_local(ctx: &SockOpsContext, flow: &mut FlowState) {
    let port_be = (ctx.local_port() as u16).to_be();
    if flow.local_port_be != 0 || port_be == 0 {
        return;
    }
    flow.local_address = if ctx.family() == AF_INET {
        Address::mapped(ctx.local_ip4())
    } else {
        // SAFETY: the context of a socket-operations hook.
        unsafe { read::address(&raw const (*ctx.ops).local_ip6) }
    };
    flow.local_port_be = port_be;
}

/// The handshake of an outgoing connection is done.
#[inline(always)]
fn established(ctx: &SockOpsContext) {
    let Some(flow) = flow::stream(cookie(ctx)) else { return };
    // SAFETY: takes no arguments.
    let now_ns = unsafe { bpf_ktime_get_boot_ns() };
    flow.flags.established = 1;
    flow.established_boot_ns = now_ns;
    flow.last_boot_ns = now_ns;
    expect_first_byte(ctx, flow);
    if flow.flags.flagged != 0 {
        emit::flow(flow, reason::ESTABLISHED, now_ns);
    }
}

/// The handshake of an incoming connection is done.
#[inline(always)]
fn accepted(ctx: &SockOpsContext) {
    let Some(sk) = socket(ctx) else { return };
    let cookie = cookie(ctx);
    let told = end_is_told(ctx);
    // SAFETY: takes no arguments.
    let now_ns = unsafe { bpf_ktime_get_boot_ns() };
    let key = remote(ctx, cookie);
    let flags = FlowFlags { inbound: 1, established: 1, identity_from_listener: 1, ..flow::NO_FLAGS };
    // The socket has a copy of what is known of its listener.
    let connector = match SOCKETS.get(sk) {
        Some(state) => Connector::of_socket(&state.identity),
        None => Connector::Unknown,
    };
    let Some(flow) = flow::open(&FlowKey::of_stream(cookie), &key, connector, flags, now_ns, 0) else { return };
    flow.established_boot_ns = now_ns;
    flow.flags.end_by_state = told;
    note_local(ctx, flow);
    expect_first_byte(ctx, flow);
    emit::flow(flow, reason::ESTABLISHED, now_ns);
}

/// Notes where the payload of the other side begins. Its first packets may pass the packet hook before this socket has its
/// flow, as the listener's, or out of order: what comes later tells then how much there was.
#[inline(always)]
fn expect_first_byte(ctx: &SockOpsContext, flow: &mut FlowState) {
    if flow.flags.received_high_known != 0 {
        return;
    }
    // SAFETY: the context of a socket-operations hook; the verifier checks the access.
    flow.tcp_received_high = unsafe { (*ctx.ops).rcv_nxt };
    flow.flags.received_high_known = 1;
}

/// A connection changed its state; only its end matters here.
#[inline(always)]
fn ended(ctx: &SockOpsContext) {
    if ctx.arg(1) != BPF_TCP_CLOSE {
        return;
    }
    let entry = FlowKey::of_stream(cookie(ctx));
    let Some(flow) = flow::find(&entry) else { return };
    // SAFETY: takes no arguments.
    let now_ns = unsafe { bpf_ktime_get_boot_ns() };
    if ctx.arg(0) == BPF_TCP_SYN_SENT && flow.flags.established == 0 {
        flow.flags.failed = 1;
    }
    // When the packets passed that carried no payload is not known: the last one mostly brought the end.
    if flow.packets_out != flow.last_packets_out || flow.packets_in != flow.last_packets_in {
        flow.last_boot_ns = now_ns;
    }
    flow::close(&entry, flow, now_ns);
}

#[inline(always)]
fn socket(ctx: &SockOpsContext) -> Option<*mut bpf_sock> {
    // SAFETY: the context of a socket-operations hook; the verifier checks the access.
    let sk = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    if sk.is_null() { None } else { Some(sk) }
}

/// The remote end of an established connection, as a flow key.
#[inline(always)]
fn remote(ctx: &SockOpsContext, cookie: u64) -> FlowKey {
    let mut key = FlowKey {
        socket_cookie: cookie,
        remote_address: Address::NONE,
        // The context holds the port in network order in the upper half (include/uapi/linux/bpf.h).
        remote_port_be: remote_port_be(ctx.remote_port()),
        protocol: PROTOCOL_TCP,
        family: FAMILY_IPV4,
        padding: 0,
    };
    if ctx.family() == AF_INET {
        key.remote_address = Address::mapped(ctx.remote_ip4());
        return key;
    }
    // SAFETY: the context of a socket-operations hook.
    key.remote_address = unsafe { read::address(&raw const (*ctx.ops).remote_ip6) };
    key.family = if key.remote_address.is_mapped() { FAMILY_IPV4 } else { FAMILY_IPV6 };
    key
}

/// `remote_port` is the 16-bit network-order port shifted into the upper half on little-endian hosts.
#[inline(always)]
fn remote_port_be(remote_port: u32) -> u16 {
    (remote_port >> 16) as u16
}
