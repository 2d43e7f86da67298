//! What people are told of forced restarts, by real mails of a real daemon: the evidence that there
//! is, and every day which workarounds are in force.

use crate::evidence::replace;
use crate::mail::{Post, body, header, read_json, wait_queue};
use crate::support::{Daemon, wait_for};
use serde_json::Value;
use std::fs;

/// `web` is sick as soon as there is a file `sick`, and is replaced for it.
fn sick_on_demand(post: &Post) -> Daemon {
    let section = post.section("security = \"none\"\ndigest = \"2s\"");
    let daemon = Daemon::start(&format!(
        "{section}[service.web]\ncommand = [\"sleep\", \"1000\"]\n\
         [service.web.tolerance]\nmode = \"enforce\"\ninterval = \"1s\"\ndrain = \"0s\"\n\
         evidence = {{ stacks = \"off\" }}\n\
         [service.web.detect.check]\nkind = \"command\"\n\
         command = [\"sh\", \"-c\", \"! rm {{dir}}/sick\"]\n\
         interval = \"1s\"\ntimeout = \"1s\"\nfailures = 1\n"
    ));
    daemon.wait_state("web", "running");
    daemon
}

/// The text without its line breaks.
fn flat(mail: &Value) -> String {
    body(mail).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Waits until a mail says that `web` was saved so often.
fn wait_saves(post: &Post, daemon: &Daemon, times: u32) {
    let words = format!("saved the service {times} times");
    wait_for(&words, || match post.mails() {
        mails if mails.iter().any(|mail| flat(mail).contains(&words)) => Ok(()),
        mails => Err(format!("{mails:#?}\n{}", daemon.log())),
    });
}

#[test]
fn h9_the_mail_of_a_forced_restart_names_the_cause_the_evidence_that_there_is_and_the_uptime() {
    let Some(post) = Post::new() else { return };
    let _server = post.serve(&[]);
    let daemon = sick_on_demand(&post);
    replace(&daemon);
    let listed = daemon.cli(&["evidence", "list", "web", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let bundle = format!("web/{}", listed[0]["id"].as_str().unwrap());
    let index = daemon.cli(&["evidence", "show", &bundle, "--json"]);
    let index: Value = serde_json::from_slice(&index.stdout).unwrap();
    let cause = index["cause"].as_str().unwrap();
    let mails = wait_for("a mail tells of it, with its evidence", || {
        let mails = post.mails();
        let of: Vec<_> =
            mails.iter().filter(|mail| body(mail).contains(&bundle)).cloned().collect();
        if of.is_empty() { Err(format!("{mails:#?}\n{}", daemon.log())) } else { Ok(of) }
    });
    assert_eq!(mails.len(), 1, "{mails:#?}");
    assert!(header(&mails[0], "subject").contains("web"), "{mails:#?}");
    let text = flat(&mails[0]);
    for part in [cause, &format!("holdfast evidence show {bundle}"), "Uptime "] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // So long was it up, as the event says.
    let replaced = daemon.wait_event("web", "service.replaced").message;
    let up = replaced.split_once("it had been up for ").and_then(|(_, rest)| rest.split_once(':'));
    let said = text.split_once("Uptime ").unwrap().1.replace(' ', "");
    assert!(said.starts_with(up.unwrap().0), "{replaced}: {text}");
    assert!(text.contains("workaround active since"), "{text}");
}

/// The day until the next reminder is nearly over: so it is written down while nobody runs.
#[test]
fn h28_every_day_a_mail_says_which_workarounds_are_in_force_and_how_often_they_saved_whom() {
    let Some(post) = Post::new() else { return };
    let _server = post.serve(&[]);
    let mut daemon = sick_on_demand(&post);
    replace(&daemon);
    replace(&daemon);
    wait_saves(&post, &daemon, 2);
    wait_queue(&daemon, 0);
    let before = post.mails();
    assert!(before.iter().all(|mail| header(mail, "x-holdfast") != "reminder"), "{before:#?}");
    assert_eq!(daemon.stop(), 0);
    let path = daemon.path("state/mail/state.json");
    let mut state = read_json(&path);
    let left = state["kept"]["reminder_left_ms"].take();
    assert!(left.as_u64().is_some_and(|left| left <= 86_400_000), "{left}");
    state["kept"]["reminder_left_ms"] = 1.into();
    fs::write(&path, state.to_string()).unwrap();
    daemon.run();
    let reminder = wait_for("the reminder comes", || {
        let mails = post.mails();
        let found = mails.iter().find(|mail| header(mail, "x-holdfast") == "reminder").cloned();
        found.ok_or_else(|| format!("{mails:#?}\n{}", daemon.log()))
    });
    assert!(
        header(&reminder, "subject").contains("a workaround is in force for web"),
        "{reminder:#}"
    );
    let text = flat(&reminder);
    assert!(text.contains("workaround active since"), "{text}");
    assert!(text.contains("saved the service 2 times"), "{text}");
    assert!(text.contains("holdfast mode SERVICE off"), "{text}");
    // And not again before the next day.
    wait_queue(&daemon, 0);
    replace(&daemon);
    wait_saves(&post, &daemon, 3);
    let reminders =
        post.mails().iter().filter(|mail| header(mail, "x-holdfast") == "reminder").count();
    assert_eq!(reminders, 1);
}
