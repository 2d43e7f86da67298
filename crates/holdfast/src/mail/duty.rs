//! Starts the parts of the duty, and ends them.

use super::collector::{AskInForce, Collector, Logs, Progress, Signals, since};
use super::courier::{Courier, Post};
use super::facts::{in_force, policy, relations};
use super::note::{Notes, keep_notice, record};
use super::spool::{Opened, Spool};
use super::text::Setting;
use crate::paths::Paths;
use anyhow::Context as _;
use config::{Config, MailSettings};
use console::{Pushed, RootLink};
use control::{EventRecord, Reply, Request};
use jiff::tz::TimeZone;
use journal::segment::Follower;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use supervisor::report::Reporter;
use sys::lock::{LockError, StateLock};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Mails on their way from the collector to the courier, which takes them at once.
const QUEUED_MAX: usize = 64;

/// How long the end waits for the collector to write down where it is.
const GOODBYE: Duration = Duration::from_secs(2);

/// How long the duty before us may take to end: longer than it gives itself.
const PREDECESSOR_MAX: Duration = Duration::from_secs(10);

/// Pause between two looks whether it has ended.
const PREDECESSOR_PAUSE: Duration = Duration::from_millis(20);

/// What the duty is given.
pub(crate) struct Setup {
    /// The link to the root.
    pub(crate) root: UnixStream,
    /// The effective configuration.
    pub(crate) config: Config,
    /// Its `[mail]`.
    pub(crate) mail: MailSettings,
    /// Since when mail is wanted, microseconds since the epoch: for the first start.
    pub(crate) since_us: Option<i64>,
}

/// What the root pushes is a nudge: the events are read from the files.
struct Nudge {
    signals: Arc<Signals>,
    nudges: SyncSender<()>,
}

impl Pushed for Nudge {
    fn pushed(&mut self, event: &EventRecord) {
        {
            let announced = &self.signals.announced;
            let mut announced = announced.lock().unwrap_or_else(PoisonError::into_inner);
            let newest = announced.entry(event.source.clone()).or_default();
            *newest = (*newest).max(event.source_seq);
        }
        // Full means that a nudge waits already.
        let _ = self.nudges.try_send(());
    }
}

/// Tells people until `stop`, or until the root has closed its end of the link.
pub(crate) async fn serve(setup: Setup, stop: CancellationToken) -> anyhow::Result<()> {
    let Setup { root, config, mail, since_us } = setup;
    root.set_nonblocking(true)?;
    let root = tokio::net::UnixStream::from_std(root).context("cannot use the link to the root")?;
    let paths = Paths::of(&config.daemon);
    let post = post(&config, &mail)?;
    let opening = paths.clone();
    let open = move || {
        let lock = take_over(&opening.mail_lock())?;
        Spool::open(&opening.mail(), &opening.mail_cursor()).map(|opened| (lock, opened))
    };
    let (_lock, (spool, opened)) = tokio::task::spawn_blocking(open).await??;
    let spool = Arc::new(Mutex::new(spool));
    let (signals, (nudges, nudged)) = (Arc::new(Signals::default()), sync_channel(1));
    let mut tasks = JoinSet::new();
    // The root's end is ours too.
    let stop = stop.child_token();
    let nudge = Nudge { signals: Arc::clone(&signals), nudges: nudges.clone() };
    let root = RootLink::start(root, &mut tasks, stop.clone(), nudge);
    let (notes, noted) = Notes::new();
    for complaint in &opened.complaints {
        notes.say(super::note::Note {
            kind: "mail.damaged",
            severity: control::Severity::Error,
            message: complaint.clone(),
        });
    }
    let (notice, standing) = watch::channel(None);
    tasks.spawn(record(root.clone(), config.daemon.node.clone(), noted));
    tasks.spawn(keep_notice(root.clone(), standing));
    let (queue, queued) = mpsc::channel(QUEUED_MAX);
    let Opened { positions, kept, mails, .. } = opened;
    let events = paths.events();
    let resumed = positions.is_some();
    let in_force = ask_in_force(root.clone());
    tasks.spawn(subscribe(root));
    let begin = Begin {
        config,
        mail,
        paths,
        signals: Arc::clone(&signals),
        notes: notes.clone(),
        in_force,
    };
    let collector = begin.collector(
        match positions {
            Some(positions) => Follower::open(&events, positions)?,
            None => Follower::open_at_newest(&events)?,
        },
        kept,
        (since(since_us, resumed), resumed),
        (Arc::clone(&spool), nudged, queue),
    );
    let (finish, finished) = oneshot::channel();
    std::thread::Builder::new().name("mail-collector".into()).spawn(move || {
        collector.run();
        // Nobody waits for it when we end in a hurry.
        let _ = finish.send(());
    })?;
    Courier::new(post, spool, notes, notice).run(mails, queued, stop).await;
    signals.stopping.store(true, Ordering::Release);
    let _ = nudges.try_send(());
    if tokio::time::timeout(GOODBYE, finished).await.is_err() {
        tracing::info!("the next start goes on from where the last mail was queued");
    }
    tasks.shutdown().await;
    Ok(())
}

/// One mail duty at a time: after an upgrade the one before us may still be at its last words.
fn take_over(path: &Path) -> anyhow::Result<StateLock> {
    if let Some(dir) = path.parent() {
        Spool::make_dir(dir)?;
    }
    let deadline = sys::clock::now() + PREDECESSOR_MAX;
    loop {
        match StateLock::acquire(path) {
            Err(LockError::Held { .. }) if sys::clock::now() < deadline => {
                std::thread::park_timeout(PREDECESSOR_PAUSE);
            }
            taken => return taken.context("another mail duty is at work"),
        }
    }
}

/// How mails of this daemon look and travel.
pub(crate) fn post(config: &Config, mail: &MailSettings) -> anyhow::Result<Post> {
    let setting = Setting { node: config.daemon.node.clone(), zone: TimeZone::system() };
    let path = Paths::of(&config.daemon).identity();
    // Who only tries mail out may not be allowed to read it; its mails need no name that stays.
    let identity = std::fs::read_to_string(path).unwrap_or_else(|_| "none".to_owned());
    Post::new(mail, setting, identity.trim().to_owned())
}

/// What a collector is made of, besides what was found on disk.
struct Begin {
    config: Config,
    mail: MailSettings,
    paths: Paths,
    signals: Arc<Signals>,
    notes: Notes,
    in_force: AskInForce,
}

impl Begin {
    fn collector(
        self,
        follower: Follower,
        kept: supervisor::report::Kept,
        (since_us, resumed): (i64, bool),
        (spool, nudged, queued): (
            Arc<Mutex<Spool>>,
            Receiver<()>,
            mpsc::Sender<super::spool::Mail>,
        ),
    ) -> Collector {
        let Self { config, mail, paths, signals, notes, in_force } = self;
        let now = sys::clock::now();
        Collector {
            follower,
            reporter: Reporter::new(now, policy(&mail), relations(&config), kept),
            spool,
            to: mail.to.iter().cloned().collect(),
            logs: Logs { config, paths },
            since_us,
            resumed,
            in_force,
            signals,
            nudged,
            queued,
            notes,
            progress: Progress::default(),
        }
    }
}

/// How the collecting thread asks the root for the workarounds in force: by way of our loop, which
/// bounds the wait.
fn ask_in_force(root: RootLink) -> AskInForce {
    let handle = tokio::runtime::Handle::current();
    Box::new(move || match handle.block_on(root.ask(Request::Status)) {
        Ok(Reply::Status { snapshot }) => Some(in_force(&snapshot)),
        _ => None,
    })
}

/// Asks the root to push its events. Without them we would look late.
async fn subscribe(root: RootLink) {
    match root.ask(Request::Subscribe).await {
        Ok(Reply::Done { .. }) => {}
        Ok(_) => tracing::error!("the root does not push its events"),
        Err(error) => tracing::error!(%error, "cannot subscribe to the root's events"),
    }
}
