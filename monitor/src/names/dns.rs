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
const RECORDS: usize = 512;
/// Longest chain of aliases that is followed; common resolvers stop at 11.
const CHAIN: usize = 16;
/// Bytes before a message on TCP: its length (RFC 1035, section 4.2.2).
pub(super) const PREFIX_BYTES: usize = 2;

/// What messages taught.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answers {
    pub(super) rows: Vec<Row>,
    /// Answers, or pieces of a stream of them, that were not read to their end.
    pub(super) cut: u64,
}

impl Answers {
    /// Adds what others taught.
    pub(super) fn add(&mut self, others: Self) {
        self.rows.extend(others.rows);
        self.cut += others.cut;
    }
}

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
pub(super) fn read(message: &[u8]) -> Answers {
    let Some(message) = response(message) else { return Answers::default() };
    if message.header().rcode() != Rcode::NOERROR {
        return Answers::default();
    }
    let Some(asked) = message.first_question().and_then(|question| host_name(question.qname())) else {
        return Answers::default();
    };
    let records = Records::collect(message);
    Answers { rows: rows(&records, asked), cut: u64::from(records.is_cut) }
}

/// The messages at the beginning of a TCP stream, and how many bytes they take.
pub(super) fn read_stream(bytes: &[u8]) -> (Answers, usize) {
    let mut answers = Answers::default();
    let mut rest = bytes;
    while let Some((message, next)) = split_message(rest) {
        answers.add(read(message));
        rest = next;
    }
    (answers, bytes.len() - rest.len())
}

/// The messages in a piece of a TCP stream, if it holds nothing but whole responses.
pub(super) fn read_whole(bytes: &[u8]) -> Option<Answers> {
    let mut rest = bytes;
    while let Some((message, next)) = split_message(rest) {
        response(message)?;
        rest = next;
    }
    (rest.is_empty() && !bytes.is_empty()).then(|| read_stream(bytes).0)
}

fn split_message(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, after) = bytes.split_first_chunk::<PREFIX_BYTES>()?;
    after.split_at_checked(u16::from_be_bytes(*length).into())
}

fn response(message: &[u8]) -> Option<&Message<[u8]>> {
    let message = Message::from_slice(message).ok()?;
    (message.header().qr() && message.header().opcode() == Opcode::QUERY).then_some(message)
}

/// What an answer section holds, by the name that owns it.
#[derive(Default)]
struct Records {
    /// Aliases.
    aliases: Vec<(HostName, HostName)>,
    addresses: Vec<Address>,
    /// The section has more records than are read, or than can be.
    is_cut: bool,
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
        let mut unread = usize::from(message.header_counts().ancount());
        // After a record that cannot be read the place of the next one is unknown.
        for record in answer.take(RECORDS).map_while(Result::ok) {
            unread = unread.saturating_sub(1);
            if record.class() != Class::IN {
                continue;
            }
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
        records.is_cut = unread > 0;
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
