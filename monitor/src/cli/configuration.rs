//! `egresswatch check` and `egresswatch config`.

use std::path::Path;

use serde_json::json;

use super::{Error, Output, Status, args::CheckArguments};
use crate::{
    alert::text::printable,
    config::{self, Config},
    policy::feeds::State,
    sink::check::{Contact, Finding},
};

/// Bad lines of a list that are told: more would not be read.
const BAD_LINES: usize = 10_000;

/// Checks a file and says so; whatever is wrong comes back as the error.
pub(super) fn check(arguments: &CheckArguments, output: &mut Output<'_>) -> Result<Status, Error> {
    let loaded = Config::load(arguments.file.as_deref()).and_then(|(config, file)| {
        // All, so that one run tells everything that is wrong.
        let (states, error) = match config.lists_with(config.feeds(BAD_LINES)) {
            Ok((_, states)) => (Some(states), None),
            Err(error) => (None, Some(error)),
        };
        let (notes, mistakes): (Vec<_>, Vec<_>) =
            config.output_findings().into_iter().partition(|finding| finding.is_unsure);
        let outputs = (!mistakes.is_empty()).then_some(config::Error::Outputs(mistakes));
        let (rules, of_rules) = match config.rules() {
            Ok(rules) => (rules.notices(jiff::Timestamp::now()).collect(), None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let others = of_rules.into_iter().chain(config.ownership().err()).chain(outputs);
        let mut errors: Vec<_> = error.into_iter().chain(others).collect();
        match (states, errors.len()) {
            (Some(states), 0) => Ok((Notes { states, rules, outputs: notes, config }, file)),
            (_, 1) => Err(errors.remove(0)),
            _ => Err(config::Error::Several(errors)),
        }
    });
    if let Ok((notes, file)) = &loaded
        && arguments.connect
    {
        let contacts = notes.config.contacts().map_err(Error::Runtime)?;
        return tell(notes, Some(&contacts), file.as_deref(), arguments.json, output);
    }
    if let Ok((notes, file)) = &loaded
        && notes.are_there()
    {
        return tell(notes, None, file.as_deref(), arguments.json, output);
    }
    match loaded {
        Ok((_, file)) if arguments.json => output.json(&json!({ "valid": true, "file": file, "problems": [] }))?,
        Ok((_, Some(file))) => output.line(format_args!("{}: {}", file.display(), output.good("good")))?,
        Ok((_, None)) => output.line(format_args!("{} does not exist: defaults hold", config::DEFAULT_PATH))?,
        Err(config::Error::Invalid(invalid)) if arguments.json => {
            output.json(&json!({ "valid": false, "file": invalid.file, "problems": invalid.problems }))?;
            return Ok(Status::Configuration);
        }
        Err(error) if arguments.json => {
            let problems: Vec<_> = error.parts().into_iter().flat_map(problems).collect();
            output.json(&json!({ "valid": false, "file": arguments.file, "problems": problems }))?;
            return Ok(Status::Configuration);
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Status::Success)
}

/// The mistakes in lists and rules, each with its file.
fn problems(error: &config::Error) -> Vec<serde_json::Value> {
    match error {
        config::Error::Rules(errors) => errors.problems.iter().map(|problem| json!(problem)).collect(),
        config::Error::Outputs(findings) => findings.iter().map(|finding| json!(finding)).collect(),
        other => vec![json!({ "message": other.to_string() })],
    }
}

/// What is to be known of a configuration that is good.
struct Notes {
    /// Of the lists of `[lists]`.
    states: Vec<State>,
    /// Of rules.
    rules: Vec<String>,
    /// Of outputs, what cannot be told from here.
    outputs: Vec<Finding>,
    config: Config,
}

impl Notes {
    fn are_there(&self) -> bool {
        let of_lists = self.states.iter().any(|state| state.notices().next().is_some());
        of_lists || !self.rules.is_empty() || !self.outputs.is_empty()
    }
}

/// Tells what is to be known. A list that gives nothing at all is a mistake; bad lines are not.
fn tell(
    notes: &Notes,
    contacts: Option<&[Contact]>,
    file: Option<&Path>,
    json: bool,
    output: &mut Output<'_>,
) -> Result<Status, Error> {
    let Notes { states, rules, outputs, .. } = notes;
    let is_valid = states.iter().all(|state| state.failed.is_none() || !state.enabled);
    let is_reached = contacts.unwrap_or_default().iter().all(|contact| contact.reached);
    if json {
        let mut answer = json!({
            "valid": is_valid, "file": file, "problems": [], "lists": states, "rules": rules, "outputs": outputs
        });
        if let (Some(contacts), Some(answer)) = (contacts, answer.as_object_mut()) {
            answer.insert("contacts".to_owned(), json!(contacts));
        }
        output.json(&answer)?;
    } else {
        for contact in contacts.unwrap_or_default() {
            let verdict = if contact.reached { output.good("answered:") } else { output.bad("failed:") };
            let (target, message) = (printable(&contact.target), printable(&contact.message));
            output.line(format_args!("{verdict} {}, {target}: {message}", contact.key))?;
        }
        for finding in outputs {
            output.line(format_args!("{} {}", output.fair("note:"), printable(&finding.to_string())))?;
        }
        for notice in rules {
            output.line(format_args!("{} {}", output.fair("note:"), printable(notice)))?;
        }
        for state in states {
            for notice in state.notices() {
                output.line(format_args!("{} {}", output.fair("note:"), printable(&notice)))?;
            }
            for bad in state.problems.iter().skip(1) {
                output.line(printable(&format!("  {bad}")))?;
            }
            let more = state.bad_lines.saturating_sub(state.problems.len() as u64);
            if more > 0 {
                output.line(format_args!("  and {more} more"))?;
            }
        }
        let name = file.map_or("defaults".to_owned(), |file| file.display().to_string());
        let verdict = match (is_valid, is_reached) {
            (false, _) => output.bad("a list gives nothing"),
            (true, false) => output.bad("good, but not everything answered"),
            (true, true) if notes.are_there() => output.good("good, with notes"),
            (true, true) => output.good("good"),
        };
        output.line(format_args!("{name}: {verdict}"))?;
    }
    Ok(if is_valid && is_reached { Status::Success } else { Status::Configuration })
}

/// Prints the default configuration.
pub(super) fn print_default(output: &mut Output<'_>) -> Result<Status, Error> {
    output.text(&config::default_toml())?;
    Ok(Status::Success)
}
