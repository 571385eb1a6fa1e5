//! What is wrong with the sources of lists, found before they are needed; and, only when asked to, whether they answer.

use tokio::task::JoinSet;

use super::{Config, ListConfig, Source, fetch::settings};
use crate::{
    download,
    sink::{
        check::{Contact, Finding, Findings, within},
        http::{Client, HttpUrl},
    },
};

/// Lists that are fetched, by name.
fn fetched(lists: &Config) -> impl Iterator<Item = (&String, &ListConfig, &HttpUrl)> {
    lists.0.iter().filter_map(|(name, list)| match &list.source {
        Source::Url(url) if list.enabled => Some((name, list, url)),
        _ => None,
    })
}

/// Certificates and secrets of lists that are fetched. Nothing is connected to.
#[must_use]
pub fn findings(lists: &Config) -> Vec<Finding> {
    let mut findings = Findings::new();
    for (name, list, url) in fetched(lists) {
        let key = format!("lists.{name}");
        if let Err(error) = Client::open(settings(list, url)) {
            findings.add_cause(&key, &error);
        }
        for (header, secret) in list.headers.secrets() {
            findings.secret(&format!("{key}.headers.{header}"), secret);
        }
    }
    findings.found
}

/// Asks every server of a list that is fetched whether the list is there, all at once.
pub async fn connect(lists: &Config) -> Vec<Contact> {
    let mut running = JoinSet::new();
    for (name, list, url) in fetched(lists) {
        let (key, target) = (format!("lists.{name}"), list.source.to_string());
        let (settings, headers) = (settings(list, url), list.headers.clone());
        running.spawn(async move {
            let probe = async { download::probe(&settings, &headers).await.map_err(|error| error.to_string()) };
            let result = within(probe).await;
            Contact::new(key, target, result.map(|status| format!("the server answered {status}")))
        });
    }
    let mut contacts = running.join_all().await;
    contacts.sort();
    contacts
}
