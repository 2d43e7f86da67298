//! `cargo xtask bench supervisor`: a thousand idle processes under Holdfast and under those that
//! people use today, side by side in one run.
//!
//! Why: speed is measured against something, or it is advertising.
//! Invariants: every figure in the page comes from one run of this program; a contender that is
//! missing or fails is named, not left out; no process and no file stays behind.

mod contender;
mod cost;
mod idle;
pub(crate) mod machine;
mod options;
mod page;
mod process;
mod run;
mod tdb;
mod tolerance;

use crate::marks;
use crate::report::{say, title};
use anyhow::{Context, Result, bail};
use contender::Contender;
use std::path::PathBuf;
use std::time::Duration;

/// How much is measured.
pub(crate) struct Size {
    /// Processes under supervision.
    pub(crate) processes: usize,
    /// How often the start of all of them is measured.
    pub(crate) starts: usize,
    /// How many of them are killed, one after the other.
    pub(crate) rounds: usize,
    /// For how long an idle supervisor is watched.
    pub(crate) idle: Duration,
}

struct Options {
    size: Size,
    /// Names of contenders; empty = all.
    only: Vec<String>,
    /// Also measure a cold build, which takes minutes.
    cold: bool,
    /// Write docs/benchmarks.md.
    write: bool,
    /// A program of ours that is there already.
    program: Option<PathBuf>,
}

const USAGE: &str = "\
usage: cargo xtask bench supervisor [options]

  --cold            also measure a cold release build
  --only A,B        only these: holdfast, holdfast-instances, supervisord, monit, runit, s6
  --processes N     instead of 1000
  --rounds N        processes killed one after the other, instead of 100
  --starts N        measured starts, instead of 3
  --idle SECONDS    instead of 30
  --program PATH    this holdfast, instead of one that is built; never written to the page
  --no-write        print the table, and leave docs/benchmarks.md alone
";

pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let rest = match arguments {
        [name, "--help", ..] => {
            say(match *name {
                "tolerance" => tolerance::USAGE,
                "tdb" => tdb::USAGE,
                _ => USAGE,
            });
            return Ok(());
        }
        ["--help"] => {
            for usage in [USAGE, tolerance::USAGE, tdb::USAGE] {
                say(usage);
            }
            return Ok(());
        }
        ["supervisor", rest @ ..] => rest,
        ["tolerance", rest @ ..] => return tolerance::run(rest),
        ["tdb", rest @ ..] => return tdb::run(rest),
        _ => bail!("which benchmark: supervisor, tolerance or tdb?\n{USAGE}"),
    };
    let options = parse(rest)?;
    let load_before = machine::load();
    let cold = options.cold.then(cost::cold_build).transpose()?;
    let contenders = contenders(&options)?;
    let results = run::all(&contenders, &options.size, options.program.as_deref())?;
    let machine = machine::describe(&load_before);

    title("result");
    let supervisors = page::supervisors(&options.size, &machine, &results);
    say(&supervisors);
    let build = cold.map(|cold| page::build(&machine, &cold));
    if let Some(build) = &build {
        say(build);
    }
    // Figures of a program that nobody else can build again are for whoever asked.
    if options.write && options.program.is_none() {
        let mut sections = vec![("supervisor", &*supervisors)];
        sections.extend(build.as_deref().map(|build| ("build", build)));
        marks::write("docs/benchmarks.md", &sections)?;
    }
    Ok(())
}

fn parse(arguments: &[&str]) -> Result<Options> {
    let size = Size { processes: 1_000, starts: 3, rounds: 100, idle: Duration::from_secs(30) };
    let mut options = Options { size, only: Vec::new(), cold: false, write: true, program: None };
    let mut rest = arguments.iter();
    while let Some(option) = rest.next() {
        let mut value = || rest.next().with_context(|| format!("{option} needs a value\n{USAGE}"));
        match *option {
            "--cold" => options.cold = true,
            "--no-write" => options.write = false,
            "--program" => options.program = Some(value()?.into()),
            "--only" => options.only = value()?.split(',').map(str::to_owned).collect(),
            "--processes" => options.size.processes = count(value()?)?,
            "--rounds" => options.size.rounds = count(value()?)?,
            "--starts" => options.size.starts = count(value()?)?,
            "--idle" => options.size.idle = Duration::from_secs(count(value()?)? as u64),
            unknown => bail!("unknown option {unknown}\n{USAGE}"),
        }
    }
    if options.size.processes < options.size.rounds {
        bail!("--rounds must not exceed --processes: each one is killed at most once");
    }
    Ok(options)
}

fn count(text: &str) -> Result<usize> {
    match text.parse() {
        Ok(number) if 0 < number => Ok(number),
        _ => bail!("`{text}` is not a number above 0\n{USAGE}"),
    }
}

fn contenders(options: &Options) -> Result<Vec<Contender>> {
    let all = contender::all();
    if let Some(unknown) =
        options.only.iter().find(|name| !all.iter().any(|known| known.name == **name))
    {
        bail!("there is no contender `{unknown}`\n{USAGE}");
    }
    let wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|o| o == name);
    Ok(all.into_iter().filter(|contender| wanted(contender.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let options = parse(&["--only", "runit,s6", "--rounds", "5", "--no-write"]).unwrap();
        assert_eq!(options.only, ["runit", "s6"]);
        assert_eq!((options.size.rounds, options.size.processes), (5, 1_000));
        assert!(!options.write && !options.cold);
        assert_eq!(contenders(&options).unwrap().len(), 2);
    }

    #[test]
    fn wrong_options_are_refused() {
        let refused = |arguments: &[&str]| parse(arguments).is_err();
        assert!(refused(&["--rounds"]));
        assert!(refused(&["--rounds", "0"]));
        assert!(refused(&["--rounds", "many"]));
        assert!(refused(&["--fast"]));
        assert!(refused(&["--processes", "10"]), "more rounds than processes");
        let nobody = parse(&["--only", "nobody"]).unwrap();
        assert!(contenders(&nobody).is_err());
    }
}
