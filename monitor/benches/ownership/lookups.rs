//! Lookups of an address's owner in the embedded table. `cargo xtask bench` measures with this file too.
//!
//! `independent` asks for addresses that do not depend on each other, so that the processor overlaps their cache misses,
//! as in a batch. In `dependent` each address is made from the last answer, which is the time one flow waits.

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use criterion::{Criterion, Throughput};
use egresswatch::ownership::{OwnerLookup as _, Table};
use ipnet::Ipv6Net;

/// Addresses asked per run: enough to leave the caches, few enough for a short run.
pub(crate) const ADDRESSES: usize = 1 << 18;

/// Measures every kind of lookup, as `v4/…` and `v6/…`; one iteration asks for all addresses.
pub(crate) fn measure(criterion: &mut Criterion, table: &Table) {
    for (family, addresses) in [("v4", v4()), ("v6", v6(table))] {
        let mut group = criterion.benchmark_group(family);
        group.throughput(Throughput::Elements(addresses.len() as u64));
        group.bench_function("facts/independent", |bencher| {
            bencher
                .iter(|| addresses.iter().filter_map(|&address| table.facts(address).asn).fold(0, u32::wrapping_add));
        });
        group.bench_function("facts/dependent", |bencher| {
            bencher.iter(|| {
                addresses.iter().fold(0, |last, &address| {
                    // The last answer decides the address in a way the compiler cannot see through.
                    let address = changed(address, black_box(last) >> 31 >> 1);
                    u64::from(table.facts(address).asn.unwrap_or(1))
                })
            });
        });
        group.bench_function("owner/independent", |bencher| {
            bencher.iter(|| addresses.iter().filter(|&&address| table.lookup(address).organisation.is_some()).count());
        });
        group.finish();
    }
}

/// The address with `bits` (always 0) added at its end.
fn changed(address: IpAddr, bits: u64) -> IpAddr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() ^ bits as u32).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() ^ u128::from(bits)).into(),
    }
}

/// Uniform over the whole space.
fn v4() -> Vec<IpAddr> {
    let mut random = Random(1);
    (0..ADDRESSES).map(|_| Ipv4Addr::from_bits(random.next() as u32).into()).collect()
}

/// Uniform over the prefixes that the table knows: uniform over the space would nearly always hit nothing.
fn v6(table: &Table) -> Vec<IpAddr> {
    let (mut random, mut shuffle) = (Random(2), Random(3));
    let known = table.prefixes_of(|facts| facts.asn.is_some()).v6;
    let address = |prefix: &Ipv6Net| -> IpAddr {
        let noise = u128::from(random.next()) << 64 | u128::from(random.next());
        Ipv6Addr::from_bits(prefix.network().to_bits() | (noise & prefix.hostmask().to_bits())).into()
    };
    let mut addresses: Vec<IpAddr> = known.iter().cycle().take(ADDRESSES).map(address).collect();
    addresses.sort_by_cached_key(|_| shuffle.next());
    addresses
}

/// `SplitMix64` (Steele, Lea and Flood 2014): the same addresses in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
