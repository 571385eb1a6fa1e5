//! The kernel's copy of what the address alone flags, and how it is brought to another policy without a gap.
//!
//! New prefixes are added first and stale ones removed last, so that at every moment the tries hold all that the old
//! policy and the new one have in common. Between the two steps the kernel flags a little too much, which costs
//! nothing: the daemon matches each flow again.

use std::io;

use aya::maps::{LpmTrie, MapData, MapError, lpm_trie::Key};
use ipnet::{Ipv4Net, Ipv6Net};
use monitor_common::address::Address;
use nix::errno::Errno;

use super::KernelError;

/// Prefixes whose flows ride the alert ring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes {
    /// IPv4 prefixes.
    pub ipv4: Vec<Ipv4Net>,
    /// IPv6 prefixes.
    pub ipv6: Vec<Ipv6Net>,
}

impl Prefixes {
    /// In order, each once, and without bits beyond their length: the form that [`Tries`] takes.
    #[must_use]
    pub fn sorted(self) -> Self {
        let mut ipv4: Vec<_> = self.ipv4.iter().map(Ipv4Net::trunc).collect();
        let mut ipv6: Vec<_> = self.ipv6.iter().map(Ipv6Net::trunc).collect();
        ipv4.sort_unstable();
        ipv4.dedup();
        ipv6.sort_unstable();
        ipv6.dedup();
        Self { ipv4, ipv6 }
    }
}

pub(super) type FlaggedIpv4 = LpmTrie<MapData, [u8; 4], u32>;
pub(super) type FlaggedIpv6 = LpmTrie<MapData, [u8; 16], u32>;

/// The tries of flagged prefixes, with what is in them.
pub struct Tries {
    ipv4: Side<Ipv4Net, FlaggedIpv4>,
    ipv6: Side<Ipv6Net, FlaggedIpv6>,
}

/// How full the tries are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// IPv4 prefixes held.
    pub ipv4: usize,
    /// IPv4 prefixes that there is room for.
    pub ipv4_capacity: usize,
    /// IPv6 prefixes held.
    pub ipv6: usize,
    /// IPv6 prefixes that there is room for.
    pub ipv6_capacity: usize,
}

impl Tries {
    /// Empty tries with room for so many IPv4 and IPv6 prefixes.
    pub(super) const fn new(ipv4: FlaggedIpv4, ipv6: FlaggedIpv6, capacities: (usize, usize)) -> Self {
        Self {
            ipv4: Side { trie: ipv4, held: Vec::new(), capacity: capacities.0 },
            ipv6: Side { trie: ipv6, held: Vec::new(), capacity: capacities.1 },
        }
    }

    /// Adds what is missing of `wanted`, as far as there is room. Returns how many found none.
    pub fn add(&mut self, wanted: &Prefixes) -> Result<usize, KernelError> {
        let failed = |map| move |error| KernelError::Map { map, error };
        let left_out = self.ipv4.add(&wanted.ipv4).map_err(failed("FLAGGED_IPV4"))?;
        Ok(left_out + self.ipv6.add(&wanted.ipv6).map_err(failed("FLAGGED_IPV6"))?)
    }

    /// Removes what is not in `wanted`.
    pub fn remove_others(&mut self, wanted: &Prefixes) -> Result<(), KernelError> {
        let failed = |map| move |error| KernelError::Map { map, error };
        self.ipv4.remove_others(&wanted.ipv4).map_err(failed("FLAGGED_IPV4"))?;
        self.ipv6.remove_others(&wanted.ipv6).map_err(failed("FLAGGED_IPV6"))
    }

    /// Whether a prefix flags an address, IPv4 as in records.
    pub(super) fn flag(&self, address: &Address) -> bool {
        if address.is_mapped() {
            return self.ipv4.trie.get(&Key::new(32, address.ipv4_octets()), 0).is_ok();
        }
        self.ipv6.trie.get(&Key::new(128, address.octets()), 0).is_ok()
    }

    /// How full they are.
    #[must_use]
    pub const fn occupancy(&self) -> Occupancy {
        Occupancy {
            ipv4: self.ipv4.held.len(),
            ipv4_capacity: self.ipv4.capacity,
            ipv6: self.ipv6.held.len(),
            ipv6_capacity: self.ipv6.capacity,
        }
    }
}

/// A map of prefixes.
trait Trie<N> {
    fn insert(&mut self, prefix: &N) -> Result<(), MapError>;
    fn remove(&mut self, prefix: &N) -> Result<(), MapError>;
}

impl Trie<Ipv4Net> for FlaggedIpv4 {
    fn insert(&mut self, prefix: &Ipv4Net) -> Result<(), MapError> {
        LpmTrie::insert(self, &Key::new(u32::from(prefix.prefix_len()), prefix.network().octets()), 1, 0)
    }

    fn remove(&mut self, prefix: &Ipv4Net) -> Result<(), MapError> {
        LpmTrie::remove(self, &Key::new(u32::from(prefix.prefix_len()), prefix.network().octets()))
    }
}

impl Trie<Ipv6Net> for FlaggedIpv6 {
    fn insert(&mut self, prefix: &Ipv6Net) -> Result<(), MapError> {
        LpmTrie::insert(self, &Key::new(u32::from(prefix.prefix_len()), prefix.network().octets()), 1, 0)
    }

    fn remove(&mut self, prefix: &Ipv6Net) -> Result<(), MapError> {
        LpmTrie::remove(self, &Key::new(u32::from(prefix.prefix_len()), prefix.network().octets()))
    }
}

/// One family's trie.
struct Side<N, T> {
    trie: T,
    /// What is in it, in order.
    held: Vec<N>,
    /// The kernel counts prefixes, not the nodes between them.
    capacity: usize,
}

impl<N: Copy + Ord, T: Trie<N>> Side<N, T> {
    fn add(&mut self, wanted: &[N]) -> Result<usize, MapError> {
        let missing = difference(wanted, &self.held);
        let room = self.capacity.saturating_sub(self.held.len());
        let mut added = 0;
        let mut failure = None;
        for prefix in missing.iter().take(room) {
            match self.trie.insert(prefix) {
                Ok(()) => added += 1,
                // No memory for it, or no room: as with a full trie, the rest is left out.
                Err(error) if is_full(&error) => break,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        self.held.extend(missing.iter().take(added));
        self.held.sort_unstable();
        failure.map_or(Ok(missing.len() - added), Err)
    }

    fn remove_others(&mut self, wanted: &[N]) -> Result<(), MapError> {
        for prefix in difference(&self.held, wanted) {
            self.trie.remove(&prefix)?;
            if let Ok(position) = self.held.binary_search(&prefix) {
                self.held.remove(position);
            }
        }
        self.held.shrink_to_fit();
        Ok(())
    }
}

/// What is in `left` and not in `right`; both in order.
fn difference<N: Copy + Ord>(left: &[N], right: &[N]) -> Vec<N> {
    let mut right = right.iter().peekable();
    let mut result = Vec::new();
    for one in left {
        while right.next_if(|other| *other < one).is_some() {}
        if right.peek() != Some(&one) {
            result.push(*one);
        }
    }
    result
}

fn is_full(error: &MapError) -> bool {
    let code = match error {
        MapError::SyscallError(error) => error.io_error.raw_os_error(),
        MapError::IoError(error) => io::Error::raw_os_error(error),
        _ => None,
    };
    [Errno::ENOSPC, Errno::ENOMEM, Errno::E2BIG].into_iter().any(|full| code == Some(full as i32))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// A trie that notes whether it ever lacked what it must always hold.
    #[derive(Default)]
    struct Model {
        held: BTreeSet<u8>,
        always: BTreeSet<u8>,
        had_gap: bool,
    }

    impl Trie<u8> for Model {
        fn insert(&mut self, prefix: &u8) -> Result<(), MapError> {
            self.held.insert(*prefix);
            Ok(())
        }

        fn remove(&mut self, prefix: &u8) -> Result<(), MapError> {
            assert!(self.held.remove(prefix), "{prefix} is not there");
            self.had_gap |= !self.always.is_subset(&self.held);
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn a_trie_ends_with_what_is_wanted_and_never_lacks_what_stays(
            before in proptest::collection::btree_set(any::<u8>(), 0..40),
            after in proptest::collection::btree_set(any::<u8>(), 0..40),
            capacity in 40_usize..80,
        ) {
            let list = |set: &BTreeSet<u8>| set.iter().copied().collect::<Vec<_>>();
            let mut side = Side { trie: Model::default(), held: Vec::new(), capacity };
            prop_assert_eq!(side.add(&list(&before)).unwrap(), 0);
            side.trie.always = before.intersection(&after).copied().collect();
            let left_out = side.add(&list(&after)).unwrap();
            prop_assert_eq!(left_out, before.union(&after).count().saturating_sub(capacity));
            side.remove_others(&list(&after)).unwrap();
            // With the stale ones gone there is room for the rest.
            prop_assert_eq!(side.add(&list(&after)).unwrap(), 0);
            prop_assert_eq!(&side.trie.held, &after);
            prop_assert_eq!(side.held, list(&after));
            prop_assert!(!side.trie.had_gap);
        }
    }

    #[test]
    fn prefixes_are_put_in_order_each_once() {
        let prefixes = Prefixes {
            ipv4: ["192.0.2.9/24", "10.0.0.0/8", "192.0.2.0/24"].map(|text| text.parse().unwrap()).to_vec(),
            ipv6: vec!["2001:db8::1/32".parse().unwrap()],
        };
        let sorted = prefixes.sorted();
        assert_eq!(sorted.ipv4.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.0/8", "192.0.2.0/24"]);
        assert_eq!(sorted.ipv6.iter().map(ToString::to_string).collect::<Vec<_>>(), ["2001:db8::/32"]);
    }
}
