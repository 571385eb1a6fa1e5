//! A name server inside a test's network.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};
use domain::{
    base::{Message, MessageBuilder, Name, Rtype, iana::Rcode},
    rdata::{A, Aaaa, Cname},
};
use nix::sys::socket::{Shutdown, shutdown};

use super::{Network, bound_tcp, bound_udp, patience};

/// Port of the domain name system.
const PORT: u16 = 53;

/// What a name server knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Zone {
    /// Names that stand for others.
    pub(crate) aliases: Vec<(&'static str, &'static str)>,
    /// Names with their addresses.
    pub(crate) addresses: Vec<(&'static str, IpAddr)>,
}

/// Answers at one address over UDP, and over TCP.
pub(crate) struct NameServer {
    socket: Arc<UdpSocket>,
    listener: Arc<TcpListener>,
    asked: Arc<[AtomicU64; 2]>,
    workers: Vec<JoinHandle<()>>,
}

impl NameServer {
    /// Serves `zone` at `address`.
    pub(crate) fn start(network: &Network, address: IpAddr, zone: &Zone) -> Result<Self> {
        let address = SocketAddr::new(address, PORT);
        let socket = Arc::new(network.inside(|| bound_udp(address))?);
        socket.set_read_timeout(Some(patience()))?;
        let listener = Arc::new(network.inside(|| bound_tcp(address))?);
        let asked = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let over_udp = {
            let (socket, zone, asked) = (Arc::clone(&socket), zone.clone(), Arc::clone(&asked));
            thread::spawn(move || {
                let [udp_questions, _] = &*asked;
                serve_udp(&socket, &zone, udp_questions);
            })
        };
        let over_tcp = {
            let (listener, zone, asked) = (Arc::clone(&listener), zone.clone(), Arc::clone(&asked));
            thread::spawn(move || {
                let [_, tcp_questions] = &*asked;
                while let Ok((stream, _)) = listener.accept() {
                    // A client that breaks off is its own affair.
                    let _ = serve_tcp(stream, &zone, tcp_questions);
                }
            })
        };
        Ok(Self { socket, listener, asked, workers: vec![over_udp, over_tcp] })
    }

    /// Questions that came over UDP and over TCP.
    pub(crate) fn asked(&self) -> (u64, u64) {
        let [over_udp, over_tcp] = &*self.asked;
        (over_udp.load(Ordering::Relaxed), over_tcp.load(Ordering::Relaxed))
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        // An unconnected socket says that it is not connected, and wakes its reader all the same.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        for worker in self.workers.drain(..) {
            // A worker that panicked has reported it on standard error.
            let _ = worker.join();
        }
    }
}

/// A question for the IPv4 addresses of `name`.
pub(crate) fn question(name: &str) -> Result<Vec<u8>> {
    let mut question = MessageBuilder::new_vec().question();
    question.push((name.parse::<Name<Vec<u8>>>()?, Rtype::A))?;
    Ok(question.finish())
}

fn serve_udp(socket: &UdpSocket, zone: &Zone, asked: &AtomicU64) {
    let mut buffer = [0_u8; 4_096];
    while let Ok((length, client)) = socket.recv_from(&mut buffer) {
        let Some(answer) = buffer.get(..length).and_then(|question| answer(question, zone)) else { break };
        asked.fetch_add(1, Ordering::Relaxed);
        // The client may have gone.
        let _ = socket.send_to(&answer, client);
    }
}

fn serve_tcp(mut stream: TcpStream, zone: &Zone, asked: &AtomicU64) -> Result<()> {
    stream.set_read_timeout(Some(patience()))?;
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut question = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut question)?;
        let answer = answer(&question, zone).context("no question")?;
        asked.fetch_add(1, Ordering::Relaxed);
        let length = u16::try_from(answer.len())?.to_be_bytes();
        stream.write_all(&[&length[..], &answer].concat())?;
    }
}

/// The answer to a question; `None` if it is none.
fn answer(question: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    const TTL_S: u32 = 300;
    let question = Message::from_octets(question).ok()?;
    let asked = question.first_question()?;
    let mut answer = MessageBuilder::new_vec().start_answer(&question, Rcode::NOERROR).ok()?;
    let mut name = asked.qname().to_string();
    while let Some((_, target)) = zone.aliases.iter().find(|(alias, _)| *alias == name) {
        let record = Cname::new(target.parse::<Name<Vec<u8>>>().ok()?);
        answer.push((name.parse::<Name<Vec<u8>>>().ok()?, TTL_S, record)).ok()?;
        name = (*target).to_owned();
    }
    let owner = name.parse::<Name<Vec<u8>>>().ok()?;
    for (_, address) in zone.addresses.iter().filter(|(known, _)| *known == name) {
        match (address, asked.qtype()) {
            (IpAddr::V4(address), Rtype::A) => answer.push((&owner, TTL_S, A::new(*address))).ok()?,
            (IpAddr::V6(address), Rtype::AAAA) => answer.push((&owner, TTL_S, Aaaa::new(*address))).ok()?,
            _ => {}
        }
    }
    Some(answer.finish())
}
