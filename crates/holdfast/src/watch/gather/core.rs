//! The memory of a sick process, as a core file that gdb reads.
//!
//! Invariant: half a core file is none: it is removed, and the reason is said.

use super::tool::{self, Ran};
use std::path::Path;
use std::time::Instant;
use sys::child::Exit;

/// Kept of what gdb says.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// What gdb says when it could not write all of it; it calls that a success.
const HALF: [&str; 3] = ["Failed to write corefile", "writing note section", "cannot close"];

/// Writes it; says how long it is, or why there is none and what would help.
pub(super) fn take(
    pid: u32,
    path: &Path,
    bytes_max: u64,
    deadline: Instant,
) -> Result<u64, (String, &'static str)> {
    let Some(program) = tool::find("gdb", &[]) else {
        let why = "gdb is not installed".to_owned();
        return Err((why, "install gdb, or set `core = false`"));
    };
    let command = format!("generate-core-file {}", path.display());
    let pid = pid.to_string();
    let argv = ["gdb", "-nx", "-batch", "--readnever", "-p", &pid, "-ex", &command];
    let mut plan = tool::Plan::new(program, argv.map(str::to_owned).to_vec());
    plan.file_bytes_max = Some(bytes_max);
    let ran = tool::run(&plan, deadline, OUTPUT_BYTES_MAX);
    let bytes = std::fs::metadata(path).ok().map(|found| found.len());
    judge(&ran, bytes, bytes_max).inspect_err(|_| {
        let _ = std::fs::remove_file(path);
    })
}

fn judge(
    ran: &Result<Ran, String>,
    bytes: Option<u64>,
    bytes_max: u64,
) -> Result<u64, (String, &'static str)> {
    let too_large = || {
        let why = format!("it is larger than {}", base::ByteSize(bytes_max));
        (why, "allow a larger `size_max`")
    };
    let ran = ran.as_ref().map_err(|why| (why.clone(), ""))?;
    let output = String::from_utf8_lossy(&ran.output);
    let said = |words: &str| output.lines().find(|line| line.contains(words));
    match (ran.exit, bytes) {
        (None, _) => {
            let why = "gdb did not end in time, and was killed".to_owned();
            Err((why, "allow a larger `budget`"))
        }
        (Some(_), Some(bytes)) if bytes_max <= bytes => Err(too_large()),
        (Some(Exit::Signal(_)), _) => Err(too_large()),
        (Some(_), bytes) => match (HALF.iter().find_map(|words| said(words)), bytes) {
            (None, Some(bytes)) => Ok(bytes),
            (Some(half), _) => Err((half.to_owned(), "make room on the disk")),
            (None, None) => {
                let last = output.lines().rev().find(|line| !line.trim().is_empty());
                Err((last.unwrap_or("gdb says nothing").to_owned(), ""))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h15_half_a_core_file_is_none_whatever_gdb_calls_it() {
        let ran = |exit, output: &str| Ok(Ran { output: output.into(), cut: false, exit });
        let well = Some(Exit::Code(0));
        assert_eq!(judge(&ran(well, "Saved corefile x"), Some(5), 10), Ok(5));
        let why = |ran, bytes| judge(&ran, bytes, 10).unwrap_err().0;
        assert_eq!(why(ran(well, "Saved corefile x"), Some(10)), "it is larger than 10B");
        let full = "warning: Failed to write corefile contents (No space left on device).";
        assert_eq!(why(ran(well, &format!("{full}\nSaved corefile x")), Some(5)), full);
        assert_eq!(why(ran(Some(Exit::Signal(25)), ""), Some(5)), "it is larger than 10B");
        assert!(why(ran(None, ""), Some(5)).contains("did not end in time"));
        let gone = "ptrace: No such process.\n\n";
        assert_eq!(why(ran(Some(Exit::Code(1)), gone), None), "ptrace: No such process.");
        assert_eq!(why(Err("no such file".to_owned()), None), "no such file");
    }
}
