//! Hooks: commands of the user's that are told of events, by the real daemon.

use crate::support::{Daemon, kill, root_or_skip, wait_for};
use control::EventRecord;
use std::fs;

const WEB: &str = "[service.web]\ncommand = [\"sleep\", \"1000\"]\n";

/// A hook that keeps what it is told, one line each.
fn hook(name: &str, events: &str, more: &str) -> String {
    format!(
        "[hook.{name}]\ncommand = [\"sh\", \"-c\", \"cat >> {{dir}}/{name}.told\"]\n\
         events = [{events}]\n{more}\n"
    )
}

fn told(daemon: &Daemon, name: &str) -> Vec<EventRecord> {
    let text = fs::read_to_string(daemon.path(&format!("{name}.told"))).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn wait_told(daemon: &Daemon, name: &str, wanted: impl Fn(&EventRecord) -> bool) -> EventRecord {
    wait_for(&format!("hook {name} is told"), || {
        let told = told(daemon, name);
        let found = told.iter().find(|event| wanted(event)).cloned();
        found.ok_or_else(|| format!("{told:#?}\n{}", daemon.log()))
    })
}

#[test]
fn h27_a_hook_is_told_of_every_event_that_it_wants_as_json() {
    let hooks = hook("all", "\"*\"", "") + &hook("bad", "\"service.*\"", "severity = \"warning\"");
    let mut daemon = Daemon::start(&(hooks + WEB));
    let web = daemon.wait_state("web", "running").pid.unwrap();
    wait_told(&daemon, "all", |event| event.kind == "daemon.started");
    wait_told(&daemon, "all", |event| event.kind == "service.ready" && event.subject == "web");
    kill(web, "KILL");
    let exited = |event: &EventRecord| event.kind == "service.exited" && event.subject == "web";
    let event = wait_told(&daemon, "bad", exited);
    assert_eq!(event.data["pid"], web);
    assert!(event.message.contains("killed by signal 9"), "{event:?}");
    assert!(told(&daemon, "bad").iter().all(|event| event.kind.starts_with("service.")));
    assert!(told(&daemon, "bad").iter().all(|event| event.severity > control::Severity::Info));
    daemon.wait_replaced("web", web);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn h27_hooks_lose_nothing_when_the_daemon_dies() {
    let mut daemon = Daemon::start(&(hook("all", "\"service.*\"", "") + WEB));
    let web = daemon.wait_state("web", "running").pid.unwrap();
    wait_told(&daemon, "all", |event| event.kind == "service.ready" && event.subject == "web");
    daemon.kill_root();
    kill(web, "KILL");
    daemon.run();
    daemon.wait_replaced("web", web);
    // The numbers of one source have no gap: nothing that it wants was left out.
    wait_told(&daemon, "all", |event| {
        event.kind == "service.ready" && event.subject == "web" && event.data["pid"] != web
    });
    let starts = told(&daemon, "all");
    let starts = starts.iter().filter(|e| e.kind == "service.starting" && e.subject == "web");
    assert_eq!(starts.count(), 2);
}

#[test]
fn h27_a_hook_that_fails_is_said_and_one_that_hangs_holds_up_nobody() {
    let hanging =
        "[hook.hangs]\ncommand = [\"sleep\", \"1000\"]\nevents = [\"*\"]\ntimeout = \"300ms\"\n";
    let missing = "[hook.missing]\ncommand = [\"/nonexistent/x\"]\nevents = [\"service.ready\"]\n";
    let hooks = format!("{hanging}{missing}{}", hook("fine", "\"service.ready\"", ""));
    let daemon = Daemon::start(&(hooks + WEB));
    daemon.wait_state("web", "running");
    wait_told(&daemon, "fine", |event| event.subject == "web");
    wait_for("both failures are said", || {
        let log = daemon.log();
        let said =
            |words: &str| log.lines().any(|l| l.contains("kind=hook.failed") && l.contains(words));
        let both = said("took longer than 300ms and was killed") && said("/nonexistent");
        if both { Ok(()) } else { Err(log) }
    });
}

#[test]
fn h27_a_hook_runs_as_its_user_and_goes_with_the_configuration() {
    if !root_or_skip("run a hook as somebody else") {
        return;
    }
    let daemon = Daemon::prepare("");
    daemon.open_to_all();
    fs::create_dir(daemon.path("out")).unwrap();
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    fs::set_permissions(daemon.path("out"), fs::Permissions::from_mode(0o777)).unwrap();
    daemon.configure(&format!(
        "[hook.who]\nuser = \"nobody\"\nevents = [\"service.ready\"]\n\
         command = [\"sh\", \"-c\", \"cat > {{dir}}/out/who\"]\n{WEB}"
    ));
    let mut daemon = daemon;
    daemon.run();
    let owner = wait_for("it has run", || {
        fs::metadata(daemon.path("out/who"))
            .map(|m| m.uid())
            .map_err(|e| format!("{e} {}", daemon.log()))
    });
    assert_eq!(owner, 65534);
    daemon.configure(WEB);
    assert!(daemon.cli(&["reload"]).status.success());
    wait_for("its duty is gone", || {
        let duties = daemon.snapshot().duties;
        let gone = duties.iter().all(|duty| duty.name != "hooks");
        if gone { Ok(()) } else { Err(format!("{duties:?}")) }
    });
    wait_for("what it has kept is gone", || match daemon.path("state/hooks").exists() {
        false => Ok(()),
        true => Err(daemon.log()),
    });
}
