//! What decides about flows, read from files: at the start, and again at each reload.

use std::{collections::HashSet, path::PathBuf};

use ipnet::IpNet;

use super::{Error, RunOptions};
use crate::{
    config::{self, Config},
    data,
    kernel::Prefixes,
    metrics::ListState,
    ownership,
    policy::{
        Lists,
        feeds::{self, Feed},
        rules::Rules,
    },
};

/// Everything that a reload replaces, read and found good.
pub(super) struct Policy {
    pub(super) ownership: ownership::Table,
    pub(super) lists: Lists,
    pub(super) rules: Rules,
    /// How the lists of `[lists]` are.
    pub(super) feeds: Vec<feeds::State>,
    /// What the kernel's tries are to hold.
    pub(super) prefixes: Prefixes,
    pub(super) enabled_lists: u64,
}

impl Policy {
    /// Reads what `config` names. It takes its time: not for the loop.
    pub(super) fn read(config: &Config) -> Result<Self, Error> {
        Self::with_ownership(config, config.ownership()?.table)
    }

    /// The same at a start: where an imported table cannot be used the embedded one is, which is told. Old data name more
    /// owners than a monitor that does not run.
    pub(super) fn read_at_start(config: &Config) -> Result<(Self, Option<String>), Error> {
        let (in_force, trouble) = data::load_or_embedded(&config.data.table).map_err(config::Error::from)?;
        Ok((Self::with_ownership(config, in_force.table)?, trouble.map(|error| error.to_string())))
    }

    fn with_ownership(config: &Config, ownership: ownership::Table) -> Result<Self, Error> {
        let feeds = config.feeds(feeds::BAD_LINES_TOLD);
        keep(&feeds, config);
        let (lists, feeds) = config.lists_with(feeds)?;
        let rules = config.rules(&lists)?;
        for notice in rules.notices(jiff::Timestamp::now()) {
            tracing::warn!("{notice}");
        }
        let enabled_lists = lists.headers().iter().filter(|summary| summary.header.enabled).count() as u64;
        let prefixes = flagged_prefixes(&ownership, &lists, &rules).sorted();
        Ok(Self { ownership, lists, rules, feeds, prefixes, enabled_lists })
    }
}

/// Tells what is to be known of the user's lists, and keeps the good ones for a day on which their sources are not.
fn keep(lists: &[Feed], config: &Config) {
    for notice in lists.iter().flat_map(|list| list.state.notices()) {
        tracing::warn!("{notice}");
    }
    let directory = &config.policy.lists_directory;
    if !lists.is_empty()
        && let Err(error) = feeds::keep(lists, directory)
    {
        tracing::warn!(%error, directory = %directory.display(), "lists cannot be kept: a source that breaks is not made up for");
    }
}

/// The lists whose matches alert, for figures.
pub(super) fn list_states(lists: &Lists) -> Vec<ListState> {
    let enabled = lists.headers().iter().filter(|summary| summary.header.enabled);
    enabled
        .map(|summary| ListState {
            id: summary.header.id.to_string(),
            as_of: summary.header.as_of.map(|date| date.to_string()),
            entities: summary.counts.entities as u64,
        })
        .collect()
}

/// Every prefix that the address alone flags: what enabled lists name, and the address space of the networks and
/// countries that they name; and what rules decide by the address.
fn flagged_prefixes(ownership: &ownership::Table, lists: &Lists, rules: &Rules) -> Prefixes {
    // The ranges know numbers only, so the names are asked first.
    let by_name: HashSet<u32> = ownership
        .systems()
        .filter(|_| lists.have_organisations())
        .filter(|system| system.organisation.is_some_and(|name| lists.flags_organisation(name)))
        .map(|system| system.asn)
        .collect();
    let owned = ownership.prefixes_of(|facts| {
        facts.asn.is_some_and(|asn| by_name.contains(&asn))
            || lists.flags_owner(facts.asn, facts.as_country, facts.registered_country)
    });
    let mut prefixes = Prefixes { ipv4: owned.v4, ipv6: owned.v6 };
    let by_rules = rules.flagged_prefixes(ownership);
    prefixes.ipv4.extend(by_rules.v4);
    prefixes.ipv6.extend(by_rules.v6);
    for prefix in lists.cidrs() {
        match prefix {
            IpNet::V4(prefix) => prefixes.ipv4.push(prefix),
            IpNet::V6(prefix) => prefixes.ipv6.push(prefix),
        }
    }
    prefixes
}

/// Where the configuration comes from, and what the command line says over it.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// As the command line names it.
    file: Option<PathBuf>,
    rung: Option<crate::kernel::RungChoice>,
    writes_flows: bool,
}

impl Source {
    pub(super) fn new(options: &RunOptions) -> Self {
        Self { file: options.config.clone(), rung: options.rung, writes_flows: options.writes_flows }
    }

    /// Reads the configuration as the command line would have it.
    pub(super) fn config(&self) -> Result<Config, config::Error> {
        let (mut config, _) = Config::load(self.file.as_deref())?;
        if let Some(rung) = self.rung {
            config.kernel.rung = rung;
        }
        config.flows.write |= self.writes_flows;
        Ok(config)
    }

    /// The files and directories whose change calls for a reload, with those that `config` names.
    pub(super) fn files(&self, config: &Config) -> Vec<PathBuf> {
        let file = self.file.clone().unwrap_or_else(|| config::DEFAULT_PATH.into());
        std::iter::once(file).chain(config.files()).collect()
    }
}
