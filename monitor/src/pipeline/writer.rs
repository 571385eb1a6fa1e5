//! Records of what is known of flows.

use std::sync::Arc;

use jiff::civil::Date;

use super::{describe::Details, held::Due};
use crate::{
    alert::{
        Record, RecordBuilder, WallClock,
        input::{FlowMoment, Subject},
    },
    event::Flow,
};

/// Makes the records of flows and alerts.
pub(super) struct Writer {
    records: Arc<RecordBuilder>,
    /// Makes what [`Self::answer`] returns.
    answers: RecordBuilder,
    pub(super) clock: WallClock,
    /// Whether flows are written beside the alerts.
    pub(super) writes_flows: bool,
    /// The date of the ownership data in force.
    pub(super) ownership_date: Date,
}

impl Writer {
    pub(super) fn new(records: Arc<RecordBuilder>, clock: WallClock, writes_flows: bool, ownership_date: Date) -> Self {
        Self { answers: records.for_answers(), records, clock, writes_flows, ownership_date }
    }

    /// Writes a flow, if flows are written.
    pub(super) fn flow(&self, flow: &Flow, details: &Details, moment: FlowMoment, outputs: &mut Vec<Arc<Record>>) {
        if self.writes_flows {
            let record = self.records.flow(self.clock, &self.subject(flow, details), moment);
            outputs.push(Arc::new(record));
        }
    }

    /// An open flow for somebody who asked; no part of the output.
    pub(super) fn answer(&self, flow: &Flow, details: &Details) -> Record {
        self.answers.flow(self.clock, &self.subject(flow, details), FlowMoment::Progress)
    }

    pub(super) fn alert(&self, due: &Due) -> Record {
        let context = due.context();
        let subject = self.subject(&context.flow, &context.details);
        match due {
            Due::Lists(decision) => self.records.alert(self.clock, &subject, decision),
            Due::Rule(decision) => self.records.rule_alert(self.clock, &subject, decision),
        }
    }

    /// What was read of an executable after its alert went out.
    pub(super) fn executable(&self, due: &Due, alert_id: String) -> Record {
        let context = due.context();
        self.records.executable(self.clock, &self.subject(&context.flow, &context.details), alert_id)
    }

    fn subject<'a>(&self, flow: &'a Flow, details: &'a Details) -> Subject<'a> {
        Subject {
            flow,
            actor: details.actor.as_deref(),
            connector: details.connector.as_deref(),
            file: details.file.as_deref(),
            container: details.container.as_deref(),
            owner: &details.owner,
            ownership_date: self.ownership_date,
            names: &details.names,
            target_owner: details.target_owner.as_ref(),
            matches: &details.matches,
        }
    }
}
