//! The command line against a made-up root: exit codes, output, and what it says when nobody or
//! somebody strange answers. No daemon is needed.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use control::{
    Envelope, ErrorCode, Fault, InstanceView, Reply, Request, ServiceView, Snapshot, WhyLink,
    WhyView, decode_frame, encode_frame,
};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tempfile::TempDir;

type Answer = Box<dyn FnMut(Request) -> Option<Reply> + Send>;

/// Answers like a root, by a function; `None` closes the connection.
struct FakeRoot {
    dir: TempDir,
    thread: Option<JoinHandle<()>>,
}

impl FakeRoot {
    fn start(answer: impl FnMut(Request) -> Option<Reply> + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("control.sock")).unwrap();
        let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Box::new(answer)));
        let thread = std::thread::spawn(move || {
            let mut connections = Vec::new();
            while let Ok((mut stream, _)) = listener.accept() {
                let mut word = [0; 4];
                // The end of the test says so by a connection that begins with an absurd length.
                if stream.read_exact(&mut word).is_err() {
                    continue;
                }
                if word == [0xFF; 4] {
                    break;
                }
                let answer = Arc::clone(&answer);
                connections.push(std::thread::spawn(move || serve(stream, word.to_vec(), &answer)));
            }
            for connection in connections {
                connection.join().unwrap();
            }
        });
        Self { dir, thread: Some(thread) }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    fn run(&self, args: &[&str]) -> Output {
        holdfast(&[&["--socket", self.socket().to_str().unwrap()], args].concat())
    }
}

impl Drop for FakeRoot {
    fn drop(&mut self) {
        if let Ok(mut stream) = UnixStream::connect(self.socket()) {
            let _ = stream.write_all(&[0xFF; 4]);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut stream: UnixStream, mut bytes: Vec<u8>, answer: &Mutex<Answer>) {
    let mut chunk = [0; 4096];
    loop {
        while let Some((request, used)) = decode_frame::<Envelope<Request>>(&bytes).unwrap() {
            bytes.drain(..used);
            let Some(body) = answer.lock().unwrap()(request.body) else { return };
            let reply = encode_frame(&Envelope { id: request.id, body }).unwrap();
            if stream.write_all(&reply).is_err() {
                return;
            }
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

fn holdfast(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .args(args)
        .env_remove("HOLDFAST_SOCKET")
        .env_remove("HOLDFAST_CONFIG")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn view(state: &str, wish: &str, run: u64) -> InstanceView {
    InstanceView {
        name: "web".into(),
        state: state.into(),
        wish: wish.into(),
        run: Some(run),
        pid: Some(77),
        ..InstanceView::default()
    }
}

fn status(instance: InstanceView) -> Reply {
    let web =
        ServiceView { name: "web".into(), instances: vec![instance], ..ServiceView::default() };
    let snapshot = Snapshot {
        node: "n".into(),
        version: "0.1.0".into(),
        services: vec![web],
        ..Snapshot::default()
    };
    Reply::Status { snapshot: Box::new(snapshot) }
}

fn done() -> Reply {
    Reply::Done { message: "restart of web".into(), instances: vec!["web".into()] }
}

fn why() -> Reply {
    let link = WhyLink { subject: "web".into(), message: "web exited with code 3".into() };
    let why = WhyView {
        subject: "web".into(),
        state: "failed".into(),
        chain: vec![link],
        last_output: vec!["cannot open the database".into()],
        help: vec!["`holdfast service start web`".into()],
    };
    Reply::Why { why: Box::new(why) }
}

#[test]
fn status_says_by_its_exit_code_whether_all_is_as_wanted() {
    let good = FakeRoot::start(|_| Some(status(view("running", "up", 1))));
    let output = good.run(&["status"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("everything is as wanted"), "{output:?}");
    assert!(!output.stdout.contains(&0x1b), "no colours into a pipe: {output:?}");

    let bad = FakeRoot::start(|_| Some(status(view("failed", "failed", 1))));
    assert_eq!(bad.run(&["status"]).status.code(), Some(1));
    let json: Snapshot = serde_json::from_slice(&bad.run(&["status", "--json"]).stdout).unwrap();
    assert_eq!(json.services[0].instances[0].state, "failed");
    assert_eq!(bad.run(&["status", "nobody"]).status.code(), Some(1));
}

#[test]
fn without_a_daemon_the_answer_is_cannot_tell_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let output = holdfast(&["status", "--socket", socket.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    let said = text(&output.stderr);
    assert!(said.contains("no socket at") && said.contains("holdfast run"), "{said}");

    drop(UnixListener::bind(&socket).unwrap());
    let output = holdfast(&["status", "--json", "--socket", socket.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    let failure: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert!(failure["message"].as_str().unwrap().contains("nobody listens"), "{failure}");
}

#[test]
fn a_daemon_that_hangs_up_is_cannot_tell_and_a_refusal_is_no() {
    let silent = FakeRoot::start(|_| None);
    assert_eq!(silent.run(&["status"]).status.code(), Some(3));
    let strict = FakeRoot::start(|_| {
        Some(Reply::Failed(Fault {
            code: ErrorCode::Forbidden,
            message: "uid 7 may only look".into(),
            help: "ask an operator".into(),
        }))
    });
    let output = strict.run(&["reload"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("ask an operator"), "{output:?}");
}

#[test]
fn a_restart_is_waited_for_until_another_run_is_ready() {
    let mut asked = 0;
    let root = FakeRoot::start(move |request| {
        Some(match request {
            Request::Status => {
                asked += 1;
                status(match asked {
                    1 => view("running", "up", 1),
                    2 => view("stopping", "up", 1),
                    3 => view("starting", "up", 2),
                    _ => view("running", "up", 2),
                })
            }
            _ => done(),
        })
    });
    let output = root.run(&["service", "restart", "web"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("web is running (pid 77) after"), "{output:?}");
}

#[test]
fn g13_a_start_that_fails_shows_why_and_the_last_output() {
    let root = FakeRoot::start(|request| {
        Some(match request {
            Request::Status => status(view("failed", "failed", 2)),
            Request::Why { .. } => why(),
            _ => done(),
        })
    });
    let output = root.run(&["service", "start", "web"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = text(&output.stdout);
    for part in
        ["✗ web is failed", "exited with code 3", "cannot open the database", "service start"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    let json: serde_json::Value =
        serde_json::from_slice(&root.run(&["service", "start", "web", "--json"]).stdout).unwrap();
    assert_eq!(json["instances"][0]["outcome"], "failed");
}

#[test]
fn what_does_not_settle_is_given_up_after_the_timeout() {
    let root = FakeRoot::start(|request| {
        Some(match request {
            Request::Status => status(view("waiting", "up", 1)),
            Request::Why { .. } => why(),
            _ => done(),
        })
    });
    let output = root.run(&["service", "start", "web", "--timeout", "100ms"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("no longer waiting after 100ms"), "{output:?}");
    let output = root.run(&["service", "start", "web", "--no-wait"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_closed_pipe_ends_a_command_quietly() {
    let root = FakeRoot::start(|_| Some(status(view("running", "up", 1))));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .args(["status", "--socket", root.socket().to_str().unwrap()])
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_faulty_configuration_is_shown_and_is_no() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("holdfast.toml");
    std::fs::write(&path, "[service.web]\ncomand = [\"true\"]\n").unwrap();
    let output = holdfast(&["config", "check", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stdout).contains("comand"), "{output:?}");
    let refused = holdfast(&["run", "--config", path.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(text(&refused.stderr).contains("comand"), "{refused:?}");
    std::fs::write(&path, "[service.web]\ncommand = [\"true\"]\n").unwrap();
    let output = holdfast(&["config", "check", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");

    let shown = holdfast(&["config", "show", "--config", path.to_str().unwrap()]);
    std::fs::write(&path, &shown.stdout).unwrap();
    let again = holdfast(&["config", "show", "--config", path.to_str().unwrap()]);
    assert_eq!(text(&shown.stdout), text(&again.stdout));
}

#[test]
fn pages_for_man_and_scripts_for_shells_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    let output = holdfast(&["man", "--dir", pages.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let page = std::fs::read_to_string(pages.join("holdfast-service-restart.1")).unwrap();
    assert!(page.contains("holdfast\\-service\\-restart"), "{page}");
    assert!(!pages.join("holdfast-duty.1").exists());
    for shell in ["bash", "zsh", "fish"] {
        let script = holdfast(&["completions", shell]).stdout;
        assert!(text(&script).contains("restart"), "{shell}");
    }
}

#[test]
fn a_token_is_shown_with_the_hash_that_the_configuration_keeps() {
    let output = holdfast(&["token", "--name", "ci", "--role", "act", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("holdfast.toml");
    let toml = json["toml"].as_str().unwrap();
    assert!(toml.contains(json["sha256"].as_str().unwrap()));
    assert!(!toml.contains(json["token"].as_str().unwrap()));
    std::fs::write(&path, toml).unwrap();
    let output = holdfast(&["config", "check", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let other = holdfast(&["token", "--json"]);
    assert_ne!(text(&output.stdout), text(&other.stdout));
}
