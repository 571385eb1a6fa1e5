use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::{
    download::server::{answer, header, serve, start},
    policy::feeds::{BAD_LINES_TOLD, Config, Feed, keep, load},
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + seconds).unwrap()
}

fn config(address: &str, settings: &str) -> Config {
    toml::from_str(&format!("[x]\nsource = \"{address}\"\n{settings}")).unwrap()
}

async fn fetched(config: &Config, directory: &Path, seconds: i64) -> Outcome {
    fetch("x", &config.0["x"], directory, at(seconds)).await
}

/// The list as a start would read it, which keeps it if it is good.
fn loaded(config: &Config, directory: &Path, seconds: i64) -> Feed {
    let feeds = load(config, directory, at(seconds), BAD_LINES_TOLD);
    keep(&feeds, directory).unwrap();
    feeds.into_iter().next().unwrap()
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}/list.txt")
}

#[tokio::test]
async fn a_list_is_fetched_and_afterwards_only_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let address = serve({
        let asked = Arc::clone(&asked);
        move |request| {
            asked.lock().unwrap().push((header(request, "if-none-match"), header(request, "auth-key")));
            match header(request, "if-none-match").as_str() {
                "\"1\"" => answer(304, ("", ""), ""),
                _ => answer(200, ("etag", "\"1\""), "192.0.2.1\nbad.example\nno name!\n"),
            }
        }
    })
    .await;
    std::fs::write(folder.path().join("key"), "hunter2\n").unwrap();
    let settings = format!("headers = {{ Auth-Key = {{ file = \"{}\" }} }}", folder.path().join("key").display());
    let config = config(&url(address), &settings);
    assert_eq!(due("x", &config.0["x"], folder.path()), Some(Timestamp::UNIX_EPOCH));
    let state = loaded(&config, folder.path(), 0).state;
    assert!(state.is_awaited && state.failed.is_none(), "{state:?}");
    assert_eq!(state.notices().collect::<Vec<_>>(), ["list x waits for its first fetch"]);

    let outcome = fetched(&config, folder.path(), 0).await;
    assert_eq!(outcome, Outcome { has_changed: true, confirmed_at: Some(at(0)) });
    let outcome = fetched(&config, folder.path(), 60).await;
    assert_eq!(outcome, Outcome { has_changed: false, confirmed_at: Some(at(60)) });
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked, [(String::new(), "hunter2".into()), ("\"1\"".into(), "hunter2".into())]);

    let feed = loaded(&config, folder.path(), 61);
    assert_eq!((feed.state.keys, feed.state.bad_lines, feed.state.good_at), (2, 1, Some(at(60))));
    // Bad lines name the address, not the file that it was put into.
    assert_eq!((feed.state.problems[0].file.as_str(), feed.state.problems[0].line), (url(address).as_str(), 3));
    assert_eq!(due("x", &config.0["x"], folder.path()), Some(at(60 + 86_400)));
}

#[tokio::test]
async fn what_goes_wrong_keeps_what_was_fetched_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let status = Arc::new(AtomicU16::new(200));
    let address = serve({
        let status = Arc::clone(&status);
        move |_| answer(status.load(Ordering::Relaxed), ("", ""), "192.0.2.1\n")
    })
    .await;
    let config = config(&url(address), "refresh = \"1h\"\nexpires = \"1d\"");
    fetched(&config, folder.path(), 0).await;
    assert_eq!(loaded(&config, folder.path(), 0).state.keys, 1);

    status.store(503, Ordering::Relaxed);
    assert!(fetched(&config, folder.path(), 100).await.has_changed);
    // The pauses double up to the interval.
    for (seconds, pause) in [(200, 120), (400, 240), (700, 480), (1_200, 960), (2_200, 1_920), (4_200, 3_600)] {
        assert_eq!(fetched(&config, folder.path(), seconds).await.confirmed_at, None);
        assert_eq!(due("x", &config.0["x"], folder.path()), Some(at(seconds + pause)), "{seconds}");
    }
    let state = loaded(&config, folder.path(), 4_200).state;
    assert_eq!((state.keys, state.good_at), (1, Some(at(0))));
    let told: Vec<String> = state.troubles().collect();
    assert_eq!(
        told,
        [format!(
            "list x: what was fetched before is in force: {} was not fetched, 7 times in a row: the server answered 503 \
             Service Unavailable",
            url(address)
        )]
    );
    // Nothing confirmed it for a day.
    let feed = loaded(&config, folder.path(), 86_400);
    assert!(!feed.list.header.enabled && feed.state.expired.is_some(), "{feed:?}");

    status.store(200, Ordering::Relaxed);
    assert!(fetched(&config, folder.path(), 86_500).await.has_changed);
    let feed = loaded(&config, folder.path(), 86_500);
    assert!(feed.list.header.enabled && feed.state.troubles().next().is_none(), "{feed:?}");

    // Another address has another list.
    let other = super::tests::config(&format!("http://{address}/other.txt"), "");
    assert!(loaded(&other, folder.path(), 86_501).state.is_awaited);
}

#[tokio::test]
async fn a_body_that_is_no_whole_list_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let whole = crate::policy::feeds::tests::addresses(40);
    let bodies = [
        (whole.clone(), None),
        ("<html><body>Log in first</body></html>\n".to_owned(), Some("is a page or XML and no list")),
        ("192.0.2.1\n".to_owned(), Some("holds 1 entry where it held 40")),
        ("not found\nnot here\n".to_owned(), Some("none of the 2 lines")),
        (whole, None),
    ];
    let (sender, receiver) = std::sync::mpsc::channel::<String>();
    let address = serve(move |_| answer(200, ("", ""), &receiver.recv().unwrap())).await;
    let config = config(&url(address), "");
    for (index, (body, kept)) in bodies.into_iter().enumerate() {
        sender.send(body).unwrap();
        let seconds = i64::try_from(index).unwrap() * 100_000;
        assert!(fetched(&config, folder.path(), seconds).await.has_changed);
        let state = loaded(&config, folder.path(), seconds).state;
        assert_eq!(state.keys, 40, "{state:?}");
        match kept {
            Some(why) => assert!(state.kept.as_ref().is_some_and(|text| text.contains(why)), "{state:?}"),
            None => assert_eq!(state.kept, None),
        }
    }
}

#[tokio::test]
async fn limits_redirects_and_broken_answers() {
    let other = serve(|_| answer(200, ("", ""), "192.0.2.9\n")).await;
    let address = serve(move |request| match request.uri().path() {
        "/moved" => answer(302, ("location", "/list.txt"), ""),
        "/away" => answer(302, ("location", &format!("http://{other}/list.txt")), ""),
        "/secure" => answer(302, ("location", "https://127.0.0.1:1/list.txt"), ""),
        "/loop" => answer(302, ("location", "/loop"), ""),
        "/large" => answer(200, ("", ""), &"192.0.2.1\n".repeat(1_000)),
        "/gone" => answer(404, ("", ""), "nothing"),
        _ => answer(200, ("", ""), "192.0.2.1\n"),
    })
    .await;
    // It promises more than it sends.
    let half = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let half_address = half.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = half.accept().await.unwrap();
        let mut request = [0; 1_024];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n192.0.2.1\n").await.unwrap();
    });
    let on = |path: &str| format!("http://{address}{path}");
    let cases = [
        (on("/moved"), "", None),
        (on("/away"), "", None),
        (on("/away"), "headers = { x-key = \"1\" }", Some("is not given the configured headers")),
        (on("/secure"), "", Some("the server sends on to https://127.0.0.1:1: write the final address")),
        (on("/loop"), "", Some("sends on more than 5 times")),
        (on("/large"), "max_bytes = \"1KiB\"", Some("it is larger than 1KiB: raise max_bytes")),
        (on("/gone"), "", Some("404 Not Found: see whether the address is right")),
        (format!("http://{half_address}/"), "", Some("the connection broke before the answer was read")),
        ("http://127.0.0.1:1/".to_owned(), "", Some("cannot connect")),
    ];
    for (address, settings, problem) in cases {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&address, settings);
        fetched(&config, folder.path(), 0).await;
        let state = loaded(&config, folder.path(), 0).state;
        match problem {
            None => assert_eq!((state.keys, &state.fetch_error), (1, &None), "{address}"),
            Some(problem) => {
                assert!(state.failed.as_ref().is_some_and(|why| why.contains(problem)), "{address}: {state:?}");
                assert_eq!(state.keys, 0);
            }
        }
        assert!(!folder.path().join("x.fetched.new").exists(), "{address}");
    }
}

#[tokio::test]
async fn a_server_has_to_show_a_certificate_of_the_named_authority() {
    let folder = tempfile::tempdir().unwrap();
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let stranger = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let address = start(Some(&certified), |_| answer(200, ("", ""), "192.0.2.1\n")).await;
    for (name, authority, keys) in [("good", &certified, 1), ("strange", &stranger, 0)] {
        let file = folder.path().join(format!("{name}.pem"));
        std::fs::write(&file, authority.cert.pem()).unwrap();
        let config = config(&format!("https://{address}/{name}"), &format!("tls.ca = \"{}\"", file.display()));
        fetched(&config, folder.path(), 0).await;
        let state = loaded(&config, folder.path(), 0).state;
        assert_eq!(state.keys, keys, "{state:?}");
        assert_eq!(state.failed.is_some_and(|why| why.contains("certificate")), keys == 0);
    }
}

const FIRST: &str = "5a5d2a5c-0000-4000-8000-00000000000a";
const SECOND: &str = "5a5d2a5c-0000-4000-8000-00000000000b";

fn event(address: &str) -> String {
    format!(
        "{{\"Event\":{{\"info\":\"Event {address}\",\"Attribute\":[{{\"type\":\"ip-dst\",\"value\":\"{address}\",\"to_ids\":true}}]}}}}"
    )
}

/// A feed of two events: both are fetched, then only the one that changed, and of one that is gone what came before stays.
#[tokio::test]
async fn a_feed_of_misp_is_fetched_event_by_event() {
    let folder = tempfile::tempdir().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let round = Arc::new(AtomicU16::new(1));
    let address = serve({
        let (asked, round) = (Arc::clone(&asked), Arc::clone(&round));
        move |request| {
            let round = round.load(Ordering::Relaxed);
            let path = request.uri().path().to_owned();
            asked.lock().unwrap().push(path.clone());
            if path == "/feed/manifest.json" {
                let body = format!(
                    "{{\"{FIRST}\":{{\"info\":\"a\",\"timestamp\":\"{}\"}},\"{SECOND}\":{{\"info\":\"b\",\"timestamp\":{round}}}}}",
                    1 + round / 4
                );
                return answer(200, ("", ""), &body);
            }
            match (path.contains(SECOND), round) {
                (false, _) => answer(200, ("", ""), &event("192.0.2.1")),
                (true, 1) => answer(200, ("", ""), &event("198.51.100.1")),
                (true, 2) => answer(200, ("", ""), &event("203.0.113.1")),
                (true, 3) => answer(404, ("", ""), ""),
                _ => answer(500, ("", ""), ""),
            }
        }
    })
    .await;
    let config = config(&format!("http://{address}/feed/manifest.json"), "");
    let taken = || std::mem::take(&mut *asked.lock().unwrap());
    let (manifest, first, second) =
        ("/feed/manifest.json".to_owned(), format!("/feed/{FIRST}.json"), format!("/feed/{SECOND}.json"));
    let keys = |seconds| {
        let feed = loaded(&config, folder.path(), seconds);
        feed.list.entities.iter().flat_map(|entity| entity.cidrs.clone()).map(|net| net.to_string()).collect::<Vec<_>>()
    };

    assert!(fetched(&config, folder.path(), 0).await.has_changed);
    assert_eq!(taken(), [manifest.clone(), first.clone(), second.clone()]);
    assert_eq!(keys(0), ["192.0.2.1/32", "198.51.100.1/32"]);

    round.store(2, Ordering::Relaxed);
    assert!(fetched(&config, folder.path(), 100).await.has_changed);
    assert_eq!(taken(), [manifest.clone(), second.clone()], "the first is unchanged");
    assert_eq!(keys(100), ["192.0.2.1/32", "203.0.113.1/32"]);

    round.store(3, Ordering::Relaxed);
    taken();
    for seconds in [200, 300] {
        assert!(fetched(&config, folder.path(), seconds).await.has_changed);
        assert_eq!(taken(), [manifest.clone(), second.clone()], "it is asked for again");
        assert_eq!(keys(seconds), ["192.0.2.1/32", "203.0.113.1/32"]);
        let state = loaded(&config, folder.path(), seconds).state;
        assert_eq!((state.fetch_error, state.bad_lines), (None, 1));
        let problem = format!("event {SECOND} of the feed is not there, what came of it before stays");
        assert_eq!(state.problems[0].problem, problem);
    }

    // A server that breaks half way leaves all as it was, and what it gave by then is not asked for again.
    round.store(4, Ordering::Relaxed);
    for asked in [vec![manifest.clone(), first.clone(), second.clone()], vec![manifest.clone(), second.clone()]] {
        assert!(fetched(&config, folder.path(), 400).await.confirmed_at.is_none());
        assert_eq!(taken(), asked);
        assert_eq!(keys(400), ["192.0.2.1/32", "203.0.113.1/32"]);
    }
}
