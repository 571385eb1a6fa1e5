use std::net::SocketAddr;

use bytes::Bytes;
use proptest::prelude::*;
use rustls::quic::Version;

use super::*;
use crate::event::ProcessKey;

const BROWSER: ProcessKey = ProcessKey { pid: 100, start_ticks: 1 };
const RESOLVER: ProcessKey = ProcessKey { pid: 200, start_ticks: 1 };
const ELSEWHERE: ProcessKey = ProcessKey { pid: 300, start_ticks: 1 };
const SECOND_NS: u64 = 1_000_000_000;

/// A stage, and a clock that goes on by a second with each capture.
struct Scene {
    names: Names,
    now: BootTime,
}

impl Scene {
    fn new() -> Self {
        Self::with(&Config::default())
    }

    fn with(config: &Config) -> Self {
        Self { names: Names::new(config), now: BootTime(0) }
    }

    fn capture(&mut self, capture: Capture) -> Learned {
        self.now = BootTime(self.now.0 + SECOND_NS);
        self.names.take_in(&Capture { at: self.now, ..capture })
    }

    /// Lets a process in a namespace get a DNS answer.
    fn answer(&mut self, process: ProcessKey, namespace: u64, message: Vec<u8>) -> Learned {
        self.capture(Capture {
            process: Some(process),
            network_namespace_cookie: Some(namespace),
            direction: Direction::In,
            ..capture(key(Protocol::Udp, "127.0.0.53:53"), message)
        })
    }

    /// What the browser's flow is called; decisive names are marked with a star.
    fn names_of(&mut self, key: &FlowKey) -> Vec<String> {
        let asker = Asker {
            key,
            processes: [Some(BROWSER), None],
            network_namespace_cookie: Some(1),
            at: BootTime(self.now.0 + SECOND_NS),
        };
        let show = |named: &Named| {
            let star = if named.is_decisive { "*" } else { "" };
            format!("{:?} {} {}{star}", named.scope, named.source.as_token(), named.name)
        };
        self.names.of(&asker).names.iter().map(show).collect()
    }

    fn caveats_of(&mut self, key: &FlowKey) -> Vec<NameCaveat> {
        let asker = Asker { key, processes: [None, None], network_namespace_cookie: None, at: self.now };
        self.names.of(&asker).caveats
    }
}

fn key(protocol: Protocol, remote: &str) -> FlowKey {
    FlowKey { socket_cookie: 7, protocol, remote: remote.parse::<SocketAddr>().unwrap() }
}

fn web() -> FlowKey {
    key(Protocol::Tcp, "192.0.2.1:443")
}

fn capture(key: FlowKey, data: Vec<u8>) -> Capture {
    Capture {
        key,
        direction: Direction::Out,
        process: Some(BROWSER),
        network_namespace_cookie: Some(1),
        tcp_sequence: 0,
        payload_bytes: data.len() as u32,
        data: Bytes::from(data),
        at: BootTime(0),
    }
}

fn segment(key: FlowKey, sequence: u32, data: &[u8]) -> Capture {
    Capture { tcp_sequence: sequence, ..capture(key, data.to_vec()) }
}

const SERVER: [u8; 4] = [192, 0, 2, 1];

fn dns(name: &str) -> Vec<u8> {
    dns::tests::address(name, SERVER, 60)
}

#[test]
fn the_nearest_scope_stands_first_and_all_are_told() {
    let mut scene = Scene::new();
    scene.answer(ELSEWHERE, 9, dns("host.example"));
    assert_eq!(scene.names_of(&web()), ["Host dns host.example*"]);
    scene.answer(RESOLVER, 1, dns("namespace.example"));
    assert_eq!(scene.names_of(&web()), ["NetworkNamespace dns namespace.example*", "Host dns host.example"]);
    scene.answer(BROWSER, 1, dns("own.example"));
    scene.capture(capture(web(), opening::samples::client_hello("sni.example")));
    assert_eq!(
        scene.names_of(&web()),
        [
            "Flow tls_sni sni.example*",
            "Process dns own.example*",
            "NetworkNamespace dns namespace.example",
            "Host dns host.example"
        ]
    );
}

#[test]
fn an_address_keeps_all_its_names_newest_first() {
    let mut scene = Scene::new();
    for name in ["one.example", "two.example", "three.example", "one.example"] {
        scene.answer(BROWSER, 1, dns(name));
    }
    assert_eq!(
        scene.names_of(&web()),
        ["Process dns one.example*", "Process dns three.example*", "Process dns two.example*"]
    );
    for number in 0..100 {
        scene.answer(BROWSER, 1, dns(&format!("{number}.example")));
    }
    let names = scene.names_of(&web());
    assert_eq!((names.len(), names.first().map(String::as_str)), (NAMES, Some("Process dns 99.example*")));
    assert_eq!(scene.names.losses().names, 103 - 32);
}

#[test]
fn a_name_that_may_be_a_public_one_leaves_the_others_in_play() {
    let mut scene = Scene::new();
    scene.answer(RESOLVER, 1, dns("hidden.example"));
    let hello = opening::samples::client_hello("public.example");
    scene.capture(capture(web(), opening::samples::with_extension(&hello, 0xfe0d, &[0; 100])));
    assert_eq!(scene.names_of(&web()), ["Flow tls_sni public.example*", "NetworkNamespace dns hidden.example*"]);
    assert_eq!(scene.caveats_of(&web()), [NameCaveat::EchOffered]);
    // DNS gave the address under that name as well: then it is the name of a server, and the extension is for show.
    scene.answer(RESOLVER, 1, dns("public.example"));
    assert_eq!(
        scene.names_of(&web()),
        ["Flow tls_sni public.example*", "NetworkNamespace dns public.example", "NetworkNamespace dns hidden.example"]
    );
}

#[test]
fn old_answers_are_forgotten() {
    let mut scene = Scene::with(&Config { keep: crate::units::Duration::from_secs(10), ..Config::default() });
    scene.answer(BROWSER, 1, dns("old.example"));
    scene.now = BootTime(11 * SECOND_NS);
    assert_eq!(scene.names_of(&web()), [""; 0]);
}

#[test]
fn addresses_are_bounded_and_counted() {
    let config = Config { max_addresses: std::num::NonZeroUsize::new(2).unwrap(), ..Config::default() };
    let mut scene = Scene::with(&config);
    for last in 1..=4 {
        scene.answer(BROWSER, 1, dns::tests::address("a.example", [192, 0, 2, last], 60));
    }
    assert_eq!((scene.names.held().0, scene.names.losses().addresses), (2, 2));
    assert_eq!(scene.names_of(&key(Protocol::Tcp, "192.0.2.4:443")), ["Process dns a.example*"]);
    assert_eq!(scene.names_of(&web()), [""; 0]);
}

#[test]
fn a_hello_in_segments_of_any_order_is_put_together() {
    let hello = opening::samples::client_hello("sni.example");
    // The numbers wrap in the middle.
    let base = u32::MAX - 100;
    let mut pieces: Vec<_> =
        hello.chunks(60).enumerate().map(|(index, piece)| (base.wrapping_add(60 * index as u32), piece)).collect();
    for turns in 0..pieces.len() - 1 {
        // A client's first segment is always captured first: packets are captured where they are made.
        pieces[1..].rotate_left(1);
        let mut scene = Scene::new();
        let (last, first) = pieces.split_last().unwrap();
        for (sequence, piece) in first {
            // Twice, as after a retransmission.
            assert!(!scene.capture(segment(web(), *sequence, piece)).of_flow, "turned by {turns}");
            scene.capture(segment(web(), *sequence, piece));
        }
        assert!(scene.capture(segment(web(), last.0, last.1)).of_flow, "turned by {turns}");
        assert_eq!(scene.names_of(&web()), ["Flow tls_sni sni.example*"]);
        assert_eq!(scene.names.held().1, 0, "nothing captured is kept");
    }
}

#[test]
fn a_packet_that_was_not_captured_whole_is_read_as_far_as_it_goes() {
    let hello = opening::samples::client_hello("sni.example");
    // Clients shuffle their extensions: the name may stand anywhere.
    let cut = hello.windows(11).position(|part| part == b"sni.example").unwrap() + 11;
    let mut scene = Scene::new();
    let captured = Capture { payload_bytes: hello.len() as u32, ..segment(web(), 5, &hello[..cut]) };
    assert!(scene.capture(captured).of_flow);
    assert_eq!(scene.names_of(&web()), ["Flow tls_sni sni.example*"]);
}

/// What the flow is called after `segments`, whether it says that more was said, and how often that was counted.
fn after_segments(segments: Vec<Capture>) -> (Vec<String>, bool, u64) {
    let mut scene = Scene::new();
    for captured in segments {
        scene.capture(captured);
    }
    assert_eq!(scene.names.held().1, 0, "nothing more is waited for");
    let is_cut = scene.caveats_of(&web()).contains(&NameCaveat::OpeningCut);
    (scene.names_of(&web()), is_cut, scene.names.losses().cut_openings)
}

#[test]
fn a_first_message_that_was_not_captured_whole_says_so() {
    // Clients shuffle their extensions: something stands behind the name wherever it is.
    let hello = opening::samples::with_extension(&opening::samples::client_hello("sni.example"), 0xfafa, &[0; 100]);
    let name_end = hello.windows(11).position(|part| part == b"sni.example").unwrap() + 11;
    let part = |bytes: &[u8], captured: usize| Capture {
        payload_bytes: bytes.len() as u32,
        ..segment(web(), 1, &bytes[..captured])
    };
    let named = vec!["Flow tls_sni sni.example*".to_owned()];
    // Behind the name an encrypted one may be offered.
    assert_eq!(after_segments(vec![part(&hello, name_end)]), (named, true, 1));
    assert_eq!(after_segments(vec![part(&hello, name_end - 1)]), (vec![], true, 1));
    // A head whose host stands behind a large cookie, in one packet and in many.
    let head = format!("GET / HTTP/1.1\r\nCookie: {}\r\nHost: late.example\r\n\r\n", "x".repeat(9_000));
    assert_eq!(after_segments(vec![part(head.as_bytes(), 8_192)]), (vec![], true, 1));
    let pieces = head.as_bytes().chunks(1_000).zip((0..).step_by(1_000));
    let segments: Vec<Capture> = pieces.map(|(piece, at)| segment(web(), at, piece)).collect();
    assert_eq!(after_segments(segments), (vec![], true, 1));
    // What comes behind a request for a tunnel.
    let tunnel = format!("CONNECT a.example:443 HTTP/1.1\r\nProxy-Authorization: {}\r\n\r\n", "x".repeat(9_000));
    let named = vec!["Flow proxy_connect a.example*".to_owned()];
    assert_eq!(after_segments(vec![part(tunnel.as_bytes(), 8_192)]), (named, true, 1));
}

#[test]
fn what_promises_no_name_is_not_said_to_be_cut() {
    // Mail, of which lines of text alone are captured.
    let mail = format!("EHLO me.example\r\nMAIL FROM:<a@b.example>\r\nDATA\r\n{}", "words of a letter\r\n".repeat(600));
    let pieces = mail.as_bytes().chunks(1_000).zip((0..).step_by(1_000)).take(9);
    assert_eq!(after_segments(pieces.map(|(piece, at)| segment(web(), at, piece)).collect()), (vec![], false, 0));
    // A host that is known before its head was cut.
    let head = format!("GET / HTTP/1.1\r\nHost: early.example\r\nCookie: {}", "x".repeat(9_000));
    let captured = Capture { payload_bytes: 20_000, ..segment(web(), 1, &head.as_bytes()[..8_192]) };
    assert_eq!(after_segments(vec![captured]), (vec!["Flow http_host early.example*".to_owned()], false, 0));
}

#[test]
fn a_quic_client_that_says_more_than_is_captured_says_so() {
    let flow = key(Protocol::Udp, "192.0.2.1:443");
    let datagrams = quic::tests::datagrams(Version::V1, "quic.example", 2);
    let first = datagrams.first().unwrap();
    let mut scene = Scene::new();
    for _ in 0..8 {
        assert_eq!(scene.caveats_of(&flow), []);
        scene.capture(capture(flow, first.clone()));
    }
    assert_eq!(scene.caveats_of(&flow), [NameCaveat::OpeningCut]);
    assert_eq!((scene.names.losses().cut_openings, scene.names.held().1), (1, 0));
}

#[test]
fn quic_datagrams_name_their_server() {
    let flow = key(Protocol::Udp, "192.0.2.1:443");
    let mut scene = Scene::new();
    let learned: Vec<bool> = quic::tests::datagrams(Version::V1, "quic.example", 2)
        .into_iter()
        .map(|datagram| scene.capture(capture(flow, datagram)).of_flow)
        .collect();
    assert_eq!(learned, [false, true]);
    assert_eq!(scene.names_of(&flow), ["Flow quic_sni quic.example*"]);
}

#[test]
fn the_destination_behind_a_proxy_is_known_by_name_and_by_address() {
    let proxy = key(Protocol::Tcp, "127.0.0.1:3128");
    let mut scene = Scene::new();
    scene.answer(BROWSER, 1, dns("real.example"));
    assert!(scene.capture(segment(proxy, 1, b"CONNECT 192.0.2.1:443 HTTP/1.1\r\n\r\n")).of_flow);
    let asker = Asker { key: &proxy, processes: [Some(BROWSER), None], network_namespace_cookie: None, at: scene.now };
    let names = scene.names.of(&asker);
    assert_eq!(names.proxied.as_ref().and_then(Proxied::address), Some(SERVER.into()));
    assert_eq!(scene.names_of(&proxy), ["Process dns real.example*"]);
    let hello = opening::samples::client_hello("inner.example");
    assert!(scene.capture(segment(proxy, 35, &hello)).of_flow);
    assert_eq!(scene.names_of(&proxy), ["Flow tls_sni inner.example*", "Process dns real.example*"]);
}

#[test]
fn answers_over_tcp_are_read_as_they_come() {
    let flow = key(Protocol::Tcp, "[2001:db8::53]:53");
    let message = dns("tcp.example");
    let stream = [&(message.len() as u16).to_be_bytes()[..], &message].concat().repeat(400);
    let mut scene = Scene::new();
    let mut learned = 0;
    for (index, piece) in stream.chunks(500).enumerate() {
        let captured = Capture { direction: Direction::In, ..segment(flow, 500 * index as u32, piece) };
        learned += scene.capture(captured).addresses.len();
    }
    assert_eq!(learned, 400);
    assert_eq!(scene.names.held().1, 0);
    assert_eq!(scene.names_of(&web()), ["Process dns tcp.example*"]);
}

#[test]
fn encrypted_dns_is_said() {
    let mut scene = Scene::new();
    assert_eq!(scene.caveats_of(&key(Protocol::Tcp, "192.0.2.1:853")), [NameCaveat::DnsOverTls]);
    assert_eq!(scene.caveats_of(&key(Protocol::Udp, "192.0.2.1:853")), [NameCaveat::DnsOverQuic]);
    scene.capture(capture(web(), opening::samples::client_hello("chrome.cloudflare-dns.com")));
    assert_eq!(scene.caveats_of(&web()), [NameCaveat::DnsOverHttps]);
}

#[test]
fn openings_are_bounded_in_number_and_in_bytes() {
    let config = Config {
        max_openings: std::num::NonZeroUsize::new(8).unwrap(),
        opening_memory: crate::units::ByteSize::from_bytes(2_000),
        ..Config::default()
    };
    let mut scene = Scene::with(&config);
    for cookie in 0..20 {
        let flow = FlowKey { socket_cookie: cookie, ..web() };
        // Every other one may be a request; the rest may be anything, and is no loss.
        let begun = if cookie % 2 == 0 { b"GET /".repeat(20) } else { vec![b'x'; 100] };
        scene.capture(segment(flow, 1, &begun));
        assert!(scene.names.held().1 <= 800);
    }
    assert_eq!(scene.names.losses().openings, 6);
    let flow = FlowKey { socket_cookie: 99, ..web() };
    scene.capture(segment(flow, 1, &[b'A'; 1_900]));
    assert!(scene.names.held().1 <= 2_000);
    scene.names.forget(&flow);
    assert!(scene.names.held().1 <= 100);
}

#[test]
fn what_is_no_protocol_is_not_kept() {
    let mut scene = Scene::new();
    scene.capture(segment(web(), 1, b"\xde\xad\xbe\xef"));
    scene.capture(capture(key(Protocol::Udp, "192.0.2.1:443"), b"\xc0nonsense".to_vec()));
    assert_eq!(scene.names.held().1, 0);
    // Answers on another port, and what a client sends to a DNS server, teach nothing.
    let elsewhere =
        Capture { direction: Direction::In, ..capture(key(Protocol::Udp, "192.0.2.1:5353"), dns("a.example")) };
    assert_eq!(scene.capture(elsewhere), Learned::default());
    assert_eq!(scene.capture(capture(key(Protocol::Udp, "192.0.2.1:53"), dns("a.example"))), Learned::default());
}

#[test]
fn an_ended_flow_is_forgotten() {
    let mut scene = Scene::new();
    scene.capture(capture(web(), opening::samples::client_hello("sni.example")));
    scene.names.forget(&web());
    assert_eq!(scene.names_of(&web()), [""; 0]);
}

proptest! {
    /// Whatever comes in whatever order: no panic, and the limits hold.
    #[test]
    fn any_captures_keep_within_the_limits(
        captures in proptest::collection::vec(
            (0u64..6, any::<bool>(), any::<bool>(), prop_oneof![Just(53u16), Just(443), Just(853)], any::<u32>(), any::<u16>(),
             proptest::collection::vec(any::<u8>(), 0..300)),
            0..60,
        ),
    ) {
        let config = Config {
            max_openings: std::num::NonZeroUsize::new(4).unwrap(),
            max_addresses: std::num::NonZeroUsize::new(4).unwrap(),
            opening_memory: crate::units::ByteSize::from_bytes(700),
            ..Config::default()
        };
        let mut scene = Scene::with(&config);
        for (cookie, is_tcp, is_out, port, sequence, beyond, data) in captures {
            let protocol = if is_tcp { Protocol::Tcp } else { Protocol::Udp };
            let flow = FlowKey { socket_cookie: cookie, protocol, remote: (SERVER, port).into() };
            let payload_bytes = data.len() as u32 + u32::from(beyond % 2);
            let direction = if is_out { Direction::Out } else { Direction::In };
            scene.capture(Capture { direction, payload_bytes, ..segment(flow, sequence, &data) });
            scene.names_of(&flow);
            let (addresses, bytes) = scene.names.held();
            prop_assert!(addresses <= 4 && bytes <= 700);
        }
        for cookie in 0..6 {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                for port in [53, 443, 853] {
                    scene.names.forget(&FlowKey { socket_cookie: cookie, protocol, remote: (SERVER, port).into() });
                }
            }
        }
        prop_assert_eq!(scene.names.held().1, 0);
    }
}
