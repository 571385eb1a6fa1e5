//! Loading and attaching the kernel object: once, with one clear error. Never a retry loop on a refusal.

use std::{
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
};

use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    programs::{
        BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr, FExit, Iter,
        Program, ProgramError, RawTracePoint, SockOps,
    },
};
use monitor_common::{
    offsets::{Offsets, UNKNOWN},
    settings::Settings,
};

use super::{
    Config, InventoryChoice, Prefixes, RungChoice, btf,
    degradation::Degradation,
    offsets,
    probes::{Attachment, INVENTORY, Need, PACKET_SEND, PROBES, Probe, Rung},
    system::{CgroupMistake, System, cgroup_mistake, is_cgroup_root},
};
use crate::units::ByteSize;

/// The kernel object, built from `monitor-ebpf` by `cargo xtask ebpf`.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!("egresswatch.bpf.o");

/// Why the kernel side could not be started. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not allowed.
    #[error("EgressWatch needs root, or the capabilities {missing}: run it with sudo, or grant them in its unit")]
    Privilege {
        /// The capabilities that are missing.
        missing: String,
    },
    /// No unified hierarchy.
    #[error(
        "no cgroup v2 hierarchy is mounted: mount one with `mount -t cgroup2 none /sys/fs/cgroup/unified` (after \
         creating that directory), or boot with systemd.unified_cgroup_hierarchy=1"
    )]
    NoCgroup,
    /// Nothing can be attached to what `kernel.cgroup` names.
    #[error("kernel.cgroup: {0}")]
    Cgroup(CgroupMistake),
    /// Maps could not be made, or the object does not fit.
    #[error("cannot load the kernel object on Linux {release}: {error}")]
    Object {
        /// The kernel.
        release: String,
        /// Why.
        #[source]
        error: Box<aya::EbpfError>,
    },
    /// The kernel refused a vital program.
    #[error(
        "Linux {release} refused the probe {probe}: {cause}\nrun `egresswatch doctor` and report this with its output"
    )]
    Probe {
        /// The kernel.
        release: String,
        /// The program.
        probe: &'static str,
        /// The kernel's error, with the end of the verifier's log.
        cause: String,
    },
    /// The forced rung is not to be had.
    #[error("the rung {rung} is not available on Linux {release}: {cause}; use --rung auto")]
    Rung {
        /// The rung.
        rung: Rung,
        /// The kernel.
        release: String,
        /// Why.
        cause: String,
    },
}

/// A loaded object.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    pub(super) rung: Rung,
    pub(super) degradations: Vec<Degradation>,
    pub(super) attached: Vec<&'static str>,
    pub(super) cgroup: PathBuf,
    /// Everything on the host is watched.
    pub(super) is_whole: bool,
    cgroup_file: File,
    choice: RungChoice,
    has_inventory: bool,
    inventory: InventoryChoice,
    /// Older sockets are to be found by the descriptors of the processes.
    pub(super) asks_processes: bool,
}

/// What the kernel's type information gives.
struct Layout {
    offsets: Offsets,
    /// The rungs above the base whose hooks the kernel has.
    rungs: Vec<Rung>,
    /// Typed programs may use socket storage and cookies.
    has_typed_sockets: bool,
    /// Programs may have the current task as a typed pointer.
    has_typed_task: bool,
    has_inventory: bool,
}

/// A probe that was refused.
struct Refusal {
    probe: &'static str,
    cause: String,
}

/// Creates the maps and readies the programs for the rung chosen; nothing is attached yet.
pub(super) fn create(
    config: &Config,
    system: &System,
    prefixes: &Prefixes,
    verbose: bool,
) -> Result<Loaded, LoadError> {
    check_privileges(system)?;
    let cgroup = config.cgroup.clone().or_else(|| system.cgroup_root.clone()).ok_or(LoadError::NoCgroup)?;
    // The kernel's answer to anything else would be "bad file descriptor".
    if let Some(mistake) = cgroup_mistake(&cgroup) {
        return Err(LoadError::Cgroup(mistake));
    }
    let cgroup_file = File::open(&cgroup)
        .map_err(|error| LoadError::Cgroup(CgroupMistake::Unreadable { path: cgroup.clone(), error }))?;
    let mut degradations = Vec::new();
    let is_whole = is_cgroup_root(&cgroup);
    if !is_whole {
        degradations.push(Degradation::CgroupSubtree { path: cgroup.display().to_string() });
    }
    let mut layout = read_layout(&mut degradations);
    let rung = choose_rung(config.rung, &layout, system, &mut degradations)?;
    let open = |layout: &Layout| {
        open_object(config, layout, rung, prefixes, verbose)
            .map_err(|error| LoadError::Object { release: system.kernel_release.clone(), error: Box::new(error) })
    };
    let mut ebpf = open(&layout)?;
    if layout.has_typed_task
        && let Err(cause) = load_readers(&mut ebpf)
    {
        tracing::debug!(cause, "the kernel lets these programs have no typed task: it is read by a helper");
        layout.has_typed_task = false;
        ebpf = open(&layout)?;
    }
    Ok(Loaded {
        ebpf,
        rung,
        degradations,
        attached: Vec::new(),
        cgroup,
        is_whole,
        cgroup_file,
        choice: config.rung,
        has_inventory: layout.has_inventory,
        inventory: config.inventory,
        asks_processes: false,
    })
}

/// Fails if a capability is missing without which no program can be loaded and attached.
pub fn check_privileges(system: &System) -> Result<(), LoadError> {
    let missing = system.missing_vital_capabilities();
    if missing.is_empty() { Ok(()) } else { Err(LoadError::Privilege { missing: missing.join(", ") }) }
}

impl Loaded {
    /// Attaches every probe of the rung, and then takes stock of the sockets that there are. Where the rung was not asked
    /// for by name and the platform refuses the exits of functions, the base is what remains.
    pub(super) fn attach(&mut self, system: &System) -> Result<(), LoadError> {
        let refused = |refusal: Refusal| LoadError::Probe {
            release: system.kernel_release.clone(),
            probe: refusal.probe,
            cause: refusal.cause,
        };
        let needs_types = self.rung != Rung::Base || self.has_inventory;
        let types = if needs_types { aya::Btf::from_sys_fs().ok() } else { None };
        self.attach_rung(Rung::Base, types.as_ref()).map_err(refused)?;
        if self.rung != Rung::Base
            && let Err(refusal) = self.attach_rung(self.rung, types.as_ref())
        {
            if self.choice != RungChoice::Auto || self.rung != Rung::Fexit {
                return Err(refused(refusal));
            }
            self.descend(&refusal);
        }
        self.tell_unseen_frames();
        self.take_inventory(types.as_ref());
        Ok(())
    }

    /// Attaches the probes that belong to `rung` itself.
    fn attach_rung(&mut self, rung: Rung, types: Option<&aya::Btf>) -> Result<(), Refusal> {
        for probe in PROBES.into_iter().filter(|probe| probe.rung == rung && probe.name != INVENTORY) {
            match attach(&mut self.ebpf, &probe, &self.cgroup_file, types) {
                Ok(()) => self.attached.push(probe.name),
                Err(cause) => match probe.need {
                    Need::Vital => return Err(Refusal { probe: probe.name, cause }),
                    Need::IfThere => tracing::debug!(probe = probe.name, cause, "not on this kernel"),
                    Need::Wanted if probe.name == PACKET_SEND => {
                        self.degradations.push(Degradation::PacketSocketsUnseen { cause });
                    }
                    Need::Wanted => self.degradations.push(Degradation::ProbeMissing { probe: probe.name, cause }),
                },
            }
        }
        Ok(())
    }

    /// Goes back to the base rung.
    fn descend(&mut self, refusal: &Refusal) {
        for probe in PROBES.iter().filter(|probe| probe.rung == self.rung) {
            if let Some(Program::FExit(program)) = self.ebpf.program_mut(probe.name) {
                // It may never have been loaded.
                let _ = program.unload();
            }
            self.attached.retain(|name| *name != probe.name);
        }
        self.rung = Rung::Base;
        let cause = format!("the platform refused the probe {}: {}", refusal.probe, refusal.cause);
        self.degradations.push(Degradation::NoSenderRung { cause });
    }

    fn tell_unseen_frames(&mut self) {
        if self.rung == Rung::Base {
            let cause = "the base rung has no hook for them".to_owned();
            self.degradations.push(Degradation::PacketSocketsUnseen { cause });
        }
    }

    /// Lets the kernel walk over every socket that a process holds. The programs that count are attached already, so
    /// that no connection falls in between. Where it cannot, the processes are to be asked.
    fn take_inventory(&mut self, types: Option<&aya::Btf>) {
        let Some(probe) = PROBES.iter().find(|probe| probe.name == INVENTORY) else { return };
        let outcome = match (self.inventory, types.filter(|_| self.has_inventory)) {
            (InventoryChoice::Off, _) => Err("it was asked to be off".to_owned()),
            (InventoryChoice::Descriptors, _) => Err("the descriptors were asked for".to_owned()),
            // Every socket of the host would get storage and a flow.
            (InventoryChoice::Auto, _) if !self.is_whole => Err("only a part of the hierarchy is watched".to_owned()),
            (_, Some(types)) => run_iterator(&mut self.ebpf, probe, types),
            (_, None) => Err("the kernel does not tell typed programs of sockets".to_owned()),
        };
        let Err(cause) = outcome else { return };
        if matches!(self.inventory, InventoryChoice::Auto | InventoryChoice::Descriptors) {
            tracing::debug!(cause, "no iterator over sockets: the processes are asked");
            self.asks_processes = true;
        } else {
            self.degradations.push(Degradation::NoInventory { cause });
        }
    }
}

/// Runs an iterator's program over everything there is, and unloads it.
fn run_iterator(ebpf: &mut Ebpf, probe: &Probe, types: &aya::Btf) -> Result<(), String> {
    let program = ebpf.program_mut(probe.name).ok_or("the kernel object has no such program")?;
    let program: &mut Iter = program.try_into().map_err(|error: ProgramError| describe(&error))?;
    let ready = program.load(probe.target, types).and_then(|()| program.attach()).map_err(|error| describe(&error))?;
    let link = program.take_link(ready).map_err(|error| describe(&error))?;
    let mut file = link.into_file().map_err(|error| error.to_string())?;
    // The program writes nothing: reading to the end is what makes it run.
    let walked = io::copy(&mut file.by_ref(), &mut io::sink()).map(drop).map_err(|error| error.to_string());
    let unloaded = program.unload().map_err(|error| describe(&error));
    walked.and(unloaded)
}

/// The kernel's layout, and what it offers to typed programs.
fn read_layout(degradations: &mut Vec<Degradation>) -> Layout {
    match btf::Btf::of_running_kernel() {
        Ok(types) => {
            let offsets = offsets::of_kernel(&types);
            let unknown = offsets::unknown_fields(&offsets);
            if !unknown.is_empty() {
                degradations.push(Degradation::FieldUnknown { fields: unknown.join(", ") });
            }
            // The implementations of the helpers that take typed sockets (5.11 and 5.12).
            let has_typed_sockets =
                types.has_function("bpf_sk_storage_get_tracing") && types.has_function("bpf_get_socket_ptr_cookie");
            let known = offsets.sock_family != UNKNOWN && offsets.socket_sk != UNKNOWN;
            let has = |rung: &Rung| known && missing_targets(&types, *rung).is_empty();
            Layout {
                rungs: [Rung::Fexit, Rung::Sender].into_iter().filter(has).collect(),
                has_typed_sockets,
                has_typed_task: types.has_function("bpf_get_current_task_btf"),
                has_inventory: has_typed_sockets && types.has_function("bpf_sock_from_file"),
                offsets,
            }
        }
        Err(error) => {
            degradations.push(Degradation::NoBtf { cause: error.to_string() });
            Layout {
                offsets: Offsets::NONE,
                rungs: Vec::new(),
                has_typed_sockets: false,
                has_typed_task: false,
                has_inventory: false,
            }
        }
    }
}

/// What the vital probes of `rung` hook and this kernel does not have.
#[must_use]
pub fn missing_targets(types: &btf::Btf, rung: Rung) -> Vec<&'static str> {
    PROBES
        .iter()
        .filter(|probe| probe.rung == rung && probe.need == Need::Vital)
        .filter(|probe| match probe.attachment {
            Attachment::TypedTracepoint => !types.has_tracepoint(probe.target),
            Attachment::FunctionExit => !types.has_function(probe.target),
            _ => false,
        })
        .map(|probe| probe.target)
        .collect()
}

fn choose_rung(
    choice: RungChoice,
    layout: &Layout,
    system: &System,
    degradations: &mut Vec<Degradation>,
) -> Result<Rung, LoadError> {
    let no_tracepoint = "the kernel has no typed tracepoint sock_send_length";
    let no_function = "the kernel's type information does not have the send and receive functions";
    let unavailable = |rung, cause: &str| {
        Err(LoadError::Rung { rung, release: system.kernel_release.clone(), cause: cause.to_owned() })
    };
    match choice {
        RungChoice::Auto | RungChoice::Sender if layout.rungs.contains(&Rung::Sender) => Ok(Rung::Sender),
        RungChoice::Auto | RungChoice::Fexit if layout.rungs.contains(&Rung::Fexit) => Ok(Rung::Fexit),
        RungChoice::Sender => unavailable(Rung::Sender, no_tracepoint),
        RungChoice::Fexit => unavailable(Rung::Fexit, no_function),
        RungChoice::Auto => {
            degradations.push(Degradation::NoSenderRung { cause: format!("{no_tracepoint}, and {no_function}") });
            Ok(Rung::Base)
        }
        RungChoice::Base => {
            degradations.push(Degradation::NoSenderRung { cause: String::from("the base rung was asked for") });
            Ok(Rung::Base)
        }
    }
}

fn open_object(
    config: &Config,
    layout: &Layout,
    rung: Rung,
    prefixes: &Prefixes,
    verbose: bool,
) -> Result<Ebpf, aya::EbpfError> {
    let flow_ring_bytes = ring_bytes(config.flow_ring_size);
    let settings = Settings {
        report_interval_ns: config.report_interval.as_ns(),
        report_bytes: config.report_bytes.bytes(),
        wake_bytes: u64::from(flow_ring_bytes) / 8,
        verbose: u32::from(verbose),
        capture: u32::from(config.capture_names),
        typed_programs_have_sockets: u32::from(layout.has_typed_sockets),
        notes_addressed_sends: u32::from(rung == Rung::Sender),
        has_typed_task: u32::from(layout.has_typed_task),
        padding: 0,
    };
    let log_level = if verbose { aya_log::Level::Debug } else { aya_log::Level::Error } as u8;
    EbpfLoader::new()
        // The first attempt is made without a log; only a refusal is repeated with one.
        .verifier_log_level(VerifierLogLevel::STATS)
        .override_global("OFFSETS", &layout.offsets, true)
        .override_global("SETTINGS", &settings, true)
        .override_global(aya_log::LEVEL, &log_level, false)
        .map_max_entries("FLOWS", config.flow_table_entries)
        .map_max_entries("FLAGGED_FLOWS", config.flagged_table_entries)
        .map_max_entries("FLAGGED_IPV4", trie_entries(prefixes.ipv4.len()))
        .map_max_entries("FLAGGED_IPV6", trie_entries(prefixes.ipv6.len()))
        .map_max_entries("FLAGGED_EVENTS", ring_bytes(config.flagged_ring_size))
        .map_max_entries("FLOW_EVENTS", flow_ring_bytes)
        .map_max_entries("PROCESS_EVENTS", ring_bytes(config.process_ring_size))
        .map_max_entries("CAPTURES", ring_bytes(config.capture_ring_size))
        .load(OBJECT)
}

/// Loads the programs of each cgroup hook that reads the current task, so that a kernel that does not let them is known
/// before anything is attached: typed programs had the helper first (5.11), those of cgroup hooks later, and what its
/// pointers may be followed to is the kernel's to say.
fn load_readers(ebpf: &mut Ebpf) -> Result<(), String> {
    for name in ["connect4", "connect6", "sendmsg4", "sendmsg6", "sock_create"] {
        let loaded = match ebpf.program_mut(name) {
            Some(Program::CgroupSockAddr(program)) => program.load(),
            Some(Program::CgroupSock(program)) => program.load(),
            _ => return Err(format!("the kernel object has no program {name}")),
        };
        loaded.map_err(|error| describe(&error))?;
    }
    Ok(())
}

/// A program may be loaded already.
fn ready(loaded: Result<(), ProgramError>) -> Result<(), ProgramError> {
    match loaded {
        Err(ProgramError::AlreadyLoaded) => Ok(()),
        other => other,
    }
}

/// The configuration bounds ring sizes to what fits.
pub(super) fn ring_bytes(size: ByteSize) -> u32 {
    u32::try_from(size.bytes()).unwrap_or(1 << 30)
}

/// Room for the prefixes and, because a trie is allocated entry by entry, for a later list that doubles them.
pub(super) fn trie_entries(prefixes: usize) -> u32 {
    u32::try_from(prefixes.saturating_mul(2)).unwrap_or(u32::MAX).max(1 << 16)
}

fn attach(ebpf: &mut Ebpf, probe: &Probe, cgroup: &File, types: Option<&aya::Btf>) -> Result<(), String> {
    let program = ebpf.program_mut(probe.name).ok_or("the kernel object has no such program")?;
    attach_program(program, probe, cgroup, types).map_err(|error| describe(&error))
}

fn attach_program(
    program: &mut Program,
    probe: &Probe,
    cgroup: &File,
    types: Option<&aya::Btf>,
) -> Result<(), ProgramError> {
    // Cgroup links always stack with the ones that are there; the flag for several is for the older way to attach.
    let mode = CgroupAttachMode::Single;
    match probe.attachment {
        Attachment::SocketAddress => {
            let program: &mut CgroupSockAddr = program.try_into()?;
            ready(program.load())?;
            program.attach(cgroup, mode)?;
        }
        Attachment::Socket => {
            let program: &mut CgroupSock = program.try_into()?;
            ready(program.load())?;
            program.attach(cgroup, mode)?;
        }
        Attachment::PacketOut | Attachment::PacketIn => {
            let direction = if probe.attachment == Attachment::PacketOut {
                CgroupSkbAttachType::Egress
            } else {
                CgroupSkbAttachType::Ingress
            };
            let program: &mut CgroupSkb = program.try_into()?;
            program.load()?;
            program.attach(cgroup, direction, mode)?;
        }
        Attachment::SocketOperations => {
            let program: &mut SockOps = program.try_into()?;
            program.load()?;
            program.attach(cgroup, mode)?;
        }
        Attachment::RawTracepoint => {
            let program: &mut RawTracePoint = program.try_into()?;
            program.load()?;
            program.attach(probe.target)?;
        }
        Attachment::TypedTracepoint => {
            let Some(types) = types else { return Err(ProgramError::NotLoaded) };
            let program: &mut BtfTracePoint = program.try_into()?;
            program.load(probe.target, types)?;
            program.attach()?;
        }
        Attachment::FunctionExit => {
            let Some(types) = types else { return Err(ProgramError::NotLoaded) };
            let program: &mut FExit = program.try_into()?;
            program.load(probe.target, types)?;
            program.attach()?;
        }
        // Not attached but run: see `run_iterator`.
        Attachment::Iterator => return Err(ProgramError::NotAttached),
    }
    Ok(())
}

/// The kernel's error with the last lines of the verifier's log, which are the ones that say why.
fn describe(error: &ProgramError) -> String {
    const LOG_LINES: usize = 12;
    let ProgramError::LoadError { io_error, verifier_log } = error else {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        return text;
    };
    let log = verifier_log.to_string();
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let tail = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default();
    if tail.is_empty() {
        return io_error.to_string();
    }
    format!("{io_error}; the end of the verifier's log:\n  {}", tail.join("\n  "))
}
