//! The fleet's questions of `deploy/siem/clickhouse`, asked of real records in `ClickHouse`'s embedded engine.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    Case,
    support::{package_file, python_with, script},
};

/// The records as the unit tests of `alert` hold them fast.
const RECORDS: &str = "src/alert/snapshots/egresswatch__alert__tests__records.snap.jsonl";

pub(crate) const CASES: &[Case] = &[Case { name: "clickhouse::the_fleet_can_be_asked", missing: || None, test: fleet }];

fn fleet() -> Result<()> {
    let python = python_with("chdb==4.4.0")?;
    let files = ["../deploy/siem/clickhouse/schema.sql", "../deploy/siem/clickhouse/queries.sql", RECORDS];
    let answers = script(&python, "fleet.py", &files.map(package_file), &package_file(RECORDS))?;
    let mut rows = BTreeMap::new();
    for line in answers.lines() {
        let answer: Value = serde_json::from_str(line)?;
        let name = answer.get("name").and_then(Value::as_str).context("an answer without a name")?.to_owned();
        rows.insert(name, answer.get("rows").and_then(Value::as_array).cloned().unwrap_or_default());
    }
    let records: Vec<Value> =
        fs::read_to_string(package_file(RECORDS))?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    // Each record was inserted twice.
    let count = rows.get("count").and_then(|rows| rows.first()?.get("count")?.as_u64());
    ensure!(count == Some(records.len() as u64), "repeats are not one row: {count:?} of {}", records.len());
    let sent: u64 = records
        .iter()
        .filter(|record| record.pointer("/egresswatch/owner/asn").and_then(Value::as_u64) == Some(9_808))
        .filter_map(|record| record.pointer("/egresswatch/increase/payload_out_bytes")?.as_u64())
        .sum();
    let owners = rows.get("owners-by-bytes").context("no owners")?;
    let answered = owners.iter().find(|row| row.get("asn").and_then(Value::as_u64) == Some(9_808));
    let answered = answered.and_then(|row| row.get("bytes")?.as_u64());
    ensure!(answered == Some(sent), "AS9808 got {sent} bytes, not {answered:?}");
    let blind = rows.get("blind-hosts").and_then(|rows| rows.first()).context("no blind host")?;
    ensure!(blind.get("lost").and_then(Value::as_u64) == Some(312), "{blind}");
    for name in ["programs-of-a-list", "first-in-the-fleet", "same-path-other-file", "silent-hosts"] {
        ensure!(rows.contains_key(name), "the question {name} was not asked");
    }
    Ok(())
}
