//! Whom a client names: a host by name or by address.

use std::{fmt, net::IpAddr, sync::Arc};

/// Longest name in the domain name system without its trailing dot (RFC 1035, section 2.3.4).
const NAME_BYTES: usize = 253;
/// Longest label (the same).
const LABEL_BYTES: usize = 63;

/// A name of a host: lower case, without a trailing dot, of printable ASCII characters.
///
/// Names on the wire may hold any byte, and a name below a wildcard may be chosen to confuse its reader. Such bytes
/// become `?`, so that the rest of the name is still found on a list.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Arc<str>);

impl HostName {
    /// From text as protocols write it; `None` if it is empty, too long, an address, or has empty labels.
    #[must_use]
    pub fn new(text: &[u8]) -> Option<Self> {
        let text = text.strip_suffix(b".").unwrap_or(text);
        if text.len() > NAME_BYTES {
            return None;
        }
        let name: String = text.iter().map(|byte| readable(*byte)).collect();
        let is_whole = name.split('.').all(|label| (1..=LABEL_BYTES).contains(&label.len()));
        (is_whole && name.parse::<IpAddr>().is_err()).then(|| Self(name.into()))
    }

    /// From the labels of a name in the domain name system; `None` for the root and for what is too long.
    pub(super) fn from_labels<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let mut name = String::new();
        for label in labels.filter(|label| !label.is_empty()) {
            if !name.is_empty() {
                name.push('.');
            }
            // A dot within a label is no separator.
            name.extend(label.iter().map(|byte| if *byte == b'.' { '?' } else { readable(*byte) }));
        }
        (1..=NAME_BYTES).contains(&name.len()).then(|| Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, shared.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// Whether it is `domain` or below it.
    #[must_use]
    pub fn is_within(&self, domain: &str) -> bool {
        self.0.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.as_str())
    }
}

fn readable(byte: u8) -> char {
    if byte.is_ascii_graphic() { byte.to_ascii_lowercase().into() } else { '?' }
}

/// Whom a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// By name.
    Name(HostName),
    /// By address.
    Address(IpAddr),
}

impl Host {
    /// From text that is a name or an address, IPv6 with or without brackets.
    pub(super) fn new(text: &[u8]) -> Option<Self> {
        let plain = text.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")).unwrap_or(text);
        match str::from_utf8(plain).ok().and_then(|text| text.parse::<IpAddr>().ok()) {
            Some(address) => Some(Self::Address(address.to_canonical())),
            None => HostName::new(text).map(Self::Name),
        }
    }

    /// From the authority of a URL (RFC 3986, section 3.2): `[user@]host[:port]`.
    pub(super) fn from_authority(text: &[u8]) -> Option<(Self, Option<u16>)> {
        let text = text.rsplit(|byte| *byte == b'@').next()?;
        let colon =
            text.iter().rposition(|byte| *byte == b':').filter(|colon| !text.get(*colon..).is_some_and(has_bracket));
        let (host, port) = match colon {
            Some(colon) => (text.get(..colon)?, text.get(colon + 1..)?),
            None => (text, &[][..]),
        };
        let port = str::from_utf8(port).ok().and_then(|port| port.parse().ok());
        Self::new(host).map(|host| (host, port))
    }
}

fn has_bracket(text: &[u8]) -> bool {
    text.contains(&b']')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_made_equal_and_addresses_are_no_names() {
        for (text, expected) in [
            ("Example.COM.", Some("example.com")),
            ("a_b.example", Some("a_b.example")),
            ("x\n<b>.example", Some("x?<b>.example")),
            ("", None),
            (".", None),
            ("a..b", None),
            ("192.0.2.1", None),
            ("2001:db8::1", None),
        ] {
            assert_eq!(HostName::new(text.as_bytes()).as_ref().map(HostName::as_str), expected, "{text:?}");
        }
        assert_eq!(HostName::new(&[b'a'; 64]), None);
        assert_eq!(HostName::new("a.".repeat(128).as_bytes()), None);
    }

    #[test]
    fn labels_may_hold_anything() {
        let name = HostName::from_labels([&b"A.b"[..], b"example\xff", b""].into_iter()).unwrap();
        assert_eq!(name.as_str(), "a?b.example?");
        assert_eq!(HostName::from_labels([&b""[..]].into_iter()), None);
    }

    #[test]
    fn a_domain_holds_itself_and_what_is_below() {
        let name = HostName::new(b"www.example.com").unwrap();
        assert!(name.is_within("example.com") && name.is_within("www.example.com") && name.is_within("com"));
        assert!(!name.is_within("ample.com") && !name.is_within("a.www.example.com"));
    }

    #[test]
    fn authorities_are_taken_apart() {
        for (text, expected) in [
            ("example.com", Some(("example.com", None))),
            ("example.com:8443", Some(("example.com", Some(8_443)))),
            ("user:pass@example.com:80", Some(("example.com", Some(80)))),
            ("192.0.2.1:80", Some(("192.0.2.1", Some(80)))),
            ("[2001:db8::1]:443", Some(("2001:db8::1", Some(443)))),
            ("[2001:db8::1]", Some(("2001:db8::1", None))),
            ("[::ffff:192.0.2.1]:1", Some(("192.0.2.1", Some(1)))),
            ("example.com:99999", Some(("example.com", None))),
            (":80", None),
        ] {
            let found = Host::from_authority(text.as_bytes()).map(|(host, port)| {
                let host = match host {
                    Host::Name(name) => name.to_string(),
                    Host::Address(address) => address.to_string(),
                };
                (host, port)
            });
            assert_eq!(found, expected.map(|(host, port)| (host.to_owned(), port)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_printable_name_or_none(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let names = [HostName::new(&text), HostName::from_labels(text.chunks(63))];
            for name in names.into_iter().flatten() {
                prop_assert!(name.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(name.as_str().len() <= NAME_BYTES);
            }
            let _ = Host::from_authority(&text);
        }
    }
}
