//! Event listeners of supervisord's kind, as services of the real daemon.

use crate::peers::peer;
use crate::support::{Daemon, alive, kill, wait_for};
use control::{Reply, Request, ServiceAction};
use std::fs;

/// A listener that writes down what it is sent, and answers with what stands in a file beside it.
const LISTENER: &str = r"
import os, sys
me = os.path.dirname(os.path.abspath(__file__))
log = open(me + '/told', 'ab', 0)
log.write(('BEGIN %s %s\n' % (os.environ['SUPERVISOR_PROCESS_NAME'], os.environ['SUPERVISOR_SERVER_URL'])).encode())
print('a word on standard error', file=sys.stderr, flush=True)
while True:
    os.write(1, b'READY\n')
    header = dict(pair.split(':', 1) for pair in sys.stdin.readline().split())
    body = sys.stdin.read(int(header['len']))
    log.write(('%s %s\n' % (header['eventname'], body.replace('\n', '|'))).encode())
    try:
        answer = open(me + '/answer').read()
    except FileNotFoundError:
        answer = 'OK'
    if answer == 'garbage':
        os.write(1, b'what is this?\n')
        answer = 'OK'
    os.write(1, ('RESULT %d\n%s' % (len(answer), answer)).encode())
";

const WEB: &str = "[service.web]\ncommand = [\"sleep\", \"1000\"]\n";

fn service(events: &str) -> String {
    format!(
        "[service.ear]\ncommand = [\"python3\", \"{{dir}}/listener.py\"]\n\
         event_listener = {{ events = [{events}], buffer = 100 }}\n"
    )
}

/// A daemon with a listener, which is up and waits for events.
fn start(events: &str, more: &str) -> Option<Daemon> {
    peer("python3", &[])?;
    let mut daemon = Daemon::prepare("");
    daemon.write("listener.py", LISTENER);
    daemon.configure(&(service(events) + more));
    daemon.run();
    daemon.wait_state("ear", "running");
    wait_for("the listener has begun", || told(&daemon, "BEGIN ear unix:///"));
    Some(daemon)
}

/// What it was told so far, if a line of it begins with these words.
fn told(daemon: &Daemon, words: &str) -> Result<Vec<String>, String> {
    let text = fs::read_to_string(daemon.path("told")).unwrap_or_default();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.iter().any(|line| line.starts_with(words)) {
        return Ok(lines);
    }
    Err(format!("{text}\n{}", daemon.log()))
}

fn count(lines: &[String], words: &str) -> usize {
    lines.iter().filter(|line| line.starts_with(words)).count()
}

#[test]
fn h27_a_listener_is_told_what_happens_and_needs_no_interface_to_be_configured() {
    let Some(mut daemon) = start("\"PROCESS_STATE\"", WEB) else { return };
    let first = daemon.wait_state("web", "running").pid.unwrap();
    let running = format!(
        "PROCESS_STATE_RUNNING processname:web groupname:web from_state:STARTING pid:{first}"
    );
    wait_for("it is told of the start", || told(&daemon, &running));
    kill(first, "KILL");
    let exited = format!(
        "PROCESS_STATE_EXITED processname:web groupname:web from_state:RUNNING expected:0 pid:{first}"
    );
    wait_for("it is told of the crash", || told(&daemon, &exited));
    daemon.wait_replaced("web", first);
    daemon.act(ServiceAction::Stop, "web");
    let lines = wait_for("it is told of the stop", || {
        told(&daemon, "PROCESS_STATE_STOPPED processname:web")
    });
    assert_eq!(count(&lines, "TICK"), 0, "{lines:?}");
    // Its standard error is its output.
    wait_for("its words are kept", || match daemon.output("ear") {
        text if text.contains("a word on standard error") => Ok(()),
        text => Err(text),
    });
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(daemon.path("run/supervisor.sock")).unwrap().mode() & 0o777, 0o600);
    assert_eq!(daemon.stop(), 0);
    let pipes: Vec<_> = fs::read_dir(daemon.path("state/fifo")).unwrap().flatten().collect();
    let left = pipes.iter().filter(|pipe| pipe.file_name().to_string_lossy().contains("ear."));
    let left: Vec<_> = left.map(fs::DirEntry::file_name).filter(|name| name != "ear.out").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn h27_time_passes_for_listeners_too() {
    let Some(daemon) = start("\"TICK_5\"", "") else { return };
    let lines = wait_for("it is told the time", || told(&daemon, "TICK_5 when:"));
    let when = lines.iter().find_map(|line| line.strip_prefix("TICK_5 when:")).unwrap();
    assert_eq!(when.parse::<u64>().unwrap() % 5, 0);
}

#[test]
fn h27_an_event_that_a_listener_failed_on_comes_again() {
    let Some(daemon) = start("\"PROCESS_STATE_EXITED\"", WEB) else { return };
    daemon.write("answer", "FAIL");
    let web = daemon.wait_state("web", "running").pid.unwrap();
    kill(web, "KILL");
    let words = "PROCESS_STATE_EXITED processname:web";
    wait_for("it is told twice", || match told(&daemon, words)? {
        lines if 2 <= count(&lines, words) => Ok(()),
        lines => Err(format!("{lines:?}")),
    });
    fs::remove_file(daemon.path("answer")).unwrap();
    // Once it has succeeded, the next event follows.
    let next = daemon.wait_replaced("web", web).pid.unwrap();
    kill(next, "KILL");
    wait_for("the next event comes", || {
        told(&daemon, &format!("{words} groupname:web from_state:RUNNING expected:0 pid:{next}"))
    });
}

#[test]
fn h27_a_listener_that_talks_nonsense_is_sent_nothing_until_its_next_run() {
    let Some(daemon) = start("\"PROCESS_STATE_EXITED\"", WEB) else { return };
    daemon.write("answer", "garbage");
    let web = daemon.wait_state("web", "running").pid.unwrap();
    kill(web, "KILL");
    let event = daemon.wait_event_in_log("listener.confused");
    assert!(event.contains("what is this?"), "{event}");
    let notice = wait_for("status shows it", || {
        let notices = daemon.snapshot().notices;
        let found = notices.into_iter().find(|n| n.code == "supervisord-listener-ear");
        found.ok_or_else(|| daemon.log())
    });
    assert!(notice.help.contains("holdfast service restart ear"), "{notice:?}");
    fs::remove_file(daemon.path("answer")).unwrap();
    let before = count(&told(&daemon, "BEGIN").unwrap(), "PROCESS_STATE_EXITED");
    daemon.act(ServiceAction::Restart, "ear");
    wait_for("its next run is told what it missed", || match told(&daemon, "BEGIN")? {
        lines if count(&lines, "BEGIN") == 2 && before < count(&lines, "PROCESS_STATE_EXITED") => {
            Ok(())
        }
        lines => Err(format!("{lines:?}\n{}", daemon.log())),
    });
    wait_for("status shows it no longer", || {
        let notices = daemon.snapshot().notices;
        let found = notices.iter().any(|n| n.code == "supervisord-listener-ear");
        if found { Err(format!("{notices:?}")) } else { Ok(()) }
    });
}

#[test]
fn h27_a_listener_that_dies_over_an_event_gets_it_again() {
    let Some(daemon) = start("\"PROCESS_STATE_EXITED\"", WEB) else { return };
    let ear = daemon.wait_state("ear", "running").pid.unwrap();
    let web = daemon.wait_state("web", "running").pid.unwrap();
    // It can't read: the event waits in its pipe, and dies with it.
    kill(ear, "STOP");
    kill(web, "KILL");
    daemon.wait_replaced("web", web);
    wait_for("the event is on its way", || {
        let memory = fs::read_to_string(daemon.path("state/supervisord.json")).unwrap_or_default();
        if memory.contains("BUSY") { Ok(()) } else { Err(memory) }
    });
    kill(ear, "KILL");
    daemon.wait_replaced("ear", ear);
    let words = format!(
        "PROCESS_STATE_EXITED processname:web groupname:web from_state:RUNNING expected:0 pid:{web}"
    );
    let lines = wait_for("its next run is told", || told(&daemon, &words));
    assert_eq!(count(&lines, "BEGIN"), 2, "{lines:?}");
}

#[test]
fn h27_what_happens_while_the_duty_is_dead_is_told_afterwards_and_the_listener_goes_on() {
    let Some(mut daemon) = start("\"PROCESS_STATE_EXITED\"", WEB) else { return };
    let ear = daemon.wait_state("ear", "running").pid.unwrap();
    let web = daemon.wait_state("web", "running").pid.unwrap();
    wait_for("its state is known", || {
        let memory = fs::read_to_string(daemon.path("state/supervisord.json")).unwrap_or_default();
        if memory.contains("READY") { Ok(()) } else { Err(memory) }
    });
    // The root dies, and its duties with it; while nobody is there, a service crashes.
    daemon.kill_root();
    kill(web, "KILL");
    wait_for("it is dead", || if alive(web) { Err("not yet".into()) } else { Ok(()) });
    daemon.run();
    let next = daemon.wait_replaced("web", web).pid.unwrap();
    assert_eq!(daemon.instance("ear").pid, Some(ear), "the listener goes on");
    // Whether the new duty knows its pid depends on how far the old one came.
    wait_for("the end that nobody saw is told", || {
        told(&daemon, "PROCESS_STATE_EXITED processname:web groupname:web from_state:RUNNING")
    });
    kill(next, "KILL");
    let words = format!(
        "PROCESS_STATE_EXITED processname:web groupname:web from_state:RUNNING expected:0 pid:{next}"
    );
    let lines = wait_for("it is told by the new duty", || told(&daemon, &words));
    assert_eq!(count(&lines, "BEGIN"), 1, "{lines:?}");
}

#[test]
fn h27_remote_events_reach_listeners_with_any_text() {
    let Some(daemon) = start("\"REMOTE_COMMUNICATION\"", "") else { return };
    let body = "<?xml version='1.0'?><methodCall><methodName>supervisor.sendRemoteCommEvent\
        </methodName><params><param><value>größe</value></param>\
        <param><value>a&#13;\nb €</value></param></params></methodCall>";
    let answer = crate::supervisord_doors::talk(
        &daemon.path("run/supervisor.sock"),
        &crate::supervisord_doors::post(body),
    );
    assert!(answer.contains("<boolean>1</boolean>"), "{answer}");
    wait_for("it is told", || told(&daemon, "REMOTE_COMMUNICATION type:größe|a|b €"));
}

#[test]
fn h27_a_storm_of_events_drops_the_oldest_and_says_how_many() {
    let service = |number| format!("[service.s{number}]\ncommand = [\"sleep\", \"1000\"]\n");
    let services = (0..40).map(service).collect::<Vec<_>>().concat();
    // It never says READY: all it could get waits.
    let daemon = Daemon::start(&format!(
        "[service.ear]\ncommand = [\"sleep\", \"1000\"]\n\
         event_listener = {{ events = [\"PROCESS_STATE\"], buffer = 10 }}\n{services}"
    ));
    daemon.wait_state("s39", "running");
    let event = daemon.wait_event_in_log("listener.dropped");
    assert!(event.contains("made way for newer ones"), "{event}");
    assert!(matches!(daemon.ask(Request::Ping), Reply::Pong { .. }));
}

/// Ten thousand events within moments: each is in the journal, a listener that takes none has the
/// newest, and how many made way is said.
#[test]
fn h27_ten_thousand_events_at_once_are_all_recorded_and_what_a_listener_misses_is_counted() {
    const CALLS: usize = 1_000;
    const ALL: usize = 10_000;
    let remote = |events: &[control::EventRecord]| {
        events.iter().filter(|event| event.kind == "supervisord.remote").count()
    };
    let daemon = Daemon::start(
        "[service.ear]\ncommand = [\"sleep\", \"1000\"]\n\
         event_listener = { events = [\"REMOTE_COMMUNICATION\"], buffer = 10 }\n",
    );
    daemon.wait_state("ear", "running");
    let call = "<value><struct><member><name>methodName</name>\
        <value>supervisor.sendRemoteCommEvent</value></member><member><name>params</name>\
        <value><array><data><value>storm</value><value>x</value></data></array></value></member>\
        </struct></value>";
    let body = format!(
        "<?xml version='1.0'?><methodCall><methodName>system.multicall</methodName><params><param>\
         <value><array><data>{}</data></array></value></param></params></methodCall>",
        call.repeat(CALLS)
    );
    let socket = daemon.path("run/supervisor.sock");
    for _ in 0..ALL / CALLS {
        let answer =
            crate::supervisord_doors::talk(&socket, &crate::supervisord_doors::post(&body));
        assert_eq!(answer.matches("<boolean>1</boolean>").count(), CALLS, "{answer}");
    }
    assert!(matches!(daemon.ask(Request::Ping), Reply::Pong { .. }));
    wait_for("all are in the journal", || {
        match remote(&daemon.try_events(&["--subject", "holdfast"])?) {
            ALL => Ok(()),
            some => Err(format!("{some}")),
        }
    });
    wait_for("all but the newest made way, and it is said", || {
        let said = daemon.try_events(&["--subject", "ear"])?;
        let said: Vec<_> = said.iter().filter(|event| event.kind == "listener.dropped").collect();
        let all = said.last().and_then(|event| event.data["dropped_in_all"].as_u64());
        if all == Some(ALL as u64 - 10) { Ok(()) } else { Err(format!("{said:#?}")) }
    });
}
