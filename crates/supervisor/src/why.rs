//! Why an instance is as it is: from the nearest cause down to the root, in words (G13).

use crate::instance::{End, Instance, Rest, Stage};
use crate::machine::Supervisor;
use crate::start::wait_words;
use crate::{InstanceSnapshot, Phase, Wish};
use base::InstanceId;

/// Longest causal chain that is followed. Configurations have no cycles; this bounds a mistake.
const CHAIN_MAX: usize = 32;

impl Supervisor {
    /// One instance, with the reasons for its state.
    pub fn why(&self, id: &InstanceId) -> Option<InstanceSnapshot> {
        let instance = self.instances.get(id)?;
        let run = instance.run.as_ref();
        let mut because = Vec::new();
        self.explain(instance, &mut because);
        Some(InstanceSnapshot {
            instance: id.clone(),
            phase: instance.phase(),
            wish: instance.wish.clone(),
            run: run.map(|run| run.id),
            pid: run.and_then(|run| run.main.or(run.first)),
            since: instance.since,
            spawned: run.map(|run| run.spawned),
            ready_since: run.and_then(|run| run.ready_since),
            restarts: instance.restarts,
            status_text: instance.status_text.clone(),
            last_exit: instance.last_exit,
            next: instance.due(),
            because,
        })
    }

    fn explain(&self, instance: &Instance, chain: &mut Vec<(InstanceId, String)>) {
        if CHAIN_MAX <= chain.len() {
            return;
        }
        let id = &instance.id;
        if let (Rest::Waiting { .. }, None) = (&instance.rest, &instance.run) {
            // Looked up anew: what was seen when it began to wait may have gone on since.
            let (blockers, _) = self.blockers(instance);
            let Some((blocker, why)) = blockers.first() else { return };
            chain.push((id.clone(), format!("{id} waits: {why}")));
            if let Some(blocker) = self.instances.get(blocker) {
                self.explain(blocker, chain);
            }
            return;
        }
        let message = self.reason(instance);
        if !message.is_empty() {
            chain.push((id.clone(), message));
        }
        if let Some(dependant) = self.waits_for_dependant(id).filter(|_| instance.stop_waits) {
            let message = format!("{dependant} depends on it and is not down yet");
            chain.push((dependant.clone(), message));
            if let Some(dependant) = self.instances.get(&dependant) {
                self.explain(dependant, chain);
            }
        }
    }

    fn reason(&self, instance: &Instance) -> String {
        let id = &instance.id;
        if let Some(run) = &instance.run {
            return match &run.stage {
                Stage::Spawning => format!("{id} is being executed"),
                Stage::Starting { wait, .. } => {
                    format!("{id} is not ready: {}", wait_words(wait, &run.spec.ready))
                }
                Stage::Running if instance.stop_waits => {
                    let why = &instance.wish_reason;
                    let colon = if why.is_empty() { "" } else { ": " };
                    format!(
                        "{id} is to be stopped once those that depend on it are down{colon}{why}"
                    )
                }
                Stage::Running if run.reloading.is_some() => {
                    format!("{id} reads its configuration again")
                }
                Stage::Running => String::new(),
                Stage::Stopping { step, .. } => {
                    let rungs = run.spec.stop.len();
                    let why = match run.end {
                        Some(End::StartTimeout | End::Watchdog) => &instance.last_end,
                        Some(End::Replace) => "it is to be started again",
                        Some(End::Stop | End::Own) | None => &instance.wish_reason,
                    };
                    let colon = if why.is_empty() { "" } else { ": " };
                    format!("{id} was asked to stop, step {} of {rungs}{colon}{why}", step + 1)
                }
                Stage::Cleaning(cleaning) if cleaning.seen.is_empty() => {
                    format!("{id} has ended, and what it may have left is looked for")
                }
                Stage::Cleaning(cleaning) => format!("{id} is not gone: {}", cleaning.seen),
            };
        }
        match (instance.phase(), &instance.wish) {
            (Phase::Backoff, _) => {
                format!("{id} waits before restart {}: {}", instance.restarts, instance.last_end)
            }
            (_, Wish::Failed(reason)) => format!("{id} was given up: {reason}"),
            (_, Wish::Down | Wish::Finished) => {
                format!("{id} is {}: {}", instance.phase().as_str(), instance.wish_reason)
            }
            (_, Wish::Up) if self.shutdown.is_some() => format!("{id} is down: holdfast is ending"),
            (_, Wish::Up) => format!("{id} is about to be started"),
        }
    }
}
