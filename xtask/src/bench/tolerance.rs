//! `cargo xtask bench tolerance`: what it costs to look after services, and how fast what is sick
//! is served again; beside those that people use today.
//!
//! Invariants: as for `bench supervisor`; and nothing is compared that was not measured in the same
//! run, alternating where the machine's other work could favour one.

mod foretold;
mod observing;
mod rivals;
mod throughput;

use super::machine;
use super::options::{self, Options};
use crate::faults::build;
use crate::marks;
use crate::report::{say, title};
use crate::wheels;
use anyhow::Result;
use std::path::PathBuf;
use trial::Programs;

pub(super) const USAGE: &str = "\
usage: cargo xtask bench tolerance [options]

  --only A,B        only these: observing, throughput, rivals; and foretold, which takes more
                    than an hour and is left out otherwise
  --quick           less of everything, to see that it works
  --no-write        print the tables, and leave docs/benchmarks.md alone
";

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) processes: usize,
    /// Seconds that something is watched at rest.
    pub(crate) rest_s: u64,
    pub(crate) rounds: usize,
    /// Seconds under load, each time.
    pub(crate) load_s: u64,
    /// How many times as fast as a MiB a minute something leaks, to be foretold.
    pub(crate) leak_speed: u32,
}

const FULL: Effort = Effort { processes: 1_000, rest_s: 60, rounds: 5, load_s: 5, leak_speed: 1 };
const QUICK: Effort = Effort { processes: 50, rest_s: 5, rounds: 1, load_s: 2, leak_speed: 10 };

/// What all parts need.
pub(crate) struct Tools {
    pub(crate) programs: Programs,
    pub(crate) folder: PathBuf,
    /// The `bin` of the Python environment, if there is one.
    pub(crate) python: Option<PathBuf>,
    pub(crate) effort: Effort,
}

pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let known: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
    let options = options::parse(arguments, &known, &USUAL, USAGE)?;
    let effort = if options.quick { QUICK } else { FULL };
    let load = machine::load();
    let holdfast = build(true)?;
    let python = wheels::ensure()?;
    let folder = std::env::temp_dir().join(format!("holdfast-bench-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let outcome = Programs::build(&holdfast, &folder).and_then(|programs| {
        parts(&options, &Tools { programs, folder: folder.clone(), python, effort })
    });
    std::fs::remove_dir_all(&folder)?;
    let on = format!("On: {}.\n", machine::describe(&load));
    let sections: Vec<(&str, String)> =
        outcome?.into_iter().map(|(name, text)| (name, format!("{on}\n{text}"))).collect();
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
type Part = (&'static str, fn(&Tools) -> Result<String>);

const PARTS: &[Part] = &[
    ("observing", observing::measure),
    ("throughput", throughput::measure),
    ("rivals", rivals::measure),
    ("foretold", foretold::measure),
];

/// Measured unless asked otherwise.
const USUAL: [&str; 3] = ["observing", "throughput", "rivals"];

fn parts(options: &Options, tools: &Tools) -> Result<Vec<(&'static str, String)>> {
    let mut texts = Vec::new();
    for (name, measure) in PARTS {
        if options.parts.iter().any(|wanted| wanted == name) {
            title(name);
            texts.push((*name, measure(tools)?));
        }
    }
    Ok(texts)
}
