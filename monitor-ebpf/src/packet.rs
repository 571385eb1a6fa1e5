//! Every packet of a local socket: `cgroup_skb` egress and ingress.
//!
//! Kernel functions: `ip_finish_output`, `ip6_finish_output` and `sk_filter_trim_cap`; since 4.10. Here, because both see
//! the packet with its socket, whatever system call made it: egress before segmentation and fragmentation, ingress after
//! reassembly. This is packet context, so identities come from socket storage. Missed: packet sockets, and traffic that
//! is only forwarded.

use core::{
    arch::asm,
    intrinsics::{AtomicOrdering, atomic_xadd},
};

use aya_ebpf::{
    EbpfContext,
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::{bpf_get_socket_cookie, bpf_ktime_get_boot_ns, bpf_sk_fullsock, bpf_skb_load_bytes},
    programs::SkBuffContext,
};
use monitor_common::{
    accounting::{report_is_due, tcp_progress, wire_bytes},
    loss::LossReason,
    packet::{Headers, PROTOCOL_TCP, PROTOCOL_UDP, Packet, read_headers, tcp_flag},
    record::{FAMILY_IPV4, FlowKey, FlowState, reason},
    settings::Settings,
    socket::SocketState,
};

use crate::{
    capture::{self, Accounted},
    emit,
    flow::{self, Connector},
    maps::SOCKETS,
    setting,
    storage::{Following as _, own_state},
    unasked,
};

const SOCK_RAW: u32 = 3;

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From a local socket.
    Out,
    /// To a local socket.
    In,
}

/// A packet and what is known of it.
struct Seen<'a> {
    /// The socket's.
    cookie: u64,
    headers: &'a Headers,
    direction: Direction,
    /// It is of a TCP connection.
    is_stream: bool,
    payload_bytes: u32,
    /// Of the packets that it becomes on the wire.
    wire_bytes: u64,
}

struct SkBuffPacket(*mut __sk_buff);

impl Packet for SkBuffPacket {
    /// The hook shows packets from the IP header on, and their linear part only.
    #[inline(always)]
    fn linear<const AT: usize, const N: usize>(&self) -> Option<&[u8; N]> {
        // SAFETY: the context of a packet hook.
        let (start, end) = unsafe { ((*self.0).data as usize, (*self.0).data_end as usize) };
        if start + AT + N > end {
            return None;
        }
        // SAFETY: the bytes were checked to be there; the verifier checks it as well.
        Some(unsafe { &*((start + AT) as *const [u8; N]) })
    }

    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let mut bytes = [0u8; N];
        // SAFETY: the helper checks offset and length against the packet and writes `N` bytes or none.
        let failed = unsafe { bpf_skb_load_bytes(self.0.cast(), offset, bytes.as_mut_ptr().cast(), N as u32) };
        if failed == 0 { Some(bytes) } else { None }
    }
}

/// One byte of a packet.
#[inline(always)]
pub(crate) fn load_byte(skb: *mut __sk_buff, offset: u32) -> Option<u8> {
    SkBuffPacket(skb).load::<1>(offset).map(|[byte]| byte)
}

/// Accounts one packet.
#[inline(always)]
pub(crate) fn seen(ctx: &SkBuffContext, direction: Direction) {
    let skb = ctx.skb.skb;
    let Some(sk) = full_socket(skb) else { return };
    // SAFETY: a socket from the context, checked to be there.
    let (kind, protocol) = unsafe { ((*sk).type_, (*sk).protocol) };
    // What a process makes on a raw socket is no part of a connection, whatever its header says.
    let has_stream = protocol == u32::from(PROTOCOL_TCP) && kind != SOCK_RAW;
    // SAFETY: the context of a packet hook.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    let mut stream = if has_stream { flow::stream(cookie) } else { None };
    // What arrives opens no flow, so that a socket without one has nothing to count; only who began with UDP is noted.
    if direction == Direction::In && stream.is_none() && !may_be_first(sk, kind, protocol, has_stream) {
        return;
    }
    let Some(headers) = read_headers(&SkBuffPacket(skb)) else {
        emit::count_loss(LossReason::PacketUnreadable);
        return;
    };
    // SAFETY: the context of a packet hook.
    let (length_bytes, segments) = unsafe { ((*skb).len, (*skb).gso_segs) };
    let headers = forget_the_way(&headers, length_bytes);
    let payload_bytes = length_bytes.saturating_sub(headers.header_bytes);
    let wire = wire_bytes(length_bytes, headers.header_bytes, segments);
    // What carries a connection's packets inside others is no part of it either.
    let is_stream = has_stream && headers.protocol == PROTOCOL_TCP;
    let packet = Seen { cookie, headers: &headers, direction, is_stream, payload_bytes, wire_bytes: wire };
    // A connection's bare packets open nothing: after its end there are some more.
    if is_stream && payload_bytes == 0 {
        let Some(flow) = &mut stream else { return };
        if !tells_more(flow, &packet) {
            count(flow, direction, wire);
            return;
        }
    }
    // SAFETY: takes no arguments.
    let now_ns = unsafe { bpf_ktime_get_boot_ns() };
    let flow = match stream {
        Some(flow) if is_stream => Some(flow),
        _ if is_stream => unseen_stream(sk, &packet, now_ns),
        _ => flow_of(sk, &packet, now_ns),
    };
    let Some(flow) = flow else { return };
    if flow.flags.midstream != 0 && flow.connector.tgid == 0 {
        learn_process(flow, sk);
    }
    let moved_bytes = account(flow, &packet);
    flow.last_boot_ns = now_ns;
    match direction {
        Direction::Out => flow.last_packets_out = flow.packets_out,
        Direction::In => flow.last_packets_in = flow.packets_in,
    }
    // Another CPU is about to fill the entry in: what it is about is not known yet, and the next packet tells.
    if flow.flags.filled == 0 {
        return;
    }
    if is_stream && direction == Direction::Out && is_elsewhere(flow, &headers) {
        note_translation(flow, &headers);
    }
    // Before any report, so that the names are there when the flow is judged.
    let accounted = Accounted { skb, headers: &headers, direction, payload_bytes, moved_bytes, now_ns };
    capture::seen(&accounted, flow);
    if flow.local_port_be == 0 {
        let (address, port_be) = match direction {
            Direction::Out => (headers.source, headers.source_port_be),
            Direction::In => (headers.destination, headers.destination_port_be),
        };
        flow.local_address = address;
        flow.local_port_be = port_be;
    }
    if direction == Direction::Out && flow.flags.sent == 0 && (moved_bytes > 0 || !is_stream) {
        flow.flags.sent = 1;
        flow.first_sent_boot_ns = now_ns;
        report(flow, reason::FIRST_PAYLOAD, now_ns);
        return;
    }
    if direction == Direction::In && moved_bytes > 0 {
        flow::learn(&mut flow.flags.received);
    }
    let settings = Settings {
        report_interval_ns: setting!(report_interval_ns),
        report_bytes: setting!(report_bytes),
        ..Settings::DEFAULT
    };
    let total = flow.payload_out_bytes + flow.payload_in_bytes;
    if moved_bytes > 0 && report_is_due(&settings, now_ns, flow.reported_boot_ns, total, flow.reported_bytes) {
        report(flow, reason::PROGRESS, now_ns);
    }
}

/// Whether a packet that arrived at a socket without a connection is looked at.
#[inline(always)]
fn may_be_first(sk: *mut bpf_sock, kind: u32, protocol: u32, has_stream: bool) -> bool {
    if has_stream {
        return false;
    }
    // Nothing about a UDP socket's packets is asked of its state, so that each datagram is spared the look.
    if protocol == u32::from(PROTOCOL_UDP) && kind != SOCK_RAW {
        return true;
    }
    SOCKETS.get(sk).is_some_and(|state| state.open_flows != 0)
}

/// The same headers, of which the verifier no longer knows by which way through the parser they came: it would follow
/// everything after it once for each way, and run out of patience.
#[inline(always)]
fn forget_the_way(headers: &Headers, length_bytes: u32) -> Headers {
    // As many bits that it does not know as a register has.
    let unknown = u64::from(length_bytes) << 32 | u64::from(length_bytes);
    let forget = |value: u64| -> u64 {
        let mut value = value;
        // It does not see that the second of these undoes the first.
        // SAFETY: arithmetic on two registers.
        unsafe {
            asm!(
                "{value} ^= {unknown}",
                "{value} ^= {unknown}",
                value = inout(reg) value,
                unknown = in(reg) unknown,
                options(pure, nomem, nostack),
            );
        }
        value
    };
    Headers {
        family: forget(u64::from(headers.family)) as u8,
        protocol: forget(u64::from(headers.protocol)) as u8,
        tcp_flags: forget(u64::from(headers.tcp_flags)) as u8,
        source: headers.source.each(forget),
        destination: headers.destination.each(forget),
        source_port_be: forget(u64::from(headers.source_port_be)) as u16,
        destination_port_be: forget(u64::from(headers.destination_port_be)) as u16,
        tcp_sequence: forget(u64::from(headers.tcp_sequence)) as u32,
        header_bytes: forget(u64::from(headers.header_bytes)) as u32,
    }
}

#[inline(always)]
fn report(flow: &mut FlowState, why: u16, now_ns: u64) {
    flow.reported_boot_ns = now_ns;
    flow.reported_bytes = flow.payload_out_bytes + flow.payload_in_bytes;
    emit::flow(flow, why, now_ns);
}

/// The process of a flow that a packet opened, when the daemon has since found who holds the socket.
#[inline(always)]
fn learn_process(flow: &mut FlowState, sk: *mut bpf_sock) {
    let Some(state) = SOCKETS.get(sk) else { return };
    if state.is_snapshot == 0 || state.identity.tgid == 0 {
        return;
    }
    flow.connector = state.identity;
    flow.flags.snapshot = 1;
    // A report is due at once.
    flow.reported_boot_ns = 0;
}

/// The connection of a packet with payload, opened here if this host sends: its beginning was not seen.
#[inline(always)]
fn unseen_stream<'a>(sk: *mut bpf_sock, packet: &Seen<'_>, now_ns: u64) -> Option<&'a mut FlowState> {
    if packet.direction == Direction::In {
        return None;
    }
    let cookie = packet.cookie;
    let key = packet_key(packet.headers, cookie, Direction::Out);
    let (connector, from_creation) = match SOCKETS.get(sk) {
        Some(state) if state.cookie == cookie => (Connector::of_socket(&state.identity), state.created_only),
        _ => (Connector::Unknown, 0),
    };
    let flow = flow::open(&FlowKey::of_stream(cookie), &key, connector, flow::NO_FLAGS, now_ns, 0)?;
    // Set here and not handed to `open`: what is decided before it is another path for the verifier through all of it.
    flow.flags.identity_from_creation = from_creation;
    flow.flags.midstream = 1;
    Some(flow)
}

/// The flow that a packet belongs to which is no connection's. Opened here only when this host sends on a socket whose
/// connect or addressed send was not seen: what arrives unasked opens nothing, or strangers could fill the table.
#[inline(always)]
fn flow_of<'a>(sk: *mut bpf_sock, packet: &Seen<'_>, now_ns: u64) -> Option<&'a mut FlowState> {
    let Seen { cookie, headers, direction, .. } = *packet;
    let key = packet_key(headers, cookie, direction);
    // Of a socket with several destinations the last one tells where what its process just sent went.
    if direction == Direction::Out
        && headers.protocol != PROTOCOL_UDP
        && let Some(state) = SOCKETS.get(sk)
        && state.is_asked == 0
        && state.flow.socket_cookie != 0
    {
        state.flow = key;
    }
    if let Some(flow) = flow::find(&key) {
        return Some(flow);
    }
    let opens = direction == Direction::Out;
    let state = if opens { own_state(sk, cookie)? } else { SOCKETS.get(sk)? };
    if let Some(flow) = translated(state, packet) {
        return Some(flow);
    }
    if direction == Direction::In && headers.protocol == PROTOCOL_UDP {
        unasked::arrived(&key, packet.payload_bytes, packet.wire_bytes, now_ns);
        return None;
    }
    if !opens || is_kernels_own(state, packet) || is_farewell(state, headers) {
        return None;
    }
    let connector = Connector::of_socket(&state.identity);
    let flow = flow::open(&key, &key, connector, flow::NO_FLAGS, now_ns, 0)?;
    // Set here and not handed to `open`: what is decided before it is another path for the verifier through all of it.
    flow.flags.identity_from_creation = state.created_only;
    if state.identity.tgid == 0 {
        flow.flags.midstream = 1;
    } else if flow.flags.inbound == 0 {
        flow.flags.attempted = 1;
    }
    state.flow_opened(flow);
    state.flow = key;
    state.is_asked = 0;
    Some(flow)
}

/// Whether the kernel itself answers, with an echo reply, an error message or a reset: it does so on sockets of its own, which
/// no process made. A raw socket that is older than the programs looks the same until its process sends again.
#[inline(always)]
fn is_kernels_own(state: &SocketState, packet: &Seen<'_>) -> bool {
    state.identity.tgid == 0 && packet.headers.protocol != PROTOCOL_UDP
}

/// Whether nobody holds the socket any more: SCTP ends an association after its socket was closed, and a flow opened then
/// would never end. TCP flushes what was sent before, and reports its end otherwise.
#[inline(always)]
fn is_farewell(state: &SocketState, headers: &Headers) -> bool {
    state.is_released != 0 && headers.protocol != PROTOCOL_TCP
}

/// The flow that the socket asked for, when the network sends its packets to another address (destination NAT), or when
/// somebody answers who was asked as one of a group. Other datagrams may come from anybody. A socket that nobody asked
/// anything of but to send packets has as many flows as there are addresses in them.
#[inline(always)]
fn translated<'a>(state: &SocketState, packet: &Seen<'_>) -> Option<&'a mut FlowState> {
    let Seen { headers, direction, cookie, .. } = *packet;
    if state.cookie != cookie || state.flow.socket_cookie == 0 || state.flow.protocol != headers.protocol {
        return None;
    }
    if state.is_asked == 0 && (direction == Direction::Out || !is_group(&state.flow)) {
        return None;
    }
    let flow = flow::find(&state.flow)?;
    if direction == Direction::Out {
        note_translation(flow, headers);
    } else if headers.protocol == PROTOCOL_UDP && !is_group(&state.flow) {
        let from = (headers.source, headers.source_port_be);
        if flow.flags.translated == 0 || from != (flow.translated_address, flow.translated_port_be) {
            return None;
        }
    }
    Some(flow)
}

/// Notes where the network sends the packets of a flow.
#[inline(always)]
fn note_translation(flow: &mut FlowState, headers: &Headers) {
    flow.translated_address = headers.destination;
    flow.translated_port_be = headers.destination_port_be;
    flow.flags.translated = 1;
}

/// Whether a packet that leaves goes to another address or port than was asked for.
#[inline(always)]
fn is_elsewhere(flow: &FlowState, headers: &Headers) -> bool {
    headers.destination_port_be != flow.key.remote_port_be || headers.destination != flow.key.remote_address
}

/// Whether the address means many: multicast, or everyone on the network.
#[inline(always)]
fn is_group(key: &FlowKey) -> bool {
    let [first, ..] = key.remote_address.octets();
    let [first_of_ipv4, ..] = key.remote_address.ipv4_octets();
    if key.family == FAMILY_IPV4 { first_of_ipv4 >= 224 } else { first == 0xff }
}

/// Adds a packet to its flow's counters and says how many payload bytes it moved. Additions are atomic, because both
/// directions, and several threads of one datagram socket, run on different CPUs at once.
#[inline(always)]
fn account(flow: &mut FlowState, packet: &Seen<'_>) -> u32 {
    let Seen { headers, direction, is_stream, payload_bytes, wire_bytes: wire, .. } = *packet;
    let mut moved = payload_bytes;
    if is_stream {
        let (known, high) = match direction {
            Direction::Out => (&mut flow.flags.sent_high_known, &mut flow.tcp_sent_high),
            Direction::In => (&mut flow.flags.received_high_known, &mut flow.tcp_received_high),
        };
        let before = if *known == 0 { None } else { Some(*high) };
        (*high, moved) = tcp_progress(before, headers.tcp_sequence, headers.tcp_flags, payload_bytes);
        flow::learn(known);
    }
    match direction {
        Direction::Out => add(&mut flow.payload_out_bytes, u64::from(moved)),
        Direction::In => add(&mut flow.payload_in_bytes, u64::from(moved)),
    }
    count(flow, direction, wire);
    moved
}

/// Counts a packet of a flow.
#[inline(always)]
fn count(flow: &mut FlowState, direction: Direction, wire: u64) {
    match direction {
        Direction::Out => {
            add(&mut flow.wire_out_bytes, wire);
            add(&mut flow.packets_out, 1);
        }
        Direction::In => {
            add(&mut flow.wire_in_bytes, wire);
            add(&mut flow.packets_in, 1);
        }
    }
}

/// Whether a packet that carries only TCP's headers tells more than that it passed: that the network sends it to another
/// address, or by the number of its FIN that payload passed unseen, while the handshake made this socket of the listener's.
#[inline(always)]
fn tells_more(flow: &FlowState, packet: &Seen<'_>) -> bool {
    match packet.direction {
        Direction::Out => is_elsewhere(flow, packet.headers),
        Direction::In => {
            packet.headers.tcp_flags & tcp_flag::FIN != 0 && packet.headers.tcp_sequence != flow.tcp_received_high
        }
    }
}

/// Adds to a counter that other CPUs add to as well.
#[inline(always)]
pub(crate) fn add(counter: &mut u64, amount: u64) {
    // SAFETY: an aligned u64 in a map element; every writer uses this function. The result is not used, so that the
    // compiler emits the plain atomic addition that kernels before 5.12 know.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, amount) };
}

#[inline(always)]
fn packet_key(headers: &Headers, cookie: u64, direction: Direction) -> FlowKey {
    let (remote_address, remote_port_be) = match direction {
        Direction::Out => (headers.destination, headers.destination_port_be),
        Direction::In => (headers.source, headers.source_port_be),
    };
    FlowKey {
        socket_cookie: cookie,
        remote_address,
        remote_port_be,
        protocol: headers.protocol,
        family: headers.family,
        padding: 0,
    }
}

#[inline(always)]
fn full_socket(skb: *mut __sk_buff) -> Option<*mut bpf_sock> {
    // SAFETY: the context of a packet hook.
    let sk = unsafe { (*skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return None;
    }
    // SAFETY: a socket from the context, checked to be there.
    let full = unsafe { bpf_sk_fullsock(sk) };
    if full.is_null() { None } else { Some(full) }
}
