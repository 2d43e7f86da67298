//! Rules between the keys of one service's tolerance, and between those and its other keys.
//!
//! Invariant: a rule is silent when one of its keys is faulty by itself. No message names the
//! service, so that what comes from `[defaults]` is said once.

use super::detect::Found;
use super::tolerance::Places;
use crate::diagnostic::{Fault, Faults};
use crate::source::Spot;
use crate::table::Table;
use base::format_duration;
use std::time::Duration;
use supervisor::{Kind, Mode, Readiness, Rule, ServiceSpec, Successor};

/// Samples that a trend needs at least: fewer say nothing about a slope (`LOOKS_MIN` of the watcher).
const TREND_SAMPLES_MIN: u32 = 16;

/// Checks all of them.
pub(crate) fn check(
    spec: &ServiceSpec,
    found: &[Found],
    places: &Places,
    table: &Table<'_>,
    faults: &mut Faults<'_>,
) {
    if table.sound(&["tolerance"]) {
        check_mode(spec, found, places, table, faults);
        check_successor(spec, places, table, faults);
        check_times(spec, found, faults);
    }
    check_listener(spec, table, faults);
}

/// Who writes down detectors wants them to look; who says `off` means it.
fn check_mode(
    spec: &ServiceSpec,
    found: &[Found],
    places: &Places,
    table: &Table<'_>,
    faults: &mut Faults<'_>,
) {
    if spec.tolerance.mode == Mode::Off && !places.has_mode && !found.is_empty() {
        faults.push(
            Fault::warning("detectors-off", "nothing is looked at: tolerance is off")
                .at(table.key_spot("detect"), "these detectors do nothing")
                .help(
                    "add `tolerance = \"observe\"` or `tolerance = \"enforce\"`; \"off\" if meant",
                ),
        );
    }
}

/// Each of two runs side by side needs a way in.
fn check_successor(
    spec: &ServiceSpec,
    places: &Places,
    table: &Table<'_>,
    faults: &mut Faults<'_>,
) {
    if let (Some(spot), Successor::After) = (places.quarantine, spec.tolerance.replace.successor)
        && spec.tolerance.quarantine.is_some()
    {
        faults.push(
            Fault::warning("quarantine-after", "a frozen run keeps its ports, files and locks")
                .at(spot, "the successor may not be able to start beside it")
                .help(
                    "set `successor = \"beside\"`, with sockets that holdfast passes or `{port}`",
                ),
        );
    }
    let (Some(spot), Successor::Beside) = (places.successor, spec.tolerance.replace.successor)
    else {
        return;
    };
    if spec.kind == Kind::Oneshot && table.sound(&["kind"]) {
        faults.push(
            Fault::error("oneshot-contradiction", "a one-shot service has no successor beside it")
                .at(spot, "contradicts `kind = \"oneshot\"`")
                .also(table.key_spot("kind"), "declared here")
                .help("remove `successor`, or choose another `kind`"),
        );
    }
    let keys = ["sockets", "port", "command", "env"];
    if spec.process.sockets.is_empty() && !has_own_port(spec) && table.sound(&keys) {
        faults.push(
            Fault::error(
                "successor-without-port",
                "two runs side by side would want the same port",
            )
            .at(spot, "neither `sockets` nor `{port}` is used")
            .help("add `sockets`, or `port` with `{port}` in the command, or use \"after\""),
        );
    }
}

/// Its command or its environment tells it the port.
fn has_own_port(spec: &ServiceSpec) -> bool {
    let process = &spec.process;
    let mut texts = process.argv.iter().chain(process.env.values());
    process.port.is_some() && texts.any(|text| text.contains("{port}"))
}

fn check_times(spec: &ServiceSpec, found: &[Found], faults: &mut Faults<'_>) {
    let interval = spec.tolerance.interval;
    for found in found {
        let Some(detector) = &found.detector else { continue };
        match &detector.rule {
            Rule::Backlog { lasting, .. }
            | Rule::Deadlock { lasting }
            | Rule::Livelock { lasting, .. }
            | Rule::Uninterruptible { lasting } => {
                check_lasting(*lasting, interval, found.lasting.unwrap_or(found.spot), faults);
            }
            Rule::Leak { trend: Some(trend), .. } => {
                let spot = found.window.unwrap_or(found.spot);
                check_window(trend.window, interval, spot, faults);
            }
            Rule::Leak { trend: None, .. }
            | Rule::Answer { .. }
            | Rule::Age { .. }
            | Rule::Requests { .. } => {}
        }
    }
}

fn check_lasting(lasting: Duration, interval: Duration, spot: Spot, faults: &mut Faults<'_>) {
    if lasting < interval {
        let (lasting, interval) = (format_duration(lasting), format_duration(interval));
        faults.push(
            Fault::warning("lasting-below-interval", "this is looked at less often than it lasts")
                .at(spot, format!("lasts {lasting}, but a sample is taken every {interval}"))
                .help("set `interval` of the tolerance lower, or `lasting` higher"),
        );
    }
}

fn check_window(window: Duration, interval: Duration, spot: Spot, faults: &mut Faults<'_>) {
    let least = interval.saturating_mul(TREND_SAMPLES_MIN);
    if window < least {
        let [window, interval, least] = [window, interval, least].map(format_duration);
        faults.push(
            Fault::error("trend-window-too-short", "this window is too short for a trend")
                .at(spot, format!("{window} with a sample every {interval}"))
                .help(format!("set `window` to {least} or more, or `interval` lower")),
        );
    }
}

/// A listener's input and output carry a protocol.
fn check_listener(spec: &ServiceSpec, table: &Table<'_>, faults: &mut Faults<'_>) {
    if spec.listener.is_none() {
        return;
    }
    let simple = spec.kind == Kind::Simple;
    let contradictions = [
        ("kind", !simple, "has to be there itself, to answer", "use `kind = \"simple\"`"),
        ("ready", spec.ready != Readiness::Started, "is ready when it says so", "remove `ready`"),
        (
            "log",
            spec.log.split_stderr,
            "has no other output than its errors",
            "remove `split_stderr`",
        ),
    ];
    for (key, contradicts, why, help) in contradictions {
        if contradicts && table.sound(&[key]) {
            faults.push(
                Fault::error("listener-contradiction", format!("an event listener {why}"))
                    .at(table.value_spot(key), "contradicts `event_listener`")
                    .also(table.key_spot("event_listener"), "declared here")
                    .help(help),
            );
        }
    }
}
