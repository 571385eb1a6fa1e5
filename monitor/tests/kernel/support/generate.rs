//! The traffic generator: the test binary itself, executed again under other names.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::PathBuf,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    libc,
    sys::{
        socket::{AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, recv, sendto, socket},
        wait::waitpid,
    },
    unistd::{ForkResult, fork},
};
use serde::{Deserialize, Serialize};

use super::ways::{Datagrams, HandOver, Handed, Packets, Stream};

/// A peer that is silent for this long will not answer.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(20);

/// Traffic to make. It travels as JSON in the generator's arguments.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Traffic {
    /// One TCP connection after another, each with a request and a reply.
    Tcp {
        to: SocketAddr,
        connections: u64,
        send: u64,
        receive: u64,
        /// Keep the last connection open until standard input ends.
        hold: bool,
    },
    /// Connect, send, and end without any cleaning up.
    TcpAndVanish { to: SocketAddr, send: u64 },
    /// Connect, send, and become another program that holds the connection until standard input ends.
    TcpAndExec { to: SocketAddr, send: u64, program: PathBuf },
    /// Connect and send, become another program, and send on the same connection.
    TcpExecAndSend { to: SocketAddr, before: u64, after: u64, program: PathBuf },
    /// Listen, and after the test's cue read `receive` bytes from the first to connect and answer with `send`.
    TcpListen { at: SocketAddr, receive: u64, send: u64 },
    /// Listen, send `before` bytes to the first to connect, and on the test's cue `after` bytes.
    TcpAccept { at: SocketAddr, before: u64, after: u64 },
    /// Take datagrams at an address, and answer so many of those that begin with a question mark.
    UdpServe { at: SocketAddr, answers: u64, reply: u64 },
    /// Connect a datagram socket and send one datagram; on the test's cue send another.
    UdpOnCue { to: SocketAddr, before: u64, after: u64 },
    /// A process and its child send on one unconnected datagram socket at once, each to its own address.
    UdpShared { by_parent: SocketAddr, by_child: SocketAddr, datagrams: u64, send: u64 },
    /// Connect and send; on the test's cue send more.
    TcpOnCue { to: SocketAddr, before: u64, after: u64 },
    /// Connect and send; then a child sends on the same connection and ends.
    TcpFromChild { to: SocketAddr, by_parent: u64, by_child: u64, program: Option<PathBuf> },
    /// Send on a connection that this process inherited.
    SendOn { descriptor: i32, send: u64 },
    /// On the test's cue, something else.
    OnCue { then: Box<Traffic> },
    /// Connect and send from a thread that has given itself a name, and keep the connection until standard input ends.
    TcpFromThread { to: SocketAddr, send: u64, name: String },
    /// Do nothing until standard input ends.
    Wait,
    /// Connect to a port that refuses.
    TcpRefused { to: SocketAddr },
    /// One socket that asks for each of `in_vain`, which fails, and then talks to each of `to`, taken back in between.
    TcpAgain { in_vain: Vec<SocketAddr>, to: Vec<SocketAddr>, send: u64, receive: u64 },
    /// Datagrams on one socket to each of `to` in turn, each answered if `receive` is given.
    Udp { to: Vec<SocketAddr>, connected: bool, datagrams: u64, send: u64, receive: Option<u64>, hold: bool },
    /// Datagrams to `count` addresses from `first` on, on one unconnected socket.
    UdpFanOut { first: Ipv4Addr, count: u32, port: u16, send: u64, hold: bool },
    /// Set the default destination of a datagram socket and close it.
    UdpConnectOnly { to: SocketAddr },
    /// Echo requests, each answered; one socket asks all in turn.
    Echo { to: Vec<IpAddr>, socket: EchoSocket, requests: u16, send: u64 },
    /// One connection, on which the bytes are handed over in a way of their own.
    Stream(Stream),
    /// Datagrams on one socket, handed over in a way of their own.
    Datagrams(Datagrams),
    /// Packets of the application's own making.
    Packets(Packets),
    /// Connect and send; then another program gets hold of the connection.
    HandOver(HandOver),
    /// The other program's part.
    Handed(Handed),
    /// Say `pieces` on one TCP connection, each in a segment of its own, and hold it until standard input ends.
    Say { to: SocketAddr, pieces: Vec<Vec<u8>> },
    /// Ask a DNS server `questions` on one TCP connection, each once the last one is answered, and hold it.
    Ask { server: SocketAddr, questions: Vec<Vec<u8>> },
    /// Begin a QUIC connection to a server that never answers.
    Quic { to: SocketAddr, name: String },
    /// Another program does the same, `times` times, `parallel` at once.
    Swarm { programs: Vec<PathBuf>, times: usize, parallel: usize, traffic: Box<Traffic> },
}

/// What kind of socket carries echo requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EchoSocket {
    /// A raw socket: for root.
    Raw,
    /// A ping socket: for whoever the network permits.
    Ping,
}

/// What the generator did, as it tells its test.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// The child that sent.
    pub(crate) child: Option<i32>,
    /// Processes that were started.
    pub(crate) processes: Vec<u32>,
}

/// Entry of the generator. Failures go to standard error and the exit code.
pub(crate) fn generate(argument: Option<&str>) -> ExitCode {
    let made = argument
        .context("no traffic is named")
        .and_then(|text| match text.strip_prefix('/') {
            // The name of a script that this program interprets: its second line is the traffic.
            Some(_) => Ok(std::fs::read_to_string(text)?.lines().nth(1).unwrap_or_default().to_owned()),
            None => Ok(text.to_owned()),
        })
        .and_then(|text| serde_json::from_str::<Traffic>(&text).context("this is no traffic"))
        .and_then(|traffic| make(&traffic));
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("generator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::too_many_lines, reason = "an arm for each kind of traffic")]
fn make(traffic: &Traffic) -> Result<()> {
    match traffic {
        Traffic::Tcp { to, connections, send, receive, hold } => {
            for number in 1..=*connections {
                let stream = converse(*to, *send, *receive)?;
                if *hold && number == *connections {
                    tell(&Facts::default())?;
                    return wait();
                }
                drop(stream);
            }
            tell(&Facts::default())
        }
        Traffic::TcpAndVanish { to, send } => {
            let mut stream = connect(*to)?;
            stream.write_all(&payload(*send))?;
            // SAFETY: ends the process at once, which is the point.
            unsafe { libc::_exit(0) }
        }
        Traffic::TcpAndExec { to, send, program } => {
            let stream = converse(*to, *send, 0)?;
            keep_over_exec(&stream)?;
            bail!(generator(program, &Traffic::Wait)?.exec())
        }
        Traffic::TcpExecAndSend { to, before, after, program } => {
            let stream = converse(*to, *before, 0)?;
            let descriptor = keep_over_exec(&stream)?;
            bail!(generator(program, &Traffic::SendOn { descriptor, send: *after })?.exec())
        }
        Traffic::TcpListen { at, receive, send } => {
            let listener = std::net::TcpListener::bind(at).with_context(|| format!("cannot listen at {at}"))?;
            tell(&Facts::default())?;
            io::stdin().read_line(&mut String::new())?;
            let (mut stream, _) = listener.accept()?;
            stream.read_exact(&mut payload(*receive)).context("the request is too short")?;
            stream.write_all(&payload(*send))?;
            wait()
        }
        Traffic::TcpAccept { at, before, after } => {
            let listener = std::net::TcpListener::bind(at).with_context(|| format!("cannot listen at {at}"))?;
            tell(&Facts::default())?;
            let (mut stream, _) = listener.accept()?;
            stream.write_all(&payload(*before))?;
            io::stdin().read_line(&mut String::new())?;
            stream.write_all(&payload(*after))?;
            wait()
        }
        Traffic::UdpServe { at, answers, reply } => serve_datagrams(*at, *answers, *reply),
        Traffic::UdpOnCue { to, before, after } => {
            let socket = udp_socket(to.is_ipv4())?;
            socket.connect(to)?;
            ensure!(socket.send(&payload(*before))? as u64 == *before, "sent in part only");
            tell(&Facts::default())?;
            io::stdin().read_line(&mut String::new())?;
            ensure!(socket.send(&payload(*after))? as u64 == *after, "sent in part only");
            wait()
        }
        Traffic::UdpShared { by_parent, by_child, datagrams, send } => {
            udp_shared(*by_parent, *by_child, *datagrams, *send)
        }
        Traffic::TcpOnCue { to, before, after } => {
            let mut stream = converse(*to, *before, 0)?;
            tell(&Facts::default())?;
            io::stdin().read_line(&mut String::new())?;
            stream.write_all(&payload(*after))?;
            wait()
        }
        Traffic::TcpFromChild { to, by_parent, by_child, program } => {
            from_child(*to, *by_parent, *by_child, program.as_ref())
        }
        Traffic::SendOn { descriptor, send } => {
            // SAFETY: the parent left the descriptor open for this process and nobody else here uses it.
            let descriptor = unsafe { OwnedFd::from_raw_fd(*descriptor) };
            TcpStream::from(descriptor).write_all(&payload(*send)).context("cannot send on the inherited connection")
        }
        Traffic::OnCue { then } => {
            tell(&Facts::default())?;
            io::stdin().read_line(&mut String::new())?;
            make(then)
        }
        Traffic::TcpFromThread { to, send, name } => {
            let (to, send) = (*to, *send);
            let thread = std::thread::Builder::new().name(name.clone()).spawn(move || converse(to, send, 0))?;
            let stream = thread.join().map_err(|_| anyhow::anyhow!("the thread panicked"))??;
            tell(&Facts::default())?;
            wait()?;
            drop(stream);
            Ok(())
        }
        Traffic::Wait => {
            tell(&Facts::default())?;
            wait()
        }
        Traffic::TcpRefused { to } => {
            let error = TcpStream::connect(to).err().context("the connection was accepted")?;
            ensure!(error.kind() == io::ErrorKind::ConnectionRefused, "not refused: {error}");
            tell(&Facts::default())
        }
        Traffic::TcpAgain { in_vain, to, send, receive } => {
            connects_again(in_vain, to, *send, *receive)?;
            tell(&Facts::default())
        }
        Traffic::Udp { to, connected, datagrams, send, receive, hold } => {
            udp(to, *connected, *datagrams, *send, *receive, *hold)
        }
        Traffic::UdpFanOut { first, count, port, send, hold } => {
            let socket = udp_socket(true)?;
            for offset in 0..*count {
                let address = Ipv4Addr::from_bits(first.to_bits() + offset);
                socket.send_to(&payload(*send), (address, *port))?;
            }
            tell(&Facts::default())?;
            if *hold { wait() } else { Ok(()) }
        }
        Traffic::UdpConnectOnly { to } => {
            udp_socket(to.is_ipv4())?.connect(to)?;
            tell(&Facts::default())
        }
        Traffic::Say { to, pieces } => {
            let mut stream = connect(*to)?;
            for piece in pieces {
                stream.write_all(piece)?;
            }
            tell(&Facts::default())?;
            wait()
        }
        Traffic::Ask { server, questions } => {
            let _stream = ask(*server, questions)?;
            tell(&Facts::default())?;
            wait()
        }
        Traffic::Quic { to, name } => super::quic::begin(*to, name),
        Traffic::Echo { to, socket, requests, send } => echo(to, *socket, *requests, *send),
        Traffic::Stream(stream) => stream.make().and_then(|()| tell(&Facts::default())),
        Traffic::Datagrams(datagrams) => datagrams.make().and_then(|()| tell(&Facts::default())),
        Traffic::Packets(packets) => packets.make().and_then(|()| tell(&Facts::default())),
        Traffic::HandOver(hand_over) => tell(&hand_over.make()?),
        Traffic::Handed(handed) => handed.make(),
        Traffic::Swarm { programs, times, parallel, traffic } => swarm(programs, *times, *parallel, traffic),
    }
}

fn serve_datagrams(at: SocketAddr, answers: u64, reply: u64) -> Result<()> {
    let socket = super::bound_udp(at)?;
    socket.set_read_timeout(Some(SILENCE_MAX))?;
    tell(&Facts::default())?;
    let mut request = vec![0_u8; 1 << 16];
    let mut answered = 0;
    while answered < answers {
        let (length, client) = socket.recv_from(&mut request).context("nobody asks")?;
        if request.get(..length).and_then(|request| request.first()) == Some(&b'?') {
            socket.send_to(&payload(reply), client)?;
            answered += 1;
        }
    }
    wait()
}

/// One request and its reply; the connection stays open.
fn converse(to: SocketAddr, send: u64, receive: u64) -> Result<TcpStream> {
    let mut stream = connect(to)?;
    stream.write_all(&payload(send))?;
    let mut reply = payload(receive);
    stream.read_exact(&mut reply).context("the reply is too short")?;
    Ok(stream)
}

fn connects_again(in_vain: &[SocketAddr], to: &[SocketAddr], send: u64, receive: u64) -> Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    for address in in_vain {
        let outcome = nix::sys::socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(*address));
        ensure!(outcome.is_err(), "{address} takes connections");
    }
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    for address in to {
        nix::sys::socket::connect(stream.as_raw_fd(), &SockaddrStorage::from(*address))
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.write_all(&payload(send))?;
        stream.read_exact(&mut payload(receive)).context("the reply is too short")?;
        // SAFETY: an address of no family, as long as it is said to be.
        let taken_back = unsafe {
            let nobody = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
            libc::connect(stream.as_raw_fd(), &raw const nobody, size_of_val(&nobody) as libc::socklen_t)
        };
        nix::errno::Errno::result(taken_back).context("the connection cannot be taken back")?;
    }
    Ok(())
}

/// Each message stands behind its length.
fn ask(server: SocketAddr, questions: &[Vec<u8>]) -> Result<TcpStream> {
    let mut stream = connect(server)?;
    for question in questions {
        stream.write_all(&[&u16::try_from(question.len())?.to_be_bytes()[..], question].concat())?;
        let mut length = [0; 2];
        stream.read_exact(&mut length).context("no answer")?;
        stream.read_exact(&mut vec![0; u16::from_be_bytes(length).into()]).context("the answer is too short")?;
    }
    Ok(stream)
}

fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(to).with_context(|| format!("cannot connect to {to}"))?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn from_child(to: SocketAddr, by_parent: u64, by_child: u64, program: Option<&PathBuf>) -> Result<()> {
    let mut stream = connect(to)?;
    stream.write_all(&payload(by_parent))?;
    let child = if let Some(program) = program {
        let descriptor = keep_over_exec(&stream)?;
        let mut child = generator(program, &Traffic::SendOn { descriptor, send: by_child })?.spawn()?;
        let id = child.id();
        ensure!(child.wait()?.success(), "the child failed");
        id.cast_signed()
    } else {
        // SAFETY: this process has one thread.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => {
                waitpid(child, None)?;
                child.as_raw()
            }
            ForkResult::Child => {
                let sent = stream.write_all(&payload(by_child));
                // SAFETY: ends the child without the parent's cleaning up.
                unsafe { libc::_exit(i32::from(sent.is_err())) }
            }
        }
    };
    tell(&Facts { child: Some(child), ..Facts::default() })?;
    wait()
}

fn udp_shared(by_parent: SocketAddr, by_child: SocketAddr, datagrams: u64, send: u64) -> Result<()> {
    let socket = udp_socket(by_parent.is_ipv4())?;
    let send_all = |to: SocketAddr| -> io::Result<()> {
        for _ in 0..datagrams {
            socket.send_to(&payload(send), to)?;
        }
        Ok(())
    };
    // SAFETY: this process has one thread.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            let outcome = send_all(by_parent);
            waitpid(child, None)?;
            outcome?;
            tell(&Facts { child: Some(child.as_raw()), ..Facts::default() })?;
            wait()
        }
        ForkResult::Child => {
            let outcome = send_all(by_child);
            // SAFETY: ends the child without the parent's cleaning up.
            unsafe { libc::_exit(i32::from(outcome.is_err())) }
        }
    }
}

fn udp(to: &[SocketAddr], connected: bool, datagrams: u64, send: u64, receive: Option<u64>, hold: bool) -> Result<()> {
    let socket = udp_socket(to.iter().all(SocketAddr::is_ipv4))?;
    let mut reply = vec![0_u8; 1 << 16];
    for to in to {
        if connected {
            socket.connect(to)?;
        }
        for _ in 0..datagrams {
            let outcome = if connected { socket.send(&payload(send)) } else { socket.send_to(&payload(send), to) };
            ensure!(outcome? as u64 == send, "sent in part only");
            if let Some(receive) = receive {
                ensure!(socket.recv(&mut reply).context("no reply")? as u64 == receive, "another reply than expected");
            }
        }
    }
    tell(&Facts::default())?;
    if hold { wait() } else { Ok(()) }
}

fn udp_socket(ipv4: bool) -> Result<UdpSocket> {
    let any = if ipv4 { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0)).context("cannot make a datagram socket")?;
    socket.set_read_timeout(Some(SILENCE_MAX))?;
    Ok(socket)
}

/// Echo requests (RFC 792, RFC 4443). The kernel fills in the checksum for ping sockets and for IPv6.
fn echo(to: &[IpAddr], kind: EchoSocket, requests: u16, send: u64) -> Result<()> {
    let is_ipv4 = to.first().is_some_and(IpAddr::is_ipv4);
    let (family, protocol, request, reply) = if is_ipv4 {
        (AddressFamily::Inet, libc::IPPROTO_ICMP, 8_u8, 0_u8)
    } else {
        (AddressFamily::Inet6, libc::IPPROTO_ICMPV6, 128, 129)
    };
    let kind_number = match kind {
        EchoSocket::Raw => libc::SOCK_RAW,
        EchoSocket::Ping => libc::SOCK_DGRAM,
    };
    // SAFETY: plain numbers; the result is checked and owned below.
    let descriptor = unsafe { libc::socket(family as i32, kind_number | libc::SOCK_CLOEXEC, protocol) };
    nix::errno::Errno::result(descriptor).context("cannot make an echo socket")?;
    // SAFETY: a fresh descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
    // A raw IPv4 socket gets the IP header too.
    let reply_at = if kind == EchoSocket::Raw && is_ipv4 { 20 } else { 0 };
    for (sequence, to) in (1..=requests).flat_map(|sequence| to.iter().map(move |to| (sequence, to))) {
        let address = SockaddrStorage::from(SocketAddr::new(*to, 0));
        let mut message = vec![request, 0, 0, 0, 0x12, 0x34];
        message.extend(sequence.to_be_bytes());
        message.extend(payload(send));
        if is_ipv4 {
            let checksum = internet_checksum(&message).to_be_bytes();
            message.splice(2..4, checksum);
        }
        sendto(socket.as_raw_fd(), &message, &address, MsgFlags::empty()).context("cannot send an echo request")?;
        let mut answer = vec![0_u8; 1 << 16];
        // A raw socket is handed the request as well, because both ends are here.
        loop {
            let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
            if answer.get(..length).and_then(|answer| answer.get(reply_at)) == Some(&reply) {
                break;
            }
        }
    }
    tell(&Facts::default())
}

/// RFC 1071.
pub(super) fn internet_checksum(message: &[u8]) -> u16 {
    let mut sum: u32 = message
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([*pair.first().unwrap_or(&0), *pair.get(1).unwrap_or(&0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn swarm(programs: &[PathBuf], times: usize, parallel: usize, traffic: &Traffic) -> Result<()> {
    let mut running = std::collections::VecDeque::new();
    let mut facts = Facts::default();
    for program in programs.iter().cycle().take(times) {
        if running.len() == parallel {
            finish(running.pop_front())?;
        }
        let child = generator(program, traffic)?.stdout(std::process::Stdio::null()).spawn()?;
        facts.processes.push(child.id());
        running.push_back(child);
    }
    while !running.is_empty() {
        finish(running.pop_front())?;
    }
    tell(&facts)
}

fn finish(child: Option<std::process::Child>) -> Result<()> {
    let status = child.context("nothing runs")?.wait()?;
    ensure!(status.success(), "a process of the swarm failed: {status}");
    Ok(())
}

/// The command that makes `traffic` with another copy of this binary.
pub(super) fn generator(program: &PathBuf, traffic: &Traffic) -> Result<Command> {
    let mut command = Command::new(program);
    command.arg("generate").arg(serde_json::to_string(traffic)?);
    Ok(command)
}

fn payload(bytes: u64) -> Vec<u8> {
    vec![b'x'; usize::try_from(bytes).unwrap_or(0)]
}

/// Lets the descriptor stay open in a program that this process becomes or starts.
fn keep_over_exec(stream: &TcpStream) -> Result<i32> {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    fcntl(stream, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(stream.as_raw_fd())
}

/// Tells the test what was done: from here on it may look for it.
pub(super) fn tell(facts: &Facts) -> Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{}", serde_json::to_string(facts)?)?;
    Ok(output.flush()?)
}

/// Waits until the test closes standard input.
fn wait() -> Result<()> {
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    Ok(())
}
