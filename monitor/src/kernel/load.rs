//! Loading and attaching the kernel object: once, with one clear error. Never a retry loop on a refusal.

use std::{fs::File, path::PathBuf};

use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    programs::{
        BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr, Program,
        ProgramError, RawTracePoint, SockOps,
    },
};
use monitor_common::{
    offsets::{Offsets, UNKNOWN},
    settings::Settings,
};

use super::{
    Config, Prefixes, RungChoice, btf,
    degradation::Degradation,
    offsets,
    probes::{Attachment, PROBES, Probe, Rung},
    system::{System, is_cgroup_root},
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
    /// The hierarchy's root cannot be opened.
    #[error("cannot open the cgroup {path}: {error}; set kernel.cgroup to the mount point of cgroup v2")]
    Cgroup {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
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
    #[error("the sender rung is not available on Linux {release}: {cause}; use --rung auto")]
    Rung {
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
    cgroup_file: File,
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
    let cgroup_file = File::open(&cgroup).map_err(|error| LoadError::Cgroup { path: cgroup.clone(), error })?;
    let mut degradations = Vec::new();
    if !is_cgroup_root(&cgroup) {
        degradations.push(Degradation::CgroupSubtree { path: cgroup.display().to_string() });
    }
    let (offsets, has_sender) = read_layout(&mut degradations);
    let rung = choose_rung(config.rung, has_sender, system, &mut degradations)?;
    let ebpf = open_object(config, &offsets, prefixes, verbose)
        .map_err(|error| LoadError::Object { release: system.kernel_release.clone(), error: Box::new(error) })?;
    Ok(Loaded { ebpf, rung, degradations, attached: Vec::new(), cgroup, cgroup_file })
}

/// Fails if a capability is missing without which no program can be loaded and attached.
pub fn check_privileges(system: &System) -> Result<(), LoadError> {
    let missing = system.missing_vital_capabilities();
    if missing.is_empty() { Ok(()) } else { Err(LoadError::Privilege { missing: missing.join(", ") }) }
}

impl Loaded {
    /// Attaches every probe of the rung.
    pub(super) fn attach(&mut self, system: &System) -> Result<(), LoadError> {
        let types = if self.rung == Rung::Sender { aya::Btf::from_sys_fs().ok() } else { None };
        for probe in PROBES.into_iter().filter(|probe| probe.rung <= self.rung) {
            match attach(&mut self.ebpf, &probe, &self.cgroup_file, types.as_ref()) {
                Ok(()) => self.attached.push(probe.name),
                Err(cause) if probe.is_vital => {
                    return Err(LoadError::Probe { release: system.kernel_release.clone(), probe: probe.name, cause });
                }
                Err(cause) => self.degradations.push(Degradation::ProbeMissing { probe: probe.name, cause }),
            }
        }
        Ok(())
    }
}

/// The kernel's layout, and whether it offers the sender rung's tracepoints.
fn read_layout(degradations: &mut Vec<Degradation>) -> (Offsets, bool) {
    match btf::Btf::of_running_kernel() {
        Ok(types) => {
            let offsets = offsets::of_kernel(&types);
            let unknown = offsets::unknown_fields(&offsets);
            if !unknown.is_empty() {
                degradations.push(Degradation::FieldUnknown { fields: unknown.join(", ") });
            }
            let has_sender = offsets.sock_family != UNKNOWN
                && types.has_tracepoint("sock_send_length")
                && types.has_tracepoint("sock_recv_length");
            (offsets, has_sender)
        }
        Err(error) => {
            degradations.push(Degradation::NoBtf { cause: error.to_string() });
            (Offsets::NONE, false)
        }
    }
}

fn choose_rung(
    choice: RungChoice,
    has_sender: bool,
    system: &System,
    degradations: &mut Vec<Degradation>,
) -> Result<Rung, LoadError> {
    let cause = "the kernel has no typed tracepoint sock_send_length";
    match (choice, has_sender) {
        (RungChoice::Auto | RungChoice::Sender, true) => Ok(Rung::Sender),
        (RungChoice::Sender, false) => {
            Err(LoadError::Rung { release: system.kernel_release.clone(), cause: cause.to_owned() })
        }
        (RungChoice::Auto, false) => {
            degradations.push(Degradation::NoSenderRung { cause: cause.to_owned() });
            Ok(Rung::Base)
        }
        (RungChoice::Base, _) => {
            degradations.push(Degradation::NoSenderRung { cause: String::from("the base rung was asked for") });
            Ok(Rung::Base)
        }
    }
}

fn open_object(config: &Config, offsets: &Offsets, prefixes: &Prefixes, verbose: bool) -> Result<Ebpf, aya::EbpfError> {
    let flow_ring_bytes = ring_bytes(config.flow_ring_size);
    let settings = Settings {
        report_interval_ns: config.report_interval.as_ns(),
        report_bytes: config.report_bytes.bytes(),
        wake_bytes: u64::from(flow_ring_bytes) / 8,
        verbose: u32::from(verbose),
        capture: u32::from(config.capture_names),
    };
    let log_level = if verbose { aya_log::Level::Debug } else { aya_log::Level::Error } as u8;
    EbpfLoader::new()
        // The first attempt is made without a log; only a refusal is repeated with one.
        .verifier_log_level(VerifierLogLevel::STATS)
        .override_global("OFFSETS", offsets, true)
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

/// The configuration bounds ring sizes to what fits.
fn ring_bytes(size: ByteSize) -> u32 {
    u32::try_from(size.bytes()).unwrap_or(1 << 30)
}

/// Room for the prefixes and, because a trie is allocated entry by entry, for a later list that doubles them.
fn trie_entries(prefixes: usize) -> u32 {
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
            program.load()?;
            program.attach(cgroup, mode)?;
        }
        Attachment::Socket => {
            let program: &mut CgroupSock = program.try_into()?;
            program.load()?;
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
            program.attach(probe.tracepoint)?;
        }
        Attachment::TypedTracepoint => {
            let Some(types) = types else { return Err(ProgramError::NotLoaded) };
            let program: &mut BtfTracePoint = program.try_into()?;
            program.load(probe.tracepoint, types)?;
            program.attach()?;
        }
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
