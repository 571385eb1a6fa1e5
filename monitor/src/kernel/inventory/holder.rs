//! The processes that hold sockets, as `/proc` shows them.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, BufReader},
    os::{
        fd::{OwnedFd, RawFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
};

use monitor_common::record::{COMM_BYTES, Identity};
use nix::errno::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::{
    event::ProcessKey,
    procfs::{self, Stat},
};

/// Protocols of the Internet families, as sockets are called (`struct proto`): the beginnings of `TCPv6` and its like too.
const PROTOCOLS: [&[u8]; 6] = [b"TCP", b"UDP", b"RAW", b"PING", b"MPTCP", b"SCTP"];
/// State of a listening socket in `/proc/net/tcp` (`include/net/tcp_states.h`).
const LISTENING: &str = "0A";

/// A process whose sockets can be borrowed.
pub(super) struct Holder {
    process: OwnedFd,
    pub(super) identity: Identity,
}

impl Holder {
    /// Opens a process; `None` if it has gone. `folder` is its folder in `/proc`.
    pub(super) fn open(pid: u32, folder: &Path, cgroup: &Path) -> Result<Option<Self>, Errno> {
        let Some(id) = Pid::from_raw(pid.cast_signed()) else { return Ok(None) };
        // First, so that nothing of another process with the same pid is told: with this one's end lending fails.
        let process = match pidfd_open(id, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(Errno::from_raw(error.raw_os_error())),
        };
        Ok(identity(pid, folder, cgroup).map(|identity| Self { process, identity }))
    }

    /// A copy of one of its descriptors.
    pub(super) fn lend(&self, descriptor: RawFd) -> Result<OwnedFd, Errno> {
        pidfd_getfd(&self.process, descriptor, PidfdGetfdFlags::empty())
            .map_err(|error| Errno::from_raw(error.raw_os_error()))
    }
}

/// Whether a process is there and has not ended.
pub(super) fn lives(proc: &Path, pid: u32) -> bool {
    let text = procfs::read(&proc.join(pid.to_string()).join("stat"));
    text.as_deref().and_then(Stat::parse).is_some_and(|stat| !stat.is_zombie)
}

/// Descriptors of a process that are sockets of the Internet families, with the sockets' inodes. What a socket is called
/// is asked of the socket only: a question about another file might hang. A socket without an answer is taken for one.
pub(super) fn internet_sockets(folder: &Path) -> Result<Vec<(RawFd, u64)>, Errno> {
    let entries = match fs::read_dir(folder.join("fd")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(Errno::EACCES),
        // It has ended.
        Err(_) => return Ok(Vec::new()),
    };
    let mut sockets = Vec::new();
    for entry in entries.flatten() {
        match fs::read_link(entry.path()) {
            Ok(target) => sockets.extend(internet_socket(&entry, &target)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(Errno::EACCES),
            // Closed meanwhile.
            Err(_) => {}
        }
    }
    Ok(sockets)
}

/// Descriptor and inode, if it is such a socket.
fn internet_socket(entry: &fs::DirEntry, target: &Path) -> Option<(RawFd, u64)> {
    let descriptor = entry.file_name().to_str()?.parse().ok()?;
    let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
    let mut name = [0_u8; 32];
    let is_other = rustix::fs::getxattr(entry.path(), c"system.sockprotoname", &mut name)
        .is_ok_and(|_| !PROTOCOLS.iter().any(|protocol| name.starts_with(protocol)));
    (!is_other).then_some((descriptor, inode))
}

/// The process's groups in the hierarchies that class sockets (`net_cls`, `net_prio`); `None` without such hierarchies. A
/// socket that is handed to a process of another group is classed anew.
pub(super) fn traffic_classes(folder: &Path) -> Option<String> {
    classes_of(&String::from_utf8_lossy(&procfs::read(&folder.join("cgroup"))?))
}

/// The lines of such hierarchies: `id:controllers:path` (cgroups(7)).
fn classes_of(text: &str) -> Option<String> {
    let is_class = |line: &&str| {
        let controllers = line.split(':').nth(1).unwrap_or_default();
        controllers.split(',').any(|controller| matches!(controller, "net_cls" | "net_prio"))
    };
    let lines: Vec<_> = text.lines().filter(is_class).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// Number of the process's network namespace.
pub(super) fn network_namespace(folder: &Path) -> Option<u64> {
    Some(fs::metadata(folder.join("ns/net")).ok()?.ino())
}

/// Ports at which somebody listens for TCP connections in the process's network namespace.
pub(super) fn listened_ports(folder: &Path) -> HashSet<u16> {
    let files = ["tcp", "tcp6"].into_iter().filter_map(|name| File::open(folder.join("net").join(name)).ok());
    files.flat_map(|file| listening(BufReader::new(file))).collect()
}

/// Ports of the listening sockets in a table (`Documentation/networking/proc_net_tcp.rst`), where they come first.
fn listening(table: impl io::BufRead) -> Vec<u16> {
    let port = |line: String| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, _remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        (state == LISTENING).then(|| u16::from_str_radix(local.rsplit(':').next()?, 16).ok())?
    };
    table.lines().skip(1).map_while(Result::ok).map_while(port).collect()
}

/// Who the process is, as the hooks would say it. `exec_id` is not told: the first send adds it.
fn identity(pid: u32, folder: &Path, cgroup: &Path) -> Option<Identity> {
    let stat = procfs::read(&folder.join("stat"))?;
    let stat = Stat::parse(&stat)?;
    let status = procfs::read(&folder.join("status"))?;
    let status = String::from_utf8_lossy(&status);
    let ids = |key: &str| -> Option<(u32, u32)> {
        let mut numbers = status.lines().find_map(|line| line.strip_prefix(key))?.split_ascii_whitespace();
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    };
    let ((uid, effective_uid), (gid, _)) = (ids("Uid:")?, ids("Gid:")?);
    // As `stat` numbers the file: what `/proc` tells later is compared with it.
    let executable = fs::metadata(folder.join("exe")).ok().map(|metadata| procfs::file_id(&metadata));
    Some(Identity {
        start_boot_ns: stat.start_ticks.saturating_mul(ProcessKey::TICK_NS),
        executable_inode: executable.map_or(0, |file| file.inode),
        executable_device: executable.map_or(0, |file| file.device),
        cgroup_id: procfs::unified_cgroup(folder).and_then(|path| procfs::cgroup_id(cgroup, &path)).unwrap_or(0),
        tgid: pid,
        tid: pid,
        uid,
        gid,
        effective_uid,
        comm: task_name(stat.comm),
        ..Identity::default()
    })
}

/// A task's name as the kernel keeps it: with a zero at its end.
fn task_name(name: &[u8]) -> [u8; COMM_BYTES] {
    let mut comm = [0; COMM_BYTES];
    for (to, from) in comm.iter_mut().take(COMM_BYTES - 1).zip(name) {
        *to = *from;
    }
    comm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_sockets_stand_before_the_connected_ones() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7 1\n   \
                     1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 8 1\n   \
                     2: 0100007F:C001 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 9 1\n";
        assert_eq!(listening(table.as_bytes()), [22, 8_080]);
        assert_eq!(listening("nothing\nof the kind\n".as_bytes()), Vec::<u16>::new());
    }

    #[test]
    fn only_hierarchies_that_class_sockets_are_compared() {
        let hybrid = "5:net_cls,net_prio:/vpn\n4:memory:/a\n0::/user.slice\n";
        assert_eq!(classes_of(hybrid).as_deref(), Some("5:net_cls,net_prio:/vpn"));
        assert_eq!(classes_of("4:memory:/net_cls\n0::/\n"), None);
    }

    #[test]
    fn a_name_is_kept_as_the_kernel_does() {
        assert_eq!(&task_name(b"a) (b)"), b"a) (b)\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(&task_name(b"seventeen letters"), b"seventeen lette\0");
    }

    #[test]
    fn this_process_is_found_with_its_sockets() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let folder = Path::new("/proc/self");
        let found = internet_sockets(folder).unwrap();
        let own = std::os::fd::AsRawFd::as_raw_fd(&socket);
        assert!(found.iter().any(|(descriptor, _)| *descriptor == own), "{found:?} without {own}");
        let identity = identity(std::process::id(), folder, Path::new("/nowhere")).unwrap();
        assert_eq!(identity.tgid, std::process::id());
        assert_ne!((identity.start_boot_ns, identity.executable_inode), (0, 0));
        assert!(procfs::pids(Path::new("/proc")).unwrap().contains(&std::process::id()));
        assert!(lives(Path::new("/proc"), std::process::id()) && !lives(Path::new("/nowhere"), 1));
    }
}
