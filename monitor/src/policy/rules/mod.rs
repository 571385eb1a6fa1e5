//! Rules: conditions over everything that is known of a flow, thresholds over time, and what is known to be good.
//!
//! Conditions are written in CEL. The `cel` crate parses them; they are checked and evaluated here, because a rule's
//! truth has a third value: what nobody could tell is *unknown*, and an unknown condition does not match, however it
//! is negated. The same evaluation, with everything but the address left open, says which addresses a rule may flag.

mod baseline;
mod compile;
mod engine;
mod expression;
mod facts;
mod fields;
mod file;
mod key;
mod page;
mod problem;
mod pushdown;
mod references;
mod replay;
mod suppress;
mod threshold;

use std::sync::Arc;

pub use self::{
    baseline::{Baseline, Learnt},
    engine::{Engine, EngineStats, RuleCause, RuleDecision, Verdict},
    facts::Sighting,
    page::markdown,
    problem::{RuleErrors, RuleProblem},
    replay::{Alert, Recorded, Replay, Replayed},
    threshold::Evidence,
};
use self::{
    expression::{Node, Truth},
    fields::Field,
    file::Contents,
    key::Per,
    suppress::{Maintenance, Suppression},
    threshold::Threshold,
};
pub use super::Action;
use super::Severity;

/// The embedded files by name; a test holds this table against the directory.
const EMBEDDED: [(&str, &str); 3] = [
    ("built-in:execution.toml", include_str!("../../../rules/execution.toml")),
    ("built-in:habits.toml", include_str!("../../../rules/habits.toml")),
    ("built-in:volume.toml", include_str!("../../../rules/volume.toml")),
];

/// A rule's title page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleHeader {
    /// Stable id.
    pub id: Arc<str>,
    /// Title for people.
    pub title: Arc<str>,
    /// What a match means and what it does not mean.
    pub description: Option<Arc<str>>,
    /// Severity of its alerts.
    pub severity: Severity,
    /// Ids of ATT&CK, and words of the author's.
    pub tags: Vec<String>,
    /// Where to read on.
    pub references: Vec<String>,
    /// The file it came from.
    pub file: Arc<str>,
    /// What is done about a match.
    pub action: Action,
    /// Whether it is evaluated.
    pub enabled: bool,
}

/// A compiled rule.
#[derive(Clone, Debug)]
struct Rule {
    header: Arc<RuleHeader>,
    condition: Node,
    threshold: Option<Threshold>,
    /// What alerts are counted by.
    per: Per,
    /// Alerts on the same key within this are folded.
    repeat_ns: u64,
    max_alerts_per_hour: u32,
}

/// Every rule, with what is suppressed and when.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    rules: Vec<Rule>,
    suppressions: Vec<Suppression>,
    maintenance: Vec<Maintenance>,
}

impl Rules {
    /// Compiles the embedded rules and those of `files` (name and text). The ids in `enable` and `disable` overrule what
    /// the files say. Where the ids of all lists are known, any other one in a rule is a mistake.
    ///
    /// # Errors
    /// Everything that is wrong with all of the files.
    pub fn new(
        files: &[(String, String)],
        enable: &[String],
        disable: &[String],
        known_lists: Option<&[Arc<str>]>,
    ) -> Result<Self, RuleErrors> {
        let embedded = EMBEDDED.iter().map(|(file, text)| (*file, *text));
        let files = files.iter().map(|(file, text)| (&**file, &**text));
        Self::compile(embedded.chain(files), enable, disable, known_lists)
    }

    /// Compiles the rules of `files` alone.
    ///
    /// # Errors
    /// Everything that is wrong with all of the files.
    pub fn compile<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
        enable: &[String],
        disable: &[String],
        known_lists: Option<&[Arc<str>]>,
    ) -> Result<Self, RuleErrors> {
        let mut contents = Contents::new(known_lists);
        for (file, text) in files {
            contents.read(file, text);
        }
        contents.check_references();
        let Contents { mut rules, suppressions, maintenance, mut problems, .. } = contents;
        for (key, ids) in [("policy.enable_rules", enable), ("policy.disable_rules", disable)] {
            for id in ids.iter().filter(|id| !rules.iter().any(|rule| *rule.header.id == ***id)) {
                let known: Vec<&str> = rules.iter().map(|rule| &*rule.header.id).collect();
                problems.push(RuleProblem {
                    file: key.to_owned(),
                    line: 0,
                    column: 0,
                    message: format!("there is no rule {id:?} to switch on or off"),
                    help: Some(format!("write one of {}", known.join(", "))),
                    is_about_unknown_rule: true,
                });
            }
        }
        if !problems.is_empty() {
            return Err(RuleErrors { problems });
        }
        for rule in &mut rules {
            let is_in = |ids: &[String]| ids.iter().any(|id| **id == *rule.header.id);
            let enabled = (rule.header.enabled || is_in(enable)) && !is_in(disable);
            if enabled != rule.header.enabled {
                rule.header = Arc::new(RuleHeader { enabled, ..(*rule.header).clone() });
            }
        }
        Ok(Self { inner: Arc::new(Inner { rules, suppressions, maintenance }) })
    }

    /// The title pages, in the order of the files.
    pub fn headers(&self) -> impl Iterator<Item = &Arc<RuleHeader>> {
        self.inner.rules.iter().map(|rule| &rule.header)
    }

    /// What somebody should know of rules that are good, in sentences: a suppression that has run out.
    pub fn notices(&self, now: jiff::Timestamp) -> impl Iterator<Item = String> {
        let ended = self.inner.suppressions.iter().filter(move |suppression| suppression.has_expired(now));
        ended.map(|suppression| {
            let day = suppression.expires.map_or_else(String::new, |day| format!(" with {day}"));
            format!("{}: this suppression ended{day}: give it another date, or take it out", suppression.place)
        })
    }

    /// Whether nothing is to be evaluated.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.enabled().next().is_none()
    }

    /// Whether alerts may be held back.
    #[must_use]
    pub fn holds_back(&self) -> bool {
        !self.inner.suppressions.is_empty() || !self.inner.maintenance.is_empty()
    }

    /// Whether some rule asks for what is read of executables, so that it must be read for every flow.
    #[must_use]
    pub fn needs_files(&self) -> bool {
        self.enabled().any(|rule| rule.asks_for(&[Field::Sha256, Field::Package]))
            || (!self.is_empty() && self.inner.suppressions.iter().any(Suppression::needs_file))
    }

    /// Whether some rule needs to know which contacts there were before.
    #[must_use]
    pub fn needs_baseline(&self) -> bool {
        self.enabled().any(Rule::learns)
    }

    fn enabled(&self) -> impl Iterator<Item = &Rule> {
        self.inner.rules.iter().filter(|rule| rule.header.enabled)
    }
}

/// The ids of the embedded rules, which a file may name without them being read.
fn embedded_ids() -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct File {
        rule: Vec<Id>,
    }
    #[derive(serde::Deserialize)]
    struct Id {
        id: String,
    }
    let files = EMBEDDED.iter().filter_map(|(_, text)| toml::from_str::<File>(text).ok());
    files.flat_map(|file| file.rule).map(|rule| rule.id).collect()
}

impl Rule {
    fn matches(&self, facts: &facts::Facts<'_>) -> bool {
        self.condition.truth(&expression::Scene::new(facts)) == Truth::TRUE
    }

    /// Whether it needs to know which contacts there were before.
    const fn learns(&self) -> bool {
        matches!(self.threshold, Some(Threshold::FirstContact {}))
    }

    fn asks_for(&self, fields: &[Field]) -> bool {
        let mut asks = false;
        self.condition.walk(&mut |node| asks |= matches!(node, Node::Field(field) if fields.contains(field)));
        asks
    }
}

impl RuleHeader {
    /// The tags that name techniques of ATT&CK.
    pub fn techniques(&self) -> impl Iterator<Item = &str> {
        self.tags.iter().map(String::as_str).filter(|tag| is_technique(tag))
    }

    /// The tags that name tactics of ATT&CK.
    pub fn tactics(&self) -> impl Iterator<Item = &str> {
        self.tags.iter().map(String::as_str).filter(|tag| is_tactic(tag))
    }
}

/// `T1041` or `T1071.001`.
fn is_technique(tag: &str) -> bool {
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|digit| digit.is_ascii_digit());
    tag.strip_prefix('T').is_some_and(|rest| match rest.split_once('.') {
        Some((technique, part)) => digits(technique, 4) && digits(part, 3),
        None => digits(rest, 4),
    })
}

/// `TA0010`.
fn is_tactic(tag: &str) -> bool {
    tag.strip_prefix("TA").is_some_and(|rest| rest.len() == 4 && rest.bytes().all(|digit| digit.is_ascii_digit()))
}

#[cfg(test)]
mod tests;
