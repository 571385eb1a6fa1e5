//! What has to come together before a rule alerts: sums, counts and habits over sliding windows.
//!
//! Memory is bounded: each rule remembers at most [`KEYS`] keys and gives up the one that was used longest ago; what a
//! key takes at most stands beside each state.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    num::NonZeroUsize,
};

use serde::Deserialize;

use super::{
    facts::{Facts, Moment},
    key::{Key, OwnerId, Per},
};
use crate::{
    event::BootTime,
    ownership::{self, Scope},
    policy::Level,
    recent::Recent,
    units::{ByteSize, Duration},
};

/// Most keys that a rule remembers.
pub(super) const KEYS: usize = 4_096;
/// Parts that a window is cut into.
const SLOTS: u64 = 24;
/// Most distinct things that are counted.
const MAX_COUNT: u32 = 4_096;
/// Most contacts that a regularity is judged by.
const MAX_CONTACTS: usize = 64;
/// Most periods that a habit is judged by.
const MAX_PERIODS: usize = 64;

/// `threshold = { kind = "…", … }` of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Threshold {
    /// More than `bytes` of payload left within `window`.
    BytesOut {
        window: Duration,
        bytes: ByteSize,
        #[serde(default)]
        per: Per,
    },
    /// The executable reached `count` owners within `window`.
    DistinctOwners { window: Duration, count: u32 },
    /// The executable reached `count` addresses within `window`.
    DistinctDestinations { window: Duration, count: u32 },
    /// The executable was not seen to reach the owner before.
    FirstContact {},
    /// The executable sends far more in a period than it does in others.
    AboveHabit {
        period: Duration,
        #[serde(default = "six")]
        factor: u32,
        min_bytes: ByteSize,
        #[serde(default = "eight")]
        periods: usize,
    },
    /// The executable opens flows to one destination at regular intervals.
    Beacon {
        #[serde(default = "eight")]
        contacts: usize,
        #[serde(default = "ten_percent")]
        max_spread_percent: u32,
        #[serde(default = "ten_seconds")]
        min_interval: Duration,
    },
    /// Payload went to a public address that nobody called by a name.
    Nameless {
        #[serde(default = "five_seconds")]
        after: Duration,
    },
}

const fn six() -> u32 {
    6
}

const fn eight() -> usize {
    8
}

const fn ten_percent() -> u32 {
    10
}

const fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

const fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

/// What a threshold found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Kind of the threshold, as the rule file writes it.
    pub kind: &'static str,
    /// What was counted or measured.
    pub observed: u64,
    /// What it had to reach or exceed; `None` where there is no number.
    pub limit: Option<u64>,
    /// Over how long, in seconds; `None` where there is no window.
    pub window_s: Option<u64>,
    /// In words.
    pub text: String,
}

impl Threshold {
    /// Why it makes no sense; what to write instead is part of the answer.
    pub(super) fn refusal(&self) -> Option<String> {
        let is_zero = |duration: &Duration| *duration == Duration::default();
        match self {
            Self::BytesOut { window, .. } if is_zero(window) => {
                Some("a window of 0s holds nothing: write one such as \"24h\"".into())
            }
            Self::DistinctOwners { window, count } | Self::DistinctDestinations { window, count } => {
                if is_zero(window) {
                    return Some("a window of 0s holds nothing: write one such as \"1h\"".into());
                }
                (!(2..=MAX_COUNT).contains(count))
                    .then(|| format!("count = {count}: write a number from 2 to {MAX_COUNT}"))
            }
            Self::AboveHabit { period, periods, .. } => {
                if is_zero(period) {
                    return Some("a period of 0s holds nothing: write one such as \"1h\"".into());
                }
                (!(4..=MAX_PERIODS).contains(periods))
                    .then(|| format!("periods = {periods}: write a number from 4 to {MAX_PERIODS}"))
            }
            Self::Beacon { contacts, max_spread_percent, .. } => {
                if !(4..=MAX_CONTACTS).contains(contacts) {
                    return Some(format!("contacts = {contacts}: write a number from 4 to {MAX_CONTACTS}"));
                }
                (*max_spread_percent > 100).then(|| "max_spread_percent: write a number from 0 to 100".into())
            }
            _ => None,
        }
    }

    /// What its alerts are counted by.
    pub(super) const fn per(&self) -> Per {
        match self {
            Self::BytesOut { per, .. } => *per,
            Self::DistinctOwners { .. } | Self::DistinctDestinations { .. } | Self::AboveHabit { .. } => {
                Per::Executable
            }
            Self::FirstContact {} => Per::ExecutableOwner,
            Self::Beacon { .. } | Self::Nameless { .. } => Per::ExecutableDestination,
        }
    }
}

impl Threshold {
    /// When a flow is to be judged again although nothing more comes of it.
    pub(super) fn judges_again_at(&self, step: &Step<'_>) -> Option<BootTime> {
        let Self::Nameless { after } = self else { return None };
        let due_at = BootTime(step.moment.first_at.0.saturating_add(after.as_ns()));
        let is_candidate = is_nameless(step.facts) && !step.moment.is_closed;
        (is_candidate && step.moment.at < due_at).then_some(due_at)
    }
}

/// Whether payload went to a public address that nobody called by a name so far.
fn is_nameless(facts: &Facts<'_>) -> bool {
    facts.address().is_some_and(|address| ownership::scope(address) == Scope::Global)
        && facts.names.is_empty()
        && facts.level == Level::Sent
        && !facts.is_inbound
}

/// What a rule remembers for its threshold.
#[derive(Clone, Debug)]
pub(super) struct State {
    keys: Recent<Key, Memory>,
}

/// What is remembered of one key.
#[derive(Clone, Debug)]
enum Memory {
    /// Sums by part of the window; at most [`SLOTS`] + 1 of them.
    Sums(VecDeque<(u64, u64)>),
    /// When each thing was last seen; at most as many as the threshold counts.
    Distinct(HashMap<Thing, BootTime>),
    /// When flows began; at most [`MAX_CONTACTS`].
    Starts(VecDeque<BootTime>),
    /// The sum of the present period, and those of earlier ones in which something was sent; at most [`MAX_PERIODS`].
    Habit { period: u64, sum: u64, earlier: VecDeque<u64> },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Thing {
    Owner(OwnerId),
    Address(IpAddr),
}

/// What a report adds.
pub(super) struct Step<'a> {
    pub(super) facts: &'a Facts<'a>,
    pub(super) moment: &'a Moment,
    pub(super) key: &'a Key,
    /// Payload sent since the last report that the rule's condition held for.
    pub(super) new_bytes: u64,
    /// The rule's condition holds for this flow for the first time.
    pub(super) is_new_flow: bool,
}

impl State {
    pub(super) fn new() -> Self {
        Self { keys: Recent::new(NonZeroUsize::new(KEYS).unwrap_or(NonZeroUsize::MIN)) }
    }

    /// Takes a report in; what was found, if the threshold is reached.
    pub(super) fn take_in(&mut self, threshold: &Threshold, step: &Step<'_>) -> Option<Evidence> {
        let Step { facts, moment, key, new_bytes, is_new_flow } = *step;
        let at = moment.at;
        match threshold {
            Threshold::BytesOut { window, bytes, .. } => {
                let Memory::Sums(sums) = self.memory(key, || Memory::Sums(VecDeque::new())) else { return None };
                let sum = add_to_window(sums, window.as_ns(), at, new_bytes);
                let evidence = || Evidence {
                    kind: "bytes_out",
                    observed: sum,
                    limit: Some(bytes.bytes()),
                    window_s: Some(window.get().as_secs()),
                    text: format!("{sum} bytes sent within {window}, more than {}", bytes.bytes()),
                };
                (sum > bytes.bytes() && new_bytes > 0).then(evidence)
            }
            Threshold::DistinctOwners { window, count } => {
                let thing = Thing::Owner(key.owner_of(facts)?);
                self.distinct(key, thing, *window, *count, at, "distinct_owners", "owners")
            }
            Threshold::DistinctDestinations { window, count } => {
                let thing = Thing::Address(facts.address()?);
                self.distinct(key, thing, *window, *count, at, "distinct_destinations", "addresses")
            }
            // The baseline decides, see `Engine`.
            Threshold::FirstContact {} => None,
            Threshold::AboveHabit { period, factor, min_bytes, periods } => {
                let present = at.0 / period.as_ns().max(1);
                let first = || Memory::Habit { period: present, sum: 0, earlier: VecDeque::new() };
                let Memory::Habit { period: of, sum, earlier } = self.memory(key, first) else { return None };
                if *of != present {
                    if *sum > 0 {
                        earlier.push_back(*sum);
                        if earlier.len() > MAX_PERIODS {
                            earlier.pop_front();
                        }
                    }
                    (*of, *sum) = (present, 0);
                }
                *sum = sum.saturating_add(new_bytes);
                if earlier.len() < *periods || new_bytes == 0 {
                    return None;
                }
                let limit = habit_limit(earlier, u64::from(*factor)).max(min_bytes.bytes());
                let (sum, samples) = (*sum, earlier.len());
                (sum > limit).then(|| Evidence {
                    kind: "above_habit",
                    observed: sum,
                    limit: Some(limit),
                    window_s: Some(period.get().as_secs()),
                    text: format!("{sum} bytes sent in this period of {period}, more than {limit} by its habit in {samples} earlier ones"),
                })
            }
            Threshold::Beacon { contacts, max_spread_percent, min_interval } => {
                if !is_new_flow {
                    return None;
                }
                let Memory::Starts(starts) = self.memory(key, || Memory::Starts(VecDeque::new())) else { return None };
                starts.push_back(moment.first_at);
                if starts.len() > *contacts {
                    starts.pop_front();
                }
                if starts.len() < *contacts {
                    return None;
                }
                let (interval_ns, spread_ns) = regularity(starts)?;
                let is_regular = interval_ns >= min_interval.as_ns()
                    && spread_ns.saturating_mul(100) <= interval_ns.saturating_mul(u64::from(*max_spread_percent));
                let every_ms = interval_ns / 1_000_000;
                is_regular.then(|| Evidence {
                    kind: "beacon",
                    observed: every_ms,
                    limit: None,
                    window_s: None,
                    text: format!(
                        "{contacts} flows about every {}, give or take {}",
                        Duration::from_millis(every_ms),
                        Duration::from_millis(spread_ns / 1_000_000)
                    ),
                })
            }
            Threshold::Nameless { after } => {
                let age_ns = at.since_ns(moment.first_at);
                let had_its_chance = age_ns >= after.as_ns() || moment.is_closed;
                (had_its_chance && is_nameless(facts)).then(|| Evidence {
                    kind: "nameless",
                    observed: facts.bytes_out.unwrap_or_default(),
                    limit: None,
                    window_s: None,
                    text: "no name of the address was seen, on the flow or in any answer".to_owned(),
                })
            }
        }
    }

    fn memory(&mut self, key: &Key, first: impl FnOnce() -> Memory) -> &mut Memory {
        self.keys.touch(key);
        if self.keys.peek(key).is_none() {
            self.keys.insert(key.clone(), first());
        }
        self.keys.peek_mut(key).unwrap_or_else(|| unreachable!("it was just put there"))
    }

    #[expect(clippy::too_many_arguments, reason = "two callers that differ in words only")]
    fn distinct(
        &mut self,
        key: &Key,
        thing: Thing,
        window: Duration,
        count: u32,
        at: BootTime,
        kind: &'static str,
        noun: &str,
    ) -> Option<Evidence> {
        let Memory::Distinct(seen) = self.memory(key, || Memory::Distinct(HashMap::new())) else { return None };
        seen.retain(|_, last| at.since_ns(*last) < window.as_ns());
        let is_new = seen.insert(thing, at).is_none();
        let observed = seen.len() as u64;
        if seen.len() > count as usize
            && let Some(oldest) = seen.iter().min_by_key(|(_, last)| **last).map(|(thing, _)| thing.clone())
        {
            seen.remove(&oldest);
        }
        (is_new && observed >= u64::from(count)).then(|| Evidence {
            kind,
            observed,
            limit: Some(u64::from(count)),
            window_s: Some(window.get().as_secs()),
            text: format!("{observed} {noun} reached within {window}"),
        })
    }
}

/// Adds to the present part of a window and gives the sum over the window.
fn add_to_window(sums: &mut VecDeque<(u64, u64)>, window_ns: u64, at: BootTime, bytes: u64) -> u64 {
    let slot = at.0 / (window_ns / SLOTS).max(1);
    while sums.front().is_some_and(|(old, _)| old + SLOTS <= slot) {
        sums.pop_front();
    }
    match sums.back_mut() {
        // A report that was overtaken counts where the later one does.
        Some((last, sum)) if *last >= slot => *sum = sum.saturating_add(bytes),
        _ => sums.push_back((slot, bytes)),
    }
    sums.iter().fold(0, |total, (_, sum)| total.saturating_add(*sum))
}

/// Median of earlier sums, plus `factor` times their spread: 1.4826 × the median absolute deviation, which is the
/// standard deviation of what is normally distributed, but at least a tenth of the median.
fn habit_limit(earlier: &VecDeque<u64>, factor: u64) -> u64 {
    let mut sums: Vec<u64> = earlier.iter().copied().collect();
    let middle = median(&mut sums);
    let mut deviations: Vec<u64> = earlier.iter().map(|sum| sum.abs_diff(middle)).collect();
    let spread = median(&mut deviations).saturating_mul(14_826) / 10_000;
    middle.saturating_add(factor.saturating_mul(spread.max(middle / 10)))
}

/// Median of the intervals, and the median of how far they are from it, in ns.
fn regularity(starts: &VecDeque<BootTime>) -> Option<(u64, u64)> {
    let mut times: Vec<u64> = starts.iter().map(|start| start.0).collect();
    times.sort_unstable();
    let mut intervals: Vec<u64> = times.iter().zip(times.iter().skip(1)).map(|(a, b)| b - a).collect();
    if intervals.is_empty() {
        return None;
    }
    let middle = median(&mut intervals);
    let mut deviations: Vec<u64> = intervals.iter().map(|interval| interval.abs_diff(middle)).collect();
    Some((middle, median(&mut deviations)))
}

/// The upper median; 0 of nothing.
fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
#[path = "threshold_tests.rs"]
mod tests;
