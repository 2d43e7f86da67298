//! Hangs that the kernel can see: work waits and nothing advances; and all the healthy services
//! that look like it.

use crate::watch_bench::{
    BEGIN, Bench, MINUTE, SECOND, World, answer, backlog, idle, notify_counter, tolerance,
};
use base::{Answer, InstanceId, Now, RunId};
use std::time::Duration;
use supervisor::watch::{Input, LockWaits, Sample, SocketSample, Unanswered, VerdictState};
use supervisor::{CounterSource, Progress, Rule};

/// A service as its samples show it, by the time since the test began.
struct Looks<F>(F);

impl<F: FnMut(f64) -> Sample> World for Looks<F> {
    fn sample(&mut self, now: Now, _: &InstanceId) -> Result<Sample, String> {
        Ok((self.0)(now.since(BEGIN).as_secs_f64()))
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.max(0.0))
}

fn sockets(sample: Sample, change: impl FnOnce(&mut SocketSample)) -> Sample {
    let mut sockets = sample.sockets.unwrap();
    change(&mut sockets);
    Sample { sockets: Some(sockets), ..sample }
}

fn livelock(progress: Progress) -> Rule {
    Rule::Livelock { core_percent: 90, lasting: 10 * SECOND, progress }
}

/// Takes connections and never answers: uses some CPU, and its connections pile up.
fn accepts_for_ever(t: f64) -> Sample {
    let sample = Sample { cpu: seconds(t * 0.01), switches: Some((t * 40.0) as u64), ..idle() };
    sockets(sample, |it| {
        it.established = (t * 5.0) as u32;
        it.bytes_received = it.established.into();
        it.unanswered = Some(Unanswered { connections: it.established, longest: seconds(t) });
    })
}

#[test]
fn h2_a_server_that_accepts_and_never_answers_is_caught_without_a_probe() {
    let rules = [("stuck", backlog(50, Some(10), 10))];
    let mut it = Bench::watching(Looks(accepts_for_ever), tolerance(rules));
    // Ten connections are there after two seconds, and have to wait for ten.
    let took = it.until("stuck", VerdictState::Sick, MINUTE);
    assert!(took <= 14 * SECOND, "{took:?}");
    let verdict = it.verdict("stuck").unwrap();
    assert!(verdict.message.contains("for an answer (oldest 1"), "{}", verdict.message);
    assert!(verdict.message.contains("no byte was acknowledged, 1.0% CPU"), "{}", verdict.message);
    assert!(!verdict.cannot_run && !verdict.planned);
}

#[test]
fn h2_a_blocked_server_is_caught_by_its_queue_although_timers_give_it_some_cpu() {
    let blocked = |t: f64| {
        let sample = Sample { cpu: seconds(t * 0.001), ..idle() };
        sockets(sample, |it| {
            it.queue = (t as u32).min(20);
            it.queue_waiting = Some(seconds(t));
            it.established = it.queue;
        })
    };
    let mut it = Bench::watching(Looks(blocked), tolerance([("stuck", backlog(5, None, 10))]));
    let took = it.until("stuck", VerdictState::Sick, MINUTE);
    assert!((15 * SECOND..=18 * SECOND).contains(&took), "{took:?}");
}

#[test]
fn h2_it_is_caught_within_two_seconds_where_the_service_asks_for_it() {
    let mut settings = tolerance([("stuck", backlog(1, Some(1), 1))]);
    settings.interval = SECOND;
    let mut it = Bench::watching(Looks(|t| accepts_for_ever(t + 1.0)), settings);
    let took = it.until("stuck", VerdictState::Sick, MINUTE);
    assert!(took <= 2 * SECOND, "{took:?}");
}

#[test]
fn h2_clients_that_give_up_are_no_progress_of_a_server_that_hangs() {
    // Each client leaves after three seconds: by a FIN, which leaves its work in CLOSE_WAIT; or by
    // a reset, which leaves nothing.
    let closing = |t: f64| {
        let sample = Sample { cpu: seconds(t * 0.01), ..idle() };
        sockets(sample, |it| {
            it.established = 15;
            it.close_wait = (t * 5.0) as u32;
            let connections = it.established + it.close_wait;
            it.unanswered = Some(Unanswered { connections, longest: seconds(t) });
        })
    };
    let resetting = |t: f64| {
        sockets(Sample { cpu: seconds(t * 0.000_5), ..idle() }, |it| {
            it.established = 15;
            it.unanswered = Some(Unanswered { connections: 15, longest: seconds(t % 3.0 + 2.0) });
            it.queue = 12;
            it.queue_waiting = Some(seconds(t));
        })
    };
    let rules = || tolerance([("stuck", backlog(10, Some(10), 10))]);
    Bench::watching(Looks(closing), rules()).until("stuck", VerdictState::Sick, 20 * SECOND);
    Bench::watching(Looks(resetting), rules()).until("stuck", VerdictState::Sick, 20 * SECOND);
}

/// Never sick in an hour under all rules that look at progress.
fn never_sick(what: &str, looks: impl FnMut(f64) -> Sample) {
    let rules = [
        ("stuck", backlog(5, Some(20), 10)),
        ("lock", Rule::Deadlock { lasting: 10 * SECOND }),
        ("spin", livelock(Progress::Kernel)),
    ];
    let mut it = Bench::watching(Looks(looks), tolerance(rules));
    it.after(60 * MINUTE);
    assert!(it.sick().is_empty(), "{what}: {:#?}", it.sick());
}

#[test]
fn h2_a_server_that_answers_is_never_taken_for_one_that_hangs() {
    never_sick("idle websockets", |_| {
        sockets(idle(), |it| {
            it.established = 500;
            it.bytes_acked = 1_000_000;
        })
    });
    never_sick("keep-alive connections at full load, with a queue", |t| {
        let sample = Sample { cpu: seconds(t * 1.9), ..idle() };
        sockets(sample, |it| {
            (it.queue, it.queue_waiting) = (30, Some(seconds(0.2)));
            it.established = 200;
            it.bytes_acked = (t * 1e6) as u64;
            it.unanswered = Some(Unanswered { connections: 50, longest: seconds(0.3) });
        })
    });
    never_sick("one answer for each connection, at full load, with a full queue", |t| {
        // Whoever has been answered is gone: no acknowledged byte is ever seen.
        let sample = Sample { cpu: seconds(t * 0.99), ..idle() };
        sockets(sample, |it| {
            (it.queue, it.queue_waiting) = (128, Some(seconds(1.5)));
            it.established = 30;
            it.unanswered = Some(Unanswered { connections: 30, longest: seconds(2.0 + t % 2.0) });
        })
    });
    never_sick("a slow back end: long waits, hardly any CPU", |t| {
        let sample = Sample { cpu: seconds(t * 0.004), ..idle() };
        sockets(sample, |it| {
            (it.queue, it.queue_waiting) = (40, Some(seconds(8.0)));
            it.unanswered = Some(Unanswered { connections: 4, longest: seconds(9.0) });
        })
    });
    never_sick("an idle pool of threads on locks", |_| Sample {
        lock_waits: Some(LockWaits { looked_at: 8, on_locks: 8, running: 0 }),
        ..idle()
    });
    never_sick("a download that takes its time, at full CPU", |t| {
        let sample = Sample { cpu: seconds(t), ..idle() };
        sockets(sample, |it| {
            it.established = 1;
            it.bytes_acked = (t * 1e3) as u64;
            it.unanswered = Some(Unanswered { connections: 1, longest: seconds(t) });
        })
    });
}

#[test]
fn h2_a_unix_socket_that_has_no_ages_is_judged_by_its_queue_and_the_cpu() {
    let no_ages = |sample: Sample, queue: u32| {
        sockets(sample, |it| {
            (it.queue, it.queue_waiting, it.unanswered) = (queue, None, None);
            it.established = queue;
        })
    };
    never_sick("a busy one", |t| no_ages(Sample { cpu: seconds(t * 0.3), ..idle() }, 60));
    never_sick("one with a queue that moves", |t| no_ages(idle(), 30 + (t as u32) % 3));
    let hangs = |_| no_ages(idle(), 64);
    let mut it = Bench::watching(Looks(hangs), tolerance([("stuck", backlog(5, None, 10))]));
    it.until("stuck", VerdictState::Sick, 12 * SECOND);
}

#[test]
fn a_deadlock_is_all_threads_on_locks_while_work_waits() {
    let locked = |t: f64| {
        let waits = LockWaits { looked_at: 8, on_locks: 8, running: 0 };
        sockets(Sample { lock_waits: Some(waits), ..idle() }, |it| {
            (it.queue, it.queue_waiting) = (1, Some(seconds(t)));
        })
    };
    let rules = || tolerance([("lock", Rule::Deadlock { lasting: 5 * SECOND })]);
    let mut it = Bench::watching(Looks(locked), rules());
    let took = it.until("lock", VerdictState::Sick, MINUTE);
    assert!(took <= 6 * SECOND, "{took:?}");
    let verdict = it.verdict("lock").unwrap();
    assert!(verdict.cannot_run, "asking it to end is pointless");
    assert!(verdict.message.starts_with("all of 8 threads on locks"), "{}", verdict.message);
    // A single thread that could still do something is none.
    let mut it = Bench::watching(
        Looks(|t| {
            let waits = LockWaits { looked_at: 8, on_locks: 7, running: 0 };
            Sample { lock_waits: Some(waits), ..locked(t) }
        }),
        rules(),
    );
    it.after(MINUTE);
    assert!(it.sick().is_empty());
}

#[test]
fn a_livelock_burns_a_core_and_answers_nobody() {
    let spins = |t: f64| {
        let sample = Sample { cpu: seconds(t * 0.98), ..idle() };
        sockets(sample, |it| {
            it.established = 1;
            it.unanswered = Some(Unanswered { connections: 1, longest: seconds(t) });
        })
    };
    let mut it = Bench::watching(Looks(spins), tolerance([("spin", livelock(Progress::Kernel))]));
    let took = it.until("spin", VerdictState::Sick, MINUTE);
    assert!(took <= 12 * SECOND, "{took:?}");
    let message = &it.verdict("spin").unwrap().message;
    assert!(message.starts_with("98% of a core (limit 90%); for 1"), "{message}");
    // Without any socket there is nothing to see progress by.
    let alone = |t: f64| Sample { cpu: seconds(t), sockets: None, ..idle() };
    let mut it = Bench::watching(Looks(alone), tolerance([("spin", livelock(Progress::Kernel))]));
    it.after(MINUTE);
    assert_eq!(it.verdict("spin").unwrap().state, VerdictState::CannotTell);
}

#[test]
fn a_counter_of_the_program_is_progress_by_definition() {
    let rules = || {
        let lasting = 10 * SECOND;
        let stuck =
            Rule::Backlog { queue: 5, connections: None, lasting, progress: notify_counter() };
        tolerance([("stuck", stuck), ("spin", livelock(notify_counter()))])
    };
    // The kernel sees a livelock with a queue that nobody takes.
    let looks = |t: f64| {
        sockets(Sample { cpu: seconds(t), ..idle() }, |it| {
            (it.queue, it.queue_waiting) = (20, Some(seconds(t)));
        })
    };
    let mut it = Bench::watching(Looks(looks), rules());
    let says = |it: &mut Bench<_>, count: u64| {
        let (instance, source) = (crate::watch_bench::instance("web"), CounterSource::Notify);
        it.handle(Input::Counted { instance, run: RunId(1), source, result: Ok(count) });
    };
    for count in 0..100 {
        says(&mut it, count);
        it.after(3 * SECOND);
    }
    assert!(it.sick().is_empty(), "it counts: {:?}", it.sick());
    it.until("stuck", VerdictState::Sick, 14 * SECOND);
    assert!(it.message("stuck").contains("its counter stays at 99"), "{}", it.message("stuck"));
    it.until("spin", VerdictState::Sick, SECOND);
    says(&mut it, 100);
    it.until("stuck", VerdictState::Well, 2 * SECOND);
}

#[test]
fn h18_a_thread_that_stays_in_uninterruptible_sleep_at_one_place_is_reported() {
    let rules = || tolerance([("d", Rule::Uninterruptible { lasting: 10 * SECOND })]);
    let at = |place: String| Sample { uninterruptible: vec![(77, place)], ..idle() };
    let mut it = Bench::watching(Looks(|_| at("rpc_wait_bit_killable".to_owned())), rules());
    let took = it.until("d", VerdictState::Sick, MINUTE);
    assert!(took <= 12 * SECOND, "{took:?}");
    let verdict = it.verdict("d").unwrap();
    assert!(verdict.cannot_run);
    assert!(verdict.message.contains("77 in rpc_wait_bit_killable"), "{}", verdict.message);
    // A busy writer is found at another place each time.
    let mut it = Bench::watching(Looks(|t| at(format!("io{}", (t / 5.0) as u32))), rules());
    it.after(MINUTE);
    assert!(it.sick().is_empty());
}

/// Stopped by a signal after ten seconds: answers nothing.
struct Stopped;

impl World for Stopped {
    fn sample(&mut self, now: Now, _: &InstanceId) -> Result<Sample, String> {
        Ok(Sample { stopped: BEGIN + 10 * SECOND <= now, ..idle() })
    }
    fn probe(&mut self, now: Now, _: &InstanceId) -> (Answer, Duration) {
        let hangs = BEGIN + 10 * SECOND <= now;
        (Answer::Yes, if hangs { 60 * SECOND } else { Duration::from_millis(2) })
    }
}

#[test]
fn h14_a_stopped_process_is_believed_at_its_first_bad_answer() {
    let mut it = Bench::watching(Stopped, tolerance([("ping", answer(5))]));
    it.after(10 * SECOND);
    let took = it.until("ping", VerdictState::Sick, MINUTE);
    assert!(took <= Duration::from_millis(2_100), "a second to ask, a second to wait: {took:?}");
    let verdict = it.verdict("ping").unwrap();
    assert!(verdict.cannot_run, "SIGTERM would wait for ever");
    assert!(verdict.message.starts_with("it is stopped by a signal; 1 bad answer"));
}

#[test]
fn h12_a_detector_of_what_does_not_exist_says_that_it_can_not_tell() {
    let nothing = |_| Sample { sockets: None, lock_waits: None, ..idle() };
    let rules = [
        ("stuck", backlog(5, None, 10)),
        ("lock", Rule::Deadlock { lasting: 10 * SECOND }),
        ("spin", livelock(Progress::Kernel)),
    ];
    let mut it = Bench::watching(Looks(nothing), tolerance(rules));
    it.after(MINUTE);
    for detector in ["stuck", "lock", "spin"] {
        let verdict = it.verdict(detector).unwrap();
        assert_eq!(verdict.state, VerdictState::CannotTell, "{verdict:?}");
    }
}

/// Can't be looked at after ten seconds.
struct Gone;

impl World for Gone {
    fn sample(&mut self, now: Now, _: &InstanceId) -> Result<Sample, String> {
        if now < BEGIN + 10 * SECOND { Ok(idle()) } else { Err("it is gone".to_owned()) }
    }
}

#[test]
fn a_process_that_dies_while_it_is_sampled_is_no_sick_one() {
    let mut it = Bench::watching(Gone, tolerance([("stuck", backlog(1, None, 2))]));
    it.after(MINUTE);
    let verdict = it.verdict("stuck").unwrap();
    assert_eq!((verdict.state, verdict.message.as_str()), (VerdictState::CannotTell, "it is gone"));
}
