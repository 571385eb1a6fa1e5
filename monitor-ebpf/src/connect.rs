//! `connect` and addressed sends: `cgroup/connect4`, `connect6`, `sendmsg4`, `sendmsg6`.
//!
//! Kernel functions: `inet_stream_connect` and `inet_dgram_connect` by way of the protocol's `pre_connect`, and
//! `udp_sendmsg`/`udpv6_sendmsg` for datagrams with an address of their own; since 4.17 and 4.18. Here, because this is
//! process context with the destination as the application asked for it, before any translation. Missed: raw and
//! packet sockets, and sends on a connected datagram socket (the packet hooks see those).

use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_boot_ns},
    },
    programs::SockAddrContext,
};
use aya_log_ebpf::debug;
use monitor_common::{
    address::Address,
    packet::PROTOCOL_TCP,
    record::{FAMILY_IPV4, FAMILY_IPV6, FlowKey, reason},
    socket::SocketState,
};

use crate::{
    flow::{self, Connector},
    identity::{Actor, read_current},
    maps::ADDRESSED_SENDS,
    read, setting,
    socket::SOCK_STREAM,
    storage::{Following as _, own_state},
};

/// A process asks for a connection (TCP), or sets a default destination (UDP, which sends nothing).
#[inline(always)]
pub(crate) fn connecting(ctx: &SockAddrContext, family: u8) {
    let key = destination(ctx, family);
    // SAFETY: the context of a socket-address hook.
    let namespace = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    // SAFETY: takes no arguments.
    let now_ns = unsafe { bpf_ktime_get_boot_ns() };
    if setting!(verbose) != 0 {
        debug!(ctx, "connect: tgid {} family {} protocol {}", Actor::current().tgid, key.family, key.protocol);
    }
    // SAFETY: as above; the verifier checks the field's access.
    if key.protocol == PROTOCOL_TCP && unsafe { (*ctx.sock_addr).type_ } == SOCK_STREAM {
        connecting_stream(ctx, &key, namespace, now_ns);
    } else {
        connecting_datagrams(ctx, &key, namespace, now_ns);
    }
}

/// A process asks for a TCP connection. Nothing is kept at the socket: its cookie finds the flow.
#[inline(always)]
fn connecting_stream(ctx: &SockAddrContext, key: &FlowKey, namespace: u64, now_ns: u64) {
    let entry = FlowKey::of_stream(key.socket_cookie);
    if let Some(existing) = flow::find(&entry) {
        // The same socket asks again, after an attempt that ended before it began.
        if existing.key == *key && existing.flags.closed == 0 {
            existing.flags.attempted = 1;
            flow::note_sender(existing, Actor::current());
            return;
        }
        // For another destination: that attempt is over. It makes room also where its report found none, which is counted:
        // what the next one moves is none of its own.
        let flagged = existing.flags.flagged != 0;
        flow::close(&entry, existing, now_ns);
        flow::forget(&entry, flagged);
    }
    let opened = flow::open(&entry, key, Connector::Current(namespace), flow::ATTEMPTED, now_ns, reason::ATTEMPT);
    // Without room for it, its first payload asks again for some, and takes the process from the socket.
    if opened.is_none()
        && let Some(state) = own_state(socket(ctx), key.socket_cookie)
    {
        read_current(&mut state.identity, namespace);
        state.created_only = 0;
    }
}

/// A process sets the destination of a datagram socket, or asks for an association.
#[inline(always)]
fn connecting_datagrams(ctx: &SockAddrContext, key: &FlowKey, namespace: u64, now_ns: u64) {
    let Some(state) = own_state(socket(ctx), key.socket_cookie) else { return };
    // A socket without an open flow has none to this destination either.
    let existing = if state.open_flows == 0 { None } else { flow::find(key) };
    if let Some(existing) = existing {
        // The same socket asks for the same destination again, after a failure or a disconnect.
        read_current(&mut state.identity, namespace);
        existing.flags.attempted = 1;
        flow::note_sender(existing, Actor::current());
    } else {
        open(state, key, namespace, now_ns);
    }
    state.follow(key);
    state.created_only = 0;
}

/// Opens the flow that the current process asks for, and keeps the process as the socket's. It is read once, into the
/// flow, and copied from there.
#[inline(always)]
fn open(state: &mut SocketState, key: &FlowKey, namespace: u64, now_ns: u64) {
    let Some(flow) = flow::open(key, key, Connector::Current(namespace), flow::ATTEMPTED, now_ns, reason::ATTEMPT)
    else {
        read_current(&mut state.identity, namespace);
        return;
    };
    // Unless another thread opened it at the same moment.
    if flow.connector.tid == bpf_get_current_pid_tgid() as u32 {
        state.identity = flow.connector;
    } else {
        read_current(&mut state.identity, namespace);
    }
    state.flow_opened(flow);
}

/// A process sends a datagram with an address of its own.
#[inline(always)]
pub(crate) fn sending(ctx: &SockAddrContext, family: u8) {
    let key = destination(ctx, family);
    let Some(state) = own_state(socket(ctx), key.socket_cookie) else { return };
    let actor = Actor::current();
    if setting!(notes_addressed_sends) != 0 {
        note_destination(state, &key, actor);
    }
    if actor.is(&state.identity) && state.flow == key && state.created_only == 0 {
        return;
    }
    // SAFETY: the context of a socket-address hook.
    let namespace = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    // SAFETY: takes no arguments.
    let now_ns = unsafe { bpf_ktime_get_boot_ns() };
    if let Some(existing) = flow::find(&key) {
        if !actor.is(&state.identity) {
            read_current(&mut state.identity, namespace);
        }
        flow::note_sender(existing, actor);
    } else {
        open(state, &key, namespace, now_ns);
    }
    state.created_only = 0;
    state.is_asked = 1;
    state.flow = key;
}

/// Tells the send tracepoint, which sees the socket only, where this thread's datagram goes, if other threads address
/// datagrams with the same socket. The very first send of the second thread may meet one of the first that is under way;
/// that one's bytes are then not counted as queued.
#[inline(always)]
fn note_destination(state: &mut SocketState, key: &FlowKey, actor: Actor) {
    if state.flow.socket_cookie != 0 && state.identity.tid != actor.tid {
        state.is_shared = 1;
    }
    if state.is_shared != 0 {
        // A full map gives up its oldest entry; an error leaves the datagram uncounted as queued.
        let _ = ADDRESSED_SENDS.insert(&actor.pid_tgid(), key, 0);
    }
}

#[inline(always)]
fn socket(ctx: &SockAddrContext) -> *mut aya_ebpf::bindings::bpf_sock {
    // SAFETY: the context of a socket-address hook always has a socket.
    unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk }
}

/// The destination asked for, as a flow key. IPv4-mapped IPv6 becomes IPv4.
#[inline(always)]
fn destination(ctx: &SockAddrContext, family: u8) -> FlowKey {
    // SAFETY: the context of a socket-address hook; the verifier checks each field's access.
    let (protocol, port) = unsafe { ((*ctx.sock_addr).protocol, (*ctx.sock_addr).user_port) };
    let mut key = FlowKey {
        // SAFETY: the context of a socket-address hook.
        socket_cookie: unsafe { bpf_get_socket_cookie(ctx.as_ptr()) },
        remote_address: Address::NONE,
        remote_port_be: port as u16,
        // IPPROTO_MPTCP is 262 and carries TCP: its low byte is TCP's number.
        protocol: protocol as u8,
        family,
        padding: 0,
    };
    if family == FAMILY_IPV4 {
        // SAFETY: as above.
        key.remote_address = Address::mapped(unsafe { (*ctx.sock_addr).user_ip4 });
    } else {
        // SAFETY: as above.
        key.remote_address = unsafe { read::address(&raw const (*ctx.sock_addr).user_ip6) };
        key.family = if key.remote_address.is_mapped() { FAMILY_IPV4 } else { FAMILY_IPV6 };
    }
    key
}
