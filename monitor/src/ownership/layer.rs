//! Facts laid over the address space: overlapping ranges as sources give them, and the disjoint layers made of them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    iter,
    net::IpAddr,
};

use super::CountryCode;

/// Inclusive ranges with a value each, in any order, nested or overlapping.
#[derive(Clone, Debug)]
pub struct Ranges<T> {
    v4: Vec<Range<T>>,
    v6: Vec<Range<T>>,
}

impl<T> Default for Ranges<T> {
    fn default() -> Self {
        Self { v4: Vec::new(), v6: Vec::new() }
    }
}

#[derive(Clone, Copy, Debug)]
struct Range<T> {
    first: u128,
    last: u128,
    value: T,
}

/// Why two addresses are no range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// One is IPv4, the other IPv6.
    #[error("the range runs from {first} to {last}, an address of the other family: give both ends in one family")]
    Families {
        /// The first address.
        first: IpAddr,
        /// The last address.
        last: IpAddr,
    },
    /// The last comes before the first.
    #[error("the range runs backwards from {first} to {last}: swap them")]
    Order {
        /// The first address.
        first: IpAddr,
        /// The last address.
        last: IpAddr,
    },
}

impl<T: Copy + Eq> Ranges<T> {
    /// Adds the range from `first` to `last`, both inside. IPv4-mapped addresses count as IPv4.
    pub fn push(&mut self, first: IpAddr, last: IpAddr, value: T) -> Result<(), Conflict> {
        let (ranges, bits) = match (first.to_canonical(), last.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => (&mut self.v4, (first.to_bits().into(), last.to_bits().into())),
            (IpAddr::V6(first), IpAddr::V6(last)) => (&mut self.v6, (first.to_bits(), last.to_bits())),
            _ => return Err(Conflict::Families { first, last }),
        };
        if bits.0 > bits.1 {
            return Err(Conflict::Order { first, last });
        }
        ranges.push(Range { first: bits.0, last: bits.1, value });
        Ok(())
    }

    /// How many IPv4 and IPv6 ranges.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.v4.len(), self.v6.len())
    }

    /// The value of each address: that of the narrowest range that holds it, of equally wide ones the last added.
    #[must_use]
    pub fn flatten(&self) -> Layer<T> {
        let v4 = flatten(&self.v4, u32::MAX.into()).into_iter().map(|(start, value)| (start as u32, value)).collect();
        Layer { v4, v6: flatten(&self.v6, u128::MAX) }
    }
}

/// Walks the starts and ends of the ranges upwards and keeps the open ones in a heap, the narrowest on top. Ended ones
/// leave the heap when they reach its top, so each range enters and leaves once. Nothing begins above `highest`.
fn flatten<T: Copy + Eq>(ranges: &[Range<T>], highest: u128) -> Vec<(u128, Option<T>)> {
    let mut upcoming: Vec<(usize, &Range<T>)> = ranges.iter().enumerate().collect();
    upcoming.sort_by_key(|(_, range)| range.first);
    let mut upcoming = upcoming.into_iter().peekable();
    let mut open = BinaryHeap::new();
    let mut steps = vec![(0, None)];
    let mut position = 0;
    loop {
        while let Some((row, range)) = upcoming.next_if(|(_, range)| range.first <= position) {
            open.push((Reverse(range.last - range.first), row));
        }
        let narrowest = loop {
            let Some(range) = open.peek().and_then(|&(_, row)| ranges.get(row)) else { break None };
            if range.last >= position {
                break Some(range);
            }
            open.pop();
        };
        append(&mut steps, position, narrowest.map(|range| range.value));
        let next_start = upcoming.peek().map(|(_, range)| range.first);
        let next_end = narrowest.filter(|range| range.last < highest).map(|range| range.last + 1);
        match next_start.into_iter().chain(next_end).min() {
            Some(next) => position = next,
            None => return steps,
        }
    }
}

/// Adds a step unless the value stays the same; a second value at the same position replaces the first.
pub(super) fn append<K: PartialEq, V: PartialEq>(steps: &mut Vec<(K, V)>, start: K, value: V) {
    steps.pop_if(|(last_start, _)| *last_start == start);
    if steps.last().is_none_or(|(_, last_value)| *last_value != value) {
        steps.push((start, value));
    }
}

/// One value, or none, for each address. Each step gives where a value begins; it holds up to the next step. The first
/// step of each family begins at its lowest address, the starts ascend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer<T> {
    pub(super) v4: Vec<(u32, Option<T>)>,
    pub(super) v6: Vec<(u128, Option<T>)>,
}

impl<T> Default for Layer<T> {
    /// No value anywhere.
    fn default() -> Self {
        Self { v4: vec![(0, None)], v6: vec![(0, None)] }
    }
}

impl<T: Copy + Eq> Layer<T> {
    /// This layer, and where it has no value that of `other`.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self { v4: filled(&self.v4, &other.v4), v6: filled(&self.v6, &other.v6) }
    }

    /// How many IPv4 and IPv6 ranges have a value.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let v4 = self.v4.iter().filter(|(_, value)| value.is_some()).count();
        (v4, self.v6.iter().filter(|(_, value)| value.is_some()).count())
    }
}

fn filled<K: Copy + Ord, T: Copy + Eq>(upper: &[(K, Option<T>)], lower: &[(K, Option<T>)]) -> Vec<(K, Option<T>)> {
    let mut steps = Vec::with_capacity(upper.len().max(lower.len()));
    for (start, upper, lower) in overlay(upper, lower) {
        append(&mut steps, start, upper.or(lower));
    }
    steps
}

impl<T: Copy> Layer<T> {
    /// The value of each step that has one.
    pub(super) fn values(&self) -> impl Iterator<Item = T> {
        let v4 = self.v4.iter().filter_map(|&(_, value)| value);
        v4.chain(self.v6.iter().filter_map(|&(_, value)| value))
    }
}

impl Layer<u32> {
    /// The country in which each value of this layer (an AS number) has most of its addresses by `countries`. IPv4
    /// decides where a system has any; between equals the first in the alphabet.
    #[must_use]
    pub fn majorities(&self, countries: &Layer<CountryCode>) -> BTreeMap<u32, CountryCode> {
        let v4 = sizes(&self.v4, &countries.v4, 1 << 32);
        let mut majorities = majority_of_each(sizes(&self.v6, &countries.v6, u128::MAX));
        majorities.extend(majority_of_each(v4));
        majorities
    }
}

/// How many addresses fall to each pair of values; `end` is the first address past the space.
fn sizes<K: Copy + Ord + Into<u128>>(
    origins: &[(K, Option<u32>)],
    countries: &[(K, Option<CountryCode>)],
    end: u128,
) -> HashMap<(u32, CountryCode), u128> {
    let mut sizes = HashMap::new();
    let mut steps = overlay(origins, countries).peekable();
    while let Some((start, origin, country)) = steps.next() {
        let end = steps.peek().map_or(end, |&(next, ..)| next.into());
        if let (Some(origin), Some(country)) = (origin, country) {
            *sizes.entry((origin, country)).or_default() += end - start.into();
        }
    }
    sizes
}

/// The country with the largest size for each AS number.
fn majority_of_each(sizes: HashMap<(u32, CountryCode), u128>) -> BTreeMap<u32, CountryCode> {
    let mut largest = BTreeMap::<u32, (u128, Reverse<CountryCode>)>::new();
    for ((origin, country), size) in sizes {
        let candidate = (size, Reverse(country));
        largest.entry(origin).and_modify(|best| *best = candidate.max(*best)).or_insert(candidate);
    }
    largest.into_iter().map(|(origin, (_, Reverse(country)))| (origin, country)).collect()
}

/// Both layers at once: a step wherever one of them has a step, with the values of both from there on.
pub(super) fn overlay<K: Copy + Ord, A: Copy, B: Copy>(
    left: &[(K, Option<A>)],
    right: &[(K, Option<B>)],
) -> impl Iterator<Item = (K, Option<A>, Option<B>)> {
    let mut left = left.iter().copied().peekable();
    let mut right = right.iter().copied().peekable();
    let (mut left_value, mut right_value) = (None, None);
    iter::from_fn(move || {
        let starts = [left.peek().map(|&(start, _)| start), right.peek().map(|&(start, _)| start)];
        let start = starts.into_iter().flatten().min()?;
        if let Some((_, value)) = left.next_if(|&(left_start, _)| left_start == start) {
            left_value = value;
        }
        if let Some((_, value)) = right.next_if(|&(right_start, _)| right_start == start) {
            right_value = value;
        }
        Some((start, left_value, right_value))
    })
}
