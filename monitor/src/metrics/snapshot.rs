//! What the loop knows of itself at one moment.

use prometheus_client::metrics::histogram::Histogram;
use serde::Serialize;

use crate::{
    alert::{Timestamp, input::LossStage},
    containers,
    policy::feeds,
    sink::spool::{QueueCounters, QueueFigures},
};

/// The state of a running monitor.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// Version of the program.
    pub version: &'static str,
    /// Nanoseconds since the start.
    pub uptime_ns: u64,
    /// Rung of the kernel side in use.
    pub rung: &'static str,
    /// Names of the probes that are attached.
    pub probes: Vec<&'static str>,
    /// What does not work.
    pub degradations: Vec<DegradationState>,
    /// Number of the policy in force.
    pub generation: u64,
    /// Settings that were changed and wait for a restart.
    pub needs_restart: Vec<String>,
    /// Reloads so far, and the last of them.
    pub reloads: ReloadState,
    /// Flows so far.
    pub flows: FlowFigures,
    /// Alerts so far.
    pub alerts: u64,
    /// The same by list and severity; an alert on several lists counts for each of them.
    pub alerts_by_list: Vec<AlertCount>,
    /// The same by rule and severity: those in force, also where there were none, and those that have told something.
    pub alerts_by_rule: Vec<RuleAlertCount>,
    /// What rules and lists matched so far and no alert told by itself.
    pub untold: Vec<UntoldCount>,
    /// Losses of each kind so far.
    pub losses: Vec<LossFigure>,
    /// Kernel records that could not be understood.
    pub refused_records: u64,
    /// How full the kernel's rings are.
    pub rings: Vec<RingState>,
    /// How full tables are.
    pub tables: Vec<TableState>,
    /// The process table.
    pub processes: ProcessFigures,
    /// What was found of containers.
    pub containers: containers::Figures,
    /// Date of the ownership data.
    pub ownership_date: String,
    /// Lists whose matches alert.
    pub lists: Vec<ListState>,
    /// The lists of `[lists]`, also those that do not count.
    pub own_lists: Vec<feeds::State>,
    /// Rules in force.
    pub rules: Vec<RuleState>,
    /// Outputs.
    pub outputs: Vec<OutputState>,
}

/// Something that does not work.
#[derive(Clone, Debug, Serialize)]
pub struct DegradationState {
    /// Stable token.
    pub token: String,
    /// What cannot be told because of it.
    pub missing: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// Reloads since the start.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReloadState {
    /// Those that took another policy in.
    pub done: u64,
    /// Those that left the old one in force.
    pub failed: u64,
    /// When the last one was.
    pub last_at: Option<Timestamp>,
    /// What made it happen.
    pub last_trigger: Option<&'static str>,
    /// Why the last one failed; absent if it did not.
    pub last_error: Option<String>,
}

/// Flows since the start.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct FlowFigures {
    /// Seen.
    pub seen: u64,
    /// Ended.
    pub ended: u64,
    /// Open now.
    pub open: u64,
    /// Without a process.
    pub unattributed: u64,
}

/// Alerts of one list and severity.
#[derive(Clone, Debug, Serialize)]
pub struct AlertCount {
    /// Id of the list.
    pub list: String,
    /// Severity of the alert.
    pub severity: &'static str,
    /// How many.
    pub count: u64,
}

/// Alerts of one rule and severity.
#[derive(Clone, Debug, Serialize)]
pub struct RuleAlertCount {
    /// Id of the rule.
    pub rule: String,
    /// Severity of the alert.
    pub severity: &'static str,
    /// How many.
    pub count: u64,
}

/// A rule in force.
#[derive(Clone, Debug, Serialize)]
pub struct RuleState {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// The file it came from.
    pub file: String,
    /// What is done about a match: `alert`, or `ignore`.
    pub action: &'static str,
    /// Severity of its alerts.
    pub severity: &'static str,
    /// Alerts that it has told.
    pub alerts: u64,
}

/// Matches that no alert told by itself, for one reason.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct UntoldCount {
    /// Why: `ignored` and `suppressed` are told nowhere, `folded`, `rate_limited` and `maintenance` as a count in a later
    /// alert.
    pub reason: &'static str,
    /// How many.
    pub count: u64,
}

/// Losses of one reason.
#[derive(Clone, Debug, Serialize)]
pub struct LossFigure {
    /// Where.
    pub stage: LossStage,
    /// Stable token of the reason.
    pub reason: &'static str,
    /// How many.
    pub count: u64,
    /// The output concerned, for those of outputs; `spool` for what found no room on the way to all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// How full a ring between the kernel and the monitor is.
#[derive(Clone, Debug, Serialize)]
pub struct RingState {
    /// Which.
    pub ring: &'static str,
    /// Bytes that the monitor has not read yet.
    pub unread_bytes: u64,
    /// Bytes that there is room for.
    pub size_bytes: u64,
}

/// How full a table is.
#[derive(Clone, Debug, Serialize)]
pub struct TableState {
    /// Which.
    pub table: &'static str,
    /// Entries held.
    pub entries: u64,
    /// Entries that there is room for.
    pub capacity: u64,
}

/// What the process table holds and gave up.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ProcessFigures {
    /// Running processes held.
    pub running: u64,
    /// Ended processes held.
    pub ended: u64,
    /// Ended processes given up for newer ones.
    pub evicted: u64,
    /// Running processes not held because there are too many.
    pub not_recorded: u64,
    /// Descriptions without an executable.
    pub unknown_executables: u64,
}

/// A list whose matches alert.
#[derive(Clone, Debug, Serialize)]
pub struct ListState {
    /// Its id.
    pub id: String,
    /// The date up to which it was read, where something says it.
    pub as_of: Option<String>,
    /// Its entities.
    pub entities: u64,
}

/// What an output has done.
#[derive(Clone, Debug, Serialize)]
pub struct OutputState {
    /// Its name.
    pub output: String,
    /// Records written whole.
    pub written_records: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Flow records dropped because it could not keep up.
    pub dropped_flows: u64,
    /// Alerts and notices dropped because it could not keep up while other outputs ran on.
    pub dropped_alerts: u64,
    /// Writes that failed.
    pub errors: u64,
    /// Nothing is coming through now: writes or deliveries fail, or the receiver refuses all that it is sent.
    pub failing: bool,
    /// What its transport calls itself, for an output with a spool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiver: Option<String>,
    /// What waits on the disk, and how delivering went; absent for an output without a spool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueFigures>,
    /// How long records took until the receiver confirmed them, for an output with a spool.
    #[serde(skip)]
    pub delivery_latency: Option<Histogram>,
}

impl OutputState {
    /// Whether what it is handed is kept: by one without a spool while writes come through, by one with a spool also while
    /// the receiver is down, until its queue is full; but not while the receiver refuses everything.
    #[must_use]
    pub const fn takes_records(&self) -> bool {
        match &self.queue {
            None => !self.failing,
            Some(queue) => queue.takes_records(),
        }
    }
}

impl Snapshot {
    /// One with every kind of figure in it, for the reference and for tests.
    #[must_use]
    pub(crate) fn example() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            uptime_ns: 7_300_000_000_000,
            rung: "sender",
            probes: vec!["connect4", "packet_out"],
            degradations: vec![DegradationState {
                token: "reload_failed".to_owned(),
                missing: "what was changed is not in force".to_owned(),
                remedy: Some("mend what is named".to_owned()),
            }],
            generation: 2,
            needs_restart: vec!["kernel.flow_ring_size".to_owned()],
            reloads: ReloadState {
                done: 1,
                failed: 1,
                last_at: Some(Timestamp::from_unix_ns(1_795_431_784_000_000_000)),
                last_trigger: Some("file_changed"),
                last_error: Some("mine.toml: line 3: severity: write \"low\"".to_owned()),
            },
            flows: FlowFigures { seen: 20_481, ended: 20_400, open: 81, unattributed: 0 },
            alerts: 3,
            alerts_by_list: vec![AlertCount { list: "us-fcc-covered".to_owned(), severity: "high", count: 3 }],
            alerts_by_rule: vec![RuleAlertCount { rule: "miner-port".to_owned(), severity: "medium", count: 13 }],
            untold: vec![UntoldCount { reason: "suppressed", count: 2 }],
            losses: vec![
                LossFigure { stage: LossStage::Kernel, reason: "flow_ring_full", count: 0, output: None },
                LossFigure {
                    stage: LossStage::Output,
                    reason: "spool_full",
                    count: 0,
                    output: Some("siem".to_owned()),
                },
            ],
            refused_records: 0,
            rings: vec![RingState { ring: "flow", unread_bytes: 12_288, size_bytes: 8 << 20 }],
            tables: vec![TableState { table: "flagged_ipv4_prefixes", entries: 12_345, capacity: 65_536 }],
            processes: ProcessFigures { running: 210, ended: 40, ..ProcessFigures::default() },
            containers: containers::Figures { described: 12, not_found: 1, ..containers::Figures::default() },
            ownership_date: "2026-06-17".to_owned(),
            lists: vec![ListState {
                id: "us-fcc-covered".to_owned(),
                as_of: Some("2026-01-01".to_owned()),
                entities: 60,
            }],
            own_lists: vec![feeds::State {
                name: "own".to_owned(),
                source: "https://lists.example.org/own.txt".to_owned(),
                enabled: true,
                keys: 1_180,
                entries: 1_200,
                bad_lines: 2,
                good_at: jiff::Timestamp::from_second(1_795_400_000).ok(),
                expires_at: jiff::Timestamp::from_second(1_796_004_800).ok(),
                fetch_error: Some("https://lists.example.org/own.txt was not fetched: cannot connect".to_owned()),
                ..feeds::State::default()
            }],
            rules: vec![RuleState {
                id: "miner-port".to_owned(),
                title: "A program reached a port of mining pools".to_owned(),
                file: "/etc/egresswatch/rules.d/own.toml".to_owned(),
                action: "alert",
                severity: "medium",
                alerts: 13,
            }],
            outputs: example_outputs(),
        }
    }
}

fn example_outputs() -> Vec<OutputState> {
    let delivery_latency = QueueCounters::default().delivery_latency();
    delivery_latency.observe(0.7);
    vec![
        OutputState {
            output: "standard output".to_owned(),
            written_records: 20_490,
            written_bytes: 81_000_000,
            dropped_flows: 0,
            dropped_alerts: 0,
            errors: 0,
            failing: false,
            receiver: None,
            queue: None,
            delivery_latency: None,
        },
        OutputState {
            output: "siem".to_owned(),
            written_records: 12,
            written_bytes: 48_000,
            dropped_flows: 0,
            dropped_alerts: 0,
            errors: 2,
            failing: true,
            receiver: Some("syslog 192.0.2.1:6514 over TLS".to_owned()),
            queue: Some(QueueFigures {
                delivered_records: 12,
                delivered_bytes: 48_000,
                retries: 1,
                failures: 2,
                last_success: Some(Timestamp::from_unix_ns(1_795_431_784_000_000_000)),
                is_failing: true,
                last_error: Some("connection refused".to_owned()),
                depth_records: 3,
                depth_bytes: 12_000,
                max_bytes: 256 << 20,
                oldest: Some(Timestamp::from_unix_ns(1_795_431_784_000_000_000)),
                ..QueueFigures::default()
            }),
            delivery_latency: Some(delivery_latency),
        },
    ]
}
