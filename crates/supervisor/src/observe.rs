//! In observe mode: what would have been done, once for each sickness (H12).
//!
//! Invariant: it is said of whatever would have been replaced in enforce mode, and of nothing else:
//! what an instance depends on has as much time to be found down as it would have there, and who is
//! not to blame, or whose host starves, would not have been replaced.

use crate::hindrance::Hindrance;
use crate::instance::Instance;
use crate::machine::Supervisor;
use crate::replace::Cause;
use crate::watch::{Verdict, VerdictState};
use crate::{EventKind, Mode, Output, Severity, Value};
use base::{InstanceId, Now};

/// What is to be said of one sickness.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Would {
    /// Until then somebody else may be found to be to blame.
    Waits(Now),
    /// It has waited.
    Due,
    /// It would not be replaced, for now.
    Held,
    /// It was said.
    Said,
}

impl Would {
    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Now) {
        if matches!(self, Self::Waits(until) if *until <= now) {
            *self = Self::Due;
        }
    }
}

impl Supervisor {
    pub(crate) fn say_would(&mut self, now: Now, id: &InstanceId, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get(id) else { return };
        if instance.care.verdicts.is_empty() {
            return;
        }
        let sick = instance.care.verdicts.values().filter(|it| it.state == VerdictState::Sick);
        let observed = sick.filter(|it| instance.mode_of(&it.detector) == Mode::Observe);
        let open =
            observed.filter(|it| instance.care.would.get(&it.detector) != Some(&Would::Said));
        let news: Vec<(Verdict, Would)> =
            open.map(|it| (it.clone(), self.would(now, instance, it))).collect();
        for (verdict, would) in news {
            if let Some(instance) = self.instances.get_mut(id) {
                instance.care.would.insert(verdict.detector.clone(), would);
            }
            if would != Would::Said {
                continue;
            }
            let message = format!("{id} would have been replaced: {}", verdict.message);
            let data = vec![
                ("detector", Value::Text(verdict.detector)),
                ("cause", Value::Text(verdict.message)),
                ("planned", Value::Flag(verdict.planned)),
            ];
            self.event(id, EventKind::WouldReplace, Severity::Warning, message, data, out);
        }
    }

    fn would(&self, now: Now, instance: &Instance, verdict: &Verdict) -> Would {
        let cause = Cause::of(verdict);
        let hindrance = self.hindrance(now, instance, &cause);
        if matches!(hindrance, Some(Hindrance::Host(_) | Hindrance::Dependency(_))) {
            return Would::Held;
        }
        let blame = !cause.planned && !cause.is_own_leak();
        let until = match instance.care.would.get(&verdict.detector) {
            Some(Would::Waits(until)) => *until,
            // When what held it is over, it has a time of its own to be well again.
            Some(Would::Held | Would::Said) | None if blame => now + self.blame_time(instance),
            Some(Would::Due | Would::Held | Would::Said) | None => now,
        };
        if now < until { Would::Waits(until) } else { Would::Said }
    }
}
