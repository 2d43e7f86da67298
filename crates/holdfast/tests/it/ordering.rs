//! Order of start and stop: what runs at the same time, what waits, and what is left alone.

use crate::support::{Daemon, kill, wait_for};
use control::ServiceAction;
use std::fs;

#[test]
fn services_that_need_nothing_of_each_other_start_at_the_same_time() {
    // Each is ready only once the other has been executed: one after the other would never end.
    let service = |own: &str, other: &str| {
        format!(
            "[service.{own}]\nshell = true\ncommand = \"touch {{dir}}/{own}; exec sleep 1000\"\n\
             ready = {{ file = \"{{dir}}/{other}\", timeout = \"100ms\" }}\n"
        )
    };
    let daemon = Daemon::start(&(service("left", "right") + &service("right", "left")));
    daemon.wait_state("left", "running");
    daemon.wait_state("right", "running");
    assert_eq!(daemon.instance("left").restarts + daemon.instance("right").restarts, 0);
}

#[test]
fn what_is_wanted_is_started_and_may_fail() {
    let daemon = Daemon::start(
        "[service.cache]\ncommand = [\"sleep\", \"1000\"]\nautostart = false\n\
         ready = { file = \"{dir}/cache\" }\n\
         [service.bad]\ncommand = [\"false\"]\nrestart = \"never\"\nready = { delay = \"5s\" }\n\
         [service.web]\ncommand = [\"sleep\", \"1000\"]\nwants = [\"cache\", \"bad\"]\n",
    );
    daemon.wait_state("bad", "failed");
    daemon.wait_state("cache", "starting");
    // It waits for what is still on its way.
    assert_eq!(daemon.instance("web").state, "waiting");
    let why = daemon.why("web");
    assert_eq!(why.chain.last().unwrap().subject, "cache", "{why:?}");
    fs::write(daemon.path("cache"), "").unwrap();
    daemon.wait_state("web", "running");
    // A stop of what is only wanted leaves it alone.
    let web = daemon.instance("web");
    daemon.act(ServiceAction::Stop, "cache");
    daemon.wait_state("cache", "stopped");
    assert_eq!(daemon.instance("web").run, web.run);
    assert_eq!(daemon.instance("web").state, "running");
}

#[test]
fn after_orders_without_starting_anything() {
    let daemon = Daemon::start(
        "[service.first]\ncommand = [\"sleep\", \"1000\"]\nready = { file = \"{dir}/go\" }\n\
         [service.absent]\ncommand = [\"sleep\", \"1000\"]\nautostart = false\n\
         [service.second]\ncommand = [\"sleep\", \"1000\"]\nafter = [\"first\", \"absent\"]\n",
    );
    daemon.wait_state("first", "starting");
    daemon.wait_state("second", "waiting");
    fs::write(daemon.path("go"), "").unwrap();
    daemon.wait_state("second", "running");
    assert_eq!(daemon.instance("absent").state, "stopped");
}

#[test]
fn a_oneshot_has_to_end_well_before_what_requires_it_starts() {
    let mut daemon = Daemon::prepare(
        "[service.migrate]\nkind = \"oneshot\"\nshell = true\n\
         command = \"read line < {dir}/gate; echo migrated >> {dir}/order\"\n\
         [service.app]\nshell = true\nrequires = [\"migrate\"]\n\
         command = \"echo app >> {dir}/order; exec sleep 1000\"\n",
    );
    // Reading a named pipe waits for its writer: so the test says when it goes on.
    let made = std::process::Command::new("mkfifo").arg(daemon.path("gate")).status().unwrap();
    assert!(made.success());
    daemon.run();
    daemon.wait_state("migrate", "starting");
    assert_eq!(daemon.instance("app").state, "waiting");
    fs::write(daemon.path("gate"), "go\n").unwrap();
    daemon.wait_state("app", "running");
    assert_eq!(daemon.instance("migrate").state, "finished");
    wait_for("both have written", || {
        let order = fs::read_to_string(daemon.path("order")).unwrap_or_default();
        if order == "migrated\napp\n" { Ok(()) } else { Err(order) }
    });
}

#[test]
fn a_restart_of_what_is_required_leaves_the_dependant_alone() {
    let daemon = Daemon::start(
        "[service.db]\ncommand = [\"sleep\", \"1000\"]\n\
         [service.app]\ncommand = [\"sleep\", \"1000\"]\nrequires = [\"db\"]\n",
    );
    let app = daemon.wait_state("app", "running").run;
    let mut db = daemon.wait_state("db", "running").pid.unwrap();
    daemon.act(ServiceAction::Restart, "db");
    db = daemon.wait_replaced("db", db).pid.unwrap();
    assert_eq!(daemon.instance("app").run, app);
    // A crash, too.
    kill(db, "KILL");
    daemon.wait_replaced("db", db);
    let seen = daemon.instance("app");
    assert_eq!((seen.run, seen.state.as_str()), (app, "running"));
}
