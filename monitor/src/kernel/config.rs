//! Settings of the kernel side.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::units::{ByteSize, Duration};

/// Smallest ring: one page of the largest page size in use (64 KiB on some aarch64 kernels).
const RING_MIN_BYTES: u64 = 64 << 10;
/// Largest ring: the kernel refuses more than a `u32` of data area.
const RING_MAX_BYTES: u64 = 1 << 30;
/// Fewest entries of a flow table that make sense.
const TABLE_MIN_ENTRIES: u32 = 1 << 10;
/// Most entries of a flow table: about 6 GiB of kernel memory.
const TABLE_MAX_ENTRIES: u32 = 1 << 24;

/// Settings of the kernel side: `[kernel]` in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which set of kernel programs to attach: "auto" takes the best that this kernel has, "base" only the cgroup
    /// hooks (Linux 5.10 and later), "fexit" also the exits of the send and receive functions (Linux 5.10 and later with
    /// BTF), "sender" also the socket send and receive tracepoints (Linux 6.3 and later with BTF). The last two refuse to
    /// start without what they name.
    pub rung: RungChoice,
    /// How sockets that are older than the monitor are found when it starts: "auto" takes the kernel's iterator (Linux 5.12
    /// and later, with BTF) and, elsewhere or if only a part of the cgroup hierarchy is watched, borrows each socket for a
    /// moment from the process that holds it, "iterator" and "descriptors" do only the one or the other, "off" leaves such
    /// sockets to their next packet.
    pub inventory: InventoryChoice,
    /// Mount point of the cgroup v2 hierarchy to attach to. Found in /proc/self/mountinfo if not given.
    #[schemars(example = "/sys/fs/cgroup")]
    pub cgroup: Option<PathBuf>,
    /// A flow that moves bytes is reported at least this often, and a flow's totals are exact this long after its
    /// last byte. 100ms to 5s.
    #[serde(deserialize_with = "report_interval")]
    #[schemars(with = "String")]
    pub report_interval: Duration,
    /// A flow is also reported each time this many payload bytes moved.
    #[schemars(with = "String")]
    pub report_bytes: ByteSize,
    /// Entries of the kernel's table of ordinary flows. Each takes about 450 bytes of kernel memory, from the start on. A
    /// flow that finds the table full is reported once, without counters, and counted as a loss.
    #[serde(deserialize_with = "table_entries")]
    pub flow_table_entries: u32,
    /// Entries of the kernel's table of flagged flows, which ordinary flows can never fill. They take memory likewise.
    #[serde(deserialize_with = "table_entries")]
    pub flagged_table_entries: u32,
    /// Size of the ring that carries reports of ordinary flows: a power of two from 64KiB to 1GiB. A full ring delays
    /// reports, it loses no totals. Each ring counts twice in the monitor's resident memory, because it is mapped twice
    /// in a row.
    #[serde(deserialize_with = "ring_size")]
    #[schemars(with = "String")]
    pub flow_ring_size: ByteSize,
    /// Size of the ring that carries reports of flagged flows only.
    #[serde(deserialize_with = "ring_size")]
    #[schemars(with = "String")]
    pub flagged_ring_size: ByteSize,
    /// Size of the ring that carries process events (exec, fork, exit) and new cgroups.
    #[serde(deserialize_with = "ring_size")]
    #[schemars(with = "String")]
    pub process_ring_size: ByteSize,
    /// Capture DNS messages and the first bytes that a program sends on a connection, to read names from them. What is
    /// captured never leaves the monitor except as the name.
    pub capture_names: bool,
    /// Size of the ring that carries them. A full one costs names, and is reported.
    #[serde(deserialize_with = "ring_size")]
    #[schemars(with = "String")]
    pub capture_ring_size: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rung: RungChoice::Auto,
            inventory: InventoryChoice::Auto,
            cgroup: None,
            report_interval: Duration::from_secs(1),
            report_bytes: ByteSize::from_bytes(1 << 20),
            flow_table_entries: 1 << 15,
            flagged_table_entries: 1 << 15,
            flow_ring_size: ByteSize::from_bytes(2 << 20),
            flagged_ring_size: ByteSize::from_bytes(1 << 20),
            process_ring_size: ByteSize::from_bytes(2 << 20),
            capture_names: true,
            capture_ring_size: ByteSize::from_bytes(2 << 20),
        }
    }
}

/// Which set of kernel programs to attach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RungChoice {
    /// The best rung that this kernel has.
    #[default]
    Auto,
    /// Only the cgroup hooks: Linux 5.10 and later.
    Base,
    /// The cgroup hooks and the exits of the send and receive functions: Linux 5.10 and later.
    Fexit,
    /// The cgroup hooks and the socket send and receive tracepoints: Linux 6.3 and later.
    Sender,
}

/// How sockets that are older than the monitor are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InventoryChoice {
    /// The kernel's iterator, or the processes' descriptors where there is none.
    #[default]
    Auto,
    /// Only the kernel's iterator: Linux 5.12 and later, with BTF.
    Iterator,
    /// Only the processes' descriptors.
    Descriptors,
    /// Not at all.
    Off,
}

fn report_interval<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let interval = Duration::deserialize(deserializer)?;
    if (Duration::from_millis(100)..=Duration::from_secs(5)).contains(&interval) {
        return Ok(interval);
    }
    Err(D::Error::custom(format!("{interval} is out of range: write a duration from \"100ms\" to \"5s\"")))
}

fn table_entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let entries = u32::deserialize(deserializer)?;
    if (TABLE_MIN_ENTRIES..=TABLE_MAX_ENTRIES).contains(&entries) {
        return Ok(entries);
    }
    Err(D::Error::custom(format!(
        "{entries} entries is out of range: write a number from {TABLE_MIN_ENTRIES} to {TABLE_MAX_ENTRIES}"
    )))
}

fn ring_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    let size = ByteSize::deserialize(deserializer)?;
    if size.bytes().is_power_of_two() && (RING_MIN_BYTES..=RING_MAX_BYTES).contains(&size.bytes()) {
        return Ok(size);
    }
    Err(D::Error::custom(format!("{size} is no ring size: write a power of two from \"64KiB\" to \"1GiB\"")))
}
