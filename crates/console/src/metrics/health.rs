//! Metrics of the services' health: states, verdicts, trends, replacements and workarounds.
//!
//! Invariant: as in the module above; detectors, dependencies and the names of what is measured come
//! from the configuration and from our own code.

use super::Page;
use crate::history::Tally;
use crate::history::fates::Fate;
use control::{InstanceView, ServiceView, Snapshot, VerdictView};

const STATES: [&str; 7] =
    ["up", "starting", "draining", "sick", "dependency_down", "stopped", "down"];

const MODES: [&str; 3] = ["off", "observe", "enforce"];

/// Everything of all services.
pub(super) fn health(page: &mut Page, snapshot: &Snapshot, tally: &Tally) {
    one_of(page, snapshot, ("holdfast_health_state", "state"), &STATES, |one| &one.health.state);
    one_of(page, snapshot, ("holdfast_tolerance_mode", "mode"), &MODES, |one| &one.health.mode);
    verdicts(page, snapshot);
    page.family("holdfast_dependency_up", "gauge", "1 when what the instance depends on is well.");
    for (service, instance) in all(snapshot) {
        for dependency in &instance.health.dependencies {
            let labels = [
                ("service", &*service.name),
                ("instance", &*instance.name),
                ("dependency", &*dependency.name),
            ];
            page.sample(&labels, u8::from(dependency.state == "up"));
        }
    }
    page.family("holdfast_replacing", "gauge", "1 while the instance is being replaced.");
    page.each(snapshot, |_, one| Some(u8::from(one.health.replacing.is_some())));
    page.family("holdfast_quarantined_runs", "gauge", "Sick runs that are kept for inspection.");
    page.each(snapshot, |_, one| Some(one.health.quarantined.len()));
    replacements(page, snapshot, tally);
    workarounds(page, snapshot);
}

fn all(snapshot: &Snapshot) -> impl Iterator<Item = (&ServiceView, &InstanceView)> {
    let services = snapshot.services.iter();
    services.flat_map(|service| service.instances.iter().map(move |one| (service, one)))
}

/// A family with one sample a value that something can have, 1 for the one that it has.
fn one_of(
    page: &mut Page,
    snapshot: &Snapshot,
    (family, label): (&'static str, &str),
    values: &[&str],
    read: impl Fn(&InstanceView) -> &str,
) {
    page.family(family, "gauge", &format!("1 for the {label} that the instance is in."));
    for (service, instance) in all(snapshot) {
        for value in values {
            let labels =
                [("service", &*service.name), ("instance", &*instance.name), (label, *value)];
            page.sample(&labels, u8::from(read(instance) == *value));
        }
    }
}

fn verdicts(page: &mut Page, snapshot: &Snapshot) {
    page.family("holdfast_detector_sick", "gauge", "1 when the detector says that it is sick.");
    each_verdict(page, snapshot, |verdict| Some(u8::from(verdict.state == "sick")));
    page.family("holdfast_detector_cannot_tell", "gauge", "1 when the detector can't tell.");
    each_verdict(page, snapshot, |verdict| Some(u8::from(verdict.state == "cannot_tell")));
    page.family(
        "holdfast_exhaustion_predicted_seconds",
        "gauge",
        "Time until the resource is exhausted, if its growth goes on.",
    );
    each_verdict(page, snapshot, |verdict| verdict.exhausted_in_ms.map(|ms| ms as f64 / 1000.0));
    page.family("holdfast_detector_measured", "gauge", "What the detector measured last, by name.");
    for (service, instance) in all(snapshot) {
        for verdict in &instance.health.verdicts {
            for (measure, value) in verdict.measured.iter().filter(|(_, value)| value.is_finite()) {
                let labels = [
                    ("service", &*service.name),
                    ("instance", &*instance.name),
                    ("detector", &*verdict.detector),
                    ("measure", measure.as_str()),
                ];
                page.sample(&labels, value);
            }
        }
    }
}

fn each_verdict<T: std::fmt::Display>(
    page: &mut Page,
    snapshot: &Snapshot,
    value: impl Fn(&VerdictView) -> Option<T>,
) {
    for (service, instance) in all(snapshot) {
        for verdict in &instance.health.verdicts {
            if let Some(value) = value(verdict) {
                let labels = [
                    ("service", &*service.name),
                    ("instance", &*instance.name),
                    ("detector", &*verdict.detector),
                ];
                page.sample(&labels, value);
            }
        }
    }
}

fn replacements(page: &mut Page, snapshot: &Snapshot, tally: &Tally) {
    page.family(
        "holdfast_replacements_total",
        "counter",
        "Sick runs that were replaced, or could not be, since the console started.",
    );
    for (service, instance) in all(snapshot) {
        let fates = tally.fates().of(&instance.name);
        for (outcome, fate) in [("replaced", Fate::Replaced), ("failed", Fate::Failed)] {
            let labels =
                [("service", &*service.name), ("instance", &*instance.name), ("outcome", outcome)];
            page.sample(&labels, fates[fate as usize]);
        }
    }
    for (family, fate, help) in [
        (
            "holdfast_would_replace_total",
            Fate::Observed,
            "Replacements that were not made because the mode is observe, since the console started.",
        ),
        (
            "holdfast_replacements_suppressed_total",
            Fate::Suppressed,
            "Replacements that were put off because they would not have helped.",
        ),
        ("holdfast_remedies_total", Fate::Remedy, "Finer actions that were tried."),
    ] {
        page.family(family, "counter", help);
        page.each(snapshot, |_, one| Some(tally.fates().of(&one.name)[fate as usize]));
    }
}

fn workarounds(page: &mut Page, snapshot: &Snapshot) {
    let workaround = |one: &InstanceView| one.health.workaround.clone();
    page.family(
        "holdfast_workaround_start_time_seconds",
        "gauge",
        "Since when a workaround is in force, seconds since the epoch.",
    );
    page.each(snapshot, |_, one| workaround(one).map(|seen| seen.since_us as f64 / 1e6));
    page.family(
        "holdfast_workaround_saves",
        "gauge",
        "How often the workaround has saved the instance since it is in force.",
    );
    page.each(snapshot, |_, one| workaround(one).map(|seen| seen.saves));
    page.family(
        "holdfast_workaround_would_replace",
        "gauge",
        "How often the instance would have been replaced, had the mode been enforce.",
    );
    page.each(snapshot, |_, one| workaround(one).map(|seen| seen.would_have));
}
