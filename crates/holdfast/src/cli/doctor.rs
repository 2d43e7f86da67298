//! `doctor`: what is wrong with this installation, one question after the other.
//!
//! Each check answers YES, NO or CANNOT TELL (G3): a question that could not be put is not a no,
//! and says why it could not be put.

use super::args::Global;
use super::client::Client;
use super::failure::{Code, Failure};
use super::http::Api;
use super::output::{Output, Tone};
use super::text::Page;
use super::{locate, status};
use base::Answer;
use control::Snapshot;
use journal::Journal;
use serde_json::{Value, json};
use std::path::Path;

/// One question and its answer.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Finding {
    /// What should be the case.
    check: &'static str,
    /// Whether it is, and if not, what is instead.
    answer: Answer,
    /// What can be done.
    help: String,
}

fn yes(check: &'static str) -> Finding {
    Finding { check, answer: Answer::Yes, help: String::new() }
}

fn no(check: &'static str, what: impl Into<String>, help: impl Into<String>) -> Finding {
    Finding { check, answer: Answer::No(what.into()), help: help.into() }
}

/// A failure of the daemon's clients as an answer: no, or cannot tell, as its code says.
fn failed(check: &'static str, failure: Failure) -> Finding {
    let answer = match failure.code {
        Code::CannotTell => Answer::CannotTell(failure.message),
        _ => Answer::No(failure.message),
    };
    Finding { check, answer, help: failure.help }
}

/// `holdfast doctor`.
pub(crate) fn run(output: &Output, global: &Global) -> Result<Code, Failure> {
    let mut findings = vec![configuration(global)];
    let socket = locate::control_socket(global)?;
    let check = "the daemon answers";
    match Client::connect(&socket).and_then(|mut client| client.status()) {
        Ok(snapshot) => {
            findings.push(yes(check));
            findings.extend(daemon(&snapshot));
            findings.push(permissions(&socket));
            findings.push(journal(Path::new(&snapshot.state_dir)));
        }
        Err(failure) => {
            // That nobody listens is a clear no; that we may not ask, or get no answer, is not.
            let nobody = failure.message.contains("not running");
            let code = if nobody { Code::No } else { failure.code };
            findings.push(failed(check, Failure { code, ..failure }));
            findings.push(journal(&locate::state_dir(global)?));
        }
    }
    report(output, &findings)?;
    Ok(verdict(&findings))
}

fn configuration(global: &Global) -> Finding {
    let check = "the configuration has no faults";
    if global.socket.is_some() && global.config.is_none() {
        // The file at the default place may be that of another daemon.
        let why = "the daemon was named by its socket, and that does not name its file";
        return failed(check, Failure::cannot_tell(why).help("name the file with --config"));
    }
    let loaded = locate::load(global);
    let Some(first) = loaded.diagnostics.iter().next() else { return yes(check) };
    let what = format!("{}: {}", loaded.diagnostics.summary(), first.message);
    no(check, what, "`holdfast config check` shows every fault at its place")
}

/// What the daemon itself knows.
fn daemon(snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    let ours = env!("CARGO_PKG_VERSION");
    let check = "daemon and command line are of one version";
    findings.push(if snapshot.version == ours {
        yes(check)
    } else {
        let what = format!("the daemon is {}, this is {ours}", snapshot.version);
        no(check, what, "`holdfast upgrade` replaces the daemon; services go on")
    });
    let check = "all of holdfast's own processes run";
    let missing: Vec<String> = snapshot
        .duties
        .iter()
        .filter(|duty| duty.state != "running")
        .map(|duty| format!("{} is {}: {}", duty.name, duty.state, duty.reason))
        .collect();
    findings.push(if missing.is_empty() {
        yes(check)
    } else {
        no(check, missing.join("; "), "`holdfast events --subject holdfast` tells more")
    });
    let check = "every service is as wanted";
    let off: Vec<&str> = status::instances(snapshot)
        .filter(|instance| !status::is_as_wanted(instance))
        .map(|instance| instance.name.as_str())
        .collect();
    findings.push(match off.first() {
        None => yes(check),
        Some(first) => no(check, off.join(", "), format!("`holdfast why {first}` explains it")),
    });
    let check = "no event was lost";
    findings.push(match snapshot.events_lost {
        0 => yes(check),
        lost => no(check, format!("{lost} were"), "is the disk of the state directory full?"),
    });
    let check = "everything works here as one would expect";
    if snapshot.notices.is_empty() {
        findings.push(yes(check));
    }
    let notices = snapshot.notices.iter();
    findings.extend(notices.map(|notice| no(check, &*notice.message, &*notice.help)));
    findings
}

/// What we may do, as the console says.
fn permissions(socket: &Path) -> Finding {
    let check = "you may act, not only look";
    let answer = Api::beside(socket).get("/api/v1/whoami");
    let whoami = match answer {
        Ok(body) => serde_json::from_slice::<Value>(&body).unwrap_or_default(),
        Err(failure) => return failed(check, failure),
    };
    let text = |name| whoami.get(name).and_then(Value::as_str).unwrap_or("?");
    match text("role") {
        "act" => yes(check),
        role => no(
            check,
            format!("{} may only {role}", text("name")),
            "have yourself added to `operators` in [api]",
        ),
    }
}

fn journal(state_dir: &Path) -> Finding {
    let check = "the journal can be read";
    let path = state_dir.join("journal.sqlite");
    match Journal::open_read_only(&path).and_then(|journal| journal.last_seq()) {
        Ok(_) => yes(check),
        Err(why) => failed(check, Failure::cannot_tell(format!("{}: {why}", path.display()))),
    }
}

/// The worst answer: a no is worse than not to know.
fn verdict(findings: &[Finding]) -> Code {
    if findings.iter().any(|finding| matches!(finding.answer, Answer::No(_))) {
        return Code::No;
    }
    let all_yes = findings.iter().all(|finding| finding.answer.is_yes());
    if all_yes { Code::Done } else { Code::CannotTell }
}

fn report(output: &Output, findings: &[Finding]) -> Result<(), Failure> {
    if output.json {
        let list: Vec<Value> = findings
            .iter()
            .map(|finding| {
                json!({
                    "check": finding.check,
                    "answer": word(&finding.answer).1,
                    "reason": finding.answer.reason(),
                    "help": finding.help,
                })
            })
            .collect();
        output.json(&list)?;
        return Ok(());
    }
    let look = output.look();
    let mut page = Page::default();
    for finding in findings {
        let (tone, word) = word(&finding.answer);
        page.line(format!("{}  {}", look.paint.tone(tone, &format!("{word:<11}")), finding.check));
        if let Some(reason) = finding.answer.reason() {
            page.message(("             ", Tone::Plain), (reason, Tone::Plain), look);
        }
        if !finding.help.is_empty() {
            page.message(("             help: ", Tone::Accent), (&finding.help, Tone::Plain), look);
        }
    }
    output.page(&page.text())?;
    Ok(())
}

fn word(answer: &Answer) -> (Tone, &'static str) {
    match answer {
        Answer::Yes => (Tone::Good, "YES"),
        Answer::No(_) => (Tone::Bad, "NO"),
        Answer::CannotTell(_) => (Tone::Busy, "CANNOT TELL"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples;

    #[test]
    fn g3_not_to_know_is_not_a_no() {
        let unknown = failed("x", Failure::cannot_tell("nobody answers"));
        assert_eq!(verdict(&[yes("a"), unknown.clone()]), Code::CannotTell);
        assert_eq!(verdict(&[unknown, no("b", "it is not", "")]), Code::No);
        assert_eq!(verdict(&[yes("a")]), Code::Done);
    }

    #[test]
    fn every_trouble_of_a_snapshot_is_found_and_has_a_remedy() {
        let findings = daemon(&samples::snapshot());
        let bad: Vec<&Finding> = findings.iter().filter(|f| !f.answer.is_yes()).collect();
        assert_eq!(bad.len(), 4, "{bad:?}");
        assert!(bad.iter().all(|finding| !finding.help.is_empty()), "{bad:?}");
    }
}
