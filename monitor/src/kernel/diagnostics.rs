//! Diagnostics that the kernel programs write with aya-log, handed on to the daemon's own log.

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Level, Log, Metadata, Record};

/// The reader of the programs' diagnostics; `None`, with a warning, if the object has none.
pub(super) fn logger(ebpf: &mut Ebpf) -> Option<EbpfLogger<ToTracing>> {
    match EbpfLogger::init_with_logger(ebpf, ToTracing) {
        Ok(logger) => Some(logger),
        Err(error) => {
            tracing::warn!(%error, "kernel-side diagnostics cannot be read");
            None
        }
    }
}

/// Turns what aya-log reads into tracing events.
#[derive(Clone, Copy, Debug)]
pub struct ToTracing;

impl Log for ToTracing {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let message = record.args();
        match record.level() {
            Level::Error => tracing::error!(target: "egresswatch::ebpf", "{message}"),
            Level::Warn => tracing::warn!(target: "egresswatch::ebpf", "{message}"),
            Level::Info => tracing::info!(target: "egresswatch::ebpf", "{message}"),
            Level::Debug | Level::Trace => tracing::debug!(target: "egresswatch::ebpf", "{message}"),
        }
    }

    fn flush(&self) {}
}
