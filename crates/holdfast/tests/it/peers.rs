//! Real servers, as their users run them: foreground, background, with pid files, by a control
//! program.
//!
//! A server that is not installed is skipped and said, unless `HOLDFAST_PEERS=require` is set, as
//! `cargo xtask test` does after it has installed them.

use crate::support::{Daemon, alive, free_port, kill, wait_for};
use control::ServiceAction;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a program is, or `None` with a word on standard error.
pub(crate) fn peer(name: &str, more_places: &[&str]) -> Option<PathBuf> {
    let places = ["/usr/sbin", "/usr/bin", "/usr/local/bin"].iter().chain(more_places);
    let found = places.map(|place| Path::new(place).join(name)).find(|path| path.exists());
    if found.is_none() {
        let required = std::env::var("HOLDFAST_PEERS").is_ok_and(|value| value == "require");
        assert!(!required, "{name} is not installed; `cargo xtask test` names the package");
        eprintln!("skipped: {name} is not installed");
    }
    found
}

/// Where a program of the Python environment is (`xtask/src/wheels.rs`), or `None` with a word on
/// standard error.
pub(crate) fn wheel(name: &str) -> Option<PathBuf> {
    let bin = std::env::var_os("HOLDFAST_PEERS_PYTHON").map(PathBuf::from);
    let found = bin.map(|bin| bin.join(name)).filter(|path| path.exists());
    if found.is_none() {
        let required = std::env::var("HOLDFAST_PEERS").is_ok_and(|value| value == "require");
        assert!(!required, "{name} is not installed; `cargo xtask test` installs it");
        eprintln!("skipped: {name} is not installed (set HOLDFAST_PEERS_PYTHON)");
    }
    found
}

/// A directory that other users may enter too.
fn prepare(services: &str) -> Daemon {
    let daemon = Daemon::prepare(services);
    fs::set_permissions(daemon.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    daemon
}

fn talk(port: u16, say: &[u8], expect: &str) -> Result<(), String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|e| e.to_string())?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    stream.write_all(say).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let read = stream.read(&mut chunk).map_err(|error| error.to_string())?;
        answer.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&answer);
        if text.contains(expect) {
            return Ok(());
        }
        if read == 0 {
            return Err(text.into_owned());
        }
    }
}

/// The service answers; its main process is what it should be; killed, it comes back; stopped,
/// nothing of it is left.
fn check(mut daemon: Daemon, main_is: &str, port: u16, say: &[u8], expect: &str) {
    daemon.run();
    let first = daemon.wait_state("peer", "running").pid.unwrap();
    wait_for("it answers", || talk(port, say, expect));
    let command = fs::read_to_string(format!("/proc/{first}/cmdline")).unwrap();
    assert!(command.contains(main_is), "main process {first} is {command:?}");
    assert!(!command.contains("sh -c"), "{command}");

    kill(first, "KILL");
    let second = daemon.wait_replaced("peer", first).pid.unwrap();
    wait_for("it answers again", || talk(port, say, expect));

    daemon.act(ServiceAction::Stop, "peer");
    daemon.wait_state("peer", "stopped");
    assert!(!alive(second));
    let left: Vec<_> =
        daemon.processes().into_iter().filter(|(_, c)| !c.contains("duty")).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert_eq!(daemon.stop(), 0);
}

const HTTP: (&[u8], &str) = (b"GET / HTTP/1.0\r\n\r\n", "hello from nginx");

fn nginx(service: &str) -> Option<(Daemon, u16)> {
    let program = peer("nginx", &[])?;
    let port = free_port();
    let program = program.display().to_string();
    let daemon = prepare(&service.replace("{nginx}", &program).replace("{tcp}", &port.to_string()));
    let dir = daemon.dir().display();
    fs::create_dir(daemon.path("tmp")).unwrap();
    let temp = |name: &str| format!("{name}_temp_path {dir}/tmp/{name};");
    let temps = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(temp).join(" ");
    let text = format!(
        "pid {dir}/nginx.pid; error_log stderr; worker_processes 2;\n\
         events {{}}\nhttp {{ access_log off; {temps}\n\
         server {{ listen 127.0.0.1:{port}; location / {{ return 200 'hello from nginx'; }} }} }}\n"
    );
    fs::write(daemon.path("nginx.conf"), text).unwrap();
    Some((daemon, port))
}

#[test]
fn nginx_in_the_foreground() {
    let service = "[service.peer]\n\
        command = [\"{nginx}\", \"-c\", \"{dir}/nginx.conf\", \"-g\", \"daemon off;\"]\n\
        ready = { http = \"http://127.0.0.1:{tcp}/\" }\nstop = [\"QUIT 10s\"]\nreload = \"HUP\"\n";
    let Some((daemon, port)) = nginx(service) else { return };
    check(daemon, "nginx: master", port, HTTP.0, HTTP.1);
}

#[test]
fn d2_nginx_in_its_daemon_mode_with_a_pid_file() {
    let service = "[service.peer]\nkind = \"forking\"\npid_file = \"{dir}/nginx.pid\"\n\
        command = [\"{nginx}\", \"-c\", \"{dir}/nginx.conf\"]\n\
        ready = { tcp = \"127.0.0.1:{tcp}\" }\n";
    let Some((daemon, port)) = nginx(service) else { return };
    check(daemon, "nginx: master", port, HTTP.0, HTTP.1);
}

#[test]
fn d2_nginx_in_its_daemon_mode_without_one() {
    let service = "[service.peer]\nkind = \"forking\"\n\
        command = [\"{nginx}\", \"-c\", \"{dir}/nginx.conf\"]\n\
        ready = { tcp = \"127.0.0.1:{tcp}\" }\n";
    let Some((daemon, port)) = nginx(service) else { return };
    check(daemon, "nginx: master", port, HTTP.0, HTTP.1);
}

#[test]
fn redis_with_its_own_sd_notify() {
    let Some(program) = peer("redis-server", &[]) else { return };
    let (program, port) = (program.display(), free_port());
    let daemon = prepare(&format!(
        "[service.peer]\nready = \"notify\"\n\
         command = [\"{program}\", \"--port\", \"{port}\", \"--bind\", \"127.0.0.1\", \"--save\", \"\", \
         \"--supervised\", \"systemd\", \"--dir\", \"{{dir}}\"]\n"
    ));
    check(daemon, "redis-server", port, b"PING\r\n", "+PONG");
}

#[test]
fn d2_memcached_as_a_daemon() {
    let Some(program) = peer("memcached", &[]) else { return };
    let (program, port) = (program.display(), free_port());
    let daemon = prepare(&format!(
        "[service.peer]\nkind = \"forking\"\nready = {{ tcp = \"127.0.0.1:{port}\" }}\n\
         command = \"{program} -d -u nobody -l 127.0.0.1 -p {port}\"\n"
    ));
    check(daemon, "memcached", port, b"version\r\n", "VERSION");
}

#[test]
fn d2_postgresql_through_pg_ctl() {
    let places = ["/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/17/bin"];
    let Some(program) = peer("pg_ctl", &places) else { return };
    let (program, port) = (program.display().to_string(), free_port());
    let daemon = prepare(&format!(
        "[service.peer]\nkind = \"forking\"\npid_file = \"{{dir}}/data/postmaster.pid\"\n\
         user = \"postgres\"\ndirectory = \"{{dir}}\"\n\
         command = [\"{program}\", \"start\", \"--wait\", \"--pgdata={{dir}}/data\", \
         \"--options=-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off\"]\n\
         stop = [{{ command = [\"{program}\", \"stop\", \"--mode=fast\", \"--pgdata={{dir}}/data\"], wait = \"20s\" }}]\n\
         ready = {{ tcp = \"127.0.0.1:{port}\" }}\n"
    ));
    let data = daemon.path("data");
    fs::create_dir(&data).unwrap();
    assert!(Command::new("chown").arg("postgres").arg(&data).status().unwrap().success());
    let init = Command::new("setpriv")
        .args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups", &program])
        .args(["init", "--silent", "--options=--auth=trust --no-sync"])
        .arg("--pgdata")
        .arg(&data)
        .current_dir("/")
        .output()
        .unwrap();
    assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
    // The answer to an SSL request: `N`, there is none here.
    check(daemon, "postgres", port, b"\0\0\0\x08\x04\xd2\x16/", "N");
}
