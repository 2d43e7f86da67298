//! What /proc says about processes.
//!
//! Why: read from the kernel directly, without running helpers (H4). A process may vanish between
//! any two reads; that is an error or an empty answer here, never a panic.
//! Source: proc(5), proc_pid_stat(5).

use std::fs::File;
use std::io::{self, Read};
use std::sync::OnceLock;
use std::time::Duration;

/// Longest `/proc/<pid>/stat` line: 52 numbers of at most 20 digits and a name of 15 bytes.
const STAT_BYTES_MAX: usize = 1536;

/// Most bytes of an environment that are searched. Longer ones are searched up to here.
const ENVIRON_BYTES_MAX: u64 = 1024 * 1024;

/// Looks at a process that is being executed, and the pause between them: the moment lasts for
/// microseconds, unless the machine is starved.
pub const EXEC_LOOKS_MAX: u32 = 20;
const EXEC_LOOK_EVERY: Duration = Duration::from_millis(1);

/// Most bytes of a command line that are shown.
const COMMAND_LINE_BYTES_MAX: u64 = 4096;

/// The fields of `/proc/<pid>/stat` that we use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stat {
    /// The process.
    pub pid: u32,
    /// Its parent.
    pub ppid: u32,
    /// Its process group.
    pub pgrp: u32,
    /// Its session.
    pub session: u32,
    /// `R` running, `S` sleeping, `D` uninterruptible, `Z` ended and not reaped, `T` stopped, ….
    pub state: char,
    /// User time in clock ticks.
    pub utime_ticks: u64,
    /// System time in clock ticks.
    pub stime_ticks: u64,
    /// When it began, in clock ticks since boot. With the pid and the boot id this is an identity.
    pub start_ticks: u64,
    /// Its threads.
    pub threads: u32,
    /// Resident pages.
    pub rss_pages: u64,
    /// The file name it executes, cut to 15 bytes.
    pub comm: String,
}

impl Stat {
    /// Neither ended nor about to vanish. The state is that of the first thread; one that has
    /// ended alone leaves a process that goes on.
    pub fn is_alive(&self) -> bool {
        1 < self.threads || !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// The identity of this boot.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Reads `/proc/<pid>/stat`.
pub fn stat(pid: u32) -> io::Result<Stat> {
    let mut buffer = [0; STAT_BYTES_MAX];
    let line = read_stat_line(pid, &mut buffer)?;
    parse_stat(line).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Reads `/proc/<pid>/task/<tid>/stat`: the same about one thread. `threads` is that of the process.
pub fn thread_stat(pid: u32, tid: u32) -> io::Result<Stat> {
    let line = std::fs::read(format!("/proc/{pid}/task/{tid}/stat"))?;
    parse_stat(&line).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// The children of all threads of a process. Empty when it is gone.
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut found = Vec::new();
    for task in tasks.flatten() {
        match std::fs::read_to_string(task.path().join("children")) {
            Ok(text) => found.extend(text.split_ascii_whitespace().flat_map(str::parse::<u32>)),
            // The thread has just ended: its children went to another thread that may have been
            // read already, so all of them are looked for by their parent instead. A kernel
            // without CONFIG_PROC_CHILDREN ends up here, too.
            Err(_) => return children_by_parent(pid),
        }
    }
    found
}

/// One variable of a process's environment as it was when it was executed.
///
/// In the midst of execve(2) a process has neither environment nor command line for a moment, but
/// is the same process; so an empty answer is asked for again, at most [`EXEC_LOOKS_MAX`] times.
pub fn environ_value(pid: u32, key: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(4096);
    for _ in 0..EXEC_LOOKS_MAX {
        let file = File::open(format!("/proc/{pid}/environ")).ok()?;
        file.take(ENVIRON_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        if !bytes.is_empty() || !is_being_executed(pid) {
            break;
        }
        std::thread::park_timeout(EXEC_LOOK_EVERY);
    }
    let value = bytes.split(|byte| *byte == 0).find_map(|entry| {
        entry.strip_prefix(key.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
    })?;
    String::from_utf8(value.to_vec()).ok()
}

/// Alive, without a command line, and no thread of the kernel (whose ancestor has pid 2).
fn is_being_executed(pid: u32) -> bool {
    let mut byte = [0];
    let empty =
        File::open(format!("/proc/{pid}/cmdline")).and_then(|mut file| file.read(&mut byte));
    matches!(empty, Ok(0))
        && stat(pid).is_ok_and(|stat| stat.is_alive() && stat.ppid != 2 && stat.pid != 2)
}

/// All processes that are visible.
pub fn all_pids() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The command line with spaces between its words, cut to 4 KiB; for a kernel thread or a process
/// that has ended its name in brackets.
pub fn command_line(pid: u32) -> Option<String> {
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/{pid}/cmdline")).ok()?;
    file.take(COMMAND_LINE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    if bytes.is_empty() {
        return stat(pid).ok().map(|stat| format!("[{}]", stat.comm));
    }
    bytes.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The kernel function in which a process sleeps, if the kernel tells.
pub fn wait_channel(pid: u32) -> Option<String> {
    wait_channel_at(&format!("/proc/{pid}/wchan"))
}

/// The same of one thread of this process.
pub(crate) fn wait_channel_of_thread(tid: u32) -> Option<String> {
    wait_channel_at(&format!("/proc/self/task/{tid}/wchan"))
}

fn wait_channel_at(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty() && text != "0").then(|| text.to_owned())
}

/// Clock ticks per second, the unit of the times in [`Stat`].
pub fn clock_ticks_per_second() -> u64 {
    static TICKS: OnceLock<u64> = OnceLock::new();
    // SAFETY: sysconf reads a constant of the system and touches no memory of ours.
    *TICKS.get_or_init(|| u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100))
}

/// Bytes per page, the unit of [`Stat::rss_pages`].
pub fn page_size() -> u64 {
    static BYTES: OnceLock<u64> = OnceLock::new();
    // SAFETY: as above.
    *BYTES
        .get_or_init(|| u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096))
}

/// The name of this machine; `localhost` if it has none.
pub fn hostname() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let text = text.trim();
    if text.is_empty() || text == "(none)" { "localhost".to_owned() } else { text.to_owned() }
}

/// Real user and group of a process: the owner of its directory in /proc.
pub fn owner(pid: u32) -> io::Result<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    let data = std::fs::metadata(format!("/proc/{pid}"))?;
    Ok((data.uid(), data.gid()))
}

/// True if this very process is still alive: same pid, same start, not ended.
pub fn is_same_process(pid: u32, start_ticks: u64) -> bool {
    stat(pid).is_ok_and(|stat| stat.start_ticks == start_ticks && stat.is_alive())
}

/// The status word of a process that has ended and that nobody has reaped yet. Needs the right to
/// trace it, else the kernel shows 0 — which is no status of ours to pass on, so root only.
pub(crate) fn exit_status_of_zombie(pid: u32) -> Option<i32> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let mut buffer = [0; STAT_BYTES_MAX];
    let line = read_stat_line(pid, &mut buffer).ok()?;
    let (_, rest) = split_name(line)?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    // `state` is field 3 and the status is field 52.
    let status = fields.nth(48)?.parse().ok()?;
    (state == "Z").then_some(status)
}

fn children_by_parent(pid: u32) -> Vec<u32> {
    let is_child = |candidate: &u32| stat(*candidate).is_ok_and(|stat| stat.ppid == pid);
    all_pids().into_iter().filter(is_child).collect()
}

fn read_stat_line(pid: u32, buffer: &mut [u8; STAT_BYTES_MAX]) -> io::Result<&[u8]> {
    let mut file = File::open(format!("/proc/{pid}/stat"))?;
    let length = file.read(buffer)?;
    buffer.get(..length).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// The name may contain anything, also spaces and parentheses; the last `)` ends it.
fn split_name(line: &[u8]) -> Option<(&[u8], &str)> {
    let open = line.iter().position(|byte| *byte == b'(')?;
    let close = line.iter().rposition(|byte| *byte == b')')?;
    let name = line.get(open + 1..close)?;
    Some((name, std::str::from_utf8(line.get(close + 1..)?).ok()?))
}

pub(crate) fn parse_stat(line: &[u8]) -> Option<Stat> {
    let (name, rest) = split_name(line)?;
    let pid = line.split(|byte| *byte == b' ').next()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // From here on: field numbers of proc_pid_stat(5), each relative to the one before.
    let ppid = fields.next()?.parse().ok()?; // 4
    let pgrp = fields.next()?.parse().ok()?; // 5
    let session = fields.next()?.parse().ok()?; // 6
    let utime_ticks = fields.nth(7)?.parse().ok()?; // 14
    let stime_ticks = fields.next()?.parse().ok()?; // 15
    let threads = fields.nth(4)?.parse().ok()?; // 20
    let start_ticks = fields.nth(1)?.parse().ok()?; // 22
    let rss_pages = fields.nth(1)?.parse().ok()?; // 24
    Some(Stat {
        pid: std::str::from_utf8(pid).ok()?.parse().ok()?,
        ppid,
        pgrp,
        session,
        state,
        utime_ticks,
        stime_ticks,
        start_ticks,
        threads,
        rss_pages,
        comm: String::from_utf8_lossy(name).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_hides_no_field() {
        let line =
            b"42 (a) R 1 (b) S 7 42 41 0 -1 4194560 1 2 3 4 11 12 13 14 20 0 5 0 999 4096 77 1";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.pid, stat.ppid, stat.pgrp, stat.session), (42, 7, 42, 41));
        assert_eq!((stat.utime_ticks, stat.stime_ticks), (11, 12));
        assert_eq!((stat.threads, stat.start_ticks, stat.rss_pages), (5, 999, 77));
        assert_eq!((stat.state, stat.comm.as_str()), ('S', "a) R 1 (b"));
    }

    #[test]
    fn our_own_process_reads_as_it_is() {
        let own = stat(std::process::id()).unwrap();
        assert_eq!(own.ppid, std::os::unix::process::parent_id());
        assert!(own.is_alive() && 0 < own.rss_pages && 1 <= own.threads);
        assert!(is_same_process(own.pid, own.start_ticks));
        assert!(!is_same_process(own.pid, own.start_ticks + 1));
        assert!(all_pids().contains(&own.pid));
        assert!(command_line(own.pid).unwrap().contains("sys"));
        assert_eq!(environ_value(own.pid, "PATH"), std::env::var("PATH").ok());
        assert_eq!(environ_value(own.pid, "PAT"), None);
        assert_eq!(boot_id().unwrap().len(), 36);
    }

    proptest! {
        #[test]
        fn any_line_is_answered_without_a_panic(line: Vec<u8>) {
            let _ = parse_stat(&line);
        }
    }
}
