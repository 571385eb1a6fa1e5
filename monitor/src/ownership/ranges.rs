//! The address space cut into ranges, laid out for small memory and few cache misses per lookup.

use std::iter;

use super::CountryCode;

/// What is known of a range: the position of its autonomous system and its country, in 4 bytes. 0 is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Packed(u32);

impl Packed {
    /// In [`V6`]: look at the splits. No real value has country bits all set.
    const SPLIT: Self = Self(u32::MAX);
    const COUNTRY_BITS: u32 = 10;

    /// From a position below [`Systems::MAXIMUM`](super::systems::Systems::MAXIMUM).
    pub(super) fn new(system: Option<u32>, country: Option<CountryCode>) -> Self {
        let system = system.map_or(0, |position| position + 1);
        let country = country.map_or(0, |country| u32::from(country.index()) + 1);
        Self(system << Self::COUNTRY_BITS | country)
    }

    /// Position of the system.
    pub(super) fn system(self) -> Option<u32> {
        (self.0 >> Self::COUNTRY_BITS).checked_sub(1)
    }

    pub(super) fn country(self) -> Option<CountryCode> {
        ((self.0 & ((1 << Self::COUNTRY_BITS) - 1)) as u16).checked_sub(1).and_then(CountryCode::from_index)
    }
}

/// Where the starts with the same 16 bits at their upper end lie among all starts, so that a search begins near its aim.
#[derive(Debug, Default)]
struct Buckets {
    /// For each bucket the position of the first start in it or behind it, and at the end the number of starts.
    begins: Vec<u32>,
}

impl Buckets {
    const COUNT: usize = 1 << 16;

    /// Says that the start at `position` is in `bucket`. Both ascend.
    fn push(&mut self, bucket: u16, position: usize) {
        self.fill(usize::from(bucket) + 1, position);
    }

    fn finish(&mut self, starts: usize) {
        self.fill(Self::COUNT + 1, starts);
    }

    fn fill(&mut self, buckets: usize, position: usize) {
        if self.begins.len() < buckets {
            self.begins.resize(buckets, position as u32);
        }
    }

    /// Position of the last start that is not above what is sought: in its bucket, where `is_not_above` tells, or else the
    /// last of an earlier bucket.
    fn find<K>(&self, bucket: u16, starts: &[K], is_not_above: impl Fn(&K) -> bool) -> Option<usize> {
        let bucket = usize::from(bucket);
        let &[begin, end] = self.begins.get(bucket..bucket + 2)?.as_array()?;
        let (begin, end) = (begin as usize, end as usize);
        (begin + starts.get(begin..end)?.partition_point(is_not_above)).checked_sub(1)
    }

    /// The bucket of each start.
    fn iter(&self) -> impl Iterator<Item = u16> {
        (0..=u16::MAX).zip(self.begins.windows(2)).flat_map(|(bucket, bounds)| {
            let count = bounds.last().zip(bounds.first()).map_or(0, |(end, begin)| end - begin);
            iter::repeat_n(bucket, count as usize)
        })
    }
}

/// IPv4: buckets by the upper half of the address, in them the lower halves at which ranges start. A bucket holds 7 on
/// average, so that a lookup costs one miss in the index, one in the bucket and one for the value.
#[derive(Debug, Default)]
pub(super) struct V4 {
    buckets: Buckets,
    lower: Vec<u16>,
    values: Vec<Packed>,
}

impl V4 {
    /// Adds a range that ends where the next one starts. The first starts at 0, each further one above the last.
    pub(super) fn push(&mut self, start: u32, value: Packed) {
        self.buckets.push((start >> 16) as u16, self.lower.len());
        self.lower.push(start as u16);
        self.values.push(value);
    }

    /// Makes the table ready for lookups, when all ranges are there.
    pub(super) fn finish(&mut self) {
        self.buckets.finish(self.lower.len());
        self.lower.shrink_to_fit();
        self.values.shrink_to_fit();
    }

    pub(super) fn lookup(&self, address: u32) -> Packed {
        let found = self.buckets.find((address >> 16) as u16, &self.lower, |&lower| lower <= address as u16);
        found.and_then(|position| self.values.get(position)).copied().unwrap_or_default()
    }

    /// The starts and values again, ascending.
    pub(super) fn steps(&self) -> impl Iterator<Item = (u32, Packed)> {
        let starts =
            self.buckets.iter().zip(&self.lower).map(|(upper, &lower)| u32::from(upper) << 16 | u32::from(lower));
        starts.zip(self.values.iter().copied())
    }
}

/// IPv6: the upper halves at which ranges start. The few /64 networks that hold more than one range are marked and kept
/// apart with whole addresses.
#[derive(Debug, Default)]
pub(super) struct V6 {
    buckets: Buckets,
    upper: Vec<u64>,
    values: Vec<Packed>,
    /// Each marked /64 begins with a start at its first address.
    splits: Vec<(u128, Packed)>,
    /// The value of the last range while ranges are added.
    last: Packed,
}

impl V6 {
    /// Adds a range that ends where the next one starts. The first starts at 0, each further one above the last.
    pub(super) fn push(&mut self, start: u128, value: Packed) {
        let network = (start >> 64) as u64;
        if start as u64 == 0 {
            self.leave_split(network.into());
            self.push_network(network, value);
        } else {
            if self.upper.last() != Some(&network) {
                self.leave_split(network.into());
                self.push_network(network, self.last);
            }
            if let Some(whole) = self.values.last_mut()
                && *whole != Packed::SPLIT
            {
                self.splits.push((u128::from(network) << 64, *whole));
                *whole = Packed::SPLIT;
            }
            self.splits.push((start, value));
        }
        self.last = value;
    }

    /// Makes the table ready for lookups, when all ranges are there.
    pub(super) fn finish(&mut self) {
        self.leave_split(1 << 64);
        self.buckets.finish(self.upper.len());
        self.upper.shrink_to_fit();
        self.values.shrink_to_fit();
        self.splits.shrink_to_fit();
    }

    fn push_network(&mut self, network: u64, value: Packed) {
        self.buckets.push(bucket(network), self.upper.len());
        self.upper.push(network);
        self.values.push(value);
    }

    /// What begins inside a split /64 goes on behind it, unless `next`, where something else begins, is there.
    fn leave_split(&mut self, next: u128) {
        if let (Some(&Packed::SPLIT), Some(&split)) = (self.values.last(), self.upper.last())
            && u128::from(split) + 1 < next
        {
            self.push_network(split + 1, self.last);
        }
    }

    pub(super) fn lookup(&self, address: u128) -> Packed {
        let network = (address >> 64) as u64;
        let found = self.buckets.find(bucket(network), &self.upper, |&upper| upper <= network);
        let value = found.and_then(|position| self.values.get(position)).copied().unwrap_or_default();
        if value != Packed::SPLIT {
            return value;
        }
        let behind = self.splits.partition_point(|&(start, _)| start <= address);
        let split = behind.checked_sub(1).and_then(|position| self.splits.get(position));
        split.map(|&(_, value)| value).unwrap_or_default()
    }

    /// The starts and values again, ascending. Neighbours may be equal behind a split /64.
    pub(super) fn steps(&self) -> impl Iterator<Item = (u128, Packed)> {
        self.upper.iter().zip(&self.values).flat_map(|(&upper, &value)| {
            let begin = u128::from(upper) << 64;
            let split = value == Packed::SPLIT;
            let splits = if split { self.splits_of(begin) } else { &[] };
            splits.iter().copied().chain((!split).then_some((begin, value)))
        })
    }

    fn splits_of(&self, begin: u128) -> &[(u128, Packed)] {
        let end = begin | u128::from(u64::MAX);
        let first = self.splits.partition_point(|&(start, _)| start < begin);
        let behind = self.splits.partition_point(|&(start, _)| start <= end);
        self.splits.get(first..behind).unwrap_or_default()
    }
}

/// The bucket of an upper half. All unicast addresses handed out so far lie in `2000::/3`, so the buckets divide it.
fn bucket(network: u64) -> u16 {
    const FIRST: u64 = 0x2000 << 48;
    u16::try_from(network.saturating_sub(FIRST) >> (61 - 16)).unwrap_or(u16::MAX)
}
