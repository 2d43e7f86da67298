//! supervisord's interface and people: who may ask, by which door, and what nobody may send.

use crate::peers::peer;
use crate::supervisord::{FACE, clients, ctl, ready, run};
use crate::support::{Daemon, free_port, root_or_skip, wait_for};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const SERVICE: &str = "[service.web]\ncommand = [\"sleep\", \"1000\"]\n";

/// A user whom no configuration names.
const STRANGER: &str = "65534";

/// `printf secret | sha256sum`.
const SECRET: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

fn as_user(uid: &str, command: &Command) -> Command {
    let mut other = Command::new("setpriv");
    other.args(["--reuid", uid, "--regid", uid, "--clear-groups"]);
    other.arg(command.get_program()).args(command.get_args());
    other
}

#[test]
fn h27_who_may_act_who_may_look_and_who_may_nothing() {
    let Some(client) = clients().into_iter().next() else { return };
    if !root_or_skip("ask as somebody else") {
        return;
    }
    let face = format!("{FACE}unix_mode = \"0666\"\n{SERVICE}");
    let daemon = Daemon::prepare("");
    daemon.open_to_all();
    daemon.configure(&format!("{face}[api]\nviewers = [\"user:1\"]\noperators = [\"user:2\"]\n"));
    let mut daemon = daemon;
    daemon.run();
    ready(&client, &daemon);
    let ask =
        |uid: &str, arguments: &[&str]| run(&mut as_user(uid, &ctl(&client, &daemon, arguments)));
    let (code, text) = ask(STRANGER, &["status"]);
    assert!(code != 0 && text.contains("403"), "{code} {text}");
    let (code, text) = ask("1", &["status"]);
    assert!(code == 0 && text.contains("RUNNING"), "{code} {text}");
    let (code, text) = ask("1", &["stop", "web"]);
    assert!(code != 0 && text.contains("may not do this"), "{code} {text}");
    daemon.wait_state("web", "running");
    let (code, text) = ask("2", &["stop", "web"]);
    assert!(code == 0 && text.contains("web: stopped"), "{code} {text}");
    // The mode of the socket is as configured, also after a reload.
    daemon.configure(&format!("{FACE}unix_mode = \"0600\"\n{SERVICE}"));
    assert!(daemon.cli(&["reload"]).status.success());
    wait_for("nobody else can connect", || match ask("2", &["status"]) {
        (code, text) if code != 0 && text.contains("refused connection") => Ok(()),
        (code, text) if code != 0 && text.to_lowercase().contains("permission") => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

/// A configuration of `supervisorctl` that says nothing, so that no other one is read.
fn ini(daemon: &Daemon) -> String {
    daemon.write("ctl.ini", "[supervisorctl]\n").display().to_string()
}

#[test]
fn h27_over_tcp_by_name_and_password() {
    let Some(client) = clients().into_iter().next() else { return };
    let port = free_port();
    let tcp = format!("tcp = \"127.0.0.1:{port}\"\n");
    let login = format!("user = \"alice\"\npassword_sha256 = \"{SECRET}\"\n");
    let daemon = Daemon::start(&format!("{FACE}{tcp}{login}{SERVICE}"));
    ready(&client, &daemon);
    daemon.wait_state("web", "running");
    let (ini, url) = (ini(&daemon), format!("http://127.0.0.1:{port}"));
    let ask = |more: &[&str]| run(Command::new(&client).args(["-c", &ini, "-s", &url]).args(more));
    let (code, text) = ask(&["-u", "alice", "-p", "secret", "status"]);
    assert!(code == 0 && text.contains("RUNNING"), "{code} {text}");
    let (code, text) = ask(&["-u", "alice", "-p", "secret", "restart", "web"]);
    assert!(code == 0 && text.contains("web: started"), "{code} {text}");
    for wrong in [
        &["-u", "alice", "-p", "wrong", "status"][..],
        &["-u", "bob", "-p", "secret", "status"],
        &["status"],
    ] {
        let (code, text) = ask(wrong);
        assert!(code != 0 && text.contains("requires authentication"), "{wrong:?} {code} {text}");
    }
    assert!(!daemon.log().contains("secret"), "passwords are not logged");
}

#[test]
fn h27_over_tcp_without_a_login_the_kernel_says_who_asks() {
    let Some(client) = clients().into_iter().next() else { return };
    if !root_or_skip("ask as somebody else") {
        return;
    }
    let port = free_port();
    let daemon = Daemon::start(&format!("{FACE}tcp = \"127.0.0.1:{port}\"\n{SERVICE}"));
    daemon.open_to_all();
    ready(&client, &daemon);
    daemon.wait_state("web", "running");
    let mut mine = Command::new(&client);
    mine.args(["-c", &ini(&daemon), "-s", &format!("http://127.0.0.1:{port}"), "status"]);
    let (code, text) = run(&mut mine);
    assert!(code == 0 && text.contains("RUNNING"), "{code} {text}");
    let (code, text) = run(&mut as_user(STRANGER, &mine));
    assert!(code != 0 && text.contains("403"), "{code} {text}");
}

pub(crate) fn talk(socket: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // What is refused early may be closed before all of it is written.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

pub(crate) fn post(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST /RPC2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

#[test]
fn h27_bad_requests_are_refused_and_cost_nobody_else_anything() {
    let daemon = Daemon::start(&format!("{FACE}{SERVICE}"));
    let socket = daemon.path("sup.sock");
    let ask = "<?xml version='1.0'?><methodCall><methodName>supervisor.getState</methodName></methodCall>";
    wait_for("the interface answers", || match UnixStream::connect(&socket) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    });
    let good = || {
        let answer = talk(&socket, &post(ask));
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("statecode"), "{answer}");
        assert!(answer.contains("Content-Type: text/xml"), "as supervisord writes it: {answer}");
    };
    good();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: \r\nConnection: close\r\n\r\n");
    let bomb = "<!DOCTYPE b [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;\">]><methodCall>\
                <methodName>&b;</methodName></methodCall>";
    for (request, status) in [
        (post("not xml"), "400"),
        (post(bomb), "400"),
        (post(&"<value>".repeat(100_000)), "400"),
        (post(&"x".repeat(3 * 1024 * 1024)), "413"),
        (get("/RPC2").into_bytes(), "400"),
        (get("/").into_bytes(), "404"),
        (get("/logtail/nosuch").into_bytes(), "404"),
        (get("/logtail/web/what").into_bytes(), "404"),
        (get("/logtail/..%2F..%2Fetc%2Fpasswd").into_bytes(), "404"),
        (b"NONSENSE\r\n\r\n".to_vec(), "400"),
    ] {
        let answer = talk(&socket, &request);
        let shown: String = String::from_utf8_lossy(&request).chars().take(60).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{shown}: {answer}");
        good();
    }
    let unknown = ask.replace("getState", "nosuch");
    assert!(talk(&socket, &post(&unknown)).contains("UNKNOWN_METHOD"));
    // Those who only hold connections do not shut out others for longer than a header may take.
    let held: Vec<UnixStream> =
        (0..200).filter_map(|_| UnixStream::connect(&socket).ok()).collect();
    drop(held);
    wait_for("the interface answers again", || {
        let answer = talk(&socket, &post(ask));
        if answer.contains("statecode") { Ok(()) } else { Err(answer) }
    });
    daemon.wait_state("web", "running");
}

/// Holds this many connections to a socket and sends nothing.
const HOLDER: &str = "import socket, sys\n\
    held = []\n\
    for _ in range(int(sys.argv[2])):\n\
    \x20   one = socket.socket(socket.AF_UNIX)\n\
    \x20   one.connect(sys.argv[1])\n\
    \x20   held.append(one)\n\
    print('held', flush=True)\n\
    sys.stdin.read()\n";

#[test]
fn h27_strangers_who_hold_connections_do_not_shut_out_the_owner() {
    let (Some(client), Some(python)) = (clients().into_iter().next(), peer("python3", &[])) else {
        return;
    };
    if !root_or_skip("connect as somebody else") {
        return;
    }
    let daemon = Daemon::prepare("");
    daemon.open_to_all();
    daemon.configure(&format!("{FACE}unix_mode = \"0666\"\n{SERVICE}"));
    let mut daemon = daemon;
    daemon.run();
    ready(&client, &daemon);
    let socket = daemon.path("sup.sock").display().to_string();
    let mut holder = Command::new(python);
    holder.args(["-c", HOLDER, &socket, "200"]);
    let mut holder = as_user(STRANGER, &holder);
    let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = [0; 5];
    holder.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    let (code, text) = run(&mut ctl(&client, &daemon, &["status", "web"]));
    assert!(code == 0 && text.contains("web"), "{code} {text}");
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
fn h27_many_clients_at_once_are_all_answered() {
    let daemon = Daemon::start(&format!("{FACE}{SERVICE}"));
    let socket = daemon.path("sup.sock");
    daemon.wait_state("web", "running");
    wait_for("the interface answers", || match UnixStream::connect(&socket) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    });
    let ask = "<?xml version='1.0'?><methodCall><methodName>supervisor.getAllProcessInfo</methodName></methodCall>";
    let answers: Vec<String> = std::thread::scope(|scope| {
        let asks: Vec<_> = (0..100).map(|_| scope.spawn(|| talk(&socket, &post(ask)))).collect();
        asks.into_iter().map(|ask| ask.join().unwrap()).collect()
    });
    let good = answers.iter().filter(|answer| answer.contains("<string>RUNNING</string>")).count();
    assert_eq!(good, 100, "{:?}", answers.iter().find(|answer| !answer.contains("RUNNING")));
}

#[test]
fn h27_the_duty_is_there_only_where_it_is_wanted_and_comes_back_when_it_is_killed() {
    let mut daemon = Daemon::start(SERVICE);
    let duty = |daemon: &Daemon| {
        daemon.snapshot().duties.into_iter().find(|duty| duty.name == "supervisord")
    };
    assert!(duty(&daemon).is_none());
    let port = free_port();
    daemon.configure(&format!("{FACE}tcp = \"127.0.0.1:{port}\"\n{SERVICE}"));
    assert!(daemon.cli(&["reload"]).status.success());
    let first = wait_for("the duty runs", || {
        duty(&daemon).and_then(|duty| duty.pid).ok_or_else(|| daemon.log())
    });
    crate::support::kill(first, "KILL");
    wait_for("the duty has a successor", || match duty(&daemon).and_then(|duty| duty.pid) {
        Some(pid) if pid != first => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok(), "the socket was open all the time");
    daemon.configure(SERVICE);
    assert!(daemon.cli(&["reload"]).status.success());
    wait_for("the duty is gone", || match duty(&daemon) {
        None => Ok(()),
        Some(duty) => Err(format!("{duty:?}")),
    });
    assert!(!daemon.path("sup.sock").exists());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert_eq!(daemon.stop(), 0);
}
