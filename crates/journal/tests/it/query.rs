//! Questions, retention and readers, against a model that is too simple to be wrong.

use crate::support::{event, events, in_mount_namespace, keep_all, mount_read_only, unmount};
use base::ByteSize;
use control::{EventRecord, Severity};
use journal::{Journal, Order, Query, Retention};
use proptest::prelude::*;
use std::time::Duration;

const SUBJECTS: [&str; 6] = ["web", "web:0", "web:1", "web2", "webx:0", "holdfast"];
const KINDS: [&str; 4] = ["service.exited", "service.ready", "services", "daemon.started"];
const SEVERITIES: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Error];

fn model(all: &[EventRecord], query: &Query) -> Vec<EventRecord> {
    let subject_fits = |record: &EventRecord| {
        query.subject.as_ref().is_none_or(|s| {
            record.subject == *s
                || record.subject.strip_prefix(s).is_some_and(|r| r.starts_with(':'))
        })
    };
    let mut found: Vec<EventRecord> = all
        .iter()
        .filter(|r| query.after_seq.is_none_or(|after| after < r.seq))
        .filter(|r| query.since_us.is_none_or(|since| since <= r.wall_us))
        .filter(|r| query.until_us.is_none_or(|until| r.wall_us < until))
        .filter(|r| query.kind_prefix.as_ref().is_none_or(|p| r.kind.starts_with(p.as_str())))
        .filter(|r| query.severity_min.is_none_or(|least| least <= r.severity))
        .filter(|r| subject_fits(r))
        .cloned()
        .collect();
    if query.order == Order::Descending {
        found.reverse();
    }
    found.truncate(query.limit);
    found
}

fn any_events() -> impl Strategy<Value = Vec<EventRecord>> {
    let one = (0..SUBJECTS.len(), 0..KINDS.len(), 0..SEVERITIES.len(), 0..50_i64, any::<bool>());
    proptest::collection::vec(one, 0..40).prop_map(|drawn| {
        let number = 1..=drawn.len() as u64;
        let made =
            drawn.into_iter().zip(number).map(|((subject, kind, severity, wall, data), n)| {
                let mut record = event(n);
                record.subject = SUBJECTS[subject].into();
                record.kind = KINDS[kind].into();
                record.severity = SEVERITIES[severity];
                record.wall_us = wall;
                if data {
                    record.data.insert("exit".into(), n.into());
                }
                record
            });
        made.collect()
    })
}

fn any_query() -> impl Strategy<Value = Query> {
    let subject = proptest::option::of((0..SUBJECTS.len()).prop_map(|n| SUBJECTS[n].to_owned()));
    let prefix = proptest::option::of(prop_oneof![
        Just("service.".to_owned()),
        Just("service".to_owned()),
        Just("%".to_owned()),
        Just(String::new()),
    ]);
    let severity = proptest::option::of((0..3_usize).prop_map(|n| SEVERITIES[n]));
    let numbers = (
        proptest::option::of(0..45_u64),
        proptest::option::of(0..50_i64),
        proptest::option::of(0..50_i64),
        0..50_usize,
        any::<bool>(),
    );
    (subject, prefix, severity, numbers).prop_map(|(subject, kind_prefix, severity_min, n)| Query {
        after_seq: n.0,
        since_us: n.1,
        until_us: n.2,
        subject,
        kind_prefix,
        severity_min,
        limit: n.3,
        order: if n.4 { Order::Descending } else { Order::Ascending },
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn answers_are_those_of_the_model(
        records in any_events(),
        queries in proptest::collection::vec(any_query(), 1..20),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.sqlite");
        let (mut journal, _) = Journal::open(&path, &keep_all()).unwrap();
        let stored = journal.append(&records).unwrap();
        prop_assert_eq!(stored.len(), records.len());
        // Handed in again: stored once.
        prop_assert_eq!(journal.append(&records).unwrap(), vec![]);
        let reader = Journal::open_read_only(&path).unwrap();
        for query in queries {
            prop_assert_eq!(reader.query(&query).unwrap(), model(&stored, &query), "{:?}", query);
        }
    }
}

#[test]
fn old_events_go_by_age_and_the_oldest_by_size() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.sqlite");
    let day = Duration::from_hours(24);
    let by_age = Retention { age_max: day, size_max: ByteSize(u64::MAX) };
    let (mut journal, _) = Journal::open(&path, &by_age).unwrap();
    let mut records = events(1..=20_000);
    for record in &mut records {
        record.message = "x".repeat(100);
    }
    journal.append(&records).unwrap();
    // Event n has second n: the first 7,000 are older than a day now.
    let now = day.as_micros() as i64 + 7_001 * 1_000_000;
    assert_eq!(journal.prune(now).unwrap(), 7_000);
    let first = Query { limit: 1, ..Query::default() };
    assert_eq!(journal.query(&first).unwrap()[0].seq, 7_001);
    assert_eq!(journal.prune(now).unwrap(), 0);

    let before = journal.used_bytes().unwrap();
    let size_max = ByteSize(before / 2);
    journal.retain(&Retention { age_max: Duration::MAX, size_max });
    assert!(0 < journal.prune(now).unwrap());
    let used = journal.used_bytes().unwrap();
    assert!(used <= size_max.0 && size_max.0 / 2 < used, "{used} of {size_max}");
    let on_disk = std::fs::metadata(&path).unwrap().len();
    assert!(on_disk <= size_max.0 + 64 * 1024, "space goes back to the disk: {on_disk}");
    let newest = Query { limit: 1, order: Order::Descending, ..Query::default() };
    assert_eq!(journal.query(&newest).unwrap()[0].seq, 20_000);
    assert_eq!(journal.append(&events([30_000])).unwrap()[0].seq, 20_001, "numbers go on");
}

#[test]
fn a_journal_can_be_read_by_those_who_may_write_nothing() {
    const HERE: &str = "query::a_journal_can_be_read_by_those_who_may_write_nothing";
    if !in_mount_namespace(HERE) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a b%#?.sqlite");
    let (mut journal, _) = Journal::open(&path, &keep_all()).unwrap();
    journal.append(&events(1..=3)).unwrap();
    let read = || Journal::open_read_only(&path).and_then(|read| read.query(&Query::default()));
    // Beside a writer, and after it.
    assert_eq!(read().unwrap().len(), 3);
    mount_read_only(dir.path());
    assert!(std::fs::write(dir.path().join("x"), "x").is_err(), "it can be written");
    assert_eq!(read().unwrap().len(), 3);
    unmount(dir.path());
    drop(journal);
    mount_read_only(dir.path());
    // SQLite's companions are gone, and can't be made.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(read().unwrap().len(), 3);
    assert!(Journal::open_read_only(&dir.path().join("absent.sqlite")).is_err());
    unmount(dir.path());
}
