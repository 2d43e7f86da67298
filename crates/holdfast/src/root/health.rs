//! What balancers and people are told of an instance's health.

use control::HealthView;
use supervisor::{HealthState, InstanceSnapshot, Phase, ServiceSpec, Tolerance, Wish};

/// The health of one instance, in the words of the configuration.
pub(super) fn view(seen: &InstanceSnapshot, spec: Option<&ServiceSpec>) -> HealthView {
    let off = Tolerance::default();
    let tolerance = spec.map_or(&off, |spec| &spec.tolerance);
    let state = state_of(seen);
    let own = tolerance.answers.get(&state).cloned();
    let answer = own.unwrap_or_else(|| state.default_answer());
    HealthView {
        state: state.as_str().to_owned(),
        status: answer.status,
        agent: answer.agent,
        mode: tolerance.mode.as_str().to_owned(),
        mode_by: "configuration".to_owned(),
        detectors: u32::try_from(tolerance.detectors.len()).unwrap_or(u32::MAX),
        ..HealthView::default()
    }
}

fn state_of(seen: &InstanceSnapshot) -> HealthState {
    match seen.phase {
        Phase::Running => HealthState::Up,
        Phase::Starting => HealthState::Starting,
        Phase::Stopping => HealthState::Draining,
        Phase::Stopped | Phase::Finished => HealthState::Stopped,
        Phase::Waiting | Phase::Backoff | Phase::Failed => match seen.wish {
            Wish::Down => HealthState::Stopped,
            Wish::Up | Wish::Failed(_) | Wish::Finished => HealthState::Down,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Now;

    fn seen(phase: Phase, wish: Wish) -> InstanceSnapshot {
        InstanceSnapshot {
            instance: "web".parse().unwrap(),
            phase,
            wish,
            run: None,
            pid: None,
            since: Now::ZERO,
            spawned: None,
            ready_since: None,
            restarts: 0,
            status_text: String::new(),
            last_exit: None,
            next: None,
            because: Vec::new(),
        }
    }

    #[test]
    fn h13_each_phase_has_an_answer_for_balancers() {
        let answer = |phase, wish| {
            let view = view(&seen(phase, wish), None);
            (view.state, view.status, view.agent)
        };
        let expect =
            |state: &str, status, agent: &str| (state.to_owned(), status, agent.to_owned());
        assert_eq!(answer(Phase::Running, Wish::Up), expect("up", 200, "ready up"));
        assert_eq!(answer(Phase::Starting, Wish::Up), expect("starting", 503, "down"));
        assert_eq!(answer(Phase::Stopping, Wish::Up), expect("draining", 503, "drain"));
        assert_eq!(answer(Phase::Stopped, Wish::Down), expect("stopped", 503, "maint"));
        let failed = Wish::Failed("it did not help".into());
        assert_eq!(answer(Phase::Failed, failed), expect("down", 503, "down"));
    }
}
