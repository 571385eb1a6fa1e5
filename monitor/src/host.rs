//! Facts about this host that stand in every record, read once at start.

use std::fs;

use nix::sys::{time::TimeValLike as _, utsname::uname};
use nix::time::{ClockId, clock_gettime};

use crate::{
    alert::{WallClock, input::Host},
    event::BootTime,
};

/// Reads the facts. What cannot be read is `None`.
#[must_use]
pub fn read() -> Host {
    let os_release = fs::read_to_string("/etc/os-release")
        .or_else(|_| fs::read_to_string("/usr/lib/os-release"))
        .unwrap_or_default();
    let name = uname().ok();
    let text = |value: &std::ffi::OsStr| value.to_string_lossy().into_owned();
    Host {
        hostname: name.as_ref().map(|name| text(name.nodename())).unwrap_or_default(),
        machine_id: line_of("/etc/machine-id"),
        boot_id: line_of("/proc/sys/kernel/random/boot_id"),
        architecture: name.as_ref().map(|name| text(name.machine())),
        kernel: name.as_ref().map(|name| text(name.release())),
        os_name: os_release_value(&os_release, "NAME"),
        os_platform: os_release_value(&os_release, "ID"),
        os_version: os_release_value(&os_release, "VERSION_ID"),
    }
}

/// Now, on the clock that the kernel programs use.
#[must_use]
pub fn boot_time() -> BootTime {
    BootTime(clock_ns(ClockId::CLOCK_BOOTTIME))
}

/// The way from boot time to wall-clock time, measured now.
#[must_use]
pub fn wall_clock() -> WallClock {
    let boot_ns = clock_ns(ClockId::CLOCK_BOOTTIME);
    WallClock { boot_wall_ns: i128::from(clock_ns(ClockId::CLOCK_REALTIME)) - i128::from(boot_ns) }
}

fn clock_ns(clock: ClockId) -> u64 {
    // Both clocks exist since Linux 2.6.39; a clock before its epoch counts as standing at it.
    clock_gettime(clock).map_or(0, |time| u64::try_from(time.num_nanoseconds()).unwrap_or(0))
}

fn line_of(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// A value of an `os-release` file (os-release(5)), without its quotes.
fn os_release_value(text: &str, key: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?.trim();
    let value = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(value);
    (!value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_values_lose_their_quotes() {
        let text = "NAME=\"Debian GNU/Linux\"\nVERSION_ID='12'\nID=debian\nEMPTY=\n";
        assert_eq!(os_release_value(text, "NAME").as_deref(), Some("Debian GNU/Linux"));
        assert_eq!(os_release_value(text, "VERSION_ID").as_deref(), Some("12"));
        assert_eq!(os_release_value(text, "ID").as_deref(), Some("debian"));
        assert_eq!(os_release_value(text, "EMPTY"), None);
        assert_eq!(os_release_value(text, "MISSING"), None);
    }

    #[test]
    fn the_clocks_run() {
        let before = boot_time();
        assert!(before.0 > 0);
        assert!(boot_time() >= before);
        let wall_ns = wall_clock().at(before).unix_ns();
        assert!(wall_ns > 1_700_000_000_000_000_000, "{wall_ns}");
    }
}
