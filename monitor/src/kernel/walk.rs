//! Walking over the flow tables in shares: `BPF_MAP_LOOKUP_BATCH` (Linux 5.6), which reads many entries with one call and
//! keeps its place by bucket, so that entries which come and go meanwhile do not lead it astray.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use aya::{Ebpf, maps::Map};
use monitor_common::record::{FlowKey, FlowState};
use nix::libc;

use super::KernelError;

/// Entries read at a time: more than a bucket ever holds.
const SHARE: usize = 1_024;
/// The command (`enum bpf_cmd`, include/uapi/linux/bpf.h).
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;

/// The tables, flagged flows first.
pub(super) struct Tables([OwnedFd; 2]);

/// How far a walk came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    table: usize,
    bucket: Option<u32>,
}

/// What the tables hold.
type Entries = Vec<FlowState>;

/// The attributes of the call (`union bpf_attr`, `batch`).
#[repr(C)]
struct Batch {
    start: u64,
    next: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

impl Tables {
    /// Before the tables are taken out of the object.
    pub(super) fn of(ebpf: &Ebpf) -> Result<Self, KernelError> {
        let table = |name: &'static str| match ebpf.map(name) {
            Some(Map::HashMap(data)) => data.fd().as_fd().try_clone_to_owned().map_err(|_| KernelError::NoMap(name)),
            _ => Err(KernelError::NoMap(name)),
        };
        Ok(Self([table("FLAGGED_FLOWS")?, table("FLOWS")?]))
    }

    /// The next entries; `None` at the end.
    pub(super) fn next(&self, cursor: &mut Cursor) -> Option<Entries> {
        while let Some(table) = self.0.get(cursor.table) {
            match read(table, cursor.bucket) {
                Ok((entries, Some(bucket))) => {
                    cursor.bucket = Some(bucket);
                    return Some(entries);
                }
                Ok((entries, None)) => {
                    *cursor = Cursor { table: cursor.table + 1, bucket: None };
                    if !entries.is_empty() {
                        return Some(entries);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the rest of a flow table cannot be read");
                    *cursor = Cursor { table: cursor.table + 1, bucket: None };
                }
            }
        }
        None
    }
}

/// Reads from a bucket on; also says which one is next, if there is one.
fn read(table: &OwnedFd, bucket: Option<u32>) -> io::Result<(Entries, Option<u32>)> {
    let mut keys = vec![FlowKey::default(); SHARE];
    let mut values = vec![FlowState::default(); SHARE];
    let (start, mut next) = (bucket.unwrap_or(0), 0_u32);
    let mut batch = Batch {
        start: if bucket.is_some() { (&raw const start).expose_provenance() as u64 } else { 0 },
        next: (&raw mut next).expose_provenance() as u64,
        keys: keys.as_mut_ptr().expose_provenance() as u64,
        values: values.as_mut_ptr().expose_provenance() as u64,
        count: SHARE as u32,
        map: table.as_raw_fd().cast_unsigned(),
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: the kernel writes at most `count` keys and values of the table's sizes, which are those of the two types,
    // and a bucket's number; all of them outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_LOOKUP_BATCH, &raw mut batch, size_of::<Batch>()) };
    let is_end = if result == 0 {
        false
    } else {
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ENOENT) {
            return Err(error);
        }
        true
    };
    let count = (batch.count as usize).min(SHARE);
    values.truncate(count);
    Ok((values, (!is_end).then_some(next)))
}
