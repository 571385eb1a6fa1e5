//! Whether the places that the configuration names answer, by connecting as the outputs do, without a record.

use std::{future::Future, time::Duration};

use tokio::task::JoinSet;

use crate::{
    alert::input::Host,
    sink::{OutputKind, OutputsConfig},
};

/// Longest time for one place. People wait for it, and what takes longer is worth to be told.
const TIME_MAX: Duration = Duration::from_secs(15);

/// What came of connecting to one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Contact {
    /// The setting, such as `outputs.siem`.
    pub key: String,
    /// What was connected to, such as `syslog 192.0.2.1:6514 over TLS`.
    pub target: String,
    /// Whether it answered as it should.
    pub reached: bool,
    /// What it answered; or why it did not, and what to do.
    pub message: String,
}

impl Contact {
    /// From what came of it.
    #[must_use]
    pub fn new(key: String, target: String, result: Result<String, String>) -> Self {
        let reached = result.is_ok();
        let (Ok(message) | Err(message)) = result;
        Self { key, target, reached, message }
    }
}

/// Connects to every output that is no file and not standard output, all at once, and sends no record.
pub async fn connect(outputs: &OutputsConfig, host: &Host) -> Vec<Contact> {
    let mut running = JoinSet::new();
    for (name, output) in outputs {
        if matches!(output.kind, OutputKind::File(_) | OutputKind::Stdout(_)) {
            continue;
        }
        let key = format!("outputs.{name}");
        match output.kind.open(name, host) {
            Ok(mut delivery) => drop(running.spawn(async move {
                let target = delivery.describe().to_owned();
                let probe = async { delivery.probe().await.map_err(|failure| failure.reason) };
                let result = within(probe).await;
                result.transpose().map(|result| Contact::new(key, target, result))
            })),
            Err(error) => {
                let target = output.kind.as_token().to_owned();
                let contact = Contact::new(key, target, Err(error.source.to_string()));
                running.spawn(std::future::ready(Some(contact)));
            }
        }
    }
    let mut contacts: Vec<_> = running.join_all().await.into_iter().flatten().collect();
    contacts.sort();
    contacts
}

/// What `asking` gives, if it comes in time.
pub async fn within<T>(asking: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::time::timeout(TIME_MAX, asking).await.unwrap_or_else(|_| {
        Err(format!(
            "no answer within {} s: see whether the receiver is up and a firewall lets it through",
            TIME_MAX.as_secs()
        ))
    })
}
