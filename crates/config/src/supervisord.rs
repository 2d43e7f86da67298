//! `[supervisord]`: where unmodified clients of supervisord find its XML-RPC interface.
//!
//! Invariant: whoever can reach it from another machine has to log in.
//! Source: supervisord's manual, "Configuration File".

use crate::api::sha256;
use crate::daemon::SOCKET_PATH_BYTES_MAX;
use crate::diagnostic::{Fault, Faults};
use crate::settings::{SUPERVISORD_IDENTIFIER, SupervisordSettings};
use crate::table::{Node, Table};
use crate::value::{absolute_path, line, nonempty, octal, socket_addr};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// What supervisord itself gives its socket.
const MODE_DEFAULT: u32 = 0o700;

/// Reads `[supervisord]`.
pub(crate) fn read(table: &mut Table<'_>, faults: &mut Faults<'_>) -> SupervisordSettings {
    let unix = table.read_option("unix", faults, unix_path);
    let mode = table.read("unix_mode", MODE_DEFAULT, faults, octal);
    let tcp = table.read_option("tcp", faults, socket_addr);
    let user = table.read_option("user", faults, user_name);
    let password = table.read_option("password_sha256", faults, sha256);
    let identifier =
        table.read("identifier", SUPERVISORD_IDENTIFIER.to_owned(), faults, |node, faults| {
            nonempty(node, faults)?;
            line(node, faults).map(str::to_owned)
        });
    table.finish(faults);
    check_addresses(table, faults);
    check_login(table, faults);
    if let Some(address) = tcp {
        check_reach(table, address, faults);
    }
    SupervisordSettings {
        unix: unix.map(|path| (path, mode)),
        tcp,
        login: user.zip(password),
        identifier,
    }
}

fn unix_path(node: Node<'_>, faults: &mut Faults<'_>) -> Option<PathBuf> {
    let path = absolute_path(node, faults)?;
    let bytes = path.as_os_str().as_bytes().len();
    if bytes <= SOCKET_PATH_BYTES_MAX {
        return Some(path);
    }
    faults.push(
        Fault::error("socket-path-too-long", "the path of this socket is too long for Linux")
            .at(node.spot, format!("{bytes} bytes, the limit is {SOCKET_PATH_BYTES_MAX}"))
            .help("choose a shorter path, for example below /run"),
    );
    None
}

/// RFC 7617: the name ends at the first colon.
fn user_name(node: Node<'_>, faults: &mut Faults<'_>) -> Option<String> {
    nonempty(node, faults)?;
    let name = line(node, faults)?;
    if !name.contains(':') {
        return Some(name.to_owned());
    }
    faults.push(
        Fault::error("bad-name", "a user name can't have a colon in it")
            .at(node.spot, "HTTP ends the name there")
            .help("choose another name"),
    );
    None
}

fn check_addresses(table: &Table<'_>, faults: &mut Faults<'_>) {
    if !table.has_own("unix") && !table.has_own("tcp") {
        faults.push(
            Fault::error("missing-key", "[supervisord] has neither `unix` nor `tcp`")
                .at(table.spot, "where should it listen?")
                .help("add `unix = \"/run/holdfast/supervisor.sock\"`, or remove the section"),
        );
    }
    if table.has_own("unix_mode") && !table.has_own("unix") {
        faults.push(
            Fault::error("socket-key", "only a Unix socket has a mode")
                .at(table.key_spot("unix_mode"), "has no meaning here")
                .help("remove it, or add `unix`"),
        );
    }
}

fn check_login(table: &Table<'_>, faults: &mut Faults<'_>) {
    for (there, missing) in [("user", "password_sha256"), ("password_sha256", "user")] {
        if table.has_own(there) && !table.has_own(missing) {
            faults.push(
                Fault::error("incomplete-login", format!("[supervisord] has no `{missing}`"))
                    .at(table.key_spot(there), format!("needs `{missing}` beside it"))
                    .help(format!("add `{missing}`, or remove `{there}`")),
            );
        }
    }
}

fn check_reach(table: &Table<'_>, address: SocketAddr, faults: &mut Faults<'_>) {
    if address.ip().is_loopback() {
        return;
    }
    let spot = table.value_spot("tcp");
    if table.has_own("user") {
        faults.push(
            Fault::warning("supervisord-in-clear", "passwords go over the network in clear text")
                .at(spot, "not a loopback address, and the protocol has no encryption")
                .help("listen on 127.0.0.1 and use an SSH tunnel"),
        );
    } else {
        faults.push(
            Fault::error("login-required", "anybody on the network could stop services")
                .at(spot, "not a loopback address, and no login")
                .help("listen on 127.0.0.1, or add `user` and `password_sha256`"),
        );
    }
}
