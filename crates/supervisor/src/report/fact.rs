//! One event, as far as telling people needs it.
//!
//! Why a type of its own: an event's texts come from services and may hold anything. Here they are
//! cut to bounded length, on one line, without control characters, before they are kept or sent.

use crate::Severity;
use base::WallTime;
use std::time::Duration;

/// Longest text of one sentence, in characters; the rest is cut.
const TEXT_CHARS_MAX: usize = 600;

/// Longest name of a subject, a kind or an evidence bundle, in characters.
const NAME_CHARS_MAX: usize = 200;

/// Lines of output that are quoted.
const OUTPUT_LINES_MAX: usize = 12;

/// Longest quoted line, in characters.
const LINE_CHARS_MAX: usize = 300;

/// One event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fact {
    /// When it happened, for people.
    pub wall: WallTime,
    /// An instance, `holdfast`, or `duty/NAME`.
    pub subject: String,
    /// The event's dotted name.
    pub kind: String,
    /// How much it matters.
    pub severity: Severity,
    /// One sentence.
    pub message: String,
    /// Why, where the event tells that by itself.
    pub cause: Option<String>,
    /// How long the run had been up that it is about.
    pub uptime: Option<Duration>,
    /// The evidence bundle that was gathered.
    pub evidence: Option<String>,
    /// The last lines that the service wrote.
    pub output: Vec<String>,
    /// A replacement as part of normal life, not for a sickness.
    pub planned: bool,
    /// It only waits for its turn.
    pub waits: bool,
    /// A remedy that has helped: the service did not have to be replaced.
    pub helped: bool,
}

impl Fact {
    /// The same with every text bounded and clean.
    pub fn tidy(self) -> Self {
        Self {
            subject: clean(&self.subject, NAME_CHARS_MAX),
            kind: clean(&self.kind, NAME_CHARS_MAX),
            message: clean(&self.message, TEXT_CHARS_MAX),
            cause: self.cause.map(|cause| clean(&cause, TEXT_CHARS_MAX)),
            evidence: self.evidence.map(|name| clean(&name, NAME_CHARS_MAX)),
            output: clean_output(&self.output),
            ..self
        }
    }
}

/// The service of an instance.
pub(super) fn service_of(subject: &str) -> &str {
    subject.split(':').next().unwrap_or(subject)
}

/// The last lines, bounded and clean.
pub(super) fn clean_output(lines: &[String]) -> Vec<String> {
    let skipped = lines.len().saturating_sub(OUTPUT_LINES_MAX);
    lines.iter().skip(skipped).map(|line| clean(line, LINE_CHARS_MAX)).collect()
}

/// One line of at most `max` characters: colours are left out, a control character becomes a blank,
/// what is cut shows.
fn clean(text: &str, max: usize) -> String {
    let mut cleaned = String::new();
    let mut chars = text.trim_end().chars().peekable();
    let mut room = max;
    while let Some(c) = chars.next() {
        if c == '\x1b' && chars.next_if_eq(&'[').is_some() {
            // A control sequence: parameters, then one final byte (ECMA-48, 5.4).
            while chars.next_if(|c| ('\x20'..='\x3f').contains(c)).is_some() {}
            chars.next_if(|c| ('\x40'..='\x7e').contains(c));
        } else if room == 0 {
            cleaned.push('…');
            break;
        } else {
            cleaned.push(if c.is_control() || is_direction(c) { ' ' } else { c });
            room -= 1;
        }
    }
    cleaned
}

/// Characters that turn the direction of writing can make a line look like another one.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The shape of a sentence: two of the same shape tell the same, but for their numbers.
pub(super) fn shape(message: &str) -> String {
    let mut shape = String::with_capacity(message.len());
    for c in message.chars() {
        let c = if c.is_ascii_digit() { '#' } else { c };
        if c != '#' || !shape.ends_with('#') {
            shape.push(c);
        }
    }
    shape
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn fact(subject: &str, kind: &str, second: i64) -> Fact {
        Fact {
            wall: WallTime::from_micros(1_700_000_000_000_000 + second * 1_000_000),
            subject: subject.into(),
            kind: kind.into(),
            severity: Severity::Warning,
            message: format!("{subject}: {kind}"),
            cause: None,
            uptime: None,
            evidence: None,
            output: Vec::new(),
            planned: false,
            waits: false,
            helped: false,
        }
    }

    #[test]
    fn texts_from_services_are_bounded_and_on_one_line() {
        let wild = Fact {
            message: format!("a\r\nBcc: x@example.org\x1b[31m\u{202e}{}", "é".repeat(5_000)),
            output: (0..50).map(|n| format!("{n}\t{}", "y".repeat(5_000))).collect(),
            ..fact("web", "service.exited", 0)
        };
        let tidy = wild.tidy();
        assert!(tidy.message.starts_with("a  Bcc: x@example.org é"), "{}", tidy.message);
        assert_eq!(tidy.message.chars().count(), TEXT_CHARS_MAX + 1);
        assert!(tidy.message.ends_with('…'));
        assert_eq!(tidy.output.len(), OUTPUT_LINES_MAX);
        assert!(tidy.output[11].starts_with("49 yyy"), "the last ones are kept");
        assert_eq!(tidy.clone().tidy(), tidy);
    }

    #[test]
    fn sentences_that_differ_in_numbers_have_one_shape() {
        let sentence = |n: u32| format!("web restarts in {n} s (restart {n} of 5): code {n}");
        assert_eq!(shape(&sentence(1)), shape(&sentence(140)));
        assert_ne!(shape(&sentence(1)), shape("web restarts now"));
    }
}
