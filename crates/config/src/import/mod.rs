//! `holdfast import supervisord`: a supervisord.conf as a configuration of ours.
//!
//! Why a list of notes beside it: what has no counterpart here, or another one, is told with its
//! place and with what to do instead; nothing is left out in silence.
//! Invariants: what comes out has no fault; any text is answered; a password is hashed, and stands in
//! no note.
//! Source: supervisord's manual (supervisor 4.2), and its own reading of each value.

mod ini;
mod note;

mod expand;
mod keys;
mod templates;
mod values;

mod daemon;
mod fcgi;
mod listener;
mod log;
mod order;
mod policy;
mod program;
mod service;
mod write;

mod files;

pub use files::load_supervisord;
pub use keys::ImportWorld;
pub use note::{Note, NoteKind};

use crate::suggest::did_you_mean;
use ini::{Ini, Place, Section};
use keys::{Desk, Keys, NO_NAMES};
use program::{Group, Kind, Shop};
use service::Service;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What is told of the whole.
const BEGIN: Place = Place { file: 0, line: 1 };

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Imported {
    /// A whole configuration without faults.
    pub toml: String,
    /// What is not as it was, in the order of the files.
    pub notes: Vec<Note>,
    /// Notes beyond those that are kept.
    pub left_out: usize,
    /// How many services it has.
    pub services: usize,
}

/// Converts texts: the main file, then those that it includes, each with its absolute path.
pub fn import_supervisord(files: &[(PathBuf, String)], world: &ImportWorld<'_>) -> Imported {
    let mut ini = Ini::default();
    let mut desk = desk(files.iter().map(|(path, _)| path.clone()).collect(), world);
    for (file, (_, text)) in files.iter().enumerate() {
        ini.read(file, text);
    }
    for bad in &ini.bad_lines {
        let instead = "mend or remove the line: supervisord does not start with it";
        desk.note(NoteKind::Lost, bad.place, "this line", bad.why, instead);
    }
    let own = daemon::read_own(&ini, &mut desk);
    let face = daemon::read_servers(&ini, own.identifier, &mut desk);
    daemon::tell_others(&ini, &mut desk);
    let defaults = write::defaults(own.defaults);
    let services = read_programs(&ini, &defaults, &mut desk);
    let parts = write::Parts { face, defaults, services };
    let (toml, services) = write::write(parts, &mut desk);
    let Desk { mut notes, left_out, files, .. } = desk;
    let number = |path: &PathBuf| files.iter().position(|file| file == path);
    notes.sort_by_key(|note| (number(&note.file), note.line));
    Imported { toml, notes, left_out, services }
}

fn desk<'w>(files: Vec<PathBuf>, world: &'w ImportWorld<'w>) -> Desk<'w> {
    Desk {
        world,
        files,
        notes: Vec::new(),
        left_out: 0,
        told: BTreeSet::new(),
        global_env: BTreeMap::new(),
        directory: None,
    }
}

/// The patterns of `[include]`, as they stand in the main file.
fn includes(main: &Path, text: &str, world: &ImportWorld<'_>) -> (Vec<String>, Vec<Note>) {
    let mut ini = Ini::default();
    ini.read(0, text);
    let mut desk = desk(vec![main.to_path_buf()], world);
    let Some(section) = ini.named("include") else { return (Vec::new(), Vec::new()) };
    let mut keys = Keys::new(&ini, section);
    let patterns = keys.text("files", NO_NAMES, &mut desk);
    if patterns.is_none() && !section.items.contains_key("files") {
        let why = "has no `files`: supervisord refuses it too";
        keys.note(&mut desk, NoteKind::Lost, "files", why, "");
    }
    keys.finish(&mut desk);
    let patterns = patterns.unwrap_or_default();
    (patterns.split_whitespace().map(str::to_owned).collect(), desk.notes)
}

fn read_programs(ini: &Ini, defaults: &toml::Table, desk: &mut Desk<'_>) -> Vec<Service> {
    let groups = read_groups(ini, desk);
    let mut shop = Shop { ini, defaults, names: BTreeSet::new(), logs: BTreeSet::new() };
    let mut services = Vec::new();
    for section in &ini.sections {
        let kind = match section.name.split_once(':') {
            Some(("program", _)) => Kind::Program,
            Some(("fcgi-program", _)) => Kind::Fcgi,
            Some(("eventlistener", _)) => Kind::Listener,
            _ => continue,
        };
        let name = section.name.split_once(':').map_or("", |(_, name)| name).trim();
        let alone = [Group { name: name.to_owned(), priority: None }];
        let mut of = groups.get(section.name.as_str()).map_or(&alone[..], Vec::as_slice);
        if crate::assemble::SERVICES_MAX < services.len() {
            of = &[];
        } else if services.is_empty() {
            tell_environment(section, desk);
        }
        for group in of {
            services.extend(program::convert(section, kind, group.clone(), &mut shop, desk));
        }
    }
    services.truncate(crate::assemble::SERVICES_MAX);
    services
}

/// A difference that no key tells of.
fn tell_environment(section: &Section, desk: &mut Desk<'_>) {
    let why = "programs get a clean environment here, not all of supervisord's own";
    let help = "PATH, HOME, USER, LOGNAME, SHELL and LANG are there; add what is missed to `env`";
    desk.note(NoteKind::Hint, section.place, &format!("[{}]", section.name), why, help);
}

/// The groups of each program's section.
fn read_groups(ini: &Ini, desk: &mut Desk<'_>) -> BTreeMap<String, Vec<Group>> {
    let mut groups: BTreeMap<String, Vec<Group>> = BTreeMap::new();
    for section in &ini.sections {
        let Some(("group", name)) = section.name.split_once(':') else { continue };
        let mut keys = Keys::new(ini, section);
        let programs = keys.text("programs", NO_NAMES, desk).unwrap_or_default();
        let priority = keys.read("priority", 999, "number", desk, |text| text.parse().ok());
        keys.finish(desk);
        let mut members = Vec::new();
        for program in values::list(&programs) {
            let kinds = ["program", "fcgi-program"];
            let section = kinds.map(|kind| format!("{kind}:{program}"));
            let Some(section) = section.into_iter().find(|name| ini.named(name).is_some()) else {
                tell_unknown_program(&keys, program, ini, desk);
                continue;
            };
            let group = Group { name: name.trim().to_owned(), priority: Some(priority) };
            groups.entry(section).or_default().push(group);
            members.push(program);
        }
        tell_group(section, &members, desk);
    }
    groups
}

fn tell_unknown_program(keys: &Keys<'_>, program: &str, ini: &Ini, desk: &mut Desk<'_>) {
    let known = ini.sections.iter().filter_map(|section| section.name.strip_prefix("program:"));
    let help = did_you_mean(program, known).unwrap_or_default();
    let why = format!("there is no program {program}: supervisord refuses it too");
    keys.note(desk, NoteKind::Lost, "programs", why, help);
}

fn tell_group(section: &Section, members: &[&str], desk: &mut Desk<'_>) {
    let place: Place = section.place;
    let name = section.name.split_once(':').map_or("", |(_, name)| name).trim();
    if members.is_empty() {
        return;
    }
    let names = members.join(" ");
    let why =
        format!("there are no groups: its programs are services by their own names ({names})");
    let help = format!("for `{name}:*` write `{names}`: `holdfast service restart {names}`");
    desk.note(NoteKind::Changed, place, &format!("[{}]", section.name), why, help);
}
