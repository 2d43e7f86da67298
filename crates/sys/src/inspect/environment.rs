//! The environment of processes, without its secrets.

use super::{Page, Room, secret};
use std::fs::File;
use std::io::Read;

/// Most bytes of one environment that are looked at.
const ENVIRONMENT_BYTES_MAX: u64 = 256 * 1024;

/// Longest value that is shown.
const VALUE_BYTES_MAX: usize = 2048;

/// The environments as they were when the processes were executed. Processes that share one are
/// named together. Values of secrets are replaced by their length.
pub fn environment(pids: &[u32], room: &Room) -> Page {
    let mut page = Page::default();
    let mut seen: Vec<(Vec<u8>, Vec<u32>)> = Vec::new();
    for pid in pids {
        let mut bytes = Vec::new();
        let read = File::open(format!("/proc/{pid}/environ"))
            .and_then(|file| file.take(ENVIRONMENT_BYTES_MAX).read_to_end(&mut bytes));
        match read {
            Ok(_) => match seen.iter_mut().find(|(known, _)| *known == bytes) {
                Some((_, pids)) => pids.push(*pid),
                None => seen.push((bytes, vec![*pid])),
            },
            Err(error) => page.miss_of(pids, *pid, "the environment", &error),
        }
    }
    for (bytes, pids) in &seen {
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        if !page.line(room, &format!("[{}]", pids.join(" "))) {
            break;
        }
        let entries = bytes.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
        let all_written = entries.into_iter().all(|entry| {
            let text = String::from_utf8_lossy(entry);
            let shown = secret::masked_assignment(&text);
            page.line(room, &one_line(&shown))
        });
        if !all_written {
            break;
        }
    }
    page.finished()
}

/// A value with line ends could look like another variable.
fn one_line(text: &str) -> String {
    let mut line = text.replace('\n', "\\n").replace('\r', "\\r");
    if VALUE_BYTES_MAX < line.len() {
        let end = (0..=VALUE_BYTES_MAX).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
        line.truncate(end);
        line.push_str(" …(cut)");
    }
    line
}
