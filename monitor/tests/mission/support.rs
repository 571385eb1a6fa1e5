//! What the kernel tests stand on too: the monitor under test, and what it says.

#[path = "../kernel/support/host.rs"]
mod host;
#[path = "../kernel/support/monitor.rs"]
mod monitor;
#[path = "../kernel/support/record.rs"]
mod record;

pub(crate) use host::{Rung, is_emulated, is_root, patience};
pub(crate) use monitor::{Monitor, Settings, View};
pub(crate) use record::Record;
