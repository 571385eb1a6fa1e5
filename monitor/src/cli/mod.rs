//! The command line: arguments in, one command run, one exit code out.
//!
//! Only this module writes to the standard streams, and only [`Error::status`] knows exit codes.

mod alerts;
#[expect(clippy::doc_markdown, reason = "these comments are the help texts, in which backticks would show")]
mod args;
mod configuration;
mod coverage;
mod data;
mod doctor;
mod error;
mod filter;
mod flows;
pub mod generate;
mod lists;
mod lookup;
mod matches;
mod output;
mod reload;
mod rules;
mod run;
mod status;

use std::{
    io::{BufWriter, Write as _},
    process::ExitCode,
};

use clap::{CommandFactory, Parser, error::ErrorKind};

use args::{Arguments, Command};
pub use error::{Error, Status};
use output::Colours;
pub use output::Output;

/// The command line's definition, from which help, man pages, completions and the reference are made.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the command that the process's arguments name.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let colours = Colours::choose(arguments.color);
    ExitCode::from(match dispatch(arguments.command, colours) {
        Ok(status) => status,
        Err(error) => {
            error.report(&mut Output::new(&mut std::io::stderr().lock(), colours.stderr));
            error.status()
        }
    })
}

/// Prints clap's help, version or complaint.
fn usage(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell if this fails.
    let _ = error.print();
    ExitCode::from(match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Status::Success,
        _ => Status::Usage,
    })
}

fn dispatch(command: Command, colours: Colours) -> Result<Status, Error> {
    // The daemon's outputs write to the descriptor itself; nothing of this buffer comes between.
    let mut writer = BufWriter::new(std::io::stdout());
    let output = &mut Output::new(&mut writer, colours.stdout);
    let status = match command {
        Command::Run(arguments) => run::execute(&arguments, colours),
        Command::Lookup(arguments) => lookup::execute(&arguments, output),
        Command::Lists(arguments) => lists::execute(&arguments, output),
        Command::Flows(arguments) => flows::execute(&arguments, output),
        Command::Status(arguments) => status::execute(&arguments, output),
        Command::Alerts(arguments) => alerts::execute(&arguments, output),
        Command::Reload(arguments) => reload::execute(&arguments, output),
        Command::Doctor(arguments) => doctor::execute(&arguments, output),
        Command::Coverage(arguments) => coverage::execute(&arguments, output),
        Command::Data(arguments) => data::execute(&arguments.command, output),
        Command::Check(arguments) => configuration::check(&arguments, output),
        Command::TestRules(arguments) => rules::test(&arguments, output),
        Command::Config => configuration::print_default(output),
        Command::Completions(arguments) => generate::completions(&arguments, output),
        Command::Man => generate::man_page(output),
    }?;
    writer.flush()?;
    Ok(status)
}

#[cfg(test)]
mod tests;
