//! What is known of a flow, as conditions and thresholds ask for it.

use std::{borrow::Cow, net::IpAddr};

use jiff::{Timestamp, tz::TimeZone};

use super::{
    expression::{List, NameFact, Place, Relative, Value},
    fields::{Field, WEEKDAYS},
};
use crate::{
    containers::{ContainerFacts, Description},
    event::{BootTime, Flow, FlowKey},
    executables::FileFacts,
    names::{FlowNames, Host, Proxied},
    ownership::Owner,
    policy::{Level, Match},
    process::{Account, Process},
};

/// A flow with all that is known about it at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sighting<'a> {
    /// The flow as the kernel last told it.
    pub flow: &'a Flow,
    /// The process whose doing it is.
    pub actor: Option<&'a Process>,
    /// What is known of the process's executable.
    pub file: Option<&'a FileFacts>,
    /// What is known of the container that the process is in.
    pub container: Option<&'a ContainerFacts>,
    /// Who owns the remote address; behind a proxy who owns the address that the proxy was asked for.
    pub owner: &'a Owner,
    /// What the remote side was called.
    pub names: &'a FlowNames,
    /// What it hit.
    pub matches: &'a [Match],
    /// The wall-clock time of the report.
    pub wall: Timestamp,
}

/// The facts of one flow. What is `None` is unknown; of what is `open` nobody asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts<'a> {
    pub(super) executable: Option<Cow<'a, str>>,
    pub(super) process_name: Option<Cow<'a, str>>,
    pub(super) sha256: Option<String>,
    pub(super) package: Option<Cow<'a, str>>,
    pub(super) unlinked: Option<bool>,
    pub(super) arguments: Option<Vec<Cow<'a, str>>>,
    pub(super) user: Option<Cow<'a, str>>,
    pub(super) effective_user: Option<Cow<'a, str>>,
    pub(super) parents: Option<Vec<Relative<'a>>>,
    pub(super) unit: Option<Cow<'a, str>>,
    pub(super) container_id: Option<Cow<'a, str>>,
    pub(super) container_runtime: Option<Cow<'a, str>>,
    pub(super) container_name: Option<Cow<'a, str>>,
    pub(super) container_image: Option<Cow<'a, str>>,
    pub(super) pod: Option<Cow<'a, str>>,
    pub(super) pod_uid: Option<Cow<'a, str>>,
    pub(super) namespace: Option<Cow<'a, str>>,
    /// Names and values.
    pub(super) labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub(super) place: Option<Place>,
    pub(super) port: Option<u16>,
    pub(super) asn: Option<u32>,
    pub(super) organisation: Option<Cow<'a, str>>,
    pub(super) as_country: Option<Cow<'a, str>>,
    pub(super) registered_country: Option<Cow<'a, str>>,
    pub(super) names: Vec<NameFact<'a>>,
    pub(super) lists: Vec<Cow<'a, str>>,
    pub(super) protocol: Cow<'a, str>,
    pub(super) level: Level,
    pub(super) bytes_out: Option<u64>,
    pub(super) bytes_in: Option<u64>,
    pub(super) age_s: u64,
    pub(super) is_inbound: bool,
    pub(super) wall: Timestamp,
    pub(super) zone: Option<TimeZone>,
    /// Only the address's facts are looked at; the others may be anything.
    pub(super) is_open: bool,
}

/// What thresholds need of a flow beside its facts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) flow: FlowKey,
    pub(super) first_at: BootTime,
    pub(super) at: BootTime,
    pub(super) is_closed: bool,
}

impl Moment {
    pub(super) fn of(flow: &Flow) -> Self {
        let is_closed = flow.facts.closed || flow.reason == crate::event::ReportReason::Closed;
        Self { flow: flow.key, first_at: flow.first_at, at: flow.at, is_closed }
    }
}

impl<'a> Facts<'a> {
    /// Of a flow as the pipeline knows it.
    pub(super) fn of(sighting: &Sighting<'a>, zone: &TimeZone) -> Self {
        let Sighting { flow, actor, file, container, owner, names, matches, wall } = *sighting;
        let proxied = names.proxied.as_ref();
        let remote = flow.key.destination();
        let address = match proxied.map(|proxied| &proxied.host) {
            Some(Host::Address(address)) => Some(*address),
            // The proxy's own address is not where the flow goes.
            Some(Host::Name(_)) => None,
            None => remote.map(|remote| remote.ip()),
        };
        let port = proxied.and_then(|proxied: &Proxied| proxied.port).or(remote.map(|remote| remote.port()));
        let known = |name: Option<&'a str>| name.map(Cow::Borrowed);
        let mut facts = Self {
            place: address.map(|address| Place::At(address.to_canonical())),
            port: port.filter(|port| *port != 0),
            asn: owner.asn,
            organisation: known(owner.organisation.as_deref()),
            as_country: known(owner.as_country.as_ref().map(crate::ownership::CountryCode::as_str)),
            registered_country: known(owner.registered_country.as_ref().map(crate::ownership::CountryCode::as_str)),
            names: names.names.iter().filter(|named| named.is_decisive).map(NameFact::of).collect(),
            lists: Vec::new(),
            protocol: Cow::Owned(flow.key.protocol.to_string()),
            level: Level::of(flow),
            bytes_out: (!flow.facts.untracked).then_some(flow.counters.payload_out_bytes),
            bytes_in: (!flow.facts.untracked).then_some(flow.counters.payload_in_bytes),
            age_s: flow.at.since_ns(flow.first_at) / 1_000_000_000,
            is_inbound: flow.facts.inbound,
            wall,
            zone: Some(zone.clone()),
            ..Self::default()
        };
        for hit in matches {
            if !facts.lists.contains(&Cow::Borrowed(&*hit.list.id)) {
                facts.lists.push(Cow::Borrowed(&*hit.list.id));
            }
        }
        if let Some(file) = file {
            facts.sha256 = file.hash().ok().map(|digest| digest.to_string());
            facts.package = file.package().ok().map(|package| Cow::Borrowed(package.name.as_str()));
        }
        if let Some(actor) = actor {
            facts.describe(actor);
        }
        if let Some(description) = container.and_then(|container| container.description().ok()) {
            facts.describe_container(description);
        }
        facts
    }

    fn describe(&mut self, actor: &'a Process) {
        let executable = actor.executable.as_ref();
        // The upper components of a truncated path are missing: a comparison with the rest would prove nothing.
        let whole = executable.filter(|executable| !executable.truncated);
        self.executable = whole.map(|executable| executable.path.to_string_lossy());
        self.unlinked = executable.map(|executable| executable.unlinked);
        self.process_name = Some(Cow::Borrowed(&actor.name));
        let arguments = || actor.arguments.iter().map(|argument| Cow::Borrowed(argument.as_str())).collect();
        self.arguments = (!actor.arguments.is_empty()).then(arguments);
        self.user = Some(account(&actor.user));
        self.effective_user = Some(account(actor.effective_user.as_ref().unwrap_or(&actor.user)));
        let relative = |ancestor: &'a crate::process::Ancestor| Relative {
            name: Cow::Borrowed(&*ancestor.name),
            executable: ancestor.executable.as_ref().map(|path| path.to_string_lossy()),
        };
        self.parents = Some(actor.ancestors.iter().map(relative).collect());
        self.unit = actor.unit.as_deref().map(Cow::Borrowed);
        if let Some(container) = &actor.container {
            self.container_id = Some(Cow::Borrowed(&container.id));
            self.container_runtime = container.runtime.as_deref().map(Cow::Borrowed);
            self.pod_uid = container.pod_uid.as_deref().map(Cow::Borrowed);
        }
    }

    fn describe_container(&mut self, description: &'a Description) {
        fn known(text: Option<&String>) -> Option<Cow<'_, str>> {
            text.map(|text| Cow::Borrowed(text.as_str()))
        }
        let pod = description.pod.as_ref();
        self.container_name = known(description.name.as_ref());
        self.container_image = known(description.image.as_ref());
        self.container_runtime = self.container_runtime.take().or(description.runtime.map(Cow::Borrowed));
        self.pod = known(pod.and_then(|pod| pod.name.as_ref()));
        self.namespace = known(pod.and_then(|pod| pod.namespace.as_ref()));
        self.pod_uid = self.pod_uid.take().or_else(|| known(pod.and_then(|pod| pod.uid.as_ref())));
        let labels = description.labels.iter().flat_map(|labels| &labels.pairs);
        self.labels = labels.map(|(name, value)| (Cow::Borrowed(&**name), Cow::Borrowed(&**value))).collect();
    }

    /// The value of a field.
    pub(super) fn get(&self, field: Field) -> Value<'_> {
        match field {
            Field::DestinationIp => self.place.map_or(self.missing(), Value::Address),
            Field::Asn => self.asn.map_or(Value::Unknown, |asn| Value::Int(asn.into())),
            Field::Organisation => text(self.organisation.as_deref()),
            Field::AsCountry => text(self.as_country.as_deref()),
            Field::RegisteredCountry => text(self.registered_country.as_deref()),
            Field::Countries => self.countries(),
            _ if self.is_open => Value::Open,
            Field::Executable => text(self.executable.as_deref()),
            Field::ProcessName => text(self.process_name.as_deref()),
            Field::Sha256 => text(self.sha256.as_deref()),
            Field::Package => text(self.package.as_deref()),
            Field::Unlinked => self.unlinked.map_or(Value::Unknown, Value::Bool),
            Field::Arguments => self.arguments.as_ref().map_or(Value::Unknown, |texts| list(texts)),
            Field::User => text(self.user.as_deref()),
            Field::EffectiveUser => text(self.effective_user.as_deref()),
            Field::Parents => {
                self.parents.as_ref().map_or(Value::Unknown, |parents| Value::List(List::Parents(parents)))
            }
            Field::Unit => text(self.unit.as_deref()),
            Field::ContainerId => text(self.container_id.as_deref()),
            Field::ContainerRuntime => text(self.container_runtime.as_deref()),
            Field::Pod => text(self.pod.as_deref()),
            Field::PodUid => text(self.pod_uid.as_deref()),
            Field::ContainerName => text(self.container_name.as_deref()),
            Field::ContainerImage => text(self.container_image.as_deref()),
            Field::Namespace => text(self.namespace.as_deref()),
            // Only its elements have values; of the whole is asked whether there are any.
            Field::Labels => list_of_names(&self.labels),
            Field::DestinationPort => self.port.map_or(Value::Unknown, |port| Value::Int(port.into())),
            Field::Names => Value::List(List::Names(&self.names)),
            Field::State => Value::Text(Cow::Borrowed(self.level.as_token())),
            Field::BytesOut => count(self.bytes_out),
            Field::BytesIn => count(self.bytes_in),
            Field::Age => count(Some(self.age_s)),
            Field::Protocol => text(Some(&*self.protocol)),
            Field::Direction => text(Some(if self.is_inbound { "ingress" } else { "egress" })),
            Field::Lists => list(&self.lists),
            Field::Hour => Value::Int(self.wall.to_zoned_datetime(TimeZone::UTC).hour().into()),
            Field::LocalHour => self.local().map_or(Value::Unknown, |local| Value::Int(local.hour().into())),
            Field::Weekday => text(Some(weekday(&self.wall.to_zoned_datetime(TimeZone::UTC)))),
            Field::LocalWeekday => text(self.local().as_ref().map(weekday)),
        }
    }

    /// The value of a label.
    pub(super) fn label(&self, key: &str) -> Value<'_> {
        match self.labels.iter().find(|(name, _)| name == key) {
            Some((_, value)) => text(Some(value)),
            None => self.missing(),
        }
    }

    /// The address, where one is known.
    pub(super) const fn address(&self) -> Option<IpAddr> {
        match self.place {
            Some(Place::At(address)) => Some(address),
            _ => None,
        }
    }

    /// The moment in this host's time zone.
    pub(super) fn local(&self) -> Option<jiff::ZonedDateTime> {
        self.zone.as_ref().map(|zone| self.wall.to_zoned_datetime(zone.clone()))
    }

    const fn missing(&self) -> Value<'_> {
        if self.is_open { Value::Open } else { Value::Unknown }
    }

    fn countries(&self) -> Value<'_> {
        let mut countries: Vec<Cow<'_, str>> = Vec::new();
        for country in [&self.as_country, &self.registered_country].into_iter().flatten() {
            if !countries.contains(country) {
                countries.push(Cow::Borrowed(&**country));
            }
        }
        Value::List(List::Texts(countries))
    }
}

impl<'a> NameFact<'a> {
    fn of(named: &'a crate::names::Named) -> Self {
        Self { name: Cow::Borrowed(named.name.as_str()), source: Cow::Borrowed(named.source.as_token()) }
    }
}

/// The day's name.
pub(super) fn weekday(moment: &jiff::ZonedDateTime) -> &'static str {
    let day = usize::try_from(moment.weekday().to_monday_zero_offset()).unwrap_or_default();
    WEEKDAYS.get(day).copied().unwrap_or_default()
}

fn text(text: Option<&str>) -> Value<'_> {
    text.map_or(Value::Unknown, |text| Value::Text(Cow::Borrowed(text)))
}

fn list<'v>(texts: &'v [Cow<'_, str>]) -> Value<'v> {
    Value::List(List::Texts(texts.iter().map(|text| Cow::Borrowed(&**text)).collect()))
}

fn list_of_names<'v>(labels: &'v [(Cow<'_, str>, Cow<'_, str>)]) -> Value<'v> {
    Value::List(List::Texts(labels.iter().map(|(name, _)| Cow::Borrowed(&**name)).collect()))
}

fn count(count: Option<u64>) -> Value<'static> {
    count.map_or(Value::Unknown, |count| Value::Int(i64::try_from(count).unwrap_or(i64::MAX)))
}

fn account(account: &Account) -> Cow<'_, str> {
    match &account.name {
        Some(name) => Cow::Borrowed(name),
        None => Cow::Owned(account.id.to_string()),
    }
}
