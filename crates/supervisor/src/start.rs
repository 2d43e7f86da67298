//! From wanted to ready: what is waited for, executed, probed, and how long.

use crate::instance::{At, End, Instance, Rest, Role, Run, Stage, StartWait};
use crate::machine::{Supervisor, millis, pid_value};
use crate::{
    EventKind, Kind, NotifyMessage, Output, Pid, Readiness, ServiceSpec, Severity, StopAction, Wish,
};
use base::{Answer, InstanceId, Now, format_duration};
use std::sync::Arc;
use std::time::Duration;

/// Pause between two searches for the main process of a service that forks.
const FIND_MAIN_PAUSE: Duration = Duration::from_millis(50);

/// A stretch of the deadline that a service asks for is at most this long at a time; all those of
/// a stop together are, too.
const EXTEND_MAX: Duration = Duration::from_hours(1);

/// A watchdog that is looked at later than this says more about us than about the service: the
/// machine slept, or it starves. The service is given its period anew (H26).
const WATCHDOG_LATE_MAX: Duration = Duration::from_secs(1);

impl Supervisor {
    /// Brings an instance nearer to what is wanted of it, if it can be now.
    pub(crate) fn consider(&mut self, now: Now, id: &InstanceId, out: &mut Vec<Output>) {
        let Some(instance) = self.instances.get(id) else { return };
        if instance.stop_waits && instance.is_alive() {
            return self.consider_stop(now, id, out);
        }
        if instance.run.is_some() {
            return;
        }
        if instance.removed {
            if instance.is_alive() {
                return;
            }
            let wake = instance.wake;
            self.instances.remove(id);
            if let Some(wake) = wake {
                self.wakes.remove(&(wake, id.clone()));
            }
            // Whoever takes its place may have waited for its end.
            self.dirty.extend(self.ids_of(&id.service));
            self.event(
                id,
                EventKind::Removed,
                Severity::Info,
                format!("{id} is gone from the configuration"),
                Vec::new(),
                out,
            );
            out.push(Output::Forget { instance: id.clone() });
            return;
        }
        let wanted = self.begun
            && self.shutdown.is_none()
            && instance.wish == Wish::Up
            && !matches!(instance.rest, Rest::Backoff(_));
        if !wanted {
            return;
        }
        let (blockers, stuck) = self.blockers(instance);
        let Some((first, why)) = blockers.first() else {
            let slot = instance.care.slot;
            return self.spawn(now, id, slot, Role::Present, out);
        };
        let message = format!("{id} waits: {why}");
        let data = vec![("waits_for", crate::Value::Text(first.to_string()))];
        let (waited, was_stuck) = match &instance.rest {
            // Each step of what it waits for has an event of its own: only a new cause is news.
            Rest::Waiting { blockers: known, stuck } => {
                (Some(known.iter().map(|(id, _)| id).eq(blockers.iter().map(|(id, _)| id))), *stuck)
            }
            Rest::Idle | Rest::Backoff(_) => (None, false),
        };
        if let Some(instance) = self.instances.get_mut(id) {
            if waited.is_none() {
                instance.since = now;
            }
            instance.rest = Rest::Waiting { blockers, stuck };
        }
        if waited != Some(true) || stuck != was_stuck {
            self.event(id, EventKind::Waiting, Severity::Info, message, data, out);
        }
        if stuck != was_stuck {
            // Those that would only have waited for this one to come may go on without it.
            self.announce(&id.service);
        }
    }

    /// Begins a run: the present one, or one that is to take its place.
    pub(crate) fn spawn(
        &mut self,
        now: Now,
        id: &InstanceId,
        slot: u16,
        role: Role,
        out: &mut Vec<Output>,
    ) {
        let run = self.take_run_number();
        let Some(instance) = self.instances.get_mut(id) else { return };
        let spec = Arc::clone(&instance.spec);
        let mut begun = Run::new(run, Arc::clone(&spec), now);
        (begun.slot, begun.role) = (slot, role);
        let message = if begun.role == Role::Present {
            instance.rest = Rest::Idle;
            instance.since = now;
            instance.last_run = run;
            instance.status_text.clear();
            instance.run = Some(begun);
            format!("{id} is started")
        } else {
            instance.others.push(begun);
            format!("a successor of {id} is started beside it")
        };
        let at = At { id: id.clone(), run };
        self.persist_at(&at, out);
        self.event_of(&at, EventKind::Starting, Severity::Info, message, Vec::new(), out);
        out.push(Output::Spawn { instance: id.clone(), run, slot, spec });
    }

    pub(crate) fn spawned(&mut self, now: Now, at: &At, pid: Pid, out: &mut Vec<Output>) {
        let id = &at.id;
        let Some(run) = self.run_mut(at) else { return };
        let spec = Arc::clone(&run.spec);
        run.spawned = now;
        match spec.kind {
            Kind::Forking { .. } => run.first = Some(pid),
            Kind::Simple | Kind::Oneshot => run.main = Some(pid),
        }
        if !matches!(run.stage, Stage::Spawning) {
            return;
        }
        let deadline = now + spec.start_timeout;
        let wait = match spec.kind {
            Kind::Forking { .. } => StartWait::Fork,
            Kind::Oneshot | Kind::Simple => wait_of(now, &spec),
        };
        run.stage = Stage::Starting { deadline, wait };
        self.persist_at(at, out);
        // A successor that was called off while it was executed: nobody uses it, so nobody is waited
        // for.
        if !self.is_present(at)
            && let Some(end) = self.run_at(at).and_then(|run| run.end)
        {
            return self.enter_stop(now, at, end, out);
        }
        if self.instances.get(id).is_some_and(|instance| instance.stop_waits) {
            self.dirty.insert(id.clone());
        }
        self.go_on_starting(now, at, out);
    }

    /// Does what the present wait needs: asks the probe, or is ready at once.
    pub(crate) fn go_on_starting(&mut self, now: Now, at: &At, out: &mut Vec<Output>) {
        let id = &at.id;
        let Some(run) = self.run_mut(at) else { return };
        let Stage::Starting { wait, .. } = &mut run.stage else { return };
        match wait {
            StartWait::Probe { again, .. } => {
                *again = None;
                let (run, slot, spec) = (run.id, run.slot, Arc::clone(&run.spec));
                if let Readiness::Probe { probe, timeout, .. } = &spec.ready {
                    let probe = render_probe(&spec, probe, id, slot);
                    out.push(Output::Probe { instance: id.clone(), run, probe, timeout: *timeout });
                }
            }
            StartWait::Delay(until) if *until <= now => self.ready(now, at, out),
            StartWait::Notify if run.said_ready => self.ready(now, at, out),
            StartWait::Fork
            | StartWait::Main { .. }
            | StartWait::Notify
            | StartWait::Delay(_)
            | StartWait::Exit => {}
        }
    }

    /// The first process of a forking service has exited well: where is the real one?
    pub(crate) fn find_main(&mut self, at: &At, out: &mut Vec<Output>) {
        let id = &at.id;
        let Some(run) = self.run_mut(at) else { return };
        let Stage::Starting { wait, .. } = &mut run.stage else { return };
        let why = match wait {
            StartWait::Main { why, .. } => std::mem::take(why),
            _ => "its main process is looked for".to_owned(),
        };
        *wait = StartWait::Main { why, again: None };
        out.push(Output::FindMain { instance: id.clone(), run: run.id });
    }

    pub(crate) fn main_found(
        &mut self,
        now: Now,
        at: &At,
        main: Result<Pid, String>,
        out: &mut Vec<Output>,
    ) {
        let id = &at.id;
        let Some(run) = self.run_mut(at) else { return };
        let spec = Arc::clone(&run.spec);
        let (Stage::Starting { wait, .. }, None) = (&mut run.stage, run.main) else { return };
        match main {
            Err(why) => *wait = StartWait::Main { why, again: Some(now + FIND_MAIN_PAUSE) },
            Ok(pid) => {
                run.main = Some(pid);
                *wait = wait_of(now, &spec);
                self.persist_at(at, out);
                let message = format!("{id} has forked, its main process is {}", pid.0);
                self.event_of(
                    at,
                    EventKind::Forked,
                    Severity::Info,
                    message,
                    vec![pid_value(pid)],
                    out,
                );
                self.go_on_starting(now, at, out);
            }
        }
    }

    pub(crate) fn probed(&mut self, now: Now, at: &At, answer: &Answer, out: &mut Vec<Output>) {
        let Some(run) = self.run_mut(at) else { return };
        if matches!(run.stage, Stage::Running) {
            return self.warm_up_answered(now, at, answer, out);
        }
        let Readiness::Probe { interval: pause, .. } = run.spec.ready else { return };
        let Stage::Starting { wait: StartWait::Probe { why, again }, .. } = &mut run.stage else {
            return;
        };
        match answer.reason() {
            None => self.ready(now, at, out),
            Some(reason) => {
                reason.clone_into(why);
                *again = Some(now + pause);
            }
        }
    }

    pub(crate) fn ready(&mut self, now: Now, at: &At, out: &mut Vec<Output>) {
        let id = &at.id;
        let Some(instance) = self.instances.get_mut(id) else { return };
        let present = instance.is_present(at.run);
        let Some(run) = instance.run_at_mut(at.run) else { return };
        if !matches!(run.stage, Stage::Starting { .. }) {
            return;
        }
        run.stage = Stage::Running;
        run.ready_since = Some(now);
        run.watchdog_due = run.watchdog.map(|period| now + period);
        let (took, main) = (now.since(run.spawned), run.main);
        let who = run.role.who(id);
        if present {
            instance.since = now;
        }
        self.persist_at(at, out);
        let message = format!("{who} is ready after {}", short(took));
        let data = main.into_iter().map(pid_value).chain([millis("took_ms", took)]).collect();
        self.event_of(at, EventKind::Ready, Severity::Info, message, data, out);
        self.announce(&id.service);
        self.begin_warm_up(now, at, out);
    }

    pub(crate) fn start_due(&mut self, now: Now, at: &At, out: &mut Vec<Output>) {
        let Some(run) = self.run_mut(at) else { return };
        let Stage::Starting { deadline, wait } = &run.stage else { return };
        if *deadline <= now {
            return self.start_timeout(now, at, out);
        }
        match wait {
            StartWait::Main { .. } => self.find_main(at, out),
            StartWait::Probe { .. } | StartWait::Delay(_) => self.go_on_starting(now, at, out),
            StartWait::Fork | StartWait::Notify | StartWait::Exit => {}
        }
    }

    pub(crate) fn start_timeout(&mut self, now: Now, at: &At, out: &mut Vec<Output>) {
        let id = &at.id;
        let Some(run) = self.run_at(at) else { return };
        let Stage::Starting { wait, .. } = &run.stage else { return };
        if run.adopted && matches!(wait, StartWait::Fork | StartWait::Notify) {
            return self.believe_ready(now, at, out);
        }
        let why = wait_words(wait, &run.spec.ready);
        let limit = format_duration(run.spec.start_timeout);
        let message = format!("{id} did not become ready within {limit}: {why}");
        if self.evidence_first(now, at, &message, out) {
            return;
        }
        if let Some(instance) = self.instances.get_mut(id).filter(|it| it.is_present(at.run)) {
            instance.last_end = format!("it did not become ready in time: {why}");
        }
        self.event_of(at, EventKind::StartTimeout, Severity::Warning, message, Vec::new(), out);
        self.enter_stop(now, at, End::StartTimeout, out);
    }

    /// An adopted run has lived through its whole start time: what it waits for was most likely
    /// told to the daemon before this one, and is not told again. To end it would be to restart a
    /// service because holdfast died.
    fn believe_ready(&mut self, now: Now, at: &At, out: &mut Vec<Output>) {
        let id = &at.id;
        let Some(run) = self.run_mut(at) else { return };
        // Of a service that forks only this process is left: it is the real one.
        run.main = run.main.or(run.first.take());
        let message = format!(
            "{id} counts as ready: it is alive, and what it says once it may have said to the \
             holdfast before this one"
        );
        self.event_of(at, EventKind::Adopted, Severity::Warning, message, Vec::new(), out);
        self.ready(now, at, out);
    }

    pub(crate) fn running_due(&mut self, now: Now, at: &At, out: &mut Vec<Output>) {
        let id = &at.id;
        let Some(run) = self.run_mut(at) else { return };
        if run.reloading.take_if(|until| *until <= now).is_some() {
            let limit = format_duration(run.spec.start_timeout);
            let text = format!(
                "{id} has not said READY=1 within {limit} of its reload: it counts as ready again"
            );
            self.event_of(at, EventKind::Ready, Severity::Warning, text, Vec::new(), out);
            self.announce(&id.service);
        }
        let Some(run) = self.run_mut(at) else { return };
        let Some(due) = run.watchdog_due.filter(|due| *due <= now) else { return };
        let period = run.watchdog.unwrap_or_default();
        if WATCHDOG_LATE_MAX < now.since(due) {
            run.watchdog_due = Some(now + period);
            return;
        }
        let words = format!("it did not say WATCHDOG=1 within {}", format_duration(period));
        self.watchdog_failed(now, at, &words, out);
    }

    fn watchdog_failed(&mut self, now: Now, at: &At, words: &str, out: &mut Vec<Output>) {
        let id = &at.id;
        let message = format!("{id} hangs: {words}");
        self.event_of(at, EventKind::WatchdogTimeout, Severity::Error, message, Vec::new(), out);
        if self.watchdog_verdict(now, at, words, out) {
            return;
        }
        if let Some(instance) = self.instances.get_mut(id).filter(|it| it.is_present(at.run)) {
            words.clone_into(&mut instance.last_end);
        }
        self.enter_stop(now, at, End::Watchdog, out);
    }

    pub(crate) fn notified(
        &mut self,
        now: Now,
        at: &At,
        message: NotifyMessage,
        out: &mut Vec<Output>,
    ) {
        let id = &at.id;
        let Some(instance) = self.instances.get_mut(id) else { return };
        let present = instance.is_present(at.run);
        if let NotifyMessage::Status(text) = message {
            if present {
                instance.status_text = text;
            }
            return;
        }
        let Some(run) = instance.run_at_mut(at.run) else { return };
        match message {
            NotifyMessage::Ready => {
                let waits = matches!(run.stage, Stage::Starting { wait: StartWait::Notify, .. });
                // A service that forks may say so before its first process has exited.
                run.said_ready = true;
                if run.reloading.take().is_some() {
                    let text = format!("{id} has reloaded");
                    self.event_of(at, EventKind::Ready, Severity::Info, text, Vec::new(), out);
                    self.announce(&id.service);
                } else if waits {
                    self.ready(now, at, out);
                }
            }
            NotifyMessage::Status(_) => {}
            NotifyMessage::MainPid(pid) => {
                run.main = Some(pid);
                run.first = None;
                let spec = Arc::clone(&run.spec);
                if let Stage::Starting { wait, .. } = &mut run.stage
                    && matches!(wait, StartWait::Fork | StartWait::Main { .. })
                {
                    *wait = wait_of(now, &spec);
                    self.go_on_starting(now, at, out);
                }
                self.persist_at(at, out);
            }
            NotifyMessage::Reloading => {
                // Before it is ready, the next `READY=1` is its first.
                let until = now + run.spec.start_timeout;
                run.reloading = matches!(run.stage, Stage::Running).then_some(until);
                let text = format!("{id} reads its configuration again");
                self.event_of(at, EventKind::Reloading, Severity::Info, text, Vec::new(), out);
            }
            NotifyMessage::Stopping => {
                let text = format!("{id} says that it is stopping");
                self.event_of(at, EventKind::Stopping, Severity::Info, text, Vec::new(), out);
            }
            NotifyMessage::Watchdog => {
                run.watchdog_due = run.ready_since.and(run.watchdog).map(|p| now + p);
                self.watchdog_fed(now, at, out);
            }
            NotifyMessage::WatchdogTrigger => {
                if matches!(run.stage, Stage::Running) {
                    self.watchdog_failed(now, at, "it said of itself that it is sick", out);
                }
            }
            NotifyMessage::ExtendTimeout(more) => run.extend(now, more),
            NotifyMessage::WatchdogPeriod(period) => {
                run.watchdog = (!period.is_zero()).then_some(period);
                run.watchdog_due = run.ready_since.and(run.watchdog).map(|p| now + p);
            }
        }
    }

    pub(crate) fn reload(&mut self, id: &InstanceId, out: &mut Vec<Output>) {
        let Some(run) = self.instances.get_mut(id).and_then(|instance| instance.run.as_mut())
        else {
            let text = format!("{id} cannot be asked to reload: it does not run");
            return self.event(id, EventKind::Command, Severity::Warning, text, Vec::new(), out);
        };
        let (main, spec, number, slot) = (run.main, Arc::clone(&run.spec), run.id, run.slot);
        match (&spec.reload, main) {
            (Some(StopAction::Signal(signal)), Some(pid)) => {
                out.push(Output::Signal {
                    instance: id.clone(),
                    run: number,
                    pid,
                    signal: *signal,
                });
            }
            (Some(StopAction::Command(argv)), _) => {
                run.stale_commands = run.stale_commands.saturating_add(1);
                let argv = argv.iter().map(|text| spec.render_at(text, id, slot)).collect();
                let timeout = spec.start_timeout;
                out.push(Output::RunCommand {
                    instance: id.clone(),
                    run: number,
                    argv,
                    timeout,
                    main,
                });
            }
            (None, _) | (Some(StopAction::Signal(_)), None) => {
                let why = match &spec.reload {
                    None => "its configuration does not say how; a restart does it",
                    Some(_) => "its main process is not known yet",
                };
                let text = format!("{id} cannot be asked to reload: {why}");
                self.event(id, EventKind::Command, Severity::Warning, text, Vec::new(), out);
                return;
            }
        }
        let text = format!("{id} is asked to read its configuration again");
        self.event(id, EventKind::Reloading, Severity::Info, text, Vec::new(), out);
    }
}

impl Run {
    /// It asks for more time for what it is doing.
    fn extend(&mut self, now: Now, more: Duration) {
        let until = now + more.min(EXTEND_MAX);
        let down_since = self.down_since.unwrap_or(now);
        match &mut self.stage {
            Stage::Starting { deadline, .. } => *deadline = until.max(*deadline),
            // A stop comes to its end, however often it is asked to wait.
            Stage::Stopping { deadline, .. } => {
                *deadline = until.min(down_since + EXTEND_MAX).max(*deadline);
            }
            Stage::Running => self.reloading = self.reloading.map(|old| until.max(old)),
            Stage::Spawning | Stage::Cleaning(_) => {}
        }
    }
}

/// What a service whose main process is known must still do to be ready.
pub(crate) fn wait_of(now: Now, spec: &ServiceSpec) -> StartWait {
    if spec.kind == Kind::Oneshot {
        return StartWait::Exit;
    }
    match &spec.ready {
        Readiness::Started => StartWait::Delay(now),
        Readiness::Notify => StartWait::Notify,
        Readiness::Probe { .. } => {
            StartWait::Probe { why: "its probe has not answered yet".into(), again: None }
        }
        Readiness::Delay(pause) => StartWait::Delay(now + *pause),
    }
}

/// What a start waits for, in words.
pub(crate) fn wait_words(wait: &StartWait, ready: &Readiness) -> String {
    match wait {
        StartWait::Fork => "its first process has not exited yet".into(),
        StartWait::Main { why, .. } | StartWait::Probe { why, .. } => why.clone(),
        StartWait::Notify => "it has not said READY=1".into(),
        StartWait::Delay(_) => match ready {
            Readiness::Delay(pause) => format!("it must be alive for {}", format_duration(*pause)),
            _ => "it has just been executed".into(),
        },
        StartWait::Exit => "it has not done its work yet".into(),
    }
}

/// A question with the templates of a run filled in.
pub(crate) fn render_probe(
    spec: &ServiceSpec,
    probe: &crate::Probe,
    id: &InstanceId,
    slot: u16,
) -> crate::Probe {
    use crate::Probe;
    let render = |text: &String| spec.render_at(text, id, slot);
    match probe {
        Probe::Tcp(address) => Probe::Tcp(render(address)),
        Probe::Http { url, status } => Probe::Http { url: render(url), status: *status },
        Probe::Command(argv) => Probe::Command(argv.iter().map(render).collect()),
        Probe::File(path) => Probe::File(render(path)),
    }
}

/// A duration for a sentence: milliseconds below ten seconds, else seconds.
pub(crate) fn short(time: Duration) -> String {
    if time < Duration::from_millis(1) {
        "less than 1ms".to_owned()
    } else if time < Duration::from_secs(10) {
        format_duration(Duration::from_millis(time.as_millis() as u64))
    } else {
        format_duration(Duration::from_secs(time.as_secs()))
    }
}

/// An instance whose run is ready, or whose work is done.
pub(crate) fn counts_as_ready(instance: &Instance) -> bool {
    match &instance.run {
        Some(run) => {
            matches!(run.stage, Stage::Running) && run.reloading.is_none() && !instance.stop_waits
        }
        None => instance.wish == Wish::Finished,
    }
}
