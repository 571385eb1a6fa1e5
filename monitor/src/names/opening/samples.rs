//! Bytes as real clients send them, for tests.

use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::ring, pki_types::ServerName};

/// The first TLS record that a rustls client sends to `name`.
pub(in crate::names) fn client_hello(name: &str) -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

/// The same handshake message in records of at most `size` bytes each.
pub(super) fn split_records(record: &[u8], size: usize) -> Vec<u8> {
    let (head, message) = record.split_at(5);
    let records = message.chunks(size).flat_map(|part| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&head[..3], &length, part].concat()
    });
    records.collect()
}

/// The same message with one extension more.
pub(in crate::names) fn with_extension(record: &[u8], kind: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = record.to_vec();
    // Version and random, then the session id, the cipher suites and the compression methods.
    let mut position = 5 + 4 + 2 + 32;
    position += 1 + usize::from(bytes[position]);
    position += 2 + usize::from(u16::from_be_bytes([bytes[position], bytes[position + 1]]));
    position += 1 + usize::from(bytes[position]);
    let extension = [&kind.to_be_bytes()[..], &u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat();
    bytes.extend(&extension);
    for (place, width) in [(3, 2), (6, 3), (position, 2)] {
        let grown =
            bytes[place..place + width].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)) + extension.len();
        bytes[place..place + width].copy_from_slice(&grown.to_be_bytes()[8 - width..]);
    }
    bytes
}
