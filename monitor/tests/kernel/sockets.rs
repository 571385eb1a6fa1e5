//! Sockets beside plain TCP and UDP, and sockets that change hands or places.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use egresswatch::coverage::Sight;
use nix::sys::socket::{setsockopt, sockopt};

use crate::{
    Case,
    claim::{Sent, check_identity, claimed, exact, sight},
    executables::{bundle, container_files},
    support::{
        CABLE_IPV4, DatagramWay, Datagrams, HandOver, LOCAL_IPV4, LOCAL_IPV6, Launch, Network, PacketWay, Packets,
        Program, Protocol, Record, Rung, Stream, StreamWay, TcpServer, Traffic, UdpServer, View, watch,
    },
    tcp::flow_end,
    udp::around,
    ways::REMOTES,
};

/// The tests of this file.
pub(crate) const CASES: &[Case] = &[
    Case::new("mptcp", mptcp),
    Case::new("sctp", sctp),
    Case::new("raw_ip", |rung| packets(rung, "raw_ip", PacketWay::RawIp)),
    Case::new("raw_tcp", |rung| packets(rung, "raw_tcp", PacketWay::RawTcp)),
    Case::new("raw_ip_with_own_header", |rung| packets(rung, "raw_header", PacketWay::RawHeader)),
    Case::new("packet_socket", packet_socket),
    Case::new("passed_over_a_unix_socket", |rung| handed_over(rung, "passed_over_unix", true)),
    Case::new("taken_by_pidfd_getfd", |rung| handed_over(rung, "taken_by_pidfd", false)),
    Case::new("loopback", loopback),
    Case::new("multicast", multicast),
    Case::new("broadcast", broadcast),
    Case::new("translated_destination", translated).needs("nft"),
    Case::new("a_container_asks_a_translated_address", container_asks_a_service).needs("runc"),
];

/// Addresses of China Mobile.
const FLAGGED: [&str; 2] = ["111.13.100.1", "2409:8c00::1"];

/// MPTCP sends data again, in new bytes of the same TCP connection, when its own acknowledgement is late, and the last byte
/// to ask whether a full receiver has room again. Each packet is seen, and nothing in it says that its bytes are old.
fn mptcp(rung: Rung) -> Result<()> {
    const BYTES: (u64, u64) = (300_007, 200_003);
    if !fs::read_to_string("/proc/sys/net/mptcp/enabled").is_ok_and(|text| text.trim() == "1") {
        return crate::skip("this kernel has no MPTCP");
    }
    ensure!(matches!(sight("mptcp", rung)?, Sight::Partly(_)), "the table claims more than this test shows");
    for address in REMOTES {
        let network = Network::new()?;
        let server = TcpServer::over(&network, Protocol::Mptcp, BYTES.0, BYTES.1)?;
        let remote = SocketAddr::new(address.parse()?, server.port);
        let program = Program::new("mptcp")?;
        watch(rung, |view| {
            let way = StreamWay::Mptcp;
            let traffic = Traffic::Stream(Stream { to: remote, way, send: BYTES.0, receive: BYTES.1 });
            let pid = Launch::inside(&network).run(&program, &traffic)?.pid;
            let end = flow_end(&view, &program, remote)?;
            let sent = Sent { network: &network, program: &program, pid, remote, bytes: BYTES, caveats: &[] };
            check_identity(&end, &sent).with_context(|| end.pretty())?;
            ensure!(network.counter("netstat", "MPCapableACKRX")? == 1, "the connection is plain TCP");
            // What is sent again is counted by the sender, what is only asked with by who receives it.
            let sent_again =
                network.counter("netstat", "MPTCPRetrans")? > 0 || network.counter("netstat", "DuplicateData")? > 0;
            let (out, back) = end.bytes();
            let extra = (out.unwrap_or(0).checked_sub(BYTES.0), back.unwrap_or(0).checked_sub(BYTES.1));
            let (Some(out), Some(back)) = extra else { anyhow::bail!("too few bytes: {}", end.pretty()) };
            ensure!(sent_again || out + back == 0, "{out} and {back} bytes that nobody sent: {}", end.pretty());
            Ok(())
        })?;
        for connection in server.finish() {
            ensure!((connection.received, connection.sent) == BYTES, "the server counted {connection:?}");
        }
    }
    Ok(())
}

/// SCTP's chunks travel as the payload of IP packets: headers and acknowledgements of its own are counted with them.
fn sctp(rung: Rung) -> Result<()> {
    const BYTES: (u64, u64) = (3_011, 1_013);
    if !fs::read_to_string("/proc/net/protocols").is_ok_and(|text| text.contains("\nSCTP ")) {
        return crate::skip("this kernel has no SCTP");
    }
    ensure!(matches!(sight("sctp", rung)?, Sight::Partly(_)), "the table claims more than this test shows");
    let network = Network::new()?;
    for address in REMOTES {
        network.add_address(address.parse()?)?;
    }
    let server = TcpServer::over(&network, Protocol::Sctp, BYTES.0, BYTES.1)?;
    for address in REMOTES {
        let to = SocketAddr::new(address.parse()?, server.port);
        let remote = to;
        let program = Program::new("sctp")?;
        watch(rung, |view| {
            let way = StreamWay::Sctp;
            let traffic = Traffic::Stream(Stream { to, way, send: BYTES.0, receive: BYTES.1 });
            let pid = Launch::inside(&network).run(&program, &traffic)?.pid;
            let end = view.one("the end of the association's flow", |record| {
                record.is_flow_end()
                    && record.executable() == Some(program.name())
                    && record.text("/destination/ip") == Some(address)
            })?;
            let sent = Sent { network: &network, program: &program, pid, remote, bytes: BYTES, caveats: &[] };
            check_identity(&end, &sent).with_context(|| end.pretty())?;
            let (out, back) = end.bytes();
            ensure!(out > Some(BYTES.0) && back > Some(BYTES.1), "fewer bytes than chunks take: {}", end.pretty());
            Ok(())
        })?;
    }
    Ok(())
}

/// Packets whose headers the application writes itself, in part or whole, from one socket to three destinations, the flagged
/// one in between. Without payload they are packets all the same.
fn packets(rung: Rung, row: &str, way: PacketWay) -> Result<()> {
    const COUNT: u64 = 7;
    let network = Network::new()?;
    for ((address, from), size) in FLAGGED.into_iter().zip([LOCAL_IPV4, LOCAL_IPV6]).flat_map(|to| [(to, 701), (to, 0)])
    {
        let flagged: IpAddr = address.parse()?;
        let any = if flagged.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        let server = UdpServer::start(&network, any, None)?;
        let program = Program::new("packets")?;
        let port = if way == PacketWay::RawIp { 0 } else { server.address.port() };
        watch(rung, |view| {
            let to = around(flagged).map(|to| SocketAddr::new(to, port));
            let traffic = Traffic::Packets(Packets { from, to: to.to_vec(), way, count: COUNT, size });
            let pid = Launch::inside(&network).run(&program, &traffic)?.pid;
            // What comes after it in the output says that it would have come.
            marker(&view, &network)?;
            // A raw socket has no connect or send that could be seen: who made it is who is named.
            let caveats: &[&str] = &["identity_from_creation"];
            for remote in to {
                let bytes = (COUNT * size, 0);
                claimed(&view, rung, row, &Sent { network: &network, program: &program, pid, remote, bytes, caveats })?;
                let end = flow_end(&view, &program, remote)?;
                ensure!(end.number("/egresswatch/flow/out/packets") == Some(COUNT), "other packets: {}", end.pretty());
                ensure!(end.text("/destination/nat/ip").is_none(), "a translation that nobody made: {}", end.pretty());
            }
            let alert =
                view.one("an alert", |record| record.is_alert() && record.executable() == Some(program.name()))?;
            ensure!(alert.text("/destination/ip") == Some(address), "another destination: {}", alert.pretty());
            Ok(())
        })
        .with_context(|| format!("{size} bytes by {way:?} to {address}"))?;
        let arrived = server.finish();
        let expected = if way == PacketWay::RawHeader { 3 * COUNT * size } else { 0 };
        ensure!(arrived == expected, "the server got {arrived} bytes by {way:?}, not {expected}");
    }
    Ok(())
}

/// Frames that go around the IP stack. The function tells the interface that a frame is addressed to, the tracepoint only
/// one that the socket is bound to, which this one is not.
fn packet_socket(rung: Rung) -> Result<()> {
    const COUNT: u64 = 7;
    const SIZE: u64 = 701;
    let network = Network::new()?;
    for (address, from, header) in [(REMOTES[0], LOCAL_IPV4, 28), (REMOTES[1], LOCAL_IPV6, 48)] {
        let server = UdpServer::start(&network, address.parse()?, None)?;
        let program = Program::new("frames")?;
        watch(rung, |view| {
            let way = PacketWay::PacketSocket;
            let to = vec![server.address];
            let traffic = Traffic::Packets(Packets { from, to, way, count: COUNT, size: SIZE });
            let pid = Launch::inside(&network).run(&program, &traffic)?.pid;
            // What comes after it in the output says that it would have come.
            marker(&view, &network)?;
            let of_process = |flow: &Record| flow.number("/process/pid") == Some(u64::from(pid));
            let flows: Vec<_> = view.monitor.live_flows()?.into_iter().filter(of_process).collect();
            if let Sight::NotSeen(_) = sight("packet_socket", rung)? {
                ensure!(flows.is_empty(), "the table says that this is not seen: {flows:?}");
                return Ok(());
            }
            let [flow] = flows.as_slice() else { anyhow::bail!("not one flow: {flows:?}") };
            let check = || -> Result<()> {
                ensure!(flow.text("/network/transport") == Some("packet"), "another transport");
                ensure!(flow.executable() == Some(program.name()), "another executable");
                ensure!(flow.bytes().0 == Some(COUNT * (SIZE + header)), "other bytes");
                ensure!(flow.remote().is_none(), "a destination that nobody saw");
                ensure!(flow.texts("/egresswatch/flow/caveats") == ["destination_not_visible"], "other caveats");
                let interface = flow.number("/egresswatch/flow/link/interface_index");
                ensure!(interface == (rung == Rung::Fexit).then_some(1), "another interface");
                let said = flow.text("/message").unwrap_or_default();
                ensure!(said.contains("destination not visible"), "the message does not say so");
                Ok(())
            };
            check().with_context(|| flow.pretty())
        })
        .with_context(|| format!("to {address}"))?;
        let arrived = server.finish();
        ensure!(arrived == COUNT * SIZE, "the server got {arrived} bytes, not {}", COUNT * SIZE);
    }
    Ok(())
}

/// Another flow, of which the end is told after everything that was before it.
fn marker(view: &View<'_>, network: &Network) -> Result<()> {
    let server = TcpServer::start(network, 1, 0)?;
    let remote = SocketAddr::new("9.9.9.9".parse()?, server.port);
    let program = Program::new("marker")?;
    let way = StreamWay::Write;
    Launch::inside(network).run(&program, &Traffic::Stream(Stream { to: remote, way, send: 1, receive: 0 }))?;
    flow_end(view, &program, remote).map(drop)
}

/// One program connects, another one gets the connection while it is open, and sends on it.
fn handed_over(rung: Rung, row: &str, by_rights: bool) -> Result<()> {
    const BEFORE: u64 = 1_009;
    const AFTER: u64 = 503;
    let network = Network::new()?;
    let server = TcpServer::start(&network, BEFORE + AFTER, 0)?;
    for address in REMOTES {
        let remote = SocketAddr::new(address.parse()?, server.port);
        let (connects, sends) = (Program::new("connects")?, Program::new("sends")?);
        watch(rung, |view| {
            let program = sends.path.clone();
            let traffic = Traffic::HandOver(HandOver { to: remote, before: BEFORE, after: AFTER, program, by_rights });
            let finished = Launch::inside(&network).run(&connects, &traffic)?;
            let child = finished.facts.child.context("the generator told no child")?.cast_unsigned();
            let end = view.one(&format!("the end of the flow to {remote}"), |record| {
                record.is_flow_end() && record.is_egress() && record.remote() == Some(remote)
            })?;
            let bytes = (BEFORE + AFTER, 0);
            let (program, pid) = match sight(row, rung)? {
                Sight::Seen => (&sends, child),
                Sight::Partly(_) => (&connects, finished.pid),
                Sight::NotSeen(_) => anyhow::bail!("seen, although the table says no: {}", end.pretty()),
            };
            let check = || -> Result<()> {
                check_identity(&end, &Sent { network: &network, program, pid, remote, bytes, caveats: &[] })?;
                ensure!(end.bytes() == (Some(bytes.0), Some(0)), "other bytes than {bytes:?}");
                let connector = end.number("/egresswatch/connector/pid");
                let expected = (pid == child).then_some(u64::from(finished.pid));
                ensure!(connector == expected, "another connector than {expected:?}");
                Ok(())
            };
            check().with_context(|| end.pretty())
        })?;
    }
    Ok(())
}

/// Both ends on this host, by the loopback's own addresses.
fn loopback(rung: Rung) -> Result<()> {
    const BYTES: (u64, u64) = (2_003, 1_009);
    let network = Network::new()?;
    for address in ["127.0.0.1", "::1"] {
        let address: IpAddr = address.parse()?;
        let server = TcpServer::start(&network, BYTES.0, BYTES.1)?;
        let datagram_server = UdpServer::start(&network, address, Some(usize::try_from(BYTES.1)?))?;
        watch(rung, |view| {
            let remote = SocketAddr::new(address, server.port);
            let program = Program::new("loopback")?;
            let way = StreamWay::Write;
            let traffic = Traffic::Stream(Stream { to: remote, way, send: BYTES.0, receive: BYTES.1 });
            let pid = Launch::inside(&network).run(&program, &traffic)?.pid;
            claimed(
                &view,
                rung,
                "loopback",
                &Sent { network: &network, program: &program, pid, remote, bytes: BYTES, caveats: &[] },
            )?;
            let remote = datagram_server.address;
            let traffic = Traffic::Datagrams(Datagrams { answered: true, ..datagrams(remote, 3, BYTES.0) });
            let pid = Launch::inside(&network).run(&program, &traffic)?.pid;
            let bytes = (3 * BYTES.0, 3 * BYTES.1);
            claimed(
                &view,
                rung,
                "loopback",
                &Sent { network: &network, program: &program, pid, remote, bytes, caveats: &[] },
            )
        })?;
    }
    Ok(())
}

fn datagrams(to: SocketAddr, count: usize, size: u64) -> Datagrams {
    let way = DatagramWay::Sendmsg;
    Datagrams { to, way, connected: false, count, size, answered: false, interface: None, loops: true }
}

/// To a group of which this host is a member, with and without the copy that members on this host get.
fn multicast(rung: Rung) -> Result<()> {
    for address in ["224.0.0.251", "239.255.255.250", "ff02::fb"] {
        for loops in [true, false] {
            to_many(rung, "multicast", address, loops)?;
        }
    }
    Ok(())
}

fn broadcast(rung: Rung) -> Result<()> {
    to_many(rung, "broadcast", "255.255.255.255", true)
}

/// Datagrams out of an interface like any other.
fn to_many(rung: Rung, row: &str, address: &str, loops: bool) -> Result<()> {
    const COUNT: usize = 5;
    const SIZE: u64 = 211;
    let network = Network::new()?;
    let interface = network.add_interface()?;
    let remote = SocketAddr::new(address.parse()?, network.port());
    let member = network.inside(|| join(remote, interface))?;
    let program = Program::new("to-many")?;
    watch(rung, |view| {
        let interface = Some(interface.to_owned());
        let traffic = Traffic::Datagrams(Datagrams { interface, loops, ..datagrams(remote, COUNT, SIZE) });
        let pid = Launch::inside(&network).run(&program, &traffic)?.pid;
        let bytes = (COUNT as u64 * SIZE, 0);
        claimed(&view, rung, row, &Sent { network: &network, program: &program, pid, remote, bytes, caveats: &[] })
    })
    .with_context(|| format!("to {address}, loops: {loops}"))?;
    let mut copies = 0;
    while member.recv(&mut [0; 1_024]).is_ok_and(|length| length as u64 == SIZE) {
        copies += 1;
    }
    ensure!(copies == if loops { COUNT } else { 0 }, "this host got {copies} copies");
    Ok(())
}

/// A socket of this host that gets what is sent to a group, or to everyone. It waits for nothing.
fn join(to: SocketAddr, interface: &str) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((if to.is_ipv4() { "0.0.0.0" } else { "::" }, to.port()))?;
    // What comes out at the other end of the cable is not meant.
    setsockopt(&socket, sockopt::BindToDevice, &interface.into())?;
    socket.set_nonblocking(true)?;
    match to.ip() {
        IpAddr::V4(group) if group.is_multicast() => socket.join_multicast_v4(&group, &CABLE_IPV4)?,
        IpAddr::V6(group) => socket.join_multicast_v6(&group, nix::net::if_::if_nametoindex(interface)?)?,
        IpAddr::V4(_) => {}
    }
    Ok(socket)
}

/// Addresses of services, which the network changes into those of [`REMOTES`].
const SERVICES: [&str; 2] = ["10.96.0.10", "fd96::10"];

/// A network in which the services' addresses are changed.
fn network_with_services() -> Result<Network> {
    const RULES: &str = "table inet nat { chain output { type nat hook output priority -100; \
        ip daddr 10.96.0.10 dnat ip to 8.8.8.8; ip6 daddr fd96::10 dnat ip6 to 2001:4860:4860::8888; }; }";
    let network = Network::new()?;
    let nft = crate::support::installed("nft").context("nft is not installed")?;
    network.inside(|| {
        let status = Command::new(nft).arg(RULES).status()?;
        ensure!(status.success(), "nft failed: {status}");
        Ok(())
    })?;
    Ok(network)
}

/// The sockets are made inside the container, by programs of its own, as in a pod that asks a service.
fn container_asks_a_service(rung: Rung) -> Result<()> {
    const BYTES: (u64, u64) = (2_003, 1_009);
    let id = "c4a7e1f09b3d5286e7f8a9b0c1d2e3f405162738495a6b7c8d9eafb0c1d2e3f4";
    let network = network_with_services()?;
    let server = TcpServer::start(&network, BYTES.0, BYTES.1)?;
    let folder = tempfile::Builder::new().prefix("egresswatch-test-").tempdir()?;
    container_files(folder.path(), &["sh", "head", "nc"])?;
    // The end of what is sent is not the end of the connection: the answer is waited for.
    let ask = |service| {
        format!("head -c {} /dev/zero | nc {service} {} | head -c {} >/dev/null", BYTES.0, server.port, BYTES.1)
    };
    let script = SERVICES.map(ask).join("; ");
    fs::write(folder.path().join("config.json"), bundle(id, &script).to_string())?;
    watch(rung, |view| {
        let mut command = Command::new("runc");
        command.arg("run").arg("--bundle").arg(folder.path()).arg(id);
        Launch::inside(&network).run_command(command, "")?;
        for (service, behind) in SERVICES.into_iter().zip(REMOTES) {
            let remote = SocketAddr::new(service.parse()?, server.port);
            let end = view.one(&format!("the end of the container's flow to {remote}"), |record| {
                record.is_flow_end() && record.is_egress() && record.remote() == Some(remote)
            })?;
            ensure!(end.bytes() == (Some(BYTES.0), Some(BYTES.1)), "{}", end.pretty());
            ensure!(end.text("/destination/nat/ip") == Some(behind), "not behind {behind}: {}", end.pretty());
            ensure!(end.text("/container/id") == Some(id), "not of the container: {}", end.pretty());
            ensure!(end.executable() == Some("/bin/busybox"), "another program: {}", end.pretty());
        }
        Ok(())
    })
}

/// A service address that the network changes into another one: the flow is to what the program asked for, and says where
/// its packets went.
fn translated(rung: Rung) -> Result<()> {
    const BYTES: (u64, u64) = (2_003, 1_009);
    let network = network_with_services()?;
    let server = TcpServer::start(&network, BYTES.0, BYTES.1)?;
    for (service, behind) in SERVICES.into_iter().zip(REMOTES) {
        let datagram_server = UdpServer::start(&network, behind.parse()?, Some(usize::try_from(BYTES.1)?))?;
        watch(rung, |view| {
            let program = Program::new("translated")?;
            let way = StreamWay::Write;
            let remote = SocketAddr::new(service.parse()?, server.port);
            let traffic = Traffic::Stream(Stream { to: remote, way, send: BYTES.0, receive: BYTES.1 });
            let pid = Launch::inside(&network).run(&program, &traffic)?.pid;
            let end =
                exact(&view, &Sent { network: &network, program: &program, pid, remote, bytes: BYTES, caveats: &[] })?;
            ensure!(end.text("/destination/nat/ip") == Some(behind), "not behind {behind}: {}", end.pretty());
            for connected in [true, false] {
                let remote = SocketAddr::new(service.parse()?, datagram_server.address.port());
                let program = Program::new("translated-datagrams")?;
                let traffic =
                    Traffic::Datagrams(Datagrams { answered: true, connected, ..datagrams(remote, 3, BYTES.0) });
                let pid = Launch::inside(&network).run(&program, &traffic)?.pid;
                let bytes = (3 * BYTES.0, 3 * BYTES.1);
                let end =
                    exact(&view, &Sent { network: &network, program: &program, pid, remote, bytes, caveats: &[] })?;
                ensure!(end.text("/destination/nat/ip") == Some(behind), "not behind {behind}: {}", end.pretty());
            }
            Ok(())
        })?;
    }
    Ok(())
}
