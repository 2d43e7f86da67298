//! Why an instance that should be replaced is not, or not yet.
//!
//! Invariants: nothing is replaced while the host starves, while what it depends on is down, or
//! once the restart budget is spent (H16, H19, H26); of a group no more are out of rotation at one
//! time than may be, as balancers know it (H5, H22).

use crate::instance::Instance;
use crate::machine::Supervisor;
use crate::replace::Cause;
use crate::{EventKind, HealthState, Output, RunRole, Severity, Successor, Value, Wish};
use base::{InstanceId, Now};

/// Why nothing is done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Hindrance {
    GivenUp(String),
    Host(String),
    Dependency(String),
    Group(InstanceId),
    /// Back in rotation, which balancers know by then.
    Settling(InstanceId, Now),
    Earlier,
    Later(Now),
}

impl Hindrance {
    /// The stable name, as events have it.
    const fn as_str(&self) -> &'static str {
        match self {
            Self::GivenUp(_) => "given_up",
            Self::Host(_) => "host",
            Self::Dependency(_) => "dependency",
            Self::Group(_) | Self::Settling(..) => "group",
            Self::Earlier => "earlier",
            Self::Later(_) => "later",
        }
    }

    pub(crate) fn words(&self) -> String {
        match self {
            Self::GivenUp(why) | Self::Dependency(why) => why.clone(),
            Self::Host(why) => format!("the host starves: {why}"),
            Self::Group(other) => format!("{other} is out of rotation, and comes first"),
            Self::Settling(other, _) => format!("{other} is back in rotation only just now"),
            Self::Earlier => "its earlier run is not gone yet".to_owned(),
            Self::Later(_) => "the last replacement failed; it is tried again later".to_owned(),
        }
    }
}

impl Supervisor {
    /// Why it is not replaced now although it should be.
    pub(crate) fn hindrance(
        &self,
        now: Now,
        instance: &Instance,
        cause: &Cause,
    ) -> Option<Hindrance> {
        let care = &instance.care;
        if !cause.is_asked() {
            if let Some(why) = &care.given_up {
                return Some(Hindrance::GivenUp(why.clone()));
            }
            if let Some(at) = care.not_before.filter(|at| now < *at) {
                return Some(Hindrance::Later(at));
            }
            // What itself eats the memory is the cure of the host, not its victim.
            if let Some(why) = self.pressure.as_ref().filter(|_| !cause.relieves) {
                return Some(Hindrance::Host(why.clone()));
            }
            if let Some(why) = instance.dependency_trouble().filter(|_| !cause.is_own_leak()) {
                return Some(Hindrance::Dependency(why));
            }
        }
        let on_their_way = instance
            .others
            .iter()
            .any(|run| matches!(run.role.told(), RunRole::Successor | RunRole::Leaving));
        if on_their_way {
            return Some(Hindrance::Earlier);
        }
        self.group_is_full(now, instance, cause)
    }

    /// Another one of the same service is out of rotation, where no more may be.
    fn group_is_full(&self, now: Now, instance: &Instance, cause: &Cause) -> Option<Hindrance> {
        let policy = &instance.spec.tolerance.replace;
        let ids = self.ids_of(&instance.id.service);
        let others = ids.iter().filter(|id| **id != instance.id);
        let others = others.filter_map(|id| self.instances.get(id));
        let mut out = others.filter_map(|other| {
            let group = || Hindrance::Group(other.id.clone());
            if other.care.replacement.is_some() {
                return Some(group());
            }
            // What is planned can wait until all the others serve; sickness waits for replacements
            // only.
            if !cause.planned || other.wish != Wish::Up {
                return None;
            }
            if other.health() != HealthState::Up {
                return Some(group());
            }
            // And until balancers know it. Beside, a run is in rotation until they know the next.
            let admitted = other.run.as_ref().and_then(|run| run.admitted)?;
            let known = admitted + policy.settle;
            let settling = policy.successor == Successor::After && now < known;
            settling.then(|| Hindrance::Settling(other.id.clone(), known))
        });
        out.nth(usize::from(policy.group_max).saturating_sub(1))
    }

    pub(crate) fn hinder(
        &mut self,
        id: &InstanceId,
        cause: &Cause,
        why: Hindrance,
        out: &mut Vec<Output>,
    ) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let before = instance.care.suppressed.replace(why.clone());
        let same = before
            .is_some_and(|before| std::mem::discriminant(&before) == std::mem::discriminant(&why));
        let news = !same
            && !matches!(why, Hindrance::GivenUp(_) | Hindrance::Earlier | Hindrance::Settling(..));
        if news {
            let message = format!("{id} is not replaced: {}; {}", why.words(), cause.message);
            let data = vec![
                ("detector", Value::Text(cause.detector.clone())),
                ("hindrance", Value::Text(why.as_str().to_owned())),
            ];
            self.event(id, EventKind::Suppressed, Severity::Warning, message, data, out);
        }
    }
}
