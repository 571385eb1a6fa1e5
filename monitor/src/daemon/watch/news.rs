//! What the reloader has to tell: another policy, or why the one in force stays.

use std::sync::Arc;

use super::Watch;
use crate::{
    alert::input::{Phase, Status},
    control::Trigger,
    daemon::{
        baseline::{Opened, PutAside},
        reload::{NewPolicy, News},
    },
    host, kernel,
};

impl Watch {
    /// Takes in what the reloader has to tell.
    pub(super) fn hear(&mut self, news: News) {
        if let News::Tries { occupancy, .. } = &news {
            self.figures.occupancy = *occupancy;
        }
        match news {
            News::Policy(policy) => self.replace_policy(*policy),
            News::Refused { trigger, error } => self.tell_refused(trigger, &error),
            News::Tries { left_out: 0, .. } => self.mend("prefixes_left_out"),
            News::Tries { left_out, .. } => {
                let degradation = kernel::degradation::Degradation::PrefixesLeftOut { count: left_out };
                self.trouble(degradation.as_token(), degradation.to_string(), degradation.remedy());
            }
            News::Blind { cause } => self.trouble(
                "file_changes_unseen",
                format!("changes of configuration and list files are not noticed ({cause})"),
                "run `egresswatch reload` after a change; see fs.inotify.max_user_watches and max_user_instances",
            ),
        }
    }

    /// Judges by another policy from the next event on.
    fn replace_policy(&mut self, new: NewPolicy) {
        self.stages.ownership_date = new.ownership.data_date();
        self.stages.enabled_lists = new.enabled_lists;
        let pipeline = &mut self.stages.pipeline;
        let NewPolicy { lists, rules, ownership, policy, flows, .. } = new;
        let mut put_aside = None;
        if let Some(Opened { baseline, keeper, put_aside: aside }) = new.baseline {
            pipeline.set_baseline(baseline);
            self.stages.baseline = Some(keeper);
            put_aside = aside;
        }
        let before = pipeline.replace_policy(lists, rules, ownership, &policy, flows, &mut self.ready);
        if let Some(put_aside) = put_aside {
            self.tell_put_aside(&put_aside);
        }
        self.figures.lists = new.list_states;
        self.note_feeds(new.feeds);
        self.note_reload(new.trigger, None);
        self.generation = new.generation;
        self.needs_restart = new.needs_restart;
        self.mend("reload_failed");
        self.mend("ownership_embedded");
        match self.handover.outputs.reconfigure(new.outputs) {
            Ok(()) => self.mend("outputs_not_started"),
            Err(error) => {
                self.trouble(
                    "outputs_not_started",
                    error.to_string(),
                    "mend what is named and run `egresswatch reload`",
                );
            }
        }
        let status = Status { reason: Some(new.trigger.as_token().to_owned()), ..self.status(Phase::Reloaded) };
        let at = host::wall_clock().at(host::boot_time());
        self.ready.push(Arc::new(self.stages.records.status(at, status)));
        tracing::info!(generation = new.generation, trigger = new.trigger.as_token(), "policy reloaded");
        // The reloader takes it apart; if it has gone, that happens here.
        let _ = new.done.send(before);
    }

    /// Says that what rules of the kind `first_contact` knew was lost.
    pub(super) fn tell_put_aside(&mut self, put_aside: &PutAside) {
        self.trouble(
            "baseline_put_aside",
            format!("the contacts that rules knew are lost: {put_aside}; contacts are learnt anew"),
            "see whether the disk is sound; remove the file when nobody wants to look at it any more",
        );
    }

    fn tell_refused(&mut self, trigger: Trigger, error: &str) {
        tracing::error!(trigger = trigger.as_token(), error, "not reloaded: the policy in force stays");
        self.note_reload(trigger, Some(error.to_owned()));
        let missing = format!("what was changed is not in force, policy number {} stays ({error})", self.generation);
        self.trouble("reload_failed", missing, "mend what is named; `egresswatch check` finds every mistake");
    }

    fn note_reload(&mut self, trigger: Trigger, error: Option<String>) {
        let reloads = &mut self.figures.reloads;
        *(if error.is_none() { &mut reloads.done } else { &mut reloads.failed }) += 1;
        reloads.last_at = Some(host::wall_clock().at(host::boot_time()));
        reloads.last_trigger = Some(trigger.as_token());
        reloads.last_error = error;
    }
}
