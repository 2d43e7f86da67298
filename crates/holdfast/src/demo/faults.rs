//! The faults, and what counts as recovered from each.
//!
//! Every time is measured from the moment of the fault by the monotonic clock to the time in the
//! daemon's own event that the service is ready again.

use super::cleanup::{is_alive, kill};
use super::narrator::Narrator;
use super::settings::{BUDGET, SERVICES};
use super::visitor::{self, Totals};
use super::world::{World, find};
use super::{Stop, flood, sick};
use crate::cli::text;
use control::{InstanceView, ServiceAction};
use std::collections::BTreeMap;
use std::time::Duration;

/// No recovery of the demo takes this long; one that does has failed.
const RECOVERY_MAX: Duration = Duration::from_secs(10);

/// What is done to the services, and to Holdfast.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// A request makes the web server exit.
    Crash,
    /// `kill -9` of the web server.
    KillWeb,
    /// A call that never returns blocks the only thread of the web server.
    Hang,
    /// SIGSTOP of the web server: not even SIGTERM helps.
    Freeze,
    /// The web server takes more and more memory.
    Leak,
    /// `kill -9` of the daemon that forked twice.
    KillForker,
    /// `kill -9` of what another service requires.
    KillStore,
    /// A restart of what ignores SIGTERM.
    Stubborn,
    /// A service that exits at once, until the budget is spent and an operator repairs it.
    Budget,
    /// As much output as a process can write.
    Flood,
    /// `kill -9` of Holdfast itself.
    KillHoldfast,
}

impl Fault {
    /// All, in the order of the tour.
    pub(crate) const ALL: [Self; 11] = [
        Self::Crash,
        Self::KillWeb,
        Self::Hang,
        Self::Freeze,
        Self::Leak,
        Self::KillForker,
        Self::KillStore,
        Self::Stubborn,
        Self::Budget,
        Self::Flood,
        Self::KillHoldfast,
    ];

    /// For people.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Crash => "web crashes by a request",
            Self::KillWeb => "kill -9 of web",
            Self::Hang => "a blocking call hangs web",
            Self::Freeze => "SIGSTOP of web",
            Self::Leak => "web leaks memory",
            Self::KillForker => "kill -9 of the double-forked daemon",
            Self::KillStore => "kill -9 of store, which worker requires",
            Self::Stubborn => "restart of a service that ignores SIGTERM",
            Self::Budget => "a service that exits at once",
            Self::Flood => "a service floods its output",
            Self::KillHoldfast => "kill -9 of holdfast itself",
        }
    }
}

/// How a fault ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Recovery {
    /// Which.
    pub(crate) fault: Fault,
    /// How long it took, with what is worth saying; or why it did not recover.
    pub(crate) outcome: Outcome,
}

/// The time to recover and a sentence, or why not.
pub(crate) type Outcome = Result<(Duration, String), String>;

impl Recovery {
    /// Whether all is well again.
    pub(crate) fn is_good(&self) -> bool {
        self.outcome.is_ok()
    }
}

/// Does it, and waits for the recovery.
pub(crate) fn carry_out(
    fault: Fault,
    world: &mut World,
    narrator: &Narrator<'_>,
) -> Result<Recovery, Stop> {
    let outcome = match fault {
        Fault::Crash => crash(world),
        Fault::KillWeb => kill_web(world),
        Fault::Hang => sick::hang(world, narrator),
        Fault::Freeze => sick::freeze(world, narrator),
        Fault::Leak => sick::leak(world, narrator),
        Fault::KillForker => kill_forker(world),
        Fault::KillStore => kill_store(world),
        Fault::Stubborn => stubborn(world),
        Fault::Budget => budget(world, narrator),
        Fault::Flood => flood::carry_out(world),
        Fault::KillHoldfast => kill_holdfast(world, narrator),
    }?;
    Ok(Recovery { fault, outcome })
}

fn crash(world: &mut World) -> Result<Outcome, Stop> {
    let mut watch = world.watch("web")?;
    let clients = world.visitor_begin();
    let since = sys::clock::now();
    // It dies before it answers: that is the point.
    let _ = visitor::get(world.web(), "/crash");
    let before = watch.before.clone();
    let ready = watch.until_ready(world, since, RECOVERY_MAX)?;
    Ok(ready.and_then(|(took, now)| nobody_refused(world, clients, took, &before, &now)))
}

fn kill_web(world: &mut World) -> Result<Outcome, Stop> {
    let clients = world.visitor_begin();
    let killed = kill_and_wait(world, "web")?;
    Ok(killed.and_then(|(took, before, now)| nobody_refused(world, clients, took, &before, &now)))
}

/// What the clients saw of it.
pub(super) fn nobody_refused(
    world: &World,
    begin: Totals,
    took: Duration,
    before: &InstanceView,
    now: &InstanceView,
) -> Outcome {
    let end = world.visitor_totals();
    let refused = end.refused - begin.refused;
    if 0 < refused {
        return Err(format!("{refused} connections were refused"));
    }
    let slowest = text::took(Duration::from_micros(end.slowest_us));
    Ok((took, format!("{}, no connection refused, slowest answer {slowest}", pids(before, now))))
}

fn pids(before: &InstanceView, now: &InstanceView) -> String {
    let pid = |view: &InstanceView| view.pid.map_or("-".to_owned(), |pid| pid.to_string());
    format!("pid {} follows {}", pid(now), pid(before))
}

/// `kill -9` of the main process; the time until another run is ready, before and now.
fn kill_and_wait(
    world: &mut World,
    name: &str,
) -> Result<Result<(Duration, InstanceView, InstanceView), String>, Stop> {
    let mut watch = world.watch(name)?;
    let before = watch.before.clone();
    let Some(pid) = before.pid else { return Ok(Err(format!("{name} has no process"))) };
    let since = sys::clock::now();
    kill(pid);
    let ready = watch.until_ready(world, since, RECOVERY_MAX)?;
    Ok(ready.map(|(took, now)| (took, before, now)))
}

fn kill_forker(world: &mut World) -> Result<Outcome, Stop> {
    let killed = kill_and_wait(world, "forker")?;
    Ok(killed.map(|(took, before, now)| {
        (took, format!("{}, found through two forks", pids(&before, &now)))
    }))
}

fn kill_store(world: &mut World) -> Result<Outcome, Stop> {
    let worker = world.instance("worker")?;
    let killed = kill_and_wait(world, "store")?;
    let after = world.instance("worker")?;
    Ok(killed.and_then(|(took, before, now)| {
        if after.pid == worker.pid && after.run == worker.run {
            Ok((took, format!("{}, worker was left alone", pids(&before, &now))))
        } else {
            Err("worker was restarted, too".to_owned())
        }
    }))
}

fn stubborn(world: &mut World) -> Result<Outcome, Stop> {
    let mut watch = world.watch("stubborn")?;
    let before = watch.before.clone();
    let since = sys::clock::now();
    world.command(ServiceAction::Restart, "stubborn")?;
    let ready = watch.until_ready(world, since, RECOVERY_MAX)?;
    let still_there = before.pid.filter(|pid| is_alive(*pid));
    Ok(ready.and_then(|(took, now)| match still_there {
        Some(pid) => Err(format!("the old process {pid} still runs")),
        None => Ok((took, format!("{}, 1 s of patience, then SIGKILL", pids(&before, &now)))),
    }))
}

fn budget(world: &mut World, narrator: &Narrator<'_>) -> Result<Outcome, Stop> {
    let broken = world.broken();
    let cannot = |why| Stop::Broken(format!("cannot write {}: {why}", broken.display()));
    std::fs::write(&broken, "").map_err(cannot)?;
    let Some(pid) = world.instance("fragile")?.pid else {
        return Ok(Err("fragile has no process".to_owned()));
    };
    kill(pid);
    let gave_up = world.wait_for(RECOVERY_MAX, |snapshot| {
        find(snapshot, "fragile").is_some_and(|i| i.state == "failed")
    })?;
    std::fs::remove_file(&broken).map_err(cannot)?;
    if !gave_up {
        return Ok(Err(format!("holdfast did not give up after {BUDGET} restarts")));
    }
    let failed = world.instance("fragile")?;
    if let Some(link) = failed.because.first() {
        narrator.step(&link.message);
    }
    narrator.step("an operator repairs it, and starts it again");
    let mut watch = world.watch("fragile")?;
    let since = sys::clock::now();
    world.command(ServiceAction::Start, "fragile")?;
    let ready = watch.until_ready(world, since, RECOVERY_MAX)?;
    Ok(ready.map(|(took, now)| {
        let pid = now.pid.map_or("-".to_owned(), |pid| pid.to_string());
        (took, format!("pid {pid}, from the operator's command on"))
    }))
}

fn kill_holdfast(world: &mut World, narrator: &Narrator<'_>) -> Result<Outcome, Stop> {
    let before = processes(&world.status()?);
    let clients = world.visitor_begin();
    let since = sys::clock::now();
    world.kill_daemon();
    let died: Vec<&String> =
        before.iter().filter(|(_, (pid, _))| !is_alive(*pid)).map(|(name, _)| name).collect();
    if !died.is_empty() {
        return Ok(Err(format!("these died with holdfast: {died:?}")));
    }
    narrator.step(&format!("{} services go on without it", before.len()));
    world.start_daemon(narrator)?;
    let adopted = world.wait_for(RECOVERY_MAX, |snapshot| {
        let running =
            SERVICES.iter().all(|name| find(snapshot, name).is_some_and(|i| i.state == "running"));
        running && processes(snapshot) == before
    })?;
    let took = sys::clock::now().since(since);
    let refused = world.visitor_totals().refused - clients.refused;
    if !adopted {
        let after = processes(&world.status()?);
        return Ok(Err(format!("not all were adopted as they were: {before:?}, now {after:?}")));
    }
    if 0 < refused {
        return Ok(Err(format!("{refused} connections were refused")));
    }
    Ok(Ok((took, format!("all {} services adopted, same pids, none restarted", before.len()))))
}

/// Each instance with its process and its run.
fn processes(snapshot: &control::Snapshot) -> BTreeMap<String, (u32, Option<u64>)> {
    let all = snapshot.services.iter().flat_map(|service| &service.instances);
    all.filter_map(|i| Some((i.name.clone(), (i.pid?, i.run)))).collect()
}
