//! Each protocol's other side on loopback, following what its maker publishes, failures included.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::{
    alert::{Timestamp, record::Dataset},
    host,
    sink::{
        delivery::{Delivered, Delivery, Failure, Item},
        elasticsearch, loki, otlp, splunk, webhook,
    },
};

/// A request as the server read it.
#[derive(Clone, Debug)]
struct Seen {
    line: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// What the server does about a request.
enum Act {
    /// Status, further header lines, body.
    Answer(u16, &'static str, Vec<u8>),
    /// Closes the connection without an answer.
    Close,
    /// Resets the connection.
    Reset,
    /// Promises a body that it does not send.
    HalfAnswer,
    /// Never answers.
    Hang,
}

fn ok(body: &Value) -> Act {
    Act::Answer(200, "", body.to_string().into_bytes())
}

type Handler = Box<dyn FnMut(&Seen) -> Act + Send>;

/// Starts a server that asks `handler` about each request.
async fn serve(handler: impl FnMut(&Seen) -> Act + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let handler: Arc<Mutex<Handler>> = Arc::new(Mutex::new(Box::new(handler)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(stream, Arc::clone(&handler)));
        }
    });
    address
}

async fn connection(stream: TcpStream, handler: Arc<Mutex<Handler>>) {
    let mut stream = BufReader::new(stream);
    while let Some(seen) = request(&mut stream).await {
        let act = (handler.lock().unwrap_or_else(PoisonError::into_inner))(&seen);
        match act {
            Act::Answer(status, headers, body) => {
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
                stream.write_all(head.as_bytes()).await.expect("written");
                stream.write_all(&body).await.expect("written");
            }
            Act::Close => return,
            Act::Reset => {
                stream.into_inner().set_zero_linger().expect("linger");
                return;
            }
            Act::HalfAnswer => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{").await.expect("written");
                return;
            }
            Act::Hang => std::future::pending().await,
        }
    }
}

async fn request(stream: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await.ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().expect("a length"))];
    stream.read_exact(&mut body).await.ok()?;
    Some(Seen { line: line.trim_end().to_owned(), headers, body })
}

fn items(count: usize) -> Vec<Item> {
    let item = |number: usize| Item {
        id: format!("id-{number}"),
        time: Timestamp::from_unix_ns(1_795_431_784_000_000_000 + number as i128),
        dataset: Dataset::Alert,
        severity: Some(73),
        bytes: Bytes::from(json!({ "event": { "id": format!("id-{number}") }, "message": "a \"b\"" }).to_string()),
    };
    (0..count).map(item).collect()
}

fn ids(records: &Value) -> Vec<String> {
    let records = records.as_array().expect("an array").iter();
    records.map(|record| record["event"]["id"].as_str().expect("an id").to_owned()).collect()
}

/// Delivers as the spool does, without its pauses, until everything is confirmed.
async fn deliver(delivery: &mut impl Delivery, items: &[Item]) -> (Delivered, Vec<Failure>) {
    let (mut rest, mut failures, mut all) = (items, Vec::new(), Vec::new());
    loop {
        assert!(failures.len() < 50, "{failures:?}");
        let (confirmed, refused, failure) = match delivery.deliver(rest).await {
            Ok(delivered) => (rest.len(), delivered.refused, None),
            Err(failure) => (failure.confirmed, failure.refused.clone(), Some(failure)),
        };
        let before = items.len() - rest.len();
        all.extend(refused.into_iter().map(|mut item| {
            item.index += before;
            item
        }));
        rest = &rest[confirmed..];
        match failure {
            Some(failure) => failures.push(failure),
            None => return (Delivered::but(all), failures),
        }
    }
}

fn config<T: serde::de::DeserializeOwned>(address: SocketAddr, more: &str) -> T {
    toml::from_str(&format!("url = \"http://{address}\"\n{more}")).expect(more)
}

fn strings(items: &[Item]) -> Vec<String> {
    items.iter().map(|item| item.id.clone()).collect()
}

#[tokio::test]
async fn every_way_to_fail_is_tried_again_and_everything_arrives_in_order() {
    let received = Arc::new(Mutex::new(Vec::new()));
    let (seen_ids, mut acts) = (
        Arc::clone(&received),
        VecDeque::from([
            Act::Answer(429, "retry-after: 7\r\n", Vec::new()),
            Act::Answer(500, "", Vec::new()),
            Act::Close,
            Act::Reset,
            Act::HalfAnswer,
            Act::Hang,
            Act::Answer(401, "", b"no such token".to_vec()),
            Act::Answer(302, "location: http://192.0.2.1/\r\n", Vec::new()),
        ]),
    );
    let address = serve(move |seen| {
        acts.pop_front().unwrap_or_else(|| {
            let records = serde_json::from_slice(&seen.body).expect("JSON");
            seen_ids.lock().expect("no panic").extend(ids(&records));
            Act::Answer(204, "", Vec::new())
        })
    });
    let mut webhook = webhook::open(&config(address.await, "timeout = \"500ms\"")).expect("settings");
    let items = items(20);
    let (delivered, failures) = deliver(&mut webhook, &items).await;
    assert_eq!(delivered, Delivered::default());
    assert_eq!(*received.lock().expect("no panic"), strings(&items));
    let said: Vec<_> = failures
        .iter()
        .map(|failure| format!("{:?} {failure}", failure.retry_after.map(|pause| pause.as_secs())))
        .collect();
    assert_eq!(failures.len(), 8, "{said:#?}");
    assert!(said[0].starts_with("Some(7) the receiver answered 429"), "{said:#?}");
    for broken in &said[2..5] {
        assert!(broken.starts_with("None the connection broke"), "{said:#?}");
    }
    assert!(said[5].contains("no answer within 500ms"), "{said:#?}");
    assert!(said[6].starts_with("Some(60)") && said[6].contains("credentials"), "{said:#?}");
    assert!(said[7].contains("redirect to http://192.0.2.1/"), "{said:#?}");
}

#[tokio::test]
async fn what_is_refused_is_found_and_what_is_too_large_is_halved() {
    let received = Arc::new(Mutex::new(Vec::new()));
    let seen_ids = Arc::clone(&received);
    let address = serve(move |seen| {
        let ids = ids(&serde_json::from_slice(&seen.body).expect("JSON"));
        if ids.len() > 40 {
            return Act::Answer(413, "", Vec::new());
        }
        if ids.iter().any(|id| id == "id-33" || id == "id-90") {
            return Act::Answer(400, "", b"bad record".to_vec());
        }
        seen_ids.lock().expect("no panic").extend(ids);
        Act::Answer(200, "", Vec::new())
    });
    let mut webhook = webhook::open(&config(address.await, "")).expect("settings");
    let items = items(100);
    let (delivered, failures) = deliver(&mut webhook, &items).await;
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(delivered.refused.iter().map(|item| item.index).collect::<Vec<_>>(), [33, 90]);
    assert!(delivered.refused[0].reason.ends_with("400 Bad Request: bad record"), "{delivered:?}");
    let expected: Vec<_> = strings(&items).into_iter().filter(|id| id != "id-33" && id != "id-90").collect();
    assert_eq!(*received.lock().expect("no panic"), expected);
}

#[tokio::test]
async fn a_template_makes_one_request_for_each_record_with_its_id_and_secrets_stay_secret() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("token");
    std::fs::write(&path, "hunter2\n").expect("a file");
    let received = Arc::new(Mutex::new(Vec::new()));
    let seen_all = Arc::clone(&received);
    let mut is_first = true;
    let address = serve(move |seen| {
        if std::mem::take(&mut is_first) {
            return Act::Answer(403, "", b"hunter2 may not".to_vec());
        }
        seen_all.lock().expect("no panic").push(seen.clone());
        Act::Answer(200, "", b"ok".to_vec())
    });
    let more = format!(
        "headers = {{ X-Token = {{ file = \"{}\" }}, X-Env = \"test\" }}\n\
         template = {{ inline = '{{\"text\": {{{{ message | tojson }}}}}}' }}",
        path.display()
    );
    let mut webhook = webhook::open(&config(address.await, &more)).expect("settings");
    let (_, failures) = deliver(&mut webhook, &items(3)).await;
    assert!(failures[0].reason.contains("[secret] may not"), "{failures:?}");
    let received = received.lock().expect("no panic");
    assert_eq!(received.len(), 3);
    for (number, seen) in received.iter().enumerate() {
        assert_eq!(seen.headers["x-egresswatch-event-id"], format!("id-{number}"));
        assert_eq!((seen.headers["x-token"].as_str(), seen.headers["x-env"].as_str()), ("hunter2", "test"));
        assert_eq!(seen.body, br#"{"text": "a \"b\""}"#);
    }
}

#[tokio::test]
async fn elasticsearch_keeps_each_record_once_whatever_fails_in_between() {
    // The documents of the data stream, in order, and the ids that get a status other than 201 at first.
    let documents = Arc::new(Mutex::new(Vec::<String>::new()));
    let kept = Arc::clone(&documents);
    let mut busy = vec!["id-4", "id-7"];
    let address = serve(move |seen| {
        assert!(seen.line.starts_with("POST /_bulk?filter_path="), "{}", seen.line);
        assert_eq!(seen.headers["content-type"], "application/x-ndjson");
        assert_eq!(seen.headers["authorization"], "Basic ZWxhc3RpYzpodW50ZXI=");
        assert_eq!(seen.body.last(), Some(&b'\n'));
        let lines: Vec<Value> = seen
            .body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).expect("JSON"))
            .collect();
        let mut kept = kept.lock().expect("no panic");
        let results: Vec<_> = lines
            .chunks(2)
            .map(|pair| {
                assert_eq!(pair[0]["create"]["_index"], "logs-egresswatch.alert-default");
                let id = pair[0]["create"]["_id"].as_str().expect("an id").to_owned();
                assert_eq!(pair[1]["event"]["id"], id.as_str());
                let error = |kind: &str| json!({ "type": kind, "reason": "said so" });
                if let Some(place) = busy.iter().position(|busy| *busy == id) {
                    busy.remove(place);
                    return json!({ "create": { "status": 429, "error": error("es_rejected_execution_exception") } });
                }
                if id == "id-2" {
                    return json!({ "create": { "status": 400, "error": error("document_parsing_exception") } });
                }
                if kept.contains(&id) {
                    return json!({ "create": { "status": 409, "error": error("version_conflict_engine_exception") } });
                }
                kept.push(id);
                json!({ "create": { "status": 201 } })
            })
            .collect();
        ok(&json!({ "errors": true, "items": results }))
    });
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("p"), "hunter").expect("a file");
    let more = format!("username = \"elastic\"\npassword = {{ file = \"{}/p\" }}", directory.path().display());
    let mut elasticsearch = elasticsearch::open(&config(address.await, &more)).expect("settings");
    let (delivered, failures) = deliver(&mut elasticsearch, &items(10)).await;
    assert_eq!(failures.iter().map(|failure| failure.confirmed).collect::<Vec<_>>(), [4], "{failures:?}");
    assert_eq!(delivered.refused.len(), 1);
    assert_eq!(delivered.refused[0].reason, "400 document_parsing_exception: said so");
    let mut documents = documents.lock().expect("no panic").clone();
    documents.sort();
    assert_eq!(documents, ["id-0", "id-1", "id-3", "id-4", "id-5", "id-6", "id-7", "id-8", "id-9"]);
}

/// What an administrator mends costs no document.
#[tokio::test]
async fn elasticsearch_waits_for_an_open_index_and_for_shards() {
    let mut errors = VecDeque::from([
        ("index_closed_exception", "closed"),
        ("validation_exception", "this action would add [2] shards, but this cluster currently has [1000]/[1000]"),
    ]);
    let address = serve(move |_| {
        let result = match errors.pop_front() {
            Some((kind, reason)) => json!({ "status": 400, "error": { "type": kind, "reason": reason } }),
            None => json!({ "status": 201 }),
        };
        ok(&json!({ "errors": true, "items": [{ "create": result }] }))
    });
    let mut elasticsearch = elasticsearch::open(&config(address.await, "")).expect("settings");
    let (delivered, failures) = deliver(&mut elasticsearch, &items(1)).await;
    assert_eq!((delivered, failures.len()), (Delivered::default(), 2), "{failures:?}");
    for failure in &failures {
        assert!(failure.retry_after.is_some() && failure.reason.contains("more shards"), "{failure}");
    }
}

#[tokio::test]
async fn splunk_confirms_only_what_its_indexers_acknowledged() {
    let batches = Arc::new(Mutex::new(Vec::<(String, Vec<String>)>::new()));
    let kept = Arc::clone(&batches);
    let mut polls = 0;
    let address = serve(move |seen| {
        assert_eq!(seen.headers["authorization"], "Splunk hunter2");
        let channel = seen.headers["x-splunk-request-channel"].clone();
        assert_eq!(channel.len(), 36);
        let mut kept = kept.lock().expect("no panic");
        if seen.line.starts_with("POST /services/collector/ack ") {
            let asked: Value = serde_json::from_slice(&seen.body).expect("JSON");
            let id = asked["acks"][0].as_u64().expect("an id");
            // The first batch is never acknowledged; the second at the second question.
            let is_indexed = kept.len() == 2 && id == 1 && {
                polls += 1;
                polls == 2
            };
            return ok(&json!({ "acks": { id.to_string(): is_indexed } }));
        }
        assert_eq!(seen.line, "POST /services/collector/event HTTP/1.1");
        let events = serde_json::Deserializer::from_slice(&seen.body).into_iter::<Value>();
        let ids = events.map(|event| {
            let event = event.expect("JSON");
            assert_eq!((&event["time"], &event["sourcetype"]), (&json!("1795431784.000"), &json!("egresswatch")));
            assert_eq!(event["index"], "main");
            event["event"]["event"]["id"].as_str().expect("an id").to_owned()
        });
        kept.push((channel, ids.collect()));
        ok(&json!({ "text": "Success", "code": 0, "ackId": kept.len() - 1 }))
    });
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("t"), "hunter2").expect("a file");
    let token = format!("token = {{ file = \"{}/t\" }}\nindex = \"main\"\n", directory.path().display());
    let settings = config(address.await, &format!("{token}acknowledge_within = \"400ms\""));
    let mut hec = splunk::open(&settings, &host::read()).expect("settings");
    let items = items(5);
    let (delivered, failures) = deliver(&mut hec, &items).await;
    assert_eq!((delivered, failures.len()), (Delivered::default(), 1), "{failures:?}");
    assert!(failures[0].reason.starts_with("the indexers did not acknowledge within 400ms"), "{failures:?}");
    let batches = batches.lock().expect("no panic").clone();
    assert_eq!(batches.iter().map(|(_, ids)| ids.clone()).collect::<Vec<_>>(), [strings(&items), strings(&items)]);
    assert_ne!(batches[0].0, batches[1].0, "a new channel");

    // A token without acknowledgement: nothing is sent, and the message says what to set.
    let address = serve(|seen| {
        assert!(seen.line.contains("/ack"), "{}", seen.line);
        Act::Answer(400, "", json!({ "text": "ACK is disabled", "code": 14 }).to_string().into_bytes())
    });
    let mut hec = splunk::open(&config(address.await, &token), &host::read()).expect("settings");
    let failure = hec.deliver(&items).await.expect_err("no acknowledgement");
    assert!(failure.reason.contains("set acknowledge = false") && failure.retry_after.is_some(), "{failure}");
}

#[tokio::test]
async fn loki_gets_few_labels_and_entries_in_order_with_nanoseconds() {
    let pushed = Arc::new(Mutex::new(Vec::<Value>::new()));
    let kept = Arc::clone(&pushed);
    let address = serve(move |seen| {
        assert_eq!(seen.line, "POST /loki/api/v1/push HTTP/1.1");
        assert_eq!(
            (seen.headers["x-scope-orgid"].as_str(), seen.headers["content-type"].as_str()),
            ("soc", "application/json")
        );
        kept.lock().expect("no panic").push(serde_json::from_slice(&seen.body).expect("JSON"));
        Act::Answer(204, "", Vec::new())
    });
    let settings = config(address.await, "tenant = \"soc\"\nlabels = { env = \"test\" }");
    let mut loki = loki::open(&settings, &host::read()).expect("settings");
    let mut items = items(3);
    items[1].dataset = Dataset::Status;
    items[1].severity = None;
    let (_, failures) = deliver(&mut loki, &items).await;
    assert!(failures.is_empty(), "{failures:?}");
    let streams = pushed.lock().expect("no panic")[0]["streams"].clone();
    let host = host::read().hostname;
    let labels = json!({ "dataset": "egresswatch.alert", "env": "test", "host": host, "job": "egresswatch", "severity": "high" });
    assert_eq!(streams[0]["stream"], labels);
    assert_eq!(streams[0]["values"][1][0], "1795431784000000002");
    assert_eq!(streams[0]["values"][1][2], json!({ "event_id": "id-2" }));
    assert_eq!(streams[1]["stream"]["severity"], "none");
    assert_eq!(streams[1]["values"].as_array().map(Vec::len), Some(1));
    assert!(toml::from_str::<loki::LokiConfig>("url = \"http://x\"\nlabels = { \"a-b\" = \"c\" }").is_err());
}

#[tokio::test]
async fn otlp_over_http_carries_the_id_and_a_partial_success_loses_nothing() {
    use opentelemetry_proto::tonic::collector::logs::v1::{
        ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
    };
    use prost::Message as _;

    let received = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&received);
    let address = serve(move |seen| {
        assert_eq!(
            (seen.line.as_str(), seen.headers["content-type"].as_str()),
            ("POST /v1/logs HTTP/1.1", "application/x-protobuf")
        );
        let mut kept = kept.lock().expect("no panic");
        kept.push(ExportLogsServiceRequest::decode(seen.body.as_slice()).expect("a request"));
        let partial = ExportLogsPartialSuccess { rejected_log_records: 1, error_message: "too old".to_owned() };
        let response = ExportLogsServiceResponse { partial_success: (kept.len() == 2).then_some(partial) };
        Act::Answer(200, "content-type: application/x-protobuf\r\n", response.encode_to_vec())
    });
    let mut otlp = otlp::open(&config(address.await, "protocol = \"http\""), &host::read()).expect("settings");
    let items = items(2);
    assert_eq!(otlp.deliver(&items).await, Ok(Delivered::default()));
    let refused = otlp.deliver(&items).await.expect("confirmed").refused;
    assert_eq!(refused.iter().map(|item| item.index).collect::<Vec<_>>(), [0, 1]);
    let received = received.lock().expect("no panic");
    let records = &received[0].resource_logs[0].scope_logs[0].log_records;
    for (record, item) in records.iter().zip(&items) {
        assert_eq!(
            (record.time_unix_nano, record.severity_number),
            (u64::try_from(item.time.unix_ns()).expect("after 1970"), 17)
        );
        assert_eq!(record.attributes[0].key, "log.record.uid");
        assert!(format!("{:?}", record.attributes[0]).contains(&item.id));
        assert!(format!("{:?}", record.body).contains("KvlistValue"), "{record:?}");
    }
}
