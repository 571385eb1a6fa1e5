//! What the first bytes that a client sends say about whom it speaks to.
//!
//! Protocols stand in layers: a request to a proxy or a `STARTTLS`, then what goes through it. Each layer is read from
//! its own first byte; what is read is a prefix that grows, so every reading starts anew and nothing is remembered.

mod http;
#[cfg(test)]
pub(super) mod samples;
mod socks;
mod starttls;
pub(super) mod tls;

use super::{Host, Proxied, ProxyProtocol, Source, flow::Found};

/// Proxies, upgrades and repeated requests to one of them before a reading ends: with authentication a client asks its
/// proxy twice.
const LAYERS: usize = 6;

/// How far a reading got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reading<T> {
    /// All that there is to read.
    Done(T),
    /// It may be so, but bytes are missing.
    More,
    /// It is something else.
    Other,
}

/// What the first bytes said so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Opening {
    /// Names, in the order of the layers.
    pub(super) found: Vec<Found>,
    /// Whom a proxy was asked for, last.
    pub(super) proxied: Option<Proxied>,
    /// More bytes may say more.
    pub(super) wants_more: bool,
    /// What came last is the beginning of something that says a name, or goes to a proxy that was asked for somebody: if
    /// the rest is not seen, a name may be missing.
    pub(super) promises_a_name: bool,
}

/// Reads the bytes that a client sent first. `is_final` says that no more will come.
pub(super) fn read(bytes: &[u8], is_final: bool) -> Opening {
    let mut opening = Opening::default();
    let mut rest = bytes;
    for layer in 0..LAYERS {
        match read_layer(rest, is_final, &mut opening) {
            Reading::Done(length) => rest = rest.get(length..).unwrap_or_default(),
            Reading::More => {
                opening.wants_more = !is_final;
                opening.promises_a_name = begins_what_names(rest, layer > 0);
                break;
            }
            Reading::Other => break,
        }
    }
    opening
}

/// Whether a protocol that says names is known by its first byte: `PostgreSQL`, SOCKS, TLS, XMPP.
pub(super) const fn is_known_by(first: u8) -> bool {
    matches!(first, 0 | 4 | 5 | 0x16 | b'<')
}

/// Whether a layer that begins like this says a name sooner or later. Lines of text may be anything.
fn begins_what_names(bytes: &[u8], is_inner: bool) -> bool {
    match bytes {
        [] => is_inner,
        [first, ..] if is_known_by(*first) => true,
        text => matches!(http::read(text, false), Reading::More | Reading::Done(_)),
    }
}

/// Reads one layer. [`Reading::Done`] has the length of what stands before the next one; without a next one the reading
/// is [`Reading::Other`].
fn read_layer(bytes: &[u8], is_final: bool, opening: &mut Opening) -> Reading<usize> {
    match bytes {
        [] => Reading::More,
        [0x16, ..] => match tls::from_records(bytes, is_final) {
            Reading::Done(hello) => {
                opening.add_hello(hello, Source::TlsSni);
                Reading::Other
            }
            Reading::More => Reading::More,
            Reading::Other => Reading::Other,
        },
        [4, ..] => opening.add_request(socks::read_4(bytes), ProxyProtocol::Socks4),
        [5, ..] => opening.add_request(socks::read_5(bytes), ProxyProtocol::Socks5),
        [0, ..] => starttls::read_postgresql(bytes),
        _ => match http::read(bytes, is_final) {
            Reading::Done(head) => opening.add_head(head, is_final),
            // A request and a line of another protocol can begin alike.
            reading => match (reading, starttls::read(bytes)) {
                (_, Reading::Done(length)) => Reading::Done(length),
                (Reading::More, _) | (_, Reading::More) => Reading::More,
                _ => Reading::Other,
            },
        },
    }
}

impl Opening {
    pub(super) fn add_hello(&mut self, hello: tls::ClientHello, source: Source) {
        if let Some(name) = hello.server_name {
            self.add(Found { name, source, offers_ech: hello.offers_ech });
        }
    }

    fn add_head(&mut self, head: http::Head, is_final: bool) -> Reading<usize> {
        match head.asks {
            http::Asks::Origin(Host::Name(name)) => {
                self.add(Found { name, source: Source::HttpHost, offers_ech: false });
            }
            http::Asks::Origin(Host::Address(_)) | http::Asks::Nobody => {}
            http::Asks::Proxy(host, port) => self.add_proxied(Proxied { protocol: ProxyProtocol::Http, host, port }),
            http::Asks::Tunnel(host, port) => {
                self.add_proxied(Proxied { protocol: ProxyProtocol::HttpConnect, host, port });
                return match head.length {
                    Some(length) => Reading::Done(length),
                    None if is_final => Reading::Other,
                    None => Reading::More,
                };
            }
        }
        Reading::Other
    }

    fn add_request(&mut self, request: Reading<socks::Request>, protocol: ProxyProtocol) -> Reading<usize> {
        match request {
            Reading::Done(socks::Request { host, port, length }) => {
                self.add_proxied(Proxied { protocol, host, port: Some(port) });
                Reading::Done(length)
            }
            Reading::More => Reading::More,
            Reading::Other => Reading::Other,
        }
    }

    fn add_proxied(&mut self, proxied: Proxied) {
        if let Host::Name(name) = &proxied.host {
            self.add(Found { name: name.clone(), source: proxied.protocol.source(), offers_ech: false });
        }
        self.proxied = Some(proxied);
    }

    fn add(&mut self, found: Found) {
        if !self.found.contains(&found) {
            self.found.push(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The names with their sources, the proxy's destination, and whether more is wanted.
    fn summary(bytes: &[u8]) -> (Vec<String>, Option<String>, bool) {
        let opening = read(bytes, false);
        let names = opening.found.iter().map(|found| format!("{} {}", found.source.as_token(), found.name)).collect();
        let proxied = opening.proxied.map(|proxied| match proxied.host {
            Host::Name(name) => format!("{} {name} {:?}", proxied.protocol.as_token(), proxied.port),
            Host::Address(address) => format!("{} {address} {:?}", proxied.protocol.as_token(), proxied.port),
        });
        (names, proxied, opening.wants_more)
    }

    fn joined(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    #[test]
    fn each_way_to_begin_tells_its_names() {
        let hello = samples::client_hello("inner.example");
        let sni = "tls_sni inner.example";
        let cases: [(Vec<u8>, &[&str], Option<&str>); 12] = [
            (hello.clone(), &[sni], None),
            (b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n".to_vec(), &["http_host a.example"], None),
            (
                joined(&[b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n", &hello]),
                &["proxy_connect a.example", sni],
                Some("http_connect a.example Some(443)"),
            ),
            (
                joined(&[
                    b"CONNECT a.example:443 HTTP/1.1\r\n\r\n",
                    b"CONNECT a.example:443 HTTP/1.1\r\nProxy-Authorization: Basic eDp5\r\n\r\n",
                    &hello,
                ]),
                &["proxy_connect a.example", sni],
                Some("http_connect a.example Some(443)"),
            ),
            (
                joined(&[b"CONNECT 192.0.2.1:443 HTTP/1.1\r\n\r\n", &hello]),
                &[sni],
                Some("http_connect 192.0.2.1 Some(443)"),
            ),
            (
                b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n".to_vec(),
                &["http_absolute a.example"],
                Some("http a.example None"),
            ),
            (
                joined(&[b"\x05\x01\x00\x05\x01\x00\x03\x09a.example\x01\xbb", &hello]),
                &["socks5 a.example", sni],
                Some("socks5 a.example Some(443)"),
            ),
            (joined(&[b"\x04\x01\x01\xbb\xc0\x00\x02\x01\0", &hello]), &[sni], Some("socks4 192.0.2.1 Some(443)")),
            (joined(&[b"EHLO me.example\r\nSTARTTLS\r\n", &hello]), &[sni], None),
            (joined(&[b"a1 CAPABILITY\r\na2 starttls\r\n", &hello]), &[sni], None),
            (joined(&[b"CAPA\r\nSTLS\r\n", &hello]), &[sni], None),
            (
                joined(&[
                    b"<?xml version='1.0'?><stream:stream to='x.example' xmlns='jabber:client' version='1.0'>",
                    b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
                    &hello,
                ]),
                &[sni],
                None,
            ),
        ];
        for (bytes, names, proxied) in cases {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let shown = String::from_utf8_lossy(&bytes).into_owned();
            assert_eq!(summary(&bytes), (names, proxied.map(str::to_owned), false), "{shown}");
        }
    }

    #[test]
    fn names_of_outer_layers_are_known_before_the_inner_ones() {
        let begun = b"CONNECT a.example:443 HTTP/1.1\r\n\r\n\x16\x03\x01";
        let names = vec!["proxy_connect a.example".to_owned()];
        assert_eq!(summary(begun), (names, Some("http_connect a.example Some(443)".to_owned()), true));
    }

    #[test]
    fn what_holds_no_name_is_given_up() {
        for bytes in
            [&b"SSH-2.0-OpenSSH_9.6\r\n\0\0\x04\x14"[..], b"\0\x1c\xab\xcd\x01\0", b"\xff\xfb\x01", b"\x16\x03\x03\0\0"]
        {
            assert_eq!(summary(bytes), (Vec::new(), None, false), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3_000), is_final: bool) {
            let opening = read(&bytes, is_final);
            prop_assert!(!(is_final && opening.wants_more));
        }

        /// Whatever is cut where: what a part tells, the whole tells too.
        #[test]
        fn a_longer_prefix_tells_no_less(cut in 0usize..400) {
            let whole = joined(&[
                b"\x05\x01\x00\x05\x01\x00\x03\x09a.example\x01\xbbEHLO x\r\nSTARTTLS\r\n",
                &samples::client_hello("inner.example"),
            ]);
            let part = read(whole.get(..cut).unwrap_or(&whole), false);
            let all = read(&whole, false);
            prop_assert!(part.found.iter().all(|found| all.found.contains(found)));
            prop_assert!(part.wants_more || part == all);
        }
    }
}
