//! The loop's figures: what metrics and `egresswatch status` show.

use std::collections::HashMap;

use super::Watch;
use crate::{
    alert::{
        Record,
        input::{LIVE_FLOWS_FULL, LossStage},
    },
    event::BootTime,
    kernel::Occupancy,
    metrics::{
        AlertCount, DegradationState, FlowFigures, ListState, LossFigure, ProcessFigures, ReloadState, RingState,
        RuleAlertCount, RuleState, Snapshot, TableState, UntoldCount,
    },
    policy::{
        Action, Severity, feeds,
        rules::{EngineStats, Rules},
    },
};

/// Combinations of list or rule and severity that alerts are counted by: more than there are of either.
const COUNTED: usize = 1_024;

/// Alerts by what made them and their severity.
type Counts = HashMap<(String, &'static str), u64>;

/// What is counted for figures only.
#[derive(Debug, Default)]
pub(super) struct Figures {
    alerts: Counts,
    rule_alerts: Counts,
    pub(super) reloads: ReloadState,
    pub(super) occupancy: Occupancy,
    pub(super) lists: Vec<ListState>,
    pub(super) feeds: Vec<feeds::State>,
}

impl Figures {
    /// Of a start with these lists.
    pub(super) fn new(lists: Vec<ListState>) -> Self {
        Self { lists, ..Self::default() }
    }

    /// Counts an alert for each of its lists and rules.
    pub(super) fn count_alert(&mut self, alert: &Record) {
        let severity = severity_token(alert.egresswatch.severity.unwrap_or(Severity::Low));
        for list in &alert.egresswatch.lists {
            count(&mut self.alerts, list, severity);
        }
        for rule in &alert.egresswatch.rules {
            count(&mut self.rule_alerts, &rule.id, severity_token(rule.severity));
        }
    }

    /// The rules in force, with what they have told.
    fn rules(&self, rules: &Rules) -> Vec<RuleState> {
        let told = |id: &str| self.rule_alerts.iter().filter(|((rule, _), _)| rule == id).map(|(_, count)| count).sum();
        let enabled = rules.headers().filter(|header| header.enabled);
        enabled
            .map(|header| RuleState {
                id: header.id.to_string(),
                title: header.title.to_string(),
                file: header.file.to_string(),
                action: match header.action {
                    Action::Alert => "alert",
                    Action::Ignore => "ignore",
                },
                severity: severity_token(header.severity),
                alerts: told(&header.id),
            })
            .collect()
    }

    /// Alerts by rule; for those in force that may tell something also where it is none, so that the first is an increase.
    fn alerts_by_rule(&self, rules: &[RuleState]) -> Vec<RuleAlertCount> {
        let mut counts = self.rule_alerts.clone();
        for rule in rules.iter().filter(|rule| rule.action == "alert") {
            counts.entry((rule.id.clone(), rule.severity)).or_default();
        }
        let mut counts: Vec<_> =
            counts.into_iter().map(|((rule, severity), count)| RuleAlertCount { rule, severity, count }).collect();
        counts.sort_by(|left, right| (&left.rule, left.severity).cmp(&(&right.rule, right.severity)));
        counts
    }
}

fn count(counts: &mut Counts, what: &str, severity: &'static str) {
    let key = (what.to_owned(), severity);
    if counts.len() < COUNTED || counts.contains_key(&key) {
        *counts.entry(key).or_default() += 1;
    }
}

const fn severity_token(severity: Severity) -> &'static str {
    match severity {
        Severity::High => "high",
        Severity::Medium => "medium",
        Severity::Low => "low",
    }
}

impl Watch {
    /// What was lost or late so far, by reason.
    pub(super) fn loss_figures(&self) -> Vec<LossFigure> {
        let figure = |stage, reason, count| LossFigure { stage, reason, count, output: None };
        let pipeline = &self.stages.pipeline;
        let kernel =
            self.losses.kernel().iter().map(|(reason, count)| figure(LossStage::Kernel, reason.as_token(), count));
        let flows = std::iter::once(figure(LossStage::Pipeline, LIVE_FLOWS_FULL, pipeline.flows_beyond()));
        let names =
            pipeline.name_losses().by_reason().map(|(reason, count)| figure(LossStage::Pipeline, reason, count));
        kernel.chain(flows).chain(names).chain(self.handover.outputs.losses()).collect()
    }

    /// The figures of this moment.
    pub(super) fn snapshot(&self, now: BootTime) -> Snapshot {
        let kernel = &self.stages.kernel;
        let pipeline = &self.stages.pipeline;
        let totals = pipeline.totals();
        let processes = pipeline.processes().counters();
        let Occupancy { ipv4, ipv4_capacity, ipv6, ipv6_capacity } = self.figures.occupancy;
        let table = |table, entries: usize, capacity: usize| TableState {
            table,
            entries: entries as u64,
            capacity: capacity as u64,
        };
        let mut tables = vec![
            table("flows", totals.live_flows as usize, self.stages.flow_capacity),
            table("flagged_ipv4_prefixes", ipv4, ipv4_capacity),
            table("flagged_ipv6_prefixes", ipv6, ipv6_capacity),
        ];
        let others = pipeline.processes().occupancy().into_iter().chain(pipeline.name_tables());
        tables.extend(others.map(|(name, entries, capacity)| table(name, entries, capacity)));
        let mut alerts_by_list: Vec<_> = self
            .figures
            .alerts
            .iter()
            .map(|((list, severity), count)| AlertCount { list: list.clone(), severity, count: *count })
            .collect();
        alerts_by_list.sort_by(|left, right| (&left.list, left.severity).cmp(&(&right.list, right.severity)));
        let rules = self.figures.rules(pipeline.rules());
        let of_host = kernel.degradations.iter().map(|one| DegradationState {
            token: one.as_token().to_owned(),
            missing: one.to_string(),
            remedy: Some(one.remedy().to_owned()),
        });
        let since_start = self.troubles.iter().map(|one| DegradationState {
            token: one.token.clone().into_owned(),
            missing: one.missing.clone(),
            remedy: one.remedy.clone(),
        });
        Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            uptime_ns: now.since_ns(self.started_at),
            rung: kernel.rung.as_token(),
            probes: kernel.attached.clone(),
            degradations: of_host.chain(since_start).collect(),
            generation: self.generation,
            needs_restart: self.needs_restart.clone(),
            reloads: self.figures.reloads.clone(),
            flows: FlowFigures {
                seen: totals.flows,
                ended: totals.ended_flows,
                open: totals.live_flows,
                unattributed: totals.unattributed_flows,
            },
            alerts: totals.alerts,
            alerts_by_list,
            alerts_by_rule: self.figures.alerts_by_rule(&rules),
            untold: untold(pipeline.rule_stats()),
            losses: self.loss_figures(),
            refused_records: self.rings.refused,
            rings: kernel
                .ring_fills()
                .map(|fill| RingState { ring: fill.ring, unread_bytes: fill.unread_bytes, size_bytes: fill.size_bytes })
                .collect(),
            tables,
            processes: ProcessFigures {
                running: processes.running,
                ended: processes.ended,
                evicted: processes.evicted,
                not_recorded: processes.not_recorded,
                unknown_executables: processes.unknown_executables,
            },
            containers: pipeline.container_figures(),
            ownership_date: self.stages.ownership_date.to_string(),
            lists: self.figures.lists.clone(),
            own_lists: self.figures.feeds.clone(),
            rules,
            outputs: self.handover.outputs.states(),
        }
    }
}

/// The counts of what rules keep back.
fn untold(stats: EngineStats) -> Vec<UntoldCount> {
    let EngineStats { ignored, suppressed, folded, rate_limited, maintained } = stats;
    [
        ("ignored", ignored),
        ("suppressed", suppressed),
        ("folded", folded),
        ("rate_limited", rate_limited),
        ("maintenance", maintained),
    ]
    .map(|(reason, count)| UntoldCount { reason, count })
    .into()
}
