//! `mail test|queue`: whether mail works, and what waits.
//!
//! Neither needs the daemon: a test talks to the mail server itself, as the configuration says, and
//! the queue is read from the state directory.

use super::args::Global;
use super::failure::{Code, Failure};
use super::locate;
use super::output::{Output, Tone};
use super::text::{self, Page};
use crate::mail::message::{self, Headers};
use crate::mail::smtp::Answers;
use crate::mail::spool::{self, Mail};
use crate::mail::status;
use crate::mail::text::Setting;
use crate::mail::{Post, post};
use crate::paths::Paths;
use clap::Subcommand;
use config::{Config, MailSettings};
use control::MailView;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// `holdfast mail …`.
#[derive(Subcommand, Debug)]
pub(crate) enum MailCommand {
    /// Send a test mail now, and tell what the mail server says
    #[command(after_help = "Exits with 1 if a recipient does not get it.\n\n\
                            Examples:\n  holdfast mail test\n  holdfast mail test --to me@example.org")]
    Test {
        /// Only to this address instead of those in the configuration
        #[arg(long, value_name = "ADDRESS")]
        to: Option<String>,
    },
    /// List the mails that wait, and those that were refused for good
    #[command(after_help = "Example:\n  holdfast mail queue --json")]
    Queue,
}

/// `holdfast mail …`.
pub(crate) fn run(output: &Output, global: &Global, action: MailCommand) -> Result<Code, Failure> {
    match action {
        MailCommand::Test { to } => test(output, global, to),
        MailCommand::Queue => queue(output, global),
    }
}

fn configured(global: &Global) -> Result<(Config, MailSettings), Failure> {
    let config = locate::load(global).config.ok_or_else(|| {
        Failure::usage("the configuration has faults").help("`holdfast config check` shows them")
    })?;
    let mail = config.mail.clone().ok_or_else(|| {
        Failure::no("no mail is configured: there is no [mail] in the configuration")
            .help("write a section [mail] with `to` and `server`; docs/mail.md has an example")
    })?;
    Ok((config, mail))
}

/// What a test has found.
struct Trial {
    steps: Vec<String>,
    outcome: anyhow::Result<Answers>,
}

fn test(output: &Output, global: &Global, to: Option<String>) -> Result<Code, Failure> {
    let (config, mut mail) = configured(global)?;
    mail.to = to.map_or(mail.to, |only| vec![only]);
    let post = post(&config, &mail).map_err(|error| Failure::usage(format!("{error:#}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::no(format!("cannot build a runtime: {error}")))?;
    let mut steps = Vec::new();
    let mut tell = |step: String| {
        if !output.json {
            // Whoever does not read on does not need to know.
            let _ = output.line(&format!("{} {step}", output.paint.tone(Tone::Good, "✓")));
        }
        steps.push(step);
    };
    let outcome = runtime.block_on(send_test(&post, &mut tell));
    // A name service that hangs is not waited for.
    runtime.shutdown_background();
    report(output, Trial { steps, outcome })
}

async fn send_test(post: &Post, tell: &mut (dyn FnMut(String) + Send)) -> anyhow::Result<Answers> {
    let now_us = text::wall_now_us();
    let headers = Headers {
        from: post.from.clone(),
        to: post.to.values().cloned().collect(),
        date_us: now_us,
        message_id: post.message_id(0, now_us),
        urgent: false,
        purpose: "test",
    };
    let bytes = message::compose(&headers, &crate::mail::text::test(&post.setting))?;
    let to: Vec<_> = post.to.iter().map(|(name, to)| (name.clone(), to.email.clone())).collect();
    let mut session = post.open(tell).await?;
    let answers = session.deliver(&post.from.email, &to, &bytes, tell).await?;
    session.close().await;
    Ok(answers)
}

fn report(output: &Output, trial: Trial) -> Result<Code, Failure> {
    let Trial { steps, outcome } = trial;
    if output.json {
        let (answers, error) = match &outcome {
            Ok(answers) => (answers.clone(), None),
            Err(error) => (Answers::default(), Some(format!("{error:#}"))),
        };
        let Answers { delivered, later, refused, .. } = answers;
        let all = error.is_none() && later.is_empty() && refused.is_empty();
        output.json(&json!({
            "steps": steps, "delivered": delivered, "later": later, "refused": refused,
            "error": error,
        }))?;
        return Ok(if all { Code::Done } else { Code::No });
    }
    let answers = outcome.map_err(|error| Failure::no(format!("{error:#}")))?;
    let bad: BTreeMap<_, _> = answers.later.iter().chain(&answers.refused).collect();
    if bad.is_empty() {
        output.line("The mail is on its way.")?;
        return Ok(Code::Done);
    }
    for (recipient, why) in &bad {
        output.line(&format!("{} {recipient}: {why}", output.paint.tone(Tone::Bad, "✗")))?;
    }
    let help = match answers.later.is_empty() {
        true => "look at `to` and `from` in [mail], and at what the server allows",
        false => "some servers make strangers wait: the daemon would try again by itself",
    };
    Err(Failure::no(format!("{} of the recipients do not get it", bad.len())).help(help))
}

fn queue(output: &Output, global: &Global) -> Result<Code, Failure> {
    let state = locate::state_dir(global)?;
    let paths = Paths { run: state.clone(), state };
    let dir = paths.mail();
    let (waiting, refused) = spool::look(&dir).map_err(|error| {
        Failure::cannot_tell(format!("cannot read {}: {error}", dir.display()))
            .help("the mails that wait can be read by holdfast's own user and by root")
    })?;
    let status = status::read(&paths.mail_view());
    let node = locate::load(global).config.map_or_else(String::new, |config| config.daemon.node);
    let setting = Setting { node, zone: TimeZone::system() };
    if output.json {
        let shown = |mails: &[Mail]| mails.iter().map(|m| entry(m, &setting)).collect::<Vec<_>>();
        output.json(&json!({
            "status": status, "waiting": shown(&waiting), "refused": shown(&refused),
        }))?;
        return Ok(Code::Done);
    }
    output.page(&page(output, &setting, status.as_ref(), &waiting, &refused))?;
    Ok(Code::Done)
}

fn entry(mail: &Mail, setting: &Setting) -> Value {
    json!({
        "number": mail.number,
        "queued_us": mail.queued_us,
        "urgent": mail.letter().is_urgent(),
        "subject": subject(mail, setting),
        "events": mail.letter().tally.events(),
        "to": mail.to,
        "refused": mail.refused,
    })
}

fn subject(mail: &Mail, setting: &Setting) -> String {
    let written = base::WallTime::from_micros(mail.queued_us);
    crate::mail::text::render(&mail.letter(), written, setting).subject
}

fn page(
    output: &Output,
    setting: &Setting,
    status: Option<&MailView>,
    waiting: &[Mail],
    refused: &[Mail],
) -> String {
    let (look, now_us) = (output.look(), text::wall_now_us());
    let mut page = Page::default();
    let many = |count: usize| match count {
        0 => "no mail".to_owned(),
        1 => "1 mail".to_owned(),
        many => format!("{many} mails"),
    };
    let server = status.map_or_else(String::new, |status| format!(" for {}", status.server));
    page.line(format!("{} waiting{server}", many(waiting.len())));
    if let Some(status) = status {
        trouble(&mut page, output, status, !waiting.is_empty(), now_us);
    }
    for mail in waiting {
        let age = text::age(text::between(mail.queued_us, now_us));
        let told = subject(mail, setting);
        let to = mail.to.iter().cloned().collect::<Vec<_>>().join(", ");
        let lead = format!("{:>6}  {age:>7}  ", mail.number);
        page.message((&lead, Tone::Faint), (&format!("{told} → {to}"), Tone::Plain), look);
    }
    if !refused.is_empty() {
        page.gap();
        page.line(format!("{} refused for good, kept in mail/refused", many(refused.len())));
        for mail in refused {
            for (recipient, why) in &mail.refused {
                let lead = format!("{:>6}  ", mail.number);
                let words = format!("{recipient}: {why}");
                page.message((&lead, Tone::Faint), (&words, Tone::Bad), look);
            }
        }
    }
    page.text()
}

fn trouble(page: &mut Page, output: &Output, status: &MailView, waits: bool, now_us: i64) {
    let look = output.look();
    if let (Some(error), true) = (&status.last_error, waits) {
        page.message(("  ", Tone::Plain), (error, Tone::Bad), look);
    }
    if let (Some(next), true) = (status.next_us, waits) {
        let pause = text::age(text::between(now_us, next));
        page.line(format!("  tried again in {pause}"));
    }
}
