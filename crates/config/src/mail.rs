//! `[mail]`: who is told, and by which server.
//!
//! Invariants: a password never goes over the network in clear text; the file that holds it is
//! named here and opened by whoever sends, which also looks at its mode.
//! Source: RFC 5321, RFC 3207, RFC 8314.

use crate::diagnostic::{Fault, Faults, quoted};
use crate::settings::{MailSecurity, MailSettings};
use crate::table::{Node, Table};
use crate::value::{absolute_path, choice, duration, integer, line, list, nonempty};
use std::net::IpAddr;
use std::time::Duration;
use supervisor::Severity;

/// Whom. More is a mailing list, which the mail server can have.
const TO_MAX: usize = 100;

/// RFC 5321, 4.5.3.1.3: a path has at most 256 characters, brackets included.
const ADDRESS_BYTES_MAX: usize = 254;

const QUEUE_MAX: u32 = 1_000_000;

const TO_EXAMPLE: &str = "`to = [\"ops@example.org\"]`";
const SERVER_EXAMPLE: &str = "`server = \"mail.example.org:587\"`";

const SECURITY: [(&str, MailSecurity); 3] = [
    ("none", MailSecurity::None),
    ("starttls", MailSecurity::StartTls),
    ("tls", MailSecurity::Tls),
];

const SEVERITY: [(&str, Severity); 3] =
    [("info", Severity::Info), ("warning", Severity::Warning), ("error", Severity::Error)];

/// Reads `[mail]`; `node` is this node's name.
pub(crate) fn read(
    table: &mut Table<'_>,
    node: &str,
    faults: &mut Faults<'_>,
) -> Option<MailSettings> {
    let to = table.read_option("to", faults, recipients);
    let from = table.read("from", format!("holdfast@{node}"), faults, address);
    let server = table.read_option("server", faults, server);
    let host = table.read_option("host", faults, host);
    let own_port =
        table.read_option("port", faults, |node, faults| integer(node, 1..=u16::MAX, faults));
    let own_security =
        table.read_option("security", faults, |node, faults| choice(node, &SECURITY, faults));
    let ca = table.read_option("ca", faults, absolute_path);
    let user = table.read_option("user", faults, |node, faults| {
        nonempty(node, faults)?;
        line(node, faults).map(str::to_owned)
    });
    let password_file = table.read_option("password_file", faults, absolute_path);
    let severity = table
        .read("severity", Severity::Error, faults, |node, faults| choice(node, &SEVERITY, faults));
    let digest = table.read("digest", Duration::from_mins(1), faults, |node, faults| {
        duration(node, Duration::ZERO..=Duration::from_hours(24), faults)
    });
    let queue_max =
        table.read("queue_max", 1_000, faults, |node, faults| integer(node, 1..=QUEUE_MAX, faults));
    table.finish(faults);
    check_needed(table, to.is_some(), faults);
    check_server(table, faults);
    check_login(table, faults);
    let (server_host, server_port) = server.map_or((None, None), |(h, p)| (Some(h), p));
    let host = host.or(server_host);
    let port = own_port.or(server_port);
    let security = own_security.unwrap_or_else(|| default_security(host.as_deref(), port));
    let port = port.unwrap_or(match security {
        MailSecurity::Tls => 465,
        MailSecurity::StartTls => 587,
        MailSecurity::None => 25,
    });
    if let Some(host) = host.as_deref().filter(|_| table.sound(&["security"])) {
        check_security(table, security, host, faults);
    }
    let (to, host) = (to?, host?);
    Some(MailSettings {
        to,
        from,
        host,
        port,
        security,
        ca,
        user,
        password_file,
        severity,
        digest,
        queue_max,
    })
}

fn default_security(host: Option<&str>, port: Option<u16>) -> MailSecurity {
    match port {
        Some(465) => MailSecurity::Tls,
        _ if host.is_some_and(is_loopback) => MailSecurity::None,
        _ => MailSecurity::StartTls,
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn recipients(node: Node<'_>, faults: &mut Faults<'_>) -> Option<Vec<String>> {
    let to = list(node, "a list of mail addresses", TO_EXAMPLE, faults, address)?;
    if (1..=TO_MAX).contains(&to.len()) {
        return Some(to);
    }
    faults.push(
        Fault::error("out-of-range", format!("`to` can't have {} addresses", to.len()))
            .at(node.spot, format!("not within 1 to {TO_MAX}"))
            .help(format!("write {TO_EXAMPLE}; remove [mail] to send none")),
    );
    None
}

fn address(node: Node<'_>, faults: &mut Faults<'_>) -> Option<String> {
    let text = line(node, faults)?;
    let plain = |text: &str| {
        let odd = |c: char| c.is_whitespace() || matches!(c, '<' | '>' | ',' | ';' | '@' | '"');
        !text.is_empty() && !text.contains(odd)
    };
    let good = text.rsplit_once('@').is_some_and(|(local, domain)| plain(local) && plain(domain));
    if good && text.len() <= ADDRESS_BYTES_MAX {
        return Some(text.to_owned());
    }
    faults.push(
        Fault::error("bad-mail-address", format!("{} is no mail address", quoted(text)))
            .at(node.spot, "not `name@domain`")
            .help("write the address alone, like \"ops@example.org\""),
    );
    None
}

/// `host:port` or `host`.
fn server(node: Node<'_>, faults: &mut Faults<'_>) -> Option<(String, Option<u16>)> {
    let text = nonempty(node, faults)?;
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (host, port) = match (bracketed, text.rsplit_once(':')) {
        (Some((host, rest)), _) => (host, rest.strip_prefix(':')),
        (None, Some((host, port))) if !host.contains(':') => (host, Some(port)),
        (None, _) => (text, None),
    };
    let number = port.map(|port| port.parse::<u16>().ok().filter(|port| *port != 0));
    match number {
        Some(None) => {}
        _ if is_host(host) => return Some((host.to_owned(), number.flatten())),
        _ => {}
    }
    faults.push(
        Fault::error("bad-address", format!("{} is no mail server", quoted(text)))
            .at(node.spot, "not `host:port`")
            .help(format!("write it like {SERVER_EXAMPLE}")),
    );
    None
}

fn host(node: Node<'_>, faults: &mut Faults<'_>) -> Option<String> {
    let text = nonempty(node, faults)?;
    if is_host(text) {
        return Some(text.to_owned());
    }
    faults.push(
        Fault::error("bad-address", format!("{} is no host", quoted(text)))
            .at(node.spot, "neither a name nor an IP address")
            .help("write it like `host = \"mail.example.org\"`, and the port as `port = 587`"),
    );
    None
}

fn is_host(text: &str) -> bool {
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_name = !text.is_empty() && text.len() <= 253 && text.chars().all(name);
    is_name || text.parse::<IpAddr>().is_ok()
}

fn check_needed(table: &Table<'_>, has_to: bool, faults: &mut Faults<'_>) {
    if !has_to && table.sound(&["to"]) {
        faults.push(
            Fault::error("missing-key", "[mail] has no `to`")
                .at(table.spot, "who should be told?")
                .help(format!("add {TO_EXAMPLE}, or remove the section")),
        );
    }
    if !table.has_own("server") && !table.has_own("host") {
        faults.push(
            Fault::error("missing-key", "[mail] has no `server`")
                .at(table.spot, "which server takes the mail?")
                .help(format!("add {SERVER_EXAMPLE}")),
        );
    }
}

fn check_server(table: &Table<'_>, faults: &mut Faults<'_>) {
    for key in ["host", "port"] {
        if table.has_own("server") && table.has_own(key) {
            faults.push(
                Fault::error("server-twice", format!("[mail] has `server` and `{key}`"))
                    .at(table.key_spot(key), "said in `server` too")
                    .also(table.key_spot("server"), "the server")
                    .help("keep `server`, or `host` with `port`"),
            );
        }
    }
}

fn check_login(table: &Table<'_>, faults: &mut Faults<'_>) {
    for (there, missing) in [("user", "password_file"), ("password_file", "user")] {
        if table.has_own(there) && !table.has_own(missing) {
            faults.push(
                Fault::error("incomplete-login", format!("[mail] has no `{missing}`"))
                    .at(table.key_spot(there), format!("needs `{missing}` beside it"))
                    .help(format!("add `{missing}`, or remove `{there}`")),
            );
        }
    }
}

/// Clear text is for this machine, or for mail that carries no secret.
fn check_security(table: &Table<'_>, security: MailSecurity, host: &str, faults: &mut Faults<'_>) {
    if security != MailSecurity::None || is_loopback(host) {
        return;
    }
    let spot = table.value_spot("security");
    if table.has_own("user") {
        faults.push(
            Fault::error("tls-required", "the mail password would be sent in clear text")
                .at(spot, "the server is on another machine")
                .help("use `security = \"starttls\"` or `security = \"tls\"`"),
        );
    } else {
        faults.push(
            Fault::warning("mail-in-clear", "mail goes over the network in clear text")
                .at(spot, "the server is on another machine")
                .help("use `security = \"starttls\"` if the server can do it"),
        );
    }
}
