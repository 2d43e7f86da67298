//! Every wrong thing gets a message with the cause, and nothing else suffers.

use crate::support::{Daemon, root_or_skip, wait_for};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const GOOD: &str = "[service.good]\ncommand = [\"sleep\", \"1000\"]\n";

/// The service `bad` does not come up; the message says why, and `good` is not touched.
fn check(service: &str, expect: &[&str]) {
    let daemon = Daemon::start(&format!("{GOOD}{service}"));
    daemon.wait_state("good", "running");
    wait_for("the cause is named", || {
        let why = format!("{:?} {}", daemon.why("bad"), daemon.log());
        if expect.iter().all(|part| why.contains(part)) { Ok(()) } else { Err(why) }
    });
    assert_eq!(daemon.instance("good").state, "running");
}

#[test]
fn a_command_that_does_not_exist() {
    check(
        "[service.bad]\ncommand = [\"/no/such/program\"]\n",
        &["`program`: no such file in /no/such", "check `command`"],
    );
}

#[test]
fn a_command_that_is_not_executable() {
    check("[service.bad]\ncommand = [\"/etc/passwd\"]\n", &["/etc/passwd", "not executable"]);
}

#[test]
fn a_script_without_its_interpreter() {
    let daemon = Daemon::prepare(&format!("{GOOD}[service.bad]\ncommand = [\"{{dir}}/script\"]\n"));
    let script = daemon.path("script");
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut daemon = daemon;
    daemon.run();
    wait_for("the interpreter is named", || {
        let why = format!("{:?}", daemon.why("bad"));
        if why.contains("/no/such/interpreter") { Ok(()) } else { Err(why) }
    });
}

#[test]
fn a_user_that_does_not_exist() {
    check(
        "[service.bad]\ncommand = [\"sleep\", \"1\"]\nuser = \"nobody-of-that-name\"\n",
        &["nobody-of-that-name"],
    );
}

#[test]
fn a_directory_that_does_not_exist() {
    check(
        "[service.bad]\ncommand = [\"sleep\", \"1\"]\ndirectory = \"/no/such/directory\"\n",
        &["/no/such/directory"],
    );
}

#[test]
fn an_environment_file_that_is_missing() {
    check(
        "[service.bad]\ncommand = [\"sleep\", \"1\"]\nenv_file = [\"/no/such/env\"]\n",
        &["/no/such/env"],
    );
}

#[test]
fn a_socket_in_use_names_its_holder() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    check(
        &format!(
            "[service.bad]\ncommand = [\"sleep\", \"1\"]\n\
             sockets = [{{ name = \"http\", tcp = \"{address}\" }}]\n"
        ),
        &[&address.to_string(), "already in use", &std::process::id().to_string()],
    );
}

/// A server that is none of the service's: it answers every request with 404.
struct Stranger {
    port: u16,
    end: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Stranger {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::Acquire) {
                    return;
                }
                let mut stream = stream;
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
            }
        });
        Self { port, end, thread: Some(thread) }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Release);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

#[test]
fn a_probe_that_somebody_else_answers_names_who_holds_the_port() {
    let stranger = Stranger::start();
    let port = stranger.port;
    check(
        &format!(
            "[service.bad]\ncommand = [\"sleep\", \"1000\"]\nready = {{ http = \"http://127.0.0.1:{port}/\", timeout = \"500ms\" }}\n\
             start_timeout = \"1s\"\nstop = [\"KILL 1s\"]\n"
        ),
        &[
            "answered 404",
            &format!("port {port} is held by process {} (", std::process::id()),
            "which is none of its own",
        ],
    );
}

#[test]
fn a_start_that_never_becomes_ready_times_out_with_the_last_answer() {
    check(
        "[service.bad]\ncommand = [\"sleep\", \"1000\"]\n\
         ready = { file = \"/no/such/file\", timeout = \"100ms\" }\nstart_timeout = \"300ms\"\nstop = [\"KILL 1s\"]\n",
        &["/no/such/file does not exist yet"],
    );
}

#[test]
fn a_flood_of_output_blocks_nobody() {
    let daemon = Daemon::start(&format!(
        "{GOOD}[service.flood]\nshell = true\ncommand = \"exec yes 0123456789012345678901234567890\"\n\
         log = {{ size = \"1MiB\", keep = 2 }}\n\
         [service.quiet]\nshell = true\ncommand = \"while read line; do :; done < /dev/null; echo heard; exec sleep 1000\"\n"
    ));
    daemon.wait_state("flood", "running");
    wait_for("the flood is rotated", || {
        let rotated = fs::read_dir(daemon.path("state/logs")).unwrap().flatten();
        let names: Vec<_> = rotated.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        let old = names.iter().filter(|name| name.starts_with("flood.log.")).count();
        if 2 <= old { Ok(()) } else { Err(format!("{names:?}")) }
    });
    wait_for("the quiet one is heard", || {
        let output = daemon.output("quiet");
        if output == "heard\n" { Ok(()) } else { Err(output) }
    });
    assert_eq!(daemon.instance("good").state, "running");
}

#[test]
fn a_state_directory_that_cannot_be_written_is_named() {
    let daemon = Daemon::prepare(GOOD);
    fs::write(daemon.path("state"), "a file, not a directory").unwrap();
    let output = daemon.cli(&["run"]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(message.contains("state") && message.contains("state_dir"), "{message}");
}

#[test]
fn a_faulty_configuration_stops_the_start_with_all_faults() {
    let daemon = Daemon::prepare("[service.a]\ncomand = \"x\"\n[service.b]\nrequires = [\"c\"]\n");
    let output = daemon.cli(&["run"]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{message}");
    for part in ["comand", "did you mean", "`c`", "holdfast.toml"] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn a_user_that_we_may_not_switch_to() {
    if !root_or_skip("start a daemon as somebody else") {
        return;
    }
    let user = "65534";
    let mut daemon = Daemon::prepare(&format!(
        "{GOOD}[service.bad]\ncommand = [\"sleep\", \"1000\"]\nuser = \"daemon\"\n"
    ));
    // The binary may lie where only root can go.
    let binary = daemon.path("holdfast");
    fs::copy(crate::support::BINARY, &binary).unwrap();
    let shown = binary.display().to_string();
    let switch = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups"];
    let execute = ["sh", "-c", "shift; exec \"$0\" \"$@\"", &shown];
    daemon.under = switch.into_iter().chain(execute).map(ToOwned::to_owned).collect();
    let owned = Command::new("chown").args(["-R", user]).arg(daemon.dir()).status().unwrap();
    assert!(owned.success());
    daemon.run();
    daemon.wait_state("good", "running");
    wait_for("the cause is named", || {
        let why = format!("{:?}", daemon.why("bad"));
        let named = why.contains("switch to user 1 (daemon)") && why.contains("run it as root");
        if named { Ok(()) } else { Err(why) }
    });
    assert_eq!(daemon.instance("good").state, "running");
}
