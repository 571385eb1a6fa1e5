//! The words that `message` and the lines for people share. Everything that comes from outside is made printable here.

use std::net::SocketAddr;

use super::{
    input::Phase,
    record::{
        Cause, Dataset, Direction, Endpoint, FlowCaveat, Level, LossFields, NameFields, NameScope, Outcome, Own,
        Record, StatusFields,
    },
    text::{humane_bytes, humane_duration, printable},
};

/// Who acted, where no hook could tell.
const UNKNOWN_PROCESS: &str = "an unknown process";

/// Characters of a container's id that a line for people shows, as the runtimes' own tools do.
const SHORT_ID: usize = 12;

/// Names that a line for people shows; records hold them all.
const NAMES: usize = 4;

/// Fills in `message`, which needs the rest of the record.
pub(super) fn finish(mut record: Record) -> Record {
    record.message = match record.event.dataset {
        Dataset::Alert => alert(&record),
        Dataset::Flow => flow(&record),
        Dataset::Executable => format!("{} runs {}", actor(&record), executable(&record)),
        Dataset::Loss => record.egresswatch.loss.as_ref().map(loss).unwrap_or_default(),
        Dataset::Degradation => format!("Degraded by {}", degradation(&record.egresswatch)),
        Dataset::Status => record.egresswatch.status.as_ref().map(status).unwrap_or_default(),
    } + ".";
    // A program's name keeps its own spelling, even at the beginning of a sentence.
    if let Some(rest) = record.message.strip_prefix(UNKNOWN_PROCESS) {
        record.message = format!("An unknown process{rest}");
    }
    record
}

/// `chromium (pid 4242, user ada)`.
pub(super) fn actor(record: &Record) -> String {
    let Some(process) = &record.process else { return UNKNOWN_PROCESS.to_owned() };
    let user = record.user.as_ref().map(|user| &user.real).map_or_else(String::new, |user| {
        format!(", user {}", user.name.as_deref().map_or_else(|| user.id.clone(), printable))
    });
    format!("{} (pid {}{user}{})", printable(&process.name), process.pid, place(record))
}

/// `, pod shop/web-0`, `, container web`: where the process is, as far as that has a name.
fn place(record: &Record) -> String {
    if let Some(pod) = &record.orchestrator
        && let Some(name) = &pod.resource.name
    {
        let namespace = pod.namespace.as_deref().map_or_else(String::new, |name| printable(name) + "/");
        return format!(", pod {namespace}{}", printable(name));
    }
    let name = record.container.as_ref().and_then(|container| container.name.as_deref());
    name.map_or_else(String::new, |name| format!(", container {}", printable(name)))
}

/// `container web of image nginx:1.27, by cri-o, id 9f86d081884c`: which container, for a line of its own. `None` where
/// nothing but its id is known.
pub(super) fn container(record: &Record) -> Option<String> {
    let container = record.container.as_ref()?;
    let image = record.egresswatch.container.as_ref().and_then(|fields| fields.image.as_deref());
    if container.name.is_none() && image.is_none() {
        return None;
    }
    let name = container
        .name
        .as_deref()
        .map_or_else(|| "container".to_owned(), |name| format!("container {}", printable(name)));
    let image = image.map_or_else(String::new, |image| format!(" of image {}", printable(image)));
    let runtime =
        container.runtime.as_deref().map_or_else(String::new, |runtime| format!(", by {}", printable(runtime)));
    let id: String = printable(&container.id).chars().take(SHORT_ID).collect();
    Some(format!("{name}{image}{runtime}, id {id}"))
}

/// `/usr/lib/chromium/chromium of chromium 140.0.1, SHA-256 9f86…`, with what is not known said so.
pub(super) fn executable(record: &Record) -> String {
    let process = record.process.as_ref();
    let path = process.and_then(|process| process.executable.as_deref()).map_or("an unknown file".into(), printable);
    let package = record.package.as_ref().map_or_else(String::new, |package| {
        let version = package.version.as_deref().map_or_else(String::new, |version| format!(" {}", printable(version)));
        format!(" of {}{version}", printable(&package.name))
    });
    let hash = process.and_then(|process| process.hash.as_ref());
    let hash = hash.map_or("of unknown content".to_owned(), |hash| format!("SHA-256 {}", hash.sha256));
    format!("{path}{package}, {hash}")
}

/// `120.232.0.1:443`, `[2409:8c00::1]:443`, or the address alone where there are no ports.
pub(super) fn address(endpoint: &Endpoint) -> String {
    match (endpoint.ip, endpoint.port) {
        (Some(ip), Some(port)) => SocketAddr::new(ip, port).to_string(),
        (Some(ip), None) => ip.to_string(),
        (None, _) => "an unknown address".to_owned(),
    }
}

/// The remote side: its address; for a packet socket, which has none, the interface.
pub(super) fn remote(record: &Record) -> String {
    let flow = record.egresswatch.flow.as_ref();
    let Some(link) = flow.and_then(|flow| flow.link.as_ref()) else {
        return record.remote().map(address).unwrap_or_default();
    };
    let interface = match (&link.interface_name, link.interface_index) {
        (Some(name), _) => format!("interface {}", printable(name)),
        (None, Some(index)) => format!("interface number {index}"),
        (None, None) => "an unknown interface".to_owned(),
    };
    format!("{interface} (packet socket: frames written around the IP stack, destination not visible)")
}

/// `AS9808 China Mobile (CN)`, `unknown owner (registered CN)`; `None` where nothing is known.
pub(super) fn owner(own: &Own) -> Option<String> {
    let owner = own.owner.as_ref()?;
    let country = match (&owner.as_country, &owner.registered_country) {
        (Some(of_system), Some(of_range)) if of_system != of_range => {
            Some(format!("({of_system}, registered {of_range})"))
        }
        (Some(country), _) => Some(format!("({country})")),
        (None, Some(of_range)) => Some(format!("(registered {of_range})")),
        (None, None) => None,
    };
    let number = owner.asn.map(|number| format!("AS{number}"));
    let name = owner.organisation.as_deref().map(printable);
    let unnamed = (number.is_none() && name.is_none() && country.is_some()).then(|| "unknown owner".to_owned());
    let parts: Vec<_> = [number, name, unnamed, country].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// What an alert claims: `sent 1.4 kB`, `connected`, `asked for it, nothing sent`.
pub(super) fn claim(record: &Record) -> String {
    let own = &record.egresswatch;
    let sent_bytes = own.flow.as_ref().and_then(|flow| flow.out.as_ref()).map(|out| out.payload_bytes);
    match (own.cause, own.level, &own.totals) {
        (Some(Cause::Rollup), _, Some(totals)) => {
            format!("sent {} in {}", humane_bytes(totals.payload_out_bytes), connections(totals.connections))
        }
        (_, Some(Level::Sent), _) => match sent_bytes {
            Some(bytes) => format!("sent {}", humane_bytes(bytes)),
            None => "sent an uncounted number of bytes".to_owned(),
        },
        (_, Some(Level::Established), _) if is_snapshot(record) => match before_bytes(own) {
            Some(bytes) => format!("connected since before the start, {} sent before", humane_bytes(bytes)),
            None => "connected since before the start, bytes so far unknown".to_owned(),
        },
        (_, Some(Level::Established), _) => "connected, nothing sent yet".to_owned(),
        (_, Some(Level::Attempted) | None, _) if record.event.outcome == Some(Outcome::Failure) => {
            "attempted and failed, nothing sent".to_owned()
        }
        (_, Some(Level::Attempted) | None, _) => "attempted, nothing sent yet".to_owned(),
    }
}

/// What was lost: `12 lost: output_queue_full (output)`.
pub(super) fn loss(loss: &LossFields) -> String {
    let fate = if loss.recoverable { "late, read again from the tables" } else { "lost" };
    let place = loss.output.as_deref().map_or_else(String::new, |output| format!(" in output {}", printable(output)));
    format!("{} {fate}{place}: {} ({} since the start)", loss.count, printable(&loss.reason), loss.total)
}

/// What the monitor says of itself.
pub(super) fn status(status: &StatusFields) -> String {
    let mut sentence = match status.phase {
        Phase::Started => "EgressWatch watches".to_owned(),
        Phase::Running => "EgressWatch still watches".to_owned(),
        Phase::Reloaded => "EgressWatch judges by another policy".to_owned(),
        Phase::Stopped => "EgressWatch stopped".to_owned(),
    };
    let counts = [
        status.uptime_ns.map(|span_ns| format!("after {}", humane_duration(span_ns))),
        status.rung.as_deref().map(|rung| format!("rung {}", printable(rung))),
        status.lists.map(|count| format!("{count} lists")),
        status.ownership_date.as_deref().map(|date| format!("ownership data of {date}")),
        status.flows.map(|count| format!("{count} flows")),
        status.alerts.map(|count| format!("{count} alerts")),
        status.losses.map(|count| format!("{count} losses")),
        status.reason.as_deref().map(|reason| format!("reason {}", printable(reason))),
        status.generation.map(|generation| format!("policy number {generation}")),
        (!status.needs_restart.is_empty())
            .then(|| format!("waiting for a restart: {}", printable(&status.needs_restart.join(", ")))),
        (!status.degradations.is_empty()).then(|| format!("degraded: {}", printable(&status.degradations.join(", ")))),
    ];
    let counts: Vec<_> = counts.into_iter().flatten().collect();
    if !counts.is_empty() {
        sentence.push_str(": ");
        sentence.push_str(&counts.join(", "));
    }
    sentence
}

/// What is missing and what to do: `token: what is missing. To mend it: what to do`.
pub(super) fn degradation(own: &Own) -> String {
    let Some(degradation) = &own.degradation else { return String::new() };
    let remedy =
        degradation.remedy.as_deref().map_or_else(String::new, |remedy| format!(". To mend it: {}", printable(remedy)));
    format!("{}: {}{remedy}", printable(&degradation.token), printable(&degradation.missing))
}

/// `1 connection`, `12 connections`.
pub(super) fn connections(count: u64) -> String {
    if count == 1 { "1 connection".to_owned() } else { format!("{count} connections") }
}

/// What the remote side was called, printable: `example.com`, or `example.com (DNS answer of another process)` where
/// nothing nearer is known.
pub(super) fn domain(record: &Record) -> Option<String> {
    let name = record.egresswatch.names.first()?;
    let whose = match name.scope {
        NameScope::Flow | NameScope::Process => "",
        NameScope::NetworkNamespace | NameScope::Host => " (DNS answer of another process)",
    };
    Some(printable(&name.name) + whose)
}

/// Names with where they were seen: `a.example by tls_sni, b.example by dns 3 s before`.
pub(super) fn names(record: &Record) -> Option<String> {
    let shown = |name: &NameFields| {
        let ech = if name.ech { " (perhaps a public name: ECH offered)" } else { "" };
        let age = match name.scope {
            NameScope::Flow => String::new(),
            _ => format!(" {} before", humane_duration(name.age_ms.saturating_mul(1_000_000))),
        };
        let whose = match name.scope {
            NameScope::Flow | NameScope::Process => "",
            NameScope::NetworkNamespace => " to another process",
            NameScope::Host => " to a process elsewhere",
        };
        format!("{} by {}{whose}{age}{ech}", printable(&name.name), name.source)
    };
    let names: Vec<_> = record.egresswatch.names.iter().filter(|name| name.decisive).take(NAMES).map(shown).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// The real destination behind a proxy: ` for example.com:443`.
pub(super) fn proxied(record: &Record) -> String {
    let Some(proxied) = &record.egresswatch.proxied else { return String::new() };
    let host = match (&proxied.domain, proxied.ip) {
        (Some(domain), _) => printable(domain),
        (None, Some(ip)) if ip.is_ipv6() => format!("[{ip}]"),
        (None, ip) => ip.map(|ip| ip.to_string()).unwrap_or_default(),
    };
    let port = proxied.port.map_or_else(String::new, |port| format!(":{port}"));
    format!(" asked as a proxy for {host}{port}")
}

fn alert(record: &Record) -> String {
    let whole = format!("{} {} {}", actor(record), verb(record), target(record));
    match findings(record) {
        Some(findings) => format!("{whole}: {findings}"),
        None => format!("{whole}, on {}", record.egresswatch.lists.join(", ")),
    }
}

/// What a rule found: `rule my-rule, what its title says, 12 matches folded`; `None` for an alert of lists.
pub(super) fn findings(record: &Record) -> Option<String> {
    let rule = record.egresswatch.rules.first()?;
    let mut findings = format!("rule {}, {}", rule.id, printable(&rule.title));
    if rule.threshold.is_some()
        && let Some((_, found)) = record.event.reason.as_deref().and_then(|reason| reason.split_once(": "))
    {
        findings.extend([", ", &printable(found)]);
    }
    let is_sum = record.egresswatch.cause == Some(Cause::RuleSummary);
    let folded = match rule.folded {
        0 => String::new(),
        folded if is_sum => format!("; this is the last of {folded} matches that were not told"),
        folded => format!("; {folded} matches before it were not told"),
    };
    findings.push_str(&folded);
    Some(findings)
}

/// The claim as part of a sentence.
fn verb(record: &Record) -> String {
    let own = &record.egresswatch;
    match (own.cause, own.level) {
        (Some(Cause::Rollup), _) | (_, Some(Level::Sent)) => format!("{} to", claim(record)),
        (_, Some(Level::Established)) if is_inbound(record) => "accepted a connection from".to_owned(),
        (_, Some(Level::Established)) if is_snapshot(record) => match before_bytes(own) {
            Some(bytes) => {
                format!(
                    "was connected before the start of the monitor, and had sent {} by then, to",
                    humane_bytes(bytes)
                )
            }
            None => "was connected before the start of the monitor to".to_owned(),
        },
        (_, Some(Level::Established)) => "connected to".to_owned(),
        (_, Some(Level::Attempted) | None) => "tried to reach".to_owned(),
    }
}

fn flow(record: &Record) -> String {
    let traffic = match &record.egresswatch.flow {
        Some(flow) => match (&flow.out, &flow.inward) {
            (Some(out), Some(inward)) => {
                let (out, inward) = (humane_bytes(out.payload_bytes), humane_bytes(inward.payload_bytes));
                format!("{out} out, {inward} in")
            }
            _ => "traffic not counted".to_owned(),
        },
        None => String::new(),
    };
    let preposition = if is_inbound(record) { "from" } else { "to" };
    format!("Flow of {} {preposition} {}: {traffic}", actor(record), target(record))
}

/// Whether the flow was found when the monitor started.
fn is_snapshot(record: &Record) -> bool {
    let flow = record.egresswatch.flow.as_ref();
    flow.is_some_and(|flow| flow.caveats.contains(&FlowCaveat::Snapshot))
}

/// Payload sent before the monitor started.
fn before_bytes(own: &Own) -> Option<u64> {
    own.flow.as_ref()?.out.as_ref()?.before_bytes
}

fn is_inbound(record: &Record) -> bool {
    record.network.as_ref().is_some_and(|network| network.direction == Direction::Ingress)
}

/// The remote side: `120.232.0.1:443 (cmpassport.com), AS9808 China Mobile (CN)`.
fn target(record: &Record) -> String {
    let mut target = remote(record);
    if let Some(domain) = domain(record) {
        target.extend([" (", &domain, ")"]);
    }
    target.push_str(&proxied(record));
    if let Some(owner) = owner(&record.egresswatch) {
        target.extend([", ", &owner]);
    }
    target
}
