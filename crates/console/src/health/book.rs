//! Keeps what the root said last, and asks it again when that is no longer good enough.
//!
//! Why: balancers ask every second, each of them, for each server; the root must not make a
//! snapshot for each question. And where it is silent, a balancer must hear something in time.
//! Invariants: an answer contains everything whose event was pushed before the question came, and
//! is never older than [`QUIET_MAX`], unless the root is late; the root is asked at most once per
//! [`ASK_PAUSE`], and never twice at one time; a question waits at most [`WAIT_MAX`]; what is older
//! than [`TRUST_MAX`] is not told at all.

use crate::link::LinkError;
use crate::snapshots::Snapshots;
use control::Snapshot;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Without any event, what was said is good for this long: a state changes with an event, the
/// numbers of a verdict do not.
pub(crate) const QUIET_MAX: Duration = Duration::from_millis(500);

/// A storm of events is not a storm of questions.
pub(crate) const ASK_PAUSE: Duration = Duration::from_millis(20);

/// A balancer gives up after a second or two: it must have heard something by then.
pub(crate) const WAIT_MAX: Duration = Duration::from_millis(500);

/// A root that has been silent for this long may be wrong about everything.
pub(crate) const TRUST_MAX: Duration = Duration::from_secs(10);

const _: () = assert!(ASK_PAUSE.as_millis() < WAIT_MAX.as_millis());

/// Questions that wait together. Each has a connection, and these are bounded.
const WAITING_MAX: usize = 1024;

/// What the root said, and how long ago.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) age: Duration,
}

/// Nobody knows.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum CannotTell {
    /// The root has been silent for too long.
    #[error("holdfast's root process has not answered for {} s", .0.as_secs())]
    Silent(Duration),
    /// It has said nothing yet.
    #[error("holdfast's root process has not answered yet")]
    NothingYet,
    /// Too many ask.
    #[error("{WAITING_MAX} questions are waiting already")]
    Busy,
}

type Answer = Result<Seen, CannotTell>;

struct Asker {
    /// How many events had been pushed when the question came.
    changes: u64,
    at: Instant,
    answer: oneshot::Sender<Answer>,
}

/// The asking end; cheap to clone.
#[derive(Clone)]
pub(crate) struct HealthBook {
    asks: mpsc::Sender<Asker>,
    changes: watch::Receiver<u64>,
}

impl HealthBook {
    /// Begins to keep it. `changes` counts the events that the root has pushed.
    pub(crate) fn start(
        snapshots: Snapshots,
        changes: watch::Receiver<u64>,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let (asks, asked) = mpsc::channel(WAITING_MAX);
        let ask = move || snapshots.clone();
        let keeper = Keeper {
            changes: changes.clone(),
            known: None,
            silent_since: None,
            waiting: Vec::new(),
        };
        tasks.spawn(keeper.run(asked, move || {
            let snapshots = ask();
            Box::pin(async move { snapshots.fresh().await })
        }));
        Self { asks, changes }
    }

    /// What the root knows now, or knew a moment ago.
    pub(crate) async fn look(&self) -> Answer {
        let (answer, answered) = oneshot::channel();
        let changes = *self.changes.borrow();
        let asker = Asker { changes, at: Instant::now(), answer };
        self.asks.try_send(asker).map_err(|_| CannotTell::Busy)?;
        answered.await.unwrap_or(Err(CannotTell::NothingYet))
    }
}

/// One question to the root that is under way.
struct UnderWay {
    reply: Pin<Box<dyn Future<Output = Result<Arc<Snapshot>, LinkError>> + Send>>,
    since: Instant,
    /// Events that had been pushed when it was put.
    changes: u64,
    /// Somebody has waited for it in vain.
    is_late: bool,
}

struct Known {
    snapshot: Arc<Snapshot>,
    since: Instant,
    changes: u64,
}

struct Keeper {
    changes: watch::Receiver<u64>,
    known: Option<Known>,
    /// When the root said what was forgotten since.
    silent_since: Option<Instant>,
    waiting: Vec<Asker>,
}

impl Keeper {
    async fn run<F>(mut self, mut asked: mpsc::Receiver<Asker>, ask: F)
    where
        F: Fn() -> Pin<Box<dyn Future<Output = Result<Arc<Snapshot>, LinkError>> + Send>>,
    {
        let mut under_way: Option<UnderWay> = None;
        let mut next_ask = Instant::now();
        loop {
            let give_up = self.waiting.first().map(|asker| asker.at + WAIT_MAX);
            let begin = (under_way.is_none() && give_up.is_some()).then_some(next_ask);
            let forget = self.known.as_ref().map(|known| known.since + TRUST_MAX);
            // Cancel safe: a reply that is under way stays so.
            tokio::select! {
                asker = asked.recv() => match asker {
                    Some(asker) => self.take(asker, under_way.as_ref()),
                    None => return,
                },
                reply = reply_to(&mut under_way) => {
                    let Some(UnderWay { since, changes, .. }) = under_way.take() else { continue };
                    self.heard(reply, since, changes);
                }
                () = at(begin) => {
                    let now = Instant::now();
                    next_ask = now + ASK_PAUSE;
                    let changes = *self.changes.borrow();
                    let reply = ask();
                    under_way = Some(UnderWay { reply, since: now, changes, is_late: false });
                }
                // What can't be told any more need not be kept: it may be megabytes.
                () = at(forget) => {
                    self.silent_since = self.known.take().map(|known| known.since);
                }
                () = at(give_up) => {
                    self.answer_late(Instant::now());
                    if let Some(under_way) = &mut under_way {
                        under_way.is_late = true;
                    }
                }
            }
        }
    }

    /// Answers at once where that is good enough, or no better answer is to be had.
    fn take(&mut self, asker: Asker, under_way: Option<&UnderWay>) {
        let now = asker.at;
        let is_late = under_way.is_some_and(|under_way| under_way.is_late);
        let is_good = self.known.as_ref().is_some_and(|known| {
            asker.changes <= known.changes && now.duration_since(known.since) <= QUIET_MAX
        });
        if is_good || is_late {
            let _ = asker.answer.send(self.last(now));
        } else {
            self.waiting.push(asker);
        }
    }

    fn heard(&mut self, reply: Result<Arc<Snapshot>, LinkError>, since: Instant, changes: u64) {
        let now = Instant::now();
        match reply {
            Ok(snapshot) => {
                self.known = Some(Known { snapshot, since, changes });
                self.silent_since = None;
                // Who asked after an event that this reply may not contain gets the next one.
                let waiting = std::mem::take(&mut self.waiting);
                let (answered, rest) =
                    waiting.into_iter().partition::<Vec<_>, _>(|asker| asker.changes <= changes);
                self.waiting = rest;
                self.answer(answered, now);
            }
            Err(error) => {
                tracing::debug!(%error, "no picture of the services' health");
                let waiting = std::mem::take(&mut self.waiting);
                self.answer(waiting, now);
            }
        }
    }

    fn answer_late(&mut self, now: Instant) {
        let waiting = std::mem::take(&mut self.waiting);
        let (late, rest) =
            waiting.into_iter().partition::<Vec<_>, _>(|asker| asker.at + WAIT_MAX <= now);
        self.waiting = rest;
        self.answer(late, now);
    }

    fn answer(&self, askers: Vec<Asker>, now: Instant) {
        for asker in askers {
            // Who has gone away does not want it any more.
            let _ = asker.answer.send(self.last(now));
        }
    }

    /// What was said last, if it may still be told.
    fn last(&self, now: Instant) -> Answer {
        let age = |since| now.duration_since(since);
        match (&self.known, self.silent_since) {
            (Some(known), _) if age(known.since) <= TRUST_MAX => {
                Ok(Seen { snapshot: Arc::clone(&known.snapshot), age: age(known.since) })
            }
            (Some(known), _) => Err(CannotTell::Silent(age(known.since))),
            (None, Some(since)) => Err(CannotTell::Silent(age(since))),
            (None, None) => Err(CannotTell::NothingYet),
        }
    }
}

async fn reply_to(under_way: &mut Option<UnderWay>) -> Result<Arc<Snapshot>, LinkError> {
    match under_way {
        Some(under_way) => under_way.reply.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A root in the test's hand: its answers carry their number as the node's name.
    struct World {
        book: HealthBook,
        changes: watch::Sender<u64>,
        asked: Arc<AtomicU64>,
        /// How long an answer takes; `None` = for ever.
        takes: Arc<Mutex<Option<Duration>>>,
        _tasks: JoinSet<()>,
    }

    fn world() -> World {
        let (changes, pushed) = watch::channel(0);
        let (asks, asked_by) = mpsc::channel(WAITING_MAX);
        let asked = Arc::new(AtomicU64::new(0));
        let takes = Arc::new(Mutex::new(Some(Duration::from_millis(1))));
        let keeper = Keeper {
            changes: pushed.clone(),
            known: None,
            silent_since: None,
            waiting: Vec::new(),
        };
        let mut tasks = JoinSet::new();
        let (count, delay) = (Arc::clone(&asked), Arc::clone(&takes));
        tasks.spawn(keeper.run(asked_by, move || {
            let number = 1 + count.fetch_add(1, Ordering::Relaxed);
            let takes = *delay.lock().unwrap();
            Box::pin(async move {
                let Some(takes) = takes else { return std::future::pending().await };
                tokio::time::sleep(takes).await;
                Ok(Arc::new(Snapshot { node: number.to_string(), ..Snapshot::default() }))
            })
        }));
        let book = HealthBook { asks, changes: pushed };
        World { book, changes, asked, takes, _tasks: tasks }
    }

    impl World {
        async fn number(&self) -> u64 {
            self.book.look().await.unwrap().snapshot.node.parse().unwrap()
        }

        fn push(&self) {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_questions_are_one_question_to_the_root_while_nothing_happens() {
        let world = world();
        for _ in 0..1000 {
            assert_eq!(world.number().await, 1);
        }
        tokio::time::advance(QUIET_MAX + Duration::from_millis(1)).await;
        assert_eq!(world.number().await, 2);
        assert_eq!(world.asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn h13_an_event_is_in_every_answer_to_a_later_question() {
        let world = world();
        assert_eq!(world.number().await, 1);
        world.push();
        assert_eq!(world.number().await, 2);
        // An answer that was under way when the event came does not count.
        *world.takes.lock().unwrap() = Some(Duration::from_millis(100));
        world.push();
        let (first, second) = tokio::join!(world.number(), async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            world.push();
            world.number().await
        });
        assert_eq!((first, second), (3, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_of_events_is_no_storm_of_questions() {
        let world = world();
        let began = Instant::now();
        for _ in 0..1000 {
            world.push();
            world.number().await;
        }
        let turns = began.elapsed().as_millis() / ASK_PAUSE.as_millis();
        assert!(u128::from(world.asked.load(Ordering::Relaxed)) <= turns + 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_silent_root_said_is_told_for_a_while_and_then_nobody_can_tell() {
        let world = world();
        assert_eq!(world.number().await, 1);
        *world.takes.lock().unwrap() = None;
        world.push();
        let began = Instant::now();
        assert_eq!(world.number().await, 1);
        assert_eq!(began.elapsed(), WAIT_MAX);
        // It is known to be late: nobody waits for it again.
        let began = Instant::now();
        assert_eq!(world.number().await, 1);
        assert_eq!(began.elapsed(), Duration::ZERO);
        tokio::time::advance(TRUST_MAX).await;
        let silent = world.book.look().await.unwrap_err();
        assert!(matches!(silent, CannotTell::Silent(for_so_long) if TRUST_MAX < for_so_long));
    }

    #[tokio::test(start_paused = true)]
    async fn a_root_that_never_spoke_is_said_to_have_said_nothing() {
        let world = world();
        *world.takes.lock().unwrap() = None;
        assert_eq!(world.book.look().await.unwrap_err(), CannotTell::NothingYet);
    }
}
