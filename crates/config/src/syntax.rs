//! From text to TOML tables, with every syntax error of a file and not only the first.
//!
//! Why: `toml` recovers after an error and goes on; what it recovered is checked like the rest,
//! but for the lines that are broken, about which nothing more is said.

use crate::diagnostic::{Fault, Faults};
use crate::source::{FileId, Spot};
use toml::Spanned;
use toml::de::DeTable;

/// Syntax errors of one file that are reported. More come from a file that is no TOML at all.
const ERRORS_MAX: usize = 100;

/// Parses one file and reports its syntax errors.
pub(crate) fn parse<'s>(file: FileId, faults: &mut Faults<'s>) -> Spanned<DeTable<'s>> {
    let (table, errors) = DeTable::parse_recoverable(faults.sources.text(file));
    for error in errors.iter().take(ERRORS_MAX) {
        let spot = Spot::new(file, error.span().unwrap_or(0..0));
        // What follows on the same line is nearly always a consequence.
        if faults.break_line(spot) {
            let fault = match error.message() {
                "duplicate key" => duplicate(spot, faults),
                message => syntax(message, spot),
            };
            faults.push(fault);
        }
    }
    table
}

fn syntax(message: &str, spot: Spot) -> Fault {
    let (what, expected) = match message.split_once(", expected ") {
        Some((what, expected)) => (what, Some(expected)),
        None => (message, None),
    };
    let help = match (what, expected) {
        ("key with no value", _) => "write `key = value`; texts need quotes".to_owned(),
        (what, _) if what.contains("string") => "texts need quotes: `key = \"text\"`".to_owned(),
        (_, Some(expected)) => format!("expected {expected}"),
        (_, None) => "see https://toml.io for the syntax".to_owned(),
    };
    Fault::error("syntax", what).at(spot, "here").help(help)
}

/// A key or a section that is there twice in one file. Only the second place is known: the first
/// one is looked for above it.
fn duplicate(spot: Spot, faults: &Faults<'_>) -> Fault {
    let sources = faults.sources;
    let key = sources.text(spot.file).get(spot.start..spot.end).unwrap_or("").trim();
    let at_line = sources.line_of(spot.file, spot.start);
    let bare = |line: &str| line.split_whitespace().collect::<String>();
    let (_, this) = sources.line(spot.file, at_line).unwrap_or((0, ""));
    let header = this.trim_start().starts_with('[');
    let mut first = None;
    for line in (0..at_line).rev() {
        let Some((start, text)) = sources.line(spot.file, line) else { break };
        let is_header = text.trim_start().starts_with('[');
        let same = match header {
            true => is_header && bare(text) == bare(this),
            false => text.split_once('=').is_some_and(|(name, _)| name.trim() == key),
        };
        if same {
            first = text.find(key).map(|at| start + at);
            break;
        }
        if is_header && !header {
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
