//! The figures of one run, as they stand in `results.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    daemon::Memory,
    programs::Runs,
    statistics::{Latencies, Spread},
};

/// Everything that one run measured. What was not asked for is absent.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    /// Where and when.
    pub(crate) machine: Machine,
    /// A short run: figures for whoever changes the code, not for the page.
    pub(crate) quick: bool,
    /// Loads with and without the monitor.
    pub(crate) overhead: Vec<Overhead>,
    /// Time of each kernel program.
    pub(crate) programs: Option<Programs>,
    /// Connections at a given rate.
    pub(crate) rates: Vec<Rate>,
    /// A quiet host.
    pub(crate) idle: Option<Idle>,
    /// Many flows at a time.
    pub(crate) flows: Vec<LiveFlows>,
    /// Many flagged prefixes.
    pub(crate) prefixes: Vec<Prefixes>,
    /// From start to readiness, in ms.
    pub(crate) start_ms: Option<Spread>,
    /// Lookups of an owner.
    pub(crate) lookups: Vec<Lookup>,
    /// Other tools under the same load.
    pub(crate) neighbours: Vec<Neighbour>,
    /// What was asked for and could not be measured, and why.
    #[serde(default)]
    pub(crate) failures: Vec<Failure>,
}

/// A section that could not be measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// Its title.
    pub(crate) section: String,
    /// Why, for people.
    pub(crate) reason: String,
}

/// What the figures depend on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// As `/proc/cpuinfo` calls the processor.
    pub(crate) processor: String,
    /// Processors that this program may use.
    pub(crate) cpus: usize,
    /// Memory in bytes.
    pub(crate) memory_bytes: u64,
    /// Release of the kernel.
    pub(crate) kernel: String,
    /// Day of the run, UTC.
    pub(crate) date: String,
    /// Commit of the checkout; with `+` if it had changes.
    pub(crate) commit: String,
    /// CPU that everybody used in the seconds before the run, in percent of one core: near 0 on a quiet machine.
    pub(crate) busy_percent: f64,
    /// Other monitors' programs on the same hook when the run began. They would be part of every "without".
    pub(crate) other_monitors: usize,
}

/// A load in rounds without, with the monitor on one end, and with the monitor on both ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Overhead {
    /// Stable name.
    pub(crate) name: String,
    /// What is counted.
    pub(crate) unit: String,
    /// Operations a second without the monitor.
    pub(crate) without_rate: Spread,
    /// CPU time of one operation without the monitor, in ns.
    pub(crate) without_cpu_ns: Spread,
    /// Programs that do nothing see the load's end only: what the kernel's calls of any programs cost.
    pub(crate) empty_programs: Change,
    /// The monitor sees the load's end only, as with a server elsewhere.
    pub(crate) one_end: Change,
    /// The monitor sees both ends, as with a server on the same host.
    pub(crate) both_ends: Change,
}

/// How the monitor changes a load; each figure is of pairs within one round.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Change {
    /// Of operations a second, in percent; negative is slower.
    pub(crate) rate_percent: Spread,
    /// Of the load's CPU time for one operation, in percent; positive is dearer.
    pub(crate) cpu_percent: Spread,
    /// CPU time of the monitor itself for one operation, in ns.
    pub(crate) daemon_ns: Spread,
}

/// Time of the kernel programs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Programs {
    /// What taking the time costs, and is part of each figure, in ns.
    pub(crate) clock_ns: f64,
    /// Runs by load and program.
    pub(crate) runs: BTreeMap<String, BTreeMap<String, Runs>>,
    /// Operations of each load.
    pub(crate) operations: BTreeMap<String, u64>,
}

/// Connections at a given rate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Rate {
    /// Connections a second asked for.
    pub(crate) asked: f64,
    /// Connections a second that the machine made.
    pub(crate) made: f64,
    /// CPU of the monitor when none of them is flagged, in percent of one core.
    pub(crate) cpu_percent: f64,
    /// The same by thread.
    pub(crate) threads_cpu_percent: BTreeMap<String, f64>,
    /// From just before `connect` to the alert's line in the reader's hands.
    pub(crate) latency: Option<Latencies>,
    /// Flagged connections among them, each to an owner of its own.
    pub(crate) alerts: u64,
    /// Those of them that brought no alert.
    pub(crate) alerts_missed: u64,
    /// CPU of the monitor with these alerts, in percent of one core.
    pub(crate) alerts_cpu_percent: f64,
    /// A run with a record of every flow.
    pub(crate) with_flows: WithFlows,
}

/// A run with a record of every flow.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WithFlows {
    /// Connections a second that the machine made.
    pub(crate) made: f64,
    /// CPU of the monitor, in percent of one core.
    pub(crate) cpu_percent: f64,
    /// Connections without a record of their end.
    pub(crate) missed: u64,
    /// Payload bytes that the records say beside those that were sent, both ways of error added up.
    pub(crate) bytes_wrong: u64,
    /// Losses that the monitor told, by reason.
    pub(crate) losses_told: BTreeMap<String, u64>,
}

/// A quiet host.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Idle {
    /// CPU of the monitor, in percent of one core.
    pub(crate) cpu_percent: f64,
    /// Over this many seconds.
    pub(crate) seconds: f64,
    /// What the monitor takes then.
    pub(crate) memory: Memory,
}

/// Flows at a time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LiveFlows {
    /// How many were opened and stay.
    pub(crate) flows: u64,
    /// How many the kernel's table holds (`flow_table_entries`).
    pub(crate) table_entries: u64,
    /// Flows that the monitor told as not counted, by reason, since the step before.
    pub(crate) losses_told: BTreeMap<String, u64>,
    /// What they take.
    pub(crate) memory: Memory,
    /// Mean time of `connect4` with so many flows, in ns.
    pub(crate) connect_ns: f64,
    /// Mean time of `packet_out` with so many flows, in ns.
    pub(crate) packet_ns: f64,
}

/// Flagged prefixes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Prefixes {
    /// How many a list of one's own names.
    pub(crate) count: u64,
    /// Mean time of `connect4`, in ns.
    pub(crate) connect_ns: f64,
    /// Mean time of `packet_out`, in ns.
    pub(crate) packet_ns: f64,
    /// From start to readiness, in ms.
    pub(crate) start_ms: f64,
    /// What they take.
    pub(crate) memory: Memory,
}

/// A kind of lookup.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Lookup {
    /// Family and kind.
    pub(crate) name: String,
    /// Time of one, in ns.
    pub(crate) each_ns: Spread,
}

/// A tool under the same load as the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Neighbour {
    /// The tool, with its version where it tells one.
    pub(crate) name: String,
    /// What it did, or why it could not be measured.
    pub(crate) outcome: Outcome,
}

/// How a tool fared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It ran.
    Measured(Observation),
    /// It did not: why.
    Skipped(String),
}

/// What a tool told of a load, and what it took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Observation {
    /// Connections that the load made.
    pub(crate) made: u64,
    /// Of them, those that it did not tell; `None` if it tells no connections.
    pub(crate) missed: Option<u64>,
    /// Payload bytes that the load sent.
    pub(crate) sent_bytes: u64,
    /// Bytes that it said the load's program sent.
    pub(crate) told_bytes: u64,
    /// CPU that it used, in percent of one core.
    pub(crate) cpu_percent: f64,
    /// Resident memory after the load, in bytes.
    pub(crate) resident_bytes: u64,
}
