//! The texts that were read, and places in them.
//!
//! Why: every fault points at a file, a line and the offending characters; offsets become lines
//! only when a fault is reported.
//! Invariants: a [`Spot`] is clamped to its text when it is resolved, so that no offset, wherever
//! it came from, can be out of range or split a character.

use std::ops::Range;
use std::path::{Path, PathBuf};

/// Which of the files.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct FileId(pub(crate) usize);

/// A range of bytes in one file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Spot {
    pub(crate) file: FileId,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Spot {
    pub(crate) fn new(file: FileId, range: Range<usize>) -> Self {
        Self { file, start: range.start, end: range.end.max(range.start) }
    }
}

/// One file and where its lines begin.
#[derive(Clone, Debug)]
struct Source {
    path: PathBuf,
    text: String,
    line_starts: Vec<usize>,
}

/// All files, in the order in which they were read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    files: Vec<Source>,
}

/// A spot in terms that a person understands.
pub(crate) struct Resolved<'a> {
    pub(crate) path: &'a Path,
    pub(crate) span: Range<usize>,
    /// From 1.
    pub(crate) line: usize,
    /// From 1, in characters.
    pub(crate) column: usize,
    /// The line that holds the start of the spot, without its end of line.
    pub(crate) line_text: &'a str,
    /// How many characters of that line belong to the spot; at least 1.
    pub(crate) width: usize,
}

impl Sources {
    pub(crate) fn add(&mut self, path: PathBuf, text: String) -> FileId {
        let ends =
            text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(ends).collect();
        self.files.push(Source { path, text, line_starts });
        FileId(self.files.len() - 1)
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = FileId> {
        (0..self.files.len()).map(FileId)
    }

    pub(crate) fn text(&self, file: FileId) -> &str {
        self.files.get(file.0).map_or("", |source| &source.text)
    }

    pub(crate) fn path(&self, file: FileId) -> &Path {
        self.files.get(file.0).map_or(Path::new(""), |source| &source.path)
    }

    /// The line of a byte offset, from 0.
    pub(crate) fn line_of(&self, file: FileId, at: usize) -> usize {
        let starts = self.files.get(file.0).map_or(&[0_usize][..], |source| &source.line_starts);
        starts.partition_point(|start| *start <= at).saturating_sub(1)
    }

    /// The text of a line, from 0, and the offset of its first byte.
    pub(crate) fn line(&self, file: FileId, line: usize) -> Option<(usize, &str)> {
        let source = self.files.get(file.0)?;
        let start = *source.line_starts.get(line)?;
        let text = source.text.get(start..)?;
        let end = text.find('\n').unwrap_or(text.len());
        Some((start, text[..end].trim_end_matches('\r')))
    }

    /// The first place of `needle` inside `spot`, or the whole spot when it is not there literally
    /// (an escape sequence may stand for it).
    pub(crate) fn within(&self, spot: Spot, needle: &str) -> Spot {
        let slice = self.text(spot.file).get(spot.start..spot.end).unwrap_or("");
        match slice.find(needle) {
            Some(at) if !needle.is_empty() => {
                let start = spot.start + at;
                Spot { file: spot.file, start, end: start + needle.len() }
            }
            _ => spot,
        }
    }

    pub(crate) fn resolve(&self, spot: Spot) -> Resolved<'_> {
        let text = self.text(spot.file);
        let start = floor_char(text, spot.start);
        let end = floor_char(text, spot.end).max(start);
        let line = self.line_of(spot.file, start);
        let (line_start, line_text) = self.line(spot.file, line).unwrap_or((0, ""));
        let in_line = floor_char(line_text, start.saturating_sub(line_start));
        let until = floor_char(line_text, end.saturating_sub(line_start)).max(in_line);
        Resolved {
            path: self.path(spot.file),
            span: start..end,
            line: line + 1,
            column: line_text[..in_line].chars().count() + 1,
            line_text,
            width: line_text[in_line..until].chars().count().max(1),
        }
    }
}

/// The largest character boundary at or below `at`.
fn floor_char(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_spot_resolves_to_a_place_within_its_text() {
        let mut sources = Sources::default();
        let file = sources.add("a.toml".into(), "α = 1\r\nbeta = \"ü\"\n".to_owned());
        let at = |start, end| {
            let r = sources.resolve(Spot { file, start, end });
            (r.line, r.column, r.line_text.to_owned(), r.width)
        };
        assert_eq!(at(0, 2), (1, 1, "α = 1".to_owned(), 1));
        assert_eq!(at(1, 3), (1, 1, "α = 1".to_owned(), 2));
        assert_eq!(at(8, 12), (2, 1, "beta = \"ü\"".to_owned(), 4));
        assert_eq!(at(900, 1000), (3, 1, String::new(), 1));
        assert_eq!(at(3, 900), (1, 3, "α = 1".to_owned(), 3));
    }
}
