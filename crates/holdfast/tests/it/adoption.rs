//! The daemon survives itself: `kill -9`, stop with `--keep-services`, upgrade.

use crate::support::{Daemon, alive, kill, wait_for};
use control::{Reply, Request};
use std::fs;
use std::process::Command;

const TALKER: &str = "[service.talker]\nshell = true\n\
    command = \"i=0; while :; do i=$((i+1)); echo line $i; sleep 0.01; done\"\n\
    [service.web]\ncommand = [\"sleep\", \"1000\"]\n";

#[test]
fn p8_services_survive_kill_9_and_are_adopted_without_a_restart() {
    let mut daemon = Daemon::start(TALKER);
    let talker = daemon.wait_state("talker", "running").pid.unwrap();
    let web = daemon.wait_state("web", "running").pid.unwrap();
    wait_for("its output is being kept", || {
        if daemon.output("talker").is_empty() { Err("nothing yet".into()) } else { Ok(()) }
    });
    daemon.kill_root();
    assert!(alive(talker) && alive(web));
    // The output goes on while nobody is there.
    let before = daemon.output("talker").lines().count();
    wait_for("output is kept without a root", || {
        let now = daemon.output("talker").lines().count();
        if before + 20 < now { Ok(()) } else { Err(format!("{now} lines")) }
    });
    daemon.run();
    assert_eq!(daemon.instance("talker").pid, Some(talker));
    assert_eq!(daemon.instance("web").pid, Some(web));
    assert_eq!(daemon.instance("web").state, "running");
    // Its end is noticed although it is nobody's child.
    kill(web, "KILL");
    daemon.wait_replaced("web", web);
    let before = daemon.output("talker").lines().count();
    wait_for("output is kept by the new one", || {
        let now = daemon.output("talker").lines().count();
        if before + 20 < now { Ok(()) } else { Err(format!("{now} lines")) }
    });
    daemon.stop();
    let output = daemon.output("talker");
    for (expected, line) in (1..).zip(output.lines()) {
        assert_eq!(line, format!("line {expected}"), "lost, doubled or torn");
    }
}

#[test]
fn a_service_that_ended_while_nobody_watched_is_started_again() {
    let mut daemon = Daemon::start(TALKER);
    let web = daemon.wait_state("web", "running").pid.unwrap();
    daemon.kill_root();
    kill(web, "KILL");
    daemon.run();
    daemon.wait_replaced("web", web);
}

#[test]
fn g7_records_of_an_earlier_boot_are_ignored() {
    let mut daemon = Daemon::start(TALKER);
    daemon.wait_state("web", "running");
    daemon.stop();
    // A record that claims this test itself as its process, from another boot.
    let record = serde_json::json!({
        "format": 1, "instance": "web", "boot_id": "00000000-0000-0000-0000-000000000000",
        "run": 5, "main": std::process::id(), "start_ticks": 1, "ready": true, "wish": "up",
        "restarts": 0, "digest": "x", "since_ns": 1
    });
    fs::create_dir_all(daemon.path("state/runs")).unwrap();
    fs::write(daemon.path("state/runs/web.json"), record.to_string()).unwrap();
    daemon.run();
    let seen = daemon.wait_state("web", "running");
    assert_ne!(seen.pid, Some(std::process::id()));
    assert!(daemon.log().contains("earlier boot"), "{}", daemon.log());
}

#[test]
fn a_pid_that_was_given_to_somebody_else_is_not_adopted() {
    let mut daemon = Daemon::start(TALKER);
    let web = daemon.wait_state("web", "running").pid.unwrap();
    daemon.kill_root();
    kill(web, "KILL");
    wait_for("it is gone", || if alive(web) { Err("alive".into()) } else { Ok(()) });
    // Somebody else's process under the recorded number: only the start time tells.
    let path = record_of(&daemon, "web");
    let text = fs::read_to_string(&path).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
    record["main"] = std::process::id().into();
    fs::write(&path, record.to_string()).unwrap();
    daemon.run();
    let seen = daemon.wait_state("web", "running");
    assert_ne!(seen.pid, Some(std::process::id()));
}

/// The file of the one run record of an instance.
fn record_of(daemon: &Daemon, instance: &str) -> std::path::PathBuf {
    let entries = fs::read_dir(daemon.path("state/runs")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let is_of = |name: &String| name.starts_with(&format!("{instance}.")) && name.ends_with("json");
    let found: Vec<String> = names.filter(is_of).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    daemon.path("state/runs").join(&found[0])
}

#[test]
fn an_older_run_of_an_adopted_instance_goes_on_its_way_out() {
    let mut daemon = Daemon::start(TALKER);
    let seen = daemon.wait_state("web", "running");
    let (web, run) = (seen.pid.unwrap(), seen.run.unwrap());
    daemon.kill_root();
    // As it is found when holdfast dies while an earlier run is still being drained.
    let id = fs::read_to_string(daemon.path("state/id")).unwrap();
    let mut older = Command::new("sleep")
        .arg("1000")
        .env("HOLDFAST_RUN", format!("{}/web/{}", id.trim(), run - 1))
        .spawn()
        .unwrap();
    let path = record_of(&daemon, "web");
    let mut record: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    record["run"] = (run - 1).into();
    record["main"] = older.id().into();
    record["start_ticks"] = sys::proc_fs::stat(older.id()).unwrap().start_ticks.into();
    let older_path = daemon.path("state/runs").join(format!("web.{}.json", run - 1));
    fs::write(&older_path, record.to_string()).unwrap();
    daemon.run();
    assert_eq!(daemon.instance("web").pid, Some(web));
    assert_eq!(daemon.instance("web").run, Some(run));
    let told = format!("web goes on, and an old run of it is stopped (pid {})", older.id());
    daemon.wait_event_with("web", "service.adopted", &told);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&older.wait().unwrap()), Some(15));
    wait_for("its record is gone", || {
        if older_path.exists() { Err("still there".into()) } else { Ok(()) }
    });
    assert_eq!(record_of(&daemon, "web"), path);
}

#[test]
fn each_run_has_a_group_of_its_own_which_goes_with_it() {
    let mut daemon = Daemon::start("[service.web]\ncommand = [\"sleep\", \"1000\"]\n");
    let seen = daemon.wait_state("web", "running");
    let Some(group) = seen.cgroup.clone() else {
        return eprintln!("skipped: no control group can be written here");
    };
    assert!(group.ends_with(&format!("/web.{}", seen.run.unwrap())), "{group}");
    kill(seen.pid.unwrap(), "KILL");
    let next = daemon.wait_replaced("web", seen.pid.unwrap());
    let gone = |group: &str| {
        if fs::exists(group).unwrap() { Err(format!("{group} is there")) } else { Ok(()) }
    };
    wait_for("the group of the first run is removed", || gone(&group));
    let next_group = next.cgroup.unwrap();
    assert!(fs::exists(&next_group).unwrap(), "{next_group}");
    // One that a killed daemon left: nobody's now, and empty.
    let base = std::path::Path::new(&next_group).parent().unwrap().to_owned();
    daemon.kill_root();
    let left = base.join("web.5");
    fs::create_dir(&left).unwrap();
    daemon.run();
    wait_for("what was left is swept away", || gone(left.to_str().unwrap()));
    assert_eq!(daemon.instance("web").cgroup, Some(next_group.clone()));
    daemon.stop();
    assert!(!fs::exists(&base).unwrap(), "{} is left", base.display());
}

#[test]
fn a_stop_can_leave_the_services_running() {
    let mut daemon = Daemon::start(TALKER);
    let web = daemon.wait_state("web", "running").pid.unwrap();
    assert!(matches!(daemon.ask(Request::Stop { keep_services: true }), Reply::Done { .. }));
    let mut child = daemon.child.take().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(alive(web));
    daemon.run();
    assert_eq!(daemon.instance("web").pid, Some(web));
}

#[test]
fn an_upgrade_keeps_the_process_the_services_and_the_sockets() {
    let mut daemon = Daemon::start(TALKER);
    let web = daemon.wait_state("web", "running").pid.unwrap();
    let reply = daemon.ask(Request::Upgrade { binary: None });
    assert!(matches!(reply, Reply::Done { .. }), "{reply:?}");
    wait_for("the new one is up", || {
        let ups = daemon.log().matches("is up").count();
        if ups == 2 { Ok(()) } else { Err(daemon.log()) }
    });
    assert_eq!(daemon.snapshot().pid, daemon.pid());
    assert_eq!(daemon.instance("web").pid, Some(web));
    // It still is our child: how it ends is known.
    kill(web, "KILL");
    let seen = daemon.wait_replaced("web", web);
    assert_eq!(seen.last_exit.as_deref(), Some("signal 9 (KILL)"));
    daemon.stop();
}

#[test]
fn an_upgrade_to_something_else_is_refused_and_changes_nothing() {
    let daemon = Daemon::start(TALKER);
    let web = daemon.wait_state("web", "running").pid.unwrap();
    let reply = daemon.ask(Request::Upgrade { binary: Some("/bin/false".into()) });
    assert!(matches!(&reply, Reply::Failed(fault) if fault.message.contains("trial")), "{reply:?}");
    assert_eq!(daemon.instance("web").pid, Some(web));
}
