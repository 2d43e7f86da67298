//! `status`: a table that fits 80 columns, and the verdict as an exit code.

use super::failure::{Code, Failure};
use super::health::{self, shown_state};
use super::output::{Output, Paint, Tone};
use super::text::{self, Look, Page};
use control::{InstanceView, ServiceView, Snapshot};
use std::collections::BTreeMap;
use std::time::Duration;

/// Names longer than this are cut: the rest of the row matters more.
const NAME_COLUMNS_MAX: usize = 26;

/// The longest ordinary state.
const STATE_COLUMNS_MIN: usize = 8;

/// The longest state of all.
const STATE_COLUMNS_MAX: usize = 10;

/// All columns together, with what stands between them, in a terminal of the usual width.
const _: () = assert!(2 + NAME_COLUMNS_MAX + 2 + STATE_COLUMNS_MAX + 2 + 7 + 2 + 7 + 2 + 8 <= 80);

/// `holdfast status [NAME…]`.
pub(crate) fn run(
    output: &Output,
    mut snapshot: Snapshot,
    names: &[String],
) -> Result<Code, Failure> {
    if !names.is_empty() {
        keep_named(&mut snapshot, names)?;
    }
    if output.json {
        output.json(&snapshot)?;
    } else {
        output.page(&render(&snapshot, output.look()))?;
    }
    let well = instances(&snapshot).all(is_as_wanted);
    Ok(if well { Code::Done } else { Code::No })
}

/// All instances of all services, in order.
pub(crate) fn instances(snapshot: &Snapshot) -> impl Iterator<Item = &InstanceView> {
    snapshot.services.iter().flat_map(|service| &service.instances)
}

/// Whether an instance is as somebody wants it to be, now.
pub(crate) fn is_as_wanted(instance: &InstanceView) -> bool {
    if shown_state(instance) == "sick" {
        return false;
    }
    match instance.wish.as_str() {
        "up" => matches!(instance.state.as_str(), "running" | "finished"),
        "down" => matches!(instance.state.as_str(), "stopped" | "finished"),
        "finished" => instance.state == "finished",
        _ => false,
    }
}

/// The sign and the tone of a state; the sign alone must do where there are no colours.
pub(crate) fn sign(state: &str) -> (&'static str, Tone) {
    match state {
        "running" => ("●", Tone::Good),
        "finished" => ("✓", Tone::Good),
        "starting" => ("◐", Tone::Busy),
        "stopping" => ("◑", Tone::Busy),
        "waiting" | "dependency" => ("◌", Tone::Busy),
        "backoff" => ("↻", Tone::Busy),
        "failed" => ("✗", Tone::Bad),
        "sick" => ("✚", Tone::Bad),
        "replacing" => ("⇄", Tone::Busy),
        "draining" => ("▽", Tone::Busy),
        "stopped" => ("○", Tone::Faint),
        _ => ("?", Tone::Bad),
    }
}

/// Leaves only what was asked for; a name that nothing has is a failure.
fn keep_named(snapshot: &mut Snapshot, names: &[String]) -> Result<(), Failure> {
    for name in names {
        let known = |service: &ServiceView| {
            service.name == *name || service.instances.iter().any(|i| i.name == *name)
        };
        if !snapshot.services.iter().any(known) {
            return Err(Failure::no(format!("there is no service or instance called `{name}`"))
                .help("`holdfast status` lists them all"));
        }
    }
    for service in &mut snapshot.services {
        if !names.contains(&service.name) {
            service.instances.retain(|instance| names.contains(&instance.name));
        }
    }
    snapshot.services.retain(|service| !service.instances.is_empty());
    Ok(())
}

/// The whole page.
pub(crate) fn render(snapshot: &Snapshot, look: Look) -> String {
    let mut page = Page::default();
    page.line(header(snapshot, look.paint));
    page.gap();
    table(&mut page, snapshot, look);
    page.gap();
    notices(&mut page, snapshot, look);
    page.gap();
    page.line(summary(snapshot, look.paint));
    page.text()
}

/// What does not work as one would expect, and the remedy.
fn notices(page: &mut Page, snapshot: &Snapshot, look: Look) {
    for duty in snapshot.duties.iter().filter(|duty| duty.state != "running") {
        let mut message = format!("holdfast's own {} is {}", duty.name, duty.state);
        if !duty.reason.is_empty() {
            message = format!("{message}: {}", duty.reason);
        }
        page.message(("! ", Tone::Busy), (&message, Tone::Plain), look);
    }
    for notice in &snapshot.notices {
        page.message(("! ", Tone::Busy), (&notice.message, Tone::Plain), look);
        if !notice.help.is_empty() {
            page.message(("  help: ", Tone::Accent), (&notice.help, Tone::Plain), look);
        }
    }
    if 0 < snapshot.events_lost {
        let lost = format!("{} events could not be written", snapshot.events_lost);
        page.message(("! ", Tone::Bad), (&lost, Tone::Plain), look);
    }
}

fn header(snapshot: &Snapshot, paint: Paint) -> String {
    let up = text::age(text::between(snapshot.started_us, snapshot.taken_us));
    let mut line = paint.tone(Tone::Strong, &snapshot.node);
    line.push_str(&paint.tone(
        Tone::Faint,
        &format!(" · holdfast {} · pid {} · up {up}", snapshot.version, snapshot.pid),
    ));
    if let Some(console) = &snapshot.console {
        line.push_str(&paint.tone(Tone::Faint, " · "));
        line.push_str(&paint.tone(Tone::Accent, console));
    }
    if snapshot.shutting_down {
        line.push_str(&paint.tone(Tone::Busy, " · shutting down"));
    }
    line
}

fn table(page: &mut Page, snapshot: &Snapshot, look: Look) {
    if instances(snapshot).next().is_none() {
        page.line("no services are configured; `holdfast config defaults` shows how");
        return;
    }
    let longest = instances(snapshot).map(|i| text::width(&i.name)).max().unwrap_or(0);
    let name_columns = longest.clamp("SERVICE".len(), NAME_COLUMNS_MAX);
    let longest = instances(snapshot).map(|i| shown_state(i).len()).max().unwrap_or(0);
    let columns = Columns { name: name_columns, state: longest.max(STATE_COLUMNS_MIN) };
    let heading = format!(
        "  {}  {}  {:>7}  {:>7}  {:>8}",
        text::fit("SERVICE", columns.name),
        text::fit("STATE", columns.state),
        "PID",
        "SINCE",
        "RESTARTS"
    );
    page.line(look.paint.tone(Tone::Faint, &heading));
    for instance in instances(snapshot) {
        row(page, instance, snapshot.taken_us, columns, look);
    }
}

/// Widths of the columns that depend on what is in them.
#[derive(Clone, Copy)]
struct Columns {
    name: usize,
    state: usize,
}

fn row(page: &mut Page, instance: &InstanceView, taken_us: i64, columns: Columns, look: Look) {
    let paint = look.paint;
    let state = shown_state(instance);
    let (symbol, tone) = sign(state);
    let pid = instance.pid.map_or("-".to_owned(), |pid| pid.to_string());
    let facts = format!(
        "{pid:>7}  {:>7}  {:>8}",
        text::age(lasting(instance, taken_us)),
        instance.restarts
    );
    let line = format!(
        "{} {}  {}  {facts}",
        paint.tone(tone, symbol),
        paint.tone(Tone::Strong, &text::fit(&instance.name, columns.name)),
        paint.tone(tone, &text::fit(state, columns.state)),
    );
    let used = 2 + columns.name + 2 + columns.state + 2 + facts.len() + 2;
    let note = note(instance);
    if note.is_empty() {
        page.line(line);
    } else if used + text::width(&note) <= look.width {
        page.line(format!("{line}  {}", paint.tone(Tone::Faint, &note)));
    } else {
        // A cause that is cut off helps nobody: it gets lines of its own.
        page.line(line);
        page.message(("    ", Tone::Plain), (&note, Tone::Faint), look);
    }
    for (tone, note) in health::notes(instance, taken_us) {
        page.message(("    ", Tone::Plain), (&note, tone), look);
    }
}

/// How long an instance has been as it is: ready, or in its state.
pub(crate) fn lasting(instance: &InstanceView, taken_us: i64) -> Duration {
    let in_state = || text::between(instance.since_us, taken_us);
    instance.uptime_ms.map_or_else(in_state, Duration::from_millis)
}

/// What is worth a word about an instance: the nearest cause if it is not as wanted, else what it
/// says of itself.
pub(crate) fn note(instance: &InstanceView) -> String {
    let because = instance.because.first().map_or("", |link| link.message.as_str());
    let exit = instance.last_exit.as_deref().unwrap_or("");
    let text = match instance.state.as_str() {
        "running" => instance.status_text.as_str(),
        _ if !because.is_empty() => because,
        _ => exit,
    };
    text::clean(text)
}

fn summary(snapshot: &Snapshot, paint: Paint) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for instance in instances(snapshot) {
        *counts.entry(shown_state(instance)).or_default() += 1;
    }
    let total: usize = counts.values().sum();
    let order = [
        "running",
        "finished",
        "starting",
        "waiting",
        "dependency",
        "backoff",
        "draining",
        "replacing",
        "stopping",
        "sick",
        "failed",
        "stopped",
    ];
    let parts: Vec<String> = order
        .iter()
        .filter_map(|state| {
            let count = counts.get(state)?;
            let text = format!("{count} {state}");
            Some(if *state == "stopped" { text } else { paint.tone(sign(state).1, &text) })
        })
        .collect();
    let off = instances(snapshot).filter(|i| !is_as_wanted(i)).count();
    let noun = if total == 1 { "instance" } else { "instances" };
    let verdict = match off {
        0 => paint.tone(Tone::Good, "everything is as wanted"),
        1 => paint.tone(Tone::Bad, "1 is not as wanted"),
        _ => paint.tone(Tone::Bad, &format!("{off} are not as wanted")),
    };
    format!("{total} {noun}, {verdict}\n{}", parts.join(" · "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples;

    #[test]
    fn the_table_fits_eighty_columns_whatever_the_names() {
        let page = render(&samples::snapshot(), Look { paint: Paint::PLAIN, width: 80 });
        for line in page.lines() {
            assert!(text::width(line) <= 80, "{line}");
        }
        insta::assert_snapshot!(page);
    }

    #[test]
    fn h28_what_is_sick_and_what_is_done_about_it_fits_too() {
        let mut snapshot = samples::snapshot();
        snapshot.services = vec![control::ServiceView {
            name: "some".into(),
            instances: vec![
                samples::plain(),
                samples::sick(),
                samples::replaced(),
                samples::leaking(),
            ],
            ..control::ServiceView::default()
        }];
        let page = render(&snapshot, Look { paint: Paint::PLAIN, width: 80 });
        for line in page.lines() {
            assert!(text::width(line) <= 80, "{line}");
        }
        // The beginning of a workaround is told in the machine's own time zone.
        let zoned = without_time(&page);
        insta::assert_snapshot!(zoned);
    }

    /// Without the time of day, which depends on the machine.
    fn without_time(page: &str) -> String {
        let since = "active since ";
        let (before, after) = page.split_once(since).unwrap();
        format!("{before}{since}DATE TIME{}", &after["2023-11-08 16:00:00".len()..])
    }

    #[test]
    fn an_unknown_name_is_a_failure_and_a_service_name_means_all_its_instances() {
        let mut all = samples::snapshot();
        assert_eq!(keep_named(&mut all, &["nobody".into()]).unwrap_err().code, Code::No);
        keep_named(&mut all, &["web".into()]).unwrap();
        assert_eq!(
            instances(&all).map(|i| i.name.as_str()).collect::<Vec<_>>(),
            ["web:0", "web:1"]
        );
        keep_named(&mut all, &["web:1".into()]).unwrap();
        assert_eq!(instances(&all).count(), 1);
    }

    #[test]
    fn only_what_somebody_wants_otherwise_counts_against_the_verdict() {
        let of = |wish: &str, state: &str| {
            is_as_wanted(&InstanceView {
                wish: wish.into(),
                state: state.into(),
                ..samples::plain()
            })
        };
        for (wish, state) in [("up", "running"), ("down", "stopped"), ("finished", "finished")] {
            assert!(of(wish, state), "{wish} {state}");
        }
        for (wish, state) in [("up", "backoff"), ("up", "waiting"), ("failed", "failed")] {
            assert!(!of(wish, state), "{wish} {state}");
        }
        assert!(!is_as_wanted(&samples::sick()));
        assert!(is_as_wanted(&samples::leaking()));
    }
}
