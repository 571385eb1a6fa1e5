//! SOCKS version 5 (RFC 1928, with RFC 1929) and versions 4 and 4a, from the client's side alone.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Reading;
use crate::names::Host;

/// What a client asks its SOCKS proxy for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Whom to connect to.
    pub(super) host: Host,
    /// At which port.
    pub(super) port: u16,
    /// Bytes up to the end of the request; what follows goes through the proxy.
    pub(super) length: usize,
}

const VERSION_4: u8 = 4;
const VERSION_5: u8 = 5;
/// Version of the sub-negotiation by user name and password.
const PASSWORD_VERSION: u8 = 1;
/// The command that opens a connection; others (bind, UDP associate) name nobody that is sent to over this flow.
const CONNECT: u8 = 1;
const ADDRESS_IPV4: u8 = 1;
const ADDRESS_NAME: u8 = 3;
const ADDRESS_IPV6: u8 = 4;

/// Why a request could not be read.
enum Stop {
    More,
    Other,
}

/// Reads a request of version 5: the offer of methods, the password where one was asked for, and the request.
pub(super) fn read_5(bytes: &[u8]) -> Reading<Request> {
    read(bytes, request_5)
}

/// Reads a request of version 4 or 4a.
pub(super) fn read_4(bytes: &[u8]) -> Reading<Request> {
    read(bytes, request_4)
}

fn read(bytes: &[u8], request: fn(&mut Reader<'_>) -> Result<(Host, u16), Stop>) -> Reading<Request> {
    let mut reader = Reader { bytes, position: 0 };
    match request(&mut reader) {
        Ok((host, port)) => Reading::Done(Request { host, port, length: reader.position }),
        Err(Stop::More) => Reading::More,
        Err(Stop::Other) => Reading::Other,
    }
}

fn request_5(reader: &mut Reader<'_>) -> Result<(Host, u16), Stop> {
    let [version, methods] = reader.array()?;
    if version != VERSION_5 || methods == 0 {
        return Err(Stop::Other);
    }
    reader.take(methods.into())?;
    let mut version = reader.byte()?;
    if version == PASSWORD_VERSION {
        for _ in ["name", "password"] {
            let length = reader.byte()?;
            reader.take(length.into())?;
        }
        version = reader.byte()?;
    }
    let [command, reserved, kind] = reader.array()?;
    if (version, command, reserved) != (VERSION_5, CONNECT, 0) {
        return Err(Stop::Other);
    }
    let host = match kind {
        ADDRESS_IPV4 => Some(Host::Address(Ipv4Addr::from(reader.array()?).into())),
        ADDRESS_IPV6 => Some(Host::Address(Ipv6Addr::from(reader.array()?).to_canonical())),
        ADDRESS_NAME => {
            let length = reader.byte()?;
            Host::new(reader.take(length.into())?)
        }
        _ => None,
    };
    let host = host.ok_or(Stop::Other)?;
    Ok((host, u16::from_be_bytes(reader.array()?)))
}

fn request_4(reader: &mut Reader<'_>) -> Result<(Host, u16), Stop> {
    let [version, command] = reader.array()?;
    if (version, command) != (VERSION_4, CONNECT) {
        return Err(Stop::Other);
    }
    let port = u16::from_be_bytes(reader.array()?);
    let address: [u8; 4] = reader.array()?;
    reader.until_zero()?;
    // Version 4a: an address that nobody has says that a name follows.
    let host = match address {
        [0, 0, 0, last] if last != 0 => Host::new(reader.until_zero()?).ok_or(Stop::Other)?,
        octets => Host::Address(Ipv4Addr::from(octets).into()),
    };
    Ok((host, port))
}

struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Stop> {
        let taken = self.bytes.get(self.position..).and_then(|rest| rest.get(..count)).ok_or(Stop::More)?;
        self.position += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        self.take(N)?.try_into().map_err(|_| Stop::More)
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        self.array().map(|[byte]| byte)
    }

    /// What stands before the next zero byte, which is taken as well.
    fn until_zero(&mut self) -> Result<&'a [u8], Stop> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let length = rest.iter().position(|byte| *byte == 0).ok_or(Stop::More)?;
        let text = self.take(length)?;
        self.position += 1;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::names::HostName;

    fn name(text: &str) -> Host {
        Host::Name(HostName::new(text.as_bytes()).unwrap())
    }

    fn check(read: fn(&[u8]) -> Reading<Request>, bytes: &[u8], host: Host, port: u16) {
        let mut followed = bytes.to_vec();
        followed.extend(b"\x16\x03\x01");
        assert_eq!(read(&followed), Reading::Done(Request { host, port, length: bytes.len() }));
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), Reading::More, "after {end} bytes");
        }
    }

    #[test]
    fn each_form_of_a_request_names_its_destination() {
        check(read_5, b"\x05\x01\x00\x05\x01\x00\x03\x0bexample.com\x01\xbb", name("example.com"), 443);
        check(read_5, b"\x05\x02\x00\x02\x01\x02me\x06secret\x05\x01\x00\x03\x07example\x00\x50", name("example"), 80);
        check(
            read_5,
            b"\x05\x01\x00\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50",
            Host::Address([192, 0, 2, 1].into()),
            80,
        );
        check(
            read_5,
            b"\x05\x01\x00\x05\x01\x00\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x01\xbb",
            Host::Address("2001:db8::1".parse().unwrap()),
            443,
        );
        check(read_4, b"\x04\x01\x00\x50\xc0\x00\x02\x01me\0", Host::Address([192, 0, 2, 1].into()), 80);
        check(read_4, b"\x04\x01\x01\xbb\x00\x00\x00\x01\0example.com\0", name("example.com"), 443);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for bytes in [&b"\x05\x00"[..], b"\x05\x01\x00\x05\x03\x00\x01\0\0\0\0\0\0", b"\x05\x01\x00\x07\x01\x00\x01"] {
            assert_eq!(read_5(bytes), Reading::Other, "{bytes:?}");
        }
        assert_eq!(read_4(b"\x04\x02\x00\x50"), Reading::Other);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = (read_4(&bytes), read_5(&bytes));
        }
    }
}
