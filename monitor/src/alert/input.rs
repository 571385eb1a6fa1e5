//! What a record is made of, as the pipeline hands it over.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;

use super::Timestamp;
use crate::{
    containers::ContainerFacts, event::Flow, executables::FileFacts, names::FlowNames, ownership::Owner, policy::Match,
    process::Process,
};

/// A flow with all that is known about it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The flow as the kernel last told it.
    pub flow: &'a Flow,
    /// The process whose doing it is ([`Flow::actor`]); `None` where no hook could tell.
    pub actor: Option<&'a Process>,
    /// The process that connected. It is written beside the actor only where it is another process.
    pub connector: Option<&'a Process>,
    /// What is known of the actor's executable; `None` where nobody asked, which is so for flows without matches.
    pub file: Option<&'a FileFacts>,
    /// What is known of the container that the actor is in; `None` where it is in none, or nobody asked.
    pub container: Option<&'a ContainerFacts>,
    /// Who owns the remote address.
    pub owner: &'a Owner,
    /// Date of the ownership data.
    pub ownership_date: jiff::civil::Date,
    /// What the remote side was called.
    pub names: &'a FlowNames,
    /// Who owns the address that a proxy was asked for, where it was asked for one.
    pub target_owner: Option<&'a Owner>,
    /// List entries that this flow hits; for an alert the decision's matches stand instead.
    pub matches: &'a [Match],
}

/// Why a flow is written as a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowMoment {
    /// It ended: the totals are final.
    Ended,
    /// It goes on and its schedule was due: a later record of the same flow replaces this one.
    Progress,
}

/// Where something was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossStage {
    /// In the kernel programs or their maps and rings.
    Kernel,
    /// Between the kernel's rings and the outputs.
    Pipeline,
    /// In an output.
    Output,
}

/// Something was lost or late, and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Where.
    pub stage: LossStage,
    /// Stable token of the reason, such as `flow_ring_full` or `output_queue_full`.
    pub reason: Cow<'static, str>,
    /// How many things were lost since `since`.
    pub count: u64,
    /// How many since the monitor started.
    pub total: u64,
    /// The loss happened after this moment.
    pub since: Timestamp,
    /// Whether the data was only late: the tables still hold the truth.
    pub recoverable: bool,
    /// The output concerned, for [`LossStage::Output`].
    pub output: Option<String>,
}

/// The stable token for flows that are not kept because of `limits.memory`.
pub const LIVE_FLOWS_FULL: &str = "live_flows_full";

/// The stable token for ordinary records dropped because an output could not keep up.
pub const OUTPUT_QUEUE_FULL: &str = "output_queue_full";

/// The stable token for records dropped because the queue of an output on the disk was full.
pub const SPOOL_FULL: &str = "spool_full";
/// The stable token for records that a receiver refused for good.
pub const RECEIVER_REFUSED: &str = "receiver_refused";
/// The stable token for refused records that were kept, and are no more.
pub const DEAD_LETTER_FULL: &str = "dead_letter_full";
/// The stable token for records that could not be read from the disk again.
pub const SPOOL_DAMAGED: &str = "spool_damaged";

/// Something this host does not give, or no longer does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degradation {
    /// Stable token.
    pub token: Cow<'static, str>,
    /// What cannot be told because of it; a sentence without its full stop.
    pub missing: String,
    /// What to do about it; a sentence without its full stop. `None` where nothing can be done.
    pub remedy: Option<String>,
}

/// A moment in the monitor's own life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It watches from now on.
    Started,
    /// It still watches.
    Running,
    /// It judges by another policy from now on: configuration, lists or data were taken in anew.
    Reloaded,
    /// It stops watching.
    Stopped,
}

/// The monitor's own state at a [`Phase`]. Unknown figures are `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Which moment.
    pub phase: Phase,
    /// Why, for a stop (`signal`, `reader_gone`, `error`, …) and for a reload (`signal`, `file_changed`, `command`,
    /// `list_refreshed`).
    pub reason: Option<String>,
    /// Number of the policy in force: 1 at the start, one more with each reload.
    pub generation: Option<u64>,
    /// Settings that were changed and wait for a restart.
    pub needs_restart: Vec<String>,
    /// Rung of the kernel side in use.
    pub rung: Option<String>,
    /// Date of the ownership data.
    pub ownership_date: Option<jiff::civil::Date>,
    /// Lists whose matches alert.
    pub lists: Option<u64>,
    /// Nanoseconds since the start.
    pub uptime_ns: Option<u64>,
    /// Flows seen since the start.
    pub flows: Option<u64>,
    /// Alerts since the start.
    pub alerts: Option<u64>,
    /// Losses of every reason since the start.
    pub losses: Option<u64>,
    /// Tokens of the degradations in force.
    pub degradations: Vec<String>,
}

impl Status {
    /// A status at `phase` of which nothing else is known.
    #[must_use]
    pub const fn new(phase: Phase) -> Self {
        Self {
            phase,
            reason: None,
            generation: None,
            needs_restart: Vec::new(),
            rung: None,
            ownership_date: None,
            lists: None,
            uptime_ns: None,
            flows: None,
            alerts: None,
            losses: None,
            degradations: Vec::new(),
        }
    }
}

/// The host, as it stands in every record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Name as `uname` gives it.
    pub hostname: String,
    /// Machine id (`/etc/machine-id`).
    pub machine_id: Option<String>,
    /// Id of this boot (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: Option<String>,
    /// Architecture as `uname -m` gives it.
    pub architecture: Option<String>,
    /// Kernel release as `uname -r` gives it.
    pub kernel: Option<String>,
    /// Name of the distribution (`NAME` of `os-release`).
    pub os_name: Option<String>,
    /// Its id (`ID` of `os-release`).
    pub os_platform: Option<String>,
    /// Its version (`VERSION_ID` of `os-release`).
    pub os_version: Option<String>,
}
