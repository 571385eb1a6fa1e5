//! Every way to hand payload over: whatever the call, the flow names who sent, and counts exactly what was sent.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};

use crate::{
    Case,
    claim::{Sent, claimed},
    support::{
        DatagramWay, Datagrams, Launch, Network, Program, Rung, Stream, StreamWay, TcpServer, Traffic, UdpServer,
        patience, watch,
    },
};

/// The tests of this file.
pub(crate) const CASES: &[Case] = &[
    Case::new("tcp_both_ways_at_once", |rung| stream(rung, "tcp_both_ways", StreamWay::AtOnce, (1_500_007, 1_200_011))),
    Case::new("tcp_upload", |rung| stream(rung, "tcp_upload", StreamWay::Write, (6_000_011, 1))),
    Case::new("tcp_download", |rung| stream(rung, "tcp_download", StreamWay::Write, (1, 6_000_011))),
    Case::new("tcp_drip", |rung| stream(rung, "tcp_drip", StreamWay::Drip, (40, 1))),
    Case::new("tcp_fast_open", |rung| stream(rung, "tcp_fast_open", StreamWay::FastOpen, (1_201, 503))),
    Case::new("tcp_sendmsg", |rung| stream(rung, "sendmsg", StreamWay::Sendmsg, (100_003, 1_009))),
    Case::new("tcp_sendmmsg", |rung| stream(rung, "sendmmsg", StreamWay::Sendmmsg, (100_003, 1_009))),
    Case::new("tcp_sendfile", |rung| stream(rung, "sendfile", StreamWay::Sendfile, (1_000_003, 1_009))),
    Case::new("tcp_splice", |rung| stream(rung, "splice", StreamWay::Splice, (300_007, 1_009))),
    Case::new("tcp_zero_copy", |rung| stream(rung, "zero_copy", StreamWay::ZeroCopy, (300_007, 1_009))),
    Case::new("tcp_io_uring", |rung| stream(rung, "io_uring", StreamWay::Uring, (300_007, 200_003))),
    Case::new("tcp_io_uring_polled", |rung| {
        stream(rung, "io_uring_polled", StreamWay::UringPolled, (300_007, 200_003))
    }),
    Case::new("renamed_thread", |rung| stream(rung, "renamed_thread", StreamWay::RenamedThread, (1_013, 1_009))),
    Case::new("left_namespace", |rung| stream(rung, "left_namespace", StreamWay::LeftNamespace, (1_013, 1_009))),
    Case::new("udp_sendmsg", |rung| datagrams(rung, "sendmsg", DatagramWay::Sendmsg)),
    Case::new("udp_sendmmsg", |rung| datagrams(rung, "sendmmsg", DatagramWay::Sendmmsg)),
    Case::new("udp_segmented", |rung| datagrams(rung, "udp_segmented", DatagramWay::Segmented)),
    Case::new("udp_zero_copy", |rung| datagrams(rung, "zero_copy", DatagramWay::ZeroCopy)),
    Case::new("udp_io_uring", |rung| datagrams(rung, "io_uring", DatagramWay::Uring)),
    Case::new("udp_io_uring_polled", |rung| datagrams(rung, "io_uring_polled", DatagramWay::UringPolled)),
    Case::new("udp_small_packet_flood", flood),
];

/// Real addresses that no list names, so that nothing but the way is special.
pub(crate) const REMOTES: [&str; 2] = ["8.8.8.8", "2001:4860:4860::8888"];

/// A connection over each address family.
fn stream(rung: Rung, row: &str, way: StreamWay, bytes: (u64, u64)) -> Result<()> {
    let network = Network::new()?;
    let server = match way {
        StreamWay::AtOnce => TcpServer::at_once(&network, bytes.1)?,
        _ => TcpServer::start(&network, bytes.0, bytes.1)?,
    };
    for address in REMOTES {
        let remote = SocketAddr::new(address.parse()?, server.port);
        let program = Program::new("stream")?;
        watch(rung, |view| {
            let traffic = Traffic::Stream(Stream { to: remote, way, send: bytes.0, receive: bytes.1 });
            let pid = Launch::inside(&network).run(&program, &traffic)?.pid;
            claimed(&view, rung, row, &Sent { network: &network, program: &program, pid, remote, bytes, caveats: &[] })
        })
        .with_context(|| format!("{way:?} to {address}"))?;
    }
    for connection in server.finish() {
        ensure!((connection.received, connection.sent) == bytes, "the server counted {connection:?}");
    }
    Ok(())
}

/// Answered datagrams on a connected and an unconnected socket, over each address family.
fn datagrams(rung: Rung, row: &str, way: DatagramWay) -> Result<()> {
    const COUNT: usize = 40;
    const REQUEST: u64 = 1_013;
    const REPLY: u64 = 509;
    let network = Network::new()?;
    let bytes = (COUNT as u64 * REQUEST, COUNT as u64 * REPLY);
    for address in REMOTES {
        for connected in [true, false] {
            let server = UdpServer::start(&network, address.parse()?, Some(usize::try_from(REPLY)?))?;
            let remote = server.address;
            let program = Program::new("datagrams")?;
            watch(rung, |view| {
                let traffic = Traffic::Datagrams(Datagrams {
                    to: remote,
                    way,
                    connected,
                    count: COUNT,
                    size: REQUEST,
                    answered: true,
                    interface: None,
                    loops: true,
                });
                let pid = Launch::inside(&network).run(&program, &traffic)?.pid;
                claimed(
                    &view,
                    rung,
                    row,
                    &Sent { network: &network, program: &program, pid, remote, bytes, caveats: &[] },
                )
            })
            .with_context(|| format!("{way:?} to {address}, connected: {connected}"))?;
            ensure!(server.finish() == bytes.0, "the server got another number of bytes");
        }
    }
    Ok(())
}

/// As fast as one process can, and nobody listens: what counts is what was sent.
fn flood(rung: Rung) -> Result<()> {
    const COUNT: usize = 20_000;
    const SIZE: u64 = 17;
    let network = Network::new()?;
    for address in REMOTES {
        // The server takes what fits, and is not asked how much that was.
        let server = UdpServer::start(&network, address.parse()?, None)?;
        let remote = server.address;
        let program = Program::new("flood")?;
        watch(rung, |view| {
            let traffic = Traffic::Datagrams(Datagrams {
                to: remote,
                way: DatagramWay::Sendmmsg,
                connected: false,
                count: COUNT,
                size: SIZE,
                answered: false,
                interface: None,
                loops: true,
            });
            let pid = Launch::inside(&network).run(&program, &traffic)?.pid;
            let bytes = (COUNT as u64 * SIZE, 0);
            claimed(
                &view.within(patience() * 2),
                rung,
                "udp_flood",
                &Sent { network: &network, program: &program, pid, remote, bytes, caveats: &[] },
            )
        })?;
    }
    Ok(())
}
