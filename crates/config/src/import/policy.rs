//! When a service counts as ready, how it is stopped, and when it is started again.
//!
//! supervisord counts failed starts in a row and forgets them once a process has run for
//! `startsecs`; we count restarts within a time. The time is chosen so that a program which fails at
//! each start is given up after as many tries, and one that runs for a while between its ends is not.
//! Source: supervisord's manual, "Process States" and "[program:x] Section Values".

use super::keys::{Desk, Keys};
use super::note::NoteKind;
use super::service::{Service, seconds, table};
use super::values;
use std::time::Duration;
use toml::{Table, Value};

const DAY_SECONDS: u32 = 24 * 60 * 60;
const WEEK_SECONDS: u64 = 7 * 24 * 60 * 60;

/// The longest pause between two restarts.
const PAUSE_SECONDS_MAX: u32 = 30;

/// More retries than this are meant for ever; with the longest pause it is three days and a half.
const RETRIES_MAX: u32 = 10_000;

/// The longest `startsecs`: it has to fit into a start, which takes a day at most.
const START_SECONDS_MAX: u32 = DAY_SECONDS / 2;

/// From the start to being ready, unless told otherwise here.
const START_TIMEOUT_SECONDS: u32 = 60;

/// What a program of supervisord has that says nothing.
pub(crate) const START_SECONDS: u32 = 1;
pub(crate) const START_RETRIES: u32 = 3;

/// `restart` of a program that says nothing.
pub(crate) fn default_restart() -> Table {
    restart("on-failure", START_RETRIES, START_SECONDS, Vec::new())
}

/// `ready` of a program that says nothing.
pub(crate) fn default_ready() -> Table {
    table([("delay", seconds(u64::from(START_SECONDS)).into())])
}

/// Reads what they are made of.
pub(crate) fn read(
    keys: &mut Keys<'_>,
    is_listener: bool,
    service: &mut Service,
    defaults: &Table,
    desk: &mut Desk<'_>,
) {
    let start_seconds = keys.number("startsecs", START_SECONDS, desk);
    if START_SECONDS_MAX < start_seconds {
        keys.note(desk, NoteKind::Changed, "startsecs", "is cut to half a day", "");
    }
    let start_seconds = start_seconds.min(START_SECONDS_MAX);
    if is_listener || start_seconds == 0 {
        // A listener says itself when it is ready.
        service.put("ready", "started", defaults);
    } else {
        let delay = seconds(u64::from(start_seconds)).into();
        service.put("ready", table([("delay", delay)]), defaults);
    }
    if START_TIMEOUT_SECONDS <= start_seconds && !is_listener {
        let timeout = seconds(u64::from(start_seconds + START_TIMEOUT_SECONDS));
        service.put("start_timeout", timeout, defaults);
    }
    read_restart(keys, start_seconds, service, defaults, desk);
    read_stop(keys, service, desk);
}

fn read_restart(
    keys: &mut Keys<'_>,
    start_seconds: u32,
    service: &mut Service,
    defaults: &Table,
    desk: &mut Desk<'_>,
) {
    let when = keys.read(
        "autorestart",
        "on-failure",
        "known word (true, false, unexpected)",
        desk,
        |text| {
            if text.eq_ignore_ascii_case("unexpected") {
                return Some("on-failure");
            }
            values::boolean(text).map(|always| if always { "always" } else { "never" })
        },
    );
    let codes = keys.read("exitcodes", vec![0], "list of exit codes", desk, |text| {
        let codes = values::list(text).into_iter().map(|code| code.parse::<u8>().ok());
        codes.collect::<Option<Vec<u8>>>()
    });
    if when == "on-failure" && !codes.contains(&0) {
        let why = "exit code 0 is no failure here";
        let help = "use `restart.when = \"always\"` if it has to be started again after 0";
        keys.note(desk, NoteKind::Changed, "exitcodes", why, help);
    }
    let mut codes: Vec<u8> = codes.into_iter().filter(|code| *code != 0).collect();
    codes.sort_unstable();
    codes.dedup();
    let retries = keys.number("startretries", START_RETRIES, desk);
    if RETRIES_MAX < retries {
        let why = format!("after {RETRIES_MAX} restarts within a week it is given up");
        keys.note(desk, NoteKind::Changed, "startretries", why, "");
    }
    if retries == 0 && when != "never" {
        let why = "one restart is tried before it is given up";
        let help = "use `restart = \"never\"` if it may not be started again at all";
        keys.note(desk, NoteKind::Changed, "startretries", why, help);
    }
    let restart = restart(when, retries, start_seconds, codes);
    service.put("restart", restart, defaults);
}

fn restart(when: &str, retries: u32, start_seconds: u32, codes: Vec<u8>) -> Table {
    let budget = retries.clamp(1, RETRIES_MAX);
    let pause = budget.min(PAUSE_SECONDS_MAX);
    let starts = u64::from(budget) * u64::from(start_seconds);
    let within = (series(budget, pause) + starts).clamp(10, WEEK_SECONDS);
    let mut restart = table([
        ("when", when.into()),
        ("delay", "1s".into()),
        ("delay_max", seconds(u64::from(pause)).into()),
        ("budget", i64::from(budget).into()),
        ("within", seconds(within).into()),
    ]);
    if !codes.is_empty() {
        let codes: Vec<Value> = codes.into_iter().map(|code| i64::from(code).into()).collect();
        restart.insert("success_codes".to_owned(), codes.into());
    }
    restart
}

/// Seconds of all pauses until the budget is spent: 1, 2, 4, … up to the longest.
fn series(budget: u32, longest: u32) -> u64 {
    let mut sum = 0;
    let mut pause = 1;
    for done in 0..budget {
        if longest <= pause {
            return sum + u64::from(longest) * u64::from(budget - done);
        }
        sum += u64::from(pause);
        pause *= 2;
    }
    sum
}

fn read_stop(keys: &mut Keys<'_>, service: &mut Service, desk: &mut Desk<'_>) {
    let signal = keys.read("stopsignal", "TERM".to_owned(), "signal", desk, values::signal);
    let wait = keys.number("stopwaitsecs", 10, desk);
    if DAY_SECONDS < wait {
        keys.note(desk, NoteKind::Changed, "stopwaitsecs", "is cut to one day", "");
    }
    let wait = wait.min(DAY_SECONDS);
    let whole_group = keys.boolean("stopasgroup", false, desk);
    if !keys.boolean("killasgroup", true, desk) {
        let why = "after its stop everything that the service ever started is killed";
        keys.note(desk, NoteKind::Changed, "killasgroup", why, "");
    }
    service.stop_time = Duration::from_secs(u64::from(wait));
    if whole_group {
        // The command runs as the service's user; MAINPID leads the process group.
        let kill = format!("kill -s {signal} -- -\"$MAINPID\"");
        let argv: Vec<Value> = ["/bin/sh", "-c", &kill].into_iter().map(Value::from).collect();
        let step = table([("command", argv.into()), ("wait", seconds(u64::from(wait)).into())]);
        service.keys.push(("stop", Value::from(vec![Value::from(step)])));
    } else if signal != "TERM" || wait != 10 {
        let step = format!("{signal} {}", seconds(u64::from(wait)));
        service.keys.push(("stop", Value::from(vec![Value::from(step)])));
    }
}
