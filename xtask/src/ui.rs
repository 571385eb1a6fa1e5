//! What is printed: headings with durations, plain lines, and the table at the end.

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
}
