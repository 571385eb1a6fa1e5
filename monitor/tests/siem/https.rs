//! Outputs over HTTP and gRPC by TLS: an authority of one's own, a client certificate, and what is said when they do not
//! fit.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use egresswatch::sink::delivery::AnyDelivery;
use tempfile::TempDir;

use crate::{
    Case,
    https_server::HttpsServer,
    support::{Authority, item, open, runtime},
};

pub(crate) const CASES: &[Case] = &[
    Case { name: "https::client_certificate_and_own_authority", missing: || None, test: arrives },
    Case { name: "https::asked_without_a_record", missing: || None, test: asked },
    Case { name: "https::without_a_client_certificate", missing: || None, test: no_client_certificate },
    Case { name: "https::unknown_authority", missing: || None, test: unknown_authority },
    Case { name: "https::expired_certificate", missing: || None, test: expired },
    Case { name: "https::name_of_the_certificate", missing: || None, test: other_name },
];

/// Every output over HTTP: type, path of the receiver, further settings.
const OUTPUTS: [(&str, &str, &str); 6] = [
    ("webhook", "/hook", ""),
    ("splunk_hec", "", "token = { file = \"SECRET\" }\nacknowledge = false"),
    ("elasticsearch", "", "api_key = { file = \"SECRET\" }"),
    ("loki", "", ""),
    ("otlp", "", "protocol = \"http\""),
    ("otlp", "", "protocol = \"grpc\""),
];

struct Place {
    folder: TempDir,
    authority: Authority,
}

impl Place {
    /// With certificates of one authority for the receiver, named `subject`, and for this host.
    fn new(subject: &str, expired: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new(folder.path())?;
        authority.issue(folder.path(), "receiver", subject, expired)?;
        authority.issue(folder.path(), "host", "web-1.example.com", false)?;
        fs::write(folder.path().join("secret"), "5f0c9b1e\n")?;
        Ok(Self { folder, authority })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The output with TLS's settings, such as `ca = "FOLDER/ca.pem"`.
    fn output(&self, output: (&str, &str, &str), server: &HttpsServer, tls: &str) -> Result<Box<dyn AnyDelivery>> {
        let (kind, path, more) = output;
        let port = server.port;
        let text = format!(
            "[outputs.siem]\ntype = \"{kind}\"\nurl = \"https://127.0.0.1:{port}{path}\"\ntimeout = \"5s\"\n{more}\n\
             tls = {{ {tls} }}\n"
        );
        let folder = self.folder.path().display().to_string();
        open(&text.replace("SECRET", "FOLDER/secret").replace("FOLDER", &folder))
    }
}

const OWN: &str = "ca = \"FOLDER/ca.pem\", certificate = \"FOLDER/host.pem\", key = \"FOLDER/host.key\"";

/// The reason why each output cannot deliver.
fn reasons(place: &Place, server: &HttpsServer, tls: &str) -> Result<Vec<String>> {
    let runtime = runtime()?;
    let mut reasons = Vec::new();
    for output in OUTPUTS {
        let mut delivery = place.output(output, server, tls)?;
        let failed = runtime.block_on(delivery.deliver(&[item(0)])).err();
        let failure = failed.with_context(|| format!("{} was delivered", delivery.describe()))?;
        ensure!(failure.confirmed == 0 && failure.refused.is_empty(), "{failure:?}");
        reasons.push(format!("{}: {}", delivery.describe(), failure.reason));
    }
    ensure!(server.seen().is_empty(), "something was sent: {:?}", server.seen());
    Ok(reasons)
}

fn all_say(reasons: &[String], what: &str) -> Result<()> {
    let silent = reasons.iter().find(|reason| !reason.contains(what));
    ensure!(silent.is_none(), "not \"{what}\": {silent:?}");
    Ok(())
}

/// The batch, whose ids are looked for in the request as they are.
fn deliver(delivery: &mut dyn AnyDelivery, server: &HttpsServer) -> Result<()> {
    let batch: Vec<_> = (0..3).map(item).collect();
    let before = server.seen().len();
    let delivered = runtime()?.block_on(delivery.deliver(&batch));
    let delivered = delivered.with_context(|| delivery.describe().to_owned())?;
    ensure!(delivered.refused.is_empty(), "{}: {delivered:?}", delivery.describe());
    let seen = server.seen();
    let [(_, body)] = seen.get(before..).unwrap_or_default() else { anyhow::bail!("not one request: {seen:?}") };
    for item in &batch {
        let is_there = body.windows(item.id.len()).any(|part| part == item.id.as_bytes());
        ensure!(is_there, "{} lacks {}", delivery.describe(), item.id);
    }
    Ok(())
}

fn arrives() -> Result<()> {
    let place = Place::new("127.0.0.1", false)?;
    let server = HttpsServer::start(place.folder.path())?;
    for output in OUTPUTS {
        deliver(place.output(output, &server, OWN)?.as_mut(), &server)?;
    }
    Ok(())
}

/// What `egresswatch check --connect` does: everything but a record, with a client certificate and without.
fn asked() -> Result<()> {
    let place = Place::new("127.0.0.1", false)?;
    let server = HttpsServer::start(place.folder.path())?;
    let runtime = runtime()?;
    for output in OUTPUTS {
        let mut good = place.output(output, &server, OWN)?;
        let before = server.seen().len();
        let answer = runtime.block_on(good.probe()).with_context(|| good.describe().to_owned())?;
        ensure!(answer.is_some() && server.seen().len() > before, "{}: {answer:?}", good.describe());
        let mut bad = place.output(output, &server, "ca = \"FOLDER/ca.pem\"")?;
        let failure = runtime.block_on(bad.probe()).err();
        let failure = failure.with_context(|| format!("{} has no certificate and was let in", bad.describe()))?;
        // As for records: over HTTP/2 TLS's word does not come through.
        ensure!(output.2.contains("grpc") || failure.reason.contains("set tls.certificate and tls.key"), "{failure}");
    }
    let seen = server.seen();
    let record = seen.iter().find(|(_, body)| body.windows(5).any(|part| part == b"event" || part == b"_inde"));
    ensure!(record.is_none(), "a record was sent: {record:?}");
    Ok(())
}

fn no_client_certificate() -> Result<()> {
    let place = Place::new("127.0.0.1", false)?;
    let server = HttpsServer::start(place.folder.path())?;
    let reasons = reasons(&place, &server, "ca = \"FOLDER/ca.pem\"")?;
    // Over HTTP/2 the library does not hand TLS's word on, only that the connection broke.
    let over_http = reasons.get(..OUTPUTS.len() - 1).unwrap_or_default();
    all_say(over_http, "set tls.certificate and tls.key")
}

fn unknown_authority() -> Result<()> {
    let place = Place::new("127.0.0.1", false)?;
    let server = HttpsServer::start(place.folder.path())?;
    fs::create_dir(place.path("other"))?;
    Authority::new(&place.path("other"))?;
    let tls = OWN.replace("FOLDER/ca.pem", "FOLDER/other/ca.pem");
    all_say(&reasons(&place, &server, &tls)?, "name the authority of the receiver's certificate in tls.ca")
}

/// Once the certificate is renewed, the same output delivers.
fn expired() -> Result<()> {
    let place = Place::new("127.0.0.1", true)?;
    let server = HttpsServer::start(place.folder.path())?;
    all_say(&reasons(&place, &server, OWN)?, "renew the receiver's certificate")?;
    place.authority.issue(place.folder.path(), "receiver", "127.0.0.1", false)?;
    let server = HttpsServer::start(place.folder.path())?;
    for output in OUTPUTS {
        deliver(place.output(output, &server, OWN)?.as_mut(), &server)?;
    }
    Ok(())
}

fn other_name() -> Result<()> {
    let place = Place::new("siem.example.com", false)?;
    let server = HttpsServer::start(place.folder.path())?;
    all_say(&reasons(&place, &server, OWN)?, "write the name that the certificate is for in tls.server_name")?;
    for output in OUTPUTS {
        let tls = format!("{OWN}, server_name = \"siem.example.com\"");
        deliver(place.output(output, &server, &tls)?.as_mut(), &server)?;
    }
    Ok(())
}
