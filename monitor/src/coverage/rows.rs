//! The rows. A claim here is measured by its tests; change both together.

use super::{
    Group::{Calls, Places, Protocols, Senders, Tcp, Udp},
    Limit, Row, Sight,
};
use crate::kernel::probes::Rung;

/// Bytes of a process that has a socket from another one, where only connects are seen.
const COUNTED_FOR_CONNECTOR: Sight = Sight::Partly("bytes are exact, but count for the process that connected");

/// Every way to send that is tested.
pub const ROWS: &[Row] = &[
    Row::new(
        Tcp,
        "tcp",
        "a request and its reply over IPv4, IPv6 and IPv4-mapped IPv6",
        &[
            "tcp_to_china_mobile_alerts_and_is_counted",
            "tcp_over_ipv6_alerts_and_is_counted",
            "ipv4_mapped_ipv6_is_ipv4",
        ],
    ),
    Row::new(
        Tcp,
        "tcp_bulk",
        "megabytes each way, in segments of any size",
        &["large_transfers_are_exact", "small_packets_are_exact"],
    ),
    Row::new(
        Tcp,
        "tcp_burst",
        "a thousand connections one after another",
        &["a_burst_of_a_thousand_connections_is_complete"],
    ),
    Row::new(
        Tcp,
        "tcp_idle",
        "a connection that falls silent: exact five seconds after its last byte",
        &["an_idle_connection_is_exact_within_five_seconds"],
    ),
    Row::new(
        Tcp,
        "tcp_refused",
        "a connection that is refused: an attempt that sent nothing",
        &["a_refused_connection_is_an_attempt_that_failed"],
    ),
    Row::new(
        Udp,
        "udp_connected",
        "datagrams on a connected socket",
        &["udp_connected_is_exact", "udp_over_ipv6_connected_is_exact"],
    ),
    Row::new(
        Udp,
        "udp_unconnected",
        "datagrams with an address each, and replies from there",
        &["udp_unconnected_is_exact", "udp_over_ipv6_unconnected_is_exact"],
    ),
    Row::new(
        Udp,
        "udp_fragments",
        "datagrams larger than a packet",
        &["udp_in_fragments_is_exact", "udp_over_ipv6_in_fragments_is_exact"],
    ),
    Row::new(
        Udp,
        "udp_many_destinations",
        "one socket that sends to hundreds of addresses",
        &["one_udp_socket_with_many_destinations"],
    ),
    Row::new(
        Udp,
        "udp_reconnected",
        "one socket that is connected again, to another address",
        &["a_udp_socket_that_connects_again_has_two_flows"],
    ),
    Row::new(
        Udp,
        "udp_connect_alone",
        "a connected socket that never sends: an attempt that sent nothing",
        &["udp_connect_alone_sends_nothing"],
    ),
    Row::new(
        Protocols,
        "icmp_ping_socket",
        "echo requests by a ping socket",
        &["echo_by_ping_socket", "echo_over_ipv6_by_ping_socket"],
    ),
    Row::new(
        Protocols,
        "icmp_raw_socket",
        "echo requests by a raw socket",
        &["echo_by_raw_socket", "echo_over_ipv6_by_raw_socket"],
    ),
    Row::new(
        Senders,
        "short_lived",
        "a process that ends right after it has sent",
        &["a_process_that_lives_a_millisecond_is_named"],
    ),
    Row::new(
        Senders,
        "other_program",
        "a process that becomes another program after it has sent",
        &["a_process_that_becomes_another_program_is_named"],
    ),
    Row::new(
        Senders,
        "inherited_by_child",
        "a forked child that sends on its parent's connection",
        &["a_forked_child_that_sends_is_told_from_the_connector"],
    )
    .on_rung(Rung::Base, COUNTED_FOR_CONNECTOR),
    Row::new(
        Senders,
        "inherited_over_exec",
        "another program that was started with an open connection",
        &["another_program_that_inherited_the_socket_is_told_from_the_connector"],
    )
    .on_rung(Rung::Base, COUNTED_FOR_CONNECTOR),
    Row::new(
        Senders,
        "older_connection",
        "a connection that is older than the monitor: bytes from then on",
        &["a_connection_older_than_the_monitor_is_counted_from_its_next_send"],
    )
    .on_rung(Rung::Base, Sight::Partly("bytes are exact from the first one seen; the process is unknown")),
    Row::new(Senders, "other_user", "a process of another user", &["another_user_is_named"]),
    Row::new(
        Places,
        "container",
        "a process in a cgroup or container of its own",
        &["a_new_cgroup_is_named", "a_container_is_named"],
    ),
    Row::new(
        Calls,
        "programs",
        "curl, Python, netcat and ping as they are",
        &[
            "curl_is_named_and_counted",
            "curl_over_ipv6_is_named_and_counted",
            "python_is_named_and_counted",
            "netcat_is_named_and_counted",
            "ping_is_named_and_counted",
        ],
    ),
];

/// What no rung sees, by design.
pub const LIMITS: &[Limit] = &[
    Limit {
        token: "inside_a_proxy",
        what: "what happens inside a proxy or VPN program: the proxy is the sender, its server the destination",
    },
    Limit { token: "forwarded", what: "traffic of a virtual machine or network that this host only forwards" },
    Limit { token: "kernel_made", what: "traffic that the kernel itself makes, or that XDP programs send" },
    Limit { token: "content", what: "what the payload says, and whether it was secret" },
];
