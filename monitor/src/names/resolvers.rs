//! Well-known servers of DNS over HTTPS, from what browsers offer and what their operators publish (2026-11).

use super::HostName;

/// Domains under which resolvers answer.
const PUBLIC: [&str; 26] = [
    "adguard-dns.com",
    "cloudflare-dns.com",
    "dns.alidns.com",
    "dns.controld.com",
    "dns.digitale-gesellschaft.ch",
    "dns.google",
    "dns.google.com",
    "dns.mullvad.net",
    "dns.nextdns.io",
    "dns.quad9.net",
    "dns0.eu",
    "dns10.quad9.net",
    "dns11.quad9.net",
    "dns9.quad9.net",
    "doh.360.cn",
    "doh.cleanbrowsing.org",
    "doh.dns.sb",
    "doh.opendns.com",
    "doh.pub",
    "doh.xfinity.com",
    "dns64.dns.google",
    "freedns.controld.com",
    "firefox.dns.nextdns.io",
    "one.one.one.one",
    "security.cloudflare-dns.com",
    "wikimedia-dns.org",
];

/// Whether `name` is, or is below, a public resolver's.
pub(super) fn is_public(name: &HostName) -> bool {
    PUBLIC.iter().any(|domain| name.is_within(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_told_from_other_servers_of_their_operators() {
        let is_public = |text: &str| is_public(&HostName::new(text.as_bytes()).unwrap());
        assert!(is_public("dns.google") && is_public("mozilla.cloudflare-dns.com") && is_public("one.one.one.one"));
        assert!(!is_public("www.google.com") && !is_public("cloudflare.com") && !is_public("notdns.google"));
    }
}
