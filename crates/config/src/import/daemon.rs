//! supervisord's own sections: `[supervisord]`, the HTTP servers, and those of its clients.
//!
//! Source: supervisord's manual, "Configuration File".

use super::ini::{Ini, Section};
use super::keys::{Desk, Keys, NO_NAMES};
use super::note::NoteKind;
use super::service::table;
use super::templates::escape;
use super::values;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use toml::Table;

/// Descriptors and processes that supervisord sees to unless told otherwise.
const MIN_DESCRIPTORS: u32 = 1024;
const MIN_PROCESSES: u32 = 200;

/// `[supervisord]`: values for all programs, and what clients call it.
pub(crate) struct Own {
    pub(crate) defaults: Table,
    pub(crate) identifier: Option<String>,
}

/// Reads `[supervisord]`. Its environment and its directory stay on the desk.
pub(crate) fn read_own(ini: &Ini, desk: &mut Desk<'_>) -> Own {
    let mut own = Own { defaults: Table::new(), identifier: None };
    let Some(section) = ini.named("supervisord") else { return own };
    let mut keys = Keys::new(ini, section);
    if let Some(text) = keys.text("environment", NO_NAMES, desk) {
        match values::pairs(&text) {
            Some(pairs) => desk.global_env = pairs.into_iter().collect::<BTreeMap<_, _>>(),
            None => {
                let why = "is no list of KEY=\"value\": supervisord refuses it too";
                let help = "put quotes around values with other characters than letters and digits";
                keys.note(desk, NoteKind::Lost, "environment", why, help);
            }
        }
    }
    if let Some(directory) = keys.text("directory", NO_NAMES, desk) {
        if directory.starts_with('/') {
            own.defaults.insert("directory".to_owned(), escape(&directory).into());
            desk.directory = Some(directory);
        } else {
            let why = "is no path from `/`, and is left out";
            keys.note(desk, NoteKind::Lost, "directory", why, "write the whole path");
        }
    }
    if let Some(user) = keys.text("user", NO_NAMES, desk) {
        if crate::service::is_account(user.trim()) {
            own.defaults.insert("user".to_owned(), user.trim().into());
        } else {
            let why = "names no user";
            keys.note(desk, NoteKind::Lost, "user", why, "add `user` to [defaults]");
        }
    }
    let mask = keys.read("umask", 0o022, "mask in octal", desk, |text| {
        u32::from_str_radix(text, 8).ok().filter(|mask| *mask <= 0o777)
    });
    if mask != 0o022 {
        own.defaults.insert("umask".to_owned(), format!("{mask:03o}").into());
    }
    let descriptors = keys.number("minfds", MIN_DESCRIPTORS, desk);
    let processes = keys.number("minprocs", MIN_PROCESSES, desk);
    let mut limits = Table::new();
    if MIN_DESCRIPTORS < descriptors {
        limits.insert("nofile".to_owned(), i64::from(descriptors).into());
    }
    if MIN_PROCESSES < processes {
        limits.insert("nproc".to_owned(), i64::from(processes).into());
    }
    if !limits.is_empty() {
        own.defaults.insert("rlimits".to_owned(), limits.into());
    }
    own.identifier = keys.text("identifier", NO_NAMES, desk).filter(|name| name != "supervisor");
    let unneeded = [
        ("logfile", "holdfast keeps its own journal: `holdfast events`"),
        ("logfile_maxbytes", "the journal is bounded by `journal.size_max`"),
        ("logfile_backups", "the journal is bounded by `journal.size_max`"),
        ("loglevel", "use `holdfast run --log-level`"),
        ("pidfile", "use `holdfast run --pid-file` if a script needs one"),
        ("nodaemon", "`holdfast run` stays in the foreground; `--daemon` does not"),
        ("silent", "holdfast's own log goes to standard error"),
        ("childlogdir", "logs are in the state directory: `holdfast logs`"),
        ("nocleanup", "logs outlive the daemon"),
        ("strip_ansi", "output is kept as it is"),
        ("profile_options", "belongs to supervisord"),
        ("nohistory", "belongs to supervisord"),
    ];
    keys.unneeded(&unneeded, desk);
    keys.finish(desk);
    own
}

/// The login of an HTTP server.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Login {
    user: String,
    sha256: [u8; 32],
}

/// What an HTTP server of supervisord asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Guard {
    Nobody,
    Login(Login),
    /// It has one, but we can't: whoever connects would be let in.
    Unusable,
}

/// Reads the HTTP servers into our `[supervisord]`, if there are any.
pub(crate) fn read_servers(
    ini: &Ini,
    identifier: Option<String>,
    desk: &mut Desk<'_>,
) -> Option<Table> {
    let mut face = Table::new();
    let mut guards = Vec::new();
    for section in &ini.sections {
        let is_unix = section.name.starts_with("unix_http_server");
        if !is_unix && !section.name.starts_with("inet_http_server") {
            continue;
        }
        let key = if is_unix { "unix" } else { "tcp" };
        if face.contains_key(key) {
            let why = "holdfast serves one Unix socket and one address";
            let subject = format!("[{}]", section.name);
            desk.note(
                NoteKind::Lost,
                section.place,
                &subject,
                why,
                "let clients use the first one",
            );
            continue;
        }
        let mut keys = Keys::new(ini, section);
        let guard = read_guard(&mut keys, desk);
        let served = if is_unix {
            read_unix(&mut keys, &guard, &mut face, desk)
        } else {
            read_inet(&mut keys, &guard, &mut face, desk)
        };
        keys.finish(desk);
        if served {
            guards.push((section, guard));
        }
    }
    if face.is_empty() {
        return None;
    }
    put_login(&guards, &mut face, desk);
    if let Some(identifier) = identifier.filter(|name| !name.trim().is_empty()) {
        let plain: String = identifier.chars().filter(|c| !c.is_control()).collect();
        face.insert("identifier".to_owned(), plain.into());
    }
    Some(face)
}

fn read_guard(keys: &mut Keys<'_>, desk: &mut Desk<'_>) -> Guard {
    let user = keys.text("username", NO_NAMES, desk);
    let password = keys.text("password", NO_NAMES, desk);
    let (user, password) = match (user, password) {
        (None, None) => return Guard::Nobody,
        (Some(user), Some(password)) => (user, password),
        (Some(_), None) | (None, Some(_)) => {
            let why = "has a user or a password, but not both: supervisord refuses it too";
            keys.note(desk, NoteKind::Lost, "username", why, "add the other one");
            return Guard::Unusable;
        }
    };
    if password.starts_with("{SHA}") {
        let why = "the password is there as a SHA-1 hash, which can't be turned into SHA-256";
        let help = "put `printf %s PASSWORD | sha256sum` into `password_sha256`";
        keys.note(desk, NoteKind::Lost, "password", why, help);
        return Guard::Unusable;
    }
    if user.trim().is_empty() || user.contains(':') || user.contains(char::is_control) {
        keys.note(desk, NoteKind::Lost, "username", "can't be a user's name", "choose another one");
        return Guard::Unusable;
    }
    Guard::Login(Login { user, sha256: (desk.world.sha256)(password.as_bytes()) })
}

fn read_unix(keys: &mut Keys<'_>, guard: &Guard, face: &mut Table, desk: &mut Desk<'_>) -> bool {
    let mut mode = keys.read("chmod", 0o700, "mode in octal", desk, |text| {
        u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777)
    });
    if keys.take("chown").is_some() {
        let why = "the socket belongs to holdfast's user";
        let help = "use `unix_mode`, or `api.operators` and `holdfast` itself";
        keys.note(desk, NoteKind::Changed, "chown", why, help);
    }
    let path = keys.text("file", NO_NAMES, desk).unwrap_or_default();
    let path = path.trim();
    if !path.starts_with('/') || crate::daemon::SOCKET_PATH_BYTES_MAX < path.len() {
        let why = "is no path from `/`, or too long a one";
        keys.note(desk, NoteKind::Lost, "file", why, "write the whole path of the socket");
        return false;
    }
    if *guard == Guard::Unusable && mode & 0o077 != 0 {
        let why = "without its password the socket is for holdfast's own user alone";
        keys.note(desk, NoteKind::Changed, "chmod", why, "set `unix_mode` with a login again");
        mode &= 0o700;
    }
    face.insert("unix".to_owned(), path.into());
    face.insert("unix_mode".to_owned(), format!("{mode:03o}").into());
    true
}

fn read_inet(keys: &mut Keys<'_>, guard: &Guard, face: &mut Table, desk: &mut Desk<'_>) -> bool {
    let port = keys.text("port", NO_NAMES, desk).unwrap_or_default();
    let Some(address) = inet_address(port.trim()) else {
        let why = "is no address and port that is known here";
        let help = "write an IP address: names are not looked up";
        keys.note(desk, NoteKind::Lost, "port", why, help);
        return false;
    };
    let is_loopback = address.ip().is_loopback();
    if !is_loopback && !matches!(guard, Guard::Login(_)) {
        let why = "anybody on the network could stop services";
        let help = "add `username` and `password`, or listen on 127.0.0.1";
        keys.note(desk, NoteKind::Lost, "port", why, help);
        return false;
    }
    if !is_loopback {
        let why = "passwords go over the network in clear text, as before";
        let help = "listen on 127.0.0.1 and use an SSH tunnel";
        keys.note(desk, NoteKind::Hint, "port", why, help);
    }
    face.insert("tcp".to_owned(), address.to_string().into());
    true
}

/// `9001`, `*:9001`, `127.0.0.1:9001`, `localhost:9001`.
fn inet_address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    let ip = match host.to_lowercase().as_str() {
        "" | "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => host.trim_matches(['[', ']']).parse().ok()?,
    };
    Some(SocketAddr::new(ip, port))
}

/// One login for both listeners.
fn put_login(guards: &[(&Section, Guard)], face: &mut Table, desk: &mut Desk<'_>) {
    let logins = guards.iter().filter_map(|(section, guard)| match guard {
        Guard::Login(login) => Some((*section, login)),
        Guard::Nobody | Guard::Unusable => None,
    });
    // The one that more can reach counts.
    let Some((_, login)) = logins.max_by_key(|(section, _)| section.name.starts_with("inet"))
    else {
        return;
    };
    for (section, guard) in guards {
        if *guard != Guard::Login(login.clone()) {
            let why = "both listeners have the login of the other one";
            let help = "give it to supervisorctl with -u and -p, or in [supervisorctl]";
            let subject = format!("[{}] username", section.name);
            desk.note(NoteKind::Changed, section.place, &subject, why, help);
        }
    }
    let hash = crate::api::hex(&login.sha256);
    let more = table([("user", login.user.as_str().into()), ("password_sha256", hash.into())]);
    face.extend(more);
}

/// Sections that are not ours to read.
pub(crate) fn tell_others(ini: &Ini, desk: &mut Desk<'_>) {
    for section in &ini.sections {
        let (kind, name) = section.name.split_once(':').unwrap_or((&section.name, ""));
        let (note, why, instead) = match kind {
            "supervisord" | "unix_http_server" | "inet_http_server" | "include" | "program"
            | "fcgi-program" | "eventlistener" | "group" => continue,
            "supervisorctl" => (
                NoteKind::Hint,
                "is for supervisorctl alone, which goes on reading it from here".to_owned(),
                "keep this file for it, or use `holdfast status` and `holdfast service`".to_owned(),
            ),
            "rpcinterface" if name == "supervisor" => {
                (NoteKind::Unneeded, "is built in".to_owned(), String::new())
            }
            "rpcinterface" | "ctlplugin" => (
                NoteKind::Lost,
                "is a plugin in Python of supervisord".to_owned(),
                "holdfast's own API may do the same: see docs/api.md".to_owned(),
            ),
            other => {
                let known = ["program", "fcgi-program", "eventlistener", "group", "include"];
                let hint = crate::suggest::did_you_mean(other, known).unwrap_or_default();
                let why = "supervisord knows no such section, and passes it over".to_owned();
                (NoteKind::Unneeded, why, hint)
            }
        };
        desk.note(note, section.place, &format!("[{}]", section.name), why, instead);
    }
}
