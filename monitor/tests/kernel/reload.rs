//! Another policy while the monitor runs.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Command,
    sync::mpsc,
};

use anyhow::{Context as _, Result, ensure};
use flate2::{Compression, write::GzEncoder};
use nix::sys::signal::Signal;

use crate::{
    Case,
    load::{compare, ends_to, no_final_loss},
    support::{
        Launch, Monitor, Network, Program, Record, Rung, Settings, TcpServer, Traffic, View, binary, is_emulated,
        patience,
    },
};

/// The tests of this file.
pub(crate) const CASES: &[Case] = &[
    Case::new("a_reload_under_load_loses_no_connection_and_flags_what_is_new", under_load).in_user_space(),
    Case::new("a_bad_file_leaves_the_old_policy_in_force_and_says_why", bad_file).in_user_space(),
    Case::new("a_list_with_an_address_is_fetched_and_flags", fetched_list).in_user_space(),
    Case::new("imported_ownership_data_are_taken_in_and_damaged_ones_are_not", ownership_data).in_user_space(),
];

const REQUEST: u64 = 7;
const REPLY: u64 = 3;

/// A list that names one network.
fn list(network: &str) -> String {
    format!(
        "id = \"mine\"\ntitle = \"Mine\"\nabout = \"A test.\"\nsource = \"a test\"\nas_of = 2026-01-01\n\
         severity = \"high\"\nenabled = true\n[[entity]]\nname = \"Somebody\"\nrelation = \"topical\"\n\
         cidrs = [\"{network}\"]\n"
    )
}

/// Puts another file in its place, as an editor does.
fn replace(file: &Path, text: &str) -> Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, text)?;
    Ok(fs::rename(new, file)?)
}

fn reloaded(view: &View<'_>, reason: &str) -> Result<()> {
    view.one(&format!("that it reloaded: {reason}"), |record| {
        record.text("/event/action") == Some("policy_reloaded")
            && record.text("/egresswatch/status/reason") == Some(reason)
    })
    .map(drop)
}

/// Connections are made all the time while the list changes; each is told once. The flow that was open before, and the
/// one that comes after, both alert.
fn under_load(rung: Rung) -> Result<()> {
    let (processes, connections) = if is_emulated() { (4, 250) } else { (16, 500) };
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("mine.toml");
    fs::write(&file, list("203.0.113.0/24"))?;
    let network = Network::new()?;
    let ordinary_server = TcpServer::start(&network, REQUEST, REPLY)?;
    let ordinary = SocketAddr::new("8.8.4.4".parse()?, ordinary_server.port);
    let server = TcpServer::start(&network, REQUEST, REPLY)?;
    let new = |address: &str| -> Result<SocketAddr> { Ok(SocketAddr::new(address.parse()?, server.port)) };
    let (starter, busy) = (Program::new("starter")?, Program::new("busy")?);
    let (early, late, done) = (Program::new("early")?, Program::new("late")?, Program::new("done")?);
    let rest = format!("[policy]\nfiles = [{:?}]", file.display().to_string());
    let monitor = Monitor::start(rung, Settings { rest: &rest, ..Settings::default() })?;
    let view = monitor.view();
    let launch = Launch::inside(&network);
    let once = |to, hold| Traffic::Tcp { to, connections: 1, send: REQUEST, receive: REPLY, hold };
    let alert_of = |program: &Program, view: &View<'_>| {
        view.one(&format!("an alert on {}", program.name()), |record| {
            record.is_alert() && record.executable() == Some(program.name())
        })
    };
    let open = launch.start(&early, &once(new("198.51.100.9")?, true))?;
    let load = Traffic::Swarm {
        programs: vec![busy.path.clone()],
        times: processes,
        parallel: 2,
        traffic: Box::new(Traffic::Tcp { to: ordinary, connections, send: REQUEST, receive: REPLY, hold: false }),
    };
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| launch.run(&starter, &load));
        view.one("the first of the load", |record| record.remote() == Some(ordinary))?;
        replace(&file, &list("198.51.100.0/24"))?;
        reloaded(&view, "file_changed")?;
        alert_of(&early, &view)?;
        for _ in 0..3 {
            let answer = monitor.ask(&["reload"])?;
            ensure!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
        }
        monitor.signal(Signal::SIGHUP)?;
        reloaded(&view, "signal")?;
        launch.run(&late, &once(new("198.51.100.7")?, false))?;
        alert_of(&late, &view)?;
        loading.join().map_err(|_| anyhow::anyhow!("the load panicked"))?
    })?;
    let ended = |program: &Program, view: &View<'_>| {
        view.one(&format!("the end of the flow of {}", program.name()), |record| {
            record.is_flow_end() && record.is_egress() && record.executable() == Some(program.name())
        })
    };
    let end = ended(&late, &view)?;
    ensure!(end.facts().contains(&"flagged"), "not by the ring of flagged flows: {}", end.pretty());
    open.finish()?;
    let end = ended(&early, &view)?;
    ensure!(end.texts("/egresswatch/lists").contains(&"mine"), "{}", end.pretty());
    let ends = ends_to(&view.within(patience() * 2), ordinary, processes * usize::try_from(connections)?)?;
    compare(&ends, &ordinary_server.finish())?;
    no_final_loss(&view)?;
    // What is taken from the list is taken from the kernel.
    replace(&file, &list("203.0.113.0/24"))?;
    let answer = monitor.ask(&["reload", "--json"])?;
    ensure!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    launch.run(&done, &once(new("198.51.100.7")?, false))?;
    let end = ended(&done, &view)?;
    ensure!(!end.facts().contains(&"flagged"), "still flagged: {}", end.pretty());
    let records = monitor.stop()?;
    let alert = records.iter().find(|record| record.is_alert() && record.executable() == Some(done.name()));
    ensure!(alert.is_none(), "{}", alert.map_or_else(String::new, |alert| alert.pretty()));
    Ok(())
}

fn bad_file(rung: Rung) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("mine.toml");
    fs::write(&file, list("198.51.100.0/24"))?;
    let network = Network::new()?;
    let server = TcpServer::start(&network, REQUEST, REPLY)?;
    let to = SocketAddr::new("198.51.100.7".parse()?, server.port);
    let program = Program::new("still-flagged")?;
    let rest = format!("[policy]\nfiles = [{:?}]", file.display().to_string());
    let monitor = Monitor::start(rung, Settings { rest: &rest, ..Settings::default() })?;
    let view = monitor.view();
    replace(&file, "severity = \"dreadful\"\n")?;
    let failed = |record: &Record| record.text("/egresswatch/degradation/token") == Some("reload_failed");
    let told = view.one("that the reload failed", failed)?;
    let missing = told.text("/egresswatch/degradation/missing").context("no reason")?;
    ensure!(missing.contains("mine.toml") && missing.contains("dreadful"), "{missing}");
    let answer = monitor.ask(&["reload"])?;
    let complaint = String::from_utf8_lossy(&answer.stderr);
    ensure!(answer.status.code() == Some(3), "{}: {complaint}", answer.status);
    ensure!(complaint.contains("mine.toml") && complaint.contains("dreadful"), "{complaint}");
    let traffic = Traffic::Tcp { to, connections: 1, send: REQUEST, receive: REPLY, hold: false };
    Launch::inside(&network).run(&program, &traffic)?;
    view.one("an alert by the old policy", |record| record.is_alert() && record.executable() == Some(program.name()))?;
    replace(&file, &list("198.51.100.0/24"))?;
    let again = view.one("that it reloaded", |record| record.text("/event/action") == Some("policy_reloaded"))?;
    let left = again.texts("/egresswatch/status/degradations");
    ensure!(!left.contains(&"reload_failed"), "{}", again.pretty());
    monitor.stop().map(drop)
}

/// Answers every request with `content`, packed with gzip as many publish lists. Returns the port, and what was asked.
fn serve_list(content: &str) -> Result<(u16, mpsc::Receiver<String>)> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(content.as_bytes())?;
    let packed = packed.finish()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let (sender, asked) = mpsc::channel();
    // It ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = String::new();
            let mut lines = BufReader::new(&stream);
            while lines.read_line(&mut request).is_ok_and(|length| length > 2) {}
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", packed.len());
            // A client that goes has its own complaint.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&packed));
            let _ = sender.send(request);
        }
    });
    Ok((port, asked))
}

/// A list with an address on the loopback: the monitor starts without it, fetches it, and flags in the kernel what it names.
fn fetched_list(rung: Rung) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (port, asked) = serve_list("# of a test\n198.51.100.0/24\n")?;
    let rest = format!(
        "[policy]\nlists_directory = {:?}\n[lists.fetched]\nsource = \"http://127.0.0.1:{port}/list.gz\"\nseverity = \"high\"\n",
        folder.path().join("lists").display().to_string()
    );
    let network = Network::new()?;
    let server = TcpServer::start(&network, REQUEST, REPLY)?;
    let to = SocketAddr::new("198.51.100.7".parse()?, server.port);
    let monitor = Monitor::start(rung, Settings { rest: &rest, ..Settings::default() })?;
    let view = monitor.whole();
    reloaded(&view, "list_refreshed")?;
    let request = asked.recv_timeout(patience())?;
    ensure!(request.starts_with("GET /list.gz "), "{request}");
    let program = Program::new("fetched")?;
    let traffic = Traffic::Tcp { to, connections: 1, send: REQUEST, receive: REPLY, hold: false };
    Launch::inside(&network).run(&program, &traffic)?;
    let alert =
        view.one("an alert by the list", |record| record.is_alert() && record.executable() == Some(program.name()))?;
    ensure!(alert.texts("/egresswatch/lists") == ["fetched"], "{}", alert.pretty());
    let end = view.one("the end of the flow", |record| {
        record.is_flow_end() && record.is_egress() && record.executable() == Some(program.name())
    })?;
    ensure!(end.facts().contains(&"flagged"), "not by the ring of flagged flows: {}", end.pretty());
    monitor.stop()?;
    // It is there at the next start, before anything is fetched.
    let monitor = Monitor::start(rung, Settings { rest: &rest, ..Settings::default() })?;
    let program = Program::new("fetched-before")?;
    Launch::inside(&network).run(&program, &traffic)?;
    let view = monitor.whole();
    view.one("an alert by the list of before", |record| {
        record.is_alert() && record.executable() == Some(program.name())
    })?;
    ensure!(asked.try_recv().is_err(), "it was fetched again within its day");
    monitor.stop().map(drop)
}

/// A network that only imported data know alerts as soon as the data are there. A damaged file changes nothing.
fn ownership_data(rung: Rung) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    fs::write(at("mine.toml"), list("203.0.113.0/24").replace("cidrs = [\"203.0.113.0/24\"]", "asns = [64500]"))?;
    fs::write(at("mine.csv"), "198.51.100.0/24,AS64500,Somebody\n")?;
    let rest = format!(
        "[policy]\nfiles = [{:?}]\n[data]\ntable = {:?}",
        at("mine.toml").display().to_string(),
        at("ownership.bin").display().to_string()
    );
    fs::write(at("config.toml"), &rest)?;
    let network = Network::new()?;
    let server = TcpServer::start(&network, REQUEST, REPLY)?;
    let to = SocketAddr::new("198.51.100.7".parse()?, server.port);
    let monitor = Monitor::start(rung, Settings { rest: &rest, ..Settings::default() })?;
    let view = monitor.view();
    let traffic = Traffic::Tcp { to, connections: 1, send: REQUEST, receive: REPLY, hold: false };
    let (before, after) = (Program::new("before-import")?, Program::new("after-import")?);
    Launch::inside(&network).run(&before, &traffic)?;
    view.one("the end of a flow to nobody that is known", |record| {
        record.is_flow_end() && record.executable() == Some(before.name())
    })?;
    // Guests have the tests' program and no repository.
    fs::write(at("all.bin"), include_bytes!("../../data/ownership.bin"))?;
    let (mine, full, config) = (at("mine.csv"), at("all.bin"), at("config.toml"));
    let arguments = [Path::new("data"), Path::new("import"), &mine, &full, Path::new("--config"), &config];
    let imported = Command::new(binary()).args(arguments).output()?;
    ensure!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    reloaded(&view, "file_changed")?;
    Launch::inside(&network).run(&after, &traffic)?;
    let alert =
        view.one("an alert by imported data", |record| record.is_alert() && record.executable() == Some(after.name()))?;
    ensure!(alert.text("/destination/as/organization/name") == Some("Somebody"), "{}", alert.pretty());
    fs::write(at("ownership.bin"), "rubbish")?;
    let told = view.one("that the reload failed", |record| {
        record.text("/egresswatch/degradation/token") == Some("reload_failed")
    })?;
    let missing = told.text("/egresswatch/degradation/missing").context("no reason")?;
    ensure!(missing.contains("ownership.bin") && missing.contains("--rollback"), "{missing}");
    let records = monitor.stop()?;
    let early = records.iter().find(|record| record.is_alert() && record.executable() == Some(before.name()));
    ensure!(early.is_none(), "{}", early.map_or_else(String::new, |alert| alert.pretty()));
    // At a start there is no policy before: the embedded data are better than none.
    let monitor = Monitor::start(rung, Settings { rest: &rest, ..Settings::default() })?;
    monitor.whole().one("that the embedded data are in force", |record| {
        record.text("/egresswatch/degradation/token") == Some("ownership_embedded")
    })?;
    monitor.stop().map(drop)
}
