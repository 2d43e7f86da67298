//! What balancers and people are told of an instance's health.

use super::views::Clock;
use control::{
    DependencyView, HealthView, QuarantineView, ReplacingView, RunView, VerdictView, WorkaroundView,
};
use std::time::Duration;
use supervisor::watch::Verdict;
use supervisor::{
    HealthAnswer, HealthState, InstanceSnapshot, Mode, RunRole, RunSnapshot, ServiceSpec,
};

/// The health of one instance, in the words of the configuration.
pub(super) fn view(
    seen: &InstanceSnapshot,
    spec: Option<&ServiceSpec>,
    workaround: Option<&WorkaroundView>,
    clock: &Clock,
) -> HealthView {
    let answer = answer(spec, seen.health);
    let (mode, by) = &seen.mode;
    let dependencies = seen.dependencies.iter().map(|(name, state, message)| DependencyView {
        name: name.clone(),
        state: state.as_str().to_owned(),
        message: message.clone(),
    });
    let replacing = seen.replacing.as_ref().map(|replacing| ReplacingView {
        step: replacing.step.to_owned(),
        beside: replacing.beside,
        cause: replacing.cause.clone(),
        since_us: clock.wall_of(replacing.since).as_micros(),
        bound_ms: replacing.until.map(|until| millis(clock.now.until(until))),
    });
    HealthView {
        state: seen.health.as_str().to_owned(),
        status: answer.status,
        agent: answer.agent,
        mode: mode.as_str().to_owned(),
        mode_by: by.clone(),
        detectors: spec
            .map_or(0, |spec| u32::try_from(spec.tolerance.detectors.len()).unwrap_or(u32::MAX)),
        verdicts: seen.verdicts.iter().map(|it| verdict_view(it, *mode, spec, clock)).collect(),
        dependencies: dependencies.collect(),
        workaround: workaround.cloned(),
        replacing,
        quarantined: seen.runs.iter().filter_map(|run| quarantine_view(run, clock)).collect(),
        suppressed: seen.suppressed.clone(),
    }
}

/// All runs of an instance that may be alive.
pub(super) fn runs(seen: &InstanceSnapshot, spec: Option<&ServiceSpec>) -> Vec<RunView> {
    let view = |run: &RunSnapshot| {
        let answer = answer(spec, run.health);
        RunView {
            run: run.run.0,
            pid: run.pid.map(|pid| pid.0),
            role: run.role.as_str().to_owned(),
            port: spec.and_then(|spec| spec.port_at(&seen.instance, run.slot)),
            state: run.health.as_str().to_owned(),
            status: answer.status,
            agent: answer.agent,
        }
    };
    seen.runs.iter().map(view).collect()
}

fn answer(spec: Option<&ServiceSpec>, state: HealthState) -> HealthAnswer {
    let own = spec.and_then(|spec| spec.tolerance.answers.get(&state).cloned());
    own.unwrap_or_else(|| state.default_answer())
}

fn verdict_view(
    verdict: &Verdict,
    mode: Mode,
    spec: Option<&ServiceSpec>,
    clock: &Clock,
) -> VerdictView {
    let own = spec.and_then(|spec| spec.tolerance.detectors.get(&verdict.detector));
    let mode = own.map_or(mode, |own| own.mode.min(mode));
    VerdictView {
        detector: verdict.detector.clone(),
        kind: verdict.kind.to_owned(),
        mode: mode.as_str().to_owned(),
        state: verdict.state.as_str().to_owned(),
        message: verdict.message.clone(),
        since_us: clock.wall_of(verdict.since).as_micros(),
        measured: verdict.measured.iter().map(|(name, it)| ((*name).to_owned(), *it)).collect(),
        exhausted_in_ms: verdict.exhausted_in.map(millis),
    }
}

fn quarantine_view(run: &RunSnapshot, clock: &Clock) -> Option<QuarantineView> {
    let RunRole::Quarantined { until } = run.role else { return None };
    Some(QuarantineView {
        run: run.run.0,
        pid: run.pid.map(|pid| pid.0),
        until_us: clock.wall_of(until).as_micros(),
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
