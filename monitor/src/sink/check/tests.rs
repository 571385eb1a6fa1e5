//! Each mistake with what is said of it.

use std::{fs, os::unix::net::UnixListener, path::Path};

use rcgen::{CertificateParams, KeyPair};

use super::{Contact, Finding, connect, outputs};
use crate::{
    alert::input::Host,
    config::Config,
    download::server::{answer, header, serve},
    policy::feeds,
};

fn findings(text: &str, folder: &Path) -> Vec<Finding> {
    let text = text.replace("FOLDER", &folder.display().to_string());
    let config = Config::parse(&text, "test").unwrap_or_else(|error| panic!("{text}\n{error}"));
    outputs(&config.outputs, &config.spool, config.output.file.as_deref(), &Host::default())
}

/// A certificate with its key, and a key that is another's.
fn certificates(folder: &Path) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["host.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    fs::write(folder.join("host.pem"), certificate.pem()).unwrap();
    fs::write(folder.join("host.key"), key.serialize_pem()).unwrap();
    fs::write(folder.join("other.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
}

const SPOOL: &str = "[spool]\ndirectory = \"FOLDER/spool\"\n";

#[test]
fn mistakes_are_found_and_what_is_good_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    certificates(folder.path());
    fs::write(at("plain"), "text").unwrap();
    fs::write(at("token"), "abc\n").unwrap();
    fs::write(at("empty"), "").unwrap();
    fs::write(at("template"), "{% if %}").unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    let tls = "type = \"syslog\"\ntransport = \"tls\"\naddress = \"siem.example:6514\"\n";
    let hec = "type = \"splunk_hec\"\nurl = \"http://127.0.0.1:8088\"\n";
    let web = "type = \"webhook\"\nurl = \"http://127.0.0.1:8088\"\n";
    for (output, key, complaint) in [
        ("type = \"file\"\npath = \"FOLDER/x.jsonl\"", "", ""),
        ("type = \"file\"\npath = \"FOLDER/plain\"", "", ""),
        ("type = \"stdout\"", "", ""),
        (
            "type = \"file\"\npath = \"FOLDER/none/x.jsonl\"",
            "outputs.x.path",
            "there is no directory FOLDER/none: make it",
        ),
        ("type = \"file\"\npath = \"FOLDER\"", "outputs.x.path", "FOLDER is a directory"),
        ("type = \"file\"\npath = \"FOLDER/plain/x.jsonl\"", "outputs.x.path", "cannot look at FOLDER/plain/x.jsonl"),
        ("type = \"syslog\"\nsocket = \"FOLDER/socket\"", "", ""),
        ("type = \"syslog\"\nsocket = \"FOLDER/none\"", "outputs.x.socket", "there is no socket FOLDER/none"),
        ("type = \"journald\"\nsocket = \"FOLDER/plain\"", "outputs.x.socket", "FOLDER/plain is no socket"),
        (
            &format!(
                "{tls}tls = {{ ca = \"FOLDER/host.pem\", certificate = \"FOLDER/host.pem\", key = \"FOLDER/host.key\" }}"
            ),
            "",
            "",
        ),
        (
            &format!("{tls}tls = {{ ca = \"FOLDER/none.pem\" }}"),
            "outputs.x",
            "cannot read FOLDER/none.pem, named by tls.ca",
        ),
        (&format!("{tls}tls = {{ ca = \"FOLDER/plain\" }}"), "outputs.x", "FOLDER/plain, named by tls.ca"),
        (
            &format!(
                "{tls}tls = {{ ca = \"FOLDER/host.pem\", certificate = \"FOLDER/host.pem\", key = \"FOLDER/other.key\" }}"
            ),
            "outputs.x",
            "do not go together",
        ),
        (&format!("{hec}token = {{ file = \"FOLDER/token\" }}"), "", ""),
        (
            &format!("{hec}token = {{ file = \"FOLDER/none\" }}"),
            "outputs.x.token",
            "cannot read the secret file FOLDER/none",
        ),
        (&format!("{hec}token = {{ file = \"FOLDER/empty\" }}"), "outputs.x.token", "is empty"),
        (&format!("{hec}token = {{ env = \"EGRESSWATCH_NOT_SET\" }}"), "outputs.x.token", "not to be told from here"),
        (&format!("{hec}token = {{ credential = \"hec\" }}"), "outputs.x.token", "not to be told from here"),
        (
            &format!("{web}headers = {{ X-Key = {{ file = \"FOLDER/none\" }} }}"),
            "outputs.x.headers.X-Key",
            "cannot read",
        ),
        (&format!("{web}template = {{ file = \"FOLDER/template\" }}"), "outputs.x", "template:1:"),
        (
            "type = \"kafka\"\nbrokers = [\"127.0.0.1:9092\"]\nsasl = { mechanism = \"SCRAM-SHA-512\", username = \"u\", password = { file = \"FOLDER/none\" } }",
            "outputs.x.sasl.password",
            "cannot read the secret file FOLDER/none",
        ),
    ] {
        let found = findings(&format!("{SPOOL}[outputs.x]\n{output}\n"), folder.path());
        if complaint.is_empty() {
            assert_eq!(found, [], "{output}");
            continue;
        }
        let complaint = complaint.replace("FOLDER", &folder.path().display().to_string());
        assert_eq!(found.len(), 1, "{output}: {found:?}");
        assert_eq!(found[0].key, key, "{output}");
        assert!(found[0].message.contains(&complaint), "{output}: {}", found[0].message);
        assert_eq!(found[0].is_unsure, complaint.starts_with("not to be told"), "{output}");
    }
    assert!(!at("x.jsonl").exists() && !at("spool").exists(), "nothing is made");
}

#[test]
fn the_spool_and_the_file_are_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("plain"), "").unwrap();
    let found =
        findings("[spool]\ndirectory = \"FOLDER/plain/spool\"\n[output]\nfile = \"FOLDER/none/x\"\n", folder.path());
    assert_eq!(found.iter().map(|finding| finding.key.as_str()).collect::<Vec<_>>(), ["output.file"], "{found:?}");
    let found =
        findings("[spool]\ndirectory = \"FOLDER/plain/spool\"\n[outputs.x]\ntype = \"stdout\"\n", folder.path());
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].to_string().ends_with("plain is no directory: name another place"), "{}", found[0]);
    let read_only = Path::new("/proc/sys");
    let found = findings("[spool]\ndirectory = \"FOLDER/spool\"\n[outputs.x]\ntype = \"stdout\"\n", read_only);
    assert!(found.len() == 1 && found[0].message.contains("cannot be written"), "{found:?}");
}

#[test]
fn one_file_is_no_two_outputs() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(folder.path(), folder.path().join("link")).unwrap();
    let two =
        "[outputs.a]\ntype = \"file\"\npath = \"FOLDER/x\"\n[outputs.b]\ntype = \"file\"\npath = \"FOLDER/link/x\"\n";
    let found = findings(&format!("{SPOOL}{two}"), folder.path());
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].key == "outputs.b.path" && found[0].message.contains("the file of outputs.a as well"),
        "{found:?}"
    );
    let found = findings(&format!("{SPOOL}[output]\nfile = \"FOLDER/link/x\"\n{two}"), folder.path());
    let keys: Vec<_> = found.iter().map(|finding| finding.key.as_str()).collect();
    assert_eq!(keys, ["outputs.a.path", "outputs.b.path"], "{found:?}");
    let found = findings(&format!("{SPOOL}[outputs.a]\ntype = \"file\"\npath = \"/dev/null\"\n"), folder.path());
    assert!(found.len() == 1 && found[0].message.contains("it is a device"), "{found:?}");
}

#[test]
fn certificates_and_secrets_of_lists_are_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[lists.x]\nsource = \"https://lists.example/x\"\nheaders = { Auth-Key = { file = \"FOLDER/none\" } }\n\
                tls = { ca = \"FOLDER/none.pem\" }\n[lists.off]\nsource = \"https://lists.example/y\"\nenabled = false\n\
                tls = { ca = \"FOLDER/none.pem\" }\n";
    let config = Config::parse(&text.replace("FOLDER", &folder.path().display().to_string()), "test").unwrap();
    let found = feeds::findings(&config.lists);
    let keys: Vec<_> = found.iter().map(|finding| finding.key.as_str()).collect();
    assert_eq!(keys, ["lists.x", "lists.x.headers.Auth-Key"], "{found:?}");
    assert!(found[0].message.contains("none.pem, named by tls.ca"), "{}", found[0]);
    assert!(found[1].message.contains("cannot read the secret file"), "{}", found[1]);
}

async fn contact(output: &str) -> Contact {
    let config = Config::parse(&format!("[outputs.x]\n{output}\n"), "test").unwrap();
    let contacts = connect(&config.outputs, &Host::default()).await;
    contacts.into_iter().next().expect("one contact")
}

/// Answers that the published protocols name, right and wrong.
#[tokio::test]
async fn receivers_over_http_are_asked_without_a_record() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("right"), "right\n").unwrap();
    fs::write(folder.path().join("wrong"), "wrong\n").unwrap();
    let address = serve(|request| {
        let authorization = header(request, "authorization") + &header(request, "x-key");
        if !authorization.ends_with("right") {
            return answer(401, ("", ""), "no");
        }
        match (request.method().as_str(), request.uri().path()) {
            ("POST", "/services/collector/ack") => answer(200, ("", ""), "{\"acks\":{\"0\":false}}"),
            ("POST", "/services/collector/event") => answer(400, ("", ""), "{\"text\":\"No data\",\"code\":5}"),
            ("GET", "/") => answer(200, ("", ""), "{\"version\":{\"number\":\"9.1.0\"}}"),
            ("POST", "/loki/api/v1/push") => {
                answer(422, ("", ""), "error at least one valid stream is required for ingestion")
            }
            ("HEAD", "/hook") => answer(405, ("", ""), ""),
            _ => answer(404, ("", ""), "not found"),
        }
    })
    .await;
    let secret = |name: &str| format!("{{ file = \"{}\" }}", folder.path().join(name).display());
    for (output, said) in [
        ("type = \"splunk_hec\"\nurl = \"URL\"\ntoken = SECRET", "takes the token and acknowledges"),
        ("type = \"splunk_hec\"\nurl = \"URL\"\ntoken = SECRET\nacknowledge = false", "takes the token"),
        ("type = \"elasticsearch\"\nurl = \"URL\"\napi_key = SECRET", "version 9.1.0 answered"),
        ("type = \"loki\"\nurl = \"URL\"\ntoken = SECRET", "lets these credentials write"),
        ("type = \"webhook\"\nurl = \"URL/hook\"\nheaders = { X-Key = SECRET }", "405 Method Not Allowed to HEAD"),
    ] {
        let output = output.replace("URL", &format!("http://{address}"));
        let good = contact(&output.replace("SECRET", &secret("right"))).await;
        assert!(good.reached && good.message.contains(said), "{good:?}");
        let bad = contact(&output.replace("SECRET", &secret("wrong"))).await;
        assert!(!bad.reached && bad.message.contains("401 Unauthorized"), "{bad:?}");
        assert!(bad.message.contains("see whether the credentials are right"), "{bad:?}");
    }
    let other = format!("type = \"elasticsearch\"\nurl = \"http://{address}/kibana\"\napi_key = {}", secret("right"));
    let other = contact(&other).await;
    assert!(!other.reached && other.message.contains("see whether the address is right"), "{other:?}");
}

#[tokio::test]
async fn who_is_not_there_is_told() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = listener.local_addr().unwrap();
    drop(listener);
    for output in [
        format!("type = \"syslog\"\ntransport = \"tcp\"\naddress = \"{gone}\""),
        format!("type = \"webhook\"\nurl = \"http://{gone}/\""),
        format!("type = \"otlp\"\nurl = \"http://{gone}\""),
        format!("type = \"otlp\"\nurl = \"http://{gone}\"\nprotocol = \"http\""),
        "type = \"journald\"\nsocket = \"/nonexistent/socket\"".to_owned(),
    ] {
        let contact = contact(&output).await;
        assert!(!contact.reached && contact.key == "outputs.x", "{contact:?}");
        assert!(contact.message.contains("cannot connect"), "{contact:?}");
    }
    let kafka = contact(&format!("type = \"kafka\"\nbrokers = [\"{gone}\"]\ntimeout = \"1s\"")).await;
    assert!(!kafka.reached && kafka.target == format!("kafka {gone} topic egresswatch"), "{kafka:?}");
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let contact = contact(&format!("type = \"webhook\"\nurl = \"http://{address}/\"\ntimeout = \"300ms\"")).await;
    assert!(!contact.reached && contact.message.starts_with("no answer within 300ms"), "{contact:?}");
}

#[tokio::test]
async fn servers_of_lists_are_asked_for_no_more_than_whether_it_is_there() {
    let address = serve(|request| match (request.method().as_str(), request.uri().path()) {
        ("HEAD", "/list") | ("GET", "/get-only") => answer(200, ("", ""), ""),
        ("HEAD", "/get-only") => answer(405, ("", ""), ""),
        _ => answer(404, ("", ""), ""),
    })
    .await;
    let text = ["list", "get-only", "gone"]
        .map(|name| format!("[lists.{name}]\nsource = \"http://{address}/{name}?key=1\"\n"))
        .concat();
    let config = Config::parse(&text, "test").unwrap();
    let contacts = feeds::connect(&config.lists).await;
    let told: Vec<_> = contacts.iter().map(|contact| (contact.key.as_str(), contact.reached)).collect();
    assert_eq!(told, [("lists.get-only", true), ("lists.gone", false), ("lists.list", true)], "{contacts:?}");
    assert!(contacts[1].message.contains("404 Not Found: see whether the address is right"), "{contacts:?}");
    assert!(!contacts[1].target.contains("key"), "{contacts:?}");
}
