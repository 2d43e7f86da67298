//! `output_events`: which output supervisord's event listeners are told of.
//!
//! Invariant: nothing is asked for that can't be told apart: standard error needs a log of its own.
//! Source: supervisord's manual, "[program:x] Section Settings".

use super::is_off;
use crate::diagnostic::{Fault, Faults};
use crate::table::{Node, Table};
use crate::value::{boolean, size, table};
use base::ByteSize;
use supervisor::{OutputEvents, ServiceSpec};

/// What is kept of one communication at most: it is held in memory.
const CAPTURE_MAX: ByteSize = ByteSize::mib(4);

const EXAMPLE: &str = "`output_events = { stdout = true, stdout_capture = \"1MiB\" }`";

/// Reads `output_events`.
pub(crate) fn read(service: &mut Table<'_>, faults: &mut Faults<'_>) -> OutputEvents {
    service.read("output_events", OutputEvents::default(), faults, |node, faults| {
        if is_off(node) {
            return Some(OutputEvents::default());
        }
        read_table(node, faults)
    })
}

fn read_table(node: Node<'_>, faults: &mut Faults<'_>) -> Option<OutputEvents> {
    let mut keys = table(node, "`output_events`", EXAMPLE, faults)?;
    let capture = |node: Node<'_>, faults: &mut Faults<'_>| match node.value.as_str() {
        Some("off") => Some(ByteSize(0)),
        _ => size(node, ByteSize(0)..=CAPTURE_MAX, faults),
    };
    let events = OutputEvents {
        stdout: keys.read("stdout", false, faults, boolean),
        stderr: keys.read("stderr", false, faults, boolean),
        stdout_capture: keys.read("stdout_capture", ByteSize(0), faults, capture),
        stderr_capture: keys.read("stderr_capture", ByteSize(0), faults, capture),
    };
    keys.finish(faults);
    keys.sound(&["stdout", "stderr", "stdout_capture", "stderr_capture"]).then_some(events)
}

/// Checks it beside the other keys.
pub(super) fn check(spec: &ServiceSpec, table: &Table<'_>, faults: &mut Faults<'_>) {
    if !table.has_own("output_events") || !table.sound(&["output_events", "log"]) {
        return;
    }
    let spot = table.value_spot("output_events");
    let events = spec.output_events;
    if spec.listener.is_some() && events != OutputEvents::default() {
        faults.push(
            Fault::error("listener-contradiction", "listeners are not told of a listener's output")
                .at(spot, "its standard output carries the protocol")
                .help("remove `output_events`"),
        );
    } else if (events.stderr || events.stderr_capture != ByteSize(0)) && !spec.log.split_stderr {
        faults.push(
            Fault::error("output-not-apart", "standard error has no log of its own")
                .at(spot, "output of both can't be told apart")
                .help("add `split_stderr = true` to `log`, or ask for `stdout` alone"),
        );
    }
}
