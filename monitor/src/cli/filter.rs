//! `--filter`: which records to show, by their fields.

use std::str::FromStr;

use serde_json::Value;

use crate::alert::schema::{self, Holds};

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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FilterError {
    /// It is written in another form.
    #[error(
        "`{0}` is no condition: write FIELD=VALUE, FIELD!=VALUE, FIELD~PART, FIELD>NUMBER or FIELD<NUMBER, with a field of \
         docs/events.md such as process.name"
    )]
    Form(String),
    /// No record has such a field: nothing would ever meet the condition.
    #[error("records have no field {field}: {advice}")]
    Unknown {
        /// As it was written.
        field: String,
        /// What to write instead.
        advice: String,
    },
    /// It is no value that could be compared.
    #[error("{field} is not one value but has fields of its own: write one of them, such as {example}")]
    Fields {
        /// As it was written.
        field: String,
        /// One of those below it.
        example: String,
    },
}

/// Whether records have `field`, with a value that can be compared; only a part can be looked for in one with fields of its
/// own.
fn check_field(field: &str, comparison: Comparison) -> Result<(), FilterError> {
    let known = schema::fields();
    let below = |parent: &str, path: &str| path.strip_prefix(parent).is_some_and(|rest| rest.starts_with('.'));
    match known.iter().find(|(path, _)| path == field) {
        Some((_, Holds::Fields | Holds::AnyFields)) if comparison != Comparison::Contains => {
            let example = known.iter().find(|(path, holds)| below(field, path) && *holds == Holds::Values);
            let example = example.map_or_else(|| format!("{field}.NAME"), |(path, _)| path.clone());
            return Err(FilterError::Fields { field: field.to_owned(), example });
        }
        Some(_) => return Ok(()),
        None => {}
    }
    if known.iter().any(|(path, holds)| *holds == Holds::AnyFields && below(path, field)) {
        return Ok(());
    }
    // Letters that were swapped or left out first; then what begins alike.
    let values = || known.iter().filter(|(_, holds)| *holds == Holds::Values).map(|(path, _)| path.as_str());
    let typo = values().map(|path| (strsim::damerau_levenshtein(field, path), path)).min();
    let alike = values().map(|path| (strsim::jaro_winkler(field, path), path));
    let alike = alike.filter(|(likeness, _)| *likeness > 0.85).max_by(|left, right| left.0.total_cmp(&right.0));
    let near = typo.filter(|(distance, _)| *distance <= 2).map(|(_, path)| path).or(alike.map(|(_, path)| path));
    let advice = near.map_or_else(|| "docs/events.md lists them".to_owned(), |path| format!("did you mean {path}?"));
    Err(FilterError::Unknown { field: field.to_owned(), advice })
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let wrong = || FilterError::Form(text.to_owned());
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
        check_field(field, comparison)?;
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
    fn a_field_that_no_record_has_is_refused_with_the_nearest() {
        for (text, said) in [
            ("destination.prt=80", "records have no field destination.prt: did you mean destination.port?"),
            ("process.nmae=curl", "records have no field process.nmae: did you mean process.name?"),
            ("process.nmae!=curl", "did you mean process.name?"),
            ("egresswatch.list~x", "did you mean egresswatch.lists?"),
            ("egresswatch.owner.asnn>1", "did you mean egresswatch.owner.asn?"),
            ("colour=red", "records have no field colour: docs/events.md lists them"),
            ("process=curl", "process is not one value but has fields of its own: write one of them, such as process."),
            ("container.labels=web", "write one of them, such as container.labels.NAME"),
        ] {
            let error = text.parse::<Filter>().unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        for text in ["process~curl", "container.labels.app=web", "@timestamp~2026", "destination.port=80"] {
            text.parse::<Filter>().unwrap();
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
