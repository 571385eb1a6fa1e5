use std::path::Path;

use monitor_common::record::{
    ARGUMENT_BYTES, CGROUP_PATH_BYTES, CgroupRecord, ExecRecord, FlowRecord, ForkRecord, Header, PATH_BYTES,
};
use proptest::prelude::*;

use super::*;

/// The bytes of a record, as a ring hands them over.
fn bytes_of<T: Copy>(record: &T) -> Vec<u8> {
    // SAFETY: the records have no hidden padding (their layout is asserted where they are defined).
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(record).cast::<u8>(), size_of::<T>()) }.to_vec()
}

fn header<T>(kind: u16, reason: u16) -> Header {
    Header { kind, reason, size_bytes: size_of::<T>() as u32, boot_ns: 77 }
}

fn who(tgid: u32) -> record::Identity {
    let mut comm = [0; 16];
    comm[..4].copy_from_slice(b"curl");
    record::Identity {
        start_boot_ns: 123_456_789_000,
        executable_inode: 99,
        executable_device: 8 << 20 | 1,
        cgroup_id: 5,
        network_namespace_cookie: 1,
        tgid,
        tid: tgid + 1,
        uid: 1000,
        gid: 100,
        effective_uid: 0,
        exec_id: 3,
        padding: 0,
        comm,
    }
}

fn flow_record() -> FlowRecord {
    FlowRecord {
        header: header::<FlowRecord>(kind::FLOW, reason::FIRST_PAYLOAD),
        state: record::FlowState {
            key: record::FlowKey {
                socket_cookie: 4242,
                remote_address: Address::from(IpAddr::from([120, 232, 0, 1])),
                remote_port_be: 443u16.to_be(),
                protocol: 6,
                family: FAMILY_IPV4,
                padding: 0,
            },
            connector: who(10),
            local_address: Address::from(IpAddr::from([10, 0, 0, 1])),
            local_port_be: 40_000u16.to_be(),
            flags: record::FlowFlags {
                filled: 1,
                attempted: 1,
                established: 1,
                sent: 1,
                flagged: 1,
                ..record::FlowFlags::default()
            },
            first_boot_ns: 1,
            established_boot_ns: 2,
            first_sent_boot_ns: 3,
            last_boot_ns: 4,
            payload_out_bytes: 517,
            wire_out_bytes: 569,
            packets_out: 3,
            ..record::FlowState::default()
        },
    }
}

#[test]
fn a_flow_record_becomes_a_flow() {
    let Ok(Event::Flow(flow)) = decode(&bytes_of(&flow_record())) else { panic!("a flow") };
    assert_eq!(flow.key.remote.to_string(), "120.232.0.1:443");
    assert_eq!(flow.key.protocol, Protocol::Tcp);
    assert_eq!(flow.reason, ReportReason::FirstPayload);
    assert_eq!(flow.local.map(|local| local.to_string()).as_deref(), Some("10.0.0.1:40000"));
    let connector = flow.connector.expect("a connector");
    assert_eq!(connector.process, ProcessKey { pid: 10, start_ticks: 12_345 });
    assert_eq!((connector.comm.as_str(), connector.user_id), ("curl", 1000));
    assert_eq!(flow.sender, None);
    assert!(flow.facts.sent && flow.facts.flagged && !flow.facts.closed);
    assert_eq!(flow.counters.payload_out_bytes, 517);
    assert_eq!(flow.counters.queued_out_bytes, None, "unknown is not 0");
}

#[test]
fn a_hint_names_its_flow() {
    let FlowRecord { header, state: record::FlowState { key, .. } } = flow_record();
    let header = record::Header { kind: kind::FLOW_HINT, size_bytes: 48, ..header };
    let mut bytes = bytes_of(&record::FlowHintRecord { header, key });
    let remote = "120.232.0.1:443".parse().unwrap();
    let expected = Event::FlowHint {
        key: FlowKey { socket_cookie: key.socket_cookie, protocol: Protocol::Tcp, remote },
        reason: ReportReason::FirstPayload,
        at: BootTime(header.boot_ns),
    };
    assert_eq!(decode(&bytes), Ok(expected));
    bytes.truncate(47);
    assert_eq!(decode(&bytes), Err(DecodeError::Short { got: 47, need: 48 }));
}

#[test]
fn a_flow_key_survives_both_ways() {
    for remote in ["1.2.3.4:5", "[2409:8c00::1]:443", "[::1]:0"] {
        let key = FlowKey { socket_cookie: 9, protocol: Protocol::Udp, remote: remote.parse().unwrap() };
        assert_eq!(flow_key(&record_key(&key)), Ok(key));
    }
}

#[test]
fn a_packet_socket_has_an_interface_and_no_destination() {
    let mut record = flow_record();
    record.state.key = record::FlowKey { socket_cookie: 7, family: FAMILY_PACKET, ..record::FlowKey::default() };
    record.state.local_address = Address::from_octets(*b"veth-out\0\0\0\0\0\0\0\0");
    record.state.interface = 3;
    record.state.ether_type_be = 0x0800_u16.to_be();
    let Ok(Event::Flow(flow)) = decode(&bytes_of(&record)) else { panic!("a flow") };
    assert_eq!((flow.key.protocol, flow.key.destination(), flow.local), (Protocol::Packet, None, None));
    let expected =
        Link { interface_index: Some(3), interface_name: Some("veth-out".to_owned()), ether_type: Some(0x0800) };
    assert_eq!(flow.link, Some(expected));
    assert_eq!(record_key(&flow.key), record.state.key);
}

type Fact = fn(&FlowFacts) -> bool;

#[test]
fn each_fact_is_a_byte_of_its_own() {
    let facts_of = |at: usize| {
        let mut record = flow_record();
        record.state.flags = record::FlowFlags::default();
        let mut bytes = bytes_of(&record);
        bytes[16 + 32 + at] = 1;
        let Ok(Event::Flow(flow)) = decode(&bytes) else { panic!("a flow") };
        flow.facts
    };
    let expected: [(usize, Fact); 14] = [
        (1, |facts| facts.attempted),
        (2, |facts| facts.established),
        (3, |facts| facts.failed),
        (4, |facts| facts.sent),
        (5, |facts| facts.received),
        (6, |facts| facts.closed),
        (7, |facts| facts.released),
        (8, |facts| facts.flagged),
        (9, |facts| facts.inbound),
        (10, |facts| facts.midstream),
        (11, |facts| facts.snapshot),
        (12, |facts| facts.untracked),
        (13, |facts| facts.identity_from_creation),
        (14, |facts| facts.identity_from_listener),
    ];
    for (at, fact) in expected {
        let facts = facts_of(at);
        assert!(fact(&facts), "byte {at} is not {facts:?}");
        let others = expected.iter().filter(|(other, holds)| *other != at && holds(&facts)).count();
        assert_eq!(others, 0, "byte {at} says more: {facts:?}");
    }
}

#[test]
fn an_exec_record_gives_the_path_from_the_root_down() {
    let mut record = ExecRecord {
        header: header::<ExecRecord>(kind::EXEC, 0),
        identity: who(11),
        parent_tgid: 1,
        path_bytes: 14,
        argument_bytes: 8,
        flags: exec_flag::UNLINKED,
        padding: 0,
        path: [0; PATH_BYTES],
        arguments: [0; ARGUMENT_BYTES],
    };
    record.path[..14].copy_from_slice(b"curl\0bin\0usr\0\0");
    record.path_bytes = 13;
    record.arguments[..8].copy_from_slice(b"curl\0-v\0");
    let Ok(Event::Exec(exec)) = decode(&bytes_of(&record)) else { panic!("an exec") };
    assert_eq!(exec.path.as_deref(), Some(Path::new("/usr/bin/curl")));
    assert_eq!(exec.arguments, ["curl", "-v"]);
    assert!(exec.unlinked && !exec.path_truncated);

    record.path_bytes = 513;
    let error = decode(&bytes_of(&record)).expect_err("beyond the field");
    assert_eq!(error, DecodeError::Length { length: 513, capacity: 512 });
}

#[test]
fn forks_and_cgroups_are_read() {
    let fork = ForkRecord {
        header: header::<ForkRecord>(kind::FORK, 0),
        parent_start_boot_ns: 10_000_000,
        child_start_boot_ns: 20_000_000,
        parent_tgid: 1,
        child_tgid: 2,
    };
    let expected = Fork {
        parent: ProcessKey { pid: 1, start_ticks: 1 },
        child: ProcessKey { pid: 2, start_ticks: 2 },
        at: BootTime(77),
    };
    assert_eq!(decode(&bytes_of(&fork)), Ok(Event::Fork(expected)));

    let mut cgroup = CgroupRecord {
        header: header::<CgroupRecord>(kind::CGROUP, 0),
        cgroup_id: 7,
        path_bytes: 4,
        hierarchy_id: 0,
        path: [0; CGROUP_PATH_BYTES],
    };
    cgroup.path[..4].copy_from_slice(b"/a/b");
    let Ok(Event::CgroupCreated(created)) = decode(&bytes_of(&cgroup)) else { panic!("a cgroup") };
    assert_eq!((created.cgroup_id, created.path.as_path()), (7, Path::new("/a/b")));
}

#[test]
fn each_kind_of_damage_has_its_error() {
    let whole = bytes_of(&flow_record());
    assert!(matches!(decode(&whole[..9]), Err(DecodeError::Short { got: 9, need: 16 })));
    assert!(matches!(decode(&whole[..447]), Err(DecodeError::Short { got: 447, need: 448 })));
    let damage = |at: usize, value: u8| {
        let mut bytes = whole.clone();
        bytes[at] = value;
        decode(&bytes).expect_err("damaged")
    };
    assert_eq!(damage(0, 99), DecodeError::Kind(99));
    assert_eq!(damage(2, 99), DecodeError::Reason(99));
    assert_eq!(damage(4, 1), DecodeError::Size { kind: kind::FLOW, size: 257, need: 448 });
    assert_eq!(damage(16 + 27, 1), DecodeError::Family(1));
}

fn capture_record<const N: usize>(captured_bytes: u16) -> record::CaptureRecord<N> {
    record::CaptureRecord {
        header: header::<record::CaptureRecord<N>>(kind::CAPTURE, 0),
        key: flow_record().state.key,
        start_boot_ns: 123_456_789_000,
        network_namespace_cookie: 1,
        tgid: 10,
        tcp_sequence: 99,
        payload_bytes: 5_000,
        captured_bytes,
        outgoing: 1,
        padding: 0,
        data: [b'x'; N],
    }
}

#[test]
fn a_capture_of_each_size_holds_as_many_bytes_as_it_says() {
    for (bytes, captured) in [
        (bytes_of(&capture_record::<128>(7)), 7),
        (bytes_of(&capture_record::<1_024>(1_000)), 1_000),
        (bytes_of(&capture_record::<2_048>(2_048)), 2_048),
        (bytes_of(&capture_record::<8_192>(8_000)), 8_000),
    ] {
        let Ok(Event::Capture(capture)) = decode(&bytes) else { panic!("no capture") };
        assert_eq!(capture.data, vec![b'x'; captured]);
        assert_eq!(capture.key.remote.to_string(), "120.232.0.1:443");
        assert_eq!(capture.process, Some(ProcessKey::from_start_ns(10, 123_456_789_000)));
        assert_eq!((capture.direction, capture.tcp_sequence, capture.payload_bytes), (Direction::Out, 99, 5_000));
        assert!(!format!("{capture:?}").contains("xx"), "the payload is not for logs");
    }
    assert_eq!(decode(&bytes_of(&capture_record::<128>(129))), Err(DecodeError::Length { length: 129, capacity: 128 }),);
    let mut odd = bytes_of(&capture_record::<128>(7));
    odd[4..8].copy_from_slice(&600u32.to_ne_bytes());
    assert_eq!(decode(&odd), Err(DecodeError::Size { kind: kind::CAPTURE, size: 600, need: 80 + 1_024 }));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1000)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn arbitrary_bodies_behind_a_good_header_never_panic(kind in 1u16..7, reason in 0u16..8, body in proptest::collection::vec(any::<u8>(), 1000)) {
        let size = match kind {
            kind::FLOW => size_of::<FlowRecord>(),
            kind::SOCKET_RELEASED => 24,
            kind::EXEC => size_of::<ExecRecord>(),
            kind::FORK => size_of::<ForkRecord>(),
            kind::EXIT => 32,
            _ => size_of::<CgroupRecord>(),
        };
        let mut bytes = bytes_of(&Header { kind, reason, size_bytes: size as u32, boot_ns: 1 });
        bytes.extend(&body[..size - 16]);
        let _ = decode(&bytes);
    }
}

#[test]
fn an_entry_that_is_not_filled_yet_is_no_flow() {
    let mut record = flow_record();
    assert!(flow_of_entry(&record.state, BootTime(9)).is_ok());
    record.state.flags.filled = 0;
    assert_eq!(flow_of_entry(&record.state, BootTime(9)), Err(DecodeError::Unfinished));
}
