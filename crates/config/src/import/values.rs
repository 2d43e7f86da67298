//! Values as supervisord understands them: truth, sizes, signals, lists, variables.
//!
//! Source: supervisord's manual, "Configuration File"; Python's library reference, "shlex".

/// `true`, `yes`, `on`, `1` and their opposites, in any case.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// Bytes: `50MB`, `1KB`, `2GB` (each by 1024) or a bare number.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let lower = text.to_lowercase();
    let (digits, factor) = [("kb", 1 << 10), ("mb", 1 << 20), ("gb", 1 << 30)]
        .into_iter()
        .find_map(|(unit, factor)| lower.strip_suffix(unit).map(|digits| (digits, factor)))
        .unwrap_or((&lower, 1));
    digits.trim().parse::<u64>().ok()?.checked_mul(factor)
}

/// A signal by name or number, as a name that our configuration takes.
pub(crate) fn signal(text: &str) -> Option<String> {
    crate::signal::number_of(text.trim()).map(crate::signal::name_of)
}

/// Pieces between commas, without the blanks around them.
pub(crate) fn list(text: &str) -> Vec<&str> {
    if text.is_empty() { Vec::new() } else { text.split(',').map(str::trim).collect() }
}

/// `KEY="value",KEY2=value`: as Python's shlex takes it apart, without POSIX rules. Quotes guard
/// commas and blanks, and go away at both ends.
pub(crate) fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let tokens = tokens(text)?;
    let mut pairs = Vec::new();
    for pair in tokens.chunks(4) {
        // The fourth is a comma, or anything: nobody looks.
        let [name, equals, value, ..] = pair else { return None };
        if equals != "=" {
            return None;
        }
        pairs.push((name.clone(), value.trim_matches(['\'', '"']).to_owned()));
    }
    Some(pairs)
}

fn tokens(text: &str) -> Option<Vec<String>> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_/.+-():".contains(c);
    let is_quote = |c: char| matches!(c, '\'' | '"');
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(first) = rest.next() {
        if matches!(first, ' ' | '\t' | '\r' | '\n') {
            continue;
        }
        if first == '#' {
            // A comment, to the end of the line.
            while rest.next_if(|c| *c != '\n').is_some() {}
            continue;
        }
        let mut token = String::from(first);
        if is_quote(first) {
            // A quote that is never closed is an error there too.
            loop {
                let next = rest.next()?;
                token.push(next);
                if next == first {
                    break;
                }
            }
        } else if is_word(first) {
            while let Some(next) = rest.next_if(|c| is_word(*c) || is_quote(*c)) {
                token.push(next);
            }
        }
        tokens.push(token);
    }
    Some(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_taken_apart_as_shlex_does_it() {
        let check = |text: &str, expect: Option<&[(&str, &str)]>| {
            let expect = expect.map(|pairs| {
                pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>()
            });
            assert_eq!(pairs(text), expect, "{text}");
        };
        check("", Some(&[]));
        check("A=b", Some(&[("A", "b")]));
        check("A=\"b, c\",B='d'", Some(&[("A", "b, c"), ("B", "d")]));
        check(
            "A=/usr/bin:/bin,\n  B=x-y.z+(1)",
            Some(&[("A", "/usr/bin:/bin"), ("B", "x-y.z+(1)")]),
        );
        check("A=\"\"", Some(&[("A", "")]));
        check("A=\"it's\"", Some(&[("A", "it's")]));
        check("A=\"'x'\"", Some(&[("A", "x")]));
        check("A=x\"y\"", Some(&[("A", "x\"y")]));
        check("A=b,", Some(&[("A", "b")]));
        check("A=b # c\n", Some(&[("A", "b")]));
        check("A=b B=c", None);
        check("A=a@b", None);
        check("A=", None);
        check("A", None);
        check("A=\"b", None);
    }

    #[test]
    fn sizes_signals_and_truth_are_read() {
        assert_eq!(
            (bytes("50MB"), bytes("1kb"), bytes("7")),
            (Some(50 << 20), Some(1024), Some(7))
        );
        assert_eq!((bytes("2 GB"), bytes("-1"), bytes("1TB")), (Some(2 << 30), None, None));
        assert_eq!(bytes("99999999999999999999"), None);
        assert_eq!(bytes("99999999999999999GB"), None);
        assert_eq!(
            (signal("sigterm").as_deref(), signal("9").as_deref()),
            (Some("TERM"), Some("KILL"))
        );
        assert_eq!(signal("FOO"), None);
        assert_eq!(
            (boolean("On"), boolean("0"), boolean("maybe")),
            (Some(true), Some(false), None)
        );
        assert_eq!(list("a, b,c"), ["a", "b", "c"]);
        assert!(list("").is_empty());
    }
}
