//! The arithmetic: medians, percentiles and the comparison of alternating pairs. Pure, and the part with unit tests.

use serde::{Deserialize, Serialize};

/// A figure that was measured several times.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    /// The middle one.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) lowest: f64,
    /// The largest.
    pub(crate) highest: f64,
    /// How many there were.
    pub(crate) count: usize,
}

impl Spread {
    /// Of values in any order; `None` of none.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let sorted = sorted(values);
        Some(Self { median: middle(&sorted)?, lowest: *sorted.first()?, highest: *sorted.last()?, count: sorted.len() })
    }
}

/// Latencies by rank, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latencies {
    /// Half of them are at most this.
    pub(crate) p50_ms: f64,
    /// All but one in a hundred are at most this.
    pub(crate) p99_ms: f64,
    /// None is more than this.
    pub(crate) max_ms: f64,
    /// How many there were.
    pub(crate) count: usize,
}

impl Latencies {
    /// Of latencies in nanoseconds, in any order; `None` of none.
    pub(crate) fn of_ns(latencies_ns: &[u64]) -> Option<Self> {
        let milliseconds: Vec<f64> = latencies_ns.iter().map(|&ns| ns as f64 / 1e6).collect();
        let sorted = sorted(&milliseconds);
        Some(Self {
            p50_ms: percentile(&sorted, 50)?,
            p99_ms: percentile(&sorted, 99)?,
            max_ms: *sorted.last()?,
            count: sorted.len(),
        })
    }
}

/// By how much `with` differs from `without` in each pair, in percent of `without`, as a spread. Pairs whose first half
/// is 0 say nothing and are left out.
pub(crate) fn change_percent(pairs: impl IntoIterator<Item = (f64, f64)>) -> Option<Spread> {
    let changes: Vec<f64> = pairs
        .into_iter()
        .filter(|(without, _)| *without > 0.0)
        .map(|(without, with)| (with / without - 1.0) * 100.0)
        .collect();
    Spread::of(&changes)
}

/// The smallest value that at least `percent` of a hundred values do not exceed ("nearest rank").
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(sorted.len() / 2 - 1)?;
    Some(f64::midpoint(lower, upper))
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middles() {
        for (values, expected) in
            [(&[3.0][..], Some(3.0)), (&[5.0, 1.0, 2.0], Some(2.0)), (&[4.0, 1.0, 2.0, 3.0], Some(2.5)), (&[], None)]
        {
            assert_eq!(Spread::of(values).map(|spread| spread.median), expected, "{values:?}");
        }
        let spread = Spread::of(&[3.0, -1.0, 2.0]).expect("values");
        assert_eq!((spread.lowest, spread.highest, spread.count), (-1.0, 3.0, 3));
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let latencies: Vec<u64> = (1..=200).rev().map(|ms| ms * 1_000_000).collect();
        let found = Latencies::of_ns(&latencies).expect("latencies");
        assert_eq!((found.p50_ms, found.p99_ms, found.max_ms, found.count), (100.0, 198.0, 200.0, 200));
        let one = Latencies::of_ns(&[7_000_000]).expect("a latency");
        assert_eq!((one.p50_ms, one.p99_ms, one.max_ms), (7.0, 7.0, 7.0));
        assert_eq!(Latencies::of_ns(&[]), None);
    }

    #[test]
    fn a_change_is_the_median_of_the_pairs_and_not_the_ratio_of_medians() {
        // The machine got twice as fast between the rounds; each pair says the same all the same.
        let change = change_percent([(100.0, 97.0), (200.0, 194.0), (50.0, 48.5)]).expect("pairs");
        assert!((change.median + 3.0).abs() < 1e-9 && (change.highest + 3.0).abs() < 1e-9, "{change:?}");
        assert_eq!(change_percent([(0.0, 5.0)]), None);
    }
}
