//! The daemon's own life: background, lock, pid file, signals.

use crate::support::{Daemon, alive, kill, wait_for};
use control::Request;
use std::fs;

const WEB: &str = "[service.web]\ncommand = [\"sleep\", \"1000\"]\n";

fn daemon_pid(daemon: &Daemon) -> u32 {
    fs::read_to_string(daemon.path("pid")).unwrap().trim().parse().unwrap()
}

fn end(pid: u32) {
    kill(pid, "TERM");
    wait_for("the daemon ends", || if alive(pid) { Err("alive".into()) } else { Ok(()) });
}

#[test]
fn d1_the_launcher_returns_when_the_daemon_is_up_and_it_has_no_terminal() {
    let daemon = Daemon::prepare(WEB);
    let pid_file = daemon.path("pid");
    let output = daemon.cli(&["run", "--daemon", "--pid-file", pid_file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // It is up: it answers at once.
    assert!(daemon.try_ask(Request::Ping).is_ok());
    let pid = daemon_pid(&daemon);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let (session, terminal) = (fields[3], fields[4]);
    assert_ne!(session, pid.to_string(), "a session leader could gain a terminal");
    assert_eq!(terminal, "0");
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(), Some("/"));
    assert_eq!(fs::read_link(format!("/proc/{pid}/fd/0")).unwrap().to_str(), Some("/dev/null"));
    daemon.wait_state("web", "running");
    end(pid);
    assert!(!pid_file.exists());
}

#[test]
fn d1_a_daemon_that_cannot_start_tells_its_launcher() {
    let mut first = Daemon::prepare(WEB);
    first.run();
    let output = first.cli(&["run", "--daemon"]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(message.contains(&first.pid().to_string()), "{message}");
}

#[test]
fn two_daemons_on_one_state_directory_the_second_ends_with_a_clear_message() {
    let daemon = Daemon::start(WEB);
    let output = daemon.cli(&["run"]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains(&daemon.pid().to_string()), "{message}");
    daemon.wait_state("web", "running");
}

#[test]
fn a_term_stops_the_services_and_ends_with_success() {
    let mut daemon = Daemon::start(WEB);
    let web = daemon.wait_state("web", "running").pid.unwrap();
    kill(daemon.pid(), "TERM");
    let mut child = daemon.child.take().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!alive(web));
    assert!(!daemon.path("run/control.sock").exists());
}

#[test]
fn a_killed_duty_is_started_again_and_services_go_on() {
    let daemon = Daemon::start(WEB);
    let web = daemon.wait_state("web", "running").pid;
    let duties = wait_for("both duties run", || {
        let duties = daemon.snapshot().duties;
        let up = duties.len() == 2 && duties.iter().all(|duty| duty.state == "running");
        if up { Ok(duties) } else { Err(format!("{duties:?}")) }
    });
    for duty in duties {
        kill(duty.pid.unwrap(), "KILL");
        wait_for("it has a successor", || {
            let now = daemon.snapshot().duties;
            let fresh = now.iter().find(|now| now.name == duty.name).unwrap();
            let replaced = fresh.state == "running" && fresh.pid != duty.pid;
            if replaced { Ok(()) } else { Err(format!("{fresh:?}\n{}", daemon.log())) }
        });
    }
    assert_eq!(daemon.instance("web").pid, web);
}

#[test]
fn systemd_is_told_that_we_are_ready() {
    use std::os::unix::net::UnixDatagram;
    let mut daemon = Daemon::prepare(WEB);
    let path = daemon.path("systemd.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(crate::support::DEADLINE)).unwrap();
    let child = daemon
        .command(&["run"])
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "200000")
        .stderr(fs::File::create(daemon.path("daemon.log")).unwrap())
        .spawn()
        .unwrap();
    daemon.child = Some(child);
    let mut heard = String::new();
    let mut buffer = [0; 4096];
    while !(heard.contains("READY=1") && heard.matches("WATCHDOG=1").count() == 2) {
        let read = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{error}: {heard}"));
        heard.push_str(&String::from_utf8_lossy(&buffer[..read]));
        heard.push('\n');
    }
    assert!(heard.starts_with("READY=1"), "{heard}");
}

/// How often the threads of a process have been given a processor, voluntarily left or not.
fn switches(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let count = |task: fs::DirEntry| -> u64 {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
        counts.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
    };
    tasks.map(count).sum()
}

/// All threads of the root (its loop, its recorder, its hands, the watch over its loop) and of the
/// keeper of the output. The console samples memory and CPU every ten seconds, and is left out.
#[test]
fn h24_c6_an_idle_daemon_wakes_up_for_nothing() {
    let daemon = Daemon::start(WEB);
    daemon.wait_state("web", "running");
    let logs = wait_for("the keeper of the output runs", || {
        let duties = daemon.snapshot().duties;
        let found = duties.iter().find(|duty| duty.name == "logs").and_then(|duty| duty.pid);
        found.ok_or_else(|| format!("{duties:?}"))
    });
    let (mut last, mut same) = ((0, 0), 0);
    wait_for("nothing of it has run between two hundred looks", || {
        let now = (switches(daemon.pid()), switches(logs));
        same = if now == last { same + 1 } else { 0 };
        last = now;
        if 200 <= same { Ok(()) } else { Err(format!("{same} looks, {now:?} switches")) }
    });
}

/// Most threads of the root: its loop, the watch over it, the recorder, four hands, and what the
/// runtime keeps for files and names.
const THREADS_MAX: usize = 11;

#[test]
fn d4_spawning_waits_for_no_child_and_takes_no_thread_for_each() {
    const SERVICES: usize = 40;
    let service = |n| {
        format!(
            "[service.s{n}]\ncommand = [\"sleep\", \"1000\"]\nready = {{ file = \"/no/such/file\" }}\n"
        )
    };
    let daemon = Daemon::start(&(0..SERVICES).map(service).collect::<Vec<_>>().concat());
    // None is ever ready, and each runs.
    wait_for("all of them run", || {
        let services = daemon.snapshot().services;
        let mut instances = services.iter().flat_map(|service| &service.instances);
        let all = instances.all(|one| one.state == "starting" && one.pid.is_some());
        if all && services.len() == SERVICES { Ok(()) } else { Err(daemon.log()) }
    });
    let threads = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap().count();
    assert!(threads <= THREADS_MAX, "{threads} threads");
}
