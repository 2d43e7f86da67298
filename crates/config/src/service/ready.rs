//! `ready`: when a service counts as ready.

use super::command::{self, Through};
use super::probe::{host_port, http_url, status};
use super::process::template_path;
use super::{DAY, Scope};
use crate::diagnostic::{Fault, Faults};
use crate::table::{Node, Table};
use crate::value::{duration, table, unknown_value, wrong_type};
use std::time::Duration;
use supervisor::{Probe, Readiness};

const EXAMPLE: &str = "`ready = \"notify\"` or `ready = { tcp = \"127.0.0.1:{port}\" }`";
const MILLISECOND: Duration = Duration::from_millis(1);
const INTERVAL_DEFAULT: Duration = Duration::from_millis(100);
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);

/// Reads `ready`.
pub(crate) fn read(table: &mut Table<'_>, scope: Scope, faults: &mut Faults<'_>) -> Readiness {
    table.read("ready", Readiness::Started, faults, |node, faults| match node.value.as_str() {
        Some("started") => Some(Readiness::Started),
        Some("notify") => Some(Readiness::Notify),
        Some(other) => {
            unknown_value(node, other, ["started", "notify"].into_iter(), faults);
            None
        }
        None if node.value.as_table().is_some() => read_table(node, scope, faults),
        None => {
            wrong_type(node, "a text or a table", EXAMPLE, faults);
            None
        }
    })
}

fn read_table(node: Node<'_>, scope: Scope, faults: &mut Faults<'_>) -> Option<Readiness> {
    let mut ready = table(node, "`ready`", EXAMPLE, faults)?;
    let time = |node: Node<'_>, faults: &mut Faults<'_>| duration(node, MILLISECOND..=DAY, faults);
    let tcp = ready.read_option("tcp", faults, |node, faults| host_port(node, scope, faults));
    let url = ready.read_option("http", faults, |node, faults| http_url(node, scope, faults));
    let status = ready.read_option("status", faults, status);
    let command = ready.read_option("command", faults, |node, faults| {
        command::read(node, Through::Words, scope, faults)
    });
    let file = ready.read_option("file", faults, |node, faults| {
        template_path(node, scope, faults).map(|path| path.to_string_lossy().into_owned())
    });
    let delay = ready.read_option("delay", faults, time);
    let interval = ready.read("interval", INTERVAL_DEFAULT, faults, time);
    let timeout = ready.read("timeout", TIMEOUT_DEFAULT, faults, time);
    ready.finish(faults);
    let ways = ["tcp", "http", "command", "file", "delay"];
    check_ways(&ready, &ways, faults)?;
    if !ready.sound(&["tcp", "http", "status", "command", "file", "delay", "interval", "timeout"]) {
        return None;
    }
    let probe = match (tcp, url, command, file) {
        (Some(address), _, _, _) => Probe::Tcp(address),
        (_, Some(url), _, _) => Probe::Http { url, status },
        (_, _, Some(command), _) => Probe::Command(command),
        (_, _, _, Some(file)) => Probe::File(file),
        (None, None, None, None) => return delay.map(Readiness::Delay),
    };
    Some(Readiness::Probe { probe, interval, timeout })
}

/// Exactly one way, and only the keys that belong to it.
fn check_ways(ready: &Table<'_>, ways: &[&str], faults: &mut Faults<'_>) -> Option<()> {
    let given: Vec<&str> = ways.iter().copied().filter(|key| ready.has_own(key)).collect();
    match given[..] {
        [] => {
            faults.push(
                Fault::error("ready-how", "`ready` does not say how to tell")
                    .at(ready.spot, format!("none of {}", ways.join(", ")))
                    .help(format!("write it like {EXAMPLE}")),
            );
            return None;
        }
        [_] => {}
        [first, second, ..] => {
            faults.push(
                Fault::error("ready-how", "`ready` has more than one way to tell")
                    .at(ready.key_spot(second), format!("beside `{first}`"))
                    .also(ready.key_spot(first), "the first way")
                    .help("keep one; a command can combine several"),
            );
            return None;
        }
    }
    let strays = [
        ("status", given[0] == "http", "an `http` probe"),
        ("interval", given[0] != "delay", "a probe"),
        ("timeout", given[0] != "delay", "a probe"),
    ];
    for (key, fits, of) in strays {
        if ready.has_own(key) && !fits {
            faults.push(
                Fault::error("ready-key", format!("`{key}` belongs to {of}"))
                    .at(ready.key_spot(key), format!("has no meaning with `{}`", given[0]))
                    .help("remove it"),
            );
        }
    }
    Some(())
}
