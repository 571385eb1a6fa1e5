//! `egresswatch check` and `egresswatch config`.

use serde_json::json;

use super::{Error, Output, Status, args::CheckArguments};
use crate::{
    alert::text::printable,
    config::{self, Checked, Config},
    sink::check::Contact,
};

/// Bad lines of a list that are told: more would not be read.
const BAD_LINES: usize = 10_000;

/// Checks a file and says so; whatever is wrong comes back as the error.
pub(super) fn check(arguments: &CheckArguments, output: &mut Output<'_>) -> Result<Status, Error> {
    let good = Config::check(arguments.file.as_deref(), BAD_LINES).into_good();
    let contacts = match &good {
        Ok(Checked { config: Some(config), .. }) if arguments.connect => {
            Some(config.contacts().map_err(Error::Runtime)?)
        }
        _ => None,
    };
    match good {
        Ok(good) if contacts.is_some() || has_notes(&good) => {
            return tell(&good, contacts.as_deref(), arguments.json, output);
        }
        Ok(Checked { file, .. }) if arguments.json => {
            output.json(&json!({ "valid": true, "file": file, "problems": [] }))?;
        }
        Ok(Checked { file: Some(file), .. }) => {
            output.line(format_args!("{}: {}", file.display(), output.good("good")))?;
        }
        Ok(_) => output.line(format_args!("{} does not exist: defaults hold", config::DEFAULT_PATH))?,
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

fn has_notes(checked: &Checked) -> bool {
    !checked.notes.is_empty()
        || !checked.rule_notes.is_empty()
        || checked.lists.iter().any(|list| list.notices().next().is_some())
}

/// The mistakes in lists and rules, each with its file.
fn problems(error: &config::Error) -> Vec<serde_json::Value> {
    match error {
        config::Error::Invalid(invalid) => invalid.problems.iter().map(|problem| json!(problem)).collect(),
        config::Error::Rules(errors) => errors.problems.iter().map(|problem| json!(problem)).collect(),
        config::Error::Outputs(findings) => findings.iter().map(|finding| json!(finding)).collect(),
        other => vec![json!({ "message": other.to_string() })],
    }
}

/// Tells what is to be known. A list that gives nothing at all is a mistake; bad lines are not.
fn tell(checked: &Checked, contacts: Option<&[Contact]>, json: bool, output: &mut Output<'_>) -> Result<Status, Error> {
    let Checked { file, lists: states, notes: outputs, rule_notes: rules, .. } = checked;
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
        let name = file.as_ref().map_or("defaults".to_owned(), |file| file.display().to_string());
        let verdict = match (is_valid, is_reached) {
            (false, _) => output.bad("a list gives nothing"),
            (true, false) => output.bad("good, but not everything answered"),
            (true, true) if has_notes(checked) => output.good("good, with notes"),
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
