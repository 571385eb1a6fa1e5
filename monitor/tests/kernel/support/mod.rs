//! What the tests stand on: private networks, servers, programs that make known traffic, and the monitor that watches.

mod cgroup;
mod generate;
mod host;
mod monitor;
mod name_server;
mod netlink;
mod network;
mod program;
mod quic;
mod record;
mod rsyslog;
mod server;
mod ways;

pub(crate) use cgroup::Cgroup;
pub(crate) use generate::{EchoSocket, Facts, Traffic, generate};
pub(crate) use host::{Rung, has_socket_iterator, is_emulated, is_root, patience};
pub(crate) use monitor::{Monitor, Settings, View, binary, loaded_programs, stop_shared, watch};
pub(crate) use name_server::{NameServer, Zone, question};
pub(crate) use network::{CABLE_IPV4, LOCAL_IPV4, LOCAL_IPV6, Network};
pub(crate) use program::{Launch, Program, copy_generator, digest, installed};
pub(crate) use record::Record;
pub(crate) use rsyslog::Rsyslog;
pub(crate) use server::{Connection, Protocol, TcpServer, UdpServer, bound_tcp, bound_udp, connected_tcp};
pub(crate) use ways::{DatagramWay, Datagrams, HandOver, PacketWay, Packets, Stream, StreamWay};
