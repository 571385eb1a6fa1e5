//! Records of what outputs lost and found.

use std::time::Duration;

use crate::{
    alert::{Record, RecordBuilder, Timestamp, input},
    host,
    sink::{
        self,
        spool::{LossReason, Notice},
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
                LossReason::Late => input::OUTPUT_QUEUE_FULL,
                LossReason::Damaged => input::SPOOL_DAMAGED,
            };
            loss(records, token, output, count, total, within)
        }
        Notice::PutAside { path, reason } => degradation(
            records,
            "spool_damaged",
            format!("records that waited in the spool are not delivered: it was damaged ({reason})"),
            Some(format!("check the disk; the damaged spool is kept as {path} and may be removed")),
        ),
        Notice::Unwritable { reason } => degradation(
            records,
            "spool_unwritable",
            format!("records wait in memory and would not survive a crash: the spool cannot be written ({reason})"),
            Some("free space in spool.directory or repair its disk; it is tried again until it works".to_owned()),
        ),
        Notice::Unclaimed { output, records: count } => degradation(
            records,
            "spool_unclaimed",
            format!("{count} records in the spool are not delivered: no output is called {output}"),
            Some(format!("configure outputs.{output} again to deliver them")),
        ),
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

fn degradation(records: &RecordBuilder, token: &'static str, missing: String, remedy: Option<String>) -> Record {
    records.degradation(now(), input::Degradation { token: token.into(), missing, remedy })
}

fn now() -> Timestamp {
    host::wall_clock().at(host::boot_time())
}
