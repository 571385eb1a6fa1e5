//! Which settings differ between two configurations.

use toml::{Table, Value};

use super::Config;

impl Config {
    /// Keys whose values differ from those of `other`, such as `kernel.rung`, in alphabetical order.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut keys = Vec::new();
        // Settings are made from TOML, so they can be written as it.
        if let (Ok(left), Ok(right)) = (Table::try_from(self), Table::try_from(other)) {
            compare("", &left, &right, &mut keys);
        }
        keys.sort_unstable();
        keys
    }
}

fn compare(path: &str, left: &Table, right: &Table, keys: &mut Vec<String>) {
    for (key, value) in left {
        let place = format!("{path}{key}");
        match (value, right.get(key)) {
            (Value::Table(left), Some(Value::Table(right))) => compare(&format!("{place}."), left, right, keys),
            (value, Some(other)) if value == other => {}
            _ => keys.push(place),
        }
    }
    keys.extend(right.keys().filter(|key| !left.contains_key(*key)).map(|key| format!("{path}{key}")));
}
