//! The load generator: a process of its own, started by re-execution inside the client's namespace and cgroup.

use std::{
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use crate::clock::{monotonic_ns, thread_cpu_ns};

/// Operations between two looks at the clock, where an operation is short.
const BATCH: u64 = 64;

/// What to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Load {
    /// Connect and close, one after the other, to one address of `to` after the other.
    Connect { to: Addresses, seconds: f64 },
    /// The same to the loopback address of IPv6.
    ConnectIpv6 { port: u16, seconds: f64 },
    /// Datagrams of `bytes`, as fast as one thread can.
    Udp { to: SocketAddr, seconds: f64, bytes: usize, connected: bool },
    /// One TCP stream of writes of `bytes`; without delay each of them is a packet as long as the window is open.
    Stream { to: SocketAddrV4, seconds: f64, bytes: usize, no_delay: bool },
    /// Connections at a given rate: connect, send `bytes`, close. `flagged` addresses are each used once, evenly spread.
    Rate { per_second: f64, seconds: f64, threads: usize, ordinary: Addresses, flagged: Vec<Ipv4Addr>, bytes: usize },
    /// Start a program that ends at once, one after the other.
    Start { seconds: f64 },
    /// One datagram of one unconnected socket to each of `count` destinations, and the socket stays open.
    Destinations { first: Ipv4Addr, count: u32, per_second: f64 },
}

/// `count` addresses from `first` on, and the port on each of them.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) first: Ipv4Addr,
    pub(crate) count: u32,
    pub(crate) port: u16,
}

impl Addresses {
    fn nth(&self, index: u64) -> SocketAddrV4 {
        let offset = (index % u64::from(self.count)) as u32;
        SocketAddrV4::new(Ipv4Addr::from_bits(self.first.to_bits().wrapping_add(offset)), self.port)
    }
}

/// What was done.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Connections, datagrams or writes that succeeded.
    pub(crate) operations: u64,
    /// Payload bytes that they carried.
    pub(crate) bytes: u64,
    /// Operations that failed.
    pub(crate) failures: u64,
    /// How long it took.
    pub(crate) elapsed_ns: u64,
    /// CPU time of the threads that did it.
    pub(crate) cpu_ns: u64,
    /// When each flagged connection was attempted, by the monotonic clock just before `connect`.
    pub(crate) attempts: Vec<(Ipv4Addr, u64)>,
}

impl Done {
    /// Operations a second.
    pub(crate) fn rate(&self) -> f64 {
        self.operations as f64 * 1e9 / self.elapsed_ns.max(1) as f64
    }

    /// CPU time of one operation in ns.
    pub(crate) fn cpu_ns_each(&self) -> f64 {
        self.cpu_ns as f64 / self.operations.max(1) as f64
    }

    fn join(&mut self, other: Self) {
        self.operations += other.operations;
        self.bytes += other.bytes;
        self.failures += other.failures;
        self.elapsed_ns = self.elapsed_ns.max(other.elapsed_ns);
        self.cpu_ns += other.cpu_ns;
        self.attempts.extend(other.attempts);
    }
}

/// Makes the load, tells what was done on standard output, and lives on until standard input ends.
pub(crate) fn run(load: &Load) -> Result<()> {
    let done = match load {
        Load::Connect { to, seconds } => on_first_cpu(|| Ok(connect(|index| to.nth(index).into(), *seconds)))?,
        Load::ConnectIpv6 { port, seconds } => {
            on_first_cpu(|| Ok(connect(|_| (Ipv6Addr::LOCALHOST, *port).into(), *seconds)))?
        }
        Load::Start { seconds } => on_first_cpu(|| start(*seconds))?,
        Load::Udp { to, seconds, bytes, connected } => on_first_cpu(|| udp(*to, *seconds, *bytes, *connected))?,
        Load::Stream { to, seconds, bytes, no_delay } => on_first_cpu(|| stream(*to, *seconds, *bytes, *no_delay))?,
        Load::Rate { per_second, seconds, threads, ordinary, flagged, bytes } => {
            rate(*per_second, *seconds, *threads, *ordinary, flagged, *bytes)?
        }
        // The socket has to outlive the report.
        Load::Destinations { first, count, per_second } => return destinations(*first, *count, *per_second),
    };
    tell(&done)?;
    wait_for_end()
}

/// The load stays on one CPU and the server on another: where the scheduler would put them is not the question.
fn on_first_cpu(work: impl FnOnce() -> Result<Done>) -> Result<Done> {
    pin(0);
    let cpu_before_ns = thread_cpu_ns();
    let mut done = work()?;
    done.cpu_ns = thread_cpu_ns() - cpu_before_ns;
    Ok(done)
}

/// Keeps the calling thread on a CPU, if there is such a one.
pub(crate) fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    if set.set(cpu).is_ok() {
        // A machine with one CPU has no second one; then everything runs on the first.
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
}

fn connect(nth: impl Fn(u64) -> SocketAddr, seconds: f64) -> Done {
    let mut done = Done::default();
    let timer = Timer::start(seconds);
    while timer.goes_on() {
        match TcpStream::connect(nth(done.operations)) {
            Ok(stream) => drop(stream),
            Err(_) => done.failures += 1,
        }
        done.operations += 1;
    }
    done.elapsed_ns = timer.elapsed_ns();
    done.operations -= done.failures;
    done
}

fn udp(to: SocketAddr, seconds: f64, bytes: usize, connected: bool) -> Result<Done> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).context("cannot make a datagram socket")?;
    if connected {
        socket.connect(to)?;
    }
    let datagram = vec![b'x'; bytes];
    let mut done = Done::default();
    let timer = Timer::start(seconds);
    while timer.goes_on() {
        for _ in 0..BATCH {
            let sent = if connected { socket.send(&datagram) } else { socket.send_to(&datagram, to) };
            match sent {
                Ok(sent) => {
                    done.operations += 1;
                    done.bytes += sent as u64;
                }
                Err(_) => done.failures += 1,
            }
        }
    }
    done.elapsed_ns = timer.elapsed_ns();
    Ok(done)
}

fn start(seconds: f64) -> Result<Done> {
    let mut done = Done::default();
    let timer = Timer::start(seconds);
    while timer.goes_on() {
        let status = Command::new("true").stdin(Stdio::null()).stdout(Stdio::null()).status();
        if status.context("cannot start `true`")?.success() {
            done.operations += 1;
        } else {
            done.failures += 1;
        }
    }
    done.elapsed_ns = timer.elapsed_ns();
    Ok(done)
}

fn stream(to: SocketAddrV4, seconds: f64, bytes: usize, no_delay: bool) -> Result<Done> {
    let mut stream = TcpStream::connect(to).with_context(|| format!("cannot connect to {to}"))?;
    stream.set_nodelay(no_delay)?;
    let piece = vec![b'x'; bytes];
    let mut done = Done::default();
    let timer = Timer::start(seconds);
    while timer.goes_on() {
        stream.write_all(&piece).context("the stream broke")?;
        done.operations += 1;
        done.bytes += bytes as u64;
    }
    done.elapsed_ns = timer.elapsed_ns();
    Ok(done)
}

fn rate(
    per_second: f64,
    seconds: f64,
    threads: usize,
    ordinary: Addresses,
    flagged: &[Ipv4Addr],
    bytes: usize,
) -> Result<Done> {
    let mut done = Done::default();
    thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let own: Vec<_> = flagged.iter().copied().skip(worker).step_by(threads).collect();
                let per_second = per_second / threads as f64;
                scope.spawn(move || {
                    let cpu_before_ns = thread_cpu_ns();
                    let mut done = rate_of_one(per_second, seconds, ordinary, &own, bytes);
                    done.cpu_ns = thread_cpu_ns() - cpu_before_ns;
                    done
                })
            })
            .collect();
        for worker in workers {
            done.join(worker.join().map_err(|_| anyhow!("a load thread panicked"))?);
        }
        Ok(())
    })?;
    Ok(done)
}

fn rate_of_one(per_second: f64, seconds: f64, ordinary: Addresses, flagged: &[Ipv4Addr], bytes: usize) -> Done {
    let payload = vec![b'x'; bytes];
    let total = (per_second * seconds) as u64;
    let mut flagged_left = flagged.iter();
    let every = (total / flagged.len().max(1) as u64).max(1);
    let mut done = Done::default();
    let timer = Timer::start(seconds);
    for index in 0..total {
        if !timer.goes_on() {
            break;
        }
        timer.wait_until((index as f64 * 1e9 / per_second) as u64);
        let probe = if index % every == 0 { flagged_left.next() } else { None };
        let to = match probe {
            Some(address) => {
                done.attempts.push((*address, monotonic_ns()));
                SocketAddrV4::new(*address, ordinary.port)
            }
            None => ordinary.nth(index),
        };
        match TcpStream::connect(to).and_then(|mut stream| stream.write_all(&payload)) {
            Ok(()) => {
                done.operations += 1;
                done.bytes += bytes as u64;
            }
            Err(_) => done.failures += 1,
        }
    }
    done.elapsed_ns = timer.elapsed_ns();
    done
}

fn destinations(first: Ipv4Addr, count: u32, per_second: f64) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("cannot make a datagram socket")?;
    let to = Addresses { first, count, port: 7 };
    let mut done = Done::default();
    let timer = Timer::start(f64::INFINITY);
    for index in 0..u64::from(count) {
        if index % BATCH == 0 {
            timer.wait_until((index as f64 * 1e9 / per_second) as u64);
        }
        match socket.send_to(b"x", to.nth(index)) {
            Ok(_) => done.operations += 1,
            Err(_) => done.failures += 1,
        }
    }
    done.elapsed_ns = timer.elapsed_ns();
    tell(&done)?;
    wait_for_end()
}

fn tell(done: &Done) -> Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{}", serde_json::to_string(done)?)?;
    Ok(output.flush()?)
}

fn wait_for_end() -> Result<()> {
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    Ok(())
}

/// How long a load goes on, and when its next step is due.
struct Timer {
    start_ns: u64,
    length_ns: u64,
}

impl Timer {
    fn start(seconds: f64) -> Self {
        // What does not fit is for ever.
        Self { start_ns: monotonic_ns(), length_ns: (seconds * 1e9) as u64 }
    }

    fn elapsed_ns(&self) -> u64 {
        monotonic_ns() - self.start_ns
    }

    fn goes_on(&self) -> bool {
        self.elapsed_ns() < self.length_ns
    }

    /// Sleeps until `at_ns` after the start; a late caller goes on at once and so catches up.
    fn wait_until(&self, at_ns: u64) {
        /// A sleep shorter than this oversleeps by more than it lasts.
        const WORTH_SLEEPING_NS: u64 = 60_000;
        let early_ns = at_ns.saturating_sub(self.elapsed_ns());
        if early_ns >= WORTH_SLEEPING_NS {
            thread::sleep(Duration::from_nanos(early_ns));
        }
    }
}
