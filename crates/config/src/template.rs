//! Templates in texts: `{index}`, `{port}`, `{name}`; `{{` and `}}` stand for braces.
//!
//! Why: a mistyped template would reach the service as it stands, and fail there, far from here.
//! Invariant: a text without a fault is filled by [`supervisor::ProcessSpec::render`] completely.

use crate::diagnostic::{Fault, Faults};
use crate::source::Spot;
use crate::suggest::did_you_mean;

const KNOWN: [&str; 3] = ["index", "port", "name"];

/// What is known about the service's `port` key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Port {
    Set,
    NotSet,
    /// It is set to something impossible, which has been reported.
    Faulty,
}

/// What can be filled into a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    pub(crate) port: Port,
    /// A word of this place alone, next to those that every text has.
    pub(crate) extra: Option<&'static str>,
}

impl Scope {
    fn known(self) -> impl Iterator<Item = &'static str> + Clone {
        KNOWN.into_iter().chain(self.extra)
    }
}

/// Reports every template in `text` that can't be filled.
pub(crate) fn check(text: &str, spot: Spot, scope: Scope, faults: &mut Faults<'_>) {
    let mut rest = text;
    let mut before = None;
    while let Some(at) = rest.find(['{', '}']) {
        before = rest[..at].chars().next_back().or(before.filter(|_| at == 0));
        let brace = &rest[at..];
        if brace.starts_with("{{") || brace.starts_with("}}") {
            (before, rest) = (None, &brace[2..]);
            continue;
        }
        if let Some(word) = word(brace) {
            check_word(word, before, spot, scope, faults);
            (before, rest) = (Some('}'), &brace[word.len() + 2..]);
        } else {
            (before, rest) = (Some('{'), &brace[1..]);
        }
    }
    check_balance(text, spot, faults);
}

/// True when the text differs between instances.
pub(crate) fn tells_instances_apart(text: &str) -> bool {
    text.contains("{index}") || text.contains("{port}")
}

/// The word of `{word}` at the start; anything else in braces is left alone, as are the braces of
/// shell scripts, JSON and `find -exec`.
fn word(brace: &str) -> Option<&str> {
    let inside = brace.strip_prefix('{')?.split_once('}')?.0;
    let first = inside.chars().next()?;
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (first.is_ascii_alphabetic() && inside.chars().all(letters)).then_some(inside)
}

fn check_word(word: &str, before: Option<char>, spot: Spot, scope: Scope, faults: &mut Faults<'_>) {
    let template = format!("{{{word}}}");
    let place = faults.sources.within(spot, &template);
    let is_known = scope.known().any(|known| known == word);
    match (before == Some('$'), is_known) {
        (true, true) => faults.push(
            Fault::warning(
                "template-in-variable",
                format!("`${template}` is filled in by holdfast"),
            )
            .at(place, "not seen by a shell as a variable")
            .help(format!("write `${{{{{word}}}}}` for the variable")),
        ),
        (false, true) if word == "port" && scope.port == Port::NotSet => faults.push(
            Fault::error(
                "template-without-port",
                "`{port}` is used, but the service has no `port`",
            )
            .at(place, "can't be filled in")
            .help("add `port = 8000`: instance number n gets 8000 + n"),
        ),
        (true, false) | (false, true) => {}
        (false, false) => {
            let hint = did_you_mean(word, scope.known()).map_or(String::new(), |hint| hint + " ");
            let known: Vec<String> = scope.known().map(|word| format!("{{{word}}}")).collect();
            faults.push(
                Fault::error("unknown-template", format!("`{template}` is no template"))
                    .at(place, "unknown template")
                    .help(format!(
                        "{hint}known: {}; for a plain brace write `{{{{`",
                        known.join(", ")
                    )),
            );
        }
    }
}

/// `{{` and `}}` become single braces. Where that leaves one side over, it was not meant.
fn check_balance(text: &str, spot: Spot, faults: &mut Faults<'_>) {
    let surplus = |text: &str| {
        text.chars().fold(0_i64, |sum, c| match c {
            '{' => sum + 1,
            '}' => sum - 1,
            _ => sum,
        })
    };
    let filled = text.replace("{{", "{").replace("}}", "}");
    if surplus(text) == 0 && surplus(&filled) != 0 {
        faults.push(
            Fault::warning("braces-collapse", "a double brace stands for a single one")
                .at(spot, "the service will see fewer braces on one side")
                .help("write every plain brace twice: `{{` and `}}`"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{FileId, Sources};

    fn codes(text: &str, port: Port) -> Vec<&'static str> {
        let mut sources = Sources::default();
        sources.add("a.toml".into(), text.to_owned());
        let mut faults = Faults::new(&sources);
        let scope = Scope { port, extra: None };
        check(text, Spot::new(FileId(0), 0..text.len()), scope, &mut faults);
        faults.into_diagnostics().iter().map(|d| d.code).collect()
    }

    #[test]
    fn only_what_looks_like_a_template_is_one() {
        for plain in ["{index} {name}", "${HOME}/x", "awk '{print $1}'", "{}", "{{prt}}", "a{", "}"]
        {
            assert!(codes(plain, Port::NotSet).is_empty(), "{plain}");
        }
        assert_eq!(codes("{prt}", Port::Set), ["unknown-template"]);
        assert_eq!(codes("x{port}", Port::NotSet), ["template-without-port"]);
        assert!(codes("x{port}", Port::Faulty).is_empty());
        assert_eq!(codes("${port}", Port::NotSet), ["template-in-variable"]);
        assert_eq!(codes("{\"a\":{\"b\":1}}", Port::Set), ["braces-collapse"]);
        assert_eq!(codes("{a}{b}", Port::Set), ["unknown-template", "unknown-template"]);
    }
}
