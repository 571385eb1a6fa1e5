//! Sockets that are older than the programs, found by way of the processes that hold them: `/proc/<pid>/fd` says which
//! descriptors are sockets, and `pidfd_getfd` (Linux 5.6) lends each of them for a moment. For kernels whose iterators
//! tell nothing of sockets (before 5.12) or that publish no type information, and where only a part of the cgroup
//! hierarchy is watched: an iterator would give a flow, and storage, to every socket of the host.
//!
//! A lent socket answers what netlink (`sock_diag`) would tell, cookie included, in whichever network namespace it is,
//! without entering that; and it is the key of the socket storage, so that the hooks find the process where they look for
//! it: what a listening socket accepts and what a datagram or raw socket sends later have it as well.
//!
//! Missed: sockets that no process holds any more, those of threads with a descriptor table of their own, and the subflows
//! of MPTCP sockets. A packet that passes between the two system calls which read a connection's counters and put its
//! flow into the table is in neither count.

mod holder;
mod socket;

use std::{
    collections::{HashMap as Map, HashSet},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use aya::maps::{HashMap, MapData, MapError, SkStorage};
use monitor_common::{
    record::{FlowFlags, FlowKey, FlowState, Identity},
    socket::SocketState,
};
use nix::{errno::Errno, libc};

use self::{holder::Holder, socket::Socket};
use super::Tries;
use crate::{host, procfs};

/// Flags of a map's update (`include/uapi/linux/bpf.h`).
const BPF_NOEXIST: u64 = 1;
const BPF_EXIST: u64 = 2;

/// Longer than a process takes to end: one that does forbids its files as one does that is protected.
const ENDING: Duration = Duration::from_millis(20);

/// Where what is found goes.
pub(super) struct Tables<'a> {
    pub(super) sockets: SkStorage<MapData, SocketState>,
    pub(super) flows: &'a mut HashMap<MapData, FlowKey, FlowState>,
    pub(super) flagged_flows: &'a mut HashMap<MapData, FlowKey, FlowState>,
    pub(super) tries: &'a Tries,
}

/// What was found, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Sockets whose process is known now.
    pub(super) sockets: usize,
    /// Connections among them that have a flow now.
    pub(super) connections: usize,
    /// Processes whose sockets could not be lent, and why the last of them not.
    pub(super) refused: usize,
    pub(super) refusal: Option<Errno>,
    /// Processes in a `net_cls` or `net_prio` group of their own: lending would move their sockets to this process's.
    pub(super) classed: usize,
    /// Connections by MPTCP, whose bytes travel on sockets that nobody holds.
    pub(super) multipath: usize,
    /// Connections for which the table of flows had no room.
    pub(super) without_room: usize,
}

impl Outcome {
    /// What is missing, in words; `None` if nothing is.
    pub(super) fn gaps(&self) -> Option<String> {
        let mut gaps = Vec::new();
        if self.refused > 0 {
            let cause = self.refusal.map_or_else(String::new, |error| format!(" ({})", error.desc()));
            gaps.push(format!("{} processes do not lend their sockets{cause}", self.refused));
        }
        if self.classed > 0 {
            gaps.push(format!("{} processes are in a net_cls or net_prio group of their own", self.classed));
        }
        if self.multipath > 0 {
            gaps.push(format!("{} connections are MPTCP's", self.multipath));
        }
        if self.without_room > 0 {
            gaps.push(format!("{} connections found no room in the flow table", self.without_room));
        }
        (!gaps.is_empty()).then(|| gaps.join("; "))
    }

    /// Nothing could be had.
    pub(super) const fn is_nothing(&self) -> bool {
        self.sockets == 0 && self.refused > 0
    }
}

/// The part of the unified hierarchy that is watched.
pub(super) struct Watched {
    /// Where the hierarchy is mounted.
    root: PathBuf,
    /// The part's path, as `/proc` tells that of a process; `None` if everything is watched.
    part: Option<PathBuf>,
}

impl Watched {
    /// `watched` is in the hierarchy at `root`, and may be its root as the host has it.
    pub(super) fn new(root: &Path, watched: &Path, is_whole: bool) -> Self {
        let part = watched.strip_prefix(root).ok().filter(|_| !is_whole);
        Self { root: root.to_owned(), part: part.map(|part| Path::new("/").join(part)) }
    }

    /// Whether the process with this folder in `/proc` is in it.
    fn has(&self, folder: &Path) -> bool {
        let Some(part) = &self.part else { return true };
        procfs::unified_cgroup(folder).is_some_and(|path| procfs::is_inside(&path) && path.starts_with(part))
    }
}

/// Finds the sockets that the processes of `proc` hold which are in the `watched` part.
pub(super) fn take(tables: &mut Tables<'_>, proc: &Path, watched: &Watched) -> std::io::Result<Outcome> {
    let mut taking =
        Taking { tables, seen: HashSet::new(), listeners: Map::new(), outcome: Outcome::default(), proc, watched };
    let own_classes = holder::traffic_classes(&proc.join("self"));
    // In order, so that of several holders it is mostly the one that made the socket that is told.
    let refused: Vec<_> =
        procfs::pids(proc)?.into_iter().filter(|pid| taking.process(*pid, own_classes.as_deref()).is_err()).collect();
    if !refused.is_empty() {
        std::thread::sleep(ENDING);
    }
    for pid in refused {
        if let Err(error) = taking.process(pid, own_classes.as_deref())
            && holder::lives(proc, pid)
        {
            taking.outcome.refused += 1;
            taking.outcome.refusal = Some(error);
        }
    }
    Ok(taking.outcome)
}

/// What became of a connection's flow.
enum Opening {
    /// It is in the table.
    New { flagged: bool },
    /// A packet was faster: the next one finds the process with the socket.
    Known,
    /// The table is full.
    WithoutRoom,
    /// The connection is over.
    Over,
}

struct Taking<'a, 'b> {
    tables: &'a mut Tables<'b>,
    /// Inodes of the sockets that were looked at.
    seen: HashSet<u64>,
    /// Ports that are listened at, by network namespace.
    listeners: Map<u64, HashSet<u16>>,
    outcome: Outcome,
    proc: &'a Path,
    watched: &'a Watched,
}

impl Taking<'_, '_> {
    /// Takes stock of one process; an error says that it does not let us.
    fn process(&mut self, pid: u32, own_classes: Option<&str>) -> Result<(), Errno> {
        let folder = self.proc.join(pid.to_string());
        if !self.watched.has(&folder) {
            return Ok(());
        }
        let mut holder = None;
        for (descriptor, inode) in holder::internet_sockets(&folder)? {
            if self.seen.contains(&inode) {
                continue;
            }
            if holder.is_none() {
                if holder::traffic_classes(&folder).as_deref() != own_classes {
                    self.outcome.classed += 1;
                    return Ok(());
                }
                holder = Holder::open(pid, &folder, &self.watched.root)?;
            }
            // It may end at any time.
            let Some(holder) = &holder else { return Ok(()) };
            match holder.lend(descriptor) {
                Ok(lent) => {
                    self.seen.insert(inode);
                    self.socket(&lent, holder.identity, &folder);
                }
                // Closed meanwhile.
                Err(Errno::EBADF) => {}
                Err(Errno::ESRCH) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Leaves what is known of a socket where the hooks look for it.
    fn socket(&mut self, lent: &OwnedFd, mut identity: Identity, folder: &Path) {
        let Some(socket) = Socket::read(lent) else { return };
        identity.network_namespace_cookie = socket.namespace_cookie;
        if socket.is_multipath {
            self.outcome.multipath += usize::from(socket.peer.is_some());
        }
        let mut state = SocketState {
            identity,
            cookie: socket.cookie,
            created_only: u8::from(!socket.is_datagram()),
            is_snapshot: 1,
            ..SocketState::default()
        };
        if let Some(key) = socket.flow_key() {
            let inbound = socket.is_tcp() && self.listened_at(folder, socket.local.1);
            match self.open(lent, &socket, key, identity, inbound) {
                Opening::New { flagged } => {
                    self.outcome.connections += 1;
                    if !socket.is_tcp() {
                        state.flow = key;
                        state.is_asked = 1;
                        state.open_flows = 1;
                        state.has_flagged = u8::from(flagged);
                    }
                }
                Opening::Known | Opening::Over => {}
                Opening::WithoutRoom => self.outcome.without_room += 1,
            }
        }
        if self.store(lent, state) {
            self.outcome.sockets += 1;
        }
    }

    /// Opens a connection's flow, unless a packet did.
    fn open(&mut self, lent: &OwnedFd, socket: &Socket, key: FlowKey, identity: Identity, inbound: bool) -> Opening {
        let flagged = self.tables.tries.flag(&key.remote_address);
        let now_ns = host::boot_time().0;
        let mut flow = FlowState {
            key,
            connector: identity,
            local_address: socket.local.0,
            local_port_be: socket.local.1.to_be(),
            flags: FlowFlags {
                filled: 1,
                midstream: 1,
                snapshot: 1,
                attempted: u8::from(!inbound),
                inbound: u8::from(inbound),
                flagged: u8::from(flagged),
                ..FlowFlags::default()
            },
            first_boot_ns: now_ns,
            last_boot_ns: now_ns,
            reported_boot_ns: now_ns,
            ..FlowState::default()
        };
        // Read last, so that little can pass before the flow is there to count it.
        if socket.is_tcp() {
            let Some(counters) = socket::counters(lent) else { return Opening::Over };
            flow.flags.established = u8::from(counters.is_established);
            if counters.is_established {
                (flow.before_out_bytes, flow.before_in_bytes) = (counters.sent_bytes, counters.received_bytes);
                flow.flags.before_known = 1;
            }
        }
        let table = if flagged { &mut *self.tables.flagged_flows } else { &mut *self.tables.flows };
        let entry = if socket.is_tcp() { FlowKey::of_stream(key.socket_cookie) } else { key };
        match table.insert(entry, flow, BPF_NOEXIST) {
            Ok(()) => Opening::New { flagged },
            Err(error) if errno(&error) == Some(Errno::EEXIST) => Opening::Known,
            Err(_) => Opening::WithoutRoom,
        }
    }

    /// Leaves a socket's state in its storage. What a hook knows better stays.
    fn store(&mut self, lent: &OwnedFd, state: SocketState) -> bool {
        match self.tables.sockets.insert(lent, state, BPF_NOEXIST) {
            Ok(()) => return true,
            Err(error) if errno(&error) == Some(Errno::EEXIST) => {}
            Err(_) => return false,
        }
        let Ok(mut known) = self.tables.sockets.get(lent, 0) else { return false };
        if known.identity.tgid != 0 {
            return true;
        }
        known.identity = state.identity;
        known.cookie = state.cookie;
        known.created_only = state.created_only;
        known.is_snapshot = 1;
        if known.open_flows == 0 {
            (known.flow, known.open_flows, known.has_flagged) = (state.flow, state.open_flows, state.has_flagged);
        }
        // A packet that changes the state at this moment is not seen in it: a flow may then be counted as open or not.
        self.tables.sockets.insert(lent, known, BPF_EXIST).is_ok()
    }

    /// Whether somebody listens at a port, which then was the other side's choice. The process is mostly in the network
    /// namespace of its sockets.
    fn listened_at(&mut self, folder: &Path, port: u16) -> bool {
        let Some(namespace) = holder::network_namespace(folder) else { return false };
        self.listeners.entry(namespace).or_insert_with(|| holder::listened_ports(folder)).contains(&port)
    }
}

fn errno(error: &MapError) -> Option<Errno> {
    let code: Option<libc::c_int> = match error {
        MapError::SyscallError(error) => error.io_error.raw_os_error(),
        MapError::IoError(error) => error.raw_os_error(),
        _ => None,
    };
    code.map(Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_processes_of_the_watched_part_are_asked() {
        let proc = tempfile::tempdir().unwrap();
        let has = |watched: &Watched, cgroup: &str| {
            std::fs::write(proc.path().join("cgroup"), format!("4:net_cls:/\n0::{cgroup}\n")).unwrap();
            watched.has(proc.path())
        };
        let root = Path::new("/sys/fs/cgroup");
        let part = Watched::new(root, &root.join("a/b"), false);
        for (cgroup, expected) in [("/a/b", true), ("/a/b/c", true), ("/a", false), ("/a/bc", false), ("/", false)] {
            assert_eq!(has(&part, cgroup), expected, "{cgroup}");
        }
        let container = Watched::new(root, root, false);
        assert!(has(&container, "/") && has(&container, "/a") && !has(&container, "/../../b"));
        assert!(has(&Watched::new(root, root, true), "/../../b"));
        assert!(!part.has(Path::new("/nowhere")));
    }
}
