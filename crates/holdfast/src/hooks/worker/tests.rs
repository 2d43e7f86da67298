//! A hook is told of what it wants, in order, and of everything that happened while it was away.

use super::*;
use control::EventRecord;
use journal::Recorder;
use std::path::Path;
use std::thread::JoinHandle;

/// A condition that has not come true by then never will.
const DEADLINE: Duration = Duration::from_secs(30);

struct World {
    dir: tempfile::TempDir,
    recorder: Recorder,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("hooks")).unwrap();
        let recorder = Recorder::start(&dir.path().join("events"), "n", "root").unwrap();
        Self { dir, recorder }
    }

    /// Another writer, as after a restart.
    fn begin_anew(self, meanwhile: impl FnOnce(&Path)) -> Self {
        let events = self.path("events");
        let Self { dir, recorder } = self;
        drop(recorder);
        meanwhile(&events);
        let recorder = Recorder::start(&events, "n", "root").unwrap();
        Self { dir, recorder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn record(&self, kind: &str, subject: &str) {
        let number = self.recorder.record(EventRecord {
            seq: 0,
            source: String::new(),
            source_seq: 0,
            wall_us: 1_000,
            mono_ns: 0,
            node: String::new(),
            subject: subject.into(),
            kind: kind.into(),
            severity: Severity::Info,
            message: "x".into(),
            data: serde_json::Map::new(),
        });
        assert!(self.recorder.wait_written(number, DEADLINE));
    }

    fn hook(&self, script: &str, news_since_us: i64) -> Running {
        let bell = Arc::new(Bell::default());
        let (words, said) = mpsc::channel(16);
        let worker = Worker {
            name: "pager".parse().unwrap(),
            settings: HookSettings {
                argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
                events: vec!["service.*".into(), "hook.*".into()],
                severity: supervisor::Severity::Info,
                user: None,
                timeout: Duration::from_secs(20),
            },
            state: self.dir.path().to_owned(),
            events: self.path("events"),
            news_since_us,
            bell: Arc::clone(&bell),
            words,
        };
        Running { bell, said, thread: Some(std::thread::spawn(move || worker.work())) }
    }

    /// Appends the subject to a file.
    fn note(&self) -> String {
        format!("echo $HOLDFAST_SUBJECT >> {}", self.path("told").display())
    }

    fn wait_told(&self, expect: &[&str]) {
        wait(|| {
            let text = std::fs::read_to_string(self.path("told")).unwrap_or_default();
            let told: Vec<&str> = text.lines().collect();
            if told == expect { Ok(()) } else { Err(text) }
        });
    }
}

struct Running {
    bell: Arc<Bell>,
    said: mpsc::Receiver<EventRecord>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn stop(&mut self) {
        self.bell.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.bell.stop();
        // It writes into the folder, which is removed next; a failed test has its own words already.
        let _ended = self.thread.take().map(JoinHandle::join);
    }
}

fn wait(mut look: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + DEADLINE;
    while let Err(why) = look() {
        assert!(Instant::now() < deadline, "{why}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn it_is_told_in_order_and_not_of_hooks_or_what_it_does_not_want() {
    let world = World::new();
    let hook = world.hook(&world.note(), 0);
    for (kind, subject) in [
        ("service.ready", "a"),
        ("daemon.reloaded", "b"),
        ("hook.failed", "c"),
        ("service.exited", "d"),
    ] {
        world.record(kind, subject);
    }
    hook.bell.ring();
    world.wait_told(&["a", "d"]);
}

#[test]
fn what_happened_while_it_was_away_is_told_once_and_history_is_not() {
    let world = World::new();
    world.record("service.ready", "history");
    let mut hook = world.hook(&world.note(), 1_001);
    wait(|| marks(&world).map(drop).ok_or_else(|| "it has not begun".to_owned()));
    hook.stop();
    world.record("service.ready", "away");
    world.record("service.ready", "away too");
    let mut hook = world.hook(&world.note(), 5_000);
    world.wait_told(&["away", "away too"]);
    hook.stop();
    // Nothing is told twice, also by one that has lost its cursor.
    std::fs::remove_file(world.path("hooks/pager.cursor")).unwrap();
    world.record("service.ready", "last");
    let _hook = world.hook(&world.note(), 5_000);
    world.wait_told(&["away", "away too", "last"]);
}

fn marks(world: &World) -> Option<Marks> {
    Marks::load(&marks_path(Path::new(world.dir.path()), &"pager".parse().unwrap()))
}

#[test]
fn a_run_that_is_cut_off_comes_again() {
    let world = World::new();
    world.record("service.ready", "a");
    let slow = format!("{}; exec sleep 1000", world.note());
    let mut hook = world.hook(&slow, 0);
    world.wait_told(&["a"]);
    hook.stop();
    let _hook = world.hook(&world.note(), 0);
    world.wait_told(&["a", "a"]);
}

#[test]
fn failures_are_counted_and_said() {
    let world = World::new();
    for number in 0..5 {
        world.record("service.ready", &number.to_string());
    }
    let mut hook = world.hook("echo no line; exit 7", 0);
    let mut words = Vec::new();
    wait(|| {
        hook.bell.ring();
        while let Ok(said) = hook.said.try_recv() {
            words.push(said);
        }
        let all: u64 = words.iter().filter_map(|said| said.data["failures"].as_u64()).sum();
        if all == 5 { Ok(()) } else { Err(format!("{words:?}")) }
    });
    assert_eq!((words[0].kind.as_str(), words[0].subject.as_str()), ("hook.failed", "hook/pager"));
    let expect =
        "hook pager failed for service.ready of 0: it exited with code 7; it wrote: no line";
    assert_eq!(words[0].message, expect);
    assert!(words.len() <= 2, "{words:?}");
}

#[test]
fn when_its_place_is_lost_it_says_so_and_goes_on() {
    let world = World::new();
    world.record("service.ready", "a");
    let world = world.begin_anew(|_| ());
    world.record("service.ready", "b");
    let mut hook = world.hook(&world.note(), 0);
    world.wait_told(&["b"]);
    hook.stop();
    // Somebody emptied the directory: numbering begins anew.
    let world = world.begin_anew(|events| std::fs::remove_dir_all(events).unwrap());
    world.record("service.ready", "c");
    let mut hook = world.hook(&world.note(), 0);
    world.wait_told(&["b", "c"]);
    let said = hook.said.blocking_recv().unwrap();
    assert_eq!(said.kind, "hook.lost");
    assert!(said.message.contains("is gone before it was read to its end"), "{said:?}");
}
