//! The parts of a record that describe a flow: its ends, its process, its owner, its matches.

use std::path::Path;

use crate::{
    alert::{
        WallClock, community_id, input,
        input::Subject,
        record::{
            Account, AutonomousSystem, Boot, Connector, Direction, DirectionFields, Endpoint, ExecutableQuality,
            FlowCaveat, FlowFact, FlowFields, FlowReport, Geo, Hash, Host, KeyFields, KeyKind, LinkFields, ListMatch,
            NameFields, Nat, Network, NetworkType, OperatingSystem, Organization, Outcome, OwnerFields, Package,
            Process, ProcessFields, ProxiedFields, Record, Related, Relative, Rule, RuleCategory, RuleMatch, Thread,
            Threat, ThreatIds, ThresholdFields, Tls, TlsClient, Url, User,
        },
        text,
        time::Timestamp,
    },
    event::{Flow, FlowFacts, Protocol, ReportReason},
    names::{Host as NamedHost, Named, Proxied, Source},
    ownership::Owner,
    policy::{
        Match, MatchKey, Relation,
        rules::{Evidence, RuleHeader},
    },
    process,
};

/// Writes everything that is known of a flow into `record`.
pub(super) fn describe_flow(record: &mut Record, clock: WallClock, subject: &Subject<'_>) {
    let flow = subject.flow;
    let facts = flow.facts;
    let is_inbound = facts.inbound;

    let end = facts.closed.then_some(flow.at);
    record.event.outcome = Some(outcome(facts));
    record.event.start = Some(clock.at(flow.first_at));
    record.event.end = end.map(|at| clock.at(at));
    record.event.duration = Some(end.unwrap_or(flow.last_at).since_ns(flow.first_at));

    let local = local_endpoint(flow);
    let remote = remote_endpoint(subject);
    record.network = Some(network(flow));
    let mut everything = related(subject, &local);
    let (source, destination) = if is_inbound { (remote, local) } else { (local, remote) };
    record.source = Some(source);
    record.destination = Some(destination);

    record.egresswatch.flow = Some(flow_fields(clock, subject));
    record.egresswatch.owner = Some(owner_fields(subject.owner, subject));
    describe_names(record, clock, subject);

    describe_executable(record, subject);
    everything.hash = record.process.iter().filter_map(|process| Some(process.hash.as_ref()?.sha256.clone())).collect();
    record.related = Some(everything);
    record.egresswatch.connector = subject
        .connector
        .filter(|connector| subject.actor.is_none_or(|actor| is_another(actor, connector)))
        .map(connector_fields);
    describe_matches(record, subject.matches);
}

/// Writes what is known of the process that acted and of its executable into `record`.
pub(super) fn describe_executable(record: &mut Record, subject: &Subject<'_>) {
    let Some(actor) = subject.actor else { return };
    describe_process(record, actor);
    super::container::describe(record, subject);
    let Some(file) = subject.file else { return };
    let (hash, package) = (file.hash(), file.package());
    if let Some(process) = &mut record.process {
        process.hash = hash.ok().map(|digest| Hash { sha256: digest.to_string() });
    }
    if let Some(fields) = &mut record.egresswatch.process {
        (fields.hash_gap, fields.package_gap) = (hash.err(), package.err());
    }
    record.package = package.ok().map(|package| Package {
        name: package.name.clone(),
        version: package.version.clone(),
        architecture: package.architecture.clone(),
        kind: package.kind,
    });
}

/// What every record says about the host.
pub(super) fn host(host: input::Host) -> Host {
    Host {
        name: host.hostname.clone(),
        hostname: host.hostname,
        id: host.machine_id,
        architecture: host.architecture,
        boot: host.boot_id.map(|id| Boot { id }),
        os: OperatingSystem {
            kind: "linux",
            kernel: host.kernel,
            name: host.os_name,
            platform: host.os_platform,
            version: host.os_version,
        },
    }
}

fn outcome(facts: FlowFacts) -> Outcome {
    if facts.failed {
        Outcome::Failure
    } else if facts.established || facts.sent || facts.received {
        Outcome::Success
    } else {
        Outcome::Unknown
    }
}

/// The port, unless the protocol has none.
const fn port(port: u16) -> Option<u16> {
    if port == 0 { None } else { Some(port) }
}

/// A count, unless nothing was counted: unknown is not 0.
const fn counted(flow: &Flow, count: u64) -> Option<u64> {
    if flow.facts.untracked { None } else { Some(count) }
}

fn local_endpoint(flow: &Flow) -> Endpoint {
    Endpoint {
        // Before the kernel chose an address, a socket is bound to the unspecified one: that is no address.
        ip: flow.local.map(|local| local.ip().to_canonical()).filter(|ip| !ip.is_unspecified()),
        port: flow.local.and_then(|local| port(local.port())),
        bytes: counted(flow, flow.counters.payload_out_bytes),
        packets: counted(flow, flow.counters.packets_out),
        ..Endpoint::default()
    }
}

fn remote_endpoint(subject: &Subject<'_>) -> Endpoint {
    let flow = subject.flow;
    let owner = subject.owner;
    let organization = owner.organisation.as_deref().map(|organisation| Organization { name: organisation.to_owned() });
    Endpoint {
        ip: flow.key.destination().map(|remote| remote.ip().to_canonical()),
        port: flow.key.destination().and_then(|remote| port(remote.port())),
        domain: subject.names.names.first().map(|named| named.name.to_string()),
        bytes: counted(flow, flow.counters.payload_in_bytes),
        packets: counted(flow, flow.counters.packets_in),
        autonomous_system: (owner.asn.is_some() || organization.is_some())
            .then_some(AutonomousSystem { number: owner.asn, organization }),
        geo: owner.registered_country.map(|country| Geo { country_iso_code: country.to_string() }),
        nat: flow.translated.map(|to| Nat { ip: to.ip().to_canonical(), port: port(to.port()) }),
    }
}

fn network(flow: &Flow) -> Network {
    let protocol = flow.key.protocol;
    let counters = &flow.counters;
    // The id is that of the packets, so of the translated address where there is one.
    let remote = flow.translated.or(flow.key.destination());
    let local = flow.local.filter(|local| !local.ip().is_unspecified());
    Network {
        transport: protocol.to_string(),
        iana_number: protocol.number().map(|number| number.to_string()),
        kind: flow
            .key
            .destination()
            .map(|remote| if remote.ip().to_canonical().is_ipv4() { NetworkType::Ipv4 } else { NetworkType::Ipv6 }),
        direction: if flow.facts.inbound { Direction::Ingress } else { Direction::Egress },
        bytes: counted(flow, counters.payload_out_bytes.saturating_add(counters.payload_in_bytes)),
        packets: counted(flow, counters.packets_out.saturating_add(counters.packets_in)),
        community_id: local
            .filter(|local| local.port() != 0 || !has_ports(protocol))
            .zip(remote)
            .and_then(|(local, remote)| community_id(canonical(local), canonical(remote), protocol)),
    }
}

const fn has_ports(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Tcp | Protocol::Udp | Protocol::Sctp)
}

fn canonical(address: std::net::SocketAddr) -> std::net::SocketAddr {
    std::net::SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn flow_fields(clock: WallClock, subject: &Subject<'_>) -> FlowFields {
    let flow = subject.flow;
    let facts = flow.facts;
    let counters = &flow.counters;
    let direction = |payload_bytes, wire_bytes, packets, queued_bytes, before_bytes| {
        let fields = DirectionFields { payload_bytes, wire_bytes, packets, queued_bytes, before_bytes };
        (!facts.untracked).then_some(fields)
    };
    let chosen = |facts: &[(bool, FlowFact)]| facts.iter().filter(|fact| fact.0).map(|fact| fact.1).collect();
    FlowFields {
        id: flow_id(flow),
        report: match flow.reason {
            ReportReason::Attempt => FlowReport::Attempt,
            ReportReason::Established => FlowReport::Established,
            ReportReason::FirstPayload => FlowReport::FirstPayload,
            ReportReason::Progress => FlowReport::Progress,
            ReportReason::Closed => FlowReport::Closed,
            ReportReason::Sender => FlowReport::Sender,
            ReportReason::Read => FlowReport::Read,
        },
        facts: chosen(&[
            (facts.attempted, FlowFact::Attempted),
            (facts.established, FlowFact::Established),
            (facts.failed, FlowFact::Failed),
            (facts.sent, FlowFact::Sent),
            (facts.received, FlowFact::Received),
            (facts.released, FlowFact::Released),
            (facts.closed, FlowFact::Closed),
            (facts.flagged, FlowFact::Flagged),
        ]),
        caveats: [
            (facts.midstream, FlowCaveat::Midstream),
            (facts.snapshot, FlowCaveat::Snapshot),
            (flow.link.is_some(), FlowCaveat::DestinationNotVisible),
            (facts.untracked, FlowCaveat::Untracked),
            (facts.identity_from_creation, FlowCaveat::IdentityFromCreation),
            (facts.identity_from_listener, FlowCaveat::IdentityFromListener),
            (subject.actor.is_none(), FlowCaveat::ProcessUnknown),
        ]
        .into_iter()
        .filter_map(|(holds, caveat)| holds.then_some(caveat))
        .collect(),
        out: direction(
            counters.payload_out_bytes,
            counters.wire_out_bytes,
            counters.packets_out,
            counters.queued_out_bytes,
            counters.before_out_bytes,
        ),
        inward: direction(
            counters.payload_in_bytes,
            counters.wire_in_bytes,
            counters.packets_in,
            counters.queued_in_bytes,
            counters.before_in_bytes,
        ),
        established: flow.established_at.map(|at| clock.at(at)),
        first_sent: flow.first_sent_at.map(|at| clock.at(at)),
        last: clock.at(flow.last_at),
        link: flow.link.as_ref().map(|link| LinkFields {
            interface_index: link.interface_index,
            interface_name: link.interface_name.clone(),
            ether_type: link.ether_type.map(|number| format!("0x{number:04x}")),
        }),
        network_namespace_cookie: flow.actor().and_then(|actor| actor.network_namespace_cookie),
    }
}

fn owner_fields(owner: &Owner, subject: &Subject<'_>) -> OwnerFields {
    OwnerFields {
        asn: owner.asn,
        organisation: owner.organisation.as_deref().map(str::to_owned),
        as_country: owner.as_country.map(|country| country.to_string()),
        registered_country: owner.registered_country.map(|country| country.to_string()),
        data_date: subject.ownership_date.to_string(),
    }
}

fn describe_names(record: &mut Record, clock: WallClock, subject: &Subject<'_>) {
    let names = subject.names;
    let said = |sources: &[Source]| {
        let first = names.names.iter().find(|named| sources.contains(&named.source))?;
        Some(first.name.to_string())
    };
    record.tls = said(&[Source::TlsSni, Source::QuicSni]).map(|server_name| Tls { client: TlsClient { server_name } });
    record.url = said(&[Source::HttpHost, Source::HttpAbsolute]).map(|domain| Url { domain });
    let own = &mut record.egresswatch;
    own.names = names.names.iter().map(|named| name_fields(named, clock, subject.flow)).collect();
    own.name_caveats = names.caveats.iter().map(|caveat| (*caveat).into()).collect();
    own.proxied = names.proxied.as_ref().map(|proxied| ProxiedFields {
        protocol: proxied.protocol.into(),
        domain: match &proxied.host {
            NamedHost::Name(name) => Some(name.to_string()),
            NamedHost::Address(_) => None,
        },
        ip: proxied.address(),
        port: proxied.port,
        owner: subject.target_owner.map(|owner| owner_fields(owner, subject)),
    });
}

fn flow_id(flow: &Flow) -> String {
    let (cookie, first_ns, protocol) = (flow.key.socket_cookie, flow.first_at.0, flow.key.protocol);
    match flow.key.destination() {
        Some(remote) => format!("{cookie:x}.{first_ns:x}.{protocol}.{remote}"),
        None => format!("{cookie:x}.{first_ns:x}.{protocol}"),
    }
}

/// Whether two descriptions are of different programs: another process, or the same one after it executed another file.
fn is_another(actor: &process::Process, connector: &process::Process) -> bool {
    let program = |process: &process::Process| process.executable.as_ref().map(|executable| executable.path.clone());
    actor.key != connector.key || program(actor) != program(connector)
}

fn name_fields(named: &Named, clock: WallClock, flow: &Flow) -> NameFields {
    NameFields {
        name: named.name.to_string(),
        source: named.source.as_token(),
        scope: named.scope.into(),
        seen_at: clock.at(named.seen_at),
        age_ms: flow.at.since_ns(named.seen_at) / 1_000_000,
        ttl: named.ttl_s,
        asked: named.asked.as_ref().map(ToString::to_string),
        ech: named.offers_ech,
        decisive: named.is_decisive,
    }
}

fn describe_process(record: &mut Record, actor: &process::Process) {
    let real = account(&actor.user);
    let effective = actor.effective_user.as_ref().map(account).filter(|effective| *effective != real);
    let group = account(&actor.group);
    let mut ancestors = actor.ancestors.iter().map(relative);
    record.process = Some(Process {
        entity_id: actor.entity_id.clone(),
        pid: actor.key.pid,
        name: actor.name.clone(),
        executable: actor.executable.as_ref().map(|executable| path(&executable.path)),
        hash: None,
        args: actor.arguments.clone(),
        args_count: (!actor.arguments.is_empty() && !actor.arguments_truncated).then_some(actor.arguments.len() as u64),
        command_line: (!actor.arguments.is_empty()).then(|| text::command_line(&actor.arguments)),
        start: actor.start_wall_ns.map(Timestamp::from_unix_ns),
        thread: Some(Thread { id: actor.thread_id, name: Some(actor.comm.clone()).filter(|comm| !comm.is_empty()) }),
        user: Some(effective.clone().unwrap_or_else(|| real.clone())),
        real_user: effective.is_some().then(|| real.clone()),
        group: Some(group.clone()),
        parent: ancestors.next(),
    });
    record.egresswatch.process = Some(ProcessFields {
        matching: actor.matching.into(),
        hash_gap: None,
        package_gap: None,
        executable_quality: actor.executable.as_ref().map(|executable| match executable.quality {
            process::PathQuality::Exec => ExecutableQuality::Exec,
            process::PathQuality::Proc => ExecutableQuality::Proc,
            process::PathQuality::Inherited => ExecutableQuality::Inherited,
            process::PathQuality::SameFile => ExecutableQuality::SameFile,
        }),
        executable_unlinked: actor.executable.as_ref().map(|executable| executable.unlinked),
        executable_truncated: actor.executable.as_ref().map(|executable| executable.truncated),
        args_truncated: actor.arguments_truncated,
        ancestors: ancestors.collect(),
        cgroup: actor.cgroup.clone(),
        unit: actor.unit.clone(),
        is_own: actor.is_own,
    });
    record.user = Some(User { real, effective });
    record.group = Some(group);
}

fn connector_fields(connector: &process::Process) -> Connector {
    Connector {
        process: Relative {
            entity_id: connector.entity_id.clone(),
            pid: connector.key.pid,
            name: connector.name.clone(),
            executable: connector.executable.as_ref().map(|executable| path(&executable.path)),
        },
        user_id: connector.user.id.to_string(),
        user_name: connector.user.name.clone(),
    }
}

fn relative(ancestor: &process::Ancestor) -> Relative {
    Relative {
        entity_id: ancestor.entity_id.clone(),
        pid: ancestor.key.pid,
        name: ancestor.name.clone(),
        executable: ancestor.executable.as_deref().map(path),
    }
}

fn account(account: &process::Account) -> Account {
    Account { id: account.id.to_string(), name: account.name.clone() }
}

/// A path as text: JSON has no other strings, so bytes that are not UTF-8 become U+FFFD.
fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn related(subject: &Subject<'_>, local: &Endpoint) -> Related {
    let flow = subject.flow;
    let remote = flow.key.destination().map(|remote| remote.ip().to_canonical());
    let mut ip: Vec<_> = local.ip.into_iter().chain(remote).collect();
    ip.extend(flow.translated.map(|to| to.ip().to_canonical()));
    ip.extend(subject.names.proxied.as_ref().and_then(Proxied::address));
    ip.dedup();
    let mut user: Vec<_> = [subject.actor, subject.connector]
        .into_iter()
        .flatten()
        .map(|process| process.user.name.clone().unwrap_or_else(|| process.user.id.to_string()))
        .collect();
    user.dedup();
    let mut hosts: Vec<String> = Vec::new();
    for named in &subject.names.names {
        if !hosts.iter().any(|host| *host == named.name.as_str()) {
            hosts.push(named.name.to_string());
        }
    }
    Related { ip, hosts, hash: Vec::new(), user }
}

fn describe_matches(record: &mut Record, matches: &[Match]) {
    let own = &mut record.egresswatch;
    own.matches = matches.iter().map(list_match).collect();
    for entry in &own.matches {
        if !own.lists.contains(&entry.list) {
            own.lists.push(entry.list.clone());
        }
    }
    let reasons: Vec<_> = own.matches.iter().map(|entry| format!("{} on {}", entry.key.value, entry.list)).collect();
    record.event.reason = (!reasons.is_empty()).then(|| reasons.join(", "));
    // The first of the weightiest, so that the order of the lists decides between equals.
    record.rule = matches.iter().rev().max_by_key(|entry| weight(entry)).map(|entry| Rule {
        id: entry.list.id.to_string(),
        name: entry.list.title.to_string(),
        category: if entry.list.legal_basis.is_some() { RuleCategory::Legal } else { RuleCategory::Topical },
        description: Some(entry.list.about.trim().to_owned()),
        reference: Some(entry.list.source.to_string()),
        ruleset: None,
        version: entry.list.as_of.map(|date| date.to_string()),
    });
}

/// Writes what is known of a rule that matched into `record`.
pub(super) fn describe_rule(record: &mut Record, header: &RuleHeader, evidence: Option<&Evidence>, folded: u64) {
    record.rule = Some(Rule {
        id: header.id.to_string(),
        name: header.title.to_string(),
        category: RuleCategory::Rule,
        description: header.description.as_deref().map(str::to_owned),
        reference: header.references.first().cloned(),
        ruleset: Some(header.file.to_string()),
        version: None,
    });
    record.event.reason = Some(match evidence {
        Some(evidence) => format!("rule {}: {}", header.id, evidence.text),
        None => format!("rule {}", header.id),
    });
    let ids = |ids: Vec<String>| (!ids.is_empty()).then_some(ThreatIds { id: ids });
    let tactic = ids(header.tactics().map(str::to_owned).collect());
    let technique = ids(header.techniques().map(str::to_owned).collect());
    record.threat =
        (tactic.is_some() || technique.is_some()).then_some(Threat { framework: "MITRE ATT&CK", tactic, technique });
    record.egresswatch.rules = vec![RuleMatch {
        id: header.id.to_string(),
        title: header.title.to_string(),
        severity: header.severity,
        tags: header.tags.clone(),
        references: header.references.clone(),
        threshold: evidence.map(|evidence| ThresholdFields {
            kind: evidence.kind.to_owned(),
            observed: evidence.observed,
            limit: evidence.limit,
            window: evidence.window_s,
        }),
        folded,
    }];
}

/// What makes one match tell more than another: severity, then how close it is to what the list names, then whether
/// it was checked.
fn weight(entry: &Match) -> (crate::policy::Severity, u8, bool) {
    let closeness = match entry.relation {
        Relation::Named => 3,
        Relation::Parent => 2,
        Relation::Affiliate => 1,
        Relation::Topical => 0,
    };
    (entry.severity, closeness, entry.verified)
}

fn list_match(entry: &Match) -> ListMatch {
    ListMatch {
        list: entry.list.id.to_string(),
        title: entry.list.title.to_string(),
        entity: entry.entity.to_string(),
        relation: entry.relation,
        legal_basis: entry.list.legal_basis.as_deref().map(str::to_owned),
        authority: entry.authority.as_deref().map(str::to_owned),
        as_of: entry.list.as_of.map(|date| date.to_string()),
        source: entry.list.source.to_string(),
        key: key_fields(&entry.key),
        severity: entry.severity,
        verified: entry.verified,
        is_new: None,
    }
}

fn key_fields(key: &MatchKey) -> KeyFields {
    let (kind, value) = match key {
        MatchKey::Asn(number) => (KeyKind::Asn, format!("AS{number}")),
        MatchKey::Cidr(network) => (KeyKind::Cidr, network.to_string()),
        MatchKey::Domain(domain) => (KeyKind::Domain, domain.to_string()),
        MatchKey::Organisation(name) => (KeyKind::Organisation, name.to_string()),
        MatchKey::AsCountry(country) => (KeyKind::AsCountry, country.to_string()),
        MatchKey::RegisteredCountry(country) => (KeyKind::RegisteredCountry, country.to_string()),
    };
    KeyFields { kind, value }
}
