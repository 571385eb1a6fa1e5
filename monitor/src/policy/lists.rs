//! All lists in one index: which entries does an address, a network or a name hit.

use std::{collections::HashMap, hash::Hash, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::{Entity, List, ListError, ListHeader, Match, MatchKey};
use crate::ownership::{CountryCode, Owner};

/// Longest name in the domain name system without its trailing dot (RFC 1035, section 2.3.4).
const NAME_BYTES: usize = 253;

/// The embedded files by name; a test holds this table against the directory.
const EMBEDDED: [(&str, &str); 13] = [
    ("app-deepseek.toml", include_str!("../../lists/app-deepseek.toml")),
    ("cn-bytedance.toml", include_str!("../../lists/cn-bytedance.toml")),
    ("eu-media.toml", include_str!("../../lists/eu-media.toml")),
    ("eu-sanctions.toml", include_str!("../../lists/eu-sanctions.toml")),
    ("ru-platforms.toml", include_str!("../../lists/ru-platforms.toml")),
    ("us-bis-entity.toml", include_str!("../../lists/us-bis-entity.toml")),
    ("us-dod-1260h.toml", include_str!("../../lists/us-dod-1260h.toml")),
    ("us-doj-dsp.toml", include_str!("../../lists/us-doj-dsp.toml")),
    ("us-fcc-covered.toml", include_str!("../../lists/us-fcc-covered.toml")),
    ("us-ndaa-889.toml", include_str!("../../lists/us-ndaa-889.toml")),
    ("us-ofac-dir3.toml", include_str!("../../lists/us-ofac-dir3.toml")),
    ("us-ofac-ns-cmic.toml", include_str!("../../lists/us-ofac-ns-cmic.toml")),
    ("us-ofac-sdn.toml", include_str!("../../lists/us-ofac-sdn.toml")),
];

/// Every list, indexed by key. Matching allocates only when something matches.
///
/// The methods without `_all` look at enabled lists only and are meant for flows; those with `_all` look at every list
/// and are meant for people who ask about an address or a name: `list.enabled` of each match tells the two apart.
#[derive(Clone, Debug)]
pub struct Lists {
    summaries: Vec<ListSummary>,
    entries: Vec<Entry>,
    asns: Index<u32>,
    countries: Index<CountryCode>,
    domains: HashMap<Arc<str>, Vec<usize>>,
    prefixes: Index<IpNet>,
    /// Prefix lengths that occur, longest first, so that a look-up probes no others.
    lengths_v4: Vec<u8>,
    lengths_v6: Vec<u8>,
}

/// A list's title page and how much it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListSummary {
    /// The title page; `enabled` as configured.
    pub header: Arc<ListHeader>,
    /// File it came from.
    pub file: String,
    /// How much it holds.
    pub counts: EntryCounts,
}

/// Entries of a list by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryCounts {
    /// Entities.
    pub entities: usize,
    /// Entities that were not checked at the source.
    pub unverified: usize,
    /// Autonomous systems.
    pub asns: usize,
    /// Domains.
    pub domains: usize,
    /// Countries.
    pub countries: usize,
    /// Prefixes.
    pub cidrs: usize,
}

/// Positions in `Lists::entries` by key.
type Index<K> = HashMap<K, Vec<usize>>;

#[derive(Clone, Debug)]
struct Entry {
    list: Arc<ListHeader>,
    entity: Entity,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Enabled,
    All,
}

impl Lists {
    /// The embedded lists, switched as their files say.
    pub fn embedded() -> Result<Self, ListError> {
        Self::new(Self::embedded_files()?, &[], &[])
    }

    /// The embedded lists as their files give them, to be joined with lists of the user for [`Lists::new`].
    pub fn embedded_files() -> Result<Vec<List>, ListError> {
        EMBEDDED.iter().map(|(file, text)| List::parse(file, text)).collect()
    }

    /// Indexes `lists`. The ids in `enable` and `disable` overrule what the files say.
    pub fn new(
        lists: impl IntoIterator<Item = List>,
        enable: &[String],
        disable: &[String],
    ) -> Result<Self, ListError> {
        let mut built = Self {
            summaries: Vec::new(),
            entries: Vec::new(),
            asns: Index::new(),
            countries: Index::new(),
            domains: HashMap::new(),
            prefixes: Index::new(),
            lengths_v4: Vec::new(),
            lengths_v6: Vec::new(),
        };
        for list in lists {
            built.add(list, enable, disable)?;
        }
        let known = |id: &str| built.summaries.iter().any(|summary| &*summary.header.id == id);
        if let Some(id) = enable.iter().chain(disable).find(|id| !known(id)) {
            let ids: Vec<&str> = built.summaries.iter().map(|summary| &*summary.header.id).collect();
            return Err(ListError::UnknownId { id: id.clone(), known: ids.join(", ") });
        }
        if let Some(id) = enable.iter().find(|id| disable.contains(id)) {
            return Err(ListError::Contradiction { id: id.clone() });
        }
        for lengths in [&mut built.lengths_v4, &mut built.lengths_v6] {
            lengths.sort_unstable_by(|left, right| right.cmp(left));
            lengths.dedup();
        }
        Ok(built)
    }

    /// Entries of enabled lists that an address and its owner hit: by origin AS, prefix, AS country and registered
    /// country. IPv4-mapped addresses are matched as IPv4.
    #[must_use]
    pub fn match_address(&self, address: IpAddr, owner: &Owner) -> Vec<Match> {
        self.address(address, owner, Which::Enabled)
    }

    /// As [`Self::match_address`], over every list.
    #[must_use]
    pub fn match_address_all(&self, address: IpAddr, owner: &Owner) -> Vec<Match> {
        self.address(address, owner, Which::All)
    }

    /// Entries of enabled lists whose domain is `name` or a parent of it, the longest domain first. Case and a trailing
    /// dot do not matter; international names are matched in their ASCII form (`xn--…`).
    #[must_use]
    pub fn match_name(&self, name: &str) -> Vec<Match> {
        self.name(name, Which::Enabled)
    }

    /// As [`Self::match_name`], over every list.
    #[must_use]
    pub fn match_name_all(&self, name: &str) -> Vec<Match> {
        self.name(name, Which::All)
    }

    /// Entries of enabled lists that hold the autonomous system.
    #[must_use]
    pub fn match_asn(&self, asn: u32) -> Vec<Match> {
        let mut matches = Vec::new();
        self.collect(&self.asns, &asn, Which::Enabled, &MatchKey::Asn(asn), &mut matches);
        matches
    }

    /// As [`Self::match_asn`], over every list.
    #[must_use]
    pub fn match_asn_all(&self, asn: u32) -> Vec<Match> {
        let mut matches = Vec::new();
        self.collect(&self.asns, &asn, Which::All, &MatchKey::Asn(asn), &mut matches);
        matches
    }

    /// Title pages and entry counts, in the order the lists were given.
    #[must_use]
    pub fn headers(&self) -> &[ListSummary] {
        &self.summaries
    }

    /// Whether an enabled list holds the network or one of the countries: selects the ranges of the ownership table that
    /// the kernel has to know.
    #[must_use]
    pub fn flags_owner(
        &self,
        asn: Option<u32>,
        as_country: Option<CountryCode>,
        registered_country: Option<CountryCode>,
    ) -> bool {
        asn.is_some_and(|asn| self.is_flagged(&self.asns, &asn))
            || [as_country, registered_country]
                .into_iter()
                .flatten()
                .any(|country| self.is_flagged(&self.countries, &country))
    }

    /// Prefixes of enabled lists, for the kernel; each once, in no order.
    pub fn cidrs(&self) -> impl Iterator<Item = IpNet> {
        self.prefixes.keys().copied().filter(|net| self.is_flagged(&self.prefixes, net))
    }

    fn add(&mut self, list: List, enable: &[String], disable: &[String]) -> Result<(), ListError> {
        let List { mut header, file, entities } = list;
        if let Some(taken) = self.summaries.iter().find(|summary| summary.header.id == header.id) {
            return Err(ListError::DuplicateId { id: header.id.to_string(), first: taken.file.clone(), second: file });
        }
        let is_in = |ids: &[String]| ids.iter().any(|id| **id == *header.id);
        header.enabled = (header.enabled || is_in(enable)) && !is_in(disable);
        let header = Arc::new(header);
        let mut counts = EntryCounts::default();
        for entity in entities {
            counts.entities += 1;
            counts.unverified += usize::from(!entity.verified);
            counts.asns += entity.asns.len();
            counts.domains += entity.domains.len();
            counts.countries += entity.countries.len();
            counts.cidrs += entity.cidrs.len();
            self.index(&entity);
            self.entries.push(Entry { list: Arc::clone(&header), entity });
        }
        self.summaries.push(ListSummary { header, file, counts });
        Ok(())
    }

    fn index(&mut self, entity: &Entity) {
        let position = self.entries.len();
        for asn in &entity.asns {
            self.asns.entry(*asn).or_default().push(position);
        }
        for country in &entity.countries {
            self.countries.entry(*country).or_default().push(position);
        }
        for domain in &entity.domains {
            self.domains.entry(Arc::clone(domain)).or_default().push(position);
        }
        for net in &entity.cidrs {
            let lengths = if net.addr().is_ipv4() { &mut self.lengths_v4 } else { &mut self.lengths_v6 };
            lengths.push(net.prefix_len());
            self.prefixes.entry(*net).or_default().push(position);
        }
    }

    fn address(&self, address: IpAddr, owner: &Owner, which: Which) -> Vec<Match> {
        let address = address.to_canonical();
        let mut matches = Vec::new();
        if let Some(asn) = owner.asn {
            self.collect(&self.asns, &asn, which, &MatchKey::Asn(asn), &mut matches);
        }
        let lengths = if address.is_ipv4() { &self.lengths_v4 } else { &self.lengths_v6 };
        for length in lengths {
            if let Ok(net) = IpNet::new(address, *length) {
                let net = net.trunc();
                self.collect(&self.prefixes, &net, which, &MatchKey::Cidr(net), &mut matches);
            }
        }
        if let Some(country) = owner.as_country {
            self.collect(&self.countries, &country, which, &MatchKey::AsCountry(country), &mut matches);
        }
        if let Some(country) = owner.registered_country {
            self.collect(&self.countries, &country, which, &MatchKey::RegisteredCountry(country), &mut matches);
        }
        matches
    }

    fn name(&self, name: &str, which: Which) -> Vec<Match> {
        let mut matches = Vec::new();
        let name = name.strip_suffix('.').unwrap_or(name);
        let mut buffer = [0; NAME_BYTES];
        let Some(lower) = buffer.get_mut(..name.len()) else {
            return matches;
        };
        lower.copy_from_slice(name.as_bytes());
        lower.make_ascii_lowercase();
        let mut rest = str::from_utf8(lower).ok();
        while let Some(suffix) = rest {
            if let Some((domain, positions)) = self.domains.get_key_value(suffix) {
                self.push(positions, which, &MatchKey::Domain(Arc::clone(domain)), &mut matches);
            }
            rest = suffix.split_once('.').map(|(_, parent)| parent);
        }
        matches
    }

    fn collect<K: Eq + Hash>(
        &self,
        index: &Index<K>,
        key: &K,
        which: Which,
        match_key: &MatchKey,
        matches: &mut Vec<Match>,
    ) {
        if let Some(positions) = index.get(key) {
            self.push(positions, which, match_key, matches);
        }
    }

    fn push(&self, positions: &[usize], which: Which, key: &MatchKey, matches: &mut Vec<Match>) {
        let hits = positions.iter().filter_map(|position| self.entries.get(*position));
        matches.extend(hits.filter(|entry| which == Which::All || entry.list.enabled).map(|Entry { list, entity }| {
            Match {
                list: Arc::clone(list),
                entity: Arc::clone(&entity.name),
                relation: entity.relation,
                authority: entity.authority.clone(),
                key: key.clone(),
                severity: entity.severity,
                verified: entity.verified,
            }
        }));
    }

    fn is_flagged<K: Eq + Hash>(&self, index: &Index<K>, key: &K) -> bool {
        index.get(key).is_some_and(|positions| {
            positions.iter().filter_map(|position| self.entries.get(*position)).any(|entry| entry.list.enabled)
        })
    }
}

#[cfg(test)]
#[path = "lists_tests.rs"]
mod tests;
