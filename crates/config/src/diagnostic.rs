//! What is wrong with a configuration, where, and what would be right.
//!
//! Why: one run of `holdfast config check` shows every fault, so that one edit can mend them all.
//! Invariants: a diagnostic stands alone (it carries the line it points at); text from outside
//! appears without control characters, so that a file can't drive the terminal it is shown on.

use crate::source::{Sources, Spot};
use serde_json::{Value, json};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Faults that are kept; beyond this the rest is only counted. Nobody reads more at once.
pub const DIAGNOSTICS_MAX: usize = 1_000;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// The configuration can't be used.
    Error,
    /// It can be used, but probably does something else than was meant.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A piece of a file, with a remark.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Label {
    /// The file.
    pub file: PathBuf,
    /// Bytes from the start of the file.
    pub span: Range<usize>,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The remark, printed beside the underline; may be empty.
    pub text: String,
    /// The line it points into.
    pub(crate) line_text: String,
    /// Characters to underline.
    pub(crate) width: usize,
}

/// One fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// Stable name of this kind of fault, such as `unknown-key`; listed in the reference.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// The file it is about, where it is about a file as a whole or a place in one.
    pub file: Option<PathBuf>,
    /// The place; `None` where there is no text to point at.
    pub place: Option<Label>,
    /// Other places that have to do with it.
    pub related: Vec<Label>,
    /// What would be right.
    pub help: Option<String>,
}

/// All faults of one configuration, in the order of their places.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    left_out: usize,
}

impl Diagnostics {
    /// True when there is neither an error nor a warning.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// True when the configuration can't be used.
    pub fn has_errors(&self) -> bool {
        self.errors() != 0
    }

    /// How many errors there are among those kept.
    pub fn errors(&self) -> usize {
        self.list.iter().filter(|d| d.severity == Severity::Error).count()
    }

    /// How many warnings there are among those kept.
    pub fn warnings(&self) -> usize {
        self.list.len() - self.errors()
    }

    /// How many more there were than [`DIAGNOSTICS_MAX`].
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// In the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// As text for a terminal or a file: each fault with its line underlined, then a summary.
    /// Empty when there is nothing to say.
    pub fn render(&self, color: bool) -> String {
        crate::render::render(self, color)
    }

    /// `2 errors and 1 warning`.
    pub fn summary(&self) -> String {
        let count = |n: usize, what: &str| match n {
            1 => format!("1 {what}"),
            n => format!("{n} {what}s"),
        };
        let more = match self.left_out {
            0 => String::new(),
            n => format!(" ({n} more not shown)"),
        };
        match (self.errors(), self.warnings()) {
            (0, 0) => "no faults".to_owned(),
            (errors, 0) => count(errors, "error") + &more,
            (0, warnings) => count(warnings, "warning") + &more,
            (errors, warnings) => {
                format!("{} and {}{more}", count(errors, "error"), count(warnings, "warning"))
            }
        }
    }

    /// `{"errors", "warnings", "left_out", "diagnostics": [{"code", "severity", "message",
    /// "file", "place": {"file", "line", "column", "span": [start, end], "text"}, "related",
    /// "help"}]}`.
    pub fn to_json(&self) -> Value {
        let diagnostics: Vec<Value> = self.list.iter().map(diagnostic_json).collect();
        json!({
            "errors": self.errors(),
            "warnings": self.warnings(),
            "left_out": self.left_out,
            "diagnostics": diagnostics,
        })
    }
}

fn diagnostic_json(diagnostic: &Diagnostic) -> Value {
    json!({
        "code": diagnostic.code,
        "severity": diagnostic.severity.as_str(),
        "message": diagnostic.message,
        "file": diagnostic.file.as_ref().map(|file| file.to_string_lossy()),
        "place": diagnostic.place.as_ref().map(label_json),
        "related": diagnostic.related.iter().map(label_json).collect::<Vec<_>>(),
        "help": diagnostic.help,
    })
}

fn label_json(label: &Label) -> Value {
    json!({
        "file": label.file.to_string_lossy(),
        "line": label.line,
        "column": label.column,
        "span": [label.span.start, label.span.end],
        "text": label.text,
    })
}

/// A fault as the checks report it: places are still offsets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    code: &'static str,
    severity: Severity,
    message: String,
    file: Option<PathBuf>,
    spot: Option<(Spot, String)>,
    related: Vec<(Spot, String)>,
    help: Option<String>,
}

impl Fault {
    pub(crate) fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, message.into())
    }

    pub(crate) fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, message.into())
    }

    fn new(code: &'static str, severity: Severity, message: String) -> Self {
        let (file, spot, related, help) = (None, None, Vec::new(), None);
        Self { code, severity, message, file, spot, related, help }
    }

    /// Points at the offending text.
    pub(crate) fn at(mut self, spot: Spot, label: impl Into<String>) -> Self {
        self.spot = Some((spot, label.into()));
        self
    }

    /// Points at another place that has to do with it.
    pub(crate) fn also(mut self, spot: Spot, label: impl Into<String>) -> Self {
        self.related.push((spot, label.into()));
        self
    }

    /// Names a file as a whole.
    pub(crate) fn in_file(mut self, path: &Path) -> Self {
        self.file = Some(path.to_path_buf());
        self
    }

    /// Says what would be right.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn order(&self) -> (Option<Spot>, Option<PathBuf>, Severity, &'static str) {
        let spot = self.spot.as_ref().map(|(spot, _)| *spot);
        (spot, self.file.clone(), self.severity, self.code)
    }

    fn resolve(self, sources: &Sources) -> Diagnostic {
        let place = self.spot.map(|(spot, text)| resolve_label(sources, spot, text));
        let related = self.related.into_iter();
        Diagnostic {
            code: self.code,
            severity: self.severity,
            message: printable(&self.message),
            file: self.file.or_else(|| place.as_ref().map(|label| label.file.clone())),
            place,
            related: related.map(|(spot, text)| resolve_label(sources, spot, text)).collect(),
            help: self.help.as_deref().map(printable),
        }
    }
}

fn resolve_label(sources: &Sources, spot: Spot, text: String) -> Label {
    let resolved = sources.resolve(spot);
    Label {
        file: resolved.path.to_path_buf(),
        span: resolved.span,
        line: resolved.line,
        column: resolved.column,
        text: printable(&text),
        line_text: resolved.line_text.to_owned(),
        width: resolved.width,
    }
}

/// Collects faults while the configuration is checked.
pub(crate) struct Faults<'s> {
    pub(crate) sources: &'s Sources,
    list: Vec<Fault>,
    /// Lines that are not even TOML: what was recovered from them is guesswork, so that nothing
    /// else is said about them.
    broken_lines: std::collections::BTreeSet<(crate::source::FileId, usize)>,
}

impl<'s> Faults<'s> {
    pub(crate) fn new(sources: &'s Sources) -> Self {
        Self { sources, list: Vec::new(), broken_lines: std::collections::BTreeSet::new() }
    }

    pub(crate) fn push(&mut self, fault: Fault) {
        self.list.push(fault);
    }

    /// Declares the line of a syntax error broken; false if it was already.
    pub(crate) fn break_line(&mut self, spot: Spot) -> bool {
        self.broken_lines.insert((spot.file, self.sources.line_of(spot.file, spot.start)))
    }

    /// How many lines are broken, in all files.
    pub(crate) fn broken_lines(&self) -> usize {
        self.broken_lines.len()
    }

    /// Everything that was found, in order. Faults of a shared default that show up once for each
    /// service that uses it are said once.
    pub(crate) fn into_diagnostics(self) -> Diagnostics {
        let Self { sources, mut list, broken_lines } = self;
        let broken_files: std::collections::BTreeSet<_> =
            broken_lines.iter().map(|(file, _)| *file).collect();
        list.retain(|fault| match (&fault.spot, fault.code) {
            (_, "syntax" | "duplicate-key" | "duplicate-service") => true,
            // What seems to be missing may stand in what could not be read.
            (_, "unknown-service" | "no-services") if !broken_files.is_empty() => false,
            (Some((spot, _)), "missing-key") if broken_files.contains(&spot.file) => false,
            (Some((spot, _)), _) => {
                !broken_lines.contains(&(spot.file, sources.line_of(spot.file, spot.start)))
            }
            (None, _) => true,
        });
        list.sort_by_cached_key(Fault::order);
        let mut kept: Vec<Fault> = Vec::with_capacity(list.len().min(DIAGNOSTICS_MAX));
        let mut left_out = 0;
        let mut rest = list.into_iter();
        while let Some(fault) = rest.next() {
            let same_place = kept.iter().rev().take_while(|k| k.spot == fault.spot);
            if same_place.into_iter().any(|k| *k == fault) {
                continue;
            }
            // An error is never left out in favour of a warning that comes before it.
            if kept.len() < DIAGNOSTICS_MAX {
                kept.push(fault);
                continue;
            }
            left_out += 1;
            let warning = kept.iter().rposition(|k| k.severity == Severity::Warning);
            match (fault.severity, warning) {
                (Severity::Error, Some(at)) => {
                    kept.remove(at);
                    kept.push(fault);
                }
                (Severity::Warning, _) => {}
                // Only errors are kept: nothing that follows can take the place of one.
                (Severity::Error, None) => {
                    left_out += rest.len();
                    break;
                }
            }
        }
        let list = kept.into_iter().map(|fault| fault.resolve(sources)).collect();
        Diagnostics { list, left_out }
    }
}

/// Text from outside as part of a message: quoted, and cut when it is long.
pub(crate) fn quoted(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    match text.char_indices().nth(CHARS_MAX) {
        None => format!("`{text}`"),
        Some((at, _)) => format!("`{}…`", &text[..at]),
    }
}

/// Replaces what would move a terminal's cursor or change its colours.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect()
}
