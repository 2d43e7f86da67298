//! `service start|stop|restart|…`: asks, then waits until the instances have settled and says what
//! happened to each.
//!
//! Why by status and not by event: an event can be missed; the state says where things stand
//! (level, not edge). Pushed events only shorten the wait and tell the story meanwhile.
//! Invariant: the status is asked at most [`POLLS_PER_SECOND_MAX`] times a second.

use super::args::{ServiceCommand, TargetArgs};
use super::client::{Client, unexpected};
use super::failure::{Code, Failure};
use super::output::{Output, Tone};
use super::{status, text, why};
use control::{InstanceView, Reply, Request, ServiceAction, Snapshot};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// More would only load the root.
const POLLS_PER_SECOND_MAX: u32 = 20;

/// A service that says nothing of its readiness counts as ready as soon as it is executed. One
/// that dies at once must not be reported as started: it is looked at for this long.
const STEADY_MS: u64 = 200;

/// What an instance has come to; the JSON of `service … --json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Settled {
    /// The instance.
    pub(crate) instance: String,
    /// Whether it came to what was asked.
    pub(crate) outcome: Outcome,
    /// Its state when we stopped waiting.
    pub(crate) state: String,
    /// Its main process.
    pub(crate) pid: Option<u32>,
    /// How long it took, or how long we waited.
    pub(crate) elapsed_ms: u64,
    /// It was so before we asked.
    #[serde(skip)]
    was_so: bool,
}

/// How one instance answered a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// As asked.
    Done,
    /// It can't be done without somebody's help.
    Failed,
    /// Not settled yet.
    Pending,
}

/// `holdfast service …`.
pub(crate) fn run(
    output: &Output,
    socket: &Path,
    command: ServiceCommand,
) -> Result<Code, Failure> {
    let (action, targets, wait) = match command {
        ServiceCommand::Cured { names } => {
            let mut client = Client::connect(socket)?;
            return match client.ask(Request::Cured { targets: names })? {
                Reply::Done { message, instances } => accepted(output, &message, &instances),
                other => Err(unexpected(&other)),
            };
        }
        ServiceCommand::Replace(args) => with_wait(ServiceAction::Replace, args),
        ServiceCommand::Start(args) => with_wait(ServiceAction::Start, args),
        ServiceCommand::Stop(args) => with_wait(ServiceAction::Stop, args),
        ServiceCommand::Restart(args) => with_wait(ServiceAction::Restart, args),
        ServiceCommand::Reload(args) => (ServiceAction::Reload, args.names, None),
        ServiceCommand::Signal { signal, names } => (ServiceAction::Signal(signal), names, None),
        ServiceCommand::Reset { names } => (ServiceAction::Reset, names, None),
    };
    let mut client = Client::connect(socket)?;
    let before = runs(&client.status()?);
    let mut listener = Client::connect(socket)?;
    listener.ask(Request::Subscribe).or_else(ignore_unsupported)?;
    let asked = Instant::now();
    let request = Request::Service { action, targets };
    let (message, instances) = match client.ask(request)? {
        Reply::Done { message, instances } => (message, instances),
        other => return Err(unexpected(&other)),
    };
    let Some(timeout) = wait else { return accepted(output, &message, &instances) };
    let wait = Wait { action, before, instances, asked, deadline: asked + timeout };
    let settled = wait.until_settled(output, &mut client, &mut listener)?;
    report(output, &mut client, &settled, timeout)
}

fn with_wait(
    action: ServiceAction,
    args: TargetArgs,
) -> (ServiceAction, Vec<String>, Option<Duration>) {
    (action, args.names, (!args.no_wait).then_some(args.timeout))
}

/// An older root pushes nothing: the wait is by status alone then.
fn ignore_unsupported(failure: Failure) -> Result<Reply, Failure> {
    match failure.code {
        Code::Usage => Ok(Reply::Done { message: String::new(), instances: Vec::new() }),
        _ => Err(failure),
    }
}

fn accepted(output: &Output, message: &str, instances: &[String]) -> Result<Code, Failure> {
    if output.json {
        output.json(&serde_json::json!({ "message": message, "instances": instances }))?;
    } else {
        output.line(&text::clean(message))?;
    }
    Ok(Code::Done)
}

fn runs(snapshot: &Snapshot) -> BTreeMap<String, Option<u64>> {
    status::instances(snapshot).map(|i| (i.name.clone(), i.run)).collect()
}

/// What we wait for.
struct Wait {
    action: ServiceAction,
    /// The runs before we asked: a restart is done only when there is another.
    before: BTreeMap<String, Option<u64>>,
    instances: Vec<String>,
    asked: Instant,
    deadline: Instant,
}

impl Wait {
    fn until_settled(
        &self,
        output: &Output,
        client: &mut Client,
        listener: &mut Client,
    ) -> Result<Vec<Settled>, Failure> {
        let mut done: BTreeMap<String, Settled> = BTreeMap::new();
        loop {
            let polled = Instant::now();
            let snapshot = client.status()?;
            for name in &self.instances {
                let view = status::instances(&snapshot).find(|i| i.name == *name);
                let settled = self.look(name, view);
                if settled.outcome != Outcome::Pending && !done.contains_key(name) {
                    say(output, &settled)?;
                    done.insert(name.clone(), settled);
                } else if polled >= self.deadline {
                    done.entry(name.clone()).or_insert(settled);
                }
            }
            if done.len() == self.instances.len() {
                return Ok(done.into_values().collect());
            }
            self.listen(output, listener, polled)?;
        }
    }

    /// Waits until the next poll is due, telling the events of our instances meanwhile.
    fn listen(
        &self,
        output: &Output,
        listener: &mut Client,
        polled: Instant,
    ) -> Result<(), Failure> {
        let next = (polled + Duration::from_secs(1) / POLLS_PER_SECOND_MAX).min(self.deadline);
        while let Some(event) = listener.event(next)? {
            if self.instances.contains(&event.subject) && !output.json {
                output.note(&format!("  {}", text::clean(&event.message)));
            }
        }
        Ok(())
    }

    fn look(&self, name: &str, view: Option<&InstanceView>) -> Settled {
        let gone =
            InstanceView { name: name.to_owned(), state: "gone".into(), ..Default::default() };
        let view = view.unwrap_or(&gone);
        let waited_ms = self.asked.elapsed().as_millis() as u64;
        // Ready since a while: it took only until then.
        let elapsed_ms = waited_ms.saturating_sub(view.uptime_ms.unwrap_or(0));
        let run_before = self.before.get(name).copied().flatten();
        // A run from before that was not ready yet took us some time.
        let was_so = self.action == ServiceAction::Start
            && run_before.is_some()
            && run_before == view.run
            && elapsed_ms == 0;
        Settled {
            instance: name.to_owned(),
            outcome: outcome(self.action, run_before, view),
            was_so,
            state: view.state.clone(),
            pid: view.pid,
            elapsed_ms,
        }
    }
}

/// Whether an instance has come to what was asked.
fn outcome(action: ServiceAction, run_before: Option<u64>, view: &InstanceView) -> Outcome {
    let state = view.state.as_str();
    match (action, state) {
        (ServiceAction::Stop, "stopped" | "finished" | "failed" | "gone") => Outcome::Done,
        (ServiceAction::Stop, _) => Outcome::Pending,
        (_, "gone" | "failed") => Outcome::Failed,
        (ServiceAction::Restart | ServiceAction::Replace, "running" | "finished")
            if view.run == run_before =>
        {
            Outcome::Pending
        }
        (_, "running") if view.uptime_ms.is_some_and(|ms| ms < STEADY_MS) => Outcome::Pending,
        (_, "running" | "finished") => Outcome::Done,
        // Somebody else has stopped it meanwhile.
        (ServiceAction::Start, "stopped") if view.wish == "down" => Outcome::Failed,
        _ => Outcome::Pending,
    }
}

fn say(output: &Output, settled: &Settled) -> Result<(), Failure> {
    if output.json {
        return Ok(());
    }
    let (symbol, tone) = match settled.outcome {
        Outcome::Done => ("✓", Tone::Good),
        Outcome::Failed => ("✗", Tone::Bad),
        Outcome::Pending => ("…", Tone::Busy),
    };
    let pid = settled.pid.map_or(String::new(), |pid| format!(" (pid {pid})"));
    let when = if settled.was_so {
        "already".to_owned()
    } else {
        format!("after {}", text::took(Duration::from_millis(settled.elapsed_ms)))
    };
    let sign = output.paint.tone(tone, symbol);
    output.line(&format!("{sign} {} is {}{pid} {when}", settled.instance, settled.state))?;
    Ok(())
}

/// The end: what did not come to what was asked is explained.
fn report(
    output: &Output,
    client: &mut Client,
    settled: &[Settled],
    timeout: Duration,
) -> Result<Code, Failure> {
    if output.json {
        output.json(&serde_json::json!({ "instances": settled }))?;
    }
    let bad: Vec<&Settled> = settled.iter().filter(|s| s.outcome != Outcome::Done).collect();
    if bad.is_empty() {
        if settled.is_empty() && !output.json {
            output.line("nothing to do")?;
        }
        return Ok(Code::Done);
    }
    for one in &bad {
        if output.json {
            continue;
        }
        if one.outcome == Outcome::Pending {
            say(output, one)?;
            let waited = base::format_duration(timeout);
            output.note(&format!("  no longer waiting after {waited}; it goes on by itself"));
        }
        let why = why::ask(client, &one.instance)?;
        output.line("")?;
        output.page(&why::render(&why, output.look()))?;
    }
    Ok(Code::No)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(state: &str, wish: &str, run: u64) -> InstanceView {
        InstanceView {
            state: state.into(),
            wish: wish.into(),
            run: Some(run),
            ..InstanceView::default()
        }
    }

    #[test]
    fn a_restart_is_done_only_with_another_run() {
        let of = |view: &InstanceView| outcome(ServiceAction::Restart, Some(7), view);
        let replaced = |run| outcome(ServiceAction::Replace, Some(7), &view("running", "up", run));
        assert_eq!((replaced(7), replaced(8)), (Outcome::Pending, Outcome::Done));
        assert_eq!(of(&view("running", "up", 7)), Outcome::Pending);
        assert_eq!(of(&view("stopping", "up", 7)), Outcome::Pending);
        assert_eq!(of(&view("running", "up", 8)), Outcome::Done);
        assert_eq!(of(&view("failed", "failed", 8)), Outcome::Failed);
    }

    #[test]
    fn a_start_is_pending_until_it_is_ready_or_has_failed() {
        let of = |view: &InstanceView| outcome(ServiceAction::Start, None, view);
        assert_eq!(of(&view("running", "up", 1)), Outcome::Done);
        assert_eq!(of(&view("finished", "finished", 1)), Outcome::Done);
        for state in ["starting", "waiting", "backoff"] {
            assert_eq!(of(&view(state, "up", 1)), Outcome::Pending, "{state}");
        }
        assert_eq!(of(&view("failed", "failed", 1)), Outcome::Failed);
        assert_eq!(of(&view("stopped", "down", 1)), Outcome::Failed);
    }

    #[test]
    fn a_service_that_has_only_just_been_executed_is_not_called_started() {
        let young = InstanceView { uptime_ms: Some(3), ..view("running", "up", 1) };
        assert_eq!(outcome(ServiceAction::Start, None, &young), Outcome::Pending);
        let steady = InstanceView { uptime_ms: Some(STEADY_MS), ..young };
        assert_eq!(outcome(ServiceAction::Start, None, &steady), Outcome::Done);
    }

    #[test]
    fn a_stop_is_done_when_nothing_runs() {
        let of = |view: &InstanceView| outcome(ServiceAction::Stop, Some(1), view);
        assert_eq!(of(&view("stopping", "down", 1)), Outcome::Pending);
        assert_eq!(of(&view("stopped", "down", 1)), Outcome::Done);
    }
}
