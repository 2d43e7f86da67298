//! Each file says what it is, is short enough to be read, and each library says what it never does.
//!
//! Source: the house style, "Files and functions".

use super::finding::Finding;
use super::source::Source;
use std::path::Path;

/// Lines of code a file should have at most, without its tests: one idea fits.
const FILE_LINES_GOOD: usize = 500;
/// Lines that nobody may exceed: here it is two ideas for sure.
const FILE_LINES_MAX: usize = 600;
/// Tests of one thing may be long, but a reader has to find the one that failed.
const TEST_FILE_LINES_MAX: usize = 1_000;
const _: () = assert!(FILE_LINES_GOOD < FILE_LINES_MAX && FILE_LINES_MAX < TEST_FILE_LINES_MAX);

/// Checks every file; a file between the good and the greatest length is a note.
pub(crate) fn check(sources: &[Source], notes: &mut Vec<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        if !source.text.starts_with("//!") {
            let right = "begin with `//!`: what it decides, why, its invariants, its source";
            findings.push(Finding::new(&source.path, 1, "no header", right));
        }
        if source.path.ends_with("src/lib.rs") {
            findings.extend(check_library(source));
        }
        let (lines, limit) = if source.is_test {
            (source.text.lines().count(), TEST_FILE_LINES_MAX)
        } else {
            (source.in_test.iter().filter(|in_test| !**in_test).count(), FILE_LINES_MAX)
        };
        if lines > limit {
            let what = format!("{lines} lines, of at most {limit}");
            findings.push(Finding::new(&source.path, 1, what, "split it by idea"));
        } else if !source.is_test && lines > FILE_LINES_GOOD {
            notes.push(length_note(&source.path, lines));
        }
    }
    findings
}

fn length_note(path: &Path, lines: usize) -> String {
    format!("{}: {lines} lines, better at most {FILE_LINES_GOOD}", path.display())
}

fn check_library(source: &Source) -> Vec<Finding> {
    let header: String = source
        .text
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .collect::<Vec<_>>()
        .join("\n");
    ["**Never**", "**Stands on**"]
        .into_iter()
        .filter(|words| !header.contains(words))
        .map(|words| {
            let what = format!("the header of a library does not say {words}");
            let right = "say what the crate never does, and what it stands on";
            Finding::new(&source.path, 1, what, right)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(path: &str, text: &str) -> (Vec<String>, Vec<String>) {
        let mut notes = Vec::new();
        let findings = check(&[Source::new(Path::new(path), text)], &mut notes);
        (findings.iter().map(ToString::to_string).collect(), notes)
    }

    #[test]
    fn a_file_without_header_is_found() {
        assert!(run("crates/a/src/x.rs", "use x;\n").0[0].contains("no header"));
        assert!(run("crates/a/src/x.rs", "//! What.\n").0.is_empty());
    }

    #[test]
    fn a_library_says_what_it_never_does() {
        let both = "//! **Never**: x. **Stands on**: y.\n";
        assert!(run("crates/a/src/lib.rs", both).0.is_empty());
        assert_eq!(run("crates/a/src/lib.rs", "//! **Never**: x.\n").0.len(), 1);
        assert_eq!(run("crates/a/src/lib.rs", "//! x\n").0.len(), 2);
    }

    #[test]
    fn length_counts_without_tests() {
        let code = |lines: usize| format!("//! x\n{}", "fn f() {}\n".repeat(lines - 1));
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "fn t() {}\n".repeat(700));
        let path = "crates/a/src/x.rs";
        assert_eq!(run(path, &(code(500) + &tests)), (vec![], vec![]));
        assert_eq!(run(path, &(code(501) + &tests)).1.len(), 1);
        assert!(run(path, &code(601)).0[0].contains("601 lines, of at most 600"));
        assert!(run("crates/a/tests/it/x.rs", &code(900)).0.is_empty());
        assert_eq!(run("crates/a/tests/it/x.rs", &code(1_001)).0.len(), 1);
    }
}
