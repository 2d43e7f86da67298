//! What the health of an instance is worth saying in a line: the state that is shown, and notes.
//!
//! Why apart from the state: a process that runs may be sick, drained or without what it depends
//! on, and whoever looks at the table must see that.
//! Invariant: nothing is said of what is as it should be.

use super::output::Tone;
use super::text;
use control::{HealthView, InstanceView, WorkaroundView};
use std::time::Duration;

/// The state of an instance as it is shown: by its health where that tells more.
pub(crate) fn shown_state(instance: &InstanceView) -> &str {
    let health = &instance.health;
    if health.replacing.is_some() {
        return "replacing";
    }
    match (instance.state.as_str(), health.state.as_str()) {
        ("running", "sick") => "sick",
        ("running", "draining") => "draining",
        ("running", "dependency_down") => "dependency",
        (state, _) => state,
    }
}

/// What is worth a line of its own, the most urgent first.
pub(crate) fn notes(instance: &InstanceView, taken_us: i64) -> Vec<(Tone, String)> {
    let health = &instance.health;
    let mut notes = Vec::new();
    if let Some(replacing) = &health.replacing {
        notes.push((Tone::Busy, replacing_note(replacing)));
    }
    notes.extend(verdicts(health));
    if let Some(suppressed) = &health.suppressed {
        notes.push((Tone::Busy, format!("nothing is done about it: {suppressed}")));
    }
    for dependency in health.dependencies.iter().filter(|one| one.state != "up") {
        notes.push((Tone::Busy, format!("{}: {}", dependency.name, dependency.message)));
    }
    for kept in &health.quarantined {
        let pid = kept.pid.map_or(String::new(), |pid| format!(" (pid {pid})"));
        let left = text::age(text::between(taken_us, kept.until_us));
        let run = kept.run;
        notes.push((Tone::Plain, format!("sick run {run}{pid} is kept, frozen, for {left} more")));
    }
    if let Some(workaround) = &health.workaround {
        notes.push((Tone::Busy, workaround_note(workaround, taken_us)));
    }
    notes
}

fn replacing_note(replacing: &control::ReplacingView) -> String {
    let bound = replacing.bound_ms.map_or(String::new(), |ms| {
        format!(", at most {} more", text::age(Duration::from_millis(ms.saturating_add(999))))
    });
    let step = replacing.step.replace('_', " ");
    format!("is being replaced ({step}{bound}): {}", replacing.cause)
}

fn verdicts(health: &HealthView) -> impl Iterator<Item = (Tone, String)> {
    // What is sick is the cause that is told of a replacement already.
    let is_told = health.replacing.is_some();
    health.verdicts.iter().filter_map(move |verdict| {
        let said = || format!("{}: {}", verdict.detector, verdict.message);
        match (verdict.state.as_str(), verdict.exhausted_in_ms) {
            ("sick", _) if is_told => None,
            ("sick", _) if verdict.mode == "observe" => Some((Tone::Busy, said())),
            ("sick", _) => Some((Tone::Bad, said())),
            (_, Some(ms)) => {
                let left = text::age(Duration::from_millis(ms));
                Some((
                    Tone::Busy,
                    format!("{}: limit in {left}; {}", verdict.detector, verdict.message),
                ))
            }
            _ => None,
        }
    })
}

/// That a workaround is in force must not be forgotten (H28).
fn workaround_note(workaround: &WorkaroundView, taken_us: i64) -> String {
    let ago = |since_us| text::age(text::between(since_us, taken_us));
    let times = |count: u64| if count == 1 { "once".to_owned() } else { format!("{count} times") };
    let since = text::local_time(workaround.since_us, taken_us);
    let last = format!("last {} ago", ago(workaround.last_us));
    let would = format!("would have been replaced {}", times(workaround.would_have));
    match (workaround.saves, workaround.would_have) {
        (0, _) => format!("observed since {since}: {would}, {last}"),
        (saves, 0) => {
            format!("workaround active since {since}: saved the service {}, {last}", times(saves))
        }
        (saves, _) => format!(
            "workaround active since {since}: saved the service {}, {last}; {would} while it was \
             only observed",
            times(saves)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples;

    fn said(instance: &InstanceView) -> Vec<String> {
        notes(instance, samples::TAKEN_US).into_iter().map(|(_, note)| note).collect()
    }

    #[test]
    fn nothing_is_said_of_what_is_well() {
        assert_eq!(said(&samples::plain()), Vec::<String>::new());
        assert_eq!(shown_state(&samples::plain()), "running");
        let sick = samples::sick();
        assert_eq!(shown_state(&sick), "sick");
        let stopped = InstanceView { state: "stopped".into(), ..sick };
        assert_eq!(shown_state(&stopped), "stopped");
    }

    #[test]
    fn h28_a_workaround_is_told_with_its_beginning_and_what_it_saved() {
        let [_, workaround] = said(&samples::leaking()).try_into().unwrap();
        assert!(workaround.starts_with("workaround active since 20"), "{workaround}");
        assert!(workaround.ends_with("saved the service 14 times, last 2h05m ago"), "{workaround}");
        let mut observed = samples::leaking();
        observed.health.workaround = observed.health.workaround.map(|seen| WorkaroundView {
            saves: 0,
            would_have: 1,
            ..seen
        });
        let told = said(&observed).pop().unwrap();
        assert!(told.starts_with("observed since 20"), "{told}");
        assert!(told.contains("would have been replaced once"), "{told}");
    }
}
