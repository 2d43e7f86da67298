//! From supervisord's process numbers to our templates `{index}` and `{port}`.
//!
//! Why: `--port=80%(process_num)02d` of four processes is 8000 to 8003, which we write as `{port}`.
//! Invariant: what the templates are filled with is, letter by letter, what supervisord would have
//! filled in; where that is not possible, there is no plan, and each process becomes a service.

use super::expand::Piece;

/// The numbers of a program's processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Numbers {
    /// `numprocs_start`.
    pub(crate) first: u32,
    /// `numprocs`, from 1.
    pub(crate) count: u32,
}

/// How all process numbers of a service are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Plan {
    /// What `{port}` counts up from, if it is used.
    pub(crate) port: Option<u16>,
}

/// Ports below this are no ports of such services, but other numbers.
const PORT_MIN: u64 = 1024;

/// What one process number becomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Choice {
    Index,
    /// Together with so many digits before it, a number that counts up from this.
    Port(u16, usize),
}

/// One plan for all texts of a service, if there is one.
pub(crate) fn plan<'p>(
    texts: impl IntoIterator<Item = &'p [Piece]>,
    numbers: Numbers,
) -> Option<Plan> {
    let mut plan = Plan::default();
    for pieces in texts {
        for at in 0..pieces.len() {
            let Piece::ProcessNumber { digits } = pieces[at] else { continue };
            match choose(pieces, at, digits, numbers)? {
                Choice::Index => {}
                Choice::Port(first, _) if plan.port.is_none_or(|port| port == first) => {
                    plan.port = Some(first);
                }
                Choice::Port(..) => return None,
            }
        }
    }
    Some(plan)
}

fn choose(pieces: &[Piece], at: usize, digits: usize, numbers: Numbers) -> Option<Choice> {
    if numbers.first == 0 && digits <= 1 {
        return Some(Choice::Index);
    }
    let last = numbers.first.checked_add(numbers.count.checked_sub(1)?)?;
    let width = digits.max(numbers.first.to_string().len());
    if width < last.to_string().len() {
        return None;
    }
    let before = match at.checked_sub(1).map(|at| &pieces[at]) {
        Some(Piece::Text(text)) => text.as_str(),
        Some(Piece::ProcessNumber { .. }) | None => return None,
    };
    let after = pieces.get(at + 1);
    let number_goes_on = match after {
        Some(Piece::Text(text)) => text.starts_with(|c: char| c.is_ascii_digit()),
        Some(Piece::ProcessNumber { .. }) => true,
        None => false,
    };
    let prefix = &before[before.trim_end_matches(|c: char| c.is_ascii_digit()).len()..];
    if prefix.is_empty() || prefix.starts_with('0') || number_goes_on {
        return None;
    }
    let first: u64 = format!("{prefix}{:0width$}", numbers.first).parse().ok()?;
    let last = first.checked_add(u64::from(numbers.count) - 1)?;
    if first < PORT_MIN || u64::from(u16::MAX) < last {
        return None;
    }
    Some(Choice::Port(u16::try_from(first).ok()?, prefix.len()))
}

/// A text with its templates, and with its own braces doubled where they would be taken for some.
/// Only for pieces that the plan was made for.
pub(crate) fn fill(pieces: &[Piece], numbers: Numbers) -> String {
    let mut parts: Vec<(String, bool)> = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Text(text) => parts.push((text.clone(), false)),
            Piece::ProcessNumber { digits } => match choose(pieces, at, *digits, numbers) {
                Some(Choice::Port(_, taken)) => {
                    if let Some((before, false)) = parts.last_mut() {
                        before.truncate(before.len() - taken);
                    }
                    parts.push(("{port}".to_owned(), true));
                }
                Some(Choice::Index) | None => parts.push(("{index}".to_owned(), true)),
            },
        }
    }
    let has_template = parts.iter().any(|(_, is_template)| *is_template);
    let mut own = parts.iter().filter(|(_, is_template)| !is_template).map(|(text, _)| text);
    let doubled = own.any(|text| {
        let brace = text.contains(['{', '}']);
        brace && (has_template || is_ambiguous(text))
    });
    let parts = parts.into_iter().map(|(text, is_template)| match is_template || !doubled {
        true => text,
        false => text.replace('{', "{{").replace('}', "}}"),
    });
    parts.collect()
}

/// It has something that we would take for a template, or for a doubled brace.
fn is_ambiguous(text: &str) -> bool {
    let word = |rest: &str| {
        let inside = rest.split_once('}').map_or("", |(inside, _)| inside);
        inside.starts_with(|c: char| c.is_ascii_alphabetic())
            && inside.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let collapses = text.contains("{{") || text.contains("}}");
    collapses || text.split('{').skip(1).any(word)
}

/// The same for a text without process numbers.
pub(crate) fn escape(text: &str) -> String {
    fill(&[Piece::Text(text.to_owned())], Numbers { first: 0, count: 1 })
}

/// The path of one instance's log: numbered by `{index}`, with or without a number before.
pub(crate) fn numbered_path(pieces: &[Piece], count: u32) -> String {
    // Padding and the first number do not matter for the name of a file.
    let plain: Vec<Piece> = pieces
        .iter()
        .map(|piece| match piece {
            Piece::ProcessNumber { .. } => Piece::ProcessNumber { digits: 1 },
            Piece::Text(text) => Piece::Text(text.clone()),
        })
        .collect();
    let path = fill(&plain, Numbers { first: 0, count });
    if 1 < count && !path.contains("{index}") { with_suffix(&path, "-{index}") } else { path }
}

/// `/var/log/web.log` and `-x`: `/var/log/web-x.log`.
pub(crate) fn with_suffix(path: &str, suffix: &str) -> String {
    let name = path.rfind('/').map_or(0, |at| at + 1);
    match path[name..].rfind('.').filter(|at| 0 < *at) {
        Some(at) => format!("{}{suffix}{}", &path[..name + at], &path[name + at..]),
        None => format!("{path}{suffix}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Vec<Piece> {
        let mut fill = |_: &str| Some(super::super::expand::Filling::ProcessNumber);
        super::super::expand::expand(text, &mut fill).unwrap()
    }

    fn check(text: &str, first: u32, count: u32, expect: Option<(&str, Option<u16>)>) {
        let (pieces, numbers) = (pieces(text), Numbers { first, count });
        let plan = plan([&pieces[..]], numbers);
        let filled = plan.map(|plan| (fill(&pieces, numbers), plan.port));
        let expect = expect.map(|(text, port)| (text.to_owned(), port));
        assert_eq!(filled, expect, "{text} {first} {count}");
    }

    #[test]
    fn process_numbers_become_templates_that_give_the_same_text() {
        check("w -n %(n)s", 0, 20, Some(("w -n {index}", None)));
        check("--port=80%(n)02d", 0, 4, Some(("--port={port}", Some(8000))));
        check("--port=80%(n)02d", 1, 99, Some(("--port={port}", Some(8001))));
        check("--port=80%(n)02d", 1, 100, None);
        check("--port=900%(n)d x", 1, 9, Some(("--port={port} x", Some(9001))));
        check("--port=900%(n)d", 1, 10, None);
        check("--port=900%(n)d", 0, 10, Some(("--port=900{index}", None)));
        check("a%(n)02d", 0, 4, None);
        check("id-%(n)d", 1, 4, None);
        check("65%(n)03d", 530, 10, None);
        check("1%(n)02d", 0, 4, None);
        check("080%(n)02d", 0, 4, None);
        check("80%(n)02d80%(n)02d", 0, 4, None);
        check("80%(n)02d 80%(n)02d", 0, 4, Some(("{port} {port}", Some(8000))));
        check("80%(n)02d 81%(n)02d", 0, 4, None);
        check("%(n)02d", u32::MAX, 4, None);
    }

    #[test]
    fn braces_that_are_no_templates_stay_what_they_are() {
        check("awk '{print $1}'", 0, 2, Some(("awk '{print $1}'", None)));
        check("echo {port}", 0, 2, Some(("echo {{port}}", None)));
        check("a {} %(n)d", 0, 2, Some(("a {{}} {index}", None)));
        check("{%(n)d}", 0, 2, Some(("{{{index}}}", None)));
        check("{{x}}", 0, 2, Some(("{{{{x}}}}", None)));
    }

    #[test]
    fn each_instance_has_a_log_of_its_own() {
        let path = |text: &str, count| numbered_path(&pieces(text), count);
        assert_eq!(path("/var/log/w_%(n)02d.log", 4), "/var/log/w_{index}.log");
        assert_eq!(path("/var/log/w.log", 4), "/var/log/w-{index}.log");
        assert_eq!(path("/var/log.d/w", 4), "/var/log.d/w-{index}");
        assert_eq!(path("/var/log/.w", 4), "/var/log/.w-{index}");
        assert_eq!(path("/var/log/w.log", 1), "/var/log/w.log");
    }
}
