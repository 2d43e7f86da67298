//! Finds and reads a supervisord.conf and the files that it includes.
//!
//! Invariants: no more than [`FILES_MAX`] files of [`FILE_BYTES_MAX`] bytes are read, and no more
//! than [`ENTRIES_MAX`] names are looked at; only plain files are opened; included files include
//! nothing, as there.
//! Source: supervisord's manual, "[include]"; Python's library reference, "glob".

use super::{ImportWorld, Imported, Note, NoteKind, import_supervisord, includes};
use crate::read::{FILE_BYTES_MAX, FILES_MAX};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Names of directories that are looked at for all patterns together.
const ENTRIES_MAX: usize = 100_000;

/// Reads the file and what it includes, and converts them.
///
/// # Errors
/// The main file can't be read. Of an included file that is told in the notes.
pub fn load_supervisord(path: &Path, world: &ImportWorld<'_>) -> io::Result<Imported> {
    let main = std::fs::canonicalize(path)?;
    let text = read_bounded(&main)?;
    let (patterns, mut notes) = includes(&main, &text, world);
    let folder = main.parent().unwrap_or(Path::new("/")).to_path_buf();
    let mut files = vec![(main.clone(), text)];
    let mut entries_left = ENTRIES_MAX;
    let note = |kind, why: String, instead: &str| Note {
        kind,
        file: main.clone(),
        line: include_line(&files[0].1),
        subject: "[include] files".to_owned(),
        why: crate::diagnostic::printable(&why),
        instead: instead.to_owned(),
    };
    let mut found = Vec::new();
    for pattern in &patterns {
        let matching = glob(&folder, pattern, &mut entries_left);
        if matching.is_empty() {
            notes.push(note(NoteKind::Hint, format!("nothing matches {pattern}"), ""));
        }
        found.extend(matching);
    }
    let mut read = Vec::new();
    for path in found {
        if FILES_MAX <= read.len() {
            let why = format!("more than {FILES_MAX} files are included");
            notes.push(note(NoteKind::Lost, why, "join some of them"));
            break;
        }
        match read_bounded(&path) {
            Ok(text) => read.push((path, text)),
            Err(error) => {
                let why = format!("can't read {}: {error}", path.display());
                notes.push(note(NoteKind::Lost, why, "let yourself read it, and import again"));
            }
        }
    }
    files.extend(read);
    let mut imported = import_supervisord(&files, world);
    // What was told of the included files comes first, and once.
    notes.retain(|note| !imported.notes.contains(note));
    notes.append(&mut imported.notes);
    imported.notes = notes;
    Ok(imported)
}

fn include_line(text: &str) -> usize {
    let at = text.lines().position(|line| line.trim_start().starts_with("[include]"));
    at.map_or(1, |at| at + 1)
}

/// A text of a plain file. What is not UTF-8 in it is replaced.
fn read_bounded(path: &Path) -> io::Result<String> {
    let plain = std::fs::metadata(path)?.is_file();
    if !plain {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if FILE_BYTES_MAX < bytes.len() as u64 {
        let why = format!("larger than {FILE_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Files that match a pattern, sorted. Each part of the path may have `*`, `?` and `[…]`.
fn glob(folder: &Path, pattern: &str, entries_left: &mut usize) -> Vec<PathBuf> {
    let absolute = pattern.starts_with('/');
    let mut paths = vec![if absolute { PathBuf::from("/") } else { folder.to_path_buf() }];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        if !part.contains(['*', '?', '[']) {
            for path in &mut paths {
                path.push(part);
            }
            continue;
        }
        let mut next = BTreeSet::new();
        for path in &paths {
            for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
                if *entries_left == 0 {
                    break;
                }
                *entries_left -= 1;
                let name = entry.file_name();
                let Some(name) = name.to_str() else { continue };
                let hidden = name.starts_with('.') && !part.starts_with('.');
                if !hidden && matches(part, name) {
                    next.insert(entry.path());
                }
            }
        }
        paths = next.into_iter().collect();
    }
    paths.retain(|path| path.exists());
    paths.sort();
    paths
}

/// A name against a pattern of `*`, `?` and `[…]`, by Python's fnmatch. Without recursion, and in
/// time proportional to the product of both.
fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut at, mut read) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while read < name.len() {
        if pattern.get(at) == Some(&'*') {
            retry = Some((at + 1, read));
            at += 1;
            continue;
        }
        match one(&pattern[at..], name[read]) {
            Some(taken) => {
                at += taken;
                read += 1;
            }
            None => match &mut retry {
                Some((begin, from)) => {
                    *from += 1;
                    (at, read) = (*begin, *from);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

/// How many characters of the pattern stand for this one, if they do.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '[' => {
            let negated = pattern.get(1) == Some(&'!');
            let from = if negated { 2 } else { 1 };
            // A `]` that comes first belongs to the set.
            let close = pattern.iter().skip(from + 1).position(|c| *c == ']');
            let Some(end) = close.map(|at| at + from + 1) else {
                return (c == '[').then_some(1);
            };
            let set = &pattern[from..end];
            (in_set(set, c) != negated).then_some(end + 1)
        }
        other => (*other == c).then_some(1),
    }
}

fn in_set(set: &[char], c: char) -> bool {
    let mut rest = set;
    while let [first, more @ ..] = rest {
        if let ['-', last, more @ ..] = more {
            if (*first..=*last).contains(&c) {
                return true;
            }
            rest = more;
        } else {
            if *first == c {
                return true;
            }
            rest = more;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_fnmatch_has_it() {
        for (pattern, name, expect) in [
            ("*.conf", "web.conf", true),
            ("*.conf", "web.conf~", false),
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("?x", "éx", true),
            ("[a-c]1", "b1", true),
            ("[!a-c]1", "b1", false),
            ("[]]", "]", true),
            ("[a", "[a", true),
            ("[a-]", "-", true),
            ("**", "x", true),
        ] {
            assert_eq!(matches(pattern, name), expect, "{pattern} {name}");
        }
        let long = "a*".repeat(50) + "b";
        assert!(!matches(&long, &"a".repeat(2_000)));
    }
}
