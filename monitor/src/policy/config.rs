//! What of this stage can be configured.

use std::{collections::BTreeMap, num::NonZeroUsize, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Level, Severity};
use crate::units::Duration;

/// Where rules are looked for unless the configuration says otherwise. It need not exist.
pub const DEFAULT_RULES: &str = "/etc/egresswatch/rules.d";

/// Options of lists, rules and alerts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Ids of lists to switch on, over what their files say.
    pub enable: Vec<String>,
    /// Ids of lists to switch off, over what their files say.
    pub disable: Vec<String>,
    /// The severity of every match of a list, over what its file says, by the list's id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(example = BTreeMap::from([("us-doj-dsp", "medium")]), with = "BTreeMap<String, String>")]
    pub severity: BTreeMap<String, Severity>,
    /// Your own list files, in the format of the embedded ones, which monitor/lists/README.md describes.
    pub files: Vec<PathBuf>,
    /// Where what `[lists]` fetched is kept over restarts, and the last good state of each list there.
    pub lists_directory: PathBuf,
    /// Your own rules: files, and directories of `*.toml`; docs/rules.md describes them.
    pub rules: Vec<PathBuf>,
    /// Ids of rules to switch on, over what their files say.
    pub enable_rules: Vec<String>,
    /// Ids of rules to switch off, over what their files say.
    pub disable_rules: Vec<String>,
    /// Where the contacts that rules of the kind `first_contact` know are kept over restarts. Opened only if such a rule
    /// is on.
    pub baseline: PathBuf,
    /// How long after a rule was first in force its new contacts are only learnt.
    #[schemars(with = "String")]
    pub learning: Duration,
    /// The least that a flow must have done to alert: "attempted", "established" or "sent".
    #[schemars(with = "String")]
    pub min_level: Level,
    /// How long an attempt or an established connection may still rise to a higher level before it alerts as what it is.
    #[schemars(with = "String")]
    pub settle: Duration,
    /// Pauses between the alerts that sum up further traffic of a known contact; the last one repeats.
    #[schemars(with = "Vec<String>")]
    pub rollup: RollupSchedule,
    /// A roll-up does not wait for its pause when the bytes sent grew by this factor since the last alert; 0 and 1 switch
    /// that off. The first pause is kept even so.
    pub rollup_growth: u64,
    /// Most contacts remembered at a time. The longest silent one is forgotten first, after its last roll-up.
    pub max_contacts: NonZeroUsize,
    /// Most flows of contacts remembered at a time. The longest silent one is forgotten first.
    pub max_flows: NonZeroUsize,
}

/// Pauses between roll-ups: at least one, none of them zero, each at least as long as the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Duration>", into = "Vec<Duration>")]
pub struct RollupSchedule(Vec<Duration>);

/// Why a roll-up schedule is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// No pause at all.
    #[error("the roll-up schedule is empty: write at least one pause, such as [\"10s\"]")]
    Empty,
    /// A pause of no length would alert for every report.
    #[error("a roll-up pause of 0s would alert for every report: write at least \"1s\"")]
    Zero,
    /// The pauses do not grow.
    #[error("the roll-up pause {1} is shorter than {0} before it: write them from the shortest to the longest")]
    Shrinks(Duration, Duration),
}

impl TryFrom<Vec<Duration>> for RollupSchedule {
    type Error = ScheduleError;

    fn try_from(pauses: Vec<Duration>) -> Result<Self, ScheduleError> {
        let mut longest = pauses.first().copied().ok_or(ScheduleError::Empty)?;
        for pause in &pauses {
            if *pause == Duration::default() {
                return Err(ScheduleError::Zero);
            }
            if *pause < longest {
                return Err(ScheduleError::Shrinks(longest, *pause));
            }
            longest = *pause;
        }
        Ok(Self(pauses))
    }
}

impl From<RollupSchedule> for Vec<Duration> {
    fn from(schedule: RollupSchedule) -> Self {
        schedule.0
    }
}

impl RollupSchedule {
    /// Nanoseconds of the pause before roll-up number `step`, counted from 0.
    #[must_use]
    pub fn pause_ns(&self, step: usize) -> u64 {
        self.0.get(step).or_else(|| self.0.last()).map_or(u64::MAX, |pause| pause.as_ns())
    }
}

impl Default for RollupSchedule {
    fn default() -> Self {
        Self([10, 60, 600, 3_600].map(Duration::from_secs).to_vec())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enable: Vec::new(),
            disable: Vec::new(),
            severity: BTreeMap::new(),
            files: Vec::new(),
            lists_directory: PathBuf::from("/var/lib/egresswatch/lists"),
            rules: vec![PathBuf::from(DEFAULT_RULES)],
            enable_rules: Vec::new(),
            disable_rules: Vec::new(),
            baseline: PathBuf::from("/var/lib/egresswatch/baseline.redb"),
            learning: Duration::from_secs(7 * 24 * 3_600),
            min_level: Level::Attempted,
            settle: Duration::from_secs(3),
            rollup: RollupSchedule::default(),
            rollup_growth: 10,
            max_contacts: NonZeroUsize::new(4_096).unwrap_or(NonZeroUsize::MIN),
            max_flows: NonZeroUsize::new(65_536).unwrap_or(NonZeroUsize::MIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_survive_a_round_trip_and_read_well() {
        let text = toml::to_string(&Config::default()).unwrap();
        insta::assert_snapshot!(text);
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), Config::default());
        assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
    }

    #[test]
    fn wrong_options_are_refused() {
        for (text, message) in [
            ("rollup = []", "the roll-up schedule is empty"),
            ("rollup = [\"0s\"]", "would alert for every report"),
            ("rollup = [\"1m\", \"10s\"]", "10s is shorter than 1m"),
            ("settle = \"soon\"", "is not a duration"),
            ("min_level = \"loud\"", "unknown variant `loud`"),
            ("max_flows = 0", "nonzero"),
            ("level = \"sent\"", "unknown field `level`"),
        ] {
            let error = toml::from_str::<Config>(text).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn the_last_pause_repeats() {
        let schedule = RollupSchedule::default();
        assert_eq!([0, 1, 3, 99].map(|step| schedule.pause_ns(step) / 1_000_000_000), [10, 60, 3_600, 3_600]);
    }
}
