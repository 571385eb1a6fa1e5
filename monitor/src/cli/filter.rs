//! `--filter`: which records to show, by their fields.

use std::{fmt, str::FromStr};

use serde_json::Value;

/// A condition on one field of a record: `process.name=curl`, `egresswatch.lists~ofac`, `source.bytes>1000000`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Filter {
    /// The field's name, with dots.
    field: Vec<String>,
    comparison: Comparison,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Contains,
    More,
    Less,
}

/// Text that is no condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FilterError(String);

impl fmt::Display for FilterError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "`{}` is no condition: write FIELD=VALUE, FIELD!=VALUE, FIELD~PART, FIELD>NUMBER or FIELD<NUMBER, with a field of \
             docs/events.md such as process.name",
            self.0
        )
    }
}

impl std::error::Error for FilterError {}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let wrong = || FilterError(text.to_owned());
        let at = text.find(['=', '!', '~', '>', '<']).ok_or_else(wrong)?;
        let (field, rest) = text.split_at(at);
        let (comparison, value) = [
            ("!=", Comparison::NotEqual),
            ("=", Comparison::Equal),
            ("~", Comparison::Contains),
            (">", Comparison::More),
            ("<", Comparison::Less),
        ]
        .into_iter()
        .find_map(|(sign, comparison)| Some((comparison, rest.strip_prefix(sign)?)))
        .ok_or_else(wrong)?;
        let is_ordered = matches!(comparison, Comparison::More | Comparison::Less);
        let is_field = |part: &str| {
            !part.is_empty()
                && part.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == '@')
        };
        if !field.split('.').all(is_field) || (is_ordered && value.parse::<f64>().is_err()) {
            return Err(wrong());
        }
        Ok(Self { field: field.split('.').map(str::to_owned).collect(), comparison, value: value.to_owned() })
    }
}

impl Filter {
    /// Whether a record meets the condition. Of a field with several values one is enough; a field that is not there meets
    /// only `!=`. Case does not matter.
    pub(super) fn accepts(&self, record: &Value) -> bool {
        let mut values = Vec::new();
        collect(record, &self.field, &mut values);
        match self.comparison {
            Comparison::Equal => values.iter().any(|value| self.equals(value)),
            Comparison::NotEqual => !values.iter().any(|value| self.equals(value)),
            Comparison::Contains => {
                let part = self.value.to_lowercase();
                values.iter().any(|value| plain(value).to_lowercase().contains(&part))
            }
            Comparison::More => self.compares(&values, |value, bound| value > bound),
            Comparison::Less => self.compares(&values, |value, bound| value < bound),
        }
    }

    fn equals(&self, value: &Value) -> bool {
        plain(value).eq_ignore_ascii_case(&self.value)
    }

    fn compares(&self, values: &[&Value], holds: fn(f64, f64) -> bool) -> bool {
        let Ok(bound) = self.value.parse() else { return false };
        values.iter().filter_map(|value| value.as_f64()).any(|value| holds(value, bound))
    }
}

/// The values of a field, through lists on the way.
fn collect<'a>(value: &'a Value, field: &[String], values: &mut Vec<&'a Value>) {
    match (value, field.split_first()) {
        (Value::Array(items), _) => items.iter().for_each(|item| collect(item, field, values)),
        (Value::Object(object), Some((first, rest))) => {
            if let Some(inner) = object.get(first) {
                collect(inner, rest, values);
            }
        }
        (value, None) => values.push(value),
        (_, Some(_)) => {}
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_are_met_by_the_records_they_mean() {
        let record = json!({
            "process": { "name": "Curl", "pid": 42 },
            "egresswatch": { "lists": ["us-fcc-covered", "ru-platforms"], "matches": [{ "entity": "A" }, { "entity": "B" }] },
        });
        for (text, accepts) in [
            ("process.name=curl", true),
            ("process.name!=curl", false),
            ("process.name~ur", true),
            ("process.pid>41", true),
            ("process.pid>42", false),
            ("process.pid<43", true),
            ("process.pid=42", true),
            ("egresswatch.lists=ru-platforms", true),
            ("egresswatch.lists=eu-media", false),
            ("egresswatch.matches.entity=B", true),
            ("user.name=root", false),
            ("user.name!=root", true),
        ] {
            assert_eq!(text.parse::<Filter>().unwrap().accepts(&record), accepts, "{text}");
        }
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for text in ["", "process", "=x", "process..name=x", "process.pid>many", "a b=c", "process.name!curl"] {
            let error = text.parse::<Filter>().unwrap_err().to_string();
            assert!(error.contains("FIELD=VALUE"), "{error}");
        }
    }
}
