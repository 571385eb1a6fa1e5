//! OCSF events of every kind of record, checked by a published validator.

use anyhow::{Result, ensure};

use crate::{
    Case,
    support::{package_file, python_with, script},
};

/// The events as the unit tests of `alert::ocsf` hold them fast.
const EVENTS: &str = "src/alert/ocsf/snapshots/egresswatch__alert__ocsf__tests__events.snap.jsonl";

pub(crate) const CASES: &[Case] = &[Case { name: "ocsf::events_are_valid", missing: || None, test: valid }];

fn valid() -> Result<()> {
    let python = python_with("ocsf-emitter==0.3.0")?;
    let verdict = script(&python, "check_ocsf.py", &[], &package_file(EVENTS))?;
    ensure!(verdict.ends_with("events checked, 0 problems\n") && !verdict.starts_with("0 "), "{verdict}");
    Ok(())
}
