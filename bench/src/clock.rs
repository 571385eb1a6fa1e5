//! The clocks that everything here is measured by.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::{
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

/// Nanoseconds of the clock that all processes of this machine share and nobody sets.
pub(crate) fn monotonic_ns() -> u64 {
    // It exists on every Linux, so that there is no error to tell.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| Duration::from(time).as_nanos() as u64)
}

/// CPU time of the calling thread in ns: its own, its system calls' and the packet work done on its behalf.
pub(crate) fn thread_cpu_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(0, |time| Duration::from(time).as_nanos() as u64)
}

/// CPU time of all threads of a process in ns, ended ones included: what `/proc/PID/stat` shows in ticks of 10 ms.
pub(crate) fn process_cpu_ns(pid: u32) -> Result<u64> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid.cast_signed())).context("the process has no clock")?;
    let time = clock_gettime(clock).context("cannot read the clock of the process")?;
    Ok(Duration::from(time).as_nanos() as u64)
}
