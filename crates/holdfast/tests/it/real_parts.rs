//! Real programs that leak and hang, as the examples have them: Zope with ZEO, eventlet, gunicorn,
//! nginx.
//!
//! Each runs the example itself, so that what is documented is what is tested.

use crate::peers::{peer, wheel};
use crate::support::BINARY;
use control::EventRecord;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use trial::{At, House, Setting, free_row, is_alive};

/// Zope needs a second or two to start, and evidence of it another one.
const LONG: Duration = Duration::from_secs(50);

/// Where the kernel has a thread that called sleep(3), whatever comes before it in the name.
const WAITS_IN: &str = "nanosleep";

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");

/// One request; the whole answer, or why there is none.
fn get(address: SocketAddr, path: &str, patience: Duration) -> Result<String, String> {
    let mut stream =
        TcpStream::connect_timeout(&address, patience).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(patience)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    answer.starts_with("HTTP/1.1 200").then_some(answer.clone()).ok_or(answer)
}

/// Clients that ask for something that does not come, and go on waiting.
fn ask_in_vain(address: SocketAddr, path: &'static str, clients: usize) {
    for _ in 0..clients {
        std::thread::spawn(move || get(address, path, LONG));
    }
}

fn replaced(house: &mut House, subject: &str, from: At) -> EventRecord {
    let done = |it: &EventRecord| it.subject == subject && it.kind == "service.replaced";
    let event = house.wait_event(from, LONG, done).unwrap();
    event.unwrap_or_else(|| panic!("{subject} was not replaced:\n{}", house.log()))
}

/// True if some file of the evidence that an event names contains this text.
fn evidence_says(house: &House, event: &EventRecord, text: &str) -> bool {
    fn search(folder: &Path, text: &str) -> bool {
        fs::read_dir(folder).unwrap().flatten().any(|entry| match entry.path() {
            path if path.is_dir() => search(&path, text),
            path => String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).contains(text),
        })
    }
    assert!(event.data.contains_key("evidence"), "{event:?}");
    search(&house.path("state/evidence"), text)
}

/// Waits until the one thread of a server is asleep in C.
fn wait_until_blocked(house: &House, pid: u32) {
    let place = format!("/proc/{pid}/wchan");
    let asleep = |_: &House| Ok(fs::read_to_string(&place)?.contains(WAITS_IN));
    house.wait_for("its only thread is asleep", LONG, asleep).unwrap();
}

/// A copy of an example, where Python may leave what it likes, and its settings, their places
/// filled in.
fn example(name: &str, bin: &Path, port: u16) -> (tempfile::TempDir, Setting) {
    let (from, folder) = (format!("{EXAMPLES}/{name}"), tempfile::tempdir().unwrap());
    for file in ["app.py", "holdfast.toml"] {
        fs::copy(format!("{from}/{file}"), folder.path().join(file)).unwrap();
    }
    let text = fs::read_to_string(folder.path().join("holdfast.toml")).unwrap();
    let services = text
        .replace("@DIR@", &folder.path().display().to_string())
        .replace("@BIN@", &bin.display().to_string())
        .replace("@PORT@", &port.to_string());
    (folder, Setting { services, ..Setting::default() })
}

fn start(setting: &Setting, instances: &[&str]) -> House {
    let house = House::start(Path::new(BINARY), setting).unwrap();
    house
        .wait_for("all run, and are looked at", LONG, |house| {
            let seen = instances.iter().map(|name| house.instance(name));
            let seen: Vec<_> = seen.collect::<Result<_, _>>()?;
            Ok(seen.iter().all(|it| {
                it.state == "running" && it.health.verdicts.len() as u32 == it.health.detectors
            }))
        })
        .unwrap();
    house
}

/// The Python programs, if all of these are there.
fn bin(programs: &[&str]) -> Option<PathBuf> {
    let found: Option<Vec<PathBuf>> = programs.iter().map(|name| wheel(name)).collect();
    Some(found?.first()?.parent()?.to_owned())
}

struct Zope {
    /// Dropped first: the files must be there while it runs.
    house: House,
    _folder: tempfile::TempDir,
    first: u16,
}

impl Zope {
    fn start() -> Option<Self> {
        let bin = bin(&["runwsgi", "runzeo", "py-spy"])?;
        let folder = tempfile::tempdir().unwrap();
        let (instance, ports) = (folder.path().join("zope"), free_row(5).unwrap());
        let made = Command::new(format!("{EXAMPLES}/zope/setup.sh"))
            .args([&instance, &bin])
            .arg(ports.port().to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(
            made.status.success(),
            "{said}\n{:?}",
            fs::read_to_string(instance.join("var/log/setup.log"))
        );
        let text = fs::read_to_string(instance.join("holdfast.toml")).unwrap();
        // The house has a daemon's part of its own.
        let (_, services) = text.split_once("[service.zeo]").unwrap();
        let services = format!("[service.zeo]{services}");
        let house =
            start(&Setting { services, ..Setting::default() }, &["zeo", "zope:0", "zope:1"]);
        Some(Self { house, _folder: folder, first: ports.port() + 1 })
    }

    /// Where the present run of an instance listens.
    fn address(&self, instance: &str) -> SocketAddr {
        let port = self.house.instance(instance).unwrap().port.unwrap();
        assert!((self.first..self.first + 4).contains(&port));
        SocketAddr::from(([127, 0, 0, 1], port))
    }
}

#[test]
fn h2_h15_a_zope_with_all_threads_hung_is_replaced_and_its_stacks_name_the_method() {
    let Some(mut zope) = Zope::start() else { return };
    let others = zope.house.instance("zope:1").unwrap().pid;
    let begun = At::now();
    ask_in_vain(zope.address("zope:0"), "/hang", 4);
    let event = replaced(&mut zope.house, "zope:0", begun);
    assert_eq!(event.data["detector"], "http", "{event:?}");
    assert!(evidence_says(&zope.house, &event, "wait_for_ever (faults.py:"));
    get(zope.address("zope:0"), "/", LONG).unwrap();
    assert_eq!(zope.house.instance("zope:1").unwrap().pid, others);
    zope.house.stop().unwrap();
}

#[test]
fn h3_h7_a_zope_that_leaks_serves_until_its_successor_does() {
    let Some(mut zope) = Zope::start() else { return };
    let begun = At::now();
    let leaking = zope.address("zope:0");
    get(leaking, "/leak?megabytes=180", LONG).unwrap();
    let sick = |it: &EventRecord| it.subject == "zope:0" && it.kind == "service.sick";
    let sick = zope.house.wait_event(begun, LONG, sick).unwrap().unwrap();
    assert!(sick.message.contains("MiB of memory"), "{}", sick.message);
    get(leaking, "/", LONG).unwrap();
    replaced(&mut zope.house, "zope:0", begun);
    let fresh = zope.address("zope:0");
    assert_ne!(fresh, leaking, "the successor has a port of its own");
    get(fresh, "/", LONG).unwrap();
    let saved = zope.house.instance("zope:0").unwrap().health.workaround.unwrap();
    assert_eq!(saved.saves, 1);
    zope.house.stop().unwrap();
}

#[test]
fn h2_eventlet_blocked_by_a_c_function_is_replaced_and_whoever_waits_is_served() {
    let Some(bin) = bin(&["python", "py-spy"]) else { return };
    let address = free_row(1).unwrap();
    let (_folder, setting) = example("eventlet", &bin, address.port());
    let mut house = start(&setting, &["green"]);
    let old = house.instance("green").unwrap().pid.unwrap();
    let answer = get(address, "/", LONG).unwrap();
    assert!(answer.ends_with(&format!("\r\n\r\n{old}\n")), "{answer}");
    let begun = At::now();
    ask_in_vain(address, "/block", 1);
    // Whoever comes before that may be taken by it together with the request that blocks.
    wait_until_blocked(&house, old);
    // They wait in the socket's queue, which the successor inherits.
    let waiting: Vec<_> =
        (0..3).map(|_| std::thread::spawn(move || get(address, "/", LONG))).collect();
    let event = replaced(&mut house, "green", begun);
    assert!(evidence_says(&house, &event, "call_into_c (app.py:"));
    let new = house.instance("green").unwrap().pid.unwrap();
    for waiting in waiting {
        let answer = waiting.join().unwrap().unwrap();
        assert!(answer.ends_with(&format!("\r\n\r\n{new}\n")), "{answer}");
    }
    house.stop().unwrap();
}

#[test]
fn h23_gunicorn_recycles_its_workers_before_it_is_replaced() {
    let Some(bin) = bin(&["gunicorn"]) else { return };
    let address = free_row(1).unwrap();
    let (_folder, setting) = example("gunicorn", &bin, address.port());
    let mut house = start(&setting, &["app"]);
    let master = house.instance("app").unwrap().pid;
    let begun = At::now();
    for _ in 0..8 {
        get(address, "/leak", LONG).unwrap();
    }
    let helped = |it: &EventRecord| {
        it.subject == "app"
            && it.kind == "service.remedy"
            && it.data.get("helped").is_some_and(|helped| helped == true)
    };
    let event = house.wait_event(begun, LONG, helped).unwrap();
    let event = event.unwrap_or_else(|| panic!("it did not help:\n{}", house.log()));
    assert!(event.message.contains("recycle the workers"), "{}", event.message);
    let app = house.instance("app").unwrap();
    assert_eq!(app.pid, master, "the whole of it was left alone");
    assert_eq!(app.health.workaround.unwrap().saves, 1, "each rung of the ladder counts");
    get(address, "/", LONG).unwrap();
    house.stop().unwrap();
}

/// The worker of an nginx that has one. Its title overwrites what is to be seen of its environment.
fn only_child(pid: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let mut children = children.split_whitespace().map(|child| child.parse().unwrap());
    let (only, more) = (children.next(), children.next());
    assert_eq!(more, None);
    only.unwrap()
}

#[test]
fn h18_nginx_whose_worker_is_stopped_is_replaced_as_a_whole() {
    let Some(nginx) = peer("nginx", &[]) else { return };
    let address = free_row(1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().display();
    let temps = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temps = temps.map(|name| format!("{name}_temp_path {dir}/{name};")).join(" ");
    let text = format!(
        "pid {dir}/nginx.pid; error_log stderr; worker_processes 1; user root;\n\
         events {{}}\nhttp {{ access_log off; {temps}\n\
         server {{ listen {address}; location / {{ return 200 'hello'; }} }} }}\n"
    );
    fs::write(folder.path().join("nginx.conf"), text).unwrap();
    let services = format!(
        "[service.web]\ncommand = [\"{}\", \"-c\", \"{dir}/nginx.conf\", \"-g\", \"daemon off;\"]\n\
         ready = {{ http = \"http://{address}/\" }}\nstop = [\"QUIT 1s\", \"TERM 1s\"]\n\
         [service.web.tolerance]\nmode = \"enforce\"\ninterval = \"1s\"\n\
         [service.web.detect.http]\nurl = \"http://{address}/\"\ninterval = \"500ms\"\n\
         timeout = \"500ms\"\nfailures = 2\n",
        nginx.display()
    );
    let mut house = start(&Setting { services, ..Setting::default() }, &["web"]);
    let old = house.instance("web").unwrap();
    let (stopped, begun) = (only_child(old.pid.unwrap()), At::now());
    crate::support::kill(stopped, "STOP");
    replaced(&mut house, "web", begun);
    let gone = |house: &House| {
        let left = house.processes().iter().any(|it| it.pid == stopped);
        Ok(!left && !is_alive(stopped))
    };
    house.wait_for("the stopped worker is gone", LONG, gone).unwrap();
    assert_ne!(house.instance("web").unwrap().run, old.run);
    get(address, "/", LONG).unwrap();
    house.stop().unwrap();
}
