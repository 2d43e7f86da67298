//! Real HAProxy in front of real servers: it gives work to those that holdfast vouches for, and to
//! no others.

use crate::peers::peer;
use crate::support::{Daemon, free_port, kill, wait_for};
use control::ServiceAction;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// No answer takes this long, unless something hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server that says on which port it answers. It counts what it serves, and says so at `/stats`.
pub(crate) const SERVER: &str = r#"
import http.server, json, sys, threading
served, lock = 0, threading.Lock()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global served
        if self.path == "/stats":
            body = json.dumps({"requests": served}).encode()
        else:
            with lock:
                served += self.path != "/ok"
            body = sys.argv[1].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"#;

/// Four servers that holdfast keeps, and HAProxy before them.
struct Site {
    daemon: Daemon,
    haproxy: Child,
    front: u16,
    health: u16,
    /// Of the first instance; those of the others follow.
    first: u16,
    services: String,
}

/// A block of ports next to each other that nobody uses.
pub(crate) fn free_block(count: u16) -> u16 {
    wait_for("a block of free ports", || {
        let first = free_port();
        let all = (0..count).map(|n| first.checked_add(n));
        let free = |port: Option<u16>| {
            port.is_some_and(|port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok())
        };
        if all.clone().all(free) { Ok(first) } else { Err(format!("{first} has a neighbour")) }
    })
}

impl Site {
    /// `servers` are the lines of HAProxy's section about servers: `{port+N}`, `{health}` and
    /// `{agent}` are filled in.
    fn open(tolerance: &str, servers: &str) -> Option<Self> {
        let python = peer("python3", &[])?;
        let haproxy = peer("haproxy", &[])?;
        let first = free_block(4);
        let (front, health, agent) = (free_port(), free_port(), free_port());
        let services = format!(
            "[health]\nhttp = \"127.0.0.1:{health}\"\nagent = \"127.0.0.1:{agent}\"\n\
             [service.web]\ncommand = [\"{}\", \"{{dir}}/server.py\", \"{{port}}\"]\n\
             port = {first}\ninstances = 2\nready = {{ tcp = \"127.0.0.1:{{port}}\" }}\n{tolerance}",
            python.display()
        );
        let mut daemon = Daemon::prepare(&services);
        daemon.write("server.py", SERVER);
        daemon.run();
        for instance in ["web:0", "web:1"] {
            daemon.wait_state(instance, "running");
        }
        let mut text = format!(
            "global\n  stats socket {} level admin\n\
             defaults\n  mode http\n  timeout connect 5s\n  timeout client 10s\n\
             timeout server 10s\n  timeout check 5s\n  retries 0\n\
             listen web\n  bind 127.0.0.1:{front}\n{servers}\n",
            daemon.path("haproxy.sock").display()
        );
        for n in 0..4 {
            text = text.replace(&format!("{{port+{n}}}"), &(first + n).to_string());
        }
        let ports = [("{health}", health), ("{agent}", agent)];
        for (name, port) in ports {
            text = text.replace(name, &port.to_string());
        }
        let config = daemon.write("haproxy.cfg", &text);
        let log = std::fs::File::create(daemon.path("haproxy.log")).unwrap();
        let haproxy = Command::new(haproxy)
            .args(["-db", "-f"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Some(Self { daemon, haproxy, front, health, first, services })
    }

    /// The state of each server, as HAProxy shows it.
    fn servers(&self) -> Result<BTreeMap<String, String>, String> {
        let path = self.daemon.path("haproxy.sock");
        let mut stream = UnixStream::connect(path).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"show stat\n").map_err(|error| error.to_string())?;
        let mut table = String::new();
        stream.read_to_string(&mut table).map_err(|error| error.to_string())?;
        let mut lines = table.trim_start_matches("# ").lines();
        let names: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
        let column = |wanted| names.iter().position(|name| *name == wanted).unwrap();
        let (name, status) = (column("svname"), column("status"));
        let rows = lines.map(|line| line.split(',').collect::<Vec<_>>());
        let rows = rows.filter(|row| status < row.len());
        let rows = rows.map(|row| (row[name].to_owned(), row[status].to_owned()));
        Ok(rows.filter(|(name, _)| name != "FRONTEND" && name != "BACKEND").collect())
    }

    fn wait_server(&self, server: &str, state: &str) {
        wait_for(&format!("HAProxy sees {server} as {state}"), || {
            let seen = self.servers()?;
            let log = || std::fs::read_to_string(self.daemon.path("haproxy.log"));
            match seen.get(server) {
                Some(now) if now.starts_with(state) => Ok(()),
                _ => Err(format!("{seen:?} {:?} {}", log(), self.daemon.log())),
            }
        });
    }

    /// The ports that answer a number of requests.
    fn answering(&self, requests: u32) -> BTreeSet<u16> {
        let answers = (0..requests).map(|_| get(self.front, "/").unwrap());
        answers
            .map(|(status, body)| (status == 200).then(|| body.parse().unwrap()).unwrap())
            .collect()
    }

    fn health(&self, name: &str) -> (u16, serde_json::Value) {
        let (status, body) = get(self.health, &format!("/health/{name}")).unwrap();
        (status, serde_json::from_str(&body).unwrap())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.haproxy.kill();
        let _ = self.haproxy.wait();
    }
}

/// One request; the status and the body.
pub(crate) fn get(port: u16, path: &str) -> Result<(u16, String), String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .map_err(|error| error.to_string())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(|error| error.to_string())?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(format!("no answer: {text:?}"))?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    Ok((status.ok_or(head.to_owned())?, body.to_owned()))
}

/// Requests, one after the other, until it is dropped; each is counted.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    thread: Option<JoinHandle<Vec<String>>>,
}

impl Load {
    pub(crate) fn on(port: u16, path: &'static str) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ended, counted) = (Arc::clone(&stop), Arc::clone(&done));
        let thread = std::thread::spawn(move || {
            let mut failures = Vec::new();
            while !ended.load(Ordering::SeqCst) {
                match get(port, path) {
                    Ok((200, _)) => {}
                    other => failures.push(format!("{other:?}")),
                }
                counted.fetch_add(1, Ordering::SeqCst);
            }
            failures
        });
        Self { stop, done, thread: Some(thread) }
    }

    /// Waits until so many more requests were answered.
    pub(crate) fn wait_more(&self, more: u64) {
        let wanted = self.done.load(Ordering::SeqCst) + more;
        wait_for("requests are answered", || match self.done.load(Ordering::SeqCst) {
            done if wanted <= done => Ok(()),
            done => Err(format!("{done} of {wanted}")),
        });
    }

    /// Ends it; what failed.
    pub(crate) fn end(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap()
    }
}

/// Agent checks tell when to drain; the plain check is of the server itself.
const BY_AGENT: &str = "  default-server check inter 200ms agent-check agent-addr 127.0.0.1 \
    agent-port {agent} agent-inter 100ms\n\
    server web:0 127.0.0.1:{port+0} agent-send \"web:0\\n\"\n\
    server web:1 127.0.0.1:{port+1} agent-send \"web:1\\n\"\n";

/// For balancers that know only HTTP checks: one rule for all servers, by their names.
const BY_HTTP: &str = "  option httpchk\n\
    http-check send meth GET uri-lf /health/%[srv_name] ver HTTP/1.1 hdr host holdfast\n\
    default-server check addr 127.0.0.1 port {health} inter 100ms fall 2 rise 1\n\
    server web:0 127.0.0.1:{port+0}\n\
    server web:1 127.0.0.1:{port+1}\n";

#[test]
fn h13_h29_haproxy_gives_no_work_to_what_holdfast_has_taken_out_of_rotation() {
    let Some(site) = Site::open("", BY_AGENT) else { return };
    let both = BTreeSet::from([site.first, site.first + 1]);
    for server in ["web:0", "web:1"] {
        site.wait_server(server, "UP");
    }
    assert_eq!(site.answering(20), both);
    site.daemon.act(ServiceAction::Stop, "web:1");
    site.wait_server("web:1", "MAINT");
    assert_eq!(site.answering(20), BTreeSet::from([site.first]));
    assert_eq!(site.health("web").0, 200, "one of two instances serves");
    let (status, body) = site.health("web:1");
    assert_eq!((status, &body["state"]), (503, &"stopped".into()), "{body}");
    site.daemon.act(ServiceAction::Start, "web:1");
    site.wait_server("web:1", "UP");
    assert_eq!(site.answering(20), both);
}

#[test]
fn haproxy_takes_the_files_of_the_documentation() {
    let Some(haproxy) = peer("haproxy", &[]) else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "cfg") {
            let checked = Command::new(&haproxy).args(["-c", "-f"]).arg(&path).output().unwrap();
            let said = String::from_utf8_lossy(&checked.stderr).into_owned();
            assert!(checked.status.success() && !said.contains("WARNING"), "{said}");
            seen += 1;
        }
    }
    assert!(2 <= seen);
}

#[test]
fn h13_haproxy_asks_by_http_and_takes_the_status() {
    let Some(site) = Site::open("", BY_HTTP) else { return };
    for server in ["web:0", "web:1"] {
        site.wait_server(server, "UP");
    }
    site.daemon.act(ServiceAction::Stop, "web:0");
    site.wait_server("web:0", "DOWN");
    assert_eq!(site.answering(20), BTreeSet::from([site.first + 1]));
    site.daemon.act(ServiceAction::Start, "web:0");
    site.wait_server("web:0", "UP");
    assert_eq!(site.answering(20).len(), 2);
}

#[test]
fn h20_a_replacement_behind_haproxy_costs_no_request() {
    // Long enough out of rotation that a balancer on a starved machine has asked, too.
    let tolerance = "tolerance = { settle = \"3s\", drain = \"5s\" }\n";
    let Some(site) = Site::open(tolerance, BY_AGENT) else { return };
    for server in ["web:0", "web:1"] {
        site.wait_server(server, "UP");
    }
    let load = Load::on(site.front, "/");
    load.wait_more(20);
    let first = site.daemon.instance("web:0").pid.unwrap();
    site.daemon.act(ServiceAction::Replace, "web:0");
    site.wait_server("web:0", "DRAIN");
    assert_eq!(site.health("web:0").1["state"], "draining");
    site.daemon.wait_replaced("web:0", first);
    site.wait_server("web:0", "UP");
    load.wait_more(20);
    let failures = load.end();
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(site.answering(20).len(), 2);
}

#[test]
fn h22_a_successor_on_a_port_of_its_own_gets_work_when_it_is_admitted() {
    let tolerance = "tolerance = { successor = \"beside\", settle = \"3s\", drain = \"5s\" }\n";
    let servers = "  default-server check inter 200ms agent-check agent-addr 127.0.0.1 \
        agent-port {agent} agent-inter 100ms\n\
        server a 127.0.0.1:{port+0} agent-send \"web@{port+0}\\n\"\n\
        server b 127.0.0.1:{port+1} agent-send \"web@{port+1}\\n\"\n\
        server c 127.0.0.1:{port+2} agent-send \"web@{port+2}\\n\"\n\
        server d 127.0.0.1:{port+3} agent-send \"web@{port+3}\\n\"\n";
    let Some(site) = Site::open(tolerance, servers) else { return };
    for (server, state) in [("a", "UP"), ("b", "UP"), ("c", "MAINT"), ("d", "MAINT")] {
        site.wait_server(server, state);
    }
    let load = Load::on(site.front, "/");
    load.wait_more(20);
    let first = site.daemon.instance("web:0").pid.unwrap();
    site.daemon.act(ServiceAction::Replace, "web:0");
    let next = site.daemon.wait_replaced("web:0", first);
    assert_eq!(next.port, Some(site.first + 2));
    for (server, state) in [("a", "MAINT"), ("b", "UP"), ("c", "UP"), ("d", "MAINT")] {
        site.wait_server(server, state);
    }
    load.wait_more(20);
    let failures = load.end();
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(site.answering(20), BTreeSet::from([site.first + 1, site.first + 2]));
}

/// A detector that is as quick as a test needs it.
const QUICK: &str = "tolerance = { mode = \"enforce\", interval = \"1s\", drain = \"1s\" }\n\
    [service.web.detect.http]\nurl = \"http://127.0.0.1:{port}/\"\ninterval = \"200ms\"\n\
    timeout = \"1s\"\nfailures = 5\n";

#[test]
fn h14_a_service_that_is_stopped_by_a_signal_is_told_to_be_so_and_gets_no_work() {
    let Some(site) = Site::open(QUICK, BY_AGENT) else { return };
    site.wait_server("web:0", "UP");
    let first = site.daemon.instance("web:0").pid.unwrap();
    kill(first, "STOP");
    let body = wait_for("the endpoint says no", || match site.health("web:0") {
        (503, body) => Ok(body),
        (status, body) => Err(format!("{status} {body}")),
    });
    assert_eq!(body["in_rotation"], 0, "{body}");
    assert_ne!(body["state"], "up", "{body}");
    assert_eq!(site.health("web").0, 200, "the other one serves");
    // It is replaced, and gets work again.
    site.daemon.wait_replaced("web:0", first);
    wait_for("the endpoint says yes", || match site.health("web:0") {
        (200, _) => Ok(()),
        (status, body) => Err(format!("{status} {body}")),
    });
    for server in ["web:0", "web:1"] {
        site.wait_server(server, "UP");
    }
    assert_eq!(site.answering(20).len(), 2);
}

#[test]
fn h14_the_verdict_is_told_while_the_service_can_tell_nothing() {
    let Some(site) = Site::open("", BY_AGENT) else { return };
    let pid = site.daemon.instance("web:0").pid.unwrap();
    kill(pid, "STOP");
    // The kernel still accepts connections for it, and nobody answers them.
    let mut silent = TcpStream::connect(("127.0.0.1", site.first)).unwrap();
    silent.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let (status, body) = site.health("web:0");
    assert_eq!((status, &body["name"]), (200, &"web:0".into()));
    silent.set_nonblocking(true).unwrap();
    let unanswered = silent.read(&mut [0; 1]).unwrap_err();
    assert_eq!(unanswered.kind(), std::io::ErrorKind::WouldBlock);
    kill(pid, "CONT");
}

#[test]
fn the_listeners_for_balancers_follow_the_configuration_and_outlive_the_console() {
    let Some(site) = Site::open("", BY_AGENT) else { return };
    let asked = |port: u16| get(port, "/health/web").map(|(status, _)| status);
    assert_eq!(asked(site.health), Ok(200));
    let console =
        site.daemon.snapshot().duties.iter().find(|one| one.name == "console").unwrap().pid;
    kill(console.unwrap(), "KILL");
    // The root holds the socket: whoever asks meanwhile waits for the next console.
    assert_eq!(asked(site.health), Ok(200));

    let moved = free_port();
    let services = site.services.replace(&site.health.to_string(), &moved.to_string());
    site.daemon.configure(&services);
    assert!(site.daemon.cli(&["reload"]).status.success());
    wait_for("the new address answers", || match asked(moved) {
        Ok(200) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    wait_for("the old one is closed", || match asked(site.health) {
        Err(_) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    site.daemon.configure(&services.replace(&moved.to_string(), &port));
    assert!(site.daemon.cli(&["reload"]).status.success());
    let notice = wait_for("the trouble is told", || {
        let notices = site.daemon.snapshot().notices;
        let found = notices.iter().find(|notice| notice.code == "listen-health").cloned();
        found.ok_or(format!("{notices:?}"))
    });
    assert!(notice.message.contains(&port) && notice.help.contains("`http` of [health]"));
}
