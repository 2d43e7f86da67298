//! `sockets`: listening sockets that holdfast opens and passes on.
//!
//! Source: sd_listen_fds(3), unix(7).

use super::process::account;
use crate::daemon::SOCKET_PATH_BYTES_MAX;
use crate::diagnostic::{Fault, Faults, quoted};
use crate::source::Spot;
use crate::table::{Node, Table};
use crate::value::{absolute_path, boolean, integer, list, octal, socket_addr, table, text};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use supervisor::{SocketAddress, SocketSpec};

/// Sockets of one service. Each is a descriptor in every instance.
const SOCKETS_MAX: usize = 100;

/// The longest name that sd_listen_fds_with_names(3) takes.
const NAME_BYTES_MAX: usize = 255;

/// Connections that wait to be accepted, unless told otherwise: what Linux takes by default.
const BACKLOG_DEFAULT: u32 = 4096;

/// listen(2) takes an `int`; the kernel cuts at net.core.somaxconn anyway.
const BACKLOG_MAX: u32 = 1 << 20;

const EXAMPLE: &str = "`sockets = [{ name = \"http\", tcp = \"0.0.0.0:80\" }]`";

/// Reads `sockets`, each with the place of its address. Good ones are found beside faulty ones.
pub(crate) fn read(
    node: Node<'_>,
    sockets: &mut Vec<(SocketSpec, Spot)>,
    faults: &mut Faults<'_>,
) -> Option<()> {
    let mut whole = true;
    list(node, "a list of tables", EXAMPLE, faults, |item, faults| {
        let socket = read_one(item, faults);
        whole &= socket.is_some();
        sockets.extend(socket);
        Some(())
    })?;
    if SOCKETS_MAX < sockets.len() {
        faults.push(
            Fault::error("out-of-range", format!("more than {SOCKETS_MAX} sockets"))
                .at(node.spot, format!("{} sockets", sockets.len()))
                .help("use fewer sockets, or several services"),
        );
        return None;
    }
    for (at, (socket, spot)) in sockets.iter().enumerate() {
        let earlier = sockets[..at].iter().find(|(earlier, _)| earlier.name == socket.name);
        if let Some((_, first)) = earlier {
            whole = false;
            faults.push(
                Fault::error(
                    "duplicate-socket-name",
                    format!("two sockets are called {}", quoted(&socket.name)),
                )
                .at(*spot, "the second one")
                .also(*first, "the first one")
                .help("give each its own `name`: the service tells them apart by it"),
            );
        }
    }
    whole.then_some(())
}

fn read_one(node: Node<'_>, faults: &mut Faults<'_>) -> Option<(SocketSpec, Spot)> {
    let mut socket = table(node, "a socket", EXAMPLE, faults)?;
    let tcp = socket.read_option("tcp", faults, address);
    let udp = socket.read_option("udp", faults, address);
    let unix = socket.read_option("unix", faults, unix_path);
    let mode = socket.read("mode", 0o666, faults, octal);
    let owner = socket.read_option("owner", faults, account);
    let group = socket.read_option("group", faults, account);
    let shared = socket.read("shared", false, faults, boolean);
    let backlog = socket.read("backlog", BACKLOG_DEFAULT, faults, |node, faults| {
        integer(node, 1..=BACKLOG_MAX, faults)
    });
    let name = socket.read_option("name", faults, name);
    socket.finish(faults);
    for (key, of, fits) in [
        ("mode", "Unix", unix.is_some()),
        ("owner", "Unix", unix.is_some()),
        ("group", "Unix", unix.is_some()),
        ("backlog", "TCP or Unix", udp.is_none()),
    ] {
        if socket.has_own(key) && !fits && socket.sound(&["tcp", "udp", "unix"]) {
            faults.push(
                Fault::error("socket-key", format!("only a {of} socket has `{key}`"))
                    .at(socket.key_spot(key), "has no meaning here")
                    .help("remove it"),
            );
        }
    }
    let unix = unix.map(|path| SocketAddress::Unix { path, mode, owner, group });
    let found = one_address(&socket, tcp, udp, unix, faults);
    let whole = ["mode", "owner", "group", "shared", "backlog", "name", "tcp", "udp", "unix"];
    let (address, key) = found.filter(|_| socket.sound(&whole))?;
    let name = name.unwrap_or_else(|| key.to_owned());
    Some((SocketSpec { name, address, shared, backlog }, socket.value_spot(key)))
}

fn one_address(
    socket: &Table<'_>,
    tcp: Option<SocketAddr>,
    udp: Option<SocketAddr>,
    unix: Option<SocketAddress>,
    faults: &mut Faults<'_>,
) -> Option<(SocketAddress, &'static str)> {
    let given = ["tcp", "udp", "unix"].into_iter().filter(|key| socket.has_own(key));
    let given: Vec<&str> = given.collect();
    if let [first, second, ..] = given[..] {
        faults.push(
            Fault::error("socket-address", "a socket has one address")
                .at(socket.key_spot(second), format!("a second one, beside `{first}`"))
                .also(socket.key_spot(first), "the first one")
                .help("make them two sockets"),
        );
        return None;
    }
    if given.is_empty() {
        faults.push(
            Fault::error("socket-address", "a socket needs an address")
                .at(socket.spot, "none of `tcp`, `udp` and `unix`")
                .help(format!("write {EXAMPLE}")),
        );
    }
    match (tcp, udp, unix) {
        (Some(address), _, _) => Some((SocketAddress::Tcp(address), "tcp")),
        (_, Some(address), _) => Some((SocketAddress::Udp(address), "udp")),
        (_, _, Some(address)) => Some((address, "unix")),
        (None, None, None) => None,
    }
}

fn address(node: Node<'_>, faults: &mut Faults<'_>) -> Option<SocketAddr> {
    let address = socket_addr(node, faults)?;
    if address.port() != 0 {
        return Some(address);
    }
    faults.push(
        Fault::error("out-of-range", "a socket can't have port 0")
            .at(node.spot, "a port that nobody knows")
            .help("choose a port from 1 to 65535"),
    );
    None
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

fn name(node: Node<'_>, faults: &mut Faults<'_>) -> Option<String> {
    let name = text(node, faults)?;
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, ':' | '/');
    if !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(plain) {
        return Some(name.to_owned());
    }
    faults.push(
        Fault::error("bad-name", format!("{} can't be the name of a socket", quoted(name)))
            .at(node.spot, "empty, too long, or with a space, `:` or `/`")
            .help("use letters, digits, `-` and `_`, such as \"http\""),
    );
    None
}
