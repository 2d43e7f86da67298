//! The HTTP API of a real daemon, by curl: who may ask what at which door.

use crate::peers::peer;
use crate::support::{Daemon, free_port, kill, root_or_skip, wait_for};
use control::{Envelope, ErrorCode, Reply, Request, ServiceAction, decode_frame, encode_frame};
use serde_json::Value;
use std::io::Write;
use std::process::{Command, Stdio};

/// A user whom no configuration names.
const STRANGER: &str = "65534";

/// An answer: the status, and the body as text.
type Answer = (u16, String);

struct Doors {
    daemon: Daemon,
    web: u16,
    remote: u16,
    /// May act.
    deploy: String,
    /// May look.
    watcher: String,
    services: String,
}

impl Doors {
    fn open() -> Option<Self> {
        peer("curl", &[])?;
        let mut daemon = Daemon::prepare("");
        daemon.open_to_all();
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        daemon.write("cert.pem", &certified.cert.pem());
        daemon.write("key.pem", &certified.signing_key.serialize_pem());
        let (web, remote) = (free_port(), free_port());
        let (deploy, deploy_toml) = token(&daemon, "deploy", "act");
        let (watcher, watcher_toml) = token(&daemon, "watcher", "read");
        let services = format!(
            "[console]\nlisten = \"127.0.0.1:{web}\"\n\
             [api.tcp]\nlisten = \"127.0.0.1:{remote}\"\n\
             certificate = \"{{dir}}/cert.pem\"\nkey = \"{{dir}}/key.pem\"\n\
             {deploy_toml}\n{watcher_toml}\n[service.web]\ncommand = [\"sleep\", \"1000\"]\n"
        );
        daemon.configure(&services);
        daemon.run();
        daemon.wait_state("web", "running");
        let doors = Self { daemon, web, remote, deploy, watcher, services };
        wait_for("the remote door is open", || match doors.remote(None, &[], "/healthz") {
            (200, _) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        Some(doors)
    }

    /// Over TLS, with a token or without.
    fn remote(&self, token: Option<&str>, more: &[&str], path: &str) -> Answer {
        let url = format!("https://localhost:{}{path}", self.remote);
        let resolve = format!("localhost:{}:127.0.0.1", self.remote);
        let mut curl = curl(&url);
        curl.arg("--cacert").arg(self.daemon.path("cert.pem")).args(["--resolve", &resolve]);
        if let Some(token) = token {
            curl.args(["--header", &format!("Authorization: Bearer {token}")]);
        }
        answer(curl.args(more))
    }

    fn console(&self, path: &str) -> Answer {
        answer(&mut curl(&format!("http://127.0.0.1:{}{path}", self.web)))
    }

    /// By the Unix socket, as somebody else.
    fn stranger(&self, more: &[&str], path: &str) -> Answer {
        let mut command = as_stranger("curl");
        curl_options(&mut command, &format!("http://localhost{path}"));
        answer(command.arg("--unix-socket").arg(self.daemon.path("run/api.sock")).args(more))
    }

    /// By the control socket, as somebody else.
    fn stranger_asks(&self, request: Request) -> Reply {
        let mut socat = as_stranger("socat");
        let address = format!("UNIX-CONNECT:{}", self.daemon.path("run/control.sock").display());
        let mut socat = socat
            .args(["-t", "30", "STDIO", &address])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let frame = encode_frame(&Envelope { id: 1, body: request }).unwrap();
        let mut input = socat.stdin.take().unwrap();
        input.write_all(&frame).unwrap();
        let mut output = socat.stdout.take().unwrap();
        let mut bytes = Vec::new();
        let reply = loop {
            if let Some((envelope, _)) = decode_frame::<Envelope<Reply>>(&bytes).unwrap() {
                break envelope.body;
            }
            let mut chunk = [0; 4096];
            let read = std::io::Read::read(&mut output, &mut chunk).unwrap();
            assert!(0 < read, "the connection ended without an answer");
            bytes.extend_from_slice(&chunk[..read]);
        };
        drop(input);
        socat.kill().unwrap();
        socat.wait().unwrap();
        reply
    }
}

fn token(daemon: &Daemon, name: &str, role: &str) -> (String, String) {
    let output = daemon.cli(&["token", "--name", name, "--role", role, "--json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    (json["token"].as_str().unwrap().to_owned(), json["toml"].as_str().unwrap().to_owned())
}

fn as_stranger(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", STRANGER, "--regid", STRANGER, "--clear-groups", program]);
    command.current_dir("/");
    command
}

fn curl(url: &str) -> Command {
    let mut command = Command::new("curl");
    curl_options(&mut command, url);
    command
}

fn curl_options(command: &mut Command, url: &str) {
    command.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "30"]);
    command.args(["--write-out", "\\n%{http_code}", url]);
}

fn answer(curl: &mut Command) -> Answer {
    let output = curl.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap_or(("", "0"));
    let body = if body.is_empty() { String::from_utf8_lossy(&output.stderr) } else { body.into() };
    (status.parse().unwrap(), body.into_owned())
}

#[test]
fn a_token_decides_at_the_remote_door_and_its_name_is_on_record() {
    let Some(doors) = Doors::open() else { return };
    let status = |token: Option<&str>| doors.remote(token, &[], "/api/v1/status");
    let (code, body) = status(Some(&doors.deploy));
    assert_eq!(code, 200, "{body}");
    let json: Value = serde_json::from_str(&body).unwrap();
    assert!(body.contains("\"web\"") && json["services"].is_array(), "{body}");
    for (token, expect) in [(None, 401), (Some("wrong"), 401), (Some(doors.watcher.as_str()), 200)]
    {
        let (code, body) = status(token);
        assert_eq!(code, expect, "{token:?}: {body}");
    }
    let (code, refusal) = status(Some("wrong"));
    assert_eq!(code, 401);
    let refusal: Value = serde_json::from_str(&refusal).unwrap();
    assert!(refusal["message"].is_string() && refusal["help"].is_string(), "{refusal}");

    let restart = "/api/v1/services/web/restart";
    let first = doors.daemon.instance("web").pid.unwrap();
    let (code, body) = doors.remote(Some(&doors.watcher), &["--request", "POST"], restart);
    assert_eq!(code, 403, "{body}");
    let (code, body) = doors.remote(Some(&doors.deploy), &["--request", "POST"], restart);
    assert_eq!(code, 200, "{body}");
    doors.daemon.wait_replaced("web", first);
    let event = doors.daemon.wait_event("web", "service.command");
    assert!(event.message.contains("token deploy"), "{event:?}");
}

#[test]
fn the_remote_door_speaks_tls_only() {
    let Some(doors) = Doors::open() else { return };
    let (code, body) = answer(&mut curl(&format!("http://127.0.0.1:{}/healthz", doors.remote)));
    assert_ne!(code, 200, "{body}");
    // A certificate that nobody vouches for is refused by the client.
    let (code, body) = answer(&mut curl(&format!("https://localhost:{}/healthz", doors.remote)));
    assert_eq!(code, 0, "{body}");
    assert!(body.contains("certificate"), "{body}");
    assert_eq!(doors.console("/healthz").0, 200);
}

#[test]
fn a_stranger_sees_nothing_until_everyone_may_look_and_never_acts() {
    if !root_or_skip("ask as somebody else") {
        return;
    }
    let Some(doors) = Doors::open() else { return };
    if peer("socat", &[]).is_none() {
        return;
    }
    let forbidden =
        |reply: &Reply| matches!(reply, Reply::Failed(fault) if fault.code == ErrorCode::Forbidden);
    let (code, body) = doors.stranger(&[], "/api/v1/status");
    assert_eq!(code, 403, "{body}");
    let reply = doors.stranger_asks(Request::Status);
    assert!(forbidden(&reply), "{reply:?}");

    doors.daemon.configure(&format!("{}\n[api]\nviewers = [\"everyone\"]\n", doors.services));
    let reload = doors.daemon.cli(&["reload"]);
    assert!(reload.status.success(), "{reload:?}");
    wait_for("the console has heard of it", || match doors.stranger(&[], "/api/v1/status") {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let reply = doors.stranger_asks(Request::Status);
    assert!(matches!(reply, Reply::Status { .. }), "{reply:?}");

    let first = doors.daemon.instance("web").pid;
    let (code, body) = doors.stranger(&["--request", "POST"], "/api/v1/services/web/restart");
    assert_eq!(code, 403, "{body}");
    let restart =
        Request::Service { action: ServiceAction::Restart, targets: vec!["web".to_owned()] };
    let reply = doors.stranger_asks(restart);
    assert!(forbidden(&reply), "{reply:?}");
    assert_eq!(doors.daemon.instance("web").pid, first);
    assert_eq!(
        doors.daemon.try_events(&["--subject", "web"]).map(|events| {
            events.iter().filter(|event| event.kind == "service.command").count()
        }),
        Ok(0)
    );
}

#[test]
fn metrics_count_restarts_in_the_form_that_prometheus_reads() {
    let Some(doors) = Doors::open() else { return };
    let restarts = || {
        let (code, text) = doors.console("/metrics");
        assert_eq!(code, 200, "{text}");
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("holdfast_") || name.starts_with("process_"), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
        let line = text.lines().find(|line| {
            line.starts_with("holdfast_service_restarts_total{") && line.contains("\"web\"")
        });
        let line = line.ok_or(text.clone())?;
        Ok::<_, String>(line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
    };
    let counted = |expect: f64| {
        wait_for("restarts are counted", || match restarts()? {
            seen if (seen - expect).abs() < 0.5 => Ok(()),
            seen => Err(format!("{seen}")),
        });
    };
    counted(0.0);
    let pid = doors.daemon.instance("web").pid.unwrap();
    kill(pid, "KILL");
    doors.daemon.wait_replaced("web", pid);
    counted(1.0);
}

#[test]
fn the_description_of_the_api_is_served_and_what_it_lists_answers() {
    let Some(doors) = Doors::open() else { return };
    let (code, text) = doors.console("/api/v1/openapi.json");
    assert_eq!(code, 200, "{text}");
    let document: Value = serde_json::from_str(&text).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."), "{}", document["openapi"]);
    let paths = document["paths"].as_object().unwrap();
    assert!(paths["/api/v1/services/{target}/{action}"]["post"].is_object());
    let plain = paths.iter().filter(|(path, methods)| {
        !path.contains('{') && !path.ends_with("/stream") && methods["get"].is_object()
    });
    let mut asked = 0;
    for (path, _) in plain {
        let (code, body) = doors.console(path);
        assert_eq!(code, 200, "{path}: {body}");
        asked += 1;
    }
    assert!(5 <= asked, "{asked} paths without parameters");
}
