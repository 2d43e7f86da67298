//! What is waited for after the fault, and whether it is right.
//!
//! Invariant: a trial ends as expected only if each thing that should happen was seen, and nothing
//! that should not.

use crate::catalogue::{Loss, Strike};
use crate::clock::At;
use crate::row::{Evidence, Mode, Row};
use crate::run::{Scene, VICTIM};
use anyhow::{Context, Result};
use control::EventRecord;
use std::fs;
use std::time::Duration;

/// From a verdict to what follows from it; evidence, warm-up and draining included.
const FOLLOWS_MAX: Duration = Duration::from_secs(20);

/// For so long it is watched that nothing happens.
const QUIET: Duration = Duration::from_secs(6);

/// What happens to a run that is touched.
const TOUCHED: &[&str] = &[
    "service.replacing",
    "service.replaced",
    "service.evidence",
    "service.remedy",
    "service.draining",
    "service.quarantined",
    "service.stopping",
    "service.killing",
    "service.exited",
    "service.starting",
];

/// It is to be replaced; or, in observe mode, it is said that it would have been.
pub(crate) fn replaced(scene: &mut Scene, row: &mut Row, loss: Loss) -> Result<()> {
    let within = scene.fault.within;
    let sick = scene.victims("service.sick", within)?.context("it was not noticed")?;
    row.detected = Some(At::of(&sick).since(scene.struck));
    row.sentence = sentence(&sick);
    match scene.mode {
        Mode::Observe => only_observed(scene, row),
        Mode::Enforce => really_replaced(scene, row, loss),
    }
}

fn only_observed(scene: &mut Scene, row: &mut Row) -> Result<()> {
    scene.victims("service.would_replace", FOLLOWS_MAX)?.context("nothing was said of it")?;
    "would have replaced".clone_into(&mut row.outcome);
    row.failed_before = scene.load.tally().failed(scene.struck, At::now());
    let victim = scene.house.instance(VICTIM)?;
    let counted = victim.health.workaround.map_or(0, |workaround| workaround.would_have);
    row.expect(0 < counted, || "it is not counted as what would have been done".to_owned());
    untouched(scene, row)
}

fn really_replaced(scene: &mut Scene, row: &mut Row, loss: Loss) -> Result<()> {
    let replacing = scene.victims("service.replacing", FOLLOWS_MAX)?.context("nothing was done")?;
    let done = scene.victims("service.replaced", FOLLOWS_MAX)?.context("it was not replaced")?;
    "replaced".clone_into(&mut row.outcome);
    row.evidence = evidence(scene, done.data.get("evidence"));
    let unkept = scene.fault.unkept;
    let complete = match &row.evidence {
        Evidence::Complete { .. } => unkept.is_empty(),
        Evidence::Partial(missing) => {
            !unkept.is_empty() && missing.iter().all(|it| it.starts_with(unkept))
        }
        Evidence::NotWanted | Evidence::Lacking(_) => false,
    };
    row.expect(complete, || "the evidence is not what it should be".to_owned());
    let served = served_by_another(scene)?;
    row.recovered = Some(served.since(scene.struck));
    nothing_left(scene)?;
    let (begun, gone) = (At::of(&replacing), At::now());
    let tally = scene.load.tally();
    row.failed_before = tally.failed(scene.struck, begun);
    row.failed_during = tally.failed(begun, gone);
    let lost = row.failed_before + row.failed_during;
    row.expect(loss == Loss::OfTheSick || lost == 0, || {
        format!("{lost} requests failed although it still answered: {:?}", tally.reasons())
    });
    Ok(())
}

/// Nothing is to be done about it, and nobody suffers from it.
pub(crate) fn borne(scene: &mut Scene, row: &mut Row) -> Result<()> {
    let struck = scene.struck;
    let bad = |event: &EventRecord| {
        event.kind == "service.sick" || TOUCHED.contains(&event.kind.as_str())
    };
    let happened = scene.house.wait_event(struck, QUIET, bad)?;
    row.expect(happened.is_none(), || {
        format!("something was done: {}", happened.as_ref().map_or("", |event| &event.message))
    });
    "borne".clone_into(&mut row.outcome);
    let tally = scene.load.tally();
    let failed = tally.failed(struck, At::now());
    row.failed_during = failed;
    row.expect(failed == 0, || format!("{failed} requests failed: {:?}", tally.reasons()));
    if scene.fault.strike == Strike::Told {
        row.sentence = logged(scene)?;
    }
    untouched(scene, row)
}

/// How much of its output is kept: no more than its rotation allows.
fn logged(scene: &Scene) -> Result<String> {
    let mut bytes = 0;
    for entry in fs::read_dir(scene.house.path("state/logs"))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(VICTIM) {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(format!("its log takes {:.1} MiB", bytes as f64 / (1024.0 * 1024.0)))
}

/// Its dependency is to blame: it is left alone, and serves again when that does.
pub(crate) fn not_blamed(scene: &mut Scene, row: &mut Row) -> Result<()> {
    let within = scene.fault.within;
    let down = scene.victims("service.dependency_down", within)?;
    let down = down.context("that its dependency is down was not noticed")?;
    row.detected = Some(At::of(&down).since(scene.struck));
    row.sentence = sentence(&down);
    scene.victims("service.sick", within)?.context("its own detector did not notice")?;
    if scene.fault.strike == Strike::BackendHangs {
        return first_failing_is_replaced(scene, row);
    }
    if scene.mode == Mode::Enforce {
        let held = scene.victims("service.replacement_suppressed", FOLLOWS_MAX)?;
        held.context("it was not said that it is left alone, and why")?;
    }
    row.failed_before = scene.load.tally().failed(scene.struck, At::now());
    scene.mend()?;
    let mended = At::now();
    "left alone".clone_into(&mut row.outcome);
    answered_since(scene, mended)?;
    would_be_left_alone(scene, row)?;
    untouched(scene, row)
}

/// In observe mode it is not even counted as what would have been replaced (H12).
fn would_be_left_alone(scene: &Scene, row: &mut Row) -> Result<()> {
    let workaround = scene.house.instance(VICTIM)?.health.workaround;
    let counted = workaround.map_or(0, |workaround| workaround.would_have);
    row.expect(counted == 0, || format!("it would have been replaced {counted} times"));
    Ok(())
}

/// From the back end to the front: the first failing component is replaced, and not its victims
/// (H16).
fn first_failing_is_replaced(scene: &mut Scene, row: &mut Row) -> Result<()> {
    let kind = match scene.mode {
        Mode::Observe => "service.would_replace",
        Mode::Enforce => "service.replaced",
    };
    let of_backend = |event: &EventRecord| event.subject == "backend" && event.kind == kind;
    let done = scene.house.wait_event(scene.struck, FOLLOWS_MAX, of_backend)?;
    let done = done.context("nothing came of the backend")?;
    if scene.mode == Mode::Enforce {
        "left alone; the other one replaced".clone_into(&mut row.outcome);
        row.evidence = evidence(scene, done.data.get("evidence"));
        let answered = answered_since(scene, At::of(&done))?;
        row.recovered = Some(answered.since(scene.struck));
    } else {
        "left alone; the other one would have been replaced".clone_into(&mut row.outcome);
    }
    row.failed_before = scene.load.tally().failed(scene.struck, At::of(&done));
    would_be_left_alone(scene, row)?;
    untouched(scene, row)
}

/// A start that hangs is ended by its limit, in any mode, and tried again.
pub(crate) fn started_again(scene: &mut Scene, row: &mut Row) -> Result<()> {
    let late = scene.victims("service.start_timeout", scene.fault.within)?;
    let late = late.context("it was not noticed")?;
    row.detected = Some(At::of(&late).since(scene.struck));
    row.sentence = sentence(&late);
    if scene.mode == Mode::Enforce {
        let kept = scene.victims("service.evidence", FOLLOWS_MAX)?;
        let kept = kept.context("nothing was kept of it")?;
        row.evidence = evidence(scene, kept.data.get("evidence"));
    }
    scene.mend()?;
    let served = served_by_another(scene)?;
    row.recovered = Some(served.since(scene.struck));
    row.failed_before = scene.load.tally().failed(scene.struck, served);
    "started again".clone_into(&mut row.outcome);
    Ok(())
}

/// The run of before is there, nothing was done to it, and nothing is counted.
fn untouched(scene: &mut Scene, row: &mut Row) -> Result<()> {
    scene.house.take_events()?;
    let victim = scene.house.instance(VICTIM)?;
    let same = (victim.pid, victim.run) == (scene.before.pid, scene.before.run);
    row.expect(same, || format!("it runs as {:?}, not as before", victim.pid));
    let touched = scene.house.events.iter().find(|event| {
        scene.struck <= At::of(event)
            && event.subject == VICTIM
            && TOUCHED.contains(&event.kind.as_str())
    });
    let touched = touched.map(|event| event.message.clone());
    row.expect(touched.is_none(), || format!("it was touched: {}", touched.unwrap_or_default()));
    let saves = victim.health.workaround.map_or(0, |workaround| workaround.saves);
    row.expect(saves == 0, || format!("it is counted as saved {saves} times"));
    Ok(())
}

/// When another run than the one of before answered first.
fn served_by_another(scene: &Scene) -> Result<At> {
    let old = scene.before.pid.unwrap_or_default();
    let mut served = None;
    scene.house.wait_for("the successor answers", FOLLOWS_MAX, |_| {
        served = scene.load.tally().first_by_another(old, scene.struck);
        Ok(served.is_some())
    })?;
    served.context("nobody answered")
}

/// When a request that was begun after `from` was answered first.
fn answered_since(scene: &Scene, from: At) -> Result<At> {
    let mut answered = None;
    scene.house.wait_for("it answers again", FOLLOWS_MAX, |_| {
        let tally = scene.load.tally();
        let good = tally.0.iter().filter(|it| from <= it.begun && it.by.is_ok());
        answered = good.map(|it| it.ended).min();
        Ok(answered.is_some())
    })?;
    answered.context("nobody answered")
}

/// Nothing is left of the run of before, as the daemon sees it and as /proc does.
fn nothing_left(scene: &Scene) -> Result<()> {
    let old = scene.before.run.unwrap_or_default();
    let mark = format!("{VICTIM}/{old}");
    let mut left = Vec::new();
    let gone = scene.house.wait_for("nothing is left of the old run", FOLLOWS_MAX, |house| {
        let known = house.instance(VICTIM)?.runs.iter().any(|run| run.run == old);
        left = house.processes().into_iter().filter(|process| process.run == mark).collect();
        Ok(!known && left.is_empty())
    });
    gone.with_context(|| format!("left of the old run: {left:?}"))
}

fn evidence(scene: &Scene, name: Option<&serde_json::Value>) -> Evidence {
    let Some(name) = name.and_then(|name| name.as_str()) else {
        return Evidence::Lacking("no event names any".to_owned());
    };
    match index(scene, name) {
        Ok(evidence) => evidence,
        Err(error) => Evidence::Lacking(format!("{error:#}")),
    }
}

fn index(scene: &Scene, name: &str) -> Result<Evidence> {
    let shown = scene.house.cli(&["evidence", "show", name, "--json"])?;
    let index: serde_json::Value = serde_json::from_str(&shown)?;
    let list = |name: &str| index[name].as_array().cloned().unwrap_or_default();
    let missing = list("missing").into_iter().map(|it| {
        let text = |name: &str| it[name].as_str().unwrap_or_default().to_owned();
        format!("{}: {}", text("name"), text("why"))
    });
    let missing: Vec<String> = missing.collect();
    if index["complete"].as_bool() == Some(true) && missing.is_empty() {
        return Ok(Evidence::Complete { files: list("files").len() });
    }
    Ok(Evidence::Partial(missing))
}

/// What an event says, without whom it is about.
fn sentence(event: &EventRecord) -> String {
    let message = event.message.as_str();
    let about = [": ", ", which is "].iter().find_map(|mark| message.split_once(mark));
    about.map_or(message, |(_, rest)| rest).to_owned()
}

impl Scene {
    /// The first event of a kind about the victim since the fault.
    fn victims(&mut self, kind: &str, most: Duration) -> Result<Option<EventRecord>> {
        let struck = self.struck;
        self.house.wait_event(struck, most, |it| it.subject == VICTIM && it.kind == kind)
    }
}
