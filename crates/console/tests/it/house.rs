//! A console in a thread, with its doors; and clients for it.

use crate::root::Root;
use config::{
    ApiSettings, Config, ConsoleSettings, DaemonSettings, JournalSettings, TlsFiles, Token,
};
use console::{Setup, serve};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// No answer takes this long, unless something hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// A user who is neither root nor anybody the configuration names.
pub(crate) const STRANGER: u32 = 65_534;

pub(crate) struct House {
    pub(crate) root: Root,
    pub(crate) dir: TempDir,
    pub(crate) web: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) health: SocketAddr,
    pub(crate) agent: SocketAddr,
    shutdown: CancellationToken,
    thread: Option<JoinHandle<()>>,
    ended: Receiver<Result<(), String>>,
}

/// Opens a house whose API settings are `api`; the remote door has TLS if there are `files`.
pub(crate) fn open(api: ApiSettings, files: Option<TlsFiles>) -> House {
    open_in(TempDir::new().unwrap(), api, files)
}

/// As [`open`], with a state directory that may hold something already.
pub(crate) fn open_in(dir: TempDir, api: ApiSettings, files: Option<TlsFiles>) -> House {
    // Another user must be able to reach the socket: who may ask is decided behind it.
    let open_to_all = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open_to_all(dir.path(), 0o755);
    let log = dir.path().join("web.log");
    if !log.exists() {
        std::fs::write(&log, "one\ntwo\nthree\n").unwrap();
    }
    let (near, far) = UnixStream::pair().unwrap();
    let root = Root::start(far, &dir.path().join("events"), &log);
    let socket = dir.path().join("api.sock");
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    open_to_all(&socket, 0o666);
    let http = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let balancers = TcpListener::bind("127.0.0.1:0").unwrap();
    let agents = TcpListener::bind("127.0.0.1:0").unwrap();
    let (web, remote) = (http.local_addr().unwrap(), tcp.local_addr().unwrap());
    let (health, agent) = (balancers.local_addr().unwrap(), agents.local_addr().unwrap());
    let setup = Setup {
        root: near,
        api: listener,
        http: Some(http),
        tcp: Some((tcp, files)),
        health: Some(balancers),
        agent: Some(agents),
        config: config(&dir, api, web),
        other_readers: Vec::new(),
        mail_view: Some(dir.path().join("mail-view.json")),
    };
    let shutdown = CancellationToken::new();
    let (tell, ended) = channel();
    let token = shutdown.clone();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let result = runtime.block_on(serve(setup, token));
        let _ = tell.send(result.map_err(|error| error.to_string()));
    });
    House { root, dir, web, remote, health, agent, shutdown, thread: Some(thread), ended }
}

/// Only root and our own user may do anything.
pub(crate) fn closed() -> House {
    open(ApiSettings::default(), None)
}

pub(crate) fn token(name: &str, text: &str, may_act: bool) -> Token {
    let hash = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    Token { name: name.into(), sha256: hash.as_ref().try_into().unwrap(), may_act }
}

fn config(dir: &TempDir, api: ApiSettings, web: SocketAddr) -> Config {
    Config {
        daemon: DaemonSettings {
            node: "testnode".into(),
            state_dir: dir.path().to_path_buf(),
            run_dir: dir.path().to_path_buf(),
            stall_limit: Duration::from_millis(500),
            shutdown_timeout: Duration::from_secs(90),
        },
        console: ConsoleSettings { listen: Some(web), sample_interval: Duration::from_millis(50) },
        api,
        journal: JournalSettings {
            age_max: Duration::from_hours(24),
            size_max: base::ByteSize::mib(64),
        },
        health: config::HealthSettings::default(),
        mail: None,
        supervisord: None,
        hooks: std::collections::BTreeMap::new(),
        services: BTreeMap::new(),
    }
}

impl House {
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("api.sock")
    }

    /// Waits until the console has ended by itself.
    pub(crate) fn ended(&self) -> Result<(), String> {
        self.ended.recv_timeout(DEADLINE).expect("the console did not end")
    }

    /// Ends the console, and gives the state directory back.
    pub(crate) fn close(mut self) -> TempDir {
        self.stop();
        std::mem::replace(&mut self.dir, TempDir::new().unwrap())
    }

    fn stop(&mut self) {
        self.shutdown.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// GET on the Unix socket, as ourselves.
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "")
    }

    /// Any request on the Unix socket.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        exchange(stream, method, path, "localhost", headers, body)
    }

    /// A request whose body says itself how long it is.
    pub(crate) fn ask_raw(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let extra = lines(headers);
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{extra}\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        // It may be refused before all of it is read.
        let _ = stream.write_all(body.as_bytes());
        read_answer(stream)
    }

    /// Any request on the web console's door.
    pub(crate) fn web(&self, method: &str, path: &str, host: &str, headers: &[&str]) -> Answer {
        let stream = TcpStream::connect(self.web).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        exchange(stream, method, path, host, headers, "")
    }

    /// Any request on the listener for balancers.
    pub(crate) fn balancer(&self, method: &str, path: &str) -> Answer {
        let stream = TcpStream::connect(self.health).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        exchange(stream, method, path, "any.example", &[], "")
    }

    /// One agent check: what is sent, and the whole answer.
    pub(crate) fn agent_check(&self, send: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.agent).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(send).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// A stream of server-sent events on the Unix socket.
    pub(crate) fn stream(&self, path: &str, headers: &[&str]) -> Events {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let extra = lines(headers);
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n{extra}\r\n").unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200"), "{path}: {line}");
        while line != "\r\n" {
            line.clear();
            assert!(0 < reader.read_line(&mut line).unwrap());
        }
        Events { reader }
    }
}

/// curl as another user. Returns the status and the body.
pub(crate) fn curl_as(uid: u32, arguments: &[&str]) -> (u16, String) {
    let output = Command::new("setpriv")
        .args(["--reuid", &uid.to_string(), "--regid", &uid.to_string(), "--clear-groups"])
        .args(["curl", "--silent", "--max-time", "10", "--write-out", "\n%{http_code}"])
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One answer, taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The stable code of a refusal.
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

fn lines(headers: &[&str]) -> String {
    headers.iter().flat_map(|header| [*header, "\r\n"]).collect()
}

fn exchange(
    mut stream: impl Read + Write,
    method: &str,
    path: &str,
    host: &str,
    headers: &[&str],
    body: &str,
) -> Answer {
    let extra = lines(headers);
    let length = if body.is_empty() && method == "GET" {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{length}{extra}\r\n{body}"
    )
    .unwrap();
    read_answer(stream)
}

pub(crate) fn read_answer(mut stream: impl Read) -> Answer {
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        // A client that was still sending when it was answered sees this after the answer.
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "after {bytes:?}");
    }
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunk(body) } else { body.to_owned() };
    Answer { status, head: head.to_owned(), body }
}

fn unchunk(mut text: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = text.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            break;
        }
        whole.push_str(&rest[..length]);
        text = &rest[length + 2..];
    }
    whole
}

/// A stream of server-sent events that is being read.
pub(crate) struct Events {
    reader: BufReader<UnixStream>,
}

/// One of them.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) data: String,
}

impl Sent {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

impl Events {
    /// The next event; `None` at the end of the stream. Comments and chunk lengths are skipped.
    pub(crate) fn next(&mut self) -> Option<Sent> {
        let (mut sent, mut line) = (Sent::default(), String::new());
        loop {
            line.clear();
            if self.reader.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            let text = line.trim_end_matches(['\r', '\n']);
            if text.is_empty() {
                if sent != Sent::default() {
                    return Some(sent);
                }
            } else if let Some(value) = text.strip_prefix("data: ") {
                sent.data.push_str(value);
            } else if let Some(value) = text.strip_prefix("id: ") {
                value.clone_into(&mut sent.id);
            } else if let Some(value) = text.strip_prefix("event: ") {
                value.clone_into(&mut sent.name);
            }
        }
    }

    /// The next event with this name.
    pub(crate) fn next_named(&mut self, name: &str) -> Sent {
        loop {
            let sent = self.next().expect("the stream has ended");
            if sent.name == name {
                return sent;
            }
        }
    }
}
