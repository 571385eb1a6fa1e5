//! What this host gives the monitor: facts, the checks on them, and what to do about each that is not well.
//!
//! [`Facts::read`] reads the host; everything else here is a function of what it read, so that a test can be any host.

mod checks;
mod facts;

use jiff::{Unit, civil::Date};
use serde::Serialize;

use crate::kernel::probes::{PROBES, Rung};

pub use facts::{Facts, TypeInformation};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Good,
    /// Worth knowing, nothing lost.
    Note,
    /// The monitor runs and sees less.
    Degraded,
    /// The monitor cannot run.
    Blocking,
}

/// One look at the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Stable name.
    pub id: &'static str,
    /// What was looked at.
    pub title: &'static str,
    /// How it came out.
    pub state: State,
    /// What was found.
    pub finding: String,
    /// What to do; `None` where there is nothing to do.
    pub advice: Option<String>,
}

/// What keeps the monitor from running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Obstacle {
    /// A privilege that can be granted.
    Privilege,
    /// The kernel, or how it is set up.
    System,
}

/// Everything `egresswatch doctor` has to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Version of the program.
    pub version: &'static str,
    /// Kernel release.
    pub kernel: String,
    /// Machine.
    pub machine: String,
    /// What keeps the monitor from running, if anything does.
    pub obstacle: Option<Obstacle>,
    /// The rung it would run on; `None` if it cannot run.
    pub rung: Option<&'static str>,
    /// Each check.
    pub checks: Vec<Check>,
    /// The kernel programs, in the order of attachment.
    pub probes: Vec<Probe>,
}

/// One kernel program and whether it would be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// Its name.
    pub name: &'static str,
    /// The rung it belongs to.
    pub rung: &'static str,
    /// Whether the monitor would attach it here.
    pub usable: bool,
    /// What it is there for.
    pub purpose: &'static str,
}

impl Report {
    /// Judges a host.
    #[must_use]
    pub fn new(facts: &Facts) -> Self {
        let obstacle = checks::obstacle(facts);
        let rung = obstacle.is_none().then(|| facts.rung());
        let probe = |probe: &crate::kernel::probes::Probe| Probe {
            name: probe.name,
            rung: probe.rung.as_token(),
            usable: rung.is_some_and(|rung| probe.is_part_of(rung)),
            purpose: probe.purpose,
        };
        Self {
            version: env!("CARGO_PKG_VERSION"),
            kernel: facts.system.kernel_release.clone(),
            machine: facts.system.machine.clone(),
            obstacle,
            rung: rung.map(Rung::as_token),
            checks: checks::all(facts),
            probes: PROBES.iter().map(probe).collect(),
        }
    }

    /// Whether anything is degraded.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.checks.iter().any(|check| check.state == State::Degraded)
    }
}

/// Days from `date` to `today`; 0 if `date` is later, as it is on a host whose clock is behind.
#[must_use]
pub fn age_days(date: Date, today: Date) -> i64 {
    let days = date.until((Unit::Day, today)).map_or(0, |span| i64::from(span.get_days()));
    days.max(0)
}

#[cfg(test)]
mod tests;
