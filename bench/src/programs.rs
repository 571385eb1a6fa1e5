//! What the kernel says of its programs: how often each ran, and for how long.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    programs::loaded_programs,
    sys::{Stats, enable_stats},
};
use nix::libc;

use crate::{daemon::Daemon, empty};

/// Runs of one program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Runs {
    /// How often it ran.
    pub(crate) count: u64,
    /// How long in all, in ns.
    pub(crate) time_ns: u64,
}

impl Runs {
    /// Mean time of a run, in ns.
    pub(crate) fn each_ns(self) -> f64 {
        self.time_ns as f64 / self.count.max(1) as f64
    }

    /// What came on top of `before`.
    pub(crate) const fn since(self, before: Self) -> Self {
        Self { count: self.count.saturating_sub(before.count), time_ns: self.time_ns.saturating_sub(before.time_ns) }
    }
}

/// As long as this lives, the kernel takes the time of every run (`BPF_ENABLE_STATS`).
#[derive(Debug)]
pub(crate) struct Timing(#[expect(dead_code, reason = "the kernel stops when the descriptor is closed")] OwnedFd);

impl Timing {
    /// Switches it on.
    pub(crate) fn start() -> Result<Self> {
        Ok(Self(enable_stats(Stats::RunTime).context("the kernel does not take the time of its programs")?))
    }

    /// Switches it on, and measures what taking the time costs by itself and is part of every figure: the mean "time" of
    /// a program that does nothing, in ns.
    pub(crate) fn start_measured() -> Result<(Self, f64)> {
        let timing = Self::start()?;
        let empty = empty::program()?;
        run_often(&empty)?;
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", empty.as_raw_fd()))?;
        let id =
            text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok()).context("no prog_id")?;
        let runs = runs(&[id]).into_values().next().context("the empty program is gone")?;
        ensure!(runs.count > 0, "the kernel did not count the empty program's runs");
        Ok((timing, runs.each_ns()))
    }
}

/// Runs so far of the monitor's programs, by name.
pub(crate) fn runs_of(daemon: &Daemon) -> Result<BTreeMap<String, Runs>> {
    Ok(runs(&daemon.program_ids()?))
}

/// How many programs of this name there are: another monitor on this host would be part of every "without".
pub(crate) fn others(name: &str) -> usize {
    loaded_programs().filter_map(Result::ok).filter(|program| program.name_as_str() == Some(name)).count()
}

fn runs(ids: &[u32]) -> BTreeMap<String, Runs> {
    let mut runs = BTreeMap::new();
    for program in loaded_programs() {
        // Somebody else's may be unloaded meanwhile.
        let Ok(program) = program else { continue };
        if ids.contains(&program.id()) {
            let name = program.name_as_str().unwrap_or("unnamed").to_owned();
            let time_ns = program.run_time().as_nanos() as u64;
            runs.insert(name, Runs { count: program.run_count(), time_ns });
        }
    }
    runs
}

/// `BPF_PROG_TEST_RUN` of `enum bpf_cmd` (`include/uapi/linux/bpf.h`).
const PROG_TEST_RUN: libc::c_long = 10;
/// How often the empty program runs.
const REPEATS: u32 = 1_000_000;

/// The first fields of `union bpf_attr` for running a program.
#[repr(C)]
struct RunAttribute {
    program: u32,
    result: u32,
    data_in_size: u32,
    data_out_size: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

fn run_often(program: &OwnedFd) -> Result<()> {
    let packet = [0_u8; 64];
    let attribute = RunAttribute {
        program: program.as_raw_fd().cast_unsigned(),
        result: 0,
        data_in_size: packet.len() as u32,
        data_out_size: 0,
        data_in: packet.as_ptr() as u64,
        data_out: 0,
        repeat: REPEATS,
        duration: 0,
    };
    // SAFETY: the attribute is initialised, of the size given, and its pointers live through the call.
    let outcome =
        unsafe { libc::syscall(libc::SYS_bpf, PROG_TEST_RUN, &raw const attribute, size_of::<RunAttribute>()) };
    nix::errno::Errno::result(outcome).context("cannot run an empty program")?;
    Ok(())
}
