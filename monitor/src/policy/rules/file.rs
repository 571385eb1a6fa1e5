//! Rule files: read, checked, and everything that is wrong with them told at once.

use std::{collections::HashMap, ops::Range, sync::Arc};

use serde::{Deserialize, de::DeserializeOwned};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Action, Rule, RuleHeader,
    compile::compile,
    fields::WEEKDAYS,
    key::Per,
    problem::{Place, RuleProblem},
    references::{References, Target},
    suppress::{Maintenance, Suppression},
    threshold::Threshold,
};
use crate::{mistakes::nearest_word, policy::Severity, units::Duration};

/// A rule alerts at most so often in an hour unless it says otherwise.
const ALERTS_PER_HOUR: u32 = 60;
/// Alerts on the same key within this are folded unless the rule says otherwise.
const REPEAT: Duration = Duration::from_secs(3_600);

/// What files hold.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) rules: Vec<Rule>,
    pub(super) suppressions: Vec<Suppression>,
    pub(super) maintenance: Vec<Maintenance>,
    pub(super) problems: Vec<RuleProblem>,
    /// The ids of all lists, where they are known.
    known_lists: Option<Arc<[Arc<str>]>>,
    /// Where each id was first used.
    ids: HashMap<Arc<str>, String>,
    /// The ids that suppressions and times of maintenance name.
    references: References,
    /// The files that were read, in order.
    files: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleTable {
    id: Option<Spanned<String>>,
    title: Option<Spanned<String>>,
    description: Option<String>,
    severity: Option<Severity>,
    condition: Option<Spanned<String>>,
    threshold: Option<Spanned<Threshold>>,
    action: Option<Action>,
    #[serde(default)]
    tags: Vec<Spanned<String>>,
    #[serde(default)]
    references: Vec<Spanned<String>>,
    #[serde(default = "yes")]
    enabled: bool,
    per: Option<Per>,
    repeat: Option<Duration>,
    max_alerts_per_hour: Option<Spanned<u32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SuppressTable {
    reason: Option<Spanned<String>>,
    sha256: Option<Spanned<String>>,
    executable: Option<Spanned<String>>,
    package: Option<Spanned<String>>,
    unit: Option<Spanned<String>>,
    image: Option<Spanned<String>>,
    namespace: Option<Spanned<String>>,
    asn: Option<Spanned<u32>>,
    organisation: Option<Spanned<String>>,
    list: Option<Spanned<String>>,
    rule: Option<Spanned<String>>,
    expires: Option<Spanned<toml::value::Datetime>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MaintenanceTable {
    reason: Option<Spanned<String>>,
    #[serde(default)]
    days: Vec<Spanned<String>>,
    from: Option<Spanned<toml::value::Datetime>>,
    to: Option<Spanned<toml::value::Datetime>>,
    #[serde(default)]
    rules: Vec<Spanned<String>>,
}

const fn yes() -> bool {
    true
}

impl Contents {
    /// Nothing yet. Where the ids of lists are known, any other one is a mistake.
    pub(super) fn new(known_lists: Option<&[Arc<str>]>) -> Self {
        Self { known_lists: known_lists.map(Arc::from), ..Self::default() }
    }

    /// Reads one file's text.
    pub(super) fn read(&mut self, file: &str, text: &str) {
        let mut place = Place::new(file, text);
        self.take_in(&mut place);
        place.problems.sort_by_key(|problem| (problem.line, problem.column));
        self.problems.append(&mut place.problems);
        self.files.push(file.to_owned());
    }

    /// Refuses ids that no rule has, among those read and the embedded ones, and no list, where these are known.
    pub(super) fn check_references(&mut self) {
        if self.references.are_none() {
            return;
        }
        let embedded = super::embedded_ids();
        let rules: Vec<&str> = self.ids.keys().map(|id| &**id).chain(embedded.iter().map(String::as_str)).collect();
        let references = std::mem::take(&mut self.references);
        self.problems.extend(references.problems(&rules, self.known_lists.as_deref()));
        let files = &self.files;
        self.problems
            .sort_by_key(|problem| (files.iter().position(|file| *file == problem.file), problem.line, problem.column));
    }

    fn take_in(&mut self, place: &mut Place<'_>) {
        let (document, errors) = DeTable::parse_recoverable(place.text);
        for error in errors.iter().take(20) {
            place.add(error.span().unwrap_or_default().start, error.message().trim_end(), None);
        }
        if !errors.is_empty() {
            return;
        }
        for (key, value) in document.into_inner() {
            let at = key.span();
            let name = key.into_inner();
            if !matches!(&*name, "rule" | "suppress" | "maintenance") {
                let help = "a rule file holds [[rule]], [[suppress]] and [[maintenance]]".to_owned();
                place.add(at.start, format!("unknown key `{name}`"), help);
                continue;
            }
            let DeValue::Array(items) = value.into_inner() else {
                place.add(
                    at.start,
                    format!("`{name}` is no list of tables"),
                    format!("write [[{name}]], with two brackets"),
                );
                continue;
            };
            for item in items {
                let span = item.span();
                match &*name {
                    "rule" => self.rule(place, item, &span),
                    "suppress" => self.suppression(place, item, &span),
                    _ => self.maintenance(place, item, &span),
                }
            }
        }
    }

    fn rule(&mut self, place: &mut Place<'_>, item: Spanned<DeValue<'_>>, span: &Range<usize>) {
        let before = place.problems.len();
        let Some(table) = table::<RuleTable>(place, item) else { return };
        let mut required = |value: Option<Spanned<String>>, key: &str, example: &str| match value {
            Some(text) if !text.get_ref().trim().is_empty() => Some(text),
            Some(text) => {
                place.add(text.span().start, format!("`{key}` is empty"), format!("write {example}"));
                None
            }
            None => {
                // A key whose value was refused was told of already.
                if place.problems.len() == before {
                    place.add(span.start, format!("this rule has no `{key}`"), format!("write {example}"));
                }
                None
            }
        };
        let id = required(table.id, "id", "id = \"my-rule\"");
        let title = required(table.title, "title", "title = \"What the rule finds\"");
        let condition = required(table.condition, "condition", "condition = 'flow.state == \"sent\"'");
        let id = id.and_then(|id| self.rule_id(place, id));
        let condition = condition.and_then(|condition| {
            let span = condition.span();
            let text = condition.into_inner();
            match compile(&text, self.known_lists.as_deref()) {
                Ok(node) => Some(node),
                Err(mistakes) => {
                    let begin = place.literal_start(&span, &text);
                    for mistake in mistakes {
                        let at = begin.map_or(span.start, |begin| place.within(begin, &text, mistake.offset));
                        place.add(at, mistake.message, mistake.help);
                    }
                    None
                }
            }
        });
        for tag in &table.tags {
            check_tag(place, tag);
        }
        for reference in &table.references {
            if !reference.get_ref().starts_with("https://") && !reference.get_ref().starts_with("http://") {
                place.add(
                    reference.span().start,
                    format!("{:?} is no URL", reference.get_ref()),
                    "write it with https://".to_owned(),
                );
            }
        }
        let threshold = table.threshold.map(|threshold| {
            if let Some(refusal) = threshold.get_ref().refusal() {
                place.add(threshold.span().start, refusal, None);
            }
            threshold.into_inner()
        });
        if threshold.is_some() && table.action == Some(Action::Ignore) {
            place.add(
                span.start,
                "a rule that ignores has a threshold",
                "take the threshold out: what matches is ignored".to_owned(),
            );
        }
        if let Some(none) = table.max_alerts_per_hour.as_ref().filter(|limit| *limit.get_ref() == 0) {
            let help = "write a number from 1 on, or enabled = false for a rule that is to tell nothing".to_owned();
            place.add(none.span().start, "a limit of 0 alerts an hour tells nothing", help);
        }
        let (Some(id), Some(title), Some(condition)) = (id, title, condition) else { return };
        let texts = |texts: Vec<Spanned<String>>| texts.into_iter().map(Spanned::into_inner).collect();
        let per = table.per.unwrap_or_else(|| threshold.as_ref().map_or(Per::ExecutableOwner, Threshold::per));
        self.rules.push(Rule {
            header: Arc::new(RuleHeader {
                id,
                title: title.into_inner().trim().into(),
                description: table.description.map(|text| text.trim().into()),
                severity: table.severity.unwrap_or(Severity::Medium),
                tags: texts(table.tags),
                references: texts(table.references),
                file: place.file.into(),
                action: table.action.unwrap_or_default(),
                enabled: table.enabled,
            }),
            condition,
            threshold,
            per,
            repeat_ns: table.repeat.unwrap_or(REPEAT).as_ns(),
            max_alerts_per_hour: table.max_alerts_per_hour.map_or(ALERTS_PER_HOUR, Spanned::into_inner),
        });
    }

    fn rule_id(&mut self, place: &mut Place<'_>, id: Spanned<String>) -> Option<Arc<str>> {
        let at = id.span().start;
        let text: Arc<str> = id.into_inner().into();
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if text.len() > 64 || !text.bytes().all(is_plain) {
            let help = "write up to 64 lower-case letters, digits and hyphens".to_owned();
            place.add(at, format!("{text:?} is no rule id"), help);
            return None;
        }
        if let Some(first) = self.ids.get(&text) {
            place.add(
                at,
                format!("the rule id {text:?} is taken by {first}"),
                "give one of the two another id".to_owned(),
            );
            return None;
        }
        self.ids.insert(Arc::clone(&text), format!("{}:{}", place.file, place.line_of(at)));
        Some(text)
    }

    fn suppression(&mut self, place: &mut Place<'_>, item: Spanned<DeValue<'_>>, span: &Range<usize>) {
        let Some(table) = table::<SuppressTable>(place, item) else { return };
        if let Some(digest) = &table.sha256
            && (digest.get_ref().len() != 64 || !digest.get_ref().bytes().all(|digit| digit.is_ascii_hexdigit()))
        {
            place.add(digest.span().start, "this is no SHA-256", "write 64 hexadecimal digits".to_owned());
        }
        for (id, to) in [(&table.list, Target::List), (&table.rule, Target::Rule)] {
            if let Some(id) = id.as_ref().filter(|id| !id.get_ref().is_empty()) {
                self.references.add(place, id, to);
            }
        }
        if let Some(asn) = table.asn.as_ref().filter(|asn| *asn.get_ref() == 0) {
            let help = "write the number of an autonomous system, such as 64500".to_owned();
            place.add(asn.span().start, "no network has the number 0", help);
        }
        if let (Some(list), Some(_)) = (&table.list, &table.rule) {
            let help = "write a table for each".to_owned();
            place.add(list.span().start, "no alert is of a list and of a rule", help);
        }
        let expires = table.expires.and_then(|date| calendar_date(place, &date));
        let line = place.line_of(span.start);
        let mut text = |value: Option<Spanned<String>>, key: &str, example: &str| {
            let value = value?;
            if value.get_ref().trim().is_empty() {
                let help = format!("write {key} = {example:?}, or take it out");
                place.add(value.span().start, format!("`{key}` is empty, which fits nothing"), help);
            } else if key == "executable" && !value.get_ref().starts_with('/') {
                let help = format!("write the whole path, such as {:?}", format!("/usr/bin/{}", value.get_ref()));
                place.add(value.span().start, format!("{:?} is no path from /", value.get_ref()), help);
            }
            Some(value.into_inner())
        };
        let suppression = Suppression {
            reason: table.reason.map(|reason| reason.into_inner().into()),
            sha256: table.sha256.map(|digest| digest.into_inner().to_ascii_lowercase()),
            executable: text(table.executable, "executable", "/usr/bin/curl"),
            package: text(table.package, "package", "curl"),
            unit: text(table.unit, "unit", "backup.service"),
            image: text(table.image, "image", "docker.io/library/nginx:1.27"),
            namespace: text(table.namespace, "namespace", "shop"),
            asn: table.asn.map(Spanned::into_inner),
            organisation: text(table.organisation, "organisation", "Example Networks"),
            list: text(table.list, "list", "us-ofac-sdn"),
            rule: text(table.rule, "rule", "my-rule"),
            expires,
            place: format!("{}:{line}", place.file),
        };
        if suppression.is_empty() {
            let help =
                "write sha256, executable, package, unit, image, namespace, asn, organisation, list or rule".to_owned();
            place.add(span.start, "this would suppress everything", help);
            return;
        }
        self.suppressions.push(suppression);
    }

    fn maintenance(&mut self, place: &mut Place<'_>, item: Spanned<DeValue<'_>>, span: &Range<usize>) {
        let Some(table) = table::<MaintenanceTable>(place, item) else { return };
        let mut days = Vec::new();
        for day in &table.days {
            match WEEKDAYS.iter().find(|known| *known == day.get_ref()) {
                Some(known) => days.push(*known),
                None => place.add(
                    day.span().start,
                    format!("{:?} is no day", day.get_ref()),
                    format!("write one of {}", WEEKDAYS.join(", ")),
                ),
            }
        }
        let mut time = |value: Option<Spanned<toml::value::Datetime>>, key: &str| {
            let Some(value) = value else {
                place.add(span.start, format!("this window has no `{key}`"), format!("write {key} = 02:00:00"));
                return None;
            };
            if let toml::value::Datetime { date: None, time: Some(time), offset: None } = value.get_ref() {
                return Some((time.hour, time.minute, time.second.unwrap_or_default()));
            }
            let help = "write one such as 02:00:00, in this host's time zone".to_owned();
            place.add(value.span().start, format!("`{key}` is no time of day"), help);
            None
        };
        let end = table.to.as_ref().map_or(span.start, |to| to.span().start);
        let (from, to) = (time(table.from, "from"), time(table.to, "to"));
        if from.is_some() && from == to {
            let help = "write two times: a window that ends before it begins goes over midnight".to_owned();
            place.add(end, "this window ends when it begins", help);
        }
        for id in &table.rules {
            self.references.add(place, id, Target::Either);
        }
        if let (Some(from), Some(to)) = (from, to) {
            self.maintenance.push(Maintenance {
                reason: table.reason.map(|reason| reason.into_inner().into()),
                days,
                from,
                to,
                rules: table.rules.into_iter().map(Spanned::into_inner).collect(),
            });
        }
    }
}

/// Reads one table. A key that is refused is told of, taken out, and the rest is read again.
fn table<T: DeserializeOwned>(place: &mut Place<'_>, item: Spanned<DeValue<'_>>) -> Option<T> {
    let span = item.span();
    let DeValue::Table(mut table) = item.into_inner() else {
        place.add(span.start, "this is no table", None);
        return None;
    };
    loop {
        let document = Spanned::new(span.clone(), table.clone());
        let error = match T::deserialize(toml::de::Deserializer::from(document)) {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let at = error.span().unwrap_or_else(|| span.clone());
        let (message, help) = explain(error.message());
        place.add(at.start, message, help);
        let refused = table.iter().find_map(|(key, value)| {
            let holds = |outer: Range<usize>| outer.start <= at.start && at.start < outer.end.max(outer.start + 1);
            (holds(key.span()) || holds(value.span())).then(|| key.get_ref().to_string())
        })?;
        table.remove(refused.as_str());
    }
}

/// serde's words in ours, with the nearest key that exists.
fn explain(message: &str) -> (String, Option<String>) {
    let message = message.trim_end();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let Some((written, known)) = quoted.split_first().filter(|_| message.starts_with("unknown ")) else {
        return match message.split_once(": write ") {
            Some((what, help)) => (what.to_owned(), Some(format!("write {help}"))),
            None if message.ends_with("expected a TOML datetime") => {
                let help = "write it without quotes: a day such as 2027-03-31, a time such as 02:00:00";
                (message.to_owned(), Some(help.to_owned()))
            }
            None => (message.to_owned(), None),
        };
    };
    let what = if message.starts_with("unknown field") { "key" } else { "choice" };
    let help = match nearest_word(written, known.iter().copied()) {
        Some(name) => format!("did you mean {name}?"),
        None => format!("write one of {}", known.join(", ")),
    };
    (format!("unknown {what} `{written}`"), Some(help))
}

/// A tag that begins like an id of ATT&CK must be one.
fn check_tag(place: &mut Place<'_>, tag: &Spanned<String>) {
    let text = tag.get_ref();
    let looks_like_attack = text.starts_with('T') && text.bytes().any(|byte| byte.is_ascii_digit());
    let is_word = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte));
    if looks_like_attack && !super::is_technique(text) && !super::is_tactic(text) {
        let help = "write techniques as T1041 or T1071.001, tactics as TA0010".to_owned();
        place.add(tag.span().start, format!("{text:?} is no id of ATT&CK"), help);
    } else if !is_word {
        place.add(
            tag.span().start,
            format!("{text:?} is no tag"),
            "write letters, digits, hyphens and dots".to_owned(),
        );
    }
}

fn calendar_date(place: &mut Place<'_>, value: &Spanned<toml::value::Datetime>) -> Option<jiff::civil::Date> {
    let date = match value.get_ref() {
        toml::value::Datetime { date: Some(date), time: None, offset: None } => {
            let year = i16::try_from(date.year).ok();
            let (month, day) = (i8::try_from(date.month).ok(), i8::try_from(date.day).ok());
            year.zip(month).zip(day).and_then(|((year, month), day)| jiff::civil::Date::new(year, month, day).ok())
        }
        _ => None,
    };
    if date.is_none() {
        place.add(
            value.span().start,
            "this is no date",
            "write one such as 2027-03-31, without quotes and without a time".to_owned(),
        );
    }
    date
}
