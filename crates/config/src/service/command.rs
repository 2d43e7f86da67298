//! A command: a list of arguments, or a text split as a shell would, without any expansion.
//!
//! Source: shell-words, which follows POSIX.1-2008, "Shell Command Language", 2.2 Quoting.

use super::Scope;
use crate::diagnostic::{Fault, Faults, quoted};
use crate::source::Spot;
use crate::table::Node;
use crate::template;
use crate::value::{check_text, list, text, wrong_type};

/// How the words of a command are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Through {
    /// Split here.
    Words,
    /// Handed to `/bin/sh -c` as it is.
    Shell,
}

/// Reads a command; never empty.
pub(crate) fn read(
    node: Node<'_>,
    through: Through,
    scope: Scope,
    faults: &mut Faults<'_>,
) -> Option<Vec<String>> {
    let argv = match (node.value.as_str(), through) {
        (Some(script), Through::Shell) => {
            check_text(node.name, script, node.spot, faults)?;
            if script.trim().is_empty() {
                empty(node, node.spot, faults);
                return None;
            }
            vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()]
        }
        (Some(line), Through::Words) => split(node, line, faults)?,
        (None, Through::Words) => arguments(node, scope, faults)?,
        (None, Through::Shell) => {
            faults.push(
                Fault::error("shell-needs-text", "with `shell = true` the command is one text")
                    .at(node.spot, "not a text")
                    .help("write `command = \"…\"` as in a shell, or remove `shell = true`"),
            );
            return None;
        }
    };
    if let Some(line) = node.value.as_str() {
        template::check(line, node.spot, scope, faults);
    }
    Some(argv)
}

/// Splits a text as a shell would, without any expansion.
pub(crate) fn split(node: Node<'_>, line: &str, faults: &mut Faults<'_>) -> Option<Vec<String>> {
    check_text(node.name, line, node.spot, faults)?;
    let Ok(words) = shell_words::split(line) else {
        let quote = open_quote(line);
        let place = quote.map_or(node.spot, |at| {
            // The rest of the text from the quote on, where the file has it literally.
            let rest = faults.sources.within(node.spot, &line[at..]);
            Spot { end: rest.start + 1, ..rest }
        });
        faults.push(
            Fault::error("bad-quotes", format!("a quote in `{}` is never closed", node.name))
                .at(if quote.is_some() { place } else { node.spot }, "opened here")
                .help("close it, or write the command as a list: `[\"program\", \"argument\"]`"),
        );
        return None;
    };
    if check_program(node, words.first().map_or("", String::as_str), node.spot, faults) {
        warn_of_shell_syntax(node, &words, faults);
        return Some(words);
    }
    None
}

fn arguments(node: Node<'_>, scope: Scope, faults: &mut Faults<'_>) -> Option<Vec<String>> {
    if node.value.as_array().is_none() {
        let example = format!("`{} = [\"program\", \"argument\"]`", node.name);
        wrong_type(node, "a command", &example, faults);
        return None;
    }
    let read = list(node, "a command", "`[\"program\", \"argument\"]`", faults, |item, faults| {
        let text = text(item, faults)?;
        template::check(text, item.spot, scope, faults);
        Some((text.to_owned(), item.spot))
    })?;
    let (program, spot) = match read.first() {
        Some((program, spot)) => (program.as_str(), *spot),
        None => ("", node.spot),
    };
    if !check_program(node, program, spot, faults) {
        return None;
    }
    if read.len() == 1 && program.contains(char::is_whitespace) {
        faults.push(
            Fault::warning("command-not-split", "a list is not split at spaces")
                .at(spot, format!("a program called {}, without arguments", quoted(program)))
                .help("write each argument as its own text, or the whole command without brackets"),
        );
    }
    Some(read.into_iter().map(|(argument, _)| argument).collect())
}

fn check_program(node: Node<'_>, program: &str, spot: Spot, faults: &mut Faults<'_>) -> bool {
    if program.is_empty() {
        empty(node, spot, faults);
        return false;
    }
    if program.contains('/') && !program.starts_with('/') && !program.starts_with('{') {
        faults.push(
            Fault::error(
                "relative-path",
                format!("the program of `{}` needs a whole path", node.name),
            )
            .at(faults.sources.within(spot, program), "neither a bare name nor from `/`")
            .help("write the path from `/`, or only the name to look it up in PATH"),
        );
        return false;
    }
    true
}

fn empty(node: Node<'_>, spot: Spot, faults: &mut Faults<'_>) {
    faults.push(
        Fault::error("empty-command", format!("`{}` names no program", node.name))
            .at(spot, "nothing to run")
            .help("write `[\"program\", \"argument\"]` or `\"program argument\"`"),
    );
}

/// Words that only a shell understands are probably meant for one.
fn warn_of_shell_syntax(node: Node<'_>, words: &[String], faults: &mut Faults<'_>) {
    let operators = ["|", "||", "&", "&&", ";", "<", ">", ">>", "2>", "2>&1", ">&2"];
    let Some(word) = words.iter().find(|word| operators.contains(&word.as_str())) else { return };
    faults.push(
        Fault::warning("shell-syntax", format!("`{word}` is passed on as a plain argument"))
            .at(faults.sources.within(node.spot, word), "no shell sees this")
            .help("add `shell = true` to run the command by /bin/sh, or write it as a list"),
    );
}

/// Where the quote that is never closed begins.
fn open_quote(line: &str) -> Option<usize> {
    let mut open: Option<(usize, char)> = None;
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match (open, c) {
            _ if escaped => escaped = false,
            (None | Some((_, '"')), '\\') => escaped = true,
            (None, '\'' | '"') => open = Some((at, c)),
            (Some((_, quote)), c) if c == quote => open = None,
            _ => {}
        }
    }
    open.map(|(at, _)| at)
}
