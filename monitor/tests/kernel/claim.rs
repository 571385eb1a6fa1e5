//! What the coverage table claims, held against what the monitor says.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use egresswatch::{
    coverage::{ROWS, Row, Sight},
    kernel::probes,
};

use crate::{
    support::{Network, Program, Record, Rung, View},
    tcp::flow_end,
};

/// What was sent, by whom, to whom.
pub(crate) struct Sent<'a> {
    /// Where it was made.
    pub(crate) network: &'a Network,
    /// The executable.
    pub(crate) program: &'a Program,
    /// Its process.
    pub(crate) pid: u32,
    /// Where to; port 0 where there is none.
    pub(crate) remote: SocketAddr,
    /// Payload bytes out and in.
    pub(crate) bytes: (u64, u64),
    /// What the record says of its own limits.
    pub(crate) caveats: &'a [&'a str],
}

/// How well the table says that `rung` sees `row`.
pub(crate) fn sight(row: &str, rung: Rung) -> Result<Sight> {
    let row: &Row = ROWS.iter().find(|candidate| candidate.token == row).with_context(|| format!("no row {row}"))?;
    let rung = probes::Rung::ALL.into_iter().find(|candidate| candidate.as_token() == rung.name());
    Ok(row.on(rung.context("the table has no such rung")?))
}

/// Fails unless the monitor sees as much as the table claims: all, or nothing. A row that is seen in part says in its own
/// test what is missing.
pub(crate) fn claimed(view: &View<'_>, rung: Rung, row: &str, sent: &Sent<'_>) -> Result<()> {
    match sight(row, rung)? {
        Sight::Seen => exact(view, sent).map(drop),
        Sight::Partly(note) => anyhow::bail!("the test of {row} cannot tell what is missing: {note}"),
        Sight::NotSeen(_) => {
            let found = view.now(|record| record.is_flow_end() && record.remote() == Some(sent.remote));
            ensure!(
                found.is_empty(),
                "the table says that this is not seen: {}",
                found.iter().map(|record| record.pretty()).collect::<String>()
            );
            Ok(())
        }
    }
}

/// The last record of a flow of which everything is known.
pub(crate) fn exact(view: &View<'_>, sent: &Sent<'_>) -> Result<Arc<Record>> {
    let end = flow_end(view, sent.program, sent.remote)?;
    check(&end, sent).with_context(|| end.pretty())?;
    Ok(end)
}

/// Fails unless the record names the program and the process that sent.
pub(crate) fn check_identity(end: &Record, sent: &Sent<'_>) -> Result<()> {
    ensure!(end.executable() == Some(sent.program.name()), "another executable than {}", sent.program.name());
    ensure!(end.number("/process/pid") == Some(u64::from(sent.pid)), "another process than {}", sent.pid);
    Ok(())
}

fn check(end: &Record, sent: &Sent<'_>) -> Result<()> {
    ensure!(end.bytes() == (Some(sent.bytes.0), Some(sent.bytes.1)), "other bytes than {:?}", sent.bytes);
    check_identity(end, sent)?;
    ensure!(end.text("/egresswatch/connector/pid").is_none(), "a connector beside the sender");
    ensure!(end.texts("/egresswatch/flow/caveats") == sent.caveats, "other caveats than {:?}", sent.caveats);
    for (direction, payload) in [("out", sent.bytes.0), ("in", sent.bytes.1)] {
        // On a busy machine TCP sends again what was not lost; the wire bytes rightly count it.
        let sent_again = sent.network.counter("snmp", "RetransSegs")? > 0;
        wire_is_within_headers(end, direction, payload, sent_again)
            .with_context(|| format!("{direction}: {payload} bytes"))?;
    }
    Ok(())
}

/// Each packet has at least an IP header and, if there are ports, eight bytes more; and at most 120 bytes of headers; a packet that is cut up
/// later has them once for each piece, of which none is smaller than 1,000 bytes in these tests.
fn wire_is_within_headers(end: &Record, direction: &str, payload: u64, sent_again: bool) -> Result<()> {
    let number = |field: &str| end.number(&format!("/egresswatch/flow/{direction}/{field}")).unwrap_or(0);
    let (packets, wire) = (number("packets"), number("wire_bytes"));
    ensure!(payload == 0 || packets > 0, "no packets");
    let remote = end.remote().context("no remote end")?;
    let least = if remote.is_ipv4() { 20 } else { 40 } + if remote.port() == 0 { 0 } else { 8 };
    ensure!(wire >= payload + packets * least, "too few wire bytes: {wire} in {packets} packets");
    let most = payload + (packets + payload / 1_000) * 120;
    ensure!(sent_again || wire <= most, "too many wire bytes: {wire} in {packets} packets");
    Ok(())
}
