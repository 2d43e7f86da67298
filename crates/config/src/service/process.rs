//! What is executed, and as whom: the keys that make a [`ProcessSpec`].
//!
//! Source: the manual pages of setrlimit(2), ioprio_set(2), proc(5), useradd(8).

use super::command::{self, Through};
use super::{Scope, limits, socket};
use crate::diagnostic::{Fault, Faults, quoted};
use crate::source::Spot;
use crate::table::{Node, Table, entries_of};
use crate::template;
use crate::value::{
    boolean, check_absolute, check_text, integer, list, nonempty, octal, unknown_value, wrong_type,
};
use std::collections::BTreeMap;
use std::path::PathBuf;
use supervisor::{CgroupLimits, IoPriority, ProcessSpec, SocketAddress};

/// The longest user or group name (useradd(8)).
const ACCOUNT_BYTES_MAX: usize = 32;

/// Variables that holdfast sets itself, by the protocols of sd_notify(3) and sd_listen_fds(3).
const RESERVED_VARIABLES: [&str; 6] = [
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// An address that a service listens on.
#[derive(Clone, Debug)]
pub(crate) enum Binding {
    /// A socket that holdfast opens; `count` of them, with ports counting up.
    Socket { address: SocketAddress, count: u16, spot: Spot },
    /// The ports of the `port` key, which the service opens itself.
    Ports { first: u16, count: u16, spot: Spot },
}

impl Binding {
    /// A successor beside each run takes ports of its own; sockets are passed on.
    pub(crate) fn double(&mut self) {
        if let Self::Ports { count, .. } = self {
            *count = count.saturating_mul(2);
        }
    }
}

/// Reads the process of a service, and what it listens on.
pub(crate) fn read(
    table: &mut Table<'_>,
    scope: Scope,
    port: Option<u16>,
    instances: u16,
    faults: &mut Faults<'_>,
) -> (ProcessSpec, Vec<Binding>) {
    let path = |node: Node<'_>, faults: &mut Faults<'_>| template_path(node, scope, faults);
    let process = ProcessSpec {
        argv: read_argv(table, scope, faults),
        env: table.read("env", BTreeMap::new(), faults, |node, faults| env(node, scope, faults)),
        env_files: table
            .read("env_file", Vec::new(), faults, |node, faults| env_files(node, scope, faults)),
        user: table.read_option("user", faults, account),
        group: table.read_option("group", faults, account),
        supplementary_groups: table.read_option("supplementary_groups", faults, |node, faults| {
            let example = "`supplementary_groups = [\"adm\", \"ssl-cert\"]`";
            list(node, "a list of groups", example, faults, account)
        }),
        directory: table.read("directory", PathBuf::from("/"), faults, path),
        umask: table.read("umask", 0o022, faults, octal),
        nice: table.read("nice", 0, faults, |node, faults| integer(node, -20..=19, faults)),
        io_priority: table.read_option("io_priority", faults, io_priority),
        oom_score_adjust: table.read("oom_score_adjust", 0, faults, |node, faults| {
            integer(node, -1000..=1000, faults)
        }),
        rlimits: table.read("rlimits", BTreeMap::new(), faults, limits::rlimits),
        limits: table.read("limits", CgroupLimits::default(), faults, limits::limits),
        sockets: Vec::new(),
        port,
        no_new_privileges: table.read("no_new_privileges", false, faults, boolean),
    };
    let mut sockets = Vec::new();
    table.read("sockets", (), faults, |node, faults| socket::read(node, &mut sockets, faults));
    let mut bindings: Vec<Binding> = port
        .map(|first| Binding::Ports { first, count: instances, spot: table.value_spot("port") })
        .into_iter()
        .collect();
    bindings.extend(sockets.iter().map(|(socket, spot)| Binding::Socket {
        address: socket.address.clone(),
        count: if socket.shared { 1 } else { instances },
        spot: *spot,
    }));
    let sockets = sockets.into_iter().map(|(socket, _)| socket).collect();
    (ProcessSpec { sockets, ..process }, bindings)
}

fn read_argv(table: &mut Table<'_>, scope: Scope, faults: &mut Faults<'_>) -> Vec<String> {
    let shell = table.read("shell", false, faults, boolean);
    let through = if shell { Through::Shell } else { Through::Words };
    let argv = table
        .read_option("command", faults, |node, faults| command::read(node, through, scope, faults));
    argv.unwrap_or_else(|| {
        if table.sound(&["command"]) && !table.is_partial {
            faults.push(
                Fault::error("missing-key", format!("{} has no `command`", table.title))
                    .at(table.spot, "what should be run?")
                    .help("add `command = [\"/usr/bin/program\", \"argument\"]`"),
            );
        }
        Vec::new()
    })
}

/// An absolute path that may hold templates.
pub(crate) fn template_path(
    node: Node<'_>,
    scope: Scope,
    faults: &mut Faults<'_>,
) -> Option<PathBuf> {
    let text = nonempty(node, faults)?;
    template::check(text, node.spot, scope, faults);
    check_absolute(node.name, text, node.spot, faults)
}

fn env(node: Node<'_>, scope: Scope, faults: &mut Faults<'_>) -> Option<BTreeMap<String, String>> {
    let Some(table) = node.value.as_table() else {
        wrong_type(node, "a table", "`env = { LANG = \"C.UTF-8\" }`", faults);
        return None;
    };
    let mut env = BTreeMap::new();
    let mut whole = true;
    for (name, entry) in entries_of(node.spot.file, table) {
        whole &= check_variable(name, entry.key, faults);
        let Some(value) = entry.node.value.as_str() else {
            let bare = entry.node.value.as_integer().map(toml::de::DeInteger::as_str);
            let bare =
                bare.or(entry.node.value.as_bool().map(|b| if b { "true" } else { "false" }));
            let example = format!("`{name} = \"{}\"`", bare.unwrap_or("…"));
            wrong_type(entry.node, "a text", &example, faults);
            whole = false;
            continue;
        };
        whole &= check_text(name, value, entry.node.spot, faults).is_some();
        template::check(value, entry.node.spot, scope, faults);
        env.insert(name.to_owned(), value.to_owned());
    }
    whole.then_some(env)
}

fn check_variable(name: &str, spot: Spot, faults: &mut Faults<'_>) -> bool {
    if name.is_empty() || name.contains(['=', '\0']) {
        faults.push(
            Fault::error("bad-variable", format!("{} can't be a variable", quoted(name)))
                .at(spot, "empty, or with `=` or NUL in it")
                .help("write `env = { NAME = \"value\" }`"),
        );
        return false;
    }
    if RESERVED_VARIABLES.contains(&name) {
        faults.push(
            Fault::warning("reserved-variable", format!("`{name}` is set by holdfast itself"))
                .at(spot, "will be overwritten or removed")
                .help("remove it; use `ready = \"notify\"`, `watchdog` or `sockets`"),
        );
    }
    true
}

fn env_files(
    node: Node<'_>,
    scope: Scope,
    faults: &mut Faults<'_>,
) -> Option<Vec<(PathBuf, bool)>> {
    let example = "`env_file = [\"/etc/default/web\", \"-/etc/default/optional\"]`";
    list(node, "a list of files", example, faults, |item, faults| {
        let text = nonempty(item, faults)?;
        template::check(text, item.spot, scope, faults);
        let (path, may_be_missing) = match text.strip_prefix('-') {
            Some(path) => (path, true),
            None => (text, false),
        };
        check_absolute("env_file", path, item.spot, faults).map(|path| (path, may_be_missing))
    })
}

/// A user or group: a name as useradd(8) allows it, or a number.
pub(crate) fn is_account(text: &str) -> bool {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // The highest number means "no change" to chown(2) and setresuid(2).
        return text.parse::<u32>().is_ok_and(|id| id < u32::MAX);
    }
    let first = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let rest = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
    first && text.chars().all(rest) && text.len() <= ACCOUNT_BYTES_MAX
}

/// A user or group, by name or number.
pub(crate) fn account(node: Node<'_>, faults: &mut Faults<'_>) -> Option<String> {
    if let Some(number) = node.value.as_integer().and_then(crate::value::number) {
        let example = format!("`\"{number}\"`, in quotes");
        wrong_type(node, "a name or a number as a text", &example, faults);
        return None;
    }
    let text = nonempty(node, faults)?;
    if is_account(text) {
        return Some(text.to_owned());
    }
    faults.push(
        Fault::error("bad-account", format!("{} can't be a user or group", quoted(text)))
            .at(node.spot, "neither an account name nor a number")
            .help("use a name such as \"www-data\", or a number such as \"1000\""),
    );
    None
}

fn io_priority(node: Node<'_>, faults: &mut Faults<'_>) -> Option<IoPriority> {
    let text = nonempty(node, faults)?;
    let (class, level) = match text.split_once(':') {
        Some((class, level)) => (class, level.parse::<u8>().ok().filter(|level| *level <= 7)),
        None => (text, Some(4)),
    };
    match (class, level) {
        ("idle", Some(_)) if !text.contains(':') => Some(IoPriority::Idle),
        ("best-effort", Some(level)) => Some(IoPriority::BestEffort(level)),
        ("realtime", Some(level)) => Some(IoPriority::Realtime(level)),
        ("best-effort" | "realtime", None) => {
            faults.push(
                Fault::error("out-of-range", format!("{} has no such level", quoted(text)))
                    .at(node.spot, "the level is not within 0 to 7")
                    .help("0 comes first, 7 last, 4 is usual: \"best-effort:4\""),
            );
            None
        }
        _ => {
            let known = ["idle", "best-effort:4", "realtime:4"];
            unknown_value(node, text, known.into_iter(), faults);
            None
        }
    }
}
