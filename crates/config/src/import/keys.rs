//! One section whose keys are asked for one by one, like [`crate::table`] for TOML.
//!
//! Invariant: every key is either asked for, or told of by [`Keys::finish`].

use super::expand::{Filling, Piece, expand, plain};
use super::ini::{Ini, Item, Place, Section};
use super::note::{NOTES_MAX, Note, NoteKind};
use super::values;
use crate::diagnostic::printable;
use crate::suggest::did_you_mean;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// What is known outside the files.
pub struct ImportWorld<'w> {
    /// `%(host_node_name)s`.
    pub hostname: &'w str,
    /// `%(ENV_x)s`: the environment, as far as the files ask for it.
    pub environment: &'w dyn Fn(&str) -> Option<String>,
    /// SHA-256, for passwords.
    pub sha256: &'w dyn Fn(&[u8]) -> [u8; 32],
}

/// What all readers share.
pub(crate) struct Desk<'w> {
    pub(crate) world: &'w ImportWorld<'w>,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) notes: Vec<Note>,
    /// Notes beyond [`NOTES_MAX`].
    pub(crate) left_out: usize,
    /// What has been told, so that it is told once.
    pub(crate) told: BTreeSet<(Place, String, String)>,
    /// `environment` of `[supervisord]`: part of every program's.
    pub(crate) global_env: BTreeMap<String, String>,
    /// `directory` of `[supervisord]`: where relative paths begin.
    pub(crate) directory: Option<String>,
}

impl Desk<'_> {
    pub(crate) fn note(
        &mut self,
        kind: NoteKind,
        place: Place,
        subject: &str,
        why: impl Into<String>,
        instead: impl Into<String>,
    ) {
        let file = self.files.get(place.file).cloned().unwrap_or_default();
        let (subject, why) = (printable(subject), printable(&why.into()));
        let told = (place, subject.clone(), why.clone());
        if self.told.contains(&told) {
            return;
        }
        if NOTES_MAX <= self.notes.len() {
            self.left_out += 1;
            return;
        }
        self.told.insert(told);
        let instead: String = instead.into();
        self.notes.push(Note { kind, file, line: place.line, subject, why, instead });
    }

    /// What a name stands for that is the same for every process; tells where it came from.
    fn common(&mut self, name: &str, place: Place, subject: &str) -> Option<Filling> {
        if let Some(variable) = name.strip_prefix("ENV_") {
            if let Some(value) = self.global_env.get(variable) {
                return Some(Filling::Text(value.clone()));
            }
            let value = (self.world.environment)(variable)?;
            self.note(
                NoteKind::Changed,
                place,
                subject,
                format!("`%({name})s` has the value that {variable} has where this is imported"),
                "supervisord took it from its own environment: look whether it is the same",
            );
            return Some(Filling::Text(value));
        }
        match name {
            "here" => {
                let file = self.files.get(place.file)?;
                let folder = file.parent()?.to_string_lossy().into_owned();
                Some(Filling::Text(folder))
            }
            "host_node_name" => {
                self.note(
                    NoteKind::Changed,
                    place,
                    subject,
                    "the name of this machine stands in the result",
                    "on another node, import there",
                );
                Some(Filling::Text(self.world.hostname.to_owned()))
            }
            _ => None,
        }
    }
}

/// Names that only programs have: `program_name` and the like.
pub(crate) type Names<'n> = &'n dyn Fn(&str) -> Option<Filling>;

/// No such names.
pub(crate) const NO_NAMES: Names<'static> = &|_| None;

/// A section being read.
pub(crate) struct Keys<'a> {
    ini: &'a Ini,
    pub(crate) section: &'a Section,
    asked: BTreeSet<&'static str>,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(ini: &'a Ini, section: &'a Section) -> Self {
        Self { ini, section, asked: BTreeSet::new() }
    }

    /// Keys that there are, whether anybody gets round to asking for them or not.
    pub(crate) fn expect(&mut self, keys: &[&'static str]) {
        self.asked.extend(keys);
    }

    /// `[program:web] command`.
    pub(crate) fn subject(&self, key: &str) -> String {
        format!("[{}] {key}", self.section.name)
    }

    pub(crate) fn take(&mut self, key: &'static str) -> Option<&'a Item> {
        self.asked.insert(key);
        self.ini.get(self.section, key)
    }

    pub(crate) fn note(
        &self,
        desk: &mut Desk<'_>,
        kind: NoteKind,
        key: &str,
        why: impl Into<String>,
        instead: impl Into<String>,
    ) {
        let place = self.ini.get(self.section, key).map_or(self.section.place, |item| item.place);
        desk.note(kind, place, &self.subject(key), why, instead);
    }

    /// A value in pieces; told and `None` where supervisord would refuse it.
    pub(crate) fn pieces(
        &mut self,
        key: &'static str,
        names: Names<'_>,
        desk: &mut Desk<'_>,
    ) -> Option<Vec<Piece>> {
        let item = self.take(key)?;
        let subject = self.subject(key);
        let mut fill = |name: &str| names(name).or_else(|| desk.common(name, item.place, &subject));
        match expand(&item.value, &mut fill) {
            Ok(pieces) => Some(pieces),
            Err(why) => {
                let help = "mend the value; supervisord refuses it too, unless the variable is set";
                self.note(desk, NoteKind::Lost, key, why, help);
                None
            }
        }
    }

    /// A value that is the same for every process.
    pub(crate) fn text(
        &mut self,
        key: &'static str,
        names: Names<'_>,
        desk: &mut Desk<'_>,
    ) -> Option<String> {
        let pieces = self.pieces(key, names, desk)?;
        let text = plain(&pieces);
        if text.is_none() {
            let why = "the number of a process can't stand here";
            self.note(desk, NoteKind::Lost, key, why, "");
        }
        text
    }

    /// A value read by `reader`; told and `default` where it is none of the kind.
    pub(crate) fn read<T>(
        &mut self,
        key: &'static str,
        default: T,
        what: &str,
        desk: &mut Desk<'_>,
        reader: impl FnOnce(&str) -> Option<T>,
    ) -> T {
        let Some(text) = self.text(key, NO_NAMES, desk) else { return default };
        reader(text.trim()).unwrap_or_else(|| {
            let why = format!("is no {what}: supervisord refuses it, and its default is used");
            self.note(desk, NoteKind::Lost, key, why, format!("write a {what}"));
            default
        })
    }

    pub(crate) fn boolean(
        &mut self,
        key: &'static str,
        default: bool,
        desk: &mut Desk<'_>,
    ) -> bool {
        self.read(key, default, "truth value (true or false)", desk, values::boolean)
    }

    /// A number from 0.
    pub(crate) fn number(&mut self, key: &'static str, default: u32, desk: &mut Desk<'_>) -> u32 {
        self.read(key, default, "number from 0", desk, |text| text.parse().ok())
    }

    pub(crate) fn bytes(&mut self, key: &'static str, default: u64, desk: &mut Desk<'_>) -> u64 {
        self.read(key, default, "size (50MB)", desk, values::bytes)
    }

    /// Keys that holdfast has no use for, if they are set.
    pub(crate) fn unneeded(&mut self, keys: &[(&'static str, &str)], desk: &mut Desk<'_>) {
        for (key, why) in keys {
            if self.take(key).is_some() {
                self.note(desk, NoteKind::Unneeded, key, *why, "");
            }
        }
    }

    /// Tells of every key that nobody asked for.
    pub(crate) fn finish(&self, desk: &mut Desk<'_>) {
        for (key, item) in &self.section.items {
            if self.asked.contains(key.as_str()) {
                continue;
            }
            let help = did_you_mean(key, self.asked.iter().copied()).unwrap_or_default();
            let why = "supervisord knows no such key, and passes it over";
            desk.note(NoteKind::Unneeded, item.place, &self.subject(key), why, help);
        }
    }
}
