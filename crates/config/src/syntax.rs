//! From text to TOML tables, with every syntax error of a file and not only the first.
//!
//! Why: what stands on the other lines is checked like the rest, so that a forgotten quote does
//! not hide ten other faults. About a broken line itself nothing more is said.
//! Invariant: what is parsed has every character at the offset that it has in the file.

use crate::diagnostic::{Fault, Faults};
use crate::source::{FileId, Sources, Spot};
use std::borrow::Cow;
use std::collections::BTreeSet;
use toml::Spanned;
use toml::de::DeTable;

/// Syntax errors of one file that are reported. More come from a file that is no TOML at all.
const ERRORS_MAX: usize = 100;

/// Reports the syntax errors of a file and gives its text without the lines that would keep the
/// parser from reading on. It is blanked and not cut, so that all offsets stay.
pub(crate) fn mend<'s>(file: FileId, faults: &mut Faults<'s>) -> Cow<'s, str> {
    let text = faults.sources.text(file);
    let (_, errors) = DeTable::parse_recoverable(text);
    let mut stops = BTreeSet::new();
    for error in errors.iter().filter(|error| error.message() != "duplicate key") {
        let spot = Spot::new(file, error.span().unwrap_or(0..0));
        let line = faults.sources.line_of(file, spot.start);
        let is_header = faults.sources.line(file, line).is_some_and(|(_, text)| is_header(text));
        if is_header || error.message().starts_with("key with no value") {
            stops.insert(line);
        }
        // What follows on the same line is nearly always a consequence.
        if faults.break_line(spot) && faults.broken_lines() <= ERRORS_MAX {
            let fault = syntax(error.message(), spot, faults.sources);
            faults.push(fault);
        }
    }
    if stops.is_empty() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(blank(file, &stops, faults.sources))
}

/// Parses a mended text and reports what is there twice.
pub(crate) fn parse<'t>(
    file: FileId,
    text: &'t str,
    faults: &mut Faults<'_>,
) -> Spanned<DeTable<'t>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut doubled = BTreeSet::new();
    let twice = errors.iter().filter(|error| error.message() == "duplicate key");
    for error in twice.take(ERRORS_MAX) {
        let spot = Spot::new(file, error.span().unwrap_or(0..0));
        let line = faults.sources.line_of(file, spot.start);
        let header = header_above(file, line, faults.sources);
        if header == Some(line) {
            doubled.insert(line);
        } else if header.is_some_and(|header| doubled.contains(&header)) {
            // The whole section is there twice: that has been said.
            continue;
        }
        let fault = duplicate(spot, faults.sources);
        faults.push(fault);
    }
    table
}

fn is_header(line: &str) -> bool {
    line.trim_start().starts_with('[')
}

/// The line of the header that a line belongs to, or the line itself if it is one.
fn header_above(file: FileId, line: usize, sources: &Sources) -> Option<usize> {
    (0..=line).rev().find(|line| sources.line(file, *line).is_some_and(|(_, text)| is_header(text)))
}

/// Blanks lines; after a header also what follows up to the next one, for it would seem to belong
/// to the section before.
fn blank(file: FileId, stops: &BTreeSet<usize>, sources: &Sources) -> String {
    let mut mended = String::with_capacity(sources.text(file).len());
    let mut orphaned = false;
    for (number, line) in sources.text(file).split_inclusive('\n').enumerate() {
        let broken = stops.contains(&number);
        if is_header(line) {
            orphaned = broken;
        }
        if broken || orphaned {
            let blank = |byte: u8| if byte == b'\n' || byte == b'\r' { byte } else { b' ' };
            mended.extend(line.bytes().map(|byte| char::from(blank(byte))));
        } else {
            mended.push_str(line);
        }
    }
    mended
}

fn syntax(message: &str, spot: Spot, sources: &Sources) -> Fault {
    let (what, expected) = match message.split_once(", expected ") {
        Some((what, expected)) => (what, Some(expected)),
        None => (message, None),
    };
    let written = sources.text(spot.file).get(spot.start..spot.end).unwrap_or("").trim();
    let (_, line) =
        sources.line(spot.file, sources.line_of(spot.file, spot.start)).unwrap_or((0, ""));
    let bare_word = written.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    if line.trim_end().ends_with('=') {
        return Fault::error("syntax", "a value is missing")
            .at(spot, "nothing after the `=`")
            .help("write `key = value`, or remove the line");
    }
    if bare_word && (what.starts_with("invalid") || what.contains("quoted")) {
        return Fault::error("syntax", "a text needs quotes")
            .at(spot, "not a number, a date, true or false")
            .help(format!("write `\"{written}\"`"));
    }
    let (what, help) = match what {
        "key with no value" => ("a key without `=` and a value", "write `key = value`"),
        "unclosed table" => ("the name of this section is not closed", "write `[section.name]`"),
        "invalid basic string" | "invalid literal string" => (
            "this text is not closed, or has a wrong escape",
            "end it with the quote it begins with; write `\\\\` for a backslash",
        ),
        what => (what, "see https://toml.io for the syntax"),
    };
    let label = expected.map_or("here".to_owned(), |expected| format!("expected {expected}"));
    Fault::error("syntax", what).at(spot, label).help(help)
}

/// A key or a section that is there twice in one file. Only the second place is known: the first
/// one is looked for above it.
fn duplicate(spot: Spot, sources: &Sources) -> Fault {
    let key = sources.text(spot.file).get(spot.start..spot.end).unwrap_or("").trim();
    let at_line = sources.line_of(spot.file, spot.start);
    let bare = |line: &str| line.split_whitespace().collect::<String>();
    let (_, this) = sources.line(spot.file, at_line).unwrap_or((0, ""));
    let mut first = None;
    for line in (0..at_line).rev() {
        let Some((start, text)) = sources.line(spot.file, line) else { break };
        let same = if is_header(this) {
            is_header(text) && bare(text) == bare(this)
        } else {
            text.split_once('=').is_some_and(|(name, _)| name.trim() == key)
        };
        if same {
            first = text.find(key).map(|at| start + at);
            break;
        }
        if is_header(text) && !is_header(this) {
            break;
        }
    }
    let service = this.trim_start().strip_prefix("[service.").map(|_| key);
    let fault = match service {
        Some(name) => {
            Fault::error("duplicate-service", format!("service `{name}` is defined twice"))
                .at(spot, "defined here again")
                .help("give one of them another name, or join the two sections")
        }
        None => Fault::error("duplicate-key", format!("`{key}` is set twice"))
            .at(spot, "set here again")
            .help("keep one of the two"),
    };
    match first {
        Some(start) => {
            let end = start + key.len();
            fault.also(Spot { file: spot.file, start, end }, "the first one")
        }
        None => fault,
    }
}
