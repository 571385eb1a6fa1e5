//! The first packets of a QUIC client: Initial packets of version 1 (RFC 9001) and version 2 (RFC 9369), whose keys come
//! from the packet itself, so that everybody on the way can read the `ClientHello` in them.

use monitor_common::accounting::DATAGRAM_CAPTURE_PACKETS;
use rustls::{
    Side,
    crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
    quic::{Keys, Version},
};
use zeroize::Zeroizing;

use super::{
    fragments::Fragments,
    opening::{
        Reading,
        tls::{self, ClientHello},
    },
};

/// Longest connection id of these versions (RFC 9000, section 17.2).
const CONNECTION_ID_BYTES: usize = 20;
/// Longest `ClientHello` that is waited for.
const HELLO_BYTES: usize = 1 << 14;
/// Bytes from the packet number to the sample that masks the header (RFC 9001, section 5.4.2).
const SAMPLE_OFFSET: usize = 4;
const SAMPLE_BYTES: usize = 16;

/// A client's first packets, as far as they came.
#[derive(Default)]
pub(super) struct Initials {
    /// The connection id that the client chose for the server: the keys of all its Initial packets come from it, also
    /// when the server has chosen another one meanwhile.
    connection_id: Option<Vec<u8>>,
    crypto: Fragments,
    datagrams: u64,
}

impl Initials {
    /// Reads a datagram, in which several packets may stand.
    pub(super) fn read(&mut self, datagram: &[u8]) -> Reading<ClientHello> {
        self.datagrams += 1;
        let mut rest = datagram;
        let mut is_quic = self.connection_id.is_some();
        while let Some((packet, next)) = Packet::parse(rest) {
            rest = next;
            is_quic |= packet.is_initial;
            if packet.is_initial
                && let Some(payload) = self.open(&packet)
            {
                self.read_frames(&payload);
            }
        }
        if !is_quic {
            return Reading::Other;
        }
        tls::from_handshake(&self.crypto.prefix(0), false)
    }

    /// Whether as many datagrams came as are captured of a flow.
    pub(super) const fn are_all(&self) -> bool {
        self.datagrams >= DATAGRAM_CAPTURE_PACKETS
    }

    /// Bytes held.
    pub(super) const fn bytes(&self) -> usize {
        self.crypto.bytes()
    }

    fn open(&mut self, packet: &Packet<'_>) -> Option<Zeroizing<Vec<u8>>> {
        if let Some(connection_id) = &self.connection_id
            && let Some(payload) = packet.open(connection_id)
        {
            return Some(payload);
        }
        // The first packet, or the first after the server asked for another try (Retry).
        let payload = packet.open(packet.connection_id)?;
        self.connection_id = Some(packet.connection_id.to_vec());
        Some(payload)
    }

    /// Keeps what CRYPTO frames hold (RFC 9000, section 19). Stops at a frame that has no place in an Initial packet.
    fn read_frames(&mut self, mut bytes: &[u8]) -> Option<()> {
        while let Some((kind, rest)) = bytes.split_first() {
            bytes = rest;
            match kind {
                // PADDING and PING.
                0 | 1 => {}
                // ACK: largest, delay, count of ranges, first range, then two numbers a range; three counters for ECN.
                2 | 3 => {
                    let (_largest, _delay) = (number(&mut bytes)?, number(&mut bytes)?);
                    let ranges = number(&mut bytes)?;
                    let numbers = ranges.checked_mul(2)?.checked_add(if *kind == 3 { 4 } else { 1 })?;
                    for _ in 0..numbers {
                        number(&mut bytes)?;
                    }
                }
                // CRYPTO.
                6 => {
                    let offset = number(&mut bytes)?;
                    let length = usize::try_from(number(&mut bytes)?).ok()?;
                    let (piece, rest) = bytes.split_at_checked(length)?;
                    bytes = rest;
                    if offset < HELLO_BYTES as u64 {
                        self.crypto.insert(offset, piece, HELLO_BYTES);
                    }
                }
                _ => return None,
            }
        }
        Some(())
    }
}

/// A packet with a long header.
struct Packet<'a> {
    version: Version,
    is_initial: bool,
    connection_id: &'a [u8],
    /// From the first byte to the end of its payload.
    bytes: &'a [u8],
    /// Where the packet number begins.
    number_offset: usize,
}

impl<'a> Packet<'a> {
    /// The first packet of a datagram, and what follows it. `None` for what is none, for unknown versions, for packets
    /// that were not captured whole and for those without a length.
    fn parse(datagram: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut rest = datagram;
        let [first, version @ ..] = array::<5>(&mut rest)?;
        if first & 0x80 == 0 {
            return None;
        }
        let (version, initial_kind, retry_kind) = match u32::from_be_bytes(version) {
            1 => (Version::V1, 0, 3),
            0x6b33_43cf => (Version::V2, 1, 0),
            0xff00_001d => (Version::V1Draft, 0, 3),
            _ => return None,
        };
        let connection_id = prefixed(&mut rest)?;
        prefixed(&mut rest)?;
        let kind = first >> 4 & 3;
        if kind == retry_kind {
            return None;
        }
        let is_initial = kind == initial_kind;
        if is_initial {
            let token_bytes = usize::try_from(number(&mut rest)?).ok()?;
            rest = rest.get(token_bytes..)?;
        }
        let length = usize::try_from(number(&mut rest)?).ok()?;
        let number_offset = datagram.len() - rest.len();
        let (bytes, next) = datagram.split_at_checked(number_offset.checked_add(length)?)?;
        Some((Self { version, is_initial, connection_id, bytes, number_offset }, next))
    }

    /// Takes the protection off; `None` if the keys of `connection_id` do not fit.
    fn open(&self, connection_id: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let suite = TLS13_AES_128_GCM_SHA256.tls13()?;
        // The reader stands where the server stands.
        let keys = Keys::initial(self.version, suite, suite.quic?, connection_id, Side::Server).remote;
        let mut packet = Zeroizing::new(self.bytes.to_vec());
        let sample_at = self.number_offset + SAMPLE_OFFSET;
        let sample: [u8; SAMPLE_BYTES] = packet.get(sample_at..sample_at + SAMPLE_BYTES)?.try_into().ok()?;
        let (head, payload) = packet.split_at_mut_checked(self.number_offset)?;
        let first = head.first_mut()?;
        keys.header.decrypt_in_place(&sample, first, payload.get_mut(..SAMPLE_OFFSET)?).ok()?;
        let number_bytes = usize::from(*first & 3) + 1;
        let number = payload.get(..number_bytes)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let (header, body) = packet.split_at_mut_checked(self.number_offset + number_bytes)?;
        let length = keys.packet.decrypt_in_place(number, header, body).ok()?.len();
        Some(Zeroizing::new(body.get(..length)?.to_vec()))
    }
}

/// A number of variable length (RFC 9000, section 16).
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let first = *bytes.first()?;
    let (number, rest) = bytes.split_at_checked(1 << (first >> 6))?;
    *bytes = rest;
    let number = number.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    Some(number & u64::MAX >> (64 - (8 << (first >> 6)) + 2))
}

/// A connection id behind its length.
fn prefixed<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let [length] = array(bytes)?;
    let length = usize::from(length);
    let (taken, rest) = bytes.split_at_checked(length).filter(|_| length <= CONNECTION_ID_BYTES)?;
    *bytes = rest;
    Some(taken)
}

fn array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

#[cfg(test)]
#[path = "quic_tests.rs"]
pub(super) mod tests;
