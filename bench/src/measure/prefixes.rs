//! Many flagged prefixes: a list of one's own in place of the embedded ones.

use std::{fmt::Write as _, fs, net::Ipv4Addr};

use anyhow::{Context as _, Result};
use egresswatch::policy::Lists;

use super::{Bench, ORDINARY, flows};
use crate::{
    daemon::{Daemon, Options},
    programs::Timing,
    results::Prefixes,
    say,
};

/// Measures 0, 1,000, 100,000 and 1,000,000 prefixes.
pub(crate) fn measure(bench: &Bench<'_>) -> Result<Vec<Prefixes>> {
    let folder = tempfile::tempdir()?;
    let _timing = Timing::start()?;
    let mut steps = Vec::new();
    let counts: &[u32] = if bench.quick { &[0, 1_000, 100_000] } else { &[0, 1_000, 100_000, 1_000_000] };
    for &count in counts {
        let list = folder.path().join(format!("{count}.toml"));
        fs::write(&list, list_of(count))?;
        let files = if count == 0 { String::new() } else { format!("files = [{:?}]\n", list.display().to_string()) };
        let options = Options {
            cgroup: Some(bench.ground.cgroup().to_owned()),
            sections: format!("[policy]\n{files}disable = {:?}\n", embedded_ids()?),
            ..Options::default()
        };
        let daemon = Daemon::start(bench.daemon, &options)?;
        let start_ms = daemon.start.as_secs_f64() * 1e3;
        let (connect, packet) = flows::connect_runs(bench, &daemon, ORDINARY)?;
        let memory = flows::memory_at_rest(&daemon)?;
        daemon.stop()?;
        say(&format!(
            "{count} prefixes: connect4 {:.0} ns, packet_out {:.0} ns; start {start_ms:.0} ms; {:.1} MB resident, \
             {:.1} MB in maps",
            connect.each_ns(),
            packet.each_ns(),
            memory.resident_bytes as f64 / 1e6,
            memory.maps_bytes as f64 / 1e6,
        ));
        steps.push(Prefixes {
            count: u64::from(count),
            connect_ns: connect.each_ns(),
            packet_ns: packet.each_ns(),
            start_ms,
            memory,
        });
    }
    Ok(steps)
}

fn embedded_ids() -> Result<Vec<String>> {
    let lists = Lists::embedded().context("the embedded lists")?;
    Ok(lists.headers().iter().map(|summary| summary.header.id.to_string()).collect())
}

/// `/28` networks spread over `11.0.0.0/8` to `26.0.0.0/8`, so that lookups of other addresses walk a full trie. None of
/// them holds an address that a load uses.
fn list_of(count: u32) -> String {
    let mut text = String::from(
        "id = \"bench\"\ntitle = \"Prefixes of a measurement\"\nabout = \"None.\"\nsource = \"https://example.com/\"\n\
         as_of = 2026-01-01\nseverity = \"low\"\nenabled = true\n\n[[entity]]\nname = \"Nobody\"\n\
         relation = \"topical\"\ncidrs = [\n",
    );
    let first = Ipv4Addr::new(11, 0, 0, 0).to_bits();
    // An odd step visits every network of the space once (2^24 of them).
    for index in 0..count {
        let network = first + (index.wrapping_mul(1_048_583) % (1 << 24)) * 16;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  \"{}/28\",", Ipv4Addr::from_bits(network));
    }
    text.push_str("]\n");
    text
}
