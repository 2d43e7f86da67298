//! `tolerance`: what is done about a service that is found to be sick.
//!
//! Invariant: a key that is not set has the default that [`supervisor::Tolerance`] tells of it.

use super::detect::{Found, MODES};
use super::{DAY, SECOND, Scope, answers, evidence, is_off, probe, stop};
use crate::diagnostic::{Fault, Faults};
use crate::suggest::did_you_mean;
use crate::table::{Node, Table};
use crate::value::{choice, duration, integer, line, list, nonempty, table, text, wrong_type};
use std::collections::BTreeSet;
use std::time::Duration;
use supervisor::{
    EvidencePolicy, QuarantinePolicy, Remedy, ReplacePolicy, StopAction, Successor, Tolerance,
};

/// Questions of one warm-up. They fill caches: a few dozen addresses at most.
const WARM_UP_MAX: usize = 100;

/// Remedies of one service. Each is a wait before the replacement.
const REMEDIES_MAX: usize = 20;

/// Frozen runs of one service; each keeps its memory.
const QUARANTINE_MAX: u16 = 100;

const EXAMPLE: &str = "`tolerance = \"observe\"`, or `[service.web.tolerance]` with `mode`";
const REMEDY_EXAMPLE: &str =
    "`remedies = [{ name = \"recycle a worker\", signal = \"HUP\", wait = \"10s\" }]`";

const SUCCESSORS: [(&str, Successor); 2] =
    [("after", Successor::After), ("beside", Successor::Beside)];

/// What the table says about itself, for the rules between keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// Where `successor` and `quarantine` stand.
    pub(crate) successor: Option<crate::source::Spot>,
    pub(crate) quarantine: Option<crate::source::Spot>,
    /// `mode` stands there, also as the bare word.
    pub(crate) has_mode: bool,
}

/// Reads `tolerance`; the detectors have been read before.
pub(crate) fn read(
    service: &mut Table<'_>,
    found: &[Found],
    scope: Scope,
    faults: &mut Faults<'_>,
) -> (Tolerance, Places) {
    let mut places = Places::default();
    // A default may name detectors that only some services have.
    let names: Option<Vec<&str>> =
        service.has_own("tolerance").then(|| found.iter().map(|f| f.name.as_str()).collect());
    let names = names.filter(|_| !service.is_partial);
    let tolerance = service.read("tolerance", Tolerance::default(), faults, |node, faults| {
        if node.value.as_str().is_some() {
            places.has_mode = true;
            return choice(node, &MODES, faults)
                .map(|mode| Tolerance { mode, ..Tolerance::default() });
        }
        if node.value.as_table().is_none() {
            wrong_type(node, "a mode or a table", EXAMPLE, faults);
            return None;
        }
        let mut tolerance = table(node, "`tolerance`", EXAMPLE, faults)?;
        places.has_mode = tolerance.has_own("mode");
        let spot = |table: &Table<'_>, key| table.has_own(key).then(|| table.value_spot(key));
        places.successor = spot(&tolerance, "successor");
        places.quarantine = spot(&tolerance, "quarantine");
        read_table(&mut tolerance, names.as_deref(), scope, faults)
    });
    let detectors = found
        .iter()
        .filter_map(|found| found.detector.clone().map(|detector| (found.name.clone(), detector)));
    (Tolerance { detectors: detectors.collect(), ..tolerance }, places)
}

fn read_table(
    table: &mut Table<'_>,
    names: Option<&[&str]>,
    scope: Scope,
    faults: &mut Faults<'_>,
) -> Option<Tolerance> {
    let default = Tolerance::default();
    let mode =
        table.read("mode", default.mode, faults, |node, faults| choice(node, &MODES, faults));
    let interval = table.read("interval", default.interval, faults, |node, faults| {
        duration(node, SECOND..=Duration::from_hours(1), faults)
    });
    let replace = read_replace(table, scope, faults);
    let remedies = table.read("remedies", Vec::new(), faults, |node, faults| {
        read_remedies(node, names, scope, faults)
    });
    let evidence = table.read("evidence", EvidencePolicy::default(), faults, |node, faults| {
        evidence::read(node, scope, faults)
    });
    let quarantine = table.read("quarantine", None, faults, |node, faults| {
        if is_off(node) { Some(None) } else { read_quarantine(node, faults).map(Some) }
    });
    let answers = table.read("answers", default.answers, faults, answers::read);
    table.finish(faults);
    let keys = ["mode", "interval", "remedies", "evidence", "quarantine", "answers"];
    let replace_keys = ["successor", "settle", "drain", "warm_up", "warm_up_timeout", "group_max"];
    (table.sound(&keys) && table.sound(&replace_keys)).then_some(Tolerance {
        mode,
        interval,
        detectors: default.detectors,
        replace,
        remedies,
        evidence,
        quarantine,
        answers,
    })
}

fn read_replace(table: &mut Table<'_>, scope: Scope, faults: &mut Faults<'_>) -> ReplacePolicy {
    let default = ReplacePolicy::default();
    let time =
        |node: Node<'_>, faults: &mut Faults<'_>| duration(node, Duration::ZERO..=DAY, faults);
    ReplacePolicy {
        successor: table.read("successor", default.successor, faults, |node, faults| {
            choice(node, &SUCCESSORS, faults)
        }),
        settle: table.read("settle", default.settle, faults, time),
        drain: table.read("drain", default.drain, faults, time),
        warm_up: table.read("warm_up", default.warm_up, faults, |node, faults| {
            let example = "`warm_up = [{ http = \"http://127.0.0.1:{port}/\" }]`";
            let questions = list(node, "a list of questions", example, faults, |item, faults| {
                probe::warm_up(item, scope, faults)
            })?;
            few(node, questions, WARM_UP_MAX, faults)
        }),
        warm_up_timeout: table.read(
            "warm_up_timeout",
            default.warm_up_timeout,
            faults,
            |node, faults| duration(node, Duration::from_millis(10)..=DAY, faults),
        ),
        group_max: table.read("group_max", default.group_max, faults, |node, faults| {
            integer(node, 1..=super::INSTANCES_MAX, faults)
        }),
    }
}

/// A list of at most so many.
fn few<T>(node: Node<'_>, items: Vec<T>, max: usize, faults: &mut Faults<'_>) -> Option<Vec<T>> {
    if items.len() <= max {
        return Some(items);
    }
    let count = items.len();
    faults.push(
        Fault::error("out-of-range", format!("`{}` has {count} items", node.name))
            .at(node.spot, format!("the limit is {max}"))
            .help("remove some, or join them into one command"),
    );
    None
}

fn read_quarantine(node: Node<'_>, faults: &mut Faults<'_>) -> Option<QuarantinePolicy> {
    let example = "`quarantine = { keep = \"1h\", max = 1 }` or `quarantine = \"off\"`";
    let mut quarantine = table(node, "`quarantine`", example, faults)?;
    let keep = quarantine.read("keep", Duration::from_hours(1), faults, |node, faults| {
        duration(node, SECOND..=30 * DAY, faults)
    });
    let max =
        quarantine.read("max", 1, faults, |node, faults| integer(node, 1..=QUARANTINE_MAX, faults));
    quarantine.finish(faults);
    quarantine.sound(&["keep", "max"]).then_some(QuarantinePolicy { keep, max })
}

fn read_remedies(
    node: Node<'_>,
    names: Option<&[&str]>,
    scope: Scope,
    faults: &mut Faults<'_>,
) -> Option<Vec<Remedy>> {
    let remedies = list(node, "a list of tables", REMEDY_EXAMPLE, faults, |item, faults| {
        read_remedy(item, names, scope, faults)
    })?;
    few(node, remedies, REMEDIES_MAX, faults)
}

fn read_remedy(
    node: Node<'_>,
    names: Option<&[&str]>,
    scope: Scope,
    faults: &mut Faults<'_>,
) -> Option<Remedy> {
    let mut remedy = table(node, "a remedy", REMEDY_EXAMPLE, faults)?;
    let name = remedy.read_option("name", faults, |node, faults| {
        nonempty(node, faults)?;
        line(node, faults).map(str::to_owned)
    });
    let wait = remedy.read("wait", 10 * SECOND, faults, |node, faults| {
        duration(node, Duration::ZERO..=DAY, faults)
    });
    let detectors = remedy.read("detectors", BTreeSet::new(), faults, |node, faults| {
        let example = "`detectors = [\"memory\"]`";
        list(node, "a list of detectors", example, faults, |item, faults| {
            detector_name(item, names, faults)
        })
        .map(BTreeSet::from_iter)
    });
    let action = stop::action_keys(&mut remedy, scope, faults);
    remedy.finish(faults);
    let action = action.filter(|_| remedy.sound(&["name", "wait", "detectors"]))?;
    let name = name.unwrap_or_else(|| match &action {
        StopAction::Signal(signal) => format!("signal {}", crate::signal::name_of(*signal)),
        StopAction::Command(argv) => argv.join(" ").chars().take(80).collect(),
    });
    Some(Remedy { name, detectors, action, wait })
}

fn detector_name(
    node: Node<'_>,
    names: Option<&[&str]>,
    faults: &mut Faults<'_>,
) -> Option<String> {
    let name = text(node, faults)?;
    let Some(names) = names.filter(|names| !names.contains(&name)) else {
        return Some(name.to_owned());
    };
    let help = did_you_mean(name, names.iter().copied()).unwrap_or_else(|| match names {
        [] => format!("add `[service.NAME.detect.{name}]`, or remove it here"),
        names => format!("known: {}", names.join(", ")),
    });
    faults.push(
        Fault::error(
            "unknown-detector",
            format!("there is no detector {}", crate::diagnostic::quoted(name)),
        )
        .at(node.spot, "not a detector of this service")
        .help(help),
    );
    None
}
