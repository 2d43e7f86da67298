//! `restart`: what happens when a service ends by itself.

use super::{DAY, SECOND};
use crate::diagnostic::{Fault, Faults, quoted};
use crate::signal::signal;
use crate::table::{Node, Table};
use crate::value::{choice, duration, integer, list, table, wrong_type};
use base::{Backoff, format_duration};
use std::collections::BTreeSet;
use std::time::Duration;
use supervisor::{Kind, RestartPolicy, RestartWhen};

/// Restarts that a budget may allow; more is no budget.
const BUDGET_MAX: u32 = 1_000_000;

const EXAMPLE: &str =
    "`restart = \"on-failure\"` or `restart = { when = \"always\", delay = \"1s\" }`";

const WHEN: [(&str, RestartWhen); 3] = [
    ("always", RestartWhen::Always),
    ("on-failure", RestartWhen::OnFailure),
    ("never", RestartWhen::Never),
];

/// What a service that says nothing gets. A one-shot that succeeded is done.
fn default_policy(kind: &Kind) -> RestartPolicy {
    RestartPolicy {
        when: match kind {
            Kind::Simple | Kind::Forking { .. } => RestartWhen::Always,
            Kind::Oneshot => RestartWhen::OnFailure,
        },
        success_codes: BTreeSet::new(),
        success_signals: BTreeSet::new(),
        backoff: Backoff {
            first: Duration::from_millis(100),
            max: 30 * SECOND,
            jitter_percent: 10,
        },
        healthy_after: 10 * SECOND,
        budget: 5,
        budget_window: 60 * SECOND,
    }
}

/// Reads `restart`.
pub(crate) fn read(table: &mut Table<'_>, kind: &Kind, faults: &mut Faults<'_>) -> RestartPolicy {
    let default = default_policy(kind);
    table.read("restart", default.clone(), faults, |node, faults| {
        if node.value.as_str().is_some() {
            return choice(node, &WHEN, faults).map(|when| RestartPolicy { when, ..default });
        }
        if node.value.as_table().is_none() {
            wrong_type(node, "a text or a table", EXAMPLE, faults);
            return None;
        }
        read_table(node, default, faults)
    })
}

fn read_table(
    node: Node<'_>,
    default: RestartPolicy,
    faults: &mut Faults<'_>,
) -> Option<RestartPolicy> {
    let mut restart = table(node, "`restart`", EXAMPLE, faults)?;
    let pause =
        |node: Node<'_>, faults: &mut Faults<'_>| duration(node, Duration::ZERO..=DAY, faults);
    let Backoff { first, max, jitter_percent } = default.backoff;
    let when =
        restart.read("when", default.when, faults, |node, faults| choice(node, &WHEN, faults));
    let success_codes = restart.read("success_codes", BTreeSet::new(), faults, |node, faults| {
        let codes = list(node, "a list of exit codes", "`success_codes = [3]`", faults, |n, f| {
            integer(n, 0..=255, f)
        });
        codes.map(BTreeSet::from_iter)
    });
    let success_signals =
        restart.read("success_signals", BTreeSet::new(), faults, |node, faults| {
            let example = "`success_signals = [\"TERM\"]`";
            list(node, "a list of signals", example, faults, signal).map(BTreeSet::from_iter)
        });
    let first = restart.read("delay", first, faults, pause);
    // A longer first pause alone lifts the longest one: nobody means "one minute, at most 30 s".
    let max = restart.read("delay_max", max.max(first), faults, pause);
    let jitter_percent = restart.read("jitter", jitter_percent, faults, percentage);
    let healthy_after = restart.read("healthy_after", default.healthy_after, faults, pause);
    let budget = restart.read("budget", default.budget, faults, |node, faults| {
        integer(node, 1..=BUDGET_MAX, faults)
    });
    let budget_window = restart.read("within", default.budget_window, faults, |node, faults| {
        duration(node, SECOND..=7 * DAY, faults)
    });
    restart.finish(faults);
    let backoff = Backoff { first, max, jitter_percent };
    let (success, window) = ((success_codes, success_signals), budget_window);
    let policy = RestartPolicy {
        when,
        success_codes: success.0,
        success_signals: success.1,
        backoff,
        healthy_after,
        budget,
        budget_window: window,
    };
    check_relations(&policy, &restart, faults);
    let keys = ["when", "success_codes", "success_signals", "delay", "delay_max", "jitter"];
    (restart.sound(&keys) && restart.sound(&["healthy_after", "budget", "within"]))
        .then_some(policy)
}

fn check_relations(policy: &RestartPolicy, restart: &Table<'_>, faults: &mut Faults<'_>) {
    let Backoff { first, max, .. } = policy.backoff;
    if max < first && restart.sound(&["delay", "delay_max"]) {
        faults.push(
            Fault::error("delay-over-maximum", "the first pause is longer than the longest one")
                .at(restart.value_spot("delay_max"), "shorter than `delay`")
                .also(restart.value_spot("delay"), format!("`delay` is {}", format_duration(first)))
                .help(format!("set delay_max to {} or more", format_duration(first))),
        );
        return;
    }
    if !restart.sound(&["delay", "delay_max", "budget", "within", "jitter"]) {
        return;
    }
    let fastest = fastest_series(policy);
    if policy.budget_window < fastest && policy.when != RestartWhen::Never {
        let (budget, series) = (policy.budget, format_duration(fastest));
        let window = format_duration(policy.budget_window);
        let key = if restart.has_own("budget") { "budget" } else { "within" };
        faults.push(
            Fault::warning("budget-unreachable", "the restart budget can never be used up")
                .at(
                    restart.value_spot(key),
                    format!("{budget} restarts take {series} by the pauses, longer than {window}"),
                )
                .help("such a service is restarted for ever: lengthen `within` or lower `budget`"),
        );
    }
}

/// How soon the restart that exceeds the budget can come: the first at once, then growing pauses.
fn fastest_series(policy: &RestartPolicy) -> Duration {
    let Backoff { first, max, jitter_percent } = policy.backoff;
    let mut sum = Duration::ZERO;
    let mut pause = first;
    for done in 0..policy.budget {
        if pause == Duration::ZERO || max <= pause {
            sum = sum.saturating_add(pause.min(max).saturating_mul(policy.budget - done));
            break;
        }
        sum = sum.saturating_add(pause);
        pause = pause.saturating_mul(2);
    }
    sum / 100 * 100_u32.saturating_sub(u32::from(jitter_percent))
}

fn percentage(node: Node<'_>, faults: &mut Faults<'_>) -> Option<u8> {
    let Some(written) = node.value.as_str() else {
        wrong_type(node, "a percentage", &format!("`{} = \"10%\"`", node.name), faults);
        return None;
    };
    let percent = written.strip_suffix('%').and_then(|digits| digits.trim().parse().ok());
    let percent = percent.filter(|percent: &u8| *percent <= 100);
    if percent.is_none() {
        faults.push(
            Fault::error("bad-percentage", format!("`{}` can't be {}", node.name, quoted(written)))
                .at(node.spot, "not 0% to 100%")
                .help(format!("write it like `{} = \"10%\"`", node.name)),
        );
    }
    percent
}
