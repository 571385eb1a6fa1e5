use std::collections::VecDeque;

use proptest::prelude::*;

use super::{SLOTS, add_to_window, habit_limit, median};
use crate::event::BootTime;

#[test]
fn the_limit_of_a_habit_follows_its_formula() {
    let limit = |sums: &[u64]| habit_limit(&sums.iter().copied().collect(), 6);
    // m = 100, MAD = 0: a tenth of the median counts as the spread.
    assert_eq!(limit(&[100, 100, 100, 100, 100]), 160);
    // m = 100, MAD = 50, 1.4826 × 50 = 74.
    assert_eq!(limit(&[10, 50, 100, 150, 1_000]), 100 + 6 * 74);
    assert_eq!(median(&mut [3, 1, 2]), 2);
    assert_eq!(median(&mut []), 0);
}

proptest! {
    /// The sum over a window holds everything of the last 23/24 of it, and nothing older than the window.
    #[test]
    fn a_window_holds_what_is_in_it(steps in proptest::collection::vec((0u64..400, 0u64..1_000), 1..80)) {
        const WINDOW: u64 = 2_400;
        let mut sums = VecDeque::new();
        let mut all: Vec<(u64, u64)> = Vec::new();
        let mut now = 10_000;
        for (wait, bytes) in steps {
            now += wait;
            all.push((now, bytes));
            let sum = add_to_window(&mut sums, WINDOW, BootTime(now), bytes);
            let since = |age: u64| all.iter().filter(|(at, _)| now - at < age).map(|(_, bytes)| bytes).sum::<u64>();
            prop_assert!(sum >= since(WINDOW - WINDOW / SLOTS), "{} < {}", sum, since(WINDOW - WINDOW / SLOTS));
            prop_assert!(sum <= since(WINDOW), "{} > {}", sum, since(WINDOW));
            prop_assert!(sums.len() as u64 <= SLOTS + 1);
        }
    }
}
