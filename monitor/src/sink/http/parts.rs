//! A batch in as many requests as the receiver makes necessary.

use std::future::Future;

use super::Problem;
use crate::sink::delivery::{Delivered, Failure, Item, Refused};

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
}

impl Default for Window {
    fn default() -> Self {
        Self { items: usize::MAX, ceiling: usize::MAX }
    }
}

impl Window {
    /// One item, one request.
    pub(crate) const SINGLE: Self = Self { items: 1, ceiling: 1 };

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

/// Delivers `batch` in order. A request that is refused is halved until the items that the receiver refuses are alone.
pub(crate) async fn deliver_in_parts(
    requests: &mut impl Requests,
    window: &mut Window,
    batch: &[Item],
) -> Result<Delivered, Failure> {
    let mut rest = batch;
    let mut refused = Vec::new();
    while !rest.is_empty() {
        let confirmed = batch.len() - rest.len();
        let (part, later) = rest.split_at(rest.len().min(window.items));
        let (reason, is_too_large) = match requests.request(part).await {
            Ok(delivered) => {
                refused.extend(moved(delivered.refused, confirmed));
                rest = later;
                window.accepted();
                continue;
            }
            Err(Problem::Again(failure)) => {
                refused.extend(moved(failure.refused, confirmed));
                return Err(Failure { confirmed: confirmed + failure.confirmed, refused, ..failure });
            }
            Err(Problem::TooLarge(reason)) => (reason, true),
            Err(Problem::Refused(reason)) => (reason, false),
        };
        if part.len() > 1 {
            window.halve(part.len(), is_too_large);
            continue;
        }
        refused.push(Refused { index: confirmed, reason });
        rest = later;
        // One item that is too large says nothing about the others.
        if is_too_large && window.ceiling != Window::SINGLE.ceiling {
            *window = Window::default();
        }
    }
    Ok(Delivered { refused })
}

fn moved(refused: Vec<Refused>, by: usize) -> impl Iterator<Item = Refused> {
    refused.into_iter().map(move |item| Refused { index: item.index + by, ..item })
}
