//! Addresses and the names that DNS gave them.

use std::{collections::VecDeque, net::IpAddr, num::NonZeroUsize};

use super::{Asker, HostName, Scope, Source, dns::Row};
use crate::{
    event::{BootTime, ProcessKey},
    recent::Recent,
};

/// Most names that an address keeps, counting each process that asked; the oldest goes first.
const SIGHTINGS: usize = 32;

/// Addresses with their names.
pub(super) struct KnownAddresses {
    addresses: Recent<IpAddr, VecDeque<Sighting>>,
    keep_ns: u64,
    /// Addresses that were forgotten for others.
    pub(super) evicted_addresses: u64,
    /// Names that were forgotten for others of the same address.
    pub(super) evicted_names: u64,
}

/// One name of an address, as one process got it.
#[derive(Clone, Debug)]
pub(super) struct Sighting {
    pub(super) name: HostName,
    pub(super) source: Source,
    pub(super) asked: Option<HostName>,
    pub(super) ttl_s: u32,
    pub(super) seen_at: BootTime,
    process: Option<ProcessKey>,
    network_namespace_cookie: Option<u64>,
}

impl KnownAddresses {
    pub(super) fn new(max_addresses: NonZeroUsize, keep_ns: u64) -> Self {
        Self { addresses: Recent::new(max_addresses), keep_ns, evicted_addresses: 0, evicted_names: 0 }
    }

    /// Notes a name that a process got.
    pub(super) fn insert(
        &mut self,
        row: Row,
        process: Option<ProcessKey>,
        network_namespace_cookie: Option<u64>,
        at: BootTime,
    ) {
        let Row { address, name, source, asked, ttl_s, .. } = row;
        let sighting = Sighting { name, source, asked, ttl_s, seen_at: at, process, network_namespace_cookie };
        self.addresses.touch(&address);
        let Some(sightings) = self.addresses.peek_mut(&address) else {
            if self.addresses.insert(address, VecDeque::from([sighting])).is_some() {
                self.evicted_addresses += 1;
            }
            return;
        };
        let keep_ns = self.keep_ns;
        sightings.retain(|known| !known.is_same(&sighting) && at.since_ns(known.seen_at) <= keep_ns);
        if sightings.len() == SIGHTINGS {
            sightings.pop_back();
            self.evicted_names += 1;
        }
        sightings.push_front(sighting);
    }

    /// The names of `address` as they look from a flow, nearest first, then newest first, each name once a source.
    pub(super) fn names(&mut self, address: IpAddr, asker: &Asker<'_>) -> Vec<(Scope, Sighting)> {
        self.addresses.touch(&address);
        let Some(sightings) = self.addresses.peek(&address) else { return Vec::new() };
        let current = sightings.iter().filter(|known| asker.at.since_ns(known.seen_at) <= self.keep_ns);
        let mut scoped: Vec<_> = current.map(|known| (known.scope(asker), known.clone())).collect();
        // Stable: newest first within a scope, the name asked for before its aliases.
        scoped.sort_by_key(|(scope, known)| (*scope, known.source == Source::DnsAlias));
        let mut names: Vec<(Scope, Sighting)> = Vec::new();
        for (scope, known) in scoped {
            let is_told = names.iter().any(|(_, told)| told.name == known.name && told.source == known.source);
            if !is_told {
                names.push((scope, known));
            }
        }
        names
    }

    /// Addresses held.
    pub(super) fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Addresses that there is room for.
    pub(super) fn capacity(&self) -> usize {
        self.addresses.capacity()
    }
}

impl Sighting {
    fn is_same(&self, other: &Self) -> bool {
        (&self.name, self.source, self.process, self.network_namespace_cookie)
            == (&other.name, other.source, other.process, other.network_namespace_cookie)
    }

    fn scope(&self, asker: &Asker<'_>) -> Scope {
        let is_same_namespace = self.network_namespace_cookie == asker.network_namespace_cookie;
        if self.process.is_some() && asker.processes.contains(&self.process) {
            Scope::Process
        } else if self.network_namespace_cookie.is_some() && is_same_namespace {
            Scope::NetworkNamespace
        } else {
            Scope::Host
        }
    }
}
