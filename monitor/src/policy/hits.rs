//! What a flow hits: by the addresses that it goes to, with their owners, and by its names.

use std::net::IpAddr;

use super::{Lists, Match};
use crate::ownership::Owner;

impl Lists {
    /// Entries of enabled lists that a flow hits, each once. `addresses` are the remote one, the one that this host's
    /// network makes of it, and the one that a proxy was asked for, each with its owner; `names` are those that are near
    /// enough to decide on.
    #[must_use]
    pub fn match_flow<'a>(
        &self,
        addresses: impl IntoIterator<Item = (IpAddr, &'a Owner)>,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Vec<Match> {
        let mut matches = Vec::new();
        for (address, owner) in addresses {
            add_new(&mut matches, self.match_address(address, owner));
        }
        for name in names {
            add_new(&mut matches, self.match_name(name));
        }
        matches
    }
}

/// Adds the matches that are not there yet: several names of a flow may hit one entry.
fn add_new(matches: &mut Vec<Match>, more: Vec<Match>) {
    for hit in more {
        if !matches.contains(&hit) {
            matches.push(hit);
        }
    }
}
