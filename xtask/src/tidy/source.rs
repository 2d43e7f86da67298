//! One Rust file as the rules see it: the text, and the code with comments and literals blanked.
//!
//! Why: a word in a comment or in a message is not code, and a rule that cannot tell them apart is
//! soon switched off.
//! Invariants: `code` has as many lines as `text`, and each line keeps its length in characters.
//! Source: The Rust Reference, chapter "Tokens".

use std::path::{Path, PathBuf};

/// A Rust source file.
pub(crate) struct Source {
    /// Relative to the root of the repository.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    /// The text with every comment and the inside of every literal replaced by blanks.
    pub(crate) code: String,
    /// For each line, whether it belongs to a `#[cfg(test)]` item.
    pub(crate) in_test: Vec<bool>,
    /// The whole file is test code, because of its place or of how its parent declares it.
    pub(crate) is_test: bool,
}

impl Source {
    pub(crate) fn new(path: &Path, text: &str) -> Source {
        let code = blank(text);
        let in_test = test_lines(&code);
        let is_test = path.components().any(|part| part.as_os_str() == "tests")
            || path.components().any(|part| part.as_os_str() == "benches");
        Source { path: path.to_path_buf(), text: text.to_owned(), code, in_test, is_test }
    }

    /// Lines of code with their numbers (from 1), those of tests included.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Lines of code with their numbers, without those that only exist in a test build.
    pub(crate) fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let whole = self.is_test;
        self.lines().filter(move |(number, _)| !whole && !self.in_test[number - 1])
    }

    /// Files that this one declares as `#[cfg(test)] mod name;`.
    pub(crate) fn test_children(&self) -> Vec<PathBuf> {
        let parent = self.path.parent().unwrap_or(Path::new(""));
        let stem = self.path.file_stem().unwrap_or_default();
        let folder = match stem.to_str() {
            Some("mod" | "lib" | "main") => parent.to_path_buf(),
            _ => parent.join(stem),
        };
        self.lines()
            .filter(|(number, _)| self.in_test[number - 1])
            .filter_map(|(_, line)| {
                let name = line.trim().strip_suffix(';')?.rsplit_once("mod ")?.1;
                Some([folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")])
            })
            .flatten()
            .collect()
    }
}

/// Replaces comments and the inside of literals by blanks; line breaks stay.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = token_end(&chars, at);
        if let Some(end) = end {
            for &c in &chars[at..end] {
                out.push(if c == '\n' { '\n' } else { ' ' });
            }
            at = end;
        } else {
            out.push(chars[at]);
            at += 1;
        }
    }
    out
}

/// If a comment or literal begins at `at`, the place behind it.
fn token_end(chars: &[char], at: usize) -> Option<usize> {
    let next = chars.get(at + 1).copied();
    match chars[at] {
        '/' if next == Some('/') => {
            Some(chars[at..].iter().position(|&c| c == '\n').map_or(chars.len(), |n| at + n))
        }
        '/' if next == Some('*') => Some(block_comment_end(chars, at)),
        '"' => Some(string_end(chars, at)),
        'r' if !follows_word(chars, at, &['b', 'c']) => raw_string_end(chars, at),
        '\'' => char_end(chars, at),
        _ => None,
    }
}

/// True if the character before `at` makes it the middle of an identifier. A prefix of literals
/// (`b`, `c`) that itself starts a word does not count.
fn follows_word(chars: &[char], at: usize, prefixes: &[char]) -> bool {
    let is_word = |index: usize| chars[index].is_alphanumeric() || chars[index] == '_';
    match at {
        0 => false,
        1 => is_word(0) && !prefixes.contains(&chars[0]),
        _ if prefixes.contains(&chars[at - 1]) => is_word(at - 2),
        _ => is_word(at - 1),
    }
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    chars.len()
}

fn string_end(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

fn raw_string_end(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars[start + 1..].iter().take_while(|&&c| c == '#').count();
    let open = start + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes =
        |at: usize| chars[at] == '"' && chars[at + 1..].iter().take(hashes).all(|&c| c == '#');
    let close = (open + 1..chars.len()).find(|&at| closes(at) && at + hashes < chars.len());
    Some(close.map_or(chars.len(), |at| at + 1 + hashes))
}

/// A character literal; `None` for a lifetime.
fn char_end(chars: &[char], start: usize) -> Option<usize> {
    match chars.get(start + 1)? {
        '\\' => {
            let close = chars[start + 3..].iter().position(|&c| c == '\'')?;
            Some(start + 3 + close + 1)
        }
        _ if chars.get(start + 2) == Some(&'\'') => Some(start + 3),
        _ => None,
    }
}

/// Marks the lines of items that stand under `#[cfg(test)]`.
fn test_lines(code: &str) -> Vec<bool> {
    let lines: Vec<&str> = code.lines().collect();
    let mut marks = vec![false; lines.len()];
    let mut index = 0;
    while index < lines.len() {
        if !lines[index].trim_start().starts_with("#[cfg(test)]") {
            index += 1;
            continue;
        }
        let end = item_end(&lines, index);
        for mark in &mut marks[index..=end] {
            *mark = true;
        }
        index = end + 1;
    }
    marks
}

/// The last line of the item that begins at `start`: where its braces close, or its semicolon.
fn item_end(lines: &[&str], start: usize) -> usize {
    let mut depth = 0_i64;
    for (index, line) in lines.iter().enumerate().skip(start) {
        for c in line.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 1 => return index,
                '}' => depth -= 1,
                ';' if depth == 0 => return index,
                _ => {}
            }
        }
    }
    lines.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        blank(text)
    }

    #[test]
    fn comments_and_literals_are_blank() {
        assert_eq!(code("a // unsafe\nb"), "a          \nb");
        assert_eq!(code("a /* x /* y */ z */ b"), format!("a {} b", " ".repeat(17)));
        assert_eq!(code(r#"f("unsafe \" x", 1)"#), format!("f({}, 1)", " ".repeat(13)));
        assert_eq!(code("r##\"a\"# b\"## c"), format!("{} c", " ".repeat(12)));
        assert_eq!(code("'\"' x '\\'' y"), format!("{} x {} y", "   ", "    "));
    }

    #[test]
    fn lifetimes_and_identifiers_stay() {
        assert_eq!(code("fn f<'a>(x: &'a str) {}"), "fn f<'a>(x: &'a str) {}");
        assert_eq!(code("for r in r_list {}"), "for r in r_list {}");
        assert_eq!(code("br\"x\" + var"), "b     + var");
    }

    #[test]
    fn an_open_literal_ends_with_the_file() {
        assert_eq!(code("x \"abc"), "x     ");
        assert_eq!(code("x /* abc"), "x       ");
        assert_eq!(code("x r#\"abc\""), "x        ");
    }

    #[test]
    fn test_items_are_known() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() {}\n}\nfn c() {}\n";
        let source = Source::new(Path::new("src/x.rs"), text);
        assert_eq!(source.in_test, [false, true, true, true, true, false]);
        let product: Vec<usize> = source.product_lines().map(|(number, _)| number).collect();
        assert_eq!(product, [1, 6]);
    }

    #[test]
    fn test_files_are_found_through_their_parent() {
        let text = "mod a;\n#[cfg(test)]\nmod checks;\n";
        let of = |path: &str| Source::new(Path::new(path), text).test_children();
        assert_eq!(of("src/lib.rs")[0], Path::new("src/checks.rs"));
        assert_eq!(of("src/core.rs")[0], Path::new("src/core/checks.rs"));
        assert_eq!(of("src/core.rs").len(), 2);
    }
}
