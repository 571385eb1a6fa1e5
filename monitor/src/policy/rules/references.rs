//! Ids that suppressions and times of maintenance name: each must be there, in whatever file.

use std::sync::Arc;

use toml::Spanned;

use super::problem::{Place, RuleProblem};
use crate::mistakes::nearest_word;

/// Every id that was named.
#[derive(Debug, Default)]
pub(super) struct References(Vec<Reference>);

#[derive(Debug)]
struct Reference {
    id: String,
    to: Target,
    /// Where it stands.
    problem: RuleProblem,
}

/// What must have an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    List,
    Rule,
    Either,
}

impl References {
    pub(super) fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, place: &Place<'_>, id: &Spanned<String>, to: Target) {
        let problem = place.problem(id.span().start, "", None);
        self.0.push(Reference { id: id.get_ref().clone(), to, problem });
    }

    /// Those that are not there. Where the ids of lists are not known, rules alone are looked at.
    pub(super) fn problems(self, rules: &[&str], known_lists: Option<&[Arc<str>]>) -> Vec<RuleProblem> {
        let lists: Vec<&str> = known_lists.unwrap_or_default().iter().map(|id| &**id).collect();
        let is_checked = |to| to == Target::Rule || known_lists.is_some();
        let mut problems = Vec::new();
        for Reference { id, to, mut problem } in self.0.into_iter().filter(|reference| is_checked(reference.to)) {
            let (what, known) = match to {
                Target::Rule => ("rule", rules.to_vec()),
                Target::List => ("list", lists.clone()),
                Target::Either => ("rule or list", rules.iter().chain(&lists).copied().collect()),
            };
            if known.contains(&id.as_str()) {
                continue;
            }
            problem.is_about_unknown_rule = to != Target::List;
            problem.message = format!("there is no {what} {id:?}");
            problem.help = Some(match nearest_word(&id, known.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None if to == Target::Rule => "write the id of a rule".to_owned(),
                None => "`egresswatch lists` shows the ids of lists".to_owned(),
            });
            problems.push(problem);
        }
        problems
    }
}
