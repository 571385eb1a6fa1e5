//! The table as a page of the documentation.

use std::fmt::Write as _;

use super::{Group, LIMITS, ROWS, Sight};
use crate::kernel::probes::Rung;

/// The page `docs/coverage.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "<!-- Made by `cargo xtask docs`; do not edit. -->\n\n# What is seen\n\n\
         Each row is one way to send. *Yes* means: the flow names the executable and the process that sent, and counts\n\
         the payload bytes each way exactly, with wire bytes that include the headers. Each row has a kernel test that\n\
         makes the traffic with known bytes and compares, on every rung, over IPv4 and IPv6 where both apply.\n\n\
         `egresswatch coverage` prints this table for the host it runs on, and says what does not exist there. Rungs:\n\n",
    );
    for rung in Rung::ALL {
        let _ = writeln!(text, "- *{rung}*: {}", rung.title());
    }
    for group in Group::ALL {
        let _ = write!(text, "\n## {}\n\n| |", group.title());
        for rung in Rung::ALL {
            let _ = write!(text, " {rung} |");
        }
        let _ = writeln!(text, "\n| --- |{}", " --- |".repeat(Rung::ALL.len()));
        for row in ROWS.iter().filter(|row| row.group == group) {
            let _ = write!(text, "| `{}`: {} |", row.token, row.what);
            for rung in Rung::ALL {
                let _ = match row.on(rung) {
                    Sight::Seen => write!(text, " yes |"),
                    Sight::Partly(note) => write!(text, " in part: {note} |"),
                    Sight::NotSeen(note) => write!(text, " no: {note} |"),
                };
            }
            text.push('\n');
        }
    }
    text.push_str("\n## Never seen\n\n");
    for limit in LIMITS {
        let _ = writeln!(text, "- `{}`: {}", limit.token, limit.what);
    }
    text.push_str("\n## Tests\n\n| row | kernel tests |\n| --- | --- |\n");
    for row in ROWS {
        let tests: Vec<_> = row.tests.iter().map(|test| format!("`{test}`")).collect();
        let _ = writeln!(text, "| `{}` | {} |", row.token, tests.join(" "));
    }
    text
}
