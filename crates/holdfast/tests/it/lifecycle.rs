//! Start, ready, end, restart, stop: with real processes.

use crate::support::{Daemon, alive, kill, wait_for};
use control::{Request, ServiceAction};
use std::fs;

#[test]
fn a_killed_service_has_a_successor_and_the_events_tell() {
    let daemon = Daemon::start("[service.web]\ncommand = [\"sleep\", \"1000\"]\n");
    let first = daemon.wait_state("web", "running");
    kill(first.pid.unwrap(), "KILL");
    let second = daemon.wait_replaced("web", first.pid.unwrap());
    assert_eq!(second.restarts, 1);
    assert_eq!(second.last_exit.as_deref(), Some("signal 9 (KILL)"));
    assert!(!alive(first.pid.unwrap()));
}

#[test]
fn services_start_in_order_and_stop_in_reverse() {
    let service = |name: &str, more: &str| {
        format!(
            "[service.{name}]\nshell = true\ncommand = \"echo start-{name} >> {{dir}}/order; \
             trap 'echo stop-{name} >> {{dir}}/order; exit 0' TERM; \
             while :; do sleep 1000 & wait; done\"\n\
             ready = {{ file = \"{{dir}}/order\" }}\n{more}\n"
        )
    };
    let config = service("a", "")
        + &service("b", "requires = [\"a\"]")
        + &service("c", "requires = [\"b\"]");
    let mut daemon = Daemon::start(&config);
    for name in ["a", "b", "c"] {
        daemon.wait_state(name, "running");
    }
    let order = daemon.path("order");
    wait_for("all have started", || {
        let text = fs::read_to_string(&order).unwrap();
        if text.lines().count() == 3 { Ok(()) } else { Err(text) }
    });
    assert_eq!(daemon.stop(), 0);
    let text = fs::read_to_string(order).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines, ["start-a", "start-b", "start-c", "stop-c", "stop-b", "stop-a"]);
}

#[test]
fn h18_a_service_that_ignores_term_is_killed_with_all_it_forked() {
    let mut daemon = Daemon::start(
        "[service.stubborn]\nshell = true\n\
         command = \"trap '' TERM; (trap '' TERM; exec setsid sleep 1001) & echo up; while :; do sleep 1; done\"\n\
         stop = [\"TERM 200ms\"]\n",
    );
    daemon.wait_state("stubborn", "running");
    wait_for("it has forked", || {
        let seen = daemon.processes();
        let forked = seen.iter().any(|(_, command)| command.contains("sleep 1001"));
        if forked { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    daemon.act(ServiceAction::Stop, "stubborn");
    daemon.wait_state("stubborn", "stopped");
    let left: Vec<_> =
        daemon.processes().into_iter().filter(|(_, command)| !command.contains("duty")).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn d2_a_double_forking_service_is_supervised_by_its_true_pid() {
    let daemon = Daemon::start(
        "[service.forker]\nkind = \"forking\"\nshell = true\n\
         command = \"setsid sh -c 'exec sleep 1002' & exit 0\"\n",
    );
    let first = daemon.wait_state("forker", "running").pid.unwrap();
    let command = fs::read_to_string(format!("/proc/{first}/cmdline")).unwrap();
    assert!(command.contains("1002"), "{command}");
    kill(first, "KILL");
    daemon.wait_replaced("forker", first);
}

#[test]
fn h26_a_service_that_exits_at_once_is_given_up_and_says_why() {
    let daemon = Daemon::start(
        "[service.bad]\nshell = true\ncommand = \"echo no database >&2; exit 3\"\n\
         restart = { when = \"always\", delay = \"10ms\", budget = 3, within = \"60s\" }\n",
    );
    let seen = daemon.wait_state("bad", "failed");
    assert_eq!(seen.last_exit.as_deref(), Some("exit code 3"));
    wait_for("its output is kept", || {
        let lines = daemon.output("bad").lines().count();
        if lines == 4 { Ok(()) } else { Err(format!("{lines} lines")) }
    });
    let why = daemon.why("bad");
    let chain = format!("{:?}", why.chain);
    assert!(chain.contains("exit") && chain.contains('3'), "{chain}");
    assert!(why.last_output.iter().any(|line| line == "no database"), "{why:?}");
    daemon.act(ServiceAction::Start, "bad");
    daemon.wait_state("bad", "failed");
}

#[test]
fn g13_why_names_the_root_cause_through_its_dependants() {
    let daemon = Daemon::start(
        "[service.db]\ncommand = [\"sleep\", \"1000\"]\nautostart = false\n\
         [service.app]\ncommand = [\"sleep\", \"1000\"]\nautostart = false\nrequires = [\"db\"]\n\
         [service.bad]\ncommand = [\"false\"]\nrestart = \"never\"\nready = { delay = \"5s\" }\n\
         [service.front]\ncommand = [\"sleep\", \"1000\"]\nrequires = [\"bad\"]\n",
    );
    daemon.wait_state("bad", "failed");
    daemon.wait_state("front", "waiting");
    let why = daemon.why("front");
    assert_eq!(why.chain.last().unwrap().subject, "bad", "{why:?}");
    // A start brings what is required along.
    daemon.act(ServiceAction::Start, "app");
    daemon.wait_state("app", "running");
    daemon.wait_state("db", "running");
    // A stop takes along what requires it.
    daemon.act(ServiceAction::Stop, "db");
    daemon.wait_state("db", "stopped");
    daemon.wait_state("app", "stopped");
}

#[test]
fn c5_children_inherit_nothing_of_ours() {
    let daemon = Daemon::start(
        "[service.show]\nshell = true\n\
         command = \"ls -l /proc/self/fd; grep -E 'Sig(Blk|Ign)' /proc/self/status; env; exec sleep 1000\"\n",
    );
    daemon.wait_state("show", "running");
    let output = wait_for("it has told", || {
        let output = daemon.output("show");
        if output.contains("HOLDFAST_RUN=") { Ok(output) } else { Err(output) }
    });
    let fds = output.lines().filter(|line| line.contains(" -> ")).count();
    assert_eq!(fds, 4, "0, 1, 2 and the one of `ls` itself:\n{output}");
    for line in output.lines().filter(|line| line.starts_with("Sig")) {
        assert!(line.ends_with("0000000000000000"), "{line}");
    }
    let own: Vec<_> = output.lines().filter(|line| line.starts_with("HOLDFAST")).collect();
    assert_eq!(own.len(), 1, "{own:?}");
    assert!(!output.contains("CARGO"), "{output}");
}

#[test]
fn instances_have_their_own_index_and_port() {
    let daemon = Daemon::start(
        "[service.many]\ninstances = 3\nport = 9000\nshell = true\n\
         command = \"echo {name} {index} {port}; exec sleep 1000\"\n",
    );
    for index in 0..3 {
        let name = format!("many:{index}");
        let seen = daemon.wait_state(&name, "running");
        assert_eq!(seen.port, Some(9000 + index));
        let wanted = format!("many {index} {}\n", 9000 + index);
        wait_for("its output is kept", || {
            let output = daemon.output(&name);
            if output == wanted { Ok(()) } else { Err(output) }
        });
    }
    daemon.act(ServiceAction::Stop, "many:1");
    daemon.wait_state("many:1", "stopped");
    assert_eq!(daemon.instance("many:0").state, "running");
}

#[test]
fn sd_notify_tells_when_a_service_is_ready_and_what_it_does() {
    let program = "import os, socket, signal\n\
        def say(text):\n    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n    \
        s.sendto(text.encode(), os.environ['NOTIFY_SOCKET'])\n\
        open(os.environ['GO'], 'r').read()\n\
        say('STATUS=serving 7 users\\nREADY=1')\n\
        signal.pause()\n";
    let daemon = Daemon::prepare(
        "[service.noted]\ncommand = [\"python3\", \"{dir}/noted.py\"]\nready = \"notify\"\n\
         env = { GO = \"{dir}/go\" }\n",
    );
    fs::write(daemon.path("noted.py"), program).unwrap();
    // Reading a named pipe waits for its writer: so the test says when it goes on.
    assert!(
        std::process::Command::new("mkfifo").arg(daemon.path("go")).status().unwrap().success()
    );
    let mut daemon = daemon;
    daemon.run();
    daemon.wait_state("noted", "starting");
    fs::write(daemon.path("go"), "go").unwrap();
    let seen = daemon.wait_state("noted", "running");
    assert_eq!(seen.status_text, "serving 7 users");
}

#[test]
fn an_operator_is_on_record_with_what_they_asked() {
    let daemon = Daemon::start("[service.web]\ncommand = [\"sleep\", \"1000\"]\n");
    daemon.wait_state("web", "running");
    daemon.act(ServiceAction::Restart, "web");
    let segments = fs::read_dir(daemon.path("state/events")).unwrap();
    let bytes: Vec<u8> = segments.flatten().flat_map(|e| fs::read(e.path()).unwrap()).collect();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("service.command") && text.contains("uid 0"), "{text}");
    assert!(matches!(daemon.ask(Request::Ping), control::Reply::Pong { .. }));
}
