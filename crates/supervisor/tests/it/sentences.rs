//! The sentences people read, as reviewed: one life with everything in it.

use crate::bench::Bench;
use crate::specs::{But, SECOND, service};
use base::Answer;
use std::fmt::Write as _;
use supervisor::{Action, Exit, Input, NotifyMessage, Output};

fn golden(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// The events of one input with all their details.
fn told(it: &mut Bench, input: Input) -> String {
    let mut text = String::new();
    for output in it.raw(input) {
        let Output::Event(event) = output else { continue };
        let _ = writeln!(text, "{:?} {} {}", event.severity, event.kind.as_str(), event.message);
        let _ = writeln!(text, "    {} run {:?} {:?}", event.instance, event.run, event.data);
    }
    text
}

#[test]
fn the_details_of_events_are_as_reviewed() {
    use crate::specs::id;
    use supervisor::Pid;
    let mut it = Bench::with([service("web")]);
    let mut text = told(&mut it, Input::Begin);
    let (instance, run) = (id("web"), it.run("web"));
    text += &told(&mut it, Input::Spawned { instance: instance.clone(), run, pid: Pid(123) });
    it.after_ms(3_200);
    let exit = Exit::Code(1);
    text += &told(&mut it, Input::Exited { instance: instance.clone(), run, pid: Pid(123), exit });
    let tree = |alive| Input::Tree { instance: instance.clone(), run, alive, unkillable: vec![] };
    text += &told(&mut it, tree(vec![Pid(124)]));
    text += &told(&mut it, tree(vec![]));
    let command =
        |action| Input::Command { targets: vec![id("web")], action, by: "uid 0 (root)".to_owned() };
    text += &told(&mut it, command(Action::Stop));
    golden("event_details", &text);
}

#[test]
fn g13_the_chains_of_reasons_are_as_reviewed() {
    let specs = [
        service("disk").not_by_itself(),
        service("db").requires("disk").says_ready(),
        service("app").requires("db").wants("cache"),
        service("cache").probed(),
        service("web").after("app").times(2),
    ];
    let mut it = Bench::of(specs);
    let mut text = String::new();
    let mut look = |it: &Bench, when: &str| {
        let _ = writeln!(text, "== {when}");
        for seen in it.core.snapshot() {
            let _ = writeln!(text, "{} {}", seen.instance, seen.phase.as_str());
            for (about, why) in seen.because {
                let _ = writeln!(text, "    [{about}] {why}");
            }
        }
    };
    look(&it, "everything has just begun");
    it.spawned("disk", 10);
    it.spawned("db", 11);
    it.spawned("cache", 12);
    it.probed("cache", Answer::No("cannot connect to 127.0.0.1:8000".into()));
    look(&it, "disk runs, db and cache are starting");
    it.says("db", NotifyMessage::Ready);
    it.probed("cache", Answer::Yes);
    it.spawned("app", 13);
    it.spawned("web:0", 14);
    it.spawned("web:1", 15);
    it.ends("web:0", 14, Exit::Code(1));
    it.spawned("web:0", 16);
    it.ends("web:0", 16, Exit::Signal(11));
    look(&it, "web:0 has crashed twice");
    it.ask(Action::Stop, "disk");
    look(&it, "disk is to be stopped");
    it.after(10 * SECOND);
    it.exited("app", 13, Exit::Signal(9));
    it.tree_stuck("app", 13, "nfs_wait");
    it.after(8 * SECOND);
    it.tree_stuck("app", 13, "nfs_wait");
    look(&it, "app cannot be killed");
    golden("reasons", &text);
}
