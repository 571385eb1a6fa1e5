//! Records of what outputs lost and found.

use std::time::Duration;

use crate::{
    alert::{Record, RecordBuilder, Timestamp, input},
    host,
    sink::{
        self,
        spool::{Condition, LossReason, Notice},
    },
};

/// The record of what an output without a spool dropped.
pub(super) fn dropped_record(records: &RecordBuilder, dropped: sink::Dropped) -> Record {
    let sink::Dropped { output, count, total, within } = dropped;
    loss(records, input::OUTPUT_QUEUE_FULL, output, count, total, within)
}

/// The record of what the spool has to tell.
pub(super) fn describe(records: &RecordBuilder, notice: Notice) -> Record {
    match notice {
        Notice::Lost { output, reason, count, total, within } => {
            let token = match reason {
                LossReason::SpoolFull => input::SPOOL_FULL,
                LossReason::Refused => input::RECEIVER_REFUSED,
                LossReason::DeadLetterFull => input::DEAD_LETTER_FULL,
                LossReason::Late => input::OUTPUT_QUEUE_FULL,
                LossReason::Damaged => input::SPOOL_DAMAGED,
            };
            loss(records, token, output, count, total, within)
        }
        Notice::Began(condition) => {
            let Trouble { token, missing, remedy } = trouble(condition);
            records.degradation(now(), input::Degradation { token: token.into(), missing, remedy: Some(remedy) })
        }
    }
}

/// Something about outputs that does not work now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct Trouble {
    /// Stable token.
    pub(in crate::daemon) token: &'static str,
    /// What does not work; a sentence without its full stop.
    pub(in crate::daemon) missing: String,
    /// What to do about it; a sentence without its full stop.
    pub(in crate::daemon) remedy: String,
}

/// Tokens of what the spool tells in records by itself.
pub(in crate::daemon) const SPOOL_TROUBLES: [&str; 3] = ["spool_damaged", "spool_unwritable", "spool_unclaimed"];
/// Token of what an output does not do although it delivers.
pub(in crate::daemon) const OUTPUT_IMPAIRED: &str = "output_impaired";

/// What does not work because of `condition`.
pub(super) fn trouble(condition: Condition) -> Trouble {
    let [damaged, unwritable, unclaimed] = SPOOL_TROUBLES;
    match condition {
        Condition::PutAside { path, reason } => Trouble {
            token: damaged,
            missing: format!("records that waited in the spool are not delivered: it was damaged ({reason})"),
            remedy: format!("check the disk; the damaged spool is kept as {path} and may be removed"),
        },
        Condition::Unwritable { reason } => Trouble {
            token: unwritable,
            missing: format!(
                "records wait in memory and would not survive a crash: the spool cannot be written ({reason})"
            ),
            remedy: "free space in spool.directory or repair its disk; it is tried again until it works".to_owned(),
        },
        Condition::Unclaimed { output, records } => Trouble {
            token: unclaimed,
            missing: format!("{records} records in the spool are not delivered: no output is called {output}"),
            remedy: format!(
                "configure outputs.{output} again to deliver them; to be rid of them let it deliver into a file"
            ),
        },
    }
}

fn loss(
    records: &RecordBuilder,
    token: &'static str,
    output: String,
    count: u64,
    total: u64,
    within: Duration,
) -> Record {
    let now = now();
    let within_ns = i128::try_from(within.as_nanos()).unwrap_or(i128::MAX);
    let loss = input::Loss {
        stage: input::LossStage::Output,
        reason: token.into(),
        count,
        total,
        since: Timestamp::from_unix_ns(now.unix_ns().saturating_sub(within_ns)),
        recoverable: false,
        output: Some(output),
    };
    records.loss(now, loss)
}

fn now() -> Timestamp {
    host::wall_clock().at(host::boot_time())
}
