//! What a lookup in the embedded table costs, and what loading it does.

mod lookups;

use criterion::{Criterion, criterion_group, criterion_main};
use egresswatch::ownership::Table;

fn lookups(criterion: &mut Criterion) {
    lookups::measure(criterion, &Table::embedded().expect("the embedded table"));
}

fn whole_table(criterion: &mut Criterion) {
    criterion.bench_function("load", |bencher| bencher.iter(Table::embedded));
    let table = Table::embedded().expect("the embedded table");
    criterion.bench_function("prefixes_of one system", |bencher| {
        bencher.iter(|| table.prefixes_of(|facts| facts.asn == Some(9808)));
    });
}

criterion_group!(benches, lookups, whole_table);
criterion_main!(benches);
