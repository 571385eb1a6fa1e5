//! How long to wait before a receiver that failed is tried again.

use std::{
    hash::{BuildHasher as _, RandomState},
    time,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Duration;

/// Longest pause that may be configured or that a receiver may ask for.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(3_600);

/// Exponential back-off with full jitter: the pause is a random time below a bound that doubles, so that hosts whose
/// receiver was gone do not all come back at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Backoff {
    /// Bound of the first pause.
    #[schemars(with = "String")]
    pub(super) first: Duration,
    /// Largest bound.
    #[schemars(with = "String")]
    pub(super) longest: Duration,
}

/// Pauses that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackoffError {
    /// It would try without a pause.
    #[error("a first pause of 0s would try without a rest: write at least \"100ms\"")]
    Zero,
    /// The bounds do not grow.
    #[error("the longest pause {longest} is shorter than the first of {first}: write a longer one")]
    Shrinks {
        /// Bound of the first pause.
        first: Duration,
        /// Largest bound.
        longest: Duration,
    },
    /// An output would seem dead.
    #[error("a pause of {0} is too long: write at most \"1h\"")]
    TooLong(Duration),
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(250), longest: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// With bounds from `first` to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Result<Self, BackoffError> {
        if first == Duration::default() {
            return Err(BackoffError::Zero);
        }
        if longest < first {
            return Err(BackoffError::Shrinks { first, longest });
        }
        if longest > PAUSE_MAX {
            return Err(BackoffError::TooLong(longest));
        }
        Ok(Self { first, longest })
    }

    /// The pause after `failures` failures in a row.
    pub(super) fn pause(self, failures: u32) -> time::Duration {
        self.bound(failures).mul_f64(random_share())
    }

    fn bound(self, failures: u32) -> time::Duration {
        let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.get().saturating_mul(factor).min(self.longest.get())
    }
}

/// A random number from 0 to below 1. The standard library seeds each hasher from the system's random numbers.
fn random_share() -> f64 {
    let bits = u32::try_from(RandomState::new().hash_one(0_u8) >> 32).unwrap_or(0);
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_bound_doubles_up_to_the_longest_and_the_pause_is_below_it() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1)).expect("good bounds");
        let bounds = [1, 2, 3, 4, 5, 40, u32::MAX].map(|failures| backoff.bound(failures).as_millis());
        assert_eq!(bounds, [100, 200, 400, 800, 1_000, 1_000, 1_000]);
        let pauses: BTreeSet<_> = (0..100).map(|_| backoff.pause(9)).collect();
        assert!(pauses.len() > 90, "pauses differ: {}", pauses.len());
        assert!(pauses.iter().all(|pause| *pause < time::Duration::from_secs(1)));
        // Full jitter: a hundred pauses without one in the lower half has a chance of 2^-100.
        assert!(pauses.first().is_some_and(|pause| *pause < time::Duration::from_millis(500)));
    }

    #[test]
    fn pauses_that_cannot_be_are_refused() {
        let seconds = Duration::from_secs;
        assert_eq!(Backoff::new(seconds(0), seconds(1)), Err(BackoffError::Zero));
        assert!(matches!(Backoff::new(seconds(2), seconds(1)), Err(BackoffError::Shrinks { .. })));
        assert_eq!(Backoff::new(seconds(1), seconds(7_200)), Err(BackoffError::TooLong(seconds(7_200))));
    }
}
