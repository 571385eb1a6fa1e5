//! A batch in as many requests as the receiver makes necessary.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

use super::{Problem, slow};
use crate::sink::delivery::{Delivered, Failure, Item, Refused};

/// After this time what is confirmed is said to the spool, which then hands over the rest: a receiver that is slow would
/// otherwise confirm nothing until the whole batch is through, and begin anew after whatever breaks off.
const BUDGET: Duration = Duration::from_secs(30);

/// So many records, each refused in a request of its own, say as much about a receiver that has taken nothing yet as all.
const PROOFS: usize = 8;

/// So often a receiver that has taken nothing yet and calls requests bad is tried again, a minute apart, before that is
/// held against the records.
const DOUBTS: u32 = 10;

/// Makes one request of some items.
pub(crate) trait Requests: Send {
    /// Hands `items` over in one request. Positions in what it returns count from the first of `items`.
    fn request(&mut self, items: &[Item]) -> impl Future<Output = Result<Delivered, Problem>> + Send;
}

/// How many items go into one request. It is remembered between batches, because a limit of the receiver stays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    items: usize,
    /// Found by the answer that a request was too large.
    ceiling: usize,
    /// The receiver has taken something since the output was opened.
    has_accepted: bool,
    /// How often it was tried again because it had not.
    doubts: u32,
}

impl Default for Window {
    fn default() -> Self {
        Self { items: usize::MAX, ceiling: usize::MAX, has_accepted: false, doubts: 0 }
    }
}

impl Window {
    /// One item, one request.
    pub(crate) const SINGLE: Self = Self { items: 1, ceiling: 1, has_accepted: false, doubts: 0 };

    /// Of a request with so many items all are dealt with but `refused` ones were taken.
    fn noted(&mut self, items: usize, refused: usize) {
        self.has_accepted |= items > refused;
    }

    /// Whether a request that the receiver calls bad may be so because of the settings: a wrong address, or no TLS.
    const fn is_in_doubt(&self) -> bool {
        !self.has_accepted && self.doubts < DOUBTS
    }

    fn accepted(&mut self) {
        self.items = self.items.saturating_mul(2).min(self.ceiling);
    }

    fn halve(&mut self, length: usize, is_too_large: bool) {
        self.items = length.div_ceil(2).max(1);
        if is_too_large {
            self.ceiling = self.items;
        }
    }
}

/// Delivers `batch` in order, or as much of it as there is time for ([`BUDGET`]). A request that is refused is halved until the items that
/// the receiver refuses are alone. As long as it has taken nothing at all, bad requests are tried again for a while, with
/// nothing confirmed: a wrong address would otherwise cost every record.
pub(crate) async fn deliver_in_parts(
    requests: &mut impl Requests,
    window: &mut Window,
    batch: &[Item],
) -> Result<Delivered, Failure> {
    deliver_within(BUDGET, requests, window, batch).await
}

async fn deliver_within(
    budget: Duration,
    requests: &mut impl Requests,
    window: &mut Window,
    batch: &[Item],
) -> Result<Delivered, Failure> {
    let until = Instant::now() + budget;
    let mut rest = batch;
    let mut refused = Vec::new();
    let mut doubted = 0;
    while !rest.is_empty() && doubted < PROOFS && Instant::now() < until {
        let confirmed = batch.len() - rest.len();
        let (part, later) = rest.split_at(rest.len().min(window.items));
        let (reason, is_too_large, is_bad) = match requests.request(part).await {
            Ok(delivered) => {
                window.noted(part.len(), delivered.refused.len());
                refused.extend(moved(delivered.refused, confirmed));
                rest = later;
                window.accepted();
                if window.has_accepted {
                    doubted = 0;
                }
                continue;
            }
            Err(Problem::Again(failure)) => {
                window.noted(failure.confirmed, failure.refused.len());
                if doubted > 0 && !window.has_accepted {
                    return Err(Failure { confirmed: 0, refused: Vec::new(), ..failure });
                }
                refused.extend(moved(failure.refused, confirmed));
                return Err(Failure { confirmed: confirmed + failure.confirmed, refused, ..failure });
            }
            Err(Problem::TooLarge(reason)) => (reason, true, false),
            Err(Problem::Refused(reason)) => (reason, false, false),
            Err(Problem::BadRequest(reason)) => (reason, false, true),
        };
        if part.len() > 1 {
            window.halve(part.len(), is_too_large);
            continue;
        }
        refused.push(Refused { index: confirmed, reason });
        rest = later;
        doubted += usize::from(is_bad && window.is_in_doubt());
        // One item that is too large says nothing about the others.
        if is_too_large && window.ceiling != Window::SINGLE.ceiling {
            *window = Window { has_accepted: window.has_accepted, doubts: window.doubts, ..Window::default() };
        }
    }
    if let Some(last) = refused.last()
        && doubted > 0
    {
        window.doubts += 1;
        return Err(slow(format!(
            "{}; nothing was taken since the start: see whether the address and the type of output are right",
            last.reason
        )));
    }
    Ok(Delivered { refused, left: rest.len() })
}

fn moved(refused: Vec<Refused>, by: usize) -> impl Iterator<Item = Refused> {
    refused.into_iter().map(move |item| Refused { index: item.index + by, ..item })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::alert::{Timestamp, record::Dataset};

    /// Takes its time for each request, and calls those bad that hold what it does not like.
    struct Receiver {
        pace: Duration,
        dislikes: fn(&str) -> bool,
        requests: usize,
    }

    impl Requests for Receiver {
        async fn request(&mut self, items: &[Item]) -> Result<Delivered, Problem> {
            tokio::time::sleep(self.pace).await;
            self.requests += 1;
            if items.iter().any(|item| (self.dislikes)(&item.id)) {
                return Err(Problem::BadRequest("400 Bad Request".to_owned()));
            }
            Ok(Delivered::default())
        }
    }

    fn items(count: usize) -> Vec<Item> {
        let item = |number: usize| Item {
            id: number.to_string(),
            time: Timestamp::from_unix_ns(0),
            dataset: Dataset::Alert,
            severity: None,
            bytes: Bytes::new(),
        };
        (0..count).map(item).collect()
    }

    #[tokio::test]
    async fn a_slow_receiver_gets_on() {
        let (pace, budget) = (Duration::from_millis(4), Duration::from_millis(30));
        let mut receiver = Receiver { pace, dislikes: |_| false, requests: 0 };
        let (mut window, all) = (Window::SINGLE, items(100));
        let mut rest = all.as_slice();
        while !rest.is_empty() {
            let delivered = deliver_within(budget, &mut receiver, &mut window, rest).await.expect("delivered");
            let left = delivered.left;
            assert!(left < rest.len() && rest.len() - left <= 9, "{left} left of {}", rest.len());
            rest = &rest[rest.len() - left..];
        }
        assert_eq!(receiver.requests, 100, "each once");
    }

    #[tokio::test]
    async fn bad_requests_are_held_against_records_once_others_are_taken_or_in_the_end() {
        let pace = Duration::ZERO;
        let mut wrong = Receiver { pace, dislikes: |_| true, requests: 0 };
        let (mut window, all) = (Window::default(), items(1_000));
        for _ in 0..DOUBTS {
            let failure = deliver_in_parts(&mut wrong, &mut window, &all).await.expect_err("doubts");
            assert_eq!((failure.confirmed, failure.refused.len()), (0, 0));
            assert!(failure.retry_after.is_some() && failure.reason.contains("see whether the address"), "{failure}");
        }
        assert!(wrong.requests < 200, "{} requests", wrong.requests);
        let delivered = deliver_in_parts(&mut wrong, &mut window, &all).await.expect("dealt with");
        assert_eq!(delivered.refused.len(), 1_000);

        // One that takes something is right about the others.
        let mut right = Receiver { pace, dislikes: |id| id.len() == 1, requests: 0 };
        let mut window = Window::default();
        let failure = deliver_in_parts(&mut right, &mut window, &all[..3]).await.expect_err("doubts");
        assert_eq!(failure.confirmed, 0);
        let delivered = deliver_in_parts(&mut right, &mut window, &all[4..40]).await.expect("dealt with");
        let refused: Vec<_> = delivered.refused.iter().map(|refused| refused.index).collect();
        assert_eq!(refused, [0, 1, 2, 3, 4, 5]);
        let delivered = deliver_in_parts(&mut right, &mut window, &all[..3]).await.expect("dealt with");
        assert_eq!(delivered.refused.len(), 3);
    }
}
