//! The root's part in tolerance: how runs are frozen, which modes and workarounds are remembered
//! beyond the life of a daemon. Who is watched stands in `watching`.

use super::control_server::fault;
use super::driver::Driver;
use super::hands::{Job, Realm, RunKey};
use super::requests::done;
use base::{InstanceId, ServiceName};
use control::{Caller, ErrorCode, Reply, WorkaroundView};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use supervisor::{Action, Event, EventKind, Input, Mode, Value};

/// Longest file that is read: some hundred bytes for each of ten thousand instances.
const BOOK_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What is remembered of all instances.
#[derive(Debug, Default)]
pub(crate) struct CareBook {
    entries: BTreeMap<String, Entry>,
    /// What `HOLDFAST_MODE` says.
    pub(crate) environment: config::Modes,
}

/// Of one instance.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Entry {
    /// The mode that an operator has set.
    mode: Option<String>,
    /// Who.
    mode_by: String,
    workaround: Option<WorkaroundView>,
}

impl CareBook {
    /// Reads what was remembered. A file that can't be read is set aside in words: what it said
    /// is lost, and nothing else.
    pub(crate) fn load(path: &Path) -> (Self, Option<String>) {
        let text = match sys::regular::read_to_string(path, BOOK_BYTES_MAX) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return (Self::default(), None);
            }
            Err(error) => return (Self::default(), Some(unreadable(path, &error))),
        };
        match serde_json::from_str(&text) {
            Ok(entries) => (Self { entries, ..Self::default() }, None),
            Err(error) => (Self::default(), Some(unreadable(path, &error))),
        }
    }

    /// The workaround that is in force for an instance.
    pub(crate) fn workaround(&self, instance: &str) -> Option<&WorkaroundView> {
        self.entries.get(instance)?.workaround.as_ref()
    }

    /// The mode that holds for an instance instead of the configured one, and who has set it: an
    /// operator is stronger than the environment.
    fn mode(&self, instance: &InstanceId) -> Option<(Mode, String)> {
        let entry = self.entries.get(&instance.to_string());
        let set = entry.and_then(|entry| Some((mode_of(entry.mode.as_deref()?)?, &entry.mode_by)));
        let set = set.map(|(mode, by)| (mode, by.clone()));
        let environment = || Some((self.environment.of(&instance.service)?, "environment".into()));
        set.or_else(environment)
    }

    /// Takes note of what the core says; true if something is to be remembered.
    fn note(&mut self, event: &Event, now_us: i64) -> bool {
        let saved = event.kind == EventKind::Replaced
            || (event.kind == EventKind::Remedy && flag(event, "helped"));
        let would = event.kind == EventKind::WouldReplace;
        if !(saved || would) || flag(event, "planned") {
            return false;
        }
        let entry = self.entries.entry(event.instance.to_string()).or_default();
        let workaround = entry.workaround.get_or_insert_with(|| WorkaroundView {
            since_us: now_us,
            ..WorkaroundView::default()
        });
        workaround.saves += u64::from(saved);
        workaround.would_have += u64::from(would);
        workaround.last_us = now_us;
        workaround.last_cause = text(event, "cause").unwrap_or_else(|| event.message.clone());
        workaround.evidence = text(event, "evidence");
        true
    }

    /// What stands in the file.
    fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.entries).unwrap_or_default()
    }
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> String {
    let shown = path.display();
    format!("{shown} cannot be read, set modes and counted workarounds are forgotten: {error}")
}

fn flag(event: &Event, name: &str) -> bool {
    event.data.iter().any(|(known, value)| *known == name && *value == Value::Flag(true))
}

fn text(event: &Event, name: &str) -> Option<String> {
    event.data.iter().find_map(|(known, value)| match value {
        Value::Text(text) if *known == name => Some(text.clone()),
        _ => None,
    })
}

fn mode_of(word: &str) -> Option<Mode> {
    [Mode::Off, Mode::Observe, Mode::Enforce].into_iter().find(|mode| mode.as_str() == word)
}

/// What `HOLDFAST_MODE` says; `known` are the services of the configuration.
pub(crate) fn modes_of_environment(config: &config::Config) -> Result<config::Modes, String> {
    let text = std::env::var("HOLDFAST_MODE").unwrap_or_default();
    let known: BTreeSet<ServiceName> = config.services.keys().cloned().collect();
    config::parse_modes(&text, &known).map_err(|error| error.to_string())
}

impl Driver {
    /// Tells the core which modes hold instead of the configured ones.
    pub(crate) fn apply_modes(&mut self) {
        let all = self.config.services.values();
        let all: Vec<InstanceId> =
            all.flat_map(|spec| spec.instance_ids().collect::<Vec<_>>()).collect();
        for instance in all {
            if let Some((mode, by)) = self.care.mode(&instance) {
                self.tell(Realm::Services, Input::ModeSet { instance, mode, by });
            }
        }
    }

    /// An operator sets how much is done about sickness.
    pub(super) fn set_modes(
        &mut self,
        caller: &Caller,
        targets: &[String],
        mode: Option<&str>,
    ) -> Reply {
        let wanted = match mode.map(|word| (word, mode_of(word))) {
            None => None,
            Some((_, Some(mode))) => Some(mode),
            Some((word, None)) => {
                let why = format!("`{word}` is no mode");
                let help = "modes are off, observe and enforce; default = as configured";
                return fault(ErrorCode::Invalid, why, help);
            }
        };
        let instances = match self.resolve_all(targets) {
            Ok(instances) => instances,
            Err(reply) => return reply,
        };
        let by = caller.name.clone();
        for instance in &instances {
            let entry = self.care.entries.entry(instance.to_string()).or_default();
            entry.mode = wanted.map(|mode| mode.as_str().to_owned());
            entry.mode_by.clone_from(&by);
        }
        self.keep_care();
        let names: Vec<String> = instances.iter().map(ToString::to_string).collect();
        let action = Action::Mode(wanted);
        self.tell(Realm::Services, Input::Command { targets: instances, action, by });
        if wanted.is_none() {
            self.apply_modes();
        }
        let word = wanted.map_or("as configured", Mode::as_str);
        done(&format!("the mode of {} is {word} now", names.join(", ")), names)
    }

    /// Somebody says that the fault was mended: what was counted begins anew.
    pub(super) fn cured(&mut self, caller: &Caller, targets: &[String]) -> Reply {
        let instances = match self.resolve_all(targets) {
            Ok(instances) => instances,
            Err(reply) => return reply,
        };
        let mut names = Vec::new();
        for instance in instances {
            let name = instance.to_string();
            let entry = self.care.entries.get_mut(&name);
            let Some(ended) = entry.and_then(|entry| entry.workaround.take()) else { continue };
            let message = format!(
                "{} says that {name} was mended: the workaround is no longer in force; it had \
                 saved it {} times",
                caller.name, ended.saves
            );
            let severity = control::Severity::Info;
            self.events.say(&name, "service.workaround_ended", severity, message);
            names.push(name);
        }
        if names.is_empty() {
            let help = "`holdfast status` shows the workarounds that are";
            return fault(ErrorCode::Conflict, "no workaround is in force there", help);
        }
        self.keep_care();
        done(&format!("the workaround of {} is ended", names.join(", ")), names)
    }

    /// The core says something that may have to be remembered.
    pub(super) fn note_event(&mut self, event: &Event) {
        if self.care.note(event, sys::clock::wall().as_micros()) {
            self.keep_care();
        }
    }

    fn keep_care(&mut self) {
        let Ok(anybody) = "care".parse::<InstanceId>() else { return };
        let (path, bytes) = (self.paths.care(), self.care.to_bytes());
        self.hands.give(&anybody, Job::Write { path, bytes });
    }

    /// Nothing of a run is to be scheduled any more.
    pub(super) fn freeze(&mut self, key: RunKey) {
        let tree = self.run(&key).and_then(|run| run.tree.clone());
        match tree {
            Some(tree) => self.hands.give_for_run(&key.clone(), Job::Freeze { key, tree }),
            None => self.frozen(key, Err("nothing of it is tracked".to_owned())),
        }
    }

    pub(super) fn frozen(&mut self, key: RunKey, result: Result<(), String>) {
        let RunKey { realm, instance, run } = key;
        self.tell(realm, Input::Frozen { instance, run, result });
    }
}
