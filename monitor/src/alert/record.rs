//! The record: ECS field names, own fields under `egresswatch`. The doc comments are the published schema.

mod flow;
mod names;
mod network;
mod own;
mod process;

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

pub use self::{flow::*, names::*, network::*, own::*, process::*};
use super::Timestamp;

/// Version of the Elastic Common Schema whose fields are used.
pub const ECS_VERSION: &str = "9.5.0";

/// What EgressWatch writes: an alert, a flow, an executable, a loss, a degradation, or a moment of the monitor's own life.
///
/// The field names are those of the Elastic Common Schema (ECS) 9.5; what ECS has no field for is under
/// `egresswatch`. An unknown fact is left out: no field is ever empty, and 0 means counted and nothing there. Texts
/// that come from programs (names, arguments, paths) are written as they are, escaped by JSON; `message` alone has
/// control characters made visible.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Record {
    /// When it happened, by this host's clock.
    #[serde(rename = "@timestamp")]
    pub timestamp: Timestamp,
    /// One sentence for people. Do not parse it.
    pub message: String,
    /// The schema's version.
    pub ecs: Ecs,
    /// What kind of record it is.
    pub event: Event,
    /// The software that wrote the record.
    pub agent: Agent,
    /// The same software as the sensor that observed the flow.
    pub observer: Observer,
    /// The host.
    pub host: Host,
    /// The process whose doing the flow is: the one that sent, where the kernel tells, else the one that connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The package that lists the executable's path. Whether the file is still the package's is not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<Package>,
    /// The process's real user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// The process's real group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Account>,
    /// The side that opened the flow: this host, unless `network.direction` is `ingress`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Endpoint>,
    /// The side that the flow was opened to: the remote one, unless `network.direction` is `ingress`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<Endpoint>,
    /// The flow as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// What was said in the clear to begin TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// What an HTTP/1 request asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Url>,
    /// The rule; in an alert of lists the list that decides the severity, and every match is in `egresswatch.matches`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// What a rule's tags say in the terms of MITRE ATT&CK.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threat: Option<Threat>,
    /// The container that the process runs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// The pod that the process runs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orchestrator: Option<Orchestrator>,
    /// All addresses, names and users of the record, for searching.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub related: Option<Related>,
    /// What ECS has no field for.
    pub egresswatch: Own,
}

impl Record {
    /// The record as one line of JSON Lines, with its newline.
    pub fn write_json_line(&self, buffer: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        let start = buffer.len();
        let result = serde_json::to_writer(&mut *buffer, self);
        if result.is_ok() {
            buffer.push(b'\n');
        } else {
            buffer.truncate(start);
        }
        result
    }

    /// Whether losing the record would hide an alert or a loss: everything but ordinary flows.
    #[must_use]
    pub fn must_arrive(&self) -> bool {
        self.event.dataset != Dataset::Flow
    }

    /// The end point that is not this host.
    #[must_use]
    pub fn remote(&self) -> Option<&Endpoint> {
        match self.network.as_ref().map(|network| network.direction) {
            Some(Direction::Ingress) => self.source.as_ref(),
            _ => self.destination.as_ref(),
        }
    }
}

/// ECS `ecs.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Ecs")]
pub struct Ecs {
    /// ECS version that the record follows.
    pub version: &'static str,
}

/// ECS `event.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Event {
    /// Id of this record, unique over hosts and runs. A record that is sent again keeps it.
    pub id: String,
    /// Number of this record in this run, from 0, without gaps unless a loss record says so. Answers of `egresswatch
    /// flows` have numbers of their own.
    pub sequence: u64,
    /// `alert` for an alert, `state` for a degradation and a status, `event` for the others.
    pub kind: EventKind,
    /// `network` for alerts, flows and losses, `process` for executables, `host` for the others.
    pub category: Vec<EventCategory>,
    /// What happened to the category's subject.
    #[serde(rename = "type")]
    pub types: Vec<EventType>,
    /// What happened.
    pub action: EventAction,
    /// Which of the six kinds of record this is.
    pub dataset: Dataset,
    /// Always `egresswatch`.
    pub module: &'static str,
    /// Severity as a number, for alerts: 21 low, 47 medium, 73 high, the numbers of Elastic's own rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<u8>,
    /// Whether the flow came about: `success` once the handshake completed or payload moved, `failure` for a refused
    /// or unanswered TCP connection that ended, `unknown` until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Why there is an alert: `key on list` for each match, or the rule and what its threshold found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// First sight of the flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Timestamp>,
    /// End of the flow, once it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<Timestamp>,
    /// Nanoseconds from the flow's first sight to its end, or to its last packet while it lasts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<u64>,
}

/// Values of `event.kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the values are those of ECS and say what they are")]
pub enum EventKind {
    Alert,
    Event,
    State,
}

/// Values of `event.category`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the values are those of ECS and say what they are")]
pub enum EventCategory {
    Host,
    Network,
    Process,
}

/// Values of `event.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the values are those of ECS and say what they are")]
pub enum EventType {
    Change,
    Connection,
    Start,
    End,
    Info,
}

/// Values of `event.action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventAction {
    /// Alert: this executable reached this owner for the first time.
    FirstContact,
    /// Alert: more became true than the last alert said.
    LevelRaised,
    /// Alert: a list entry matched that no earlier alert told of.
    NewMatch,
    /// Alert: further traffic, summed up.
    Rollup,
    /// Alert: a rule matched.
    RuleMatched,
    /// Alert: matches of a rule that were not told one by one, summed up.
    RuleSummary,
    /// Flow: it ended.
    FlowEnded,
    /// Flow: it goes on.
    FlowProgress,
    /// Executable: it was read after an alert that could not wait for it.
    ExecutableRead,
    /// Loss: something was lost or late.
    DataLost,
    /// Degradation: this host gives less than it could.
    Degraded,
    /// Status: the monitor watches from now on.
    MonitorStarted,
    /// Status: the monitor still watches.
    MonitorRunning,
    /// Status: the monitor judges by another policy from now on.
    PolicyReloaded,
    /// Status: the monitor stops watching.
    MonitorStopped,
}

/// Values of `event.dataset`: the six kinds of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
pub enum Dataset {
    /// A process reached flagged infrastructure.
    #[serde(rename = "egresswatch.alert")]
    Alert,
    /// A flow that ended, or a snapshot of a long one.
    #[serde(rename = "egresswatch.flow")]
    Flow,
    /// What an executable is, told after an alert that could not wait for it.
    #[serde(rename = "egresswatch.executable")]
    Executable,
    /// Something was lost or late.
    #[serde(rename = "egresswatch.loss")]
    Loss,
    /// This host gives less than it could.
    #[serde(rename = "egresswatch.degradation")]
    Degradation,
    /// The monitor's own life.
    #[serde(rename = "egresswatch.status")]
    Status,
}

/// Values of `event.outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the values are those of ECS and say what they are")]
pub enum Outcome {
    Success,
    Failure,
    Unknown,
}

/// ECS `agent.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Agent {
    /// Always `egresswatch`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Version of EgressWatch.
    pub version: &'static str,
    /// Id of this run.
    pub ephemeral_id: String,
}

/// ECS `observer.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Observer {
    /// Always `sensor`: it watches on the host itself.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Always `EgressWatch`.
    pub vendor: &'static str,
    /// Always `EgressWatch`.
    pub product: &'static str,
    /// Version of EgressWatch.
    pub version: &'static str,
}

/// ECS `host.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Host {
    /// Name of the host.
    pub name: String,
    /// Name of the host as `uname` gives it.
    pub hostname: String,
    /// Machine id (`/etc/machine-id`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Architecture, such as `x86_64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// This boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    /// Operating system.
    pub os: OperatingSystem,
}

/// ECS `host.boot.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Boot {
    /// Id of this boot (`/proc/sys/kernel/random/boot_id`).
    pub id: String,
}

/// ECS `host.os.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OperatingSystem {
    /// Always `linux`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Kernel release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Name of the distribution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Id of the distribution, such as `debian`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Version of the distribution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// ECS `rule.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Rule {
    /// Id of the rule or list.
    pub id: String,
    /// Title of the rule or list.
    pub name: String,
    /// `rule` for a rule, `legal` for a list that follows a legal act, `topical` for a curated one.
    pub category: RuleCategory,
    /// What a match means and what it does not mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where the list can be read; the rule's first reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The file that the rule came from; absent for a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ruleset: Option<String>,
    /// State of the list: the date up to which it was read; absent for a rule, and where nothing says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Values of `rule.category`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleCategory {
    /// A rule, not a list.
    Rule,
    /// The list follows a legal act.
    Legal,
    /// The list is curated without a legal act behind it.
    Topical,
}

/// ECS `threat.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Threat {
    /// Always `MITRE ATT&CK`.
    pub framework: &'static str,
    /// Tactics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tactic: Option<ThreatIds>,
    /// Techniques.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub technique: Option<ThreatIds>,
}

/// ECS `threat.tactic.*` and `threat.technique.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ThreatIds {
    /// Ids, such as `TA0010`, `T1041` and `T1071.001`.
    pub id: Vec<String>,
}

/// ECS `related.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Related {
    /// Addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ip: Vec<IpAddr>,
    /// Names of the remote address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Digests of executables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hash: Vec<String>,
    /// Names, else numbers, of users.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub user: Vec<String>,
}
