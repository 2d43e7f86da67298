//! Development tasks of this workspace: `cargo xtask tidy | test | ci | bench | faults | soak | fuzz | dist`.
//!
//! Why: what a developer types, what the documentation says and what CI runs must be one and the
//! same thing, so all three call this program.
//! Invariant: nothing here is part of the product; no crate of the product depends on it.

mod bench;
mod ci;
mod dist;
mod faults;
mod fuzz;
mod marks;
mod packages;
mod report;
mod soak;
mod test_run;
mod tidy;
mod tool;
mod wheels;

use report::say;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <task>

  tidy              check the rules of the house that the compiler does not know
  test [FILTER…]    run all tests; installs what the real-peer tests need when it may
  ci                everything that has to be green before a commit
  dist [--twice]    the release binary and the Debian package; twice, to compare the two
  bench supervisor  1,000 idle processes under Holdfast and four others; makes docs/benchmarks.md
  bench tolerance   what it costs to look after services, and how fast they are served again
  bench tdb         the record files beside libtdb: each operation, locks, many at once
  faults            every fault of the catalogue, observed and enforced; makes docs/faults.md
  fuzz [TARGET…]    files and dumps that a fuzzer makes up, a minute each; finds what panics or hangs
  soak replacements 1,000 planned replacements under load, without a failed request
  soak starvation   an hour without a free core, in which no service may be replaced for it
  soak tdb          ten minutes of threads of ours and processes of libtdb on the same files
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["tidy"] => tidy::run(),
        ["test", filter @ ..] => test_run::run(filter),
        ["ci"] => ci::run(),
        ["dist", rest @ ..] => dist::run(rest),
        ["bench", rest @ ..] => bench::run(rest),
        ["faults", rest @ ..] => faults::run(rest),
        ["fuzz", rest @ ..] => fuzz::run(rest),
        ["soak", rest @ ..] => soak::run(rest),
        ["help" | "--help" | "-h"] => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        _ => {
            say(USAGE);
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
