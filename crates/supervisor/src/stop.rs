//! From alive to nothing left: the stop ladder, then everything the service ever forked.

use crate::instance::{At, Cleaning, End, Role, Stage, StartWait, exit_words, signal_name};
use crate::machine::{Supervisor, millis, pid_value};
use crate::start::short;
use crate::{EventKind, Exit, Kind, Output, Pid, Severity, StopAction, Value};
use base::{Now, format_duration};
use std::sync::Arc;
use std::time::Duration;

const SIGTERM: i32 = 15;

/// Leftovers of a service have this long between SIGTERM and SIGKILL.
const LEFTOVER_GRACE: Duration = Duration::from_secs(2);

/// A service whose first process exits with 0 this soon, leaving others, went to the background.
const FORKED_WITHIN: Duration = Duration::from_secs(10);

/// First pause between two rounds of SIGKILL; it doubles up to [`KILL_PAUSE_MAX`].
const KILL_PAUSE: Duration = Duration::from_millis(100);
const KILL_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Alive this long after SIGKILL: it is said to be unkillable, and tried more rarely.
const UNKILLABLE_AFTER: Duration = Duration::from_secs(5);
const UNKILLABLE_PAUSE: Duration = Duration::from_secs(10);

/// Pause between two looks at a tree that was asked to end, where no main process is known.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

impl Supervisor {
    /// Steps onto the stop ladder.
    pub(crate) fn enter_stop(&mut self, now: Now, at: &At, end: End, out: &mut Vec<Output>) {
        let id = &at.id;
        let Some(instance) = self.instances.get_mut(id) else { return };
        let present = instance.is_present(at.run);
        let Some(run) = instance.run_at_mut(at.run) else { return };
        match run.stage {
            Stage::Spawning => {
                // Nothing can be stopped yet: it is, as soon as it is there.
                run.end = Some(end);
                instance.stop_waits |= present;
                return;
            }
            Stage::Stopping { .. } | Stage::Cleaning(_) => {
                // On its way already; only what comes after it may change.
                if run.end != Some(End::Replace) || end == End::Stop {
                    run.end = Some(end);
                }
                return;
            }
            Stage::Starting { .. } | Stage::Running => {}
        }
        // Whoever asked for it to be started anew is not told that it failed instead.
        let is_anew = run.end == Some(End::Replace) && end != End::Stop;
        let end = if is_anew { End::Replace } else { end };
        run.end = Some(end);
        run.down_since = Some(now);
        run.watchdog_due = None;
        run.warm_up = None;
        let verb = match end {
            End::Replace | End::Replaced => "is stopped, to be started again",
            End::Stop | End::Own | End::StartTimeout | End::Watchdog => "is asked to stop",
        };
        let message = match run.role {
            Role::Present => {
                instance.since = now;
                format!("{id} {verb}")
            }
            Role::Successor => format!("{} is asked to stop", run.role.who(id)),
            Role::Leaving(_) | Role::Quarantined { .. } => {
                run.role = Role::Leaving(crate::instance::Drain::over(now));
                format!("{} is asked to stop", run.role.who(id))
            }
        };
        self.event_of(at, EventKind::Stopping, Severity::Info, message, Vec::new(), out);
        self.announce(&id.service);
        self.step(now, at, 0, out);
    }

    /// Takes one rung.
    fn step(&mut self, now: Now, at: &At, step: usize, out: &mut Vec<Output>) {
        let id = &at.id;
        let Some(run) = self.run_mut(at) else { return };
        let (number, main, spec, slot) = (run.id, run.main, Arc::clone(&run.spec), run.slot);
        let Some(rung) = spec.stop.get(step) else { return self.kill(now, at, out) };
        if matches!(run.stage, Stage::Stopping { command: true, .. }) {
            run.stale_commands = run.stale_commands.saturating_add(1);
        }
        let look = main.is_none().then_some(now + LOOK_PAUSE);
        let command = matches!(rung.action, StopAction::Command(_));
        run.stage = Stage::Stopping { step, deadline: now + rung.wait, look, command };
        let instance = id.clone();
        match (&rung.action, main) {
            (StopAction::Signal(signal), Some(pid)) => {
                out.push(Output::Signal { instance, run: number, pid, signal: *signal });
            }
            (StopAction::Signal(signal), None) => {
                out.push(Output::SignalTree { instance, run: number, signal: *signal });
            }
            (StopAction::Command(argv), _) => {
                let argv = argv.iter().map(|text| spec.render_at(text, id, slot)).collect();
                let timeout = rung.wait;
                out.push(Output::RunCommand { instance, run: number, argv, timeout, main });
            }
        }
        if 0 < step {
            let what = match &rung.action {
                StopAction::Signal(signal) => {
                    signal_name(*signal).map_or(format!("signal {signal}"), str::to_owned)
                }
                StopAction::Command(argv) => format!("`{}`", argv.join(" ")),
            };
            let message = format!("{id} has not stopped: next is {what}");
            self.event_of(
                at,
                EventKind::StopEscalated,
                Severity::Warning,
                message,
                Vec::new(),
                out,
            );
        }
    }

    pub(crate) fn stop_due(&mut self, now: Now, at: &At, out: &mut Vec<Output>) {
        let id = &at.id;
        let Some(run) = self.run_mut(at) else { return };
        let number = run.id;
        let Stage::Stopping { step, deadline, look, .. } = &mut run.stage else { return };
        if *deadline <= now {
            let next = *step + 1;
            return self.step(now, at, next, out);
        }
        *look = None;
        out.push(Output::InspectTree { instance: id.clone(), run: number });
    }

    pub(crate) fn command_ended(
        &mut self,
        now: Now,
        at: &At,
        result: Result<(), String>,
        out: &mut Vec<Output>,
    ) {
        let id = &at.id;
        let Some(run) = self.run_mut(at) else { return };
        let stopping = match &mut run.stage {
            // Answers come in the order of the commands: this one is about an earlier step.
            _ if 0 < run.stale_commands => {
                run.stale_commands -= 1;
                None
            }
            Stage::Stopping { step, command, .. } => std::mem::take(command).then_some(*step),
            Stage::Spawning | Stage::Starting { .. } | Stage::Running | Stage::Cleaning(_) => None,
        };
        let Err(why) = result else { return };
        let kind = if stopping.is_some() { EventKind::StopEscalated } else { EventKind::Command };
        let message = format!("a command of {id} failed: {why}");
        self.event_of(at, kind, Severity::Warning, message, Vec::new(), out);
        if let Some(step) = stopping {
            self.step(now, at, step + 1, out);
        }
    }

    /// The end of the ladder: SIGKILL for everything.
    pub(crate) fn kill(&mut self, now: Now, at: &At, out: &mut Vec<Output>) {
        let id = &at.id;
        let Some(run) = self.run_mut(at) else { return };
        let number = run.id;
        let killing = Cleaning { killing: true, pause: KILL_PAUSE, ..Cleaning::new(now) };
        let frozen = matches!(run.stage, Stage::Running);
        run.stage = Stage::Cleaning(killing);
        let who = self.run_at(at).map_or_else(|| id.to_string(), |run| run.role.who(id));
        let message = match frozen {
            true => format!("{who} can't be asked to stop: everything of it is killed"),
            false => format!("{who} has not stopped when asked: everything of it is killed"),
        };
        self.event_of(at, EventKind::Killing, Severity::Warning, message, Vec::new(), out);
        out.push(Output::KillTree { instance: id.clone(), run: number });
    }

    pub(crate) fn exited(
        &mut self,
        now: Now,
        at: &At,
        pid: Pid,
        exit: Exit,
        out: &mut Vec<Output>,
    ) {
        let id = &at.id;
        let Some(instance) = self.instances.get_mut(id) else { return };
        let present = instance.is_present(at.run);
        let Some(run) = instance.run_at_mut(at.run) else { return };
        if run.first == Some(pid) && run.main != Some(pid) {
            run.first = None;
            let starting = matches!(run.stage, Stage::Starting { wait: StartWait::Fork, .. });
            match (starting, exit) {
                (false, _) => return self.end_if_gone(now, at, out),
                // Of a process that is not our child nobody knows the code: it may have been 0.
                (true, Exit::Code(0) | Exit::Unknown) => return self.find_main(at, out),
                (true, _) => {}
            }
        } else if run.main == Some(pid) {
            run.main = None;
        } else {
            return;
        }
        let uptime = now.since(run.ready_since.unwrap_or(run.spawned));
        let asked = run.end.is_some();
        let words = format!("it {} after {}", exit_words(exit), short(uptime));
        let who = run.role.who(id);
        if !asked {
            run.end = Some(End::Own);
        }
        if present {
            instance.last_exit = Some(exit);
            if instance.last_end.is_empty() || !asked {
                instance.last_end = words;
            }
        }
        let good = self.is_success(id, exit);
        let severity = if asked || good { Severity::Info } else { Severity::Warning };
        let message = format!("{who} {} after {} (pid {})", exit_words(exit), short(uptime), pid.0);
        let mut data =
            vec![pid_value(pid), millis("uptime_ms", uptime), ("asked", Value::Flag(asked))];
        match exit {
            Exit::Code(code) => data.push(("exit_code", Value::Number(code.into()))),
            Exit::Signal(signal) => data.push(("signal", Value::Number(signal.into()))),
            Exit::Unknown => {}
        }
        self.event_of(at, EventKind::Exited, severity, message, data, out);
        self.clean(now, at, out);
    }

    /// The main process is gone: is anything left?
    fn clean(&mut self, now: Now, at: &At, out: &mut Vec<Output>) {
        let id = &at.id;
        let Some(instance) = self.instances.get_mut(id) else { return };
        let present = instance.is_present(at.run);
        let Some(run) = instance.run_at_mut(at.run) else { return };
        if matches!(run.stage, Stage::Cleaning(_)) {
            return self.end_if_gone(now, at, out);
        }
        run.stage = Stage::Cleaning(Cleaning::new(now));
        run.down_since.get_or_insert(now);
        if present {
            instance.since = now;
        }
        out.push(Output::InspectTree { instance: id.clone(), run: at.run });
        self.announce(&id.service);
    }

    /// The run is over once its tree was seen empty and the ends of its processes were told.
    fn end_if_gone(&mut self, now: Now, at: &At, out: &mut Vec<Output>) {
        let over = self.run_at(at).is_some_and(|run| {
            let empty = matches!(&run.stage, Stage::Cleaning(cleaning) if cleaning.tree_empty);
            empty && run.main.is_none() && run.first.is_none()
        });
        if over {
            self.ended(now, at, out);
        }
    }

    pub(crate) fn tree(
        &mut self,
        now: Now,
        at: &At,
        alive: &[Pid],
        unkillable: &[(Pid, String)],
        out: &mut Vec<Output>,
    ) {
        let id = &at.id;
        let Some(run) = self.run_mut(at) else { return };
        match &mut run.stage {
            Stage::Cleaning(_) => {}
            // Asked to stop without a known main process: an empty tree is its end.
            Stage::Stopping { .. } if run.main.is_none() && alive.is_empty() => {
                run.stage = Stage::Cleaning(Cleaning::new(now));
            }
            Stage::Stopping { look, .. } => {
                *look = run.main.is_none().then_some(now + LOOK_PAUSE);
                return;
            }
            Stage::Spawning | Stage::Starting { .. } | Stage::Running => return,
        }
        let Stage::Cleaning(cleaning) = &mut run.stage else { return };
        cleaning.tree_empty = alive.is_empty();
        if alive.is_empty() {
            cleaning.again = None;
            return self.end_if_gone(now, at, out);
        }
        let pids = alive.iter().map(|pid| pid.0.to_string()).collect::<Vec<_>>().join(", ");
        cleaning.seen = format!("pid {pids} still alive");
        if cleaning.killing {
            return self.survivors(now, at, unkillable, &pids, out);
        }
        if cleaning.grace.is_none() {
            cleaning.grace = Some(now + LEFTOVER_GRACE);
            cleaning.again = Some(now + cleaning.pause);
            let number = run.id;
            self.say_leftovers(at, &pids, out);
            out.push(Output::SignalTree { instance: id.clone(), run: number, signal: SIGTERM });
            return;
        }
        cleaning.pause = (cleaning.pause * 2).min(KILL_PAUSE);
        cleaning.again = Some(now + cleaning.pause);
    }

    fn say_leftovers(&self, at: &At, pids: &str, out: &mut Vec<Output>) {
        let id = &at.id;
        let Some(run) = self.run_at(at) else { return };
        let Stage::Cleaning(cleaning) = &run.stage else { return };
        let forked = run.end == Some(End::Own)
            && run.spec.kind == Kind::Simple
            && cleaning.since.since(run.spawned) < FORKED_WITHIN
            && self.is_present(at)
            && self.instances.get(id).is_some_and(|i| i.last_exit == Some(Exit::Code(0)));
        let hint = if forked {
            "; if it is meant to go to the background, declare kind = \"forking\""
        } else {
            ""
        };
        let message =
            format!("{id} has left processes behind (pid {pids}): they are stopped{hint}");
        let data = vec![("pids", Value::Text(pids.to_owned()))];
        self.event_of(at, EventKind::Leftovers, Severity::Warning, message, data, out);
    }

    fn survivors(
        &mut self,
        now: Now,
        at: &At,
        unkillable: &[(Pid, String)],
        pids: &str,
        out: &mut Vec<Output>,
    ) {
        let id = &at.id;
        let Some(run) = self.run_mut(at) else { return };
        let Stage::Cleaning(cleaning) = &mut run.stage else { return };
        let lasted = now.since(cleaning.since);
        cleaning.again = Some(now + cleaning.pause);
        let max = if cleaning.said_unkillable { UNKILLABLE_PAUSE } else { KILL_PAUSE_MAX };
        cleaning.pause = (cleaning.pause * 2).min(max);
        if lasted < UNKILLABLE_AFTER {
            return;
        }
        let stuck = unkillable.iter().map(|(pid, wait)| match wait.as_str() {
            "" => format!("pid {} is in uninterruptible sleep", pid.0),
            wait => format!("pid {} is in uninterruptible sleep in {wait}", pid.0),
        });
        let stuck = stuck.collect::<Vec<_>>().join(", ");
        let why = if stuck.is_empty() {
            format!("pid {pids} is still there although it was killed")
        } else {
            format!("{stuck}: it waits for a device or a file server")
        };
        cleaning.seen.clone_from(&why);
        if std::mem::replace(&mut cleaning.said_unkillable, true) {
            return;
        }
        let message = format!(
            "{id} cannot be killed, tried for {}: {why}; it is tried again, and not started before",
            format_duration(Duration::from_secs(lasted.as_secs()))
        );
        let data = vec![("pids", Value::Text(pids.to_owned()))];
        self.event_of(at, EventKind::Unkillable, Severity::Error, message, data, out);
    }

    pub(crate) fn cleaning_due(&mut self, now: Now, at: &At, out: &mut Vec<Output>) {
        let id = &at.id;
        let Some(run) = self.run_mut(at) else { return };
        let number = run.id;
        let Stage::Cleaning(cleaning) = &mut run.stage else { return };
        cleaning.again = None;
        let (instance, run) = (id.clone(), number);
        if cleaning.killing {
            out.push(Output::KillTree { instance, run });
        } else if cleaning.grace.is_some_and(|grace| grace <= now) {
            cleaning.killing = true;
            cleaning.since = now;
            cleaning.pause = KILL_PAUSE;
            let message = format!("{id}: what it has left behind is killed");
            self.event_of(at, EventKind::Killing, Severity::Warning, message, Vec::new(), out);
            out.push(Output::KillTree { instance, run });
        } else {
            out.push(Output::InspectTree { instance, run });
        }
    }
}
