//! Where a number comes from that a program counts up, and what counts as progress.

use super::Scope;
use super::probe::{http_url, one_of, stray};
use super::process::template_path;
use crate::diagnostic::{Fault, Faults, quoted};
use crate::table::Node;
use crate::value::{boolean, nonempty, table, unknown_value, wrong_type};
use supervisor::{CounterSource, Progress};

const PROGRESS_EXAMPLE: &str = "`progress = \"kernel\"` or `progress = { notify = true }`";
const SOURCE_EXAMPLE: &str = "`{ notify = true }`, `{ http = \"http://…\", field = \"requests\" }` or `{ access_log = \"/…\" }`";

/// Levels of a field's name.
const FIELD_LEVELS_MAX: usize = 16;

/// Reads `progress`.
pub(crate) fn progress(node: Node<'_>, scope: Scope, faults: &mut Faults<'_>) -> Option<Progress> {
    match node.value.as_str() {
        Some("kernel") => Some(Progress::Kernel),
        Some(other) => {
            unknown_value(node, other, ["kernel"].into_iter(), faults);
            None
        }
        None if node.value.as_table().is_some() => {
            source(node, scope, faults).map(Progress::Counter)
        }
        None => {
            wrong_type(node, "\"kernel\" or a table", PROGRESS_EXAMPLE, faults);
            None
        }
    }
}

/// Reads the table that says who counts.
pub(crate) fn source(
    node: Node<'_>,
    scope: Scope,
    faults: &mut Faults<'_>,
) -> Option<CounterSource> {
    let mut source = table(node, format!("`{}`", node.name), SOURCE_EXAMPLE, faults)?;
    let notify = source.read_option("notify", faults, boolean);
    let url = source.read_option("http", faults, |node, faults| http_url(node, scope, faults));
    let field = source.read_option("field", faults, field);
    let log =
        source.read_option("access_log", faults, |node, faults| template_path(node, scope, faults));
    source.finish(faults);
    let way = one_of(&source, &["notify", "http", "access_log"], SOURCE_EXAMPLE, faults)?;
    stray(&source, "field", way == "http", way, faults);
    if !source.sound(&["notify", "http", "field", "access_log"]) {
        return None;
    }
    match (notify, url, field, log) {
        (Some(true), _, _, _) => Some(CounterSource::Notify),
        (_, Some(url), Some(field), _) => Some(CounterSource::HttpJson { url, field }),
        (_, _, _, Some(log)) => Some(CounterSource::AccessLog(log)),
        (Some(false), _, _, _) => {
            faults.push(
                Fault::error("one-of", format!("`{}` says who does not count", node.name))
                    .at(source.value_spot("notify"), "can only be true")
                    .help(format!("write it like {SOURCE_EXAMPLE}")),
            );
            None
        }
        (None, _, _, None) => {
            faults.push(
                Fault::error("missing-key", format!("`{}` has no `field`", node.name))
                    .at(source.key_spot("http"), "which number of the document?")
                    .help("add `field = \"requests\"`; with levels `field = \"server.requests\"`"),
            );
            None
        }
    }
}

fn field(node: Node<'_>, faults: &mut Faults<'_>) -> Option<String> {
    let text = nonempty(node, faults)?;
    let mut levels = text.split('.');
    if levels.all(|level| !level.is_empty()) && text.split('.').count() <= FIELD_LEVELS_MAX {
        return Some(text.to_owned());
    }
    faults.push(
        Fault::error("bad-field", format!("{} can't be a field", quoted(text)))
            .at(node.spot, format!("an empty level, or more than {FIELD_LEVELS_MAX}"))
            .help("write it like \"requests\" or \"server.requests\""),
    );
    None
}
