//! What services write, as events of supervisord's kind, told to a listener that is written with
//! supervisor's own library; beside the real supervisord where that is installed.

use crate::peers::{peer, wheel};
use crate::support::{Daemon, wait_for};
use control::{Reply, Request};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Writes down every event, as supervisor's library takes it apart.
const EAR: &str = "import json, sys\n\
    from supervisor import childutils\n\
    log = open(sys.argv[1], 'a', buffering=1)\n\
    while True:\n    \
    headers, payload = childutils.listener.wait()\n    \
    head, _, data = payload.partition('\\n')\n    \
    log.write(json.dumps([headers['eventname'], head, data]) + '\\n')\n    \
    childutils.listener.ok()\n";

/// Speaks as programs do that were written for supervisord.
const SPEAKER: &str = "import os, sys, time\n\
    from supervisor import childutils\n\
    open(sys.argv[1] + '.pid', 'w').write(str(os.getpid()))\n\
    print('a line before anything else is said: größe', flush=True)\n\
    print('a line of standard error, which is long enough', file=sys.stderr, flush=True)\n\
    childutils.pcomm.send(b'a message\\nof two lines', sys.stdout.buffer)\n\
    print('a line after the message, which is long enough', flush=True)\n\
    childutils.pcomm.send(b'x' * 3000 + b'the end', sys.stderr.buffer)\n\
    sys.stderr.buffer.flush()\n\
    print('the last line of standard error, long enough', file=sys.stderr, flush=True)\n\
    time.sleep(1000)\n";

/// What a listener was told: the communications, whole, and all output of each stream.
#[derive(PartialEq, Eq, Debug, Default)]
struct Told {
    communications: Vec<(String, String, String)>,
    output: std::collections::BTreeMap<(String, String), String>,
}

fn told(path: &Path) -> Told {
    let mut told = Told::default();
    let pid = fs::read_to_string(path.with_extension("pid")).unwrap_or_else(|_| "none".to_owned());
    for line in fs::read_to_string(path).unwrap_or_default().lines() {
        let Ok(event) = serde_json::from_str::<[String; 3]>(line) else { continue };
        let [name, head, data] = event;
        let head = head.replace(&format!("pid:{pid}"), "pid:PID");
        match name.starts_with("PROCESS_COMMUNICATION") {
            true => told.communications.push((name, head, data)),
            false => told.output.entry((name, head)).or_default().push_str(&data),
        }
    }
    // supervisord keeps a last few bytes until more comes, a line end that was written alone too.
    for text in told.output.values_mut() {
        text.truncate(text.trim_end().len());
    }
    // Those of the two streams have no order between them.
    told.communications.sort();
    told
}

/// Waits until both last lines were told.
fn wait_told(path: &Path, more: impl Fn() -> String) -> Told {
    wait_for("the listener is told everything", || {
        let told = told(path);
        let ends = ["a line after the message, which is long enough", "error, long enough"];
        let has = |end: &str| told.output.values().any(|text| text.ends_with(end));
        if ends.iter().all(|end| has(end)) {
            Ok(told)
        } else {
            Err(format!("{told:?}\n{}", more()))
        }
    })
}

/// A supervisord.conf with the two.
fn conf(folder: &Path, python: &Path) -> String {
    let (at, python) = (folder.display(), python.display());
    fs::write(folder.join("ear.py"), EAR).unwrap();
    fs::write(folder.join("speaker.py"), SPEAKER).unwrap();
    format!(
        "[supervisord]\nnodaemon=true\nlogfile={at}/supervisord.log\npidfile={at}/pid\nchildlogdir={at}\n\
         [program:web]\ncommand={python} {at}/speaker.py {at}/told\n\
         stdout_logfile={at}/web.log\nstderr_logfile={at}/web.err.log\n\
         stdout_events_enabled=true\nstderr_events_enabled=true\n\
         stdout_capture_maxbytes=1MB\nstderr_capture_maxbytes=1KB\n\
         [eventlistener:ear]\ncommand={python} -u {at}/ear.py {at}/told.json\n\
         events=PROCESS_LOG,PROCESS_COMMUNICATION\nbuffer_size=100\n\
         stderr_logfile={at}/ear.err.log\n"
    )
    .replace("told.json", "told")
}

/// The daemon, with what `holdfast import` makes of such a file.
fn imported(folder: &Path, python: &Path) -> Daemon {
    let file = folder.join("supervisord.conf");
    fs::write(&file, conf(folder, python)).unwrap();
    let told = Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .args(["import", "supervisord"])
        .arg(&file)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let toml = String::from_utf8(told.stdout).unwrap();
    let notes = String::from_utf8_lossy(&told.stderr);
    assert!(!notes.contains("lost:"), "{notes}\n{toml}");
    // Of the daemon, only what tests need.
    let services = toml.find("[defaults]").or_else(|| toml.find("[service.")).unwrap();
    Daemon::start(&toml[services..])
}

struct Supervisord(Child);

impl Drop for Supervisord {
    fn drop(&mut self) {
        // It stops its programs.
        crate::support::kill(self.0.id(), "TERM");
        let _ = self.0.wait();
    }
}

#[test]
fn h27_output_and_communications_are_told_as_supervisord_tells_them() {
    let Some(python) = wheel("python") else { return };
    let ours = tempfile::tempdir().unwrap();
    let daemon = imported(ours.path(), &python);
    let told = wait_told(&ours.path().join("told"), || {
        daemon.log() + &daemon.output("ear") + &daemon.output("web")
    });
    let of_web = "processname:web groupname:web pid:PID";
    let communication =
        |name: &str, text: &str| (name.to_owned(), of_web.to_owned(), text.to_owned());
    let [error, plain] = told.communications.as_slice() else { panic!("{told:?}") };
    assert_eq!(plain, &communication("PROCESS_COMMUNICATION_STDOUT", "a message\nof two lines"));
    assert!(error.2.ends_with("the end") && error.2.len() <= 1024, "{error:?}");
    let out = ("PROCESS_LOG_STDOUT".to_owned(), format!("{of_web} channel:stdout"));
    assert!(told.output[&out].starts_with("a line before anything else is said: größe\n"));

    let Some(supervisord) = peer("supervisord", &[]) else { return };
    let theirs = tempfile::tempdir().unwrap();
    let file = theirs.path().join("supervisord.conf");
    fs::write(&file, conf(theirs.path(), &python)).unwrap();
    let quiet = || Stdio::null();
    let mut command = Command::new(supervisord);
    command.arg("-c").arg(&file).stdin(quiet()).stdout(quiet()).stderr(quiet());
    let _running = Supervisord(command.spawn().unwrap());
    let mut theirs = wait_told(&theirs.path().join("told"), || {
        fs::read_to_string(theirs.path().join("supervisord.log")).unwrap_or_default()
    });
    // Of a communication that is too long it keeps something else: whole pieces as they were read.
    theirs.communications[0].2.clone_from(&error.2);
    assert_eq!(told, theirs);
}

/// A listener that takes nothing costs events, and never a line of the log.
#[test]
fn h27_a_slow_listener_makes_no_service_wait() {
    let lines = 200_000;
    let daemon = Daemon::start(&format!(
        "[service.ear]\ncommand = [\"sleep\", \"1000\"]\n\
         event_listener = {{ events = [\"PROCESS_LOG\"], buffer = 3 }}\n\
         [service.web]\nshell = true\n\
         command = \"yes 0123456789012345678901234567890123456789 | head -n {lines}; echo last; exec sleep 1000\"\n\
         log = {{ size = \"100MiB\" }}\noutput_events = {{ stdout = true }}\n"
    ));
    daemon.wait_state("web", "running");
    let log = daemon.path("state/logs/web.log");
    wait_for("all of it is in the log", || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        match text.lines().count() == lines + 1 && text.ends_with("last\n") {
            true => Ok(()),
            false => Err(format!("{} bytes", text.len())),
        }
    });
    let event = daemon.wait_event_in_log("listener.dropped");
    assert!(event.contains("made way for newer ones"), "{event}");
}

/// What is asked for while a service runs is told from then on; nothing is restarted for it.
#[test]
fn h27_output_is_told_from_the_moment_that_it_is_asked_for() {
    let Some(python) = wheel("python") else { return };
    let mut daemon = Daemon::prepare("");
    daemon.write("ear.py", EAR);
    let config = |events: &str| {
        format!(
            "[service.ear]\ncommand = [\"{}\", \"-u\", \"{{dir}}/ear.py\", \"{{dir}}/told\"]\n\
             event_listener = {{ events = [\"PROCESS_LOG\"], buffer = 100 }}\n\
             [service.web]\nshell = true\n\
             command = \"echo early; while [ ! -e {{dir}}/go ]; do sleep 0.05; done; while :; do echo late; sleep 0.1; done\"\n\
             {events}\n",
            python.display()
        )
    };
    daemon.configure(&config(""));
    daemon.run();
    let web = daemon.wait_state("web", "running").pid.unwrap();
    daemon.wait_state("ear", "running");
    wait_for("it has begun", || match daemon.output("web").contains("early") {
        true => Ok(()),
        false => Err(daemon.log()),
    });
    daemon.configure(&config("output_events = { stdout = true }"));
    let reply = daemon.ask(Request::Reload);
    assert!(matches!(reply, Reply::Done { .. }), "{reply:?}");
    daemon.write("go", "");
    let events = wait_for("it is told", || {
        let text = fs::read_to_string(daemon.path("told")).unwrap_or_default();
        if text.contains("late") { Ok(text) } else { Err(format!("{text}\n{}", daemon.log())) }
    });
    let first: Value = serde_json::from_str(events.lines().next().unwrap()).unwrap();
    let head = format!("processname:web groupname:web pid:{web} channel:stdout");
    assert_eq!((&first[0], &first[1]), (&"PROCESS_LOG_STDOUT".into(), &head.into()));
    assert!(first[2].as_str().unwrap().starts_with("late\n"), "{first}");
    assert_eq!(daemon.instance("web").pid, Some(web));
}
