//! One `[program:x]`, `[fcgi-program:x]` or `[eventlistener:x]`: into one service, or into one for
//! each process where they differ in more than our templates can say.

use super::expand::{Filling, Piece, plain};
use super::ini::{Ini, Section};
use super::keys::{Desk, Keys, NO_NAMES};
use super::log::{self, Which};
use super::note::NoteKind;
use super::service::{Rank, Service};
use super::templates::{Numbers, escape, fill, plan};
use super::{fcgi, listener, policy, values};
use crate::service::INSTANCES_MAX;
use base::NAME_BYTES_MAX;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use toml::{Table, Value};

/// What kind of section it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Program,
    Fcgi,
    Listener,
}

/// The group that a program is in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    /// `None`: it is a group of its own.
    pub(crate) priority: Option<i64>,
}

/// What all programs share.
pub(crate) struct Shop<'s> {
    pub(crate) ini: &'s Ini,
    pub(crate) defaults: &'s Table,
    /// Names of services that are taken.
    pub(crate) names: BTreeSet<String>,
    /// Paths of logs that are taken.
    pub(crate) logs: BTreeSet<String>,
}

/// What `%(name)s` may stand for.
#[derive(Clone, Debug)]
struct Identity {
    name: String,
    group: Group,
    numbers: Numbers,
}

impl Identity {
    /// `process` is the number of the process, where it is known.
    fn filling(&self, name: &str, process: Option<u32>) -> Option<Filling> {
        match name {
            "program_name" => Some(Filling::Text(self.name.clone())),
            "group_name" => Some(Filling::Text(self.group.name.clone())),
            "numprocs" => Some(Filling::Number(self.numbers.count)),
            "process_num" => Some(process.map_or(Filling::ProcessNumber, Filling::Number)),
            _ => None,
        }
    }
}

/// A program being read.
struct Program<'a> {
    keys: Keys<'a>,
    kind: Kind,
    identity: Identity,
}

/// The texts of a program in which the number of a process may stand.
struct Texts {
    command: Vec<Piece>,
    env: BTreeMap<String, Vec<Piece>>,
    directory: Option<Vec<Piece>>,
}

/// Which processes become one service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scope {
    /// All of them: their number is a template; `{port}` counts up from this, if it is used.
    All { port: Option<u16> },
    /// The only one there is, which has this number.
    Only(u32),
    /// The one with this number, which the service's name tells.
    Numbered(u32),
}

impl Scope {
    fn process(self) -> Option<u32> {
        match self {
            Self::All { .. } => None,
            Self::Only(number) | Self::Numbered(number) => Some(number),
        }
    }
}

/// Converts one section.
pub(crate) fn convert(
    section: &Section,
    kind: Kind,
    group: Group,
    shop: &mut Shop<'_>,
    desk: &mut Desk<'_>,
) -> Vec<Service> {
    let name = section.name.split_once(':').map_or("", |(_, name)| name).trim().to_owned();
    let mut keys = Keys::new(shop.ini, section);
    keys.expect(&KEYS);
    match kind {
        Kind::Program => {}
        Kind::Fcgi => keys.expect(&FCGI_KEYS),
        Kind::Listener => keys.expect(&LISTENER_KEYS),
    }
    let first = keys.number("numprocs_start", 0, desk);
    let count = keys.number("numprocs", 1, desk);
    if count == 0 {
        keys.note(desk, NoteKind::Lost, "numprocs", "is 0: there is nothing to run", "");
        keys.finish(desk);
        return Vec::new();
    }
    let max = u32::from(INSTANCES_MAX);
    if max < count {
        let why = format!("only {max} instances of a service are possible");
        keys.note(desk, NoteKind::Lost, "numprocs", why, "make several services of it");
    }
    let numbers = Numbers { first, count: count.min(max) };
    let identity = Identity { name, group, numbers };
    let mut program = Program { keys, kind, identity };
    program.tell_name(desk);
    let services = if numbers.count == 1 {
        program.build(Scope::Only(first), shop, desk).into_iter().collect()
    } else {
        program.build_many(shop, desk)
    };
    program.keys.finish(desk);
    services
}

impl Program<'_> {
    /// Processes have names of their own there; here they are numbered.
    fn tell_name(&mut self, desk: &mut Desk<'_>) {
        let Some(item) = self.keys.take("process_name") else { return };
        if item.value == "%(program_name)s" || item.value.contains("%(process_num)") {
            return;
        }
        let why = "a process is called like its program";
        let help = format!("`supervisorctl status {}` shows it", self.identity.name);
        self.keys.note(desk, NoteKind::Changed, "process_name", why, help);
    }

    /// Several processes: instances of one service, or a service each.
    fn build_many(&mut self, shop: &mut Shop<'_>, desk: &mut Desk<'_>) -> Vec<Service> {
        let Some(texts) = self.texts(Scope::All { port: None }, desk) else { return Vec::new() };
        let numbers = self.identity.numbers;
        let all = texts.env.values().chain(&texts.directory).chain([&texts.command]);
        if let Some(plan) = plan(all.map(Vec::as_slice), numbers) {
            let scope = Scope::All { port: plan.port };
            return self.service(&texts, scope, shop, desk).into_iter().collect();
        }
        if self.kind == Kind::Fcgi {
            // They share one socket, which only instances of one service can.
            let why = "numbers of processes are written without zeros in front, from 0";
            self.keys.note(desk, NoteKind::Changed, "numprocs", why, "look whether that matters");
            let scope = Scope::All { port: None };
            return self.service(&texts, scope, shop, desk).into_iter().collect();
        }
        self.keys.note(
            desk,
            NoteKind::Changed,
            "numprocs",
            "each process is a service of its own: they differ in more than `{index}` and `{port}`",
            "make them one with `instances` if the program can do with `{index}`",
        );
        (0..numbers.count)
            .filter_map(|number| {
                self.build(Scope::Numbered(numbers.first.saturating_add(number)), shop, desk)
            })
            .collect()
    }

    fn build(&mut self, scope: Scope, shop: &mut Shop<'_>, desk: &mut Desk<'_>) -> Option<Service> {
        let texts = self.texts(scope, desk)?;
        self.service(&texts, scope, shop, desk)
    }

    fn texts(&mut self, scope: Scope, desk: &mut Desk<'_>) -> Option<Texts> {
        let env = self.env(scope, desk);
        let identity = &self.identity;
        let names = |name: &str| {
            let variable = name.strip_prefix("ENV_").and_then(|variable| env.get(variable));
            let own = variable.and_then(|pieces| plain(pieces)).map(Filling::Text);
            own.or_else(|| identity.filling(name, scope.process()))
        };
        let directory = self.keys.pieces("directory", &names, desk);
        let command = self.keys.pieces("command", &names, desk);
        if command.is_none() && self.keys.take("command").is_none() {
            let why = "has no command: supervisord refuses it too";
            self.keys.note(desk, NoteKind::Lost, "command", why, "add `command`");
        }
        Some(Texts { command: command?, env, directory })
    }

    /// Its variables over those of `[supervisord]`.
    fn env(&mut self, scope: Scope, desk: &mut Desk<'_>) -> BTreeMap<String, Vec<Piece>> {
        let identity = &self.identity;
        let names = |name: &str| identity.filling(name, scope.process());
        let mut env: BTreeMap<String, Vec<Piece>> = desk
            .global_env
            .iter()
            .map(|(name, value)| (name.clone(), vec![Piece::Text(value.clone())]))
            .collect();
        // The whole is expanded before it is taken apart: process numbers go through it marked.
        let Some(pieces) = self.keys.pieces("environment", &names, desk) else { return env };
        let marked: String = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.replace(MARK, ""),
                Piece::ProcessNumber { digits } => format!("{MARK}{digits}{MARK_END}"),
            })
            .collect();
        match values::pairs(&marked) {
            Some(pairs) => {
                env.extend(pairs.into_iter().map(|(name, value)| (name, unmarked(&value))));
            }
            None => {
                let why = "is no list of KEY=\"value\": supervisord refuses it too";
                let help = "put quotes around values with other characters than letters and digits";
                self.keys.note(desk, NoteKind::Lost, "environment", why, help);
            }
        }
        env
    }

    fn service(
        &mut self,
        texts: &Texts,
        scope: Scope,
        shop: &mut Shop<'_>,
        desk: &mut Desk<'_>,
    ) -> Option<Service> {
        let numbers = self.identity.numbers;
        let directory = self.directory(texts, desk);
        let (argv, command) = self.command(&texts.command, directory.as_deref(), desk)?;
        let mut service = self.begin(scope, shop, desk);
        service.keys.push(("command", command));
        if let Scope::All { port } = scope {
            service.keys.push(("instances", i64::from(numbers.count).into()));
            service.keys.extend(port.map(|port| ("port", i64::from(port).into())));
        }
        if !service.autostart {
            service.keys.push(("autostart", false.into()));
        }
        if let Some(directory) = directory {
            service.put("directory", directory, shop.defaults);
        }
        let keys = &mut self.keys;
        let user = keys.text("user", NO_NAMES, desk);
        if let Some(user) = user.as_deref() {
            service.put("user", user.trim(), shop.defaults);
        }
        put_umask(keys, &mut service, shop.defaults, desk);
        put_env(keys, &texts.env, numbers, &mut service, desk);
        let identity = &self.identity;
        let names = |name: &str| identity.filling(name, scope.process());
        let is_listener = self.kind == Kind::Listener;
        if self.kind == Kind::Fcgi {
            let socket = fcgi::socket(keys, &names, user.as_deref(), desk)?;
            service.keys.push(("sockets", Value::from(vec![Value::from(socket)])));
        }
        if is_listener {
            service.keys.push(("event_listener", listener::read(keys, desk)?.into()));
            service.remarks = listener::advise(keys, &argv, desk);
        }
        policy::read(keys, is_listener, &mut service, shop.defaults, desk);
        let numbers = matches!(scope, Scope::All { .. }).then_some(numbers);
        let which = Which { is_listener, numbers };
        log::read(keys, &names, which, &mut shop.logs, &mut service, shop.defaults, desk);
        Some(service)
    }

    /// A service with nothing but its name and its rank.
    fn begin(&mut self, scope: Scope, shop: &mut Shop<'_>, desk: &mut Desk<'_>) -> Service {
        let keys = &mut self.keys;
        let group = &self.identity.group;
        let default = if self.kind == Kind::Listener { -1 } else { 999 };
        let priority =
            keys.read("priority", default, "number", desk, |text| text.parse::<i64>().ok());
        let group_priority = group.priority.unwrap_or(priority);
        let name = match scope {
            Scope::All { .. } | Scope::Only(_) => self.identity.name.clone(),
            Scope::Numbered(number) => format!("{}-{number}", self.identity.name),
        };
        Service {
            name: own_name(&name, keys, shop, desk),
            place: keys.section.place,
            section: format!("[{}]", keys.section.name),
            remarks: Vec::new(),
            keys: Vec::new(),
            rank: Rank { group_priority, group: group.name.clone(), priority },
            autostart: keys.boolean("autostart", true, desk),
            stop_time: Duration::ZERO,
        }
    }

    /// The working directory, from `/`.
    fn directory(&self, texts: &Texts, desk: &mut Desk<'_>) -> Option<String> {
        let directory = fill(texts.directory.as_ref()?, self.identity.numbers);
        if directory.is_empty() {
            return None;
        }
        if directory.starts_with('/') {
            return Some(directory);
        }
        let base = desk.directory.clone().filter(|_| !directory.starts_with('~'));
        if base.is_none() {
            let why = "is no path from `/`, and is left out";
            self.keys.note(desk, NoteKind::Lost, "directory", why, "write the whole path");
        }
        base.map(|base| format!("{}/{directory}", base.trim_end_matches('/')))
    }

    /// The arguments, and how they are written.
    fn command(
        &self,
        pieces: &[Piece],
        directory: Option<&str>,
        desk: &mut Desk<'_>,
    ) -> Option<(Vec<String>, Value)> {
        let keys = &self.keys;
        let text = fill(pieces, self.identity.numbers);
        let Ok(mut argv) = shell_words::split(&text) else {
            let why = "a quote is never closed: supervisord can't run it either";
            let help = "a ` ;` or ` #` begins a comment there, also between quotes";
            keys.note(desk, NoteKind::Lost, "command", why, help);
            return None;
        };
        let Some(program) = argv.first_mut().filter(|program| !program.is_empty()) else {
            keys.note(desk, NoteKind::Lost, "command", "names no program", "");
            return None;
        };
        if program.contains('/') && !program.starts_with('/') {
            let Some(directory) = directory else {
                let why = "the program is no path from `/`";
                keys.note(desk, NoteKind::Lost, "command", why, "write the whole path");
                return None;
            };
            let below = program.trim_start_matches("./");
            *program = format!("{}/{below}", directory.trim_end_matches('/'));
            let why = format!("the program is looked for in its directory: {program}");
            keys.note(desk, NoteKind::Changed, "command", why, "");
        }
        if let Some(word) = argv.iter().find(|word| SHELL.contains(&word.as_str())) {
            let why =
                format!("no shell sees `{word}`: the program gets it as an argument, as before");
            let help = "write the command as one text and add `shell = true` if a shell is meant";
            keys.note(desk, NoteKind::Hint, "command", why, help);
        }
        if self.kind == Kind::Fcgi {
            argv = fcgi::WRAPPER.into_iter().map(str::to_owned).chain(argv).collect();
        }
        let is_plain = |word: &String| {
            let odd = |c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '\\' | '$' | '`');
            !word.is_empty() && !word.contains(odd) && !SHELL.contains(&word.as_str())
        };
        let value = if argv.iter().all(is_plain) {
            Value::from(argv.join(" "))
        } else {
            Value::from(argv.clone())
        };
        Some((argv, value))
    }
}

/// Every key of a program.
const KEYS: [&str; 32] = [
    "autorestart",
    "autostart",
    "command",
    "directory",
    "environment",
    "exitcodes",
    "killasgroup",
    "numprocs",
    "numprocs_start",
    "priority",
    "process_name",
    "redirect_stderr",
    "serverurl",
    "startretries",
    "startsecs",
    "stderr_capture_maxbytes",
    "stderr_events_enabled",
    "stderr_logfile",
    "stderr_logfile_backups",
    "stderr_logfile_maxbytes",
    "stderr_syslog",
    "stdout_capture_maxbytes",
    "stdout_events_enabled",
    "stdout_logfile",
    "stdout_logfile_backups",
    "stdout_logfile_maxbytes",
    "stdout_syslog",
    "stopasgroup",
    "stopsignal",
    "stopwaitsecs",
    "umask",
    "user",
];

/// Those that only a FastCGI program has.
const FCGI_KEYS: [&str; 4] = ["socket", "socket_backlog", "socket_mode", "socket_owner"];

/// Those that only an event listener has.
const LISTENER_KEYS: [&str; 3] = ["buffer_size", "events", "result_handler"];

/// Words that only a shell understands.
const SHELL: [&str; 11] = ["|", "||", "&", "&&", ";", "<", ">", ">>", "2>", "2>&1", ">&2"];

/// Stand around the number of digits of a process number where the text is taken apart: letters that
/// are part of a word there, in an order that nobody writes.
const MARK: &str = "((((process-number:";
const MARK_END: &str = "))))";

/// A value whose process numbers were marked.
fn unmarked(value: &str) -> Vec<Piece> {
    let mut parts = value.split(MARK);
    let mut pieces = vec![Piece::Text(parts.next().unwrap_or("").to_owned())];
    for part in parts {
        let (digits, text) = part.split_once(MARK_END).unwrap_or(("1", part));
        pieces.push(Piece::ProcessNumber { digits: digits.parse().unwrap_or(1) });
        pieces.push(Piece::Text(text.to_owned()));
    }
    pieces
}

/// A name that a service may have and no other one has; told where it is not the program's.
fn own_name(wanted: &str, keys: &Keys<'_>, shop: &mut Shop<'_>, desk: &mut Desk<'_>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let mut name: String =
        wanted.chars().map(|c| if plain(c) { c } else { '-' }).take(NAME_BYTES_MAX).collect();
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        name = format!("x{name}").chars().take(NAME_BYTES_MAX).collect();
    }
    let mut number = 2_usize;
    let base = name.clone();
    while shop.names.contains(&name) {
        let suffix = format!("-{number}");
        let room = NAME_BYTES_MAX - suffix.len();
        name = base.chars().take(room).chain(suffix.chars()).collect();
        number += 1;
    }
    if name != wanted {
        let place = keys.section.place;
        let why = format!("the service is called `{name}`");
        let help = "a name has 1 to 48 letters, digits, `_`, `.` and `-`, and is there once";
        desk.note(NoteKind::Changed, place, &format!("[{}]", keys.section.name), why, help);
    }
    shop.names.insert(name.clone());
    name
}

fn put_umask(keys: &mut Keys<'_>, service: &mut Service, defaults: &Table, desk: &mut Desk<'_>) {
    if keys.take("umask").is_none() {
        return;
    }
    let mask = keys.read("umask", None, "mask in octal", desk, |text| {
        u32::from_str_radix(text, 8).ok().filter(|mask| *mask <= 0o777).map(Some)
    });
    if let Some(mask) = mask {
        service.put("umask", format!("{mask:03o}"), defaults);
    }
}

fn put_env(
    keys: &mut Keys<'_>,
    env: &BTreeMap<String, Vec<Piece>>,
    numbers: Numbers,
    service: &mut Service,
    desk: &mut Desk<'_>,
) {
    let filled = env.iter().map(|(name, value)| (name.clone(), fill(value, numbers).into()));
    let mut table: Table = filled.collect();
    let url = keys.text("serverurl", NO_NAMES, desk);
    if let Some(url) = url.filter(|url| !url.trim().eq_ignore_ascii_case("auto")) {
        let url = Value::from(escape(url.trim()));
        table.insert("SUPERVISOR_SERVER_URL".to_owned(), url);
    }
    if !table.is_empty() {
        service.keys.push(("env", table.into()));
    }
}
