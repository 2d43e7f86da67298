//! "Did you mean …?": the known word that is nearest to an unknown one.
//!
//! Invariant: the answer depends on the words only; of two equally near ones, the first in the
//! given order wins.

/// Longer texts are no typing errors of a key.
const CHARS_MAX: usize = 64;

/// The sentence, if a known word is near enough: a third of the letters may differ, or its end be missing.
pub(crate) fn did_you_mean<'k>(
    unknown: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> Option<String> {
    nearest(unknown, known).map(|word| format!("did you mean `{word}`?"))
}

/// The nearest known word that is near enough.
pub(crate) fn nearest<'k>(
    unknown: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> Option<&'k str> {
    let typed: Vec<char> = unknown.chars().take(CHARS_MAX + 1).map(fold).collect();
    if typed.is_empty() || CHARS_MAX < typed.len() {
        return None;
    }
    let mut best: Option<(usize, &str)> = None;
    for word in known {
        let letters: Vec<char> = word.chars().take(CHARS_MAX).map(fold).collect();
        let allowed = (typed.len().max(letters.len()) / 3).max(1);
        let away = distance(&typed, &letters);
        let begins = 3 <= typed.len() && letters.starts_with(&typed);
        if (away <= allowed || begins)
            && away < letters.len()
            && best.is_none_or(|(least, _)| away < least)
        {
            best = Some((away, word));
        }
    }
    best.map(|(_, word)| word)
}

/// `Start-Timeout` is `start_timeout`, mistyped.
fn fold(c: char) -> char {
    if c == '-' { '_' } else { c.to_ascii_lowercase() }
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one into the other.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, right) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(left != right);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            let swapped = 0 < i && 0 < j && a[i - 1] == *right && *left == b[j - 1];
            if swapped {
                least = least.min(before_last[j - 1] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = ["command", "directory", "env", "env_file", "ready", "restart", "wants"];
        for (typed, expect) in [
            ("comand", Some("command")),
            ("Directroy", Some("directory")),
            ("env-file", Some("env_file")),
            ("raedy", Some("ready")),
            ("restrat", Some("restart")),
            ("direct", Some("directory")),
            ("priority", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(typed, known), expect, "{typed}");
        }
    }
}
