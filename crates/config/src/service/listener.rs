//! `event_listener`: the service speaks supervisord's event-listener protocol.
//!
//! Source: supervisord's manual, "Events".

use super::is_off;
use crate::diagnostic::{Fault, Faults, quoted};
use crate::suggest::did_you_mean;
use crate::table::{Node, Table};
use crate::value::{integer, list, table, text};
use std::collections::BTreeSet;
use supervisor::ListenerSpec;

/// Events that wait for a listener unless told otherwise, as in supervisord.
const BUFFER_DEFAULT: u32 = 10;

/// More is no buffer: whoever is so far behind never catches up.
const BUFFER_MAX: u32 = 100_000;

const EXAMPLE: &str = "`event_listener = { events = [\"PROCESS_STATE\", \"TICK_60\"] }`";

/// Every event of supervisord, the general ones among them.
pub(crate) const EVENTS: [&str; 27] = [
    "EVENT",
    "PROCESS_STATE",
    "PROCESS_STATE_STOPPED",
    "PROCESS_STATE_EXITED",
    "PROCESS_STATE_STARTING",
    "PROCESS_STATE_STOPPING",
    "PROCESS_STATE_BACKOFF",
    "PROCESS_STATE_FATAL",
    "PROCESS_STATE_RUNNING",
    "PROCESS_STATE_UNKNOWN",
    "PROCESS_COMMUNICATION",
    "PROCESS_COMMUNICATION_STDOUT",
    "PROCESS_COMMUNICATION_STDERR",
    "PROCESS_LOG",
    "PROCESS_LOG_STDOUT",
    "PROCESS_LOG_STDERR",
    "PROCESS_GROUP",
    "PROCESS_GROUP_ADDED",
    "PROCESS_GROUP_REMOVED",
    "REMOTE_COMMUNICATION",
    "SUPERVISOR_STATE_CHANGE",
    "SUPERVISOR_STATE_CHANGE_RUNNING",
    "SUPERVISOR_STATE_CHANGE_STOPPING",
    "TICK",
    "TICK_5",
    "TICK_60",
    "TICK_3600",
];

/// Reads `event_listener`.
pub(crate) fn read(service: &mut Table<'_>, faults: &mut Faults<'_>) -> Option<ListenerSpec> {
    service.read("event_listener", None, faults, |node, faults| {
        if is_off(node) {
            return Some(None);
        }
        read_table(node, faults).map(Some)
    })
}

fn read_table(node: Node<'_>, faults: &mut Faults<'_>) -> Option<ListenerSpec> {
    let mut listener = table(node, "`event_listener`", EXAMPLE, faults)?;
    let events = listener.read_option("events", faults, |node, faults| {
        let example = "`events = [\"PROCESS_STATE\", \"TICK_60\"]`";
        list(node, "a list of events", example, faults, event).map(BTreeSet::from_iter)
    });
    let buffer = listener.read("buffer", BUFFER_DEFAULT, faults, |node, faults| {
        integer(node, 1..=BUFFER_MAX, faults)
    });
    listener.finish(faults);
    if !listener.sound(&["events", "buffer"]) {
        return None;
    }
    let events = events.unwrap_or_default();
    if events.is_empty() {
        let spot = listener.key_spot("events");
        faults.push(
            Fault::error("missing-key", "`event_listener` names no `events`")
                .at(spot, "which events does it want?")
                .help(format!("write it like {EXAMPLE}")),
        );
        return None;
    }
    Some(ListenerSpec { events, buffer })
}

fn event(node: Node<'_>, faults: &mut Faults<'_>) -> Option<String> {
    let name = text(node, faults)?;
    if EVENTS.contains(&name) {
        return Some(name.to_owned());
    }
    let help = did_you_mean(name, EVENTS)
        .unwrap_or_else(|| format!("supervisord has: {}", EVENTS.join(", ")));
    faults.push(
        Fault::error("unknown-event", format!("{} is no event of supervisord", quoted(name)))
            .at(node.spot, "unknown event")
            .help(help),
    );
    None
}
