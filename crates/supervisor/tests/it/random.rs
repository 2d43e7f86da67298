//! Properties in random worlds: people ask at random, processes do as they like, the daemon dies.

use crate::specs::{But, SECOND, command, config, service, verdict};
use crate::world::World;
use base::InstanceId;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;
use supervisor::watch::{DependencyState, Verdict, VerdictState};
use supervisor::{
    Action, Dependency, DependencyTarget, Detector, EventKind, Input, InstanceSnapshot,
    LeakResource, Mode, NotifyMessage, Phase, Probe, QuarantinePolicy, Readiness, Remedy,
    RestartWhen, Rule, ServiceSpec, ShutdownMode, StopAction, Successor, Tolerance, Wish,
};

/// The longest that a shutdown may take here: some services in a row, each with its whole ladder,
/// and the longest uninterruptible sleep that is drawn.
const SHUTDOWN_MAX: Duration = Duration::from_mins(30);

fn draw_spec(world: &mut World, number: u64) -> ServiceSpec {
    let mut below = |limit: u64| world.rng.below(limit);
    let mut spec = service(&format!("s{number}"));
    for other in 0..number {
        let name = format!("s{other}");
        spec = match below(8) {
            0 => spec.requires(&name),
            1 => spec.wants(&name),
            2 => spec.after(&name),
            _ => spec,
        };
    }
    spec = match below(6) {
        0 => spec.oneshot(),
        1 => spec.forking(),
        _ => spec,
    };
    spec.ready = match below(4) {
        0 => Readiness::Notify,
        1 => spec.clone().probed().ready,
        2 => Readiness::Delay(Duration::from_millis(below(2_000))),
        _ => Readiness::Started,
    };
    spec.restart.when = match below(4) {
        0 => RestartWhen::Never,
        1 => RestartWhen::Always,
        _ => RestartWhen::OnFailure,
    };
    spec.restart.budget = below(6) as u32;
    // Longer than the delay or a probe may take: nothing else is a valid configuration.
    spec.start_timeout = Duration::from_secs(3 + below(10));
    spec.autostart = below(4) != 0;
    spec.instances = 1 + below(3) as u16;
    spec.watchdog = (below(6) == 0).then_some(20 * SECOND);
    spec = match below(4) {
        0 => spec.stops_by(&[(command("bye now"), 1), (StopAction::Signal(15), 2)]),
        1 => spec.stops_by(&[(StopAction::Signal(15), 1), (StopAction::Signal(9), 1)]),
        2 => spec.stops_by(&[]),
        _ => spec,
    };
    if below(2) == 0 {
        spec = spec.runs("/bin/other");
    }
    if below(2) == 0 {
        spec.reload = Some(command("look again"));
    }
    spec.log.keep = below(3) as u32;
    if below(2) == 0 {
        spec.tolerance = draw_tolerance(&mut below);
        if below(3) == 0 {
            spec.process.port = Some(8000);
        }
        if 0 < number && below(3) == 0 {
            let target = DependencyTarget::Service(format!("s{}", number - 1).parse().unwrap());
            spec.depends.insert("the other".into(), Dependency { target, slow: None });
        }
    }
    spec
}

fn draw_tolerance(below: &mut impl FnMut(u64) -> u64) -> Tolerance {
    let mut tolerance = Tolerance::default();
    let mode = |draw| match draw {
        0 => Mode::Off,
        1 => Mode::Observe,
        _ => Mode::Enforce,
    };
    tolerance.mode = mode(below(6));
    let limit = Some(100);
    let leak =
        Rule::Leak { resource: LeakResource::Memory, limit, share_percent: None, trend: None };
    let age = Rule::Age { every: SECOND * 3600, jitter_percent: 0 };
    for (name, rule) in [("leak", leak), ("hang", Rule::Deadlock { lasting: SECOND }), ("age", age)]
    {
        tolerance.detectors.insert(name.into(), Detector { mode: mode(below(6)), rule });
    }
    let replace = &mut tolerance.replace;
    if below(2) == 0 {
        replace.successor = Successor::Beside;
    }
    replace.settle = Duration::from_millis(below(3) * 700);
    replace.drain = Duration::from_millis(below(3) * 2_000);
    if below(3) == 0 {
        replace.warm_up = vec![Probe::Tcp("127.0.0.1:{port}".into()), Probe::File("/warm".into())];
        replace.warm_up_timeout = SECOND * 3;
    }
    if below(3) == 0 {
        tolerance.evidence.budget = Duration::ZERO;
    }
    if below(3) == 0 {
        // Some are kept for longer than a shutdown may take.
        let keep = Duration::from_secs(if below(4) == 0 { 2_700 } else { 1 + below(100) });
        tolerance.quarantine = Some(QuarantinePolicy { keep, max: 1 + below(2) as u16 });
    }
    if below(3) == 0 {
        let detectors = if below(2) == 0 { ["leak".to_owned()].into() } else { BTreeSet::new() };
        let (name, action) = ("recycle".to_owned(), command("recycle it"));
        tolerance.remedies.push(Remedy { name, detectors, action, wait: SECOND });
    }
    tolerance
}

/// A new configuration: some services change, some are gone, most stay.
fn reconfigure(world: &mut World) {
    let mut specs: Vec<ServiceSpec> = Vec::new();
    for number in 0..6 {
        let name = format!("s{number}").parse().unwrap();
        let old = world.specs.get(&name).cloned();
        match (world.rng.below(5), old) {
            (0, _) => {}
            (1 | 2, _) | (_, None) => specs.push(draw_spec(world, number)),
            (_, Some(old)) => specs.push(ServiceSpec::clone(&old)),
        }
    }
    let known: Vec<_> = specs.iter().map(|spec| spec.name.clone()).collect();
    for spec in &mut specs {
        for names in [&mut spec.requires, &mut spec.wants, &mut spec.after] {
            names.retain(|name| known.contains(name));
        }
    }
    world.specs = config(specs);
    let specs = world.specs.clone();
    world.tell(Input::Configure(specs));
}

fn somebody_asks(world: &mut World) {
    let all: Vec<InstanceId> =
        world.core.snapshot().into_iter().map(|seen| seen.instance).collect();
    let Some(target) = all.get(world.rng.below(all.len() as u64) as usize).cloned() else { return };
    let action = match world.rng.below(13) {
        10 | 11 => Action::Replace,
        12 => Action::Mode(match world.rng.below(4) {
            0 => None,
            1 => Some(Mode::Off),
            2 => Some(Mode::Observe),
            _ => Some(Mode::Enforce),
        }),
        0..=2 => Action::Start,
        3..=5 => Action::Stop,
        6 | 7 => Action::Restart,
        8 => Action::Reload,
        _ => Action::Reset,
    };
    world.tell(Input::Command { targets: vec![target], action, by: "somebody".into() });
}

/// A detector changes its mind about something that is watched.
fn a_detector_speaks(world: &mut World) {
    let nth = world.rng.below(world.watched.len().max(1) as u64) as usize;
    let Some((instance, run)) = world.watched.iter().nth(nth) else { return };
    let (instance, run) = (instance.clone(), *run);
    let detector = ["leak", "hang", "age"][world.rng.below(3) as usize];
    let state = match world.rng.below(5) {
        0 => VerdictState::Well,
        1 => VerdictState::CannotTell,
        _ => VerdictState::Sick,
    };
    let cannot_run = detector == "hang" && world.rng.below(2) == 0;
    let verdict = Verdict { cannot_run, ..verdict(detector, state, world.now) };
    world.tell(Input::Verdict { instance, run, verdict });
}

/// Something outside changes.
fn the_world_changes(world: &mut World) {
    if world.rng.below(2) == 0 {
        let starves = world.rng.below(3) == 0;
        return world.tell(Input::Pressure(starves.then(|| "no memory is left".to_owned())));
    }
    let all: Vec<InstanceId> = world.watched.keys().cloned().collect();
    let nth = world.rng.below(all.len().max(1) as u64) as usize;
    let Some(instance) = all.get(nth).cloned() else { return };
    let state = match world.rng.below(3) {
        0 => DependencyState::Down,
        1 => DependencyState::Slow,
        _ => DependencyState::Up,
    };
    let (name, message) = ("the other".to_owned(), "so it is said".to_owned());
    world.tell(Input::Depends { instance, name, state, message });
}

/// Some process says of itself what comes to its mind.
fn a_service_talks(world: &mut World) {
    let nth = world.rng.below(world.trees.len().max(1) as u64) as usize;
    let Some(((instance, run), tree)) = world.trees.iter_mut().nth(nth) else { return };
    let (instance, run) = (instance.clone(), *run);
    let message = match world.rng.below(8) {
        0 => NotifyMessage::Ready,
        1 => NotifyMessage::Watchdog,
        2 => NotifyMessage::WatchdogTrigger,
        3 => NotifyMessage::Reloading,
        4 => NotifyMessage::Stopping,
        5 => NotifyMessage::ExtendTimeout(Duration::from_millis(world.rng.below(5_000))),
        6 => NotifyMessage::WatchdogPeriod(Duration::from_secs(world.rng.below(30))),
        _ => {
            let Some(pid) = tree.alive.keys().last().copied() else { return };
            tree.watched.push(pid);
            NotifyMessage::MainPid(pid)
        }
    };
    world.tell(Input::Notify { instance, run, message });
}

fn live(world: &mut World, steps: u32) {
    reconfigure(world);
    world.tell(Input::Begin);
    for _ in 0..steps {
        match world.rng.below(30) {
            0..=4 => somebody_asks(world),
            8 | 9 => a_service_talks(world),
            10..=14 => a_detector_speaks(world),
            15 => the_world_changes(world),
            5 => reconfigure(world),
            6 => {
                let same = world.specs.clone();
                world.tell(Input::Configure(same));
            }
            7 if world.rng.below(4) == 0 => world.daemon_dies(),
            _ => {
                let until = world.now + Duration::from_millis(world.rng.below(3_000));
                world.run_until(until);
            }
        }
    }
}

fn shut_down(world: &mut World) {
    world.tell(Input::Shutdown(ShutdownMode::StopServices));
    let until = world.now + SHUTDOWN_MAX;
    while !world.checks.is_complete() && world.step(until) {}
    assert!(world.checks.is_complete(), "the shutdown does not end: {:#?}", world.why_not());
    assert!(world.trees.is_empty(), "alive after the end: {:?}", world.trees);
    // Late answers change nothing any more.
    let until = world.now + SECOND * 3600;
    world.run_until(until);
}

/// Each instance is as it is wished to be, or it says why not.
fn is_settled(world: &World, seen: &InstanceSnapshot) -> bool {
    match (seen.phase, &seen.wish) {
        (Phase::Running, Wish::Up)
        | (Phase::Stopped, Wish::Down)
        | (Phase::Failed, Wish::Failed(_))
        | (Phase::Finished, Wish::Finished) => true,
        (Phase::Waiting, Wish::Up) => {
            // It waits for something that somebody must start: the chain ends with it.
            let Some((root, _)) = seen.because.last() else { return false };
            world
                .core
                .why(root)
                .is_some_and(|root| matches!(root.phase, Phase::Stopped | Phase::Failed))
        }
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn h18_b2_every_world_ends_with_everything_released_once(seed: u64, steps in 1_u32..150) {
        let mut world = World::new(seed);
        live(&mut world, steps);
        shut_down(&mut world);
    }

    #[test]
    fn h26_g13_when_the_world_calms_down_everything_is_as_wished(seed: u64, steps in 1_u32..100) {
        let mut world = World::new(seed);
        live(&mut world, steps);
        world.calm();
        let watchless: Vec<ServiceSpec> =
            world.specs.values().map(|spec| ServiceSpec::clone(spec).but(|s| s.watchdog = None)).collect();
        world.specs = config(watchless);
        let specs = world.specs.clone();
        world.tell(Input::Configure(specs));
        let until = world.now + SECOND * 30;
        world.run_until(until);
        world.all_is_well();
        let until = world.now + SECOND * 3600;
        world.run_until(until);
        for seen in world.core.snapshot() {
            prop_assert!(is_settled(&world, &seen), "{seen:#?}");
        }
        prop_assert_eq!(world.core.next_wake(), None);
        shut_down(&mut world);
    }

    #[test]
    fn one_seed_gives_one_trace(seed: u64) {
        let trace = || {
            let mut world = World::new(seed);
            live(&mut world, 40);
            shut_down(&mut world);
            world.checks.trace
        };
        prop_assert_eq!(trace(), trace());
    }
}

#[test]
fn the_random_worlds_take_every_path_of_a_replacement() {
    let mut seen = BTreeSet::new();
    for seed in 0..400 {
        let mut world = World::new(seed);
        live(&mut world, 100);
        seen.extend(world.checks.kinds.iter().copied());
    }
    for kind in [
        EventKind::Sick,
        EventKind::Well,
        EventKind::WouldReplace,
        EventKind::Suppressed,
        EventKind::Replacing,
        EventKind::Evidence,
        EventKind::Remedy,
        EventKind::Draining,
        EventKind::Admitted,
        EventKind::Replaced,
        EventKind::ReplacementFailed,
        EventKind::Quarantined,
        EventKind::QuarantineEnded,
        EventKind::ModeChanged,
        EventKind::DependencyDown,
        EventKind::DependencyUp,
        EventKind::BudgetSpent,
    ] {
        assert!(seen.contains(&kind), "{kind:?} never happened");
    }
}
