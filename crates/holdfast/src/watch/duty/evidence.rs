//! Answers the root's questions about single runs: evidence, and how many connections there are.

use super::Duty;
use crate::watch::ask::no_answer;
use crate::watch::facts;
use crate::watch::gather::{self, Question};
use crate::watch::protocol::{FromWatch, RunFacts, millis};
use base::{InstanceId, RunId};
use journal::evidence::Evidence;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use supervisor::Mode;
use sys::sample::{SocketSample, Wants};
use tokio::sync::Semaphore;

/// Connections are counted within this, or it can't be told.
const COUNT_MAX: Duration = Duration::from_secs(2);

/// How much longer than its budget gathering may take before it counts as hanging.
const GATHER_MARGIN: Duration = Duration::from_millis(900);

/// Bundles that are gathered at a time; others wait, within their own budget.
pub(super) const GATHERS_MAX: usize = 4;

impl Duty {
    pub(super) fn gather(&mut self, facts: RunFacts, cause: String, budget: Duration) {
        let (instance, run) = (facts.instance.clone(), facts.run);
        let Ok(id) = instance.parse::<InstanceId>() else {
            let result = Err("words of another version".to_owned());
            return self.say(FromWatch::Gathered { instance, run, result });
        };
        let question = self.question(id, facts, cause, budget);
        let permits = Arc::clone(&self.gathers);
        self.answering.spawn(async move {
            let result = gather_within(question, permits, budget).await;
            FromWatch::Gathered { instance, run, result }
        });
    }

    fn question(
        &self,
        instance: InstanceId,
        facts: RunFacts,
        cause: String,
        budget: Duration,
    ) -> Question {
        let key = (instance.clone(), RunId(facts.run));
        let watched = self.runs.get(&key);
        let former = || self.former.iter().find(|(known, _)| *known == key).map(|(_, it)| it);
        let history = watched.map(|watched| &watched.history).or_else(former);
        let spec = self.config.services.get(&instance.service);
        let dependencies = self.dependencies.get(&instance).cloned().unwrap_or_default();
        let mode = watched.map_or(Mode::Off, |watched| watched.mode);
        Question {
            log: gather::log_of(&self.options.state, &instance, spec),
            policy: spec.map(|spec| spec.tolerance.evidence.clone()).unwrap_or_default(),
            history: history.cloned().unwrap_or_default(),
            mode: mode.as_str().to_owned(),
            dependencies,
            pressure: self.pressure.clone(),
            node: self.options.node.clone(),
            evidence: Evidence::of_state(&self.options.state),
            adopter: self.options.adopter,
            facts,
            instance,
            cause,
            budget,
            left: budget,
        }
    }

    pub(super) fn count_connections(&mut self, facts: RunFacts) {
        let adopter = self.options.adopter;
        self.answering.spawn(async move {
            let (instance, run) = (facts.instance.clone(), facts.run);
            let counting = tokio::task::spawn_blocking(move || sockets_of(&facts, adopter));
            let counted = tokio::time::timeout(COUNT_MAX, counting).await;
            let open = counted.ok().and_then(Result::ok).flatten();
            FromWatch::Connections { instance, run, open: open.map(|sockets| sockets.established) }
        });
    }
}

/// The sockets of a run, looked at once.
fn sockets_of(facts: &RunFacts, adopter: u32) -> Option<SocketSample> {
    let wants = Wants { sockets: true, ..Wants::default() };
    let mut sampler = sys::sample::Sampler::new(adopter);
    sampler.watch((), facts::target(facts, wants));
    sampler.look(&BTreeSet::from([()])).pop().and_then(|((), sample)| sample.sockets)
}

async fn gather_within(
    question: Question,
    permits: Arc<Semaphore>,
    budget: Duration,
) -> Result<String, String> {
    let began = sys::clock::now();
    let permit = tokio::time::timeout(budget, permits.acquire_owned()).await;
    let Ok(Ok(permit)) = permit else {
        return Err(format!("{GATHERS_MAX} other bundles were being gathered for {budget:?}"));
    };
    let mut question = question;
    question.left = budget.saturating_sub(sys::clock::now().since(began));
    let work = tokio::task::spawn_blocking(move || {
        let gathered = gather::gather(&question);
        drop(permit);
        gathered
    });
    match tokio::time::timeout(budget + GATHER_MARGIN, work).await {
        Ok(Ok(Ok(gathered))) => {
            tracing::info!(
                bundle = %gathered.bundle,
                complete = gathered.complete,
                missing = %gathered.missing.join("; "),
                elapsed_ms = millis(sys::clock::now().since(began)),
                "evidence gathered"
            );
            Ok(gathered.bundle.to_string())
        }
        Ok(Ok(Err(why))) => Err(why),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("gathering hangs: {}", no_answer(budget + GATHER_MARGIN))),
    }
}
