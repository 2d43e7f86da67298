//! sd_notify(3) beyond READY: watchdog, more time, another main process, reload, stop.

use crate::support::{Daemon, alive, kill, wait_for};
use control::ServiceAction;
use std::fs;
use std::process::Command;

/// `say(text)`, and `gate(name)`, which waits until the test has written to that named pipe.
const PRELUDE: &str = "import os, signal, socket, subprocess, sys, threading, time\n\
    def say(text):\n    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n    \
    s.sendto(text.encode(), os.environ['NOTIFY_SOCKET'])\n\
    def gate(name):\n    open(os.path.join(os.environ['DIR'], name)).read()\n";

/// A daemon whose service `noted` is this program, with named pipes as gates.
fn start(program: &str, more: &str, gates: &[&str]) -> Daemon {
    let mut daemon = Daemon::prepare(&format!(
        "[service.noted]\ncommand = [\"python3\", \"-u\", \"{{dir}}/noted.py\"]\nready = \"notify\"\n\
         env = {{ DIR = \"{{dir}}\" }}\n{more}"
    ));
    daemon.write("noted.py", &format!("{PRELUDE}{program}"));
    for gate in gates {
        assert!(Command::new("mkfifo").arg(daemon.path(gate)).status().unwrap().success());
    }
    daemon.run();
    daemon
}

fn open(daemon: &Daemon, gate: &str) {
    fs::write(daemon.path(gate), "go").unwrap();
}

fn wait_status(daemon: &Daemon, text: &str) {
    wait_for(&format!("it says `{text}`"), || {
        let seen = daemon.instance("noted");
        if seen.status_text == text { Ok(()) } else { Err(format!("{seen:?}")) }
    });
}

#[test]
fn a_service_that_stops_feeding_its_watchdog_is_replaced() {
    // The first one falls silent when told; its successor goes on.
    let daemon = start(
        "assert os.environ['WATCHDOG_USEC'] == '2000000'\n\
         first = not os.path.exists(os.environ['DIR'] + '/was')\n\
         open(os.environ['DIR'] + '/was', 'w')\n\
         silent = threading.Event()\n\
         def listen():\n    gate('hush')\n    silent.set()\n\
         if first: threading.Thread(target=listen, daemon=True).start()\n\
         say('READY=1')\n\
         while not silent.wait(0.2): say('WATCHDOG=1')\n\
         signal.pause()\n",
        "watchdog = \"2s\"\nstop = [\"TERM 1s\"]\n",
        &["hush"],
    );
    let first = daemon.wait_state("noted", "running");
    open(&daemon, "hush");
    let second = daemon.wait_replaced("noted", first.pid.unwrap());
    assert!(!alive(first.pid.unwrap()));
    assert_eq!(second.restarts, 1);
    let event = daemon.wait_event("noted", "service.watchdog_timeout");
    assert!(
        event.message.contains("WATCHDOG=1") || event.message.contains("watchdog"),
        "{event:?}"
    );
}

#[test]
fn a_service_can_say_of_itself_that_it_is_sick() {
    let daemon = start(
        "say('READY=1')\nif not os.path.exists(os.environ['DIR'] + '/was'):\n    \
         open(os.environ['DIR'] + '/was', 'w')\n    gate('sick')\n    say('WATCHDOG=trigger')\n\
         signal.pause()\n",
        "watchdog = \"1h\"\n",
        &["sick"],
    );
    let first = daemon.wait_state("noted", "running").pid.unwrap();
    open(&daemon, "sick");
    daemon.wait_replaced("noted", first);
    let event = daemon.wait_event("noted", "service.watchdog_timeout");
    assert!(event.message.contains("sick"), "{event:?}");
}

#[test]
fn a_start_is_given_the_time_it_asks_for() {
    let daemon = start(
        "say('EXTEND_TIMEOUT_USEC=600000000\\nSTATUS=replaying')\ngate('go')\n\
         say('READY=1\\nSTATUS=open')\nsignal.pause()\n",
        "start_timeout = \"5s\"\n\
         [service.slow]\ncommand = [\"sleep\", \"1000\"]\nready = \"notify\"\nstart_timeout = \"6s\"\n\
         restart = \"never\"\nstop = [\"KILL 1s\"]\n",
        &["go"],
    );
    wait_status(&daemon, "replaying");
    // Another one with a longer limit, which asks for nothing, is over by then.
    daemon.wait_state("slow", "failed");
    let seen = daemon.instance("noted");
    assert_eq!((seen.state.as_str(), seen.restarts), ("starting", 0), "{seen:?}");
    open(&daemon, "go");
    daemon.wait_state("noted", "running");
    wait_status(&daemon, "open");
}

#[test]
fn d2_another_main_process_can_be_named_but_only_one_of_its_own() {
    let daemon = start(
        "child = subprocess.Popen(['sleep', '1003'])\n\
         say('READY=1\\nMAINPID=1\\nSTATUS=wrong')\ngate('name')\n\
         say(f'MAINPID={child.pid}\\nSTATUS=right')\nchild.wait()\nsignal.pause()\n",
        "",
        &["name"],
    );
    let first = daemon.wait_state("noted", "running").pid.unwrap();
    wait_status(&daemon, "wrong");
    assert_eq!(daemon.instance("noted").pid, Some(first), "1 is none of its processes");
    open(&daemon, "name");
    wait_status(&daemon, "right");
    let main = wait_for("the child is the main process", || {
        let pid = daemon.instance("noted").pid.unwrap();
        if pid == first { Err("not yet") } else { Ok(pid) }.map_err(ToOwned::to_owned)
    });
    let command = fs::read_to_string(format!("/proc/{main}/cmdline")).unwrap();
    assert!(command.contains("1003"), "{command}");
    // Its end is the end of the run, and the one that named it is not left behind.
    kill(main, "KILL");
    wait_for("both are gone", || {
        if alive(first) || alive(main) { Err("alive".into()) } else { Ok(()) }
    });
}

#[test]
fn a_reload_is_seen_until_it_is_done() {
    let daemon = start(
        "def reload(*_):\n    say('RELOADING=1\\nSTATUS=reading')\n    gate('read')\n    \
         say('READY=1\\nSTATUS=read')\n\
         signal.signal(signal.SIGHUP, reload)\nsay('READY=1')\nwhile True: signal.pause()\n",
        "reload = \"HUP\"\n",
        &["read"],
    );
    let run = daemon.wait_state("noted", "running").run;
    daemon.act(ServiceAction::Reload, "noted");
    wait_status(&daemon, "reading");
    let why = daemon.why("noted");
    assert!(why.chain[0].message.contains("reads its configuration again"), "{why:?}");
    open(&daemon, "read");
    wait_status(&daemon, "read");
    wait_for("the reload is over", || {
        let why = daemon.why("noted");
        if why.chain.is_empty() { Ok(()) } else { Err(format!("{why:?}")) }
    });
    let seen = daemon.instance("noted");
    assert_eq!((seen.run, seen.state.as_str()), (run, "running"));
}

#[test]
fn a_stop_that_is_under_way_says_so_and_gets_more_time() {
    let daemon = start(
        "def stop(*_):\n    say('STOPPING=1\\nSTATUS=draining\\nEXTEND_TIMEOUT_USEC=600000000')\n    \
         gate('drained')\n    open(os.environ['DIR'] + '/clean', 'w')\n    sys.exit(0)\n\
         signal.signal(signal.SIGTERM, stop)\nsay('READY=1')\nwhile True: signal.pause()\n",
        "stop = [\"TERM 2s\"]\n\
         [service.slow]\nshell = true\ncommand = \"trap '' TERM; touch {dir}/deaf; while :; do sleep 1; done\"\n\
         ready = { file = \"{dir}/deaf\" }\nstop = [\"TERM 3s\"]\n",
        &["drained"],
    );
    daemon.wait_state("noted", "running");
    daemon.wait_state("slow", "running");
    daemon.act(ServiceAction::Stop, "noted");
    wait_status(&daemon, "draining");
    daemon.act(ServiceAction::Stop, "slow");
    // Another one with a longer limit, which asks for nothing, has been killed by then.
    daemon.wait_state("slow", "stopped");
    assert_eq!(daemon.instance("noted").state, "stopping");
    open(&daemon, "drained");
    daemon.wait_state("noted", "stopped");
    assert!(daemon.path("clean").exists());
    assert_eq!(daemon.instance("noted").last_exit.as_deref(), Some("exit code 0"));
}
