//! Each mistake with what is said of it.

use std::{fs, os::unix::net::UnixListener, path::Path};

use rcgen::{CertificateParams, KeyPair};

use super::{Finding, outputs};
use crate::{alert::input::Host, config::Config};

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
