//! Builds the ownership table from the unpacked source packages. `cargo xtask data` runs this.
//!
//! It is an example and not part of `xtask`, so that `xtask`, the first thing built on a fresh machine, stays small; and
//! not part of the program: its rows must be without fault, and its compressor is the strongest there is.

use std::{env, fs::File, io::BufReader, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use egresswatch::ownership::{
    CountryCode, Data, FEWEST_RANGES, Ranges, Table, encode,
    import::{self, Origins},
    verify,
};
use jiff::civil::Date;
use maxminddb::{PathElement, Reader, WithinOptions};

/// Compression level; the highest that needs no special decompressor.
const LEVEL: i32 = 19;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [packages, date, output] = arguments.as_slice() else {
        bail!("usage: build-ownership <folder of the unpacked packages> <date of the data> <output file>");
    };
    let packages = Path::new(packages);
    let date: Date = date.parse().with_context(|| format!("`{date}` is not a date like 2026-06-17"))?;

    let mut origins = Origins::default();
    for file in ["asn/asn-ipv4.csv", "asn/asn-ipv6.csv"] {
        origins.read_csv(open(packages, file)?).with_context(|| format!("cannot import {file}"))?;
    }
    let mut registrations = Ranges::default();
    for file in ["asn-country/asn-country-ipv4.csv", "asn-country/asn-country-ipv6.csv"] {
        import::read_country_csv(&mut registrations, open(packages, file)?)
            .with_context(|| format!("cannot import {file}"))?;
    }
    let mut as_countries = Ranges::default();
    for file in ["iptoasn-country-ipv4.mmdb", "iptoasn-country-ipv6.mmdb"] {
        let path = packages.join("iptoasn-country-mmdb").join(file);
        read_country_mmdb(&mut as_countries, &path).with_context(|| format!("cannot import {}", path.display()))?;
    }
    let counts = origins.ranges.counts();
    ensure!(
        counts.0 > FEWEST_RANGES.0 && counts.1 > FEWEST_RANGES.1,
        "only {counts:?} IPv4 and IPv6 origin ranges where {FEWEST_RANGES:?} are expected: a source is incomplete"
    );

    let layer = origins.ranges.flatten();
    let joined = Data {
        date,
        as_countries: layer.majorities(&as_countries.flatten()),
        origins: layer,
        organisations: origins.organisations,
        registrations: registrations.flatten(),
    };
    let file = encode(&Table::new(&joined)?, |content| zstd::bulk::compress(content, LEVEL))?;
    let table = Table::decode(&file).context("the table just written cannot be read")?;
    verify(&table).context("keep the table there is")?;
    std::fs::write(output, file).with_context(|| format!("cannot write {output}"))
}

fn open(packages: &Path, file: &str) -> Result<BufReader<File>> {
    let path = packages.join(file);
    Ok(BufReader::new(File::open(&path).with_context(|| format!("cannot open {}", path.display()))?))
}

/// Adds the networks of an MMDB file that have a `country_code`.
fn read_country_mmdb(ranges: &mut Ranges<CountryCode>, path: &Path) -> Result<()> {
    let reader = Reader::open_readfile(path)?;
    for result in reader.networks(WithinOptions::default())? {
        let result = result?;
        let Some(code) = result.decode_path::<&str>(&[PathElement::Key("country_code")])? else { continue };
        let network = result.network()?;
        let country = CountryCode::new(code).with_context(|| format!("`{code}` is no country code ({network})"))?;
        ranges.push(network.network(), network.broadcast(), country)?;
    }
    Ok(())
}
