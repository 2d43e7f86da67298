//! `cargo xtask soak`: what only many, or only a long time, can show.
//!
//! - `replacements`: a thousand planned replacements of each kind under a constant load (H20).
//! - `starvation`: an hour in which no core is ever free, and nobody may be replaced for it (H26).
//! - `tdb`: ten minutes in which threads of ours and processes of libtdb share record files.
//!
//! Invariant: one failed request fails the first; one service that is touched, the second; one record
//! that is lost, torn or back again, the third.

use crate::faults::build;
use crate::report::{say, title};
use crate::{packages, tool};
use anyhow::{Context, Result, bail};
use std::time::Duration;
use trial::{Overlap, Programs};

const USAGE: &str = "\
usage: cargo xtask soak replacements [options]
       cargo xtask soak starvation [options]
       cargo xtask soak tdb [options]

  --count N       replacements of each kind, instead of 1000, which take an hour
  --kind KIND     only socket, beside or after
  --for TIME      how long the machine is starved, instead of 1h, or TDB files are hammered, instead
                  of 10m: 90s, 10m
  --release       with the release build
";

const KINDS: &[(&str, &str)] = &[
    ("socket", "one instance, its socket passed on"),
    ("beside", "two instances behind HAProxy, successors beside them"),
    ("after", "two instances behind HAProxy, successors after them"),
];

pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    match arguments {
        ["--help"] | [_, "--help"] => {
            say(USAGE);
            Ok(())
        }
        ["replacements", rest @ ..] => replacements(&parse(rest, "--count")?),
        ["starvation", rest @ ..] => starvation(&parse(rest, "--for")?),
        ["tdb", rest @ ..] => tdb(&parse(rest, "--for")?),
        _ => bail!("which soak?\n{USAGE}"),
    }
}

fn starvation(options: &Options) -> Result<()> {
    let holdfast = build(options.release)?;
    let folder = std::env::temp_dir().join(format!("holdfast-soak-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    title("every core starves");
    let outcome = Programs::build(&holdfast, &folder).and_then(|programs| {
        trial::starve(&programs, options.lasting.unwrap_or(Duration::from_hours(1)))
    });
    std::fs::remove_dir_all(&folder)?;
    let outcome = outcome?;
    say(&outcome.text());
    if !outcome.touched.is_empty() {
        bail!("services were touched that only had no processor");
    }
    Ok(())
}

fn tdb(options: &Options) -> Result<()> {
    let lasting = options.lasting.unwrap_or(Duration::from_mins(10));
    title("one file, threads of ours and processes of libtdb");
    packages::ensure()?;
    let mut command = tool::cargo();
    command.args(["test", "--locked", "-p", "tdb", "--test", "it"]);
    if options.release {
        command.arg("--release");
    }
    // One after the other: each shares the time among all of them.
    command.args(["--", "hammer::", "--test-threads", "1"]);
    command.env("HOLDFAST_HAMMER_SECONDS", lasting.as_secs().to_string());
    tool::run(command.env("HOLDFAST_PEERS", "require"))
}

fn replacements(options: &Options) -> Result<()> {
    let (count, holdfast) = (options.count, build(options.release)?);
    let mut failed = 0;
    for (kind, about) in KINDS {
        if options.kind.as_ref().is_some_and(|wanted| wanted != kind) {
            continue;
        }
        title(about);
        let soak = match *kind {
            "socket" => trial::behind_a_socket(&holdfast, count),
            "beside" => trial::behind_haproxy(&holdfast, count, Overlap::Beside),
            _ => trial::behind_haproxy(&holdfast, count, Overlap::After),
        }?;
        say(&soak.text());
        failed += soak.report.failed();
    }
    if 0 < failed {
        bail!("{failed} requests failed");
    }
    Ok(())
}

struct Options {
    count: usize,
    /// `None`: all.
    kind: Option<String>,
    /// `None`: as long as this soak takes.
    lasting: Option<Duration>,
    release: bool,
}

/// `own` is the one option that only this soak has.
fn parse(arguments: &[&str], own: &str) -> Result<Options> {
    let mut options = Options { count: 1_000, kind: None, lasting: None, release: false };
    let mut rest = arguments.iter();
    while let Some(option) = rest.next() {
        match *option {
            "--release" => options.release = true,
            "--count" if own == "--count" => {
                let value = rest.next().context(USAGE)?;
                options.count = value.parse().ok().filter(|count| 0 < *count).context(USAGE)?;
            }
            "--kind" if own == "--count" => {
                let known = |kind: &&&str| KINDS.iter().any(|(known, _)| known == *kind);
                options.kind = Some((*rest.next().filter(known).context(USAGE)?).to_owned());
            }
            "--for" if own == "--for" => {
                let value = rest.next().context(USAGE)?;
                options.lasting = Some(time(value).context(USAGE)?);
            }
            unknown => bail!("unknown option {unknown}\n{USAGE}"),
        }
    }
    Ok(options)
}

/// `90s`, `10m`, `1h`.
pub(crate) fn time(text: &str) -> Option<Duration> {
    let units = [("s", 1), ("m", 60), ("h", 3_600)];
    let (number, seconds) =
        units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, *seconds)))?;
    let number = number.parse::<u32>().ok().filter(|number| 0 < *number)?;
    Some(Duration::from_secs(u64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let replacements = |arguments: &[&str]| parse(arguments, "--count");
        let options = replacements(&["--count", "5", "--release"]).unwrap();
        assert!((options.count, options.release) == (5, true));
        assert_eq!(replacements(&[]).unwrap().count, 1_000);
        assert!(replacements(&["--count", "0"]).is_err() && replacements(&["--count"]).is_err());
        let one = replacements(&["--kind", "beside"]).unwrap().kind;
        assert!(one.as_deref() == Some("beside") && replacements(&["--kind", "x"]).is_err());
        assert!(replacements(&["--fast"]).is_err() && replacements(&["--for", "1m"]).is_err());
    }

    #[test]
    fn times_are_read() {
        let starvation = |arguments: &[&str]| parse(arguments, "--for").map(|it| it.lasting);
        assert_eq!(starvation(&[]).unwrap(), None);
        assert_eq!(starvation(&["--for", "10m"]).unwrap(), Some(Duration::from_mins(10)));
        assert_eq!(starvation(&["--for", "90s"]).unwrap(), Some(Duration::from_secs(90)));
        let refused = ["", "10", "0s", "m", "1d", "-1s"];
        assert!(refused.iter().all(|text| starvation(&["--for", text]).is_err()));
    }
}
