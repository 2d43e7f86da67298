//! A real service hangs, stops or leaks, and the real daemon sees it from outside: verdicts, evidence,
//! replacement, quarantine, observation.

use crate::support::{Daemon, alive, free_port, kill, wait_for};
use control::InstanceView;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Answers each request with its pid, one after the other, on a socket that was passed to it.
/// `/hang` makes it answer nothing any more; `/leak` takes 8 MiB each.
const SERVER: &str = "import os, socket, threading, time\n\
    listener = socket.socket(fileno=3)\n\
    kept = []\n\
    def wait_for_ever():\n    while True:\n        time.sleep(60)\n\
    while True:\n    stream, _ = listener.accept()\n    asked = stream.recv(1000)\n    \
    if b'/hang' in asked:\n        wait_for_ever()\n    \
    if b'/leak' in asked:\n        kept.append(bytearray(os.urandom(1024) * 8192))\n    \
    body = str(os.getpid()).encode()\n    \
    stream.sendall(b'HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n%s' \
    % (len(body), body))\n    stream.close()\n";

fn start(tolerance: &str) -> (Daemon, u16) {
    let port = free_port();
    let mut daemon = Daemon::prepare(&format!(
        "[service.web]\ncommand = [\"python3\", \"{{dir}}/server.py\"]\n\
         sockets = [{{ tcp = \"127.0.0.1:{port}\" }}]\n\
         env = {{ API_TOKEN = \"very-secret\" }}\n\
         {}",
        tolerance.replace("{PORT}", &port.to_string())
    ));
    fs::write(daemon.path("server.py"), SERVER).unwrap();
    daemon.run();
    daemon.wait_state("web", "running");
    (daemon, port)
}

fn get(port: u16, path: &str) -> Result<String, String> {
    let fail = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(fail)?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    // At one stroke: the server reads once.
    let asked = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(asked.as_bytes()).map_err(fail)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(fail)?;
    Ok(answer.rsplit("\r\n").next().unwrap_or_default().to_owned())
}

fn verdict(daemon: &Daemon, detector: &str) -> Option<control::VerdictView> {
    let verdicts = daemon.instance("web").health.verdicts;
    verdicts.into_iter().find(|verdict| verdict.detector == detector)
}

fn wait_verdict(daemon: &Daemon, detector: &str, state: &str) -> control::VerdictView {
    wait_for(&format!("{detector} is {state}"), || {
        let seen = verdict(daemon, detector);
        seen.clone().filter(|it| it.state == state).ok_or_else(|| format!("{seen:?}"))
    })
}

const HANG: &str = "[service.web.tolerance]\nmode = \"enforce\"\ninterval = \"1s\"\n\
    successor = \"beside\"\ndrain = \"1s\"\n\
    [service.web.detect.http]\nurl = \"http://127.0.0.1:{PORT}/\"\ninterval = \"500ms\"\n\
    timeout = \"1s\"\nfailures = 2\n";

#[test]
fn h2_h15_h18_a_server_that_hangs_is_replaced_and_its_stacks_are_kept() {
    let (daemon, port) = start(HANG);
    let old = daemon.instance("web").pid.unwrap();
    wait_verdict(&daemon, "http", "well");
    let _ = get(port, "/hang");
    let new = daemon.wait_replaced("web", old).pid.unwrap();
    assert_eq!(get(port, "/").unwrap(), new.to_string(), "the successor serves on the same socket");
    let said = daemon.wait_event("web", "service.replaced");
    assert!(said.message.contains("bad answers in a row"), "{}", said.message);
    wait_for("the old one is gone", || if alive(old) { Err("alive".into()) } else { Ok(()) });
    let workaround = daemon.instance("web").health.workaround.unwrap();
    assert_eq!((workaround.saves, workaround.would_have), (1, 0));
    let bundle = workaround.evidence.unwrap();

    let list = daemon.cli(&["evidence", "list", "web", "--json"]);
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap();
    assert_eq!(format!("web/{}", list[0]["id"].as_str().unwrap()), bundle);
    let shown = daemon.cli(&["evidence", "show", &bundle]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    for word in ["cause", "bad answers in a row", "threads.txt", "samples.json", "sockets.txt"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    let threads = daemon.cli(&["evidence", "show", &bundle, "threads.txt"]);
    assert!(String::from_utf8(threads.stdout).unwrap().contains(&old.to_string()));
    let environ = daemon.cli(&["evidence", "show", &bundle, "environ.txt"]);
    let environ = String::from_utf8(environ.stdout).unwrap();
    assert!(environ.contains("API_TOKEN") && !environ.contains("very-secret"), "{environ}");
    let to = daemon.path("bundle.tar.gz");
    let exported = daemon.cli(&["evidence", "export", &bundle, "-o", to.to_str().unwrap()]);
    assert!(exported.status.success(), "{exported:?}");
    let listed = std::process::Command::new("tar").arg("tzf").arg(&to).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("/index.json") && listed.contains("/threads.txt"), "{listed}");
}

#[test]
fn h12_observe_counts_what_it_would_have_done_and_touches_nothing() {
    let (daemon, port) = start(&HANG.replace("enforce", "observe"));
    let pid = daemon.instance("web").pid.unwrap();
    wait_verdict(&daemon, "http", "well");
    let _ = get(port, "/hang");
    let said = daemon.wait_event("web", "service.would_replace");
    assert!(said.message.starts_with("web would have been replaced: "), "{}", said.message);
    let InstanceView { pid: now, health, .. } = daemon.instance("web");
    assert_eq!((now, health.state.as_str()), (Some(pid), "up"));
    let workaround = health.workaround.unwrap();
    assert_eq!((workaround.saves, workaround.would_have), (0, 1));
    assert!(daemon.why("web").chain[0].message.contains("it is only observed"));
}

#[test]
fn h14_h18_a_stopped_service_is_told_to_balancers_and_killed_at_once() {
    let (daemon, port) = start(HANG);
    let old = daemon.instance("web").pid.unwrap();
    wait_verdict(&daemon, "http", "well");
    kill(old, "STOP");
    let new = daemon.wait_replaced("web", old).pid.unwrap();
    assert_eq!(get(port, "/").unwrap(), new.to_string());
    wait_for("the old one is gone", || if alive(old) { Err("alive".into()) } else { Ok(()) });
    let said = daemon.wait_event("web", "service.killing");
    assert!(said.message.contains("can't be asked to stop"), "{}", said.message);
}

#[test]
fn h15_a_corpse_is_kept_frozen_until_the_service_is_stopped() {
    let kept = "quarantine = { keep = \"10min\", max = 1 }\n[service.web.detect.http]";
    let (daemon, port) = start(&HANG.replace("[service.web.detect.http]", kept));
    let old = daemon.instance("web").pid.unwrap();
    wait_verdict(&daemon, "http", "well");
    let _ = get(port, "/hang");
    let new = daemon.wait_replaced("web", old).pid.unwrap();
    assert_eq!(get(port, "/").unwrap(), new.to_string());
    daemon.wait_event("web", "service.quarantined");
    let quarantined = daemon.instance("web").health.quarantined;
    assert_eq!(quarantined.iter().map(|run| run.pid).collect::<Vec<_>>(), [Some(old)]);
    assert!(alive(old));
    daemon.act(control::ServiceAction::Stop, "web");
    daemon.wait_state("web", "stopped");
    wait_for("nothing is left", || if alive(old) { Err("alive".into()) } else { Ok(()) });
}

#[test]
fn h7_h23_a_leak_beyond_its_limit_leads_to_a_remedy_and_then_to_a_replacement() {
    let (daemon, port) = start(
        "[service.web.tolerance]\nmode = \"enforce\"\ninterval = \"1s\"\ndrain = \"0s\"\n\
         successor = \"beside\"\n\
         remedies = [{ name = \"drop caches\", command = [\"touch\", \"{dir}/dropped\"], \
         wait = \"1s\", detectors = [\"memory\"] }]\n\
         [service.web.detect.memory]\nlimit = \"64MiB\"\n",
    );
    let old = daemon.instance("web").pid.unwrap();
    for _ in 0..10 {
        let _ = get(port, "/leak");
    }
    let new = daemon.wait_replaced("web", old);
    assert!(daemon.path("dropped").exists(), "the finer action came first");
    assert_eq!(new.health.workaround.unwrap().saves, 1);
    let said = daemon.wait_event("web", "service.sick");
    assert!(said.message.contains("at least 64.0 MiB (its limit)"), "{}", said.message);
}

#[test]
fn h24_nobody_watches_where_there_is_nothing_to_watch() {
    let daemon = Daemon::start("[service.web]\ncommand = [\"sleep\", \"1000\"]\n");
    daemon.wait_state("web", "running");
    let duties = |daemon: &Daemon| -> Vec<String> {
        daemon.snapshot().duties.into_iter().map(|duty| duty.name).collect()
    };
    assert!(!duties(&daemon).contains(&"watch".to_owned()), "{:?}", duties(&daemon));
}

#[test]
fn a_watch_duty_that_dies_is_told_everything_again() {
    let (daemon, port) = start(HANG);
    wait_verdict(&daemon, "http", "well");
    let watch = |daemon: &Daemon| {
        let duties = daemon.snapshot().duties;
        duties.into_iter().find(|duty| duty.name == "watch").and_then(|duty| duty.pid)
    };
    let first = watch(&daemon).unwrap();
    kill(first, "KILL");
    wait_for("another one watches", || match watch(&daemon) {
        Some(pid) if pid != first => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let old = daemon.instance("web").pid.unwrap();
    let _ = get(port, "/hang");
    daemon.wait_replaced("web", old);
}

/// One line of its access log for each request; the log is rotated in the middle, and whoever counts
/// dies in between: no line is forgotten, and none is counted twice.
#[test]
fn h6_the_lines_of_an_access_log_are_counted_on_by_whoever_counts_next() {
    let (daemon, _) = start(
        "[service.web.tolerance]\nmode = \"observe\"\ninterval = \"1s\"\n\
         [service.web.detect.requests]\nafter = 10\nsource = { access_log = \"{dir}/access.log\" }\n",
    );
    let log = daemon.path("access.log");
    let append = |lines: usize| {
        let mut file = fs::File::options().append(true).create(true).open(&log).unwrap();
        file.write_all("GET / 200\n".repeat(lines).as_bytes()).unwrap();
    };
    append(0);
    wait_for("counting has begun", || match verdict(&daemon, "requests") {
        Some(seen) if seen.measured.get("served") == Some(&0.0) => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
    append(3);
    wait_for("three are counted, and it is marked", || {
        let marks = fs::read_dir(daemon.path("state/counts")).into_iter().flatten().flatten();
        let text = |entry: fs::DirEntry| fs::read_to_string(entry.path()).unwrap_or_default();
        let marks: Vec<String> = marks.map(text).collect();
        if marks.iter().any(|mark| mark.ends_with(" 3\n")) {
            Ok(())
        } else {
            Err(format!("{marks:?}"))
        }
    });
    let watch = || daemon.snapshot().duties.into_iter().find(|duty| duty.name == "watch");
    kill(watch().and_then(|duty| duty.pid).unwrap(), "KILL");
    append(2);
    fs::rename(&log, daemon.path("access.log.1")).unwrap();
    append(5);
    let seen = wait_verdict(&daemon, "requests", "sick");
    assert_eq!(seen.measured.get("served"), Some(&10.0), "{seen:?}");
}
