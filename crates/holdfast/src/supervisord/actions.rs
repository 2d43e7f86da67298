//! Starting, stopping and signalling, and waiting for what comes of it.
//!
//! Why waiting is looking: the root answers at once and goes on by itself; whoever waits looks at its
//! snapshot each time something has happened, so a lost nudge costs a second and nothing else.
//! Invariants: a wait ends after [`WAIT_MAX`]; what concerns several processes is asked for in one
//! request, so that the root can put it in order.

use super::house::{House, Seen, group_of, one_of};
use control::{Caller, Request, ServiceAction};
use std::collections::BTreeMap;
use std::time::Duration;
use supervisord::rpc::Value;
use supervisord::{Code, ProcessState, RpcFault, Wanted, group_result, wanted};
use tokio::time::Instant;

/// A client that waits for a start or a stop is told after this long that it is still under way.
const WAIT_MAX: Duration = Duration::from_mins(15);

/// Looks again after this long, whatever has been heard.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Between two looks: a storm of events is not a storm of snapshots.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Which way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Goal {
    Up,
    Down,
}

impl Goal {
    fn action(self) -> ServiceAction {
        match self {
            Self::Up => ServiceAction::Start,
            Self::Down => ServiceAction::Stop,
        }
    }

    /// A process that is there already.
    fn needs(self, state: ProcessState) -> bool {
        match self {
            Self::Up => !state.is_up(),
            Self::Down => state.is_up(),
        }
    }

    fn is_there(self) -> Code {
        match self {
            Self::Up => Code::AlreadyStarted,
            Self::Down => Code::NotRunning,
        }
    }
}

/// Whom something concerns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Whom {
    Name(String),
    Group(String),
    All,
}

impl House {
    /// Starts or stops. One process: true; several: what came of each.
    pub(crate) async fn bring(
        &self,
        caller: &Caller,
        goal: Goal,
        whom: Whom,
        wait: bool,
    ) -> Result<Value, RpcFault> {
        let all = self.processes_to_act_on().await?;
        let several = match whom {
            Whom::Name(name) => match wanted(&name) {
                Wanted::Group(group) => group_of(all, &group)?,
                Wanted::Instance(_) => return self.bring_one(caller, goal, all, &name, wait).await,
            },
            Whom::Group(group) => group_of(all, &group)?,
            Whom::All => all,
        };
        let several: Vec<Seen> =
            several.into_iter().filter(|seen| goal.needs(seen.state())).collect();
        if several.is_empty() {
            return Ok(Value::Array(Vec::new()));
        }
        self.ask_to(caller, goal.action(), &several).await?;
        let results = match wait {
            true => self.settle(goal, &several).await,
            false => several.iter().map(|_| Ok(())).collect(),
        };
        let lines = several.iter().zip(&results);
        Ok(Value::Array(
            lines.map(|(seen, result)| group_result(&seen.info.name, result)).collect(),
        ))
    }

    async fn bring_one(
        &self,
        caller: &Caller,
        goal: Goal,
        all: Vec<Seen>,
        name: &str,
        wait: bool,
    ) -> Result<Value, RpcFault> {
        let seen = one_of(all, name)?;
        if !goal.needs(seen.state()) {
            return Err(goal.is_there().of(name));
        }
        let one = [seen];
        self.ask_to(caller, goal.action(), &one).await?;
        if wait {
            self.settle(goal, &one).await.pop().unwrap_or(Ok(()))?;
        }
        Ok(Value::Bool(true))
    }

    /// Sends a signal.
    pub(crate) async fn signal(
        &self,
        caller: &Caller,
        whom: Whom,
        signal: &str,
    ) -> Result<Value, RpcFault> {
        let number = match signal {
            "0" => 0,
            text => sys::process::signal_number(text).ok_or_else(|| Code::BadSignal.of(signal))?,
        };
        let all = self.processes_to_act_on().await?;
        let several = match whom {
            Whom::Name(name) => match wanted(&name) {
                Wanted::Group(group) => group_of(all, &group)?,
                Wanted::Instance(_) => {
                    let seen = one_of(all, &name)?;
                    if seen.view.pid.is_none() {
                        return Err(Code::NotRunning.of(name));
                    }
                    self.send(caller, number, &[seen]).await?;
                    return Ok(Value::Bool(true));
                }
            },
            Whom::Group(group) => group_of(all, &group)?,
            Whom::All => all,
        };
        let several: Vec<Seen> =
            several.into_iter().filter(|seen| seen.view.pid.is_some()).collect();
        self.send(caller, number, &several).await?;
        let lines = several.iter().map(|seen| group_result(&seen.info.name, &Ok(())));
        Ok(Value::Array(lines.collect()))
    }

    /// Signal 0 only asks whether there is a process, and that was seen.
    async fn send(&self, caller: &Caller, signal: i32, to: &[Seen]) -> Result<(), RpcFault> {
        if signal == 0 || to.is_empty() {
            return Ok(());
        }
        self.ask_to(caller, ServiceAction::Signal(signal), to).await
    }

    async fn ask_to(
        &self,
        caller: &Caller,
        action: ServiceAction,
        whom: &[Seen],
    ) -> Result<(), RpcFault> {
        let targets = whom.iter().map(|seen| seen.view.name.clone()).collect();
        self.ask_for(caller, Request::Service { action, targets }).await.map(|_| ())
    }

    /// Waits until each is where it was asked to be, or can't come there.
    async fn settle(&self, goal: Goal, whom: &[Seen]) -> Vec<Result<(), RpcFault>> {
        let mut happened = self.nudge.listen();
        let deadline = Instant::now() + WAIT_MAX;
        let mut settled: Vec<Option<Result<(), RpcFault>>> = vec![None; whom.len()];
        loop {
            happened.borrow_and_update();
            match self.snapshot().await {
                Ok(snapshot) => {
                    let seen = self.look(&snapshot);
                    let by_name: BTreeMap<&str, &Seen> =
                        seen.iter().map(|seen| (seen.view.name.as_str(), seen)).collect();
                    for (of, result) in whom.iter().zip(&mut settled) {
                        let name = of.view.name.as_str();
                        let now = by_name.get(name).copied();
                        if result.is_none() {
                            *result = judge(goal, now, &by_name, &of.info.name.process);
                        }
                    }
                }
                Err(fault) => settle_rest(&mut settled, &fault),
            }
            if settled.iter().all(Option::is_some) {
                return settled.into_iter().flatten().collect();
            }
            if deadline <= Instant::now() {
                let words = base::format_duration(WAIT_MAX);
                settle_rest(
                    &mut settled,
                    &Code::Failed.of(format!("still under way after {words}")),
                );
                continue;
            }
            tokio::time::sleep(LOOK_PAUSE).await;
            let _ = tokio::time::timeout(LOOK_AGAIN, happened.changed()).await;
        }
    }
}

fn settle_rest(settled: &mut [Option<Result<(), RpcFault>>], fault: &RpcFault) {
    for result in settled.iter_mut().filter(|result| result.is_none()) {
        *result = Some(Err(fault.clone()));
    }
}

/// What has come of it; `None` while nobody knows.
fn judge(
    goal: Goal,
    now: Option<&Seen>,
    all: &BTreeMap<&str, &Seen>,
    name: &str,
) -> Option<Result<(), RpcFault>> {
    let Some(seen) = now else { return Some(Err(Code::BadName.of(name))) };
    match (goal, seen.state()) {
        (Goal::Down, state) => state.is_down().then_some(Ok(())),
        (Goal::Up, ProcessState::Running | ProcessState::Exited) => Some(Ok(())),
        // It has never ended, because it could not even be executed.
        (Goal::Up, ProcessState::Fatal) if seen.view.last_exit.is_none() => {
            Some(Err(Code::NoFile.of(&seen.info.description)))
        }
        (Goal::Up, ProcessState::Fatal | ProcessState::Backoff) => {
            Some(Err(Code::SpawnError.of(name)))
        }
        (Goal::Up, ProcessState::Stopped) => Some(Err(Code::AbnormalTermination.of(name))),
        (Goal::Up, ProcessState::Starting) if waits_in_vain(seen, all) => {
            Some(Err(Code::SpawnError.of(name)))
        }
        (Goal::Up, ProcessState::Starting | ProcessState::Stopping | ProcessState::Unknown) => None,
    }
}

/// It waits for something that was given up.
fn waits_in_vain(seen: &Seen, all: &BTreeMap<&str, &Seen>) -> bool {
    let root = seen.view.because.last().map(|link| link.subject.as_str());
    let root = root.filter(|root| *root != seen.view.name).and_then(|root| all.get(root));
    seen.view.state == "waiting" && root.is_some_and(|root| root.state() == ProcessState::Fatal)
}
