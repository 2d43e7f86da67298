//! Pools of listeners: who gets what, and when an event comes again.

use super::*;
use proptest::prelude::*;

const NOW: Now = Now::from_nanos(1_000_000_000);

fn tick(when: i64) -> Arc<Payload> {
    Arc::new(Payload::Tick { tick: EventName::Tick60, when })
}

fn group(name: &str) -> Arc<Payload> {
    Arc::new(Payload::GroupAdded(name.into()))
}

fn pool(limit: usize) -> Pool {
    let mut pool = Pool::new("mails", "super visor:1");
    pool.configure([EventName::Event].into(), limit, &mut Vec::new());
    pool
}

/// What was sent: to whom, and the payload.
fn sent(out: &[PoolOutput]) -> Vec<(&str, &str)> {
    let sent = out.iter().filter_map(|output| match output {
        PoolOutput::Send { member, bytes, .. } => {
            let (_, payload) = std::str::from_utf8(bytes).unwrap().split_once('\n').unwrap();
            Some((member.as_str(), payload))
        }
        PoolOutput::Dropped(_) | PoolOutput::Confused { .. } => None,
    });
    sent.collect()
}

struct Driver {
    pool: Pool,
    serial: u64,
}

impl Driver {
    fn offer(&mut self, payload: &Arc<Payload>) -> Vec<PoolOutput> {
        let mut out = Vec::new();
        self.serial += 1;
        self.pool.offer(NOW, self.serial, payload, Some(self.serial), &mut out);
        out
    }

    fn hear(&mut self, now: Now, member: &str, text: &str) -> Vec<PoolOutput> {
        let mut out = Vec::new();
        self.pool.hear(now, member, 1, text.as_bytes(), &mut out);
        out
    }

    fn join(&mut self, member: &str) {
        self.pool.join(NOW, member, 1, TalkState::Acknowledged, &mut Vec::new());
    }
}

#[test]
fn an_event_is_sent_to_whoever_is_ready_in_supervisords_words() {
    let mut driver = Driver { pool: pool(10), serial: 20 };
    driver.join("mails");
    assert_eq!(sent(&driver.offer(&group("wäb"))), []);
    let out = driver.hear(NOW, "mails", "READY\n");
    let [PoolOutput::Send { bytes, run: 1, .. }] = &out[..] else { panic!("{out:?}") };
    let expect = "ver:3.0 server:super_visor_1 serial:21 pool:mails poolserial:0 \
                  eventname:PROCESS_GROUP_ADDED len:13\ngroupname:wäb";
    assert_eq!(std::str::from_utf8(bytes).unwrap(), expect);
    assert_eq!(driver.pool.unsettled(), Some(21));
    driver.hear(NOW, "mails", "RESULT 2\nOK");
    assert_eq!(driver.pool.unsettled(), None);
}

#[test]
fn a_failed_event_comes_again_later_and_before_all_others() {
    let mut driver = Driver { pool: pool(10), serial: 0 };
    driver.join("mails");
    driver.hear(NOW, "mails", "READY\n");
    driver.offer(&group("a"));
    driver.offer(&group("b"));
    assert_eq!(sent(&driver.hear(NOW, "mails", "RESULT 4\nFAILREADY\n")), []);
    let later = driver.pool.next_wake().unwrap();
    assert_eq!(later, NOW + REDELIVER_PAUSE);
    let mut out = Vec::new();
    driver.pool.tick(later, &mut out);
    assert_eq!(sent(&out), [("mails", "groupname:a")]);
    let out = driver.hear(later, "mails", "RESULT 2\nOKREADY\n");
    assert_eq!(sent(&out), [("mails", "groupname:b")]);
    assert_eq!(driver.pool.next_wake(), None);
}

#[test]
fn what_a_dead_listener_worked_on_goes_to_its_next_run() {
    let mut driver = Driver { pool: pool(10), serial: 0 };
    driver.join("mails");
    driver.hear(NOW, "mails", "READY\n");
    driver.offer(&group("a"));
    let mut out = Vec::new();
    driver.pool.join(NOW, "mails", 2, TalkState::Acknowledged, &mut out);
    assert_eq!(driver.hear(NOW, "mails", "READY\n"), [], "the words of an earlier run");
    driver.pool.hear(NOW, "mails", 2, b"READY\n", &mut out);
    assert_eq!(sent(&out), [("mails", "groupname:a")]);
}

#[test]
fn each_event_goes_to_one_of_several() {
    let mut driver = Driver { pool: pool(10), serial: 0 };
    for member in ["mails:0", "mails:1"] {
        driver.join(member);
        driver.hear(NOW, member, "READY\n");
    }
    assert_eq!(sent(&driver.offer(&group("a"))), [("mails:0", "groupname:a")]);
    assert_eq!(sent(&driver.offer(&group("b"))), [("mails:1", "groupname:b")]);
    assert_eq!(sent(&driver.offer(&group("c"))), []);
    let out = driver.hear(NOW, "mails:1", "RESULT 2\nOKREADY\n");
    assert_eq!(sent(&out), [("mails:1", "groupname:c")]);
}

#[test]
fn nonsense_ends_it_and_its_event_is_kept() {
    let mut driver = Driver { pool: pool(10), serial: 0 };
    driver.join("mails");
    driver.hear(NOW, "mails", "READY\n");
    driver.offer(&group("a"));
    let out = driver.hear(NOW, "mails", "Traceback\n");
    let said = "Traceback\\n".to_owned();
    assert_eq!(out, [PoolOutput::Confused { member: "mails".into(), said }]);
    assert_eq!(driver.hear(NOW, "mails", "READY\n"), []);
    assert_eq!(driver.pool.members().next(), Some(("mails", 1, TalkState::Unknown)));
    driver.join("mails");
    assert_eq!(sent(&driver.hear(NOW, "mails", "READY\n")), [("mails", "groupname:a")]);
}

#[test]
fn the_oldest_makes_way_and_is_counted_but_a_tick_only_for_a_tick() {
    let mut driver = Driver { pool: pool(2), serial: 0 };
    driver.offer(&group("a"));
    driver.offer(&tick(60));
    assert_eq!(driver.offer(&tick(120)), []);
    let dropped = Dropped { event: EventName::ProcessGroupAdded, serial: 1 };
    assert_eq!(driver.offer(&group("b")), [PoolOutput::Dropped(dropped)]);
    driver.join("mails");
    assert_eq!(sent(&driver.hear(NOW, "mails", "READY\n")), [("mails", "when:120")]);
    assert_eq!((driver.pool.dropped(), driver.pool.waiting()), (1, 1));
}

#[test]
fn what_it_does_not_want_is_none_of_its_business() {
    let mut driver = Driver { pool: pool(2), serial: 0 };
    let mut out = Vec::new();
    driver.pool.configure([EventName::Tick].into(), 2, &mut out);
    driver.offer(&group("a"));
    assert_eq!((driver.pool.waiting(), driver.pool.unsettled()), (0, None));
    assert_eq!(driver.pool.next_serial, 0);
}

#[derive(Clone, Debug)]
enum Step {
    Offer(bool),
    Join(u8),
    Leave(u8),
    Hear(u8, &'static str),
    Wait,
}

fn any_step() -> impl Strategy<Value = Step> {
    const WORDS: &[&str] =
        &["READY\n", "RESULT 2\nOK", "RESULT 4\nFAIL", "RESULT 2\nOKREADY\n", "oops"];
    prop_oneof![
        any::<bool>().prop_map(Step::Offer),
        (0..3_u8).prop_map(Step::Join),
        (0..3_u8).prop_map(Step::Leave),
        (0..3_u8, prop::sample::select(WORDS)).prop_map(|(who, what)| Step::Hear(who, what)),
        Just(Step::Wait),
    ]
}

proptest! {
    /// In = done + dropped + replaced by a later tick + still here.
    #[test]
    fn no_event_vanishes(steps in prop::collection::vec(any_step(), 0..200), limit in 0..5_usize) {
        let mut pool = pool(limit);
        let (mut now, mut serial, mut done, mut replaced) = (NOW, 0, 0, 0);
        for step in steps {
            let mut out = Vec::new();
            let working = |pool: &Pool| pool.members.values().filter(|m| m.works_on.is_some()).count();
            match step {
                Step::Offer(is_tick) => {
                    let payload = if is_tick { tick(1) } else { group("a") };
                    let waits = |e: &&Envelope| is_tick && e.payload.name() == EventName::Tick60;
                    replaced += pool.waiting.iter().filter(waits).count();
                    serial += 1;
                    pool.offer(now, serial, &payload, Some(serial), &mut out);
                }
                Step::Join(who) => pool.join(now, &who.to_string(), 1, TalkState::Acknowledged, &mut out),
                Step::Leave(who) => pool.leave(now, &who.to_string(), &mut out),
                Step::Hear(who, what) => {
                    let member = pool.members.get(&who.to_string());
                    let busy = member.is_some_and(|m| m.talk.state() == TalkState::Busy);
                    done += usize::from(busy && what.contains("OK"));
                    pool.hear(now, &who.to_string(), 1, what.as_bytes(), &mut out);
                }
                Step::Wait => {
                    now = now + REDELIVER_PAUSE;
                    pool.tick(now, &mut out);
                }
            }
            prop_assert!(pool.waiting.len() <= limit);
            let here = pool.waiting.len() + working(&pool) + done + replaced;
            prop_assert_eq!(here as u64 + pool.dropped, serial);
            for member in pool.members.values() {
                let busy = member.talk.state() == TalkState::Busy;
                prop_assert_eq!(busy, member.works_on.is_some());
            }
        }
    }
}

/// However many events a listener lets wait: output that waits has a bound in bytes, too.
#[test]
fn h27_output_that_waits_is_bounded_in_bytes() {
    let mut driver = Driver { pool: pool(100_000), serial: 0 };
    let name = crate::ProcessName::of("web");
    let text = "x".repeat(64 * 1024);
    let log = Arc::new(Payload::Log { name, pid: 1, is_error: false, text });
    let fit = OUTPUT_BYTES_MAX / (64 * 1024);
    for _ in 0..fit {
        assert_eq!(driver.offer(&log), []);
    }
    let out = driver.offer(&log);
    assert!(matches!(out.as_slice(), [PoolOutput::Dropped(_)]), "the oldest makes way");
    assert_eq!((driver.pool.waiting(), driver.pool.dropped()), (fit, 1));
    // What is short has room all the same, and what was sent makes room.
    assert_eq!(driver.offer(&group("web")), []);
    driver.join("a");
    assert_eq!(driver.hear(NOW, "a", "READY\n").len(), 1);
    assert_eq!(driver.offer(&log), []);
}
