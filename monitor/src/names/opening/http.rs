//! Requests of HTTP/1 (RFC 9112): the `Host` header, a request by absolute URL, and `CONNECT`.

use httparse::{Request, Status};

use super::Reading;
use crate::names::Host;

/// Headers that are looked at, by the limits of common servers.
const HEADERS: usize = 100;

/// What the head of a request tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// What is asked for.
    pub(super) asks: Asks,
    /// Bytes of the head, its empty line included, where it is whole.
    pub(super) length: Option<usize>,
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    /// Something of this server, which the client calls so.
    Origin(Host),
    /// Something of another server, by its URL: the server is a proxy.
    Proxy(Host, Option<u16>),
    /// A connection to another server.
    Tunnel(Host, Option<u16>),
    /// Something without saying of whom.
    Nobody,
}

/// Reads the head of a request. `is_final` says that no more bytes will come.
pub(super) fn read(bytes: &[u8], is_final: bool) -> Reading<Head> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(Status::Complete(length)) => Some(length),
        // Too many headers: those that are known are as good.
        Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => None,
        Err(_) => return Reading::Other,
    };
    let (method, target) = (request.method.map(str::to_owned), request.path.map(str::to_owned));
    let (Some(method), Some(target)) = (method, target) else {
        return if is_final { Reading::Other } else { Reading::More };
    };
    // The version tells a request from a line of another protocol.
    if request.version.is_none() {
        return if is_final { Reading::Other } else { Reading::More };
    }
    let asks = if method == "CONNECT" {
        Host::from_authority(target.as_bytes()).map(|(host, port)| Asks::Tunnel(host, port))
    } else if let Some((_, rest)) = target.split_once("://") {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        Host::from_authority(authority.as_bytes()).map(|(host, port)| Asks::Proxy(host, port))
    } else {
        let header = headers.iter().find(|header| header.name.eq_ignore_ascii_case("host"));
        header.and_then(|header| Host::from_authority(header.value.trim_ascii())).map(|(host, _)| Asks::Origin(host))
    };
    match asks {
        Some(asks) => Reading::Done(Head { asks, length }),
        // The header may still come.
        None if length.is_none() && !is_final => Reading::More,
        None => Reading::Done(Head { asks: Asks::Nobody, length }),
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

    #[test]
    fn requests_say_whom_they_mean() {
        for (text, asks) in [
            ("GET / HTTP/1.1\r\nHost: Example.com\r\n\r\n", Asks::Origin(name("example.com"))),
            (
                "POST /x HTTP/1.1\r\nAccept: */*\r\nhOsT:example.com:8080 \r\n\r\nbody",
                Asks::Origin(name("example.com")),
            ),
            ("GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n", Asks::Origin(Host::Address([192, 0, 2, 1].into()))),
            ("GET http://example.com/a HTTP/1.1\r\nHost: proxy\r\n\r\n", Asks::Proxy(name("example.com"), None)),
            ("GET http://u:p@example.com:81?q HTTP/1.0\r\n\r\n", Asks::Proxy(name("example.com"), Some(81))),
            ("CONNECT example.com:443 HTTP/1.1\r\n\r\n", Asks::Tunnel(name("example.com"), Some(443))),
            ("GET / HTTP/1.0\r\n\r\n", Asks::Nobody),
        ] {
            let length = text.find("\r\n\r\n").map(|end| end + 4);
            assert_eq!(read(text.as_bytes(), false), Reading::Done(Head { asks, length }), "{text}");
        }
    }

    #[test]
    fn a_host_is_known_before_the_head_ends() {
        let head = Head { asks: Asks::Origin(name("example.com")), length: None };
        assert_eq!(read(b"GET / HTTP/1.1\r\nHost: example.com\r\nCookie: a", false), Reading::Done(head));
        let many = format!("GET / HTTP/1.1\r\nHost: example.com\r\n{}\r\n", "a: b\r\n".repeat(HEADERS));
        assert!(matches!(read(many.as_bytes(), false), Reading::Done(Head { asks: Asks::Origin(_), .. })));
    }

    #[test]
    fn beginnings_ask_for_more_and_other_protocols_are_refused() {
        for text in ["", "G", "GET /", "GET / HTTP/1.1\r\nHost: exa", "GET / HTTP/1.1\r\nAccept: x\r\n"] {
            assert_eq!(read(text.as_bytes(), false), Reading::More, "{text:?}");
        }
        for text in ["EHLO me.example\r\n", "\x16\x03\x01", "SSH-2.0-x\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            assert_eq!(read(text.as_bytes(), false), Reading::Other, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500), is_final: bool) {
            let _ = read(&bytes, is_final);
        }
    }
}
