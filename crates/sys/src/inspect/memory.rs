//! What fills the address space of a process: by mapping, largest first.
//!
//! Source: proc_pid_maps(5), proc_pid_smaps(5).

use super::process::read;
use super::{Page, Room};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};

/// Lines of one memory map that are read. A process with more has its own kind of leak, which shows.
const MAPPINGS_MAX: usize = 200_000;

/// Kinds of mappings that are listed.
const LISTED_MAX: usize = 100;

/// Totals of each process (`smaps_rollup`), then its mappings added up by what they map: number,
/// bytes, and the file, `[heap]`, `[stack]` or `[anonymous]`.
///
/// Hangs as long as the process holds its memory lock: see [`super::within`].
pub fn maps(pids: &[u32], room: &Room) -> Page {
    let mut page = Page::default();
    for pid in pids {
        if !page.line(room, &format!("[{pid}]")) {
            break;
        }
        if let Ok(rollup) = read(*pid, "smaps_rollup") {
            let totals = rollup.lines().skip(1).filter(|line| !line.ends_with(" 0 kB"));
            if !totals.into_iter().all(|line| page.line(room, line)) {
                break;
            }
        }
        let sums = match sums_of(*pid) {
            Ok(sums) => sums,
            Err(error) => {
                page.miss_of(pids, *pid, "the memory map", &error);
                continue;
            }
        };
        if !write_sums(&mut page, room, &sums) {
            break;
        }
    }
    page.finished()
}

#[derive(Default)]
struct Sums {
    mappings: usize,
    by_name: BTreeMap<String, (u64, u64)>,
}

fn sums_of(pid: u32) -> std::io::Result<Sums> {
    let mut sums = Sums::default();
    let file = BufReader::new(File::open(format!("/proc/{pid}/maps"))?);
    for line in file.split(b'\n').take(MAPPINGS_MAX) {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if let Some((bytes, name)) = mapping(&line) {
            sums.mappings += 1;
            let sum = sums.by_name.entry(name.to_owned()).or_default();
            *sum = (sum.0 + 1, sum.1.saturating_add(bytes));
        }
    }
    Ok(sums)
}

/// `from-to perms offset device inode   name`.
fn mapping(line: &str) -> Option<(u64, &str)> {
    let (range, rest) = line.split_once(' ')?;
    let (from, to) = range.split_once('-')?;
    let bytes =
        u64::from_str_radix(to, 16).ok()?.checked_sub(u64::from_str_radix(from, 16).ok()?)?;
    let mut rest = rest;
    for _ in 0..4 {
        rest = rest.split_once(' ').map_or("", |(_, rest)| rest.trim_start());
    }
    Some((bytes, if rest.is_empty() { "[anonymous]" } else { rest }))
}

fn write_sums(page: &mut Page, room: &Room, sums: &Sums) -> bool {
    let mut sorted: Vec<_> = sums.by_name.iter().collect();
    sorted.sort_by_key(|(_, (_, bytes))| std::cmp::Reverse(*bytes));
    let head = format!("{} mappings\n  COUNT           KIB WHAT", sums.mappings);
    let lines = sorted.iter().take(LISTED_MAX);
    let written = page.line(room, &head)
        && lines.into_iter().all(|(name, (count, bytes))| {
            page.line(room, &format!("{count:7} {:13} {name}", bytes / 1024))
        });
    if LISTED_MAX < sorted.len() {
        let rest: u64 = sorted.iter().skip(LISTED_MAX).map(|(_, (_, bytes))| *bytes).sum();
        let more = sorted.len() - LISTED_MAX;
        return written
            && page.line(room, &format!("{more:7} {:13} (smaller ones together)", rest / 1024));
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_its_size_and_what_is_mapped() {
        let file = "7f00-8f00 r-xp 00000000 fe:01 123                        /usr/lib/a b.so";
        assert_eq!(mapping(file), Some((0x1000, "/usr/lib/a b.so")));
        assert_eq!(mapping("1000-3000 rw-p 00000000 00:00 0 "), Some((0x2000, "[anonymous]")));
        assert_eq!(mapping("1000-3000 rw-p 00000000 00:00 0"), Some((0x2000, "[anonymous]")));
        for bad in ["", "x-y r", "3000-1000 r", "1000"] {
            assert_eq!(mapping(bad), None, "{bad}");
        }
    }
}
