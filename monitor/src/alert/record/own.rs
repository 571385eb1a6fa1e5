//! Own fields: `egresswatch.*`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::{FlowFields, NameCaveat, NameFields, ProxiedFields, Relative, Timestamp};
use crate::{
    alert::input::{LossStage, Phase},
    containers::{ContainerGap, DescribedBy},
    executables::Gap,
    policy::{self, Relation, Severity},
    process,
};

/// What ECS has no field for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Own {
    /// Alert: how far the flow got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// Alert: why now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Alert: severity in words; `event.severity` has it as a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "severity_schema")]
    pub severity: Option<Severity>,
    /// Ids of the lists that matched, each once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lists: Vec<String>,
    /// Every list entry that matched. Map it as `nested` to query one match's fields together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<ListMatch>,
    /// Alert of a rule: the rule, and what it found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleMatch>,
    /// Who owns the remote address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerFields>,
    /// What the remote address was called, best first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<NameFields>,
    /// What hides names on this flow, so that more or other names may be true of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub name_caveats: Vec<NameCaveat>,
    /// The real destination, where the remote side is a proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxied: Option<ProxiedFields>,
    /// Alert: what this executable exchanged with this owner since the first contact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub totals: Option<TotalFields>,
    /// Alert: what of the totals is new since the last alert on this executable and owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub increase: Option<IncreaseFields>,
    /// The flow; in an alert the latest of the highest level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowFields>,
    /// What ECS cannot say about the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessFields>,
    /// What ECS cannot say about the container; absent for a process in none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerFields>,
    /// The process that connected, where another one sends (`process`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connector: Option<Connector>,
    /// Executable: `event.id` of the alert that could not wait for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert_id: Option<String>,
    /// Loss: what was lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<LossFields>,
    /// Degradation: what this host does not give.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degradation: Option<DegradationFields>,
    /// Status: the monitor's own state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusFields>,
}

/// What ECS cannot say about the container. It is as its runtime wrote it when the container was first seen: no network and
/// no runtime was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ContainerFields {
    /// Which file described it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub described_by: Option<DescribedBy>,
    /// Why nothing is known of it but its id, and what its cgroup's path tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<ContainerGap>,
    /// Image, whole, as the runtime names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Labels as `name=value`: in Kubernetes the pod's, elsewhere the container's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Labels that are not kept: of a container at most 64, and 4,096 bytes in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels_left_out: Option<u64>,
}

/// Values of `egresswatch.level`. Each is a fact of its own and none says what the bytes were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// A process asked for the flow; nothing is known to have left the host.
    Attempted,
    /// The TCP handshake completed.
    Established,
    /// Payload bytes left the host.
    Sent,
}

impl From<policy::Level> for Level {
    fn from(level: policy::Level) -> Self {
        match level {
            policy::Level::Attempted => Self::Attempted,
            policy::Level::Established => Self::Established,
            policy::Level::Sent => Self::Sent,
        }
    }
}

/// Values of `egresswatch.cause`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// This executable was not seen to reach this owner before.
    FirstContact,
    /// More became true than the last alert said: attempted, then established, then sent.
    LevelRaised,
    /// A list entry matched that no earlier alert told of.
    NewMatch,
    /// Further traffic since the last alert, summed up.
    Rollup,
    /// A rule matched.
    RuleMatched,
    /// Matches of a rule that were not told one by one, summed up.
    RuleSummary,
}

impl From<policy::Cause> for Cause {
    fn from(cause: policy::Cause) -> Self {
        match cause {
            policy::Cause::FirstContact => Self::FirstContact,
            policy::Cause::LevelRaised => Self::LevelRaised,
            policy::Cause::NewMatch => Self::NewMatch,
            policy::Cause::Rollup => Self::Rollup,
        }
    }
}

/// A rule that matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RuleMatch {
    /// Id of the rule.
    pub id: String,
    /// Title of the rule.
    pub title: String,
    /// Severity of the rule.
    #[schemars(schema_with = "severity_schema")]
    pub severity: Severity,
    /// Tags of the rule.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Where to read on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// What its threshold found; absent for a rule without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<ThresholdFields>,
    /// Matches that were not told: of the same key since the last alert on it; in a `rule_summary` those that it stands for.
    pub folded: u64,
}

/// What a threshold found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ThresholdFields {
    /// Kind of the threshold: `bytes_out`, `distinct_owners`, `distinct_destinations`, `first_contact`, `above_habit`,
    /// `beacon`, `nameless`.
    pub kind: String,
    /// What was counted: bytes, owners, addresses; for `beacon` the median interval in ms.
    pub observed: u64,
    /// What it had to reach or exceed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Over how many seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
}

/// One list entry that matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ListMatch {
    /// Id of the list.
    pub list: String,
    /// Title of the list.
    pub title: String,
    /// Entity that the entry belongs to.
    pub entity: String,
    /// How the entry's holder relates to what the list names: `named`, `parent` or `affiliate` of it, or `topical`.
    #[schemars(schema_with = "relation_schema")]
    pub relation: Relation,
    /// Legal act of the list; absent for a topical list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub legal_basis: Option<String>,
    /// Legal act and date for this entity, where the list tells them apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// State of the list: the date up to which it was read; absent where nothing says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date"))]
    pub as_of: Option<String>,
    /// Where the list can be read, or the file or address that it was read from.
    pub source: String,
    /// Which key of the flow hit.
    pub key: KeyFields,
    /// Severity of the entry.
    #[schemars(schema_with = "severity_schema")]
    pub severity: Severity,
    /// `false` where the entry rests on the press or on common knowledge.
    pub verified: bool,
    /// Alert: no earlier alert on this executable and owner told of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_new: Option<bool>,
}

/// The key of a flow that hit a list's entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct KeyFields {
    /// What was compared.
    pub kind: KeyKind,
    /// The entry's value: `AS9808`, `111.0.0.0/10`, `cmpassport.com`, `CN`.
    pub value: String,
}

/// Values of `egresswatch.matches.key.kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// The autonomous system that originates the address.
    Asn,
    /// A prefix that holds the address.
    Cidr,
    /// A domain that is, or is a parent of, a name of the flow.
    Domain,
    /// Words of the name of the organisation that holds the autonomous system.
    Organisation,
    /// The country of the autonomous system.
    AsCountry,
    /// The country of the address range's registration.
    RegisteredCountry,
}

/// Who owns the remote address, whichever side opened the flow. Each country is a fact of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OwnerFields {
    /// Number of the autonomous system that originates the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
    /// Organisation that holds the autonomous system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    /// Country of the autonomous system (ISO 3166-1 alpha-2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_country: Option<String>,
    /// Country in which the address range is registered (ISO 3166-1 alpha-2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registered_country: Option<String>,
    /// Date of the ownership data. Addresses change hands: judge old data with care.
    #[schemars(extend("format" = "date"))]
    pub data_date: String,
}

/// What an executable exchanged with an owner since the first contact, this flow included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TotalFields {
    /// Flows.
    pub connections: u64,
    /// Payload bytes that left the host.
    pub payload_out_bytes: u64,
    /// Payload bytes that arrived.
    pub payload_in_bytes: u64,
    /// Distinct remote addresses; more than this where `more_destinations` is set.
    pub destinations: u64,
    /// There were more remote addresses than are counted.
    pub more_destinations: bool,
    /// The first contact.
    pub first_contact: Timestamp,
}

/// What of the totals is new since the last alert on the same executable and owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct IncreaseFields {
    /// Flows.
    pub connections: u64,
    /// Payload bytes that left the host.
    pub payload_out_bytes: u64,
    /// Payload bytes that arrived.
    pub payload_in_bytes: u64,
}

/// What ECS cannot say about the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ProcessFields {
    /// How surely this is the process that acted.
    pub matching: Matching,
    /// Why `process.hash` is absent; absent itself where nobody asked, which is so for flows that no list flags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash_gap: Option<Gap>,
    /// Why `package` is absent; absent itself where nobody asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package_gap: Option<Gap>,
    /// How the executable's path became known; absent where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executable_quality: Option<ExecutableQuality>,
    /// The executable was deleted, or never had a name (memfd).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executable_unlinked: Option<bool>,
    /// The upper components of the executable's path are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executable_truncated: Option<bool>,
    /// More arguments than were kept.
    pub args_truncated: bool,
    /// The parent's parent and so on, nearest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<Relative>,
    /// Path of the cgroup in the unified hierarchy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// systemd unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// This is the monitor itself.
    pub is_own: bool,
}

/// Values of `egresswatch.process.matching`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Matching {
    /// By pid and start time, which no other process has both of.
    Start,
    /// By pid alone, because this kernel's layout is not known: the last process seen with it.
    PidOnly,
    /// The process is not known beyond what the kernel said of it in the moment.
    Unknown,
}

impl From<process::Matching> for Matching {
    fn from(matching: process::Matching) -> Self {
        match matching {
            process::Matching::Start => Self::Start,
            process::Matching::PidOnly => Self::PidOnly,
            process::Matching::Unknown => Self::Unknown,
        }
    }
}

/// Values of `egresswatch.process.executable_quality`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExecutableQuality {
    /// The kernel walked the path at exec.
    Exec,
    /// Read from `/proc` while the process lived.
    Proc,
    /// Taken from the process that forked this one.
    Inherited,
    /// Another process was seen to run the same file (device and inode).
    SameFile,
}

/// The process that connected, where another one sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Connector {
    /// Which process.
    #[serde(flatten)]
    pub process: Relative,
    /// Number of its real user.
    pub user_id: String,
    /// Name of its real user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
}

/// What was lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LossFields {
    /// Where.
    pub stage: LossStage,
    /// Stable token of the reason.
    pub reason: String,
    /// How many since `since`.
    pub count: u64,
    /// How many since the monitor started.
    pub total: u64,
    /// The loss happened after this moment.
    pub since: Timestamp,
    /// Whether the data was only late: what was lost is read from the tables again.
    pub recoverable: bool,
    /// The output concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// What this host does not give.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DegradationFields {
    /// Stable token.
    pub token: String,
    /// What cannot be told because of it.
    pub missing: String,
    /// What to do about it; absent where nothing can be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// The monitor's own state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StatusFields {
    /// Which moment of its life.
    pub phase: Phase,
    /// Why it stops or reloads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Number of the policy in force: 1 at the start, one more with each reload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Settings that were changed and wait for a restart.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs_restart: Vec<String>,
    /// Rung of the kernel side in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rung: Option<String>,
    /// Date of the ownership data.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date"))]
    pub ownership_date: Option<String>,
    /// Lists whose matches alert.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lists: Option<u64>,
    /// Nanoseconds since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_ns: Option<u64>,
    /// Flows seen since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flows: Option<u64>,
    /// Alerts since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alerts: Option<u64>,
    /// Losses of every reason since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub losses: Option<u64>,
    /// Tokens of the degradations in force.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub degradations: Vec<String>,
}

fn severity_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["low", "medium", "high"] })
}

fn relation_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["named", "parent", "affiliate", "topical"] })
}
