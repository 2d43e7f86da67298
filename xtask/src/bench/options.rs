//! What is asked of a benchmark that has several parts.

use anyhow::{Result, bail};

/// The options that all such benchmarks have.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Options {
    /// Names of the parts that are measured.
    pub(crate) parts: Vec<String>,
    /// Less of everything, to see that it works.
    pub(crate) quick: bool,
    /// Write docs/benchmarks.md.
    pub(crate) write: bool,
}

/// Reads them; `known` are the names of all parts, `usual` those that are measured unless asked
/// otherwise.
pub(crate) fn parse(
    arguments: &[&str],
    known: &[&str],
    usual: &[&str],
    usage: &str,
) -> Result<Options> {
    let parts = usual.iter().map(|name| (*name).to_owned()).collect();
    let mut options = Options { parts, quick: false, write: true };
    let mut rest = arguments.iter();
    while let Some(option) = rest.next() {
        match *option {
            "--quick" => options.quick = true,
            "--no-write" => options.write = false,
            "--only" => {
                let names = rest.next().copied().unwrap_or_default();
                options.parts = names.split(',').map(str::to_owned).collect();
                if let Some(name) = options.parts.iter().find(|name| !known.contains(&&***name)) {
                    bail!("there is no part `{name}`\n{usage}");
                }
            }
            unknown => bail!("unknown option {unknown}\n{usage}"),
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Options> {
        parse(arguments, &["alone", "crowd", "long"], &["alone", "crowd"], "usage: …")
    }

    #[test]
    fn options_are_read() {
        let options = |parts: &[&str], quick, write| {
            let parts = parts.iter().map(|name| (*name).to_owned()).collect();
            Options { parts, quick, write }
        };
        assert_eq!(read(&[]).unwrap(), options(&["alone", "crowd"], false, true));
        let asked = read(&["--only", "long,alone", "--quick", "--no-write"]).unwrap();
        assert_eq!(asked, options(&["long", "alone"], true, false));
    }

    #[test]
    fn what_is_not_known_is_named() {
        let refused = |arguments: &[&str]| read(arguments).unwrap_err().to_string();
        assert_eq!(refused(&["--only", "alone,x"]), "there is no part `x`\nusage: …");
        assert_eq!(refused(&["--only"]), "there is no part ``\nusage: …");
        assert_eq!(refused(&["--fast"]), "unknown option --fast\nusage: …");
    }
}
