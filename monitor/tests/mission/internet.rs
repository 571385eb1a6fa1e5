//! Two network namespaces joined by one link: the client's, and one that is the whole Internet.

use std::{
    fs::{self, File},
    io::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::{
    getsockopt_impl, libc,
    sched::{CloneFlags, setns, unshare},
    sockopt_impl,
    sys::{
        signal::{Signal, kill},
        socket::{AddressFamily, SockFlag, SockType, getsockopt, socket},
    },
    unistd::Pid,
};

/// Where the web site and the name server are (a documentation address, RFC 5737).
pub(crate) const SITE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// An address that AS9808 (China Mobile) originates.
pub(crate) const COLLECTOR_IPV4: Ipv4Addr = Ipv4Addr::new(111, 13, 100, 1);
/// The same for IPv6.
pub(crate) const COLLECTOR_IPV6: Ipv6Addr = Ipv6Addr::new(0x2409, 0x8c00, 0, 0, 0, 0, 0, 1);

/// The client's and the server's side of the link.
const CLIENT_IPV4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const CLIENT_IPV6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const SITE_IPV6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);

sockopt_impl!(
    /// Cookie of the socket's network namespace (`socket(7)`).
    NetworkNamespaceCookie,
    GetOnly,
    libc::SOL_SOCKET,
    libc::SO_NETNS_COOKIE,
    u64
);

/// The two namespaces.
pub(crate) struct Internet {
    /// Where the browser lives.
    pub(crate) client: Namespace,
    /// Where everything else lives.
    pub(crate) server: Namespace,
}

impl Internet {
    /// Makes the namespaces and the link, with every address and no way out.
    pub(crate) fn new() -> Result<Self> {
        let (client, server) = (Namespace::new()?, Namespace::new()?);
        let peer = server.path().display().to_string();
        client.configure(&format!(
            "link add eth0 type veth peer name eth0 netns {peer}\n\
             link set lo up\n\
             link set eth0 up\n\
             address add {CLIENT_IPV4}/24 dev eth0\n\
             address add {CLIENT_IPV6}/64 dev eth0 nodad\n"
        ))?;
        server.configure(&format!(
            "link set lo up\n\
             link set eth0 up\n\
             address add {SITE}/24 dev eth0\n\
             address add {SITE_IPV6}/64 dev eth0 nodad\n\
             address add {COLLECTOR_IPV4}/32 dev lo\n\
             address add {COLLECTOR_IPV6}/128 dev lo nodad\n"
        ))?;
        // Last, when both ends of the link are up.
        client.configure(&format!("route add default via {SITE}\nroute add default via {SITE_IPV6}\n"))?;
        Ok(Self { client, server })
    }
}

/// A network namespace without a name: it goes away with this value and its last process, however the test ends.
pub(crate) struct Namespace(File);

impl Namespace {
    fn new() -> Result<Self> {
        let made = thread::spawn(|| -> Result<File> {
            unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
            File::open("/proc/thread-self/ns/net").context("cannot open the network namespace")
        });
        Ok(Self(made.join().map_err(|_| anyhow!("the thread that makes a network namespace panicked"))??))
    }

    /// Path by which a child of this process finds it.
    fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    /// A command that runs `program` inside, under the process id of the child.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program.as_ref());
        command
    }

    /// Cookie by which the kernel, and so the monitor, names it.
    pub(crate) fn cookie(&self) -> Result<u64> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| -> Result<u64> {
                setns(&self.0, CloneFlags::CLONE_NEWNET).context("cannot enter the network namespace")?;
                let any = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
                getsockopt(&any, NetworkNamespaceCookie).context("cannot read the network namespace's cookie")
            });
            thread.join().map_err(|_| anyhow!("a thread in the network namespace panicked"))?
        })
    }

    fn configure(&self, commands: &str) -> Result<()> {
        let mut child =
            self.command("ip").args(["-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("ip has no standard input")?.write_all(commands.as_bytes())?;
        let output = child.wait_with_output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cannot make the network: {complaint}of\n{commands}");
        Ok(())
    }

    fn processes(&self) -> Result<Vec<Pid>> {
        let own = self.0.metadata()?;
        let mut processes = Vec::new();
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // A process that ended meanwhile has no namespace.
            let Ok(namespace) = fs::metadata(entry.path().join("ns/net")) else { continue };
            if (namespace.dev(), namespace.ino()) == (own.dev(), own.ino()) {
                processes.push(Pid::from_raw(pid));
            }
        }
        Ok(processes)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A browser's helpers outlive it when a test fails; all of them are the test's own.
        for process in self.processes().unwrap_or_default() {
            // It may have ended by itself.
            let _ = kill(process, Signal::SIGKILL);
        }
    }
}
