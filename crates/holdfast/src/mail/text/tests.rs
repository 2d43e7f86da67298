//! What people read, reviewed as golden files.

use super::*;
use base::Now;
use std::time::Duration;
use supervisor::Severity;
use supervisor::report::{Fact, Kept, Policy, Relations, ReportInput, Reporter};

fn setting() -> Setting {
    Setting { node: "n1".into(), zone: TimeZone::UTC }
}

fn fact(second: i64, subject: &str, kind: &str, message: &str) -> Fact {
    Fact {
        wall: WallTime::from_micros(1_767_268_800_000_000 + second * 1_000_000),
        subject: subject.into(),
        kind: format!("service.{kind}"),
        severity: Severity::Warning,
        message: message.into(),
        cause: None,
        uptime: None,
        evidence: None,
        output: Vec::new(),
        planned: false,
        waits: false,
        helped: false,
    }
}

/// What is told of these facts, letter by letter, a minute's window and all.
fn letters(facts: Vec<Fact>) -> Vec<Letter> {
    let policy = Policy { severity: Severity::Error, digest: Duration::from_mins(1) };
    let relations: Relations = [("shop".to_owned(), "store".to_owned())].into_iter().collect();
    let start = facts[0].wall.as_micros();
    let mut now = Now::from_millis(1_000_000);
    let mut reporter = Reporter::new(now, policy, relations, Kept::default());
    let mut letters = Vec::new();
    for fact in facts {
        let at = Duration::from_micros((fact.wall.as_micros() - start) as u64);
        let at = Now::from_millis(1_000_000) + at;
        while let Some(wake) = reporter.next_wake().filter(|wake| *wake <= at) {
            now = wake;
            reporter.handle(now, ReportInput::Tick, &mut letters);
        }
        now = at;
        reporter.handle(now, ReportInput::Fact(Box::new(fact)), &mut letters);
    }
    while let Some(wake) = reporter.next_wake() {
        reporter.handle(wake, ReportInput::Tick, &mut letters);
        if letters.last().is_some_and(|letter| letter.purpose == Purpose::Reminder) {
            break;
        }
    }
    letters
}

fn shown(letters: &[Letter]) -> String {
    let written = fact(200_000, "", "", "").wall;
    let texts = letters.iter().map(|letter| render(letter, written, &setting()));
    let texts = texts.map(|text| format!("Subject: {}\n\n{}", text.subject, text.body));
    texts.collect::<Vec<_>>().join("\n#################\n\n")
}

#[test]
fn h9_a_replacement_is_told_with_cause_evidence_uptime_and_what_was_done() {
    let cause = "memory: 930 MiB resident, the limit is 900 MiB";
    let (uptime, evidence) = (Some(Duration::from_secs(93_784)), Some("shop-7f3a".to_owned()));
    let facts = vec![
        fact(0, "shop", "sick", &format!("shop is sick: {cause}")),
        fact(0, "shop", "replacing", &format!("shop is being replaced: {cause}")),
        Fact {
            evidence: evidence.clone(),
            ..fact(
                2,
                "shop",
                "evidence",
                "evidence of shop is kept: holdfast evidence show shop-7f3a",
            )
        },
        fact(2, "shop", "draining", "shop is out of rotation, 12 connections are open"),
        Fact {
            cause: Some(cause.into()),
            uptime,
            evidence,
            output: vec!["MemoryError in worker 3".into(), "retrying …".into()],
            ..fact(9, "shop", "replaced", &format!("shop was replaced within 9 s: {cause}"))
        },
    ];
    insta::assert_snapshot!(shown(&letters(facts)));
}

#[test]
fn h16_h26_a_page_begins_with_the_root_cause() {
    let page = Fact {
        severity: Severity::Error,
        ..fact(2, "store", "budget_spent", "store is given up: 5 restarts within 1m did not help")
    };
    let facts = vec![
        fact(0, "store", "exited", "store exited with code 3 after 20 ms (pid 4711)"),
        fact(0, "store", "restart_scheduled", "store restarts in 1 s: it exited with code 3"),
        fact(2, "store", "exited", "store exited with code 3 after 18 ms (pid 4790)"),
        page,
        fact(2, "shop", "dependency_down", "shop depends on store, which is down"),
    ];
    insta::assert_snapshot!(shown(&letters(facts)));
}

#[test]
fn h9_a_digest_counts_everything() {
    let mut facts = Vec::new();
    for second in 0..50 {
        for web in 0..=second % 20 {
            let name = format!("web:{web}");
            let message = format!("{name} restarts in 1 s: it exited with code {second}");
            facts.push(fact(second, &name, "restart_scheduled", &message));
        }
    }
    let digest = letters(facts).pop().unwrap();
    insta::assert_snapshot!(shown(&[digest]));
}

#[test]
fn h28_a_reminder_says_since_when_and_how_often() {
    let mut facts: Vec<_> = (0..14)
        .map(|hour| Fact {
            cause: Some("it did not answer: 3 bad answers in a row".into()),
            ..fact(hour * 3_600, "shop", "replaced", "shop was replaced within 9 s")
        })
        .collect();
    facts.push(fact(60_000, "store", "would_replace", "store would have been replaced: slow"));
    let reminder = letters(facts).pop().unwrap();
    insta::assert_snapshot!(shown(&[reminder]));
}

#[test]
fn a_body_is_bounded_whatever_happened() {
    let mut all = Letter::empty(Purpose::Digest);
    for number in 0..3_000 {
        let message = "x".repeat(5_000);
        let one = fact(number, &format!("s{number}"), "replaced", &message);
        for letter in letters(vec![one]) {
            all.merge(letter);
        }
    }
    let text = render(&all, WallTime::default(), &setting());
    assert!(text.body.len() < 64 * 1024, "{} bytes", text.body.len());
    assert!(text.subject.len() < 500);
    assert!(text.body.contains("This tells of"), "{}", text.body);
}
