//! What a letter looks like: subject and body of the mail.
//!
//! Why plain text: it is read on a telephone at night, quoted into a ticket, and searched for.
//! Invariant: no text of a service gets into the subject's or the body's structure (the reporter
//! has cleaned them); a body is bounded as its letter is.

use crate::cli::output::{Paint, Tone};
use crate::cli::text::{Look, Page, age, between, cut, fit, took};
use base::WallTime;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use supervisor::report::{Entry, Letter, Purpose, Step, Workaround};

/// Columns of a body.
const WIDTH: usize = 76;

/// Columns of a subject line.
const SUBJECT_COLUMNS_MAX: usize = 150;

/// Subjects that are told with all their steps; those behind them by their headline.
const DETAILED_MAX: usize = 8;

/// Rows of the table.
const ROWS_MAX: usize = 60;

/// Where and for whom a text is made.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// This node's name.
    pub(crate) node: String,
    /// How times are shown.
    pub(crate) zone: TimeZone,
}

/// Subject and body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Text {
    /// One line.
    pub(crate) subject: String,
    /// Lines.
    pub(crate) body: String,
}

/// Whether a subject's name stands above what is told of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Heading {
    Shown,
    /// There is only one.
    Left,
}

/// The text of a letter that was written then.
pub(crate) fn render(letter: &Letter, written: WallTime, setting: &Setting) -> Text {
    let subject = cut(&subject(letter, &setting.node), SUBJECT_COLUMNS_MAX);
    let mut page = Page::default();
    head(&mut page, letter, setting);
    let alone = letter.entries.len() == 1 && letter.purpose == Purpose::Incident;
    let heading = if alone { Heading::Left } else { Heading::Shown };
    for entry in letter.entries.iter().take(DETAILED_MAX) {
        detail(&mut page, entry, heading, setting);
    }
    brief(&mut page, letter);
    reminder(&mut page, letter, written, setting);
    table(&mut page, letter, setting);
    page.gap();
    page.line("-- ");
    page.line(format!("holdfast {} on {}", env!("CARGO_PKG_VERSION"), setting.node));
    Text { subject, body: page.text() }
}

/// The mail that `holdfast mail test` sends.
pub(crate) fn test(setting: &Setting) -> Text {
    let mut page = Page::default();
    page.line("This is a test: mail from holdfast arrives here.");
    page.gap();
    para(
        &mut page,
        "You will be told of every restart and replacement, of what is severe, and at \
                     once when a service is given up and needs somebody.",
    );
    page.gap();
    page.line("-- ");
    page.line(format!("holdfast {} on {}", env!("CARGO_PKG_VERSION"), setting.node));
    Text { subject: format!("[holdfast {}] test: mail works", setting.node), body: page.text() }
}

fn subject(letter: &Letter, node: &str) -> String {
    let events = letter.tally.events();
    let told = match letter.entries.first() {
        Some(first) => {
            let headline = &first.headline.message;
            match letter.entries.len() - 1 {
                0 => headline.clone(),
                more => format!("{headline} (and {more} more)"),
            }
        }
        None => format!("{events} events"),
    };
    let what = match letter.purpose {
        Purpose::Page => format!("PAGE: {told}"),
        Purpose::Incident => told,
        Purpose::Digest => format!("digest of {events}: {told}"),
        Purpose::Reminder => match letter.workarounds.as_slice() {
            [one] => format!("reminder: a workaround is in force for {}", one.subject),
            many => format!("reminder: {} workarounds are in force", many.len()),
        },
    };
    format!("[holdfast {node}] {what}")
}

fn head(page: &mut Page, letter: &Letter, setting: &Setting) {
    let alone = letter.entries.len() == 1;
    let what = match letter.purpose {
        Purpose::Page => "A service needs somebody: holdfast can't help it any further.",
        // The one subject's headline says it.
        Purpose::Incident if alone => "",
        Purpose::Incident => "Something has happened, and was dealt with as is told below.",
        Purpose::Digest => "What has happened since the last mail, collected.",
        Purpose::Reminder => {
            "These services only run because holdfast replaces them when they fail. That was meant \
             as a workaround until their fault is found."
        }
    };
    if !what.is_empty() {
        para(page, what);
    }
    if let Some(total) = letter.tally.total().filter(|total| 1 < total.events) {
        let (first, last) = (setting.at(total.first), setting.at(total.last));
        page.line(format!("{} events from {first} to {last}", total.events));
    }
    if 0 < letter.merged {
        let many = letter.merged + 1;
        para(page, &format!("This tells of {many} mails that could not be delivered before."));
    }
}

fn detail(page: &mut Page, entry: &Entry, heading_wanted: Heading, setting: &Setting) {
    if heading_wanted == Heading::Shown {
        heading(page, &entry.subject);
    }
    para(page, &entry.headline.message);
    if let Some(root) = &entry.follows {
        para(page, &format!("It depends on {root}, which had its trouble first: see there."));
    }
    page.gap();
    facts(page, entry, setting);
    page.gap();
    page.line("What happened, and what was done:");
    for step in &entry.steps {
        tell(page, step, setting);
    }
    if 0 < entry.steps_omitted {
        page.line(format!("  … and {} more in between", entry.steps_omitted));
    }
    if !entry.output.is_empty() {
        page.gap();
        page.line("Last output:");
        for line in &entry.output {
            page.line(format!("  | {line}"));
        }
    }
    page.gap();
    page.line("See more:");
    page.line(format!("  {}", more(&entry.subject)));
    if let Some(bundle) = entry.evidence.last() {
        page.line(format!("  holdfast evidence show {bundle}"));
    }
    if entry.urgent && entry.headline.kind != "service.unkillable" {
        page.line("When its cause is mended:");
        page.line(format!("  holdfast service start {}", entry.subject));
    }
}

/// The command that tells more; `why` knows services and holdfast itself.
fn more(subject: &str) -> String {
    match subject.starts_with("duty/") {
        true => format!("holdfast events --subject {subject}"),
        false => format!("holdfast why {subject}"),
    }
}

fn facts(page: &mut Page, entry: &Entry, setting: &Setting) {
    page.line(format!("Node      {}", setting.node));
    page.line(format!("Subject   {}", entry.subject));
    page.line(format!("When      {}", setting.at(entry.headline.last)));
    if let Some(uptime) = entry.uptime {
        page.line(format!("Uptime    {}", took(uptime)));
    }
    for bundle in &entry.evidence {
        page.line(format!("Evidence  {bundle}"));
    }
    if let Some(known) = &entry.workaround {
        page.message(("Note      ", Tone::Plain), (&in_force(known, setting), Tone::Plain), LOOK);
    }
}

fn tell(page: &mut Page, step: &Step, setting: &Setting) {
    let lead = format!("  {}  ", setting.clock(step.last));
    let message = match step.times {
        1 => step.message.clone(),
        times => {
            let first = setting.clock(step.first);
            format!("{} ({times} times since {first})", step.message)
        }
    };
    page.message((&lead, Tone::Plain), (&message, Tone::Plain), LOOK);
}

/// Subjects for which there is no room: their headlines.
fn brief(page: &mut Page, letter: &Letter) {
    let rest = letter.entries.get(DETAILED_MAX..).unwrap_or_default();
    if rest.is_empty() {
        return;
    }
    heading(page, "also");
    for entry in rest {
        page.message(("- ", Tone::Plain), (&entry.headline.message, Tone::Plain), LOOK);
    }
}

fn reminder(page: &mut Page, letter: &Letter, written: WallTime, setting: &Setting) {
    for known in &letter.workarounds {
        page.gap();
        let lasted = age(between(known.since.as_micros(), written.as_micros()));
        let text = format!("{} for {lasted}: {}", known.subject, in_force(known, setting));
        page.message(("- ", Tone::Plain), (&text, Tone::Plain), LOOK);
        let last = format!("last {}: {}", setting.at(known.last), known.cause);
        page.message(("  ", Tone::Plain), (&last, Tone::Plain), LOOK);
    }
    if 0 < letter.workarounds_others {
        let more = letter.workarounds_others;
        page.gap();
        page.line(format!("And {more} replacements of services that do not fit here."));
    }
    if letter.purpose == Purpose::Reminder {
        page.gap();
        para(
            page,
            "See `holdfast status` for how they stand. When a fault is mended, end its \
                    workaround with `holdfast mode SERVICE off`, or in the configuration.",
        );
    }
}

/// A workaround in force, as a sentence.
fn in_force(known: &Workaround, setting: &Setting) -> String {
    let since = setting.at(known.since);
    let times = |times| if times == 1 { "once".to_owned() } else { format!("{times} times") };
    let done = format!("workaround active since {since}, saved the service {}", times(known.saves));
    match (known.saves, known.would_have) {
        (_, 0) => done,
        (0, would) => format!("observed since {since}, would have replaced it {}", times(would)),
        (_, would) => format!("{done}, and would have done so {} more", times(would)),
    }
}

/// Everything, counted: only where the details do not say it anyway.
fn table(page: &mut Page, letter: &Letter, setting: &Setting) {
    let tally = &letter.tally;
    if tally.rows.len() + tally.others.len() < 2 {
        return;
    }
    page.gap();
    page.line(format!("Everything, counted: {} events", tally.events()));
    page.gap();
    page.line("  events  subject            kind                          first     last");
    let mut rows: Vec<_> = tally.rows.iter().collect();
    rows.sort_by_key(|(_, count)| std::cmp::Reverse(count.events));
    let kind = |kind: &str| kind.strip_prefix("service.").unwrap_or(kind).to_owned();
    for ((subject, name), count) in rows.iter().take(ROWS_MAX) {
        let (subject, name) = (fit(subject, 17), fit(&kind(name), 28));
        let (first, last) = (setting.clock(count.first), setting.clock(count.last));
        page.line(format!("{:8}  {subject}  {name}  {first}  {last}", count.events));
    }
    let left = rows.iter().skip(ROWS_MAX);
    let hidden: u64 = left.clone().map(|(_, count)| count.events).sum();
    if 0 < hidden {
        page.line(format!("{hidden:8}  in {} more rows", left.count()));
    }
    for (name, count) in &tally.others {
        page.line(format!("{:8}  {}  {}", count.events, fit("(others)", 17), kind(name)));
    }
}

/// Pages here are plain and narrow.
const LOOK: Look = Look { paint: Paint::PLAIN, width: WIDTH };

fn para(page: &mut Page, text: &str) {
    page.message(("", Tone::Plain), (text, Tone::Plain), LOOK);
}

fn heading(page: &mut Page, name: &str) {
    page.gap();
    let rule = WIDTH.saturating_sub(name.chars().count() + 5);
    page.line(format!("--- {name} {}", "-".repeat(rule)));
    page.gap();
}

impl Setting {
    /// Date, time and zone.
    fn at(&self, wall: WallTime) -> String {
        self.format(wall, "%F %T %Z")
    }

    /// Time of day.
    fn clock(&self, wall: WallTime) -> String {
        self.format(wall, "%T")
    }

    fn format(&self, wall: WallTime, how: &str) -> String {
        let micros = wall.as_micros();
        match Timestamp::from_microsecond(micros) {
            Ok(at) => at.to_zoned(self.zone.clone()).strftime(how).to_string(),
            Err(_) => format!("{micros}us"),
        }
    }
}

#[cfg(test)]
mod tests;
