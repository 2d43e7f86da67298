//! Where the output of a program goes.
//!
//! supervisord has two files, each rotated by its own settings; we have one log, and beside it one
//! for standard error where that is wanted.
//! Source: supervisord's manual, "[program:x] Section Values".

use super::expand::Piece;
use super::keys::{Desk, Keys, Names};
use super::note::NoteKind;
use super::service::{Service, table};
use super::templates::{Numbers, fill, numbered_path, with_suffix};
use base::ByteSize;
use std::collections::BTreeSet;
use toml::Table;

const SIZE_DEFAULT: u64 = 50 << 20;
const BACKUPS_DEFAULT: u32 = 10;
const BACKUPS_MAX: u32 = 10_000;
/// Of a log that nobody wanted.
const NOWHERE_SIZE: u64 = 1 << 20;
const SIZE_MIN: u64 = 4 << 10;
const SIZE_MAX: u64 = 1 << 40;
/// Of one communication.
const CAPTURE_MAX: u64 = 4 << 20;

/// Names of the output of supervisord itself.
const STREAMS: [&str; 8] = [
    "/dev/stdout",
    "/dev/stderr",
    "/dev/fd/1",
    "/dev/fd/2",
    "/proc/self/fd/1",
    "/proc/self/fd/2",
    "/proc/1/fd/1",
    "/proc/1/fd/2",
];

/// `log` of a program that says nothing.
pub(crate) fn default_log() -> Table {
    log(None, SIZE_DEFAULT, BACKUPS_DEFAULT, true)
}

fn log(file: Option<String>, size: u64, keep: u32, split_stderr: bool) -> Table {
    let mut log = table([
        ("size", ByteSize(size).to_string().into()),
        ("keep", i64::from(keep).into()),
        ("compress", false.into()),
        ("split_stderr", split_stderr.into()),
    ]);
    log.extend(file.map(|file| ("file".to_owned(), file.into())));
    log
}

/// Where one of the two outputs goes.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Target {
    Auto,
    Nowhere,
    Syslog,
    /// The output of supervisord itself.
    Stream,
    File(Vec<Piece>),
}

/// What a log is read for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Which {
    pub(crate) is_listener: bool,
    /// `None`: one process, whose number has been filled in.
    pub(crate) numbers: Option<Numbers>,
}

/// Reads all keys about output.
pub(crate) fn read(
    keys: &mut Keys<'_>,
    names: Names<'_>,
    which: Which,
    taken: &mut BTreeSet<String>,
    service: &mut Service,
    defaults: &Table,
    desk: &mut Desk<'_>,
) {
    let redirect = keys.boolean("redirect_stderr", false, desk);
    let out = target(keys, "stdout_logfile", "stdout_syslog", names, desk);
    let err = target(keys, "stderr_logfile", "stderr_syslog", names, desk);
    let (events, wants_error) = output_events(keys, redirect, desk);
    let out_bounds = bounds(keys, "stdout_logfile_maxbytes", "stdout_logfile_backups", desk);
    let err_bounds = bounds(keys, "stderr_logfile_maxbytes", "stderr_logfile_backups", desk);
    if which.is_listener {
        // Its standard output carries the protocol.
        let file = file_of(keys, "stderr_logfile", &err, which, taken, service, desk);
        let (size, keep) = rotation(keys, "stderr_logfile_maxbytes", &err, err_bounds, desk);
        service.put("log", log(file, size, keep, false), defaults);
        return;
    }
    for (key, target) in [("stdout_logfile", &out), ("stderr_logfile", &err)] {
        tell(keys, key, target, redirect && key == "stderr_logfile", desk);
    }
    let streams = out == Target::Stream && matches!(err, Target::Stream | Target::Auto);
    let same_file = out == err && matches!(out, Target::File(_));
    let nowhere = out == Target::Nowhere && (redirect || err == Target::Nowhere);
    let split = wants_error || (!redirect && !same_file && !streams && !nowhere);
    let file = file_of(keys, "stdout_logfile", &out, which, taken, service, desk);
    if split && let Target::File(pieces) = &err {
        tell_error_file(keys, pieces, file.as_deref(), which, desk);
    }
    if split && err_bounds != out_bounds && matches!(err, Target::File(_)) {
        let why = "both logs of a service are rotated by the settings of its standard output";
        keys.note(desk, NoteKind::Changed, "stderr_logfile_maxbytes", why, "");
    }
    let (size, keep) = if nowhere {
        (NOWHERE_SIZE, 0)
    } else {
        rotation(keys, "stdout_logfile_maxbytes", &out, out_bounds, desk)
    };
    service.put("log", log(file, size, keep, split), defaults);
    if !events.is_empty() {
        service.put("output_events", events, defaults);
    }
}

fn target(
    keys: &mut Keys<'_>,
    key: &'static str,
    syslog: &'static str,
    names: Names<'_>,
    desk: &mut Desk<'_>,
) -> Target {
    if keys.boolean(syslog, false, desk) {
        let help = "`holdfast logs` shows it; send the file on with your syslog daemon";
        keys.note(desk, NoteKind::Changed, syslog, "output goes to holdfast's own log", help);
    }
    let Some(pieces) = keys.pieces(key, names, desk) else { return Target::Auto };
    let text = super::expand::plain(&pieces).unwrap_or_default();
    match text.to_lowercase().as_str() {
        "none" | "off" | "/dev/null" => Target::Nowhere,
        "auto" => Target::Auto,
        "syslog" => Target::Syslog,
        path if STREAMS.contains(&path) => Target::Stream,
        _ => Target::File(pieces),
    }
}

/// `output_events`, if any are wanted. What standard error says is only told apart where supervisord
/// tells it apart.
fn output_events(keys: &mut Keys<'_>, redirect: bool, desk: &mut Desk<'_>) -> (Table, bool) {
    let mut events = Table::new();
    let mut wants_error = false;
    for (key, to, is_error) in
        [("stdout_events_enabled", "stdout", false), ("stderr_events_enabled", "stderr", true)]
    {
        if keys.boolean(key, false, desk) && !(is_error && redirect) {
            events.insert(to.to_owned(), true.into());
            wants_error |= is_error;
        }
    }
    for (key, to, is_error) in [
        ("stdout_capture_maxbytes", "stdout_capture", false),
        ("stderr_capture_maxbytes", "stderr_capture", true),
    ] {
        let bytes = keys.bytes(key, 0, desk);
        if bytes == 0 || (is_error && redirect) {
            continue;
        }
        if CAPTURE_MAX < bytes {
            let why = format!("at most {} are kept of one communication", ByteSize(CAPTURE_MAX));
            keys.note(desk, NoteKind::Changed, key, why, "");
        }
        events.insert(to.to_owned(), ByteSize(bytes.min(CAPTURE_MAX)).to_string().into());
        wants_error |= is_error;
    }
    (events, wants_error)
}

fn bounds(
    keys: &mut Keys<'_>,
    size: &'static str,
    backups: &'static str,
    desk: &mut Desk<'_>,
) -> (u64, u32) {
    (keys.bytes(size, SIZE_DEFAULT, desk), keys.number(backups, BACKUPS_DEFAULT, desk))
}

/// What of a target is not as it was.
fn tell(keys: &Keys<'_>, key: &str, target: &Target, redirected: bool, desk: &mut Desk<'_>) {
    match target {
        Target::File(_) if redirected => {
            let why = "supervisord passes it over too, because of redirect_stderr";
            keys.note(desk, NoteKind::Unneeded, key, why, "");
        }
        Target::Nowhere if !redirected => {
            let why = "output is kept all the same, in holdfast's own log";
            keys.note(desk, NoteKind::Changed, key, why, "`log.size` and `log.keep` bound it");
        }
        Target::Syslog | Target::Stream if !redirected => {
            let why = "output is kept in holdfast's own log";
            keys.note(desk, NoteKind::Changed, key, why, "`holdfast logs -f` shows it");
        }
        Target::Auto | Target::File(_) | Target::Nowhere | Target::Syslog | Target::Stream => {}
    }
}

/// The path of the log, one that no other service has.
fn file_of(
    keys: &Keys<'_>,
    key: &str,
    target: &Target,
    which: Which,
    taken: &mut BTreeSet<String>,
    service: &Service,
    desk: &mut Desk<'_>,
) -> Option<String> {
    let Target::File(pieces) = target else { return None };
    let numbers = which.numbers.filter(|numbers| 1 < numbers.count);
    let mut path = match numbers {
        Some(numbers) => numbered_path(pieces, numbers.count),
        None => fill(pieces, Numbers { first: 0, count: 1 }),
    };
    let is_numbered = pieces.iter().any(|piece| matches!(piece, Piece::ProcessNumber { .. }));
    if numbers.is_some() && !is_numbered {
        let why = format!("each instance has a file of its own: {path}");
        keys.note(desk, NoteKind::Changed, key, why, "");
    }
    if !path.starts_with('/') {
        let Some(folder) = desk.directory.as_ref().filter(|_| !path.starts_with('~')) else {
            let why = "is no path from `/`: holdfast's own log is used";
            let help = format!("add `log.file` to service `{}`", service.name);
            keys.note(desk, NoteKind::Changed, key, why, help);
            return None;
        };
        path = format!("{}/{path}", folder.trim_end_matches('/'));
    }
    if taken.contains(&path) {
        path = with_suffix(&path, &format!("-{}", service.name));
        let why = format!("another service writes to the same file: this one has {path}");
        keys.note(desk, NoteKind::Changed, key, why, "");
    }
    taken.insert(path.clone());
    Some(path)
}

/// Standard error goes beside standard output.
fn tell_error_file(
    keys: &Keys<'_>,
    pieces: &[Piece],
    out: Option<&str>,
    which: Which,
    desk: &mut Desk<'_>,
) {
    let count = which.numbers.map_or(1, |numbers| numbers.count);
    let wanted = numbered_path(pieces, count);
    let becomes = match out {
        Some(out) => match out.strip_suffix(".log") {
            Some(stem) => format!("{stem}.err.log"),
            None => format!("{out}.err"),
        },
        None => "holdfast's own `….err.log`".to_owned(),
    };
    if wanted != becomes {
        let why = format!("standard error goes to {becomes}");
        keys.note(desk, NoteKind::Changed, "stderr_logfile", why, "");
    }
}

fn rotation(
    keys: &Keys<'_>,
    key: &str,
    target: &Target,
    (size, backups): (u64, u32),
    desk: &mut Desk<'_>,
) -> (u64, u32) {
    if size == 0 {
        if matches!(target, Target::File(_)) {
            let why = "supervisord never rotated this file: it is rotated at 50 MiB now";
            let help = "remove it from logrotate, or set `log.size` higher";
            keys.note(desk, NoteKind::Changed, key, why, help);
        }
        return (SIZE_DEFAULT, backups.min(BACKUPS_MAX));
    }
    (size.clamp(SIZE_MIN, SIZE_MAX), backups.min(BACKUPS_MAX))
}
