//! The rows. A claim here is measured by its tests; change both together.

use super::{
    Group::{Calls, Places, Protocols, Senders, Tcp, Udp},
    Limit, Needs, Row, Sight,
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
    Row::new(Tcp, "tcp_upload", "megabytes out", &["tcp_upload"]),
    Row::new(Tcp, "tcp_download", "megabytes in", &["tcp_download"]),
    Row::new(Tcp, "tcp_both_ways", "megabytes out and in at once", &["tcp_both_ways_at_once"]),
    Row::new(Tcp, "tcp_drip", "a byte now and then, each in a packet of its own", &["tcp_drip"]),
    Row::new(Tcp, "tcp_fast_open", "payload in the first packet (TCP Fast Open)", &["tcp_fast_open"]),
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
        Udp,
        "udp_segmented",
        "one call whose payload the kernel cuts into datagrams (`UDP_SEGMENT`)",
        &["udp_segmented"],
    ),
    Row::new(
        Udp,
        "udp_server",
        "a socket that answers: the flow is the other side's, with what it sent before the answer",
        &["a_udp_server_answers_what_was_asked", "a_udp_server_over_ipv6_answers_what_was_asked"],
    ),
    Row::new(
        Udp,
        "udp_strangers",
        "datagrams from more senders than there is room for, none of them answered",
        &["strangers_do_not_fill_the_tables_of_a_udp_server"],
    ),
    Row::new(Udp, "udp_flood", "tens of thousands of small datagrams", &["udp_small_packet_flood"]),
    Row::new(Protocols, "mptcp", "multipath TCP connections", &["mptcp"])
        .needs(Needs::Mptcp)
        .everywhere(Sight::Partly("what MPTCP itself sends again counts again; otherwise bytes are exact")),
    Row::new(Protocols, "sctp", "SCTP associations", &["sctp"])
        .needs(Needs::Sctp)
        .everywhere(Sight::Partly("payload bytes are those of SCTP's chunks, with their headers")),
    Row::new(
        Protocols,
        "raw_ip",
        "raw sockets of any IP protocol, each of their destinations; named is the process that made the socket",
        &["raw_ip"],
    ),
    Row::new(Protocols, "raw_tcp", "TCP packets by a raw socket, with and without payload, of no connection", &["raw_tcp"]),
    Row::new(Protocols, "raw_header", "raw sockets that write the IP header themselves", &["raw_ip_with_own_header"]),
    Row::new(Protocols, "packet_socket", "packet sockets, below IP (`AF_PACKET`)", &["packet_socket"])
        .everywhere(Sight::Partly(
            "who writes and how many bytes of frames; not where they go, and on which interface only if the socket is bound",
        ))
        .on_rung(
            Rung::Fexit,
            Sight::Partly("who writes, how many bytes of frames, on which interface; not where they go"),
        )
        .on_rung(Rung::Base, Sight::NotSeen("packet sockets pass none of the hooks")),
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
    ),
    Row::new(
        Senders,
        "found_at_start",
        "sockets that are open when the monitor starts, with their process: connections, and what listens",
        &[
            "connections_are_found_at_the_start",
            "datagram_sockets_are_found_at_the_start",
            "a_listener_is_found_at_the_start",
            "an_accepted_connection_is_found_at_the_start",
            "connections_are_found_by_descriptors",
            "datagram_sockets_are_found_by_descriptors",
            "a_listener_is_found_by_descriptors",
            "an_accepted_connection_is_found_by_descriptors",
        ],
    )
    .everywhere(Sight::Partly(
        "before Linux 5.12 or without BTF not those of MPTCP, and what was accepted from a listener that has gone is told \
         as egress",
    )),
    Row::new(
        Senders,
        "shared_datagram_socket",
        "two processes that send on one datagram socket at the same time, each to its own address",
        &["two_processes_share_a_datagram_socket"],
    ),
    Row::new(
        Senders,
        "sends_after_exec",
        "a process that connects, becomes another program and sends on",
        &["a_program_that_sends_after_an_exec_is_told_from_the_connector"],
    )
    .on_rung(Rung::Base, COUNTED_FOR_CONNECTOR),
    Row::new(Senders, "other_user", "a process of another user", &["another_user_is_named"]),
    Row::new(
        Senders,
        "setuid",
        "a setuid program: its real and its effective user",
        &["a_setuid_program_has_two_users"],
    ),
    Row::new(
        Senders,
        "script",
        "a script: its interpreter is the executable, the script an argument",
        &["a_script_is_told_with_its_interpreter"],
    ),
    Row::new(
        Senders,
        "changed_executable",
        "an executable that was replaced or deleted while it runs: path and hash of the file that runs",
        &["a_replaced_executable_is_the_one_that_runs", "a_deleted_executable_is_the_one_that_runs"],
    ),
    Row::new(
        Senders,
        "executable_in_memory",
        "an executable without a name (memfd)",
        &["an_executable_in_memory_is_hashed"],
    ),
    Row::new(
        Senders,
        "executable_on_overlay",
        "an executable on an overlay file system",
        &["an_executable_on_an_overlay_is_hashed", "an_executable_on_an_overlay_of_two_file_systems_is_hashed"],
    ),
    Row::new(
        Senders,
        "packaged_executable",
        "a program of a package, which ends at once: its hash and its package",
        &["a_program_of_a_package_names_it"],
    ),
    Row::new(
        Places,
        "mount_namespace",
        "an executable whose path leads to another file on the host",
        &["an_executable_of_another_mount_namespace_is_not_taken_for_the_hosts"],
    ),
    Row::new(
        Places,
        "runc",
        "a container of runc: its id, name, image and pod, and hash and package of its own files",
        &["a_container_has_its_own_files_and_packages"],
    ),
    Row::new(
        Places,
        "container",
        "a process in a cgroup or container of its own",
        &["a_new_cgroup_is_named", "a_container_is_named"],
    ),
    Row::new(Places, "loopback", "both ends on this host, by loopback addresses", &["loopback"]),
    Row::new(Places, "multicast", "datagrams to a multicast group, of which this host may be a member", &["multicast"]),
    Row::new(Places, "broadcast", "datagrams to everyone on a network", &["broadcast"]),
    Row::new(
        Places,
        "translated",
        "a service address that the network changes (destination NAT), also from inside a container",
        &["translated_destination", "a_container_asks_a_translated_address"],
    ),
    Row::new(
        Places,
        "left_namespace",
        "a socket of another network namespace than its process is in",
        &["left_namespace"],
    ),
    Row::new(
        Senders,
        "passed_over_unix",
        "a process that got the connection over a Unix socket (`SCM_RIGHTS`)",
        &["passed_over_a_unix_socket"],
    )
    .on_rung(Rung::Base, COUNTED_FOR_CONNECTOR),
    Row::new(
        Senders,
        "taken_by_pidfd",
        "a process that took the connection from another (`pidfd_getfd`)",
        &["taken_by_pidfd_getfd"],
    )
    .on_rung(Rung::Base, COUNTED_FOR_CONNECTOR),
    Row::new(
        Senders,
        "renamed_thread",
        "a thread that gave itself the name of a kernel thread",
        &["renamed_thread", "a_thread_that_renamed_itself_does_not_rename_its_process"],
    ),
    Row::new(Calls, "sendmsg", "`sendmsg` with several pieces, on TCP and UDP", &["tcp_sendmsg", "udp_sendmsg"]),
    Row::new(Calls, "sendmmsg", "`sendmmsg` and `recvmmsg`, on TCP and UDP", &["tcp_sendmmsg", "udp_sendmmsg"]),
    Row::new(Calls, "sendfile", "`sendfile`", &["tcp_sendfile"]),
    Row::new(Calls, "splice", "`splice` from a pipe", &["tcp_splice"]),
    Row::new(Calls, "zero_copy", "`MSG_ZEROCOPY`, on TCP and UDP", &["tcp_zero_copy", "udp_zero_copy"]),
    Row::new(
        Calls,
        "io_uring",
        "`io_uring`: connect, send and receive, on TCP and UDP",
        &["tcp_io_uring", "udp_io_uring"],
    )
    .needs(Needs::IoUring),
    Row::new(
        Calls,
        "io_uring_polled",
        "the same with registered sockets and a kernel thread that submits (`SQPOLL`)",
        &["tcp_io_uring_polled", "udp_io_uring_polled"],
    )
    .needs(Needs::IoUring),
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
    Limit {
        token: "later_http_requests",
        what: "the hosts of further HTTP/1 requests on a connection: only the first request is read",
    },
    Limit {
        token: "lost_first_segment",
        what: "the name on a connection whose first bytes were not captured, because the ring was full or the connection \
               is older: names from DNS are what remains",
    },
    Limit {
        token: "late_names",
        what: "a name behind the first 8 KiB that a program sends on a connection, behind the first 8 KiB of one packet of \
               the network stack, or behind its first 8 datagrams: where it was begun, the flow says so (`opening_cut`)",
    },
    Limit {
        token: "large_dns_answers",
        what: "addresses behind the first 8 KiB of one packet of a DNS answer or its first 512 records, and of DNS over TCP \
               what comes faster than 64 KiB at once and 15 kB a second: counted as `name_dns_cut`",
    },
    Limit {
        token: "unasked_datagrams",
        what: "UDP datagrams that are never answered, or only five minutes later; and of more than 16,384 senders that wait \
               for an answer at once, those that were silent longest: what is sent to them is told as egress",
    },
    Limit { token: "content", what: "what the payload says, and whether it was secret" },
];
