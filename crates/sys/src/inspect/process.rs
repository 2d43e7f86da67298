//! What a process is, and what it may.

use super::{Page, Room, secret};
use std::fs::{self, File};
use std::io::Read;

/// Most bytes of one file of /proc that are read here.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// Command line (without secrets), program, directory and `status` of each process.
pub fn processes(pids: &[u32], room: &Room) -> Page {
    let mut page = Page::default();
    for pid in pids {
        let link = |name: &str| {
            fs::read_link(format!("/proc/{pid}/{name}"))
                .map_or_else(|error| format!("({error})"), |path| path.display().to_string())
        };
        let status = match read(*pid, "status") {
            Ok(status) => status,
            Err(error) => {
                page.miss_of(pids, *pid, "the status", &error);
                continue;
            }
        };
        let command = read(*pid, "cmdline").unwrap_or_default();
        let words = command.split('\0').filter(|word| !word.is_empty());
        let command = secret::masked_arguments(words).join(" ").replace('\n', "\\n");
        let head = format!(
            "[{pid}]\ncommand: {command}\nprogram: {}\ndirectory: {}\nroot: {}",
            link("exe"),
            link("cwd"),
            link("root")
        );
        if !page.line(room, &head) || !page.line(room, status.trim_end()) {
            break;
        }
    }
    page.finished()
}

/// The resource limits of each process.
pub fn limits(pids: &[u32], room: &Room) -> Page {
    let mut page = Page::default();
    for pid in pids {
        match read(*pid, "limits") {
            Ok(text) => {
                if !page.line(room, &format!("[{pid}]\n{}", text.trim_end())) {
                    break;
                }
            }
            Err(error) => page.miss_of(pids, *pid, "the limits", &error),
        }
    }
    page.finished()
}

pub(super) fn read(pid: u32, file: &str) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    File::open(format!("/proc/{pid}/{file}"))?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
