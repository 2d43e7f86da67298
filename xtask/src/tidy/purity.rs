//! Pure crates stay pure: no clock, no threads, no files, no sockets, no unordered maps; and
//! `unsafe` stays in the rooms that say why they need it.
//!
//! Why: what a core decides must be replayable from its inputs. Clippy's lists are the first line
//! of defence; this search is the second, for what the lists cannot name (whole modules, macros).
//! Invariant: code that only a test build compiles may do what it needs.

use super::Files;
use super::arrows::{ROOMS, Room};
use super::finding::Finding;
use super::source::Source;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Folders of `crates` in which `unsafe` may stand.
const UNSAFE_ROOMS: &[&str] = &["sys", "tdb/src/os"];

/// Paths that no pure crate may name, and why.
const BANNED: &[(&str, &str)] = &[
    ("tokio", "a core is not async: the driver calls it"),
    ("std::fs", "a core has no I/O: ask for it by an output"),
    ("std::process", "a core starts no process: ask for it by an output"),
    ("std::thread", "a core has no threads"),
    ("std::env", "a core gets its inputs as arguments"),
    ("std::os", "a core knows no operating system"),
    ("std::sync::mpsc", "a core has no threads"),
    ("std::time::Instant", "a core gets the time as an argument"),
    ("std::time::SystemTime", "a core gets the time as an argument"),
    ("std::collections::HashMap", "iteration order must be fixed: use BTreeMap"),
    ("std::collections::HashSet", "iteration order must be fixed: use BTreeSet"),
    ("std::net::TcpStream", "a core has no sockets, only addresses"),
    ("std::net::TcpListener", "a core has no sockets, only addresses"),
    ("std::net::UdpSocket", "a core has no sockets, only addresses"),
    ("std::net::ToSocketAddrs", "resolving a name is I/O"),
    ("std::io::stdin", "a core has no I/O"),
    ("std::io::stdout", "a core has no I/O"),
    ("std::io::stderr", "a core has no I/O"),
];

/// What the clippy.toml of each pure crate must ban, so that the compiler says it first.
const CLIPPY_BANS: &[&str] = &[
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "std::thread::spawn",
    "std::collections::HashMap",
    "std::fs::File",
    "std::net::TcpStream",
    "std::process::Command",
];

pub(crate) fn check(sources: &[Source], files: &Files) -> Vec<Finding> {
    let mut findings = Vec::new();
    for room in ROOMS.iter().filter(|room| room.layer.is_pure()) {
        let folder = Path::new("crates").join(room.name);
        findings.extend(check_clippy(room, &folder, files));
        let own = sources.iter().filter(|source| source.path.starts_with(folder.join("src")));
        findings.extend(own.flat_map(check_paths));
    }
    findings.extend(sources.iter().flat_map(check_unsafe));
    findings
}

fn check_clippy(room: &Room, folder: &Path, files: &Files) -> Vec<Finding> {
    let path = folder.join("clippy.toml");
    let Some(text) = files.get(&path) else {
        let what = format!("pure crate `{}` has no clippy.toml of its own", room.name);
        return vec![Finding::new(&path, 1, what, "copy the one of crates/base")];
    };
    let listed: BTreeSet<String> = toml::from_str::<toml::Table>(text)
        .ok()
        .iter()
        .flat_map(|table| ["disallowed-methods", "disallowed-types"].map(|key| table.get(key)))
        .flatten()
        .filter_map(toml::Value::as_array)
        .flatten()
        .filter_map(|entry| Some(entry.get("path")?.as_str()?.to_owned()))
        .collect();
    CLIPPY_BANS
        .iter()
        .filter(|path| !listed.contains(**path))
        .map(|ban| {
            let what = format!("clippy.toml of a pure crate does not ban `{ban}`");
            Finding::new(&path, 1, what, "copy the entry from crates/base/clippy.toml")
        })
        .collect()
}

fn check_paths(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, path) in named_paths(source) {
        let broken = BANNED.iter().find(|(banned, _)| covers(banned, &path));
        if let Some((banned, right)) = broken {
            let what = format!("a pure crate names `{banned}`");
            findings.push(Finding::new(&source.path, line, what, *right));
        }
    }
    findings
}

/// True if `path` is the banned path or lies below it.
fn covers(banned: &str, path: &str) -> bool {
    path.strip_prefix(banned).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Every path with `::` in the product's code, `use` groups unfolded, with its line.
fn named_paths(source: &Source) -> Vec<(usize, String)> {
    let mut paths = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in source.product_lines() {
        let trimmed = line.trim_start();
        let begins = ["use ", "pub use ", "pub(crate) use ", "pub(super) use "]
            .iter()
            .find_map(|word| trimmed.strip_prefix(word));
        match (&mut open, begins) {
            (None, Some(rest)) => open = Some((number, rest.to_owned())),
            (Some((_, tree)), _) => tree.push_str(trimmed),
            (None, None) => {
                paths.extend(inline_paths(line).into_iter().map(|path| (number, path)));
            }
        }
        if let Some((begun, tree)) = open.take_if(|(_, tree)| tree.contains(';')) {
            let tree: String =
                tree.split(';').next().unwrap_or_default().split_whitespace().collect();
            let mut unfolded = Vec::new();
            unfold("", &tree, &mut unfolded);
            paths.extend(unfolded.into_iter().map(|path| (begun, path)));
        }
    }
    paths
}

fn inline_paths(line: &str) -> Vec<String> {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        .filter(|word| word.contains("::"))
        .map(|word| word.trim_start_matches(':').to_owned())
        .collect()
}

/// Unfolds `a::{b, c::{d, e}}` into `a::b`, `a::c::d`, `a::c::e`.
fn unfold(prefix: &str, tree: &str, out: &mut Vec<String>) {
    let Some((head, group)) = tree.split_once('{') else {
        if !tree.is_empty() {
            let name = tree.trim_end_matches("::*").trim_end_matches("::self");
            out.push(format!("{prefix}{name}"));
        }
        return;
    };
    let group = group.strip_suffix('}').unwrap_or(group);
    let mut depth = 0_i32;
    let mut begun = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                unfold(&format!("{prefix}{head}"), &group[begun..at], out);
                begun = at + 1;
            }
            _ => {}
        }
    }
    unfold(&format!("{prefix}{head}"), &group[begun..], out);
}

fn check_unsafe(source: &Source) -> Vec<Finding> {
    let allowed = UNSAFE_ROOMS.iter().any(|room| {
        let folder: PathBuf = ["crates", room].iter().collect();
        source.path.starts_with(folder)
    });
    if allowed {
        return Vec::new();
    }
    source
        .lines()
        .filter(|(_, line)| {
            line.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == "unsafe")
        })
        .map(|(number, _)| {
            let right = "only crate `sys` and `tdb/src/os` may: give it a safe function there";
            Finding::new(&source.path, number, "`unsafe` outside its room", right)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let source = Source::new(Path::new("crates/supervisor/src/x.rs"), text);
        check_paths(&source).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn banned_paths_are_found_however_they_are_written() {
        assert!(found("let t = std::time::Instant::now();\n")[0].contains("x.rs:1: "));
        assert!(found("\nuse std::fs;\n")[0].contains("x.rs:2: a pure crate names `std::fs`"));
        assert_eq!(found("use std::{collections::{BTreeMap, HashMap}, fs::File};\n").len(), 2);
        assert_eq!(found("pub use std::net::{\n    IpAddr,\n    TcpStream,\n};\n").len(), 1);
        assert_eq!(found("async fn f() { tokio::spawn(g()); }\n").len(), 1);
        assert_eq!(found("use std::process::*;\nuse std::thread::{self, spawn};\n").len(), 3);
    }

    #[test]
    fn what_is_pure_passes() {
        let text = "use std::collections::{BTreeMap, BTreeSet};\nuse std::net::{IpAddr, SocketAddr};\n\
                    // std::fs::read\nlet s = \"tokio::spawn\";\nuse std::fmt::{self, Display};\n\
                    #[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
        assert_eq!(found(text), [""; 0]);
        assert_eq!(found("let x = my_tokio::go();\nlet y = std::fsync::x();\n"), [""; 0]);
    }

    #[test]
    fn unsafe_stays_in_its_room() {
        let at = |path: &str, text: &str| check_unsafe(&Source::new(Path::new(path), text)).len();
        assert_eq!(at("crates/console/src/x.rs", "fn f() { unsafe { g() } }\n"), 1);
        assert_eq!(at("crates/console/src/x.rs", "// unsafe\nfn not_unsafe_here() {}\n"), 0);
        assert_eq!(at("crates/sys/src/x.rs", "unsafe fn f() {}\n"), 0);
        assert_eq!(at("crates/sysop/src/x.rs", "unsafe fn f() {}\n"), 1);
        assert_eq!(at("crates/tdb/src/os/x.rs", "unsafe fn f() {}\n"), 0);
        assert_eq!(at("crates/tdb/src/oss.rs", "unsafe fn f() {}\n"), 1);
    }

    #[test]
    fn a_pure_crate_needs_its_own_lists() {
        let room = &ROOMS[0];
        let folder = Path::new("crates/base");
        let mut files = Files::new();
        assert!(check_clippy(room, folder, &files)[0].what.contains("no clippy.toml"));
        files.insert(
            folder.join("clippy.toml"),
            "disallowed-types = [{ path = \"std::fs::File\" }]".to_owned(),
        );
        assert_eq!(check_clippy(room, folder, &files).len(), CLIPPY_BANS.len() - 1);
    }
}
