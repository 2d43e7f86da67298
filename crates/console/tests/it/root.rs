//! The root, as the console sees it: answers requests over the framed protocol, writes events to
//! segment files and pushes them.

use control::{
    Envelope, ErrorCode, EventRecord, Fault, HealthView, InstanceView, Reply, Request, ServiceView,
    Severity, Snapshot, WhyLink, WhyView, decode_frame, encode_frame,
};
use journal::segment::Writer;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

pub(crate) struct Root {
    stream: UnixStream,
    pub(crate) seen: Arc<Seen>,
    pub(crate) snapshot: Arc<Mutex<Snapshot>>,
    writer: Mutex<(Writer, u64)>,
    silent: Arc<AtomicBool>,
}

/// What the console has asked that changes something.
#[derive(Default)]
pub(crate) struct Seen {
    requests: Mutex<Vec<Request>>,
    more: Condvar,
}

impl Seen {
    fn add(&self, request: Request) {
        self.requests.lock().unwrap().push(request);
        self.more.notify_all();
    }

    /// Waits for a request that fits.
    pub(crate) fn wait_for(&self, fits: impl Fn(&Request) -> bool) -> Request {
        let until = Instant::now() + Duration::from_secs(10);
        let mut requests = self.requests.lock().unwrap();
        loop {
            if let Some(found) = requests.iter().find(|request| fits(request)) {
                return found.clone();
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no such request; there were {requests:?}");
            requests = self.more.wait_timeout(requests, left).unwrap().0;
        }
    }

    pub(crate) fn all(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Root {
    pub(crate) fn start(stream: UnixStream, events: &Path, log: &Path) -> Self {
        let (writer, recovery) = Writer::open(events, "root").unwrap();
        let (seen, snapshot) = (Arc::default(), Arc::new(Mutex::new(snapshot(log))));
        let reader = stream.try_clone().unwrap();
        let (theirs, shown) = (Arc::clone(&seen), Arc::clone(&snapshot));
        let silent = Arc::new(AtomicBool::new(false));
        let quiet = Arc::clone(&silent);
        std::thread::spawn(move || answer_all(reader, &theirs, &shown, &quiet));
        Self { stream, seen, snapshot, writer: Mutex::new((writer, recovery.next_seq)), silent }
    }

    /// Writes an event to its segment, and pushes it.
    pub(crate) fn event(&self, subject: &str, kind: &str, severity: Severity) {
        let event = self.write(subject, kind, severity);
        self.push(event);
    }

    /// Writes an event to its segment only.
    pub(crate) fn write(&self, subject: &str, kind: &str, severity: Severity) -> EventRecord {
        let mut writer = self.writer.lock().unwrap();
        let source_seq = writer.1;
        writer.1 += 1;
        let event = event(source_seq, subject, kind, severity);
        writer.0.append(&event).unwrap();
        event
    }

    /// Pushes an event, as the root does for those who subscribed.
    pub(crate) fn push(&self, event: EventRecord) {
        let body = Reply::Event { event: Box::new(event) };
        let frame = encode_frame(&Envelope { id: 0, body }).unwrap();
        (&self.stream).write_all(&frame).unwrap();
    }

    /// Answers nothing any more.
    pub(crate) fn fall_silent(&self) {
        self.silent.store(true, Ordering::SeqCst);
    }

    /// Dies.
    pub(crate) fn die(&self) {
        self.stream.shutdown(std::net::Shutdown::Both).unwrap();
    }
}

fn event(source_seq: u64, subject: &str, kind: &str, severity: Severity) -> EventRecord {
    EventRecord {
        seq: 0,
        source: "root".into(),
        source_seq,
        wall_us: sys::clock::wall().as_micros(),
        mono_ns: sys::clock::now().as_nanos(),
        node: "testnode".into(),
        subject: subject.into(),
        kind: kind.into(),
        severity,
        message: format!("{subject}: {kind}"),
        data: serde_json::Map::new(),
    }
}

fn answer_all(mut stream: UnixStream, seen: &Seen, shown: &Mutex<Snapshot>, silent: &AtomicBool) {
    let (mut buffer, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(read) => buffer.extend_from_slice(&chunk[..read]),
        }
        while let Some((envelope, used)) = decode_frame::<Envelope<Request>>(&buffer).unwrap() {
            buffer.drain(..used);
            if silent.load(Ordering::SeqCst) {
                continue;
            }
            let body = answer(envelope.body, seen, shown);
            let frame = encode_frame(&Envelope { id: envelope.id, body }).unwrap();
            if stream.write_all(&frame).is_err() {
                return;
            }
        }
    }
}

fn answer(request: Request, seen: &Seen, shown: &Mutex<Snapshot>) -> Reply {
    let done =
        |message: &str| Reply::Done { message: message.into(), instances: vec!["web".into()] };
    match request {
        Request::Ping => Reply::Pong { version: "0.1.0".into(), protocol: 1 },
        Request::Status => Reply::Status { snapshot: Box::new(shown.lock().unwrap().clone()) },
        Request::Subscribe => done("subscribed"),
        Request::ConfigShow => Reply::Config {
            toml: "[service.web.env]\nDB_PASSWORD = \"hunter2\"\nLANG = \"C\"\n".into(),
        },
        Request::Why { subject } if subject == "web" => Reply::Why {
            why: Box::new(WhyView {
                subject,
                state: "running".into(),
                chain: vec![WhyLink { subject: "web".into(), message: "it is ready".into() }],
                ..WhyView::default()
            }),
        },
        Request::Why { subject } if knows(&shown.lock().unwrap(), &subject) => Reply::Why {
            why: Box::new(WhyView { subject, state: "running".into(), ..WhyView::default() }),
        },
        Request::Why { subject } => Reply::Failed(Fault {
            code: ErrorCode::NotFound,
            message: format!("there is no `{subject}`"),
            help: "holdfast status lists all".into(),
        }),
        Request::OnBehalf { caller, request } => {
            let is_busy =
                matches!(&*request, Request::Service { targets, .. } if targets[0] == "busy");
            seen.add(Request::OnBehalf { caller, request });
            if is_busy {
                let message = "busy is stopping".into();
                Reply::Failed(Fault { code: ErrorCode::Conflict, message, help: String::new() })
            } else {
                done("accepted")
            }
        }
        other => {
            seen.add(other);
            done("done")
        }
    }
}

fn knows(snapshot: &Snapshot, subject: &str) -> bool {
    let mut all = snapshot.services.iter();
    all.any(|one| one.name == subject || one.instances.iter().any(|one| one.name == subject))
}

/// A state with its usual answers.
pub(crate) fn health(state: &str) -> HealthView {
    let (status, agent) = match state {
        "up" | "dependency_down" => (200, "ready up"),
        "draining" => (503, "drain"),
        "stopped" => (503, "maint"),
        _ => (503, "down"),
    };
    HealthView {
        state: state.into(),
        status,
        agent: agent.into(),
        mode: "off".into(),
        mode_by: "configuration".into(),
        ..HealthView::default()
    }
}

fn snapshot(log: &Path) -> Snapshot {
    let instance = |name: &str, pid: Option<u32>| InstanceView {
        name: name.into(),
        state: if pid.is_some() { "running" } else { "failed" }.into(),
        wish: "up".into(),
        pid,
        run: Some(1),
        since_us: 1,
        uptime_ms: pid.map(|_| 5000),
        restarts: 2,
        log: log.display().to_string(),
        health: health(if pid.is_some() { "up" } else { "down" }),
        ..InstanceView::default()
    };
    let service = |name: &str, instances: Vec<InstanceView>| ServiceView {
        name: name.into(),
        command: vec!["/bin/true".into()],
        instances,
        ..ServiceView::default()
    };
    let me = Some(std::process::id());
    Snapshot {
        node: "testnode".into(),
        version: "0.1.0".into(),
        pid: std::process::id(),
        taken_us: sys::clock::wall().as_micros(),
        services: vec![
            service("db", vec![instance("db:0", me), instance("db:1", None)]),
            service("web", vec![instance("web", me)]),
        ],
        duties: vec![control::DutyView {
            name: "console".into(),
            state: "running".into(),
            pid: me,
            ..control::DutyView::default()
        }],
        ..Snapshot::default()
    }
}
