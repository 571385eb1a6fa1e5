//! All lists in one index: which entries does an address, a network or a name hit.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ipnet::IpNet;

use super::{
    Action, Entity, List, ListError, ListHeader, Match, MatchKey, Relation, Severity,
    index::{Organisations, PrefixIndex, Sorted},
};
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
/// Matches that an enabled list of [`Action::Ignore`] spares are left out by the former and shown by the latter, with
/// those of the ignoring list itself.
#[derive(Clone, Debug)]
pub struct Lists {
    summaries: Vec<ListSummary>,
    entries: Vec<Entry>,
    asns: Sorted<u32>,
    countries: Sorted<CountryCode>,
    domains: Sorted<Arc<str>>,
    prefixes: PrefixIndex,
    organisations: Organisations,
    /// What each ignoring list spares, by its id.
    spared: HashMap<Arc<str>, Spared>,
}

/// What an ignoring list spares, and how often it did.
#[derive(Clone, Debug, Default)]
struct Spared {
    lists: HashSet<Arc<str>>,
    matches: Arc<AtomicU64>,
}

/// What the configuration says about lists over what their files say.
#[derive(Clone, Copy, Debug)]
pub struct Switches<'a> {
    /// Ids of lists to switch on.
    pub enable: &'a [String],
    /// Ids of lists to switch off.
    pub disable: &'a [String],
    /// The severity of every match of a list, by its id.
    pub severity: &'a BTreeMap<String, Severity>,
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
    /// Names of organisations.
    pub organisations: usize,
}

/// What a match tells of an entity. Its keys are in the indexes alone: a list may hold a million.
#[derive(Clone, Debug)]
struct Entry {
    list: Arc<ListHeader>,
    name: Arc<str>,
    relation: Relation,
    authority: Option<Arc<str>>,
    severity: Severity,
    verified: bool,
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
        let embedded = |(file, text): &(&str, &str)| Ok(List { is_embedded: true, ..List::parse(file, text)? });
        EMBEDDED.iter().map(embedded).collect()
    }

    /// Indexes `lists`. The ids in `enable` and `disable` overrule what the files say.
    pub fn new(
        lists: impl IntoIterator<Item = List>,
        enable: &[String],
        disable: &[String],
    ) -> Result<Self, ListError> {
        Self::switched(lists, Switches { enable, disable, severity: &BTreeMap::new() })
    }

    /// Indexes `lists`, switched as the configuration says.
    pub fn switched(lists: impl IntoIterator<Item = List>, switches: Switches<'_>) -> Result<Self, ListError> {
        let mut built = Self {
            summaries: Vec::new(),
            entries: Vec::new(),
            asns: Sorted::default(),
            countries: Sorted::default(),
            domains: Sorted::default(),
            prefixes: PrefixIndex::default(),
            organisations: Organisations::default(),
            spared: HashMap::new(),
        };
        let (mut own, mut ignoring, mut errors) = (HashSet::new(), Vec::new(), Vec::new());
        for list in lists {
            if !list.is_embedded {
                own.insert(Arc::clone(&list.header.id));
            }
            if list.header.action == Action::Ignore {
                ignoring.push((Arc::clone(&list.header.id), list.applies_to.clone()));
            }
            errors.extend(built.add(list, switches).err());
        }
        let Switches { enable, disable, severity } = switches;
        let mut unknown: Vec<&String> = enable.iter().chain(disable).chain(severity.keys()).collect();
        unknown.retain(|id| !built.has(id));
        unknown.dedup();
        errors
            .extend(unknown.into_iter().map(|id| ListError::UnknownId { id: id.clone(), instead: built.instead(id) }));
        let both = enable.iter().filter(|id| disable.contains(id));
        errors.extend(both.map(|id| ListError::Contradiction { id: id.clone() }));
        for (list, applies_to) in ignoring {
            errors.extend(applies_to.iter().filter(|id| !built.has(id)).map(|id| ListError::UnknownTarget {
                list: list.to_string(),
                id: id.to_string(),
                instead: built.instead(id),
            }));
            let lists = if applies_to.is_empty() { own.clone() } else { applies_to.into_iter().collect() };
            built.spared.insert(list, Spared { lists, ..Spared::default() });
        }
        if let Some(error) = ListError::all(errors) {
            return Err(error);
        }
        built.asns.finish();
        built.countries.finish();
        built.domains.finish();
        built.prefixes.finish();
        Ok(built)
    }

    /// Entries of enabled lists that an address and its owner hit: by origin AS, organisation, prefix, AS country and
    /// registered country. IPv4-mapped addresses are matched as IPv4.
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
        self.asn(asn, Which::Enabled, &mut matches);
        self.without_spared(matches, Which::Enabled)
    }

    /// As [`Self::match_asn`], over every list.
    #[must_use]
    pub fn match_asn_all(&self, asn: u32) -> Vec<Match> {
        let mut matches = Vec::new();
        self.asn(asn, Which::All, &mut matches);
        matches
    }

    /// Title pages and entry counts, in the order the lists were given.
    #[must_use]
    pub fn headers(&self) -> &[ListSummary] {
        &self.summaries
    }

    /// The ids of all, also of those that are switched off.
    #[must_use]
    pub fn ids(&self) -> Vec<Arc<str>> {
        self.summaries.iter().map(|summary| Arc::clone(&summary.header.id)).collect()
    }

    /// How many matches each ignoring list has spared since the lists were read, by its id.
    pub fn spared(&self) -> impl Iterator<Item = (&str, u64)> {
        self.spared.iter().map(|(id, spared)| (&**id, spared.matches.load(Ordering::Relaxed)))
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
        asn.is_some_and(|asn| self.alert(self.asns.get(&asn).map(|(_, position)| position)))
            || [as_country, registered_country]
                .into_iter()
                .flatten()
                .any(|country| self.alert(self.countries.get(&country).map(|(_, position)| position)))
    }

    /// Whether an enabled list holds an organisation of this name.
    #[must_use]
    pub fn flags_organisation(&self, name: &str) -> bool {
        self.alert(self.organisations.get(name).map(|(_, position)| position))
    }

    /// Whether any list holds names of organisations.
    #[must_use]
    pub fn have_organisations(&self) -> bool {
        !self.organisations.is_empty()
    }

    /// Prefixes of enabled lists, for the kernel; each once.
    pub fn cidrs(&self) -> impl Iterator<Item = IpNet> {
        self.prefixes.groups().filter(|(_, positions)| self.alert(positions.iter().copied())).map(|(net, _)| net)
    }

    fn has(&self, id: &str) -> bool {
        self.summaries.iter().any(|summary| &*summary.header.id == id)
    }

    fn instead(&self, id: &str) -> String {
        super::instead(id, self.summaries.iter().map(|summary| &*summary.header.id))
    }

    fn add(&mut self, list: List, switches: Switches<'_>) -> Result<(), ListError> {
        let List { mut header, file, entities, .. } = list;
        if let Some(taken) = self.summaries.iter().find(|summary| summary.header.id == header.id) {
            return Err(ListError::DuplicateId { id: header.id.to_string(), first: taken.file.clone(), second: file });
        }
        let is_in = |ids: &[String]| ids.iter().any(|id| **id == *header.id);
        header.enabled = (header.enabled || is_in(switches.enable)) && !is_in(switches.disable);
        let severity = switches.severity.get(&*header.id).copied();
        header.severity = severity.unwrap_or(header.severity);
        let header = Arc::new(header);
        let mut counts = EntryCounts::default();
        for entity in entities {
            counts.entities += 1;
            counts.unverified += usize::from(!entity.verified);
            counts.asns += entity.asns.len();
            counts.domains += entity.domains.len();
            counts.countries += entity.countries.len();
            counts.cidrs += entity.cidrs.len();
            counts.organisations += entity.organisations.len();
            self.index(&entity);
            self.entries.push(Entry {
                list: Arc::clone(&header),
                name: entity.name,
                relation: entity.relation,
                authority: entity.authority,
                severity: severity.unwrap_or(entity.severity),
                verified: entity.verified,
            });
        }
        self.summaries.push(ListSummary { header, file, counts });
        Ok(())
    }

    fn index(&mut self, entity: &Entity) {
        let position = self.entries.len() as u32;
        for asn in &entity.asns {
            self.asns.push(*asn, position);
        }
        for country in &entity.countries {
            self.countries.push(*country, position);
        }
        for domain in &entity.domains {
            self.domains.push(Arc::clone(domain), position);
        }
        for net in &entity.cidrs {
            self.prefixes.push(*net, position);
        }
        for organisation in &entity.organisations {
            self.organisations.push(organisation, position);
        }
    }

    fn asn(&self, asn: u32, which: Which, matches: &mut Vec<Match>) {
        for (_, position) in self.asns.get(&asn) {
            self.push(position, which, || MatchKey::Asn(asn), matches);
        }
    }

    fn address(&self, address: IpAddr, owner: &Owner, which: Which) -> Vec<Match> {
        let mut matches = Vec::new();
        if let Some(asn) = owner.asn {
            self.asn(asn, which, &mut matches);
        }
        if let Some(organisation) = owner.organisation.as_deref().filter(|_| !self.organisations.is_empty()) {
            for (name, position) in self.organisations.get(organisation) {
                self.push(position, which, || MatchKey::Organisation(Arc::clone(&name)), &mut matches);
            }
        }
        for (net, position) in self.prefixes.holding(address.to_canonical()) {
            self.push(position, which, || MatchKey::Cidr(net), &mut matches);
        }
        if let Some(country) = owner.as_country {
            for (_, position) in self.countries.get(&country) {
                self.push(position, which, || MatchKey::AsCountry(country), &mut matches);
            }
        }
        if let Some(country) = owner.registered_country {
            for (_, position) in self.countries.get(&country) {
                self.push(position, which, || MatchKey::RegisteredCountry(country), &mut matches);
            }
        }
        self.without_spared(matches, which)
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
            for (domain, position) in self.domains.get(suffix) {
                self.push(position, which, || MatchKey::Domain(Arc::clone(domain)), &mut matches);
            }
            rest = suffix.split_once('.').map(|(_, parent)| parent);
        }
        self.without_spared(matches, which)
    }

    fn push(&self, position: u32, which: Which, key: impl FnOnce() -> MatchKey, matches: &mut Vec<Match>) {
        let entry = self.entries.get(position as usize);
        if let Some(entry) = entry.filter(|entry| which == Which::All || entry.list.enabled) {
            matches.push(Match {
                list: Arc::clone(&entry.list),
                entity: Arc::clone(&entry.name),
                relation: entry.relation,
                authority: entry.authority.clone(),
                key: key(),
                severity: entry.severity,
                verified: entry.verified,
            });
        }
    }

    /// Takes out what an ignoring list among the matches spares, and that list itself. People see both.
    fn without_spared(&self, mut matches: Vec<Match>, which: Which) -> Vec<Match> {
        let ignores = |found: &Match| found.list.action == Action::Ignore;
        if which == Which::All || !matches.iter().any(ignores) {
            return matches;
        }
        let spared: Vec<&Spared> =
            matches.iter().filter(|found| ignores(found)).filter_map(|found| self.spared.get(&found.list.id)).collect();
        matches.retain(|found| {
            if ignores(found) {
                return false;
            }
            let by = spared.iter().find(|spared| spared.lists.contains(&found.list.id));
            by.inspect(|spared| _ = spared.matches.fetch_add(1, Ordering::Relaxed)).is_none()
        });
        matches
    }

    /// Whether one of the entries alerts.
    fn alert(&self, mut positions: impl Iterator<Item = u32>) -> bool {
        positions.any(|position| {
            let list = self.entries.get(position as usize).map(|entry| &entry.list);
            list.is_some_and(|list| list.enabled && list.action == Action::Alert)
        })
    }
}

#[cfg(test)]
#[path = "lists_tests.rs"]
mod tests;
