//! What a process has open.

use super::process::read;
use super::{Page, Room};
use std::collections::BTreeMap;

/// Descriptors of one process that are looked at. One with more leaks, and these show what.
const DESCRIPTORS_MAX: usize = 20_000;

/// A descriptor and what it leads to.
pub(super) struct Descriptor {
    pub(super) pid: u32,
    pub(super) number: u32,
    pub(super) target: String,
}

/// The descriptors of processes, with a count by kind in front: a leak is of one kind.
pub fn descriptors(pids: &[u32], room: &Room) -> Page {
    let mut page = Page::default();
    for pid in pids {
        let found = of_process(pids, *pid, &mut page);
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for descriptor in &found {
            *kinds.entry(kind(&descriptor.target)).or_default() += 1;
        }
        let kinds: Vec<String> = kinds.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        if !page.line(room, &format!("[{pid}] {} open: {}", found.len(), kinds.join(", "))) {
            break;
        }
        let written = found.iter().all(|descriptor| {
            let position = position(*pid, descriptor.number);
            page.line(room, &format!("{:6} {}{position}", descriptor.number, descriptor.target))
        });
        if !written {
            break;
        }
    }
    page.finished()
}

pub(super) fn of_process(pids: &[u32], pid: u32, page: &mut Page) -> Vec<Descriptor> {
    let entries = match std::fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(entries) => entries,
        Err(error) => {
            page.miss_of(pids, pid, "the descriptors", &error);
            return Vec::new();
        }
    };
    let mut found: Vec<Descriptor> = entries
        .flatten()
        .take(DESCRIPTORS_MAX)
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            let target = std::fs::read_link(entry.path()).ok()?.display().to_string();
            Some(Descriptor { pid, number, target: target.replace('\n', "\\n") })
        })
        .collect();
    if found.len() == DESCRIPTORS_MAX {
        page.miss(format!("only {DESCRIPTORS_MAX} descriptors of {pid} were looked at"));
    }
    found.sort_by_key(|descriptor| descriptor.number);
    found
}

/// `socket:[1]`, `pipe:[2]`, `anon_inode:[eventpoll]`, or a path.
fn kind(target: &str) -> &str {
    match target.split_once(":[") {
        Some(("anon_inode", name)) => name.trim_end_matches(']'),
        Some((kind, _)) if !kind.contains('/') => kind,
        _ if target.starts_with("/dev/") => "device",
        _ if target.ends_with(" (deleted)") => "deleted file",
        _ => "file",
    }
}

/// How far a file was read or written, where that says something.
fn position(pid: u32, number: u32) -> String {
    let info = read(pid, &format!("fdinfo/{number}")).unwrap_or_default();
    let position = info.lines().find_map(|line| line.strip_prefix("pos:")).map(str::trim);
    match position {
        Some(at) if at != "0" => format!(" (at {at})"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_is_counted_by_kind() {
        let cases = [
            ("socket:[1]", "socket"),
            ("pipe:[1]", "pipe"),
            ("anon_inode:[eventpoll]", "eventpoll"),
            ("/dev/null", "device"),
            ("/tmp/x (deleted)", "deleted file"),
            ("/tmp/a:[b", "file"),
        ];
        for (target, expect) in cases {
            assert_eq!(kind(target), expect, "{target}");
        }
    }
}
