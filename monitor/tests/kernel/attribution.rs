//! Who did it: short lives, children, users, cgroups.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};

use crate::{
    Case,
    support::{Cgroup, Launch, Network, Program, Record, Rung, TcpServer, Traffic, UdpServer, is_emulated, watch},
    tcp::flow_end,
};

/// The tests of this file.
pub(crate) const CASES: &[Case] = &[
    Case::new("a_process_that_lives_a_millisecond_is_named", short_lived),
    Case::new("a_process_that_becomes_another_program_is_named", becomes_another),
    Case::new("a_forked_child_that_sends_is_told_from_the_connector", |rung| child_sends(rung, false)),
    Case::new("another_program_that_inherited_the_socket_is_told_from_the_connector", |rung| child_sends(rung, true)),
    Case::new("a_program_that_sends_after_an_exec_is_told_from_the_connector", sends_after_exec),
    Case::new("two_processes_share_a_datagram_socket", share_a_socket),
    Case::new("another_user_is_named", another_user),
    Case::new("a_new_cgroup_is_named", new_cgroup),
    Case::new("a_container_is_named", container),
];

fn short_lived(rung: Rung) -> Result<()> {
    const BYTES: u64 = 99;
    let network = Network::new()?;
    let server = TcpServer::start(&network, BYTES, 0)?;
    let remote = SocketAddr::new("120.232.0.1".parse()?, server.port);
    let times = if is_emulated() { 5 } else { 25 };
    watch(rung, |view| {
        for time in 0..times {
            // A new file each time, so that no earlier process can lend its name.
            let program = Program::new(&format!("vanish-{time}"))?;
            let pid = Launch::inside(&network).run(&program, &Traffic::TcpAndVanish { to: remote, send: BYTES })?.pid;
            let end = view.one("the end of a flow of this process", |record| {
                record.is_flow_end() && record.is_egress() && record.number("/process/pid") == Some(u64::from(pid))
            })?;
            ensure!(end.executable() == Some(program.name()), "not {}: {}", program.name(), end.pretty());
            ensure!(end.bytes().0 == Some(BYTES), "{}", end.pretty());
            ensure!(end.remote() == Some(remote), "{}", end.pretty());
            let own = Some(u64::from(std::process::id()));
            ensure!(end.number("/process/parent/pid") == own, "another parent: {}", end.pretty());
        }
        Ok(())
    })
}

/// The same process id runs another program when the report is read: the alert must name the one that sent.
fn becomes_another(rung: Rung) -> Result<()> {
    const BYTES: u64 = 123;
    let network = Network::new()?;
    let server = TcpServer::start(&network, BYTES, 0)?;
    let before = Program::new("before-exec")?;
    let after = Program::new("after-exec")?;
    for address in ["120.232.0.1", "8.8.8.8"] {
        let remote = SocketAddr::new(address.parse()?, server.port);
        watch(rung, |view| {
            let traffic = Traffic::TcpAndExec { to: remote, send: BYTES, program: after.path.clone() };
            Launch::inside(&network).start(&before, &traffic)?.finish()?;
            let end = view.one(&format!("the end of the flow to {remote}"), |record| {
                record.is_flow_end() && record.is_egress() && record.remote() == Some(remote)
            })?;
            ensure!(end.executable() == Some(before.name()), "not {}: {}", before.name(), end.pretty());
            ensure!(end.bytes() == (Some(BYTES), Some(0)), "{}", end.pretty());
            Ok(())
        })?;
    }
    Ok(())
}

/// The parent connects and sends, the child sends 77 bytes more. With send tracepoints the actor is the child and the
/// connector stays named; without them the kernel tells the connector only.
fn child_sends(rung: Rung, other_program: bool) -> Result<()> {
    const BY_PARENT: u64 = 1_000;
    const BY_CHILD: u64 = 77;
    let network = Network::new()?;
    let server = TcpServer::start(&network, BY_PARENT + BY_CHILD, 0)?;
    let remote = SocketAddr::new("120.232.0.1".parse()?, server.port);
    let parent = Program::new("connects")?;
    let child = Program::new("sends")?;
    watch(rung, |view| {
        let traffic = Traffic::TcpFromChild {
            to: remote,
            by_parent: BY_PARENT,
            by_child: BY_CHILD,
            program: other_program.then(|| child.path.clone()),
        };
        let finished = Launch::inside(&network).start(&parent, &traffic)?.finish()?;
        let child_pid = finished.facts.child.context("the generator told no child")?;
        let end = view.one(&format!("the end of the flow to {remote}"), |record| {
            record.is_flow_end() && record.is_egress() && record.remote() == Some(remote)
        })?;
        let check = |end: &Record| -> Result<()> {
            ensure!(end.bytes() == (Some(BY_PARENT + BY_CHILD), Some(0)), "other bytes");
            let (actor, executable) = match rung {
                Rung::Base => (finished.pid, &parent),
                Rung::Fexit | Rung::Sender if other_program => (child_pid.cast_unsigned(), &child),
                Rung::Fexit | Rung::Sender => (child_pid.cast_unsigned(), &parent),
            };
            ensure!(end.number("/process/pid") == Some(u64::from(actor)), "another actor than {actor}");
            ensure!(end.executable() == Some(executable.name()), "another executable than {}", executable.name());
            let connector = end.number("/egresswatch/connector/pid");
            let queued = end.number("/egresswatch/flow/out/queued_bytes");
            match rung {
                Rung::Base => {
                    ensure!(connector.is_none(), "a connector beside the actor");
                    ensure!(queued.is_none(), "bytes that this rung cannot count");
                }
                Rung::Fexit | Rung::Sender => {
                    ensure!(connector == Some(u64::from(finished.pid)), "another connector than {}", finished.pid);
                    let executable = end.text("/egresswatch/connector/executable");
                    ensure!(executable == Some(parent.name()), "the connector's executable is wrong");
                    ensure!(queued == Some(BY_PARENT + BY_CHILD), "other bytes handed over");
                }
            }
            Ok(())
        };
        check(&end).with_context(|| end.pretty())
    })
}

/// The process stays the same, with its id and its start; the program that sends is another one.
fn sends_after_exec(rung: Rung) -> Result<()> {
    const BEFORE: u64 = 400;
    const AFTER: u64 = 77;
    let network = Network::new()?;
    let server = TcpServer::start(&network, BEFORE + AFTER, 0)?;
    let remote = SocketAddr::new("120.232.0.1".parse()?, server.port);
    let (before, after) = (Program::new("connects-first")?, Program::new("sends-then")?);
    watch(rung, |view| {
        let program = after.path.clone();
        let traffic = Traffic::TcpExecAndSend { to: remote, before: BEFORE, after: AFTER, program };
        let pid = Launch::inside(&network).run(&before, &traffic)?.pid;
        let end = view.one(&format!("the end of the flow to {remote}"), |record| {
            record.is_flow_end() && record.is_egress() && record.remote() == Some(remote)
        })?;
        let check = || -> Result<()> {
            ensure!(end.bytes() == (Some(BEFORE + AFTER), Some(0)), "other bytes");
            ensure!(end.number("/process/pid") == Some(u64::from(pid)), "another process than {pid}");
            let (actor, connector) = if rung.tells_senders() { (&after, Some(before.name())) } else { (&before, None) };
            ensure!(end.executable() == Some(actor.name()), "another executable than {}", actor.name());
            let told = end.text("/egresswatch/connector/executable");
            ensure!(told == connector, "the connector is {told:?} and not {connector:?}");
            Ok(())
        };
        check().with_context(|| end.pretty())
    })
}

/// Each send counts for the process that made it, although the socket is one and both send at once.
fn share_a_socket(rung: Rung) -> Result<()> {
    const DATAGRAMS: u64 = 500;
    const BYTES: u64 = 64;
    let network = Network::new()?;
    let servers = [
        UdpServer::start(&network, "120.232.0.1".parse()?, None)?,
        UdpServer::start(&network, "8.8.8.8".parse()?, None)?,
    ];
    let program = Program::new("shares")?;
    watch(rung, |view| {
        let [by_parent, by_child] = [&servers[0], &servers[1]].map(|server| server.address);
        let traffic = Traffic::UdpShared { by_parent, by_child, datagrams: DATAGRAMS, send: BYTES };
        let finished = Launch::inside(&network).run(&program, &traffic)?;
        let child = finished.facts.child.context("the generator told no child")?.cast_unsigned();
        for (remote, pid) in [(by_parent, finished.pid), (by_child, child)] {
            let end = flow_end(&view, &program, remote)?;
            let check = || -> Result<()> {
                ensure!(end.bytes() == (Some(DATAGRAMS * BYTES), Some(0)), "other bytes");
                ensure!(end.number("/process/pid") == Some(u64::from(pid)), "another process than {pid}");
                ensure!(end.text("/egresswatch/connector/pid").is_none(), "a connector beside the sender");
                let queued = end.number("/egresswatch/flow/out/queued_bytes");
                // The tracepoint does not tell the address: the datagram that was under way when the second process
                // first used the socket may be left out.
                let least = match rung {
                    Rung::Base => None,
                    Rung::Fexit => Some(DATAGRAMS * BYTES),
                    Rung::Sender => Some((DATAGRAMS - 1) * BYTES),
                };
                ensure!(queued >= least && queued <= Some(DATAGRAMS * BYTES), "{queued:?} bytes handed over");
                Ok(())
            };
            check().with_context(|| end.pretty())?;
        }
        Ok(())
    })
}

fn another_user(rung: Rung) -> Result<()> {
    const USER: u32 = 64_123;
    let network = Network::new()?;
    let server = TcpServer::start(&network, 10, 10)?;
    let remote = SocketAddr::new("120.232.0.1".parse()?, server.port);
    let program = Program::new("another-user")?;
    watch(rung, |view| {
        let traffic = Traffic::Tcp { to: remote, connections: 1, send: 10, receive: 10, hold: false };
        Launch::inside(&network).user(USER).run(&program, &traffic)?;
        let alert = view.one("an alert", |record| record.is_alert() && record.executable() == Some(program.name()))?;
        let end = flow_end(&view, &program, remote)?;
        for record in [alert, end] {
            for field in ["/user/id", "/process/user/id", "/group/id"] {
                ensure!(record.text(field) == Some("64123"), "{field}: {}", record.pretty());
            }
            ensure!(record.text("/user/name").is_none(), "a name that nobody gave: {}", record.pretty());
        }
        Ok(())
    })
}

fn new_cgroup(rung: Rung) -> Result<()> {
    let path = format!("/egresswatch-test-{}/worker", std::process::id());
    let end = in_cgroup(rung, &path)?;
    ensure!(end.text("/egresswatch/process/cgroup") == Some(&path), "not {path}: {}", end.pretty());
    ensure!(end.text("/container/id").is_none(), "a container: {}", end.pretty());
    Ok(())
}

fn container(rung: Rung) -> Result<()> {
    let id = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let path = format!("/egresswatch-test-{}.slice/docker-{id}.scope", std::process::id());
    let end = in_cgroup(rung, &path)?;
    ensure!(end.text("/egresswatch/process/cgroup") == Some(&path), "not {path}: {}", end.pretty());
    ensure!(end.text("/container/id") == Some(id), "not {id}: {}", end.pretty());
    ensure!(end.text("/container/runtime") == Some("docker"), "not docker: {}", end.pretty());
    Ok(())
}

/// The cgroup is made while the monitor runs, and is gone again when its flow is reported.
fn in_cgroup(rung: Rung, path: &str) -> Result<std::sync::Arc<Record>> {
    let network = Network::new()?;
    let server = TcpServer::start(&network, 10, 0)?;
    let remote = SocketAddr::new("8.8.8.8".parse()?, server.port);
    let program = Program::new("in-cgroup")?;
    watch(rung, |view| {
        let cgroup = Cgroup::new(path)?;
        let traffic = Traffic::Tcp { to: remote, connections: 1, send: 10, receive: 0, hold: false };
        Launch::inside(&network).cgroup(&cgroup).run(&program, &traffic)?;
        drop(cgroup);
        flow_end(&view, &program, remote)
    })
}
