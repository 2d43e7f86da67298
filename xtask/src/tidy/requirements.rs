//! Which numbered requirements no test names yet: information, never a failure.
//!
//! Why: the list of what is promised is long, and what nobody proves is easily believed.

use super::source::Source;
use std::collections::BTreeSet;

/// One line: how many requirements there are, how many a test names, and which none names.
pub(crate) fn summary<'a>(requirements: &str, sources: impl Iterator<Item = &'a Source>) -> String {
    let wanted = numbers(requirements);
    let named: BTreeSet<String> = sources.flat_map(named_in).collect();
    let open: Vec<&str> =
        wanted.iter().filter(|id| !named.contains(*id)).map(String::as_str).collect();
    format!(
        "requirements: {} of {} are named by a test; open: {}",
        wanted.len() - open.len(),
        wanted.len(),
        if open.is_empty() { "none".to_owned() } else { open.join(" ") }
    )
}

/// The numbers of the table rows, in the order of the page.
fn numbers(requirements: &str) -> Vec<String> {
    requirements
        .lines()
        .filter_map(|line| Some(line.strip_prefix('|')?.split('|').next()?.trim()))
        .filter(|id| is_number(id))
        .map(str::to_owned)
        .collect()
}

/// A capital letter, digits, and perhaps a small letter: `H14`, `B7b`.
fn is_number(text: &str) -> bool {
    let mut chars = text.chars();
    let capital = chars.next().is_some_and(|c| c.is_ascii_uppercase());
    let rest = chars.as_str();
    let digits = rest.trim_end_matches(|c: char| c.is_ascii_lowercase());
    capital
        && !digits.is_empty()
        && digits.chars().all(|c| c.is_ascii_digit())
        && rest.len() - digits.len() <= 1
}

/// Numbers in the test code of a file: words of comments (`H14`), parts of names (`h14_…`).
fn named_in(source: &Source) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for (index, line) in source.text.lines().enumerate() {
        let in_test = source.is_test || source.in_test.get(index).copied().unwrap_or(false);
        if !in_test {
            continue;
        }
        for word in line.split(|c: char| !c.is_alphanumeric() && c != '_') {
            if is_number(word) {
                named.insert(word.to_owned());
            }
        }
        if let Some((_, rest)) = line.split_once("fn ") {
            let name = rest.split('(').next().unwrap_or_default();
            named.extend(name.split('_').filter_map(capitalized).filter(|part| is_number(part)));
        }
    }
    named
}

fn capitalized(part: &str) -> Option<String> {
    let first = part.chars().next()?;
    Some(format!("{}{}", first.to_ascii_uppercase(), &part[first.len_utf8()..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const PAGE: &str = "| # | what |\n|---|---|\n| D1 | a |\n| D2 | b |\n| B7b | c |\n| G7 | d |\n";

    #[test]
    fn numbers_are_read_from_the_tables() {
        assert_eq!(numbers(PAGE), ["D1", "D2", "B7b", "G7"]);
    }

    #[test]
    fn a_name_or_a_comment_in_a_test_counts() {
        let tests = "//! x\nfn d1_not_a_test() {}\n#[cfg(test)]\nmod tests {\n    /// Proves G7.\n\
                     \x20   fn d2_double_fork_is_supervised() {}\n    fn b7b_is_told() {}\n}\n";
        let source = Source::new(Path::new("crates/a/src/x.rs"), tests);
        let line = summary(PAGE, std::iter::once(&source));
        assert_eq!(line, "requirements: 3 of 4 are named by a test; open: D1");
    }
}
