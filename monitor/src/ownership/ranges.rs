//! The address space cut into ranges, laid out for small memory and few cache misses per lookup.

/// What is known of a range: the position of its autonomous system and the index of its country, in 4 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packed(u32);

impl Packed {
    /// Nothing known.
    const NOTHING: Self = Self(0);
    /// In [`V6`]: look at the splits. No real value has country bits all set.
    const SPLIT: Self = Self(u32::MAX);
    const COUNTRY_BITS: u32 = 10;

    /// From a position below [`Data::MAXIMUM_SYSTEMS`](super::Data::MAXIMUM_SYSTEMS) and a country index of at most 675.
    pub(super) fn new(system: Option<u32>, country: Option<u16>) -> Self {
        let system = system.map_or(0, |position| position + 1);
        let country = country.map_or(0, |index| u32::from(index) + 1);
        Self(system << Self::COUNTRY_BITS | country)
    }

    pub(super) fn system(self) -> Option<u32> {
        (self.0 >> Self::COUNTRY_BITS).checked_sub(1)
    }

    pub(super) fn country(self) -> Option<u16> {
        ((self.0 & ((1 << Self::COUNTRY_BITS) - 1)) as u16).checked_sub(1)
    }
}

/// IPv4: an index by the upper 16 bits of the address, and for each of them the lower halves at which a range starts.
/// A bucket holds 8 starts on average, so that a lookup costs one miss in the index and one or two in the bucket.
#[derive(Debug)]
pub(super) struct V4 {
    /// At `upper` the position of the first start in that bucket, and at `upper + 1` that of the first one behind it.
    buckets: Box<[u32]>,
    lower: Box<[u16]>,
    values: Box<[Packed]>,
}

impl V4 {
    /// From starts that ascend from 0.
    pub(super) fn new(steps: &[(u32, Packed)]) -> Self {
        let mut buckets = Vec::with_capacity((1 << 16) + 1);
        for (position, &(start, _)) in (0..).zip(steps) {
            let upper = (start >> 16) as usize;
            while buckets.len() <= upper {
                buckets.push(position);
            }
        }
        buckets.resize((1 << 16) + 1, steps.len() as u32);
        Self {
            buckets: buckets.into(),
            lower: steps.iter().map(|&(start, _)| start as u16).collect(),
            values: steps.iter().map(|&(_, value)| value).collect(),
        }
    }

    pub(super) fn lookup(&self, address: u32) -> Packed {
        let upper = (address >> 16) as usize;
        let Some(&[begin, end]) = self.buckets.get(upper..upper + 2).and_then(<[u32]>::as_array) else {
            return Packed::NOTHING;
        };
        let (begin, end) = (begin as usize, end as usize);
        let bucket = self.lower.get(begin..end).unwrap_or_default();
        // Past the starts that are not above the address; an address before the bucket's first start lies in the range
        // that began in an earlier bucket.
        let next = begin + bucket.partition_point(|&lower| lower <= address as u16);
        next.checked_sub(1).and_then(|position| self.values.get(position)).copied().unwrap_or(Packed::NOTHING)
    }

    /// The starts and values again, ascending.
    pub(super) fn steps(&self) -> impl Iterator<Item = (u32, Packed)> {
        let uppers = (0_u32..).zip(self.buckets.windows(2)).flat_map(|(upper, bounds)| match *bounds {
            [begin, end] => std::iter::repeat_n(upper, (end - begin) as usize),
            _ => std::iter::repeat_n(upper, 0),
        });
        uppers
            .zip(&self.lower)
            .zip(&self.values)
            .map(|((upper, &lower), &value)| (upper << 16 | u32::from(lower), value))
    }
}

/// IPv6: the upper halves at which ranges start. The few /64 networks that hold more than one range are marked and kept
/// apart with whole addresses.
#[derive(Debug)]
pub(super) struct V6 {
    upper: Box<[u64]>,
    values: Box<[Packed]>,
    /// Each marked /64 begins with a start at its first address.
    splits: Box<[(u128, Packed)]>,
}

impl V6 {
    /// From starts that ascend from 0.
    pub(super) fn new(steps: impl Iterator<Item = (u128, Packed)>) -> Self {
        let (mut upper, mut values, mut splits) = (Vec::<u64>::new(), Vec::new(), Vec::new());
        let mut current = Packed::NOTHING;
        let mut steps = steps.peekable();
        while let Some(&(start, first_value)) = steps.peek() {
            let network = (start >> 64) as u64;
            let first_split = splits.len();
            let inherited = current;
            while let Some((start, value)) = steps.next_if(|&(start, _)| (start >> 64) as u64 == network) {
                splits.push((start, value));
                current = value;
            }
            upper.push(network);
            let whole = splits.len() == first_split + 1 && start as u64 == 0;
            if whole {
                splits.truncate(first_split);
                values.push(first_value);
                continue;
            }
            values.push(Packed::SPLIT);
            if start as u64 != 0 {
                splits.insert(first_split, (u128::from(network) << 64, inherited));
            }
            // What begins inside this /64 goes on behind it, unless the next one has a start of its own.
            if let Some(behind) = network.checked_add(1)
                && steps.peek().is_none_or(|&(start, _)| (start >> 64) as u64 != behind)
            {
                upper.push(behind);
                values.push(current);
            }
        }
        Self { upper: upper.into(), values: values.into(), splits: splits.into() }
    }

    pub(super) fn lookup(&self, address: u128) -> Packed {
        let network = (address >> 64) as u64;
        let value = before(self.upper.partition_point(|&upper| upper <= network), &self.values);
        if value == Some(&Packed::SPLIT) {
            let next = self.splits.partition_point(|&(start, _)| start <= address);
            return before(next, &self.splits).map_or(Packed::NOTHING, |&(_, value)| value);
        }
        value.copied().unwrap_or(Packed::NOTHING)
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

fn before<T>(position: usize, items: &[T]) -> Option<&T> {
    items.get(position.checked_sub(1)?)
}
