//! Addresses as the kernel programs move them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IP address in network byte order, IPv4 as `::ffff:a.b.c.d`.
///
/// Two words as they lie in memory and not sixteen bytes: BPF moves and compares an array of bytes one by one, for each
/// packet.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Address([u64; 2]);

/// The third of four words of an IPv4-mapped address (RFC 4291, section 2.5.5.2).
const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

impl Address {
    /// No address: all zeros.
    pub const NONE: Self = Self([0; 2]);

    /// The address with these bytes.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::many_single_char_names, reason = "bytes have no names")]
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = octets;
        Self([u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p])])
    }

    /// The address with these words, as they lie in memory.
    #[inline(always)]
    #[must_use]
    pub const fn from_words(words: [u32; 4]) -> Self {
        let [first, second, third, fourth] = words;
        Self([joined(first, second), joined(third, fourth)])
    }

    /// An IPv4 address, its four bytes as they lie in memory.
    #[inline(always)]
    #[must_use]
    pub const fn mapped(ipv4: u32) -> Self {
        Self([0, joined(MAPPED, ipv4)])
    }

    /// Whether it is an IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn is_mapped(&self) -> bool {
        let [first, second] = self.0;
        first == 0 && halves(second).0 == MAPPED
    }

    /// Its bytes.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::many_single_char_names, reason = "bytes have no names")]
    pub const fn octets(&self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = self.0[0].to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = self.0[1].to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// The address, IPv4 as such.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        if self.is_mapped() { Ipv4Addr::from(self.ipv4_octets()).into() } else { Ipv6Addr::from(self.octets()).into() }
    }

    /// The address of which each word is what `change` makes of this one's.
    #[inline(always)]
    #[must_use]
    pub fn each(self, change: impl Fn(u64) -> u64) -> Self {
        Self(self.0.map(change))
    }

    /// The last four bytes: all of an IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn ipv4_octets(&self) -> [u8; 4] {
        halves(self.0[1]).1.to_ne_bytes()
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::mapped(u32::from_ne_bytes(address.octets())),
            IpAddr::V6(address) => Self::from_octets(address.octets()),
        }
    }
}

/// The eight bytes of which these are the first and the last four.
#[inline(always)]
const fn joined(first: u32, last: u32) -> u64 {
    if cfg!(target_endian = "little") { first as u64 | (last as u64) << 32 } else { (first as u64) << 32 | last as u64 }
}

/// The first and the last four bytes.
#[inline(always)]
const fn halves(word: u64) -> (u32, u32) {
    let (low, high) = (word as u32, (word >> 32) as u32);
    if cfg!(target_endian = "little") { (low, high) } else { (high, low) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_ipv4_address_is_mapped() {
        let address = Address::mapped(u32::from_ne_bytes([120, 232, 0, 1]));
        assert_eq!(address.octets(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 120, 232, 0, 1]);
        assert_eq!(address.ipv4_octets(), [120, 232, 0, 1]);
        assert!(address.is_mapped());
        assert_eq!(address.ip(), IpAddr::from([120, 232, 0, 1]));
        assert_eq!(Address::from(address.ip()), address);
    }

    #[test]
    fn what_only_looks_like_one_is_not() {
        for octets in [
            [0; 16],
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1],
            [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0xff, 0xff, 10, 0, 0, 1],
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 10, 0, 0, 1],
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 10, 0, 0, 1],
        ] {
            assert!(!Address::from_octets(octets).is_mapped(), "{octets:?}");
        }
    }

    proptest! {
        #[test]
        fn bytes_and_words_are_the_same_address(octets: [u8; 16]) {
            let address = Address::from_octets(octets);
            prop_assert_eq!(address.octets(), octets);
            prop_assert_eq!(Address::from(IpAddr::from(octets)), address);
            let mut words = [0; 4];
            for (word, bytes) in words.iter_mut().zip(octets.as_chunks::<4>().0) {
                *word = u32::from_ne_bytes(*bytes);
            }
            prop_assert_eq!(Address::from_words(words), address);
        }
    }
}
