//! Who really sends, and how much: the sender rung (`tp_btf/sock_send_length`, `sock_recv_length`) and the fexit rung
//! (`inet_sendmsg`, `inet6_sendmsg`, `inet_sendpage`, `packet_sendmsg`, `inet_recvmsg`, `inet6_recvmsg`).
//!
//! Kernel functions: the tracepoints run in `sock_sendmsg_nosec` and `sock_recvmsg_nosec` after each call, `sendfile` and
//! io_uring included, since 6.3; the functions are what these call for the families that matter, traceable since 5.5. Here,
//! because the hooks run in the process that really sends, with the exact count, whoever connected the socket and
//! whenever. The functions tell the address of the message as well. Missed: kernel sockets that bypass both, and what
//! never passes a system call (`AF_XDP` rings).

use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{bpf_get_socket_cookie, bpf_ktime_get_boot_ns},
    },
    programs::{BtfTracePointContext, FExitContext},
};
use monitor_common::{
    accounting::report_is_due,
    address::Address,
    offsets::UNKNOWN,
    packet::PROTOCOL_TCP,
    record::{FAMILY_IPV4, FAMILY_IPV6, FAMILY_PACKET, FlowKey, FlowState, reason},
    settings::Settings,
    socket::SocketState,
};

use crate::{
    emit,
    flow::{self, Connector},
    identity::{Actor, read_current},
    maps::{ADDRESSED_SENDS, SOCKETS},
    offset,
    packet::add,
    read::field,
    setting, sock,
    storage::own_state,
};

/// A receive with this flag leaves the bytes in the socket (`include/linux/socket.h`).
const MSG_PEEK: i32 = 2;

/// One system call that moved bytes through a socket.
pub(crate) struct Call {
    /// The `struct sock`, as a typed pointer.
    sk: *mut u8,
    /// The `struct socket`; 0 if the hook does not tell.
    socket: u64,
    /// The `struct msghdr`; 0 if the hook does not tell.
    message: u64,
    length_bytes: u64,
}

impl Call {
    /// From a tracepoint's arguments: the sock, the result, the flags.
    #[inline(always)]
    pub(crate) fn traced(ctx: &BtfTracePointContext) -> Option<Self> {
        let length = ctx.arg::<i32>(1);
        if length <= 0 || offset!(sock_family) == UNKNOWN {
            return None;
        }
        // SAFETY: the first argument is a typed `struct sock *`.
        let sk = unsafe { *ctx.as_ptr().cast::<*mut u8>() };
        Some(Self { sk, socket: 0, message: 0, length_bytes: length as u64 })
    }

    /// From the arguments of a function that takes a socket and, if `HAS_MESSAGE`, a message: `COUNT` arguments, after
    /// which the result stands.
    #[inline(always)]
    pub(crate) fn returned<const COUNT: usize, const HAS_MESSAGE: bool>(ctx: &FExitContext) -> Option<Self> {
        let arguments = ctx.as_ptr().cast::<u64>();
        // SAFETY: a function's context holds its arguments and then its result.
        let length = unsafe { *arguments.add(COUNT) } as i32;
        let offset = offset!(socket_sk);
        if length <= 0 || offset == UNKNOWN || offset!(sock_family) == UNKNOWN {
            return None;
        }
        // SAFETY: the first argument is a typed `struct socket *`.
        let socket = unsafe { *arguments.cast::<*mut u8>() };
        // SAFETY: the verifier checks the load of a typed pointer at the given offset.
        let sk = unsafe { *socket.add(offset as usize).cast::<*mut u8>() };
        if sk.is_null() {
            return None;
        }
        // SAFETY: as above.
        let message = if HAS_MESSAGE { unsafe { *arguments.add(1) } } else { 0 };
        Some(Self { sk, socket: socket as u64, message, length_bytes: length as u64 })
    }

    #[inline(always)]
    fn family(&self) -> u8 {
        let offset = offset!(sock_family) as usize;
        // SAFETY: a typed `struct sock *`; the verifier checks the load at the given offset.
        unsafe { *self.sk.add(offset).cast::<u16>() as u8 }
    }

    /// The socket's cookie. Where the kernel gives none to typed programs (before 5.12) it is the one that another hook
    /// made, and for a packet socket, which no other hook sees, the inode number with the highest bit set.
    #[inline(always)]
    fn cookie(&self) -> u64 {
        if setting!(typed_programs_have_sockets) != 0 {
            // SAFETY: a typed `struct sock *`.
            return unsafe { bpf_get_socket_cookie(self.sk.cast()) };
        }
        let cookie = sock::cookie(self.sk as u64);
        let distance = offset!(socket_inode);
        if cookie != 0 || self.socket == 0 || distance == UNKNOWN {
            return cookie;
        }
        field::<u64>(self.socket + u64::from(distance), offset!(inode_ino)).unwrap_or(0) | 1 << 63
    }

    /// What is known of the socket; `None` where typed programs have no socket storage.
    #[inline(always)]
    fn state<'a>(&self) -> Option<&'a mut SocketState> {
        if setting!(typed_programs_have_sockets) == 0 {
            return None;
        }
        own_state(self.sk, self.cookie())
    }

    /// The protocol; 0 if not known.
    #[inline(always)]
    fn protocol(&self) -> u16 {
        let offset = offset!(sock_protocol);
        if offset == UNKNOWN {
            return 0;
        }
        // SAFETY: a typed `struct sock *`; the verifier checks the load at the given offset.
        unsafe { *self.sk.add(offset as usize).cast::<u16>() }
    }

    /// The connection of a TCP socket. The bytes of an MPTCP socket travel on its first subflow, a socket of its own.
    #[inline(always)]
    fn stream<'a>(&self, protocol: u16) -> Option<&'a mut FlowState> {
        let cookie = if protocol == sock::PROTOCOL_MPTCP {
            sock::cookie(field(self.sk as u64, offset!(mptcp_first))?)
        } else {
            self.cookie()
        };
        flow::stream(cookie)
    }

    /// The flow that the datagrams belong to, by the best that is known: the message's own address; for a socket that
    /// several threads use, the address that this thread gave; the flow that the socket last opened; the socket's peer.
    #[inline(always)]
    fn flow<'a>(&self, state: Option<&SocketState>) -> Option<&'a mut FlowState> {
        if self.message != 0
            && let Some(key) = sock::addressed(self.sk as u64, self.cookie(), self.message)
            && let Some(flow) = flow::find(&key)
        {
            return Some(flow);
        }
        if let Some(state) = state {
            if state.is_shared == 0 {
                if let Some(flow) = flow::find(&state.flow) {
                    return Some(flow);
                }
            } else if let Some(key) = addressed_by_thread(state.cookie)
                && let Some(flow) = flow::find(&key)
            {
                return Some(flow);
            }
        }
        flow::find(&sock::peer(self.sk as u64)?)
    }
}

/// Where the current thread's datagram goes that is under way on the socket.
#[inline(always)]
fn addressed_by_thread(cookie: u64) -> Option<FlowKey> {
    let pid_tgid = bpf_get_current_pid_tgid();
    // SAFETY: only the thread itself writes its entry.
    let key = unsafe { ADDRESSED_SENDS.get(&pid_tgid) }.copied().filter(|key| key.socket_cookie == cookie)?;
    // It holds for one send.
    let _ = ADDRESSED_SENDS.remove(&pid_tgid);
    Some(key)
}

/// A process handed bytes to a socket.
#[inline(always)]
pub(crate) fn sent(call: &Call) {
    match call.family() {
        FAMILY_IPV4 | FAMILY_IPV6 => {}
        FAMILY_PACKET => return frames_written(call),
        _ => return,
    }
    let protocol = call.protocol();
    let is_stream = is_stream(protocol);
    if is_stream && let Some(flow) = call.stream(protocol) {
        return handed(call, flow);
    }
    let mut state = call.state();
    if !is_stream && let Some(flow) = call.flow(state.as_deref()) {
        handed(call, flow);
        if let Some(state) = state
            && state.identity.tgid == 0
        {
            state.identity = flow.sender;
        }
        return;
    }
    // The packet hooks open the flow of a connection whose beginning they did not see, and take the process from here.
    if let Some(state) = &mut state
        && state.identity.tgid == 0
    {
        read_current(&mut state.identity, sock::namespace_cookie(call.sk as u64));
    }
}

/// Counts what the current process handed to the socket of a flow.
#[inline(always)]
fn handed(call: &Call, flow: &mut FlowState) {
    flow::learn(&mut flow.flags.queued_out_known);
    add(&mut flow.queued_out_bytes, call.length_bytes);
    flow::note_sender(flow, Actor::current());
}

/// Whether a socket has one connection at a time, which its cookie finds.
#[inline(always)]
fn is_stream(protocol: u16) -> bool {
    protocol == u16::from(PROTOCOL_TCP) || protocol == sock::PROTOCOL_MPTCP
}

/// A process took bytes from a socket. Where several peers send to one socket and the hook does not tell which, the bytes
/// are left out rather than counted for the wrong one.
#[inline(always)]
pub(crate) fn received(call: &Call, flags: i32) {
    let family = call.family();
    if flags & MSG_PEEK != 0 || (family != FAMILY_IPV4 && family != FAMILY_IPV6) {
        return;
    }
    let protocol = call.protocol();
    let flow = if is_stream(protocol) { call.stream(protocol) } else { received_from(call) };
    let Some(flow) = flow else { return };
    flow::learn(&mut flow.flags.queued_in_known);
    add(&mut flow.queued_in_bytes, call.length_bytes);
}

/// The flow whose datagram a process took.
#[inline(always)]
fn received_from<'a>(call: &Call) -> Option<&'a mut FlowState> {
    let has_storage = setting!(typed_programs_have_sockets) != 0;
    let state = if has_storage { SOCKETS.get(call.sk) } else { None };
    // Most sockets that receive are servers', which have no flow.
    if has_storage && state.as_ref().is_none_or(|state| state.open_flows == 0) {
        return None;
    }
    if call.message == 0 && state.as_ref().is_some_and(|state| state.open_flows > 1) {
        return None;
    }
    call.flow(state.as_deref())
}

/// A process wrote frames to a packet socket, around the IP stack: where they go is not known, who writes and how much is.
#[inline(always)]
fn frames_written(call: &Call) {
    let sk = call.sk as u64;
    let key = FlowKey {
        socket_cookie: call.cookie(),
        remote_address: Address::NONE,
        remote_port_be: 0,
        protocol: 0,
        family: FAMILY_PACKET,
        padding: 0,
    };
    // SAFETY: takes no arguments.
    let now_ns = unsafe { bpf_ktime_get_boot_ns() };
    let flow = if let Some(flow) = flow::find(&key) {
        flow::note_sender(flow, Actor::current());
        flow
    } else {
        let connector = Connector::Current(sock::namespace_cookie(sk));
        let Some(flow) = flow::open(&key, &key, connector, flow::ATTEMPTED, now_ns, 0) else { return };
        flow
    };
    let target = sock::frame_target(sk, call.message);
    flow.interface = target.interface;
    flow.ether_type_be = target.ether_type_be;
    flow.local_address = Address::from_octets(target.interface_name);
    flow.last_boot_ns = now_ns;
    flow::learn(&mut flow.flags.queued_out_known);
    add(&mut flow.queued_out_bytes, call.length_bytes);
    add(&mut flow.payload_out_bytes, call.length_bytes);
    add(&mut flow.wire_out_bytes, call.length_bytes);
    add(&mut flow.packets_out, 1);
    let settings = Settings {
        report_interval_ns: setting!(report_interval_ns),
        report_bytes: setting!(report_bytes),
        ..Settings::DEFAULT
    };
    let why = if flow.flags.sent == 0 {
        flow.flags.sent = 1;
        flow.first_sent_boot_ns = now_ns;
        reason::FIRST_PAYLOAD
    } else if report_is_due(&settings, now_ns, flow.reported_boot_ns, flow.payload_out_bytes, flow.reported_bytes) {
        reason::PROGRESS
    } else {
        return;
    };
    flow.reported_boot_ns = now_ns;
    flow.reported_bytes = flow.payload_out_bytes;
    emit::flow(flow, why, now_ns);
}
