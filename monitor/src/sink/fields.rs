//! Single facts of an encoded record, for transports that hand some of them over beside the record itself.

use serde_json::Value;

use super::delivery::Item;
use crate::alert::record::Dataset;

/// The facts of a record in ECS form. Items in another form have none but those of [`Item`].
pub(super) struct Fields(Option<Value>);

impl Fields {
    pub(super) fn of(item: &Item) -> Self {
        let is_json = item.bytes.first() == Some(&b'{');
        let record = is_json.then(|| serde_json::from_slice::<Value>(&item.bytes).ok()).flatten();
        // JSON of another schema may use the same names for something else.
        Self(record.filter(|record| record.pointer("/event/id").and_then(Value::as_str) == Some(item.id.as_str())))
    }

    /// The text or number at a JSON pointer, as text.
    pub(super) fn text(&self, pointer: &str) -> Option<String> {
        match self.0.as_ref()?.pointer(pointer)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// The texts `key` of the objects in the array at a JSON pointer.
    pub(super) fn texts(&self, pointer: &str, key: &str) -> Vec<String> {
        let objects = self.0.as_ref().and_then(|record| record.pointer(pointer)?.as_array());
        let texts = objects.into_iter().flatten().filter_map(|object| object.get(key)?.as_str());
        texts.map(str::to_owned).collect()
    }

    /// Whether the item is a record in ECS form.
    pub(super) fn is_record(&self) -> bool {
        self.0.is_some()
    }
}

/// The last word of `event.dataset`.
pub(super) const fn dataset_word(dataset: Dataset) -> &'static str {
    match dataset {
        Dataset::Alert => "alert",
        Dataset::Flow => "flow",
        Dataset::Executable => "executable",
        Dataset::Loss => "loss",
        Dataset::Degradation => "degradation",
        Dataset::Status => "status",
    }
}

/// The severity of RFC 5424 (section 6.2.1), which is journald's `PRIORITY` as well: alerts by `event.severity` (99 and
/// more alert, 73 critical, 47 warning, else notice), losses and degradations warning, the others informational.
/// Emergency is never used: it is shown on every terminal.
pub(super) fn priority(item: &Item) -> u8 {
    match (item.dataset, item.severity.unwrap_or(0)) {
        (Dataset::Alert, 99..) => 1,
        (Dataset::Alert, 73..) => 2,
        (Dataset::Alert, 47..) | (Dataset::Loss | Dataset::Degradation, _) => 4,
        (Dataset::Alert, _) => 5,
        (Dataset::Flow | Dataset::Executable | Dataset::Status, _) => 6,
    }
}
