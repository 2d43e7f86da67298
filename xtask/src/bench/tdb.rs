//! `cargo xtask bench tdb`: the crate `tdb` beside libtdb, on the same files in the same run.
//!
//! Why: the files are shared with libtdb's processes, which will not slow down for others' sake.
//! Invariants: both programs do the same (`crates/tdb/examples/bench`, `xtask/assets/tdb.c`), in
//! turns, and each begins a round as often as the other; every figure is of this run; no process and
//! no file stays behind.

mod alone;
mod contended;
mod crowd;
mod figures;
mod programs;

use super::{machine, options};
use crate::marks;
use crate::report::{say, title};
use anyhow::Result;
use programs::Bench;

pub(super) const USAGE: &str = "\
usage: cargo xtask bench tdb [options]

  --only A,B        only these: alone, contended, crowd
  --quick           less of everything, to see that it works
  --no-write        print the tables, and leave docs/benchmarks.md alone
";

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    /// Milliseconds that a program goes on, each time.
    pub(crate) ms: u64,
    /// Records of the file that is traversed.
    pub(crate) traversed: u64,
    /// How often a lock that somebody has is waited for.
    pub(crate) waits: u64,
}

const FULL: Effort = Effort { rounds: 9, ms: 300, traversed: 1_000_000, waits: 100 };
const QUICK: Effort = Effort { rounds: 3, ms: 50, traversed: 50_000, waits: 5 };

pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let known: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
    let options = options::parse(arguments, &known, &known, USAGE)?;
    let load = machine::load();
    let bench = Bench::prepare(if options.quick { QUICK } else { FULL })?;
    let mut sections = Vec::new();
    for (name, measure) in PARTS {
        if options.parts.iter().any(|wanted| wanted == name) {
            title(name);
            sections.push((format!("tdb-{name}"), measure(&bench)?));
        }
    }
    let on = format!(
        "On: {}; libtdb {}.\n",
        machine::describe(&load),
        programs::version_of_libtdb().as_deref().unwrap_or("of unknown version")
    );
    let sections: Vec<(&str, String)> =
        sections.iter().map(|(name, text)| (name.as_str(), format!("{on}\n{text}"))).collect();
    for (_, text) in &sections {
        say(text);
    }
    if options.write {
        let sections: Vec<(&str, &str)> =
            sections.iter().map(|(name, text)| (*name, text.as_str())).collect();
        marks::write("docs/benchmarks.md", &sections)?;
    }
    Ok(())
}

/// A part: its name, and what measures it.
type Part = (&'static str, fn(&Bench) -> Result<String>);

const PARTS: &[Part] =
    &[("alone", alone::measure), ("contended", contended::measure), ("crowd", crowd::measure)];
