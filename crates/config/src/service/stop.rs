//! `stop` (the ladder) and `reload`: ways to tell a service something.

use super::command::{self, Through};
use super::{DAY, SECOND, Scope};
use crate::diagnostic::{Fault, Faults};
use crate::signal::{signal, signal_of};
use crate::table::{Node, Table};
use crate::value::{duration, duration_of, list, table, text, wrong_type};
use std::time::Duration;
use supervisor::{StopAction, StopStep};

/// Rungs of one stop ladder.
const STEPS_MAX: usize = 20;

const SIGTERM: i32 = 15;
const WAIT_DEFAULT: Duration = Duration::from_secs(10);
const STOP_EXAMPLE: &str = "`stop = [\"INT 5s\", \"TERM 10s\"]`";
const ACTION_EXAMPLE: &str =
    "`reload = \"HUP\"` or `reload = { command = [\"nginx\", \"-s\", \"reload\"] }`";

/// Reads `stop`.
pub(crate) fn read_stop(
    table: &mut Table<'_>,
    scope: Scope,
    faults: &mut Faults<'_>,
) -> Vec<StopStep> {
    let default = vec![StopStep { action: StopAction::Signal(SIGTERM), wait: WAIT_DEFAULT }];
    table.read("stop", default, faults, |node, faults| {
        let steps = list(node, "a list of steps", STOP_EXAMPLE, faults, |item, faults| {
            step(item, scope, faults)
        })?;
        if (1..=STEPS_MAX).contains(&steps.len()) {
            return Some(steps);
        }
        faults.push(
            Fault::error("out-of-range", format!("`stop` can't have {} steps", steps.len()))
                .at(node.spot, format!("not within 1 to {STEPS_MAX}"))
                .help("for an immediate end write `stop = [\"KILL 1s\"]`"),
        );
        None
    })
}

fn step(item: Node<'_>, scope: Scope, faults: &mut Faults<'_>) -> Option<StopStep> {
    if item.value.as_str().is_some() {
        return step_text(item, faults);
    }
    let mut step = table(item, "a step of `stop`", STOP_EXAMPLE, faults)?;
    let wait = step.read("wait", WAIT_DEFAULT, faults, |node, faults| {
        duration(node, Duration::ZERO..=DAY, faults)
    });
    let action = action_keys(&mut step, scope, faults);
    step.finish(faults);
    let action = action?;
    step.sound(&["wait"]).then_some(StopStep { action, wait })
}

/// `TERM 10s`, or `TERM` alone.
fn step_text(item: Node<'_>, faults: &mut Faults<'_>) -> Option<StopStep> {
    let text = text(item, faults)?;
    let mut words = text.split_whitespace();
    let (name, wait, rest) = (words.next(), words.next(), words.next());
    let (Some(name), None) = (name, rest) else {
        faults.push(
            Fault::error("bad-stop", "a step of `stop` is a signal and a time")
                .at(item.spot, "not like \"TERM 10s\"")
                .help(format!(
                    "write {STOP_EXAMPLE}; a command is `{{ command = [\"…\"], wait = \"10s\" }}`"
                )),
        );
        return None;
    };
    let signal = signal_of(name, faults.sources.within(item.spot, name), faults);
    let wait = match wait {
        None => Some(WAIT_DEFAULT),
        Some(wait) => {
            let spot = faults.sources.within(item.spot, wait);
            duration_of("stop", wait, spot, Duration::ZERO..=DAY, faults)
        }
    };
    Some(StopStep { action: StopAction::Signal(signal?), wait: wait? })
}

/// Reads `reload`: a signal's name, or a table with `signal` or `command`.
pub(crate) fn read_action(
    node: Node<'_>,
    scope: Scope,
    faults: &mut Faults<'_>,
) -> Option<StopAction> {
    if node.value.as_str().is_some() {
        return signal(node, faults).map(StopAction::Signal);
    }
    if node.value.as_table().is_none() {
        wrong_type(node, "a signal or a table", ACTION_EXAMPLE, faults);
        return None;
    }
    let mut action = table(node, format!("`{}`", node.name), ACTION_EXAMPLE, faults)?;
    let found = action_keys(&mut action, scope, faults);
    action.finish(faults);
    found
}

/// What the keys `signal` and `command` of a table say.
pub(crate) fn action_keys(
    table: &mut Table<'_>,
    scope: Scope,
    faults: &mut Faults<'_>,
) -> Option<StopAction> {
    let by_signal = table.read_option("signal", faults, signal);
    let by_command = table.read_option("command", faults, |node, faults| {
        command::read(node, Through::Words, scope, faults)
    });
    match (table.has_own("signal"), table.has_own("command")) {
        (true, false) => by_signal.map(StopAction::Signal),
        (false, true) => by_command.map(StopAction::Command),
        (true, true) => {
            faults.push(
                Fault::error("signal-or-command", "either a signal or a command, not both")
                    .at(table.key_spot("command"), "beside `signal`")
                    .also(table.key_spot("signal"), "the signal")
                    .help("make them two steps, or keep one"),
            );
            None
        }
        (false, false) => {
            faults.push(
                Fault::error("signal-or-command", "neither a signal nor a command")
                    .at(table.spot, "needs `signal` or `command`")
                    .help("write `{ signal = \"TERM\" }` or `{ command = [\"…\"] }`"),
            );
            None
        }
    }
}

/// The longest that a whole ladder can take.
pub(crate) fn ladder_time(steps: &[StopStep]) -> Duration {
    steps.iter().fold(Duration::ZERO, |sum, step| sum.saturating_add(step.wait))
}

const _: () = assert!(SECOND.as_millis() < WAIT_DEFAULT.as_millis());
