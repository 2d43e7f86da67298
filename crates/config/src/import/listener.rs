//! `[eventlistener:x]`, and what superlance's listeners do that our own detectors can do.
//!
//! Source: supervisord's manual, "[eventlistener:x] Section Settings"; the help texts of superlance.

use super::keys::{Desk, Keys};
use super::note::NoteKind;
use super::service::{seconds, table};
use super::values;
use crate::service::EVENTS;
use base::ByteSize;
use toml::{Table, Value};

/// Reads which events it wants.
pub(crate) fn read(keys: &mut Keys<'_>, desk: &mut Desk<'_>) -> Option<Table> {
    let names = keys.text("events", super::keys::NO_NAMES, desk).unwrap_or_default();
    let names: Vec<String> = values::list(&names).into_iter().map(str::to_uppercase).collect();
    let (known, unknown): (Vec<String>, Vec<String>) =
        names.into_iter().partition(|name| EVENTS.contains(&name.as_str()));
    if !unknown.is_empty() {
        let why = format!("there are no such events: {}", unknown.join(", "));
        let help = "events of supervisord's plugins are not sent";
        keys.note(desk, NoteKind::Lost, "events", why, help);
    }
    let buffer = keys.number("buffer_size", 10, desk).clamp(1, 100_000);
    if keys.take("result_handler").is_some_and(|item| !item.value.ends_with("default_handler")) {
        let why = "results are taken as OK or FAIL, by no handler in Python";
        keys.note(desk, NoteKind::Lost, "result_handler", why, "");
    }
    if known.is_empty() {
        let why = "wants no event that there is: a listener without events is none";
        keys.note(desk, NoteKind::Lost, "events", why, "add `events=PROCESS_STATE`");
        return None;
    }
    let mut known: Vec<Value> = known.into_iter().map(Value::from).collect();
    known.sort_by_key(ToString::to_string);
    known.dedup();
    Some(table([("events", known.into()), ("buffer", i64::from(buffer).into())]))
}

/// Lines that say how holdfast itself does what this listener does.
pub(crate) fn advise(keys: &Keys<'_>, argv: &[String], desk: &mut Desk<'_>) -> Vec<String> {
    let program = |word: &String| {
        let name = word.rsplit('/').next().unwrap_or(word);
        name.strip_suffix(".py").unwrap_or(name).to_owned()
    };
    // It may stand behind an interpreter and its flags.
    let words = argv.iter().take(4);
    let Some((at, name)) =
        words.map(program).enumerate().find(|(_, name)| SUPERLANCE.contains(&name.as_str()))
    else {
        return Vec::new();
    };
    let options = options(argv.get(at + 1..).unwrap_or_default(), &name);
    let mut lines = match name.as_str() {
        "memmon" => memmon(&options),
        "httpok" => httpok(&options),
        _ => Vec::new(),
    };
    if let Some(to) = options.last("-m") {
        lines.push("[mail]".to_owned());
        lines.push(format!("to = [{}]", Value::from(to)));
        lines.push("server = \"127.0.0.1:25\"".to_owned());
    }
    let why = format!("runs unmodified; holdfast can do what {name} does itself");
    let help = "see the lines above the service in the result";
    desk.note(NoteKind::Hint, keys.section.place, &format!("[{}]", keys.section.name), why, help);
    let begin = format!("Without {name}, holdfast does the same by:");
    if lines.is_empty() { lines } else { std::iter::once(begin).chain(lines).collect() }
}

const SUPERLANCE: [&str; 6] =
    ["memmon", "httpok", "crashmail", "crashmailbatch", "fatalmailbatch", "crashsms"];

/// Options as getopt takes them apart.
#[derive(Debug, Default)]
struct Options {
    given: Vec<(String, String)>,
    rest: Vec<String>,
}

impl Options {
    fn last<'o>(&'o self, name: &'o str) -> Option<&'o str> {
        self.all(name).last()
    }

    fn all<'o>(&'o self, name: &'o str) -> impl Iterator<Item = &'o str> {
        self.given.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

/// Long names of the options that matter here.
const LONG: [(&str, &str); 8] = [
    ("--program", "-p"),
    ("--group", "-g"),
    ("--any", "-a"),
    ("--email", "-m"),
    ("--toEmail", "-m"),
    ("--timeout", "-t"),
    ("--code", "-c"),
    ("--body", "-b"),
];

fn options(argv: &[String], program: &str) -> Options {
    let takes_value = |option: &str| match (program, option) {
        ("memmon", "-a") => true,
        ("memmon", "-c") | (_, "-a" | "-h" | "-e" | "-E") => false,
        _ => true,
    };
    let mut options = Options::default();
    let mut words = argv.iter();
    while let Some(word) = words.next() {
        if let Some((long, value)) = word.split_once('=').filter(|_| word.starts_with("--")) {
            let short =
                LONG.iter().find(|(name, _)| *name == long).map_or(long, |(_, short)| short);
            options.given.push((short.to_owned(), value.to_owned()));
        } else if let Some(long) = LONG.iter().find(|(name, _)| name == word) {
            let value = if takes_value(long.1) { words.next() } else { None };
            options.given.push((long.1.to_owned(), value.cloned().unwrap_or_default()));
        } else if word.len() == 2 && word.starts_with('-') {
            let value = if takes_value(word) { words.next() } else { None };
            options.given.push((word.clone(), value.cloned().unwrap_or_default()));
        } else if let Some((option, value)) = glued(word) {
            options.given.push((option.to_owned(), value.to_owned()));
        } else {
            options.rest.push(word.clone());
        }
    }
    options
}

/// `-p1` is `-p 1`.
fn glued(word: &str) -> Option<(&str, &str)> {
    let letter = word.strip_prefix('-')?.chars().next().filter(char::is_ascii_alphabetic)?;
    word.split_at_checked(1 + letter.len_utf8())
}

/// `group:process` and `process` are the service.
fn service_of(name: &str) -> String {
    let group = name.split(':').next().unwrap_or(name);
    if group.contains('.') { format!("\"{group}\"") } else { group.to_owned() }
}

fn enforced(name: &str) -> [String; 2] {
    [format!("[service.{name}.tolerance]"), "mode = \"enforce\"".to_owned()]
}

fn memmon(options: &Options) -> Vec<String> {
    let mut lines = Vec::new();
    for pair in options.all("-p").chain(options.all("-g")) {
        let Some((name, size)) = pair.rsplit_once('=') else { continue };
        let Some(bytes) = values::bytes(size) else { continue };
        let name = service_of(name);
        lines.extend(enforced(&name));
        lines.push(format!("[service.{name}.detect.memory]"));
        lines.push(format!("limit = \"{}\"", ByteSize(bytes)));
    }
    if let Some(bytes) = options.last("-a").and_then(values::bytes) {
        lines.push("[defaults]".to_owned());
        lines.push("tolerance = \"enforce\"".to_owned());
        lines.push(format!("detect = {{ memory = {{ limit = \"{}\" }} }}", ByteSize(bytes)));
    }
    lines
}

fn httpok(options: &Options) -> Vec<String> {
    let Some(url) = options.rest.iter().find(|word| word.starts_with("http")) else {
        return Vec::new();
    };
    let number = |option| options.last(option).and_then(|text| text.parse::<u64>().ok());
    let timeout = number("-t").unwrap_or(10).clamp(1, 3600);
    let code = number("-c").filter(|code| (100..600).contains(code)).unwrap_or(200);
    let mut lines = Vec::new();
    let names: Vec<String> = options.all("-p").map(service_of).collect();
    let names = if names.is_empty() { vec!["NAME".to_owned()] } else { names };
    for name in names {
        lines.extend(enforced(&name));
        lines.push(format!("[service.{name}.detect.http]"));
        lines.push(format!("url = {}", Value::from(url.as_str())));
        lines.push(format!("status = {code}"));
        if let Some(body) = options.last("-b") {
            lines.push(format!("contains = {}", Value::from(body)));
        }
        lines.push(format!("timeout = \"{}\"", seconds(timeout)));
        lines.push(format!("interval = \"{}\"", seconds(timeout)));
        lines.push("failures = 2".to_owned());
    }
    lines
}
