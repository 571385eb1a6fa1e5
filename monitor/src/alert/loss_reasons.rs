//! What each reason of a loss record means: the table in `docs/events.md`.

use super::input::{
    DEAD_LETTER_FULL, LIVE_FLOWS_FULL, LossStage, OUTPUT_QUEUE_FULL, RECEIVER_REFUSED, SPOOL_DAMAGED, SPOOL_FULL,
};

/// One reason.
struct ReasonMeaning {
    stage: LossStage,
    /// Its stable token.
    reason: &'static str,
    /// Whether the data was only late: the tables still hold the truth.
    recoverable: bool,
    meaning: &'static str,
    /// What helps.
    remedy: &'static str,
}

const fn kernel(reason: &'static str, recoverable: bool, meaning: &'static str, remedy: &'static str) -> ReasonMeaning {
    ReasonMeaning { stage: LossStage::Kernel, reason, recoverable, meaning, remedy }
}

const fn pipeline(
    reason: &'static str,
    recoverable: bool,
    meaning: &'static str,
    remedy: &'static str,
) -> ReasonMeaning {
    ReasonMeaning { stage: LossStage::Pipeline, reason, recoverable, meaning, remedy }
}

const fn output(reason: &'static str, meaning: &'static str, remedy: &'static str) -> ReasonMeaning {
    ReasonMeaning { stage: LossStage::Output, reason, recoverable: false, meaning, remedy }
}

/// Every reason, from the kernel to the outputs.
const LOSS_REASONS: &[ReasonMeaning] = &[
    kernel(
        "flow_table_full",
        false,
        "The flow table was full: the flow is reported once, without counters.",
        "raise `kernel.flow_table_entries`",
    ),
    kernel(
        "flagged_table_full",
        false,
        "The table of flagged flows was full: the flow is reported once, without counters.",
        "raise `kernel.flagged_table_entries`",
    ),
    kernel(
        "flagged_ring_full",
        true,
        "The ring of flagged flows was full: their reports are late and made up for from the table.",
        "raise `kernel.flagged_ring_size`",
    ),
    kernel(
        "flow_ring_full",
        true,
        "The ring of ordinary flows was full: their reports are late and made up for from the table.",
        "raise `kernel.flow_ring_size`",
    ),
    kernel(
        "process_ring_full",
        true,
        "The ring of process events was full: processes are read from `/proc`, and one that has ended stays unknown.",
        "raise `kernel.process_ring_size`",
    ),
    kernel(
        "socket_storage_full",
        true,
        "A socket got no storage: the flow's process is taken from the next hook that knows it.",
        "the kernel is short of memory",
    ),
    kernel("packet_unreadable", false, "A packet's headers could not be read: its bytes are not counted.", "nothing"),
    kernel(
        "capture_ring_full",
        false,
        "The ring of captured payload was full: the names in it stay unknown.",
        "raise `kernel.capture_ring_size`",
    ),
    pipeline(
        LIVE_FLOWS_FULL,
        true,
        "More flows are open than `limits.memory` lets the monitor keep: one that is not kept still ends with its totals.",
        "raise `limits.memory`",
    ),
    pipeline(
        "name_openings_full",
        false,
        "Too many flows were about to say a name: of some it stays unknown.",
        "raise `names.max_openings` or `names.opening_memory`",
    ),
    pipeline(
        "name_addresses_full",
        false,
        "Too many addresses had names: those of the longest unused are forgotten.",
        "raise `names.max_addresses`",
    ),
    pipeline("name_address_full", false, "One address had too many names: some are forgotten.", "nothing"),
    pipeline(
        "name_flows_full",
        false,
        "Too many flows had said names: those of the longest unused are forgotten.",
        "raise `names.max_flows`",
    ),
    pipeline(
        "name_opening_cut",
        false,
        "A flow's first message was longer than what is captured of it: a name in the rest stays unknown. The flow's \
         `egresswatch.name_caveats` has `opening_cut`.",
        "nothing",
    ),
    pipeline(
        "name_dns_cut",
        false,
        "A DNS answer, or a piece of a stream of them, was longer or came faster than what is captured: names of the \
         addresses in the rest stay unknown.",
        "nothing",
    ),
    output(
        OUTPUT_QUEUE_FULL,
        "An output without a spool did not keep up: flow records are dropped, and others too where it takes nothing for \
         seconds while other outputs run on. Of the output `spool`: flow records came faster than the disk took them.",
        "a faster receiver, a narrower `filter`, `output.flow_queue_records`",
    ),
    output(
        SPOOL_FULL,
        "An output's queue on the disk was full: records are dropped as `when_full` says.",
        "mend the receiver; raise `max_bytes`",
    ),
    output(
        RECEIVER_REFUSED,
        "The receiver refused records for good. They are kept below `spool.directory` in `dead-letter/NAME.jsonl` (alerts, \
         executables) and `dead-letter/NAME.other.jsonl`. A loss record that is refused is counted, but makes no further one.",
        "see the reason in these files: format, mapping, size, rights",
    ),
    output(
        DEAD_LETTER_FULL,
        "Refused records are no longer kept: each dead-letter file holds 16 MiB and the 16 MiB before, then the older half goes.",
        "stop what is refused, and move these files elsewhere in time",
    ),
    output(SPOOL_DAMAGED, "Records could not be read from the disk again.", "check the disk"),
];

/// The table for people.
pub(super) fn markdown() -> String {
    let rows = LOSS_REASONS.iter().map(|row| {
        let stage = match row.stage {
            LossStage::Kernel => "kernel",
            LossStage::Pipeline => "pipeline",
            LossStage::Output => "output",
        };
        let made_up_for = if row.recoverable { "yes" } else { "no" };
        format!("| `{}` | {stage} | {} | {made_up_for} | {} |\n", row.reason, row.meaning, row.remedy)
    });
    "| reason | stage | what happened | made up for | what helps |\n| --- | --- | --- | --- | --- |\n".to_owned()
        + &rows.collect::<String>()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use monitor_common::loss::LossReason;

    use super::*;
    use crate::names::NameLosses;

    /// Every reason that there is has a row, and no other has.
    #[test]
    fn every_reason_has_its_row() {
        let of_kernel = LossReason::ALL.map(|reason| (reason.as_token(), reason.is_recoverable()));
        let of_names = NameLosses::default().by_reason().map(|(reason, _)| (reason, false));
        let of_outputs = [OUTPUT_QUEUE_FULL, SPOOL_FULL, RECEIVER_REFUSED, DEAD_LETTER_FULL, SPOOL_DAMAGED]
            .map(|reason| (reason, false));
        let flows = [(LIVE_FLOWS_FULL, true)];
        let expected: BTreeMap<_, _> = of_kernel.into_iter().chain(flows).chain(of_names).chain(of_outputs).collect();
        let rows: BTreeMap<_, _> = LOSS_REASONS.iter().map(|row| (row.reason, row.recoverable)).collect();
        assert_eq!(rows, expected);
        assert_eq!(rows.len(), LOSS_REASONS.len());
    }

    /// What a row says to raise is a setting that there is.
    #[test]
    fn remedies_name_settings_that_there_are() {
        let reference = include_str!("../../../docs/config.md");
        for row in LOSS_REASONS {
            for name in row.remedy.split('`').skip(1).step_by(2) {
                let key = name.rsplit('.').next().unwrap_or(name);
                assert!(reference.contains(&format!("| `{key}` |")), "{}: {name}", row.reason);
            }
        }
    }
}
