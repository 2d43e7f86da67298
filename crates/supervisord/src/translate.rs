//! Our events, told as supervisord tells its own.
//!
//! Why it remembers: supervisord's events say from which state a process came, and some of ours mean
//! one thing or another by what was before: a process that ends while it starts has failed to start.
//! Invariants: what is told of a process follows supervisord's diagram of states; a record that says
//! nothing new of a process's state tells nothing; events of a run that has been replaced are not
//! told as if they were about its successor.
//! Source: the manual's "Process States"; `supervisor::EventKind`.

use crate::event::{NewState, Payload};
use crate::info::ProcessState;
use crate::name::ProcessName;
use control::{EventRecord, InstanceView, Severity};
use std::collections::BTreeMap;

/// The kind of record that a call of `sendRemoteCommEvent` becomes. Its data are `type` and `data`.
pub const REMOTE_KIND: &str = "supervisord.remote";

/// What has been told of one instance.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Told {
    state: ProcessState,
    run: Option<u64>,
    /// The latest run that has been replaced: whatever comes of it is history.
    replaced: Option<u64>,
    /// A run on its way up beside the present one. Nothing is told of it before it takes over.
    successor: Option<Successor>,
    pid: u32,
    /// Failed starts in a row.
    tries: u32,
    /// It has ended while it was starting; was that a success? Nobody knows yet what follows.
    ended: Option<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Successor {
    run: u64,
    /// Its main process, once it is ready.
    ready: Option<u32>,
}

impl Told {
    fn new(state: ProcessState) -> Self {
        let (run, replaced, successor) = (None, None, None);
        Self { state, run, replaced, successor, pid: 0, tries: 0, ended: None }
    }
}

/// Remembers what has been told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Translator {
    told: BTreeMap<String, Told>,
}

impl Translator {
    /// Takes the states of those of which nothing was told yet as told already.
    pub fn begin<'a>(&mut self, instances: impl Iterator<Item = &'a InstanceView>) {
        for view in instances {
            let state = match ProcessState::of(&view.state) {
                ProcessState::Unknown => ProcessState::Stopped,
                state => state,
            };
            let known = Told { run: view.run, pid: view.pid.unwrap_or(0), ..Told::new(state) };
            self.told.entry(view.name.clone()).or_insert(known);
        }
    }

    /// What supervisord would have told. At most four events.
    pub fn translate(&mut self, record: &EventRecord) -> Vec<Payload> {
        match record.kind.as_str() {
            "daemon.started" => return vec![Payload::SupervisorRunning],
            "daemon.stopping" => return vec![Payload::SupervisorStopping],
            REMOTE_KIND => return remote(record).into_iter().collect(),
            "service.added" => return group(record, Payload::GroupAdded),
            "service.removed" => {
                self.told.remove(&record.subject);
                return group(record, Payload::GroupRemoved);
            }
            // Our own duties have lives like a service's, and are none of supervisord's processes.
            _ if record.subject.starts_with("duty/") => return Vec::new(),
            kind if !kind.starts_with("service.") => return Vec::new(),
            _ => {}
        }
        let run = number(record, "run");
        let told = self.told.entry(record.subject.clone());
        let told = told.or_insert_with(|| Told::new(usual_before(&record.kind)));
        if run.is_some() && run == told.replaced {
            return Vec::new();
        }
        let mut news = News { name: ProcessName::of(&record.subject), told, payloads: Vec::new() };
        if !news.tell_of_two(record, run) {
            news.tell(record, run);
        }
        news.payloads
    }
}

/// What is told of one record.
struct News<'a> {
    name: ProcessName,
    told: &'a mut Told,
    payloads: Vec<Payload>,
}

impl News<'_> {
    fn tell(&mut self, record: &EventRecord, run: Option<u64>) {
        if let Some(pid) = pid_of(record) {
            self.told.pid = pid;
        }
        match record.kind.as_str() {
            "service.adopted" => {
                self.told.state = ProcessState::Running;
                self.told.run = run;
            }
            "service.starting" => self.starting(run),
            "service.ready" => self.ready(run),
            "service.stopping" => self.stopping(),
            "service.exited" => self.exited(record),
            "service.stopped" => self.stopped(),
            "service.finished" => self.finished(),
            "service.failed" | "service.budget_spent" => self.fatal(),
            "service.start_failed" if record.severity == Severity::Error => self.fatal(),
            "service.start_failed" => self.backoff(),
            "service.restart_scheduled" => {
                self.ended_unseen();
                self.backoff();
            }
            _ => {}
        }
    }

    fn change(&mut self, to: NewState) {
        let from = std::mem::replace(&mut self.told.state, to.state());
        self.payloads.push(Payload::State { name: self.name.clone(), from, to });
    }

    /// What concerns a successor beside the present run: to supervisord the two are one process,
    /// which is restarted when the second takes over. False: it is told as anything else.
    fn tell_of_two(&mut self, record: &EventRecord, run: Option<u64>) -> bool {
        let kind = record.kind.as_str();
        let Some(successor) = self.told.successor else {
            let begins = kind == "service.starting" && self.told.state == ProcessState::Running;
            if let Some(run) = run.filter(|run| begins && Some(*run) != self.told.run) {
                self.told.successor = Some(Successor { run, ready: None });
                return true;
            }
            return false;
        };
        if run == Some(successor.run) {
            match kind {
                "service.ready" => {
                    let ready = Some(pid_of(record).unwrap_or(0));
                    self.told.successor = Some(Successor { ready, ..successor });
                }
                "service.admitted" | "service.replaced" => self.take_over(successor),
                "service.exited"
                | "service.start_failed"
                | "service.start_timeout"
                | "service.stopping" => self.told.successor = None,
                _ => {}
            }
            return true;
        }
        match kind {
            "service.replacement_failed" => self.told.successor = None,
            "service.stopping" | "service.quarantined" if successor.ready.is_some() => {
                self.take_over(successor);
                return true;
            }
            "service.exited" => {
                // Nobody stands beside it any more.
                self.tell(record, run);
                self.told.successor = None;
                self.starting(Some(successor.run));
                if let Some(pid) = successor.ready {
                    self.told.pid = pid;
                    self.ready(Some(successor.run));
                }
                return true;
            }
            _ => {}
        }
        false
    }

    fn take_over(&mut self, successor: Successor) {
        self.told.successor = None;
        self.told.replaced = self.told.run;
        self.stopped();
        self.starting(Some(successor.run));
        self.told.pid = successor.ready.unwrap_or(0);
        self.ready(Some(successor.run));
    }

    fn starting(&mut self, run: Option<u64>) {
        if matches!(self.told.state, ProcessState::Running | ProcessState::Stopping) {
            // Its end was not recorded.
            self.told.replaced = self.told.run;
            self.stopped();
        }
        // A start whose end nobody has recorded.
        self.backoff();
        self.told.ended = None;
        self.told.run = run;
        self.told.pid = 0;
        self.change(NewState::Starting { tries: self.told.tries });
    }

    fn ready(&mut self, run: Option<u64>) {
        if matches!(self.told.state, ProcessState::Running | ProcessState::Stopping) {
            return;
        }
        if self.told.state != ProcessState::Starting {
            let pid = self.told.pid;
            self.starting(run);
            self.told.pid = pid;
        }
        self.told.tries = 0;
        self.change(NewState::Running { pid: self.told.pid });
    }

    fn stopping(&mut self) {
        if self.told.state.is_up() {
            self.change(NewState::Stopping { pid: self.told.pid });
        }
    }

    fn exited(&mut self, record: &EventRecord) {
        let pid = self.told.pid;
        let asked = record.data.get("asked").and_then(serde_json::Value::as_bool).unwrap_or(false);
        let expected = record.severity == Severity::Info;
        match self.told.state {
            ProcessState::Stopping => self.change(NewState::Stopped { pid }),
            _ if asked => self.stopped(),
            ProcessState::Running => self.change(NewState::Exited { pid, expected }),
            ProcessState::Starting => self.told.ended = Some(expected),
            _ => {}
        }
    }

    fn stopped(&mut self) {
        self.stopping();
        if self.told.state == ProcessState::Stopping {
            self.change(NewState::Stopped { pid: self.told.pid });
        }
    }

    /// It has done its work: a process that ends while it starts was running all the same.
    fn finished(&mut self) {
        if self.told.state == ProcessState::Starting {
            self.ready(self.told.run);
        }
        if self.told.state == ProcessState::Running {
            let expected = self.told.ended.take().unwrap_or(true);
            self.change(NewState::Exited { pid: self.told.pid, expected });
        }
    }

    /// It is started again although nobody has recorded its end: that came while no holdfast was
    /// there to see it.
    fn ended_unseen(&mut self) {
        if self.told.state == ProcessState::Running {
            self.told.replaced = self.told.run;
            self.change(NewState::Exited { pid: self.told.pid, expected: false });
        }
    }

    fn backoff(&mut self) {
        if self.told.state == ProcessState::Starting {
            self.told.ended = None;
            self.told.tries = self.told.tries.saturating_add(1);
            self.change(NewState::Backoff { tries: self.told.tries });
        }
    }

    fn fatal(&mut self) {
        if self.told.state == ProcessState::Fatal {
            return;
        }
        self.backoff();
        if self.told.state != ProcessState::Backoff {
            // In supervisord's diagram no other state comes before this one.
            self.told.state = ProcessState::Backoff;
        }
        self.told.tries = 0;
        self.change(NewState::Fatal);
    }
}

/// The state before a record of an instance that nothing is known of.
fn usual_before(kind: &str) -> ProcessState {
    match kind {
        "service.ready" | "service.start_failed" => ProcessState::Starting,
        "service.stopping"
        | "service.exited"
        | "service.finished"
        | "service.restart_scheduled" => ProcessState::Running,
        "service.stopped" => ProcessState::Stopping,
        "service.failed" | "service.budget_spent" => ProcessState::Backoff,
        _ => ProcessState::Stopped,
    }
}

/// A group is new or gone with its first instance.
fn group(record: &EventRecord, payload: fn(String) -> Payload) -> Vec<Payload> {
    let (group, first) = match record.subject.split_once(':') {
        None => (record.subject.as_str(), true),
        Some((group, index)) => (group, index == "0"),
    };
    if first { vec![payload(group.to_owned())] } else { Vec::new() }
}

fn remote(record: &EventRecord) -> Option<Payload> {
    let text = |name: &str| record.data.get(name).and_then(serde_json::Value::as_str);
    Some(Payload::Remote { kind: text("type")?.to_owned(), data: text("data")?.to_owned() })
}

fn pid_of(record: &EventRecord) -> Option<u32> {
    number(record, "pid").and_then(|pid| u32::try_from(pid).ok())
}

fn number(record: &EventRecord, name: &str) -> Option<u64> {
    record.data.get(name).and_then(serde_json::Value::as_u64)
}

#[cfg(test)]
mod tests;
