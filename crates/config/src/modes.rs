//! `HOLDFAST_MODE`: how much is done about sickness, said at the daemon's start.
//!
//! Why beside the configuration: a mode can be set for one node, or for one start, without touching
//! a file that all nodes share (H1, H10).
//! Invariant: pure; the caller reads the variable.

use crate::suggest::did_you_mean;
use base::ServiceName;
use std::collections::{BTreeMap, BTreeSet};
use supervisor::Mode;

/// Bytes of the variable; enough for every service of a large node.
const BYTES_MAX: usize = 128 * 1024;

const EXAMPLE: &str = "write `observe`, or `web=observe,db=off`; modes are off, observe, enforce";

/// Modes that stand above the configured ones. A detector's own mode still holds where it is lower.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Modes {
    /// For every service that is not named.
    pub all: Option<Mode>,
    /// For these.
    pub services: BTreeMap<ServiceName, Mode>,
}

impl Modes {
    /// The mode of one service; `None` = as configured.
    pub fn of(&self, service: &ServiceName) -> Option<Mode> {
        self.services.get(service).copied().or(self.all)
    }
}

/// Why a text says no modes. The message names the piece and what would be right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModesError {
    /// The piece, with control characters made visible.
    pub piece: String,
    /// What is wrong with it.
    pub why: String,
    /// What would be right.
    pub help: String,
}

impl std::fmt::Display for ModesError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HOLDFAST_MODE: `{}` {}; {}", self.piece, self.why, self.help)
    }
}

impl std::error::Error for ModesError {}

/// Reads the value of `HOLDFAST_MODE`: pieces with commas between them, each a mode (for all
/// services) or `service=mode`. Blanks around pieces mean nothing; an empty text says nothing.
///
/// # Errors
/// The first piece that is neither, that names no service of `known`, or that says twice what may
/// be said once.
pub fn parse_modes(text: &str, known: &BTreeSet<ServiceName>) -> Result<Modes, ModesError> {
    let fail = |piece: &str, why: &str, help: String| {
        let piece: String = crate::diagnostic::printable(piece).chars().take(80).collect();
        ModesError { piece, why: why.to_owned(), help }
    };
    if BYTES_MAX < text.len() {
        return Err(fail("…", "is too long", format!("at most {BYTES_MAX} bytes")));
    }
    let mut modes = Modes::default();
    if text.trim().is_empty() {
        return Ok(modes);
    }
    for piece in text.split(',').map(str::trim) {
        let (name, word) = match piece.split_once('=') {
            Some((name, word)) => (Some(name.trim()), word.trim()),
            None => (None, piece),
        };
        let mode = [Mode::Off, Mode::Observe, Mode::Enforce]
            .into_iter()
            .find(|mode| mode.as_str() == word)
            .ok_or_else(|| {
                let hint = did_you_mean(word, ["off", "observe", "enforce"]);
                fail(piece, "has no mode", hint.unwrap_or_else(|| EXAMPLE.to_owned()))
            })?;
        let before = match name {
            None => modes.all.replace(mode),
            Some(name) => {
                let service = known.iter().find(|service| service.as_str() == name);
                let service = service.ok_or_else(|| {
                    let hint = did_you_mean(name, known.iter().map(ServiceName::as_str));
                    let help = "`holdfast status` lists the services".to_owned();
                    fail(piece, "names no service", hint.unwrap_or(help))
                })?;
                modes.services.insert(service.clone(), mode)
            }
        };
        if before.is_some() {
            let help = "keep one of the two".to_owned();
            return Err(fail(piece, "says again what was said before", help));
        }
    }
    Ok(modes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Modes, String> {
        let known = ["web", "db", "mail.out"].map(|name| name.parse().unwrap());
        parse_modes(text, &known.into()).map_err(|error| error.to_string())
    }

    #[test]
    fn h1_a_mode_is_said_for_all_services_or_for_each() {
        assert_eq!(parse(" "), Ok(Modes::default()));
        let modes = parse("observe").unwrap();
        assert_eq!(modes.of(&"web".parse().unwrap()), Some(Mode::Observe));
        let modes = parse(" web = observe,db=off , mail.out=enforce").unwrap();
        let of = |name: &str| modes.of(&name.parse().unwrap());
        assert_eq!(of("web"), Some(Mode::Observe));
        assert_eq!(of("db"), Some(Mode::Off));
        assert_eq!(of("mail.out"), Some(Mode::Enforce));
        assert_eq!(of("other"), None);
        let modes = parse("off,web=enforce").unwrap();
        assert_eq!(modes.of(&"web".parse().unwrap()), Some(Mode::Enforce));
        assert_eq!(modes.of(&"db".parse().unwrap()), Some(Mode::Off));
    }

    #[test]
    fn a_wrong_piece_is_named() {
        for (text, expect) in [
            ("web=observ", "`web=observ` has no mode; did you mean `observe`?"),
            ("wbe=off", "`wbe=off` names no service; did you mean `web`?"),
            ("web=off,,", "`` has no mode; write `observe`, or"),
            ("on", "`on` has no mode"),
            ("web=off,web=observe", "`web=observe` says again"),
            ("off,observe", "`observe` says again"),
            ("web=off;db=off", "`web=off;db=off` has no mode"),
            ("\u{1b}[31m", "`\u{fffd}[31m` has no mode"),
            ("zope=off", "`zope=off` names no service; `holdfast status`"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expect), "{text}: {error}");
        }
        assert!(parse(&"x".repeat(BYTES_MAX + 1)).unwrap_err().contains("too long"));
    }
}
