//! A template of a request's body, checked before the first record needs it.

use minijinja::{AutoEscape, Environment, Error, UndefinedBehavior, Value, context, value::Serde};
use serde_json::json;

use crate::sink::http::OpenError;

/// Steps of one rendering: some thousand loops over a record, and an end to one that never ends.
const FUEL: u64 = 200_000;

/// Largest body that a template may make.
const BODY_MAX_BYTES: usize = 1 << 20;

/// Largest template.
const SOURCE_MAX_BYTES: usize = 256 << 10;

const NAME: &str = "body";

/// A compiled template.
#[derive(Debug)]
pub(super) struct Template {
    origin: String,
    environment: Environment<'static>,
}

impl Template {
    pub(super) fn compile(origin: &str, source: String) -> Result<Self, OpenError> {
        if source.len() > SOURCE_MAX_BYTES {
            return Err(OpenError::Template {
                origin: origin.to_owned(),
                line: 1,
                problem: format!("it has more than {SOURCE_MAX_BYTES} bytes: shorten it"),
            });
        }
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        // A record leaves out what is not known: that is no mistake of the template.
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        environment.set_fuel(Some(FUEL));
        environment.add_template_owned(NAME, source).map_err(|error| wrong(origin, &error))?;
        Ok(Self { origin: origin.to_owned(), environment })
    }

    /// Renders an alert that has quotes and line breaks in its texts.
    pub(super) fn check(&self, is_json: bool) -> Result<(), OpenError> {
        let body = self.rendered(&example()).map_err(|error| wrong(&self.origin, &error))?;
        if is_json && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&body) {
            return Err(OpenError::Template {
                origin: self.origin.clone(),
                line: error.line(),
                problem: format!(
                    "what it makes of an alert is no JSON ({error}): write texts as {{{{ message | tojson }}}}, without quotes \
                     around, or set content_type"
                ),
            });
        }
        Ok(())
    }

    /// The body for one record.
    pub(super) fn render(&self, record: &[u8]) -> Result<String, String> {
        let text = String::from_utf8_lossy(record);
        let record = serde_json::from_str(&text).unwrap_or_else(|_| json!({ "message": text }));
        let body = self.rendered(&record).map_err(|error| format!("the template {}: {error}", self.origin))?;
        if body.len() > BODY_MAX_BYTES {
            return Err(format!("the template {} makes more than {BODY_MAX_BYTES} bytes of it", self.origin));
        }
        Ok(body)
    }

    fn rendered(&self, record: &serde_json::Value) -> Result<String, Error> {
        let record = Value::from(Serde(record));
        self.environment.get_template(NAME)?.render(context! { record => record.clone(), ..record })
    }
}

fn wrong(origin: &str, error: &Error) -> OpenError {
    OpenError::Template {
        origin: origin.to_owned(),
        line: error.line().unwrap_or(1),
        problem: error
            .detail()
            .map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind())),
    }
}

/// An alert with what templates ask for.
fn example() -> serde_json::Value {
    json!({
        "@timestamp": "2026-11-23T11:03:04.000000000Z",
        "message": "first contact: \"curl\" reached\nExample Networks \\ AS64500",
        "event": { "id": "0-0", "kind": "alert", "action": "first_contact", "dataset": "egresswatch.alert", "severity": 73,
                   "reason": "asn on \"example\"" },
        "host": { "name": "host\"1", "hostname": "host1", "os": { "type": "linux" } },
        "process": { "pid": 4711, "name": "curl", "executable": "/usr/bin/cu\"rl", "command_line": "curl 'x' \"y\"",
                     "args": ["curl", "x\"y"] },
        "user": { "id": "0", "name": "root" },
        "source": { "ip": "192.0.2.1", "port": 40_000, "bytes": 1 },
        "destination": { "ip": "198.51.100.7", "port": 443, "domain": "a\"b.example", "bytes": 1 },
        "network": { "transport": "tcp", "direction": "egress", "bytes": 2 },
        "rule": { "id": "example", "name": "An \"example\"", "reference": "https://example.com/" },
        "egresswatch": { "severity": "high", "level": "sent", "lists": ["example"],
                         "owner": { "asn": 64_500, "organisation": "Example \"Networks\"" } }
    })
}

#[cfg(test)]
mod tests {
    use super::Template;

    fn problem(source: &str) -> String {
        match Template::compile("hook.jinja", source.to_owned()).and_then(|template| template.check(true)) {
            Ok(()) => "none".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_template_is_checked_with_its_line_before_it_is_used() {
        assert_eq!(problem("{\"text\": {{ message | tojson }}, \"of\": {{ record | tojson }}}"), "none");
        for (source, expected) in [
            ("{\n\"text\": {{ message | tojsn }}}", "hook.jinja:2: "),
            ("{\n\n{% if %}", "hook.jinja:3: syntax error"),
            ("{\"text\": \"{{ message }}\"}", "write texts as {{ message | tojson }}"),
            ("[{% for a in range(9999) %}{% for b in range(9999) %}1,{% endfor %}{% endfor %}1]", "fuel"),
        ] {
            let problem = problem(source);
            assert!(problem.contains(expected), "{source}: {problem}");
        }
    }

    #[test]
    fn unknown_facts_are_empty_and_nothing_is_escaped_for_html() {
        let source = "{{ message }}|{{ destination.geo.name }}|{{ record['@timestamp'] }}".to_owned();
        let template = Template::compile("hook.jinja", source).expect("a template");
        let body = template.render(br#"{"message":"<a&b>","@timestamp":"now"}"#).expect("a body");
        assert_eq!(body, "<a&b>||now");
        assert_eq!(template.render(b"CEF:0|x").expect("a body"), "CEF:0|x||");
    }
}
