//! Real daemons that blame the right one, and that count what was served.

use crate::support::{Daemon, free_port, wait_for};
use control::{InstanceView, ServiceAction};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn wait_health(daemon: &Daemon, state: &str) -> InstanceView {
    wait_for(&format!("app is {state}"), || match daemon.instance("app") {
        seen if seen.health.state == state => Ok(seen),
        seen => Err(format!("{seen:?}\n{}", daemon.log())),
    })
}

/// The database is stopped: its client fails its own check, is marked, and is left alone.
#[test]
fn h16_h17_whose_database_is_down_is_marked_with_what_it_lacks_by_name_and_not_restarted() {
    let mut daemon = Daemon::prepare(
        "[service.db]\ncommand = [\"sleep\", \"1000\"]\n\
         [service.app]\ncommand = [\"sleep\", \"1001\"]\n\
         [service.app.tolerance]\nmode = \"enforce\"\ninterval = \"1s\"\ndrain = \"0s\"\n\
         [service.app.detect.check]\nkind = \"command\"\n\
         command = [\"test\", \"-e\", \"{dir}/data\"]\ninterval = \"1s\"\nfailures = 2\n\
         [service.app.depends]\ndb = { service = \"db\" }\n\
         data = { command = [\"test\", \"-e\", \"{dir}/data\"] }\n\
         root = { mount = \"/proc\" }\n",
    );
    daemon.write("data", "");
    daemon.run();
    let app = daemon.wait_state("app", "running").pid.unwrap();
    wait_health(&daemon, "up");
    daemon.act(ServiceAction::Stop, "db");
    fs::remove_file(daemon.path("data")).unwrap();
    wait_health(&daemon, "dependency_down");
    // Each by its name: what is down, and what is not.
    let seen = wait_for("all that is down is named", || {
        let seen = daemon.instance("app");
        let named = |name: &str| {
            let found = seen.health.dependencies.iter().find(|it| it.name == name);
            found.map(|it| it.state.clone()).unwrap_or_default()
        };
        let states = ["db", "data", "root"].map(named);
        if states == ["down", "down", "up"] { Ok(seen) } else { Err(format!("{seen:?}")) }
    });
    wait_for("its own check has failed often enough", || {
        let verdicts = daemon.instance("app").health.verdicts;
        let bad =
            verdicts.iter().any(|it| it.measured.get("bad_answers").is_some_and(|n| 2.0 <= *n));
        if bad { Ok(()) } else { Err(format!("{verdicts:?}\n{}", daemon.log())) }
    });
    assert_eq!(seen.pid, Some(app));
    let said = daemon.wait_event("app", "service.dependency_down");
    assert!(said.message.contains("db") || said.message.contains("data"), "{}", said.message);
    daemon.write("data", "");
    daemon.act(ServiceAction::Start, "db");
    let well = wait_health(&daemon, "up");
    assert_eq!(well.pid, Some(app), "it never was restarted");
    let events = daemon.try_events(&["--subject", "app"]).unwrap();
    assert!(events.iter().all(|event| event.kind != "service.replacing"), "{events:#?}");
}

/// Answers with its pid, one after the other, and says how many it has answered, once it has.
const COUNTING: &str = "import os, socket\n\
    listener = socket.socket(fileno=3)\n\
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
    notify.connect(os.environ['NOTIFY_SOCKET'].replace('@', '\\0', 1))\n\
    notify.send(b'READY=1')\n\
    served = 0\n\
    while True:\n    stream, _ = listener.accept()\n    stream.recv(1000)\n    \
    stream.sendall(str(os.getpid()).encode())\n    stream.close()\n    \
    served += 1\n    notify.send(b'X_COUNTER=%d' % served)\n";

fn ask(port: u16) -> u32 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"who?").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.parse().unwrap()
}

#[test]
fn h6_after_so_many_requests_a_successor_answers_the_next_one() {
    let port = free_port();
    let mut daemon = Daemon::prepare(&format!(
        "[service.web]\ncommand = [\"/usr/bin/python3\", \"{{dir}}/server.py\"]\nready = \"notify\"\n\
         sockets = [{{ tcp = \"127.0.0.1:{port}\" }}]\n\
         [service.web.tolerance]\nmode = \"enforce\"\ndrain = \"0s\"\nsettle = \"0s\"\n\
         [service.web.detect.requests]\nafter = 5\nsource = {{ notify = true }}\n"
    ));
    daemon.write("server.py", COUNTING);
    daemon.run();
    let first = daemon.wait_state("web", "running").pid.unwrap();
    let mut old = first;
    for _ in 0..3 {
        // Not one too early: the fifth is still answered by whom the first was.
        assert_eq!([0; 5].map(|_| ask(port)), [old; 5]);
        let new = daemon.wait_replaced("web", old).pid.unwrap();
        let replaced = daemon.wait_event("web", "service.replaced").message;
        assert!(replaced.contains("5 of 5 requests served"), "{replaced}");
        old = new;
    }
    assert_eq!(ask(port), old);
}
