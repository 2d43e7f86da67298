//! `why`: the causal chain of a subject in words, down to the root cause (G13).

use super::client::{Client, unexpected};
use super::failure::{Code, Failure};
use super::output::{Output, Tone};
use super::status::sign;
use super::text::{self, Look, Page};
use control::{Reply, Request, WhyView};

/// `holdfast why SUBJECT`.
pub(crate) fn run(output: &Output, client: &mut Client, subject: &str) -> Result<Code, Failure> {
    let why = ask(client, subject)?;
    if output.json {
        output.json(&why)?;
    } else {
        output.page(&render(&why, output.look()))?;
    }
    Ok(Code::Done)
}

/// Asks the daemon.
pub(crate) fn ask(client: &mut Client, subject: &str) -> Result<WhyView, Failure> {
    match client.ask(Request::Why { subject: subject.to_owned() })? {
        Reply::Why { why } => Ok(*why),
        other => Err(unexpected(&other)),
    }
}

/// The chain, the last output and the remedies.
pub(crate) fn render(why: &WhyView, look: Look) -> String {
    let paint = look.paint;
    let (symbol, tone) = sign(&why.state);
    let mut page = Page::default();
    let subject = paint.tone(Tone::Strong, &text::clean(&why.subject));
    page.line(format!(
        "{} {subject} is {}",
        paint.tone(tone, symbol),
        paint.tone(tone, &why.state)
    ));
    if why.chain.is_empty() {
        page.line(format!("  {}", paint.tone(Tone::Faint, "nothing stands in its way")));
    }
    chain(&mut page, why, look);
    if !why.last_output.is_empty() {
        page.gap();
        page.line(paint.tone(Tone::Strong, "Last output"));
        for line in &why.last_output {
            page.line(format!("  {} {}", paint.tone(Tone::Faint, "│"), text::clean(line)));
        }
    }
    if !why.help.is_empty() {
        page.gap();
        page.line(paint.tone(Tone::Strong, "What you can do"));
        for help in &why.help {
            page.message(("  • ", Tone::Accent), (help, Tone::Plain), look);
        }
    }
    page.text()
}

/// Each link a step deeper; the last one is the root cause.
fn chain(page: &mut Page, why: &WhyView, look: Look) {
    for (depth, link) in why.chain.iter().enumerate() {
        // Deep chains stop moving to the right before there is no room left for words.
        let indent = " ".repeat(2 + 2 * depth.min(DEPTH_SHOWN_MAX));
        let is_root = depth + 1 == why.chain.len() && 0 < depth;
        let message = if link.message.contains(&link.subject) {
            link.message.clone()
        } else {
            format!("{}: {}", link.subject, link.message)
        };
        let tone = if is_root { tone_of_root(&why.state) } else { Tone::Plain };
        let lead = format!("{indent}{}. ", depth + 1);
        page.message((&lead, Tone::Plain), (&message, tone), look);
        if is_root {
            let mark = "↑ this is the root cause";
            page.line(format!("{indent}   {}", look.paint.tone(Tone::Faint, mark)));
        }
    }
}

/// Deeper links are not moved further to the right.
const DEPTH_SHOWN_MAX: usize = 12;

fn tone_of_root(state: &str) -> Tone {
    if matches!(state, "running" | "finished" | "stopped") { Tone::Strong } else { Tone::Bad }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Paint;
    use control::WhyLink;

    #[test]
    fn g13_the_chain_ends_at_the_root_cause_with_its_output_and_remedies() {
        let link = |subject: &str, message: &str| WhyLink {
            subject: subject.into(),
            message: message.into(),
        };
        let why = WhyView {
            subject: "web".into(),
            state: "waiting".into(),
            chain: vec![
                link("web", "web waits for app, which is not ready"),
                link("app", "app waits for store, which is not ready"),
                link(
                    "store",
                    "gave up after 5 restarts within 60 s: it exited with code 3 each time, the last time 12 s ago",
                ),
            ],
            last_output: vec![
                "cannot open \x1b[31m/srv/store\x1b[0m: no space left on device".into(),
            ],
            help: vec!["make room on the disk of /srv, then `holdfast service start store`".into()],
        };
        insta::assert_snapshot!(render(&why, Look { paint: Paint::PLAIN, width: 80 }));
    }
}
