//! The `ClientHello` (RFC 8446, section 4.1.2; RFC 5246, section 7.4.1.2) and the name it asks for (RFC 6066).

use tls_parser::{
    SNIType, TlsExtension, TlsExtensionType, parse_tls_extension_sni_content, parse_tls_extension_unknown,
    parse_tls_handshake_client_hello,
};
use zeroize::Zeroizing;

use super::Reading;
use crate::names::HostName;

/// Content type of records that carry handshake messages.
const HANDSHAKE: u8 = 22;
/// Type of the handshake message that opens a connection.
const CLIENT_HELLO: u8 = 1;
/// Longest plaintext of a record.
const RECORD_BYTES: usize = 1 << 14;
/// `encrypted_client_hello` (RFC 9849, section 5).
const ENCRYPTED_CLIENT_HELLO: TlsExtensionType = TlsExtensionType(0xfe0d);

/// What a `ClientHello` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::names) struct ClientHello {
    /// The server that is asked for.
    pub(in crate::names) server_name: Option<HostName>,
    /// An inner `ClientHello` may come with it, encrypted, that asks for another server. Browsers also send the extension
    /// without anything in it, and nobody but the server can tell the difference.
    pub(in crate::names) offers_ech: bool,
}

/// Reads a `ClientHello` out of TLS records. `is_final` says that no more bytes will come.
pub(super) fn from_records(mut bytes: &[u8], is_final: bool) -> Reading<ClientHello> {
    let mut message = Zeroizing::new(Vec::new());
    let mut needs_more = false;
    while let Some((&[kind, major, _, high, low], rest)) = bytes.split_first_chunk::<5>() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind != HANDSHAKE || major != 3 || length == 0 || length > RECORD_BYTES {
            // After the whole message other records may follow; before, this is not TLS.
            break;
        }
        let (part, next) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        message.extend_from_slice(part);
        needs_more = part.len() < length;
        bytes = next;
    }
    let may_begin = bytes.iter().zip([HANDSHAKE, 3]).all(|(byte, expected)| *byte == expected);
    match from_handshake(&message, is_final) {
        Reading::More if !(needs_more || may_begin && bytes.len() < 5) => Reading::Other,
        reading => reading,
    }
}

/// Reads a `ClientHello` out of a stream of handshake messages. `is_final` says that no more bytes will come.
pub(in crate::names) fn from_handshake(bytes: &[u8], is_final: bool) -> Reading<ClientHello> {
    let Some((&[kind, length @ ..], body)) = bytes.split_first_chunk::<4>() else {
        return if bytes.first().is_none_or(|kind| *kind == CLIENT_HELLO) { Reading::More } else { Reading::Other };
    };
    let length_bytes = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
    if kind != CLIENT_HELLO || length_bytes > 4 * RECORD_BYTES {
        return Reading::Other;
    }
    let body = match body.get(..length_bytes) {
        Some(whole) => whole,
        None if is_final => body,
        None => return Reading::More,
    };
    let Ok((rest, hello)) = parse_tls_handshake_client_hello(body) else { return Reading::Other };
    // Extensions that were cut off are left in the rest, behind their length.
    Reading::Done(from_extensions(hello.ext.or_else(|| rest.get(2..)).unwrap_or_default()))
}

fn from_extensions(mut bytes: &[u8]) -> ClientHello {
    let mut hello = ClientHello { server_name: None, offers_ech: false };
    while let Ok((rest, TlsExtension::Unknown(kind, content))) = parse_tls_extension_unknown(bytes) {
        bytes = rest;
        if kind == ENCRYPTED_CLIENT_HELLO {
            hello.offers_ech = true;
        } else if kind == TlsExtensionType::ServerName
            && let Ok((_, TlsExtension::SNI(names))) = parse_tls_extension_sni_content(content)
        {
            let name = names.iter().find(|(kind, _)| *kind == SNIType::HostName);
            hello.server_name = name.and_then(|(_, name)| HostName::new(name));
        }
    }
    hello
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::samples, *};

    fn hello(name: &str, offers_ech: bool) -> Reading<ClientHello> {
        Reading::Done(ClientHello { server_name: HostName::new(name.as_bytes()), offers_ech })
    }

    #[test]
    fn a_real_client_names_its_server() {
        let bytes = samples::client_hello("www.Example.com");
        assert_eq!(from_records(&bytes, false), hello("www.example.com", false));
    }

    #[test]
    fn a_message_in_many_records_is_put_together() {
        let bytes = samples::client_hello("www.example.com");
        for size in [1, 2, 7, 100] {
            assert_eq!(from_records(&samples::split_records(&bytes, size), false), hello("www.example.com", false));
        }
    }

    #[test]
    fn each_beginning_asks_for_more() {
        let bytes = samples::split_records(&samples::client_hello("www.example.com"), 40);
        for end in 0..bytes.len() {
            assert_eq!(from_records(&bytes[..end], false), Reading::More, "after {end} bytes");
        }
    }

    #[test]
    fn what_was_cut_off_is_read_as_far_as_it_goes() {
        let bytes = samples::client_hello("www.example.com");
        let name_end = bytes.windows(15).position(|part| part == b"www.example.com").unwrap() + 15;
        assert_eq!(from_records(&bytes[..name_end], true), hello("www.example.com", false));
        let Reading::Done(cut) = from_records(&bytes[..name_end - 1], true) else { panic!("no hello") };
        assert_eq!(cut.server_name, None);
    }

    #[test]
    fn an_encrypted_inner_message_is_told() {
        let bytes = samples::with_extension(&samples::client_hello("public.example"), 0xfe0d, &[0; 200]);
        assert_eq!(from_records(&bytes, false), hello("public.example", true));
    }

    #[test]
    fn other_protocols_and_messages_are_refused() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
            b"\x17\x03\x03\x00\x05hello",
            b"\x16\x03\x01\x00\x00",
        ] {
            assert_eq!(from_records(bytes, false), Reading::Other, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2_000), is_final: bool) {
            let _ = from_records(&bytes, is_final);
            let _ = from_handshake(&bytes, is_final);
        }

        #[test]
        fn damage_is_read_without_a_panic(position in 0usize..600, byte: u8, is_final: bool) {
            let mut bytes = samples::client_hello("www.example.com");
            if let Some(place) = bytes.get_mut(position) {
                *place = byte;
            }
            let _ = from_records(&bytes, is_final);
        }
    }
}
