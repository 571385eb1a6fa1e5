//! What is printed: headings with durations, plain lines, and the table at the end.

use std::fmt;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use anyhow::Result;

/// Prints one line. A closed pipe is no reason to stop a build.
pub(crate) fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}");
    let _ = stdout.flush();
}

/// Prints a heading, does the work and prints how long it took.
pub(crate) fn step<T>(title: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    say(&format!("\n==> {title}"));
    let start = Instant::now();
    let result = work();
    let verdict = if result.is_ok() { "done" } else { "FAILED" };
    say(&format!("<== {title}: {verdict} in {}", duration(start.elapsed())));
    result
}

/// How one line of a summary ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It ran and succeeded.
    Passed,
    /// It ran and failed; the reason in a few words.
    Failed(String),
    /// It did not run; why not, and what to do about it.
    Skipped(String),
}

impl Outcome {
    /// A failure with the beginning of its reason.
    pub(crate) fn failed(error: &anyhow::Error) -> Self {
        Self::Failed(shortened(&error.to_string()))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => formatter.write_str("passed"),
            Self::Failed(reason) => write!(formatter, "FAILED   {reason}"),
            Self::Skipped(reason) => write!(formatter, "SKIPPED  {reason}"),
        }
    }
}

/// The table printed when several steps have run.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    rows: Vec<(String, Duration, Outcome)>,
}

impl Summary {
    /// Runs one step under a heading and notes how it ended; the next step runs in any case.
    pub(crate) fn step(&mut self, title: &str, work: impl FnOnce() -> Result<()>) {
        let start = Instant::now();
        let outcome = match step(title, work) {
            Ok(()) => Outcome::Passed,
            Err(error) => {
                say(&format!("error: {error:#}"));
                Outcome::failed(&error)
            }
        };
        self.note(title, start.elapsed(), outcome);
    }

    /// Notes a row that was decided elsewhere.
    pub(crate) fn note(&mut self, title: &str, took: Duration, outcome: Outcome) {
        self.rows.push((title.to_owned(), took, outcome));
    }

    /// Prints the table; an error if anything failed. Skipped rows are shown but are no failure.
    pub(crate) fn finish(self, name: &str) -> Result<()> {
        say(&format!("\n==> Summary of {name}\n{self}"));
        let failed = self.rows.iter().filter(|(_, _, outcome)| matches!(outcome, Outcome::Failed(_))).count();
        anyhow::ensure!(failed == 0, "{failed} of {} steps failed", self.rows.len());
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|(title, _, _)| title.chars().count()).max().unwrap_or_default();
        for (title, took, outcome) in &self.rows {
            writeln!(formatter, "  {title:width$}  {:>8}  {outcome}", duration(*took))?;
        }
        Ok(())
    }
}

/// A table's line holds the beginning of a reason; the whole of it was printed where it happened.
fn shortened(reason: &str) -> String {
    const LONGEST: usize = 90;
    let line = reason.lines().next().unwrap_or_default();
    if line.chars().count() <= LONGEST {
        line.to_owned()
    } else {
        line.chars().take(LONGEST - 1).chain(['…']).collect()
    }
}

/// A duration for people: `0.4 s`, `12.3 s`, `3 m 05 s`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} m {:02} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        for (milliseconds, expected) in
            [(400, "0.4 s"), (12_340, "12.3 s"), (60_000, "1 m 00 s"), (185_000, "3 m 05 s")]
        {
            assert_eq!(duration(Duration::from_millis(milliseconds)), expected);
        }
    }

    #[test]
    fn a_skipped_row_is_shown_and_a_failed_one_fails() {
        let mut summary = Summary::default();
        summary.note("unit tests", Duration::from_secs(3), Outcome::Passed);
        summary.note("kernel tests", Duration::ZERO, Outcome::Skipped("needs root".to_owned()));
        assert_eq!(
            summary.to_string(),
            "  unit tests       3.0 s  passed\n  kernel tests     0.0 s  SKIPPED  needs root\n"
        );
        assert!(summary.finish("tests").is_ok());

        let mut summary = Summary::default();
        summary.note("unit tests", Duration::ZERO, Outcome::Failed("exit 101".to_owned()));
        assert!(summary.finish("tests").is_err());
    }
}
