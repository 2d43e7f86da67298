//! User-space stacks of a sick process, by whatever tool fits the program and is installed.
//!
//! ```text
//! Python      py-spy (in PATH, or beside the program or in its virtual environment)
//! JVM         SIGQUIT, which it answers in its log, if it has a handler for it
//! else        eu-stack, else gdb; also where the first choice fails
//! ```
//! Invariants: every tool has a deadline; a signal is only sent to a JVM that catches it; a tool
//! that is not in our own PATH runs with the rights of the process and not with ours, because
//! whoever can write the program could have written the tool.

use super::tool::{self, Ran};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use supervisor::StackTool;
use sys::users::Identity;

/// Of all processes together.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Processes whose stacks are taken: the main one and those it has had longest.
const PROCESSES_MAX: usize = 8;

/// No tool gives an answer in less.
const TOOL_TIME_MIN: Duration = Duration::from_millis(100);

/// Looking into a memory map may hang with its process.
const MAP_MAX: Duration = Duration::from_millis(500);

/// Read of a memory map to recognise the program.
const MAP_BYTES_MAX: u64 = 1024 * 1024;

/// A JVM has answered when its log has not grown for so long.
const LOG_QUIET: Duration = Duration::from_millis(200);

/// A disk that is well answers by then.
const DISK_MAX: Duration = Duration::from_millis(100);

const SIGQUIT: i32 = 3;

/// What was taken, and what was not.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Stacks {
    pub(super) text: Vec<u8>,
    /// Why, and what would help.
    pub(super) missing: Vec<(String, &'static str)>,
}

impl Stacks {
    fn miss(&mut self, why: String, help: &'static str) {
        if !self.missing.iter().any(|(known, _)| *known == why) {
            self.missing.push((why, help));
        }
    }

    fn add(&mut self, pid: u32, tool: &str, output: &[u8]) {
        self.text.extend_from_slice(format!("[{pid}] {tool}\n").as_bytes());
        let room = BYTES_MAX.saturating_sub(self.text.len());
        let cut = room < output.len();
        self.text.extend_from_slice(output.get(..room.min(output.len())).unwrap_or(&[]));
        if cut {
            self.text.extend_from_slice(b"\n(cut here)\n");
            self.miss("the stacks were longer than what is kept".to_owned(), "");
        }
    }
}

/// What kind of program it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Language {
    Python,
    Java,
    Native,
}

/// Takes the stacks of processes, the first of which is the main one.
pub(super) fn take(tool: &StackTool, pids: &[u32], log: &Path, deadline: Instant) -> Stacks {
    let mut stacks = Stacks::default();
    if *tool == StackTool::Off {
        return stacks;
    }
    if PROCESSES_MAX < pids.len() {
        let why = format!("stacks of {PROCESSES_MAX} of its {} processes only", pids.len());
        stacks.miss(why, "");
    }
    for pid in pids.iter().take(PROCESSES_MAX) {
        if left(deadline) < TOOL_TIME_MIN {
            stacks.miss("there was no time for more".to_owned(), "allow a larger `budget`");
            break;
        }
        if let Some(thread) = uninterruptible(*pid) {
            let why = format!(
                "the stacks of process {pid}: its thread {thread} is in uninterruptible sleep, in \
                 which no tool can stop it; where it sleeps in the kernel is kept"
            );
            stacks.miss(why, "");
            continue;
        }
        let missed = stacks.missing.len();
        match tool {
            StackTool::Command(argv) => by_command(argv, *pid, deadline, &mut stacks),
            StackTool::Auto | StackTool::Off => by_kind(*pid, log, deadline, &mut stacks),
        }
        if Some(pid) != pids.first() && has_ended(*pid) {
            // One that ended meanwhile leaves no gap; that the main one did is to be known.
            stacks.missing.truncate(missed);
        }
    }
    stacks
}

fn by_command(argv: &[String], pid: u32, deadline: Instant, stacks: &mut Stacks) {
    let argv: Vec<String> =
        argv.iter().map(|word| word.replace("{pid}", &pid.to_string())).collect();
    let name = argv.first().cloned().unwrap_or_default();
    let Some(program) = tool::find(&name, &[]) else {
        return stacks.miss(format!("`{name}` is not installed"), "install it, or set `stacks`");
    };
    match tool::run(&tool::Plan::new(program, argv), deadline, BYTES_MAX) {
        Ok(ran) => {
            if ran.exit.is_none() {
                stacks.miss(format!("`{name}` did not end in time, and was killed"), BUDGET);
            }
            stacks.add(pid, &name, &ran.output);
        }
        Err(why) => stacks.miss(format!("`{name}`: {why}"), ""),
    }
}

const BUDGET: &str = "allow a larger `budget`";
const PY_SPY: &str =
    "install py-spy (`pip install py-spy`), in PATH or in the service's virtual environment";
const NATIVE: &str = "install elfutils (for eu-stack) or gdb";

fn by_kind(pid: u32, log: &Path, deadline: Instant, stacks: &mut Stacks) {
    match language_of(pid) {
        Language::Java => {
            if by_signal(pid, log, deadline, stacks) {
                return;
            }
        }
        Language::Python => {
            if by_py_spy(pid, deadline, stacks) {
                return;
            }
        }
        Language::Native => {}
    }
    natively(pid, deadline, stacks);
}

fn by_py_spy(pid: u32, deadline: Instant, stacks: &mut Stacks) -> bool {
    let Some((program, identity)) = py_spy_for(pid) else {
        stacks.miss("Python's own frames: py-spy is not installed".to_owned(), PY_SPY);
        return false;
    };
    let mut argv =
        vec!["py-spy", "dump", "--pid"].into_iter().map(str::to_owned).collect::<Vec<_>>();
    argv.push(pid.to_string());
    if is_stopped(pid) {
        // It can't be stopped once more, and does not have to be.
        argv.push("--nonblocking".to_owned());
    }
    let mut plan = tool::Plan::new(program, argv);
    plan.identity = identity;
    match tool::run(&plan, half(deadline), BYTES_MAX) {
        Ok(ran) if has(&ran, b"Thread ") => {
            stacks.add(pid, "py-spy", &ran.output);
            true
        }
        outcome => {
            stacks.miss(format!("Python's own frames: py-spy {}", failure(&outcome)), "");
            false
        }
    }
}

/// In our own PATH, or where the service has its programs; then with its user's rights.
fn py_spy_for(pid: u32) -> Option<(PathBuf, Option<Identity>)> {
    if let Some(own) = tool::find("py-spy", &[]) {
        return Some((own, None));
    }
    let mut directories = Vec::new();
    if let Some(environment) = sys::proc_fs::environ_value(pid, "VIRTUAL_ENV") {
        directories.push(Path::new(&environment).join("bin"));
    }
    let first_word = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let first_word = first_word.split(|byte| *byte == 0).next().unwrap_or(&[]);
    let first_word = PathBuf::from(String::from_utf8_lossy(first_word).into_owned());
    let program = fs::read_link(format!("/proc/{pid}/exe")).ok();
    for file in [Some(first_word), program].into_iter().flatten() {
        directories.extend(file.parent().filter(|parent| parent.is_absolute()).map(Path::to_owned));
    }
    let found = tool::find("py-spy", &directories)?;
    let (uid, gid) = sys::proc_fs::owner(pid).ok()?;
    let switch = sys::users::effective_uid() != uid;
    let identity = switch.then_some(Identity { uid, gid, groups: Vec::new() });
    Some((found, identity))
}

/// A JVM writes the stacks of all threads to its standard output.
fn by_signal(pid: u32, log: &Path, deadline: Instant, stacks: &mut Stacks) -> bool {
    let catches = catches_sigquit(pid);
    if !catches || is_stopped(pid) {
        let why = if catches { "is stopped" } else { "does not catch SIGQUIT (-Xrs?)" };
        stacks.miss(format!("Java's own frames: process {pid} {why}"), "");
        return false;
    }
    let from = fs::metadata(log).map_or(0, |found| found.len());
    sys::process::kill(pid, SIGQUIT);
    match new_in_log(log, from, half(deadline)) {
        Some(text) => {
            stacks.add(pid, "SIGQUIT", &text);
            true
        }
        None => {
            let why = format!("Java's own frames: no answer to SIGQUIT in {}", log.display());
            stacks.miss(why, "");
            false
        }
    }
}

/// What is written to a log after `from`, once a dump of threads is in it and it is quiet.
fn new_in_log(log: &Path, from: u64, deadline: Instant) -> Option<Vec<u8>> {
    let (mut text, mut grew) = (Vec::new(), Instant::now());
    loop {
        let before = text.len();
        let mut file = File::open(log).ok()?;
        file.seek(SeekFrom::Start(from)).ok()?;
        text.clear();
        file.take(BYTES_MAX as u64).read_to_end(&mut text).ok()?;
        if before < text.len() {
            grew = Instant::now();
        }
        let is_there = text.windows(16).any(|window| window == b"Full thread dump");
        let is_over = deadline <= Instant::now();
        if is_there && (LOG_QUIET <= grew.elapsed() || is_over) {
            return Some(text);
        }
        if is_over {
            return None;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn natively(pid: u32, deadline: Instant, stacks: &mut Stacks) {
    let mut why = None;
    let eu_stack = tool::find("eu-stack", &[]);
    let gdb = tool::find("gdb", &[]);
    let both = eu_stack.is_some() && gdb.is_some();
    if let Some(program) = eu_stack {
        let argv = ["eu-stack", "-p", &pid.to_string()].map(str::to_owned).to_vec();
        let until = if both { half(deadline) } else { deadline };
        let outcome = tool::run(&tool::Plan::new(program, argv), until, BYTES_MAX);
        match outcome {
            // It says what it could not follow, and is none the worse for it.
            Ok(ran) if has(&ran, b"#0 ") => return stacks.add(pid, "eu-stack", &ran.output),
            outcome => why = Some(format!("eu-stack {}", failure(&outcome))),
        }
    }
    if let Some(program) = gdb {
        let pid_text = pid.to_string();
        let argv = ["gdb", "-nx", "-batch", "-p", &pid_text, "-ex", "thread apply all bt 64"];
        let argv = argv.map(str::to_owned).to_vec();
        match tool::run(&tool::Plan::new(program, argv), deadline, BYTES_MAX) {
            Ok(ran) if has(&ran, b"#0 ") => return stacks.add(pid, "gdb", &ran.output),
            outcome => {
                let gdb = format!("gdb {}", failure(&outcome));
                why = Some(why.map_or(gdb.clone(), |why| format!("{why}; {gdb}")));
            }
        }
    }
    match why {
        Some(why) => stacks.miss(format!("the stacks of process {pid}: {why}"), BUDGET),
        None => stacks.miss("no tool is installed that takes stacks".to_owned(), NATIVE),
    }
}

fn has(ran: &Ran, mark: &[u8]) -> bool {
    ran.output.windows(mark.len()).any(|window| window == mark)
}

fn failure(outcome: &Result<Ran, String>) -> String {
    match outcome {
        Err(why) => format!("can't be started: {why}"),
        Ok(ran) if ran.exit.is_none() => "did not end in time, and was killed".to_owned(),
        Ok(ran) => {
            let text = String::from_utf8_lossy(&ran.output);
            let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
            format!("says: {}", last.chars().take(200).collect::<String>())
        }
    }
}

fn language_of(pid: u32) -> Language {
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let name = program.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_default();
    if name.starts_with("python") {
        return Language::Python;
    }
    if name == "java" {
        return Language::Java;
    }
    // Programs that have an interpreter inside, such as uwsgi.
    let map = sys::inspect::within(MAP_MAX, move || {
        let mut text = Vec::new();
        let file = File::open(format!("/proc/{pid}/maps"))?;
        file.take(MAP_BYTES_MAX).read_to_end(&mut text)?;
        std::io::Result::Ok(String::from_utf8_lossy(&text).into_owned())
    });
    match map {
        Ok(Ok(map)) if map.contains("/libpython") => Language::Python,
        Ok(Ok(map)) if map.contains("/libjvm.so") => Language::Java,
        _ => Language::Native,
    }
}

fn status_line(pid: u32, key: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(status.lines().find_map(|line| line.strip_prefix(key))?.trim().to_owned())
}

fn catches_sigquit(pid: u32) -> bool {
    let mask = status_line(pid, "SigCgt:").and_then(|mask| u64::from_str_radix(&mask, 16).ok());
    mask.is_some_and(|mask| mask & (1 << (SIGQUIT - 1)) != 0)
}

/// A thread that has been in uninterruptible sleep for longer than a disk takes. Every tool stops
/// all threads first, and would wait for it until it is killed.
fn uninterruptible(pid: u32) -> Option<u32> {
    let sleeps = |tid: &u32| sys::proc_fs::thread_stat(pid, *tid).is_ok_and(|it| it.state == 'D');
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let mut threads = threads.filter_map(|it| it.file_name().to_string_lossy().parse().ok());
    let thread = threads.find(sleeps)?;
    std::thread::park_timeout(DISK_MAX);
    sleeps(&thread).then_some(thread)
}

fn has_ended(pid: u32) -> bool {
    sys::proc_fs::stat(pid).is_ok_and(|stat| matches!(stat.state, 'Z' | 'X'))
        || !Path::new(&format!("/proc/{pid}")).exists()
}

fn is_stopped(pid: u32) -> bool {
    sys::proc_fs::stat(pid).is_ok_and(|stat| matches!(stat.state, 'T' | 't'))
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Until then there is time for a first choice; the rest is for a second one.
fn half(deadline: Instant) -> Instant {
    Instant::now() + left(deadline) / 2
}
