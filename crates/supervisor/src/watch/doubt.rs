//! When many services fall sick in the same instant, suspect the observer.
//!
//! Why: a network that hiccups, a resolver that hangs or a probe of ours that is wrong look like
//! many sick services at once; to replace them all would make the outage that was only seen. So
//! nobody is called sick for a while. A doubt ends: what is still sick then is believed.
//! Services of which a dependency is down or slow are explained, and do not count.
//! Source: the design's rule 7.

use super::words::{count, time};
use base::{InstanceId, Now, ServiceName};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Signs that begin within this time began in the same instant: one round of probes.
const INSTANT: Duration = Duration::from_secs(3);

/// Fewer services than this may well be sick together.
const SERVICES_MIN: usize = 4;

/// How long it is doubted.
const DOUBT: Duration = Duration::from_secs(30);

/// The signs of all instances.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Doubt {
    signs: BTreeMap<InstanceId, Now>,
    current: Option<Current>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Current {
    until: Now,
    why: String,
}

impl Doubt {
    /// An instance shows signs of a sickness since then, or none.
    pub(super) fn signs(&mut self, now: Now, watched: usize, of: &InstanceId, since: Option<Now>) {
        let known = self.signs.get(of).copied();
        if known == since {
            return;
        }
        match since {
            Some(since) => self.signs.insert(of.clone(), since),
            None => self.signs.remove(of),
        };
        if let Some(since) = since {
            self.look(now, watched, since);
        }
    }

    /// Are there many whose signs began at this instant?
    fn look(&mut self, now: Now, watched: usize, instant: Now) {
        let near = |since: &Now| since.since(instant).max(instant.since(*since)) <= INSTANT;
        let services: BTreeSet<&ServiceName> = self
            .signs
            .iter()
            .filter(|(_, since)| near(since))
            .map(|(instance, _)| &instance.service)
            .collect();
        if services.len() < SERVICES_MIN || services.len() * 2 < watched {
            return;
        }
        let until = instant + DOUBT;
        if now < until && self.current.as_ref().is_none_or(|current| current.until < until) {
            let why = format!(
                "{} of {} showed signs of a sickness within {}: the observer is suspected first, \
                 for {}",
                services.len(),
                count(watched as u64, "service"),
                time(INSTANT),
                time(DOUBT),
            );
            self.current = Some(Current { until, why });
        }
    }

    /// Why everything is doubted now.
    pub(super) fn why(&self) -> Option<&str> {
        self.current.as_ref().map(|current| current.why.as_str())
    }

    /// True if a doubt has just ended.
    pub(super) fn turn(&mut self, now: Now) -> bool {
        self.current.take_if(|current| current.until <= now).is_some()
    }

    pub(super) fn wake(&self) -> Option<Now> {
        self.current.as_ref().map(|current| current.until)
    }
}
