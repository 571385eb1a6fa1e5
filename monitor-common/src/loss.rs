//! Reasons for which the kernel side can lose something: indices into the per-CPU loss counters.

/// Each place in the kernel that can lose something has one reason of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum LossReason {
    /// The flow table was full: the flow is reported once, without counters.
    FlowTableFull = 0,
    /// The table of flagged flows was full: as above, for a flagged flow.
    FlaggedTableFull = 1,
    /// The ring of flagged flows was full: the report is late, its totals are read from the table.
    FlaggedRingFull = 2,
    /// The ring of ordinary flows was full: the report is late, its totals are read from the table.
    FlowRingFull = 3,
    /// The ring of process events was full: the daemon falls back to `/proc`.
    ProcessRingFull = 4,
    /// Socket storage could not be had: the flow's process is taken from the next hook that knows it.
    SocketStorageFull = 5,
    /// A packet's headers could not be read: its bytes are not counted.
    PacketUnreadable = 6,
    /// The ring of captured payload was full: the names in it stay unknown.
    CaptureRingFull = 7,
}

impl LossReason {
    /// How many reasons there are: the size of the counter array.
    pub const COUNT: u32 = 8;

    /// Every reason, in the order of its index.
    pub const ALL: [Self; Self::COUNT as usize] = [
        Self::FlowTableFull,
        Self::FlaggedTableFull,
        Self::FlaggedRingFull,
        Self::FlowRingFull,
        Self::ProcessRingFull,
        Self::SocketStorageFull,
        Self::PacketUnreadable,
        Self::CaptureRingFull,
    ];

    /// The stable name used in records, metrics and documents.
    #[must_use]
    pub const fn as_token(self) -> &'static str {
        match self {
            Self::FlowTableFull => "flow_table_full",
            Self::FlaggedTableFull => "flagged_table_full",
            Self::FlaggedRingFull => "flagged_ring_full",
            Self::FlowRingFull => "flow_ring_full",
            Self::ProcessRingFull => "process_ring_full",
            Self::SocketStorageFull => "socket_storage_full",
            Self::PacketUnreadable => "packet_unreadable",
            Self::CaptureRingFull => "capture_ring_full",
        }
    }

    /// Whether reports on flows are missing, which reading the flow table makes up for.
    #[must_use]
    pub const fn is_flow_report(self) -> bool {
        matches!(self, Self::FlaggedRingFull | Self::FlowRingFull)
    }

    /// What happened to the data: `true` where it was only delayed and the tables still hold the truth.
    #[must_use]
    pub const fn is_recoverable(self) -> bool {
        matches!(self, Self::FlaggedRingFull | Self::FlowRingFull | Self::ProcessRingFull | Self::SocketStorageFull)
    }
}

#[cfg(test)]
mod tests {
    use super::LossReason;

    #[test]
    fn every_reason_sits_at_its_index_and_has_a_name_of_its_own() {
        let mut names = std::collections::BTreeSet::new();
        for (index, reason) in LossReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            assert!(names.insert(reason.as_token()));
        }
    }
}
