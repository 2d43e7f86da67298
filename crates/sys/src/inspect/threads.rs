//! Each thread: how it sleeps, and where in the kernel.

use super::process::read;
use super::{Page, Room, is_gone};
use crate::proc_fs;
use std::collections::BTreeMap;

/// Threads of all processes that are looked at.
const THREADS_MAX: usize = 8192;

/// Threads that are named for one stack.
const NAMED_MAX: usize = 64;

/// A table of all threads: process, thread, state, where it waits, system call, CPU time, how often
/// it came onto a processor, name.
pub fn threads(pids: &[u32], room: &Room) -> Page {
    let mut page = Page::default();
    let head = "    PID     TID S  CPU-MS  SWITCHES  SYSCALL WAITS-IN                         NAME";
    page.line(room, head);
    for (pid, tid) in all(pids, &mut page) {
        let Ok(stat) = proc_fs::thread_stat(pid, tid) else { continue };
        let file = |name: &str| read(pid, &format!("task/{tid}/{name}")).unwrap_or_default();
        let ticks = stat.utime_ticks.saturating_add(stat.stime_ticks);
        let millis = ticks.saturating_mul(1000) / proc_fs::clock_ticks_per_second();
        let (schedstat, syscall, channel) = (file("schedstat"), file("syscall"), file("wchan"));
        let switches = schedstat.trim().rsplit(' ').next().unwrap_or("").to_owned();
        let syscall = syscall.split_ascii_whitespace().next().unwrap_or("?").to_owned();
        let channel = if channel.is_empty() || channel == "0" { "-" } else { channel.trim() };
        let line = format!(
            "{pid:7} {tid:7} {} {millis:7} {switches:>9} {syscall:>8} {channel:32} {}",
            stat.state, stat.comm
        );
        if !page.line(room, &line) {
            break;
        }
    }
    page.finished()
}

/// The kernel stacks of all threads, equal ones together, the most frequent first. Needs root.
pub fn kernel_stacks(pids: &[u32], room: &Room) -> Page {
    let mut page = Page::default();
    let mut stacks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (pid, tid) in all(pids, &mut page) {
        if room.until <= crate::clock::now() {
            page.miss("there was no time for more");
            break;
        }
        match read(pid, &format!("task/{tid}/stack")) {
            Ok(stack) if stack.trim().is_empty() => {
                stacks.entry("(in user space)".to_owned()).or_default().push(tid.to_string());
            }
            Ok(stack) => stacks.entry(stack).or_default().push(tid.to_string()),
            Err(error) if is_gone(&error) => {}
            Err(error) => {
                page.miss(format!("kernel stacks can't be read (run holdfast as root): {error}"));
            }
        }
    }
    let mut stacks: Vec<(String, Vec<String>)> = stacks.into_iter().collect();
    stacks.sort_by_key(|(_, tids)| std::cmp::Reverse(tids.len()));
    for (stack, tids) in stacks {
        let more = tids.len().saturating_sub(NAMED_MAX);
        let named = tids.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(" ");
        let more = if 0 < more { format!(" and {more} more") } else { String::new() };
        let text = format!("{} threads: {named}{more}\n{}\n", tids.len(), stack.trim_end());
        if !page.line(room, &text) {
            break;
        }
    }
    page.finished()
}

fn all(pids: &[u32], page: &mut Page) -> Vec<(u32, u32)> {
    let mut all = Vec::new();
    for pid in pids {
        let tasks = match std::fs::read_dir(format!("/proc/{pid}/task")) {
            Ok(tasks) => tasks,
            Err(error) => {
                page.miss_of(pids, *pid, "the threads", &error);
                continue;
            }
        };
        let tids = tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok());
        all.extend(tids.map(|tid: u32| (*pid, tid)));
    }
    if THREADS_MAX < all.len() {
        page.miss(format!("only {THREADS_MAX} of its {} threads were looked at", all.len()));
        all.truncate(THREADS_MAX);
    }
    all
}
