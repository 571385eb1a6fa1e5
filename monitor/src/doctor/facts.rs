//! Reading the host.

use std::{fs, os::unix::net::UnixStream, path::Path};

use jiff::civil::Date;
use nix::sys::resource::{Resource, getrlimit};

use super::{Obstacle, checks};
use crate::{
    config::Config,
    data,
    kernel::{
        btf::Btf,
        missing_targets, offsets,
        probes::Rung,
        system::{System, is_cgroup_root},
    },
    ownership::OwnerLookup as _,
};

/// The initial pid namespace (`PROC_PID_INIT_INO` in the kernel's `include/linux/proc_ns.h`).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// What the checks look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Kernel, capabilities, cgroup mount, lockdown.
    pub system: System,
    /// Whether the cgroup that the monitor would attach to is the root of the hierarchy; `None` if there is none.
    pub cgroup_is_root: Option<bool>,
    /// The kernel's type information, or why it cannot be used.
    pub types: Result<TypeInformation, String>,
    /// Whether this process is in the host's pid namespace; `None` if that cannot be told.
    pub in_host_pid_namespace: Option<bool>,
    /// `kernel.bpf_stats_enabled`; `None` if it cannot be read.
    pub bpf_statistics: Option<bool>,
    /// Soft limit of locked memory in bytes; `None` if unlimited or unknown.
    pub locked_memory_bytes: Option<u64>,
    /// Date of the ownership data in force, or why they cannot be used.
    pub data_date: Result<Date, String>,
    /// Today.
    pub today: Date,
    /// A daemon answers at the control socket.
    pub daemon_answers: bool,
}

/// What the kernel's type information gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeInformation {
    /// Tracepoints of the sender rung that this kernel does not have.
    pub missing_tracepoints: Vec<&'static str>,
    /// Functions of the fexit rung that this kernel does not have.
    pub missing_functions: Vec<&'static str>,
    /// Fields of kernel structures that were not found.
    pub unknown_fields: Vec<String>,
}

impl Facts {
    /// Reads the running host. `config` says where the cgroup and the control socket are.
    #[must_use]
    pub fn read(config: &Config) -> Self {
        let mut system = System::read();
        if let Some(cgroup) = &config.kernel.cgroup {
            system.cgroup_root = Some(cgroup.clone());
        }
        let namespace = fs::read_link("/proc/self/ns/pid").ok();
        let statistics = fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").ok();
        let locked_memory_bytes = getrlimit(Resource::RLIMIT_MEMLOCK).ok().map(|(soft, _)| soft);
        Self {
            cgroup_is_root: system.cgroup_root.as_deref().map(is_cgroup_root),
            system,
            types: Btf::of_running_kernel().map(|types| TypeInformation::of(&types)).map_err(|error| error.to_string()),
            in_host_pid_namespace: namespace.map(|namespace| namespace == Path::new(INITIAL_PID_NAMESPACE)),
            bpf_statistics: statistics.map(|text| text.trim() != "0"),
            locked_memory_bytes: locked_memory_bytes.filter(|soft| *soft != nix::libc::RLIM_INFINITY),
            data_date: data_date(config),
            today: jiff::ZonedDateTime::now().date(),
            daemon_answers: UnixStream::connect(&config.control.socket).is_ok(),
        }
    }

    /// Whether the monitor could run here if it had the privileges.
    #[must_use]
    pub fn can_run(&self) -> bool {
        checks::obstacle(self) != Some(Obstacle::System)
    }

    /// The best rung that the kernel's types allow.
    #[must_use]
    pub fn rung(&self) -> Rung {
        match &self.types {
            Ok(types) if types.missing_tracepoints.is_empty() => Rung::Sender,
            Ok(types) if types.missing_functions.is_empty() => Rung::Fexit,
            _ => Rung::Base,
        }
    }

    /// Major and minor number of the kernel's release.
    #[must_use]
    pub fn kernel_version(&self) -> Option<(u32, u32)> {
        let mut numbers = self.system.kernel_release.split(|character: char| !character.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

/// Another user's file is not this user's trouble: the daemon reads it.
fn data_date(config: &Config) -> Result<Date, String> {
    match data::load_or_embedded(&config.data.table) {
        Ok((_, Some(error))) if !error.is_forbidden() => Err(error.to_string()),
        Ok((in_force, _)) => Ok(in_force.table.data_date()),
        Err(error) => Err(error.to_string()),
    }
}

impl TypeInformation {
    fn of(types: &Btf) -> Self {
        Self {
            missing_tracepoints: missing_targets(types, Rung::Sender),
            missing_functions: missing_targets(types, Rung::Fexit),
            unknown_fields: offsets::unknown_fields(&offsets::of_kernel(types)),
        }
    }
}
