//! `egresswatch check` and `egresswatch config`.

use serde_json::json;

use super::{Error, Output, Status, args::CheckArguments};
use crate::config::{self, Config};

/// Checks a file and says so; whatever is wrong comes back as the error.
pub(super) fn check(arguments: &CheckArguments, output: &mut Output<'_>) -> Result<Status, Error> {
    let loaded = Config::load(arguments.file.as_deref()).and_then(|(config, file)| {
        // All, so that one run tells everything that is wrong.
        let mut errors: Vec<_> =
            config.lists().err().into_iter().chain(config.rules().err()).chain(config.ownership().err()).collect();
        match errors.len() {
            0 => Ok((config, file)),
            1 => Err(errors.remove(0)),
            _ => Err(config::Error::Several(errors)),
        }
    });
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
        other => vec![json!({ "message": other.to_string() })],
    }
}

/// Prints the default configuration.
pub(super) fn print_default(output: &mut Output<'_>) -> Result<Status, Error> {
    output.text(&config::default_toml())?;
    Ok(Status::Success)
}
