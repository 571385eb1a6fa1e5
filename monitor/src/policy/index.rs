//! Sorted keys that point to entries: a few bytes a key, because lists of millions of keys exist.

use std::{
    borrow::Borrow,
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Keys with the positions of the entries that hold them. [`Sorted::finish`] comes between the last push and a look-up.
#[derive(Clone, Debug)]
pub(super) struct Sorted<K>(Vec<(K, u32)>);

impl<K> Default for Sorted<K> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord> Sorted<K> {
    pub(super) fn push(&mut self, key: K, position: u32) {
        self.0.push((key, position));
    }

    pub(super) fn finish(&mut self) {
        self.0.sort_unstable();
        self.0.dedup();
        self.0.shrink_to_fit();
    }

    /// The entries that hold the key, in the order in which they came.
    pub(super) fn get<'index, Q: Ord + ?Sized>(
        &'index self,
        key: &Q,
    ) -> impl Iterator<Item = (&'index K, u32)> + use<'index, K, Q>
    where
        K: Borrow<Q>,
    {
        let start = self.0.partition_point(|(candidate, _)| candidate.borrow() < key);
        let behind = self.0.get(start..).unwrap_or_default();
        let count = behind.iter().take_while(|(candidate, _)| candidate.borrow() == key).count();
        behind.get(..count).unwrap_or_default().iter().map(|(key, position)| (key, *position))
    }

    /// Each key with its positions.
    fn groups(&self) -> impl Iterator<Item = (&K, Vec<u32>)> {
        self.0.chunk_by(|left, right| left.0 == right.0).filter_map(|group| {
            let (key, _) = group.first()?;
            Some((key, group.iter().map(|(_, position)| *position).collect()))
        })
    }
}

/// Prefixes by their length, the longest first, so that a look-up probes no lengths that do not occur.
#[derive(Clone, Debug, Default)]
pub(super) struct PrefixIndex {
    v4: Vec<(u8, Sorted<u32>)>,
    v6: Vec<(u8, Sorted<u128>)>,
}

impl PrefixIndex {
    pub(super) fn push(&mut self, net: IpNet, position: u32) {
        match net {
            IpNet::V4(net) => of_length(&mut self.v4, net.prefix_len()).push(net.network().to_bits(), position),
            IpNet::V6(net) => of_length(&mut self.v6, net.prefix_len()).push(net.network().to_bits(), position),
        }
    }

    pub(super) fn finish(&mut self) {
        self.v4.iter_mut().for_each(|(_, nets)| nets.finish());
        self.v6.iter_mut().for_each(|(_, nets)| nets.finish());
    }

    /// The prefixes that hold the address, the longest first.
    pub(super) fn holding(&self, address: IpAddr) -> impl Iterator<Item = (IpNet, u32)> {
        let (v4, v6) = match address {
            IpAddr::V4(address) => (Some(address.to_bits()), None),
            IpAddr::V6(address) => (None, Some(address.to_bits())),
        };
        let v4 = v4.into_iter().flat_map(move |bits| {
            self.v4.iter().flat_map(move |(length, nets)| {
                let masked = bits & u32::MAX.checked_shl(32 - u32::from(*length)).unwrap_or(0);
                nets.get(&masked).filter_map(move |(_, position)| Some((v4_net(masked, *length)?, position)))
            })
        });
        let v6 = v6.into_iter().flat_map(move |bits| {
            self.v6.iter().flat_map(move |(length, nets)| {
                let masked = bits & u128::MAX.checked_shl(128 - u32::from(*length)).unwrap_or(0);
                nets.get(&masked).filter_map(move |(_, position)| Some((v6_net(masked, *length)?, position)))
            })
        });
        v4.chain(v6)
    }

    /// Each prefix with the positions of its entries.
    pub(super) fn groups(&self) -> impl Iterator<Item = (IpNet, Vec<u32>)> {
        let v4 = self.v4.iter().flat_map(|(length, nets)| {
            nets.groups().filter_map(|(bits, positions)| Some((v4_net(*bits, *length)?, positions)))
        });
        let v6 = self.v6.iter().flat_map(|(length, nets)| {
            nets.groups().filter_map(|(bits, positions)| Some((v6_net(*bits, *length)?, positions)))
        });
        v4.chain(v6)
    }
}

/// The prefixes of one length, kept from the longest length down.
fn of_length<K: Ord>(lengths: &mut Vec<(u8, Sorted<K>)>, length: u8) -> &mut Sorted<K> {
    let found = lengths.binary_search_by(|(candidate, _)| length.cmp(candidate));
    let index = found.unwrap_or_else(|index| {
        lengths.insert(index, (length, Sorted::default()));
        index
    });
    #[expect(clippy::indexing_slicing, reason = "the index was found or filled in the lines above")]
    &mut lengths[index].1
}

fn v4_net(bits: u32, length: u8) -> Option<IpNet> {
    Ipv4Net::new(Ipv4Addr::from_bits(bits), length).ok().map(IpNet::V4)
}

fn v6_net(bits: u128, length: u8) -> Option<IpNet> {
    Ipv6Net::new(Ipv6Addr::from_bits(bits), length).ok().map(IpNet::V6)
}

/// All words of a name, the name as it was written, the entry.
type Organisation = (Box<str>, Arc<str>, u32);

/// Names of organisations. One matches where its words stand in a row in the organisation's name, whatever the case and
/// the marks between them: "China Mobile" is in "CHINA-MOBILE, Ltd.", and not in "Machina Mobile".
#[derive(Clone, Debug, Default)]
pub(super) struct Organisations {
    /// By their first word.
    by_first_word: HashMap<Box<str>, Vec<Organisation>>,
}

impl Organisations {
    pub(super) fn push(&mut self, name: &Arc<str>, position: u32) {
        let words = words(name);
        if let Some(first) = words.split(' ').next().filter(|first| !first.is_empty()) {
            let names = self.by_first_word.entry(first.into()).or_default();
            names.push((words.as_str().into(), Arc::clone(name), position));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_first_word.is_empty()
    }

    /// The names that the organisation's name holds.
    pub(super) fn get(&self, organisation: &str) -> impl Iterator<Item = (Arc<str>, u32)> {
        let text = words(organisation);
        let mut hits = Vec::new();
        let mut rest = Some(text.as_str());
        while let Some(tail) = rest {
            let first = tail.split(' ').next().unwrap_or_default();
            for (wanted, name, position) in self.by_first_word.get(first).into_iter().flatten() {
                let ends = tail.strip_prefix(&**wanted).is_some_and(|after| after.is_empty() || after.starts_with(' '));
                if ends && !hits.iter().any(|(_, seen)| seen == position) {
                    hits.push((Arc::clone(name), *position));
                }
            }
            rest = tail.split_once(' ').map(|(_, next)| next);
        }
        hits.into_iter()
    }
}

/// The words of a name in lower case, with one space between them.
pub(super) fn words(name: &str) -> String {
    let lower = name.to_lowercase();
    lower.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}
