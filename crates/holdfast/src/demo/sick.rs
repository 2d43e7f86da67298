//! What does not die, and does not serve either, or not for long: hangs, stops and leaks.
//!
//! Nothing is killed here: the daemon has to see from outside that the service is sick.

use super::Stop;
use super::cleanup::signal;
use super::faults::{Outcome, nobody_refused};
use super::narrator::Narrator;
use super::visitor;
use super::world::{Watch, World};
use base::Now;
use control::EventRecord;
use std::time::Duration;

/// Longer than a recovery, because a machine that starves is waited for first: a service can't be
/// blamed for what nobody can do there.
const RECOVERY_MAX: Duration = Duration::from_mins(1);

/// SIGSTOP.
const STOP: i32 = 19;

/// The only thread of the web server never comes back from a call.
pub(super) fn hang(world: &mut World, narrator: &Narrator<'_>) -> Result<Outcome, Stop> {
    let watch = world.watch("web")?;
    let since = sys::clock::now();
    // Kept open: who asked goes on waiting.
    let asked = match visitor::ask_only(world.web(), "/hang") {
        Ok(asked) => asked,
        Err(why) => return Ok(Err(format!("web could not be asked to hang: {why}"))),
    };
    let outcome = replaced(world, narrator, watch, since)?;
    drop(asked);
    Ok(outcome)
}

/// The web server is stopped, with all that it has in hand.
pub(super) fn freeze(world: &mut World, narrator: &Narrator<'_>) -> Result<Outcome, Stop> {
    let watch = world.watch("web")?;
    let since = sys::clock::now();
    let Some(pid) = watch.before.pid else { return Ok(Err("web has no process".to_owned())) };
    signal(pid, STOP);
    replaced(world, narrator, watch, since)
}

/// The web server answers as always, and takes more and more memory: no request may fail.
pub(super) fn leak(world: &mut World, narrator: &Narrator<'_>) -> Result<Outcome, Stop> {
    let watch = world.watch("web")?;
    let since = sys::clock::now();
    let before = world.visitor_totals().cut_short;
    if let Err(why) = visitor::get(world.web(), "/leak") {
        return Ok(Err(format!("web did not answer: {why}")));
    }
    let outcome = replaced(world, narrator, watch, since)?;
    let failed = world.visitor_totals().cut_short - before;
    Ok(outcome.and_then(|(took, told)| match failed {
        0 => Ok((took, format!("{told}; no request failed"))),
        failed => Err(format!("{failed} requests were cut short")),
    }))
}

/// Waits for the successor; tells what the daemon said on the way.
fn replaced(
    world: &mut World,
    narrator: &Narrator<'_>,
    mut watch: Watch,
    since: Now,
) -> Result<Outcome, Stop> {
    let clients = world.visitor_begin();
    let ready = watch.until_ready(world, since, RECOVERY_MAX)?;
    for event in watch.heard.iter().filter(|event| is_worth_telling(event)) {
        narrator.step(&event.message);
    }
    let before = &watch.before;
    Ok(ready.and_then(|(took, now)| nobody_refused(world, clients, took, before, &now)))
}

fn is_worth_telling(event: &EventRecord) -> bool {
    matches!(event.kind.as_str(), "service.sick" | "service.evidence" | "service.suppressed")
}
