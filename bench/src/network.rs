//! Two network namespaces joined by one veth pair, without a route to anywhere else: no packet leaves the machine.

use std::{
    fs::{self, File},
    os::{
        fd::{AsRawFd as _, BorrowedFd},
        unix::process::CommandExt as _,
    },
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns, unshare};

/// The server's own address on the veth pair.
pub(crate) const SERVER: &str = "10.77.0.1";
/// The client's address on the veth pair.
const CLIENT: &str = "10.77.0.2";
/// The client's device of the pair.
pub(crate) const CLIENT_DEVICE: &str = "bench0";
/// Packets to this network arrive at the server's side and vanish there, without an answer.
pub(crate) const VOID: &str = "9.0.0.0/8";

/// An end of the veth pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Where the load is made: the watched host.
    Client,
    /// Where it is served. Every address is local there, so that a load can go to any.
    Server,
}

/// Both namespaces. They go away with the last process inside.
#[derive(Debug)]
pub(crate) struct Network {
    client: File,
    server: File,
}

impl Network {
    /// Makes the namespaces, the pair, addresses and routes.
    pub(crate) fn new() -> Result<Self> {
        let network = Self { client: namespace()?, server: namespace()? };
        let server = format!("/proc/{}/fd/{}", std::process::id(), network.server.as_raw_fd());
        network.ip(Side::Client, &["link", "add", CLIENT_DEVICE, "type", "veth", "peer", "name", "bench1"])?;
        network.ip(Side::Client, &["link", "set", "bench1", "netns", &server])?;
        for (side, device, address) in [(Side::Client, CLIENT_DEVICE, CLIENT), (Side::Server, "bench1", SERVER)] {
            network.inside(side, settings)?;
            network.ip(side, &["address", "add", &format!("{address}/30"), "dev", device])?;
            network.ip(side, &["link", "set", "lo", "up"])?;
            network.ip(side, &["link", "set", device, "up"])?;
        }
        network.ip(Side::Client, &["route", "add", "default", "via", SERVER])?;
        network.ip(Side::Server, &["route", "add", "local", "0.0.0.0/0", "dev", "lo"])?;
        network.ip(Side::Server, &["route", "add", "blackhole", VOID, "table", "local"])?;
        Ok(network)
    }

    /// Lets the process that `command` will start live on one side.
    pub(crate) fn enter(&self, side: Side, command: &mut Command) {
        let namespace = self.namespace(side).as_raw_fd();
        let enter = move || {
            // SAFETY: the network outlives the start of the process, and with it the descriptor.
            let namespace = unsafe { BorrowedFd::borrow_raw(namespace) };
            Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?)
        };
        // SAFETY: only a system call, as a child of a process with threads may.
        unsafe { command.pre_exec(enter) };
    }

    fn namespace(&self, side: Side) -> &File {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }

    fn inside(&self, side: Side, work: impl FnOnce() -> Result<()> + Send) -> Result<()> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(self.namespace(side), CloneFlags::CLONE_NEWNET).context("cannot enter the network namespace")?;
                work()
            });
            thread.join().map_err(|_| anyhow!("a thread in the network namespace panicked"))?
        })
    }

    fn ip(&self, side: Side, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new("ip");
        self.enter(side, command.args(arguments).stdin(Stdio::null()));
        let output = command.output().context("cannot start `ip`: install the package iproute2")?;
        if !output.status.success() {
            bail!("`ip {}` failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Ok(())
    }
}

fn namespace() -> Result<File> {
    let made = thread::spawn(|| -> Result<File> {
        unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
        File::open("/proc/thread-self/ns/net").context("cannot open the network namespace")
    });
    made.join().map_err(|_| anyhow!("the thread that makes the namespace panicked"))?
}

/// What keeps hundreds of thousands of short connections from running into limits that are not the question here.
fn settings() -> Result<()> {
    for (key, value) in [
        ("net/ipv4/ip_local_port_range", "1024 65535"),
        // Closed connections are remembered for a minute; their number must not grow from round to round.
        ("net/ipv4/tcp_max_tw_buckets", "8192"),
        ("net/ipv4/tcp_no_metrics_save", "1"),
        ("net/ipv4/tcp_max_syn_backlog", "65536"),
        ("net/core/somaxconn", "65536"),
        // IPv6's own messages would be traffic that nobody asked for; the loopback has none.
        ("net/ipv6/conf/all/disable_ipv6", "1"),
        ("net/ipv6/conf/lo/disable_ipv6", "0"),
    ] {
        let path = format!("/proc/sys/{key}");
        fs::write(&path, value).with_context(|| format!("cannot write {path}"))?;
    }
    Ok(())
}
