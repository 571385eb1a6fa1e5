//! The first bytes of flows, until the names in them are found: bounded in number and in bytes.

use std::num::NonZeroUsize;

use monitor_common::accounting::STREAM_CAPTURE_BYTES;

use super::{
    Proxied, Source,
    answers::AnswerStream,
    dns,
    flow::Found,
    fragments::{Fragments, ORIGIN, offset_in_stream},
    opening::{self, Opening, Reading},
    quic::Initials,
};
use crate::{
    event::{Capture, Direction, FlowKey},
    recent::Recent,
    units::ByteSize,
};

/// Most bytes of one flow that are held: what the kernel side captures of a stream, and one packet beyond.
const STREAM_BYTES: usize = 16 << 10;
/// Longest word that begins a request of a text protocol.
const COMMAND_BYTES: usize = 32;

/// What a step taught of a flow: everything so far, not what is new.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) found: Vec<Found>,
    pub(super) proxied: Option<Proxied>,
    /// A name may stand in what was not captured.
    pub(super) is_cut: bool,
}

impl Step {
    pub(super) const fn is_empty(&self) -> bool {
        self.found.is_empty() && self.proxied.is_none() && !self.is_cut
    }
}

/// The first bytes of flows.
pub(super) struct Openings {
    streams: Recent<(FlowKey, Direction), Stream>,
    limit_bytes: usize,
    bytes: usize,
    evicted: u64,
}

enum Stream {
    Tcp(Tcp),
    Answers(AnswerStream),
    Quic(Initials),
    /// All was read, or there is nothing to read.
    Finished,
}

#[derive(Default)]
struct Tcp {
    /// Sequence number that stands at [`ORIGIN`].
    origin: u32,
    fragments: Fragments,
    /// Where a packet was larger than what was captured of it: nothing comes after.
    cut_at: Option<u64>,
}

impl Stream {
    const fn bytes(&self) -> usize {
        match self {
            Self::Tcp(tcp) => tcp.fragments.bytes(),
            Self::Answers(answers) => answers.bytes(),
            Self::Quic(initials) => initials.bytes(),
            Self::Finished => 0,
        }
    }

    /// Whether a name was likely to follow: what may be anything, such as a text without a space so far, is no loss.
    fn promises_a_name(&self) -> bool {
        match self {
            Self::Quic(_) => true,
            Self::Answers(answers) => answers.bytes() > 0,
            Self::Finished => false,
            Self::Tcp(tcp) => match tcp.fragments.first() {
                [first, ..] if opening::is_known_by(*first) => true,
                text => text.iter().take(COMMAND_BYTES).any(u8::is_ascii_whitespace),
            },
        }
    }
}

impl Openings {
    pub(super) fn new(max_streams: NonZeroUsize, limit: ByteSize) -> Self {
        let limit_bytes = usize::try_from(limit.bytes()).unwrap_or(usize::MAX);
        Self { streams: Recent::new(max_streams), limit_bytes, bytes: 0, evicted: 0 }
    }

    /// Reads a segment that a client sent; `None` if there is nothing new to say.
    pub(super) fn read_segment(&mut self, capture: &Capture) -> Option<Step> {
        let mut stream = self.take(capture, || Stream::Tcp(Tcp { origin: capture.tcp_sequence, ..Tcp::default() }))?;
        let mut step = None;
        if let Stream::Tcp(tcp) = &mut stream {
            let fits = tcp.add(capture);
            let (prefix, is_cut) = tcp.prefix();
            // Behind this much nothing is captured.
            let is_last = is_cut || !fits || prefix.len() as u64 >= STREAM_CAPTURE_BYTES;
            let mut opening = opening::read(&prefix, false);
            let is_cut = is_last && opening.wants_more && opening.promises_a_name;
            if is_last && opening.wants_more {
                opening = opening::read(&prefix, true);
            }
            let Opening { found, proxied, wants_more, .. } = opening;
            step = Some(Step { found, proxied, is_cut });
            if !wants_more {
                stream = Stream::Finished;
            }
        }
        self.put(capture, stream);
        step
    }

    /// Reads a datagram that a client sent.
    pub(super) fn read_datagram(&mut self, capture: &Capture) -> Option<Step> {
        let mut stream = self.take(capture, || Stream::Quic(Initials::default()))?;
        let mut opening = Opening::default();
        let mut is_cut = false;
        if let Stream::Quic(initials) = &mut stream {
            let is_whole = capture.data.len() as u64 >= u64::from(capture.payload_bytes);
            match initials.read(&capture.data) {
                Reading::Done(hello) => {
                    opening.add_hello(hello, Source::QuicSni);
                    stream = Stream::Finished;
                }
                Reading::More if is_whole && !initials.are_all() => {}
                Reading::More => {
                    is_cut = true;
                    stream = Stream::Finished;
                }
                Reading::Other => stream = Stream::Finished,
            }
        }
        self.put(capture, stream);
        Some(Step { found: opening.found, proxied: None, is_cut })
    }

    /// Reads a segment of a DNS server's answers.
    pub(super) fn read_answers(&mut self, capture: &Capture) -> dns::Answers {
        let stream = self.take(capture, || Stream::Answers(AnswerStream::new(capture.tcp_sequence)));
        let Some(mut stream) = stream else { return dns::Answers::default() };
        let mut answers = dns::Answers::default();
        if let Stream::Answers(of_server) = &mut stream {
            answers = of_server.read(capture);
        }
        self.put(capture, stream);
        answers
    }

    /// Forgets a flow that has ended.
    pub(super) fn forget(&mut self, key: &FlowKey) {
        for direction in [Direction::Out, Direction::In] {
            if let Some(stream) = self.streams.remove(&(*key, direction)) {
                self.bytes -= stream.bytes();
            }
        }
    }

    /// Flows that were given up before their name was found.
    pub(super) const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Captured bytes held.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a flow's stream out; `None` if it is finished.
    fn take(&mut self, capture: &Capture, new: impl FnOnce() -> Stream) -> Option<Stream> {
        let key = (capture.key, capture.direction);
        if matches!(self.streams.peek(&key), Some(Stream::Finished)) {
            return None;
        }
        let stream = self.streams.remove(&key).unwrap_or_else(new);
        self.bytes -= stream.bytes();
        Some(stream)
    }

    fn put(&mut self, capture: &Capture, stream: Stream) {
        self.bytes += stream.bytes();
        if let Some((_, evicted)) = self.streams.insert((capture.key, capture.direction), stream) {
            self.give_up(&evicted);
        }
        while self.bytes > self.limit_bytes
            && let Some((_, evicted)) = self.streams.pop_oldest()
        {
            self.give_up(&evicted);
        }
    }

    fn give_up(&mut self, stream: &Stream) {
        self.bytes -= stream.bytes();
        self.evicted += u64::from(stream.promises_a_name());
    }
}

impl Tcp {
    /// Adds a segment; says whether there was room for it.
    fn add(&mut self, capture: &Capture) -> bool {
        let offset = offset_in_stream(self.origin, capture.tcp_sequence);
        if (capture.data.len() as u64) < u64::from(capture.payload_bytes) {
            let cut_at = offset + capture.data.len() as u64;
            self.cut_at = Some(self.cut_at.map_or(cut_at, |known| known.min(cut_at)));
        }
        self.fragments.insert(offset, &capture.data, STREAM_BYTES)
    }

    /// The bytes from the start to the first gap, and whether nothing can fill that.
    fn prefix(&self) -> (zeroize::Zeroizing<Vec<u8>>, bool) {
        let start = self.fragments.start().unwrap_or(ORIGIN);
        let prefix = self.fragments.prefix(start);
        let end = start + prefix.len() as u64;
        (prefix, self.cut_at.is_some_and(|cut_at| cut_at <= end))
    }
}
