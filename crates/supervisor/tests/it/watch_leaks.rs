//! Leaks: limits, shares, and exhaustion that is foretold.

use crate::watch_bench::{
    BEGIN, Bench, HOUR, LeakBut, MIB, MINUTE, SECOND, World, calm_host, idle, leak, tolerance,
};
use base::{InstanceId, Now, Rng};
use std::path::PathBuf;
use std::time::Duration;
use supervisor::watch::{DiskSample, HostSample, Sample, SocketSample, VerdictState};
use supervisor::{LeakResource, Rule, Tolerance};

const GIB: u64 = 1 << 30;

/// A service that holds memory, by the time since the test began in minutes; and how busy it is.
pub(crate) struct Holds<F> {
    pub(crate) bytes: F,
    pub(crate) cpu: Duration,
    pub(crate) before: Now,
    /// Hundredths of a core, by the time in minutes.
    pub(crate) busy: fn(f64) -> f64,
}

impl<F: FnMut(f64) -> f64> Holds<F> {
    pub(crate) fn new(bytes: F) -> Self {
        Self { bytes, cpu: Duration::ZERO, before: BEGIN, busy: |_| 10.0 }
    }
}

fn minutes(now: Now) -> f64 {
    now.since(BEGIN).as_secs_f64() / 60.0
}

impl<F: FnMut(f64) -> f64> World for Holds<F> {
    fn sample(&mut self, now: Now, _: &InstanceId) -> Result<Sample, String> {
        let share = (self.busy)(minutes(now)) / 100.0;
        self.cpu += now.since(self.before).mul_f64(share);
        self.before = now;
        let memory = Some((self.bytes)(minutes(now)).max(0.0) as u64);
        Ok(Sample { memory, cpu: self.cpu, ..idle() })
    }
}

/// Each five seconds.
fn memory(rule: impl FnOnce(Rule) -> Rule) -> Tolerance {
    let mut settings = tolerance([("memory", rule(leak(LeakResource::Memory)))]);
    settings.interval = 5 * SECOND;
    settings
}

#[test]
fn h7_a_limit_is_believed_on_the_second_look() {
    let limit = 500 * (1 << 20);
    let rise = |t: f64| if t < 2.0 { 400.0 * MIB } else { 501.0 * MIB };
    let mut it = Bench::watching(Holds::new(rise), memory(|it| it.limit(limit)));
    it.after(119 * SECOND);
    let took = it.until("memory", VerdictState::Sick, MINUTE);
    assert!(took <= 3 * SECOND, "the second look comes soon: {took:?}");
    let verdict = it.verdict("memory").unwrap();
    assert_eq!(verdict.message, "501 MiB of memory: at least 500 MiB (its limit)");
    assert!(verdict.relieves);
    // A process that starts another one holds twice its memory for a moment.
    let spike = |t: f64| if (t * 60.0) % 20.0 < 0.5 { 900.0 * MIB } else { 400.0 * MIB };
    let mut it = Bench::watching(Holds::new(spike), memory(|it| it.limit(limit)));
    it.after(HOUR);
    assert!(it.sick().is_empty());
}

#[test]
fn h7_it_is_well_again_when_it_holds_less() {
    let falls = |t: f64| if t < 1.0 { 600.0 * MIB } else { 100.0 * MIB };
    let mut it = Bench::watching(Holds::new(falls), memory(|it| it.limit(500 * (1 << 20))));
    it.until("memory", VerdictState::Sick, 10 * SECOND);
    it.after(50 * SECOND);
    let took = it.until("memory", VerdictState::Well, MINUTE);
    assert!((5 * SECOND..16 * SECOND).contains(&took), "{took:?}");
}

/// Holds the same all the time, and can't be looked at for a while.
struct Hidden;

impl World for Hidden {
    fn sample(&mut self, now: Now, _: &InstanceId) -> Result<Sample, String> {
        let gone = (1.0..2.0).contains(&minutes(now));
        let sample = Sample { memory: Some(100 << 20), ..idle() };
        if gone { Err("nobody can look".to_owned()) } else { Ok(sample) }
    }
}

#[test]
fn h3_what_is_unchanged_is_told_again_after_a_time_in_which_nobody_could_look() {
    let mut it = Bench::watching(Hidden, memory(|it| it.limit(500 * (1 << 20))));
    it.after(50 * SECOND);
    let before = it.verdict("memory").unwrap().clone();
    assert_eq!(before.state, VerdictState::Well);
    it.until("memory", VerdictState::CannotTell, MINUTE);
    it.until("memory", VerdictState::Well, 2 * MINUTE);
    let after = it.verdict("memory").unwrap();
    assert_eq!((&after.message, &after.measured), (&before.message, &before.measured));
}

/// Holds so much of a machine that has so much left, in MiB.
struct Tight {
    holds: u64,
    left: u64,
    group: Option<u64>,
}

impl World for Tight {
    fn sample(&mut self, _: Now, _: &InstanceId) -> Result<Sample, String> {
        let memory_limit = self.group.map(|limit| limit << 20);
        Ok(Sample { memory: Some(self.holds << 20), memory_limit, ..idle() })
    }
    fn host(&mut self, _: Now) -> HostSample {
        HostSample { memory_total: 4 * GIB, memory_available: self.left << 20, ..calm_host() }
    }
}

#[test]
fn h3_a_share_is_one_of_what_the_machine_really_has_available() {
    let check = |holds, left, group, wanted| {
        let mut it = Bench::watching(Tight { holds, left, group }, memory(|it| it.share(80)));
        it.after(MINUTE);
        assert_eq!(it.verdict("memory").unwrap().state, wanted, "{}", it.message("memory"));
        it.message("memory")
    };
    // 3.2 of 4 GiB are too much, but not if only 1 GiB is in use.
    check(3_300, 400, None, VerdictState::Sick);
    check(1_000, 2_000, None, VerdictState::Well);
    // The same 1 GiB is too much if others hold the rest.
    let message = check(980, 200, None, VerdictState::Sick);
    assert_eq!(message, "980 MiB of memory: at least 944 MiB (80% of 1.15 GiB)");
    // The control group's limit is nearer.
    check(1_000, 2_000, Some(1_200), VerdictState::Sick);
    check(900, 2_000, Some(1_200), VerdictState::Well);
}

#[test]
fn h16_who_holds_little_is_not_blamed_for_what_the_machine_lacks() {
    let mut it =
        Bench::watching(Tight { holds: 40, left: 1, group: None }, memory(|it| it.share(80)));
    it.after(MINUTE);
    assert_eq!(it.verdict("memory").unwrap().state, VerdictState::Well);
}

/// Everything that is no memory, growing by one a second from this.
struct Counts(u64);

impl World for Counts {
    fn sample(&mut self, now: Now, _: &InstanceId) -> Result<Sample, String> {
        let number = self.0 + now.since(BEGIN).as_secs();
        let sockets = SocketSample { close_wait: number as u32, ..idle().sockets.unwrap() };
        Ok(Sample {
            // Children that nobody collects, most of them.
            threads: 100,
            zombies: number as u32 - 100,
            threads_limit: Some(1_000),
            descriptors: Some((number, 1_024)),
            swap: Some(number << 20),
            sockets: Some(sockets),
            ..idle()
        })
    }
    fn host(&mut self, _: Now) -> HostSample {
        HostSample { swap_total: 1 << 30, swap_free: 600 << 20, ..calm_host() }
    }
    fn disk(&mut self, now: Now) -> Result<DiskSample, String> {
        Ok(DiskSample { used: self.0 + now.since(BEGIN).as_secs(), total: 1_000 })
    }
}

#[test]
fn h3_every_resource_has_its_limit_and_its_share() {
    let disk = LeakResource::Disk(PathBuf::from("/srv"));
    let rules = [
        ("threads", leak(LeakResource::Threads).share(80)),
        ("descriptors", leak(LeakResource::Descriptors).share(80)),
        ("swap", leak(LeakResource::Swap).share(50)),
        ("close_wait", leak(LeakResource::CloseWait).limit(750)),
        ("disk", leak(disk).share(90)),
    ];
    let mut it = Bench::watching(Counts(600), tolerance(rules));
    it.after(400 * SECOND);
    let first = |name: &str| {
        let sick = it.sick().into_iter().find(|(_, verdict)| verdict.detector == name);
        let (at, verdict) = sick.unwrap();
        assert_eq!(verdict.kind, name);
        (600 + at.since(BEGIN).as_secs(), verdict.message.clone())
    };
    let within = |found: u64, wanted: u64| (wanted + 1..=wanted + 2).contains(&found);
    let (at, message) = first("threads");
    assert!(within(at, 800), "{at}");
    assert!(message.ends_with("threads and zombies: at least 800 (80% of 1000)"), "{message}");
    assert!(within(first("descriptors").0, 820));
    assert!(within(first("close_wait").0, 750));
    // Half of what it holds and of what is left: 600 of 1200 MiB.
    assert!(within(first("swap").0, 600), "{:?}", first("swap"));
    let (at, message) = first("disk");
    assert!(within(at, 900), "{at}");
    assert!(message.contains("used below /srv: at least 900 B (90% of 0.98 KiB)"), "{message}");
}

/// What became of a leak: minutes before its limit was reached, at which it was first foretold and
/// at which it was called sick.
pub(crate) struct Lead {
    pub(crate) foretold: f64,
    pub(crate) sick: f64,
}

/// A leak of `rate` MiB a minute with breathing of `noise` MiB above it, from 300 MiB to `limit`.
fn lead(rate: f64, noise: f64, limit: f64, window: Duration, seed: u64) -> Lead {
    let mut rng = Rng::new(seed);
    let mut drawn = move || rng.below(1_000) as f64 / 1_000.0;
    // A garbage collector that gives back every ninety seconds, and noise on top.
    let bytes = move |t: f64| {
        let breath = (t / 1.5).fract() * noise;
        (300.0 + rate * t + breath + drawn() * noise / 4.0) * MIB
    };
    let rule = |it: Rule| it.limit((limit * MIB) as u64).trend(window, 30 * MINUTE);
    let mut it = Bench::watching(Holds::new(bytes), memory(rule));
    let end = (limit - 300.0) / rate;
    let mut foretold = None;
    for _ in 0..(end * 12.0) as u32 {
        it.after(5 * SECOND);
        let near = |it: &supervisor::watch::Verdict| {
            it.exhausted_in.is_some_and(|left| left <= 30 * MINUTE)
        };
        if foretold.is_none() && it.verdict("memory").is_some_and(near) {
            foretold = Some(end - minutes(it.now));
        }
    }
    let sick = it.sick();
    let sick = sick.first().map_or(f64::NAN, |(at, _)| end - minutes(*at));
    Lead { foretold: foretold.unwrap_or(f64::NAN), sick }
}

#[test]
fn h3_a_leak_of_one_mib_a_minute_is_foretold_ten_minutes_before_the_limit() {
    for (rate, noise, limit, window) in [
        (1.0, 0.0, 600.0, 60),
        (1.0, 5.0, 600.0, 60),
        (1.0, 20.0, 600.0, 60),
        (2.0, 40.0, 900.0, 60),
        (5.0, 20.0, 900.0, 30),
        (10.0, 100.0, 1_200.0, 30),
        (30.0, 100.0, 2_000.0, 20),
    ] {
        for seed in 0..3 {
            let lead = lead(rate, noise, limit, window * MINUTE, seed);
            println!(
                "{rate} MiB/min, {noise} MiB of noise, {window} min: foretold {:.1}, sick {:.1} min before",
                lead.foretold, lead.sick
            );
            assert!(10.0 <= lead.foretold && 10.0 <= lead.sick);
        }
    }
}
