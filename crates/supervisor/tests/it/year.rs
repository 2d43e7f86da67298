//! A simulated year in seconds (P9): idle days, thousands of starts and stops, and nothing grows.

use crate::bench::{Bench, deeds};
use crate::specs::{But, SECOND, service};
use base::Rng;
use std::time::Duration;
use supervisor::{Action, Exit, NotifyMessage, Phase, RestartWhen};

const DAY: Duration = Duration::from_hours(24);

#[test]
fn p9_p2_a_year_of_crashes_and_idle_hours_restarts_every_time() {
    let mut it = Bench::running(service("web").restarts(RestartWhen::Always));
    let mut rng = Rng::new(9);
    let begin = it.now;
    let mut pid = 10;
    let mut lives = 0;
    while it.now.since(begin) < 365 * DAY {
        // Longer than it takes to be healthy again: no life pays for an earlier one.
        let idle = Duration::from_secs(60 + rng.below(7_200));
        assert_eq!(it.after(idle), [""; 0], "nothing is done while nothing happens");
        let exit = if rng.below(2) == 0 { Exit::Code(0) } else { Exit::Signal(6) };
        let lines = it.ends("web", pid, exit);
        assert!(
            deeds(&lines).last().is_some_and(|last| last.starts_with("spawn web")),
            "{lines:?}"
        );
        pid += 1;
        lives += 1;
        it.spawned("web", pid);
    }
    assert!(8_000 < lives);
    assert_eq!(it.seen("web").restarts, lives);
    assert_eq!(it.phase("web"), Phase::Running);
}

#[test]
fn p9_p2_a_hundred_thousand_starts_and_stops_leave_nothing_behind() {
    let mut it = Bench::of([service("web").not_by_itself()]);
    let mut size = 0;
    for pid in 10..100_010 {
        it.ask(Action::Start, "web");
        it.spawned("web", pid);
        it.after_ms(300);
        it.ask(Action::Stop, "web");
        it.ends("web", pid, Exit::Signal(15));
        it.after(300 * SECOND);
        assert_eq!(it.core.next_wake(), None);
        if pid == 1_000 {
            size = format!("{:?}", it.core).len();
        }
    }
    let grown = format!("{:?}", it.core).len() - size;
    assert!(grown < 100, "numbers may have more digits, nothing else: {grown}");
}

#[test]
fn p9_a_year_of_a_fed_watchdog_is_quiet() {
    let mut it = Bench::running(service("web").watchdog(3_600 * SECOND));
    for _ in 0..(365 * 24 * 2) {
        assert_eq!(it.after(1_800 * SECOND), [""; 0]);
        assert_eq!(it.says("web", NotifyMessage::Watchdog), [""; 0]);
    }
    assert_eq!(it.phase("web"), Phase::Running);
}
