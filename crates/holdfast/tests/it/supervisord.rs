//! Unmodified `supervisorctl`, Debian's and PyPI's, against the real daemon: what it shows, what it
//! does, and how it exits. The expected words and exit codes are those of supervisord 4.2.5.

use crate::peers::{peer, wheel};
use crate::support::{Daemon, alive, wait_for};
use control::{Reply, Request};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};

pub(crate) const FACE: &str = "[supervisord]\nunix = \"{dir}/sup.sock\"\n";

/// Both versions that are around, as far as they are installed.
pub(crate) fn clients() -> Vec<PathBuf> {
    peer("supervisorctl", &[]).into_iter().chain(wheel("supervisorctl")).collect()
}

pub(crate) fn ctl(client: &Path, daemon: &Daemon, arguments: &[&str]) -> Command {
    let mut command = Command::new(client);
    command.arg("-s").arg(format!("unix://{}", daemon.path("sup.sock").display()));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Exit code, and everything that was printed.
pub(crate) fn run(command: &mut Command) -> (i32, String) {
    let done = command.output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    (done.status.code().unwrap_or(-1), text.into_owned())
}

/// Waits until the interface answers.
pub(crate) fn ready(client: &Path, daemon: &Daemon) {
    wait_for("supervisorctl is answered", || match run(&mut ctl(client, daemon, &["version"])) {
        (0, text) if text.starts_with("4.3.0+holdfast.") => Ok(()),
        other => Err(format!("{other:?}\n{}", daemon.log())),
    });
}

fn start(services: &str) -> Daemon {
    Daemon::start(&format!("{FACE}{services}"))
}

const SERVICES: &str = "\
    [service.web]\nshell = true\ncommand = \"echo hello; echo oops >&2; exec sleep 1000\"\n\
    log = { split_stderr = true }\n\
    [service.worker]\ncommand = [\"sleep\", \"1000\"]\ninstances = 2\n\
    [service.once]\ncommand = [\"true\"]\nkind = \"oneshot\"\n\
    [service.manual]\ncommand = [\"sleep\", \"1000\"]\nautostart = false\n\
    [service.bad]\ncommand = [\"false\"]\nready = { delay = \"10s\" }\nautostart = false\n\
    restart = { budget = 1, delay = \"1ms\" }\n\
    [service.missing]\ncommand = [\"/nonexistent/x\"]\nautostart = false\n";

/// What a command exits with, and words that it prints.
fn expect(client: &Path, daemon: &Daemon, arguments: &str, code: i32, words: &[&str]) -> String {
    let split: Vec<&str> = arguments.split(' ').collect();
    let (exit, text) = run(&mut ctl(client, daemon, &split));
    let said = words.iter().all(|word| text.contains(word));
    assert!(exit == code && said, "{arguments}: {exit}\n{text}\n{words:?}\n{}", daemon.log());
    text
}

#[test]
fn h27_supervisorctl_shows_and_does_what_it_does_with_supervisord() {
    for client in clients() {
        let mut daemon = start(SERVICES);
        ready(&client, &daemon);
        for name in ["web", "worker:0", "worker:1"] {
            daemon.wait_state(name, "running");
        }
        daemon.wait_state("once", "finished");
        let expect = |arguments: &str, code, words: &[&str]| {
            expect(&client, &daemon, arguments, code, words)
        };
        let status = expect("status", 3, &["EXITED", "Not started"]);
        let web = daemon.instance("web").pid.unwrap();
        let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line("web ").contains(&format!("RUNNING   pid {web}, uptime 0:00:")), "{status}");
        assert!(line("worker:worker_1").contains("RUNNING"), "{status}");
        expect("status web", 0, &["RUNNING"]);
        expect("status worker:*", 0, &["worker:worker_0", "worker:worker_1"]);
        expect("status nosuch", 4, &["nosuch: ERROR (no such process)"]);
        expect("pid", 0, &[&daemon.pid().to_string()]);
        expect("pid web", 0, &[&web.to_string()]);
        expect("avail", 0, &["in use    auto ", "in use    manual"]);

        expect("start manual", 0, &["manual: started"]);
        expect("start manual", 0, &["manual: ERROR (already started)"]);
        expect("start nosuch", 1, &["nosuch: ERROR (no such process)"]);
        expect("start bad", 7, &["bad: ERROR (spawn error)"]);
        expect("start missing", 1, &["missing: ERROR (no such file)"]);
        expect("stop manual", 0, &["manual: stopped"]);
        expect("stop manual", 0, &["manual: ERROR (not running)"]);
        expect("restart web", 0, &["web: stopped", "web: started"]);
        assert!(!alive(web));
        expect("restart worker:*", 0, &["worker:worker_0: stopped", "worker:worker_1: started"]);
        expect("stop worker:1", 0, &["worker:1: stopped"]);
        expect("start worker:worker_01", 0, &["worker:worker_01: started"]);

        let before = daemon.instance("worker:0").pid.unwrap();
        expect("signal KILL worker:worker_0", 0, &["worker:worker_0: signalled"]);
        daemon.wait_replaced("worker:0", before);
        expect("signal FOO web", 1, &["web: ERROR (bad signal name)"]);
        expect("stop all", 0, &["web: stopped", "worker:worker_0: stopped"]);
        expect("start all", 1, &["web: started", "once: started", "bad: ERROR (spawn error)"]);
        foreground(&client, &daemon);
        assert_eq!(daemon.stop(), 0);
        assert!(!daemon.path("sup.sock").exists());
    }
}

/// What can't be done is said: services have no standard input.
fn foreground(client: &Path, daemon: &Daemon) {
    let words = "services have no standard input here";
    follow(client, daemon, &["fg", "web"], "Press Ctrl-C", words, |_, stdin| {
        stdin.write_all(b"a line\n").unwrap();
    });
}

#[test]
fn h27_what_supervisorctl_asks_is_recorded_with_who_asked() {
    let Some(client) = clients().into_iter().next() else { return };
    let daemon = start(SERVICES);
    ready(&client, &daemon);
    expect(&client, &daemon, "restart web", 0, &["web: started"]);
    expect(&client, &daemon, "clear web", 0, &["web: cleared"]);
    let text = expect(&client, &daemon, "maintail", 0, &["INFO"]);
    assert!(
        text.contains("asked to stop web") && text.contains("emptied the log of web"),
        "{text}"
    );
}

#[test]
fn h27_supervisorctl_reads_and_follows_logs() {
    for client in clients() {
        let daemon = start(
            "[service.web]\nshell = true\nlog = { split_stderr = true }\n\
             command = \"echo hello; echo oops >&2; trap 'echo again' USR1; \
             while :; do sleep 0.1; done\"\n",
        );
        ready(&client, &daemon);
        wait_for("the service has written", || match daemon.output("web") {
            text if text.contains("hello") => Ok(()),
            text => Err(text),
        });
        assert_eq!(expect(&client, &daemon, "tail web", 0, &["hello"]).trim(), "hello");
        assert_eq!(expect(&client, &daemon, "tail -3 web", 0, &["lo"]).trim(), "lo");
        expect(&client, &daemon, "tail web stderr", 0, &["oops"]);
        expect(&client, &daemon, "tail nosuch", 1, &["no such process name"]);
        follow(&client, &daemon, &["tail", "-f", "web"], "hello", "again", |daemon, _| {
            let pid = daemon.instance("web").pid.unwrap();
            crate::support::kill(pid, "USR1");
        });
        follow(
            &client,
            &daemon,
            &["maintail", "-f"],
            "web is ready",
            "asked to restart",
            |daemon, _| {
                daemon.act(control::ServiceAction::Restart, "web");
            },
        );
        wait_for("the next run has written, too", || match daemon.output("web") {
            text if text.matches("hello").count() == 2 => Ok(()),
            text => Err(text),
        });
        expect(&client, &daemon, "clear web", 0, &["web: cleared"]);
        assert_eq!(daemon.output("web"), "");
    }
}

/// Runs a command that does not end; waits for a word, causes another, and waits for that.
fn follow(
    client: &Path,
    daemon: &Daemon,
    arguments: &[&str],
    first: &str,
    second: &str,
    cause: impl FnOnce(&Daemon, &mut ChildStdin),
) {
    let mut command = ctl(client, daemon, arguments);
    command.env("PYTHONUNBUFFERED", "1").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut out = child.stdout.take().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(read @ 1..) = out.read(&mut bytes) {
            if tell.send(String::from_utf8_lossy(&bytes[..read]).into_owned()).is_err() {
                return;
            }
        }
    });
    let mut text = String::new();
    let mut wait = |word: &str| {
        wait_for(&format!("{arguments:?} shows {word}"), || {
            text.extend(told.try_iter());
            if text.contains(word) { Ok(()) } else { Err(text.clone()) }
        });
    };
    wait(first);
    cause(daemon, &mut stdin);
    wait(second);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap();
}

#[test]
fn h27_supervisorctl_takes_a_changed_configuration() {
    for client in clients() {
        let daemon = start(
            "[service.keep]\ncommand = [\"sleep\", \"1000\"]\n\
             [service.change]\ncommand = [\"sleep\", \"1001\"]\n\
             [service.gone]\ncommand = [\"sleep\", \"1002\"]\n",
        );
        ready(&client, &daemon);
        let keep = daemon.wait_state("keep", "running").pid.unwrap();
        let change = daemon.wait_state("change", "running").pid.unwrap();
        let gone = daemon.wait_state("gone", "running").pid.unwrap();
        expect(&client, &daemon, "reread", 0, &["No config updates to processes"]);
        daemon.configure(&format!(
            "{FACE}[service.keep]\ncommand = [\"sleep\", \"1000\"]\n\
             [service.change]\ncommand = [\"sleep\", \"2001\"]\n\
             [service.new]\ncommand = [\"sleep\", \"2002\"]\n"
        ));
        let words = ["new: available", "change: changed", "gone: disappeared"];
        expect(&client, &daemon, "reread", 0, &words);
        assert_eq!(daemon.instance("change").pid, Some(change), "nothing was changed by it");
        let words = ["gone: stopped", "gone: removed process group", "change: stopped"];
        let text = expect(&client, &daemon, "update", 0, &words);
        assert!(text.contains("change: updated process group"), "{text}");
        assert!(text.contains("new: added process group"), "{text}");
        daemon.wait_state("new", "running");
        daemon.wait_replaced("change", change);
        assert!(!alive(gone) && alive(keep));
        assert!(daemon.snapshot().services.iter().all(|service| service.name != "gone"));
        expect(&client, &daemon, "update", 0, &[]);
        expect(&client, &daemon, "add keep", 0, &["process group already active"]);
        expect(&client, &daemon, "add nosuch", 1, &["no such process/group: nosuch"]);
        expect(&client, &daemon, "remove keep", 1, &["process/group still running: keep"]);

        // Off the list, and on it again.
        expect(&client, &daemon, "stop keep", 0, &["keep: stopped"]);
        expect(&client, &daemon, "remove keep", 0, &["keep: removed process group"]);
        let text = expect(&client, &daemon, "status", 0, &["new"]);
        assert!(!text.contains("keep"), "{text}");
        expect(&client, &daemon, "avail", 0, &["avail "]);
        expect(&client, &daemon, "add keep", 0, &["keep: added process group"]);
        daemon.wait_state("keep", "running");

        // A configuration with faults is said, and changes nothing.
        daemon.configure(&format!("{FACE}[service.new]\ncommand = 7\n"));
        expect(&client, &daemon, "reread", 1, &["CANT_REREAD", "holdfast.toml"]);
        daemon.wait_state("new", "running");
    }
}

/// Holdfast takes a configuration as a whole, supervisorctl goes through it group by group.
#[test]
fn h27_an_update_of_several_groups_restarts_each_of_them_once() {
    for client in clients() {
        let config = |number: u32| {
            let sleep = |name: &str, number| {
                format!("[service.{name}]\ncommand = [\"sleep\", \"{number}\"]\n")
            };
            let (one, two, three) = (1000 + number, 2000 + number, 3000 + number);
            sleep("one", one) + &sleep("two", two) + &sleep("three", three)
        };
        let daemon = start(&config(0));
        ready(&client, &daemon);
        let names = ["one", "two", "three"];
        let old = names.map(|name| daemon.wait_state(name, "running").pid.unwrap());
        daemon.configure(&format!("{FACE}{}", config(1)));
        let text = expect(&client, &daemon, "update", 0, &[]);
        for (name, old) in names.iter().zip(old) {
            assert!(text.contains(&format!("{name}: updated process group")), "{text}");
            daemon.wait_replaced(name, old);
            let started = daemon.try_events(&["--subject", name]).unwrap();
            let started = started.iter().filter(|event| event.kind == "service.starting");
            assert_eq!(started.count(), 2, "{name}: at first, and by the update\n{}", daemon.log());
        }
        // What is asked afterwards is done, as long as it may be asked.
        let stopped = daemon.wait_state("three", "running").pid.unwrap();
        expect(&client, &daemon, "stop three:*", 0, &["three: stopped"]);
        assert!(!alive(stopped));
    }
}

#[test]
fn h27_supervisorctl_reload_starts_the_daemon_again_and_shutdown_ends_it() {
    for client in clients() {
        let daemon = start("[service.web]\ncommand = [\"sleep\", \"1000\"]\n");
        ready(&client, &daemon);
        let web = daemon.wait_state("web", "running").pid.unwrap();
        let started = daemon.snapshot().started_us;
        let mut reload = ctl(&client, &daemon, &["reload"]).stdin(Stdio::piped()).spawn().unwrap();
        reload.stdin.take().unwrap().write_all(b"y\n").unwrap();
        assert!(reload.wait().unwrap().success());
        wait_for("holdfast was started again", || match daemon.try_ask(Request::Status)? {
            Reply::Status { snapshot } if started < snapshot.started_us => Ok(()),
            other => Err(format!("{other:?}")),
        });
        ready(&client, &daemon);
        assert_eq!(daemon.instance("web").pid, Some(web), "it goes on");

        let mut daemon = daemon;
        expect(&client, &daemon, "shutdown", 0, &["Shut down"]);
        let mut child = daemon.child.take().unwrap();
        wait_for("the daemon has ended", || match child.try_wait().unwrap() {
            Some(status) if status.success() => Ok(()),
            other => Err(format!("{other:?} {}", daemon.log())),
        });
        assert!(!alive(web));
    }
}
