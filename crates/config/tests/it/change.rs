//! What a reload says that it changes.

use crate::support::{good, repeated};

fn said(old: &str, new: &str) -> String {
    config::difference(&good(old), &good(new)).to_string()
}

#[test]
fn only_what_differs_is_named() {
    let old = "[service.a]\ncommand = \"a\"\n[service.b]\ncommand = \"b\"\n[service.c]\ncommand = \"c\"\n";
    assert_eq!(said(old, old), "nothing has changed");
    assert!(config::difference(&good(old), &good(old)).is_empty());
    let new = "[daemon]\nshutdown_timeout = \"2m\"\n[service.a]\ncommand = \"a2\"\n\
               [service.b]\ncommand = \"b\"\nstart_timeout = \"5s\"\n[service.d]\ncommand = \"d\"\n";
    assert_eq!(
        said(old, new),
        "added: d; removed: c; changed, to be restarted: a; changed while running: b; \
         settings: daemon.shutdown_timeout"
    );
    let difference = config::difference(&good(old), &good(new));
    assert_eq!(difference.unchanged, 0);
    assert_eq!(difference.summary(), difference.to_string());
}

#[test]
fn tolerance_is_changed_while_the_service_runs() {
    let old = "[service.a]\ncommand = \"a\"\n[service.b]\ncommand = \"b\"\n";
    let new = "[health]\nagent = \"127.0.0.1:1\"\n[mail]\nto = [\"a@b\"]\nserver = \"localhost\"\n\
               [supervisord]\nunix = \"/run/s\"\n\
               [service.a]\ncommand = \"a\"\ntolerance = \"observe\"\n\
               detect.memory.share_percent = 80\ndepends = { b = { service = \"b\" } }\n\
               [service.b]\ncommand = \"b\"\nevent_listener = { events = [\"TICK_5\"] }\n";
    assert_eq!(
        said(old, new),
        "changed, to be restarted: b; changed while running: a; \
         settings: health.agent, mail, supervisord"
    );
    let other = new.replace("TICK_5", "TICK_60");
    assert_eq!(said(new, &other), "changed while running: b", "only what it is told changes");
}

#[test]
fn many_names_are_counted() {
    let many = repeated(9, "[service.sN]\ncommand = \"x\"\n");
    assert_eq!(said("", &many), "added: s0, s1, s2, s3, s4 and 4 more");
}
