//! The kernel side, seen from the daemon: the only code that knows aya.

pub mod btf;
mod config;
pub mod degradation;
pub mod diagnostics;
mod inventory;
mod load;
mod occupancy;
pub mod offsets;
pub mod probes;
pub mod system;
mod tries;
mod walk;

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    maps::{HashMap, MapData, MapError, PerCpuArray, RingBuf, SkStorage},
};
use monitor_common::{loss::LossReason, packet::PROTOCOL_TCP, record, socket::SocketState};
use tokio::io::unix::AsyncFd;

pub use config::{Config, InventoryChoice, RungChoice};
pub use load::{LoadError, OBJECT, check_privileges, missing_targets};
pub use tries::{Occupancy, Prefixes, Tries};
pub use walk::Cursor;

use self::{degradation::Degradation, occupancy::Positions, probes::Rung, system::System};
use crate::{
    decode::{self, DecodeError},
    event::{BootTime, Event, Flow, FlowKey},
};

/// Why a running kernel side could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A map of the object is missing or of another kind.
    #[error("the kernel object has no usable map {0}; rebuild it with `cargo xtask ebpf`")]
    NoMap(&'static str),
    /// A map operation failed.
    #[error("the kernel map {map} failed: {error}")]
    Map {
        /// The map.
        map: &'static str,
        /// Why.
        #[source]
        error: MapError,
    },
}

/// One of the rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// Processes and cgroups: read first.
    Process,
    /// Captured payload: read before flows, whose names are in it.
    Capture,
    /// Flagged flows: read as soon as they are there.
    Flagged,
    /// Ordinary flows: read on a timer.
    Flow,
}

/// How full a ring is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingFill {
    /// Which ring.
    pub ring: &'static str,
    /// Bytes that are written and not read.
    pub unread_bytes: u64,
    /// Bytes that it holds.
    pub size_bytes: u64,
}

/// Counts of what the kernel side lost, by reason, since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses([u64; LossReason::COUNT as usize]);

impl Losses {
    /// Each reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (LossReason, u64)> + '_ {
        LossReason::ALL.into_iter().zip(self.0.iter().copied())
    }

    /// The count of one reason.
    #[must_use]
    pub fn of(&self, reason: LossReason) -> u64 {
        self.iter().find(|(other, _)| *other == reason).map_or(0, |(_, count)| count)
    }
}

/// The running kernel side. Dropping it detaches every probe.
pub struct Kernel {
    process_ring: RingBuf<MapData>,
    capture_ring: RingBuf<MapData>,
    flagged_ring: RingBuf<MapData>,
    flow_ring: RingBuf<MapData>,
    flows: HashMap<MapData, record::FlowKey, record::FlowState>,
    flagged_flows: HashMap<MapData, record::FlowKey, record::FlowState>,
    /// Until somebody takes them; the programs hold them as well.
    tries: Option<Tries>,
    tables: walk::Tables,
    /// Of each ring, by its name; those that could not be mapped are left out.
    positions: Vec<(&'static str, Positions)>,
    losses: PerCpuArray<MapData, u64>,
    /// The rung that was loaded.
    pub rung: Rung,
    /// What this host does not give.
    pub degradations: Vec<Degradation>,
    /// Names of the probes that are attached.
    pub attached: Vec<&'static str>,
    /// The cgroup they are attached to.
    pub cgroup: PathBuf,
    /// Reads kernel-side diagnostics, if they were asked for.
    pub logger: Option<aya_log::EbpfLogger<diagnostics::ToTracing>>,
    // Owns the programs and their links; last, so that everything that reads is dropped before.
    _ebpf: Ebpf,
}

impl Kernel {
    /// Loads the object, fills the tries of flagged prefixes and attaches the probes, in this order, so that the first
    /// flow is already told apart. `prefixes` are [`Prefixes::sorted`]. `verbose` asks the programs for diagnostics.
    pub fn start(config: &Config, system: &System, prefixes: &Prefixes, verbose: bool) -> Result<Self, StartError> {
        let mut loaded = load::create(config, system, prefixes, verbose)?;
        let capacities = (load::trie_entries(prefixes.ipv4.len()), load::trie_entries(prefixes.ipv6.len()));
        let mut tries = Tries::new(
            take(&mut loaded.ebpf, "FLAGGED_IPV4")?,
            take(&mut loaded.ebpf, "FLAGGED_IPV6")?,
            (capacities.0 as usize, capacities.1 as usize),
        );
        let left_out = tries.add(prefixes)?;
        if left_out > 0 {
            loaded.degradations.push(Degradation::PrefixesLeftOut { count: left_out });
        }
        loaded.attach(system)?;
        let logger = if verbose { diagnostics::logger(&mut loaded.ebpf) } else { None };
        let ebpf = &mut loaded.ebpf;
        let tables = walk::Tables::of(ebpf)?;
        let process_ring: RingBuf<MapData> = take(ebpf, "PROCESS_EVENTS")?;
        let capture_ring: RingBuf<MapData> = take(ebpf, "CAPTURES")?;
        let flagged_ring: RingBuf<MapData> = take(ebpf, "FLAGGED_EVENTS")?;
        let flow_ring: RingBuf<MapData> = take(ebpf, "FLOW_EVENTS")?;
        let positions = [
            ("process", &process_ring, config.process_ring_size),
            ("capture", &capture_ring, config.capture_ring_size),
            ("flagged", &flagged_ring, config.flagged_ring_size),
            ("flow", &flow_ring, config.flow_ring_size),
        ];
        let positions = positions.into_iter().filter_map(|(name, ring, size)| {
            let mapped = Positions::map(ring.as_fd(), u64::from(load::ring_bytes(size)));
            mapped
                .inspect_err(|error| tracing::debug!(name, %error, "how full a ring is cannot be told"))
                .ok()
                .map(|positions| (name, positions))
        });
        let positions = positions.collect();
        let mut flows = take(ebpf, "FLOWS")?;
        let mut flagged_flows = take(ebpf, "FLAGGED_FLOWS")?;
        if loaded.asks_processes {
            let sockets: SkStorage<MapData, SocketState> = take(ebpf, "SOCKETS")?;
            let (flows, flagged_flows, tries) = (&mut flows, &mut flagged_flows, &tries);
            let mut tables = inventory::Tables { sockets, flows, flagged_flows, tries };
            let root = system.cgroup_root.as_deref().unwrap_or(&loaded.cgroup);
            let watched = inventory::Watched::new(root, &loaded.cgroup, loaded.is_whole);
            loaded.degradations.extend(ask_processes(&mut tables, &watched));
        }
        Ok(Self {
            tables,
            positions,
            process_ring,
            capture_ring,
            flagged_ring,
            flow_ring,
            flows,
            flagged_flows,
            tries: Some(tries),
            losses: take(ebpf, "LOSSES")?,
            rung: loaded.rung,
            degradations: loaded.degradations,
            attached: loaded.attached,
            cgroup: loaded.cgroup,
            logger,
            _ebpf: loaded.ebpf,
        })
    }

    /// Becomes readable when a ring has something that should not wait. Needs a running runtime.
    pub fn readiness(&self, ring: Ring) -> io::Result<AsyncFd<OwnedFd>> {
        let descriptor = match ring {
            Ring::Process => self.process_ring.as_fd(),
            Ring::Capture => self.capture_ring.as_fd(),
            Ring::Flagged => self.flagged_ring.as_fd(),
            Ring::Flow => self.flow_ring.as_fd(),
        };
        let descriptor = descriptor.try_clone_to_owned()?;
        // SAFETY: the descriptor is owned by the value that is returned and stays open as long as it.
        unsafe { AsyncFd::register(descriptor) }.map_err(Into::into)
    }

    /// Reads up to `limit` events of a ring into `events`. Says how many records were read, and hands bad ones to
    /// `refused`.
    pub fn read_ring(
        &mut self,
        ring: Ring,
        limit: usize,
        events: &mut Vec<Event>,
        mut refused: impl FnMut(DecodeError),
    ) -> usize {
        let ring = match ring {
            Ring::Process => &mut self.process_ring,
            Ring::Capture => &mut self.capture_ring,
            Ring::Flagged => &mut self.flagged_ring,
            Ring::Flow => &mut self.flow_ring,
        };
        let mut count = 0;
        while count < limit {
            let Some(item) = ring.next() else { break };
            count += 1;
            match decode::decode(&item) {
                Ok(event) => events.push(event),
                Err(error) => refused(error),
            }
        }
        count
    }

    /// How full the rings are.
    pub fn ring_fills(&self) -> impl Iterator<Item = RingFill> + '_ {
        self.positions.iter().map(|(ring, positions)| RingFill {
            ring,
            unread_bytes: positions.unread_bytes(),
            size_bytes: positions.size_bytes,
        })
    }

    /// A flow's present totals; `None` if the kernel side has forgotten it.
    #[must_use]
    pub fn flow(&self, key: &FlowKey, at: BootTime) -> Option<Flow> {
        let (_, state) = self.entry(key)?;
        decode::flow_of_entry(&state, at).ok()
    }

    /// Makes the kernel side forget a flow, after its totals were read.
    pub fn forget(&mut self, key: &FlowKey) {
        let Some((entry, state)) = self.entry(key) else { return };
        let table = if state.flags.flagged == 0 { &mut self.flows } else { &mut self.flagged_flows };
        // Forgotten already, if there is none.
        let _ = table.remove(&entry);
    }

    /// A flow's entry and what it is kept as. A TCP socket's is that of its present connection, which may be another
    /// flow's by now; what a raw socket sends as TCP is kept by its address like everything else.
    fn entry(&self, key: &FlowKey) -> Option<(record::FlowKey, record::FlowState)> {
        let key = decode::record_key(key);
        let stream = (key.protocol == PROTOCOL_TCP).then(|| record::FlowKey::of_stream(key.socket_cookie));
        stream.into_iter().chain([key]).find_map(|entry| {
            let state = self.flows.get(&entry, 0).or_else(|_| self.flagged_flows.get(&entry, 0)).ok()?;
            (state.key == key).then_some((entry, state))
        })
    }

    /// Hands over the tries of flagged prefixes, which can be changed while the programs run.
    pub const fn take_tries(&mut self) -> Option<Tries> {
        self.tries.take()
    }

    /// The next of all flows that the kernel side knows, flagged ones first; `None` at the end. Flows opened meanwhile
    /// may be missing. The cursor begins with its default.
    pub fn next_flows(&self, cursor: &mut Cursor, at: BootTime) -> Option<Vec<Flow>> {
        let entries = self.tables.next(cursor)?;
        Some(entries.iter().filter_map(|state| decode::flow_of_entry(state, at).ok()).collect())
    }

    /// What the kernel side lost since it was loaded.
    pub fn losses(&self) -> Result<Losses, KernelError> {
        let mut losses = Losses::default();
        for (reason, total) in LossReason::ALL.into_iter().zip(losses.0.iter_mut()) {
            let counts =
                self.losses.get(&(reason as u32), 0).map_err(|error| KernelError::Map { map: "LOSSES", error })?;
            *total = counts.iter().sum();
        }
        Ok(losses)
    }
}

/// Why the kernel side could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Its maps are not what the daemon expects.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// Finds older sockets by the descriptors of the processes, and says what is missing.
fn ask_processes(tables: &mut inventory::Tables<'_>, watched: &inventory::Watched) -> Option<Degradation> {
    let started = std::time::Instant::now();
    match inventory::take(tables, Path::new("/proc"), watched) {
        Err(error) => Some(Degradation::NoInventory { cause: format!("/proc cannot be read: {error}") }),
        Ok(outcome) => {
            let took_ms = started.elapsed().as_millis();
            tracing::info!(sockets = outcome.sockets, connections = outcome.connections, took_ms, "older sockets");
            let gaps = outcome.gaps()?;
            Some(if outcome.is_nothing() {
                Degradation::NoInventory { cause: gaps }
            } else {
                Degradation::InventoryInPart { gaps }
            })
        }
    }
}

fn take<T: TryFrom<aya::maps::Map>>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, KernelError> {
    ebpf.take_map(name).and_then(|map| T::try_from(map).ok()).ok_or(KernelError::NoMap(name))
}
