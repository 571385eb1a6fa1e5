//! What the monitor's records say, as far as a measurement asks.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value;

use crate::daemon::Line;

/// Losses that the monitor told in these lines, by reason.
pub(crate) fn losses<'a>(lines: impl IntoIterator<Item = &'a Line>) -> Result<BTreeMap<String, u64>> {
    let mut losses = BTreeMap::new();
    for line in lines {
        let record = line.parse()?;
        if is_of(&record, "egresswatch.loss") {
            let reason = text(&record, "/egresswatch/loss/reason").unwrap_or("unknown").to_owned();
            *losses.entry(reason).or_default() += number(&record, "/egresswatch/loss/count");
        }
    }
    Ok(losses)
}

/// Losses in words.
pub(crate) fn in_words(losses: &BTreeMap<String, u64>) -> String {
    if losses.is_empty() {
        return "none".to_owned();
    }
    losses.iter().map(|(reason, count)| format!("{reason} {count}")).collect::<Vec<_>>().join(", ")
}

/// Whether the record is of this data set.
pub(crate) fn is_of(record: &Value, dataset: &str) -> bool {
    text(record, "/event/dataset") == Some(dataset)
}

/// The text at this place.
pub(crate) fn text<'a>(record: &'a Value, pointer: &str) -> Option<&'a str> {
    record.pointer(pointer)?.as_str()
}

/// The number at this place; 0 if there is none.
pub(crate) fn number(record: &Value, pointer: &str) -> u64 {
    record.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}
