//! Habits that creep in by hand: silenced lints, ignored tests, waiting by sleeping, paths of one
//! machine, blanks at the end of lines.
//!
//! Why: each of them works today, on this machine, for whoever wrote it.

use super::Files;
use super::finding::Finding;
use super::source::Source;
use std::path::Path;

/// How many lines above a call its `#[expect]` may stand.
const EXPECT_LINES_ABOVE: usize = 6;

/// Attributes and calls that no source may contain: what to look for, what it is, what is right.
const BANNED: [(&str, &str, &str); 4] = [
    ("#[allow(", "`#[allow]`", "use `#[expect(lint, reason = \"…\")]`, which ends by itself"),
    ("#![allow(", "`#![allow]`", "use `#[expect(lint, reason = \"…\")]` where it is needed"),
    ("#[ignore", "an ignored test", "mend it, or delete it"),
    ("thread::sleep(", "waiting by sleeping", "wait for a condition with a deadline"),
];

pub(crate) fn check_sources(sources: &[Source]) -> Vec<Finding> {
    sources.iter().flat_map(check_source).collect()
}

fn check_source(source: &Source) -> Vec<Finding> {
    let lines: Vec<&str> = source.code.lines().collect();
    let mut findings = Vec::new();
    for (number, line) in source.lines() {
        let first = number.saturating_sub(EXPECT_LINES_ABOVE + 1);
        let expected = lines[first..number]
            .iter()
            .any(|line| line.contains("expect(clippy::disallowed_methods"));
        for (pattern, what, right) in BANNED {
            if line.contains(pattern) && !(expected && pattern.starts_with("thread")) {
                findings.push(Finding::new(&source.path, number, what, right));
            }
        }
    }
    findings
}

/// What betrays the machine that a text was written on.
pub(crate) struct Machine {
    prefixes: Vec<String>,
}

/// People who only exist in examples.
const EXAMPLE_PEOPLE: [&str; 4] = ["alice", "bob", "user", "you"];

impl Machine {
    /// The folder that holds this checkout, and the home of whoever runs this.
    pub(crate) fn here(root: &Path) -> Machine {
        let home = std::env::var_os("HOME").map(Into::into);
        let above = root.parent().map(Path::to_path_buf);
        let prefixes = [above, home]
            .into_iter()
            .flatten()
            // Short ones (`/`, `/root`, `/tmp`) are paths of every machine.
            .filter(|folder| !["/", "/root", "/tmp", "/home"].contains(&&*folder.to_string_lossy()))
            .map(|folder| format!("{}/", folder.display()))
            .collect();
        Machine { prefixes }
    }

    fn betrayed_by(&self, line: &str) -> Option<String> {
        let own = self.prefixes.iter().find(|prefix| starts_in(line, prefix).is_some());
        if let Some(prefix) = own {
            return Some(prefix.clone());
        }
        ["/home/", "/Users/"].into_iter().find_map(|prefix| {
            let name: String = starts_in(line, prefix)?
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_' || *c == '-')
                .collect();
            let real = !name.is_empty() && !EXAMPLE_PEOPLE.contains(&&*name);
            real.then(|| format!("{prefix}{name}"))
        })
    }
}

/// What follows `prefix` in the line, if it begins a path there and does not go on from one.
fn starts_in<'a>(line: &'a str, prefix: &str) -> Option<&'a str> {
    line.match_indices(prefix).find_map(|(at, _)| {
        let goes_on = line[..at]
            .chars()
            .next_back()
            .is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '}'));
        (!goes_on).then(|| &line[at + prefix.len()..])
    })
}

/// Snapshots keep the output of programs as it is, lock files are cargo's, and what a fuzzer made up
/// is whatever it is.
fn is_generated(path: &Path) -> bool {
    let is_corpus = path.components().any(|folder| folder.as_os_str() == "corpus");
    let ends = |ext: &str| path.extension().is_some_and(|found| found == ext);
    is_corpus || ends("snap") || ends("lock") || ends("svg") || ends("proptest-regressions")
}

pub(crate) fn check_files(files: &Files, machine: &Machine) -> Vec<Finding> {
    let own = files.iter().filter(|(path, _)| !is_generated(path));
    own.flat_map(|(path, text)| check_file(path, text, machine)).collect()
}

fn check_file(path: &Path, text: &str, machine: &Machine) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        if line.ends_with([' ', '\t', '\r']) {
            findings.push(Finding::new(path, index + 1, "blanks at the end", "remove them"));
        }
        if let Some(prefix) = machine.betrayed_by(line) {
            let what = format!("`{prefix}` is a path of one machine");
            findings.push(Finding::new(path, index + 1, what, "write it relative, or generally"));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        let last = text.lines().count();
        findings.push(Finding::new(path, last, "no line break at the end", "add one"));
    }
    if text.ends_with("\n\n") {
        let last = text.lines().count();
        findings.push(Finding::new(path, last, "empty lines at the end", "remove them"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<usize> {
        let source = Source::new(Path::new("crates/a/src/x.rs"), text);
        check_source(&source).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn silenced_lints_and_ignored_tests_are_found() {
        assert_eq!(found("\n#[allow(dead_code)]\nfn f() {}\n"), [2]);
        assert_eq!(found("#![allow(missing_docs)]\n#[ignore = \"slow\"]\n"), [1, 2]);
        assert_eq!(found("// #[allow(x)]\nlet s = \"#[ignore]\";\n"), [0_usize; 0]);
    }

    #[test]
    fn sleeping_needs_a_reason_beside_it() {
        assert_eq!(found("std::thread::sleep(x);\n"), [1]);
        let reason = "#[expect(clippy::disallowed_methods, reason = \"polling\")]\n";
        assert_eq!(found(&format!("{reason}fn f() {{\n    thread::sleep(x);\n}}\n")), [0_usize; 0]);
    }

    #[test]
    fn ends_of_lines_and_files_are_clean() {
        let machine = Machine { prefixes: vec![] };
        let lines = |text: &str| check_file(Path::new("a.md"), text, &machine).len();
        assert_eq!(lines("fine\n"), 0);
        assert_eq!(lines(""), 0);
        assert_eq!(lines("blank \ntab\t\nreturn\r\n"), 3);
        assert_eq!(lines("no end"), 1);
        assert_eq!(lines("too many\n\n"), 1);
    }

    #[test]
    fn what_a_program_made_is_left_as_it_is() {
        let machine = Machine { prefixes: vec![] };
        let found = |path: &str| {
            check_files(&Files::from([(path.into(), "no end".to_owned())]), &machine).len()
        };
        assert_eq!((found("a/tests/corpus/read/1f"), found("a/x.snap")), (0, 0));
        assert_eq!(found("a/corpus.md"), 1);
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        let machine = Machine { prefixes: vec!["/build/checkout/".to_owned()] };
        let betrayed = |line: &str| machine.betrayed_by(line).is_some();
        assert!(betrayed("see /build/checkout/x"));
        assert!(!betrayed("see /srv/build/checkout/x"));
        assert!(betrayed(concat!("cd \"/home", "/runner/src\"")));
        assert!(!betrayed("/home/alice/app and /home/ alone"));
        assert!(!betrayed("https://example.org/home/page"));
    }
}
