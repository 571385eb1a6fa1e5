//! From facts to a [`Record`].

mod container;
mod parts;

use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    Timestamp, WallClock,
    input::{self, Degradation, FlowMoment, Loss, Phase, Status, Subject},
    record::{
        self, Agent, Dataset, DegradationFields, ECS_VERSION, Ecs, Event, EventAction, EventCategory, EventKind,
        EventType, Host, IncreaseFields, LossFields, Observer, Own, Record, StatusFields, TotalFields,
    },
    sentence,
};
use crate::policy::{
    Cause, Decision, Severity,
    rules::{RuleCause, RuleDecision},
};

/// Makes records: holds what all records of a run share and numbers them.
///
/// It is shared by reference between the pipeline and the outputs; the number is its only state.
#[derive(Debug)]
pub struct RecordBuilder {
    run_id: String,
    /// What the numbers are appended to.
    id_prefix: String,
    host: Host,
    next_sequence: AtomicU64,
}

impl RecordBuilder {
    /// For one run of the monitor on `host`. `run_id` must differ between runs and hosts (a UUID, or boot id and start
    /// time): record ids are made from it.
    #[must_use]
    pub fn new(run_id: String, host: input::Host) -> Self {
        let id_prefix = run_id.clone();
        Self { run_id, id_prefix, host: parts::host(host), next_sequence: AtomicU64::new(0) }
    }

    /// For answers to questions, which are no part of the run's output: they are numbered by themselves, so that the
    /// output's numbers stay without gaps.
    #[must_use]
    pub fn for_answers(&self) -> Self {
        Self {
            run_id: self.run_id.clone(),
            id_prefix: format!("{}-answer", self.run_id),
            host: self.host.clone(),
            next_sequence: AtomicU64::new(0),
        }
    }

    /// An alert that is due by `decision`. `subject` is the flow of the decision's context.
    #[must_use]
    pub fn alert<C>(&self, clock: WallClock, subject: &Subject<'_>, decision: &Decision<C>) -> Record {
        let action = match decision.cause {
            Cause::FirstContact => EventAction::FirstContact,
            Cause::LevelRaised => EventAction::LevelRaised,
            Cause::NewMatch => EventAction::NewMatch,
            Cause::Rollup => EventAction::Rollup,
        };
        let mut record = self.base(clock.at(decision.at), Dataset::Alert, action);
        parts::describe_flow(&mut record, clock, &Subject { matches: &decision.matches, ..*subject });
        record.event.severity = Some(severity_number(decision.severity));
        let own = &mut record.egresswatch;
        own.level = Some(decision.level.into());
        own.cause = Some(decision.cause.into());
        own.severity = Some(decision.severity);
        let told = decision.matches.len().saturating_sub(decision.new_matches);
        for (index, entry) in own.matches.iter_mut().enumerate() {
            entry.is_new = Some(index >= told);
        }
        let (totals, increase) = (decision.totals, decision.increase);
        own.totals = Some(TotalFields {
            connections: totals.connections,
            payload_out_bytes: totals.payload_out_bytes,
            payload_in_bytes: totals.payload_in_bytes,
            destinations: totals.destinations as u64,
            more_destinations: totals.more_destinations,
            first_contact: clock.at(totals.first_at),
        });
        own.increase = Some(IncreaseFields {
            connections: increase.connections,
            payload_out_bytes: increase.payload_out_bytes,
            payload_in_bytes: increase.payload_in_bytes,
        });
        sentence::finish(record)
    }

    /// An alert of a rule. `subject` is the flow of the decision's context.
    #[must_use]
    pub fn rule_alert<C>(&self, clock: WallClock, subject: &Subject<'_>, decision: &RuleDecision<C>) -> Record {
        let (action, cause) = match decision.cause {
            RuleCause::Matched => (EventAction::RuleMatched, record::Cause::RuleMatched),
            RuleCause::Folded => (EventAction::RuleSummary, record::Cause::RuleSummary),
        };
        let mut record = self.base(clock.at(decision.at), Dataset::Alert, action);
        parts::describe_flow(&mut record, clock, subject);
        parts::describe_rule(&mut record, &decision.rule, decision.evidence.as_ref(), decision.folded);
        record.event.severity = Some(severity_number(decision.rule.severity));
        let own = &mut record.egresswatch;
        own.level = Some(decision.level.into());
        own.cause = Some(cause);
        own.severity = Some(decision.rule.severity);
        sentence::finish(record)
    }

    /// A flow that ended, or a snapshot of one that goes on.
    #[must_use]
    pub fn flow(&self, clock: WallClock, subject: &Subject<'_>, moment: FlowMoment) -> Record {
        let action = match moment {
            FlowMoment::Ended => EventAction::FlowEnded,
            FlowMoment::Progress => EventAction::FlowProgress,
        };
        let mut record = self.base(clock.at(subject.flow.at), Dataset::Flow, action);
        parts::describe_flow(&mut record, clock, subject);
        sentence::finish(record)
    }

    /// What was found out about an executable after the alert `alert_id`, which could not wait for it.
    #[must_use]
    pub fn executable(&self, clock: WallClock, subject: &Subject<'_>, alert_id: String) -> Record {
        let mut record = self.base(clock.at(subject.flow.at), Dataset::Executable, EventAction::ExecutableRead);
        parts::describe_executable(&mut record, subject);
        record.egresswatch.alert_id = Some(alert_id);
        sentence::finish(record)
    }

    /// Something was lost or late.
    #[must_use]
    pub fn loss(&self, at: Timestamp, loss: Loss) -> Record {
        let mut record = self.base(at, Dataset::Loss, EventAction::DataLost);
        record.egresswatch.loss = Some(LossFields {
            stage: loss.stage,
            reason: loss.reason.into_owned(),
            count: loss.count,
            total: loss.total,
            since: loss.since,
            recoverable: loss.recoverable,
            output: loss.output,
        });
        sentence::finish(record)
    }

    /// This host gives less than it could.
    #[must_use]
    pub fn degradation(&self, at: Timestamp, degradation: Degradation) -> Record {
        let mut record = self.base(at, Dataset::Degradation, EventAction::Degraded);
        record.egresswatch.degradation = Some(DegradationFields {
            token: degradation.token.into_owned(),
            missing: degradation.missing,
            remedy: degradation.remedy,
        });
        sentence::finish(record)
    }

    /// A moment of the monitor's own life.
    #[must_use]
    pub fn status(&self, at: Timestamp, status: Status) -> Record {
        let action = match status.phase {
            Phase::Started => EventAction::MonitorStarted,
            Phase::Running => EventAction::MonitorRunning,
            Phase::Reloaded => EventAction::PolicyReloaded,
            Phase::Stopped => EventAction::MonitorStopped,
        };
        let mut record = self.base(at, Dataset::Status, action);
        record.egresswatch.status = Some(StatusFields {
            phase: status.phase,
            reason: status.reason,
            generation: status.generation,
            needs_restart: status.needs_restart,
            rung: status.rung,
            ownership_date: status.ownership_date.map(|date| date.to_string()),
            lists: status.lists,
            uptime_ns: status.uptime_ns,
            flows: status.flows,
            alerts: status.alerts,
            losses: status.losses,
            degradations: status.degradations,
        });
        sentence::finish(record)
    }

    /// What every record has.
    fn base(&self, timestamp: Timestamp, dataset: Dataset, action: EventAction) -> Record {
        let sequence = self.next_sequence.fetch_add(1, Ordering::Relaxed);
        let (kind, category, types) = classify(dataset, action);
        Record {
            timestamp,
            message: String::new(),
            ecs: Ecs { version: ECS_VERSION },
            event: Event {
                id: format!("{}-{sequence:x}", self.id_prefix),
                sequence,
                kind,
                category: vec![category],
                types,
                action,
                dataset,
                module: "egresswatch",
                severity: None,
                outcome: None,
                reason: None,
                start: None,
                end: None,
                duration: None,
            },
            agent: Agent { kind: "egresswatch", version: env!("CARGO_PKG_VERSION"), ephemeral_id: self.run_id.clone() },
            observer: Observer {
                kind: "sensor",
                vendor: "EgressWatch",
                product: "EgressWatch",
                version: env!("CARGO_PKG_VERSION"),
            },
            host: self.host.clone(),
            process: None,
            package: None,
            user: None,
            group: None,
            source: None,
            destination: None,
            network: None,
            tls: None,
            url: None,
            rule: None,
            threat: None,
            container: None,
            orchestrator: None,
            related: None,
            egresswatch: Own::default(),
        }
    }
}

/// The ECS categorisation of a record.
fn classify(dataset: Dataset, action: EventAction) -> (EventKind, EventCategory, Vec<EventType>) {
    let types = match action {
        EventAction::FlowEnded => vec![EventType::Connection, EventType::End],
        EventAction::FirstContact => vec![EventType::Connection, EventType::Start],
        EventAction::RuleMatched
        | EventAction::RuleSummary
        | EventAction::LevelRaised
        | EventAction::NewMatch
        | EventAction::Rollup
        | EventAction::FlowProgress => {
            vec![EventType::Connection, EventType::Info]
        }
        EventAction::MonitorStarted => vec![EventType::Start],
        EventAction::MonitorStopped => vec![EventType::End],
        EventAction::PolicyReloaded => vec![EventType::Change],
        EventAction::ExecutableRead | EventAction::DataLost | EventAction::Degraded | EventAction::MonitorRunning => {
            vec![EventType::Info]
        }
    };
    match dataset {
        Dataset::Alert => (EventKind::Alert, EventCategory::Network, types),
        Dataset::Flow | Dataset::Loss => (EventKind::Event, EventCategory::Network, types),
        Dataset::Executable => (EventKind::Event, EventCategory::Process, types),
        Dataset::Degradation | Dataset::Status => (EventKind::State, EventCategory::Host, types),
    }
}

/// `event.severity`: the risk scores that Elastic's own detection rules use for these words.
const fn severity_number(severity: Severity) -> u8 {
    match severity {
        Severity::Low => 21,
        Severity::Medium => 47,
        Severity::High => 73,
    }
}
