//! Which addresses a rule may flag, judged by the address alone, so that their flows ride the ring that is kept free
//! for flagged flows.
//!
//! A rule is asked three times. First of an address in none of the networks that it names, with an owner that it does
//! not name: a rule that may match there is no rule about addresses, and is not pushed down. Then of every owner in the
//! ownership table, and last of each network that it names.

use std::{borrow::Cow, collections::HashMap};

use ipnet::IpNet;

use super::{
    Action, Rule, Rules,
    expression::{Node, Place, Scene},
    facts::Facts,
    fields::Field,
};
use crate::ownership::{Prefixes, Table};

impl Rules {
    /// The prefixes whose flows a rule may alert on by their address. Never everything: a rule that does not depend on
    /// the address flags none.
    #[must_use]
    pub fn flagged_prefixes(&self, ownership: &Table) -> Prefixes {
        let rules: Vec<&Rule> =
            self.enabled().filter(|rule| rule.header.action == Action::Alert && is_about_addresses(rule)).collect();
        let mut prefixes = Prefixes { v4: Vec::new(), v6: Vec::new() };
        if rules.is_empty() {
            return prefixes;
        }
        let of_owners: Vec<&Rule> = rules.iter().copied().filter(|rule| rule.asks_for(&OWNER_FIELDS)).collect();
        if !of_owners.is_empty() {
            let names: HashMap<u32, &str> = if of_owners.iter().any(|rule| rule.asks_for(&[Field::Organisation])) {
                ownership.systems().filter_map(|system| Some((system.asn, system.organisation?))).collect()
            } else {
                HashMap::new()
            };
            let judged = std::cell::RefCell::new(HashMap::new());
            prefixes = ownership.prefixes_of(|owner| {
                let (asn, of_system, of_range) = (owner.asn, owner.as_country, owner.registered_country);
                *judged.borrow_mut().entry((asn, of_system, of_range)).or_insert_with(|| {
                    let facts = Facts {
                        asn,
                        organisation: asn.and_then(|asn| names.get(&asn)).map(|name| Cow::Borrowed(*name)),
                        as_country: of_system.as_ref().map(|country| country.as_str().into()),
                        registered_country: of_range.as_ref().map(|country| country.as_str().into()),
                        ..elsewhere()
                    };
                    of_owners.iter().any(|rule| may_match(rule, &facts))
                })
            });
        }
        let named: Vec<IpNet> = rules.iter().flat_map(|rule| matching_networks(rule)).collect();
        // Networks that are everything between them name no address.
        for network in IpNet::aggregate(&named).into_iter().filter(|network| network.prefix_len() > 0) {
            match network {
                IpNet::V4(network) => prefixes.v4.push(network),
                IpNet::V6(network) => prefixes.v6.push(network),
            }
        }
        prefixes
    }
}

const OWNER_FIELDS: [Field; 5] =
    [Field::Asn, Field::Organisation, Field::AsCountry, Field::RegisteredCountry, Field::Countries];

fn may_match(rule: &Rule, facts: &Facts<'_>) -> bool {
    rule.condition.truth(&Scene::new(facts)).may_be_true()
}

/// Whether the rule cannot match an address that it does not name, by an owner that it does not name.
fn is_about_addresses(rule: &Rule) -> bool {
    let unknown_owner = elsewhere();
    !may_match(rule, &unnamed_owner()) && !may_match(rule, &unknown_owner)
}

/// An address in no network that a rule names, of an unknown owner.
fn elsewhere() -> Facts<'static> {
    Facts { place: Some(Place::Elsewhere), is_open: true, ..Facts::default() }
}

/// The same of an owner that no rule names: these numbers and countries are never assigned.
fn unnamed_owner() -> Facts<'static> {
    let nowhere = || Some(Cow::Borrowed("ZZ"));
    Facts {
        asn: Some(u32::MAX),
        organisation: Some(Cow::Borrowed("\u{0}")),
        as_country: nowhere(),
        registered_country: nowhere(),
        ..elsewhere()
    }
}

/// The networks that a rule names and in which it may match.
fn matching_networks(rule: &Rule) -> impl Iterator<Item = IpNet> {
    let may_match_in =
        |network: &IpNet| may_match(rule, &Facts { place: Some(Place::Within(*network)), ..unnamed_owner() });
    networks(&rule.condition).into_iter().filter(may_match_in)
}

/// The networks and addresses that a condition names.
fn networks(condition: &Node) -> Vec<IpNet> {
    let mut networks = Vec::new();
    condition.walk(&mut |node| match node {
        Node::InCidr(_, named) => networks.extend(named),
        Node::Address(address) => networks.push(IpNet::from(*address)),
        Node::Addresses(addresses) => networks.extend(addresses.iter().copied().map(IpNet::from)),
        _ => {}
    });
    networks
}
