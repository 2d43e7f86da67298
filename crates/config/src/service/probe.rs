//! Questions to something that runs: their addresses, and the tables that ask one.
//!
//! Invariant: a question has exactly one way to ask, and no keys of another.

use super::Scope;
use super::command::{self, Through};
use super::process::template_path;
use crate::diagnostic::{Fault, Faults, quoted};
use crate::table::{Node, Table};
use crate::template;
use crate::value::{integer, nonempty, table};
use supervisor::Probe;

const WARM_UP_EXAMPLE: &str = "`warm_up = [{ http = \"http://127.0.0.1:{port}/\" }]`";

/// A question of `warm_up`.
pub(crate) fn warm_up(node: Node<'_>, scope: Scope, faults: &mut Faults<'_>) -> Option<Probe> {
    let mut asked = table(node, "a question of `warm_up`", WARM_UP_EXAMPLE, faults)?;
    let tcp = asked.read_option("tcp", faults, |node, faults| host_port(node, scope, faults));
    let url = asked.read_option("http", faults, |node, faults| http_url(node, scope, faults));
    let status = asked.read_option("status", faults, status);
    let command = asked.read_option("command", faults, |node, faults| {
        command::read(node, Through::Words, scope, faults)
    });
    let file = asked.read_option("file", faults, |node, faults| {
        template_path(node, scope, faults).map(|path| path.to_string_lossy().into_owned())
    });
    asked.finish(faults);
    let way = one_of(&asked, &["tcp", "http", "command", "file"], WARM_UP_EXAMPLE, faults)?;
    stray(&asked, "status", way == "http", way, faults);
    if !asked.sound(&["tcp", "http", "status", "command", "file"]) {
        return None;
    }
    tcp.map(Probe::Tcp)
        .or_else(|| url.map(|url| Probe::Http { url, status }))
        .or_else(|| command.map(Probe::Command))
        .or_else(|| file.map(Probe::File))
}

/// Exactly one of several keys has to be there: which one it is.
pub(crate) fn one_of<'k>(
    table: &Table<'_>,
    keys: &[&'k str],
    example: &str,
    faults: &mut Faults<'_>,
) -> Option<&'k str> {
    let given: Vec<&str> = keys.iter().copied().filter(|key| table.has_own(key)).collect();
    let fault = match given[..] {
        [only] => return Some(only),
        [] => Fault::error("one-of", format!("{} needs one of {}", table.title, listed(keys)))
            .at(table.spot, "has none of them")
            .help(format!("write it like {example}")),
        [first, second, ..] => {
            Fault::error("one-of", format!("{} can have only one of {}", table.title, listed(keys)))
                .at(table.key_spot(second), format!("beside `{first}`"))
                .also(table.key_spot(first), "the first one")
                .help("keep one of them")
        }
    };
    faults.push(fault);
    None
}

/// Reports a key that has no meaning beside the way that was chosen.
pub(crate) fn stray(table: &Table<'_>, key: &str, fits: bool, way: &str, faults: &mut Faults<'_>) {
    if table.has_own(key) && !fits {
        faults.push(
            Fault::error("stray-key", format!("`{key}` has no meaning with `{way}`"))
                .at(table.key_spot(key), format!("does not belong to `{way}`"))
                .help("remove it"),
        );
    }
}

fn listed(keys: &[&str]) -> String {
    keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}

/// The one right status of an answer.
pub(crate) fn status(node: Node<'_>, faults: &mut Faults<'_>) -> Option<u16> {
    integer(node, 100..=599, faults)
}

/// `host:port`, with templates.
pub(crate) fn host_port(node: Node<'_>, scope: Scope, faults: &mut Faults<'_>) -> Option<String> {
    let text = nonempty(node, faults)?;
    template::check(text, node.spot, scope, faults);
    if is_host_port(text) {
        return Some(text.to_owned());
    }
    faults.push(
        Fault::error("bad-address", format!("{} is no address and port", quoted(text)))
            .at(node.spot, "not `host:port`")
            .help("write it like \"127.0.0.1:{port}\" or \"localhost:8080\""),
    );
    None
}

/// `host:port`, where the port is a number or has a template.
fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let number = port.parse::<u16>().is_ok_and(|port| port != 0);
    let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    let host_ok = !host.is_empty() && !bare_v6 && !host.contains(['/', ' ', '@']);
    host_ok && (number || port.contains("{port}") || port.contains("{index}"))
}

/// An `http://` URL, with templates.
pub(crate) fn http_url(node: Node<'_>, scope: Scope, faults: &mut Faults<'_>) -> Option<String> {
    let text = nonempty(node, faults)?;
    template::check(text, node.spot, scope, faults);
    let authority = text.strip_prefix("http://").map(|rest| rest.split(['/', '?']).next());
    let good = authority.flatten().is_some_and(|authority| {
        let host_only = || !authority.contains(':') && !authority.is_empty();
        let plain = !authority.contains('@') && !text.contains(char::is_whitespace);
        plain && (host_only() || is_host_port(authority))
    });
    if good {
        return Some(text.to_owned());
    }
    let help = match text.strip_prefix("https://") {
        Some(rest) => {
            format!("TLS is not probed: use \"http://{rest}\", a `tcp` probe or a command")
        }
        None => "write it like \"http://127.0.0.1:{port}/health\"".to_owned(),
    };
    faults.push(
        Fault::error("bad-url", format!("{} can't be probed", quoted(text)))
            .at(node.spot, "no `http://` URL with host and port")
            .help(help),
    );
    None
}
