use std::time::Duration;

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{Syslog, SyslogConfig};
use crate::{
    alert::{Timestamp, record::Dataset},
    sink::delivery::{Delivery as _, Item},
    units::ByteSize,
};

fn item(id: usize, bytes: &str) -> Item {
    Item {
        id: format!("run-{id}"),
        time: Timestamp::from_unix_ns(0),
        dataset: Dataset::Status,
        severity: None,
        bytes: Bytes::copy_from_slice(bytes.as_bytes()),
    }
}

fn tcp(port: u16) -> SyslogConfig {
    let text = format!("transport = \"tcp\"\naddress = \"127.0.0.1:{port}\"\ntimeout = \"5s\"");
    toml::from_str(&text).expect("good settings")
}

#[test]
fn settings_are_read_and_what_is_wrong_is_said() {
    for (text, complaint) in [
        ("address = \"siem\"", "`siem` is no host with a port: write one such as \"siem.example.com:6514\""),
        ("address = \":514\"", "is no host with a port"),
        ("facility = \"local9\"", "unknown variant `local9`"),
        ("tls = { ca = \"ca.pem\" }", "`ca.pem` is relative: write an absolute path"),
        ("addr = \"a:1\"", "unknown field `addr`"),
    ] {
        let error = toml::from_str::<SyslogConfig>(text).expect_err(text).to_string();
        assert!(error.contains(complaint), "{text}: {error}");
    }
    let config: SyslogConfig = toml::from_str("transport = \"tls\"").expect("read");
    let error = Syslog::open(&config).err().expect("no address").to_string();
    assert!(error.starts_with("address is not set"), "{error}");
}

#[tokio::test]
async fn a_batch_counts_once_the_receiver_has_closed_and_lives() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut syslog = Syslog::open(&tcp(listener.local_addr().expect("bound").port())).expect("good settings");
    let receiver = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.expect("a stream");
        drop(stream);
        let next = listener.accept().await.expect("the next connection");
        (received, next, listener)
    });
    let delivered = syslog.deliver(&[item(0, "a"), item(1, "b")]).await.expect("confirmed");
    assert!(delivered.refused.is_empty());
    let (bytes, _next, _listener) = receiver.await.expect("received");
    let arrived = String::from_utf8(bytes).expect("UTF-8");
    assert!(arrived.contains("id=\"run-0\"] a") && arrived.contains("id=\"run-1\"] b"), "{arrived}");
}

#[tokio::test]
async fn a_receiver_that_dies_or_never_closes_confirms_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut config = tcp(listener.local_addr().expect("bound").port());
    let mut syslog = Syslog::open(&config).expect("good settings");
    let receiver = tokio::spawn(async move {
        let address = listener.local_addr().expect("bound");
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.read_to_end(&mut Vec::new()).await.expect("a stream");
        // As one that is killed and started again at once.
        drop(listener);
        let again = TcpListener::bind(address).await.expect("the same port");
        drop(stream);
        again
    });
    let failure = syslog.deliver(&[item(0, "a")]).await.expect_err("gone");
    assert!(failure.reason.contains("as one that was killed"), "{failure}");
    drop(receiver.await.expect("received"));

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    config = tcp(listener.local_addr().expect("bound").port());
    config.timeout = crate::units::Duration::from_millis(200);
    let mut syslog = Syslog::open(&config).expect("good settings");
    let started = tokio::time::Instant::now();
    let failure = syslog.deliver(&[item(0, "a")]).await.expect_err("late");
    assert!(failure.reason.contains("confirm = \"write\""), "{failure}");
    assert!(started.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_receiver_that_closes_its_half_before_it_has_read_confirms_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut syslog = Syslog::open(&tcp(listener.local_addr().expect("bound").port())).expect("good settings");
    let receiver = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.shutdown().await.expect("half of it");
        // What was sent is in its buffer, and it goes without having read that.
        stream.readable().await.expect("something came");
        drop(stream);
        listener
    });
    syslog.deliver(&[item(0, "a"), item(1, "b")]).await.expect_err("nothing was read");
    drop(receiver.await.expect("a receiver"));
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_never_cut() {
    let config = SyslogConfig { max_message_bytes: ByteSize::from_bytes(300), ..tcp(9) };
    let mut syslog = Syslog::open(&config).expect("good settings");
    let delivered = syslog.deliver(&[item(0, &"x".repeat(301))]).await.expect("nothing to send");
    let [refused] = delivered.refused.as_slice() else { panic!("{delivered:?}") };
    assert!(refused.reason.ends_with("larger than the 300 of max_message_bytes"), "{refused:?}");
}
