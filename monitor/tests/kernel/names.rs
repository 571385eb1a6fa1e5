//! What the remote side was called: names said on a flow, and names that DNS gave.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::ring, pki_types::ServerName};
use tempfile::TempDir;

use crate::{
    Case, skip,
    support::{
        Launch, Monitor, NameServer, Network, Program, Record, Rung, Settings, TcpServer, Traffic, UdpServer, View,
        Zone, installed, is_emulated, question, watch,
    },
};

/// The tests of this file.
pub(crate) const CASES: &[Case] = &[
    Case::new("curl_names_its_server_in_http", http_host).needs("curl"),
    Case::new("curl_names_its_server_in_tls", server_name).needs("curl").in_user_space(),
    Case::new("a_large_hello_in_many_segments_names_its_server", large_hello),
    Case::new("a_first_message_larger_than_its_segment_names_its_server", large_message),
    Case::new("a_first_message_that_is_cut_off_says_so", cut_message),
    Case::new("answers_after_a_large_one_name_their_addresses", large_answer),
    Case::new("a_quic_client_names_its_server", quic).in_user_space(),
    Case::new("a_client_of_quic_version_2_names_its_server", quic_version_2).in_user_space(),
    Case::new("a_flagged_name_at_a_content_network_alerts", content_network).needs("curl").in_user_space(),
    Case::new("names_behind_proxies_are_the_real_destination", proxies).needs("curl").in_user_space(),
    Case::new("an_address_behind_a_proxy_is_the_real_destination", address_behind_proxy).needs("curl").in_user_space(),
    Case::new("a_hello_after_starttls_names_its_server", starttls).needs("curl").in_user_space(),
    Case::new("answers_over_udp_name_their_addresses", |rung| dns(rung, &DNS_UDP)).needs("curl"),
    Case::new("answers_over_tcp_name_their_addresses", |rung| dns(rung, &DNS_TCP)).needs("curl").in_user_space(),
    Case::new("answers_over_ipv6_name_their_addresses", |rung| dns(rung, &DNS_IPV6)).needs("curl"),
    Case::new("a_forwarder_on_the_loopback_names_for_everybody", forwarder).needs("dnsmasq").in_user_space(),
    Case::new("without_capture_nothing_is_named", without_capture).needs("curl").in_user_space(),
];

/// Names a Python that has the package aioquic.
const AIOQUIC: &str = "EGRESSWATCH_AIOQUIC";
/// An address of a content network in the United States, on no list (AS13335).
const CONTENT_NETWORK: &str = "104.16.132.229";
/// A domain of the embedded lists.
const FLAGGED_NAME: &str = "api.deepseek.com";

/// Curl, in a shell that does not mind how it ends: servers here do not speak TLS.
fn curl(arguments: &[&str]) -> Result<Command> {
    let curl = installed("curl").context("curl is not installed")?;
    // It has said the name at once, and then waits for an answer that never comes.
    let seconds = if is_emulated() { "6" } else { "2" };
    let mut command = Command::new("sh");
    command.args(["-c", "\"$@\" || true", "sh"]).arg(curl);
    command.args(["--silent", "--noproxy", "", "--max-time", seconds, "--output", "/dev/null"]).args(arguments);
    Ok(command)
}

/// `[address]:port`, as curl wants it in `--resolve name:port:address`.
fn resolve(name: &str, to: SocketAddr) -> String {
    format!("{name}:{}:{}", to.port(), to.ip())
}

/// The names of a record as `source scope name`.
fn names(record: &Record) -> Vec<String> {
    let text = |name: &serde_json::Value, field: &str| name[field].as_str().unwrap_or("-").to_owned();
    record
        .objects("/egresswatch/names")
        .map(|name| format!("{} {} {}", text(name, "source"), text(name, "scope"), text(name, "name")))
        .collect()
}

fn ensure_named(record: &Record, expected: &[&str]) -> Result<()> {
    let names = names(record);
    let missing = expected.iter().find(|expected| !names.iter().any(|name| name == *expected));
    ensure!(missing.is_none(), "{missing:?} is missing in {names:?}: {}", record.pretty());
    Ok(())
}

/// The end of the flow to `remote`, seen from its client.
fn end_of(view: &View<'_>, remote: SocketAddr) -> Result<Arc<Record>> {
    view.one(&format!("the end of the flow to {remote}"), |record| {
        record.is_flow_end() && record.is_egress() && record.remote() == Some(remote)
    })
}

fn http_host(rung: Rung) -> Result<()> {
    let network = Network::new()?;
    let server = TcpServer::http(&network)?;
    let remote = SocketAddr::new("198.51.100.10".parse()?, server.port);
    let name = "Web.Example.COM";
    watch(rung, |view| {
        let url = format!("http://{name}:{}/", server.port);
        let command = curl(&["--data-binary", "@-", "--resolve", &resolve(name, remote), &url])?;
        Launch::inside(&network).run_command(command, "confidential\r\n\r\n")?;
        let end = end_of(&view, remote)?;
        ensure_named(&end, &["http_host flow web.example.com"])?;
        ensure!(end.text("/destination/domain") == Some("web.example.com"), "{}", end.pretty());
        ensure!(end.text("/url/domain") == Some("web.example.com"), "{}", end.pretty());
        ensure!(!end.pretty().contains("confidential"), "more than the name left the monitor: {}", end.pretty());
        Ok(())
    })
}

fn server_name(rung: Rung) -> Result<()> {
    let network = Network::new()?;
    // It answers with something that is not TLS.
    let server = TcpServer::scripted(&network, &[b"", b"no\r\n"])?;
    for address in ["198.51.100.11", "2001:db8::11"] {
        let remote = SocketAddr::new(address.parse()?, server.port);
        watch(rung, |view| {
            let url = format!("https://tls.example.com:{}/", server.port);
            let command = curl(&["--insecure", "--resolve", &resolve("tls.example.com", remote), &url])?;
            Launch::inside(&network).run_command(command, "")?;
            let end = end_of(&view, remote)?;
            ensure_named(&end, &["tls_sni flow tls.example.com"])?;
            ensure!(end.text("/tls/client/server_name") == Some("tls.example.com"), "{}", end.pretty());
            Ok(())
        })?;
    }
    Ok(())
}

/// The first record of a real client that offers so many protocols that its message is larger than a packet.
fn client_hello(name: &'static str) -> Result<Vec<u8>> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = (0..300).map(|number| format!("protocol-{number}").into_bytes()).collect();
    let mut connection = ClientConnection::new(Arc::new(config), ServerName::try_from(name)?)?;
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes)?;
    Ok(bytes)
}

fn large_hello(rung: Rung) -> Result<()> {
    let hello = client_hello("large.example.com")?;
    ensure!(hello.len() > 3_000, "the message has only {} bytes", hello.len());
    let network = Network::with_packets_of(1_500)?;
    let server = TcpServer::start(&network, hello.len() as u64, 0)?;
    let remote = SocketAddr::new("198.51.100.12".parse()?, server.port);
    let program = Program::new("large-hello")?;
    watch(rung, |view| {
        let pieces = hello.chunks(500).map(<[u8]>::to_vec).collect();
        Launch::inside(&network).run(&program, &Traffic::Say { to: remote, pieces })?;
        ensure_named(&*end_of(&view, remote)?, &["tls_sni flow large.example.com"])
    })
}

/// A request whose host stands behind a cookie of `cookie_bytes`.
fn request(host: &str, cookie_bytes: usize) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nCookie: {}\r\nHost: {host}\r\n\r\n", "x".repeat(cookie_bytes)).into_bytes()
}

/// One packet of the network stack, which becomes several on the wire.
fn large_message(rung: Rung) -> Result<()> {
    let network = Network::new()?;
    let program = Program::new("large-message")?;
    for address in ["198.51.100.15", "2001:db8::15"] {
        let piece = request("large.example.com", 7_500);
        let server = TcpServer::start(&network, piece.len() as u64, 0)?;
        let remote = SocketAddr::new(address.parse()?, server.port);
        watch(rung, |view| {
            Launch::inside(&network).run(&program, &Traffic::Say { to: remote, pieces: vec![piece] })?;
            ensure_named(&*end_of(&view, remote)?, &["http_host flow large.example.com"])
        })?;
    }
    Ok(())
}

fn cut_message(rung: Rung) -> Result<()> {
    let network = Network::new()?;
    let program = Program::new("cut-message")?;
    let piece = request("late.example.com", 12_000);
    let server = TcpServer::start(&network, piece.len() as u64, 0)?;
    let remote = SocketAddr::new("198.51.100.16".parse()?, server.port);
    let monitor = Monitor::start(rung, Settings::default())?;
    let view = monitor.view();
    Launch::inside(&network).run(&program, &Traffic::Say { to: remote, pieces: vec![piece] })?;
    let end = end_of(&view, remote)?;
    ensure!(end.texts("/egresswatch/name_caveats") == ["opening_cut"] && names(&end).is_empty(), "{}", end.pretty());
    view.one("the loss", |record| record.text("/egresswatch/loss/reason") == Some("name_opening_cut"))?;
    monitor.stop().map(drop)
}

/// Of an answer that is longer than a capture the rest is missing, and nothing else on its connection.
fn large_answer(rung: Rung) -> Result<()> {
    let network = Network::new()?;
    let (first, next): (IpAddr, IpAddr) = ("198.51.100.24".parse()?, "198.51.100.25".parse()?);
    let mut addresses = vec![("large.example.com", first)];
    addresses.extend((0..400_u16).map(|number| {
        let [high, low] = number.to_be_bytes();
        ("large.example.com", IpAddr::from([203, 0, 113 + high, low]))
    }));
    addresses.push(("next.example.com", next));
    let zone = Zone { aliases: Vec::new(), addresses };
    let name_server = NameServer::start(&network, "9.9.9.9".parse()?, &zone)?;
    let server = TcpServer::start(&network, 1, 0)?;
    let (resolver, program) = (Program::new("resolver")?, Program::new("asks-nobody")?);
    let questions = ["large.example.com", "next.example.com"].map(question).into_iter().collect::<Result<Vec<_>>>()?;
    let monitor = Monitor::start(rung, Settings::default())?;
    let view = monitor.view();
    Launch::inside(&network).run(&resolver, &Traffic::Ask { server: "9.9.9.9:53".parse()?, questions })?;
    ensure!(name_server.asked() == (0, 2), "asked {:?}", name_server.asked());
    for (address, name) in [(first, "large.example.com"), (next, "next.example.com")] {
        let remote = SocketAddr::new(address, server.port);
        let traffic = Traffic::Tcp { to: remote, connections: 1, send: 1, receive: 0, hold: false };
        Launch::inside(&network).run(&program, &traffic)?;
        ensure_named(&*end_of(&view, remote)?, &[&format!("dns network_namespace {name}")])?;
    }
    view.one("the loss", |record| record.text("/egresswatch/loss/reason") == Some("name_dns_cut"))?;
    monitor.stop().map(drop)
}

fn quic(rung: Rung) -> Result<()> {
    let network = Network::new()?;
    let program = Program::new("quic")?;
    for address in ["198.51.100.13", "2001:db8::13"] {
        let server = UdpServer::start(&network, address.parse()?, None)?;
        let monitor = Monitor::start(rung, Settings::default())?;
        let view = monitor.view();
        let traffic = Traffic::Quic { to: server.address, name: "quic.example.com".to_owned() };
        Launch::inside(&network).run(&program, &traffic)?;
        let end = end_of(&view, server.address)?;
        ensure_named(&end, &["quic_sni flow quic.example.com"])?;
        ensure!(end.text("/tls/client/server_name") == Some("quic.example.com"), "{}", end.pretty());
        drop(monitor);
    }
    Ok(())
}

/// Two real peers that agree on version 2: from the first packet on, and after a beginning in version 1.
fn quic_version_2(rung: Rung) -> Result<()> {
    let Some(python) = std::env::var_os(AIOQUIC) else {
        return skip("aioquic is not there: `cargo xtask test` installs it");
    };
    let folder = TempDir::new()?;
    let place = |name: &str| folder.path().join(name);
    let network = Network::new()?;
    fs::write(place("peers.py"), include_str!("support/quic_peers.py"))?;
    for (version, name) in [("VERSION_2", "second.quic.example.com"), ("VERSION_1", "agreed.quic.example.com")] {
        let certified = rcgen::generate_simple_self_signed([name.to_owned()])?;
        fs::write(place("certificate.pem"), certified.cert.pem())?;
        fs::write(place("key.pem"), certified.signing_key.serialize_pem())?;
        let remote = SocketAddr::new("198.51.100.14".parse()?, network.port());
        watch(rung, |view| {
            let mut peers = Command::new(&python);
            peers.arg(place("peers.py")).args([remote.ip().to_string(), remote.port().to_string(), name.to_owned()]);
            peers.args([place("certificate.pem"), place("key.pem")]).arg(version);
            Launch::inside(&network).run_command(peers, "")?;
            let end = end_of(&view, remote)?;
            ensure_named(&end, &[&format!("quic_sni flow {name}")])?;
            ensure!(end.text("/tls/client/server_name") == Some(name), "{}", end.pretty());
            Ok(())
        })
        .with_context(|| format!("beginning with {version}"))?;
    }
    Ok(())
}

fn content_network(rung: Rung) -> Result<()> {
    let network = Network::new()?;
    let server = TcpServer::scripted(&network, &[b"", b"no\r\n"])?;
    let remote = SocketAddr::new(CONTENT_NETWORK.parse()?, server.port);
    watch(rung, |view| {
        let url = format!("https://{FLAGGED_NAME}:{}/", server.port);
        let command = curl(&["--insecure", "--resolve", &resolve(FLAGGED_NAME, remote), &url])?;
        Launch::inside(&network).run_command(command, "")?;
        let alert = view.one("an alert", |record| record.is_alert() && record.remote() == Some(remote))?;
        ensure!(alert.text("/event/action") == Some("first_contact"), "{}", alert.pretty());
        ensure!(alert.text("/destination/domain") == Some(FLAGGED_NAME), "{}", alert.pretty());
        let keys: Vec<_> = alert
            .objects("/egresswatch/matches")
            .map(|entry| entry.pointer("/key/value").and_then(serde_json::Value::as_str))
            .collect();
        ensure!(!keys.is_empty() && keys.iter().all(|key| *key == Some("deepseek.com")), "{}", alert.pretty());
        // The owner of the address is who it is, and is not the one on the list.
        ensure!(alert.number("/destination/as/number") == Some(13_335), "{}", alert.pretty());
        let owner = alert.text("/egresswatch/owner/organisation").unwrap_or_default();
        ensure!(owner.to_lowercase().contains("cloudflare"), "{}", alert.pretty());
        let end = end_of(&view, remote)?;
        ensure!(!end.facts().contains(&"flagged"), "the kernel side knows addresses only: {}", end.pretty());
        Ok(())
    })
}

fn proxies(rung: Rung) -> Result<()> {
    const CONNECT: &[&[u8]] = &[b"", b"HTTP/1.1 200 OK\r\n\r\n", b"no\r\n"];
    const SOCKS5: &[&[u8]] = &[b"", b"\x05\x00", b"\x05\x00\x00\x01\0\0\0\0\0\0", b"no\r\n"];
    const SOCKS4: &[&[u8]] = &[b"", b"\x00\x5a\0\0\0\0\0\0", b"no\r\n"];
    let network = Network::new()?;
    // The proxies stand on the loopback, where no owner is known: the names alone say who is meant.
    for (scheme, source, protocol, answers) in [
        ("http", "proxy_connect", "http_connect", CONNECT),
        ("socks5h", "socks5", "socks5", SOCKS5),
        ("socks4a", "socks4", "socks4", SOCKS4),
    ] {
        let server = TcpServer::scripted(&network, answers)?;
        let remote = SocketAddr::new("127.0.0.9".parse()?, server.port);
        let monitor = Monitor::start(rung, Settings::default())?;
        let view = monitor.view();
        let proxy = format!("{scheme}://{remote}");
        let url = format!("https://{FLAGGED_NAME}/");
        Launch::inside(&network).run_command(curl(&["--insecure", "--proxy", &proxy, &url])?, "")?;
        let alert = view.one("an alert", |record| record.is_alert() && record.remote() == Some(remote))?;
        ensure!(alert.text("/egresswatch/proxied/protocol") == Some(protocol), "{}", alert.pretty());
        ensure!(alert.text("/egresswatch/proxied/domain") == Some(FLAGGED_NAME), "{}", alert.pretty());
        ensure!(alert.number("/egresswatch/proxied/port") == Some(443), "{}", alert.pretty());
        ensure!(alert.text("/destination/domain") == Some(FLAGGED_NAME), "{}", alert.pretty());
        let said = format!("{source} flow {FLAGGED_NAME}");
        ensure_named(&*end_of(&view, remote)?, &[&said, &format!("tls_sni flow {FLAGGED_NAME}")])?;
        drop(monitor);
    }
    Ok(())
}

fn address_behind_proxy(rung: Rung) -> Result<()> {
    let network = Network::new()?;
    let server = TcpServer::scripted(&network, &[b"", b"\x05\x00", b"\x05\x00\x00\x01\0\0\0\0\0\0", b"no\r\n"])?;
    let remote = SocketAddr::new("127.0.0.10".parse()?, server.port);
    let monitor = Monitor::start(rung, Settings::default())?;
    let view = monitor.view();
    let command = curl(&["--proxy", &format!("socks5://{remote}"), "http://120.232.0.1/"])?;
    Launch::inside(&network).run_command(command, "")?;
    let alert = view.one("an alert", |record| record.is_alert() && record.remote() == Some(remote))?;
    ensure!(alert.text("/egresswatch/proxied/ip") == Some("120.232.0.1"), "{}", alert.pretty());
    ensure!(alert.number("/egresswatch/proxied/owner/asn") == Some(56_040), "{}", alert.pretty());
    Ok(())
}

fn starttls(rung: Rung) -> Result<()> {
    const GREETED: &[&[u8]] = &[b"220 mail\r\n", b"250-mail\r\n250 STARTTLS\r\n", b"220 go ahead\r\n", b"no\r\n"];
    let network = Network::new()?;
    let server = TcpServer::scripted(&network, GREETED)?;
    let remote = SocketAddr::new("198.51.100.14".parse()?, server.port);
    watch(rung, |view| {
        let url = format!("smtp://mail.example.com:{}/", server.port);
        let command = curl(&["--ssl-reqd", "--insecure", "--resolve", &resolve("mail.example.com", remote), &url])?;
        Launch::inside(&network).run_command(command, "")?;
        ensure_named(&*end_of(&view, remote)?, &["tls_sni flow mail.example.com"])
    })
}

/// How a name server is asked.
struct Asking {
    server: &'static str,
    /// Options of `resolv.conf`.
    options: &'static str,
    over_tcp: bool,
    /// Address of the site.
    site: &'static str,
}

const DNS_UDP: Asking = Asking { server: "9.9.9.9", options: "", over_tcp: false, site: "198.51.100.21" };
const DNS_TCP: Asking =
    Asking { server: "9.9.9.9", options: "options use-vc\n", over_tcp: true, site: "198.51.100.22" };
const DNS_IPV6: Asking = Asking { server: "2620:fe::fe", options: "", over_tcp: false, site: "2001:db8::23" };

/// Binds the files over the machine's own in a mount namespace of the program's own, then becomes the program.
const WITH_RESOLVER: &str = r#"
mount --bind "$1/resolv.conf" /etc/resolv.conf && mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf && shift && exec "$@"
"#;

/// `command` with a resolver of its own.
fn with_resolver(command: &Command, server: &str, options: &str) -> Result<(Command, TempDir)> {
    let folder = tempfile::Builder::new().prefix("egresswatch-resolver-").tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    fs::write(folder.path().join("resolv.conf"), format!("nameserver {server}\n{options}"))?;
    fs::write(folder.path().join("nsswitch.conf"), "hosts: files dns\n")?;
    let mut wrapped = Command::new("unshare");
    wrapped.args(["--mount", "--propagation", "private", "--", "sh", "-c", WITH_RESOLVER, "sh"]).arg(folder.path());
    wrapped.arg(command.get_program()).args(command.get_args());
    Ok((wrapped, folder))
}

/// The C library asks for an alias of an alias.
fn dns(rung: Rung, asking: &Asking) -> Result<()> {
    let network = Network::new()?;
    let site: IpAddr = asking.site.parse()?;
    let zone = Zone {
        aliases: vec![("www.example.com", "edge.example.net"), ("edge.example.net", "node.example.org")],
        addresses: vec![("node.example.org", site)],
    };
    let name_server = NameServer::start(&network, asking.server.parse()?, &zone)?;
    let server = TcpServer::http(&network)?;
    let remote = SocketAddr::new(site, server.port);
    watch(rung, |view| {
        let url = format!("http://www.example.com:{}/", server.port);
        let (command, _folder) = with_resolver(&curl(&[&url])?, asking.server, asking.options)?;
        Launch::inside(&network).run_command(command, "")?;
        let (over_udp, over_tcp) = name_server.asked();
        ensure!((over_tcp > 0) == asking.over_tcp && (over_udp > 0) != asking.over_tcp, "asked {over_udp}, {over_tcp}");
        let end = end_of(&view, remote)?;
        let expected =
            ["dns process www.example.com", "dns_cname process edge.example.net", "dns_cname process node.example.org"];
        ensure_named(&end, &expected)?;
        ensure!(end.text("/destination/domain") == Some("www.example.com"), "{}", end.pretty());
        let answer = end.objects("/egresswatch/names").find(|name| name["source"] == "dns").context("no answer")?;
        ensure!(answer["ttl"] == 300 && answer["age_ms"].is_u64(), "{}", end.pretty());
        Ok(())
    })
}

fn forwarder(rung: Rung) -> Result<()> {
    let network = Network::new()?;
    let (site, upstream) = ("198.51.100.31", "9.9.9.10");
    let zone = Zone { aliases: Vec::new(), addresses: vec![("forwarded.example.com", site.parse()?)] };
    let name_server = NameServer::start(&network, upstream.parse()?, &zone)?;
    let server = TcpServer::http(&network)?;
    let remote = SocketAddr::new(site.parse()?, server.port);
    let (neighbour, stranger) = (Program::new("neighbour")?, Program::new("stranger")?);
    let traffic = Traffic::Tcp { to: remote, connections: 1, send: 1, receive: 0, hold: false };
    watch(rung, |view| {
        let forwarder = Forwarder::start(&network, upstream)?;
        let url = format!("http://forwarded.example.com:{}/", server.port);
        let (command, _folder) = with_resolver(&curl(&[&url])?, "127.0.0.53", "")?;
        Launch::inside(&network).run_command(command, "")?;
        ensure!(name_server.asked().0 > 0, "the forwarder did not ask");
        let end = end_of(&view, remote)?;
        // The program that asked has the answer itself, from the forwarder.
        ensure_named(&end, &["dns process forwarded.example.com"])?;
        // One that did not ask is told what others in its network got.
        Launch::inside(&network).run(&neighbour, &traffic)?;
        let end = view.one("the end of a neighbour's flow", |record| {
            record.is_flow_end() && record.executable() == Some(neighbour.name())
        })?;
        ensure_named(&end, &["dns network_namespace forwarded.example.com"])?;
        // One in another network is told that somebody on the host got it.
        let elsewhere = Network::new()?;
        let other_server = TcpServer::start(&elsewhere, 1, 0)?;
        let to = SocketAddr::new(site.parse()?, other_server.port);
        let traffic = Traffic::Tcp { to, connections: 1, send: 1, receive: 0, hold: false };
        Launch::inside(&elsewhere).run(&stranger, &traffic)?;
        let end = view.one("the end of a stranger's flow", |record| {
            record.is_flow_end() && record.executable() == Some(stranger.name())
        })?;
        ensure_named(&end, &["dns host forwarded.example.com"])?;
        drop(forwarder);
        Ok(())
    })
}

/// A resolver on the loopback, as most distributions have one.
struct Forwarder(std::process::Child);

impl Forwarder {
    fn start(network: &Network, upstream: &str) -> Result<Self> {
        let dnsmasq = installed("dnsmasq").context("dnsmasq is not installed")?;
        let mut command = Command::new(&dnsmasq);
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
        ]);
        command.args(["--listen-address=127.0.0.53", "--pid-file=", "--user=root", "--log-facility=-"]);
        command.arg(format!("--server={upstream}"));
        let child = Launch::inside(network).spawn(command)?;
        let forwarder = Self(child);
        wait_for_port(network, Path::new("/proc/thread-self/net/udp"))?;
        Ok(forwarder)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until somebody listens at 127.0.0.53:53, as the kernel's table of sockets writes it.
fn wait_for_port(network: &Network, table: &Path) -> Result<()> {
    let deadline = std::time::Instant::now() + crate::support::patience();
    loop {
        let sockets = network.inside(|| fs::read_to_string(table).context("no table of sockets"))?;
        if sockets.contains("3500007F:0035") {
            return Ok(());
        }
        ensure!(std::time::Instant::now() < deadline, "the forwarder does not listen");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn without_capture(rung: Rung) -> Result<()> {
    let network = Network::new()?;
    let server = TcpServer::http(&network)?;
    let remote = SocketAddr::new("198.51.100.41".parse()?, server.port);
    let monitor = Monitor::start(rung, Settings { kernel: "capture_names = false", ..Settings::default() })?;
    let view = monitor.view();
    let url = format!("http://silent.example.com:{}/", server.port);
    Launch::inside(&network).run_command(curl(&["--resolve", &resolve("silent.example.com", remote), &url])?, "")?;
    let end = end_of(&view, remote)?;
    ensure!(names(&end).is_empty() && end.text("/destination/domain").is_none(), "{}", end.pretty());
    monitor.stop().map(drop)
}
