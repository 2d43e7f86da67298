//! Why a program was not executed, in words that name the cause and the remedy.

use super::SpawnPlan;
use crate::users;
use std::io::{self, Read};
use std::path::Path;

/// The step that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpawnStage {
    /// Laying out the plan: a zero byte in a text, too many descriptors, no /dev/null.
    Prepare,
    /// Making the process.
    Clone,
    /// Its own session.
    Session,
    /// Entering its cgroup.
    Cgroup,
    /// Its share in memory shortage.
    OomScore,
    /// The normal scheduling class.
    Scheduler,
    /// Its priority.
    Nice,
    /// Its disk priority.
    IoPriority,
    /// Putting descriptors in their places.
    Descriptors,
    /// A limit, by its `RLIMIT_` number.
    Rlimit(u32),
    /// Supplementary groups.
    Groups,
    /// The group.
    Group,
    /// The user.
    User,
    /// The signal at its parent's end.
    ParentDeathSignal,
    /// Giving up on further privileges.
    NoNewPrivileges,
    /// Entering the working directory.
    Directory,
    /// Executing the program.
    Exec,
}

/// A stage and an error number: all that the child can tell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    pub(super) stage: SpawnStage,
    pub(super) errno: i32,
}

impl Failure {
    pub(super) const fn new(stage: SpawnStage, errno: i32) -> Self {
        Self { stage, errno }
    }
}

/// Why a program was not executed. Nothing is left of the attempt.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct SpawnError {
    /// The step that failed.
    pub stage: SpawnStage,
    /// The system's error number.
    pub errno: i32,
    message: String,
}

impl SpawnError {
    pub(super) fn new(plan: &SpawnPlan<'_>, failure: Failure) -> Self {
        let Failure { stage, errno } = failure;
        Self { stage, errno, message: explain(plan, stage, errno) }
    }

    /// Trying again can't help until somebody changes something.
    pub fn permanent(&self) -> bool {
        // Wants of the moment: processes, memory, descriptors, a file being written, a sick disk,
        // a kill from outside.
        let passing = [
            libc::EAGAIN,
            libc::ENOMEM,
            libc::EMFILE,
            libc::ENFILE,
            libc::ETXTBSY,
            libc::EIO,
            libc::EINTR,
            libc::EBUSY,
            libc::ESTALE,
            libc::ETIMEDOUT,
        ];
        !passing.contains(&self.errno) && self.stage != SpawnStage::Cgroup
    }
}

fn explain(plan: &SpawnPlan<'_>, stage: SpawnStage, errno: i32) -> String {
    let why = system_words(errno);
    let us = users::effective_uid();
    let privileged = format!("holdfast runs as uid {us}; run it as root");
    if errno == libc::EINTR {
        let program = plan.program.display();
        return format!(
            "{program} was killed from outside before it was executed; it is tried again"
        );
    }
    match stage {
        SpawnStage::Prepare => format!(
            "cannot prepare {}: {why} (look for a zero byte in its command, environment or \
             directory, and for more than {} sockets)",
            plan.program.display(),
            super::PASS_FDS_MAX
        ),
        SpawnStage::Clone => format!(
            "cannot make a process for {}: {why} (too many processes or too little memory; see \
             `ulimit -u`, pids.max and `free`)",
            plan.program.display()
        ),
        SpawnStage::Session => format!("cannot begin a session: {why}"),
        SpawnStage::Cgroup => format!(
            "cannot enter the cgroup {}: {why} (it may have been removed from outside; it is made \
             again at the next start)",
            list(plan.cgroup.as_ref().map_or(&[][..], |entry| &entry.files))
        ),
        SpawnStage::OomScore => format!(
            "cannot set the oom score to {}: {why} (below the present one it needs \
             CAP_SYS_RESOURCE; {privileged}, or raise the value)",
            plan.oom_score_adjust.unwrap_or(0)
        ),
        SpawnStage::Scheduler => format!("cannot set the normal scheduling class: {why}"),
        SpawnStage::Nice => format!(
            "cannot set nice to {}: {why} (below the present one it needs CAP_SYS_NICE; \
             {privileged}, or raise the value)",
            plan.nice
        ),
        SpawnStage::IoPriority => format!(
            "cannot set the io priority: {why} (the real-time class needs CAP_SYS_ADMIN; \
             {privileged}, or choose `best-effort`)"
        ),
        SpawnStage::Descriptors => format!(
            "cannot pass {} descriptors: {why} (see the limit on open files)",
            plan.pass_fds.len() + 3
        ),
        SpawnStage::Rlimit(which) => format!(
            "cannot set the limit {}: {why} (above the present hard limit it needs \
             CAP_SYS_RESOURCE; {privileged}, or lower the value)",
            rlimit_name(which)
        ),
        SpawnStage::Groups | SpawnStage::Group | SpawnStage::User => explain_user(plan, &why, us),
        SpawnStage::ParentDeathSignal => format!("cannot watch over the parent: {why}"),
        SpawnStage::NoNewPrivileges => format!("cannot forbid new privileges: {why}"),
        SpawnStage::Directory => format!(
            "cannot enter directory {}: {why} (check `directory`{})",
            plan.directory.display(),
            as_user(plan)
        ),
        SpawnStage::Exec => explain_exec(plan, errno, &why),
    }
}

fn explain_user(plan: &SpawnPlan<'_>, why: &str, us: u32) -> String {
    let uid = plan.identity.as_ref().map_or(us, |identity| identity.uid);
    let name = users::name_of_uid(uid).map_or_else(String::new, |name| format!(" ({name})"));
    let remedy = if us == 0 {
        "holdfast runs as root without CAP_SETUID and CAP_SETGID, as in a container; give it these"
            .to_owned()
    } else {
        format!("holdfast runs as uid {us}; run it as root")
    };
    format!("cannot switch to user {uid}{name}: {why} ({remedy})")
}

fn explain_exec(plan: &SpawnPlan<'_>, errno: i32, why: &str) -> String {
    let path = plan.directory.join(&plan.program);
    let shown = path.display();
    match (errno, interpreter(&path)) {
        (libc::ENOENT, Interpreter::Script(name)) => format!(
            "cannot execute {shown}: it is a script whose interpreter `{name}` does not exist \
             (install it, or mend the script's first line)"
        ),
        (libc::ENOENT, Interpreter::Elf) => format!(
            "cannot execute {shown}: the loader it was built for is missing (it was built for \
             another system; install the matching C library)"
        ),
        (libc::ENOENT | libc::ENOTDIR, _) => {
            format!("cannot execute {shown}: no such file (check `command`)")
        }
        (libc::EACCES, Interpreter::Script(name)) => format!(
            "cannot execute {shown}: {why} (the script, its interpreter `{name}` or a directory \
             above may not be executed{}, or the file system is mounted noexec)",
            as_user(plan)
        ),
        (libc::EACCES, _) => format!(
            "cannot execute {shown}: {why} (the file or a directory above may not be executed{}, or \
             the file system is mounted noexec; run `namei -l {shown}`)",
            as_user(plan)
        ),
        (libc::ENOEXEC, _) => format!(
            "cannot execute {shown}: not a program for this machine (a script begins with a line \
             like `#!/bin/sh`; else set `shell = true`)"
        ),
        (libc::E2BIG, _) => format!(
            "cannot execute {shown}: arguments and environment are too long together (at most a \
             quarter of the stack limit)"
        ),
        (libc::ETXTBSY, _) => {
            format!(
                "cannot execute {shown}: it is being written right now (wait for the copy to end)"
            )
        }
        (libc::EAGAIN, _) => format!(
            "cannot execute {shown}: {why} (the user has too many processes already; raise the \
             nproc limit)"
        ),
        _ => format!("cannot execute {shown}: {why} (check `command`)"),
    }
}

/// What a file says about who runs it.
enum Interpreter {
    /// `#!` and a name.
    Script(String),
    /// A program.
    Elf,
    /// Neither, or unreadable.
    Unknown,
}

fn interpreter(path: &Path) -> Interpreter {
    // The kernel, too, reads no more of a script's first line (BINPRM_BUF_SIZE).
    let mut head = [0; 256];
    let Ok(length) = std::fs::File::open(path).and_then(|mut file| file.read(&mut head)) else {
        return Interpreter::Unknown;
    };
    let head = head.get(..length).unwrap_or(&[]);
    if head.starts_with(b"\x7fELF") {
        return Interpreter::Elf;
    }
    let Some(rest) = head.strip_prefix(b"#!") else { return Interpreter::Unknown };
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or(rest);
    let line = String::from_utf8_lossy(line);
    match line.split_ascii_whitespace().next() {
        // A carriage return is part of the name to the kernel, and invisible to the person.
        Some(_) if line.ends_with('\r') => Interpreter::Script(format!("{}\\r", line.trim())),
        Some(name) => Interpreter::Script(name.to_owned()),
        None => Interpreter::Unknown,
    }
}

fn as_user(plan: &SpawnPlan<'_>) -> String {
    let Some(identity) = &plan.identity else { return String::new() };
    match users::name_of_uid(identity.uid) {
        Some(name) => format!(" by user {name}"),
        None => format!(" by uid {}", identity.uid),
    }
}

/// The system's words without its number, in lower case like the rest of the sentence.
fn system_words(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    let mut characters = words.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

fn list(paths: &[std::path::PathBuf]) -> String {
    let shown: Vec<_> = paths.iter().filter_map(|path| path.parent()).collect();
    shown.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// The name of a limit, as `ulimit` and configuration files have it (asm-generic/resource.h).
fn rlimit_name(which: u32) -> String {
    let names = [
        "cpu",
        "fsize",
        "data",
        "stack",
        "core",
        "rss",
        "nproc",
        "nofile",
        "memlock",
        "as",
        "locks",
        "sigpending",
        "msgqueue",
        "nice",
        "rtprio",
        "rttime",
    ];
    let name = usize::try_from(which).ok().and_then(|which| names.get(which));
    name.map_or_else(|| which.to_string(), |name| format!("`{name}`"))
}
