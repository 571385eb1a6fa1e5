//! Imports into a folder and downloads from a real server on loopback.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use jiff::civil::date;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_rustls::TlsAcceptor;

use super::{
    Config, ImportError, Input, LoadError, Options, Place, Replaced, Source, Store, StoreError, UpdateError, import,
    load, load_or_embedded, update,
};
use crate::{
    ownership::{OwnerLookup as _, import::Fact},
    units::ByteSize,
};

/// All networks, as a table of this program.
const FULL: &[u8] = include_bytes!("../../data/ownership.bin");
/// One network more.
const MINE: &[u8] = b"198.51.100.0/24,AS64500,Somebody\n";

fn input(name: &str, bytes: &[u8]) -> Input {
    Input { name: name.to_owned(), bytes: bytes.to_vec(), facts: BTreeSet::new(), date: date(2026, 11, 20) }
}

fn options() -> Options {
    let now = "2026-11-27T01:02:03Z".parse().expect("a time");
    Options { format: None, date: None, is_alone: true, is_dry_run: false, now }
}

fn asn(path: &Path, address: &str) -> Option<u32> {
    let in_force = load(path).expect("a table");
    assert_eq!(in_force.file.as_deref(), Some(path));
    in_force.table.facts(address.parse().expect("an address")).asn
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    entries.map(|name| name.to_string_lossy().into_owned()).collect()
}

#[test]
fn an_import_is_in_force_and_keeps_the_one_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ownership.bin");
    assert_eq!(load(&path).expect("the embedded table").file, None);
    let files = || vec![input("mine.csv", MINE), input("all.bin", FULL)];
    let dry = import(files(), &path, &Options { is_dry_run: true, ..options() }).expect("good");
    assert!(dry.replaced.is_none() && names(folder.path()).is_empty());
    let imported = import(files(), &path, &options()).expect("good");
    assert_eq!(imported.replaced, Some(Replaced::Done));
    // The older of two counts as the date of both.
    assert_eq!(imported.table.data_date(), date(2026, 6, 17));
    let in_force = load(&path).expect("a table");
    let owner = in_force.table.lookup("198.51.100.7".parse().expect("an address"));
    assert_eq!((owner.asn, owner.organisation.as_deref()), (Some(64_500), Some("Somebody")));
    let owner = in_force.table.lookup("111.13.100.1".parse().expect("an address"));
    assert_eq!((owner.asn, owner.organisation.as_deref()), (Some(9808), Some("China Mobile")));
    let provenance = in_force.table.provenance().expect("a note");
    let sources: Vec<_> = provenance.sources.iter().map(|one| (one.name.as_str(), one.date, one.bad_records)).collect();
    assert_eq!(sources, [("mine.csv", date(2026, 11, 20), 0), ("all.bin", date(2026, 6, 17), 0)]);
    assert_eq!((provenance.filled_from_embedded, names(folder.path()).len()), (None, 1));
    // The same again changes nothing, not even the file.
    let inode = fs::metadata(&path).expect("a file").ino();
    assert_eq!(import(files(), &path, &options()).expect("good").replaced, Some(Replaced::Unchanged));
    assert_eq!(fs::metadata(&path).expect("a file").ino(), inode);

    let other = vec![input("other.csv", b"198.51.100.0/24,64501,Other\n"), input("all.bin", FULL)];
    assert_eq!(import(other, &path, &options()).expect("good").replaced, Some(Replaced::Done));
    assert_eq!(asn(&path, "198.51.100.7"), Some(64_501));
    let store = Store::new(&path);
    assert_eq!(asn(&store.previous(), "198.51.100.7"), Some(64_500));
    for expected in [64_500, 64_501] {
        store.roll_back().expect("a table before");
        assert_eq!(asn(&path, "198.51.100.7"), Some(expected));
    }
    assert_eq!(names(folder.path()), ["ownership.bin", "ownership.bin.previous"].map(str::to_owned).into());
    fs::write(store.previous(), "rubbish").expect("a file");
    assert!(matches!(store.roll_back(), Err(StoreError::PreviousUnusable(_))));
    fs::remove_file(store.previous()).expect("a file");
    assert!(matches!(store.roll_back(), Err(StoreError::NoPrevious { .. })));
    assert_eq!(asn(&path, "198.51.100.7"), Some(64_501));
}

#[test]
fn what_the_files_lack_comes_from_the_embedded_table() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ownership.bin");
    let mut all = input("all.bin", FULL);
    all.facts = BTreeSet::from([Fact::Asn]);
    let imported = import(vec![all], &path, &Options { is_alone: false, ..options() }).expect("good");
    let owner = imported.table.lookup("47.241.1.1".parse().expect("an address"));
    assert!(
        owner.organisation.is_some() && owner.as_country.is_some() && owner.registered_country.is_some(),
        "{owner:?}"
    );
    let provenance = imported.table.provenance().expect("a note");
    assert_eq!(provenance.filled_from_embedded, Some(date(2026, 6, 17)));
    assert_eq!(provenance.sources.first().map(|one| one.facts.clone()), Some(BTreeSet::from([Fact::Asn])));
}

#[test]
fn a_time_stamp_that_cannot_be_is_no_date() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ownership.bin");
    let files = || vec![Input { date: date(1985, 10, 26), ..input("npm.csv", MINE) }, input("all.bin", FULL)];
    let error = import(files(), &path, &options()).expect_err("a date of 1985").to_string();
    assert!(error.contains("1985-10-26") && error.contains("--date"), "{error}");
    let dated = Options { date: Some(date(2026, 6, 17)), ..options() };
    assert_eq!(import(files(), &path, &dated).expect("good").table.data_date(), date(2026, 6, 17));
}

#[test]
fn data_without_the_anchors_replace_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ownership.bin");
    import(vec![input("mine.csv", MINE), input("all.bin", FULL)], &path, &options()).expect("good");
    let before = fs::read(&path).expect("a file");
    for (bytes, rest, complaint) in [
        (&b"8.8.8.0/24,AS64500,Wrong\n"[..], Some(FULL), "8.8.8.8 must belong to AS15169, the data say AS64500"),
        (b"2409:8c00::/32,AS64500,Wrong\n", Some(FULL), "2409:8c00::1 must belong to AS9808, the data say AS64500"),
        (
            b"8.8.8.0/24,15169,G\n1.1.1.0/24,13335,C\n111.13.100.0/24,9808,M\n2409:8c00::/32,9808,M\n",
            None,
            "more than 300000 IPv4 ranges must have an origin, the data have 3; more than 60000 IPv6",
        ),
        (b"rubbish", Some(FULL), "first.csv: none of the known forms"),
        (&FULL[..FULL.len() / 2], Some(FULL), "first.csv: the ownership table does not decompress"),
    ] {
        let mut files = vec![input("first.csv", bytes)];
        files.extend(rest.map(|rest| input("all.bin", rest)));
        let error = import(files, &path, &options()).expect_err(complaint);
        assert!(error.to_string().contains(complaint), "{error}");
        assert_eq!(fs::read(&path).expect("a file"), before);
        assert_eq!(names(folder.path()).len(), 1);
    }
}

#[test]
fn a_file_that_is_no_good_is_told_and_the_embedded_table_stands_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ownership.bin");
    let small = crate::ownership::import::Gathered::read(MINE.to_vec(), None).expect("rows");
    let small = crate::ownership::import::join(date(2026, 11, 1), &[small], None).expect("origins");
    let small = crate::ownership::Table::new(&small).expect("few systems");
    let small = crate::ownership::encode(&small, |content| zstd::bulk::compress(content, 1)).expect("memory");
    for (bytes, complaint) in [
        (&FULL[..FULL.len() - 7], "take a fresh copy"),
        (b"rubbish", "not an ownership table"),
        (small.as_slice(), "is not what it should be: 8.8.8.8 must belong"),
    ] {
        fs::write(&path, bytes).expect("a file");
        let error = load(&path).expect_err(complaint);
        let text = error.to_string();
        assert!(text.contains(complaint) && text.contains("--rollback") && text.contains("ownership.bin"), "{text}");
        let (in_force, trouble) = load_or_embedded(&path).expect("the embedded table");
        assert!(in_force.file.is_none() && trouble.is_some_and(|trouble| !trouble.is_forbidden()));
    }
    assert!(matches!(load(folder.path()), Err(LoadError::Unreadable { .. })));
}

#[test]
fn what_a_killed_import_leaves_does_no_harm_and_goes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ownership.bin");
    let files = || vec![input("mine.csv", MINE), input("all.bin", FULL)];
    import(files(), &path, &options()).expect("good");
    fs::hard_link(&path, folder.path().join("ownership.bin.present.unfinished")).expect("a link");
    fs::write(folder.path().join("ownership.bin.new.unfinished"), &FULL[..1_000]).expect("a file");
    assert_eq!(asn(&path, "198.51.100.7"), Some(64_500));
    let holder = File::open(folder.path()).expect("a folder");
    holder.lock().expect("a lock");
    let store = Store::new(&path);
    assert!(matches!(store.replace(b"x"), Err(StoreError::Busy { .. })));
    drop(holder);
    import(vec![input("all.bin", FULL)], &path, &options()).expect("good");
    assert_eq!(names(folder.path()), ["ownership.bin", "ownership.bin.previous"].map(str::to_owned).into());
    assert_eq!(asn(&path, "198.51.100.7"), None);
    assert_eq!(asn(&store.previous(), "198.51.100.7"), Some(64_500));
}

#[test]
fn sources_are_files_or_addresses_with_facts_before_them() {
    let source = |text: &str| text.parse::<Source>();
    let plain = source("/data/a=b.csv").expect("a path with an equals sign");
    assert_eq!((plain.facts.len(), plain.place.to_string()), (0, "/data/a=b.csv".to_owned()));
    let some = source("asn,as-country=https://example.com/a?token=x=y").expect("an address");
    assert_eq!(some.facts, BTreeSet::from([Fact::Asn, Fact::AsCountry]));
    assert!(matches!(some.place, Place::Url(_)));
    assert_eq!(some.place.to_string(), "https://example.com/a");
    assert_eq!(some.to_string(), "asn,as-country=https://example.com/a?token=x=y");
    assert!(source("asn=").is_err() && source("https://user:password@example.com/").is_err());
    let config = |text: &str| crate::config::Config::parse(text, "x").map(|config| config.data);
    assert_eq!(config("[data]\nsources = [\"/a.csv\"]").expect("good").sources.len(), 1);
    for bad in ["sources = [\"a.csv\"]", "table = \"a.bin\"", "ca = \"a.pem\""] {
        let error = config(&format!("[data]\n{bad}")).expect_err(bad).to_string();
        assert!(error.contains("is relative") && error.contains("write an absolute path"), "{error}");
    }
}

/// A server with its own runtime, because `update` has one.
struct Server {
    _runtime: Runtime,
    origin: String,
    /// Path and validators of each request.
    seen: Arc<Mutex<Vec<String>>>,
}

type Handler = fn(&Request<Incoming>, origin: &str) -> Response<Full<Bytes>>;

impl Server {
    fn start(tls: Option<ServerConfig>, handler: Handler) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let origin = format!("{scheme}://localhost:{}", listener.local_addr().expect("an address").port());
        let acceptor = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, base) = (Arc::clone(&seen), origin.clone());
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, base, acceptor) = (Arc::clone(&log), base.clone(), acceptor.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let header = |name| {
                        request.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                    };
                    let line = format!(
                        "{} {} {}",
                        request.uri(),
                        header("if-none-match").unwrap_or_default(),
                        header("if-modified-since").unwrap_or_default()
                    );
                    log.lock().unwrap_or_else(PoisonError::into_inner).push(line.trim_end().to_owned());
                    let answer = handler(&request, &base);
                    async move { Ok::<_, std::convert::Infallible>(answer) }
                });
                tokio::spawn(async move {
                    let http = hyper::server::conn::http1::Builder::new();
                    // A client that goes away is none of the server's business.
                    match acceptor {
                        None => drop(http.serve_connection(TokioIo::new(stream), service).await),
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                drop(http.serve_connection(TokioIo::new(stream), service).await);
                            }
                        }
                    }
                });
            }
        });
        Self { _runtime: runtime, origin, seen }
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn config(&self, path: &str) -> Config {
        Config { sources: vec![format!("{}{path}", self.origin).parse().expect("a source")], ..Config::default() }
    }
}

fn serve(request: &Request<Incoming>, origin: &str) -> Response<Full<Bytes>> {
    let build = Response::builder();
    let answer = match request.uri().path() {
        "/all" if request.headers().get("if-none-match").is_some_and(|etag| etag == "\"v1\"") => {
            build.status(304).body(Full::default())
        }
        "/all" => build
            .header("etag", "\"v1\"")
            .header("last-modified", "Fri, 20 Nov 2026 10:00:00 GMT")
            .body(Full::from(FULL)),
        "/moved" => build.status(302).header("location", format!("{origin}/all")).body(Full::default()),
        "/plain" => build.status(302).header("location", "http://127.0.0.1:9/all").body(Full::default()),
        "/page" => build.body(Full::from("<html>Sign in</html>")),
        _ => build.status(404).body(Full::default()),
    };
    answer.expect("an answer")
}

#[test]
fn an_update_fetches_what_changed_and_nothing_else() {
    let server = Server::start(None, serve);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ownership.bin");
    let run = |config: &Config| update(config, &path, &options());
    assert!(matches!(run(&Config::default()), Err(UpdateError::NoSources)));
    let config = server.config("/all?token=hunter2");
    let first = run(&config).expect("good");
    assert_eq!(first.replaced, Some(Replaced::Done));
    let note = first.table.provenance().and_then(|note| note.sources.first().cloned()).expect("a note");
    assert_eq!(note.name, format!("{}/all", server.origin));
    assert_eq!(server.seen(), ["/all?token=hunter2"]);
    assert_eq!(run(&config).expect("good").replaced, Some(Replaced::Unchanged));
    assert_eq!(server.seen(), ["/all?token=hunter2 \"v1\" Fri, 20 Nov 2026 10:00:00 GMT"]);
    // What was kept and is not whole is fetched anew.
    for entry in fs::read_dir(folder.path().join("downloads")).expect("downloads").flatten() {
        if entry.path().extension().is_none() {
            fs::write(entry.path(), "rubbish").expect("a file");
        }
    }
    assert_eq!(run(&config).expect("good").replaced, Some(Replaced::Unchanged));
    assert_eq!(server.seen(), ["/all?token=hunter2"]);
    let mut both = server.config("/moved");
    let mine = folder.path().join("mine.csv");
    fs::write(&mine, MINE).expect("a file");
    both.sources.insert(0, mine.display().to_string().parse().expect("a source"));
    assert_eq!(run(&both).expect("good").replaced, Some(Replaced::Done));
    assert_eq!(
        (server.seen(), asn(&path, "198.51.100.7")),
        (vec!["/moved".to_owned(), "/all".to_owned()], Some(64_500))
    );
    let before = fs::read(&path).expect("a file");
    let small = Config { max_download: ByteSize::from_bytes(1_000), ..server.config("/all") };
    for (config, complaint) in [
        (small, "/all: it has more than 1kB: check the address, or raise data.max_download"),
        (server.config("/gone?token=hunter2"), "/gone: the server answered 404 Not Found"),
        (server.config("/page"), "/page: this is a web page"),
        (
            Config {
                sources: vec!["http://127.0.0.1:9/x?token=hunter2".parse().expect("a source")],
                ..Config::default()
            },
            "cannot fetch http://127.0.0.1:9/x: cannot connect: ",
        ),
    ] {
        let error = run(&config).expect_err(complaint).to_string();
        assert!(error.contains(complaint) && !error.contains("hunter2"), "{error}");
        assert_eq!(fs::read(&path).expect("a file"), before);
    }
}

#[test]
fn an_update_over_tls_trusts_whom_it_is_told_to_and_does_not_leave_tls() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key))
        .expect("a configuration");
    let server = Server::start(Some(tls), serve);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ownership.bin");
    let ca = folder.path().join("ca.pem");
    fs::write(&ca, cert.pem()).expect("a file");
    let run = |config: Config, ca: &Path| update(&Config { ca: Some(ca.to_owned()), ..config }, &path, &options());
    assert_eq!(run(server.config("/moved"), &ca).expect("good").replaced, Some(Replaced::Done));
    let error = run(server.config("/plain"), &ca).expect_err("a redirect to http").to_string();
    assert!(error.contains("the server sends on to http://"), "{error}");
    let other = generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate").cert.pem();
    let stranger = folder.path().join("other.pem");
    fs::write(&stranger, other).expect("a file");
    let error = run(server.config("/all"), &stranger).expect_err("an unknown authority").to_string();
    assert!(error.contains("/all: cannot connect: "), "{error}");
    let error = run(server.config("/all"), &folder.path().join("none.pem")).expect_err("no file").to_string();
    assert!(error.contains("none.pem, named by data.ca"), "{error}");
    let error = run(server.config("/gone"), &ca).expect_err("no such file").to_string();
    assert!(error.contains("/gone: the server answered 404 Not Found: see whether the address is right"), "{error}");
    assert!(!matches!(run(server.config("/all"), &ca), Err(UpdateError::Import(ImportError::Store(_)))));
}
