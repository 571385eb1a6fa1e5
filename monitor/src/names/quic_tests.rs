use proptest::prelude::*;

use super::*;
use crate::names::{HostName, opening::samples};

/// Destination connection id of the examples (RFC 9001, appendix A; RFC 9369, appendix A).
const CONNECTION_ID: [u8; 8] = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];

/// The CRYPTO frame of the examples' client, which asks for example.com (RFC 9001, appendix A.2).
const EXAMPLE_FRAME: &str = "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e868\
    04fe3a47f06a2b69484c00000413011302010000c000000010000e00000b6578616d706c652e636f6dff01000100000a\
    00080006001d0017001800100007000504616c706e000500050100000000003300260024001d00209370b2c9caa47fba\
    baf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b0003020304000d001000\
    0e0403050306030203080408050806002d00020101001c00024001003900320408ffffffffffffffff05048000ffff07\
    048000ffff0801100104800075300901100f088394c8f03e51570806048000ffff";

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// An Initial packet as a client protects it, padded to `payload_bytes`.
fn protect(version: Version, connection_id: &[u8], packet_number: u32, frames: &[u8], payload_bytes: usize) -> Vec<u8> {
    let suite = TLS13_AES_128_GCM_SHA256.tls13().unwrap();
    let keys = Keys::initial(version, suite, suite.quic.unwrap(), connection_id, Side::Client).local;
    let (code, kind) = match version {
        Version::V2 => (0x6b33_43cf_u32, 1),
        Version::V1Draft => (0xff00_001d, 0),
        _ => (1, 0),
    };
    let mut payload = frames.to_vec();
    payload.resize(payload.len().max(payload_bytes), 0);
    let mut packet = vec![0xc3 | kind << 4];
    packet.extend(code.to_be_bytes());
    packet.push(connection_id.len() as u8);
    packet.extend(connection_id);
    packet.extend([0, 0]);
    packet.extend((0x4000 | (4 + payload.len() + 16) as u16).to_be_bytes());
    let number_offset = packet.len();
    packet.extend(packet_number.to_be_bytes());
    let tag = keys.packet.encrypt_in_place(packet_number.into(), &packet, &mut payload).unwrap();
    packet.extend(&payload);
    packet.extend(tag.as_ref());
    let sample: [u8; SAMPLE_BYTES] = packet[number_offset + 4..number_offset + 20].try_into().unwrap();
    let (head, rest) = packet.split_at_mut(number_offset);
    keys.header.encrypt_in_place(&sample, &mut head[0], &mut rest[..4]).unwrap();
    packet
}

/// A CRYPTO frame.
fn crypto(offset: usize, piece: &[u8]) -> Vec<u8> {
    let two = |number: usize| (0x4000 | number as u16).to_be_bytes();
    [&[6][..], &two(offset), &two(piece.len()), piece].concat()
}

/// The datagrams in which a client of `version` asks for `name`, its message in pieces that come last piece first.
pub(in crate::names) fn datagrams(version: Version, name: &str, pieces: usize) -> Vec<Vec<u8>> {
    let hello = samples::client_hello(name);
    let message = &hello[5..];
    let size = message.len().div_ceil(pieces);
    let frames = message.chunks(size).enumerate().map(|(index, piece)| crypto(index * size, piece));
    let packets = frames.enumerate().map(|(index, frame)| protect(version, b"original", index as u32, &frame, 1_100));
    packets.rev().collect()
}

fn asks_for(name: &str) -> Reading<ClientHello> {
    Reading::Done(ClientHello { server_name: HostName::new(name.as_bytes()), offers_ech: false })
}

#[test]
fn the_examples_of_both_standards_are_read() {
    let examples = [
        // RFC 9001, appendix A.2: the first bytes and the authentication tag of the protected packet.
        (
            Version::V1,
            "c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11",
            "e221af44860018ab0856972e194cd934",
        ),
        // RFC 9369, appendix A.2.
        (
            Version::V2,
            "d76b3343cf088394c8f03e5157080000449ea0c95e82ffe67b6abcdb4298b485",
            "a18b2faa745b6fe189cf772a9f84cbfc",
        ),
    ];
    for (version, begin, tag) in examples {
        let packet = protect(version, &CONNECTION_ID, 2, &hex(EXAMPLE_FRAME), 1_162);
        assert_eq!(packet.len(), 1_200, "the packet of the example");
        assert!(packet.starts_with(&hex(begin)) && packet.ends_with(&hex(tag)), "the packet of the example");
        assert_eq!(Initials::default().read(&packet), asks_for("example.com"), "{version:?}");
    }
}

#[test]
fn a_message_over_several_packets_in_any_order_is_put_together() {
    for version in [Version::V1, Version::V2, Version::V1Draft] {
        for pieces in 1..=4 {
            let mut initials = Initials::default();
            let mut datagrams = datagrams(version, "www.example.com", pieces);
            let last = datagrams.pop().unwrap();
            for datagram in datagrams {
                assert_eq!(initials.read(&datagram), Reading::More);
            }
            assert_eq!(initials.read(&last), asks_for("www.example.com"), "{version:?} in {pieces}");
        }
        let joined = datagrams(version, "www.example.com", 3).concat();
        assert_eq!(Initials::default().read(&joined), asks_for("www.example.com"), "{version:?} in one datagram");
    }
}

#[test]
fn pieces_out_of_order_between_other_frames_are_found() {
    let hello = samples::client_hello("www.example.com");
    let (one, two) = hello[5..].split_at(90);
    // PING, ACK of one range, padding.
    let frames = [&[1][..], &crypto(90, two), &[2, 0, 0, 0, 0, 0, 0, 0], &crypto(0, one), &[1]].concat();
    let packet = protect(Version::V1, &CONNECTION_ID, 0, &frames, 1_162);
    assert_eq!(Initials::default().read(&packet), asks_for("www.example.com"));
}

#[test]
fn another_try_after_a_retry_has_new_keys_and_an_answer_has_not() {
    let hello = samples::client_hello("www.example.com");
    let (one, two) = hello[5..].split_at(90);
    let mut initials = Initials::default();
    assert_eq!(initials.read(&protect(Version::V1, b"first id", 0, &crypto(0, one), 1_100)), Reading::More);
    let retried = protect(Version::V1, b"by retry", 1, &crypto(90, two), 1_100);
    assert_eq!(initials.read(&retried), asks_for("www.example.com"));
}

#[test]
fn other_datagrams_are_refused() {
    for bytes in [&b"\xc0"[..], b"\xc0\0\0\0\0\0\0", b"\xc0\xba\xba\xba\xba\x08aaaaaaaa\0", b"\xf3\0\0\0\x01\0\0token"]
    {
        assert_eq!(Initials::default().read(bytes), Reading::Other, "{bytes:?}");
    }
    let mut packet = protect(Version::V1, &CONNECTION_ID, 2, &hex(EXAMPLE_FRAME), 1_162);
    packet.truncate(1_199);
    assert_eq!(Initials::default().read(&packet), Reading::Other, "a packet that is cut off");
}

#[test]
fn numbers_have_four_lengths() {
    // RFC 9000, appendix A.1.
    for (text, expected) in
        [("c2197c5eff14e88c", 151_288_809_941_952_652), ("9d7f3e7d", 494_878_333), ("7bbd", 15_293), ("25", 37)]
    {
        assert_eq!(number(&mut &hex(text)[..]), Some(expected));
    }
    assert_eq!(number(&mut &[0x40][..]), None);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Initials::default().read(&bytes);
        let _ = Initials::default().read_frames(&bytes);
    }

    #[test]
    fn any_frames_are_read_without_a_panic(frames in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Initials::default().read(&protect(Version::V1, &CONNECTION_ID, 0, &frames, 64));
    }

    #[test]
    fn damage_is_read_without_a_panic(position in 0usize..1_200, byte: u8) {
        let mut packet = protect(Version::V1, &CONNECTION_ID, 2, &hex(EXAMPLE_FRAME), 1_162);
        packet[position] = byte;
        let _ = Initials::default().read(&packet);
    }
}
