//! Modes that hold beyond a daemon's life, and replacements with the real daemon: ports, roles, and
//! a holdfast that dies in the middle.

use crate::support::{Daemon, alive, free_port, kill, wait_for};
use control::{Reply, Request, ServiceAction};
use std::net::TcpStream;
use std::process::Stdio;

fn set_mode(daemon: &Daemon, target: &str, mode: Option<&str>) -> Reply {
    let (targets, mode) = (vec![target.to_owned()], mode.map(str::to_owned));
    daemon.ask(Request::Mode { targets, mode })
}

fn mode(daemon: &Daemon) -> (String, String) {
    let health = daemon.instance("web").health;
    (health.mode, health.mode_by)
}

fn pair(mode: &str, by: &str) -> (String, String) {
    (mode.to_owned(), by.to_owned())
}

#[test]
fn h1_h10_a_mode_that_was_set_holds_for_the_next_daemon_too() {
    let mut daemon =
        Daemon::start("[service.web]\ncommand = [\"sleep\", \"1000\"]\ntolerance = \"enforce\"\n");
    let pid = daemon.wait_state("web", "running").pid.unwrap();
    assert_eq!(mode(&daemon), pair("enforce", "configuration"));
    assert!(matches!(set_mode(&daemon, "web", Some("observe")), Reply::Done { .. }));
    let by = format!("uid {} ({})", own_uid(), user());
    assert_eq!(mode(&daemon), pair("observe", &by));
    daemon.wait_event("web", "service.mode");
    wait_for("it is remembered", || {
        let text = std::fs::read_to_string(daemon.path("state/care.json")).unwrap_or_default();
        if text.contains("observe") { Ok(()) } else { Err(text) }
    });
    daemon.kill_root();
    daemon.run();
    assert_eq!(mode(&daemon), pair("observe", &by));
    assert_eq!(daemon.instance("web").pid, Some(pid), "nothing is restarted for a mode");
    assert!(matches!(set_mode(&daemon, "*", None), Reply::Done { .. }));
    assert_eq!(mode(&daemon), pair("enforce", "configuration"));
    let Reply::Failed(fault) = set_mode(&daemon, "web", Some("watch")) else { panic!() };
    assert_eq!(fault.message, "`watch` is no mode");
    assert!(fault.help.contains("off, observe and enforce"), "{}", fault.help);
}

fn own_uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid()
}

fn user() -> String {
    let text = std::fs::read_to_string("/etc/passwd").unwrap();
    let uid = own_uid().to_string();
    let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find(|line| line[2] == uid).unwrap()[0].to_owned()
}

#[test]
fn h1_h10_the_environment_sets_modes_at_the_start_and_a_wrong_one_is_named() {
    let mut daemon = Daemon::prepare(
        "[service.web]\ncommand = [\"sleep\", \"1000\"]\ntolerance = \"enforce\"\n",
    );
    daemon.under = ["env", "HOLDFAST_MODE=web=observe"].map(str::to_owned).to_vec();
    daemon.run();
    daemon.wait_state("web", "running");
    assert_eq!(mode(&daemon), pair("observe", "environment"));
    // An operator is stronger, and afterwards the environment holds again.
    set_mode(&daemon, "web", Some("off"));
    assert_eq!(mode(&daemon).0, "off");
    set_mode(&daemon, "web", None);
    assert_eq!(mode(&daemon), pair("observe", "environment"));

    let other = Daemon::prepare("[service.web]\ncommand = [\"sleep\", \"1000\"]\n");
    let mut command = other.command(&["run"]);
    let output = command.env("HOLDFAST_MODE", "wbe=observe").stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("HOLDFAST_MODE: `wbe=observe`"), "{said}");
}

/// A web server on a port of its own, whose successor runs beside it.
fn beside(drain: &str) -> (Daemon, u16) {
    let port = free_port();
    let daemon = Daemon::start(&format!(
        "[service.web]\nport = {port}\n\
         command = [\"python3\", \"-m\", \"http.server\", \"--bind\", \"127.0.0.1\", \"{{port}}\"]\n\
         ready = {{ tcp = \"127.0.0.1:{{port}}\", interval = \"50ms\" }}\n\
         [service.web.tolerance]\nmode = \"off\"\nsuccessor = \"beside\"\nsettle = \"0s\"\n\
         drain = \"{drain}\"\nwarm_up = [{{ http = \"http://127.0.0.1:{{port}}/\" }}]\n"
    ));
    daemon.wait_state("web", "running");
    (daemon, port)
}

fn serves(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[test]
fn h20_h22_a_successor_has_the_other_port_and_the_next_one_the_first_again() {
    let (daemon, port) = beside("0s");
    assert_eq!(daemon.instance("web").port, Some(port));
    let first = daemon.instance("web").pid.unwrap();
    daemon.act(ServiceAction::Replace, "web");
    let second = daemon.wait_replaced("web", first);
    assert_eq!(second.port, Some(port + 1));
    daemon.wait_event("web", "service.replaced");
    let said = daemon.wait_event("web", "service.admitted");
    assert!(said.message.starts_with("web is in rotation after "), "{}", said.message);
    wait_for("the old one is gone", || if alive(first) { Err("alive".into()) } else { Ok(()) });
    assert!(serves(port + 1) && !serves(port));
    wait_for("one run is left", || {
        let runs = daemon.instance("web").runs;
        if runs.len() == 1 { Ok(()) } else { Err(format!("{runs:?}")) }
    });
    daemon.act(ServiceAction::Replace, "web");
    let third = daemon.wait_replaced("web", second.pid.unwrap());
    assert_eq!(third.port, Some(port));
}

#[test]
fn h18_holdfast_dies_while_an_old_run_is_drained_and_neither_is_lost() {
    let (mut daemon, port) = beside("10min");
    let first = daemon.instance("web").pid.unwrap();
    daemon.act(ServiceAction::Replace, "web");
    let second = daemon.wait_replaced("web", first).pid.unwrap();
    let roles = |daemon: &Daemon| -> Vec<(String, Option<u32>, String)> {
        let runs = daemon.instance("web").runs;
        runs.into_iter().map(|run| (run.role, run.pid, run.state)).collect()
    };
    assert_eq!(
        roles(&daemon),
        [
            ("present".to_owned(), Some(second), "up".to_owned()),
            ("leaving".to_owned(), Some(first), "draining".to_owned()),
        ]
    );
    assert!(serves(port) && serves(port + 1));
    daemon.kill_root();
    assert!(alive(first) && alive(second));
    daemon.run();
    assert_eq!(daemon.instance("web").pid, Some(second));
    assert_eq!(daemon.instance("web").port, Some(port + 1), "the ports are remembered");
    wait_for("the old one is stopped", || if alive(first) { Err("alive".into()) } else { Ok(()) });
    wait_for("only the present one is left", || {
        let left = roles(&daemon);
        if left.len() == 1 { Ok(()) } else { Err(format!("{left:?}")) }
    });
    assert!(serves(port + 1));
    kill(second, "TERM");
    assert_eq!(daemon.wait_replaced("web", second).port, Some(port + 1));
}
