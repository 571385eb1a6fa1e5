//! Payload that may hold a name, handed to the daemon as it is: nothing is parsed here.
//!
//! Called from the packet hooks for the first bytes of an outgoing flow and for DNS. Bounded three ways: few packets of
//! a flow qualify ([`Candidate`]), few bytes of each are copied, and the ring they go to is their own, so that they
//! can crowd out nothing but each other.

use core::{arch::asm, ptr};

use aya_ebpf::{
    bindings::{__sk_buff, BPF_RB_AVAIL_DATA},
    helpers::generated::{bpf_ringbuf_query, bpf_skb_load_bytes},
};
use monitor_common::{
    accounting::{Candidate, DNS_PORT, starts_quic},
    loss::LossReason,
    packet::{Headers, PROTOCOL_UDP},
    record::{CAPTURE_SIZES, CaptureRecord, FlowKey, FlowState, Header, Identity, kind},
};

use crate::{
    emit,
    maps::CAPTURES,
    packet::{Direction, load_byte},
    setting,
};

const TINY: usize = CAPTURE_SIZES[0];
const SMALL: usize = CAPTURE_SIZES[1];
const MEDIUM: usize = CAPTURE_SIZES[2];
const LARGE: usize = CAPTURE_SIZES[3];
/// Captures wait for the daemon to read flows, unless this much waits already.
const WAKE_BYTES: u64 = 256 << 10;

/// A packet that was accounted.
pub(crate) struct Accounted<'a> {
    pub(crate) skb: *mut __sk_buff,
    pub(crate) headers: &'a Headers,
    pub(crate) direction: Direction,
    /// Its whole payload.
    pub(crate) payload_bytes: u32,
    /// What of its payload is new.
    pub(crate) moved_bytes: u32,
    pub(crate) now_ns: u64,
}

/// Captures the packet's payload if it may hold a name.
#[inline(always)]
pub(crate) fn seen(packet: &Accounted<'_>, flow: &FlowState) {
    // A FIN may tell of bytes that passed unseen, and carry none.
    if packet.moved_bytes == 0 || packet.payload_bytes == 0 || setting!(capture) == 0 || flow.flags.inbound != 0 {
        return;
    }
    let key = &flow.key;
    let outgoing = packet.direction == Direction::Out;
    let (total, packets) =
        if outgoing { (flow.payload_out_bytes, flow.packets_out) } else { (flow.payload_in_bytes, flow.packets_in) };
    let remote_port = u16::from_be(key.remote_port_be);
    let candidate = Candidate {
        protocol: key.protocol,
        outgoing,
        remote_port,
        earlier_bytes: total.saturating_sub(u64::from(packet.moved_bytes)),
        packets,
        age_ns: packet.now_ns.saturating_sub(flow.first_boot_ns),
        midstream: flow.flags.midstream != 0,
    };
    if !candidate.may_hold_name() {
        return;
    }
    if key.protocol == PROTOCOL_UDP && remote_port != DNS_PORT {
        match load_byte(packet.skb, packet.headers.header_bytes) {
            Some(first) if starts_quic(first) => {}
            _ => return,
        }
    }
    let who = if flow.sender.tgid == 0 { &flow.connector } else { &flow.sender };
    if packet.payload_bytes as usize <= TINY {
        copy::<TINY>(packet, key, who);
    } else if packet.payload_bytes as usize <= SMALL {
        copy::<SMALL>(packet, key, who);
    } else if packet.payload_bytes as usize <= MEDIUM {
        copy::<MEDIUM>(packet, key, who);
    } else {
        copy::<LARGE>(packet, key, who);
    }
}

#[inline(always)]
fn copy<const N: usize>(packet: &Accounted<'_>, key: &FlowKey, who: &Identity) {
    let map = ptr::from_ref(&CAPTURES).cast_mut().cast();
    // SAFETY: the map is a ring.
    let wake = emit::wake_flags(unsafe { bpf_ringbuf_query(map, u64::from(BPF_RB_AVAIL_DATA)) }, WAKE_BYTES);
    let Some(mut entry) = CAPTURES.reserve_untyped::<CaptureRecord<N>>(0) else {
        emit::count_loss(LossReason::CaptureRingFull);
        return;
    };
    let record = entry.as_mut_ptr();
    let length = bounded::<N>(packet.payload_bytes);
    // SAFETY: `record` points to a reserved ring entry of this size and alignment.
    let data = unsafe { &raw mut (*record).data };
    // SAFETY: the helper checks offset and length against the packet and writes `length` bytes, at most `N`, or none.
    if unsafe { bpf_skb_load_bytes(packet.skb.cast(), packet.headers.header_bytes, data.cast(), length) } != 0 {
        entry.discard(0);
        emit::count_loss(LossReason::PacketUnreadable);
        return;
    }
    let size_bytes = size_of::<CaptureRecord<N>>() as u32;
    // SAFETY: as above; everything before `data` is written here, and `data` is as long as `captured_bytes` says.
    unsafe {
        (&raw mut (*record).header).write(Header {
            kind: kind::CAPTURE,
            reason: 0,
            size_bytes,
            boot_ns: packet.now_ns,
        });
        (&raw mut (*record).key).write(*key);
        (&raw mut (*record).start_boot_ns).write(who.start_boot_ns);
        (&raw mut (*record).network_namespace_cookie).write(who.network_namespace_cookie);
        (&raw mut (*record).tgid).write(who.tgid);
        (&raw mut (*record).tcp_sequence).write(packet.headers.tcp_sequence);
        (&raw mut (*record).payload_bytes).write(packet.payload_bytes);
        (&raw mut (*record).captured_bytes).write(length as u16);
        (&raw mut (*record).outgoing).write(u8::from(packet.direction == Direction::Out));
        (&raw mut (*record).padding).write(0);
    }
    entry.submit(wake);
}

/// `length`, at least 1 and at most `N`, a power of two. The compiler would prove the bounds in a form that the verifier
/// does not follow on Linux 5.10, so they are made with instructions that it cannot rewrite.
#[inline(always)]
fn bounded<const N: usize>(length: u32) -> u32 {
    const { assert!(N.is_power_of_two()) };
    let mut length = u64::from(if length > N as u32 { N as u32 } else { length });
    // SAFETY: arithmetic on one register.
    unsafe {
        asm!("{length} += -1", "{length} &= {mask}", "{length} += 1", length = inout(reg) length, mask = const N - 1);
    }
    length as u32
}
