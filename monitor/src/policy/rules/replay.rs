//! Recorded flows through lists and rules: what `egresswatch test-rules` asks.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;

use super::{
    Baseline, Engine, RuleDecision, Rules,
    expression::{NameFact, Place, Relative},
    facts::{Facts, Moment},
    key,
};
use crate::{
    event::{BootTime, FlowKey, Protocol},
    ownership::{CountryCode, Owner},
    policy::{Config, ContactKey, Decision, Level, Lists, Match, Observation, OwnerKey, Tracker},
};

/// Records in, decisions out, in the order of the file.
#[derive(Debug)]
pub struct Replay {
    lists: Lists,
    tracker: Tracker<Arc<Recorded>>,
    engine: Engine<Arc<Recorded>>,
    zone: TimeZone,
    last_at: BootTime,
}

/// A record that was taken in.
#[derive(Debug, PartialEq)]
pub struct Recorded {
    /// Where it stood in its file.
    pub line: usize,
    record: Value,
}

/// What a record did.
#[derive(Clone, Debug, PartialEq)]
pub enum Replayed {
    /// It is no record of a flow.
    Skipped,
    /// It is one.
    Flow {
        /// A rule says to ignore it.
        is_ignored: bool,
        /// What would be told by then.
        told: Vec<Alert>,
    },
}

/// An alert.
#[derive(Clone, Debug, PartialEq)]
pub enum Alert {
    /// By a rule.
    Rule(RuleDecision<Arc<Recorded>>),
    /// By lists.
    Lists(Decision<Arc<Recorded>>),
}

impl Replay {
    /// Nothing is known before the first record, so that every contact is a first one.
    #[must_use]
    pub fn new(policy: &Config, lists: Lists, rules: Rules, zone: TimeZone) -> Self {
        Self {
            lists,
            tracker: Tracker::new(policy),
            engine: Engine::new(rules, Baseline::default(), zone.clone()),
            zone,
            last_at: BootTime(0),
        }
    }

    /// Takes the record of a line in.
    pub fn take_in(&mut self, line: usize, record: Value) -> Replayed {
        let recorded = Arc::new(Recorded { line, record });
        let dataset = recorded.text("/event/dataset");
        let (Some("egresswatch.flow"), Some((mut facts, moment))) = (dataset, facts(&recorded.record, &self.zone))
        else {
            return Replayed::Skipped;
        };
        let mut told = self.tick(&facts, moment.at);
        self.last_at = moment.at;
        // The monitor's own flows are no business of anybody.
        if recorded.record.pointer("/egresswatch/process/is_own").and_then(Value::as_bool) == Some(true) {
            return Replayed::Flow { is_ignored: false, told };
        }
        let (matches, owner) = recorded.matches(&self.lists);
        for hit in &matches {
            if !facts.lists.contains(&Cow::Borrowed(&*hit.list.id)) {
                facts.lists.push(Cow::Owned(hit.list.id.to_string()));
            }
        }
        let verdict = self.engine.judge(&facts, &moment, &recorded);
        told.extend(verdict.decisions.into_iter().map(Alert::Rule));
        if let Some(owner) = OwnerKey::new(&owner, &matches).filter(|_| !verdict.is_ignored && !matches.is_empty()) {
            let contact = ContactKey { actor: key::actor(&facts), owner };
            let observation = observation(contact, matches, &facts, &moment, &recorded);
            let decisions = self.tracker.observe(observation);
            told.extend(self.permitted(decisions));
        }
        Replayed::Flow { is_ignored: verdict.is_ignored, told }
    }

    /// Puts other rules in force.
    #[cfg(test)]
    pub(super) fn set_rules(&mut self, rules: Rules) {
        self.engine.set_rules(rules);
    }

    /// Knows these contacts.
    #[cfg(test)]
    pub(super) fn set_baseline(&mut self, baseline: Baseline) {
        self.engine.set_baseline(baseline);
    }

    /// What is left at the end: alerts that waited, and sums.
    pub fn finish(&mut self) -> Vec<Alert> {
        let decisions = self.tracker.drain(self.last_at);
        let mut told = self.permitted(decisions);
        told.extend(self.engine.drain(self.last_at).into_iter().map(Alert::Rule));
        told
    }

    /// What was due before this moment, each at its time.
    fn tick(&mut self, facts: &Facts<'_>, now: BootTime) -> Vec<Alert> {
        let mut decisions = Vec::new();
        while let Some(due_at) = self.tracker.next_due().filter(|due_at| *due_at <= now) {
            decisions.extend(self.tracker.tick(due_at));
        }
        let mut told = self.permitted(decisions);
        told.extend(self.engine.tick(now, facts.wall).into_iter().map(Alert::Rule));
        told
    }

    /// Those that are not known to be good and come at no time of maintenance.
    fn permitted(&mut self, decisions: Vec<Decision<Arc<Recorded>>>) -> Vec<Alert> {
        let mut told = Vec::new();
        for decision in decisions {
            let recorded = Arc::clone(&decision.context);
            let is_permitted = facts(&recorded.record, &self.zone).is_none_or(|(facts, _)| {
                let lists = decision.matches.iter().map(|hit| &*hit.list.id);
                self.engine.permits(&facts, decision.at, lists, decision.level, &recorded)
            });
            if is_permitted {
                told.push(Alert::Lists(decision));
            }
        }
        told
    }
}

impl Recorded {
    /// Its `event.id`.
    #[must_use]
    pub fn id(&self) -> &str {
        self.text("/event/id").unwrap_or_default()
    }

    /// The executable of the flow, or the name of its process.
    #[must_use]
    pub fn program(&self) -> Option<&str> {
        self.text("/process/executable").or_else(|| self.text("/process/name"))
    }

    /// Where the flow goes: the address with the port, and the best name.
    #[must_use]
    pub fn destination(&self) -> Option<String> {
        let proxied = self.record.pointer("/egresswatch/proxied").map(|_| "/egresswatch/proxied");
        let side = proxied.unwrap_or_else(|| self.remote());
        let name = self.text(&format!("{side}/domain"));
        let port = self.record.pointer(&format!("{side}/port")).and_then(Value::as_u64);
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        match (self.address(side), name) {
            (Some(IpAddr::V6(address)), None) => Some(format!("[{address}]{port}")),
            (Some(IpAddr::V6(address)), Some(name)) => Some(format!("[{address}]{port} ({name})")),
            (Some(address), None) => Some(format!("{address}{port}")),
            (Some(address), Some(name)) => Some(format!("{address}{port} ({name})")),
            (None, Some(name)) => Some(format!("{name}{port}")),
            (None, None) => None,
        }
    }

    fn text(&self, path: &str) -> Option<&str> {
        self.record.pointer(path).and_then(Value::as_str)
    }

    fn address(&self, side: &str) -> Option<IpAddr> {
        self.text(&format!("{side}/ip"))?.parse().ok()
    }

    /// The remote side.
    fn remote(&self) -> &'static str {
        if self.text("/network/direction") == Some("ingress") { "/source" } else { "/destination" }
    }

    /// What it hits by its addresses, owners and names, and the owner that matters. Of an address behind a translation
    /// the owner is not recorded.
    fn matches(&self, lists: &Lists) -> (Vec<Match>, Owner) {
        let owner = self.owner("/egresswatch/owner").unwrap_or_default();
        let target_owner = self.owner("/egresswatch/proxied/owner");
        let (remote, unknown) = (self.remote(), Owner::default());
        let target = self.address("/egresswatch/proxied");
        let addresses = [
            self.address(remote).map(|address| (address, &owner)),
            self.address(&format!("{remote}/nat")).map(|address| (address, &unknown)),
            target.map(|address| (address, target_owner.as_ref().unwrap_or(&unknown))),
        ];
        let names = names(&self.record).filter_map(|name| name.get("name")?.as_str());
        let matches = lists.match_flow(addresses.into_iter().flatten(), names);
        (matches, target_owner.unwrap_or(owner))
    }

    fn owner(&self, path: &str) -> Option<Owner> {
        let owner = self.record.pointer(path)?;
        let text = |key: &str| owner.get(key).and_then(Value::as_str);
        Some(Owner {
            asn: owner.get("asn").and_then(Value::as_u64).and_then(|asn| u32::try_from(asn).ok()),
            organisation: text("organisation").map(Arc::from),
            as_country: text("as_country").and_then(CountryCode::new),
            registered_country: text("registered_country").and_then(CountryCode::new),
        })
    }
}

/// A recorded flow as the tracker takes live ones.
fn observation(
    contact: ContactKey,
    matches: Vec<Match>,
    facts: &Facts<'_>,
    moment: &Moment,
    context: &Arc<Recorded>,
) -> Observation<Arc<Recorded>> {
    let has_handshake = matches!(&*facts.protocol, "tcp" | "sctp");
    let has_failed = has_fact(&context.record, "failed");
    Observation {
        contact,
        flow: moment.flow,
        first_at: moment.first_at,
        level: facts.level,
        quiet: facts.level < Level::Sent && facts.bytes_out.is_some() && (facts.is_inbound || !has_handshake),
        settled: moment.is_closed || has_failed,
        closed: moment.is_closed,
        payload_out_bytes: facts.bytes_out.unwrap_or_default(),
        payload_in_bytes: facts.bytes_in.unwrap_or_default(),
        matches,
        context: Arc::clone(context),
        at: moment.at,
    }
}

/// The names that are near enough to decide on.
fn names(record: &Value) -> impl Iterator<Item = &Value> {
    let names = record.pointer("/egresswatch/names").and_then(Value::as_array).into_iter().flatten();
    names.filter(|name| name.get("decisive").and_then(Value::as_bool) == Some(true))
}

fn has_fact(record: &Value, fact: &str) -> bool {
    let facts = record.pointer("/egresswatch/flow/facts").and_then(Value::as_array).into_iter().flatten();
    facts.into_iter().any(|known| known.as_str() == Some(fact))
}

/// The facts that a record holds, but for lists, which are those of today.
fn facts<'r>(record: &'r Value, zone: &TimeZone) -> Option<(Facts<'r>, Moment)> {
    let text = |path: &str| record.pointer(path).and_then(Value::as_str).map(Cow::Borrowed);
    let number = |path: &str| record.pointer(path).and_then(Value::as_u64);
    let time =
        |path: &str| record.pointer(path).and_then(Value::as_str).and_then(|text| text.parse::<Timestamp>().ok());
    let boot = |time: Timestamp| BootTime(u64::try_from(time.as_nanosecond()).unwrap_or_default());
    let items = |path: &str| record.pointer(path).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let wall = time("/@timestamp")?;
    let first_at = time("/event/start").unwrap_or(wall);
    let is_inbound = text("/network/direction").is_some_and(|direction| direction == "ingress");
    let remote = if is_inbound { "/source" } else { "/destination" };
    let has = |fact: &str| has_fact(record, fact);
    let bytes_out = number("/egresswatch/flow/out/payload_bytes");
    let proxied = record.pointer("/egresswatch/proxied");
    let remote_ip = match proxied {
        Some(proxied) => proxied.get("ip"),
        None => record.pointer(&format!("{remote}/ip")),
    };
    let ip = remote_ip.and_then(Value::as_str).and_then(|ip| ip.parse().ok());
    let port = number("/egresswatch/proxied/port").or_else(|| number(&format!("{remote}/port")));
    let port = port.and_then(|port| u16::try_from(port).ok());
    let owner = if proxied.is_some_and(|proxied| proxied.get("owner").is_some()) {
        "/egresswatch/proxied/owner"
    } else {
        "/egresswatch/owner"
    };
    let relative = |item: &'_ Value| -> Option<Relative<'static>> {
        let said = |key: &str| item.get(key).and_then(Value::as_str).map(|text| Cow::Owned(text.to_owned()));
        Some(Relative { name: said("name")?, executable: said("executable") })
    };
    let parents = record.pointer("/process/parent").into_iter().chain(items("/egresswatch/process/ancestors"));
    let account = |path: &str| text(&format!("{path}/name")).or_else(|| text(&format!("{path}/id")));
    let user = account("/user");
    let is_truncated =
        record.pointer("/egresswatch/process/executable_truncated").and_then(Value::as_bool) == Some(true);
    let facts = Facts {
        // The rest of a path whose beginning is not known proves nothing.
        executable: text("/process/executable").filter(|_| !is_truncated),
        process_name: text("/process/name"),
        sha256: text("/process/hash/sha256").map(Cow::into_owned),
        package: text("/package/name"),
        unlinked: record.pointer("/egresswatch/process/executable_unlinked").and_then(Value::as_bool),
        arguments: record.pointer("/process/args").map(|_| {
            items("/process/args").iter().filter_map(|argument| Some(Cow::Borrowed(argument.as_str()?))).collect()
        }),
        effective_user: account("/user/effective").or_else(|| user.clone()),
        user,
        parents: record.get("process").map(|_| parents.filter_map(relative).collect()),
        unit: text("/egresswatch/process/unit"),
        container_id: text("/container/id"),
        container_runtime: text("/container/runtime"),
        container_name: text("/container/name"),
        container_image: text("/egresswatch/container/image"),
        pod: text("/orchestrator/resource/name"),
        pod_uid: text("/orchestrator/resource/id"),
        namespace: text("/orchestrator/namespace"),
        labels: items("/egresswatch/container/labels").iter().filter_map(label).collect(),
        place: ip.map(|ip: IpAddr| Place::At(ip.to_canonical())),
        port,
        asn: number(&format!("{owner}/asn")).and_then(|asn| u32::try_from(asn).ok()),
        organisation: text(&format!("{owner}/organisation")),
        as_country: text(&format!("{owner}/as_country")),
        registered_country: text(&format!("{owner}/registered_country")),
        names: names(record).filter_map(name_fact).collect(),
        lists: Vec::new(),
        protocol: text("/network/transport").unwrap_or_default(),
        level: if has("sent") || bytes_out.is_some_and(|bytes| bytes > 0) {
            Level::Sent
        } else if has("established") {
            Level::Established
        } else {
            Level::Attempted
        },
        bytes_out,
        bytes_in: number("/egresswatch/flow/in/payload_bytes"),
        age_s: boot(wall).since_ns(boot(first_at)) / 1_000_000_000,
        is_inbound,
        wall,
        zone: Some(zone.clone()),
        is_open: false,
    };
    // A flow is told apart by its id, which begins with the socket's cookie.
    let id = text("/egresswatch/flow/id").unwrap_or_default();
    let cookie = id.split('.').next().and_then(|cookie| u64::from_str_radix(cookie, 16).ok()).unwrap_or_default();
    // The remote side itself: what a proxy is asked for becomes known later.
    let side = |part: &str| record.pointer(&format!("{remote}/{part}"));
    let address = side("ip").and_then(Value::as_str).and_then(|ip| ip.parse().ok());
    let port = side("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    let address = address.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into());
    let remote = std::net::SocketAddr::new(address, port.unwrap_or_default());
    let moment = Moment {
        flow: FlowKey { socket_cookie: cookie, protocol: Protocol::Other(255), remote },
        first_at: boot(first_at),
        at: boot(wall),
        is_closed: has("closed"),
    };
    Some((facts, moment))
}

fn label(label: &Value) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    let (name, value) = label.as_str()?.split_once('=')?;
    Some((Cow::Borrowed(name), Cow::Borrowed(value)))
}

fn name_fact(name: &Value) -> Option<NameFact<'_>> {
    let part = |key: &str| name.get(key).and_then(Value::as_str).map(Cow::Borrowed);
    Some(NameFact { name: part("name")?, source: part("source")? })
}
