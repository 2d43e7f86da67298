//! `cargo xtask soak replacements`: planned replacements under a constant load, a thousand of them.
//!
//! Why: "without a failed request" (H20) is a claim about the rare case; only many show it.
//! Invariant: one failed request fails the soak.

use crate::faults::build;
use crate::report::{say, title};
use anyhow::{Context, Result, bail};
use trial::{Overlap, Soak};

const USAGE: &str = "\
usage: cargo xtask soak replacements [options]

  --count N       replacements of each kind, instead of 1000
  --release       with the release build
";

pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let ["replacements", rest @ ..] = arguments else {
        bail!("which soak?\n{USAGE}");
    };
    let (count, release) = parse(rest)?;
    let holdfast = build(release)?;
    let kinds: [(&str, &dyn Fn() -> Result<Soak>); 3] = [
        ("one instance, its socket passed on", &|| trial::behind_a_socket(&holdfast, count)),
        ("two instances behind HAProxy, successors beside them", &|| {
            trial::behind_haproxy(&holdfast, count, Overlap::Beside)
        }),
        ("two instances behind HAProxy, successors after them", &|| {
            trial::behind_haproxy(&holdfast, count, Overlap::After)
        }),
    ];
    let mut failed = 0;
    for (name, kind) in kinds {
        title(name);
        let soak = kind()?;
        say(&soak.text());
        failed += soak.report.failed();
    }
    if 0 < failed {
        bail!("{failed} requests failed");
    }
    Ok(())
}

fn parse(arguments: &[&str]) -> Result<(usize, bool)> {
    let (mut count, mut release) = (1_000, false);
    let mut rest = arguments.iter();
    while let Some(option) = rest.next() {
        match *option {
            "--release" => release = true,
            "--count" => {
                let value = rest.next().context(USAGE)?;
                count = value.parse().ok().filter(|count| 0 < *count).context(USAGE)?;
            }
            unknown => bail!("unknown option {unknown}\n{USAGE}"),
        }
    }
    Ok((count, release))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        assert_eq!(parse(&[]).unwrap(), (1_000, false));
        assert_eq!(parse(&["--count", "5", "--release"]).unwrap(), (5, true));
        assert!(parse(&["--count", "0"]).is_err() && parse(&["--count"]).is_err());
        assert!(parse(&["--fast"]).is_err());
    }
}
