//! `cargo xtask fuzz`: files and texts that libFuzzer makes up, for whatever reads bytes from outside.
//!
//! Why by hand and not by `cargo fuzz`: what that adds to a plain build are six options of the
//! compiler, all of which the stable one has; so nothing needs to be installed but a C++ compiler,
//! which builds libFuzzer.
//! Invariants: an input that takes longer than [`SECONDS_MAX`] or more memory than [`MEGABYTES_MAX`]
//! is a finding like a panic; one finding ends the run with an error; inputs are kept below `target`
//! until somebody asks for the best of them to be kept in the repository.
//! Source: llvm.org, "libFuzzer" and "SanitizerCoverage"; rustc, "Sanitizers Support".

use crate::report::{say, title};
use crate::soak::time;
use crate::tool;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const USAGE: &str = "\
usage: cargo xtask fuzz [TARGET…] [options]
       cargo xtask fuzz --keep

  TARGET          read, write, recovery or dump; all of them, one after the other, if none is named
  --for TIME      how long each target is fuzzed, instead of 1m: 90s, 10m
  --address       with AddressSanitizer, which finds accesses out of bounds in unsafe code too
  --keep          replaces the inputs in crates/tdb/tests/corpus by the fewest, among those and what
                  runs on this machine have found, that reach everything all of them reach
";

const TARGETS: [&str; 4] = ["read", "write", "recovery", "dump"];
/// The crate with the targets, a workspace of its own.
const CRATE: &str = "crates/tdb/fuzz";
/// Inputs that are part of the repository, and replayed by the tests.
const CORPUS: &str = "crates/tdb/tests/corpus";
/// Files that libtdb wrote, when this repository lies beside them.
const GOLDEN: &str = "../shared/spec/tdb-golden";

/// No input may take longer: what is linear takes milliseconds.
const SECONDS_MAX: u32 = 10;
/// No input may need more memory: what is linear needs a tenth of it.
const MEGABYTES_MAX: u32 = 1024;
/// The longest input; the longest golden file is a little shorter.
const INPUT_BYTES_MAX: u32 = 40_000;
/// The longest input that is kept in the repository.
const KEPT_BYTES_MAX: u64 = 2_000;
/// Lines of libFuzzer's last words that are shown.
const LAST_LINES: usize = 40;

/// Counters at the edges of the control flow, where they stand, and the numbers that are compared.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
    --cfg fuzzing";

pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    if arguments.contains(&"--help") {
        say(USAGE);
        return Ok(());
    }
    let options = parse(arguments)?;
    let programs = build(options.address)?;
    for target in &options.targets {
        let program = programs.join(target);
        if options.keep {
            keep(target, &program)?;
        } else {
            title(&format!("{target}, for {} s", options.lasting.as_secs()));
            fuzz(target, &program, options.lasting)?;
        }
    }
    Ok(())
}

struct Options {
    targets: Vec<&'static str>,
    lasting: Duration,
    address: bool,
    keep: bool,
}

fn parse(arguments: &[&str]) -> Result<Options> {
    let lasting = Duration::from_mins(1);
    let mut options = Options { targets: Vec::new(), lasting, address: false, keep: false };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match *argument {
            "--for" => {
                options.lasting = rest.next().and_then(|text| time(text)).context(USAGE)?;
            }
            "--address" => options.address = true,
            "--keep" => options.keep = true,
            name => {
                let known = TARGETS.iter().find(|target| **target == name);
                let known =
                    known.with_context(|| format!("there is no {name} to fuzz\n{USAGE}"))?;
                options.targets.push(known);
            }
        }
    }
    if options.targets.is_empty() {
        options.targets = TARGETS.to_vec();
    }
    Ok(options)
}

/// Builds all targets; returns the folder they are in.
fn build(address: bool) -> Result<PathBuf> {
    if tool::find("c++").is_none() {
        bail!("there is no c++, which builds libFuzzer; on Debian: apt-get install g++");
    }
    let host = host()?;
    let mut flags = COVERAGE.to_owned();
    let mut cargo = tool::cargo();
    if address {
        flags.push_str(" -Zsanitizer=address");
        // The stable compiler has it, but lets nobody ask for it otherwise.
        cargo.env("RUSTC_BOOTSTRAP", "1");
    }
    let folder = tool::root().join(if address { "target/fuzz/address" } else { "target/fuzz" });
    // With a target, even if it is this machine, build scripts are built without the counters.
    cargo
        .args(["build", "--quiet", "--locked", "--release", "--target", &host])
        .arg("--manifest-path")
        .arg(tool::root().join(CRATE).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&folder)
        .env("RUSTFLAGS", flags);
    tool::run(&mut cargo)?;
    Ok(folder.join(host).join("release"))
}

fn host() -> Result<String> {
    let words = tool::output(tool::command("rustc").arg("-vV"))?;
    let host = words.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say which machine this is")?.to_owned())
}

fn work(target: &str) -> PathBuf {
    tool::root().join("target/fuzz/corpus").join(target)
}

/// Where inputs are taken from, besides the target's own folder.
fn seeds(target: &str) -> Vec<PathBuf> {
    let golden = tool::root().join(GOLDEN);
    let is_of_use = target != "recovery" && golden.is_dir();
    let own = tool::root().join(CORPUS).join(target);
    std::iter::once(own).chain(is_of_use.then_some(golden)).collect()
}

fn fuzz(target: &str, program: &Path, lasting: Duration) -> Result<()> {
    let (work, findings) = (work(target), tool::root().join("target/fuzz/findings"));
    fs::create_dir_all(&work)?;
    fs::create_dir_all(&findings)?;
    let output = tool::command(program)
        .arg(work)
        .args(seeds(target))
        .arg(format!("-max_total_time={}", lasting.as_secs()))
        .arg(format!("-timeout={SECONDS_MAX}"))
        .arg(format!("-rss_limit_mb={MEGABYTES_MAX}"))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-artifact_prefix={}/{target}-", findings.display()))
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let words = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        say(&summary(&words).with_context(|| format!("{target} did nothing:\n{words}"))?);
        return Ok(());
    }
    let lines: Vec<&str> = words.lines().filter(|line| !line.starts_with('#')).collect();
    say(&lines[lines.len().saturating_sub(LAST_LINES)..].join("\n"));
    bail!(
        "{target} has a finding: the input is the last file in {}; do it again by\n  {} FILE\n\
         Mend the fault, then keep the input as {CORPUS}/{target}/WHAT-IT-IS",
        findings.display(),
        program.display()
    );
}

/// What libFuzzer says at the end, in words: `#1234 DONE cov: 56 ft: 78 corp: 9/10Kb …`.
fn summary(words: &str) -> Option<String> {
    let done = words.lines().rev().find(|line| line.contains("DONE"))?;
    let mut words = done.split_whitespace();
    let runs = words.next()?.strip_prefix('#')?;
    let places = words.find(|word| *word == "cov:").and_then(|_| words.next())?;
    Some(format!("{runs} inputs, {places} places of the program reached, no finding"))
}

/// Replaces the inputs of the repository by the fewest that reach as much as all there are.
fn keep(target: &str, program: &Path) -> Result<()> {
    let place = tool::root().join("target/fuzz/keep").join(target);
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    let (from, to) = (place.join("from"), place.join("to"));
    fs::create_dir_all(&from)?;
    fs::create_dir_all(&to)?;
    let own = tool::root().join(CORPUS).join(target);
    fs::create_dir_all(&own)?;
    fs::create_dir_all(work(target))?;
    for folder in [&work(target), &own] {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            // What has a name of its own stays in any case.
            let is_made_up = is_made_up(&entry.file_name().to_string_lossy());
            if is_made_up && entry.metadata()?.len() <= KEPT_BYTES_MAX {
                fs::copy(entry.path(), from.join(entry.file_name()))?;
            }
        }
    }
    let mut merge = tool::command(program);
    merge
        // How often a place is reached does not matter here, only whether.
        .args(["-set_cover_merge=1", "-use_counters=0", &format!("-max_len={KEPT_BYTES_MAX}")])
        .args([&to, &from])
        .stderr(fs::File::create(place.join("log"))?);
    tool::run(&mut merge).with_context(|| format!("see {}", place.join("log").display()))?;
    let (mut count, mut bytes) = (0, 0);
    for entry in fs::read_dir(&own)? {
        let entry = entry?;
        if is_made_up(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path())?;
        }
    }
    for entry in fs::read_dir(&to)? {
        let entry = entry?;
        (count, bytes) = (count + 1, bytes + entry.metadata()?.len());
        fs::copy(entry.path(), own.join(entry.file_name()))?;
    }
    say(&format!("{target}: {count} inputs, {bytes} bytes"));
    Ok(())
}

/// Whether libFuzzer gave a file its name; what was a fault once has one that says which.
fn is_made_up(name: &str) -> bool {
    name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let options = parse(&["write", "--for", "10m", "read", "--address"]).unwrap();
        assert_eq!(options.targets, ["write", "read"]);
        assert!((options.lasting, options.address) == (Duration::from_mins(10), true));
        let options = parse(&["--keep"]).unwrap();
        assert!(options.keep && options.targets == TARGETS);
        let refused: [&[&str]; 4] = [&["--for"], &["--for", "long"], &["right"], &["--fast"]];
        assert!(refused.iter().all(|words| parse(words).is_err()));
    }

    #[test]
    fn every_target_is_there_to_be_built_and_has_inputs_to_begin_with() {
        for target in TARGETS {
            let program = format!("targets/{target}.rs");
            assert!(tool::root().join(CRATE).join(program).is_file(), "{target}");
            let corpus = tool::root().join(CORPUS).join(target);
            assert!(fs::read_dir(&corpus).unwrap().next().is_some(), "{}", corpus.display());
        }
    }

    #[test]
    fn the_last_words_of_a_run_are_read() {
        let words = "#2\tINITED cov: 2\n#4711\tDONE   cov: 812 ft: 9 corp: 7/1Kb\nDone 4711 runs\n";
        let said = summary(words).unwrap();
        assert_eq!(said, "4711 inputs, 812 places of the program reached, no finding");
        assert_eq!(summary("==1== ERROR: libFuzzer: deadly signal\n"), None);
    }

    #[test]
    fn what_was_a_fault_once_is_kept() {
        assert!(is_made_up("f99706462cfb27a26bd32a6c4f5120204423be56"));
        assert!(!is_made_up("two-strays-freed-twice"));
    }
}
