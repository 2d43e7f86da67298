//! Draws diagnostics: the line, its neighbours' margin, the underline and the remark.
//!
//! Why: a fault that is shown where it stands is understood at once.
//! Invariants: the same diagnostics give the same text, whatever the terminal; a line longer than
//! [`LINE_CHARS_MAX`] is cut around what is underlined.
//! Source: the style guide, "Configuration"; the shape is that of rustc's messages.

use crate::diagnostic::{Diagnostic, Diagnostics, Label, Severity, printable};
use std::path::Path;

/// Characters of a source line that are shown. Enough for two list columns on a wide terminal.
const LINE_CHARS_MAX: usize = 120;

/// Characters shown before the underlined ones when a line is cut.
const LEAD_CHARS: usize = 40;

/// Spaces that stand for a tab.
const TAB: &str = "    ";

/// Colours of a message, or empty strings.
struct Paint {
    severity_error: &'static str,
    severity_warning: &'static str,
    margin: &'static str,
    bold: &'static str,
    off: &'static str,
}

const COLORED: Paint = Paint {
    severity_error: "\x1b[1;31m",
    severity_warning: "\x1b[1;33m",
    margin: "\x1b[1;34m",
    bold: "\x1b[1m",
    off: "\x1b[0m",
};

const PLAIN: Paint =
    Paint { severity_error: "", severity_warning: "", margin: "", bold: "", off: "" };

/// All of them, each followed by an empty line, then the summary.
pub(crate) fn render(diagnostics: &Diagnostics, color: bool) -> String {
    if diagnostics.is_empty() {
        return String::new();
    }
    let paint = if color { &COLORED } else { &PLAIN };
    let mut lines = Vec::new();
    for diagnostic in diagnostics.iter() {
        render_one(&mut lines, diagnostic, paint);
        lines.push(String::new());
    }
    lines.push(diagnostics.summary());
    lines.push(String::new());
    lines.join("\n")
}

fn render_one(lines: &mut Vec<String>, diagnostic: &Diagnostic, paint: &Paint) {
    let Paint { margin, bold, off, .. } = paint;
    let accent = match diagnostic.severity {
        Severity::Error => paint.severity_error,
        Severity::Warning => paint.severity_warning,
    };
    let (word, code) = (diagnostic.severity.as_str(), diagnostic.code);
    lines.push(format!("{accent}{word}[{code}]{off}{bold}: {}{off}", diagnostic.message));

    let labels = || diagnostic.place.iter().chain(&diagnostic.related);
    let gutter = labels().map(|label| label.line).max().unwrap_or(1).to_string().len();
    let pad = " ".repeat(gutter);
    match (&diagnostic.place, &diagnostic.file) {
        (Some(label), _) => {
            lines.push(format!("{pad}{margin}-->{off} {}", position(label)));
            snippet(lines, label, gutter, ('^', accent), paint);
        }
        (None, Some(file)) => lines.push(format!("{pad}{margin}-->{off} {}", shown(file))),
        (None, None) => {}
    }
    for label in &diagnostic.related {
        lines.push(format!("{pad}{margin}:::{off} {}", position(label)));
        snippet(lines, label, gutter, ('-', paint.margin), paint);
    }
    if let Some(help) = &diagnostic.help {
        if diagnostic.place.is_some() {
            lines.push(format!("{pad} {margin}|{off}"));
        }
        lines.push(format!("{pad} {margin}={off} {bold}help{off}: {help}"));
    }
}

fn position(label: &Label) -> String {
    format!("{}:{}:{}", shown(&label.file), label.line, label.column)
}

fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

/// The line and its underline, drawn with a character in a colour.
fn snippet(lines: &mut Vec<String>, label: &Label, gutter: usize, pen: (char, &str), p: &Paint) {
    let (margin, off) = (p.margin, p.off);
    let (line, lead, width) = window(label);
    let pad = " ".repeat(gutter);
    let number = format!("{:>gutter$}", label.line);
    lines.push(format!("{pad} {margin}|{off}"));
    lines.push(format!("{margin}{number} |{off} {line}").trim_end().to_owned());
    let (mark, ink) = pen;
    let (lead, marks) = (" ".repeat(lead), mark.to_string().repeat(width));
    let remark = if label.text.is_empty() { String::new() } else { format!(" {}", label.text) };
    lines.push(format!("{pad} {margin}|{off} {lead}{ink}{marks}{remark}{off}"));
}

/// The visible part of the line with tabs as spaces; where the underline begins; its length.
fn window(label: &Label) -> (String, usize, usize) {
    let before = label.column - 1;
    let total = label.line_text.chars().count();
    let from = if total <= LINE_CHARS_MAX { 0 } else { before.saturating_sub(LEAD_CHARS) };
    let until = total.min(from + LINE_CHARS_MAX);
    let expand = |c: char| match c {
        '\t' => TAB.to_owned(),
        c => printable(&c.to_string()),
    };
    let piece = |from: usize, until: usize| -> String {
        let count = until.saturating_sub(from);
        label.line_text.chars().skip(from).take(count).map(expand).collect()
    };
    let head = if from == 0 { String::new() } else { "…".to_owned() } + &piece(from, before);
    let marked = piece(before, until.min(before + label.width));
    let tail = piece(before + label.width, until);
    let end = if until < total { "…" } else { "" };
    let (lead, width) = (head.chars().count(), marked.chars().count().max(1));
    (format!("{head}{marked}{tail}{end}"), lead, width)
}
