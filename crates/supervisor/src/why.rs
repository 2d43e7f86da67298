//! Why an instance is as it is: from the nearest cause down to the root, in words (G13).

use crate::hindrance::Hindrance;
use crate::instance::{End, Instance, Rest, Stage};
use crate::machine::Supervisor;
use crate::replace::{Replacement, Step};
use crate::start::wait_words;
use crate::{InstanceSnapshot, Phase, ReplacingSnapshot, RunSnapshot, Successor, Wish};
use base::{InstanceId, Now};

/// Longest causal chain that is followed. Configurations have no cycles; this bounds a mistake.
const CHAIN_MAX: usize = 32;

impl Supervisor {
    /// One instance, with the reasons for its state.
    pub fn why(&self, id: &InstanceId) -> Option<InstanceSnapshot> {
        let instance = self.instances.get(id)?;
        let run = instance.run.as_ref();
        let mut because = Vec::new();
        self.explain(instance, &mut because);
        let source = instance.care.mode.as_ref();
        let source = source.map_or("configuration".to_owned(), |(_, by)| by.clone());
        let dependencies = instance.care.dependencies.iter();
        let runs = instance.run.iter().chain(&instance.others);
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
            health: instance.health(),
            mode: (instance.mode(), source),
            verdicts: instance.care.verdicts.values().cloned().collect(),
            dependencies: dependencies
                .map(|(name, (state, why))| (name.clone(), *state, why.clone()))
                .collect(),
            replacing: replacing(instance),
            suppressed: instance.care.suppressed.as_ref().map(Hindrance::words),
            runs: runs
                .map(|run| RunSnapshot {
                    run: run.id,
                    pid: run.main.or(run.first),
                    role: run.role.told(),
                    slot: run.slot,
                    health: instance.health_of(run.id),
                })
                .collect(),
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

    /// Why an instance that runs is not simply well.
    fn health_reason(instance: &Instance) -> String {
        let id = &instance.id;
        if let Some(replacement) = &instance.care.replacement {
            let (step, _) = step_of(instance, replacement);
            let (step, cause) = (step.replace('_', "-"), &replacement.cause.message);
            return format!("{id} is being replaced, step {step}: {cause}");
        }
        if let Some(why) = instance.dependency_trouble() {
            return format!("{id} is well as far as it can be told, but {why}");
        }
        let sick = instance.care.verdicts.values();
        let sick = sick.filter(|it| it.state == crate::watch::VerdictState::Sick);
        let Some(verdict) = sick.min_by_key(|it| (it.planned, it.since)) else {
            return String::new();
        };
        let mode = instance.mode_of(&verdict.detector);
        let but = match &instance.care.suppressed {
            Some(hindrance) => format!("; it is not replaced: {}", hindrance.words()),
            None if mode == crate::Mode::Observe => "; it is only observed".to_owned(),
            None => String::new(),
        };
        format!("{id} is sick: {}{but}", verdict.message)
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
                Stage::Running => Self::health_reason(instance),
                Stage::Stopping { step, .. } => {
                    let rungs = run.spec.stop.len();
                    let why = match run.end {
                        Some(End::StartTimeout | End::Watchdog) => &instance.last_end,
                        Some(End::Replace | End::Replaced) => "it is to be started again",
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

/// The replacement of an instance, as others see it.
fn replacing(instance: &Instance) -> Option<ReplacingSnapshot> {
    let replacement = instance.care.replacement.as_ref()?;
    let (step, until) = step_of(instance, replacement);
    Some(ReplacingSnapshot {
        cause: replacement.cause.message.clone(),
        beside: instance.spec.tolerance.replace.successor == Successor::Beside,
        step,
        since: replacement.since,
        until,
    })
}

/// Its step: that of the successor, once there is one; and until when it lasts at most.
fn step_of(instance: &Instance, replacement: &Replacement) -> (&'static str, Option<Now>) {
    let successor = match replacement.step {
        Step::Successor(run) => instance.run_at(run),
        Step::Stop => instance.run.as_ref().filter(|run| run.id != replacement.run),
        Step::Blame(_) | Step::Evidence(_) | Step::Remedy(_) | Step::Drain(_) => None,
    };
    match successor.map(|run| run.warm_up) {
        Some(Some(warm_up)) => ("warm_up", Some(warm_up.until)),
        Some(None) => ("successor", None),
        None => (replacement.step.as_str(), replacement.step.until()),
    }
}
