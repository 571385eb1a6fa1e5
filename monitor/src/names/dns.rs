//! Answers of the domain name system (RFC 1035), with HTTPS and SVCB records (RFC 9460).

use std::{collections::HashSet, net::IpAddr};

use domain::{
    base::{
        Message, ParsedName, Rtype,
        iana::{Class, Opcode, Rcode},
        name::{Label, ToLabelIter},
    },
    rdata::{
        A, Aaaa, Cname, Https, Svcb,
        svcb::value::{Ech, Ipv4Hint, Ipv6Hint},
    },
};

use super::{HostName, Source};

/// Records of an answer that are read.
const RECORDS: usize = 128;
/// Longest chain of aliases that is followed; common resolvers stop at 11.
const CHAIN: usize = 16;
/// Bytes before a message on TCP: its length (RFC 1035, section 4.2.2).
const PREFIX_BYTES: usize = 2;

/// An address that an answer gave, and one of the names that led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) address: IpAddr,
    pub(super) name: HostName,
    /// [`Source::Dns`] or [`Source::DnsHttps`] for the name that was asked for, [`Source::DnsAlias`] for one that it
    /// stands for.
    pub(super) source: Source,
    /// The name that was asked for, where `name` is an alias on the way.
    pub(super) asked: Option<HostName>,
    /// How long the answer may be kept.
    pub(super) ttl_s: u32,
    /// The answer has keys for an encrypted `ClientHello`.
    pub(super) has_ech: bool,
}

/// The addresses in an answer with every name that led to them; none if it is no answer. An answer that is cut off is
/// read up to there.
pub(super) fn read(message: &[u8]) -> Vec<Row> {
    let Ok(message) = Message::from_slice(message) else { return Vec::new() };
    let header = message.header();
    if !header.qr() || header.opcode() != Opcode::QUERY || header.rcode() != Rcode::NOERROR {
        return Vec::new();
    }
    let Some(asked) = message.first_question().and_then(|question| host_name(question.qname())) else {
        return Vec::new();
    };
    rows(&Records::collect(message), asked)
}

/// The messages at the beginning of a TCP stream, and how many bytes they take.
pub(super) fn read_stream(bytes: &[u8]) -> (Vec<Row>, usize) {
    let mut rows = Vec::new();
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<PREFIX_BYTES>()
        && let Some((message, next)) = after.split_at_checked(u16::from_be_bytes(*length).into())
    {
        rows.extend(read(message));
        rest = next;
    }
    (rows, bytes.len() - rest.len())
}

/// What an answer section holds, by the name that owns it.
#[derive(Default)]
struct Records {
    /// Aliases.
    aliases: Vec<(HostName, HostName)>,
    addresses: Vec<Address>,
}

struct Address {
    owner: HostName,
    ip: IpAddr,
    ttl_s: u32,
    /// It is a hint in an HTTPS or SVCB record.
    is_hint: bool,
    has_ech: bool,
}

impl Records {
    fn collect(message: &Message<[u8]>) -> Self {
        let mut records = Self::default();
        let Ok(answer) = message.answer() else { return records };
        // After a record that cannot be read the place of the next one is unknown.
        for record in answer.take(RECORDS).map_while(Result::ok).filter(|record| record.class() == Class::IN) {
            let Some(owner) = host_name(&record.owner()) else { continue };
            let ttl_s = record.ttl().as_secs();
            let address = |address: IpAddr| Address {
                owner: owner.clone(),
                ip: address.to_canonical(),
                ttl_s,
                is_hint: false,
                has_ech: false,
            };
            match record.rtype() {
                Rtype::A => {
                    if let Ok(Some(record)) = record.to_record::<A>() {
                        records.addresses.push(address(record.data().addr().into()));
                    }
                }
                Rtype::AAAA => {
                    if let Ok(Some(record)) = record.to_record::<Aaaa>() {
                        records.addresses.push(address(record.data().addr().into()));
                    }
                }
                Rtype::CNAME => {
                    if let Ok(Some(record)) = record.to_record::<Cname<ParsedName<_>>>()
                        && let Some(target) = host_name(record.data().cname())
                    {
                        records.aliases.push((owner, target));
                    }
                }
                Rtype::HTTPS => {
                    if let Ok(Some(record)) = record.to_record::<Https<_, ParsedName<_>>>() {
                        records.add_service(&owner, ttl_s, record.data());
                    }
                }
                Rtype::SVCB => {
                    if let Ok(Some(record)) = record.to_record::<Svcb<_, ParsedName<_>>>() {
                        records.add_service(&owner, ttl_s, record.data());
                    }
                }
                _ => {}
            }
        }
        records
    }

    fn add_service<Kind, Name: ToLabelIter>(
        &mut self,
        owner: &HostName,
        ttl_s: u32,
        service: &domain::rdata::svcb::SvcbRdata<Kind, &[u8], Name>,
    ) {
        // A target of "." means the owner itself.
        let target = host_name(service.target());
        if let Some(target) = target.filter(|target| target != owner) {
            self.aliases.push((owner.clone(), target));
        }
        let parameters = service.params();
        let has_ech = parameters.first::<Ech<_>>().is_some();
        let ipv4 = parameters.first::<Ipv4Hint<_>>();
        let ipv6 = parameters.first::<Ipv6Hint<_>>();
        let ipv4 = ipv4.iter().flat_map(|hint| hint.iter().map(IpAddr::from).collect::<Vec<_>>());
        let ipv6 = ipv6.iter().flat_map(|hint| hint.iter().map(IpAddr::from).collect::<Vec<_>>());
        for address in ipv4.chain(ipv6).take(RECORDS) {
            let ip = address.to_canonical();
            self.addresses.push(Address { owner: owner.clone(), ip, ttl_s, is_hint: true, has_ech });
        }
    }
}

fn rows(records: &Records, asked: HostName) -> Vec<Row> {
    let mut chain = vec![asked];
    let mut seen: HashSet<HostName> = chain.iter().cloned().collect();
    let mut next = 0;
    while let Some(name) = chain.get(next).cloned()
        && chain.len() < CHAIN
    {
        next += 1;
        for (owner, target) in &records.aliases {
            if *owner == name && seen.insert(target.clone()) {
                chain.push(target.clone());
            }
        }
    }
    let asked = chain.first().map(without_service_labels);
    let mut rows = Vec::new();
    // What the answer says of names that nobody asked for is not believed.
    for address in records.addresses.iter().filter(|address| seen.contains(&address.owner)) {
        let Address { ip: address, ttl_s, has_ech, .. } = *address;
        rows.extend(asked.clone().map(|name| {
            let source = if records.is_hint(address) { Source::DnsHttps } else { Source::Dns };
            Row { address, name, source, asked: None, ttl_s, has_ech }
        }));
        rows.extend(chain.iter().skip(1).map(|name| Row {
            address,
            name: name.clone(),
            source: Source::DnsAlias,
            asked: asked.clone(),
            ttl_s,
            has_ech,
        }));
    }
    rows
}

impl Records {
    /// Whether the address is known by hints only.
    fn is_hint(&self, address: IpAddr) -> bool {
        self.addresses.iter().filter(|other| other.ip == address).all(|other| other.is_hint)
    }
}

/// The name of the host in the name of a service: `_8443._https.example.com` is about `example.com`.
fn without_service_labels(name: &HostName) -> HostName {
    let mut rest = name.as_str();
    while let Some((label, parent)) = rest.split_once('.')
        && label.starts_with('_')
    {
        rest = parent;
    }
    HostName::new(rest.as_bytes()).unwrap_or_else(|| name.clone())
}

fn host_name(name: &impl ToLabelIter) -> Option<HostName> {
    HostName::from_labels(name.iter_labels().map(Label::as_slice))
}

#[cfg(test)]
#[path = "dns_tests.rs"]
pub(super) mod tests;
