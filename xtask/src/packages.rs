//! The Debian packages that the tests with real peers need, and how they get here.
//!
//! Why: a test against the unmodified peer is worth more than a mock, but only where the peer is
//! installed; a clean machine should get there by the one test command.
//! Invariants: only missing packages are installed; nothing is installed without root; no service
//! is started by the installation; the block against that is removed again.

use crate::report::say;
use crate::tool;
use anyhow::{Context, Result};
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A package, and what shows that it (or its equal) is there.
struct Peer {
    package: &'static str,
    sign: Sign,
}

/// What a package leaves behind. Patterns have one `*`, for a version.
enum Sign {
    /// A program in `PATH`.
    Program(&'static str),
    /// A program in `PATH`, or in a folder of this pattern.
    ProgramIn(&'static str, &'static str),
    /// A file of this pattern.
    File(&'static str),
}

const fn peer(package: &'static str, program: &'static str) -> Peer {
    Peer { package, sign: Sign::Program(program) }
}

const fn peer_in(package: &'static str, program: &'static str, folder: &'static str) -> Peer {
    Peer { package, sign: Sign::ProgramIn(program, folder) }
}

const fn peer_file(package: &'static str, file: &'static str) -> Peer {
    Peer { package, sign: Sign::File(file) }
}

const PEERS: &[Peer] = &[
    peer("nginx-light", "nginx"),
    peer("redis-server", "redis-server"),
    peer("memcached", "memcached"),
    peer_in("postgresql", "pg_ctl", "/usr/lib/postgresql/*/bin"),
    peer("chromium", "chromium"),
    peer("supervisor", "supervisord"),
    peer("monit", "monit"),
    peer("runit", "runsvdir"),
    peer("s6", "s6-svscan"),
    peer("python3", "python3"),
    peer("curl", "curl"),
    peer("socat", "socat"),
    peer("tdb-tools", "tdbdump"),
    peer_file("python3-tdb", "/usr/lib/python3/dist-packages/tdb.cpython-*.so"),
    peer("jq", "jq"),
    peer("procps", "ps"),
    peer("haproxy", "haproxy"),
    peer("wrk", "wrk"),
    peer("elfutils", "eu-stack"),
    peer("gdb", "gdb"),
];

/// What only a benchmark needs.
const LIBTDB: &[Peer] = &[peer_file("libtdb-dev", "/usr/include/tdb.h")];

/// Set to anything to keep [`ensure`] from installing.
const NO_INSTALL: &str = "HOLDFAST_NO_INSTALL";
/// Debian's maintainer scripts ask this program before they start a service; 101 means "do not".
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Whether nothing is missing.
pub(crate) fn all_are_here() -> bool {
    missing(PEERS).is_empty()
}

/// Installs what is missing when it may; otherwise names it and says what that means.
pub(crate) fn ensure() -> Result<()> {
    let consequence = "The tests that need them will be skipped, each saying so.";
    ensure_these(PEERS, "for the tests with real peers", consequence)
}

/// The same for what programs in C need to use libtdb; false if it is not there afterwards.
pub(crate) fn ensure_libtdb() -> Result<bool> {
    ensure_these(LIBTDB, "for the benchmark", "There is nothing to compare with.")?;
    Ok(missing(LIBTDB).is_empty())
}

fn ensure_these(peers: &[Peer], purpose: &str, consequence: &str) -> Result<()> {
    let missing = missing(peers);
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    let reason = if std::env::var_os(NO_INSTALL).is_some() {
        format!("{NO_INSTALL} is set")
    } else if !tool::is_root() {
        "this is not root".to_owned()
    } else if tool::find("apt-get").is_none() {
        "there is no apt-get".to_owned()
    } else {
        say(&format!("installing {purpose}: {list}"));
        return install(&missing);
    };
    say(&format!(
        "not installed, and {reason}: {list}\n\
         {consequence} To have them:\n  \
         sudo apt-get install --no-install-recommends {list}"
    ));
    Ok(())
}

fn missing(peers: &[Peer]) -> Vec<&'static str> {
    peers.iter().filter(|peer| !is_here(&peer.sign)).map(|peer| peer.package).collect()
}

fn is_here(sign: &Sign) -> bool {
    match sign {
        Sign::Program(program) => tool::find(program).is_some(),
        Sign::ProgramIn(program, folder) => {
            let there = |folder: &PathBuf| tool::is_executable(&folder.join(program));
            tool::find(program).is_some() || matching(folder).iter().any(there)
        }
        Sign::File(pattern) => matching(pattern).iter().any(|path| path.is_file()),
    }
}

/// What there is of a pattern whose one `*` stands for a part of one name.
fn matching(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else { return vec![pattern.into()] };
    let (folder, begin) = before.rsplit_once('/').unwrap_or((".", before));
    let (end, below) = after.split_once('/').unwrap_or((after, ""));
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let fits = |name: &str| name.strip_prefix(begin).is_some_and(|rest| rest.ends_with(end));
    entries
        .filter(|entry| entry.file_name().to_str().is_some_and(fits))
        // Nothing below: to join that would ask for a folder.
        .map(|entry| if below.is_empty() { entry.path() } else { entry.path().join(below) })
        .filter(|path| path.exists())
        .collect()
}

fn install(packages: &[&str]) -> Result<()> {
    let _block = AutostartBlock::raise(Path::new(POLICY))?;
    let apt = || {
        let mut apt = tool::command("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt
    };
    tool::run(apt().args(["update", "-q"]))?;
    tool::run(
        apt()
            .args(["install", "-q", "-y", "--no-install-recommends"])
            .args(["-o", "DPkg::Lock::Timeout=120"])
            .args(packages),
    )
}

/// Keeps maintainer scripts from starting services, as long as it lives.
struct AutostartBlock {
    /// What to remove afterwards; nothing if somebody else's policy stands there already.
    ours: Option<PathBuf>,
}

impl AutostartBlock {
    fn raise(path: &Path) -> Result<AutostartBlock> {
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(path);
        match file {
            Ok(mut file) => {
                let block = AutostartBlock { ours: Some(path.to_path_buf()) };
                file.write_all(b"#!/bin/sh\nexit 101\n")
                    .with_context(|| format!("cannot write {}", path.display()))?;
                Ok(block)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Ok(AutostartBlock { ours: None })
            }
            Err(error) => Err(error).with_context(|| format!("cannot create {}", path.display())),
        }
    }
}

impl Drop for AutostartBlock {
    fn drop(&mut self) {
        if let Some(path) = &self.ours {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("holdfast-xtask-{name}-{}", std::process::id()))
    }

    #[test]
    fn the_block_is_ours_only_if_we_made_it() {
        let path = scratch("policy");
        fs::write(&path, "somebody's").unwrap();
        drop(AutostartBlock::raise(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's");

        fs::remove_file(&path).unwrap();
        let block = AutostartBlock::raise(&path).unwrap();
        assert!(tool::is_executable(&path));
        drop(block);
        assert!(!path.exists());
    }

    #[test]
    fn a_program_outside_path_is_found_by_its_pattern() {
        let base = scratch("versions");
        let bin = base.join("15/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy("/bin/sh", bin.join("only-there")).unwrap();
        let pattern: &'static str = format!("{}/*/bin", base.display()).leak();
        assert!(!is_here(&Sign::Program("only-there")));
        assert!(is_here(&Sign::ProgramIn("only-there", pattern)));
        assert!(!is_here(&Sign::ProgramIn("not-even-there", pattern)));
        fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn a_file_is_found_by_its_pattern() {
        let base = scratch("files");
        fs::create_dir_all(base.join("tdb.folder.so")).unwrap();
        let file = |pattern: &str| {
            let pattern: &'static str = format!("{}/{pattern}", base.display()).leak();
            is_here(&Sign::File(pattern))
        };
        assert!(!file("tdb.*.so"), "a folder is no file");
        fs::write(base.join("tdb.cpython-311.so"), "x").unwrap();
        for (pattern, here) in [
            ("tdb.*.so", true),
            ("tdb.cpython-*.so", true),
            ("tdb.cpython-311.so*", true),
            ("tdb.cpython-311.so", true),
            ("tdb.cpython-*.py", false),
            ("ldb.*.so", false),
            ("nowhere/tdb.*.so", false),
            ("tdb.cpython-311.so*.so", false),
        ] {
            assert_eq!(file(pattern), here, "{pattern}");
        }
        fs::remove_dir_all(&base).unwrap();
    }
}
