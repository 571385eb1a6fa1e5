//! How much memory the monitor may take: one number, from which every table gets its bound.
//!
//! Two things keep the number. The tables' bounds are shares of it, by what an entry takes at most in ordinary use; and
//! because such figures are estimates, the daemon looks at its resident memory twice a second and keeps fewer ordinary
//! flows while that is near the number ([`Pressure`]). What is beyond a bound is counted and told as a loss.

use std::num::{NonZeroU32, NonZeroUsize};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::{kernel, names, policy, process, sink, units::ByteSize};

/// The least that leaves room for the tables.
const MIN_BYTES: u64 = 64 << 20;
/// What the program, the embedded data, the allocator's slack and what is in work for a moment take, beside the rings.
const FIXED_BYTES: u64 = 40 << 20;

/// Bytes of an open flow, with its share of the maps that find it and of what describes it.
const FLOW_BYTES: u64 = 1_024;
/// Bytes of a flow that is only remembered as one beyond the bound.
const BEYOND_BYTES: u64 = 24;
/// Bytes of a process with its arguments, lineage and last description.
const PROCESS_BYTES: u64 = 1_280;
/// Bytes of an address with a few names, each as several processes got it.
const ADDRESS_BYTES: u64 = 1_024;
/// Bytes of what was said on a flow.
const SAID_BYTES: u64 = 512;
/// Bytes of a contact that the policy remembers, with what renders its next alert.
const CONTACT_BYTES: u64 = 6 << 10;
/// Bytes of a flow that the policy remembers.
const CONTACT_FLOW_BYTES: u64 = 384;
/// Bytes of a record that waits for an output.
const RECORD_BYTES: u64 = 4 << 10;

/// Settings of the limits: `[limits]` in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Resident memory that the monitor's process stays below: at least 64MiB. The tables of flows, processes, names,
    /// contacts and queues get their bounds from it; where a setting of theirs asks for less, that holds. Flagged flows
    /// come first. An ordinary flow beyond the bound is not among the open ones that `egresswatch flows` tells and has no
    /// records while it moves, is counted as the loss `live_flows_full`, and its last record still has its totals, from
    /// the kernel's table. That table's memory is the kernel's and not part of this: see `kernel.flow_table_entries`.
    #[serde(deserialize_with = "memory")]
    #[schemars(with = "String")]
    pub memory: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Self { memory: ByteSize::from_bytes(256 << 20) }
    }
}

fn memory<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    let size = ByteSize::deserialize(deserializer)?;
    if size.bytes() >= MIN_BYTES {
        return Ok(size);
    }
    Err(D::Error::custom(format!("{size} is too little to run in: write at least \"64MiB\"")))
}

/// The settings of the stages whose tables the limit bounds.
pub struct Bounded<'a> {
    /// The kernel side: its rings are mapped into the process, twice each. Read only.
    pub kernel: &'a kernel::Config,
    /// The process table.
    pub process: &'a mut process::Config,
    /// Names.
    pub names: &'a mut names::Config,
    /// Contacts.
    pub policy: &'a mut policy::Config,
    /// Queues of the outputs.
    pub output: &'a mut sink::Config,
}

/// How many flows the pipeline keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowBounds {
    /// Open flows.
    pub live: usize,
    /// Of these, what only flagged ones may take.
    pub reserved: usize,
    /// Flows beyond that are known to have been counted.
    pub beyond: usize,
}

impl Default for FlowBounds {
    /// No bound but that of the kernel's tables.
    fn default() -> Self {
        Self { live: usize::MAX, reserved: 0, beyond: 1 << 16 }
    }
}

impl Config {
    /// Lowers the settings of the stages to their shares, for so many outputs, and says how many flows may be kept.
    pub fn apply(&self, outputs: usize, settings: &mut Bounded<'_>) -> FlowBounds {
        let rings = [
            settings.kernel.flow_ring_size,
            settings.kernel.flagged_ring_size,
            settings.kernel.process_ring_size,
            settings.kernel.capture_ring_size,
        ];
        let ring_bytes: u64 = rings.iter().map(|size| size.bytes().saturating_mul(2)).sum();
        let variable = self.memory.bytes().saturating_sub(FIXED_BYTES.saturating_add(ring_bytes)).max(8 << 20);
        let share = |percent: u64| variable / 100 * percent;

        let process = &mut *settings.process;
        process.running_processes = process.running_processes.min(entries(share(12), PROCESS_BYTES));
        process.ended_processes = process.ended_processes.min(entries(share(4), PROCESS_BYTES));
        let names = &mut *settings.names;
        names.max_addresses = names.max_addresses.min(non_zero(entries(share(5), ADDRESS_BYTES)));
        names.max_flows = names.max_flows.min(non_zero(entries(share(3), SAID_BYTES)));
        names.opening_memory = names.opening_memory.min(ByteSize::from_bytes(share(3)));
        let policy = &mut *settings.policy;
        policy.max_contacts = policy.max_contacts.min(non_zero(entries(share(8), CONTACT_BYTES)));
        policy.max_flows = policy.max_flows.min(non_zero(entries(share(5), CONTACT_FLOW_BYTES)));
        // A fifth of the queues for what must arrive.
        let records = entries(share(12), RECORD_BYTES) / outputs.max(1);
        let output = &mut *settings.output;
        output.alert_queue_records = output.alert_queue_records.min(queue(records / 5));
        output.flow_queue_records = output.flow_queue_records.min(queue(records / 5 * 4));
        let live = entries(share(44), FLOW_BYTES);
        FlowBounds { live, reserved: live / 4, beyond: entries(share(4), BEYOND_BYTES) }
    }

    /// A watch over what is resident.
    #[must_use]
    pub const fn pressure(&self) -> Pressure {
        Pressure { limit_bytes: self.memory.bytes() }
    }
}

/// What the resident memory asks of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Nothing.
    Ease,
    /// No more flows than there are.
    Hold,
    /// Fewer flows.
    Shed,
}

/// Compares resident memory with the limit.
#[derive(Clone, Copy, Debug)]
pub struct Pressure {
    limit_bytes: u64,
}

impl Pressure {
    /// What so many resident bytes ask for.
    #[must_use]
    pub const fn demand(self, resident_bytes: u64) -> Demand {
        let sixteenth = self.limit_bytes / 16;
        if resident_bytes >= sixteenth * 14 {
            Demand::Shed
        } else if resident_bytes >= sixteenth * 13 {
            Demand::Hold
        } else {
            Demand::Ease
        }
    }
}

fn entries(bytes: u64, each: u64) -> usize {
    usize::try_from(bytes / each).unwrap_or(usize::MAX).max(1)
}

fn non_zero(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN)
}

fn queue(records: usize) -> NonZeroU32 {
    u32::try_from(records).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(memory: u64) -> (FlowBounds, usize, u32) {
        let (mut process, mut names) = (process::Config::default(), names::Config::default());
        let (mut policy, mut output) = (policy::Config::default(), sink::Config::default());
        let mut settings = Bounded {
            kernel: &kernel::Config::default(),
            process: &mut process,
            names: &mut names,
            policy: &mut policy,
            output: &mut output,
        };
        let flows = Config { memory: ByteSize::from_bytes(memory) }.apply(1, &mut settings);
        (flows, process.running_processes, output.flow_queue_records.get())
    }

    #[test]
    fn more_memory_keeps_more_until_the_settings_own_bounds() {
        let (small, default, large) = (bounds(64 << 20), bounds(256 << 20), bounds(4 << 30));
        assert!(small.0.live >= 3_000, "{small:?}");
        assert!(default.0.live >= 30_000 && default.1 > 5_000, "{default:?}");
        assert!(small.0.live < default.0.live && default.0.live < large.0.live);
        assert_eq!((large.1, large.2), (65_536, 4_096), "no more than the settings say");
    }

    #[test]
    fn too_little_is_refused_with_what_to_write() {
        let error = toml::from_str::<Config>("memory = \"63MiB\"").unwrap_err().to_string();
        assert!(error.contains("write at least \"64MiB\""), "{error}");
        assert_eq!(toml::from_str::<Config>("memory = \"64MiB\"").unwrap().memory.bytes(), MIN_BYTES);
    }

    #[test]
    fn memory_near_the_limit_asks_for_fewer_flows() {
        let pressure = Config { memory: ByteSize::from_bytes(160) }.pressure();
        assert_eq!(
            [129, 130, 139, 140, 500].map(|resident| pressure.demand(resident)),
            [Demand::Ease, Demand::Hold, Demand::Hold, Demand::Shed, Demand::Shed]
        );
    }
}
