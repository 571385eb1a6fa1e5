//! What the remote side of a flow was called: by the program that speaks to it, and by the domain name system.
//!
//! Names come from captured payload: DNS answers, and the first bytes of a flow. A name is never more than what somebody
//! said: each keeps its source, who saw it and when, and an address with several names keeps them all. Nothing is ever
//! looked up. Payload stays in this stage, is erased when it was read, and leaves it only as the names in it.

mod answers;
mod config;
mod dns;
mod flow;
mod fragments;
mod host;
mod known;
mod opening;
mod openings;
mod quic;
mod resolvers;

use std::net::IpAddr;

pub use self::{
    config::Config,
    flow::{Asker, FlowNames, NameCaveat, Named, Proxied, ProxyProtocol, Scope, Source},
    host::{Host, HostName},
};

use self::{
    flow::Found,
    known::KnownAddresses,
    openings::{Openings, Step},
};
use crate::{
    event::{BootTime, Capture, Direction, FlowKey, Protocol},
    recent::Recent,
};

/// Port of the domain name system.
const DNS_PORT: u16 = 53;
/// Port of DNS over TLS (RFC 7858) and DNS over QUIC (RFC 9250).
const ENCRYPTED_DNS_PORT: u16 = 853;
/// Most names of one flow that are told.
const NAMES: usize = 24;

/// The names of addresses and flows.
pub struct Names {
    known: KnownAddresses,
    openings: Openings,
    flows: Recent<FlowKey, SaidOnFlow>,
    evicted_flows: u64,
    cut_openings: u64,
    cut_answers: u64,
}

/// What was said on a flow, by whoever opened it.
#[derive(Debug)]
struct SaidOnFlow {
    found: Vec<Found>,
    proxied: Option<Proxied>,
    is_cut: bool,
    at: BootTime,
}

/// What a capture taught.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// More is known of the captured flow itself.
    pub of_flow: bool,
    /// Addresses and names that DNS gave them.
    pub addresses: Vec<(IpAddr, HostName)>,
}

/// Why names may be missing that could be known, with how often that was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameLosses {
    /// Flows whose first bytes were given up for those of others before their name was found.
    pub openings: u64,
    /// Addresses whose names were forgotten for others.
    pub addresses: u64,
    /// Names of an address that were forgotten for other names of it.
    pub names: u64,
    /// Flows whose own names were forgotten for others.
    pub flows: u64,
    /// Flows whose first bytes were longer than what is captured of them, so that a name may stand in the rest.
    pub cut_openings: u64,
    /// DNS answers, and pieces of a stream of them, that were not read to their end.
    pub cut_answers: u64,
}

impl NameLosses {
    /// Each reason as a stable token, with its count.
    #[must_use]
    pub const fn by_reason(&self) -> [(&'static str, u64); 6] {
        [
            ("name_openings_full", self.openings),
            ("name_addresses_full", self.addresses),
            ("name_address_full", self.names),
            ("name_flows_full", self.flows),
            ("name_opening_cut", self.cut_openings),
            ("name_dns_cut", self.cut_answers),
        ]
    }
}

impl Names {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            known: KnownAddresses::new(config.max_addresses, config.keep.as_ns()),
            openings: Openings::new(config.max_openings, config.opening_memory),
            flows: Recent::new(config.max_flows),
            evicted_flows: 0,
            cut_openings: 0,
            cut_answers: 0,
        }
    }

    /// How full the tables are: name, entries, capacity.
    #[must_use]
    pub fn occupancy(&self) -> [(&'static str, usize, usize); 2] {
        [
            ("named_addresses", self.known.len(), self.known.capacity()),
            ("named_flows", self.flows.len(), self.flows.capacity()),
        ]
    }

    /// Reads captured payload.
    pub fn take_in(&mut self, capture: &Capture) -> Learned {
        let mut learned = Learned::default();
        let is_dns = capture.key.remote.port() == DNS_PORT;
        match (capture.key.protocol, capture.direction) {
            (Protocol::Udp, Direction::In) if is_dns => self.learn(dns::read(&capture.data), capture, &mut learned),
            (Protocol::Tcp, Direction::In) if is_dns => {
                let answers = self.openings.read_answers(capture);
                self.learn(answers, capture, &mut learned);
            }
            (Protocol::Udp, Direction::Out) if !is_dns => {
                let step = self.openings.read_datagram(capture);
                learned.of_flow = self.note(capture, step);
            }
            (Protocol::Tcp, Direction::Out) => {
                let step = self.openings.read_segment(capture);
                learned.of_flow = self.note(capture, step);
            }
            _ => {}
        }
        learned
    }

    /// Everything that the remote side of a flow was called, best first: what was said on the flow, then what DNS told
    /// its process, its network namespace, the host.
    ///
    /// All of it is told, but a list is not asked for a name that others got while a nearer one is known, because an
    /// address may serve thousands of names. Names on the flow and those that its process got are near. Without any,
    /// those of the network namespace are, because a resolver on the loopback asks for everybody in it; without them
    /// those of the host. A name in a `ClientHello` that offers an encrypted one is near only if DNS gave it this address
    /// as well: else it may be a provider's public name, and the names that others got count too.
    pub fn of(&mut self, asker: &Asker<'_>) -> FlowNames {
        let said = self.flows.peek(asker.key);
        let proxied = said.and_then(|said| said.proxied.clone());
        let is_cut = said.is_some_and(|said| said.is_cut);
        let mut names: Vec<Named> =
            said.into_iter().flat_map(|said| said.found.iter().map(|one| one.named(said.at))).collect();
        self.flows.touch(asker.key);
        let remote = asker.key.remote.ip().to_canonical();
        let target = proxied.as_ref().and_then(Proxied::address);
        for address in target.into_iter().chain([remote]) {
            names.extend(self.known.names(address, asker).into_iter().map(|(scope, known)| Named {
                name: known.name,
                source: known.source,
                scope,
                seen_at: known.seen_at,
                ttl_s: Some(known.ttl_s),
                asked: known.asked,
                offers_ech: false,
                is_decisive: false,
            }));
        }
        names.sort_by_key(|named| named.scope);
        decide(&mut names);
        names.truncate(NAMES);
        let caveats = caveats(asker.key, &names, is_cut);
        FlowNames { names, proxied, caveats }
    }

    /// Forgets what was said on a flow that has ended.
    pub fn forget(&mut self, key: &FlowKey) {
        self.flows.remove(key);
        self.openings.forget(key);
    }

    /// What was given up.
    #[must_use]
    pub fn losses(&self) -> NameLosses {
        NameLosses {
            openings: self.openings.evicted(),
            addresses: self.known.evicted_addresses,
            names: self.known.evicted_names,
            flows: self.evicted_flows,
            cut_openings: self.cut_openings,
            cut_answers: self.cut_answers,
        }
    }

    /// Addresses with names, and captured bytes held now.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        (self.known.len(), self.openings.bytes())
    }

    fn learn(&mut self, answers: dns::Answers, capture: &Capture, learned: &mut Learned) {
        self.cut_answers += answers.cut;
        for row in answers.rows {
            learned.addresses.push((row.address, row.name.clone()));
            self.known.insert(row, capture.process, capture.network_namespace_cookie, capture.at);
        }
    }

    /// Keeps what was said on a flow; says whether that is more than was known.
    fn note(&mut self, capture: &Capture, step: Option<Step>) -> bool {
        let Some(Step { found, proxied, is_cut }) = step.filter(|step| !step.is_empty()) else { return false };
        self.cut_openings += u64::from(is_cut);
        if let Some(said) = self.flows.peek_mut(&capture.key) {
            let is_news = said.found != found || said.proxied != proxied || said.is_cut != is_cut;
            (said.found, said.proxied, said.is_cut) = (found, proxied, is_cut);
            return is_news;
        }
        if self.flows.insert(capture.key, SaidOnFlow { found, proxied, is_cut, at: capture.at }).is_some() {
            self.evicted_flows += 1;
        }
        true
    }
}

impl Found {
    fn named(&self, at: BootTime) -> Named {
        Named {
            name: self.name.clone(),
            source: self.source,
            scope: Scope::Flow,
            seen_at: at,
            ttl_s: None,
            asked: None,
            offers_ech: self.offers_ech,
            is_decisive: false,
        }
    }
}

/// Marks the names to decide on, see [`Names::of`].
fn decide(names: &mut [Named]) {
    let is_confirmed = |named: &Named| {
        !named.offers_ech || names.iter().any(|other| other.scope > Scope::Flow && other.name == named.name)
    };
    let mut farthest = names.iter().map(|named| named.scope).max().unwrap_or(Scope::Flow);
    let near = |scope| names.iter().any(|named| named.scope == scope && (scope != Scope::Flow || is_confirmed(named)));
    if near(Scope::Flow) || near(Scope::Process) {
        farthest = Scope::Process;
    } else if near(Scope::NetworkNamespace) {
        farthest = Scope::NetworkNamespace;
    }
    for named in names {
        named.is_decisive = named.scope <= farthest;
    }
}

fn caveats(key: &FlowKey, names: &[Named], is_cut: bool) -> Vec<NameCaveat> {
    let said = || names.iter().filter(|named| named.scope == Scope::Flow);
    let is_encrypted_dns = key.remote.port() == ENCRYPTED_DNS_PORT;
    [
        (said().any(|named| named.offers_ech), NameCaveat::EchOffered),
        (is_encrypted_dns && key.protocol == Protocol::Tcp, NameCaveat::DnsOverTls),
        (is_encrypted_dns && key.protocol == Protocol::Udp, NameCaveat::DnsOverQuic),
        (said().any(|named| resolvers::is_public(&named.name)), NameCaveat::DnsOverHttps),
        (is_cut, NameCaveat::OpeningCut),
    ]
    .into_iter()
    .filter_map(|(holds, caveat)| holds.then_some(caveat))
    .collect()
}

#[cfg(test)]
mod tests;
