//! Bytes from the kernel side to [`Event`]s. Pure and total: any bytes give an event or an error that says what was wrong.
//!
//! The only place that knows both vocabularies, the wire records of `monitor_common::record` and the domain types.

use std::{
    ffi::OsStr,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
    sync::Arc,
};

use bytes::{Buf, Bytes};
use monitor_common::{
    address::Address,
    record::{self, CAPTURE_SIZES, FAMILY_IPV4, FAMILY_IPV6, FAMILY_PACKET, exec_flag, kind, reason},
};

use crate::event::{
    BootTime, Capture, CgroupCreated, Direction, Event, Exec, FileId, Flow, FlowCounters, FlowFacts, FlowKey, Fork,
    Identity, Link, ProcessKey, Protocol, ReportReason,
};

/// Why bytes from the kernel side are not an event. The object and the daemon are built together, so any of these means
/// that they do not belong to each other, or that memory was damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than the record its kind calls for, or than a header.
    #[error("a kernel record of {got} bytes is shorter than the {need} bytes of its kind; {REBUILD}")]
    Short {
        /// Bytes there are.
        got: usize,
        /// Bytes there should be.
        need: usize,
    },
    /// The header's size is not the size of its kind.
    #[error("a kernel record of kind {kind} says it has {size} bytes, not {need}; {REBUILD}")]
    Size {
        /// The kind.
        kind: u16,
        /// What the header says.
        size: u32,
        /// What the kind calls for.
        need: usize,
    },
    /// No such kind.
    #[error("a kernel record is of the unknown kind {0}; {REBUILD}")]
    Kind(u16),
    /// No such reason.
    #[error("a kernel flow record gives the unknown reason {0}; {REBUILD}")]
    Reason(u16),
    /// Neither IPv4 nor IPv6 nor a packet socket.
    #[error("a kernel flow record is of the unknown address family {0}; {REBUILD}")]
    Family(u8),
    /// The kernel side has not filled the flow's entry yet.
    #[error("the flow's entry is not filled yet")]
    Unfinished,
    /// A length beyond its array.
    #[error("a kernel record uses {length} bytes of a field of {capacity}; {REBUILD}")]
    Length {
        /// What the record says.
        length: usize,
        /// What there is.
        capacity: usize,
    },
}

/// Bytes of a capture record before its data.
const CAPTURE_HEAD_BYTES: usize = size_of::<record::CaptureRecord<0>>();

const REBUILD: &str = "rebuild the kernel object with `cargo xtask ebpf`";

/// Turns one record into an event.
pub fn decode(bytes: &[u8]) -> Result<Event, DecodeError> {
    let mut buffer = bytes;
    let need = size_of::<record::Header>();
    if buffer.remaining() < need {
        return Err(DecodeError::Short { got: bytes.len(), need });
    }
    let kind = buffer.get_u16_ne();
    let reason = buffer.get_u16_ne();
    let size = buffer.get_u32_ne();
    let at = BootTime(buffer.get_u64_ne());
    let need = match kind {
        kind::FLOW => size_of::<record::FlowRecord>(),
        kind::FLOW_HINT => size_of::<record::FlowHintRecord>(),
        kind::SOCKET_RELEASED => size_of::<record::SocketReleasedRecord>(),
        kind::EXEC => size_of::<record::ExecRecord>(),
        kind::FORK => size_of::<record::ForkRecord>(),
        kind::EXIT => size_of::<record::ExitRecord>(),
        kind::CGROUP => size_of::<record::CgroupRecord>(),
        kind::CAPTURE => CAPTURE_SIZES
            .into_iter()
            .map(|capacity| CAPTURE_HEAD_BYTES + capacity)
            .find(|need| *need >= size as usize)
            .unwrap_or(CAPTURE_HEAD_BYTES),
        other => return Err(DecodeError::Kind(other)),
    };
    if size as usize != need {
        return Err(DecodeError::Size { kind, size, need });
    }
    if bytes.len() < need {
        return Err(DecodeError::Short { got: bytes.len(), need });
    }
    // From here on the buffer holds the whole record: the fixed-size reads below cannot run short.
    Ok(match kind {
        kind::FLOW => Event::Flow(Box::new(read_flow(&mut buffer, reason, at)?)),
        kind::FLOW_HINT => {
            Event::FlowHint { key: flow_key(&read_key_record(&mut buffer))?, reason: report_reason(reason)?, at }
        }
        kind::SOCKET_RELEASED => Event::SocketReleased { socket_cookie: buffer.get_u64_ne(), at },
        kind::EXEC => Event::Exec(Box::new(read_exec(&mut buffer, at)?)),
        kind::FORK => Event::Fork(read_fork(&mut buffer, at)),
        kind::EXIT => {
            let start_boot_ns = buffer.get_u64_ne();
            Event::Exit { process: ProcessKey::from_start_ns(buffer.get_u32_ne(), start_boot_ns), at }
        }
        kind::CGROUP => Event::CgroupCreated(read_cgroup(&mut buffer, at)?),
        _ => Event::Capture(Box::new(read_capture(&mut buffer, at)?)),
    })
}

/// The flow that an entry of the kernel's flow table stands for, as of `at`. The kernel side fills an entry in place and
/// says last that it is filled.
pub fn flow_of_entry(state: &record::FlowState, at: BootTime) -> Result<Flow, DecodeError> {
    if state.flags.filled == 0 {
        return Err(DecodeError::Unfinished);
    }
    flow_of(state, ReportReason::Read, at)
}

/// The flow's own key, as the kernel side has it.
#[must_use]
pub fn record_key(key: &FlowKey) -> record::FlowKey {
    let Some(protocol) = key.protocol.number() else {
        let socket_cookie = key.socket_cookie;
        return record::FlowKey { socket_cookie, family: FAMILY_PACKET, ..record::FlowKey::default() };
    };
    let remote_address = Address::from(key.remote.ip());
    record::FlowKey {
        socket_cookie: key.socket_cookie,
        remote_address,
        remote_port_be: key.remote.port().to_be(),
        protocol,
        family: if remote_address.is_mapped() { FAMILY_IPV4 } else { FAMILY_IPV6 },
        padding: 0,
    }
}

/// The flow that a key of the kernel side's stands for.
pub fn flow_key(key: &record::FlowKey) -> Result<FlowKey, DecodeError> {
    let (protocol, remote) = match key.family {
        FAMILY_IPV4 | FAMILY_IPV6 => {
            (Protocol::from_number(key.protocol), socket_address(key.remote_address, key.remote_port_be))
        }
        FAMILY_PACKET => (Protocol::Packet, SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0)),
        other => return Err(DecodeError::Family(other)),
    };
    Ok(FlowKey { socket_cookie: key.socket_cookie, protocol, remote })
}

fn read_flow(buffer: &mut &[u8], why: u16, at: BootTime) -> Result<Flow, DecodeError> {
    let state = record::FlowState {
        key: read_key_record(buffer),
        flags: read_flags(buffer),
        local_port_be: buffer.get_u16_ne(),
        translated_port_be: buffer.get_u16_ne(),
        ether_type_be: buffer.get_u16_ne(),
        padding: buffer.get_u16_ne(),
        first_boot_ns: buffer.get_u64_ne(),
        established_boot_ns: buffer.get_u64_ne(),
        first_sent_boot_ns: buffer.get_u64_ne(),
        sender_changes: buffer.get_u32_ne(),
        interface: buffer.get_u32_ne(),
        local_address: Address::from_octets(take(buffer)),
        wire_in_bytes: buffer.get_u64_ne(),
        packets_in: buffer.get_u64_ne(),
        queued_in_bytes: buffer.get_u64_ne(),
        before_out_bytes: buffer.get_u64_ne(),
        before_in_bytes: buffer.get_u64_ne(),
        translated_address: Address::from_octets(take(buffer)),
        last_packets_in: buffer.get_u64_ne(),
        payload_out_bytes: buffer.get_u64_ne(),
        payload_in_bytes: buffer.get_u64_ne(),
        wire_out_bytes: buffer.get_u64_ne(),
        packets_out: buffer.get_u64_ne(),
        queued_out_bytes: buffer.get_u64_ne(),
        tcp_sent_high: buffer.get_u32_ne(),
        tcp_received_high: buffer.get_u32_ne(),
        last_boot_ns: buffer.get_u64_ne(),
        reported_boot_ns: buffer.get_u64_ne(),
        reported_bytes: buffer.get_u64_ne(),
        last_packets_out: buffer.get_u64_ne(),
        connector: read_identity_record(buffer),
        sender: read_identity_record(buffer),
        end_padding: [buffer.get_u64_ne(), buffer.get_u64_ne()],
    };
    flow_of(&state, report_reason(why)?, at)
}

fn report_reason(why: u16) -> Result<ReportReason, DecodeError> {
    Ok(match why {
        reason::ATTEMPT => ReportReason::Attempt,
        reason::ESTABLISHED => ReportReason::Established,
        reason::FIRST_PAYLOAD => ReportReason::FirstPayload,
        reason::PROGRESS => ReportReason::Progress,
        reason::CLOSED => ReportReason::Closed,
        reason::SENDER => ReportReason::Sender,
        other => return Err(DecodeError::Reason(other)),
    })
}

fn flow_of(state: &record::FlowState, reason: ReportReason, at: BootTime) -> Result<Flow, DecodeError> {
    let has = |flag: u8| flag != 0;
    let flags = &state.flags;
    let key = flow_key(&state.key)?;
    let is_packet = key.protocol == Protocol::Packet;
    let local = socket_address(state.local_address, state.local_port_be);
    Ok(Flow {
        key,
        reason,
        at,
        connector: identity(&state.connector).map(Arc::new),
        sender: identity(&state.sender).map(Arc::new),
        local: (state.local_address != Address::NONE && !is_packet).then_some(local),
        translated: has(flags.translated).then(|| socket_address(state.translated_address, state.translated_port_be)),
        link: is_packet.then(|| link(state)),
        facts: FlowFacts {
            attempted: has(flags.attempted),
            established: has(flags.established),
            failed: has(flags.failed),
            sent: has(flags.sent),
            received: has(flags.received),
            closed: has(flags.closed),
            released: has(flags.released),
            flagged: has(flags.flagged),
            inbound: has(flags.inbound),
            midstream: has(flags.midstream),
            snapshot: has(flags.snapshot),
            untracked: has(flags.untracked),
            identity_from_creation: has(flags.identity_from_creation),
            identity_from_listener: has(flags.identity_from_listener),
        },
        counters: FlowCounters {
            payload_out_bytes: state.payload_out_bytes,
            payload_in_bytes: state.payload_in_bytes,
            wire_out_bytes: state.wire_out_bytes,
            wire_in_bytes: state.wire_in_bytes,
            packets_out: state.packets_out,
            packets_in: state.packets_in,
            queued_out_bytes: has(flags.queued_out_known).then_some(state.queued_out_bytes),
            queued_in_bytes: has(flags.queued_in_known).then_some(state.queued_in_bytes),
            before_out_bytes: has(flags.before_known).then_some(state.before_out_bytes),
            before_in_bytes: has(flags.before_known).then_some(state.before_in_bytes),
        },
        first_at: BootTime(state.first_boot_ns),
        established_at: time(state.established_boot_ns),
        first_sent_at: time(state.first_sent_boot_ns),
        last_at: BootTime(state.last_boot_ns),
    })
}

fn read_flags(buffer: &mut &[u8]) -> record::FlowFlags {
    record::FlowFlags {
        filled: buffer.get_u8(),
        attempted: buffer.get_u8(),
        established: buffer.get_u8(),
        failed: buffer.get_u8(),
        sent: buffer.get_u8(),
        received: buffer.get_u8(),
        closed: buffer.get_u8(),
        released: buffer.get_u8(),
        flagged: buffer.get_u8(),
        inbound: buffer.get_u8(),
        midstream: buffer.get_u8(),
        snapshot: buffer.get_u8(),
        untracked: buffer.get_u8(),
        identity_from_creation: buffer.get_u8(),
        identity_from_listener: buffer.get_u8(),
        end_by_state: buffer.get_u8(),
        translated: buffer.get_u8(),
        sent_high_known: buffer.get_u8(),
        received_high_known: buffer.get_u8(),
        queued_out_known: buffer.get_u8(),
        queued_in_known: buffer.get_u8(),
        before_known: buffer.get_u8(),
        padding: take(buffer),
    }
}

/// Where a packet socket's frames go.
fn link(state: &record::FlowState) -> Link {
    let name = state.local_address.octets();
    let name = until_nul(&name);
    Link {
        interface_index: (state.interface != 0).then_some(state.interface),
        interface_name: (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned()),
        ether_type: (state.ether_type_be != 0).then(|| u16::from_be(state.ether_type_be)),
    }
}

fn read_exec(buffer: &mut &[u8], at: BootTime) -> Result<Exec, DecodeError> {
    let acting = read_identity_record(buffer);
    let parent_tgid = buffer.get_u32_ne();
    let path_bytes = usize::from(buffer.get_u16_ne());
    let argument_bytes = usize::from(buffer.get_u16_ne());
    let flags = buffer.get_u32_ne();
    buffer.advance(4);
    let path: [u8; record::PATH_BYTES] = take(buffer);
    let arguments: [u8; record::ARGUMENT_BYTES] = take(buffer);
    let path = used(&path, path_bytes)?;
    let arguments = used(&arguments, argument_bytes)?;
    let truncated = flags & exec_flag::ARGUMENTS_TRUNCATED != 0;
    Ok(Exec {
        identity: identity(&acting).unwrap_or_else(|| identity_of(&acting)),
        parent_pid: (parent_tgid != 0).then_some(parent_tgid),
        path: path_of_components(path),
        path_truncated: flags & exec_flag::PATH_TRUNCATED != 0,
        unlinked: flags & exec_flag::UNLINKED != 0,
        arguments: split_arguments(arguments),
        arguments_truncated: truncated,
        at,
    })
}

fn read_fork(buffer: &mut &[u8], at: BootTime) -> Fork {
    let parent_start_boot_ns = buffer.get_u64_ne();
    let child_start_boot_ns = buffer.get_u64_ne();
    let parent_tgid = buffer.get_u32_ne();
    let child_tgid = buffer.get_u32_ne();
    Fork {
        parent: ProcessKey::from_start_ns(parent_tgid, parent_start_boot_ns),
        child: ProcessKey::from_start_ns(child_tgid, child_start_boot_ns),
        at,
    }
}

fn read_cgroup(buffer: &mut &[u8], at: BootTime) -> Result<CgroupCreated, DecodeError> {
    let cgroup_id = buffer.get_u64_ne();
    let path_bytes = buffer.get_u32_ne() as usize;
    let hierarchy_id = buffer.get_u32_ne();
    let path: [u8; record::CGROUP_PATH_BYTES] = take(buffer);
    let path = PathBuf::from(OsStr::from_bytes(used(&path, path_bytes)?));
    Ok(CgroupCreated { cgroup_id, hierarchy_id, path, at })
}

fn read_capture(buffer: &mut &[u8], at: BootTime) -> Result<Capture, DecodeError> {
    let key = flow_key(&read_key_record(buffer))?;
    let start_boot_ns = buffer.get_u64_ne();
    let cookie = buffer.get_u64_ne();
    let tgid = buffer.get_u32_ne();
    let tcp_sequence = buffer.get_u32_ne();
    let payload_bytes = buffer.get_u32_ne();
    let captured_bytes = usize::from(buffer.get_u16_ne());
    let outgoing = buffer.get_u8() != 0;
    buffer.advance(1);
    Ok(Capture {
        key,
        direction: if outgoing { Direction::Out } else { Direction::In },
        process: (tgid != 0).then(|| ProcessKey::from_start_ns(tgid, start_boot_ns)),
        network_namespace_cookie: (cookie != 0).then_some(cookie),
        tcp_sequence,
        payload_bytes,
        data: Bytes::copy_from_slice(used(buffer, captured_bytes)?),
        at,
    })
}

fn read_key_record(buffer: &mut &[u8]) -> record::FlowKey {
    record::FlowKey {
        socket_cookie: buffer.get_u64_ne(),
        remote_address: Address::from_octets(take(buffer)),
        remote_port_be: buffer.get_u16_ne(),
        protocol: buffer.get_u8(),
        family: buffer.get_u8(),
        padding: buffer.get_u32_ne(),
    }
}

fn read_identity_record(buffer: &mut &[u8]) -> record::Identity {
    record::Identity {
        start_boot_ns: buffer.get_u64_ne(),
        executable_inode: buffer.get_u64_ne(),
        cgroup_id: buffer.get_u64_ne(),
        network_namespace_cookie: buffer.get_u64_ne(),
        executable_device: buffer.get_u32_ne(),
        tgid: buffer.get_u32_ne(),
        tid: buffer.get_u32_ne(),
        uid: buffer.get_u32_ne(),
        gid: buffer.get_u32_ne(),
        effective_uid: buffer.get_u32_ne(),
        exec_id: buffer.get_u32_ne(),
        padding: buffer.get_u32_ne(),
        comm: take(buffer),
    }
}

fn identity(identity: &record::Identity) -> Option<Identity> {
    (identity.tgid != 0).then(|| identity_of(identity))
}

fn identity_of(identity: &record::Identity) -> Identity {
    let cookie = identity.network_namespace_cookie;
    Identity {
        process: ProcessKey::from_start_ns(identity.tgid, identity.start_boot_ns),
        thread_id: identity.tid,
        user_id: identity.uid,
        group_id: identity.gid,
        effective_user_id: (identity.effective_uid != record::UNKNOWN_USER).then_some(identity.effective_uid),
        cgroup_id: identity.cgroup_id,
        network_namespace_cookie: (cookie != 0).then_some(cookie),
        executable: (identity.executable_inode != 0)
            .then_some(FileId { device: identity.executable_device, inode: identity.executable_inode }),
        comm: String::from_utf8_lossy(until_nul(&identity.comm)).into_owned(),
    }
}

/// The kernel writes a path's components from the leaf up, each ended by NUL.
fn path_of_components(bytes: &[u8]) -> Option<PathBuf> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() {
        return None;
    }
    let mut path = Vec::with_capacity(bytes.len() + 1);
    for component in bytes.split(|byte| *byte == 0).rev() {
        path.push(b'/');
        path.extend_from_slice(component);
    }
    Some(PathBuf::from(OsStr::from_bytes(&path)))
}

fn split_arguments(bytes: &[u8]) -> Vec<String> {
    if bytes.is_empty() {
        return Vec::new();
    }
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    bytes.split(|byte| *byte == 0).map(|argument| String::from_utf8_lossy(argument).into_owned()).collect()
}

fn used(bytes: &[u8], length: usize) -> Result<&[u8], DecodeError> {
    bytes.get(..length).ok_or(DecodeError::Length { length, capacity: bytes.len() })
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn take<const N: usize>(buffer: &mut &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    buffer.copy_to_slice(&mut bytes);
    bytes
}

fn time(boot_ns: u64) -> Option<BootTime> {
    (boot_ns != 0).then_some(BootTime(boot_ns))
}

fn socket_address(address: Address, port_be: u16) -> SocketAddr {
    SocketAddr::new(address.ip(), u16::from_be(port_be))
}

#[cfg(test)]
mod tests;
