//! Lookups of an address's owner in the embedded table, by criterion.

#[path = "../../../monitor/benches/ownership/lookups.rs"]
mod kinds;

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use criterion::Criterion;
use egresswatch::ownership::Table;
use serde::Deserialize;

use super::Bench;
use crate::{results::Lookup, say, statistics::Spread};

/// What criterion keeps of a measurement: a number of iterations for each sample, and how long they took in ns.
#[derive(Debug, Deserialize)]
struct Samples {
    iters: Vec<f64>,
    times: Vec<f64>,
}

/// Measures both families.
pub(crate) fn measure(bench: &Bench<'_>) -> Result<Vec<Lookup>> {
    let folder = tempfile::tempdir()?;
    let mut criterion = Criterion::default()
        .without_plots()
        .output_directory(folder.path())
        .sample_size(bench.choose(50, 10))
        .warm_up_time(Duration::from_millis(bench.choose(1_000, 200)))
        .measurement_time(Duration::from_millis(bench.choose(5_000, 500)));
    kinds::measure(&mut criterion, &Table::embedded().context("cannot read the ownership table")?);
    let mut lookups = Vec::new();
    for family in ["v4", "v6"] {
        for kind in ["facts/independent", "facts/dependent", "owner/independent"] {
            let name = format!("{family}/{kind}");
            let each_ns = read(folder.path(), &name).with_context(|| format!("criterion left no samples of {name}"))?;
            say(&format!("lookup {name}: {:.1} ns", each_ns.median));
            lookups.push(Lookup { name, each_ns });
        }
    }
    Ok(lookups)
}

/// The time of one lookup in ns, as a spread over criterion's samples.
fn read(folder: &Path, name: &str) -> Result<Spread> {
    let (group, function) = name.split_once('/').context("no group")?;
    // Criterion makes one folder of the function's name.
    let path = folder.join(group).join(function.replace('/', "_")).join("new/sample.json");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let samples: Samples = serde_json::from_str(&text)?;
    let each_ns: Vec<f64> =
        samples.times.iter().zip(&samples.iters).map(|(time, count)| time / count / kinds::ADDRESSES as f64).collect();
    Spread::of(&each_ns).context("no samples")
}
