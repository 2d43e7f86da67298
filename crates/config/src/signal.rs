//! Signals by name, as configurations write them: `TERM`, `SIGTERM` or `15`.
//!
//! Source: signal(7), the numbers of x86 and ARM.

use crate::diagnostic::{Fault, Faults, quoted};
use crate::source::Spot;
use crate::suggest::did_you_mean;
use crate::table::Node;
use crate::value::{integer, wrong_type};

/// The highest signal number (SIGRTMAX).
const NUMBER_MAX: i32 = 64;

const NAMES: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The signal of a value.
pub(crate) fn signal(node: Node<'_>, faults: &mut Faults<'_>) -> Option<i32> {
    if node.value.as_integer().is_some() {
        return integer(node, 1..=NUMBER_MAX, faults);
    }
    let Some(written) = node.value.as_str() else {
        wrong_type(node, "a signal", &format!("`{} = \"TERM\"`", node.name), faults);
        return None;
    };
    signal_of(written, node.spot, faults)
}

/// The signal of a piece of a text.
pub(crate) fn signal_of(written: &str, spot: Spot, faults: &mut Faults<'_>) -> Option<i32> {
    let found = number_of(written);
    if found.is_none() {
        let upper = written.to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        let help = did_you_mean(bare, NAMES.iter().map(|(name, _)| *name)).unwrap_or_else(|| {
            "use a name of signal(7), such as TERM, INT, HUP, QUIT, USR1, or a number from 1 to 64"
                .to_owned()
        });
        faults.push(
            Fault::error("unknown-signal", format!("{} is no signal", quoted(written)))
                .at(spot, "unknown signal")
                .help(help),
        );
    }
    found
}

/// The number of a name, or of a number as a text.
pub(crate) fn number_of(written: &str) -> Option<i32> {
    let name = written.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let by_name = NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    let by_number = || written.parse().ok().filter(|n| (1..=NUMBER_MAX).contains(n));
    by_name.or_else(by_number)
}

/// The name of a signal; its number where it has none.
pub(crate) fn name_of(signal: i32) -> String {
    let known = NAMES.iter().find(|(_, number)| *number == signal);
    known.map_or_else(|| signal.to_string(), |(name, _)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_is_known_by_the_name_it_is_shown_with() {
        for signal in 1..=NUMBER_MAX {
            assert_eq!(number_of(&name_of(signal)), Some(signal));
        }
        assert_eq!((number_of("sigterm"), number_of("TERM")), (Some(15), Some(15)));
        assert_eq!((number_of("0"), number_of("65"), number_of("SIG")), (None, None, None));
    }
}
