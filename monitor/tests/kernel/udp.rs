//! UDP and ICMP: flows without a handshake.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    libc,
    sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg},
};

use crate::{
    Case,
    load::no_final_loss,
    support::{
        EchoSocket, LOCAL_IPV4, LOCAL_IPV6, Launch, Monitor, Network, Program, Record, Rung, Settings, Traffic,
        UdpServer, View, bound_udp, is_emulated, watch,
    },
    tcp::flow_end,
};

/// The tests of this file.
pub(crate) const CASES: &[Case] = &[
    Case::new("udp_connected_is_exact", |rung| datagrams(rung, "111.13.100.1", true, 65_536)),
    Case::new("udp_unconnected_is_exact", |rung| datagrams(rung, "111.13.100.1", false, 65_536)),
    Case::new("udp_over_ipv6_connected_is_exact", |rung| datagrams(rung, "2409:8c00::1", true, 65_536)),
    Case::new("udp_over_ipv6_unconnected_is_exact", |rung| datagrams(rung, "2409:8c00::1", false, 65_536)),
    Case::new("udp_in_fragments_is_exact", |rung| datagrams(rung, "111.13.100.1", false, 1_500)),
    Case::new("udp_over_ipv6_in_fragments_is_exact", |rung| datagrams(rung, "2409:8c00::1", false, 1_500)),
    Case::new("udp_connect_alone_sends_nothing", connect_only),
    Case::new("one_udp_socket_with_many_destinations", many_destinations),
    Case::new("a_udp_socket_that_connects_again_has_two_flows", connects_again),
    Case::new("a_udp_server_answers_what_was_asked", |rung| server(rung, LOCAL_IPV4, ["111.13.100.1", "8.8.8.8"])),
    Case::new("a_udp_server_over_ipv6_answers_what_was_asked", |rung| {
        server(rung, LOCAL_IPV6, ["2409:8c00::1", "2001:4860:4860::8888"])
    }),
    Case::new("strangers_do_not_fill_the_tables_of_a_udp_server", strangers),
    Case::new("echo_by_raw_socket", |rung| echo(rung, "111.13.100.1", EchoSocket::Raw)),
    Case::new("echo_by_ping_socket", |rung| echo(rung, "111.13.100.1", EchoSocket::Ping)),
    Case::new("echo_over_ipv6_by_raw_socket", |rung| echo(rung, "2409:8c00::1", EchoSocket::Raw)),
    Case::new("echo_over_ipv6_by_ping_socket", |rung| echo(rung, "2409:8c00::1", EchoSocket::Ping)),
];

/// Large datagrams each way: the totals are the payload, however they travelled.
fn datagrams(rung: Rung, address: &str, connected: bool, packet_bytes: u32) -> Result<()> {
    const DATAGRAMS: u64 = 20;
    const REQUEST: u64 = 4_001;
    const REPLY: u64 = 3_003;
    let network = Network::with_packets_of(packet_bytes)?;
    let server = UdpServer::start(&network, address.parse()?, Some(usize::try_from(REPLY)?))?;
    let remote = server.address;
    let program = Program::new("datagrams")?;
    watch(rung, |view| {
        let traffic = Traffic::Udp {
            to: vec![remote],
            connected,
            datagrams: DATAGRAMS,
            send: REQUEST,
            receive: Some(REPLY),
            hold: true,
        };
        let client = Launch::inside(&network).start(&program, &traffic)?;
        let alert = view.one("an alert at level sent", |record| {
            record.is_alert()
                && record.executable() == Some(program.name())
                && record.text("/egresswatch/level") == Some("sent")
        })?;
        ensure!(alert.number("/destination/as/number") == Some(9808), "{}", alert.pretty());
        let pid = client.finish()?.pid;
        let end = flow_end(&view, &program, remote)?;
        let total = (DATAGRAMS * REQUEST, DATAGRAMS * REPLY);
        ensure!(end.bytes() == (Some(total.0), Some(total.1)), "not {total:?}: {}", end.pretty());
        ensure!(end.number("/process/pid") == Some(u64::from(pid)), "{}", end.pretty());
        ensure!(end.texts("/egresswatch/flow/caveats").is_empty(), "{}", end.pretty());
        ensure!(end.number("/egresswatch/flow/out/packets") == Some(DATAGRAMS), "{}", end.pretty());
        ensure!(server.finish() == total.0, "the server got another number of bytes");
        Ok(())
    })
}

/// What was held back is told at the latest when the monitor stops: only then is silence a fact.
fn connect_only(rung: Rung) -> Result<()> {
    let network = Network::new()?;
    let remote = SocketAddr::new("111.13.100.1".parse()?, network.port());
    let program = Program::new("connect-only")?;
    let monitor = Monitor::start(rung, Settings::default())?;
    let view = monitor.view();
    Launch::inside(&network).run(&program, &Traffic::UdpConnectOnly { to: remote })?;
    let end = flow_end(&view, &program, remote)?;
    ensure!(end.bytes() == (Some(0), Some(0)), "{}", end.pretty());
    ensure!(end.facts().contains(&"attempted") && !end.facts().contains(&"sent"), "{}", end.pretty());
    let alerts = monitor.stop()?;
    let alert = alerts.iter().find(|record| record.is_alert() && record.executable() == Some(program.name()));
    ensure!(
        alert.is_none(),
        "an alert on a flow that sent nothing: {}",
        alert.map_or_else(String::new, |it| it.pretty())
    );
    Ok(())
}

/// Clients on the list and off it ask one socket, in turn and twice each; only what begins with a question mark is
/// answered. Their flows are theirs, with what they sent before the answer.
fn server(rung: Rung, at: IpAddr, clients: [&str; 2]) -> Result<()> {
    const UNANSWERED: &[u8] = &[b'x'; 70];
    const QUESTION: &[u8] = &[b'?'; 101];
    const REPLY: u64 = 57;
    let network = Network::new()?;
    let at = SocketAddr::new(at, network.port());
    let program = Program::new("udp-server")?;
    let mut sockets = Vec::new();
    for client in clients {
        let address = SocketAddr::new(client.parse()?, network.port());
        sockets.push((address, network.inside(|| bound_udp(address))?));
    }
    watch(rung, |view| {
        let serving = Launch::inside(&network).start(&program, &Traffic::UdpServe { at, answers: 4, reply: REPLY })?;
        for (_, socket) in &sockets {
            socket.send_to(UNANSWERED, at)?;
        }
        for _ in 0..2 {
            for (_, socket) in &sockets {
                ask(socket, QUESTION, at)?;
            }
        }
        let pid = serving.finish()?.pid;
        for (client, _) in &sockets {
            let end = served(&view, &program, *client)?;
            let check = || -> Result<()> {
                ensure!(end.number("/process/pid") == Some(u64::from(pid)), "another process than {pid}");
                ensure!(end.remote() == Some(at), "not to {at}");
                // The opener is the source: what it sent is its.
                let asked = (UNANSWERED.len() + 2 * QUESTION.len()) as u64;
                ensure!(end.bytes() == (Some(asked), Some(2 * REPLY)), "not {asked} and {}", 2 * REPLY);
                ensure!(!end.facts().contains(&"attempted"), "told as an attempt");
                Ok(())
            };
            check().with_context(|| end.pretty())?;
        }
        let is_its = |record: &Record| record.executable() == Some(program.name());
        let egress = view.now(|record| is_its(record) && record.is_egress());
        ensure!(egress.is_empty(), "{}", egress.iter().map(|record| record.pretty()).collect::<String>());
        // Bytes went to a flagged network all the same.
        let alert = view.one("an alert", |record| record.is_alert() && is_its(record))?;
        ensure!(alert.text("/network/direction") == Some("ingress"), "{}", alert.pretty());
        ensure!(alert.text("/egresswatch/level") == Some("sent"), "{}", alert.pretty());
        ensure!(alert.local() == sockets.first().map(|(client, _)| *client), "{}", alert.pretty());
        Ok(())
    })
}

/// More senders than are remembered, none of which is answered, but for the last.
fn strangers(rung: Rung) -> Result<()> {
    let count: u32 = if is_emulated() { 2_000 } else { 40_000 };
    let network = Network::new()?;
    let at = SocketAddr::new(LOCAL_IPV4, network.port());
    let last = SocketAddr::new("8.8.8.8".parse()?, network.port());
    let program = Program::new("udp-stormed")?;
    let (storm, socket) = network.inside(|| Ok((UdpSocket::bind("0.0.0.0:0")?, bound_udp(last)?)))?;
    // Fewer flows fit than there are senders.
    let monitor = Monitor::start(rung, Settings { kernel: "flow_table_entries = 1024", rest: "" })?;
    let view = monitor.view();
    let serving = Launch::inside(&network).start(&program, &Traffic::UdpServe { at, answers: 1, reply: 9 })?;
    for number in 0..count {
        send_from(&storm, Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 1).to_bits() + number), at)?;
    }
    ask(&socket, b"?", at)?;
    serving.finish()?;
    let end = served(&view, &program, last)?;
    ensure!(end.bytes().1 == Some(9), "{}", end.pretty());
    let flows = view.now(|record| record.is_flow_end() && record.executable() == Some(program.name()));
    ensure!(flows.len() == 1, "{} flows", flows.len());
    no_final_loss(&view)?;
    monitor.stop().map(drop)
}

/// A datagram from an address of this network's, whichever the socket has.
fn send_from(socket: &UdpSocket, from: Ipv4Addr, to: SocketAddr) -> Result<()> {
    let from = libc::in_addr { s_addr: from.to_bits().to_be() };
    let information = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: from, ipi_addr: libc::in_addr { s_addr: 0 } };
    let control = [ControlMessage::Ipv4PacketInfo(&information)];
    let data = [std::io::IoSlice::new(b"unasked")];
    sendmsg(socket.as_raw_fd(), &data, &control, MsgFlags::empty(), Some(&SockaddrStorage::from(to)))?;
    Ok(())
}

/// Asks until there is an answer: a socket that is stormed drops datagrams.
fn ask(socket: &UdpSocket, question: &[u8], to: SocketAddr) -> Result<()> {
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    for _ in 0..5 {
        socket.send_to(question, to)?;
        if socket.recv(&mut [0; 512]).is_ok() {
            return Ok(());
        }
    }
    anyhow::bail!("{to} does not answer")
}

/// The end of the flow that `client` opened to `program`.
fn served(view: &View<'_>, program: &Program, client: SocketAddr) -> Result<Arc<Record>> {
    view.one(&format!("the end of the flow from {client}"), |record| {
        record.is_flow_end()
            && record.executable() == Some(program.name())
            && !record.is_egress()
            && record.local() == Some(client)
    })
}

fn many_destinations(rung: Rung) -> Result<()> {
    const COUNT: u32 = 300;
    const BYTES: u64 = 33;
    let network = Network::new()?;
    let server = UdpServer::start(&network, "0.0.0.0".parse()?, None)?;
    let program = Program::new("fan-out")?;
    watch(rung, |view| {
        let traffic = Traffic::UdpFanOut {
            first: "120.232.7.1".parse()?,
            count: COUNT,
            port: server.address.port(),
            send: BYTES,
            hold: false,
        };
        Launch::inside(&network).run(&program, &traffic)?;
        let ends = view.many(COUNT as usize, "the end of each flow", |record| {
            record.is_flow_end() && record.executable() == Some(program.name())
        })?;
        let mut remotes: Vec<_> = ends.iter().filter_map(|end| end.remote()).collect();
        remotes.sort_unstable();
        remotes.dedup();
        ensure!(
            remotes.len() == COUNT as usize && ends.len() == COUNT as usize,
            "{} ends, {} remotes",
            ends.len(),
            remotes.len()
        );
        let wrong = ends.iter().find(|end| end.bytes() != (Some(BYTES), Some(0)));
        ensure!(wrong.is_none(), "{}", wrong.map_or_else(String::new, |end| end.pretty()));
        let arrived = server.finish();
        ensure!(arrived == u64::from(COUNT) * BYTES, "{arrived} bytes arrived");
        Ok(())
    })
}

fn connects_again(rung: Rung) -> Result<()> {
    let network = Network::new()?;
    let servers = [
        UdpServer::start(&network, "111.13.100.1".parse()?, Some(11))?,
        UdpServer::start(&network, "8.8.8.8".parse()?, Some(11))?,
    ];
    let program = Program::new("connects-again")?;
    watch(rung, |view| {
        let to = servers.iter().map(|server| server.address).collect();
        let traffic = Traffic::Udp { to, connected: true, datagrams: 3, send: 100, receive: Some(11), hold: false };
        Launch::inside(&network).run(&program, &traffic)?;
        for server in &servers {
            let end = flow_end(&view, &program, server.address)?;
            ensure!(end.bytes() == (Some(300), Some(33)), "{}", end.pretty());
        }
        Ok(())
    })
}

/// One socket asks three, the flagged one in between. An echo has no ports; its payload is what follows the eight bytes of
/// the ICMP header.
fn echo(rung: Rung, address: &str, socket: EchoSocket) -> Result<()> {
    const REQUESTS: u16 = 5;
    const BYTES: u64 = 56;
    let network = Network::new()?;
    let flagged: IpAddr = address.parse()?;
    let to = around(flagged);
    let program = Program::new("echo")?;
    watch(rung, |view| {
        let traffic = Traffic::Echo { to: to.to_vec(), socket, requests: REQUESTS, send: BYTES };
        let pid = Launch::inside(&network).run(&program, &traffic)?.pid;
        for to in to {
            let end = flow_end(&view, &program, SocketAddr::new(to, 0))?;
            let check = |end: &Record| -> Result<()> {
                let protocol = if to.is_ipv4() { "icmp" } else { "ipv6-icmp" };
                ensure!(end.text("/network/transport") == Some(protocol), "not {protocol}");
                ensure!(end.number("/process/pid") == Some(u64::from(pid)), "another process than {pid}");
                ensure!(end.bytes().0 == Some(u64::from(REQUESTS) * BYTES), "other bytes out");
                ensure!(end.text("/destination/nat/ip").is_none(), "a translation that nobody made");
                // A raw socket is handed a copy of the request too, because both ends are on this machine.
                let copies = if socket == EchoSocket::Raw { 1..=2 } else { 1..=1 };
                let bytes = end.bytes().1.context("no bytes in")?;
                ensure!(copies.contains(&(bytes / (u64::from(REQUESTS) * BYTES))), "other bytes in");
                Ok(())
            };
            check(&end).with_context(|| end.pretty())?;
        }
        let alert = view.one("an alert", |record| record.is_alert() && record.executable() == Some(program.name()))?;
        ensure!(alert.text("/egresswatch/level") == Some("sent"), "{}", alert.pretty());
        ensure!(alert.text("/destination/ip") == Some(address), "another destination: {}", alert.pretty());
        Ok(())
    })
}

/// An address between two of the same family that are on no list.
pub(crate) fn around(flagged: IpAddr) -> [IpAddr; 3] {
    if flagged.is_ipv4() {
        [Ipv4Addr::new(8, 8, 8, 8).into(), flagged, Ipv4Addr::new(9, 9, 9, 9).into()]
    } else {
        let quad9 = Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 0xfe);
        [Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888).into(), flagged, quad9.into()]
    }
}
