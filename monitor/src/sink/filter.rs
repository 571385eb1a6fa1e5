//! Which records an output gets.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    alert::record::{Dataset, Record},
    policy::Severity,
};

/// Which records an output gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// Kinds of records.
    pub records: Vec<RecordKind>,
    /// Least severity of alerts.
    #[schemars(with = "SeverityName")]
    pub min_severity: Severity,
    /// Ids of lists. Unless it is empty, alerts and flows come only if one of them matched.
    pub lists: Vec<String>,
}

/// The kinds of records, as a filter names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the kinds are those of `event.dataset`, which says what they are")]
pub enum RecordKind {
    Alert,
    Flow,
    Executable,
    Loss,
    Degradation,
    Status,
}

/// The severities, for the schema.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is used")]
enum SeverityName {
    Low,
    Medium,
    High,
}

impl Default for Filter {
    fn default() -> Self {
        use RecordKind::{Alert, Degradation, Executable, Loss, Status};
        Self {
            records: vec![Alert, Executable, Loss, Degradation, Status],
            min_severity: Severity::Low,
            lists: Vec::new(),
        }
    }
}

impl Filter {
    /// Whether the output gets `record`.
    #[must_use]
    pub fn takes(&self, record: &Record) -> bool {
        let own = &record.egresswatch;
        let has_lists = matches!(record.event.dataset, Dataset::Alert | Dataset::Flow);
        self.records.contains(&record.event.dataset.into())
            && own.severity.is_none_or(|severity| severity >= self.min_severity)
            && (self.lists.is_empty() || !has_lists || own.lists.iter().any(|list| self.lists.contains(list)))
    }

    /// Whether the output gets ordinary flows.
    #[must_use]
    pub fn takes_flows(&self) -> bool {
        self.records.contains(&RecordKind::Flow)
    }
}

impl From<Dataset> for RecordKind {
    fn from(dataset: Dataset) -> Self {
        match dataset {
            Dataset::Alert => Self::Alert,
            Dataset::Flow => Self::Flow,
            Dataset::Executable => Self::Executable,
            Dataset::Loss => Self::Loss,
            Dataset::Degradation => Self::Degradation,
            Dataset::Status => Self::Status,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        alert::{
            example::{self, CLOCK, builder, decision},
            input::{FlowMoment, Phase},
        },
        policy::{Cause, Level},
    };

    #[test]
    fn a_record_passes_by_kind_severity_and_list() {
        let scene = example::chromium();
        let decision = decision(&scene, Cause::FirstContact, Level::Sent);
        let alert = builder().alert(CLOCK, &scene.subject(), &decision);
        let flow = builder().flow(CLOCK, &scene.subject(), FlowMoment::Ended);
        let status = builder().status(example::now(0), example::status(Phase::Running));
        let list = alert.egresswatch.lists.first().expect("the alert has a list").clone();
        let passes = |filter: &str| {
            let filter: Filter = toml::from_str(filter).expect(filter);
            [&alert, &flow, &status].map(|record| filter.takes(record))
        };
        assert_eq!(passes(""), [true, false, true]);
        assert_eq!(passes("records = [\"flow\"]"), [false, true, false]);
        assert_eq!(passes("lists = [\"no-such\"]"), [false, false, true]);
        assert_eq!(passes(&format!("lists = [\"{list}\"]")), [true, false, true]);
        let severity = alert.egresswatch.severity.expect("an alert has a severity");
        assert_eq!(passes("min_severity = \"high\""), [severity >= Severity::High, false, true]);
        assert_eq!(passes("min_severity = \"low\""), [true, false, true]);
    }
}
