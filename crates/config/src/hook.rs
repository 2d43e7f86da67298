//! `[hook.NAME]`: a command that is told of events, as JSON on its standard input (H27).
//!
//! Invariant: braces in its command mean nothing: it is no service, and has no templates.

use crate::diagnostic::{Fault, Faults, quoted};
use crate::service::{account, split_command};
use crate::settings::HookSettings;
use crate::source::Spot;
use crate::table::{Entry, Node, Table};
use crate::value::{choice, duration, list, nonempty, text};
use base::ServiceName;
use std::collections::BTreeMap;
use std::time::Duration;
use supervisor::Severity;

/// Hooks of one configuration. Each has a thread of its own.
pub(crate) const HOOKS_MAX: usize = 32;

/// Patterns of one hook.
const PATTERNS_MAX: usize = 100;

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

const EVENTS_EXAMPLE: &str = "`events = [\"service.*\"]`";
const COMMAND_EXAMPLE: &str = "`command = [\"/usr/local/bin/tell\", \"ops\"]`";

const SEVERITY: [(&str, Severity); 3] =
    [("info", Severity::Info), ("warning", Severity::Warning), ("error", Severity::Error)];

/// Reads all hooks of all files.
pub(crate) fn read_all<'a>(
    hooks: &[(&'a str, Entry<'a>)],
    faults: &mut Faults<'_>,
) -> BTreeMap<ServiceName, HookSettings> {
    let mut read = BTreeMap::new();
    let mut first: BTreeMap<&str, Spot> = BTreeMap::new();
    if let Some((_, entry)) = hooks.get(HOOKS_MAX) {
        faults.push(
            Fault::error("out-of-range", format!("{} hooks are configured", hooks.len()))
                .at(entry.key, format!("one more than {HOOKS_MAX}"))
                .help("let one command tell several"),
        );
    }
    for (name, entry) in hooks.iter().take(HOOKS_MAX) {
        if let Some(earlier) = first.insert(name, entry.key) {
            faults.push(
                Fault::error("duplicate-hook", format!("hook {} is defined twice", quoted(name)))
                    .at(entry.key, "defined here again")
                    .also(earlier, "the first one")
                    .help("give one of them another name"),
            );
            continue;
        }
        let hook = name_of(name, *entry, faults).zip(read_one(name, *entry, faults));
        read.extend(hook);
    }
    read
}

fn name_of(name: &str, entry: Entry<'_>, faults: &mut Faults<'_>) -> Option<ServiceName> {
    let error: base::NameError = match name.parse() {
        Ok(name) => return Some(name),
        Err(error) => error,
    };
    faults.push(
        Fault::error("bad-name", format!("{} can't be the name of a hook", quoted(name)))
            .at(entry.key, error.to_string())
            .help("choose a name such as `pager` or `chat.ops`"),
    );
    None
}

fn read_one(name: &str, entry: Entry<'_>, faults: &mut Faults<'_>) -> Option<HookSettings> {
    let Some(table) = entry.node.value.as_table() else {
        faults.push(
            Fault::error("wrong-type", format!("{} is no key of [hook]", quoted(name)))
                .at(entry.node.spot, "not a section")
                .help(format!("a hook has a section of its own: `[hook.{name}]`")),
        );
        return None;
    };
    let mut table = Table::new(format!("hook `{name}`"), entry.key, table);
    let command = table.read_option("command", faults, command);
    let events = table.read_option("events", faults, events);
    let severity = table
        .read("severity", Severity::Info, faults, |node, faults| choice(node, &SEVERITY, faults));
    let user = table.read_option("user", faults, account);
    let timeout = table.read("timeout", TIMEOUT_DEFAULT, faults, |node, faults| {
        duration(node, Duration::from_millis(100)..=Duration::from_hours(1), faults)
    });
    table.finish(faults);
    for (key, there, example) in [
        ("command", command.is_some(), COMMAND_EXAMPLE),
        ("events", events.is_some(), EVENTS_EXAMPLE),
    ] {
        if !there && table.sound(&[key]) {
            faults.push(
                Fault::error("missing-key", format!("hook `{name}` has no `{key}`"))
                    .at(table.spot, format!("needs `{key}`"))
                    .help(format!("write it like {example}")),
            );
        }
    }
    Some(HookSettings { argv: command?, events: events?, severity, user, timeout })
}

fn command(node: Node<'_>, faults: &mut Faults<'_>) -> Option<Vec<String>> {
    if let Some(line) = node.value.as_str() {
        return split_command(node, line, faults);
    }
    let argv = list(node, "a command", COMMAND_EXAMPLE, faults, |item, faults| {
        text(item, faults).map(str::to_owned)
    })?;
    if argv.first().is_none_or(String::is_empty) {
        faults.push(
            Fault::error("empty-command", "the command of a hook is empty")
                .at(node.spot, "no program")
                .help(format!("write it like {COMMAND_EXAMPLE}")),
        );
        return None;
    }
    Some(argv)
}

fn events(node: Node<'_>, faults: &mut Faults<'_>) -> Option<Vec<String>> {
    let events = list(node, "a list of events", EVENTS_EXAMPLE, faults, pattern)?;
    if (1..=PATTERNS_MAX).contains(&events.len()) {
        return Some(events);
    }
    faults.push(
        Fault::error("out-of-range", format!("`events` can't have {} patterns", events.len()))
            .at(node.spot, format!("not within 1 to {PATTERNS_MAX}"))
            .help(format!("write {EVENTS_EXAMPLE}; `\"*\"` means all")),
    );
    None
}

/// `service.exited`, `service.*`, `*`.
fn pattern(node: Node<'_>, faults: &mut Faults<'_>) -> Option<String> {
    let pattern = nonempty(node, faults)?;
    let name = pattern.strip_suffix('*').unwrap_or(pattern);
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_');
    if name.chars().all(plain) {
        return Some(pattern.to_owned());
    }
    faults.push(
        Fault::error("bad-event", format!("{} is no name of events", quoted(pattern)))
            .at(node.spot, "not letters, digits, `.` and `_`, with a `*` at the end or none")
            .help("write it like \"service.*\", \"service.exited\" or \"*\"; `holdfast events` shows names"),
    );
    None
}
