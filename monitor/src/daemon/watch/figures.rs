//! The loop's figures: what metrics and `egresswatch status` show.

use std::collections::HashMap;

use super::Watch;
use crate::{
    alert::{Record, input::LossStage},
    event::BootTime,
    kernel::Occupancy,
    metrics::{
        AlertCount, DegradationState, FlowFigures, ListState, LossFigure, ProcessFigures, ReloadState, RingState,
        Snapshot, TableState, UntoldCount,
    },
    policy::{Severity, feeds, rules::EngineStats},
};

/// Combinations of list and severity that alerts are counted by: more than there are lists.
const COUNTED: usize = 1_024;

/// What is counted for figures only.
#[derive(Debug, Default)]
pub(super) struct Figures {
    alerts: HashMap<(String, &'static str), u64>,
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

    /// Counts an alert for each of its lists.
    pub(super) fn count_alert(&mut self, alert: &Record) {
        let severity = match alert.egresswatch.severity {
            Some(Severity::High) => "high",
            Some(Severity::Medium) => "medium",
            Some(Severity::Low) | None => "low",
        };
        for list in &alert.egresswatch.lists {
            let is_new = !self.alerts.contains_key(&(list.clone(), severity));
            if !is_new || self.alerts.len() < COUNTED {
                *self.alerts.entry((list.clone(), severity)).or_default() += 1;
            }
        }
    }
}

impl Watch {
    /// The figures of this moment.
    pub(super) fn snapshot(&self, now: BootTime) -> Snapshot {
        let kernel = &self.stages.kernel;
        let pipeline = &self.stages.pipeline;
        let totals = pipeline.totals();
        let kernel_losses =
            self.losses.kernel().iter().map(|(reason, count)| (LossStage::Kernel, reason.as_token(), count));
        let name_losses =
            pipeline.name_losses().by_reason().map(|(reason, count)| (LossStage::Pipeline, reason, count));
        let losses = kernel_losses.chain(name_losses);
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
            untold: untold(pipeline.rule_stats()),
            losses: losses.map(|(stage, reason, count)| LossFigure { stage, reason, count }).collect(),
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
