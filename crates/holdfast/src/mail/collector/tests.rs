//! The thread with real files, and whatever may happen to them.

use super::*;
use control::EventRecord;
use journal::Recorder;
use std::fs;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use supervisor::report::{Policy, Purpose, Relations};

const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    dir: tempfile::TempDir,
    recorder: Option<Recorder>,
}

/// A collector at work.
struct Working {
    thread: JoinHandle<()>,
    signals: Arc<Signals>,
    nudges: SyncSender<()>,
    queued: mpsc::Receiver<Mail>,
    notes: mpsc::Receiver<Note>,
}

fn event(subject: &str, kind: &str) -> EventRecord {
    EventRecord {
        seq: 0,
        source: String::new(),
        source_seq: 0,
        wall_us: sys::clock::wall().as_micros(),
        mono_ns: 0,
        node: String::new(),
        subject: subject.into(),
        kind: kind.into(),
        severity: Severity::Warning,
        message: format!("{subject}: {kind}"),
        data: serde_json::Map::new(),
    }
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let recorder = Some(Recorder::start(&dir.path().join("events"), "n1", "root").unwrap());
        Self { dir, recorder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Records events and waits until they are in the file.
    fn happen(&self, events: impl Iterator<Item = EventRecord>) {
        let recorder = self.recorder.as_ref().unwrap();
        let last = events.fold(0, |_, event| recorder.record(event));
        assert!(recorder.wait_written(last, PATIENCE));
    }

    fn start(&self, digest: Duration) -> Working {
        let (mail_dir, events) = (self.path("mail"), self.path("events"));
        let (spool, opened) = Spool::open(&mail_dir, &mail_dir.join("cursor")).unwrap();
        let resumed = opened.positions.is_some();
        let follower = match opened.positions {
            Some(positions) => Follower::open(&events, positions).unwrap(),
            None => Follower::open_at_newest(&events).unwrap(),
        };
        let policy = Policy { severity: supervisor::Severity::Error, digest };
        let now = sys::clock::now();
        let signals = Arc::new(Signals::default());
        let ((nudges, nudged), (notes, said)) = (sync_channel(1), Notes::new());
        let (queue, queued) = mpsc::channel(64);
        let collector = Collector {
            follower,
            reporter: Reporter::new(now, policy, Relations::default(), opened.kept),
            spool: Arc::new(Mutex::new(spool)),
            to: BTreeSet::from(["ops@x.example".to_owned()]),
            logs: Logs { config: config(self.dir.path()), paths: paths(self.dir.path()) },
            since_us: since(Some(0), resumed),
            resumed,
            in_force: Box::new(|| None),
            signals: Arc::clone(&signals),
            nudged,
            queued: queue,
            notes,
            progress: Progress::default(),
        };
        let thread = std::thread::spawn(move || collector.run());
        Working { thread, signals, nudges, queued, notes: said }
    }
}

impl Working {
    fn next(&mut self) -> Letter {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let next = async { tokio::time::timeout(PATIENCE, self.queued.recv()).await };
        runtime.block_on(next).unwrap().unwrap().letter()
    }

    /// Ends it; what it still had decided waits on disk.
    fn stop(self) {
        self.signals.stopping.store(true, Ordering::Release);
        let _ = self.nudges.try_send(());
        self.thread.join().unwrap();
    }
}

fn config(dir: &Path) -> Config {
    let text = "[service.web]\ncommand = [\"sleep\", \"1\"]\n".to_owned();
    let context = config::Context {
        hostname: "n1".into(),
        is_root: false,
        home: dir.to_owned(),
        xdg_state_home: None,
        xdg_runtime_dir: None,
        state_dir_override: Some(dir.to_owned()),
    };
    config::parse(vec![(dir.join("holdfast.toml"), text)], &context).config.unwrap()
}

fn paths(dir: &Path) -> Paths {
    Paths { state: dir.to_owned(), run: dir.to_owned() }
}

#[test]
fn h9_ten_thousand_events_in_a_second_are_two_mails_and_all_are_counted() {
    let world = World::new();
    let mut working = world.start(Duration::from_hours(1));
    let storm = |from: u32| {
        (from..from + 5_000).map(|n| event(&format!("s:{}", n % 900), "service.restart_scheduled"))
    };
    world.happen(storm(0));
    let _ = working.nudges.try_send(());
    let first = working.next();
    assert_eq!(first.purpose, Purpose::Incident);
    world.happen(storm(5_000));
    assert!(working.queued.try_recv().is_err(), "the rest waits for the digest");
    working.stop();
    // Not to wait for an hour.
    let mut working = world.start(Duration::ZERO);
    let second = working.next();
    assert_eq!(first.tally.events() + second.tally.events(), 10_000);
    let size = fs::metadata(world.path("mail/2.mail")).unwrap().len();
    assert!(size < 256 * 1024, "{size} bytes");
    working.stop();
}

#[test]
fn what_waits_for_the_digest_is_told_after_a_restart_and_once() {
    let world = World::new();
    let mut working = world.start(Duration::from_hours(1));
    world.happen([event("web", "service.restart_scheduled")].into_iter());
    let _ = working.nudges.try_send(());
    assert_eq!(working.next().tally.events(), 1);
    world.happen([event("web", "service.restart_scheduled")].into_iter());
    let _ = working.nudges.try_send(());
    working.stop();
    world.happen([event("web", "service.replaced")].into_iter());
    // Configured shorter meanwhile.
    let mut working = world.start(Duration::ZERO);
    assert_eq!(working.next().tally.events(), 2);
    working.stop();
}

#[test]
fn the_last_words_of_a_service_are_quoted() {
    let world = World::new();
    fs::create_dir(world.path("logs")).unwrap();
    fs::write(world.path("logs/web.log"), "one\nout of \x1b[31mluck\n").unwrap();
    let mut working = world.start(Duration::ZERO);
    world.happen([event("web", "service.restart_scheduled")].into_iter());
    let _ = working.nudges.try_send(());
    assert_eq!(working.next().entries[0].output, ["one", "out of luck"]);
    working.stop();
}

#[test]
fn a_queue_that_can_t_be_written_delays_and_loses_nothing() {
    let world = World::new();
    let mut working = world.start(Duration::ZERO);
    // A directory in the place of the file that is to be written.
    fs::create_dir_all(world.path("mail/1.new/x")).unwrap();
    world.happen([event("web", "service.restart_scheduled")].into_iter());
    let _ = working.nudges.try_send(());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let said = async { tokio::time::timeout(PATIENCE, working.notes.recv()).await };
    let note = runtime.block_on(said).unwrap().unwrap();
    assert_eq!(note.kind, "mail.not_queued");
    assert!(note.message.contains("1.new"), "{}", note.message);
    world.happen([event("web", "service.restart_scheduled")].into_iter());
    fs::remove_dir_all(world.path("mail/1.new")).unwrap();
    let (first, second) = (working.next(), working.next());
    assert_eq!(first.tally.events() + second.tally.events(), 2);
    working.stop();
}

#[test]
fn events_that_are_gone_before_they_were_read_are_said() {
    let mut world = World::new();
    world.happen([event("web", "service.ready")].into_iter());
    world.start(Duration::ZERO).stop();
    world.recorder.take();
    for entry in fs::read_dir(world.path("events")).unwrap().flatten() {
        fs::remove_file(entry.path()).unwrap();
    }
    // The numbering goes on behind what is gone.
    fs::write(world.path("events/root-90.seg"), "").unwrap();
    world.recorder = Some(Recorder::start(&world.path("events"), "n1", "root").unwrap());
    let mut working = world.start(Duration::ZERO);
    let letter = working.next();
    assert!(letter.entries[0].headline.message.contains("not every event can be told"));
    working.stop();
}
