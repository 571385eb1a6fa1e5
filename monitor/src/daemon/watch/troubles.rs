//! What does not work since the start, beside what the host does not give: told once, and again no more when it is mended.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc, time::Duration};

use super::Watch;
use crate::{
    alert::input::Degradation,
    daemon::outputs::{OUTPUT_IMPAIRED, SPOOL_TROUBLES, Trouble},
    host,
    policy::feeds,
};

/// Alerts that found no room for this long are told of.
const HELD_UP: Duration = Duration::from_secs(5);

/// What does not work, by its token.
#[derive(Debug, Default)]
pub(super) struct Troubles(BTreeMap<&'static str, Degradation>);

impl Troubles {
    fn has(&self, token: &str) -> bool {
        self.0.contains_key(token)
    }

    /// Whether it is there and says this.
    fn says(&self, token: &str, missing: &str) -> bool {
        self.0.get(token).is_some_and(|known| known.missing == missing)
    }

    pub(super) fn tokens(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Degradation> {
        self.0.values()
    }
}

impl Watch {
    /// Says what does not work any more.
    pub(super) fn trouble(&mut self, token: &'static str, missing: String, remedy: &str) {
        let trouble = Degradation { token: token.into(), missing, remedy: Some(remedy.to_owned()) };
        let at = host::wall_clock().at(host::boot_time());
        self.ready.push(Arc::new(self.stages.records.degradation(at, trouble.clone())));
        self.troubles.0.insert(token, trouble);
    }

    /// Notes that something works again; the next status says so.
    pub(super) fn mend(&mut self, token: &str) {
        self.troubles.0.remove(token);
    }

    /// Tells what is wrong with lists of `[lists]` as a whole, once.
    pub(super) fn note_feeds(&mut self, feeds: Vec<feeds::State>) {
        const TOLD: usize = 5;
        let troubles: Vec<String> = feeds.iter().flat_map(feeds::State::troubles).collect();
        self.figures.feeds = feeds;
        if troubles.is_empty() {
            return self.mend("lists_not_good");
        }
        let mut missing = troubles.iter().take(TOLD).cloned().collect::<Vec<_>>().join("; ");
        if troubles.len() > TOLD {
            let _ = write!(missing, "; and {} more", troubles.len() - TOLD);
        }
        if !self.troubles.says("lists_not_good", &missing) {
            self.trouble(
                "lists_not_good",
                missing,
                "see whether the sources are right; `egresswatch lists` shows each list",
            );
        }
    }

    /// Says once that alerts find no room and wait.
    pub(super) fn tell_of_alerts_held_up(&mut self) {
        const TOKEN: &str = "alerts_held_up";
        if self.handover.takes_alerts() {
            self.mend(TOKEN);
        } else if self.handover.held_up_for() >= HELD_UP && !self.troubles.has(TOKEN) {
            self.trouble(
                TOKEN,
                "alerts wait in memory and in the kernel's rings: the spool, or the only output, takes none".to_owned(),
                "free space in spool.directory, or read what is written; `egresswatch status` shows each output",
            );
        }
    }

    /// Takes note of what outputs and their spool cannot do now. The spool tells its own troubles in records when they begin.
    pub(super) fn note_outputs(&mut self) {
        let mut present = self.handover.outputs.troubles();
        for token in SPOOL_TROUBLES {
            match present.remove(token) {
                Some(Trouble { missing, remedy, .. }) => {
                    self.troubles.0.insert(token, Degradation { token: token.into(), missing, remedy: Some(remedy) });
                }
                None => self.mend(token),
            }
        }
        match present.remove(OUTPUT_IMPAIRED) {
            Some(Trouble { missing, remedy, .. }) => {
                if !self.troubles.says(OUTPUT_IMPAIRED, &missing) {
                    self.trouble(OUTPUT_IMPAIRED, missing, &remedy);
                }
            }
            None => self.mend(OUTPUT_IMPAIRED),
        }
    }

    /// Says once that descriptions of containers cannot be used; the metrics say how many.
    pub(super) fn tell_of_containers(&mut self) {
        let unusable = self.stages.pipeline.container_figures().unusable();
        if unusable > 0 && !self.troubles.has("containers_unusable") {
            self.trouble(
                "containers_unusable",
                "what some containers are is not known: their runtime's files cannot be read, or are not what it writes"
                    .to_owned(),
                "look for the first of these files in the monitor's log, and see [containers] in the configuration",
            );
        }
    }
}
