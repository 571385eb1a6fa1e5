//! What a transport with a durable spool is: it hands a batch to one receiver and says what the receiver confirmed.
//!
//! Queues, order, retries, back-off, counting and the spool are the same for every transport and live elsewhere.

use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;

use crate::alert::{
    Timestamp,
    record::{Dataset, Record},
};

/// One record as the spool keeps it: encoded in the output's format, with what transports need beside the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// `event.id` of the record: the same at each try, so that receivers can drop repeats.
    pub id: String,
    /// When it happened.
    pub time: Timestamp,
    /// Which kind of record it is.
    pub dataset: Dataset,
    /// `event.severity`, for alerts.
    pub severity: Option<u8>,
    /// The record in the output's format, without a final newline.
    pub bytes: Bytes,
}

impl Item {
    /// `record` with its encoded form.
    #[must_use]
    pub fn new(record: &Record, bytes: Bytes) -> Self {
        Self {
            id: record.event.id.clone(),
            time: record.timestamp,
            dataset: record.event.dataset,
            severity: record.event.severity,
            bytes,
        }
    }
}

/// How much a transport takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Most items.
    pub items: usize,
    /// Most encoded bytes. A single item may be larger and then goes alone.
    pub bytes: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { items: 1_000, bytes: 1 << 20 }
    }
}

/// An item that the receiver refuses for good, whatever else happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Position in the batch.
    pub index: usize,
    /// What the receiver said.
    pub reason: String,
}

/// The whole batch is dealt with, or its front: confirmed by the receiver, but for what it refuses for good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Items that will never be taken. They are counted, told, and kept in the output's dead-letter file.
    pub refused: Vec<Refused>,
    /// Items at the end of the batch for which the time did not suffice; they come next. What is before them is confirmed.
    pub left: usize,
}

impl Delivered {
    /// All is confirmed but what is `refused`.
    #[must_use]
    pub const fn but(refused: Vec<Refused>) -> Self {
        Self { refused, left: 0 }
    }
}

/// The batch, or its rest, has to be delivered again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// Items at the front of the batch that the receiver has confirmed; they are not sent again.
    pub confirmed: usize,
    /// Those of the confirmed front that the receiver refuses for good.
    pub refused: Vec<Refused>,
    /// The receiver asked for this pause (such as `Retry-After`); else the back-off decides.
    pub retry_after: Option<Duration>,
    /// What went wrong and what to do, in one sentence without secrets.
    pub reason: String,
}

impl Failure {
    /// Nothing was confirmed.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self { confirmed: 0, refused: Vec::new(), retry_after: None, reason: reason.into() }
    }
}

/// Hands batches to one receiver.
pub trait Delivery: Send + 'static {
    /// What it is called in messages and metrics beside the output's own name, such as `syslog 192.0.2.1:6514 over TLS`.
    fn describe(&self) -> &str;

    /// How much one call of [`Self::deliver`] takes.
    fn limits(&self) -> BatchLimits {
        BatchLimits::default()
    }

    /// Hands over `batch`, in order, and returns once the receiver has confirmed it, or with what went wrong. It must have a
    /// deadline of its own, and opens its connection by itself when there is none. It may be dropped at any await point; the
    /// batch then counts as not delivered.
    fn deliver(&mut self, batch: &[Item]) -> impl Future<Output = Result<Delivered, Failure>> + Send;

    /// Opens the same place anew before the next batch: after a log rotation, or when settings such as certificates changed.
    fn reopen(&mut self) {}

    /// Longest time that the settings let one request take.
    fn patience(&self) -> Duration {
        Duration::ZERO
    }

    /// What does not work beside the delivery, which goes on: in one sentence. It is told until it is `None`.
    fn trouble(&self) -> Option<&str> {
        None
    }

    /// Connects as [`Self::deliver`] would and asks for something harmless, and says what answered. No record is sent.
    /// `None`: there is nothing to connect to.
    fn probe(&mut self) -> impl Future<Output = Result<Option<String>, Failure>> + Send {
        std::future::ready(Ok(None))
    }
}

/// [`Delivery`] as an object: what every transport is to the task that feeds it.
pub trait AnyDelivery: Send {
    /// [`Delivery::describe`].
    fn describe(&self) -> &str;
    /// [`Delivery::limits`].
    fn limits(&self) -> BatchLimits;
    /// [`Delivery::deliver`].
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Item],
    ) -> Pin<Box<dyn Future<Output = Result<Delivered, Failure>> + Send + 'a>>;
    /// [`Delivery::reopen`].
    fn reopen(&mut self);
    /// [`Delivery::patience`].
    fn patience(&self) -> Duration;
    /// [`Delivery::trouble`].
    fn trouble(&self) -> Option<&str>;
    /// [`Delivery::probe`].
    fn probe(&mut self) -> Pin<Box<dyn Future<Output = Result<Option<String>, Failure>> + Send + '_>>;
}

impl<D: Delivery> AnyDelivery for D {
    fn describe(&self) -> &str {
        Delivery::describe(self)
    }

    fn limits(&self) -> BatchLimits {
        Delivery::limits(self)
    }

    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Item],
    ) -> Pin<Box<dyn Future<Output = Result<Delivered, Failure>> + Send + 'a>> {
        Box::pin(Delivery::deliver(self, batch))
    }

    fn reopen(&mut self) {
        Delivery::reopen(self);
    }

    fn patience(&self) -> Duration {
        Delivery::patience(self)
    }

    fn trouble(&self) -> Option<&str> {
        Delivery::trouble(self)
    }

    fn probe(&mut self) -> Pin<Box<dyn Future<Output = Result<Option<String>, Failure>> + Send + '_>> {
        Box::pin(Delivery::probe(self))
    }
}
