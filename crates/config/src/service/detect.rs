//! `detect`: what is looked at to recognise that a service is sick, one table a detector.
//!
//! Why a detector has a name of its own: one service may have two of a kind, and what it found is
//! told by that name, here, in events and to remedies.
//! Invariant: every table below `detect` is found, faulty or not, so that a remedy that names it is
//! not reported too.

use super::command::{self, Through};
use super::counter;
use super::probe::{host_port, http_url, status};
use super::process::template_path;
use super::{DAY, SECOND, Scope};
use crate::diagnostic::{Fault, Faults, quoted};
use crate::source::Spot;
use crate::suggest::did_you_mean;
use crate::table::{Entry, Node, Table, entries_of};
use crate::value::{choice, duration, integer, nonempty, size, table, wrong_type};
use base::{ByteSize, ServiceName};
use std::time::Duration;
use supervisor::{Detector, HealthProbe, LeakResource, Mode, Progress, Rule, Trend};

/// Detectors of one service. Each is judged at every sample.
const DETECTORS_MAX: usize = 100;

const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_mins(1);

/// Connections and other things that are counted, of one service.
const COUNT_MAX: u32 = 1 << 30;

const EXAMPLE: &str = "`[service.web.detect.memory]`, then `limit = \"500MiB\"`";

pub(crate) const MODES: [(&str, Mode); 3] =
    [("off", Mode::Off), ("observe", Mode::Observe), ("enforce", Mode::Enforce)];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Http,
    Tcp,
    Command,
    Backlog,
    Deadlock,
    Livelock,
    Uninterruptible,
    Memory,
    Swap,
    Descriptors,
    Threads,
    CloseWait,
    Disk,
    Age,
    Requests,
}

const KINDS: [(&str, Kind); 15] = [
    ("http", Kind::Http),
    ("tcp", Kind::Tcp),
    ("command", Kind::Command),
    ("backlog", Kind::Backlog),
    ("deadlock", Kind::Deadlock),
    ("livelock", Kind::Livelock),
    ("uninterruptible", Kind::Uninterruptible),
    ("memory", Kind::Memory),
    ("swap", Kind::Swap),
    ("descriptors", Kind::Descriptors),
    ("threads", Kind::Threads),
    ("close_wait", Kind::CloseWait),
    ("disk", Kind::Disk),
    ("age", Kind::Age),
    ("requests", Kind::Requests),
];

/// A detector as far as it could be read.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) name: String,
    /// Its name.
    pub(crate) spot: Spot,
    /// The values of its keys that say how long something lasts.
    pub(crate) lasting: Option<Spot>,
    pub(crate) window: Option<Spot>,
    /// `None` = faulty, which has been reported.
    pub(crate) detector: Option<Detector>,
}

/// Reads `detect`.
pub(crate) fn read(service: &mut Table<'_>, scope: Scope, faults: &mut Faults<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    service.read("detect", (), faults, |node, faults| {
        let Some(detectors) = node.value.as_table() else {
            wrong_type(node, "a table of detectors", EXAMPLE, faults);
            return None;
        };
        if DETECTORS_MAX < detectors.len() {
            let count = detectors.len();
            faults.push(
                Fault::error("out-of-range", format!("`detect` has {count} detectors"))
                    .at(node.spot, format!("the limit is {DETECTORS_MAX}"))
                    .help("remove some: each is judged at every sample"),
            );
            return None;
        }
        found.extend(
            entries_of(node.spot.file, detectors)
                .map(|(name, entry)| read_one(name, entry, scope, faults)),
        );
        found.iter().all(|found: &Found| found.detector.is_some()).then_some(())
    });
    found
}

fn read_one(name: &str, entry: Entry<'_>, scope: Scope, faults: &mut Faults<'_>) -> Found {
    let (name_of, spot) = (name.to_owned(), entry.key);
    let mut found = Found { name: name_of, spot, lasting: None, window: None, detector: None };
    if let Err(error) = name.parse::<ServiceName>() {
        faults.push(
            Fault::error("bad-name", format!("{} can't be the name of a detector", quoted(name)))
                .at(entry.key, error.to_string())
                .help("choose a name such as `memory` or `slow-answer`"),
        );
        return found;
    }
    let Some(mut detector) = table(entry.node, format!("detector `{name}`"), EXAMPLE, faults)
    else {
        return found;
    };
    detector.spot = entry.key;
    let mode =
        detector.read("mode", Mode::Enforce, faults, |node, faults| choice(node, &MODES, faults));
    let Some(kind) = read_kind(name, &mut detector, faults) else { return found };
    let rule = read_rule(kind, &mut detector, scope, faults);
    detector.finish(faults);
    found.lasting = detector.has_own("lasting").then(|| detector.value_spot("lasting"));
    found.window = detector.has_own("trend").then(|| detector.value_spot("trend"));
    found.detector = rule.filter(|_| detector.sound(&["mode"])).map(|rule| Detector { mode, rule });
    found
}

/// What stands there, or the detector's name where that says it.
fn read_kind(name: &str, detector: &mut Table<'_>, faults: &mut Faults<'_>) -> Option<Kind> {
    if let Some(node) = detector.take("kind") {
        return choice(node, &KINDS, faults);
    }
    let kind = KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
    if kind.is_none() {
        let known = KINDS.map(|(known, _)| known);
        let hint = did_you_mean(name, known).map_or(String::new(), |hint| hint + " ");
        let list = known.map(|known| format!("\"{known}\"")).join(", ");
        faults.push(
            Fault::error("detector-kind", format!("detector `{name}` does not say its kind"))
                .at(detector.spot, "no kind is called so")
                .help(format!("{hint}name it after its kind, or add `kind`: one of {list}")),
        );
    }
    kind
}

fn read_rule(
    kind: Kind,
    table: &mut Table<'_>,
    scope: Scope,
    faults: &mut Faults<'_>,
) -> Option<Rule> {
    match kind {
        Kind::Http | Kind::Tcp | Kind::Command => read_answer(kind, table, scope, faults),
        Kind::Backlog => read_backlog(table, scope, faults),
        Kind::Deadlock => {
            let lasting = read_lasting(table, 30 * SECOND, faults);
            table.sound(&["lasting"]).then_some(Rule::Deadlock { lasting })
        }
        Kind::Uninterruptible => {
            let lasting = read_lasting(table, MINUTE, faults);
            table.sound(&["lasting"]).then_some(Rule::Uninterruptible { lasting })
        }
        Kind::Livelock => {
            let core_percent = table
                .read("core_percent", 95, faults, |node, faults| integer(node, 1..=100, faults));
            let lasting = read_lasting(table, MINUTE, faults);
            let progress = read_progress(table, scope, faults);
            let rule = Rule::Livelock { core_percent, lasting, progress };
            table.sound(&["core_percent", "lasting", "progress"]).then_some(rule)
        }
        Kind::Memory => read_leak(LeakResource::Memory, table, faults),
        Kind::Swap => read_leak(LeakResource::Swap, table, faults),
        Kind::Descriptors => read_leak(LeakResource::Descriptors, table, faults),
        Kind::Threads => read_leak(LeakResource::Threads, table, faults),
        Kind::CloseWait => read_leak(LeakResource::CloseWait, table, faults),
        Kind::Disk => {
            let path = table
                .read_option("path", faults, |node, faults| template_path(node, scope, faults));
            let path = needed(table, "path", path, "`path = \"/var/lib/web\"`", faults);
            // The rest is read all the same, so that its faults show too.
            let leak =
                read_leak(LeakResource::Disk(path.clone().unwrap_or_default()), table, faults);
            leak.filter(|_| path.is_some())
        }
        Kind::Age => {
            let every = table.read("every", DAY, faults, |node, faults| {
                duration(node, MINUTE..=365 * DAY, faults)
            });
            let jitter_percent = table
                .read("jitter_percent", 10, faults, |node, faults| integer(node, 0..=50, faults));
            let rule = Rule::Age { every, jitter_percent };
            table.sound(&["every", "jitter_percent"]).then_some(rule)
        }
        Kind::Requests => {
            let after = table.read_option("after", faults, |node, faults| {
                integer(node, 1..=u64::MAX >> 1, faults)
            });
            let after = needed(table, "after", after, "`after = 100000`", faults);
            let source =
                table.read("source", supervisor::CounterSource::Notify, faults, |node, faults| {
                    counter::source(node, scope, faults)
                });
            let whole = table.sound(&["source"]);
            after.filter(|_| whole).map(|after| Rule::Requests { after, source })
        }
    }
}

/// Reports that a key without a default is missing.
fn needed<T>(
    table: &Table<'_>,
    key: &str,
    value: Option<T>,
    example: &str,
    faults: &mut Faults<'_>,
) -> Option<T> {
    if value.is_none() && table.sound(&[key]) {
        faults.push(
            Fault::error("missing-key", format!("{} has no `{key}`", table.title))
                .at(table.spot, format!("needs `{key}`"))
                .help(format!("add {example}")),
        );
    }
    value
}

fn read_lasting(table: &mut Table<'_>, default: Duration, faults: &mut Faults<'_>) -> Duration {
    table.read("lasting", default, faults, |node, faults| duration(node, MILLISECOND..=DAY, faults))
}

fn read_progress(table: &mut Table<'_>, scope: Scope, faults: &mut Faults<'_>) -> Progress {
    table.read("progress", Progress::Kernel, faults, |node, faults| {
        counter::progress(node, scope, faults)
    })
}

fn read_answer(
    kind: Kind,
    table: &mut Table<'_>,
    scope: Scope,
    faults: &mut Faults<'_>,
) -> Option<Rule> {
    let probe = match kind {
        Kind::Http => {
            let url = table.read_option("url", faults, |node, f| http_url(node, scope, f));
            let status = table.read_option("status", faults, status);
            let contains = table
                .read_option("contains", faults, |node, f| nonempty(node, f).map(str::to_owned));
            let url = needed(table, "url", url, "`url = \"http://127.0.0.1:8080/\"`", faults);
            url.map(|url| HealthProbe::Http { url, status, contains })
        }
        Kind::Tcp => {
            let address = table.read_option("address", faults, |node, f| host_port(node, scope, f));
            needed(table, "address", address, "`address = \"127.0.0.1:8080\"`", faults)
                .map(HealthProbe::Tcp)
        }
        _ => {
            let command = table.read_option("command", faults, |node, faults| {
                command::read(node, Through::Words, scope, faults)
            });
            needed(table, "command", command, "`command = [\"/usr/bin/check\"]`", faults)
                .map(HealthProbe::Command)
        }
    };
    let interval = table.read("interval", 2 * SECOND, faults, |node, faults| {
        duration(node, 100 * MILLISECOND..=DAY, faults)
    });
    let timeout = table.read("timeout", 2 * SECOND, faults, |node, faults| {
        duration(node, MILLISECOND..=DAY, faults)
    });
    let failures =
        table.read("failures", 3, faults, |node, faults| integer(node, 1..=1_000_u32, faults));
    if !table.sound(&["status", "contains", "interval", "timeout", "failures"]) {
        return None;
    }
    check_timeout(table, interval, timeout, failures, faults);
    Some(Rule::Answer { probe: probe?, interval, timeout, failures })
}

/// An answer that is still awaited when all of them were due makes the number of failures a lie.
fn check_timeout(
    table: &Table<'_>,
    interval: Duration,
    timeout: Duration,
    failures: u32,
    faults: &mut Faults<'_>,
) {
    let all = interval.saturating_mul(failures);
    if timeout <= all {
        return;
    }
    let [timeout, interval, all] = [timeout, interval, all].map(base::format_duration);
    let key = if table.has_own("timeout") { "timeout" } else { "interval" };
    faults.push(
        Fault::error(
            "answer-timeout-too-long",
            format!("{} waits too long for one answer", table.title),
        )
        .at(
            table.value_spot(key),
            format!(
                "one answer may take {timeout}, {failures} askings every {interval} take {all}"
            ),
        )
        .help(format!("set `timeout` to {all} or less, or `interval` or `failures` higher")),
    );
}

fn read_backlog(table: &mut Table<'_>, scope: Scope, faults: &mut Faults<'_>) -> Option<Rule> {
    let count = |node: Node<'_>, faults: &mut Faults<'_>| integer(node, 1..=COUNT_MAX, faults);
    let queue = table.read("queue", 5, faults, count);
    let connections = table.read_option("connections", faults, count);
    let lasting = read_lasting(table, 10 * SECOND, faults);
    let progress = read_progress(table, scope, faults);
    let rule = Rule::Backlog { queue, connections, lasting, progress };
    table.sound(&["queue", "connections", "lasting", "progress"]).then_some(rule)
}

fn read_leak(
    resource: LeakResource,
    table: &mut Table<'_>,
    faults: &mut Faults<'_>,
) -> Option<Rule> {
    let limit = table.read_option("limit", faults, |node, faults| match resource {
        LeakResource::Memory | LeakResource::Swap | LeakResource::Disk(_) => {
            let bytes = size(node, ByteSize::mib(1)..=ByteSize::mib(1 << 40), faults);
            bytes.map(|bytes| bytes.0)
        }
        LeakResource::Descriptors | LeakResource::Threads | LeakResource::CloseWait => {
            integer(node, 1..=COUNT_MAX, faults).map(u64::from)
        }
    });
    let share_percent =
        table.read_option("share_percent", faults, |node, faults| integer(node, 1..=100, faults));
    let trend = table.read_option("trend", faults, read_trend);
    if !table.sound(&["limit", "share_percent", "trend"]) {
        return None;
    }
    if limit.is_none() && share_percent.is_none() && trend.is_none() {
        let limit = match resource {
            LeakResource::Memory | LeakResource::Swap => "`limit = \"500MiB\"`",
            LeakResource::Disk(_) => "`limit = \"10GiB\"`",
            _ => "`limit = 1000`",
        };
        faults.push(
            Fault::error("leak-without-limit", format!("{} does not say when", table.title))
                .at(table.spot, "how much is too much?")
                .help(format!(
                    "add {limit}, `share_percent = 80` or `trend = {{ ahead = \"20m\" }}`"
                )),
        );
        return None;
    }
    Some(Rule::Leak { resource, limit, share_percent, trend })
}

fn read_trend(node: Node<'_>, faults: &mut Faults<'_>) -> Option<Trend> {
    let example = "`trend = { window = \"30m\", ahead = \"20m\" }`";
    let mut trend = table(node, "`trend`", example, faults)?;
    let time =
        |node: Node<'_>, faults: &mut Faults<'_>| duration(node, 10 * SECOND..=7 * DAY, faults);
    let window = trend.read("window", 30 * MINUTE, faults, time);
    let ahead = trend.read("ahead", 20 * MINUTE, faults, time);
    trend.finish(faults);
    trend.sound(&["window", "ahead"]).then_some(Trend { window, ahead })
}
