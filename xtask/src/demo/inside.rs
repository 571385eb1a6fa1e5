//! The other half of the demonstration, inside the network namespace: a tiny server and a client that sends to it.

use std::env;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Event, Owned, program};
use crate::process;
use crate::ui;

/// What a page that recognises its visitors collects.
const FORM: &str = "screen=1920x1080&timezone=Europe%2FBerlin&language=de-DE&cores=8&fonts=Arial,Helvetica,Noto\
                    &canvas=5f1d0c3a9be27764&audio=124.04347527516074&webgl=ANGLE+Mesa+Intel";

/// The client's own address, of a private network.
const CLIENT_ADDRESS: &str = "10.0.0.2";

/// No read or write inside takes longer than this unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts this program again inside a new network namespace, which lives as long as that process.
pub(super) fn start(events: Sender<Event>) -> Result<Owned> {
    let mut command = process::command(program("unshare", "util-linux")?);
    command.arg("--net").arg("--").arg(env::current_exe().context("cannot tell where this program is")?);
    command.args(["demo", "--inside"]).stdout(Stdio::piped());
    let mut child = Owned(command.spawn().context("cannot start the namespace's process")?);
    let mut output = child.0.stdout.take().context("the namespace's process has no output")?;
    thread::spawn(move || {
        let mut text = String::new();
        let complete = output.read_to_string(&mut text).is_ok();
        for line in text.lines() {
            ui::say(&format!("    {line}"));
        }
        // The last line tells that everything before it succeeded.
        let _ = events.send(Event::ExchangeEnded(complete && text.lines().last() == Some(SUCCESS)));
    });
    Ok(child)
}

/// The last line of a successful exchange.
const SUCCESS: &str = "the server answered; nothing left the namespace";

/// What the process inside does: puts the address on the loopback interface, serves and sends.
pub(super) fn run(address: &str) -> Result<()> {
    let ip = program("ip", "iproute2")?;
    let client = format!("{CLIENT_ADDRESS}/32");
    // The route gives the client an address of its own; without it both ends would bear the server's.
    for arguments in [
        &["link", "set", "lo", "up"][..],
        &["address", "add", &client, "dev", "lo"],
        &["route", "add", "local", address, "dev", "lo", "src", CLIENT_ADDRESS],
    ] {
        process::run(process::command(&ip).args(arguments))?;
    }
    let listener = TcpListener::bind((address, 80)).with_context(|| format!("cannot listen on {address}:80"))?;
    let server = thread::spawn(move || serve(&listener));
    send(address)?;
    server.join().ok().context("the server panicked")??;
    ui::say(SUCCESS);
    Ok(())
}

/// Sends the form: with curl, a program one knows, or else from this process.
fn send(address: &str) -> Result<()> {
    let url = format!("http://{address}/collect");
    if let Some(curl) = process::find_program("curl") {
        let mut command = process::command(curl);
        // No proxy: a host's proxy is out of reach in here.
        command.args([
            "--silent",
            "--show-error",
            "--fail",
            "--noproxy",
            "*",
            "--max-time",
            "10",
            "--data",
            FORM,
            &url,
        ]);
        return process::run(command.stdout(Stdio::null()));
    }
    ui::say("curl is not installed: this program sends the form itself");
    let mut stream = TcpStream::connect((address, 80)).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "POST /collect HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{FORM}",
        FORM.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("the server did not answer")?;
    anyhow::ensure!(answer.starts_with("HTTP/1.1 204 "), "the server answered {answer:?}");
    Ok(())
}

/// Takes one connection, reads until the form is complete and answers.
fn serve(listener: &TcpListener) -> Result<()> {
    let (mut stream, _) = listener.accept().context("no client came")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    let mut buffer = [0_u8; 4096];
    while !request.ends_with(FORM.as_bytes()) {
        let size = stream.read(&mut buffer).context("the client sent no complete form")?;
        anyhow::ensure!(size > 0, "the client left before its form was complete");
        request.extend_from_slice(buffer.get(..size).unwrap_or_default());
    }
    stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").context("the client did not wait")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_answers_the_form_and_refuses_half_of_it() {
        for (sent, complete) in [(FORM, true), (&FORM[..20], false)] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
            let address = listener.local_addr().expect("an address");
            let server = thread::spawn(move || serve(&listener));
            let mut client = TcpStream::connect(address).expect("a connection");
            write!(client, "POST / HTTP/1.1\r\n\r\n{sent}").expect("a request");
            client.shutdown(std::net::Shutdown::Write).expect("the end of the request");
            let mut answer = String::new();
            let _ = client.read_to_string(&mut answer);
            assert_eq!(answer.starts_with("HTTP/1.1 204 "), complete);
            assert_eq!(server.join().expect("the server").is_ok(), complete);
        }
    }
}
