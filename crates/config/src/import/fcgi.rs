//! `[fcgi-program:x]`: a program that accepts from a socket which is its standard input.
//!
//! We pass sockets from descriptor 3 on, by `LISTEN_FDS`; a shell puts it where FastCGI has it, and
//! is gone then.
//! Source: supervisord's manual, "[fcgi-program:x]"; the FastCGI specification, 2.2.

use super::keys::{Desk, Keys, Names};
use super::note::NoteKind;
use super::service::table;
use toml::{Table, Value};

/// The command in front of the program's own: standard input becomes the socket.
pub(crate) const WRAPPER: [&str; 4] = ["/bin/sh", "-c", "exec \"$@\" <&3", "sh"];

/// Reads the socket of a FastCGI program, which all its processes share.
pub(crate) fn socket(
    keys: &mut Keys<'_>,
    names: Names<'_>,
    user: Option<&str>,
    desk: &mut Desk<'_>,
) -> Option<Table> {
    let address = keys.text("socket", names, desk);
    let backlog = keys.number("socket_backlog", 0, desk);
    let owner = keys.text("socket_owner", names, desk);
    let mode = keys.take("socket_mode").is_some().then(|| {
        keys.read("socket_mode", 0o700, "mode in octal", desk, |text| {
            u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777)
        })
    });
    let Some(address) = address.as_deref().map(str::trim).filter(|text| !text.is_empty()) else {
        let why = "has no socket: supervisord refuses it too";
        keys.note(desk, NoteKind::Lost, "socket", why, "add `socket=unix:///run/x.sock`");
        return None;
    };
    let mut socket = if let Some(path) = address.strip_prefix("unix://") {
        let mode = mode.unwrap_or(0o700);
        let mut unix = table([("unix", path.into()), ("mode", format!("{mode:03o}").into())]);
        // Without an owner it is the program's user, as there.
        let owner = owner.or_else(|| user.map(str::to_owned)).unwrap_or_default();
        let (owner, group) = owner.split_once(':').unwrap_or((&owner, ""));
        for (key, account) in [("owner", owner.trim()), ("group", group.trim())] {
            if !account.is_empty() {
                unix.insert(key.to_owned(), account.into());
            }
        }
        unix
    } else {
        let Some(address) = tcp_address(address) else {
            let why = "is neither `unix:///path` nor `tcp://ADDRESS:PORT`";
            let help = "write an IP address: names are not looked up";
            keys.note(desk, NoteKind::Lost, "socket", why, help);
            return None;
        };
        table([("tcp", address.into())])
    };
    if backlog != 0 {
        socket.insert("backlog".to_owned(), i64::from(backlog).into());
    }
    socket.insert("name".to_owned(), "fastcgi".into());
    socket.insert("shared".to_owned(), Value::from(true));
    keys.note(
        desk,
        NoteKind::Changed,
        "socket",
        "holdfast opens the socket and passes it on; a shell makes it standard input",
        "a program that knows LISTEN_FDS needs no shell in front",
    );
    Some(socket)
}

fn tcp_address(address: &str) -> Option<String> {
    let (host, port) = address.strip_prefix("tcp://")?.rsplit_once(':')?;
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    let host = if host.eq_ignore_ascii_case("localhost") { "127.0.0.1" } else { host };
    host.parse::<std::net::Ipv4Addr>().ok()?;
    Some(format!("{host}:{port}"))
}
