//! `cargo xtask faults`: every fault of the catalogue, in observe and in enforce mode.
//!
//! Why: what Holdfast is said to recognise and to cure is shown, with how long it took, or it is
//! not said (H25).
//! Invariants: it fails unless every row is as the catalogue expects; a fault that can't be tried
//! here is a row that is not as expected; nothing is left behind.

use crate::bench::machine;
use crate::marks;
use crate::report::{say, seconds, title};
use crate::tidy::metadata::Metadata;
use crate::tool;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::time::Instant;
use trial::{CATALOGUE, Fault, Mode, Programs, Row};

const USAGE: &str = "\
usage: cargo xtask faults [options]

  --only A,B      only these faults
  --mode MODE     only observe, or only enforce
  --release       with the release build
  --write         write the tables into docs/faults.md
  --list          what there is, and nothing else
";

struct Options {
    faults: Vec<&'static Fault>,
    modes: Vec<Mode>,
    release: bool,
    write: bool,
    list: bool,
}

pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    if arguments.contains(&"--help") {
        say(USAGE);
        return Ok(());
    }
    let options = parse(arguments)?;
    if options.list {
        options.faults.iter().for_each(|it| say(&format!("{:<16} {}", it.name, it.about)));
        return Ok(());
    }
    let (begun, load) = (Instant::now(), machine::load());
    let holdfast = build(options.release)?;
    let folder = std::env::temp_dir().join(format!("holdfast-faults-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let rows = Programs::build(&holdfast, &folder).map(|programs| all(&programs, &options));
    std::fs::remove_dir_all(&folder)?;
    let rows = rows?;
    if options.write {
        marks::write("docs/faults.md", &[("faults", &page(&options, &rows, &load)?)])?;
    }
    let bad = rows.iter().filter(|row| !row.is_as_expected()).count();
    say(&format!(
        "faults: {} of {} as expected, {}",
        rows.len() - bad,
        rows.len(),
        seconds(begun.elapsed())
    ));
    if 0 < bad {
        bail!("{bad} rows are not as expected");
    }
    Ok(())
}

fn all(programs: &Programs, options: &Options) -> Vec<Row> {
    title("faults");
    let mut rows = Vec::new();
    for fault in &options.faults {
        for mode in &options.modes {
            let row = trial::run(programs, fault, *mode);
            say(&trial::text(&row));
            rows.push(row);
        }
    }
    rows
}

pub(crate) fn build(release: bool) -> Result<PathBuf> {
    let mut words = vec!["build", "--locked", "--package", "holdfast"];
    words.extend(release.then_some("--release"));
    tool::run(tool::cargo().args(words))?;
    let profile = if release { "release" } else { "debug" };
    Ok(Metadata::load()?.target_directory.join(profile).join("holdfast"))
}

fn page(options: &Options, rows: &[Row], load: &str) -> Result<String> {
    let version = |program: &str, argument: &str| {
        let said = tool::output(tool::command(program).arg(argument)).unwrap_or_default();
        said.lines().next().unwrap_or("unknown").to_owned()
    };
    let date = tool::output(tool::command("date").args(["-u", "+%Y-%m-%d"]))?;
    let release = if options.release { " --release" } else { "" };
    Ok(format!(
        "Made by `cargo xtask faults{release} --write` on {}, with {} and {}.\nOn: {}.\n\n{}",
        date.trim(),
        version("rustc", "--version"),
        version("cc", "--version"),
        machine::describe(load),
        trial::page(rows),
    ))
}

fn parse(arguments: &[&str]) -> Result<Options> {
    let mut options = Options {
        faults: CATALOGUE.iter().collect(),
        modes: Mode::ALL.to_vec(),
        release: false,
        write: false,
        list: false,
    };
    let mut rest = arguments.iter();
    while let Some(option) = rest.next() {
        let mut value = || rest.next().with_context(|| format!("{option} needs a value\n{USAGE}"));
        match *option {
            "--only" => options.faults = value()?.split(',').map(named).collect::<Result<_>>()?,
            "--mode" => {
                let word = *value()?;
                options.modes.retain(|mode| mode.as_str() == word);
                if options.modes.is_empty() {
                    bail!("there is no mode `{word}`\n{USAGE}");
                }
            }
            "--release" => options.release = true,
            "--write" => options.write = true,
            "--list" => options.list = true,
            unknown => bail!("unknown option {unknown}\n{USAGE}"),
        }
    }
    let whole = options.faults.len() == CATALOGUE.len() && options.modes.len() == Mode::ALL.len();
    if options.write && !whole {
        bail!("a part of the table is not written: leave out --only and --mode, or --write");
    }
    Ok(options)
}

fn named(name: &str) -> Result<&'static Fault> {
    trial::find(name).with_context(|| format!("there is no fault `{name}`; see --list\n{USAGE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let options = parse(&["--only", "deadlock,stopped", "--mode", "enforce"]).unwrap();
        assert_eq!(
            options.faults.iter().map(|it| it.name).collect::<Vec<_>>(),
            ["deadlock", "stopped"]
        );
        assert_eq!(options.modes, [Mode::Enforce]);
        assert!(parse(&["--write"]).unwrap().write);
    }

    #[test]
    fn wrong_options_are_refused() {
        let refused = |arguments: &[&str]| parse(arguments).is_err();
        assert!(refused(&["--only"]) && refused(&["--only", "no-such"]));
        assert!(refused(&["--mode", "sometimes"]) && refused(&["--fast"]));
        assert!(refused(&["--write", "--only", "deadlock"]), "a part is not written");
    }
}
