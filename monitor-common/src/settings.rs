//! Read-only settings that the daemon writes into the object before it is loaded.

/// Settings of the kernel programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A flow that moves bytes reports when this much time passed since its last report.
    pub report_interval_ns: u64,
    /// A flow that moves bytes reports when this many payload bytes moved since its last report.
    pub report_bytes: u64,
    /// The ordinary ring wakes the daemon when this many bytes wait in it; below that the daemon's timer reads it.
    pub wake_bytes: u64,
    /// Not 0: write diagnostics with aya-log.
    pub verbose: u32,
    /// Not 0: capture the payload that names are read from.
    pub capture: u32,
    /// Not 0: typed programs may use socket storage and socket cookies (Linux 5.12 and later).
    pub typed_programs_have_sockets: u32,
    /// Not 0: the send tracepoints run, and want to know which address each thread's send goes to.
    pub notes_addressed_sends: u32,
    /// Not 0: every program may have the current task as a typed pointer, whose fields are loads.
    pub has_typed_task: u32,
    /// Named padding.
    pub padding: u32,
}

impl Settings {
    /// What a daemon without configuration uses.
    pub const DEFAULT: Self = Self {
        report_interval_ns: 1_000_000_000,
        report_bytes: 1 << 20,
        wake_bytes: 1 << 20,
        verbose: 0,
        capture: 1,
        typed_programs_have_sockets: 0,
        notes_addressed_sends: 0,
        has_typed_task: 0,
        padding: 0,
    };
}

const _: () = assert!(size_of::<Settings>() == 48);

// SAFETY: `repr(C)`, only integers, padding is named, any bit pattern is valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Settings {}
