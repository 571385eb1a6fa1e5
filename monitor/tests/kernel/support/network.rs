//! A network namespace of a test's own, in which this machine is the whole Internet.

use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    sync::atomic::{AtomicU16, Ordering},
    thread,
};

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns, unshare};

use super::netlink;

/// Where clients speak from: private addresses, as behind any router.
pub(crate) const LOCAL_IPV4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 77, 2));
/// The same for IPv6.
pub(crate) const LOCAL_IPV6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2));

/// Addresses of the two ends of a cable.
pub(crate) const CABLE_IPV4: Ipv4Addr = Ipv4Addr::new(192, 168, 78, 1);
const CABLE_IPV4_PEER: Ipv4Addr = Ipv4Addr::new(192, 168, 78, 2);

/// The loopback interface's own default.
const LOOPBACK_PACKET_BYTES: u32 = 65_536;

/// A fresh network namespace. Its only interface is the loopback; every address is local to it, so that any real-world
/// address can be served and no packet can leave. It goes away with its last socket and process.
pub(crate) struct Network {
    namespace: File,
    next_port: AtomicU16,
}

impl Network {
    /// A network whose interface takes packets of the usual loopback size.
    pub(crate) fn new() -> Result<Self> {
        Self::with_packets_of(LOOPBACK_PACKET_BYTES)
    }

    /// A network whose interface takes IP packets of up to `packet_bytes`.
    pub(crate) fn with_packets_of(packet_bytes: u32) -> Result<Self> {
        let made = thread::spawn(move || -> Result<File> {
            unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
            netlink::set_up_loopback(packet_bytes)?;
            for source in [LOCAL_IPV4, LOCAL_IPV6] {
                netlink::add_address(netlink::LOOPBACK, source)?;
                netlink::own_every_address(source)?;
            }
            // Data in the first packet, without the cookie of an earlier connection: 1 and 2 switch it on for clients and
            // servers, 4 and 0x200 do without cookies, 0x400 asks no listener. (Documentation/networking/ip-sysctl.rst)
            fs::write("/proc/sys/net/ipv4/tcp_fastopen", "1543").context("cannot permit TCP Fast Open")?;
            // What a packet socket writes comes in by the interface, from an address that is local too.
            fs::write("/proc/sys/net/ipv4/conf/all/accept_local", "1").context("cannot accept local addresses")?;
            // Ping sockets are for nobody by default; the file is the one of this thread's namespace.
            fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").context("cannot permit ping sockets")?;
            File::open("/proc/thread-self/ns/net").context("cannot open the network namespace")
        });
        let namespace = made.join().map_err(|_| anyhow!("the thread that makes the network panicked"))??;
        Ok(Self { namespace, next_port: AtomicU16::new(first_port()) })
    }

    /// Gives the loopback interface an address, for protocols that answer from no other: TCP and UDP do not care.
    pub(crate) fn add_address(&self, address: IpAddr) -> Result<()> {
        self.inside(|| netlink::add_address(netlink::LOOPBACK, address))
    }

    /// Adds an interface that is no loopback: one end of a virtual cable, whose other end nobody listens to. Returns its
    /// name.
    pub(crate) fn add_interface(&self) -> Result<&'static str> {
        const NAMES: [&str; 2] = ["cable0", "cable1"];
        self.inside(|| {
            // Nobody else is there who could have the address: no duplicate address detection.
            fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").context("cannot use addresses at once")?;
            netlink::add_cable(NAMES)?;
            for (name, address) in NAMES.into_iter().zip([CABLE_IPV4, CABLE_IPV4_PEER]) {
                netlink::set_up_interface(name, IpAddr::V4(address))?;
            }
            Ok(NAMES[0])
        })
    }

    /// A counter of the namespace: of `/proc/net/snmp` or `netstat`, where each line of names is followed by one of
    /// numbers.
    pub(crate) fn counter(&self, file: &str, name: &str) -> Result<u64> {
        let text = self.inside(|| Ok(fs::read_to_string(Path::new("/proc/thread-self/net").join(file))?))?;
        let lines: Vec<_> = text.lines().collect();
        let found = lines.chunks(2).find_map(|pair| {
            let at = pair.first()?.split_whitespace().position(|candidate| candidate == name)?;
            pair.get(1)?.split_whitespace().nth(at)?.parse().ok()
        });
        found.with_context(|| format!("no counter {name}"))
    }

    /// A port that nothing else in this network serves.
    pub(crate) fn port(&self) -> u16 {
        self.next_port.fetch_add(1, Ordering::Relaxed)
    }

    /// Does `work` in the namespace, in a thread of its own. Sockets made there stay there, whoever uses them.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.namespace, CloneFlags::CLONE_NEWNET).context("cannot enter the network namespace")?;
                work()
            });
            thread.join().map_err(|_| anyhow!("a thread in the network namespace panicked"))?
        })
    }
}

/// A port of this network's own, so that records of another run on this machine are told apart.
fn first_port() -> u16 {
    static NETWORKS: AtomicU16 = AtomicU16::new(0);
    let process = std::process::id() as u16;
    // Below the ports that the kernel gives to clients, and room for a few servers in each network.
    1_024 + process.wrapping_mul(97).wrapping_add(NETWORKS.fetch_add(8, Ordering::Relaxed)) % 30_000
}

impl AsFd for Network {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}
