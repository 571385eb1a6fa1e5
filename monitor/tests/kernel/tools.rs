//! Programs that people use, as far as this machine has them.

use std::{
    net::{IpAddr, SocketAddr},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    Case,
    support::{Launch, Network, Rung, TcpServer, installed, watch},
};

/// The tests of this file.
pub(crate) const CASES: &[Case] = &[
    Case::new("curl_is_named_and_counted", |rung| http(rung, "curl", "111.13.100.1", 9808)).needs("curl"),
    Case::new("curl_over_ipv6_is_named_and_counted", |rung| http(rung, "curl", "240e::1", 4134)).needs("curl"),
    Case::new("python_is_named_and_counted", |rung| http(rung, "python3", "111.13.100.1", 9808)).needs("python3"),
    Case::new("netcat_is_named_and_counted", |rung| http(rung, "nc", "111.13.100.1", 9808)).needs("nc"),
    Case::new("ping_is_named_and_counted", ping).needs("ping"),
];

/// A request by HTTP: the server says how many bytes that was.
///
/// `asn` is the autonomous system of `address`. Each test of a tool takes another one: a second contact with the same
/// owner is no news, and waits to be summed up.
fn http(rung: Rung, name: &str, address: &str, asn: u64) -> Result<()> {
    let tool = installed(name).with_context(|| format!("{name} is not installed"))?;
    let network = Network::new()?;
    let server = TcpServer::http(&network)?;
    let remote = SocketAddr::new(address.parse()?, server.port);
    let url = format!("http://{remote}/");
    let mut command = Command::new(&tool);
    let mut input = "";
    match name {
        "curl" => command.args(["--silent", "--noproxy", "*", &url]),
        "python3" => command.args([
            "-c",
            "import sys, urllib.request as u; u.build_opener(u.ProxyHandler({})).open(sys.argv[1]).read()",
            &url,
        ]),
        _ => {
            input = "GET / HTTP/1.0\r\n\r\n";
            command.args(["-N", &remote.ip().to_string(), &remote.port().to_string()])
        }
    };
    watch(rung, |view| {
        let pid = Launch::inside(&network).run_command(command, input)?.pid;
        let of_tool = move |pointer_pid: Option<u64>| pointer_pid == Some(u64::from(pid));
        let end = view.one(&format!("the end of {name}'s flow to {remote}"), |record| {
            record.is_flow_end() && record.is_egress() && record.remote() == Some(remote)
        })?;
        let connections = server.finish();
        let [made] = connections.as_slice() else { anyhow::bail!("not one connection: {connections:?}") };
        ensure!(end.executable() == tool.to_str(), "not {}: {}", tool.display(), end.pretty());
        ensure!(of_tool(end.number("/process/pid")), "not {pid}: {}", end.pretty());
        ensure!(end.bytes() == (Some(made.received), Some(made.sent)), "not {made:?}: {}", end.pretty());
        let alert = view.one("an alert", |record| record.is_alert() && of_tool(record.number("/process/pid")))?;
        ensure!(alert.executable() == tool.to_str(), "{}", alert.pretty());
        ensure!(alert.number("/destination/as/number") == Some(asn), "{}", alert.pretty());
        Ok(())
    })
}

fn ping(rung: Rung) -> Result<()> {
    let tool = installed("ping").context("ping is not installed")?;
    let network = Network::new()?;
    let to: IpAddr = "111.13.100.1".parse()?;
    let mut command = Command::new(&tool);
    command.args(["-c", "3", "-i", "0.2", "-s", "56", &to.to_string()]);
    watch(rung, |view| {
        let pid = Launch::inside(&network).run_command(command, "")?.pid;
        let end = view.one("the end of ping's flow", |record| {
            record.is_flow_end()
                && record.number("/process/pid") == Some(u64::from(pid))
                && record.text("/network/transport") == Some("icmp")
        })?;
        ensure!(end.executable() == tool.to_str(), "not {}: {}", tool.display(), end.pretty());
        ensure!(end.remote() == Some(SocketAddr::new(to, 0)), "{}", end.pretty());
        ensure!(end.bytes().0 == Some(3 * 56), "{}", end.pretty());
        Ok(())
    })
}
