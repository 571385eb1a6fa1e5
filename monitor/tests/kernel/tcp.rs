//! TCP: what an alert and a flow's last record say.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    Case,
    support::{
        LOCAL_IPV4, LOCAL_IPV6, Launch, Network, Program, Record, Rung, Stream, StreamWay, TcpServer, Traffic, View,
        watch,
    },
};

/// The tests of this file.
pub(crate) const CASES: &[Case] = &[
    Case::new("tcp_to_china_mobile_alerts_and_is_counted", |rung| {
        exchange(rung, "111.13.100.1", "111.13.100.1", LOCAL_IPV4)
    }),
    Case::new("tcp_over_ipv6_alerts_and_is_counted", |rung| exchange(rung, "2409:8c00::1", "2409:8c00::1", LOCAL_IPV6)),
    Case::new("ipv4_mapped_ipv6_is_ipv4", |rung| exchange(rung, "::ffff:111.13.100.1", "111.13.100.1", LOCAL_IPV4)),
    Case::new("large_transfers_are_exact", large_transfers_are_exact),
    Case::new("small_packets_are_exact", small_packets_are_exact),
    Case::new("payload_that_ends_the_handshake_is_counted_at_both_ends", payload_with_the_handshake),
    Case::new("a_refused_connection_is_an_attempt_that_failed", refused),
    Case::new("a_tcp_socket_that_connects_again_has_a_flow_for_each_attempt", connects_again),
    Case::new("an_idle_connection_is_exact_within_five_seconds", idle),
];

/// A request and a reply with China Mobile: the alert and the flow's last record say who, whom, whose and how much.
fn exchange(rung: Rung, asked_for: &str, reported_as: &str, local: IpAddr) -> Result<()> {
    const REQUEST: u64 = 1_437;
    const REPLY: u64 = 2_211;
    let network = Network::new()?;
    let server = TcpServer::start(&network, REQUEST, REPLY)?;
    let to = SocketAddr::new(asked_for.parse()?, server.port);
    let remote = SocketAddr::new(reported_as.parse()?, server.port);
    let program = Program::new("exchange")?;
    watch(rung, |view| {
        let traffic = Traffic::Tcp { to, connections: 1, send: REQUEST, receive: REPLY, hold: true };
        let client = Launch::inside(&network).start(&program, &traffic)?;
        let alert = view.one("an alert at level sent", |record| {
            record.is_alert()
                && record.executable() == Some(program.name())
                && record.text("/egresswatch/level") == Some("sent")
        })?;
        let pid = client.finish()?.pid;
        check_alert(&alert, pid, remote).with_context(|| alert.pretty())?;
        let end = flow_end(&view, &program, remote)?;
        check_end(&end, pid, local, (REQUEST, REPLY)).with_context(|| end.pretty())
    })
}

fn check_alert(alert: &Record, pid: u32, remote: SocketAddr) -> Result<()> {
    ensure!(alert.remote() == Some(remote), "another remote end than {remote}");
    ensure!(alert.number("/process/pid") == Some(u64::from(pid)), "another process than {pid}");
    ensure!(alert.text("/user/id") == Some("0"), "another user than root");
    ensure!(alert.number("/destination/as/number") == Some(9808), "another network than AS9808");
    let organisation = alert.text("/destination/as/organization/name").unwrap_or_default();
    ensure!(organisation.contains("China Mobile"), "another organisation than China Mobile");
    ensure!(alert.text("/egresswatch/owner/as_country") == Some("CN"), "another country than CN");
    let lists = alert.texts("/egresswatch/lists");
    for list in ["us-fcc-covered", "us-dod-1260h"] {
        ensure!(lists.contains(&list), "{list} is missing");
    }
    ensure!(alert.bytes().0.is_some_and(|bytes| bytes > 0), "no bytes");
    ensure!(
        alert.text("/event/action") == Some("first_contact") || alert.text("/event/action") == Some("level_raised")
    );
    ensure!(alert.objects("/egresswatch/matches").next().is_some(), "no match");
    Ok(())
}

fn check_end(end: &Record, pid: u32, local: IpAddr, bytes: (u64, u64)) -> Result<()> {
    ensure!(end.bytes() == (Some(bytes.0), Some(bytes.1)), "other bytes than {bytes:?}");
    ensure!(end.number("/process/pid") == Some(u64::from(pid)), "another process than {pid}");
    ensure!(end.local().is_some_and(|at| at.ip() == local && at.port() != 0), "another local end than {local}");
    for fact in ["attempted", "established", "sent", "received", "closed"] {
        ensure!(end.facts().contains(&fact), "not {fact}");
    }
    for (direction, payload) in [("out", bytes.0), ("in", bytes.1)] {
        let number = |field: &str| end.number(&format!("/egresswatch/flow/{direction}/{field}")).unwrap_or(0);
        ensure!(number("packets") > 0, "no packets {direction}");
        // Each packet has at least 20 bytes of IP header and 20 of TCP header.
        ensure!(number("wire_bytes") >= payload + 40 * number("packets"), "too few wire bytes {direction}");
    }
    ensure!(end.texts("/egresswatch/flow/caveats").is_empty(), "caveats");
    ensure!(end.number("/process/parent/pid") == Some(u64::from(std::process::id())), "another parent than the test");
    let own = std::env::current_exe()?;
    ensure!(end.text("/process/parent/executable").map(Into::into) == Some(own), "the parent's executable is wrong");
    ensure!(end.objects("/egresswatch/process/ancestors").next().is_some(), "no ancestors");
    ensure!(end.text("/network/community_id").is_some(), "no community id");
    Ok(())
}

/// Enough for offloaded segments, several reports and both directions at once.
fn large_transfers_are_exact(rung: Rung) -> Result<()> {
    transfer(rung, &Network::new()?, (5_000_001, 3_000_003), 65_536)
}

/// Packets as on an Ethernet, so that wire bytes show each one's headers.
fn small_packets_are_exact(rung: Rung) -> Result<()> {
    let network = Network::with_packets_of(1_500)?;
    transfer(rung, &network, (400_000, 300_000), 1_500)
}

/// The payload is exact, and the wire has a header for each packet: the fewest are those as large as the interface takes.
fn transfer(rung: Rung, network: &Network, bytes: (u64, u64), packet_bytes: u64) -> Result<()> {
    let server = TcpServer::start(network, bytes.0, bytes.1)?;
    let remote = SocketAddr::new("8.8.8.8".parse()?, server.port);
    let program = Program::new("transfer")?;
    watch(rung, |view| {
        let traffic = Traffic::Tcp { to: remote, connections: 1, send: bytes.0, receive: bytes.1, hold: false };
        Launch::inside(network).run(&program, &traffic)?;
        let end = flow_end(&view, &program, remote)?;
        ensure!(end.bytes() == (Some(bytes.0), Some(bytes.1)), "{}", end.pretty());
        for (direction, payload) in [("out", bytes.0), ("in", bytes.1)] {
            let wire = end.number(&format!("/egresswatch/flow/{direction}/wire_bytes")).unwrap_or(0);
            let least_packets = payload / packet_bytes;
            ensure!(wire >= payload + 40 * least_packets, "wire bytes {direction}: {wire}\n{}", end.pretty());
            ensure!(wire <= payload + payload / 4 + 10_000, "wire bytes {direction}: {wire}\n{}", end.pretty());
        }
        Ok(())
    })
}

/// The server's packet hook sees it as the listener's, before the connection has its flow.
fn payload_with_the_handshake(rung: Rung) -> Result<()> {
    const BYTES: (u64, u64) = (1_021, 97);
    let network = Network::new()?;
    for address in ["8.8.4.4", "2001:4860:4860::8844"] {
        let to = SocketAddr::new(address.parse()?, network.port());
        network.add_address(to.ip())?;
        let (client, server) = (Program::new("late-acknowledgement")?, Program::new("accepts")?);
        watch(rung, |view| {
            let listen = Traffic::TcpListen { at: to, receive: BYTES.0, send: BYTES.1 };
            let mut listening = Launch::inside(&network).start(&server, &listen)?;
            listening.cue()?;
            let way = StreamWay::LateAcknowledgement;
            let stream = Traffic::Stream(Stream { to, way, send: BYTES.0, receive: BYTES.1 });
            Launch::inside(&network).run(&client, &stream)?;
            listening.finish()?;
            for program in [&client, &server] {
                let end = view.one(&format!("the end of {}'s side", program.name()), |record| {
                    record.is_flow_end() && record.executable() == Some(program.name()) && record.remote() == Some(to)
                })?;
                // The opener is the source on either side.
                ensure!(end.bytes() == (Some(BYTES.0), Some(BYTES.1)), "{}: {}", program.name(), end.pretty());
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn refused(rung: Rung) -> Result<()> {
    let network = Network::new()?;
    let remote = SocketAddr::new("120.232.0.1".parse()?, network.port());
    let program = Program::new("refused")?;
    watch(rung, |view| {
        let pid = Launch::inside(&network).run(&program, &Traffic::TcpRefused { to: remote })?.pid;
        let end = flow_end(&view, &program, remote)?;
        let facts = end.facts();
        ensure!(facts.contains(&"attempted") && facts.contains(&"failed"), "{}", end.pretty());
        ensure!(!facts.contains(&"established") && !facts.contains(&"sent"), "{}", end.pretty());
        ensure!(end.bytes() == (Some(0), Some(0)), "{}", end.pretty());
        ensure!(end.number("/process/pid") == Some(u64::from(pid)), "{}", end.pretty());
        let alert = view.one("an alert on the attempt", |record| {
            record.is_alert() && record.executable() == Some(program.name())
        })?;
        ensure!(alert.text("/egresswatch/level") == Some("attempted"), "{}", alert.pretty());
        Ok(())
    })
}

/// The first attempt ends in the socket, without a packet; the second is refused; what comes after was taken back.
fn connects_again(rung: Rung) -> Result<()> {
    const BYTES: (u64, u64) = (1_013, 211);
    let network = Network::new()?;
    let server = TcpServer::start(&network, BYTES.0, BYTES.1)?;
    let refusing = network.port();
    let address = |text: &str, port| -> Result<SocketAddr> { Ok(SocketAddr::new(text.parse()?, port)) };
    let in_vain = [address("255.255.255.255", server.port)?, address("120.232.0.1", refusing)?];
    let to = [address("8.8.8.8", server.port)?, address("111.13.100.1", server.port)?];
    let program = Program::new("asks-again")?;
    watch(rung, |view| {
        let traffic = Traffic::TcpAgain { in_vain: in_vain.to_vec(), to: to.to_vec(), send: BYTES.0, receive: BYTES.1 };
        Launch::inside(&network).run(&program, &traffic)?;
        for remote in in_vain {
            let end = flow_end(&view, &program, remote)?;
            ensure!(end.facts().contains(&"attempted") && !end.facts().contains(&"established"), "{}", end.pretty());
            ensure!(end.bytes() == (Some(0), Some(0)), "{}", end.pretty());
        }
        for remote in to {
            let end = flow_end(&view, &program, remote)?;
            ensure!(end.facts().contains(&"established"), "{}", end.pretty());
            ensure!(end.bytes() == (Some(BYTES.0), Some(BYTES.1)), "{}", end.pretty());
        }
        for (remote, level) in [(in_vain[1], "attempted"), (to[1], "sent")] {
            view.one(&format!("an alert at level {level}"), |record| {
                record.is_alert() && record.remote() == Some(remote) && record.text("/egresswatch/level") == Some(level)
            })?;
        }
        Ok(())
    })
}

/// The schedule's first report comes with the first byte; what follows at once must not wait for the end.
fn idle(rung: Rung) -> Result<()> {
    const REQUEST: u64 = 30_011;
    const REPLY: u64 = 70_001;
    let network = Network::new()?;
    let server = TcpServer::start(&network, REQUEST, REPLY)?;
    let program = Program::new("idle")?;
    for address in ["120.232.0.1", "8.8.8.8"] {
        let remote = SocketAddr::new(address.parse()?, server.port);
        watch(rung, |view| {
            let traffic = Traffic::Tcp { to: remote, connections: 1, send: REQUEST, receive: REPLY, hold: true };
            let client = Launch::inside(&network).start(&program, &traffic)?;
            let last_byte = std::time::Instant::now();
            loop {
                let flows = view.monitor.live_flows()?;
                let told = flows.iter().find(|flow| flow.is_egress() && flow.remote() == Some(remote));
                if told.is_some_and(|flow| flow.bytes() == (Some(REQUEST), Some(REPLY))) {
                    break;
                }
                let told = told.map_or_else(|| "nothing".to_owned(), Record::pretty);
                ensure!(last_byte.elapsed() < Duration::from_secs(5), "after 5 s the monitor says {told}");
                std::thread::sleep(Duration::from_millis(50));
            }
            client.finish()?;
            flow_end(&view, &program, remote).map(drop)
        })?;
    }
    Ok(())
}

/// The last record of the program's only flow to `remote`.
pub(crate) fn flow_end(view: &View<'_>, program: &Program, remote: SocketAddr) -> Result<std::sync::Arc<Record>> {
    view.one(&format!("the end of {}'s flow to {remote}", program.name()), |record| {
        record.is_flow_end()
            && record.is_egress()
            && record.executable() == Some(program.name())
            && record.remote() == Some(remote)
    })
}
