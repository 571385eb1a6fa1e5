//! Own fields of a flow: `egresswatch.flow.*`.

use schemars::JsonSchema;
use serde::Serialize;

use super::Timestamp;

/// The flow, seen from this host: `out` left it, `in` arrived, whichever side opened the flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FlowFields {
    /// Id of the flow, the same in all its records, unique in this boot (`host.boot.id`).
    pub id: String,
    /// Why the kernel reported it.
    pub report: FlowReport,
    /// What is true of it.
    pub facts: Vec<FlowFact>,
    /// What limits the numbers or the process named here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub caveats: Vec<FlowCaveat>,
    /// What left the host; absent where it was not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<DirectionFields>,
    /// What arrived; absent where it was not counted.
    #[serde(rename = "in")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inward: Option<DirectionFields>,
    /// End of the TCP handshake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub established: Option<Timestamp>,
    /// First payload out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_sent: Option<Timestamp>,
    /// Last packet.
    pub last: Timestamp,
    /// Where a packet socket writes its frames; absent for every other flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<LinkFields>,
    /// Cookie of the network namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_namespace_cookie: Option<u64>,
}

/// Values of `egresswatch.flow.report`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FlowReport {
    /// A process asked for the flow.
    Attempt,
    /// The TCP handshake completed.
    Established,
    /// The first payload moved.
    FirstPayload,
    /// The schedule was due.
    Progress,
    /// The flow ended.
    Closed,
    /// The sending process changed or became known.
    Sender,
    /// Read from the flow table.
    Read,
}

/// Values of `egresswatch.flow.facts`. A UDP `connect` is an attempt that sent nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FlowFact {
    /// A process asked for it with `connect` or an addressed send.
    Attempted,
    /// The TCP handshake completed.
    Established,
    /// The TCP attempt ended without a handshake.
    Failed,
    /// Payload left the host.
    Sent,
    /// Payload arrived.
    Received,
    /// The process released the socket.
    Released,
    /// It ended.
    Closed,
    /// The remote address is in the flagged prefixes that the kernel side holds.
    Flagged,
}

/// Values of `egresswatch.flow.caveats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FlowCaveat {
    /// First seen in the middle: earlier bytes are not counted.
    Midstream,
    /// The socket is older than the monitor; the process is the one that held it when the monitor started.
    Snapshot,
    /// Frames were written around the IP stack: where they went is not seen.
    DestinationNotVisible,
    /// The flow table was full: nothing was counted.
    Untracked,
    /// The process is the one that created the socket.
    IdentityFromCreation,
    /// The process is the one that listens.
    IdentityFromListener,
    /// No hook could tell the process.
    ProcessUnknown,
}

/// Bytes and packets of one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DirectionFields {
    /// Transport payload bytes, retransmissions not counted; bytes of frames for a packet socket.
    pub payload_bytes: u64,
    /// Bytes of IP packets, headers and retransmissions included.
    pub wire_bytes: u64,
    /// IP packets.
    pub packets: u64,
    /// Bytes that processes handed to the socket or took from it; absent where the kernel side cannot count them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_bytes: Option<u64>,
    /// Payload that TCP had moved before the monitor started, as the kernel counted it; not part of the other numbers.
    /// Absent for flows that began later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_bytes: Option<u64>,
}

/// Where a packet socket writes its frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LinkFields {
    /// Index of the network interface, in the socket's network namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_index: Option<u32>,
    /// Name of the interface that the socket is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_name: Option<String>,
    /// Ethernet protocol of the frames, as `0x0800`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ether_type: Option<String>,
}
