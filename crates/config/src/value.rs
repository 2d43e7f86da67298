//! Readers of single values: text, numbers, durations, sizes, paths, lists, tables.
//!
//! Why: every fault of the same kind is said in the same words, wherever it stands.
//! Invariants: a reader returns `None` only after it has reported why.

use crate::diagnostic::{Fault, Faults, quoted};
use crate::source::Spot;
use crate::suggest::did_you_mean;
use crate::table::{Node, Table};
use base::{ByteSize, format_duration, parse_duration};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use toml::de::{DeInteger, DeValue};

/// Items of one list. No service needs more; each would cost a check against every other.
pub(crate) const LIST_MAX: usize = 10_000;

/// Bytes of one text. The kernel takes at most 128 KiB as one argument (MAX_ARG_STRLEN).
pub(crate) const TEXT_BYTES_MAX: usize = 128 * 1024 - 1;

/// What a value is, as people call it.
pub(crate) fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Reports a value of the wrong kind.
pub(crate) fn wrong_type(node: Node<'_>, takes: &str, example: &str, faults: &mut Faults<'_>) {
    let is = kind_of(node.value);
    let whole = if node.is_item { "an item of " } else { "" };
    let message = format!("{whole}`{}` takes {takes}, not {is}", node.name);
    faults.push(
        Fault::error("wrong-type", message)
            .at(node.spot, format!("this is {is}"))
            .help(format!("write it like {example}")),
    );
}

/// Any text without a NUL character, of acceptable length.
pub(crate) fn text<'a>(node: Node<'a>, faults: &mut Faults<'_>) -> Option<&'a str> {
    let Some(text) = node.value.as_str() else {
        let bare = node.value.as_integer().map_or("…", DeInteger::as_str);
        let example = if node.is_item {
            format!("`\"{bare}\"`, in quotes")
        } else {
            format!("`{} = \"{bare}\"`", node.name)
        };
        wrong_type(node, "a text", &example, faults);
        return None;
    };
    check_text(node.name, text, node.spot, faults)
}

/// The limits of any text that reaches the kernel.
pub(crate) fn check_text<'a>(
    name: &str,
    text: &'a str,
    spot: Spot,
    faults: &mut Faults<'_>,
) -> Option<&'a str> {
    if text.contains('\0') {
        faults.push(
            Fault::error("nul-character", format!("`{name}` contains a NUL character"))
                .at(spot, "contains `\\u0000`")
                .help("remove it: Linux ends arguments, variables and paths at a NUL"),
        );
        return None;
    }
    if TEXT_BYTES_MAX < text.len() {
        let bytes = text.len();
        faults.push(
            Fault::error("out-of-range", format!("`{name}` is too long"))
                .at(spot, format!("{bytes} bytes, the limit is {TEXT_BYTES_MAX}"))
                .help("put the text into a file and name that"),
        );
        return None;
    }
    Some(text)
}

/// A text with something in it.
pub(crate) fn nonempty<'a>(node: Node<'a>, faults: &mut Faults<'_>) -> Option<&'a str> {
    let text = text(node, faults)?;
    if text.trim().is_empty() {
        faults.push(
            Fault::error("empty-value", format!("`{}` is empty", node.name))
                .at(node.spot, "nothing in it")
                .help(format!("give `{}` a value, or remove the line", node.name)),
        );
        return None;
    }
    Some(text)
}

/// One line of text.
pub(crate) fn line<'a>(node: Node<'a>, faults: &mut Faults<'_>) -> Option<&'a str> {
    let text = text(node, faults)?;
    if text.chars().any(char::is_control) {
        faults.push(
            Fault::error("bad-text", format!("`{}` has to be one plain line", node.name))
                .at(node.spot, "has a line break, a tab or a control character")
                .help("write it in one line"),
        );
        return None;
    }
    Some(text)
}

/// `true` or `false`.
pub(crate) fn boolean(node: Node<'_>, faults: &mut Faults<'_>) -> Option<bool> {
    let answer = node.value.as_bool();
    if answer.is_none() {
        let example = format!("`{0} = true` or `{0} = false`, without quotes", node.name);
        wrong_type(node, "true or false", &example, faults);
    }
    answer
}

/// The number that was written, whatever its size.
pub(crate) fn number(integer: &DeInteger<'_>) -> Option<i128> {
    i128::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// A whole number within a range.
pub(crate) fn integer<T>(
    node: Node<'_>,
    range: RangeInclusive<T>,
    faults: &mut Faults<'_>,
) -> Option<T>
where
    T: Copy + Into<i128> + TryFrom<i128> + std::fmt::Display,
{
    let (low, high) = (*range.start(), *range.end());
    let Some(written) = node.value.as_integer() else {
        let example = format!("`{} = {low}`, without quotes", node.name);
        wrong_type(node, "a whole number", &example, faults);
        return None;
    };
    let inside = number(written).filter(|n| (low.into()..=high.into()).contains(n));
    if inside.is_none() {
        let value = quoted(written.as_str());
        faults.push(
            Fault::error("out-of-range", format!("`{}` can't be {value}", node.name))
                .at(node.spot, format!("not within {low} to {high}"))
                .help(format!("choose a number from {low} to {high}")),
        );
    }
    inside.and_then(|n| T::try_from(n).ok())
}

/// A duration such as `"10s"` within a range.
pub(crate) fn duration(
    node: Node<'_>,
    range: RangeInclusive<Duration>,
    faults: &mut Faults<'_>,
) -> Option<Duration> {
    let Some(written) = node.value.as_str() else {
        let example = match node.value.as_integer().and_then(number) {
            Some(n) => format!("`{} = \"{n}s\"`", node.name),
            None => format!("`{} = \"10s\"`", node.name),
        };
        wrong_type(node, "a duration", &example, faults);
        return None;
    };
    duration_of(node.name, written, node.spot, range, faults)
}

/// The same for a piece of a text.
pub(crate) fn duration_of(
    name: &str,
    written: &str,
    spot: Spot,
    range: RangeInclusive<Duration>,
    faults: &mut Faults<'_>,
) -> Option<Duration> {
    let duration = match parse_duration(written) {
        Ok(duration) => duration,
        Err(error) => {
            let error = error.to_string();
            let (why, help) = error.split_once("; ").unwrap_or((&error, ""));
            faults.push(
                Fault::error("bad-duration", format!("`{name}` is no duration"))
                    .at(spot, why)
                    .help(help),
            );
            return None;
        }
    };
    if range.contains(&duration) {
        return Some(duration);
    }
    let limits = (format_duration(*range.start()), format_duration(*range.end()));
    out_of_range(name, written, spot, duration < *range.start(), &limits, faults);
    None
}

/// A size such as `"64MiB"` within a range.
pub(crate) fn size(
    node: Node<'_>,
    range: RangeInclusive<ByteSize>,
    faults: &mut Faults<'_>,
) -> Option<ByteSize> {
    let Some(written) = node.value.as_str() else {
        let example = match node.value.as_integer().and_then(number) {
            Some(n) => format!("`{} = \"{n}B\"` or with kB, MB, GB, KiB, MiB, GiB", node.name),
            None => format!("`{} = \"64MiB\"`", node.name),
        };
        wrong_type(node, "a size", &example, faults);
        return None;
    };
    let size: ByteSize = match written.parse::<ByteSize>() {
        Ok(size) => size,
        Err(error) => {
            let error = error.to_string();
            let (why, help) = error.split_once("; ").unwrap_or((&error, ""));
            faults.push(
                Fault::error("bad-size", format!("`{}` is no size", node.name))
                    .at(node.spot, why)
                    .help(help),
            );
            return None;
        }
    };
    if range.contains(&size) {
        return Some(size);
    }
    let limits = (range.start().to_string(), range.end().to_string());
    out_of_range(node.name, written, node.spot, size < *range.start(), &limits, faults);
    None
}

/// Reports a duration or a size that is too small or too large.
fn out_of_range(
    name: &str,
    written: &str,
    spot: Spot,
    is_below: bool,
    limits: &(String, String),
    faults: &mut Faults<'_>,
) {
    let (low, high) = limits;
    let (label, help) = if is_below {
        (format!("less than {low}"), format!("choose {low} or more"))
    } else {
        (format!("more than {high}"), format!("choose {high} or less"))
    };
    let message = format!("`{name}` can't be {}", quoted(written));
    faults.push(Fault::error("out-of-range", message).at(spot, label).help(help));
}

/// An absolute path.
pub(crate) fn absolute_path(node: Node<'_>, faults: &mut Faults<'_>) -> Option<PathBuf> {
    let text = nonempty(node, faults)?;
    check_absolute(node.name, text, node.spot, faults)
}

/// The same for a piece of a text.
pub(crate) fn check_absolute(
    name: &str,
    text: &str,
    spot: Spot,
    faults: &mut Faults<'_>,
) -> Option<PathBuf> {
    if text.starts_with('/') {
        return Some(PathBuf::from(text));
    }
    faults.push(
        Fault::error("relative-path", format!("`{name}` needs an absolute path"))
            .at(spot, "does not begin with `/`")
            .help("write the whole path from `/`; the daemon runs in no particular directory"),
    );
    None
}

/// `IP:port`.
pub(crate) fn socket_addr(node: Node<'_>, faults: &mut Faults<'_>) -> Option<SocketAddr> {
    let text = nonempty(node, faults)?;
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let help = match text.parse::<u16>() {
        Ok(port) => {
            format!("write \"127.0.0.1:{port}\" (this machine) or \"0.0.0.0:{port}\" (all)")
        }
        Err(_) => "write an IP address and a port, such as \"127.0.0.1:80\" or \"[::1]:80\"; \
                   a host name is not looked up"
            .to_owned(),
    };
    faults.push(
        Fault::error("bad-address", format!("`{}` is no address and port", node.name))
            .at(node.spot, "not `IP:port`")
            .help(help),
    );
    None
}

/// One of a closed list of words.
pub(crate) fn choice<T: Copy>(
    node: Node<'_>,
    choices: &[(&'static str, T)],
    faults: &mut Faults<'_>,
) -> Option<T> {
    let list = || choices.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>();
    let Some(written) = node.value.as_str() else {
        wrong_type(node, "a text", &format!("one of {}", list().join(", ")), faults);
        return None;
    };
    if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == written) {
        return Some(*choice);
    }
    unknown_value(node, written, choices.iter().map(|(word, _)| *word), faults);
    None
}

/// Reports a word that is not in the list.
pub(crate) fn unknown_value<'k>(
    node: Node<'_>,
    written: &str,
    known: impl Iterator<Item = &'k str> + Clone,
    faults: &mut Faults<'_>,
) {
    let list: Vec<String> = known.clone().map(|word| format!("\"{word}\"")).collect();
    let hint = did_you_mean(written, known).map_or(String::new(), |hint| hint + " ");
    faults.push(
        Fault::error("unknown-value", format!("`{}` can't be {}", node.name, quoted(written)))
            .at(node.spot, "unknown value")
            .help(format!("{hint}known values: {}", list.join(", "))),
    );
}

/// An octal mode written as text.
pub(crate) fn octal(node: Node<'_>, faults: &mut Faults<'_>) -> Option<u32> {
    let example = format!("`{} = \"022\"`: octal digits in quotes", node.name);
    let Some(written) = node.value.as_str() else {
        wrong_type(node, "octal digits as a text", &example, faults);
        return None;
    };
    let octal_digits = !written.is_empty() && written.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mode = u32::from_str_radix(written, 8).ok().filter(|mode| octal_digits && *mode <= 0o777);
    if mode.is_none() {
        faults.push(
            Fault::error("bad-mode", format!("`{}` can't be {}", node.name, quoted(written)))
                .at(node.spot, "not octal digits from 0 to 777")
                .help(format!("write it like {example}")),
        );
    }
    mode
}

/// A list, each item read by itself. Faulty items are reported, all of them.
pub(crate) fn list<'a, T>(
    node: Node<'a>,
    takes: &str,
    example: &str,
    faults: &mut Faults<'_>,
    mut reader: impl FnMut(Node<'a>, &mut Faults<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let Some(array) = node.value.as_array() else {
        wrong_type(node, takes, example, faults);
        return None;
    };
    if LIST_MAX < array.len() {
        let items = array.len();
        faults.push(
            Fault::error("out-of-range", format!("`{}` has too many items", node.name))
                .at(node.spot, format!("{items} items, the limit is {LIST_MAX}")),
        );
        return None;
    }
    let items = array.iter().map(|item| {
        let spot = Spot::new(node.spot.file, item.span());
        reader(Node { name: node.name, spot, value: item.get_ref(), is_item: true }, faults)
    });
    let read: Vec<Option<T>> = items.collect();
    read.into_iter().collect()
}

/// A table inside a value.
pub(crate) fn table<'a>(
    node: Node<'a>,
    title: impl Into<String>,
    example: &str,
    faults: &mut Faults<'_>,
) -> Option<Table<'a>> {
    let table = node.value.as_table();
    if table.is_none() {
        wrong_type(node, "a table", example, faults);
    }
    table.map(|table| Table::new(title, node.spot, table))
}
