//! The result as TOML, checked as a whole before it is given out.
//!
//! Invariant: what is written has no fault; what would have one is left out, and told of.

use super::keys::Desk;
use super::note::NoteKind;
use super::service::Service;
use super::{order, policy};
use crate::daemon::Context;
use crate::diagnostic::{Severity, printable};
use crate::load::parse;
use base::format_duration;
use std::collections::BTreeMap;
use std::time::Duration;
use toml::{Table, Value};

/// How long a shutdown may take unless told otherwise, and how much more than the longest stop.
const SHUTDOWN_DEFAULT: Duration = Duration::from_secs(90);
const SHUTDOWN_MORE: Duration = Duration::from_secs(30);
const SHUTDOWN_MAX: Duration = Duration::from_hours(24);

/// Rounds of leaving out what is faulty. Each takes at least one thing away; more than a few are
/// needed only where each fault hides another one.
const ROUNDS_MAX: usize = 100;

/// Everything that is to be written.
pub(crate) struct Parts {
    pub(crate) face: Option<Table>,
    pub(crate) defaults: Table,
    pub(crate) services: Vec<Service>,
}

/// `[defaults]` of what supervisord does where a program says nothing.
pub(crate) fn defaults(own: Table) -> Table {
    let mut defaults = own;
    defaults.insert("ready".to_owned(), policy::default_ready().into());
    defaults.insert("restart".to_owned(), policy::default_restart().into());
    defaults.insert("log".to_owned(), super::log::default_log().into());
    defaults
}

/// A part of the text that can be left out.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Part {
    Face,
    Default(String),
    Service(String),
}

/// The text being written.
#[derive(Default)]
struct Text {
    lines: Vec<String>,
    /// Where parts begin, by their first line from 0.
    parts: Vec<(usize, Part)>,
}

impl Text {
    fn line(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    fn key(&mut self, name: &str, value: &Value) {
        // A value may have several lines, which count.
        let text = format!("{name} = {value}");
        self.lines.extend(text.split('\n').map(str::to_owned));
    }

    fn begin(&mut self, part: Part) {
        self.parts.push((self.lines.len(), part));
    }

    fn done(&self) -> String {
        self.lines.join("\n") + "\n"
    }
}

/// Writes all of it that has no fault; how many services that are.
pub(crate) fn write(mut parts: Parts, desk: &mut Desk<'_>) -> (String, usize) {
    for _ in 0..ROUNDS_MAX {
        let text = compose(&parts, desk);
        let faulty = faulty(&text, desk);
        if faulty.is_empty() {
            return (text.done(), parts.services.len());
        }
        leave_out(&mut parts, &faulty, desk);
    }
    parts.services.clear();
    (compose(&Parts { face: None, ..parts }, desk).done(), 0)
}

fn compose(parts: &Parts, desk: &Desk<'_>) -> Text {
    let Parts { face, defaults, services } = parts;
    let mut text = Text::default();
    let from = desk.files.first().map(|file| file.to_string_lossy().into_owned());
    let from = printable(&from.unwrap_or_default());
    text.line(format!("# Made from {from} by `holdfast import supervisord`."));
    if let Some(face) = face {
        text.line("");
        text.begin(Part::Face);
        text.line("[supervisord]");
        for (name, value) in face {
            text.key(name, value);
        }
    }
    let longest = services.iter().map(|service| service.stop_time).max().unwrap_or_default();
    if SHUTDOWN_DEFAULT < longest {
        let time = format_duration((longest + SHUTDOWN_MORE).min(SHUTDOWN_MAX));
        text.line("");
        text.line("# A shutdown has to last as long as the longest stop.");
        text.line("[daemon]");
        text.key("shutdown_timeout", &time.into());
    }
    if !services.is_empty() {
        text.line("");
        text.line("# What supervisord does where a program says nothing.");
        text.line("[defaults]");
        for (name, value) in defaults {
            text.begin(Part::Default(name.clone()));
            text.key(name, value);
        }
    }
    let after = order::after(services);
    for (service, after) in services.iter().zip(after) {
        write_service(&mut text, service, after);
    }
    text
}

fn write_service(text: &mut Text, service: &Service, after: Vec<String>) {
    text.line("");
    text.begin(Part::Service(service.name.clone()));
    for remark in &service.remarks {
        text.line(format!("# {}", printable(remark)));
    }
    let name = &service.name;
    let quoted = if name.contains('.') { format!("\"{name}\"") } else { name.clone() };
    text.line(format!("[service.{quoted}]"));
    for (name, value) in &service.keys {
        text.key(name, value);
    }
    if !after.is_empty() {
        text.key("after", &after.into());
    }
}

/// The parts with errors, each with what is wrong and what would be right.
fn faulty(text: &Text, desk: &Desk<'_>) -> BTreeMap<Part, (String, String)> {
    let context = Context {
        hostname: desk.world.hostname.to_owned(),
        is_root: true,
        home: "/root".into(),
        xdg_state_home: None,
        xdg_runtime_dir: None,
        state_dir_override: None,
    };
    let loaded = parse(vec![("imported".into(), text.done())], &context);
    let mut faulty = BTreeMap::new();
    for found in loaded.diagnostics.iter().filter(|found| found.severity == Severity::Error) {
        let places = found.place.iter().chain(&found.related);
        let part = places.filter_map(|place| {
            let line = place.line.checked_sub(1)?;
            text.parts.iter().rev().find(|(first, _)| *first <= line).map(|(_, part)| part.clone())
        });
        let help = found.help.clone().unwrap_or_default();
        // The first place is the one that is blamed.
        for part in part.take(1) {
            faulty.entry(part).or_insert_with(|| (found.message.clone(), help.clone()));
        }
    }
    faulty
}

fn leave_out(parts: &mut Parts, faulty: &BTreeMap<Part, (String, String)>, desk: &mut Desk<'_>) {
    for (part, (message, help)) in faulty {
        match part {
            Part::Face => {
                parts.face = None;
                let why = format!("supervisord's interface is left out: {message}");
                desk.note(NoteKind::Lost, super::BEGIN, "[supervisord]", why, help.clone());
            }
            Part::Default(key) => {
                parts.defaults.remove(key);
                let why = format!("is left out: {message}");
                let subject = format!("[supervisord] {key}");
                desk.note(NoteKind::Lost, super::BEGIN, &subject, why, help.clone());
            }
            Part::Service(name) => {
                let service = parts.services.iter().position(|service| service.name == *name);
                let Some(service) = service.map(|at| parts.services.remove(at)) else { continue };
                let why = format!("service `{name}` is left out: {message}");
                desk.note(NoteKind::Lost, service.place, &service.section, why, help.clone());
            }
        }
    }
}
