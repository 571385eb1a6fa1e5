//! The arithmetic of the packet hooks: how far a TCP stream moved, how large a packet is on the wire, when to report.

use crate::{
    packet::{PROTOCOL_TCP, PROTOCOL_UDP, tcp_flag},
    settings::Settings,
};

/// Port of DNS, over UDP and TCP (RFC 1035, section 4.2).
pub const DNS_PORT: u16 = 53;
/// Bytes from the start of a TCP stream that can hold a name: room for a proxy's handshake and a large `ClientHello`.
pub const STREAM_CAPTURE_BYTES: u64 = 8 << 10;
/// Bytes from the start of a DNS stream, each way, however fast they come.
const DNS_STREAM_CAPTURE_BYTES: u64 = 64 << 10;
/// A DNS stream may have one byte more each 2 to this power nanoseconds, about 15 kB a second: more than a resolver's
/// connections carry, and so little that a transfer over that port crowds out nobody's names.
const DNS_STREAM_SHIFT: u32 = 16;
/// Packets from the start of a UDP flow that can be a QUIC client's first ones.
pub const DATAGRAM_CAPTURE_PACKETS: u64 = 8;

/// A packet of a flow, as far as it decides whether its payload is captured.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// IP protocol number.
    pub protocol: u8,
    /// It leaves this host.
    pub outgoing: bool,
    /// The other side's port.
    pub remote_port: u16,
    /// Payload that the flow moved this way before.
    pub earlier_bytes: u64,
    /// Packets that the flow moved this way, with this one.
    pub packets: u64,
    /// How old the flow is.
    pub age_ns: u64,
    /// The flow's beginning was not seen.
    pub midstream: bool,
}

impl Candidate {
    /// Whether the payload may hold a name, so that it is captured.
    #[inline(always)]
    #[must_use]
    pub const fn may_hold_name(&self) -> bool {
        match self.protocol {
            PROTOCOL_UDP => self.remote_port == DNS_PORT || (self.outgoing && self.packets <= DATAGRAM_CAPTURE_PACKETS),
            PROTOCOL_TCP if self.remote_port == DNS_PORT => self.earlier_bytes < dns_stream_limit(self.age_ns),
            PROTOCOL_TCP => self.outgoing && !self.midstream && self.earlier_bytes < STREAM_CAPTURE_BYTES,
            _ => false,
        }
    }
}

/// Bytes of a DNS stream of this age, each way, that are captured.
#[inline(always)]
const fn dns_stream_limit(age_ns: u64) -> u64 {
    DNS_STREAM_CAPTURE_BYTES + (age_ns >> DNS_STREAM_SHIFT)
}

/// Whether a UDP payload that starts with this byte can be a QUIC packet with a long header, as the first ones are
/// (RFC 8999, section 5.1, and RFC 9000, section 17.2).
#[inline(always)]
#[must_use]
pub const fn starts_quic(first_byte: u8) -> bool {
    first_byte & 0xc0 == 0xc0
}

/// How many new payload bytes a TCP segment brings beyond `high` (the highest sequence number seen plus one), and the
/// new `high`. `None` for `high` starts at this segment. Retransmissions bring nothing; a gap counts as moved, because
/// what fills it later will not.
#[inline(always)]
#[must_use]
pub fn tcp_progress(high: Option<u32>, sequence: u32, flags: u8, payload_bytes: u32) -> (u32, u32) {
    let start = if flags & tcp_flag::SYN == 0 { sequence } else { sequence.wrapping_add(1) };
    let end = start.wrapping_add(payload_bytes);
    let high = match high {
        Some(high) => high,
        None => start,
    };
    // Only payload moves the mark, and a FIN, which stands where it ends. The number that the FIN takes is none of it, and
    // what comes after a FIN or probes behind the mark carries none.
    if payload_bytes == 0 && flags & tcp_flag::FIN == 0 {
        return (high, 0);
    }
    // Sequence numbers wrap: the sign of the distance says which one is later (RFC 9293, section 3.4).
    let ahead = end.wrapping_sub(high);
    if ahead.cast_signed() > 0 { (end, ahead) } else { (high, 0) }
}

/// Bytes of the IP packets that an offloaded packet of `length_bytes` becomes when it is cut into `segments`.
#[inline(always)]
#[must_use]
pub fn wire_bytes(length_bytes: u32, header_bytes: u32, segments: u32) -> u64 {
    let extra = if segments > 1 { u64::from(segments - 1) * u64::from(header_bytes) } else { 0 };
    u64::from(length_bytes) + extra
}

/// Whether a flow that just moved bytes is due for a report.
#[inline(always)]
#[must_use]
pub fn report_is_due(
    settings: &Settings,
    now_ns: u64,
    reported_ns: u64,
    moved_bytes: u64,
    reported_bytes: u64,
) -> bool {
    now_ns.saturating_sub(reported_ns) >= settings.report_interval_ns
        || moved_bytes.saturating_sub(reported_bytes) >= settings.report_bytes
}

/// Changes of a flow's sender that are reported at once.
const SENDER_CHANGES_AT_ONCE: u32 = 16;

/// Whether a flow whose sender just changed for the `changes`-th time is due for a report.
#[inline(always)]
#[must_use]
pub fn sender_report_is_due(changes: u32, now_ns: u64, reported_ns: u64, interval_ns: u64) -> bool {
    changes <= SENDER_CHANGES_AT_ONCE || now_ns.saturating_sub(reported_ns) >= interval_ns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_syn_takes_one_number_and_carries_fast_open_data() {
        assert_eq!(tcp_progress(None, 100, tcp_flag::SYN, 0), (101, 0));
        assert_eq!(tcp_progress(None, 100, tcp_flag::SYN, 7), (108, 7));
    }

    #[test]
    fn a_retransmission_brings_nothing_and_a_partial_one_its_tail() {
        assert_eq!(tcp_progress(Some(200), 150, 0, 50), (200, 0));
        assert_eq!(tcp_progress(Some(200), 150, 0, 80), (230, 30));
    }

    #[test]
    fn a_fin_tells_of_payload_that_was_not_seen() {
        assert_eq!(tcp_progress(Some(200), 250, tcp_flag::FIN | tcp_flag::ACK, 0), (250, 50));
        assert_eq!(tcp_progress(Some(250), 250, tcp_flag::FIN | tcp_flag::ACK, 0), (250, 0));
    }

    #[test]
    fn the_number_that_a_fin_takes_is_not_payload() {
        let (high, moved) = tcp_progress(Some(200), 200, tcp_flag::FIN, 0);
        assert_eq!((high, moved), (200, 0));
        assert_eq!(tcp_progress(Some(high), 201, tcp_flag::ACK, 0), (200, 0));
        assert_eq!(tcp_progress(Some(high), 201, tcp_flag::RST, 0), (200, 0));
    }

    #[test]
    fn only_what_can_hold_a_name_is_captured() {
        const SECOND: u64 = 1_000_000_000;
        for (protocol, outgoing, port, earlier, packets, age, midstream, expected) in [
            (PROTOCOL_UDP, false, 53, 1_000_000, 9_000, 0, false, true),
            (PROTOCOL_UDP, true, 53, 1_000_000, 9_000, 0, true, true),
            (PROTOCOL_UDP, true, 443, 0, 1, 0, false, true),
            (PROTOCOL_UDP, true, 443, 0, 9, SECOND, false, false),
            (PROTOCOL_UDP, false, 443, 0, 1, 0, false, false),
            (PROTOCOL_TCP, true, 443, 0, 2, 0, false, true),
            (PROTOCOL_TCP, true, 443, 8_192, 9, SECOND, false, false),
            (PROTOCOL_TCP, true, 443, 0, 2, 0, true, false),
            (PROTOCOL_TCP, false, 443, 0, 2, 0, false, false),
            (PROTOCOL_TCP, false, 53, 9_000, 12, 0, true, true),
            (PROTOCOL_TCP, false, 53, 65_536, 99, 0, false, false),
            (PROTOCOL_TCP, false, 53, 65_536, 99, SECOND, false, true),
            (PROTOCOL_TCP, false, 53, 900_000, 999, 60 * SECOND, false, true),
            (PROTOCOL_TCP, false, 53, 9_000_000, 999, 60 * SECOND, false, false),
            (1, true, 0, 0, 1, 0, false, false),
        ] {
            let candidate = Candidate {
                protocol,
                outgoing,
                remote_port: port,
                earlier_bytes: earlier,
                packets,
                age_ns: age,
                midstream,
            };
            assert_eq!(candidate.may_hold_name(), expected, "{candidate:?}");
        }
        assert!(starts_quic(0xc3) && starts_quic(0xff));
        assert!(!starts_quic(0x40) && !starts_quic(0x80) && !starts_quic(0));
    }

    #[test]
    fn offload_counts_each_segments_headers() {
        assert_eq!(wire_bytes(1_500, 52, 1), 1_500);
        assert_eq!(wire_bytes(1_500, 52, 0), 1_500);
        assert_eq!(wire_bytes(64_052, 52, 44), 64_052 + 43 * 52);
    }

    #[test]
    fn processes_that_take_turns_report_on_the_schedule_after_a_while() {
        assert!(sender_report_is_due(1, 5, 5, 1_000));
        assert!(sender_report_is_due(16, 5, 5, 1_000));
        assert!(!sender_report_is_due(17, 1_004, 5, 1_000));
        assert!(sender_report_is_due(17, 1_005, 5, 1_000));
    }

    proptest! {
        #[test]
        fn any_order_of_segments_adds_up_to_the_stream(start: u32, sizes in proptest::collection::vec(1u32..70_000, 1..40), repeats in proptest::collection::vec(any::<prop::sample::Index>(), 0..20)) {
            let mut high = Some(tcp_progress(None, start, tcp_flag::SYN, 0).0);
            let mut segments = Vec::new();
            let mut at = start.wrapping_add(1);
            for size in &sizes {
                segments.push((at, *size));
                at = at.wrapping_add(*size);
            }
            let mut total = 0u64;
            for (index, segment) in segments.clone().into_iter().enumerate() {
                let (next, moved) = tcp_progress(high, segment.0, 0, segment.1);
                high = Some(next);
                total += u64::from(moved);
                if let Some(repeat) = repeats.get(index) {
                    let (sequence, size) = segments[repeat.index(index + 1)];
                    let (next, moved) = tcp_progress(high, sequence, 0, size);
                    prop_assert_eq!((next, moved), (high.unwrap_or_default(), 0));
                }
            }
            prop_assert_eq!(total, sizes.iter().map(|size| u64::from(*size)).sum::<u64>());
        }
    }
}
