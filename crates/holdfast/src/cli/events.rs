//! `events`: the journal, and what is added to it.
//!
//! Asked of the console first, because it knows the newest; where that can't be reached, the
//! journal's file is read directly, and new events come from the root itself.

use super::args::{EventsArgs, Global, SeverityArg};
use super::client::Client;
use super::failure::{Code, Failure};
use super::http::{Api, Next, encode};
use super::output::{Output, Paint, Tone};
use super::{locate, text};
use control::{EventRecord, Request, Severity};
use journal::{Journal, Order, Query};
use serde::Deserialize;
use std::time::{Duration, Instant};

/// How long one wait for a pushed event lasts; the next one follows.
const LISTEN: Duration = Duration::from_hours(1);

/// An answer of the API.
#[derive(Deserialize)]
struct Page {
    events: Vec<EventRecord>,
    #[serde(default)]
    last_seq: u64,
}

/// `holdfast events`.
pub(crate) fn run(output: &Output, global: &Global, args: &EventsArgs) -> Result<Code, Failure> {
    let since_us = match &args.since {
        Some(when) => Some(text::parse_when(when, text::wall_now_us()).map_err(Failure::usage)?),
        None => None,
    };
    let api = Api::beside(&locate::control_socket(global)?);
    match page(&api, args, since_us) {
        Ok(page) => {
            show(output, page.events.iter().rev())?;
            if args.follow {
                follow(output, &api, args, page.last_seq)?;
            }
        }
        Err(failure) if failure.code == Code::CannotTell => {
            output.note(&format!("{}; reading the journal's file", failure.message));
            show(output, from_file(global, args, since_us)?.iter().rev())?;
            if args.follow {
                follow_root(output, global, args)?;
            }
        }
        Err(failure) => return Err(failure),
    }
    Ok(Code::Done)
}

/// The newest events that fit, newest first.
fn page(api: &Api, args: &EventsArgs, since_us: Option<i64>) -> Result<Page, Failure> {
    let mut path = format!("/api/v1/events?order=desc&limit={}{}", args.limit, filter(args));
    if let Some(since) = since_us {
        path.push_str("&since=");
        path.push_str(&since.to_string());
    }
    serde_json::from_slice(&api.get(&path)?)
        .map_err(|why| Failure::cannot_tell(format!("the console's answer can't be read: {why}")))
}

fn filter(args: &EventsArgs) -> String {
    let subject = args.subject.iter().map(|subject| format!("&subject={}", encode(subject)));
    let severity =
        args.severity.iter().map(|level| format!("&severity={}", severity(*level).as_str()));
    subject.chain(severity).collect()
}

fn follow(output: &Output, api: &Api, args: &EventsArgs, last_seq: u64) -> Result<(), Failure> {
    let path = format!("/api/v1/events/stream?{}", filter(args).trim_start_matches('&'));
    api.stream(path.trim_end_matches('?'), Some(last_seq), |pushed| {
        match pushed.kind.as_str() {
            "lagged" => output.note("we were too slow: some events were left out here"),
            _ => {
                if let Ok(event) = serde_json::from_str::<EventRecord>(&pushed.data) {
                    show(output, std::iter::once(&event))?;
                }
            }
        }
        Ok(Next::More)
    })?;
    Err(Failure::cannot_tell("the console ended the stream").help("run the same command again"))
}

/// The journal as it stands on disk, newest first.
fn from_file(
    global: &Global,
    args: &EventsArgs,
    since_us: Option<i64>,
) -> Result<Vec<EventRecord>, Failure> {
    let path = locate::state_dir(global)?.join("journal.sqlite");
    let cannot = |why: journal::JournalError| Failure::cannot_tell(why);
    let query = Query {
        since_us,
        subject: args.subject.clone(),
        severity_min: args.severity.map(severity),
        limit: args.limit as usize,
        order: Order::Descending,
        ..Query::default()
    };
    Journal::open_read_only(&path).and_then(|journal| journal.query(&query)).map_err(cannot)
}

/// What the root pushes; the journal's numbers are not known there.
fn follow_root(output: &Output, global: &Global, args: &EventsArgs) -> Result<(), Failure> {
    let mut client = Client::connect(&locate::control_socket(global)?)?;
    client.ask(Request::Subscribe)?;
    loop {
        if let Some(event) = client.event(Instant::now() + LISTEN)?
            && fits(&event, args)
        {
            show(output, std::iter::once(&event))?;
        }
    }
}

fn fits(event: &EventRecord, args: &EventsArgs) -> bool {
    let about = |subject: &String| {
        event.subject == *subject
            || event.subject.split_once(':').is_some_and(|(service, _)| service == subject)
    };
    let severe = |least: SeverityArg| severity(least) <= event.severity;
    args.subject.as_ref().is_none_or(about) && args.severity.is_none_or(severe)
}

fn severity(level: SeverityArg) -> Severity {
    match level {
        SeverityArg::Info => Severity::Info,
        SeverityArg::Warning => Severity::Warning,
        SeverityArg::Error => Severity::Error,
    }
}

fn show<'a>(output: &Output, events: impl Iterator<Item = &'a EventRecord>) -> Result<(), Failure> {
    let today_us = text::wall_now_us();
    for event in events {
        if output.json {
            output.json_line(event)?;
        } else {
            output.line(&render(event, today_us, output.paint))?;
        }
    }
    Ok(())
}

/// One event on one line.
pub(crate) fn render(event: &EventRecord, today_us: i64, paint: Paint) -> String {
    let (sign, tone) = match event.severity {
        Severity::Info => ("·", Tone::Faint),
        Severity::Warning => ("!", Tone::Busy),
        Severity::Error => ("✗", Tone::Bad),
    };
    let message_tone = if event.severity == Severity::Info { Tone::Plain } else { tone };
    format!(
        "{}  {} {}  {}",
        paint.tone(Tone::Faint, &text::local_time(event.wall_us, today_us)),
        paint.tone(tone, sign),
        paint.tone(Tone::Strong, &text::fit(&text::clean(&event.subject), SUBJECT_COLUMNS)),
        paint.tone(message_tone, &text::clean(&event.message)),
    )
}

/// Longer names push the message to the right rather than being cut in every line.
const SUBJECT_COLUMNS: usize = 14;

#[cfg(test)]
mod tests {
    use super::*;

    fn event(subject: &str, severity: Severity) -> EventRecord {
        EventRecord {
            seq: 1,
            source: "root".into(),
            source_seq: 1,
            wall_us: 0,
            mono_ns: 0,
            node: "n".into(),
            subject: subject.into(),
            kind: "service.exited".into(),
            severity,
            message: "web exited with code 1 after 3.2 s (pid 123)".into(),
            data: serde_json::Map::new(),
        }
    }

    #[test]
    fn an_event_is_one_line() {
        let line =
            render(&event("web", Severity::Warning), i64::from(i32::MAX) * 1_000_000, Paint::PLAIN);
        let expect = "! web             web exited with code 1 after 3.2 s (pid 123)";
        assert!(line.ends_with(expect), "{line}");
        assert!(line.starts_with("1970-01-01 ") || line.starts_with("1969-12-31 "), "{line}");
    }

    #[test]
    fn a_service_name_means_its_instances_and_a_severity_means_worse_ones_too() {
        let args = |subject: &str, severity| EventsArgs {
            follow: true,
            since: None,
            subject: Some(subject.into()),
            severity,
            limit: 1,
        };
        assert!(fits(&event("web:1", Severity::Error), &args("web", Some(SeverityArg::Warning))));
        assert!(!fits(&event("web:1", Severity::Info), &args("web", Some(SeverityArg::Warning))));
        assert!(!fits(&event("web2", Severity::Info), &args("web", None)));
        assert!(!fits(&event("web", Severity::Info), &args("web:1", None)));
    }
}
